"""One table of every way to play a model: real-time factors of one interleaved run, and errors."""

from __future__ import annotations

import copy
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from tinyamp.compiler import CompiledModel
from tinyamp.data import SIMULATED, load_excerpt
from tinyamp.files import InputError
from tinyamp.masks import apply_masks, full_masks, masks_of, prune, sparsity
from tinyamp.model import AmpLSTM, one_thread
from tinyamp.players import NumpyPlayer, OnnxPlayer, PythonPlayer, TorchPlayer
from tinyamp.realtime import (
    BLOCK_SIZES,
    BlockTimes,
    Engine,
    Timing,
    block_times,
    compare,
    layout_name,
)

KINDS = ("python", "numpy", "pytorch", "onnx", "compiled")
LAYOUTS = ("dense", "sparse")
BLOCK = 64  # samples; a common setting of an audio driver
ROUNDS = 21
JITTER_BLOCKS = 5000
REFERENCE_CHUNK = 4096


class Player(Protocol):
    """What can be timed: a stream that can begin again."""

    def process(self, x: np.ndarray) -> np.ndarray: ...

    def reset(self) -> None: ...


@dataclass(frozen=True)
class Contender:
    """One row before it is timed; `block` is 0 for the whole signal in one call."""

    name: str
    kind: str
    player: Player
    block: int = 0
    is_default: bool = False  # what `Engine` takes

    def process(self, x: np.ndarray) -> np.ndarray:
        """The output (time,) for `x` (time,), in blocks if that is what is timed."""
        if not self.block:
            return self.player.process(x)
        blocks = range(0, len(x), self.block)
        return np.concatenate([self.player.process(x[k : k + self.block]) for k in blocks])


@dataclass(frozen=True)
class Row:
    """One row of the table: how fast, and the largest error against float64 while it was timed."""

    name: str
    kind: str
    timing: Timing
    max_error: float
    is_default: bool

    def as_dict(self) -> dict:
        """The row's numbers, as JSON can hold them."""
        low, high = self.timing.quartiles
        return {
            "name": self.name,
            "kind": self.kind,
            "is_default": self.is_default,
            "rtf": self.timing.median,
            "rtf_quartiles": [low, high],
            "times_real_time": self.timing.speed,
            "rounds": self.timing.n,
            "samples": self.timing.samples,
            "repeats": self.timing.repeats,
            "max_error": self.max_error,
        }


@dataclass
class Report:
    """What was measured of one model; `sparsity` is the share of its LSTM weights that is zero."""

    model: str
    hidden_size: int
    sample_rate: int
    sparsity: float
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    jitter: list[BlockTimes] = field(default_factory=list)
    jitter_of: str = ""

    def as_dict(self) -> dict:
        """Everything, as JSON can hold it; times in seconds."""
        return {
            "model": self.model,
            "hidden_size": self.hidden_size,
            "sample_rate": self.sample_rate,
            "sparsity": self.sparsity,
            "rows": [row.as_dict() for row in self.rows],
            "notes": self.notes,
            "jitter_of": self.jitter_of,
            "jitter": [
                {
                    "block_size": times.block_size,
                    "deadline": times.deadline,
                    "blocks": len(times.times),
                    "median": times.median,
                    "quantile_99": times.quantile(0.99),
                    "quantile_99_9": times.quantile(0.999),
                    "maximum": times.maximum,
                    "misses": times.misses,
                }
                for times in self.jitter
            ],
        }


def random_model(hidden_size: int, share: float = 0.0, *, seed: int = 0) -> AmpLSTM:
    """A model with random weights, of which the smallest `share` of the LSTM's is set to zero.

    That is one global magnitude pruning (Section III-A): what the speed of sparse code depends on,
    without a training.
    """
    if not 0 <= share < 1:
        raise InputError(f"The share of zero weights must be from 0 to below 1, but is {share}.")
    model = AmpLSTM(hidden_size, seed=seed)
    apply_masks(model, prune(model, full_masks(model), share))
    return model


def signal(seconds: float, sample_rate: int) -> np.ndarray:
    """The first `seconds` of the guitar that ships, (time,) float32; repeated if it is longer."""
    guitar = load_excerpt(SIMULATED[0], "test").input
    return np.resize(guitar, max(1, round(seconds * sample_rate))).astype(np.float32)


def native_widths() -> tuple[int, ...]:
    """The vector widths that this processor executes as such, 1 (plain C) first.

    The compiler knows: for a large model it takes the widest. Raises `InputError` without one.
    """
    widest = CompiledModel(AmpLSTM(64)).width
    return tuple(width for width in (1, 4, 8, 16) if width <= widest)


