"""The listening test: its sounds and order, its ratings, and statistics with known answers."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from common import noise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from tinyamp import listening
from tinyamp.files import InputError
from tinyamp.listening import (
    CONDITIONS,
    DEVICES,
    Passage,
    grade,
    low_anchor,
    make_trial,
    make_trials,
    passages,
    presentation,
    random_numbers,
    shuffled,
    training_sounds,
)
from tinyamp.listening_ratings import (
    COLUMNS,
    Rating,
    check,
    csv_text,
    json_text,
    missed,
    post_screen,
    read_ratings,
    write_ratings,
)
from tinyamp.listening_simulated import TRUTH, Spread, simulate_ratings, simulated_scores
from tinyamp.listening_stats import compare, means, paired_t, signed_rank, t_interval
from tinyamp.measure import rms_db
from tinyamp.model import AmpLSTM, save_model

NOBODY = Spread(0, 0, 0, 0)

# --- sounds and order ---------------------------------------------------------------------------


def test_passages_are_those_of_the_paper():
    found = passages(0, seconds=1.5)
    assert [p.name for p in found] == [
        *(f"bass {k}" for k in range(1, 6)),
        "guitar 1",
        "guitar 2",
    ]
    assert [p.instrument for p in found] == ["bass"] * 5 + ["guitar"] * 2
    for p in found:
        assert len(p.signal) == round(1.5 * 44_100) and p.signal.dtype == np.float32
        assert np.abs(p.signal).max() > 10 ** (-12 / 20), "loud enough to be judged"
    for a, b in itertools.combinations(found, 2):
        assert not np.array_equal(a.signal, b.signal)
    again = passages(0, seconds=1.5)
    assert all(np.array_equal(a.signal, b.signal) for a, b in zip(found, again, strict=True))
    other = passages(1, seconds=1.5, counts={"guitar": 1})
    assert not any(np.array_equal(other[0].signal, p.signal) for p in found)


def test_all_bass_styles_are_heard():
    """Four styles and five passages: each style once before one comes again."""
    chosen = []

    def note(seconds, *, seed, instrument):
        chosen.append(next(listening.phrases(instrument, seed)).style)
        return np.zeros(10, np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "perform", note)
        for seed in range(5):
            chosen.clear()
            passages(seed, counts={"bass": 5})
            assert len(set(chosen[:4])) == 4 and len(chosen) == 5


@pytest.mark.parametrize("seconds", [0.5, 21, float("nan")])
def test_a_passage_has_a_sensible_length(seconds):
    with pytest.raises(InputError, match="1 to 20 seconds"):
        passages(0, seconds=seconds)


@given(st.floats(0.01, 10), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_sounds_of_a_trial_have_one_level_and_no_edge(gain, seed):
    x = noise(8000, seed)
    same = Passage("bass 1", "bass", x)
    trial = make_trial(
        "sim-muff", same, lambda x: gain * x, lambda x: x**3, lambda x: np.tanh(5 * x)
    )
    assert tuple(trial.sounds) == CONDITIONS
    levels = [rms_db(y) for y in trial.sounds.values()]
    assert np.ptp(levels) < 0.01
    for y in trial.sounds.values():
        assert y[0] == y[-1] == 0.0 and np.abs(y).max() <= 1.0
    # The anchor is the input through tanh and nothing else, but for level and edges.
    middle = slice(500, -500)
    anchor = trial.sounds["anchor"][middle] / np.tanh(x.astype(np.float64))[middle]
    assert np.ptp(anchor) < 1e-4 * anchor.mean()


def test_low_anchor():
    x = np.array([-2.0, 0.0, 0.5, 100.0])
    np.testing.assert_allclose(low_anchor(x), np.tanh(x), rtol=1e-6)


def test_what_cannot_be_compared():
    passage = Passage("bass 1", "bass", noise(8000))
    with pytest.raises(InputError, match="equally long"):
        make_trial("d", passage, lambda x: x, lambda x: x[1:], lambda x: x)
    with pytest.raises(InputError, match="needs 1764 samples"):
        make_trial("d", Passage("b", "bass", noise(1000)), *[lambda x: x] * 3)
    with pytest.raises(InputError, match="NaN"):
        make_trial("d", passage, lambda x: x, lambda x: x * np.nan, lambda x: x)


def test_trials_of_a_device_that_ships():
    trials = make_trials(("sim-muff",), seconds=1.0, counts={"bass": 1, "guitar": 1})
    assert [(t.device, t.passage) for t in trials] == [
        ("sim-muff", "bass 1"),
        ("sim-muff", "guitar 1"),
    ]
    for trial in trials:
        errors = {
            name: np.sum((trial.sounds["reference"] - y) ** 2) for name, y in trial.sounds.items()
        }
        assert errors["reference"] == 0
        assert 0 < errors["unpruned"] < 0.1 * errors["anchor"]
        assert 0 < errors["pruned"] < 0.1 * errors["anchor"]
    training = training_sounds("sim-muff", seconds=1.0)
    assert next(iter(training)) == "The device itself" and len(training) == 3
    for y in training.values():
        assert not any(np.array_equal(y, s) for t in trials for s in t.sounds.values())


def test_your_own_models():
    trials = make_trials(
        ("sim-crunch",),
        seconds=1.0,
        counts={"bass": 1},
        models=(lambda x: 0.5 * x, lambda x: x**3),
    )
    x = passages(0, seconds=1.0, counts={"bass": 1})[0].signal
    ratio = trials[0].sounds["unpruned"][500:-500][np.abs(x[500:-500]) > 0.05]
    ratio = ratio / x[500:-500][np.abs(x[500:-500]) > 0.05]
    assert np.ptp(ratio) < 1e-4 * np.abs(ratio).max()


@pytest.mark.parametrize(
    ("devices", "models", "says"),
    [
        ((), None, "Name a device"),
        (("sim-lead",), None, "No pruned model of 'sim-lead'"),
        (DEVICES, (np.tanh, np.tanh), "one device"),
    ],
)
def test_tests_that_cannot_be_made(devices, models, says):
    with pytest.raises(InputError, match=says):
        make_trials(devices, models=models)


def test_a_model_of_another_rate_is_refused(tmp_path):
    save_model(AmpLSTM(2, seed=0, sample_rate=48_000), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="48000 Hz"):
        listening.played_by(tmp_path / "m.safetensors")


def test_random_numbers_are_those_of_mulberry32():
    """Against the reference code, written with fixed-width integers."""
    u = np.uint32
    with np.errstate(over="ignore"):
        for seed in (0, 1, 12_345, 2**32 - 1):
            state, numbers = u(seed), random_numbers(seed)
            for _ in range(50):
                state = u(state + u(0x6D2B79F5))
                t = u((state ^ (state >> u(15))) * (state | u(1)))
                t = t ^ u(t + u((t ^ (t >> u(7))) * (t | u(61))))
                assert next(numbers) == int(t ^ (t >> u(14)))


@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_order_is_a_permutation_that_the_seed_fixes(seed, count):
    order = presentation(seed, count)
    assert sorted(trial for trial, _ in order) == list(range(count))
    assert all(sorted(slots) == [0, 1, 2, 3] for _, slots in order)
    assert order == presentation(seed, count)


def test_every_order_is_as_likely():
    """All 24 orders of four sounds, over 4800 shuffles: chi-squared with 23 degrees of freedom."""
    numbers = random_numbers(5)
    counts: dict[tuple, int] = {}
    for _ in range(4800):
        order = tuple(shuffled(4, numbers))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize(
    ("rating", "word"),
    [(0, "Bad"), (19.9, "Bad"), (20, "Poor"), (59, "Fair"), (60, "Good"), (100, "Excellent")],
)
def test_grades(rating, word):
    assert grade(rating) == word


# --- ratings in files ---------------------------------------------------------------------------


def test_simulated_ratings_go_there_and_back(tmp_path: Path):
    ratings = simulate_ratings(3)
    assert len(ratings) == 12 * 2 * 7 * 4
    for ending in ("csv", "json"):
        write_ratings(ratings, tmp_path / f"r.{ending}")
        assert read_ratings(tmp_path / f"r.{ending}") == ratings
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.csv", "r.json"]
    with pytest.raises(InputError, match=r"csv or \.json"):
        write_ratings(ratings, tmp_path / "r.txt")


TEXT = st.text(min_size=1, max_size=20).filter(lambda s: s.strip() and s.isprintable())
WHOLE_TRIALS = st.builds(
    lambda texts, seed, scores: [
        Rating(*texts[:1], "listener", *texts[1:2], seed, *texts[2:5], 1, slot, condition, score)
        for slot, condition, score in zip("ABCD", CONDITIONS, scores, strict=True)
    ],
    st.tuples(*[TEXT] * 5),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 1000).map(lambda k: k / 10), min_size=4, max_size=4),
)
IN_FOLDER = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@IN_FOLDER
@given(WHOLE_TRIALS)
def test_any_text_goes_there_and_back(tmp_path, ratings):
    for ending in ("csv", "json"):
        path = tmp_path / f"r.{ending}"
        write_ratings(ratings, path)
        assert read_ratings(path) == ratings


GOOD = {"csv": csv_text(simulate_ratings(0, listeners=2))}
GOOD["json"] = json_text(simulate_ratings(0, listeners=2))


@IN_FOLDER
@given(st.sampled_from(["csv", "json"]), st.data())
def test_a_damaged_file_is_read_or_refused_in_a_sentence(tmp_path, ending, data):
    """Whatever is done to a file, the reader raises nothing but `InputError`."""
    raw = bytearray(GOOD[ending].encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    length = data.draw(st.integers(0, 300))
    raw[at : at + length] = data.draw(st.binary(max_size=30))
    path = tmp_path / f"damaged.{ending}"
    path.write_bytes(raw)
    try:
        ratings = read_ratings(path)
    except InputError as error:
        assert path.name in str(error) or "rated" in str(error) or "rating" in str(error)
    else:
        check(ratings)
        assert all(0 <= r.rating <= 100 and r.condition in CONDITIONS for r in ratings)


@IN_FOLDER
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_a_sentence(tmp_path, raw):
    (tmp_path / "any.csv").write_bytes(raw)
    with pytest.raises(InputError, match=r"any\.csv"):
        read_ratings(tmp_path / "any.csv")


def spoilt(**changes) -> str:
    """One listener's file with the third row changed."""
    rows = list(csv.DictReader(io.StringIO(csv_text(simulate_ratings(0, listeners=1, careless=0)))))
    rows[2].update(changes)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "first line should name the columns"),
        ("a,b\n1,2\n", "first line should name the columns.*rating"),
        (",".join(COLUMNS) + "\n", "holds no ratings"),
        (",".join(COLUMNS) + '\n"open', "not whole CSV"),
        ("[1, 2", "not whole JSON"),
        ("[1, 2]", "not a file of ratings"),
        ('{"format": "other", "ratings": []}', "not a file of ratings"),
        ('{"format": "tinyamp-ratings", "ratings": [1]}', "not a file of ratings"),
        ('{"format": "tinyamp-ratings", "ratings": [{}]}', "rating 1: test, source.* missing"),
        (spoilt(rating="101"), "rating 3: rating should be a number from 0 to 100, but is 101"),
        (spoilt(rating="-1"), "rating 3.*-1"),
        (spoilt(rating="nan"), "rating 3.*should be a number"),
        (spoilt(rating="good"), "rating 3.*'good'"),
        (spoilt(condition="best"), "rating 3: condition should be reference, anchor.*'best'"),
        (spoilt(source="me"), "source should be listener, simulated"),
        (spoilt(slot="E"), "slot should be A, B, C, D"),
        (spoilt(seed="1.5"), "seed should be a whole number"),
        (spoilt(position="0"), "position should be a whole number from 1"),
        (spoilt(listener="a\nb"), "listener should be a short text"),
        (spoilt(listener=" "), "listener should be a short text"),
        (spoilt(passage="x" * 81), "passage should be a short text"),
        (spoilt(passage="bass 9"), "simulated-01 has not rated .*missing"),
        (spoilt(test="other"), "different tests"),
        (spoilt(source="listener"), "some are not"),
    ],
)
def test_files_that_are_refused(tmp_path, text, says):
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_ratings(path)


