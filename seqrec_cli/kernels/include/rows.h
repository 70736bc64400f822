#pragma once

#include "blocks.h"
#include "dropout.h"

/* Rows of channels with dropout: each row begins a new group of dropout's random numbers. */

#define FOR_GROUPS(first, channels) for (long first = 0; first < (channels); first += GROUP)
#define FOR_GROUP_VECTORS(m, first, channels) for (long m = (first); m < (channels) && m < (first) + GROUP; m += LANES)

/* The factors of the group of a row's elements that begins at `first`. */
INLINE void row_factors(long row, long first, long channels, dropout_spec drop, float *factor) {
    if (drop.levels) keep_factors(row * ((channels + GROUP - 1) / GROUP) + first / GROUP, drop, factor);
}

INLINE vector apply_dropout(vector x, const float *factor, dropout_spec drop) {
    if (drop.levels) x *= *(const vector *)factor;
    return x;
}

/* A row's variance, from the lanes' sums of squared distances to the mean, less those of the zeros past its end. */
INLINE float row_variance(vector square, float mean, long channels) {
    const float found = (sum_lanes(square) - ((channels + LANES - 1) / LANES * LANES - channels) * mean * mean) / channels;
    return found < 0.0f ? 0.0f : found; /* may be below 0 by rounding; NaN stays NaN */
}

/* A parameter row as whole vectors, zeros past its end; all zeros if there is none. */
INLINE void copy_padded(const float *from, float *to, long count) {
    memset(to, 0, PADDED(count) * sizeof(float));
    if (from) memcpy(to, from, count * sizeof(float));
}
