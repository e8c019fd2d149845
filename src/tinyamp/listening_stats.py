"""What ratings say: means with confidence intervals (Fig. 9), and a paired comparison.

A listener's ratings of several trials are not independent of one another, so each listener's are
averaged first, and n is the number of listeners. All tests here are two-sided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from tinyamp.files import InputError
from tinyamp.listening import CONDITIONS
from tinyamp.listening_ratings import Rating


@dataclass(frozen=True)
class Mean:
    """A mean rating and its confidence interval."""

    device: str
    condition: str
    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The mean difference first − second over n listeners, its interval, and two p-values."""

    device: str
    first: str
    second: str
    n: int
    difference: float
    low: float
    high: float
    t: float
    p_t: float  # paired t test: differences are normally distributed
    rank_sum: float
    p_rank: float  # Wilcoxon signed-rank test: differences are symmetrically distributed


def _values(values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise InputError(
            "Two or more finite values are needed for a confidence interval or a test; got "
            f"{values.size if values.ndim == 1 else values.shape}."
        )
    return values


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean and confidence interval (mean, low, high) by Student's t: m ± t · s / √n.

    Exact for independent values from a normal distribution. Raises `InputError` for fewer than
    two values, or a level that is not between 0 and 1.
    """
    values = _values(values)
    if not 0 < level < 1:
        raise InputError(f"A confidence level lies between 0 and 1, but {level} came.")
    mean, n = float(values.mean()), len(values)
    half = student.ppf(0.5 + level / 2, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, mean - float(half), mean + float(half)


def paired_t(differences: Sequence[float]) -> tuple[float, float]:
    """Student's t of paired differences and its two-sided p-value, with n − 1 degrees of freedom.

    It assumes independent differences from a normal distribution. Where all are equal, t is
    infinite and p is 0, or, if they are all 0, t is 0 and p is 1.
    """
    d = _values(differences)
    spread = float(d.std(ddof=1)) / math.sqrt(len(d))
    mean = float(d.mean())
    if np.ptp(d) == 0:
        return (math.copysign(math.inf, mean), 0.0) if mean else (0.0, 1.0)
    t = mean / spread
    return t, float(2 * student.sf(abs(t), len(d) - 1))


def signed_rank(differences: Sequence[float]) -> tuple[float, float]:
    """Wilcoxon's signed-rank statistic, the smaller of the two rank sums, and its p-value.

    It assumes independent differences from a distribution that is symmetric about its median.
    Zeros are left out, as Wilcoxon did; equal sizes share their mean rank. The p-value is exact,
    also with ties: all 2ⁿ ways to set the signs are counted.
    """
    d = _values(differences)
    d = d[d != 0]
    if not len(d):
        return 0.0, 1.0
    doubled = np.rint(2 * rankdata(np.abs(d))).astype(int)  # whole numbers, although ties halve
    ways = np.zeros(int(doubled.sum()) + 1)  # ways[s]: share of the sign patterns with sum s
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] = 0.5 * (ways[rank:] + ways[: len(ways) - rank])
        ways[:rank] *= 0.5
    smaller = min(int(doubled[d > 0].sum()), int(doubled[d < 0].sum()))
    return smaller / 2, float(min(1.0, 2 * ways[: smaller + 1].sum()))


def _table(ratings: Sequence[Rating], device: str) -> dict[str, np.ndarray]:
    """The ratings of one device by condition, each (listeners, trials), in one order."""
    mine = [r for r in ratings if r.device == device]
    listeners = sorted({r.listener for r in mine})
    passages = sorted({r.passage for r in mine})
    tables = {c: np.full((len(listeners), len(passages)), np.nan) for c in CONDITIONS}
    for r in mine:
        tables[r.condition][listeners.index(r.listener), passages.index(r.passage)] = r.rating
    if any(np.isnan(table).any() for table in tables.values()):
        raise InputError(f"Ratings of {device} are missing; read them with read_ratings.")
    return tables


def devices(ratings: Sequence[Rating]) -> list[str]:
    """The devices that were rated, by name."""
    return sorted({r.device for r in ratings})


def means(ratings: Sequence[Rating], *, level: float = 0.95, pooled: bool = False) -> list[Mean]:
    """Mean ratings with confidence intervals, per device and condition: Fig. 9.

    n is the number of listeners, whose ratings are averaged first. `pooled` takes every rating for
    an independent one, which makes intervals look narrower than they are. Limits may leave the
    scale. Raises `InputError` for fewer than two listeners, or ratings with gaps.
    """
    found = []
    for device in devices(ratings):
        for condition, table in _table(ratings, device).items():
            _demand_two(table, device)
            values = table.ravel() if pooled else table.mean(axis=1)
            mean, low, high = t_interval(values, level)
            found.append(Mean(device, condition, len(values), mean, low, high))
    return found


def compare(
    ratings: Sequence[Rating],
    first: str = "pruned",
    second: str = "unpruned",
    *,
    level: float = 0.95,
) -> list[Comparison]:
    """The paired comparison of two conditions, per device: within each listener, then over them.

    Raises `InputError` for an unknown condition, fewer than two listeners, or ratings with gaps.
    """
    for condition in (first, second):
        if condition not in CONDITIONS:
            known = ", ".join(CONDITIONS)
            raise InputError(f"There is no condition {condition!r}; choose from {known}.")
    found = []
    for device in devices(ratings):
        table = _table(ratings, device)
        _demand_two(table[first], device)
        differences = (table[first] - table[second]).mean(axis=1)  # (listeners,)
        interval = t_interval(differences, level)
        tests = (*paired_t(differences), *signed_rank(differences))
        found.append(Comparison(device, first, second, len(differences), *interval, *tests))
    return found


def _demand_two(table: np.ndarray, device: str) -> None:
    if len(table) < 2:
        raise InputError(
            f"{device} has ratings of {len(table)} listener, after post-screening; two or more "
            "are needed to say how far listeners differ."
        )
