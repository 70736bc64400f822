#pragma once

#include "vectors.h"

/* e^x to two units in the last place, in operations that vectorise: e^x = 2^n e^r with |r| <= ln(2) / 2, and e^r by the
polynomial of Cephes' expf. Below -87 the result is 0 (denormal numbers are slow), above 88 it is e^88; NaN stays NaN. */
INLINE float exponential(float x) {
    float within = x < -87.0f ? -87.0f : x;
    within = within > 88.0f ? 88.0f : within;
    float n = __builtin_rintf(within * 1.44269504f), r = within - n * 0.693359375f + n * 2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * r + 1.3981999507e-3f;
    sum = sum * r + 8.3334519073e-3f;
    sum = sum * r + 4.1665795894e-2f;
    sum = sum * r + 1.6666665459e-1f;
    sum = sum * r + 5.0000001201e-1f;
    sum = sum * r * r + r + 1.0f;
    int32_t bits = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : sum * power;
}

/* The same of a vector of numbers that are not above 0, as a softmax has them once its largest is taken off. */
INLINE vector exponentials(vector x) {
    const float rounder = 12582912.0f; /* 1.5 times 2^23: what is left of a sum with it is a whole number */
    const int_vector low = x < -87.0f;
    const vector zero = {0};
    const vector within = (vector)((low & (int_vector)(zero - 87.0f)) | (~low & (int_vector)x));
    const vector shifted = within * 1.44269504f + rounder, n = shifted - rounder;
    const vector r = within - n * 0.693359375f + n * 2.12194440e-4f;
    vector sum = r * 1.9875691500e-4f + 1.3981999507e-3f;
    sum = sum * r + 8.3334519073e-3f;
    sum = sum * r + 4.1665795894e-2f;
    sum = sum * r + 1.6666665459e-1f;
    sum = sum * r + 5.0000001201e-1f;
    sum = sum * r * r + r + 1.0f;
    const int_vector power = (__builtin_convertvector(n, int_vector) + 127) << 23;
    return (vector)(~low & (int_vector)(sum * (vector)power));
}
