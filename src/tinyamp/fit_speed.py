"""How fast a fitted model plays, against the unpruned one, and in which layout it is faster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyamp.bench import LAYOUTS
from tinyamp.model import AmpLSTM
from tinyamp.realtime import Engine, compare


@dataclass(frozen=True)
class Speed:
    """Real-time factors of two models, and what the engines were.

    `layout` is the one of the pruned model that was faster here, "dense" or "sparse"; "auto" if
    nothing could be compiled. `times_faster` is the median over the rounds.
    """

    unpruned_rtf: float
    pruned_rtf: float
    unpruned_engine: str
    pruned_engine: str
    layout: str
    times_faster: float


def measure_speed(unpruned: AmpLSTM, pruned: AmpLSTM, x: np.ndarray, rounds: int) -> Speed:
    """Play `x` (time,) with both models, side by side on one thread.

    The pruned model is compiled dense and sparse, as no rule is as sure as a measurement. Without
    a C compiler both play in PyTorch, of which `Engine` warns.
    """
    engines = {"unpruned": Engine(unpruned)}
    compiled = engines["unpruned"].kind == "compiled"
    for layout in LAYOUTS if compiled else ("auto",):
        engines[layout] = Engine(pruned, layout=layout, compiled=compiled)
    timings = compare(
        {name: engine.process for name, engine in engines.items()},
        rounds=rounds,
        sample_rate=unpruned.sample_rate,
        x=x,
    )
    best = min(list(engines)[1:], key=lambda layout: timings[layout].median)
    return Speed(
        timings["unpruned"].median,
        timings[best].median,
        engines["unpruned"].description,
        engines[best].description,
        best,
        timings[best].times_faster_than(timings["unpruned"]),
    )
