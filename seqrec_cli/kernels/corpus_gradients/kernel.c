/* The cross-entropy of queries' targets among all items and its gradients, in fp32. Of a chunk of queries the scores
[items, queries] are made panel by panel and turned into exponentials where they lie, against the largest score so far; a
second pass scales them to probabilities and multiplies them, while they are still in a cache. */

#include <math.h>
#include <stdlib.h>

#include "exponential.h"
#include "panels.h"

#define ITEMS 48 /* of a panel: eight tiles */

typedef struct {
    const float *queries, *table; /* [rows, width], [items, width] */
    const int64_t *targets;       /* [rows] */
    const float *bias, *weights;  /* [items], [rows]; may be null */
    long rows, items, width;
    long chunk; /* queries of a chunk, a multiple of TILE_COLUMNS of any processor */
    int threads;
} corpus;

typedef struct {
    float *losses, *grad_queries, *grad_table, *grad_bias; /* [rows]; the rest as their tensors, sums to be added to */
} results;

typedef struct {
    float *scores;                  /* [items, chunk]: at last the gradient of the scores */
    float *by_width, *by_row;       /* the queries as panels: [chunk / TILE_COLUMNS, width, .], [width / ., chunk, .] */
    float *items;                   /* a panel of items' vectors, as panels */
    float *against;                 /* [panels, chunk]: the largest score so far, when a panel's exponentials were made */
    float *largest, *sum, *own, *weight; /* [chunk] */
    long first, rows;
} chunk;

static long panels_of(corpus of) { return (of.items + ITEMS - 1) / ITEMS; }

static long floats_of_chunk(corpus of) {
    const long wide = ROUNDED(of.width, 2 * PAD);
    return of.chunk * (of.items + 2 * wide + panels_of(of) + 4) + ITEMS * wide + 8 * PAD;
}

static chunk chunk_at(float *at, corpus of) {
    const long wide = ROUNDED(of.width, 2 * PAD);
    chunk c = {.scores = at};
    c.by_width = c.scores + of.items * of.chunk;
    c.by_row = c.by_width + wide * of.chunk;
    c.items = c.by_row + wide * of.chunk;
    c.against = c.items + ITEMS * wide;
    c.largest = c.against + panels_of(of) * of.chunk;
    c.sum = c.largest + of.chunk;
    c.own = c.sum + of.chunk;
    c.weight = c.own + of.chunk;
    return c;
}

/* Exponentials of a panel's scores, less the largest so far, and their sums. */
INLINE void add_exponentials(float *scores, long items, long step, chunk c, float *against) {
    for (long r = 0; r < step; r += LANES) {
        const vector before = VECTOR_AT(c.largest, r);
        vector largest = before, sum = VECTOR_AT(c.sum, r);
        for (long i = 0; i < items; i++) largest = larger(VECTOR_AT(scores, i * step + r), largest);
        sum *= exponentials(before - largest);
        for (long i = 0; i < items; i++) {
            const vector e = exponentials(VECTOR_AT(scores, i * step + r) - largest);
            VECTOR_AT(scores, i * step + r) = e;
            sum += e;
        }
        VECTOR_AT(c.largest, r) = VECTOR_AT(against, r) = largest;
        VECTOR_AT(c.sum, r) = sum;
    }
}

/* The losses of a chunk's rows; its scores become exponentials. */
static void score(chunk c, corpus of, results to) {
    const long D = of.width, step = of.chunk;
    const float *queries = of.queries + c.first * D;
    pack_panels(queries, 1, D, D, c.rows, c.by_width);
    pack_panels(queries, D, 1, c.rows, D, c.by_row);
    const long filled = ROUNDED(c.rows, TILE_COLUMNS);
    for (long r = 0; r < step; r++) {
        c.largest[r] = -3e38f;
        c.sum[r] = c.own[r] = 0.0f;
        c.weight[r] = r >= c.rows ? 0.0f : of.weights ? of.weights[c.first + r] : 1.0f;
    }
    for (long first = 0; first < of.items; first += ITEMS) {
        const long items = AT_MOST(ITEMS, of.items - first);
        float *scores = c.scores + first * step;
        panel_product((factors){of.table + first * D, D, 1}, items, D, c.by_width, 0, 0, scores, step, filled);
        if (filled < step)
            for (long i = 0; i < items; i++) memset(scores + i * step + filled, 0, (step - filled) * sizeof(float));
        for (long i = 0; of.bias && i < items; i++)
            for (long r = 0; r < step; r++) scores[i * step + r] += of.bias[first + i];
        for (long r = 0; r < c.rows; r++) {
            const long target = of.targets[c.first + r] - first;
            if (target >= 0 && target < items) c.own[r] = scores[target * step + r];
        }
        add_exponentials(scores, items, step, c, c.against + first / ITEMS * step);
    }
    for (long r = 0; r < c.rows; r++) to.losses[c.first + r] = c.largest[r] + logf(c.sum[r]) - c.own[r];
}

