"""A model as a streaming engine, and how fast it is: real-time factor and block times (IV-C)."""

from __future__ import annotations

import gc
import math
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.std import tqdm

from tinyamp.compiler import CompiledModel
from tinyamp.files import InputError
from tinyamp.model import AmpLSTM
from tinyamp.players import TorchPlayer

Process = Callable[[np.ndarray], np.ndarray]  # (time,) to (time,)

SAMPLE_RATE = 44_100
BLOCK_SIZES = (16, 32, 64, 128, 256, 512)  # samples; what audio drivers offer
SHORTEST = 5e-3  # seconds that one timing lasts at least, so that the clock is exact enough
LONGEST = 0.25  # seconds that one timing should last at most: slow engines play less
CPU_INFO = Path("/proc/cpuinfo")  # on Linux
PROBE = 64  # samples that the speed of an engine is first estimated from


class SlowEngineWarning(UserWarning):
    """A model runs in PyTorch because it could not be compiled."""


class Engine:
    """A stream through `model`: each `process` goes on where the last one stopped.

    It is the model compiled (`tinyamp.compiler`) or, where that fails, in PyTorch, with a
    `SlowEngineWarning` that says what to install. `compiled=True` demands the former, as does
    choosing a `width` or `layout` (see `CompiledModel`); `compiled=False` takes the latter. The
    model is copied: training it afterwards does not change the engine.

    `kind` is "compiled" or "PyTorch"; `description` says in words what runs; `reason` says why
    the compiled layout was chosen, or why there is none. Raises `InputError` for a model of
    several inputs, for a width or layout that does not exist, and when what was demanded cannot
    be compiled.
    """

    def __init__(
        self,
        model: AmpLSTM,
        *,
        width: int | None = None,
        layout: str = "auto",
        compiled: bool | None = None,
    ) -> None:
        chosen = width is not None or layout != "auto"
        if chosen and compiled is False:
            raise InputError("A width or a layout is that of compiled code: drop compiled=False.")
        self.sample_rate: int = model.sample_rate
        self.hidden_size: int = model.hidden_size
        self.reason = "it was asked for"
        self._player: CompiledModel | TorchPlayer | None = None
        if compiled is not False:
            try:
                self._player = CompiledModel(model, width, layout=layout)
            except InputError as error:
                if compiled or chosen:
                    raise
                self.reason = str(error)
        if self._player is None:
            self._player = TorchPlayer(model)
            if compiled is None:
                warnings.warn(
                    f"The model runs in PyTorch, many times slower than compiled. {self.reason}",
                    SlowEngineWarning,
                    stacklevel=2,
                )
        units = f"{self.hidden_size} hidden unit" + "s" * (self.hidden_size != 1)
        if isinstance(self._player, CompiledModel):
            self.kind = "compiled"
            self.reason = self._player.reason
            self.description = f"{units}, compiled, {layout_name(self._player)}"
        else:
            self.kind = "PyTorch"
            self.description = f"{units}, PyTorch {torch.__version__.split('+')[0]}"

    def process(self, x: np.ndarray) -> np.ndarray:
        """The output (time,), float32, for the next block `x` (time,), of any length, also 0.

        How the stream is split into blocks does not change the output: to the bit when compiled;
        in PyTorch, which adds up in another order for another length, to about 1e-6. Raises
        `InputError` for an `x` that is not one-dimensional or not finite.
        """
        return self._player.process(x)

    def reset(self) -> None:
        """Go back to the zero state."""
        self._player.reset()

    def __repr__(self) -> str:
        return f"Engine({self.description}, {self.sample_rate} Hz)"


def layout_name(player: CompiledModel) -> str:
    """In words, what was compiled: "8 floats at a time, dense"."""
    floats = "plain C" if player.width == 1 else f"{player.width} floats at a time"
    return f"{floats}, {player.layout}"


