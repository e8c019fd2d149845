"""`tinyamp search` and `tinyamp retrain`: they work, they go on after a kill, they refuse."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import test_cli
import torch
from test_cli import refused, run

from tinyamp import cli_retrain, cli_search, cli_train, masks, stages
from tinyamp.cli import build_parser, main
from tinyamp.collapse import reaches_output
from tinyamp.compact import effective_hidden_size, pruned_parameter_count
from tinyamp.data import load
from tinyamp.files import InputError
from tinyamp.losses import esr
from tinyamp.masks import active_weights, apply_masks, full_masks, prune, sparsity
from tinyamp.model import AmpLSTM, load_model, parameter_count, process, save_model
from tinyamp.stages import SEARCH_PRESETS, SearchResult, Stage, load_search, save_search

folder = test_cli.folder  # the fixture: a model, a pair of files, and excerpts of 1 s

SEARCH = ["search", "--device", "sim-muff"]
QUICK = ["--hidden-size", "3", "--preset", "paper", "--iterations", "2", "--seconds", "0.6"]
QUICK += ["--queue", "2", "--max-epochs", "3"]
TINY = [*QUICK, "--epochs", "2"]
RETRAIN = ["--preset", "paper", "--epochs", "2"]
LOSSES = (0.02, 0.01, 0.03, 0.04, 0.4)  # stage 3 is the last good one, 2 is recommended
COLLAPSE = "Layer collapse in iteration 5: nothing is left."


def made_result(*, data: str = "sim-muff train", rate: int = 44_100, **changes) -> SearchResult:
    """The result of a search that nobody has run: stages of a random model, pruned by half."""
    settings = replace(SEARCH_PRESETS["laptop"], iterations=len(LOSSES) - 1, fraction=0.5)
    result = SearchResult(settings, rate, data, **changes)
    model = AmpLSTM(5, seed=3, sample_rate=rate)
    now = full_masks(model)
    for number, loss in enumerate(LOSSES):
        result.stages.append(
            Stage(
                number,
                active_weights(now),
                sparsity(now),
                effective_hidden_size(model),
                epochs=6,
                distances=(0.2, 0.01),
                train_losses=(0.3, 0.2),
                loss_start=2 * loss,
                loss_stop=loss,
                capped=number == 3,
                seconds=1.0,
            )
        )
        result.weights.append({k: v.clone() for k, v in model.state_dict().items()})
        now = prune(model, now, 0.5)
        apply_masks(model, now)
    return result


@pytest.fixture
def found(folder: Path) -> SearchResult:
    """A search in the folder `found`."""
    result = made_result()
    Path("found").mkdir()
    save_search(result, "found")
    return result


def same_search(one: str, other: str) -> None:
    """The same models, bit for bit, and the same findings but for the time they took.

    Not byte for byte: safetensors writes the header in any order.
    """
    files = [sorted(Path(folder).glob("stage-*")) for folder in (one, other)]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    for pair in zip(*files, strict=True):
        models = [load_model(file) for file in pair]
        assert models[0].settings == models[1].settings
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert torch.equal(a, b)
    about = [json.loads(Path(folder, "search.json").read_text()) for folder in (one, other)]
    for stage in (stage for found in about for stage in found["stages"]):
        del stage["seconds"]
    assert about[0] == about[1]


# What the command line knows without loading PyTorch.


def test_names_are_those_of_the_library(folder: Path) -> None:
    assert cli_search.REWINDS == stages.REWINDS
    assert cli_search.SCORES == masks.SCORES
    save_search(made_result(), folder)
    written = {path.name for path in cli_train.run_files(folder)} - {"model.safetensors"}
    assert written == {stages.RESULT, *(stages.stage_file(folder, n).name for n in range(5))}


@pytest.mark.parametrize("command", ["search", "retrain"])
def test_help_teaches(capsys, command: str) -> None:
    text = run(capsys, command, "--help")
    assert {"search": "six minutes", "retrain": "removed first"}[command] in text
    for word in ("--resume", "--overwrite", "--preset", "--quiet", "--processor", "--device"):
        assert word in text


# What the options ask for.


OPTIONS = {
    "iterations": (["--iterations", "7"], {"iterations": 7}),
    "fraction": (["--fraction", "0.25"], {"fraction": 0.25}),
    "epsilon": (["--epsilon", "0.05"], {"epsilon": 0.05}),
    "queue": (["--queue", "3"], {"k": 3}),
    "rewind": (["--rewind", "weights"], {"rewind": "weights"}),
    "output": (["--include-output"], {"include_output": True}),
    "score": (["--score", "random"], {"score": "random"}),
    "units": (["--score", "unit"], {"score": "unit", "course": {"weight_decay": 0.0}}),
    "decay": (["--weight-decay", "3e-5"], {"course": {"weight_decay": 3e-5}}),
    "none": (["--weight-decay", "0"], {"course": {"weight_decay": 0.0}}),
    "early bird": (["--early-bird"], {"variant": "early-bird"}),
    "model": (["--model", "model.safetensors"], {"variant": "trained"}),
    "epochs": (["--epochs", "9"], {"full": {"epochs": 9}}),
    "max epochs": (["--max-epochs", "8"], {"course": {"epochs": 8}}),
    "seed": (["--seed", "4"], {"full": {"seed": 4}, "course": {"seed": 4}}),
}


@pytest.mark.parametrize("preset", ["laptop", "paper"])
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_changes_its_setting_and_no_other(option: str, preset: str) -> None:
    words, changes = OPTIONS[option]
    before = SEARCH_PRESETS[preset]
    changes = {
        name: replace(getattr(before, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    args = build_parser().parse_args([*SEARCH, "--preset", preset, *words])
    assert cli_search.search_settings(args) == replace(before, **changes)


def test_without_options_the_preset_is_searched(capsys, folder: Path, monkeypatch) -> None:
    asked = {}

    def search(model: AmpLSTM, train_set, validation_set, settings, **options: object) -> None:
        asked.update(model=model, sets=(train_set, validation_set), settings=settings, **options)
        raise InputError("Seen.")

    monkeypatch.setattr("tinyamp.search.search", search)
    assert main([*SEARCH, "--processor", "cpu"]) == 2
    assert asked["settings"] == SEARCH_PRESETS["laptop"]
    assert asked["model"].hidden_size == 32
    assert [part.name for part in asked["sets"]] == ["sim-muff train", "sim-muff validation"]
    assert (asked["folder"], asked["resume"]) == (Path("runs/sim-muff-32-search"), False)
    assert (asked["progress"], asked["device"]) == (False, "cpu")

    words = ["--seconds", "0.7", "--seed", "5", "--hidden-size", "6", "--out", "o", "--resume"]
    assert main([*SEARCH, *words]) == 2
    assert torch.equal(asked["model"].head.weight, AmpLSTM(6, seed=5).head.weight)
    assert asked["sets"][0].seconds == pytest.approx(0.7)
    assert (asked["folder"], asked["resume"]) == (Path("o"), True)

    save_model(AmpLSTM(4, seed=1).double(), "double.safetensors", sample_rate=48_000)
    for name in ("dry.wav", "wet.wav"):
        test_cli._write(name, test_cli.DRY if name == "dry.wav" else test_cli.WET, rate=48_000)
    words = ["--input", "dry.wav", "--target", "wet.wav", "--model", "double.safetensors"]
    assert main(["search", *words]) == 2
    assert asked["model"].sample_rate == 48_000
    assert asked["folder"] == Path("runs/wet-4-search")
    expected = load_model("double.safetensors").float().state_dict()
    for name, value in asked["model"].state_dict().items():
        assert torch.equal(value, expected[name])


# The search itself.


def search_lines(out: str) -> list[list[str]]:
    """The rows of the table in the output, as words."""
    return [line.split() for line in out.splitlines() if re.match(r" +\d+ +\d+\.\d\d % ", line)]


def test_a_search_and_the_command_that_follows(capsys, folder: Path) -> None:
    out = run(capsys, *SEARCH, *TINY, "--seconds", "0.8", "--out", "my runs/s")
    result = load_search("my runs/s")
    assert result.data == "sim-muff train"
    rows = search_lines(out)
    assert [int(row[0]) for row in rows] == [0, 1, 2]
    for row, stage in zip(rows, result.stages, strict=True):
        assert float(row[1]) == pytest.approx(100 * stage.sparsity, abs=0.006)
        assert [int(word) for word in row[3:6]] == [stage.active, stage.units, stage.epochs]
        assert float(row[6]) == pytest.approx(stage.loss_stop, abs=6e-6)
    number = stages.recommend(result).number
    assert [int(row[0]) for row in rows if "<-" in row] == [number]
    assert f"Recommended is stage {number}," in out
    command = out.splitlines()[-1].strip()
    assert command == "tinyamp retrain 'my runs/s' --device sim-muff --seconds 0.8 --preset paper"
    out = run(capsys, *shlex.split(command)[1:], "--epochs", "1")
    assert f"model             my runs/s/retrained-{number:02d}/model.safetensors\n" in out

    refused(capsys, folder, [*SEARCH, *TINY, "--out", "my runs/s"], "holds a run already.*--resume")
    shutil.copytree("my runs/s", "before")
    words = [*SEARCH, *TINY, "--seconds", "0.8", "--out", "my runs/s"]
    assert search_lines(run(capsys, *words, "--resume")) == rows  # nothing is left to do
    same_search("my runs/s", "before")
    assert search_lines(run(capsys, *words, "--overwrite")) == rows
    refused(capsys, folder, [*words, "--seed", "8", "--resume"], "other settings")


def test_a_search_on_files_hands_its_options_on(capsys, folder: Path) -> None:
    words = ["--input", "dry.wav", "--target", "wet.wav", "--channel", "0", "--trim", "--resample"]
    words += ["--fix-alignment", "--validation-input", "dry.wav", "--validation-target", "wet.wav"]
    words += ["--seconds", "1", "--out", "s"]
    out = run(capsys, "search", *QUICK, *words, "--early-bird")
    command = shlex.split(out.splitlines()[-1])
    ours = vars(build_parser().parse_args(["search", *words, "--preset", "paper"]))
    theirs = vars(build_parser().parse_args(command[1:]))
    for name in (*cli_search.SOURCE.split(), "preset"):
        assert theirs[name] == ours[name], name
    refused(capsys, folder, ["retrain", "s"], "was on wet, which is no device.*--input FILE")
    out = run(capsys, *command[1:], "--epochs", "1")
    assert "validation ESR" in out
    assert "test" not in out


def test_a_trained_model_is_where_the_search_starts(capsys, folder: Path) -> None:
    words = ["--model", "model.safetensors", *QUICK[2:], "--iterations", "1"]
    out = run(capsys, *SEARCH, *words, "--queue", "1", "--max-epochs", "1")
    [first, _] = search_lines(out)
    assert first[5] == "0"  # epochs
    weights = load_model("runs/sim-muff-4-search/stage-00.safetensors").state_dict()
    for name, value in load_model("model.safetensors").state_dict().items():
        assert torch.equal(weights[name], value)


def test_a_pruned_model_is_searched_with_a_warning(capsys, folder: Path) -> None:
    model = AmpLSTM(4, seed=1)
    apply_masks(model, prune(model, full_masks(model), 0.5))
    save_model(model, "model.safetensors")
    words = ["--model", "model.safetensors", *QUICK[2:], "--iterations", "1"]
    assert main([*SEARCH, *words, "--queue", "1", "--max-epochs", "1"]) == 0
    assert "has been pruned already (50.0 % of" in capsys.readouterr().err


def test_a_collapse_is_a_warning(capsys, folder: Path) -> None:
    """Nine of ten weights go, twice: one of 51 is left, and one cannot lead from x to y."""
    words = [*TINY, "--include-output", "--fraction", "0.9"]
    assert main([*SEARCH, *words, "--iterations", "9", "--out", "s"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"tinyamp: warning: Layer collapse in iteration [12]: [^\n]+\n", err)
    result = load_search("s")
    assert 1 <= len(search_lines(out)) == len(result.stages) <= 2
    assert all(reaches_output(result.model(stage.number)) for stage in result.stages)


def test_a_limit_that_binds_is_reported(capsys, folder: Path) -> None:
    words = [*SEARCH, *TINY[:-2], "--epochs", "1", "--max-epochs", "1", "--queue", "2"]
    out = run(capsys, *words, "--out", "s")
    assert [row[7] for row in search_lines(out)[1:]] == ["*", "*"]
    assert "*" not in search_lines(out)[0]
    assert " *  2 of 3 stages were stopped by the limit of 1 epochs" in out
    assert "a mask needs at least 2 (--queue)" in out


def test_table_and_advice() -> None:
    result = made_result()
    lines = cli_search.table(result)
    assert [n for n, line in enumerate(lines[1:]) if line.endswith("<-")] == [2]
    assert [n for n, line in enumerate(lines[1:]) if line.endswith(" *")] == [3]
    limit, advice = cli_search.advice(result)
    assert "1 of 5 stages" in limit and "try more --max-epochs" in limit
    assert (
        f"stage 2, a little before the loss at stop is first above {stages.TOLERANCE:g} times"
        in advice
    )
    result.stages = result.stages[:2]
    again = replace(result, stages=[*result.stages[:-1], replace(result.stages[-1], attempts=2)])
    assert "in stage 1 (2 attempts)." in cli_search.advice(again)[-2]
    [advice] = cli_search.advice(result)
    assert "stage 1, the last of all: its loss at stop is not above" in advice


# A search that is stopped goes on.


@pytest.mark.parametrize(
    ("place", "calls"),
    [("train.save_checkpoint", 1), ("search.save_progress", 2), ("search.save_search", 1),
     ("search.save_progress", 4)],
)  # fmt: skip
def test_an_interrupted_search_goes_on(capsys, folder, monkeypatch, place, calls: int) -> None:
    """Ctrl-C right after something was saved, then --resume: as if nothing had been."""
    words = [*SEARCH, *TINY, "--max-epochs", "2", "--epsilon", "1"]
    whole = run(capsys, *words, "--out", "whole")
    module, name = (f"tinyamp.{place}").rsplit(".", 1)
    save, done = getattr(sys.modules[module], name), []

    def save_then_stop(*args: object, **options: object) -> None:
        save(*args, **options)
        done.append(args)
        if len(done) == calls:
            raise KeyboardInterrupt

    monkeypatch.setattr(f"{module}.{name}", save_then_stop)
    assert main([*words, "--out", "part"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"tinyamp: error: interrupted\. [^\n]*--resume goes on[^\n]*\n", err)
    refused(capsys, folder, [*words, "--out", "part"], "holds a run already")
    assert run(capsys, *words, "--out", "part", "--resume") == whole.replace("whole", "part")
    same_search("part", "whole")


def test_a_killed_search_goes_on(capsys, folder: Path) -> None:
    words = [*SEARCH, *TINY[:-2], "--early-bird", "--iterations", "4", "--fraction", "0.2"]
    whole = run(capsys, *words, "--out", "whole")
    command = [sys.executable, "-m", "tinyamp", *words, "--out", "part"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not Path("part/stage-01.safetensors").exists() and running.poll() is None:
        time.sleep(0.002)
    running.kill()
    assert running.wait(timeout=60) in (-getattr(signal, "SIGKILL", 9), 0, 1)
    assert run(capsys, *words, "--out", "part", "--resume") == whole.replace("whole", "part")
    same_search("part", "whole")


def test_resume_without_a_checkpoint(capsys, folder: Path, found: SearchResult) -> None:
    """What cannot be gone on with is not written over; an empty folder is a beginning."""
    words = [*SEARCH, *TINY, "--resume"]
    refused(capsys, folder, [*words, "--out", "found"], "without a checkpoint to go on from")
    out = run(capsys, *words, "--out", "new")
    assert out.startswith("There is no checkpoint in new; starting from the beginning.\n")


# Retraining.


def test_retrain_takes_the_recommended_stage(capsys, folder: Path, found: SearchResult) -> None:
    out = run(capsys, "retrain", "found", *RETRAIN)
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines())
    stage = found.stages[2]
    assert lines["stage"] == "2 (recommended)"
    assert lines["trained on"] == "sim-muff train, 1.0 s"
    assert lines["model"] == "found/retrained-02/model.safetensors"
    model = load_model(lines["model"])
    assert lines["sparsity"] == f"{100 * stage.sparsity:.2f} %"
    assert lines["weights left"] == str(stage.active)
    assert lines["hidden size"] == f"5 -> {stage.units}"
    assert model.hidden_size == max(1, stage.units)
    after = pruned_parameter_count(stage.active, stage.units)
    assert lines["parameters"].startswith(f"{parameter_count(5)} -> {after} ")
    test = load("sim-muff", "test")
    for line, other in (("test ESR", model), ("unpruned", found.model(0))):
        ratio = esr(test.target, process(other, test.input))
        assert lines[line].startswith(f"{100 * ratio:.2f} %"), line
    assert model.settings["stage"] == 2
    assert model.settings["preset"] == "paper"
    assert model.settings["train"]["epochs"] == 2
    assert model.settings["data"] == "sim-muff train"
    Path("again").mkdir()
    save_search(found, "again")
    same_search("found", "again")  # the search is as it was

    refused(capsys, folder, ["retrain", "found", *RETRAIN], "found/retrained-02 holds a run alr")
    assert run(capsys, "retrain", "found", *RETRAIN, "--resume") == out
    assert run(capsys, "retrain", "found", *RETRAIN, "--overwrite") == out


def test_retrain_another_stage_at_full_size(capsys, folder: Path, found: SearchResult) -> None:
    words = ["retrain", "found", *RETRAIN, "--stage", "4"]
    units = found.stages[4].units
    assert units < 5
    small = run(capsys, *words, "--out", "small")
    large = run(capsys, *words, "--out", "large", "--full-size")
    assert "stage             4\n" in small
    assert f"hidden size       5 -> {units}\n" in small
    assert f"hidden size       5 -> 5, {units} of them alive\n" in large
    model = load_model("large/model.safetensors")
    assert model.hidden_size == 5
    for name in masks.POOL:  # what is pruned stays pruned
        kept = found.weights[4][name] != 0
        assert torch.equal(model.get_parameter(name).detach() != 0, kept)
    counts = [re.search(r"parameters +(.*)", out)[1] for out in (small, large)]
    assert counts[0] == counts[1]


def test_retrain_in_one_shot_is_as_sparse(capsys, folder: Path, found: SearchResult) -> None:
    out = run(capsys, "retrain", "found", *RETRAIN, "--stage", "3", "--one-shot", "--full-size")
    assert "stage             3, pruned in one shot\n" in out
    assert f"weights left      {found.stages[3].active}\n" in out
    model = load_model("found/one-shot-03/model.safetensors")
    assert model.settings["one_shot"]
    assert model.settings["sparsity"] == found.stages[3].sparsity
    active = [model.get_parameter(name).detach() != 0 for name in masks.POOL]
    assert sum(int(a.sum()) for a in active) == found.stages[3].active
    # The smallest weights of the unpruned stage went, whatever the search has pruned.
    before = [found.weights[0][name].abs() for name in masks.POOL]
    gone = max(float(b[~a].max()) for a, b in zip(active, before, strict=True) if not a.all())
    assert all(float(b[a].min()) >= gone for a, b in zip(active, before, strict=True) if a.any())


def test_retrain_options_reach_the_training(capsys, folder, found, monkeypatch) -> None:
    asked = {}

    def retrain(model: AmpLSTM, train_set, validation_set, settings, **options: object) -> None:
        asked.update(sets=(train_set, validation_set), settings=settings, **options)
        raise InputError("Seen.")

    monkeypatch.setattr("tinyamp.retrain.retrain", retrain)
    words = ["--seed", "6", "--epochs", "7", "--seconds", "0.8", "--full-size", "--out", "o"]
    assert main(["retrain", "found", *words, "--resume", "--processor", "cpu"]) == 2
    assert asked["settings"] == replace(SEARCH_PRESETS["laptop"].full, seed=6, epochs=7)
    assert asked["sets"][0].seconds == pytest.approx(0.8)
    assert (asked["folder"], asked["resume"], asked["device"]) == (Path("o"), True, "cpu")
    assert asked["compacted"] is False


def test_an_interrupted_retraining_goes_on(capsys, folder: Path, found, monkeypatch) -> None:
    import tinyamp.train as module

    words = ["retrain", "found", *RETRAIN]
    whole = run(capsys, *words, "--out", "whole")
    save = module.save_checkpoint

    def save_then_stop(*args: object, **options: object) -> None:
        save(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_checkpoint", save_then_stop)
        assert main([*words, "--out", "part"]) == 130
    assert re.fullmatch(
        r"tinyamp: error: interrupted\. [^\n]*--resume goes on[^\n]*\n", capsys.readouterr().err
    )
    assert not Path("part/model.safetensors").exists()
    assert run(capsys, *words, "--out", "part", "--resume") == whole.replace("whole", "part")


def test_retrain_on_another_device_or_half_a_search_warns(capsys, folder: Path) -> None:
    words = ["retrain", "s", *RETRAIN, "--device", "sim-muff", "--seconds", "0.6"]
    Path("s").mkdir()
    save_search(made_result(data="sim-metal train"), "s")
    assert main(words) == 0
    assert "was on sim-metal train, not on sim-muff" in capsys.readouterr().err
    half = made_result(collapse=None)
    half.stages = half.stages[:3]
    save_search(half, "s")
    assert main([*words, "--overwrite"]) == 0
    assert "has not come to its end; the stage is the best of the 3 of 5" in capsys.readouterr().err
    half.collapse = COLLAPSE  # then it has
    save_search(half, "s")
    run(capsys, *words, "--overwrite")


def test_retrain_at_the_rate_of_the_search(capsys, folder: Path) -> None:
    Path("s").mkdir()
    save_search(made_result(data="wet", rate=48_000), "s")
    words = ["retrain", "s", *RETRAIN]
    refused(capsys, folder, [*words, "--device", "sim-muff"], "the model is for 48000 Hz")
    words += ["--input", "dry.wav", "--target", "wet.wav"]
    refused(capsys, folder, words, "44100 Hz.*--resample")
    for name, x in (("dry.wav", test_cli.DRY), ("wet.wav", test_cli.WET)):
        test_cli._write(name, x, rate=48_000)
    run(capsys, *words)
    assert load_model("s/retrained-02/model.safetensors").sample_rate == 48_000


# What is refused, before any work and with nothing changed.


def _damage() -> None:
    Path("found/search.json").write_text("{}")


def _lose_a_stage() -> None:
    Path("found/stage-03.safetensors").unlink()


MODEL = [*SEARCH, "--model", "model.safetensors"]
REFUSED = {
    "no source": (["search"], "Say what to use"),
    "two sources": ([*SEARCH, "--input", "dry.wav"], "not both"),
    "fraction": ([*SEARCH, "--fraction", "1.5"], "fraction must be between 0 and 1"),
    "no fraction": ([*SEARCH, "--fraction", "nan"], "fraction must be between 0 and 1"),
    "fraction in words": ([*SEARCH, "--fraction", "half"], "--fraction: .*'half'"),
    "epsilon": ([*SEARCH, "--epsilon", "0"], "epsilon must be above 0"),
    "iterations": ([*SEARCH, "--iterations", "0"], "1 or more"),
    "queue": ([*SEARCH, "--queue", "0"], "1 or more"),
    "max epochs": ([*SEARCH, "--max-epochs", "0"], "1 or more"),
    "rewind": ([*SEARCH, "--rewind", "all"], "invalid choice: 'all'"),
    "both ways": ([*SEARCH, "--resume", "--overwrite"], "not allowed with"),
    "two variants": ([*MODEL, "--early-bird"], "not allowed with"),
    "weights of a trained model": ([*MODEL, "--rewind", "weights"], "omit one of the two"),
    "epochs of a trained model": ([*MODEL, "--epochs", "3"], "--model and --early-bird omit"),
    "epochs of an early bird": ([*SEARCH, "--early-bird", "--epochs", "3"], "--max-epochs limits"),
    "another size": ([*MODEL, "--hidden-size", "5"], "--hidden-size 4, not 5"),
    "another rate": ([*MODEL, "--sample-rate", "48000"], "--sample-rate 44100, not 48000"),
    "rate for a device": ([*SEARCH, "--sample-rate", "48000"], "44100 Hz"),
    "huge": ([*SEARCH, "--hidden-size", "9999"], "from 1 to 4096"),
    "no model": ([*SEARCH, "--model", "no.safetensors"], "There is no model file"),
    "no model at all": ([*SEARCH, "--model", "dry.wav"], "cannot be read"),
    "few seconds": ([*SEARCH, "--seconds", "0.2"], "at least one segment"),
    "a set that is not there": (["search", "--device", "sim-lead"], "data make"),
    "a file as folder": ([*SEARCH, "--out", "dry.wav"], "is a file"),
    "folder of the model": ([*MODEL, "--out", ".", "--overwrite"], "holds model.safetensors, whi"),
    "somebody's model": ([*SEARCH, "--out", "."], "holds a run already"),
    "somebody's search": ([*SEARCH, "--out", "found"], "holds a run already"),
    "to train over a search": (["train", "--device", "sim-muff", "--out", "found"], "a run alre"),
    "no folder": (["retrain"], "required: folder"),
    "a folder that is not there": (["retrain", "nowhere"], "There is no search.json in nowhere"),
    "no search": (["retrain", "."], "There is no search.json in .*folder of a mask search"),
    "a file": (["retrain", "dry.wav"], "There is no search.json"),
    "stage": (["retrain", "found", "--stage", "5"], "There is no stage 5.* 0 to 4"),
    "negative stage": (["retrain", "found", "--stage", "-1"], "--stage"),
    "half a pair": (["retrain", "found", "--input", "dry.wav"], "Say what to use"),
    "short retraining": (["retrain", "found", "--seconds", "0.2"], "at least one segment"),
    "retrain in the search": (["retrain", "found", "--out", "found", "--overwrite"], "is read he"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(capsys, folder: Path, found: SearchResult, case: str) -> None:
    argv, says = REFUSED[case]
    refused(capsys, folder, argv, says)


@pytest.mark.parametrize(
    ("damage", "says"),
    [(_damage, "found/search.json is damaged"), (_lose_a_stage, "no model file .*stage-03")],
)
def test_a_damaged_search(capsys, folder: Path, found: SearchResult, damage, says: str) -> None:
    damage()
    refused(capsys, folder, ["retrain", "found"], says)


def test_overwrite_keeps_the_old_search_when_the_new_one_is_refused(capsys, folder, found) -> None:
    words = [*SEARCH, "--out", "found", "--overwrite"]
    refused(capsys, folder, [*words, "--seconds", "0.2"], "at least one segment")
    refused(capsys, folder, [*words, "--fraction", "2"], "between 0 and 1")
    if not torch.cuda.is_available():
        refused(capsys, folder, [*words, "--processor", "cuda"], "'cuda' cannot be used here")


def test_overwrite_leaves_nothing_of_the_old_search(capsys, folder: Path, found) -> None:
    Path("found/mine.txt").write_text("not the search's")
    run(capsys, *SEARCH, *TINY, "--out", "found", "--overwrite")
    assert not Path("found/stage-03.safetensors").exists()
    assert len(load_search("found").stages) == 3
    assert Path("found/mine.txt").is_file()


def test_a_model_with_two_inputs(capsys, folder: Path) -> None:
    save_model(AmpLSTM(4, input_size=2), "model.safetensors")
    refused(capsys, folder, MODEL, "has 2 inputs; only one can be searched")


@pytest.mark.parametrize(
    ("module", "argv"), [("search", SEARCH), ("retrain", ["retrain", "found"])]
)
def test_a_search_that_diverges(capsys, folder, found, monkeypatch, module, argv) -> None:
    from tinyamp.train import DivergedError

    def fail(*_: object, **__: object) -> None:
        raise DivergedError("The search stopped in epoch 3 of stage 2: the loss became nan.")

    monkeypatch.setattr(f"tinyamp.{module}.{module}", fail)
    refused(capsys, folder, argv, "stopped in epoch 3", 1)


def test_a_default_source_is_a_device_only(folder: Path) -> None:
    for data in ("", "wet", "sim-muff", "train", "my sim-muff train"):
        args = build_parser().parse_args(["retrain", "found"])
        with pytest.raises(InputError, match="no device"):
            cli_retrain._default_source(args, data)
    cli_retrain._default_source(args, "ht1 train")
    assert args.device == "ht1"
