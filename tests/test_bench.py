"""The table of all ways to play a model: who is in it, that each is right, and what is said."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from common import needs_compiler, no_compiler

from tinyamp import cli_bench
from tinyamp.bench import (
    KINDS,
    bench,
    contenders,
    native_widths,
    random_model,
    reference,
    side_by_side,
    signal,
)
from tinyamp.files import InputError
from tinyamp.masks import masks_of, sparsity
from tinyamp.model import AmpLSTM, reference_forward
from tinyamp.realtime import SlowEngineWarning

pytestmark = pytest.mark.usefixtures("own_cache")


def test_random_models_have_the_zeros_that_were_asked_for():
    model = random_model(16, 0.95, seed=1)
    assert sparsity(masks_of(model)) == pytest.approx(0.95, abs=1e-3)
    full = random_model(16, seed=1)
    assert sparsity(masks_of(full)) == 0
    kept = model.lstm.weight_hh_l0 != 0
    assert torch.equal(model.lstm.weight_hh_l0[kept], full.lstm.weight_hh_l0[kept])
    assert full.lstm.weight_hh_l0[~kept].abs().max() <= full.lstm.weight_hh_l0[kept].abs().min()
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="share of zero weights"):
            random_model(4, share)


def test_the_signal_is_guitar_of_any_length():
    x = signal(0.5, 44_100)
    assert x.shape == (22_050,) and x.dtype == np.float32
    assert np.sqrt(np.mean(signal(1.0, 44_100) ** 2)) > 0.01  # not silence
    assert signal(20.0, 48_000).shape == (960_000,)


def test_the_reference_is_the_equations():
    model = AmpLSTM(5, seed=1)
    x = signal(0.1, 44_100)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    assert len(x) > 4096  # more than one chunk
    np.testing.assert_allclose(reference(model, x), reference_forward(weights, x)[0], atol=1e-12)


@needs_compiler
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_every_row_is_there_and_right(share):
    report = bench(random_model(9, share), name="nine", seconds=0.02, block=50, rounds=2)
    assert report.model == "nine" and report.hidden_size == 9
    assert report.sparsity == pytest.approx(share, abs=0.01)
    names = [row.name for row in report.rows]
    widths = ["plain C", "4 floats at a time", "8 floats at a time", "16 floats at a time"]
    widths = widths[: len(native_widths())]
    layouts = ["dense", "sparse"] if share else ["dense"]
    assert names == [
        "plain Python",
        "NumPy, per sample",
        "PyTorch, blocks of 50",
        "PyTorch, whole signal",
        "ONNX Runtime, blocks of 50",
        "ONNX Runtime, whole signal",
        *(f"{width}, {layout}" for layout in layouts for width in widths),
        "the default, from Python in blocks of 50",
    ]
    assert {row.kind for row in report.rows} == set(KINDS)
    assert [row.is_default for row in report.rows].count(True) == 1
    for row in report.rows:
        assert row.timing.n == 2 and row.timing.median > 0
        assert row.max_error < 1e-6, row.name
    notes = " ".join(report.notes)
    assert "The default is" in notes
    assert ("no LSTM weight is zero" in notes) == (share == 0)
    assert ("this processor has none" in notes) == (len(widths) < 4)
    assert report.jitter == []


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_blocks_cover_the_signal(block):
    x = signal(0.005, 44_100)
    rows, _ = contenders(AmpLSTM(4), ("pytorch",), block=block)
    whole = rows[1].process(x)
    np.testing.assert_allclose(rows[0].process(x), whole, atol=1e-6)


@needs_compiler
def test_native_widths_begin_with_plain_c():
    widths = native_widths()
    assert widths in ((1, 4), (1, 4, 8), (1, 4, 8, 16))


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr("tinyamp.bench.JITTER_BLOCKS", 20)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    no_compiler(monkeypatch)
    rows, notes = contenders(AmpLSTM(3), KINDS)
    assert {row.kind for row in rows} == {"python", "numpy", "pytorch"}
    assert any("pip install onnx onnxruntime" in note for note in notes)
    assert any("install gcc or clang" in note for note in notes)
    with pytest.raises(InputError, match="pip install onnx onnxruntime"):
        bench(AmpLSTM(3), kinds=("onnx",), seconds=0.01, rounds=1)
    with pytest.raises(InputError, match="Choose among python"):
        bench(AmpLSTM(3), kinds=(), seconds=0.01, rounds=1)
    with pytest.warns(SlowEngineWarning):
        report = bench(AmpLSTM(3), kinds=("numpy",), seconds=0.01, rounds=1, jitter=True)
    assert "PyTorch" in report.jitter_of


@needs_compiler
def test_jitter_and_json(monkeypatch):
    monkeypatch.setattr("tinyamp.bench.JITTER_BLOCKS", 30)
    report = bench(AmpLSTM(3), kinds=("compiled",), seconds=0.005, rounds=1, jitter=True)
    assert [times.block_size for times in report.jitter] == [16, 32, 64, 128, 256, 512]
    assert "compiled" in report.jitter_of
    values = json.loads(json.dumps(report.as_dict()))
    assert len(values["rows"]) == len(report.rows) and len(values["jitter"]) == 6
    first = values["jitter"][0]
    assert first["deadline"] == 16 / 44_100 and first["blocks"] == 30
    assert first["median"] <= first["quantile_99"] <= first["quantile_99_9"] <= first["maximum"]
    for row in values["rows"]:
        assert row["times_real_time"] == pytest.approx(1 / row["rtf"])


@needs_compiler
def test_models_side_by_side_are_each_at_their_own_rate(monkeypatch):
    from tinyamp import bench as module
    from tinyamp.realtime import Timing

    monkeypatch.setattr(
        module, "compare", lambda engines, **_: {name: Timing((1e-6,), 10, 1) for name in engines}
    )
    models = {"a": AmpLSTM(3), "b": AmpLSTM(3, sample_rate=96_000)}
    timings = side_by_side(models, seconds=0.01, rounds=1)
    assert timings["a"].median == pytest.approx(0.0441)
    assert timings["b"].median == pytest.approx(0.096)


def test_the_command_line_knows_the_same_kinds():
    assert cli_bench.KINDS == KINDS