/* The gradient of a panel's scores in place of their exponentials. */
static void differentiate(chunk c, corpus of, long first, long items) {
    const long step = of.chunk;
    float *scores = c.scores + first * step;
    const float *against = c.against + first / ITEMS * step;
    for (long r = 0; r < step; r += LANES) {
        const vector scale = exponentials(VECTOR_AT(against, r) - VECTOR_AT(c.largest, r)) * VECTOR_AT(c.weight, r) /
                             VECTOR_AT(c.sum, r);
        for (long i = 0; i < items; i++) VECTOR_AT(scores, i * step + r) *= scale;
    }
    for (long r = 0; r < c.rows; r++) {
        const long target = of.targets[c.first + r] - first;
        if (target >= 0 && target < items) scores[target * step + r] -= c.weight[r];
    }
}

static void add_to_queries(chunk c, corpus of, long first, long items, results to) {
    const long D = of.width;
    float *sums = to.grad_queries + c.first * D;
    pack_panels(of.table + first * D, D, 1, items, D, c.items);
    panel_product((factors){c.scores + first * of.chunk, 1, of.chunk}, c.rows, items, c.items, sums, D, sums, D, D);
}

static void add_to_items(chunk c, corpus of, long first, long items, results to) {
    const long D = of.width;
    const float *scores = c.scores + first * of.chunk;
    float *sums = to.grad_table + first * D;
    panel_product((factors){scores, of.chunk, 1}, items, c.rows, c.by_row, sums, D, sums, D, D);
    for (long i = 0; to.grad_bias && i < items; i++) {
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (long r = 0; r < c.rows; r++) sum += scores[i * of.chunk + r];
        to.grad_bias[first + i] += sum;
    }
}

/* Losses, and the gradients of weights times losses. Each thread has a chunk of queries; the gradients of items are then
shared by items and summed in the order of queries: any number of threads gives the same bits. Returns 0 if memory is short. */
int corpus_gradients(const corpus *given, const results *into) {
    const corpus of = *given;
    const results to = *into;
    const long each = ROUNDED(floats_of_chunk(of), PAD), panels = panels_of(of);
    float *memory = aligned_alloc(64, of.threads * each * sizeof(float));
    if (!memory) return 0;
    for (long start = 0; start < of.rows; start += of.chunk * of.threads) {
        const int chunks = (int)AT_MOST(of.threads, (of.rows - start + of.chunk - 1) / of.chunk);
#pragma omp parallel for num_threads(of.threads) schedule(static, 1)
        for (int n = 0; n < chunks; n++) {
            chunk c = chunk_at(memory + n * each, of);
            c.first = start + n * of.chunk;
            c.rows = AT_MOST(of.chunk, of.rows - c.first);
            score(c, of, to);
            for (long first = 0; first < of.items; first += ITEMS) {
                const long items = AT_MOST(ITEMS, of.items - first);
                differentiate(c, of, first, items);
                add_to_queries(c, of, first, items, to);
                if (chunks == 1) add_to_items(c, of, first, items, to); /* while the panel is in a cache */
            }
        }
        if (chunks == 1) continue;
#pragma omp parallel for num_threads(of.threads) schedule(static)
        for (long panel = 0; panel < panels; panel++)
            for (int n = 0; n < chunks; n++) {
                chunk c = chunk_at(memory + n * each, of);
                c.first = start + n * of.chunk;
                c.rows = AT_MOST(of.chunk, of.rows - c.first);
                add_to_items(c, of, panel * ITEMS, AT_MOST(ITEMS, of.items - panel * ITEMS), to);
            }
    }
    free(memory);
    return 1;
}
