"""The streaming engine, and clocks that are turned by hand: what is timed is known exactly."""

from __future__ import annotations

import platform
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from common import ROUNDINGS, exact, in_pytorch, needs_compiler, no_compiler, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyamp import compiler, realtime
from tinyamp.data import load_excerpt
from tinyamp.files import InputError, data_folder
from tinyamp.model import AmpLSTM, load_model
from tinyamp.realtime import (
    BlockTimes,
    Engine,
    SlowEngineWarning,
    Timing,
    block_times,
    compare,
    cpu_name,
    real_time_factor,
)

pytestmark = pytest.mark.usefixtures("own_cache")

RATE = 44_100
MODELS = sorted((data_folder() / "models").glob("*.safetensors"))


KINDS = [pytest.param(True, marks=needs_compiler, id="compiled"), pytest.param(False, id="PyTorch")]


# The engine


@pytest.mark.parametrize("compiled", KINDS)
@pytest.mark.parametrize("path", MODELS[::3], ids=lambda path: path.stem)
def test_the_engine_plays_the_model(path, compiled):
    model = load_model(path)
    x = load_excerpt("sim-muff", "test").input[:44_100]
    y = Engine(model, compiled=compiled).process(x)
    error = np.abs(y - exact(model, x)).max()
    assert error <= ROUNDINGS * np.abs(in_pytorch(model, x) - exact(model, x)).max()


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 1000), max_size=40), hidden_size=st.sampled_from([1, 20, 57]))
def test_any_blocks_give_the_same_bits_when_compiled(cuts, hidden_size):
    engine = Engine(AmpLSTM(hidden_size, seed=1), compiled=True)
    x = noise(1000)
    whole = engine.process(x)
    engine.reset()
    y = np.concatenate([engine.process(block) for block in np.split(x, sorted(cuts))])
    assert np.array_equal(y, whole)


@pytest.mark.parametrize("path", MODELS[::3], ids=lambda path: path.stem)
def test_any_blocks_give_nearly_the_same_in_pytorch(path):
    engine = Engine(load_model(path), compiled=False)
    x = noise(2000)
    whole = engine.process(x)
    rng = np.random.default_rng(1)
    for longest in (1, 64, 1000):
        engine.reset()
        cuts = np.cumsum(rng.integers(0, longest + 1, size=9000))
        blocks = np.split(x, cuts[cuts < len(x)])
        y = np.concatenate([engine.process(block) for block in blocks])
        assert np.abs(y - whole).max() < 1e-6


@pytest.mark.parametrize("compiled", KINDS)
def test_an_engine_is_independent_of_its_model_and_of_others(compiled):
    model = AmpLSTM(6, seed=2, sample_rate=48_000)
    x = noise(300)
    one, two = Engine(model, compiled=compiled), Engine(model, compiled=compiled)
    assert one.sample_rate == 48_000 and one.hidden_size == 6
    with torch.no_grad():
        model.head.weight.zero_()
    first = one.process(x)
    one.process(x)
    assert np.array_equal(two.process(x), first)
    one.reset()
    assert np.array_equal(one.process(x), first)
    assert not np.array_equal(first, x)
    assert len(one.process(x[:0])) == 0 and len(one.process(x[:1])) == 1


@pytest.mark.parametrize("compiled", KINDS)
def test_the_engine_says_what_runs(compiled):
    engine = Engine(AmpLSTM(20), compiled=compiled)
    assert engine.kind == ("compiled" if compiled else "PyTorch")
    assert engine.description.startswith("20 hidden units, ")
    assert engine.kind in engine.description and engine.description in repr(engine)
    assert engine.reason


@needs_compiler
def test_a_width_and_a_layout_can_be_chosen():
    engine = Engine(AmpLSTM(5), width=1, layout="sparse")
    assert engine.description == "5 hidden units, compiled, plain C, sparse"
    assert "4 floats at a time" in Engine(AmpLSTM(5), width=4).description
    with pytest.raises(InputError, match="width"):
        Engine(AmpLSTM(5), width=5)
    with pytest.raises(InputError, match="layout"):
        Engine(AmpLSTM(5), layout="round")
    with pytest.raises(InputError, match="drop compiled=False"):
        Engine(AmpLSTM(5), width=4, compiled=False)


