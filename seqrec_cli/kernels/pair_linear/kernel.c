/* The matrices [features (+ 1), width] by which pair_linear multiplies events, one a candidate, and the gradients of what
they are made of:

    matrices[b, f, c, m] = w_event[f, m] + w_product[f, m] candidates[b, c, f]

and behind the last feature, where there are shifts, matrices[b, features, c, m] = shifts[b, c, m]. Weights are fp32; the
rest is too, or with -DBF16=1 bf16. */

#include "vectors.h"

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
