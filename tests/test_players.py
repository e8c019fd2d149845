"""Every way to play a model against float64, in any blocks, and what they refuse."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from tinyamp.files import InputError
from tinyamp.model import AmpLSTM, reference_forward
from tinyamp.players import NumpyPlayer, OnnxPlayer, PythonPlayer, TorchPlayer, onnx_bytes

PLAYERS = (TorchPlayer, NumpyPlayer, PythonPlayer, OnnxPlayer)


def noise(n: int, seed: int = 0) -> np.ndarray:
    return (0.3 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


@pytest.mark.parametrize("hidden_size", [1, 7, 20])
@pytest.mark.parametrize("player", PLAYERS)
def test_players_follow_the_equations(player, hidden_size):
    model = AmpLSTM(hidden_size, seed=hidden_size)
    x = noise(600)
    expected, _ = reference_forward({k: v.numpy() for k, v in model.state_dict().items()}, x)
    y = player(model).process(x)
    assert y.dtype == np.float32 and y.shape == x.shape
    assert np.abs(y - expected).max() < 1e-6


@pytest.mark.parametrize("player", PLAYERS)
def test_players_go_on_where_they_stopped(player):
    played = player(AmpLSTM(8, seed=3))
    x = noise(700)
    whole = played.process(x)
    assert not np.array_equal(played.process(x), whole)  # the state was kept
    played.reset()
    blocks = np.split(x, [0, 1, 1, 2, 66, 130, 555])
    y = np.concatenate([played.process(block) for block in blocks])
    assert np.abs(y - whole).max() < 1e-6


@pytest.mark.parametrize("player", PLAYERS)
def test_players_are_not_reached_by_training(player):
    model = AmpLSTM(5, seed=1)
    played = player(model)
    x = noise(50)
    before = played.process(x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    played.reset()
    assert np.array_equal(played.process(x), before)


@pytest.mark.parametrize("player", PLAYERS)
def test_players_refuse_what_they_cannot_play(player):
    played = player(AmpLSTM(3))
    for x, words in ((np.zeros((2, 9)), "one channel"), ([0, np.nan], "NaN"), ([1e39], "beyond")):
        with pytest.raises(InputError, match=words), np.errstate(over="ignore"):
            played.process(x)
    assert played.process(np.zeros(0)).shape == (0,)
    with pytest.raises(InputError, match="one signal"):
        player(AmpLSTM(3, input_size=2))
    model = AmpLSTM(3).double()
    with torch.no_grad():
        model.head.bias[0] = 1e300
    with pytest.raises(InputError, match=r"head\.bias"):
        player(model)


def test_pytorch_lets_nothing_fade_into_denormal_numbers():
    model = AmpLSTM(4, seed=6)
    with torch.no_grad():  # no candidate, and a forget gate of 1/2: c decays as 1/2ⁿ
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(model.lstm, name)[4:12] = 0
    played = TorchPlayer(model)
    played._state = (torch.full((1, 1, 4), 0.5), torch.ones(1, 1, 4))
    for _ in range(30):
        played.process(np.full(10, 1e-42, np.float32))
        for values in played._state:
            assert not torch.any((values != 0) & (values.abs() < TorchPlayer.TINY))
    assert not torch.any(played._state[1])


def test_the_onnx_file_is_valid_and_streams():
    import onnx

    file = onnx.load_from_string(onnx_bytes(AmpLSTM(6)))
    onnx.checker.check_model(file, full_check=True)
    assert [value.name for value in file.graph.input] == ["x", "h", "c"]
    assert [value.name for value in file.graph.output] == ["y", "h_n", "c_n"]


@pytest.mark.parametrize("missing", ["onnxruntime", "onnx"])
def test_without_onnx_one_sentence_says_what_to_install(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match="pip install onnx onnxruntime"):
        OnnxPlayer(AmpLSTM(3))
