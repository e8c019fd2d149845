"""The recurrent amp model of Section II: one LSTM layer, one dense layer, one residual connection.

The weights keep PyTorch's names and its gate order, which is the paper's: input gate i, forget
gate f, candidate cell state c~ (PyTorch calls it g), output gate o. Each of the four blocks has
`hidden_size` rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.std import tqdm

from tinyamp.files import InputError, write_beside

FORMAT = "tinyamp-model"
VERSION = 1
GATES = ("i", "f", "c", "o")
MAX_HIDDEN_SIZE = 4096  # far above anything that runs in real time; guards against absurd files

State = tuple[torch.Tensor, torch.Tensor]


class AmpLSTM(torch.nn.Module):
    """An LSTM that maps the input sample x[n] to the output sample ŷ[n], eqs. (1a-f) and (3).

    `lstm` holds W_ih (4 · hidden, input), W_hh (4 · hidden, hidden) and two biases (4 · hidden,);
    `head` is the fully connected layer, W_fc (1, hidden) and b_fc (1,). The initial weights are
    uniform in ±1/√hidden_size (PyTorch's default), drawn from `seed`. `sample_rate` (Hz) is the
    rate that the model was or will be trained at.
    """

    def __init__(
        self, hidden_size: int, *, input_size: int = 1, seed: int = 0, sample_rate: int = 44_100
    ) -> None:
        super().__init__()
        if not 1 <= hidden_size <= MAX_HIDDEN_SIZE:
            raise InputError(
                f"hidden_size must be from 1 to {MAX_HIDDEN_SIZE}, but is {hidden_size}."
            )
        if input_size < 1:
            raise InputError(f"input_size must be at least 1, but is {input_size}.")
        self.hidden_size = hidden_size
        self.input_size = input_size
        self.sample_rate = sample_rate
        self.settings: dict = {}
        self.lstm = torch.nn.LSTM(input_size, hidden_size, batch_first=True)
        self.head = torch.nn.Linear(hidden_size, 1)
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(hidden_size)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=generator)

    def forward(self, x: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        """Process `x` (batch, time, input) from `state`; return y (batch, time, 1) and the state.

        The state is the pair (h, c), each (1, batch, hidden); `None` is the zero state. Feeding a
        signal in blocks, each from the state that the one before returned, gives the same output
        as feeding it whole. With several inputs, the first is the audio that the residual adds.
        """
        h, state = self.lstm(x, state)  # (batch, time, hidden)
        y = self.head(h) + x[..., :1]  # (batch, time, 1): eq. (3)
        return y, state


def model_with(weights: Mapping[str, torch.Tensor], *, sample_rate: int) -> AmpLSTM:
    """The model of a `state_dict`: its sizes and its precision are those of the weights."""
    rows, input_size = weights["lstm.weight_ih_l0"].shape  # (4 · hidden, input)
    model = AmpLSTM(rows // 4, input_size=input_size, sample_rate=sample_rate)
    model.to(weights["head.bias"].dtype).load_state_dict(weights)
    return model


def parameter_count(hidden_size: int, input_size: int = 1) -> int:
    """Number of learnable parameters of the LSTM layer, eq. (2); the dense layer is not counted."""
    return (4 * input_size + 8) * hidden_size + 4 * hidden_size**2


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, for as long as it takes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def process(
    model: AmpLSTM,
    x: np.ndarray,
    *,
    block_size: int = 65_536,
    state: State | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Run a mono signal `x` (time,) through the model; return its output (time,) as float32.

    Works in blocks of `block_size` samples, so that memory does not grow with the length of the
    signal. Starts from `state`, or from zero. A float32 model on a CPU is played by compiled code
    where there is a C compiler (`tinyamp.bptt.compiled_forward`), any other by PyTorch on one
    thread: a second one would only be waited for, at every step. The two agree to rounding. Raises
    `InputError` for an `x` that is not one-dimensional or not finite.
    """
    from tinyamp.bptt import compiled_forward  # which imports this module

    x = np.asarray(x)
    if x.ndim != 1:
        raise InputError(f"The model processes one channel, shape (time,); got shape {x.shape}.")
    if model.input_size != 1:
        raise InputError(f"The model has {model.input_size} inputs; one signal is not enough.")
    if not np.isfinite(x).all():
        raise InputError("The signal has samples that are NaN or infinite.")
    weight = model.head.weight
    forward = compiled_forward(model) or model
    y = np.empty(len(x), dtype=np.float32)
    blocks = range(0, len(x), block_size)
    with torch.inference_mode(), one_thread():
        for start in tqdm(blocks, desc="processing", unit="block", disable=not progress):
            block = torch.as_tensor(x[start : start + block_size].astype(np.float32))
            block = block.to(weight.device, weight.dtype)[None, :, None]  # (1, block, 1)
            out, state = forward(block, state)
            y[start : start + block_size] = out[0, :, 0].cpu().numpy()
    return y


def reference_forward(
    weights: Mapping[str, np.ndarray],
    x: np.ndarray,
    state: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Eqs. (1a-f) and (3) written out in float64 NumPy, one sample at a time: slow, and plain.

    `weights` has the names of `AmpLSTM.state_dict()`; `x` is (time, input) or (time,); `state` is
    (h, c), each (hidden,). Returns ŷ (time,) and the last state. Every faster version of the
    model is checked against this one.
    """
    w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    x = np.asarray(x, dtype=np.float64).reshape(len(x), -1)  # (time, input)
    hidden_size = w["lstm.weight_hh_l0"].shape[1]
    W_ii, W_if, W_ic, W_io = np.split(w["lstm.weight_ih_l0"], 4)  # (hidden, input) each
    W_hi, W_hf, W_hc, W_ho = np.split(w["lstm.weight_hh_l0"], 4)  # (hidden, hidden) each
    b_ii, b_if, b_ic, b_io = np.split(w["lstm.bias_ih_l0"], 4)  # (hidden,) each
    b_hi, b_hf, b_hc, b_ho = np.split(w["lstm.bias_hh_l0"], 4)
    W_fc, b_fc = w["head.weight"], w["head.bias"]  # (1, hidden), (1,)

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 0.5 * (1 + np.tanh(0.5 * a))  # the logistic function, without overflow

    h, c = state if state is not None else (np.zeros(hidden_size), np.zeros(hidden_size))
    y = np.empty(len(x))
    for n, x_n in enumerate(x):
        i = sigmoid(W_ii @ x_n + b_ii + W_hi @ h + b_hi)  # (1a)
        f = sigmoid(W_if @ x_n + b_if + W_hf @ h + b_hf)  # (1b)
        c_tilde = np.tanh(W_ic @ x_n + b_ic + W_hc @ h + b_hc)  # (1c)
        o = sigmoid(W_io @ x_n + b_io + W_ho @ h + b_ho)  # (1d)
        c = f * c + i * c_tilde  # (1e)
        h = o * np.tanh(c)  # (1f)
        y[n] = (W_fc @ h + b_fc)[0] + x_n[0]  # (3)
    return y, (h, c)


def save_model(
    model: AmpLSTM,
    path: str | Path,
    *,
    sample_rate: int | None = None,
    settings: Mapping | None = None,
) -> None:
    """Write the weights as safetensors, with the sizes, sample rate (Hz) and settings beside them.

    `settings` is anything JSON can hold (how the model was trained). The file is written beside
    `path` and renamed, so that it is whole or absent. Raises `InputError` when it cannot be
    written.
    """
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "hidden_size": str(model.hidden_size),
        "input_size": str(model.input_size),
        "sample_rate": str(sample_rate or model.sample_rate),
        "settings": json.dumps(dict(model.settings if settings is None else settings)),
    }
    tensors = {k: v.detach().to("cpu").contiguous() for k, v in model.state_dict().items()}
    with write_beside(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # a full disk, for example
            raise InputError(f"Cannot write {path}: {error}.") from error


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the header's metadata of a safetensors file.

    Raises `InputError` for a file that is missing, a folder, or damaged.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name the model file in it.")
    if not path.is_file():
        raise InputError(f"There is no model file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} cannot be read as a safetensors file ({error}); it is damaged or not a model."
        ) from error


def load_model(path: str | Path) -> AmpLSTM:
    """Read a model that `save_model` wrote; its `.sample_rate` (Hz) and `.settings` are set.

    Raises `InputError`, with a sentence, for a file that is missing, damaged, of another format
    or version, of the wrong shapes, or that holds weights that are not finite.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is a safetensors file, but not a {FORMAT}.")
    if metadata.get("version") != str(VERSION):
        raise InputError(
            f"{path} has version {metadata.get('version')} of the {FORMAT} format; "
            f"this tinyamp reads version {VERSION}."
        )
    try:
        hidden_size, input_size = int(metadata["hidden_size"]), int(metadata["input_size"])
        sample_rate = int(metadata["sample_rate"])
        settings = json.loads(metadata["settings"])
        if not (0 < hidden_size <= MAX_HIDDEN_SIZE and 0 < input_size <= 64 and sample_rate > 0):
            raise ValueError("a size or the sample rate is out of range")
        if not isinstance(settings, dict):
            raise ValueError("the settings are not an object")
    except (KeyError, ValueError) as error:
        raise InputError(f"The header of {path} is not that of a {FORMAT}: {error}.") from error
    expected = {
        "lstm.weight_ih_l0": (4 * hidden_size, input_size),
        "lstm.weight_hh_l0": (4 * hidden_size, hidden_size),
        "lstm.bias_ih_l0": (4 * hidden_size,),
        "lstm.bias_hh_l0": (4 * hidden_size,),
        "head.weight": (1, hidden_size),
        "head.bias": (1,),
    }
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        wrong = sorted(set(found.items()) ^ set(expected.items()))
        name = wrong[0][0]
        raise InputError(
            f"{path} says hidden_size {hidden_size}, which needs {name} of shape "
            f"{expected.get(name)}; the file has {found.get(name)}."
        )
    dtypes = {tensor.dtype for tensor in tensors.values()}
    if not dtypes <= {torch.float32, torch.float64} or len(dtypes) != 1:
        raise InputError(f"{path} holds {dtypes}; expected weights all float32 (or all float64).")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path} holds NaN or infinite values in {name}.")
    model = AmpLSTM(hidden_size, input_size=input_size, sample_rate=sample_rate)
    model.to(dtypes.pop()).load_state_dict(tensors)
    model.settings = settings
    return model
