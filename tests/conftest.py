"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def as_many_threads() -> None:
    """Every test begins with PyTorch's own number of threads, whatever one before it has set."""
    torch.set_num_threads(THREADS)


@pytest.fixture(scope="session")
def real_audio() -> Path:
    """The folder of real recordings, which do not ship; tests that need it skip without it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "audio"
    folder = Path(os.environ.get("TINYAMP_REAL_AUDIO", beside))
    if not folder.is_dir():
        pytest.skip(f"Real recordings are absent: there is no folder {folder}.")
    return folder


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch) -> None:
    """A cache folder for this run, shared by its tests, for what they compile."""
    folder = tmp_path_factory.getbasetemp() / "compiled"
    monkeypatch.setenv("TINYAMP_CACHE", str(folder))
