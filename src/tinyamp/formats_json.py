"""Strict JSON, for model files that come from elsewhere: nothing is believed before it is checked.

Every check raises `InputError` with what was expected and what was found; the caller puts the
file's name in front. Arrays are made of what the file holds, never of a size that it claims.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from tinyamp.files import InputError, write_beside
from tinyamp.model import MAX_HIDDEN_SIZE

MAX_BYTES = 2**28  # room for 2000 hidden units; what plays in real time needs a thousandth
MAX_METADATA = 1_000_000  # characters
MAX_DEPTH = 32
MAX_RATE = 1_000_000  # Hz

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = _shown.maxlong = 40
_shown.maxdict = _shown.maxlist = 3
_shown.maxlevel = 2


def show(value: Any) -> str:
    """A value from a file as a sentence can hold it: short, on one line, printable."""
    return _shown.repr(value).encode("ascii", "backslashreplace").decode()


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InputError(f"holds {text[:40]}, which is beyond any floating-point number.")
    return value


def _constant(text: str) -> float:
    raise InputError(f"holds {text}; expected finite numbers only.")


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `InputError` if that is not what the file holds."""
    if path.is_dir():
        raise InputError("this is a folder; name the model file in it.")
    if not path.exists():
        raise InputError("there is no such file.")
    if not path.is_file():
        raise InputError("expected a regular file.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"is larger than {MAX_BYTES // 2**20} MiB; expected a small model.")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}.") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"is not UTF-8 text (byte {error.start}); expected a JSON file."
        ) from error
    try:
        document = json.loads(text, parse_float=_number, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise InputError(
            f"is not whole JSON ({error.msg} at line {error.lineno}, column {error.colno}); "
            "it is damaged or cut short."
        ) from error
    except RecursionError:
        raise InputError("is nested too deeply; expected a model.") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError("holds a whole number of thousands of digits.") from error
    if not isinstance(document, dict):
        raise InputError(f"expected a JSON object, but it holds {show(document)}.")
    return document


def write_document(document: dict[str, Any], path: Path) -> None:
    """Write JSON beside `path`, then rename it. Raises `InputError` when that cannot be done."""
    try:
        text = json.dumps(document, allow_nan=False)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path} was not written: the model's settings do not fit into JSON ({error})."
        ) from error
    with write_beside(path) as temporary:
        try:
            temporary.write_text(text + "\n", encoding="utf-8")
        except OSError as error:  # a full disk, for example
            raise InputError(f"Cannot write {path}: {error.strerror or error}.") from error


def member(document: dict[str, Any], name: str, kind: type, what: str) -> Any:
    """`document[name]`, which must be there and a `kind`; `what` says so in words."""
    if name not in document:
        raise InputError(f"has no {name}; expected {what}.")
    value = document[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{name} must be {what}, but is {show(value)}.")
    return value


def hidden_size_of(document: dict[str, Any]) -> int:
    """The member "hidden_size", within what `AmpLSTM` can be."""
    size = member(document, "hidden_size", int, "a whole number")
    if not 1 <= size <= MAX_HIDDEN_SIZE:
        raise InputError(f"hidden_size must be from 1 to {MAX_HIDDEN_SIZE}, but is {show(size)}.")
    return size


def must_be(document: dict[str, Any], name: str, expected: Any, *, absent: bool = False) -> None:
    """Demand that a member is `expected`, and of its type (True is not 1); or `absent`, if so."""
    if name not in document:
        if not absent:
            raise InputError(f"has no {name}; expected {show(expected)}.")
        return
    value = document[name]
    if type(value) is not type(expected) or value != expected:
        raise InputError(f"{name} must be {show(expected)}, but is {show(value)}.")


def array(value: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Nested lists of numbers as float32 of exactly this `shape`, which is (n,) or (rows, n)."""
    rows = f"{shape[0]} rows of " if shape[1:] else ""
    expected = f"{name} must be {rows}{shape[-1]} number{'s' if shape[-1] > 1 else ''}"
    if not isinstance(value, list):
        raise InputError(f"{expected}, but is {show(value)}.")
    if len(value) != shape[0]:
        raise InputError(f"{expected}, but has {len(value)} {'rows' if shape[1:] else 'of them'}.")
    if len(shape) == 2:
        for n, row in enumerate(value):
            if not isinstance(row, list) or len(row) != shape[1]:
                found = f"{len(row)} numbers" if isinstance(row, list) else show(row)
                raise InputError(f"{expected}, but its row {n} is {found}.")
    flat = [v for row in value for v in row] if len(shape) == 2 else value
    if not set(map(type, flat)) <= {int, float}:  # bool is not among them
        wrong = next(v for v in flat if type(v) not in (int, float))
        raise InputError(f"{expected}, but holds {show(wrong)}.")
    try:
        with np.errstate(over="ignore"):
            numbers = np.array(flat, dtype=np.float64).astype(np.float32)
    except OverflowError:
        numbers = np.array([np.inf])
    if not np.isfinite(numbers).all():
        raise InputError(f"{name} holds a number that is too large for float32.")
    return numbers.reshape(shape)


def lists(numbers: np.ndarray) -> list:
    """float32 numbers as nested lists whose JSON is short: as many digits as float32 needs."""
    if numbers.ndim > 1:
        return [lists(row) for row in numbers]
    return [float(str(v)) for v in numbers.astype(np.float32)]


def rate_of(*values: Any) -> int | None:
    """The first of `values` that is not None, as a sample rate in Hz; None if all are.

    Real files have it as 48000, 48000.0 or "48000".
    """
    value = next((value for value in values if value is not None), None)
    if value is None:
        return None
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,7}", value) else value
    if type(number) not in (int, float) or not 1 <= number <= MAX_RATE or number % 1:
        raise InputError(
            f"the sample rate must be a whole number of Hz up to {MAX_RATE}, but is {show(value)}."
        )
    return int(number)


def metadata_of(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of the member "metadata", {} if it is absent or null; not too deep, not too long."""
    metadata = document.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise InputError(f"metadata must be an object, but is {show(metadata)}.")
    level: list[Any] = [metadata]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise InputError(f"metadata is nested more than {MAX_DEPTH} deep.")
    if len(json.dumps(metadata)) > MAX_METADATA:
        raise InputError(f"metadata is longer than {MAX_METADATA} characters.")
    return dict(metadata)
