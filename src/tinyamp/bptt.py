"""Backpropagation through time, compiled: what training spends its time on (Section IV-B3).

PyTorch computes the same, but for the small models and batches of this book it spends most of its
time between the steps. Here all steps of a chunk are one call of C, in which a vector holds one
unit of eight sequences. The same library plays single sequences, for `tinyamp.model.process`. The
weights are handed to it, so that it is compiled once and serves every model.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch

from tinyamp.cbptt import LANES, SOURCE
from tinyamp.compiler import build
from tinyamp.files import InputError
from tinyamp.model import AmpLSTM, State

Forward = Callable[[torch.Tensor, State | None], tuple[torch.Tensor, State]]


def unroll(
    model: AmpLSTM, x: torch.Tensor, state: State | None = None
) -> tuple[torch.Tensor, State]:
    """`model(x, state)`, faster where it can be: `x` (batch, time, 1), y of that shape, the state.

    The gradient reaches the model's weights, and ends at `x` and at the state: it is *truncated*
    backpropagation. Compiled for one input, float32 on a CPU and where there is a C compiler; else
    PyTorch's. The two agree to rounding.
    """
    if not can_compile(model):
        state = None if state is None else tuple(s.detach() for s in state)
        y, state = model(x, state)
        return y, tuple(s.detach() for s in state)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weights = [getattr(model.lstm, name) for name in names]
    if state is None:
        state = (x.new_zeros(1, len(x), model.hidden_size),) * 2
    y, h, c = _Unroll.apply(x, *state, *weights, model.head.weight, model.head.bias)
    return y, (h, c)


def compiled_forward(model: AmpLSTM) -> Forward | None:
    """`model(x, state)` without a gradient, compiled: `x` (1, time, 1), one sequence; y and state.

    The weights are those of now. None where `can_compile` says no, and for weights that are NaN or
    infinite, whose output is PyTorch's to tell. The two agree to rounding; how a signal is split
    does not change this one, to the bit.
    """
    weights = model.state_dict()
    if not can_compile(model) or not all(w.isfinite().all() for w in weights.values()):
        return None
    H = model.hidden_size
    groups, inputs = -(-H // LANES), H + H % 2
    bias = weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]
    columns = [bias[:, None], weights["lstm.weight_ih_l0"], weights["lstm.weight_hh_l0"]]
    w = bias.new_zeros(4, groups * LANES, 2 + inputs)
    w[:, :H, : 2 + H] = torch.cat(columns, dim=1).reshape(4, H, -1)
    w = w.unflatten(1, (groups, LANES)).permute(1, 3, 0, 2).contiguous()  # (groups, 2 + H, 4, 8)
    head, b_fc = bias.new_zeros(groups * LANES), weights["head.bias"].item()
    head[:H] = weights["head.weight"][0]

    def forward(x: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        h, c = head.new_zeros(2, groups * LANES), head.new_zeros(groups * LANES)
        if state is not None:
            h[0, :H], c[:H] = (s.reshape(H) for s in state)
        x = x.contiguous()
        y, frames = torch.empty_like(x), x.shape[1]
        addresses = _addresses((w, head)), _addresses((x, h, c, y))
        _library().play(frames, groups, inputs, *addresses[0], b_fc, *addresses[1])
        return y, (h[frames % 2, :H].reshape(1, 1, H), c[:H].reshape(1, 1, H))

    return forward


def can_compile(model: AmpLSTM) -> bool:
    """Whether `unroll` runs compiled for this model."""
    weight = model.head.weight
    fits = model.input_size == 1 and weight.dtype == torch.float32 and weight.device.type == "cpu"
    return fits and _library() is not None


@lru_cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(build(SOURCE, width=LANES)))
    except (InputError, OSError):
        return None
    number, pointer = ctypes.c_int, ctypes.c_void_p
    library.forward.argtypes = [number] * 2 + [pointer] * 6 + [ctypes.c_float] + [pointer] * 5
    library.backward.argtypes = [number] * 2 + [pointer] * 8
    library.gradients.argtypes = [number] * 2 + [pointer] * 8
    library.play.argtypes = [number] * 3 + [pointer] * 2 + [ctypes.c_float] + [pointer] * 4
    library.forward.restype = library.backward.restype = library.gradients.restype = None
    library.play.restype = None
    return library


def _blocks(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of weights (blocks, inputs, 8), those that are not all zero: weights, inputs and counts."""
    kept = weights.any(axis=2)  # (blocks, inputs)
    inputs = np.nonzero(kept)[1].astype(np.int32)
    return np.ascontiguousarray(weights[kept]), inputs, kept.sum(axis=1).astype(np.int32)


