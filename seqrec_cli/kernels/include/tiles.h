#pragma once

#include "vectors.h"

/* Small matrix products in fp32 that stay in the nearest cache, where a library's are mostly overhead. A tile of TILE rows
and two vectors is summed in registers: twelve sums, two vectors and a factor fill the sixteen of AVX2. */

#define TILE 6
#define TILE_COLUMNS (2 * LANES)

typedef struct {
    const float *at; /* the element of row i and step k is at[i * row + k * step] */
    long row, step;
} factors;

INLINE void sum_tile(factors a, long steps, const float *b, long b_row, const float *from, long from_row, float *out,
                     long out_row, long left, int rows) {
    vector sums[TILE][2];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) {
            sums[i][v] = (vector){0};
            if (from && left > v * LANES)
                sums[i][v] = load_float(from + i * from_row + v * LANES, left - v * LANES);
        }
    for (long k = 0; k < steps; k++) {
        const vector first = VECTOR_AT(b, k * b_row), second = VECTOR_AT(b, k * b_row + LANES);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            const float factor = a.at[i * a.row + k * a.step];
            sums[i][0] += first * factor;
            sums[i][1] += second * factor;
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++)
            if (left > v * LANES) store_float(sums[i][v], out + i * out_row + v * LANES, left - v * LANES);
}

/* out [rows, columns] = from + a [rows, steps] b [steps, columns]. Rows of `b` are whole tiles wide and TILE_COLUMNS is a
divisor of their distance. `from` may be null, or out, or a single row (`from_row` 0). */
INLINE void small_product(factors a, long rows, long steps, const float *b, long b_row, const float *from,
                          long from_row, float *out, long out_row, long columns) {
    for (long m = 0; m < columns; m += TILE_COLUMNS) {
        const float *start = from ? from + m : 0;
        long i = 0;
        for (; i + TILE <= rows; i += TILE)
            sum_tile((factors){a.at + i * a.row, a.row, a.step}, steps, b + m, b_row,
                     start ? start + i * from_row : 0, from_row, out + i * out_row + m, out_row, columns - m, TILE);
        for (; i + 2 <= rows; i += 2)
            sum_tile((factors){a.at + i * a.row, a.row, a.step}, steps, b + m, b_row,
                     start ? start + i * from_row : 0, from_row, out + i * out_row + m, out_row, columns - m, 2);
        for (; i < rows; i++)
            sum_tile((factors){a.at + i * a.row, a.row, a.step}, steps, b + m, b_row,
                     start ? start + i * from_row : 0, from_row, out + i * out_row + m, out_row, columns - m, 1);
    }
}
