/* Random shapes through every function of the kernels, against plain loops: fuzz SEED SECONDS.
 *
 * Every buffer has exactly the size that it must have, so that a sanitizer sees the first byte too many.
 * Prints what differs and returns 1 at the first difference.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BLOCK = 16, GROUP = 128, SUB = 32 };

typedef struct {
    const uint8_t *values, *low;
    const uint16_t *scales;
    const uint8_t *factors;
    const float *row_scales, *bias;
    int64_t rows, columns;
    int32_t bits;
} Matrix;

typedef struct {
    Matrix query_key_value, dense, up, down;
    const float *attention_norm, *attention_norm_bias, *mlp_norm, *mlp_norm_bias;
} Layer;

typedef struct {
    int64_t hidden, inner, heads, groups, size, query_stride, key, value, group_stride, distance;
    int32_t centred, gated, from_norm;
    float epsilon, residual;
} Shape;

typedef struct {
    void *numbers;
    int64_t capacity;
    int32_t bits;
} Cache;

typedef struct {
    int64_t sequence, place;
} Token;

typedef struct {
    const float *q;
    int64_t tokens, token_stride, heads, head_stride;
    const uint8_t *keys, *values;
    int64_t groups, stride, length, size;
    const uint8_t *mask;
    float *out;
    int32_t causal;
} Attention;

int glmtui_quantize(const uint8_t *, int, int64_t, int64_t, int, uint8_t *, uint8_t *, uint16_t *, uint8_t *, int);
void glmtui_reorder(const uint8_t *, int64_t, int64_t, int, uint8_t *, int);
int glmtui_multiply(const Matrix *, const float *, int64_t, float *, int);
int glmtui_refine(const Matrix *, const float *, int64_t, const int64_t *, int64_t, float *, int);
int glmtui_few(void);
int glmtui_layers(const Layer *, int64_t, const Shape *, const Cache *, const Token *, int64_t, const float *,
                  const float *, float *, int);
void glmtui_rotate(const float *, const float *, const float *, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                 int64_t, float *, int);
int glmtui_attend(const float *, const uint16_t *, const uint16_t *, const uint8_t *, int64_t, int64_t, int64_t, int64_t,
                  int64_t, int64_t, int64_t, int64_t, float *, int);
int glmtui_attend_cached(const Attention *, int);
void glmtui_put_cached(const float *, int64_t, int64_t, const float *, int64_t, int64_t, int64_t, int64_t, int64_t,
                       int64_t, uint8_t *, uint8_t *, int64_t, int);
int glmtui_attend_prompt(const float *, const uint16_t *, const uint16_t *, const uint8_t *, int64_t, int64_t, int64_t,
                         int64_t, int64_t, int64_t, int64_t, int64_t, float *, int);
int glmtui_multiply_halves(const uint16_t *, int, int64_t, int64_t, const float *, int64_t, float *, int);
int glmtui_multiply_many_halves(const uint16_t *, int, int64_t, int64_t, const float *, int64_t, float *, int);
void glmtui_gelu(float *, int64_t, int);
void glmtui_swiglu(const float *, int64_t, int64_t, float *, int);
uint64_t glmtui_read(const uint8_t *, int64_t, int);
uint32_t glmtui_crc32(uint32_t, const uint8_t *, int64_t);
const char *glmtui_isa(void);

static uint64_t state;

static uint64_t next(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717u;
}

static int64_t within(int64_t low, int64_t high) { return low + (int64_t)(next() >> 33) % (high - low + 1); }

static float number(void) { return ((float)(next() >> 40) / (1 << 24) - 0.5f) * 4; }

static void *need(int64_t bytes) {
    void *p = malloc((size_t)bytes);
    if (!p) exit(2);
    return p;
}

static float *numbers(int64_t count) {
    float *x = need(count * (int64_t)sizeof(float));
    for (int64_t i = 0; i < count; i++) x[i] = number();
    return x;
}

static float of_half(uint16_t h) {
    int exponent = h >> 10 & 31, fraction = h & 1023;
    float f = exponent ? ldexpf((float)(fraction + 1024), exponent - 25) : ldexpf((float)fraction, -24);
    return h & 0x8000 ? -f : f;
}

static void expect(int right, const char *what, int64_t a, int64_t b, int64_t c) {
    if (right) return;
    printf("%s is wrong at (%lld, %lld, %lld)\n", what, (long long)a, (long long)b, (long long)c);
    exit(1);
}

static void near(double found, double expected, double tolerance, const char *what, int64_t a, int64_t b, int64_t c) {
    if (!(fabs(found - expected) <= tolerance)) printf("found %g, expected %g\n", found, expected);
    expect(fabs(found - expected) <= tolerance, what, a, b, c);
}

/* The weight at a place, by the description in formats.py, in units of its scale. */
static int integer(const Matrix *m, int64_t row, int64_t column) {
    int64_t groups = (m->columns + GROUP - 1) / GROUP, at = row / BLOCK * groups + column / GROUP;
    int r = (int)(row % BLOCK), c = (int)(column % GROUP);
    const uint8_t *values = m->values + at * (m->low ? 1024 : 256 * m->bits);
    if (m->low) {
        int place = c / 8 * 64 + r * 4 + c % 4, shift = c % 8 / 4 * 4;
        return ((values[place] >> shift & 15) - 8) * 16 + (m->low[at * 1024 + place] >> shift & 15);
    }
    if (m->bits == 8) return (int8_t)values[c / 4 * 64 + r * 4 + c % 4];
    int nibble = (values[c / 8 * 64 + r * 4 + c % 4] >> (c % 8 / 4 * 4) & 15) - 8;
    if (!m->factors) return nibble;
    int sub = c / SUB;
    return nibble * (m->factors[(at * 2 + sub / 2) * BLOCK + r] >> (sub % 2 * 4) & 15);
}

