"""The chapters as files: clean, alike and stamped. That they run is `pytest --nbmake book`."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tinyamp import book
from tinyamp.cli import main
from tinyamp.files import InputError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = book.notebooks()
CHAPTERS = [path for path in NOTEBOOKS if re.match(r"\d\d-", path.name)]
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell: dict) -> str:
    return "".join(cell["source"])


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == kind]


def text(path: Path) -> str:
    """What is written on a page: all text cells of a notebook, or the Markdown file."""
    if path.suffix == ".ipynb":
        return "\n\n".join(source(cell) for cell in cells(path, "markdown"))
    return path.read_text(encoding="utf-8")


def test_there_are_notebooks():
    assert NOTEBOOKS and CHAPTERS


@each
def test_no_outputs_are_stored(path):
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None


@each
def test_kernel_is_named(path):
    assert read(path)["metadata"]["kernelspec"]["name"] == "python3"


@each
def test_there_is_one_title_and_it_comes_first(path):
    titles = [
        line
        for cell in cells(path, "markdown")
        for line in re.sub(r"```.*?```", "", source(cell), flags=re.DOTALL).splitlines()
        if re.match(r"# \S", line)
    ]
    assert len(titles) == 1
    assert titles[0] in source(read(path)["cells"][0])


@each
def test_last_code_cell_asserts(path):
    tree = ast.parse(source(cells(path, "code")[-1]))
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))


@each_chapter
def test_exercises_have_hidden_solutions(path):
    written = text(path)
    exercises = re.findall(r"\{exercise(?:-start)?\}[^\n]*\n:label: *(\S+)", written)
    solutions = re.findall(r"\{solution(?:-start)?\} *(\S+)\n((?::.*\n)*)", written)
    assert len(exercises) >= 2
    assert sorted(exercises) == sorted(label for label, _ in solutions)
    assert all(":class: dropdown" in options for _, options in solutions)


@each
def test_code_is_plain_python(path):
    """No magics and no shell: the same file runs in Colab, in Jupyter, in tests and in the book."""
    for cell in cells(path, "code"):
        ast.parse(source(cell))


@each
def test_figures_have_alt_text(path):
    for cell in cells(path, "code"):
        rendered = cell["metadata"].get("mystnb", {})
        if "figure" in rendered or "plt.show()" in source(cell):
            assert rendered.get("image", {}).get("alt"), source(cell)
        if "figure" in rendered:
            assert rendered["figure"].get("caption"), source(cell)


@each
def test_names_no_place_on_this_machine(path):
    found = re.findall(r"(?:/home/|/Users/|/work/|/tmp/|/root/|[A-Z]:\\\\)\S*", path.read_text())
    assert not found


def test_labels_are_unique():
    labels: Counter[str] = Counter()
    for path in [*NOTEBOOKS, *(ROOT / "book").glob("*.md")]:
        written = text(path)
        labels.update(re.findall(r"^\$\$ *\(([\w:-]+)\)", written, re.MULTILINE))
        labels.update(re.findall(r"^:(?:label|name): *(\S+)", written, re.MULTILINE))
        labels.update(re.findall(r"^\(([\w:-]+)\)=$", written, re.MULTILINE))
        if path.suffix == ".ipynb":
            for cell in cells(path, "code"):
                rendered = cell["metadata"].get("mystnb", {})
                labels.update(filter(None, [rendered.get("figure", {}).get("name")]))
    assert [label for label, count in labels.items() if count > 1] == []


def test_every_reference_has_a_doi():
    """But where none was given: the older DAFx proceedings, and a magazine."""
    entries = (ROOT / "book" / "references.bib").read_text(encoding="utf-8").split("\n@")
    without = [entry for entry in entries if "doi" not in entry and "(DAFx)" not in entry]
    assert [entry for entry in without if "Glass Audio" not in entry] == []


@pytest.mark.skipif(
    shutil.which("ruff", path=Path(sys.executable).parent) is None, reason="no ruff"
)
def test_ruff_has_nothing_to_say():
    ruff = Path(sys.executable).parent / "ruff"
    for command in (["check"], ["format", "--check"]):
        run = subprocess.run([ruff, *command, *NOTEBOOKS], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout


# --- the address that is stamped into them ---------------------------------------------------


def test_notebooks_and_readme_agree_with_the_config():
    assert book.differing() == [], "run: tinyamp book stamp"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with one unstamped notebook and whatever else names the address."""
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "CITATION.cff", "book/cite.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    colab = "https://colab.research.google.com/github/old/name/blob/x/book/intro.ipynb"
    readme = f"[![c](badge.svg)]({colab})\n\n    git clone https://github.com/old/name\n"
    (tmp_path / "README.md").write_text(readme)
    output = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
    code = {"cell_type": "code", "metadata": {}, "execution_count": 3, "source": ["1"]}
    notebook = {
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": ["# Title\n", "and text"]},
            {**code, "outputs": [output]},
        ],
        "metadata": {"kernelspec": {"name": "mine"}},
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    (tmp_path / "book" / "intro.ipynb").write_text(json.dumps(notebook))
    return tmp_path


