/* Few tokens through all layers of a network, by one team of threads: the next ones of one sequence, or of several.
 * Each gets what it would get alone, to the bit.
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

/* Where a token's keys and values go: behind all that it sees. */
typedef struct {
    int64_t sequence, place;
} Token;

/* What goes through the layers. */
typedef struct {
    const Token *tokens;
    int64_t count;
    const Cache *caches; /* [sequences][layers] */
    int64_t layers;
    const float *cosines, *sines; /* [tokens][size] */
} Pass;

/* What a team computes with. */
typedef struct {
    float *normed;    /* [tokens][hidden] */
    float *projected; /* [tokens][rows of query_key_value] */
    float *rotated;   /* [tokens][heads + groups][size] */
    float *attended;  /* [tokens][heads][size] */
    float *inner;     /* [tokens][rows of up] */
    char *scores;     /* of every run, scored_bytes */
    Rounded rounded;
} Room;

/* What the norm takes off one token, and then multiplies by. */
static void statistics(const Shape *s, const float *x, float *mean, float *scale) {
    float sum = 0, squares = 0;
    if (s->centred) {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < s->hidden; i++) sum += x[i];
        sum /= (float)s->hidden;
    }
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < s->hidden; i++) squares += (x[i] - sum) * (x[i] - sum);
    *mean = sum;
    *scale = 1.0f / sqrtf(squares / (float)s->hidden + s->epsilon);
}

/* Every function below is called by all threads of the team, and returns when its result is there. */

/* out[tokens][hidden] = the norms of x, and rounded. Each thread computes the statistics of the tokens that it works on:
 * waiting for one to do it would take longer. */
static void normalize(const Shape *s, const float *x, const float *weight, const float *bias, float *out,
                      const Rounded *rounded) {
    int64_t groups = ceil_div(s->hidden, GROUP), known = -1;
    float mean = 0, scale = 0;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < rounded->tokens * groups; i++) {
        int64_t t = i / groups, g = i % groups, end = (g + 1) * GROUP < s->hidden ? (g + 1) * GROUP : s->hidden;
        const float *token = x + t * s->hidden;
        float *normed = out + t * s->hidden;
        if (t != known) {
            statistics(s, token, &mean, &scale);
            known = t;
        }
        for (int64_t c = g * GROUP; c < end; c++)
            normed[c] = (token[c] - mean) * scale * weight[c] + (bias ? bias[c] : 0.0f);
        round_group(normed, s->hidden, t, g, rounded);
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

/* Tokens of one sequence, side by side in the pass. */
typedef struct {
    int64_t first, count;
    int64_t length; /* keys that the last one sees; each one before it sees one less */
    const Cache *cache;
} Run;

static Run run_from(const Pass *pass, int64_t first, int64_t layer) {
    const Token *tokens = pass->tokens;
    int64_t end = first + 1;
    while (end < pass->count && tokens[end].sequence == tokens[first].sequence) end++;
    return (Run){first, end - first, tokens[end - 1].place + 1, pass->caches + tokens[first].sequence * pass->layers + layer};
}

/* The attention of a run to a cache of bytes. */
static Attention attention_of(const Shape *s, const Run *run, const Room *room) {
    int64_t stride = run->cache->capacity / PAGE * page_bytes(s->size), width = (s->heads + s->groups) * s->size;
    const uint8_t *keys = run->cache->numbers;
    return (Attention){
        .q = room->rotated + run->first * width, .tokens = run->count, .token_stride = width,
        .heads = s->heads, .head_stride = s->size,
        .keys = keys, .values = keys + s->groups * stride, .groups = s->groups, .stride = stride,
        .length = run->length, .size = s->size, .causal = 1, .out = room->attended + run->first * s->heads * s->size,
    };
}

/* What the attention of a run takes to compute in. */
static size_t scored_bytes(const Shape *s, const Run *run, const Room *room, int threads) {
    if (run->cache->bits != 8) return (size_t)(run->count * s->heads * run->length) * sizeof(float);
    Attention attention = attention_of(s, run, room);
    return attention_bytes(&attention, threads) * (size_t)attention_parts(&attention, threads);
}

/* Lets the tokens of a run attend to its cache. No thread waits for the others here. */
static void attend_run(const Shape *s, const Run *run, const Room *room, char *scores, int threads) {
    if (run->cache->bits == 8) {
        Attention attention = attention_of(s, run, room);
        size_t bytes = attention_bytes(&attention, threads);
        int64_t parts = attention_parts(&attention, threads);
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t part = 0; part < parts; part++)
            attend_part(&attention, threads, part, scores + (size_t)part * bytes);
        return;
    }
    int64_t size = s->size, stride = run->cache->capacity * size, parts = s->heads + s->groups;
    const uint16_t *keys = run->cache->numbers, *values = keys + s->groups * stride;
    /* A head's tokens one after another: they share its keys in the caches. */
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t i = 0; i < run->count * s->heads; i++) {
        int64_t h = i / run->count, t = run->first + i % run->count, at = h / (s->heads / s->groups) * stride;
        attend_head(room->rotated + (t * parts + h) * size, keys + at, values + at, NULL,
                    run->length - run->count + 1 + i % run->count, size, (float *)scores + i * run->length,
                    room->attended + (t * s->heads + h) * size);
    }
}

