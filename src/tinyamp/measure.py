"""What a device does to a signal, in numbers: levels, spectra, curves, settling time.

`process` in these functions is anything that turns an input (time,) into an output (time,): a
simulated device (`lambda x: simulate("sim-lead", x)`) or a trained model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.signal import welch

from tinyamp.audio import SAMPLE_RATE
from tinyamp.files import InputError

Process = Callable[[np.ndarray], np.ndarray]
_SILENCE_DB = -200.0


def rms_db(x: np.ndarray) -> float:
    """The RMS level of x in dB relative to full scale (a constant 1.0 is 0 dB); -200 at silence."""
    x = _signal(x)
    return _decibels(float(np.sqrt(np.mean(x**2))))


def peak_db(x: np.ndarray) -> float:
    """The largest absolute sample of x in dB relative to full scale; -200 at silence."""
    return _decibels(float(np.abs(_signal(x)).max()))


def _signal(x: np.ndarray) -> np.ndarray:
    """x as float64 (time,); raises `InputError` when it is empty, not one channel or not finite."""
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 1 or not x.size:
        raise InputError(f"One channel (time,) was expected, but the shape is {x.shape}.")
    if not np.isfinite(x).all():
        raise InputError("The signal contains NaN or infinity.")
    return x


def _decibels(amplitude: float) -> float:
    return max(20.0 * np.log10(amplitude), _SILENCE_DB) if amplitude > 0.0 else _SILENCE_DB


def magnitude_spectrum(
    x: np.ndarray, sample_rate: int = SAMPLE_RATE, *, resolution: float = 5.0
) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (Hz) and magnitudes (dB), averaged over half-overlapping Hann windows (Welch).

    A window is 1/`resolution` seconds, or the whole signal if that is shorter. A sine that lies on
    a bin shows its RMS level: full scale is -3 dB. Raises `InputError` for a bad signal.
    """
    x = _signal(x)
    if not resolution > 0:
        raise InputError(f"resolution must be above 0 Hz, but {resolution} came.")
    length = min(len(x), max(8, round(sample_rate / resolution)))
    frequencies, power = welch(
        x, sample_rate, "hann", length, scaling="spectrum", detrend=False, average="mean"
    )
    floor = 10.0 ** (_SILENCE_DB / 10.0)
    return frequencies, 10.0 * np.log10(np.maximum(power, floor))


def transfer_curve(
    process: Process,
    *,
    frequency: float = 110.0,
    levels_db: Sequence[float] = (-40.0, -30.0, -20.0, -10.0, 0.0),
    periods: int = 4,
    settle: float = 0.5,
    sample_rate: int = SAMPLE_RATE,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Output against input for a sine at each peak level in dB: a list of (input, output) arrays.

    Each sine runs `settle` seconds before the `periods` that are returned, so that a device with
    memory is in its steady state. A loop instead of a line is what memory and phase look like.
    """
    period = sample_rate / frequency
    before, kept = round(settle * sample_rate), round(periods * period)
    sine = np.sin(2.0 * np.pi * np.arange(before + kept) / period)
    curves = []
    for level in levels_db:
        x = (10.0 ** (level / 20.0) * sine).astype(np.float32)
        curves.append((x[before:], np.asarray(process(x))[before:]))
    return curves


def harmonic_levels(
    process: Process,
    *,
    frequency: float = 220.0,
    level_db: float = -12.0,
    harmonics: int = 10,
    settle: float = 0.5,
    sample_rate: int = SAMPLE_RATE,
) -> tuple[np.ndarray, float]:
    """Levels in dB of harmonics 1, 2, … of a sine through `process`, and their THD as a ratio.

    The frequency is moved to the next one with whole periods in one second. Harmonics above half
    the sample rate are left out. THD is the RMS of harmonics 2, 3, … over that of the first.
    """
    frequency = max(1, round(frequency))
    before = round(settle * sample_rate)
    phase = 2.0 * np.pi * frequency * np.arange(before + sample_rate) / sample_rate
    y = np.asarray(process((10.0 ** (level_db / 20.0) * np.sin(phase)).astype(np.float32)))
    # One second, so bin k is k Hz and the sine's periods are whole: no window is needed.
    amplitudes = np.abs(np.fft.rfft(y[before:].astype(np.float64))) * 2.0 / sample_rate
    bins = frequency * np.arange(1, harmonics + 1)
    found = amplitudes[bins[bins < sample_rate / 2]]
    thd = float(np.sqrt(np.sum(found[1:] ** 2)) / max(found[0], 1e-10))
    return np.array([_decibels(float(value)) for value in found]), thd


def impulse_response(
    process: Process,
    *,
    amplitude: float = 1.0,
    width: float = 1e-3,
    duration: float = 3.0,
    lead: float = 0.5,
    sample_rate: int = SAMPLE_RATE,
) -> np.ndarray:
    """The response (time,) to one rectangular pulse, from the pulse's start, minus the response
    to silence; `width`, `duration` and the silence before it, `lead`, are in seconds.

    The default, full scale for 1 ms, is long enough to charge what a hard-hit string charges.
    """
    x = np.zeros(round((lead + duration) * sample_rate), np.float32)
    start = round(lead * sample_rate)
    quiet = np.asarray(process(x), dtype=np.float64)
    x[start : start + max(1, round(width * sample_rate))] = amplitude
    return (np.asarray(process(x), dtype=np.float64) - quiet)[start:]


def settling_time(
    process: Process,
    *,
    level_db: float = -60.0,
    amplitude: float = 1.0,
    width: float = 1e-3,
    duration: float = 3.0,
    lead: float = 0.5,
    sample_rate: int = SAMPLE_RATE,
) -> float:
    """Seconds after an impulse until the output stays at its steady state (the paper's Fig. 7).

    The impulse is that of `impulse_response`; time counts from its start. The output has settled
    when its distance from the response to silence stays below `level_db` relative to the largest
    distance. Raises `InputError` when `level_db` is not negative, there is no response, or it is
    not settled within the last sample of `duration` seconds.
    """
    if not level_db < 0.0:
        raise InputError(f"level_db must be below 0 dB, but {level_db} came.")
    response = np.abs(
        impulse_response(
            process,
            amplitude=amplitude,
            width=width,
            duration=duration,
            lead=lead,
            sample_rate=sample_rate,
        )
    )
    if not np.isfinite(response).all() or not response.max() > 0.0:
        raise InputError("There is no finite response to the impulse.")
    outside = np.flatnonzero(response > response.max() * 10.0 ** (level_db / 20.0))
    if outside[-1] == len(response) - 1:
        raise InputError(
            f"The output has not settled within {duration:g} s; give a longer duration."
        )
    return float((outside[-1] + 1) / sample_rate)