static double scale_of(const Matrix *m, int64_t row, int64_t column) {
    int64_t groups = (m->columns + GROUP - 1) / GROUP;
    return m->row_scales ? m->row_scales[row]
                         : of_half(m->scales[(row / BLOCK * groups + column / GROUP) * BLOCK + row % BLOCK]);
}

static double weight(const Matrix *m, int64_t row, int64_t column) {
    return scale_of(m, row, column) * integer(m, row, column);
}

/* The same, of a matrix in two planes by its high one alone. */
static double coarse_weight(const Matrix *m, int64_t row, int64_t column) {
    return scale_of(m, row, column) * ((integer(m, row, column) & ~15) + 8);
}

static void check_product(const Matrix *m, int threads) {
    int64_t tokens = within(1, within(0, 3) ? 6 : 70), groups = (m->columns + GROUP - 1) / GROUP;
    float *x = numbers(tokens * m->columns), *out = need(tokens * m->rows * (int64_t)sizeof(float));
    expect(glmtui_multiply(m, x, tokens, out, threads) == 0, "memory", tokens, m->rows, m->columns);
    int coarse = m->low && tokens <= glmtui_few(); /* few tokens' product by two planes */
    int64_t *refined = need(tokens * (int64_t)sizeof(int64_t)); /* of each the block that is exact */
    float *alone = need(m->rows * (int64_t)sizeof(float));
    for (int64_t t = 0; t < tokens && (!m->low || coarse); t++) {
        glmtui_multiply(m, x + t * m->columns, 1, alone, 1);
        expect(!memcmp(alone, out + t * m->rows, (size_t)m->rows * sizeof(float)), "product next to others", t, tokens,
               m->columns);
        refined[t] = within(0, (m->rows - 1) / BLOCK);
    }
    if (coarse) expect(!glmtui_refine(m, x, tokens, refined, 1, out, threads), "memory", 1, m->rows, m->columns);
    free(alone);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t row = 0; row < m->rows; row++) {
            double sum = m->bias ? m->bias[row] : 0, size = fabs(sum);
            for (int64_t g = 0; g < groups; g++) {
                float largest = 0;
                int64_t end = (g + 1) * GROUP < m->columns ? (g + 1) * GROUP : m->columns;
                for (int64_t c = g * GROUP; c < end; c++) largest = fmaxf(largest, fabsf(x[t * m->columns + c]));
                float inverse = largest > 0 ? 127.0f / largest : 0;
                for (int64_t c = g * GROUP; c < end; c++) {
                    int exact = !coarse || row / BLOCK == refined[t];
                    double w = (exact ? weight : coarse_weight)(m, row, c) * (largest / 127.0f);
                    sum += w * rintf(x[t * m->columns + c] * inverse);
                    size += fabs(w) * 127;
                }
            }
            near(out[t * m->rows + row], sum, 1e-3 * size + 1e-20, "product", t, row, m->columns);
        }
    free(refined);
    free(x);
    free(out);
}

