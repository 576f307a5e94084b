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

enum { WIDEST_HEAD = 256 };

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
    float *normed;     /* [tokens][hidden] */
    float *queries;    /* [tokens][heads][size], rotated */
    float *attended;   /* [tokens][heads][size] */
    char *scores;      /* of every run, scored_bytes */
    Rounded rounded;   /* of `normed` or `attended` */
    Rounded activated; /* of what stands in the middle of the MLP */
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

/* out[tokens][hidden] = the norms of x, and rounded. Every thread computes all statistics: waiting for others to do
 * their part would take longer. */
static void normalize(const Shape *s, const float *x, const float *weight, const float *bias, float *out,
                      const Rounded *rounded) {
    float means[FEW], scales[FEW];
    for (int64_t t = 0; t < rounded->tokens; t++) statistics(s, x + t * s->hidden, means + t, scales + t);
#pragma omp for schedule(static)
    for (int64_t g = 0; g < ceil_div(s->hidden, GROUP); g++) {
        for (int64_t t = 0; t < rounded->tokens; t++) {
            const float *token = x + t * s->hidden;
            float *normed = out + t * s->hidden;
            for (int64_t c = g * GROUP; c < g * GROUP + in_group(s->hidden, g); c++)
                normed[c] = (token[c] - means[t]) * scales[t] * weight[c] + (bias ? bias[c] : 0.0f);
        }
        round_all(out, s->hidden, g, rounded);
    }
}

/* Puts a key, or a value, of group `g` into the cache. */
static void put(const Shape *s, const Cache *cache, int64_t place, int64_t g, int is_value, const float *x) {
    int64_t group = g + (is_value ? s->groups : 0);
    if (cache->bits == 8) {
        uint8_t *pages = (uint8_t *)cache->numbers + group * (cache->capacity / PAGE * page_bytes(s->size));
        if (is_value) put_value(x, s->size, place, pages);
        else put_key(x, s->size, place, pages);
        return;
    }
    uint16_t *halves = (uint16_t *)cache->numbers + (group * cache->capacity + place) * s->size;
    for (int64_t c = 0; c < s->size; c += LANES) store_half(halves + c, load_float(x + c));
}

