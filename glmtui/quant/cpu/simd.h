/* The few vector operations that the kernels are written in, once per instruction set.
 *
 * A `vint` or `vfloat` holds LANES 32-bit lanes, one weight row to a lane. `vbytes` holds LANES x 4 bytes:
 * four neighbouring columns of each of these rows. The dot products multiply them by four activations that
 * all rows share (`int32_t`, four signed bytes) and add the four products to the row's lane.
 *
 *   dot_i8     weights are signed bytes XOR TILE_BIAS: VNNI multiplies unsigned by signed bytes, so there
 *              they carry a bias of 128 that the caller corrects (128 x the sum of the activations)
 *   dot_u7     the same with signed weights as they are, and activations of 0..127
 *   dot_tile   dot_i8 in tiles, on what store_step and pack_step made of weights and activations: bytes as
 *              they are, or 16-bit words (TILE_STEP columns to a vector) where those are faster. Every sum begins
 *              with what tile_start made of a group's weights (if TILE_STARTS), plus tile_zero of its activations.
 *   sub_dot    weights are 0..15, and the sum is one over a sub-group of 32 columns: a `vsub`, which may have
 *              no more than 16 bits (32 x 8 x 127 < 2^15 once the zero point 8 is off, and what happens on the
 *              way is modulo 2^16). sub_start begins it with what takes the zero point off, sub_zero's value
 *              of these activations; sub_end adds it, times the factor of every row, to the group's sum.
 *   dot_at     dot_i8, and sub_at sub_dot, with four activations that are read as they are multiplied: for those that
 *              only one vector is multiplied by
 *   sub_dots   sub_dot of all vectors of a tile
 *   dot_words  two words of a lane by two words of another, both signed
 *   word_dots  dot_words of all vectors of a tile
 *
 * TILE_NIBBLES tells whether tiles of INT4 weights are made of sub_dot, or of bytes that have been multiplied
 * by their factors. In tiles of nibbles two sub-groups stand side by side (store_pair, pack_pair): one half of a
 * lane sums all 32 columns of the even one, the other half those of the odd one, and one sub_end ends both.
 *
 * The compiler's target decides which is used, unless the command line (build.py) defines one of ISA_*.
 */
#ifndef GLMTUI_SIMD_H
#define GLMTUI_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER)
#define INLINE static __forceinline
#define RESTRICT __restrict
#else
#define INLINE static inline __attribute__((always_inline))
#define RESTRICT __restrict__
#endif

#if defined(__GNUC__)
#define PREFETCH(p) __builtin_prefetch(p)
/* What is loaded by pointer `p` from here on is loaded anew: else compilers keep so much of what they have loaded before
 * that there are no registers left for it. */
#define FORGET(p) __asm__("" : "+r"(p))
#else
#define PREFETCH(p) ((void)(p))
#define FORGET(p) ((void)(p))
#endif

INLINE int32_t four_bytes(const int8_t *p) {
    int32_t r;
    memcpy(&r, p, 4);
    return r;
}

#if !defined(ISA_AVX512) && !defined(ISA_AVXVNNI) && !defined(ISA_AVX2) && !defined(ISA_NEON) && !defined(ISA_PLAIN)
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define ISA_AVX512
#elif defined(__AVXVNNI__) && defined(__FMA__) && defined(__F16C__)
#define ISA_AVXVNNI
#elif defined(__AVX2__) && (defined(_MSC_VER) || (defined(__FMA__) && defined(__F16C__)))
#define ISA_AVX2
#elif defined(__aarch64__) && defined(__ARM_NEON)
#define ISA_NEON
#else
#define ISA_PLAIN
#endif
#endif

/* Loops over vectors in registers are unrolled. Without vectors that would be slower, and take long to compile. */
#if defined(ISA_PLAIN)
#define UNROLL
#define UNROLL_8
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define UNROLL_8 _Pragma("clang loop unroll_count(8)")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 32")
#define UNROLL_8 _Pragma("GCC unroll 8")
#else
#define UNROLL
#define UNROLL_8
#endif

