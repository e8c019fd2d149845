"""Real-time factors, Table I and Fig. 8: one run, on a machine that does nothing else.

All models that are finished are timed side by side, compiled and in PyTorch, so that their ratios
can be relied on. The result can be made again at any time; it says which files it has timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.std import tqdm

from tinyamp.compact import compact
from tinyamp.data import load_excerpt
from tinyamp.files import InputError
from tinyamp.model import load_model
from tinyamp.players import TorchPlayer
from tinyamp.realtime import Engine, compare
from tinyamp.study import LONGER, UNITS, Row
from tinyamp.study_bench import Workshop
from tinyamp.study_record import code_version, machine, sha256, write_result

SPEED = "rtf"  # the name of the result
MODELS = ("unpruned", "pruned", "matched")
ROUNDS = 21


def timed_models(shop: Workshop) -> dict[str, Path]:
    """The finished models of the two tables, by names such as "sim-muff-32-s0/pruned"."""
    study, found = shop.study, {}
    for device in study.devices:
        rows = [Row(device, size, study.seeds[0]) for size in study.sizes]
        for row in (*rows, *(replace(rows[-1], variant=name) for name in (UNITS, LONGER))):
            for kind in MODELS[row.unpruned != row :]:  # the unpruned one is another row's
                job = f"{row.name}/{'search' if kind == 'unpruned' else kind}"
                if shop.result(job) is not None:
                    found[f"{row.name}/{kind}"] = shop.results / row.name / f"{kind}.safetensors"
    return found


def row_of_fig_8(shop: Workshop) -> Row:
    """The row whose stages are timed: in Fig. 8, 64 units and the Big Muff."""
    study = shop.study
    return Row(study.devices[0], study.sizes[min(1, len(study.sizes) - 1)], study.seeds[0])


def stage_engines(shop: Workshop) -> dict[int, dict[str, Engine]]:
    """Every stage of one search as four engines, Fig. 8; none if the search is not finished.

    "dense" and "sparse" keep all hidden units, and the zeros or only the blocks that are not empty;
    "compacted" has the dead units taken out and is dense; "both" is compacted, in the layout that
    the compiler chooses.
    """
    row = row_of_fig_8(shop)
    if shop.result(f"{row.name}/search") is None:
        return {}
    engines = {}
    stages = shop.stages(row)
    for stage in tqdm(stages, desc="compiling stages", disable=not shop.progress):
        model = shop.stage_model(row, stage.number)
        small = compact(model).model
        engines[stage.number] = {
            "dense": Engine(model, compiled=True, layout="dense"),
            "sparse": Engine(model, compiled=True, layout="sparse"),
            "compacted": Engine(small, compiled=True, layout="dense"),
            "both": Engine(small, compiled=True),
        }
    return engines


def measure_speed(shop: Workshop, *, rounds: int = ROUNDS, seconds: float = 1.0) -> dict:
    """Time all finished models side by side; write and return the result.

    Each plays `seconds` of guitar, compiled for this processor and in PyTorch; the real-time
    factor is the median of `rounds`. Raises `InputError` when no model is finished, or when models
    cannot be compiled here.
    """
    paths = timed_models(shop)
    if not paths:
        raise InputError(f"No model of this study is finished in {shop.results}.")
    engines: dict[tuple[str | int, str], Callable[[np.ndarray], np.ndarray]] = {}
    models: dict[str, dict] = {}
    for name, path in tqdm(paths.items(), desc="compiling", disable=not shop.progress):
        model = load_model(path)
        engine = Engine(model, compiled=True)
        models[name] = {
            "sha256": sha256(path),
            "hidden_size": model.hidden_size,
            "engine": engine.description,
        }
        engines[name, "compiled"] = engine.process
        engines[name, "pytorch"] = TorchPlayer(model).process
    stages = stage_engines(shop)
    for number, variants in stages.items():
        engines |= {(number, kind): engine.process for kind, engine in variants.items()}
    x = load_excerpt("sim-muff", "test", seconds=seconds).input
    timings = compare(engines, rounds=rounds, x=x, progress=shop.progress)
    speeds: dict[int, dict] = {number: {} for number in stages}
    for (name, kind), timing in timings.items():
        entry = speeds[name] if name in speeds else models[name]
        entry[kind] = {"rtf": timing.median, "quartiles": list(timing.quartiles)}
    fig_8 = {
        "row": row_of_fig_8(shop).name,
        "stages": [{"stage": number, **entry} for number, entry in speeds.items()],
    }
    result = {"rounds": rounds, "seconds": seconds, "models": models, "fig_8": fig_8}
    provenance = {"code": code_version(), "machine": machine()}
    path = shop.results / f"{SPEED}.json"
    write_result(path, SPEED, shop.study.digest(), result, provenance)
    return result


def speed_of(shop: Workshop, row: Row, kind: str) -> float | None:
    """The compiled model's real-time factor; None if this very file has not been timed."""
    found = shop.result(SPEED)
    entry = found["result"]["models"].get(f"{row.name}/{kind}") if found else None
    path = shop.results / row.name / f"{kind}.safetensors"
    if entry is None or not path.is_file() or entry["sha256"] != sha256(path):
        return None
    return entry["compiled"]["rtf"]
