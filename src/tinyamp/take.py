"""The take: what to play through an amp, so that a recording of it makes a good training set.

    silence | clicks | capture signals | playing | clicks | silence

The clicks at both ends show by eye how late a recording is and whether its clock ran differently.
The silence shows the noise floor. The capture signals come first and so fall into the training
part of `tinyamp.fit_check.split`; validation and test hear nothing but playing.
"""

from __future__ import annotations

import numpy as np

from tinyamp.files import InputError
from tinyamp.guitar import capture_signal, perform
from tinyamp.strings import SAMPLE_RATE

SECONDS = 210.0  # three and a half minutes; the paper trained on 2:43 to 5:42
SHORTEST = 20.0
INSTRUMENTS = ("both", "guitar", "bass")
SILENCE = 1.0  # seconds, at both ends and between the clicks and what they frame
CLICKS = (0.0, 0.25, 0.4)  # seconds from the first click; uneven, so that no shift hides
CLICK_PEAK = 10 ** (-6 / 20)
CLICK_WIDTH = 22  # samples, half a millisecond
CAPTURE_SHARE = 0.08  # of the whole: sweeps, staircases, bursts, as in the book's training sets
ADVICE = """\
Play it from a mono track at 0 dB, with nothing else on the bus, and record a new track:
- Into a pedal or amp: send it out of a line output, through a re-amping box if you have one, and
  lower the output until the device sounds as it does with your guitar plugged in.
- Set the knobs, and leave them alone during the take. The model learns this one setting.
- Record at the same rate as this file, 24 bit, with peaks of the return between -12 and -6 dBFS.
  A clipped sample cannot be mended; a low one costs little.
- No noise gate, no limiter, no reverb and no delay after the device.
- Record play-back and recording in one session on one interface: two clocks drift apart.
Then: tinyamp fit {file} recorded.wav -o my-amp"""


def _clicks() -> np.ndarray:
    """`SILENCE` seconds, the clicks and `SILENCE` seconds: float64 (time,)."""
    wave = np.zeros(round((2 * SILENCE + CLICKS[-1]) * SAMPLE_RATE) + CLICK_WIDTH)
    for start in click_times():
        at = round(start * SAMPLE_RATE)
        wave[at : at + CLICK_WIDTH] = CLICK_PEAK * np.hanning(CLICK_WIDTH + 2)[1:-1]
    return wave


def click_times() -> tuple[float, ...]:
    """Seconds from the start of a take at which its first clicks begin."""
    return tuple(SILENCE + after for after in CLICKS)


def make_take(
    seconds: float = SECONDS, *, instrument: str = "both", seed: int = 0, progress: bool = False
) -> np.ndarray:
    """A take of `seconds` at 44.1 kHz: float32 (time,), peak about −4.1 dBFS.

    `instrument` is "guitar", "bass" or "both". The same seed gives the same take. Raises
    `InputError` for another instrument, less than 20 seconds or a negative seed.
    """
    if not seconds >= SHORTEST:
        raise InputError(f"A take needs {SHORTEST:g} s or more, and {seconds:g} s are asked for.")
    clicks = _clicks()
    total = round(seconds * SAMPLE_RATE)
    captured = round(CAPTURE_SHARE * total)
    played = total - captured - 2 * len(clicks)
    playing = perform(
        played / SAMPLE_RATE, seed=seed, instrument=instrument, progress=progress
    )  # (played,)
    signals = capture_signal(captured / SAMPLE_RATE, seed=seed)
    return np.concatenate([clicks, signals, playing, clicks]).astype(np.float32)


def advice(file: object) -> str:
    """What to do with a take that was written to `file`, in lines of text."""
    return ADVICE.format(file=file)
