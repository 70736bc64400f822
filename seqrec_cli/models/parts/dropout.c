/* dropout.py's passes over many numbers: dropout, and softmax with or without it; fp32, or with -DBF16=1 bf16 with fp32
inside. What is dropped is a function of a seed and an element's place: backward draws it again, and no mask is kept. */

#include <math.h>

#include "draws.h"

#define SMALL 32768 /* numbers: fewer are not worth waking other threads */

void dropout(const number *x, number *out, long count, const draws *given) {
    const draws how = *given; /* of its own: nothing that is written can change it */
    const long groups = (count + GROUP - 1) / GROUP;
#pragma omp parallel for num_threads(how.threads) if (count > SMALL) schedule(static)
    for (long group = 0; group < groups; group++) {
        const number *from = x + group * GROUP;
        number *to = out + group * GROUP;
        float factor[GROUP];
        factors(group, how, factor);
        if ((group + 1) * GROUP <= count) {
#pragma omp simd
            for (int i = 0; i < GROUP; i++) to[i] = narrow(wide(from[i]) * factor[i]);
        } else
            for (int i = 0; i < count - group * GROUP; i++) to[i] = narrow(wide(from[i]) * factor[i]);
    }
}

/* Which keys a row of logits sees, and what the logits are multiplied by. */
typedef struct {
    const uint8_t *real; /* [rows / rows_each, keys], or none: all */
    long rows_each;
    long queries; /* of rows one after another the n-th sees n keys, again and again; 0: all */
    float scale;
} view;

#define HIDDEN -1e30f /* finite: a row that sees nothing gets even weights */

/* Of each row of `keys` logits the probabilities, and, where something is dropped, what is left of them. */
void softmax(const number *logits, number *probabilities, number *left, long rows, long keys, const view *seen,
             const draws *given) {
    const draws how = *given;
    const view what = *seen;
    const long groups = (keys + GROUP - 1) / GROUP; /* of a row: each row begins a group */
#pragma omp parallel for num_threads(how.threads) if (rows * keys > SMALL) schedule(static)
    for (long row = 0; row < rows; row++) {
        const long count = what.queries ? row % what.queries + 1 : keys;
        const uint8_t *real = what.real ? what.real + row / what.rows_each * keys : 0;
        number *to = probabilities + row * keys, *kept = left + row * keys;
        float values[groups * GROUP], factor[groups * GROUP], most = -INFINITY, sum = 0.0f;
        widen(logits + row * keys, values, count, -INFINITY);
        if (real)
#pragma omp simd
            for (long i = 0; i < count; i++) values[i] = real[i] ? values[i] * what.scale : HIDDEN;
        else
#pragma omp simd
            for (long i = 0; i < PADDED(count); i++) values[i] *= what.scale;
#pragma omp simd reduction(max : most)
        for (long i = 0; i < PADDED(count); i++) most = values[i] > most ? values[i] : most;
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < PADDED(count); i++) {
            values[i] = exponential(values[i] - most);
            sum += values[i];
        }
        const float share = 1.0f / sum;
#pragma omp simd
        for (long i = 0; i < count; i++) to[i] = narrow(values[i] * share);
        memset(to + count, 0, (keys - count) * sizeof(number));
        if (!how.dropped) continue;
        for (long group = 0; group * GROUP < count; group++) factors(row * groups + group, how, factor + group * GROUP);
#pragma omp simd
        for (long i = 0; i < count; i++) kept[i] = narrow(values[i] * share * factor[i]);
        memset(kept + count, 0, (keys - count) * sizeof(number));
    }
}

/* Gradients of the logits, from those of what was left. */
void softmax_backward(const number *of_left, const number *probabilities, number *of_logits, long rows, long keys,
                      const view *seen, const draws *given) {
    const draws how = *given;
    const view what = *seen;
    const long groups = (keys + GROUP - 1) / GROUP;
#pragma omp parallel for num_threads(how.threads) if (rows * keys > SMALL) schedule(static)
    for (long row = 0; row < rows; row++) {
        const long count = what.queries ? row % what.queries + 1 : keys;
        number *to = of_logits + row * keys;
        float of_p[groups * GROUP], p[groups * GROUP], factor[groups * GROUP], sum = 0.0f;
        widen(of_left + row * keys, of_p, count, 0.0f);
        widen(probabilities + row * keys, p, count, 0.0f);
        if (how.dropped) {
            for (long group = 0; group * GROUP < count; group++)
                factors(row * groups + group, how, factor + group * GROUP);
#pragma omp simd
            for (long i = 0; i < PADDED(count); i++) of_p[i] *= factor[i];
        }
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < PADDED(count); i++) sum += of_p[i] * p[i];
#pragma omp simd
        for (long i = 0; i < count; i++) to[i] = narrow(p[i] * (of_p[i] - sum) * what.scale);
        memset(to + count, 0, (keys - count) * sizeof(number));
    }
}
