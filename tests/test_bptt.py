"""Compiled backpropagation through time against PyTorch's, in float64."""

import numpy as np
import pytest
import torch
from common import needs_compiler
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyamp import bptt
from tinyamp.bptt import can_compile, compiled_forward, unroll
from tinyamp.losses import amp_loss
from tinyamp.masks import apply_masks, full_masks, prune
from tinyamp.model import AmpLSTM


def a_model(hidden_size: int, *, gain: float = 2.0, sparsity: float = 0.0) -> AmpLSTM:
    model = AmpLSTM(hidden_size, seed=hidden_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= gain
    if sparsity:
        apply_masks(model, prune(model, full_masks(model), sparsity, score="random"))
    return model


def some_audio(batch: int, time: int, hidden_size: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x, target = (torch.randn(batch, time, 1, generator=generator) for _ in range(2))
    state = tuple(torch.randn(1, batch, hidden_size, generator=generator) / 2 for _ in range(2))
    return x, target, state


def everything(forward, model, x, target, state, dtype=torch.float32):
    """Output, last state and gradients of one update, as float64 arrays by their names."""
    copy = AmpLSTM(model.hidden_size).to(dtype)
    copy.load_state_dict(model.state_dict())
    x, target = x.to(dtype), target.to(dtype)
    state = None if state is None else tuple(s.to(dtype) for s in state)
    y, (h, c) = forward(copy, x, state)
    amp_loss(target, y).backward()
    found = {"y": y, "h": h, "c": c} | {name: p.grad for name, p in copy.named_parameters()}
    return {name: value.detach().double().numpy() for name, value in found.items()}


def assert_same(found, wanted, rtol):
    """To `rtol` of the largest number of each array."""
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(
            found[name], value, atol=rtol * abs(value).max() + 1e-20, err_msg=name
        )


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(
    hidden_size=st.integers(1, 40),
    batch=st.integers(1, 20),
    time=st.integers(1, 70),
    sparsity=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    zero=st.booleans(),
)
def test_output_state_and_gradients_are_those_of_float64(hidden_size, batch, time, sparsity, zero):
    model = a_model(hidden_size, sparsity=sparsity)
    assert can_compile(model)
    x, target, state = some_audio(batch, time, hidden_size)
    case = model, x, target, None if zero else state
    wanted = everything(AmpLSTM.__call__, *case, dtype=torch.float64)
    assert_same(everything(unroll, *case), wanted, 1e-5)


@needs_compiler
def test_it_is_as_exact_as_pytorch_in_float32():
    """On a chunk as long as those of training, with weights as large as trained ones."""
    case = (a_model(24, gain=5.0), *some_audio(8, 512, 24))
    wanted = everything(AmpLSTM.__call__, *case, dtype=torch.float64)
    ours, theirs = (everything(f, *case) for f in (unroll, AmpLSTM.__call__))
    for name, value in wanted.items():
        errors = [abs(found[name] - value).max() for found in (ours, theirs)]
        assert errors[0] <= 4 * errors[1] + 1e-6 * abs(value).max(), name


@needs_compiler
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e4])
def test_silence_and_what_is_far_too_loud_give_finite_numbers(value):
    model = a_model(6)
    x = torch.full((3, 50, 1), value)
    found = everything(unroll, model, x, torch.ones_like(x), None)
    assert all(np.isfinite(v).all() for v in found.values())
    wanted = everything(AmpLSTM.__call__, model, x, torch.ones_like(x), None, torch.float64)
    assert_same(found, wanted, 1e-5)


@needs_compiler
def test_a_chunk_may_be_split_and_the_state_carries_no_gradient():
    model = a_model(7)
    x, _, state = some_audio(5, 60, 7)
    whole, last = unroll(model, x, state)
    first, middle = unroll(model, x[:, :23], state)
    second, end = unroll(model, x[:, 23:], middle)
    assert torch.equal(whole, torch.cat([first, second], dim=1))
    assert all(torch.equal(a, b) for a, b in zip(last, end, strict=True))
    assert whole.requires_grad and not any(s.requires_grad for s in (*last, *end))


@needs_compiler
def test_threads_and_neighbours_change_nothing():
    """Every sequence is computed alone; the sum over them has one order."""
    model = a_model(9)
    x, target, state = some_audio(20, 30, 9)
    found = []
    for number in (1, 3):
        torch.set_num_threads(number)
        found.append(everything(unroll, model, x, target, state))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
    alone, _ = unroll(model, x[11:12], tuple(s[:, 11:12] for s in state))
    np.testing.assert_array_equal(alone.detach().numpy()[0], found[0]["y"][11])


@pytest.mark.parametrize("what", ["no compiler", "float64", "two inputs"])
def test_what_is_not_compiled_is_pytorchs(monkeypatch, what):
    model = AmpLSTM(4, input_size=2 if what == "two inputs" else 1)
    dtype = torch.float64 if what == "float64" else torch.float32
    model.to(dtype)
    if what == "no compiler":
        monkeypatch.setattr(bptt, "_library", lambda: None)
    assert not can_compile(model)
    x = torch.randn(2, 9, model.input_size, dtype=dtype)
    y, state = unroll(model, x)
    assert torch.equal(y, model(x)[0]) and y.requires_grad
    assert not any(s.requires_grad for s in state)


@needs_compiler
@settings(max_examples=40, deadline=None)
@given(hidden_size=st.integers(1, 50), time=st.integers(0, 70), zero=st.booleans())
def test_one_sequence_is_that_of_float64(hidden_size, time, zero):
    model = a_model(hidden_size)
    x, _, state = some_audio(1, time, hidden_size)
    given_x, given_state = x.clone(), tuple(s.clone() for s in state)
    y, last = compiled_forward(model)(x, None if zero else state)
    wanted = AmpLSTM(hidden_size).double()
    wanted.load_state_dict(model.state_dict())
    with torch.no_grad():
        double = None if zero else tuple(s.double() for s in state)
        if time:
            expected, end = wanted(x.double(), double)
        else:
            expected, end = x, double or (torch.zeros(1, 1, hidden_size),) * 2
    for found, value in zip((y, *last), (expected, *end), strict=True):
        assert found.shape == value.shape and found.dtype == torch.float32
        torch.testing.assert_close(found.double(), value.double(), atol=1e-5, rtol=1e-5)
    assert torch.equal(x, given_x)
    assert all(torch.equal(a, b) for a, b in zip(state, given_state, strict=True))


@needs_compiler
def test_one_sequence_in_parts_is_the_whole_to_the_bit():
    forward = compiled_forward(a_model(21))
    x, _, state = some_audio(1, 200, 21)
    whole, last = forward(x, state)
    parts = []
    for part in x.split([1, 2, 96, 101], dim=1):
        y, state = forward(part, state)
        parts.append(y)
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert all(torch.equal(a, b) for a, b in zip(state, last, strict=True))


@pytest.mark.parametrize("name", [name for name, _ in AmpLSTM(1).named_parameters()])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_left_to_pytorch(name, value):
    model = AmpLSTM(3)
    with torch.no_grad():
        model.get_parameter(name).flatten()[-1] = value
    assert compiled_forward(model) is None
