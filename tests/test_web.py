"""The widgets of the page in a real browser: as exact as the engine, usable, and never silent about
what is missing."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile
from common import (
    ROUNDINGS,
    axe_violations,
    browser,
    exact,
    find_browser,
    in_pytorch,
    noise,
    press,
    served,
)

from tinyamp import web, web_assets, web_speed
from tinyamp.cli import main
from tinyamp.data import load_excerpt
from tinyamp.files import InputError
from tinyamp.losses import esr
from tinyamp.model import process
from tinyamp.player import level_match, players
from tinyamp.realtime import Engine
from tinyamp.web_sounds import loops, periodic, target_of
from tinyamp.web_stages import page_device

STATIC = Path(__file__).resolve().parents[1] / "book" / "_static"
DEVICE = "sim-muff"
FLAGS = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Widgets</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="../_static/custom.css">
<link rel="stylesheet" href="../_static/play.css">
<style>body {{ background: var(--pst-color-background) }}</style></head>
<body class="bd-article"><main>
<h1>Widgets</h1>{}</main><script src="../_static/play.js"></script></body></html>"""
READY = "() => document.querySelector('tinyamp-bench')?.sounds"


def needs_modules() -> None:
    if find_browser() is None:
        pytest.skip("No Chromium was found: install one, or name it in CHROMIUM.")
    try:
        web_assets.find_wasm_compiler()
    except InputError as error:
        pytest.skip(str(error))


