"""Capture signals: sweeps, staircases and noise that show a device all its levels in seconds.

Playing alone leaves gaps: levels and pitches that a performance never holds still. A model that
has met these signals in training fills them; they are mixed into the training input only.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from tinyamp.strings import SAMPLE_RATE

PEAK = 10 ** (-4.1 / 20)  # as high as the loudest playing


def _level(rng: np.random.Generator, low: float = -50.0, high: float = 0.0) -> float:
    """A gain drawn evenly in dB below `PEAK`."""
    return PEAK * 10 ** (rng.uniform(low, high) / 20)


def _coloured(n: int, rng: np.random.Generator) -> np.ndarray:
    """Noise with the slope of a guitar: flat to some hundred Hz, then falling; RMS 1, (time,)."""
    noise = rng.standard_normal(n + 2000)
    for corner in (rng.uniform(300, 1500), rng.uniform(1500, 6000)):
        pole = np.exp(-2 * np.pi * corner / SAMPLE_RATE)
        noise = lfilter([1.0 - pole], [1.0, -pole], noise)
    pole = np.exp(-2 * np.pi * rng.uniform(30, 80) / SAMPLE_RATE)
    noise = lfilter([1.0, -1.0], [1.0, -pole], noise)[2000:]
    return noise / max(noise.std(), 1e-9)


def _sweep(n: int, rng: np.random.Generator) -> np.ndarray:
    """Logarithmic sweep, up or down, at one level."""
    low, high = rng.uniform(25, 60), rng.uniform(6000, 16_000)
    t = np.arange(n) / n
    phase = 2 * np.pi * low * (n / SAMPLE_RATE) * ((high / low) ** t - 1) / np.log(high / low)
    wave = np.sin(phase + rng.uniform(0, 2 * np.pi)) * _level(rng, -36)
    return wave[::-1].copy() if rng.random() < 0.4 else wave


def _stairs(n: int, rng: np.random.Generator, wave: np.ndarray) -> np.ndarray:
    """The wave, of peak about 1, at steps of level from low to high or back, or shuffled."""
    steps = int(rng.integers(5, 10))
    levels = np.linspace(rng.uniform(-55, -35), 0.0, steps)
    order = rng.integers(3)
    levels = levels[::-1] if order == 0 else rng.permutation(levels) if order == 1 else levels
    each = -(-n // steps)
    gain = np.repeat(10 ** (levels / 20), each)[:n]
    gain = lfilter([0.01], [1.0, -0.99], gain, zi=[0.99 * gain[0]])[0]
    return PEAK * gain * wave


def _sine_stairs(n: int, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(n) / SAMPLE_RATE
    frequency = 55 * 2 ** rng.uniform(0, 5)
    return _stairs(n, rng, np.sin(2 * np.pi * frequency * t + rng.uniform(0, 6)))


def _noise_stairs(n: int, rng: np.random.Generator) -> np.ndarray:
    return _stairs(n, rng, np.clip(0.3 * _coloured(n, rng), -1, 1))


def _bursts(n: int, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise in bursts that decay like notes, at any level, with silence between."""
    wave = np.zeros(n)
    at = 0
    while at < n:
        length = int(rng.uniform(0.08, 0.45) * SAMPLE_RATE)
        t = np.arange(min(length, n - at)) / SAMPLE_RATE
        wave[at : at + len(t)] = (
            0.4 * _level(rng, -42) * _coloured(len(t), rng) * np.exp(-t * rng.uniform(2, 25))
        )
        at += length + int(rng.uniform(0.0, 0.12) * SAMPLE_RATE)
    return wave


def _two_tones(n: int, rng: np.random.Generator) -> np.ndarray:
    """Two sines an interval apart, swelling and fading: the device's intermodulation."""
    t = np.arange(n) / SAMPLE_RATE
    low = 60 * 2 ** rng.uniform(0, 4)
    high = low * 2 ** (rng.choice([3, 4, 5, 7, 12, 19]) / 12 + rng.normal(0, 0.003))
    wave = 0.5 * (np.sin(2 * np.pi * low * t) + np.sin(2 * np.pi * high * t + rng.uniform(0, 6)))
    swell = np.sin(np.pi * np.arange(n) / n * rng.integers(1, 4)) ** 2
    return _level(rng, -12) * wave * swell


KINDS = (_sweep, _bursts, _sine_stairs, _noise_stairs, _two_tones)


def capture_signal(seconds: float, *, seed) -> np.ndarray:
    """Capture signal of `seconds`: float32 (time,), peak at most −4.1 dBFS.

    Sweeps, bursts, staircases and two-tone signals of half a second to one second each follow
    one another in a random order that comes back to every kind. `seed`: int or list of int.
    """
    rng = np.random.default_rng(seed)
    samples = round(seconds * SAMPLE_RATE)
    wave = np.zeros(samples)
    at, order = 0, []
    while at < samples:
        if not order:
            order = list(rng.permutation(len(KINDS)))
        n = min(samples - at, int(rng.uniform(0.5, 1.0) * SAMPLE_RATE))
        piece = KINDS[order.pop()](n, rng)
        edge = min(n // 2, 220)  # 5 ms: no click between kinds
        piece[:edge] *= np.linspace(0.0, 1.0, edge)
        piece[n - edge :] *= np.linspace(1.0, 0.0, edge)
        wave[at : at + n] = piece
        at += n
    return np.clip(wave, -PEAK, PEAK).astype(np.float32)
