/* The product of bfloat16 or float16 weights, as they are stored.
 *
 * With few tokens it is bound by memory: weights are read once, row by row and from front to back, and summed in
 * float32. With many it is bound by arithmetic: weights and activations are rounded to words of 12 bits, with a scale
 * for some columns of every row and token. The processor multiplies two of them, without error, where it multiplies one
 * float, and bfloat16 has 8 bits. A token gets the same numbers next to others as alone, to the bit: each has sums of
 * its own, in the same order.
 */
#include <float.h>
#include <math.h>
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
    SLICE = 256,                     /* columns that share a scale: so many that they fit into the nearest cache */
    STEPS_OF_TWO = SLICE / 2,        /* two columns are multiplied at once */
    LARGEST = 2895,                  /* of a word: SLICE x LARGEST x LARGEST < 2^31 */
    BAND = 8 * ROWS,                 /* rows that a thread does together: tokens are read once for all of them */
    MOST = 512,                      /* tokens at once: their sums with a band stay in the second cache */
};

/* The activations of some tokens; what belongs to a tile that starts at token t starts at t x (its size per token). */
typedef struct {
    int32_t *pairs; /* per tile [slices][STEPS_OF_TWO][SIDE] of two words */
    float *scales;  /* per tile [slices][SIDE] */
    int64_t slices;
} Words;

/* to[SLICE] = from[columns], then zeros, rounded to words; returns their scale, which is no number if `largest`, the
 * largest magnitude, is none. */
INLINE float round_words(const float *RESTRICT from, float largest, int64_t columns, int16_t *RESTRICT to) {
    const int finite = largest <= FLT_MAX;
    if (columns < SLICE || !finite) memset(to, 0, SLICE * sizeof(int16_t));
    if (!finite) return NAN;
    float inverse = largest > 1e-30f ? LARGEST / largest : 0;
#pragma omp simd
    for (int64_t i = 0; i < columns; i++) to[i] = (int16_t)(int32_t)rintf(from[i] * inverse);
    return largest / LARGEST;
}

/* The slices of a token's x[columns], which stands at `place` of its tile. */
static void round_token(const float *x, int64_t columns, int64_t place, int32_t *pairs, float *scales) {
    for (int64_t first = 0; first < columns; first += SLICE, pairs += STEPS_OF_TWO * SIDE, scales += SIDE) {
        int64_t count = columns - first < SLICE ? columns - first : SLICE;
        int16_t words[SLICE];
        int32_t bits[SLICE], most = 0;
        float largest;
        memcpy(bits, x + first, (size_t)count * sizeof(float));
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < count; i++) { /* as whole numbers, what is no number is larger than all that are */
            int32_t magnitude = bits[i] & 0x7FFFFFFF;
            most = magnitude > most ? magnitude : most;
        }
        memcpy(&largest, &most, sizeof largest);
        scales[place] = round_words(x + first, largest, count, words);
        for (int64_t i = 0; i < STEPS_OF_TWO; i++) memcpy(pairs + i * SIDE + place, words + 2 * i, sizeof(int32_t));
    }
}

/* pairs[STEPS_OF_TWO] = the weights w[columns]; returns their scale. */
INLINE float round_weights(const uint16_t *w, const Kind kind, int64_t columns, int32_t *pairs) {
    float floats[SLICE], largest[LANES];
    uint16_t padded[SLICE], most = 0;
    int16_t words[SLICE];
    if (columns < SLICE) {
        memset(padded, 0, sizeof padded);
        w = memcpy(padded, w, (size_t)columns * sizeof(uint16_t));
    }
#pragma omp simd reduction(max : most)
    for (int i = 0; i < SLICE; i++) {
        uint16_t magnitude = w[i] & 0x7FFF;
        most = magnitude > most ? magnitude : most;
    }
    for (int i = 0; i < SLICE; i += LANES) store_float(floats + i, load_weights(w + i, kind));
    uint16_t same[LANES];
    for (int i = 0; i < LANES; i++) same[i] = most;
    store_float(largest, load_weights(same, kind));
    float scale = round_words(floats, largest[0], SLICE, words);
    memcpy(pairs, words, sizeof words);
    return scale;
}

/* sums[rows][stride] += some weights[rows][STEPS_OF_TWO] times pairs[STEPS_OF_TWO][SIDE], the tokens of some vectors
 * side by side. */
INLINE void multiply_tile(const int rows, const int vectors, const int32_t *weights, const float *weight_scales,
                          const int32_t *pairs, const float *scales, float *sums, int64_t stride) {
    vint sum[ROWS * TILE_VECTORS][TILE_VECTORS];
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = int_set(0);
    }
    UNROLL_8 for (int c = 0; c < STEPS_OF_TWO; c++) {
        vint tokens[TILE_VECTORS];
        UNROLL for (int v = 0; v < vectors; v++) tokens[v] = load_int(pairs + c * SIDE + v * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            vint weight = int_set(weights[r * STEPS_OF_TWO + c]);
            if (vectors == TILE_VECTORS) word_dots(sum[r], tokens, weight);
            else sum[r][0] = dot_words(sum[r][0], tokens[0], weight);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            float *to = sums + r * stride + v * LANES;
            vfloat scale = mul(float_set(weight_scales[r]), load_float(scales + v * LANES));
            store_float(to, fma_(to_float(sum[r][v]), scale, load_float(to)));
        }
    }
}

