"""Pruning masks: which weights stay, Section III-A.

A mask m holds, for every weight in the pool, whether it is active; the pruned network is
f(x; θ ⊙ m). The pool is the LSTM's two weight matrices, W_ih and W_hh, for all four gates: the one
that Table I was calculated for, see `tinyamp.paper.expected_parameters`. Biases are never pruned.
The output layer is left out by default: with it in the pool (`include_output`, as in the authors'
released code) a search can remove every output weight, after which the model passes its input
through and learns nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from tinyamp.files import InputError
from tinyamp.model import AmpLSTM

Masks = dict[str, torch.Tensor]

POOL = ("lstm.weight_ih_l0", "lstm.weight_hh_l0")
OUTPUT = "head.weight"
SCORES = ("magnitude", "unit", "random")


def _pool(model: AmpLSTM, include_output: bool) -> dict[str, torch.nn.Parameter]:
    names = (*POOL, OUTPUT) if include_output else POOL
    parameters = dict(model.named_parameters())
    return {name: parameters[name] for name in names}


def full_masks(model: AmpLSTM, *, include_output: bool = False) -> Masks:
    """Masks with every weight of the pool active: W_ih (4H, input), W_hh (4H, H), maybe W_fc."""
    pool = _pool(model, include_output)
    return {name: torch.ones_like(p, dtype=torch.bool) for name, p in pool.items()}


def masks_of(model: AmpLSTM, *, include_output: bool = False) -> Masks:
    """The masks that a pruned model carries in its weights: active is what is not exactly zero."""
    return {name: (p != 0).detach() for name, p in _pool(model, include_output).items()}


def apply_masks(
    model: AmpLSTM, masks: Mapping[str, torch.Tensor], optimizer: torch.optim.Adam | None = None
) -> None:
    """Set what is masked to exactly zero in place: θ ⊙ m, Algorithm 1, line 11.

    With an `optimizer`, Adam's two moments are set to zero at the same places; a step with a zero
    gradient then leaves the weight exactly where it is.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameter = parameters[name]
            parameter.masked_fill_(~mask, 0)
            moments = optimizer.state.get(parameter, {}) if optimizer is not None else {}
            for key in ("exp_avg", "exp_avg_sq"):
                if key in moments:
                    moments[key].masked_fill_(~mask, 0)


def active_weights(masks: Mapping[str, torch.Tensor]) -> int:
    """How many weights are active."""
    return sum(int(mask.sum()) for mask in masks.values())


def sparsity(masks: Mapping[str, torch.Tensor]) -> float:
    """Share of the pool that is pruned, 0 to 1: the "pruned weights" of Table I."""
    return 1 - active_weights(masks) / sum(mask.numel() for mask in masks.values())


