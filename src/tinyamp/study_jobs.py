"""What the jobs of the study do: select a stage and retrain it, and train what it is held to.

The search that comes before is in `tinyamp.study_search`. Everything that a later job needs is in
the folder of results when a job ends. The folder of runs holds checkpoints, from which a job that
was killed goes on, and can be lost at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace

import torch

from tinyamp.data import load
from tinyamp.model import AmpLSTM, save_model
from tinyamp.presets import History, TrainSettings
from tinyamp.retrain import one_shot
from tinyamp.study import LONGER, Job
from tinyamp.study_bench import Bench, Workshop
from tinyamp.study_record import (
    code_version,
    data_checksums,
    load_weights,
    locked,
    machine,
    save_weights,
    write_result,
)
from tinyamp.study_retrain import no_worse, retrained, train_pruned
from tinyamp.study_search import run_search
from tinyamp.train import train


def run_job(job: Job, shop: Workshop) -> dict:
    """Run a job, unless its result is there; return the result.

    One thread, so that the result is the same however many jobs run beside it. Raises `InputError`
    when a job that it needs is not finished, or its data set is absent.
    """
    torch.set_num_threads(1)
    with locked(shop.lock(job)):
        found = shop.result(job.name)
        if found is not None:
            return found["result"]
        started = time.perf_counter()
        limit = shop.study.seconds
        sets = {
            split: load(job.row.device, split, source=shop.study.source, seconds=limit)
            for split in ("train", "validation", "test")
        }
        bench = Bench(shop, job.row, **sets)
        result = KINDS[job.kind](bench)
        provenance = {
            "row": asdict(job.row),
            "settings": shop.study.what_a_row_gets(job.row.variant),
            "data": data_checksums(**sets),
            "code": code_version(),
            "machine": machine(),
            "seconds": time.perf_counter() - started,  # of the last start, if it was stopped
        }
        digest = shop.study.digest(job.kind, job.row.variant)
        write_result(shop.results / job.file, job.name, digest, result, provenance)
        return result


def choose(
    start: int, first: int, last: int, limit: float, error_of: Callable[[int], float]
) -> tuple[int, dict[int, float]]:
    """The sparsest stage around `start` whose error after retraining is at most `limit`.

    Tried are `start` and its two neighbours (three stages within `first` to `last`), then sparser
    ones for as long as the sparsest is good, or denser ones until one is. If none is good, the one
    with the lowest error is taken. Returns the stage and the errors of all that were tried. Errors
    are of the validation set: the test set has no say.
    """
    low = max(first, min(start - 1, last - 2))
    tried = {number: error_of(number) for number in range(low, min(low + 2, last) + 1)}
    while (number := max(tried)) < last and tried[number] <= limit:
        tried[number + 1] = error_of(number + 1)
    while (number := min(tried)) > first and min(tried.values()) > limit:
        tried[number - 1] = error_of(number - 1)
    good = [number for number, error in tried.items() if error <= limit]
    return (max(good) if good else min(tried, key=tried.get)), tried


def run_pruned(bench: Bench) -> dict:
    """Select a stage, from the search's recommendation on, and retrain it: a row of Table I."""
    unpruned = bench.shop.need(f"{bench.row.unpruned.name}/search")["unpruned"]
    limit = bench.shop.study.slack * unpruned["validation_esr"]
    return _select(bench, bench.need("search")["search"]["recommended"], limit, "pruned")


def run_matched(bench: Bench) -> dict:
    """The sparsest stage that is no worse than the smallest size's unpruned model, Section V."""
    other = replace(bench.row.in_table_i, size=bench.shop.study.sizes[0])
    limit = bench.shop.need(f"{other.name}/search")["unpruned"]["validation_esr"]
    if bench.row.variant == LONGER:
        start = bench.need("search")["search"]["recommended"]
    else:
        start = bench.need("pruned")["stage"]
    return _select(bench, start, limit, "matched")


