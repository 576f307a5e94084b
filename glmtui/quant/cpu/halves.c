/* The product of bfloat16 or float16 weights, as they are stored, summed in float32.
 *
 * With few tokens it is bound by memory: weights are read once, row by row and from front to back. With many it is bound
 * by arithmetic: some weights become float32 in the nearest cache and stay there while all tokens are multiplied with
 * them. A token gets the same numbers next to others as alone, to the bit: each has sums of its own, in the same order.
 */
#include <stdlib.h>

#include "layout.h"

enum {
    PARTS = 4,            /* sums of a row and token side by side, so that none waits for the one before */
    TOGETHER = 4,         /* tokens whose sums are in registers at once */
    AHEAD = 8192,         /* bytes that are fetched ahead: the processor's own fetching stops at every page */
    STRIDE = PARTS * LANES,
};

typedef enum { FLOAT16, BFLOAT16 } Kind;

INLINE vfloat load_weights(const uint16_t *p, const Kind kind) { return kind == FLOAT16 ? load_half(p) : load_bfloat(p); }

/* out[tokens] = one row w[columns] times x[tokens][width], whose columns past `columns` are zero. */
INLINE void multiply_row(const int tokens, const Kind kind, const uint16_t *w, int64_t columns, const float *x,
                         int64_t width, float *out) {
    vfloat sum[TOGETHER][PARTS];
    uint16_t rest[STRIDE] = {0};
    UNROLL for (int t = 0; t < tokens; t++) {
        UNROLL for (int p = 0; p < PARTS; p++) sum[t][p] = float_set(0);
    }
    for (int64_t c = 0; c < columns; c += STRIDE) {
        const uint16_t *from = w + c;
        if (columns - c < STRIDE) from = memcpy(rest, from, (size_t)(columns - c) * sizeof(uint16_t));
        for (int i = 0; i < STRIDE; i += 32) PREFETCH(w + c + AHEAD / 2 + i);
        UNROLL for (int p = 0; p < PARTS; p++) {
            vfloat weights = load_weights(from + p * LANES, kind);
            UNROLL for (int t = 0; t < tokens; t++)
                sum[t][p] = fma_(weights, load_float(x + t * width + c + p * LANES), sum[t][p]);
        }
    }
    for (int t = 0; t < tokens; t++) {
        float lanes[PARTS][LANES];
        out[t] = 0;
        for (int p = 0; p < PARTS; p++) store_float(lanes[p], sum[t][p]);
        for (int i = 0; i < LANES; i++) out[t] += (lanes[0][i] + lanes[1][i]) + (lanes[2][i] + lanes[3][i]);
    }
}

INLINE void multiply_kind(const Kind kind, int64_t tokens, const uint16_t *w, int64_t columns, const float *x,
                          int64_t width, float *out) {
    switch (tokens) {
    case 1: multiply_row(1, kind, w, columns, x, width, out); return;
    case 2: multiply_row(2, kind, w, columns, x, width, out); return;
    case 3: multiply_row(3, kind, w, columns, x, width, out); return;
    default: multiply_row(4, kind, w, columns, x, width, out);
    }
}

/* out[tokens][rows] = w[rows][columns], of `kind`, times x[tokens][columns]. Returns -1 when memory is short. */
EXPORT int glmtui_multiply_halves(const uint16_t *w, int kind, int64_t rows, int64_t columns, const float *x,
                                  int64_t tokens, float *out, int threads) {
    int64_t width = ceil_div(columns, STRIDE) * STRIDE;
    float *padded = calloc((size_t)(tokens * width), sizeof(float));
    if (!padded) return -1;
    for (int64_t t = 0; t < tokens; t++) memcpy(padded + t * width, x + t * columns, (size_t)columns * sizeof(float));
    int64_t bytes = rows * columns * 2 / (16 * threads);
    bytes = bytes < (64 << 10) ? 64 << 10 : bytes > (512 << 10) ? 512 << 10 : bytes;
    int64_t piece = 1 + bytes / (columns * 2), pieces = ceil_div(rows, piece);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (pieces > 1)
    for (int64_t i = 0; i < pieces; i++)
        for (int64_t r = i * piece; r < rows && r < (i + 1) * piece; r++)
            for (int64_t first = 0; first < tokens; first += TOGETHER) {
                int64_t count = tokens - first < TOGETHER ? tokens - first : TOGETHER;
                float found[TOGETHER];
                const float *some = padded + first * width;
                if (kind == FLOAT16) multiply_kind(FLOAT16, count, w + r * columns, columns, some, width, found);
                else multiply_kind(BFLOAT16, count, w + r * columns, columns, some, width, found);
                for (int64_t t = 0; t < count; t++) out[(first + t) * rows + r] = found[t];
            }
    free(padded);
    return 0;
}

/* --- many tokens --- */

