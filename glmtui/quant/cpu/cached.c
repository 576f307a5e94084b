/* Attention to keys and values with one byte a number: see cached.h. */
#include <math.h>
#include <stdlib.h>

#include "cached.h"
#include "elementwise.h"
#include "exponential.h"
#include "product.h"

#if defined(ISA_AVX2) || defined(ISA_AVXVNNI)
enum { SUMS = 8 }; /* that the registers hold */
#else
enum { SUMS = 16 };
#endif

static const float HIDDEN = -1e30f;

/* What is multiplied with the cache: whole numbers, each in two bytes, `words`[count][2]. Where dot products take bytes
 * these are two planes, the high bytes and then the low ones; where they take words (see words_of), 0 2 1 3 of every
 * four. Weights are not negative, so both of their planes are bytes of 0..127, which need no start (dot_u7). */
typedef struct {
    float scale;                   /* of a sum */
    int32_t high_start, low_start; /* of a query's sums: -TILE_BIAS x all high, low bytes */
} Numbers;

/* A query's scores for the tokens of a span, and then what these weigh. */
typedef union {
    float scores[SPAN];
    struct {
        int8_t words[2 * SPAN];
        float scale; /* of a sum */
    } weights;
} Span;

enum {
    MOST_QUERIES = 32, /* in a part: reading the pages costs little next to them */
    AT_ONCE = 2,       /* pages that all queries of a part are multiplied with while they lie in the nearest cache */
    AHEAD = 4,         /* pages that are fetched before they are needed */
};

/* One head of a token: what it asks for in two bytes a number, and where its scores are. */
typedef struct {
    int8_t *words; /* [size][2] */
    Numbers numbers;
    const uint8_t *mask; /* [length], or NULL */
    int64_t seen;        /* tokens, counted from the first, of which it sees the last one */
    Span *spans;
    float *out; /* [size] */
} Query;

INLINE float largest_of(const float *x, int64_t count) {
    float largest = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; i++) {
        float magnitude = fabsf(x[i]);
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

/* What makes `steps` of `widest`; next to nothing becomes nothing. */
INLINE float inverse_of(float widest, int steps) { return widest > 1e-30f ? (float)steps / widest : 0; }

#if defined(ISA_AVX2)

/* Dot products of words: 15 bits times a byte, in one sum, which has no more than 29 bits. */
typedef vtile vcached;
typedef vint vsum;
INLINE vcached load_cached(const uint8_t *p) { return words_of(load_bytes(p)); }
INLINE vsum sum_start(const Numbers *n) {
    (void)n;
    return int_set(0);
}
/* Adds the products of four columns or tokens, the numbers from `at` on. */
INLINE vsum sum_dot(vsum sum, vcached cached, const int8_t *words, int64_t count, int64_t at) {
    const int8_t *four = words + 2 * at;
    (void)count;
    sum = int_add(sum, _mm256_madd_epi16(cached.even, int_set(four_bytes(four))));
    return int_add(sum, _mm256_madd_epi16(cached.odd, int_set(four_bytes(four + 4))));
}
INLINE vfloat sum_float(vsum sum) { return to_float(sum); }

typedef vcached vvalues;
INLINE vvalues load_values(const uint8_t *p) { return load_cached(p); }
INLINE vsum weighed_start(void) { return int_set(0); }
INLINE vsum weighed_dot(vsum sum, vvalues values, const int8_t *words, int64_t at) {
    return sum_dot(sum, values, words, SPAN, at);
}

/* The whole numbers next to x[count] x `inverse`, of which there are a multiple of 16. */
INLINE void round_numbers(const float *RESTRICT x, int64_t count, float inverse, int8_t *words, Numbers *n) {
    int16_t *RESTRICT whole = (int16_t *)words;
    (void)n;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) whole[i] = (int16_t)(int32_t)rintf(x[i] * inverse);
    for (int8_t *p = words; p < words + 2 * count; p += 32) {
        __m256i fours = _mm256_loadu_si256((const __m256i *)p);
        fours = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(fours, 0xD8), 0xD8);
        _mm256_storeu_si256((__m256i *)p, fours);
    }
}
INLINE void round_weights(const float *x, float inverse, int8_t *words) { round_numbers(x, SPAN, inverse, words, NULL); }

#else

