"""The study: the paper's whole experiment, Sections IV and V, as a list of jobs.

A *row* is one search: a device, a hidden size, a seed and a variant. Its jobs search for masks,
choose and retrain a stage, and train what it is compared with; each writes one result. What a job
does is in `tinyamp.study_jobs`; what its result looks like in `tinyamp.study_record`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from tinyamp.data import AUTHORS, SIMULATED
from tinyamp.files import InputError
from tinyamp.presets import PRESETS, TrainSettings
from tinyamp.stages import SEARCH_PRESETS, SearchSettings

# Variants of a row, see `Row`.
TABLE_I, EARLY_BIRD, UNITS, LONGER = "fully-train-first", "early-bird", "units", "units-longer"
# Settings that came later than published results; at these values nothing has changed.
LATER = {"weight_decay": 0.0, "decoupled": False, "fresh_adam": False, "prune_best": False}
# These say which rows there are, or are in another setting's place: not what a row gets.
GRID = ("devices", "sizes", "seeds", "longer")


@dataclass(frozen=True)
class StudySettings:
    """What the study trains and how; the defaults are the paper's, Table I and Section IV.

    The first of `sizes` is the one with several `seeds`, with retraining at every stage (Fig. 3)
    and with the Early-Bird variant; of the last, whole units are pruned as well, which goes beyond
    the paper, and then once more with `longer` times as many epochs of retraining. A stage is
    selected if it is pruned by `floor` or more and its validation ESR after retraining is at most
    `slack` times that of the unpruned model: see `tinyamp.study_jobs.choose`. `seconds` limits
    every split, for tests.
    """

    devices: tuple[str, ...] = AUTHORS
    sizes: tuple[int, ...] = (32, 64, 96)  # Table I
    seeds: tuple[int, ...] = (0, 1, 2)
    source: str = "authors"
    search: SearchSettings = SEARCH_PRESETS["paper"]
    retrain: TrainSettings = PRESETS["paper"]  # V-A: as long as the unpruned model
    floor: float = 0.65  # Table I: the least that was pruned is 65.7 %
    slack: float = 1.0
    longer: int = 3
    seconds: float | None = None

    def retraining(self, variant: str, tries: int = 1) -> TrainSettings:
        """How the stages of a row of this variant are retrained; every new try halves the rate."""
        times = self.longer if variant == LONGER else 1
        rate = self.retrain.learning_rate / 2 ** (tries - 1)
        return replace(self.retrain, epochs=times * self.retrain.epochs, learning_rate=rate)

    def what_a_row_gets(self, variant: str = TABLE_I) -> dict:
        """All settings of a row of this variant, not those that only say which rows there are."""
        settings = asdict(replace(self, retrain=self.retraining(variant)))
        return {name: value for name, value in settings.items() if name not in GRID}

    def digest(self, kind: str = "", variant: str = TABLE_I) -> str:
        """What results of a kind of job are stamped with; the same when only rows are added.

        A search does not depend on how its stages are retrained and selected.
        """
        settings = self.what_a_row_gets(variant)
        if kind == "search":
            settings = {name: settings[name] for name in ("search", "source", "seconds")}
        text = json.dumps(_without_later(settings), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_later(values: dict) -> dict:
    """The same without those of `LATER` that change nothing, at every depth."""
    return {
        name: _without_later(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if name not in LATER or value != LATER[name]
    }


# 48 epochs and not the 36 of `tinyamp train`, for every size: with fewer, sim-metal is still at
# the edge where a few epochs halve its error, and a ratio to an unfinished model says little.
# Chunks of half the length are twice the updates for a tenth more time: the validation loss of
# sim-muff, unpruned, falls by a quarter, that of its retrained stages too.
LAPTOP = replace(PRESETS["laptop"], epochs=48, chunk=512)
# Three times the updates from mask to mask of `tinyamp search`, over half as much more audio: large
# models have far more weights to settle, and the budget allows it.
# No weight decay: its published results were made before the preset had any.
COURSE = replace(
    SEARCH_PRESETS["laptop"].course, chunk=512, segments_per_epoch=60, weight_decay=0.0
)
QUICK = replace(PRESETS["laptop"], epochs=3, segments_per_epoch=None, validate_every=1, chunk=4096)

STUDIES = {
    "paper": StudySettings(),
    "laptop": StudySettings(
        devices=SIMULATED,
        source="full",
        search=replace(SEARCH_PRESETS["laptop"], full=LAPTOP, course=COURSE),
        retrain=LAPTOP,
    ),
    # Every kind of job in a minute, to see that the machinery works; the numbers mean nothing.
    "tiny": StudySettings(
        devices=("sim-muff",),
        sizes=(4, 5),
        seeds=(0,),
        source="excerpt",
        search=replace(
            SEARCH_PRESETS["laptop"], iterations=2, k=2, full=QUICK, course=replace(QUICK, epochs=3)
        ),
        retrain=QUICK,
        floor=0.25,
        seconds=0.6,
    ),
}


def study_settings(preset: str) -> StudySettings:
    """The study called `preset`; raises `InputError` when there is none."""
    if preset not in STUDIES:
        raise InputError(f"There is no study {preset!r}; choose from {', '.join(STUDIES)}.")
    return STUDIES[preset]


@dataclass(frozen=True)
class Row:
    """One mask search and what belongs to it.

    The variants: "fully-train-first" is the paper's, Table I; "early-bird" its other one; "units"
    begins with the unpruned model of the first and prunes whole units (see `tinyamp.masks`);
    "units-longer" retrains stages of that for longer.
    """

    device: str
    size: int
    seed: int = 0
    variant: str = TABLE_I

    @property
    def name(self) -> str:
        """The folder of its results, such as "sim-muff-32-s0" or "sim-muff-32-s0-early-bird"."""
        suffix = "" if self.variant == TABLE_I else f"-{self.variant}"
        return f"{self.device}-{self.size}-s{self.seed}{suffix}"

    @property
    def in_table_i(self) -> Row:
        """The row of the same device, size and seed with the paper's variant."""
        return replace(self, variant=TABLE_I)

    @property
    def unpruned(self) -> Row:
        """The row that has trained the unpruned model of this one."""
        return self.in_table_i if self.variant in (UNITS, LONGER) else self

    @property
    def searched(self) -> Row:
        """The row that has searched the stages of this one."""
        return replace(self, variant=UNITS) if self.variant == LONGER else self


