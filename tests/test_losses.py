"""The loss against eqs. (4)-(7) written in NumPy, and its properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from tinyamp.files import InputError
from tinyamp.losses import EPSILON, amp_loss, dc_loss, esr, esr_loss, pre_emphasis


def signals(seed: int, batch: int = 3, time: int = 500, level: float = 0.3):
    rng = np.random.default_rng(seed)
    target = level * rng.standard_normal((batch, time))
    return target, target + 0.1 * level * rng.standard_normal((batch, time))


def test_pre_emphasis_is_the_filter_of_eq_4():
    x, _ = signals(0)
    expected = lfilter([1, -0.85], [1], x, axis=1)
    np.testing.assert_allclose(pre_emphasis(torch.as_tensor(x)).numpy(), expected, atol=1e-14)
    with_channel = pre_emphasis(torch.as_tensor(x)[:, :, None])
    np.testing.assert_allclose(with_channel[..., 0].numpy(), expected, atol=1e-14)


def test_one_segment_has_the_loss_of_the_equations():
    y, y_hat = (s[0] for s in signals(1, batch=1))
    y_p, y_hat_p = (lfilter([1, -0.85], [1], s) for s in (y, y_hat))
    ratio = np.sum(np.abs(y_p - y_hat_p) ** 2) / (np.sum(np.abs(y_p) ** 2) + EPSILON)  # (5)
    dc = np.mean(y - y_hat) ** 2 / (np.mean(np.abs(y) ** 2) + EPSILON)  # (6)
    loss = amp_loss(torch.as_tensor(y)[None], torch.as_tensor(y_hat)[None])
    assert loss.item() == pytest.approx(0.75 * ratio + 0.25 * dc, rel=1e-12)  # (7)


def test_the_energy_is_pooled_so_that_a_silent_segment_cannot_explode():
    y, y_hat = (torch.as_tensor(s) for s in signals(2))
    y[0] *= 1e-6  # nearly silent, while the model still says something
    mean_of_ratios = np.mean([esr_loss(a[None], b[None]) for a, b in zip(y, y_hat, strict=True)])
    assert mean_of_ratios > 10
    pooled = (y - y_hat).square().sum() / (y.square().sum() + EPSILON)
    assert esr_loss(y, y_hat).item() == pytest.approx(pooled.item())
    assert pooled < 1


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
@settings(max_examples=50, deadline=None)
def test_zero_for_equal_signals_and_invariant_to_joint_scaling(seed, scale):
    y, y_hat = (torch.as_tensor(s) for s in signals(seed))
    assert amp_loss(y, y).item() == 0
    before, after = amp_loss(y, y_hat).item(), amp_loss(scale * y, scale * y_hat).item()
    power = y.square().mean().item()  # the smallest energy an epsilon is added to is a mean
    slack = EPSILON * (1 + 1 / scale**2) / power
    assert after == pytest.approx(before, rel=min(1.0, slack) + 1e-9)


def test_an_offset_is_seen_by_the_dc_term_alone_or_by_the_esr_at_its_own_gain():
    y, _ = (torch.as_tensor(s) for s in signals(4))
    offset = 0.05
    dc = dc_loss(y, y + offset).item()
    assert dc == pytest.approx(offset**2 / (y.square().mean().item() + EPSILON))
    emphasised = esr_loss(pre_emphasis(y), pre_emphasis(y + offset)).item()
    plain = esr_loss(y, y + offset).item()
    assert emphasised < plain / 20  # the filter's gain at 0 Hz is 0.15, squared 0.0225


def test_a_signal_without_offset_has_no_dc_loss():
    y, error = (torch.as_tensor(s) for s in signals(5))
    error = error - error.mean(dim=1, keepdim=True)
    assert dc_loss(y, y + error).item() == pytest.approx(0, abs=1e-25)
    assert esr_loss(y, y + error).item() > 0.01


def test_silence_has_a_finite_loss():
    silence = torch.zeros(2, 100)
    assert amp_loss(silence, silence).item() == 0
    assert torch.isfinite(amp_loss(silence, silence + 0.1))


@pytest.mark.parametrize("shape", [(2, 50), (2, 50, 1)])
def test_the_gradient_is_right(shape):
    generator = torch.Generator().manual_seed(0)
    y, y_hat = (torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(2))
    assert torch.autograd.gradcheck(lambda p: amp_loss(y, p), y_hat.requires_grad_())


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match="one shape"):
        amp_loss(torch.zeros(2, 5), torch.zeros(2, 5, 1))
    with pytest.raises(InputError, match="one shape"):
        dc_loss(torch.zeros(5), torch.zeros(5))


def test_the_test_loss_is_a_plain_ratio():
    y, y_hat = (s[0] for s in signals(6))
    assert esr(y, y_hat) == pytest.approx(np.sum((y - y_hat) ** 2) / np.sum(y**2))
    assert esr(y, y) == 0
    assert esr(y, np.zeros_like(y)) == 1
    assert esr(3 * y, 3 * y_hat) == pytest.approx(esr(y, y_hat))
    with pytest.raises(InputError, match="silent"):
        esr(np.zeros(9), np.zeros(9))
    with pytest.raises(InputError, match="same"):
        esr(np.zeros(9), np.zeros(8))