/* Dot products of bytes, once with each plane. */
typedef vbytes vcached;
typedef struct { vint high, low; } vsum;
INLINE vcached load_cached(const uint8_t *p) { return bytes_xor(load_bytes(p), bytes_set(TILE_BIAS)); }
INLINE vsum sum_start(const Numbers *n) { return (vsum){int_set(n->high_start), int_set(n->low_start)}; }
INLINE vsum sum_dot(vsum sum, vcached cached, const int8_t *words, int64_t count, int64_t at) {
    sum.high = dot_i8(sum.high, cached, four_bytes(words + at));
    sum.low = dot_i8(sum.low, cached, four_bytes(words + count + at));
    return sum;
}
INLINE vfloat sum_float(vsum sum) { return fma_(to_float(sum.high), float_set(128), to_float(sum.low)); }

INLINE void round_numbers(const float *RESTRICT x, int64_t count, float inverse, int8_t *words, Numbers *n) {
    int8_t *RESTRICT high = words, *RESTRICT low = words + count;
    int32_t all = 0, all_upper = 0;
#pragma omp simd reduction(+ : all, all_upper)
    for (int64_t i = 0; i < count; i++) {
        int32_t whole = (int32_t)rintf(x[i] * inverse), upper = (whole + 64) >> 7;
        high[i] = (int8_t)upper;
        low[i] = (int8_t)(whole - 128 * upper);
        all += whole;
        all_upper += upper;
    }
    n->high_start = -TILE_BIAS * all_upper;
    n->low_start = -TILE_BIAS * (all - 128 * all_upper);
}

typedef vbytes vvalues;
INLINE vvalues load_values(const uint8_t *p) { return load_bytes(p); }
INLINE vsum weighed_start(void) { return (vsum){int_set(0), int_set(0)}; }
INLINE vsum weighed_dot(vsum sum, vvalues values, const int8_t *words, int64_t at) {
    sum.high = dot_u7(sum.high, values, four_bytes(words + at));
    sum.low = dot_u7(sum.low, values, four_bytes(words + SPAN + at));
    return sum;
}

INLINE void round_weights(const float *RESTRICT x, float inverse, int8_t *words) {
    int8_t *RESTRICT high = words, *RESTRICT low = words + SPAN;
#pragma omp simd
    for (int i = 0; i < SPAN; i++) {
        int32_t whole = (int32_t)rintf(x[i] * inverse);
        high[i] = (int8_t)(whole >> 7);
        low[i] = (int8_t)(whole & 127);
    }
}

#endif

/* Makes a query x[count] numbers in `words`, of which the largest is WIDEST; sums are in steps of `unit`. */
INLINE Numbers numbers_of(const float *x, int64_t count, float unit, int8_t *words) {
    float widest = largest_of(x, count);
    Numbers n = {.scale = widest / (float)WIDEST * unit};
    round_numbers(x, count, inverse_of(widest, WIDEST), words, &n);
    return n;
}

/* Rounds a key or a value; its first column goes to `to`, four of them lie side by side (a key) or one (a value), and
 * `step` bytes lie between these and the next. */
INLINE void put(const float *x, int64_t size, int64_t t, const int together, int64_t step, uint8_t *page, int8_t *to) {
    float widest = largest_of(x, size), inverse = inverse_of(widest, 127), scale = widest / 127.0f;
    for (int64_t c = 0; c < size; c++) to[c / together * step + c % together] = (int8_t)(int32_t)rintf(x[c] * inverse);
    memcpy(page + PAGE * size + t % PAGE * (int64_t)sizeof(float), &scale, sizeof scale);
}

void put_key(const float *x, int64_t size, int64_t t, uint8_t *keys) {
    uint8_t *page = keys + t / PAGE * page_bytes(size);
    put(x, size, t, 4, 4 * PAGE, page, (int8_t *)page + t % PAGE * 4);
}

void put_value(const float *x, int64_t size, int64_t t, uint8_t *values) {
    uint8_t *page = values + t / PAGE * page_bytes(size);
    put(x, size, t, 1, 4, page, (int8_t *)page + t % PAGE / 4 * size * 4 + t % 4);
}

