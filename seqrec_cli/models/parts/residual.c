/* A layer's output with its bias and dropout added to the residual stream, and the layer norm of the sum, for which torch's
operators go over the numbers four times, and their gradients (residual_native.py); fp32, or with -DBF16=1 bf16 with fp32
inside. */

#include <math.h>

#include "rows.h"

typedef struct {
    const float *bias, *scale, *shift; /* [channels] of the layer, and of the norm, if there is one */
    float epsilon;
} parameters;

/* sum = x + dropout(branch + bias), and, where there is a norm, normed and each row's mean and 1 / deviation. */
void add(const number *x, const number *branch, const parameters *of, number *sum, number *normed, float *moments,
         long rows, long channels, const draws *given) {
    const draws how = *given;
    const int threads = how.threads;
    const long blocks = (rows + BLOCK - 1) / BLOCK, padded = PADDED(channels);
    const float epsilon = of->epsilon;
    float bias[padded], scale[padded], shift[padded];
    pad(of->bias, bias, channels);
    pad(of->scale, scale, channels);
    pad(of->shift, shift, channels);
    FOR_BLOCKS FOR_ROWS {
        float values[padded], factor[GROUP];
        vector whole = {0}, square = {0};
        FOR_GROUPS {
            draw(row, first, channels, how, factor);
            FOR_VECTORS {
                const long place = row * channels + m, left = channels - m;
                const vector made = load(branch + place, left) + AT(bias);
                const vector added = load(x + place, left) + dropped(made, factor + m - first, how);
                store(added, sum + place, left);
                AT(values) = widened(narrowed(added)); /* what backward will find */
                whole += AT(values);
            }
        }
        if (!normed) continue;
        const float mean = total(whole) / channels;
        FOR_ROW {
            const vector apart = AT(values) - mean;
            square += apart * apart;
        }
        const float factor_of_row = 1.0f / sqrtf(variance(square, mean, channels) + epsilon);
        FOR_ROW
            store((AT(values) - mean) * factor_of_row * AT(scale) + AT(shift), normed + row * channels + m, channels - m);
        moments[2 * row] = mean;
        moments[2 * row + 1] = factor_of_row;
    }
}

/* The gradients of x and the branch ([rows, channels]; where none is asked for they are of_sum), and of bias, scale and
shift [3, channels], from those of sum and normed, of which one may be none. Returns 0 if memory is short. */
int add_backward(const number *of_sum, const number *of_normed, const number *sum, const float *moments,
                 const parameters *of, number *of_x, number *of_branch, float *of_parameters, long rows, long channels,
                 const draws *given) {
    const draws how = *given;
    const int threads = how.threads;
    const long blocks = (rows + BLOCK - 1) / BLOCK, padded = PADDED(channels);
    double *parts = calloc(threads * 3 * padded, sizeof(double));
    if (!parts) return 0;
    float scale[padded];
    pad(of->scale, scale, channels);
    FOR_BLOCKS {
        float sums[3 * padded];
        memset(sums, 0, sizeof sums);
        FOR_ROWS {
            float through[padded], standard[padded], factor[GROUP], even = 0.0f, along = 0.0f, width = 0.0f;
            if (of_normed) {
                const float mean = moments[2 * row];
                vector evens = {0}, alongs = {0};
                width = moments[2 * row + 1];
                FOR_ROW {
                    const long place = row * channels + m, left = channels - m;
                    const vector given_here = load(of_normed + place, left);
                    AT(standard) = (load(sum + place, left) - mean) * width;
                    AT(through) = given_here * AT(scale);
                    AT(sums + padded) += given_here * AT(standard);
                    AT(sums + 2 * padded) += given_here;
                    evens += AT(through);
                    alongs += AT(through) * AT(standard);
                }
                even = total(evens) / channels;
                along = total(alongs) / channels;
            }
            FOR_GROUPS {
                draw(row, first, channels, how, factor);
                FOR_VECTORS {
                    const long place = row * channels + m, left = channels - m;
                    vector made = {0};
                    if (of_sum) made = load(of_sum + place, left);
                    if (of_normed) made += width * (AT(through) - even - along * AT(standard));
                    if (of_x) store(made, of_x + place, left);
                    made = dropped(made, factor + m - first, how);
                    if (of_branch) store(made, of_branch + place, left);
                    AT(sums) += made;
                }
            }
        }
        join(sums, parts, 3 * padded);
    }
    add_up(parts, 3 * padded, threads);
    for (long m = 0; m < channels; m++)
        for (int which = 0; which < 3; which++) of_parameters[which * channels + m] = (float)parts[which * padded + m];
    free(parts);
    return 1;
}
