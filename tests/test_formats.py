"""Other players' model files: exact where they can be, checked by independent readers, and safe."""

from __future__ import annotations

import copy
import json
import re
import tracemalloc
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import expit

from tinyamp.files import InputError, data_folder
from tinyamp.formats import FORMATS, export_model, format_for, import_model
from tinyamp.formats_json import lists
from tinyamp.formats_residual import (
    EPSILON,
    MAX_ERROR,
    OPEN,
    STATED_ERROR,
    find_carrier,
    weights_of,
)
from tinyamp.model import AmpLSTM, load_model, process, reference_forward

SUFFIX = {"nam": ".nam", "aidax": ".json", "guitarml": ".json"}
SIZES = (1, 2, 7, 20)
CUBIC = 1.1e-5  # ⅔ ε² and a reserve: the error of a carrier where tanh keeps small numbers exact


def signal(length: int = 1500, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)


def state(model: AmpLSTM) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def exported(tmp_path: Path, format: str, model: AmpLSTM | None = None) -> dict[str, Any]:
    path = tmp_path / f"exported-{format}{SUFFIX[format]}"
    export_model(AmpLSTM(3, seed=5) if model is None else model, path, format=format)
    return json.loads(path.read_text())


# Readers written from the formats' descriptions, in float64: they share no code with the library.


def lstm(W_ih, W_hh, bias, W_fc, b_fc, x, h=None, c=None) -> np.ndarray:
    """y = W_fc h + b_fc of an LSTM with gate order i, f, g, o, matrices (4H, 1) and (4H, H)."""
    h = np.zeros(len(W_fc)) if h is None else h
    c = np.zeros(len(W_fc)) if c is None else c
    y = []
    for x_n in np.asarray(x, dtype=np.float64):
        i, f, g, o = np.split(W_ih[:, 0] * x_n + W_hh @ h + bias, 4)
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = expit(o) * np.tanh(c)
        y.append(W_fc @ h + b_fc)
    return np.array(y)


def play(document: dict[str, Any], format: str, x: np.ndarray) -> np.ndarray:
    if format == "guitarml":
        w = {name: np.array(value) for name, value in document["state_dict"].items()}
        bias = w["rec.bias_ih_l0"] + w["rec.bias_hh_l0"]
        head = w["lin.weight"][0], w["lin.bias"][0]
        skip = document["model_data"]["skip"]
        return lstm(w["rec.weight_ih_l0"], w["rec.weight_hh_l0"], bias, *head, x) + skip * x
    if format == "aidax":
        recurrent, dense = document["layers"]
        kernel, recurrent_kernel, bias = map(np.array, recurrent["weights"])
        W, b = map(np.array, dense["weights"])
        skip = document.get("in_skip", 0)
        return lstm(kernel.T, recurrent_kernel.T, bias, W[:, 0], b[0], x) + skip * x
    H = document["config"]["hidden_size"]
    w = np.array(document["weights"])
    matrix, w = w[: 4 * H * (H + 1)].reshape(4 * H, H + 1), w[4 * H * (H + 1) :]
    bias, h, c, W_fc, b_fc = w[: 4 * H], w[4 * H : 5 * H], w[5 * H : 6 * H], w[6 * H : -1], w[-1]
    return lstm(matrix[:, :1], matrix[:, 1:], bias, W_fc, b_fc, x, h, c)


def expected(model: AmpLSTM, x: np.ndarray, format: str) -> np.ndarray:
    """Our output in float64: from zero, or as .nam starts, after 48000 zeros."""
    model = copy.deepcopy(model).double()
    start = None
    with torch.inference_mode():
        if format == "nam":
            _, start = model(torch.zeros(1, 48_000, 1, dtype=torch.float64))
        y, _ = model(torch.from_numpy(x).double()[None, :, None], start)
    return y[0, :, 0].numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("format", FORMATS)
def test_independent_readers_hear_the_same(tmp_path, format, size):
    model = AmpLSTM(size, seed=size)
    x = signal()
    y = play(exported(tmp_path, format, model), format, x)
    limit = CUBIC if format == "nam" else 2e-6  # the biases' sum is rounded
    assert np.abs(y - expected(model, x, format)).max() < limit


