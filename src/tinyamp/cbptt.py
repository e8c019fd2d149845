"""The C text of `tinyamp.bptt`: the model of eqs. (1a-f) and (3), forward and backward in time.

In training a vector holds the same unit of eight sequences. Weights come in blocks of eight,
(block, input, 8), of which those that are all zero are left out: a pruned model trains faster. To
play one sequence, a vector holds eight units of it.
"""

from tinyamp.ctext import PRELUDE

LANES = 8  # sequences that are trained side by side, one in each place of a vector

SOURCE = (
    "#include <stddef.h>\n#include <stdint.h>\n#define WIDEST 8\n"
    + PRELUDE
    + """\
#define N 8 /* sequences, and weights in a block */
typedef struct {
    const float *w;   /* (entries, 8) */
    const int *input; /* (entries,): which input the eight weights are for */
    const int *count; /* (blocks,): entries of each block */
} blocks;

/* Numbers too small to count are zero, not denormal and slow. */
#ifdef __SSE2__
#define BEGIN const unsigned mode = _mm_getcsr(); _mm_setcsr(mode | 0x8040);
#define END _mm_setcsr(mode);
#else
#define BEGIN
#define END
#endif

static inline V sigmoid(V a)
{
    return ratio((V){0} + 1.0f, 1.0f + exp2_of(clamp(a * -1.44269504f, 120.0f)));
}

static inline V tanh_of(V x)
{
    V below;
    const V above = tanh_parts(x, &below);
    return ratio(above, below);
}

/* Add to a[k] the sum over all entries of w[k] times its input, for one block. */
static inline void add(V a[N], const blocks *from, int block, const float *values, size_t *at)
{
    for (int e = 0; e < from->count[block]; ++e, ++*at) {
        const V v = AT(values + N * from->input[*at]);
        const float *w = from->w + N * *at;
        for (int k = 0; k < N; ++k)
            a[k] += w[k] * v;
    }
}

/* `units` is even. A block is two units: their input, forget, candidate and output gates.
   `in` and `bias` are (units / 2, 8) in the same order; `gates` (frames, 4, units, 8); `h` and `c`
   (frames + 1, units, 8), their first step given; `x` and `y` (frames, 8). */
void forward(int frames, int units, const float *w, const int *input, const int *count,
             const float *in, const float *bias, const float *head, float head_bias,
             const float *x, float *gates, float *h, float *c, float *y)
{
    const blocks from = {w, input, count};
    const size_t step = (size_t)units * N;
    BEGIN
    for (int n = 0; n < frames; ++n, gates += 4 * step, h += step, c += step) {
        const V xn = AT(x + N * n);
        V out = xn + head_bias;
        size_t at = 0;
        for (int block = 0; block < units / 2; ++block) {
            V a[N];
            for (int k = 0; k < N; ++k)
                a[k] = bias[N * block + k] + in[N * block + k] * xn;
            add(a, &from, block, h, &at);
            for (int k = 0; k < 2; ++k) {
                const int unit = 2 * block + k, place = N * unit;
                const V i = sigmoid(a[k]), f = sigmoid(a[2 + k]);               /* (1a), (1b) */
                const V g = tanh_of(a[4 + k]), o = sigmoid(a[6 + k]);           /* (1c), (1d) */
                const V cell = f * AT(c + place) + i * g;                       /* (1e) */
                const V hidden = o * tanh_of(cell);                             /* (1f) */
                STORE(gates + place, i);
                STORE(gates + step + place, f);
                STORE(gates + 2 * step + place, g);
                STORE(gates + 3 * step + place, o);
                STORE(c + step + place, cell);
                STORE(h + step + place, hidden);
                out += head[unit] * hidden;
            }
        }
        STORE(y + N * n, out);                                                  /* (3) */
    }
    END
}

/* One sequence, of which nothing is kept but its state. A group is eight units: `w` has of each the
   bias, the weights of x and those of every h, (groups, 2 + inputs, 4, 8), for i, f, c~ and o;
   `inputs` is even. `h` is (2, 8 groups), the first given, and the last is h[frames % 2]; `c` and
   `head` are (8 groups), `x` and `y` (frames). */
void play(int frames, int groups, int inputs, const float *w, const float *head, float head_bias,
          const float *x, float *h, float *c, float *y)
{
    const int units = N * groups;
    BEGIN
    for (int n = 0; n < frames; ++n) {
        const float *now = h + n % 2 * units, *from = w;
        float *next = h + (n + 1) % 2 * units;
        V out = {0};
        for (int at = 0; at < units; at += N) {
            V a[4], b[4]; /* two sums of each gate: one would wait for itself */
            for (int k = 0; k < 4; ++k) {
                a[k] = AT(from + N * k) + AT(from + N * (4 + k)) * x[n];
                b[k] = (V){0};
            }
            from += 8 * N;
            for (int j = 0; j < inputs; j += 2, from += 8 * N)
                for (int k = 0; k < 4; ++k) {
                    a[k] += AT(from + N * k) * now[j];
                    b[k] += AT(from + N * (4 + k)) * now[j + 1];
                }
            const V i = sigmoid(a[0] + b[0]), f = sigmoid(a[1] + b[1]);         /* (1a), (1b) */
            const V g = tanh_of(a[2] + b[2]), o = sigmoid(a[3] + b[3]);         /* (1c), (1d) */
            const V cell = f * AT(c + at) + i * g;                              /* (1e) */
            const V hidden = o * tanh_of(cell);                                 /* (1f) */
            STORE(c + at, cell);
            STORE(next + at, hidden);
            out += AT(head + at) * hidden;
        }
        y[n] = total(out) + head_bias + x[n];                                   /* (3) */
    }
    END
}

/* From the gradient of y, `dy` (frames, 8), that of what goes into the gates: it takes the place of
   `gates`. Here a block is the weights of eight units in all the rows (4 units,) of the gates.
   `head` and `dc` (8, zero at first) are padded to whole blocks. */
void backward(int frames, int units, const float *w, const int *input, const int *count,
              const float *head, const float *dy, float *gates, const float *c, float *dc)
{
    const blocks from = {w, input, count};
    const size_t step = (size_t)units * N;
    BEGIN
    for (int n = frames - 1; n >= 0; --n) {
        float *now = gates + 4 * step * n;
        const float *before = c + step * n, *after = before + step;
        size_t at = 0;
        for (int block = 0; N * block < units; ++block) {
            V dh[N];
            for (int k = 0; k < N; ++k)
                dh[k] = head[N * block + k] * AT(dy + N * n);
            if (n < frames - 1)
                add(dh, &from, block, now + 4 * step, &at);
            for (int k = 0; k < N && N * block + k < units; ++k) {
                const int place = N * (N * block + k);
                float *pi = now + place, *pf = pi + step, *pg = pf + step, *po = pg + step;
                const V i = AT(pi), f = AT(pf), g = AT(pg), o = AT(po);
                const V t = tanh_of(AT(after + place));
                const V d = AT(dc + place) + dh[k] * o * (1.0f - t * t);
                STORE(pi, d * g * i * (1.0f - i));
                STORE(pf, d * AT(before + place) * f * (1.0f - f));
                STORE(pg, d * i * (1.0f - g * g));
                STORE(po, dh[k] * t * o * (1.0f - o));
                STORE(dc + place, d * f);
            }
        }
    }
    END
}

/* The gradients of the weights, from that of what goes into the gates, `d` (frames, 4 units, 8):
   adds to `to_hidden` (4 units, units), `to_input` and `to_bias` (4 units,), `to_head` (units,).
   Time goes in tiles that stay in a second-level cache, and a tile in 4 rows by 3 units. */
#define TILE 16
#define ROWS 4
#define UNITS 3
void gradients(int frames, int units, const float *d, const float *h, const float *x,
               const float *dy, float *to_hidden, float *to_input, float *to_bias, float *to_head)
{
    const int rows = 4 * units;
    BEGIN
    for (int start = 0; start < frames; start += TILE) {
        const int end = start + TILE < frames ? start + TILE : frames;
        for (int row = 0; row < rows; row += ROWS) {
            V to_x[ROWS] = {0}, to_one[ROWS] = {0};
            for (int n = start; n < end; ++n)
                for (int r = 0; r < ROWS; ++r) {
                    const V dr = AT(d + N * ((size_t)n * rows + row + r));
                    to_x[r] += dr * AT(x + N * n);
                    to_one[r] += dr;
                }
            for (int r = 0; r < ROWS; ++r) {
                to_input[row + r] += total(to_x[r]);
                to_bias[row + r] += total(to_one[r]);
            }
            for (int unit = 0; unit < units; unit += UNITS) {
                V sum[ROWS][UNITS] = {{{0}}};
                for (int n = start; n < end; ++n) {
                    const float *dn = d + N * ((size_t)n * rows + row);
                    const float *hn = h + N * ((size_t)n * units + unit);
                    for (int r = 0; r < ROWS; ++r)
                        for (int k = 0; k < UNITS; ++k)
                            sum[r][k] += AT(dn + N * r) * AT(hn + N * k);
                }
                for (int r = 0; r < ROWS; ++r)
                    for (int k = 0; k < UNITS && unit + k < units; ++k)
                        to_hidden[(row + r) * units + unit + k] += total(sum[r][k]);
            }
        }
        for (int unit = 0; unit < units; ++unit) {
            V sum = {0};
            for (int n = start; n < end; ++n)
                sum += AT(dy + N * n) * AT(h + N * ((size_t)(n + 1) * units + unit));
            to_head[unit] += total(sum);
        }
    }
    END
}
"""
)
