"""A model file that can be checked: some input, and what the model makes of it.

AIDA-X files carry both. On reading, the model must make the one of the other, which shows a
weight that was lost or changed on the way, and a reader that is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyamp.files import InputError
from tinyamp.formats_json import array, lists, member
from tinyamp.model import AmpLSTM, process

BATCH = 2048
MAX_BATCH = 65_536
BATCH_TOLERANCE = 2e-4  # of the largest sample, at least 1; float32 alone: up to some 4e-5
NAMES = ("input_batch", "output_batch")


def batch_document(model: AmpLSTM) -> dict[str, Any]:
    """The two members: `BATCH` samples of input, and the model's output from the zero state.

    The input is a rising tone with noise that grows from silence to full scale.
    """
    n = np.arange(BATCH) / BATCH
    tone = np.sin(2 * np.pi * (8 * n + 150 * n**2))
    noise = np.random.default_rng(0).uniform(-1, 1, BATCH)
    x = (n * (0.8 * tone + 0.2 * noise)).astype(np.float32)
    return dict(zip(NAMES, (lists(x), lists(process(model, x))), strict=True))


def check_batch(document: dict[str, Any], model: AmpLSTM) -> bool:
    """Demand that the model makes the file's output of the file's input; False without any.

    Raises `InputError` when it does not, or when they are not what they should be.
    """
    if all(document.get(name) is None for name in NAMES):
        return False
    listed = [member(document, name, list, "a list of samples") for name in NAMES]
    length = len(listed[0])
    if not 1 <= length <= MAX_BATCH:
        raise InputError(f"input_batch must have 1 to {MAX_BATCH} samples, but has {length}.")
    x, y = (array(values, (length,), name) for values, name in zip(listed, NAMES, strict=True))
    difference = np.abs(process(model, x).astype(np.float64) - y)
    worst = float(difference.max())
    if not worst <= BATCH_TOLERANCE * max(1.0, float(np.abs(y).max())):
        raise InputError(
            "the model does not make output_batch of input_batch: it is off by up to "
            f"{worst:.2g}, at sample {int(difference.argmax())}; the file is damaged."
        )
    return True
