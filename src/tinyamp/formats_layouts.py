"""What the three formats look like: weights to a JSON document and back.

PyTorch's gate order i, f, g, o is that of all three. Each `…_document` makes a file's content of
`Weights`; each `…_weights` takes it apart again and raises `InputError` for whatever does not fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tinyamp.files import InputError
from tinyamp.formats_json import array, hidden_size_of, lists, member, must_be, show
from tinyamp.formats_residual import Weights

BURN_IN = 48_000  # zeros after which a .nam file's state is taken, as its own trainer does
NAM_VERSION = "0.5.4"
STATE_DICT = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def guitarml_document(weights: Weights) -> dict[str, Any]:
    """GuitarML (Automated-GuitarAmpModelling, Proteus, NeuralPi): PyTorch's arrays by name."""
    arrays = (weights.W_ih, weights.W_hh, weights.b_ih, weights.b_hh)
    state = {f"rec.{name}": lists(a) for name, a in zip(STATE_DICT, arrays, strict=True)}
    return {
        "model_data": {
            "model": "SimpleRNN",
            "input_size": 1,
            "skip": int(weights.residual),
            "output_size": 1,
            "unit_type": "LSTM",
            "num_layers": 1,
            "hidden_size": weights.hidden_size,
            "bias_fl": True,
        },
        "state_dict": {
            **state,
            "lin.weight": lists(weights.W_fc[None]),
            "lin.bias": lists(weights.b_fc),
        },
    }


def guitarml_weights(document: dict[str, Any]) -> Weights:
    """The weights of a GuitarML document."""
    about = member(document, "model_data", dict, "an object with the sizes")
    state = member(document, "state_dict", dict, "an object with the weights")
    must_be(about, "model", "SimpleRNN", absent=True)
    must_be(about, "unit_type", "LSTM")
    must_be(about, "num_layers", 1, absent=True)
    must_be(about, "input_size", 1)
    must_be(about, "output_size", 1, absent=True)
    if about.get("bias_fl", True) not in (True, 1):
        raise InputError(f"bias_fl must be true, but is {show(about['bias_fl'])}.")
    size = hidden_size_of(about)
    shapes = {
        "rec.weight_ih_l0": (4 * size, 1),
        "rec.weight_hh_l0": (4 * size, size),
        "rec.bias_ih_l0": (4 * size,),
        "rec.bias_hh_l0": (4 * size,),
        "lin.weight": (1, size),
        "lin.bias": (1,),
    }
    if more := sorted(set(state) - set(shapes)):
        raise InputError(f"state_dict has {show(more[0])}, which a single-layer LSTM has not.")
    arrays = []
    for name, shape in shapes.items():
        arrays.append(array(member(state, name, list, "a list of numbers"), shape, name))
    W_ih, W_hh, b_ih, b_hh, W_fc, b_fc = arrays
    return Weights(W_ih, W_hh, b_ih, b_hh, W_fc[0], b_fc, _flag(about, "skip"))


def aidax_document(weights: Weights) -> dict[str, Any]:
    """AIDA-X and RTNeural: Keras' layers, matrices transposed, the two biases summed."""
    size = weights.hidden_size
    lstm = [lists(weights.W_ih.T), lists(weights.W_hh.T), lists(weights.bias)]
    dense = [lists(weights.W_fc[:, None]), lists(weights.b_fc)]
    return {
        "in_shape": [None, None, 1],
        **({"in_skip": 1} if weights.residual else {}),
        "layers": [
            {"type": "lstm", "activation": "", "shape": [None, None, size], "weights": lstm},
            {"type": "dense", "activation": "", "shape": [None, None, 1], "weights": dense},
        ],
    }


