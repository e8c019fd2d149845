"""Ratings of a listening test: what the page saves is read, checked, screened and written here.

A file is CSV with a row a rating, or JSON with the same rows. What cannot be trusted is refused as
a whole, with a sentence that says which file and row: a test with gaps cannot be averaged fairly.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tinyamp.files import InputError, write_beside
from tinyamp.listening import CONDITIONS

SOURCES = ("listener", "simulated")
SLOTS = "ABCD"
FORMAT = "tinyamp-ratings"
LIMIT = 10_000_000  # bytes; a listener's file has some 10 000
REFERENCE_MINIMUM = 90.0  # Section V-D: a hidden reference below this is a miss …
MISS_SHARE = 0.15  # … and who misses in more than this share of the trials is removed


@dataclass(frozen=True)
class Rating:
    """One slider of one trial of one listener."""

    test: str  # which test: a number drawn from its sounds
    source: str  # "listener", or "simulated": not by a human being
    listener: str
    seed: int  # of the order in which this listener heard the test
    device: str
    passage: str
    instrument: str
    position: int  # of the trial in this listener's order, from 1
    slot: str  # of the sound in the trial, "A" to "D"
    condition: str
    rating: float  # 0 to 100


COLUMNS = tuple(field.name for field in fields(Rating))


def _number(value: object, kind: type, low: float, high: float, name: str) -> float:
    """A number within its range; raises `ValueError` with the reason."""
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(str(value))
        whole = number == int(number)
    except (ValueError, OverflowError):
        raise ValueError(f"{name} should be a number, but is {str(value)[:40]!r}") from None
    if not (math.isfinite(number) and low <= number <= high) or (kind is int and not whole):
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"{name} should be {what} from {low:g} to {high:g}, but is {value}")
    return kind(number)


def _rating(row: dict) -> Rating:
    """A checked `Rating` from text or JSON values; raises `ValueError` with the reason."""
    missing = [name for name in COLUMNS if row.get(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    texts = {n: row[n] for n in ("test", "source", "listener", "device", "passage", "instrument")}
    for name, text in texts.items():
        good = isinstance(text, str) and text.strip() and text.isprintable() and len(text) <= 80
        if not good:
            raise ValueError(f"{name} should be a short text, but is {str(text)[:40]!r}")
    for name, known in (("source", SOURCES), ("condition", CONDITIONS), ("slot", list(SLOTS))):
        if row[name] not in known:
            raise ValueError(f"{name} should be {', '.join(known)}, but is {str(row[name])[:40]!r}")
    return Rating(
        **texts,
        seed=_number(row["seed"], int, 0, 2**32 - 1, "seed"),
        position=_number(row["position"], int, 1, 1000, "position"),
        slot=row["slot"],
        condition=row["condition"],
        rating=_number(row["rating"], float, 0, 100, "rating"),
    )


def _rows(path: Path) -> list[dict]:
    """The rows of a file as dictionaries, unchecked."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the rating files in it.")
    try:
        if path.stat().st_size > LIMIT:
            raise InputError(f"{path} is far too large for a file of ratings.")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check its name and folder.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file; the test page saves CSV or JSON.") from None
    if text.lstrip().startswith(("{", "[")):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not whole JSON: {str(error)[:80]}.") from None
        rows = document.get("ratings") if isinstance(document, dict) else None
        named = isinstance(document, dict) and document.get("format") == FORMAT
        if not named or not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise InputError(f"{path} is JSON, but not a file of ratings that the test page saved.")
        return rows
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        head = reader.fieldnames or []
        absent = [name for name in COLUMNS if name not in head]
        if absent:
            raise InputError(
                f"{path} is not a file of ratings: its first line should name the columns "
                f"{', '.join(COLUMNS)}; {', '.join(absent)} missing."
            )
        return list(reader)
    except csv.Error as error:
        raise InputError(f"{path} is not whole CSV: {error}.") from None


