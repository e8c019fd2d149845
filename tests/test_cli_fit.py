"""`tinyamp capture` and `tinyamp fit`: what they write and say, and what they refuse."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import soundfile
from common import needs_compiler
from test_align import plucks
from test_fit import TINY

from tinyamp import fit_settings
from tinyamp.audio import read_audio
from tinyamp.cli import main
from tinyamp.formats import import_model
from tinyamp.losses import esr
from tinyamp.model import load_model, one_thread, parameter_count, process
from tinyamp.take import make_take

RATE = 44_100
DRY = plucks(9.0, 6)
WET = np.concatenate([np.zeros(900), -0.5 * np.tanh(4 * DRY)])[: len(DRY)].astype(np.float32)
NAMES = ("amp.nam", "amp.json", "amp.c", "amp.safetensors", "amp-unpruned.safetensors")
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(autouse=True)
def single():
    """Small models are slower on several threads, and very much so beside other programs."""
    with one_thread():
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a pair: late and inverted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(fit_settings.FIT_PRESETS, "quick", TINY)
    soundfile.write("dry.wav", DRY, RATE, subtype="PCM_24")
    soundfile.write("wet.wav", WET, RATE, subtype="PCM_24")
    return tmp_path


FIT = ["fit", "dry.wav", "wet.wav", "-o", "amp", "--preset", "quick"]


def refused(capsys, argv, words, code=2):
    capsys.readouterr()
    assert main(argv) == code
    out, err = capsys.readouterr()
    assert re.fullmatch(r"tinyamp: error: [^\n]+\n", err), err
    assert re.search(words, err), err
    return out


def test_capture_is_written_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make = ["capture", "make", "-o", "take.wav", "--seconds", "20", "--instrument", "bass"]
    assert main(make) == 0
    said = capsys.readouterr().out
    assert "take.wav: 20.0 s at 44100 Hz, 24 bit" in said and "tinyamp fit take.wav" in said
    info = soundfile.info("take.wav")
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_24")
    x, _ = read_audio("take.wav")
    assert np.abs(x - make_take(20.0, instrument="bass")).max() <= 2**-23
    refused(capsys, make, "--overwrite")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "take.mp3"], r"\.wav"),
        (["-o", "take.wav", "--seconds", "5"], "20 s or more"),
        (["-o", "take.wav", "--instrument", "drum"], "drum"),
        ([], "-o"),
    ],
)
def test_capture_refuses(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    refused(capsys, ["capture", "make", *options], words)
    assert not list(tmp_path.iterdir())


def test_check_only_looks(folder, capsys):
    assert main(["fit", "dry.wav", "wet.wav", "--check"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\* lag +the target is 9\d\d samples", said)
    assert re.search(r"\* polarity +inverted", said)
    assert sorted(p.name for p in folder.iterdir()) == ["dry.wav", "wet.wav"]


@needs_compiler
def test_one_command_from_two_files_to_a_model(folder, capsys):
    assert main(FIT) == 0
    captured = capsys.readouterr()
    said = captured.out
    assert {p.name for p in (folder / "amp").iterdir()} == {
        *NAMES,
        "report.html",
        "fit.json",
        "fit-work",
    }
    numbers = json.loads((folder / "amp" / "fit.json").read_text())
    for words in ("inverted", "late; shifted", "-> training 6 units", "-> retraining stage"):
        assert words in said
    before, after = numbers["unpruned"], numbers["pruned"]
    for name in ("hidden_size", "parameters"):
        assert f"{before[name]} -> {after[name]}" in said
    assert f"{100 * before['test_esr']:.2f} % -> {100 * after['test_esr']:.2f} %" in said
    page = (folder / "amp" / "report.html").read_text()
    assert f"{after['test_esr']:.2%}" in page and "<title>amp: a small model" in page
    model = load_model(folder / "amp" / "amp.safetensors")
    x = DRY[-RATE:]
    for name in NAMES[:2]:
        other = import_model(folder / "amp" / name).model
        assert np.abs(process(other, x) - process(model, x)).max() < 1e-5
    # The model has learnt the mended target: upright, in step.
    lag = int(re.search(r"is (\d+) samples", said)[1])
    target = -WET[lag:]
    mended = esr(target, process(load_model("amp/amp-unpruned.safetensors"), DRY[: len(target)]))
    assert mended == pytest.approx(before["validation_esr"], rel=1.0) and mended < 1
    warned = "no stage that was tried" in captured.err
    assert warned == (after["validation_esr"] > numbers["limit"])

    out = refused(capsys, FIT, "holds a run already.*--resume.*--overwrite")
    assert "retraining" not in out
    assert main([*FIT, "--resume"]) == 0  # goes through what is there, and measures speed anew
    again = json.loads((folder / "amp" / "fit.json").read_text())
    assert again["tried"] == numbers["tried"]
    assert again["pruned"]["test_esr"] == after["test_esr"]
    refused(capsys, [*FIT, "--resume", "--seed", "1"], "belongs to a run with other")
    anew = ["--overwrite", "--name", "my amp!", "--good", "0.5", "--score", "unit"]
    assert main([*FIT, *anew]) == 0
    there = {p.name for p in (folder / "amp").iterdir()}
    assert {"my-amp.nam", "my-amp.c"} <= there
    units = json.loads((folder / "amp" / "fit.json").read_text())
    assert units["limit"] >= 0.5
    assert units["pruned"]["parameters"] == parameter_count(units["pruned"]["hidden_size"])
    assert "in whole units" in (folder / "amp" / "report.html").read_text()


BAD = {
    "missing": (["fit", "no.wav", "wet.wav"], "There is no file no.wav"),
    "no audio": (["fit", "bad.wav", "wet.wav"], "bad.wav is not a WAV"),
    "no pair": (["fit", "dry.wav", "noise.wav"], "no clear likeness"),
    "silent": (["fit", "dry.wav", "silence.wav"], "silence.wav is silent"),
    "short": (["fit", "short.wav", "wet.wav"], "at least 4 s"),
    "stereo": (["fit", "dry.wav", "stereo.wav"], "--channel left"),
    "slack": ([*FIT, "--slack", "0.5"], "slack must be at least 1"),
    "good": ([*FIT, "--good", "nan"], "good at least 0"),
    "size": ([*FIT, "--hidden-size", "0"], "1 or more"),
    "large": ([*FIT, "--hidden-size", "5000"], "4096"),
    "preset": ([*FIT, "--preset", "huge"], "huge"),
    "a file": (["fit", "dry.wav", "wet.wav", "-o", "dry.wav"], "is a file"),
    "itself": (["fit", "dry.wav", "amp/amp.nam", "-o", "amp"], "There is no file"),
    "both": ([*FIT, "--resume", "--overwrite"], "not allowed with"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(folder, capsys, case):
    argv, words = BAD[case]
    (folder / "bad.wav").write_text("Hello!" * 99)
    noise = np.random.default_rng(0).standard_normal(len(DRY)) / 4
    for name, x in {
        "noise": noise,
        "silence": 0 * DRY,
        "short": DRY[: 2 * RATE],
        "stereo": np.stack([WET, 0.4 * WET], axis=1),
    }.items():
        soundfile.write(f"{name}.wav", x, RATE, subtype="FLOAT")
    before = sorted(folder.rglob("*"))
    refused(capsys, argv, words)
    assert sorted(folder.rglob("*")) == before


def test_overwriting_takes_away_only_what_a_fit_wrote(folder, capsys):
    """The user's own files stay, also those in the way of a name; the pair itself is refused."""
    (folder / "amp").mkdir()
    (folder / "amp" / "notes.txt").write_text("mine")
    (folder / "amp" / "report.html").write_text("older")
    refused(capsys, FIT, "holds a run already")
    refused(capsys, [*FIT, "--resume"], "without its checkpoints")
    soundfile.write("amp/amp.wav", WET, RATE)
    from argparse import Namespace
    from pathlib import Path

    from tinyamp.cli_fit import prepare

    options = Namespace(input=Path("dry.wav"), target=Path("amp/amp.wav"), resume=False)
    prepare(Path("amp"), "amp", Namespace(**vars(options), overwrite=True))
    assert sorted(p.name for p in (folder / "amp").iterdir()) == ["amp.wav", "notes.txt"]
