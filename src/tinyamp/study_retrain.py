"""How the study retrains, Section V-A, and what it does where a training runs away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

from tinyamp.compact import effective_hidden_size, pruned_parameter_count
from tinyamp.masks import active_weights, masks_of, sparsity
from tinyamp.model import AmpLSTM
from tinyamp.presets import History, TrainSettings
from tinyamp.retrain import retrain
from tinyamp.search import ATTEMPTS
from tinyamp.study_bench import Bench, settling
from tinyamp.study_record import code_version, machine, save_weights, write_result
from tinyamp.train import validation_loss


def retrained(bench: Bench, number: int) -> dict:
    """Stage `number` retrained in full, Section V-A: its result, made only once.

    Several jobs of a row may ask for the same stage; they run one after the other.
    """
    shop, name = bench.shop, f"{bench.row.name}/retrained-{number:02d}"
    found = shop.result(name)
    if found is not None:
        return found["result"]
    result, model = train_pruned(
        bench, shop.stage_model(bench.row, number), f"retrained-{number:02d}"
    )
    result = {"stage": number, **result}
    save_weights(bench.folder / f"retrained-{number:02d}.npz", model)
    provenance = {"code": code_version(), "machine": machine()}
    digest = shop.study.digest(variant=bench.row.variant)
    write_result(shop.results / f"{name}.json", name, digest, result, provenance)
    return result


def train_pruned(bench: Bench, pruned: AmpLSTM, name: str) -> tuple[dict, AmpLSTM]:
    """Train a pruned model in full, compacted; what came out of it, and the trained model."""
    masks = masks_of(pruned)

    def once(settings: TrainSettings, folder: str) -> tuple[AmpLSTM, History]:
        sets = bench.train, bench.validation
        return retrain(pruned, *sets, settings, masks=masks, **bench.options(folder))

    model, history, tries = no_worse(bench, pruned, once, name)
    model = model.to("cpu")
    active, units = active_weights(masks), effective_hidden_size(pruned)
    return {
        "sparsity": sparsity(masks),
        "active": active,
        "units": units,
        "parameters": pruned_parameter_count(active, units),
        "validation_loss": history.best_loss,
        "tries": tries,
        **bench.errors(model),
        "settling_time": settling(model),
        "epochs": [asdict(e) for e in history.epochs if e.validation_loss is not None],
    }, model


def no_worse(
    bench: Bench,
    model: AmpLSTM,
    once: Callable[[TrainSettings, str], tuple[AmpLSTM, History]],
    name: str,
) -> tuple[AmpLSTM, History, int]:
    """Train `model` again in full; at half the rate, if that ends worse than it began, and so on.

    This is the rule of a search, `tinyamp.search.blew_up`, and a step beyond the paper. Returns the
    new model, its history and how often it has been tried.
    """
    study, row = bench.shop.study, bench.row
    began = validation_loss(model, bench.validation, study.retrain)
    for attempt in range(1, ATTEMPTS + 1):
        settings = replace(study.retraining(row.variant, attempt), seed=row.seed)
        folder = f"{name}-{settings.epochs}" + f"-{attempt}" * (attempt > 1)
        new, history = once(settings, folder)
        if history.best_loss <= began:
            break
    return new, history, attempt
