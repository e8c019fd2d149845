"""`tinyamp book`: the repository's address, in all files of the book that name it."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from tinyamp import book
from tinyamp.cli_options import RAW
from tinyamp.files import InputError

BOOK_HELP = """\
Where the book lives. Its notebooks, README, citation and shared links name the repository; they
get its address from `_config.yml`. For a copy of your own, set it once. Notebooks are stamped
without outputs.
"""
BOOK_EPILOG = """\
examples:
  tinyamp book check                                           do all files agree?
  tinyamp book set-repository https://github.com/OWNER/NAME    the address of your own copy
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `book` and its own commands."""
    parser = commands.add_parser(
        "book",
        help="set the repository's address in the book",
        description=BOOK_HELP,
        epilog=BOOK_EPILOG,
        formatter_class=RAW,
    )
    parser.set_defaults(run=lambda args: parser.print_help())
    actions = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name: str, run: Callable, help: str, example: str) -> argparse.ArgumentParser:
        epilog = f"examples:\n  tinyamp book {example}"
        action = actions.add_parser(name, help=help, epilog=epilog, formatter_class=RAW)
        action.set_defaults(run=run)
        return action

    add("check", run_check, "say which files do not agree with _config.yml", "check")
    add("stamp", lambda args: _print_written(book.stamp()), "write the address anew", "stamp")
    change = add(
        "set-repository",
        lambda args: _print_written(book.set_repository(args.url)),
        "change the address, then stamp",
        "set-repository https://github.com/OWNER/NAME",
    )
    change.add_argument("url", metavar="URL", help="such as https://github.com/OWNER/NAME")


def _print_written(paths: list) -> None:
    for path in paths:
        print(f"{path.relative_to(book.ROOT)}: written")
    if not paths:
        print("All files agree; nothing was written.")


def run_check(args: argparse.Namespace) -> None:
    """Say which files differ; raises `InputError` if any does."""
    names = [str(path.relative_to(book.ROOT)) for path in book.differing()]
    if names:
        raise InputError(f"{', '.join(names)}: not as stamped. Run: tinyamp book stamp")
    print("All files agree with _config.yml.")
