"""The book's widgets as HTML for a notebook's output: a listening bench and a live amp.

They run in the built book, where `make book` has put what they play (see `tinyamp.web_assets`) and
says so in TINYAMP_PLAY. Inside each are players: what is heard where scripts, WebAssembly or a
server are missing. In Jupyter and Colab the bench is a row of players, computed on the spot.
"""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING

import numpy as np

from tinyamp.audio import SAMPLE_RATE
from tinyamp.data import SIMULATED, load_excerpt
from tinyamp.files import InputError
from tinyamp.losses import esr
from tinyamp.model import process
from tinyamp.player import ONE_AT_A_TIME, players
from tinyamp.web_stages import PageStage, page_device, read_manifest

if TYPE_CHECKING:
    from IPython.display import HTML

WHERE = "TINYAMP_PLAY"  # names the folder of assets while the book is built
ASSETS = "../_static/play/"  # from a page of the book
SECONDS = 4.0
NO_SCRIPT = "This page needs JavaScript for what should be here."


def bench(device: str = SIMULATED[0], loop: str = "phrase") -> HTML:
    """The listening bench, which begins with `device` and `loop`.

    Outside the built book: players of the four sounds, on four seconds of the test excerpt. Raises
    `InputError` for a device or loop that there is not, or when the assets are damaged.
    """
    from IPython.display import HTML

    manifest = _manifest()
    if manifest is None:
        return players(_sounds(device))
    _demand(device, [entry["id"] for entry in manifest["devices"]], "device")
    _demand(loop, [entry["id"] for entry in manifest["loops"]], "loop")
    return HTML(
        f'<tinyamp-bench data-device="{html.escape(device)}" data-loop="{html.escape(loop)}">'
        f'<p class="ta-why">{NO_SCRIPT} Below are recordings of what it plays.</p>'
        f"{_fallback(manifest)}</tinyamp-bench>"
    )


def live(device: str = SIMULATED[0], loop: str = "phrase") -> HTML:
    """The live amp, which begins with `device` and `loop`; outside the built book, a sentence.

    Raises `InputError` as `bench` does.
    """
    from IPython.display import HTML

    manifest = _manifest()
    if manifest is None:
        return HTML(
            "<p>In the built book (<code>make book</code>, then <code>make serve</code>) a live "
            "amp is here: the compiled networks, played by the browser.</p>"
        )
    _demand(device, [entry["id"] for entry in manifest["devices"]], "device")
    _demand(loop, [entry["id"] for entry in manifest["loops"]], "loop")
    return HTML(
        f'<tinyamp-live data-device="{html.escape(device)}" data-loop="{html.escape(loop)}">'
        f'<p class="ta-why">{NO_SCRIPT} It is a live amp.</p></tinyamp-live>'
    )


def _manifest() -> dict | None:
    """The manifest of the book that is being built, or None outside a build."""
    folder = os.environ.get(WHERE)
    return read_manifest(folder) if folder else None


def _demand(name: str, known: list[str], what: str) -> None:
    if name not in known:
        raise InputError(f"There is no {what} {name!r} to play; choose from {', '.join(known)}.")


def _fallback(manifest: dict) -> str:
    """Players of everything that was rendered, folded by device; nothing loads before it plays."""
    parts = []
    for device in manifest["devices"]:
        rows = []
        for loop in manifest["loops"]:
            sounds = {"dry": loop["dry"], "target": device["targets"][loop["id"]]}
            sounds |= device["rendered"][loop["id"]]
            for name, sound in sounds.items():
                label = html.escape(f"{loop['title']}: {name}", quote=True)
                rows.append(
                    f'<div class="ta-player ta-{name}"><span>{label}</span><audio controls '
                    f'preload="none" aria-label="{html.escape(device["id"])}, {label}" '
                    f'{ONE_AT_A_TIME} src="{ASSETS}{sound["file"]}"></audio></div>'
                )
        title = html.escape(device["title"])
        parts.append(f"<details><summary>{title}</summary>{''.join(rows)}</details>")
    return "".join(parts)


def _sounds(device: str) -> dict[str, np.ndarray]:
    """The four sounds of a device on the test excerpt, with the error of each model."""
    _demand(device, list(SIMULATED), "device")
    recording = load_excerpt(device, "test", seconds=SECONDS)
    found = page_device(device)
    sounds = {"dry": recording.input, f"target: {device}": recording.target}

    def add(name: str, stage: PageStage) -> None:
        y = process(stage.model, recording.input)
        sounds[f"{name}, ESR {100 * esr(recording.target, y):.1f} %"] = y

    add("unpruned", found.stages[0])
    for stage in found.stages[1:]:
        if stage.number == found.pruned:
            units = f"{stage.units} units, {stage.active} weights"
            add(f"pruned: {100 * stage.sparsity:.1f} % gone, {units}", stage)
    assert all(len(sound) == round(SECONDS * SAMPLE_RATE) for sound in sounds.values())
    return sounds
