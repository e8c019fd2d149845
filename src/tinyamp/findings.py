"""What a study has found, as the claims of the paper need it, and how a verdict follows from it.

What a claim asks for is counted, device by device or row by row; the verdict follows from the
counts alone. What is not finished does not count, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tinyamp.paper import TableRow
from tinyamp.study import EARLY_BIRD, TABLE_I, Row
from tinyamp.study_bench import Workshop
from tinyamp.study_speed import SPEED
from tinyamp.study_tables import table_rows

HOLDS, PARTLY, NOT = "holds", "holds partly", "does not hold here"
OPEN, UNTESTED = "not finished", "cannot be tested here"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, where it stands, and what came out here."""

    section: str
    text: str
    evidence: str
    verdict: str


@dataclass(frozen=True)
class Findings:
    """All that the claims are held against; what is not finished is absent."""

    rows: Sequence[TableRow]  # Table I
    searches: Mapping[tuple[str, int], dict] = field(default_factory=dict)
    early: Mapping[str, dict] = field(default_factory=dict)  # Early-Bird searches, by device
    pruned: Mapping[str, dict] = field(default_factory=dict)  # of the smallest size, by device
    same: Mapping[str, dict] = field(default_factory=dict)  # Early-Bird, retrained, by device
    curves: Mapping[str, list] = field(default_factory=dict)  # retrained at every stage, by device
    fig_8: Sequence[dict] = ()

    @property
    def devices(self) -> list[str]:
        """Names of the devices, in the order of the table."""
        return list(dict.fromkeys(row.device for row in self.rows))

    @property
    def sizes(self) -> list[int]:
        """Hidden sizes, the smallest first."""
        return sorted({row.size for row in self.rows})

    def row(self, device: str, size: int) -> TableRow:
        """One row of Table I."""
        return next(row for row in self.rows if (row.device, row.size) == (device, size))

    @property
    def middle(self) -> int:
        """The hidden size of Fig. 6, 7 and 8: 64 in the paper."""
        return self.sizes[min(1, len(self.sizes) - 1)]

    def ends(self) -> Iterable[tuple[str, TableRow, TableRow]]:
        """Each device with its rows of the smallest and the largest size, if both are known."""
        for device in self.devices:
            small, large = (self.row(device, size) for size in (self.sizes[0], self.sizes[-1]))
            if small.test_esr is not None and large.finished:
                yield device, small, large


def findings(shop: Workshop) -> Findings:
    """Everything that is finished in a study's folder of results."""
    study, first = shop.study, shop.study.seeds[0]

    def result(row: Row, kind: str) -> dict | None:
        found = shop.result(f"{row.name}/{kind}")
        return found["result"] if found else None

    def by_device(kind: str, variant: str = TABLE_I) -> dict[str, dict]:
        rows = {d: Row(d, study.sizes[0], first, variant) for d in study.devices}
        found = {device: result(row, kind) for device, row in rows.items()}
        return {device: value for device, value in found.items() if value is not None}

    searches = {
        (d, n): result(Row(d, n, first), "search") for d in study.devices for n in study.sizes
    }
    speed = shop.result(SPEED)
    return Findings(
        rows=table_rows(shop),
        searches={key: value for key, value in searches.items() if value is not None},
        early=by_device("search", EARLY_BIRD),
        pruned=by_device("pruned"),
        same=by_device("same", EARLY_BIRD),
        curves={device: value["stages"] for device, value in by_device("curve").items()},
        fig_8=speed["result"]["fig_8"]["stages"] if speed else (),
    )


def verdict(
    found: Iterable[bool | None], *, needed: int | None = None, expected: int | None = None
) -> str:
    """What follows from the cases of a claim, None being a case that is not known.

    A claim about all cases holds if it is true of all, and partly if of half or more. One about
    some holds if it is true of the number `needed`, and partly if of any. `expected` is the number
    of cases of a finished study: with fewer, the verdict is marked as open.
    """
    cases = list(found)
    known = [case for case in cases if case is not None]
    if not known:
        return OPEN
    true = sum(known)
    if needed is None:
        result = HOLDS if true == len(known) else PARTLY if true >= len(known) / 2 else NOT
    else:
        result = HOLDS if true >= needed else PARTLY if true else NOT
    return so_far(result, len(known), max(len(cases), expected or 0))


def so_far(result: str, known: int, expected: int) -> str:
    """A verdict, marked if it rests on fewer cases than a finished study has."""
    return f"{result}, so far" if result != OPEN and known < expected else result


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """The rank correlation of two sequences; None for fewer than three cases or constant ones."""
    from scipy.stats import spearmanr

    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(spearmanr(x, y).statistic)


def percent(ratio: float) -> str:
    """Such as "1.23 %", to three digits."""
    return f"{100 * ratio:.3g} %"


def listed(values: Mapping[str, str]) -> str:
    """Such as "sim-muff 1.2, sim-lead 1.3", or a dash."""
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "–"
