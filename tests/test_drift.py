"""A clock that runs differently is found and undone; a lost buffer is seen; a good one is left."""

from __future__ import annotations

import numpy as np
import pytest
from test_align import plucks

from tinyamp.align import TOLERANCE
from tinyamp.data import Recording
from tinyamp.drift import estimate_drift, straighten
from tinyamp.losses import esr

RATE = 44_100
DRY = plucks(20.0, 3)


def device(x: np.ndarray) -> np.ndarray:
    return np.tanh(5 * x)


def stretched(x: np.ndarray, ppm: float) -> np.ndarray:
    """What a clock that is slow by `ppm` makes of x: the target comes later and later.

    By a truncated sinc, so not by the way in which it is undone.
    """
    position = np.arange(round(len(x) * (1 + 1e-6 * ppm))) / (1 + 1e-6 * ppm)
    whole = np.floor(position).astype(int)
    out = np.zeros(len(position))
    for k in range(-24, 25):
        at = np.clip(whole + k, 0, len(x) - 1)
        distance = position - (whole + k)
        out += x[at] * np.sinc(distance) * np.cos(np.pi * distance / 50) ** 2
    return out.astype(np.float32)


def pair(target: np.ndarray) -> Recording:
    n = min(len(DRY), len(target))
    return Recording(DRY[:n], target[:n].astype(np.float32), RATE, "pair")


@pytest.mark.parametrize("ppm", [-80.0, 40.0, 200.0])
def test_a_drift_is_found_and_undone(ppm):
    clean = device(DRY)
    recording = pair(stretched(clean, ppm))
    drift = estimate_drift(recording)
    assert drift.drifts and not drift.jumps
    assert drift.ppm == pytest.approx(ppm, abs=3)
    assert drift.total == pytest.approx(1e-6 * ppm * len(recording), abs=4)
    mended = straighten(recording, drift)
    n = len(mended) - RATE  # the last second of a fast clock has no sound
    before = esr(clean[:n], recording.target[:n])
    after = esr(clean[:n], mended.target[:n])
    assert after < 0.03 and after < before / 10
    assert abs(estimate_drift(mended).total) <= TOLERANCE


def test_a_steady_lag_is_no_drift():
    late = np.concatenate([np.zeros(500), device(DRY)])
    drift = estimate_drift(pair(-late))
    assert drift.known and not drift.drifts and not drift.jumps
    assert drift.slope == 0 and abs(drift.lag - 500) <= 2


def test_a_lost_buffer_is_a_jump():
    target = device(DRY)
    lost = np.concatenate([target[: 9 * RATE], target[9 * RATE + 512 :]])
    drift = estimate_drift(pair(lost))
    assert drift.jumps and not drift.drifts
    low, high = drift.jump_at
    assert low - 3 <= 9 <= high + 3


@pytest.mark.parametrize("seconds", [0.5, 4.9, 6.0])
def test_too_short_is_unknown(seconds):
    drift = estimate_drift(pair(device(DRY)).cut(0, seconds))
    assert not drift.known and not drift.drifts and not drift.jumps
