"""The picture in the README: what goes in, what the device makes of it, what a model makes of it.

    python -m tinyamp.picture

Nothing in it is drawn by hand: the curves are the test excerpt through the device and through the
model that ships, and the figures in its titles are measured on it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tinyamp.book import ROOT
from tinyamp.data import Recording, load_excerpt
from tinyamp.files import InputError, data_folder, write_beside
from tinyamp.losses import esr
from tinyamp.model import load_model, process
from tinyamp.show import COLOURS, use_style

DEVICE = "sim-muff"
PICTURE = ROOT / "book" / "_static" / "picture.svg"


def lively_stretch(x: np.ndarray, length: int) -> int:
    """Where the stretch of `length` samples begins whose RMS is the upper quartile of all.

    The loudest stretch would flatter no one, and a silent one would show nothing.
    """
    starts = np.arange(0, len(x) - length, length)
    energy = [float(np.sum(np.square(x[s : s + length], dtype=np.float64))) for s in starts]
    return int(starts[np.argsort(energy)[int(0.75 * len(starts))]])


def draw(recording: Recording, prediction: np.ndarray, parameters: int, path: Path) -> None:
    """Draw 40 ms of input, target and prediction (time,) as an SVG file at `path`."""
    import matplotlib
    from matplotlib.figure import Figure

    length = round(0.04 * recording.sample_rate)
    start = lively_stretch(recording.target, length)
    part = slice(start, start + length)
    t = np.arange(length) / recording.sample_rate * 1e3
    error = esr(recording.target, prediction)
    with matplotlib.rc_context():
        use_style()
        # Text as outlines and a fixed salt: the same file on every machine.
        matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "tinyamp"})
        figure = Figure(figsize=(10.5, 3.1))
        dry, wet = figure.subplots(1, 2, width_ratios=[1, 1.9])
        dry.plot(t, recording.input[part], color="#6d6d74", linewidth=1.6)
        dry.set_title("The guitar")
        dry.set(xlabel="Time (ms)", ylabel="Amplitude")
        wet.plot(
            t,
            recording.target[part],
            color=COLOURS["target"],
            alpha=0.35,
            linewidth=6,
            label="device",
        )
        wet.plot(t, prediction[part], color=COLOURS["unpruned"], linewidth=1.7, label="model")
        wet.set_title(f"The device and its model, {parameters} parameters: error {error:.2%}")
        wet.set(xlabel="Time (ms)")
        wet.legend(loc="upper right", ncols=2, borderaxespad=0, bbox_to_anchor=(1, 1.02))
        for axes in (dry, wet):
            axes.margins(x=0)
            low, high = axes.get_ylim()
            axes.set_ylim(low, high + 0.16 * (high - low))
        with write_beside(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def main() -> int:
    """Draw what the model of the simulated fuzz hears; returns the exit code."""
    try:
        model = load_model(data_folder() / "models" / f"{DEVICE}-32.safetensors")
        test = load_excerpt(DEVICE, "test")
        parameters = sum(weights.numel() for weights in model.parameters())
        draw(test, process(model, test.input), parameters, PICTURE)
    except InputError as error:
        print(f"tinyamp.picture: {error}", file=sys.stderr)
        return 1
    print(f"{PICTURE.relative_to(ROOT)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
