"""`tinyamp search`: find a small network inside a model.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse
import shlex
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from tinyamp.audio import SAMPLE_RATE
from tinyamp.cli_options import RAW, check_source, path, positive
from tinyamp.cli_train import (
    INTERRUPTED,
    add_run_options,
    add_training,
    add_training_set,
    demand_segment,
    prepare_run,
    training_sets,
)
from tinyamp.files import InputError

if TYPE_CHECKING:
    from tinyamp.model import AmpLSTM
    from tinyamp.stages import SearchResult, SearchSettings

REWINDS = ("learning-rate", "weights")
SCORES = ("magnitude", "unit", "random")
HIDDEN_SIZE = 32
SEARCH_HELP = """\
Find a small network inside a model: the mask search of the paper, Algorithm 1.
The model is trained in full; then it is trained on until the mask that the next pruning would
leave stands still, the smallest 30 % of its weights are pruned, and this is repeated 15 times.
Every stage on the way is kept and judged by its validation loss, and one of them is recommended
for `tinyamp retrain`. For 32 units this takes about six minutes; --preset paper takes many hours.
"""
SEARCH_EPILOG = """\
examples:
  tinyamp search --device sim-muff                    about six minutes: 32 units, laptop preset
  tinyamp search --device sim-muff --model runs/muff/model.safetensors --out runs/muff-search
  tinyamp search --device sim-metal --early-bird --iterations 10 --fraction 0.4
  tinyamp search --input dry.wav --target amp.wav --out runs/my-search
  tinyamp search --device sim-muff --resume

The folder gets search.json and the model of every stage, stage-00.safetensors (unpruned) and so
on; `tinyamp process` plays any of them. A search that was stopped goes on with --resume and
otherwise the same options, and finds what it would have found.
"""
SOURCE = "device input target validation_input validation_target channel resample trim"
SOURCE += " fix_alignment seconds"  # the options that retraining should be given as well


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `search`."""
    search = commands.add_parser(
        "search",
        help="find a small network inside a model, by pruning",
        description=SEARCH_HELP,
        epilog=SEARCH_EPILOG,
        formatter_class=RAW,
    )
    group = search.add_argument_group("what to search on")
    add_training_set(group)
    group.add_argument(
        "--sample-rate",
        type=positive,
        help=f"of the model, in Hz (default: {SAMPLE_RATE}, or that of --model)",
    )
    group = search.add_argument_group("the model, and what happens before the first pruning")
    group.add_argument("--hidden-size", type=positive, help=f"units (default: {HIDDEN_SIZE})")
    add_training(
        group,
        epochs="of the full training before the first pruning (default: the preset's)",
        seed="of the weights, the shuffling and random scores",
        decay="between two prunings, so that idle weights shrink (default: 1e-4, and 0 for units)",
    )
    start = group.add_mutually_exclusive_group()
    start.add_argument("--model", type=path, help="start from this trained model, of its sizes")
    start.add_argument(
        "--early-bird",
        action="store_true",
        help="prune before the model is trained in full, as soon as its mask stands still",
    )
    group = search.add_argument_group("the search")
    group.add_argument("--iterations", type=positive, help="how often to prune (default: 15)")
    group.add_argument(
        "--fraction", type=float, help="of the weights left, pruned each time (default: 0.3)"
    )
    group.add_argument(
        "--queue",
        type=positive,
        metavar="EPOCHS",
        help="a mask stands still when it has changed little for so many epochs (default: 5)",
    )
    group.add_argument(
        "--epsilon",
        type=float,
        help="a little: in less than this share of the weights left (default: 0.1)",
    )
    group.add_argument(
        "--max-epochs", type=positive, help="go on after so many anyway (default: the preset's)"
    )
    group.add_argument(
        "--rewind",
        choices=REWINDS,
        help="what starts anew after a pruning: the learning rate alone (default), or the weights "
        "too, from where they were before any training",
    )
    group.add_argument(
        "--include-output", action="store_true", help="prune the output layer as well; may collapse"
    )
    group.add_argument(
        "--score",
        choices=SCORES,
        help="prune the smallest weights (default), the weakest units whole, which makes models "
        "faster by far, or any weights",
    )
    add_run_options(search.add_argument_group("the run"), out="runs/NAME-SIZE-search")
    search.set_defaults(run=run_search, interrupted=INTERRUPTED)


def search_settings(args: argparse.Namespace) -> SearchSettings:
    """What the options of `search` ask for. Raises `InputError` for what does not go together."""
    if args.epochs is not None and (args.model is not None or args.early_bird):
        raise InputError(
            "--epochs is for the full training, which --model and --early-bird omit; --max-epochs "
            "limits the epochs of one stage."
        )
    if args.model is not None and args.rewind == "weights":
        raise InputError(
            "--rewind weights goes back to the weights from before training, which a trained "
            "--model no longer has; omit one of the two."
        )
    from tinyamp.presets import changed
    from tinyamp.stages import SEARCH_PRESETS, by_score

    preset = by_score(SEARCH_PRESETS[args.preset], args.score or "magnitude")
    return changed(
        preset,
        full=changed(preset.full, epochs=args.epochs, seed=args.seed),
        course=changed(
            preset.course,
            epochs=args.max_epochs,
            seed=args.seed,
            weight_decay=args.weight_decay,
        ),
        variant="trained" if args.model else "early-bird" if args.early_bird else None,
        iterations=args.iterations,
        fraction=args.fraction,
        epsilon=args.epsilon,
        k=args.queue,
        rewind=args.rewind,
        include_output=args.include_output,
    )


