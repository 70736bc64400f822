/* The matrices [features (+ 1), width] by which pair_linear multiplies events, one a candidate, and the gradients of what
they are made of:

    matrices[b, f, c, m] = w_event[f, m] + w_product[f, m] candidates[b, c, f]

and behind the last feature, where there are shifts, matrices[b, features, c, m] = shifts[b, c, m]. Weights are fp32; the
rest is too, or with -DBF16=1 bf16. */

#include "tiles.h"

#define AT_ONCE 64 /* events whose gradients are copied, so that they lie close together */

void pair_matrices(const float *w_event, const float *w_product, const number *candidates, const number *shifts,
                   number *out, long rows, long features, long count, long width, int threads) {
    const long each = features + (shifts != 0);
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static)
    for (long b = 0; b < rows; b++)
        for (long f = 0; f < each; f++) {
            number *to = out + (b * each + f) * count * width;
            if (f == features) {
                memcpy(to, shifts + b * count * width, count * width * sizeof(number));
                continue;
            }
            FOR_VECTORS(m, width) {
                const vector event = load_float(w_event + f * width + m, width - m);
                const vector product = load_float(w_product + f * width + m, width - m);
                for (long c = 0; c < count; c++)
                    store(event + product * to_float(candidates[(b * count + c) * features + f]), to + c * width + m,
                          width - m);
            }
        }
}

/* Gradients from those of the matrices with shifts, in one pass over them. Those of the two weights are a partial sum a
thread, [threads, 2, features, padded], which has to begin as zeros. */
void pair_matrices_backward(const number *grad_matrices, const float *w_product, const number *candidates,
                            number *grad_candidates, number *grad_shifts, float *partials, long rows, long features,
                            long count, long width, int threads) {
    const long padded = PADDED(width);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long b = 0; b < rows; b++)
        for (long f = 0; f <= features; f++) {
            const number *from = grad_matrices + (b * (features + 1) + f) * count * width;
            if (f == features) {
                memcpy(grad_shifts + b * count * width, from, count * width * sizeof(number));
                continue;
            }
            const number *candidate = candidates + b * count * features + f;
            float *grad_event = partials + (THREAD * 2 * features + f) * padded;
            float *grad_product = grad_event + features * padded, dots[count * LANES];
            memset(dots, 0, sizeof dots);
            FOR_VECTORS(m, width) {
                const vector product = load_float(w_product + f * width + m, width - m);
                vector events = {0}, products = {0};
                for (long c = 0; c < count; c++) {
                    const vector grad = load(from + c * width + m, width - m);
                    events += grad;
                    products += grad * to_float(candidate[c * features]);
                    VECTOR_AT(dots, c * LANES) += grad * product;
                }
                VECTOR_AT(grad_event, m) += events;
                VECTOR_AT(grad_product, m) += products;
            }
            for (long c = 0; c < count; c++) {
                float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
                for (int lane = 0; lane < LANES; lane++) sum += dots[c * LANES + lane];
                grad_candidates[(b * count + c) * features + f] = to_number(sum);
            }
        }
}

/* The same in fp32 by products that stay in the cache, an event's output [count, width] at a time. Strides of rows in memory that
is made here are whole tiles. */
#define STRIDE(count) (((count) + 2 * PAD - 1) / (2 * PAD) * (2 * PAD))

/* The matrix of one candidate, [features, STRIDE(width)]; or with its weights transposed [width, STRIDE(features)]. */
INLINE void pair_matrix(const float *w_event, const float *w_product, const float *candidate, float *out, long features,
                        long width) {
    for (long f = 0; f < features; f++)
        FOR_VECTORS(m, width)
            VECTOR_AT(out + f * STRIDE(width), m) =
                load_float(w_event + f * width + m, width - m) +
                load_float(w_product + f * width + m, width - m) * candidate[f];
}

INLINE void turned_matrix(const float *t_event, const float *t_product, const float *candidate, float *out,
                          long features, long width) {
    for (long m = 0; m < width; m++)
        FOR_VECTORS(f, features)
            VECTOR_AT(out + m * STRIDE(features), f) =
                load_float(t_event + m * features + f, features - f) +
                load_float(t_product + m * features + f, features - f) *
                    load_float(candidate + f, features - f);
}

