/* Products of INT8 and INT4 weights with float activations, for the CPU.
 *
 * Weights lie as formats.py packs them: blocks of 16 rows, inside them groups of 128 columns, inside these
 * chunks of 64 bytes that hold 4 columns of every row (INT8), or 4 columns in the low and the next 4 in the
 * high nibbles (INT4). So one vector holds many rows, no sum runs across a vector, and a product reads its
 * weights once, from front to back.
 *
 * Activations are rounded to signed bytes with one scale per token and 128 columns. One token (decoding)
 * takes `multiply_block`, bound by memory; more take `multiply_panel`: some rows are unpacked to what the
 * instruction set multiplies best and stay in a cache while all tokens pass by, bound by the products.
 */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "layout.h"

enum {
    AHEAD = 2048,                   /* bytes that weights are fetched ahead of their use */
    VECTORS = BLOCK / LANES,        /* vectors in a block */
    PANEL = TILE_VECTORS * LANES,   /* rows that a tile of the matrix-matrix product covers */
    PANEL_ROW = PANEL * 4,          /* bytes: one step of all rows of a panel */
    PANEL_GROUP = GROUP / TILE_STEP * PANEL_ROW, /* bytes: at most; INT4 always has 4 columns to a step */
};

typedef struct {
    const uint8_t *values;    /* [blocks][groups][BLOCK * GROUP * bits / 8] */
    const uint16_t *scales;   /* fp16 [blocks][groups][BLOCK], or NULL */
    const uint8_t *factors;   /* [blocks][groups][SUBS / 2][BLOCK], a nibble each, or NULL */
    const float *row_scales;  /* [blocks][BLOCK], or NULL */
    const float *bias;        /* [rows], or NULL */
    int64_t rows, columns;
    int32_t bits;
} Matrix;

INLINE int32_t four_bytes(const int8_t *p) {
    int32_t r;
    memcpy(&r, p, 4);
    return r;
}

/* ---- activations ---- */

/* Rounds one group: q = round(x / scale), scale = max |x| / 127. Columns past `count` are zero. */
static float quantize_group(const float *RESTRICT x, int64_t count, int8_t *RESTRICT q) {
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

/* What a group's sums begin with: to take the zero point off every sub-group of INT4, or the bias off INT8. */
INLINE void take_zeros(int bits, const int8_t *q, int32_t *zeros) {
    if (bits == 4)
        for (int s = 0; s < SUBS; s++) zeros[s] = sub_zero(q + s * SUB);
    else
        zeros[0] = -TILE_BIAS * byte_sum(q, GROUP);
}

/* ---- one token ---- */

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

static int multiply_one(const Matrix *m, const float *x, float *out, int threads) {
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
    int64_t piece = all / (16 * threads);
    int chunk = (int)(1 + (piece < (64 << 10) ? 64 << 10 : piece > (512 << 10) ? 512 << 10 : piece) / block_bytes);
    if (all < (64 << 10)) threads = 1;
    (void)chunk;
#pragma omp parallel for schedule(dynamic, chunk) num_threads(threads) if (threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
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
    free(memory);
    return 0;
}

/* ---- many tokens ---- */

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

static int multiply_many(const Matrix *m, const float *x, int64_t tokens, float *out, int threads) {
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

/* ---- between the products ---- */

/* e^x to 2e-7, written so that compilers make vectors of it (Cephes' polynomial). */
INLINE float exponential(float x) {
    x = x > 88.0f ? 88.0f : x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504088896341f);
    float f = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    int32_t power = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &power, 4);
    return p * scale;
}

/* x[count] to x / (1 + e^-z): z is x for SiLU, and 2 sqrt(2 / pi) (x + 0.044715 x^3) for GELU by tanh. */
static void gelu(float *RESTRICT x, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        x[i] = x[i] / (1.0f + exponential(-1.5957691216057308f * x[i] * (1.0f + 0.044715f * x[i] * x[i])));
}

static void gate(const float *RESTRICT x, const float *RESTRICT up, float *RESTRICT out, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) out[i] = x[i] / (1.0f + exponential(-x[i])) * up[i];
}

