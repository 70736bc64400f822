/* PReLU and Dice over [rows, channels], where torch's operators take a dozen passes, and their gradients:

    y = x (slope + (1 - slope) gate)    gate = x > 0, or Dice's sigmoid((x - mean) / sqrt(variance + epsilon))

and, where there is a weight, the sum of weight y over the channels. Mean and variance may be those of the batch's real
rows. fp32, or with -DBF16=1 bf16 with fp32 arithmetic. */

#include <math.h>

#include "blocks.h"

#define PARAMETER(array, which) VECTOR_AT((array) + (which) * PADDED(channels), m) /* a vector of row `which` */

enum { SCALE, SHIFT, SLOPE, WEIGHT, PARAMETERS }; /* Dice's gate is sigmoid(scale x + shift); PADDED(channels) each */

typedef struct {
    const float *moments, *slope, *weight; /* [2, channels] of Dice, [channels], and [channels] or none */
    float epsilon;
} settings;

/* 1 / (1 + e^-x) to 1e-7, by Cephes' polynomial of e^x. |x| is clamped to 87 by its bits, and n is rounded by adding a
number so large that its neighbours are integers: both cost less than comparing and converting. NaN gives 1 here; the
gate's other factor, NaN too, keeps it. */
INLINE vector sigmoid(vector x) {
    const float whole = 12583039.0f; /* 1.5 2^23 and the bias of an exponent */
    const int_vector bits = (int_vector)x, size = bits & 0x7fffffff, most = (int_vector){0} + 0x42ae0000;
    const int_vector larger = size > most;
    x = (vector)((bits & INT32_MIN) | (size & ~larger) | (most & larger));
    const vector shifted = whole - x * 1.44269504f, n = shifted - whole, r = -x - n * 0.693147181f;
    vector sum = 1.3981999507e-3f * r + 8.3334519073e-3f;
    sum = sum * r + 4.1665795894e-2f;
    sum = sum * r + 1.6666665459e-1f;
    sum = sum * r + 5.0000001201e-1f;
    sum = sum * r * r + r + 1.0f;
    return 1.0f / (1.0f + sum * (vector)((uint_vector)shifted << 23));
}

INLINE vector gate_of(vector x, vector scale, vector shift, int soft) {
    return soft ? sigmoid(scale * x + shift) : (vector)((int_vector)(x > 0.0f) & 0x3f800000);
}

/* The parameters as whole vectors, zero past the channels. */
static void load_parameters(const settings *given, long channels, float *parameters) {
    const long padded = PADDED(channels);
    memset(parameters, 0, PARAMETERS * padded * sizeof(float));
    for (long m = 0; m < channels; m++) {
        if (given->moments) {
            const double scale = 1.0 / sqrt((double)given->moments[channels + m] + given->epsilon);
            parameters[SCALE * padded + m] = (float)scale;
            parameters[SHIFT * padded + m] = (float)(-given->moments[m] * scale);
        }
        parameters[SLOPE * padded + m] = given->slope[m];
        if (given->weight) parameters[WEIGHT * padded + m] = given->weight[m];
    }
}

static long count_real(const uint8_t *real, long rows) {
    long count = 0;
    for (long row = 0; row < rows; row++) count += real[row];
    return count;
}

/* Mean and variance [2, channels] of the real rows; zeros if there are none. Returns 0 if memory is short. */
int moments(const number *x, const uint8_t *real, float *out, long rows, long channels, int threads) {
    const long padded = PADDED(channels);
    double *partials = calloc(threads * 2 * padded, sizeof(double));
    if (!partials) return 0;
    FOR_BLOCKS(block, rows, threads) {
        float sums[2 * padded];
        FOR_VECTORS(m, channels) {
            vector sum = {0}, square = {0};
            FOR_BLOCK_ROWS(row, block, rows) {
                if (!real[row]) continue;
                const vector values = load(x + row * channels + m, channels - m);
                sum += values;
                square += values * values;
            }
            PARAMETER(sums, 0) = sum;
            PARAMETER(sums, 1) = square;
        }
        add_to_thread(sums, partials, 2 * padded);
    }
    sum_threads(partials, 2 * padded, threads);
    const long count = count_real(real, rows);
    for (long m = 0; m < channels; m++) {
        const double mean = partials[m] / (count ? count : 1);
        const double variance = partials[padded + m] / (count ? count : 1) - mean * mean;
        out[m] = (float)mean;
        out[channels + m] = variance < 0.0 ? 0.0f : (float)variance;
    }
    free(partials);
    return 1;
}

