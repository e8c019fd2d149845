"""`tinyamp capture` and `tinyamp fit`: from an amp to a small model of it, in two commands.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tinyamp.audio import SAMPLE_RATE, DataWarning, write_audio
from tinyamp.cli_options import (
    RAW,
    channel,
    check_output,
    demand_writable,
    duration,
    natural,
    path,
    positive,
)
from tinyamp.files import InputError, write_beside
from tinyamp.take import INSTRUMENTS, SECONDS, advice, make_take

if TYPE_CHECKING:
    from tinyamp.fit_check import Check
    from tinyamp.fit_settings import FitSettings

PRESETS = ("laptop", "quick", "paper")
REPORT, NUMBERS = "report.html", "fit.json"
CAPTURE_EPILOG = """\
examples:
  tinyamp capture make -o capture.wav                   three and a half minutes
  tinyamp capture make -o bass.wav --instrument bass --seconds 240
"""
FIT_HELP = """\
Make a small model of an amp or pedal from two recordings: what went in and what came out. The
pair is checked and aligned; a model is trained, its weakest units are pruned in steps, and the
sparsest good step is trained again. The result is written as .nam, AIDA-X JSON, C and safetensors,
with a report to read and to hear. The default takes about ten minutes for 32 units.
"""
FIT_EPILOG = """\
examples:
  tinyamp fit capture.wav recorded.wav --check          look at the recordings, and stop
  tinyamp fit capture.wav recorded.wav -o my-amp
  tinyamp fit capture.wav recorded.wav -o my-amp --resume
  tinyamp fit capture.wav recorded.wav -o large --hidden-size 64
  tinyamp fit dry.wav amp.wav -o my-amp --preset quick   a rough model, in two minutes

A late, inverted or drifting recording is mended, another sample rate converted. The first 70 % of
the time are trained on, the next 15 % choose, the last 15 % are the test. A run that was stopped
goes on with --resume and otherwise the same options.
"""
INTERRUPTED = "The same command with --resume goes on after the last finished epoch."


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `capture` and `fit`."""
    capture = commands.add_parser(
        "capture",
        help="make a signal to play through your amp",
        description="Make a signal to play through your amp.",
        epilog=CAPTURE_EPILOG,
        formatter_class=RAW,
    )
    capture.set_defaults(help=capture)
    below = capture.add_subparsers(title="commands", metavar="COMMAND")
    make = below.add_parser(
        "make",
        help="write the signal as a WAV file, and say how to record",
        description="Write sync clicks, test signals and playing as a 44.1 kHz, 24-bit WAV file.",
        epilog=CAPTURE_EPILOG,
        formatter_class=RAW,
    )
    make.add_argument("-o", "--out", type=path, required=True, help="the file to write, .wav")
    make.add_argument("--seconds", type=duration, default=SECONDS, help=f"default: {SECONDS:g}")
    make.add_argument(
        "--instrument", choices=INSTRUMENTS, default="both", help="what plays; default: both"
    )
    make.add_argument("--seed", type=natural, default=0, help="another performance (default: 0)")
    make.add_argument("--overwrite", action="store_true", help="replace an existing file")
    make.add_argument("--quiet", action="store_true", help="no progress bar")
    make.set_defaults(run=run_make, interrupted="Nothing was written.")

    fit = commands.add_parser(
        "fit",
        help="make a small model of your own amp: all of the above in one go",
        description=FIT_HELP,
        epilog=FIT_EPILOG,
        formatter_class=RAW,
    )
    fit.add_argument("input", type=path, help="the dry signal, WAV or FLAC")
    fit.add_argument("target", type=path, help="what the device made of it")
    fit.add_argument("-o", "--out", type=path, help="folder (default: runs/TARGET-fit)")
    fit.add_argument("--check", action="store_true", help="only check the two recordings")
    fit.add_argument("--name", help="of the model and its files (default: the folder's)")
    fit.add_argument("--preset", choices=PRESETS, default="laptop", help="default: laptop")
    fit.add_argument(
        "--hidden-size", type=positive, help="units before pruning (default: 32, quick 16)"
    )
    fit.add_argument(
        "--slack",
        type=float,
        help="how many times the unpruned model's error the pruned one may have (default: 1.25)",
    )
    good = "the error (ESR) that is good enough in any case (default: 0.01, quick 0.03)"
    fit.add_argument("--good", type=float, help=good)
    fit.add_argument(
        "--score",
        choices=("magnitude", "unit"),
        help="what is pruned: the smallest weights, as in the paper (default with --preset paper), "
        "or the weakest units whole, which makes a faster model (default otherwise)",
    )
    fit.add_argument(
        "--channel",
        type=channel,
        metavar="{left,right,mix,N}",
        help="which channel to use of a file with several (mix: their average; N counts from 0)",
    )
    fit.add_argument(
        "--sample-rate",
        type=positive,
        help="of the model, in Hz (default: the recordings' if 44100 or 48000, else 44100)",
    )
    fit.add_argument("--seed", type=natural, default=0, help="of the weights and the shuffling")
    again = fit.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    again.add_argument("--overwrite", action="store_true", help="replace the run in the folder")
    fit.add_argument("--quiet", action="store_true", help="no progress bar")
    fit.set_defaults(run=run_fit, interrupted=INTERRUPTED)


