"""A model as the text of one C11 file, eqs. (1a-f) and (3), with the weights in it.

The gates share one function. With the weights of i, f and o multiplied by −log2 e and those of
c~ by −2 log2 e beforehand, and E = 2^(row of the gate),

    σ(a) = 1/(1 + E),    tanh(a) = (1 − E)/(1 + E).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinyamp.ckernel import ROWS, TILE, left_over_rows, scalar_function, step_function
from tinyamp.csparse import BLOCK, Plan, kept_blocks, plan, sparse_function
from tinyamp.ctext import HEAD, PRELUDE, TAIL, UNIT
from tinyamp.files import InputError

WIDTHS = (4, 8, 16)
LOG2E = 1.4426950408889634
LOUDEST = 4.0  # what the LSTM hears of an input beyond this (+12 dB) is this
FREE = 60.0  # rows that stay within this need no clamp: sums and products of their 2^row are finite
SMALLEST = 2.0**-37  # weights below this count as zero: with them, products could be denormal


def c_source(
    weights: Mapping[str, np.ndarray], *, prefix: str, sample_rate: int, layout: str = "auto"
) -> tuple[str, Plan]:
    """The C file of a model whose `weights` have the names of `AmpLSTM.state_dict()`.

    All names that can be seen from outside begin with `prefix`. `layout` is "dense", "sparse" or
    "auto"; which it became and why is in the `Plan`. Raises `InputError` for another layout, for a
    prefix that C cannot take, for a model of several inputs, and for weights beyond float32.
    """
    if not (prefix.isascii() and prefix.isidentifier() and prefix[0] != "_"):
        raise InputError(f"The prefix must be a name in C, such as amp; got {prefix!r}.")
    w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    hidden_size = w["lstm.weight_hh_l0"].shape[1]
    if w["lstm.weight_ih_l0"].shape[1] != 1:
        raise InputError("Only models of one input become C; this one has several.")
    chosen = plan(w["lstm.weight_hh_l0"], layout)
    bias = w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
    columns = np.concatenate([bias[:, None], w["lstm.weight_ih_l0"], w["lstm.weight_hh_l0"]], 1)
    columns = columns.reshape(4, hidden_size, -1) * -LOG2E  # (gate, unit, 2 + hidden)
    columns[2] *= 2
    columns = columns[:, chosen.order]
    columns[..., 2:] = columns[..., 2:][..., chosen.order]
    free = [bool(bound <= FREE) for bound in _bounds(columns)]
    padded = -(-hidden_size // TILE) * TILE
    head = np.zeros(padded)
    head[:hidden_size] = w["head.weight"][0, chosen.order]
    names = {"p": prefix, "H": hidden_size, "padded": padded, "rate": sample_rate}
    names["loudest"] = LOUDEST
    # Few units are sooner done with shorter vectors, and blocks are 8 rows.
    widest = 8 if hidden_size <= TILE or chosen.layout == "sparse" else 16
    store = _sparse if chosen.layout == "sparse" else _dense
    arrays, steps = store(columns, free)
    texts = [
        HEAD.format(**names),
        f"/* The layout is {chosen.layout}: {chosen.reason} */",
        f"#define WIDEST {widest} /* floats in a vector that pay here */",
        f"#define LOUDEST {LOUDEST:.1f}f",
        _array("head", head),
        f"static const float head_bias = {_number(w['head.bias'][0])};",
        *arrays,
        PRELUDE,
        UNIT,
        *steps,
        "",
        TAIL.format(**names),
    ]
    return "\n".join(texts), chosen


def _dense(columns: np.ndarray, free: list[bool]) -> tuple[list[str], list[str]]:
    """The arrays and the functions of a step that takes every weight, in tiles (`ckernel`)."""
    hidden_size = columns.shape[1]
    tiles, left = divmod(hidden_size, TILE)
    arrays = []
    if tiles:
        packed = columns[:, : tiles * TILE].reshape(4, tiles, TILE, -1)
        packed = packed.transpose(1, 3, 0, 2)  # (tile, column, gate, unit)
        arrays.append(f"/* {tiles} x ({hidden_size + 2} columns of {ROWS}): b, W_x, W_h */")
        arrays.append(_array("tiles", packed))
    if left:
        rows = left_over_rows(hidden_size)
        packed = np.zeros((hidden_size + 2, rows))
        packed[:, : 4 * left] = columns[:, tiles * TILE :].transpose(2, 0, 1).reshape(-1, 4 * left)
        arrays.append(f"/* {hidden_size + 2} columns of {rows}: b, W_x, W_h of {left} units */")
        arrays.append(_array("left_over", packed))
    steps = ["#if TINYAMP_WIDTH == 1", scalar_function(hidden_size, free)]
    for width in WIDTHS:
        steps += [f"#elif TINYAMP_WIDTH == {width}", step_function(hidden_size, width, free)]
    return arrays, [*steps, "#else", '#error "TINYAMP_WIDTH must be 4, 8 or 16"', "#endif"]


def _sparse(columns: np.ndarray, free: list[bool]) -> tuple[list[str], list[str]]:
    """The arrays and the function of a step that leaves empty blocks out (`csparse`)."""
    hidden_size = columns.shape[1]
    groups = -(-hidden_size // BLOCK)
    by_rows = np.zeros((2, 4, groups * BLOCK))  # b and W_x
    by_rows[..., :hidden_size] = columns[..., :2].transpose(2, 0, 1)
    by_rows = by_rows.reshape(2, 4, groups, BLOCK).transpose(0, 2, 1, 3)  # (2, group, gate, unit)
    weights, places = kept_blocks(columns[..., 2:])
    arrays = [
        _array("bias", by_rows[0]),
        _array("input", by_rows[1]),
        _array("blocks", weights if weights.size else np.zeros(BLOCK)),
    ]
    return arrays, [sparse_function(hidden_size, places, free)]


def _bounds(columns: np.ndarray) -> np.ndarray:
    """The largest magnitude that a row of each gate can have, as |x| ≤ LOUDEST and |h| < 1."""
    size = np.abs(columns)  # (gate, unit, 2 + hidden): b, W_x, W_h
    return (size[..., 0] + LOUDEST * size[..., 1] + size[..., 2:].sum(-1)).max(axis=1)


def _array(name: str, values: np.ndarray) -> str:
    """A constant array, at an address that is a multiple of 64."""
    numbers = [_number(value) for value in values.ravel()]
    lines = [", ".join(numbers[k : k + 8]) for k in range(0, len(numbers), 8)]
    body = ",\n    ".join(lines)
    return f"static _Alignas(64) const float {name}[{len(numbers)}] = {{\n    {body}}};"


def _number(value: float) -> str:
    """A float32 as a C literal that reads back as the same."""
    if abs(value) < SMALLEST:
        return "0"
    if not abs(value) < 1e38:
        raise InputError(f"A weight of {value:.3g} is beyond what the C code can hold.")
    text = f"{np.float32(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")
