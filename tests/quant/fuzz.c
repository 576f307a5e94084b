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
    const uint8_t *values;
    const uint16_t *scales;
    const uint8_t *factors;
    const float *row_scales, *bias;
    int64_t rows, columns;
    int32_t bits;
} Matrix;

int glmtui_quantize(const uint8_t *, int, int64_t, int64_t, int, uint8_t *, uint16_t *, uint8_t *, int);
void glmtui_reorder(const uint8_t *, int64_t, int64_t, int, uint8_t *, int);
int glmtui_multiply(const Matrix *, const float *, int64_t, float *, int);
int glmtui_attend(const float *, const uint16_t *, const uint16_t *, int64_t, int64_t, int64_t, int64_t, int64_t,
                  float *, int);
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
    const uint8_t *values = m->values + at * 256 * m->bits;
    if (m->bits == 8) return (int8_t)values[c / 4 * 64 + r * 4 + c % 4];
    int nibble = (values[c / 8 * 64 + r * 4 + c % 4] >> (c % 8 / 4 * 4) & 15) - 8;
    if (!m->factors) return nibble;
    int sub = c / SUB;
    return nibble * (m->factors[(at * 2 + sub / 2) * BLOCK + r] >> (sub % 2 * 4) & 15);
}

static double weight(const Matrix *m, int64_t row, int64_t column) {
    int64_t groups = (m->columns + GROUP - 1) / GROUP;
    double scale = m->row_scales ? m->row_scales[row]
                                 : of_half(m->scales[(row / BLOCK * groups + column / GROUP) * BLOCK + row % BLOCK]);
    return scale * integer(m, row, column);
}

static void check_product(const Matrix *m, int threads) {
    int64_t tokens = within(1, within(0, 3) ? 6 : 70), groups = (m->columns + GROUP - 1) / GROUP;
    float *x = numbers(tokens * m->columns), *out = need(tokens * m->rows * (int64_t)sizeof(float));
    expect(glmtui_multiply(m, x, tokens, out, threads) == 0, "memory", tokens, m->rows, m->columns);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t row = 0; row < m->rows; row++) {
            double sum = m->bias ? m->bias[row] : 0, size = fabs(sum);
            for (int64_t g = 0; g < groups; g++) {
                float largest = 0;
                int64_t end = (g + 1) * GROUP < m->columns ? (g + 1) * GROUP : m->columns;
                for (int64_t c = g * GROUP; c < end; c++) largest = fmaxf(largest, fabsf(x[t * m->columns + c]));
                float inverse = largest > 0 ? 127.0f / largest : 0;
                for (int64_t c = g * GROUP; c < end; c++) {
                    double w = weight(m, row, c) * (largest / 127.0f);
                    sum += w * rintf(x[t * m->columns + c] * inverse);
                    size += fabs(w) * 127;
                }
            }
            near(out[t * m->rows + row], sum, 1e-3 * size + 1e-20, "product", t, row, m->columns);
        }
    free(x);
    free(out);
}

static void matrices(void) {
    int64_t rows = within(1, 70), columns = 2 * within(1, within(0, 3) ? 150 : 2200);
    int64_t blocks = (rows + BLOCK - 1) / BLOCK, groups = (columns + GROUP - 1) / GROUP;
    int bits = within(0, 1) ? 8 : 4, threads = (int)within(1, 3), kind = (int)within(0, 3);
    uint8_t *values = need(blocks * groups * 256 * bits), *factors = NULL;
    uint16_t *scales = NULL;
    float *row_scales = NULL, *bias = within(0, 1) ? numbers(rows) : NULL;
    Matrix m = {values, NULL, NULL, NULL, bias, rows, columns, bits};
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
        expect(!glmtui_quantize(stored, kind, rows, columns, bits, values, scales, factors, threads), "finite", 0, 0, 0);
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
    free(scales);
    free(factors);
    free(row_scales);
    free(bias);
}

static void attention(void) {
    int64_t groups = within(1, 3), heads = groups * within(1, 3), size = 16 * within(1, 8), length = within(1, 90);
    int64_t stride = (length + within(0, 3)) * size;
    int64_t kept = ((groups - 1) * stride + length * size) * 2;
    float *q = numbers(heads * size), *out = need(heads * size * (int64_t)sizeof(float));
    uint16_t *keys = need(kept), *values = need(kept);
    for (int64_t i = 0; i < kept / 2; i++) {
        keys[i] = (uint16_t)(next() & 0xB7FF);
        values[i] = (uint16_t)(next() & 0xBBFF);
    }
    expect(!glmtui_attend(q, keys, values, heads, groups, length, size, stride, out, (int)within(1, 3)), "memory", 0, 0, 0);
    for (int64_t h = 0; h < heads; h++) {
        double scores[90], sum = 0, largest = -INFINITY;
        int64_t at = h / (heads / groups) * stride;
        for (int64_t t = 0; t < length; t++) {
            scores[t] = 0;
            for (int64_t i = 0; i < size; i++) scores[t] += (double)q[h * size + i] * of_half(keys[at + t * size + i]);
            scores[t] /= sqrt((double)size);
            largest = scores[t] > largest ? scores[t] : largest;
        }
        for (int64_t t = 0; t < length; t++) sum += scores[t] = exp(scores[t] - largest);
        for (int64_t i = 0; i < size; i++) {
            double expected = 0;
            for (int64_t t = 0; t < length; t++) expected += scores[t] / sum * of_half(values[at + t * size + i]);
            near(out[h * size + i], expected, 1e-3, "attention", h, i, length);
        }
    }
    free(q);
    free(out);
    free(keys);
    free(values);
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
        attention();
        if (runs % 8 == 0) elementwise();
        if (runs % 8 == 1) bytes();
        runs++;
    } while ((double)(clock() - begin) / CLOCKS_PER_SEC < seconds);
    printf("%s: %lld runs\n", glmtui_isa(), (long long)runs);
    return 0;
}
