"""Compiled models against float64, against themselves in blocks, and against bad luck."""

from __future__ import annotations

import ctypes.util
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from common import ROUNDINGS, exact, in_pytorch, needs_compiler, noise

from tinyamp import compiler
from tinyamp.compiler import CompiledModel, build, find_compiler, model_source
from tinyamp.data import load_excerpt
from tinyamp.files import InputError, data_folder
from tinyamp.masks import apply_masks, full_masks, prune
from tinyamp.model import AmpLSTM, load_model

pytestmark = pytest.mark.usefixtures("own_cache")

WIDTHS = (1, 4, 8, 16)
UNDERFLOW = {"x86_64": 16, "AMD64": 16, "aarch64": 8, "arm64": 8}  # FE_UNDERFLOW of fenv.h
MODELS = sorted((data_folder() / "models").glob("*.safetensors"))
STAGES = sorted((data_folder() / "searches").glob("*/stage-1[05].safetensors"))


def bound(model: AmpLSTM, x: np.ndarray, expected: np.ndarray, times: float = 3) -> float:
    """So many times the largest error of PyTorch in float32."""
    return times * float(np.abs(in_pytorch(model, x) - expected).max())


@needs_compiler
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("hidden_size", [1, 3, 8, 15, 16, 20, 28, 41, 57, 64, 128])
def test_random_models_are_as_exact_as_pytorch(hidden_size, width):
    model = AmpLSTM(hidden_size, seed=hidden_size)
    x = noise(2000, seed=hidden_size)
    expected = exact(model, x)
    compiled = CompiledModel(model, width)
    assert compiled.width == width
    y = compiled.process(x)
    assert y.dtype == np.float32
    assert np.abs(y - expected).max() <= bound(model, x, expected)


@needs_compiler
@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("hidden_size", [2, 9, 13, 17, 24, 31, 40, 48, 63, 76, 96, 100, 127])
def test_other_sizes_are_as_exact_dense_and_sparse(hidden_size, layout):
    model = AmpLSTM(hidden_size, seed=hidden_size)
    if layout == "sparse":
        apply_masks(model, prune(model, full_masks(model), 0.9))
    x = noise(500, seed=hidden_size)
    expected = exact(model, x)
    compiled = CompiledModel(model, layout=layout)
    assert compiled.layout == layout
    assert np.abs(compiled.process(x) - expected).max() <= bound(model, x, expected)


@needs_compiler
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sparsity", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("hidden_size", [3, 20, 41])
def test_the_sparse_layout_is_as_exact_as_pytorch(hidden_size, sparsity, width):
    model = AmpLSTM(hidden_size, seed=8)
    apply_masks(model, prune(model, full_masks(model), sparsity))
    x = noise(1000)
    expected = exact(model, x)
    compiled = CompiledModel(model, width, layout="sparse")
    y = compiled.process(x)
    assert (compiled.layout, compiled.width) == ("sparse", width)
    assert np.abs(y - expected).max() <= bound(model, x, expected)
    compiled.reset()
    blocks = [compiled.process(block) for block in np.split(x, [1, 2, 70, 600])]
    assert np.array_equal(np.concatenate(blocks), y)