def _select(bench: Bench, start: int, limit: float, name: str) -> dict:
    stages = bench.shop.stages(bench.row)
    floor = bench.shop.study.floor
    first = next((s.number for s in stages if s.sparsity >= floor), stages[-1].number)
    chosen, tried = choose(
        start,
        first,
        stages[-1].number,
        limit,
        lambda number: retrained(bench, number)["validation_esr"],
    )
    result = _without_epochs(retrained(bench, chosen))
    file = f"{name}.safetensors"
    _keep_model(bench, f"retrained-{chosen:02d}.npz", file, result)
    attempts = [
        {"stage": n, "validation_esr": error, "test_esr": retrained(bench, n)["test_esr"]}
        for n, error in tried.items()
    ]
    return {
        "model": file,
        "limit": limit,
        "good": tried[chosen] <= limit,
        "attempts": attempts,
        **result,
    }


def _without_epochs(result: dict) -> dict:
    """A result of `retrained` without its epochs: they are in the file of that already."""
    return {name: value for name, value in result.items() if name != "epochs"}


def _keep_model(bench: Bench, source: str, file: str, result: dict) -> None:
    """Write a trained model, as .npz at `source`, as a model that every command takes."""
    about = {"data": bench.train.name, "pruned_from": bench.row.size, "stage": result["stage"]}
    about["sparsity"] = result["sparsity"]
    tries = result.get("tries", 1)  # the first results do not say so
    about["train"] = asdict(bench.shop.study.retraining(bench.row.variant, tries))
    model = load_weights(bench.folder / source, bench.need("search")["search"]["sample_rate"])
    save_model(model, bench.folder / file, settings=about)


def run_one_shot(bench: Bench) -> dict:
    """Prune the unpruned model at once to the selected sparsity, and train it as long (V-A)."""
    share = bench.need("pruned")["sparsity"]
    model = bench.shop.stage_model(bench.row, 0)
    one_shot(model, share)
    result, model = train_pruned(bench, model, "one-shot")
    save_weights(bench.folder / "one-shot.npz", model)
    return {"model": "one-shot.npz", **result}


def run_from_scratch(bench: Bench) -> dict:
    """A new model with as many units as the selected stage has, trained in full, and once more.

    The pruned one has been trained twice, and as long: what it is better by, it owes to its larger
    past.
    """
    row, full = bench.row, bench.shop.study.search.full
    selected = bench.need("matched" if row.variant == LONGER else "pruned")
    model = AmpLSTM(max(1, selected["units"]), seed=row.seed)

    def once(settings: TrainSettings, folder: str) -> tuple[AmpLSTM, History]:
        new = deepcopy(model)
        history = train(new, bench.train, bench.validation, settings, **bench.options(folder))
        return new.to("cpu"), history

    name = f"from-scratch-{model.hidden_size}"
    model, _ = once(replace(full, seed=row.seed), f"{name}-0-{full.epochs}")
    first = bench.errors(model)
    model, _, tries = no_worse(bench, model, once, f"{name}-1")
    save_model(model, bench.folder / "from-scratch.safetensors")
    return {
        "model": "from-scratch.safetensors",
        "units": model.hidden_size,
        "tries": tries,
        "once": first,
        **bench.errors(model),
    }


def run_curve(bench: Bench) -> dict:
    """Retrain every stage, the unpruned one too: what more training alone would give (Fig. 3)."""
    names = ("stage", "sparsity", "units", "validation_loss", "validation_esr", "test_esr")
    points = []
    for stage in bench.shop.stages(bench.row):
        result = retrained(bench, stage.number)
        points.append({"loss_stop": stage.loss_stop, **{name: result[name] for name in names}})
    return {"stages": points}


def run_same(bench: Bench) -> dict:
    """Retrain the Early-Bird stage that is as sparse as the one selected without it (V-A)."""
    number = bench.shop.need(f"{bench.row.in_table_i.name}/pruned")["stage"]
    number = min(number, bench.shop.stages(bench.row)[-1].number)
    result = _without_epochs(retrained(bench, number))
    _keep_model(bench, f"retrained-{number:02d}.npz", "same.safetensors", result)
    return {"model": "same.safetensors", **result}


KINDS: dict[str, Callable[[Bench], dict]] = {
    "search": run_search,
    "pruned": run_pruned,
    "one-shot": run_one_shot,
    "matched": run_matched,
    "from-scratch": run_from_scratch,
    "curve": run_curve,
    "same": run_same,
}