/* The scores of `units` vectors of tokens for `count` queries, from vector `unit` of all on. */
INLINE void score_units(const int count, const int units, const Query *queries, const uint8_t *keys, int64_t unit,
                        int64_t size) {
    vsum sums[SUMS / 2];            /* [count][units] */
    const uint8_t *pages[SUMS / 2]; /* where each vector begins */
    UNROLL for (int u = 0; u < units; u++)
        pages[u] = keys + (unit + u) / VECTORS * page_bytes(size) + (unit + u) % VECTORS * LANES * 4;
    UNROLL for (int i = 0; i < count; i++)
        UNROLL for (int u = 0; u < units; u++) sums[i * units + u] = sum_start(&queries[i].numbers);
    for (int64_t c = 0; c < size; c += 4) {
        vcached tokens[SUMS / 2];
        UNROLL for (int u = 0; u < units; u++) {
            tokens[u] = load_cached(pages[u] + c * PAGE);
            if (u % VECTORS == 0) PREFETCH(pages[u] + c * PAGE + AHEAD * page_bytes(size));
        }
        UNROLL for (int i = 0; i < count; i++)
            UNROLL for (int u = 0; u < units; u++)
                sums[i * units + u] = sum_dot(sums[i * units + u], tokens[u], queries[i].words, size, c);
    }
    UNROLL for (int u = 0; u < units; u++) {
        int64_t at = (unit + u) * LANES;
        float scales[LANES];
        memcpy(scales, keys + at / PAGE * page_bytes(size) + PAGE * size + at % PAGE * 4, sizeof scales);
        UNROLL for (int i = 0; i < count; i++) {
            vfloat score = mul(mul(sum_float(sums[i * units + u]), load_float(scales)),
                               float_set(queries[i].numbers.scale));
            store_float(queries[i].spans[at / SPAN].scores + at % SPAN, score);
        }
    }
}

/* Those of the tokens of pages first..end. */
INLINE void score_pages(const int count, const Query *queries, const uint8_t *keys, int64_t first, int64_t end,
                        int64_t size) {
    const int units = SUMS / 2 / count;
    int64_t unit = first * VECTORS;
    for (; unit + units <= end * VECTORS; unit += units) score_units(count, units, queries, keys, unit, size);
    for (; unit < end * VECTORS; unit++) score_units(count, 1, queries, keys, unit, size);
}

