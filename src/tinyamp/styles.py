"""Styles of playing: riffs, chords, lead lines and bass lines, each from a player's hands."""

from __future__ import annotations

import numpy as np

from tinyamp.playing import Player

# frets from the lowest string, None is not played
OPEN_CHORDS = (
    (0, 2, 2, 1, 0, 0),
    (0, 2, 2, 0, 0, 0),
    (None, 0, 2, 2, 2, 0),
    (None, 0, 2, 2, 1, 0),
    (None, None, 0, 2, 3, 2),
    (None, None, 0, 2, 3, 1),
    (3, 2, 0, 0, 3, 3),
    (None, 3, 2, 0, 1, 0),
    (0, 2, 0, 1, 0, 0),
    (None, 2, 1, 2, 0, 2),
    (None, 0, 2, 0, 1, 0),
    (None, 3, 2, 0, 3, 0),
)
BARRE_CHORDS = (
    (0, 2, 2, 1, 0, 0),
    (0, 2, 2, 0, 0, 0),
    (0, 2, 0, 1, 0, 0),
    (0, 2, 0, 0, 0, 0),
    (None, 0, 2, 2, 2, 0),
    (None, 0, 2, 2, 1, 0),
    (None, 0, 2, 0, 2, 0),
    (None, 0, 2, 0, 1, 0),
)
POWER_CHORDS = ((0, 2, 2, None, None, None), (None, 0, 2, 2, None, None), (0, 2) + (None,) * 4)
# a bar in sixteenths: x struck, o weak, m muted, . rest or ring
RIFFS = ("x..xx.m.x..xo.m.", "x.m.x.x.m.x.x.o.", "x...m.x.x.m.x...", "xxm.xxm.x.o.xxm.")
STRUMS = ("x...x.o.o.x.x.o.", "x..ox..ox..ox.o.", "x...x...x.x.x.x.", "x.o.x.m.x.o.x.m.")
POWERS = ("x.....x.x.....x.", "x..x..x...x.x...", "x.......x.......", "x.m.x.m.x..x....")
CHUGS = ("mmmmx.mmmmmmx...", "m.mmm.mmx..mmmm.", "mmm.mmm.mm.mx.x.", "m.m.m.m.x.x.m.m.")
FUNKS = ("xm.mm.xmm.xm.mx.", "m.xmmm.xm.mxm.x.", "x.mmx.mm.mxmx.mm", "mmxm.mxm.mmxm.x.")
GROOVES = ("x..mx.o.m.x.o.x.", "x.mx..xo..x.m.x.", "x...x..x.mx...o.", "xm.x.mo.x.m.x.o.")


def _riff(p: Player) -> None:
    low = int(p.guitar.open_pitches[0])
    root = low + int(p.rng.integers(0, 6))
    p.key = root % 12
    line = p.rng.choice([0, 0, 0, 1, 2, 3, 4, 5, -1], 16)
    for step, letter, length in p.hits(str(p.rng.choice(RIFFS)), p.bars(3.2)):
        k = 0 if letter == "m" else int(line[step % 16])
        pitch = p.degree(k, root) if k >= 0 else root - 2 if root - 2 >= low else root
        held = length * p.step * p.rng.uniform(0.75, 1.0)
        mute = p.palm() if letter == "m" else 0.0
        slide = letter == "x" and p.rng.random() < 0.12
        bend = ((0.0, -2.0), (0.07, 0.0)) if slide and pitch - 2 >= low else ()
        v = p.velocity(0.7 if letter != "x" else 1.0, step)
        p.play(p.time(step), held, pitch, v, mute=mute, bend=bend)
        if letter == "o":
            p.play(p.time(step) + held * 0.5, held * 0.5, pitch + 2, v, attack="hammer")


