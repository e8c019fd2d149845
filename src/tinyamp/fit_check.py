"""Is a pair of recordings fit for training? What is found, and mended, is said; then it is split.

More lenient than `tinyamp.data.read_pair`, because it acts: other sample rates are converted, a
late target is shifted, an inverted one turned, a drifting one stretched, the longer file cut. What
cannot be mended is a warning if the model can still be trained, else an `InputError`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from tinyamp.align import TOLERANCE, estimate_alignment
from tinyamp.audio import DataWarning, count_clipped, read_audio, resample
from tinyamp.data import Recording, describe, fix
from tinyamp.drift import estimate_drift, straighten
from tinyamp.files import InputError
from tinyamp.measure import peak_db, rms_db

GOOD, MENDED, WARNING = "good", "mended", "warning"
RATES = (44_100, 48_000)  # Hz; a pair at one of these is left there, all others become the first
SHORTEST, SHORT = 4.0, 30.0  # seconds: the least that can be split; less is little
SILENT_SIDE = 60.0  # dB that one channel of a file is quieter: nothing was plugged in
OFFSET = 1e-3  # of full scale, −60 dB: a mean that is the converter's, not the device's
FRAME = 0.05  # seconds, for the noise floor
REST = 40.0  # dB under its loud passages at which the input counts as a rest
NOISY = 40.0  # dB from the playing down to the noise: less is worth a warning
LOW = -30.0  # dBFS; a peak below it wastes bits and lifts the noise
SHARES = (0.7, 0.85)  # of the time: where validation and test begin
LONGEST = 60.0  # seconds that validation and test have at most; the rest is for training
QUIET = 1e-3  # a part of the recording whose peak is below it is silent
EDGE = 0.5  # seconds of silence that stay at both ends


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, and "good", "mended" or "warning"."""

    name: str
    found: str
    kind: str = GOOD


def check_pair(
    input_path: str | Path,
    target_path: str | Path,
    *,
    channel: int | str | None = None,
    sample_rate: int | None = None,
) -> tuple[Recording, list[Check]]:
    """Read, check and mend a pair of files; the recording, ready to be split, and what was found.

    `sample_rate` (Hz) is the model's; None keeps 44.1 or 48 kHz if both files have it, and is
    44.1 kHz otherwise. `channel` is that of `read_audio`; None also takes the only side of a file
    that is not silent. Raises `InputError` for what cannot be used: see `read_audio`; also for
    files that are no pair and for less than four seconds in common.
    """
    paths = Path(input_path), Path(target_path)
    (x, input_rate), (y, target_rate) = sides = [_read(path, channel) for path in paths]
    checks = [c for path, (z, _) in zip(paths, sides, strict=True) for c in _levels(path, z)]
    shared = input_rate if input_rate == target_rate and input_rate in RATES else RATES[0]
    rate = sample_rate or shared
    checks.append(_rates(input_rate, target_rate, rate))
    x, y = resample(x, input_rate, rate), resample(y, target_rate, rate)
    checks.append(_lengths(len(x), len(y), rate))
    shorter = min(len(x), len(y))
    recording = Recording(x[:shorter], y[:shorter], rate, paths[1].stem)
    _demand(recording, *paths)
    recording = _without_offset(recording, checks)
    recording = _aligned(recording, *paths, checks)
    _demand(recording, *paths)
    checks.append(_noise(recording))
    return recording, checks


def _read(path: Path, channel: int | str | None) -> tuple[np.ndarray, int]:
    """One channel (time,) of a file and its rate; the only one with sound if `channel` is None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # clipping is counted below
        try:
            return read_audio(path, channel=channel, expected_rate=None)
        except InputError:
            levels = _channel_levels(path) if channel is None else []
            if len(levels) < 2 or sorted(levels)[-1] - sorted(levels)[-2] < SILENT_SIDE:
                raise
            return read_audio(path, channel=levels.index(max(levels)), expected_rate=None)


def _channel_levels(path: Path) -> list[float]:
    """The RMS level in dB of every channel; none of a file that cannot be read."""
    try:
        count = soundfile.info(str(path)).channels
    except (soundfile.SoundFileError, OSError):
        return []
    options = {"expected_rate": None, "allow_silence": True}
    return [rms_db(read_audio(path, channel=k, **options)[0]) for k in range(count)]


def _levels(path: Path, x: np.ndarray) -> list[Check]:
    """Peak, RMS and clipping of one file."""
    peak = peak_db(x)
    found = f"{path.name}: peak {peak:.1f} dBFS, RMS {rms_db(x):.1f} dB"
    if peak < LOW:
        found += "; that is low: record it again, louder, if it is noisy"
    level = Check("level", found, WARNING if peak < LOW else GOOD)
    clipped = count_clipped(x)
    if not clipped:
        return [level]
    found = f"{path.name}: {clipped} samples stay at full scale; that cannot be mended, and the "
    found += "model will learn it: record again at a lower level"
    return [level, Check("clipping", found, WARNING)]


def _rates(first: int, second: int, rate: int) -> Check:
    if first == second == rate:
        return Check("sample rate", f"{rate} Hz")
    was = f"{first} Hz" if first == second else f"{first} Hz and {second} Hz"
    return Check("sample rate", f"{was}; converted to {rate} Hz by a polyphase filter", MENDED)


def _lengths(first: int, second: int, rate: int) -> Check:
    difference, common = abs(first - second) / rate, min(first, second) / rate
    found, kind = f"{common:.1f} s", GOOD
    if difference >= 0.01:
        found = f"input {first / rate:.2f} s, target {second / rate:.2f} s; the longer one was cut"
        kind = MENDED
    if difference > max(3.0, 0.1 * common):
        found, kind = found + "; is that the whole take?", WARNING
    if common < SHORT:
        found, kind = found + "; that is little to learn from: record a minute or more", WARNING
    return Check("length", found, kind)


def _demand(recording: Recording, input_path: Path, target_path: Path) -> None:
    if recording.seconds < SHORTEST:
        raise InputError(
            f"{input_path} and {target_path} have {recording.seconds:.2f} s in common; at least "
            f"{SHORTEST:g} s are needed, and a minute or more makes a good model."
        )


def _without_offset(recording: Recording, checks: list[Check]) -> Recording:
    """Take a constant off both sides: a converter's, as no amplifier passes direct current."""
    for side in ("input", "target"):
        x = getattr(recording, side)
        mean = float(np.mean(x, dtype=np.float64))
        if abs(mean) > OFFSET:
            found = f"the {side} stood off zero by {mean:+.4f} of full scale; taken off"
            checks.append(Check("direct current", found, MENDED))
            recording = replace(recording, **{side: (x - mean).astype(np.float32)})
    return recording


