"""A sparse W_hh as C: blocks of 8 rows in which a column is all zero are left out (IV-C, Fig. 8).

A block is 8 rows of one gate, those of 8 units, in one column. Which units share a block is free:
the order of the hidden units means nothing. So units whose rows have their weights in the same
columns are put together, and more blocks are empty. Every block that is left costs more than one
of a dense matrix, whose columns need not be looked up; `plan` weighs the one against the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyamp.ckernel import powers
from tinyamp.files import InputError

BLOCK = 8
LAYOUTS = ("auto", "dense", "sparse")
SWEEPS = 4  # rounds of swapping units; later ones hardly find anything

# Cycles for a block, measured with AVX2 on an EPYC (Zen 3), where either layout was the faster one
# as these say, for 24 to 96 units and 2 to 30 % density: dense out of the first-level cache, dense
# from beyond it, sparse.
DENSE, DENSE_BEYOND_L1, SPARSE = 0.8, 0.9, 1.5
L1_BYTES = 28_000  # of a first-level cache of 32 KiB, for W_hh


@dataclass(frozen=True)
class Plan:
    """How a model's W_hh is stored: "dense" or "sparse", the order of the units, and why."""

    layout: str
    order: np.ndarray  # (hidden,): which unit comes at each place
    reason: str
    speedup: float  # sparse over dense, of the product with W_hh alone, as the cost model says


def plan(weight_hh: np.ndarray, layout: str = "auto") -> Plan:
    """Choose the layout of `weight_hh` (4 · hidden, hidden), or take the one that is demanded.

    Raises `InputError` for a layout that is none of `LAYOUTS`.
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout must be {', '.join(LAYOUTS[:-1])} or sparse, but is {layout!r}.")
    hidden_size = weight_hh.shape[1]
    used = (weight_hh != 0).reshape(4, hidden_size, hidden_size)  # (gate, unit, column)
    density = float(used.mean())
    as_it_is = np.arange(hidden_size)
    if layout == "dense":
        return Plan("dense", as_it_is, "dense was asked for.", 1.0)
    if layout == "auto" and density > 0.5:  # no order of the units makes that sparse
        return Plan("dense", as_it_is, f"{density:.0%} of W_hh is there; that is dense.", 1.0)
    order = cluster(used)
    blocks = count_blocks(used[:, order]).sum()
    every = -(-hidden_size // BLOCK) * 4 * hidden_size
    dense = DENSE if 16 * hidden_size**2 <= L1_BYTES else DENSE_BEYOND_L1
    speedup = float(dense * every / (SPARSE * max(blocks, 1)))
    facts = (
        f"{density:.1%} of W_hh is left, in {blocks / every:.0%} of its blocks of {BLOCK}: "
        f"by the cost model, its product is {speedup:.2f} times as fast without the others"
    )
    if layout == "sparse" or speedup > 1:
        return Plan("sparse", order, facts + ".", speedup)
    return Plan("dense", as_it_is, facts + ", so all are kept.", speedup)


def count_blocks(used: np.ndarray) -> np.ndarray:
    """Blocks that are not empty, for each gate of each 8 units: (gate, ⌈hidden / 8⌉)."""
    gates, hidden_size, columns = used.shape
    padded = np.zeros((gates, -(-hidden_size // BLOCK) * BLOCK, columns), bool)
    padded[:, :hidden_size] = used
    return padded.reshape(gates, -1, BLOCK, columns).any(2).sum(-1)


def cluster(used: np.ndarray) -> np.ndarray:
    """An order of the units with few blocks, from `used` (gate, unit, column): what is not zero.

    Groups of 8 grow by the unit that adds the fewest blocks; then units are swapped between groups
    while that empties blocks. Deterministic.
    """
    rows = used.transpose(1, 0, 2).reshape(used.shape[1], -1)  # (unit, gate · column)
    rest = list(np.argsort(-rows.sum(1), kind="stable"))  # the fullest first
    groups: list[list[int]] = []
    while rest:
        group = [rest.pop(0)]
        union = rows[group[0]].copy()
        while rest and len(group) < BLOCK:
            added = (rows[rest] & ~union).sum(1)
            shared = (rows[rest] & union).sum(1)
            best = int(np.lexsort((-shared, added))[0])
            union |= rows[rest[best]]
            group.append(rest.pop(best))
        groups.append(group)
    counts = np.array([rows[group].sum(0) for group in groups])  # (group, gate · column)
    for _ in range(SWEEPS):
        if not sum(_swap(rows, groups, counts, a) for a in range(len(groups))):
            break
    return np.array([unit for group in groups for unit in group])


def _swap(rows: np.ndarray, groups: list[list[int]], counts: np.ndarray, a: int) -> int:
    """Swap units of group `a` with later groups' wherever blocks become empty; how often it did."""
    swaps = 0
    for b in range(a + 1, len(groups)):
        for i in range(len(groups[a])):
            u = groups[a][i]
            theirs = rows[groups[b]].astype(int)  # (unit of b, gate · column)
            mine = rows[u].astype(int)
            before = np.count_nonzero(counts[a]) + np.count_nonzero(counts[b])
            new_a = counts[a] - mine + theirs
            new_b = counts[b] + mine - theirs
            after = np.count_nonzero(new_a, axis=1) + np.count_nonzero(new_b, axis=1)
            j = int(after.argmin())
            if after[j] < before:
                groups[a][i], groups[b][j] = groups[b][j], u
                counts[a], counts[b] = new_a[j], new_b[j]
                swaps += 1
    return swaps


