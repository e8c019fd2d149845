"""The performance: right lengths and levels, deterministic, varied like real playing."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import soundfile
from scipy import signal

from tinyamp import guitar
from tinyamp.capture import KINDS
from tinyamp.files import InputError
from tinyamp.guitar import SAMPLE_RATE, capture_signal, perform, split

PEAK = 10 ** (-4 / 20)

# Measured on real DI guitar recordings (212 s, single coils and humbuckers): percentiles of the
# level of 50 ms frames in dBFS, and of the share of energy above 2 kHz in frames of 4096, in dB.
REAL_LEVELS = {10: -32.2, 25: -24.5, 50: -19.8, 75: -16.4, 90: -14.3, 95: -13.1}
REAL_TREBLE = {5: -49.5, 25: -29.2, 50: -23.1, 75: -18.1, 95: -12.0}
REAL_RMS = -18.1  # dBFS, over everything
REAL_KURTOSIS = 6.0
REAL_CREST = (6.1, 12.0)  # dB, frames of 50 ms, 5th and 95th percentile
REAL_ONSETS = 2.4  # a second
# third octaves, dB below the strongest, by centre frequency in Hz
REAL_SPECTRUM = {
    125: -0.4, 250: 0.0, 500: -2.3, 1000: -6.3, 2000: -11.4, 4000: -20.3, 8000: -36.3,
}  # fmt: skip


@pytest.fixture(scope="module")
def train():
    return split("train", seconds=120)


@pytest.fixture(scope="module")
def validation():
    return split("validation")


@pytest.fixture(scope="module")
def test_set():
    return split("test")


@pytest.fixture(scope="module")
def guitars():
    return perform(90, seed=7, instrument="guitar")


def frame_levels(x: np.ndarray) -> np.ndarray:
    """RMS of 50 ms frames, dBFS."""
    frames = x[: len(x) // 2205 * 2205].reshape(-1, 2205).astype(float)
    return 20 * np.log10(np.sqrt((frames**2).mean(axis=1)) + 1e-9)


def treble(x: np.ndarray) -> np.ndarray:
    """Share of energy above 2 kHz in frames of 4096 that are not among the quietest 30 %, dB."""
    grid, _, z = signal.stft(x.astype(float), SAMPLE_RATE, nperseg=4096)
    power = np.abs(z) ** 2
    total = power.sum(axis=0)
    loud = total > np.percentile(total, 30)
    return 10 * np.log10(power[grid > 2000].sum(axis=0)[loud] / total[loud] + 1e-12)


def thirds(x: np.ndarray) -> dict[int, float]:
    """Level in the third octaves of `REAL_SPECTRUM`, dB below the strongest of all."""
    grid, power = signal.welch(x.astype(float), SAMPLE_RATE, nperseg=8192)

    def band(centre):
        inside = (grid >= centre * 2 ** (-1 / 6)) & (grid < centre * 2 ** (1 / 6))
        return 10 * np.log10(power[inside].sum())

    top = max(band(1000 * 2 ** (k / 3)) for k in range(-12, 9))
    return {centre: band(centre) - top for centre in REAL_SPECTRUM}


def repeated(a: np.ndarray, b: np.ndarray, every: int = 3) -> float:
    """The highest normalised correlation of any tested second of b with any second of a.

    Both are brought to 5.5 kHz and pre-emphasised, so that lone low notes do not count.
    """
    a, b = (
        signal.lfilter([1, -0.9], [1], signal.resample_poly(x.astype(float), 1, 8)) for x in (a, b)
    )
    n = SAMPLE_RATE // 8
    size = 1 << (len(a) + n).bit_length()
    spectrum = np.fft.rfft(a, size)
    sums = np.concatenate([[0.0], np.cumsum(a * a)])
    energy = np.sqrt(np.maximum(sums[n:] - sums[:-n], 0)) + 1e-4 * np.sqrt(n)
    best = 0.0
    for k in range(0, len(b) - n, every * n):
        part = b[k : k + n]
        product = np.fft.irfft(spectrum * np.conj(np.fft.rfft(part, size)), size)
        norm = energy * (np.linalg.norm(part) + 1e-4 * np.sqrt(n))
        best = max(best, np.abs(product[: len(energy)] / norm).max())
    return best


def test_lengths_are_the_papers(validation, test_set):
    assert guitar.SECONDS == {"train": 342.0, "validation": 84.0, "test": 64.0}
    assert guitar.SHORT_TRAIN_SECONDS == 163.0
    assert len(validation) == 84 * SAMPLE_RATE
    assert len(test_set) == 64 * SAMPLE_RATE
    assert len(perform(0.71234, seed=0)) == round(0.71234 * SAMPLE_RATE)


def test_samples_are_clean(train, validation, test_set, guitars):
    for x in (train, validation, test_set, guitars):
        assert x.dtype == np.float32 and x.ndim == 1
        assert np.all(np.isfinite(x))
        assert abs(x.mean()) < 2e-3
        assert 10 ** (-6 / 20) <= np.abs(x).max() <= PEAK


def test_deterministic_and_a_longer_one_begins_with_the_shorter():
    short, again, longer = perform(6, seed=5), perform(6, seed=5), perform(9, seed=5)
    assert np.array_equal(short, again)
    assert np.array_equal(short[:-500], longer[: len(short)][:-500])
    assert repeated(short, perform(6, seed=6), every=1) < 0.8


def test_no_second_is_in_two_splits(train, validation, test_set):
    assert repeated(train, validation) < 0.8
    assert repeated(train, test_set) < 0.8
    assert repeated(validation, test_set) < 0.8
    copied = test_set.copy()  # the measure does find a copy, at another level and place
    copied[3 * SAMPLE_RATE : 5 * SAMPLE_RATE] = 0.3 * train[777:][: 2 * SAMPLE_RATE]
    assert repeated(train[: 9 * SAMPLE_RATE], copied[: 9 * SAMPLE_RATE]) > 0.95


def test_no_phrase_is_in_two_splits():
    seen = {}
    for name in guitar.SECONDS:
        drawn = [p for p in islice(guitar.phrases(name, 0), 130) if p.style != "capture"]
        assert len({p.seed for p in drawn}) == len(drawn)
        seen[name] = {tuple(guitar.notes_of(p)[1]) for p in drawn}
        assert len(seen[name]) == len(drawn)
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]
    assert not seen["validation"] & seen["test"]


def test_only_training_holds_capture_signals_about_a_tenth_of_the_time():
    for name in ("validation", "test", "both"):
        assert all(p.style != "capture" for p in islice(guitar.phrases(name, 0), 60))
    drawn = list(islice(guitar.phrases("train", 0), 36))
    captured = sum(p.seconds for p in drawn if p.style == "capture")
    total = sum(len(guitar._render(p)) for p in drawn) / SAMPLE_RATE
    assert 0.06 < captured / total < 0.14
    assert 100 < total < 144  # two decks, of about a minute each


def test_every_minute_has_all_styles_loud_and_soft():
    for seed in range(3):
        drawn = list(islice(guitar.phrases("train", seed), 18))
        styles = {p.style for p in drawn}
        assert styles == {*guitar.GUITAR_STYLES, *guitar.BASS_STYLES, "capture"}
        levels = [p.peak_db for p in drawn]
        assert max(levels) > -4.8 and min(levels) < -20


def test_styles_are_played_as_they_should_be():
    found = {"bend": 0, "vibrato": 0, "hammer": 0, "slide": 0, "palm": 0, "dead": 0, "up": 0}
    for phrase in islice(guitar.phrases("train", 2), 72):
        if phrase.style == "capture":
            continue
        instrument, notes = guitar.notes_of(phrase)
        assert notes
        for note in notes:
            assert 0 < note.velocity <= 1
            assert 0 <= note.pitch - instrument.open_pitches[note.string] < 25
            found["bend"] += bool(note.bend)
            found["vibrato"] += note.vibrato[0] > 0
            found["hammer"] += note.attack == "hammer"
            found["slide"] += note.attack == "slide"
            found["palm"] += 0.3 < note.mute < 0.85
            found["dead"] += note.mute > 0.9
            found["up"] += note.stroke < 0
        if phrase.style == "strummed chords":
            starts = sorted(n.start for n in notes)[:4]
            assert 0 < starts[-1] - starts[0] < 0.15  # string after string
    assert all(count >= 2 for count in found.values()), found


@pytest.mark.parametrize("instrument,lowest", [("bass", 24), ("guitar", 36)])
def test_instrument_is_the_one_asked_for(instrument, lowest):
    for phrase in islice(guitar.phrases(instrument, 0), 12):
        strings = guitar.notes_of(phrase)[0].open_pitches
        assert len(strings) == (4 if instrument == "bass" else 6)
        assert lowest < strings[0] < lowest + 6


def test_silence_and_noise_floors_exist(train):
    levels = frame_levels(train)
    assert np.mean(levels < -75) > 0.002  # true silence
    quiet = (levels > -72) & (levels < -45)
    assert np.mean(quiet) > 0.02  # hum and hiss between phrases, notes that die in them


def test_joins_do_not_click():
    whole, at = perform(20, seed=4), 0
    for phrase in guitar.phrases("both", 4):
        at += len(guitar._render(phrase))
        if at > len(whole) - 1000:
            break
        assert np.abs(np.diff(whole[at - 20 : at + 20])).max() < 0.02
        assert abs(whole[at]) < 0.02


def test_levels_spread_like_real_playing(train, guitars):
    for x in (train, guitars):
        levels = frame_levels(x)
        for rank, real in REAL_LEVELS.items():
            found = np.percentile(levels, rank)
            # as loud in the loud half, at least as wide in the soft one
            assert found < real + 2.5, rank
            assert found > real - (2.5 if rank >= 50 else 30), rank
        assert 20 * np.log10(x.std()) == pytest.approx(REAL_RMS, abs=2)
        assert np.percentile(levels, 2) < -45


def test_treble_spreads_wider_than_in_real_playing(train):
    found = {rank: np.percentile(treble(train), rank) for rank in REAL_TREBLE}
    assert found[5] < REAL_TREBLE[5]
    assert found[95] > REAL_TREBLE[95] - 2
    assert found[50] == pytest.approx(REAL_TREBLE[50], abs=8)


def test_spectrum_follows_real_playing(guitars):
    found = thirds(guitars)
    for centre, real in REAL_SPECTRUM.items():
        assert found[centre] == pytest.approx(real, abs=8 if centre < 4000 else 14), centre


def test_peaks_attacks_and_asymmetry_are_those_of_playing(train, guitars):
    for x in (train, guitars):
        kurtosis = np.mean((x - x.mean()) ** 4) / x.var() ** 2
        assert 0.6 * REAL_KURTOSIS < kurtosis < 2 * REAL_KURTOSIS
        size = len(x) // 2205 * 2205
        frames = np.abs(x[:size].reshape(-1, 2205)).max(axis=1)
        crest = (20 * np.log10(frames + 1e-9) - frame_levels(x))[frame_levels(x) > -60]
        assert np.percentile(crest, 5) < REAL_CREST[0] + 1
        assert np.percentile(crest, 95) > REAL_CREST[1] - 1
    fast = np.sqrt(np.convolve(guitars.astype(float) ** 2, np.ones(882) / 882, "same")[::441])
    rise = np.log(np.maximum(1e-4, fast))
    onsets, _ = signal.find_peaks(np.maximum(0, rise[2:] - rise[:-2]), height=0.35, distance=5)
    assert 0.5 * REAL_ONSETS < len(onsets) / 90 < 2 * REAL_ONSETS


def test_against_recordings_when_they_are_there(real_audio, guitars):
    path = real_audio / "di-guitar-212s.flac"
    real, rate = soundfile.read(path, dtype="float32")
    assert rate == SAMPLE_RATE
    ranks = [50, 75, 90, 95]
    ours, theirs = (np.percentile(frame_levels(x), ranks) for x in (guitars, real))
    assert np.abs(ours - theirs).max() < 2.5
    widths = [np.subtract(*np.percentile(frame_levels(x), [95, 5])) for x in (guitars, real)]
    assert widths[0] > widths[1]
    found, wanted = thirds(guitars), thirds(real)
    for centre in REAL_SPECTRUM:
        assert found[centre] == pytest.approx(wanted[centre], abs=8 if centre < 4000 else 14)


def test_capture_signal_covers_levels_and_frequencies():
    x = capture_signal(12, seed=1)
    assert x.dtype == np.float32 and len(x) == 12 * SAMPLE_RATE
    assert np.all(np.isfinite(x)) and np.abs(x).max() <= PEAK
    assert np.array_equal(x, capture_signal(12, seed=1))
    assert not np.array_equal(x, capture_signal(12, seed=2))
    levels = frame_levels(x)
    assert np.percentile(levels, 90) > -18 and np.percentile(levels, 10) < -45
    for kind in KINDS:
        wave = kind(SAMPLE_RATE, np.random.default_rng(0))
        assert len(wave) == SAMPLE_RATE and 0.001 < np.abs(wave).max() < 3


@pytest.mark.parametrize(
    "call",
    [
        lambda: split("training"),
        lambda: split("test", seconds=0),
        lambda: split("test", seconds=-1.0),
        lambda: split("test", seconds=float("nan")),
        lambda: split("test", seed=-1),
        lambda: perform(1, seed=0, instrument="banjo"),
        lambda: perform(0, seed=0),
        lambda: perform("long", seed=0),
        lambda: perform(1, seed=1.5),
        lambda: capture_signal(-1, seed=0),
    ],
)
def test_bad_input_is_refused_with_a_sentence(call):
    with pytest.raises(InputError, match=r"must be .* not"):
        call()
