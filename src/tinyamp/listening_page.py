"""The page of a listening test: one HTML file with its sounds, for any browser, without a server.

Sounds are FLAC, lossless: at usual bit rates, the noise that MP3 adds is as large as the error of
the models that are to be compared. `bits` below 16 makes a file smaller, at the price of white
noise that is some 6 dB louder for each bit, the same in every sound.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from tinyamp.audio import SAMPLE_RATE, quantise
from tinyamp.files import InputError, write_beside
from tinyamp.listening import CONDITIONS, Trial, random_numbers, shuffled

if TYPE_CHECKING:
    from IPython.display import HTML

_TEMPLATE = Path(__file__).with_suffix(".html")


def flac(x: np.ndarray, bits: int = 16) -> bytes:
    """Sound x (time,) as a FLAC file of 16-bit samples, of which the upper `bits` are used."""
    if not 8 <= bits <= 16:
        raise InputError(f"8 to 16 bits a sample are possible, but {bits} came.")
    buffer = io.BytesIO()
    soundfile.write(buffer, quantise(x, bits), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def describe(
    trials: Sequence[Trial],
    training: Mapping[str, np.ndarray] | None = None,
    *,
    bits: int = 16,
    seed: int | None = None,
) -> dict:
    """The test as the page reads it: the sounds of each trial shuffled, and a key to them.

    `seed` fixes the order in which every listener hears the test; None draws one for each. Raises
    `InputError` when there is no trial, or sounds have different lengths.
    """
    if not trials:
        raise InputError("A test needs at least one trial.")
    training = training or {}
    sounds = [y for trial in trials for y in trial.sounds.values()] + list(training.values())
    lengths = {len(y) for y in sounds}
    if len(lengths) > 1:
        raise InputError(f"All sounds of a test must be equally long; got {sorted(lengths)}.")
    encoded = [{c: flac(trial.sounds[c], bits) for c in CONDITIONS} for trial in trials]
    digest = hashlib.sha256()
    for sound in (sound for trial in encoded for sound in trial.values()):
        digest.update(sound)
    name = digest.hexdigest()[:8]
    # Where each condition's sound stands in the page differs from trial to trial and test to test.
    numbers = random_numbers(int(name, 16))
    places = [shuffled(len(CONDITIONS), numbers) for _ in trials]
    key = {"conditions": CONDITIONS, "trials": places}
    return {
        "id": name,
        "rate": SAMPLE_RATE,
        "seconds": lengths.pop() / SAMPLE_RATE,
        "seed": seed,
        "key": base64.b64encode(json.dumps(key).encode()).decode(),
        "training": [{"label": k, "audio": _text(flac(y, bits))} for k, y in training.items()],
        "trials": [
            {
                "device": trial.device,
                "passage": trial.passage,
                "instrument": trial.instrument,
                "sounds": [_text(sounds[CONDITIONS[c]]) for c in order],
            }
            for trial, sounds, order in zip(trials, encoded, places, strict=True)
        ],
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def page(description: Mapping, *, title: str = "Listening test") -> str:
    """The whole page as text, from what `describe` returns."""
    parts = {
        "title": html.escape(title),
        "style": _TEMPLATE.with_suffix(".css").read_text(encoding="utf-8"),
        "script": _TEMPLATE.with_suffix(".js").read_text(encoding="utf-8"),
        # "</" would end the script element that carries the test.
        "test": json.dumps(description).replace("</", "<\\/"),
    }
    template = _TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]].strip(), template)


def write_page(text: str, path: str | Path) -> None:
    """Write a page to a .html file; `InputError` for another ending, or if that is impossible."""
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{path} must end in .html, which is what is written.")
    with write_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def embed(text: str, *, title: str = "Listening test", height: int = 760) -> HTML:
    """A page inside a notebook or a page of the book, `height` pixels high until it knows better.

    It has a frame of its own, so that its keys, styles and sounds do not meddle with the rest.
    """
    from IPython.display import HTML

    return HTML(
        '<style>html[data-theme="dark"] .bd-content div.cell_output .text_html:has(.tinyamp-test)'
        "{background:none!important;padding:0}"
        ".tinyamp-test{display:block;width:100%;border:1px solid #8f8578;border-radius:.4rem}"
        "</style>"
        f'<iframe class="tinyamp-test" title="{html.escape(title, quote=True)}" '
        f'style="height:{int(height)}px" allow="autoplay" '
        f'srcdoc="{html.escape(text, quote=True)}"></iframe>'
    )