def contenders(
    model: AmpLSTM, kinds: Sequence[str] = KINDS, *, block: int = BLOCK
) -> tuple[list[Contender], list[str]]:
    """Every way to play `model` that this machine has, slowest first, and notes on what it lacks.

    Sparse code is only made for a model that has zeros among its LSTM weights.
    """
    found: list[Contender] = []
    notes: list[str] = []
    in_blocks = f"blocks of {block}"
    if "python" in kinds:
        found.append(Contender("plain Python", "python", PythonPlayer(model)))
    if "numpy" in kinds:
        found.append(Contender("NumPy, per sample", "numpy", NumpyPlayer(model)))
    if "pytorch" in kinds:
        found.append(Contender(f"PyTorch, {in_blocks}", "pytorch", TorchPlayer(model), block))
        found.append(Contender("PyTorch, whole signal", "pytorch", TorchPlayer(model)))
    if "onnx" in kinds:
        try:
            found.append(Contender(f"ONNX Runtime, {in_blocks}", "onnx", OnnxPlayer(model), block))
            found.append(Contender("ONNX Runtime, whole signal", "onnx", OnnxPlayer(model)))
        except InputError as error:
            notes.append(str(error))
    if "compiled" in kinds:
        try:
            found += _compiled(model, block, notes)
        except InputError as error:
            notes.append(f"Nothing compiled: {error}")
    return found, notes


def _compiled(model: AmpLSTM, block: int, notes: list[str]) -> Iterator[Contender]:
    widths = native_widths()
    default = CompiledModel(model)
    layouts = LAYOUTS if sparsity(masks_of(model)) > 0 else LAYOUTS[:1]
    for layout in layouts:
        for width in widths:
            player = CompiledModel(model, width, layout=layout)
            chosen = (width, layout) == (default.width, default.layout)
            yield Contender(layout_name(player), "compiled", player, is_default=chosen)
    name = f"the default, from Python in blocks of {block}"
    yield Contender(name, "compiled", CompiledModel(model), block)
    notes.append(f"The default is {layout_name(default)}: {default.reason}")
    if widths[-1] < 16:
        wider = " and ".join(str(w) for w in (8, 16) if w > widths[-1])
        notes.append(f"Vectors of {wider} floats are left out: this processor has none.")
    if len(layouts) == 1:
        notes.append("Sparse code is left out: no LSTM weight is zero.")


def reference(model: AmpLSTM, x: np.ndarray) -> np.ndarray:
    """The output (time,) for `x` (time,) in float64, from the zero state."""
    exact = copy.deepcopy(model).cpu().double()
    state, y = None, []
    with torch.no_grad():
        for start in range(0, len(x), REFERENCE_CHUNK):
            chunk = torch.as_tensor(x[start : start + REFERENCE_CHUNK], dtype=torch.float64)
            out, state = exact(chunk[None, :, None], state)  # (1, time, 1)
            y.append(out[0, :, 0].numpy())
    return np.concatenate(y)


def bench(
    model: AmpLSTM,
    *,
    name: str = "model",
    kinds: Sequence[str] = KINDS,
    seconds: float = 1.0,
    block: int = BLOCK,
    rounds: int = ROUNDS,
    jitter: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Time every way to play `model`, side by side on one thread (see `compare`).

    `kinds` are those of `KINDS`; `seconds` of guitar are played. `jitter` adds the block times of
    `Engine`. Raises `InputError` for a model of several inputs or when nothing is left to time.
    """
    report = Report(name, model.hidden_size, model.sample_rate, sparsity(masks_of(model)))
    x = signal(seconds, model.sample_rate)
    with one_thread():
        rows, report.notes = contenders(model, kinds, block=block)
        if not rows:
            raise InputError(" ".join(report.notes) or f"Choose among {', '.join(KINDS)}.")
        timings = compare(
            {row.name: row.process for row in rows},
            rounds=rounds,
            sample_rate=model.sample_rate,
            x=x,
            seed=seed,
            progress=progress,
        )
        expected = reference(model, x)
        for row in rows:
            played = x[: timings[row.name].samples]
            row.player.reset()
            error = float(np.abs(row.process(played) - expected[: len(played)]).max())
            report.rows.append(Row(row.name, row.kind, timings[row.name], error, row.is_default))
            if len(played) < len(x):
                report.notes.append(
                    f"{row.name}: the first {len(played)} samples only; the error is of those."
                )
        if jitter:
            engine = Engine(model)
            report.jitter_of = engine.description
            for size in BLOCK_SIZES:
                audio = np.resize(x, max(len(x), size))
                times = block_times(engine, size, JITTER_BLOCKS, x=audio, progress=progress)
                report.jitter.append(times)
    return report


def side_by_side(
    models: Mapping[str, AmpLSTM],
    *,
    seconds: float = 1.0,
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Timing]:
    """The real-time factors of several models, each in an `Engine`, in one interleaved run.

    Each is at its own sample rate; all play the same number of samples.
    """
    engines = {name: Engine(model).process for name, model in models.items()}
    rates = {name: model.sample_rate for name, model in models.items()}
    x = signal(seconds, max(rates.values()))
    with one_thread():
        timings = compare(
            engines, rounds=rounds, sample_rate=1, x=x, seed=seed, progress=progress
        )  # in seconds for a sample
    return {
        name: replace(timing, rtfs=tuple(rtf * rates[name] for rtf in timing.rtfs))
        for name, timing in timings.items()
    }


def machine() -> dict[str, str]:
    """What every timing depends on besides the processor: system, Python, PyTorch."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
