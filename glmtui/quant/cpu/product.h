/* What the products with few tokens (gemv.c) and with many (gemm.c) share: the matrix, and how float
 * activations are rounded to signed bytes with one scale per token and 128 columns.
 */
#ifndef GLMTUI_PRODUCT_H
#define GLMTUI_PRODUCT_H

#include <math.h>

#include "layout.h"

enum {
    VECTORS = BLOCK / LANES, /* vectors in a block */
    LEAST_BYTES = 64 << 10,  /* of weights that a thread takes at once */
    FEW = 16,                /* tokens at most that gemv.c multiplies with: beyond, arithmetic takes more time than memory */
};

typedef struct {
    const uint8_t *values;    /* [blocks][groups][BLOCK * GROUP * bits / 8] */
    const uint8_t *low;       /* INT8 in two planes: the low nibbles, and `values` are the high ones; else NULL */
    const uint16_t *scales;   /* fp16 [blocks][groups][BLOCK], or NULL */
    const uint8_t *factors;   /* [blocks][groups][SUBS / 2][BLOCK], a nibble each, or NULL */
    const float *row_scales;  /* [blocks][BLOCK], or NULL */
    const float *bias;        /* [rows], or NULL */
    int64_t rows, columns;
    int32_t bits;
} Matrix;

/* What the activations of some tokens are rounded to, with room for all groups of some columns. FEW_TOKENS of them are
 * a tile, and the last ones another; what a tile multiplies at once lies side by side in one line of the cache: from lines
 * that lie apart by a power of two, two numbers are not read at the same time. */
typedef struct {
    int64_t tokens;
    int8_t *values; /* [groups][tiles][STEPS][tokens of the tile][4] */
    float *scales;  /* [groups][tokens] */
    int32_t *zeros; /* [groups][tiles][SUBS][tokens of the tile]: sub_zero of every sub-group */
    int32_t *sums;  /* [groups][tokens]: of the values */
} Rounded;

/* How threads share a product: much in one piece first, as a jump costs the time of tens of kilobytes, and less and less
 * then, so that a thread held up by another program costs little. */
#define IN_SHARES schedule(guided, 1)

/* out[tokens][stride]: `count` blocks of rows of the matrix, from `first` on, times what x[tokens][columns] was rounded to,
 * plus their bias. Nothing is written behind the matrix's last row. */
void multiply_blocks(const Matrix *m, const Rounded *x, int64_t first, int64_t count, float *out, int64_t stride);

/* out[tokens][rows] = the matrix times what x[tokens][columns] was rounded to, plus its bias, plus `weight` x
 * residual[tokens][rows] (which may be `out`, or NULL). For all threads of a team: each calls it, and leaves when all of
 * it is there. */
void multiply_rounded(const Matrix *m, const Rounded *x, const float *residual, float weight, float *out);

/* out[tokens][rows] = the matrix times x[tokens][columns], plus its bias; for few tokens. Returns -1 when memory is
 * short. Of a matrix in two planes only the high one is read; gemv_refine adds to it. */
int gemv(const Matrix *m, const float *x, int64_t tokens, float *out, int threads);

/* Adds to out[tokens][rows], the product with a matrix in two planes, what the low one of `count` blocks of rows makes of
 * each token's x[columns]: those of blocks[tokens][count]. Returns -1 when memory is short. */
int gemv_refine(const Matrix *m, const float *x, int64_t tokens, const int64_t *blocks, int64_t count, float *out,
                int threads);

/* out[tokens][rows] = the matrix, both of its planes, times x[tokens][columns], plus its bias. */
int gemm(const Matrix *m, const float *x, int64_t tokens, float *out, int threads);

/* Rounds one group: q = round(x / scale), scale = max |x| / 127. Columns past `count` are zero. */
INLINE float quantize_group(const float *RESTRICT x, int64_t count, int8_t *RESTRICT q) {
    float padded[GROUP];
    if (count < GROUP) {
        memset(padded, 0, sizeof padded);
        memcpy(padded, x, (size_t)count * sizeof(float));
        x = padded;
    }
    float largest = 0;
#pragma omp simd reduction(max : largest)
    for (int i = 0; i < GROUP; i++) {
        float magnitude = fabsf(x[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    float inverse = largest > 0 ? 127.0f / largest : 0.0f;
#pragma omp simd
    for (int i = 0; i < GROUP; i++) q[i] = (int8_t)(int32_t)rintf(x[i] * inverse);
    return largest / 127.0f;
}

INLINE int32_t byte_sum(const int8_t *q, int count) {
    int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < count; i++) sum += q[i];
    return sum;
}

INLINE size_t rounded_bytes(int64_t columns, int64_t tokens) {
    return (size_t)(ceil_div(columns, GROUP) * tokens) * (GROUP + sizeof(float) + (SUBS + 1) * sizeof(int32_t));
}

/* `memory`: of rounded_bytes(columns, tokens), fit for any number. */
INLINE Rounded rounded_at(void *memory, int64_t columns, int64_t tokens) {
    int64_t count = ceil_div(columns, GROUP) * tokens;
    Rounded r = {.tokens = tokens, .zeros = memory};
    r.sums = r.zeros + count * SUBS;
    r.scales = (float *)(r.sums + count);
    r.values = (int8_t *)(r.scales + count);
    return r;
}

/* Rounds x[count], group `g` of the activations of `token`. A group's tokens share lines of the cache: what rounds one of
 * them rounds all, as threads would fight for these. */
INLINE void round_group(const float *x, int64_t count, int64_t token, int64_t g, const Rounded *r) {
    int64_t at = g * r->tokens + token, in_tile = token % FEW_TOKENS;
    int64_t tile = at - in_tile, behind = r->tokens - (token - in_tile), width = behind < FEW_TOKENS ? behind : FEW_TOKENS;
    int8_t q[GROUP], *values = r->values + tile * GROUP + in_tile * 4;
    int32_t *zeros = r->zeros + tile * SUBS + in_tile;
    r->scales[at] = quantize_group(x, count, q);
    for (int step = 0; step < STEPS; step++) memcpy(values + step * width * 4, q + step * 4, 4);
    for (int s = 0; s < SUBS; s++) zeros[s * width] = sub_zero(q + s * SUB);
    r->sums[at] = byte_sum(q, GROUP);
}

/* Columns of group `g` of `columns`. */
INLINE int64_t in_group(int64_t columns, int64_t g) {
    int64_t left = columns - g * GROUP;
    return left < GROUP ? left : GROUP;
}

/* Rounds group `g` of all of x[tokens][columns]. */
INLINE void round_all(const float *x, int64_t columns, int64_t g, const Rounded *r) {
    for (int64_t t = 0; t < r->tokens; t++)
        round_group(x + t * columns + g * GROUP, in_group(columns, g), t, g, r);
}

#endif
