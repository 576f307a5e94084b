/* The product with one token: what decoding takes, bound by memory.
 *
 * Every block of rows reads its weights once, from front to back: one vector holds many rows, so no sum runs
 * across a vector.
 */
#include <stdlib.h>

#include "product.h"

/* The product of one block of rows with the activations of one group, added to `start`. `zeros`: sub_zero of every
 * sub-group. Without `factors` every sub-group has the same one, `whole`. */
INLINE void group_i4(const uint8_t *w, const uint8_t *factors, const int whole, const int8_t *a, const int32_t *zeros,
                     int32_t start, vfloat *total) {
    vint sum[VECTORS], pair[VECTORS];
    for (int v = 0; v < VECTORS; v++) sum[v] = int_set(start);
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
            vint factor = !factors ? factor_set(whole) : s % 2 ? high_factors(pair[v]) : low_factors(pair[v]);
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

typedef enum { INT8, INT8_HIGH, INT8_LOW, INT4, INT4_FACTORS } Kind;

/* One block of rows times one token: out[BLOCK]. A weight in two planes is 16 (high - 8) + low. Its high plane alone
 * takes 8 for all of low; what the low one adds to that has the zero point 8, like INT4. */
INLINE void multiply_block(const Matrix *m, const Kind kind, int64_t block, const Rounded *x, float *out) {
    const int group_bytes = kind == INT8 ? BLOCK * GROUP : BLOCK * GROUP / 2;
    const uint8_t *values = kind == INT8_LOW ? m->low : m->values;
    const uint8_t *factors = kind == INT4_FACTORS ? m->factors : NULL;
    int64_t groups = ceil_div(m->columns, GROUP);
    vfloat total[VECTORS];
    for (int v = 0; v < VECTORS; v++) total[v] = float_set(0);
    for (int64_t g = 0; g < groups; g++) {
        int64_t at = block * groups + g;
        const uint8_t *w = values + at * group_bytes;
        const int8_t *a = x->values + g * GROUP;
        vfloat sum[VECTORS];
        /* The processor's own fetching ahead stops at every page. */
        for (int i = 0; i < group_bytes; i += 64) PREFETCH(w + group_bytes + i);
        if (m->scales) PREFETCH(m->scales + (at + 1) * BLOCK);
        if (factors) PREFETCH(factors + (at + 1) * (SUBS / 2 * BLOCK));
        if (kind == INT8)
            group_i8(w, a, -TILE_BIAS * x->sums[g], sum);
        else if (kind == INT8_HIGH)
            group_i4(w, NULL, 16, a, x->zeros + g * SUBS, 8 * x->sums[g], sum);
        else
            group_i4(w, factors ? factors + at * (SUBS / 2 * BLOCK) : NULL, 1, a, x->zeros + g * SUBS, 0, sum);
        for (int v = 0; v < VECTORS; v++) {
            vfloat scale = float_set(x->scales[g]);
            if (m->scales) scale = mul(scale, load_half(m->scales + at * BLOCK + v * LANES));
            total[v] = fma_(sum[v], scale, total[v]);
        }
    }
    for (int v = 0; v < VECTORS; v++) {
        if (m->row_scales) total[v] = mul(total[v], load_float(m->row_scales + block * BLOCK + v * LANES));
        store_float(out + v * LANES, total[v]);
    }
}

void multiply_rounded(const Matrix *m, const Rounded *x, const float *residual, float weight, float *out, int threads) {
    int64_t groups = ceil_div(m->columns, GROUP), blocks = ceil_div(m->rows, BLOCK);
    /* Pieces small enough that a thread held up by another program costs little, large enough to stream. */
    int64_t block_bytes = groups * BLOCK * GROUP / 8 * (m->low ? 4 : m->bits), bytes = blocks * block_bytes / (16 * threads);
    bytes = bytes < (64 << 10) ? 64 << 10 : bytes > (512 << 10) ? 512 << 10 : bytes;
    int64_t piece = 1 + bytes / block_bytes, pieces = ceil_div(blocks, piece);
#pragma omp for schedule(dynamic, 1)
    for (int64_t p = 0; p < pieces; p++) {
        int64_t end = (p + 1) * piece < blocks ? (p + 1) * piece : blocks;
        for (int64_t block = p * piece; block < end; block++) {
            float result[BLOCK];
            if (m->low)
                multiply_block(m, INT8_HIGH, block, x, result);
            else if (m->bits == 8)
                multiply_block(m, INT8, block, x, result);
            else if (m->factors)
                multiply_block(m, INT4_FACTORS, block, x, result);
            else
                multiply_block(m, INT4, block, x, result);
            int64_t row = block * BLOCK, count = m->rows - row < BLOCK ? m->rows - row : BLOCK;
            for (int64_t r = row; r < row + count; r++)
                out[r] = result[r - row] + (m->bias ? m->bias[r] : 0.0f) + (residual ? weight * residual[r] : 0.0f);
        }
    }
}

int gemv(const Matrix *m, const float *x, float *out, int threads) {
    void *memory = malloc(rounded_bytes(m->columns));
    if (!memory) return -1;
    Rounded rounded = rounded_at(memory, m->columns);
    if (m->rows * m->columns * m->bits / 8 < (64 << 10)) threads = 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t g = 0; g < ceil_div(m->columns, GROUP); g++) round_group(x, m->columns, g, &rounded);
        multiply_rounded(m, &rounded, NULL, 0, out, threads);
    }
    free(memory);
    return 0;
}

int gemv_refine(const Matrix *m, const float *x, const int64_t *blocks, int64_t count, float *out, int threads) {
    void *memory = malloc(rounded_bytes(m->columns));
    if (!memory) return -1;
    Rounded rounded = rounded_at(memory, m->columns);
    for (int64_t g = 0; g < ceil_div(m->columns, GROUP); g++) round_group(x, m->columns, g, &rounded);
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads) if (count > 8)
    for (int64_t i = 0; i < count; i++) {
        float result[BLOCK];
        int64_t row = blocks[i] * BLOCK, left = m->rows - row;
        multiply_block(m, INT8_LOW, blocks[i], &rounded, result);
        for (int64_t r = 0; r < BLOCK && r < left; r++) out[row + r] += result[r];
    }
    free(memory);
    return 0;
}
