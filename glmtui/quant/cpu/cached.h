/* Keys and values with one byte a number (cached.c): how they lie, and what attends to them.
 *
 * Tokens lie in pages of 16. Every token has a scale of its own in every group of heads, its largest magnitude / 127,
 * and the 16 of a page follow the page's bytes. Both kinds lie as dot products want them, four numbers to a lane:
 *
 *   keys    [size / 4][16 tokens][4 columns], whose sums over the columns are the scores of 16 tokens
 *   values  [16 / 4][size columns][4 tokens], whose sums over the tokens are the output
 *
 * Whatever is multiplied with them, queries and the weights of the softmax, is rounded to 15 bits: so the bytes in the
 * cache are all that is lost, and sums are exact in whatever order they come, by words or by bytes (128 high + low). A
 * query gets the same numbers alone and among others.
 */
#ifndef GLMTUI_CACHED_H
#define GLMTUI_CACHED_H

#include "layout.h"

enum {
    PAGE = 16,             /* tokens */
    SPAN = 8 * PAGE,       /* tokens whose weights share a scale */
    WIDEST = 127 * 128,    /* what the largest number of a query, or of a span of weights, becomes */
};

INLINE int64_t page_bytes(int64_t size) { return PAGE * (size + (int64_t)sizeof(float)); }

/* The heads of some tokens, and the tokens they attend to. */
typedef struct {
    const float *q; /* tokens and heads lie `token_stride` and `head_stride` floats apart; [size] each */
    int64_t tokens, token_stride, heads, head_stride;
    const uint8_t *keys, *values; /* pages, [groups] of `stride` bytes; heads of a group lie side by side */
    int64_t groups, stride;
    int64_t length, size; /* tokens in the pages; columns, a multiple of 16 */
    const uint8_t *mask;  /* [tokens][length]: 1 where a token may see a key (one at least); NULL: it sees all */
    float *out;           /* [tokens][heads][size] */
    int32_t causal;       /* the tokens are the last ones in the pages, and see none behind; else `mask` says it */
} Attention;

/* Into how many parts `attention` is cut for a team of threads, and how much memory each takes. */
int64_t attention_parts(const Attention *attention, int threads);
size_t attention_bytes(const Attention *attention, int threads);

/* Does one of them. `memory`: of attention_bytes, fit for any number. */
void attend_part(const Attention *attention, int threads, int64_t part, void *memory);

/* Puts x[size], the key or the value of token `t`, into the pages of its group. */
void put_key(const float *x, int64_t size, int64_t t, uint8_t *keys);
void put_value(const float *x, int64_t size, int64_t t, uint8_t *values);

#endif
