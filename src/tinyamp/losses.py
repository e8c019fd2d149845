"""The training loss of Section IV-B1: pre-emphasis, error-to-signal ratio and dc, eqs. (4)-(7).

Signals are torch tensors of shape (batch, time) or (batch, time, 1). The energies are pooled over
the whole mini-batch before the ratio is taken, as in the authors' code: the ratio of one nearly
silent segment would otherwise be a huge number and throw the training off. `EPSILON` is added to
each target energy (a sum in eq. (5), a mean in eq. (6)) so that silence has a finite loss.
"""

from __future__ import annotations

import numpy as np
import torch

from tinyamp.files import InputError

EPSILON = 1e-5
PRE_EMPHASIS = 0.85
DC_WEIGHT = 0.25


def _check(target: torch.Tensor, prediction: torch.Tensor) -> None:
    if target.shape != prediction.shape or target.ndim not in (2, 3):
        raise InputError(
            "The target and the prediction must have one shape, (batch, time) or (batch, time, 1); "
            f"got {tuple(target.shape)} and {tuple(prediction.shape)}."
        )


def pre_emphasis(x: torch.Tensor, coefficient: float = PRE_EMPHASIS) -> torch.Tensor:
    """High-pass filter H(z) = 1 − 0.85 z⁻¹ along time, eq. (4); the sample before the first is 0.

    `x` is (batch, time) or (batch, time, 1); the output has the same shape.
    """
    return torch.cat([x[:, :1], x[:, 1:] - coefficient * x[:, :-1]], dim=1)


def esr_loss(target: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """Error-to-signal ratio, eq. (5), of signals that are pre-emphasised already; a scalar."""
    _check(target, prediction)
    return (target - prediction).square().sum() / (target.square().sum() + EPSILON)


def dc_loss(target: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """Squared difference of the means over the target's power, eq. (6); a scalar.

    The mean of the difference is taken along time in each segment, its square and the power are
    averaged over the mini-batch: for one segment, this is eq. (6) itself.
    """
    _check(target, prediction)
    offset = (target - prediction).mean(dim=1)  # (batch,) or (batch, 1)
    return offset.square().mean() / (target.square().mean() + EPSILON)


def amp_loss(
    target: torch.Tensor,
    prediction: torch.Tensor,
    *,
    coefficient: float = PRE_EMPHASIS,
    dc_weight: float = DC_WEIGHT,
) -> torch.Tensor:
    """The loss that training minimises, eq. (7): 0.75 · ESR of the pre-emphasised + 0.25 · dc."""
    ratio = esr_loss(pre_emphasis(target, coefficient), pre_emphasis(prediction, coefficient))
    return (1 - dc_weight) * ratio + dc_weight * dc_loss(target, prediction)


def esr(target: np.ndarray, prediction: np.ndarray) -> float:
    """Plain error-to-signal ratio of two signals (time,), without pre-emphasis: the test loss.

    This is the "test loss" of Table I as a ratio (0.02 is 2 %), computed in float64. Raises
    `InputError` when the shapes differ or the target is silent.
    """
    target = np.asarray(target, dtype=np.float64)
    prediction = np.asarray(prediction, dtype=np.float64)
    if target.shape != prediction.shape:
        raise InputError(
            f"The target has shape {target.shape}, the prediction {prediction.shape}; "
            "they must be the same."
        )
    energy = float(np.sum(target**2))
    if energy == 0:
        raise InputError("The target is silent, so its error-to-signal ratio is not defined.")
    return float(np.sum((target - prediction) ** 2)) / energy
