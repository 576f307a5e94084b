/* Puts weights into the layout that the products read: floating-point ones are quantised, published INT8
 * and INT4 ones only reordered. Every weight is read once and written once, in whole blocks of 16 rows.
 */
#include <math.h>
#include <stddef.h>

#include "layout.h"

typedef enum { FLOAT32, FLOAT16, BFLOAT16 } Kind;

static const float SMALLEST_HALF = 5.9604644775390625e-8f, LARGEST_HALF = 65504.0f;

INLINE uint32_t load_word(const void *p) {
    uint32_t r;
    memcpy(&r, p, 4);
    return r;
}

/* ---- numbers ---- */

/* One group as float, zeros behind `count`. Returns whether all are finite. */
static int widen(const uint8_t *stored, Kind kind, int64_t count, float *RESTRICT out) {
    uint8_t padded[GROUP * sizeof(float)];
    size_t size = kind == FLOAT32 ? 4 : 2;
    uint32_t infinite = 0;
    if (count < GROUP) {
        memset(padded, 0, sizeof padded);
        memcpy(padded, stored, (size_t)count * size);
        stored = padded;
    }
    if (kind == FLOAT16) {
        uint16_t halves[GROUP];
        memcpy(halves, stored, sizeof halves);
        for (int i = 0; i < GROUP; i++) infinite |= (halves[i] & 0x7C00) == 0x7C00; /* plain C makes it 2^16 */
        for (int i = 0; i < GROUP; i += LANES) store_float(out + i, load_half(halves + i));
    } else if (kind == BFLOAT16) {
        for (int i = 0; i < GROUP; i++) {
            uint16_t high;
            memcpy(&high, stored + 2 * i, 2);
            uint32_t bits = (uint32_t)high << 16;
            memcpy(out + i, &bits, 4);
        }
    } else {
        memcpy(out, stored, GROUP * sizeof(float));
    }
    for (int i = 0; i < GROUP; i++) infinite |= (load_word(out + i) & 0x7F800000u) == 0x7F800000u;
    return !infinite;
}