def _lanes(x: torch.Tensor, groups: int, units: int) -> torch.Tensor:
    """From (batch, time, n) to (groups, time, units, 8), filled up with zeros."""
    batch, time, n = x.shape
    out = x.new_zeros(groups * LANES, time, units)
    out[:batch, :, :n] = x
    return out.unflatten(0, (groups, LANES)).permute(0, 2, 3, 1).contiguous()


def _side_by_side(run: Callable[[tuple], None], groups: Iterable[tuple]) -> None:
    """Run every group of eight sequences, as many at a time as PyTorch may use threads."""
    groups = list(groups)
    if len(groups) == 1 or torch.get_num_threads() == 1:
        for group in groups:
            run(group)
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(run, groups))


def _addresses(arrays: Sequence[np.ndarray | torch.Tensor]) -> list[int]:
    return [a.data_ptr() if isinstance(a, torch.Tensor) else a.ctypes.data for a in arrays]


class _Unroll(torch.autograd.Function):
    """The whole model over a chunk. Its tensors are (groups, time, unit, 8), `units` made even."""

    @staticmethod
    def forward(ctx, x, h, c, w_ih, w_hh, b_ih, b_hh, w_fc, b_fc):
        batch, time, _ = x.shape
        hidden_size = w_hh.shape[1]
        groups, units = -(-batch // LANES), hidden_size + hidden_size % 2

        def pairs(rows: torch.Tensor) -> np.ndarray:
            """Rows (4 · hidden, n) as blocks (units / 2, n, 8): per pair i i f f c~ c~ o o."""
            padded = np.zeros((4, units, rows.shape[1]), np.float32)
            padded[:, :hidden_size] = rows.detach().numpy().reshape(4, hidden_size, -1)
            blocks = padded.reshape(4, units // 2, 2, -1).transpose(1, 3, 0, 2)
            return np.ascontiguousarray(blocks.reshape(units // 2, -1, 8))

        head = np.zeros(-(-units // 8) * 8, np.float32)
        head[:hidden_size] = w_fc.detach()[0].numpy()
        weights = *_blocks(pairs(w_hh)), pairs(w_ih), pairs((b_ih + b_hh)[:, None]), head
        x = _lanes(x, groups, 1)
        y = torch.empty_like(x)
        gates = x.new_empty(groups, time, 4 * units, LANES)
        hs, cs = (x.new_empty(groups, time + 1, units, LANES) for _ in range(2))
        hs[:, :1], cs[:, :1] = (_lanes(s[0][:, None], groups, units) for s in (h, c))
        before = *_addresses(weights), b_fc.item()

        def run(group: tuple[torch.Tensor, ...]) -> None:
            _library().forward(time, units, *before, *_addresses(group))

        _side_by_side(run, zip(x, gates, hs, cs, y, strict=True))
        ctx.save_for_backward(x, gates, hs, cs, w_hh)
        ctx.head, ctx.batch = head, batch

        def rows(z: torch.Tensor) -> torch.Tensor:
            """From (groups, n, 8) to (batch, n)."""
            return z.transpose(1, 2).flatten(0, 1)[:batch]

        last = [rows(s[:, -1])[None, :, :hidden_size].contiguous() for s in (hs, cs)]
        ctx.mark_non_differentiable(*last)
        return rows(y[:, :, 0])[:, :, None].contiguous(), *last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy, *_):
        x, gates, hs, cs, w_hh = ctx.saved_tensors
        groups, time, rows, _ = gates.shape
        hidden_size, units = w_hh.shape[1], rows // 4
        padded = np.zeros((4, units, len(ctx.head)), np.float32)
        padded[:, :hidden_size, :hidden_size] = w_hh.numpy().reshape(4, hidden_size, -1)
        eights = padded.reshape(rows, -1, 8).transpose(1, 0, 2)  # (units / 8, 4 · units, 8)
        weights = *_blocks(eights), ctx.head
        dy = _lanes(dy, groups, 1)
        sums = [dy.new_zeros(groups, n) for n in (rows * units, rows, rows, units)]

        def run(group: tuple[torch.Tensor, ...]) -> None:
            x, d, h, c, dy, *sums = group
            dc = dy.new_zeros(units, LANES)
            _library().backward(time, units, *_addresses((*weights, dy, d, c, dc)))
            _library().gradients(time, units, *_addresses((d, h, x, dy, *sums)))

        _side_by_side(run, zip(x, gates, hs, cs, dy, *sums, strict=True))
        *of_gates, d_fc = (z.sum(dim=0) for z in sums)
        d_hh, d_ih, d_b = (z.reshape(4, units, -1)[:, :hidden_size] for z in of_gates)
        d_hh, d_ih = d_hh[..., :hidden_size].flatten(0, 1), d_ih.flatten(0, 1)
        d_b, d_fc = d_b.flatten(), d_fc[None, :hidden_size]
        return None, None, None, d_ih, d_hh, d_b, d_b, d_fc, dy.sum().reshape(1)
