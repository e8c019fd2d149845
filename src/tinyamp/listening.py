"""A listening test of the MUSHRA kind (ITU-R BS.1534), designed as in Section V-D.

In each trial a listener hears a reference, the device itself, and rates four sounds by how similar
they are to it: the hidden reference, a low anchor, the unpruned and the pruned model. This module
makes the sounds and the random order; `tinyamp.listening_page` makes the page that plays them,
`tinyamp.listening_ratings` reads what the page saves, `tinyamp.listening_stats` analyses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.std import tqdm

from tinyamp.audio import SAMPLE_RATE
from tinyamp.circuits import simulate
from tinyamp.files import InputError, data_folder
from tinyamp.guitar import perform, phrases
from tinyamp.model import load_model, process
from tinyamp.player import level_match
from tinyamp.styles import BASS_STYLES, GUITAR_STYLES

Process = Callable[[np.ndarray], np.ndarray]

CONDITIONS = ("reference", "anchor", "unpruned", "pruned")
TRIALS = {"bass": 5, "guitar": 2}  # a device, Section V-D
DEVICES = ("sim-muff", "sim-metal")  # those whose pruned models ship
SCALE = ("Bad", "Poor", "Fair", "Good", "Excellent")  # 0–20, 20–40, … of BS.1534
SECONDS = 4.0
_LOUD_DB = -8.0  # the peak of a phrase that is loud enough to be judged
_EDGE = 0.01  # seconds of fade at both ends, so that a loop does not click


@dataclass(frozen=True, eq=False)
class Passage:
    """A few seconds of dry playing, float32 (time,)."""

    name: str
    instrument: str
    signal: np.ndarray


@dataclass(frozen=True, eq=False)
class Trial:
    """The sounds of one trial, by condition, each float32 (time,), at one RMS level."""

    device: str
    passage: str
    instrument: str
    sounds: Mapping[str, np.ndarray]


def passages(
    seed: int, *, seconds: float = SECONDS, counts: Mapping[str, int] = TRIALS
) -> list[Passage]:
    """Passages of `seconds` for each instrument, drawn from a seed.

    They come from streams of phrases that no model was trained on, begin with a phrase, are loud
    enough to be judged, and take turns among the styles. Raises `InputError` for a length outside
    1 to 20 seconds.
    """
    if not 1 <= seconds <= 20:
        raise InputError(f"A passage must last from 1 to 20 seconds, but {seconds:g} came.")
    chosen = []
    for instrument, count in counts.items():
        seeds = _loud_seeds(instrument, seed)
        styles = BASS_STYLES if instrument == "bass" else GUITAR_STYLES
        heard: dict[str, int] = {}
        for number in range(1, count + 1):
            for _ in range(200):  # styles take turns: skip what has been heard more often
                one = next(seeds)
                style = next(phrases(instrument, one)).style
                if heard.get(style, 0) <= (number - 1) // len(styles):
                    break
            heard[style] = heard.get(style, 0) + 1
            signal = perform(seconds, seed=one, instrument=instrument)
            chosen.append(Passage(f"{instrument} {number}", instrument, signal))
    return chosen


def _loud_seeds(instrument: str, seed: int) -> Iterator[int]:
    """Seeds of performances whose first phrases are all loud."""
    one = 1000 * seed
    while True:
        first = zip(range(4), phrases(instrument, one), strict=False)
        if all(phrase.peak_db > _LOUD_DB for _, phrase in first):
            yield one
        one += 1


def low_anchor(x: np.ndarray) -> np.ndarray:
    """The low anchor of Section V-D: the input x (time,) through tanh, and nothing else."""
    return np.tanh(np.asarray(x, dtype=np.float64)).astype(np.float32)


def make_trial(
    device: str, passage: Passage, target: Process, unpruned: Process, pruned: Process
) -> Trial:
    """The four sounds of one passage, level-matched by RMS and faded at both ends.

    Raises `InputError` when one of them is not finite, or of another length than the passage.
    """
    x = passage.signal
    sounds = {
        "reference": target(x),
        "anchor": low_anchor(x),
        "unpruned": unpruned(x),
        "pruned": pruned(x),
    }
    return Trial(device, passage.name, passage.instrument, _prepared(sounds))


def _prepared(sounds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sounds of one length, faded at both ends and brought to one level."""
    lengths = {len(y) for y in sounds.values()}
    if len(lengths) > 1:
        raise InputError(f"The sounds of a trial must be equally long; got lengths {lengths}.")
    edge = round(_EDGE * SAMPLE_RATE)
    (length,) = lengths
    if length < 4 * edge:
        raise InputError(f"A sound of a trial needs {4 * edge} samples or more; got {length}.")
    rise = np.sin(np.linspace(0.0, 0.5 * np.pi, edge)) ** 2
    shape = np.ones(length)
    shape[:edge], shape[-edge:] = rise, rise[::-1]
    return level_match({name: shape * y for name, y in sounds.items()})[0]