/* Adds to `vectors` vectors of the outputs of `count` queries what they take of some pages of a span. */
INLINE void weigh_span(const int count, const int vectors, const Query *queries, const uint8_t *page, int64_t number,
                       int64_t pages, int64_t size, int64_t column) {
    vsum sums[SUMS / 2]; /* [count][vectors] */
    UNROLL for (int i = 0; i < count; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            sums[i * vectors + v] = weighed_start();
    for (int64_t fours = 0; fours < pages * (PAGE / 4); fours++) {
        const uint8_t *tokens = page + fours / (PAGE / 4) * page_bytes(size) + fours % (PAGE / 4) * size * 4;
        vvalues values[SUMS / 2];
        UNROLL for (int v = 0; v < vectors; v++) {
            values[v] = load_values(tokens + (column + v * LANES) * 4);
            if (v % VECTORS == 0) PREFETCH(tokens + (column + v * LANES) * 4 + AHEAD * page_bytes(size));
        }
        UNROLL for (int i = 0; i < count; i++) {
            const int8_t *weights = queries[i].spans[number].weights.words;
            UNROLL for (int v = 0; v < vectors; v++)
                sums[i * vectors + v] = weighed_dot(sums[i * vectors + v], values[v], weights, fours * 4);
        }
    }
    UNROLL for (int i = 0; i < count; i++)
        UNROLL for (int v = 0; v < vectors; v++) {
            float *out = queries[i].out + column + v * LANES;
            vfloat scale = float_set(queries[i].spans[number].weights.scale);
            store_float(out, fma_(sum_float(sums[i * vectors + v]), scale, load_float(out)));
        }
}

INLINE void weigh_some(const int count, const Query *queries, const uint8_t *page, int64_t number, int64_t pages,
                       int64_t size) {
    const int vectors = SUMS / 2 / count;
    int64_t column = 0;
    for (; column + vectors * LANES <= size; column += vectors * LANES)
        weigh_span(count, vectors, queries, page, number, pages, size, column);
    for (; column < size; column += LANES) weigh_span(count, 1, queries, page, number, pages, size, column);
}

/* Does `step` for queries[first..end], several at once: more spread one number over a vector for each product. */
#define IN_STEPS(step)                \
    for (int64_t i = first; i < end;) \
        if (end - i >= 4) step(4);    \
        else if (end - i >= 2) step(2); \
        else step(1);

/* Which queries, from `first` on and side by side, see more than `tokens`; `first` is moved to the first of them. */
static int64_t run_of(const Query *queries, int64_t count, int64_t tokens, int64_t *first) {
    while (*first < count && queries[*first].seen <= tokens) ++*first;
    int64_t end = *first;
    while (end < count && queries[end].seen > tokens) end++;
    return end;
}

/* What comes next is fetched while this is multiplied, bit by bit: many lines at once would have to wait for each other.
 * So are the scales of the values, which stand alone. */
static void score(const Query *queries, int64_t count, const uint8_t *keys, const uint8_t *values, int64_t seen,
                  int64_t size) {
    int64_t bytes = page_bytes(size), pages = ceil_div(seen, PAGE);
    for (int64_t number = 0; number < pages; number += AT_ONCE) {
        int64_t behind = number + AT_ONCE < pages ? number + AT_ONCE : pages;
        for (int64_t at = number + 1; at <= behind; at++) PREFETCH(values + at * bytes - PAGE * (int64_t)sizeof(float));
        for (int64_t first = 0, end; (end = run_of(queries, count, number * PAGE, &first)) > first; first = end) {
#define SCORE(n) (score_pages(n, queries + i, keys, number, behind, size), i += n)
            IN_STEPS(SCORE)
        }
    }
}

static void weigh(const Query *queries, int64_t count, const uint8_t *values, int64_t seen, int64_t size) {
    int64_t bytes = page_bytes(size), in_span = SPAN / PAGE, pages = ceil_div(seen, PAGE);
    for (int64_t number = 0; number * SPAN < seen; number++) {
        const uint8_t *page = values + number * in_span * bytes;
        int64_t rest = pages - number * in_span, here = rest < in_span ? rest : in_span;
        for (int64_t first = 0, end; (end = run_of(queries, count, number * SPAN, &first)) > first; first = end) {
#define WEIGH(n) (weigh_some(n, queries + i, page, number, here, size), i += n)
            IN_STEPS(WEIGH)
        }
    }
}

/* The scales of a span's values, of which `count` are there: behind the last token is whatever was there before. */
INLINE void span_scales(const uint8_t *page, int64_t count, int64_t size, float *scales) {
    memset(scales, 0, SPAN * sizeof(float));
    for (int64_t t = 0; t < count && t < SPAN; t += PAGE, page += page_bytes(size)) {
        const uint8_t *from = page + PAGE * size;
        if (count - t >= PAGE) memcpy(scales + t, from, PAGE * sizeof(float)); /* one move, as its length is known */
        else memcpy(scales + t, from, (size_t)(count - t) * sizeof(float));
    }
}

/* Turns a query's scores into weights, those times the scales of the values; returns the sum of the weights alone. */
static float soften(const Query *query, const uint8_t *values, int64_t size) {
    int64_t seen = query->seen, spans = ceil_div(seen, SPAN);
    float largest[PAGE], sums[PAGE] = {0}, most = HIDDEN, sum = 0;
    for (int64_t t = seen; t < spans * SPAN; t++) query->spans[t / SPAN].scores[t % SPAN] = HIDDEN;
    for (int64_t t = 0; query->mask && t < seen; t++)
        if (!query->mask[t]) query->spans[t / SPAN].scores[t % SPAN] = HIDDEN;
    for (int i = 0; i < PAGE; i++) largest[i] = HIDDEN;
    for (int64_t t = 0; t < spans * SPAN; t += PAGE) {
        const float *scores = query->spans[t / SPAN].scores + t % SPAN;
#pragma omp simd
        for (int i = 0; i < PAGE; i++) largest[i] = scores[i] > largest[i] ? scores[i] : largest[i];
    }
    for (int i = 0; i < PAGE; i++) most = largest[i] > most ? largest[i] : most;
    for (int64_t s = 0; s < spans; s++) {
        float *scores = query->spans[s].scores, scales[SPAN];
        span_scales(values + s * (SPAN / PAGE) * page_bytes(size), seen - s * SPAN, size, scales);
        for (int64_t t = 0; t < SPAN; t += PAGE) {
#pragma omp simd
            for (int i = 0; i < PAGE; i++) {
                float less = scores[t + i] - most, weight = exponential_within(less);
                weight = less > LEAST_EXPONENT ? weight : 0;
                sums[i] += weight;
                scores[t + i] = weight * scales[t + i];
            }
        }
    }
    for (int64_t s = 0; s < spans; s++) { /* apart, as the largest of a span is waited for */
        Span *span = query->spans + s;
        float weights[SPAN], widest;
        memcpy(weights, span->scores, sizeof weights);
        widest = largest_of(weights, SPAN);
        round_weights(weights, inverse_of(widest, WIDEST), span->weights.words);
        span->weights.scale = widest / (float)WIDEST;
    }
    for (int i = 0; i < PAGE; i++) sum += sums[i];
    return sum;
}

static int64_t queries_of_group(const Attention *a) { return a->tokens * (a->heads / a->groups); }

static int64_t queries_of_part(const Attention *a, int threads) {
    int64_t each = queries_of_group(a), fair = ceil_div(each * a->groups, threads);
    fair = fair < each ? fair : each;
    return fair < MOST_QUERIES ? fair : MOST_QUERIES;
}

static size_t query_bytes(const Attention *a) {
    return (size_t)ceil_div(a->length, SPAN) * sizeof(Span) + (size_t)ceil_div(2 * a->size, 64) * 64;
}

int64_t attention_parts(const Attention *a, int threads) {
    return a->groups * ceil_div(queries_of_group(a), queries_of_part(a, threads));
}

size_t attention_bytes(const Attention *a, int threads) { return (size_t)queries_of_part(a, threads) * query_bytes(a); }

void attend_part(const Attention *a, int threads, int64_t part, void *memory) {
    Query queries[MOST_QUERIES] = {{0}};
    float sums[MOST_QUERIES], root = 1.0f / sqrtf((float)a->size);
    int64_t size = a->size, share = a->heads / a->groups, each = queries_of_group(a), most = queries_of_part(a, threads);
    int64_t parts = ceil_div(each, most), group = part / parts, start = part % parts * most, longest = 0;
    int64_t count = each - start < most ? each - start : most;
    const uint8_t *keys = a->keys + group * a->stride, *values = a->values + group * a->stride;
    for (int64_t i = 0; i < count; i++) {
        Query *query = queries + i;
        int64_t token = (start + i) / share, head = group * share + (start + i) % share;
        const float *q = a->q + token * a->token_stride + head * a->head_stride;
        query->mask = a->mask ? a->mask + token * a->length : NULL;
        query->seen = a->causal ? a->length - a->tokens + token + 1 : seen_keys(query->mask, a->length);
        query->spans = (Span *)((char *)memory + (size_t)i * query_bytes(a));
        query->out = a->out + (token * a->heads + head) * size;
        query->words = (int8_t *)(query->spans + ceil_div(a->length, SPAN));
        query->numbers = numbers_of(q, size, root, query->words);
        memset(query->out, 0, (size_t)size * sizeof(float));
        longest = query->seen > longest ? query->seen : longest;
    }
    score(queries, count, keys, values, longest, size);
    for (int64_t i = 0; i < count; i++) sums[i] = soften(queries + i, values, size);
    weigh(queries, count, values, longest, size);
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < size; c++) queries[i].out[c] /= sums[i];
}

