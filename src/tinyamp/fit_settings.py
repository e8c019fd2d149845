"""How a recording becomes a small model: three presets for `tinyamp.fit`, by how long they take."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinyamp.files import InputError
from tinyamp.model import MAX_HIDDEN_SIZE
from tinyamp.presets import PRESETS, TrainSettings
from tinyamp.stages import SEARCH_PRESETS, SearchSettings, by_score


@dataclass(frozen=True)
class FitSettings:
    """How a recording becomes a small model.

    A stage is good if its validation ESR after retraining is at most `slack` times that of the
    unpruned model or at most `good`; at most `tries` stages are retrained. The unpruned model is
    trained by `search.full`, whatever `search.variant` says.
    """

    hidden_size: int = 32
    search: SearchSettings = SEARCH_PRESETS["paper"]
    retrain: TrainSettings = PRESETS["paper"]
    slack: float = 1.25  # the error 1 dB louder
    good: float = 0.01  # the error 20 dB under the signal
    tries: int = 4  # enough to find one of 15 by halving
    starts: int = 3  # other initial weights, if a training is stuck
    rounds: int = 21  # of the timing

    def __post_init__(self) -> None:
        if not 1 <= self.hidden_size <= MAX_HIDDEN_SIZE:
            raise InputError(
                f"hidden_size must be from 1 to {MAX_HIDDEN_SIZE}, but is {self.hidden_size}."
            )
        if not (self.slack >= 1 and self.good >= 0):
            raise InputError(
                f"slack must be at least 1 and good at least 0, but they are {self.slack} and "
                f"{self.good}."
            )
        if min(self.tries, self.rounds, self.starts) < 1:
            raise InputError("tries, starts and rounds must be at least 1.")


# Short chunks and small steps: for the same work, four times the updates. At 1e-2, half a minute of
# sim-crunch, upright, never left its first plateau: 73 % of error after 24 epochs.
_QUICK = replace(
    PRESETS["laptop"],
    epochs=24,
    segments_per_epoch=32,
    segment_length=11_025,
    warmup=500,
    chunk=256,
    learning_rate=4e-3,
    rise_epochs=1,
    validate_every=4,
)
# Twice the updates of `tinyamp train`, for a tenth more time: as in the study.
_FULL = replace(PRESETS["laptop"], chunk=512)
FIT_PRESETS = {
    "paper": FitSettings(),
    # Eight to ten minutes for 32 units on one core, of which the unpruned model takes two. Four
    # retrainings of full length would take as long again. Whole units are pruned, because they are
    # what costs time: of 32 units, a minute of sim-lead needs 11, and is 2.4 times as fast with
    # them. Weights that are pruned with decay take units with them, too, but at the same number of
    # units the loss is two to five times as high (`tinyamp.study_decay`, 32 units).
    "laptop": FitSettings(
        search=by_score(replace(SEARCH_PRESETS["laptop"], full=_FULL), "unit"),
        retrain=replace(_FULL, epochs=20),
    ),
    # A minute, to see how it is done: the model is a rough one, and is held to less.
    "quick": FitSettings(
        hidden_size=16,
        search=replace(
            SEARCH_PRESETS["laptop"],
            iterations=7,
            fraction=0.4,
            score="unit",
            k=2,
            full=_QUICK,
            course=replace(
                _QUICK, segments_per_epoch=16, epochs=4, rise_epochs=0, final_fraction=0.1
            ),
        ),
        retrain=replace(_QUICK, epochs=12),
        good=0.03,
        tries=3,
        rounds=9,
    ),
}
