"""Whether a chapter's assertions hold anywhere, or hang on rounding or on one seed.

What comes out of a training run is one result of many: another machine rounds differently, and a
few hundred updates later the weights are others. So the chapter runs many times, from starts that
differ by rounding and over several seeds, and its assertions are weighed, not enforced. One that
depends on a training run should hold in the worst of the runs by a factor of two.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tqdm.std import tqdm

from tinyamp.book import ROOT
from tinyamp.book_run import code_cells
from tinyamp.files import InputError, write_beside

VARIES = 1e-3  # relative: more than rounding alone does to a number that is computed
FACTOR = 2.0  # the book's rule

Sides = tuple[float | None, str, float | None]  # left, operator, right; None: not a number


class FragileError(RuntimeError):
    """A claim failed, or held by less than a factor of two; the message says how many."""


def find_chapter(name: str, root: Path = ROOT) -> Path:
    """The notebook called `name`: a number such as 5 or 05, or a file. `InputError` if none is."""
    paths = [Path(name), root / "book" / name]
    if name.isdecimal():
        paths = sorted((root / "book").glob(f"{int(name):02d}-*.ipynb"))
    for path in paths:
        if path.suffix == ".ipynb" and path.is_file():
            return path.resolve()
    raise InputError(f"There is no chapter {name}: give its number, such as 5, or its notebook.")


def _start(path: Path, run: int, shift: int, result: Path) -> subprocess.Popen:
    """Begin one run in a fresh process, one thread, without a screen."""
    package = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    environment["PYTHONPATH"] = os.pathsep.join([package, os.environ.get("PYTHONPATH", "")])
    nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    command = [sys.executable, "-m", "tinyamp.book_run", path, str(run), str(shift), result]
    return subprocess.Popen(command, cwd=path.parent, env=environment, **nothing)


def run_all(
    path: Path,
    *,
    runs: int = 20,
    seeds: int = 5,
    jobs: int = 1,
    out: Path | None = None,
    progress: bool = True,
) -> list[dict]:
    """What `run_chapter` gives for runs 0, 1, …, each in a process of its own, `jobs` at once.

    Run r has seeds shifted by 1000 · (r % `seeds`). With `out`, a JSON file, every finished run is
    kept there, and those that it has are not done again. Raises `InputError` when it holds runs of
    something else, or when a process is killed.
    """
    path = path.resolve()
    cells = hashlib.sha256(json.dumps(code_cells(path)).encode()).hexdigest()
    head = {"chapter": path.name, "cells": cells, "seeds": seeds}
    done = {} if out is None or not out.exists() else _earlier(out, head)
    waiting = [run for run in range(runs) if str(run) not in done]
    going: dict[int, subprocess.Popen] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(desc=path.stem, total=runs, unit="run", disable=not progress) as bar,
    ):
        bar.update(runs - len(waiting))
        try:
            while waiting or going:
                while waiting and len(going) < jobs:
                    run = waiting.pop(0)
                    going[run] = _start(path, run, run % seeds, Path(folder, f"{run}.json"))
                time.sleep(0.1)
                for run in [run for run, process in going.items() if process.poll() is not None]:
                    if code := going.pop(run).returncode:
                        raise InputError(
                            f"The process of run {run} ended with code {code}, as when memory is "
                            "short. With --out, the same command goes on."
                        )
                    done[str(run)] = json.loads(Path(folder, f"{run}.json").read_text("utf-8"))
                    if out is not None:
                        with write_beside(out) as temporary:
                            temporary.write_text(json.dumps({**head, "runs": done}), "utf-8")
                    bar.update()
        finally:
            for process in going.values():
                process.kill()
                process.wait()
    return [done[str(run)] for run in range(runs)]


def _earlier(out: Path, head: dict) -> dict[str, dict]:
    """The runs that `out` has, if they are of the same cells and seeds."""
    try:
        record = json.loads(out.read_text(encoding="utf-8"))
        if {key: record[key] for key in head} == head:
            return dict(record["runs"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{out} does not hold runs of this chapter as it is now: name another file.")


def margin(a: float | None, symbol: str, b: float | None) -> float | None:
    """By what factor a < b or a > b is on the right side, below 1 on the wrong one.

    None where there is no such factor: for ==, a negative side, or what is no number.
    """
    if a is None or b is None or symbol in ("==", "!="):
        return None
    small, large = (a, b) if symbol in ("<", "<=") else (b, a)
    if not (small >= 0 and large >= 0) or small == large == 0:
        return None
    return large / small if small else math.inf


@dataclass(frozen=True)
class Claim:
    """An assertion over all runs; in a loop, each passage is one."""

    cell: int
    line: int
    text: str
    made: int  # in so many runs
    held: int  # in so many of these
    live: bool  # whether its numbers, or whether it holds, differ between runs
    margins: list[float]  # of each run, the least of its live comparisons
    nearest: Sides | None  # that comparison, in the first run
    lefts: list[float]  # its left side in all runs

    @property
    def fragile(self) -> bool:
        """Whether it failed, or is live and was once on the right side by less than a factor 2."""
        return self.held < self.made or min(self.margins, default=math.inf) < FACTOR


def weigh(runs: list[dict]) -> list[Claim]:
    """The claims of all runs, those of `run_all`, in the chapter's order."""
    found: dict[tuple[int, int, int], list[dict]] = defaultdict(list)
    for run in runs:
        passages: Counter = Counter()
        for claim in run["claims"]:
            place = claim["cell"], claim["line"]
            found[(*place, passages[place])].append(claim)
            passages[place] += 1
    return [_weigh(cell, line, records) for (cell, line, _), records in sorted(found.items())]


