/* The exponential function, for activation functions and softmax. */
#ifndef GLMTUI_EXPONENTIAL_H
#define GLMTUI_EXPONENTIAL_H

#include <math.h>

#include "simd.h"

/* e^x to 2e-7, written so that compilers make vectors of it (Cephes' polynomial). */
INLINE float exponential(float x) {
    x = x > 88.0f ? 88.0f : x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504088896341f);
    float f = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    int32_t power = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &power, 4);
    return p * scale;
}

#endif
