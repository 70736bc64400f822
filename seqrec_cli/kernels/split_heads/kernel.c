/* A layer's output plus its bias, cut into attention heads [rows, heads, steps, width], and heads joined again. The layer's
output [rows, steps, channels] may be packed: [packed, channels] without the padding behind each row. fp32, or with
-DBF16=1 bf16 with fp32 arithmetic. */

#include "blocks.h"

typedef struct {
    long rows, steps, parts, heads, width; /* x is [rows, steps, parts, heads, width] */
    long packed;           /* or [packed, parts, heads, width], as long as the rows together or longer */
    const int64_t *starts; /* [rows + 1]: where each row begins in it; null: x is not packed */
    int threads;
} layout;

/* The index in x of a step of the padded rows; -1: it is padding. */
INLINE long packed_index(long row, layout of) {
    if (!of.starts) return row;
    const int64_t *start = of.starts + row / of.steps, source = *start + row % of.steps;
    return source < start[1] ? source : -1;
}

INLINE long head_index(long row, long head, layout of) {
    return ((row / of.steps * of.heads + head) * of.steps + row % of.steps) * of.width;
}

/* The parts (queries, keys, values) of x + bias, each cut into heads; zeros at padding. */
void split_heads(const number *x, const float *bias, number *const *parts, const layout *given) {
    const layout of = *given;
    const int threads = of.threads;
    const long rows = of.rows * of.steps, each = of.heads * of.width;
    FOR_BLOCKS(block, rows, threads)
        FOR_BLOCK_ROWS(row, block, rows)
            for (long part = 0; part < of.parts; part++)
                for (long head = 0; head < of.heads; head++) {
                    const long from = part * each + head * of.width, source = packed_index(row, of);
                    number *to = parts[part] + head_index(row, head, of);
                    if (source < 0) {
                        memset(to, 0, of.width * sizeof(number));
                        continue;
                    }
                    for (long m = 0; m < of.width; m += LANES) {
                        vector values = load(x + source * of.parts * each + from + m, of.width - m), shift = {0};
                        if (bias) shift = load_float(bias + from + m, of.width - m);
                        store(values + shift, to + m, of.width - m);
                    }
                }
}

/* x from its parts, zeros behind the last packed row, and, unless null, the sums over rows (a bias's gradient) [parts x
heads x width]. Returns 0 if memory is short. */
int join_heads(const number *const *parts, number *x, float *sums_of_rows, const layout *given) {
    const layout of = *given;
    const int threads = of.threads;
    const long rows = of.rows * of.steps, each = of.heads * of.width;
    const long count = of.parts * of.heads * PADDED(of.width);
    double *partials = calloc(threads * count, sizeof(double));
    if (!partials) return 0;
    FOR_BLOCKS(block, rows, threads) {
        float sums[count];
        memset(sums, 0, sizeof sums);
        FOR_BLOCK_ROWS(row, block, rows)
            for (long part = 0; part < of.parts; part++)
                for (long head = 0; head < of.heads; head++) {
                    const long source = packed_index(row, of);
                    if (source < 0) continue;
                    const number *from = parts[part] + head_index(row, head, of);
                    float *head_sums = sums + (part * of.heads + head) * PADDED(of.width);
                    number *to = x + (source * of.parts + part) * each + head * of.width;
                    for (long m = 0; m < of.width; m += LANES) {
                        const vector values = load(from + m, of.width - m);
                        VECTOR_AT(head_sums, m) += values;
                        store(values, to + m, of.width - m);
                    }
                }
        add_to_thread(sums, partials, count);
    }
    if (of.starts) {
        const long last = of.starts[of.rows];
        memset(x + last * of.parts * each, 0, (of.packed - last) * of.parts * each * sizeof(number));
    }
    sum_threads(partials, count, threads);
    for (long head = 0; sums_of_rows && head < of.parts * of.heads; head++)
        for (long m = 0; m < of.width; m++)
            sums_of_rows[head * of.width + m] = (float)partials[head * PADDED(of.width) + m];
    free(partials);
    return 1;
}