def aidax_weights(document: dict[str, Any]) -> Weights:
    """The weights of an AIDA-X document; its batches are not looked at."""
    layers = member(document, "layers", list, "a list of layers")
    kinds = [layer.get("type") if isinstance(layer, dict) else layer for layer in layers[:9]]
    if kinds != ["lstm", "dense"]:
        raise InputError(f"layers must be one lstm and one dense, but are {show(kinds)}.")
    if _last(document, "in_shape") != 1:
        raise InputError(f"in_shape must end in 1 input, but is {show(document['in_shape'])}.")
    for layer, names in zip(layers, (("", "tanh"), ("", "linear")), strict=True):
        if layer.get("activation", "") not in names:
            raise InputError(
                f"the {layer['type']} layer must have its usual activation, "
                f"but has {show(layer['activation'])}."
            )
    lstm, dense = layers
    size = hidden_size_of({"hidden_size": _last(lstm, "shape")})
    if _last(dense, "shape") != 1:
        raise InputError(
            f"the dense layer must have 1 output; its shape is {show(dense['shape'])}."
        )
    parts = [member(layer, "weights", list, "a list of arrays") for layer in layers]
    for layer, part, count in zip(layers, parts, (3, 2), strict=True):
        if len(part) != count:
            raise InputError(
                f"the {layer['type']} layer must have {count} arrays of weights, "
                f"but has {len(part)}."
            )
    bias = array(parts[0][2], (4 * size,), "the lstm layer's bias")
    return Weights(
        W_ih=array(parts[0][0], (1, 4 * size), "the lstm layer's kernel").T,
        W_hh=array(parts[0][1], (size, 4 * size), "the lstm layer's recurrent kernel").T,
        b_ih=bias,
        b_hh=np.zeros_like(bias),
        W_fc=array(parts[1][0], (size, 1), "the dense layer's kernel")[:, 0],
        b_fc=array(parts[1][1], (1,), "the dense layer's bias"),
        residual=_flag(document, "in_skip") if "in_skip" in document else False,
    )


def nam_document(weights: Weights) -> dict[str, Any]:
    """Neural Amp Modeler: one flat list; there is no residual, so `weights` must have none."""
    size = weights.hidden_size
    state = _settled(weights)  # h, c (hidden,) each
    matrix = np.concatenate([weights.W_ih, weights.W_hh], axis=1)  # (4 · hidden, 1 + hidden)
    flat = [matrix.ravel(), weights.bias, *state, weights.W_fc, weights.b_fc]
    return {
        "version": NAM_VERSION,
        "architecture": "LSTM",
        "config": {"input_size": 1, "hidden_size": size, "num_layers": 1},
        "weights": lists(np.concatenate(flat)),
    }


def nam_weights(document: dict[str, Any]) -> Weights:
    """The weights of a .nam document, without residual; its initial states are left out."""
    version = member(document, "version", str, "text such as 0.5.4")
    if version.split(".")[0] != "0":
        raise InputError(f"version must be 0.x, but is {show(version)}.")
    must_be(document, "architecture", "LSTM")
    config = member(document, "config", dict, "an object with the sizes")
    must_be(config, "input_size", 1)
    must_be(config, "num_layers", 1)
    size = hidden_size_of(config)
    sizes = np.array([4 * size * (1 + size), 4 * size, 2 * size, size, 1])
    listed = member(document, "weights", list, "a list of numbers")
    flat = array(listed, (int(sizes.sum()),), f"weights (for hidden_size {size})")
    matrix, bias, _, W_fc, b_fc = np.split(flat, np.cumsum(sizes)[:-1])
    matrix = matrix.reshape(4 * size, 1 + size)
    W_ih, W_hh = matrix[:, :1], matrix[:, 1:]
    return Weights(W_ih, W_hh, bias, np.zeros_like(bias), W_fc, b_fc, residual=False)


def _flag(document: dict[str, Any], name: str) -> bool:
    """A member that is 0 or 1."""
    value = member(document, name, int, "0 or 1")
    if value not in (0, 1):
        raise InputError(f"{name} must be 0 or 1, but is {show(value)}.")
    return bool(value)


def _last(document: dict[str, Any], name: str) -> int:
    """The last number of a Keras shape, such as [null, null, 32]."""
    shape = member(document, name, list, "a list of sizes")
    if not shape or type(shape[-1]) is not int:
        raise InputError(f"{name} must end in a whole number, but is {show(shape)}.")
    return shape[-1]


def _settled(weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """The state (h, c), (hidden,) each, that `BURN_IN` zeros lead to from the zero state."""
    size = weights.hidden_size
    lstm = torch.nn.LSTM(1, size, batch_first=True)
    arrays = (weights.W_ih, weights.W_hh, weights.bias, np.zeros_like(weights.bias))
    lstm.load_state_dict(
        {name: torch.tensor(value) for name, value in zip(STATE_DICT, arrays, strict=True)}
    )
    block = BURN_IN // 10
    state = (torch.zeros(1, 1, size), torch.zeros(1, 1, size))
    with torch.inference_mode():
        for _ in range(10):
            before = state
            _, state = lstm(torch.zeros(1, block, 1), state)
            if all(map(torch.equal, before, state)):
                break  # every further block leads from this state to itself
    return state[0].numpy().ravel(), state[1].numpy().ravel()
