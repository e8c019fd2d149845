"""Spectral distance and ESR by octave, against their definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
from common import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt, stft

from tinyamp.distance import (
    CENTRES,
    POWER_FLOOR,
    RESOLUTIONS,
    octave_esr,
    stft_distance,
    stft_magnitude,
)
from tinyamp.files import InputError
from tinyamp.losses import esr

RATE = 44_100
TARGET = noise(6000, 1)
PREDICTION = TARGET + 0.1 * noise(6000, 2)


def by_definition(x: np.ndarray, size: int, hop: int, window: int) -> np.ndarray:
    """The discrete Fourier transform of each frame, as a sum: (size / 2 + 1, frames)."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    before = (size - window) // 2
    padded = np.pad(np.asarray(x, dtype=np.float64), size // 2, mode="reflect")
    n = np.arange(window) + before
    kernel = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), n) / size)
    frames = [padded[start + n] * hann for start in range(0, len(x) + 1, hop)]
    return np.maximum(np.abs(kernel @ np.array(frames).T), np.sqrt(POWER_FLOOR))


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_magnitudes_are_those_of_the_definition(resolution):
    x = noise(3000, 3)
    found = stft_magnitude(x, *resolution)
    np.testing.assert_allclose(found, by_definition(x, *resolution), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_magnitudes_are_those_of_scipy(resolution):
    size, hop, window = resolution
    x = noise(3000, 4)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    side = (size - window) // 2
    framed = np.pad(hann, (side, size - window - side))
    padded = np.pad(x.astype(np.float64), size // 2, mode="reflect")
    options = {"nperseg": size, "noverlap": size - hop, "boundary": None, "padded": False}
    _, _, spectrum = stft(padded, window=framed, **options)
    spectrum = spectrum * framed.sum()  # SciPy divides by the sum of the window
    wanted = np.maximum(np.abs(spectrum), np.sqrt(POWER_FLOOR))
    np.testing.assert_allclose(stft_magnitude(x, *resolution), wanted, rtol=1e-9, atol=1e-12)


def test_distance_is_that_of_the_definition():
    convergence, log_magnitude = [], []
    for resolution in RESOLUTIONS:
        wanted, got = (by_definition(x, *resolution) for x in (TARGET, PREDICTION))
        convergence.append(np.sqrt(((wanted - got) ** 2).sum() / (wanted**2).sum()))
        log_magnitude.append(np.abs(np.log(wanted / got)).sum() / wanted.size)
    found = stft_distance(TARGET, PREDICTION)
    assert found.convergence == pytest.approx(np.mean(convergence), rel=1e-9)
    assert found.log_magnitude == pytest.approx(np.mean(log_magnitude), rel=1e-9)
    assert found.total == found.convergence + found.log_magnitude


def test_settings_are_those_of_yamamoto():
    assert RESOLUTIONS == ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))


def test_distance_of_what_can_be_calculated_by_hand():
    same = stft_distance(TARGET, TARGET)
    assert (same.convergence, same.log_magnitude) == (0.0, 0.0)
    half = stft_distance(TARGET, TARGET / 2)  # all magnitudes are halved
    assert half.convergence == pytest.approx(0.5)
    assert half.log_magnitude == pytest.approx(np.log(2), rel=1e-6)
    # It hears no polarity; the ESR does.
    turned = stft_distance(TARGET, -TARGET)
    assert turned.total == pytest.approx(0.0, abs=1e-12) and esr(TARGET, -TARGET) > 3.9


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_octaves_add_up_to_the_esr(length, seed, scale):
    rng = np.random.default_rng(seed)
    target = rng.standard_normal(length) + 0.1
    prediction = target + scale * rng.standard_normal(length)
    octaves = octave_esr(target, prediction, RATE)
    assert [octave.centre for octave in octaves] == list(CENTRES)
    assert sum(octave.share for octave in octaves) == pytest.approx(1.0)
    total = sum(octave.share * octave.esr for octave in octaves if octave.share > 0)
    # What a band without any target has of the error is in no ratio.
    if all(octave.share > 0 for octave in octaves):
        assert total == pytest.approx(esr(target, prediction), rel=1e-9)


@pytest.mark.parametrize("centre", CENTRES[1:-1])
def test_an_error_lands_in_its_octave(centre):
    t = np.arange(RATE) / RATE
    target = sum(np.sin(2 * np.pi * f * t) for f in CENTRES)
    off = 0.1 * np.sin(2 * np.pi * centre * t)
    octaves = octave_esr(target, target + off, RATE)
    for octave in octaves:
        wanted = 0.01 if octave.centre == centre else 0.0
        assert octave.esr == pytest.approx(wanted, abs=2e-4)
        assert octave.share == pytest.approx(1 / len(CENTRES), abs=2e-3)


def test_octaves_agree_with_a_filter_bank():
    """Butterworth bands are not rectangular, so they agree only roughly."""
    target = noise(2 * RATE, 5).astype(np.float64)
    prediction = target + np.convolve(noise(2 * RATE, 6), [0.2, 0.02], mode="same")
    for octave in octave_esr(target, prediction, RATE)[2:-1]:
        edges = octave.centre / np.sqrt(2), octave.centre * np.sqrt(2)
        band = butter(6, edges, "bandpass", fs=RATE, output="sos")
        filtered = esr(sosfiltfilt(band, target), sosfiltfilt(band, prediction))
        assert octave.esr == pytest.approx(filtered, rel=0.12)


def test_a_band_without_target_has_no_ratio():
    t = np.arange(RATE) / RATE
    octaves = octave_esr(np.full(RATE, 0.5), np.full(RATE, 0.5) + np.sin(2000 * np.pi * t), RATE)
    assert octaves[0].share == 1.0 and octaves[0].esr == pytest.approx(0.0, abs=1e-20)
    assert all(np.isnan(octave.esr) for octave in octaves[1:])


def test_low_rates_have_fewer_octaves():
    assert octave_esr(TARGET, PREDICTION, 8000)[-1].centre == 2000.0


@pytest.mark.parametrize("measure", [stft_distance, octave_esr])
@pytest.mark.parametrize(
    ("target", "prediction", "says"),
    [
        (TARGET, TARGET[:-1], r"\(6000,\) and \(5999,\)"),
        (TARGET[None], TARGET[None], r"\(time,\)"),
        (TARGET, np.where(np.arange(6000) == 5, np.nan, TARGET), "NaN"),
        (np.zeros(6000), TARGET, "silent"),
    ],
)
def test_bad_signals_are_refused(measure, target, prediction, says):
    with pytest.raises(InputError, match=says):
        measure(target, prediction)


def test_too_short_for_a_spectrum():
    with pytest.raises(InputError, match="1025 samples"):
        stft_distance(TARGET[:1024], PREDICTION[:1024])
    assert stft_distance(TARGET[:1025], PREDICTION[:1025]).total > 0


def test_no_octave_at_a_tiny_rate():
    with pytest.raises(InputError, match="no octave"):
        octave_esr(TARGET, PREDICTION, 50)