def test_places_where_no_file_is(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_ratings(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_ratings(tmp_path)
    (tmp_path / "large.csv").write_bytes(b"x" * 10_000_001)
    with pytest.raises(InputError, match="far too large"):
        read_ratings(tmp_path / "large.csv")
    (tmp_path / "latin.csv").write_bytes("für".encode("latin-1"))
    with pytest.raises(InputError, match="not a text file"):
        read_ratings(tmp_path / "latin.csv")
    with pytest.raises(InputError, match="no ratings"):
        read_ratings()


def test_a_spreadsheet_may_have_touched_it(tmp_path):
    """A byte-order mark, other line ends and one more column do no harm."""
    text = csv_text(simulate_ratings(1, listeners=2))
    lines = [line + (",note" if k == 0 else ",x") for k, line in enumerate(text.splitlines())]
    (tmp_path / "r.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert read_ratings(tmp_path / "r.csv") == simulate_ratings(1, listeners=2)


def test_listeners_come_in_files_of_their_own(tmp_path):
    ratings = simulate_ratings(2, listeners=3)
    paths = []
    for name in sorted({r.listener for r in ratings}):
        paths.append(tmp_path / f"{name}.csv")
        write_ratings([r for r in ratings if r.listener == name], paths[-1])
    assert read_ratings(*paths) == ratings
    with pytest.raises(InputError, match="2 times: is a file given twice"):
        read_ratings(*paths, paths[0])


# --- post-screening -----------------------------------------------------------------------------


def rated(reference: list[float], name: str = "x") -> list[Rating]:
    """Ratings of one listener, with these for the hidden reference."""
    return [
        Rating("t", "listener", name, 0, "d", f"p{k}", "bass", k + 1, slot, c, score)
        for k, wanted in enumerate(reference)
        for slot, c, score in zip("ABCD", CONDITIONS, (wanted, 10, 80, 85), strict=True)
    ]


@pytest.mark.parametrize(
    ("trials", "misses", "removed"),
    [
        (7, 1, False),  # 14.3 %
        (7, 2, True),
        (14, 2, False),
        (14, 3, True),  # 21.4 %
        (20, 3, False),  # 15 % is not more than 15 %
        (20, 4, True),
        (7, 0, False),
    ],
)
def test_post_screening_is_the_rule_of_the_paper(trials, misses, removed):
    ratings = rated([89.9] * misses + [90.0] * (trials - misses)) + rated([100] * trials, "y")
    assert missed(ratings) == {"x": (misses, trials), "y": (0, trials)}
    kept, gone = post_screen(ratings)
    assert gone == (["x"] if removed else [])
    assert {r.listener for r in kept} == ({"y"} if removed else {"x", "y"})


def test_the_careless_are_removed_and_others_are_not():
    for seed in range(10):
        kept, gone = post_screen(simulate_ratings(seed, careless=2))
        assert {"simulated-11", "simulated-12"} <= set(gone)
        assert len(gone) <= 3 and len({r.listener for r in kept}) == 12 - len(gone)


# --- statistics ---------------------------------------------------------------------------------

# Darwin's plants, in Fisher's "The Design of Experiments", 1935, § 17: differences in height, in
# eighths of an inch. Fisher gives t = 2.148 and p = 0.0497 for 14 degrees of freedom.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
# Student's own example, "The Probable Error of a Mean", 1908: more hours of sleep by one drug
# than by another, in ten patients. t = 4.0621, p = 0.00283; 95 %: 0.70 to 2.46.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def test_known_answers():
    t, p = paired_t(DARWIN)
    assert t == pytest.approx(2.148, abs=5e-4) and p == pytest.approx(0.0497, abs=5e-5)
    w, p = signed_rank(DARWIN)
    assert w == 24 and p == pytest.approx(0.041259765625, abs=1e-12)
    t, p = paired_t(SLEEP)
    assert t == pytest.approx(4.0621, abs=5e-5) and p == pytest.approx(0.00283, abs=5e-6)
    mean, low, high = t_interval(SLEEP)
    assert mean == pytest.approx(1.58)
    assert (low, high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


def test_smallest_p_of_a_signed_rank_test():
    """With n listeners who all agree, p is 2 / 2ⁿ: five cannot reach 0.05, six can."""
    for n in range(2, 30):
        assert signed_rank(np.arange(1.0, n + 1)) == (0.0, pytest.approx(2 / 2**n))
    assert signed_rank(np.arange(1.0, 6))[1] > 0.05 > signed_rank(np.arange(1.0, 7))[1]


DIFFERENCES = st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=11)


@settings(deadline=None, max_examples=60)
@given(DIFFERENCES)
def test_signed_rank_counts_all_signs(d):
    """By brute force over all signs, ties and zeros included."""
    w, p = signed_rank(d)
    left = np.array([x for x in d if x != 0])
    if not len(left):
        assert (w, p) == (0.0, 1.0)
        return
    ranks = stats.rankdata(np.abs(left))
    sums = [
        min(r := sum(rank for rank, up in zip(ranks, ups, strict=True) if up), ranks.sum() - r)
        for ups in itertools.product((False, True), repeat=len(left))
    ]
    assert w == min(ranks[left > 0].sum(), ranks[left < 0].sum())
    assert p == pytest.approx(min(1.0, np.mean(np.array(sums) <= w + 1e-9)), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 40), st.integers(0, 2**31), st.floats(-3, 3))
def test_scipy_agrees(n, seed, shift):
    d = np.random.default_rng(seed).standard_normal(n) + shift
    t, p = paired_t(d)
    theirs = stats.ttest_1samp(d, 0.0)
    assert (t, p) == (pytest.approx(theirs.statistic), pytest.approx(theirs.pvalue, rel=1e-9))
    w, p = signed_rank(d)
    theirs = stats.wilcoxon(d, method="exact")
    assert (w, p) == (pytest.approx(theirs.statistic), pytest.approx(theirs.pvalue, rel=1e-9))
    mean, low, high = t_interval(d, 0.9)
    wanted = stats.t.interval(0.9, n - 1, loc=d.mean(), scale=stats.sem(d))
    assert (mean, low, high) == pytest.approx((d.mean(), *wanted), rel=1e-9)


def test_interval_and_test_agree():
    """An interval of 95 % leaves out zero just when the t test's p is below 0.05."""
    for seed in range(50):
        d = np.random.default_rng(seed).normal(0.6, 1.0, 12)
        _, low, high = t_interval(d)
        assert (low > 0 or high < 0) == (paired_t(d)[1] < 0.05)


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(4000):
        _, low, high = t_interval(rng.normal(5.0, 3.0, 8))
        covered.append(low <= 5.0 <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


def test_no_difference_at_all():
    assert paired_t([0.0] * 5) == (0.0, 1.0) and signed_rank([0.0] * 5) == (0.0, 1.0)
    assert paired_t([2.0] * 5) == (np.inf, 0.0) and paired_t([-2.0] * 5) == (-np.inf, 0.0)
    assert t_interval([7.0, 7.0]) == (7.0, 7.0, 7.0)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan], [[1.0, 2.0]]])
