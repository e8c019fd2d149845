"""What all notebooks share: the repository's address in their Colab cells, and no outputs.

The address is decided in one place, under `repository` in `_config.yml`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tinyamp.files import InputError, write_beside

ROOT = Path(__file__).resolve().parents[2]
_URL = re.compile(r"^(?P<key> +url: *)(?P<value>https://[^\s#]+)", re.MULTILINE)
_BRANCH = re.compile(r"^ +branch: *(?P<value>[^\s#]+)", re.MULTILINE)
_ADDRESS = re.compile(r"https://github\.com/[A-Za-z0-9][\w-]*/[\w.-]+")
_REPOSITORY_CODE = re.compile(r"^(repository-code: | +url += \{)https://[^\s}]+", re.MULTILINE)
_SITE = re.compile(r"^( +ogp_site_url: )https://\S+", re.MULTILINE)
_BADGE_ID, _SETUP_ID = "colab-badge", "colab-setup"
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_SETUP = """\
# In Colab: fetch the book and the packages that Colab lacks. Elsewhere: nothing.
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess

    address = "{url}"
    here = "/content/{name}"
    if not os.path.isdir(here):
        clone = ["git", "clone", "--quiet", "--depth=1", "--branch={branch}"]
        subprocess.run([*clone, address, here], check=True)
    sys.path.insert(0, f"{{here}}/src")
    os.chdir(f"{{here}}/book")
    from tinyamp.book import install_missing

    install_missing()"""


def repository(root: Path = ROOT) -> tuple[str, str]:
    """The repository's address and branch in `_config.yml`; `InputError` if they are missing."""
    path = root / "_config.yml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    url, branch = _URL.search(text), _BRANCH.search(text)
    if not (url and branch):
        raise InputError(f"{path} should name the repository's url and branch, and does not.")
    return url["value"], branch["value"]


def notebooks(root: Path = ROOT) -> list[Path]:
    """The book's notebooks, in order."""
    return sorted((root / "book").glob("*.ipynb"))


def stamped(notebook: dict, name: str, url: str, branch: str) -> dict:
    """The notebook (as JSON) with its Colab cells after the title, and without outputs.

    `name` is the file's name. Raises `InputError` when the first cell is not a title.
    """
    cells = [cell for cell in notebook["cells"] if cell.get("id") not in (_BADGE_ID, _SETUP_ID)]
    title = "".join(cells[0]["source"]) if cells and cells[0]["cell_type"] == "markdown" else ""
    if not re.search(r"^# \S", title, re.MULTILINE):
        raise InputError(f"{name} should start with a text cell that holds its title ('# …').")
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        for volatile in ("execution", "ExecuteTime", "collapsed", "colab", "outputId"):
            cell["metadata"].pop(volatile, None)
        cell.setdefault("id", f"cell-{number:03d}")
    address = _in_colab(url)
    badge = {
        "cell_type": "markdown",
        "id": _BADGE_ID,
        "metadata": {},
        "source": [f"[Run this chapter in Colab]({address}/blob/{branch}/book/{name})"],
    }
    code = _SETUP.format(name=url.rsplit("/", 1)[1], url=url, branch=branch)
    setup = {
        "cell_type": "code",
        "execution_count": None,
        "id": _SETUP_ID,
        "metadata": {"tags": ["remove-cell"]},
        "outputs": [],
        "source": code.splitlines(keepends=True),
    }
    return {
        "cells": [cells[0], badge, setup, *cells[1:]],
        "metadata": _METADATA,
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def wanted(root: Path = ROOT) -> dict[Path, str]:
    """The text that each file with the address in it should have, by path."""
    url, branch = repository(root)
    texts = {}
    for path in notebooks(root):
        try:
            notebook = json.loads(path.read_text(encoding="utf-8"))
            notebook = stamped(notebook, path.name, url, branch)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not a notebook that can be read: {error!r}.") from error
        texts[path] = json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    owner, name = url.split("/")[-2:]

    def cited(text: str) -> str:
        return _REPOSITORY_CODE.sub(rf"\g<1>{url}", text)

    others = {
        "README.md": lambda text: _readme(text, url, branch),
        "CITATION.cff": cited,
        "book/cite.md": cited,
        # Where GitHub serves the book: what a shared link shows needs whole addresses.
        "_config.yml": lambda text: _SITE.sub(
            rf"\g<1>https://{owner.lower()}.github.io/{name}/", text
        ),
    }
    for place, renewed in others.items():
        if (path := root / place).is_file():
            texts[path] = renewed(path.read_text(encoding="utf-8"))
    return texts


def _in_colab(url: str) -> str:
    """Where Colab opens notebooks of the repository at `url`."""
    return url.replace("https://github.com/", "https://colab.research.google.com/github/")


def _readme(text: str, url: str, branch: str) -> str:
    """The README with the repository's address in its clone command and its Colab links."""
    colab = _in_colab(url)
    text = re.sub(
        r"https://colab\.research\.google\.com/github/[^\s/)]+/[^\s/)]+/blob/[^\s/)]+/",
        f"{colab}/blob/{branch}/",
        text,
    )
    text = re.sub(r"git clone https://\S+", f"git clone {url}", text)
    return re.sub(r"^cd \S+$", f"cd {url.rsplit('/', 1)[1]}", text, count=1, flags=re.MULTILINE)


def differing(root: Path = ROOT) -> list[Path]:
    """The files that differ from what `stamp` would write."""
    return [p for p, text in wanted(root).items() if p.read_text(encoding="utf-8") != text]


def stamp(root: Path = ROOT) -> list[Path]:
    """Write the files that differ from what they should be; return them."""
    changed = []
    for path, text in wanted(root).items():
        if path.read_text(encoding="utf-8") != text:
            with write_beside(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def set_repository(url: str, root: Path = ROOT) -> list[Path]:
    """Write a new address into `_config.yml` and stamp it; return what changed."""
    url = url.rstrip("/").removesuffix(".git")
    if not _ADDRESS.fullmatch(url):
        raise InputError(f"An address like https://github.com/OWNER/NAME was expected, not {url}.")
    repository(root)  # says what is wrong with _config.yml, if anything
    path = root / "_config.yml"
    text = path.read_text(encoding="utf-8")
    new = _URL.sub(lambda match: match["key"] + url, text, count=1)
    if new == text:
        return stamp(root)
    with write_beside(path) as temporary:
        temporary.write_text(new, encoding="utf-8")
    return list(dict.fromkeys([path, *stamp(root)]))


def missing_packages(requirements: str) -> list[str]:
    """The lines of a requirements file whose package is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    missing = []
    for line in requirements.splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        try:
            version(re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0])
        except PackageNotFoundError:
            missing.append(line)
    return missing


def install_missing(root: Path = ROOT) -> None:
    """In Colab: install what requirements.txt names and the runtime lacks, and change nothing else.

    What is installed already, torch and numpy above all, stays at its version.
    """
    import subprocess
    import tempfile
    from importlib.metadata import distributions

    missing = missing_packages((root / "requirements.txt").read_text(encoding="utf-8"))
    if not missing:
        return
    kept = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={number}\n" for name, number in kept.items())
        file.flush()
        command = [sys.executable, "-m", "pip", "install", "-q", "-c", file.name, *missing]
        subprocess.run(command, check=True)
