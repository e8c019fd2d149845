"""Table I as it is typed in: held against the paper's own arithmetic."""

from __future__ import annotations

import pytest

from tinyamp.model import parameter_count
from tinyamp.paper import STANDS_FOR, TABLE_I, TableRow, expected_parameters
from tinyamp.study import STUDIES

ERRATUM = ("sim-muff", 64)


def test_the_rows_are_those_of_the_study() -> None:
    study = STUDIES["laptop"]
    expected = {(device, size) for device in study.devices for size in study.sizes}
    assert {(row.device, row.size) for row in TABLE_I} == expected
    assert set(STANDS_FOR) == set(study.devices)
    assert len(TABLE_I) == 12


@pytest.mark.parametrize("row", TABLE_I, ids=lambda row: f"{row.device}-{row.size}")
def test_typed_numbers_fit_one_another(row: TableRow) -> None:
    """Parameters and sparsity both follow from the iterations; one row has an erratum."""
    assert row.parameters == parameter_count(row.size)
    assert expected_parameters(row.size, row.stage, row.units) == pytest.approx(
        row.pruned_parameters, abs=0.5
    )
    printed = abs(100 * row.sparsity - 100 * (1 - 0.7**row.stage)) < 0.06
    assert printed == ((row.device, row.size) != ERRATUM)
    assert 0.9 < row.ratio < 1.21  # "0.95 to 1.2", from losses that are rounded to two digits


def counted(row: TableRow) -> int:
    """Parameters left if whole weights are pruned, 30 % of those left in every iteration."""
    pool = 4 * row.size + 4 * row.size**2
    for _ in range(row.stage):
        pool -= round(0.3 * pool)
    return pool + 8 * row.units


def test_the_parameters_are_those_of_the_formula_and_not_a_count() -> None:
    for row in TABLE_I:
        assert round(expected_parameters(row.size, row.stage, row.units)) == row.pruned_parameters
    others = {row.label: counted(row) for row in TABLE_I if counted(row) != row.pruned_parameters}
    assert others == {
        "sim-lead 96": 3675,
        "sim-crunch 64": 904,
        "sim-crunch 96": 928,
        "sim-metal 64": 4428,
    }


def test_speedups_are_those_of_the_text() -> None:
    """V: 3.1 (Mesa), 3.7 (Big Muff), 1.3 (HT-1) and 1.5 (HT-5) for the largest models."""
    found = {STANDS_FOR[row.device]: row.speedup for row in TABLE_I if row.size == 96}
    expected = {"Mesa": 3.1, "Big Muff": 3.7, "HT-1": 1.3, "HT-5": 1.5}
    assert found == pytest.approx(expected, abs=0.06)


def test_what_is_not_known_is_none() -> None:
    row = TableRow("sim-muff", 32)
    assert not row.finished
    assert row.ratio is None and row.speedup is None