INLINE void prelu_dice_row(const number *x, const float *parameters, number *y, long channels, int soft) {
    FOR_VECTORS(m, channels) {
        const vector values = load(x + m, channels - m), slope = PARAMETER(parameters, SLOPE);
        const vector gate = gate_of(values, PARAMETER(parameters, SCALE), PARAMETER(parameters, SHIFT), soft);
        store(values * (slope + (1.0f - slope) * gate), y + m, channels - m);
    }
}

INLINE float weighted_row(const number *x, const float *parameters, long channels, int soft) {
    vector sums = {0};
    FOR_VECTORS(m, channels) {
        const vector values = load(x + m, channels - m), slope = PARAMETER(parameters, SLOPE);
        const vector gate = gate_of(values, PARAMETER(parameters, SCALE), PARAMETER(parameters, SHIFT), soft);
        sums += PARAMETER(parameters, WEIGHT) * values * (slope + (1.0f - slope) * gate);
    }
    return sum_lanes(sums);
}

/* y [rows, channels]. */
void prelu_dice(const number *x, const settings *given, number *y, long rows, long channels, int threads) {
    FOR_BLOCKS(block, rows, threads) {
        float parameters[PARAMETERS * PADDED(channels)];
        load_parameters(given, channels, parameters);
        FOR_BLOCK_ROWS(row, block, rows)
            if (given->moments)
                prelu_dice_row(x + row * channels, parameters, y + row * channels, channels, 1);
            else
                prelu_dice_row(x + row * channels, parameters, y + row * channels, channels, 0);
    }
}

/* The sum of weight y over the channels, [rows] in fp32; 0 where a row is not real. */
void prelu_dice_weighted(const number *x, const uint8_t *real, const settings *given, float *sums, long rows,
                         long channels, int threads) {
    FOR_BLOCKS(block, rows, threads) {
        float parameters[PARAMETERS * PADDED(channels)];
        load_parameters(given, channels, parameters);
        FOR_BLOCK_ROWS(row, block, rows)
            if (!real[row])
                sums[row] = 0.0f;
            else if (given->moments)
                sums[row] = weighted_row(x + row * channels, parameters, channels, 1);
            else
                sums[row] = weighted_row(x + row * channels, parameters, channels, 0);
    }
}

/* Rows first to last, read and written in the order of memory. With `sums` the parameters' gradients are added to them;
with grad_x, x's are written, and first + second x added at every real row where there are such coefficients [2,
PADDED(channels)]. Which arguments are null is known where this is compiled into: a loop of each kind. */
INLINE void backward_rows(const number *grad_y, const float *grad_sums, const number *x, const uint8_t *real,
                          const float *parameters, const float *coefficients, number *grad_x, float *sums, long first,
                          long last, long channels, int soft) {
    for (long row = first; row < last; row++) {
        if (!grad_y && !real[row]) {
            if (grad_x) memset(grad_x + row * channels, 0, channels * sizeof(number));
            continue;
        }
        const int mend = coefficients && real[row];
        FOR_VECTORS(m, channels) {
            const long at = row * channels + m;
            const vector scale = PARAMETER(parameters, SCALE), slope = PARAMETER(parameters, SLOPE);
            const vector values = load(x + at, channels - m), rest = 1.0f - slope;
            const vector gate = gate_of(values, scale, PARAMETER(parameters, SHIFT), soft), share = slope + rest * gate;
            vector grad, grad_z = {0};
            if (grad_y)
                grad = load(grad_y + at, channels - m);
            else
                grad = grad_sums[row] * PARAMETER(parameters, WEIGHT);
            const vector grad_share = grad * values;
            if (soft) grad_z = grad_share * rest * gate * (1.0f - gate);
            if (sums) {
                PARAMETER(sums, SLOPE) += grad_share * (1.0f - gate);
                if (!grad_y) PARAMETER(sums, WEIGHT) += grad_sums[row] * values * share;
                if (soft) {
                    PARAMETER(sums, SCALE) += grad_z * values;
                    PARAMETER(sums, SHIFT) += grad_z;
                }
            }
            if (!grad_x) continue;
            vector grad_values = grad * share;
            if (soft) grad_values += grad_z * scale;
            if (mend) grad_values += PARAMETER(coefficients, 0) + PARAMETER(coefficients, 1) * values;
            store(grad_values, grad_x + at, channels - m);
        }
    }
}

