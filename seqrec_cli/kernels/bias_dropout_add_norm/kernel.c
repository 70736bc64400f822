/* x + dropout(branch + bias), which adds a layer's output to the residual stream, and the layer norm of the sum, over
[rows, channels], and their gradients, in one pass each, where torch's operators read and write the numbers four times.
fp32, or with -DBF16=1 bf16 with fp32 arithmetic. */

#include <math.h>

#include "rows.h"

typedef struct {
    const float *bias, *scale, *shift; /* [channels]; scale and shift of the norm, if there is one */
    float epsilon;
} parameters;

/* sum = x + dropout(branch + bias), and, where there is a norm, the normed sum and each row's mean and 1 / deviation. */
void bias_dropout_add_norm(const number *x, const number *branch, const parameters *of, number *sum, number *normed,
                           float *moments, long rows, long channels, const dropout_spec *given) {
    const dropout_spec drop = *given;
    const int threads = drop.threads;
    const long padded = PADDED(channels);
    const float epsilon = of->epsilon;
    float bias[padded], scale[padded], shift[padded];
    copy_padded(of->bias, bias, channels);
    copy_padded(of->scale, scale, channels);
    copy_padded(of->shift, shift, channels);
    FOR_BLOCKS(block, rows, threads)
        FOR_BLOCK_ROWS(row, block, rows) {
            float values[padded], factor[GROUP];
            vector values_sum = {0}, square = {0};
            FOR_GROUPS(first, channels) {
                row_factors(row, first, channels, drop, factor);
                FOR_GROUP_VECTORS(m, first, channels) {
                    const long at = row * channels + m, left = channels - m;
                    const vector output = load(branch + at, left) + VECTOR_AT(bias, m);
                    const vector added = load(x + at, left) + apply_dropout(output, factor + m - first, drop);
                    store(added, sum + at, left);
                    VECTOR_AT(values, m) = to_floats(to_numbers(added)); /* the rounded sum, which backward reads */
                    values_sum += VECTOR_AT(values, m);
                }
            }
            if (!normed) continue;
            const float mean = sum_lanes(values_sum) / channels;
            FOR_VECTORS(m, channels) {
                const vector centered = VECTOR_AT(values, m) - mean;
                square += centered * centered;
            }
            const float inverse_deviation = 1.0f / sqrtf(row_variance(square, mean, channels) + epsilon);
            FOR_VECTORS(m, channels)
                store((VECTOR_AT(values, m) - mean) * inverse_deviation * VECTOR_AT(scale, m) + VECTOR_AT(shift, m),
                      normed + row * channels + m, channels - m);
            moments[2 * row] = mean;
            moments[2 * row + 1] = inverse_deviation;
        }
}

/* Gradients of x and the branch (left out where the caller knows that they are grad_sum), and of bias, scale and shift
[3, channels], from those of the sum and the normed sum, of which one may be missing. Returns 0 if memory is short. */
int bias_dropout_add_norm_backward(const number *grad_sum, const number *grad_normed, const number *sum,
                                   const float *moments, const parameters *of, number *grad_x, number *grad_branch,
                                   float *grad_parameters, long rows, long channels, const dropout_spec *given) {
    const dropout_spec drop = *given;
    const int threads = drop.threads;
    const long padded = PADDED(channels);
    double *partials = calloc(threads * 3 * padded, sizeof(double));
    if (!partials) return 0;
    float scale[padded];
    copy_padded(of->scale, scale, channels);
    FOR_BLOCKS(block, rows, threads) {
        float sums[3 * padded];
        memset(sums, 0, sizeof sums);
        FOR_BLOCK_ROWS(row, block, rows) {
            float grad_standard[padded], standard[padded], factor[GROUP], mean_grad = 0.0f, mean_product = 0.0f,
                                                                          inverse_deviation = 0.0f;
            if (grad_normed) {
                const float mean = moments[2 * row];
                vector grads = {0}, products = {0};
                inverse_deviation = moments[2 * row + 1];
                FOR_VECTORS(m, channels) {
                    const long at = row * channels + m, left = channels - m;
                    const vector grad = load(grad_normed + at, left);
                    VECTOR_AT(standard, m) = (load(sum + at, left) - mean) * inverse_deviation;
                    VECTOR_AT(grad_standard, m) = grad * VECTOR_AT(scale, m);
                    VECTOR_AT(sums + padded, m) += grad * VECTOR_AT(standard, m);
                    VECTOR_AT(sums + 2 * padded, m) += grad;
                    grads += VECTOR_AT(grad_standard, m);
                    products += VECTOR_AT(grad_standard, m) * VECTOR_AT(standard, m);
                }
                mean_grad = sum_lanes(grads) / channels;
                mean_product = sum_lanes(products) / channels;
            }
            FOR_GROUPS(first, channels) {
                row_factors(row, first, channels, drop, factor);
                FOR_GROUP_VECTORS(m, first, channels) {
                    const long at = row * channels + m, left = channels - m;
                    vector grad = {0};
                    if (grad_sum) grad = load(grad_sum + at, left);
                    if (grad_normed)
                        grad += inverse_deviation *
                                (VECTOR_AT(grad_standard, m) - mean_grad - mean_product * VECTOR_AT(standard, m));
                    if (grad_x) store(grad, grad_x + at, left);
                    grad = apply_dropout(grad, factor + m - first, drop);
                    if (grad_branch) store(grad, grad_branch + at, left);
                    VECTOR_AT(sums, m) += grad;
                }
            }
        }
        add_to_thread(sums, partials, 3 * padded);
    }
    sum_threads(partials, 3 * padded, threads);
    for (long m = 0; m < channels; m++)
        for (int which = 0; which < 3; which++)
            grad_parameters[which * channels + m] = (float)partials[which * padded + m];
    free(partials);
    return 1;
}
