"""Fetch the authors' recordings (Section IV-A: HT-1 and Big Muff), verified file by file.

`pooch` puts each download in place in one step; what it is given here is a downloader that goes on
where a broken transfer stopped, and that checks the id under which git knows the file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
import urllib3
from tqdm.std import tqdm

from tinyamp.files import InputError, made_folder

BASE_URL = "https://raw.githubusercontent.com/dsuedholt/PrunedGuitarVA/main/Data"
REMOTE_SPLITS = {"train": "train", "validation": "val", "test": "test"}
BLOB_IDS = {
    "ht1": {
        "train-input": "565629dc09093ed9b09fad19084f928b55c0ca17",
        "train-target": "f058f3ce7e2f82ed4c14a0d29f560ed74e3eb291",
        "validation-input": "fe6df19bb3d1eb38c8892354f9cf0badac87a40d",
        "validation-target": "5abfc00cbfeb2469f689de7d29750edeeecb8fab",
        "test-input": "729a675a78409f303ff10b36db58c766094a9d66",
        "test-target": "d5d67e502c43176851ccfb09b241f027c96b8132",
    },
    "muff": {
        "train-input": "272c05ad1ec6badf8d990c07cc354b76da564c23",
        "train-target": "422a76119ac0f93d65e187eacdcb83d6d43cc461",
        "validation-input": "16edb82d5c709b2428cc8de816279db0cf1a7e31",
        "validation-target": "759017ecc6794a8ce566e067987afe7e1fdffe66",
        "test-input": "eb6ccafe243c70e75c43fc5b5b68f751b7792ad4",
        "test-target": "b0ff09d26aa118a2f6896b75df9d6f4eb75761fe",
    },
}
ATTEMPTS = 5
TIMEOUT = (10.0, 30.0)  # seconds: to connect, and between two pieces of a transfer
RETRY_STATUS = (408, 425, 429, 500, 502, 503, 504)


def blob_id(path: str | Path) -> str:
    """The id that git gives to a file's content: SHA-1 of "blob <size>\\0" and the content."""
    path = Path(path)
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


class _Broken(Exception):
    """A transfer failed in a way that may pass."""


@dataclass
class ResumingDownloader:
    """A downloader for `pooch` that resumes, retries with growing pauses, and verifies.

    What has arrived stands in `part` until the whole file has the git blob id `expected`. `pause`
    is the first pause in seconds; each next one is twice as long.
    """

    part: Path
    expected: str
    attempts: int = ATTEMPTS
    pause: float = 1.0
    progress: bool = True

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Fetch `url` into `output_file`. Raises `InputError` when that cannot be done."""
        reason, refused = "", 0
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                self._transfer(url)
            except _Broken as error:
                reason = str(error)
                continue
            if blob_id(self.part) == self.expected:
                os.replace(self.part, output_file)
                return
            self.part.unlink()  # nothing in it can be trusted: begin again, once
            refused += 1
            if refused == 2:
                raise InputError(
                    f"{url} is not the file it should be (its git blob id is not {self.expected}); "
                    "it was removed. Try again later, or tell the project if this stays."
                )
            reason = "what came differs from the file that was expected"
        raise InputError(
            f"Could not fetch {url} in {self.attempts} attempts (the last one: {reason}); what was "
            "fetched stays: run the same command again to go on."
        )

    def _transfer(self, url: str) -> None:
        """One attempt to append what is missing to `part`."""
        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"}  # a range of compressed bytes would be no use
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
                status = response.status_code
                if status in RETRY_STATUS:
                    raise _Broken(f"the server answered {status}")
                if status == 416 and have:  # there is nothing after what we have
                    return
                if status not in (200, 206):
                    raise InputError(
                        f"The server answered {status} for {url}; the file may have moved. What "
                        "was fetched before stays."
                    )
                resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                if status == 206 and not resumed:
                    self.part.unlink(missing_ok=True)
                    raise _Broken("the server sent another part of the file than was asked for")
                self._store(response, have if status == 206 else 0)
        except requests.RequestException as error:
            if _offline(error):
                host = urllib3.util.parse_url(url).host
                raise InputError(
                    f"Could not reach {host}; check the connection and try again. What was "
                    "fetched stays."
                ) from error
            raise _Broken("the connection broke") from error

    def _store(self, response: requests.Response, start: int) -> None:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        bar = tqdm(
            desc=self.part.name.removesuffix(".part"),
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=not self.progress,
        )
        with bar, self.part.open("ab" if start else "wb") as file:
            for block in response.iter_content(2**14):
                file.write(block)
                bar.update(len(block))
            size = file.tell()
        if total is not None and size < total:
            raise _Broken(f"the transfer ended after {size} of {total} bytes")


def _offline(error: requests.RequestException) -> bool:
    """Whether no connection was made at all, so that trying at once again is of no use."""
    if isinstance(
        error,
        requests.exceptions.ConnectTimeout
        | requests.exceptions.ProxyError
        | requests.exceptions.SSLError,
    ):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def fetch(
    name: str,
    *,
    base_url: str = BASE_URL,
    folder: str | Path | None = None,
    progress: bool = True,
    attempts: int = ATTEMPTS,
    pause: float = 1.0,
    blob_ids: dict[str, str] | None = None,
) -> list[Path]:
    """Fetch the six files of "ht1" or "muff" and return their paths; those that are there stay.

    They go to `folder`, by default `authors` in `tinyamp.files.made_folder()`, as
    `<split>/<name>-input.wav` and `-target.wav`. Each is verified by its git blob id (`blob_ids`,
    by "<split>-input" and "<split>-target"; default: the published ones) and appears only when
    whole. A broken transfer is taken up where it stopped, if the server can, up to `attempts`
    times with growing pauses from `pause` seconds, and again by the next call.

    Raises `InputError` when the server cannot be reached, has no such file, or sends another.
    """
    if name not in BLOB_IDS:
        raise InputError(f"There is no data set {name!r}; choose from {', '.join(BLOB_IDS)}.")
    folder = made_folder() / "authors" if folder is None else Path(folder)
    paths = []
    for key, expected in (blob_ids or BLOB_IDS[name]).items():
        split, side = key.rsplit("-", 1)
        path = folder / split / f"{name}-{side}.wav"
        paths.append(path)
        try:
            if path.is_file():
                if blob_id(path) == expected:
                    continue
                path.unlink()
            _fetch_one(
                f"{base_url}/{REMOTE_SPLITS[split]}/{path.name}",
                path,
                ResumingDownloader(
                    path.with_name(path.name + ".part"), expected, attempts, pause, progress
                ),
            )
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {error.strerror or error}; what was fetched stays."
            ) from error
    return paths


def _fetch_one(url: str, path: Path, downloader: ResumingDownloader) -> None:
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # pooch would log a SHA-256 that nobody asked for
    try:
        pooch.retrieve(
            url, known_hash=None, fname=path.name, path=path.parent, downloader=downloader
        )
    finally:
        logger.setLevel(level)
