"""Mono audio in and out of files: every check that one recording has to pass, and exact writing."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import firwin, resample_poly

from tinyamp.files import InputError, write_beside

SAMPLE_RATE = 44_100
RATES = (8_000, 384_000)  # Hz, what is believed to be the rate of an audio file
SILENCE = 1e-4  # full scale is 1; 16-bit silence with dither is below this
LOUDEST = 16.0  # 24 dB over full scale: a float file beyond this was saved with the wrong scale
CLIPPED_RUN = 3  # this many equal samples in a row at full scale are called clipped
MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"FORM")
BITS = {"PCM_16": 16, "PCM_24": 24}
CHANNELS = {"left": 0, "right": 1, "mix": "mix"}


class DataWarning(UserWarning):
    """Something about a recording that can be used, but that its owner should know."""


def _seconds(frames: int, rate: int) -> str:
    return f"{frames / rate:.3g} s" if frames < 10 * rate else f"{frames / rate:.1f} s"


def _truncated(path: Path) -> str | None:
    """Say how much is missing when a WAV or AIFF file is shorter than its header says, else None.

    The library that reads these files takes one that ends early for a shorter one.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RIFX", b"FORM"):
            return None
        order = "little" if head[:4] == b"RIFF" else "big"
        size = path.stat().st_size
        while len(chunk := file.read(8)) == 8:
            length = int.from_bytes(chunk[4:], order)
            there = size - file.tell()
            if chunk[:4] in (b"data", b"SSND"):
                if there < length < 0xFFFF_FF00:  # programs that stream write the largest number
                    return f"its header promises {length} bytes of audio and {there} are there"
                return None
            file.seek(length + length % 2, 1)
    return None


