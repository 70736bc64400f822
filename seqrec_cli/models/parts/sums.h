#pragma once

#include <stdlib.h>

#include "vectors.h"

/* Sums over rows: in fp32 by blocks, then in fp64, a part a thread: the same bits with the same threads. */

#define BLOCK 128
#define FOR_BLOCKS \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long block = 0; block < blocks; block++)
#define FOR_ROWS for (long row = block * BLOCK; row < rows && row < (block + 1) * BLOCK; row++)

/* A block's sums join its thread's. */
static void join(const float *from, double *parts, long count) {
    double *to = parts + THREAD * count;
    for (long i = 0; i < count; i++) to[i] += from[i];
}

static void add_up(double *parts, long count, int threads) { /* into the first part */
    for (int thread = 1; thread < threads; thread++)
        for (long i = 0; i < count; i++) parts[i] += parts[thread * count + i];
}
