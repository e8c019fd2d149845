"""Which models the page plays: the best of what ships."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tinyamp.files import InputError, data_folder
from tinyamp.masks import active_weights, masks_of
from tinyamp.model import AmpLSTM, load_model, process
from tinyamp.stages import load_search
from tinyamp.study_record import load_weights, save_weights, write_result
from tinyamp.web_stages import page_device

DEVICE = "sim-muff"
SEARCH = data_folder() / "searches" / f"{DEVICE}-32"
MODELS = data_folder() / "models"
RATE = 44_100


@pytest.fixture
def shipped(tmp_path) -> Path:
    """What ships of one device, without a study."""
    shutil.copytree(SEARCH, tmp_path / "searches" / SEARCH.name)
    (tmp_path / "models").mkdir()
    for path in MODELS.glob(f"{DEVICE}-32*.safetensors"):
        shutil.copy(path, tmp_path / "models")
    return tmp_path


def add_study(folder: Path, retrained: int, chosen: int | None = None) -> Path:
    """A row of the study made from the shipped search, with so many retrained stages."""
    found = load_search(SEARCH)
    row = folder / "results" / "laptop" / f"{DEVICE}-32-s0"
    shutil.copytree(SEARCH, row / "old")
    shutil.move(row / "old" / "stage-00.safetensors", row / "unpruned.safetensors")
    stages = []
    for stage in found.stages:
        stages.append({"number": stage.number, "active": stage.active, "sparsity": stage.sparsity})
        if stage.number:
            path = row / "stages" / f"stage-{stage.number:02d}.npz"
            save_weights(path, found.model(stage.number))
        if 1 <= stage.number <= retrained:
            save_weights(row / f"retrained-{stage.number:02d}.npz", AmpLSTM(7, seed=stage.number))
    result = {"search": {"sample_rate": RATE, "recommended": 3, "stages": stages}}
    write_result(row / "search.json", "row/search", "digest", result, {})
    if chosen:
        write_result(row / "pruned.json", "row/pruned", "digest", {"stage": chosen}, {})
    return row


def test_the_search_of_the_chapters_with_its_retrained_stage(shipped):
    device = page_device(DEVICE, shipped)
    found = load_search(SEARCH)
    assert [stage.number for stage in device.stages] == [stage.number for stage in found.stages]
    assert [stage.number for stage in device.stages if stage.retrained] == [0, device.pruned]
    x = 0.3 * np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    for stage, listed in zip(device.stages, found.stages, strict=True):
        assert stage.active == listed.active == active_weights(masks_of(found.model(stage.number)))
        assert stage.units == listed.units == stage.model.hidden_size
        if not stage.retrained and stage.units == 32:
            assert (
                np.abs(process(stage.model, x) - process(found.model(stage.number), x)).max() < 1e-5
            )
    pruned = load_model(MODELS / f"{DEVICE}-32-pruned.safetensors")
    assert np.abs(process(device.stages[device.pruned].model, x) - process(pruned, x)).max() < 1e-5


def test_without_a_search_only_the_unpruned_model(shipped):
    shutil.rmtree(shipped / "searches")
    device = page_device(DEVICE, shipped)
    [stage] = device.stages
    assert (device.pruned, stage.number, stage.units, stage.active) == (0, 0, 32, 4224)


def test_a_study_counts_once_most_of_it_is_retrained(shipped):
    row = add_study(shipped, retrained=11)
    assert [s.retrained for s in page_device(DEVICE, shipped).stages].count(True) == 2
    save_weights(row / "retrained-12.npz", AmpLSTM(7, seed=12))  # 12 of 15
    device = page_device(DEVICE, shipped)
    assert [s.number for s in device.stages if s.retrained] == list(range(13))
    assert device.stages[5].units == 7  # the study's own model
    assert device.stages[5].active == load_search(SEARCH).stages[5].active
    stage = device.stages[14]
    left = load_weights(row / "stages" / "stage-14.npz", RATE)
    assert stage.active == active_weights(masks_of(left)) and not stage.retrained
    assert device.pruned == 3  # as the search recommends


def test_the_stage_that_the_study_selected_is_the_pruned_one(shipped):
    add_study(shipped, retrained=15, chosen=9)
    assert page_device(DEVICE, shipped).pruned == 9


def test_a_study_is_better_than_no_search(shipped):
    shutil.rmtree(shipped / "searches")
    add_study(shipped, retrained=1)
    assert len(page_device(DEVICE, shipped).stages) == 16


def test_damage_is_a_sentence(shipped):
    row = add_study(shipped, retrained=15)
    (row / "retrained-05.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"retrained-05\.npz"):
        page_device(DEVICE, shipped)
    (row / "search.json").write_text("{")
    with pytest.raises(InputError, match=r"search\.json"):
        page_device(DEVICE, shipped)
    with pytest.raises(InputError, match="sim-lead"):
        page_device("sim-lead", shipped)
