"""`tinyamp compile`: what it writes and what it refuses."""

from __future__ import annotations

import argparse

import pytest

from tinyamp import wasm
from tinyamp.cli_compile import add_commands
from tinyamp.compiler import model_source
from tinyamp.files import InputError
from tinyamp.model import AmpLSTM, save_model
from tinyamp.wasm import build_wasm, find_wasm_compiler


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    args = parser.parse_args(["compile", *map(str, arguments)])
    args.run(args)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(AmpLSTM(6, seed=1), path)
    return path


def test_compile_writes_the_file_and_says_how_to_call_it(model, tmp_path, capsys):
    out = tmp_path / "fuzz.c"
    run(model, "-o", out, "--prefix", "fuzz")
    assert out.read_text(encoding="utf-8") == model_source(AmpLSTM(6, seed=1), prefix="fuzz")
    assert "6 units at 44100 Hz" in (said := capsys.readouterr().out)
    assert "fuzz_process" in said


def test_compile_writes_webassembly_when_the_name_ends_so(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TINYAMP_CACHE", str(tmp_path / "cache"))
    try:
        find_wasm_compiler()
    except InputError as error:
        pytest.skip(str(error))
    out = tmp_path / "fuzz.wasm"
    run(model, "-o", out, "--prefix", "fuzz")
    assert out.read_bytes() == build_wasm(model_source(AmpLSTM(6, seed=1), prefix="fuzz"))
    assert "6 units at 44100 Hz" in (said := capsys.readouterr().out)
    assert "fuzz_input()" in said


def test_compile_without_a_compiler_for_webassembly_writes_nothing(model, tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(wasm.shutil, "which", lambda _: None)
    monkeypatch.setattr(wasm.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install ziglang"):
        run(model, "-o", tmp_path / "amp.wasm")
    run(model, "-o", tmp_path / "amp.c")  # C takes no compiler
    assert sorted(path.name for path in tmp_path.iterdir()) == ["amp.c", model.name]


def test_compile_replaces_only_when_told_to(model, tmp_path):
    out = tmp_path / "amp.c"
    out.write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        run(model, "-o", out)
    assert out.read_text() == "mine"
    run(model, "-o", out, "--overwrite")
    assert "amp_process" in out.read_text(encoding="utf-8")


def test_compile_refuses_other_names_and_leaves_nothing(model, tmp_path):
    (tmp_path / "folder.c").mkdir()
    before = sorted(tmp_path.iterdir())
    for out, prefix, words in (
        ("amp.txt", "amp", r"\.c or \.wasm"),
        ("amp.wasm", "my-amp", "prefix"),
        ("folder.c", "amp", "folder"),
        ("amp.c", "my-amp", "prefix"),
    ):
        with pytest.raises(InputError, match=words):
            run(model, "-o", tmp_path / out, "--prefix", prefix)
    assert sorted(tmp_path.iterdir()) == before
