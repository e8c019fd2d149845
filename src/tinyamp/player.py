"""Sounds to compare: brought to one level, then played in labelled, coloured players."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from tinyamp.audio import SAMPLE_RATE
from tinyamp.files import InputError

if TYPE_CHECKING:
    from IPython.display import HTML


# At least 3:1 against white and against the dark page, and told apart with any colour vision:
# tests/test_show.py measures both.
COLOURS = {
    "dry": "#85858c",
    "target": "#235dee",
    "unpruned": "#ea6e1b",
    "pruned": "#3da25e",
    "sim-muff": "#b9439a",
    "sim-crunch": "#ad8d1f",
    "sim-lead": "#f0386b",
    "sim-metal": "#773df4",
}
OTHER_COLOURS = ("#ea6e1b", "#235dee", "#3da25e", "#b9439a", "#ad8d1f", "#85858c")
_PEAK = 0.99  # full scale less what the encoder may add
_SILENCE = 1e-7  # RMS; -140 dB
_MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
# An attribute of each player. One at a time: two sounds at once cannot be compared.
ONE_AT_A_TIME = "onplay=\"for(const a of document.querySelectorAll('audio'))if(a!==this)a.pause()\""
_CSS = """<style>
.tinyamp-players{margin:.25rem 0 1rem;max-width:46rem;font-family:system-ui,sans-serif}
.tinyamp-player{display:flex;flex-wrap:wrap;align-items:center;gap:.15rem .9rem;padding:.35rem 0}
.tinyamp-player>span{flex:1 1 9.5rem;border-left:.3rem solid;padding-left:.6rem;line-height:1.35;
font-size:.95rem;font-weight:600}
.tinyamp-player audio{flex:3 1 15rem;min-width:0;width:100%;height:2.5rem}
.tinyamp-player small{white-space:nowrap}
.tinyamp-players small{font-size:.8rem;font-weight:400;opacity:.75;line-height:1.4}
</style>"""


def colours(labels: Iterable[str]) -> list[str]:
    """A colour for each sound: by its name in COLOURS, or by its first word there, else another.

    "pruned", "Pruned, 88 %" and "sim-muff (gain 0.8)" all find theirs; what has no name there
    takes the first of OTHER_COLOURS that nothing beside it has.
    """
    found = {}
    for label in labels:
        words = label.lower().replace(",", " ").replace(":", " ").split()
        found[label] = next((COLOURS[n] for n in (label, *words[:1]) if n in COLOURS), None)
    free = [c for c in OTHER_COLOURS if c not in found.values()] or OTHER_COLOURS
    others = (free[k % len(free)] for k in range(len(found)))
    return [named or next(others) for named in found.values()]


def level_match(
    signals: Mapping[str, np.ndarray], reference_db: float = -20.0
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The signals, each (time,), brought to one RMS level, and the gain of each in dB.

    The level is `reference_db` relative to full scale, or less if a peak would otherwise clip:
    then all are lowered together. Silence stays silence, with a gain of 0 dB. Raises `InputError`
    for no signals, or for one that is empty, not one channel or not finite.
    """
    sounds = checked_signals(signals)
    rms = {label: math.sqrt(float(np.mean(x**2))) for label, x in sounds.items()}
    gains = {k: 10 ** (reference_db / 20) / rms[k] for k in sounds if rms[k] > _SILENCE}
    peak = max((gain * float(np.abs(sounds[k]).max()) for k, gain in gains.items()), default=0.0)
    common = min(1.0, _PEAK / peak) if peak > 0 else 1.0
    gains = {k: gains[k] * common if k in gains else 1.0 for k in sounds}
    matched = {label: (gains[label] * x).astype(np.float32) for label, x in sounds.items()}
    return matched, {label: 20 * math.log10(gain) for label, gain in gains.items()}


def players(
    signals: Mapping[str, np.ndarray],
    sample_rate: int = SAMPLE_RATE,
    *,
    match: bool = True,
    lossless: bool = False,
) -> HTML:
    """`players_html`, to be displayed in a notebook."""
    from IPython.display import HTML

    return HTML(players_html(signals, sample_rate, match=match, lossless=lossless))


def players_html(
    signals: Mapping[str, np.ndarray],
    sample_rate: int = SAMPLE_RATE,
    *,
    match: bool = True,
    lossless: bool = False,
) -> str:
    """One audio player a sound, labelled and coloured; the sounds travel inside the page.

    With `match` they play at one RMS level, and each row says by how many dB it was changed;
    without it they play as they are, and `InputError` is raised if one would clip. The sound is
    MP3 (19 kB a second), or 16-bit FLAC with `lossless` or for a sample rate that MP3 lacks.
    Raises `InputError` also for what `level_match` refuses.
    """
    sounds = checked_signals(signals)
    if match:
        played, gains = level_match(sounds)
        note = "All at the same RMS level; beside each name, by how much it was changed."
    else:
        played, gains = {k: x.astype(np.float32) for k, x in sounds.items()}, None
        note = "Played at their own levels."
        for label, x in played.items():
            if np.abs(x).max() > 1.0:
                raise InputError(
                    f'"{label}" peaks at {np.abs(x).max():.2f}, above full scale (1.0), and would '
                    "clip: pass match=True or lower it."
                )
    rows = []
    for (label, x), colour in zip(played.items(), colours(played), strict=True):
        change = (
            f" <small>{round(gains[label], 1) + 0.0:+.1f} dB</small>".replace("-", "−")
            if gains
            else ""
        )
        rows.append(
            f'<div class="tinyamp-player"><span style="border-color:{colour}">'
            f"{html.escape(label)}{change}</span>"
            f'<audio controls preload="metadata" aria-label="{html.escape(label, quote=True)}" '
            f'{ONE_AT_A_TIME} src="{_data_uri(x, sample_rate, lossless)}"></audio></div>'
        )
    return (
        f'{_CSS}<div class="tinyamp-players" role="group" aria-label="Sounds to compare">'
        f"{''.join(rows)}<small>{note}</small></div>"
    )


def checked_signals(signals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The signals as float64 (time,); a sentence for each thing that cannot be heard or drawn."""
    if not isinstance(signals, Mapping):
        raise InputError(
            "A dictionary {label: audio} was expected, but a "
            f"{type(signals).__name__} came: name each sound."
        )
    if not signals:
        raise InputError("At least one sound was expected, but the dictionary is empty.")
    return {str(label): _one(str(label), x) for label, x in signals.items()}


def _one(label: str, x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 1:
        raise InputError(
            f'"{label}" has the shape {x.shape}; one channel (time,) was expected: choose one, '
            "for example audio[:, 0]."
        )
    if not x.size:
        raise InputError(f'"{label}" is empty.')
    if not np.isfinite(x).all():
        raise InputError(f'"{label}" contains NaN or infinity.')
    return x


def _data_uri(x: np.ndarray, sample_rate: int, lossless: bool) -> str:
    """The sound as a data: address, in a format that every current browser decodes."""
    mp3 = not lossless and sample_rate in _MP3_RATES and "MP3" in soundfile.available_formats()
    buffer = io.BytesIO()
    if mp3:
        soundfile.write(
            buffer,
            x,
            sample_rate,
            format="MP3",
            subtype="MPEG_LAYER_III",
            bitrate_mode="CONSTANT",
            compression_level=0.7,
        )
    else:
        soundfile.write(buffer, x, sample_rate, format="FLAC", subtype="PCM_16")
    kind = "audio/mpeg" if mp3 else "audio/flac"
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
