"""What a mask search is told and what it finds: settings, stages, and which stage to take.

A *stage* is the model under one mask: stage 0 is unpruned, stage i has been pruned i times. In
Algorithm 1, iteration i trains stage i − 1 until its next mask stands still, then prunes it. Here
the last stage is trained too, in the same way, so that every stage has a loss to be judged by.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from tinyamp.files import InputError, write_beside
from tinyamp.masks import SCORES
from tinyamp.model import AmpLSTM, load_model, model_with, save_model
from tinyamp.presets import PRESETS, TrainSettings

VARIANTS = ("fully-train-first", "early-bird", "trained")
REWINDS = ("learning-rate", "weights")
RESULT = "search.json"
FORMAT, VERSION = "tinyamp-search", 1
TOLERANCE = 5.0
# The decay is not in the paper's text. The authors' published code had it, and without it idle
# weights stay large: `python -m tinyamp.study_decay` compares.
PAPER_COURSE = replace(PRESETS["paper"], weight_decay=1e-4)


@dataclass(frozen=True)
class SearchSettings:
    """How masks are searched for; the defaults are the paper's, Sections III-B and IV-B4.

    `variant` says what happens before the first pruning: "fully-train-first" trains by `full`,
    "early-bird" only until the mask settles, "trained" takes the model as it is. `course` is the
    training between two prunings: its schedule starts anew every time, and its `epochs` are the
    most that one stage gets. It alone has weight decay: without, magnitude means little. Stages are
    judged by the first `validation_seconds` of the validation set, or all of it. `rewind`
    "learning-rate" keeps the weights at a pruning; "weights" sets those that stay back to what they
    were when the search began.
    """

    fraction: float = 0.3  # p, IV-B4
    iterations: int = 15  # N, IV-B4
    epsilon: float = 0.1  # ε, IV-B4
    k: int = 5  # length of the queue Q, IV-B4
    variant: str = "fully-train-first"  # the one behind Table I, V
    rewind: str = "learning-rate"  # III-A
    include_output: bool = False  # whether the output layer is in the pool
    score: str = "magnitude"  # III-A; "unit" prunes whole units, which the paper does not
    fresh_adam: bool = False  # a new Adam in every iteration, as in the authors' code
    prune_best: bool = False  # the best epoch of a course and not its last, as in the authors' code
    validation_seconds: float | None = None  # IV-B3: the whole validation set
    full: TrainSettings = PRESETS["paper"]
    course: TrainSettings = PAPER_COURSE

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise InputError(f"fraction must be between 0 and 1, but is {self.fraction}.")
        for name in ("iterations", "k"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, but is {getattr(self, name)}.")
        if not 0 < self.epsilon <= 1:
            raise InputError(f"epsilon must be above 0 and at most 1, but is {self.epsilon}.")
        if self.validation_seconds is not None and not self.validation_seconds > 0:
            raise InputError(
                f"validation_seconds must be None or above 0, but is {self.validation_seconds}."
            )
        for name, known in (("variant", VARIANTS), ("rewind", REWINDS), ("score", SCORES)):
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} must be one of {', '.join(known)}, but is {getattr(self, name)!r}."
                )
        if self.rewind == "weights" and self.variant == "trained":
            raise InputError(
                "Weight rewinding needs the weights from before training: start from an untrained "
                'model, or use rewind="learning-rate".'
            )


SEARCH_PRESETS = {
    "paper": SearchSettings(),
    # Six minutes for 32 units on one core, half of them for the full training.
    "laptop": SearchSettings(
        validation_seconds=30.0,  # each stage is validated twice: 84 s would double the search
        full=PRESETS["laptop"],
        course=replace(
            PRESETS["laptop"],
            segments_per_epoch=40,  # 105 updates from mask to mask; the paper has 198
            epochs=8,  # five are the least that Q needs, six are usual
            rise_epochs=0,
            final_fraction=0.1,
            weight_decay=PAPER_COURSE.weight_decay,
        ),
    ),
}


def by_score(settings: SearchSettings, score: str) -> SearchSettings:
    """The same search by another `score`: without decay for whole units, else with.

    These are ranked by what is heard of them, which decay does not make any clearer: see
    `tinyamp.study_decay`.
    """
    decay = 0.0 if score == "unit" else PAPER_COURSE.weight_decay
    return replace(settings, score=score, course=replace(settings.course, weight_decay=decay))


@dataclass(frozen=True)
class Stage:
    """What the search found out about one stage; losses are eq. (7) on the validation set."""

    number: int  # how often it has been pruned
    active: int  # weights left in the pool
    sparsity: float  # share of the pool that is pruned, 0 to 1
    units: int  # effective hidden size
    epochs: int  # that it was trained for
    distances: tuple[float, ...]  # from each epoch's next mask to that of the epoch before
    train_losses: tuple[float, ...]  # of each epoch
    loss_start: float  # right after pruning, before any training
    loss_stop: float  # when its next mask had settled: what the stage is judged by
    capped: bool  # stopped by the limit on epochs, not by its mask
    seconds: float  # of the attempt that counts
    attempts: int = 1  # more, where training blew up: each at half the rate of the one before

    @classmethod
    def from_dict(cls, values: dict) -> Stage:
        """The stage that `asdict` and JSON made `values` of."""
        lists = ("distances", "train_losses")
        return cls(**{**values, **{name: tuple(values[name]) for name in lists}})


@dataclass
class SearchResult:
    """All stages of a search with their weights.

    `weights[i]` are those of stage i at the end of its training; what is pruned is exactly zero.
    `collapse` is None, or the sentence that says why the search had to stop early.
    """

    settings: SearchSettings
    sample_rate: int  # Hz
    data: str
    stages: list[Stage] = field(default_factory=list)
    weights: list[dict[str, torch.Tensor]] = field(default_factory=list)
    collapse: str | None = None

    def model(self, number: int) -> AmpLSTM:
        """The model of stage `number`, at its full hidden size."""
        if not 0 <= number < len(self.weights):
            raise InputError(
                f"There is no stage {number}; this search has 0 to {len(self.weights) - 1}."
            )
        weights, stage = self.weights[number], self.stages[number]
        model = model_with(weights, sample_rate=self.sample_rate)
        model.settings = {"data": self.data, "stage": number, "sparsity": stage.sparsity}
        return model


def recommend(result: SearchResult, *, tolerance: float = TOLERANCE) -> Stage:
    """A sparse stage that pruning has not hurt yet, by the paper's heuristic, Section V-A.

    The validation loss at the end of a stage's search predicts where pruning degrades what
    retraining gives (Fig. 3). The last good stage is the one before the loss first exceeds
    `tolerance` times the lowest, counted from the pruned stage that has the lowest. (The unpruned
    stage has no say: it was trained in full, all others have had but a short course.) That stage
    stands at the edge, and its loss is a noisy one: the stage before it is recommended, or the
    very last if the loss never exceeds the limit.
    """
    if not result.stages:
        raise InputError("The search has no stage to recommend.")
    lowest = min(result.stages[1:] or result.stages, key=lambda stage: stage.loss_stop)
    limit = tolerance * lowest.loss_stop
    for stage in result.stages[lowest.number + 1 :]:
        if stage.loss_stop > limit:
            return result.stages[max(lowest.number, stage.number - 2)]
    return result.stages[-1]


def stage_file(folder: str | Path, number: int) -> Path:
    """Where the model of a stage is kept."""
    return Path(folder) / f"stage-{number:02d}.safetensors"


def save_search(result: SearchResult, folder: str | Path, *, first: int = 0) -> None:
    """Write the model of every stage from `first` on, then `search.json`."""
    folder = Path(folder)
    for stage in result.stages[first:]:
        save_model(result.model(stage.number), stage_file(folder, stage.number))
    about = {
        "format": FORMAT,
        "version": VERSION,
        "data": result.data,
        "sample_rate": result.sample_rate,
        "settings": asdict(result.settings),
        "collapse": result.collapse,
        "stages": [asdict(stage) for stage in result.stages],
    }
    with write_beside(folder / RESULT) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")


def load_search(folder: str | Path) -> SearchResult:
    """Read what `save_search` wrote. Raises `InputError` for a folder that holds no search."""
    path = Path(folder) / RESULT
    if not path.is_file():
        raise InputError(f"There is no {RESULT} in {folder}; name the folder of a mask search.")
    try:
        about = json.loads(path.read_text())
        if about["format"] != FORMAT or about["version"] != VERSION:
            raise ValueError(f"expected {FORMAT} version {VERSION}")
        courses = {name: TrainSettings(**about["settings"][name]) for name in ("full", "course")}
        result = SearchResult(
            SearchSettings(**{**about["settings"], **courses}),
            int(about["sample_rate"]),
            str(about["data"]),
            [Stage.from_dict(values) for values in about["stages"]],
            collapse=about["collapse"],
        )
    except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged or no result of a mask search ({error!r}).") from error
    for stage in result.stages:
        result.weights.append(load_model(stage_file(folder, stage.number)).state_dict())
    return result
