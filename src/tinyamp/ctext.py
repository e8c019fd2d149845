"""What is the same in the C file of every model: its header, the functions of a step, its end.

`HEAD` and `TAIL` are to be formatted with the prefix `p` and sizes; `PRELUDE` and `UNIT` are taken
as they are.
"""

HEAD = """\
/* A guitar amp: an LSTM of {H} hidden units, for audio at {rate} Hz. Made by tinyamp.

   The header, should you want one, is what is between here and "end of header".
   To use: {p}_init, then {p}_process for every block, of any length; out may be in.
   Nothing is allocated, and no call or branch depends on the audio. A state holds one channel;
   it may be anywhere, best at an address that is a multiple of 64. The LSTM hears an input beyond
   +-{loudest:g}, where 1 is full scale, as +-{loudest:g}.

   Compile as C11 with -O3 -ffp-contract=fast -march=native (or your target), never with
   -ffast-math. -DTINYAMP_WIDTH=4, 8 or 16 chooses the floats in a vector: SSE, NEON and
   WebAssembly have 4, AVX 8, AVX-512 16. -DTINYAMP_SCALAR takes plain C, for any compiler. */
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif
typedef struct {{
    float h[2][{padded}]; /* the hidden state, of the last sample and of the one before */
    float c[{padded}];    /* the cell state */
    uint32_t count;  /* samples so far; its last bit says which h is the last */
}} {p}_state;
void {p}_init({p}_state *state);  /* all zero */
void {p}_reset({p}_state *state); /* the same */
void {p}_process({p}_state *state, const float *in, float *out, size_t frames);
size_t {p}_state_size(void);
int {p}_width(void); /* floats in a vector, or 1 */
#ifdef __cplusplus
}}
#endif
/* end of header */
"""

PRELUDE = """\
#if !defined(__GNUC__) && !defined(TINYAMP_SCALAR)
#define TINYAMP_SCALAR
#endif
#ifdef TINYAMP_SCALAR
#undef TINYAMP_WIDTH
#define TINYAMP_WIDTH 1
typedef float V;
typedef uint32_t I;
static inline I bits(V v) { union { V v; I i; } u; u.v = v; return u.i; }
static inline V from_bits(I i) { union { V v; I i; } u; u.i = i; return u.v; }
#define LOAD(p) (*(p))
#define STORE(p, v) (*(p) = (v))
#define AT(p) (*(p))
static inline V clamp(V t, float limit)
{
    t = t > -limit ? t : -limit; /* in this order, NaN becomes -limit */
    return t < limit ? t : limit;
}
static inline V ratio(V a, V d) { return a / d; }
static inline float total(V s) { return s; }
#else
#ifndef TINYAMP_WIDTH
#if defined(__AVX512F__) && WIDEST == 16
#define TINYAMP_WIDTH 16
#elif defined(__AVX__)
#define TINYAMP_WIDTH 8
#else
#define TINYAMP_WIDTH 4
#endif
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif
typedef float V __attribute__((vector_size(4 * TINYAMP_WIDTH), may_alias));
typedef uint32_t I __attribute__((vector_size(4 * TINYAMP_WIDTH)));
typedef int32_t M __attribute__((vector_size(4 * TINYAMP_WIDTH)));
typedef float U __attribute__((vector_size(4 * TINYAMP_WIDTH), aligned(4), may_alias));
#define bits(v) ((I)(v))
#define from_bits(i) ((V)(i))
#define LOAD(p) ((V) * (const U *)(p))
#define STORE(p, v) (*(U *)(p) = (v))
#define AT(p) (*(const V *)(p)) /* a weight: aligned */
#define TEXT(x) #x
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define UNROLL(n) _Pragma(TEXT(clang loop unroll_count(n)))
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (M){__VA_ARGS__})
#define UNROLL(n) _Pragma(TEXT(GCC unroll n))
#endif

/* min and max in this order turn NaN into -limit. Only AVX-512 estimates 1/d so well, to 2^-14,
   that one Newton step makes an exact ratio of it: q = ar, q + q(1 - dr). It is never infinite or
   zero, which would make NaN of it, as d is from 1 to 2^121. Elsewhere dividing is as fast. */
#if TINYAMP_WIDTH == 16 && defined(__AVX512F__)
static inline V clamp(V t, float limit)
{
    return (V)_mm512_min_ps(_mm512_max_ps((__m512)t, _mm512_set1_ps(-limit)),
                            _mm512_set1_ps(limit));
}
static inline V ratio(V a, V d)
{
    const V r = (V)_mm512_rcp14_ps((__m512)d), q = a * r;
    return q * (1.0f - d * r) + q;
}
#define RATIO
#elif TINYAMP_WIDTH == 8 && defined(__AVX__)
static inline V clamp(V t, float limit)
{
    return (V)_mm256_min_ps(_mm256_max_ps((__m256)t, _mm256_set1_ps(-limit)),
                            _mm256_set1_ps(limit));
}
#elif TINYAMP_WIDTH == 4 && defined(__SSE2__)
static inline V clamp(V t, float limit)
{
    return (V)_mm_min_ps(_mm_max_ps((__m128)t, _mm_set1_ps(-limit)), _mm_set1_ps(limit));
}
#else
static inline V clamp(V t, float limit)
{
    const V low = (V){0} - limit, high = (V){0} + limit;
    M m = t > low;
    t = (V)(((M)t & m) | ((M)low & ~m));
    m = t < high;
    return (V)(((M)t & m) | ((M)high & ~m));
}
#endif
#ifndef RATIO
static inline V ratio(V a, V d) { return a / d; }
#endif
static inline float total(V s)
{
#if TINYAMP_WIDTH == 16
    s += SHUFFLE(s, s, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    s += SHUFFLE(s, s, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    return (s[0] + s[1]) + (s[2] + s[3]);
#elif TINYAMP_WIDTH == 8
    s += SHUFFLE(s, s, 4, 5, 6, 7, 0, 1, 2, 3);
    return (s[0] + s[1]) + (s[2] + s[3]);
#else
    return (s[0] + s[1]) + (s[2] + s[3]);
#endif
}
#endif

/* 2^f for f in [-1/2, 1/2], by a polynomial that is 1 at 0 and within 1e-7 elsewhere; then times
   2^n through the exponent's bits. Adding 1.5 * 2^23 rounds to an integer and leaves it in the low
   bits of m. 2^-60, too little to change the result, keeps a square from being denormal. */
static inline V exp2_of(V t)
{
    const V m = t + 12582912.0f, f = t - (m - 12582912.0f), f2 = f * f + 0x1p-60f;
    const V low = 0.693147004f * f + 1.0f;
    const V middle = 0.0555073358f * f + 0.240222424f;
    const V high = 0.00132647273f * f + 0.00967151299f;
    const V p = f2 * (f2 * high + middle) + low;
    return from_bits(bits(p) + (bits(m) << 23));
}

/* tanh is a ratio of two polynomials, within 3e-8 up to 9.02, where it is 1: returns the upper one.
   2^-40, inaudible, keeps the powers of a small number from being denormal. */
static inline V tanh_parts(V x, V *below)
{
    const V t = clamp(x, 9.02f), t2 = t * t + 0x1p-40f, t4 = t2 * t2;
    *below = t4 * (7.76197735e-7f * t4 + (0.000328308525f * t2 + 0.0258710552f))
             + (0.467130303f * t2 + 1.0f);
    return t * (t4 * (1.33189713e-8f * t4 + (2.0583406e-5f * t2 + 0.00349402986f))
                + (0.133797139f * t2 + 1.0f));
}
"""

