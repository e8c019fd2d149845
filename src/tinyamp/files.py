"""Where the project's files are, and how they are written: beside the target, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class InputError(ValueError):
    """Something that the user gave cannot be used; the message says what, where and what to do.

    The command line prints it as one sentence and exits with a non-zero status.
    """


def data_folder() -> Path:
    """The folder that holds what ships with the project: circuits, excerpts, models.

    It is `TINYAMP_DATA` if that is set, `data/` beside `src/` in a checkout, or the copy inside
    the installed package. Raises `InputError` when none of them exists.
    """
    chosen = os.environ.get("TINYAMP_DATA")
    if chosen:
        if not Path(chosen).is_dir():
            raise InputError(f"TINYAMP_DATA names {chosen}, which is not a folder.")
        return Path(chosen)
    package = Path(__file__).resolve().parent
    candidates = (package.parents[1] / "data", package / "_data")
    for folder in candidates:
        if (folder / "circuits").is_dir():
            return folder
    raise InputError(
        "The data that ships with tinyamp was not found (looked in "
        + " and ".join(str(folder) for folder in candidates)
        + "). Install it from a checkout, or set TINYAMP_DATA to the repository's data folder."
    )


def made_folder() -> Path:
    """The folder for full data sets that are made or fetched; git ignores it.

    It is `TINYAMP_MADE` if that is set, else `made/` inside `data_folder()`. It need not exist.
    """
    chosen = os.environ.get("TINYAMP_MADE")
    return Path(chosen) if chosen else data_folder() / "made"


@contextmanager
def write_beside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it onto `path` when the block succeeds.

    A reader therefore sees the old file or the whole new one, never a part. When the block
    raises, the temporary file is removed. Raises `InputError` when the folder cannot be written.
    """
    path = Path(path)
    # The name is known before there is a file: Ctrl-C may come between any two of these lines.
    temporary = path.with_name(f".writing-{secrets.token_hex(8)}{path.suffix}")
    try:
        with _or_cannot_write(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(exist_ok=False)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # whoever wrote it may have made it the owner's only
        with _or_cannot_write(path):
            temporary.replace(path)
    finally:
        with suppress(OSError):  # it is gone, or its folder was never there
            temporary.unlink()


@contextmanager
def _or_cannot_write(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from error
