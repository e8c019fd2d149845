"""Line charts as SVG text, for pages that must stand alone and follow a light or a dark theme.

The book's figures are drawn with matplotlib; a report must do without, as the library does.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinyamp.files import InputError

WIDTH, HEIGHT = 440, 280  # of the drawing; small, so that its text is legible on a phone
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 46  # margins
CSS = """\
.chart{display:block;width:100%;max-width:36rem;height:auto;margin:.5rem 0}
.chart text{fill:currentColor;font:12px system-ui,sans-serif}
.chart .grid{stroke:currentColor;stroke-opacity:.16}
.chart path{fill:none;stroke-linejoin:round;stroke-width:1.6}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:0 0 .3rem;padding:0;list-style:none}
.legend li::before{content:"";display:inline-block;width:1.1em;height:.28em;border-radius:1px;
margin-right:.45em;vertical-align:middle;background:var(--colour)}"""


@dataclass(frozen=True)
class Line:
    """A line through `x` and `y` (points,), in a colour; with `dots`, its points are marked."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    colour: str
    dots: bool = False
    joined: bool = True


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    alt: str,
    log_x: bool = False,
    log_y: bool = False,
    ticks: Mapping[float, str] | None = None,
) -> str:
    """A chart with its legend, as HTML; `alt` says in words what is to be seen.

    `ticks` are the values on the x axis that get a label. Raises `InputError` when there is
    nothing to draw, or a number that a logarithmic axis does not have.
    """
    if not any(len(line.x) for line in lines):
        raise InputError("There is nothing to draw.")
    x_of, x_ticks = _axis([line.x for line in lines], log_x, LEFT, WIDTH - RIGHT, 0.0)
    y_of, y_ticks = _axis([line.y for line in lines], log_y, HEIGHT - BOTTOM, TOP, 0.04)
    labels = ticks or {value: _number(value) for value in x_ticks}
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(alt, quote=True)}">'
    ]
    for value in y_ticks:
        y = y_of(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{_number(value)}</text>')
    shown = np.concatenate([np.asarray(line.x, dtype=float) for line in lines])
    for value, text in labels.items():
        if shown.min() <= value <= shown.max():
            x = x_of(value)
            ends = f'x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
            parts.append(f'<line class="grid" {ends}/>')
            place = f'x="{x}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle"'
            parts.append(f"<text {place}>{html.escape(text)}</text>")
    middle = (LEFT + WIDTH - RIGHT) / 2
    place = f'x="{middle}" y="{HEIGHT - 6}" text-anchor="middle"'
    parts.append(f"<text {place}>{html.escape(x_label)}</text>")
    height = (TOP + HEIGHT - BOTTOM) / 2
    place = f'transform="translate(13 {height}) rotate(-90)" text-anchor="middle"'
    parts.append(f"<text {place}>{html.escape(y_label)}</text>")
    parts += [_drawn(line, x_of, y_of) for line in lines if len(line.x)]
    entries = "".join(
        f'<li style="--colour:{line.colour}">{html.escape(line.label)}</li>' for line in lines
    )
    return f'<ul class="legend">{entries}</ul>' + "".join(parts) + "</svg>"


def _axis(
    values: Sequence, log: bool, start: int, stop: int, margin: float
) -> tuple[Callable[[float], float], list[float]]:
    """A function from values to places between `start` and `stop`, and the values to be named."""
    everything = np.concatenate([np.asarray(v, dtype=float) for v in values])
    if not np.isfinite(everything).all() or (log and not everything.min() > 0):
        raise InputError("A chart needs finite numbers, above 0 for a logarithmic axis.")
    scale, back = (math.log10, lambda value: 10.0**value) if log else (float, float)
    first, last = (scale(limit) for limit in (everything.min(), everything.max()))
    room = margin * (last - first) or (0.5 if last == first else 0.0)
    first, last = first - room, last + room
    low, high = back(first), back(last)

    def place(value: float) -> float:
        share = (scale(min(max(value, low), high)) - first) / (last - first)
        return round(start + share * (stop - start), 1)

    return place, _log_ticks(low, high) if log else _ticks(low, high)


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers from `low` to `high`."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= next(k for k in (5, 2, 1) if (high - low) / (k * step) >= 3)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, with 2 and 5 in between when they are few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if high / low > 300 else (1, 2, 5)
    return [k * 10.0**n for n in decades for k in steps if low <= k * 10.0**n <= high]


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _drawn(line: Line, x_of: Callable, y_of: Callable) -> str:
    """One line as SVG: a path, and circles if its points are marked."""
    points = [(x_of(x), y_of(y)) for x, y in zip(line.x, line.y, strict=True)]
    drawn = ""
    if line.joined:
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        drawn = f'<path stroke="{line.colour}" d="{path}"/>'
    if line.dots:
        drawn += "".join(
            f'<circle cx="{x:g}" cy="{y:g}" r="3.6" fill="{line.colour}"/>' for x, y in points
        )
    return drawn
