"""`tinyamp compile`: a model as one C file, or as a WebAssembly module.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse

from tinyamp.cli_options import RAW, check_output, path
from tinyamp.csparse import LAYOUTS
from tinyamp.files import InputError, write_beside

DESCRIPTION = """\
Write a model as one C file that needs no library: a plug-in or a pedal takes it as it is. How to
use it stands at its top. With a name that ends in .wasm, that file becomes a WebAssembly module
for a web page, which imports nothing; this takes clang with wasm-ld, or `pip install ziglang`.
"""
EPILOG = """\
examples:
  tinyamp compile runs/muff/model.safetensors -o muff.c
  tinyamp compile runs/muff/model.safetensors -o muff.c --prefix muff
  tinyamp compile runs/muff/model.safetensors -o muff.wasm
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `compile`."""
    parser = commands.add_parser(
        "compile",
        help="write a model as one C file or as WebAssembly",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=RAW,
    )
    parser.add_argument("model", type=path, help="a .safetensors file that `tinyamp` wrote")
    parser.add_argument(
        "-o", "--out", type=path, required=True, help="the file to write, .c or .wasm"
    )
    parser.add_argument(
        "--prefix", default="amp", help="what the names in the file begin with; default: amp"
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="auto",
        help="keep every weight, or leave empty blocks out; default: what should be faster",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.set_defaults(run=run_compile, interrupted="Nothing was written.")


def run_compile(args: argparse.Namespace) -> None:
    """Write the C file or the WebAssembly module of a model."""
    out = args.out
    if out.suffix not in (".c", ".wasm"):
        raise InputError(f"{out} must end in .c or .wasm.")
    check_output(out, args.model, overwrite=args.overwrite)
    from tinyamp.compiler import planned_source
    from tinyamp.model import load_model

    model = load_model(args.model)
    source, plan = planned_source(model, prefix=args.prefix, layout=args.layout)
    data = source.encode()
    call = f"call {args.prefix}_init, then {args.prefix}_process for every block"
    if out.suffix == ".wasm":
        from tinyamp.wasm import build_wasm

        data = build_wasm(source)
        call = f"{args.prefix}_process plays what is at {args.prefix}_input() in its memory"
    with write_beside(out) as temporary:
        temporary.write_bytes(data)
    print(
        f"{out}: {model.hidden_size} units at {model.sample_rate} Hz, {len(data) / 1000:.0f} kB; "
        + call
    )
    print(f"  {plan.layout}: {plan.reason}")
