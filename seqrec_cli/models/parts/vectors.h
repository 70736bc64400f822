#pragma once

#include "number.h"

/* Whole vectors of fp32 numbers, read from and written to rows of numbers, which may end within one. */

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t whole_vector __attribute__((vector_size(4 * LANES)));
typedef uint32_t bit_vector __attribute__((vector_size(4 * LANES)));

#if BF16
typedef number number_vector __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
INLINE vector widened(number_vector from) { return (vector)(__builtin_convertvector(from, bit_vector) << 16); }
#ifdef __AVX512BF16__
#include <immintrin.h>
INLINE number_vector narrowed(vector from) { return (number_vector)_mm512_cvtneps_pbh((__m512)from); }
#else
INLINE number_vector narrowed(vector from) { /* to the nearest, ties to even */
    const bit_vector bits = (bit_vector)from, none = (bit_vector)(from != from);
    const bit_vector rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector((rounded & ~none) | (none & 0x7fc0), number_vector);
}
#endif
#else
typedef vector number_vector;
INLINE vector widened(number_vector from) { return from; }
INLINE number_vector narrowed(vector from) { return from; }
#endif

/* The numbers from a place on, of `left` that the row still has; zero past its end. */
INLINE vector load(const number *from, long left) {
    if (left >= LANES) return widened(*(const number_vector *)from);
    float found[LANES];
#pragma omp simd
    for (int lane = 0; lane < LANES; lane++) found[lane] = lane < left ? wide(from[lane]) : 0.0f;
    return *(const vector *)found;
}

INLINE void store(vector from, number *to, long left) {
    if (left >= LANES) {
        *(number_vector *)to = narrowed(from);
        return;
    }
    float found[LANES];
    *(vector *)found = from;
#pragma omp simd
    for (int lane = 0; lane < LANES; lane++)
        if (lane < left) to[lane] = narrow(found[lane]);
}
