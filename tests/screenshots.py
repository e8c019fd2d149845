"""The pictures that need a browser: the live amp in the README, and the card of a shared link.

    make book pictures

Both show what is there: the built book's own page, and a curve and a count from a model that ships.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from common import browser, served

from tinyamp.book import ROOT
from tinyamp.data import load_excerpt
from tinyamp.files import data_folder, write_beside
from tinyamp.masks import active_weights, masks_of
from tinyamp.model import load_model, process
from tinyamp.picture import DEVICE, lively_stretch
from tinyamp.player import COLOURS

STATIC = ROOT / "book" / "_static"
HTML = ROOT / "_build" / "html"
CARD = """\
<!doctype html><meta charset="utf-8"><title>Tiny Amps</title>
<style>
@font-face {{ font-family: Serif; src: url(fonts/source-serif-4-latin-wght-normal.woff2);
  font-weight: 200 900; }}
body {{ margin: 0; width: 1200px; height: 630px; background: #fffdf9; color: #1d1a18;
  font-family: Serif; display: flex; flex-direction: column; justify-content: space-between; }}
header {{ padding: 56px 72px 0; }}
img {{ height: 96px; display: block; margin-bottom: 34px; }}
h1 {{ font-size: 68px; font-weight: 640; line-height: 1.08; margin: 0; letter-spacing: -.01em; }}
p {{ font-size: 31px; margin: 22px 0 0; color: #675f58; }}
svg {{ display: block; width: 1200px; height: 200px; }}
path {{ fill: none; stroke-linejoin: round; }}
</style>
<header><img src="logo.svg" alt=""><h1>A guitar pedal in {weights} weights</h1>
<p>A neural network, pruned: read it, run it, play through it.</p></header>
<svg viewBox="0 0 1200 200"><path d="{target}" stroke="{target_colour}" stroke-width="13"
 opacity=".35"/><path d="{pruned}" stroke="{pruned_colour}" stroke-width="4"/></svg>
"""


def curve(x: np.ndarray) -> str:
    """The signal x (time,) as an SVG path over the card's width, about its middle."""
    at = np.linspace(0, 1200, len(x))
    return "M" + " ".join(f"{a:.1f},{100 - 88 * v:.1f}" for a, v in zip(at, x, strict=True))


def card() -> str:
    """The card as a page: 30 ms of the device and of its pruned model."""
    model = load_model(data_folder() / "models" / f"{DEVICE}-32-pruned.safetensors")
    test = load_excerpt(DEVICE, "test")
    prediction = process(model, test.input)
    length = round(0.03 * test.sample_rate)
    start = lively_stretch(test.target, length)
    loudest = np.abs(test.target[start : start + length]).max()
    weights = active_weights(masks_of(model)) + model.lstm.bias_ih_l0.numel()
    return CARD.format(
        weights=f"{weights:,}".replace(",", " "),
        target=curve(test.target[start : start + length] / loudest),
        pruned=curve(prediction[start : start + length] / loudest),
        target_colour=COLOURS["target"],
        pruned_colour=COLOURS["pruned"],
    )


def take(chromium, address: str, size: tuple[int, int], target: Path, *, live: bool) -> None:
    """Write a screenshot of a page, or of its live amp while that plays, as PNG."""
    width, height = size
    context = chromium.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=1.5 if live else 1
    )
    page = context.new_page()
    page.goto(address, wait_until="networkidle")
    page.evaluate("document.fonts.ready")
    what = page.locator("tinyamp-live") if live else page
    if live:
        what.get_by_role("button", name="Start").click()
        page.wait_for_timeout(4000)
    with write_beside(target) as temporary:
        what.screenshot(path=temporary, type="png")
    print(f"{target.relative_to(ROOT)}: written")
    context.close()


def main() -> int:
    """Take both pictures; returns the exit code."""
    if not (HTML / "book" / "intro.html").is_file():
        print("tests/screenshots.py: the book is not built; run make book first.", file=sys.stderr)
        return 1
    page = STATIC / ".card.html"
    page.write_text(card(), encoding="utf-8")
    try:
        with browser() as chromium, served(STATIC) as static, served(HTML) as book:
            card_file, amp_file = STATIC / "social-card.png", STATIC / "live-amp.png"
            take(chromium, f"{static}{page.name}", (1200, 630), card_file, live=False)
            take(chromium, f"{book}book/intro.html", (900, 900), amp_file, live=True)
    finally:
        page.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