UNIT = """\
/* Eqs. (1a-f) for one vector of units from `at` on, given E = 2^(row) of each gate; i c~ and
   o tanh(c) take one division each. 2^-60 keeps cells from fading into denormal numbers, which are
   slow. Returns what the units add to the output. */
static inline V unit(V ei, V ef, V eg, V eo, float *c, float *h, int at)
{
    const V cell = ratio(LOAD(c + at) + 0x1p-60f, 1.0f + ef)              /* (1e): f c */
                   + ratio(1.0f - eg, (1.0f + ei) * (1.0f + eg));         /*     + i c~ */
    V q;
    const V p = tanh_parts(cell, &q);
    const V out = ratio(p + 0x1p-60f, (1.0f + eo) * q);                   /* (1f) */
    STORE(c + at, cell);
    STORE(h + at, out);
    return AT(head + at) * out;
}
"""

TAIL = """\
void {p}_reset({p}_state *state)
{{
    for (int k = 0; k < {padded}; ++k)
        state->h[0][k] = state->h[1][k] = state->c[k] = 0;
    state->count = 0;
}}

void {p}_init({p}_state *state) {{ {p}_reset(state); }}

size_t {p}_state_size(void) {{ return sizeof({p}_state); }}

int {p}_width(void) {{ return TINYAMP_WIDTH; }}

void {p}_process({p}_state *state, const float *in, float *out, size_t frames)
{{
    for (size_t n = 0; n < frames; ++n) {{
        const int odd = state->count & 1;
        const float in_n = in[n]; /* out may be in */
        float x = in_n > -LOUDEST ? in_n : -LOUDEST; /* in this order, NaN becomes -LOUDEST */
        x = x < LOUDEST ? x : LOUDEST;
        x = (x + 0x1p-70f) - 0x1p-70f; /* no denormal numbers from outside */
        out[n] = step(state->h[odd], state->h[1 - odd], state->c, x, odd) + in_n; /* (3) */
        state->count++;
    }}
}}
"""
