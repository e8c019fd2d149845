"""WebAssembly modules in Node and in a browser: against float64, in blocks, and by their size."""

from __future__ import annotations

import base64
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from common import ROUNDINGS, browser, exact, in_pytorch, noise, served

from tinyamp import wasm
from tinyamp.compiler import CompiledModel, find_compiler, model_source
from tinyamp.data import load_excerpt
from tinyamp.files import InputError, data_folder
from tinyamp.model import AmpLSTM, load_model
from tinyamp.wasm import MAX_FRAMES, build_wasm, find_wasm_compiler

pytestmark = pytest.mark.usefixtures("own_cache")

MODELS = sorted((data_folder() / "models").glob("*.safetensors"))
ZIG = [sys.executable, "-m", "ziglang", "cc"]
HAS_ZIG = importlib.util.find_spec("ziglang") is not None

# Plays a float32 file through a module in blocks whose lengths repeat, in an instance of its own
# for each list of lengths; writes the outputs one after the other, and prints what the module has.
PLAY = """
const fs = require("fs");
const [wasm, input, output, splits] = process.argv.slice(1);
const module = new WebAssembly.Module(fs.readFileSync(wasm));
const bytes = fs.readFileSync(input);
const x = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const instances = JSON.parse(splits).map(() => new WebAssembly.Instance(module, {}).exports);
const outputs = JSON.parse(splits).map((lengths, k) => {
  const amp = instances[k], y = new Float32Array(x.length), frames = amp.amp_max_frames();
  const from = new Float32Array(amp.memory.buffer, amp.amp_input(), frames);
  const to = new Float32Array(amp.memory.buffer, amp.amp_output(), frames);
  for (let at = 0, n = 0; at < x.length; n++) {
    const block = x.subarray(at, at + lengths[n % lengths.length]);
    from.set(block);
    amp.amp_process(amp.amp_state(), amp.amp_input(), amp.amp_output(), block.length);
    y.set(to.subarray(0, block.length), at);
    at += block.length;
  }
  return Buffer.from(y.buffer);
});
fs.writeFileSync(output, Buffer.concat(outputs));
const amp = instances[0];
console.log(JSON.stringify({
  imports: WebAssembly.Module.imports(module).length,
  exports: WebAssembly.Module.exports(module).map(({ name }) => name).sort(),
  width: amp.amp_width(), rate: amp.amp_rate(), frames: amp.amp_max_frames(),
  memory: amp.memory.buffer.byteLength,
}));
"""


@functools.lru_cache
def node() -> str | None:
    """Node: the system's, else the one inside the playwright package."""
    if found := shutil.which("node"):
        return found
    spec = importlib.util.find_spec("playwright")
    inside = Path(spec.origin).parent / "driver" / "node" if spec else None
    return str(inside) if inside and inside.is_file() else None


def has_compiler() -> bool:
    try:
        return bool(find_wasm_compiler())
    except InputError:
        return False


needs_compiler = pytest.mark.skipif(
    not has_compiler(), reason="There is no compiler for WebAssembly: pip install ziglang."
)
needs_node = pytest.mark.skipif(node() is None, reason="Node is neither installed nor in .venv.")
needs_zig = pytest.mark.skipif(not HAS_ZIG, reason="The ziglang package is not installed.")


