/* A layer's output with its bias taken apart into heads, and heads put together (heads_native.py); fp32, or with -DBF16=1
bf16 with fp32 inside. Heads are padded, [rows, heads, steps, width]; the layer's output is too, or it is packed. */

#include "sums.h"

#define AT(array) (*(vector *)((array) + m))

typedef struct {
    long rows, steps, parts, heads, width; /* x is [rows, steps, parts, heads, width] */
    long packed;                           /* or [packed, parts, heads, width]: what counts of each row, and some more */
    const int64_t *starts;                 /* [rows + 1]: where each row begins in it; none: x is not packed */
    int threads;
} layout;

/* Where a place of the padded rows stands in x; -1: nowhere. */
INLINE long source_of(long row, layout how) {
    if (!how.starts) return row;
    const int64_t *start = how.starts + row / how.steps, source = *start + row % how.steps;
    return source < start[1] ? source : -1;
}

INLINE long place_of(long row, long head, layout how) {
    return ((row / how.steps * how.heads + head) * how.steps + row % how.steps) * how.width;
}

/* The parts of x + bias, each row's heads one behind the other; zeros where x has nothing. */
void split_heads(const number *x, const float *bias, number *const *parts, const layout *given) {
    const layout how = *given;
    const int threads = how.threads;
    const long rows = how.rows * how.steps, blocks = (rows + BLOCK - 1) / BLOCK, each = how.heads * how.width;
    FOR_BLOCKS FOR_ROWS for (long part = 0; part < how.parts; part++) for (long head = 0; head < how.heads; head++) {
        const long from = part * each + head * how.width, source = source_of(row, how);
        number *to = parts[part] + place_of(row, head, how);
        if (source < 0) {
            memset(to, 0, how.width * sizeof(number));
            continue;
        }
        for (long m = 0; m < how.width; m += LANES) {
            vector values = load(x + source * how.parts * each + from + m, how.width - m), shift = {0};
            if (bias && how.width - m >= LANES)
                shift = *(const vector *)(bias + from + m);
            else if (bias)
                for (int lane = 0; lane < how.width - m; lane++) shift[lane] = bias[from + m + lane];
            store(values + shift, to + m, how.width - m);
        }
    }
}

/* x from its parts, zeros behind the last row, and, if asked for, the sums of its rows [parts x heads x width]. Returns 0
if memory is short. */
int join_heads(const number *const *parts, number *x, float *sums_of_rows, const layout *given) {
    const layout how = *given;
    const int threads = how.threads;
    const long rows = how.rows * how.steps, blocks = (rows + BLOCK - 1) / BLOCK, each = how.heads * how.width;
    const long wide = how.parts * how.heads * PADDED(how.width);
    double *all = calloc(threads * wide, sizeof(double));
    if (!all) return 0;
    FOR_BLOCKS {
        float sums[wide];
        memset(sums, 0, sizeof sums);
        FOR_ROWS for (long part = 0; part < how.parts; part++) for (long head = 0; head < how.heads; head++) {
            const long source = source_of(row, how);
            if (source < 0) continue;
            const number *from = parts[part] + place_of(row, head, how);
            float *found = sums + (part * how.heads + head) * PADDED(how.width);
            number *to = x + (source * how.parts + part) * each + head * how.width;
            for (long m = 0; m < how.width; m += LANES) {
                const vector values = load(from + m, how.width - m);
                AT(found) += values;
                store(values, to + m, how.width - m);
            }
        }
        join(sums, all, wide);
    }
    if (how.starts) {
        const long last = how.starts[how.rows];
        memset(x + last * how.parts * each, 0, (how.packed - last) * how.parts * each * sizeof(number));
    }
    add_up(all, wide, threads);
    for (long head = 0; sums_of_rows && head < how.parts * how.heads; head++)
        for (long m = 0; m < how.width; m++)
            sums_of_rows[head * how.width + m] = (float)all[head * PADDED(how.width) + m];
    free(all);
    return 1;
}