static void matrices(void) {
    int64_t rows = within(1, 70), columns = 2 * within(1, within(0, 3) ? 150 : 2200);
    int64_t blocks = (rows + BLOCK - 1) / BLOCK, groups = (columns + GROUP - 1) / GROUP;
    int bits = within(0, 1) ? 8 : 4, threads = (int)within(1, 3), kind = (int)within(0, 3);
    int planes = bits == 8 && kind < 3 && within(0, 1);
    uint8_t *values = need(blocks * groups * (planes ? 1024 : 256 * bits)), *factors = NULL;
    uint8_t *low = planes ? need(blocks * groups * 1024) : NULL;
    uint16_t *scales = NULL;
    float *row_scales = NULL, *bias = within(0, 1) ? numbers(rows) : NULL;
    Matrix m = {values, low, NULL, NULL, NULL, bias, rows, columns, bits};
    if (kind < 3) {
        int64_t width = kind == 0 ? 4 : 2;
        uint8_t *stored = need(rows * columns * width);
        float *exact = need(rows * columns * (int64_t)sizeof(float));
        for (int64_t i = 0; i < rows * columns; i++) {
            float x = within(0, 20) ? number() : 0;
            uint32_t word;
            memcpy(&word, &x, 4);
            uint16_t half = kind == 1 ? (uint16_t)(next() & 0xBBFF) : (uint16_t)(word >> 16); /* below 2 in size */
            memcpy(stored + i * width, kind == 0 ? (void *)&x : (void *)&half, (size_t)width);
            word = (uint32_t)half << 16;
            if (kind == 2) memcpy(&x, &word, 4);
            exact[i] = kind == 1 ? of_half(half) : x;
        }
        m.scales = scales = need(blocks * groups * BLOCK * 2);
        if (bits == 4) m.factors = factors = need(blocks * groups * 2 * BLOCK);
        expect(!glmtui_quantize(stored, kind, rows, columns, bits, values, low, scales, factors, threads), "finite", 0,
               0, 0);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++) {
                float largest = 0;
                int64_t first = c / GROUP * GROUP, end = first + GROUP < columns ? first + GROUP : columns;
                for (int64_t i = first; i < end; i++) largest = fmaxf(largest, fabsf(exact[r * columns + i]));
                double step = bits == 8 ? 0.52 / 127 : 2.2 / 7; /* INT4 may cut off where that is better */
                /* fp16 rounds the smallest scales by up to 2^-25, which counts for each of 127 steps */
                near(weight(&m, r, c), exact[r * columns + c], step * largest + 4e-6, "weight", r, c, bits);
            }
        free(exact);
        free(stored);
    } else {
        int64_t count = rows * columns * bits / 8;
        uint8_t *stored = need(count);
        for (int64_t i = 0; i < count; i++) stored[i] = (uint8_t)next();
        glmtui_reorder(stored, rows, columns, bits, values, threads);
        m.row_scales = row_scales = numbers(blocks * BLOCK);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++) {
                int byte = stored[(r * columns + c) * bits / 8];
                int expected = bits == 8 ? (int8_t)byte : (((c % 2 ? byte : byte >> 4) & 15) ^ 8) - 8;
                expect(integer(&m, r, c) == expected, "order", r, c, bits);
            }
        free(stored);
    }
    check_product(&m, threads);
    free(values);
    free(low);
    free(scales);
    free(factors);
    free(row_scales);
    free(bias);
}

/* Weights of half precision, each token's product together and alone; as words, too, if `many`. */
static void halves(int many) {
    int (*multiply)(const uint16_t *, int, int64_t, int64_t, const float *, int64_t, float *, int) =
        many ? glmtui_multiply_many_halves : glmtui_multiply_halves;
    int64_t rows = within(1, 40), columns = within(1, within(0, 3) ? 300 : 4000), tokens = within(1, many ? 40 : 17);
    int bfloat = (int)within(0, 1), threads = (int)within(1, 3);
    uint16_t *w = need(rows * columns * 2);
    float *x = numbers(tokens * columns), *out = need(tokens * rows * 4), *alone = need(rows * 4);
    for (int64_t i = 0; i < rows * columns; i++) w[i] = (uint16_t)(next() & (bfloat ? 0xBFFF : 0xBBFF)); /* below 2 */
    expect(!multiply(w, bfloat, rows, columns, x, tokens, out, threads), "memory", 0, 0, 0);
    for (int64_t t = 0; t < tokens; t++) {
        expect(!multiply(w, bfloat, rows, columns, x + t * columns, 1, alone, 1), "memory", 0, 0, 0);
        expect(!memcmp(alone, out + t * rows, (size_t)rows * 4), "half product next to others", t, tokens, columns);
        for (int64_t r = 0; r < rows; r++) {
            double sum = 0, size = 0, largest = 0, most = 0;
            for (int64_t c = 0; c < columns; c++) {
                uint32_t word = (uint32_t)w[r * columns + c] << 16;
                float weight;
                memcpy(&weight, &word, 4);
                if (!bfloat) weight = of_half(w[r * columns + c]);
                sum += (double)weight * x[t * columns + c];
                size += fabs((double)weight * x[t * columns + c]);
                largest = fmax(largest, fabs((double)weight));
                most = fmax(most, fabs((double)x[t * columns + c]));
            }
            double words = many ? (double)columns * largest * most / 2895 : 0; /* each of them off by half a word */
            near(alone[r], sum, words + 1e-5 * size + 1e-20, "half product", t, r, columns);
        }
    }
    free(w);
    free(x);
    free(out);
    free(alone);
}

