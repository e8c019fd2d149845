"""How long the study will take, from short timings on the machine that asks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from tinyamp.data import SPLITS
from tinyamp.guitar import SECONDS
from tinyamp.model import AmpLSTM, one_thread, process
from tinyamp.presets import TrainSettings
from tinyamp.study import LONGER, TABLE_I, UNITS, Job, StudySettings
from tinyamp.train import train_batch, updates_per_epoch

EPOCHS_OF_A_STAGE = 6  # usual; k = 5 is the least
ATTEMPTS = 3  # stages that a job usually retrains before it has found the one
UPDATES = 12  # that are timed
LISTEN = 30  # seconds of audio that are played


@dataclass(frozen=True)
class Cost:
    """Seconds of one update by batch × chunk samples, and of one second of audio processed."""

    per_sample: float
    per_second: float


def update_time(size: int, settings: TrainSettings) -> float:
    """Seconds of the processor that one update of a model with `size` units takes, on one thread.

    It is the least of a dozen: what else the machine does hardly counts.
    """
    model = AmpLSTM(size)
    optimizer = torch.optim.Adam(model.parameters())
    short = replace(settings, warmup=0)
    noise = 0.1 * np.random.default_rng(0).standard_normal((settings.batch_size, settings.chunk, 1))
    x = torch.from_numpy(noise).float()  # (batch, time, 1)
    times = []
    with one_thread():
        for _ in range(UPDATES):
            started = time.process_time()
            train_batch(model, optimizer, x, x, short)
            times.append(time.process_time() - started)
    return min(times)


def measure_cost(size: int, settings: TrainSettings, *, sample_rate: int = 44_100) -> Cost:
    """Time a few updates and half a minute of audio of a model with `size` units."""
    update = update_time(size, settings)
    noise = 0.1 * np.random.default_rng(0).standard_normal(LISTEN * sample_rate)
    started = time.process_time()
    process(AmpLSTM(size), noise)
    second = (time.process_time() - started) / LISTEN
    return Cost(update / (settings.batch_size * settings.chunk), second)


@dataclass(frozen=True)
class Amounts:
    """How much audio there is, in seconds."""

    train: float
    validation: float
    test: float


def amounts_of(study: StudySettings) -> Amounts:
    """The lengths of a device's sets, Section IV-A: a plan needs no recordings."""
    return Amounts(*(min(SECONDS[split], study.seconds or math.inf) for split in SPLITS))


def _training(settings: TrainSettings, cost: Cost, amounts: Amounts, epochs: int) -> float:
    segments = int(amounts.train * 44_100 / settings.segment_length)
    samples = settings.batch_size * settings.chunk
    update = updates_per_epoch(settings, segments) * samples * cost.per_sample
    checks = math.ceil(epochs / settings.validate_every)
    return epochs * update + checks * amounts.validation * cost.per_second


def estimate(job: Job, study: StudySettings, costs: Mapping[int, Cost], amounts: Amounts) -> float:
    """Seconds on one core that a job will take, counted at full size: about an upper bound.

    Retraining on a compacted model is cheaper than that; where whole units are pruned, so much that
    it is counted at the smallest size. A stage that has been retrained already costs nothing, and
    how many stages are tried is a guess.
    """
    cost, again = costs[job.row.size], study.retraining(job.row.variant)
    if job.row.variant in (UNITS, LONGER) and job.kind != "search":
        cost = costs[study.sizes[0]]  # about what is left
    one = _training(again, cost, amounts, again.epochs)
    one += amounts.test * cost.per_second
    if job.kind != "search":
        stages = study.search.iterations + 1
        times = {"pruned": ATTEMPTS, "curve": stages - ATTEMPTS, "from-scratch": 2}
        return one * times.get(job.kind, 1)
    full, course, stages = study.search.full, study.search.course, study.search.iterations
    judged = min(study.search.validation_seconds or math.inf, amounts.validation)
    seconds = stages * _training(course, cost, replace(amounts, validation=0), EPOCHS_OF_A_STAGE)
    seconds += 2 * stages * judged * cost.per_second
    if job.row.variant == TABLE_I:
        seconds += _training(full, cost, amounts, full.epochs)
    return seconds


def duration(seconds: float) -> str:
    """Such as "45 s", "12 min" or "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