def prune(
    model: AmpLSTM,
    masks: Mapping[str, torch.Tensor],
    fraction: float,
    *,
    score: str = "magnitude",
    seed: int | Sequence[int] = 0,
    activity: torch.Tensor | None = None,
) -> Masks:
    """New masks with the lowest-scored `fraction` of the active weights taken out, globally.

    All weights that `masks` has active are pooled and ranked together; exactly
    `round(fraction · active)` of them go. The score is the weight's magnitude, or "random": drawn
    from `seed`, the control. Of equal scores the one earlier in the pool goes. With "unit", whole
    units go, the weakest by `unit_strengths` first, for which their `activity` is needed, and as
    many as come nearest to that number of weights, but one at least. With a unit goes its
    *intrinsic sparse structure*, Section III-C: its rows in all four gates and its column. The
    model is not changed. Raises `InputError` for a fraction outside 0 to 1, an unknown score,
    weights that are not finite, or units without their activity.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"The fraction to prune must be from 0 to 1, but is {fraction}.")
    if score not in SCORES:
        raise InputError(f"The score must be one of {', '.join(SCORES)}, but is {score!r}.")
    parameters = dict(model.named_parameters())
    names = sorted(masks, key=(*POOL, OUTPUT).index)  # whatever order `masks` has
    values = torch.cat([parameters[name].detach().flatten() for name in names]).cpu()
    active = torch.cat([masks[name].flatten() for name in names]).cpu()
    if not torch.isfinite(values).all():
        raise InputError("The model has weights that are NaN or infinite; it cannot be pruned.")
    if score == "unit":
        if activity is None:
            raise InputError("To prune units, say how active they are: `tinyamp.activity`.")
        ordered = {name: masks[name] for name in names}
        strengths = unit_strengths(model, ordered, activity)
        return _prune_units(ordered, strengths, round(fraction * int(active.sum())))
    where = active.nonzero().flatten()  # positions in the pool, in order
    if score == "magnitude":
        scores = values[where].abs()
    else:
        scores = torch.from_numpy(np.random.default_rng(seed).random(len(where)))
    lowest = torch.argsort(scores, stable=True)[: round(fraction * len(where))]
    active[where[lowest]] = False
    parts = active.split([masks[name].numel() for name in names])
    return {
        name: part.reshape(masks[name].shape).to(masks[name].device)
        for name, part in zip(names, parts, strict=True)
    }


def unit_strengths(
    model: AmpLSTM, masks: Mapping[str, torch.Tensor], activity: torch.Tensor
) -> torch.Tensor:
    """How much of what is heard of each unit moves, (hidden,); not in the paper.

    That is its `activity`, (hidden,), from `tinyamp.activity`, times the root of the sum of squares
    of the weights by which others hear it: its column of W_hh in all four gates, as far as it is
    active and leads to other units, and its weight in the output layer. How strong the weights are
    by which it hears says little: a unit that never moves may well have large ones.
    """
    hidden = model.hidden_size
    parameters = dict(model.named_parameters())
    squares = (parameters[POOL[1]].detach() * masks[POOL[1]]) ** 2
    between = squares.reshape(4, hidden, hidden).sum(dim=0)  # (reader, read)
    head = parameters[OUTPUT].detach() * masks.get(OUTPUT, True)
    heard = between.sum(dim=0) - between.diagonal() + head[0] ** 2
    return activity.to(heard.device) * heard.sqrt()


def without_units(masks: Mapping[str, torch.Tensor], units: Sequence[int]) -> Masks:
    """New masks in which all weights to and from the `units` are pruned."""
    fewer = {name: mask.clone() for name, mask in masks.items()}
    hidden = fewer[POOL[1]].shape[1]
    for name in POOL:
        fewer[name].view(4, hidden, -1)[:, units] = False  # what they hear
    for name in fewer.keys() - {POOL[0]}:
        fewer[name][:, units] = False  # what hears them
    return fewer


def _prune_units(masks: Mapping[str, torch.Tensor], strengths: torch.Tensor, count: int) -> Masks:
    """New masks without the weakest units: as many as come nearest to `count` weights, or one."""
    before, gone = active_weights(masks), 0
    left = dict(masks)
    for unit in torch.argsort(strengths, stable=True).tolist():
        if gone >= count:
            break
        fewer = without_units(left, [unit])
        further = before - active_weights(fewer)
        if gone and further - count > count - gone:
            break
        left, gone = fewer, further
    return left


def hamming_distance(
    a: Mapping[str, torch.Tensor],
    b: Mapping[str, torch.Tensor],
    active: Mapping[str, torch.Tensor],
) -> float:
    """Share of the `active` weights about which two masks disagree, 0 to 1, Section III-B.

    Counting over the currently active weights only, and not over the whole pool, keeps ε = 0.1
    equally strict in every iteration. Raises `InputError` when nothing is active.
    """
    count = active_weights(active)
    if count == 0:
        raise InputError("No weight is active, so two masks have no distance.")
    return sum(int(((a[n] != b[n]) & active[n]).sum()) for n in active) / count
