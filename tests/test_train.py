"""Training: the steps the paper counts, resuming bit for bit, and the ways it can go wrong."""

import copy
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from common import exact
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from tinyamp.bptt import unroll
from tinyamp.data import Recording
from tinyamp.files import InputError
from tinyamp.losses import amp_loss, esr
from tinyamp.masks import OUTPUT, POOL, active_weights, apply_masks, full_masks, masks_of, prune
from tinyamp.model import AmpLSTM, load_model, process, read_tensors
from tinyamp.presets import PRESETS, TrainSettings
from tinyamp.train import (
    DivergedError,
    adam,
    pick_device,
    train,
    train_batch,
    updates_per_epoch,
    validation_loss,
)

QUICK = TrainSettings(
    epochs=4,
    batch_size=3,
    segment_length=1000,
    warmup=100,
    chunk=256,
    learning_rate=5e-3,
    validate_every=2,
)


def overdrive(seconds: float, seed: int = 0, sample_rate: int = 44_100) -> Recording:
    """Filtered noise through tanh: a device that a small model learns at once."""
    n = round(seconds * sample_rate)
    white = np.random.default_rng(seed).standard_normal(n + 40)
    x = 0.3 * np.convolve(white, np.hanning(40) / np.hanning(40).sum() ** 0.5, "valid")[:n]
    x = (0.25 * x / np.std(x)).astype(np.float32)
    return Recording(x, np.tanh(3 * x).astype(np.float32), sample_rate, f"overdrive {seed}")


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_the_defaults_are_the_papers():
    paper = PRESETS["paper"]
    assert paper == TrainSettings()
    assert (paper.learning_rate, paper.batch_size, paper.epochs) == (5e-4, 40, 750)
    assert (paper.segment_length, paper.warmup, paper.chunk) == (22_050, 1000, 2048)
    assert (paper.validate_every, paper.patience, paper.factor) == (2, 5, 0.5)


