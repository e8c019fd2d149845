"""Recordings: pairs are checked, mended on request, cut, and found on disk."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from test_align import plucks

from tinyamp import circuits, guitar
from tinyamp.audio import SAMPLE_RATE, DataWarning, write_audio
from tinyamp.data import (
    SEGMENT,
    SIMULATED,
    SPLITS,
    Recording,
    load,
    load_excerpt,
    load_full,
    read_pair,
    segments,
)
from tinyamp.files import InputError

RATE = 44_100
DRY = plucks(2.0, 3)
WET = np.tanh(5 * DRY).astype(np.float32) * 0.8


def write(folder: Path, x: np.ndarray = DRY, y: np.ndarray = WET, **rates: int) -> list[Path]:
    """Write a pair; `x_rate` and `y_rate` are its sample rates."""
    paths = [folder / "dry.wav", folder / "wet.wav"]
    soundfile.write(paths[0], x, rates.get("x_rate", RATE), subtype="FLOAT")
    soundfile.write(paths[1], y, rates.get("y_rate", RATE), subtype="FLOAT")
    return paths


def test_the_names_are_those_of_the_modules_before() -> None:
    assert tuple(circuits.DEVICES) == SIMULATED
    assert tuple(guitar.SECONDS) == SPLITS
    assert guitar.SAMPLE_RATE == SAMPLE_RATE


def test_reads_a_good_pair_without_a_word(tmp_path: Path) -> None:
    recording = read_pair(*write(tmp_path))
    np.testing.assert_array_equal(recording.input, DRY)
    np.testing.assert_array_equal(recording.target, WET)
    assert recording.sample_rate == RATE
    assert recording.seconds == 2.0
    assert recording.name == "wet"


def test_different_lengths(tmp_path: Path) -> None:
    paths = write(tmp_path, y=WET[:-100])
    with pytest.raises(InputError, match=r"88200 samples .* 88100 .*trim=True \(--trim\)"):
        read_pair(*paths)
    assert len(read_pair(*paths, trim=True)) == 88_100


def test_different_rates(tmp_path: Path) -> None:
    paths = write(tmp_path, x_rate=48_000)
    with pytest.raises(InputError, match=r"48000 Hz and .* 44100 Hz; both must have one rate"):
        read_pair(*paths)
    with pytest.raises(InputError, match="both must have one rate"):
        read_pair(*paths, expected_rate=None)


def test_another_rate_than_the_model(tmp_path: Path) -> None:
    paths = write(tmp_path, x_rate=48_000, y_rate=48_000)
    with pytest.raises(InputError, match=r"at 48000 Hz, and the model is for 44100.*--resample"):
        read_pair(*paths)
    assert read_pair(*paths, expected_rate=None).sample_rate == 48_000
    assert read_pair(*paths, expected_rate=48_000).sample_rate == 48_000
    recording = read_pair(*paths, resample=True)
    assert recording.sample_rate == RATE
    assert len(recording) == int(np.ceil(len(DRY) * 44.1 / 48))


def test_two_rates_are_both_converted(tmp_path: Path) -> None:
    from tinyamp.audio import resample

    paths = write(tmp_path, x=resample(DRY, 44_100, 48_000), x_rate=48_000)
    recording = read_pair(*paths, resample=True)
    assert len(recording) == len(DRY)
    np.testing.assert_allclose(recording.input[4000:-4000], DRY[4000:-4000], atol=2e-3)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lambda x: 0 * x, "is silent"),
        (lambda x: np.where(np.arange(len(x)) == 7, np.nan, x), "NaN or infinite"),
        (lambda x: np.stack([x, 0.5 * x], 1), "2 channels"),
        (lambda x: x[:0], "no audio"),
    ],
)
def test_either_side_is_checked(tmp_path: Path, side: int, fault, says: str) -> None:
    pair = [DRY, WET]
    pair[side] = fault(pair[side])
    paths = write(tmp_path, *pair)
    with pytest.raises(InputError, match=says) as caught:
        read_pair(*paths)
    assert str(paths[side]) in str(caught.value)


def test_a_channel_is_taken_from_both(tmp_path: Path) -> None:
    paths = write(tmp_path, y=np.stack([0.1 * WET, WET], 1))
    np.testing.assert_array_equal(read_pair(*paths, channel="right").target, WET)


def test_shorter_than_a_segment(tmp_path: Path) -> None:
    at = RATE // 2
    with pytest.raises(InputError, match=r"at least one segment of 0.5 s"):
        read_pair(*write(tmp_path, DRY[:22_049], WET[:22_049]))
    piece = slice(at, at + 22_050)
    assert len(read_pair(*write(tmp_path, DRY[piece], WET[piece]), check_alignment=False)) == 22_050


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("lag", [0, 3, -3, 500, -500])
def test_alignment_is_reported_and_fixed(tmp_path: Path, lag: int, sign: int) -> None:
    x, y = DRY[1000:-1000], sign * WET[1000 - lag : len(WET) - 1000 - lag]
    paths = write(tmp_path, x, y)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        recording = read_pair(*paths)
    np.testing.assert_array_equal(recording.target, y)  # reported, not touched
    text = " ".join(str(w.message) for w in said)
    assert ("samples" in text) == (abs(lag) == 500)
    if lag in (500, -500):
        assert "500 samples (11.34 ms) " + ("late" if lag > 0 else "early") in text
    assert ("inverted" in text) == (sign < 0)
    assert ("--fix-alignment" in text) == bool(said) == (abs(lag) == 500 or sign < 0)

    mended = read_pair(*paths, fix_alignment=True)  # and without a warning
    shift = lag if abs(lag) == 500 else 0
    assert len(mended) == len(x) - abs(shift)
    residue = 0 if shift else lag  # a device's own delay stays
    a, b = mended.input[10:-10], np.roll(mended.target, -residue)[10:-10]
    np.testing.assert_allclose(b, np.tanh(5 * a) * 0.8, atol=1e-6)


def test_unrelated_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = write(tmp_path, y=rng.uniform(-0.5, 0.5, len(DRY)))
    with pytest.warns(DataWarning, match="no clear likeness"):
        read_pair(*paths)
    with pytest.raises(InputError, match="two sides of one recording"):
        read_pair(*paths, fix_alignment=True)


@given(
    length=st.integers(1, 500),
    samples=st.integers(0, 2000),
)
def test_segments_are_the_beginning_in_order(length: int, samples: int) -> None:
    x = np.arange(samples, dtype=np.float32)
    recording = Recording(x, -x)
    if samples < length:
        with pytest.raises(InputError, match="not one segment"):
            segments(recording, length)
        return
    a, b = segments(recording, length)
    assert a.shape == b.shape == (samples // length, length)
    np.testing.assert_array_equal(a.ravel(), x[: a.size])
    np.testing.assert_array_equal(b, -a)


def test_segments_are_half_a_second() -> None:
    assert segments(Recording(DRY, WET))[0].shape == (4, SEGMENT) == (4, 22_050)
    with pytest.raises(InputError):
        segments(Recording(DRY, WET), 0)


def test_cut() -> None:
    recording = Recording(DRY, WET, name="x")
    part = recording.cut(0.5, 1.5)
    np.testing.assert_array_equal(part.input, DRY[22_050:66_150])
    np.testing.assert_array_equal(part.target, WET[22_050:66_150])
    assert recording.cut(1.0).seconds == 1.0
    for start, stop in ((-1, 1), (0, 2.5), (1, 1), (1.5, 1)):
        with pytest.raises(InputError, match="Cannot cut"):
            recording.cut(start, stop)


def test_a_recording_is_two_equal_channels() -> None:
    with pytest.raises(InputError, match="one shape"):
        Recording(DRY, WET[:-1])
    with pytest.raises(InputError, match="one shape"):
        Recording(DRY[:, None], WET[:, None])


@pytest.fixture
def folders(tmp_path: Path, monkeypatch) -> Path:
    """Empty folders of excerpts and made sets."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("TINYAMP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TINYAMP_MADE", str(tmp_path / "made"))
    return tmp_path


