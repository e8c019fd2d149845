"""How much a unit moves, against the recurrence of the LSTM written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_formats import lstm

from tinyamp.activity import SEGMENTS, unit_activity
from tinyamp.masks import POOL
from tinyamp.model import AmpLSTM


def hidden_states(model: AmpLSTM, x: np.ndarray) -> np.ndarray:
    """h over time, (time, hidden), of a mono signal, in float64."""
    p = {name: value.double().numpy() for name, value in model.state_dict().items()}
    bias = p["lstm.bias_ih_l0"] + p["lstm.bias_hh_l0"]
    weights = p["lstm.weight_ih_l0"], p["lstm.weight_hh_l0"]
    return lstm(*weights, bias, np.eye(model.hidden_size), 0.0, x)  # an output layer that is h


@pytest.mark.parametrize("count", [1, 3, 20])
def test_the_deviation_of_what_is_played(count: int) -> None:
    model, warmup = AmpLSTM(5, seed=3), 20
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 0.5, (count, 90, 1))).float()
    chosen = np.linspace(0, count - 1, min(SEGMENTS, count)).astype(int)
    states = [hidden_states(model, x[k, :, 0].numpy())[warmup:] for k in chosen]
    expected = np.concatenate(states).std(axis=0)
    found = unit_activity(model, x, warmup=warmup)
    assert found.shape == (5,) and not found.requires_grad
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_dead_unit_does_not_move() -> None:
    model = AmpLSTM(4, seed=1)
    with torch.no_grad():
        for name in POOL:
            model.get_parameter(name).view(4, 4, -1)[:, 2] = 0
        model.lstm.bias_ih_l0.view(4, 4)[1] = 0  # a forget gate that lets go soon
    x = torch.randn(2, 3000, 1, generator=torch.Generator().manual_seed(0))
    found = unit_activity(model, x)
    assert found[2] < 1e-6 < 1e-3 < found[[0, 1, 3]].min()
