#pragma once

#include "exponential.h"

#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

/* The numbers of tensors: fp32, or with -DBF16=1 bf16. Work is done in fp32, on whole vectors. */

#define LANES 16
#define PADDED(count) (((count) + LANES - 1) / LANES * LANES)

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

/* A row as PADDED(count) fp32 numbers; `beyond` makes those past its end harmless. By whole vectors, the last one masked:
compilers would take twice as many at once, and the rest one by one. */
INLINE void widen(const number *from, float *to, long count, float beyond) {
    long i = 0;
    for (; i + LANES <= count; i += LANES)
#pragma omp simd
        for (int lane = 0; lane < LANES; lane++) to[i + lane] = wide(from[i + lane]);
    if (i < count)
#pragma omp simd
        for (int lane = 0; lane < LANES; lane++) to[i + lane] = i + lane < count ? wide(from[i + lane]) : beyond;
}