def put(path: Path, x: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, x, subtype="PCM_16")


def test_load_prefers_the_full_set(folders: Path) -> None:
    excerpt, full = folders / "data/excerpts/train", folders / "made/full/train"
    with pytest.raises(InputError, match="`tinyamp data make --device sim-lead`"):
        load("sim-lead", "train")
    put(excerpt / "input.flac", DRY[:44_100])
    put(excerpt / "sim-lead-target.flac", -WET[:44_100])
    assert load("sim-lead", "train").seconds == load_excerpt("sim-lead", "train").seconds == 1.0
    with pytest.raises(InputError, match="full"):
        load_full("sim-lead", "train")
    put(full / "input.flac", DRY)
    put(full / "sim-lead-target.flac", WET)
    assert load("sim-lead", "train").seconds == 1.0  # not whole yet: its parts are not mixed in
    for split in ("validation", "test"):
        put(full.parent / split / "input.flac", DRY)
        put(full.parent / split / "sim-lead-target.flac", WET)
    assert load("sim-lead", "train").seconds == load_full("sim-lead", "train").seconds == 2.0
    assert load("sim-lead", "train", source="excerpt").seconds == 1.0
    assert load("sim-lead", "train", seconds=0.75).seconds == 0.75
    with pytest.raises(InputError, match=r"excerpt .* has 1 s, and 3 s .*data make"):
        load_excerpt("sim-lead", "train", seconds=3)
    with pytest.raises(InputError, match="Cannot cut"):
        load_full("sim-lead", "train", seconds=3)


def test_load_the_authors_recordings(folders: Path) -> None:
    with pytest.raises(InputError, match="`tinyamp data fetch ht1`"):
        load("ht1", "test")
    put(folders / "made/authors/test/ht1-input.wav", DRY)
    put(folders / "made/authors/test/ht1-target.wav", WET)
    recording = load("ht1", "test")
    assert recording.name == "ht1 test"
    assert len(recording) == len(DRY)
    with pytest.raises(InputError, match="no data of source 'full'"):
        load("ht1", "test", source="full")


def test_load_refuses_unknown_names(folders: Path) -> None:
    for wrong in (("sim-fuzz", "train", "auto"), ("sim-muff", "val", "auto"),
                  ("sim-muff", "train", "web")):  # fmt: skip
        with pytest.raises(InputError, match=r"There is no .*choose from"):
            load(wrong[0], wrong[1], source=wrong[2])


def test_a_damaged_set_is_reported(folders: Path) -> None:
    put(folders / "made/full/train/input.flac", DRY)
    (folders / "made/full/train/sim-muff-target.flac").write_bytes(b"fLaC")
    with pytest.raises(InputError, match=r"sim-muff-target\.flac cannot be read"):
        load_full("sim-muff", "train")
