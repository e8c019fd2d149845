"""A model as a WebAssembly module, from its C file: a web page plays it without a server.

The module imports nothing and allocates nothing, so that an AudioWorklet can instantiate it at
once, and as many times as there are channels. It exports `memory` and these functions, here with
the prefix amp; the addresses are bytes in the memory, and never change:

    amp_state()       address of the one state that the module holds, zero at the start
    amp_input()       address of room for amp_max_frames() float32 samples
    amp_output()      address of as much
    amp_max_frames()  frames that one call may process: 4096
    amp_rate()        samples per second that the model is for
    amp_width()       4 with SIMD, else 1

and amp_init, amp_reset, amp_process and amp_state_size of the C file. In JavaScript:

    const { instance } = await WebAssembly.instantiate(bytes);
    const amp = instance.exports;
    const input = new Float32Array(amp.memory.buffer, amp.amp_input(), amp.amp_max_frames());
    const output = new Float32Array(amp.memory.buffer, amp.amp_output(), amp.amp_max_frames());
    input.set(block);
    amp.amp_process(amp.amp_state(), amp.amp_input(), amp.amp_output(), block.length);
    // output.subarray(0, block.length) is what is heard
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from tinyamp.compiler import cache_folder, compiler_version, model_source, run_compiler
from tinyamp.files import InputError, write_beside
from tinyamp.model import AmpLSTM

MAX_FRAMES = 4096
STACK = 16384  # bytes; a step needs a few hundred
FLAGS = ("-O3", "-w", "-nostdlib", "-ffreestanding", "-s")
LINK = ("--no-entry", f"-z,stack-size={STACK}")
FUNCTIONS = ("init", "reset", "process", "state_size", "width")
PAGE = """
/* What a page needs besides, since it has no malloc: see tinyamp.wasm. */
#define EXPORT(name) __attribute__((export_name("{p}_" #name)))
static _Alignas(64) {p}_state page_state;
static _Alignas(64) float page_input[{frames}], page_output[{frames}];
EXPORT(state) {p}_state *{p}_page_state(void) {{ return &page_state; }}
EXPORT(input) float *{p}_page_input(void) {{ return page_input; }}
EXPORT(output) float *{p}_page_output(void) {{ return page_output; }}
EXPORT(max_frames) int {p}_page_max_frames(void) {{ return {frames}; }}
EXPORT(rate) int {p}_page_rate(void) {{ return {rate}; }}
/* A compiler may call these for what is set or copied at once; no library has them here. */
void *memset(void *at, int byte, size_t count)
{{
    for (unsigned char *to = at; count--; ++to)
        *to = (unsigned char)byte;
    return at;
}}
void *memcpy(void *restrict at, const void *restrict from, size_t count)
{{
    const unsigned char *byte = from;
    for (unsigned char *to = at; count--; ++to, ++byte)
        *to = *byte;
    return at;
}}
"""


def build_wasm(source_or_model: str | AmpLSTM, *, simd: bool = True) -> bytes:
    """The WebAssembly module of a model, or of the C text that `model_source` made of one.

    `simd` uses 128-bit vectors; without, the module also runs where they are missing. The names of
    the exports begin with the prefix of the C text. The module is cached by its text, the command
    and the compiler's version. Raises `InputError` when there is no compiler for WebAssembly or it
    fails, for C text that is not of this project, and for a model of several inputs.
    """
    source = source_or_model
    if not isinstance(source, str):
        source = model_source(source)
    prefix = re.search(r"^size_t (\w+)_state_size\(void\);", source, re.MULTILINE)
    rate = re.search(r"for audio at (\d+) Hz", source)
    if prefix is None or rate is None:
        raise InputError("Only C text that `tinyamp compile` wrote becomes a WebAssembly module.")
    source += PAGE.format(p=prefix[1], rate=rate[1], frames=MAX_FRAMES)
    compiler = find_wasm_compiler()
    exports = [f"--export={prefix[1]}_{name}" for name in FUNCTIONS]
    command = [*compiler, *_target(_is_zig(compiler), simd), *FLAGS]
    command += [f"-Wl,{option}" for option in (*LINK, *exports)]
    identity = "\0".join([*command, compiler_version(tuple(compiler)), source])
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    module = cache_folder() / f"{name}.wasm"
    if not module.is_file():
        with write_beside(module) as temporary:
            run_compiler([*command, "-x", "c", "-", "-o", str(temporary)], source)
    return module.read_bytes()


def find_wasm_compiler() -> list[str]:
    """The command of a compiler for WebAssembly: $CC or clang where they can, else `ziglang`.

    A clang can if it was built for wasm32 and has the linker wasm-ld. Raises `InputError` when
    there is none.
    """
    for command in (shlex.split(os.environ.get("CC", "")), ["clang"]):
        found = shutil.which(command[0]) if command else None
        if found and _makes_wasm((found, *command[1:])):
            return [found, *command[1:]]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise InputError(
        "No compiler for WebAssembly was found; `pip install ziglang`, or install clang and lld."
    )


def _target(zig: bool, simd: bool) -> tuple[str, ...]:
    """The oldest WebAssembly, with its 128-bit vectors or without: what every browser has.

    Relaxed SIMD, which has a fused multiply-add, is not in every browser.
    """
    define = () if simd else ("-DTINYAMP_SCALAR",)
    if zig:
        return ("--target=wasm32-freestanding", "-mcpu=mvp" + "+simd128" * simd, *define)
    vectors = ("-msimd128",) if simd else ()
    return ("--target=wasm32-unknown-unknown", "-mcpu=mvp", *vectors, *define)


def _is_zig(command: list[str] | tuple[str, ...]) -> bool:
    """Whether it is `zig cc`, which is a clang with other names for its targets."""
    return command[-1] == "cc" and Path(command[-2:][0]).stem in ("zig", "ziglang")


@lru_cache
def _makes_wasm(command: tuple[str, ...]) -> bool:
    return "wasm32" in _answer(command, "-print-targets") and (
        _is_zig(command) or bool(shutil.which(_answer(command, "-print-prog-name=wasm-ld")))
    )


def _answer(command: tuple[str, ...], question: str) -> str:
    """What a compiler says about itself; nothing when it does not know the question."""
    try:
        done = subprocess.run([*command, question], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
