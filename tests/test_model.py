"""The model against its equations, against torch, and against itself in blocks."""

import json
import struct

import numpy as np
import pytest
import torch
from common import ROUNDINGS, compiler_is_there, exact, in_pytorch, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tinyamp import bptt
from tinyamp.data import load_excerpt
from tinyamp.files import InputError, data_folder
from tinyamp.model import (
    AmpLSTM,
    load_model,
    one_thread,
    parameter_count,
    process,
    reference_forward,
    save_model,
)

MODELS = sorted((data_folder() / "models").glob("*.safetensors"))


def arrays(model: AmpLSTM) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("hidden_size", [1, 2, 7, 16, 32, 96])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_forward_agrees_with_the_equations(hidden_size, dtype, tolerance):
    model = AmpLSTM(hidden_size, seed=hidden_size).to(dtype)
    x = noise(700)
    expected, (h, c) = reference_forward(arrays(model), x)
    with torch.no_grad():
        y, state = model(torch.as_tensor(x, dtype=dtype)[None, :, None])
    assert y.shape == (1, 700, 1)
    np.testing.assert_allclose(y[0, :, 0].numpy(), expected, atol=tolerance, rtol=0)
    np.testing.assert_allclose(state[0][0, 0].numpy(), h, atol=tolerance, rtol=0)
    np.testing.assert_allclose(state[1][0, 0].numpy(), c, atol=tolerance, rtol=0)


def test_several_inputs_add_only_the_first_to_the_output():
    model = AmpLSTM(5, input_size=3).double()
    x = torch.randn(2, 40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y, _ = model(x)
    for row in range(2):
        expected, _ = reference_forward(arrays(model), x[row].numpy())
        np.testing.assert_allclose(y[row, :, 0].detach().numpy(), expected, atol=1e-12)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(1, 24))
@settings(deadline=None, max_examples=30)
def test_any_split_into_blocks_gives_the_same_output(lengths, hidden_size):
    model = AmpLSTM(hidden_size, seed=3).double()
    x = torch.as_tensor(noise(sum(lengths), seed=4), dtype=torch.float64)[None, :, None]
    with torch.no_grad():
        whole, last = model(x)
        state, parts = None, []
        for block in x.split(lengths, dim=1):
            part, state = model(block, state)
            parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(state, last, atol=1e-12, rtol=0)


@pytest.mark.parametrize("block_size", [1, 64, 999, 5000])
def test_process_is_forward_whatever_the_block_size(block_size):
    model = AmpLSTM(12)
    x = noise(3000)
    with torch.no_grad():
        expected = model(torch.as_tensor(x)[None, :, None])[0][0, :, 0].numpy()
    y = process(model, x, block_size=block_size)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, atol=1e-6, rtol=0)


@pytest.fixture(params=["compiled", "PyTorch"])
def engine(request, monkeypatch) -> str:
    """What plays a float32 model on a CPU: with a C compiler, and without."""
    if request.param == "PyTorch":
        monkeypatch.setattr(bptt, "_library", lambda: None)
    elif not compiler_is_there():
        pytest.skip("There is no C compiler.")
    return request.param


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_process_is_as_exact_as_pytorch(engine, path):
    model, x = load_model(path), load_excerpt("sim-muff", "test").input[:22_050]
    expected = exact(model, x)
    by_pytorch = in_pytorch(model, x)
    y = process(model, x)
    assert np.abs(y - expected).max() <= ROUNDINGS * np.abs(by_pytorch - expected).max() < 1e-4
    if engine == "compiled":
        assert not np.array_equal(y, by_pytorch), "another order of adding up"
    else:
        assert np.array_equal(y, by_pytorch)


def test_process_has_one_thread_and_gives_the_others_back(engine):
    torch.set_num_threads(2)
    model, seen = AmpLSTM(4), []
    model.lstm.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    process(model, noise(50))
    assert seen == ([] if engine == "compiled" else [1])
    assert torch.get_num_threads() == 2


def test_pytorch_has_one_thread_for_a_while():
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == 2


def test_a_model_that_is_not_finite_plays_nothing_else():
    model = AmpLSTM(4)
    with torch.no_grad():
        model.lstm.weight_hh_l0[0, 0] = torch.nan
    assert np.isnan(process(model, noise(50))[1:]).all()


