/* The product with one token or a few: what decoding takes, bound by memory.
 *
 * Every block of rows reads its weights once, from front to back, and unpacks them once for some tokens: one vector
 * holds many rows, so no sum runs across a vector. Tokens get the same numbers next to others as alone, to the bit, and
 * those that gemm.c gives them too: within a group all sums are of integers, and groups are added one by one.
 */
#include <stdlib.h>

#include "product.h"

typedef enum { BYTES, NIBBLES, FACTORS } Kind; /* of code: nibbles of which all groups count alike, or with their factors */

/* What of a matrix is multiplied. A weight in two planes is 16 (high - 8) + low: the high one alone takes 8 for all of
 * low; what the low one adds to that has the zero point 8, like INT4. */
typedef struct {
    const uint8_t *values;
    int32_t whole;   /* what a nibble without factors counts for */
    int32_t instead; /* of what is left out, for each activation */
} Plane;

INLINE Plane first_plane(const Matrix *m) { return m->low ? (Plane){m->values, 16, 8} : (Plane){m->values, 1, 0}; }

/* Bytes ahead of what is multiplied that are fetched, a line with every line: the processor's own fetching ahead stops at
 * every page, and many lines at once would have to wait for each other. */
enum { AHEAD = 8 << 10, GROUPS_AHEAD = 8 };

/* Below, `a`, `zeros` and `sums` are what one group of `tokens` tokens was rounded to, and `total` is its product with
 * `width` vectors of rows. */

/* Without `factors` every sub-group has the same one, `whole`. */
INLINE void group_i4(const int tokens, const int width, const uint8_t *w, const uint8_t *factors, int32_t whole,
                     const int8_t *a, const int32_t *zeros, vint (*total)[VECTORS]) {
    vint pair[VECTORS];
    UNROLL for (int s = 0; s < SUBS; s++) {
        vsub part[FEW_TOKENS][VECTORS];
        UNROLL for (int t = 0; t < tokens; t++) {
            UNROLL for (int v = 0; v < width; v++) part[t][v] = sub_start(zeros[s * tokens + t]);
        }
        UNROLL for (int c = 0; c < SUB / 8; c++, w += CHUNK, a += 8 * tokens) {
            UNROLL for (int v = 0; v < width; v++) {
                if (v == 0) PREFETCH(w + AHEAD);
                vbytes packed = load_bytes(w + v * LANES * 4);
                IN_REGISTER(packed);
                vbytes low = low_nibbles(packed), high = high_nibbles(packed);
                UNROLL for (int t = 0; t < tokens; t++) part[t][v] = sub_at(part[t][v], low, a + t * 4);
                UNROLL for (int t = 0; t < tokens; t++) part[t][v] = sub_at(part[t][v], high, a + (tokens + t) * 4);
            }
        }
        UNROLL for (int v = 0; v < width; v++) {
            if (factors && s % 2 == 0) pair[v] = load_factors(factors + (s / 2) * BLOCK + v * LANES);
            vint factor = !factors ? factor_set(whole) : s % 2 ? high_factors(pair[v]) : low_factors(pair[v]);
            UNROLL for (int t = 0; t < tokens; t++) total[t][v] = sub_end(total[t][v], part[t][v], factor);
        }
    }
}

INLINE void group_i8(const int tokens, const int width, const uint8_t *w, const int8_t *a, vint (*total)[VECTORS]) {
    const int alone = tokens == 1; /* else the sums of other tokens fill the time that a sum takes */
    vint odd[VECTORS];
    UNROLL for (int v = 0; v < width; v++) odd[v] = int_set(0);
    UNROLL_8 for (int step = 0; step < STEPS; step += 2) {
        UNROLL for (int v = 0; v < width; v++) {
            const uint8_t *p = w + step * CHUNK + v * LANES * 4;
            if (v == 0) PREFETCH(p + AHEAD);
            if (v == 0) PREFETCH(p + CHUNK + AHEAD);
            vbytes first = bytes_xor(load_bytes(p), bytes_set(TILE_BIAS));
            vbytes second = bytes_xor(load_bytes(p + CHUNK), bytes_set(TILE_BIAS));
            UNROLL for (int t = 0; t < tokens; t++)
                total[t][v] = dot_at(total[t][v], first, a + (step * tokens + t) * 4);
            UNROLL for (int t = 0; t < tokens; t++) {
                vint *sum = alone ? &odd[v] : &total[t][v];
                *sum = dot_at(*sum, second, a + ((step + 1) * tokens + t) * 4);
            }
        }
    }
    UNROLL for (int v = 0; v < width && alone; v++) total[0][v] = int_add(total[0][v], odd[v]);
}