#if defined(ISA_AVX512)

#include <immintrin.h>
#define ISA_NAME "avx512"
#define TILE_NIBBLES 0
#define TILE_STARTS 0
enum { LANES = 16, TILE_BIAS = 128, TILE_STEP = 4, TILE_VECTORS = 2, TILE_TOKENS = 12, BYTE_TOKENS = 12, FEW_TOKENS = 8, PANEL_GROUPS = 32 };
typedef __m512i vint;
typedef __m512 vfloat;
typedef __m512i vbytes;

INLINE vbytes load_bytes(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE void store_bytes(uint8_t *p, vbytes v) { _mm512_storeu_si512(p, v); }
INLINE vbytes bytes_set(uint8_t b) { return _mm512_set1_epi8((char)b); }
INLINE vbytes bytes_xor(vbytes a, vbytes b) { return _mm512_xor_si512(a, b); }
INLINE vbytes bytes_sub(vbytes a, vbytes b) { return _mm512_sub_epi8(a, b); }
INLINE vbytes low_nibbles(vbytes v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
INLINE vbytes high_nibbles(vbytes v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
INLINE vbytes join_nibbles(vbytes high, vbytes low) { return _mm512_or_si512(_mm512_slli_epi16(high, 4), low); }
INLINE vint int_set(int32_t i) { return _mm512_set1_epi32(i); }
INLINE vint load_int(const int32_t *p) { return _mm512_loadu_si512(p); }
INLINE vint dot_words(vint sum, vint a, vint b) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512VNNI__)
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b)); /* as below */
    return sum;
#else
    return _mm512_dpwssd_epi32(sum, a, b);
#endif
}
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512VNNI__)
/* Else GCC reads the activations by an instruction of its own, and vectors twice of which it takes two parts: an eighth
 * of eight tokens' time. */
#define DOT_AT
INLINE vint dot_at(vint sum, vbytes w, const int8_t *a) {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const int8_t(*)[4])a));
    return sum;
}
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#endif
/* Unsigned times signed bytes. */
INLINE vint dot_bytes(vint sum, vbytes a, vbytes b) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512VNNI__)
    /* GCC 12 copies every accumulator around the intrinsic, which halves the speed of a tile. */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
#else
    return _mm512_dpbusd_epi32(sum, a, b);
