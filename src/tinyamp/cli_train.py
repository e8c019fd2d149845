"""`tinyamp train`: a model of a device, in a folder of its own.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from tinyamp.audio import SAMPLE_RATE
from tinyamp.cli_options import (
    RAW,
    add_pair_options,
    add_source,
    check_source,
    demand_writable,
    duration,
    natural,
    pair_options,
    path,
    positive,
)
from tinyamp.data import SEGMENT, Recording, load, read_pair
from tinyamp.files import InputError

PRESETS = ("laptop", "paper")
RUN_FILES = (
    "model.safetensors",
    "checkpoint.safetensors",
    "best.safetensors",
    "last.safetensors",
    "history.json",
)
SEARCH_FILES = ("search.json", "stage-[0-9]*.safetensors")
FINISHED = ("model.safetensors", "stage-01.safetensors")  # these are worth keeping
VALIDATION_SHARE = 0.15
INTERRUPTED = "The same command with --resume goes on after the last finished epoch."


TRAIN_EPILOG = """\
examples:
  tinyamp train --device sim-muff                     about three minutes, on the excerpt that ships
  tinyamp train --device sim-metal --hidden-size 64 --preset paper --out runs/metal64
  tinyamp train --input dry.wav --target amp.wav --fix-alignment --out runs/my-amp
  tinyamp train --device sim-muff --out runs/muff --resume

