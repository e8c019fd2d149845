"""The command line: it works, it teaches, and bad input gets one line and leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_align import plucks

from tinyamp import __version__, cli_train, fetch, presets
from tinyamp.audio import read_audio, write_audio
from tinyamp.cli import build_parser, main
from tinyamp.data import SIMULATED, SPLITS
from tinyamp.losses import esr
from tinyamp.model import AmpLSTM, load_model, process, save_model

RATE = 44_100
DRY = plucks(4.0, 5)
WET = (0.7 * np.tanh(4 * DRY)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A folder to work in, with a small model, a pair of files and tiny excerpts."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TINYAMP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TINYAMP_MADE", str(tmp_path / "made"))
    for n, split in enumerate(SPLITS):
        place = tmp_path / "data" / "excerpts" / split
        place.mkdir(parents=True)
        piece = slice(n * RATE, (n + 1) * RATE)
        write_audio(place / "input.flac", DRY[piece], subtype="PCM_16")
        write_audio(place / "sim-muff-target.flac", WET[piece], subtype="PCM_16")
    save_model(AmpLSTM(4, seed=1), work / "model.safetensors")
    soundfile.write(work / "dry.wav", DRY, RATE, subtype="PCM_24")
    soundfile.write(work / "wet.wav", WET, RATE, subtype="PCM_24")
    return work


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*")
            if p.is_file()}  # fmt: skip


def refused(capsys, folder: Path, argv: list[str], says: str, code: int = 2) -> str:
    """Run `argv`; demand one line of error on stderr, the exit code, and an untouched folder."""
    before = contents(folder.parent)
    capsys.readouterr()
    assert main(argv) == code
    out, err = capsys.readouterr()
    assert re.fullmatch(r"tinyamp: error: [^\n]+\n", err), err
    assert re.search(says, err), err
    assert "Traceback" not in err + out
    assert contents(folder.parent) == before
    return err


# Every case makes a bad file in the current folder, and is tried wherever a file is read.


def _write(name: str, x: np.ndarray = DRY, rate: int = RATE, subtype: str = "FLOAT") -> None:
    soundfile.write(name, x, rate, subtype=subtype)


def _cut(name: str) -> None:
    _write(name, subtype="PCM_16")
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) // 2])


def _cut_flac(name: str) -> None:
    soundfile.write(name, DRY, RATE, format="FLAC")
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) // 2])


BAD_AUDIO: dict[str, tuple[Callable[[str], object], str]] = {
    "missing": (lambda name: None, "There is no file bad.wav"),
    "a folder": (lambda name: Path(name).mkdir(), "bad.wav is a folder"),
    "empty": (lambda name: Path(name).touch(), "bad.wav is empty"),
    "not audio": (lambda name: Path(name).write_text("Hello!" * 99), "bad.wav is not a WAV"),
    "damaged": (lambda name: Path(name).write_bytes(b"RIFF" + bytes(99)), "bad.wav cannot be read"),
    "no samples": (lambda name: _write(name, DRY[:0]), "bad.wav holds no audio"),
    "cut short": (_cut, "bad.wav is cut short"),
    "cut short FLAC": (_cut_flac, "bad.wav (is cut short|cannot be read)"),
    "stereo": (
        lambda name: _write(name, np.stack([DRY, 0.5 * DRY], 1)),
        "bad.wav has 2 channels .*the left one would be used.*--channel left",
    ),
    "NaN": (lambda name: _write(name, np.where(DRY[9] == DRY, np.nan, DRY)), "NaN or infinite"),
    "infinite": (lambda name: _write(name, np.where(DRY[9] == DRY, np.inf, DRY)), "NaN or infin"),
    "wrong scale": (lambda name: _write(name, 32768 * DRY), "full scale is 1"),
    "rate": (lambda name: _write(name, rate=48_000), "48000 Hz.*--resample"),
}
BAD_PAIR = {
    **BAD_AUDIO,
    "silent": (lambda name: _write(name, 0 * DRY), "bad.wav is silent"),
    "another length": (lambda name: _write(name, DRY[:-5]), "must be equally long.*--trim"),
}
PAIR_COMMANDS = {
    "check": ["data", "check", "INPUT", "TARGET"],
    "train": ["train", "--input", "INPUT", "--target", "TARGET", "--out", "run"],
    "evaluate": ["evaluate", "model.safetensors", "--input", "INPUT", "--target", "TARGET"],
}


@pytest.mark.parametrize("case", BAD_PAIR)
@pytest.mark.parametrize("side", ["INPUT", "TARGET"])
@pytest.mark.parametrize("command", PAIR_COMMANDS)
def test_bad_recordings(capsys, folder: Path, command: str, side: str, case: str) -> None:
    make, says = BAD_PAIR[case]
    make("bad.wav")
    files = {"INPUT": "dry.wav", "TARGET": "wet.wav", side: "bad.wav"}
    argv = [files.get(word, word) for word in PAIR_COMMANDS[command]]
    refused(capsys, folder, argv, says)


@pytest.mark.parametrize("command", PAIR_COMMANDS)
def test_short_recordings(capsys, folder: Path, command: str) -> None:
    _write("dry.wav", DRY[:22_000])
    _write("wet.wav", WET[:22_000])
    argv = [{"INPUT": "dry.wav", "TARGET": "wet.wav"}.get(w, w) for w in PAIR_COMMANDS[command]]
    refused(capsys, folder, argv, "at least one segment")


@pytest.mark.parametrize("case", BAD_AUDIO)
def test_bad_input_to_process(capsys, folder: Path, case: str) -> None:
    make, says = BAD_AUDIO[case]
    make("bad.wav")
    refused(capsys, folder, ["process", "model.safetensors", "bad.wav", "out.wav"], says)


def _model_of(change: Callable[[dict, dict], None]) -> None:
    """Write model.safetensors anew with its tensors or header changed."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open("model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    change(tensors, header)
    save_file(tensors, "model.safetensors", metadata=header)


