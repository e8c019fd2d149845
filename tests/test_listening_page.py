"""The page of a listening test, in a real browser: it plays in step, and saves what it should."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from common import axe_violations, browser, contrasts, served

from tinyamp.audio import SAMPLE_RATE, quantise
from tinyamp.files import InputError
from tinyamp.listening import CONDITIONS, Trial, presentation, random_numbers
from tinyamp.listening_page import describe, embed, flac, page, write_page
from tinyamp.listening_ratings import SLOTS, read_ratings

N = SAMPLE_RATE  # samples of a sound: one second
TITLE = 'A "small" <test>'


def ramp(level: float) -> np.ndarray:
    """A sound of which every sample says where it is, and whose it is."""
    return (level * np.linspace(0.1, 1.0, N)).astype(np.float32)


def make(trials: int = 3) -> dict:
    """A description of a test whose sounds are ramps of different heights."""
    made = [
        Trial(
            "sim-muff" if k % 2 == 0 else "sim-metal",
            f"bass {k + 1}",
            "bass",
            {name: ramp(0.9 - 0.2 * c - 0.01 * k) for c, name in enumerate(CONDITIONS)},
        )
        for k in range(trials)
    ]
    return describe(made, {"The device itself": ramp(0.9), "A clear difference": ramp(0.2)})


# --- without a browser -------------------------------------------------------------------------


def test_sounds_are_lossless_and_shuffled():
    description = make(8)
    key = json.loads(base64.b64decode(description["key"]))
    assert tuple(key["conditions"]) == CONDITIONS
    assert len({tuple(order) for order in key["trials"]}) > 3, "another order in each trial"
    for k, (trial, order) in enumerate(zip(description["trials"], key["trials"], strict=True)):
        assert sorted(order) == [0, 1, 2, 3]
        for text, condition in zip(trial["sounds"], order, strict=True):
            x, rate = soundfile.read(io.BytesIO(base64.b64decode(text)), dtype="float32")
            np.testing.assert_array_equal(x, quantise(ramp(0.9 - 0.2 * condition - 0.01 * k)))
            assert rate == SAMPLE_RATE


def test_page_does_not_say_which_is_which():
    description = make()
    text = page(description)
    data = json.dumps({k: v for k, v in description.items() if k != "key"})
    for name in ("anchor", "unpruned", "pruned"):
        assert name not in data
        assert not re.search(rf"\b{name}\b", text), f"{name} stands in the page"
    assert not re.search(r"https?://(?!www\.w3\.org)", text), "an address off the page"


def test_fewer_bits_make_a_smaller_file_with_a_known_noise():
    x = (0.1 * np.random.default_rng(0).standard_normal(N)).astype(np.float32)
    sizes = []
    for bits in (16, 12):
        data = flac(x, bits)
        sizes.append(len(data))
        back, _ = soundfile.read(io.BytesIO(data), dtype="float64")
        noise = 20 * np.log10(np.std(back - x))
        step = 2.0 ** (1 - bits)
        assert noise == pytest.approx(20 * np.log10(step / np.sqrt(12)), abs=0.2)
    assert sizes[1] < 0.75 * sizes[0]
    with pytest.raises(InputError, match="8 to 16 bits"):
        flac(x, 24)


def test_a_test_is_named_by_its_sounds():
    assert make()["id"] == make()["id"] != make(2)["id"]
    assert re.fullmatch("[0-9a-f]{8}", make()["id"])


def test_what_makes_no_test():
    with pytest.raises(InputError, match="at least one"):
        describe([])
    trial = Trial("sim-muff", "bass 1", "bass", {c: ramp(0.5) for c in CONDITIONS})
    with pytest.raises(InputError, match="equally long"):
        describe([trial], {"short": ramp(0.5)[:-1]})


def test_page_is_written_whole(tmp_path: Path):
    write_page("whole", tmp_path / "a.html")
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]
    assert (tmp_path / "a.html").read_text() == "whole"
    with pytest.raises(InputError, match=r"\.html"):
        write_page("whole", tmp_path / "a.txt")


def test_title_is_text():
    text = page(make(1), title=TITLE)
    assert text.count("A &quot;small&quot; &lt;test&gt;") == 2 and TITLE not in text
    assert "{{" not in text


# --- in the browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A static site: the page by itself, and inside another as in the book."""
    folder = tmp_path_factory.mktemp("site")
    text = page(make(), title=TITLE)
    (folder / "test.html").write_text(text, encoding="utf-8")
    head = '<meta charset="utf-8"><link rel="icon" href="data:,"><title>Book</title>'
    book = f'<!DOCTYPE html><html lang="en" data-theme="dark">{head}<h1>Book</h1>'
    frame = embed(text, title=TITLE).data
    (folder / "book.html").write_text(book + frame, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def origin(folder) -> Iterator[str]:
    with served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture
def opened(chromium, origin):
    """A function that opens a page at a width; what pages complain about fails the test."""
    contexts, complaints, elsewhere = [], [], []

    def note(request) -> None:
        if not request.url.startswith((origin, "data:", "blob:", "about:")):
            elsewhere.append(request.url)

    def open_page(path: str = "test.html?seed=7", width: int = 1280, **options):
        size = {"width": width, "height": 844}
        contexts.append(chromium.new_context(viewport=size, accept_downloads=True, **options))
        tab = contexts[-1].new_page()
        tab.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        tab.on("requestfailed", lambda r: complaints.append(f"failed: {r.url}"))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", note)
        tab.on("dialog", lambda dialog: dialog.accept())
        tab.goto(origin + path)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints
    assert not elsewhere, "the page should need nothing but itself"


def begin(tab, name: str = "anna"):
    """Go to the first trial."""
    tab.get_by_label("A code name").fill(name)
    tab.get_by_role("button", name="Next: set the volume").click()
    tab.get_by_role("button", name="Begin the test").click()
    tab.get_by_role("heading", name="Trial 1").wait_for()


def rate(tab, ratings: list[int]) -> None:
    """Hear all sounds of a trial and rate them."""
    tab.get_by_role("button", name="Reference").click()
    for slot, rating in zip(SLOTS, ratings, strict=True):
        tab.get_by_role("button", name=f"Hear {slot}").click()
        tab.get_by_label(f"Rating of {slot}").fill(str(rating))


def in_each_step(tab, look) -> None:
    """Look at the first page, the training and the first trial, on the way there."""
    look()
    tab.get_by_role("button", name="Next: set the volume").click()
    tab.get_by_role("heading", name="Volume and training").wait_for()
    look()
    tab.get_by_role("button", name="Begin the test").click()
    tab.get_by_role("heading", name="Trial 1").wait_for()
    tab.locator("#trial summary").click()
    look()


def finish(tab, trials: int = 3) -> list[list[int]]:
    """Rate every trial by its position and slot, and go to the end."""
    given = [[10 * k + s for s in (90, 40, 20, 60)] for k in range(trials)]
    given = [[min(rating, 100) for rating in row] for row in given]
    for k, row in enumerate(given):
        tab.get_by_role("heading", name=f"Trial {k + 1} of {trials}").wait_for()
        rate(tab, row)
        tab.get_by_role("button", name="Next trial" if k + 1 < trials else "Finish").click()
    tab.get_by_role("heading", name="Thank you").wait_for()
    return given


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_the_saved_file_is_what_the_analysis_reads(opened, tmp_path, ending):
    tab = opened()
    begin(tab, 'An,na "1"')
    given = finish(tab)
    with tab.expect_download() as download:
        tab.get_by_role("button", name=f"Save as {ending.upper()}").click()
    assert download.value.suggested_filename == f"ratings-An-na-1-.{ending}"
    path = tmp_path / f"saved.{ending}"
    download.value.save_as(path)

    ratings = read_ratings(path)
    description = make()
    assert len(ratings) == 12
    assert {(r.source, r.listener, r.test) for r in ratings} == {
        ("listener", "An-na-1-", description["id"])
    }
    # Which condition a slot was follows from the seed, here as in the page.
    for position, (trial, slots) in enumerate(presentation(7, 3), 1):
        mine = {r.slot: r for r in ratings if r.position == position}
        for number, condition in enumerate(slots):
            r = mine[SLOTS[number]]
            assert (r.condition, r.seed) == (CONDITIONS[condition], 7)
            assert r.passage == description["trials"][trial]["passage"]
            assert r.device == description["trials"][trial]["device"]
            assert r.rating == given[position - 1][number]
    if ending == "csv":
        assert tab.locator("#text").input_value() == path.read_text()
    assert "was handed to the browser" in tab.locator("#saved").text_content()
    # What the page shows at the end is what was rated.
    for condition in CONDITIONS:
        mine = [r.rating for r in ratings if r.condition == condition and r.device == "sim-muff"]
        row = tab.get_by_role("row", name=condition, exact=False).filter(
            has=tab.get_by_role("rowheader", name=condition, exact=True)
        )
        assert f"{np.mean(mine):.1f}" in row.text_content()


def test_a_slot_plays_the_sound_that_the_file_says(opened):
    """The peak of the buffer that each button selects is that of its condition."""
    tab = opened()
    begin(tab)
    trial, slots = presentation(7, 3)[0]
    tab.evaluate(
        """() => { window.peak = async (number) => {
             const k = soundOf(number);
             const buffer = await decode(test.trials[order[at][0]].sounds[k]);
             return Math.max(...buffer.getChannelData(0).slice(-10)); } }"""
    )
    for number in range(-1, 4):
        condition = 0 if number < 0 else slots[number]
        peak = tab.evaluate(f"() => window.peak({number})")
        assert peak == pytest.approx(0.9 - 0.2 * condition - 0.01 * trial, abs=1e-3)


def test_switching_is_in_step_to_the_sample(opened):
    """Rendered offline: before and after a switch, each sample is the one due at that moment."""
    tab = opened()
    tab.locator("h1").wait_for()
    switch, end = 0.4, 1.9  # seconds; the sounds are of one second and loop
    heard = tab.evaluate(
        """async ([switchAt, end, rate, levels]) => {
          const context = new OfflineAudioContext(1, end * rate, rate);
          const buffers = levels.map((level) => {
            const buffer = new AudioBuffer({ length: rate, sampleRate: rate });
            const x = buffer.getChannelData(0);
            for (let n = 0; n < rate; n++) x[n] = level * n / rate;
            return buffer;
          });
          const deck = makeDeck(context, buffers, 1);
          deck.select(0);
          deck.play();
          let place = null;
          context.suspend(switchAt).then(() => {
            place = deck.position();
            deck.select(1);
            context.resume();
          });
          const rendered = await context.startRendering();
          return [Array.from(rendered.getChannelData(0)), place, deck.position()];
        }""",
        [switch, end, N, [1.0, 0.25]],
    )
    y, place, last = np.array(heard[0]), heard[1], heard[2]
    n = np.arange(len(y))
    at = round(switch * N)
    fade = round(0.008 * N) + 256  # an offline context stops at whole blocks of 128
    wanted = np.where(n < at, 1.0, 0.25) * (n % N) / N
    steady = ((n > fade) & (n < at - 256)) | (n > at + fade)
    np.testing.assert_allclose(y[steady], wanted[steady], atol=2e-6)
    between = y[(n >= at - 256) & (n <= at + fade)]
    low, high = 0.25 * (at - 256) / N - 1e-6, (at + fade) / N + 1e-6
    assert between.min() >= low and between.max() <= high, "no gap and no overshoot"
    assert np.abs(np.diff(between)).max() < 0.004, "no click"
    assert place == pytest.approx(switch, abs=256 / N)
    assert last == pytest.approx(end % 1, abs=256 / N)


def test_a_part_can_be_looped(opened):
    tab = opened()
    tab.locator("h1").wait_for()
    heard = tab.evaluate(
        """async (rate) => {
          const context = new OfflineAudioContext(1, rate, rate);
          const buffer = new AudioBuffer({ length: rate, sampleRate: rate });
          const x = buffer.getChannelData(0);
          for (let n = 0; n < rate; n++) x[n] = n / rate;
          const deck = makeDeck(context, [buffer], 1);
          deck.select(0);
          deck.loop(0.25, 0.5);
          deck.play();
          return Array.from((await context.startRendering()).getChannelData(0));
        }""",
        N,
    )
    y = np.array(heard)[round(0.01 * N) :]
    n = np.arange(round(0.01 * N), N)
    wanted = 0.25 + (n % (N // 4)) / N
    seam = np.minimum(n % (N // 4), -n % (N // 4)) < 3
    np.testing.assert_allclose(y[~seam], wanted[~seam], atol=2e-5)


def test_position_is_kept_when_the_listener_switches(opened):
    """On the live page: the place in the loop runs on with the clock, whatever is pressed."""
    tab = opened()
    begin(tab)
    tab.get_by_role("button", name="Reference").click()
    tab.wait_for_function("() => deck.playing && context.currentTime > 0.1")
    # Chromium may move the clock on between two readings: only a pair at one time tells anything.
    now = """() => {
      for (;;) {
        const clock = context.currentTime;
        const place = deck.position();
        if (context.currentTime === clock) return [clock, place, deck.heard];
      }
    }"""
    before = tab.evaluate(now)
    for slot in SLOTS:
        tab.get_by_role("button", name=f"Hear {slot}").click()
        clock, place, heard = tab.evaluate(now)
        assert (clock - before[0] + before[1]) % 1 == pytest.approx(place, abs=1e-6)
        assert heard == tab.evaluate(f"() => soundOf({SLOTS.index(slot)})")
        pressed = tab.locator("#trial button[data-sound][aria-pressed=true]")
        assert pressed.count() == 1 and pressed.get_attribute("data-sound") == slot
    tab.get_by_role("button", name="Pause").click()
    stood = tab.evaluate("() => deck.position()")
    tab.wait_for_timeout(150)
    assert tab.evaluate("() => deck.position()") == stood
    tab.get_by_role("button", name="Play", exact=True).click()
    clock, place, _ = tab.evaluate(now)
    assert tab.evaluate("() => deck.playing")


def test_everything_works_from_the_keyboard(opened, tmp_path):
    """From the first field to the saved file, without a mouse."""
    tab = opened()
    keys = tab.keyboard

    def focus(selector: str) -> None:
        """Go on with the Tab key until `selector` has the focus."""
        for _ in range(30):
            keys.press("Tab")
            if tab.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{selector} cannot be reached with the Tab key")

    focus("#listener")
    keys.type("r1p")  # keys for the trials do nothing here
    focus("#to-training")
    keys.press("Enter")
    tab.get_by_role("heading", name="Volume and training").wait_for()
    focus("#volume")
    level = tab.locator("#volume").input_value()
    keys.press("ArrowRight")
    assert int(tab.locator("#volume").input_value()) == int(level) + 1
    assert tab.locator("#volume").get_attribute("aria-valuetext") == f"{int(level) + 1} per cent"
    for k in range(2):
        focus(f"#training-sounds [data-sound='{k}']")
        keys.press("Space")
        assert tab.evaluate("() => deck.heard") == k
    focus("#to-trials")
    keys.press("Enter")
    for position in range(1, 4):
        tab.get_by_role("heading", name=f"Trial {position} of 3").wait_for()
        tab.wait_for_function("() => document.activeElement.tagName === 'H2'")
        if position == 1:
            focus("#reference")
            keys.press("Enter")
            assert tab.evaluate("() => deck.heard === soundOf(-1)")
        else:
            keys.press("r")
        for number, slot in enumerate(SLOTS):
            if position == 1:
                focus(f"[data-sound={slot}]")
                keys.press("Space")
            else:
                keys.press(str(number + 1))
            assert tab.evaluate(f"() => deck.heard === soundOf({number})")
            focus(f"#rate-{slot}")
            for key, value, word in (
                ("ArrowRight", 1, "Bad"),
                ("Home", 0, "Bad"),
                ("End", 100, "Excellent"),
                ("ArrowLeft", 99, "Excellent"),
            ):
                keys.press(key)
                slider = tab.locator(f"#rate-{slot}")
                assert slider.input_value() == str(value)
                assert slider.get_attribute("aria-valuetext") == f"{value}, {word}"
            assert tab.evaluate(f"() => answers[at][{number}]") == 99
        keys.press("p")
        assert not tab.evaluate("() => deck.playing")
        focus("#play")
        keys.press("Enter")
        assert tab.evaluate("() => deck.playing")
        focus("#trial summary")
        keys.press("Enter")
        focus("#from")
        keys.press("End")  # it pushes the other end along, and stays below it
        low, high = (float(tab.locator(f"#{i}").input_value()) for i in ("from", "to"))
        assert 0 <= low <= high - 0.29 and high == 1.0
        focus("#to")
        keys.press("Home")
        low, high = (float(tab.locator(f"#{i}").input_value()) for i in ("from", "to"))
        assert low == 0.0 and high == pytest.approx(0.3)
        focus("#keys")
        keys.press("Space")
        heard = tab.evaluate("() => deck.heard")
        for key in "r1234":
            keys.press(key)
            assert tab.evaluate("() => deck.heard") == heard, "the keys are switched off"
        keys.press("Space")
        keys.press("Tab")
        tab.locator("#trial summary").press("Enter")  # closed again for the next trial
        focus("#next")
        keys.press("Enter")
    tab.get_by_role("heading", name="Thank you").wait_for()
    focus("#save-csv")
    with tab.expect_download() as download:
        keys.press("Enter")
    download.value.save_as(tmp_path / "keys.csv")
    ratings = read_ratings(tmp_path / "keys.csv")
    assert {r.rating for r in ratings} == {99.0} and {r.listener for r in ratings} == {"r1p"}


def test_nothing_is_left_out(opened):
    """A trial goes on only when everything was heard and rated; a rating of 0 is a rating."""
    tab = opened()
    begin(tab)
    tab.get_by_role("button", name="Next trial").click()
    missing = tab.locator("#missing")
    assert (
        missing.text_content()
    ) == "Not heard yet: Reference, A, B, C, D. Not rated yet: A, B, C, D."
    rate(tab, [50, 50, 50, 50])
    tab.evaluate("() => { answers[at][2] = null; heardHere.delete('B'); }")
    tab.get_by_role("button", name="Next trial").click()
    assert missing.text_content() == "Not heard yet: B. Not rated yet: C."
    tab.get_by_role("button", name="Hear B").click()
    tab.get_by_label("Rating of C").press("Home")
    assert tab.evaluate("() => answers[at][2]") == 0
    tab.get_by_role("button", name="Next trial").click()
    tab.get_by_role("heading", name="Trial 2").wait_for()
    assert tab.get_by_label("Rating of C").get_attribute("aria-valuetext") == "not rated yet"


def test_order_follows_the_seed(opened):
    tab = opened()
    tab.locator("h1").wait_for()
    drawn = {}
    for seed in (0, 1, 7, 2**31, 2**32 - 1):
        found = tab.evaluate("(seed) => presentation(seed, 14)", seed)
        drawn[seed] = [(trial, slots) for trial, slots in found]
        assert drawn[seed] == presentation(seed, 14), "Python and JavaScript agree"
        numbers = random_numbers(seed)
        script = "(s) => { const n = randomNumbers(s); return [n(), n(), n()]; }"
        assert tab.evaluate(script, seed) == [next(numbers) for _ in range(3)]
    assert len({json.dumps(order) for order in drawn.values()}) == len(drawn)


def test_without_a_seed_each_visit_has_its_own_order(opened):
    seeds = set()
    for _ in range(3):
        tab = opened("test.html")
        tab.get_by_role("button", name="Next: set the volume").click()
        tab.get_by_role("heading", name="Volume and training").wait_for()
        seeds.add(tab.evaluate("() => seed"))
        assert tab.evaluate("() => listener").startswith("listener-")
    assert len(seeds) == 3


TEXTS = "h1, h2, p, button, span, label, output, summary"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_fits_and_is_legible(opened, width, scheme):
    tab = opened("test.html?seed=7", width, color_scheme=scheme)

    def look() -> None:
        wide, inner = tab.evaluate("() => [document.scrollingElement.scrollWidth, innerWidth]")
        assert wide <= inner
        found = contrasts(tab, TEXTS, shown_only=True)
        assert found and not [pair for pair in found if pair[1] < 4.5]
        small = tab.evaluate(
            """() => [...document.querySelectorAll("button, input[type=range]")]
            .filter(e => e.offsetParent).map(e => [e.id, e.getBoundingClientRect()])
            .filter(([, r]) => r.width < 40 || r.height < 34).map(([id]) => id)"""
        )
        assert not small, f"too small to press: {small}"

    in_each_step(tab, look)
    # The words of the scale stand above the part of the sliders that they name.
    places = tab.evaluate(
        """() => [...document.querySelectorAll("#scale span")].map(e => {
          const r = e.getBoundingClientRect(); return (r.left + r.right) / 2; })"""
    )
    track = tab.locator("#rate-A").bounding_box()
    for k, place in enumerate(places):
        middle = track["x"] + track["width"] * (0.1 + 0.2 * k)
        assert place == pytest.approx(middle, abs=0.03 * track["width"])
    finish(tab)
    look()


def test_every_control_has_a_name(opened):
    tab = opened()
    begin(tab)
    tab.locator("#trial summary").click()
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, select")].filter(e =>
          !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim()))
          .map(e => e.id)"""
    )
    assert not nameless
    ids = tab.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert tab.locator("#missing").get_attribute("role") == "status"


def test_axe_finds_nothing(opened):
    """The checks of axe-core, in each step of the test."""
    tab = opened("test.html?seed=7", 390)

    def look() -> None:
        found = axe_violations(tab, preload=True)
        assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []

    in_each_step(tab, look)
    finish(tab)
    look()


def test_inside_the_book(opened, folder):
    """In a frame: as dark as the page around it, as high as it needs, and it saves."""
    tab = opened("book.html", 390, color_scheme="light")
    frame = tab.frame_locator("iframe.tinyamp-test")
    frame.get_by_role("heading", name="Before you begin").wait_for()
    assert tab.locator("iframe").get_attribute("title") == TITLE
    inner = tab.frames[1]
    assert inner.evaluate("() => getComputedStyle(document.body).backgroundColor") == (
        "rgb(22, 20, 18)"
    )
    tab.evaluate("() => { document.documentElement.dataset.theme = 'light'; }")
    inner.wait_for_function(
        "() => getComputedStyle(document.body).backgroundColor === 'rgb(255, 253, 249)'"
    )
    begin(frame)
    inner.wait_for_function(
        "() => document.scrollingElement.scrollHeight <= frameElement.clientHeight + 1"
    )
    wide, visible = tab.evaluate("() => [document.scrollingElement.scrollWidth, innerWidth]")
    assert wide <= visible
    finish(frame)
    with tab.expect_download() as download:
        frame.get_by_role("button", name="Save as CSV").click()
    download.value.save_as(folder / "framed.csv")
    assert len(read_ratings(folder / "framed.csv")) == 12


def test_from_a_file_without_a_server(opened, folder, chromium):
    """By double click: `file://` needs no server."""
    context = chromium.new_context()
    tab = context.new_page()
    failures = []
    tab.on("pageerror", lambda error: failures.append(str(error)))
    tab.goto((folder / "test.html").as_uri())
    begin(tab)
    tab.get_by_role("button", name="Hear B").click()
    tab.wait_for_function("() => deck.playing && deck.position() > 0.05")
    context.close()
    assert not failures


def test_sounds_that_cannot_be_played_are_reported(opened):
    tab = opened()
    tab.evaluate("() => { test.training[0].audio = btoa('no sound'); }")
    tab.get_by_role("button", name="Next: set the volume").click()
    alert = tab.get_by_role("alert")
    alert.wait_for()
    assert "cannot be played" in alert.text_content()
    assert tab.get_by_role("heading", name="Before you begin").is_visible()