The run's folder gets model.safetensors (the best epoch) and a checkpoint after every epoch. A run
that was stopped goes on with --resume and otherwise the same options.
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `train`."""
    train = commands.add_parser(
        "train",
        help="train a model of a device",
        description="Train a model of a simulated device, or of your own recording.",
        epilog=TRAIN_EPILOG,
        formatter_class=RAW,
    )
    add_training_set(train)
    train.add_argument(
        "--sample-rate", type=positive, default=SAMPLE_RATE, help="of the model, in Hz"
    )
    train.add_argument("--hidden-size", type=positive, default=32, help="default: 32")
    add_training(train)
    add_run_options(train, out="runs/NAME-SIZE")
    train.set_defaults(run=run_train, interrupted=INTERRUPTED)


def add_training_set(parser: argparse._ActionsContainer) -> None:
    """Add the options that name a training and a validation set; see `training_sets`."""
    add_source(parser)
    parser.add_argument("--validation-input", type=path, help="a second dry signal, for validation")
    parser.add_argument(
        "--validation-target", type=path, help="and its target (without: the recording's last 15%%)"
    )
    add_pair_options(parser)
    parser.add_argument("--seconds", type=duration, help="train on the first SECONDS only")


def add_training(
    parser: argparse._ActionsContainer,
    *,
    epochs: str = "default: the preset's",
    seed: str = "of the weights and the shuffling",
    decay: str = "of the training (default: the preset's, 0)",
) -> None:
    """Add the options that say how to train."""
    parser.add_argument("--preset", choices=PRESETS, default="laptop", help="default: laptop")
    parser.add_argument("--epochs", type=positive, help=epochs)
    parser.add_argument("--seed", type=natural, default=0, help=seed)
    parser.add_argument("--weight-decay", type=float, metavar="LAMBDA", help=decay)


def add_run_options(parser: argparse._ActionsContainer, *, out: str) -> None:
    """Add the options that say where a run is kept and where it is computed."""
    parser.add_argument("--out", type=path, help=f"folder of the run (default: {out})")
    parser.add_argument(
        "--processor",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where to compute (default: auto, a GPU if there is one)",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    again.add_argument("--overwrite", action="store_true", help="replace the run in the folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def training_sets(args: argparse.Namespace) -> tuple[Recording, Recording, Recording | None]:
    """The training, validation and (for a device) test sets that the options name."""
    second = (args.validation_input, args.validation_target)
    if (second[0] is None) != (second[1] is None):
        raise InputError("--validation-input and --validation-target go together.")
    if args.device is not None:
        if any(second):
            raise InputError("A device has its own validation set: omit --validation-input.")
        if args.sample_rate != SAMPLE_RATE:
            raise InputError(
                f"The recordings of {args.device} are at {SAMPLE_RATE} Hz, and the model is for "
                f"{args.sample_rate} Hz; give --input and --target instead."
            )
        train = load(args.device, "train", seconds=args.seconds)
        return train, load(args.device, "validation"), load(args.device, "test")
    options = {"expected_rate": args.sample_rate, **pair_options(args)}
    train = read_pair(args.input, args.target, **options)
    if any(second):
        validation = read_pair(*second, **options)
    else:
        border = train.seconds * (1 - VALIDATION_SHARE)
        if len(train) * VALIDATION_SHARE < SEGMENT:
            raise InputError(
                f"{args.target} lasts {train.seconds:.2f} s, too short to split off a validation "
                f"part of {SEGMENT} samples; record more, or give --validation-input and -target."
            )
        train, validation = train.cut(0, border), train.cut(border)
    if args.seconds is not None:
        train = train.cut(0, args.seconds)
    return train, validation, None


def demand_segment(train_set: Recording, length: int) -> None:
    """Raise `InputError` unless one segment of `length` samples can be cut."""
    if len(train_set) < length:
        raise InputError(
            f"Training needs at least one segment of {length} samples, and there are "
            f"{len(train_set)}; record more or give more --seconds."
        )


def run_files(folder: Path) -> list[Path]:
    """The files in a folder that a training run or a mask search has written."""
    names = (*RUN_FILES, *SEARCH_FILES, *(f"unpruned/{name}" for name in RUN_FILES))
    return [file for name in names for file in sorted(folder.glob(name))]


def prepare_run(folder: Path, args: argparse.Namespace, *, reads: Path | None = None) -> dict:
    """Refuse or clear a folder that holds a run; return the keyword arguments of `train` for it.

    The file that the new run `reads` must not be in the folder. Call this last: all that can be
    refused must be refused before an older run is deleted.
    """
    from tinyamp.train import pick_device

    device = pick_device(None if args.processor == "auto" else args.processor)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; --out must name a folder.")
    there = run_files(folder)
    if reads is not None and any(file.samefile(reads) for file in there):
        raise InputError(f"{folder} holds {reads}, which is read here; choose another --out.")
    if there and not (args.resume or args.overwrite):
        raise InputError(
            f"{folder} holds a run already; go on with it with --resume, replace it with "
            "--overwrite, or choose another --out."
        )
    fresh = not any(file.name == "checkpoint.safetensors" for file in there)
    if args.resume and fresh and any(file.name in FINISHED for file in there):
        raise InputError(
            f"{folder} holds a run without a checkpoint to go on from; replace it with "
            "--overwrite, or choose another --out."
        )
    demand_writable(folder)
    if args.overwrite:
        for file in there:
            file.unlink()
    elif args.resume and fresh:
        print(f"There is no checkpoint in {folder}; starting from the beginning.")
    return {
        "folder": folder,
        "resume": args.resume,
        "progress": args.progress,
        "device": device.type,
    }


def run_train(args: argparse.Namespace) -> None:
    """Train, and say where the model is and how good."""
    check_source(args)
    train_set, validation_set, test_set = training_sets(args)
    from tinyamp.losses import esr
    from tinyamp.model import AmpLSTM, process, save_model
    from tinyamp.presets import with_changes
    from tinyamp.train import train

    settings = with_changes(
        args.preset, epochs=args.epochs, seed=args.seed, weight_decay=args.weight_decay
    )
    demand_segment(train_set, settings.segment_length)
    model = AmpLSTM(args.hidden_size, seed=args.seed, sample_rate=args.sample_rate)
    name = args.device or args.target.stem
    folder = args.out or Path("runs") / f"{name}-{args.hidden_size}"
    options = prepare_run(folder, args)
    history = train(model, train_set, validation_set, settings, **options)
    model = model.to("cpu")
    about = {"data": train_set.name, "preset": args.preset, "train": asdict(settings)}
    save_model(model, folder / "model.safetensors", settings=about)
    measured, what = (test_set, "test") if test_set else (validation_set, "validation")
    ratio = esr(measured.target, process(model, measured.input))
    print(f"trained on        {train_set.name}, {train_set.seconds:.1f} s")
    print(f"model             {folder / 'model.safetensors'}")
    print(f"validation loss   {history.best_loss:.5f} (epoch {history.best_epoch.epoch})")
    print(f"{what + ' ESR':<18}{100 * ratio:.2f} %")
