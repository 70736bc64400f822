/* softmax(scale q k' + mask) v and its gradients in fp32, head by head, for QUERIES queries at a time: their scores
[keys, queries] are made, used and forgotten in a cache. What causal queries do not see is left out by panels. */

#include <stdlib.h>

#include "exponential.h"
#include "panels.h"

#define QUERIES 64     /* a multiple of TILE_COLUMNS */
#define MASKED -1e30f  /* finite: a row whose keys are all masked gets even weights */
#define UNSEEN -3e38f  /* causal: no weight at all */

typedef struct {
    float *at;
    long row, head, step; /* the distances of rows, of heads and of positions; a head's numbers lie side by side */
} heads;

typedef struct {
    heads q, k, v, out;   /* or the gradient of what comes out */
    const uint8_t *real;  /* [rows, keys], 0 at keys that are masked; null: none are */
    float *moments;       /* [rows, heads, queries, 2]: the largest score, and 1 / the sum of exponentials */
    long rows, count, queries, keys, width; /* count: heads of a row */
    int causal;
    float scale;
    int threads;
} problem;

typedef struct {
    float *scores, *grads;              /* [keys, QUERIES]: weights at last, and their gradients */
    float *q_columns, *out_columns;     /* queries as panels: [QUERIES / TILE_COLUMNS, width, .] */
    float *q_rows, *out_rows;           /* [width / TILE_COLUMNS, QUERIES, .] */
    float *keys;                        /* keys or values as panels [width / TILE_COLUMNS, keys, .] */
} scratch;

static long scratch_floats(problem of, int backward) {
    const long wide = ROUNDED(of.width, 2 * PAD);
    return ROUNDED((1 + backward) * of.keys * QUERIES + (1 + 3 * backward) * wide * QUERIES + of.keys * wide, PAD);
}

static scratch scratch_at(float *at, problem of, int backward) {
    const long wide = ROUNDED(of.width, 2 * PAD) * QUERIES, scores = of.keys * QUERIES;
    scratch s = {.scores = at, .q_columns = at + scores, .keys = at + scores + wide};
    s.keys += backward * (scores + 3 * wide);
    s.out_columns = s.q_columns + wide;
    s.q_rows = s.out_columns + wide;
    s.out_rows = s.q_rows + wide;
    s.grads = s.out_rows + wide;
    return s;
}

INLINE float *head_of(heads x, long row, long head) { return x.at + row * x.row + head * x.head; }

/* out (+)= a times panels that lie `spacing` steps apart. */
INLINE void times(factors a, long rows, long steps, const float *panels, long spacing, float *out, long out_row,
                  long columns, int add) {
    for (long m = 0; m < columns; m += TILE_COLUMNS)
        panel_product(a, rows, steps, panels + m * spacing, add ? out + m : 0, out_row, out + m, out_row,
                      AT_MOST(TILE_COLUMNS, columns - m));
}

/* The keys of a row behind the last real one change nothing, unless no key is real. */
static long keys_of(problem of, long row) {
    if (!of.real) return of.keys;
    const uint8_t *real = of.real + row * of.keys;
    long keys = of.keys;
    while (keys > 0 && !real[keys - 1]) keys--;
    return keys ? keys : of.keys;
}

/* Scores [limit, TILE_COLUMNS] of a panel of queries, the first of which is number `first` of its row. */
INLINE void make_scores(problem of, const float *k, const float *columns, long row, long first, long limit, float *scores) {
    panel_product((factors){k, of.k.step, 1}, limit, of.width, columns, 0, 0, scores, QUERIES, TILE_COLUMNS);
    for (long i = 0; of.real && i < limit; i++)
        if (!of.real[row * of.keys + i])
            for (long c = 0; c < TILE_COLUMNS; c++) scores[i * QUERIES + c] = MASKED;
    for (long i = first + 1; of.causal && i < limit; i++)
        for (long c = 0; c < TILE_COLUMNS && first + c < i; c++) scores[i * QUERIES + c] = UNSEEN;
}

static void forward_head(problem of, scratch s, long row, long head) {
    const long D = of.width, keys = keys_of(of, row);
    const float *q = head_of(of.q, row, head), *k = head_of(of.k, row, head);
    float *out = head_of(of.out, row, head), *moments = of.moments + (row * of.count + head) * of.queries * 2;
    pack_panels(head_of(of.v, row, head), of.v.step, 1, keys, D, s.keys);
    for (long first = 0; first < of.queries; first += TILE_COLUMNS) {
        const long n = AT_MOST(TILE_COLUMNS, of.queries - first);
        const long limit = of.causal ? AT_MOST(keys, first + TILE_COLUMNS) : keys;
        pack_panels(q + first * of.q.step, 1, of.q.step, D, n, s.q_columns);
        make_scores(of, k, s.q_columns, row, first, limit, s.scores);
        float largest[TILE_COLUMNS], inverse[TILE_COLUMNS];
        for (long c = 0; c < TILE_COLUMNS; c += LANES) {
            float *scores = s.scores + c;
            vector most = VECTOR_AT(scores, 0), sum = {0};
            for (long i = 1; i < limit; i++) most = larger(VECTOR_AT(scores, i * QUERIES), most);
            for (long i = 0; i < limit; i++) {
                const vector e = exponentials((VECTOR_AT(scores, i * QUERIES) - most) * of.scale);
                VECTOR_AT(scores, i * QUERIES) = e;
                sum += e;
            }
            VECTOR_AT(largest, c) = most;
            VECTOR_AT(inverse, c) = 1.0f / sum;
            for (long i = 0; i < limit; i++) VECTOR_AT(scores, i * QUERIES) *= VECTOR_AT(inverse, c);
        }
        for (long c = 0; c < n; c++) {
            moments[2 * (first + c)] = largest[c];
            moments[2 * (first + c) + 1] = inverse[c];
        }
        times((factors){s.scores, 1, QUERIES}, n, limit, s.keys, keys, out + first * of.out.step, of.out.step, D, 0);
    }
}