def kept_blocks(weight_hh: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The blocks of `weight_hh` (4, hidden, hidden) that are not empty, in the order of use.

    Returns their weights (blocks, 8), and for each the row block (8 units at a time, and of these
    gate by gate) and the column. The four gates of 8 units take turns: what one adds need not wait
    for the sum before it.
    """
    _, hidden_size, _ = weight_hh.shape
    weights, places = [], []
    for group in range(-(-hidden_size // BLOCK)):
        rows = np.zeros((4, BLOCK, hidden_size))
        there = weight_hh[:, group * BLOCK : (group + 1) * BLOCK]
        rows[:, : there.shape[1]] = there
        columns = [np.flatnonzero(rows[gate].any(0)) for gate in range(4)]
        for turn in range(max(map(len, columns))):
            for gate in range(4):
                if turn < len(columns[gate]):
                    column = int(columns[gate][turn])
                    weights.append(rows[gate, :, column])
                    places.append((4 * group + gate, column))
    return np.array(weights).reshape(-1, BLOCK), places


def sparse_function(hidden_size: int, places: list[tuple[int, int]], free: list[bool]) -> str:
    """The C function `step` over the blocks that are there, for every width; see `kept_blocks`.

    As soon as the rows of 8 units are added up, or of as many as a vector has, their gates and
    states are computed: the processor does that while it adds up the rows of the next.
    """
    gates = powers([f"LOAD(z + {16 * gate} + u)" for gate in range(4)], free)
    out = [
        f"/* Blocks of {BLOCK} rows, {BLOCK} units of one gate; the empty ones are left out.",
        "   ROW begins a sum, ADD(sum, k, j) adds block k, which belongs to h_j. */",
        "#if TINYAMP_WIDTH == 1",
        "#define LANES 1",
        "typedef float B;",
        "#else",
        "#define LANES (TINYAMP_WIDTH < 8 ? 4 : 8)",
        "typedef float B __attribute__((vector_size(4 * LANES), may_alias));",
        "#endif",
        f"#define EACH for (int p = 0; p < {BLOCK} / LANES; ++p)",
        f"#define FROM(array, k) (*(const B *)(array + {BLOCK} * (k) + LANES * p))",
        f"#define ROW(sum, r) B sum[{BLOCK} / LANES]; \\",
        "    EACH sum[p] = FROM(bias, r) + FROM(input, r) * x;",
        "#define ADD(sum, k, j) EACH sum[p] += FROM(blocks, k) * h[j];",
        "#define PUT(sum, at) EACH *(B *)(z + (at) + LANES * p) = sum[p];",
        "static float step(const float *h, float *h_new, float *c, float x, int odd)",
        "{",
        "    _Alignas(64) float z[64] = {0};",
        "    V sum = {0};",
        "    (void)odd;",
    ]
    groups = -(-hidden_size // BLOCK)
    k = 0
    for group in range(groups):
        names = [f"{gate}{group}" for gate in "ifgo"]
        out += [f"    ROW({name}, {4 * group + gate})" for gate, name in enumerate(names)]
        while k < len(places) and places[k][0] // 4 == group:
            row, column = places[k]
            out.append(f"    ADD({names[row % 4]}, {k}, {column})")
            k += 1
        half = group % 2 * BLOCK
        out += [f"    PUT({name}, {16 * gate + half})" for gate, name in enumerate(names)]
        paired = half == 0 and group + 1 < groups  # a vector of 16 waits for the second 8
        out += ["#if TINYAMP_WIDTH < 16"] if paired else []
        out += [
            f"    for (int u = TINYAMP_WIDTH < 16 ? {half} : 0; u < {half + BLOCK};"
            " u += TINYAMP_WIDTH)",
            f"        sum += unit({gates[0]}, {gates[1]},",
            f"                    {gates[2]}, {gates[3]},",
            f"                    c, h_new, {group // 2 * 16} + u);",
        ]
        out += ["#endif"] if paired else []
    return "\n".join([*out, "    return total(sum) + head_bias;", "}"])
