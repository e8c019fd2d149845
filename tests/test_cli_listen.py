"""`tinyamp listen`: a page is made, ratings are simulated and analysed, mistakes get one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_cli import contents, refused

from tinyamp.cli import main
from tinyamp.listening_ratings import post_screen, read_ratings, write_ratings
from tinyamp.listening_simulated import simulate_ratings
from tinyamp.listening_stats import compare, means
from tinyamp.model import AmpLSTM, save_model


@pytest.fixture
def work(tmp_path: Path, monkeypatch) -> Path:
    """A folder with two small models and a file of ratings."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in "ab":
        save_model(AmpLSTM(2, seed=ord(name)), f"{name}.safetensors")
    write_ratings(simulate_ratings(0), "ratings.csv")
    return folder


def test_make_a_page_with_models_of_ones_own(work, capsys):
    models = ["--device", "sim-crunch", "--unpruned", "a.safetensors", "--pruned", "b.safetensors"]
    options = ["--seconds", "1", "--bits", "12", "--order", "5", "--title", "My <amp>", "--quiet"]
    before = contents(work)
    assert main(["listen", "make", "-o", "test.html", *models, *options]) == 0
    out, err = capsys.readouterr()
    assert re.match(r"test\.html: test [0-9a-f]{8}, 7 trials, \d\.\d MB\n", out) and not err
    assert contents(work).keys() - before.keys() == {"test.html"}
    text = Path("test.html").read_text(encoding="utf-8")
    description = json.loads(re.search(r'id="test">(.*?)</script>', text, re.DOTALL)[1])
    assert description["seed"] == 5 and description["seconds"] == 1.0
    instruments = [trial["instrument"] for trial in description["trials"]]
    assert instruments == ["bass"] * 5 + ["guitar"] * 2
    assert {trial["device"] for trial in description["trials"]} == {"sim-crunch"}
    assert len(description["training"]) == 3 and "My &lt;amp&gt;" in text
    assert main(["listen", "make", "-o", "test.html", *models]) == 2, "it is there already"


def test_analyse_says_what_the_library_says(work, capsys):
    assert main(["listen", "analyse", "ratings.csv"]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert out.startswith("SIMULATED ratings: nobody has listened.\n12 listeners, 672 ratings\n")
    kept, removed = post_screen(read_ratings("ratings.csv"))
    assert re.findall(r"^removed: (\S+),", out, re.MULTILINE) == removed == ["simulated-12"]
    rows = re.findall(r"^(sim-\w+) +(\w+) +(\d+) +([\d.]+) +([\d.]+) to ([\d.]+)$", out, re.M)
    assert rows == [
        (m.device, m.condition, str(m.n), *(f"{v:.1f}" for v in (m.mean, m.low, m.high)))
        for m in means(kept)
    ]
    for c in compare(kept):
        assert f"{c.device}: {c.difference:+.1f} (95 %: {c.low:+.1f} to {c.high:+.1f})" in out
        assert f"n = {c.n}, paired t test p = {c.p_t:.3g}" in out
        assert f"signed-rank p = {c.p_rank:.3g}" in out


def test_analyse_without_screening(work, capsys):
    assert main(["listen", "analyse", "ratings.csv", "--keep-all"]) == 0
    out = capsys.readouterr().out
    assert "would be removed: simulated-12" in out and "was left out" in out
    assert re.findall(r"n = (\d+)", out) == ["12", "12"]


def test_simulate_writes_what_the_library_draws(work, capsys):
    command = ["listen", "simulate", "-o", "s.json", "--listeners", "5", "--seed", "9"]
    assert main(command) == 0
    assert capsys.readouterr().out == "s.json: 280 SIMULATED ratings of 5 listeners\n"
    assert read_ratings("s.json") == simulate_ratings(9, listeners=5)


def test_help_without_a_command(capsys):
    assert main(["listen"]) == 0
    assert "tinyamp listen make -o test.html" in capsys.readouterr().out


PAIR = ["--unpruned", "a.safetensors", "--pruned", "b.safetensors"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["make", "-o", "ratings.csv"], "there already"),
        (["make", "-o", "test.txt"], r"must end in \.html"),
        (["make", "-o", "t.html", "--unpruned", "a.safetensors"], "Give both models"),
        (["make", "-o", "t.html", *PAIR], "Say of which device"),
        (["make", "-o", "t.html", "--bits", "24"], "from 8 to 16, but is 24"),
        (["make", "-o", "t.html", "--order", "4294967296"], "below 2"),
        (["make", "-o", "t.html", "--device", "sim-lead"], "No pruned model of 'sim-lead'"),
        (["make", "-o", "t.html", "--device", "amp"], "invalid choice"),
        (["make", "-o", "t.html", "--seconds", "60"], "from 1 to 20 seconds"),
        (["make", "-o", "t.html", "--device", "sim-muff", "--unpruned", "ratings.csv",
          "--pruned", "none.safetensors"], "ratings.csv"),
        (["make"], "-o"),
        (["analyse", "none.csv"], "no file none.csv"),
        (["analyse", "a.safetensors"], "not a text file|not a file of ratings|not whole"),
        (["analyse", "ratings.csv", "ratings.csv"], "is a file given twice"),
        (["analyse"], "files"),
        (["simulate", "-o", "s.txt"], "csv or"),
        (["simulate", "-o", "ratings.csv"], "there already"),
        (["simulate", "-o", "s.csv", "--listeners", "0"], "1 or more"),
        (["simulate", "-o", "s.csv", "--seed", "-1"], "from 0"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(work, capsys, argv, says):
    refused(capsys, work, ["listen", *argv], says)


def test_everyone_removed(work, capsys):
    write_ratings(simulate_ratings(1, listeners=2, careless=2), "careless.csv")
    capsys.readouterr()
    assert main(["listen", "analyse", "careless.csv"]) == 2
    assert "removed every listener" in capsys.readouterr().err
    write_ratings(simulate_ratings(1, listeners=2, careless=1), "one.csv")
    assert main(["listen", "analyse", "one.csv"]) == 2
    assert "ratings of 1 listener" in capsys.readouterr().err
