"""The drawings in the report of a fit: the wave, the spectrum, and what pruning costs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from tinyamp.chart import Line, line_chart
from tinyamp.fit import Fit
from tinyamp.measure import magnitude_spectrum
from tinyamp.player import COLOURS

SHOWN = 0.03  # seconds of the wave
FLOOR = -110.0  # dB, the lowest level that a spectrum shows
STEPS = 12  # points to an octave of a spectrum
ERROR = "error of pruned"
FREQUENCIES = {50: "50", 100: "100", 200: "200", 500: "500", 1e3: "1k", 2e3: "2k", 5e3: "5k"}
FREQUENCIES |= {1e4: "10k", 2e4: "20k"}


def loudest(x: np.ndarray, length: int) -> int:
    """Where the `length` samples of `x` (time,) begin that have the most energy."""
    if len(x) <= length:
        return 0
    energy = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))])
    return int(np.argmax(energy[length:] - energy[:-length]))


def pictures(fit: Fit, outputs: Mapping[str, np.ndarray]) -> str:
    """Three figures as HTML; `outputs` are "target", "unpruned" and "pruned", each (time,)."""
    return wave(fit, outputs) + spectrum(fit, outputs) + stages(fit)


def _figure(chart: str, caption: str) -> str:
    return f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"


def wave(fit: Fit, outputs: Mapping[str, np.ndarray]) -> str:
    """Some milliseconds of the target and of both models."""
    rate = fit.pruned_model.sample_rate
    length = min(round(SHOWN * rate), len(outputs["target"]))
    start = loudest(outputs["target"], length)
    t = np.arange(length) / rate * 1e3
    lines = [Line(k, t, x[start : start + length], COLOURS[k]) for k, x in outputs.items()]
    alt = f"{SHOWN * 1e3:.0f} ms of the target, with the output of both models over it."
    chart = line_chart(lines, x_label="Time (ms)", y_label="Amplitude", alt=alt)
    return _figure(
        chart, "The loudest stretch of the test part. Where one line shows, all three agree."
    )


def spectrum(fit: Fit, outputs: Mapping[str, np.ndarray]) -> str:
    """Spectra of the test part, and of what the pruned model gets wrong."""
    rate = fit.pruned_model.sample_rate
    sounds = {**outputs, ERROR: outputs["pruned"] - outputs["target"]}
    lines = []
    for (name, x), colour in zip(
        sounds.items(), [*(COLOURS[k] for k in outputs), COLOURS["sim-muff"]], strict=True
    ):
        frequencies, level = magnitude_spectrum(x, rate, resolution=20.0)
        edges = np.geomspace(40, min(20_000, 0.49 * rate), 9 * STEPS + 1)
        centres = np.sqrt(edges[1:] * edges[:-1])
        where = [(frequencies >= a) & (frequencies < b) for a, b in pairwise(edges)]
        kept = [k for k, inside in enumerate(where) if inside.any()]
        power = [10 * np.log10(np.mean(10 ** (level[where[k]] / 10))) for k in kept]
        lines.append(Line(name, centres[kept], np.maximum(power, FLOOR), colour))
    chart = line_chart(
        lines,
        x_label="Frequency (Hz)",
        y_label="Level (dB)",
        alt="Level over frequency of target, unpruned and pruned, and of the pruned model's error.",
        log_x=True,
        ticks=FREQUENCIES,
    )
    caption = "Spectra of the test part. The error is the pruned model's output minus the target: "
    return _figure(chart, caption + "where it comes near the target, the model is wrong.")


def stages(fit: Fit) -> str:
    """Loss of every stage at the end of its search, and errors of those that were retrained."""
    numbers = [stage.number for stage in fit.found.stages]
    losses = [stage.loss_stop for stage in fit.found.stages]
    tried = sorted(fit.tried)
    lines = [
        Line("loss at the end of a stage's search", numbers, losses, COLOURS["dry"], dots=True),
        Line(
            "error after retraining (ESR)",
            tried,
            [fit.tried[number] for number in tried],
            COLOURS["pruned"],
            dots=True,
            joined=False,
        ),
        Line("limit", [0, max(numbers[-1], 1)], [fit.limit] * 2, COLOURS["unpruned"]),
    ]
    ticks = {
        stage.number: f"{stage.active}" for stage in fit.found.stages[:: 1 + len(numbers) // 6]
    }
    chart = line_chart(
        lines,
        x_label="Weights left",
        y_label="Loss, error",
        alt="Loss of every stage against the weights left, with the errors of retrained stages.",
        log_y=True,
        ticks=ticks,
    )
    caption = f"The mask search, from unpruned to nearly empty. Stage {fit.stage} was taken."
    return _figure(chart, caption)
