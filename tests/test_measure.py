"""Levels, spectra, curves and settling times of signals whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from tinyamp.files import InputError
from tinyamp.measure import (
    harmonic_levels,
    impulse_response,
    magnitude_spectrum,
    peak_db,
    rms_db,
    settling_time,
    transfer_curve,
)

RATE = 44_100


def sine(frequency: float, amplitude: float = 1.0, seconds: float = 1.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


def test_levels() -> None:
    assert rms_db(np.ones(10)) == 0.0
    assert rms_db(sine(100, 0.5)) == pytest.approx(20 * np.log10(0.5) - 3.0103, abs=1e-3)
    assert peak_db(np.array([0.1, -0.5])) == pytest.approx(-6.0206, abs=1e-3)
    assert rms_db(np.zeros(10)) == peak_db(np.zeros(10)) == -200.0


@pytest.mark.parametrize("bad", [np.zeros(0), np.zeros((2, 3)), np.array([0.0, np.nan])])
def test_bad_signals(bad: np.ndarray) -> None:
    for measure in (rms_db, peak_db, magnitude_spectrum):
        with pytest.raises(InputError):
            measure(bad)


def test_the_spectrum_shows_sines_at_their_level() -> None:
    frequencies, level = magnitude_spectrum(sine(1000, 0.1) + sine(5000, 0.01), RATE)
    assert frequencies[np.argmax(level)] == pytest.approx(1000, abs=5)
    assert level.max() == pytest.approx(-20 - 3.01, abs=0.05)
    near = np.abs(frequencies - 5000) < 20
    assert level[near].max() == pytest.approx(-40 - 3.01, abs=0.05)
    assert level[(frequencies > 8000)].max() < -100
    assert np.isfinite(magnitude_spectrum(np.zeros(100))[1]).all()


def test_harmonics_of_a_polynomial() -> None:
    # x = a sin: x + x³ has harmonics a + 3a³/4 and a³/4, x² has a²/2 at the second.
    a = 0.5
    levels, thd = harmonic_levels(
        lambda x: x + x**2 + x**3, level_db=20 * np.log10(a), frequency=220, harmonics=3
    )
    wanted = np.array([a + 0.75 * a**3, a**2 / 2, a**3 / 4])
    np.testing.assert_allclose(levels, 20 * np.log10(wanted), atol=1e-3)
    assert thd == pytest.approx(np.hypot(*wanted[1:]) / wanted[0], rel=1e-4)
    assert len(harmonic_levels(lambda x: x, frequency=9000)[0]) == 2  # 9 and 18 kHz


def test_the_transfer_curve_is_the_curve() -> None:
    curves = transfer_curve(np.tanh, levels_db=(-20.0, 0.0), frequency=100, periods=3)
    assert len(curves) == 2
    for (x, y), peak in zip(curves, (0.1, 1.0), strict=True):
        assert len(x) == len(y) == 3 * 441
        assert np.abs(x).max() == pytest.approx(peak, rel=1e-3)
        np.testing.assert_allclose(y, np.tanh(x), atol=1e-6)


@pytest.mark.parametrize("tau", [0.002, 0.05])
def test_settling_of_an_exponential(tau: float) -> None:
    """A one-pole low-pass falls by 60 dB in 6.9 time constants after the pulse of 1 ms."""
    pole = np.exp(-1 / (RATE * tau))
    found = settling_time(lambda x: 0.3 + lfilter([1 - pole], [1, -pole], x), duration=1.0)
    assert found == pytest.approx(1e-3 + tau * np.log(1000), abs=2 / RATE)
    half = settling_time(
        lambda x: lfilter([1 - pole], [1, -pole], x), duration=1.0, level_db=-30, width=1 / RATE
    )
    assert half == pytest.approx(tau * np.log(1000) / 2, abs=2 / RATE)


def test_settling_that_cannot_be_said() -> None:
    with pytest.raises(InputError, match="not settled"):
        settling_time(np.cumsum, duration=0.1)
    with pytest.raises(InputError, match="no finite response"):
        settling_time(np.zeros_like, duration=0.1)
    with pytest.raises(InputError, match="below 0 dB"):
        settling_time(lambda x: x, duration=0.1, level_db=3.0)


def test_the_impulse_is_as_described() -> None:
    response = impulse_response(lambda x: 2 * x + 0.1, amplitude=0.5, width=0.01, duration=0.1)
    assert len(response) == 4410
    np.testing.assert_allclose(response, np.repeat([1.0, 0.0], [441, 3969]), atol=1e-6)
