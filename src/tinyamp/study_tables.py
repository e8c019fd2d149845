"""How far the study is, and Table I as it stands: read from the results, nothing typed in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from tinyamp.files import InputError, write_beside
from tinyamp.paper import TableRow
from tinyamp.study import UNITS, Job, Row, StudySettings, jobs_of
from tinyamp.study_bench import Workshop
from tinyamp.study_record import locked, sha256, write_json
from tinyamp.study_speed import speed_of

MANIFEST = "manifest.json"
STATES = ("done", "running", "stale", "waiting")


def state_of(job: Job, shop: Workshop) -> str:
    """ "done", "running", "stale" (a result of other settings) or "waiting"."""
    if shop.result(job.name) is not None:
        return "done"
    lock = shop.lock(job)
    if lock.is_file():
        with locked(lock, wait=False) as free:
            if not free:
                return "running"
    return "stale" if (shop.results / job.file).is_file() else "waiting"


def progress_of(job: Job, shop: Workshop) -> str:
    """Where a running job is, in a few words, from its newest checkpoint; empty if unknown."""
    folder = shop.run_folder(job.row)
    files = [*folder.glob("**/history.json"), *folder.glob("search/search.json")]
    if not files:
        return ""
    newest = max(files, key=lambda file: file.stat().st_mtime)
    try:
        values = json.loads(newest.read_text())
    except ValueError:
        return ""
    if newest.name == "search.json":
        return f"stage {len(values['stages'])} of {values['settings']['iterations']}"
    return f"{newest.parent.name}: epoch {len(values['epochs'])} of {values['train']['epochs']}"


def table_row(row: Row, shop: Workshop) -> TableRow:
    """What is known of `row` now."""
    found = {}
    for kind, place in (("search", row.unpruned), ("pruned", row), ("one-shot", row)):
        result = shop.result(f"{place.name}/{kind}")
        found[kind] = result["result"] if result else None
    values: dict[str, object] = {}
    if (searched := found["search"]) is not None:
        values |= {name: searched["unpruned"][name] for name in ("parameters", "test_esr")}
    if (pruned := found["pruned"]) is not None:
        values |= {name: pruned[name] for name in ("units", "sparsity", "stage")}
        values["pruned_parameters"] = pruned["parameters"]
        values["pruned_test_esr"] = pruned["test_esr"]
    if (shot := found["one-shot"]) is not None:
        values["one_shot_test_esr"] = shot["test_esr"]
    values["rtf"] = speed_of(shop, row.unpruned, "unpruned")
    values["pruned_rtf"] = speed_of(shop, row, "pruned")
    return TableRow(row.device, row.size, row.seed, **values)


def table_rows(shop: Workshop) -> list[TableRow]:
    """Table I: every device and size, with the first seed."""
    study = shop.study
    rows = [Row(device, size, study.seeds[0]) for device in study.devices for size in study.sizes]
    return [table_row(row, shop) for row in rows]


def unit_rows(shop: Workshop) -> list[TableRow]:
    """The same for the largest size, where whole units are pruned: not in the paper."""
    study = shop.study
    rows = [Row(device, study.sizes[-1], study.seeds[0], UNITS) for device in study.devices]
    return [table_row(row, shop) for row in rows]


def format_table(rows: Sequence[TableRow]) -> list[str]:
    """The lines of Table I in the paper's form; a row that is not finished says so."""
    lines = [
        f"{'device':<11} {'hidden size':>12} {'parameters':>15} {'pruned':>8} "
        f"{'test loss [%]':>17} {'ratio':>6} {'one-shot':>9} {'real-time factor':>18}",
    ]
    for row in rows:
        head = f"{row.device:<11} {row.size:>5}"
        if row.test_esr is None:
            lines.append(f"{head}   not started or not finished")
            continue
        before = f"{100 * row.test_esr:.3f}"
        if not row.finished:
            lines.append(f"{head} {'':>6} {row.parameters:>7} {'':>16} {before:>9}   not finished")
            continue
        speed = "-"
        if row.rtf is not None and row.pruned_rtf is not None:
            speed = f"{row.rtf:.4f} -> {row.pruned_rtf:.4f}"
        shot = "-" if row.one_shot_test_esr is None else f"{100 * row.one_shot_test_esr:.3f}"
        lines.append(
            f"{head} -> {row.units:>3} {row.parameters:>7} -> {row.pruned_parameters:>5}"
            f"{100 * row.sparsity:>7.1f} % {before:>7} -> {100 * row.pruned_test_esr:>6.3f}"
            f"{row.ratio:>7.2f} {shot:>9} {speed:>18}"
        )
    return lines


def markdown_table(rows: Sequence[TableRow]) -> list[str]:
    """Table I as the lines of a Markdown table, for the README; "–" is not known yet."""
    lines = [
        "| device | units | weights | pruned | test error | real-time factor |",
        "|---|---|---|---|---|---|",
    ]

    def change(before: float | None, after: float | None, text: str) -> str:
        return " → ".join("–" if n is None else format(n, text) for n in (before, after))

    for row in rows:
        sparsity = "–" if row.sparsity is None else f"{100 * row.sparsity:.1f} %"
        cells = (
            row.device,
            change(row.size, row.units, "d"),
            change(row.parameters, row.pruned_parameters, ",d").replace(",", " "),
            sparsity,
            change(row.test_esr, row.pruned_test_esr, ".3%").replace("%", " %"),
            change(row.rtf, row.pruned_rtf, ".4f"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def table_csv(rows: Sequence[TableRow]) -> str:
    """Table I as CSV, with empty fields where a row is not finished."""
    text = io.StringIO()
    names = list(TableRow.__dataclass_fields__)
    writer = csv.DictWriter(text, [*names, "ratio"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: getattr(row, name) for name in [*names, "ratio"]})
    return text.getvalue()


def publish(shop: Workshop) -> int:
    """Write `table.csv`, `units.csv` and `manifest.json`, checksums of all; the number of files.

    The manifest names the jobs that are not finished. Raises `InputError` for results of one
    device from different recordings.
    """
    demand_one_data_set(shop)
    for name, rows in (("table.csv", table_rows(shop)), ("units.csv", unit_rows(shop))):
        with write_beside(shop.results / name) as temporary:
            temporary.write_text(table_csv(rows))
    files = (file for file in shop.results.rglob("*") if file.is_file())
    sums = {
        file.relative_to(shop.results).as_posix(): sha256(file)
        for file in sorted(files)
        if file.name != MANIFEST and not file.name.startswith(".")
    }
    missing = [job.name for job in jobs_of(shop.study) if shop.result(job.name) is None]
    manifest = {"digest": shop.study.digest(), "missing": missing, "files": sums}
    write_json(shop.results / MANIFEST, manifest)
    return len(sums)


def demand_one_data_set(shop: Workshop) -> None:
    """Raise `InputError` when results of one device come from different recordings."""
    seen: dict[str, tuple[dict, str]] = {}
    for job in jobs_of(shop.study):
        found = shop.result(job.name)
        if found is None:
            continue
        data = found["provenance"]["data"]
        first, name = seen.setdefault(job.row.device, (data, job.name))
        if data != first:
            raise InputError(
                f"{job.name} was made from other recordings of {job.row.device} than {name}; "
                "make the data set again, delete the results of one of the two, and run."
            )


def study_jobs(study: StudySettings) -> dict[Row, list[Job]]:
    """The jobs of each row, rows in the order in which they begin."""
    rows: dict[Row, list[Job]] = {}
    for job in jobs_of(study):
        rows.setdefault(job.row, []).append(job)
    return rows
