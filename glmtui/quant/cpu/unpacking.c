/* Weights back as floating point, for the products that PyTorch makes: those of a gradient above all. */
#include "product.h"

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

/* out[16 x (last - first)][columns] = the weights of those blocks of 16 rows; rows past the matrix's are left out. */
EXPORT void glmtui_unpack(const Matrix *m, int64_t first, int64_t last, float *out, int threads) {
    int64_t groups = ceil_div(m->columns, GROUP);
#pragma omp parallel for schedule(static) num_threads(threads) if (last - first > 1)
    for (int64_t block = first; block < last; block++) {
        int64_t rows = m->rows - block * BLOCK < BLOCK ? m->rows - block * BLOCK : BLOCK;
        for (int64_t g = 0; g < groups; g++) {
            int64_t at = block * groups + g, left = m->columns - g * GROUP, count = left < GROUP ? left : GROUP;
            int8_t steps[STEPS * CHUNK];
            float scales[BLOCK];
            steps_of(m, at, steps);
            if (m->row_scales)
                memcpy(scales, m->row_scales + block * BLOCK, sizeof scales);
            else
                for (int i = 0; i < BLOCK; i += LANES) store_float(scales + i, load_half(m->scales + at * BLOCK + i));
            for (int64_t r = 0; r < rows; r++) {
                int8_t q[GROUP];
                float w[GROUP];
                for (int s = 0; s < STEPS; s++) memcpy(q + 4 * s, steps + s * CHUNK + r * 4, 4);
                for (int s = 0; s < SUBS; s++) {
                    int factor = 1;
                    if (m->factors) factor = m->factors[(at * SUBS / 2 + s / 2) * BLOCK + r] >> (s % 2 * 4) & 15;
                    for (int i = 0; i < SUB; i++) w[s * SUB + i] = (float)(q[s * SUB + i] * factor) * scales[r];
                }
                memcpy(out + ((block - first) * BLOCK + r) * m->columns + g * GROUP, w, (size_t)count * sizeof(float));
            }
        }
    }
}