/* Puts keys and values of `tokens` tokens, whose floats lie `token_stride` and `group_stride` apart, behind `place`
 * others into pages [groups] of `stride` bytes. */
EXPORT void glmtui_put_cached(const float *k, int64_t k_token_stride, int64_t k_group_stride, const float *v,
                              int64_t v_token_stride, int64_t v_group_stride, int64_t tokens, int64_t groups,
                              int64_t size, int64_t place, uint8_t *keys, uint8_t *values, int64_t stride, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (tokens > 1)
    for (int64_t g = 0; g < groups; g++)
        for (int64_t t = 0; t < tokens; t++) {
            put_key(k + t * k_token_stride + g * k_group_stride, size, place + t, keys + g * stride);
            put_value(v + t * v_token_stride + g * v_group_stride, size, place + t, values + g * stride);
        }
}

/* See Attention. Returns -1 when memory is short. */
EXPORT int glmtui_attend_cached(const Attention *a, int threads) {
    int failed = 0;
    int64_t parts = attention_parts(a, threads);
#pragma omp parallel num_threads(threads) if (threads > 1 && parts > 1)
    {
        void *memory = malloc(attention_bytes(a, threads));
        if (!memory) {
#pragma omp atomic
            failed |= 1;
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t part = 0; part < parts; part++)
            if (memory) attend_part(a, threads, part, memory);
        free(memory);
    }
    return failed ? -1 : 0;
}
