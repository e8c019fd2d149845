"""`tinyamp page`: what the book's page plays, and how fast. Torch is loaded where it is needed."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyamp.cli_options import RAW, path, positive

BUILD = """\
Write what the listening bench and the live amp of the book play: loops, what the devices make of
them, and every stage of the models, compiled to WebAssembly. `make book` does this by itself.
"""
SPEED = """\
Measure in Node how many times faster than real time the page's modules play, on one thread. Each is
measured in several passes, of which the fastest counts. The page measures it in the browser.
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `page build` and `page speed`."""
    parser = commands.add_parser(
        "page",
        help="what the book's page plays, and how fast",
        epilog="examples:\n  tinyamp page build book/_static/play",
        formatter_class=RAW,
    )
    parser.set_defaults(help=parser)
    below = parser.add_subparsers(title="commands", metavar="COMMAND")
    build = below.add_parser(
        "build",
        help="write loops, targets and modules",
        description=BUILD,
        epilog="examples:\n  tinyamp page build book/_static/play",
        formatter_class=RAW,
    )
    build.set_defaults(
        run=run_build, interrupted="What was computed is kept: the same command goes on."
    )
    speed = below.add_parser(
        "speed",
        help="measure every stage in Node",
        description=SPEED,
        epilog="examples:\n  tinyamp page speed book/_static/play --passes 5",
        formatter_class=RAW,
    )
    speed.add_argument("--passes", type=positive, default=3, help="default: 3")
    speed.set_defaults(run=run_speed)
    for one in (build, speed):
        one.add_argument("folder", type=path, help="of assets, such as book/_static/play")
    build.add_argument("--quiet", action="store_true", help="no progress bar")


def run_build(args: argparse.Namespace) -> None:
    """Build the assets and say what there is."""
    from tinyamp.web_assets import build_assets

    manifest = build_assets(args.folder, progress=args.progress)
    sizes = [(args.folder / name).stat().st_size for name in manifest["files"]]
    stages = ", ".join(f"{device['id']} {len(device['stages'])}" for device in manifest["devices"])
    print(f"{args.folder}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB. Stages: {stages}.")
    if not manifest["compiled"]:
        print(f"The page will have players instead of the live amp. {manifest['reason']}")


def run_speed(args: argparse.Namespace) -> None:
    """Print one line a stage."""
    from tinyamp.web_speed import measure

    rows = measure(Path(args.folder), args.passes)
    print(f"{'device':<12}{'stage':>6}{'units':>7}{'weights':>9}{'kB':>7}{'x real time':>13}")
    for row in rows:
        print(
            f"{row['device']:<12}{row['number']:>6}{row['units']:>7}{row['active']:>9}"
            f"{row['bytes'] / 1000:>7.1f}{row['speed']:>13.0f}"
        )