def read_ratings(*paths: str | Path) -> list[Rating]:
    """All ratings in files that the test page saved, checked one by one and as a whole.

    Raises `InputError` for a file that is none, a row that is not valid, and for what `check`
    refuses.
    """
    ratings = []
    for path in map(Path, paths):
        rows = _rows(path)
        if not rows:
            raise InputError(f"{path} holds no ratings.")
        for number, row in enumerate(rows, 1):
            try:
                ratings.append(_rating(row))
            except ValueError as error:
                raise InputError(f"{path}, rating {number}: {error}.") from None
    check(ratings)
    return ratings


def check(ratings: Sequence[Rating]) -> None:
    """Raise `InputError` unless the ratings make one whole test.

    Every listener has rated each condition of a trial once, and all trials of a device that others
    have; a device is in one test only; ratings by listeners and simulated ones do not mix.
    """
    if not ratings:
        raise InputError("There are no ratings.")
    if len({r.source for r in ratings}) > 1:
        raise InputError("Some ratings are simulated and some are not: analyse them apart.")
    tests: dict[str, set[str]] = {}
    passages: dict[str, set[str]] = {}
    for r in ratings:
        tests.setdefault(r.device, set()).add(r.test)
        passages.setdefault(r.device, set()).add(r.passage)
    for device, found in tests.items():
        if len(found) > 1:
            raise InputError(
                f"The ratings of {device} are of different tests ({', '.join(sorted(found))}), "
                "with other sounds: analyse them apart."
            )
    counted = Counter((r.listener, r.device, r.passage, r.condition) for r in ratings)
    for (listener, device, passage, condition), count in counted.items():
        if count > 1:
            raise InputError(
                f"{listener} has rated {condition} of {device}, {passage}, {count} times: is a "
                "file given twice, or did two listeners use one name?"
            )
    for listener, device in sorted({(r.listener, r.device) for r in ratings}):
        wanted = [(p, c) for p in sorted(passages[device]) for c in CONDITIONS]
        lacking = [(p, c) for p, c in wanted if (listener, device, p, c) not in counted]
        if lacking:
            raise InputError(
                f"{listener} has not rated {lacking[0][1]} of {device}, {lacking[0][0]} "
                f"({len(lacking)} ratings missing): leave that file out, or have it completed."
            )


def csv_text(ratings: Iterable[Rating]) -> str:
    """The ratings as CSV, with a line of column names."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(r) | {"rating": f"{r.rating:g}"} for r in ratings)
    return out.getvalue()


def json_text(ratings: Iterable[Rating]) -> str:
    """The ratings as JSON."""
    return json.dumps({"format": FORMAT, "ratings": [asdict(r) for r in ratings]}, indent=1) + "\n"


def write_ratings(ratings: Sequence[Rating], path: str | Path) -> None:
    """Write ratings as .csv or .json, by the ending of `path`; `InputError` for another ending."""
    path = Path(path)
    writers = {".csv": csv_text, ".json": json_text}
    if path.suffix.lower() not in writers:
        raise InputError(f"{path} must end in .csv or .json, which is what is written.")
    text = writers[path.suffix.lower()](ratings)
    with write_beside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def missed(ratings: Sequence[Rating]) -> dict[str, tuple[int, int]]:
    """For each listener, in how many trials the hidden reference was under 90, and of how many."""
    found: dict[str, tuple[int, int]] = {}
    for r in ratings:
        if r.condition == "reference":
            misses, trials = found.get(r.listener, (0, 0))
            found[r.listener] = misses + (r.rating < REFERENCE_MINIMUM), trials + 1
    return found


def post_screen(ratings: Sequence[Rating]) -> tuple[list[Rating], list[str]]:
    """The ratings of the listeners who remain, and the names of those who are removed.

    Removed is who gave the hidden reference less than 90 in more than 15 % of the trials (V-D).
    """
    found = missed(ratings)
    removed = [name for name, (misses, trials) in found.items() if misses > MISS_SHARE * trials]
    return [r for r in ratings if r.listener not in removed], sorted(removed)
