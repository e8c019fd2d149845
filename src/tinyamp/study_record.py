"""What a job of the study writes: one JSON file that says what came out and where it came from.

Weights stand beside it. Trained models are safetensors; stages of a search, of which most weights
are zero, are compressed NumPy archives, a fraction of the size.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from tinyamp import __version__, bench
from tinyamp.data import Recording
from tinyamp.files import InputError, write_beside
from tinyamp.model import AmpLSTM, model_with
from tinyamp.realtime import cpu_name

FORMAT, VERSION = "tinyamp-study", 1


def write_json(path: str | Path, values: object, *, indent: int | None = 1) -> None:
    """Write `values` whole or not at all; `indent` None on one line, at half the size."""
    with write_beside(path) as temporary:
        temporary.write_text(json.dumps(values, indent=indent) + "\n", encoding="utf-8")


def write_result(
    path: str | Path, job: str, digest: str, result: Mapping, provenance: Mapping
) -> None:
    """Write the result of `job`; `digest` is that of the study's settings."""
    head = {"format": FORMAT, "version": VERSION, "job": job, "digest": digest}
    whole = {**head, "result": dict(result), "provenance": dict(provenance)}
    write_json(path, _to_milliseconds(whole), indent=None)


def _to_milliseconds(values: object) -> object:
    """The same with all "seconds" rounded: digits that mean nothing are kilobytes."""
    if isinstance(values, dict):
        return {
            k: round(v, 3) if k == "seconds" and isinstance(v, float) else _to_milliseconds(v)
            for k, v in values.items()
        }
    return [_to_milliseconds(v) for v in values] if isinstance(values, list | tuple) else values


def read_result(path: str | Path, digest: str | None = None) -> dict | None:
    """The result in a file, with its provenance; None when there is none of these settings.

    Raises `InputError` when the file is damaged or something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if found["format"] != FORMAT or found["version"] != VERSION:
            raise ValueError(f"expected {FORMAT} version {VERSION}")
        current = digest in (None, found["digest"])
        missing = {"result", "provenance", "job"} - set(found)
        if missing:
            raise ValueError(f"{', '.join(sorted(missing))} missing")
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or no result of a study ({error!r}); delete it, and "
            "`tinyamp study run` makes it again."
        ) from error
    return found if current else None


def save_weights(path: str | Path, model: AmpLSTM) -> None:
    """Write weights, bit for bit, as a compressed .npz: for models that are mostly zeros."""
    with write_beside(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{k: v.cpu().numpy() for k, v in model.state_dict().items()})


def load_weights(path: str | Path, sample_rate: int) -> AmpLSTM:
    """The model whose weights `save_weights` wrote. Raises `InputError` if it cannot be read."""
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            weights = {name: torch.from_numpy(archive[name]) for name in archive.files}
        return model_with(weights, sample_rate=sample_rate)
    except Exception as error:  # zip, zlib and NumPy each raise their own
        raise InputError(
            f"{path} cannot be read as the weights of a model ({error}); delete it and the .json "
            "of the same name, and `tinyamp study run` makes both again."
        ) from error


def sha256(path: Path) -> str:
    """The checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def data_checksums(**recordings: Recording) -> dict[str, str]:
    """SHA-256 over the samples of each recording, input then target, as float32."""
    sums = {}
    for name, recording in recordings.items():
        digest = hashlib.sha256()
        for array in (recording.input, recording.target):
            digest.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
        sums[name] = digest.hexdigest()
    return sums


def machine() -> dict[str, object]:
    """Processor, cores and versions: what a result may depend on. No host name, no path."""
    return {
        "processor": cpu_name(),
        "cores": os.cpu_count(),
        **bench.machine(),
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
    }


def code_version() -> dict[str, object]:
    """The package's version and, in a checkout, its commit and whether the code differs from it."""
    package = Path(__file__).resolve().parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(package), *words], capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=12", "HEAD")
    status = git("status", "--porcelain", "--", ".") if commit else None
    return {
        "tinyamp": __version__,
        "commit": commit,
        "modified": None if status is None else bool(status),
    }


@contextmanager
def locked(path: str | Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file while the block runs; yields whether it is held.

    The system lets go of it when the process ends, however it ends. `wait` False does not wait for
    another process that holds it.
    """
    import fcntl  # absent on Windows; imported here so that results can be read there

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
