"""A model as a C file, compiled by the machine's own compiler and played through ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pooch

from tinyamp.ccode import WIDTHS, c_source
from tinyamp.csparse import Plan
from tinyamp.files import InputError, write_beside
from tinyamp.model import AmpLSTM

FLAGS = ("-O3", "-ffp-contract=fast", "-march=native", "-shared", "-fPIC", "-w")
PREFIX = "amp"
SECONDS = 300  # after which a compiler counts as hung
SUFFIXES = {"Darwin": ".dylib", "Windows": ".dll"}


def model_source(model: AmpLSTM, *, prefix: str = PREFIX, layout: str = "auto") -> str:
    """The text of one C11 file that plays `model`; how to use it stands at its top.

    `layout` is "dense", "sparse" or "auto". Raises `InputError` for another one, for a model of
    several inputs or a prefix that is not a name in C.
    """
    return planned_source(model, prefix=prefix, layout=layout)[0]


def planned_source(
    model: AmpLSTM, *, prefix: str = PREFIX, layout: str = "auto"
) -> tuple[str, Plan]:
    """The same text, and the plan behind it: which layout it has, and why."""
    weights = {
        name: value.detach().cpu().double().numpy() for name, value in model.state_dict().items()
    }
    return c_source(weights, prefix=prefix, sample_rate=model.sample_rate, layout=layout)


def find_compiler() -> list[str]:
    """The command of a C compiler: $CC, else cc, gcc or clang, else the `ziglang` package.

    Raises `InputError` when there is none.
    """
    chosen = shlex.split(os.environ.get("CC", ""))
    if chosen:
        if shutil.which(chosen[0]) is None:
            raise InputError(f"CC names {chosen[0]}, which is not a program that can be found.")
        return chosen
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise InputError(
        "No C compiler was found; install gcc or clang, or `pip install ziglang`, or set CC to one."
    )


def cache_folder() -> Path:
    """Where compiled libraries are kept: TINYAMP_CACHE, or tinyamp in the user's cache folder."""
    return Path(os.environ.get("TINYAMP_CACHE") or pooch.os_cache("tinyamp"))


def build(
    source: str,
    *,
    width: int | None = None,
    flags: tuple[str, ...] = (),
    folder: Path | None = None,
) -> Path:
    """Compile C text to a shared library, or take it from the cache; return its path.

    `width` is 4, 8 or 16 floats in a vector, 1 for plain C, or `None` for the processor's own;
    `flags` are added to the compiler's. The library is cached in `folder`, by default
    `cache_folder()`, by its text, the command, the compiler's version and the processor. Raises
    `InputError` when there is no compiler or it fails.
    """
    if width not in (None, 1, *WIDTHS):
        raise InputError(f"width must be 1, 4, 8 or 16, but is {width}.")
    compiler = find_compiler()
    command = [*compiler, *FLAGS, *flags]
    if width is not None:
        command.append("-DTINYAMP_SCALAR" if width == 1 else f"-DTINYAMP_WIDTH={width}")
    identity = "\0".join([*command, compiler_version(tuple(compiler)), _processor(), source])
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    library = (folder or cache_folder()) / (name + SUFFIXES.get(platform.system(), ".so"))
    if not library.is_file():
        with write_beside(library) as temporary:
            run_compiler([*command, "-x", "c", "-", "-o", str(temporary)], source)
    return library


def run_compiler(command: list[str], text: str = "") -> str:
    """Run a compiler; its output, or `InputError` with the first line of its complaint."""
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"The C compiler {command[0]} did not run: {error}.") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise InputError(
            f"The C compiler {command[0]} failed ({lines[0].strip()[:200]}); name another in CC."
        )
    return done.stdout


@lru_cache
def compiler_version(compiler: tuple[str, ...]) -> str:
    return run_compiler([*compiler, "--version"])


@lru_cache
def _processor() -> str:
    """What -march=native depends on: a cache folder may be shared between machines."""
    about = [platform.system(), platform.machine(), platform.processor()]
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(errors="replace").splitlines()
        keys = ("model name", "flags", "Features", "CPU part")
        about += sorted({line for line in lines if line.startswith(keys)})
    return "\n".join(about)


class CompiledModel:
    """A compiled `model` that plays a stream: `process` goes on where it stopped.

    The output does not depend on how the signal is split into blocks, to the bit. `width` and
    `flags` and `folder` are those of `build`, `layout` is that of `model_source`; `.width` and
    `.layout` are what was built, and `.reason` says why it is dense or sparse. Raises `InputError`
    when there is no compiler, and for a model of several inputs.
    """

    def __init__(
        self,
        model: AmpLSTM,
        width: int | None = None,
        *,
        layout: str = "auto",
        flags: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> None:
        self.sample_rate = model.sample_rate
        self.hidden_size = model.hidden_size
        source, chosen = planned_source(model, layout=layout)
        self.layout, self.reason = chosen.layout, chosen.reason
        self.library = build(source, width=width, flags=flags, folder=folder)
        try:
            library = ctypes.CDLL(str(self.library))
        except OSError as error:
            raise InputError(
                f"{self.library} cannot be loaded ({error}); remove it, and it is made again."
            ) from error
        size = getattr(library, f"{PREFIX}_state_size")
        size.restype = ctypes.c_size_t
        self._reset = getattr(library, f"{PREFIX}_reset")
        self._process = getattr(library, f"{PREFIX}_process")
        self._reset.restype = self._process.restype = None
        self._reset.argtypes = [ctypes.c_void_p]
        self._process.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_size_t]
        self.width: int = getattr(library, f"{PREFIX}_width")()
        self._memory = np.zeros(size() + 64, dtype=np.uint8)
        self._state = -(-self._memory.ctypes.data // 64) * 64  # an aligned address in it
        self.reset()

    def reset(self) -> None:
        """Go back to the zero state."""
        self._reset(self._state)

    def process(self, x: np.ndarray) -> np.ndarray:
        """The output (time,), float32, for the next samples `x` (time,) of the stream.

        Raises `InputError` for an `x` that is not one-dimensional or not finite.
        """
        x = np.asarray(x)
        if x.ndim != 1:
            raise InputError(f"The model processes one channel, shape (time,); got {x.shape}.")
        x = np.ascontiguousarray(x, dtype=np.float32)
        if not np.isfinite(x).all():
            raise InputError("The signal has samples that are NaN or infinite.")
        y = np.empty_like(x)
        self._process(self._state, x.ctypes.data, y.ctypes.data, len(x))
        return y
