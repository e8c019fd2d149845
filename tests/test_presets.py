"""Settings, learning-rate schedules and the order of segments."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyamp.files import InputError
from tinyamp.presets import (
    PRESETS,
    Epoch,
    History,
    TrainSettings,
    epoch_order,
    learning_rate_at,
    with_changes,
)


def history_of(losses):
    return History([Epoch(n + 1, 1.0, loss, 5e-4, 1.0) for n, loss in enumerate(losses)])


def test_the_rate_is_halved_after_five_validations_without_improvement():
    losses = [1.0, None, 0.9] + [None, 0.95] * 5
    paper = TrainSettings()
    rates = [learning_rate_at(paper, history_of(losses[:n])) for n in range(len(losses) + 1)]
    assert rates == [5e-4] * 13 + [2.5e-4]
    assert learning_rate_at(paper, history_of([*losses, None, 0.5])) == 2.5e-4
    assert learning_rate_at(paper, history_of(losses + [None, 0.95] * 5)) == 1.25e-4


def test_the_cosine_rises_falls_and_ends_low():
    laptop = replace(
        TrainSettings(), schedule="cosine", epochs=40, rise_epochs=3, final_fraction=0.01
    )
    rates = [learning_rate_at(laptop, history_of([None] * n)) for n in range(40)]
    assert np.all(np.diff(rates[:4]) > 0)
    assert np.all(np.diff(rates[3:]) < 0)
    assert rates[3] == pytest.approx(5e-4)
    assert 5e-6 <= rates[-1] < 2e-5


@given(st.integers(1, 60), st.one_of(st.none(), st.integers(1, 150)), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_every_segment_is_seen_equally_often(n_segments, per_epoch, seed):
    run = TrainSettings(segments_per_epoch=per_epoch, seed=seed)
    size = per_epoch or n_segments
    epochs = math.lcm(size, n_segments) // size
    orders = [epoch_order(run, epoch, n_segments) for epoch in range(epochs)]
    assert all(len(order) == size for order in orders)
    counts = np.bincount(np.concatenate(orders), minlength=n_segments)
    assert len(set(counts)) == 1


def test_the_order_differs_from_epoch_to_epoch_and_seed_to_seed():
    run = TrainSettings()
    first = epoch_order(run, 0, 50)
    assert np.array_equal(first, epoch_order(run, 0, 50))
    assert not np.array_equal(first, epoch_order(run, 1, 50))
    assert not np.array_equal(first, epoch_order(replace(run, seed=1), 0, 50))


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"warmup": 22_050},
        {"warmup": -1},
        {"schedule": "linear"},
        {"batch_size": 0},
        {"segments_per_epoch": 0},
        {"weight_decay": -1e-4},
        {"weight_decay": math.nan},
        {"weight_decay": 1.0},
    ],
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(InputError):
        TrainSettings(**change)


def test_a_preset_can_be_changed_and_an_unknown_one_is_refused():
    assert with_changes("paper", epochs=None, seed=3) == replace(PRESETS["paper"], seed=3)
    with pytest.raises(InputError, match="paper, laptop"):
        with_changes("supercomputer")


def test_the_best_epoch_is_the_first_of_the_lowest():
    history = history_of([None, 0.5, None, 0.2, 0.2, None])
    assert history.best_epoch.epoch == 4
    assert history_of([]).best_epoch is None
    assert history_of([None]).best_loss == math.inf
