"""How a model is trained: the paper's settings, the laptop's, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from tinyamp.files import InputError
from tinyamp.losses import DC_WEIGHT, PRE_EMPHASIS

Settings = TypeVar("Settings")

SCHEDULES = ("plateau", "constant", "cosine")


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained; the defaults are the paper's, Section IV-B.

    Lengths are in samples. `segments_per_epoch` None means the whole set; with a number, an epoch
    is that many segments, and passes over the set run on from epoch to epoch. `schedule` is
    "plateau" (the paper: the learning rate times `factor` after `patience` validations without
    improvement), "constant", or "cosine" (a linear rise over `rise_epochs`, then half a cosine down
    to `final_fraction` of `learning_rate`).

    `weight_decay` λ adds λθ to the gradient of every parameter θ inside Adam, after clipping:
    idle weights then shrink to zero, and magnitude means something. The paper's text has none; the
    authors' published code had 1e-4. `decoupled` shrinks all by lr · λ · θ beside Adam instead
    (AdamW), which does not tell idle weights from others.
    """

    epochs: int = 750  # Section V-A
    batch_size: int = 40  # IV-B3
    segment_length: int = 22_050  # IV-B3: half a second
    segments_per_epoch: int | None = None
    warmup: int = 1000  # IV-B3
    chunk: int = 2048  # IV-B2
    learning_rate: float = 5e-4  # IV-B
    schedule: str = "plateau"
    patience: int = 5  # IV-B
    factor: float = 0.5  # IV-B
    rise_epochs: int = 0
    final_fraction: float = 0.0
    validate_every: int = 2  # IV-B
    pre_emphasis: float = PRE_EMPHASIS  # eq. (4)
    dc_weight: float = DC_WEIGHT  # eq. (7)
    clip_norm: float | None = None
    weight_decay: float = 0.0
    decoupled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_size", "chunk", "learning_rate", "validate_every", "patience")
        for name in positive:
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, but is {getattr(self, name)}.")
        if not 0 <= self.weight_decay < 1:
            raise InputError(
                f"weight_decay must be at least 0 and below 1, but is {self.weight_decay}."
            )
        if self.segments_per_epoch is not None and self.segments_per_epoch < 1:
            raise InputError(
                f"segments_per_epoch must be None or above 0, but is {self.segments_per_epoch}."
            )
        if not 0 <= self.warmup < self.segment_length:
            raise InputError(
                f"warmup must be from 0 to below segment_length ({self.segment_length} samples), "
                f"but is {self.warmup}."
            )
        if self.schedule not in SCHEDULES:
            known = ", ".join(SCHEDULES)
            raise InputError(f"schedule must be one of {known}, but is {self.schedule!r}.")


PRESETS = {
    "paper": TrainSettings(),
    # Two to three minutes for 32 units on one core. What is different, and why; the numbers are
    # plain test ESRs, H = 32, a minute of real playing through a simulated fuzz or sim-metal.
    "laptop": TrainSettings(
        epochs=36,
        segments_per_epoch=120,  # a minute of audio: the cost does not grow with the set
        batch_size=8,  # quality comes from the number of updates, and these cost a fraction
        chunk=1024,  # twice the updates for the same work: metal 0.5 % instead of 1.2 % at 2048
        learning_rate=1e-2,  # fuzz 0.1 % instead of 2.3 % at 5e-3, after 25 epochs
        schedule="cosine",  # knows when the budget ends; the plateau rule wants hundreds of epochs
        rise_epochs=1,  # Adam's first, blind steps are small ones
        final_fraction=0.01,
        clip_norm=1.0,  # small batches have wild gradients now and then
        validate_every=6,  # 84 s of validation cost as much as a whole epoch
    ),
}


def changed(settings: Settings, **changes: object) -> Settings:
    """A dataclass with some fields changed; those that are None stay."""
    return replace(settings, **{k: v for k, v in changes.items() if v is not None})


def with_changes(preset: str, **changes: object) -> TrainSettings:
    """The preset called `preset` with some fields changed; fields that are None stay."""
    if preset not in PRESETS:
        raise InputError(f"There is no preset {preset!r}; choose from {', '.join(PRESETS)}.")
    return changed(PRESETS[preset], **changes)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: losses are eq. (7); `validation_loss` is None where none was due."""

    epoch: int  # counted from 1
    train_loss: float
    validation_loss: float | None
    learning_rate: float
    seconds: float


@dataclass
class History:
    """All epochs of a training run, and which one had the lowest validation loss."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def best_epoch(self) -> Epoch | None:
        """The epoch with the lowest validation loss (the first of equals), or None before one."""
        validated = [e for e in self.epochs if e.validation_loss is not None]
        return min(validated, key=lambda e: e.validation_loss, default=None)

    @property
    def best_loss(self) -> float:
        """The lowest validation loss so far; infinite before the first validation."""
        best = self.best_epoch
        return math.inf if best is None else best.validation_loss


def learning_rate_at(settings: TrainSettings, history: History) -> float:
    """The learning rate of the epoch after those in `history`; depends on nothing else."""
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "plateau":
        rate, best, waited = settings.learning_rate, math.inf, 0
        for epoch in history.epochs:
            if epoch.validation_loss is None:
                continue
            waited = 0 if epoch.validation_loss < best else waited + 1
            best = min(best, epoch.validation_loss)
            if waited == settings.patience:
                rate, waited = rate * settings.factor, 0
        return rate
    done = len(history.epochs)
    if done < settings.rise_epochs:
        return settings.learning_rate * (done + 1) / (settings.rise_epochs + 1)
    span = max(1, settings.epochs - settings.rise_epochs)
    phase = math.pi * (done - settings.rise_epochs) / span
    low = settings.final_fraction
    return settings.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(phase)))


def epoch_order(settings: TrainSettings, epoch: int, n_segments: int) -> np.ndarray:
    """Indices of the segments of `epoch` (from 0), in the order in which they are trained.

    The order depends only on the seed and the epoch, so that a resumed run sees the same. With
    `segments_per_epoch`, each pass over the set is one permutation, cut into epochs.
    """
    size = settings.segments_per_epoch or n_segments
    first, last = epoch * size, (epoch + 1) * size  # positions in the endless shuffled stream
    passes = range(first // n_segments, (last - 1) // n_segments + 1)
    stream = [np.random.default_rng([settings.seed, p]).permutation(n_segments) for p in passes]
    start = first - passes[0] * n_segments
    return np.concatenate(stream)[start : start + size]