/* Makes queries of what was rounded, and puts keys and values into the caches: a head of all tokens at a time. */
static void project(const Layer *layer, const Shape *s, const Pass *pass, int64_t number, const Room *room) {
    int64_t size = s->size;
#pragma omp for IN_SHARES
    for (int64_t part = 0; part < s->heads + 2 * s->groups; part++) {
        int64_t key = part - s->heads, value = key - s->groups;
        int64_t column = key < 0     ? part * s->query_stride
                         : value < 0 ? s->key + key * s->group_stride
                                     : s->value + value * s->group_stride;
        float projected[FEW * WIDEST_HEAD], rotated[WIDEST_HEAD];
        multiply_blocks(&layer->query_key_value, &room->rounded, column / BLOCK, size / BLOCK, projected, size);
        for (int64_t t = 0; t < pass->count; t++) {
            const float *x = projected + t * size, *cosines = pass->cosines + t * size, *sines = pass->sines + t * size;
            const Cache *cache = pass->caches + pass->tokens[t].sequence * pass->layers + number;
            float *to = key < 0 ? room->queries + (t * s->heads + part) * size : rotated;
            if (value < 0) rotate(x, cosines, sines, size, s->distance, to);
            if (key >= 0) put(s, cache, pass->tokens[t].place, value < 0 ? key : value, value >= 0, value < 0 ? to : x);
        }
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
    int64_t stride = run->cache->capacity / PAGE * page_bytes(s->size), width = s->heads * s->size;
    const uint8_t *keys = run->cache->numbers;
    return (Attention){
        .q = room->queries + run->first * width, .tokens = run->count, .token_stride = width,
        .heads = s->heads, .head_stride = s->size,
        .keys = keys, .values = keys + s->groups * stride, .groups = s->groups, .stride = stride,
        .length = run->length, .size = s->size, .causal = 1, .out = room->attended + run->first * width,
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
    int64_t size = s->size, stride = run->cache->capacity * size;
    const uint16_t *keys = run->cache->numbers, *values = keys + s->groups * stride;
    /* A head's tokens one after another: they share its keys in the caches. */
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t i = 0; i < run->count * s->heads; i++) {
        int64_t h = i / run->count, t = run->first + i % run->count, at = h / (s->heads / s->groups) * stride;
        int64_t head = (t * s->heads + h) * size;
        attend_head(room->queries + head, keys + at, values + at, NULL, run->length - run->count + 1 + i % run->count,
                    size, (float *)scores + i * run->length, room->attended + head);
    }
}

/* Lets every token attend to all up to its own, and rounds what that makes. */
static void attend(const Shape *s, const Pass *pass, int64_t layer, const Room *room, int threads) {
    char *scores = room->scores;
    for (int64_t first = 0; first < pass->count;) {
        Run run = run_from(pass, first, layer);
        attend_run(s, &run, room, scores, threads);
        scores += scored_bytes(s, &run, room, threads);
        first += run.count;
    }
    int64_t width = s->heads * s->size;
#pragma omp barrier
#pragma omp for schedule(static)
    for (int64_t g = 0; g < ceil_div(width, GROUP); g++) round_all(room->attended, width, g, &room->rounded);
}

/* The MLP up to its middle, rounded: a group of columns of all tokens at a time. */
static void activate(const Layer *layer, const Shape *s, const Room *room) {
#pragma omp for IN_SHARES
    for (int64_t g = 0; g < ceil_div(s->inner, GROUP); g++) {
        float x[FEW][GROUP], up[FEW][GROUP + BLOCK];
        int64_t row = s->inner + g * GROUP, count = in_group(s->inner, g), before = row % BLOCK;
        multiply_blocks(&layer->up, &room->rounded, g * GROUP / BLOCK, ceil_div(count, BLOCK), x[0], GROUP);
        if (s->gated)
            multiply_blocks(&layer->up, &room->rounded, row / BLOCK, ceil_div(before + count, BLOCK), up[0], GROUP + BLOCK);
        for (int64_t t = 0; t < room->rounded.tokens; t++) {
            if (s->gated) gate(x[t], up[t] + before, count);
            else gelu(x[t], count);
            round_group(x[t], count, t, g, &room->activated);
        }
    }
}

static void run_layer(const Layer *layer, const Shape *s, const Pass *pass, int64_t number, float *x, const Room *room,
                      int threads) {
    const float *residual = s->from_norm ? room->normed : x;
    normalize(s, x, layer->attention_norm, layer->attention_norm_bias, room->normed, &room->rounded);
    project(layer, s, pass, number, room);
    attend(s, pass, number, room, threads);
    multiply_rounded(&layer->dense, &room->rounded, residual, s->residual, x);
    normalize(s, x, layer->mlp_norm, layer->mlp_norm_bias, room->normed, &room->rounded);
    activate(layer, s, room);
    multiply_rounded(&layer->down, &room->activated, residual, s->residual, x);
}

/* x[tokens][hidden] through `layers` layers and into their caches[sequences][layers], each token rotated by its
 * cosine[size] and sine[size]; FEW tokens at most. Those of a sequence come side by side and have places one behind
 * another. `size` is a multiple of 16, WIDEST_HEAD at most. Returns -1 when memory is short, or there are more of either. */
EXPORT int glmtui_layers(const Layer *layers, int64_t count, const Shape *s, const Cache *caches, const Token *tokens,
                         int64_t token_count, const float *cosines, const float *sines, float *x, int threads) {
    if (token_count > FEW || s->size > WIDEST_HEAD) return -1;
    Pass pass = {tokens, token_count, caches, count, cosines, sines};
    int64_t attended = s->heads * s->size, widest = s->hidden > attended ? s->hidden : attended;
    size_t floats = (size_t)(token_count * (s->hidden + 2 * attended)) * sizeof(float), scored = 0;
    size_t rounded = rounded_bytes(widest, token_count), activated = rounded_bytes(s->inner, token_count);
    for (int64_t first = 0; count && first < token_count;) {
        Run run = run_from(&pass, first, 0);
        scored += scored_bytes(s, &run, &(Room){0}, threads);
        first += run.count;
    }
    char *memory = malloc(floats + rounded + activated + scored);
    if (!memory) return -1;
    Room room = {.normed = (float *)memory, .scores = memory + floats + rounded + activated};
    room.queries = room.normed + token_count * s->hidden;
    room.attended = room.queries + token_count * attended;
    room.rounded = rounded_at(memory + floats, widest, token_count);
    room.activated = rounded_at(memory + floats + rounded, s->inner, token_count);
#pragma omp parallel num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < count; i++) run_layer(layers + i, s, &pass, i, x, &room, threads);
    free(memory);
    return 0;
}