def _aligned(
    recording: Recording, input_path: Path, target_path: Path, checks: list[Check]
) -> Recording:
    """Shift, turn and stretch the target; raise `InputError` when the two are no pair."""
    rate = recording.sample_rate
    if np.array_equal(recording.input, recording.target):
        found = "the target is the input itself: was the device's output recorded?"
        checks.append(Check("pair", found, WARNING))
        return recording
    drift = estimate_drift(recording)
    if drift.drifts:
        recording = straighten(recording, drift)
        found = f"the target's clock is off by {drift.ppm:+.1f} ppm, {drift.total:+.0f} samples "
        checks.append(Check("drift", found + "over the take; stretched to fit", MENDED))
    elif drift.jumps:
        found = "the lag jumps between {:.0f} s and {:.0f} s: a buffer may be lost there; ".format(
            *drift.jump_at
        )
        checks.append(Check("drift", found + "record again if the model is poor", WARNING))
    elif drift.known:
        found = f"none: the lag stays within {np.ptp(drift.lags):.0f} samples"
        checks.append(Check("drift", found))
    else:
        checks.append(Check("drift", "the recording is too short to tell"))
    alignment = estimate_alignment(recording.input, recording.target, sample_rate=rate)
    if not alignment.clear:
        raise InputError(
            f"{target_path} shows no clear likeness to {input_path}, so the two cannot be aligned; "
            "are they the two sides of one recording?"
        )
    words = describe(replace(alignment, inverted=False), rate)
    if words:
        checks.append(Check("lag", f"the target is {words}; shifted", MENDED))
    else:
        checks.append(Check("lag", f"{alignment.lag} samples (up to {TOLERANCE} are left alone)"))
    turned = "inverted; turned back" if alignment.inverted else "as the input"
    checks.append(Check("polarity", turned, MENDED if alignment.inverted else GOOD))
    return fix(recording, alignment)


def _frames(x: np.ndarray, rate: int) -> np.ndarray:
    """Mean power of each frame of `FRAME` seconds (frames,)."""
    length = round(FRAME * rate)
    whole = x[: len(x) // length * length].reshape(-1, length).astype(np.float64)
    return np.mean(np.square(whole), axis=1)


def _noise(recording: Recording) -> Check:
    """The target's power in the input's rests, and what error it leaves to any model."""
    source, sink = (_frames(x, recording.sample_rate) for x in (recording.input, recording.target))
    loud = np.quantile(source, 0.95)
    quiet = source <= loud * 10 ** (-REST / 10)
    quiet[1:] &= quiet[:-1].copy()  # the device may still ring in the first frame of a rest
    if quiet.sum() < 3 or not sink.mean() > 0:
        found = "cannot be told: there is no rest in the playing; leave a second of silence"
        return Check("noise floor", found)
    noise = float(np.median(sink[quiet]))
    level = 10 * np.log10(max(noise, 1e-20))
    distance = 10 * np.log10(max(float(sink.mean()), 1e-20)) - level
    found = f"{max(level, -120.0):.0f} dBFS in the rests, {distance:.0f} dB under the playing"
    if distance < NOISY:
        ratio = noise / float(sink.mean())
        found += f"; no model can have an error below {ratio:.2%}, as it cannot know the noise"
        return Check("noise floor", found, WARNING)
    return Check("noise floor", found)


def split(recording: Recording) -> tuple[Recording, Recording, Recording]:
    """The recording in order of time: 70 % to train on, 15 % for validation, 15 % for the test.

    Silence at both ends is cut to half a second first. Validation and test have a minute at most.
    Raises `InputError` when a part would be silent.
    """
    loud = np.flatnonzero(np.abs(recording.input) > QUIET)
    if not len(loud):
        raise InputError(f"The input of {recording.name or 'the recording'} is silent.")
    rate = recording.sample_rate
    start = max(0.0, loud[0] / rate - EDGE)
    stop = min(recording.seconds, (loud[-1] + 1) / rate + EDGE)
    seconds = stop - start
    test = stop - min(LONGEST, (1 - SHARES[1]) * seconds)
    validation = test - min(LONGEST, (SHARES[1] - SHARES[0]) * seconds)
    borders = (start, validation, test, stop)
    parts = tuple(recording.cut(a, b) for a, b in pairwise(borders))
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if min(np.abs(part.input).max(), np.abs(part.target).max()) < QUIET:
            raise InputError(
                f"The {name} part of {recording.name or 'the recording'} is silent (from "
                f"{borders[('training', 'validation', 'test').index(name)]:.1f} s); play to the "
                "end of the take, or cut it."
            )
    return parts
