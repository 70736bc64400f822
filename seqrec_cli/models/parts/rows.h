#pragma once

#include "draws.h"
#include "sums.h"

/* Rows of channels by whole vectors, in groups as dropout draws them: a row begins a group. */

#define FOR_GROUPS for (long first = 0; first < channels; first += GROUP)
#define FOR_VECTORS for (long m = first; m < channels && m < first + GROUP; m += LANES)
#define FOR_ROW for (long m = 0; m < channels; m += LANES)
#define AT(array) (*(vector *)((array) + m))

INLINE float total(vector x) {
    float lanes[LANES], sum = 0.0f;
    *(vector *)lanes = x;
#pragma omp simd reduction(+ : sum)
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}

/* A row's, from its squared distances to the mean, without those of the zeros past its end. */
INLINE float variance(vector square, float mean, long channels) {
    const float found = (total(square) - (PADDED(channels) - channels) * mean * mean) / channels;
    return found < 0.0f ? 0.0f : found; /* rounded; what is no number stays none */
}

/* The factors of a row's group of elements. */
INLINE void draw(long row, long first, long channels, draws how, float *factor) {
    if (how.dropped) factors(row * ((channels + GROUP - 1) / GROUP) + first / GROUP, how, factor);
}

INLINE vector dropped(vector x, const float *factor, draws how) {
    if (how.dropped) x *= *(const vector *)factor;
    return x;
}

INLINE void pad(const float *from, float *to, long count) { /* whole vectors; zeros if there is none */
    memset(to, 0, PADDED(count) * sizeof(float));
    if (from) memcpy(to, from, count * sizeof(float));
}