/* A pass over all rows: for the parameters' gradients, x's, or both; see backward_rows. */
static void backward_pass(const number *grad_y, const float *grad_sums, const number *x, const uint8_t *real,
                          const settings *given, const float *coefficients, number *grad_x, double *partials,
                          long rows, long channels, int threads) {
    const long padded = PADDED(channels);
    const int soft = given->moments != 0;
    FOR_BLOCKS(block, rows, threads) {
        float parameters[PARAMETERS * padded], sums[PARAMETERS * padded];
        const long first = block * BLOCK, last = first + BLOCK < rows ? first + BLOCK : rows;
        load_parameters(given, channels, parameters);
        memset(sums, 0, sizeof sums);
        if (coefficients && grad_y)
            backward_rows(grad_y, 0, x, real, parameters, coefficients, grad_x, 0, first, last, channels, 1);
        else if (coefficients)
            backward_rows(0, grad_sums, x, real, parameters, coefficients, grad_x, 0, first, last, channels, 1);
        else if (!grad_x && grad_y)
            backward_rows(grad_y, 0, x, real, parameters, 0, 0, sums, first, last, channels, 1);
        else if (!grad_x)
            backward_rows(0, grad_sums, x, real, parameters, 0, 0, sums, first, last, channels, 1);
        else if (grad_y && soft)
            backward_rows(grad_y, 0, x, real, parameters, 0, grad_x, sums, first, last, channels, 1);
        else if (grad_y)
            backward_rows(grad_y, 0, x, real, parameters, 0, grad_x, sums, first, last, channels, 0);
        else if (soft)
            backward_rows(0, grad_sums, x, real, parameters, 0, grad_x, sums, first, last, channels, 1);
        else
            backward_rows(0, grad_sums, x, real, parameters, 0, grad_x, sums, first, last, channels, 0);
        if (partials) add_to_thread(sums, partials, PARAMETERS * padded);
    }
}

/* What reaches x by way of the moments, as coefficients: first + second x at every real row. */
static void moments_backward(const uint8_t *real, const settings *given, const double *sums, float *coefficients,
                             long rows, long channels) {
    const long padded = PADDED(channels), count = count_real(real, rows);
    memset(coefficients, 0, 2 * padded * sizeof(float));
    for (long m = 0; m < channels && count; m++) {
        const double mean = given->moments[m], variance = given->moments[channels + m];
        const double scale = 1.0 / sqrt(variance + given->epsilon), cube = scale * scale * scale;
        const double grad_scale = sums[SCALE * padded + m], grad_shift = sums[SHIFT * padded + m];
        const double grad_variance = variance > 0.0 ? -0.5 * cube * (grad_scale - mean * grad_shift) : 0.0;
        coefficients[m] = (float)((-scale * grad_shift - 2.0 * mean * grad_variance) / count);
        coefficients[padded + m] = (float)(2.0 * grad_variance / count);
    }
}

/* Gradients of x, and of slope and weight [2, channels], from those of y or of the weighted sums (the other is null). With
`own_moments` Dice's moments are those of the real rows, and gradients flow through them. Returns 0 if memory is short. */
int prelu_dice_backward(const number *grad_y, const float *grad_sums, const number *x, const uint8_t *real,
                        const settings *given, int own_moments, number *grad_x, float *grad_parameters, long rows,
                        long channels, int threads) {
    const long padded = PADDED(channels);
    double *partials = calloc(threads * PARAMETERS * padded, sizeof(double));
    if (!partials) return 0;
    float coefficients[2 * padded];
    /* With moments of its own a batch is read twice: to make the gate again costs less than to write gradients and then
    to read and mend them. */
    const int twice = own_moments && given->moments;
    backward_pass(grad_y, grad_sums, x, real, given, 0, twice ? 0 : grad_x, partials, rows, channels, threads);
    sum_threads(partials, PARAMETERS * padded, threads);
    for (long m = 0; m < channels; m++) {
        grad_parameters[m] = (float)partials[SLOPE * padded + m];
        grad_parameters[channels + m] = (float)partials[WEIGHT * padded + m];
    }
    if (twice) {
        moments_backward(real, given, partials, coefficients, rows, channels);
        backward_pass(grad_y, grad_sums, x, real, given, coefficients, grad_x, 0, rows, channels, threads);
    }
    free(partials);
    return 1;
}
