/* The loop over time of a GRU whose update gate is scaled from outside, and its backward pass, in fp32; compiled once a
hidden width, -DH=.... The formulas are in reference.py.

Each thread takes rows of its own and runs R pairs of row and candidate through all steps together: their states and the
weights stay in its nearest cache, and a step's products, activations and update are one pass over them.

L steps, B rows, C candidates, N = B x C pairs, H hidden width; P is H rounded up to whole vectors. Weights are [H, 3P] in
the order r, u, n (`weights`) and their transpose [3H, P] (`turned`), padded with zeros. Strides count numbers; the last
dimension of every tensor is contiguous. */

#include "exponential.h"

#if defined(__AVX512F__)
#define SIMD 16 /* fp32 numbers of this processor's registers */
#define PANEL 6 /* vectors of a row's sums that are kept in registers: R x PANEL accumulators */
#elif defined(__AVX__)
#define SIMD 8
#define PANEL 3
#else
#define SIMD 4
#define PANEL 6
#endif
#define R 4
#define P ((H + 15) / 16 * 16)

typedef float vector __attribute__((vector_size(4 * SIMD), aligned(4), may_alias));

typedef struct {
    long step, row, candidate;
} strides;

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

/* How an update gate u and a scale a make the share of the new state: base + factor u. Its derivative by a is
of_base + of_factor u. */
typedef struct {
    float base, factor, of_base, of_factor;
} sharing;

enum { SCALED, REPLACED, KEPT };

INLINE sharing share_of(int gate, float scale) {
    if (gate == SCALED) return (sharing){0.0f, scale, 0.0f, 1.0f};
    if (gate == REPLACED) return (sharing){scale, 0.0f, 1.0f, 0.0f};
    return scale < 0.0f ? (sharing){0.0f, 0.0f, 0.0f, 0.0f} : (sharing){scale, 1.0f - scale, 1.0f, -1.0f};
}

/* out [R, width vectors] (+)= a [R, K] times w [K, ...]. */
INLINE void panel(const float *a, int K, const float *w, int w_row, float *out, int out_row, int width, int add) {
    vector sums[R][PANEL];
    for (int i = 0; i < R; i++)
        for (int v = 0; v < width; v++)
            sums[i][v] = add ? *(const vector *)(out + i * out_row + v * SIMD) : (vector){0};
    for (int k = 0; k < K; k++)
        for (int v = 0; v < width; v++) {
            vector weight = *(const vector *)(w + k * w_row + v * SIMD);
            for (int i = 0; i < R; i++) sums[i][v] += weight * a[i * K + k];
        }
    for (int i = 0; i < R; i++)
        for (int v = 0; v < width; v++) *(vector *)(out + i * out_row + v * SIMD) = sums[i][v];
}

INLINE void product(const float *a, int K, const float *w, int w_row, float *out, int columns, int add) {
    const int vectors = columns / SIMD, whole = vectors / PANEL * PANEL;
    for (int v = 0; v < whole; v += PANEL) panel(a, K, w + v * SIMD, w_row, out + v * SIMD, columns, PANEL, add);
    if (vectors > whole) panel(a, K, w + whole * SIMD, w_row, out + whole * SIMD, columns, vectors - whole, add);
}

/* One step's inputs of a row, which are fp32, or bf16 with `low`. */
INLINE void read(const void *inputs, long at, int low, float *x) {
    if (low)
        for (int j = 0; j < 3 * H; j++) {
            uint32_t bits = (uint32_t)((const uint16_t *)inputs)[at + j] << 16;
            memcpy(x + j, &bits, sizeof bits);
        }
    else
        memcpy(x, (const float *)inputs + at, 3 * H * sizeof(float));
}

/* `last` [N, H]; where not null: `states` [L, N, H], and for backward `gates` (r, u) [L, N, 2H] and `news` [L, N, H]. */
void gru_scan(const void *inputs, int low, const strides *in, const float *scales, const strides *sc,
              const float *weights, float *last, float *states, float *gates, float *news, long L, long B, long C,
              int gate, int threads) {
    const long N = B * C;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; thread++) {
        const long end = N * (thread + 1) / threads;
        for (long first = N * thread / threads; first < end; first += R) {
            const int pairs = end - first < R ? (int)(end - first) : R;
            float h[R][H], sums[R][3 * P];
            memset(h, 0, sizeof h);
            for (long t = 0; t < L; t++) {
                product(&h[0][0], H, weights, 3 * P, &sums[0][0], 3 * P, 0);
                for (int i = 0; i < pairs; i++) {
                    const long pair = first + i, at = t * N + pair;
                    const float scale = scales[t * sc->step + pair / C * sc->row + pair % C * sc->candidate];
                    const sharing by = share_of(gate, scale);
                    float x[3 * H], reset[H], update[H], new[H];
                    read(inputs, t * in->step + pair / C * in->row, low, x);
#pragma omp simd
                    for (int j = 0; j < H; j++) {
                        reset[j] = sigmoid(x[H + j] + sums[i][j]);
                        update[j] = sigmoid(x[2 * H + j] + sums[i][P + j]);
                        new[j] = 2.0f * sigmoid(2.0f * (x[j] + reset[j] * sums[i][2 * P + j])) - 1.0f;
                        h[i][j] += (by.base + by.factor * update[j]) * (new[j] - h[i][j]);
                    }
                    if (states) memcpy(states + at * H, h[i], sizeof h[i]);
                    if (gates) {
                        memcpy(gates + at * 2 * H, reset, sizeof reset);
                        memcpy(gates + at * 2 * H + H, update, sizeof update);
                        memcpy(news + at * H, new, sizeof new);
                    }
                }
            }
            memcpy(last + first * H, h, pairs * sizeof h[0]);
        }
    }
}

