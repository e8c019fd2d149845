"""Retraining: what was pruned stays pruned, compacted or not; and pruning in one shot."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import QUICK, overdrive, same, weights

from tinyamp.compact import compact, effective_hidden_size
from tinyamp.files import InputError
from tinyamp.masks import (
    OUTPUT,
    POOL,
    active_weights,
    apply_masks,
    full_masks,
    masks_of,
    prune,
    sparsity,
)
from tinyamp.model import AmpLSTM, load_model
from tinyamp.retrain import one_shot, retrain
from tinyamp.train import train, validation_loss

SIZE = 8
DATA = overdrive(0.3, 1), overdrive(0.1, 2)
STANDSTILL = replace(QUICK, epochs=1, learning_rate=1e-30)


def stage_model(**options) -> AmpLSTM:
    """A model that was pruned to 94 %, with the settings of a stage; some of its units are dead."""
    model = AmpLSTM(SIZE, seed=1)
    masks = full_masks(model, **options)
    for _ in range(8):
        masks = prune(model, masks, 0.3)
    apply_masks(model, masks)
    model.settings = {"data": "overdrive 1", "stage": 8, "sparsity": sparsity(masks)}
    return model


def not_zero(model, include_output=True):
    return masks_of(model, include_output=include_output)


def test_there_are_dead_units_to_remove():
    """Otherwise the tests below would prove little."""
    assert 1 < effective_hidden_size(stage_model()) < SIZE


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("compacted", [False, True])
def test_a_stage_learns_and_what_was_pruned_stays_pruned(compacted, masked):
    stage = stage_model()
    masks = not_zero(stage, include_output=False) if masked else None
    options = {"masks": masks, "compacted": compacted, "progress": False}
    settings = replace(QUICK, learning_rate=2e-2)
    new, history = retrain(stage, *DATA, settings, **options)
    size = effective_hidden_size(stage) if compacted else SIZE
    assert new.hidden_size == size
    start = compact(stage).model if compacted else stage
    for name, mask in not_zero(start).items():
        value = new.get_parameter(name)
        assert (value[~mask] == 0).all()
        assert (value[mask] != 0).all()
        assert (value != start.get_parameter(name))[mask].all()  # what is left is trained
    assert len(history.epochs) == 4
    assert history.best_loss == validation_loss(new, DATA[1], settings)
    assert history.best_loss < 0.8 * validation_loss(stage, DATA[1], settings)


def test_compacted_or_not_the_result_is_nearly_the_same():
    """Dead units do nothing but give a constant, which the biases may then follow on their own."""
    stage = stage_model()
    losses = []
    for compacted in (False, True):
        new, history = retrain(stage, *DATA, QUICK, compacted=compacted, progress=False)
        losses.append(history.best_loss)
        again = compact(new).model
        assert again.hidden_size == effective_hidden_size(stage)
    assert losses[0] == pytest.approx(losses[1], rel=0.5)


@pytest.mark.parametrize("include_output", [False, True])
@pytest.mark.parametrize("compacted", [False, True])
def test_training_begins_from_the_weights_of_the_stage(compacted, include_output):
    """At a rate of 1e-30, where nothing moves; only a zero that is not held would."""
    stage = stage_model(include_output=include_output)
    new, history = retrain(stage, *DATA, STANDSTILL, compacted=compacted, progress=False)
    expected = compact(stage).model if compacted else stage
    assert same(weights(new), weights(expected))
    assert new is not stage
    assert history.epochs[0].learning_rate == 1e-30


def test_the_learning_rate_begins_anew():
    _, history = retrain(stage_model(), *DATA, QUICK, progress=False)
    assert history.epochs[0].learning_rate == QUICK.learning_rate
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3, 4]


@pytest.mark.parametrize("compacted", [False, True])
def test_the_given_model_is_not_changed(compacted):
    stage = stage_model()
    masks = not_zero(stage, include_output=False)
    before = copy.deepcopy((weights(stage), stage.settings, masks))
    new, _ = retrain(stage, *DATA, QUICK, masks=masks, compacted=compacted, progress=False)
    assert same(weights(stage), before[0])
    assert stage.settings == before[1]
    assert same(masks, before[2])
    assert stage.hidden_size == SIZE
    assert new.settings["pruned_from"] == SIZE
    assert new.settings["stage"] == 8
    assert new.settings["sparsity"] == stage.settings["sparsity"]
    assert new.settings["train"]["epochs"] == QUICK.epochs
    assert new.sample_rate == stage.sample_rate


@pytest.mark.parametrize("compacted", [False, True])
def test_zeros_of_the_output_layer_are_kept(compacted):
    """Units that others read, but not the output: they stay, and so do their zeros."""
    stage = stage_model()
    with torch.no_grad():
        stage.lstm.weight_hh_l0[0, :] = 0.3  # unit 0 reads all others
        stage.lstm.weight_ih_l0[:, 0] = 0.3  # and all hear the input
        stage.head.weight[0, [2, 5]] = 0
    new, _ = retrain(stage, *DATA, QUICK, compacted=compacted, progress=False)
    assert new.hidden_size == SIZE
    assert torch.nonzero(new.head.weight[0] == 0).flatten().tolist() == [2, 5]
    without = not_zero(stage, include_output=False)
    new, _ = retrain(stage, *DATA, QUICK, masks=without, compacted=compacted, progress=False)
    assert new.head.weight.all()  # masks that leave the output layer out free it


def test_a_model_pruned_with_its_output_layer_keeps_that_pruned():
    stage = stage_model(include_output=True)
    assert not stage.head.weight.all()
    expected = compact(stage).model
    new, _ = retrain(stage, *DATA, QUICK, progress=False)
    assert all(torch.equal(not_zero(new)[n], mask) for n, mask in not_zero(expected).items())


@pytest.mark.parametrize("compacted", [False, True])
def test_masks_that_are_given_decide_and_not_what_is_zero(compacted):
    """An active weight that happens to be zero is trained; a masked one that is not zero is cut."""
    stage = stage_model()
    masks = not_zero(stage, include_output=False)
    row = int(masks[POOL[1]].any(dim=1).nonzero()[0])
    column = int(masks[POOL[1]][row].nonzero()[0])
    unit = int(masks[POOL[0]].any(dim=1).nonzero()[0])
    with torch.no_grad():
        stage.lstm.weight_hh_l0[row, column] = 0  # active
        stage.lstm.weight_ih_l0[~masks[POOL[0]]] = 0.5  # masked
    new, _ = retrain(stage, *DATA, QUICK, masks=masks, compacted=compacted, progress=False)
    assert active_weights(not_zero(new, include_output=False)) <= active_weights(masks)
    if not compacted:
        assert new.lstm.weight_hh_l0[row, column] != 0
        assert (new.lstm.weight_ih_l0[~masks[POOL[0]]] == 0).all()
        assert new.lstm.weight_ih_l0[unit] != 0
        assert same(not_zero(new, include_output=False), masks)
    else:
        expected = compact(stage, masks)
        assert new.hidden_size == len(expected.kept)
        assert same(not_zero(new, include_output=False), expected.masks)


@pytest.mark.parametrize("compacted", [False, True])
def test_files_are_those_of_training_and_a_stopped_run_goes_on(tmp_path, compacted, monkeypatch):
    stage = stage_model()
    settings = replace(QUICK, clip_norm=1.0)
    options = {"compacted": compacted, "progress": False}
    whole, _ = retrain(stage, *DATA, settings, **options)
    import tinyamp.train as module

    original, calls = module.train_epoch, 0

    def stop_in_the_third_epoch(*arguments, **given):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(*arguments, **given)

    monkeypatch.setattr(module, "train_epoch", stop_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        retrain(stage, *DATA, settings, folder=tmp_path, **options)
    new, history = retrain(stage, *DATA, settings, folder=tmp_path, resume=True, **options)
    assert calls == 5
    assert len(history.epochs) == 4
    assert same(weights(new), weights(whole))
    assert same(weights(load_model(tmp_path / "best.safetensors")), weights(new))
    with pytest.raises(InputError, match="other settings"):
        retrain(
            stage_model(include_output=True),
            *DATA,
            settings,
            folder=tmp_path,
            resume=True,
            **options,
        )


def test_progress_is_silent_when_it_should_be(capfd):
    retrain(stage_model(), *DATA, STANDSTILL, progress=False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("include_output", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.918, 0.9953, 1.0])
def test_one_shot_removes_the_smallest_share_at_once(share, include_output):
    model = AmpLSTM(SIZE, input_size=2, seed=3)
    before = weights(model)
    masks = one_shot(model, share, include_output=include_output)
    names = [*POOL, OUTPUT] if include_output else [*POOL]
    pool = np.concatenate([before[name].abs().numpy().ravel() for name in names])
    gone = round(share * len(pool))
    assert set(masks) == set(names)
    assert active_weights(masks) == len(pool) - gone
    limit = np.sort(pool)[gone] if gone < len(pool) else np.inf
    for name, value in model.state_dict().items():
        expected = before[name] * (before[name].abs() >= limit) if name in names else before[name]
        assert torch.equal(value, expected)
        if name in names:
            assert torch.equal(masks[name], before[name].abs() >= limit)


def test_one_shot_can_be_random_and_is_trained_with_its_masks():
    model = AmpLSTM(SIZE)
    masks = one_shot(model, 0.8, score="random", seed=3)
    assert same(masks, one_shot(AmpLSTM(SIZE, seed=9), 0.8, score="random", seed=3))
    assert not same(masks, one_shot(AmpLSTM(SIZE), 0.8, score="random", seed=4))
    assert not same(masks, one_shot(AmpLSTM(SIZE), 0.8))
    assert same(masks, not_zero(model, include_output=False))
    train(model, *DATA, QUICK, masks=masks, progress=False)
    assert same(masks, not_zero(model, include_output=False))
    with pytest.raises(InputError, match="fraction to prune"):
        one_shot(model, 1.5)
