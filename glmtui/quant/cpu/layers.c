/* One token through all layers of a network, by one team of threads.
 *
 * Called one by one, what stands between the products would take as long as a tenth of them: every call comes back
 * to an interpreter whose code the weights have driven from the caches, and has to wake the threads again.
 */
#include <math.h>
#include <stdlib.h>

#include "cached.h"
#include "elementwise.h"
#include "product.h"

typedef struct {
    Matrix query_key_value, dense;  /* attention */
    Matrix up, down;                /* MLP; `up` has the gate's rows first, where there is one */
    const float *attention_norm, *attention_norm_bias; /* [hidden]; the bias may be NULL */
    const float *mlp_norm, *mlp_norm_bias;
} Layer;

/* What all layers have in common. Offsets are in floats of the first projection. */
typedef struct {
    int64_t hidden, inner; /* widths of the stream and of the MLP */
    int64_t heads, groups, size;
    int64_t query_stride;  /* from one head's query to the next; heads of a group lie side by side */
    int64_t key, value;    /* where the first group's key and value are */
    int64_t group_stride;  /* from one group's key (and value) to the next */
    int64_t distance;      /* distance of the columns that are rotated together */
    int32_t centred;       /* the norm takes the mean off: LayerNorm, else RMSNorm */
    int32_t gated;         /* the MLP's activation is SwiGLU, else GELU by tanh */
    int32_t from_norm;     /* the residual is the norm's output, else the stream */
    float epsilon;
    float residual;        /* its weight */
} Shape;

/* Keys and values of a layer, with room for `capacity` tokens. */
typedef struct {
    void *numbers;
    int64_t capacity;
    int32_t bits; /* 16: halves [2][groups][capacity][size]; 8: pages [2][groups][capacity / PAGE], see cached.h */
} Cache;

/* What a team computes with. */
typedef struct {
    float *normed;    /* [hidden] */
    float *projected; /* [rows of query_key_value] */
    float *rotated;   /* [heads + groups][size] */
    float *attended;  /* [heads][size] */
    float *inner;     /* [rows of up] */
    float *scores;    /* [heads][columns of the cache], or what attend_part works in */
    Rounded rounded;
} Room;

/* Every function below is called by all threads of the team, and returns when its result is there. */

/* out[hidden] = the norm of x, and rounded. Each thread computes the statistics: waiting for one to do it would take
 * longer. */
static void normalize(const Shape *s, const float *x, const float *weight, const float *bias, float *out,
                      const Rounded *rounded) {
    float mean = 0, squares = 0;
    if (s->centred) {
#pragma omp simd reduction(+ : mean)
        for (int64_t i = 0; i < s->hidden; i++) mean += x[i];
        mean /= (float)s->hidden;
    }
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < s->hidden; i++) squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / sqrtf(squares / (float)s->hidden + s->epsilon);
#pragma omp for schedule(static)
    for (int64_t g = 0; g < ceil_div(s->hidden, GROUP); g++) {
        int64_t end = (g + 1) * GROUP < s->hidden ? (g + 1) * GROUP : s->hidden;
        for (int64_t i = g * GROUP; i < end; i++)
            out[i] = (x[i] - mean) * scale * weight[i] + (bias ? bias[i] : 0.0f);
        round_group(out, s->hidden, g, rounded);
    }
}

/* Puts a key and a value of group `g` into the cache. */
static void put(const Shape *s, const Cache *cache, int64_t place, int64_t g, const float *key, const float *value) {
    if (cache->bits == 8) {
        int64_t stride = cache->capacity / PAGE * page_bytes(s->size);
        uint8_t *pages = (uint8_t *)cache->numbers + g * stride;
        put_cached(key, value, s->size, place, pages, pages + s->groups * stride);
        return;
    }
    uint16_t *halves = (uint16_t *)cache->numbers + (g * cache->capacity + place) * s->size;
    for (int64_t c = 0; c < s->size; c += LANES) {
        store_half(halves + c, load_float(key + c));
        store_half(halves + s->groups * cache->capacity * s->size + c, load_float(value + c));
    }
}

/* The attention of the token at `place` to a cache of bytes. */
static Attention attention_of(const Shape *s, const Cache *cache, int64_t place, const Room *room) {
    int64_t stride = cache->capacity / PAGE * page_bytes(s->size);
    const uint8_t *keys = cache->numbers;
    return (Attention){
        .q = room->rotated, .tokens = 1, .heads = s->heads, .head_stride = s->size,
        .keys = keys, .values = keys + s->groups * stride, .groups = s->groups, .stride = stride,
        .length = place + 1, .size = s->size, .out = room->attended,
    };
}

/* Rotates the queries and keys of `room->projected`, puts keys and values into the cache at `place`, and attends to all
 * up to there. */
