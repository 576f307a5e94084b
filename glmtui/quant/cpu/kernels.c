/* Products of INT8 and INT4 weights with float activations, for the CPU: what Python calls, and where the rest is.
 *
 * Weights lie as formats.py packs them (packing.c does): blocks of 16 rows, inside them groups of 128 columns,
 * inside these chunks of 64 bytes that hold 4 columns of every row (INT8), or 4 columns in the low and the next 4
 * in the high nibbles (INT4).
 *
 *   layout.h       these sizes            simd.h         vector operations, once per instruction set
 *   product.h      the matrix, and how activations are rounded
 *   gemv.c         its product with one token or a few, gemm.c with many
 *   halves.c       the same products of bfloat16 and float16 weights
 *   elementwise.c  activation functions, rotation, attention of few tokens
 *   attention.c    attention of many
 *   cached.c       keys and values with one byte a number, and attention to them
 *   layers.c       few tokens through all layers, made of these
 *   gradient.c     the product of a gradient with the weights, and them as floating point
 *   checksum.c     CRC-32 of files that are read
 */
#include "product.h"

/* How many tokens are few: what they get is that of each alone, and is bound by memory. */
EXPORT int glmtui_few(void) { return FEW; }

/* out[tokens][rows] = x[tokens][columns] times the matrix, plus its bias. Returns -1 when memory is short.
 * Few tokens' product with a matrix in two planes is that with the high one. */
EXPORT int glmtui_multiply(const Matrix *m, const float *x, int64_t tokens, float *out, int threads) {
    return tokens <= FEW ? gemv(m, x, tokens, out, threads) : gemm(m, x, tokens, out, threads);
}

/* Adds to out[tokens][rows], a product with a matrix in two planes, what the low one of some blocks makes of it. */
EXPORT int glmtui_refine(const Matrix *m, const float *x, int64_t tokens, const int64_t *blocks, int64_t count, float *out,
                         int threads) {
    return gemv_refine(m, x, tokens, blocks, count, out, threads);
}

/* Reads `bytes` of memory as gemv does and returns their sum, so that nothing is optimised away. */
EXPORT uint64_t glmtui_read(const uint8_t *p, int64_t bytes, int threads) {
    uint64_t sum = 0;
    int64_t pieces = bytes >> 17;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) reduction(+ : sum)
    for (int64_t i = 0; i < pieces; i++) {
        const uint64_t *words = (const uint64_t *)(p + (i << 17));
        uint64_t s = 0;
#pragma omp simd reduction(+ : s)
        for (int j = 0; j < 1 << 14; j++) s += words[j];
        sum += s;
    }
    return sum;
}

EXPORT const char *glmtui_isa(void) { return ISA_NAME; }

EXPORT int glmtui_has_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}
