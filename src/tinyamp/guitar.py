"""A synthesised electric guitar and bass performance, as it leaves the socket: the dry signal.

Phrases of many styles, keys, tempi, instruments and playing volumes follow one another. Each is
drawn from its own seed, so that a performance is the same every time and no two splits share a
phrase. Every minute holds all styles, loud and soft, and in training capture signals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from tqdm.std import tqdm

from tinyamp.capture import capture_signal as _capture
from tinyamp.files import InputError
from tinyamp.instruments import bass, electric, noise_floor
from tinyamp.playing import Player
from tinyamp.strings import SAMPLE_RATE, Guitar, Note, strum
from tinyamp.styles import BASS_STYLES, GUITAR_STYLES

SECONDS = {"train": 342.0, "validation": 84.0, "test": 64.0}  # Section IV-A: 5:42, 1:24, 1:04
SHORT_TRAIN_SECONDS = 163.0  # 2:43, used for two of the devices
STREAMS = {"train": 1, "validation": 2, "test": 3, "guitar": 4, "bass": 5, "both": 6}


@dataclass(frozen=True)
class Phrase:
    """A few seconds of playing: what fixes it before a note is drawn."""

    style: str
    seed: tuple[int, ...]
    peak_db: float  # dBFS
    seconds: float = 0.0  # of a capture signal; a played phrase finds its own length


def _set_level(wave: np.ndarray, peak_db: float, squeeze: float) -> np.ndarray:
    """Bring the phrase up to a peak; the hardest attacks bend into it, as in a hot pickup.

    `squeeze` (0 none) evens the loudness out, as a steady hand or a compressor does.
    """
    peak = 10 ** (peak_db / 20)
    power = wave * wave
    pole = np.exp(-1.0 / (0.08 * SAMPLE_RATE))
    power = np.sqrt(lfilter([1.0 - pole], [1.0, -pole], power))
    loud = power.max()
    if loud < 1e-9:
        return wave
    wave = wave * np.maximum(power / loud, 0.03) ** -squeeze
    knee = 0.65 * peak
    wave = wave * (knee / np.percentile(np.abs(wave), 98.0))
    size = np.abs(wave)
    over = np.tanh(np.maximum(size - knee, 0.0) / (peak - knee)) * (peak - knee)
    return np.sign(wave) * (np.minimum(size, knee) + over)


def notes_of(phrase: Phrase) -> tuple[Guitar, list[Note]]:
    """The instrument and the notes, in order of time, of a played phrase."""
    rng = np.random.default_rng([*phrase.seed, 0])
    on_bass = phrase.style in BASS_STYLES
    guitar = bass(rng) if on_bass else electric(rng)
    player = Player(guitar, rng)
    if on_bass:
        player.attack = "pick" if player.picked else "finger"
        player.place = rng.uniform(0.08, 0.25)
        player.fret = int(rng.integers(0, 8))
    (BASS_STYLES if on_bass else GUITAR_STYLES)[phrase.style](player)
    if not player.notes:  # a lead line that was all rests
        player.play(0.05, 1.0, guitar.open_pitches[2] + 7, 0.8)
    limit = rng.uniform(2.6, 3.6)  # slow bars are left unfinished
    if phrase.style not in ("ringing", "swell", "long bass notes"):
        player.notes = [note for note in player.notes if note.start < limit]
    return guitar, sorted(player.notes, key=lambda note: (note.start, note.string))


def _render(phrase: Phrase) -> np.ndarray:
    """One phrase with its noise floor and the rest after it: float64 (time,)."""
    if phrase.style == "capture":
        return _capture(phrase.seconds, seed=phrase.seed).astype(float)
    guitar, notes = notes_of(phrase)
    rng = np.random.default_rng([*phrase.seed, 1])
    end = max(n.start + n.duration for n in notes)
    tail = rng.choice([0.03, 0.05, rng.uniform(0.05, 0.45)])  # damped, and a breath
    if phrase.style not in ("ringing", "swell") and rng.random() < 0.15:
        # left to ring into silence: nothing damps the strings that sound at the end
        tail = rng.uniform(1.0, 3.0)
        notes = [
            Note(**{**vars(n), "duration": 60.0}) if n.start + n.duration > end - 0.3 else n
            for n in notes
        ]
    seconds = end + tail
    wave = strum(notes, guitar, seconds, seed=[*phrase.seed, 2])
    if phrase.style == "swell":  # the volume knob, or the little finger on it
        gain = np.zeros(len(wave))
        rise = rng.uniform(0.25, 0.9)
        for start in sorted({round(n.start, 1) for n in notes}):
            t = np.arange(len(wave)) / SAMPLE_RATE - start
            gain = np.where(t > 0, np.sin(0.5 * np.pi * np.clip(t / rise, 0, 1)) ** 2, gain)
        wave = wave * gain
    wave = _set_level(wave, phrase.peak_db, rng.uniform(0.0, 0.45))
    wave *= rng.choice([-1.0, 1.0])  # which way the pickup is wound
    if rng.random() < 0.92:
        wave = wave + noise_floor(len(wave), guitar, 10 ** (phrase.peak_db / 20), rng)
    edge = 300
    wave[:edge] *= np.linspace(0.0, 1.0, edge)
    wave[-edge:] *= np.linspace(1.0, 0.0, edge)
    if rng.random() < 0.15:  # digital silence, as after an edit
        wave = np.concatenate([wave, np.zeros(int(rng.uniform(0.05, 0.4) * SAMPLE_RATE))])
    return wave


def phrases(stream: str, seed: int) -> Iterator[Phrase]:
    """Endless phrases of a stream ("train", "validation", "test", "guitar", "bass", "both").

    They come in decks of about a minute: each style once, playing levels from whisper to peak,
    and in "train" two capture signals, in random order.
    """
    styles = {"guitar": list(GUITAR_STYLES), "bass": list(BASS_STYLES)}.get(
        stream, [*GUITAR_STYLES, *BASS_STYLES]
    )
    index = 0
    while True:
        rng = np.random.default_rng([seed, STREAMS[stream], index, 9])
        n = len(styles)
        place = (rng.permutation(n) + rng.random(n)) / n
        levels = np.interp(
            place, [0.0, 0.66, 0.82, 0.91, 0.96, 1.0], [-4.1, -4.8, -8.0, -14.0, -24.0, -38.0]
        )
        deck = list(rng.permutation(n))
        if stream == "train":
            for part in (0, 1):
                deck.insert(int(rng.integers(part * n // 2, (part + 1) * n // 2)), -1)
        for k in deck:
            key = (seed, STREAMS[stream], index)
            if k < 0:
                yield Phrase("capture", key, -4.1, float(rng.uniform(2.5, 3.5)))
            else:
                yield Phrase(styles[k], key, float(levels[k]))
            index += 1


def _check(seconds: float, seed: int) -> None:
    if not (isinstance(seconds, (int, float, np.number)) and math.isfinite(seconds)):
        raise InputError(f"The length must be a number of seconds, not {seconds!r}.")
    if round(seconds * SAMPLE_RATE) < 1:
        raise InputError(f"The length must be more than zero seconds, not {seconds:g}.")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"The seed must be a whole number that is not negative, not {seed!r}.")


def _stream(stream: str, seconds: float, seed: int, progress: bool) -> np.ndarray:
    """The first `seconds` of a stream of phrases: float32 (time,)."""
    samples = round(seconds * SAMPLE_RATE)
    out = np.zeros(samples)
    at = 0
    bar = tqdm(total=round(seconds), unit="s", desc=f"playing {stream}", disable=not progress)
    with bar:
        for phrase in phrases(stream, seed):
            wave = _render(phrase)[: samples - at]
            out[at : at + len(wave)] = wave
            at += len(wave)
            bar.update(min(round(at / SAMPLE_RATE), bar.total) - bar.n)
            if at >= samples:
                break
    edge = min(samples, 441)
    out[-edge:] *= np.linspace(1.0, 0.0, edge)
    return out.astype(np.float32)


def perform(
    seconds: float, *, seed: int, instrument: str = "both", progress: bool = False
) -> np.ndarray:
    """A performance of `seconds` on "guitar", "bass" or "both": float32 (time,), 44.1 kHz.

    The same seed gives the same performance; a longer one begins with the shorter one, but for
    its last 10 ms. Peak about −5 dBFS. Raises `InputError` for an unknown instrument, a length
    that is not positive or a negative seed.
    """
    if instrument not in ("guitar", "bass", "both"):
        raise InputError(f'The instrument must be "guitar", "bass" or "both", not {instrument!r}.')
    _check(seconds, seed)
    return _stream(instrument, seconds, seed, progress)


def split(
    name: str, *, seconds: float | None = None, seed: int = 0, progress: bool = False
) -> np.ndarray:
    """The dry signal of a split, "train", "validation" or "test": float32 (time,), 44.1 kHz.

    Lengths as in Section IV-A (`SECONDS`) unless `seconds` is given; a shorter one is the
    beginning of the whole, and every minute of it is representative. About a tenth of "train"
    is capture signals. No phrase is in two splits. Raises `InputError` for an unknown name, a
    length that is not positive or a negative seed.
    """
    if name not in SECONDS:
        raise InputError(f'The split must be "train", "validation" or "test", not {name!r}.')
    seconds = SECONDS[name] if seconds is None else seconds
    _check(seconds, seed)
    return _stream(name, seconds, seed, progress)


def capture_signal(seconds: float, *, seed: int) -> np.ndarray:
    """Sweeps, staircases, bursts and two-tone signals: float32 (time,), peak about −4.1 dBFS.

    Raises `InputError` for a length that is not positive or a negative seed.
    """
    _check(seconds, seed)
    return _capture(seconds, seed=seed)
