"""`tinyamp export` and `tinyamp import`: models for other players, and from them.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse

from tinyamp.cli_options import RAW, check_output, path, positive
from tinyamp.files import InputError

FORMATS = ("nam", "aidax", "guitarml")
EXPORT_HELP = """\
Write a model for another player: Neural Amp Modeler (.nam), AIDA-X and RTNeural (.json), or
GuitarML's Proteus and NeuralPi (.json). A .nam file cannot add the input to the output, as our
models do; one more hidden unit does it there, and how exactly is printed.
"""
EXPORT_EPILOG = """\
examples:
  tinyamp export runs/muff/model.safetensors muff.nam
  tinyamp export runs/muff/model.safetensors muff.json                     for AIDA-X
  tinyamp export runs/muff/model.safetensors muff.json --format guitarml
"""
IMPORT_HELP = """\
Read a single-layer LSTM of another player; what kind of file it is, its content tells. An AIDA-X
file that carries a test signal is checked with it.
"""
IMPORT_EPILOG = """\
examples:
  tinyamp import muff.nam muff.safetensors
  tinyamp import amp.json amp.safetensors --sample-rate 48000

`tinyamp process` plays a recording through the result.
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `export` and `import`."""
    export = commands.add_parser(
        "export",
        help="write a model for another player: .nam, AIDA-X, GuitarML",
        description=EXPORT_HELP,
        epilog=EXPORT_EPILOG,
        formatter_class=RAW,
    )
    export.add_argument("model", type=path, help="a .safetensors file that `tinyamp` wrote")
    export.add_argument("file", type=path, help="the file to write, .nam or .json")
    export.add_argument("--format", choices=FORMATS, help="default: nam for .nam, aidax for .json")
    _add_common(export)
    export.set_defaults(run=run_export)

    read = commands.add_parser(
        "import",
        help="read a model of another player: .nam, AIDA-X, GuitarML",
        description=IMPORT_HELP,
        epilog=IMPORT_EPILOG,
        formatter_class=RAW,
    )
    read.add_argument("file", type=path, help="the file to read, .nam or .json")
    read.add_argument("model", type=path, help="the .safetensors file to write")
    read.add_argument("--format", choices=FORMATS, help="default: told by the content")
    read.add_argument(
        "--sample-rate", type=positive, metavar="HZ", help="of a file that does not say"
    )
    _add_common(read)
    read.set_defaults(run=run_import)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(interrupted="Nothing was written.")


def run_export(args: argparse.Namespace) -> None:
    """Write a model in another format."""
    check_output(args.file, args.model, overwrite=args.overwrite)
    from tinyamp.formats import FORMATS, export_model, format_for
    from tinyamp.model import load_model

    format_for(args.file, args.format)
    model = load_model(args.model)
    done = export_model(model, args.file, format=args.format)
    units = f"{done.hidden_size} hidden unit{'s' if done.hidden_size > 1 else ''}"
    print(f"{args.file}: {FORMATS[done.format]}, {units}, {model.sample_rate} Hz")
    _print_notes(done.notes)


def run_import(args: argparse.Namespace) -> None:
    """Write what a file of another format holds as a model of ours."""
    check_output(args.model, args.file, overwrite=args.overwrite)
    if args.model.suffix.lower() != ".safetensors":
        raise InputError(f"{args.model} must end in .safetensors, which is what is written.")
    from tinyamp.formats import FORMATS, import_model
    from tinyamp.model import save_model

    done = import_model(args.file, format=args.format, sample_rate=args.sample_rate)
    save_model(done.model, args.model)
    units = f"{done.model.hidden_size} hidden unit{'s' if done.model.hidden_size > 1 else ''}"
    print(f"{args.model}: from {FORMATS[done.format]}, {units}, {done.model.sample_rate} Hz")
    _print_notes(done.notes)


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"  {note}")
