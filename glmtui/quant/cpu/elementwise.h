/* What stands between the products (elementwise.c), for one vector at a time. */
#ifndef GLMTUI_BETWEEN_H
#define GLMTUI_BETWEEN_H

#include "layout.h"

/* x[count] to its GELU, approximated by tanh, in place. */
void gelu(float *RESTRICT x, int64_t count);

/* x[count] = SiLU(x[count]) x up[count]. */
void gate(float *RESTRICT x, const float *RESTRICT up, int64_t count);

/* out[size] = x[size] with columns `distance` from each other rotated as pairs; the sine carries the sign. */
void rotate(const float *x, const float *cosine, const float *sine, int64_t size, int64_t distance,
            float *RESTRICT out);

/* How many of `length` keys, counted from the first, are needed for the last one that mask[length] lets see; NULL: all. */
INLINE int64_t seen_keys(const uint8_t *mask, int64_t length) {
    while (mask && length > 1 && !mask[length - 1]) length--;
    return length;
}

/* One query head over `length` keys and values of `size` halfs each. `scores` has room for `length`. mask[length]: 1
 * where it may see a key (the last one at least); NULL: it sees all. */
void attend_head(const float *q, const uint16_t *keys, const uint16_t *values, const uint8_t *mask, int64_t length,
                 int64_t size, float *RESTRICT scores, float *out);

#endif
