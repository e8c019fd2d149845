"""How late, and which way up, is the target? Lag and polarity by pre-whitened cross-correlation.

A distorting device keeps little of its input's waveform, and the energy of a guitar is that of a
few low partials, whose correlation has a peak every period. So both signals are whitened first
(each spectrum divided by its own smoothed magnitude, within the band where a guitar is): what is
left is the timing of the attacks, which distortion keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import uniform_filter1d
from scipy.signal.windows import tukey

BAND_HZ = (150.0, 6000.0)  # above the fundamentals' slow beats, below the hiss
SMOOTHING_HZ = 150.0  # width over which the magnitude is averaged before it is divided out
TOLERANCE = 8  # samples: what a device's own group delay may be without being called a lag
MAX_LAG_SECONDS = 2.0
POLARITY_WINDOW = 10  # samples on either side of the peak in which the sign is looked up


@dataclass(frozen=True)
class Alignment:
    """Where a target stands in relation to its input.

    `lag` in samples is positive when the target is late. `inverted` says that its polarity is the
    opposite. `certainty` is the height of the correlation's peak over the level of all the other
    lags, as a ratio: 5 is what two unrelated signals reach, 10 and more is a clear answer.
    """

    lag: int
    inverted: bool
    certainty: float

    @property
    def clear(self) -> bool:
        """Whether the peak stands out enough to be believed."""
        return self.certainty >= 8.0

    @property
    def good(self) -> bool:
        """Whether nothing needs mending: the lag is within `TOLERANCE`, the polarity as it was."""
        return abs(self.lag) <= TOLERANCE and not self.inverted


def _spectrum(x: np.ndarray, size: int) -> np.ndarray:
    """Spectrum (size // 2 + 1,) of `x` with its ends faded, as cut ends would look like attacks."""
    return rfft(x.astype(np.float32) * tukey(len(x), 0.1).astype(np.float32), size)


def _whitened(spectrum: np.ndarray, size: int, sample_rate: int) -> np.ndarray:
    """A spectrum (size // 2 + 1,) over its own smoothed magnitude, within `BAND_HZ`."""
    width = max(3, round(SMOOTHING_HZ * size / sample_rate))
    power = np.abs(spectrum).astype(np.float64) ** 2
    smooth = uniform_filter1d(power, width, mode="nearest")
    # A floor keeps empty regions of the spectrum (a steep filter, a sine) from being blown up.
    smooth = np.sqrt(np.maximum(smooth, 1e-7 * smooth.max() + 1e-30))
    frequency = np.arange(len(spectrum)) * (sample_rate / size)
    low, high = BAND_HZ
    gain = 1 / np.sqrt(1 + (low / np.maximum(frequency, 1e-3)) ** 4)
    gain /= np.sqrt(1 + (frequency / high) ** 4)
    return (spectrum * (gain / smooth)).astype(np.complex64)


def estimate_alignment(
    input: np.ndarray, target: np.ndarray, *, sample_rate: int = 44_100
) -> Alignment:
    """Lag (samples) and polarity of `target` against `input`, both (time,), over the whole signal.

    Lags up to two seconds or half the signal are looked at. A signal without any content gives
    lag 0 and certainty 0.
    """
    length = min(len(input), len(target))
    reach = int(min(MAX_LAG_SECONDS * sample_rate, length // 2))
    if reach < 1 or not np.any(input) or not np.any(target):
        return Alignment(0, False, 0.0)
    size = next_fast_len(max(len(input), len(target)) + reach, real=True)
    lags = np.arange(-reach, reach + 1)
    source, sink = _spectrum(input, size), _spectrum(target, size)
    plain = irfft(sink * np.conj(source), size)[lags]  # index -1 is lag -1, and so on
    cross = _whitened(sink, size, sample_rate) * np.conj(_whitened(source, size, sample_rate))
    # A filter's phase can turn the peak into a rise and a fall: the envelope has one maximum.
    quadrature = cross * np.complex64(-1j)
    quadrature[0] = 0
    envelope = np.hypot(irfft(cross, size)[lags], irfft(quadrature, size)[lags])
    level = float(np.sqrt(np.mean(envelope.astype(np.float64) ** 2)))
    if level == 0:
        return Alignment(0, False, 0.0)
    best = int(np.argmax(envelope))
    # The whitened peak says when; the sign is clearest where the energy is, without whitening.
    near = plain[max(0, best - POLARITY_WINDOW) : best + POLARITY_WINDOW + 1]
    inverted = bool(near[np.argmax(np.abs(near))] < 0)
    return Alignment(int(lags[best]), inverted, float(envelope[best]) / level)
