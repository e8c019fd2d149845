"""The claims: what they say of the paper's own table, of its opposite, of unfinished studies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tinyamp.claims import CLAIMS, claims
from tinyamp.claims_devices import (
    compaction_wins,
    settling_and_pruning,
    short_memory_loses_units,
    sparse_engine,
)
from tinyamp.claims_search import fully_train_first, improves_until_late, predicts
from tinyamp.findings import (
    HOLDS,
    NOT,
    OPEN,
    PARTLY,
    UNTESTED,
    Findings,
    findings,
    spearman,
    verdict,
)
from tinyamp.paper import SHORT_MEMORY, TABLE_I
from tinyamp.study import STUDIES
from tinyamp.study_bench import Workshop

PAPER = Findings(rows=TABLE_I)
DECIDED_BY_TABLE_I = {
    "beats_smaller", "speedups", "fewer_units", "larger_is_better", "keeps_accuracy",
    "range_of_sparsity", "not_accuracy", "no_single_level", "units_matter_more",
}  # fmt: skip


@pytest.mark.parametrize(
    "cases, options, expected",
    [
        ([True, True], {}, HOLDS),
        ([True, False], {}, PARTLY),
        ([True, False, False], {}, NOT),
        ([False], {}, NOT),
        ([], {}, OPEN),
        ([None, None], {}, OPEN),
        ([True, None], {}, f"{HOLDS}, so far"),
        ([True, True, False, False], {"needed": 2}, HOLDS),
        ([True, False, False, False], {"needed": 2}, PARTLY),
        ([False, False], {"needed": 2}, NOT),
        ([True, True], {"needed": 2, "expected": 4}, f"{HOLDS}, so far"),
        ([], {"expected": 4}, OPEN),
    ],
)
def test_verdicts(cases: list, options: dict, expected: str) -> None:
    assert verdict(cases, **options) == expected


def test_rank_correlations() -> None:
    assert spearman([1, 2, 3], [10, 20, 900]) == 1
    assert spearman([1, 2, 3], [3, 2, 1]) == -1
    assert spearman([1, 2], [1, 2]) is None  # two points are always in a line
    assert spearman([1, 2, 3], [5, 5, 5]) is None


def test_the_papers_table_holds_what_the_paper_claims() -> None:
    for claim in CLAIMS:
        expected = HOLDS if claim.__name__ in DECIDED_BY_TABLE_I else OPEN
        if claim.__name__ == "published_baselines":
            expected = UNTESTED
        assert claim(PAPER).verdict == expected, claim.__name__


def test_a_table_of_the_opposite_does_not() -> None:
    """Pruning that triples every loss and slows every model down."""
    rows = [
        replace(row, pruned_test_esr=10 * row.test_esr, pruned_rtf=2 * row.rtf) for row in TABLE_I
    ]
    found = {claim.__name__: claim(Findings(rows=rows)).verdict for claim in CLAIMS}
    for name in ("beats_smaller", "speedups", "fewer_units", "larger_is_better"):
        assert found[name] == NOT, name
    assert found["keeps_accuracy"] == found["range_of_sparsity"] == NOT


def test_half_a_table_is_said_to_be_half() -> None:
    rows = [
        row if row.size < 96 else replace(row, pruned_test_esr=None, pruned_rtf=None)
        for row in TABLE_I
    ]
    found = {claim.__name__: claim(Findings(rows=rows)).verdict for claim in CLAIMS}
    assert found["keeps_accuracy"] == f"{HOLDS}, so far"
    assert found["larger_is_better"] == f"{HOLDS}, so far"
    assert found["beats_smaller"] == OPEN


def search(units: list[int], losses: list[float], settling: float = 0.1) -> dict:
    """A search's result, as far as claims read it."""
    stages = [
        {"number": n, "units": u, "loss_stop": loss, "sparsity": 1 - 0.7**n}
        for n, (u, loss) in enumerate(zip(units, losses, strict=True))
    ]
    epochs = [{"epoch": n, "validation_loss": 1 / n if n % 2 == 0 else None} for n in range(1, 31)]
    unpruned = {"epochs": epochs, "settling_time": settling}
    return {"search": {"stages": stages}, "unpruned": unpruned}


@pytest.mark.parametrize("short_first, expected", [(True, HOLDS), (False, NOT)])
def test_memory_and_units(short_first: bool, expected: str) -> None:
    searches = {}
    for row in TABLE_I:
        quick = (row.device in SHORT_MEMORY) == short_first
        units = [64, 40, 20] if quick else [64, 60, 50]
        searches[row.device, row.size] = search(units, [0.1, 0.2, 0.3])
    assert short_memory_loses_units(Findings(TABLE_I, searches)).verdict == expected
    few = {key: value for key, value in searches.items() if key[0] != "sim-metal"}
    assert short_memory_loses_units(Findings(TABLE_I, few)).verdict == f"{expected}, so far"