def test_a_paper_batch_is_eleven_updates_and_the_warm_up_is_none():
    recording = overdrive(1.0)
    x, y = (torch.as_tensor(a).reshape(2, 22_050, 1) for a in (recording.input, recording.target))
    model = AmpLSTM(2)
    lengths = []

    def watched(model, x, state):
        lengths.append((x.shape[1], torch.is_grad_enabled()))
        return unroll(model, x, state)

    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    losses = train_batch(model, optimizer, x, y, TrainSettings(), forward=watched)
    assert lengths == [(1000, False)] + 10 * [(2048, True)] + [(570, True)]
    assert len(losses) == 11
    assert optimizer.state[model.head.bias]["step"] == 11
    # An epoch of the paper's 5 min 42 s: 684 segments in 18 batches, the last of them of four.
    assert updates_per_epoch(TrainSettings(), 342 * 44_100 // 22_050) == 18 * 11 == 198


def test_the_state_runs_on_between_updates():
    """With a learning rate of 0, the losses are those of one unbroken pass over the segment."""
    recording = overdrive(0.2)
    x, y = (torch.as_tensor(a)[None, :, None] for a in (recording.input, recording.target))
    model = AmpLSTM(5)
    settings = replace(QUICK, segment_length=x.shape[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    losses = train_batch(model, optimizer, x, y, settings)
    with torch.no_grad():
        whole, _ = model(x)
    for index, start in enumerate(range(100, x.shape[1], 256)):
        piece = slice(start, start + 256)
        expected = amp_loss(y[:, piece], whole[:, piece]).item()
        assert losses[index] == pytest.approx(expected, rel=1e-4)


def test_validation_is_the_training_loss_of_the_whole_signal():
    recording = overdrive(0.3)
    model = AmpLSTM(3)
    target, output = (
        torch.as_tensor(a)[None].double() for a in (recording.target, exact(model, recording.input))
    )
    expected = amp_loss(target, output).item()
    assert validation_loss(model, recording, TrainSettings()) == pytest.approx(expected, rel=1e-5)


def test_a_model_learns_and_ends_with_its_best_weights(tmp_path):
    train_set, validation_set = overdrive(1.0, 1), overdrive(0.3, 2)
    model = AmpLSTM(8)
    before = esr(validation_set.target, process(model, validation_set.input))
    settings = replace(QUICK, epochs=12)
    history = train(model, train_set, validation_set, settings, folder=tmp_path, progress=False)
    after = esr(validation_set.target, process(model, validation_set.input))
    assert after < before / 10
    assert len(history.epochs) == 12
    assert [e.epoch for e in history.epochs if e.validation_loss is not None] == [
        2,
        4,
        6,
        8,
        10,
        12,
    ]
    assert validation_loss(model, validation_set, settings) == pytest.approx(history.best_loss)
    assert same(weights(load_model(tmp_path / "best.safetensors")), weights(model))
    saved = json.loads((tmp_path / "history.json").read_text())
    assert len(saved["epochs"]) == 12
    assert saved["train"]["epochs"] == 12


def test_the_seed_decides_the_run():
    def run(seed):
        model = AmpLSTM(4, seed=seed)
        train(model, overdrive(0.4), overdrive(0.1, 2), replace(QUICK, seed=seed), progress=False)
        return weights(model)

    first = run(0)
    assert same(first, run(0))
    assert not same(first, run(1))


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_resuming_gives_the_weights_of_an_unbroken_run(tmp_path, schedule, monkeypatch):
    """Stopped inside every epoch in turn, the run still ends at identical weights."""
    data = overdrive(0.4), overdrive(0.1, 2)
    settings = replace(QUICK, schedule=schedule, clip_norm=1.0, segments_per_epoch=7)
    unbroken = AmpLSTM(5)
    train(unbroken, *data, settings, folder=tmp_path / "a", progress=False)

    import tinyamp.train as module

    original, calls = module.train_batch, 0

    def stop_now_and_then(*arguments):
        nonlocal calls
        calls += 1
        if calls % 4 == 0:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "train_batch", stop_now_and_then)
    for _ in range(20):
        model = AmpLSTM(5)
        try:
            history = train(
                model, *data, settings, folder=tmp_path / "b", resume=True, progress=False
            )
            break
        except KeyboardInterrupt:
            continue
    assert calls > 12
    assert len(history.epochs) == 4
    assert same(weights(model), weights(unbroken))
    for name in ("best.safetensors", "last.safetensors"):
        a, b = (weights(load_model(tmp_path / run / name)) for run in "ab")
        assert same(a, b)


SCRIPT = """
    import sys, torch
    sys.path.insert(0, {tests!r})
    from test_train import QUICK, overdrive
    from tinyamp.model import AmpLSTM
    from tinyamp.train import train
    from dataclasses import replace
    torch.set_num_threads(1)
    train(AmpLSTM(5), overdrive(1.0), overdrive(0.2, 2), replace(QUICK, epochs=8),
          folder={folder!r}, resume=True, progress=False)
"""


def test_a_run_that_is_killed_again_and_again_ends_at_the_same_weights(tmp_path):
    tests = os.path.dirname(__file__)

    def start(folder):
        code = textwrap.dedent(SCRIPT).format(tests=tests, folder=str(tmp_path / folder))
        return subprocess.Popen([sys.executable, "-c", code])

    whole = start("whole")
    kills = 0
    # Kill soon after a new checkpoint: at other places than the epoch's end, most of the time.
    for delay in (0.0, 0.005, 0.03):
        process = start("killed")
        checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != seen:
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        kills += process.wait() != 0
    assert kills >= 1
    assert start("killed").wait() == 0
    assert whole.wait() == 0
    for name in ("best.safetensors", "last.safetensors"):
        a, b = (weights(load_model(tmp_path / run / name)) for run in ("whole", "killed"))
        assert same(a, b)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    data = overdrive(0.2), overdrive(0.1, 2)
    train(AmpLSTM(4), *data, QUICK, folder=tmp_path, progress=False)
    other = replace(QUICK, learning_rate=1e-4)
    with pytest.raises(InputError, match="other settings"):
        train(AmpLSTM(4), *data, other, folder=tmp_path, resume=True, progress=False)
    with pytest.raises(InputError, match="other settings"):
        train(AmpLSTM(5), *data, QUICK, folder=tmp_path, resume=True, progress=False)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no such thing")
    with pytest.raises(InputError, match="cannot be read"):
        train(AmpLSTM(4), *data, QUICK, folder=tmp_path, resume=True, progress=False)
    with pytest.raises(InputError, match="name the folder"):
        train(AmpLSTM(4), *data, QUICK, resume=True, progress=False)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_good_weights(tmp_path, monkeypatch):
    data = overdrive(0.4), overdrive(0.1, 2)
    import tinyamp.train as module

    original, calls = module.amp_loss, 0

    def nan_after_a_while(*arguments, **options):
        nonlocal calls
        calls += 1
        return original(*arguments, **options) * (math.nan if calls > 60 else 1.0)

    monkeypatch.setattr(module, "amp_loss", nan_after_a_while)
    model = AmpLSTM(4)
    with pytest.raises(DivergedError, match=r"stopped in epoch 3.*lower learning rate"):
        train(model, *data, QUICK, folder=tmp_path, progress=False)
    best = load_model(tmp_path / "best.safetensors")
    assert same(weights(best), weights(model))
    assert all(torch.isfinite(p).all() for p in best.parameters())


def test_recordings_of_another_rate_or_too_short_are_refused():
    with pytest.raises(InputError, match="48000"):
        train(AmpLSTM(2), overdrive(0.2, sample_rate=48_000), overdrive(0.1), QUICK)
    with pytest.raises(InputError):
        train(AmpLSTM(2), overdrive(0.01), overdrive(0.1), QUICK)


def test_the_device_is_the_cpu_where_there_is_no_other_and_a_wrong_name_is_refused():
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert pick_device().type == "cpu"
    with pytest.raises(InputError, match="toaster"):
        pick_device("toaster")


def test_a_gradient_beyond_float32_is_no_update():
    """A chaotic model's gradient can grow without end; scaled to any norm, it is NaN or nothing."""
    model = AmpLSTM(4, seed=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    x = torch.linspace(-1, 1, 120).reshape(1, -1, 1)

    def exploding(model, x, state):
        y, state = unroll(model, x, state)
        y.register_hook(lambda gradient: gradient * torch.inf)
        return y, state

    settings = replace(QUICK, segment_length=120, warmup=0, chunk=60, clip_norm=1.0)
    assert len(train_batch(model, optimizer, x, 2 * x, settings, forward=exploding)) == 2
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    train_batch(model, optimizer, x, 2 * x, settings)
    assert not torch.equal(before["head.weight"], model.state_dict()["head.weight"])


INSIDE = {"weight_decay": 0.03}
BESIDE = {"weight_decay": 0.75, "decoupled": True}


def test_decay_inside_adam_takes_idle_weights_to_zero_at_full_speed():
    """Where no gradient comes, a step is the learning rate itself, however small the decay."""
    x, y = (torch.zeros(2, 1000, 1), torch.full((2, 1000, 1), 0.1))
    model = AmpLSTM(4, seed=2)
    with torch.no_grad():
        model.head.weight.zero_()  # so that the LSTM has no gradient at all
    masks = full_masks(model, include_output=True) | {OUTPUT: torch.zeros(1, 4, dtype=torch.bool)}
    before = model.lstm.weight_hh_l0.detach().clone()
    for decay, decoupled, factor in ((1e-6, False, None), (0.5, True, 0.5), (0.0, False, 1.0)):
        moved = copy.deepcopy(model)
        settings = replace(QUICK, weight_decay=decay, decoupled=decoupled, learning_rate=1e-2)
        losses = train_batch(moved, adam(moved, settings), x, y, settings, masks)
        after = moved.lstm.weight_hh_l0.detach()
        if factor is None:  # the step of Adam is lr · g / (|g| + 1e-8), and g is decay · weight
            steps = ((before - after) * before.sign())[before.abs() > 0.2] / len(losses)
            assert steps.numel() > 10
            assert ((steps > 0.9e-2) & (steps < 1.001e-2)).all()
        else:
            shrunk = before * (1 - 1e-2 * factor * decoupled) ** len(losses)
            assert torch.allclose(after, shrunk, rtol=1e-5)


def dense_reference(model, masks, x, target, settings, batches):
    """Training of f(x; W ⊙ m), written out: LSTM, TBPTT, clipping and Adam as in the textbooks.

    Nothing is set to zero: the dense weights W are multiplied by their masks in the forward pass,
    and autograd does the rest. Returns W ⊙ m and the share of the updates whose norm was clipped.
    """
    parameters = {k: v.detach().clone().requires_grad_() for k, v in model.named_parameters()}
    moments = {k: (torch.zeros_like(v), torch.zeros_like(v)) for k, v in parameters.items()}
    step, clipped = 0, 0

    def product():
        return {k: v * masks[k] if k in masks else v for k, v in parameters.items()}

    def forward(piece, h, c):
        w, y = product(), []
        for n in range(piece.shape[1]):
            a = piece[:, n] @ w["lstm.weight_ih_l0"].T + w["lstm.bias_ih_l0"]
            a = a + h @ w["lstm.weight_hh_l0"].T + w["lstm.bias_hh_l0"]  # (batch, 4 · hidden)
            i, f, g, o = a.chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            y.append(h @ w["head.weight"].T + w["head.bias"] + piece[:, n])
        return torch.stack(y, dim=1), h, c

    for _ in range(batches):
        h = c = torch.zeros(len(x), model.hidden_size, dtype=torch.float64)
        with torch.no_grad():
            _, h, c = forward(x[:, : settings.warmup], h, c)
        for start in range(settings.warmup, x.shape[1], settings.chunk):
            piece = slice(start, start + settings.chunk)
            y, h, c = forward(x[:, piece], h.detach(), c.detach())
            loss = amp_loss(target[:, piece], y)
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
            scale = min(1.0, settings.clip_norm / (norm + 1e-6))
            step, clipped = step + 1, clipped + (scale < 1)
            with torch.no_grad():
                for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                    m, v = moments[name]
                    gradient = scale * gradient
                    if settings.decoupled:
                        parameter *= 1 - settings.learning_rate * settings.weight_decay
                    else:
                        gradient = gradient + settings.weight_decay * parameter
                    m.mul_(0.9).add_(0.1 * gradient)
                    v.mul_(0.999).add_(0.001 * gradient**2)
                    m_hat, v_hat = m / (1 - 0.9**step), v / (1 - 0.999**step)
                    parameter -= settings.learning_rate * m_hat / (v_hat.sqrt() + 1e-8)
    return {k: v.detach() for k, v in product().items()}, clipped / step


@pytest.mark.parametrize(
    "include_output, decay", [(False, {}), (True, {}), (False, INSIDE), (True, BESIDE)]
)
def test_training_with_masks_is_training_of_the_masked_function(include_output, decay):
    """Several Adam steps agree with f(x; W ⊙ m) to 1e-12; the pruned have no share in the norm."""
    recording = overdrive(0.01)
    x, y = (
        torch.as_tensor(a[:240], dtype=torch.float64).reshape(2, 120, 1)
        for a in (recording.input, recording.target)
    )
    settings = replace(
        QUICK, segment_length=120, warmup=20, chunk=30, clip_norm=0.05, learning_rate=1e-2, **decay
    )
    model = AmpLSTM(5, seed=3).double()
    masks = prune(model, full_masks(model, include_output=include_output), 0.6, score="random")
    expected, clipped = dense_reference(model, masks, x, y, settings, 3)
    assert clipped > 0.5
    start = weights(model)
    apply_masks(model, masks)
    optimizer = adam(model, settings)
    for _ in range(3):
        train_batch(model, optimizer, x, y, settings, masks)
    for name, value in model.state_dict().items():
        assert (value - expected[name]).abs().max() <= 1e-12
        moved = value[masks[name]] - start[name][masks[name]] if name in masks else value
        assert moved.abs().min() > 1e-6  # the comparison is not of weights that stand still


def pruned_run(masks, folder=None, resume=False, hidden_size=5, settings=None):
    model = AmpLSTM(hidden_size)
    settings = settings or replace(QUICK, clip_norm=1.0)
    data = overdrive(0.2), overdrive(0.05, 2)
    train(model, *data, settings, masks=masks, folder=folder, resume=resume, progress=False)
    return model


@pytest.mark.parametrize("include_output", [False, True])
def test_what_is_masked_is_zero_at_every_moment_and_in_every_file(
    tmp_path, include_output, monkeypatch
):
    full = full_masks(AmpLSTM(5), include_output=include_output)
    masks = prune(AmpLSTM(5), full, 0.7, score="random")  # magnitude would spare the head
    updates, forwards = [], []

    def all_zero(model):
        return all((model.get_parameter(name)[~mask] == 0).all() for name, mask in masks.items())

    def watched(model, *args):
        forwards.append(all_zero(model))
        return unroll(model, *args)

    def at_an_update(optimizer, *_):
        pairs = zip(AmpLSTM(5).state_dict(), optimizer.param_groups[0]["params"], strict=True)
        parameters = dict(pairs)
        clean = []
        for name, mask in masks.items():
            p = parameters[name]
            moments = [v for k, v in optimizer.state[p].items() if k.startswith("exp")]
            clean += [(tensor[~mask] == 0).all() for tensor in (p, p.grad, *moments)]
            clean.append(p.grad[mask].any())
        updates.append(all(clean))

    hooks = [
        register_optimizer_step_pre_hook(at_an_update),
        register_optimizer_step_post_hook(at_an_update),
    ]
    monkeypatch.setitem(train_batch.__kwdefaults__, "forward", watched)
    try:
        model = pruned_run(masks, tmp_path)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(updates) == 2 * QUICK.epochs * 3 * 4 and all(updates)
    assert len(forwards) > len(updates) / 2 and all(forwards)  # two calls an update, warm-ups too
    tensors, _ = read_tensors(tmp_path / "checkpoint.safetensors")
    for prefix in ("last.", "best.", "adam.exp_avg.", "adam.exp_avg_sq."):
        for name, mask in masks.items():
            assert (tensors[prefix + name][~mask] == 0).all()
            assert (tensors[prefix + name][mask] != 0).all()
    for file in ("last", "best"):
        loaded = load_model(tmp_path / f"{file}.safetensors")
        assert all_zero(loaded)
        found = masks_of(loaded, include_output=include_output)
        assert all(torch.equal(found[name], mask) for name, mask in masks.items())
    assert all_zero(model)
    start = AmpLSTM(5).state_dict()
    for name, value in model.state_dict().items():
        moved = value != start[name]
        assert moved[masks[name]].all() if name in masks else moved.all()


def test_full_masks_change_nothing():
    assert same(weights(pruned_run(full_masks(AmpLSTM(5)))), weights(pruned_run(None)))


def test_a_pruned_run_resumes_bit_for_bit_and_only_with_its_masks(tmp_path, monkeypatch):
    masks = prune(AmpLSTM(5), full_masks(AmpLSTM(5)), 0.7)
    unbroken = pruned_run(masks)
    import tinyamp.train as module

    original, calls = module.train_batch, 0

    def stop_once(*arguments):
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "train_batch", stop_once)
    with pytest.raises(KeyboardInterrupt):
        pruned_run(masks, tmp_path)
    other = prune(AmpLSTM(5), masks, 1 / active_weights(masks))  # one weight fewer
    with_output = {**masks, "head.weight": torch.ones(1, 5, dtype=torch.bool)}
    assert active_weights(other) == active_weights(masks) - 1
    for wrong in (other, with_output, None, {POOL[0]: masks[POOL[0]]}):
        with pytest.raises(InputError, match="other settings"):
            pruned_run(wrong, tmp_path, resume=True)
    calls = 100
    assert same(weights(pruned_run(masks, tmp_path, resume=True)), weights(unbroken))
    assert calls == 100 + 2 * 3  # the first two epochs were not trained again