def test_without_a_compiler_it_is_pytorch_and_a_warning_says_what_to_install(monkeypatch):
    no_compiler(monkeypatch)
    model = AmpLSTM(5, seed=1)
    with pytest.warns(SlowEngineWarning, match="install gcc or clang"):
        engine = Engine(model)
    assert engine.kind == "PyTorch" and "No C compiler" in engine.reason
    x = noise(100)
    assert np.abs(engine.process(x) - exact(model, x)).max() < 1e-6
    for demand in ({"compiled": True}, {"width": 4}, {"layout": "dense"}):
        with pytest.raises(InputError, match="No C compiler"):
            Engine(model, **demand)


def test_a_compiler_that_fails_is_no_reason_to_be_silent(monkeypatch):
    monkeypatch.setattr(compiler, "find_compiler", lambda: ["false"])
    with pytest.warns(SlowEngineWarning, match=r"failed|did not run"):
        engine = Engine(AmpLSTM(4))
    assert engine.kind == "PyTorch"


@pytest.mark.parametrize("compiled", [*KINDS, None])
def test_models_that_cannot_be_played_are_refused(compiled):
    with pytest.raises(InputError, match=r"signal|several"):
        Engine(AmpLSTM(4, input_size=2), compiled=compiled)
    model = AmpLSTM(4).double()
    with torch.no_grad():
        model.lstm.weight_ih_l0[0] = 1e300
    with pytest.raises(InputError, match="beyond"):
        Engine(model, compiled=compiled)


@pytest.mark.parametrize("compiled", KINDS)
def test_signals_that_are_not_one_finite_channel_are_refused(compiled):
    engine = Engine(AmpLSTM(3), compiled=compiled)
    for x, words in ((np.zeros((2, 9)), "one channel"), ([0, np.nan], "NaN"), ([np.inf], "NaN")):
        with pytest.raises(InputError, match=words):
            engine.process(x)


# Robustness

SIGNALS = {
    "silence": np.zeros(4000, np.float32),
    "dc": np.ones(4000, np.float32),
    "full-scale noise": np.sign(noise(4000)),
    "denormal": (1e-41 * np.sign(noise(4000))).astype(np.float32),
}


@pytest.mark.parametrize("compiled", KINDS)
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("path", MODELS[::3], ids=lambda path: path.stem)
def test_extreme_signals_are_exact(path, name, compiled):
    model, x = load_model(path), SIGNALS[name]
    expected = exact(model, x)
    error = np.abs(Engine(model, compiled=compiled).process(x) - expected).max()
    assert error <= max(ROUNDINGS * np.abs(in_pytorch(model, x) - expected).max(), 1e-6)


