"""From a recording of an amp to a small model of it, in one go: train, search, select, retrain.

The recording is split by time, and the last part is never trained on. A stage of the mask search
is good if its error after retraining is at most `slack` times the unpruned model's, or at most
`good`. The sparsest good stage is looked for by halving the range, so that few are retrained.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tinyamp.compact import compact, pruned_parameter_count
from tinyamp.data import Recording
from tinyamp.fit_check import split
from tinyamp.fit_settings import FIT_PRESETS, FitSettings
from tinyamp.fit_speed import measure_speed
from tinyamp.losses import esr
from tinyamp.masks import active_weights, masks_of
from tinyamp.model import AmpLSTM, one_thread, parameter_count, process
from tinyamp.retrain import retrain
from tinyamp.search import search
from tinyamp.stages import SearchResult, recommend
from tinyamp.train import train

STUCK = 0.3  # a validation ESR above it: training has not left its first plateau
WORK = "fit-work"  # folder of the checkpoints

Say = Callable[[str], None]


@dataclass(frozen=True)
class Side:
    """What one of the two models is: errors are plain ESRs, as ratios.

    `parameters` are those of the LSTM layer, eq. (2), without zeros; `rtf` is compute time over
    audio time in the engine that `engine` describes.
    """

    hidden_size: int
    parameters: int
    validation_esr: float
    test_esr: float
    rtf: float
    engine: str


@dataclass(frozen=True)
class Fit:
    """All that came out: two models, what they are, and how the second one was chosen.

    `tried` maps a stage to its validation ESR after retraining, `limit` is what it was held to.
    `layout` is that of the pruned model's C code which is faster here; `times_faster` compares it
    with the unpruned model, round by round. `seconds` is how long this
    start took; one that was resumed took longer in all.
    """

    name: str
    settings: FitSettings
    parts: tuple[Recording, Recording, Recording]  # train, validation, test
    found: SearchResult
    unpruned_model: AmpLSTM
    pruned_model: AmpLSTM
    unpruned: Side
    pruned: Side
    stage: int
    sparsity: float
    tried: dict[int, float]
    limit: float
    layout: str
    times_faster: float
    seconds: float

    def as_dict(self) -> dict:
        """The numbers, such as JSON can hold."""
        parts = zip(("train", "validation", "test"), self.parts, strict=True)
        plain = ("name", "stage", "sparsity", "tried", "limit", "layout", "times_faster", "seconds")
        return {
            **{name: getattr(self, name) for name in plain},
            "sample_rate": self.unpruned_model.sample_rate,
            "split_seconds": {name: part.seconds for name, part in parts},
            "unpruned": asdict(self.unpruned),
            "pruned": asdict(self.pruned),
            "stages": [asdict(stage) for stage in self.found.stages],
            "collapse": self.found.collapse,
            "settings": asdict(self.settings),
        }


def pick(
    start: int, last: int, limit: float, error_of: Callable[[int], float], tries: int
) -> tuple[int, dict[int, float]]:
    """The sparsest stage found whose error is at most `limit`, by halving; and all errors.

    Stage `start` is tried first, then the middle of what is left between the sparsest good stage
    and the one before the first bad one, until nothing is left or `tries` stages have been tried.
    If none is good, the one with the lowest error is taken.
    """
    good, bad, number = 0, last + 1, start  # stage 0 is good by definition
    tried: dict[int, float] = {}
    while True:
        tried[number] = error_of(number)
        good, bad = (number, bad) if tried[number] <= limit else (good, number)
        if len(tried) == tries or bad - good <= 1:
            break
        number = (good + bad) // 2
    return (good if good in tried else min(tried, key=tried.get)), tried


@one_thread()
def fit(
    recording: Recording,
    settings: FitSettings | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | None = "cpu",
    seed: int = 0,
    say: Say = lambda _: None,
) -> Fit:
    """Train, search, select, retrain and compact; see `tinyamp.fit_check` for the recording.

    With a `folder`, checkpoints are kept in its `fit-work`, from which `resume` goes on. `say` gets
    a sentence before each step. All is done on one thread: at these sizes a second one costs more
    than it brings. Raises `InputError` for what `split`, `search` and `retrain` refuse.
    """
    settings = settings or FIT_PRESETS["laptop"]
    started = time.perf_counter()
    parts = train_set, validation_set, test_set = split(recording)
    work = None if folder is None else Path(folder) / WORK
    options = {"resume": resume, "progress": progress, "device": device}
    model = _unpruned(settings, train_set, validation_set, work, seed, say, options)
    course = replace(settings.search.course, seed=seed)
    plan = replace(settings.search, course=course, variant="trained")
    say(f"pruning in {plan.iterations} steps")
    found = search(
        model, train_set, validation_set, plan, folder=work and work / "search", **options
    )
    unpruned = found.model(0)
    limit = max(settings.slack * _error(unpruned, validation_set), settings.good)
    models: dict[int, AmpLSTM] = {}

    def error_of(number: int) -> float:
        stage = found.stages[number]
        say(f"retraining stage {number}: {stage.sparsity:.1%} pruned, {stage.units} units")
        models[number], _ = retrain(
            found.model(number),
            train_set,
            validation_set,
            replace(settings.retrain, seed=seed),
            folder=work and work / f"retrained-{number:02d}",
            **options,
        )
        return _error(models[number], validation_set)

    start = recommend(found).number
    chosen, tried = pick(start, len(found.stages) - 1, limit, error_of, settings.tries)
    pruned = compact(models[chosen].to("cpu")).model
    say("measuring speed and error")
    speed = measure_speed(
        unpruned, pruned, test_set.input[: recording.sample_rate], settings.rounds
    )
    counts = {
        "unpruned": parameter_count(unpruned.hidden_size),
        "pruned": pruned_parameter_count(active_weights(masks_of(pruned)), pruned.hidden_size),
    }
    sides = {
        name: Side(
            one.hidden_size,
            counts[name],
            _error(one, validation_set),
            _error(one, test_set),
            getattr(speed, f"{name}_rtf"),
            getattr(speed, f"{name}_engine"),
        )
        for name, one in (("unpruned", unpruned), ("pruned", pruned))
    }
    return Fit(
        name=recording.name,
        settings=settings,
        parts=parts,
        found=found,
        unpruned_model=unpruned,
        pruned_model=pruned,
        **sides,
        stage=chosen,
        sparsity=found.stages[chosen].sparsity,
        tried=tried,
        limit=limit,
        layout=speed.layout,
        times_faster=speed.times_faster,
        seconds=time.perf_counter() - started,
    )


def _unpruned(
    settings: FitSettings,
    train_set: Recording,
    validation_set: Recording,
    work: Path | None,
    seed: int,
    say: Say,
    options: dict,
) -> AmpLSTM:
    """Train a model; if it is stuck, train others, from other weights and in smaller steps.

    The learning rate is halved each time. Returns the one with the lowest validation ESR.
    """
    tried: list[tuple[float, AmpLSTM]] = []
    for attempt in range(settings.starts):
        model = AmpLSTM(
            settings.hidden_size, seed=seed + attempt, sample_rate=train_set.sample_rate
        )
        say(f"training {settings.hidden_size} units on {train_set.seconds:.0f} s")
        rate = settings.search.full.learning_rate / 2**attempt
        full = replace(settings.search.full, seed=seed + attempt, learning_rate=rate)
        folder = work and work / f"unpruned-{attempt}"
        train(model, train_set, validation_set, full, folder=folder, **options)
        tried.append((_error(model, validation_set), model.to("cpu")))
        if tried[-1][0] <= STUCK:
            break
        say(f"stuck at an error of {tried[-1][0]:.0%}")
    return min(tried, key=lambda attempt: attempt[0])[1]


def _error(model: AmpLSTM, recording: Recording) -> float:
    return esr(recording.target, process(model, recording.input))
