"""The book's visual language: one colour a sound, figures that are legible on a phone, players."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinyamp.files import InputError
from tinyamp.measure import magnitude_spectrum
from tinyamp.player import (
    COLOURS,
    OTHER_COLOURS,
    SAMPLE_RATE,
    checked_signals,
    colours,
    level_match,
    players,
)

if TYPE_CHECKING:
    from IPython.display import Markdown
    from matplotlib.axes import Axes

    from tinyamp.presets import History

__all__ = [
    "COLOURS",
    "SAMPLE_RATE",
    "colours",
    "level_match",
    "players",
    "spectra",
    "table",
    "training_curve",
    "use_style",
    "waveforms",
]


def use_style() -> None:
    """Set matplotlib's defaults: legible at 390 px width, calm, sharp in a notebook."""
    import matplotlib
    from cycler import cycler

    ink, faint = "#2b2d31", "#d9d9de"
    matplotlib.rcParams.update(
        {
            "figure.figsize": (6.4, 3.4),
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
            "font.size": 12,
            "axes.titlesize": 13,
            "axes.titlelocation": "left",
            "axes.titlepad": 10,
            "axes.labelsize": 12,
            "axes.edgecolor": "#9a9aa2",
            "axes.labelcolor": ink,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=OTHER_COLOURS),
            "grid.color": faint,
            "grid.linewidth": 0.7,
            "lines.linewidth": 1.8,
            "lines.solid_capstyle": "round",
            "text.color": ink,
            "xtick.color": ink,
            "ytick.color": ink,
            "xtick.labelsize": 11,
            "ytick.labelsize": 11,
            "legend.fontsize": 11,
            "legend.frameon": False,
            "image.cmap": "cividis",
        }
    )
    try:
        from IPython.core.getipython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    if get_ipython() is not None:
        set_matplotlib_formats("retina")


def waveforms(
    ax: Axes,
    signals: Mapping[str, np.ndarray],
    sample_rate: int = SAMPLE_RATE,
    *,
    start: float = 0.0,
    seconds: float | None = None,
) -> None:
    """Draw signals (time,) over one another, from `start` on for `seconds` (None: to the end).

    Times are in seconds, in milliseconds when less than half a second is shown.
    """
    sounds = checked_signals(signals)
    first = round(start * sample_rate)
    last = None if seconds is None else first + round(seconds * sample_rate)
    shown = max(len(x[first:last]) for x in sounds.values()) / sample_rate
    if shown == 0:
        raise InputError(f"Nothing to draw: the signals end before {start} s.")
    scale, unit = (1e3, "ms") if shown < 0.5 else (1.0, "s")
    for (label, x), colour in zip(sounds.items(), colours(sounds), strict=True):
        t = (first + np.arange(len(x[first:last]))) / sample_rate * scale
        ax.plot(t, x[first:last], label=label, color=colour, linewidth=1.4)
    ax.set(xlabel=f"Time ({unit})", ylabel="Amplitude")
    ax.margins(x=0)
    _legend(ax, len(sounds))


def spectra(
    ax: Axes,
    signals: Mapping[str, np.ndarray],
    sample_rate: int = SAMPLE_RATE,
    *,
    low: float = 40.0,
    high: float = 20_000.0,
    floor_db: float = -110.0,
) -> None:
    """Draw the magnitude spectra of signals (time,): dB over a logarithmic frequency axis in Hz."""
    top = floor_db
    sounds = checked_signals(signals)
    for (label, x), colour in zip(sounds.items(), colours(sounds), strict=True):
        frequencies, level = magnitude_spectrum(x, sample_rate)
        kept = (frequencies >= low) & (frequencies <= high)
        if not kept.any():
            raise InputError(f'"{label}" is too short for a spectrum from {low} to {high} Hz.')
        ax.plot(
            frequencies[kept],
            level[kept],
            label=label,
            color=colour,
            linewidth=1.2,
        )
        top = max(top, float(level[kept].max()))
    ax.set_xscale("log")
    ticks = [f for f in (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000) if low <= f <= high]
    ax.set_xticks(ticks, [f"{f // 1000}k" if f >= 1000 else str(f) for f in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="Frequency (Hz)", ylabel="Level (dB)", xlim=(low, high))
    ax.set_ylim(floor_db, top + 6)
    _legend(ax, len(sounds))


def training_curve(ax: Axes, history: History) -> None:
    """Draw training and validation loss over the epochs, as the paper's Fig. 2 does.

    `history` is what `tinyamp.train.train` returns. The best epoch is marked. Raises `InputError`
    when there is no epoch in it.
    """
    epochs: Sequence = history.epochs
    if not epochs:
        raise InputError("There is no epoch to draw yet.")
    ax.plot(
        [e.epoch for e in epochs],
        [e.train_loss for e in epochs],
        color=COLOURS["dry"],
        label="training",
    )
    validated = [e for e in epochs if e.validation_loss is not None]
    if validated:
        x, y = [e.epoch for e in validated], [e.validation_loss for e in validated]
        ax.plot(x, y, color=COLOURS["unpruned"], label="validation")
        best = min(validated, key=lambda e: e.validation_loss)
        ax.plot(best.epoch, best.validation_loss, "o", color=COLOURS["unpruned"])
        ax.annotate(
            f"best: {best.validation_loss:.3g}",
            (best.epoch, best.validation_loss),
            textcoords="offset points",
            xytext=(-6, 8),
            ha="right",
        )
    ax.set_yscale("log")
    ax.set(xlabel="Epoch", ylabel="Loss")
    _legend(ax, 2)


def _legend(ax: Axes, entries: int) -> None:
    """A legend below the axes, where it hides neither the curves nor the title."""
    if entries > 1:
        from matplotlib.transforms import offset_copy

        below = offset_copy(ax.transAxes, ax.figure, y=-42, units="points")
        ax.legend(
            loc="upper left",
            bbox_to_anchor=(0, 0),
            bbox_transform=below,
            ncols=min(entries, 3),
            borderaxespad=0,
            borderpad=0,
        )


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> Markdown:
    """A table to display: names in the first column, numbers, aligned right, in the others."""
    from IPython.display import Markdown

    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return Markdown("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines))