def test_process_needs_no_more_memory_for_a_longer_signal(monkeypatch):
    longest = 0
    model = AmpLSTM(4).double()  # which PyTorch plays
    forward = model.forward

    def watch(x, state=None):
        nonlocal longest
        longest = max(longest, x.shape[1])
        return forward(x, state)

    monkeypatch.setattr(model, "forward", watch)
    assert len(process(model, np.zeros(300_001, np.float32), block_size=4096)) == 300_001
    assert longest == 4096


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_process_starts_from_a_given_state(engine, dtype):
    model = AmpLSTM(6).to(dtype)
    with torch.no_grad():
        model.head.weight *= 5
    x = noise(200)
    with torch.no_grad():
        _, state = model(torch.as_tensor(x[:120], dtype=dtype)[None, :, None])
    given = tuple(s.clone() for s in state)
    y = process(model, x[120:], state=state, block_size=33)
    np.testing.assert_allclose(y, exact(model, x)[120:], atol=1e-6)
    assert np.abs(process(model, x[120:]) - y).max() > 1e-3, "from zero it is another"
    assert all(torch.equal(a, b) for a, b in zip(state, given, strict=True))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((10, 2)), "one channel"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([np.inf]), "infinite"),
    ],
)
def test_process_refuses_what_is_not_a_mono_signal(x, words):
    with pytest.raises(InputError, match=words):
        process(AmpLSTM(2), x)


def test_process_of_nothing_is_nothing():
    assert process(AmpLSTM(2), np.zeros(0)).shape == (0,)


@pytest.mark.parametrize(
    ("hidden_size", "count"),
    [(32, 4480), (64, 17152), (96, 38016)],  # Table I, column "# of parameters, unpruned"
)
def test_parameter_count_is_that_of_the_paper_and_of_torch(hidden_size, count):
    assert parameter_count(hidden_size) == count
    model = AmpLSTM(hidden_size)
    assert sum(p.numel() for p in model.lstm.parameters()) == count


def test_parameter_count_with_more_inputs():
    for hidden_size, input_size in [(3, 2), (10, 5)]:
        lstm = torch.nn.LSTM(input_size, hidden_size)
        counted = sum(p.numel() for p in lstm.parameters())
        assert parameter_count(hidden_size, input_size) == counted


def test_the_seed_decides_the_weights():
    a, b, c = AmpLSTM(8, seed=1), AmpLSTM(8, seed=1), AmpLSTM(8, seed=2)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.lstm.weight_hh_l0, c.lstm.weight_hh_l0)
    assert all(p.abs().max() <= 8**-0.5 for p in a.parameters())


@pytest.mark.parametrize("sizes", [(0, 1), (-3, 1), (10**7, 1), (4, 0)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(InputError):
        AmpLSTM(sizes[0], input_size=sizes[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_model_comes_back_the_same(tmp_path, dtype):
    model = AmpLSTM(9, seed=5, sample_rate=48_000).to(dtype)
    save_model(model, tmp_path / "amp.safetensors", settings={"epochs": 3})
    back = load_model(tmp_path / "amp.safetensors")
    assert (back.hidden_size, back.sample_rate, back.settings) == (9, 48_000, {"epochs": 3})
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
    assert [f.name for f in tmp_path.iterdir()] == ["amp.safetensors"]


def rewrite(path, *, metadata=None, tensors=None):
    """Save the model file again with some of its header or its tensors changed."""
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    save_file(
        load_file(path) | (tensors or {}), path, metadata=header["__metadata__"] | (metadata or {})
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metadata": {"format": "other"}}, "not a tinyamp-model"),
        ({"metadata": {"version": "9"}}, "version 9"),
        ({"metadata": {"hidden_size": "5"}}, "needs"),
        ({"metadata": {"hidden_size": "-4"}}, "out of range"),
        ({"metadata": {"hidden_size": "four"}}, "header"),
        ({"metadata": {"sample_rate": "0"}}, "out of range"),
        ({"metadata": {"settings": "{"}}, "header"),
        ({"metadata": {"settings": "[]"}}, "not an object"),
        ({"tensors": {"head.bias": torch.tensor([torch.nan])}}, "NaN"),
        ({"tensors": {"head.bias": torch.zeros(2)}}, "head.bias of shape"),
        ({"tensors": {"extra": torch.zeros(2)}}, "extra"),
        ({"tensors": {"head.bias": torch.zeros(1, dtype=torch.int32)}}, "float32"),
    ],
)
def test_a_file_that_is_no_such_model_is_refused_with_a_sentence(tmp_path, change, words):
    path = tmp_path / "amp.safetensors"
    save_model(AmpLSTM(4), path)
    rewrite(path, **change)
    with pytest.raises(InputError, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "amp.safetensors"
    save_model(AmpLSTM(4), path)
    whole = path.read_bytes()
    for size in (0, 4, 8, 60, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"amp\.safetensors"):
            load_model(path)
    with pytest.raises(InputError, match="no model file"):
        load_model(tmp_path / "none.safetensors")


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_random_bytes_are_never_a_model(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "amp.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_model(path)
