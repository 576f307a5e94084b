/* The product with one token: what decoding takes, bound by memory.
 *
 * Every block of rows reads its weights once, from front to back: one vector holds many rows, so no sum runs
 * across a vector.
 */
#include <stdlib.h>

#include "product.h"

enum { AHEAD = 2048 }; /* bytes that weights are fetched ahead of their use */

/* The product of one block of rows with the activations of one group. `zeros`: sub_zero of every sub-group. */
INLINE void group_i4(const uint8_t *w, const uint8_t *factors, const int8_t *a, const int32_t *zeros,
                     vfloat *total) {
    vint sum[VECTORS], pair[VECTORS];
    for (int v = 0; v < VECTORS; v++) sum[v] = int_set(0);
    UNROLL for (int s = 0; s < SUBS; s++) {
        vsub part[VECTORS];
        for (int v = 0; v < VECTORS; v++) part[v] = sub_start(zeros[s]);
        UNROLL for (int c = s * (SUB / 8); c < (s + 1) * (SUB / 8); c++) {
            int32_t low = four_bytes(a + c * 8), high = four_bytes(a + c * 8 + 4);
            for (int v = 0; v < VECTORS; v++) {
                vbytes packed = load_bytes(w + c * CHUNK + v * LANES * 4);
                part[v] = sub_dot(part[v], low_nibbles(packed), low);
                part[v] = sub_dot(part[v], high_nibbles(packed), high);
            }
        }
        for (int v = 0; v < VECTORS; v++) {
            if (factors && s % 2 == 0) pair[v] = load_factors(factors + (s / 2) * BLOCK + v * LANES);
            vint factor = !factors ? factor_set(1) : s % 2 ? high_factors(pair[v]) : low_factors(pair[v]);
            sum[v] = sub_end(sum[v], part[v], factor);
        }
    }
    for (int v = 0; v < VECTORS; v++) total[v] = to_float(sum[v]);
}

/* `bias`: -TILE_BIAS x the sum of the activations. */
INLINE void group_i8(const uint8_t *w, const int8_t *a, int32_t bias, vfloat *total) {
    vint even[VECTORS], odd[VECTORS];
    for (int v = 0; v < VECTORS; v++) even[v] = int_set(bias), odd[v] = int_set(0);
    for (int step = 0; step < STEPS; step += 2) {
        for (int v = 0; v < VECTORS; v++) {
            const uint8_t *p = w + step * CHUNK + v * LANES * 4;
            even[v] = dot_i8(even[v], bytes_xor(load_bytes(p), bytes_set(TILE_BIAS)), four_bytes(a + step * 4));
            odd[v] = dot_i8(odd[v], bytes_xor(load_bytes(p + CHUNK), bytes_set(TILE_BIAS)),
                            four_bytes(a + step * 4 + 4));
        }
    }
    for (int v = 0; v < VECTORS; v++) total[v] = to_float(int_add(even[v], odd[v]));
}

/* One block of rows times one token: out[BLOCK]. `zeros`: of every group SUBS for INT4, one for INT8. */
INLINE void multiply_block(const Matrix *m, const int bits, const int has_factors, int64_t block,
                           const int8_t *a, const float *a_scales, const int32_t *zeros, float *out) {
    const int group_bytes = BLOCK * GROUP / 8 * bits;
    int64_t groups = ceil_div(m->columns, GROUP);
    vfloat total[VECTORS];
    for (int v = 0; v < VECTORS; v++) total[v] = float_set(0);
    for (int64_t g = 0; g < groups; g++) {
        int64_t at = block * groups + g;
        const uint8_t *w = m->values + at * group_bytes;
        vfloat sum[VECTORS];
        /* The processor's own fetching ahead stops at every page. */
        for (int i = 0; i < group_bytes; i += 64) PREFETCH(w + AHEAD + i);
        if (m->scales) PREFETCH(m->scales + (at + AHEAD / group_bytes) * BLOCK);
        if (has_factors) PREFETCH(m->factors + (at + AHEAD / group_bytes) * (SUBS / 2 * BLOCK));
        if (bits == 4)
            group_i4(w, has_factors ? m->factors + at * (SUBS / 2 * BLOCK) : NULL, a + g * GROUP,
                     zeros + g * SUBS, sum);
        else
            group_i8(w, a + g * GROUP, zeros[g], sum);
        for (int v = 0; v < VECTORS; v++) {
            vfloat scale = float_set(a_scales[g]);
            if (m->scales) scale = mul(scale, load_half(m->scales + at * BLOCK + v * LANES));
            total[v] = fma_(sum[v], scale, total[v]);
        }
    }
    for (int v = 0; v < VECTORS; v++) {
        if (m->row_scales) total[v] = mul(total[v], load_float(m->row_scales + block * BLOCK + v * LANES));
        store_float(out + v * LANES, total[v]);
    }
}

int multiply_one(const Matrix *m, const float *x, float *out, int threads) {
    int64_t groups = ceil_div(m->columns, GROUP), blocks = ceil_div(m->rows, BLOCK);
    char *memory = malloc((size_t)groups * (GROUP + sizeof(float) + SUBS * sizeof(int32_t)));
    if (!memory) return -1;
    int32_t *zeros = (int32_t *)memory;
    float *a_scales = (float *)(zeros + groups * SUBS);
    int8_t *a = (int8_t *)(a_scales + groups);
    for (int64_t g = 0; g < groups; g++) {
        int64_t left = m->columns - g * GROUP;
        a_scales[g] = quantize_group(x + g * GROUP, left < GROUP ? left : GROUP, a + g * GROUP);
        take_zeros(m->bits, a + g * GROUP, m->bits == 4 ? zeros + g * SUBS : zeros + g);
    }
    /* Pieces small enough that a thread held up by another program costs little, large enough to stream. */
    int64_t block_bytes = groups * BLOCK * GROUP / 8 * m->bits, all = blocks * block_bytes;
    int64_t bytes = all / (16 * threads);
    bytes = bytes < (64 << 10) ? 64 << 10 : bytes > (512 << 10) ? 512 << 10 : bytes;
    int64_t piece = 1 + bytes / block_bytes, pieces = ceil_div(blocks, piece);
    if (all < (64 << 10)) threads = 1;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
    for (int64_t p = 0; p < pieces; p++) {
        int64_t end = (p + 1) * piece < blocks ? (p + 1) * piece : blocks;
        for (int64_t block = p * piece; block < end; block++) {
            float result[BLOCK];
            if (m->bits == 8)
                multiply_block(m, 8, 0, block, a, a_scales, zeros, result);
            else if (m->factors)
                multiply_block(m, 4, 1, block, a, a_scales, zeros, result);
            else
                multiply_block(m, 4, 0, block, a, a_scales, zeros, result);
            int64_t row = block * BLOCK, count = m->rows - row < BLOCK ? m->rows - row : BLOCK;
            for (int64_t r = 0; r < count; r++) out[row + r] = result[r] + (m->bias ? m->bias[row + r] : 0.0f);
        }
    }
    free(memory);
    return 0;
}
