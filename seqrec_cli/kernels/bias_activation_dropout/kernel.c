/* dropout(activation(x + bias)) over [rows, channels] and its gradients, in one pass each, where torch's operators read
and write the numbers three times. fp32, or with -DBF16=1 bf16 with fp32 arithmetic. */

#include "exponential.h"
#include "rows.h"

enum { RELU, LEAKY_RELU, GELU };
#define LEAK 0.01f /* of LeakyReLU for negative numbers, torch's default */

INLINE vector choose(int_vector where, vector yes, vector no) {
    return (vector)((where & (int_vector)yes) | (~where & (int_vector)no));
}

#if BF16
/* 1/2 + x P(x^2) for |x| < EDGE; beyond it the limits 0 and 1. The polynomials are minimax fits; their argument is scaled to
[-1, 1]. */
#define EDGE 4.5f
INLINE vector from_polynomial(vector x, const float *coefficients, int degree) {
    const vector square = x * x, u = square * (2.0f / (EDGE * EDGE)) - 1.0f;
    vector sum = {0};
    sum += coefficients[degree];
    for (int i = degree - 1; i >= 0; i--) sum = sum * u + coefficients[i];
    const vector limit = (vector)((int_vector)(x > 0.0f) & 0x3f800000);
    return choose(square < EDGE * EDGE, sum * x + 0.5f, limit);
}

INLINE vector activation(vector x, int kind) {
    /* the normal distribution function to 8e-7: GELU to 1e-5, a hundredth of bf16's step at 1 */
    static const float normal[] = {1.569050848e-01f, -7.719228417e-02f, 5.469175428e-02f, -4.013447464e-02f,
                                   2.837207168e-02f, -1.891482808e-02f, 1.115704607e-02f, -5.413251463e-03f,
                                   3.079208778e-03f, -2.259160858e-03f, 8.193439571e-04f};
    if (kind == GELU) return x * from_polynomial(x, normal, 10);
    return choose(x <= 0.0f, x * (kind == LEAKY_RELU ? LEAK : 0.0f), x);
}

INLINE vector derivative(vector x, int kind) {
    /* GELU's derivative, to 1.2e-5 within EDGE and 7e-5 beyond */
    static const float gelu[] = {1.594315469e-01f, -9.001319855e-02f, 8.698740602e-02f, -9.392201900e-02f,
                                 9.789951891e-02f, -9.383732826e-02f, 6.976176053e-02f, -3.621140122e-02f,
                                 2.846020088e-02f, -2.936284430e-02f, 1.193528622e-02f};
    if (kind == GELU) return from_polynomial(x, gelu, 10);
    const vector zero = {0};
    return choose(x <= 0.0f, zero + (kind == LEAKY_RELU ? LEAK : 0.0f), zero + 1.0f);
}

#else
/* The normal distribution function at x, to 1e-7 (erf by Abramowitz and Stegun, 7.1.26), and its density times root(2 pi). */
INLINE vector normal(vector x, vector *density) {
    const vector size = (vector)((int_vector)x & 0x7fffffff);
    const vector t = 1.0f / (size * (0.3275911f * 0.70710678f) + 1.0f), e = exponentials(x * x * -0.5f);
    vector sum = t * 1.061405429f - 1.453152027f;
    sum = sum * t + 1.421413741f;
    sum = sum * t - 0.284496736f;
    sum = sum * t + 0.254829592f;
    const vector tail = sum * t * e * 0.5f;
    *density = e;
    return choose(x > 0.0f, 1.0f - tail, tail);
}

INLINE vector activation(vector x, int kind) {
    vector density;
    if (kind == GELU) return x * normal(x, &density);
    return choose(x <= 0.0f, x * (kind == LEAKY_RELU ? LEAK : 0.0f), x);
}

INLINE vector derivative(vector x, int kind) {
    vector density;
    if (kind == GELU) {
        const vector below = normal(x, &density);
        return below + x * density * 0.39894228f;
    }
    const vector zero = {0};
    return choose(x <= 0.0f, zero + (kind == LEAKY_RELU ? LEAK : 0.0f), zero + 1.0f);
}
#endif

INLINE void activate_row(const number *x, const float *bias, number *out, long row, long channels, dropout_spec drop,
                         int kind) {
    float factor[GROUP];
    FOR_GROUPS(first, channels) {
        row_factors(row, first, channels, drop, factor);
        FOR_GROUP_VECTORS(m, first, channels) {
            const vector values = load(x + row * channels + m, channels - m) + VECTOR_AT(bias, m);
            store(apply_dropout(activation(values, kind), factor + m - first, drop), out + row * channels + m,
                  channels - m);
        }
    }
}

/* dropout(activation(x + bias)), [rows, channels]. */
void bias_activation_dropout(const number *x, const float *bias, number *out, long rows, long channels, int kind,
                             const dropout_spec *given) {
    const dropout_spec drop = *given;
    const int threads = drop.threads;
    float shift[PADDED(channels)];
    copy_padded(bias, shift, channels);
    FOR_BLOCKS(block, rows, threads)
        FOR_BLOCK_ROWS(row, block, rows) {
            if (kind == GELU)
                activate_row(x, shift, out, row, channels, drop, GELU);
            else if (kind == RELU)
                activate_row(x, shift, out, row, channels, drop, RELU);
            else
                activate_row(x, shift, out, row, channels, drop, LEAKY_RELU);
        }
}

INLINE void gradient_row(const number *grad_out, const number *x, const float *bias, number *grad_x, float *sums,
                         long row, long channels, dropout_spec drop, int kind) {
    float factor[GROUP];
    FOR_GROUPS(first, channels) {
        row_factors(row, first, channels, drop, factor);
        FOR_GROUP_VECTORS(m, first, channels) {
            const long at = row * channels + m;
            const vector factor_x = derivative(load(x + at, channels - m) + VECTOR_AT(bias, m), kind);
            const vector grad = apply_dropout(load(grad_out + at, channels - m), factor + m - first, drop) * factor_x;
            VECTOR_AT(sums, m) += grad;
            store(grad, grad_x + at, channels - m);
        }
    }
}

/* Gradients of x and of the bias [channels]. Returns 0 if memory is short. */
int bias_activation_dropout_backward(const number *grad_out, const number *x, const float *bias, number *grad_x,
                                     float *grad_bias, long rows, long channels, int kind, const dropout_spec *given) {
    const dropout_spec drop = *given;
    const int threads = drop.threads;
    const long padded = PADDED(channels);
    double *partials = calloc(threads * padded, sizeof(double));
    if (!partials) return 0;
    float shift[padded];
    copy_padded(bias, shift, channels);
    FOR_BLOCKS(block, rows, threads) {
        float sums[padded];
        memset(sums, 0, sizeof sums);
        FOR_BLOCK_ROWS(row, block, rows) {
            if (kind == GELU)
                gradient_row(grad_out, x, shift, grad_x, sums, row, channels, drop, GELU);
            else if (kind == RELU)
                gradient_row(grad_out, x, shift, grad_x, sums, row, channels, drop, RELU);
            else
                gradient_row(grad_out, x, shift, grad_x, sums, row, channels, drop, LEAKY_RELU);
        }
        add_to_thread(sums, partials, padded);
    }
    sum_threads(partials, padded, threads);
    for (long m = 0; m < channels; m++) grad_bias[m] = (float)partials[m];
    free(partials);
    return 1;
}
