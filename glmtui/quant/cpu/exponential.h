/* The exponential function, for activation functions and softmax. */
#ifndef GLMTUI_EXPONENTIAL_H
#define GLMTUI_EXPONENTIAL_H

#include <math.h>

#include "simd.h"

/* Where e^x still is a normal number. */
#define LEAST_EXPONENT (-87.0f)
#define MOST_EXPONENT 88.0f

/* e^x to 2e-7 between these two and anything beyond, written so that compilers make vectors of it (Cephes' polynomial). */
INLINE float exponential_within(float x) {
    const float shift = 12582912.0f; /* 1.5 x 2^23: what is added to it becomes whole, in the last bits */
    float shifted = x * 1.44269504088896341f + shift, n = shifted - shift;
    float f = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    uint32_t power;
    float scale;
    memcpy(&power, &shifted, 4);
    power = (power + 127) << 23;
    memcpy(&scale, &power, 4);
    return p * scale;
}

/* e^x; what would be next to nothing is nothing, and what would be infinite is 1.6e38. */
INLINE float exponential(float x) {
    float y = exponential_within(x);
    y = x < LEAST_EXPONENT ? 0.0f : y;
    return x > MOST_EXPONENT ? 1.6516363e38f : y;
}

#endif
