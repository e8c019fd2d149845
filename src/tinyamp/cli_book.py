"""`tinyamp book`: the repository's address in the book, and how firmly a chapter's claims hold."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from tinyamp import book
from tinyamp.cli_options import RAW, check_output, path, positive
from tinyamp.files import InputError

BOOK_HELP = """\
Where the book lives. Its notebooks, README, citation and shared links name the repository; they
get its address from `_config.yml`. For a copy of your own, set it once. Notebooks are stamped
without outputs. And whether what a chapter asserts holds on other machines and from other seeds.
"""
BOOK_EPILOG = """\
examples:
  tinyamp book check                                           do all files agree?
  tinyamp book set-repository https://github.com/OWNER/NAME    the address of your own copy
  tinyamp book claims 4 --out runs/claims-4.json               do its claims hold anywhere?
"""
CLAIMS_HELP = """\
Run a chapter many times and weigh its assertions. What depends on a training run differs from one
machine to the next, which round differently, and from seed to seed. So each run but the first
starts from other roundings (weights times 1 + 1e-6 noise) and, in turn, from other seeds; a claim
that differs between runs should hold in the worst of them by a factor of two. Those that do not
are marked !!, and the exit code is 1. Claims about speed differ, too: leave the machine in peace,
or read past them.
"""
CLAIMS_EPILOG = """\
examples:
  tinyamp book claims 4                                   20 runs over 5 seeds: half an hour
  tinyamp book claims 04-training.ipynb --runs 3          a first look
  tinyamp book claims 4 --out runs/claims-4.json          stopped? the same command goes on
  tinyamp book claims 4 --out runs/claims-4.json --runs 40    20 more

the table:
  cell:line   where the assertion is; cells are counted as Jupyter counts them, In [1] first
  worst       by what factor it holds in the worst run: for a < b that is b / a, below 1 it fails;
              - where there is none, as for ==, for decibels below 0, or for what is no number
  median      the same in the median run
  held        in how many of the runs that came to it
  in run 0    the values of the chapter as it stands
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `book` and its own commands."""
    parser = commands.add_parser(
        "book",
        help="set the repository's address in the book, weigh a chapter's claims",
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
    claims = actions.add_parser(
        "claims",
        help="whether a chapter's claims hold from any seed, on any machine",
        description=CLAIMS_HELP,
        epilog=CLAIMS_EPILOG,
        formatter_class=RAW,
    )
    claims.set_defaults(run=run_claims, interrupted="With --out, the same command goes on.")
    claims.add_argument("chapter", metavar="CHAPTER", help="its number, or its notebook")
    claims.add_argument("--runs", type=positive, default=20, help="how many (default: 20)")
    claims.add_argument("--seeds", type=positive, default=5, help="over how many (default: 5)")
    claims.add_argument("--jobs", "-j", type=positive, default=1, help="runs at once (default: 1)")
    claims.add_argument("--out", type=path, metavar="FILE", help="keep every finished run here")


def _print_written(paths: list) -> None:
    for written in paths:
        print(f"{written.relative_to(book.ROOT)}: written")
    if not paths:
        print("All files agree; nothing was written.")


def run_check(args: argparse.Namespace) -> None:
    """Say which files differ; raises `InputError` if any does."""
    names = [str(file.relative_to(book.ROOT)) for file in book.differing()]
    if names:
        raise InputError(f"{', '.join(names)}: not as stamped. Run: tinyamp book stamp")
    print("All files agree with _config.yml.")


def run_claims(args: argparse.Namespace) -> None:
    """Run a chapter many times; print how its claims fared; `FragileError` if some are fragile."""
    from tinyamp import book_claims

    chapter = book_claims.find_chapter(args.chapter)
    if args.out is not None:
        check_output(args.out, chapter, overwrite=True)
    runs = book_claims.run_all(
        chapter,
        runs=args.runs,
        seeds=args.seeds,
        jobs=args.jobs,
        out=args.out,
        progress=args.progress,
    )
    print(book_claims.report(runs))
    book_claims.demand_sturdy(runs)