#endif
}
INLINE vfloat to_float(vint v) { return _mm512_cvtepi32_ps(v); }
INLINE vfloat float_set(float f) { return _mm512_set1_ps(f); }
INLINE vfloat load_float(const float *p) { return _mm512_loadu_ps(p); }
INLINE void store_float(float *p, vfloat v) { _mm512_storeu_ps(p, v); }
INLINE vfloat mul(vfloat a, vfloat b) { return _mm512_mul_ps(a, b); }
INLINE vfloat fma_(vfloat a, vfloat b, vfloat c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vfloat load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE vfloat load_bfloat(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INLINE void store_half(uint16_t *p, vfloat v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
INLINE vint load_factors(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INLINE vint int_add(vint a, vint b) { return _mm512_add_epi32(a, b); }
/* The sum fits the low half of its lane; the factor's high half is zero. */
INLINE vint sub_end(vint total, vint sum, vint factor) { return dot_words(total, sum, factor); }
INLINE vint low_factors(vint v) { return _mm512_and_si512(v, int_set(15)); }
INLINE vint high_factors(vint v) { return _mm512_srli_epi32(v, 4); }
/* Bytes times a small factor of their row, modulo 256: the products fit, so the low halves are exact. */
INLINE vbytes bytes_scale(vbytes w, vint factor) {
    __m512i f = _mm512_or_si512(factor, _mm512_slli_epi32(factor, 16));
    __m512i even = _mm512_mullo_epi16(w, f);
    __m512i odd = _mm512_slli_epi16(_mm512_mullo_epi16(_mm512_srli_epi16(w, 8), f), 8);
    return _mm512_mask_blend_epi8(0xAAAAAAAAAAAAAAAAULL, even, odd);
}

#elif defined(ISA_AVX2) || defined(ISA_AVXVNNI)

#include <immintrin.h>
typedef __m256i vint;
typedef __m256 vfloat;
typedef __m256i vbytes;

INLINE vbytes load_bytes(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void store_bytes(uint8_t *p, vbytes v) { _mm256_storeu_si256((__m256i *)p, v); }
INLINE vbytes bytes_set(uint8_t b) { return _mm256_set1_epi8((char)b); }
INLINE vbytes bytes_xor(vbytes a, vbytes b) { return _mm256_xor_si256(a, b); }
INLINE vbytes bytes_sub(vbytes a, vbytes b) { return _mm256_sub_epi8(a, b); }
INLINE vbytes low_nibbles(vbytes v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
INLINE vbytes high_nibbles(vbytes v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }
INLINE vbytes join_nibbles(vbytes high, vbytes low) { return _mm256_or_si256(_mm256_slli_epi16(high, 4), low); }
INLINE vint int_set(int32_t i) { return _mm256_set1_epi32(i); }
INLINE vint load_int(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE vint int_add(vint a, vint b) { return _mm256_add_epi32(a, b); }
INLINE vfloat to_float(vint v) { return _mm256_cvtepi32_ps(v); }
INLINE vfloat float_set(float f) { return _mm256_set1_ps(f); }
INLINE vfloat load_float(const float *p) { return _mm256_loadu_ps(p); }
INLINE void store_float(float *p, vfloat v) { _mm256_storeu_ps(p, v); }
INLINE vfloat mul(vfloat a, vfloat b) { return _mm256_mul_ps(a, b); }
INLINE vfloat fma_(vfloat a, vfloat b, vfloat c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vfloat load_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
INLINE vfloat load_bfloat(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
INLINE void store_half(uint16_t *p, vfloat v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
INLINE vint load_factors_low(const uint8_t *p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
INLINE vint low_factors(vint v) { return _mm256_and_si256(v, _mm256_set1_epi16(15)); }
INLINE vint high_factors(vint v) { return _mm256_srli_epi16(v, 4); }

#if defined(ISA_AVXVNNI)

#define ISA_NAME "avxvnni"
#define TILE_NIBBLES 0
#define TILE_STARTS 0
enum { LANES = 8, TILE_BIAS = 128, TILE_STEP = 4, TILE_VECTORS = 2, TILE_TOKENS = 6, BYTE_TOKENS = 6, FEW_TOKENS = 8, PANEL_GROUPS = 32 };

/* Unsigned times signed bytes. */
INLINE vint dot_bytes(vint sum, vbytes a, vbytes b) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVXVNNI__)
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b)); /* as with AVX-512 */
    return sum;
#else
    return _mm256_dpbusd_avx_epi32(sum, a, b);
#endif
}
INLINE vint dot_words(vint sum, vint a, vint b) {
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVXVNNI__)
    __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
#else
    return _mm256_dpwssd_avx_epi32(sum, a, b);
#endif
}
/* The sum fits the low half of its lane; the factor's high half is zero. */
INLINE vint sub_end(vint total, vint sum, vint factor) { return dot_words(total, sum, factor); }
INLINE vint load_factors(const uint8_t *p) { return load_factors_low(p); }
INLINE vbytes bytes_scale(vbytes w, vint factor) {
    __m256i f = _mm256_or_si256(factor, _mm256_slli_epi32(factor, 16));
    __m256i even = _mm256_mullo_epi16(w, f);
    __m256i odd = _mm256_slli_epi16(_mm256_mullo_epi16(_mm256_srli_epi16(w, 8), f), 8);
    return _mm256_blendv_epi8(odd, even, _mm256_set1_epi16(0xFF));
}

#else

#define ISA_NAME "avx2"
#define TILE_NIBBLES 1
#define TILE_STARTS 1
enum { LANES = 8, TILE_BIAS = 0, TILE_STEP = 2, TILE_VECTORS = 2, TILE_TOKENS = 6, BYTE_TOKENS = 4, FEW_TOKENS = 8, PANEL_GROUPS = 16 };
typedef __m256i vsub; /* two sums of 16 bits to a row */

/* Both halves of a lane times the factor in the same half of its lane. */
INLINE vint sub_end(vint total, vint sum, vint factor) { return int_add(total, _mm256_madd_epi16(sum, factor)); }

/* |w| x (a with the sign of w): unsigned times signed as maddubs wants, and at most 2 x 128 x 127 < 2^15. */
INLINE vint dot_i8(vint sum, vbytes w, int32_t a) {
    __m256i products = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(int_set(a), w));
    return int_add(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
}
/* Four columns as two vectors of words: columns 0 and 2, then 1 and 3. Winograd's inner product takes half as many
 * multiplications, whose places among the processor's units are scarcer than those of additions:
 * w0 a0 + w1 a1 = (a0 + w1) (a1 + w0) - w0 w1 - a0 a1, where no number has more than 9 bits, and no sum more than 24. */
typedef struct { __m256i even, odd; } vtile;
INLINE vtile load_tile(const uint8_t *p, ptrdiff_t stride) { return (vtile){load_bytes(p), load_bytes(p + stride)}; }
INLINE vtile words_of(vbytes w) { return (vtile){_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)}; }
INLINE void store_step(uint8_t *out, ptrdiff_t stride, vbytes w) {
    vtile words = words_of(w);
    store_bytes(out, words.even);
    store_bytes(out + stride, words.odd);
}
INLINE vint tile_start(vint start, vbytes w) {
    vtile words = words_of(w);
    return _mm256_sub_epi32(start, _mm256_madd_epi16(words.even, words.odd));
}
INLINE int32_t tile_zero(const int8_t *q, int count) {
    int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < count / 2; i++) sum -= q[2 * i] * q[2 * i + 1];
    return sum;
}
INLINE void pack_step(int8_t *out, ptrdiff_t stride, const int8_t *q) {
    int16_t even[2] = {q[0], q[2]}, odd[2] = {q[1], q[3]};
    memcpy(out, even, 4);
    memcpy(out + stride, odd, 4);
}
INLINE int32_t sub_zero(const int8_t *q) {
    __m256i eights = _mm256_maddubs_epi16(bytes_set(8), load_bytes((const uint8_t *)q));
    __m128i sum = _mm_add_epi16(_mm256_castsi256_si128(eights), _mm256_extracti128_si256(eights, 1));
    sum = _mm_add_epi16(sum, _mm_unpackhi_epi64(sum, sum));
    sum = _mm_add_epi16(sum, _mm_shuffle_epi32(sum, 1));
    return _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), sum));
}
INLINE vsub sub_start(int32_t zero) { return int_set(zero); }
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX2__)
/* Else GCC turns the sums of a tile into trees, for which there are not enough registers. */
INLINE vint dot_tile(vint sum, vtile w, int32_t even, int32_t odd) {
    __m256i first, second;
    __asm__("vpaddw %4, %5, %1\n\tvpaddw %3, %6, %2\n\tvpmaddwd %1, %2, %1\n\tvpaddd %1, %0, %0"
            : "+x"(sum), "=&x"(first), "=&x"(second)
            : "x"(w.even), "x"(w.odd), "x"(int_set(even)), "x"(int_set(odd)));
    return sum;
}
INLINE vint dot_words(vint sum, vint a, vint b) {
    __m256i products;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(a), "x"(b));
    return sum;
}
INLINE vsub sub_dot(vsub sum, vbytes w, int32_t a) {
    __m256i products;
    __asm__("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(w), "x"(int_set(a)));
    return sum;
}
/* Both products before both sums: neither sum waits for its product, nor takes its place among the units. */
#define SUB_DOTS
INLINE void sub_dots(vsub *sum, const vbytes *w, int32_t a) {
    vsub first = sum[0], second = sum[1];
    __m256i products, others = int_set(a);
    __asm__("vpmaddubsw %3, %4, %2\n\tvpmaddubsw %3, %5, %3\n\tvpaddw %2, %0, %0\n\tvpaddw %3, %1, %1"
            : "+x"(first), "+x"(second), "=&x"(products), "+x"(others) : "x"(w[0]), "x"(w[1]));
    sum[0] = first;
    sum[1] = second;
}
#define WORD_DOTS
INLINE void word_dots(vint *sum, const vint *words, vint others) {
    vint first = sum[0], second = sum[1];
    __m256i products;
    __asm__("vpmaddwd %3, %4, %2\n\tvpmaddwd %3, %5, %3\n\tvpaddd %2, %0, %0\n\tvpaddd %3, %1, %1"
            : "+x"(first), "+x"(second), "=&x"(products), "+x"(others) : "x"(words[0]), "x"(words[1]));
    sum[0] = first;
    sum[1] = second;
}
#else
INLINE vint dot_tile(vint sum, vtile w, int32_t even, int32_t odd) {
    __m256i first = _mm256_add_epi16(w.odd, int_set(even)), second = _mm256_add_epi16(w.even, int_set(odd));
    return int_add(sum, _mm256_madd_epi16(first, second));
}
INLINE vint dot_words(vint sum, vint a, vint b) { return int_add(sum, _mm256_madd_epi16(a, b)); }
INLINE vsub sub_dot(vsub sum, vbytes w, int32_t a) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, int_set(a)));
}
#endif
/* Factors stand in both halves of a lane, for both sums of a row. */
INLINE vint factor_set(int32_t f) { return _mm256_set1_epi16((short)f); }
INLINE vint load_factors(const uint8_t *p) {
    __m256i wide = load_factors_low(p);
    return _mm256_or_si256(wide, _mm256_slli_epi32(wide, 16));
}
/* Tiles hold two sub-groups side by side: sums of the even one in low halves of the lanes, of the odd in high ones. */
INLINE vint pair_factors(vint v) { return _mm256_blend_epi16(low_factors(v), high_factors(v), 0xAA); }
INLINE int32_t pair_zero(int32_t even, int32_t odd) { return (int32_t)((uint32_t)odd << 16 | (uint16_t)even); }
INLINE void store_pair(uint8_t *out, ptrdiff_t stride, vbytes even, vbytes odd) {
    store_bytes(out, _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xAA));
    store_bytes(out + stride, _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xAA));
}
INLINE void pack_pair(int8_t *out, ptrdiff_t stride, const int8_t *even, const int8_t *odd) {
    memcpy(out, even, 2);
    memcpy(out + 2, odd, 2);
    memcpy(out + stride, even + 2, 2);
    memcpy(out + stride + 2, odd + 2, 2);
}
#endif