/* One query's attention over keys that `mask` lets see (NULL: all), against out[size]. */
static void check_attention(const float *q, const uint16_t *keys, const uint16_t *values, const uint8_t *mask,
                            int64_t length, int64_t size, const float *out) {
    double scores[90], sum = 0, largest = -INFINITY;
    for (int64_t t = 0; t < length; t++) {
        scores[t] = 0;
        for (int64_t i = 0; i < size; i++) scores[t] += (double)q[i] * of_half(keys[t * size + i]);
        scores[t] = mask && !mask[t] ? -INFINITY : scores[t] / sqrt((double)size);
        largest = scores[t] > largest ? scores[t] : largest;
    }
    for (int64_t t = 0; t < length; t++) sum += scores[t] = exp(scores[t] - largest);
    for (int64_t i = 0; i < size; i++) {
        double expected = 0;
        for (int64_t t = 0; t < length; t++) expected += scores[t] / sum * of_half(values[t * size + i]);
        near(out[i], expected, 1e-3, "attention", i, length, size);
    }
}

static void attention(void) {
    int64_t groups = within(1, 3), heads = groups * within(1, 3), size = 16 * within(1, 8), length = within(1, 90);
    int64_t stride = (length + within(0, 3)) * size, tokens = within(1, within(0, 1) ? 5 : 70);
    int64_t kept = ((groups - 1) * stride + length * size) * 2;
    int threads = (int)within(1, 3);
    float *q = numbers(tokens * heads * size), *out = need(tokens * heads * size * (int64_t)sizeof(float));
    uint16_t *keys = need(kept), *values = need(kept);
    uint8_t *mask = need(tokens * length), *given = within(0, 1) ? mask : NULL;
    for (int64_t i = 0; i < kept / 2; i++) {
        keys[i] = (uint16_t)(next() & 0xB7FF);
        values[i] = (uint16_t)(next() & 0xBBFF);
    }
    for (int64_t i = 0; i < tokens * length; i++) mask[i] = (uint8_t)within(0, 1);
    for (int64_t t = 0; t < tokens; t++) mask[t * length + within(0, length - 1)] = 1;
    for (int few = 0; few < 2; few++) {
        expect(!(few ? glmtui_attend : glmtui_attend_prompt)(q, keys, values, given, tokens, heads * size, heads, size,
                                                             groups, length, size, stride, out, threads), "memory", 0, 0, 0);
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t h = 0; h < heads; h++) {
                int64_t at = h / (heads / groups) * stride, here = (t * heads + h) * size;
                check_attention(q + here, keys + at, values + at, given ? given + t * length : NULL, length, size,
                                out + here);
            }
    }
    free(q);
    free(out);
    free(keys);
    free(values);
    free(mask);
}

enum { PAGE = 16 };

/* The number of column `c` of token `t` in the pages of a group, of keys or values. */
static double in_page(const uint8_t *pages, int64_t size, int64_t t, int64_t c, int keys) {
    const uint8_t *page = pages + t / PAGE * PAGE * (size + 4);
    int64_t i = t % PAGE, at = keys ? c / 4 * 4 * PAGE + i * 4 + c % 4 : i / 4 * size * 4 + c * 4 + i % 4;
    float scale;
    memcpy(&scale, page + PAGE * size + i * 4, 4);
    return (int8_t)page[at] * (double)scale;
}

/* The numbers of a token against what they were put as. */
static void check_page(const uint8_t *pages, int64_t size, int64_t t, int keys, const float *x) {
    double largest = 0;
    for (int64_t c = 0; c < size; c++) largest = fmax(largest, fabsf(x[c]));
    for (int64_t c = 0; c < size; c++) near(in_page(pages, size, t, c, keys), x[c], largest / 253, "page", t, c, keys);
}