/* The rows of a band from w[rows][columns]: sums[BAND][width] = they times the words of `tokens`. */
static void multiply_band(const uint16_t *w, int kind, int64_t rows, int64_t columns, const Words *words, int64_t tokens,
                          int64_t width, float *sums) {
    int32_t weights[BAND * STEPS_OF_TWO];
    float weight_scales[BAND];
    memset(weights, 0, sizeof weights);
    memset(weight_scales, 0, sizeof weight_scales);
    memset(sums, 0, (size_t)(BAND * width) * sizeof(float));
    for (int64_t slice = 0; slice < words->slices; slice++) {
        int64_t first = slice * SLICE, count = columns - first < SLICE ? columns - first : SLICE;
        for (int64_t r = 0; r < rows; r++) {
            const uint16_t *from = w + r * columns + first;
            int32_t *to = weights + r * STEPS_OF_TWO;
            weight_scales[r] = kind == FLOAT16 ? round_weights(from, FLOAT16, count, to) : round_weights(from, BFLOAT16, count, to);
        }
        for (int64_t t = 0; t < tokens; t += SIDE) {
            const int32_t *pairs = words->pairs + (t * words->slices + slice * SIDE) * STEPS_OF_TWO;
            const float *scales = words->scales + t * words->slices + slice * SIDE;
            if (tokens - t > LANES) {
                for (int64_t r = 0; r < rows; r += ROWS)
                    multiply_tile(ROWS, TILE_VECTORS, weights + r * STEPS_OF_TWO, weight_scales + r, pairs, scales,
                                  sums + r * width + t, width);
            } else { /* a vector of them is left: more rows at once instead */
                for (int64_t r = 0; r < rows; r += ROWS * TILE_VECTORS)
                    multiply_tile(ROWS * TILE_VECTORS, 1, weights + r * STEPS_OF_TWO, weight_scales + r, pairs, scales,
                                  sums + r * width + t, width);
            }
        }
    }
}

/* out[tokens][rows] = w[rows][columns], of `kind`, times x[tokens][columns], for many tokens. Returns -1 when memory is
 * short. */
EXPORT int glmtui_multiply_many_halves(const uint16_t *w, int kind, int64_t rows, int64_t columns, const float *x,
                                       int64_t tokens, float *out, int threads) {
    int64_t most = tokens < MOST ? ceil_div(tokens, SIDE) * SIDE : MOST, bands = ceil_div(rows, BAND);
    Words words = {.slices = ceil_div(columns, SLICE)};
    words.pairs = malloc((size_t)(most * words.slices) * (STEPS_OF_TWO * sizeof(int32_t) + sizeof(float)));
    int failed = !words.pairs;
    if (!failed) words.scales = (float *)(words.pairs + most * words.slices * STEPS_OF_TWO);
    for (int64_t from = 0; from < tokens && !failed; from += MOST) {
        int64_t count = tokens - from < MOST ? tokens - from : MOST, width = ceil_div(count, SIDE) * SIDE;
#pragma omp parallel num_threads(threads) reduction(| : failed)
        {
            float *sums = malloc((size_t)(BAND * width) * sizeof(float));
            failed |= !sums;
#pragma omp for schedule(static)
            for (int64_t t = 0; t < width; t += SIDE) {
                int32_t *pairs = words.pairs + t * words.slices * STEPS_OF_TWO;
                float *scales = words.scales + t * words.slices;
                if (count - t < SIDE) {
                    memset(pairs, 0, (size_t)(SIDE * words.slices * STEPS_OF_TWO) * sizeof(int32_t));
                    memset(scales, 0, (size_t)(SIDE * words.slices) * sizeof(float));
                }
                for (int64_t i = 0; i < SIDE && t + i < count; i++)
                    round_token(x + (from + t + i) * columns, columns, i, pairs, scales);
            }
#pragma omp for schedule(dynamic, 1)
            for (int64_t b = 0; b < bands; b++) {
                int64_t first = b * BAND, some = rows - first < BAND ? rows - first : BAND;
                if (!sums) continue;
                multiply_band(w + first * columns, kind, some, columns, &words, count, width, sums);
                for (int64_t t = 0; t < count; t++)
                    for (int64_t r = 0; r < some; r++) out[(from + t) * rows + first + r] = sums[r * width + t];
            }
            free(sums);
        }
    }
    free(words.pairs);
    return failed ? -1 : 0;
}