def test_stamp_once_and_for_all(small):
    assert len(book.differing(small)) == 2
    assert len(book.stamp(small)) == 2
    assert book.differing(small) == [] and book.stamp(small) == []
    kinds = [cell["cell_type"] for cell in read(small / "book" / "intro.ipynb")["cells"]]
    assert kinds == ["markdown", "markdown", "code", "code"]
    url, branch = book.repository(small)
    path = url.removeprefix("https://github.com/")
    readme = (small / "README.md").read_text()
    assert f"/github/{path}/blob/{branch}/book/intro.ipynb" in readme
    assert f"git clone {url}\n" in readme and "old" not in readme


def test_a_new_address_reaches_every_file(small):
    book.stamp(small)
    old, _ = book.repository(small)
    new = "https://github.com/some-one/their.amps"
    named = ("_config.yml", "README.md", "CITATION.cff", "book/cite.md", "book/intro.ipynb")
    assert len(book.set_repository(new + ".git", small)) == len(named)
    for name in named:
        written = (small / name).read_text()
        assert new.removeprefix("https://github.com/") in written
        assert old.removeprefix("https://github.com/") + "/" not in written
    assert "https://some-one.github.io/their.amps/" in (small / "_config.yml").read_text()
    book.set_repository(old, small)
    assert (small / "_config.yml").read_text() == (ROOT / "_config.yml").read_text()


@pytest.mark.parametrize("url", ["", "github.com/a/b", "https://github.com/a", "https://x.org/a/b"])
def test_an_address_that_is_none_changes_nothing(small, url):
    before = {p: p.read_bytes() for p in small.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"github[.]com/OWNER/NAME"):
        book.set_repository(url, small)
    assert before == {p: p.read_bytes() for p in small.rglob("*") if p.is_file()}


def test_a_notebook_without_title_is_refused(small):
    path = small / "book" / "intro.ipynb"
    path.write_text(path.read_text().replace("# Title", "Title"))
    with pytest.raises(InputError, match=r"intro\.ipynb"):
        book.stamp(small)
    path.write_text("{")
    with pytest.raises(InputError, match=r"intro\.ipynb"):
        book.stamp(small)


def test_setup_cell_does_nothing_here(small):
    book.stamp(small)
    setup = source(read(small / "book" / "intro.ipynb")["cells"][2])
    before = list(sys.path)
    names: dict = {}
    exec(compile(setup, "setup", "exec"), names)
    assert sys.path == before and "here" not in names


def test_setup_cell_in_colab(small, tmp_path, monkeypatch):
    """With git and pip replaced: clones once at the branch, then uses the clone's own code."""
    book.stamp(small)
    setup = source(read(small / "book" / "intro.ipynb")["cells"][2])
    url, branch = book.repository(small)
    there = tmp_path / "content"
    name = url.rsplit("/", 1)[1]
    setup = setup.replace("/content/", f"{there}/")
    calls = []

    def run(command, **options):
        calls.append(command)
        (there / name / "book").mkdir(parents=True)

    monkeypatch.setitem(sys.modules, "google.colab", sys)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(book, "install_missing", lambda: calls.append("install"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        exec(compile(setup, "setup", "exec"), {})
    assert calls[1:] == ["install", "install"]
    assert calls[0][-2:] == [url, str(there / name)]
    assert f"--branch={branch}" in calls[0]
    assert sys.path[0] == str(there / name / "src")
    assert Path.cwd() == there / name / "book"


def test_only_what_is_missing_is_installed():
    listed = "numpy>=1.0\n# a comment\nno-such-package-of-ours>=2  # why\n\nsoundfile\n"
    assert book.missing_packages(listed) == ["no-such-package-of-ours>=2"]


def test_colab_never_gets_another_torch():
    listed = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    named = {re.split(r"[<>=~! ]", line)[0] for line in listed.splitlines() if line[:1] != "#"}
    assert not named & {"torch", "numpy", "torchaudio"}
    assert "==" not in listed


def test_command_line_says_what_is_wrong(capsys, monkeypatch, small):
    monkeypatch.setattr(book, "ROOT", small)
    for name in ("wanted", "repository", "notebooks", "stamp", "set_repository", "differing"):
        function = getattr(book, name)
        defaults = tuple(small if d == ROOT else d for d in function.__defaults__)
        monkeypatch.setattr(function, "__defaults__", defaults)
    assert main(["book", "check"]) == 2
    errors = capsys.readouterr().err
    assert "intro.ipynb" in errors and "tinyamp book stamp" in errors
    assert main(["book", "stamp"]) == 0 and main(["book", "check"]) == 0
    assert main(["book", "set-repository", "nowhere"]) == 2
    errors = capsys.readouterr().err
    assert "https://github.com/OWNER/NAME" in errors and "Traceback" not in errors
