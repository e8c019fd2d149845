"""A residual connection where a format has none: one hidden unit that carries the input.

`AmpLSTM` always adds its input to its output, eq. (3). The format of Neural Amp Modeler never
does; a file of the others may or may not. Both gaps are closed by one more hidden unit, with its
input and output gates held open by large biases and its forget gate held shut:

    h = σ(30) · tanh(σ(30) · tanh(ε x)) ≈ ε x − ⅔ (ε x)³.

A head weight of +1/ε adds x, a head weight of −1/ε takes it away. Nothing else reads the unit,
and it reads nothing else, so the other units do not notice it.

What is left is an error of `⅔ ε² |x|³`, and of float32 up to some 2e-7 / ε where a player
computes tanh(a) as 2 σ(2a) − 1, which is good to one unit in the last place of 1. Their sum is
smallest near ε = 0.005. ε = 2⁻⁸ = 0.0039 makes both products with ε exact; for inputs in [-1, 1]
it leaves 1.0e-5, as PyTorch and NumPy compute tanh, and 6.5e-5 in such a player. Beyond, it grows
with the input's cube.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from tinyamp.files import InputError
from tinyamp.model import MAX_HIDDEN_SIZE, AmpLSTM

EPSILON = 2.0**-8
OPEN = 30.0  # σ(30) is 1 − 9e-14, exactly 1 in float32; σ(−30) is 9e-14
MAX_ERROR = 1e-4  # of what a unit carries, for inputs in [-1, 1]: more, and it is no carrier
STATED_ERROR = 8e-5  # the most in any player with an accurate float32 tanh: 6.5e-5 and a reserve


@dataclass(frozen=True)
class Weights:
    """What a file holds, float32: with `residual`, y = W_fc h + b_fc + x, else without x.

    Shapes: W_ih (4 · hidden, 1), W_hh (4 · hidden, hidden), b_ih and b_hh (4 · hidden,),
    W_fc (hidden,), b_fc (1,).
    """

    W_ih: np.ndarray
    W_hh: np.ndarray
    b_ih: np.ndarray
    b_hh: np.ndarray
    W_fc: np.ndarray
    b_fc: np.ndarray
    residual: bool

    @property
    def hidden_size(self) -> int:
        return len(self.W_fc)

    @property
    def bias(self) -> np.ndarray:
        """b_ih + b_hh (4 · hidden,), rounded once."""
        return self.b_ih + self.b_hh


def weights_of(model: AmpLSTM) -> Weights:
    """The weights of a model, float32; a unit that takes the residual away is taken out.

    Raises `InputError` for several inputs or for weights that are not finite in float32.
    """
    if model.input_size != 1:
        raise InputError(f"The formats hold models with one input; this has {model.input_size}.")
    values = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    values = {name: value.to(torch.float32).numpy() for name, value in values.items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise InputError("The model has weights that are NaN, infinite or beyond float32.")
    weights = Weights(
        W_ih=values["lstm.weight_ih_l0"],
        W_hh=values["lstm.weight_hh_l0"],
        b_ih=values["lstm.bias_ih_l0"],
        b_hh=values["lstm.bias_hh_l0"],
        W_fc=values["head.weight"][0],
        b_fc=values["head.bias"],
        residual=True,
    )
    unit = find_carrier(weights, -1)
    return weights if unit is None else replace(remove_unit(weights, unit), residual=False)


def model_of(weights: Weights, *, sample_rate: int) -> AmpLSTM:
    """The model of these weights; without a residual, it has one more unit, which removes it."""
    if not weights.residual:
        weights = add_carrier(weights, -1)
    if weights.hidden_size > MAX_HIDDEN_SIZE:
        raise InputError(
            f"needs {weights.hidden_size} hidden units, one of them to take the input away; "
            f"{MAX_HIDDEN_SIZE} are the most."
        )
    model = AmpLSTM(weights.hidden_size, sample_rate=sample_rate)
    tensors = {
        "lstm.weight_ih_l0": weights.W_ih,
        "lstm.weight_hh_l0": weights.W_hh,
        "lstm.bias_ih_l0": weights.b_ih,
        "lstm.bias_hh_l0": weights.b_hh,
        "head.weight": weights.W_fc[None],
        "head.bias": weights.b_fc,
    }
    model.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
    return model


def add_carrier(weights: Weights, sign: int) -> Weights:
    """The weights with one more unit, the last, that adds `sign` · x to the output."""
    hidden_size = weights.hidden_size
    W_ih, W_hh, b_ih, b_hh = (
        np.zeros((4, hidden_size + 1, *shape), dtype=np.float32)
        for shape in ((1,), (hidden_size + 1,), (), ())
    )
    W_ih[:, :-1] = weights.W_ih.reshape(4, hidden_size, 1)
    W_hh[:, :-1, :-1] = weights.W_hh.reshape(4, hidden_size, hidden_size)
    b_ih[:, :-1] = weights.b_ih.reshape(4, hidden_size)
    b_hh[:, :-1] = weights.b_hh.reshape(4, hidden_size)
    W_ih[2, -1] = EPSILON  # the candidate
    b_ih[:, -1] = (OPEN, -OPEN, 0, OPEN)  # input, forget, candidate, output
    return replace(
        weights,
        W_ih=W_ih.reshape(-1, 1),
        W_hh=W_hh.reshape(-1, hidden_size + 1),
        b_ih=b_ih.ravel(),
        b_hh=b_hh.ravel(),
        W_fc=np.append(weights.W_fc, np.float32(sign / EPSILON)),
    )


def remove_unit(weights: Weights, unit: int) -> Weights:
    """The weights without one hidden unit."""
    kept = np.arange(weights.hidden_size) != unit
    rows = np.tile(kept, 4)  # the four gates
    return replace(
        weights,
        W_ih=weights.W_ih[rows],
        W_hh=weights.W_hh[rows][:, kept],
        b_ih=weights.b_ih[rows],
        b_hh=weights.b_hh[rows],
        W_fc=weights.W_fc[kept],
    )


def find_carrier(weights: Weights, sign: int) -> int | None:
    """A unit that does nothing but add `sign` · x to the output, within `MAX_ERROR`; or None.

    A network of one unit is left alone, because one must remain.
    """
    hidden_size = weights.hidden_size
    if hidden_size == 1:
        return None
    W_ih = weights.W_ih.reshape(4, hidden_size)
    W_hh = weights.W_hh.reshape(4, hidden_size, hidden_size)
    slope = W_ih[2].astype(np.float64) * weights.W_fc
    alone = ~W_hh.any(axis=(0, 2)) & ~W_hh.any(axis=(0, 1)) & ~W_ih[[0, 1, 3]].any(axis=0)
    for unit in np.flatnonzero(alone & (np.abs(slope - sign) < 0.01)).tolist():
        if carrier_error(weights, unit, sign) <= MAX_ERROR:
            return unit
    return None


def carrier_error(weights: Weights, unit: int, sign: int) -> float:
    """The largest `|W_fc h − sign · x|` of one unit, measured in float32 over inputs in [-1, 1].

    The input goes through the interval in 4001 steps, up and then in random order, so that what
    the unit remembers counts too.
    """
    gates = [n * weights.hidden_size + unit for n in range(4)]
    lstm = torch.nn.LSTM(1, 1, batch_first=True)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    values = (
        weights.W_ih[gates],
        weights.W_hh[gates][:, [unit]],
        weights.b_ih[gates],
        weights.b_hh[gates],
    )
    lstm.load_state_dict({n: torch.tensor(v) for n, v in zip(names, values, strict=True)})
    grid = np.linspace(-1, 1, 4001, dtype=np.float32)
    x = np.concatenate([grid, np.random.default_rng(0).permutation(grid)])
    with torch.inference_mode():
        h, _ = lstm(torch.from_numpy(x)[None, :, None])  # (1, time, 1)
    carried = h[0, :, 0].numpy() * weights.W_fc[unit]
    return float(np.abs(carried.astype(np.float64) - sign * x).max())