/* One block of rows times `tokens` tokens from `first` on: out[tokens][BLOCK]. */
INLINE void multiply_block(const Matrix *m, Plane plane, const Kind kind, const int tokens, int64_t block,
                           const Rounded *x, int64_t first, float (*out)[BLOCK]) {
    const int group_bytes = kind == BYTES ? BLOCK * GROUP : BLOCK * GROUP / 2;
    const int width = tokens == 1 ? VECTORS : 1; /* at a time: many tokens' sums leave no more registers */
    int64_t groups = ceil_div(m->columns, GROUP);
    vfloat total[FEW_TOKENS][VECTORS];
    UNROLL for (int t = 0; t < tokens; t++) {
        UNROLL for (int v = 0; v < VECTORS; v++) total[t][v] = float_set(0);
    }
    for (int64_t g = 0; g < groups; g++) {
        int64_t at = block * groups + g, place = g * x->tokens + first;
        const uint8_t *w = plane.values + at * group_bytes;
        const uint8_t *factors = kind == FACTORS ? m->factors + at * (SUBS / 2 * BLOCK) : NULL;
        const int8_t *a = x->values + place * GROUP;
        const int32_t *zeros = x->zeros + place * SUBS, *sums = x->sums + place;
        const float *scales = x->scales + place;
        if (m->scales) PREFETCH(m->scales + (at + GROUPS_AHEAD) * BLOCK);
        if (factors) PREFETCH(factors + GROUPS_AHEAD * (SUBS / 2 * BLOCK));
        for (int v = 0; v < VECTORS; v += width) {
            const uint8_t *rows = w + v * LANES * 4;
            FORGET(a);
            FORGET(zeros);
            FORGET(scales);
            vint sum[FEW_TOKENS][VECTORS];
            UNROLL for (int t = 0; t < tokens; t++) {
                int32_t start = (kind == BYTES ? -TILE_BIAS : plane.instead) * sums[t];
                UNROLL for (int i = 0; i < width; i++) sum[t][i] = int_set(start);
            }
            if (kind == BYTES) group_i8(tokens, width, rows, a, sum);
            else group_i4(tokens, width, rows, factors ? factors + v * LANES : NULL, plane.whole, a, zeros, sum);
            UNROLL for (int i = 0; i < width; i++) {
                vfloat own = m->scales ? load_half(m->scales + at * BLOCK + (v + i) * LANES) : float_set(1);
                UNROLL for (int t = 0; t < tokens; t++)
                    total[t][v + i] = fma_(to_float(sum[t][i]), mul(own, float_set(scales[t])), total[t][v + i]);
            }
        }
    }
    UNROLL for (int v = 0; v < VECTORS; v++) {
        vfloat own = m->row_scales ? load_float(m->row_scales + block * BLOCK + v * LANES) : float_set(1);
        UNROLL for (int t = 0; t < tokens; t++) store_float(out[t] + v * LANES, mul(total[t][v], own));
    }
}

/* Each number of tokens has code of its own, whose sums stay in registers. */
#define TIMES(n) \
    case n: \
        if (n <= FEW_TOKENS) multiply_block(m, first_plane(m), kind, n, block, x, first, out); \
        return;

INLINE void multiply_kind(const Matrix *m, const Kind kind, int tokens, int64_t block, const Rounded *x, int64_t first,
                          float (*out)[BLOCK]) {
    switch (tokens) { TIMES(1) TIMES(2) TIMES(3) TIMES(4) TIMES(5) TIMES(6) TIMES(7) TIMES(8) }
}

static void multiply_some(const Matrix *m, int tokens, int64_t block, const Rounded *x, int64_t first,
                          float (*out)[BLOCK]) {
    if (m->factors) multiply_kind(m, FACTORS, tokens, block, x, first, out);
    else if (m->low || m->bits == 4) multiply_kind(m, NIBBLES, tokens, block, x, first, out);
    else multiply_kind(m, BYTES, tokens, block, x, first, out);
}