#elif defined(ISA_NEON)

#include <arm_neon.h>
#define ISA_NAME "neon"
#define TILE_NIBBLES 0
#define TILE_STARTS 0
enum { LANES = 4, TILE_BIAS = 0, TILE_STEP = 4, TILE_VECTORS = 4, TILE_TOKENS = 4, BYTE_TOKENS = 4, FEW_TOKENS = 8, PANEL_GROUPS = 32 };
typedef int32x4_t vint;
typedef float32x4_t vfloat;
typedef uint8x16_t vbytes;

INLINE vbytes load_bytes(const uint8_t *p) { return vld1q_u8(p); }
INLINE void store_bytes(uint8_t *p, vbytes v) { vst1q_u8(p, v); }
INLINE vbytes bytes_set(uint8_t b) { return vdupq_n_u8(b); }
INLINE vbytes bytes_xor(vbytes a, vbytes b) { return veorq_u8(a, b); }
INLINE vbytes bytes_sub(vbytes a, vbytes b) { return vsubq_u8(a, b); }
INLINE vbytes low_nibbles(vbytes v) { return vandq_u8(v, vdupq_n_u8(15)); }
INLINE vbytes high_nibbles(vbytes v) { return vshrq_n_u8(v, 4); }
INLINE vbytes join_nibbles(vbytes high, vbytes low) { return vorrq_u8(vshlq_n_u8(high, 4), low); }
INLINE vint int_set(int32_t i) { return vdupq_n_s32(i); }
INLINE vint load_int(const int32_t *p) { return vld1q_s32(p); }
INLINE vint dot_words(vint sum, vint a, vint b) {
    int16x8_t words = vreinterpretq_s16_s32(a), others = vreinterpretq_s16_s32(b);
    int32x4_t low = vmull_s16(vget_low_s16(words), vget_low_s16(others));
    return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(words, others)));
}
INLINE vint dot_i8(vint sum, vbytes w, int32_t a) {
    int8x16_t wi = vreinterpretq_s8_u8(w), ai = vreinterpretq_s8_s32(vdupq_n_s32(a));
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, wi, ai);
#else
    int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(wi), vget_low_s8(ai)));
    int32x4_t high = vpaddlq_s16(vmull_high_s8(wi, ai));
    return vaddq_s32(sum, vpaddq_s32(low, high));
