/* dropout.py's passes over many numbers: dropout, and softmax with or without it; fp32, or with -DBF16=1 bf16 with fp32
inside. What is dropped is a function of a seed and an element's place: backward draws it again, and no mask is kept. */

#include <math.h>

#include "exponential.h"

#define SMALL 32768 /* numbers: fewer are not worth waking other threads */
#define LANES 16
#define GROUP (4 * LANES) /* elements drawn for at once */

#if BF16
typedef uint16_t number;
INLINE float wide(number x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
INLINE number narrow(float value) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (number)(value != value ? 0x7fc0 : rounded);
}
#else
typedef float number;
INLINE float wide(number x) { return x; }
INLINE number narrow(float value) { return value; }
#endif

typedef struct {
    uint64_t seed;
    int dropped; /* of a byte's 256 values; 0: nothing is dropped */
    float scale; /* of what is kept */
    int threads;
} settings;

/* 32 random bits of a place: a counter, twice through multiplication and shifts. */
INLINE uint32_t scatter(uint32_t place, uint32_t low, uint32_t high) {
    uint32_t x = place * 0x9e3779b9u + low;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= (x >> 15) ^ high;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

/* The factors of a group's elements, 0 or `scale`: a word's four bytes serve four of them. */
INLINE void factors(long group, settings how, float *out) {
    const uint32_t low = (uint32_t)how.seed, high = (uint32_t)(how.seed >> 32) + (uint32_t)(group >> 28);
    uint32_t words[LANES];
#pragma omp simd
    for (int w = 0; w < LANES; w++) words[w] = scatter((uint32_t)group * LANES + w, low, high);
    for (int byte = 0; byte < 4; byte++)
#pragma omp simd
        for (int w = 0; w < LANES; w++)
            out[byte * LANES + w] = (int)((words[w] >> (8 * byte)) & 255) >= how.dropped ? how.scale : 0.0f;
}

void dropout(const number *x, number *out, long count, const settings *given) {
    const settings how = *given; /* of its own: nothing that is written can change it */
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

#define PADDED ((keys + LANES - 1) / LANES * LANES) /* whole vectors: what is beyond the keys is made harmless */

INLINE void widen(const number *from, float *to, long keys, float beyond) {
    for (long i = 0; i < keys; i++) to[i] = wide(from[i]);
    for (long i = keys; i < PADDED; i++) to[i] = beyond;
}

/* Of each row of `keys` logits the probabilities, and, where something is dropped, what is left of them. */
void softmax(const number *logits, number *probabilities, number *left, long rows, long keys, const settings *given) {
    const settings how = *given;
    const long groups = (keys + GROUP - 1) / GROUP; /* of a row: each row begins a group */
#pragma omp parallel for num_threads(how.threads) if (rows * keys > SMALL) schedule(static)
    for (long row = 0; row < rows; row++) {
        number *to = probabilities + row * keys, *kept = left + row * keys;
        float values[groups * GROUP], factor[groups * GROUP], most = -INFINITY, sum = 0.0f;
        widen(logits + row * keys, values, keys, -INFINITY);
#pragma omp simd reduction(max : most)
        for (long i = 0; i < PADDED; i++) most = values[i] > most ? values[i] : most;
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < PADDED; i++) {
            values[i] = exponential(values[i] - most);
            sum += values[i];
        }
        const float share = 1.0f / sum;
#pragma omp simd
        for (long i = 0; i < keys; i++) to[i] = narrow(values[i] * share);
        if (!how.dropped) continue;
        for (long group = 0; group < groups; group++) factors(row * groups + group, how, factor + group * GROUP);
#pragma omp simd
        for (long i = 0; i < keys; i++) kept[i] = narrow(values[i] * share * factor[i]);
    }
}

/* Gradients of the logits, from those of what was left. */
void softmax_backward(const number *of_left, const number *probabilities, number *of_logits, long rows, long keys,
                      const settings *given) {
    const settings how = *given;
    const long groups = (keys + GROUP - 1) / GROUP;
#pragma omp parallel for num_threads(how.threads) if (rows * keys > SMALL) schedule(static)
    for (long row = 0; row < rows; row++) {
        number *to = of_logits + row * keys;
        float of_p[groups * GROUP], p[groups * GROUP], factor[groups * GROUP], sum = 0.0f;
        widen(of_left + row * keys, of_p, keys, 0.0f);
        widen(probabilities + row * keys, p, keys, 0.0f);
        if (how.dropped) {
            for (long group = 0; group < groups; group++) factors(row * groups + group, how, factor + group * GROUP);
#pragma omp simd
            for (long i = 0; i < PADDED; i++) of_p[i] *= factor[i];
        }
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < PADDED; i++) sum += of_p[i] * p[i];
#pragma omp simd
        for (long i = 0; i < keys; i++) to[i] = narrow(p[i] * (of_p[i] - sum));
    }
}
