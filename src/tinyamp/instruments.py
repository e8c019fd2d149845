"""Instruments as they come to hand, and the noise that comes with them: hum, hiss, rustle."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from tinyamp.strings import SAMPLE_RATE, Guitar


def electric(rng: np.random.Generator) -> Guitar:
    """An electric guitar with single coils or humbuckers, as it might come to hand."""
    tuning = np.array([40.0, 45.0, 50.0, 55.0, 59.0, 64.0])
    tuning += rng.choice([0.0, 0.0, 0.0, -1.0, -2.0])
    if rng.random() < 0.15:
        tuning[0] -= 2.0  # drop D
    tuning += rng.uniform(-0.15, 0.15) + rng.normal(0, 0.02, 6)
    single = rng.random() < 0.55
    places = [0.06, 0.13, 0.21] if single else [0.075, 0.2]
    near = float(rng.choice(places) * rng.uniform(0.9, 1.1))
    both = single and rng.random() < 0.25  # the in-between positions of the switch
    far = float(near + 0.065) if both else near + (0.005 if single else 0.028)
    kind = rng.random()
    tone = rng.uniform(5000, 14_000) if kind < 0.5 else rng.uniform(1800, 5000)
    return Guitar(
        open_pitches=tuple(tuning),
        pickups=(near, far),
        resonance_hz=float(rng.uniform(3200, 6000) if single else rng.uniform(2400, 4500)),
        resonance_q=float(rng.uniform(1.0, 2.4)),
        tone_hz=float(tone if kind < 0.88 else rng.uniform(600, 2500)),
        sustain=float(rng.uniform(12, 30)),
        brilliance=float(10 ** rng.uniform(0.0, 0.7)),
        stiffness=float(10 ** rng.uniform(-5.0, -4.0)),
        beating=float(rng.uniform(0.2, 1.6)),
        tension=float(rng.uniform(0.02, 0.09)),
        pick_hz=float(10 ** rng.uniform(3.15, 3.9)),
        pick_noise=float(rng.uniform(0.04, 0.25)),
        asymmetry=float(rng.normal(0, 0.04)),
        balance=tuple(10 ** (rng.normal(0, 1.5, 6) / 20)),
    )


def bass(rng: np.random.Generator) -> Guitar:
    """An electric bass with four strings, roundwound or flatwound."""
    tuning = np.array([28.0, 33.0, 38.0, 43.0]) + rng.choice([0.0, 0.0, 0.0, -2.0])
    near = float(rng.choice([0.09, 0.11, 0.17]) * rng.uniform(0.9, 1.1))
    flat = rng.random() < 0.35
    return Guitar(
        open_pitches=tuple(tuning + rng.uniform(-0.15, 0.15) + rng.normal(0, 0.02, 4)),
        pickups=(near, near + float(rng.choice([0.006, 0.02, 0.08]))),
        resonance_hz=float(rng.uniform(2500, 5000)),
        resonance_q=float(rng.uniform(1.2, 2.5)),
        tone_hz=float(rng.uniform(500, 2500) if flat else 10 ** rng.uniform(3.3, 4.0)),
        sustain=float(rng.uniform(8, 18)),
        brilliance=float(rng.uniform(0.15, 0.4) if flat else rng.uniform(0.6, 2.0)),
        stiffness=float(10 ** rng.uniform(-4.6, -3.7)),
        beating=float(rng.uniform(0.2, 1.2)),
        tension=float(rng.uniform(0.02, 0.06)),
        pick_hz=float(rng.uniform(1500, 5000)),
        pick_noise=float(rng.uniform(0.03, 0.15)),
        asymmetry=float(rng.normal(0, 0.05)),
        balance=tuple(10 ** (rng.normal(0, 1.0, 4) / 20)),
    )


def noise_floor(samples: int, guitar: Guitar, peak: float, rng: np.random.Generator) -> np.ndarray:
    """Hum of the mains (−78 to −54 dBFS) with its harmonics, hiss and rustle: (time,)."""
    mains = (50.0 if rng.random() < 0.5 else 60.0) * rng.normal(1.0, 5e-4)
    slope = rng.uniform(0.6, 1.6)  # from soft hum to buzz
    harmonics = np.arange(1, 30)
    sizes = harmonics**-slope * np.where(harmonics % 2, 1.0, 0.4) * rng.uniform(0.2, 1.0, 29)
    spectrum = np.zeros(2049, complex)
    spectrum[harmonics] = sizes * np.exp(1j * rng.uniform(0, 2 * np.pi, 29))
    cycle = np.fft.irfft(spectrum)
    cycle /= cycle.std()
    phase = np.arange(samples) * (mains / SAMPLE_RATE) % 1.0
    hum = cycle[(phase * len(cycle)).astype(int)]
    hum *= 10 ** (rng.uniform(-78, -54) / 20)
    hiss = rng.standard_normal(samples) * 10 ** (rng.uniform(-80, -62) / 20)
    pole = np.exp(-2 * np.pi * min(guitar.tone_hz, guitar.resonance_hz) / SAMPLE_RATE)
    hiss = lfilter([1.0 - pole], [1.0, -pole], hiss)
    rumble = rng.standard_normal(samples) * 10 ** (rng.uniform(-70, -45) / 20)
    pole = np.exp(-2 * np.pi * 25.0 / SAMPLE_RATE)
    rumble = lfilter([1.0 - pole], [1.0, -pole], rumble)
    converter = rng.standard_normal(samples) * 10 ** (rng.uniform(-95, -84) / 20)
    # hands that rest and move on the strings, now more and now less
    rustle = rng.standard_normal(samples)
    for corner in (rng.uniform(150, 700), 900.0, 3000.0):
        pole = np.exp(-2 * np.pi * corner / SAMPLE_RATE)
        rustle = lfilter([1.0 - pole], [1.0, -pole], rustle)
    points = rng.uniform(0.0, 1.0, samples // 8000 + 2) ** 3
    rustle *= np.interp(np.arange(samples) / 8000, np.arange(len(points)), points)
    rustle *= peak * 10 ** (rng.uniform(-80, -50) / 20) / max(rustle.std(), 1e-9)
    floor = hum + hiss + rumble + converter + rustle
    return floor - floor.mean()
