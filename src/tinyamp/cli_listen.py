"""`tinyamp listen`: make a listening test, simulate ratings, analyse what listeners saved.

What needs PyTorch or SciPy is imported where it is needed: they take seconds to load.
"""

from __future__ import annotations

import argparse

from tinyamp.cli_options import RAW, check_output, duration, natural, path, positive
from tinyamp.data import SIMULATED
from tinyamp.files import InputError

LISTEN_HELP = """\
A listening test of the MUSHRA kind, as in Section V-D of the paper: can listeners tell the pruned
model from the unpruned one, and both from the device?
"""
LISTEN_EPILOG = """\
examples:
  tinyamp listen make -o test.html                  both devices whose pruned models ship
  tinyamp listen make -o test.html --device sim-muff --seconds 5
  tinyamp listen analyse ratings-*.csv              what the listeners' files say
  tinyamp listen simulate -o simulated.csv          ratings by nobody, to try the analysis
"""
MAKE_HELP = """\
Make one HTML file with seven trials a device. Send it, or put it on a web site; each listener opens
it in a browser, and at the end saves a file of ratings.
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `listen` and its own commands."""
    listen = commands.add_parser(
        "listen",
        help="make and analyse a listening test (MUSHRA)",
        description=LISTEN_HELP,
        epilog=LISTEN_EPILOG,
        formatter_class=RAW,
    )
    listen.set_defaults(help=listen)
    parts = listen.add_subparsers(title="commands", metavar="COMMAND")

    make = parts.add_parser(
        "make",
        help="make the page",
        description=MAKE_HELP,
        epilog="examples:\n  tinyamp listen make -o test.html --device sim-muff",
        formatter_class=RAW,
    )
    make.add_argument("-o", "--out", type=path, required=True, help="the .html file to write")
    make.add_argument(
        "--device",
        action="append",
        choices=SIMULATED,
        help="may be given again (default: those whose pruned models ship)",
    )
    make.add_argument("--unpruned", type=path, metavar="FILE", help="your own model of --device")
    make.add_argument("--pruned", type=path, metavar="FILE", help="and what is left of it")
    make.add_argument("--seconds", type=duration, default=4.0, help="of a passage (default: 4)")
    make.add_argument("--seed", type=natural, default=0, help="draws the passages (default: 0)")
    make.add_argument(
        "--bits", type=positive, default=16, help="a sample, 8 to 16: fewer, and the file is small"
    )
    make.add_argument(
        "--order", type=natural, metavar="SEED", help="one order for all (default: each their own)"
    )
    make.add_argument("--title", default="Listening test", help="of the page")
    make.add_argument("--overwrite", action="store_true", help="replace an existing file")
    make.add_argument("--quiet", action="store_true", help="no progress bar")
    make.set_defaults(run=run_make, interrupted="Nothing was written.")

    analyse = parts.add_parser(
        "analyse",
        help="screen, average and compare ratings",
        epilog="examples:\n  tinyamp listen analyse ratings-*.csv",
        formatter_class=RAW,
    )
    analyse.add_argument("files", type=path, nargs="+", help="what the page saved: CSV or JSON")
    analyse.add_argument(
        "--keep-all", action="store_true", help="leave post-screening out (and say so)"
    )
    analyse.set_defaults(run=run_analyse)

    simulate = parts.add_parser(
        "simulate",
        help="write simulated ratings",
        epilog="examples:\n  tinyamp listen simulate -o simulated.csv --listeners 20",
        formatter_class=RAW,
    )
    simulate.add_argument("-o", "--out", type=path, required=True, help="a .csv or .json file")
    simulate.add_argument("--listeners", type=positive, default=12, help="default: 12")
    simulate.add_argument("--seed", type=natural, default=0, help="default: 0")
    simulate.add_argument("--overwrite", action="store_true", help="replace an existing file")
    simulate.set_defaults(run=run_simulate, interrupted="Nothing was written.")


def run_make(args: argparse.Namespace) -> None:
    """Make the page of a test."""
    check_output(args.out, overwrite=args.overwrite)
    if args.out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{args.out} must end in .html, which is what is written.")
    if (args.unpruned is None) != (args.pruned is None):
        raise InputError("Give both models, --unpruned FILE and --pruned FILE, or neither.")
    if not 8 <= args.bits <= 16:
        raise InputError(f"--bits must be from 8 to 16, but is {args.bits}.")
    if args.order is not None and args.order >= 2**32:
        raise InputError("--order must be below 2^32.")
    if args.unpruned is not None and len(args.device or ()) != 1:
        raise InputError("Say of which device the models are: --device NAME, once.")
    from tinyamp.listening import DEVICES, make_trials, played_by, training_sounds
    from tinyamp.listening_page import describe, page, write_page

    devices = tuple(dict.fromkeys(args.device or DEVICES))
    models = None
    if args.unpruned is not None:
        models = played_by(args.unpruned), played_by(args.pruned)
    trials = make_trials(
        devices, seed=args.seed, seconds=args.seconds, models=models, progress=args.progress
    )
    ears = devices[0] if devices[0] in DEVICES else DEVICES[0]
    training = training_sounds(ears, seed=args.seed, seconds=args.seconds)
    description = describe(trials, training, bits=args.bits, seed=args.order)
    write_page(page(description, title=args.title), args.out)
    size = args.out.stat().st_size / 1e6
    print(f"{args.out}: test {description['id']}, {len(trials)} trials, {size:.1f} MB")
    print("  Each listener opens it in a browser and saves a file at the end.")
    print("  Then: tinyamp listen analyse ratings-*.csv")


def run_analyse(args: argparse.Namespace) -> None:
    """Print what files of ratings say."""
    from tinyamp.listening_ratings import missed, post_screen, read_ratings
    from tinyamp.listening_stats import compare, means

    ratings = read_ratings(*args.files)
    found = missed(ratings)
    if ratings[0].source == "simulated":
        print("SIMULATED ratings: nobody has listened.")
    print(f"{len(found)} listener{'s' if len(found) > 1 else ''}, {len(ratings)} ratings")
    kept, removed = post_screen(ratings)
    for name in removed:
        misses, trials = found[name]
        verb = "would be removed" if args.keep_all else "removed"
        print(f"{verb}: {name}, the hidden reference under 90 in {misses} of {trials} trials")
    if args.keep_all:
        kept = ratings
        print("Post-screening was left out (--keep-all).")
    if not kept:
        raise InputError("Post-screening removed every listener; --keep-all shows their ratings.")
    rows = means(kept)
    compared = compare(kept)
    print(f"\n{'device':12} {'sound':10} {'n':>3} {'mean':>6}   95 % interval")
    for m in rows:
        print(f"{m.device:12} {m.condition:10} {m.n:3} {m.mean:6.1f}   {m.low:.1f} to {m.high:.1f}")
    print("\npruned minus unpruned, each listener's average first:")
    for c in compared:
        print(
            f"{c.device}: {c.difference:+.1f} (95 %: {c.low:+.1f} to {c.high:+.1f}), n = {c.n}, "
            f"paired t test p = {c.p_t:.3g}, Wilcoxon signed-rank p = {c.p_rank:.3g}"
        )


def run_simulate(args: argparse.Namespace) -> None:
    """Write simulated ratings."""
    check_output(args.out, overwrite=args.overwrite)
    from tinyamp.listening_ratings import write_ratings
    from tinyamp.listening_simulated import simulate_ratings

    ratings = simulate_ratings(args.seed, listeners=args.listeners)
    write_ratings(ratings, args.out)
    print(f"{args.out}: {len(ratings)} SIMULATED ratings of {args.listeners} listeners")