/* One query's attention to the pages of a group, as far as `mask` lets see (NULL: all), against out[size]. */
static void check_cached(const float *q, const uint8_t *keys, const uint8_t *values, const uint8_t *mask, int64_t length,
                         int64_t size, const float *out) {
    double scores[300], sum = 0, most = -INFINITY;
    for (int64_t t = 0; t < length; t++) {
        scores[t] = mask && !mask[t] ? -INFINITY : 0;
        for (int64_t c = 0; c < size; c++) scores[t] += q[c] * in_page(keys, size, t, c, 1) / sqrt((double)size);
        most = fmax(most, scores[t]);
    }
    for (int64_t t = 0; t < length; t++) sum += scores[t] = exp(scores[t] - most);
    for (int64_t c = 0; c < size; c += 7) {
        double expected = 0;
        for (int64_t t = 0; t < length; t++) expected += scores[t] / sum * in_page(values, size, t, c, 0);
        near(out[c], expected, 2e-3, "cached", c, length, size);
    }
}

static void cached(void) {
    int64_t groups = within(1, 3), heads = groups * within(1, 9), size = 16 * within(1, 9), length = within(1, 300);
    int64_t most = length < 40 ? length : 40, tokens = within(1, most), pages = (length + PAGE - 1) / PAGE + within(0, 2);
    int64_t width = heads * size, stride = pages * PAGE * (size + 4), before = within(0, length - 1);
    int threads = (int)within(1, 3), holes = (int)within(0, 1), given = tokens > 1 || holes;
    int causal = !holes && within(0, 1); /* which says the same as the mask then */
    float *k = numbers(length * groups * size), *v = numbers(length * groups * size), *q = numbers(tokens * width);
    float *out = need(tokens * width * 4), *alone = need(width * 4);
    uint8_t *keys = need(groups * stride), *values = need(groups * stride), *mask = need(tokens * length);
    memset(keys, 0xFF, (size_t)(groups * stride)); /* what was there before: scales too that are no numbers */
    memset(values, 0xFF, (size_t)(groups * stride));
    for (int64_t i = 0; i < groups * size; i++) k[i] = v[i] = 0;
    for (int part = 0; part < 2; part++) {
        int64_t from = part ? before : 0, count = part ? length - before : before, at = from * groups * size;
        glmtui_put_cached(k + at, groups * size, size, v + at, groups * size, size, count, groups, size, from, keys, values,
                          stride, threads);
    }
    for (int64_t i = 0; i < length * groups; i++) {
        check_page(keys + i % groups * stride, size, i / groups, 1, k + i * size);
        check_page(values + i % groups * stride, size, i / groups, 0, v + i * size);
    }
    for (int64_t i = 0; i < tokens * length; i++)
        mask[i] = i % length <= length - tokens + i / length && (!holes || i % length == 0 || within(0, 1));
    Attention a = {q, tokens, width, heads, size, keys, values, groups, stride, length, size,
                   given && !causal ? mask : NULL, out, causal};
    expect(!glmtui_attend_cached(&a, threads), "memory", 0, 0, 0);
    for (int64_t t = 0; t < tokens; t++) {
        Attention one = a;
        one.q = q + t * width, one.tokens = 1, one.out = alone, one.mask = holes ? mask + t * length : NULL;
        one.length = holes ? length : length - tokens + t + 1;
        expect(!glmtui_attend_cached(&one, (int)within(1, 3)), "memory", 0, 0, 0);
        expect(!memcmp(alone, out + t * width, (size_t)width * 4), "alone", t, tokens, length);
        for (int64_t h = 0; h < heads; h++)
            check_cached(q + t * width + h * size, keys + h / (heads / groups) * stride,
                         values + h / (heads / groups) * stride, given ? mask + t * length : NULL, length, size,
                         out + t * width + h * size);
    }
    void *all[] = {k, v, q, out, alone, keys, values, mask};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static Matrix random_matrix(int64_t rows, int64_t columns) {
    int64_t cells = (rows + BLOCK - 1) / BLOCK * ((columns + GROUP - 1) / GROUP);
    int bits = within(0, 1) ? 8 : 4;
    float *exact = numbers(rows * columns);
    uint8_t *values = need(cells * 256 * bits), *factors = bits == 4 ? need(cells * 2 * BLOCK) : NULL;
    uint16_t *scales = need(cells * BLOCK * 2);
    for (int64_t i = 0; i < rows * columns; i++) exact[i] /= sqrtf((float)columns);
    glmtui_quantize((uint8_t *)exact, 0, rows, columns, bits, values, NULL, scales, factors, 1);
    free(exact);
    return (Matrix){values, NULL, scales, factors, NULL, within(0, 1) ? numbers(rows) : NULL, rows, columns, bits};
}

static void forget(Matrix m) {
    free((void *)m.values);
    free((void *)m.scales);
    free((void *)m.factors);
    free((void *)m.bias);
}

static float *normed(const Shape *s, const float *x, const float *weight, const float *bias) {
    double mean = 0, squares = 0;
    float *out = need(s->hidden * (int64_t)sizeof(float));
    for (int64_t i = 0; i < s->hidden && s->centred; i++) mean += x[i] / (double)s->hidden;
    for (int64_t i = 0; i < s->hidden; i++) squares += (x[i] - mean) * (x[i] - mean) / (double)s->hidden;
    for (int64_t i = 0; i < s->hidden; i++)
        out[i] = (float)((x[i] - mean) / sqrt(squares + s->epsilon) * weight[i] + (bias ? bias[i] : 0));
    return out;
}

/* How far a product's row may be off because of activations half-way between two bytes. The norm before it is rounded
 * elsewhere than here, in the last bits of a float, so such a one may go either way: by one step of its group. */
static double undecided(const Matrix *m, const float *x, int64_t row) {
    double sum = 0;
    for (int64_t start = 0; start < m->columns; start += GROUP) {
        int64_t end = start + GROUP < m->columns ? start + GROUP : m->columns;
        float largest = 0;
        for (int64_t c = start; c < end; c++) largest = fmaxf(largest, fabsf(x[c]));
        for (int64_t c = start; c < end && largest > 0; c++) {
            double place = fabs(x[c] * 127.0 / largest);
            if (fabs(place - floor(place) - 0.5) < 1e-3) sum += fabs(weight(m, row, c)) * (largest / 127.0);
        }
    }
    return sum;
}

static void add_residual(const Shape *s, float *product, const float *normed, const float *x) {
    for (int64_t i = 0; i < s->hidden; i++) product[i] += s->residual * (s->from_norm ? normed : x)[i];
}

/* Tokens of two sequences through a layer together, against each of them alone. x[hidden] is the first of them. */
static void check_together(const Layer *layer, const Shape *s, const Cache *cache, int64_t place, const float *x,
                           int threads) {
    int64_t tokens = within(2, 17), firsts = within(1, tokens), size = s->size, hidden = s->hidden;
    int64_t unit = cache->bits == 8 ? PAGE : 1, item = cache->bits == 8 ? size + 4 : 2 * size; /* bytes of a token */
    int64_t capacity = (place + tokens + unit - 1) / unit * unit, held = (place + unit - 1) / unit * unit;
    int64_t bytes = 2 * s->groups * capacity * item;
    Cache caches[4];
    for (int64_t c = 0; c < 4; c++) { /* two for together, two for alone; all begin with the same keys */
        caches[c] = (Cache){need(bytes), capacity, cache->bits};
        memset(caches[c].numbers, 0xFF, (size_t)bytes); /* what is no number behind them */
        for (int64_t g = 0; g < 2 * s->groups; g++)
            memcpy((uint8_t *)caches[c].numbers + g * capacity * item,
                   (uint8_t *)cache->numbers + g * cache->capacity * item, (size_t)(held * item));
    }
    float *all = numbers(tokens * hidden), *one = need(hidden * 4), *cosines = numbers(tokens * size);
    float *sines = numbers(tokens * size), *together = need(tokens * hidden * 4);
    memcpy(all, x, (size_t)hidden * 4);
    memcpy(together, all, (size_t)(tokens * hidden) * 4);
    Token places[17];
    for (int64_t t = 0; t < tokens; t++)
        places[t] = t < firsts ? (Token){0, place + t} : (Token){1, place + t - firsts};
    if (tokens > glmtui_few()) { /* no room for more, nor is there a change */
        expect(glmtui_layers(layer, 1, s, caches, places, tokens, cosines, sines, together, threads), "too many", 0, 0, 0);
        tokens--;
    }
    expect(!glmtui_layers(layer, 1, s, caches, places, tokens, cosines, sines, together, threads), "memory", 0, 0, 0);
    for (int64_t t = 0; t < tokens; t++) {
        Token alone = {0, places[t].place};
        memcpy(one, all + t * hidden, (size_t)hidden * 4);
        expect(!glmtui_layers(layer, 1, s, caches + 2 + places[t].sequence, &alone, 1, cosines + t * size,
                              sines + t * size, one, 1), "memory", 0, 0, 0);
        expect(!memcmp(one, together + t * hidden, (size_t)hidden * 4), "layer next to others", t, tokens, hidden);
    }
    for (int64_t c = 0; c < 2; c++)
        expect(!memcmp(caches[c].numbers, caches[2 + c].numbers, (size_t)bytes), "keys next to others", c, tokens, size);
    for (int64_t c = 0; c < 4; c++) free(caches[c].numbers);
    float *made[] = {all, one, cosines, sines, together};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) free(made[i]);
}

