#pragma once

#include "number.h"

/* Dropout's random numbers are a function of a seed and an element's index, so that backward computes them again and no
mask is kept. An element gets one random byte and is dropped where it is less than `levels`. The same numbers in torch's
operators: dropout/reference.py. */

#define WORDS 16
#define GROUP (4 * WORDS) /* elements whose factors are computed together, a byte of a word each */

typedef struct {
    uint64_t seed;
    int levels;  /* the probability times 256; 0: nothing is dropped */
    float scale; /* of the elements that are kept */
    int threads;
} dropout_spec;

/* 32 random bits of an index: a counter-based hash of two multiply-and-shift rounds. */
INLINE uint32_t hash32(uint32_t index, uint32_t low, uint32_t high) {
    uint32_t x = index * 0x9e3779b9u + low;
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= (x >> 15) ^ high;
    x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

/* The factors of a group's elements, 0 or `scale`: a word's four bytes serve four of them. */
INLINE void keep_factors(long group, dropout_spec drop, float *out) {
    const uint32_t low = (uint32_t)drop.seed, high = (uint32_t)(drop.seed >> 32) + (uint32_t)(group >> 28);
    uint32_t words[WORDS];
#pragma omp simd
    for (int w = 0; w < WORDS; w++) words[w] = hash32((uint32_t)group * WORDS + w, low, high);
    for (int byte = 0; byte < 4; byte++)
#pragma omp simd
        for (int w = 0; w < WORDS; w++)
            out[byte * WORDS + w] = (int)((words[w] >> (8 * byte)) & 255) >= drop.levels ? drop.scale : 0.0f;
}
