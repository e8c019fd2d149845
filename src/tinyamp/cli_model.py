"""`tinyamp evaluate` and `tinyamp process`: how good a model is, and what it sounds like.

PyTorch takes seconds to load, so it is imported where it is needed, not above.
"""

from __future__ import annotations

import argparse
import json
import warnings
from typing import TYPE_CHECKING

import numpy as np

from tinyamp.audio import SAMPLE_RATE, DataWarning, read_audio, write_audio
from tinyamp.cli_options import (
    RAW,
    add_pair_options,
    add_source,
    check_output,
    check_source,
    pair_options,
    path,
    positive,
)
from tinyamp.data import SPLITS, Recording, load, read_pair
from tinyamp.files import InputError

if TYPE_CHECKING:
    from tinyamp.model import AmpLSTM

EVALUATE_EPILOG = """\
examples:
  tinyamp evaluate runs/muff/model.safetensors --device sim-muff
  tinyamp evaluate runs/my-amp/model.safetensors --input dry.wav --target amp.wav --json
"""
PROCESS_EPILOG = """\
examples:
  tinyamp process runs/muff/model.safetensors dry.wav wet.wav
  tinyamp process runs/muff/model.safetensors dry-48k.wav wet.flac --resample --channel left

The output is mono, 24 bit, at the model's sample rate.
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `evaluate` and `process`."""
    evaluate = commands.add_parser(
        "evaluate",
        help="measure how close a model is to its device",
        description="Measure how close a model is to its device: ESR, training loss, dc, level.",
        epilog=EVALUATE_EPILOG,
        formatter_class=RAW,
    )
    evaluate.add_argument("model", type=path, help="a .safetensors file that `tinyamp train` wrote")
    add_source(evaluate)
    evaluate.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    add_pair_options(evaluate)
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(run=run_evaluate)

    process = commands.add_parser(
        "process",
        help="play a recording through a model",
        description="Play a dry recording through a model.",
        epilog=PROCESS_EPILOG,
        formatter_class=RAW,
    )
    process.add_argument("model", type=path, help="a .safetensors file that `tinyamp train` wrote")
    process.add_argument("input", type=path, help="the dry recording, WAV or FLAC")
    process.add_argument("output", type=path, help="the file to write, .wav or .flac")
    add_pair_options(process, pair=False)
    process.add_argument(
        "--block-size", type=positive, default=65_536, help="samples at a time; same sound"
    )
    process.add_argument("--overwrite", action="store_true", help="replace an existing output")
    process.add_argument("--quiet", action="store_true", help="no progress bar")
    process.set_defaults(run=run_process, interrupted="Nothing was written.")


def measures(model: AmpLSTM, recording: Recording) -> dict[str, float]:
    """How close a model's output is to the target of a recording.

    `esr` is the plain error-to-signal ratio, `loss` eq. (7) and `dc` eq. (6), all as ratios;
    `level_db` is by how many dB the output's RMS is above the target's.
    """
    import torch

    from tinyamp.losses import amp_loss, dc_loss, esr
    from tinyamp.model import process

    output = process(model, recording.input)
    target, prediction = (
        torch.as_tensor(np.asarray(x, np.float64))[None] for x in (recording.target, output)
    )
    power = [float(x.square().mean()) for x in (prediction, target)]
    return {
        "esr": esr(recording.target, output),
        "loss": amp_loss(target, prediction).item(),
        "dc": dc_loss(target, prediction).item(),
        "level_db": 10 * float(np.log10((power[0] + 1e-20) / (power[1] + 1e-20))),
    }


def run_evaluate(args: argparse.Namespace) -> None:
    """Print the measures of a model on a recording."""
    check_source(args)
    from tinyamp.model import load_model

    model = load_model(args.model)
    if args.device is not None:
        if model.sample_rate != SAMPLE_RATE:
            raise InputError(
                f"{args.model} is for {model.sample_rate} Hz, and the recordings of {args.device} "
                f"are at {SAMPLE_RATE} Hz; give --input and --target instead."
            )
        recording = load(args.device, args.split)
    else:
        options = pair_options(args)
        recording = read_pair(args.input, args.target, expected_rate=model.sample_rate, **options)
    values = measures(model, recording)
    if args.json:
        about = {"model": str(args.model), "recording": recording.name}
        print(json.dumps({**about, "seconds": recording.seconds, **values}, indent=1))
        return
    print(f"recording   {recording.name}, {recording.seconds:.1f} s")
    print(f"ESR         {100 * values['esr']:.3f} %")
    print(f"loss        {values['loss']:.5f}   (eq. 7)")
    print(f"dc          {values['dc']:.2e}   (eq. 6)")
    print(f"level       {values['level_db']:+.2f} dB against the target")


def run_process(args: argparse.Namespace) -> None:
    """Write what the model makes of a recording."""
    out = args.output
    if out.suffix.lower() not in (".wav", ".flac"):
        raise InputError(f"{out} must end in .wav or .flac, which says how it is to be written.")
    check_output(out, args.input, args.model, overwrite=args.overwrite)
    from tinyamp.model import load_model, process

    model = load_model(args.model)
    x, rate = read_audio(
        args.input,
        channel=args.channel,
        expected_rate=model.sample_rate,
        resample_to_expected=args.resample,
        allow_silence=True,
    )
    y = process(model, x, block_size=args.block_size, progress=args.progress)
    if not np.isfinite(y).all():
        raise InputError(f"{args.model} made NaN or infinite samples of {args.input}.")
    peak = float(np.abs(y).max(initial=0.0))
    if peak > 1:
        warnings.warn(
            f"the output goes beyond full scale, with a peak of {peak:.2f} "
            f"({20 * np.log10(peak):+.1f} dB), and is clipped; lower the input.",
            DataWarning,
            stacklevel=2,
        )
    write_audio(args.output, y, rate)
    print(f"{args.output}: {len(y) / rate:.2f} s at {rate} Hz, peak {peak:.3f}")