/* Puts the keys and values of `room->projected` into the caches, and lets every token attend to all up to its own. */
static void attend(const Shape *s, const Pass *pass, int64_t layer, const Room *room, int threads) {
    int64_t size = s->size, parts = s->heads + s->groups, width = s->heads * size + 2 * s->groups * size;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < pass->count * parts; i++) {
        int64_t t = i / parts, part = i % parts, g = part - s->heads, place = pass->tokens[t].place;
        const float *projected = room->projected + t * width;
        const float *from = projected + (g < 0 ? part * s->query_stride : s->key + g * s->group_stride);
        float *rotated = room->rotated + i * size;
        rotate(from, pass->cosines + t * size, pass->sines + t * size, size, s->distance, rotated);
        const Cache *cache = pass->caches + pass->tokens[t].sequence * pass->layers + layer;
        if (g >= 0) put(s, cache, place, g, rotated, projected + s->value + g * s->group_stride);
    }
    char *scores = room->scores;
    for (int64_t first = 0; first < pass->count;) {
        Run run = run_from(pass, first, layer);
        attend_run(s, &run, room, scores, threads);
        scores += scored_bytes(s, &run, room, threads);
        first += run.count;
    }
#pragma omp barrier
}

/* Rounds what the attention made. */
static void round_attended(const Shape *s, const Room *room) {
    int64_t width = s->heads * s->size, groups = ceil_div(width, GROUP);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < room->rounded.tokens * groups; i++)
        round_group(room->attended + i / groups * width, width, i / groups, i % groups, &room->rounded);
}

/* Makes of room->inner what the MLP's second product takes, and rounds it. */
static void activate(const Shape *s, const Room *room) {
    int64_t groups = ceil_div(s->inner, GROUP), width = s->gated ? 2 * s->inner : s->inner;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < room->rounded.tokens * groups; i++) {
        int64_t t = i / groups, g = i % groups, left = s->inner - g * GROUP, count = left < GROUP ? left : GROUP;
        float *x = room->inner + t * width + g * GROUP, gated[GROUP];
        if (s->gated) {
            gate(x, x + s->inner, gated, count);
            memcpy(x, gated, (size_t)count * sizeof(float));
        } else {
            gelu(x, count);
        }
        round_group(room->inner + t * width, s->inner, t, g, &room->rounded);
    }
}

static void run_layer(const Layer *layer, const Shape *s, const Pass *pass, int64_t number, float *x, const Room *room,
                      int threads) {
    const float *residual = s->from_norm ? room->normed : x;
    normalize(s, x, layer->attention_norm, layer->attention_norm_bias, room->normed, &room->rounded);
    multiply_rounded(&layer->query_key_value, &room->rounded, NULL, 0, room->projected, threads);
    attend(s, pass, number, room, threads);
    round_attended(s, room);
    multiply_rounded(&layer->dense, &room->rounded, residual, s->residual, x, threads);
    normalize(s, x, layer->mlp_norm, layer->mlp_norm_bias, room->normed, &room->rounded);
    multiply_rounded(&layer->up, &room->rounded, NULL, 0, room->inner, threads);
    activate(s, room);
    multiply_rounded(&layer->down, &room->rounded, residual, s->residual, x, threads);
}

/* x[tokens][hidden] through `layers` layers and into their caches[sequences][layers], each token rotated by its
 * cosine[size] and sine[size]. Those of a sequence come side by side and have places one behind another. `size` is a multiple of 16. Returns
 * -1 when memory is short. */
EXPORT int glmtui_layers(const Layer *layers, int64_t count, const Shape *s, const Cache *caches, const Token *tokens,
                         int64_t token_count, const float *cosines, const float *sines, float *x, int threads) {
    Pass pass = {tokens, token_count, caches, count, cosines, sines};
    int64_t attended = s->heads * s->size, keys = s->groups * s->size, up = s->gated ? 2 * s->inner : s->inner;
    int64_t widest = up > attended ? up : attended;
    widest = s->hidden > widest ? s->hidden : widest;
    int64_t floats = s->hidden + (attended + 2 * keys) + (attended + keys) + attended + up;
    floats *= token_count;
    size_t others = (size_t)floats * sizeof(float) + rounded_bytes(widest, token_count), scored = 0;
    for (int64_t first = 0; count && first < token_count;) {
        Run run = run_from(&pass, first, 0);
        scored += scored_bytes(s, &run, &(Room){0}, threads);
        first += run.count;
    }
    char *memory = malloc(others + scored);
    if (!memory) return -1;
    Room room = {.normed = (float *)memory, .scores = memory + others};
    room.projected = room.normed + token_count * s->hidden;
    room.rotated = room.projected + token_count * (attended + 2 * keys);
    room.attended = room.rotated + token_count * (attended + keys);
    room.inner = room.attended + token_count * attended;
    room.rounded = rounded_at(memory + floats * (int64_t)sizeof(float), widest, token_count);
#pragma omp parallel num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < count; i++) run_layer(layers + i, s, &pass, i, x, &room, threads);
    free(memory);
    return 0;
}