def played_by(path: str | Path) -> Process:
    """The model in a .safetensors file as a function. Raises `InputError` for a wrong rate."""
    model = load_model(path)
    if model.sample_rate != SAMPLE_RATE:
        raise InputError(
            f"{path} is a model for {model.sample_rate} Hz; the test is at {SAMPLE_RATE} Hz."
        )
    return partial(process, model)


def shipped(device: str, ending: str = "") -> Process:
    """A model that ships as a function: `ending` "" (unpruned), "-pruned" or "-one-shot"."""
    return played_by(data_folder() / "models" / f"{device}-32{ending}.safetensors")


def make_trials(
    devices: Sequence[str] = DEVICES,
    *,
    seed: int = 0,
    seconds: float = SECONDS,
    counts: Mapping[str, int] = TRIALS,
    models: tuple[Process, Process] | None = None,
    progress: bool = False,
) -> list[Trial]:
    """All trials of simulated `devices`: seven a device, as in Section V-D.

    `models` is the unpruned and the pruned model of one device; None takes those that ship. Raises
    `InputError` for no or an unknown device, one without models, or a bad length.
    """
    if not devices:
        raise InputError("Name a device to test.")
    if models is not None and len(devices) != 1:
        raise InputError("Models are of one device: name that device alone.")
    for device in devices:
        if models is None and device not in DEVICES:
            raise InputError(
                f"No pruned model of {device!r} ships, only of {' and '.join(DEVICES)}; "
                "give a pair of models."
            )
    pieces = passages(seed, seconds=seconds, counts=counts)
    trials = []
    with tqdm(total=len(devices) * len(pieces), unit="trial", disable=not progress) as bar:
        for device in devices:
            unpruned, pruned = models or (shipped(device), shipped(device, "-pruned"))
            for piece in pieces:
                bar.set_description(f"{device}, {piece.name}")
                target = simulate(device, piece.signal)
                trials.append(make_trial(device, piece, lambda _, y=target: y, unpruned, pruned))
                bar.update()
    return trials


def training_sounds(
    device: str, *, seed: int = 0, seconds: float = SECONDS
) -> dict[str, np.ndarray]:
    """Labelled sounds to set the volume and train the ear with: of a passage not in the test.

    The device, its one-shot pruned model (a small difference) and the low anchor (a clear one).
    """
    piece = passages(seed + 500_000, seconds=seconds, counts={"bass": 1})[0]
    sounds = {
        "The device itself": simulate(device, piece.signal),
        "A small difference": shipped(device, "-one-shot")(piece.signal),
        "A clear difference": low_anchor(piece.signal),
    }
    return _prepared(sounds)


def random_numbers(seed: int) -> Iterator[int]:
    """Whole numbers from 0 to 2³² − 1: Tommy Ettinger's mulberry32, as in the page's JavaScript."""
    state = seed % 2**32
    while True:
        state = (state + 0x6D2B79F5) % 2**32
        t = state
        t = (t ^ t >> 15) * (t | 1) % 2**32
        t ^= (t + (t ^ t >> 7) * (t | 61)) % 2**32
        yield t ^ t >> 14


def shuffled(count: int, numbers: Iterator[int]) -> list[int]:
    """0 … count − 1 in random order (Fisher and Yates)."""
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = next(numbers) * (last + 1) >> 32
        order[last], order[other] = order[other], order[last]
    return order


def presentation(seed: int, trials: int) -> list[tuple[int, list[int]]]:
    """In what order a listener with this seed hears a test: the page draws the same order.

    One pair a trial: its number in the test, and for its sounds A, B, C, D the number of the
    condition in `CONDITIONS`.
    """
    numbers = random_numbers(seed)
    order = shuffled(trials, numbers)
    return [(trial, shuffled(len(CONDITIONS), numbers)) for trial in order]


def grade(rating: float) -> str:
    """The word for a rating from 0 to 100: Bad, Poor, Fair, Good or Excellent."""
    return SCALE[min(math.floor(rating / 20), 4)]
