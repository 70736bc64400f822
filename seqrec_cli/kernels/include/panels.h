#pragma once

#include "tiles.h"

/* Matrix products in fp32 whose second factor is packed into panels: TILE_COLUMNS of its columns side by side, a step after
another, so that a tile reads whole cache lines one after another, and none is thrown out by lines a power of two apart.
With AVX2 and a few hundred steps these run at nine tenths of the processor's peak. */

#define PANEL_STEPS 256 /* of one pass: a panel of as many steps fills half of the nearest cache */
#define ROUNDED(count, unit) (((count) + (unit) - 1) / (unit) * (unit))
#define AT_MOST(a, b) ((a) < (b) ? (a) : (b))

/* b [steps, columns] of any strides as [columns / TILE_COLUMNS, steps, TILE_COLUMNS], zeros past the last column. */
INLINE void pack_panels(const float *b, long step, long column, long steps, long columns, float *to) {
    for (long m = 0; m < columns; m += TILE_COLUMNS) {
        const long here = AT_MOST(TILE_COLUMNS, columns - m);
        if (here < TILE_COLUMNS) memset(to, 0, steps * TILE_COLUMNS * sizeof(float));
        for (long k = 0; k < steps; k++, to += TILE_COLUMNS) {
            const float *from = b + k * step + m * column;
            if (column == 1 && here == TILE_COLUMNS) {
                VECTOR_AT(to, 0) = *(const vector *)from;
                VECTOR_AT(to, LANES) = *(const vector *)(from + LANES);
            } else
                for (long c = 0; c < here; c++) to[c] = from[c * column];
        }
    }
}

/* out [rows, columns] = from + a [rows, steps] times packed panels. `from` may be null, or out, or a single row
(`from_row` 0). */
INLINE void panel_product(factors a, long rows, long steps, const float *panels, const float *from, long from_row, float *out,
                          long out_row, long columns) {
    for (long m = 0; m < columns; m += TILE_COLUMNS, panels += steps * TILE_COLUMNS) {
        const float *start = from ? from + m : 0;
        long i = 0;
#define TILE_OF(count)                                                                                        \
    sum_tile((factors){a.at + i * a.row, a.row, a.step}, steps, panels, TILE_COLUMNS,                         \
             start ? start + i * from_row : 0, from_row, out + i * out_row + m, out_row, columns - m, count), \
        i += count
        while (i + TILE <= rows) TILE_OF(TILE);
        if (i + 4 <= rows) TILE_OF(4);
        if (i + 2 <= rows) TILE_OF(2);
        if (i < rows) TILE_OF(1);
#undef TILE_OF
    }
}
