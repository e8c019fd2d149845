"""`tinyamp retrain`: a stage of a mask search, trained in full.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING

from tinyamp.cli_options import DEVICES, RAW, check_source, natural, path
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
    from tinyamp.stages import SearchResult

RETRAIN_HELP = """\
Train one stage of a mask search in full, with what is pruned kept at zero. Hidden units that
pruning has left without input or without reader are removed first, which changes nothing that
can be heard: the model becomes smaller and trains faster.
"""
RETRAIN_EPILOG = """\
examples:
  tinyamp retrain runs/sim-muff-32-search             the recommended stage, on the same device
  tinyamp retrain runs/sim-muff-32-search --stage 12 --preset paper
  tinyamp retrain runs/sim-muff-32-search --one-shot   as sparse, in a single step
  tinyamp retrain runs/my-search --input dry.wav --target amp.wav --out runs/my-small-amp

The folder gets model.safetensors, which `tinyamp evaluate` and `tinyamp process` take like any.
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `retrain`."""
    retrain = commands.add_parser(
        "retrain",
        help="train a stage of a search in full, without its dead units",
        description=RETRAIN_HELP,
        epilog=RETRAIN_EPILOG,
        formatter_class=RAW,
    )
    retrain.add_argument("folder", type=path, help="of a `tinyamp search`")
    retrain.add_argument("--stage", type=natural, help="default: the recommended one")
    retrain.add_argument(
        "--one-shot",
        action="store_true",
        help="for comparison: prune the unpruned stage to the same sparsity in a single step",
    )
    retrain.add_argument("--full-size", action="store_true", help="keep the dead units")
    add_training_set(retrain.add_argument_group("what to train on (default: the search's device)"))
    group = retrain.add_argument_group("the training")
    add_training(group, seed="of the shuffling")
    add_run_options(group, out="FOLDER/retrained-NN or FOLDER/one-shot-NN")
    retrain.set_defaults(run=run_retrain, interrupted=INTERRUPTED)


def _default_source(args: argparse.Namespace, data: str) -> None:
    """Without a source, take the device that the search was on: its `data` is "NAME train"."""
    if args.device is None and args.input is None and args.target is None:
        args.device = next((name for name in DEVICES if data == f"{name} train"), None)
        if args.device is None:
            raise InputError(
                f"The search in {args.folder} was on {data or 'a recording'}, which is no device; "
                "say what to train on: --input FILE and --target FILE, or --device NAME."
            )


def _warn(args: argparse.Namespace, result: SearchResult) -> None:
    """Say what may not be what was meant, but is no reason to refuse."""
    iterations = result.settings.iterations
    if args.stage is None and len(result.stages) <= iterations and result.collapse is None:
        warnings.warn(
            f"the search in {args.folder} has not come to its end; the stage is the best of the "
            f"{len(result.stages)} of {iterations + 1} that are there.",
            stacklevel=1,
        )
    if args.device is not None and result.data not in ("", f"{args.device} train"):
        warnings.warn(
            f"the search in {args.folder} was on {result.data}, not on {args.device}.", stacklevel=1
        )


def run_retrain(args: argparse.Namespace) -> None:
    """Train a stage in full, and say how small and how good it is."""
    from tinyamp.compact import effective_hidden_size, pruned_parameter_count
    from tinyamp.losses import esr
    from tinyamp.masks import active_weights, masks_of
    from tinyamp.model import parameter_count, process, save_model
    from tinyamp.presets import with_changes
    from tinyamp.retrain import one_shot, retrain
    from tinyamp.stages import RESULT, load_search, recommend

    result = load_search(args.folder)
    number = recommend(result).number if args.stage is None else args.stage
    pruned = result.model(0 if args.one_shot else number).float()
    stage = result.stages[number]
    if args.one_shot:
        one_shot(pruned, stage.sparsity, include_output=result.settings.include_output)
        pruned.settings |= {"stage": number, "sparsity": stage.sparsity, "one_shot": True}
    _default_source(args, result.data)
    check_source(args)
    args.sample_rate = result.sample_rate
    train_set, validation_set, test_set = training_sets(args)
    settings = with_changes(
        args.preset, epochs=args.epochs, seed=args.seed, weight_decay=args.weight_decay
    )
    demand_segment(train_set, settings.segment_length)
    folder = (
        args.out or args.folder / f"{'one-shot' if args.one_shot else 'retrained'}-{number:02d}"
    )
    options = prepare_run(folder, args, reads=args.folder / RESULT)
    _warn(args, result)
    options["compacted"] = not args.full_size
    model, history = retrain(pruned, train_set, validation_set, settings, **options)
    model = model.to("cpu")
    about = {**model.settings, "preset": args.preset}
    save_model(model, folder / "model.safetensors", settings=about)

    measured, what = (test_set, "test") if test_set else (validation_set, "validation")
    ratios = [esr(measured.target, process(m, measured.input)) for m in (model, result.model(0))]
    active, units = active_weights(masks_of(pruned)), effective_hidden_size(pruned)
    before, after = parameter_count(pruned.hidden_size), pruned_parameter_count(active, units)
    dead = f", {units} of them alive" if args.full_size else ""
    print(f"trained on        {train_set.name}, {train_set.seconds:.1f} s")
    print(f"model             {folder / 'model.safetensors'}")
    how = ", pruned in one shot" * args.one_shot + " (recommended)" * (args.stage is None)
    print(f"stage             {number}{how}")
    print(f"sparsity          {100 * stage.sparsity:.2f} %")
    print(f"weights left      {stage.active}")
    print(f"hidden size       {pruned.hidden_size} -> {model.hidden_size}{dead}")
    print(f"parameters        {before} -> {after} (of the LSTM layer, eq. 2, without zeros)")
    print(f"validation loss   {history.best_loss:.5f} (epoch {history.best_epoch.epoch})")
    print(f"{what + ' ESR':<18}{100 * ratios[0]:.2f} %")
    print(f"unpruned          {100 * ratios[1]:.2f} % {what} ESR (stage 0 of the search)")