def lay_out(folder: Path, assets: Path) -> Path:
    """A book of one page with both widgets, and these assets."""
    static = folder / "_static"
    shutil.copytree(STATIC / "amp", static / "amp")
    for name in ("play.js", "play.css", "custom.css"):
        shutil.copy(STATIC / name, static)
    shutil.copytree(STATIC / "fonts", static / "fonts")
    shutil.copytree(assets, static / "play")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(web.WHERE, str(assets))
        body = web.bench(DEVICE).data + web.live(DEVICE).data
    (folder / "book").mkdir()
    page = folder / "book" / "page.html"
    page.write_text(PAGE.format(body), encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Path:
    needs_modules()
    folder = tmp_path_factory.mktemp("assets")
    web_assets.build_assets(folder, [DEVICE])
    return folder


@pytest.fixture(scope="module")
def manifest(assets) -> dict:
    return json.loads((assets / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def site(assets, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    lay_out(folder, assets)
    return folder


@pytest.fixture(scope="module")
def serve() -> Iterator:
    """A function that serves a folder and returns its address; all stops in the end."""
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(served(folder))


@pytest.fixture(scope="module")
def chromium(assets):
    with browser(*FLAGS) as started:
        yield started


class Visit:
    """A page, with all that it complained about and asked for."""

    def __init__(self, browser, address: str, script: str = "", **options) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        if script:
            self.page.add_init_script(script)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._console)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def _console(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def origin(serve, site) -> str:
    return serve(site)


@pytest.fixture
def visit(chromium, origin) -> Iterator[Visit]:
    """The page with both widgets, ready; in the end nothing was complained about or fetched."""
    visit = Visit(chromium, f"{origin}book/page.html")
    visit.page.wait_for_function(READY)
    yield visit
    visit.context.close()
    assert visit.complaints == []
    elsewhere = [url for url in visit.requests if not url.startswith((origin, "data:", "blob:"))]
    assert elsewhere == []


def encode(x: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(x, np.float32).tobytes()).decode()


def decode(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.float32)


# Text and float32 samples, both ways.
CODEC = """
  const decode = (text) =>
    new Float32Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const encode = (x) => {
    let text = "";
    for (const byte of new Uint8Array(x.buffer, x.byteOffset, x.byteLength))
      text += String.fromCharCode(byte);
    return btoa(text);
  };
"""
# Plays a signal through the page's own worklet; `steps` are [frame, message]: at that frame the
# rendering waits until the audio thread has taken the message.
RENDER = (
    """async ({ wasm, signal, steps }) => {"""
    + CODEC
    + """
  const { ampNode, told } = await import("/_static/amp/chain.js");
  const load = async (name) =>
    WebAssembly.compile(await (await fetch(`/_static/play/${name}`)).arrayBuffer());
  const x = decode(signal);
  const context = new OfflineAudioContext(1, x.length, 44100);
  const node = await ampNode(context, await load(wasm));
  const buffer = new AudioBuffer({ length: x.length, sampleRate: 44100 });
  buffer.copyToChannel(x, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(node).connect(context.destination);
  source.start();
  for (const [frame, message] of steps) {
    const module = message.wasm && (await load(message.wasm));
    const given = message.wasm ? { module, id: message.wasm } : message;
    void context.suspend(frame / 44100).then(async () => {
      await told(node, given);
      await context.resume();
    });
  }
  return encode((await context.startRendering()).getChannelData(0));
}"""
)


def render(visit: Visit, wasm: str, x: np.ndarray, steps: tuple = ()) -> np.ndarray:
    given = {"wasm": wasm, "signal": encode(x), "steps": [list(step) for step in steps]}
    return decode(visit.page.evaluate(RENDER, given))


@pytest.fixture(scope="module")
def stages():
    return page_device(DEVICE).stages


@pytest.fixture(scope="module")
def names(manifest) -> list[str]:
    """The file of each stage's module."""
    return [stage["wasm"] for stage in manifest["devices"][0]["stages"]]


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    """Guitar, a whole number of blocks."""
    return load_excerpt(DEVICE, "test").input[: 128 * 280]


@pytest.mark.parametrize("which", [0, 4, 9, -1])
def test_worklet_and_python_engine_are_as_exact_as_pytorch(which, visit, stages, names, signal):
    model, x = stages[which].model, np.concatenate([signal, noise(128 * 40, seed=1)])
    expected = exact(model, x)
    assert np.abs(expected).max() > 0.05
    torch, engine = in_pytorch(model, x), Engine(model).process(x)
    limit = ROUNDINGS * np.abs(torch - expected).max()  # some stages carry roundings on
    assert limit < 1e-3
    y = render(visit, names[which], x)
    assert np.abs(y - expected).max() <= limit
    assert np.abs(engine - expected).max() <= limit
    assert np.abs(y - engine).max() <= 1e-4
    assert np.abs(y - torch).max() <= 1e-4


def test_switching_begins_at_the_zero_state_and_fades(visit, stages, names, signal):
    frame, fade = 128 * 100, 1024
    y = render(visit, names[0], signal, [(frame, {"wasm": names[-1]})])
    old = process(stages[0].model, signal)
    new = process(stages[-1].model, signal[frame:])  # from zero, where it was switched on
    share = np.minimum(1, np.arange(len(new)) / fade)
    assert np.abs(y[:frame] - old[:frame]).max() <= 1e-5
    assert np.abs(y[frame:] - (share * new + (1 - share) * old[frame:])).max() <= 2e-5
    assert np.abs(new - old[frame:]).max() > 1e-2  # they could have been told apart


def test_reset_goes_back_to_the_zero_state(visit, stages, names, signal):
    frame = 128 * 100
    y = render(visit, names[4], signal, [(frame, {"reset": True})])
    again = process(stages[4].model, signal[frame:])
    assert np.abs(y[frame:] - again).max() <= 2e-5
    assert np.abs(again - process(stages[4].model, signal)[frame:]).max() > 1e-3


def test_more_amps_at_once_do_not_change_the_sound(visit, names, signal):
    alone = render(visit, names[-1], signal, [(256, {"reset": True})])
    among = render(visit, names[-1], signal, [(256, {"reset": True, "copies": 4})])
    assert np.array_equal(alone, among)


# --- the bench -------------------------------------------------------------------------------

SOUNDS = (
    """() => {"""
    + CODEC
    + """
  const bench = document.querySelector("tinyamp-bench");
  const all = (object) =>
    Object.fromEntries(Object.entries(object).map(([name, x]) => [name, encode(x)]));
  const { gains, errors } = bench;
  return { raw: all(bench.raw), sounds: all(bench.sounds), gains, errors };
}"""
)


def heard(visit: Visit) -> dict:
    given = visit.page.evaluate(SOUNDS)
    for kind in ("raw", "sounds"):
        given[kind] = {name: decode(text) for name, text in given[kind].items()}
    return given


def test_bench_plays_what_python_computes(visit, stages):
    given = heard(visit)
    dry = loops()["phrase"].samples
    raw, sounds = given["raw"], given["sounds"]
    # Browsers do not agree whether the largest of 16 bits is 1.
    assert np.abs(raw["dry"] - dry).max() < 2 / 32768 * np.abs(dry).max()
    target = target_of(DEVICE, dry)
    assert np.abs(raw["target"] - target).max() < 1e-4  # 16 bits, at another level
    pruned = page_device(DEVICE).pruned
    for name, stage in (("unpruned", 0), ("pruned", pruned)):
        twice = np.concatenate([raw["dry"], raw["dry"]])
        model = stages[stage].model
        second = exact(model, twice)[len(dry) :]
        limit = ROUNDINGS * np.abs(in_pytorch(model, twice)[len(dry) :] - second).max()
        assert np.abs(raw[name] - second).max() <= limit
        assert given["errors"][name] == pytest.approx(esr(target, second), rel=0.02)
    four = {name: raw[name] for name in ("dry", "target", "unpruned", "pruned")}
    matched, gains = level_match(four)
    for name, x in matched.items():
        assert np.abs(sounds[name] - x).max() < 1e-5
        assert 20 * np.log10(given["gains"][name]) == pytest.approx(gains[name], abs=1e-3)
    wrong = given["gains"]["target"] * (raw["pruned"] - raw["target"])
    assert np.abs(sounds["pruned difference"] - wrong).max() < 1e-6
    assert not sounds["target difference"].any()


TRACKS = """() => [...(document.querySelector("tinyamp-bench").deck.tracks)]
  .map(([name, { gain }]) => [name, gain.gain.value])"""


def alone(visit: Visit, name: str) -> None:
    """Wait until this track is heard at its full level, and no other."""
    visit.page.wait_for_function(
        f"""(wanted) => {{
          const tracks = ({TRACKS})();
          return tracks.length === 8 && tracks.every(([name, gain]) =>
            Math.abs(gain - (name === wanted ? 1 : 0)) < 1e-3);
        }}""",
        arg=name,
    )


def test_one_click_switches_and_one_sound_is_heard(visit):
    bench = visit.page.locator("tinyamp-bench")
    before = len(visit.requests)
    bench.get_by_role("button", name="Play").click()
    said = bench.get_by_role("status")
    for name in ("dry", "target", "unpruned", "pruned"):
        bench.locator(f"input[value={name}]").check()
        assert name in said.inner_text() and said.inner_text().startswith("Playing")
        alone(visit, name)
    bench.get_by_label("Only the difference").check()
    alone(visit, "pruned difference")
    assert "difference" in said.inner_text() and "under the target" in said.inner_text()
    assert len(visit.requests) == before, "switching should not load anything"
    bench.get_by_role("button", name="Stop").click()
    assert visit.page.evaluate(TRACKS) == [] and said.inner_text().startswith("Ready")


def test_tracks_are_in_step(visit):
    """All loops start at one time: recorded by the arguments of `start`."""
    starts = visit.page.evaluate(
        """async () => {
          const starts = [], { prototype } = AudioBufferSourceNode, { start } = prototype;
          prototype.start = function (...given) {
            starts.push([...given, this.buffer.length, this.loop]);
            return start.apply(this, given);
          };
          await document.querySelector("tinyamp-bench").toggle();
          prototype.start = start;
          return starts;
        }"""
    )
    assert len(starts) == 8
    assert all(start == starts[0] for start in starts)


def test_stage_slider_changes_what_is_heard_while_it_plays(visit, manifest):
    page, bench = visit.page, visit.page.locator("tinyamp-bench")
    first = heard(visit)["raw"]["pruned"]
    bench.get_by_role("button", name="Play").click()
    slider = bench.get_by_label("How far it is pruned")
    slider.focus()
    page.keyboard.press("End")
    last = manifest["devices"][0]["stages"][-1]
    text = slider.get_attribute("aria-valuetext")
    assert f"{last['units']} of 32 units" in text and f"{last['active']} of 4224 weights" in text
    page.wait_for_function(
        f"""() => document.querySelector("tinyamp-bench table").innerText
              .includes("stage {last["number"]}")
              && !document.querySelector("tinyamp-bench").hasAttribute("aria-busy")"""
    )
    page.wait_for_timeout(300)
    assert np.abs(heard(visit)["raw"]["pruned"] - first).max() > 0.01
    assert len(page.evaluate(TRACKS)) == 8


def test_every_loop_loads_only_when_it_is_asked_for(visit, manifest):
    page, bench = visit.page, visit.page.locator("tinyamp-bench")
    for loop in manifest["loops"]:
        name = loop["dry"]["file"]
        there = any(url.endswith(name) for url in visit.requests)
        assert there == (loop["id"] == "phrase")
    assert not any(url.endswith(".mp3") for url in visit.requests)
    for loop in manifest["loops"]:
        before = heard(visit)["sounds"]["target"]
        bench.get_by_label("Loop", exact=True).select_option(loop["id"])
        page.wait_for_function(f"{READY} && !document.querySelector('[aria-busy]')")
        if loop["id"] != "phrase":
            assert np.abs(heard(visit)["sounds"]["target"] - before).max() > 0.01


@pytest.mark.parametrize(("name", "button"), [("bench", "Play"), ("live", "Start")])
def test_without_an_audio_output_it_says_so(visit, name, button):
    """Firefox waits for an output without end; here the browser is made to wait like that."""
    widget = visit.page.locator(f"tinyamp-{name}")
    visit.page.evaluate("() => { AudioContext.prototype.resume = () => new Promise(() => {}); }")
    widget.get_by_role("button", name=button).click()
    widget.get_by_role("status").get_by_text("no audio output").wait_for(timeout=20_000)
    assert widget.get_by_role("button", name=button).is_visible()


# --- the live amp ----------------------------------------------------------------------------


def test_live_amp_plays_switches_and_measures(visit, manifest):
    page, live = visit.page, visit.page.locator("tinyamp-live")
    stages = manifest["devices"][0]["stages"]
    said = live.get_by_role("status")
    live.get_by_role("button", name="Start").click()
    load = live.get_by_role("meter", name="Load of the audio thread")
    page.wait_for_function(
        """() => /%/.test(document.querySelector("tinyamp-live .ta-meters").innerText)"""
    )
    assert float(load.get_attribute("aria-valuenow")) > 0
    output = live.get_by_role("meter", name="Output level")
    page.wait_for_function(
        """() => [...document.querySelectorAll("tinyamp-live [role=meter]")].slice(0, 2)
              .every((meter) => meter.getAttribute("aria-valuenow") > -55)"""
    )
    assert "dB" in output.get_attribute("aria-valuetext")
    live.get_by_role("button", name="Pruned", exact=True).click()
    said.get_by_text("% pruned").wait_for()
    number = manifest["devices"][0]["pruned"]
    assert f"stage {number}," in said.inner_text()
    facts = live.locator(".ta-facts").inner_text()
    assert f"{stages[number]['active']} of 4224" in facts
    live.get_by_role("button", name="Unpruned").click()
    said.get_by_text("stage 0").wait_for()
    slider = live.get_by_label("Pruning stage")
    slider.focus()
    for _ in stages[1:]:
        page.keyboard.press("ArrowRight")
    assert f"stage {stages[-1]['number']}," in slider.get_attribute("aria-valuetext")
    for label in ("Input gain", "Volume"):
        live.get_by_label(label).focus()
        page.keyboard.press("ArrowLeft")
    live.get_by_label("Amps at once").select_option("4")
    live.get_by_label("Amp on").uncheck()
    live.get_by_label("Amp on").check()
    for loop in manifest["loops"]:
        live.get_by_label("Loop", exact=True).select_option(loop["id"])
    page.wait_for_timeout(500)
    live.get_by_role("button", name="Stop").click()
    assert said.inner_text() == "Stopped."
    assert page.evaluate("() => document.querySelector('tinyamp-live').chain") is None


def test_live_amp_load_grows_with_the_amps(visit):
    page, live = visit.page, visit.page.locator("tinyamp-live")
    live.get_by_role("button", name="Start").click()
    seen = {}
    for copies in ("1", "8"):
        live.get_by_label("Amps at once").select_option(copies)
        page.wait_for_timeout(2500)
        meter = live.get_by_role("meter", name="Load of the audio thread")
        seen[copies] = float(meter.get_attribute("aria-valuenow"))
    assert seen["8"] > seen["1"] > 0  # 8 times, if nothing else takes its share


def test_a_guitar_is_asked_for_without_processing(visit):
    page, live = visit.page, visit.page.locator("tinyamp-live")
    page.evaluate(
        """() => {
          const { mediaDevices } = navigator;
          const original = mediaDevices.getUserMedia.bind(mediaDevices);
          window.asked = [];
          mediaDevices.getUserMedia = (wanted) => { asked.push(wanted); return original(wanted); };
        }"""
    )
    warning = live.get_by_text("Use headphones.")
    assert not warning.is_visible()
    live.get_by_label("Your guitar").check()
    assert warning.is_visible()
    assert page.evaluate("() => asked.length") == 0, "nobody is listened to before Start"
    live.get_by_role("button", name="Start").click()
    live.get_by_label("Input", exact=True).wait_for()
    [asked] = page.evaluate("() => asked")
    for name in ("echoCancellation", "noiseSuppression", "autoGainControl"):
        assert asked["audio"][name] is False
    assert live.get_by_role("status").inner_text().startswith("On:")
    tracks = "() => document.querySelector('tinyamp-live').chain?.context.state"
    assert page.evaluate(tracks) == "running"
    live.get_by_label("A loop").check()
    page.wait_for_function(f"{tracks} && document.querySelector('tinyamp-live').source === 'loop'")
    live.get_by_role("button", name="Stop").click()


def test_no_permission_is_a_sentence(visit):
    page, live = visit.page, visit.page.locator("tinyamp-live")
    for error, words in (("NotAllowedError", "allow the microphone"), ("NotFoundError", "plug")):
        page.evaluate(
            """(name) => { navigator.mediaDevices.getUserMedia =
              () => Promise.reject(new DOMException("no", name)); }""",
            error,
        )
        live.get_by_label("Your guitar").check()
        live.get_by_role("button", name="Start").click()
        live.get_by_role("status").get_by_text(words).wait_for()
        assert page.evaluate("() => document.querySelector('tinyamp-live').chain") is None


def test_howling_is_switched_off(visit):
    page, live = visit.page, visit.page.locator("tinyamp-live")
    live.get_by_label("Your guitar").check()
    live.get_by_role("button", name="Start").click()
    live.get_by_label("Input", exact=True).wait_for()
    page.evaluate(
        """() => { const live = document.querySelector("tinyamp-live");
          for (let n = 0; n < 20; n++)
            live.meters({ load: 0.1, gaps: 0, lost: 0, input: 1, output: 50 }); }"""
    )
    assert "feedback" in live.get_by_role("status").inner_text()
    assert live.get_by_role("button", name="Start").is_visible()


def test_a_file_of_ones_own(visit, tmp_path):
    live = visit.page.locator("tinyamp-live")
    wav, text = tmp_path / "mine.wav", tmp_path / "mine.txt"
    stereo = np.stack([noise(48_000), noise(48_000, seed=1)], axis=1)
    soundfile.write(wav, stereo, 48_000)
    text.write_text("no sound")
    live.get_by_label("A sound file of yours").check()
    live.get_by_role("button", name="Start").click()
    assert "Choose a sound file" in live.get_by_role("status").inner_text()
    live.locator("input[type=file]").set_input_files(text)
    live.get_by_role("status").get_by_text("mine.txt is not a sound file").wait_for()
    live.locator("input[type=file]").set_input_files(wav)
    live.get_by_role("status").get_by_text("On:").wait_for()
    length = visit.page.evaluate("() => document.querySelector('tinyamp-live').file.length")
    assert length == pytest.approx(44_100, abs=2)


def test_speeds_are_measured_in_a_table(visit, manifest):
    live = visit.page.locator("tinyamp-live")
    live.get_by_role("button", name="Measure every stage").click()
    rows = live.locator(".ta-speeds tbody tr")
    rows.first.wait_for(timeout=120_000)
    assert rows.count() == len(manifest["devices"][0]["stages"])
    speeds = [rows.nth(n).locator("td").nth(2).inner_text() for n in range(rows.count())]
    assert all(float(text.removesuffix(" ×")) > 1 for text in speeds), "every stage can be played"


def test_only_one_widget_plays(visit):
    page = visit.page
    bench, live = page.locator("tinyamp-bench"), page.locator("tinyamp-live")
    bench.get_by_role("button", name="Play").click()
    live.get_by_role("button", name="Start").click()
    live.get_by_role("status").get_by_text("On:").wait_for()
    assert bench.get_by_role("button", name="Play").is_visible()
    bench.get_by_role("button", name="Play").click()
    assert live.get_by_role("status").inner_text() == "Stopped."


def add_players(page) -> list:
    """Two players below the widgets, as a chapter has them; they play until they are stopped."""
    markup = players({"first": noise(22_050), "second": noise(22_050, seed=1)}).data
    page.locator("main").evaluate(
        """(main, markup) => {
          main.insertAdjacentHTML("beforeend", markup);
          for (const audio of main.querySelectorAll("audio")) audio.loop = true;
        }""",
        markup,
    )
    return page.locator("audio").all()


def test_players_and_widgets_stop_each_other(visit):
    page = visit.page
    bench, live = page.locator("tinyamp-bench"), page.locator("tinyamp-live")
    first, second = add_players(page)
    assert press(first) == press(second) == "plays"
    paused = "() => [...document.querySelectorAll('audio')].every((audio) => audio.paused)"
    bench.get_by_role("button", name="Play").click()
    bench.get_by_role("status").get_by_text("Playing").wait_for()
    assert page.evaluate(paused)
    assert press(second) == "plays"
    assert bench.get_by_role("status").inner_text().startswith("Ready")
    assert page.evaluate(TRACKS) == []
    live.get_by_role("button", name="Start").click()
    live.get_by_role("status").get_by_text("On:").wait_for()
    assert page.evaluate(paused)
    assert press(first) == "plays"
    assert live.get_by_role("status").inner_text() == "Stopped."
    assert page.evaluate("() => document.querySelector('tinyamp-live').chain") is None
    assert press(first) == "stops"


@pytest.mark.parametrize(("name", "button"), [("bench", "Play"), ("live", "Start")])
def test_a_widget_that_is_slow_to_start_gives_way(visit, name, button):
    """A player was pressed while it waited for the audio output: it must not join in."""
    page, widget = visit.page, visit.page.locator(f"tinyamp-{name}")
    first, _ = add_players(page)
    page.evaluate(
        """() => {
          const { prototype } = AudioContext, { resume } = prototype;
          window.asleep = [];
          prototype.resume = async function () {
            await new Promise((wake) => asleep.push(wake));
            await resume.call(this);
            window.awake = true;
          };
        }"""
    )
    widget.get_by_role("button", name=button).click()
    page.wait_for_function("() => asleep.length")
    assert press(first) == "plays"
    page.evaluate("() => asleep.forEach((wake) => wake())")
    said = {"bench": "Ready", "live": "Stopped."}[name]
    widget.get_by_role("status").get_by_text(said).wait_for()
    page.wait_for_function("() => window.awake")
    sounding = {
        "bench": "() => document.querySelector('tinyamp-bench').deck.playing",
        "live": "() => document.querySelector('tinyamp-live').chain !== null",
    }
    assert not page.evaluate(sounding[name])
    assert widget.get_by_role("button", name=button).is_visible()
    assert press(first) == "stops", "it should have gone on"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_widgets_are_accessible_and_fit(width, scheme, chromium, origin):
    size = {"width": width, "height": 844}
    script = f"""addEventListener("DOMContentLoaded", () =>
      document.documentElement.dataset.theme = "{scheme}")"""
    options = {"viewport": size, "color_scheme": scheme, "reduced_motion": "reduce"}
    visit = Visit(chromium, f"{origin}book/page.html", script, **options)
    try:
        page = visit.page
        page.wait_for_function(READY)
        page.locator("tinyamp-bench").get_by_role("button", name="Play").click()
        page.get_by_label("Your guitar").check()
        found = axe_violations(page)
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert [(v["id"], [n["html"][:90] for n in v["nodes"]]) for v in serious] == []
        assert page.evaluate("() => document.scrollingElement.scrollWidth") <= width
        page.keyboard.press("Tab")
        outline = "() => getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) != "none", "focus should be visible"
    finally:
        visit.context.close()
    assert visit.complaints == []


# --- where something is missing ------------------------------------------------------------------


def test_a_page_opened_as_a_file_says_what_to_do_and_has_players(chromium, site):
    visit = Visit(chromium, (site / "book" / "page.html").as_uri())
    try:
        why = visit.page.locator(".ta-why")
        assert why.count() == 2
        assert all("make serve" in text for text in why.all_inner_texts())
        fallback = visit.page.locator("audio")
        assert fallback.count() == 3 * 4
        lengths = visit.page.evaluate(
            """() => Promise.all([...document.querySelectorAll("audio")].map((audio) =>
              new Promise((resolve) => {
                audio.onloadedmetadata = () => resolve(audio.duration);
                audio.onerror = () => resolve(audio.error.message);
                audio.preload = "metadata";
                audio.load();
              })))"""
        )
        assert lengths == pytest.approx([4.0] * 12, abs=0.1)
        visit.page.locator("summary").click()
        for player in fallback.all():
            assert press(player) == "plays", "one at a time, without the widgets, too"
    finally:
        visit.context.close()
    assert visit.complaints == []


MISSING = {
    "WebAssembly": ("delete window.WebAssembly", 2),
    "AudioWorklet": ("delete BaseAudioContext.prototype.audioWorklet", 1),
    "128-bit vectors": ("WebAssembly.validate = () => false", 2),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_the_browser_lacks_is_said(what, chromium, origin):
    script, widgets = MISSING[what]
    visit = Visit(chromium, f"{origin}book/page.html", script)
    try:
        visit.page.locator(".ta-why").get_by_text(what).nth(widgets - 1).wait_for()
        assert visit.page.locator(".ta-why").count() == widgets
        assert visit.page.locator("audio").count() == (12 if widgets == 2 else 0)
    finally:
        visit.context.close()
    assert visit.complaints == []


def test_without_a_compiler_the_page_says_so(chromium, serve, assets, tmp_path, monkeypatch):
    reason = "No compiler for WebAssembly was found; `pip install ziglang`."

    def none() -> list[str]:
        raise InputError(reason)

    monkeypatch.setattr(web_assets, "find_wasm_compiler", none)
    monkeypatch.setattr(web_assets, "build_wasm", lambda *_: pytest.fail("compiled"))
    manifest = web_assets.build_assets(tmp_path / "assets", [DEVICE])
    assert manifest["reason"] == reason and not manifest["compiled"]
    assert not list((tmp_path / "assets").glob("*.wasm"))
    lay_out(tmp_path / "site", tmp_path / "assets")
    visit = Visit(chromium, serve(tmp_path / "site") + "book/page.html")
    try:
        visit.page.locator(".ta-why").get_by_text("pip install ziglang").nth(1).wait_for()
        assert visit.page.locator("audio").count() == 12
    finally:
        visit.context.close()
    assert visit.complaints == []


def test_absent_assets_are_a_sentence(chromium, serve, site, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    shutil.rmtree(tmp_path / "site" / "_static" / "play")
    visit = Visit(chromium, serve(tmp_path / "site") + "book/page.html")
    visit.page.locator(".ta-why").get_by_text("make book").nth(1).wait_for()
    visit.context.close()


# --- arithmetic of the scripts -------------------------------------------------------------------


def test_the_spectrum_is_that_of_numpy(visit):
    x = noise(1024, seed=3)
    re, im = visit.page.evaluate(
        f"""async (x) => {{ {CODEC} const {{ fft }} = await import("/_static/amp/signal.js");
          const re = Float64Array.from(decode(x)), im = new Float64Array(re.length);
          fft(re, im); return [[...re], [...im]]; }}""",
        encode(x),
    )
    expected = np.fft.fft(x.astype(float))
    assert np.abs(np.array(re) + 1j * np.array(im) - expected).max() < 1e-9
    sine = np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100)
    bands = visit.page.evaluate(
        f"""async (x) => {{ {CODEC} const {{ spectrum }} = await import("/_static/amp/signal.js");
          return spectrum(decode(x), 44100); }}""",
        encode(sine),
    )
    frequency, level = max(bands, key=lambda band: band[1])
    assert 900 < frequency < 1100 and level == pytest.approx(0, abs=0.5)


def test_a_coarse_clock_times_a_short_run(visit):
    """The clock ticks in milliseconds, and a run takes 0.04 ms; a clock that stands is not waited
    for."""
    found = visit.page.evaluate(
        """async () => {
          const { timeRun } = await import("/_static/amp/meters.js");
          let now = 0.0123;
          const look = (tick) => () => { now += 1e-7; return Math.floor(now / tick) * tick; };
          const run = () => { now += 4e-5; };
          return [timeRun(look(1e-3), run), timeRun(look(1), run), now];
        }"""
    )
    assert found[0] == pytest.approx(4e-5, rel=0.05)
    assert found[1] is None and found[2] < 0.05


def test_dropouts_are_counted_and_lateness_is_not(visit):
    """Blocks of 128 samples, computed up to 6 ms late; twice, 30 ms of sound are missing."""
    found = visit.page.evaluate(
        """async () => {
          const { GapMeter } = await import("/_static/amp/meters.js");
          const [gaps, steady] = [new GapMeter(), new GapMeter()];
          let lost = 0;
          for (let n = 0; n < 344 * 20; n++) {
            const audio = (n * 128) / 44100, late = 0.006 * ((n * 7919) % 1000) / 1000;
            if (n === 2000 || n === 5000) lost += 0.03;
            gaps.add(audio + late + lost, audio);
            steady.add(audio * 1.0001 + late, audio); // clocks that differ by 100 ppm
          }
          return [gaps.count, gaps.lost, steady.count];
        }"""
    )
    assert found[0] == 2 and found[2] == 0
    assert found[1] == pytest.approx(0.06, abs=0.004)


# --- the assets --------------------------------------------------------------------------------


def test_assets_are_light_and_the_manifest_is_true(assets, manifest, stages):
    there = {path.name for path in assets.iterdir()}
    assert there == {*manifest["files"], "manifest.json"}
    assert sum(path.stat().st_size for path in assets.iterdir()) < 2.5e6
    [device] = manifest["devices"]
    test = load_excerpt(DEVICE, "test")
    for listed, stage in zip(device["stages"], stages, strict=True):
        assert (listed["number"], listed["units"]) == (stage.number, stage.model.hidden_size)
        assert listed["active"] == round(4224 * (1 - listed["sparsity"]))
        assert listed["bytes"] == (assets / listed["wasm"]).stat().st_size
    y = Engine(stages[0].model).process(test.input)
    assert device["stages"][0]["esr"] == pytest.approx(esr(test.target, y), rel=1e-3)


def test_a_second_build_changes_nothing_and_clears_away(assets, tmp_path):
    folder = tmp_path / "play"
    shutil.copytree(assets, folder)
    stale = {"format": "tinyamp-page", "files": [*os.listdir(assets), "old-0.wasm", "../kept.txt"]}
    (folder / "manifest.json").write_text(json.dumps(stale))
    for path in (folder / "old-0.wasm", folder / "mine.txt", tmp_path / "kept.txt"):
        path.write_text("x")
    web_assets.build_assets(folder, [DEVICE])
    assert {path.name for path in folder.iterdir()} == {*os.listdir(assets), "mine.txt"}
    assert (tmp_path / "kept.txt").is_file()
    for path in assets.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_a_build_that_fails_leaves_nothing_new(assets, tmp_path, monkeypatch):
    folder = tmp_path / "play"

    def fail(*_) -> bytes:
        raise InputError("The compiler failed.")

    monkeypatch.setattr(web_assets, "build_wasm", fail)
    with pytest.raises(InputError, match="compiler failed"):
        web_assets.build_assets(folder, [DEVICE])
    assert not folder.exists() or list(folder.iterdir()) == []


def test_speed_in_node(assets, manifest):
    try:
        web_speed.find_node()
    except InputError as error:
        pytest.skip(str(error))
    rows = web_speed.measure(assets, passes=2)
    assert [row["wasm"] for row in rows] == [s["wasm"] for s in manifest["devices"][0]["stages"]]
    # Which is the fastest is for a quiet machine to say: here, other tests take their share.
    assert all(1 < row["speed"] < math.inf for row in rows), "every stage can be played"


def test_command_line(assets, tmp_path, capsys):
    assert main(["page", "speed", str(tmp_path)]) == 2
    assert "tinyamp page build" in capsys.readouterr().err
    (tmp_path / "manifest.json").write_text("{")
    assert main(["page", "speed", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "damaged" in error and error.count("\n") == 1


# --- the helper ------------------------------------------------------------------------------


def test_outside_a_build_there_are_players(monkeypatch):
    monkeypatch.delenv(web.WHERE, raising=False)
    text = web.bench(DEVICE).data
    assert text.count("<audio") == 4 and "tinyamp-bench" not in text
    assert "make serve" in web.live(DEVICE).data
    with pytest.raises(InputError, match="sim-muff, sim-crunch"):
        web.bench("muff")


def test_unknown_names_and_absent_assets_are_sentences(monkeypatch, assets, tmp_path):
    monkeypatch.setenv(web.WHERE, str(assets))
    with pytest.raises(InputError, match=r"no loop 'drums' to play; choose from phrase"):
        web.bench(DEVICE, "drums")
    with pytest.raises(InputError, match="no device"):
        web.live("sim-metal")
    monkeypatch.setenv(web.WHERE, str(tmp_path))
    with pytest.raises(InputError, match="tinyamp page build"):
        web.bench(DEVICE)


def test_periodic_is_what_is_heard_the_second_time():
    x = noise(100_000, seed=2)
    y = periodic(np.cumsum, x)
    assert len(y) == len(x)
    lead = x[-88_200:].sum()
    assert y[0] == pytest.approx(lead + x[0], abs=1e-2)