@needs_compiler
@pytest.mark.parametrize(
    "path", MODELS + STAGES, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_trained_models_are_as_exact_as_pytorch(path):
    model = load_model(path)
    device = "-".join((path.parent if path in STAGES else path).name.split("-")[:2])
    x = load_excerpt(device, "test").input[:44_100]
    expected = exact(model, x)
    limit = bound(model, x, expected, times=ROUNDINGS)
    assert limit < 1e-4
    for width in (1, None):
        for layout in ("dense", "sparse"):
            y = CompiledModel(model, width, layout=layout).process(x)
            assert np.abs(y - expected).max() <= limit, (width, layout)


@needs_compiler
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("hidden_size", [20, 57])  # 57 walks its columns to and fro
def test_any_split_into_blocks_gives_the_same_bits(hidden_size, width):
    compiled = CompiledModel(AmpLSTM(hidden_size, seed=3), width)
    rng = np.random.default_rng(width)
    x = noise(3000, seed=4)
    whole = compiled.process(x)
    for longest in (1, 3, 64, 1000):
        compiled.reset()
        cuts = np.cumsum(rng.integers(0, longest + 1, size=3000))
        blocks = np.split(x, cuts[cuts < len(x)])
        assert np.array_equal(np.concatenate([compiled.process(b) for b in blocks]), whole)
    assert not np.array_equal(compiled.process(x), whole)  # the state was kept


@needs_compiler
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("gain", [1.0, 40.0])  # 40: gates and cells far beyond the clamps
def test_extreme_signals_stay_finite_and_exact(width, gain):
    model = AmpLSTM(20, seed=5)
    with torch.no_grad():
        for parameter in model.lstm.parameters():
            parameter.mul_(gain)
        model.lstm.bias_hh_l0[20:40] += gain  # cells that add up
    signals = {
        "silence": np.zeros(4000),
        "dc": np.ones(4000),
        "full scale": np.sign(noise(4000)),
        "far beyond": 1e6 * np.sign(noise(4000)),
        "denormal": 1e-41 * np.sign(noise(4000)),
    }
    for name, x in signals.items():
        y = CompiledModel(model, width).process(x)
        assert np.isfinite(y).all(), name
        if gain == 1 and name != "far beyond":
            assert np.abs(y - exact(model, x.astype(np.float32))).max() < 2e-6, name


@needs_compiler
@pytest.mark.parametrize("width", WIDTHS)
def test_a_dying_cell_does_not_become_denormal(width):
    model = AmpLSTM(20, seed=6)
    with torch.no_grad():
        model.lstm.weight_ih_l0[20:40] = 0  # a forget gate that does not listen: c decays as 1/2ⁿ
        model.lstm.weight_hh_l0[20:40] = 0
        model.lstm.bias_ih_l0[20:40] = 0
        model.lstm.bias_hh_l0[20:40] = 0
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            getattr(model.lstm, name)[40:60] = 0  # a candidate that is 0
    compiled = CompiledModel(model, width)
    state = compiled._memory[compiled._state - compiled._memory.ctypes.data :].view(np.float32)
    h, c = state[:64], state[64:84]
    c[:] = 1  # as a sound would have left it
    for _ in range(40):
        compiled.process(np.full(10, 1e-42, np.float32))
        for values in (h, c):
            assert not np.any((values != 0) & (np.abs(values) < np.finfo(np.float32).tiny))
    assert np.abs(c).max() < 1e-15


@needs_compiler
@pytest.mark.skipif(platform.machine() not in UNDERFLOW, reason="The flag's bit is not known here.")
@pytest.mark.parametrize("width", WIDTHS)
def test_no_result_is_too_small_on_the_way(width):
    """Silent units, quiet inputs, fading cells: no operation underflows, which would be slow."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    flag = UNDERFLOW[platform.machine()]
    model = AmpLSTM(20, seed=3)
    with (
        torch.no_grad()
    ):  # unit 0 is as good as silent, unit 1 has no bias and hears next to nothing
        weights = model.state_dict()
        for name, value in weights.items():
            if name.startswith("lstm"):
                value.view(4, 20, -1)[2, 0] = 0
                value.view(4, 20, -1)[:, 1] = 0
        weights["lstm.bias_ih_l0"].view(4, 20)[2, 0] = 1e-18
        weights["lstm.weight_ih_l0"].view(4, 20, 1)[:, 1] = 1e-3
    quiet = noise(500) * np.float32(1e-15)
    for x in (noise(500), quiet, quiet * quiet, np.zeros(500, np.float32)):
        compiled = CompiledModel(model, width)
        libm.feclearexcept(flag)
        compiled.process(x)
        assert libm.fetestexcept(flag) == 0


@needs_compiler
@pytest.mark.parametrize("width", WIDTHS)
def test_a_bad_sample_does_not_stay_in_the_state(width):
    compiled = CompiledModel(AmpLSTM(20, seed=7), width)
    bad = np.array([np.nan, np.inf, -np.inf], np.float32)
    out = np.empty(3, np.float32)
    compiled._process(compiled._state, bad.ctypes.data, out.ctypes.data, 3)
    assert np.isfinite(compiled.process(noise(100))).all()


@needs_compiler
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names x86 extensions")
@pytest.mark.parametrize("width", [8, 16])
def test_vectors_wider_than_the_processors_are_right_too(width):
    model = AmpLSTM(23, seed=1)
    x = noise(2000)
    expected = exact(model, x)
    y = CompiledModel(model, width, flags=("-mno-avx",)).process(x)
    assert np.abs(y - expected).max() <= bound(model, x, expected)


@needs_compiler
def test_process_refuses_what_is_not_one_finite_channel():
    compiled = CompiledModel(AmpLSTM(3))
    for x, words in ((np.zeros((2, 9)), "one channel"), ([0, np.nan], "NaN")):
        with pytest.raises(InputError, match=words):
            compiled.process(x)
    assert len(compiled.process(np.zeros(0))) == 0


@needs_compiler
def test_the_c_file_stands_alone_and_compiles_without_a_warning(tmp_path):
    source = model_source(AmpLSTM(20), prefix="crunch")
    path = tmp_path / "crunch.c"
    path.write_text(source)
    for line in source.splitlines():
        if line.startswith("#include"):
            assert line in (f"#include <{name}.h>" for name in ("stddef", "stdint", "immintrin"))
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-O1"]
    for define in ("-DTINYAMP_SCALAR", "-DTINYAMP_WIDTH=8", "-DTINYAMP_WIDTH=4"):
        command = [*find_compiler(), *strict, define, "-c", str(path), "-o", str(tmp_path / "a.o")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@needs_compiler
def test_every_name_seen_from_outside_has_the_prefix():
    data = build(model_source(AmpLSTM(5), prefix="two")).read_bytes()
    for name in ("init", "reset", "process", "state_size", "width"):
        assert f"two_{name}".encode() in data
    assert b"amp_process" not in data


@needs_compiler
def test_libraries_are_cached_by_content(monkeypatch):
    source = model_source(AmpLSTM(4))
    library = build(source)
    assert build(source, width=1) != library
    assert build(model_source(AmpLSTM(4, seed=1))) != library
    monkeypatch.setattr(compiler, "run_compiler", lambda *_: pytest.fail("compiled again"))
    assert build(source) == library


@needs_compiler
def test_a_cached_library_that_is_damaged_is_named():
    model = AmpLSTM(4, seed=9)
    library = build(model_source(model))
    library.write_bytes(b"not a library")
    with pytest.raises(InputError, match="remove it"):
        CompiledModel(model)


def test_the_weights_are_in_the_text_to_the_last_bit():
    model = AmpLSTM(16, seed=2)
    source = model_source(model)
    start = source.index("head[16] = {") + len("head[16] = {")
    text = source[start : source.index("}", start)].replace("f", "")
    read = np.array([np.float32(number) for number in text.split(",")])
    np.testing.assert_array_equal(read, model.head.weight.detach().numpy()[0])


def test_models_and_prefixes_that_c_cannot_have():
    with pytest.raises(InputError, match="several"):
        model_source(AmpLSTM(4, input_size=2))
    for prefix in ("", "2amp", "my-amp", "größe", "_amp"):
        with pytest.raises(InputError, match="prefix"):
            model_source(AmpLSTM(4), prefix=prefix)
    model = AmpLSTM(4).double()
    with torch.no_grad():
        model.head.bias[0] = 1e300
    with pytest.raises(InputError, match="beyond"):
        model_source(model)


def test_without_a_compiler_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler.shutil, "which", lambda _: None)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="install gcc or clang"):
        CompiledModel(AmpLSTM(4))
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda _: object())
    assert find_compiler() == [sys.executable, "-m", "ziglang", "cc"]
    monkeypatch.setenv("CC", "ccache gcc")
    with pytest.raises(InputError, match="CC names ccache"):
        find_compiler()


@pytest.mark.skipif(os.name != "posix", reason="needs a shell script as a compiler")
def test_a_compiler_that_fails_is_one_sentence_and_leaves_no_file(monkeypatch, tmp_path):
    fake = tmp_path / "cc"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "x: error: no" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("CC", str(fake))
    monkeypatch.setenv("TINYAMP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="error: no"):
        CompiledModel(AmpLSTM(4))
    assert list((tmp_path / "cache").iterdir()) == []
    with pytest.raises(InputError, match="width must be"):
        build("", width=5)
