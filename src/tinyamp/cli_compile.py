"""`tinyamp compile`: a model as one C file.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse

from tinyamp.cli_options import RAW, check_output, path
from tinyamp.files import InputError, write_beside

DESCRIPTION = """\
Write a model as one C file that needs no library: a plug-in or a pedal takes it as it is. How to
use it stands at its top.
"""
EPILOG = """\
examples:
  tinyamp compile runs/muff/model.safetensors -o muff.c
  tinyamp compile runs/muff/model.safetensors -o muff.c --prefix muff
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `compile`."""
    parser = commands.add_parser(
        "compile",
        help="write a model as one C file",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=RAW,
    )
    parser.add_argument("model", type=path, help="a .safetensors file that `tinyamp` wrote")
    parser.add_argument("-o", "--out", type=path, required=True, help="the file to write, .c")
    parser.add_argument(
        "--prefix", default="amp", help="what the names in the file begin with; default: amp"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(run=run_compile, interrupted="Nothing was written.")


def run_compile(args: argparse.Namespace) -> None:
    """Write the C file of a model."""
    out = args.out
    if out.suffix != ".c":
        raise InputError(f"{out} must end in .c.")
    check_output(out, args.model, overwrite=args.overwrite)
    from tinyamp.compiler import model_source
    from tinyamp.model import load_model

    model = load_model(args.model)
    source = model_source(model, prefix=args.prefix)
    with write_beside(out) as temporary:
        temporary.write_text(source, encoding="utf-8")
    print(
        f"{out}: {model.hidden_size} units at {model.sample_rate} Hz, {len(source) / 1000:.0f} kB; "
        f"call {args.prefix}_init, then {args.prefix}_process for every block"
    )
