"""An electric guitar's strings and pickup: digital waveguides that are plucked, fretted and damped.

Each string is a delay loop (Karplus–Strong, extended) with two polarisations that beat, a loop
filter set from decay times, allpass dispersion, tension modulation, and combs for where it is
plucked and where the pickup hears it. It lives through a whole phrase, so that notes run into
each other as they do on an instrument.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.signal import lfilter

SAMPLE_RATE = 44_100
BLOCK = 64  # samples between two points of the control curves
BRIGHT_HZ = 5000.0  # where the second decay time is set
ALLPASSES = 3  # dispersion stages in the loop
LINE = 2048  # delay line, samples: down to 22 Hz


@dataclass(frozen=True)
class Guitar:
    """One instrument as it is set up for a phrase; lengths are fractions of the open string."""

    open_pitches: tuple[float, ...]  # MIDI numbers, lowest string first
    pickups: tuple[float, float] = (0.13, 0.16)  # from the bridge; two coils or two pickups
    resonance_hz: float = 3500.0  # of the pickup's inductance with the cable
    resonance_q: float = 2.0
    tone_hz: float = 12_000.0  # tone knob, one-pole roll-off
    sustain: float = 9.0  # T60 of the lowest string's fundamental, seconds
    brilliance: float = 1.6  # T60 at 5 kHz, seconds
    stiffness: float = 6e-5  # inharmonicity B of the open strings
    beating: float = 0.9  # cents between the polarisations
    tension: float = 0.05  # pitch rise per mean square of the string's wave
    pick_hz: float = 4500.0  # bandwidth of the attack at full velocity
    pick_noise: float = 0.15
    asymmetry: float = 0.04  # even-order term of the pickup
    balance: tuple[float, ...] = ()  # gain of each string; empty: all 1


@dataclass(frozen=True)
class Note:
    """One note on one string; times in seconds, pitches in semitones (MIDI)."""

    start: float
    duration: float  # until the string is damped, or played again
    string: int
    pitch: float
    velocity: float  # 0 to 1
    attack: str = "pick"  # "pick", "finger", "hammer" or "slide"
    mute: float = 0.0  # 0 rings, about 0.6 palm mute, 1 dead
    position: float = 0.12  # where it is plucked, from the bridge
    stroke: int = 1  # down, or -1 up
    bend: tuple[tuple[float, float], ...] = ()  # (seconds after the start, semitones)
    vibrato: tuple[float, float, float] = (0.0, 5.0, 0.3)  # semitones, Hz, delay in seconds


def hertz(pitch: float | np.ndarray) -> np.ndarray:
    """Frequency of MIDI pitches in Hz, same shape."""
    return 440.0 * 2.0 ** ((np.asarray(pitch) - 69.0) / 12.0)


def dispersion(frequency: float, stiffness: float) -> float:
    """Allpass coefficient that bends the partials near 2.5 kHz as stiffness B does.

    A stiff string has f_n = n f_0 sqrt(1 + B n^2): the loop must be shorter for high partials.
    """
    period = SAMPLE_RATE / frequency
    partial = max(2.0, 2500.0 / frequency)
    wanted = period * (1.0 - 1.0 / np.sqrt(1.0 + stiffness * partial**2))
    low, high = 2 * np.pi / period, 2 * np.pi * min(partial, 0.4 * period) / period

    def delay(a: float, w: float) -> float:
        return ALLPASSES * (1.0 - 2.0 / w * np.arctan(a * np.sin(w) / (1.0 + a * np.cos(w))))

    # the loop must still hold the allpasses two octaves up the neck
    room = (0.25 * period - 8.0) / ALLPASSES
    left, right = max(-0.85, (1.0 - room) / (1.0 + room)), 0.0
    for _ in range(30):
        middle = 0.5 * (left + right)
        if delay(middle, low) - delay(middle, high) > wanted:
            left = middle
        else:
            right = middle
    return 0.5 * (left + right)


@njit(cache=True)
def vibrate(
    excitation, frequency, low_decay, high_decay, allpass, detune, tension, near, far
):  # pragma: no cover  (compiled)
    """One string: what the pickup hears of it, (time,), for an excitation (time,).

    `frequency` in Hz, `low_decay` and `high_decay` (T60 at the fundamental and at 5 kHz) in
    seconds are control curves, one point a block of 64 samples. `near` and `far` are the coils'
    places. A string at rest costs nothing.
    """
    n = excitation.shape[0]
    out = np.zeros(n)
    lines = np.zeros((2, LINE))
    heard = np.zeros(LINE)
    smooth = np.zeros(2)
    state = np.zeros((2, ALLPASSES + 1))
    mask = LINE - 1
    delay = np.zeros(2)
    step = np.zeros(2)
    gain = np.zeros(2)
    pole = np.zeros(2)
    level = 0.0
    resting, quiet = True, 0
    bright = 1.0 - np.cos(2.0 * np.pi * BRIGHT_HZ / SAMPLE_RATE)
    span = 0.0
    span_step = 0.0
    for b in range((n + BLOCK - 1) // BLOCK):
        first = b * BLOCK
        last = min(n, first + BLOCK)
        if resting:
            moved = False
            for i in range(first, last):
                if excitation[i] != 0.0:
                    moved = True
            if not moved:
                continue
            lines[:] = 0.0
            heard[:] = 0.0
            smooth[:] = 0.0
            state[:] = 0.0
            level, quiet = 0.0, 0
        pitch = frequency[b] * (1.0 + tension * min(level, 0.4))
        for p in range(2):
            f = pitch * (detune if p == 1 else 1.0)
            period = SAMPLE_RATE / f
            w = 2.0 * np.pi / period
            scale = 1.0 if p == 0 else 0.6  # the polarisation that moves the bridge dies first
            top = 10.0 ** (-3.0 / (f * low_decay[b] * scale))
            ratio = min(0.9999, 10.0 ** (-3.0 / (f * high_decay[b])) / top)
            k = ratio * ratio * bright / (1.0 - ratio * ratio)
            a = 1.0 + k - np.sqrt((1.0 + k) ** 2 - 1.0)
            pole[p] = a
            # one-pole of gain `top` at the fundamental
            gain[p] = min(top * np.sqrt(1.0 - 2.0 * a * np.cos(w) + a * a), 0.99999 * (1.0 - a))
            taken = np.arctan(a * np.sin(w) / (1.0 - a * np.cos(w))) / w
            turn = np.arctan(allpass * np.sin(w) / (1.0 + allpass * np.cos(w)))
            taken += ALLPASSES * (1.0 - 2.0 * turn / w)
            aim = min(max(period - taken, 4.0), LINE - 6.0)
            if resting:
                delay[p] = aim
            step[p] = (aim - delay[p]) / BLOCK
            if p == 0:
                if resting:
                    span = period
                span_step = (period - span) / BLOCK
        resting = False
        energy = 0.0
        for i in range(first, last):
            total = 0.0
            for p in range(2):
                delay[p] += step[p]
                whole = int(delay[p]) - 2
                d = delay[p] - whole  # in [2, 3): the flat middle of the interpolator
                at = i - whole
                d0, d1, d2, d3, d4, d5 = d, d - 1.0, d - 2.0, d - 3.0, d - 4.0, d - 5.0
                left = d0 * d1 * d2
                right = d3 * d4 * d5
                v = (  # fifth-order Lagrange: keeps the partials up to 10 kHz
                    -lines[p, at & mask] * d1 * d2 * right / 120.0
                    + lines[p, (at - 1) & mask] * d0 * d2 * right / 24.0
                    - lines[p, (at - 2) & mask] * d0 * d1 * right / 12.0
                    + lines[p, (at - 3) & mask] * left * d4 * d5 / 12.0
                    - lines[p, (at - 4) & mask] * left * d3 * d5 / 24.0
                    + lines[p, (at - 5) & mask] * left * d3 * d4 / 120.0
                )
                smooth[p] = gain[p] * v + pole[p] * smooth[p]
                v = smooth[p]
                for m in range(ALLPASSES):
                    y = allpass * (v - state[p, m + 1]) + state[p, m]
                    state[p, m] = v
                    v = y
                state[p, ALLPASSES] = v  # a stage's past output is the next one's past input
                v += excitation[i] * (0.75 if p == 0 else 0.4)
                lines[p, i & mask] = v
                total += v
            heard[i & mask] = total
            energy += total * total
            # the pickup hears the wave on its way to the bridge, and inverted on its way back
            span += span_step
            half = 0.5 * span
            late = half * max(near, far)
            y = 0.0
            for c in range(2):
                place = half * (near if c == 0 else far)
                for way in range(2):
                    t = late - place if way == 0 else late + place
                    j = int(t)
                    r = t - j
                    u = heard[(i - j) & mask] * (1.0 - r) + heard[(i - j - 1) & mask] * r
                    y += u if way == 0 else -u
            out[i] = 0.5 * y
        level += 0.25 * (energy / (last - first) - level)
        # a pulse may be anywhere in the loop: rest only after a whole loop of silence
        quiet = quiet + 1 if energy < 1e-13 else 0
        resting = quiet * BLOCK > LINE
    return out


def _attack(note: Note, guitar: Guitar, rng: np.random.Generator) -> np.ndarray:
    """The push that starts a note, (time,): scrape of the pick, release, comb of its place."""
    frequency = float(hertz(note.pitch))
    open_length = 2.0 ** ((guitar.open_pitches[note.string] - note.pitch) / 12.0)
    place = min(0.45, note.position / open_length)  # fretting shortens the string
    comb = max(1, round(place * SAMPLE_RATE / frequency))
    scrape = int(rng.uniform(0.002, 0.008) * SAMPLE_RATE)
    n = scrape + int(0.05 * SAMPLE_RATE) + comb
    amount, softness = note.velocity, 1.0
    noise = guitar.pick_noise
    if note.attack == "finger":
        softness, noise = 0.35, 0.5 * noise
    elif note.attack in ("hammer", "slide"):
        softness, noise, amount = 0.4, 0.4 * noise, 0.45 * amount
    if note.mute > 0.9:
        noise, amount = 4.0 * noise, 2.5 * amount
    push = np.zeros(n)
    push[scrape] = 1.0
    # a displaced string that is let go: its wave's partials fall as 1/n
    push = lfilter([1.0], [1.0, -np.exp(-2 * np.pi * 0.7 * frequency / SAMPLE_RATE)], push)
    time = (np.arange(n) - scrape) / SAMPLE_RATE
    rough = rng.standard_normal(n) * np.where(
        time < 0, 0.35 * np.exp(time / 0.003), np.exp(-np.maximum(time, 0.0) / 0.005)
    )
    push = amount * note.stroke * (push + noise * (0.4 + 0.6 * note.velocity) * rough)
    corner = softness * guitar.pick_hz * (0.25 + 0.75 * note.velocity)
    pole = np.exp(-2 * np.pi * min(corner, 15_000.0) / SAMPLE_RATE)
    push = lfilter([1.0 - pole], [1.0, -pole], push)
    push = lfilter([1.0 - pole], [1.0, -pole], push)
    push[comb:] -= push[:-comb].copy()
    push[-200:] *= np.linspace(1.0, 0.0, 200)
    return push


def _string(
    notes: list[Note], guitar: Guitar, string: int, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """All notes of one string, in order, as the pickup hears them: (time,)."""
    blocks = samples // BLOCK + 2
    clock = np.arange(blocks) * BLOCK / SAMPLE_RATE
    open_pitch = guitar.open_pitches[string]
    pitch = np.full(blocks, notes[0].pitch, dtype=float)
    shorter = (hertz(open_pitch) / hertz(guitar.open_pitches[0])) ** -0.35
    low = np.full(blocks, 0.12)
    high = np.full(blocks, 0.03)
    excitation = np.zeros(samples)
    for k, note in enumerate(notes):
        end = note.start + note.duration
        until = notes[k + 1].start if k + 1 < len(notes) else np.inf
        a = min(blocks - 1, int(note.start * SAMPLE_RATE / BLOCK))
        b = min(blocks, int(min(end, until) * SAMPLE_RATE / BLOCK))
        t = clock[a:] - note.start
        curve = np.full(blocks - a, float(note.pitch))
        if note.bend:
            points = np.array(note.bend)
            curve += np.interp(t, points[:, 0], points[:, 1])
        depth, rate, delay = note.vibrato
        if depth:
            fade = np.clip((t - delay) / 0.25, 0.0, 1.0)
            curve += depth * fade * 0.5 * (1.0 - np.cos(2 * np.pi * rate * (t - delay)))
        pitch[a:] = curve
        # decay times fall with the pitch; muting moves them towards a thud, in logarithm
        ring = guitar.sustain * shorter * 2.0 ** (-(note.pitch - open_pitch) / 24.0)
        low[a:b] = ring ** (1.0 - note.mute) * 0.03**note.mute
        high[a:b] = guitar.brilliance ** (1.0 - note.mute) * 0.012**note.mute
        touch = 0.05 * 6.0 ** rng.uniform()
        low[b:], high[b:] = touch, 0.3 * touch
        if note.attack in ("pick", "finger"):  # the pick stops the string before it plucks
            rest = max(0, a - rng.integers(2, 8))
            low[rest:a], high[rest:a] = 0.06, 0.02
        push = _attack(note, guitar, rng)
        at = int(note.start * SAMPLE_RATE)
        push = push[: samples - at]
        excitation[at : at + len(push)] += push
        stop = int(end * SAMPLE_RATE)
        if end < until and stop < samples:  # fingers land on the string
            n = min(samples - stop, int(rng.uniform(0.006, 0.02) * SAMPLE_RATE))
            noise = rng.standard_normal(n) * np.hanning(n) * 0.012 * (0.3 + note.velocity)
            excitation[stop : stop + n] += lfilter([0.4], [1.0, -0.6], noise)
        travel = np.abs(np.diff(np.interp(clock[a:b], clock[a:], curve))) if b > a + 1 else None
        if note.attack == "slide" and travel is not None:  # windings squeak under the finger
            speed = np.repeat(travel, BLOCK)[: max(0, samples - a * BLOCK)]
            squeak = rng.standard_normal(len(speed)) * np.minimum(speed, 0.1)
            excitation[a * BLOCK : a * BLOCK + len(speed)] += 0.03 * lfilter(
                [0.5, -0.5], [1.0, -0.4], squeak
            )
    near, far = guitar.pickups
    return vibrate(
        excitation,
        hertz(pitch),
        low,
        high,
        dispersion(float(hertz(open_pitch)), guitar.stiffness),
        2.0 ** (guitar.beating / 1200.0),
        guitar.tension,
        near,
        far,
    )


def strum(notes: list[Note], guitar: Guitar, seconds: float, *, seed) -> np.ndarray:
    """The notes as they leave the guitar's socket: float64 (time,), no noise, any level.

    `seconds` is the length. `seed` (int or list of int) draws scrapes, touches and thumps.
    """
    rng = np.random.default_rng(seed)
    samples = round(seconds * SAMPLE_RATE)
    balance = guitar.balance or (1.0,) * len(guitar.open_pitches)
    wave = np.zeros(samples)
    for string in range(len(guitar.open_pitches)):
        played = sorted((m for m in notes if m.string == string), key=lambda m: m.start)
        played = [m for m in played if m.start < seconds - 0.01]
        if played:
            wave += balance[string] * _string(played, guitar, string, samples, rng)
    for note in notes:  # the hand on the body and the strings' common push
        at = int(note.start * SAMPLE_RATE)
        if note.attack == "pick" and at < samples and rng.random() < 0.5:
            t = np.arange(min(samples - at, 5000)) / SAMPLE_RATE
            size = rng.uniform(0.0, 0.5) * note.velocity
            thump = np.sin(2 * np.pi * rng.uniform(20.0, 80.0) * t) * np.exp(-t / 0.022)
            wave[at : at + len(t)] += size * thump
    wave = wave + guitar.asymmetry * wave**2
    return socket(wave, guitar)


def socket(wave: np.ndarray, guitar: Guitar) -> np.ndarray:
    """Pickup resonance, tone knob and the interface's coupling capacitor: (time,) to (time,)."""
    w = 2 * np.pi * guitar.resonance_hz / SAMPLE_RATE
    alpha = np.sin(w) / (2 * guitar.resonance_q)
    c = np.cos(w)
    a0 = 1 + alpha
    b = np.array([(1 - c) / 2, 1 - c, (1 - c) / 2]) / a0
    wave = lfilter(b, [1.0, -2 * c / a0, (1 - alpha) / a0], wave)
    pole = np.exp(-2 * np.pi * guitar.tone_hz / SAMPLE_RATE)
    wave = lfilter([1.0 - pole], [1.0, -pole], wave)
    pole = np.exp(-2 * np.pi * 18.0 / SAMPLE_RATE)
    return lfilter([1.0, -1.0], [1.0, -pole], wave)
