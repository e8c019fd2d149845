"""What several test modules share besides fixtures: signals, an exact output, what is installed."""

from __future__ import annotations

import copy
import functools
import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from tinyamp import compiler
from tinyamp.compiler import find_compiler
from tinyamp.files import InputError
from tinyamp.model import AmpLSTM

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def compiler_is_there() -> bool:
    try:
        return bool(find_compiler())
    except InputError:
        return False


needs_compiler = pytest.mark.skipif(not compiler_is_there(), reason="There is no C compiler.")


def no_compiler(monkeypatch) -> None:
    """Hide every C compiler, also that of the ziglang package."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler.shutil, "which", lambda _: None)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda _: None)


# How many times PyTorch's own error a float32 engine may have. Its tanh is as good as PyTorch's to
# a few roundings, and a model of few, large weights and a long memory adds them up.
ROUNDINGS = 8


def noise(n: int, seed: int = 0) -> np.ndarray:
    return (0.3 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def exact(model: AmpLSTM, x: np.ndarray) -> np.ndarray:
    """The output in float64."""
    with torch.no_grad():
        signal = torch.as_tensor(x, dtype=torch.float64)[None, :, None]
        return copy.deepcopy(model).double()(signal)[0][0, :, 0].numpy()


def in_pytorch(model: AmpLSTM, x: np.ndarray) -> np.ndarray:
    """The output of the module itself, in its own precision: `process` may be compiled."""
    signal = torch.as_tensor(x, dtype=model.head.weight.dtype)[None, :, None]
    with torch.no_grad():
        return model(signal)[0][0, :, 0].numpy()


def find_browser() -> str | None:
    """A Chromium that starts: some systems have a stub that only says how to install it."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    for name in (os.environ.get("CHROMIUM", ""), *names):
        path = shutil.which(name) if name else None
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    return None


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and does not talk about it."""

    def log_message(self, *_) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which the files of `folder` are served."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def browser(*flags: str) -> Iterator:
    """A Chromium, or the test is skipped. Of its own accord it would call home; it must not."""
    executable = find_browser()
    if executable is None:
        pytest.skip("No Chromium was found: install one, or name it in CHROMIUM.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=[*FLAGS, *flags])
        yield started
        started.close()


# Watches a player, from before the press: "plays" when it has moved on and is heard alone, or else
# what has happened instead.
_WATCH = """(audio, seconds) => {
  const others = [...document.querySelectorAll("audio")].filter((other) => other !== audio);
  const since = performance.now();
  let from = null; // where it began
  audio.addEventListener("play", () => (from = audio.currentTime), { once: true });
  const outcome = new Promise((resolve) => {
    const look = () => {
      const moved = from !== null && Math.abs(audio.currentTime - from) > 0.02;
      if (moved && others.every((other) => other.paused)) say("plays");
      else if (audio.error) say(`fails: ${audio.error.message}`);
      else if (performance.now() - since > 1000 * seconds)
        say(moved ? "plays, and others go on" : "does not play");
    };
    const timer = setInterval(look, 20);
    const say = (text) => {
      clearInterval(timer);
      resolve(text);
    };
    audio.addEventListener("pause", () => say("stops"), { once: true });
  });
  return { outcome };
}"""


def press(player, *, by_keyboard: bool = False, seconds: float = 60) -> str:
    """What comes of pressing an `<audio controls>` as a reader does: "plays", if it plays alone.

    "stops" if it stops, at once or because it was playing; else what went wrong within `seconds`.
    The mouse presses the button at the left end.
    """
    watched = player.evaluate_handle(_WATCH, seconds)
    if by_keyboard:
        player.press("Space")
    else:
        height = player.bounding_box()["height"]
        player.click(position={"x": 0.6 * height, "y": 0.5 * height})
    return watched.evaluate("({ outcome }) => outcome")


def contrasts(page, selector: str, *, shown_only: bool = False) -> list[list]:
    """[text, contrast] of what `selector` finds, against the nearest background behind it (WCAG).

    `shown_only` leaves out what is hidden or has no text.
    """
    return page.evaluate(
        """([selector, shownOnly]) => {
          const parse = c => (c.match(/[\\d.]+/g) ?? []).map(Number);
          const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = e => {
            for (; e; e = e.parentElement) {
              const c = parse(getComputedStyle(e).backgroundColor);
              if (c.length === 3 || c[3] > 0.5) return c;
            }
            return [255, 255, 255];
          };
          return [...document.querySelectorAll(selector)]
            .filter(e => !shownOnly || (e.textContent.trim() && e.offsetParent))
            .map(e => {
              const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(behind(e))];
              const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
              return [e.textContent.trim().slice(0, 40), ratio];
            });
        }""",
        [selector, shown_only],
    )


def axe_violations(page, *, preload: bool = False) -> list[dict]:
    """What axe-core finds wrong with a page as it is now, or the test is skipped.

    With `preload` it also loads style sheets to look at them, which is no part of the page.
    """
    package = pytest.importorskip("axe_playwright_python")
    page.evaluate(Path(package.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    run = "preload => axe.run(document, preload ? {} : { preload: false })"
    return page.evaluate(run, preload)["violations"]
