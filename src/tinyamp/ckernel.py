"""One step of the LSTM as C text: a function for each vector width, and one in plain C.

The rows of W_hh are taken in *tiles* of 16 units, 64 rows: i of the 16, then f, c~ and o. A tile
is stored column by column, so that for each h_j its 64 weights lie in the order of use. What
remains of the units (fewer than 16) has its rows packed in the same way, without gaps between
the gates: 20 units cost 5 vectors of 16, not 8. The order of the weights is the same for every
width.
"""

from __future__ import annotations

from collections.abc import Sequence

TILE = 16  # units
ROWS = 4 * TILE
ACCUMULATORS = {4: 12, 8: 12, 16: 24}  # vectors that one pass over the columns keeps in registers
MOST = {4: 13, 8: 14, 16: 28}  # the same, for a last pass that spares another one
# how 1, 2, 3 or 4 partial sums of an accumulator are added up, as a tree
MERGES = {
    1: (),
    2: (("", "_1"),),
    3: (("", "_1"), ("", "_2")),
    4: (("", "_1"), ("_2", "_3"), ("", "_2")),
}
L1_UNITS = 40  # above this, W_hh exceeds a first-level cache, and columns are walked to and fro


def left_over_rows(hidden_size: int) -> int:
    """Rows of the left-over units, rounded up to whole cache lines."""
    return -(-4 * (hidden_size % TILE) // 16) * 16


def powers(rows: Sequence[str], free: Sequence[bool]) -> list[str]:
    """2^row in C for each of `rows`, clamped first unless it is `free`."""
    return [
        f"exp2_of({row if fits else f'clamp({row}, 30.0f)'})"
        for row, fits in zip(rows, free, strict=True)
    ]


def step_function(hidden_size: int, width: int, free: Sequence[bool]) -> str:
    """The C function `step` for vectors of `width` floats: registers hold a tile's gate rows.

    `free` says of each gate whether its rows can do without being clamped.

    Weights that exceed a first-level cache are walked to and fro: what was used last is still
    there when the next sample begins with it. That holds for the passes, and for the columns in
    each, which go against the passes: those of the units that were computed last come last, so
    that nobody waits for them.
    """
    tiles, left = divmod(hidden_size, TILE)
    parts = [(0, 1), (2, 3)] if width == 4 else [tuple(range(TILE // width))]
    rows_of_tile = 4 * len(parts[0])  # vectors
    # Beyond the first-level cache, one tile a pass: memory brings the next tile's weights while the
    # gates of the last one are worked out.
    alternate = hidden_size > L1_UNITS
    alone = alternate or len(parts) > 1
    group = 1 if alone else max(1, ACCUMULATORS[width] // rows_of_tile)
    whole, rest = divmod(tiles, group)
    left_vectors = -(-4 * left // width)
    fits = len(parts) == 1 and left_vectors + rows_of_tile * (rest or group) <= MOST[width]
    if left and fits and not rest and whole:  # the last tiles and what is left in one pass
        whole, rest = whole - 1, group
    arguments = "const float *h, float *h_new, float *c, float x, int odd"
    out = []
    if whole:
        out += [f"static inline V tile_pass(int t, {arguments})", "{", "    V sum = {0};"]
        for part in parts:
            chosen = [(i, part) for i in range(group)]
            out += _pass(hidden_size, width, free, chosen, "t", 0)
        out += ["    (void)odd;", "    return sum;", "}"]
    if rest or left:
        base = str(whole * group)
        out += [f"static inline V last_pass({arguments})", "{", "    V sum = {0};"]
        for part in parts if rest else []:
            chosen = [(i, part) for i in range(rest)]
            out += _pass(hidden_size, width, free, chosen, base, left if fits else 0)
        if left and not (rest and fits):
            out += _pass(hidden_size, width, free, [], base, left)
        out += ["    (void)odd;", "    return sum;", "}"]
    out += [f"static float step({arguments})", "{", "    V sum = {0};"]
    loop = f"    for (int k = 0; k < {whole}; ++k)"
    last = "sum += last_pass(h, h_new, c, x, odd);"
    to = f"        sum += tile_pass(k * {group}, h, h_new, c, x, odd);"
    if alternate:
        fro = f"sum += tile_pass(({whole - 1} - k) * {group}, h, h_new, c, x, odd);"
        out.append("    if (odd) {")
        out += [f"        {last}"] if rest or left else []
        out += [f"    {loop}", f"            {fro}"] if whole else []
        out += ["        return total(sum) + head_bias;", "    }"]
    out += [loop, to] if whole else []
    out += [f"    {last}"] if rest or left else []
    return "\n".join([*out, "    return total(sum) + head_bias;", "}"])


def _pass(
    hidden_size: int,
    width: int,
    free: Sequence[bool],
    tiles: list[tuple[int, tuple[int, ...]]],
    base: str,
    left: int,
) -> list[str]:
    """One pass over the columns: the given parts of tiles, and the left-over units if `left`."""
    # each: name, pointer, row offset; the columns of tiles and of the left-over differ in stride
    accumulators = []
    for i, part in tiles:
        for gate in range(4):
            for s in part:
                offset = i * (hidden_size + 2) * ROWS + gate * TILE + s * width
                accumulators.append((f"{'ifgo'[gate]}{i}_{s}", "w", offset))
    left_vectors = -(-4 * left // width)
    accumulators += [(f"m{v}", "l", v * width) for v in range(left_vectors)]
    strides = {"w": ROWS, "l": left_over_rows(hidden_size)}
    pointers = (["w"] if tiles else []) + (["l"] if left else [])
    count = len(accumulators)
    alternate = hidden_size > L1_UNITS
    sums = 4 if count <= 4 else 2 if count <= 6 else 1  # hide the latency of the additions
    sums = 1 if alternate else min(sums, hidden_size)
    pad = "    "
    out = [pad + "{"]
    if tiles:
        out.append(f"{pad}    const float *w = tiles + {base} * {(hidden_size + 2) * ROWS};")
    if left:
        out.append(f"{pad}    const float *l = left_over;")
    for name, p, offset in accumulators:
        stride = strides[p]
        out.append(f"{pad}    V {name} = AT({p} + {offset}) + AT({p} + {offset + stride}) * x;")
    for p in pointers:
        out.append(f"{pad}    {p} += {2 * strides[p]};")

    def column(j: str, s: int, indent: str) -> list[str]:
        lines = [f"{indent}const float h_{s} = h[{j}];"]
        for name, p, offset in accumulators:
            suffix = f"_{s}" if s else ""
            at = f"{p} + ({j}) * {strides[p]} + {offset}"
            lines.append(f"{indent}{name}{suffix} += AT({at}) * h_{s};")
        return lines

    for s in range(1, sums):
        out.append(f"{pad}    V " + ", ".join(f"{n}_{s} = {{0}}" for n, _, _ in accumulators) + ";")
    unroll = max(1, min(4 if alternate else 8, 32 // (count * sums)))
    out.append(f"{pad}    UNROLL({unroll})")
    whole = hidden_size // sums * sums
    if alternate:
        out.append(f"{pad}    for (int k = 0; k < {hidden_size}; ++k) {{")
        out.append(f"{pad}        const int j = odd ? k : {hidden_size - 1} - k;")
    else:
        out.append(f"{pad}    for (int j = 0; j < {whole}; j += {sums}) {{")
    for s in range(sums):
        out += column(f"j + {s}" if s else "j", s, pad + "        ")
    out.append(f"{pad}    }}")
    if not alternate:
        for s in range(hidden_size - whole):
            out += [f"{pad}    {{", *column(str(whole + s), s, pad + "        "), f"{pad}    }}"]
        for to, source in MERGES[sums]:
            out += [f"{pad}    {n}{to} += {n}{source};" for n, _, _ in accumulators]
    for i, part in tiles:
        for s in part:
            gates = ", ".join(powers([f"{gate}{i}_{s}" for gate in "ifgo"], free))
            unit = f"({base} + {i}) * {TILE} + {s * width}"
            out.append(f"{pad}    sum += unit({gates}, c, h_new, {unit});")
    if left:
        rows = [f"m{v}" for v in range(left_vectors)]  # of all gates, one after the other
        of_rows = powers(rows, [all(free)] * left_vectors)
        out += [f"{pad}    {row} = {power};" for row, power in zip(rows, of_rows, strict=True)]
        first_unit = hidden_size - left
        for u in range(0, left, width):
            gates = ", ".join(_lanes(left, width, g * left + u, left - u) for g in range(4))
            out.append(f"{pad}    sum += unit({gates}, c, h_new, {first_unit + u});")
    return [*out, pad + "}"]


def _lanes(left: int, width: int, start: int, units: int) -> str:
    """One gate of up to `width` left-over units, out of the packed vectors m0, m1, …"""
    vector = start // width
    lanes = [start % width + min(lane, units - 1) for lane in range(width)]
    if lanes == list(range(width)):
        return f"m{vector}"
    other = vector + (max(lanes) >= width)
    return f"SHUFFLE(m{vector}, m{other}, {', '.join(map(str, lanes))})"


def scalar_function(hidden_size: int, free: Sequence[bool]) -> str:
    """The C function `step` without vectors."""
    tiles, left = divmod(hidden_size, TILE)
    out = [
        "static float step(const float *h, float *h_new, float *c, float x, int odd)",
        "{",
        f"    float z[{ROWS}], sum = 0;",
        "    (void)odd;",
    ]
    parts = []
    if tiles:
        out.append(f"    for (int t = 0; t < {tiles}; ++t) {{")
        out.append(f"        const float *w = tiles + t * {(hidden_size + 2) * ROWS};")
        parts.append((ROWS, TILE, f"t * {TILE}"))
    if left:
        parts.append((left_over_rows(hidden_size), left, str(hidden_size - left)))
    for stride, units, first in parts:
        if units == left:
            out += ["    {", "        const float *w = left_over;"]
        gates = ", ".join(powers([f"z[{gate * units} + u]" for gate in range(4)], free))
        out += [
            f"        for (int r = 0; r < {4 * units}; ++r)",
            f"            z[r] = w[r] + w[{stride} + r] * x;",
            f"        for (int j = 0; j < {hidden_size}; ++j)",
            f"            for (int r = 0; r < {4 * units}; ++r)",
            f"                z[r] += w[(j + 2) * {stride} + r] * h[j];",
            f"        for (int u = 0; u < {units}; ++u)",
            f"            sum += unit({gates}, c, h_new,",
            f"                        {first} + u);",
            "    }",
        ]
    return "\n".join([*out, "    return sum + head_bias;", "}"])
