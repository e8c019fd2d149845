"""Data sets are made exactly, file by file, and only what is not there yet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tinyamp import circuits, guitar
from tinyamp.audio import DataWarning, quantise, read_audio
from tinyamp.data import SPLITS
from tinyamp.files import InputError, data_folder
from tinyamp.make import EXCERPT_SECONDS, LEDGER, SHORT_SECONDS, make

SECONDS = {"train": 1.0, "test": 0.6}
PLAY, SIMULATE = guitar.split, circuits.simulate


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> list[str]:
    """Stand-ins for the guitar and the circuits; returns a log of what they were asked for."""
    log: list[str] = []

    def split(name: str, *, seconds: float, seed: int, progress: bool) -> np.ndarray:
        log.append(name)
        rng = np.random.default_rng([seed, len(name)])
        return rng.uniform(-0.5, 0.5, round(seconds * 44_100)).astype(np.float32)

    def simulate(device: str, x: np.ndarray, *, progress: bool) -> np.ndarray:
        log.append(device)
        return -0.9 * x

    monkeypatch.setattr(guitar, "split", split)
    monkeypatch.setattr(circuits, "simulate", simulate)
    return log


def run(root: Path, devices=("sim-muff",), **options) -> list[str]:
    options = {"seconds": SECONDS, "progress": False, **options}
    return [p.relative_to(root).as_posix() for p in make(root, devices, **options)]


MUFF = [
    "train/input.flac",
    "train/sim-muff-target.flac",
    "test/input.flac",
    "test/sim-muff-target.flac",
]


def test_a_pair_is_exact(tmp_path: Path) -> None:
    assert run(tmp_path) == MUFF
    x, y = (read_audio(tmp_path / name)[0] for name in MUFF[:2])
    assert len(x) == 44_100
    np.testing.assert_array_equal(y, quantise(-0.9 * x))


def test_what_is_there_stays(tmp_path: Path, quick: list[str]) -> None:
    run(tmp_path)
    quick.clear()
    assert run(tmp_path) == []
    assert quick == []
    assert run(tmp_path, ["sim-muff", "sim-lead"]) == [
        "train/sim-lead-target.flac",
        "test/sim-lead-target.flac",
    ]
    assert run(tmp_path, overwrite=True) == MUFF


def test_a_changed_or_lost_file_is_made_again(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / MUFF[1]).write_bytes(b"damaged")
    (tmp_path / MUFF[3]).unlink()
    assert run(tmp_path) == [MUFF[1], MUFF[3]]
    (tmp_path / LEDGER).write_text("not JSON")
    assert run(tmp_path) == MUFF
    (tmp_path / LEDGER).unlink()
    assert run(tmp_path) == MUFF


def test_another_input_takes_all_targets_with_it(tmp_path: Path, monkeypatch) -> None:
    """A target of an input that is gone would be silently wrong; so would losing it unasked."""
    run(tmp_path, ["sim-muff", "sim-lead"])
    before = sorted(tmp_path.rglob("*"))
    for other in ({"seed": 1}, {"seconds": {"train": 0.7, "test": 0.5}}):
        with pytest.raises(InputError, match=r"--overwrite"):
            run(tmp_path, **other)
    assert sorted(tmp_path.rglob("*")) == before
    assert run(tmp_path, seed=1, overwrite=True) == MUFF
    assert not list(tmp_path.rglob("sim-lead*"))
    ledger = json.loads((tmp_path / LEDGER).read_text())["files"]
    assert ledger["train/input.flac"]["seed"] == 1


def test_other_knobs_make_other_targets(tmp_path: Path, monkeypatch) -> None:
    run(tmp_path)
    entry = json.loads((tmp_path / LEDGER).read_text())["files"]["train/sim-muff-target.flac"]
    knobs = circuits.DEVICES["sim-muff"].defaults
    assert (entry["gain"], entry["tone"], entry["volume"]) == (knobs.gain, knobs.tone, knobs.volume)
    text = circuits.netlist
    monkeypatch.setattr(circuits, "netlist", lambda device: text(device) + "* changed\n")
    assert run(tmp_path) == [MUFF[1], MUFF[3]]


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch, quick: list[str]) -> None:
    whole = circuits.simulate

    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(circuits, "simulate", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == [LEDGER, "train/input.flac"]
    monkeypatch.setattr(circuits, "simulate", whole)
    assert run(tmp_path) == MUFF[1:]
    assert quick.count("train") == 1


def test_clipping_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(circuits, "simulate", lambda device, x, *, progress: 4 * x)
    with pytest.warns(DataWarning, match=r"beyond full scale \(2\.00\)"):
        run(tmp_path, seconds={"test": 1.0})


def test_unknown_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no simulated device 'ht1'"):
        run(tmp_path, ["ht1"])
    assert not list(tmp_path.iterdir())


def test_lengths() -> None:
    assert SHORT_SECONDS == {"train": 163.0, "validation": 84.0, "test": 64.0}
    assert guitar.SECONDS["train"] == 342.0
    assert tuple(EXCERPT_SECONDS) == SPLITS


def test_shipped_excerpts() -> None:
    """Every device and split is there, as the ledger says, and small enough to ship."""
    root = data_folder() / "excerpts"
    ledger = json.loads((root / LEDGER).read_text())["files"]
    size = 0
    for split in SPLITS:
        x, _ = read_audio(root / split / "input.flac")
        assert len(x) == EXCERPT_SECONDS[split] * 44_100
        for device in circuits.DEVICES:
            path = root / split / f"{device}-target.flac"
            assert len(read_audio(path)[0]) == len(x)
            entry = ledger[f"{split}/{path.name}"]
            assert entry["input"] == ledger[f"{split}/input.flac"]["sha256"]
    for name in ledger:
        size += (root / name).stat().st_size
    assert size <= 12e6


def test_shipped_excerpts_are_of_today() -> None:
    """When this fails, guitar or circuits have changed: run `tinyamp data excerpts --overwrite`."""
    folder = data_folder() / "excerpts" / "test"
    x, _ = read_audio(folder / "input.flac")
    np.testing.assert_allclose(x, PLAY("test", seconds=EXCERPT_SECONDS["test"]), atol=1e-3)
    heard = 44_100
    for device in circuits.DEVICES:
        y, _ = read_audio(folder / f"{device}-target.flac")
        again = SIMULATE(device, x[: heard + 4410])[:heard]
        np.testing.assert_allclose(y[:heard], again, atol=1e-3, err_msg=device)