@pytest.mark.parametrize("name", ["sim-muff-32", "sim-metal-32-pruned"])
def test_trained_models_keep_their_sound_in_nam(tmp_path, name):
    model = load_model(data_folder() / "models" / f"{name}.safetensors")
    document = exported(tmp_path, "nam", model)
    x = signal(4000)
    error = np.abs(play(document, "nam", x) - expected(model, x, "nam")).max()
    assert error < 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_guitarml_round_trip_is_exact(tmp_path, size):
    model = AmpLSTM(size, seed=size, sample_rate=48_000)
    model.settings = {"preset": "laptop", "metadata": {"name": "Ämp", "esr": 0.01}}
    export_model(model, tmp_path / "a.json", format="guitarml")
    back = import_model(tmp_path / "a.json")
    assert (back.format, back.error, back.notes) == ("guitarml", 0.0, ())
    assert back.model.sample_rate == 48_000
    assert back.model.settings == model.settings
    for name, value in state(model).items():
        np.testing.assert_array_equal(state(back.model)[name], value)


@pytest.mark.parametrize("format", ["aidax", "nam"])
@pytest.mark.parametrize("size", SIZES)
def test_other_round_trips_only_sum_the_biases(tmp_path, format, size):
    model = AmpLSTM(size, seed=size, sample_rate=96_000)
    model.settings = {"preset": "laptop", "metadata": {"name": "Ämp"}}
    path = tmp_path / f"a{SUFFIX[format]}"
    done = export_model(model, path)
    assert (done.format, done.hidden_size) == (format, size + (format == "nam"))
    back = import_model(path)
    assert back.format == format and back.error == done.error
    assert (back.model.sample_rate, back.model.settings) == (96_000, model.settings)
    old, new = state(model), state(back.model)
    assert not new["lstm.bias_hh_l0"].any()
    biases = (old["lstm.bias_ih_l0"], old["lstm.bias_hh_l0"], new["lstm.bias_ih_l0"])
    for *pair, got in zip(*biases, strict=True):  # rounded once: no other float32 is nearer
        exact = sum(Fraction(float(value)) for value in pair)
        for other in (np.nextafter(got, np.float32(9)), np.nextafter(got, np.float32(-9))):
            assert abs(Fraction(float(got)) - exact) <= abs(Fraction(float(other)) - exact)
    for name in old.keys() - {"lstm.bias_ih_l0", "lstm.bias_hh_l0"}:
        np.testing.assert_array_equal(new[name], old[name])
    x = signal()
    np.testing.assert_allclose(process(back.model, x), process(model, x), rtol=0, atol=2e-6)


def test_the_carrier_keeps_its_promise_in_plain_float32():
    """Also where tanh is computed as 2 σ(2a) − 1, which loses digits of small numbers."""
    x = np.linspace(-1, 1, 100_001, dtype=np.float32)
    one, two = np.float32(1), np.float32(2)

    def sigmoid(a):
        return one / (one + np.exp(-a))

    def tanh(a):
        return two * sigmoid(two * a) - one

    for function, limit in ((tanh, STATED_ERROR), (np.tanh, CUBIC)):
        gate = sigmoid(np.float32(OPEN))
        h = gate * function(gate * function(np.float32(EPSILON) * x))
        error = np.abs(np.float64(h) / EPSILON - x).max()
        assert CUBIC / 2 < error < limit < MAX_ERROR


def test_nam_starts_where_silence_leads(tmp_path):
    model = AmpLSTM(6, seed=3)
    document = exported(tmp_path, "nam", model)
    y = play(document, "nam", np.zeros(200))
    assert np.ptp(y) < 1e-6  # nothing moves any more
    start, _ = reference_forward(state(model), np.zeros(200))
    assert np.ptp(start) > 1e-3  # from zero, it does


