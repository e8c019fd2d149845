"""The lag and polarity that were put in are found again, through distortion and filters."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.signal import butter, lfilter

from tinyamp.align import TOLERANCE, Alignment, estimate_alignment

RATE = 44_100
MARGIN = 3000


def plucks(seconds: float, seed: int) -> np.ndarray:
    """Decaying harmonic tones at random times and pitches, and a noise floor."""
    rng = np.random.default_rng(seed)
    x = 1e-4 * rng.standard_normal(int(seconds * RATE))
    t = np.arange(RATE // 2) / RATE
    for start in np.cumsum(rng.uniform(0.08, 0.3, int(seconds * 5))):
        f = 82.4 * 2 ** (rng.integers(0, 30) / 12)
        note = sum(np.sin(2 * np.pi * f * k * t) * np.exp(-t * (3 + k)) / k for k in range(1, 9))
        at = int(start * RATE)
        piece = x[at : at + len(t)]
        piece += (0.15 * note * rng.uniform(0.2, 1))[: len(piece)]
    return x.astype(np.float32)


SIGNAL = plucks(3.0, 0)
DEVICES = {
    "nothing": lambda x: x,
    "quiet": lambda x: 1e-2 * x,
    "tanh": lambda x: np.tanh(3 * x),
    "fuzz": lambda x: np.tanh(100 * x),
    "asymmetric": lambda x: np.maximum(np.tanh(20 * x), -0.3),
    "low-pass 800 Hz": lambda x: lfilter(*butter(1, 800, fs=RATE), x),
    "low-pass 5 kHz": lambda x: lfilter(*butter(1, 5000, fs=RATE), x),
    "high-pass 700 Hz": lambda x: lfilter(*butter(1, 700, "high", fs=RATE), x),
    "fuzz and low-pass": lambda x: lfilter(*butter(1, 1500, fs=RATE), np.tanh(30 * x)),
    "fuzz and cabinet": lambda x: lfilter(*butter(2, (80, 5000), "band", fs=RATE), np.tanh(30 * x)),
}


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(lag=st.integers(-MARGIN, MARGIN), inverted=st.booleans())
def test_finds_what_was_put_in(device: str, lag: int, inverted: bool) -> None:
    y = DEVICES[device](SIGNAL) * (-1 if inverted else 1)
    length = len(SIGNAL) - 2 * MARGIN
    x, y = SIGNAL[MARGIN:][:length], y[MARGIN - lag :][:length]
    found = estimate_alignment(x, y)
    assert abs(found.lag - lag) <= TOLERANCE
    assert found.inverted == inverted
    assert found.clear


def test_exact_without_a_device() -> None:
    for lag in (-1234, -1, 0, 1, 777):
        x, y = SIGNAL[MARGIN:-MARGIN], SIGNAL[MARGIN - lag : -MARGIN - lag]
        assert estimate_alignment(x, y).lag == lag


@pytest.mark.parametrize("rate", [22_050, 48_000, 96_000])
def test_other_sample_rates(rate: int) -> None:
    found = estimate_alignment(SIGNAL[200:], np.tanh(5 * SIGNAL[:-200]), sample_rate=rate)
    assert abs(found.lag - 200) <= TOLERANCE
    assert not found.inverted


@pytest.mark.parametrize("seed", range(1, 6))
def test_unrelated_signals_are_not_clear(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2, 3 * RATE)).astype(np.float32)
    assert not estimate_alignment(noise[0], noise[1]).clear
    assert not estimate_alignment(SIGNAL, noise[0]).clear


@pytest.mark.parametrize("length", [0, 1, 2, 100])
def test_no_content_is_not_clear(length: int) -> None:
    silence = np.zeros(length, np.float32)
    assert estimate_alignment(silence, silence) == Alignment(0, False, 0.0)


def test_what_is_good() -> None:
    assert Alignment(TOLERANCE, False, 20.0).good
    assert Alignment(-3, False, 20.0).good
    assert not Alignment(TOLERANCE + 1, False, 20.0).good
    assert not Alignment(0, True, 20.0).good


def test_real_amplifier(real_audio) -> None:
    """Three recordings of one miked amplifier: aligned to within two samples, inverted."""
    inputs = sorted((real_audio / "fender-hotrod-deluxe3").glob("*-input.flac"))
    assert len(inputs) == 3
    for path in inputs:
        x, _ = soundfile.read(path, dtype="float32")
        y, _ = soundfile.read(str(path).replace("-input", "-target"), dtype="float32")
        for shift in (0, 1500):
            found = estimate_alignment(x[shift:], y[: len(y) - shift])
            assert abs(found.lag - shift) <= 2
            assert found.inverted
            assert found.clear
            assert not found.good