def _read_all(path: Path) -> tuple[np.ndarray, int]:
    """All samples of a file, float32 (time, channels), and its rate (Hz); checks the container."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a WAV or FLAC file.")
    if not path.exists():
        raise InputError(f"There is no file {path}; check its name and folder.")
    try:
        if not path.is_file():
            raise InputError(f"{path} is not a regular file; expected a WAV or FLAC file.")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes); export the recording again.")
        with path.open("rb") as file:
            magic = file.read(4)
        missing = _truncated(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if magic not in MAGIC:
        raise InputError(
            f"{path} is not a WAV, FLAC or AIFF file (it does not begin like one); "
            "export the recording as WAV or FLAC."
        )
    if missing:
        raise InputError(f"{path} is cut short: {missing}; copy or export it again.")
    blocks = []
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate, channels, frames = file.samplerate, file.channels, file.frames
            # In blocks, because the length in a damaged header can be any number.
            size = max(1, 2**21 // channels)
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                blocks.append(block)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError, MemoryError) as error:
        reason = str(error).split(": ")[-1].rstrip(".") or type(error).__name__
        raise InputError(
            f"{path} cannot be read as audio ({reason}); it is damaged or not a WAV or FLAC file."
        ) from error
    samples = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
    if len(samples) == 0:
        raise InputError(f"{path} holds no audio (0 samples); export the recording again.")
    if len(samples) < frames < 2**62:  # FLAC streams of unknown length say 2**63 - 1
        raise InputError(
            f"{path} is cut short: its header promises {frames} samples and {len(samples)} could "
            "be read; copy or export it again."
        )
    return samples, rate


def _one_channel(samples: np.ndarray, path: Path, channel: int | str | None) -> np.ndarray:
    """Pick the channel (time,) of samples (time, channels); raise when the choice is not clear."""
    count = samples.shape[1]
    if count == 1:
        return samples[:, 0]
    channel = CHANNELS.get(channel, channel) if isinstance(channel, str) else channel
    if channel == "mix":
        return samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    if channel is None:
        if (samples[:, 1:] == samples[:, :1]).all():
            return samples[:, 0]  # the same signal on every channel: nothing to choose
        power = np.mean(np.square(samples, dtype=np.float64), axis=0)  # (channels,)
        levels = 10 * np.log10(power + 1e-20)
        best = int(np.argmax(power))
        names = ["left", "right"] if count == 2 else [str(n) for n in range(count)]
        chosen = f"the {names[best]} one" if count == 2 else f"number {best} (counted from 0)"
        listed = ", ".join(f"{n} {level:.1f} dB" for n, level in zip(names, levels, strict=True))
        raise InputError(
            f"{path} has {count} channels ({listed}) and one is needed: {chosen} "
            f"would be used, as the loudest; say so with channel={best} (--channel "
            f"{names[best]}), choose another, or average them with channel='mix' (--channel mix)."
        )
    if not isinstance(channel, int) or not 0 <= channel < count:
        raise InputError(
            f"{path} has {count} channels, so channel must be 0 to {count - 1}, 'left', 'right' or "
            f"'mix', but is {channel!r}."
        )
    return np.ascontiguousarray(samples[:, channel])


def count_clipped(x: np.ndarray) -> int:
    """Number of samples of `x` (time,) in runs of three or more that stay at full scale.

    Each polarity is looked at by itself, at its own extreme, if that is 0.999 or beyond.
    """
    total = 0
    for side in (x, -x):
        top = side.max(initial=0.0)
        if top < 0.999:
            continue
        edges = np.flatnonzero(np.diff(np.concatenate(([0], side == top, [0])).astype(np.int8)))
        lengths = edges[1::2] - edges[::2]
        total += int(lengths[lengths >= CLIPPED_RUN].sum())
    return total


def resample(x: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """`x` (time,) at `rate` Hz → float32 at `new_rate` Hz, ⌈time · new_rate / rate⌉ samples.

    A linear-phase windowed sinc: flat up to 90 % of the lower Nyquist frequency, more than 100 dB
    down where aliases would come from, no delay.
    """
    if rate == new_rate:
        return x
    divisor = math.gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    factor = max(up, down)
    if factor > 20_000:
        raise InputError(
            f"{rate} Hz and {new_rate} Hz have no common measure worth computing with; "
            "resample the recording in an audio editor."
        )
    taps = firwin(2 * 64 * factor + 1, 0.95 / factor, window=("kaiser", 10.0))
    return resample_poly(x.astype(np.float64), up, down, window=taps).astype(np.float32)


def read_audio(
    path: str | Path,
    *,
    channel: int | str | None = None,
    expected_rate: int | None = SAMPLE_RATE,
    resample_to_expected: bool = False,
    allow_silence: bool = False,
) -> tuple[np.ndarray, int]:
    """Read one channel of a WAV or FLAC file: samples (time,) as float32, and the rate in Hz.

    `channel` is 0, 1, …, "left", "right" or "mix"; it must be given when the channels differ.
    `expected_rate=None` takes any rate. Warns with `DataWarning` of clipping. Raises `InputError`
    for a file that is missing, empty, damaged, cut short, silent, at another rate, or that holds
    NaN or infinite samples.
    """
    path = Path(path)
    samples, rate = _read_all(path)
    x = _one_channel(samples, path, channel)
    del samples
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        raise InputError(
            f"{path} has {len(bad)} samples that are NaN or infinite, the first at "
            f"{bad[0] / rate:.3f} s; export the recording again."
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(
            f"{path} says that its sample rate is {rate} Hz; expected {RATES[0]} to {RATES[1]} Hz."
        )
    low, high = float(x.min()), float(x.max())
    # One sample alone is short, not silent: for the caller to judge.
    if len(x) > 1 and high - low < 2 * SILENCE and not allow_silence:
        raise InputError(f"{path} is silent from end to end; check the cable and the export.")
    if max(high, -low) > LOUDEST:
        raise InputError(
            f"{path} has samples up to {max(high, -low):.4g}, where full scale is 1; it was "
            "saved with the wrong scale: export it again."
        )
    if clipped := count_clipped(x):
        warnings.warn(
            f"{path} is clipped: {clipped} samples stay at full scale for {CLIPPED_RUN} or more "
            "in a row; record it again at a lower level if you can.",
            DataWarning,
            stacklevel=2,
        )
    if expected_rate is not None and rate != expected_rate:
        if not resample_to_expected:
            raise InputError(
                f"{path} is at {rate} Hz; expected {expected_rate} Hz: pass resample=True "
                "(--resample) to convert it."
            )
        x, rate = resample(x, rate, expected_rate), expected_rate
    return x, rate


def quantise(x: np.ndarray, bits: int = 16) -> np.ndarray:
    """`x` (time,) as it will be read back from a PCM file: multiples of 2^(1 − bits), float32."""
    return (_integers(x, bits) / 2.0 ** (bits - 1)).astype(np.float32)


def _integers(x: np.ndarray, bits: int) -> np.ndarray:
    full = 2 ** (bits - 1)
    return np.clip(np.round(np.asarray(x, np.float64) * full), -full, full - 1).astype(np.int32)


def write_audio(
    path: str | Path, x: np.ndarray, sample_rate: int = SAMPLE_RATE, *, subtype: str = "PCM_24"
) -> None:
    """Write `x` (time,) as mono WAV or FLAC, by the ending of `path`; beside it, then renamed.

    `subtype` is "PCM_16" or "PCM_24". What is read back is exactly `quantise(x, bits)`; samples
    beyond full scale are clipped, of which the caller should warn. Raises `InputError` for another
    ending or when the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".wav", ".flac"):
        raise InputError(f"{path} must end in .wav or .flac, which says how it is to be written.")
    bits = BITS[subtype]
    samples = _integers(x, bits) * 2 ** (32 - bits)  # libsndfile takes the top bits of an int32
    with write_beside(path) as temporary:
        try:
            soundfile.write(str(temporary), samples, sample_rate, subtype=subtype)
        except (soundfile.SoundFileError, AssertionError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error).split(": ")[-1].rstrip(".")
            raise InputError(
                f"{path} could not be written ({reason or 'is the disk full?'}); nothing was left."
            ) from error
