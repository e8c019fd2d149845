"""Colours told apart by every eye, sounds at one level, players that play, figures that draw."""

from __future__ import annotations

import base64
import io
import itertools
import re
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from tinyamp.files import InputError
from tinyamp.show import (
    COLOURS,
    colours,
    level_match,
    players,
    spectra,
    table,
    training_curve,
    use_style,
    waveforms,
)

RATE = 44_100
# Colour vision deficiencies in linear RGB: Machado, Oliveira and Fernandes (2009), severity 1.
VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
XYZ = np.array([[0.4124, 0.3576, 0.1805], LUMINANCE, [0.0193, 0.1192, 0.9505]])


def linear(hexadecimal: str) -> np.ndarray:
    value = np.array([int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    low, high = sorted(float(linear(c) @ LUMINANCE) + 0.05 for c in (a, b))
    return high / low


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("page", ["#ffffff", "#161412"])
def test_colours_stand_out_on_light_and_dark(name, page):
    assert contrast(COLOURS[name], page) >= 3.0


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    "group",
    [
        ["dry", "target", "unpruned", "pruned"],
        ["sim-muff", "sim-crunch", "sim-lead", "sim-metal"],
    ],
    ids=["roles", "devices"],
)
def test_colours_in_one_figure_differ_to_every_eye(vision, group):
    seen = [lab(VISION[vision] @ linear(COLOURS[name])) for name in group]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20


def test_colours_are_found_by_name_or_first_word():
    pruned, other, device = colours(["pruned", "Pruned, 88 %", "sim-muff (gain 0.8)"])
    assert (pruned, other, device) == (COLOURS["pruned"], COLOURS["pruned"], COLOURS["sim-muff"])


def test_what_has_no_name_takes_a_colour_that_nothing_beside_it_has():
    assert len(set(colours(["one", "target", "two", "dry", "three"]))) == 5


@settings(max_examples=50, deadline=None)
@given(
    levels=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=4),
    reference=st.floats(-40.0, 0.0),
    spike=st.floats(1.0, 50.0),
)
def test_level_match_gives_one_level_and_never_clips(levels, reference, spike):
    rng = np.random.default_rng(1)
    signals = {f"{i}": level * rng.standard_normal(2000) for i, level in enumerate(levels)}
    signals["0"][7] *= spike
    matched, gains = level_match(signals, reference)
    rms = [20 * np.log10(np.sqrt(np.mean(x.astype(float) ** 2))) for x in matched.values()]
    assert np.ptp(rms) < 1e-3
    assert max(rms) <= reference + 1e-3
    assert max(np.abs(x).max() for x in matched.values()) <= 0.991
    for label, x in signals.items():
        np.testing.assert_allclose(matched[label], x * 10 ** (gains[label] / 20), rtol=1e-5)
    # Nobody is quieter than need be: at the reference, or the loudest peak at full scale.
    peak = max(np.abs(x).max() for x in matched.values())
    assert max(rms) > reference - 1e-3 or peak > 0.989


def test_silence_stays_silent():
    matched, gains = level_match({"a": np.zeros(10), "b": np.full(10, 0.5)})
    assert not matched["a"].any() and gains["a"] == 0.0
    assert abs(np.sqrt(np.mean(matched["b"] ** 2)) - 0.1) < 1e-6


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"a": np.array([0.0, np.nan])}, "NaN"),
        ({"a": np.array([0.0, np.inf])}, "infinity"),
        ({"a": np.zeros((100, 2))}, r"\(100, 2\)"),
        ({"a": np.zeros(0)}, "empty"),
        ({}, "empty"),
        ([np.zeros(3)], "dictionary"),
    ],
)
@pytest.mark.parametrize("function", [level_match, players])
def test_what_cannot_be_heard_is_refused(function, bad, word):
    with pytest.raises(InputError, match=word):
        function(bad)


def decoded(markup: str) -> list[tuple[np.ndarray, int]]:
    found = re.findall(r'src="data:audio/(?:mpeg|flac);base64,([^"]+)"', markup)
    return [soundfile.read(io.BytesIO(base64.b64decode(data))) for data in found]


def distorted(seconds: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(t))
    return 0.5 * np.tanh(9 * np.sin(2 * np.pi * 82.4 * t) * np.exp(-t)) + 0.02 * noise