def _cut_model() -> None:
    path = Path("model.safetensors")
    path.write_bytes(path.read_bytes()[:-40])


def _nan_model() -> None:
    _model_of(lambda tensors, header: tensors["head.bias"].fill_(float("nan")))


BAD_MODELS: dict[str, tuple[Callable[[], object], str]] = {
    "missing": (lambda: Path("model.safetensors").unlink(), "There is no model file"),
    "empty": (lambda: Path("model.safetensors").write_bytes(b""), "cannot be read"),
    "audio": (lambda: Path("dry.wav").replace("model.safetensors"), "cannot be read"),
    "cut short": (_cut_model, "cannot be read"),
    "version": (
        lambda: _model_of(lambda tensors, header: header.update(version="99")),
        "has version 99",
    ),
    "another format": (lambda: _model_of(lambda tensors, header: header.clear()), "not a tinyamp"),
    "shape": (
        lambda: _model_of(lambda tensors, header: header.update(hidden_size="5")),
        "of shape",
    ),
    "NaN": (_nan_model, "NaN or infinite"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
@pytest.mark.parametrize(
    "argv",
    [
        ["process", "model.safetensors", "wet.wav", "out.wav"],
        ["evaluate", "model.safetensors", "--device", "sim-muff"],
    ],
    ids=["process", "evaluate"],
)
def test_bad_models(capsys, folder: Path, argv: list[str], case: str) -> None:
    make, says = BAD_MODELS[case]
    make()
    refused(capsys, folder, argv, says)


BAD_ARGUMENTS = {
    "no such command": (["fly"], "invalid choice: 'fly'"),
    "no model": (["process"], "required: model, input, output"),
    "an unknown option": (["data", "list", "--loud"], "unrecognized arguments: --loud"),
    "no source": (["train"], "Say what to use"),
    "half a pair": (["train", "--input", "dry.wav"], "Say what to use"),
    "two sources": (["train", "--device", "sim-muff", "--input", "dry.wav"], "not both"),
    "hidden size": (["train", "--device", "sim-muff", "--hidden-size", "0"], "1 or more"),
    "huge hidden size": (["train", "--device", "sim-muff", "--hidden-size", "9999"], "from 1 to"),
    "epochs": (["train", "--device", "sim-muff", "--epochs", "many"], "number, but is 'many'"),
    "seed": (["train", "--device", "sim-muff", "--seed", "-1"], "--seed"),
    "seconds": (["train", "--device", "sim-muff", "--seconds", "nan"], "above 0 seconds"),
    "seconds in words": (["train", "--device", "sim-muff", "--seconds", "x"], "number of seconds"),
    "channel": (["data", "check", "dry.wav", "wet.wav", "--channel", "-1"], "but is '-1'"),
    "no run's name": (["train", "--device", "sim-muff", "--out", ""], "--out: is an empty name"),
    "no model's name": (["process", "", "dry.wav", "o.wav"], "model: is an empty name"),
    "no input's name": (["data", "check", "", "wet.wav"], "input: is an empty name"),
    "a run in a file": (["train", "--device", "sim-muff", "--out", "dry.wav/x"], "Cannot write in"),
    "few seconds": (["train", "--device", "sim-muff", "--seconds", "0.2"], "at least one segment"),
    "many seconds": (["train", "--device", "sim-muff", "--seconds", "99"], "data make"),
    "both ways": (["train", "--device", "sim-muff", "--resume", "--overwrite"], "not allowed with"),
    "half a validation": (
        ["train", "--input", "dry.wav", "--target", "wet.wav", "--validation-input", "dry.wav"],
        "go together",
    ),
    "validation for a device": (
        ["train", "--device", "sim-muff", "--validation-input", "a", "--validation-target", "b"],
        "its own validation set",
    ),
    "rate for a device": (["train", "--device", "sim-muff", "--sample-rate", "48000"], "44100 Hz"),
    "a set that is not there": (["train", "--device", "sim-lead"], "data make --device sim-lead"),
    "authors' data": (["evaluate", "model.safetensors", "--device", "ht1"], "data fetch ht1"),
    "a file as run": (["train", "--device", "sim-muff", "--out", "dry.wav"], "is a file"),
    "device to make": (["data", "make", "--device", "ht1"], "invalid choice: 'ht1'"),
    "set to fetch": (["data", "fetch", "ht5"], "invalid choice: 'ht5'"),
    "output kind": (["process", "model.safetensors", "dry.wav", "out.mp3"], r"must end in \.wav"),
    "output is input": (["process", "model.safetensors", "dry.wav", "./dry.wav"], "what is read"),
    "output is there": (["process", "model.safetensors", "dry.wav", "wet.wav"], "is there already"),
    "output in a file": (["process", "model.safetensors", "dry.wav", "wet.wav/o.wav"], "wet.wav"),
    "block size": (["process", "model.safetensors", "dry.wav", "o.wav", "--block-size", "0"], "1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(capsys, folder: Path, case: str) -> None:
    argv, says = BAD_ARGUMENTS[case]
    refused(capsys, folder, argv, says)


def test_overwrite_keeps_the_old_run_when_the_new_one_is_refused(capsys, folder: Path) -> None:
    argv = ["train", "--device", "sim-muff", "--out", "run", "--overwrite"]
    Path("run").mkdir()
    for name in cli_train.RUN_FILES:
        Path("run", name).write_bytes(b"of the old run")
    refused(capsys, folder, [*argv, "--hidden-size", "9999"], "from 1 to 4096")
    refused(capsys, folder, [*argv, "--seconds", "0.2"], "at least one segment")
    if not torch.cuda.is_available():
        refused(capsys, folder, [*argv, "--processor", "cuda"], "'cuda' cannot be used here")


def test_a_short_recording_is_called_short_not_silent(capsys, folder: Path) -> None:
    _write("dry.wav", DRY[:1] + 0.5)
    refused(capsys, folder, ["data", "check", "dry.wav", "dry.wav"], "1 samples .* one segment")


def test_a_channel_of_many(capsys, folder: Path) -> None:
    _write("six.wav", np.stack([gain * DRY for gain in (0.1, 0.2, 0.9, 0.3, 0.4, 0.5)], 1))
    argv = ["process", "model.safetensors", "six.wav", "out.wav"]
    says = "number 2 .*would be used.*--channel 2"
    refused(capsys, folder, argv, says)
    refused(capsys, folder, [*argv, "--channel", "6"], "has 6 channels")
    run(capsys, *argv, "--channel", "2")
    expected = process(load_model("model.safetensors"), (0.9 * DRY).astype(np.float32))
    np.testing.assert_allclose(read_audio("out.wav")[0], expected, atol=2**-22)


def test_a_target_that_is_the_input_is_a_warning(capsys, folder: Path) -> None:
    assert main(["data", "check", "dry.wav", "dry.wav"]) == 0
    err = capsys.readouterr().err
    assert re.fullmatch(r"tinyamp: warning: dry\.wav is the same signal as dry\.wav; [^\n]*\n", err)


def test_output_that_is_a_folder(capsys, folder: Path) -> None:
    Path("out.wav").mkdir()
    refused(capsys, folder, ["process", "model.safetensors", "dry.wav", "out.wav"], "is a folder")


def test_a_link_to_the_input_is_the_input(capsys, folder: Path) -> None:
    Path("link.wav").symlink_to("dry.wav")
    argv = ["process", "model.safetensors", "dry.wav", "link.wav", "--overwrite"]
    refused(capsys, folder, argv, "what is read")


def test_data_folder_that_is_not_there(capsys, folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("TINYAMP_DATA", "nowhere")
    refused(capsys, folder, ["data", "list"], "TINYAMP_DATA names nowhere")
    assert main(["data", "list"]) == 2
    assert capsys.readouterr().out == ""  # no half of a table
    refused(capsys, folder, ["train", "--device", "sim-muff"], "TINYAMP_DATA names nowhere")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200), kind=st.sampled_from(["wav", "flac", "model"]))
def test_random_bytes(capsys, folder: Path, content: bytes, kind: str) -> None:
    path = Path("random.safetensors" if kind == "model" else f"random.{kind}")
    path.write_bytes(content)
    files = (path, "dry.wav") if kind == "model" else ("model.safetensors", path)
    refused(capsys, folder, ["process", *map(str, files), "out.wav"], re.escape(str(path)))


# What goes wrong on the way.


def test_offline_fetch(capsys, folder: Path, monkeypatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        import requests
        import urllib3

        reason = urllib3.exceptions.NewConnectionError(None, "no network")
        raise requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/", reason))

    monkeypatch.setattr(fetch.requests, "get", no_network)
    says = r"Could not reach raw\.githubusercontent\.com; check the connection"
    refused(capsys, folder, ["data", "fetch", "ht1"], says)


def test_full_disk_while_processing(capsys, folder: Path, monkeypatch) -> None:
    def full(path: str, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile, "write", full)
    says = r"out\.wav could not be written \(No space left on device\)"
    refused(capsys, folder, ["process", "model.safetensors", "dry.wav", "out.wav"], says)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "interrupted.*--resume goes on"),
        (OSError(28, "No space left on device", "x"), 1, "x: No space left on device"),
        (MemoryError(), 1, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), 1, "not enough mem"),
    ],
)
def test_failures_on_the_way(capsys, folder, monkeypatch, error, code: int, says: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tinyamp.train.train", fail)
    refused(capsys, folder, ["train", "--device", "sim-muff"], says, code)


def test_a_run_that_diverges(capsys, folder: Path, monkeypatch) -> None:
    from tinyamp.train import DivergedError

    def fail(*_: object, **__: object) -> None:
        raise DivergedError("Training stopped in epoch 3: the loss became nan.")

    monkeypatch.setattr("tinyamp.train.train", fail)
    refused(capsys, folder, ["train", "--device", "sim-muff"], "stopped in epoch 3", 1)


def test_a_bug_is_not_hidden(folder: Path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tinyamp.train.train", fail)
    with pytest.raises(ZeroDivisionError):
        main(["train", "--device", "sim-muff"])


# What works.


def run(capsys, *argv: str) -> str:
    capsys.readouterr()
    code = main(list(argv))
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def parsers() -> dict[str, object]:
    """Every parser of the command line by its words."""
    found, todo = {}, [build_parser()]
    while todo:
        parser = todo.pop()
        found[parser.prog] = parser
        for action in parser._actions:
            if isinstance(action.choices, dict):
                todo += action.choices.values()
    return found


def test_help(capsys) -> None:
    assert "examples:" in run(capsys)
    assert run(capsys, "data") == run(capsys, "data", "--help")
    assert run(capsys, "--version") == f"tinyamp {__version__}\n"
    for words in parsers():
        out = run(capsys, *words.split()[1:], "--help")
        assert out.startswith(f"usage: {words}")
        if words.split()[-1] not in ("list", "info", "excerpts"):
            assert "examples:\n  tinyamp " in out, words


def test_examples_parse() -> None:
    examples = 0
    for parser in parsers().values():
        for line in (parser.epilog or "").splitlines():
            if line.startswith("  tinyamp "):
                build_parser().parse_args(line.split("   ")[0].split()[1:] if "   " in line[2:]
                                          else line.split()[1:])  # fmt: skip
                examples += 1
    assert examples > 15


def test_presets_are_those_of_the_library() -> None:
    assert sorted(cli_train.PRESETS) == sorted(presets.PRESETS)


def test_list(capsys, folder: Path) -> None:
    lines = run(capsys, "data", "list").splitlines()
    assert lines[0].split() == ["device", "source", *SPLITS]
    assert lines[1].split() == ["sim-muff", "excerpt", "1.0", "s", "1.0", "s", "1.0", "s"]
    assert lines[2].split() == ["sim-muff", "full", "-", "-", "-"]
    assert run(capsys, "data", "info").splitlines() == lines


@pytest.mark.parametrize("device", ["all", "sim-lead"])
@pytest.mark.parametrize("short", [True, False])
def test_make(capsys, folder: Path, monkeypatch, device: str, short: bool) -> None:
    asked = {}

    def make(root: Path, devices: list[str] | None, **options: object) -> list[Path]:
        asked.update(root=root, devices=devices, **options)
        return []

    monkeypatch.setattr("tinyamp.make.make", make)
    out = run(capsys, "data", "make", "--device", device, "--seed", "3", *["--short"] * short)
    assert out.startswith("0 files made")
    assert asked["root"] == folder.parent / "made" / "full"
    assert asked["devices"] == (None if device == "all" else ["sim-lead"])
    assert asked["seconds"] == {"train": 163 if short else 342, "validation": 84, "test": 64}
    assert asked["seed"] == 3
    run(capsys, "data", "excerpts")
    assert asked["root"] == folder.parent / "data" / "excerpts"
    assert asked["seconds"]["train"] < 60


def test_fetch(capsys, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(fetch, "fetch", lambda name, *, progress: [Path(name)] * 6)
    assert run(capsys, "data", "fetch", "muff").startswith("6 verified files in ")


def test_check(capsys, folder: Path) -> None:
    out = run(capsys, "data", "check", "dry.wav", "wet.wav")
    assert "44100 Hz" in out
    assert "176400 samples, 4.000 s" in out
    assert "lag           0 samples" in out
    assert "as the input" in out


def test_check_warns_in_one_line_and_goes_on(capsys, folder: Path) -> None:
    _write("late.wav", -np.roll(WET, 1000))
    assert main(["data", "check", "dry.wav", "late.wav"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(
        r"tinyamp: warning: late\.wav is 1000 samples \(22\.68 ms\) late and inverted in polarity "
        r"against dry\.wav; [^\n]*--fix-alignment[^\n]*\n",
        err,
    )
    assert "lag           1000 samples" in out
    assert "inverted" in out
    out = run(capsys, "data", "check", "dry.wav", "late.wav", "--fix-alignment")
    assert "lag           0 samples" in out


def test_clipping_is_a_warning(capsys, folder: Path) -> None:
    _write("hot.wav", np.clip(30 * WET, -1, 1))
    assert main(["data", "check", "dry.wav", "hot.wav"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"tinyamp: warning: hot\.wav is clipped: \d+ samples [^\n]*\n", err)
    assert re.search(r"target .* [1-9]\d* clipped samples", out)


def test_process(capsys, folder: Path) -> None:
    out = run(capsys, "process", "model.safetensors", "dry.wav", "out.wav")
    assert out.startswith("out.wav: 4.00 s at 44100 Hz, peak ")
    y, rate = read_audio("out.wav")
    x, _ = read_audio("dry.wav")
    assert rate == RATE
    np.testing.assert_allclose(y, process(load_model("model.safetensors"), x), atol=2**-23)
    for size in ("100000", "777"):
        argv = ["process", "model.safetensors", "dry.wav", "out.flac", "--block-size", size]
        run(capsys, *argv, "--overwrite")
        np.testing.assert_allclose(read_audio("out.flac")[0], y, atol=1e-6)


def test_process_takes_silence_channels_and_rates(capsys, folder: Path) -> None:
    model = load_model("model.safetensors")
    _write("quiet.wav", 0 * DRY)
    run(capsys, "process", "model.safetensors", "quiet.wav", "quiet-out.wav")
    _write("stereo.wav", np.stack([0.1 * DRY, DRY], 1), rate=48_000)
    argv = ["process", "model.safetensors", "stereo.wav", "out.wav"]
    run(capsys, *argv, "--channel", "right", "--resample")
    y, rate = read_audio("out.wav")
    assert (len(y), rate) == (int(np.ceil(len(DRY) * 44.1 / 48)), 44_100)
    save_model(model, "model48.safetensors", sample_rate=48_000)
    argv = ["process", "model48.safetensors", "stereo.wav", "out48.wav", "--channel", "right"]
    run(capsys, *argv)
    y, rate = read_audio("out48.wav", expected_rate=48_000)
    np.testing.assert_allclose(y, process(model, DRY), atol=2**-23)


def test_process_warns_of_clipping(capsys, folder: Path) -> None:
    _write("hot.wav", 6 * DRY)
    assert main(["process", "model.safetensors", "hot.wav", "out.wav"]) == 0
    err = capsys.readouterr().err
    assert re.fullmatch(
        r"tinyamp: warning: the output goes beyond full scale, with a peak of [\d.]+ [^\n]*\n", err
    )
    peak = float(re.search(r"a peak of ([\d.]+)", err)[1])
    x, _ = soundfile.read("hot.wav", dtype="float32")
    y = process(load_model("model.safetensors"), x)
    assert peak == pytest.approx(np.abs(y).max(), abs=0.01)
    written, _ = soundfile.read("out.wav")
    np.testing.assert_allclose(written, np.clip(y, -1, 1), atol=2**-22)


def test_evaluate(capsys, folder: Path) -> None:
    out = run(capsys, "evaluate", "model.safetensors", "--device", "sim-muff", "--json")
    values = json.loads(out)
    x, _ = read_audio(folder.parent / "data/excerpts/test/input.flac")
    y, _ = read_audio(folder.parent / "data/excerpts/test/sim-muff-target.flac")
    output = process(load_model("model.safetensors"), x)
    assert values["esr"] == pytest.approx(esr(y, output), rel=1e-6)
    assert values["recording"] == "sim-muff test"
    level = 10 * np.log10(np.mean(output.astype(float) ** 2) / np.mean(y.astype(float) ** 2))
    assert values["level_db"] == pytest.approx(level, abs=1e-6)
    text = run(capsys, "evaluate", "model.safetensors", "--device", "sim-muff")
    assert f"ESR         {100 * values['esr']:.3f} %" in text
    argv = ["--input", "dry.wav", "--target", "wet.wav"]
    assert "wet, 4.0 s" in run(capsys, "evaluate", "model.safetensors", *argv)


def test_evaluate_a_model_of_another_rate(capsys, folder: Path) -> None:
    save_model(AmpLSTM(4), "model.safetensors", sample_rate=48_000)
    says = "is for 48000 Hz"
    refused(capsys, folder, ["evaluate", "model.safetensors", "--device", "sim-muff"], says)


QUICK = ["--hidden-size", "3", "--epochs", "2", "--preset", "paper"]


def test_train_on_a_device(capsys, folder: Path) -> None:
    out = run(capsys, "train", "--device", "sim-muff", *QUICK, "--out", "runs/a")
    assert "model             runs/a/model.safetensors\n" in out
    model = load_model("runs/a/model.safetensors")
    assert model.settings["data"] == "sim-muff train"
    assert model.settings["preset"] == "paper"
    evaluated = json.loads(
        run(capsys, "evaluate", "runs/a/model.safetensors", "--device", "sim-muff", "--json")
    )
    assert f"test ESR          {100 * evaluated['esr']:.2f} %\n" in out

    argv = ["train", "--device", "sim-muff", *QUICK, "--out", "runs/a"]
    refused(capsys, folder, argv, "holds a run already.*--resume.*--overwrite")
    assert run(capsys, *argv, "--resume") == out  # a finished run stays as it is
    assert run(capsys, *argv, "--overwrite") == out  # the same seed gives the same model
    refused(capsys, folder, [*argv, "--seed", "7", "--resume"], "other settings")


def test_train_on_files(capsys, folder: Path) -> None:
    argv = ["train", "--input", "dry.wav", "--target", "wet.wav", *QUICK]
    out = run(capsys, *argv)
    assert "model             runs/wet-3/model.safetensors\n" in out
    assert "validation ESR" in out
    argv += ["--validation-input", "dry.wav", "--validation-target", "wet.wav"]
    run(capsys, *argv, "--seconds", "1", "--out", "runs/b")
    assert Path("runs/b/model.safetensors").is_file()


def test_train_at_another_rate(capsys, folder: Path) -> None:
    _write("dry.wav", rate=48_000)
    _write("wet.wav", WET, rate=48_000)
    argv = ["train", "--input", "dry.wav", "--target", "wet.wav", *QUICK, "--out", "r"]
    run(capsys, *argv, "--sample-rate", "48000")
    assert load_model("r/model.safetensors").sample_rate == 48_000


def test_too_short_to_split(capsys, folder: Path) -> None:
    _write("dry.wav", DRY[:RATE])
    _write("wet.wav", WET[:RATE])
    argv = ["train", "--input", "dry.wav", "--target", "wet.wav", *QUICK]
    refused(capsys, folder, argv, "too short to split off a validation part")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file-size limit to set.")
@pytest.mark.parametrize(
    "argv",
    [
        ["process", "model.safetensors", "dry.wav", "out.wav"],
        ["process", "model.safetensors", "dry.wav", "out.flac"],
        ["train", "--device", "sim-muff", "--preset", "paper", "--epochs", "1", "--out", "."],
    ],
    ids=["wav", "flac", "train"],
)
def test_a_disk_that_fills_up(capsys, folder: Path, argv: list[str]) -> None:
    """The system refuses to write more than 4 kB: one line, and nothing half-written."""
    import resource

    Path("model.safetensors").replace("../model.safetensors")
    argv = [word.replace("model.safe", "../model.safe") for word in argv]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        before = contents(folder.parent)
        code = main(argv)
        out, err = capsys.readouterr()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code in (1, 2)
    assert out == ""
    assert re.fullmatch(r"tinyamp: error: [^\n]+\n", err), err
    assert contents(folder.parent) == before


def test_an_interrupted_run_goes_on(capsys, folder: Path, monkeypatch) -> None:
    """Ctrl-C after the second of four epochs, then --resume: the model of a run without it."""
    import tinyamp.train as module

    argv = ["train", "--device", "sim-muff", "--hidden-size", "3", "--preset", "paper"]
    argv += ["--epochs", "4"]
    whole = run(capsys, *argv, "--out", "whole")
    save, calls = module.save_checkpoint, []

    def save_then_stop(*args: object) -> None:
        save(*args)
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_checkpoint", save_then_stop)
    assert main([*argv, "--out", "part"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"tinyamp: error: interrupted\. [^\n]*--resume goes on[^\n]*\n", err)
    assert not Path("part/model.safetensors").exists()
    assert run(capsys, *argv, "--out", "part", "--resume") == whole.replace("whole", "part")
    assert len(calls) == 4
    one, other = (load_model(f"{name}/model.safetensors") for name in ("part", "whole"))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert one.settings == other.settings


def test_resume_without_a_checkpoint_starts(capsys, folder: Path) -> None:
    out = run(capsys, "train", "--device", "sim-muff", *QUICK, "--out", "new", "--resume")
    assert out.startswith("There is no checkpoint in new; starting from the beginning.\n")


# The real command, in a process of its own.


def tinyamp(*argv: str, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tinyamp", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def test_the_command_itself(folder: Path) -> None:
    assert tinyamp("--version").stdout == f"tinyamp {__version__}\n"
    before = contents(folder)
    done = tinyamp("process", "model.safetensors", "missing.wav", "out.wav")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "tinyamp: error: There is no file missing.wav; check its name and folder.\n"
    )
    assert contents(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send.")
def test_an_interrupt(folder: Path) -> None:
    """Ctrl-C during training: exit code 130, one line, and a checkpoint to go on from."""
    argv = [sys.executable, "-m", "tinyamp", "train", "--device", "sim-muff", "--out", "run"]
    argv += ["--hidden-size", "3", "--preset", "paper", "--epochs", "1000000"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # A shell that runs the tests in the background has its children ignore Ctrl-C: undo that.
    running = subprocess.Popen(
        argv, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes
    )
    checkpoint = Path("run/checkpoint.safetensors")
    while not checkpoint.exists() and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err == (
        "tinyamp: error: interrupted. The same command with --resume goes on after the last "
        "finished epoch.\n"
    )
    assert checkpoint.is_file()
    assert not list(Path("run").glob(".writing-*"))


def test_output_into_a_closed_pipe(folder: Path) -> None:
    command = f"{sys.executable} -m tinyamp data list | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has another shell.")
@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_stream_that_is_closed(folder: Path, closed: str) -> None:
    command = f"{sys.executable} -m tinyamp data list {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_simulated_devices_can_be_chosen() -> None:
    for device in SIMULATED:
        assert build_parser().parse_args(["train", "--device", device]).device == device