static double largest_of(const float *x, int64_t count) {
    double largest = 0;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabsf(x[i]));
    return largest;
}

/* A layer at once against its parts, one after another. Its norms' biases tell LayerNorm from RMSNorm. */
static void layers(void) {
    int v1 = (int)within(0, 1), threads = (int)within(1, 3);
    int64_t groups = within(1, 3), heads = v1 ? groups : groups * within(1, 3), size = 16 * within(1, 5);
    int64_t hidden = within(1, 300), inner = within(1, 300), place = within(0, 20), width = (heads + 2 * groups) * size;
    Shape s = {hidden, inner, heads, groups, size, v1 ? 3 * size : size, v1 ? size : heads * size,
               v1 ? 2 * size : (heads + groups) * size, v1 ? 3 * size : size, within(0, 1) ? 1 : 8, v1, !v1, v1,
               1e-5f, v1 ? 7.5f : 1};
    Layer layer = {random_matrix(width, hidden), random_matrix(hidden, heads * size),
                   random_matrix(v1 ? inner : 2 * inner, hidden), random_matrix(hidden, inner), numbers(hidden),
                   v1 ? numbers(hidden) : NULL, numbers(hidden), v1 ? numbers(hidden) : NULL};
    int pages = (int)within(0, 1);
    int64_t capacity = pages ? (place / PAGE + 1 + within(0, 1)) * PAGE : place + within(1, 3);
    int64_t stride = pages ? capacity * (size + 4) : capacity * size * 2;
    uint8_t *keys = need(2 * groups * stride), *values = keys + groups * stride;
    Cache cache = {keys, capacity, pages ? 8 : 16};
    float *past = numbers((place + 1) * groups * size);
    for (int64_t i = 0; !pages && i < groups * stride; i++) ((uint16_t *)keys)[i] = (uint16_t)(next() & 0xB7FF);
    if (pages)
        glmtui_put_cached(past, groups * size, size, past, groups * size, size, place, groups, size, 0, keys, values,
                          stride, 1);
    free(past);
    float *x = numbers(hidden), *found = need(hidden * (int64_t)sizeof(float)), *cosine = numbers(size), *sine = numbers(size);
    memcpy(found, x, (size_t)hidden * sizeof(float));
    Token token = {0, place};
    expect(!glmtui_layers(&layer, 1, &s, &cache, &token, 1, cosine, sine, found, threads), "memory", 0, 0, 0);
    check_together(&layer, &s, &cache, place, x, threads);

    float *a = normed(&s, x, layer.attention_norm, layer.attention_norm_bias), *projected = need(width * 4);
    float *rotated = need((heads + groups) * size * 4), *attended = need(heads * size * 4), *h = need(hidden * 4);
    glmtui_multiply(&layer.query_key_value, a, 1, projected, 1);
    for (int64_t i = 0; i < heads + groups; i++) {
        int64_t g = i - heads, from = g < 0 ? i * s.query_stride : s.key + g * s.group_stride;
        glmtui_rotate(projected + from, cosine, sine, 1, 1, 1, size, 0, 0, s.distance, rotated + i * size, 1);
        double slack = 0; /* of any row of this head's keys; a rotated one is of two, times cosine and sine up to 2 */
        for (int64_t c = 0; g >= 0 && c < size; c++) slack = fmax(slack, undecided(&layer.query_key_value, a, from + c));
        for (int64_t c = 0; g >= 0 && c < size; c++) {
            int64_t row = s.value + g * s.group_stride + c, at = g * stride + (place * size + c) * 2;
            float key = rotated[i * size + c], value = projected[row];
            double found_key = pages ? in_page(keys + g * stride, size, place, c, 1) : of_half(*(uint16_t *)(keys + at));
            double found_value = pages ? in_page(values + g * stride, size, place, c, 0) : of_half(*(uint16_t *)(values + at));
            double key_step = 1e-3 * fabsf(key), value_step = 1e-3 * fabsf(value);
            if (pages) { /* the largest of a head makes the step */
                key_step = fmax(key_step, largest_of(rotated + i * size, size) / 200);
                value_step = fmax(value_step, largest_of(projected + row - c, size) / 200);
            }
            near(found_key, key, key_step + 1e-3 + 4 * slack, "key", g, c, place);
            near(found_value, value, value_step + 1e-3 + undecided(&layer.query_key_value, a, row), "value", g, c, place);
        }
    }
    Attention attention = {rotated, 1, 0, heads, size, keys, values, groups, stride, place + 1, size, NULL, attended, 1};
    if (pages)
        glmtui_attend_cached(&attention, 1);
    else
        glmtui_attend(rotated, (uint16_t *)keys, (uint16_t *)values, NULL, 1, 0, heads, size, groups, place + 1, size,
                      stride / 2, attended, 1);
    glmtui_multiply(&layer.dense, attended, 1, h, 1);
    add_residual(&s, h, a, x);
    float *m = normed(&s, h, layer.mlp_norm, layer.mlp_norm_bias), *up = need(layer.up.rows * 4), *out = need(hidden * 4);
    float *active = need(inner * 4);
    glmtui_multiply(&layer.up, m, 1, up, 1);
    if (s.gated) glmtui_swiglu(up, 1, inner, active, 1);
    else glmtui_gelu(memcpy(active, up, (size_t)inner * 4), inner, 1);
    glmtui_multiply(&layer.down, active, 1, out, 1);
    add_residual(&s, out, m, h);
    double difference = 0, largest = 1e-3; /* an activation half-way between two bytes may go either way */
    for (int64_t i = 0; i < hidden; i++) {
        difference = fmax(difference, fabs(found[i] - out[i]));
        largest = fmax(largest, fabs(out[i]));
    }
    near(difference, 0, 0.03 * largest, "layer", hidden, inner, place);
    Matrix made[] = {layer.query_key_value, layer.dense, layer.up, layer.down};
    for (int i = 0; i < 4; i++) forget(made[i]);
    float *all[] = {x, found, cosine, sine, a, projected, rotated, attended, h, m, up, out, active,
                    (float *)layer.attention_norm, (float *)layer.attention_norm_bias, (float *)layer.mlp_norm,
                    (float *)layer.mlp_norm_bias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(keys);
}

static void elementwise(void) {
    int64_t rows = within(1, 5), width = within(1, 9000), count = 2 * rows * width;
    float *x = numbers(count), *y = need(count * (int64_t)sizeof(float)), *out = need(rows * width * (int64_t)sizeof(float));
    memcpy(y, x, (size_t)count * sizeof(float));
    glmtui_gelu(y, count, (int)within(1, 3));
    for (int64_t i = 0; i < count; i++) {
        double v = x[i], inner = 0.7978845608028654 * (v + 0.044715 * v * v * v);
        near(y[i], 0.5 * v * (1 + tanh(inner)), 1e-4, "GELU", i, count, 0);
    }
    glmtui_swiglu(x, rows, width, out, (int)within(1, 3));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) {
            double gate = x[2 * r * width + i], up = x[(2 * r + 1) * width + i];
            near(out[r * width + i], gate / (1 + exp(-gate)) * up, 1e-4, "SwiGLU", r, i, width);
        }
    free(x);
    free(y);
    free(out);
}

static void bytes(void) {
    int64_t count = within(0, 300000);
    uint8_t *p = need(count + 1);
    uint32_t start = (uint32_t)next(), crc = ~start;
    for (int64_t i = 0; i < count; i++) {
        p[i] = (uint8_t)next();
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    expect(glmtui_crc32(start, p, count) == ~crc, "checksum", count, 0, 0);
    glmtui_read(p, count, (int)within(1, 3));
    free(p);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    state = strtoull(argv[1], NULL, 10) * 2654435769u + 1;
    double seconds = atof(argv[2]);
    clock_t begin = clock();
    int64_t runs = 0;
    do {
        matrices();
        halves(0);
        halves(1);
        attention();
        cached();
        layers();
        if (runs % 8 == 0) elementwise();
        if (runs % 8 == 1) bytes();
        runs++;
    } while ((double)(clock() - begin) / CLOCKS_PER_SEC < seconds);
    printf("%s: %lld runs\n", glmtui_isa(), (long long)runs);
    return 0;
}
