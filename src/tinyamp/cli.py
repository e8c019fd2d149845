"""The `tinyamp` command: from `data` and `train` to `process`, `export` and `compile`.

What the user can mend is reported in one line on stderr, without a traceback: exit code 2 for bad
input, 1 for what went wrong on the way, 130 for an interrupt.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from tinyamp import (
    __version__,
    cli_bench,
    cli_book,
    cli_compile,
    cli_data,
    cli_fit,
    cli_formats,
    cli_listen,
    cli_model,
    cli_page,
    cli_retrain,
    cli_search,
    cli_study,
    cli_train,
)
from tinyamp.files import InputError

EPILOG = """\
examples:
  tinyamp data list                                   what there is to train on
  tinyamp train --device sim-muff --out runs/muff     train a small model of a simulated fuzz
  tinyamp search --device sim-muff                    find a small network in it, by pruning
  tinyamp retrain runs/sim-muff-32-search             train that, without its dead units
  tinyamp evaluate runs/muff/model.safetensors --device sim-muff
  tinyamp process runs/muff/model.safetensors dry.wav wet.wav
  tinyamp export runs/muff/model.safetensors muff.nam     for Neural Amp Modeler; also AIDA-X
  tinyamp compile runs/muff/model.safetensors -o muff.c   one C file; .wasm for a web page
  tinyamp bench runs/muff/model.safetensors           how fast it plays, in every way
  tinyamp listen make -o test.html                    a listening test in one page
  tinyamp fit capture.wav recorded.wav -o my-amp      your own amp: all of that in one go

`tinyamp COMMAND --help` tells more, with examples.
"""
NO_MEMORY = "there is not enough memory for this; use a smaller model or a shorter recording."


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, like all other errors here."""

    def error(self, message: str) -> NoReturn:
        print(f"tinyamp: error: {message} (see `{self.prog} --help`)", file=sys.stderr)
        raise SystemExit(2)


def build_parser() -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog="tinyamp",
        description="Train an LSTM to sound like a guitar amp or pedal, prune it, and play.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tinyamp {__version__}")
    parser.set_defaults(run=None, help=parser, interrupted="Run the same command again.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    cli_data.add_commands(commands)
    cli_train.add_commands(commands)
    cli_search.add_commands(commands)
    cli_retrain.add_commands(commands)
    cli_model.add_commands(commands)
    cli_formats.add_commands(commands)
    cli_compile.add_commands(commands)
    cli_study.add_commands(commands)
    cli_bench.add_commands(commands)
    cli_page.add_commands(commands)
    cli_listen.add_commands(commands)
    cli_fit.add_commands(commands)
    cli_book.add_commands(commands)
    return parser


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"tinyamp: warning: {message}", file=sys.stderr)


def _out_of_memory(error: Exception) -> bool:
    """Whether torch could not get memory: its GPU error has a name, its CPU error only a text."""
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _fail(message: object, code: int) -> int:
    text = " ".join(str(message).split())  # one line, whatever a library put into it
    print(f"tinyamp: error: {text}", file=sys.stderr)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: that of the process); return the exit code."""
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed help, the version or an error
        return stop.code if isinstance(stop.code, int) else 2
    if args.run is None:
        args.help.print_help()
        return 0
    quiet = getattr(args, "quiet", False)
    args.progress = not quiet and sys.stderr is not None and sys.stderr.isatty()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", module=r"tinyamp\b")
        warnings.showwarning = _show_warning
        try:
            args.run(args)
            if sys.stdout is not None:  # it is None when it was closed before the start
                sys.stdout.flush()
        except InputError as error:
            return _fail(error, 2)
        except KeyboardInterrupt:
            return _fail(f"interrupted. {args.interrupted}", 130)
        except BrokenPipeError:
            # The reader of our output has gone; there is nobody left to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except MemoryError:
            return _fail(NO_MEMORY, 1)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            return _fail(f"{place}{error.strerror or error}.", 1)
        except Exception as error:
            # Named, not imported, as that would load torch: a diverged run, a full disk, claims.
            if type(error).__name__ in ("DivergedError", "SafetensorError", "FragileError"):
                return _fail(error, 1)
            if _out_of_memory(error):
                return _fail(NO_MEMORY, 1)
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