@pytest.mark.parametrize("function", [t_interval, paired_t, signed_rank])
def test_too_little_for_statistics(function, values):
    with pytest.raises(InputError, match="Two or more finite values"):
        function(values)
    with pytest.raises(InputError, match="between 0 and 1"):
        t_interval([1.0, 2.0], 95)


def test_listeners_are_averaged_first():
    """Two listeners with three trials each: by hand."""
    scores = {"x": (80, 90, 100), "y": (60, 70, 80)}
    ratings = [
        Rating("t", "listener", name, 0, "d", f"p{k}", "bass", k + 1, slot, c, score)
        for name, row in scores.items()
        for k, high in enumerate(row)
        for slot, c, score in zip("ABCD", CONDITIONS, (100, 0, high - 10 * k, high), strict=True)
    ]
    found = {m.condition: m for m in means(ratings)}
    assert found["pruned"].n == 2 and found["pruned"].mean == 80
    # Listeners' means 90 and 70: s = √200, t(0.975; 1) = 12.7062
    half = 12.706204736 * np.sqrt(200) / np.sqrt(2)
    assert found["pruned"].high == pytest.approx(80 + half)
    assert found["unpruned"].mean == 70 and found["anchor"].mean == 0
    pooled = {m.condition: m for m in means(ratings, pooled=True)}
    assert pooled["pruned"].n == 6 and pooled["pruned"].mean == 80
    assert pooled["pruned"].high - pooled["pruned"].low < 2 * half
    [c] = compare(ratings)
    assert (c.n, c.difference, c.device) == (2, 10.0, "d")
    assert (c.low, c.high, c.p_t) == (10.0, 10.0, 0.0)
    [back] = compare(ratings, "unpruned", "pruned")
    assert back.difference == -10.0


