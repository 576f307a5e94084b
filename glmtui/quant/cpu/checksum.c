/* The checksum of zip files (CRC-32, polynomial 0xEDB88320 with its bits reflected) at the speed of memory:
 * zlib's takes as long as reading a model from a fast disk does.
 *
 * x86 folds by carry-less multiplication (Gopal and others, "Fast CRC Computation for Generic Polynomials
 * Using PCLMULQDQ Instruction", Intel 2009): 64 bytes become the next 64 plus these times x^512, modulo the
 * polynomial. What is left at the end is 16 bytes with the same remainder.
 */
#include "layout.h"

#if defined(__PCLMUL__) && defined(__SSE4_1__)
#include <immintrin.h>
#define FOLDS
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

/* One byte at a time, for what is left over. */
static uint32_t by_bytes(uint32_t crc, const uint8_t *p, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return crc;
}

#if defined(FOLDS)

INLINE __m128i load_16(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)p); }

/* x times the powers in `by` plus `next`. */
INLINE __m128i fold(__m128i x, __m128i by, __m128i next) {
    __m128i low = _mm_clmulepi64_si128(x, by, 0x00), high = _mm_clmulepi64_si128(x, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

static uint32_t by_blocks(uint32_t crc, const uint8_t *p, int64_t blocks) {
    const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4); /* x^(512-32), x^(512+32) modulo P */
    const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0); /* x^(128-32), x^(128+32) */
    __m128i x[4];
    for (int i = 0; i < 4; i++) x[i] = load_16(p + 16 * i);
    x[0] = _mm_xor_si128(x[0], _mm_cvtsi32_si128((int)crc));
    for (int64_t b = 1; b < blocks; b++)
        for (int i = 0; i < 4; i++) x[i] = fold(x[i], by_64, load_16(p + 64 * b + 16 * i));
    for (int i = 1; i < 4; i++) x[0] = fold(x[0], by_16, x[i]);
    uint8_t left[16];
    _mm_storeu_si128((__m128i *)left, x[0]);
    return by_bytes(0, left, 16);
}

#elif defined(__ARM_FEATURE_CRC32)

static uint32_t by_blocks(uint32_t crc, const uint8_t *p, int64_t blocks) {
    for (int64_t i = 0; i < 8 * blocks; i++) {
        uint64_t word;
        memcpy(&word, p + 8 * i, 8);
        crc = __crc32d(crc, word);
    }
    return crc;
}

#endif

/* Whether this is faster than zlib's. */
EXPORT int glmtui_has_crc32(void) {
#if defined(FOLDS) || defined(__ARM_FEATURE_CRC32)
    return 1;
#else
    return 0;
#endif
}

/* As zlib's crc32: continues the checksum `crc` of what came before. */
EXPORT uint32_t glmtui_crc32(uint32_t crc, const uint8_t *p, int64_t count) {
    crc = ~crc;
#if defined(FOLDS) || defined(__ARM_FEATURE_CRC32)
    int64_t blocks = count / 64;
    if (blocks) crc = by_blocks(crc, p, blocks);
    p += 64 * blocks;
    count -= 64 * blocks;
#endif
    return ~by_bytes(crc, p, count);
}