@pytest.mark.parametrize("sign, expected", [(1, HOLDS), (-1, NOT)])
def test_settling_time_and_pruning(sign: int, expected: str) -> None:
    """With the paper's rows, settling times in the order of the units that are left, or against."""
    searches = {
        (row.device, row.size): search([1], [1], 1 + sign * row.units / row.size) for row in TABLE_I
    }
    claim = settling_and_pruning(Findings(TABLE_I, searches))
    assert claim.verdict == expected
    assert "n = 12" in claim.evidence


def test_early_bird() -> None:
    losses = [0.1, 0.2, 0.3]
    full = {("sim-muff", 32): search([1] * 3, losses)}
    early = {"sim-muff": search([1] * 3, [0.2, 0.3, 0.4])}
    found = Findings(TABLE_I, full, early)
    assert fully_train_first(found).verdict == f"{HOLDS}, so far"
    assert "sim-muff 2 of 2" in fully_train_first(found).evidence
    early = {"sim-muff": search([1] * 3, [0.2, 0.1, 0.2])}
    assert fully_train_first(replace(found, early=early)).verdict == f"{NOT}, so far"


def test_early_bird_is_decided_when_all_is_there_even_if_a_search_has_collapsed() -> None:
    devices = [row.device for row in TABLE_I if row.size == 32]
    full = {(device, 32): search([1] * 3, [0.1, 0.2, 0.3]) for device in devices}
    early = {device: search([1] * 4, [0.2, 0.3, 0.4, 0.5]) for device in devices}
    early["sim-lead"] = search([1] * 2, [0.2, 0.3])  # the other stages are lost
    pruned = {device: {"test_esr": 0.1} for device in devices}
    same = {device: {"test_esr": 0.2} for device in devices}
    found = Findings(TABLE_I, full, early, pruned, same)
    assert fully_train_first(found).verdict == HOLDS
    assert "sim-lead 1 of 1 (retrained: 2.00×)" in fully_train_first(found).evidence
    for part in ("early", "same", "pruned"):
        fewer = {k: v for k, v in getattr(found, part).items() if k != "sim-muff"}
        some = fully_train_first(replace(found, **{part: fewer}))
        assert some.verdict == f"{HOLDS}, so far", part


def test_late_improvement() -> None:
    found = Findings(TABLE_I, {("sim-muff", 32): search([1], [1])})
    assert improves_until_late(found).verdict == f"{HOLDS}, so far"  # 1/n: a third is gained
    assert "33 %" in improves_until_late(found).evidence


def test_the_heuristic() -> None:
    def points(errors: list[float]) -> list[dict]:
        return [
            {"stage": n, "loss_stop": n / 10, "test_esr": error} for n, error in enumerate(errors)
        ]

    curves = {row.device: points([9, 1, 2, 3, 4]) for row in TABLE_I}
    assert predicts(Findings(TABLE_I, curves=curves)).verdict == HOLDS
    curves = {row.device: points([9, 4, 3, 2, 1]) for row in TABLE_I}
    assert predicts(Findings(TABLE_I, curves=curves)).verdict == NOT


def test_engines() -> None:
    stages = search([64] * 8 + [30] * 8, [1.0] * 16)
    speeds = [
        {
            "stage": n,
            "dense": {"rtf": 2.0},
            "sparse": {"rtf": 3.0 if 1 - 0.7**n <= 0.9 else 1.5},
            "compacted": {"rtf": 2.0 if n < 8 else 1.0},
            "both": {"rtf": 0.5},
        }
        for n in range(16)
    ]
    found = Findings(TABLE_I, {("sim-muff", 64): stages}, fig_8=speeds)
    assert sparse_engine(found).verdict == HOLDS
    assert "from 92 % on" in sparse_engine(found).evidence
    assert compaction_wins(found).verdict == HOLDS
    assert "At 8 of 8 stages" in compaction_wins(found).evidence


def test_nothing_is_finished(tmp_path: Path) -> None:
    shop = Workshop(STUDIES["laptop"], tmp_path / "results", tmp_path / "runs")
    found = claims(findings(shop))
    assert {claim.verdict for claim in found} == {OPEN, UNTESTED}
    assert all(claim.evidence and claim.text and claim.section for claim in found)