def _power(p: Player) -> None:
    shape = POWER_CHORDS[p.rng.integers(len(POWER_CHORDS))]
    frets = p.rng.choice([0, 3, 5, 7, 8, 10, 2], 4)
    for step, letter, length in p.hits(str(p.rng.choice(POWERS)), p.bars(3.6)):
        shift = int(frets[(step // 8) % 4])
        held = length * p.step * p.rng.uniform(0.7, 1.0)
        v = p.velocity(1.0 if letter == "x" else 0.75, step)
        mute = p.palm() if letter == "m" else 0.0
        p.chord(p.time(step), held, shape, shift, v, spread=p.rng.uniform(0.001, 0.006), mute=mute)


def _strummed(p: Player) -> None:
    barre = p.rng.random() < 0.4
    chords = BARRE_CHORDS if barre else OPEN_CHORDS
    chosen = p.rng.integers(0, len(chords), 4)
    shifts = p.rng.integers(1, 9, 4) if barre else np.zeros(4, int)
    for step, letter, length in p.hits(str(p.rng.choice(STRUMS)), p.bars(4.0)):
        k = (step // 8) % 4
        ring = (8 - step % 8) * p.step if letter != "m" else length * p.step
        p.chord(
            p.time(step),
            ring * p.rng.uniform(0.9, 1.0),
            chords[chosen[k]],
            int(shifts[k]),
            p.velocity(0.6 if letter == "o" else 0.9, step),
            up=step % 4 == 2,
            mute=0.85 if letter == "m" else 0.0,
        )


def _arpeggio(p: Player) -> None:
    chords = [OPEN_CHORDS[k] for k in p.rng.integers(0, len(OPEN_CHORDS), 2)]
    shift = int(p.rng.choice([0, 0, 2, 4, 7]))
    order = p.rng.integers(0, 6, 8)
    steps = 16 * p.bars(3.6)
    for step in range(0, steps, 2 if p.tempo > 90 else 1):
        half = 16 * (step // 16) + 16
        frets = chords[(step // 16) % 2]
        strings = [i for i, f in enumerate(frets) if f is not None]
        i = strings[0] if step % 16 == 0 else strings[order[step % 8] % len(strings)]
        pitch = p.guitar.open_pitches[i] + frets[i] + shift
        v = p.velocity(0.9 if step % 8 == 0 else 0.65, step)
        p.play(p.time(step), (half - step) * p.step, pitch, v, string=i)


def _lead(p: Player) -> None:
    p.fret = int(p.rng.integers(3, 16))
    base = int(p.guitar.open_pitches[2]) + p.fret
    k, step, end = int(p.rng.integers(0, 6)), 0.0, 16 * p.bars(4.0)
    while step < end:
        length = float(p.rng.choice([1, 2, 2, 3, 4, 6, 8]))
        k = int(np.clip(k + p.rng.choice([-2, -1, -1, 1, 1, 2, 3]), 0, 11))
        pitch = min(p.degree(k, base), p.guitar.open_pitches[-1] + 22)
        held = length * p.step * p.rng.uniform(0.85, 1.0)
        start, v = p.time(step), p.velocity(p.rng.uniform(0.6, 1.0), step)
        kind = p.rng.choice(["plain", "bend", "release", "slide", "legato", "vibrato", "rest"])
        vibrato = (0.0, 5.0, 0.3)
        if length >= 3:
            vibrato = (p.rng.uniform(0.15, 0.6), p.rng.uniform(4.5, 6.5), p.rng.uniform(0.1, 0.4))
        up = float(p.rng.choice([1, 2, 2, 3]))
        if kind == "bend":
            time = p.rng.uniform(0.08, 0.25)
            p.play(
                start,
                held,
                pitch - up,
                v,
                bend=((0.0, 0.0), (0.04, 0.0), (time, up)),
                vibrato=vibrato,
            )
        elif kind == "release":
            p.play(
                start,
                held,
                pitch - up,
                v,
                bend=((0.0, up), (0.4 * held, up), (0.7 * held + 0.05, 0.0)),
            )
        elif kind == "slide":
            p.play(
                start,
                held,
                pitch,
                v,
                bend=((0.0, -up), (0.03, -up), (0.03 + 0.04 * up, 0.0)),
                attack="slide" if p.rng.random() < 0.3 else "pick",
                vibrato=vibrato,
            )
        elif kind == "legato":
            string = p.string_for(pitch)
            p.play(start, 0.4 * held, pitch, v, string=string)
            p.play(start + 0.4 * held, 0.3 * held, pitch + up, v, string=string, attack="hammer")
            p.play(start + 0.7 * held, 0.3 * held, pitch, 0.8 * v, string=string, attack="hammer")
        elif kind != "rest":
            p.play(start, held, pitch, v, vibrato=vibrato if kind == "vibrato" else (0.0, 5.0, 1.0))
        step += length


def _chug(p: Player) -> None:
    p.tempo = p.rng.uniform(90, 180)
    shape = POWER_CHORDS[int(p.rng.choice([0, 2]))]
    root = int(p.rng.choice([0, 0, 0, 1, 3, 5]))
    moves = p.rng.choice([0, 1, 3, 5, 6, 7], 8)
    tight = p.palm()
    single = p.rng.random() < 0.5
    for step, letter, length in p.hits(str(p.rng.choice(CHUGS)), p.bars(3.2)):
        v = p.velocity(0.8 if letter == "m" else 1.0, step)
        if letter == "m":
            mute = float(np.clip(tight + p.rng.normal(0, 0.04), 0.35, 0.8))
            frets = (shape[0],) + (None,) * 5 if single else shape
            p.chord(p.time(step), length * p.step, frets, root, v, spread=0.002, mute=mute)
        else:
            p.chord(
                p.time(step), length * p.step * 0.95, shape, int(moves[step % 8]), v, spread=0.003
            )


def _funk(p: Player) -> None:
    p.tempo = p.rng.uniform(85, 125)
    shape = list(BARRE_CHORDS[p.rng.integers(len(BARRE_CHORDS))])
    shape[0] = shape[1] = None
    shift = int(p.rng.integers(3, 10))
    for step, letter, _ in p.hits(str(p.rng.choice(FUNKS)), p.bars(3.2)):
        mute = p.rng.uniform(0.92, 1.05) if letter == "m" else 0.0
        up = step % 2 == 1
        hold = p.step * p.rng.uniform(0.5, 0.9)
        v = p.velocity(0.6 if letter == "m" else 1.0, step)
        slip = 1 if p.rng.random() < 0.08 else 0
        p.chord(p.time(step), hold, shape, shift - slip, v, up=up, spread=0.003, mute=mute)


def _ring(p: Player) -> None:
    """One or two chords or notes left to die away, sometimes with a slow bend or vibrato."""
    start = 0.05
    count = int(p.rng.integers(1, 3))
    for _ in range(count):
        length = p.rng.uniform(2.6, 5.4) / count**0.8
        if p.rng.random() < 0.6:
            shape = OPEN_CHORDS[p.rng.integers(len(OPEN_CHORDS))]
            if p.rng.random() < 0.3:
                shape = POWER_CHORDS[0]
            shift = int(p.rng.choice([0, 0, 0, 2, 5]))
            spread = p.rng.uniform(0.004, 0.07)
            p.chord(start, length, shape, shift, p.velocity(1.0), spread=spread)
        else:
            pitch = p.degree(int(p.rng.integers(0, 9)), int(p.guitar.open_pitches[0]))
            wide = p.rng.choice([0.0, p.rng.uniform(0.1, 0.5)])
            p.play(start, length, pitch, p.velocity(1.0), vibrato=(wide, 5.2, 0.5))
        start += length + p.rng.uniform(0.0, 0.2)


def _double_stops(p: Player) -> None:
    """Boogie: a root held against fifth, sixth and seventh; or thirds up the neck."""
    string = int(p.rng.integers(0, 3))
    fret = int(p.rng.integers(0, 8))
    base = p.guitar.open_pitches[string] + fret
    p.swing = p.rng.choice([0.0, 0.3])
    tops = (7, 7, 9, 9, 10, 9, 7, 7)
    mute = p.rng.choice([0.0, 0.25, 0.4])
    for step in range(0, 16 * p.bars(3.2), 2):
        v, t = p.velocity(0.9 if step % 4 == 0 else 0.65, step), p.time(step)
        held = 2 * p.step * p.rng.uniform(0.6, 0.98)
        p.play(t, held, base, v, string=string, mute=mute)
        p.play(t + 0.003, held, base + tops[step // 2 % 8], v, string=string + 1, mute=mute)


def _tremolo(p: Player) -> None:
    """Fast alternate picking on one string, the notes changing every beat."""
    base = int(p.guitar.open_pitches[int(p.rng.integers(1, 5))]) + p.fret
    p.tempo = p.rng.uniform(100, 160)
    k = int(p.rng.integers(0, 7))
    for step in range(16 * p.bars(2.8)):
        if step % 4 == 0:
            k = int(np.clip(k + p.rng.integers(-2, 3), 0, 9))
        v = p.velocity(0.95 if step % 2 == 0 else 0.7, step)
        p.play(p.time(step), p.step, min(p.degree(k, base), 86), v, mute=0.1)


def _fingerstyle(p: Player) -> None:
    """Bare fingers: a bass note and a melody over it, soft."""
    p.attack, p.force, p.place = "finger", p.rng.uniform(0.15, 0.6), p.rng.uniform(0.12, 0.32)
    chord = OPEN_CHORDS[p.rng.integers(len(OPEN_CHORDS))]
    strings = [i for i, f in enumerate(chord) if f is not None]
    steps = 16 * p.bars(3.6)
    for step in range(0, steps, 2):
        which = strings[(step // 4) % 2] if step % 4 == 0 else int(p.rng.choice(strings[2:]))
        pitch = p.guitar.open_pitches[which] + chord[which]
        v = p.velocity(1.0 if step % 8 == 0 else 0.75, step)
        p.play(p.time(step), min(12, steps - step) * p.step, pitch, v, string=which)
        if step % 8 == 0 and p.rng.random() < 0.5:
            top = strings[-1]
            p.play(p.time(step), 8 * p.step, p.guitar.open_pitches[top] + chord[top], v, string=top)


def _bass_eighths(p: Player) -> None:
    roots = p.rng.choice([0, 3, 5, 7, 8, 10], 4)
    low = int(p.guitar.open_pitches[0])
    p.key = (low + int(p.rng.integers(0, 8))) % 12
    base = p.degree(0, low)
    mute = p.rng.choice([0.0, 0.0, 0.3, 0.5])
    for step in range(0, 16 * p.bars(3.4), 2):
        pitch = base + int(roots[(step // 16 * 2 + step % 16 // 8) % 4])
        v = p.velocity(1.0 if step % 4 == 0 else 0.75, step)
        p.play(p.time(step), 2 * p.step * p.rng.uniform(0.75, 1.0), pitch, v, mute=mute)


def _bass_walk(p: Player) -> None:
    p.tempo, p.swing = p.rng.uniform(100, 180), 0.3
    low = int(p.guitar.open_pitches[0])
    k = int(p.rng.integers(0, 6))
    for step in range(0, 16 * p.bars(3.6), 4):
        k = int(np.clip(k + p.rng.choice([-2, -1, 1, 2]), 0, 12))
        pitch = p.degree(k, low) + (1 if p.rng.random() < 0.15 else 0)
        p.play(p.time(step), 4 * p.step * p.rng.uniform(0.8, 1.0), pitch, p.velocity(0.9, step))
        if p.rng.random() < 0.2:
            p.play(p.time(step + 3), p.step * 0.6, pitch, p.velocity(0.6, step), mute=1.0)


def _bass_groove(p: Player) -> None:
    p.tempo = p.rng.uniform(80, 125)
    low = int(p.guitar.open_pitches[0])
    line = p.rng.choice([0, 0, 0, 2, 4, 5, 7], 16)
    for step, letter, length in p.hits(str(p.rng.choice(GROOVES)), p.bars(3.4)):
        pitch = p.degree(int(line[step % 16]), low)
        held = length * p.step * p.rng.uniform(0.5, 0.95)
        v = p.velocity(0.65 if letter != "x" else 1.0, step)
        bend = ((0.0, -2.0), (0.08, 0.0)) if p.rng.random() < 0.1 and pitch - 2 >= low else ()
        p.play(p.time(step), held, pitch, v, mute=1.0 if letter == "m" else 0.0, bend=bend)
        if letter == "o":
            p.play(p.time(step) + held * 0.5, held * 0.5, pitch + 2, v, attack="hammer")


def _bass_long(p: Player) -> None:
    low, start = int(p.guitar.open_pitches[0]), 0.05
    for _ in range(int(p.rng.integers(1, 4))):
        length = p.rng.uniform(1.0, 2.4)
        pitch = p.degree(int(p.rng.integers(0, 8)), low)
        wide = p.rng.choice([0.0, p.rng.uniform(0.1, 0.3)])
        p.play(start, length, pitch, p.velocity(0.95), vibrato=(wide, 4.8, 0.4))
        start += length


GUITAR_STYLES = {
    "riff": _riff,
    "power chords": _power,
    "strummed chords": _strummed,
    "arpeggio": _arpeggio,
    "lead": _lead,
    "palm-muted chug": _chug,
    "funk": _funk,
    "ringing": _ring,
    "swell": _ring,
    "double stops": _double_stops,
    "tremolo picking": _tremolo,
    "fingerstyle": _fingerstyle,
}
BASS_STYLES = {
    "bass eighths": _bass_eighths,
    "walking bass": _bass_walk,
    "bass groove": _bass_groove,
    "long bass notes": _bass_long,
}
