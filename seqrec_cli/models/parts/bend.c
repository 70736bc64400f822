/* PReLU and Dice over [rows, channels] numbers (bend_native.py), for which torch's operators take a dozen passes:

    bent = x (slope + (1 - slope) gate)    gate = x > 0, or Dice's sigmoid((x - mean) / sqrt(variance + epsilon))

and, where there is a weight, the sum of weight bent over the channels. Mean and variance may be those of the rows that
are real. Sums over rows are made in fp32 by BLOCK rows, then in fp64, a part a thread: the same bits with the same
threads. */

#include <math.h>

#include "sums.h"

#define FOR_VECTORS for (long m = 0; m < channels; m += LANES)
#define AT(array, which) (*(vector *)((array) + (which) * PADDED(channels) + m))

enum { SCALE, SHIFT, SLOPE, WEIGHT, PARAMETERS }; /* Dice's gate is sigmoid(scale x + shift); PADDED(channels) each */

typedef struct {
    const float *moments, *slope, *weight; /* [2, channels] of Dice, [channels], and [channels] or none */
    float epsilon;
} settings;

/* 1 / (1 + e^-x) to 1e-7, by Cephes' polynomial of e^x. |x| is limited to 87 by its bits, and n is rounded by adding a
number so large that only whole ones lie beside it: both cost less than by comparing and converting. What is no number
gives 1 here; the gate's other factor, which is none either, keeps it. */
INLINE vector sigmoid(vector x) {
    const float whole = 12583039.0f; /* 1.5 2^23 and the bias of an exponent */
    const whole_vector bits = (whole_vector)x, size = bits & 0x7fffffff, most = (whole_vector){0} + 0x42ae0000;
    const whole_vector larger = size > most;
    x = (vector)((bits & INT32_MIN) | (size & ~larger) | (most & larger));
    const vector shifted = whole - x * 1.44269504f, n = shifted - whole, r = -x - n * 0.693147181f;
    vector sum = 1.3981999507e-3f * r + 8.3334519073e-3f;
    sum = sum * r + 4.1665795894e-2f;
    sum = sum * r + 1.6666665459e-1f;
    sum = sum * r + 5.0000001201e-1f;
    sum = sum * r * r + r + 1.0f;
    return 1.0f / (1.0f + sum * (vector)((bit_vector)shifted << 23));
}

INLINE vector gate_of(vector x, vector scale, vector shift, int soft) {
    return soft ? sigmoid(scale * x + shift) : (vector)((whole_vector)(x > 0.0f) & 0x3f800000);
}