/* out [rows, heads, queries, width] and the moments. Returns 0 if memory is short. */
int attention(const problem *given) {
    const problem of = *given;
    const long each = scratch_floats(of, 0);
    float *memory = aligned_alloc(64, of.threads * each * sizeof(float));
    if (!memory) return 0;
#pragma omp parallel for num_threads(of.threads) schedule(static)
    for (long n = 0; n < of.rows * of.count; n++)
        forward_head(of, scratch_at(memory + THREAD * each, of, 0), n / of.count, n % of.count);
    free(memory);
    return 1;
}

/* A panel of queries: their weights in place of scores, and the scores' gradients in place of the weights'. */
INLINE void differentiate(float *scores, float *grads, const float *moments, long n, long limit, float scale) {
    float largest[TILE_COLUMNS] = {0}, inverse[TILE_COLUMNS] = {0};
    for (long c = 0; c < n; c++) {
        largest[c] = moments[2 * c];
        inverse[c] = moments[2 * c + 1];
    }
    for (long c = 0; c < TILE_COLUMNS; c += LANES) {
        vector sum = {0};
        for (long i = c; i < limit * QUERIES; i += QUERIES) {
            VECTOR_AT(scores, i) = exponentials((VECTOR_AT(scores, i) - VECTOR_AT(largest, c)) * scale) * VECTOR_AT(inverse, c);
            sum += VECTOR_AT(scores, i) * VECTOR_AT(grads, i);
        }
        for (long i = c; i < limit * QUERIES; i += QUERIES)
            VECTOR_AT(grads, i) = VECTOR_AT(scores, i) * (VECTOR_AT(grads, i) - sum) * scale;
    }
}

/* to [limit, width] += scores [limit, n] x rows: keys before `first` meet all queries, the rest, if causal, only those
from their panel on. */
static void add_to_keys(problem of, const float *scores, const float *rows, long first, long n, long limit, float *to,
                        long to_row) {
    const long all = of.causal ? AT_MOST(first, limit) : limit;
    times((factors){scores, QUERIES, 1}, all, n, rows, n, to, to_row, of.width, 1);
    for (long start = 0; all + start < limit; start += TILE_COLUMNS)
        times((factors){scores + (all + start) * QUERIES + start, QUERIES, 1}, AT_MOST(TILE_COLUMNS, limit - all - start),
              n - start, rows + start * TILE_COLUMNS, n, to + (all + start) * to_row, to_row, of.width, 1);
}

static void backward_head(problem of, problem into, scratch s, long row, long head) {
    const long D = of.width, keys = keys_of(of, row);
    const float *q = head_of(of.q, row, head), *k = head_of(of.k, row, head), *v = head_of(of.v, row, head);
    const float *out = head_of(of.out, row, head), *moments = of.moments + (row * of.count + head) * of.queries * 2;
    float *grad_q = head_of(into.q, row, head), *grad_k = head_of(into.k, row, head), *grad_v = head_of(into.v, row, head);
    for (long i = 0; i < of.keys; i++) {
        memset(grad_k + i * into.k.step, 0, D * sizeof(float));
        memset(grad_v + i * into.v.step, 0, D * sizeof(float));
    }
    pack_panels(k, of.k.step, 1, keys, D, s.keys);
    for (long first = 0; first < of.queries; first += QUERIES) {
        const long n = AT_MOST(QUERIES, of.queries - first), last = of.causal ? AT_MOST(keys, first + n) : keys;
        pack_panels(q + first * of.q.step, 1, of.q.step, D, n, s.q_columns);
        pack_panels(out + first * of.out.step, 1, of.out.step, D, n, s.out_columns);
        pack_panels(q + first * of.q.step, of.q.step, 1, n, D, s.q_rows);
        pack_panels(out + first * of.out.step, of.out.step, 1, n, D, s.out_rows);
        for (long c = 0; c < n; c += TILE_COLUMNS) {
            const long here = AT_MOST(TILE_COLUMNS, n - c), limit = of.causal ? AT_MOST(keys, first + c + TILE_COLUMNS) : keys;
            make_scores(of, k, s.q_columns + c * D, row, first + c, limit, s.scores + c);
            panel_product((factors){v, of.v.step, 1}, limit, D, s.out_columns + c * D, 0, 0, s.grads + c, QUERIES,
                          TILE_COLUMNS);
            differentiate(s.scores + c, s.grads + c, moments + 2 * (first + c), here, limit, of.scale);
            times((factors){s.grads + c, 1, QUERIES}, here, limit, s.keys, keys, grad_q + (first + c) * into.q.step,
                  into.q.step, D, 0);
        }
        add_to_keys(of, s.scores, s.out_rows, first, n, last, grad_v, into.v.step);
        add_to_keys(of, s.grads, s.q_rows, first, n, last, grad_k, into.k.step);
    }
}

/* Gradients of q, k and v, from that of what comes out, in `of.out`. Returns 0 if memory is short. */
int attention_backward(const problem *given, const problem *to) {
    const problem of = *given, into = *to;
    const long each = scratch_floats(of, 1);
    float *memory = aligned_alloc(64, of.threads * each * sizeof(float));
    if (!memory) return 0;
#pragma omp parallel for num_threads(of.threads) schedule(static)
    for (long n = 0; n < of.rows * of.count; n++)
        backward_head(of, into, scratch_at(memory + THREAD * each, of, 1), n / of.count, n % of.count);
    free(memory);
    return 1;
}
