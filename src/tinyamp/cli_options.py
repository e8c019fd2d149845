"""Options that several commands share: what to read, and how."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from tinyamp.audio import CHANNELS
from tinyamp.data import AUTHORS, SIMULATED
from tinyamp.files import InputError

RAW = argparse.RawDescriptionHelpFormatter
DEVICES = SIMULATED + AUTHORS


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, but is {text!r}") from None


def positive(text: str) -> int:
    """A whole number from 1."""
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, but is {value}")
    return value


def natural(text: str) -> int:
    """A whole number from 0, as a seed is."""
    value = _whole(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2^63 - 1, but is {value}")
    return value


def duration(text: str) -> float:
    """A number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, but is {text!r}") from None
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be above 0 seconds, but is {text}")
    return value


def path(text: str) -> Path:
    """The name of a file or folder. Empty, as from an unset shell variable, is an error."""
    if not text:
        raise argparse.ArgumentTypeError("is an empty name")
    return Path(text)


def channel(text: str) -> int | str:
    """ "left", "right", "mix", or the number of a channel, from 0."""
    if text in CHANNELS:
        return text
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(
        f"must be left, right, mix or a number counted from 0, but is {text!r}"
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a device or a pair of files."""
    parser.add_argument("--device", choices=DEVICES, help="a device whose recordings are at hand")
    parser.add_argument(
        "--input", type=path, help="your own recording: the dry signal, WAV or FLAC"
    )
    parser.add_argument(
        "--target", type=path, help="your own recording: what the device made of it"
    )


def check_source(args: argparse.Namespace) -> None:
    """Raise `InputError` unless exactly one of the two ways was taken."""
    own = args.input is not None or args.target is not None
    if args.device is not None and own:
        raise InputError("Give either --device or --input and --target, not both.")
    if args.device is None and (args.input is None or args.target is None):
        raise InputError("Say what to use: --device NAME, or --input FILE and --target FILE.")


def add_pair_options(parser: argparse.ArgumentParser, *, pair: bool = True) -> None:
    """Add the options that say how to read a recording; `pair` adds those for two files."""
    parser.add_argument(
        "--channel",
        type=channel,
        metavar="{left,right,mix,N}",
        help="which channel to use of a file with several (mix: their average; N counts from 0)",
    )
    parser.add_argument(
        "--resample", action="store_true", help="convert another sample rate to the model's"
    )
    if pair:
        parser.add_argument("--trim", action="store_true", help="cut the longer file at its end")
        parser.add_argument(
            "--fix-alignment",
            action="store_true",
            help="shift a late or early target, and turn an inverted one",
        )


def pair_options(args: argparse.Namespace) -> dict:
    """The keyword arguments of `read_pair` that `add_pair_options` asks for."""
    return {
        "channel": args.channel,
        "resample": args.resample,
        "trim": args.trim,
        "fix_alignment": args.fix_alignment,
    }


def check_output(out: Path, *sources: Path, overwrite: bool) -> None:
    """Refuse an output that would destroy something or could not be written, before any work."""
    if out.is_dir():
        raise InputError(f"{out} is a folder; name the file to write.")
    for source in sources:
        if out.exists() and source.exists() and os.path.samefile(out, source):
            raise InputError(f"{out} is also what is read; choose another name for the output.")
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already; choose another name or add --overwrite.")


def demand_writable(folder: Path) -> None:
    """Make a folder, and refuse one that nothing can be written to: before the work, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"Cannot write into {folder}: {error.strerror or error}.") from error
