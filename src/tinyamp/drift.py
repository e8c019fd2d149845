"""Does the lag stand still? A recording from another clock drifts; a lost buffer makes it jump.

`tinyamp.align` gives one lag for a whole recording. Here the recording is looked at through
windows of a few seconds, and a straight line is laid through their lags.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import map_coordinates, median_filter
from scipy.signal import resample_poly

from tinyamp.align import TOLERANCE, estimate_alignment
from tinyamp.data import Recording

WINDOW = 5.0  # seconds; long enough for a clear peak
WINDOWS = 12
NEEDED = 3  # windows with a clear answer, fewer tell no line
JUMP = 32  # samples off the line: no device does that by itself
ROUNDS = 3  # the slope's error shrinks about tenfold with each
OVERSAMPLING = 2  # before interpolation, so that the treble survives it


@dataclass(frozen=True)
class Drift:
    """How the lag of a target changes: `at` seconds, the lag in samples is lag + slope · at.

    `times` (s) and `lags` (samples) are those of the windows with a clear answer; with less than
    three of them nothing is known, and the line is flat. `residual` is how far the lags are from
    the line at most, in samples; a single window that stands apart from both its neighbours is
    taken for a mistake and has no say.
    """

    times: tuple[float, ...]
    lags: tuple[int, ...]
    lag: float  # samples, at the beginning
    slope: float  # samples a second
    residual: float
    seconds: float  # of the recording
    sample_rate: int

    @property
    def known(self) -> bool:
        """Whether there are enough windows to tell."""
        return len(self.times) >= NEEDED

    @property
    def total(self) -> float:
        """Samples by which the lag changes from beginning to end."""
        return self.slope * self.seconds

    @property
    def ppm(self) -> float:
        """The same as a difference between two clocks, in parts per million."""
        return 1e6 * self.slope / self.sample_rate

    @property
    def drifts(self) -> bool:
        """Whether the lag moves along a line, by more than the tolerance of one lag."""
        return self.known and abs(self.total) > TOLERANCE and self.residual <= JUMP

    @property
    def jumps(self) -> bool:
        """Whether the lag is not on a line at all."""
        return self.known and self.residual > JUMP

    @property
    def jump_at(self) -> tuple[float, float]:
        """Between which seconds the largest change of the lag is."""
        k = int(np.argmax(np.abs(np.diff(median_filter(self.lags, 3, mode="mirror")))))
        return self.times[k], self.times[k + 1]


def estimate_drift(recording: Recording) -> Drift:
    """Follow the lag through the recording, and lay a line through it.

    The lag of a window is that of its strongest attack, wherever in the window it is. So a drift
    that is found is undone, and what is left of it is looked for again.
    """
    found = first = _line(recording)
    for _ in range(ROUNDS - 1):
        if not found.drifts:
            break
        rest = _line(straighten(recording, found))
        found = replace(found, slope=found.slope + rest.slope, lag=rest.lag, residual=rest.residual)
    # What is left may not be a line, or be too little: that is said of the first look's lags.
    return found if found.drifts else first


def _line(recording: Recording) -> Drift:
    """The median line (Theil and Sen), which does not mind a window or two that are wrong."""
    rate, length = recording.sample_rate, round(WINDOW * recording.sample_rate)
    last = len(recording) - length
    count = min(WINDOWS, 1 + last // max(1, length // 2)) if last >= 0 else 0
    starts = np.linspace(0, max(last, 0), max(count, 0)).astype(int)
    times, lags = [], []
    for start in starts:
        part = slice(start, start + length)
        found = estimate_alignment(recording.input[part], recording.target[part], sample_rate=rate)
        if found.clear:
            times.append(float(start + length / 2) / rate)
            lags.append(found.lag)
    lag = slope = residual = 0.0
    if len(times) >= NEEDED:
        t, n = np.array(times), np.array(lags, dtype=float)
        first, second = np.triu_indices(len(t), 1)
        slope = float(np.median((n[second] - n[first]) / (t[second] - t[first])))
        lag = float(np.median(n - slope * t))
        residual = float(np.abs(median_filter(n - lag - slope * t, 3, mode="mirror")).max())
    return Drift(tuple(times), tuple(lags), lag, slope, residual, recording.seconds, rate)


def straighten(recording: Recording, drift: Drift) -> Recording:
    """Play the target at the input's speed: the slope of its lag becomes zero, its lag stays.

    The target is read between its samples, by a spline of degree 5 at twice the rate. What
    would have to come from beyond its end is dropped, with its input.
    """
    rate = recording.sample_rate
    n = np.arange(len(recording))
    position = n + drift.slope * n / rate  # where sample n of the input is in the target
    position = position[position <= len(recording) - 1]
    fine = resample_poly(recording.target.astype(np.float64), OVERSAMPLING, 1)
    target = map_coordinates(fine, [position * OVERSAMPLING], order=5, mode="nearest")
    return replace(
        recording,
        input=recording.input[: len(position)],
        target=target.astype(np.float32),
    )