def without_residual(document: dict[str, Any], format: str, size: int) -> dict[str, Any]:
    """A file of random weights without a residual connection, and without a batch."""
    rng = np.random.default_rng(size)
    if format == "guitarml":
        document["model_data"]["skip"] = 0
    elif format == "aidax":
        for name in ("in_skip", "input_batch", "output_batch"):
            del document[name]
    else:
        document["config"]["hidden_size"] = size
        count = 4 * size * (size + 1) + 7 * size + 1
        weights = rng.uniform(-0.6, 0.6, count).astype(np.float32)
        weights[-3 * size - 1 : -size - 1] = 0  # start from zero, as we do
        document["weights"] = weights.astype(float).tolist()
    return document


@pytest.mark.parametrize("size", [1, 3, 12])
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_without_residual_gets_a_unit_that_removes_it(tmp_path, format, size):
    document = exported(tmp_path, format, AmpLSTM(size, seed=8))
    document = without_residual(document, format, size)
    path = write(tmp_path / f"plain{SUFFIX[format]}", document)
    result = import_model(path)
    assert result.model.hidden_size == size + 1
    assert 0 < result.error < CUBIC
    assert any("no residual" in note and "1.0e-05" in note for note in result.notes)
    x = signal()
    y = process(result.model, x)
    assert np.abs(y - play(document, format, x)).max() < CUBIC + 1e-6
    # Written again, in whatever format, it is as it was: the unit goes.
    for other in FORMATS:
        again = tmp_path / f"again-{other}{SUFFIX[other]}"
        done = export_model(result.model, again, format=other)
        assert done.hidden_size == size and "no residual connection" in done.notes[0]
        twice = import_model(again).model
        assert find_carrier(weights_of(twice), 1) is None
        for name, value in state(result.model).items():
            if "bias" not in name or format != "guitarml":
                np.testing.assert_array_equal(state(twice)[name], value)


def _coarse(matrix: np.ndarray, head: np.ndarray) -> None:
    matrix[2, 3, 0], head[3] = 0.1, 10  # an error of 0.7 %


def _reads(matrix: np.ndarray, head: np.ndarray) -> None:
    matrix[2, 3, 1] = 1e-9


def _is_read(matrix: np.ndarray, head: np.ndarray) -> None:
    matrix[0, 1, 4] = 50


def _is_gated(matrix: np.ndarray, head: np.ndarray) -> None:
    matrix[3, 3, 0] = 1e-3


def _louder(matrix: np.ndarray, head: np.ndarray) -> None:
    head[3] *= 1.001


@pytest.mark.parametrize("change", [_coarse, _reads, _is_read, _is_gated, _louder])
def test_what_only_resembles_a_carrier_is_left_alone(tmp_path, change):
    """`change` gets the matrix (gate, unit, input and h) and the head; unit 3 is the carrier."""
    document = exported(tmp_path, "nam")
    w = np.array(document["weights"])
    change(w[:80].reshape(4, 4, 5), w[-5:-1])
    w[-13:-5] = 0  # the initial states, which are dropped
    document["weights"] = w.tolist()
    result = import_model(write(tmp_path / "changed.nam", document))
    assert result.model.hidden_size == 5
    x = signal(600)
    error = np.abs(process(result.model, x) - play(document, "nam", x)).max()
    assert error < CUBIC + 1e-6


def test_another_carrier_is_recognised_wherever_it_is(tmp_path):
    """Another ε, other biases, an order of units that is not ours."""
    document = exported(tmp_path, "nam")
    w = np.array(document["weights"])
    rows = w[:80].reshape(4, 4, 5)
    rows[2, 3, 0], w[-2] = 0.002, 500
    w[80:96].reshape(4, 4)[:, 3] = (25, -20, 0, 18)
    order = [2, 3, 0, 1]
    rows[:] = rows[:, order][:, :, [0, 3, 4, 1, 2]]
    w[80:96] = w[80:96].reshape(4, 4)[:, order].ravel()
    w[-5:-1] = w[-5:-1][order]
    document["weights"] = w.tolist()
    result = import_model(write(tmp_path / "other.nam", document))
    assert result.model.hidden_size == 3 and result.error < 1e-5
    x = signal()
    np.testing.assert_allclose(process(result.model, x), process(AmpLSTM(3, seed=5), x), atol=1e-6)


