#pragma once

#include <stdlib.h>

#include "vectors.h"

/* Rows in blocks of BLOCK, the unit that threads share work by. Sums over rows are made in fp32 within a block, then in
fp64, a partial sum a thread: with as many threads they have the same bits every time. */

#define BLOCK 128
#define FOR_BLOCKS(block, rows, threads)                                                                         \
    _Pragma("omp parallel for num_threads(threads) schedule(static)") for (long block = 0;                       \
                                                                           block < ((rows) + BLOCK - 1) / BLOCK; \
                                                                           block++)
#define FOR_BLOCK_ROWS(row, block, rows) \
    for (long row = (block) * BLOCK; row < (rows) && row < ((block) + 1) * BLOCK; row++)

/* Add a block's sums to its thread's partial sums. */
static void add_to_thread(const float *from, double *partials, long count) {
    double *to = partials + THREAD * count;
    for (long i = 0; i < count; i++) to[i] += from[i];
}

/* Add all threads' partial sums to those of the first. */
static void sum_threads(double *partials, long count, int threads) {
    for (int thread = 1; thread < threads; thread++)
        for (long i = 0; i < count; i++) partials[i] += partials[thread * count + i];
}
