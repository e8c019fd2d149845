"""The project as a whole: what the README promises exists, and versions, pins and sizes agree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.metadata import requires, version
from pathlib import Path

import pytest

import tinyamp
from tinyamp import picture

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
TEXT = {".py", ".md", ".ipynb", ".toml", ".yml", ".txt", ".css", ".js", ".bib", ".cir", ".json"}


def files() -> list[Path]:
    """What belongs to the project: git's list, or without git all but what is built or made."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        command = [git, "ls-files", "--cached", "--others", "--exclude-standard"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        listed = [ROOT / line for line in run.stdout.splitlines()]
    else:
        skipped = {".venv", "_build", "made", "runs", "__pycache__", ".git", ".hypothesis"}
        listed = [p for p in ROOT.rglob("*") if not skipped & set(p.relative_to(ROOT).parts)]
    return sorted(path for path in listed if path.is_file())


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, list[str]]:
    """Name to lines of a constraints or requirements file."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            found.setdefault(normal(re.split(r"[<>=!~;\[ ]", line)[0]), []).append(line)
    return found


def test_readme_commands_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", README, re.MULTILINE)
    named = [one or other for one, other in named]
    assert {"book", "test", "serve"} <= set(named)
    assert set(named) <= set(targets)


def test_readme_command_lines_are_understood():
    """Every `tinyamp …` in the README names a command and options that exist."""
    from tinyamp.cli import build_parser

    lines = re.findall(r"^tinyamp (.+?)(?: +#.*)?$", README, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        build_parser().parse_args(line.split())  # exits, which fails the test, if it does not fit


def test_readme_library_examples_are_python_that_imports():
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert examples
    example = "\n".join(examples)
    imports = [line for line in example.splitlines() if line.startswith(("import", "from"))]
    exec("\n".join(imports), {})
    compile(example, "README.md", "exec")


def test_readme_links_inside_the_repository_lead_somewhere():
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", README) + re.findall(
        r'src="([^":]+)"', README
    )
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_one_version():
    [stated] = re.findall(r'^version = "(.+)"', PROJECT, re.MULTILINE)
    assert tinyamp.__version__ == stated == version("tinyamp")
    assert f"\nversion: {stated}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"Version {stated}}}" in (ROOT / "book" / "cite.md").read_text()
    assert f"\n## {stated}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_citation_is_whole():
    """CITATION.cff is YAML with what its standard demands, and cites the paper."""
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    [paper] = citation["references"]
    assert paper["doi"] in (ROOT / "book" / "references.bib").read_text(encoding="utf-8")


def test_every_module_is_in_the_reference_once():
    """All but the command line's modules, which `--help` describes."""
    pages = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "book" / "api").glob("*.md"))
    named = re.findall(r"^\.\. automodule:: tinyamp\.(\w+)$", pages, re.MULTILINE)
    modules = {p.stem for p in (ROOT / "src" / "tinyamp").glob("*.py")}
    assert sorted(named) == sorted(m for m in modules if not m.startswith(("cli", "__")))


def test_licence():
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    assert 'license = "MIT"' in PROJECT and "MIT" in README
    for vendored in ("mathjax", "fonts"):
        assert (ROOT / "book" / "_static" / vendored / "LICENSE").is_file()


def test_every_dependency_is_pinned():
    listed = pins(ROOT / "constraints.txt")
    loose = [
        line for lines in listed.values() for line in lines if not re.match(r"[\w.-]+==\S", line)
    ]
    assert not loose
    for line in requires("tinyamp") or []:
        assert normal(re.split(r"[<>=!~;\[ ]", line)[0]) in listed, line


def test_pins_are_what_is_installed():
    """In the environment that make set up, every pinned package is there in its pinned version."""
    from importlib.metadata import PackageNotFoundError

    if not (ROOT / ".venv" / ".ready").is_file():
        pytest.skip("This environment was not set up by make.")
    wrong = []
    for name, lines in pins(ROOT / "constraints.txt").items():
        stated = {re.split(r"[=;]+", line)[1].strip() for line in lines}
        try:
            if version(name).split("+")[0] not in stated:
                wrong.append((name, version(name), stated))
        except PackageNotFoundError:
            continue  # for another Python or another system
    assert not wrong


def test_requirements_are_the_library_and_no_more():
    """requirements.txt plus torch and numpy, which Colab has, is all that a chapter needs."""
    named = set(pins(ROOT / "requirements.txt"))
    [block] = re.findall(r"^dependencies = \[(.*?)^\]", PROJECT, re.DOTALL | re.MULTILINE)
    library = {normal(re.split(r"[<>=]", d)[0]) for d in re.findall(r'"(.+?)"', block)}
    assert library - {"torch", "numpy"} <= named
    assert named - library == {"ipywidgets", "matplotlib"}


@pytest.mark.parametrize(
    ("folder", "limit"),
    [("circuits", 1e5), ("excerpts", 12e6), ("models", 1e6), ("searches", 1e6), ("results", 12e6)],
)
def test_shipped_data_is_small(folder, limit):
    shipped = [path for path in files() if path.is_relative_to(ROOT / "data" / folder)]
    assert 0 < sum(path.stat().st_size for path in shipped) <= limit


def test_vendored_mathjax_is_small():
    folder = ROOT / "book" / "_static" / "mathjax"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 2.5e6


def test_no_file_names_a_machine():
    """No path of one machine, and no package host: pip finds those by itself."""
    patterns = (
        r"/home/\w",
        r"/Users/\w",
        r"/work/",
        r"/root/",
        "--index" + "-url",
        "find" + "-links",
    )
    pattern = re.compile("|".join(patterns))
    this = Path(__file__).name
    found = []
    for path in files():
        vendored = "mathjax" in path.parts or path.name in (this, "test_notebooks.py")
        if vendored or (path.suffix not in TEXT and path.name not in ("Makefile", "run")):
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}: {line.strip()[:80]}")
    assert not found


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_says_what_is_missing(tmp_path):
    """Without a Python that fits, one sentence and no half-made environment."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    run = subprocess.run(
        ["make", "book", "PYTHON=no-such-python"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "MAKEFLAGS": ""},
    )
    assert run.returncode != 0
    assert "needs Python 3.10, 3.11, 3.12 or 3.13" in run.stderr and "no-such-python" in run.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_names_every_command():
    run = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in ("book", "serve", "test", "clean"):
        assert re.search(rf"make {name} +\S", run.stdout)


def test_picture_is_what_the_models_made(tmp_path):
    """The README's picture is drawn from recordings, and drawn the same every time."""
    import numpy as np

    from tinyamp.data import load_excerpt

    test = load_excerpt(picture.DEVICE, "test", seconds=2.0)
    prediction = (0.99 * test.target).astype(np.float32)
    for name in ("a.svg", "b.svg"):
        picture.draw(test, prediction, 4513, tmp_path / name)
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    picture.draw(test, (0.5 * test.target).astype(np.float32), 4513, tmp_path / "c.svg")
    assert drawn != (tmp_path / "c.svg").read_bytes()
    assert len(drawn) < 300_000 and drawn.startswith(b"<?xml")
    assert picture.PICTURE.is_file()