#endif
}
INLINE vint sub_end(vint total, vint sum, vint factor) { return vmlaq_s32(total, sum, factor); }
INLINE vfloat to_float(vint v) { return vcvtq_f32_s32(v); }
INLINE vfloat float_set(float f) { return vdupq_n_f32(f); }
INLINE vfloat load_float(const float *p) { return vld1q_f32(p); }
INLINE void store_float(float *p, vfloat v) { vst1q_f32(p, v); }
INLINE vfloat mul(vfloat a, vfloat b) { return vmulq_f32(a, b); }
INLINE vfloat fma_(vfloat a, vfloat b, vfloat c) { return vfmaq_f32(c, a, b); }
INLINE vfloat load_half(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
INLINE vfloat load_bfloat(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
INLINE void store_half(uint16_t *p, vfloat v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
INLINE vint load_factors(const uint8_t *p) {
    uint32_t four;
    memcpy(&four, p, 4);
    uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide)));
}
INLINE vint int_add(vint a, vint b) { return vaddq_s32(a, b); }
INLINE vint low_factors(vint v) { return vandq_s32(v, vdupq_n_s32(15)); }
INLINE vint high_factors(vint v) { return vshrq_n_s32(v, 4); }
INLINE vbytes bytes_scale(vbytes w, vint factor) {
    return vmulq_u8(w, vreinterpretq_u8_s32(vmulq_n_s32(factor, 0x01010101)));
}

