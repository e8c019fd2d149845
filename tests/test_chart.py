"""Charts as SVG: well-formed, points where they belong, text escaped, nonsense refused."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tinyamp.chart import HEIGHT, WIDTH, Line, line_chart
from tinyamp.files import InputError

LABELS = {"x_label": "Time (ms)", "y_label": "Level", "alt": 'a "line" & more'}


def drawn(lines: list[Line], **options) -> ElementTree.Element:
    """The chart as a tree; it must be well-formed."""
    return ElementTree.fromstring(f"<div>{line_chart(lines, **LABELS, **options)}</div>")


def points(chart: ElementTree.Element) -> np.ndarray:
    """Points of the first path, (points, 2)."""
    numbers = re.findall(r"-?[\d.]+", chart.find(".//path").get("d"))
    return np.array(numbers, dtype=float).reshape(-1, 2)


def test_points_follow_the_numbers():
    x, y = np.array([0.0, 1.0, 4.0]), np.array([-1.0, 3.0, 1.0])
    at = points(drawn([Line("a", x, y, "#123456")]))
    for places, values, sign in ((at[:, 0], x, 1), (at[:, 1], y, -1)):
        slope = np.diff(places) / np.diff(values)
        assert slope == pytest.approx([slope[0]] * 2, rel=0.01) and sign * slope[0] > 0
    assert (at >= 0).all() and (at <= (WIDTH, HEIGHT)).all()


def test_logarithmic_axes_have_equal_ratios():
    at = points(drawn([Line("a", [1, 10, 100], [0.01, 0.1, 1], "#1")], log_x=True, log_y=True))
    assert np.diff(at[:, 0]) == pytest.approx([at[1, 0] - at[0, 0]] * 2, abs=0.2)
    assert np.diff(at[:, 1]) == pytest.approx([at[1, 1] - at[0, 1]] * 2, abs=0.2)


def test_everything_is_named_and_escaped():
    chart = drawn([Line("a <b>", [0, 1], [0, 1], "#1", dots=True), Line("c", [0, 1], [1, 0], "#2")])
    svg = chart.find("svg")
    assert svg.get("role") == "img" and svg.get("aria-label") == LABELS["alt"]
    assert [entry.text for entry in chart.iter("li")] == ["a <b>", "c"]
    texts = [text.text for text in chart.iter("text")]
    assert {"Time (ms)", "Level"} <= set(texts) and len(texts) >= 8
    assert len(list(chart.iter("circle"))) == 2 and len(list(chart.iter("path"))) == 2


def test_ticks_can_be_chosen():
    chart = drawn([Line("a", [0, 10], [0, 1], "#1")], ticks={0: "none", 10: "ten", 99: "outside"})
    texts = [text.text for text in chart.iter("text")]
    assert "ten" in texts and "none" in texts and "outside" not in texts


@pytest.mark.parametrize("y", [[2.0, 2.0], [0.0, 0.0], [1e-9, 1e9]])
def test_any_range_can_be_drawn(y):
    at = points(drawn([Line("a", [0, 1], y, "#1")]))
    assert np.isfinite(at).all()


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ([], {}),
        ([Line("a", [], [], "#1")], {}),
        ([Line("a", [0, 1], [0, np.nan], "#1")], {}),
        ([Line("a", [0, 1], [0, 1], "#1")], {"log_y": True}),
    ],
)
def test_what_cannot_be_drawn_is_refused(lines, options):
    with pytest.raises(InputError):
        line_chart(lines, **LABELS, **options)