@dataclass(frozen=True)
class Job:
    """One command, `tinyamp study job NAME`, and the result that it writes.

    The kinds: "search" trains and searches; "pruned" selects a stage and retrains it (Table I);
    "one-shot" prunes to the same sparsity at once; "matched" finds the sparsest stage that is no
    worse than the unpruned model of the smallest size; "curve" retrains every stage (Fig. 3);
    "from-scratch" trains a new model as small as the selected one, as long, and prunes nothing;
    "same" retrains the stage of an Early-Bird search that the paper's variant has selected.
    """

    kind: str
    row: Row
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Such as "sim-muff-32-s0/pruned"."""
        return f"{self.row.name}/{self.kind}"

    @property
    def file(self) -> str:
        """The result, relative to the folder of the study's results."""
        return f"{self.name}.json"


def jobs_of(study: StudySettings) -> list[Job]:
    """All jobs of a study, in the order in which they should run: whole rows first.

    Table I comes first: the smallest size, then the largest (the one that shall beat it), then
    those between. Every job comes after those that it `needs`.
    """
    smallest, *larger = study.sizes
    first = study.seeds[0]
    jobs: list[Job] = []

    def add(kind: str, row: Row, *needs: str) -> None:
        jobs.append(Job(kind, row, needs))

    def add_row(row: Row, *, match: bool = False) -> None:
        add("search", row)
        add("pruned", row, f"{row.name}/search")
        if match:
            other = replace(row, size=smallest)
            add("matched", row, f"{row.name}/pruned", f"{other.name}/search")
        add("one-shot", row, f"{row.name}/pruned")

    for size in (smallest, *reversed(larger)):
        for device in study.devices:
            add_row(Row(device, size, first), match=size == study.sizes[-1] != smallest)
    for device in study.devices:
        row = Row(device, study.sizes[-1], first, UNITS)
        other = Row(device, smallest, first)
        add("search", row, f"{row.unpruned.name}/search")
        add("pruned", row, f"{row.name}/search")
        add("matched", row, f"{row.name}/pruned", f"{other.name}/search")
        add("from-scratch", row, f"{row.name}/pruned")
        longer = replace(row, variant=LONGER)
        add("matched", longer, f"{row.name}/search", f"{other.name}/search")
        add("from-scratch", longer, f"{longer.name}/matched")
    for device in study.devices:
        row = Row(device, smallest, first)
        add("curve", row, f"{row.name}/pruned")
    for device in study.devices:
        row = Row(device, smallest, first)
        early = replace(row, variant=EARLY_BIRD)
        add("search", early)
        add("same", early, f"{early.name}/search", f"{row.name}/pruned")
    for seed in study.seeds[1:]:
        for device in study.devices:
            add_row(Row(device, smallest, seed))
    return jobs


def find_job(jobs: Sequence[Job], name: str) -> Job:
    """The job called `name`; raises `InputError` when there is none."""
    for job in jobs:
        if job.name == name:
            return job
    raise InputError(f"This study has no job {name!r}; `tinyamp study status --all` lists them.")