#else

#define ISA_NAME "plain"
#define TILE_NIBBLES 0
#define TILE_STARTS 0
enum { LANES = 16, TILE_BIAS = 0, TILE_STEP = 4, TILE_VECTORS = 1, TILE_TOKENS = 4, BYTE_TOKENS = 4, FEW_TOKENS = 2, PANEL_GROUPS = 32 };
typedef struct { int32_t at[16]; } vint;
typedef struct { float at[16]; } vfloat;
typedef struct { uint8_t at[64]; } vbytes;
#define EACH(n, expression) for (int i = 0; i < (n); i++) { expression; }

INLINE vbytes load_bytes(const uint8_t *p) { vbytes r; memcpy(r.at, p, 64); return r; }
INLINE void store_bytes(uint8_t *p, vbytes v) { memcpy(p, v.at, 64); }
INLINE vbytes bytes_set(uint8_t b) { vbytes r; memset(r.at, b, 64); return r; }
INLINE vbytes bytes_xor(vbytes a, vbytes b) { EACH(64, a.at[i] ^= b.at[i]) return a; }
INLINE vbytes bytes_sub(vbytes a, vbytes b) { EACH(64, a.at[i] = (uint8_t)(a.at[i] - b.at[i])) return a; }
INLINE vbytes low_nibbles(vbytes v) { EACH(64, v.at[i] &= 15) return v; }
INLINE vbytes high_nibbles(vbytes v) { EACH(64, v.at[i] >>= 4) return v; }
INLINE vbytes join_nibbles(vbytes a, vbytes b) { EACH(64, b.at[i] |= (uint8_t)(a.at[i] << 4)) return b; }
INLINE vint int_set(int32_t x) { vint r; EACH(16, r.at[i] = x) return r; }
INLINE vint load_int(const int32_t *p) { vint r; memcpy(r.at, p, 64); return r; }
INLINE vint dot_words(vint sum, vint a, vint b) {
    int16_t words[32], others[32];
    memcpy(words, a.at, 64);
    memcpy(others, b.at, 64);
    EACH(16, sum.at[i] += words[2 * i] * others[2 * i] + words[2 * i + 1] * others[2 * i + 1])
    return sum;
}
INLINE vint dot_i8(vint sum, vbytes w, int32_t a) {
    int8_t b[4];
    memcpy(b, &a, 4);
    EACH(64, sum.at[i / 4] += (int8_t)w.at[i] * b[i % 4])
    return sum;
}
INLINE vint sub_end(vint total, vint sum, vint factor) { EACH(16, total.at[i] += sum.at[i] * factor.at[i]) return total; }
INLINE vfloat to_float(vint v) { vfloat r; EACH(16, r.at[i] = (float)v.at[i]) return r; }
INLINE vfloat float_set(float f) { vfloat r; EACH(16, r.at[i] = f) return r; }
INLINE vfloat load_float(const float *p) { vfloat r; memcpy(r.at, p, 64); return r; }
INLINE void store_float(float *p, vfloat v) { memcpy(p, v.at, 64); }
INLINE vfloat mul(vfloat a, vfloat b) { EACH(16, a.at[i] *= b.at[i]) return a; }
INLINE vfloat fma_(vfloat a, vfloat b, vfloat c) { EACH(16, c.at[i] += a.at[i] * b.at[i]) return c; }
INLINE float half_to_float(uint16_t h) {
    /* Move exponent and fraction in place, then let a multiplication re-bias: exact, subnormals too. */
    uint32_t bits = (uint32_t)(h & 0x7FFF) << 13, sign = (uint32_t)(h & 0x8000) << 16;
    float f, scale = 5.192296858534828e33f; /* 2^112 */
    memcpy(&f, &bits, 4);
    f *= scale;
    memcpy(&bits, &f, 4);
    bits |= (h & 0x7C00) == 0x7C00 ? sign | 0x7F800000 : sign; /* infinite, or no number */
    memcpy(&f, &bits, 4);
    return f;
}
INLINE vfloat load_half(const uint16_t *p) { vfloat r; EACH(16, r.at[i] = half_to_float(p[i])) return r; }
INLINE vfloat load_bfloat(const uint16_t *p) {
    vfloat r;
    uint32_t bits[16];
    EACH(16, bits[i] = (uint32_t)p[i] << 16)
    memcpy(r.at, bits, 64);
    return r;
}
INLINE uint16_t float_to_half(float f) {
    uint32_t bits, sign;
    memcpy(&bits, &f, 4);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000) return (uint16_t)(sign | 0x7E00); /* no number */
    if (bits >= 0x47800000) return (uint16_t)(sign | 0x7C00);
    if (bits >= 0x38800000) return (uint16_t)(sign | (((bits + 0xFFF + (bits >> 13 & 1)) >> 13) - (112 << 10)));
    /* Subnormal: next to 1/2 a float has steps of 2^-24, as these halves have. */
    memcpy(&f, &bits, 4);
    f += 0.5f;
    memcpy(&bits, &f, 4);
    return (uint16_t)(sign | (bits - 0x3F000000));
}
INLINE void store_half(uint16_t *p, vfloat v) { EACH(16, p[i] = float_to_half(v.at[i])) }
INLINE vint load_factors(const uint8_t *p) { vint r; EACH(16, r.at[i] = p[i]) return r; }
INLINE vint int_add(vint a, vint b) { EACH(16, a.at[i] += b.at[i]) return a; }
INLINE vint low_factors(vint v) { EACH(16, v.at[i] &= 15) return v; }
INLINE vint high_factors(vint v) { EACH(16, v.at[i] >>= 4) return v; }
INLINE vbytes bytes_scale(vbytes w, vint f) { EACH(64, w.at[i] = (uint8_t)(w.at[i] * f.at[i / 4])) return w; }

