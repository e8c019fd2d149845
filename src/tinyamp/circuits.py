"""Four distortion devices, simulated from their component values.

Each is a netlist in `data/circuits/` (see `tinyamp.netlist`), solved sample by sample at several
times the sample rate (see `tinyamp.solver`). Simulated devices stand in for the paper's recorded
ones (section IV-A2). At the input, digital full scale is 1 V, a loud guitar's peak; at the output
the netlist itself scales volts to digital full scale, which no knob setting can pass.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import firwin, kaiser_beta, upfirdn
from tqdm.std import tqdm

from tinyamp.files import InputError, data_folder
from tinyamp.netlist import KNOBS, Netlist, parse, with_knobs
from tinyamp.solver import Solver, prepare

# The resampling filter: linear phase, 90 dB down from 24.1 kHz on, flat to 20 kHz (at 44.1 kHz).
_STOPBAND_DB = 90.0
_HALF_LENGTH = 32  # in samples at the low rate
_BLOCK = 1 << 15  # input samples a block: memory stays small however long the signal is


@dataclass(frozen=True)
class Controls:
    """Knob positions, each from 0 (fully counter-clockwise) to 1."""

    gain: float
    tone: float
    volume: float


@dataclass(frozen=True)
class Device:
    """A simulated device: its name, a title for people, one sentence, its usual knobs."""

    name: str
    title: str
    about: str
    defaults: Controls


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device(
            "sim-muff",
            "Simulated fuzz",
            "Two cascaded diode-clipping stages and a tone stack, in the manner of a Big Muff: "
            "heavy distortion, short memory.",
            Controls(gain=0.5, tone=0.5, volume=0.7),
        ),
        Device(
            "sim-crunch",
            "Simulated crunch amplifier",
            "One lightly driven 12AX7 triode stage: mild, asymmetric distortion, short memory.",
            Controls(gain=0.5, tone=0.5, volume=0.7),
        ),
        Device(
            "sim-lead",
            "Simulated lead amplifier",
            "Two cascaded 12AX7 triode stages whose grid current charges the coupling capacitors "
            "and whose supply sags: high gain, long memory.",
            Controls(gain=0.5, tone=0.5, volume=0.7),
        ),
        Device(
            "sim-metal",
            "Simulated metal amplifier",
            "Three cascaded 12AX7 triode stages with a scooped tone: the most gain and distortion, "
            "long memory.",
            Controls(gain=0.5, tone=0.5, volume=0.7),
        ),
    )
}


def _device(name: str) -> Device:
    if name not in DEVICES:
        raise InputError(f"There is no device {name!r}; choose one of {', '.join(DEVICES)}.")
    return DEVICES[name]


def _controls(
    device: Device, gain: float | None, tone: float | None, volume: float | None
) -> Controls:
    """Knobs with the device's defaults filled in; raises `InputError` outside 0..1."""
    values = {}
    for knob, value in zip(KNOBS, (gain, tone, volume), strict=True):
        value = getattr(device.defaults, knob) if value is None else value
        try:
            values[knob] = float(value)
        except (TypeError, ValueError):
            raise InputError(f"The {knob} knob must be a number, but {value!r} came.") from None
        if not 0.0 <= values[knob] <= 1.0:
            raise InputError(f"The {knob} knob goes from 0 to 1, but {value} came.")
    return Controls(**values)


def netlist(device: str, controls: Controls | None = None) -> str:
    """The complete SPICE text of a device with the knob values filled in; ngspice runs it as is.

    Raises `InputError` for an unknown device, a knob outside 0..1 or a missing file.
    """
    kind = _device(device)
    knobs = controls or kind.defaults
    knobs = _controls(kind, knobs.gain, knobs.tone, knobs.volume)
    path = data_folder() / "circuits" / f"{device}.cir"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The netlist {path} cannot be read: {reason}.") from None
    return with_knobs(text, vars(knobs))


def circuit(device: str, controls: Controls | None = None) -> Netlist:
    """The parsed netlist of a device."""
    return parse(netlist(device, controls), name=f"{device}.cir")


def solver(device: str, controls: Controls | None = None, *, rate: float) -> Solver:
    """The solver of a device at `rate` steps a second (the oversampled rate), at rest."""
    return prepare(circuit(device, controls), rate, name=f"{device}.cir")