def _weigh(cell: int, line: int, records: list[dict]) -> Claim:
    made, held = len(records), sum(record["held"] for record in records)
    live = []  # of each comparison that differs, its sides in every run, None where there are none
    for n in range(max(len(record["sides"]) for record in records)):
        column = [(*record["sides"], *[None] * (n + 1))[n] for record in records]
        if None in column or any(_differ([sides[k] for sides in column]) for k in (0, 2)):
            live.append(column)
    margins = [_margins(column[run] for column in live) for run in range(made)]
    margins = [min(known) for known in margins if known]
    column = min(
        (column for column in live if column[0] is not None),
        key=lambda column: min(_margins(column[:1]), default=math.inf),
        default=[],
    )
    nearest = tuple(column[0]) if column else None
    lefts = [sides[0] for sides in column if sides is not None and sides[0] is not None]
    differs = bool(live) or 0 < held < made
    return Claim(cell, line, records[0]["text"], made, held, differs, margins, nearest, lefts)


def _margins(comparisons: Iterable[Sides | None]) -> list[float]:
    """The margins of those comparisons that have one."""
    found = [margin(*sides) for sides in comparisons if sides is not None]
    return [factor for factor in found if factor is not None]


def _differ(values: list[float | None]) -> bool:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return False
    spread, size = max(numbers) - min(numbers), max(map(abs, numbers))
    return len(numbers) < len(values) or not spread <= VARIES * size  # NaN differs


def report(runs: list[dict]) -> str:
    """A table of the claims that differ between runs, and of those that failed."""
    claims = weigh(runs)
    shown = [claim for claim in claims if claim.live or claim.held < claim.made]
    lines = ["   cell:line  worst  median   held  claim: in run 0"] if shown else []
    for claim in shown:
        worst, middle, text = "-", "-", claim.text
        if claim.margins:
            worst, middle = f"{min(claim.margins):.3g}", f"{median(claim.margins):.3g}"
        if claim.nearest is not None:
            a, symbol, b = claim.nearest
            text += f": {_short(a)} {symbol} {_short(b)}"
            if not claim.margins and claim.lefts:  # no factor says how near it was
                text += f" (from {_short(min(claim.lefts))} to {_short(max(claim.lefts))})"
        mark, place = "!!" if claim.fragile else "", f"{claim.cell}:{claim.line}"
        held = f"{claim.held}/{claim.made}"
        lines.append(f"{mark:2} {place:>9}  {worst:>5}  {middle:>6}  {held:>5}  {text}")
    lines.append(f"{len(claims) - len(shown)} claims are the same in all runs, and hold.")
    errors = [(number, run["error"]) for number, run in enumerate(runs) if run["error"]]
    lines += [f"!! run {number} broke off in {error}" for number, error in errors]
    return "\n".join(lines)


def _short(value: float | None) -> str:
    return "…" if value is None else f"{value:.4g}"


def demand_sturdy(runs: list[dict]) -> None:
    """Raise `FragileError` if a claim is fragile, or a run broke off."""
    fragile = sum(claim.fragile for claim in weigh(runs))
    broken = sum(run["error"] is not None for run in runs)
    if fragile or broken:
        raise FragileError(
            f"in the worst of {len(runs)} runs, {fragile} claims fail or hold by less than a "
            f"factor of {FACTOR:.0f}, and {broken} runs broke off."
        )
