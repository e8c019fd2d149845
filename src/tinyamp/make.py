"""Make data sets of the simulated devices: the full ones, and the excerpts that ship.

A set is one dry input a split and one target a device. Beside them stands `dataset.json`, which
says how each file was made; a file is made again only when that has changed. Every file appears
whole, so that a run which was stopped goes on with the next one.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm.std import tqdm

from tinyamp import __version__, circuits, guitar
from tinyamp.audio import DataWarning, quantise, read_audio, write_audio
from tinyamp.data import SPLITS
from tinyamp.files import InputError, write_beside

EXCERPT_SECONDS = {"train": 30.0, "validation": 8.0, "test": 8.0}
SHORT_SECONDS = {**guitar.SECONDS, "train": guitar.SHORT_TRAIN_SECONDS}
LEDGER = "dataset.json"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_ledger(root: Path) -> dict[str, dict]:
    """How each file under `root` was made; empty when that is not known."""
    try:
        files = json.loads((root / LEDGER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # what cannot be read cannot be trusted: everything is made again
    return files if isinstance(files, dict) else {}


def _write_ledger(root: Path, files: Mapping[str, dict]) -> None:
    text = json.dumps({"files": dict(sorted(files.items()))}, indent=1) + "\n"
    with write_beside(root / LEDGER) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _current(path: Path, entry: dict | None, recipe: dict) -> bool:
    """Whether `path` is there, made by `recipe`, and not changed since."""
    if not isinstance(entry, dict) or not path.is_file():
        return False
    return entry == {**recipe, "sha256": entry.get("sha256")} and entry["sha256"] == _sha256(path)


def make(
    root: str | Path,
    devices: Iterable[str] | None = None,
    *,
    seconds: Mapping[str, float] = guitar.SECONDS,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Make the input and the targets of `devices` (default: all) under `root`; return what is new.

    `seconds` is the length of each split. Files are 16-bit FLAC at 44.1 kHz; the devices hear the
    input as it stands in its file, so that a pair is exact. What is there and was made the same way
    stays, unless `overwrite`. Raises `InputError` for an unknown device, a folder that cannot be
    written, or when the sets there have another length or seed (unless `overwrite`).
    """
    root = Path(root)
    devices = tuple(circuits.DEVICES if devices is None else devices)
    for device in devices:
        if device not in circuits.DEVICES:
            known = ", ".join(circuits.DEVICES)
            raise InputError(f"There is no simulated device {device!r}; choose from {known}.")
    # Before any work: a netlist that cannot be read is found out now.
    netlists = {d: hashlib.sha256(circuits.netlist(d).encode()).hexdigest() for d in devices}
    ledger = {} if overwrite else _read_ledger(root)
    made: list[Path] = []
    jobs = [(split, device) for split in SPLITS if split in seconds for device in (None, *devices)]
    with tqdm(jobs, unit="file", disable=not progress) as bar:
        for split, device in bar:
            source = root / split / "input.flac"
            path = source if device is None else root / split / f"{device}-target.flac"
            bar.set_description(f"{split}/{path.stem}")
            if device is None:
                recipe = {"tinyamp": __version__, "seed": seed, "seconds": seconds[split]}
            else:
                recipe = {
                    "tinyamp": __version__,
                    "input": ledger[f"{split}/input.flac"]["sha256"],
                    "netlist": netlists[device],
                    **asdict(circuits.DEVICES[device].defaults),
                }
            key = path.relative_to(root).as_posix()
            if _current(path, ledger.get(key), recipe):
                continue
            if device is None:
                _demand_same_set(root, split, ledger.get(key), recipe)
                wave = guitar.split(split, seconds=seconds[split], seed=seed, progress=progress)
                for target in source.parent.glob("*-target.flac"):
                    target.unlink()  # they belong to the input that is about to be replaced
            else:
                wave = circuits.simulate(device, read_audio(source)[0], progress=progress)
            _write(path, wave)
            ledger[key] = {**recipe, "sha256": _sha256(path)}
            _write_ledger(root, ledger)
            made.append(path)
    return made


def _demand_same_set(root: Path, split: str, entry: dict | None, recipe: dict) -> None:
    """Refuse to replace an input of another length or seed: its targets would go with it."""
    if entry and any(entry.get(name) != recipe[name] for name in ("seed", "seconds")):
        raise InputError(
            f"The {split} input in {root} has {entry.get('seconds'):g} s from seed "
            f"{entry.get('seed')}, and {recipe['seconds']:g} s from seed {recipe['seed']} are "
            "asked for; all devices share it. Pass overwrite=True (--overwrite) to replace it and "
            "make the targets anew, or keep the sets apart with TINYAMP_MADE."
        )


def _write(path: Path, wave: np.ndarray) -> None:
    if (peak := float(np.abs(wave).max(initial=0.0))) > 1:
        warnings.warn(
            f"{path.name} goes beyond full scale ({peak:.2f}) and was clipped.",
            DataWarning,
            stacklevel=3,
        )
    write_audio(path, quantise(wave, 16), subtype="PCM_16")
