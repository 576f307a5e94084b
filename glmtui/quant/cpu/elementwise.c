/* What stands between the products: activation functions, rotation, and the attention of few tokens. */
#include <math.h>
#include <stdlib.h>

#include "elementwise.h"
#include "exponential.h"

/* x / (1 + e^-z): z is x for SiLU, and 2 sqrt(2 / pi) (x + 0.044715 x^3) for GELU by tanh. */
void gelu(float *RESTRICT x, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++)
        x[i] = x[i] / (1.0f + exponential(-1.5957691216057308f * x[i] * (1.0f + 0.044715f * x[i] * x[i])));
}

/* GELU of x[count] in place, by its approximation with tanh. */
EXPORT void glmtui_gelu(float *x, int64_t count, int threads) {
    int64_t piece = 1 << 13, pieces = ceil_div(count, piece);
#pragma omp parallel for schedule(static) num_threads(threads) if (pieces > 1)
    for (int64_t i = 0; i < pieces; i++)
        gelu(x + i * piece, count - i * piece < piece ? count - i * piece : piece);
}

INLINE float silu(float x) { return x / (1.0f + exponential(-x)); }

void gate(float *RESTRICT x, const float *RESTRICT up, int64_t count) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) x[i] = silu(x[i]) * up[i];
}

/* out[rows][width] = SiLU(x[rows][:width]) * x[rows][width:]. */
EXPORT void glmtui_swiglu(const float *x, int64_t rows, int64_t width, float *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (rows > 1)
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + 2 * r * width;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) out[r * width + i] = silu(row[i]) * row[width + i];
    }
}

void rotate(const float *x, const float *cosine, const float *sine, int64_t size, int64_t distance,
            float *RESTRICT out) {
    for (int64_t first = 0; first < size; first += 2 * distance)
        for (int64_t c = first; c < first + distance; c++) {
            out[c] = x[c] * cosine[c] + x[c + distance] * sine[c];
            out[c + distance] = x[c + distance] * cosine[c + distance] + x[c] * sine[c + distance];
        }
}

/* Rotates pairs of columns `distance` columns from each other: of every token its `heads` of `parts` vectors of `size`,
 * which lie `token_stride` and `head_stride` floats apart. cos and sin (with the rotation's sign) are [tokens][size],
 * out is [tokens][heads][parts][size]. */
EXPORT void glmtui_rotate(const float *x, const float *cosines, const float *sines, int64_t tokens, int64_t heads,
                          int64_t parts, int64_t size, int64_t token_stride, int64_t head_stride, int64_t distance,
                          float *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (tokens > 1)
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < heads * parts; i++) {
            const float *from = x + t * token_stride + i / parts * head_stride + i % parts * size;
            float *to = out + (t * heads * parts + i) * size;
            rotate(from, cosines + t * size, sines + t * size, size, distance, to);
        }
}

/* scores[count] = `scale` x the products of q[size] with as many keys. */
INLINE void score_keys(const int count, const float *q, const uint16_t *keys, int64_t size, float scale, float *scores) {
    vfloat total[4];
    for (int k = 0; k < count; k++) total[k] = float_set(0);
    for (int64_t i = 0; i < size; i += LANES) {
        vfloat part = load_float(q + i);
        for (int k = 0; k < count; k++) total[k] = fma_(part, load_half(keys + k * size + i), total[k]);
    }
    for (int k = 0; k < count; k++) {
        float lanes[LANES], score = 0;
        store_float(lanes, total[k]);
        for (int i = 0; i < LANES; i++) score += lanes[i];
        scores[k] = score * scale;
    }
}

void attend_head(const float *q, const uint16_t *keys, const uint16_t *values, const uint8_t *mask, int64_t length,
                 int64_t size, float *RESTRICT scores, float *out) {
    float scale = 1.0f / sqrtf((float)size), largest = -INFINITY, sum = 0;
    int64_t fours = length / 4 * 4; /* keys are taken by four, so that no sum waits for the one before */
    for (int64_t t = 0; t < fours; t += 4) score_keys(4, q, keys + t * size, size, scale, scores + t);
    for (int64_t t = fours; t < length; t++) score_keys(1, q, keys + t * size, size, scale, scores + t);
    for (int64_t t = 0; mask && t < length; t++)
        if (!mask[t]) scores[t] = -1e30f;
#pragma omp simd reduction(max : largest)
    for (int64_t t = 0; t < length; t++) largest = scores[t] > largest ? scores[t] : largest;
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t < length; t++) {
        scores[t] = exponential(scores[t] - largest);
        sum += scores[t];
    }
    float inverse = 1.0f / sum;
    for (int64_t first = 0; first < size; first += 4 * LANES) { /* four vectors of the output at a time */
        int64_t vectors = (size - first) / LANES < 4 ? (size - first) / LANES : 4;
        vfloat total[4];
        for (int v = 0; v < 4; v++) total[v] = float_set(0);
        for (int64_t t = 0; t < length; t++) {
            vfloat weight = float_set(scores[t] * inverse);
            for (int v = 0; v < vectors; v++)
                total[v] = fma_(load_half(values + t * size + first + v * LANES), weight, total[v]);
        }
        for (int v = 0; v < vectors; v++) store_float(out + first + v * LANES, total[v]);
    }
}

/* The attention of few tokens, to each what it gets alone: out[tokens][heads][size] of queries whose tokens and heads lie
 * `token_stride` and `head_stride` floats apart. keys and values fp16 [groups] of `stride` halfs, each [length][size];
 * heads of a group lie side by side; `size` is a multiple of 16. mask[tokens][length]: 1 where a token may see a key
 * (one at least); NULL: it sees all. Returns -1 when memory is short. */
EXPORT int glmtui_attend(const float *q, const uint16_t *keys, const uint16_t *values, const uint8_t *mask,
                         int64_t tokens, int64_t token_stride, int64_t heads, int64_t head_stride, int64_t groups,
                         int64_t length, int64_t size, int64_t stride, float *out, int threads) {
    float *scores = malloc((size_t)(tokens * heads * length) * sizeof(float));
    if (!scores) return -1;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (length > 16)
    for (int64_t i = 0; i < heads * tokens; i++) { /* tokens one after another: keys and values are read once */
        int64_t h = i / tokens, t = i % tokens, at = h / (heads / groups) * stride;
        const uint8_t *seen = mask ? mask + t * length : NULL;
        attend_head(q + t * token_stride + h * head_stride, keys + at, values + at, seen, seen_keys(seen, length), size,
                    scores + i * length, out + (t * heads + h) * size);
    }
    free(scores);
    return 0;
}
