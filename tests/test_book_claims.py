"""A chapter's claims over many runs, in notebooks of a few lines: what is seen, said and kept."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path

import pytest

from tinyamp import book, book_claims
from tinyamp.book_claims import find_chapter, margin, report, run_all, weigh
from tinyamp.book_run import code_cells, rewritten, run_chapter
from tinyamp.cli import main
from tinyamp.files import InputError

CHAPTERS = [path for path in book.notebooks() if re.match(r"\d\d-", path.name)]
# Another value in every run but the first: the run's number is the name of its result.
RUN = "import sys\nrun = int(sys.argv[2])"


def notebook(folder: Path, *cells: str) -> Path:
    path = folder / "chapter.ipynb"
    text = {"cell_type": "markdown", "metadata": {}, "source": ["# Title"]}
    code = [{"cell_type": "code", "metadata": {}, "source": cell} for cell in cells]
    path.write_text(json.dumps({"cells": [text, *code]}))
    return path


def runs_of(path: Path, **options) -> list[dict]:
    return run_all(path, progress=False, **options)


def sides(run: dict) -> list[list]:
    return [side for claim in run["claims"] for side in claim["sides"]]


# --- one run ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_assertion_of_the_book_is_found(path):
    """Written down are as many as there are, but those that are inside functions."""

    def asserts(tree: ast.AST) -> int:
        inside = (ast.FunctionDef, ast.ClassDef)
        here = isinstance(tree, ast.Assert)
        return here + sum(
            asserts(child) for child in ast.iter_child_nodes(tree) if not isinstance(child, inside)
        )

    found = 0
    for source in code_cells(path):
        tree = rewritten(source)
        assert asserts(tree) == 0
        compile(tree, path.name, "exec", dont_inherit=True)
        said = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and "_claim" in n.id]
        assert len(said) == asserts(ast.parse(source))
        found += len(said)
    assert found > 10


def test_assertions_of_all_kinds(tmp_path):
    """None stops the run; comparisons that must all hold are there with their numbers."""
    cells = (
        "x = 3\nassert x < 1, f'{x} is too large'\nassert 1 < x < 4 and x == 3",
        "for n in (1, 2):\n    if n:\n        assert n >= 2, 'loop'",
        "assert all(n < 2 for n in (0, 1))\nassert not x < 2\nassert 'a' in 'cat', 'a word'",
        "def f():\n    assert x\n    return 'a'\nassert f() == 'a' or x < 9\nassert [x] == [3]",
    )
    found = run_chapter(notebook(tmp_path, *cells))
    assert found["error"] is None
    table = [(c["cell"], c["line"], c["held"], c["sides"]) for c in found["claims"]]
    assert table == [
        (1, 2, False, [[3, "<", 1]]),
        (1, 3, True, [[1, "<", 3], [3, "<", 4], [3, "==", 3]]),
        (2, 3, False, [[1, ">=", 2]]),
        (2, 3, True, [[2, ">=", 2]]),
        (3, 1, True, [[0, "<", 2], [1, "<", 2]]),
        (3, 2, True, []),
        (3, 3, True, []),
        (4, 4, True, []),
        (4, 5, True, [[None, "==", None]]),
    ]
    texts = [claim["text"] for claim in found["claims"]]
    assert texts[0] == "3 is too large" and texts[1] == "1 < x < 4 and x == 3"
    assert texts[2] == texts[3] == "loop"


def test_an_exception_ends_a_run_and_is_one_line(tmp_path):
    cells = "assert 1 < 2", "assert [][0] > 1", "assert 1 < 3"
    found = run_chapter(notebook(tmp_path, *cells))
    assert [claim["cell"] for claim in found["claims"]] == [1]
    assert found["error"] == "cell 2: IndexError: list index out of range"
    stopped = run_chapter(notebook(tmp_path, "def f():\n    assert 1 > 2, 'no'\nf()"))
    assert stopped == {"claims": [], "error": "cell 1: AssertionError: no"}


def test_runs_differ_by_rounding_and_by_seed(tmp_path):
    """In each run all equal models are the same, and what the chapter saves stays as it is."""
    cell = """
