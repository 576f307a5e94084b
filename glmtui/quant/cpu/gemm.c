/* The product with many tokens: what a prompt takes, bound by the multiplications.
 *
 * Some rows at a time, a panel, are unpacked to what the instruction set multiplies best, and stay in a cache
 * while all tokens pass by in tiles whose sums fit the registers.
 */
#include <stdlib.h>

#include "product.h"

enum {
    PANEL = TILE_VECTORS * LANES,   /* rows that a tile of the matrix-matrix product covers */
    PANEL_ROW = PANEL * 4,          /* bytes: one step of all rows of a panel */
    STEP_BYTES = 4 / TILE_STEP * PANEL_ROW, /* of four columns */
    PANEL_GROUP = GROUP / TILE_STEP * PANEL_ROW, /* bytes: at most; INT4 always has 4 columns to a step */
    PAIRS = SUBS / 2,               /* of sub-groups of INT4 in a group */
};

/* PANEL rows x up to PANEL_GROUPS groups, unpacked. */
typedef struct {
    uint8_t *weights; /* [groups][steps][PANEL_ROW] */
    vint *factors;    /* [groups][PAIRS][TILE_VECTORS], where tiles are made of nibbles */
    vint *starts;     /* [groups][TILE_VECTORS], where they are made of something else */
    float *scales;    /* [groups][PANEL] */
    float *sums;      /* [tokens][PANEL]: the products so far */
} Panel;

/* The activations of all tokens. What belongs to a tile that starts at token t starts at t x (its size per token). */
typedef struct {
    int8_t *values; /* per tile [groups][steps][tokens][4 bytes] */
    float *scales;  /* per tile [groups][tokens] */
    int32_t *zeros; /* per tile [groups][zeros of a group][tokens] */
    int64_t groups;
    int nibbles;    /* whether tiles are made of nibbles */
    int group;      /* bytes of a token's values in a group */
    int zero_count; /* zeros of a group */
} Activations;

INLINE int64_t most_tokens(int nibbles) { return nibbles ? TILE_TOKENS : BYTE_TOKENS; }