def test_a_carrier_alone_stays(tmp_path):
    """One unit must remain, even if all that the network does is to carry the input."""
    document = exported(tmp_path, "nam")
    document["config"]["hidden_size"] = 1
    document["weights"] = [0, 0, 0, 0, EPSILON, 0, 0, 0, 30, -30, 0, 30, 0, 0, 1 / EPSILON, 0]
    model = import_model(write(tmp_path / "wire.nam", document)).model
    assert model.hidden_size == 2
    assert np.abs(process(model, signal()) - signal()).max() < STATED_ERROR


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_short_numbers_are_exact(value):
    value = np.float32(value)
    written = json.loads(json.dumps(lists(np.array([value]))))[0]
    assert np.float32(written) == value
    assert len(repr(written).removesuffix(".0").lstrip("-")) <= 16


def test_rate_metadata_and_gains_are_carried(tmp_path):
    document = exported(tmp_path, "aidax")
    document["metadata"] = {"name": "x", "samplerate": "48000", "deep": {"a": [1, None, True]}}
    document |= {"samplerate": 44_100, "in_gain": -3, "out_gain": 0}
    result = import_model(write(tmp_path / "a.json", document))
    assert result.model.sample_rate == 48_000  # AIDA-X reads the metadata first
    about = {"name": "x", "deep": {"a": [1, None, True]}, "in_gain": -3, "out_gain": 0}
    assert result.model.settings == {"metadata": about}
    assert result.notes == ("in_gain of -3 dB is not part of the model: apply it.",)
    done = export_model(result.model, tmp_path / "c.json")
    assert done.notes[0] == "AIDA-X applies the in_gain of -3 dB."
    again = json.loads((tmp_path / "c.json").read_text())
    assert (again["in_gain"], again["out_gain"], again["samplerate"]) == (-3, 0, 48_000)
    assert again["metadata"] == {"name": "x", "deep": {"a": [1, None, True]}}
    for format in ("nam", "guitarml"):
        again = import_model(_export(result.model, tmp_path, format)).model
        assert (again.sample_rate, again.settings) == (48_000, result.model.settings)


def test_the_models_own_rate_counts(tmp_path):
    model = AmpLSTM(2, sample_rate=48_000)
    model.settings = {"metadata": {"samplerate": 8000, "name": "x"}}
    for format in FORMATS:
        back = import_model(_export(model, tmp_path, format)).model
        assert (back.sample_rate, back.settings) == (48_000, {"metadata": {"name": "x"}})


def _export(model: AmpLSTM, tmp_path: Path, format: str) -> Path:
    path = tmp_path / f"b-{format}{SUFFIX[format]}"
    export_model(model, path, format=format)
    return path


@pytest.mark.parametrize(
    ("format", "key", "usual"),
    [("nam", "sample_rate", 48_000), ("aidax", "samplerate", 48_000),
     ("guitarml", "samplerate", 44_100)],
)  # fmt: skip
def test_a_file_that_does_not_say_its_rate(tmp_path, format, key, usual):
    document = exported(tmp_path, format)
    del document[key], document["metadata"]
    path = write(tmp_path / "a.json", document)
    result = import_model(path)
    assert result.model.sample_rate == usual
    assert any(f"{usual} Hz is assumed" in note for note in result.notes)
    result = import_model(path, sample_rate=32_000)
    assert result.model.sample_rate == 32_000
    assert not any("assumed" in note for note in result.notes)
    write(path, {**document, key: 22_050.0})
    assert import_model(path).model.sample_rate == 22_050
    with pytest.raises(InputError, match="22050 Hz, which is not the 32000 Hz"):
        import_model(path, sample_rate=32_000)