static void attend(const Shape *s, const Cache *cache, int64_t place, const float *cosine, const float *sine,
                   const Room *room, int threads) {
    int64_t size = s->size;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < s->heads + s->groups; i++) {
        int64_t g = i - s->heads;
        float *rotated = room->rotated + i * size;
        const float *key = room->projected + s->key + g * s->group_stride;
        const float *value = room->projected + s->value + g * s->group_stride;
        rotate(g < 0 ? room->projected + i * s->query_stride : key, cosine, sine, size, s->distance, rotated);
        if (g >= 0) put(s, cache, place, g, rotated, value);
    }
    if (cache->bits == 8) {
        Attention attention = attention_of(s, cache, place, room);
        size_t bytes = attention_bytes(&attention, threads);
        int64_t parts = attention_parts(&attention, threads);
#pragma omp for schedule(dynamic, 1)
        for (int64_t part = 0; part < parts; part++)
            attend_part(&attention, threads, part, (char *)room->scores + (size_t)part * bytes);
        return;
    }
    int64_t stride = cache->capacity * size;
    uint16_t *keys = cache->numbers, *values = keys + s->groups * stride;
#pragma omp for schedule(dynamic, 1)
    for (int64_t h = 0; h < s->heads; h++) {
        int64_t at = h / (s->heads / s->groups) * stride;
        attend_head(room->rotated + h * size, keys + at, values + at, NULL, place + 1, size,
                    room->scores + h * (place + 1), room->attended + h * size);
    }
}

/* Makes of room->inner what the MLP's second product takes, and rounds it. */
static void activate(const Shape *s, const Room *room) {
#pragma omp for schedule(static)
    for (int64_t g = 0; g < ceil_div(s->inner, GROUP); g++) {
        float *x = room->inner + g * GROUP;
        int64_t left = s->inner - g * GROUP, count = left < GROUP ? left : GROUP;
        float gated[GROUP];
        if (s->gated) {
            gate(x, x + s->inner, gated, count);
            memcpy(x, gated, (size_t)count * sizeof(float));
        } else {
            gelu(x, count);
        }
        round_group(room->inner, s->inner, g, &room->rounded);
    }
}

static void run_layer(const Layer *layer, const Shape *s, const Cache *cache, int64_t place, const float *cosine,
                      const float *sine, float *x, const Room *room, int threads) {
    const float *residual = s->from_norm ? room->normed : x;
    int64_t attended = s->heads * s->size;
    normalize(s, x, layer->attention_norm, layer->attention_norm_bias, room->normed, &room->rounded);
    multiply_rounded(&layer->query_key_value, &room->rounded, NULL, 0, room->projected, threads);
    attend(s, cache, place, cosine, sine, room, threads);
#pragma omp for schedule(static)
    for (int64_t g = 0; g < ceil_div(attended, GROUP); g++) round_group(room->attended, attended, g, &room->rounded);
    multiply_rounded(&layer->dense, &room->rounded, residual, s->residual, x, threads);
    normalize(s, x, layer->mlp_norm, layer->mlp_norm_bias, room->normed, &room->rounded);
    multiply_rounded(&layer->up, &room->rounded, NULL, 0, room->inner, threads);
    activate(s, room);
    multiply_rounded(&layer->down, &room->rounded, residual, s->residual, x, threads);
}

/* x[hidden], a token at `place` of every cache with the rotation cosine[size] and sine[size], through `count` layers
 * and into their caches. `size` is a multiple of 16. Returns -1 when memory is short. */
EXPORT int glmtui_layers(const Layer *layers, int64_t count, const Shape *s, const Cache *caches, int64_t place,
                         const float *cosine, const float *sine, float *x, int threads) {
    int64_t attended = s->heads * s->size, up = s->gated ? 2 * s->inner : s->inner;
    int64_t projected = attended + 2 * s->groups * s->size, widest = up > attended ? up : attended;
    widest = s->hidden > widest ? s->hidden : widest;
    int64_t floats = s->hidden + projected + (attended + s->groups * s->size) + attended + up;
    size_t scored = (size_t)(s->heads * (place + 1)) * sizeof(float);
    if (count && caches->bits == 8) {
        Attention attention = attention_of(s, caches, place, &(Room){0});
        scored = attention_bytes(&attention, threads) * (size_t)attention_parts(&attention, threads);
    }
    char *memory = malloc((size_t)floats * sizeof(float) + rounded_bytes(widest) + scored);
    if (!memory) return -1;
    Room room = {.normed = (float *)memory};
    room.projected = room.normed + s->hidden;
    room.rotated = room.projected + projected;
    room.attended = room.rotated + attended + s->groups * s->size;
    room.inner = room.attended + attended;
    room.rounded = rounded_at(room.inner + up, widest);
    room.scores = (float *)(memory + (size_t)floats * sizeof(float) + rounded_bytes(widest));
#pragma omp parallel num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < count; i++) run_layer(layers + i, s, caches + i, place, cosine, sine, x, &room, threads);
    free(memory);
    return 0;
}
