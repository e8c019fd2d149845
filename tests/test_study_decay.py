"""The experiment behind the search's weight decay: its trials, and what it published."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from tinyamp import study_decay
from tinyamp.data import Recording
from tinyamp.model import AmpLSTM
from tinyamp.presets import TrainSettings

QUICK = TrainSettings(
    epochs=1, batch_size=4, segment_length=400, warmup=50, chunk=100, learning_rate=1e-2
)
PUBLISHED = json.loads(study_decay.PUBLISHED.read_text())


def noise(seed: int) -> Recording:
    x = 0.3 * np.random.default_rng(seed).standard_normal(4000).astype(np.float32)
    return Recording(x, np.tanh(3 * x), name=f"noise {seed}")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Trials of a model of four units, on noise, in a second."""
    search = replace(study_decay.SEARCH, iterations=2, k=1, full=QUICK, course=QUICK)
    sets = {split: noise(k) for k, split in enumerate(("train", "validation", "test"))}
    monkeypatch.setattr(study_decay, "RUNS", tmp_path)
    monkeypatch.setattr(study_decay, "SEARCH", search)
    monkeypatch.setattr(study_decay, "PRESETS", {"laptop": QUICK})
    monkeypatch.setattr(study_decay, "_sets", lambda device: sets)
    monkeypatch.setattr(study_decay, "_unpruned", lambda trial, sets: AmpLSTM(trial.size))
    recipe = study_decay.Recipe(1e-2, retrained=(2,), chunk=100, epochs=1)
    return study_decay.Trial("amount", "sim-muff", 4, 0, "small", recipe)


def test_a_trial_writes_what_its_search_and_its_retraining_found(small):
    result = study_decay.run_trial(small)
    assert json.loads(small.file.read_text()) == json.loads(json.dumps(result))
    assert result["stages"][0]["units"] == 4
    assert len(result["stages"]) == 3
    assert result["retrained"][0]["stage"] == 2
    assert 0 < result["retrained"][0]["test_esr"] < 10
    assert result["recipe"] == asdict(small.recipe)


def test_the_decay_of_a_trial_is_that_of_its_recipe_and_changes_what_comes_out(small):
    """With so much decay beside Adam, all weights shrink by much in one epoch."""
    strong = replace(small.recipe, decay=0.9, decoupled=True, rate=0.1)
    settings = strong.search(seed=3)
    assert (settings.course.weight_decay, settings.course.decoupled) == (0.9, True)
    assert (settings.course.learning_rate, settings.course.seed) == (0.1, 3)
    losses = [
        study_decay.run_trial(replace(small, recipe=recipe))["stages"][1]["loss_stop"]
        for recipe in (small.recipe, strong)
    ]
    assert losses[0] != losses[1]


def test_every_trial_has_a_name_and_a_file_of_its_own():
    files = [trial.file for trial in study_decay.trials()]
    assert len(set(files)) == len(files)


def test_what_is_published_are_finished_trials_of_this_file():
    """Recipes that this file no longer has would be results that nothing makes again."""
    known = {(t.device, t.size, t.seed, t.name, bool(t.recipe.retrained)): t.recipe
             for t in study_decay.trials()}  # fmt: skip
    for result in PUBLISHED:
        key = *(result[k] for k in ("device", "size", "seed", "name")), bool(result["retrained"])
        wanted = json.loads(json.dumps(asdict(known[key])))
        assert result["recipe"] == wanted


@pytest.mark.parametrize(
    "result", PUBLISHED, ids=lambda r: f"{r['device']}-{r['size']}-{r['name']}"
)
def test_published_stages_are_those_of_algorithm_1(result):
    active = pool = 4 * result["size"] + 4 * result["size"] ** 2
    units = [stage["units"] for stage in result["stages"]]
    assert units[0] == result["size"] and all(np.diff(units) <= 0)
    assert len(units) == 16 or result["collapse"]
    for stage in result["stages"]:
        if result["recipe"]["score"] == "magnitude" and not result["recipe"]["include_output"]:
            assert stage["sparsity"] == pytest.approx(1 - active / pool)
        assert np.isfinite(stage["loss_stop"]) and stage["loss_stop"] > 0
        active -= round(0.3 * active)


def test_unpruned_models_are_those_of_the_study():
    trial = next(study_decay.trials())
    first, again = (study_decay._unpruned(trial, {}) for _ in range(2))
    assert first.hidden_size == trial.size
    assert torch.equal(first.head.weight, again.head.weight)


def test_what_is_published_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(study_decay, "RUNS", tmp_path)
    known = study_decay.finished()
    assert list(known.values()) == PUBLISHED
    first = next(iter(known))
    changed = replace(first, recipe=replace(first.recipe, rate=0.3))
    monkeypatch.setattr(study_decay, "trials", lambda: iter([first, changed]))
    assert list(study_decay.finished()) == [first]
