"""A player: draws the notes of one phrase from a key, a tempo, a feel and two hands."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinyamp.strings import Guitar, Note

SCALES = {
    "minor pentatonic": (0, 3, 5, 7, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "blues": (0, 3, 5, 6, 7, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}


class Player:
    """Draws the notes of one phrase: key, tempo, swing and hands, on one instrument."""

    def __init__(self, guitar: Guitar, rng: np.random.Generator):
        self.guitar, self.rng, self.notes = guitar, rng, []
        self.tempo = rng.uniform(70, 170)
        self.swing = rng.choice([0.0, 0.0, 0.0, rng.uniform(0.1, 0.33)])
        self.force = rng.uniform(0.45, 1.0)  # of the right hand in this phrase
        self.slope = rng.normal(0, 0.12)  # crescendo or diminuendo
        self.place = rng.uniform(0.05, 0.22)  # right hand, from the bridge
        self.loose = rng.uniform(0.002, 0.012)  # timing, seconds
        self.scale = SCALES[rng.choice(list(SCALES))]
        self.key = int(rng.integers(0, 12))
        self.fret = int(rng.integers(0, 13))  # where the left hand is
        self.attack = "finger" if rng.random() < 0.15 else "pick"
        self.picked = rng.random() < 0.4  # bass with a pick

    @property
    def step(self) -> float:
        """A sixteenth in seconds."""
        return 15.0 / self.tempo

    def time(self, step: float) -> float:
        """Seconds at which a step of the bar falls; swing delays every second eighth."""
        late = self.swing * 2 * self.step if int(step) % 4 in (2, 3) else 0.0
        return 0.03 + step * self.step + late + abs(self.rng.normal(0, self.loose))

    def velocity(self, accent: float, step: float = 0.0) -> float:
        drawn = self.force * accent * (1 + self.slope * step / 16) * self.rng.normal(1, 0.12)
        return float(np.clip(drawn, 0.05, 1.0))

    def degree(self, k: int, base: int) -> int:
        """The k-th note of the key's scale above the lowest root not under `base` (MIDI)."""
        root = base + (self.key - base) % 12
        return root + 12 * (k // len(self.scale)) + self.scale[k % len(self.scale)]

    def string_for(self, pitch: float) -> int:
        """The string that plays a pitch nearest to where the left hand is."""
        frets = [pitch - p for p in self.guitar.open_pitches]
        can = [i for i, f in enumerate(frets) if f >= 0]
        if not can:
            return 0
        return min(can, key=lambda i: abs(frets[i] - self.fret) - (0.5 if frets[i] == 0 else 0))

    def play(self, start, duration, pitch, velocity, *, string=None, **more) -> None:
        string = self.string_for(pitch) if string is None else string
        pitch = max(pitch, self.guitar.open_pitches[string])
        velocity = min(1.0, velocity)
        more.setdefault("attack", self.attack)
        more.setdefault("stroke", 1 if self.rng.random() < 0.6 else -1)
        more.setdefault("position", float(np.clip(self.rng.normal(self.place, 0.015), 0.03, 0.4)))
        self.notes.append(
            Note(float(start), float(duration), string, float(pitch), float(velocity), **more)
        )

    def chord(self, start, duration, frets, shift, velocity, *, up=False, spread=None, mute=0.0):
        """A strum: the strings sound one after the other, the first ones hardest."""
        strings = [i for i, f in enumerate(frets) if f is not None]
        if up:
            strings = strings[::-1][: max(2, len(strings) - int(self.rng.integers(0, 3)))]
        spread = self.rng.uniform(0.003, 0.016) if spread is None else spread
        stroke = -1 if up else 1
        for k, i in enumerate(strings):
            v = velocity * (1 - 0.06 * k) * self.rng.uniform(0.8, 1.05)
            pitch = self.guitar.open_pitches[i] + frets[i] + shift
            self.play(
                start + k * spread,
                duration - k * spread,
                pitch,
                v,
                string=i,
                mute=mute,
                stroke=stroke,
            )

    def bars(self, seconds: float) -> int:
        """How many bars fit a phrase of about so many seconds, at least one."""
        return max(1, round(seconds / (16 * self.step)))

    def hits(self, pattern: str, bars: int) -> Iterator[tuple[int, str, int]]:
        """Step, letter and length in steps of every hit of a rhythm, with small variations."""
        text = list(pattern * bars)
        for k in range(16, len(text)):
            if text[k] != "." and self.rng.random() < 0.12:
                text[k] = "."
        at = [k for k, c in enumerate(text) if c != "."]
        for k, step in enumerate(at):
            yield step, text[step], (at[k + 1] if k + 1 < len(at) else len(text)) - step

    def palm(self) -> float:
        return float(self.rng.uniform(0.4, 0.72))
