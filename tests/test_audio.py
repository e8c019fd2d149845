"""Every kind of bad file gives one clear `InputError`; good ones are read and written exactly."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tinyamp.audio import (
    DataWarning,
    count_clipped,
    quantise,
    read_audio,
    resample,
    write_audio,
)
from tinyamp.files import InputError

RATE = 44_100


def noise(samples: int = RATE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(), RATE, subtype="PCM_16")
    return path


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_what_is_written_is_read_back(tmp_path: Path, subtype: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    x = noise()
    x[:4] = 1.0, -1.0, 1.5, -1.5
    write_audio(path, x, 48_000, subtype=subtype)
    y, rate = read_audio(path, expected_rate=None)
    assert rate == 48_000
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, quantise(x, int(subtype[-2:])))
    np.testing.assert_allclose(y, np.clip(x, -1, 1), atol=2.0 ** (1 - int(subtype[-2:])))
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_quantise_is_idempotent() -> None:
    x = quantise(noise())
    np.testing.assert_array_equal(quantise(x), x)


@pytest.mark.parametrize("name", ["a.mp3", "a", "a.wav.txt"])
def test_writes_only_wav_and_flac(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"must end in \.wav or \.flac"):
        write_audio(tmp_path / name, noise())
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def full(path: str, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"RIFF, and then the disk was full")
        raise soundfile.LibsndfileError(2, "Error : ")

    monkeypatch.setattr(soundfile, "write", full)
    with pytest.raises(InputError, match="could not be written"):
        write_audio(tmp_path / "a.wav", noise())
    assert not list(tmp_path.iterdir())


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """One file for each way of being bad, and what the message has to say."""
    x = noise()
    cases: dict[str, tuple[Path, str]] = {}

    def add(name: str, says: str, content: bytes | None = None, **how: object) -> None:
        path = folder / name
        if content is not None:
            path.write_bytes(content)
        elif how:
            soundfile.write(path, how.pop("x"), how.pop("rate", RATE), **how)
        cases[name] = (path, says)

    add("missing.wav", "There is no file")
    (folder / "folder.wav").mkdir()
    add("folder.wav", "is a folder")
    add("zero-bytes.wav", r"is empty \(0 bytes\)", b"")
    add("text.wav", "is not a WAV, FLAC or AIFF file", b"this is not audio at all" * 99)
    add("only-magic.wav", "cannot be read as audio", b"RIFF")
    add("only-magic.flac", "cannot be read as audio", b"fLaC")
    add("zero-frames.wav", "holds no audio", x=np.zeros(0))
    soundfile.write(folder / "t.wav", x, RATE, subtype="PCM_16")
    add("truncated.wav", "is cut short", (folder / "t.wav").read_bytes()[:30_000])
    (folder / "t.wav").unlink()
    soundfile.write(folder / "t.aiff", x, RATE)
    add("truncated.aiff", "is cut short", (folder / "t.aiff").read_bytes()[:30_000])
    (folder / "t.aiff").unlink()
    soundfile.write(folder / "t.flac", x, RATE)
    add("truncated.flac", "is cut short|damaged", (folder / "t.flac").read_bytes()[:30_000])
    (folder / "t.flac").unlink()
    bad = x.copy()
    bad[441:443] = np.nan, np.inf
    add("nan.wav", r"2 samples that are NaN or infinite, the first at 0\.010 s", x=bad,
        subtype="FLOAT")  # fmt: skip
    add("silent.wav", "is silent from end to end", x=0 * x)
    add("constant.wav", "is silent from end to end", x=0 * x + 0.25)
    add("scale.wav", "full scale is 1", x=32768 * x, subtype="FLOAT")
    add("rate.wav", "is at 48000 Hz; expected 44100 Hz.*--resample", x=x, rate=48_000)
    add("odd-rate.wav", "sample rate is 100 Hz", x=x, rate=100)
    stereo = np.stack([x, 0.1 * noise(seed=1)], axis=1)
    add("stereo.wav", r"has 2 channels.*the left one would be used.*--channel left", x=stereo)
    return cases


def test_bad_files(tmp_path: Path) -> None:
    for name, (path, says) in bad_files(tmp_path).items():
        with pytest.raises(InputError, match=says) as caught:
            read_audio(path)
        assert str(path) in str(caught.value), name
        assert "\n" not in str(caught.value), name


def test_aiff_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.aiff"
    soundfile.write(path, noise(), RATE, subtype="PCM_24")
    np.testing.assert_allclose(read_audio(path)[0], noise(), atol=2**-22)


def test_wav_of_unknown_length_is_read(wav: Path) -> None:
    """Programs that stream leave the largest number as the length; that is not a cut."""
    content = bytearray(wav.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", 0xFFFF_FFFF)
    wav.write_bytes(content)
    assert len(read_audio(wav)[0]) == RATE


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=300), magic=st.sampled_from([b"", b"RIFF", b"fLaC", b"FORM"]))
@example(content=b"", magic=b"")
@example(content=b"\x00\x00\x00\x22" + b"\xff" * 34, magic=b"fLaC")
def test_random_bytes_are_refused(tmp_path: Path, content: bytes, magic: bytes) -> None:
    path = tmp_path / "random.wav"
    path.write_bytes(magic + content)
    with pytest.raises(InputError):
        read_audio(path)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    ending=st.sampled_from(["wav", "flac"]),
    keep=st.one_of(st.none(), st.integers(0, 4000)),
)
def test_damaged_files_are_refused_or_read(tmp_path, data, ending, keep) -> None:
    """A few bytes of a real file changed, or its end cut off: never anything but `InputError`."""
    path = tmp_path / f"damaged.{ending}"
    soundfile.write(path, noise(2000), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, min(80, len(content) - 1)))] = data.draw(
            st.integers(0, 255)
        )
    path.write_bytes(content[:keep])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            x, rate = read_audio(path, channel=0)
        except InputError as error:
            assert str(path) in str(error)
        else:
            assert x.ndim == 1
            assert np.isfinite(x).all()
            assert rate == RATE


def test_channels(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    both = np.stack([noise(seed=0), 0.5 * noise(seed=1)], axis=1)
    soundfile.write(path, both, RATE, subtype="FLOAT")
    for channel, expected in (
        (0, both[:, 0]),
        ("left", both[:, 0]),
        (1, both[:, 1]),
        ("right", both[:, 1]),
        ("mix", both.mean(axis=1)),
    ):
        np.testing.assert_allclose(read_audio(path, channel=channel)[0], expected, atol=1e-7)
    for channel in (2, -1, "centre"):
        with pytest.raises(InputError, match="channel must be"):
            read_audio(path, channel=channel)
    soundfile.write(path, both[:, ::-1], RATE)
    with pytest.raises(InputError, match="the right one would be used"):
        read_audio(path)


def test_equal_channels_need_no_choice(tmp_path: Path) -> None:
    path = tmp_path / "dual.wav"
    soundfile.write(path, np.stack([noise()] * 2, axis=1), RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(path)[0], noise())


def test_clipping_is_counted() -> None:
    x = 0.5 * noise()
    assert count_clipped(x) == 0
    x[100:103] = 1.0
    x[200:205] = -1.0
    x[300:302] = 1.0  # too short a run
    assert count_clipped(x) == 8
    assert count_clipped(0.9 * x) == 0
    assert count_clipped(np.zeros(0)) == 0


def test_clipping_warns(tmp_path: Path) -> None:
    path = tmp_path / "hot.wav"
    soundfile.write(path, np.clip(20 * noise(), -1, 1), RATE, subtype="PCM_16")
    with pytest.warns(DataWarning, match=r"hot\.wav is clipped: \d+ samples"):
        read_audio(path)


@pytest.mark.parametrize(("rate", "new_rate"), [(48_000, 44_100), (44_100, 96_000), (96_000, 8000)])
def test_resampling_keeps_sines_and_removes_the_rest(rate: int, new_rate: int) -> None:
    lower = min(rate, new_rate) / 2
    frequency = 0.8 * lower
    t, new_t = np.arange(rate) / rate, np.arange(new_rate) / new_rate
    y = resample(np.sin(2 * np.pi * frequency * t).astype(np.float32), rate, new_rate)
    assert len(y) == new_rate
    middle = slice(new_rate // 10, -new_rate // 10)
    np.testing.assert_allclose(y[middle], np.sin(2 * np.pi * frequency * new_t)[middle], atol=2e-5)
    if new_rate < rate:
        alias = resample(np.sin(2 * np.pi * 1.1 * lower * t), rate, new_rate)
        assert np.abs(alias[middle]).max() < 1e-5


def test_rates_without_a_common_measure_are_refused() -> None:
    with pytest.raises(InputError, match="audio editor"):
        resample(noise(), 44_101, 44_100)


def test_resample_on_request(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(48_000), 48_000)
    x, rate = read_audio(path, resample_to_expected=True)
    assert (len(x), rate) == (44_100, 44_100)
