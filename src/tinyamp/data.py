"""Recordings: an input and what a device made of it, aligned sample by sample (Section IV-A).

Every data set on disk has one layout, `<root>/<split>/<device>-target.flac` (or .wav) with its
input beside it: `<device>-input`, or one `input` that the simulated devices share. There are three
roots: excerpts, which ship; full sets, which `tinyamp data make` makes; and the authors' own
recordings, which `tinyamp data fetch` gets.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinyamp.align import TOLERANCE, Alignment, estimate_alignment
from tinyamp.audio import SAMPLE_RATE, DataWarning, read_audio
from tinyamp.files import InputError, data_folder, made_folder

SEGMENT = 22_050  # samples: half a second, Section IV-B3
SPLITS = ("train", "validation", "test")
SIMULATED = ("sim-muff", "sim-crunch", "sim-lead", "sim-metal")
AUTHORS = ("ht1", "muff")
SOURCES = ("auto", "excerpt", "full", "authors")


@dataclass(frozen=True, eq=False)
class Recording:
    """A pair of signals, `input` and `target`, each float32 (time,), at `sample_rate` Hz."""

    input: np.ndarray
    target: np.ndarray
    sample_rate: int = SAMPLE_RATE
    name: str = ""

    def __post_init__(self) -> None:
        shapes = np.shape(self.input), np.shape(self.target)
        if shapes[0] != shapes[1] or len(shapes[0]) != 1:
            raise InputError(
                "The input and target of a recording must have one shape (time,); got "
                f"{shapes[0]} and {shapes[1]}."
            )

    def __len__(self) -> int:
        return len(self.input)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.input) / self.sample_rate

    def cut(self, start_s: float, stop_s: float | None = None) -> Recording:
        """The part from `start_s` to `stop_s` seconds (default: the end), as views.

        Raises `InputError` when the part is empty or goes beyond the end.
        """
        stop_s = self.seconds if stop_s is None else stop_s
        start, stop = round(start_s * self.sample_rate), round(stop_s * self.sample_rate)
        if not 0 <= start < stop <= len(self.input):
            raise InputError(
                f"Cannot cut {start_s:g} s to {stop_s:g} s from {self.name or 'a recording'} of "
                f"{self.seconds:g} s."
            )
        return replace(self, input=self.input[start:stop], target=self.target[start:stop])


def fix(recording: Recording, alignment: Alignment) -> Recording:
    """Shift the target by the lag, turn its polarity if inverted, and drop what has no partner.

    A lag within the tolerance stays: it is taken for the device's own.
    """
    lag = 0 if abs(alignment.lag) <= TOLERANCE else alignment.lag
    x, y = recording.input, recording.target
    if lag >= 0:
        x, y = x[: len(x) - lag], y[lag:]
    else:
        x, y = x[-lag:], y[: len(y) + lag]
    return replace(recording, input=x, target=-y if alignment.inverted else y)


def describe(alignment: Alignment, sample_rate: int) -> str:
    """What is wrong with an alignment, as part of a sentence; empty when nothing is."""
    faults = []
    if abs(alignment.lag) > TOLERANCE:
        milliseconds = abs(alignment.lag) / sample_rate * 1000
        word = "late" if alignment.lag > 0 else "early"
        faults.append(f"{abs(alignment.lag)} samples ({milliseconds:.2f} ms) {word}")
    if alignment.inverted:
        faults.append("inverted in polarity")
    return " and ".join(faults)


def read_pair(
    input_path: str | Path,
    target_path: str | Path,
    *,
    channel: int | str | None = None,
    expected_rate: int | None = SAMPLE_RATE,
    resample: bool = False,
    trim: bool = False,
    fix_alignment: bool = False,
    check_alignment: bool = True,
    name: str | None = None,
) -> Recording:
    """Read and check the input of a device and what came out of it.

    `channel` (0, 1, "left", "right", "mix") picks one of several channels, `resample` converts to
    `expected_rate` Hz (`None` takes any rate that the two files share), `trim` cuts the longer file
    to the length of the shorter, `fix_alignment` shifts and turns the target. Without them, each
    of these differences raises `InputError`, except a lag or inverted polarity, which is a
    `DataWarning`, as are clipping and a target that is the input itself. Raises `InputError` for
    all else that cannot be used: see `tinyamp.audio.read_audio`; also for less than one segment of
    half a second.
    """
    input_path, target_path = Path(input_path), Path(target_path)
    wanted = expected_rate if resample else None
    options = {"channel": channel, "expected_rate": wanted, "resample_to_expected": resample}
    x, rate = read_audio(input_path, **options)
    y, target_rate = read_audio(target_path, **options)
    if rate != target_rate:
        raise InputError(
            f"{input_path} is at {rate} Hz and {target_path} at {target_rate} Hz; both must have "
            "one rate: pass resample=True (--resample) to convert them."
        )
    if expected_rate is not None and rate != expected_rate:
        raise InputError(
            f"{input_path} and {target_path} are at {rate} Hz, and the model is for "
            f"{expected_rate} Hz: pass resample=True (--resample) to convert them."
        )
    if len(x) != len(y):
        # Resampling from two rates rounds two lengths: up to one sample is nobody's fault.
        if not trim and not (resample and abs(len(x) - len(y)) <= 1):
            raise InputError(
                f"{input_path} has {len(x)} samples ({len(x) / rate:.3f} s) and {target_path} "
                f"{len(y)} ({len(y) / rate:.3f} s); they must be equally long: pass trim=True "
                "(--trim) to cut the longer one at its end, if they start together."
            )
        shorter = min(len(x), len(y))
        x, y = x[:shorter], y[:shorter]
    recording = Recording(x, y, rate, target_path.stem if name is None else name)
    _demand_segment(recording, f"{input_path} and {target_path} have")
    if not (check_alignment or fix_alignment):
        return recording
    return _aligned(recording, input_path, target_path, fix_alignment)


def _aligned(recording: Recording, source: Path, target: Path, mend: bool) -> Recording:
    """Warn of a target that is the input; warn of a lag or inverted polarity, or mend them."""
    rate = recording.sample_rate
    if np.array_equal(recording.input, recording.target):
        warnings.warn(
            f"{target} is the same signal as {source}; was the device's output recorded?",
            DataWarning,
            stacklevel=3,
        )
        return recording
    alignment = estimate_alignment(recording.input, recording.target, sample_rate=rate)
    if not alignment.clear:
        message = (
            f"{target} shows no clear likeness to {source}, so its alignment could not be checked"
        )
        if mend:
            raise InputError(f"{message} or fixed; are they the two sides of one recording?")
        warnings.warn(f"{message}; are they a pair?", DataWarning, stacklevel=3)
        return recording
    if not mend:
        if not alignment.good:
            warnings.warn(
                f"{target} is {describe(alignment, rate)} against {source}; pass "
                "fix_alignment=True (--fix-alignment) to mend that.",
                DataWarning,
                stacklevel=3,
            )
        return recording
    mended = fix(recording, alignment)
    _demand_segment(mended, f"After alignment, {source} and {target} have")
    return mended


def _demand_segment(recording: Recording, subject: str) -> None:
    needed = SEGMENT / SAMPLE_RATE
    if recording.seconds < needed:
        raise InputError(
            f"{subject} {len(recording)} samples ({recording.seconds:.3f} s) of audio in common; "
            f"at least one segment of {needed:g} s is needed."
        )


def segments(recording: Recording, length: int = SEGMENT) -> tuple[np.ndarray, np.ndarray]:
    """Cut a recording into segments of `length` samples, Section IV-B3: two arrays (n, length).

    What is left after the last whole segment is dropped. Raises `InputError` when not even one
    segment fits.
    """
    count = len(recording) // length if length > 0 else 0
    if count == 0:
        raise InputError(
            f"{recording.name or 'The recording'} has {len(recording)} samples: not one segment "
            f"of {length}."
        )
    used = count * length
    return (
        recording.input[:used].reshape(count, length),
        recording.target[:used].reshape(count, length),
    )


def root_folder(source: str) -> Path:
    """The root of a data set: of the "excerpt"s, the "full" sets or the "authors'" recordings."""
    if source == "excerpt":
        return data_folder() / "excerpts"
    return made_folder() / source


def find_pair(device: str, split: str, source: str) -> tuple[Path, Path] | None:
    """Paths of the input and target of one device and split, or None when one is not there."""
    folder = root_folder(source) / split
    for ending in (".flac", ".wav"):
        target = folder / f"{device}-target{ending}"
        for stem in (f"{device}-input", "input"):
            input = folder / f"{stem}{ending}"
            if target.is_file() and input.is_file():
                return input, target
    return None


def is_whole(device: str, source: str) -> bool:
    """Whether all three splits of one device's set are there."""
    return all(find_pair(device, split, source) for split in SPLITS)


