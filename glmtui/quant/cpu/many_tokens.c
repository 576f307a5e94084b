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
    PANEL_GROUP = GROUP / TILE_STEP * PANEL_ROW, /* bytes: at most; INT4 always has 4 columns to a step */
};

/* PANEL rows x up to PANEL_GROUPS groups, unpacked. */
typedef struct {
    uint8_t *weights; /* [groups][steps][PANEL_ROW] */
    vint *factors;    /* [groups][SUBS][TILE_VECTORS], where tiles are made of nibbles */
    float *scales;    /* [groups][PANEL] */
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

/* Unpacks one group of block `b` of a panel. */
INLINE void unpack_group(const Matrix *m, int64_t at, int b, const int nibbles, uint8_t *out, vint *factors) {
    out += b * CHUNK;
    factors += b * VECTORS;
    for (int s = 0; s < SUBS; s++)
        for (int v = 0; v < VECTORS; v++) {
            const int i = v * LANES * 4;
            if (m->low) {
                const int64_t at_plane = at * (BLOCK * GROUP / 2) + i;
                for (int c = s * (SUB / 8); c < (s + 1) * (SUB / 8); c++) {
                    vbytes high = bytes_xor(load_bytes(m->values + at_plane + c * CHUNK), bytes_set(0x88));
                    vbytes low = load_bytes(m->low + at_plane + c * CHUNK);
                    uint8_t *to = out + 2 * c * (4 / TILE_STEP) * PANEL_ROW + i;
                    store_step(to, PANEL_ROW, join_nibbles(low_nibbles(high), low_nibbles(low)));
                    store_step(to + 4 / TILE_STEP * PANEL_ROW, PANEL_ROW,
                               join_nibbles(high_nibbles(high), high_nibbles(low)));
                }
                continue;
            }
            if (m->bits == 8) {
                const uint8_t *w = m->values + at * (BLOCK * GROUP) + i;
                for (int step = s * (SUB / 4); step < (s + 1) * (SUB / 4); step++)
                    store_step(out + step * (4 / TILE_STEP) * PANEL_ROW + i, PANEL_ROW, load_bytes(w + step * CHUNK));
                continue;
            }
            vint factor = factor_set(1);
            if (m->factors) {
                vint pair = load_factors(m->factors + (at * (SUBS / 2) + s / 2) * BLOCK + v * LANES);
                factor = s % 2 ? high_factors(pair) : low_factors(pair);
            }
            const uint8_t *w = m->values + at * (BLOCK * GROUP / 2) + i;
            for (int c = s * (SUB / 8); c < (s + 1) * (SUB / 8); c++) {
                vbytes packed = load_bytes(w + c * CHUNK);
                vbytes low = low_nibbles(packed), high = high_nibbles(packed);
                uint8_t *to = out + 2 * c * PANEL_ROW + i;
                if (nibbles) {
                    store_bytes(to, low);
                    store_bytes(to + PANEL_ROW, high);
                } else {
#if !TILE_NIBBLES
                    store_step(to, PANEL_ROW, bytes_scale(bytes_sub(low, bytes_set(8)), factor));
                    store_step(to + PANEL_ROW, PANEL_ROW, bytes_scale(bytes_sub(high, bytes_set(8)), factor));
#endif
                }
            }
            if (nibbles) factors[s * TILE_VECTORS + v] = factor;
        }
}

/* `count` tokens x PANEL rows x `groups` groups, added to sums[count][PANEL]. */
INLINE void tile(const int count, const int nibbles, const Panel *panel, const int8_t *RESTRICT a,
                 const float *RESTRICT a_scales, const int32_t *RESTRICT zeros, int64_t groups,
                 float *RESTRICT sums) {
    const uint8_t *RESTRICT w = panel->weights;
    const vint *RESTRICT factors = panel->factors;
    const float *RESTRICT w_scales = panel->scales;
    const int steps = nibbles ? SUB / 4 : GROUP / TILE_STEP;
    for (int64_t g = 0; g < groups; g++) {
        vint sum[TILE_TOKENS][TILE_VECTORS];
        for (int s = 0; s < (nibbles ? SUBS : 1); s++) {
            vsub part[TILE_TOKENS][TILE_VECTORS];
            UNROLL for (int t = 0; t < count; t++) {
                UNROLL for (int v = 0; v < TILE_VECTORS; v++) part[t][v] = sub_start(zeros[t]);
            }
            for (int step = 0; step < steps; step++) {
                vbytes weights[TILE_VECTORS];
                UNROLL for (int v = 0; v < TILE_VECTORS; v++) weights[v] = load_bytes(w + v * LANES * 4);
                UNROLL for (int t = 0; t < count; t++) {
                    int32_t four = four_bytes(a + t * 4);
                    UNROLL for (int v = 0; v < TILE_VECTORS; v++)
                        part[t][v] = nibbles ? sub_dot(part[t][v], weights[v], four)
                                             : dot_tile(part[t][v], weights[v], four);
                }
                w += PANEL_ROW;
                a += count * 4;
            }
            UNROLL for (int t = 0; t < count; t++) {
                UNROLL for (int v = 0; v < TILE_VECTORS; v++)
                    sum[t][v] = !nibbles ? part[t][v]
                                         : sub_end(s ? sum[t][v] : int_set(0), part[t][v], factors[v]);
            }
            factors += TILE_VECTORS;
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

/* Tokens are cut into tiles of TILE_TOKENS, and the rest into smaller ones. */
INLINE int64_t tile_tokens(int64_t left) {
    if (left >= TILE_TOKENS) return TILE_TOKENS;
    if (left >= 8) return 8;
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

INLINE void any_tile(int64_t count, const int nibbles, const Panel *panel, const int8_t *a, const float *a_scales,
                     const int32_t *zeros, int64_t groups, float *sums) {
    if (count == TILE_TOKENS) tile(TILE_TOKENS, nibbles, panel, a, a_scales, zeros, groups, sums);
#if defined(ISA_AVX512)
    else if (count == 8) tile(8, nibbles, panel, a, a_scales, zeros, groups, sums);
#endif
    else if (TILE_TOKENS > 4 && count == 4) tile(4, nibbles, panel, a, a_scales, zeros, groups, sums);
    else if (count == 2) tile(2, nibbles, panel, a, a_scales, zeros, groups, sums);
    else tile(1, nibbles, panel, a, a_scales, zeros, groups, sums);
}

static void quantize_tile(const Matrix *m, const float *x, int64_t first, int64_t count, Activations *a) {
    for (int64_t t = 0; t < count; t++)
        for (int64_t g = 0; g < a->groups; g++) {
            int8_t q[GROUP];
            int32_t zeros[SUBS];
            int64_t left = m->columns - g * GROUP, at = first * a->groups + g * count;
            a->scales[at + t] =
                quantize_group(x + (first + t) * m->columns + g * GROUP, left < GROUP ? left : GROUP, q);
            take_zeros(a->nibbles ? 4 : 8, q, zeros);
            for (int i = 0; i < a->zero_count; i++) a->zeros[at * a->zero_count + i * count + t] = zeros[i];
            int8_t *out = a->values + at * a->group + t * 4;
            for (int step = 0; step < STEPS; step++)
                if (a->nibbles) memcpy(out + step * count * 4, q + step * 4, 4);
                else pack_step(out + step * (4 / TILE_STEP) * count * 4, count * 4, q + step * 4);
        }
}

/* PANEL rows from `first_row` times all tokens. */
INLINE void multiply_panel(const Matrix *m, const Activations *a, const int nibbles, int64_t first_row,
                           int64_t tokens, const Panel *panel, float *out) {
    int64_t count = m->rows - first_row < PANEL ? m->rows - first_row : PANEL;
    for (int64_t first = 0; first < a->groups; first += PANEL_GROUPS) {
        int64_t groups = a->groups - first < PANEL_GROUPS ? a->groups - first : PANEL_GROUPS;
        int64_t panel_group = nibbles ? STEPS * PANEL_ROW : PANEL_GROUP;
        for (int64_t g = 0; g < groups; g++)
            for (int b = 0; b < PANEL / BLOCK; b++) {
                float *scales = panel->scales + g * PANEL + b * BLOCK;
                int64_t at = (first_row / BLOCK + b) * a->groups + first + g;
                int there = b * BLOCK < count; /* else what lies there from before is multiplied by zero */
                if (there)
                    unpack_group(m, at, b, nibbles, panel->weights + g * panel_group,
                                 panel->factors + g * SUBS * TILE_VECTORS);
                for (int v = 0; v < VECTORS; v++)
                    store_float(scales + v * LANES, !there       ? float_set(0)
                                                    : m->scales ? load_half(m->scales + at * BLOCK + v * LANES)
                                                                : float_set(1));
            }
        int last = first + groups == a->groups;
        for (int64_t t = 0, n; t < tokens; t += n) {
            float sums[TILE_TOKENS * PANEL];
            n = tile_tokens(tokens - t);
            for (int64_t i = 0; i < n; i++) {
                if (first == 0) memset(sums + i * PANEL, 0, PANEL * sizeof(float));
                else memcpy(sums + i * PANEL, out + (t + i) * m->rows + first_row, (size_t)count * sizeof(float));
            }
            int64_t at = t * a->groups + first * n;
            any_tile(n, nibbles, panel, a->values + at * a->group, a->scales + at, a->zeros + at * a->zero_count,
                     groups, sums);
            for (int64_t i = 0; i < n; i++) {
                float *row = out + (t + i) * m->rows + first_row;
                const float *sum = sums + i * PANEL;
                if (!last) memcpy(row, sum, (size_t)count * sizeof(float));
                else
                    for (int64_t r = 0; r < count; r++)
                        row[r] = sum[r] * (m->row_scales ? m->row_scales[first_row + r] : 1.0f) +
                                 (m->bias ? m->bias[first_row + r] : 0.0f);
            }
        }
    }
}

int multiply_many(const Matrix *m, const float *x, int64_t tokens, float *out, int threads) {
    int failed = 0;
    const int nibbles = TILE_NIBBLES && m->bits == 4;
    Activations a = {.groups = ceil_div(m->columns, GROUP), .nibbles = nibbles};
    a.group = nibbles ? GROUP : GROUP * 4 / TILE_STEP;
    a.zero_count = nibbles ? SUBS : 1;
    size_t cells = (size_t)(tokens * a.groups);
    char *memory = malloc(cells * (sizeof(float) + (size_t)a.zero_count * sizeof(int32_t) + (size_t)a.group));
    if (!memory) return -1;
    a.scales = (float *)memory;
    a.zeros = (int32_t *)(a.scales + cells);
    a.values = (int8_t *)(a.zeros + cells * (size_t)a.zero_count);
    int64_t whole = tokens / TILE_TOKENS, panels = ceil_div(m->rows, PANEL);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        size_t weights = (size_t)PANEL_GROUPS * PANEL_GROUP, scales = PANEL_GROUPS * PANEL * sizeof(float);
        char *room = calloc(1, weights + scales + PANEL_GROUPS * SUBS * TILE_VECTORS * sizeof(vint) + 64);
        char *aligned = (char *)(((uintptr_t)room + 63) & ~(uintptr_t)63);
        Panel panel = {(uint8_t *)aligned, (vint *)(aligned + weights + scales), (float *)(aligned + weights)};
        if (!room) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i <= whole; i++) {
            if (i < whole) quantize_tile(m, x, i * TILE_TOKENS, TILE_TOKENS, &a);
            else
                for (int64_t t = whole * TILE_TOKENS, n; t < tokens; t += n) {
                    n = tile_tokens(tokens - t);
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