INLINE float largest_of(const float *x, int count) {
    float largest = 0;
#pragma omp simd reduction(max : largest)
    for (int i = 0; i < count; i++) {
        float magnitude = fabsf(x[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

/* Rounds a scale to fp16, half to even. One that is too small or too large takes the smallest or largest. */
static uint16_t half_of(float scale) {
    if (!(scale > 0)) return 0;
    scale = scale < SMALLEST_HALF ? SMALLEST_HALF : scale > LARGEST_HALF ? LARGEST_HALF : scale;
    if (scale < 6.103515625e-5f) return (uint16_t)rintf(scale / SMALLEST_HALF); /* subnormal */
    uint32_t bits = load_word(&scale);
    return (uint16_t)(((bits + 0xFFF + (bits >> 13 & 1)) >> 13) - (112u << 10));
}

static float float_of(uint16_t half) {
    if (half < 0x400) return (float)half * SMALLEST_HALF;
    uint32_t bits = ((uint32_t)half << 13) + (112u << 23);
    float r;
    memcpy(&r, &bits, 4);
    return r;
}

/* ---- order ---- */

/* Words of 4 bytes of 16 rows, [BLOCK][words], to [words][BLOCK]; `words` is a multiple of 8. */
#if defined(ISA_AVX2) || defined(ISA_AVXVNNI) || defined(ISA_AVX512)
/* Eight words of eight rows: words change places with their neighbours, then pairs, then halves. */
INLINE void transpose_8(const uint32_t *RESTRICT rows, int words, uint8_t *RESTRICT values) {
    __m256i a[8], b[8];
    UNROLL for (int r = 0; r < 8; r++) a[r] = _mm256_loadu_si256((const __m256i *)(rows + r * words));
    UNROLL for (int r = 0; r < 8; r += 2) {
        b[r] = _mm256_unpacklo_epi32(a[r], a[r + 1]);
        b[r + 1] = _mm256_unpackhi_epi32(a[r], a[r + 1]);
    }
    UNROLL for (int r = 0; r < 8; r += 4) {
        a[r] = _mm256_unpacklo_epi64(b[r], b[r + 2]);
        a[r + 1] = _mm256_unpackhi_epi64(b[r], b[r + 2]);
        a[r + 2] = _mm256_unpacklo_epi64(b[r + 1], b[r + 3]);
        a[r + 3] = _mm256_unpackhi_epi64(b[r + 1], b[r + 3]);
    }
    UNROLL for (int w = 0; w < 4; w++) {
        _mm256_storeu_si256((__m256i *)(values + w * CHUNK), _mm256_permute2x128_si256(a[w], a[4 + w], 0x20));
        _mm256_storeu_si256((__m256i *)(values + (4 + w) * CHUNK), _mm256_permute2x128_si256(a[w], a[4 + w], 0x31));
    }
}

INLINE void interleave(const uint32_t *RESTRICT rows, int words, uint8_t *RESTRICT values) {
    for (int w = 0; w < words; w += 8)
        for (int r = 0; r < BLOCK; r += 8) transpose_8(rows + r * words + w, words, values + w * CHUNK + r * 4);
}

/* Past the caches, which would read from memory first what is overwritten as a whole. `to` is aligned to 16 bytes;
 * others see it after `settle`. */
INLINE void put(uint8_t *RESTRICT to, const uint8_t *RESTRICT from, int count) {
    for (int i = 0; i < count; i += 16)
        _mm_stream_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
}
INLINE void settle(void) { _mm_sfence(); }
#else
INLINE void interleave(const uint32_t *RESTRICT rows, int words, uint8_t *RESTRICT values) {
    for (int w = 0; w < words; w++) {
        uint32_t column[BLOCK];
        for (int r = 0; r < BLOCK; r++) column[r] = rows[r * words + w];
        memcpy(values + w * CHUNK, column, CHUNK);
    }
}

INLINE void put(uint8_t *RESTRICT to, const uint8_t *RESTRICT from, int count) { memcpy(to, from, (size_t)count); }
INLINE void settle(void) {}
#endif

/* A group of INT8, in two planes that each lie as INT4 does: high nibbles plus 8, and low nibbles. */
INLINE void split_planes(const uint8_t *RESTRICT group, uint8_t *RESTRICT high, uint8_t *RESTRICT low) {
    for (int c = 0; c < STEPS / 2; c++)
        for (int i = 0; i < CHUNK; i++) {
            uint8_t first = group[2 * c * CHUNK + i], second = group[(2 * c + 1) * CHUNK + i];
            high[c * CHUNK + i] = (first >> 4 | (second & 0xF0)) ^ 0x88;
            low[c * CHUNK + i] = (uint8_t)((first & 15) | second << 4);
        }
}

/* Published nibbles, even columns high and signed: 4 columns to the low nibbles, 4 to the high, plus 8. */
INLINE uint32_t reorder(uint32_t stored) {
    uint32_t even = stored >> 4 & 0x0F0F0F0Fu, odd = stored & 0x0F0F0F0Fu;
    even |= even >> 12; /* columns 0 and 4 in the first byte, 2 and 6 in the second */
    odd |= odd >> 12;
    uint32_t word = (even & 0xFF) | (odd & 0xFF) << 8 | (even & 0xFF00) << 8 | (odd & 0xFF00) << 16;
    return word ^ 0x88888888u;
}

/* ---- quantising ---- */

static uint16_t quantize_8(const float *RESTRICT x, uint32_t *RESTRICT words) {
    uint16_t half = half_of(largest_of(x, GROUP) / 127.0f);
    float scale = half ? float_of(half) : 1.0f;
    int8_t q[GROUP];
#pragma omp simd
    for (int i = 0; i < GROUP; i++) {
        float level = rintf(x[i] / scale);
        level = level > 127.0f ? 127.0f : level < -127.0f ? -127.0f : level;
        q[i] = (int8_t)(int32_t)level;
    }
    memcpy(words, q, sizeof q);
    return half;
}

/* Rounds 32 columns to steps of `step` in -8..7; returns the squared error. */
INLINE float round_sub(const float *RESTRICT x, float step, int8_t *RESTRICT q) {
    float inverse = step > 0 ? 1.0f / step : 0.0f, error = 0;
#pragma omp simd reduction(+ : error)
    for (int i = 0; i < SUB; i++) {
        float level = rintf(x[i] * inverse);
        level = level > 7.0f ? 7.0f : level < -8.0f ? -8.0f : level;
        error += (x[i] - level * step) * (x[i] - level * step);
        q[i] = (int8_t)(int32_t)level;
    }
    return error;
}

/* The factor of every 32 columns is the best of four, by squared error. */
static uint16_t quantize_4(const float *RESTRICT x, uint32_t *RESTRICT words, int *factors) {
    float largest[SUBS];
    for (int s = 0; s < SUBS; s++) largest[s] = largest_of(x + s * SUB, SUB);
    uint16_t half = half_of(largest_of(largest, SUBS) / (7 * 15));
    float scale = float_of(half);
    int8_t best[GROUP] = {0};
    for (int s = 0; s < SUBS; s++) {
        float least = INFINITY, whole = half ? ceilf(largest[s] / scale / 7.0f) : 0.0f; /* cuts nothing off */
        for (int less = 0; less < 4; less++) {
            int8_t q[SUB];
            float factor = whole - (float)less;
            factor = factor > 15.0f ? 15.0f : factor < 0.0f ? 0.0f : factor;
            float error = round_sub(x + s * SUB, factor * scale, q);
            if (error < least) {
                least = error;
                factors[s] = (int)factor;
                memcpy(best + s * SUB, q, SUB);
            }
        }
    }
    for (int w = 0; w < GROUP / 8; w++) {
        uint32_t low = (load_word(best + 8 * w) ^ 0x08080808u) & 0x0F0F0F0Fu;
        uint32_t high = (load_word(best + 8 * w + 4) ^ 0x08080808u) & 0x0F0F0F0Fu;
        words[w] = low | high << 4;
    }
    return half;
}

/* ---- what Python calls ---- */

/* Quantises stored[rows][columns] of `kind`; the rest as in Matrix. Returns -1 when a weight is not finite. */
EXPORT int glmtui_quantize(const uint8_t *stored, int kind, int64_t rows, int64_t columns, int bits, uint8_t *values,
                           uint8_t *low, uint16_t *scales, uint8_t *factors, int threads) {
    int64_t blocks = ceil_div(rows, BLOCK), groups = ceil_div(columns, GROUP), width = kind == FLOAT32 ? 4 : 2;
    int words = GROUP * bits / 32, infinite = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (blocks > 1) reduction(| : infinite)
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t g = 0; g < groups; g++) {
            int64_t at = block * groups + g, left = columns - g * GROUP;
            uint32_t q[BLOCK * STEPS];
            uint8_t pairs[SUBS / 2][BLOCK];
            memset(pairs, 0, sizeof pairs);
            for (int r = 0; r < BLOCK; r++) {
                int64_t row = block * BLOCK + r;
                int chosen[SUBS] = {0};
                float x[GROUP] = {0};
                if (row < rows) {
                    const uint8_t *p = stored + (row * columns + g * GROUP) * width;
                    if (!widen(p, (Kind)kind, left < GROUP ? left : GROUP, x)) {
                        infinite = 1;
                        memset(x, 0, sizeof x);
                    }
                }
                scales[at * BLOCK + r] = bits == 8 ? quantize_8(x, q + r * words) : quantize_4(x, q + r * words, chosen);
                for (int s = 0; s < SUBS; s++) pairs[s / 2][r] |= (uint8_t)(chosen[s] << (s % 2 * 4));
            }
            if (low) {
                uint8_t group[CHUNK * STEPS];
                interleave(q, words, group);
                split_planes(group, values + at * CHUNK * STEPS / 2, low + at * CHUNK * STEPS / 2);
            } else {
                interleave(q, words, values + at * CHUNK * words);
            }
            if (bits == 4) memcpy(factors + at * (int64_t)sizeof pairs, pairs, sizeof pairs);
        }
    return infinite ? -1 : 0;
}

/* Reorders the published stored[rows][columns * bits / 8]. */
EXPORT void glmtui_reorder(const uint8_t *stored, int64_t rows, int64_t columns, int bits, uint8_t *values,
                           int threads) {
    int64_t blocks = ceil_div(rows, BLOCK), groups = ceil_div(columns, GROUP);
    int64_t width = columns * bits / 8, group = GROUP * bits / 8;
    int words = GROUP * bits / 32;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (blocks > 1)
    for (int64_t block = 0; block < blocks; block++) {
        for (int64_t g = 0; g < groups; g++) {
            uint32_t q[BLOCK * STEPS];
            uint8_t ordered[STEPS * CHUNK];
            int64_t left = width - g * group;
            memset(q, 0, sizeof q);
            for (int r = 0; r < BLOCK && block * BLOCK + r < rows; r++)
                memcpy(q + r * words, stored + (block * BLOCK + r) * width + g * group,
                       (size_t)(left < group ? left : group));
            if (bits == 4)
                for (int i = 0; i < BLOCK * words; i++) q[i] = reorder(q[i]);
            interleave(q, words, ordered);
            put(values + (block * groups + g) * CHUNK * words, ordered, CHUNK * words);
        }
        settle();
    }
}