#endif

#if defined(ISA_AVX512) || defined(ISA_AVXVNNI)
INLINE vint dot_i8(vint sum, vbytes w, int32_t a) { return dot_bytes(sum, w, int_set(a)); }
INLINE vint dot_u7(vint sum, vbytes w, int32_t a) { return dot_bytes(sum, int_set(a), w); }
#else
INLINE vint dot_u7(vint sum, vbytes w, int32_t a) { return dot_i8(sum, w, a); }
#endif
#if !defined(ISA_AVX2)
/* Where a dot product of bytes takes one instruction, or is written out: one kind of sum for everything. */
typedef vint vsub;
typedef vbytes vtile;
INLINE vtile load_tile(const uint8_t *p, ptrdiff_t stride) {
    (void)stride;
    return load_bytes(p);
}
INLINE vint tile_start(vint start, vbytes w) {
    (void)w;
    return start;
}
INLINE int32_t tile_zero(const int8_t *q, int count) {
    int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < count; i++) sum += q[i];
    return -TILE_BIAS * sum;
}
INLINE void store_step(uint8_t *out, ptrdiff_t stride, vbytes w) {
    (void)stride;
    store_bytes(out, bytes_xor(w, bytes_set(TILE_BIAS)));
}
INLINE void pack_step(int8_t *out, ptrdiff_t stride, const int8_t *q) {
    (void)stride;
    memcpy(out, q, 4);
}
INLINE vint dot_tile(vint sum, vtile w, int32_t a, int32_t unused) {
    (void)unused;
    return dot_i8(sum, w, a);
}
INLINE int32_t sub_zero(const int8_t *q) {
    int32_t sum = 0;
    for (int i = 0; i < 32; i++) sum += q[i];
    return -8 * sum;
}
INLINE vsub sub_start(int32_t zero) { return int_set(zero); }
INLINE vsub sub_dot(vsub sum, vbytes w, int32_t a) { return dot_i8(sum, w, a); }
INLINE vint factor_set(int32_t f) { return int_set(f); }
#endif
#if defined(DOT_AT)
INLINE vsub sub_at(vsub sum, vbytes w, const int8_t *a) { return dot_at(sum, w, a); }
#else
INLINE vint dot_at(vint sum, vbytes w, const int8_t *a) { return dot_i8(sum, w, four_bytes(a)); }
INLINE vsub sub_at(vsub sum, vbytes w, const int8_t *a) { return sub_dot(sum, w, four_bytes(a)); }
#endif
#if !defined(IN_REGISTER)
#define IN_REGISTER(v) ((void)(v))
#endif
#if !defined(SUB_DOTS)
INLINE void sub_dots(vsub *sum, const vbytes *w, int32_t a) {
    UNROLL for (int v = 0; v < TILE_VECTORS; v++) sum[v] = sub_dot(sum[v], w[v], a);
}
#endif
#if !defined(WORD_DOTS)
INLINE void word_dots(vint *sum, const vint *words, vint others) {
    UNROLL for (int v = 0; v < TILE_VECTORS; v++) sum[v] = dot_words(sum[v], words[v], others);
}
#endif
#endif
