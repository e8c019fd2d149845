"""Which models the page can play: for each device the unpruned one and what pruning left of it.

They come from what ships. Best are the stages of the study that were retrained in full; where most
of those are missing, the stages of the searches that the chapters use; else the unpruned model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tinyamp.compact import compact
from tinyamp.files import InputError, data_folder
from tinyamp.masks import active_weights, full_masks
from tinyamp.model import AmpLSTM, load_model
from tinyamp.stages import RESULT, load_search, recommend
from tinyamp.study_record import load_weights, read_result

SIZE = 32  # hidden units of the models on the page
ENOUGH = 0.8  # the share of a study's stages that must be retrained, for the study to be shown


@dataclass(frozen=True, eq=False)
class PageStage:
    """One stage, ready to be compiled: `model` is compacted, `units` is what is left of it.

    `active` counts the weights of the pool that the stage has left, `sparsity` (0 to 1) is the
    share that it has not; `retrained` says whether it was trained in full after pruning.
    """

    number: int
    model: AmpLSTM
    units: int
    active: int
    sparsity: float
    retrained: bool


@dataclass(frozen=True)
class PageDevice:
    """The stages of a device in order, from 0, and the number of the one to call "pruned"."""

    name: str
    stages: tuple[PageStage, ...]
    pruned: int  # 0 when there is only the unpruned model


def page_device(device: str, folder: Path | None = None) -> PageDevice:
    """All stages of `device` that `folder` (default: what ships) has. `InputError` if it has none.

    A stage that is damaged is an `InputError` that names the file.
    """
    folder = data_folder() if folder is None else Path(folder)
    study = folder / "results" / "laptop" / f"{device}-{SIZE}-s0"
    search = folder / "searches" / f"{device}-{SIZE}"
    result = _result(study / "search.json")
    if result is not None:
        numbers = [stage["number"] for stage in result["search"]["stages"]][1:]
        there = [number for number in numbers if _retrained(study, number).is_file()]
        whole = len(there) >= ENOUGH * len(numbers)
        if whole or not (search / RESULT).is_file():
            return _of_study(device, study, result)
    if (search / RESULT).is_file():
        return _of_search(device, search, folder / "models")
    unpruned = load_model(folder / "models" / f"{device}-{SIZE}.safetensors")
    pool = active_weights(full_masks(unpruned))
    return PageDevice(device, (_stage(0, unpruned, pool, 0.0, True),), 0)


def _of_study(device: str, study: Path, result: dict) -> PageDevice:
    """The study's row: each stage retrained, or else as the search left it."""
    stages = []
    for stage in result["search"]["stages"]:
        number, left = stage["number"], (stage["active"], stage["sparsity"])
        if number == 0:
            model = load_model(study / "unpruned.safetensors")
            stages.append(_stage(0, model, *left, True))
            continue
        file = _retrained(study, number)
        retrained = file.is_file()
        if not retrained:
            file = study / "stages" / f"stage-{number:02d}.npz"
        model = load_weights(file, result["search"]["sample_rate"])
        stages.append(_stage(number, model, *left, retrained))
    chosen = _result(study / "pruned.json")
    pruned = chosen["stage"] if chosen else result["search"]["recommended"]
    return PageDevice(device, tuple(stages), pruned)


def _of_search(device: str, search: Path, models: Path) -> PageDevice:
    """The chapters' search; the stage that was retrained for them takes its place in it."""
    found = load_search(search)
    pruned, model = recommend(found).number, None
    file = models / f"{device}-{SIZE}-pruned.safetensors"
    if file.is_file():
        model = load_model(file)
        pruned = int(model.settings.get("stage", pruned))
    stages = []
    for stage in found.stages:
        number = stage.number
        retrained = number == pruned and model is not None
        chosen = model if retrained else found.model(number)
        left = stage.active, stage.sparsity
        stages.append(_stage(number, chosen, *left, retrained or number == 0))
    return PageDevice(device, tuple(stages), pruned)


def _retrained(study: Path, number: int) -> Path:
    return study / f"retrained-{number:02d}.npz"


def _result(path: Path) -> dict | None:
    found = read_result(path)
    return found and found["result"]


def _stage(number: int, model: AmpLSTM, active: int, sparsity: float, retrained: bool) -> PageStage:
    small = compact(model)
    return PageStage(number, small.model, len(small.kept), active, sparsity, retrained)


def describe(stage: PageStage) -> dict[str, object]:
    """What the page says about a stage."""
    return {
        "number": stage.number,
        "units": stage.units,
        "active": stage.active,
        "sparsity": round(stage.sparsity, 5),
        "retrained": stage.retrained,
    }


def read_manifest(folder: str | Path) -> dict:
    """The manifest that `tinyamp.web_assets.build_assets` wrote into `folder`.

    Raises `InputError` when it is not there or something else.
    """
    path = Path(folder) / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != "tinyamp-page":
            raise ValueError("another format")
        return manifest
    except FileNotFoundError:
        raise InputError(
            f"There is no {path}; make it with `tinyamp page build {folder}`."
        ) from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or no manifest of a page ({error!r}); delete it and run "
            f"`tinyamp page build {folder}`."
        ) from error