/* One query head over `length` keys and values of `size` halfs each. `scores` has room for `length`. */
static void attend_head(const float *q, const uint16_t *keys, const uint16_t *values, int64_t length, int64_t size,
                        float *RESTRICT scores, float *out) {
    float scale = 1.0f / sqrtf((float)size), largest = -INFINITY, sum = 0;
    for (int64_t t = 0; t < length; t++) {
        float lanes[LANES], score = 0;
        vfloat total = float_set(0);
        for (int64_t i = 0; i < size; i += LANES) total = fma_(load_float(q + i), load_half(keys + t * size + i), total);
        store_float(lanes, total);
        for (int i = 0; i < LANES; i++) score += lanes[i];
        scores[t] = score * scale;
        largest = scores[t] > largest ? scores[t] : largest;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t < length; t++) {
        scores[t] = exponential(scores[t] - largest);
        sum += scores[t];
    }
    for (int64_t first = 0; first < size; first += 4 * LANES) { /* four vectors of the output at a time */
        int64_t vectors = (size - first) / LANES < 4 ? (size - first) / LANES : 4;
        vfloat total[4];
        for (int v = 0; v < 4; v++) total[v] = float_set(0);
        for (int64_t t = 0; t < length; t++) {
            vfloat weight = float_set(scores[t] / sum);
            for (int v = 0; v < vectors; v++)
                total[v] = fma_(load_half(values + t * size + first + v * LANES), weight, total[v]);
        }
        for (int v = 0; v < vectors; v++) store_float(out + first + v * LANES, total[v]);
    }
}

/* ---- what Python calls ---- */

/* GELU of x[count] in place, by its approximation with tanh. */
EXPORT void glmtui_gelu(float *x, int64_t count, int threads) {
    int64_t piece = 1 << 13, pieces = ceil_div(count, piece);
#pragma omp parallel for schedule(static) num_threads(threads) if (pieces > 1)
    for (int64_t i = 0; i < pieces; i++)
        gelu(x + i * piece, count - i * piece < piece ? count - i * piece : piece);
}

/* Rotates pairs of columns `apart` from each other: of every token its `heads` of `parts` vectors of `size`, which lie `token_stride` and `head_stride` floats apart. cos and sin (with the rotation's sign) are
 * [tokens][size], out is [tokens][heads][parts][size]. */
EXPORT void glmtui_turn(const float *x, const float *cosines, const float *sines, int64_t tokens, int64_t heads,
                        int64_t parts, int64_t size, int64_t token_stride, int64_t head_stride, int64_t apart,
                        float *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (tokens > 1)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < heads * parts; i++) {
            const float *from = x + t * token_stride + i / parts * head_stride + i % parts * size;
            float *RESTRICT to = out + (t * heads * parts + i) * size;
            const float *cosine = cosines + t * size, *sine = sines + t * size;
            for (int64_t first = 0; first < size; first += 2 * apart)
                for (int64_t c = first; c < first + apart; c++) {
                    to[c] = from[c] * cosine[c] + from[c + apart] * sine[c];
                    to[c + apart] = from[c + apart] * cosine[c + apart] + from[c] * sine[c + apart];
                }
        }
}

/* out[rows][width] = SiLU(x[rows][:width]) * x[rows][width:]. */
EXPORT void glmtui_swiglu(const float *x, int64_t rows, int64_t width, float *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (rows > 1)
    for (int64_t r = 0; r < rows; r++) gate(x + 2 * r * width, x + (2 * r + 1) * width, out + r * width, width);
}

/* One token's attention: q and out [heads][size]; keys and values fp16 [groups] of `stride` halfs, each
 * [length][size]. Heads of a group lie side by side; `size` is a multiple of 16. */
EXPORT int glmtui_attend(const float *q, const uint16_t *keys, const uint16_t *values, int64_t heads, int64_t groups,
                         int64_t length, int64_t size, int64_t stride, float *out, int threads) {
    float *scores = malloc((size_t)(heads * length) * sizeof(float));
    if (!scores) return -1;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (length > 16)
    for (int64_t h = 0; h < heads; h++) {
        int64_t at = h / (heads / groups) * stride;
        attend_head(q + h * size, keys + at, values + at, length, size, scores + h * length, out + h * size);
    }
    free(scores);
    return 0;
}

/* out[tokens][rows] = x[tokens][columns] times the matrix, plus its bias. Returns -1 when memory is short. */
EXPORT int glmtui_multiply(const Matrix *m, const float *x, int64_t tokens, float *out, int threads) {
    return tokens == 1 ? multiply_one(m, x, out, threads) : multiply_many(m, x, tokens, out, threads);
}

/* Reads `bytes` of memory as multiply_one does and returns their sum, so that nothing is optimised away. */
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