def test_lossless_player_holds_the_sound_itself():
    x = distorted(0.5)
    [(heard, rate)] = decoded(players({"target": x}, match=False, lossless=True).data)
    assert rate == RATE
    np.testing.assert_allclose(heard, x, atol=1 / 32_000)


@pytest.mark.skipif("MP3" not in soundfile.available_formats(), reason="libsndfile without MP3")
def test_player_is_small_and_close_to_the_sound():
    x = distorted(5.0)
    markup = players({"target": x}, match=False).data
    assert len(markup) < 102_400
    [(heard, rate)] = decoded(markup)
    assert rate == RATE and abs(len(heard) - len(x)) < 4000
    # The encoder shifts the sound by a fixed delay; at the best shift the error is small.
    part, start = x[20_000:60_000], 20_000
    errors = [
        np.mean((heard[start + lag : start + lag + len(part)] - part) ** 2)
        for lag in range(-1500, 1500)
    ]
    assert min(errors) < 0.01 * np.mean(part**2)


def test_players_are_labelled_and_escaped():
    markup = players({"dry": distorted(0.1), '<b>"&': 0.1 * distorted(0.1)}).data
    assert markup.count("<audio controls") == 2
    assert 'aria-label="dry"' in markup
    assert "<b>" not in markup and "&lt;b&gt;&quot;&amp;" in markup
    assert COLOURS["dry"] in markup
    assert re.search(r"[+−]\d+\.\d dB", markup)


def test_players_refuse_to_clip_unmatched():
    with pytest.raises(InputError, match=r"1\.50"):
        players({"loud": np.array([0.0, 1.5])}, match=False)


def test_sample_rate_without_mp3_falls_back():
    [(heard, rate)] = decoded(players({"a": distorted(0.1)}, 96_000, match=False).data)
    assert rate == 96_000 and len(heard) == len(distorted(0.1))


@pytest.fixture
def axes():
    with matplotlib.rc_context():
        use_style()
        figure = Figure()
        yield figure.subplots()
        figure.savefig(io.BytesIO(), format="png")  # draws everything: a warning is an error


def test_waveforms_draws_the_stretch_asked_for(axes):
    x = np.arange(RATE, dtype=float) / RATE
    waveforms(axes, {"dry": x, "target": -x}, start=0.5, seconds=0.1)
    t, y = axes.lines[0].get_data()
    assert len(t) == 4410 and axes.get_xlabel() == "Time (ms)"
    np.testing.assert_allclose(y, t / 1000, atol=1e-9)
    assert axes.lines[0].get_color() == COLOURS["dry"]
    with pytest.raises(InputError, match="end before"):
        waveforms(axes, {"dry": x}, start=2.0)


def test_spectra_peak_at_the_tone(axes):
    t = np.arange(RATE) / RATE
    spectra(axes, {"dry": np.sin(2 * np.pi * 440 * t), "target": np.sin(2 * np.pi * 880 * t)})
    for line, expected in zip(axes.lines, (440, 880), strict=True):
        frequency, level = line.get_data()
        assert abs(frequency[np.argmax(level)] - expected) < 6


def test_training_curve_marks_the_best_epoch(axes):
    losses = [(0.9, None), (0.5, 0.6), (0.3, None), (0.2, 0.4), (0.1, None), (0.09, 0.5)]
    epochs = [
        SimpleNamespace(epoch=i + 1, train_loss=t, validation_loss=v)
        for i, (t, v) in enumerate(losses)
    ]
    training_curve(axes, SimpleNamespace(epochs=epochs))
    training, validation, best = axes.lines
    assert list(training.get_ydata()) == [t for t, _ in losses]
    assert list(validation.get_xdata()) == [2, 4, 6]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (4, 0.4)
    with pytest.raises(InputError, match="no epoch"):
        training_curve(axes, SimpleNamespace(epochs=[]))


def test_figures_are_legible_on_a_phone():
    with matplotlib.rc_context():
        use_style()
        width = matplotlib.rcParams["figure.figsize"][0]
        # 350 px are left beside the margins; a point is 1/72 inch.
        assert 350 / width / 72 * matplotlib.rcParams["xtick.labelsize"] >= 8


def test_a_table_has_a_head_and_numbers_to_the_right():
    lines = table(("model", "ESR", "units"), [("muff", "0.1 %", 32)]).data.splitlines()
    assert lines == ["| model | ESR | units |", "| --- | --: | --: |", "| muff | 0.1 % | 32 |"]
