"""`tinyamp data`: what there is, making it, fetching it, checking one's own recordings."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np

from tinyamp.align import TOLERANCE, estimate_alignment
from tinyamp.audio import SAMPLE_RATE, count_clipped
from tinyamp.cli_options import RAW, add_pair_options, natural, pair_options, path, positive
from tinyamp.data import AUTHORS, SIMULATED, SPLITS, find_pair, read_pair, root_folder

DATA_EPILOG = """\
examples:
  tinyamp data list                        what is on this machine
  tinyamp data make --device sim-muff      the full set of one simulated device
  tinyamp data fetch ht1                   the authors' recordings of a real amplifier
  tinyamp data check dry.wav amp.wav       is my own recording fit for training?
"""
MAKE_EPILOG = """\
examples:
  tinyamp data make                        all four devices: 342 s, 84 s and 64 s of audio each
  tinyamp data make --device sim-metal --short

A run that was stopped goes on where it was: give the same command again. All devices share one
input; another length or seed needs --overwrite, which removes the targets of the old one.
The sets are kept in data/made/full, or in "full" in the folder that TINYAMP_MADE names.
"""
FETCH_EPILOG = """\
examples:
  tinyamp data fetch ht1        Blackstar HT-1
  tinyamp data fetch muff       Electro-Harmonix Big Muff

Each file is verified. A transfer that broke is taken up where it stopped: give the same command
again. The files are kept in data/made/authors.
"""
CHECK_EPILOG = """\
examples:
  tinyamp data check dry.wav amp.wav
  tinyamp data check dry.wav amp.wav --channel left --resample

The checks are those that `tinyamp train --input dry.wav --target amp.wav` makes.
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `tinyamp data` and the commands below it."""
    data = commands.add_parser(
        "data",
        help="list, make, fetch and check recordings",
        description="List, make, fetch and check recordings.",
        epilog=DATA_EPILOG,
        formatter_class=RAW,
    )
    data.set_defaults(help=data)
    below = data.add_subparsers(title="commands", metavar="COMMAND")

    listing = below.add_parser(
        "list",
        aliases=["info"],
        help="show which sets are on this machine, and where",
        description="Show how long the sets on this machine are, and where they are.",
    )
    listing.set_defaults(run=run_list)

    make = below.add_parser(
        "make",
        help="make the full sets of the simulated devices",
        description="Play the synthesised guitar and bass through the simulated devices.",
        epilog=MAKE_EPILOG,
        formatter_class=RAW,
    )
    make.add_argument("--device", choices=("all", *SIMULATED), default="all", help="default: all")
    make.add_argument("--short", action="store_true", help="train set of 163 s instead of 342 s")
    make.set_defaults(
        run=run_make, interrupted="Finished files stay: the same command makes the rest."
    )

    excerpts = below.add_parser(
        "excerpts",
        help="for developers: make the excerpts that ship with the project",
        description="For developers: make the excerpts that ship with the project anew.",
    )
    excerpts.set_defaults(run=run_excerpts)
    for parser in (make, excerpts):
        parser.add_argument(
            "--seed", type=natural, default=0, help="another performance (default: 0)"
        )
        parser.add_argument("--overwrite", action="store_true", help="make what is there again")

    fetch = below.add_parser(
        "fetch",
        help="fetch the authors' recordings of real devices",
        description="Fetch the recordings that the paper's authors published.",
        epilog=FETCH_EPILOG,
        formatter_class=RAW,
    )
    fetch.add_argument("name", choices=AUTHORS)
    fetch.set_defaults(
        run=run_fetch, interrupted="What was fetched stays: the same command fetches the rest."
    )
    for parser in (make, excerpts, fetch):
        parser.add_argument("--quiet", action="store_true", help="no progress bar")

    check = below.add_parser(
        "check",
        help="check a recording of your own",
        description="Check the dry input of a device and the recording of what came out.",
        epilog=CHECK_EPILOG,
        formatter_class=RAW,
    )
    check.add_argument("input", type=path, help="the dry signal, WAV or FLAC")
    check.add_argument("target", type=path, help="what the device made of it")
    check.add_argument(
        "--sample-rate", type=positive, default=SAMPLE_RATE, help="of the model, in Hz"
    )
    add_pair_options(check)
    check.set_defaults(run=run_check)


def run_list(args: argparse.Namespace) -> None:
    """Print one line for each device and source."""
    import soundfile

    lines = [f"{'device':<12}{'source':<10}" + "".join(f"{split:>12}" for split in SPLITS)]
    for device in SIMULATED + AUTHORS:
        sources = ("authors",) if device in AUTHORS else ("excerpt", "full")
        for source in sources:
            cells = []
            for split in SPLITS:
                pair = find_pair(device, split, source)
                try:
                    cells.append(f"{soundfile.info(str(pair[1])).duration:.1f} s" if pair else "-")
                except soundfile.SoundFileError:
                    cells.append("damaged")
            lines.append(f"{device:<12}{source:<10}" + "".join(f"{cell:>12}" for cell in cells))
    lines += [f"{source}: {root_folder(source)}" for source in ("excerpt", "full", "authors")]
    print("\n".join(lines))


def run_make(args: argparse.Namespace) -> None:
    """Make the full sets."""
    from tinyamp import guitar, make

    seconds = make.SHORT_SECONDS if args.short else guitar.SECONDS
    _make(args, root_folder("full"), None if args.device == "all" else [args.device], seconds)


def run_excerpts(args: argparse.Namespace) -> None:
    """Make the excerpts that ship."""
    from tinyamp import make

    _make(args, root_folder("excerpt"), None, make.EXCERPT_SECONDS)


def _make(args: argparse.Namespace, root: Path, devices: list[str] | None, seconds: dict) -> None:
    from tinyamp.make import make

    made = make(
        root,
        devices,
        seconds=seconds,
        seed=args.seed,
        overwrite=args.overwrite,
        progress=args.progress,
    )
    size = sum(path.stat().st_size for path in root.rglob("*.flac"))
    print(f"{len(made)} files made; {root} holds {size / 1e6:.2f} MB of FLAC.")


def run_fetch(args: argparse.Namespace) -> None:
    """Fetch the authors' recordings."""
    from tinyamp.fetch import fetch

    paths = fetch(args.name, progress=args.progress)
    print(f"{len(paths)} verified files in {root_folder('authors')}.")


def run_check(args: argparse.Namespace) -> None:
    """Print what the checks found."""
    recording = read_pair(
        args.input, args.target, expected_rate=args.sample_rate, **pair_options(args)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alignment = estimate_alignment(
            recording.input, recording.target, sample_rate=recording.sample_rate
        )
    rate = recording.sample_rate
    print(f"sample rate   {rate} Hz")
    print(f"length        {len(recording)} samples, {recording.seconds:.3f} s")
    for name, x in (("input", recording.input), ("target", recording.target)):
        peak = 20 * np.log10(np.abs(x).max() + 1e-20)
        rms = 10 * np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-20)
        clipped = count_clipped(x)
        print(f"{name:<14}peak {peak:.1f} dB, RMS {rms:.1f} dB, {clipped} clipped samples")
    if alignment.clear:
        milliseconds = alignment.lag / rate * 1000
        good = f" (within {TOLERANCE}: good)" if abs(alignment.lag) <= TOLERANCE else ""
        print(f"lag           {alignment.lag} samples, {milliseconds:.2f} ms{good}")
        print(f"polarity      {'inverted' if alignment.inverted else 'as the input'}")
    else:
        print("lag           not clear: the two files show little likeness")