@dataclass(frozen=True)
class Timing:
    """How fast an engine was: the real-time factor of every round, in the order of the rounds.

    Each is over `repeats` runs of `samples` samples. Two timings of one `compare` belong together
    round by round.
    """

    rtfs: tuple[float, ...]
    samples: int
    repeats: int

    @property
    def n(self) -> int:
        """How many rounds there were."""
        return len(self.rtfs)

    @property
    def median(self) -> float:
        """The median real-time factor."""
        return float(np.median(self.rtfs))

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the rounds was faster than the first, a quarter slower than the second."""
        low, high = np.quantile(self.rtfs, (0.25, 0.75))
        return float(low), float(high)

    @property
    def speed(self) -> float:
        """Seconds of audio in one second: 1 is real time."""
        return 1 / self.median

    def times_faster_than(self, other: Timing) -> float:
        """The median over the rounds of this engine's speed divided by the other's.

        Both stood next to each other in each round, so what slows the machine for a while cancels.
        """
        if self.n != other.n:
            raise InputError(f"Timings of {self.n} and {other.n} rounds are not of one comparison.")
        return float(np.median(np.divide(other.rtfs, self.rtfs)))


def real_time_factor(
    process: Process,
    *,
    seconds: float = 1.0,
    runs: int = 3,
    sample_rate: int = SAMPLE_RATE,
    x: np.ndarray | None = None,
) -> float:
    """The real-time factor as the paper measures it, Section IV-C: compute time / audio time.

    One second of audio is processed three times, and the times are averaged; below 1.0, a model
    runs in real time. The audio is `x` (time,), or `seconds` of noise. A few samples go first and
    do not count. For numbers that can be relied on to a few per cent, see `compare`.
    """
    x = _signal(x, seconds, sample_rate)
    if runs < 1:
        raise InputError(f"runs must be at least 1, but is {runs}.")
    process(x[:PROBE])
    with _no_garbage_collection():
        times = [_time(process, x) for _ in range(runs)]
    return float(np.mean(times)) * sample_rate / len(x)


def compare(
    engines: Mapping[str, Process],
    *,
    rounds: int = 21,
    seconds: float = 1.0,
    sample_rate: int = SAMPLE_RATE,
    x: np.ndarray | None = None,
    seed: int = 0,
    longest: float = LONGEST,
    progress: bool = False,
) -> dict[str, Timing]:
    """The real-time factors of several engines, measured side by side; compute time / audio time.

    Each round times every engine once, in a random order drawn from `seed`, so that whatever else
    the machine does hits all of them alike; medians then ignore it. Each engine warms up first.
    One timing lasts at least 5 ms: fast engines play the signal, `x` (time,) or `seconds` of
    noise, several times; slow ones play its beginning, so as not to last over `longest` seconds.

    The engines' states go on from round to round. Returns a `Timing` for each name.
    """
    x = _signal(x, seconds, sample_rate)
    if rounds < 1 or not engines:
        raise InputError("Give at least one engine and one round.")
    rng = np.random.default_rng(seed)
    names = list(engines)
    plan = {name: _plan(engines[name], x, longest) for name in names}
    rtfs: dict[str, list[float]] = {name: [] for name in names}
    bar = tqdm(total=rounds * len(names), desc="timing", unit="run", disable=not progress)
    with bar, _no_garbage_collection():
        for _ in range(rounds):
            for k in rng.permutation(len(names)):
                name = names[k]
                stretch, repeats = plan[name]
                elapsed = _time(engines[name], stretch, repeats)
                rtfs[name].append(elapsed * sample_rate / (len(stretch) * repeats))
                bar.update()
    return {name: Timing(tuple(rtfs[name]), len(plan[name][0]), plan[name][1]) for name in names}


def _plan(process: Process, x: np.ndarray, longest: float) -> tuple[np.ndarray, int]:
    """Warm up; the stretch of x that one timing takes, and how many times it is played."""
    probe = x[:PROBE]
    process(probe)
    per_sample = _time(process, probe) / len(probe)
    if per_sample * len(x) > longest:  # so it seems: the cost of a call may be most of it
        part = x[: min(len(x), PROBE * 16)]
        if per_sample * len(part) < 2 * longest:
            per_sample = _time(process, part) / len(part)
    length = int(longest / max(per_sample, 1e-12)) // PROBE * PROBE  # whole blocks
    stretch = x[: max(PROBE, length)]
    elapsed = min(_time(process, stretch) for _ in range(3 if length >= len(x) else 1))
    return stretch, math.ceil(SHORTEST / max(elapsed, 1e-7))


def _time(process: Process, x: np.ndarray, repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        process(x)
    return time.perf_counter() - start


def _signal(x: np.ndarray | None, seconds: float, sample_rate: int) -> np.ndarray:
    """The given signal as float32, or noise; at least one sample."""
    if x is None:
        length = round(seconds * sample_rate)
        x = 0.1 * np.random.default_rng(0).standard_normal(max(length, 0))
    x = np.asarray(x, dtype=np.float32)
    if x.ndim != 1 or not len(x):
        raise InputError(f"A timing needs audio of shape (time,), and got {x.shape}.")
    return x


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Python's own pauses are not the engine's."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(frozen=True)
class BlockTimes:
    """How long each block took, (blocks,) in seconds, in order; every block must meet a deadline.

    The deadline is the time that the block itself lasts: the next one is due then.
    """

    block_size: int
    sample_rate: int
    times: np.ndarray

    @property
    def deadline(self) -> float:
        """Seconds that a block lasts."""
        return self.block_size / self.sample_rate

    @property
    def misses(self) -> int:
        """How many blocks took longer than they last: each would be heard as a dropout."""
        return int((self.times > self.deadline).sum())

    def quantile(self, share: float) -> float:
        """The time in seconds that a `share` of the blocks, 0 to 1, did not exceed."""
        return float(np.quantile(self.times, share))

    @property
    def median(self) -> float:
        """The median time of a block in seconds."""
        return self.quantile(0.5)

    @property
    def maximum(self) -> float:
        """The longest time of a block in seconds."""
        return float(self.times.max())


def block_times(
    engine: Engine | CompiledModel | TorchPlayer,
    block_size: int = 64,
    blocks: int = 2000,
    *,
    x: np.ndarray | None = None,
    progress: bool = False,
) -> BlockTimes:
    """Time every one of a number of blocks of `block_size` samples, one after the other.

    The engine plays `x` (time,), over and over, or noise; it goes on from its state. A hundred
    blocks go first and do not count. What Python adds to each call, some microseconds, is counted.
    """
    if block_size < 1 or blocks < 1:
        raise InputError(f"Give at least one block of one sample; got {blocks} of {block_size}.")
    rate = engine.sample_rate
    x = _signal(x, max(1.0, 2 * block_size / rate), rate)
    if len(x) < block_size:
        raise InputError(f"The signal has {len(x)} samples, not even a block of {block_size}.")
    whole = x[: len(x) // block_size * block_size].reshape(-1, block_size)  # (blocks, block_size)
    for k in range(min(100, blocks)):
        engine.process(whole[k % len(whole)])
    times = np.empty(blocks)
    steps = tqdm(range(blocks), desc="blocks", unit="block", disable=not progress)
    with _no_garbage_collection():
        for k in steps:
            block = whole[k % len(whole)]
            start = time.perf_counter()
            engine.process(block)
            times[k] = time.perf_counter() - start
    return BlockTimes(block_size, rate, times)


def cpu_name() -> str:
    """What this machine's processor calls itself, for the caption of every timing."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model") and value.strip():
                return " ".join(value.split())
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip()
    return platform.processor() or platform.machine() or "an unknown processor"
