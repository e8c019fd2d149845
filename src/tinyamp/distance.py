"""How far a model is from its target, besides the ESR: over short-time spectra, and by octave.

The multi-resolution STFT distance is that of Yamamoto et al. (2020), with the settings and the
floor of auraloss (Steinmetz and Reiss, 2020): spectral convergence and log magnitude at three
resolutions. It looks at magnitudes alone, so it forgives a wrong phase, which the ESR does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tinyamp.audio import SAMPLE_RATE
from tinyamp.files import InputError

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))  # FFT, hop, window; samples
POWER_FLOOR = 1e-8  # smaller powers are raised to it, so that silence has a logarithm
ROUNDING = 1e-24  # a band with less of the energy than this holds nothing but rounding errors
CENTRES = (31.5, 63.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16_000.0)  # Hz


@dataclass(frozen=True)
class SpectralDistance:
    """The two parts of the multi-resolution STFT distance, each a mean over the resolutions."""

    convergence: float  # ‖S − Ŝ‖ / ‖S‖ over the magnitudes: the loud parts count
    log_magnitude: float  # mean |ln S − ln Ŝ|: loud and soft count alike

    @property
    def total(self) -> float:
        """The sum of the two: the number that auraloss returns."""
        return self.convergence + self.log_magnitude


def _pair(target: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (time,); `InputError` when they cannot be compared."""
    target = np.asarray(target, dtype=np.float64)
    prediction = np.asarray(prediction, dtype=np.float64)
    if target.ndim != 1 or target.shape != prediction.shape:
        raise InputError(
            "The target and the prediction must have one shape (time,); got "
            f"{target.shape} and {prediction.shape}."
        )
    if not (np.isfinite(target).all() and np.isfinite(prediction).all()):
        raise InputError("The target or the prediction contains NaN or infinity.")
    if not target.any():
        raise InputError("The target is silent, so the distance from it is not defined.")
    return target, prediction


def stft_magnitude(x: np.ndarray, size: int, hop: int, window: int) -> np.ndarray:
    """Magnitudes (size / 2 + 1, frames) of x (time,), float64, not below √`POWER_FLOOR`.

    A periodic Hann window of `window` samples stands in the middle of a frame of `size`; frame k
    is centred on sample k · `hop`, and the signal is mirrored at its ends, as in PyTorch.
    """
    spectrum = torch.stft(
        torch.as_tensor(x, dtype=torch.float64),
        size,
        hop,
        window,
        torch.hann_window(window, dtype=torch.float64),
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp(min=POWER_FLOOR).sqrt().numpy()


def stft_distance(target: np.ndarray, prediction: np.ndarray) -> SpectralDistance:
    """Multi-resolution STFT distance of a prediction from its target, both (time,).

    Raises `InputError` for signals that differ in length, are not finite, are shorter than half
    the longest FFT (1025 samples) or whose target is silent.
    """
    target, prediction = _pair(target, prediction)
    shortest = max(size for size, _, _ in RESOLUTIONS) // 2 + 1
    if len(target) < shortest:
        raise InputError(
            f"At least {shortest} samples are needed for a spectral distance; got {len(target)}."
        )
    convergence, log_magnitude = [], []
    for size, hop, window in RESOLUTIONS:
        wanted = stft_magnitude(target, size, hop, window)
        got = stft_magnitude(prediction, size, hop, window)
        convergence.append(np.linalg.norm(wanted - got) / np.linalg.norm(wanted))
        log_magnitude.append(np.mean(np.abs(np.log(wanted) - np.log(got))))
    return SpectralDistance(float(np.mean(convergence)), float(np.mean(log_magnitude)))


@dataclass(frozen=True)
class Octave:
    """One octave band: what of the target lies in it, and how well it is met."""

    centre: float  # Hz
    esr: float  # energy of the error over that of the target, in this band; NaN if it is empty
    share: float  # of the target's energy that lies in this band


def octave_esr(
    target: np.ndarray, prediction: np.ndarray, sample_rate: int = SAMPLE_RATE
) -> list[Octave]:
    """The error-to-signal ratio by octave band: eq. (5) without pre-emphasis, split up.

    Bands are the nominal ones, from centre / √2 to centre · √2. The lowest takes in all that lies
    below it, the highest all above, so that no energy is lost: the sum of share · ESR is the plain
    ESR, by Parseval's theorem. Centres above half the sample rate are left out. Raises
    `InputError` for signals that differ in length, are not finite or whose target is silent.
    """
    target, prediction = _pair(target, prediction)
    centres = [centre for centre in CENTRES if centre < sample_rate / 2]
    if not centres:
        raise InputError(f"There is no octave band at a sample rate of {sample_rate} Hz.")
    frequencies = np.fft.rfftfreq(len(target), 1 / sample_rate)
    weight = np.full(len(frequencies), 2.0)  # a bin stands for itself and its negative frequency
    weight[0] = 1.0
    if len(target) % 2 == 0:
        weight[-1] = 1.0
    signal = weight * np.abs(np.fft.rfft(target)) ** 2
    error = weight * np.abs(np.fft.rfft(target - prediction)) ** 2
    edges = [centre * np.sqrt(2.0) for centre in centres[:-1]]
    band = np.searchsorted(edges, frequencies, side="right")  # 0 … len(centres) - 1
    total = signal.sum()
    octaves = []
    for number, centre in enumerate(centres):
        mine, wrong = signal[band == number].sum(), error[band == number].sum()
        ratio = float(wrong / mine) if mine > ROUNDING * total else float("nan")
        octaves.append(Octave(centre, ratio, float(mine / total)))
    return octaves
