"""One step of the LSTM as C text: a function for each vector width, and one in plain C.

The rows of W_hh are taken in *tiles* of 16 units, 64 rows: i of the 16, then f, c~ and o. A tile
is stored column by column, so that for each h_j its 64 weights lie in the order of use. What
remains of the units (fewer than 16) has its rows packed in the same way, without gaps between
the gates: 20 units cost 5 vectors of 16, not 8. The order of the weights is the same for every
width.
"""

from __future__ import annotations

TILE = 16  # units
ROWS = 4 * TILE
ACCUMULATORS = {4: 12, 8: 12, 16: 24}  # vectors that one pass over the columns keeps in registers
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


def step_function(hidden_size: int, width: int) -> str:
    """The C function `step` for vectors of `width` floats: registers hold a tile's gate rows."""
    tiles, left = divmod(hidden_size, TILE)
    parts = [tuple(range(TILE // width))]  # which vectors of a gate one pass takes
    if width == 4:
        parts = [(0, 1), (2, 3)]
    limit = ACCUMULATORS[width]
    group = max(1, limit // (4 * len(parts[0]))) if len(parts) == 1 else 1
    whole, rest = divmod(tiles, group)
    if whole == 1 and rest == 0:
        whole, rest = 0, group
    left_vectors = -(-4 * left // width)
    out = [
        "static float step(const float *h, float *h_new, float *c, float x, int odd)",
        "{",
        "    V sum = {0};",
    ]
    out += ["    (void)odd;"] if hidden_size <= L1_UNITS else []
    if whole:
        out.append(f"    for (int k = 0; k < {whole}; ++k) {{")
        order = f"odd ? {whole - 1} - k : k" if hidden_size > L1_UNITS else "k"
        out.append(f"        const int t = ({order}) * {group};")
        for part in parts:
            out += _pass(hidden_size, width, [(i, part) for i in range(group)], "t", 0, 2)
        out.append("    }")
    base = str(whole * group)
    rest_vectors = 4 * len(parts[0]) * rest
    if rest and left and len(parts) == 1 and rest_vectors + left_vectors <= limit + 4:
        out += _pass(hidden_size, width, [(i, parts[0]) for i in range(rest)], base, left, 1)
    else:
        for part in parts if rest else []:
            out += _pass(hidden_size, width, [(i, part) for i in range(rest)], base, 0, 1)
        if left:
            out += _pass(hidden_size, width, [], base, left, 1)
    out += ["    return total(sum) + head_bias + x; /* (3) */", "}"]
    return "\n".join(out)


def _pass(
    hidden_size: int,
    width: int,
    tiles: list[tuple[int, tuple[int, ...]]],
    base: str,
    left: int,
    depth: int,
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
    sums = 4 if count <= 2 else 2 if count <= 6 else 1  # hide the latency of the additions
    sums = min(sums, hidden_size)
    alternate = hidden_size > L1_UNITS
    pad = "    " * depth
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
    unroll = max(1, min(8, 32 // (count * sums)))
    out.append(f"{pad}    UNROLL({unroll})")
    whole = hidden_size // sums * sums
    if alternate:
        out.append(f"{pad}    for (int k = 0; k < {hidden_size}; ++k) {{")
        out.append(f"{pad}        const int j = odd ? {hidden_size - 1} - k : k;")
    else:
        out.append(f"{pad}    for (int j = 0; j < {whole}; j += {sums}) {{")
    for s in range(1 if alternate else sums):
        out += column(f"j + {s}" if s else "j", s, pad + "        ")
    out.append(f"{pad}    }}")
    if not alternate:
        for s in range(hidden_size - whole):
            out += [f"{pad}    {{", *column(str(whole + s), s, pad + "        "), f"{pad}    }}"]
        for to, source in MERGES[sums]:
            out += [f"{pad}    {n}{to} += {n}{source};" for n, _, _ in accumulators]
    for i, part in tiles:
        for s in part:
            gates = ", ".join(f"exp2_of({g}{i}_{s})" for g in "ifgo")
            unit = f"({base} + {i}) * {TILE} + {s * width}"
            out.append(f"{pad}    sum += unit({gates}, c, h_new, {unit});")
    if left:
        out += [f"{pad}    m{v} = exp2_of(m{v});" for v in range(left_vectors)]
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


def scalar_function(hidden_size: int) -> str:
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
        out += [
            f"        for (int r = 0; r < {4 * units}; ++r)",
            f"            z[r] = w[r] + w[{stride} + r] * x;",
            f"        for (int j = 0; j < {hidden_size}; ++j)",
            f"            for (int r = 0; r < {4 * units}; ++r)",
            f"                z[r] += w[(j + 2) * {stride} + r] * h[j];",
            f"        for (int u = 0; u < {units}; ++u)",
            f"            sum += unit(exp2_of(z[u]), exp2_of(z[{units} + u]), "
            f"exp2_of(z[{2 * units} + u]),",
            f"                        exp2_of(z[{3 * units} + u]), c, h_new, {first} + u);",
            "    }",
        ]
    return "\n".join([*out, "    return sum + head_bias + x; /* (3) */", "}"])