enum {
    ROWS = TILE_TOKENS,              /* of weights and... */
    SIDE = TILE_VECTORS * LANES,     /* tokens of which all sums are in registers */
    SLICE = 256,                     /* columns of both that fit into the nearest cache: 22 KB on AVX2 */
    BAND = 8 * ROWS,                 /* rows that a thread does together: tokens are read once for all of them */
    MOST = 512,                      /* tokens at once: their sums with a band stay in the second cache */
};

/* sums[rows][stride] += some weights[rows][SLICE] times x[columns][SIDE], the tokens of some vectors side by side. */
INLINE void multiply_tile(const int rows, const int vectors, const float *weights, const float *x, int64_t columns,
                          float *sums, int64_t stride) {
    vfloat sum[ROWS * TILE_VECTORS][TILE_VECTORS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = load_float(sums + r * stride + v * LANES);
    }
    UNROLL_8 for (int64_t c = 0; c < columns; c++) {
        vfloat tokens[TILE_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) tokens[v] = load_float(x + c * SIDE + v * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            vfloat weight = float_set(weights[r * SLICE + c]);
            UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = fma_(weight, tokens[v], sum[r][v]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) store_float(sums + r * stride + v * LANES, sum[r][v]);
    }
}

/* to[columns], with room for SLICE, = the weights from[columns]. */
INLINE void widen(const uint16_t *from, int kind, int64_t columns, float *to) {
    for (int64_t c = 0; c < columns; c += LANES) {
        uint16_t rest[LANES] = {0};
        const uint16_t *p = from + c;
        if (columns - c < LANES) p = memcpy(rest, p, (size_t)(columns - c) * sizeof(uint16_t));
        store_float(to + c, kind == FLOAT16 ? load_half(p) : load_bfloat(p));
    }
}

/* The rows of a band from w[rows][columns]: sums[BAND][width] = they times x[width / SIDE][columns][SIDE]. */
static void multiply_band(const uint16_t *w, int kind, int64_t rows, int64_t columns, const float *x, int64_t tokens,
                          int64_t width, float *sums) {
    float weights[BAND * SLICE];
    memset(weights, 0, sizeof weights);
    memset(sums, 0, (size_t)(BAND * width) * sizeof(float));
    for (int64_t first = 0; first < columns; first += SLICE) {
        int64_t count = columns - first < SLICE ? columns - first : SLICE;
        for (int64_t r = 0; r < rows; r++) widen(w + r * columns + first, kind, count, weights + r * SLICE);
        for (int64_t t = 0; t < tokens; t += SIDE) {
            const float *some = x + t * columns + first * SIDE;
            if (tokens - t > LANES) {
                for (int64_t r = 0; r < rows; r += ROWS)
                    multiply_tile(ROWS, TILE_VECTORS, weights + r * SLICE, some, count, sums + r * width + t, width);
            } else { /* a vector of them is left: more rows at once instead */
                for (int64_t r = 0; r < rows; r += ROWS * TILE_VECTORS)
                    multiply_tile(ROWS * TILE_VECTORS, 1, weights + r * SLICE, some, count, sums + r * width + t, width);
            }
        }
    }
}

/* out[tokens][rows] = w[rows][columns], of `kind`, times x[tokens][columns], for many tokens. Returns -1 when memory is
 * short. */
EXPORT int glmtui_multiply_many_halves(const uint16_t *w, int kind, int64_t rows, int64_t columns, const float *x,
                                       int64_t tokens, float *out, int threads) {
    int64_t most = tokens < MOST ? ceil_div(tokens, SIDE) * SIDE : MOST, bands = ceil_div(rows, BAND);
    float *side_by_side = malloc((size_t)(most * columns) * sizeof(float));
    int failed = !side_by_side;
    for (int64_t from = 0; from < tokens && !failed; from += MOST) {
        int64_t count = tokens - from < MOST ? tokens - from : MOST, width = ceil_div(count, SIDE) * SIDE;
#pragma omp parallel num_threads(threads) reduction(| : failed)
        {
            float *sums = malloc((size_t)(BAND * width) * sizeof(float));
            failed |= !sums;
#pragma omp for schedule(static)
            for (int64_t t = 0; t < width; t += SIDE)
                for (int64_t c = 0; c < columns; c++)
                    for (int64_t i = t; i < t + SIDE; i++)
                        side_by_side[t * columns + c * SIDE + i - t] = i < count ? x[(from + i) * columns + c] : 0;
#pragma omp for schedule(dynamic, 1)
            for (int64_t b = 0; b < bands; b++) {
                int64_t first = b * BAND, some = rows - first < BAND ? rows - first : BAND;
                if (!sums) continue;
                multiply_band(w + first * columns, kind, some, columns, side_by_side, count, width, sums);
                for (int64_t t = 0; t < count; t++)
                    for (int64_t r = 0; r < some; r++) out[(from + t) * rows + first + r] = sums[r * width + t];
            }
            free(sums);
        }
    }
    free(side_by_side);
    return failed ? -1 : 0;
}
