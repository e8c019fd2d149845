"""What the book's page plays: loops, their targets, and every stage of the models, compiled.

`build_assets` writes them into one folder, with a manifest that the page reads first:

    rate, colours, compiled, reason   `reason` says what is missing when `compiled` is false
    loops     id, title, seconds, rms, dry
    devices   id, title, rms, pruned, targets, rendered, stages

`dry`, and `targets` and `rendered` by the loop's id, are sounds, {file, gain}: the file has the
sound times the gain, so that all have one level. The loops are periodic: a target is what the
device plays when the loop has gone round before. `rendered` has the unpruned and the pruned model
as MP3, for browsers that cannot run the models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm.std import tqdm

from tinyamp.audio import SAMPLE_RATE
from tinyamp.circuits import DEVICES
from tinyamp.compiler import model_source
from tinyamp.data import SIMULATED, load_excerpt
from tinyamp.files import InputError, write_beside
from tinyamp.player import COLOURS
from tinyamp.wasm import build_wasm, find_wasm_compiler
from tinyamp.web_sounds import Loop, error_of, flac_file, loops, mp3_file, output_of, rms, target_of
from tinyamp.web_stages import PageDevice, PageStage, describe, page_device, read_manifest

FORMAT, VERSION = "tinyamp-page", 1
MANIFEST = "manifest.json"
# Chromium's compiler makes better code of dense modules, at every stage (Node's, of sparse ones).
LAYOUT = "dense"


def build_assets(
    folder: str | Path, devices: Iterable[str] = SIMULATED, *, progress: bool = False
) -> dict:
    """Write all that the page plays of `devices` into `folder`; return the manifest.

    What was computed before, from the same data by the same code, comes from the cache, so that a
    second run takes seconds. Files that an earlier run left and that nothing needs any more are
    removed; the manifest is written last. Without a compiler for WebAssembly there are no modules,
    and the manifest says why. Raises `InputError` when something that ships is missing or damaged,
    or the folder cannot be written.
    """
    folder = Path(folder)
    before = _files_of(folder)
    found = [page_device(name) for name in devices]
    dry = loops()
    reason = _why_not_compiled()
    with _pages(folder) as write, tqdm(total=_steps(found, dry), disable=not progress) as bar:
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "rate": SAMPLE_RATE,
            "colours": COLOURS,
            "compiled": reason is None,
            "reason": reason,
            "loops": [
                {
                    "id": key,
                    "title": loop.title,
                    "seconds": len(loop.samples) / SAMPLE_RATE,
                    "rms": rms(loop.samples),
                    "dry": write.sound(f"{key}-dry", ".flac", loop.content, loop.gain),
                }
                for key, loop in dry.items()
            ],
            "devices": [_device(write, device, dry, reason is None, bar) for device in found],
        }
        manifest["files"] = sorted(write.names)
        with write_beside(folder / MANIFEST) as temporary:
            text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
            temporary.write_text(text, encoding="utf-8")
    for name in before - {*manifest["files"], MANIFEST}:
        (folder / name).unlink(missing_ok=True)
    return manifest


def _device(
    write: Writer, device: PageDevice, dry: dict[str, Loop], compiled: bool, bar: tqdm
) -> dict[str, object]:
    """The manifest's entry of a device; its files are written."""
    bar.set_description(device.name)
    targets, rendered, levels = {}, {}, []
    pruned = next(stage for stage in device.stages if stage.number == device.pruned)
    for key, loop in dry.items():
        x = loop.samples
        target = target_of(device.name, x)
        levels.append(rms(target))
        targets[key] = write.sound(f"{device.name}-{key}-target", ".flac", *flac_file(target))
        bar.update()
        chosen = {"unpruned": device.stages[0]} | ({"pruned": pruned} if device.pruned else {})
        rendered[key] = {
            name: write.sound(
                f"{device.name}-{key}-{name}", ".mp3", *mp3_file(output_of(stage.model, x))
            )
            for name, stage in chosen.items()
        }
    test = load_excerpt(device.name, "test")

    def finish(stage: PageStage) -> dict[str, object]:
        about = describe(stage)
        about["esr"] = error_of(stage.model, test.input, test.target)
        if compiled:
            module = build_wasm(model_source(stage.model, layout=LAYOUT))
            about["wasm"] = write(f"{device.name}-{stage.number:02d}", ".wasm", module)
            about["bytes"] = len(module)
        bar.update()
        return about

    with ThreadPoolExecutor(2) as pool:  # compilers are processes of their own
        stages = list(pool.map(finish, device.stages))
    return {
        "id": device.name,
        "title": f"{device.name}: {DEVICES[device.name].title}",
        "rms": float(np.mean(levels)),
        "pruned": device.pruned,
        "targets": targets,
        "rendered": rendered,
        "stages": stages,
    }


class Writer:
    """Writes files into a folder, under names that say what is in them, so that no browser keeps
    an old one for a new one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: set[str] = set()

    def __call__(self, stem: str, suffix: str, content: bytes) -> str:
        name = f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}{suffix}"
        path = self.folder / name
        if not path.is_file() or path.read_bytes() != content:
            with write_beside(path) as temporary:
                temporary.write_bytes(content)
        self.names.add(name)
        return name

    def sound(self, stem: str, suffix: str, content: bytes, gain: float) -> dict[str, object]:
        """Write a sound; the manifest's entry of it."""
        return {"file": self(stem, suffix, content), "gain": gain}


@contextmanager
def _pages(folder: Path) -> Iterator[Writer]:
    """A writer; when the block fails before a manifest names them, its new files go again."""
    write = Writer(folder)
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    try:
        yield write
    except BaseException:
        for name in write.names - there:
            (folder / name).unlink(missing_ok=True)
        raise


def _files_of(folder: Path) -> set[str]:
    """The files that the manifest in a folder names; none if there is no manifest to read."""
    try:
        return {name for name in read_manifest(folder)["files"] if Path(name).name == name}
    except (InputError, KeyError, TypeError):
        return set()


def _steps(devices: list[PageDevice], dry: dict[str, Loop]) -> int:
    return sum(len(device.stages) + len(dry) for device in devices)


def _why_not_compiled() -> str | None:
    try:
        find_wasm_compiler()
    except InputError as error:
        return str(error)
    return None