/* out [rows, events, count, width]; `scratch` [threads, features x STRIDE(width)]. */
void pair_products(const float *w_event, const float *w_product, const float *events, const float *candidates,
                   const float *shifts, float *scratch, float *out, long rows, long length, long features, long count,
                   long width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long b = 0; b < rows; b++)
        for (long c = 0; c < count; c++) {
            float *matrix = scratch + THREAD * features * STRIDE(width);
            const long pair = b * count + c;
            pair_matrix(w_event, w_product, candidates + pair * features, matrix, features, width);
            small_product((factors){events + b * length * features, features, 1}, length, features, matrix,
                          STRIDE(width), shifts + pair * width, 0, out + (b * length * count + c) * width,
                          count * width, width);
        }
}

/* Add a candidate's gradients, from that of its matrix [features, STRIDE(width)], to the weights' [2, features,
PADDED(width)]; its own is set. */
INLINE void matrix_backward(const float *grad_matrix, const float *w_product, const float *candidate, float *sums,
                            float *grad_candidate, long features, long width) {
    for (long f = 0; f < features; f++) {
        float *grad_event = sums + f * PADDED(width), *grad_product = grad_event + features * PADDED(width);
        vector dots = {0};
        FOR_VECTORS(m, width) {
            const vector grad = VECTOR_AT(grad_matrix + f * STRIDE(width), m);
            VECTOR_AT(grad_event, m) += grad;
            VECTOR_AT(grad_product, m) += grad * candidate[f];
            dots += grad * load_float(w_product + f * width + m, width - m);
        }
        grad_candidate[f] = sum_lanes(dots);
    }
}

/* All gradients from those of the output. `turned` are both weights transposed [2, width, features]; `scratch` holds
`each` numbers a thread: width x STRIDE(features) + (features + AT_ONCE + 1) x STRIDE(width). `partials` as in pair_matrices_backward. */
void pair_products_backward(const float *grad_out, const float *w_product, const float *turned, const float *events,
                            const float *candidates, float *grad_events, float *grad_candidates, float *grad_shifts,
                            float *partials, float *scratch, long each, long rows, long length, long features,
                            long count, long width, int threads) {
    const long stride = STRIDE(width), padded = PADDED(width);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long b = 0; b < rows; b++)
        for (long c = 0; c < count; c++) {
            float *matrix = scratch + THREAD * each, *grad_matrix = matrix + width * STRIDE(features);
            float *grads = grad_matrix + features * stride, *shift = grads + AT_ONCE * stride;
            const long pair = b * count + c;
            const float *of_pair = grad_out + (b * length * count + c) * width, *row = events + b * length * features;
            float *into = grad_events + b * length * features;
            turned_matrix(turned, turned + width * features, candidates + pair * features, matrix, features, width);
            small_product((factors){of_pair, count * width, 1}, length, width, matrix, STRIDE(features), c ? into : 0,
                          features, into, features, features);
            memset(grad_matrix, 0, features * stride * sizeof(float));
            memset(shift, 0, stride * sizeof(float));
            for (long first = 0; first < length; first += AT_ONCE) {
                const long steps = length - first < AT_ONCE ? length - first : AT_ONCE;
                for (long l = 0; l < steps; l++)
                    FOR_VECTORS(m, width) {
                        const vector grad = load_float(of_pair + (first + l) * count * width + m, width - m);
                        VECTOR_AT(grads + l * stride, m) = grad;
                        VECTOR_AT(shift, m) += grad;
                    }
                small_product((factors){row + first * features, 1, features}, features, steps, grads, stride,
                              grad_matrix, stride, grad_matrix, stride, width);
            }
            matrix_backward(grad_matrix, w_product, candidates + pair * features,
                            partials + THREAD * 2 * features * padded, grad_candidates + pair * features, features,
                            width);
            memcpy(grad_shifts + pair * width, shift, width * sizeof(float));
        }
}
