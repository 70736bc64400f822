/* dropout(activation(x + bias)) over [rows, channels], for which torch's operators go over the numbers three times, and
its gradients (activation_native.py); fp32, or with -DBF16=1 bf16 with fp32 inside. */

#include "rows.h"

enum { RELU, LEAKY_RELU, GELU };
#define LEAK 0.01f /* torch's */

INLINE vector chosen(whole_vector where, vector yes, vector no) {
    return (vector)((where & (whole_vector)yes) | (~where & (whole_vector)no));
}

/* 1/2 + x P(x^2), for |x| < EDGE; beyond, the limits 0 and 1. The polynomials were fitted to the least greatest error, and
their argument runs from -1 to 1. */
#define EDGE 4.5f
INLINE vector from_polynomial(vector x, const float *of, int degree) {
    const vector square = x * x, u = square * (2.0f / (EDGE * EDGE)) - 1.0f;
    vector sum = {0};
    sum += of[degree];
    for (int i = degree - 1; i >= 0; i--) sum = sum * u + of[i];
    const vector limit = (vector)((whole_vector)(x > 0.0f) & 0x3f800000);
    return chosen(square < EDGE * EDGE, sum * x + 0.5f, limit);
}

INLINE vector activation(vector x, int kind) {
    /* the normal distribution, to 8e-7: x by it is exact GELU to 1e-5, a hundredth of bf16's step at 1 */
    static const float normal[] = {1.569050848e-01f, -7.719228417e-02f, 5.469175428e-02f, -4.013447464e-02f,
                                   2.837207168e-02f, -1.891482808e-02f, 1.115704607e-02f, -5.413251463e-03f,
                                   3.079208778e-03f, -2.259160858e-03f, 8.193439571e-04f};
    if (kind == GELU) return x * from_polynomial(x, normal, 10);
    return chosen(x <= 0.0f, x * (kind == LEAKY_RELU ? LEAK : 0.0f), x);
}

INLINE vector slope_of(vector x, int kind) {
    /* of GELU, to 1.2e-5 within EDGE and 7e-5 beyond */
    static const float rising[] = {1.594315469e-01f, -9.001319855e-02f, 8.698740602e-02f, -9.392201900e-02f,
                                   9.789951891e-02f, -9.383732826e-02f, 6.976176053e-02f, -3.621140122e-02f,
                                   2.846020088e-02f, -2.936284430e-02f, 1.193528622e-02f};
    if (kind == GELU) return from_polynomial(x, rising, 10);
    const vector none = {0};
    return chosen(x <= 0.0f, none + (kind == LEAKY_RELU ? LEAK : 0.0f), none + 1.0f);
}

INLINE void activate_row(const number *x, const float *bias, number *out, long row, long channels, draws how, int kind) {
    float factor[GROUP];
    FOR_GROUPS {
        draw(row, first, channels, how, factor);
        FOR_VECTORS {
            const vector values = load(x + row * channels + m, channels - m) + AT(bias);
            store(dropped(activation(values, kind), factor + m - first, how), out + row * channels + m, channels - m);
        }
    }
}

/* dropout(activation(x + bias)), [rows, channels]. */
void activate(const number *x, const float *bias, number *out, long rows, long channels, int kind, const draws *given) {
    const draws how = *given;
    const int threads = how.threads;
    const long blocks = (rows + BLOCK - 1) / BLOCK;
    float shift[PADDED(channels)];
    pad(bias, shift, channels);
    FOR_BLOCKS FOR_ROWS {
        if (kind == GELU)
            activate_row(x, shift, out, row, channels, how, GELU);
        else if (kind == RELU)
            activate_row(x, shift, out, row, channels, how, RELU);
        else
            activate_row(x, shift, out, row, channels, how, LEAKY_RELU);
    }
}

INLINE void slope_row(const number *of_out, const number *x, const float *bias, number *of_x, float *sums, long row,
                      long channels, draws how, int kind) {
    float factor[GROUP];
    FOR_GROUPS {
        draw(row, first, channels, how, factor);
        FOR_VECTORS {
            const long place = row * channels + m;
            const vector slope = slope_of(load(x + place, channels - m) + AT(bias), kind);
            const vector made = dropped(load(of_out + place, channels - m), factor + m - first, how) * slope;
            AT(sums) += made;
            store(made, of_x + place, channels - m);
        }
    }
}

/* Gradients of x and of the bias [channels]. Returns 0 if memory is short. */
int activate_backward(const number *of_out, const number *x, const float *bias, number *of_x, float *of_bias, long rows,
                      long channels, int kind, const draws *given) {
    const draws how = *given;
    const int threads = how.threads;
    const long blocks = (rows + BLOCK - 1) / BLOCK, padded = PADDED(channels);
    double *parts = calloc(threads * padded, sizeof(double));
    if (!parts) return 0;
    float shift[padded];
    pad(bias, shift, channels);
    FOR_BLOCKS {
        float sums[padded];
        memset(sums, 0, sizeof sums);
        FOR_ROWS {
            if (kind == GELU)
                slope_row(of_out, x, shift, of_x, sums, row, channels, how, GELU);
            else if (kind == RELU)
                slope_row(of_out, x, shift, of_x, sums, row, channels, how, RELU);
            else
                slope_row(of_out, x, shift, of_x, sums, row, channels, how, LEAKY_RELU);
        }
        join(sums, parts, padded);
    }
    add_up(parts, padded, threads);
    for (long m = 0; m < channels; m++) of_bias[m] = (float)parts[m];
    free(parts);
    return 1;
}
