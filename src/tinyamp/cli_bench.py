"""`tinyamp bench`: how fast a model plays, in every way that this machine has.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from tinyamp.cli_options import RAW, check_output, duration, path, positive
from tinyamp.files import InputError, write_beside

if TYPE_CHECKING:
    from tinyamp.bench import Report
    from tinyamp.model import AmpLSTM
    from tinyamp.realtime import Timing

KINDS = ("python", "numpy", "pytorch", "onnx", "compiled")
DESCRIPTION = """\
Measure the real-time factor (RTF) of a model: the time that it computes, divided by the time that
the audio lasts. Below 1 it runs in real time. Plain Python, NumPy, PyTorch, ONNX Runtime and the
compiled model, with every vector width of this processor, take turns in one run on one thread;
medians are shown, and the largest error against float64. Slow ways play less of the audio.
"""
EPILOG = """\
examples:
  tinyamp bench runs/muff/model.safetensors
  tinyamp bench big.safetensors small.safetensors --only compiled    also side by side
  tinyamp bench runs/muff/model.safetensors --jitter --json muff.json
  tinyamp bench --hidden-size 64 --sparsity 0.95 --only compiled     dense against sparse code

Close other programs first. ONNX Runtime takes part after `pip install onnx onnxruntime`.
"""


def _share(text: str) -> float:
    """A share from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, but is {text!r}") from None
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to below 1, but is {text}")
    return value


def _kinds(text: str) -> tuple[str, ...]:
    """Names of `KINDS`, with commas between them."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in KINDS:
            raise argparse.ArgumentTypeError(f"knows {', '.join(KINDS)}, but not {name!r}")
    return tuple(name for name in KINDS if name in names)


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `bench`."""
    parser = commands.add_parser(
        "bench",
        help="measure how fast a model plays",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=RAW,
    )
    parser.add_argument(
        "models", type=path, nargs="*", metavar="MODEL", help=".safetensors files of `tinyamp`"
    )
    parser.add_argument(
        "--hidden-size", type=positive, metavar="H", help="also a model with H random units"
    )
    parser.add_argument(
        "--sparsity", type=_share, metavar="S", help="set this share of its LSTM weights to zero"
    )
    parser.add_argument(
        "--only", type=_kinds, default=KINDS, metavar="KINDS", help=f"some of {','.join(KINDS)}"
    )
    parser.add_argument(
        "--seconds", type=duration, default=1.0, help="of audio that is played; default: 1"
    )
    parser.add_argument(
        "--block", type=positive, default=64, help="samples in a block; default: 64"
    )
    parser.add_argument(
        "--rounds", type=positive, default=21, help="each takes every turn once; default: 21"
    )
    parser.add_argument(
        "--jitter", action="store_true", help="also the times of single blocks, 16 to 512 samples"
    )
    parser.add_argument("--json", type=path, metavar="FILE", help="write the numbers to a file")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run_bench, interrupted="No file was written.")


def run_bench(args: argparse.Namespace) -> None:
    """Print a table for each model, and one that compares the models."""
    if not args.models and args.hidden_size is None:
        raise InputError("Name a model file, or give --hidden-size for random weights.")
    if args.sparsity is not None and args.hidden_size is None:
        raise InputError("--sparsity is for random weights: give --hidden-size with it.")
    if args.json is not None:
        check_output(args.json, *args.models, overwrite=args.overwrite)
    from tinyamp.bench import bench, machine, random_model, side_by_side
    from tinyamp.model import load_model
    from tinyamp.realtime import cpu_name

    models = {str(file): load_model(file) for file in args.models}
    if args.hidden_size is not None:
        share = args.sparsity or 0.0
        zeros = f", {100 * share:g} % zeros" * (share > 0)
        models[f"random weights{zeros}"] = random_model(args.hidden_size, share)
    print(
        f"{cpu_name()}, one thread. {args.seconds:g} s of guitar, medians of {args.rounds} rounds."
    )
    reports = []
    for name, model in models.items():
        report = bench(
            model,
            name=name,
            kinds=args.only,
            seconds=args.seconds,
            block=args.block,
            rounds=args.rounds,
            jitter=args.jitter,
            progress=args.progress,
        )
        reports.append(report)
        print("\n".join(["", *table(report), *jitter_table(report)]), flush=True)
    together: dict[str, Timing] = {}
    if len(models) > 1:
        together = side_by_side(
            models,
            seconds=args.seconds,
            rounds=args.rounds,
            progress=args.progress,
        )
        print("\n".join(["", *summary(models, together)]))
    if args.json is not None:
        about = {"cpu": cpu_name(), **machine(), "seconds": args.seconds, "block": args.block}
        first = next(iter(together.values()), None)
        content = {
            **about,
            "models": [report.as_dict() for report in reports],
            "side_by_side": {
                name: {"rtf": timing.median, "times_the_first": timing.times_faster_than(first)}
                for name, timing in together.items()
            },
        }
        with write_beside(args.json) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        print(f"\n{args.json}: the numbers of {len(reports)} model{'s' * (len(reports) > 1)}")


def table(report: Report) -> list[str]:
    """The lines of one model's table: `<-` marks what `tinyamp` uses by itself."""
    units = f"{report.hidden_size} hidden unit" + "s" * (report.hidden_size > 1)
    width = max(len(row.name) for row in report.rows)
    lines = [
        f"{report.model}: {units}, {report.sample_rate} Hz, "
        f"{100 * report.sparsity:.1f} % of its LSTM weights are zero",
        "",
        f"{'':{width}}       RTF   half of the rounds    x real time   max error",
    ]
    for row in report.rows:
        low, high = row.timing.quartiles
        lines.append(
            f"{row.name:{width}}  {row.timing.median:8.5f}   {low:8.5f} - {high:8.5f}   "
            f"{row.timing.speed:11.4g}   {row.max_error:9.1e}{'  <-' * row.is_default}"
        )
    return lines + [""] * bool(report.notes) + report.notes


def jitter_table(report: Report) -> list[str]:
    """The lines of the block-time table, in microseconds; nothing if it was not measured."""
    if not report.jitter:
        return []
    lines = [
        "",
        f"Times of single blocks in microseconds, from Python ({report.jitter_of}):",
        " block   deadline     median       99 %     99.9 %    longest   misses",
    ]
    for times in report.jitter:
        values = (times.deadline, times.median, times.quantile(0.99), times.quantile(0.999))
        numbers = "".join(f"{1e6 * value:11.1f}" for value in (*values, times.maximum))
        lines.append(f"{times.block_size:6d}{numbers}   {times.misses} of {len(times.times)}")
    return lines


def summary(models: dict[str, AmpLSTM], timings: dict[str, Timing]) -> list[str]:
    """The lines that compare the models as `tinyamp` plays them, timed side by side."""
    first = next(iter(timings.values()))
    width = max(len(name) for name in models)
    lines = [
        "Side by side, each as tinyamp plays it by itself:",
        f"{'':{width}}  units       RTF   x real time   x the first",
    ]
    for name, timing in timings.items():
        lines.append(
            f"{name:{width}}  {models[name].hidden_size:5d}  {timing.median:8.5f}   "
            f"{timing.speed:11.4g}   {timing.times_faster_than(first):11.2f}"
        )
    return lines
