#pragma once

#include <stdint.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

/* The number format of a kernel's tensors: fp32, or bf16 with -DBF16=1. Arithmetic is fp32 in both. */

#define INLINE static inline __attribute__((always_inline))
#if defined(__AVX512F__)
#define LANES 16 /* fp32 numbers of this processor's registers: a wider vector would lie in memory at every step */
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define PAD 16 /* the widest of them: what memory is rounded up to, on every processor */
#define PADDED(count) (((count) + PAD - 1) / PAD * PAD)

#if BF16
typedef uint16_t number;
INLINE float to_float(number x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
INLINE number to_number(float value) { /* rounds to nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (number)(value != value ? 0x7fc0 : rounded);
}
#else
typedef float number;
INLINE float to_float(number x) { return x; }
INLINE number to_number(float value) { return value; }
#endif

/* A row as PADDED(count) fp32 numbers; those past its end are `padding`. The last of them are masked: left to themselves,
compilers take twice as many numbers at once and the rest one by one. */
INLINE void load_row(const number *from, float *to, long count, float padding) {
    long i = 0;
    for (; i + PAD <= count; i += PAD)
#pragma omp simd
        for (int lane = 0; lane < PAD; lane++) to[i + lane] = to_float(from[i + lane]);
    if (i < count)
#pragma omp simd
        for (int lane = 0; lane < PAD; lane++) to[i + lane] = i + lane < count ? to_float(from[i + lane]) : padding;
}
