/* dropout(softmax(scale logits)) over the keys that each row may attend to, and its gradient. fp32, or with -DBF16=1 bf16
with fp32 arithmetic. */

#include <math.h>

#include "dropout.h"
#include "exponential.h"

#define SMALL 32768   /* numbers; for fewer it does not pay to wake other threads */
#define MASKED -1e30f /* finite: a row whose keys are all masked gets even weights */

typedef struct {
    const uint8_t *real; /* [rows / rows_each, keys], 0 at keys that are masked; null: none are */
    long rows_each;
    long queries; /* causal: of so many rows one after another the n-th attends to the first n keys; 0: not causal */
    float scale;
} mask_spec;

/* Of each row of `keys` logits the probabilities, and, with dropout, the weights that are left of them. */
void masked_softmax_dropout(const number *logits, number *probabilities, number *weights, long rows, long keys,
                            const mask_spec *masked, const dropout_spec *given) {
    const dropout_spec drop = *given;
    const mask_spec mask = *masked;
    const long groups = (keys + GROUP - 1) / GROUP; /* each row begins a new group */
#pragma omp parallel for num_threads(drop.threads) if (rows * keys > SMALL) schedule(static)
    for (long row = 0; row < rows; row++) {
        const long count = mask.queries ? row % mask.queries + 1 : keys;
        const uint8_t *real = mask.real ? mask.real + row / mask.rows_each * keys : 0;
        number *to = probabilities + row * keys, *kept = weights + row * keys;
        float values[groups * GROUP], factor[groups * GROUP], most = -INFINITY, sum = 0.0f;
        load_row(logits + row * keys, values, count, -INFINITY);
        if (real)
#pragma omp simd
            for (long i = 0; i < count; i++) values[i] = real[i] ? values[i] * mask.scale : MASKED;
        else
#pragma omp simd
            for (long i = 0; i < PADDED(count); i++) values[i] *= mask.scale;
#pragma omp simd reduction(max : most)
        for (long i = 0; i < PADDED(count); i++) most = values[i] > most ? values[i] : most;
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < PADDED(count); i++) {
            values[i] = exponential(values[i] - most);
            sum += values[i];
        }
        const float share = 1.0f / sum;
#pragma omp simd
        for (long i = 0; i < count; i++) to[i] = to_number(values[i] * share);
        memset(to + count, 0, (keys - count) * sizeof(number));
        if (!drop.levels) continue;
        for (long group = 0; group * GROUP < count; group++)
            keep_factors(row * groups + group, drop, factor + group * GROUP);
#pragma omp simd
        for (long i = 0; i < count; i++) kept[i] = to_number(values[i] * share * factor[i]);
        memset(kept + count, 0, (keys - count) * sizeof(number));
    }
}

/* Gradients of the logits, from those of the weights. */
void masked_softmax_dropout_backward(const number *grad_weights, const number *probabilities, number *grad_logits,
                                     long rows, long keys, const mask_spec *masked, const dropout_spec *given) {
    const dropout_spec drop = *given;
    const mask_spec mask = *masked;
    const long groups = (keys + GROUP - 1) / GROUP;
#pragma omp parallel for num_threads(drop.threads) if (rows * keys > SMALL) schedule(static)
    for (long row = 0; row < rows; row++) {
        const long count = mask.queries ? row % mask.queries + 1 : keys;
        number *to = grad_logits + row * keys;
        float grad[groups * GROUP], p[groups * GROUP], factor[groups * GROUP], sum = 0.0f;
        load_row(grad_weights + row * keys, grad, count, 0.0f);
        load_row(probabilities + row * keys, p, count, 0.0f);
        if (drop.levels) {
            for (long group = 0; group * GROUP < count; group++)
                keep_factors(row * groups + group, drop, factor + group * GROUP);
#pragma omp simd
            for (long i = 0; i < PADDED(count); i++) grad[i] *= factor[i];
        }
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < PADDED(count); i++) sum += grad[i] * p[i];
#pragma omp simd
        for (long i = 0; i < count; i++) to[i] = to_number(p[i] * (grad[i] - sum) * mask.scale);
        memset(to + count, 0, (keys - count) * sizeof(number));
    }
}
