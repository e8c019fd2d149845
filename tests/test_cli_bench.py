"""`tinyamp bench`: what it prints and writes, and what it refuses before it has measured."""

from __future__ import annotations

import json

import pytest
from common import needs_compiler

from tinyamp.cli import main
from tinyamp.model import AmpLSTM, save_model

pytestmark = pytest.mark.usefixtures("own_cache")


SHORT = ("--seconds", "0.01", "--rounds", "2")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(AmpLSTM(6, seed=1), path)
    return path


@needs_compiler
def test_one_model_gives_one_table(model, capsys):
    assert main(["bench", str(model), *SHORT]) == 0
    said = capsys.readouterr().out
    assert f"{model}: 6 hidden units, 44100 Hz, 0.0 % of its LSTM weights are zero" in said
    for name in ("plain Python", "NumPy", "PyTorch", "ONNX Runtime", "plain C, dense", "4 floats"):
        assert f"\n{name}" in said
    assert said.count("  <-") == 1
    assert "RTF" in said and "max error" in said
    assert "Side by side" not in said and "single blocks" not in said


@needs_compiler
def test_models_and_random_weights_are_also_compared(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tinyamp.bench.JITTER_BLOCKS", 20)
    out = tmp_path / "numbers.json"
    random = ("--hidden-size", "8", "--sparsity", "0.9")
    arguments = ("--only", "compiled,numpy", "--jitter", "--json", str(out))
    assert main(["bench", str(model), *random, *arguments, *SHORT]) == 0
    said = capsys.readouterr().out
    assert "random weights, 90 % zeros: 8 hidden units" in said and "plain C, sparse" in said
    assert "PyTorch, " not in said and said.count("NumPy, per sample") == 2
    assert said.count("Times of single blocks") == 2
    assert "of 20" in said
    values = json.loads(out.read_text(encoding="utf-8"))
    assert values["cpu"] and values["torch"] and values["seconds"] == 0.01
    assert [m["hidden_size"] for m in values["models"]] == [6, 8]
    assert values["models"][1]["sparsity"] == pytest.approx(0.9, abs=0.01)
    together = values["side_by_side"]
    assert list(together) == [str(model), "random weights, 90 % zeros"]
    assert together[str(model)]["times_the_first"] == 1
    assert f"{out}: the numbers of 2 models" in said


def test_nothing_is_measured_for_a_file_that_cannot_be_written(model, tmp_path, capsys):
    before = model.read_bytes()
    (tmp_path / "there.json").write_text("mine")
    for out, words in (("there.json", "--overwrite"), (".", "folder"), (model.name, "also what")):
        assert main(["bench", str(model), "--json", str(tmp_path / out), *SHORT]) == 2
        captured = capsys.readouterr()
        assert words in captured.err and captured.out == ""
    assert (tmp_path / "there.json").read_text() == "mine" and model.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Name a model file"),
        (["missing.safetensors"], "no model file"),
        (["x.safetensors", "--sparsity", "0.5"], "--hidden-size"),
        (["--hidden-size", "4", "--sparsity", "1"], "below 1"),
        (["--hidden-size", "4", "--sparsity", "nan"], "below 1"),
        (["--hidden-size", "4", "--sparsity", "half"], "number"),
        (["--hidden-size", "0"], "1 or more"),
        (["--hidden-size", "5000"], "4096"),
        (["--hidden-size", "4", "--only", "rust"], "'rust'"),
        (["--hidden-size", "4", "--seconds", "0"], "above 0"),
        (["--hidden-size", "4", "--block", "0"], "1 or more"),
    ],
)
def test_bad_arguments_are_one_line(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1


def test_two_inputs_are_refused(tmp_path, capsys):
    path = tmp_path / "two.safetensors"
    save_model(AmpLSTM(3, input_size=2), path)
    assert main(["bench", str(path), *SHORT]) == 2
    assert "one signal" in capsys.readouterr().err
