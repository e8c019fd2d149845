"""The take: silence, clicks, test signals and playing, in this order, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from tinyamp.align import estimate_alignment
from tinyamp.data import Recording
from tinyamp.files import InputError
from tinyamp.fit_check import split
from tinyamp.take import CLICK_PEAK, SILENCE, advice, click_times, make_take

RATE = 44_100


@pytest.fixture(scope="module")
def take():
    return make_take(21.5, seed=4)


def test_length_level_and_type(take):
    assert take.dtype == np.float32 and take.shape == (round(21.5 * RATE),)
    assert 0.5 < np.abs(take).max() <= 10 ** (-4 / 20)


def test_clicks_stand_alone_at_both_ends(take):
    silence = round(SILENCE * RATE)
    assert not take[:silence].any() and not take[-silence:].any()
    for start in click_times():
        at = round(start * RATE)
        assert take[at : at + 30].max() == pytest.approx(CLICK_PEAK, rel=0.01)
        assert not take[at + 30 : at + 3000].any()
    framed = round((2 * SILENCE + click_times()[-1] - SILENCE) * RATE) + 22
    assert np.array_equal(take[:framed], take[-framed:])
    assert np.unique(np.diff(click_times())).size == 2  # uneven: no shift can be mistaken


def test_the_same_again_and_others(take):
    assert np.array_equal(take, make_take(21.5, seed=4))
    assert not np.array_equal(take, make_take(21.5, seed=5))
    assert not np.array_equal(take, make_take(21.5, seed=4, instrument="bass"))


def test_test_signals_are_for_training_alone(take):
    """The parts for validation and test hold playing: what comes after the capture signals."""
    parts = split(Recording(take, take, RATE))
    start = len(take) - round(2 * RATE) - sum(len(part) for part in parts[1:])
    assert start > round((2.5 + 0.08 * 21.5) * RATE)


def test_a_take_is_found_again(take):
    late = np.concatenate([np.zeros(2345, np.float32), np.tanh(-20 * take)])[: len(take)]
    found = estimate_alignment(take, late)
    assert abs(found.lag - 2345) <= 2 and found.inverted and found.clear


def test_advice_names_the_file():
    assert "tinyamp fit x.wav recorded.wav" in advice("x.wav") and "dBFS" in advice("x.wav")


@pytest.mark.parametrize(
    "arguments",
    [{"seconds": 19.0}, {"seconds": float("nan")}, {"instrument": "drum"}, {"seed": -1}],
)
def test_nonsense_is_refused(arguments):
    with pytest.raises(InputError):
        make_take(**{"seconds": 20.0, **arguments})
