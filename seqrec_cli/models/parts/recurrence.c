/* recurrence.py's loop over time and its backward pass for a CPU, in fp32; compiled for one hidden width, -DH=....

A thread takes rows of its own. It goes through all of time with R pairs at once: their states and the weights stay in
its nearest cache, and a step's products, activations and update are one pass over them.

Legend as in recurrence.py: L steps, B rows, C candidates, N = B x C pairs, H hidden width; P is H rounded up to whole
vectors. Weights are [H, 3P] in the order r, u, n (`weights`) and [3H, P] (`turned`), padded with zeros. Strides are in
numbers, and the last dimension of everything is dense. */

#include "exponential.h"

#if defined(__AVX512F__)
#define LANES 16
#define PANEL 6 /* vectors of a row's sums that are kept in registers: R x PANEL accumulators */
#elif defined(__AVX__)
#define LANES 8
#define PANEL 3
#else
#define LANES 4
#define PANEL 6
#endif
#define R 4
#define P ((H + 15) / 16 * 16)

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef struct {
    long step, row, candidate;
} strides;

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

/* out [R, width vectors] (+)= a [R, K] times w [K, ...]. */
INLINE void panel(const float *a, int K, const float *w, int w_row, float *out, int out_row, int width, int add) {
    vector sums[R][PANEL];
    for (int i = 0; i < R; i++)
        for (int v = 0; v < width; v++)
            sums[i][v] = add ? *(const vector *)(out + i * out_row + v * LANES) : (vector){0};
    for (int k = 0; k < K; k++)
        for (int v = 0; v < width; v++) {
            vector weight = *(const vector *)(w + k * w_row + v * LANES);
            for (int i = 0; i < R; i++) sums[i][v] += weight * a[i * K + k];
        }
    for (int i = 0; i < R; i++)
        for (int v = 0; v < width; v++) *(vector *)(out + i * out_row + v * LANES) = sums[i][v];
}

INLINE void product(const float *a, int K, const float *w, int w_row, float *out, int columns, int add) {
    const int vectors = columns / LANES, whole = vectors / PANEL * PANEL;
    for (int v = 0; v < whole; v += PANEL) panel(a, K, w + v * LANES, w_row, out + v * LANES, columns, PANEL, add);
    if (vectors > whole)
        panel(a, K, w + whole * LANES, w_row, out + whole * LANES, columns, vectors - whole, add);
}

/* One step's inputs of a row, in fp32 or, where `low`, in bf16: its first half. */
INLINE void read(const void *inputs, long place, int low, float *x) {
    if (low)
        for (int j = 0; j < 3 * H; j++) {
            uint32_t bits = (uint32_t)((const uint16_t *)inputs)[place + j] << 16;
            memcpy(x + j, &bits, sizeof bits);
        }
    else
        memcpy(x, (const float *)inputs + place, 3 * H * sizeof(float));
}

/* `last` [N, H]; where not null: `states` [L, N, H], and for backward `gates` (r, u) [L, N, 2H] and `news` [L, N, H]. */
void forward(const void *inputs, int low, const strides *in, const float *scales, const strides *sc, const float *weights,
             float *last, float *states, float *gates, float *news, long L, long B, long C, int replace, int parts) {
    const long N = B * C;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        const long end = N * (part + 1) / parts;
        for (long first = N * part / parts; first < end; first += R) {
            const int pairs = end - first < R ? (int)(end - first) : R;
            float h[R][H], sums[R][3 * P];
            memset(h, 0, sizeof h);
            for (long t = 0; t < L; t++) {
                product(&h[0][0], H, weights, 3 * P, &sums[0][0], 3 * P, 0);
                for (int i = 0; i < pairs; i++) {
                    const long pair = first + i, place = t * N + pair;
                    const float scale = scales[t * sc->step + pair / C * sc->row + pair % C * sc->candidate];
                    float x[3 * H], reset[H], update[H], new[H];
                    read(inputs, t * in->step + pair / C * in->row, low, x);
#pragma omp simd
                    for (int j = 0; j < H; j++) {
                        reset[j] = sigmoid(x[H + j] + sums[i][j]);
                        update[j] = sigmoid(x[2 * H + j] + sums[i][P + j]);
                        new[j] = 2.0f * sigmoid(2.0f * (x[j] + reset[j] * sums[i][2 * P + j])) - 1.0f;
                        h[i][j] += (replace ? scale : scale * update[j]) * (new[j] - h[i][j]);
                    }
                    if (states) memcpy(states + place * H, h[i], sizeof h[i]);
                    if (gates) {
                        memcpy(gates + place * 2 * H, reset, sizeof reset);
                        memcpy(gates + place * 2 * H + H, update, sizeof update);
                        memcpy(news + place * H, new, sizeof new);
                    }
                }
            }
            memcpy(last + first * H, h, pairs * sizeof h[0]);
        }
    }
}