def test_the_batch_is_checked(tmp_path):
    document = exported(tmp_path, "aidax")
    assert len(document["input_batch"]) == len(document["output_batch"]) == 2048
    x = np.array(document["input_batch"])
    assert 0.9 < np.abs(x).max() <= 1
    np.testing.assert_allclose(play(document, "aidax", x), document["output_batch"], atol=2e-6)
    for change in (
        lambda d: d["layers"][0]["weights"][2].reverse(),
        lambda d: d["layers"][1]["weights"][1].__setitem__(0, 0.7),
        lambda d: d.pop("in_skip"),
        lambda d: d["output_batch"].__setitem__(77, 0.9),
    ):
        wrong = copy.deepcopy(document)
        change(wrong)
        path = write(tmp_path / "a.json", wrong)
        with pytest.raises(InputError, match=r"a\.json: .* does not make output_batch"):
            import_model(path)
    for name in ("input_batch", "output_batch"):
        del document[name]
    result = import_model(write(tmp_path / "a.json", document))
    assert result.notes == ("the file has no input_batch to check the model with.",)


# Malformed files: (format, what to do to a good document, what the sentence says).

MALFORMED: list[tuple[str, Callable[[dict], Any], str]] = [
    ("guitarml", lambda d: d["model_data"].update(num_layers=2), "num_layers must be 1, but is 2"),
    ("guitarml", lambda d: d["state_dict"].update({"rec.bias_ih_l1": []}), "single-layer LSTM"),
    ("guitarml", lambda d: d["model_data"].update(unit_type="GRU"), "must be 'LSTM'.* is 'GRU'"),
    ("guitarml", lambda d: d["model_data"].update(model="GatedConvNet"), "'GatedConvNet'"),
    ("guitarml", lambda d: d["model_data"].update(input_size=2), "input_size must be 1"),
    ("guitarml", lambda d: d["model_data"].update(input_size=True), "must be 1, but is True"),
    ("guitarml", lambda d: d["model_data"].update(skip=True), "skip must be 0 or 1.* is True"),
    ("guitarml", lambda d: d["model_data"].update(skip=2), "skip must be 0 or 1"),
    ("guitarml", lambda d: d["model_data"].pop("skip"), "has no skip; expected 0 or 1"),
    ("guitarml", lambda d: d["model_data"].update(bias_fl=False), "bias_fl must be true"),
    ("guitarml", lambda d: d["model_data"].update(hidden_size="3"), "whole number, but is '3'"),
    ("guitarml", lambda d: d["model_data"].update(hidden_size=3.0), "whole number, but is 3.0"),
    ("guitarml", lambda d: d["model_data"].update(hidden_size=True), "whole number, but is True"),
    ("guitarml", lambda d: d["model_data"].update(hidden_size=10**30), "from 1 to 4096"),
    ("guitarml", lambda d: d["model_data"].update(hidden_size=0), "from 1 to 4096, but is 0"),
    ("guitarml", lambda d: d["model_data"].update(hidden_size=4), "16 rows of 1 number"),
    ("guitarml", lambda d: d["state_dict"]["rec.weight_hh_l0"].__delitem__(slice(9, 12)),
     "12 rows of 3 numbers, but has 9 rows"),
    ("guitarml", lambda d: d["state_dict"]["rec.weight_hh_l0"][4].pop(), "row 4 is 2 numbers"),
    ("guitarml", lambda d: d["state_dict"]["rec.weight_hh_l0"].__setitem__(4, "x"), "row 4 is 'x'"),
    ("guitarml", lambda d: d["state_dict"]["lin.bias"].__setitem__(0, False), "holds False"),
    ("guitarml", lambda d: d["state_dict"]["lin.bias"].__setitem__(0, None), "holds None"),
    ("guitarml", lambda d: d["state_dict"]["lin.bias"].__setitem__(0, "1"), "holds '1'"),
    ("guitarml", lambda d: d["state_dict"]["lin.bias"].__setitem__(0, 1e39), "too large for f"),
    ("guitarml", lambda d: d["state_dict"]["lin.bias"].__setitem__(0, 10**400), "too large"),
    ("guitarml", lambda d: d["state_dict"]["lin.bias"].__setitem__(0, np.nan), "holds NaN"),
    ("guitarml", lambda d: d["state_dict"]["lin.bias"].__setitem__(0, np.inf), "holds Infinity"),
    ("guitarml", lambda d: d["state_dict"].update({"lin.bias": 1}), "list of numbers, but is 1"),
    ("guitarml", lambda d: d.pop("state_dict"), "has no state_dict"),
    ("guitarml", lambda d: d.update(model_data=[]), "model_data must be an object"),
    ("guitarml", lambda d: d.update(metadata="x"), "metadata must be an object, but is 'x'"),
    ("guitarml", lambda d: d.update(samplerate=0), "sample rate must be"),
    ("guitarml", lambda d: d.update(samplerate=True), "sample rate must be"),
    ("guitarml", lambda d: d.update(samplerate="fast\n"), "sample rate must be"),
    ("guitarml", lambda d: d.update(samplerate=44100.5), "sample rate must be"),
    ("aidax", lambda d: d["layers"].insert(1, d["layers"][0]), "must be one lstm and one dense"),
    ("aidax", lambda d: d["layers"][0].update(type="gru"), "are .'gru', 'dense'"),
    ("aidax", lambda d: d.update(layers=[1, None]), "must be one lstm and one dense"),
    ("aidax", lambda d: d.update(layers={}), "layers must be a list of layers"),
    ("aidax", lambda d: d["layers"][0].update(activation="relu"), "usual activation.*'relu'"),
    ("aidax", lambda d: d["layers"][1].update(activation="tanh"), "usual activation.*'tanh'"),
    ("aidax", lambda d: d["layers"][0].update(shape=[None, None, True]), "end in a whole number"),
    ("aidax", lambda d: d["layers"][0].update(shape=[]), "shape must end in a whole number"),
    ("aidax", lambda d: d["layers"][0].update(shape=[None, None, 9**9]), "from 1 to 4096"),
    ("aidax", lambda d: d["layers"][0].update(shape=[None, None, 5]), "bias must be 20 numbers"),
    ("aidax", lambda d: d["layers"][1].update(shape=[None, None, 2]), "1 output; its shape is"),
    ("aidax", lambda d: d["layers"][0]["weights"].pop(), "3 arrays of weights, but has 2"),
    ("aidax", lambda d: d["layers"][0]["weights"][0][0].__delitem__(slice(9, 12)), "is 9 numbers"),
    ("aidax", lambda d: d.update(in_shape=[None, None, 2]), "in_shape must end in 1 input"),
    ("aidax", lambda d: d.update(in_skip=2), "in_skip must be 0 or 1, but is 2"),
    ("aidax", lambda d: d.update(in_skip=None), "in_skip must be 0 or 1, but is None"),
    ("aidax", lambda d: d.update(in_gain="loud"), "in_gain must be 1 number, but holds 'loud'"),
    ("aidax", lambda d: d.pop("output_batch"), "has no output_batch"),
    ("aidax", lambda d: d["output_batch"].pop(), "output_batch must be 2048 numbers.* 2047"),
    ("aidax", lambda d: d.update(input_batch=[], output_batch=[]), "must have 1 to 65536 samples"),
    ("nam", lambda d: d.update(architecture="WaveNet"), "must be 'LSTM', but is 'WaveNet'"),
    ("nam", lambda d: d.update(version="1.0.0"), "version must be 0.x"),
    ("nam", lambda d: d.update(version=0.5), "version must be text"),
    ("nam", lambda d: d["config"].update(num_layers=2), "num_layers must be 1, but is 2"),
    ("nam", lambda d: d["config"].update(input_size=1.0), "input_size must be 1, but is 1.0"),
    ("nam", lambda d: d["config"].pop("num_layers"), "has no num_layers; expected 1"),
    ("nam", lambda d: d["config"].update(hidden_size=5), "must be 156 numbers, but has 109"),
    ("nam", lambda d: d["weights"].pop(), "hidden_size 4. must be 109 numbers, but has 108"),
    ("nam", lambda d: d["weights"].__setitem__(7, [1]), "but holds .1."),
    ("nam", lambda d: d.update(sample_rate=-1.0), "sample rate must be"),
    ("nam", lambda d: d.pop("weights"), "has no weights; expected a list"),
    ("nam", lambda d: [d.pop(name) for name in ("architecture", "config")], "no model that can"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "change", "says"), MALFORMED)
