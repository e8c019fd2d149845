"""The page that `tinyamp fit` leaves behind: what was found, lost and gained, to read and to hear.

One HTML file that needs nothing else: drawings are SVG, sounds travel inside. All numbers come
from the `Fit`, the checks and the files.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from tinyamp import __version__
from tinyamp.chart import CSS as CHART_CSS
from tinyamp.fit import Fit
from tinyamp.fit_check import Check
from tinyamp.fit_export import File
from tinyamp.fit_pictures import loudest, pictures
from tinyamp.model import one_thread, process
from tinyamp.player import players_html

HEARD = 8.0  # seconds of the test part that the players hold
CSS = """\
:root{color-scheme:light dark;--page:#fffdf9;--ink:#2a2623;--muted:#675f58;--line:#e3dacd;
--accent:#98421f;--warn:#8a4b00;--card:#f8f3ea}
@media(prefers-color-scheme:dark){:root{--page:#161412;--ink:#e9e3db;--muted:#b0a69b;
--line:#3d3630;--accent:#f0a070;--warn:#f0b357;--card:#221e1b}}
body{margin:0 auto;padding:1.2rem 1rem 4rem;max-width:48rem;background:var(--page);
color:var(--ink);font:17px/1.55 Charter,Georgia,serif}
h1{font-size:1.9rem;line-height:1.2;margin:.6rem 0}
h2{font-size:1.3rem;margin:2.2rem 0 .5rem}
table{border-collapse:collapse;width:100%;font:.92rem/1.4 system-ui,sans-serif}
th,td{padding:.4rem .8rem .4rem 0;border-bottom:1px solid var(--line);text-align:left;
vertical-align:top}
th{font-weight:600}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}
.kind{white-space:nowrap}
.mended{color:var(--accent);font-weight:600}.warning{color:var(--warn);font-weight:600}
.muted,figcaption,footer{color:var(--muted);font-size:.92rem}
figure{margin:1rem 0 1.6rem}
code{font-size:.9em;overflow-wrap:anywhere}
.lead{font-size:1.1rem;background:var(--card);padding:.8rem 1rem;border-radius:.4rem}
dl{margin:0}dt{font:600 1rem system-ui,sans-serif;margin-top:.9rem;overflow-wrap:anywhere}
dd{margin:0 0 .3rem}"""
WORDS = {"good": "good", "mended": "mended", "warning": "look at this"}


@one_thread()
def report(fit: Fit, checks: Sequence[Check], files: Sequence[File], *, machine: str) -> str:
    """The whole page, as the text of an HTML file; `machine` is what the speeds were measured on.

    Raises `InputError` when the sounds cannot be played.
    """
    start = loudest(fit.parts[2].target, round(HEARD * fit.pruned_model.sample_rate))
    part = slice(start, start + round(HEARD * fit.pruned_model.sample_rate))
    outputs = {
        "target": fit.parts[2].target,
        "unpruned": process(fit.unpruned_model, fit.parts[2].input),
        "pruned": process(fit.pruned_model, fit.parts[2].input),
    }
    sounds = {"dry": fit.parts[2].input, **outputs}
    name = html.escape(fit.name)
    heard = players_html({k: x[part] for k, x in sounds.items()}, fit.pruned_model.sample_rate)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{name}: a small model</title>",
            f"<style>\n{CSS}\n{CHART_CSS}\n</style>\n</head>\n<body>\n<main>",
            f"<h1>{name}: a small model</h1>",
            f'<p class="lead">{verdict(fit)}</p>',
            "<h2>Before and after</h2>",
            comparison(fit, machine),
            "<h2>Listen</h2>",
            "<p>From the test part of your recording, which neither model has heard in training. "
            "If you can tell <em>target</em> and <em>pruned</em> apart, say what differs: that is "
            "what was lost.</p>",
            heard,
            "<h2>Look</h2>",
            pictures(fit, outputs),
            "<h2>Your recording</h2>",
            _checks(checks),
            f"<p>{_split(fit)}</p>",
            "<h2>The files, and what to do with each</h2>",
            _files(files),
            "<h2>How it was made</h2>",
            _how(fit),
            f"</main>\n<footer><p>Made by tinyamp {__version__}.</p></footer>\n</body>\n</html>\n",
        ]
    )


def verdict(fit: Fit) -> str:
    """What was lost and what was gained, in a few sentences."""
    before, after = fit.unpruned, fit.pruned
    share = 1 - after.parameters / before.parameters
    text = (
        f"Of {before.parameters} parameters {after.parameters} are left, {share:.0%} fewer, and "
        f"{after.hidden_size} of {before.hidden_size} hidden units. The error on the test part was "
        f"{before.test_esr:.2%} and is {after.test_esr:.2%}. The model plays "
        f"{1 / after.rtf:.0f} times faster than real time here, {fit.times_faster:.2f} times the "
        "speed of the unpruned one."
    )
    if fit.tried[fit.stage] > fit.limit:
        text += (
            f" No stage that was tried is within the limit of {fit.limit:.2%} on the validation "
            "part: this is the best of them. A longer training or more units may help."
        )
    if before.validation_esr > 0.1:
        text += " The unpruned model is a poor one already: look at the checks below."
    return text


def _row(cells: Sequence[str], *, head: bool = False) -> str:
    first, *others = cells
    tag, scope = ("th", "col") if head else ("td", "row")
    numbers = "".join(f'<{tag} class="number">{cell}</{tag}>' for cell in others)
    return f'<tr><th scope="{scope}">{first}</th>{numbers}</tr>'


def comparison(fit: Fit, machine: str) -> str:
    """The table of the two models, side by side."""
    sides = fit.unpruned, fit.pruned
    rows = [
        ("Error (ESR), test part", [f"{s.test_esr:.2%}" for s in sides]),
        ("Error (ESR), validation part", [f"{s.validation_esr:.2%}" for s in sides]),
        ("Parameters of the LSTM layer", [str(s.parameters) for s in sides]),
        ("Hidden units", [str(s.hidden_size) for s in sides]),
        ("Real-time factor", [f"{s.rtf:.5f}" for s in sides]),
        ("Times faster than real time", [f"{1 / s.rtf:.0f}" for s in sides]),
    ]
    body = "".join(_row([name, *cells]) for name, cells in rows)
    engines = "; ".join(
        f"{name}: {html.escape(side.engine)}"
        for name, side in zip(("unpruned", "pruned"), sides, strict=True)
    )
    head = _row(["the model", "unpruned", "pruned"], head=True)
    return (
        f'<div class="scroll"><table>{head}{body}</table>'
        '</div><p class="muted">The error is the energy of the difference to your recording over '
        "the energy of the recording. The real-time factor is computing time over playing time, "
        f"measured side by side on one thread of {html.escape(machine)} ({engines}).</p>"
    )


def _checks(checks: Sequence[Check]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(c.name)}</th><td>{html.escape(c.found)}</td>'
        f'<td class="kind {c.kind}">{WORDS[c.kind]}</td></tr>'
        for c in checks
    )
    return f'<div class="scroll"><table>{rows}</table></div>'


def _split(fit: Fit) -> str:
    train, validation, test = (part.seconds for part in fit.parts)
    return (
        f"It was split by time: the first {train:.1f} s to train on, the next {validation:.1f} s "
        f"to choose by, the last {test:.1f} s for the test, which had no say in anything."
    )


def _files(files: Sequence[File]) -> str:
    entries = []
    for file in files:
        about = f"{file.title}, {file.units} units, {file.bytes / 1000:.0f} kB."
        if file.error is not None:
            exact = f"to within {file.error:.1e} of full scale" if file.error else "exactly"
            about += f" Plays like the pruned model, {exact}."
        entries.append(
            f"<dt><code>{html.escape(file.name)}</code></dt>"
            f"<dd>{html.escape(' '.join([file.use, file.note]).strip())}<br>"
            f'<span class="muted">{html.escape(about)}</span></dd>'
        )
    return (
        f"<dl>{''.join(entries)}</dl><p class='muted'><code>fit.json</code> holds the numbers of "
        "this page. The folder <code>fit-work</code> holds checkpoints; it can be deleted.</p>"
    )


def _how(fit: Fit) -> str:
    settings, full = fit.settings, fit.settings.search.full
    tried = ", ".join(f"{number} ({error:.2%})" for number, error in sorted(fit.tried.items()))
    text = (
        f"A model of {settings.hidden_size} units was trained for {full.epochs} epochs and pruned "
        f"in {len(fit.found.stages) - 1} steps of {settings.search.fraction:.0%} of what was left"
        f"{', in whole units' * (settings.search.score == 'unit')}. "
        f"Retrained for {settings.retrain.epochs} epochs were the stages {tried}, with the "
        f"validation error in brackets; the limit was {fit.limit:.2%}, and stage {fit.stage} was "
        f"taken, {fit.sparsity:.1%} pruned. Hidden units that pruning had cut off were removed. "
        f"That took {fit.seconds / 60:.1f} minutes, without what an earlier start had done."
    )
    if fit.found.collapse:
        text += " " + html.escape(fit.found.collapse)
    return f"<p>{text}</p>"