/* Gradients of the inputs [L, B, 3H], the scales [L, N] and, by thread, the recurrent weights [threads, 3H, P], from those
of the last states [N, H] and of all states (either may be null). All results but the scales' begin as zeros. */
void gru_scan_backward(const float *grad_last, const float *grad_states, const strides *grad, const float *scales,
                       const strides *sc, const float *weights, const float *turned, const float *states,
                       const float *gates, const float *news, float *grad_inputs, float *grad_scales,
                       float *grad_weights, long L, long B, long C, int gate, int threads) {
    const long N = B * C;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; thread++) {
        float *mine = grad_weights + (long)thread * 3 * H * P;
        const long end =
            B * (thread + 1) / threads * C; /* whole rows: their candidates' gradients meet in the inputs' */
        for (long first = B * thread / threads * C; first < end; first += R) {
            const int pairs = end - first < R ? (int)(end - first) : R;
            /* before: the states that the step began with; grad_sums: gradients of U_r h, U_u h and U_n h */
            float grad_h[R][P], before[R][H], padded[R][P], products[R][P], grad_sums[R][3 * H];
            memset(grad_h, 0, sizeof grad_h);
            memset(before, 0, sizeof before);
            memset(padded, 0, sizeof padded);
            memset(grad_sums, 0, sizeof grad_sums);
            if (grad_last)
                for (int i = 0; i < pairs; i++) memcpy(grad_h[i], grad_last + (first + i) * H, H * sizeof(float));
            for (long t = L - 1; t >= 0; t--) {
                for (int i = 0; i < pairs; i++) {
                    if (t)
                        memcpy(before[i], states + ((t - 1) * N + first + i) * H, sizeof before[i]);
                    else
                        memset(before[i], 0, sizeof before[i]);
                    memcpy(padded[i], before[i], sizeof before[i]);
                }
                product(&before[0][0], H, weights + 2 * P, 3 * P, &products[0][0], P, 0);
                for (int i = 0; i < pairs; i++) {
                    const long pair = first + i, at = t * N + pair, row = pair / C;
                    const float *reset = gates + at * 2 * H, *update = reset + H, *new = news + at * H;
                    const float scale = scales[t * sc->step + row * sc->row + pair % C * sc->candidate];
                    if (grad_states) {
                        const float *more = grad_states + t * grad->step + row * grad->row + pair % C * grad->candidate;
                        for (int j = 0; j < H; j++) grad_h[i][j] += more[j];
                    }
                    const sharing by = share_of(gate, scale);
                    float *grad_x = grad_inputs + (t * B + row) * 3 * H, grad_scale = 0.0f;
#pragma omp simd reduction(+ : grad_scale)
                    for (int j = 0; j < H; j++) {
                        const float grad_new_h = grad_h[i][j];
                        const float share = by.base + by.factor * update[j];
                        const float grad_share = grad_new_h * (new[j] - before[i][j]);
                        grad_scale += grad_share * (by.of_base + by.of_factor * update[j]);
                        const float grad_update = grad_share * by.factor * update[j] * (1.0f - update[j]);
                        const float grad_new = grad_new_h * share * (1.0f - new[j] * new[j]);
                        const float grad_reset = grad_new * products[i][j] * reset[j] * (1.0f - reset[j]);
                        grad_h[i][j] = grad_new_h - grad_new_h * share;
                        grad_x[j] += grad_new;
                        grad_x[H + j] += grad_reset;
                        grad_x[2 * H + j] += grad_update;
                        grad_sums[i][j] = grad_reset;
                        grad_sums[i][H + j] = grad_update;
                        grad_sums[i][2 * H + j] = grad_new * reset[j];
                    }
                    grad_scales[at] = grad_scale;
                }
                product(&grad_sums[0][0], 3 * H, turned, P, &grad_h[0][0], P, 1);
                for (int g = 0; g < 3 * H; g++)
                    for (int v = 0; v < P; v += SIMD) {
                        vector sum = *(vector *)(mine + g * P + v);
                        for (int i = 0; i < R; i++) sum += *(vector *)(padded[i] + v) * grad_sums[i][g];
                        *(vector *)(mine + g * P + v) = sum;
                    }
            }
        }
    }
}
