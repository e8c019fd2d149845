"""Colab without Colab: every chapter in a fresh environment, from an empty folder.

    make colab                                          # all chapters (half an hour)
    python tests/rehearse_colab.py 04-training intro    # some

A new virtual environment gets what every Colab runtime has, a stand-in for `google.colab`
included. Each notebook then runs from an empty folder, with the repository's address pointed at a
bare clone of this one's last commit. Its set-up cell must be done within 40 seconds and must leave
torch and numpy as they were.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm.std import tqdm

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = ("torch", "numpy", "matplotlib", "scipy", "ipykernel")  # of what Colab has, this
UNTOUCHED = ("torch", "numpy")
LIMIT = 40  # seconds for the set-up cell
SETUP = "colab-setup"
PREAMBLE = "import google.colab"  # as Colab's kernels do before the first cell


def run(*command: str | Path, **options) -> str:
    """The output of a command that must succeed."""
    return subprocess.run(
        [str(part) for part in command], check=True, text=True, stdout=subprocess.PIPE, **options
    ).stdout


def make_runtime(folder: Path) -> Path:
    """A virtual environment with what Colab has; the path of its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *RUNTIME)
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    )
    for package in ("google", "google/colab"):
        (packages / package).mkdir()
        (packages / package / "__init__.py").touch()
    return python


def make_kernel(folder: Path, python: Path) -> None:
    """A kernel called "colab" in `folder` that runs `python` and imports `google.colab` first."""
    kernel = folder / "kernels" / "colab"
    kernel.mkdir(parents=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    command.append(f"--IPKernelApp.exec_lines={PREAMBLE}")
    spec = {"argv": command, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))


def versions(python: Path) -> dict[str, str]:
    """Of every installed package."""
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json"))
    return {package["name"]: package["version"] for package in listed}


def seconds_of(cell: nbformat.NotebookNode) -> float:
    """How long a cell ran."""
    times = cell.metadata["execution"]
    start, end = (times[f"iopub.status.{key}"] for key in ("busy", "idle"))
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def rehearse(path: Path, address: str, repository: Path, content: Path) -> float:
    """Run a notebook from the empty folder `content`; the seconds that its set-up took."""
    content.mkdir()
    notebook = nbformat.read(path, as_version=4)
    (setup,) = (cell for cell in notebook.cells if cell.get("id") == SETUP)
    for old, new in ((f'"{address}"', f'"file://{repository}"'), ('"/content/', f'"{content}/')):
        assert old in setup.source, f"{path.name} has no {old} in its set-up cell"
        setup.source = setup.source.replace(old, new)
    client = NotebookClient(
        notebook, kernel_name="colab", timeout=600, resources={"metadata": {"path": str(content)}}
    )
    client.execute()
    return seconds_of(setup)


def main() -> int:
    """Rehearse the chapters that were asked for; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("chapters", nargs="*", help="names without .ipynb (default: all)")
    chosen = parser.parse_args().chapters
    sys.path.insert(0, str(ROOT / "src"))
    from tinyamp.book import notebooks, repository

    paths = [path for path in notebooks() if not chosen or path.stem in chosen]
    if unknown := set(chosen) - {path.stem for path in paths}:
        parser.error(f"no such chapter: {', '.join(sorted(unknown))}")
    address, branch = repository()
    failed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bare = folder / "repository.git"
        run("git", "clone", "--quiet", "--bare", ROOT, bare)
        run(
            "git",
            "-C",
            bare,
            "branch",
            "--force",
            branch,
            run("git", "-C", ROOT, "rev-parse", "HEAD").strip(),
        )
        python = make_runtime(folder / "runtime")
        make_kernel(folder, python)
        os.environ |= {"JUPYTER_PATH": name, "TINYAMP_CACHE": str(folder / "cache")}
        os.environ.pop("PYTHONPATH", None)
        before = versions(python)
        for path in tqdm(paths, desc="chapters", unit="chapter"):
            started = time.perf_counter()
            try:
                setup = rehearse(path, address, bare, folder / path.stem)
                problem = f"set-up took over {LIMIT} s" if setup > LIMIT else ""
                what = f"set-up {setup:.0f} s, whole {time.perf_counter() - started:.0f} s"
            except Exception as error:  # whatever a notebook raises
                what, problem = "failed", str(error)
            tqdm.write(f"{path.stem:24} {what}")
            if problem:
                failed.append(path.stem)
                tqdm.write(problem)
        after = versions(python)
    added = sorted(set(after) - set(before))
    changed = [package for package in before if after.get(package) != before[package]]
    print(f"installed: {', '.join(added)}; changed: {', '.join(changed) or 'nothing'}")
    return int(bool(failed or changed or not set(UNTOUCHED) <= set(before)))


if __name__ == "__main__":
    sys.exit(main())
