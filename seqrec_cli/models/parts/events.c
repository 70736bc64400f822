/* What a transformer reads of each event: the layer norm of its item's vector (or a mask's) and its place's, with dropout,
for which torch's operators go over the numbers ten times, and the gradients (events_native.py). Parameters and their
gradients are fp32; the rest is too, or with -DBF16=1 bf16. */

#include <math.h>

#include "rows.h"

typedef struct {
    const int64_t *items;  /* [rows] of the table; below 0: masked */
    const int64_t *places; /* [rows] of their table, if there is one */
    long rows, channels;
} events;

typedef struct {
    float *table, *mask, *places, *scale, *shift; /* or their gradients; without places, or a norm, none */
} parameters;

INLINE vector load_wide(const float *from, long left) {
    if (left >= LANES) return *(const vector *)from;
    float found[LANES];
#pragma omp simd
    for (int lane = 0; lane < LANES; lane++) found[lane] = lane < left ? from[lane] : 0.0f;
    return *(const vector *)found;
}

INLINE void add_wide(vector what, float *to, long left) {
    if (left >= LANES) {
        *(vector *)to += what;
        return;
    }
    float found[LANES];
    *(vector *)found = what;
    for (int lane = 0; lane < left; lane++) to[lane] += found[lane];
}

INLINE float *item_of(long row, events of, parameters in) {
    return of.items[row] < 0 ? in.mask : in.table + of.items[row] * of.channels;
}

INLINE float *place_of(long row, events of, parameters in) {
    return in.places ? in.places + of.places[row] * of.channels : 0;
}

/* A row's sum of two vectors, zeros past its end. */
INLINE void add_up_row(const float *item, const float *place, float *values, long channels) {
    FOR_ROW {
        AT(values) = load_wide(item + m, channels - m);
        if (place) AT(values) += load_wide(place + m, channels - m);
    }
}

/* out, and, where there is a norm, each row's mean and 1 / deviation. */
void read_events(const events *given, const parameters *from, float epsilon, number *out, float *moments,
                 const draws *drawn) {
    const events of = *given;
    const parameters in = *from;
    const draws how = *drawn;
    const long channels = of.channels, padded = PADDED(channels);
    float scale[padded], shift[padded];
    pad(in.scale, scale, channels);
    pad(in.shift, shift, channels);
#pragma omp parallel for num_threads(how.threads) schedule(static)
    for (long row = 0; row < of.rows; row++) {
        float values[padded], factor[GROUP];
        add_up_row(item_of(row, of, in), place_of(row, of, in), values, channels);
        if (in.scale) {
            vector whole = {0}, square = {0};
            FOR_ROW whole += AT(values);
            const float mean = total(whole) / channels;
            FOR_ROW square += (AT(values) - mean) * (AT(values) - mean);
            const float width = 1.0f / sqrtf(variance(square, mean, channels) + epsilon);
            FOR_ROW AT(values) = (AT(values) - mean) * width * AT(scale) + AT(shift);
            moments[2 * row] = mean;
            moments[2 * row + 1] = width;
        }
        FOR_GROUPS {
            draw(row, first, channels, how, factor);
            FOR_VECTORS store(dropped(AT(values), factor + m - first, how), out + row * channels + m, channels - m);
        }
    }
}

/* The gradient of each row's sum [rows, channels], and those of the norm. Returns 0 if memory is short. */
static int through_norm(events of, const number *of_out, parameters in, const float *moments, float *of_sums,
                        parameters into, draws how) {
    const int threads = how.threads;
    const long rows = of.rows, channels = of.channels, padded = PADDED(channels), blocks = (rows + BLOCK - 1) / BLOCK;
    double *parts = calloc(threads * 2 * padded, sizeof(double));
    if (!parts) return 0;
    float scale[padded];
    pad(in.scale, scale, channels);
    FOR_BLOCKS {
        float sums[2 * padded];
        memset(sums, 0, sizeof sums);
        FOR_ROWS {
            float values[padded], through[padded], factor[GROUP], even = 0.0f, along = 0.0f, width = 1.0f;
            FOR_GROUPS {
                draw(row, first, channels, how, factor);
                FOR_VECTORS AT(through) =
                    dropped(load(of_out + row * channels + m, channels - m), factor + m - first, how);
            }
            if (in.scale) {
                const float mean = moments[2 * row];
                vector evens = {0}, alongs = {0};
                width = moments[2 * row + 1];
                add_up_row(item_of(row, of, in), place_of(row, of, in), values, channels);
                FOR_ROW {
                    AT(values) = (AT(values) - mean) * width;
                    AT(sums) += AT(through) * AT(values);
                    AT(sums + padded) += AT(through);
                    AT(through) *= AT(scale);
                    evens += AT(through);
                    alongs += AT(through) * AT(values);
                }
                even = total(evens) / channels;
                along = total(alongs) / channels;
                FOR_ROW AT(through) = width * (AT(through) - even - along * AT(values));
            }
            memcpy(of_sums + row * channels, through, channels * sizeof(float));
        }
        join(sums, parts, 2 * padded);
    }
    add_up(parts, 2 * padded, threads);
    for (long m = 0; in.scale && m < channels; m++) {
        into.scale[m] = (float)parts[m];
        into.shift[m] = (float)parts[padded + m];
    }
    free(parts);
    return 1;
}

/* Gradients: added to those of the tables. `of_sums` [rows, channels] is scratch. Returns 0 if memory is short. */
int read_events_backward(const events *given, const parameters *from, const number *of_out, const float *moments,
                         float *of_sums, const parameters *to, const draws *drawn) {
    const events of = *given;
    const parameters into = *to;
    const draws how = *drawn;
    const long channels = of.channels, groups = (channels + GROUP - 1) / GROUP;
    if (!through_norm(of, of_out, *from, moments, of_sums, into, how)) return 0;
    /* A thread has channels of its own: no two add to the same number. */
#pragma omp parallel for num_threads(how.threads) schedule(static)
    for (long group = 0; group < groups; group++) {
        const long first = group * GROUP;
        for (long row = 0; row < of.rows; row++) {
            float *item = item_of(row, of, into), *place = place_of(row, of, into);
            FOR_VECTORS {
                const vector made = load_wide(of_sums + row * channels + m, channels - m);
                add_wide(made, item + m, channels - m);
                if (place) add_wide(made, place + m, channels - m);
            }
        }
    }
    return 1;
}