import math, tempfile
import torch
from tinyamp.files import data_folder
from tinyamp.model import AmpLSTM, load_model, save_model
from tinyamp.presets import TrainSettings
from tinyamp.train import epoch_order

def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])

drawn = weights(AmpLSTM(4, seed=1))
shipped = weights(load_model(data_folder() / "models" / "sim-muff-32-pruned.safetensors"))
with tempfile.TemporaryDirectory() as folder:
    save_model(AmpLSTM(4, seed=1), f"{folder}/a.safetensors")
    saved = weights(load_model(f"{folder}/a.safetensors"))
assert torch.equal(drawn, weights(AmpLSTM(4, seed=1))) and torch.equal(drawn, saved)
for w in (*drawn[:3], shipped.abs().max()):
    assert w != 0
assert (shipped == 0).sum() > 1000
assert epoch_order(TrainSettings(), 0, 10_000)[0] >= 0
"""
    path = notebook(tmp_path, cell)
    still, rounded = runs_of(path, runs=2, seeds=1)
    for run in (still, rounded):
        assert run["error"] is None and all(claim["held"] for claim in run["claims"])
    (*old, old_zeros, old_order), (*new, new_zeros, new_order) = (
        [left for left, *_ in sides(run)] for run in (still, rounded)
    )
    assert len(old) == 4
    for a, b in zip(old, new, strict=True):
        assert 0 < abs(b / a - 1) < 1e-5
    assert (new_zeros, new_order) == (old_zeros, old_order)

    again, other = runs_of(path, runs=2, seeds=2)
    assert again == still, "run 0 is the chapter as it stands"
    *seeded, last, zeros, order = [left for left, *_ in sides(other)]
    assert all(abs(b / a - 1) > 1e-3 for a, b in zip(old[:3], seeded, strict=True))
    assert abs(last / old[3] - 1) < 1e-5 and zeros == old_zeros and order != old_order


# --- all runs --------------------------------------------------------------------------------


def test_margins():
    for a, symbol, b, factor in [
        (1, "<", 4, 4),
        (4, "<=", 1, 0.25),
        (6, ">", 2, 3),
        (2, ">=", 6, 1 / 3),
        (0, "<", 1, math.inf),
        (1, "<", 0, 0),
    ]:
        assert margin(a, symbol, b) == pytest.approx(factor)
    without = [(-2, "<", 1), (-40, "<", -20), (1, "==", 1), (0, "<", 0), (math.nan, "<", 1)]
    assert [margin(*comparison) for comparison in [*without, (None, "<", 1)]] == [None] * 6


def one(*comparisons: list[list], held: bool | None = None) -> list[dict]:
    """Runs of a chapter with one claim: its sides in each run."""
    return [
        {
            "error": None,
            "claims": [{"cell": 1, "line": 1, "text": "it is", "held": held is not False}
                       | {"sides": sides}],
        }
        for sides in comparisons
    ]  # fmt: skip


def test_only_what_differs_counts():
    """A bound beside another bound is near it in all runs: that is no weakness."""
    [claim] = weigh(one(*[[[x, "<", 10], [10, "<", 11], [11, "<", 99 / x]] for x in (1, 2)]))
    assert claim.live and claim.margins == pytest.approx([9, 4.5])
    assert not claim.fragile and claim.nearest == (11, "<", 99)
    [claim] = weigh(one([[10, "<", 11]], [[10.001, "<", 11]]))
    assert not claim.live and not claim.fragile, "that is rounding"
    [claim] = weigh(one([[10, "<", 15]], [[8, "<", 15]]))
    assert claim.live and claim.fragile
    [claim] = weigh(one([[-40, "<", -30]], [[-31, "<", -30]]))
    assert claim.live and claim.margins == [] and claim.lefts == [-40, -31]
    assert "-40 < -30 (from -40 to -31)" in report(one([[-40, "<", -30]], [[-31, "<", -30]]))


def test_a_claim_without_numbers_is_live_when_it_fails_once():
    always, never = one([]), one([], held=False)
    [sure], [torn], [wrong] = weigh(always + always), weigh(always + never), weigh(never + never)
    assert not sure.live and not sure.fragile
    assert torn.live and torn.fragile and torn.held == 1 < torn.made == 2
    assert wrong.fragile and "!!" in report(never + never)


def test_the_table_and_the_exit_code(tmp_path, capsys):
    sturdy = f"{RUN}\nassert 1 + run < 10, 'sturdy'\nassert 2 < 3, 'the same'\nassert 3 < 4"
    assert main(["book", "claims", str(notebook(tmp_path, sturdy)), "--runs", "2"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^ +1:3 +5 +7\.5 +2/2  sturdy: 1 < 10$", out, re.MULTILINE) and not err
    assert "2 claims are the same in all runs, and hold." in out and "!!" not in out

    fragile = "assert 10 - run > 6, 'fragile'\nassert 2 > 3, 'never'\nassert 1 / (2 - run) > 0"
    assert main(["book", "claims", str(notebook(tmp_path, sturdy, fragile)), "--runs", "3"]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"^!! +2:1 +1\.33 +1\.5 +3/3  fragile: 10 > 6$", out, re.MULTILINE)
    assert re.search(r"^!! +2:2 +- +- +0/3  never$", out, re.MULTILINE)
    assert "!! run 2 broke off in cell 2: ZeroDivisionError: division by zero" in out
    assert re.fullmatch(r"tinyamp: error: in the worst of 3 runs, 2 claims .*\n", err)


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    """Also when it is interrupted in a run; with more runs, only those are done."""
    diary, out = tmp_path / "diary", tmp_path / "out.json"
    path = notebook(tmp_path, f"{RUN}\nprint(run, file=open('diary', 'a'))\nassert run < 9")
    sleep = book_claims.time.sleep

    def interrupted(seconds: float) -> None:
        if out.exists():
            raise KeyboardInterrupt
        sleep(seconds)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(book_claims.time, "sleep", interrupted)
        runs_of(path, runs=2, out=out)
    assert list(json.loads(out.read_text())["runs"]) == ["0"]
    assert len(runs_of(path, runs=2, out=out)) == 2
    assert [sides(run)[0][0] for run in runs_of(path, runs=3, jobs=2, out=out)] == [0, 1, 2]
    assert sorted(set(diary.read_text().split())) == ["0", "1", "2"]
    assert diary.read_text().split().count("0") == 1
    diary.unlink()
    assert len(runs_of(path, runs=2, out=out)) == 2 and not diary.exists()

    kept = out.read_bytes()
    with pytest.raises(InputError, match="name another file"):
        runs_of(path, runs=2, seeds=3, out=out)
    notebook(tmp_path, "assert 1 < 2")
    with pytest.raises(InputError, match="name another file"):
        runs_of(path, runs=2, out=out)
    assert out.read_bytes() == kept


def test_a_process_that_is_killed_is_no_result(tmp_path):
    path, out = notebook(tmp_path, "import os\nos._exit(9)"), tmp_path / "out.json"
    with pytest.raises(InputError, match="run 0 ended with code 9"):
        runs_of(path, runs=2, out=out)
    assert not out.exists()


def test_chapters_are_found_and_others_refused(tmp_path, capsys):
    assert find_chapter("5") == find_chapter("05") == find_chapter("05-magnitude-pruning.ipynb")
    assert find_chapter("5").parent == book.ROOT / "book"
    for name in ("99", "no.ipynb", "notation.md", ""):
        with pytest.raises(InputError, match="no chapter"):
            find_chapter(name)
    (tmp_path / "bad.ipynb").write_text("{")
    assert main(["book", "claims", str(tmp_path / "bad.ipynb")]) == 2
    assert main(["book", "claims", "4", "--out", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2 and "Traceback" not in errors
