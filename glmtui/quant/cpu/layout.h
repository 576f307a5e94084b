/* How weights lie (see formats.py): what the products and packing.c agree on. */
#ifndef GLMTUI_LAYOUT_H
#define GLMTUI_LAYOUT_H

#include <stdint.h>

#include "simd.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum {
    BLOCK = 16,                     /* rows that lie interleaved */
    GROUP = 128,                    /* columns that share a scale */
    SUB = 32,                       /* columns that share a factor 0..15 of that scale (INT4) */
    SUBS = GROUP / SUB,
    STEPS = GROUP / 4,              /* a step is 4 columns: one dot product instruction */
    CHUNK = BLOCK * 4,              /* bytes: 4 columns of 16 rows */
};

INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

#endif
