/* What a gradient needs of the weights: them as floating point again, and the product of a gradient with them. */
#include <stdlib.h>

#include "product.h"

enum { TOKENS = 4, STRIP = 4 * LANES }; /* of the gradient's product: what is summed in registers at a time */

/* One group of 16 rows as signed bytes, [STEPS][BLOCK][4], in units of its scales (and of INT4's factors). */
static void steps_of(const Matrix *m, int64_t at, int8_t *RESTRICT out) {
    if (m->bits == 8 && !m->low) {
        memcpy(out, m->values + at * STEPS * CHUNK, STEPS * CHUNK);
        return;
    }
    const uint8_t *values = m->values + at * STEPS * CHUNK / 2, *low = m->low ? m->low + at * STEPS * CHUNK / 2 : NULL;
    for (int c = 0; c < STEPS / 2; c++) {
        const uint8_t *v = values + c * CHUNK;
        int8_t *first = out + 2 * c * CHUNK, *second = first + CHUNK;
        if (low) {
            const uint8_t *w = low + c * CHUNK;
            for (int i = 0; i < CHUNK; i++) {
                uint8_t high = v[i] ^ 0x88;
                first[i] = (int8_t)(uint8_t)(high << 4 | (w[i] & 15));
                second[i] = (int8_t)(uint8_t)((high & 0xF0) | w[i] >> 4);
            }
        } else {
            for (int i = 0; i < CHUNK; i++) {
                first[i] = (int8_t)((v[i] & 15) - 8);
                second[i] = (int8_t)((v[i] >> 4) - 8);
            }
        }
    }
}

/* A group of a block of rows as floating point; rows past the matrix's are zero. */
static void unpack_group(const Matrix *m, int64_t block, int64_t g, float (*RESTRICT out)[GROUP]) {
    int64_t at = block * ceil_div(m->columns, GROUP) + g;
    int8_t steps[STEPS * CHUNK];
    float scales[BLOCK];
    steps_of(m, at, steps);
    if (m->row_scales)
        memcpy(scales, m->row_scales + block * BLOCK, sizeof scales);
    else
        for (int i = 0; i < BLOCK; i += LANES) store_float(scales + i, load_half(m->scales + at * BLOCK + i));
    for (int r = 0; r < BLOCK; r++) {
        int8_t q[GROUP];
        for (int s = 0; s < STEPS; s++) memcpy(q + 4 * s, steps + s * CHUNK + r * 4, 4);
        for (int s = 0; s < SUBS; s++) {
            int factor = 1;
            if (m->factors) factor = m->factors[(at * SUBS / 2 + s / 2) * BLOCK + r] >> (s % 2 * 4) & 15;
            for (int i = 0; i < SUB; i++) out[r][s * SUB + i] = (float)(q[s * SUB + i] * factor) * scales[r];
        }
    }
}

/* out[16 x (last - first)][columns] = the weights of those blocks of 16 rows; rows past the matrix's are left out. */
EXPORT void glmtui_unpack(const Matrix *m, int64_t first, int64_t last, float *out, int threads) {
    int64_t groups = ceil_div(m->columns, GROUP);
#pragma omp parallel for schedule(static) num_threads(threads) if (last - first > 1)
    for (int64_t block = first; block < last; block++) {
        int64_t rows = m->rows - block * BLOCK;
        for (int64_t g = 0; g < groups; g++) {
            int64_t left = m->columns - g * GROUP;
            float w[BLOCK][GROUP];
            unpack_group(m, block, g, w);
            for (int r = 0; r < BLOCK && r < rows; r++)
                memcpy(out + ((block - first) * BLOCK + r) * m->columns + g * GROUP, w[r],
                       (size_t)(left < GROUP ? left : GROUP) * sizeof(float));
        }
    }
}

/* sums[n][GROUP] += gradient[n][BLOCK] times w, for `n` <= TOKENS tokens. */
INLINE void add_products(const float *RESTRICT gradient, const float (*RESTRICT w)[GROUP], int n, float *RESTRICT sums) {
    for (int c = 0; c < GROUP; c += STRIP) {
        vfloat sum[TOKENS][4];
        UNROLL for (int t = 0; t < n; t++)
            UNROLL for (int v = 0; v < 4; v++) sum[t][v] = load_float(sums + t * GROUP + c + v * LANES);
        for (int r = 0; r < BLOCK; r++) {
            vfloat row[4];
            UNROLL for (int v = 0; v < 4; v++) row[v] = load_float(w[r] + c + v * LANES);
            UNROLL for (int t = 0; t < n; t++) {
                vfloat factor = float_set(gradient[t * BLOCK + r]);
                UNROLL for (int v = 0; v < 4; v++) sum[t][v] = fma_(factor, row[v], sum[t][v]);
            }
        }
        UNROLL for (int t = 0; t < n; t++)
            UNROLL for (int v = 0; v < 4; v++) store_float(sums + t * GROUP + c + v * LANES, sum[t][v]);
    }
}

/* out[tokens][columns] = gradient[tokens][rows] times the matrix as it is stored. Returns -1 when memory is short.
 * Each thread takes columns for itself, whose sums stay in its cache while all rows go by. */
EXPORT int glmtui_multiply_gradient(const Matrix *m, const float *gradient, int64_t tokens, float *out, int threads) {
    int64_t groups = ceil_div(m->columns, GROUP), blocks = ceil_div(m->rows, BLOCK);
    float *by_block = malloc((size_t)(blocks * tokens) * BLOCK * sizeof(float)); /* [blocks][tokens][BLOCK] */
    float *sums = malloc((size_t)(groups * tokens) * GROUP * sizeof(float));    /* [groups][tokens][GROUP] */
    if (!by_block || !sums) {
        free(by_block);
        free(sums);
        return -1;
    }
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t t = 0; t < tokens; t++)
                for (int r = 0; r < BLOCK; r++) {
                    int64_t row = block * BLOCK + r;
                    by_block[(block * tokens + t) * BLOCK + r] = row < m->rows ? gradient[t * m->rows + row] : 0;
                }
#pragma omp for schedule(dynamic, 1)
        for (int64_t g = 0; g < groups; g++) {
            float *mine = sums + g * tokens * GROUP;
            memset(mine, 0, (size_t)tokens * GROUP * sizeof(float));
            for (int64_t block = 0; block < blocks; block++) {
                float w[BLOCK][GROUP];
                const float *of_block = by_block + block * tokens * BLOCK;
                int64_t t = 0;
                unpack_group(m, block, g, w);
                for (; t + TOKENS <= tokens; t += TOKENS)
                    add_products(of_block + t * BLOCK, w, TOKENS, mine + t * GROUP);
                for (; t < tokens; t++) add_products(of_block + t * BLOCK, w, 1, mine + t * GROUP);
            }
            int64_t left = m->columns - g * GROUP;
            for (int64_t t = 0; t < tokens; t++)
                memcpy(out + t * m->columns + g * GROUP, mine + t * GROUP,
                       (size_t)(left < GROUP ? left : GROUP) * sizeof(float));
        }
    }
    free(by_block);
    free(sums);
    return 0;
}
