"""Two files become a pair: every fault that was put in is found, and mended or named."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from test_align import plucks
from test_drift import stretched

from tinyamp.audio import resample
from tinyamp.files import InputError
from tinyamp.fit_check import GOOD, MENDED, WARNING, check_pair
from tinyamp.losses import esr

RATE = 44_100
DRY = np.concatenate([np.zeros(RATE, np.float32), 0.8 * plucks(12.0, 8)[: 12 * RATE]])
WET = (0.5 * np.tanh(4 * DRY)).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    def write(name: str, x: np.ndarray, rate: int = RATE) -> str:
        path = str(tmp_path / f"{name}.wav")
        soundfile.write(path, x, rate, subtype="FLOAT")
        return path

    return write


def late(x: np.ndarray, samples: int) -> np.ndarray:
    return np.concatenate([np.zeros(samples, np.float32), x])


def check(write, x: np.ndarray, y: np.ndarray, rates=(RATE, RATE), **options):
    recording, checks = check_pair(write("dry", x, rates[0]), write("wet", y, rates[1]), **options)
    return recording, {c.name: c for c in checks}, [c.name for c in checks if c.kind != GOOD]


def test_a_good_pair_is_left_as_it_is(write):
    recording, checks, bad = check(write, DRY, WET)
    assert bad == ["length"] and "record a minute" in checks["length"].found  # 13 s are little
    assert np.array_equal(recording.input, DRY) and np.array_equal(recording.target, WET)
    assert recording.sample_rate == RATE and recording.name == "wet"
    assert {"level", "sample rate", "drift", "lag", "polarity", "noise floor"} <= set(checks)


@pytest.mark.parametrize("lag", [-3000, 777, 40_000])
def test_lag_and_polarity_are_mended(write, lag):
    y = late(-WET, lag) if lag > 0 else -WET[-lag:]
    recording, checks, bad = check(write, DRY, y)
    assert {"lag", "polarity"} <= set(bad)
    assert str(abs(lag)) in checks["lag"].found and "inverted" in checks["polarity"].found
    assert ("late" in checks["lag"].found) == (lag > 0)
    assert np.corrcoef(recording.target, np.tanh(4 * recording.input))[0, 1] > 0.9999


def test_other_rates_are_converted(write):
    y = resample(WET, RATE, 48_000)
    recording, checks, bad = check(write, DRY, y, (RATE, 48_000))
    assert checks["sample rate"].kind == MENDED and "48000" in checks["sample rate"].found
    n = len(recording)
    assert recording.sample_rate == RATE and esr(WET[:n], recording.target) < 1e-3
    assert "lag" not in bad


def test_the_rate_that_both_have_is_kept(write):
    x, y = resample(DRY, RATE, 48_000), resample(WET, RATE, 48_000)
    recording, checks, _ = check(write, x, y, (48_000, 48_000))
    assert recording.sample_rate == 48_000 and checks["sample rate"].kind == GOOD
    recording, checks, _ = check(write, x, y, (48_000, 48_000), sample_rate=RATE)
    assert recording.sample_rate == RATE and checks["sample rate"].kind == MENDED
    recording, _, _ = check(write, DRY, WET, (22_050, 22_050))
    assert recording.sample_rate == RATE and len(recording) == 2 * len(DRY)


def test_a_drifting_clock_is_mended(write):
    recording, checks, _ = check(write, DRY, late(stretched(WET, 120.0), 300))
    assert checks["drift"].kind == MENDED and "ppm" in checks["drift"].found
    n = len(recording)
    assert esr(np.tanh(4 * recording.input), 2 * recording.target[:n]) < 0.05


def test_a_lost_buffer_is_a_warning(write):
    y = np.concatenate([WET[: 7 * RATE], WET[7 * RATE + 700 :]])
    _, checks, _ = check(write, DRY, y)
    assert checks["drift"].kind == WARNING and "jumps" in checks["drift"].found


def test_direct_current_is_taken_off(write):
    recording, checks, _ = check(write, DRY, WET + 0.01)
    assert checks["direct current"].kind == MENDED and "+0.01" in checks["direct current"].found
    assert abs(recording.target.mean(dtype=np.float64)) < 1e-6


def test_clipping_is_named(write):
    _, checks, _ = check(write, DRY, np.clip(8 * WET, -1, 1))
    assert checks["clipping"].kind == WARNING and "wet.wav" in checks["clipping"].found
    _, checks, _ = check(write, DRY, 0.02 * WET)
    assert checks["level"].kind == WARNING and "low" in checks["level"].found


def test_noise_is_measured_where_nothing_is_played(write):
    noise = 0.02 * np.random.default_rng(1).standard_normal(len(WET)).astype(np.float32)
    _, checks, _ = check(write, DRY, WET + noise)
    found = checks["noise floor"]
    assert found.kind == WARNING and "-34 dBFS" in found.found
    expected = np.mean(noise**2) / np.mean((WET + noise) ** 2)
    stated = float(found.found.split("below ")[1].split("%")[0]) / 100
    assert stated == pytest.approx(expected, rel=0.1)
    loud = 0.1 * np.random.default_rng(2).standard_normal(len(DRY)).astype(np.float32)
    _, checks, _ = check(write, DRY + loud, np.tanh(DRY + loud))
    assert "no rest" in checks["noise floor"].found


def test_the_longer_file_is_cut(write):
    recording, checks, _ = check(write, DRY, WET[: -2 * RATE])
    assert len(recording) == len(DRY) - 2 * RATE and "cut" in checks["length"].found
    _, checks, _ = check(write, DRY, WET[: -6 * RATE])
    assert "whole take" in checks["length"].found


def test_the_side_with_sound_is_taken(write):
    for order in (1, -1):
        stereo = np.stack([WET, 1e-6 * WET][::order], axis=1)
        recording, _, _ = check(write, DRY, stereo)
        assert np.array_equal(recording.target, WET)
    recording, _, _ = check(write, DRY, np.stack([WET, 0.5 * WET], axis=1), channel="right")
    assert np.allclose(recording.target, 0.5 * WET)


def test_the_input_itself_is_named(write):
    _, checks, _ = check(write, DRY, DRY)
    assert checks["pair"].kind == WARNING


OTHER = np.random.default_rng(0).standard_normal(len(DRY)).astype(np.float32) / 4
BAD = {
    "another recording": (DRY, OTHER, "no clear likeness"),
    "too short": (DRY, WET[: 3 * RATE], "at least 4 s"),
    "too short once aligned": (DRY[: 5 * RATE], late(WET, int(1.5 * RATE))[: 5 * RATE], "4 s"),
    "two sides": (DRY, np.stack([WET, 0.5 * WET], axis=1), "--channel left"),
    "silent": (DRY, 0 * WET, "silent"),
    "not a number": (DRY, np.where(np.arange(len(WET)) == 9, np.nan, WET), "NaN"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_cannot_be_used_is_one_sentence(write, fault):
    x, y, words = BAD[fault]
    with pytest.raises(InputError, match=words) as caught:
        check_pair(write("dry", x), write("wet", y))
    assert "\n" not in str(caught.value) and "wet.wav" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"RIFF" + bytes(99), b"Hello, this is no audio"])
def test_what_is_no_audio_is_one_sentence(write, tmp_path, content):
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.wav"):
        check_pair(path, write("wet", WET))
