"""Settings, the recommendation by hand-made results, and what is written and read."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from tinyamp.files import InputError
from tinyamp.masks import full_masks, prune
from tinyamp.model import AmpLSTM, load_model
from tinyamp.presets import PRESETS
from tinyamp.stages import (
    SEARCH_PRESETS,
    TOLERANCE,
    SearchResult,
    SearchSettings,
    Stage,
    load_search,
    recommend,
    save_search,
    stage_file,
)


def stage(number: int, loss: float) -> Stage:
    return Stage(
        number=number,
        active=80 - number,
        sparsity=number / 80,
        units=4,
        epochs=2,
        distances=(0.5, 0.25 / (number + 1)),
        train_losses=(0.2, 0.1 + 1e-17),
        loss_start=1 / 3,
        loss_stop=loss,
        capped=number % 2 == 1,
        seconds=0.1 * number,
    )


def result_with(losses, collapse=None) -> SearchResult:
    """Hand-made: stages of random models, of two inputs and another rate."""
    models = [AmpLSTM(4, input_size=2, seed=number) for number in range(len(losses))]
    return SearchResult(
        SearchSettings(fraction=0.2, k=3, full=PRESETS["laptop"], rewind="weights"),
        48_000,
        "hand-made",
        [stage(number, loss) for number, loss in enumerate(losses)],
        [m.state_dict() for m in models],
        collapse,
    )


def test_the_defaults_are_the_papers():
    paper = SEARCH_PRESETS["paper"]
    assert paper == SearchSettings()
    assert (paper.fraction, paper.iterations, paper.epsilon, paper.k) == (0.3, 15, 0.1, 5)
    assert paper.variant == "fully-train-first"
    assert paper.rewind == "learning-rate"
    assert paper.score == "magnitude"
    assert not paper.include_output
    assert paper.full == PRESETS["paper"]
    assert paper.course == replace(paper.full, weight_decay=1e-4)  # not in the paper's text
    laptop = SEARCH_PRESETS["laptop"]
    searched = ("fraction", "iterations", "epsilon", "k", "variant", "rewind", "include_output")
    assert all(getattr(laptop, name) == getattr(paper, name) for name in searched)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fraction": 0}, "fraction must be between 0 and 1, but is 0"),
        ({"fraction": 1.0}, "fraction must be between 0 and 1, but is 1.0"),
        ({"fraction": float("nan")}, "fraction must be between 0 and 1, but is nan"),
        ({"iterations": 0}, "iterations must be at least 1, but is 0"),
        ({"k": 0}, "k must be at least 1, but is 0"),
        ({"epsilon": 0}, "epsilon must be above 0 and at most 1, but is 0"),
        ({"epsilon": 1.01}, "epsilon must be above 0 and at most 1, but is 1.01"),
        ({"variant": "late"}, "variant must be one of fully-train-first, early-bird, trained"),
        ({"rewind": "tape"}, "rewind must be one of learning-rate, weights, but is 'tape'"),
        ({"score": "taste"}, "score must be one of magnitude, unit, random, but is 'taste'"),
        ({"variant": "trained", "rewind": "weights"}, "from before training"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        SearchSettings(**changes)


def test_the_limits_of_the_settings_are_allowed():
    SearchSettings(epsilon=1, k=1, iterations=1, fraction=0.999)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([0.3], 0),
        ([0.5, 0.4, 0.3], 2),
        ([0.10, 0.10, 0.11, 0.12], 3),  # never hurts
        ([0.10, 0.12, 0.15, 0.22, 0.29, 0.31, 0.5, 1.0], 4),  # 0.36 is the limit, 5 the edge
        ([0.20, 0.12, 0.10, 0.13, 0.25, 0.60], 3),  # a U
        (
            [1.50, 0.80, 0.40, 0.10, 0.20, 0.25, 0.60],
            4,
        ),  # a U that begins untrained, as Early-Bird does
        ([0.10, 0.11, 0.90, 0.12, 0.15, 0.90], 1),  # jumps, then recovers: before the jump
        ([0.50, 0.10, 0.35, 0.11], 1),
        ([0.05, 0.10, 0.30, 0.30], 3),  # at the limit is not above it
        ([0.05, 0.10, 0.11, 0.30, 0.31], 2),
        ([0.001, 0.40, 0.90], 2),  # the unpruned stage has no say
        ([0.90, 0.10, 0.90], 1),  # no less pruned than the best
    ],
)
def test_the_recommended_stage_is_one_before_the_last_good_one(losses, expected):
    result = result_with(losses)
    assert recommend(result, tolerance=3.0 + 1e-9) is result.stages[expected]
    scaled = result_with([loss * 64 for loss in losses])
    assert recommend(scaled, tolerance=3.0 + 1e-9).number == expected


def test_the_tolerance_decides():
    result = result_with([0.10, 0.12, 0.15, 0.22, 0.29, 0.31, 0.5, 1.0])
    found = [recommend(result, tolerance=t).number for t in (1.0, 1.3, 2.0, 2.5, 4.0, 6.0, 20.0)]
    assert found == [1, 1, 2, 3, 4, 5, 7]
    assert recommend(result) == recommend(result, tolerance=TOLERANCE)


def test_without_a_stage_nothing_is_recommended():
    with pytest.raises(InputError, match="no stage to recommend"):
        recommend(result_with([]))


@pytest.mark.parametrize("collapse", [None, "Layer collapse: “é” & more."])
def test_a_search_is_read_as_it_was_written(tmp_path, collapse):
    result = result_with([0.1, 1 / 3, 2e-17], collapse)
    save_search(result, tmp_path / "new" / "folder")
    read = load_search(tmp_path / "new" / "folder")
    assert read.settings == result.settings
    assert (read.sample_rate, read.data, read.collapse) == (48_000, "hand-made", collapse)
    assert read.stages == result.stages
    assert [type(s.distances) for s in read.stages] == [tuple] * 3
    for number in range(3):
        for model in (
            read.model(number),
            load_model(stage_file(tmp_path / "new" / "folder", number)),
        ):
            weights = model.state_dict()
            assert weights.keys() == result.weights[number].keys()
            assert all(torch.equal(weights[k], v) for k, v in result.weights[number].items())
            assert (model.hidden_size, model.input_size, model.sample_rate) == (4, 2, 48_000)
            assert model.settings["stage"] == number
            assert model.settings["sparsity"] == number / 80
            assert model.settings["data"] == "hand-made"
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {
        "search.json",
        "stage-00.safetensors",
        "stage-01.safetensors",
        "stage-02.safetensors",
    }


def test_the_model_of_a_stage_is_a_copy_and_other_stages_are_refused():
    result = result_with([0.1, 0.2])
    before = {k: v.clone() for k, v in result.weights[1].items()}
    model = result.model(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(v, before[k]) for k, v in result.weights[1].items())
    for number in (-1, 2):
        with pytest.raises(InputError, match=f"no stage {number}; this search has 0 to 1"):
            result.model(number)


def test_a_double_precision_stage_keeps_its_digits(tmp_path):
    model = AmpLSTM(3).double()
    with torch.no_grad():
        model.head.bias.fill_(1 / 3)
    result = replace(result_with([0.1]), weights=[model.state_dict()])
    save_search(result, tmp_path)
    assert load_search(tmp_path).model(0).head.bias.item() == 1 / 3


def test_a_folder_without_a_search_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"no search\.json in .*; name the folder"):
            load_search(folder)


def damaged(folder):
    with pytest.raises(InputError, match=r"search\.json is damaged or no result"):
        load_search(folder)


def test_a_damaged_file_is_refused(tmp_path):
    save_search(result_with([0.1, 0.2]), tmp_path)
    file = tmp_path / "search.json"
    whole = file.read_bytes()
    for length in range(0, len(whole) - 2, 97):
        file.write_bytes(whole[:length])
        damaged(tmp_path)
    for data in (b"[]", b"null", b"3", b"{}", b'"text"', b"\xff\xfe{}", b"\x00" * 100):
        file.write_bytes(data)
        damaged(tmp_path)

    about = json.loads(whole)
    for key in about:
        file.write_text(json.dumps({k: v for k, v in about.items() if k != key}))
        damaged(tmp_path)
    for key in ("format", "version", "settings", "stages"):
        for value in (None, 7, "text", [7], {"seven": 7}):
            file.write_text(json.dumps({**about, key: value}))
            damaged(tmp_path)
    for value in (None, "text", [7], {"seven": 7}):
        file.write_text(json.dumps({**about, "sample_rate": value}))
        damaged(tmp_path)
    for change in (
        {"fraction": 7},
        {"variant": "late"},
        {"colour": "red"},
        {"full": None},
        {"full": {"epochs": -1}},
        {"course": {"colour": "red"}},
    ):
        file.write_text(json.dumps({**about, "settings": {**about["settings"], **change}}))
        damaged(tmp_path)
    values = asdict(stage(0, 0.1))
    assert values.pop("attempts") == 1  # which older files do not have
    assert Stage.from_dict(values) == stage(0, 0.1)
    for key in values:
        fewer = {k: v for k, v in values.items() if k != key}
        file.write_text(json.dumps({**about, "stages": [fewer]}))
        damaged(tmp_path)
    file.write_text(json.dumps({**about, "version": 2}))
    with pytest.raises(InputError, match="expected tinyamp-search version 1"):
        load_search(tmp_path)
    file.write_bytes(whole)
    assert len(load_search(tmp_path).stages) == 2


def test_a_missing_or_damaged_stage_is_refused(tmp_path):
    save_search(result_with([0.1, 0.2]), tmp_path)
    stage_file(tmp_path, 1).write_bytes(b"no such thing")
    with pytest.raises(InputError, match=r"stage-01\.safetensors cannot be read"):
        load_search(tmp_path)
    stage_file(tmp_path, 1).unlink()
    with pytest.raises(InputError, match=r"no model file .*stage-01\.safetensors"):
        load_search(tmp_path)


def test_a_pruned_stage_is_saved_with_its_zeros(tmp_path):
    model = AmpLSTM(5)
    masks = prune(model, full_masks(model), 0.8)
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).masked_fill_(~mask, 0)
    save_search(replace(result_with([0.1]), weights=[model.state_dict()]), tmp_path)
    read = load_search(tmp_path).model(0)
    for name, mask in masks.items():
        assert torch.equal(read.get_parameter(name) != 0, mask)