void multiply_blocks(const Matrix *m, const Rounded *x, int64_t first, int64_t count, float *out, int64_t stride) {
    for (int64_t i = 0; i < count; i++) {
        int64_t row = (first + i) * BLOCK, rows = m->rows - row < BLOCK ? m->rows - row : BLOCK;
        for (int64_t start = 0; start < x->tokens; start += FEW_TOKENS) {
            float result[FEW_TOKENS][BLOCK];
            int tokens = x->tokens - start < FEW_TOKENS ? (int)(x->tokens - start) : FEW_TOKENS;
            multiply_some(m, tokens, first + i, x, start, result);
            for (int t = 0; t < tokens; t++) {
                float *to = out + (start + t) * stride + i * BLOCK;
                for (int64_t r = 0; r < rows; r++) to[r] = result[t][r] + (m->bias ? m->bias[row + r] : 0.0f);
            }
        }
    }
}

void multiply_rounded(const Matrix *m, const Rounded *x, const float *residual, float weight, float *out) {
    int64_t groups = ceil_div(m->columns, GROUP), blocks = ceil_div(m->rows, BLOCK);
    int64_t block_bytes = groups * BLOCK * GROUP / 8 * (m->low ? 4 : m->bits);
    int64_t piece = ceil_div(LEAST_BYTES, block_bytes), pieces = ceil_div(blocks, piece);
#pragma omp for IN_SHARES
    for (int64_t p = 0; p < pieces; p++) {
        int64_t end = (p + 1) * piece < blocks ? (p + 1) * piece : blocks;
        for (int64_t block = p * piece; block < end; block++) {
            int64_t row = block * BLOCK, count = m->rows - row < BLOCK ? m->rows - row : BLOCK;
            float result[FEW * BLOCK];
            multiply_blocks(m, x, block, 1, result, BLOCK);
            for (int64_t t = 0; t < x->tokens; t++) {
                int64_t at = t * m->rows + row;
                for (int64_t r = 0; r < count; r++)
                    out[at + r] = result[t * BLOCK + r] + (residual ? weight * residual[at + r] : 0.0f);
            }
        }
    }
}

int gemv(const Matrix *m, const float *x, int64_t tokens, float *out, int threads) {
    int64_t groups = ceil_div(m->columns, GROUP);
    void *memory = malloc(rounded_bytes(m->columns, tokens));
    if (!memory) return -1;
    Rounded rounded = rounded_at(memory, m->columns, tokens);
    if (m->rows * m->columns * m->bits / 8 * tokens < (64 << 10)) threads = 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t g = 0; g < groups; g++) round_all(x, m->columns, g, &rounded);
        multiply_rounded(m, &rounded, NULL, 0, out);
    }
    free(memory);
    return 0;
}

int gemv_refine(const Matrix *m, const float *x, int64_t tokens, const int64_t *blocks, int64_t count, float *out,
                int threads) {
    size_t each = ceil_div((int64_t)rounded_bytes(m->columns, 1), 64) * 64;
    char *memory = malloc(each * (size_t)tokens);
    if (!memory) return -1;
#pragma omp parallel num_threads(threads) if (count * tokens > 8)
    {
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tokens; t++) {
            Rounded rounded = rounded_at(memory + each * (size_t)t, m->columns, 1);
            for (int64_t g = 0; g < ceil_div(m->columns, GROUP); g++) round_all(x + t * m->columns, m->columns, g, &rounded);
        }
#pragma omp for schedule(dynamic, 8)
        for (int64_t i = 0; i < count * tokens; i++) {
            float result[1][BLOCK];
            Rounded rounded = rounded_at(memory + each * (size_t)(i / count), m->columns, 1);
            int64_t row = blocks[i] * BLOCK, left = m->rows - row;
            multiply_block(m, (Plane){m->low, 1, 0}, NIBBLES, 1, blocks[i], &rounded, 0, result);
            for (int64_t r = 0; r < BLOCK && r < left; r++) out[i / count * m->rows + row + r] += result[0][r];
        }
    }
    free(memory);
    return 0;
}