def state_of(engine: Engine) -> np.ndarray:
    """A compiled engine's h and c, without the count of samples at the end."""
    player = engine._player
    start = player._state - player._memory.ctypes.data
    padded = -(-engine.hidden_size // 16) * 16
    return player._memory[start : start + 3 * padded * 4].view(np.float32)


@needs_compiler
def test_an_hour_leaves_no_trace():
    """60 minutes of everything: no NaN, no denormal number, and afterwards as fresh as at first."""
    model = AmpLSTM(6, seed=4)
    engine = Engine(model, compiled=True)
    minute = 60 * RATE
    tiny = np.finfo(np.float32).tiny
    signals = [
        noise(minute),
        np.zeros(minute, np.float32),
        np.ones(minute, np.float32),
        np.sign(noise(minute, seed=1)),
        np.full(minute, 1e-41, np.float32),
    ]
    settled = []
    for k in range(60):
        y = engine.process(signals[k % len(signals)])
        assert np.isfinite(y).all()
        state = state_of(engine)
        assert np.isfinite(state).all()
        assert not np.any((state != 0) & (np.abs(state) < tiny))
        if k % len(signals) == 1:
            settled.append(y[-1000:])
    assert len(settled) == 12 and all(np.array_equal(y, settled[0]) for y in settled)  # no drift
    fresh = Engine(model, compiled=True)
    x = noise(2 * RATE, seed=9)
    old, new = engine.process(x), fresh.process(x)
    assert np.abs(old - new)[RATE:].max() < 1e-6
    assert np.abs(new - exact(model, x)).max() < 1e-6


# Clocks


class Clock:
    """A clock that only moves when an engine of ours works."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(realtime, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def engine(self, rtf: float, call: float = 0.0):
        """A process that takes `call` seconds a call and `rtf` seconds a second of audio."""

        def play(x: np.ndarray) -> np.ndarray:
            self.now += call + rtf * len(x) / RATE
            return x

        return play


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_real_time_factor_is_compute_time_over_audio_time(clock):
    assert real_time_factor(clock.engine(0.25)) == pytest.approx(0.25)
    assert real_time_factor(clock.engine(0.25), seconds=0.1) == pytest.approx(0.25)
    assert real_time_factor(clock.engine(3.0), sample_rate=88_200) == pytest.approx(6.0)
    assert real_time_factor(clock.engine(0.25), x=np.zeros(100)) == pytest.approx(0.25)


def test_real_time_factor_averages_three_runs_of_one_second(clock):
    lengths, costs = [], iter([9.0, 0.1, 0.2, 0.6])  # the first is the warm-up

    def play(x: np.ndarray) -> np.ndarray:
        lengths.append(len(x))
        clock.now += next(costs)
        return x

    assert real_time_factor(play) == pytest.approx(0.3)
    assert lengths[1:] == [RATE] * 3 and lengths[0] < RATE / 100


def test_compare_finds_the_factors_whatever_the_speed(clock):
    rtfs = {"very slow": 40.0, "slow": 3.0, "fast": 0.002, "faster": 1e-5}
    timings = compare({name: clock.engine(rtf) for name, rtf in rtfs.items()}, rounds=5)
    for name, timing in timings.items():
        assert timing.median == pytest.approx(rtfs[name])
        assert timing.quartiles == pytest.approx((rtfs[name],) * 2)
        assert timing.speed == pytest.approx(1 / rtfs[name])
        assert timing.n == 5
        lasted = timing.median * timing.samples * timing.repeats / RATE
        assert lasted * 1.0001 >= 0.005 and (lasted <= 0.25 or timing.samples == realtime.PROBE)
    assert timings["fast"].samples == RATE > timings["slow"].samples
    assert timings["faster"].repeats > 100
    assert timings["fast"].times_faster_than(timings["slow"]) == pytest.approx(1500)


def test_compare_is_not_fooled_by_the_cost_of_a_call(clock):
    """An engine with a slow start of each call plays the whole signal if it can."""
    timing = compare({"a": clock.engine(0.1, call=1e-3)}, rounds=1)["a"]
    assert timing.samples == RATE
    assert timing.median == pytest.approx(0.101)


def test_compare_takes_turns_in_random_order(clock):
    def play(name: str):
        def process(x: np.ndarray) -> np.ndarray:
            turns.append(name)
            clock.now += 0.01
            return x

        return process

    orders = []
    for _ in range(2):
        turns: list[str] = []
        compare({name: play(name) for name in "abc"}, rounds=12, seed=3)
        orders.append([tuple(turns[-3 * k :][:3]) for k in range(12, 0, -1)])
    assert orders[0] == orders[1]  # the seed decides
    assert all(sorted(order) == ["a", "b", "c"] for order in orders[0])
    assert len(set(orders[0])) > 2


def test_medians_ignore_what_else_the_machine_does(clock):
    """Half as fast for a while, and one round interrupted: the ratio is as it was."""
    calls = [0]

    def disturbed(rtf: float):
        def play(x: np.ndarray) -> np.ndarray:
            calls[0] += 1
            slow = 2.0 if calls[0] > 30 else 1.0
            clock.now += slow * rtf * len(x) / RATE + 5.0 * (calls[0] == 25)
            return x

        return play

    timings = compare({"a": disturbed(0.1), "b": disturbed(0.2)}, rounds=21)
    assert timings["a"].times_faster_than(timings["b"]) == pytest.approx(2)


def test_timings_of_different_runs_do_not_compare():
    with pytest.raises(InputError, match="3 and 2 rounds"):
        Timing((0.1,) * 3, 10, 1).times_faster_than(Timing((0.1,) * 2, 10, 1))


def test_block_times_count_what_comes_late(clock):
    number = iter(range(10**6))

    def play(x: np.ndarray) -> np.ndarray:
        k = next(number) - 100  # that many warm up
        assert len(x) == 32
        late = 1e-3 if k >= 0 and k % 100 == 99 else 0.0
        clock.now += 1e-4 + late
        return x

    engine = SimpleNamespace(process=play, sample_rate=RATE)
    times = block_times(engine, 32, 1000)
    assert len(times.times) == 1000 and times.deadline == 32 / RATE
    assert times.misses == 10
    assert times.median == pytest.approx(1e-4)
    assert times.quantile(0.999) == times.maximum == pytest.approx(1.1e-3)
    assert times.quantile(0.98) == pytest.approx(1e-4)


def test_a_block_that_takes_exactly_as_long_as_it_lasts_is_in_time():
    assert BlockTimes(10, 1000, np.array([0.01, 0.011, 0.009])).misses == 1


@pytest.mark.parametrize("compiled", KINDS)
def test_real_engines_can_be_timed(compiled):
    engine = Engine(AmpLSTM(4), compiled=compiled)
    assert real_time_factor(engine.process, seconds=0.02) > 0
    x = noise(500)
    for size in (16, 512):
        if size <= len(x):
            assert block_times(engine, size, 20, x=x).maximum > 0
        else:
            with pytest.raises(InputError, match="not even a block"):
                block_times(engine, size, 20, x=x)
        assert block_times(engine, size, 3).times.shape == (3,)


def test_impossible_timings_are_refused():
    def same(x: np.ndarray) -> np.ndarray:
        return x

    for bad in ({"x": np.zeros((2, 3))}, {"seconds": 0.0}, {"seconds": -1.0}):
        with pytest.raises(InputError, match="needs audio"):
            real_time_factor(same, **bad)
    with pytest.raises(InputError, match="runs"):
        real_time_factor(same, runs=0)
    for engines, rounds in (({}, 3), ({"a": same}, 0)):
        with pytest.raises(InputError, match="at least one"):
            compare(engines, rounds=rounds)
    with pytest.raises(InputError, match="at least one block"):
        block_times(Engine(AmpLSTM(3), compiled=False), 0)


def test_garbage_collection_is_back_after_a_timing():
    import gc

    def fails(_: np.ndarray) -> np.ndarray:
        if not gc.isenabled():
            raise RuntimeError("while timing")
        return np.zeros(0)

    with pytest.raises(RuntimeError, match="while timing"):
        real_time_factor(fails)
    assert gc.isenabled()


def test_the_processor_has_a_name(monkeypatch, tmp_path):
    name = cpu_name()
    assert name and "\n" not in name and name == name.strip()
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some  CPU @ 3.00GHz\n")
    monkeypatch.setattr(realtime, "CPU_INFO", info)
    assert cpu_name() == "Some CPU @ 3.00GHz"
    info.write_text("Hardware : x\nModel\t\t: Raspberry Pi 5\n")
    assert cpu_name() == "Raspberry Pi 5"
    info.unlink()
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    done = subprocess.CompletedProcess([], 0, stdout="Apple M9\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert cpu_name() == "Apple M9"
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(platform, "processor", lambda: "Intel64 Family 6")
    assert cpu_name() == "Intel64 Family 6"
