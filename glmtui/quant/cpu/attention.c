/* The attention of many tokens at once, in float32.
 *
 * A vector holds one number of LANES queries: of a column of theirs, of their scores for a key, of a column of
 * their output. So scores and output are the same kind of product, of a table in memory whose numbers are spread
 * over a vector one by one, and no sum of the softmax runs across a vector.
 */
#include <math.h>
#include <stdlib.h>

#include "exponential.h"
#include "layout.h"

enum {
    QUERIES = 2 * LANES, /* at once */
    TALL = 6,            /* rows of a tile */
    SHARE = 8 * QUERIES, /* queries that a thread takes at a time: widening the keys costs little next to them */
};

static const float HIDDEN = -1e30f;

/* What a thread works in. */
typedef struct {
    float *keys, *values; /* [length][size] */
    float *queries;       /* [size][QUERIES] */
    float *scores;        /* [length][QUERIES] */
    float *outputs;       /* [size][QUERIES] */
} Workspace;

/* out[count][QUERIES] = the sum over k < depth of table[i * across + k * along] * b[k][QUERIES]. */
INLINE void tile(const int count, const float *table, int64_t across, int64_t along, const float *b, int64_t depth,
                 float *RESTRICT out) {
    vfloat sum[TALL][2];
    UNROLL for (int i = 0; i < count; i++) sum[i][0] = sum[i][1] = float_set(0);
    for (int64_t k = 0; k < depth; k++, b += QUERIES) {
        vfloat first = load_float(b), second = load_float(b + LANES);
        UNROLL for (int i = 0; i < count; i++) {
            vfloat spread = float_set(table[i * across + k * along]);
            sum[i][0] = fma_(spread, first, sum[i][0]);
            sum[i][1] = fma_(spread, second, sum[i][1]);
        }
    }
    UNROLL for (int i = 0; i < count; i++) {
        store_float(out + i * QUERIES, sum[i][0]);
        store_float(out + i * QUERIES + LANES, sum[i][1]);
    }
}

static void multiply(const float *table, int64_t rows, int64_t across, int64_t along, const float *b, int64_t depth,
                     float *out) {
    int64_t i = 0;
    for (; i + TALL <= rows; i += TALL) tile(TALL, table + i * across, across, along, b, depth, out + i * QUERIES);
    for (; i + 2 <= rows; i += 2) tile(2, table + i * across, across, along, b, depth, out + i * QUERIES);
    for (; i < rows; i++) tile(1, table + i * across, across, along, b, depth, out + i * QUERIES);
}

/* scores[length][QUERIES] to what they weigh, without the division by their sums[QUERIES]. */
static void soften(float *scores, int64_t length, float *sums) {
    float largest[QUERIES];
    for (int i = 0; i < QUERIES; i++) largest[i] = HIDDEN, sums[i] = 0;
    for (int64_t t = 0; t < length; t++) {
#pragma omp simd
        for (int i = 0; i < QUERIES; i++) {
            float score = scores[t * QUERIES + i];
            largest[i] = score > largest[i] ? score : largest[i];
        }
    }
    for (int64_t t = 0; t < length; t++) {
#pragma omp simd
        for (int i = 0; i < QUERIES; i++) {
            float weight = exponential(scores[t * QUERIES + i] - largest[i]);
            scores[t * QUERIES + i] = weight;
            sums[i] += weight;
        }
    }
}

/* How many of `length` keys, counted from the first, any of `count` queries sees. */
static int64_t last_seen(const uint8_t *mask, int64_t count, int64_t length) {
    int64_t seen = 1;
    for (int64_t i = 0; i < count; i++)
        for (int64_t t = length; t > seen; t--)
            if (mask[i * length + t - 1]) seen = t;
    return seen;
}

/* Up to QUERIES queries of a head, whose keys and values lie in the workspace already. */
static void attend_some(const float *q, int64_t q_stride, int64_t count, int64_t length, int64_t size,
                        const uint8_t *mask, const Workspace *space, float *out, int64_t out_stride) {
    float sums[QUERIES], scale = 1.0f / sqrtf((float)size);
    int64_t seen = mask ? last_seen(mask, count, length) : length;
    for (int64_t c = 0; c < size; c++)
        for (int64_t i = 0; i < QUERIES; i++)
            space->queries[c * QUERIES + i] = i < count ? q[i * q_stride + c] * scale : 0;
    multiply(space->keys, seen, size, 1, space->queries, size, space->scores);
    for (int64_t i = 0; mask && i < count; i++)
        for (int64_t t = 0; t < seen; t++)
            if (!mask[i * length + t]) space->scores[t * QUERIES + i] = HIDDEN;
    soften(space->scores, seen, sums);
    multiply(space->values, size, 1, size, space->scores, seen, space->outputs);
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < size; c++) out[i * out_stride + c] = space->outputs[c * QUERIES + i] / sums[i];
}

static void widen(const uint16_t *halfs, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i += LANES) store_float(out + i, load_half(halfs + i));
}

/* out[tokens][heads][size], the attention of queries whose tokens and heads lie `token_stride` and `head_stride`
 * floats apart. keys and values fp16 [groups] of `stride` halfs, each [length][size]; heads of a group lie side by
 * side; `size` is a multiple of 16. mask[tokens][length]: 1 where a token may see a key (one at least); NULL: it
 * sees all. Returns -1 when memory is short. */
EXPORT int glmtui_attend_prompt(const float *q, const uint16_t *keys, const uint16_t *values, const uint8_t *mask,
                                int64_t tokens, int64_t token_stride, int64_t heads, int64_t head_stride,
                                int64_t groups, int64_t length, int64_t size, int64_t stride, float *out, int threads) {
    int failed = 0;
    int64_t shares = ceil_div(tokens, SHARE);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        float *room = malloc((size_t)(2 * length * size + 2 * size * QUERIES + length * QUERIES) * sizeof(float));
        Workspace space = {.keys = room};
        if (room) {
            space.values = space.keys + length * size;
            space.queries = space.values + length * size;
            space.outputs = space.queries + size * QUERIES;
            space.scores = space.outputs + size * QUERIES;
        } else {
#pragma omp atomic
            failed |= 1;
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < heads * shares; i++) {
            if (!room) continue;
            int64_t h = i / shares, first = i % shares * SHARE, at = h / (heads / groups) * stride;
            int64_t end = first + SHARE < tokens ? first + SHARE : tokens;
            widen(keys + at, length * size, space.keys);
            widen(values + at, length * size, space.values);
            for (int64_t t = first; t < end; t += QUERIES)
                attend_some(q + t * token_stride + h * head_stride, token_stride,
                            end - t < QUERIES ? end - t : QUERIES, length, size, mask ? mask + t * length : NULL,
                            &space, out + (t * heads + h) * size, heads * size);
        }
        free(room);
    }
    return failed ? -1 : 0;
}
