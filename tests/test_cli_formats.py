"""`tinyamp export` and `tinyamp import`: there and back, with one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_cli import contents, refused

from tinyamp.cli import main
from tinyamp.cli_formats import FORMATS as NAMES
from tinyamp.formats import FORMATS
from tinyamp.model import AmpLSTM, load_model, process, save_model

X = np.random.default_rng(0).uniform(-1, 1, 500).astype(np.float32)


@pytest.fixture
def work(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a small model in it, and nothing else."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    save_model(AmpLSTM(4, seed=1, sample_rate=48_000), "model.safetensors", settings={"a": [1]})
    return folder


def test_the_choices_are_the_formats():
    assert tuple(FORMATS) == NAMES


@pytest.mark.parametrize(
    ("name", "options", "first"),
    [
        ("a.nam", [], "a.nam: Neural Amp Modeler, 5 hidden units, 48000 Hz"),
        ("a.json", [], "a.json: AIDA-X, 4 hidden units, 48000 Hz"),
        ("a.json", ["--format", "guitarml"], "a.json: GuitarML, 4 hidden units, 48000 Hz"),
    ],
)
def test_there_and_back(work, capsys, name, options, first):
    assert main(["export", "model.safetensors", name, *options]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == first and not err
    if name == "a.nam":
        assert "one more unit adds the input" in out and "error up to 1.0e-05" in out
        assert "after 48000 samples of silence" in out
    assert main(["import", name, "back.safetensors"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"back.safetensors: from {first.split(': ')[1].split(',')[0]}, 4 hidden")
    assert not err
    old, new = load_model("model.safetensors"), load_model("back.safetensors")
    assert (new.sample_rate, new.settings) == (48_000, {"a": [1]})
    np.testing.assert_allclose(process(new, X), process(old, X), rtol=0, atol=1e-6)
    assert sorted(contents(work)) == sorted([name, "back.safetensors", "model.safetensors"])


def test_the_rate_of_a_file_that_does_not_say(work, capsys):
    main(["export", "model.safetensors", "a.nam"])
    document = json.loads(Path("a.nam").read_text())
    del document["sample_rate"]
    Path("a.nam").write_text(json.dumps(document))
    assert main(["import", "a.nam", "b.safetensors", "--sample-rate", "96000"]) == 0
    assert load_model("b.safetensors").sample_rate == 96_000
    capsys.readouterr()
    assert main(["import", "a.nam", "b.safetensors", "--overwrite"]) == 0
    assert "48000 Hz is assumed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["export", "model.safetensors", "there.nam"], "there already.*--overwrite"),
        (["export", "model.safetensors", "model.safetensors"], "also what is read"),
        (["export", "model.safetensors", "folder.nam"], "is a folder"),
        (["export", "model.safetensors", "a.wav"], r"must end in \.nam"),
        (["export", "model.safetensors", "a.json", "--format", "nam"], "does not fit"),
        (["export", "model.safetensors", "a.json", "--format", "onnx"], "invalid choice"),
        (["export", "none.safetensors", "a.nam"], "There is no model file none"),
        (["export", "there.nam", "a.nam"], "cannot be read as a safetensors file"),
        (["export", "model.safetensors", ""], "empty name"),
        (["import", "none.nam", "a.safetensors"], "none.nam: there is no such file"),
        (["import", "folder.nam", "a.safetensors"], "folder.nam: this is a folder"),
        (["import", "cut.nam", "a.safetensors"], "cut.nam: .*cut short"),
        (["import", "model.safetensors", "a.safetensors"], "not UTF-8|not whole JSON"),
        (["import", "there.nam", "model.safetensors"], "there already.*--overwrite"),
        (["import", "there.nam", "there.nam", "--overwrite"], "also what is read"),
        (["import", "there.nam", "a.json"], r"must end in \.safetensors"),
        (["import", "there.nam", "a.safetensors", "--format", "aidax"], "there.nam: has no layers"),
        (["import", "there.nam", "a.safetensors", "--sample-rate", "44100"], "says 48000 Hz"),
        (["import", "there.nam", "a.safetensors", "--sample-rate", "0"], "1 or more"),
        (["import", "norate.nam", "a.safetensors", "--sample-rate", "9999999"], "sample rate must"),
    ],
)
def test_refusals_leave_everything_as_it_was(work, capsys, argv, says):
    main(["export", "model.safetensors", "there.nam"])
    text = Path("there.nam").read_text()
    Path("cut.nam").write_text(text[:500])
    document = json.loads(text)
    del document["sample_rate"]
    Path("norate.nam").write_text(json.dumps(document))
    Path("folder.nam").mkdir()
    refused(capsys, work, argv, says)


def test_overwrite(work):
    Path("a.nam").write_text("old")
    assert main(["export", "model.safetensors", "a.nam", "--overwrite"]) == 0
    assert main(["import", "a.nam", "model.safetensors", "--overwrite"]) == 0
    assert load_model("model.safetensors").hidden_size == 4


@pytest.mark.parametrize("command", ["export", "import"])
def test_help_teaches(capsys, command):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "examples:" in out and "--overwrite" in out
    for format in FORMATS:
        assert format in out
