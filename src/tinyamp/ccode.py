"""A model as the text of one C11 file, eqs. (1a-f) and (3), with the weights in it.

The gates share one function. With the weights of i, f and o multiplied by −log2 e and those of
c~ by −2 log2 e beforehand, and E = 2^(row of the gate),

    σ(a) = 1/(1 + E),    tanh(a) = (1 − E)/(1 + E).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinyamp.ckernel import ROWS, TILE, left_over_rows, scalar_function, step_function
from tinyamp.ctext import HEAD, PRELUDE, TAIL
from tinyamp.files import InputError

WIDTHS = (4, 8, 16)
LOG2E = 1.4426950408889634
SMALLEST = 2.0**-37  # weights below this count as zero: with them, products could be denormal


def c_source(weights: Mapping[str, np.ndarray], *, prefix: str, sample_rate: int) -> str:
    """The C file of a model whose `weights` have the names of `AmpLSTM.state_dict()`.

    All names that can be seen from outside begin with `prefix`. Raises `InputError` for a prefix
    that C cannot take, for a model of several inputs, and for weights beyond float32.
    """
    if not (prefix.isascii() and prefix.isidentifier() and prefix[0] != "_"):
        raise InputError(f"The prefix must be a name in C, such as amp; got {prefix!r}.")
    w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    hidden_size = w["lstm.weight_hh_l0"].shape[1]
    if w["lstm.weight_ih_l0"].shape[1] != 1:
        raise InputError("Only models of one input become C; this one has several.")
    bias = w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
    columns = np.concatenate([bias[:, None], w["lstm.weight_ih_l0"], w["lstm.weight_hh_l0"]], 1)
    columns = columns.reshape(4, hidden_size, -1) * -LOG2E  # (gate, unit, 2 + hidden)
    columns[2] *= 2
    tiles, left = divmod(hidden_size, TILE)
    padded = -(-hidden_size // TILE) * TILE
    head = np.zeros(padded)
    head[:hidden_size] = w["head.weight"][0]
    parts = [f"#define HIDDEN {hidden_size}", _array("head", head)]
    parts.append(f"static const float head_bias = {_number(w['head.bias'][0])};")
    if tiles:
        packed = columns[:, : tiles * TILE].reshape(4, tiles, TILE, -1)
        packed = packed.transpose(1, 3, 0, 2)  # (tile, column, gate, unit)
        parts.append(f"/* {tiles} x ({hidden_size + 2} columns of {ROWS}): b, W_x, W_h */")
        parts.append(_array("tiles", packed))
    if left:
        rows = left_over_rows(hidden_size)
        packed = np.zeros((hidden_size + 2, rows))
        packed[:, : 4 * left] = columns[:, tiles * TILE :].transpose(2, 0, 1).reshape(-1, 4 * left)
        parts.append(f"/* {hidden_size + 2} columns of {rows}: b, W_x, W_h of {left} units */")
        parts.append(_array("left_over", packed))
    steps = ["#if TINYAMP_WIDTH == 1", scalar_function(hidden_size)]
    for width in WIDTHS:
        steps += [f"#elif TINYAMP_WIDTH == {width}", step_function(hidden_size, width)]
    steps += ["#else", '#error "TINYAMP_WIDTH must be 4, 8 or 16"', "#endif"]
    names = {"p": prefix, "H": hidden_size, "padded": padded, "rate": sample_rate}
    texts = [HEAD.format(**names), *parts, PRELUDE, "\n".join(steps), "", TAIL.format(**names)]
    return "\n".join(texts)


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
