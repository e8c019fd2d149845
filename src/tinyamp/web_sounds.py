"""The loops of the book's page, what devices and models make of them, and files of both.

A loop is periodic: what is made of it is heard after it has gone round before, so that its end
joins its beginning. What takes long is kept in the cache folder, by what it was made from.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tinyamp import ccode, circuits, ckernel, csparse, ctext, guitar, netlist, newton, solver
from tinyamp.audio import SAMPLE_RATE
from tinyamp.compiler import cache_folder
from tinyamp.data import SIMULATED, load_excerpt
from tinyamp.files import InputError, write_beside
from tinyamp.losses import esr
from tinyamp.model import AmpLSTM
from tinyamp.player import level_match
from tinyamp.realtime import Engine

SECONDS = 4.0
EDGE = 441  # samples: a loop fades in and out over 10 ms, so that its ends join
LEAD_SECONDS = (
    2.0  # a device hears the end of the loop for so long before it begins: it has settled
)
LEVEL_DB = -20.0
MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT"}
# Which code a target, and which a model's error depends on.
SIMULATION = (circuits, netlist, newton, solver)
ENGINE = (ccode, ckernel, csparse, ctext)


@dataclass(frozen=True, eq=False)
class Loop:
    """A dry loop: `samples` (time,) are those of `content`, a FLAC file, divided by `gain`."""

    title: str
    samples: np.ndarray
    content: bytes
    gain: float


def loops() -> dict[str, Loop]:
    """The dry loops by their ids. No network has heard any of them in training.

    They are a phrase of the test excerpt and two synthesised ones.
    """
    length = round(SECONDS * SAMPLE_RATE)
    phrases = {
        "phrase": ("Guitar, the test excerpt", load_excerpt(SIMULATED[0], "test").input),
        "guitar": ("Guitar, another phrase", guitar.perform(SECONDS, seed=2026)),
        "bass": ("Bass", guitar.perform(SECONDS, seed=2, instrument="bass")),
    }
    return {key: _loop(title, joined(x[:length])) for key, (title, x) in phrases.items()}


def _loop(title: str, x: np.ndarray) -> Loop:
    """A loop as the page gets it, rounded to 16 bits: devices and models hear the same.

    A device with much gain would make the rounding heard.
    """
    content, gain = flac_file(x)
    sound, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    return Loop(title, sound / np.float32(gain), content, gain)


def joined(x: np.ndarray) -> np.ndarray:
    """A loop (time,) whose end meets its beginning: both fade."""
    x = np.array(x, dtype=np.float32)
    x[:EDGE] *= np.linspace(0, 1, EDGE, dtype=np.float32)
    x[-EDGE:] *= np.linspace(1, 0, EDGE, dtype=np.float32)
    return x


def periodic(process: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """What `process` makes of the loop `x` (time,) when it has gone round before."""
    lead = min(len(x), round(LEAD_SECONDS * SAMPLE_RATE))
    return process(np.concatenate([x[-lead:], x]))[lead:].astype(np.float32)


def rms(x: np.ndarray) -> float:
    """The root of the mean square of a sound (time,)."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def levelled(x: np.ndarray) -> tuple[np.ndarray, float]:
    """A sound (time,) at the common level, and the gain that took it there."""
    matched, gains = level_match({"x": x}, LEVEL_DB)
    return matched["x"], 10 ** (gains["x"] / 20)


def flac_file(x: np.ndarray) -> tuple[bytes, float]:
    """A sound (time,) at the common level as 16-bit FLAC, and the gain that took it there."""
    sound, gain = levelled(x)
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue(), gain


def mp3_file(x: np.ndarray) -> tuple[bytes, float]:
    """The same as MP3, a quarter of the size."""
    sound, gain = levelled(x)
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, SAMPLE_RATE, **MP3, compression_level=0.75)
    return buffer.getvalue(), gain


def output_of(model: AmpLSTM, x: np.ndarray) -> np.ndarray:
    """The model on a loop that has gone round before."""
    return periodic(_engine(model).process, x)


def _engine(model: AmpLSTM) -> Engine:
    """The model compiled, or in PyTorch where there is no C compiler: here that is no warning."""
    try:
        return Engine(model, compiled=True)
    except InputError:
        return Engine(model, compiled=False)


def target_of(device: str, x: np.ndarray) -> np.ndarray:
    """What the device makes of a loop."""

    def make() -> bytes:
        return periodic(lambda signal: circuits.simulate(device, signal), x).tobytes()

    key = [circuits.netlist(device).encode(), x.tobytes(), f"{LEAD_SECONDS}".encode()]
    return np.frombuffer(cached("target", [*key, _code(SIMULATION)], make), np.float32)


def error_of(model: AmpLSTM, x: np.ndarray, target: np.ndarray) -> float:
    """The error-to-signal ratio of a model on a recording."""

    def make() -> bytes:
        return json.dumps(esr(target, _engine(model).process(x))).encode()

    weights = [value.numpy().tobytes() for value in model.state_dict().values()]
    key = [*weights, x.tobytes(), target.tobytes(), _code(ENGINE)]
    return float(json.loads(cached("esr", key, make)))


def cached(kind: str, key: list[bytes], make: Callable[[], bytes]) -> bytes:
    """What `make` returns, kept in the cache folder under a digest of `key`."""
    digest = hashlib.sha256(b"\0".join(key)).hexdigest()[:32]
    path = cache_folder() / f"page-{digest}.{kind}"
    if not path.is_file():
        with write_beside(path) as temporary:
            temporary.write_bytes(make())
    return path.read_bytes()


@functools.cache
def _code(modules: tuple) -> bytes:
    """A digest of the text of modules."""
    texts = [Path(module.__file__).read_bytes() for module in modules]
    return hashlib.sha256(b"\0".join(texts)).hexdigest().encode()