def _first_model(args: argparse.Namespace) -> AmpLSTM:
    """The model to begin with: a new one, or --model, with which all options must agree."""
    from tinyamp.masks import masks_of, sparsity
    from tinyamp.model import AmpLSTM, load_model

    if args.model is None:
        size = args.hidden_size or HIDDEN_SIZE
        return AmpLSTM(size, seed=args.seed, sample_rate=args.sample_rate or SAMPLE_RATE)
    model = load_model(args.model)
    for name in ("hidden_size", "sample_rate"):
        asked, found = getattr(args, name), getattr(model, name)
        if asked not in (None, found):
            option = "--" + name.replace("_", "-")
            raise InputError(f"{args.model} has {option} {found}, not {asked}; omit {option}.")
    if model.input_size != 1:
        raise InputError(f"{args.model} has {model.input_size} inputs; only one can be searched.")
    if share := sparsity(masks_of(model)):
        warnings.warn(
            f"{args.model} has been pruned already ({100 * share:.1f} % of its weights are 0); the "
            "search counts all of them as weights to begin with, and may train them.",
            stacklevel=2,
        )
    return model.float()


def run_search(args: argparse.Namespace) -> None:
    """Search, and say what was found and what to do with it."""
    check_source(args)
    settings = search_settings(args)
    model = _first_model(args)
    args.sample_rate = model.sample_rate
    train_set, validation_set, _ = training_sets(args)
    demand_segment(train_set, settings.course.segment_length)
    from tinyamp.search import search

    name = args.device or args.target.stem
    folder = args.out or Path("runs") / f"{name}-{model.hidden_size}-search"
    options = prepare_run(folder, args, reads=args.model)
    result = search(model, train_set, validation_set, settings, **options)
    if result.collapse is not None:
        warnings.warn(result.collapse, stacklevel=1)
    print(f"searched on       {train_set.name}, {train_set.seconds:.1f} s")
    print(f"stages            {folder}")
    print("\n".join(["", *table(result), "", *advice(result), "", next_command(folder, args)]))


def table(result: SearchResult) -> list[str]:
    """The lines of a table of all stages: `*` marks a capped one, `<-` the recommended one."""
    from tinyamp.stages import recommend

    chosen = recommend(result)
    lines = ["stage   sparsity   weights left   units left   epochs   loss at stop"]
    for stage in result.stages:
        marks = " *" * stage.capped + "  <-" * (stage is chosen)
        lines.append(
            f"{stage.number:5d}  {100 * stage.sparsity:7.2f} %   {stage.active:12d}   "
            f"{stage.units:10d}   {stage.epochs:6d}   {stage.loss_stop:12.5f}{marks}"
        )
    return lines


def advice(result: SearchResult) -> list[str]:
    """Sentences about the limit on epochs, if it mattered, and about the recommended stage."""
    from tinyamp.stages import TOLERANCE, recommend

    chosen, lines = recommend(result), []
    limit, k = result.settings.course.epochs, result.settings.k
    if capped := sum(stage.capped for stage in result.stages):
        lines.append(
            f" *  {capped} of {len(result.stages)} stages were stopped by the limit of {limit} "
            "epochs before their mask stood still; "
            + (f"a mask needs at least {k} (--queue)." if limit < k else "try more --max-epochs.")
        )
    if again := [stage for stage in result.stages if stage.attempts > 1]:
        names = ", ".join(f"{stage.number} ({stage.attempts} attempts)" for stage in again)
        lines.append(
            f"    Training blew up, and was repeated at half the learning rate, in stage {names}."
        )
    bound = f"{TOLERANCE:g} times that of the best pruned stage"
    if chosen is result.stages[-1]:
        why = f"the last of all: its loss at stop is not above {bound}."
    else:
        why = f"a little before the loss at stop is first above {bound}."
    return [*lines, f" <- Recommended is stage {chosen.number}, {why}"]


def next_command(folder: Path, args: argparse.Namespace) -> str:
    """The `tinyamp retrain` that follows this search, as it is to be typed."""
    words = ["tinyamp", "retrain", str(folder)]
    for name in SOURCE.split():
        value = getattr(args, name)
        if value is not None and value is not False:
            words += ["--" + name.replace("_", "-")] + [str(value)] * (value is not True)
    if args.preset != "laptop":
        words += ["--preset", args.preset]
    return f"Train it in full with\n  {shlex.join(words)}"
