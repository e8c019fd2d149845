"""Fetching from a real server on localhost that misbehaves in every way a network does."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tinyamp import fetch as module
from tinyamp.fetch import BLOB_IDS, REMOTE_SPLITS, ResumingDownloader, blob_id, fetch
from tinyamp.files import InputError

KEYS = tuple(BLOB_IDS["ht1"])


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `contents` by path. `faults[path]` is a list of faults, one a request.

    Faults: a status number; "drop" (half the body, then the connection is closed), "hang up" (no
    answer at all), "corrupt" (a byte is changed), "long" (Content-Length promises too much),
    "short" (half the body and no Content-Length), "other range" (not the range asked for).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents: dict[str, bytes] = {}
        self.faults: dict[str, list] = {}
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/Data"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        faults = self.server.faults.get(self.path, [])
        fault = faults.pop(0) if faults else None
        if fault == "hang up":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = self.server.contents.get(self.path)
        if body is None or isinstance(fault, int):
            self.send_response(404 if body is None else fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, total = 0, len(body)
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            if fault == "other range":
                start = 0
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        body = body[start:]
        if fault == "corrupt":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if fault == "short":
            self.close_connection = True
        else:
            length = len(body) + (100 if fault == "long" else 0)
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault in ("drop", "short") else body)
        if fault in ("drop", "long"):
            self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        rng = np.random.default_rng(0)
        for key in KEYS:
            split, side = key.split("-")
            size = 2**18 if key == "train-input" else 1000
            path = f"/Data/{REMOTE_SPLITS[split]}/ht1-{side}.wav"
            server.contents[path] = rng.bytes(size)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


FIRST = "/Data/train/ht1-input.wav"


def get(server: Server, folder: Path, **options) -> list[Path]:
    ids = dict(zip(KEYS, map(git_id, server.contents.values()), strict=True))
    options = {"pause": 0.001, "progress": False, "blob_ids": ids, **options}
    return fetch("ht1", base_url=server.url, folder=folder, **options)


def listing(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def requests_for(server: Server, path: str) -> list[str | None]:
    return [asked for name, asked in server.requests if name == path]


ALL = sorted(f"{key.split('-')[0]}/ht1-{key.split('-')[1]}.wav" for key in KEYS)


def assert_all_there(server: Server, folder: Path) -> None:
    assert listing(folder) == ALL
    for path, content in server.contents.items():
        split, name = path.split("/")[-2:]
        local = {v: k for k, v in REMOTE_SPLITS.items()}[split]
        assert (folder / local / name).read_bytes() == content


def test_blob_id_is_that_of_git(tmp_path: Path) -> None:
    for content in (b"", b"tinyamp\n", bytes(range(256)) * 9000):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert blob_id(path) == git_id(content)
        try:
            told = subprocess.run(
                ["git", "hash-object", "--no-filters", path], capture_output=True, text=True
            )
        except FileNotFoundError:
            pytest.skip("git, to compare with, is absent.")
        assert told.stdout.strip() == blob_id(path)


def test_the_published_ids_are_whole() -> None:
    ids = [value for files in BLOB_IDS.values() for value in files.values()]
    assert len(set(ids)) == len(ids) == 12
    assert all(len(value) == 40 and int(value, 16) for value in ids)


def test_fetches_all_and_nothing_twice(server: Server, tmp_path: Path) -> None:
    paths = get(server, tmp_path)
    assert len(paths) == 6 and all(path.is_file() for path in paths)
    assert_all_there(server, tmp_path)
    assert len(server.requests) == 6
    assert get(server, tmp_path) == paths
    assert len(server.requests) == 6


def test_a_file_that_was_changed_is_fetched_again(server: Server, tmp_path: Path) -> None:
    paths = get(server, tmp_path)
    paths[0].write_bytes(b"changed")
    get(server, tmp_path)
    assert_all_there(server, tmp_path)
    assert len(server.requests) == 7


@pytest.mark.parametrize("fault", ["drop", "long", "hang up", 500, 503, 429])
@pytest.mark.parametrize("ranges", [True, False])
def test_passing_faults_are_survived(server: Server, tmp_path, fault, ranges) -> None:
    server.ranges = ranges
    server.faults[FIRST] = [fault, fault]
    get(server, tmp_path)
    assert_all_there(server, tmp_path)
    assert len(requests_for(server, FIRST)) in (2, 3)  # a whole part needs no third


def test_a_dropped_transfer_is_resumed(server: Server, tmp_path: Path) -> None:
    server.faults[FIRST] = ["drop", "drop"]
    get(server, tmp_path)
    assert requests_for(server, FIRST) == [None, "bytes=131072-", "bytes=196608-"]
    assert_all_there(server, tmp_path)


def test_the_next_call_resumes_too(server: Server, tmp_path: Path) -> None:
    server.faults[FIRST] = ["drop"] * 2
    with pytest.raises(InputError, match=r"in 2 attempts .* run the same command again"):
        get(server, tmp_path, attempts=2)
    assert listing(tmp_path) == ["train/ht1-input.wav.part"]
    get(server, tmp_path)
    assert requests_for(server, FIRST)[-1] == "bytes=196608-"
    assert_all_there(server, tmp_path)


def test_a_transfer_that_lacked_only_its_end_mark(server: Server, tmp_path: Path) -> None:
    """Everything had come, but more was promised: nothing needs to come again."""
    server.faults[FIRST] = ["long"]
    get(server, tmp_path)
    assert requests_for(server, FIRST) == [None, "bytes=262144-"]
    assert_all_there(server, tmp_path)


@pytest.mark.parametrize("fault", ["other range", "corrupt", "short"])
def test_a_bad_rest_is_thrown_away(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults[FIRST] = ["drop", fault]
    get(server, tmp_path)
    assert requests_for(server, FIRST) == [None, "bytes=131072-", None]
    assert_all_there(server, tmp_path)


def test_one_corrupt_transfer_is_repeated(server: Server, tmp_path: Path) -> None:
    server.faults[FIRST] = ["corrupt"]
    get(server, tmp_path)
    assert_all_there(server, tmp_path)


@pytest.mark.parametrize("fault", ["corrupt", "short"])
def test_a_file_that_differs_is_refused_and_removed(server, tmp_path, fault: str) -> None:
    server.faults[FIRST] = [fault] * 9
    with pytest.raises(InputError, match=r"is not the file it should be .* was removed"):
        get(server, tmp_path)
    assert listing(tmp_path) == []
    assert len(requests_for(server, FIRST)) == 2


def test_a_file_that_is_not_there(server: Server, tmp_path: Path) -> None:
    server.faults["/Data/test/ht1-target.wav"] = [404]
    with pytest.raises(InputError, match=r"answered 404 .* may have moved"):
        get(server, tmp_path)
    assert listing(tmp_path) == [name for name in ALL if name != "test/ht1-target.wav"]
    assert len(server.requests) == 6


def test_a_server_that_stays_down(server: Server, tmp_path: Path) -> None:
    server.faults[FIRST] = [503] * 9
    with pytest.raises(InputError, match=r"in 3 attempts .*the server answered 503"):
        get(server, tmp_path, attempts=3)
    assert listing(tmp_path) == []
    assert len(server.requests) == 3


@pytest.mark.parametrize("answer", [200, 206])
def test_a_part_that_is_longer_than_the_file(server: Server, tmp_path, answer: int) -> None:
    server.ranges = answer == 206
    part = tmp_path / "train" / "ht1-input.wav.part"
    part.parent.mkdir()
    part.write_bytes(bytes(300_000))
    get(server, tmp_path)
    assert_all_there(server, tmp_path)


def test_offline_is_one_sentence_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "ht1-input.wav.part").write_bytes(b"what came before")
    with pytest.raises(InputError, match=r"Could not reach 127\.0\.0\.1; check the connection"):
        fetch("ht1", base_url=f"http://127.0.0.1:{port}", folder=tmp_path, pause=60)
    assert listing(tmp_path) == ["train/ht1-input.wav.part"]


def test_pauses_grow(server: Server, tmp_path: Path, monkeypatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    part = tmp_path / "x.part"
    server.faults[FIRST] = [503] * 9
    downloader = ResumingDownloader(part, "0" * 40, attempts=4, pause=2.0, progress=False)
    with pytest.raises(InputError):
        downloader(server.url + "/train/ht1-input.wav", str(tmp_path / "x"), None)
    assert pauses == [2.0, 4.0, 8.0]


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        get(server, tmp_path / "file")


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no data set 'ht5'; choose from ht1, muff"):
        fetch("ht5", folder=tmp_path)


def test_the_default_folder_is_the_made_one(server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TINYAMP_MADE", str(tmp_path))
    get(server, None)
    assert_all_there(server, tmp_path / "authors")