def test_malformed_documents_get_a_sentence(tmp_path, format, change, says):
    document = exported(tmp_path, format)
    change(document)
    path = write(tmp_path / "bad.json", document)
    with pytest.raises(InputError, match=says) as caught:
        import_model(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and text.endswith(".")
    assert "\n" not in text and len(text) - len(str(path)) < 200


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not whole JSON"),
        (b'{"layers": [', "not whole JSON .*cut short"),
        (b"\x89HDF\r\n\x1a\n\xff", "not UTF-8 text .byte 0."),
        ('{"a": "ä"}'.encode("latin-1"), "not UTF-8 text .byte 7."),
        (b"[1, 2]", "expected a JSON object, but it holds .1, 2."),
        (b"{}", "no model that can be read"),
        (b'{"a": 1e999}', "holds 1e999"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": ' + b"9" * 5000 + b"}", "thousands of digits|no model"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
    ],
)
def test_what_is_no_document_gets_a_sentence(tmp_path, data, says):
    path = tmp_path / "bad.nam"
    path.write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        import_model(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_metadata_too_deep_or_too_long(tmp_path):
    document = exported(tmp_path, "guitarml")
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    path = tmp_path / "a.json"
    for metadata, says in (({"a": deep}, "nested more than"), ({"a": "x" * 10**6}, "longer than")):
        write(path, {**document, "metadata": metadata})
        with pytest.raises(InputError, match=says):
            import_model(path)


def test_what_is_no_file_gets_a_sentence(tmp_path):
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "no.nam", "there is no such file"),
        (Path("/dev/null"), "regular file"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(str(path))}: .*{says}"):
            import_model(path)


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_allocated_for_a_size_that_is_only_claimed(tmp_path, format):
    document = exported(tmp_path, format)
    if format == "aidax":
        document["layers"][0]["shape"][-1] = 4096
    else:
        document["config" if format == "nam" else "model_data"]["hidden_size"] = 4096
    path = write(tmp_path / "a.json", document)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"numbers?, but"):
        import_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # 4096 units would need 270 MB