def run_make(args: argparse.Namespace) -> None:
    """Write a take, and say what to do with it."""
    if args.out.suffix.lower() != ".wav":
        raise InputError(f"{args.out} must end in .wav, which every recorder plays.")
    check_output(args.out, overwrite=args.overwrite)
    take = make_take(
        args.seconds, instrument=args.instrument, seed=args.seed, progress=args.progress
    )
    write_audio(args.out, take, SAMPLE_RATE, subtype="PCM_24")
    print(f"{args.out}: {len(take) / SAMPLE_RATE:.1f} s at {SAMPLE_RATE} Hz, 24 bit, mono\n")
    print(advice(args.out))


def run_fit(args: argparse.Namespace) -> None:
    """Check, train, search, select, retrain, export and report."""
    from tinyamp.fit_check import check_pair, split

    folder = args.out or Path("runs") / f"{args.target.stem}-fit"
    name = re.sub(r"[^\w.+-]+", "-", args.name or folder.resolve().name).strip("-.") or "amp"
    settings = None if args.check else fit_settings(args)
    options = {"channel": args.channel, "sample_rate": args.sample_rate}
    recording, checks = check_pair(args.input, args.target, **options)
    print("\n".join(check_table(checks)), flush=True)
    if args.check:
        return
    from tinyamp.fit import fit
    from tinyamp.fit_export import export_all
    from tinyamp.fit_report import report
    from tinyamp.realtime import cpu_name

    recording = replace(recording, name=name)
    split(recording)  # refuses what cannot be split, before an older run is deleted
    prepare(folder, name, args)
    result = fit(
        recording,
        settings,
        folder=folder,
        resume=args.resume,
        progress=args.progress,
        seed=args.seed,
        say=lambda sentence: print(f"-> {sentence}", flush=True),
    )
    files = export_all(result, folder)
    page = report(result, checks, files, machine=cpu_name())
    numbers = {
        **result.as_dict(),
        "input": str(args.input),
        "target": str(args.target),
        "seed": args.seed,
        "checks": [vars(check) for check in checks],
        "files": [vars(file) for file in files],
    }
    for file, text in ((REPORT, page), (NUMBERS, json.dumps(numbers, indent=1) + "\n")):
        with write_beside(folder / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    before, after = result.unpruned, result.pruned
    if after.validation_esr > result.limit:
        limit = f"{100 * result.limit:.2f} %"
        warnings.warn(
            f"no stage that was tried has a validation ESR within {limit}; the best was taken.",
            DataWarning,
            stacklevel=1,
        )
    print(f"hidden units      {before.hidden_size} -> {after.hidden_size}")
    print(f"parameters        {before.parameters} -> {after.parameters} (without zeros)")
    print(f"test ESR          {100 * before.test_esr:.2f} % -> {100 * after.test_esr:.2f} %")
    print(f"real-time factor  {before.rtf:.5f} -> {after.rtf:.5f}")
    print(f"speed             {result.times_faster:.2f} times that of the unpruned model")
    print(f"took              {result.seconds / 60:.1f} min")
    for file in files:
        print(f"{file.title:<24}{folder / file.name}")
    print(f"{'report':<24}{folder / REPORT}")


def fit_settings(args: argparse.Namespace) -> FitSettings:
    """What the options of `fit` ask for."""
    from tinyamp.fit_settings import FIT_PRESETS
    from tinyamp.presets import changed
    from tinyamp.stages import by_score

    preset = FIT_PRESETS[args.preset]
    return changed(
        preset,
        hidden_size=args.hidden_size,
        slack=args.slack,
        good=args.good,
        search=by_score(preset.search, args.score or preset.search.score),
    )


def check_table(checks: list[Check]) -> list[str]:
    """One line a check; what was mended or should be looked at is marked."""
    marks = {"good": " ", "mended": "*", "warning": "!"}
    lines = [f"{marks[c.kind]} {c.name:<15} {c.found}" for c in checks]
    kinds = {c.kind for c in checks}
    legend = [f"{marks[k]} {k}" for k in ("mended", "warning") if k in kinds]
    return [*lines, *([f"  ({', '.join(legend)})"] if legend else [])]


def prepare(folder: Path, name: str, args: argparse.Namespace) -> None:
    """Refuse or clear a folder that holds a run; raise `InputError` if it cannot be written."""
    from tinyamp.fit import WORK
    from tinyamp.fit_export import file_names

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; --out must name a folder.")
    there = [folder / n for n in (REPORT, NUMBERS, *file_names(name)) if (folder / n).exists()]
    work = folder / WORK
    for source in (args.input, args.target):
        if any(source.samefile(file) for file in there) or work in source.resolve().parents:
            raise InputError(
                f"{source} is in {folder}, where the model goes; choose another --out."
            )
    if (there or work.exists()) and not (args.resume or args.overwrite):
        raise InputError(
            f"{folder} holds a run already; go on with it with --resume, replace it with "
            "--overwrite, or choose another --out."
        )
    if args.resume and there and not work.exists():
        raise InputError(
            f"{folder} holds a run without its checkpoints; replace it with --overwrite, or "
            "choose another --out."
        )
    demand_writable(folder)
    if args.overwrite:
        shutil.rmtree(work, ignore_errors=True)
        for file in there:
            file.unlink()