@lru_cache(maxsize=8)
def resampling_filter(factor: int) -> np.ndarray:
    """The low-pass (2 · 32 · factor + 1,) used for both directions; its gain at DC is 1."""
    taps = 2 * _HALF_LENGTH * factor + 1
    # 44.1 kHz: the -6 dB point is 22.05 kHz, half of what aliases lands above 20 kHz.
    return firwin(taps, 1.0 / factor, window=("kaiser", kaiser_beta(_STOPBAND_DB)))


def upsample(x: np.ndarray, factor: int) -> np.ndarray:
    """x (time,) at `factor` times the rate, float64 (factor · time,), without delay."""
    if factor == 1:
        return np.asarray(x, dtype=np.float64)
    wide = upfirdn(factor * resampling_filter(factor), np.asarray(x, dtype=np.float64), up=factor)
    half = _HALF_LENGTH * factor
    return wide[half : half + factor * len(x)]


def downsample(y: np.ndarray, factor: int) -> np.ndarray:
    """Every `factor`-th sample of y (time,) after the low-pass, without delay."""
    if factor == 1:
        return np.asarray(y, dtype=np.float64)
    narrow = upfirdn(resampling_filter(factor), np.asarray(y, dtype=np.float64), down=factor)
    return narrow[_HALF_LENGTH : _HALF_LENGTH + (len(y) + factor - 1) // factor]


def simulate(
    device: str,
    x: np.ndarray,
    *,
    gain: float | None = None,
    tone: float | None = None,
    volume: float | None = None,
    oversampling: int = 8,
    sample_rate: int = 44_100,
    progress: bool = False,
) -> np.ndarray:
    """The device's output, float32 (time,), for the input x (time,), sample-aligned with it.

    Knobs are 0..1, None is the device's default. The device starts at rest. The signal is solved
    at `oversampling` times `sample_rate` (Hz); both resampling filters are linear-phase and their
    delay is removed. Raises `InputError` for an unknown device, a knob outside 0..1, an x that is
    not one finite channel, or an oversampling that is not a whole number from 1 to 64. Steps that
    did not converge (none are known) are reported as a `RuntimeWarning` with their count.
    """
    controls = _controls(_device(device), gain, tone, volume)
    if isinstance(oversampling, bool) or not isinstance(oversampling, int | np.integer):
        raise InputError(f"oversampling must be a whole number, but {oversampling!r} came.")
    factor = int(oversampling)
    if not 1 <= factor <= 64:
        raise InputError(f"oversampling must be from 1 to 64, but {oversampling} came.")
    if not sample_rate > 0:
        raise InputError(f"sample_rate must be above 0 Hz, but {sample_rate} came.")
    try:
        x = np.asarray(x, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError("The input is not an array of numbers.") from None
    if x.ndim != 1:
        raise InputError(f"The input must be one channel (time,), but its shape is {x.shape}.")
    if not np.isfinite(x).all():
        raise InputError("The input contains NaN or infinity.")
    if np.abs(x).max(initial=0.0) > 100.0:
        raise InputError("The input is above 100 times full scale; audio is expected in -1..1.")

    model = solver(device, controls, rate=float(sample_rate) * factor)
    half = _HALF_LENGTH if factor > 1 else 0
    y = np.empty(len(x))
    # The filters reach `half` samples to both sides, so x stands in silence on both sides.
    padded = np.concatenate([np.zeros(2 * half), x, np.zeros(2 * half)])
    tail = np.zeros(0)  # oversampled output that the next block's decimation needs again
    blocks = range(half, half + len(x) + 2 * half, _BLOCK) if len(x) else range(0)
    bar = tqdm(blocks, desc=device, disable=not progress, leave=False)
    for start in bar:
        stop = min(start + _BLOCK, half + len(x) + 2 * half)
        # (stop - start + 2 half,) -> (factor (stop - start),)
        wide = upsample(padded[start - half : stop + half], factor)
        wide = wide[half * factor : (half + stop - start) * factor]
        tail = np.concatenate([tail, model.run(wide)])
        narrow = downsample(tail, factor)  # its first and last `half` samples are not whole
        whole = narrow[half : len(narrow) - half]
        first = stop - half - len(whole) - 2 * half  # index in y of whole[0]
        y[first : first + len(whole)] = whole
        tail = tail[len(whole) * factor :]
    if model.failed:
        warnings.warn(
            f"{device}: {model.failed} of {model.samples} steps did not converge.",
            RuntimeWarning,
            stacklevel=2,
        )
    return y.astype(np.float32)
