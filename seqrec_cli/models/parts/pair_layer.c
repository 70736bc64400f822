/* pair_layer.py: kernels[b, f, c, m] = of_events[f, m] + of_products[f, m] candidates[b, c, f], and, where there are shifts,
behind the last feature kernels[b, features, c, m] = shifts[b, c, m]; weights are fp32. */

#include "vectors.h"

#define FOR_VECTORS for (long m = 0; m < width; m += LANES)

/* The numbers of a row of weights, which are fp32 whatever the others are. */
INLINE vector weights_at(const float *from, long left) {
    if (left >= LANES) return *(const vector *)from;
    float found[LANES] = {0};
    for (int lane = 0; lane < left; lane++) found[lane] = from[lane];
    return *(const vector *)found;
}

void kernels(const float *of_events, const float *of_products, const number *candidates, const number *shifts,
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
            FOR_VECTORS {
                const vector of_event = weights_at(of_events + f * width + m, width - m);
                const vector of_product = weights_at(of_products + f * width + m, width - m);
                for (long c = 0; c < count; c++)
                    store(of_event + of_product * wide(candidates[(b * count + c) * features + f]), to + c * width + m,
                          width - m);
            }
        }
}

/* Gradients, in one pass over those of the kernels with shifts: of the two weights as parts[thread][2][features][padded],
zero before. */
void kernels_backward(const number *of_kernels, const float *of_products, const number *candidates,
                      number *of_candidates, number *of_shifts, float *parts, long rows, long features, long count,
                      long width, int threads) {
    const long padded = PADDED(width);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long b = 0; b < rows; b++)
        for (long f = 0; f <= features; f++) {
            const number *from = of_kernels + (b * (features + 1) + f) * count * width;
            if (f == features) {
                memcpy(of_shifts + b * count * width, from, count * width * sizeof(number));
                continue;
            }
            const number *candidate = candidates + b * count * features + f;
            float *of_event = parts + (THREAD * 2 * features + f) * padded, *of_product = of_event + features * padded;
            float dots[count * LANES];
            memset(dots, 0, sizeof dots);
            FOR_VECTORS {
                const vector product = weights_at(of_products + f * width + m, width - m);
                vector events = {0}, products = {0};
                for (long c = 0; c < count; c++) {
                    const vector of = load(from + c * width + m, width - m);
                    events += of;
                    products += of * wide(candidate[c * features]);
                    *(vector *)(dots + c * LANES) += of * product;
                }
                *(vector *)(of_event + m) += events;
                *(vector *)(of_product + m) += products;
            }
            for (long c = 0; c < count; c++) {
                float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
                for (int lane = 0; lane < LANES; lane++) sum += dots[c * LANES + lane];
                of_candidates[(b * count + c) * features + f] = narrow(sum);
            }
        }
}