/* Gradients of the inputs [L, B, 3H], the scales [L, N] and, by part, the recurrent weights [parts, 3H, P], from those
of the last states [N, H] and of all states (either may be null). All results but the scales' begin as zeros. */
void backward(const float *of_last, const float *of_states, const strides *of, const float *scales, const strides *sc,
              const float *weights, const float *turned, const float *states, const float *gates, const float *news,
              float *of_inputs, float *of_scales, float *of_weights, long L, long B, long C, int replace, int parts) {
    const long N = B * C;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        float *mine = of_weights + (long)part * 3 * H * P;
        const long end = B * (part + 1) / parts * C; /* whole rows: their candidates' gradients meet in the inputs' */
        for (long first = B * part / parts * C; first < end; first += R) {
            const int pairs = end - first < R ? (int)(end - first) : R;
            /* before: the states that the step began with; of_sums: gradients of U_r h, U_u h and U_n h */
            float of_h[R][P], before[R][H], padded[R][P], products[R][P], of_sums[R][3 * H];
            memset(of_h, 0, sizeof of_h);
            memset(before, 0, sizeof before);
            memset(padded, 0, sizeof padded);
            memset(of_sums, 0, sizeof of_sums);
            if (of_last)
                for (int i = 0; i < pairs; i++) memcpy(of_h[i], of_last + (first + i) * H, H * sizeof(float));
            for (long t = L - 1; t >= 0; t--) {
                for (int i = 0; i < pairs; i++) {
                    if (t) memcpy(before[i], states + ((t - 1) * N + first + i) * H, sizeof before[i]);
                    else memset(before[i], 0, sizeof before[i]);
                    memcpy(padded[i], before[i], sizeof before[i]);
                }
                product(&before[0][0], H, weights + 2 * P, 3 * P, &products[0][0], P, 0);
                for (int i = 0; i < pairs; i++) {
                    const long pair = first + i, place = t * N + pair, row = pair / C;
                    const float *reset = gates + place * 2 * H, *update = reset + H, *new = news + place * H;
                    const float scale = scales[t * sc->step + row * sc->row + pair % C * sc->candidate];
                    if (of_states) {
                        const float *more = of_states + t * of->step + row * of->row + pair % C * of->candidate;
                        for (int j = 0; j < H; j++) of_h[i][j] += more[j];
                    }
                    float *of_x = of_inputs + (t * B + row) * 3 * H, of_scale = 0.0f;
#pragma omp simd reduction(+ : of_scale)
                    for (int j = 0; j < H; j++) {
                        const float of = of_h[i][j];
                        const float share = replace ? scale : scale * update[j];
                        const float of_share = of * (new[j] - before[i][j]);
                        of_scale += replace ? of_share : of_share * update[j];
                        const float of_update =
                            replace ? 0.0f : of_share * scale * update[j] * (1.0f - update[j]);
                        const float of_new = of * share * (1.0f - new[j] * new[j]);
                        const float of_reset = of_new * products[i][j] * reset[j] * (1.0f - reset[j]);
                        of_h[i][j] = of - of * share;
                        of_x[j] += of_new;
                        of_x[H + j] += of_reset;
                        of_x[2 * H + j] += of_update;
                        of_sums[i][j] = of_reset;
                        of_sums[i][H + j] = of_update;
                        of_sums[i][2 * H + j] = of_new * reset[j];
                    }
                    of_scales[place] = of_scale;
                }
                product(&of_sums[0][0], 3 * H, turned, P, &of_h[0][0], P, 1);
                for (int g = 0; g < 3 * H; g++)
                    for (int v = 0; v < P; v += LANES) {
                        vector sum = *(vector *)(mine + g * P + v);
                        for (int i = 0; i < R; i++) sum += *(vector *)(padded[i] + v) * of_sums[i][g];
                        *(vector *)(mine + g * P + v) = sum;
                    }
            }
        }
    }
}
