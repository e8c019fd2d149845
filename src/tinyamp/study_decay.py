"""Does weight decay make magnitude mean something? The experiment behind the recipe of `laptop`.

A *trial* is a mask search under one recipe, from the study's unpruned model of a device, a hidden
size and a seed. Each writes one file as it ends. A trial whose file is there, or that is published,
is not run again: remove `data/results/weight-decay.json` to run all of them anew.

    python -m tinyamp.study_decay run -j 2       run what is missing
    python -m tinyamp.study_decay table          print what came out
    python -m tinyamp.study_decay publish        one file of all, for the book
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from tqdm.std import tqdm

from tinyamp.data import SIMULATED, load_full
from tinyamp.files import data_folder
from tinyamp.losses import esr
from tinyamp.model import AmpLSTM, load_model, process
from tinyamp.presets import PRESETS
from tinyamp.retrain import retrain
from tinyamp.search import search
from tinyamp.stages import SEARCH_PRESETS, SearchSettings, recommend
from tinyamp.study import LAPTOP
from tinyamp.study_record import write_json
from tinyamp.train import train

RUNS = Path("runs/decay")
PUBLISHED = data_folder() / "results" / "weight-decay.json"
SEARCH = SEARCH_PRESETS["laptop"]
AMOUNTS = (1e-4, 3e-5, 3e-4, 1e-5, 1e-3)


@dataclass(frozen=True)
class Recipe:
    """What differs from `laptop` without decay; `decay` acts in the courses of the search."""

    decay: float = 0.0
    decoupled: bool = False
    before: float = 0.0  # decay in the full training, from scratch; 0: the published model
    after: float = 0.0  # decay in the retraining
    retrained: tuple[int, ...] = ()  # stages that are retrained in full
    score: str = "magnitude"
    rate: float = 1e-2
    epochs: int = 8
    chunk: int = 1024
    fresh_adam: bool = False
    prune_best: bool = False
    include_output: bool = False

    def search(self, seed: int) -> SearchSettings:
        """The search of this recipe."""
        course = replace(
            SEARCH.course,
            seed=seed,
            weight_decay=self.decay,
            decoupled=self.decoupled,
            learning_rate=self.rate,
            epochs=self.epochs,
            chunk=self.chunk,
        )
        return replace(
            SEARCH,
            variant="trained",
            course=course,
            score=self.score,
            fresh_adam=self.fresh_adam,
            prune_best=self.prune_best,
            include_output=self.include_output,
        )


@dataclass(frozen=True)
class Trial:
    """One search, and maybe retrainings."""

    group: str
    device: str
    size: int
    seed: int
    name: str
    recipe: Recipe

    @property
    def file(self) -> Path:
        place = f"{self.device}-{self.size}-s{self.seed}"
        return RUNS / place / f"{self.name}{'-retrained' * bool(self.recipe.retrained)}.json"


def _sets(device: str) -> dict:
    return {split: load_full(device, split) for split in ("train", "validation", "test")}


def _unpruned(trial: Trial, sets: dict) -> AmpLSTM:
    row = f"{trial.device}-{trial.size}-s{trial.seed}"
    if not trial.recipe.before:
        return load_model(data_folder() / "results" / "laptop" / row / "unpruned.safetensors")
    model = AmpLSTM(trial.size, seed=trial.seed)
    settings = replace(LAPTOP, weight_decay=trial.recipe.before, seed=trial.seed)
    train(model, sets["train"], sets["validation"], settings, progress=False)
    return model


def _errors(model: AmpLSTM, sets: dict) -> dict[str, float]:
    parts = {"validation_esr": sets["validation"], "test_esr": sets["test"]}
    return {name: esr(part.target, process(model, part.input)) for name, part in parts.items()}


def run_trial(trial: Trial) -> dict:
    """Search, retrain, and write what came out; one thread."""
    torch.set_num_threads(1)
    sets = _sets(trial.device)
    pair = sets["train"], sets["validation"]
    model, recipe = _unpruned(trial, sets), trial.recipe
    before = _errors(model, sets)
    found = search(model, *pair, recipe.search(trial.seed), progress=False)
    retrained = []
    for number in recipe.retrained:
        settings = replace(PRESETS["laptop"], seed=trial.seed, weight_decay=recipe.after)
        small, history = retrain(found.model(number), *pair, settings, progress=False)
        about = {"stage": number, "units": small.hidden_size, "validation_loss": history.best_loss}
        retrained.append({**about, **_errors(small, sets)})
    kept = ("sparsity", "units", "epochs", "loss_start", "loss_stop", "attempts", "capped")
    result = {
        **{name: getattr(trial, name) for name in ("group", "device", "size", "seed", "name")},
        "recipe": asdict(recipe),
        "unpruned": before,
        "stages": [{name: getattr(stage, name) for name in kept} for stage in found.stages],
        "collapse": found.collapse,
        "recommended": recommend(found).number,
        "seconds": round(sum(stage.seconds for stage in found.stages), 1),
        "retrained": retrained,
    }
    write_json(trial.file, result, indent=None)
    return result


def trials() -> Iterator[Trial]:
    """All trials, in the order in which they run."""

    def group(
        name: str, recipes: dict[str, Recipe], size: int = 32, seeds: Sequence[int] = (0,)
    ) -> Iterator[Trial]:
        for seed in seeds:
            for recipe_name, recipe in recipes.items():
                for device in SIMULATED:
                    yield Trial(name, device, size, seed, recipe_name, recipe)

    none, inside = {"none": Recipe()}, {f"l2-{d:.0e}": Recipe(d) for d in AMOUNTS}
    beside = {f"adamw-{d:g}": Recipe(d, decoupled=True) for d in (0.03, 0.1, 0.3)}
    chosen = Recipe(1e-4)
    yield from group(
        "course",
        {
            "rate-5e-3": replace(chosen, rate=5e-3),
            "chunk-512": replace(chosen, chunk=512),
            "authors": replace(chosen, fresh_adam=True, prune_best=True),
        },
    )
    yield from group("sizes", {"l2-1e-04": replace(chosen, retrained=(12, 15))}, 96)
    yield from group("seeds", none | {"l2-1e-04": chosen}, seeds=(1, 2))
    yield from group("sizes", {"l2-1e-04": chosen}, 64)
    yield from group(
        "unit", {"unit-none": Recipe(score="unit"), "unit": replace(chosen, score="unit")}
    )
    yield from group("where", {"search-only": replace(chosen, retrained=(6, 12))})
    yield from group("amount", none | inside | beside)
    yield from group(
        "output",
        {
            "output-none": Recipe(include_output=True),
            "output": replace(chosen, include_output=True),
        },
    )
    everywhere = replace(chosen, before=1e-4, after=1e-4, retrained=(6, 12))
    yield from group("where", {"everywhere": everywhere})


def _run(jobs: int, wanted: str | None) -> None:
    done = finished()
    waiting = [t for t in trials() if t not in done and wanted in (None, t.group, t.name)]
    with ProcessPoolExecutor(jobs) as pool:
        running = [pool.submit(run_trial, trial) for trial in waiting]
        for done in tqdm(as_completed(running), total=len(running), unit="trial"):
            done.result()


def _table(results: list[dict]) -> None:
    print("device     size seed recipe                  units at 5/8/10/12/15   loss x1e4")
    for r in results:
        at = [n for n in (3, 5, 6, 8, 10, 12, 15) if n < len(r["stages"])]
        units = "/".join(str(r["stages"][n]["units"]) for n in at)
        losses = " ".join(f"{1e4 * r['stages'][n]['loss_stop']:7.1f}" for n in at)
        again = sum(s["attempts"] > 1 for s in r["stages"])
        capped = sum(s["capped"] for s in r["stages"])
        print(
            f"{r['device']:10} {r['size']:3} {r['seed']} {r['name']:20} {units:24} {losses} "
            f"again {again} capped {capped} {r['seconds']:.0f} s rec {r['recommended']}"
        )
        for x in r["retrained"]:
            print(
                f"      retrained {x['stage']:2}: {x['units']:2} units "
                f"val {100 * x['validation_esr']:.3f} % test {100 * x['test_esr']:.3f} % "
                f"(unpruned {100 * r['unpruned']['test_esr']:.3f} %)"
            )


def finished() -> dict[Trial, dict]:
    """What is known of trials: from their files, or published under the same recipe."""
    published = json.loads(PUBLISHED.read_text()) if PUBLISHED.is_file() else []
    found = {}
    for trial in trials():
        if trial.file.is_file():
            found[trial] = json.loads(trial.file.read_text())
            continue
        wanted = json.loads(json.dumps(asdict(trial)))  # JSON has no tuples
        for result in published:
            if all(result[name] == value for name, value in wanted.items()):
                found[trial] = result
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "table", "publish"))
    parser.add_argument("-j", "--jobs", type=int, default=1, help="at once (default: 1)")
    parser.add_argument("--only", help="a group of trials, or a recipe")
    args = parser.parse_args()
    if args.action == "run":
        _run(args.jobs, args.only)
    elif args.action == "table":
        _table(list(finished().values()))
    else:
        write_json(PUBLISHED, list(finished().values()), indent=None)


if __name__ == "__main__":
    main()
