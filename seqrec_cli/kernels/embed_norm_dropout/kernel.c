/* dropout(norm(item vector + position vector)), a transformer's input, and its gradients, in one pass each, where torch's
operators read and write the numbers ten times. Parameters and their gradients are fp32; the rest is too, or with -DBF16=1
bf16. */

#include <math.h>

#include "rows.h"

typedef struct {
    const int64_t *items;     /* [rows] of the item table; below 0: the mask's vector instead */
    const int64_t *positions; /* [rows] of the position table, if there is one */
    long rows, channels;
} events;

typedef struct {
    float *table, *mask, *positions, *scale, *shift; /* or their gradients; the last three may be missing */
} parameters;

INLINE void add_float(vector x, float *to, long left) {
    if (left >= LANES) {
        *(vector *)to += x;
        return;
    }
    float lanes[LANES];
    *(vector *)lanes = x;
    for (int lane = 0; lane < left; lane++) to[lane] += lanes[lane];
}

INLINE float *item_vector(long row, events of, parameters in) {
    return of.items[row] < 0 ? in.mask : in.table + of.items[row] * of.channels;
}

INLINE float *position_vector(long row, events of, parameters in) {
    return in.positions ? in.positions + of.positions[row] * of.channels : 0;
}

/* The sum of a row's two vectors, zeros past its end. */
INLINE void sum_row(const float *item, const float *position, float *values, long channels) {
    FOR_VECTORS(m, channels) {
        VECTOR_AT(values, m) = load_float(item + m, channels - m);
        if (position) VECTOR_AT(values, m) += load_float(position + m, channels - m);
    }
}

/* out, and, where there is a norm, each row's mean and 1 / deviation. */
void embed_norm_dropout(const events *given, const parameters *from, float epsilon, number *out, float *moments,
                        const dropout_spec *drawn) {
    const events of = *given;
    const parameters in = *from;
    const dropout_spec drop = *drawn;
    const long channels = of.channels, padded = PADDED(channels);
    float scale[padded], shift[padded];
    copy_padded(in.scale, scale, channels);
    copy_padded(in.shift, shift, channels);
#pragma omp parallel for num_threads(drop.threads) schedule(static)
    for (long row = 0; row < of.rows; row++) {
        float values[padded], factor[GROUP];
        sum_row(item_vector(row, of, in), position_vector(row, of, in), values, channels);
        if (in.scale) {
            vector values_sum = {0}, square = {0};
            FOR_VECTORS(m, channels) values_sum += VECTOR_AT(values, m);
            const float mean = sum_lanes(values_sum) / channels;
            FOR_VECTORS(m, channels) square += (VECTOR_AT(values, m) - mean) * (VECTOR_AT(values, m) - mean);
            const float inverse_deviation = 1.0f / sqrtf(row_variance(square, mean, channels) + epsilon);
            FOR_VECTORS(m, channels)
                VECTOR_AT(values, m) =
                    (VECTOR_AT(values, m) - mean) * inverse_deviation * VECTOR_AT(scale, m) + VECTOR_AT(shift, m);
            moments[2 * row] = mean;
            moments[2 * row + 1] = inverse_deviation;
        }
        FOR_GROUPS(first, channels) {
            row_factors(row, first, channels, drop, factor);
            FOR_GROUP_VECTORS(m, first, channels)
                store(apply_dropout(VECTOR_AT(values, m), factor + m - first, drop), out + row * channels + m,
                      channels - m);
        }
    }
}

/* The gradient of each row's sum [rows, channels], and those of the norm. Returns 0 if memory is short. */
static int norm_backward(events of, const number *grad_out, parameters in, const float *moments, float *grad_sums,
                         parameters into, dropout_spec drop) {
    const int threads = drop.threads;
    const long rows = of.rows, channels = of.channels, padded = PADDED(channels);
    double *partials = calloc(threads * 2 * padded, sizeof(double));
    if (!partials) return 0;
    float scale[padded];
    copy_padded(in.scale, scale, channels);
    FOR_BLOCKS(block, rows, threads) {
        float sums[2 * padded];
        memset(sums, 0, sizeof sums);
        FOR_BLOCK_ROWS(row, block, rows) {
            float values[padded], grad[padded], factor[GROUP], mean_grad = 0.0f, mean_product = 0.0f,
                                                               inverse_deviation = 1.0f;
            FOR_GROUPS(first, channels) {
                row_factors(row, first, channels, drop, factor);
                FOR_GROUP_VECTORS(m, first, channels)
                    VECTOR_AT(grad, m) =
                        apply_dropout(load(grad_out + row * channels + m, channels - m), factor + m - first, drop);
            }
            if (in.scale) {
                const float mean = moments[2 * row];
                vector grads = {0}, products = {0};
                inverse_deviation = moments[2 * row + 1];
                sum_row(item_vector(row, of, in), position_vector(row, of, in), values, channels);
                FOR_VECTORS(m, channels) {
                    VECTOR_AT(values, m) = (VECTOR_AT(values, m) - mean) * inverse_deviation;
                    VECTOR_AT(sums, m) += VECTOR_AT(grad, m) * VECTOR_AT(values, m);
                    VECTOR_AT(sums + padded, m) += VECTOR_AT(grad, m);
                    VECTOR_AT(grad, m) *= VECTOR_AT(scale, m);
                    grads += VECTOR_AT(grad, m);
                    products += VECTOR_AT(grad, m) * VECTOR_AT(values, m);
                }
                mean_grad = sum_lanes(grads) / channels;
                mean_product = sum_lanes(products) / channels;
                FOR_VECTORS(m, channels)
                    VECTOR_AT(grad, m) =
                        inverse_deviation * (VECTOR_AT(grad, m) - mean_grad - mean_product * VECTOR_AT(values, m));
            }
            memcpy(grad_sums + row * channels, grad, channels * sizeof(float));
        }
        add_to_thread(sums, partials, 2 * padded);
    }
    sum_threads(partials, 2 * padded, threads);
    for (long m = 0; in.scale && m < channels; m++) {
        into.scale[m] = (float)partials[m];
        into.shift[m] = (float)partials[padded + m];
    }
    free(partials);
    return 1;
}

/* Gradients, which are added to those in `to`. `grad_sums` [rows, channels] is scratch. Returns 0 if memory is short. */
int embed_norm_dropout_backward(const events *given, const parameters *from, const number *grad_out,
                                const float *moments, float *grad_sums, const parameters *to,
                                const dropout_spec *drawn) {
    const events of = *given;
    const parameters into = *to;
    const dropout_spec drop = *drawn;
    const long channels = of.channels, groups = (channels + GROUP - 1) / GROUP;
    if (!norm_backward(of, grad_out, *from, moments, grad_sums, into, drop)) return 0;
    /* Each thread has channels of its own, so that no two add to the same number. */
#pragma omp parallel for num_threads(drop.threads) schedule(static)
    for (long group = 0; group < groups; group++) {
        const long first = group * GROUP;
        for (long row = 0; row < of.rows; row++) {
            float *item = item_vector(row, of, into), *position = position_vector(row, of, into);
            FOR_GROUP_VECTORS(m, first, channels) {
                const vector grad = load_float(grad_sums + row * channels + m, channels - m);
                add_float(grad, item + m, channels - m);
                if (position) add_float(grad, position + m, channels - m);
            }
        }
    }
    return 1;
}