def load(
    device: str,
    split: str,
    *,
    source: str = "auto",
    seconds: float | None = None,
) -> Recording:
    """Load one split ("train", "validation", "test") of one device's data set.

    `device` is a simulated one ("sim-muff", …) or one of the authors' ("ht1", "muff"). `source`
    "auto" takes the full set of a simulated device when all three splits of it have been made,
    else the excerpt that ships: splits of the two are never mixed. `seconds` takes only the
    beginning. Raises `InputError` for unknown names, and when the set is not there, with the
    command that makes or fetches it.
    """
    if device not in SIMULATED + AUTHORS:
        raise InputError(
            f"There is no device {device!r}; choose from {', '.join(SIMULATED + AUTHORS)}."
        )
    if split not in SPLITS:
        raise InputError(f"There is no split {split!r}; choose from {', '.join(SPLITS)}.")
    if source not in SOURCES:
        raise InputError(f"There is no source {source!r}; choose from {', '.join(SOURCES)}.")
    real = device in AUTHORS
    if source != "auto" and real != (source == "authors"):
        raise InputError(f"{device} has no data of source {source!r}; leave source at 'auto'.")
    found = source
    if source == "auto":
        found = "authors" if real else "full" if is_whole(device, "full") else "excerpt"
    pair = find_pair(device, split, found)
    if pair is None:
        command = f"tinyamp data fetch {device}" if real else f"tinyamp data make --device {device}"
        raise InputError(
            f"The {split} set of {device} is not in {root_folder(found) / split}; get it with "
            f"`{command}`."
        )
    with warnings.catch_warnings():
        # What devices do at the edge of their range is known here, and not a fault to report.
        warnings.simplefilter("ignore", DataWarning)
        recording = read_pair(*pair, trim=real, check_alignment=False, name=f"{device} {split}")
    if seconds is None:
        return recording
    if seconds > recording.seconds and found == "excerpt":
        raise InputError(
            f"The excerpt of {recording.name} has {recording.seconds:g} s, and {seconds:g} s are "
            f"asked for; make the full set with `tinyamp data make --device {device}`."
        )
    return recording.cut(0, seconds)


def load_excerpt(device: str, split: str, *, seconds: float | None = None) -> Recording:
    """`load` from the excerpts that ship."""
    return load(device, split, source="excerpt", seconds=seconds)


def load_full(device: str, split: str, *, seconds: float | None = None) -> Recording:
    """`load` from the full sets that `tinyamp data make` makes."""
    return load(device, split, source="full", seconds=seconds)
