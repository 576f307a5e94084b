/* Products of INT8 and INT4 weights with float activations, for the CPU.
 *
 * Weights lie as formats.py packs them: blocks of 16 rows, inside them groups of 128 columns, inside these
 * chunks of 64 bytes that hold 4 columns of every row (INT8), or 4 columns in the low and the next 4 in the
 * high nibbles (INT4). So one vector holds many rows, no sum runs across a vector, and a product reads its
 * weights once, from front to back.
 *
 * Activations are rounded to signed bytes with one scale per token and 128 columns. One token (decoding)
 * takes `multiply_block`, bound by memory; more take `multiply_panel`: 32 rows are unpacked to bytes that
 * stay in the second-level cache while all tokens pass by, bound by the byte products.
 */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "layout.h"

enum {
    VECTORS = BLOCK / LANES,        /* vectors in a block */
    PANEL = TILE_VECTORS * LANES,   /* rows that a tile of the matrix-matrix product covers */
    PANEL_GROUPS = 32,              /* groups unpacked at a time: 4096 columns x 32 rows = 128 KiB */
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

/* ---- one token ---- */

/* Adds the product of one block of rows with the activations of one group to `total`. */
INLINE void group_i4(const uint8_t *w, const uint8_t *factors, const int8_t *a, const int32_t *a_sums,
                     vfloat *total) {
    vint sum[VECTORS];
    UNROLL for (int s = 0; s < SUBS; s++) {
        if (factors || s == 0) {
            int32_t a_sum = factors ? a_sums[s] : a_sums[0] + a_sums[1] + a_sums[2] + a_sums[3];
            for (int v = 0; v < VECTORS; v++) sum[v] = int_set(-8 * a_sum);
        }
        UNROLL for (int c = s * (SUB / 8); c < (s + 1) * (SUB / 8); c++) {
            int32_t low = four_bytes(a + c * 8), high = four_bytes(a + c * 8 + 4);
            for (int v = 0; v < VECTORS; v++) {
                vbytes packed = load_bytes(w + c * CHUNK + v * LANES * 4);
                sum[v] = dot_u4(sum[v], low_nibbles(packed), low);
                sum[v] = dot_u4(sum[v], high_nibbles(packed), high);
            }
        }
        if (factors) {
            for (int v = 0; v < VECTORS; v++) {
                vint pair = widen_bytes(factors + (s / 2) * BLOCK + v * LANES);
                vfloat factor = to_float(s % 2 ? int_high4(pair) : int_low4(pair));
                total[v] = fma_(to_float(sum[v]), factor, total[v]);
            }
        }
    }
    if (!factors) {
        for (int v = 0; v < VECTORS; v++) total[v] = to_float(sum[v]);
    }
}

INLINE void group_i8(const uint8_t *w, const int8_t *a, const int32_t *a_sums, vfloat *total) {
    vint even[VECTORS], odd[VECTORS];
    int32_t a_sum = a_sums[0] + a_sums[1] + a_sums[2] + a_sums[3];
    for (int v = 0; v < VECTORS; v++) even[v] = int_set(-TILE_BIAS * a_sum), odd[v] = int_set(0);
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

/* One block of rows times one token: out[BLOCK]. */
INLINE void multiply_block(const Matrix *m, const int bits, const int has_factors, int64_t block,
                           const int8_t *a, const float *a_scales, const int32_t *a_sums, float *out) {
    int64_t groups = ceil_div(m->columns, GROUP);
    vfloat total[VECTORS];
    for (int v = 0; v < VECTORS; v++) total[v] = float_set(0);
    for (int64_t g = 0; g < groups; g++) {
        int64_t at = block * groups + g;
        const uint8_t *w = m->values + at * (BLOCK * GROUP / 8) * bits;
        vfloat sum[VECTORS];
        for (int v = 0; v < VECTORS; v++) sum[v] = float_set(0);
        if (bits == 4)
            group_i4(w, has_factors ? m->factors + at * (SUBS / 2 * BLOCK) : NULL, a + g * GROUP,
                     a_sums + g * SUBS, sum);
        else
            group_i8(w, a + g * GROUP, a_sums + g * SUBS, sum);
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
    int32_t *a_sums = (int32_t *)memory;
    float *a_scales = (float *)(a_sums + groups * SUBS);
    int8_t *a = (int8_t *)(a_scales + groups);
    for (int64_t g = 0; g < groups; g++) {
        int64_t left = m->columns - g * GROUP;
        a_scales[g] = quantize_group(x + g * GROUP, left < GROUP ? left : GROUP, a + g * GROUP);
        for (int s = 0; s < SUBS; s++) a_sums[g * SUBS + s] = byte_sum(a + g * GROUP + s * SUB, SUB);
    }
    /* Pieces small enough that a thread held up by another program costs little, large enough to stream. */
    int64_t block_bytes = groups * BLOCK * GROUP / 8 * m->bits;
    int chunk = (int)(1 + (128 << 10) / block_bytes);
    if (blocks * block_bytes < (64 << 10)) threads = 1;
    (void)chunk;
#pragma omp parallel for schedule(dynamic, chunk) num_threads(threads) if (threads > 1)
    for (int64_t block = 0; block < blocks; block++) {
        float result[BLOCK];
        if (m->bits == 8)
            multiply_block(m, 8, 0, block, a, a_scales, a_sums, result);
        else if (m->factors)
            multiply_block(m, 4, 1, block, a, a_scales, a_sums, result);
        else
            multiply_block(m, 4, 0, block, a, a_scales, a_sums, result);
        int64_t row = block * BLOCK, count = m->rows - row < BLOCK ? m->rows - row : BLOCK;
        for (int64_t r = 0; r < count; r++) out[row + r] = result[r] + (m->bias ? m->bias[row + r] : 0.0f);
    }
    free(memory);
    return 0;
}

/* ---- many tokens ---- */

/* Unpacks one group of one block to bytes [STEPS][CHUNK at a distance of `stride`], XOR TILE_BIAS. */
INLINE void unpack_group(const Matrix *m, int64_t at, uint8_t *out, const int stride) {
    const vbytes bias = bytes_set(TILE_BIAS), eight = bytes_set(8);
    if (m->bits == 8) {
        const uint8_t *w = m->values + at * (BLOCK * GROUP);
        for (int step = 0; step < STEPS; step++)
            for (int v = 0; v < VECTORS; v++) {
                int i = v * LANES * 4;
                store_bytes(out + step * stride + i, bytes_xor(load_bytes(w + step * CHUNK + i), bias));
            }
        return;
    }
    const uint8_t *w = m->values + at * (BLOCK * GROUP / 2);
    for (int s = 0; s < SUBS; s++)
        for (int v = 0; v < VECTORS; v++) {
            vint factor = int_set(1);
            if (m->factors) {
                vint pair = widen_bytes(m->factors + (at * (SUBS / 2) + s / 2) * BLOCK + v * LANES);
                factor = s % 2 ? int_high4(pair) : int_low4(pair);
            }
            for (int c = s * (SUB / 8); c < (s + 1) * (SUB / 8); c++) {
                int i = v * LANES * 4;
                vbytes packed = load_bytes(w + c * CHUNK + i);
                vbytes low = bytes_sub(low_nibbles(packed), eight), high = bytes_sub(high_nibbles(packed), eight);
                store_bytes(out + 2 * c * stride + i, bytes_xor(bytes_scale(low, factor), bias));
                store_bytes(out + (2 * c + 1) * stride + i, bytes_xor(bytes_scale(high, factor), bias));
            }
        }
}

/* `count` tokens x PANEL rows x `groups` groups, added to sums[count][PANEL]. */
INLINE void tile(const int count, const uint8_t *RESTRICT w, const float *RESTRICT w_scales,
                 const int8_t *RESTRICT a, const float *RESTRICT a_scales, const int32_t *RESTRICT a_bias,
                 int64_t groups, float *RESTRICT sums) {
    for (int64_t g = 0; g < groups; g++) {
        vint sum[TILE_TOKENS][TILE_VECTORS];
        UNROLL for (int t = 0; t < count; t++) {
            UNROLL for (int v = 0; v < TILE_VECTORS; v++) sum[t][v] = int_set(a_bias[t]);
        }
        for (int step = 0; step < STEPS; step++) {
            vbytes weights[TILE_VECTORS];
            UNROLL for (int v = 0; v < TILE_VECTORS; v++) weights[v] = load_bytes(w + v * LANES * 4);
            UNROLL for (int t = 0; t < count; t++) {
                int32_t four = four_bytes(a + t * 4);
                UNROLL for (int v = 0; v < TILE_VECTORS; v++) sum[t][v] = dot_i8(sum[t][v], weights[v], four);
            }
            w += PANEL * 4;
            a += count * 4;
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
        a_bias += count;
    }
}

/* Tokens are cut into tiles of 12 (or 4), and the rest into smaller ones. */
INLINE int64_t tile_tokens(int64_t left) {
    if (left >= TILE_TOKENS) return TILE_TOKENS;
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* The activations of all tokens: for a tile that starts at token t its parts start at t x (their size per token). */
typedef struct {
    int8_t *values;  /* per tile [groups][STEPS][tokens][4] */
    float *scales;   /* per tile [groups][tokens] */
    int32_t *bias;   /* per tile [groups][tokens]: -TILE_BIAS x the sum of the values */
    int64_t groups;
} Activations;

static void quantize_tile(const Matrix *m, const float *x, int64_t first, int64_t count, Activations *a) {
    for (int64_t t = 0; t < count; t++)
        for (int64_t g = 0; g < a->groups; g++) {
            int8_t q[GROUP];
            int64_t left = m->columns - g * GROUP, at = first * a->groups + g * count + t;
            a->scales[at] = quantize_group(x + (first + t) * m->columns + g * GROUP, left < GROUP ? left : GROUP, q);
            a->bias[at] = -TILE_BIAS * byte_sum(q, GROUP);
            int8_t *out = a->values + (first * a->groups + g * count) * GROUP + t * 4;
            for (int step = 0; step < STEPS; step++) memcpy(out + step * count * 4, q + step * 4, 4);
        }
}

/* PANEL rows from `first_row` times all tokens. `panel` has room for PANEL_GROUPS unpacked groups. */
static void multiply_panel(const Matrix *m, const Activations *a, int64_t first_row, int64_t tokens,
                           uint8_t *panel, float *panel_scales, float *out) {
    int64_t count = m->rows - first_row < PANEL ? m->rows - first_row : PANEL;
    for (int64_t first = 0; first < a->groups; first += PANEL_GROUPS) {
        int64_t groups = a->groups - first < PANEL_GROUPS ? a->groups - first : PANEL_GROUPS;
        for (int64_t g = 0; g < groups; g++)
            for (int b = 0; b < PANEL / BLOCK; b++) {
                uint8_t *to = panel + g * PANEL * GROUP + b * CHUNK;
                float *scales = panel_scales + g * PANEL + b * BLOCK;
                if (b * BLOCK < count) {
                    int64_t at = (first_row / BLOCK + b) * a->groups + first + g;
                    unpack_group(m, at, to, PANEL * 4);
                    for (int v = 0; v < VECTORS; v++)
                        store_float(scales + v * LANES, m->scales ? load_half(m->scales + at * BLOCK + v * LANES)
                                                                  : float_set(1));
                } else {
                    for (int step = 0; step < STEPS; step++) memset(to + step * PANEL * 4, 0, CHUNK);
                    for (int r = 0; r < BLOCK; r++) scales[r] = 0;
                }
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
            const int8_t *values = a->values + at * GROUP;
            const float *scales = a->scales + at;
            const int32_t *bias = a->bias + at;
            switch (n) {
            case TILE_TOKENS: tile(TILE_TOKENS, panel, panel_scales, values, scales, bias, groups, sums); break;
#if defined(ISA_AVX512)
            case 8: tile(8, panel, panel_scales, values, scales, bias, groups, sums); break;
            case 4: tile(4, panel, panel_scales, values, scales, bias, groups, sums); break;
#endif
            case 2: tile(2, panel, panel_scales, values, scales, bias, groups, sums); break;
            default: tile(1, panel, panel_scales, values, scales, bias, groups, sums); break;
            }
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
    Activations a = {.groups = ceil_div(m->columns, GROUP)};
    size_t cells = (size_t)(tokens * a.groups);
    char *memory = malloc(cells * (GROUP + sizeof(float) + sizeof(int32_t)));
    if (!memory) return -1;
    a.scales = (float *)memory;
    a.bias = (int32_t *)(a.scales + cells);
    a.values = (int8_t *)(a.bias + cells);
    int64_t whole = tokens / TILE_TOKENS, panels = ceil_div(m->rows, PANEL);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        size_t panel_bytes = (size_t)PANEL_GROUPS * PANEL * GROUP;
        uint8_t *panel = malloc(panel_bytes + PANEL_GROUPS * PANEL * sizeof(float) + 64);
        uint8_t *aligned = (uint8_t *)(((uintptr_t)panel + 63) & ~(uintptr_t)63);
        if (!panel) {
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
        for (int64_t p = 0; p < panels; p++)
            if (panel) multiply_panel(m, &a, p * PANEL, tokens, aligned, (float *)(aligned + panel_bytes), out);
        free(panel);
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
