/* AVX-512 and AVX-VNNI for processors without them: SIMDe's intrinsics, and the few that it lacks (0.7.4). For test_fuzz.py. */
#ifndef GLMTUI_EMULATED_H
#define GLMTUI_EMULATED_H

#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

/* SIMDe's alias takes the arguments of the masked one. */
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)

#define _mm256_dpbusd_avx_epi32(sum, a, b) simde_mm256_dpbusd_epi32(sum, a, b)
#define _mm256_dpwssd_avx_epi32(sum, a, b) simde_mm256_dpwssd_epi32(sum, a, b)

static inline __m512 _mm512_cvtepi32_ps(__m512i v) {
    int32_t in[16];
    float out[16];
    _mm512_storeu_si512(in, v);
    for (int i = 0; i < 16; i++) out[i] = (float)in[i];
    return _mm512_loadu_ps(out);
}

static inline __m512 _mm512_cvtph_ps(__m256i v) {
    uint16_t in[16];
    float out[16];
    _mm256_storeu_si256((__m256i *)in, v);
    for (int i = 0; i < 16; i += 4) _mm_storeu_ps(out + i, _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)(in + i))));
    return _mm512_loadu_ps(out);
}

static inline __m256i _mm512_cvtps_ph(__m512 v, int rounding) {
    float in[16];
    uint16_t out[16];
    (void)rounding; /* to nearest, the only one used */
    _mm512_storeu_ps(in, v);
    for (int i = 0; i < 16; i += 4)
        _mm_storel_epi64((__m128i *)(out + i), _mm_cvtps_ph(_mm_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
    return _mm256_loadu_si256((const __m256i *)out);
}

static inline __m512i _mm512_cvtepu8_epi32(__m128i v) {
    uint8_t in[16];
    int32_t out[16];
    _mm_storeu_si128((__m128i *)in, v);
    for (int i = 0; i < 16; i++) out[i] = in[i];
    return _mm512_loadu_si512(out);
}

static inline __m512i _mm512_cvtepu16_epi32(__m256i v) {
    uint16_t in[16];
    int32_t out[16];
    _mm256_storeu_si256((__m256i *)in, v);
    for (int i = 0; i < 16; i++) out[i] = in[i];
    return _mm512_loadu_si512(out);
}

#endif
