"""The study: what its jobs are, how a stage is selected, and what its results say."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinyamp import study_record
from tinyamp.data import Recording
from tinyamp.files import InputError
from tinyamp.masks import apply_masks, full_masks, prune
from tinyamp.model import AmpLSTM
from tinyamp.presets import PRESETS, Epoch, History
from tinyamp.study import (
    EARLY_BIRD,
    LONGER,
    STUDIES,
    TABLE_I,
    UNITS,
    Row,
    find_job,
    jobs_of,
    study_settings,
)
from tinyamp.study_bench import Bench, Workshop
from tinyamp.study_jobs import choose, run_job
from tinyamp.study_plan import Amounts, Cost, duration, estimate, measure_cost
from tinyamp.study_retrain import train_pruned
from tinyamp.study_tables import format_table, state_of, table_csv, table_row, table_rows
from tinyamp.train import validation_loss

LAPTOP = STUDIES["laptop"]


# The grid.


@pytest.mark.parametrize("name", STUDIES)
def test_every_job_comes_after_what_it_needs(name: str) -> None:
    seen: set[str] = set()
    for job in jobs_of(STUDIES[name]):
        assert set(job.needs) <= seen
        assert job.name not in seen
        seen.add(job.name)


def test_the_grid_is_the_papers() -> None:
    """Twelve rows of Table I; seeds, Fig. 3 and the Early-Bird variant for 32 units.

    And beyond the paper: whole units pruned, of the largest size.
    """
    jobs = jobs_of(LAPTOP)
    units = [job for job in jobs if job.row.variant == UNITS]
    kinds = Counter(job.kind for job in units)
    assert kinds == {"search": 4, "pruned": 4, "matched": 4, "from-scratch": 4}
    longer = [job for job in jobs if job.row.variant == LONGER]
    assert Counter(job.kind for job in longer) == {"matched": 4, "from-scratch": 4}
    units += longer
    assert {job.row.size for job in units} == {96}
    jobs = [job for job in jobs if job not in units]
    table = {(job.row.device, job.row.size) for job in jobs if job.kind == "pruned"}
    assert len(table) == 12
    assert {size for _, size in table} == {32, 64, 96}
    kinds = Counter(job.kind for job in jobs)
    assert kinds == {
        "search": 24, "pruned": 20, "one-shot": 20, "matched": 4, "curve": 4, "same": 4,
    }  # fmt: skip
    assert {job.row.size for job in jobs if job.row.seed or job.kind in ("curve", "same")} == {32}
    paper = STUDIES["paper"]
    assert (paper.search.iterations, paper.search.fraction) == (15, 0.3)
    assert paper.retrain == paper.search.full == PRESETS["paper"]


def test_complete_rows_come_out_early() -> None:
    """The smallest size is finished first, then the largest, which is compared with it."""
    jobs = [job for job in jobs_of(LAPTOP) if job.row.seed == 0 and job.kind == "pruned"]
    assert [job.row.size for job in jobs] == [32] * 4 + [96] * 4 + [64] * 4 + [96] * 4
    assert all(job.row.variant == UNITS for job in jobs[-4:])


def test_names() -> None:
    assert Row("sim-muff", 32).name == "sim-muff-32-s0"
    early = Row("sim-muff", 32, 2, "early-bird")
    assert early.name == "sim-muff-32-s2-early-bird"
    assert (early.unpruned, early.in_table_i) == (early, Row("sim-muff", 32, 2))
    units = Row("sim-muff", 96, variant="units")
    assert units.name == "sim-muff-96-s0-units"
    assert units.unpruned == units.in_table_i == Row("sim-muff", 96)
    assert units.searched == units
    longer = replace(units, variant=LONGER)
    assert longer.name == "sim-muff-96-s0-units-longer"
    assert (longer.unpruned, longer.searched) == (units.unpruned, units)
    job = find_job(jobs_of(LAPTOP), "sim-lead-96-s0/matched")
    assert job.file == "sim-lead-96-s0/matched.json"
    assert job.needs == ("sim-lead-96-s0/pruned", "sim-lead-32-s0/search")
    with pytest.raises(InputError, match="no job 'sim-lead-5/x'"):
        find_job(jobs_of(LAPTOP), "sim-lead-5/x")
    with pytest.raises(InputError, match="no study 'small'; choose from paper, laptop, tiny"):
        study_settings("small")


def test_more_rows_leave_results_as_they_are() -> None:
    assert replace(LAPTOP, seeds=(0, 1, 2, 3), sizes=(32, 128)).digest() == LAPTOP.digest()
    longer = replace(LAPTOP.retrain, epochs=60)
    assert replace(LAPTOP, retrain=longer).digest() != LAPTOP.digest()
    assert len({study.digest() for study in STUDIES.values()}) == len(STUDIES)


def test_longer_retraining_is_stamped_on_its_own_rows_only() -> None:
    for variant, epochs in ((TABLE_I, 48), (EARLY_BIRD, 48), (UNITS, 48), (LONGER, 144)):
        assert LAPTOP.retraining(variant) == replace(LAPTOP.retrain, epochs=epochs)
        assert LAPTOP.what_a_row_gets(variant)["retrain"]["epochs"] == epochs
    other = replace(LAPTOP, longer=4)
    assert other.digest(variant=LONGER) != LAPTOP.digest(variant=LONGER) != LAPTOP.digest()
    assert other.digest(variant=UNITS) == LAPTOP.digest(variant=UNITS) == LAPTOP.digest()


# The choice of a stage.

LOSSES = st.lists(st.floats(0.01, 1), min_size=1, max_size=12)


@given(LOSSES, st.integers(0, 20), st.integers(0, 20), st.floats(0.01, 1))
def test_the_choice_of_a_stage(losses: list[float], start: int, first: int, limit: float) -> None:
    last = len(losses) - 1
    first = min(first, last)
    asked: list[int] = []
    chosen, tried = choose(start, first, last, limit, lambda n: asked.append(n) or losses[n])
    assert asked == list(tried)  # each only once
    assert sorted(tried) == list(range(min(tried), max(tried) + 1))
    assert first <= min(tried) and max(tried) <= last
    assert len(tried) >= min(3, last - first + 1)
    assert min(max(start, first), last) in tried
    assert tried == {n: losses[n] for n in asked}
    good = [n for n in tried if losses[n] <= limit]
    assert chosen == max(good) if good else losses[chosen] == min(tried.values())
    assert max(tried) == last or losses[max(tried)] > limit
    assert good or min(tried) == first


def test_which_stages_are_tried() -> None:
    def tried(start: int, limit: float) -> list[int]:
        return list(choose(start, 3, 15, limit, lambda n: n / 100)[1])

    assert tried(6, 0.055) == [5, 6, 7]
    assert tried(6, 0.03) == [5, 6, 7, 4, 3]
    assert tried(6, 0.01) == [5, 6, 7, 4, 3]
    assert tried(6, 0.085) == [5, 6, 7, 8, 9]
    assert tried(1, 0.01) == [3, 4, 5]
    assert tried(15, 0.12) == [13, 14, 15, 12]
    assert tried(15, 0.5) == [13, 14, 15]


# Results.


def pruned_model(size: int = 7, share: float = 0.8) -> AmpLSTM:
    model = AmpLSTM(size, seed=2)
    apply_masks(model, prune(model, full_masks(model), share))
    return model


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    model = pruned_model(32, 0.9)
    study_record.save_weights(tmp_path / "a.npz", model)
    study_record.save_weights(tmp_path / "b.npz", model)
    again = study_record.load_weights(tmp_path / "a.npz", 48_000)
    assert again.sample_rate == 48_000
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    dense = sum(value.numel() * 4 for value in model.state_dict().values())
    assert (tmp_path / "a.npz").stat().st_size < dense / 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no", b"text"])
def test_damaged_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as the weights of a model"):
        study_record.load_weights(tmp_path / "a.npz", 44_100)
    with pytest.raises(InputError, match="cannot be read"):
        study_record.load_weights(tmp_path / "absent.npz", 44_100)


def test_a_result_is_read_only_with_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "row" / "search.json"
    study_record.write_result(path, "row/search", "abc", {"x": 1}, {"seconds": 2.0})
    assert study_record.read_result(path)["result"] == {"x": 1}
    assert study_record.read_result(path, "abc")["provenance"] == {"seconds": 2.0}
    assert study_record.read_result(path, "other") is None
    assert study_record.read_result(tmp_path / "absent.json") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "x", "version": 1}', "\x00"])
def test_a_damaged_result(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match="is damaged or no result of a study"):
        study_record.read_result(tmp_path / "a.json")


def test_the_machine_without_names_and_places() -> None:
    import platform

    about = json.dumps([study_record.machine(), study_record.code_version()])
    assert not re.search(r'"/|\\\\', about)
    assert f'"{platform.node()}"' not in about
    assert study_record.machine()["torch"] == torch.__version__


def test_checksums_tell_recordings_apart() -> None:
    x = np.linspace(-1, 1, 100, dtype=np.float32)
    sums = study_record.data_checksums(
        a=Recording(x, x), b=Recording(x, -x), c=Recording(x, x.copy(), 48_000)
    )
    assert sums["a"] == sums["c"] != sums["b"]


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with study_record.locked(tmp_path / "lock") as held:
        assert held
        with study_record.locked(tmp_path / "lock", wait=False) as again:
            assert not again
    with study_record.locked(tmp_path / "lock", wait=False) as free:
        assert free


# Jobs and tables. The jobs themselves are run in test_cli_study.py.


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(STUDIES["laptop"], tmp_path / "results", tmp_path / "runs")


def written(shop: Workshop, row: Row, kind: str, **result: object) -> None:
    name = f"{row.name}/{kind}"
    path = shop.results / f"{name}.json"
    digest = shop.study.digest(kind, row.variant)
    study_record.write_result(path, name, digest, result, {"data": {}})


def test_a_table_of_an_unfinished_study(shop: Workshop) -> None:
    """What is not finished is shown as such; nothing is left out."""
    muff, metal = Row("sim-muff", 32), Row("sim-metal", 64)
    unpruned = {"parameters": 4480, "test_esr": 0.02}
    written(shop, muff, "search", unpruned=unpruned)
    pruned = {"units": 30, "sparsity": 0.832, "stage": 5, "parameters": 950, "test_esr": 0.019}
    written(shop, muff, "pruned", **pruned)
    written(shop, metal, "search", unpruned=unpruned)
    rows = table_rows(shop)
    assert len(rows) == 12
    assert table_row(muff, shop) == rows[0]
    assert rows[0].ratio == pytest.approx(0.95)
    lines = format_table(rows)
    assert len(lines) == 13
    assert re.search(
        r"sim-muff +32 -> +30 +4480 -> +950 +83.2 % +2.000 -> +1.900 +0.95 +- +-$", lines[1]
    )
    assert sum("not finished" in line for line in lines) == 11
    csv = table_csv(rows).splitlines()
    assert len(csv) == 13
    assert csv[1].startswith("sim-muff,32,0,30,4480,950,0.832,5,0.02,0.019,,")


def test_the_state_of_a_job(shop: Workshop) -> None:
    job = jobs_of(shop.study)[0]
    assert state_of(job, shop) == "waiting"
    with study_record.locked(shop.lock(job)):
        assert state_of(job, shop) == "running"
    written(shop, job.row, "search", x=1)
    assert state_of(job, shop) == "done"
    other = replace(shop.study, slack=1.5)
    assert state_of(job, replace(shop, study=other)) == "done"  # a search does not depend on it
    longer = replace(shop.study, search=replace(shop.study.search, k=6))
    assert state_of(job, replace(shop, study=longer)) == "stale"


def test_results_of_longer_retraining_are_found_with_their_settings(shop: Workshop) -> None:
    job = find_job(jobs_of(shop.study), "sim-muff-96-s0-units-longer/matched")
    written(shop, job.row, "matched", x=1)
    assert shop.need(job.name) == {"x": 1}
    other = replace(shop, study=replace(shop.study, longer=2))
    assert state_of(job, other) == "stale"
    units = find_job(jobs_of(shop.study), "sim-muff-96-s0-units/matched")
    written(shop, units.row, "matched", x=2)
    assert state_of(units, other) == "done"


def test_a_job_needs_its_forerunners(tmp_path: Path) -> None:
    shop = Workshop(STUDIES["tiny"], tmp_path / "results", tmp_path / "runs")
    job = jobs_of(shop.study)[1]
    with pytest.raises(InputError, match="sim-muff-4-s0/search must be finished first"):
        run_job(job, shop)
    assert not shop.results.exists()


@pytest.mark.parametrize("ends", [[0.5], [2.0, 0.5], [2.0] * 4])
def test_a_retraining_that_gets_worse_is_begun_again(tmp_path, monkeypatch, ends) -> None:
    """Each time at half the rate, and four times at most; losses are over that of the beginning."""
    noise = np.random.default_rng(0).normal(0, 0.1, 4410).astype(np.float32)
    clip = Recording(noise, np.tanh(9 * noise))
    bench = Bench(Workshop(LAPTOP, tmp_path, tmp_path / "runs"), Row("x", 4), clip, clip, clip)
    model = AmpLSTM(4, seed=1)
    apply_masks(model, prune(model, full_masks(model), 0.3))
    began = validation_loss(model, clip, LAPTOP.retrain)
    seen: list[tuple[float, str]] = []

    def retrain(pruned, *sets, masks, folder, **options):
        settings = sets[2]
        loss = ends[len(seen)] * began
        seen.append((settings.learning_rate, folder.name))
        return pruned, History([Epoch(1, 1.0, loss, settings.learning_rate, 0.0)])

    monkeypatch.setattr("tinyamp.study_retrain.retrain", retrain)
    result, _ = train_pruned(bench, model, "stage")
    assert result["tries"] == len(seen) == len(ends)
    assert [rate for rate, _ in seen] == [1e-2 / 2**n for n in range(len(ends))]
    names = ["stage-48", "stage-48-2", "stage-48-3", "stage-48-4"]
    assert [name for _, name in seen] == names[: len(ends)]
    assert result["validation_loss"] == ends[-1] * began


# The plan.


def test_estimates_follow_what_is_trained() -> None:
    costs = {size: Cost(1e-5 * size, 1e-2 * size) for size in LAPTOP.sizes}
    amounts = Amounts(342.0, 84.0, 64.0)
    times = {job.name: estimate(job, LAPTOP, costs, amounts) for job in jobs_of(LAPTOP)}
    assert times["sim-muff-64-s0/pruned"] == pytest.approx(2 * times["sim-muff-32-s0/pruned"])
    assert times["sim-muff-32-s0/one-shot"] < times["sim-muff-32-s0/pruned"]
    # Counted at what is left: far below the other rows of that size.
    assert times["sim-muff-96-s0-units/pruned"] == times["sim-muff-32-s0/pruned"]
    ratio = times["sim-muff-96-s0-units-longer/matched"] / times["sim-muff-96-s0-units/matched"]
    assert 2.8 < ratio < 3
    early = times["sim-muff-32-s0-early-bird/search"]
    assert 0 < early < times["sim-muff-32-s0/search"]
    assert times["sim-muff-32-s0/search"] - early == pytest.approx(
        times["sim-muff-32-s0/one-shot"] - 64 * 0.32, rel=1e-6
    )


def test_measured_costs_are_positive() -> None:
    cost = measure_cost(4, STUDIES["tiny"].retrain)
    assert cost.per_sample > 0
    assert cost.per_second > 0


@pytest.mark.parametrize("seconds, text", [(3, "3 s"), (600, "10 min"), (36_000, "10.0 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
