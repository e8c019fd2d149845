"""Other ways to play a model than compiled: PyTorch, NumPy, plain Python and ONNX Runtime.

What Section IV-C calls inference, at the speeds that people start from. Each player keeps its
state and has `process(x)` (time,) to (time,), float32, and `reset()`, as a `CompiledModel` has.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch

from tinyamp.files import InputError
from tinyamp.model import AmpLSTM, State

ONNX_MISSING = "ONNX Runtime is not installed; to add it: pip install onnx onnxruntime"
OPSET, IR_VERSION = 17, 8  # of ONNX; old enough for every ONNX Runtime since 2022


def one_channel(x: np.ndarray) -> np.ndarray:
    """A copy of `x` as float32; raises `InputError` unless it is (time,) and finite."""
    x = np.asarray(x)
    if x.ndim != 1:
        raise InputError(f"The model processes one channel, shape (time,); got {x.shape}.")
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise InputError("The signal has samples that are NaN, infinite, or beyond float32.")
    return x


def float32_copy(model: AmpLSTM) -> AmpLSTM:
    """A copy of `model` on the CPU that no training reaches.

    Raises `InputError` for a model of several inputs, and for weights that are not finite in
    float32.
    """
    if model.input_size != 1:
        raise InputError(f"A player plays one signal, and the model needs {model.input_size}.")
    model = copy.deepcopy(model).cpu().float().requires_grad_(False)
    for name, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise InputError(f"{name} of the model is NaN, infinite, or beyond float32.")
    return model


class TorchPlayer:
    """The model in PyTorch: each `process` costs one call, and each sample some more."""

    CHUNK = 4096  # samples after which fading numbers are set to zero
    TINY = float(np.finfo(np.float32).tiny)  # below it, numbers are denormal, which is slow

    def __init__(self, model: AmpLSTM) -> None:
        self.model = float32_copy(model)
        self.sample_rate = model.sample_rate
        self._state: State | None = None

    def reset(self) -> None:
        """Go back to the zero state."""
        self._state = None

    def process(self, x: np.ndarray) -> np.ndarray:
        """The output (time,), float32, for the next samples `x` (time,)."""
        x = one_channel(x)
        y = np.empty_like(x)
        signal = self._without_denormals(torch.from_numpy(x))[None, :, None]  # (1, time, 1)
        with torch.no_grad():
            for start in range(0, len(x), self.CHUNK):
                out, (h, c) = self.model(signal[:, start : start + self.CHUNK], self._state)
                self._state = self._without_denormals(h), self._without_denormals(c)
                y[start : start + self.CHUNK] = out[0, :, 0].numpy()
        return y

    def _without_denormals(self, values: torch.Tensor) -> torch.Tensor:
        return torch.where(values.abs() < self.TINY, 0.0, values)


class NumpyPlayer:
    """The model in NumPy, one sample at a time: the four gates in one product, float32."""

    def __init__(self, model: AmpLSTM) -> None:
        weights = {k: v.numpy() for k, v in float32_copy(model).state_dict().items()}
        self.sample_rate = model.sample_rate
        self._w_x = weights["lstm.weight_ih_l0"][:, 0]  # (4 * hidden,)
        self._w_h = weights["lstm.weight_hh_l0"]  # (4 * hidden, hidden)
        self._b = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
        self._w_fc, self._b_fc = weights["head.weight"][0], weights["head.bias"][0]
        self.reset()

    def reset(self) -> None:
        """Go back to the zero state."""
        self._h = np.zeros(len(self._w_fc), np.float32)
        self._c = np.zeros(len(self._w_fc), np.float32)

    def process(self, x: np.ndarray) -> np.ndarray:
        """The output (time,), float32, for the next samples `x` (time,)."""
        x = one_channel(x)
        y = np.empty_like(x)
        h, c = self._h, self._c
        half, one = np.float32(0.5), np.float32(1)
        for n, x_n in enumerate(x):
            a_i, a_f, a_c, a_o = (self._w_h @ h + self._w_x * x_n + self._b).reshape(4, -1)
            i = half * (one + np.tanh(half * a_i))  # (1a): σ(a) = (1 + tanh(a/2))/2
            f = half * (one + np.tanh(half * a_f))  # (1b)
            o = half * (one + np.tanh(half * a_o))  # (1d)
            c = f * c + i * np.tanh(a_c)  # (1c), (1e)
            h = o * np.tanh(c)  # (1f)
            y[n] = self._w_fc @ h + self._b_fc + x_n  # (3)
        self._h, self._c = h, c
        return y


class PythonPlayer:
    """The model in plain Python, one number at a time, in float64: what a first try looks like."""

    def __init__(self, model: AmpLSTM) -> None:
        weights = {k: v.double().numpy() for k, v in float32_copy(model).state_dict().items()}
        self.sample_rate = model.sample_rate
        self._w_x = weights["lstm.weight_ih_l0"][:, 0].tolist()
        self._w_h = weights["lstm.weight_hh_l0"].tolist()
        self._b = (weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]).tolist()
        self._w_fc, self._b_fc = weights["head.weight"][0].tolist(), weights["head.bias"].item()
        self.reset()

    def reset(self) -> None:
        """Go back to the zero state."""
        self._h = [0.0] * len(self._w_fc)
        self._c = [0.0] * len(self._w_fc)

    def process(self, x: np.ndarray) -> np.ndarray:
        """The output (time,), float32, for the next samples `x` (time,)."""
        h, c, size = self._h, self._c, len(self._w_fc)
        y = []
        for x_n in one_channel(x).tolist():
            a = [
                b + w_x * x_n + sum(w * h_j for w, h_j in zip(row, h, strict=True))
                for b, w_x, row in zip(self._b, self._w_x, self._w_h, strict=True)
            ]
            for j in range(size):
                i = 0.5 * (1 + math.tanh(0.5 * a[j]))  # (1a): σ(a) = (1 + tanh(a/2))/2
                f = 0.5 * (1 + math.tanh(0.5 * a[size + j]))  # (1b)
                o = 0.5 * (1 + math.tanh(0.5 * a[3 * size + j]))  # (1d)
                c[j] = f * c[j] + i * math.tanh(a[2 * size + j])  # (1c), (1e)
                h[j] = o * math.tanh(c[j])  # (1f)
            y.append(sum(w * h_j for w, h_j in zip(self._w_fc, h, strict=True)) + self._b_fc + x_n)
        return np.array(y, np.float32)


def onnx_bytes(model: AmpLSTM) -> bytes:
    """The model as an ONNX file: x (time, 1, 1), h, c (1, 1, hidden) to y (time, 1, 1), h_n, c_n.

    State in and out, so that it plays a stream. Raises `InputError` without the `onnx` package.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise InputError(ONNX_MISSING) from error

    weights = {k: v.numpy() for k, v in float32_copy(model).state_dict().items()}
    size = model.hidden_size

    def iofc(name: str) -> np.ndarray:
        """Rows in ONNX's order of gates: i, o, f, c."""
        i, f, c, o = np.split(weights[f"lstm.{name}_l0"], 4)
        return np.concatenate([i, o, f, c])

    constants = {
        "W": iofc("weight_ih")[None],  # (1, 4 * hidden, 1)
        "R": iofc("weight_hh")[None],  # (1, 4 * hidden, hidden)
        "B": np.concatenate([iofc("bias_ih"), iofc("bias_hh")])[None],  # (1, 8 * hidden)
        "W_fc": weights["head.weight"].T,  # (hidden, 1)
        "b_fc": weights["head.bias"],  # (1,)
        "direction": np.array([1]),
    }
    nodes = [
        helper.make_node(
            "LSTM", ["x", "W", "R", "B", "", "h", "c"], ["H", "h_n", "c_n"], hidden_size=size
        ),  # H: (time, 1, 1, hidden), eqs. (1a-f)
        helper.make_node("Squeeze", ["H", "direction"], ["h_all"]),  # (time, 1, hidden)
        helper.make_node("MatMul", ["h_all", "W_fc"], ["product"]),  # (time, 1, 1)
        helper.make_node("Add", ["product", "b_fc"], ["dense"]),
        helper.make_node("Add", ["dense", "x"], ["y"]),  # eq. (3)
    ]

    def info(names: str) -> list:
        shapes = {"x": ["time", 1, 1], "y": ["time", 1, 1]}
        return [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes.get(n, [1, 1, size]))
            for n in names.split()
        ]

    graph = helper.make_graph(
        nodes,
        "amp",
        info("x h c"),
        info("y h_n c_n"),
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in constants.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    made = helper.make_model(graph, opset_imports=[opset], producer_name="tinyamp")
    made.ir_version = IR_VERSION
    return made.SerializeToString()


class OnnxPlayer:
    """The model in ONNX Runtime, on one thread. Raises `InputError` where that is not installed."""

    def __init__(self, model: AmpLSTM) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(ONNX_MISSING) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            onnx_bytes(model), options, providers=["CPUExecutionProvider"]
        )
        self.sample_rate = model.sample_rate
        self._hidden_size = model.hidden_size
        self.reset()

    def reset(self) -> None:
        """Go back to the zero state."""
        self._h = self._c = np.zeros((1, 1, self._hidden_size), np.float32)

    def process(self, x: np.ndarray) -> np.ndarray:
        """The output (time,), float32, for the next samples `x` (time,)."""
        x = one_channel(x)
        if not len(x):
            return x
        feed = {"x": x[:, None, None], "h": self._h, "c": self._c}
        y, self._h, self._c = self._session.run(["y", "h_n", "c_n"], feed)
        return y[:, 0, 0]
