"""Removing dead hidden units without changing the output, Section III-C.

Pruning can take every live input away from a hidden unit. Its gates i, f, c~ and o are then fed by
biases alone, and its output is not zero but, after a transient, a constant:

    c* = i · c~ / (1 − f),    h* = o · tanh(c*),    reached from the zero state at the rate fⁿ.

Such a unit is removed by folding h* times its outgoing weights into the biases of what it feeds,
gates and output layer alike. That may leave the next unit without a live input, so this is
repeated until nothing changes. A unit that nothing reads can go as well.

Two things stay, because removing them would not be exact by this argument: a unit without audio
that feeds itself, directly or through others (it could swing by itself), and one whose forget gate
is exactly 1 in the model's precision (its cell adds up for ever).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit  # the logistic function σ

from tinyamp.files import InputError
from tinyamp.masks import OUTPUT, POOL, Masks
from tinyamp.model import AmpLSTM, State

BLOCK = 16_384  # samples at a time in `transient`, so that memory does not grow with the signal


@dataclass(frozen=True)
class Round:
    """What one round removed: `constant` maps a unit to its h*, `unused` lists the unread units."""

    constant: dict[int, float]
    unused: tuple[int, ...]


@dataclass(frozen=True)
class Compaction:
    """A smaller model, and how it came about.

    `kept` are the units of the old model that remain, ascending; `rounds` what each round
    removed; `masks` the masks of the smaller model, when masks were given. `initial_state` is for
    the old model: (h, c), each (1, 1, old hidden), with the constant units at h* and c* and all
    others at zero. From it the old model gives what the new one gives from zero, without transient.
    """

    model: AmpLSTM
    kept: tuple[int, ...]
    rounds: tuple[Round, ...]
    masks: Masks | None
    initial_state: State


@dataclass(frozen=True)
class Transient:
    """How long two outputs differ, in samples and in seconds, and their largest difference."""

    samples: int
    seconds: float
    peak: float


def compact(model: AmpLSTM, masks: Mapping[str, torch.Tensor] | None = None) -> Compaction:
    """Remove every constant and every unused hidden unit; the output stays the same.

    With `masks`, what is masked counts as zero (whatever its weight is) and what is active counts
    as live, even if it happens to be zero, so that training can go on; the output layer counts by
    its weights unless `masks` has "head.weight". Without, what is exactly zero is dead. The model
    itself is not changed. If no unit remains, the new model has one with all weights zero, `kept`
    is (), and the output is x plus an offset.

    The outputs are equal in exact arithmetic: from `initial_state`, and from the zero state once
    the transient is over, if what remains forgets how it started. In float64 they agree to 1e-12.
    In float32 b_fc is rounded and both models add in another order: mostly a few 1e-7, up to 1e-5
    at rare samples of a high-gain model, which is the size of float32's own error there.
    Raises `InputError` for masks that do not fit or weights that are not finite.
    """
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    _check(weights, masks)
    live = {name: weights[name] != 0 for name in (*POOL, OUTPUT)}
    live.update({name: mask.to(weights[name].device) for name, mask in (masks or {}).items()})
    for name, mask in live.items():
        weights[name].masked_fill_(~mask, 0)

    hidden_size, dtype = model.hidden_size, model.head.weight.dtype
    values = {name: value.cpu().double().numpy() for name, value in weights.items()}
    W_hh = values["lstm.weight_hh_l0"].reshape(4, hidden_size, hidden_size)  # (gate, reader, read)
    W_fc = values["head.weight"][0]  # (hidden,)
    before = (values["lstm.bias_ih_l0"] + values["lstm.bias_hh_l0"]).reshape(4, hidden_size)
    bias = before.copy()
    b_fc = values["head.bias"].copy()  # (1,)
    hears_audio = live[POOL[0]].cpu().numpy().reshape(4, hidden_size, -1).any(axis=(0, 2))
    reads = live[POOL[1]].cpu().numpy().reshape(4, hidden_size, hidden_size).any(axis=0)
    is_output = live[OUTPUT].cpu().numpy()[0]  # (hidden,)
    reads_other = reads & ~np.eye(hidden_size, dtype=bool)

    alive = np.ones(hidden_size, dtype=bool)
    h, c = np.zeros(hidden_size), np.zeros(hidden_size)
    rounds = []
    while True:
        without_input = alive & ~hears_audio & ~reads[:, alive].any(axis=1)
        unread = alive & ~is_output & ~reads_other[alive].any(axis=0)
        constant = {}
        for unit in np.flatnonzero(without_input).tolist():
            point = _fixed_point(bias[:, unit], torch.finfo(dtype).eps)
            if point is None:
                continue
            h[unit], c[unit] = point
            constant[unit] = point[0]
            bias += W_hh[:, :, unit] * h[unit]  # (4, hidden)
            b_fc += W_fc[unit] * h[unit]
        unused = tuple(unit for unit in np.flatnonzero(unread).tolist() if unit not in constant)
        if not constant and not unused:
            break
        rounds.append(Round(constant, unused))
        alive[[*constant, *unused]] = False

    # One number of the model's precision cannot hold bias + constant: what rounding it takes away
    # goes into the second bias, so that in float32 folding loses nothing: 48 bits, not 24.
    total = torch.from_numpy(bias.ravel())
    rounded = total.to(dtype)
    changed = torch.from_numpy((bias != before).ravel())  # all others stay bit for bit
    for name, part in (("ih", rounded), ("hh", (total - rounded.double()).to(dtype))):
        old = weights[f"lstm.bias_{name}_l0"]
        weights[f"lstm.bias_{name}_l0"] = torch.where(changed, part, old.cpu()).to(old.device)
    weights["head.bias"] = torch.from_numpy(b_fc).to(weights["head.bias"])

    kept = np.flatnonzero(alive)
    small = {name: _select(name, value, kept) for name, value in weights.items()}
    new = AmpLSTM(max(1, len(kept)), input_size=model.input_size, sample_rate=model.sample_rate)
    new.to(model.head.weight).load_state_dict(small)
    new.settings = copy.deepcopy(model.settings)
    new.train(model.training)
    return Compaction(
        model=new,
        kept=tuple(kept.tolist()),
        rounds=tuple(rounds),
        masks=masks and {name: _select(name, mask, kept) for name, mask in masks.items()},
        initial_state=tuple(
            torch.from_numpy(v).reshape(1, 1, hidden_size).to(model.head.weight) for v in (h, c)
        ),
    )


def effective_hidden_size(model_or_masks: AmpLSTM | Mapping[str, torch.Tensor]) -> int:
    """Number of hidden units that remain after compaction; 0 when none does.

    Masks alone tell it too (save for forget gates that are exactly 1), because it depends on what
    is connected; if they have no "head.weight", every output weight counts as live.
    """
    if isinstance(model_or_masks, AmpLSTM):
        return len(compact(model_or_masks).kept)
    input_size = model_or_masks[POOL[0]].shape[1]
    model = AmpLSTM(model_or_masks[POOL[1]].shape[1], input_size=input_size)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_("bias" not in name)
    return len(compact(model, model_or_masks).kept)


def pruned_parameter_count(active_weights: int, effective_hidden_size: int) -> int:
    """Parameters of a pruned LSTM layer, eq. (2), as Table I counts: no zeros, 8 biases a unit."""
    return active_weights + 8 * effective_hidden_size


def transient(
    model: AmpLSTM,
    compaction: Compaction,
    x: np.ndarray | None = None,
    *,
    seconds: float = 2.0,
    level_db: float = -100.0,
) -> Transient:
    """How long, and how much, the two models differ when both start from the zero state.

    `x` is (time,) or (time, input); `None` is silence of `seconds`. `samples` counts from the start
    to the last sample whose difference is above `level_db` (dB re full scale; -100 dB is under the
    step of 16 bits): 0 if there is none, all of `x` if it is too short or if the old model is not
    the one that was compacted (with its masks applied). Runs in float64, so that float32's own
    rounding errors do not count.
    """
    length = len(x) if x is not None else round(seconds * model.sample_rate)
    x = np.zeros((length, model.input_size)) if x is None else np.asarray(x, dtype=np.float64)
    x = torch.from_numpy(x.reshape(1, length, model.input_size))  # (1, time, input)
    pair = [copy.deepcopy(m).cpu().double() for m in (model, compaction.model)]
    states: list[State | None] = [None, None]
    samples, peak = 0, 0.0
    with torch.inference_mode():
        for start in range(0, length, BLOCK):
            outputs = []
            for k, m in enumerate(pair):
                y, states[k] = m(x[:, start : start + BLOCK], states[k])
                outputs.append(y[0, :, 0].numpy())
            difference = np.abs(outputs[0] - outputs[1])  # (block,)
            peak = max(peak, float(difference.max()))
            above = np.flatnonzero(difference > 10 ** (level_db / 20))
            if len(above):
                samples = start + int(above[-1]) + 1
    return Transient(samples, samples / model.sample_rate, peak)


def _fixed_point(bias: np.ndarray, eps: float) -> tuple[float, float] | None:
    """(h*, c*) of a unit whose gates see only `bias` (4,); `None` if its forget gate is 1."""
    i, o, c_tilde = expit(bias[0]), expit(bias[3]), np.tanh(bias[2])
    one_minus_f = expit(-bias[1])  # not 1 − σ(a), which loses all digits where f is near 1
    if one_minus_f <= eps / 2:  # f = 1 / (1 + e⁻ᵃ) as computed is then exactly 1
        return None
    c = i * c_tilde / one_minus_f
    return float(o * np.tanh(c)), float(c)


def _select(name: str, value: torch.Tensor, kept: np.ndarray) -> torch.Tensor:
    """The rows and columns of `kept` units; if none is kept, one unit of zeros that stays still."""
    if name == "head.bias":
        return value
    if len(kept) == 0:  # h = 0 and W_fc = 0: no gradient moves it in training either
        return torch.zeros_like(_select(name, value, np.zeros(1, dtype=int)))
    units = torch.from_numpy(kept).to(value.device)
    if name.startswith("lstm"):
        value = value.unflatten(0, (4, -1))[:, units].flatten(0, 1)  # (4 · kept, …)
    return value[:, units] if name in (POOL[1], OUTPUT) else value


def _check(weights: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor] | None) -> None:
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise InputError("The model has weights that are NaN or infinite; it cannot be compacted.")
    if masks is not None and not set(POOL) <= set(masks) <= {*POOL, OUTPUT}:
        raise InputError(f"Masks must be for {', '.join(POOL)} and maybe {OUTPUT}; got {[*masks]}.")
    for name, mask in (masks or {}).items():
        if mask.shape != weights[name].shape or mask.dtype != torch.bool:
            raise InputError(
                f"The mask of {name} must be bool of shape {tuple(weights[name].shape)}; "
                f"got {mask.dtype} of shape {tuple(mask.shape)}."
            )