def test_order_of_rows_does_not_matter():
    ratings = simulate_ratings(4)
    mixed = [ratings[k] for k in np.random.default_rng(0).permutation(len(ratings))]
    assert means(mixed) == means(ratings) and compare(mixed) == compare(ratings)


def test_statistics_refuse_what_has_gaps():
    ratings = simulate_ratings(4)
    with pytest.raises(InputError, match="missing"):
        means(ratings[1:])
    with pytest.raises(InputError, match="no condition 'best'"):
        compare(ratings, "best")
    alone = [r for r in ratings if r.listener == "simulated-01"]
    with pytest.raises(InputError, match="ratings of 1 listener"):
        means(alone)
    with pytest.raises(InputError, match="ratings of 1 listener"):
        compare(alone)


# --- simulated ratings --------------------------------------------------------------------------


def test_simulated_ratings_say_so():
    ratings = simulate_ratings(0)
    assert {r.source for r in ratings} == {"simulated"} == {r.test for r in ratings}
    assert all(r.listener.startswith("simulated") for r in ratings)
    check(ratings)
    assert ratings == simulate_ratings(0) != simulate_ratings(1)


def test_simulated_ratings_stand_where_the_seed_says():
    ratings = simulate_ratings(5, listeners=2)
    trials = [(d, f"{i} {k}") for d in TRUTH for i, n in (("bass", 5), ("guitar", 2))
              for k in range(1, n + 1)]  # fmt: skip
    for name in {r.listener for r in ratings}:
        mine = [r for r in ratings if r.listener == name]
        for position, (trial, slots) in enumerate(presentation(mine[0].seed, 14), 1):
            here = {r.slot: r for r in mine if r.position == position}
            assert {(r.device, r.passage) for r in here.values()} == {trials[trial]}
            assert [here[s].condition for s in "ABCD"] == [CONDITIONS[c] for c in slots]