def test_a_file_beyond_all_models_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("tinyamp.formats_json.MAX_BYTES", 2**20)
    path = tmp_path / "a.json"
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        import_model(path)


# Fuzzing: good files with something changed; an `InputError` or a usable model, nothing else.

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, 4096, 4097, -1, 2, "LSTM", 1e39, 1e-46, "48000", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=3),
    max_leaves=6,
)  # fmt: skip
FUZZ = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def good(tmp_path: Path, format: str) -> str:
    """A good file, made once; a short batch keeps it small."""
    path = tmp_path / f"good-{format}"
    if not path.exists():
        document = exported(tmp_path, format, AmpLSTM(2, seed=4))
        for name in ("input_batch", "output_batch"):
            document[name] = document.get(name, [])[:20]
        if format == "aidax":
            document["in_gain"] = 1.0
        else:
            del document["input_batch"], document["output_batch"]
        document["metadata"] = {"name": "x", "tinyamp": {"preset": "laptop"}}
        write(path, document)
    return path.read_text()


def survives(path: Path) -> None:
    try:
        result = import_model(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ")
        str(error).encode("ascii")
        return
    assert all(value.isfinite().all() for value in result.model.state_dict().values())
    assert isinstance(result.model.sample_rate, int) and result.model.sample_rate > 0
    for format in FORMATS:  # what could be read can be written
        _export(result.model, path.parent, format)


@FUZZ
@given(data=st.data(), format=st.sampled_from(list(FORMATS)))
def test_changed_documents_never_escape(tmp_path, data, format):
    document = json.loads(good(tmp_path, format))
    for _ in range(data.draw(st.integers(1, 3), label="changes")):
        place: Any = document
        while True:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys), label="key")
            inner = place[key]
            if isinstance(inner, dict | list) and inner and data.draw(st.integers(0, 3)):
                place = inner
                continue
            action = data.draw(st.sampled_from(["replace", "replace", "remove", "repeat"]))
            if action == "replace":
                place[key] = data.draw(ANYTHING, label="value")
            elif action == "remove":
                del place[key]
            elif isinstance(place, list):
                place.append(copy.deepcopy(inner))
            else:
                place[f"{key}2"] = copy.deepcopy(inner)
            break
    survives(write(tmp_path / "fuzzed.json", document))


