#pragma once

#include "number.h"

/* SIMD vectors of LANES fp32 numbers, which is what a register holds, loaded from and stored to rows that may end within a vector. */

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t int_vector __attribute__((vector_size(4 * LANES)));
typedef uint32_t uint_vector __attribute__((vector_size(4 * LANES)));

#define FOR_VECTORS(m, count) for (long m = 0; m < (count); m += LANES)
#define VECTOR_AT(array, m) (*(vector *)((array) + (m))) /* of fp32 numbers, all LANES of which are there */

#if BF16
typedef number number_vector __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
INLINE vector to_floats(number_vector from) { return (vector)(__builtin_convertvector(from, uint_vector) << 16); }
#ifdef __AVX512BF16__
#include <immintrin.h>
INLINE number_vector to_numbers(vector from) { return (number_vector)_mm512_cvtneps_pbh((__m512)from); }
#else
INLINE number_vector to_numbers(vector from) { /* rounds to nearest, ties to even */
    const uint_vector bits = (uint_vector)from, nan = (uint_vector)(from != from);
    const uint_vector rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector((rounded & ~nan) | (nan & 0x7fc0), number_vector);
}
#endif
#else
typedef vector number_vector;
INLINE vector to_floats(number_vector from) { return from; }
INLINE number_vector to_numbers(vector from) { return from; }
#endif

INLINE vector larger(vector a, vector b) { /* b where one of them is NaN */
    const int_vector where = a > b;
    return (vector)((where & (int_vector)a) | (~where & (int_vector)b));
}

/* The vector at `from`, of whose row `left` numbers remain; lanes past the row's end are 0. */
INLINE vector load(const number *from, long left) {
    if (left >= LANES) return to_floats(*(const number_vector *)from);
    float lanes[LANES];
#pragma omp simd
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = lane < left ? to_float(from[lane]) : 0.0f;
    return *(const vector *)lanes;
}

INLINE void store(vector from, number *to, long left) {
    if (left >= LANES) {
        *(number_vector *)to = to_numbers(from);
        return;
    }
    float lanes[LANES];
    *(vector *)lanes = from;
#pragma omp simd
    for (int lane = 0; lane < LANES; lane++)
        if (lane < left) to[lane] = to_number(lanes[lane]);
}

/* The same for parameters, which are fp32 whatever the tensors are. */
INLINE vector load_float(const float *from, long left) {
    if (left >= LANES) return *(const vector *)from;
    float lanes[LANES];
#pragma omp simd
    for (int lane = 0; lane < LANES; lane++) lanes[lane] = lane < left ? from[lane] : 0.0f;
    return *(const vector *)lanes;
}

INLINE void store_float(vector from, float *to, long left) {
    if (left >= LANES) {
        *(vector *)to = from;
        return;
    }
    float lanes[LANES];
    *(vector *)lanes = from;
    for (int lane = 0; lane < LANES; lane++)
        if (lane < left) to[lane] = lanes[lane];
}

INLINE float sum_lanes(vector x) {
    float lanes[LANES], sum = 0.0f;
    *(vector *)lanes = x;
#pragma omp simd reduction(+ : sum)
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}
