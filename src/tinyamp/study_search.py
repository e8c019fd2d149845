"""The study's searches: Algorithm 1 from a new model, and from a trained one for whole units."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from tinyamp.model import AmpLSTM, parameter_count, save_model
from tinyamp.search import search
from tinyamp.stages import SearchResult, recommend
from tinyamp.study import UNITS
from tinyamp.study_bench import Bench, settling
from tinyamp.study_record import save_weights


def run_search(bench: Bench) -> dict:
    """Algorithm 1 on a new model; keeps the unpruned model and every stage."""
    if bench.row.variant == UNITS:
        return run_unit_search(bench)
    found = _search(bench, AmpLSTM(bench.row.size, seed=bench.row.seed), variant=bench.row.variant)
    for stage in found.stages[1:]:
        _keep_stage(bench, found, stage.number)
    unpruned = found.model(0)
    save_model(unpruned, bench.folder / "unpruned.safetensors")
    history = bench.shop.run_folder(bench.row) / "search" / "unpruned" / "history.json"
    epochs = json.loads(history.read_text())["epochs"] if history.is_file() else []
    losses = [e["validation_loss"] for e in epochs if e["validation_loss"] is not None]
    return {
        "search": _summary(found),
        "unpruned": {
            "model": "unpruned.safetensors",
            **bench.errors(unpruned),
            "validation_loss": min(losses, default=None),
            "parameters": parameter_count(bench.row.size),
            "settling_time": settling(unpruned),
            "epochs": epochs,
        },
    }


def run_unit_search(bench: Bench) -> dict:
    """Algorithm 1 on the trained model of Table I, pruning whole units; keeps what can be selected.

    The stages before that are left out: they would be megabytes that nothing reads.
    """
    found = _search(bench, bench.shop.stage_model(bench.row, 0), variant="trained", score="unit")
    for stage in found.stages:
        if stage.sparsity >= bench.shop.study.floor:
            _keep_stage(bench, found, stage.number)
    return {"search": _summary(found)}


def _search(bench: Bench, model: AmpLSTM, **changes: str) -> SearchResult:
    shop, row = bench.shop, bench.row
    settings = replace(
        shop.study.search,
        full=replace(shop.study.search.full, seed=row.seed),
        course=replace(shop.study.search.course, seed=row.seed),
        **changes,
    )
    return search(
        model,
        bench.train,
        bench.validation,
        settings,
        **bench.options("search"),
    )


def _keep_stage(bench: Bench, found: SearchResult, number: int) -> None:
    save_weights(bench.folder / "stages" / f"stage-{number:02d}.npz", found.model(number))


def _summary(found: SearchResult) -> dict:
    return {
        "sample_rate": found.sample_rate,
        "collapse": found.collapse,
        "recommended": recommend(found).number,
        "stages": [asdict(stage) for stage in found.stages],
    }
