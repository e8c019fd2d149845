"""Real playing: the circuits, the training and the shipped models on recordings of real guitars.

The recordings do not ship (see `real_audio` in conftest.py): without them, these tests skip.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from tinyamp import circuits
from tinyamp.data import Recording, load_excerpt
from tinyamp.files import data_folder
from tinyamp.losses import esr
from tinyamp.model import AmpLSTM, load_model, process
from tinyamp.presets import PRESETS
from tinyamp.train import train

HELD_OUT = 163  # seconds: what comes before is for training, as in the paper's shorter sets
STARTS = (165, 178, 191, 204)  # seconds


@pytest.fixture(scope="module")
def di(real_audio):
    x, rate = soundfile.read(real_audio / "di-guitar-212s.flac", dtype="float32")
    assert rate == 44_100
    return x


def piece(di: np.ndarray, start: float, seconds: float) -> np.ndarray:
    return di[round(start * 44_100) : round((start + seconds) * 44_100)]


@pytest.mark.parametrize("device", circuits.DEVICES)
def test_models_trained_on_the_synthesised_guitar_carry_over_to_real_playing(di, device):
    """At most twice the error on a real guitar as on the synthesised one (plain ESR)."""
    model = load_model(data_folder() / "models" / f"{device}-32.safetensors")
    synthetic = load_excerpt(device, "test")
    at_home = esr(synthetic.target, process(model, synthetic.input))
    x = np.concatenate([piece(di, start, 3.0) for start in STARTS])
    target = circuits.simulate(device, x)
    away = esr(target, process(model, x))
    assert away <= 2 * at_home, f"{away:.2%} on real playing, {at_home:.2%} on synthetic"


def test_a_model_learns_from_real_playing(di):
    def recording(start, seconds):
        x = piece(di, start, seconds)
        return Recording(x, circuits.simulate("sim-crunch", x), 44_100, "real playing")

    heard, held_out = recording(20, 6.0), recording(HELD_OUT + 2, 3.0)
    model = AmpLSTM(8)
    before = esr(held_out.target, process(model, held_out.input))
    settings = replace(PRESETS["laptop"], epochs=8)
    train(model, heard, held_out, settings, progress=False)
    after = esr(held_out.target, process(model, held_out.input))
    assert after < 0.05 < before
