"""The string model: in tune, damped as asked, silent at rest, heard where the pickup is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tinyamp.strings import SAMPLE_RATE, Guitar, Note, dispersion, hertz, socket, strum, vibrate

GUITAR = Guitar(open_pitches=(40.0, 45.0, 50.0, 55.0, 59.0, 64.0))
BASS = Guitar(open_pitches=(28.0, 33.0, 38.0, 43.0))


def peak_frequency(wave: np.ndarray, near: float) -> float:
    """The strongest frequency within a semitone of `near`, Hz, by a padded FFT and a parabola."""
    size = 1 << 20
    magnitude = np.abs(np.fft.rfft(wave * np.blackman(len(wave)), size))
    grid = np.arange(len(magnitude)) * SAMPLE_RATE / size
    band = (grid > near * 2 ** (-1 / 12)) & (grid < near * 2 ** (1 / 12))
    k = int(np.argmax(magnitude * band))
    left, middle, right = np.log(magnitude[k - 1 : k + 2] + 1e-30)
    return (k + 0.5 * (left - right) / (left - 2 * middle + right)) * SAMPLE_RATE / size


def cents(a: float, b: float) -> float:
    return 1200 * np.log2(a / b)


def one_note(pitch: float, seconds: float = 2.5, guitar: Guitar | None = None, **more):
    guitar = guitar or (BASS if pitch < 40 else GUITAR)
    string = max(i for i, p in enumerate(guitar.open_pitches) if p <= pitch)
    settings = {"velocity": 0.4, "duration": 10.0} | more
    note = Note(start=0.01, string=string, pitch=pitch, **settings)
    return strum([note], guitar, seconds, seed=3)


def level(wave: np.ndarray, start: float, length: float = 0.2) -> float:
    """RMS in dB of a stretch of the wave."""
    part = wave[int(start * SAMPLE_RATE) : int((start + length) * SAMPLE_RATE)]
    return 20 * np.log10(np.sqrt(np.mean(part**2)) + 1e-12)


@pytest.mark.parametrize("pitch", [28, 33, 40, 47, 52, 59, 64, 69, 76, 83, 88])
def test_every_note_is_in_tune_from_e1_to_e6(pitch):
    wave = one_note(pitch)
    heard = peak_frequency(wave[int(0.5 * SAMPLE_RATE) :], float(hertz(pitch)))
    assert abs(cents(heard, float(hertz(pitch)))) < 3.0


@pytest.mark.parametrize("pitch", [28, 40, 55, 76])
def test_a_note_that_rings_only_falls(pitch):
    wave = one_note(pitch, 4.0)
    levels = [level(wave, t, 0.4) for t in np.arange(0.1, 3.5, 0.4)]
    assert np.all(np.diff(levels) < 0)
    assert levels[0] - levels[-1] > 6


def test_the_loop_dies_at_the_time_it_was_given():
    samples = 2 * SAMPLE_RATE
    push = np.zeros(samples)
    push[:100] = np.hanning(100)
    push[100:200] = -np.hanning(100)
    blocks = samples // 64 + 2
    for t60 in (1.0, 4.0):
        low, high = np.full(blocks, t60), np.full(blocks, 0.2)
        flat = np.full(blocks, 110.0)
        wave = vibrate(push, flat, low, high, 0.0, 1.0, 0.0, 0.13, 0.13)
        # late enough that only the lasting polarisation's fundamental is left
        first, second = level(wave, 1.0), level(wave, 1.6)
        slope = (first - second) / 0.6
        assert slope == pytest.approx(60 / t60, rel=0.25)


def test_hard_plucks_start_sharp_and_settle():
    early, late = slice(int(0.05 * SAMPLE_RATE), int(0.25 * SAMPLE_RATE)), slice(SAMPLE_RATE, None)
    guitar = replace(GUITAR, tension=0.08)
    pitch = float(hertz(52))
    hard = one_note(52, guitar=guitar, velocity=1.0)
    glide = cents(peak_frequency(hard[early], pitch), peak_frequency(hard[late], pitch))
    soft = one_note(52, guitar=guitar, velocity=0.1)
    calm = cents(peak_frequency(soft[early], pitch), peak_frequency(soft[late], pitch))
    assert 3 < glide < 40
    assert abs(calm) < 2


def test_a_stiff_string_has_sharp_partials():
    pitch = 45
    fundamental = float(hertz(pitch))
    guitar = replace(GUITAR, stiffness=1e-4, pick_hz=8000.0, tension=0.0)
    stiff = one_note(pitch, guitar=guitar, velocity=0.9)[4000:]
    slack = one_note(pitch, guitar=replace(guitar, stiffness=0.0), velocity=0.9)[4000:]
    for partial, tolerance in ((22, 5), (10, 10)):  # set at 2.5 kHz, nearly right below
        wanted = fundamental * partial * np.sqrt(1 + 1e-4 * partial**2)
        assert abs(cents(peak_frequency(stiff, wanted), wanted)) < tolerance
        plain = partial * fundamental
        assert abs(cents(peak_frequency(slack, plain), plain)) < 3
    assert dispersion(fundamental, 1e-4) < dispersion(fundamental, 1e-5) < 0


def test_the_comb_of_the_pickup_is_where_the_pickup_is():
    # a pickup at one fifth of the string cannot hear the fifth partial
    one = replace(GUITAR, pickups=(0.2, 0.2), stiffness=0.0, asymmetry=0.0, beating=0.0)
    wave = one_note(45, guitar=one, position=0.09)[8000:]
    magnitude = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    f0 = float(hertz(45))

    def partial(k):
        at = round(k * f0 * len(wave) / SAMPLE_RATE)
        return 20 * np.log10(magnitude[at - 8 : at + 9].max())

    assert partial(5) < min(partial(4), partial(6)) - 15


def test_muting_shortens_the_note_in_order():
    left = [
        level(one_note(45, mute=m), 0.3) - level(one_note(45, mute=m), 0.02, 0.05)
        for m in (0.0, 0.4, 0.7, 1.0)
    ]
    assert np.all(np.diff(left) < -6)


def test_a_bend_arrives_at_its_pitch():
    wave = one_note(59, bend=((0.0, 0.0), (0.2, 2.0)), velocity=0.3)
    heard = peak_frequency(wave[int(0.5 * SAMPLE_RATE) :], float(hertz(61)))
    assert abs(cents(heard, float(hertz(61)))) < 3


def test_vibrato_moves_the_pitch_up_and_back():
    wave = one_note(64, vibrato=(0.5, 5.0, 0.0), velocity=0.3)
    moves = []
    for k in range(12):
        part = wave[int((0.5 + 0.05 * k) * SAMPLE_RATE) :][: int(0.05 * SAMPLE_RATE)]
        moves.append(cents(peak_frequency(part, float(hertz(64.25))), float(hertz(64))))
    assert max(moves) - min(moves) > 25
    assert max(moves) < 60


def test_harder_is_louder_and_brighter():
    soft, hard = (one_note(52, velocity=v) for v in (0.15, 0.9))

    def centroid(x):
        power = np.abs(np.fft.rfft(x[:SAMPLE_RATE])) ** 2
        return np.sum(power * np.arange(len(power))) / np.sum(power)

    assert level(hard, 0.05) > level(soft, 0.05) + 8
    assert centroid(hard) > centroid(soft)


def test_strings_overlap_and_restrike():
    notes = [Note(0.01, 5.0, 0, 40.0, 0.5), Note(0.5, 5.0, 3, 55.0, 0.5)]
    both = strum(notes, replace(GUITAR, asymmetry=0.0), 1.5, seed=3)
    spectrum = np.abs(np.fft.rfft(both[int(0.7 * SAMPLE_RATE) :]))
    grid = np.fft.rfftfreq(len(both) - int(0.7 * SAMPLE_RATE), 1 / SAMPLE_RATE)
    between = np.median(spectrum[(grid > 110) & (grid < 150)])
    for f in hertz([40.0, 55.0]):
        assert spectrum[np.abs(grid - f) < 3].max() > 20 * between


def test_a_string_at_rest_is_exactly_silent():
    wave = strum([Note(0.5, 0.2, 2, 52.0, 0.6)], GUITAR, 6.0, seed=0)
    assert np.all(wave[: int(0.45 * SAMPLE_RATE)] == 0.0)
    assert np.abs(wave[-SAMPLE_RATE // 2 :]).max() < 1e-5
    assert np.all(strum([], GUITAR, 0.5, seed=0) == 0.0)


def test_the_socket_resonates_and_blocks_direct_current():
    impulse = np.zeros(SAMPLE_RATE)
    impulse[0] = 1.0
    guitar = replace(GUITAR, resonance_hz=3000.0, resonance_q=2.5, tone_hz=20_000.0)
    response = 20 * np.log10(np.abs(np.fft.rfft(socket(impulse, guitar))) + 1e-12)  # bin = Hz
    assert 2500 < np.argmax(response) < 3200
    assert response[2900] - response[300] > 5
    assert response[12_000] < response[300] - 18
    assert response[0] < response[300] - 60


def test_same_seed_same_wave_and_other_seed_another():
    notes = [Note(0.01, 0.3, 1, 47.0, 0.7), Note(0.2, 0.3, 2, 52.0, 0.7, mute=0.6)]
    first, second, other = (strum(notes, GUITAR, 0.6, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.allclose(first, other)
    assert np.all(np.isfinite(first))