/* Tokens are cut into tiles of `most`, and the rest into smaller ones. */
INLINE int64_t tile_tokens(int64_t left, int64_t most) {
    if (left >= most) return most;
    if (left >= 8) return 8;
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* ---- activations ---- */

static void quantize_tile(const Matrix *m, const float *x, int64_t first, int64_t count, Activations *a) {
    const ptrdiff_t stride = count * 4;
    for (int64_t t = 0; t < count; t++)
        for (int64_t g = 0; g < a->groups; g++) {
            int8_t q[GROUP];
            int64_t left = m->columns - g * GROUP, at = first * a->groups + g * count;
            const float *ahead = x + (first + t) * m->columns + (g + 4) * GROUP; /* rounding waits for memory */
            for (int i = 0; i < GROUP; i += 16) PREFETCH(ahead + i);
            a->scales[at + t] =
                quantize_group(x + (first + t) * m->columns + g * GROUP, left < GROUP ? left : GROUP, q);
            int8_t *out = a->values + at * a->group + t * 4;
            int32_t *zeros = a->zeros + at * a->zero_count + t;
            if (!a->nibbles) {
                zeros[0] = tile_zero(q, GROUP);
                for (int step = 0; step < STEPS; step++)
                    pack_step(out + step * (4 / TILE_STEP) * stride, stride, q + step * 4);
                continue;
            }
#if TILE_NIBBLES
            for (int p = 0; p < PAIRS; p++) {
                const int8_t *even = q + 2 * p * SUB, *odd = even + SUB;
                zeros[p * count] = pair_zero(-8 * byte_sum(even, SUB), -8 * byte_sum(odd, SUB));
                for (int c = 0; c < SUB; c += 4)
                    pack_pair(out + (p * SUB + c) / 2 * stride, stride, even + c, odd + c);
            }
#endif
        }
}

/* ---- weights ---- */

/* One group of a block. */
INLINE void unpack_i8(const uint8_t *w, uint8_t *out, vint *starts) {
    for (int v = 0; v < VECTORS; v++) {
        vint start = int_set(0);
        for (int step = 0; step < STEPS; step++) {
            vbytes four = load_bytes(w + step * CHUNK + v * LANES * 4);
            store_step(out + step * STEP_BYTES + v * LANES * 4, PANEL_ROW, four);
            start = tile_start(start, four);
        }
        starts[v] = start;
    }
}

/* The same of a matrix in two planes. */
INLINE void unpack_planes(const uint8_t *high_plane, const uint8_t *low_plane, uint8_t *out, vint *starts) {
    for (int v = 0; v < VECTORS; v++) {
        vint start = int_set(0);
        for (int c = 0; c < GROUP / 8; c++) {
            const int at = c * CHUNK + v * LANES * 4;
            vbytes high = bytes_xor(load_bytes(high_plane + at), bytes_set(0x88)), low = load_bytes(low_plane + at);
            vbytes first = join_nibbles(low_nibbles(high), low_nibbles(low));
            vbytes second = join_nibbles(high_nibbles(high), high_nibbles(low));
            uint8_t *to = out + 2 * c * STEP_BYTES + v * LANES * 4;
            store_step(to, PANEL_ROW, first);
            store_step(to + STEP_BYTES, PANEL_ROW, second);
            start = tile_start(tile_start(start, first), second);
        }
        starts[v] = start;
    }
}

INLINE void unpack_i4(const uint8_t *w, const uint8_t *factor_pairs, uint8_t *out, vint *factors) {
    for (int p = 0; p < PAIRS; p++)
        for (int v = 0; v < VECTORS; v++) {
            const uint8_t *even = w + 2 * p * (SUB / 8) * CHUNK + v * LANES * 4, *odd = even + SUB / 8 * CHUNK;
            uint8_t *to = out + p * (2 * SUB / 4) * PANEL_ROW + v * LANES * 4;
            vint pair = factor_pairs ? load_factors(factor_pairs + p * BLOCK + v * LANES) : factor_set(1);
#if TILE_NIBBLES
            factors[p * TILE_VECTORS + v] = factor_pairs ? pair_factors(pair) : pair;
            for (int c = 0; c < SUB / 8; c++, to += 4 * PANEL_ROW) {
                vbytes a = load_bytes(even + c * CHUNK), b = load_bytes(odd + c * CHUNK);
                store_pair(to, PANEL_ROW, low_nibbles(a), low_nibbles(b));
                store_pair(to + 2 * PANEL_ROW, PANEL_ROW, high_nibbles(a), high_nibbles(b));
            }
#else
            (void)factors;
            for (int s = 0; s < 2; s++) {
                vint factor = !factor_pairs ? pair : s ? high_factors(pair) : low_factors(pair);
                for (int c = 0; c < SUB / 8; c++, to += 2 * PANEL_ROW) {
                    vbytes packed = load_bytes((s ? odd : even) + c * CHUNK);
                    vbytes low = bytes_sub(low_nibbles(packed), bytes_set(8));
                    vbytes high = bytes_sub(high_nibbles(packed), bytes_set(8));
                    store_step(to, PANEL_ROW, bytes_scale(low, factor));
                    store_step(to + PANEL_ROW, PANEL_ROW, bytes_scale(high, factor));
                }
            }
#endif
        }
}

/* `groups` groups from `first` on of PANEL rows from `row` on. Rows behind the last are multiplied by zero. */
static void unpack_panel(const Matrix *m, const Activations *a, int64_t row, int64_t first, int64_t groups,
                         const Panel *panel) {
    const int steps = a->nibbles ? STEPS : GROUP / TILE_STEP;
    for (int64_t g = 0; g < groups; g++)
        for (int b = 0; b < PANEL / BLOCK; b++) {
            float *scales = panel->scales + g * PANEL + b * BLOCK;
            int64_t block = row / BLOCK + b, at = block * a->groups + first + g;
            if (block * BLOCK >= m->rows) {
                memset(scales, 0, BLOCK * sizeof(float));
                continue;
            }
            const uint8_t *w = m->values + at * (BLOCK * GROUP / 8 * (m->low ? 4 : m->bits));
            uint8_t *out = panel->weights + g * steps * PANEL_ROW + b * CHUNK;
            vint *starts = panel->starts + g * TILE_VECTORS + b * VECTORS;
            if (m->low)
                unpack_planes(w, m->low + at * (BLOCK * GROUP / 2), out, starts);
            else if (m->bits == 8)
                unpack_i8(w, out, starts);
            else
                unpack_i4(w, m->factors ? m->factors + at * (PAIRS * BLOCK) : NULL, out,
                          panel->factors + g * PAIRS * TILE_VECTORS + b * VECTORS);
            for (int v = 0; v < BLOCK; v += LANES)
                store_float(scales + v, m->scales ? load_half(m->scales + at * BLOCK + v) : float_set(1));
        }
}

/* ---- the product ---- */

/* `count` tokens x PANEL rows x `groups` groups, added to sums[count][PANEL]. */
INLINE void tile(const int count, const int nibbles, const Panel *panel, const int8_t *RESTRICT a,
                 const float *RESTRICT a_scales, const int32_t *RESTRICT zeros, int64_t groups,
                 float *RESTRICT sums) {
    const uint8_t *RESTRICT w = panel->weights;
    const vint *RESTRICT factors = panel->factors, *RESTRICT starts = panel->starts;
    const float *RESTRICT w_scales = panel->scales;
    for (int64_t g = 0; g < groups; g++) {
        vint sum[TILE_TOKENS][TILE_VECTORS];
        UNROLL for (int s = 0; s < PAIRS && nibbles; s++) {
            vsub part[TILE_TOKENS][TILE_VECTORS];
            UNROLL for (int t = 0; t < count; t++) {
                UNROLL for (int v = 0; v < TILE_VECTORS; v++) part[t][v] = sub_start(zeros[t]);
            }
            UNROLL_8 for (int step = 0; step < 2 * SUB / 4; step++) {
                vbytes weights[TILE_VECTORS];
                UNROLL for (int v = 0; v < TILE_VECTORS; v++) weights[v] = load_bytes(w + v * LANES * 4);
                UNROLL for (int t = 0; t < count; t++) sub_dots(part[t], weights, four_bytes(a + t * 4));
                w += PANEL_ROW;
                a += count * 4;
            }
            UNROLL for (int t = 0; t < count; t++) {
                UNROLL for (int v = 0; v < TILE_VECTORS; v++)
                    sum[t][v] = sub_end(s ? sum[t][v] : int_set(0), part[t][v], factors[v]);
            }
            factors += TILE_VECTORS;
            zeros += count;
        }
        if (!nibbles) {
            UNROLL for (int t = 0; t < count; t++) {
                UNROLL for (int v = 0; v < TILE_VECTORS; v++)
                    sum[t][v] = TILE_STARTS ? int_add(int_set(zeros[t]), starts[v]) : int_set(zeros[t]);
            }
            UNROLL_8 for (int step = 0; step < STEPS; step++) {
                vtile weights[TILE_VECTORS];
                UNROLL for (int v = 0; v < TILE_VECTORS; v++) weights[v] = load_tile(w + v * LANES * 4, PANEL_ROW);
                UNROLL for (int t = 0; t < count; t++) {
                    int32_t first = four_bytes(a + t * 4), second = TILE_STEP < 4 ? four_bytes(a + (count + t) * 4) : 0;
                    UNROLL for (int v = 0; v < TILE_VECTORS; v++)
                        sum[t][v] = dot_tile(sum[t][v], weights[v], first, second);
                }
                w += STEP_BYTES;
                a += count * (4 / TILE_STEP) * 4;
            }
            starts += TILE_VECTORS;
            zeros += count;
        }
        UNROLL for (int v = 0; v < TILE_VECTORS; v++) {
            vfloat w_scale = load_float(w_scales + v * LANES);
            UNROLL for (int t = 0; t < count; t++) {
                float *p = sums + t * PANEL + v * LANES;
                vfloat scale = mul(w_scale, float_set(a_scales[t]));
                store_float(p, fma_(to_float(sum[t][v]), scale, load_float(p)));
            }
        }
        w_scales += PANEL;
        a_scales += count;
    }
}

INLINE void any_tile(int64_t count, const int nibbles, const Panel *panel, const int8_t *a, const float *a_scales,
                     const int32_t *zeros, int64_t groups, float *sums) {
    if (count == most_tokens(nibbles)) tile(most_tokens(nibbles), nibbles, panel, a, a_scales, zeros, groups, sums);
#if defined(ISA_AVX512)
    else if (count == 8) tile(8, nibbles, panel, a, a_scales, zeros, groups, sums);
#endif
    else if (count == 4) tile(4, nibbles, panel, a, a_scales, zeros, groups, sums);
    else if (count == 2) tile(2, nibbles, panel, a, a_scales, zeros, groups, sums);
    else tile(1, nibbles, panel, a, a_scales, zeros, groups, sums);
}

/* out[count] = sums[count], the products with rows from `row` on, with what belongs to whole rows. */
INLINE void finish(const Matrix *m, const float *RESTRICT sums, int64_t row, int64_t count, float *RESTRICT out) {
    for (int64_t r = 0; r < count; r++)
        out[r] = sums[r] * (m->row_scales ? m->row_scales[row + r] : 1.0f) + (m->bias ? m->bias[row + r] : 0.0f);
}

/* PANEL rows from `row` on times all tokens. */
INLINE void multiply_panel(const Matrix *m, const Activations *a, const int nibbles, int64_t row, int64_t tokens,
                           const Panel *panel, float *out) {
    memset(panel->sums, 0, (size_t)tokens * PANEL * sizeof(float));
    for (int64_t first = 0; first < a->groups; first += PANEL_GROUPS) {
        int64_t groups = a->groups - first < PANEL_GROUPS ? a->groups - first : PANEL_GROUPS;
        unpack_panel(m, a, row, first, groups, panel);
        for (int64_t t = 0, n; t < tokens; t += n) {
            n = tile_tokens(tokens - t, most_tokens(nibbles));
            int64_t at = t * a->groups + first * n;
            any_tile(n, nibbles, panel, a->values + at * a->group, a->scales + at, a->zeros + at * a->zero_count,
                     groups, panel->sums + t * PANEL);
        }
    }
    int64_t count = m->rows - row < PANEL ? m->rows - row : PANEL;
    for (int64_t t = 0; t < tokens; t++) finish(m, panel->sums + t * PANEL, row, count, out + t * m->rows + row);
}

int gemm(const Matrix *m, const float *x, int64_t tokens, float *out, int threads) {
    int failed = 0;
    const int nibbles = TILE_NIBBLES && m->bits == 4;
    Activations a = {.groups = ceil_div(m->columns, GROUP), .nibbles = nibbles};
    a.group = nibbles ? GROUP : GROUP * 4 / TILE_STEP;
    a.zero_count = nibbles ? PAIRS : 1;
    size_t cells = (size_t)(tokens * a.groups);
    char *memory = malloc(cells * (sizeof(float) + (size_t)a.zero_count * sizeof(int32_t) + (size_t)a.group));
    if (!memory) return -1;
    a.scales = (float *)memory;
    a.zeros = (int32_t *)(a.scales + cells);
    a.values = (int8_t *)(a.zeros + cells * (size_t)a.zero_count);
    const int64_t most = most_tokens(nibbles);
    int64_t whole = tokens / most, panels = ceil_div(m->rows, PANEL);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        size_t weights = (size_t)PANEL_GROUPS * PANEL_GROUP;
        size_t factors = PANEL_GROUPS * PAIRS * TILE_VECTORS * sizeof(vint), starts = PANEL_GROUPS * TILE_VECTORS * sizeof(vint);
        size_t scales = PANEL_GROUPS * PANEL * sizeof(float), sums = (size_t)tokens * PANEL * sizeof(float);
        char *room = calloc(1, weights + factors + starts + scales + sums + 64);
        char *at = (char *)(((uintptr_t)room + 63) & ~(uintptr_t)63);
        Panel panel = {.weights = (uint8_t *)at, .factors = (vint *)(at + weights), .starts = (vint *)(at + weights + factors)};
        panel.scales = (float *)(at + weights + factors + starts);
        panel.sums = panel.scales + PANEL_GROUPS * PANEL;
        if (!room) {
#pragma omp atomic
            failed |= 1;
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i <= whole; i++) {
            if (i < whole) quantize_tile(m, x, i * most, most, &a);
            else
                for (int64_t t = whole * most, n; t < tokens; t += n) {
                    n = tile_tokens(tokens - t, most);
                    quantize_tile(m, x, t, n, &a);
                }
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t p = 0; p < panels; p++) {
            if (!room) continue;
            if (nibbles) multiply_panel(m, &a, 1, p * PANEL, tokens, &panel, out);
            else multiply_panel(m, &a, 0, p * PANEL, tokens, &panel, out);
        }
        free(room);
    }
    free(memory);
    return failed ? -1 : 0;
}