def test_without_spread_the_truth_is_what_is_rated():
    kept = [r for r in simulate_ratings(0, careless=0, spread=NOBODY) if r.condition != "reference"]
    assert all(r.rating == TRUTH[r.device][r.condition] for r in kept)


def test_spread_is_what_was_asked_for():
    truth = {"anchor": 50.0, "unpruned": 50.0, "pruned": 50.0}
    rng = np.random.default_rng(0)
    for name, axis in (("listener", 1), ("passage", 2)):
        scores = simulated_scores(
            rng, truth, listeners=40, trials=40, spread=replace(NOBODY, **{name: 5.0}),
            experiments=40,
        )[..., 1:]  # fmt: skip
        along = scores.std(axis=axis, ddof=1).mean()
        across = scores.std(axis=3 - axis, ddof=1).max()
        assert along == pytest.approx(5.0, rel=0.05) and across == 0.0
    scores = simulated_scores(
        rng, truth, listeners=300, trials=30, spread=replace(NOBODY, rating=5)
    )
    assert scores[..., 1:].std() == pytest.approx(5.0, rel=0.05)
    assert 0.94 < np.mean(scores[..., 0] == 100) < 1.0


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"seed": 0, "listeners": 0}, {"seed": 0, "careless": 13}]
)
def test_nobody_cannot_be_simulated(options):
    with pytest.raises(InputError, match="Simulated ratings need"):
        simulate_ratings(**options)
