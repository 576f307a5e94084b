/* What the products with one token (gemv.c) and with many (gemm.c) share: the matrix, and how float
 * activations are rounded to signed bytes with one scale per token and 128 columns.
 */
#ifndef GLMTUI_PRODUCT_H
#define GLMTUI_PRODUCT_H

#include <math.h>

#include "layout.h"

enum { VECTORS = BLOCK / LANES }; /* vectors in a block */

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

/* What one token's activations are rounded to, with room for all groups of some columns. */
typedef struct {
    int8_t *values; /* [groups][GROUP] */
    float *scales;  /* [groups] */
    int32_t *zeros; /* [groups][SUBS]: sub_zero of every sub-group */
    int32_t *sums;  /* [groups]: of the values */
} Rounded;

/* out[rows] = the matrix times what x[columns] was rounded to, plus its bias, plus `weight` x residual[rows] (which
 * may be `out`, or NULL). For all `threads` of a team: each calls it, and leaves when all of it is there. */
void multiply_rounded(const Matrix *m, const Rounded *x, const float *residual, float weight, float *out, int threads);

/* out[rows] = the matrix times x[columns], plus its bias. Returns -1 when memory is short. Of a matrix in two planes
 * only the high one is read; gemv_refine adds to it. */
int gemv(const Matrix *m, const float *x, float *out, int threads);

/* Adds to `out`, of a matrix in two planes, what the low one of `count` blocks of rows makes of x. */
int gemv_refine(const Matrix *m, const float *x, const int64_t *blocks, int64_t count, float *out, int threads);

/* out[tokens][rows] = the matrix, both of its planes, times x[tokens][columns], plus its bias. */
int gemm(const Matrix *m, const float *x, int64_t tokens, float *out, int threads);

INLINE int32_t four_bytes(const int8_t *p) {
    int32_t r;
    memcpy(&r, p, 4);
    return r;
}

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

INLINE size_t rounded_bytes(int64_t columns) {
    return (size_t)ceil_div(columns, GROUP) * (GROUP + sizeof(float) + (SUBS + 1) * sizeof(int32_t));
}

/* `memory`: of rounded_bytes(columns), fit for any number. */
INLINE Rounded rounded_at(void *memory, int64_t columns) {
    int64_t groups = ceil_div(columns, GROUP);
    Rounded r = {.zeros = memory};
    r.sums = r.zeros + groups * SUBS;
    r.scales = (float *)(r.sums + groups);
    r.values = (int8_t *)(r.scales + groups);
    return r;
}

/* Rounds group `g` of x[columns]. */
INLINE void round_group(const float *x, int64_t columns, int64_t g, const Rounded *r) {
    int64_t left = columns - g * GROUP;
    int8_t *q = r->values + g * GROUP;
    r->scales[g] = quantize_group(x + g * GROUP, left < GROUP ? left : GROUP, q);
    for (int s = 0; s < SUBS; s++) r->zeros[g * SUBS + s] = sub_zero(q + s * SUB);
    r->sums[g] = byte_sum(q, GROUP);
}

#endif