@FUZZ
@given(data=st.data(), format=st.sampled_from(list(FORMATS)))
def test_changed_bytes_never_escape(tmp_path, data, format):
    content = bytearray(good(tmp_path, format).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.sampled_from([0, 1, 1, 2, 30]))
        content[at : at + length] = data.draw(st.binary(max_size=3) | st.sampled_from(
            [b"9", b"-", b"e9", b"e99", b"NaN", b"null", b"true", b"[", b"]", b"{", b'"', b","]
        ))  # fmt: skip
    if data.draw(st.booleans(), label="cut"):
        del content[data.draw(st.integers(1, len(content))) :]
    path = tmp_path / "fuzzed.json"
    path.write_bytes(bytes(content))
    survives(path)


# Writing.


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    nan = AmpLSTM(2)
    with torch.no_grad():
        nan.head.weight[0, 1] = torch.nan
    for model, says in ((nan, "NaN"), (AmpLSTM(2, input_size=2), "one input")):
        for format in FORMATS:
            with pytest.raises(InputError, match=says):
                export_model(model, tmp_path / f"a{SUFFIX[format]}", format=format)
    odd = AmpLSTM(2)
    for odd.settings in ({"loss": float("nan")}, {"path": Path()}):
        with pytest.raises(InputError, match="settings do not fit"):
            export_model(odd, tmp_path / "a.nam")
    with pytest.raises(InputError, match="Cannot write"):
        (tmp_path / "file").touch()
        export_model(AmpLSTM(2), tmp_path / "file" / "a.nam")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_float64_is_rounded_and_that_is_said(tmp_path):
    model = AmpLSTM(3, seed=1).double()
    with torch.no_grad():
        model.head.weight += 1e-12
    done = export_model(model, tmp_path / "a.json", format="guitarml")
    assert done.notes == ("the weights are rounded to float32.",)
    back = import_model(tmp_path / "a.json").model
    assert torch.equal(back.head.weight, model.head.weight.float())


@pytest.mark.parametrize(("size", "plays"), [(20, True), (32, True), (27, False)])
def test_sizes_that_the_aidax_plugin_does_not_take_are_said(tmp_path, size, plays):
    notes = export_model(AmpLSTM(size), tmp_path / "a.json").notes
    assert bool(notes) != plays
    assert plays or "takes 8, 12, 16, 20, 24, 32, 40, 64, 80 units only" in notes[0]


@pytest.mark.parametrize(
    ("name", "format", "is_"),
    [("a.nam", None, "nam"), ("a.NAM", "nam", "nam"), ("a.json", None, "aidax"),
     ("a.json", "guitarml", "guitarml"), ("a.json", "nam", None), ("a.nam", "aidax", None),
     ("a", None, None), ("a.wav", "nam", None), ("a.json", "onnx", None)],
)  # fmt: skip
def test_name_and_format_must_fit(name, format, is_):
    if is_ is None:
        with pytest.raises(InputError, match=f"{name} must end in"):
            format_for(name, format)
    else:
        assert format_for(name, format) == is_


@pytest.mark.parametrize("residual", [True, False])
def test_neural_amp_modeler_plays_our_file(tmp_path, residual):
    """The format's own reader, where the neural-amp-modeler package is installed."""
    reason = "The package neural-amp-modeler is absent, so its own reader cannot be asked."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = pytest.importorskip("nam.models", reason=reason, exc_type=ImportError)
    model = load_model(data_folder() / "models" / "sim-muff-32.safetensors")
    if not residual:
        document = exported(tmp_path, "guitarml", model)
        document["model_data"]["skip"] = 0
        model = import_model(write(tmp_path / "plain.json", document)).model
    document = exported(tmp_path, "nam", model)
    assert document["config"]["hidden_size"] == (33 if residual else 32)
    theirs = models.init_from_nam(document).eval()
    assert theirs.sample_rate == 44_100
    x = signal(8000)
    with torch.no_grad():
        y = theirs(torch.from_numpy(x), pad_start=False).numpy()
    assert np.abs(y - expected(model, x, "nam")).max() < STATED_ERROR
