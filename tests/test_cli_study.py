"""`tinyamp study`: the workflow on a tiny grid, killed and gone on with; what it shows, refuses."""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import test_cli
from common import needs_compiler
from test_cli import refused, run

from tinyamp.claims_devices import sparse_engine
from tinyamp.cli_study import snakemake_command
from tinyamp.compact import pruned_parameter_count
from tinyamp.findings import HOLDS, NOT, PARTLY, findings
from tinyamp.masks import active_weights, masks_of, sparsity
from tinyamp.model import load_model, read_tensors
from tinyamp.study import STUDIES, Row, jobs_of
from tinyamp.study_bench import Workshop
from tinyamp.study_jobs import run_job
from tinyamp.study_record import locked
from tinyamp.study_speed import measure_speed, speed_of

folder = test_cli.folder  # the fixture: excerpts of 1 s, in a data folder of their own
TINY = ["--preset", "tiny"]


def timeless(value: object) -> object:
    """A result without what may differ from run to run: seconds, and commits made meanwhile."""
    if isinstance(value, dict):
        return {name: timeless(v) for name, v in value.items() if name not in ("seconds", "code")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def results_in(folder: Path) -> dict[str, object]:
    """All files under `folder`: results and models as values, .npz as bytes."""
    found: dict[str, object] = {}
    for path in folder.rglob("[!.]*.*"):  # a kill in the middle of a write leaves .writing-*
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            found[name] = timeless(json.loads(path.read_text()))
        elif path.suffix == ".safetensors":  # the order in its header is not fixed
            tensors, metadata = read_tensors(path)
            found[name] = {k: v.numpy().tobytes() for k, v in tensors.items()}, metadata
        else:
            found[name] = path.read_bytes()
    return found


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL to a process and to all that it has started, as when the machine goes away."""
    psutil = pytest.importorskip("psutil")
    whole = [psutil.Process(process.pid)]
    whole += whole[0].children(recursive=True)
    for one in whole:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGKILL)
    process.wait(timeout=60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Workshop:
    """All jobs of the tiny study, run one after the other in this process, without Snakemake."""
    folder = tmp_path_factory.mktemp("study")
    shop = Workshop(STUDIES["tiny"], folder / "results", folder / "runs")
    for job in jobs_of(shop.study):
        run_job(job, shop)
    return shop


def test_a_killed_study_goes_on_to_the_same_results(capsys, tmp_path, whole: Workshop) -> None:
    pytest.importorskip("snakemake")
    part, log = tmp_path / "part", tmp_path / "log"
    words = [*TINY, "--results", str(part), "--runs", str(tmp_path / "runs")]
    command = [sys.executable, "-m", "tinyamp", "study", "run", "-j", "2", *words]
    with log.open("w") as file:
        running = subprocess.Popen(command, stdout=file, stderr=file)
        while not (part / "sim-muff-4-s0/search.json").exists() and running.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 6))  # in whatever job, at whatever moment
        kill_all(running)
        early = sum(1 for _ in part.rglob("*.json"))
        done = subprocess.run(command, stdout=file, stderr=file, check=False)
    assert done.returncode == 0, log.read_text()
    assert early < sum(1 for _ in part.rglob("*.json")), "it was killed too late"
    assert results_in(part) == results_in(whole.results)
    assert f"{len(jobs_of(whole.study))} done" in run(capsys, "study", "status", *words)

    # All is there: nothing runs again, even where all files have new times in the wrong order.
    for path in sorted(part.rglob("*.json"), reverse=True):
        path.touch()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_results_do_not_need_the_runs(capsys, whole: Workshop) -> None:
    """Every published number follows from the weights beside it; checkpoints can be lost."""
    for job in jobs_of(whole.study):
        result = whole.need(job.name)
        place = whole.results / job.row.name
        if job.kind in ("pruned", "matched", "same"):
            stage = whole.stage_model(job.row, result["stage"])
            assert sparsity(masks_of(stage)) == result["sparsity"]
            active = active_weights(masks_of(stage))
            assert result["parameters"] == pruned_parameter_count(active, result["units"])
            assert load_model(place / result["model"]).hidden_size == max(1, result["units"])
    words = [*TINY, "--results", str(whole.results)]
    assert run(capsys, "study", "table", *words).count("->") == 2 * 3
    for file in whole.results.rglob("*.json"):
        assert not re.search(r'"/', file.read_text()), f"{file} has an absolute path"
    published = run(capsys, "study", "publish", *words)
    manifest = json.loads((whole.results / "manifest.json").read_text())
    assert manifest["missing"] == []
    assert published.startswith(f"{len(manifest['files'])} files are listed in ")
    assert "sim-muff-5-s0/pruned.safetensors" in manifest["files"]
    assert (whole.results / "table.csv").read_text().count("\n") == 1 + 2


@needs_compiler
def test_models_are_timed_side_by_side(capsys, whole: Workshop, tmp_path: Path) -> None:
    """Every finished model, and every stage of one search as four engines; the table has both."""
    shop = replace(whole, results=tmp_path / "results")
    shutil.copytree(whole.results, shop.results)
    result = measure_speed(shop, rounds=1, seconds=0.02)
    assert set(result["models"]) == {
        "sim-muff-4-s0/unpruned", "sim-muff-4-s0/pruned",
        "sim-muff-5-s0/unpruned", "sim-muff-5-s0/pruned", "sim-muff-5-s0/matched",
        "sim-muff-5-s0-units/pruned", "sim-muff-5-s0-units/matched",
        "sim-muff-5-s0-units-longer/matched",
    }  # fmt: skip
    for entry in result["models"].values():
        assert entry["compiled"]["rtf"] > 0 and entry["pytorch"]["rtf"] > 0
    assert result["fig_8"]["row"] == "sim-muff-5-s0"
    assert [entry["stage"] for entry in result["fig_8"]["stages"]] == [0, 1, 2]
    for entry in result["fig_8"]["stages"]:
        assert set(entry) == {"stage", "dense", "sparse", "compacted", "both"}
    table = run(capsys, "study", "table", *TINY, "--results", str(shop.results))
    assert table.count("->") == 2 * 4 and "not finished" not in table
    units = run(capsys, "study", "table", "--units", *TINY, "--results", str(shop.results))
    assert units.count("->") == 4 and re.search(r"sim-muff +5 -> +\d +160 -> ", units)
    assert sparse_engine(findings(shop)).verdict in (HOLDS, PARTLY, NOT)
    (shop.results / "sim-muff-4-s0/pruned.safetensors").write_bytes(b"another model")
    assert speed_of(shop, Row("sim-muff", 4), "pruned") is None, "an old timing of another file"
    assert speed_of(shop, Row("sim-muff", 4), "unpruned") is not None


def test_only_one_run_at_a_time(capsys, folder: Path) -> None:
    pytest.importorskip("snakemake")
    with locked(folder / "runs/study/tiny/locks/study.lock"):
        refused(capsys, folder, ["study", "run", *TINY], "is running already")


def test_results_of_other_settings_are_not_replaced(capsys, folder: Path) -> None:
    pytest.importorskip("snakemake")
    place = folder / "old" / "sim-muff-4-s0"
    place.mkdir(parents=True)
    head = {"format": "tinyamp-study", "version": 1, "job": "x", "digest": "other"}
    text = json.dumps({**head, "result": {}, "provenance": {}})
    (place / "search.json").write_text(text)
    words = ["study", "run", *TINY, "--results", "old"]
    refused(capsys, folder, words, "1 results in .*old were made with other settings")
    assert "1 stale" in run(capsys, "study", "status", *TINY, "--results", "old")
    (place / "search.json").write_text("broken")
    refused(capsys, folder, words, "is damaged or no result of a study")


def test_the_plan(capsys, folder: Path) -> None:
    out = run(capsys, "study", "plan", *TINY)
    assert re.search(r"search +4 +0 +1 +0 +\d+ s +\d+ s\n", out)
    assert re.search(r"still to do: .+ on one core, .+ on two\n$", out)
    assert "not there yet" not in out
    out = run(capsys, "study", "plan")
    assert "are not there yet: sim-muff, sim-crunch, sim-lead, sim-metal (tinyamp data make)" in out
    assert test_cli.main(["study", "job", "sim-muff-32-s0/search"]) == 2
    assert "get it with `tinyamp data make --device sim-muff`" in capsys.readouterr().err


def test_status_of_nothing(capsys, folder: Path) -> None:
    out = run(capsys, "study", "status", *TINY)
    assert "sim-muff-4-s0 " in out
    assert out.endswith("16 waiting\n")
    assert len(run(capsys, "study", "status", *TINY, "--all").splitlines()) == 18


def test_unknown_job(capsys, folder: Path) -> None:
    refused(capsys, folder, ["study", "job", "nothing", *TINY], "no job 'nothing'")


def test_the_cluster_gets_its_options() -> None:
    from tinyamp.cli import build_parser

    words = ["study", "run", "--preset", "paper", "-j", "4", "--", "--executor", "slurm"]
    command = snakemake_command(build_parser().parse_args(words))
    assert command[-2:] == ["--executor", "slurm"]
    assert command[command.index("--cores") + 1] == "4"
    assert Path(command[command.index("--snakefile") + 1]).is_file()
