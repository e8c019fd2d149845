"""The simulated devices: against ngspice, and what must hold for any input and knob."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinyamp import circuits, guitar
from tinyamp.circuits import DEVICES, Controls, downsample, netlist, simulate, solver, upsample
from tinyamp.files import InputError
from tinyamp.measure import settling_time

RATE = 44_100
OVERSAMPLING = 8
OTHER_KNOBS = Controls(gain=0.8, tone=0.3, volume=0.9)
every_device = pytest.mark.parametrize("device", list(DEVICES))


def plucked(seconds: float, peak: float = 10 ** (-5 / 20)) -> np.ndarray:
    """Three overlapping plucked strings (110, 165, 220 Hz) with stiffness, and a little hiss."""
    t = np.arange(round(seconds * RATE)) / RATE
    x = np.zeros(len(t))
    for start, frequency, level in ((0.005, 110.0, 0.9), (0.03, 164.8, 0.7), (0.06, 220.0, 0.8)):
        since = np.clip(t - start, 0.0, None)
        for k in range(1, 25):
            pitch = frequency * k * np.sqrt(1 + 1e-4 * k**2)
            partial = np.exp(-3 * k * since) * np.sin(2 * np.pi * pitch * since)
            x += level * np.sin(0.3 * k) / k * partial
    x += 1e-4 * np.random.default_rng(0).standard_normal(len(t))
    return (peak * x / np.abs(x).max()).astype(np.float32)


def playing(seconds: float) -> np.ndarray:
    """The loudest stretch of two seconds of the synthesised guitar, at playing level."""
    x = guitar.perform(2.0, seed=1, instrument="guitar")
    length = round(seconds * guitar.SAMPLE_RATE)
    start = max(range(0, len(x) - length, 441), key=lambda k: np.sum(x[k : k + length] ** 2))
    cut = x[start : start + length] * np.minimum(1, np.arange(length) / 220)  # 5 ms to fade in
    cut *= np.minimum(1, np.arange(length)[::-1] / 220)
    return cut * (10 ** (-5 / 20) / np.abs(cut).max())


def error_ratio(wanted: np.ndarray, found: np.ndarray) -> float:
    wanted, found = wanted.astype(np.float64), found.astype(np.float64)
    return float(np.sum((wanted - found) ** 2) / np.sum(wanted**2))


def ngspice(deck: str, wide: np.ndarray, rate: float, folder: Path) -> np.ndarray:
    """Node `out` as ngspice computes it for the input `wide` (volts at `rate`), at the same times.

    The deck is the device's own; only Vin is replaced, by a source that reads a file.
    """
    t = np.arange(len(wide)) / rate
    np.savetxt(folder / "in.txt", np.stack([t, wide], 1), fmt="%.12e")
    source = '%v([in]) src\n.model src filesource(file="in.txt" amploffset=[0] amplscale=[1])'
    assert deck.count("\nVin in 0 DC 0\n") == 1
    deck = deck.replace("\nVin in 0 DC 0\n", f"\nA1 {source}\n")
    lines = [
        line for line in deck.splitlines() if line.split(" ")[0] not in (".tran", ".save", ".end")
    ]
    step = 3 / rate  # the largest; ngspice's error control takes shorter ones
    lines += [
        ".options reltol=1e-4 abstol=1e-13 vntol=1e-8 method=trap",
        ".control",
        "set wr_singlescale",
        "option numdgt=10",
        f"tran {step:.9e} {t[-1]:.9e} 0 {step:.9e}",
        "wrdata out.txt v(out)",
        "quit",
        ".endc",
        ".end",
    ]
    (folder / "deck.cir").write_text("\n".join(lines) + "\n")
    run = subprocess.run(
        ["ngspice", "-b", "deck.cir"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert (folder / "out.txt").exists(), run.stdout[-1000:] + run.stderr[-1000:]
    out = np.loadtxt(folder / "out.txt")
    assert out[-1, 0] == pytest.approx(t[-1]), "ngspice stopped early"
    return np.interp(t, out[:, 0], out[:, 1])


@pytest.mark.parametrize("controls", [None, OTHER_KNOBS], ids=["default-knobs", "other-knobs"])
@every_device
def test_ngspice_agrees(device: str, controls: Controls | None, tmp_path: Path) -> None:
    if shutil.which("ngspice") is None:
        pytest.skip("ngspice is missing: apt-get install ngspice")
    x = playing(0.11)
    rate = float(RATE * OVERSAMPLING)
    wide = upsample(x, OVERSAMPLING)
    reference = downsample(ngspice(netlist(device, controls), wide, rate, tmp_path), OVERSAMPLING)
    model = solver(device, controls, rate=rate)
    found = downsample(model.run(wide), OVERSAMPLING)
    assert model.failed == 0
    assert np.abs(reference).max() > 0.2  # the guitar is heard
    assert error_ratio(reference, found) < 1e-4  # 0.01 %; 0.5 % is what matters to the ear
    # simulate() is the same run, but for the silence that its filters see around the signal.
    knobs = vars(controls) if controls else {}
    assert error_ratio(found[100:-100], simulate(device, x, **knobs)[100:-100]) < 1e-6


@pytest.mark.skipif(shutil.which("ngspice") is None, reason="apt-get install ngspice")
@every_device
def test_ngspice_runs_the_file_as_it_is(device: str, tmp_path: Path) -> None:
    (tmp_path / "deck.cir").write_text(netlist(device))
    run = subprocess.run(
        ["ngspice", "-b", "-r", "out.raw", "deck.cir"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out.raw").stat().st_size > 1000


@every_device
def test_the_file_holds_the_default_knobs(device: str) -> None:
    text = (circuits.data_folder() / "circuits" / f"{device}.cir").read_text()
    assert circuits.circuit(device) == circuits.parse(text)
    assert netlist(device, OTHER_KNOBS) != text


@every_device
def test_silence_stays_silent(device: str) -> None:
    assert np.abs(simulate(device, np.zeros(4000, np.float32))).max() < 1e-6


@every_device
def test_guitar_at_playing_level_fills_the_scale(device: str) -> None:
    y = simulate(device, plucked(0.5))
    assert 0.4 < np.abs(y).max() < 0.9
    assert y.dtype == np.float32
    assert y.shape == plucked(0.5).shape


def harsh() -> np.ndarray:
    """Full-scale squares, noise, steps and denormals."""
    random = np.random.default_rng(0)
    n = 4000
    t = np.arange(n)
    return np.concatenate(
        [
            np.sign(np.sin(2 * np.pi * 82 * t / RATE)),
            np.sign(np.sin(2 * np.pi * 1000 * t / RATE)),
            random.uniform(-1, 1, n),
            np.sign(random.standard_normal(n)),
            np.repeat(np.sign(random.standard_normal(n // 50)), 50),
            np.ones(n // 2),
            -np.ones(n // 2),
            np.full(500, 1e-40),
        ]
    ).astype(np.float32)


@every_device
@pytest.mark.parametrize("knobs", list(itertools.product((0.0, 1.0), repeat=3)))
def test_nothing_drives_the_output_over_full_scale(device: str, knobs: tuple[float, ...]) -> None:
    x = harsh()[:: 1 if knobs[2] == 1.0 else 4]  # with the volume down, less will do
    gain, tone, volume = knobs
    # A step that does not converge is a RuntimeWarning and fails here.
    y = simulate(device, x, gain=gain, tone=tone, volume=volume)
    assert np.isfinite(y).all()
    assert np.abs(y).max() <= 1.0


@every_device
def test_nothing_drives_the_output_over_full_scale_at_default_knobs(device: str) -> None:
    assert np.abs(simulate(device, harsh())).max() <= 1.0


@every_device
def test_the_same_input_gives_the_same_output(device: str) -> None:
    x = plucked(0.05)
    np.testing.assert_array_equal(simulate(device, x), simulate(device, x))


@every_device
def test_no_offset_remains(device: str) -> None:
    t = np.arange(RATE // 2) / RATE
    y = simulate(device, (0.3 * np.sin(2 * np.pi * 200 * t)).astype(np.float32))
    assert abs(y[-RATE // 5 :].mean()) < 0.01 * y.std()  # whole periods of 200 Hz


@every_device
def test_each_knob_is_heard(device: str) -> None:
    x = plucked(0.1)
    low, high = (simulate(device, x, volume=v).std() for v in (0.3, 0.9))
    assert high > 2 * low
    assert simulate(device, x, volume=0).std() < 0.02 * high

    def brightness(y: np.ndarray) -> float:
        return float(np.diff(y).std() / y.std())

    dark, bright = (brightness(simulate(device, x, tone=v)) for v in (0.0, 1.0))
    assert bright > 1.3 * dark
    # More gain, more compression: a quarter of the input is less and less of a difference.
    ratios = [
        simulate(device, 0.25 * x, gain=v).std() / simulate(device, x, gain=v).std() for v in (0, 1)
    ]
    assert ratios[1] > ratios[0]


@every_device
def test_twice_the_oversampling_changes_little(device: str) -> None:
    x = plucked(0.2)
    assert error_ratio(simulate(device, x, oversampling=16), simulate(device, x)) < 1e-4


@every_device
def test_aliasing_is_bounded(device: str) -> None:
    """A 5 kHz sine, square by the end: what folds back below 20 kHz is 54 dB below its output."""
    n = RATE // 2  # half a second, so bin k is 2 k Hz
    x = (0.5 * np.sin(2 * np.pi * 5000 * np.arange(n + 5000) / RATE)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(simulate(device, x)[5000:].astype(np.float64) * np.hanning(n)))
    hertz = 2 * np.arange(len(spectrum))
    between = (np.abs((hertz + 2500) % 5000 - 2500) > 20) & (hertz > 200) & (hertz < 20_000)
    assert spectrum[between].max() < 2e-3 * spectrum[2500]


def test_resampling_is_flat_aligned_and_deep() -> None:
    x = plucked(0.2)
    back = downsample(upsample(x, 8), 8)
    assert error_ratio(x[100:-100], back[100:-100]) < 1e-6  # zero lag, flat
    response = 20 * np.log10(np.abs(np.fft.rfft(circuits.resampling_filter(8), 1 << 16)) + 1e-12)
    hertz = np.arange(len(response)) * 8 * RATE / (1 << 16)
    assert np.abs(response[hertz < 19_900]).max() < 0.01
    assert response[hertz > 24_200].max() < -88.0


@pytest.mark.parametrize("length", [0, 1, 31, 64, 65, 199, 200, 201, 1000])
def test_blocks_do_not_show(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = plucked(0.1)[1000 : 1000 + length]
    whole = simulate("sim-crunch", x)
    monkeypatch.setattr(circuits, "_BLOCK", 100)
    np.testing.assert_allclose(simulate("sim-crunch", x), whole, atol=1e-7)
    assert whole.shape == x.shape


def test_the_input_is_not_delayed() -> None:
    """A quiet slow pulse through the crunch stage peaks where it did, but for treble cuts."""
    x = np.zeros(3000, np.float32)
    x[1500:1530] = 1e-2 * np.hanning(30)
    y = simulate("sim-crunch", x)
    lag = int(np.argmax(np.abs(y))) - int(np.argmax(x))
    assert abs(lag) <= 4


def test_memory_is_short_or_long() -> None:
    times = {
        device: settling_time(lambda x, device=device: simulate(device, x), duration=0.6, lead=0.05)
        for device in DEVICES
    }
    assert max(times["sim-muff"], times["sim-crunch"]) < 0.04
    assert min(times["sim-lead"], times["sim-metal"]) > 0.1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "muff"}, "choose one of sim-muff, sim-crunch"),
        ({"gain": 1.1}, "gain knob goes from 0 to 1"),
        ({"tone": -0.1}, "tone knob goes from 0 to 1"),
        ({"volume": float("nan")}, "volume knob goes from 0 to 1"),
        ({"volume": "loud"}, "must be a number"),
        ({"x": np.array([0.0, np.nan])}, "NaN or infinity"),
        ({"x": np.array([0.0, -np.inf])}, "NaN or infinity"),
        ({"x": np.zeros((2, 100))}, r"one channel .* \(2, 100\)"),
        ({"x": np.full(10, 1e6)}, "100 times full scale"),
        ({"x": ["a"]}, "not an array of numbers"),
        ({"oversampling": 0}, "from 1 to 64"),
        ({"oversampling": 2.5}, "whole number"),
        ({"oversampling": "8"}, "whole number"),
        ({"sample_rate": 0}, "above 0 Hz"),
    ],
)
def test_bad_input_is_one_sentence(change: dict, reason: str) -> None:
    arguments = {"device": "sim-muff", "x": np.zeros(10, np.float32)} | change
    with pytest.raises(InputError, match=reason) as caught:
        simulate(arguments.pop("device"), arguments.pop("x"), **arguments)
    assert "\n" not in str(caught.value)


def test_steps_without_convergence_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **knobs: object):
        model = solver(*args, **knobs)
        model.k[:] = np.nan
        return model

    monkeypatch.setattr(circuits, "solver", broken)
    with pytest.warns(RuntimeWarning, match="did not converge"):
        simulate("sim-muff", np.zeros(10, np.float32))


def test_a_missing_netlist_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYAMP_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"sim-muff\.cir cannot be read"):
        netlist("sim-muff")