def play(folder: Path, module: bytes, x: np.ndarray, *splits: list[int]) -> tuple:
    """The outputs (split, time) of a module in Node, and what it says of itself."""
    for name, data in (("a.wasm", module), ("in", x.astype(np.float32).tobytes())):
        (folder / name).write_bytes(data)
    files = [str(folder / name) for name in ("a.wasm", "in", "out")]
    command = [node(), "-e", PLAY, *files, json.dumps(splits or [[128]])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = np.fromfile(folder / "out", np.float32).reshape(-1, len(x))
    return outputs, json.loads(done.stdout)


def assert_exact(model: AmpLSTM, x: np.ndarray, y: np.ndarray) -> None:
    """Within a few times the largest error of PyTorch in float32."""
    expected = exact(model, x)
    assert np.abs(y - expected).max() <= ROUNDINGS * np.abs(in_pytorch(model, x) - expected).max()


def weight_bytes(model: AmpLSTM) -> int:
    """Bytes of the model's parameters as float32, with the two biases of a gate as one."""
    hidden = model.hidden_size
    return 4 * (sum(p.numel() for p in model.parameters()) - 4 * hidden)


@needs_compiler
@needs_node
@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize("hidden_size", [1, 3, 16, 20, 32, 57, 64])
def test_random_models_are_exact_small_and_alone(hidden_size, simd, tmp_path):
    model = AmpLSTM(hidden_size, seed=hidden_size)
    x = noise(4000, seed=hidden_size)
    module = build_wasm(model, simd=simd)
    (y,), about = play(tmp_path, module, x)
    assert_exact(model, x, y)
    assert len(module) <= weight_bytes(model) + 16_000
    functions = ("init", "input", "max_frames", "output", "process", "rate", "reset")
    functions += ("state", "state_size", "width")
    assert about["exports"] == [*(f"amp_{name}" for name in functions), "memory"]
    assert about["imports"] == 0
    assert about["width"] == (4 if simd else 1)
    assert (about["rate"], about["frames"]) == (model.sample_rate, MAX_FRAMES)
    assert about["memory"] <= len(module) + 2 * 4 * MAX_FRAMES + 2 * 65536


@needs_compiler
@needs_node
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_trained_models_are_as_exact_as_pytorch(path, tmp_path):
    model = load_model(path)
    x = load_excerpt("-".join(path.stem.split("-")[:2]), "test").input[:44_100]
    for simd in (True, False):
        (y,), _ = play(tmp_path, build_wasm(model, simd=simd), x)
        assert_exact(model, x, y)


@needs_compiler
@needs_node
@pytest.mark.parametrize("hidden_size", [20, 57])  # 57 walks its columns to and fro
def test_splits_and_instances_do_not_change_a_bit(hidden_size, tmp_path):
    model = AmpLSTM(hidden_size, seed=3)
    splits = [[MAX_FRAMES], [128], [1], [1, 3, 64, 1000, 7]]
    x = noise(20_000, seed=4)
    outputs, _ = play(tmp_path, build_wasm(model), x, *splits)
    for y in outputs[1:]:
        assert np.array_equal(y, outputs[0])


@needs_compiler
@needs_node
def test_a_million_samples_do_not_drift(tmp_path):
    model = AmpLSTM(8, seed=1)
    x = noise(1_000_000, seed=5)
    outputs, _ = play(tmp_path, build_wasm(model), x, [MAX_FRAMES], [128])
    assert np.array_equal(*outputs)
    native = CompiledModel(model).process(x)  # tested against float64 itself; PyTorch takes minutes
    assert np.abs(outputs[0] - native).max() < 1e-6


@needs_zig
@needs_node
@pytest.mark.parametrize("simd", [True, False])
def test_the_ziglang_package_makes_the_same_module(simd, tmp_path, monkeypatch):
    monkeypatch.setattr(wasm, "find_wasm_compiler", lambda: ZIG)
    model = AmpLSTM(23, seed=6)
    module = build_wasm(model, simd=simd)
    x = noise(4000)
    (y,), about = play(tmp_path, module, x)
    assert_exact(model, x, y)
    assert about["imports"] == 0
    assert about["width"] == (4 if simd else 1)
    assert len(module) <= weight_bytes(model) + 16_000
    assert len(about["exports"]) == 11


@needs_zig
@pytest.mark.parametrize("width", [None, 1])
def test_the_ziglang_package_makes_shared_libraries_too(width, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    assert find_compiler() == ZIG
    model = AmpLSTM(20, seed=7)
    x = noise(4000)
    assert_exact(model, x, CompiledModel(model, width).process(x))


WORKLET = """
registerProcessor("amp", class extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    const bytes = Uint8Array.from(processorOptions.bytes);
    this.amp = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
    const view = at => new Float32Array(this.amp.memory.buffer, at, this.amp.amp_max_frames());
    this.from = view(this.amp.amp_input());
    this.to = view(this.amp.amp_output());
  }
  process([[x]], [[y]]) {
    if (!x) return false;
    const { amp } = this;
    this.from.set(x);
    amp.amp_process(amp.amp_state(), amp.amp_input(), amp.amp_output(), x.length);
    y.set(this.to.subarray(0, x.length));
    return true;
  }
});
"""
RENDER = """async ({ module, signal, rate }) => {
  const decode = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const x = new Float32Array(decode(signal).buffer);
  const context = new OfflineAudioContext(1, x.length, rate);
  await context.audioWorklet.addModule("worklet.js");
  const buffer = new AudioBuffer({ length: x.length, sampleRate: rate, numberOfChannels: 1 });
  buffer.copyToChannel(x, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  const processorOptions = { bytes: Array.from(decode(module)) };
  const options = { processorOptions, outputChannelCount: [1] };
  const amp = new AudioWorkletNode(context, "amp", options);
  source.connect(amp).connect(context.destination);
  source.start();
  return Array.from((await context.startRendering()).getChannelData(0));
}"""


@needs_compiler
def test_a_browser_plays_a_module_in_an_audio_worklet(tmp_path):
    model = AmpLSTM(20, seed=8)
    x = noise(12_800)
    (tmp_path / "page.html").write_text("<!doctype html><link rel=icon href=data:,>")
    (tmp_path / "worklet.js").write_text(WORKLET)
    given = {
        "module": base64.b64encode(build_wasm(model)).decode(),
        "signal": base64.b64encode(x.tobytes()).decode(),
        "rate": model.sample_rate,
    }
    complaints: list[str] = []
    with served(tmp_path) as address, browser() as chromium:
        page = chromium.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{address}page.html")
        y = np.array(page.evaluate(RENDER, given), np.float32)
    assert complaints == []
    assert_exact(model, x, y)


@needs_compiler
def test_modules_are_cached_by_content(monkeypatch):
    source = model_source(AmpLSTM(4), prefix="two")
    module = build_wasm(source)
    assert b"two_process" in module
    assert b"amp_process" not in module
    assert build_wasm(source, simd=False) != module
    assert build_wasm(model_source(AmpLSTM(4, seed=1), prefix="two")) != module
    monkeypatch.setattr(wasm, "run_compiler", lambda *_: pytest.fail("compiled again"))
    assert build_wasm(source) == module


def test_what_is_not_a_model_is_refused():
    for source in ("", "int main(void) { return 0; }"):
        with pytest.raises(InputError, match="tinyamp compile"):
            build_wasm(source)
    with pytest.raises(InputError, match="several"):
        build_wasm(AmpLSTM(4, input_size=2))


@needs_compiler
def test_a_compiler_that_fails_is_one_sentence_and_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYAMP_CACHE", str(tmp_path))
    source = model_source(AmpLSTM(4)).replace("static float step", "static flaot step")
    with pytest.raises(InputError, match=r"failed \(.*error.*flaot") as caught:
        build_wasm(source)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@needs_compiler
def test_what_is_missing_at_the_link_is_an_error_and_not_an_import(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYAMP_CACHE", str(tmp_path))
    source = model_source(AmpLSTM(4))
    broken = source.replace("int amp_width(void) {", "int missing(void);\nint amp_width(void) {")
    broken = broken.replace("return TINYAMP_WIDTH;", "return missing();")
    assert broken.count("missing") == 2
    with pytest.raises(InputError, match="missing"):
        build_wasm(broken)
    assert list(tmp_path.iterdir()) == []


def fake(path: Path, targets: str, linker: str) -> str:
    """A script that answers as a clang does."""
    path.write_text(
        f'#!/bin/sh\ncase "$*" in *-print-targets) echo "{targets}";;'
        f' *-print-prog-name=wasm-ld) echo "{linker}";; *) exit 1;; esac\n'
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name != "posix", reason="needs shell scripts as compilers")
def test_the_order_of_compilers(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    linker = fake(tmp_path / "a-linker", "", "")
    able = fake(tmp_path / "mine", "wasm32", linker)
    unable = fake(tmp_path / "other", "x86-64", linker)
    alone = fake(tmp_path / "alone", "wasm32", "no-such-linker")
    for chosen in (unable, alone, "no-such-compiler", ""):
        monkeypatch.setenv("CC", chosen)
        monkeypatch.setattr(wasm.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(InputError, match="pip install ziglang"):
            find_wasm_compiler()
        monkeypatch.setattr(wasm.importlib.util, "find_spec", lambda _: object())
        assert find_wasm_compiler() == ZIG
    clang = fake(tmp_path / "clang", "wasm32", linker)
    assert find_wasm_compiler() == [clang]
    monkeypatch.setenv("CC", f"{able} -g0")
    assert find_wasm_compiler() == [able, "-g0"]


@needs_zig
def test_zig_named_in_cc_gets_its_own_flags(monkeypatch):
    monkeypatch.setenv("CC", " ".join(ZIG))
    assert find_wasm_compiler() == ZIG
    assert build_wasm(AmpLSTM(4)).startswith(b"\0asm")
