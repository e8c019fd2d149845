"""The study's results that ship: numbers are recomputed from the weights beside them.

A study that is not complete is tested as far as it is; what is missing must be said to be missing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tinyamp.compact import effective_hidden_size, pruned_parameter_count
from tinyamp.data import load_full
from tinyamp.files import data_folder
from tinyamp.losses import esr
from tinyamp.make import make
from tinyamp.masks import active_weights, masks_of, sparsity
from tinyamp.model import load_model, parameter_count, process
from tinyamp.study import LONGER, STUDIES, Row, jobs_of
from tinyamp.study_bench import Workshop
from tinyamp.study_record import load_weights, sha256
from tinyamp.study_tables import (
    MANIFEST,
    demand_one_data_set,
    markdown_table,
    table_csv,
    table_rows,
    unit_rows,
)

RESULTS = data_folder() / "results" / "laptop"
SHOP = Workshop(STUDIES["laptop"], RESULTS, Path("runs"))
DONE = [job for job in jobs_of(SHOP.study) if SHOP.result(job.name) is not None]
SAMPLE = [("sim-muff", "unpruned"), ("sim-muff", "pruned"), ("sim-crunch", "pruned")]  # quick ones

pytestmark = pytest.mark.skipif(not DONE, reason="no job of the study is finished yet")


def test_the_manifest_agrees() -> None:
    """Every file is as it was published, none is missing, and none has been forgotten."""
    manifest = json.loads((RESULTS / MANIFEST).read_text())
    files = {p.relative_to(RESULTS).as_posix(): p for p in RESULTS.rglob("[!.]*") if p.is_file()}
    files.pop(MANIFEST)
    assert manifest["files"] == {name: sha256(path) for name, path in files.items()}
    missing = [job.name for job in jobs_of(SHOP.study) if job not in DONE]
    assert manifest["missing"] == missing
    assert manifest["digest"] == SHOP.study.digest()
    assert (RESULTS / "table.csv").read_text() == table_csv(table_rows(SHOP))
    assert (RESULTS / "units.csv").read_text() == table_csv(unit_rows(SHOP))


@pytest.mark.parametrize("rows", [table_rows, unit_rows])
def test_the_readme_has_the_tables(rows) -> None:
    """If not: paste what `tinyamp study table --markdown` prints, and with --units."""
    readme = Path(__file__).resolve().parents[1] / "README.md"
    assert "\n".join(markdown_table(rows(SHOP))) in readme.read_text(encoding="utf-8")


def test_what_the_readme_says_of_whole_units() -> None:
    """On three devices, such a model is both more accurate and faster than 32 units unpruned."""
    small = {row.device: row for row in table_rows(SHOP) if row.size == SHOP.study.sizes[0]}
    better = [
        row.device
        for row in unit_rows(SHOP)
        if row.pruned_test_esr < small[row.device].test_esr
        and row.pruned_rtf < small[row.device].rtf
    ]
    assert better == ["sim-muff", "sim-crunch", "sim-metal"]


def test_sizes() -> None:
    sizes = {p: p.stat().st_size for p in RESULTS.rglob("*") if p.is_file()}
    assert sum(sizes.values()) <= 12e6
    assert all(size <= 200_000 for p, size in sizes.items() if p.suffix in (".safetensors", ".npz"))


def test_one_device_has_one_data_set() -> None:
    demand_one_data_set(SHOP)


@pytest.mark.parametrize("job", DONE, ids=[job.name for job in DONE])
def test_counts_follow_from_the_weights(job) -> None:
    """Sparsities, units left and parameters, eq. (2), of every result that names a model."""
    result, place = SHOP.need(job.name), RESULTS / job.row.name
    if job.kind == "search":
        stages = result["search"]["stages"][1:]
        if job.row.variant == "units":
            stages = [stage for stage in stages if stage["sparsity"] >= SHOP.study.floor]
            assert all(s["active"] == 4 * s["units"] * (s["units"] + 1) for s in stages)
        else:
            model = load_model(place / "unpruned.safetensors")
            assert model.hidden_size == job.row.size
            assert result["unpruned"]["parameters"] == parameter_count(job.row.size)
        for stage in stages:
            weights = load_weights(place / "stages" / f"stage-{stage['number']:02d}.npz", 44_100)
            masks = masks_of(weights)
            assert (active_weights(masks), sparsity(masks)) == (stage["active"], stage["sparsity"])
            assert effective_hidden_size(weights) == stage["units"]
    elif job.kind in ("pruned", "matched", "same"):
        model = load_model(place / result["model"])
        stage = SHOP.stage_model(job.row, result["stage"])
        masks = masks_of(stage)
        assert sparsity(masks) == result["sparsity"]
        assert model.hidden_size == max(1, result["units"])
        assert effective_hidden_size(stage) == result["units"]
        count = pruned_parameter_count(active_weights(masks), result["units"])
        assert result["parameters"] == count
        assert active_weights(masks_of(model)) <= result["active"]
        if job.kind == "pruned":
            assert result["sparsity"] >= SHOP.study.floor
    elif job.kind == "from-scratch":
        kind = "matched" if job.row.variant == LONGER else "pruned"
        units = SHOP.need(f"{job.row.name}/{kind}")["units"]
        assert load_model(place / result["model"]).hidden_size == result["units"] == units
    elif job.kind == "one-shot":
        pruned = SHOP.need(f"{job.row.name}/pruned")
        assert result["active"] == pytest.approx(pruned["active"], abs=1)
        model = load_weights(place / result["model"], 44_100)
        assert model.hidden_size == max(1, result["units"])
        assert active_weights(masks_of(model)) <= result["active"]
    else:
        stages = SHOP.need(f"{job.row.name}/search")["search"]["stages"]
        assert [point["stage"] for point in result["stages"]] == [s["number"] for s in stages]


@pytest.fixture(scope="module")
def test_sets(tmp_path_factory):
    """The full test sets of two devices, made anew."""
    root = tmp_path_factory.mktemp("made")
    devices = sorted({device for device, _ in SAMPLE})
    from tinyamp.guitar import SECONDS

    make(root / "full", devices, seconds={"test": SECONDS["test"]}, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYAMP_MADE", str(root))
        yield {device: load_full(device, "test") for device in devices}


@pytest.mark.parametrize("device, kind", SAMPLE)
def test_published_test_losses(test_sets, device: str, kind: str) -> None:
    """The test loss of Table I again, on a test set made again, from the model that ships."""
    row = Row(device, 32)
    found = SHOP.result(f"{row.name}/{'search' if kind == 'unpruned' else kind}")
    if found is None:
        pytest.skip(f"{row.name}/{kind} is not finished yet")
    result = found["result"]
    published = (result["unpruned"] if kind == "unpruned" else result)["test_esr"]
    model = load_model(RESULTS / row.name / f"{kind}.safetensors")
    test_set = test_sets[device]
    assert esr(test_set.target, process(model, test_set.input)) == pytest.approx(
        published, rel=0.01
    )
