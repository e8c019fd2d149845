"""Files are whole or absent, and the folders are where they are said to be."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tinyamp import files
from tinyamp.files import InputError, data_folder, made_folder, write_beside


def test_data_folder_is_that_of_the_checkout(monkeypatch) -> None:
    monkeypatch.delenv("TINYAMP_DATA", raising=False)
    assert (data_folder() / "circuits" / "sim-muff.cir").is_file()


def test_folders_from_the_environment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TINYAMP_DATA", str(tmp_path))
    monkeypatch.delenv("TINYAMP_MADE", raising=False)
    assert data_folder() == tmp_path
    assert made_folder() == tmp_path / "made"
    monkeypatch.setenv("TINYAMP_MADE", str(tmp_path / "elsewhere"))
    assert made_folder() == tmp_path / "elsewhere"
    monkeypatch.setenv("TINYAMP_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"TINYAMP_DATA names .*nowhere, which is not a folder"):
        data_folder()


def test_write_beside_replaces_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with write_beside(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("one")
        assert not path.exists()
    with write_beside(path) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_write_beside_leaves_nothing_on_failure(tmp_path: Path, error) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), write_beside(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_before_any_line_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted_before(line: int) -> bool:
        seen = 0

        def trace(frame, event, _):
            nonlocal seen
            if frame.f_code.co_filename != files.__file__:
                return None
            seen += event == "line"
            if seen == line:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with write_beside(path) as temporary:
                temporary.write_text("new")
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    line = 1
    while interrupted_before(line):
        assert path.read_text() in ("old", "new")
        assert list(tmp_path.iterdir()) == [path]
        line += 1
    assert line > 10 and path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions.")
def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with write_beside(tmp_path / "a") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="Cannot write"), write_beside(tmp_path / "file" / "a"):
        raise AssertionError("never reached")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(InputError, match="Cannot write"), write_beside(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
