/* A linear layer and its gradients in fp32: products of many rows with a small matrix, which is packed once. */

#include <stdlib.h>

#include "panels.h"

#define BLOCK_ROWS 96  /* sixteen tiles: with the inputs' rows a block stays in the second cache */
#define SLAB_ROWS 4096 /* whose gradient of the weight is summed by itself, whatever the number of threads */
#define SLAB_STEPS 128 /* rows of a panel there: rows of the other factor lie far apart */

typedef struct {
    long rows, inputs, outputs;
    int threads;
} sizes;

/* out [rows, columns] = bias + x [rows, steps] times b, whose element of step k and column m is b[k * step + m * column].
Returns 0 if memory is short. */
static int product(const float *x, const float *b, long step, long column, const float *bias, float *out, long rows,
                   long steps, long columns, int threads) {
    const long wide = ROUNDED(columns, TILE_COLUMNS);
    float *panels = aligned_alloc(64, ROUNDED(steps * wide, PAD) * sizeof(float));
    if (!panels) return 0;
    for (long k = 0; k < steps; k += PANEL_STEPS)
        pack_panels(b + k * step, step, column, AT_MOST(PANEL_STEPS, steps - k), columns, panels + k * wide);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long first = 0; first < rows; first += BLOCK_ROWS)
        for (long k = 0; k < steps; k += PANEL_STEPS) {
            float *to = out + first * columns;
            panel_product((factors){x + first * steps + k, steps, 1}, AT_MOST(BLOCK_ROWS, rows - first),
                          AT_MOST(PANEL_STEPS, steps - k), panels + k * wide, k ? to : bias, k ? columns : 0, to,
                          columns, columns);
        }
    free(panels);
    return 1;
}

/* out [rows, outputs] = bias + x [rows, inputs] weight'; the bias may be null. */
int linear(const float *x, const float *weight, const float *bias, float *out, const sizes *of) {
    return product(x, weight, 1, of->inputs, bias, out, of->rows, of->inputs, of->outputs, of->threads);
}

/* The gradient of x [rows, inputs] from that of the layer's output. */
int linear_backward_input(const float *grad, const float *weight, float *grad_x, const sizes *of) {
    return product(grad, weight, of->inputs, 1, 0, grad_x, of->rows, of->outputs, of->inputs, of->threads);
}

/* sums [wide, narrow] = a [rows, wide]' b [rows, narrow]; `panels` is memory for SLAB_STEPS rows of b. */
static void slab(const float *a, const float *b, float *panels, float *sums, long rows, long wide, long narrow) {
    for (long k = 0; k < rows; k += SLAB_STEPS) {
        const long steps = AT_MOST(SLAB_STEPS, rows - k);
        pack_panels(b + k * narrow, narrow, 1, steps, narrow, panels);
        panel_product((factors){a + k * wide, 1, wide}, wide, steps, panels, k ? sums : 0, narrow, sums, narrow, narrow);
    }
}

/* The gradient of the weight [outputs, inputs], and, unless null, of the bias. Slabs of rows are added in their order, so that
any number of threads gives the same bits. Returns 0 if memory is short. */
int linear_backward_weight(const float *grad, const float *x, float *grad_weight, float *grad_bias, const sizes *given) {
    const sizes of = *given;
    const int by_output = of.inputs <= of.outputs; /* the narrower factor is packed */
    const long wide = by_output ? of.outputs : of.inputs, narrow = by_output ? of.inputs : of.outputs;
    const float *a = by_output ? grad : x, *b = by_output ? x : grad;
    const long count = wide * narrow, packed = SLAB_STEPS * ROUNDED(narrow, TILE_COLUMNS);
    const long each = ROUNDED(count + packed + of.outputs, PAD);
    float *memory = aligned_alloc(64, of.threads * each * sizeof(float));
    if (!memory) return 0;
    memset(grad_weight, 0, count * sizeof(float));
    if (grad_bias) memset(grad_bias, 0, of.outputs * sizeof(float));
    for (long start = 0; start < of.rows; start += SLAB_ROWS * of.threads) {
        const int slabs = (int)AT_MOST(of.threads, (of.rows - start + SLAB_ROWS - 1) / SLAB_ROWS);
#pragma omp parallel for num_threads(of.threads) schedule(static, 1)
        for (int n = 0; n < slabs; n++) {
            const long first = start + n * SLAB_ROWS, rows = AT_MOST(SLAB_ROWS, of.rows - first);
            float *panels = memory + n * each, *sums = panels + packed, *shift = sums + count;
            slab(a + first * wide, b + first * narrow, panels, sums, rows, wide, narrow);
            memset(shift, 0, of.outputs * sizeof(float));
            for (long row = first; grad_bias && row < first + rows; row++)
#pragma omp simd
                for (long m = 0; m < of.outputs; m++) shift[m] += grad[row * of.outputs + m];
        }
        for (int n = 0; n < slabs; n++) {
            const float *sums = memory + n * each + packed;
            for (long i = 0; i < wide; i++)
                for (long m = 0; m < narrow; m++)
                    grad_weight[by_output ? i * narrow + m : m * wide + i] += sums[i * narrow + m];
            for (long m = 0; grad_bias && m < of.outputs; m++) grad_bias[m] += sums[count + m];
        }
    }
    free(memory);
    return 1;
}
