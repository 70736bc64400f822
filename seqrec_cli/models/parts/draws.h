#pragma once

#include "number.h"

/* What dropout draws: a function of a seed and an element's place. */

#define GROUP (4 * LANES) /* elements drawn for at once */

typedef struct {
    uint64_t seed;
    int dropped; /* of a byte's 256 values; 0: nothing is dropped */
    float scale; /* of what is kept */
    int threads;
} draws;

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
INLINE void factors(long group, draws how, float *out) {
    const uint32_t low = (uint32_t)how.seed, high = (uint32_t)(how.seed >> 32) + (uint32_t)(group >> 28);
    uint32_t words[LANES];
#pragma omp simd
    for (int w = 0; w < LANES; w++) words[w] = scatter((uint32_t)group * LANES + w, low, high);
    for (int byte = 0; byte < 4; byte++)
#pragma omp simd
        for (int w = 0; w < LANES; w++)
            out[byte * LANES + w] = (int)((words[w] >> (8 * byte)) & 255) >= how.dropped ? how.scale : 0.0f;
}