/* The parameters as whole vectors, zero past the channels. */
static void collect(const settings *given, long channels, float *parameters) {
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

static long counted(const uint8_t *real, long rows) {
    long count = 0;
    for (long row = 0; row < rows; row++) count += real[row];
    return count;
}

/* Mean and variance [2, channels] of the real rows; zeros if there are none. Returns 0 if memory is short. */
int moments(const number *x, const uint8_t *real, float *out, long rows, long channels, int threads) {
    const long padded = PADDED(channels), blocks = (rows + BLOCK - 1) / BLOCK;
    double *parts = calloc(threads * 2 * padded, sizeof(double));
    if (!parts) return 0;
    FOR_BLOCKS {
        float found[2 * padded];
        FOR_VECTORS {
            vector sum = {0}, square = {0};
            FOR_ROWS {
                if (!real[row]) continue;
                const vector values = load(x + row * channels + m, channels - m);
                sum += values;
                square += values * values;
            }
            AT(found, 0) = sum;
            AT(found, 1) = square;
        }
        join(found, parts, 2 * padded);
    }
    add_up(parts, 2 * padded, threads);
    const long count = counted(real, rows);
    for (long m = 0; m < channels; m++) {
        const double mean = parts[m] / (count ? count : 1);
        const double variance = parts[padded + m] / (count ? count : 1) - mean * mean;
        out[m] = (float)mean;
        out[channels + m] = variance < 0.0 ? 0.0f : (float)variance;
    }
    free(parts);
    return 1;
}

INLINE void bend_row(const number *x, const float *parameters, number *bent, long channels, int soft) {
    FOR_VECTORS {
        const vector values = load(x + m, channels - m), slope = AT(parameters, SLOPE);
        const vector gate = gate_of(values, AT(parameters, SCALE), AT(parameters, SHIFT), soft);
        store(values * (slope + (1.0f - slope) * gate), bent + m, channels - m);
    }
}

INLINE float weigh_row(const number *x, const float *parameters, long channels, int soft) {
    vector sums = {0};
    FOR_VECTORS {
        const vector values = load(x + m, channels - m), slope = AT(parameters, SLOPE);
        const vector gate = gate_of(values, AT(parameters, SCALE), AT(parameters, SHIFT), soft);
        sums += AT(parameters, WEIGHT) * values * (slope + (1.0f - slope) * gate);
    }
    float lanes[LANES], sum = 0.0f;
    *(vector *)lanes = sums;
#pragma omp simd reduction(+ : sum)
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}

/* bent, [rows, channels]. */
void bend(const number *x, const settings *given, number *bent, long rows, long channels, int threads) {
    const long blocks = (rows + BLOCK - 1) / BLOCK;
    FOR_BLOCKS {
        float parameters[PARAMETERS * PADDED(channels)];
        collect(given, channels, parameters);
        FOR_ROWS
            if (given->moments)
                bend_row(x + row * channels, parameters, bent + row * channels, channels, 1);
            else
                bend_row(x + row * channels, parameters, bent + row * channels, channels, 0);
    }
}

/* The sum of weight bent over the channels, [rows] in fp32; 0 where a row is not real. */
void weigh(const number *x, const uint8_t *real, const settings *given, float *sums, long rows, long channels,
           int threads) {
    const long blocks = (rows + BLOCK - 1) / BLOCK;
    FOR_BLOCKS {
        float parameters[PARAMETERS * PADDED(channels)];
        collect(given, channels, parameters);
        FOR_ROWS
            if (!real[row])
                sums[row] = 0.0f;
            else if (given->moments)
                sums[row] = weigh_row(x + row * channels, parameters, channels, 1);
            else
                sums[row] = weigh_row(x + row * channels, parameters, channels, 0);
    }
}

/* Of a block's vector of channels: the gradients of x, and the sums of the parameters' in `found`. */
INLINE void backward_block(const number *of_bent, const float *of_sums, const number *x, const uint8_t *real,
                           const float *parameters, number *of_x, float *found, long first, long last, long m,
                           long channels, int soft) {
    const vector scale = AT(parameters, SCALE), shift = AT(parameters, SHIFT), slope = AT(parameters, SLOPE);
    const vector weight = AT(parameters, WEIGHT), rest = 1.0f - slope;
    vector of_scale = {0}, of_shift = {0}, of_slope = {0}, of_weight = {0};
    for (long row = first; row < last; row++) {
        const long place = row * channels + m;
        if (!of_bent && !real[row]) {
            store((vector){0}, of_x + place, channels - m);
            continue;
        }
        const vector values = load(x + place, channels - m), gate = gate_of(values, scale, shift, soft);
        vector of;
        if (of_bent)
            of = load(of_bent + place, channels - m);
        else
            of = of_sums[row] * weight;
        const vector share = slope + rest * gate, of_share = of * values;
        vector made = of * share;
        of_slope += of_share * (1.0f - gate);
        if (!of_bent) of_weight += of_sums[row] * values * share;
        if (soft) {
            const vector of_z = of_share * rest * gate * (1.0f - gate);
            of_scale += of_z * values;
            of_shift += of_z;
            made += of_z * scale;
        }
        store(made, of_x + place, channels - m);
    }
    AT(found, SCALE) = of_scale;
    AT(found, SHIFT) = of_shift;
    AT(found, SLOPE) = of_slope;
    AT(found, WEIGHT) = of_weight;
}

/* What comes through the moments: to of_x of every real row first + second x. */
static void through_moments(const number *x, const uint8_t *real, const settings *given, const double *found,
                            number *of_x, long rows, long channels, int threads) {
    const long padded = PADDED(channels), blocks = (rows + BLOCK - 1) / BLOCK;
    float through[2 * padded];
    const long count = counted(real, rows);
    memset(through, 0, sizeof through);
    for (long m = 0; m < channels && count; m++) {
        const double mean = given->moments[m], variance = given->moments[channels + m];
        const double scale = 1.0 / sqrt(variance + given->epsilon), cube = scale * scale * scale;
        const double of_scale = found[SCALE * padded + m], of_shift = found[SHIFT * padded + m];
        const double of_variance = variance > 0.0 ? -0.5 * cube * (of_scale - mean * of_shift) : 0.0;
        through[m] = (float)((-scale * of_shift - 2.0 * mean * of_variance) / count);
        through[padded + m] = (float)(2.0 * of_variance / count);
    }
    FOR_BLOCKS FOR_VECTORS {
        const vector first = AT(through, 0), second = AT(through, 1);
        FOR_ROWS {
            if (!real[row]) continue;
            const long place = row * channels + m;
            const vector more = first + second * load(x + place, channels - m);
            store(load(of_x + place, channels - m) + more, of_x + place, channels - m);
        }
    }
}

/* Gradients from those of bent (of_bent) or of the weighted sums (of_sums; the other is none): of_x, and [2, channels] of
slope and weight. With `own` Dice's moments are the real rows'. Returns 0 if memory is short. */
int backward(const number *of_bent, const float *of_sums, const number *x, const uint8_t *real, const settings *given,
             int own, number *of_x, float *of_parameters, long rows, long channels, int threads) {
    const long padded = PADDED(channels), blocks = (rows + BLOCK - 1) / BLOCK;
    const int soft = given->moments != 0;
    double *parts = calloc(threads * PARAMETERS * padded, sizeof(double));
    if (!parts) return 0;
    FOR_BLOCKS {
        float parameters[PARAMETERS * padded], found[PARAMETERS * padded];
        const long first = block * BLOCK, last = first + BLOCK < rows ? first + BLOCK : rows;
        collect(given, channels, parameters);
        FOR_VECTORS
            if (of_bent && soft)
                backward_block(of_bent, 0, x, real, parameters, of_x, found, first, last, m, channels, 1);
            else if (of_bent)
                backward_block(of_bent, 0, x, real, parameters, of_x, found, first, last, m, channels, 0);
            else if (soft)
                backward_block(0, of_sums, x, real, parameters, of_x, found, first, last, m, channels, 1);
            else
                backward_block(0, of_sums, x, real, parameters, of_x, found, first, last, m, channels, 0);
        join(found, parts, PARAMETERS * padded);
    }
    add_up(parts, PARAMETERS * padded, threads);
    for (long m = 0; m < channels; m++) {
        of_parameters[m] = (float)parts[SLOPE * padded + m];
        of_parameters[channels + m] = (float)parts[WEIGHT * padded + m];
    }
    if (own && soft) through_moments(x, real, given, parts, of_x, rows, channels, threads);
    free(parts);
    return 1;
}
