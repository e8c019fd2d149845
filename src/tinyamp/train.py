"""Training with truncated backpropagation through time, Section IV-B2 and IV-B3.

The training set is cut into half-second segments that are shuffled into mini-batches. Each
mini-batch starts from the zero state; its first 1000 samples only warm the state up; after that
the weights are updated every 2048 samples, while the state runs on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm.std import tqdm

from tinyamp.bptt import unroll
from tinyamp.checkpoint import CHECKPOINT, fingerprint, load_checkpoint, save_checkpoint, weights_of
from tinyamp.data import Recording, segments
from tinyamp.files import InputError
from tinyamp.losses import amp_loss
from tinyamp.model import AmpLSTM, State, process
from tinyamp.presets import Epoch, History, TrainSettings, epoch_order, learning_rate_at

Forward = Callable[[AmpLSTM, torch.Tensor, State | None], tuple[torch.Tensor, State]]


class DivergedError(RuntimeError):
    """The loss or a weight became NaN or infinite; the message says where the good ones are."""


def pick_device(name: str | None = None) -> torch.device:
    """The torch device called `name`; None takes CUDA, then MPS, then the CPU."""
    if name is not None:
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"The device {name!r} cannot be used here: {reason}") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def adam(model: AmpLSTM, settings: TrainSettings) -> torch.optim.Adam:
    """Adam for all weights of `model`, with the decay of `settings` inside it or beside it."""
    kind = torch.optim.AdamW if settings.decoupled else torch.optim.Adam
    return kind(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def train_batch(
    model: AmpLSTM,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    target: torch.Tensor,
    settings: TrainSettings,
    masks: Mapping[str, torch.Tensor] | None = None,
    *,
    forward: Forward = unroll,
) -> list[float]:
    """Truncated backpropagation through one mini-batch; the loss of every update (IV-B2, IV-B3).

    `x` and `target` are (batch, segment_length, 1). With the paper's numbers these are eleven
    updates: ten of 2048 samples and one of 570. Weights that are False in `masks`, and zero when
    this begins, get no gradient and stay exactly zero. `forward` runs the model over a chunk:
    `unroll`, or `AmpLSTM.__call__` for PyTorch alone. With `clip_norm`, an update whose gradient
    is beyond float32 is left out. Raises `DivergedError` when a loss is not finite; the weights
    have then not been updated with it.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    masked = [(model.get_parameter(name), ~mask) for name, mask in (masks or {}).items()]
    state = None
    if settings.warmup:
        with torch.no_grad():
            _, state = forward(model, x[:, : settings.warmup], None)  # it only settles
    losses = []
    for start in range(settings.warmup, x.shape[1], settings.chunk):
        stop = min(start + settings.chunk, x.shape[1])
        prediction, state = forward(model, x[:, start:stop], state)  # (batch, chunk, 1)
        loss = amp_loss(
            target[:, start:stop],
            prediction,
            coefficient=settings.pre_emphasis,
            dc_weight=settings.dc_weight,
        )
        if not torch.isfinite(loss):
            raise DivergedError(f"the loss became {loss.item()}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for parameter, pruned in masked:  # before clipping: what is pruned has no share in the norm
            parameter.grad.masked_fill_(pruned, 0)
        usable = True  # a gradient beyond float32 is not: it has no direction that could be taken
        if settings.clip_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            usable = bool(norm.isfinite())
        if usable:
            optimizer.step()
        state = tuple(s.detach() for s in state)  # the gradient stops here, the state runs on
        losses.append(loss.item())
    return losses


def batches(
    recording: Recording, settings: TrainSettings, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Input and target of all segments, each (segments, segment_length, 1), on `device`."""
    x, target = segments(recording, settings.segment_length)
    return tuple(torch.as_tensor(array)[:, :, None].to(device) for array in (x, target))


def updates_per_epoch(settings: TrainSettings, n_segments: int) -> int:
    """How often the weights are updated in one epoch."""
    per_batch = len(range(settings.warmup, settings.segment_length, settings.chunk))
    return per_batch * math.ceil((settings.segments_per_epoch or n_segments) / settings.batch_size)


def train_epoch(
    model: AmpLSTM,
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    settings: TrainSettings,
    history: History,
    *,
    masks: Mapping[str, torch.Tensor] | None = None,
    after_batch: Callable[[list[float]], None] | None = None,
) -> float:
    """One epoch, the one that follows those in `history`; its mean training loss (IV-B3).

    `inputs` and `targets` are (segments, segment_length, 1); `after_batch` gets the losses of each
    mini-batch. Raises `DivergedError` when the loss or a weight stops being finite.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate_at(settings, history)
    order = torch.as_tensor(epoch_order(settings, len(history.epochs), len(inputs)))
    losses: list[float] = []
    for batch in order.split(settings.batch_size):
        batch = batch.to(inputs.device)
        fresh = train_batch(model, optimizer, inputs[batch], targets[batch], settings, masks)
        losses += fresh
        if after_batch is not None:
            after_batch(fresh)
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise DivergedError("a weight stopped being finite")
    return float(np.mean(losses))


def validation_loss(model: AmpLSTM, recording: Recording, settings: TrainSettings) -> float:
    """The training loss, eq. (7), of the whole unsegmented recording from the zero state.

    That is what IV-B says, and the authors' code does; IV-B3 says without pre-emphasis.
    """
    target = torch.as_tensor(recording.target, dtype=torch.float64)[None]  # (1, time)
    output = torch.as_tensor(process(model, recording.input), dtype=torch.float64)[None]
    return amp_loss(
        target, output, coefficient=settings.pre_emphasis, dc_weight=settings.dc_weight
    ).item()


def _show(bar: tqdm, epoch: int, settings: TrainSettings, loss: float, history: History) -> None:
    """Write the epoch, the last loss and the best validation loss behind the progress bar."""
    best = "-" if history.best_epoch is None else f"{history.best_loss:.4f}"
    bar.set_postfix(epoch=f"{epoch}/{settings.epochs}", loss=f"{loss:.4f}", validation=best)


def demand_rate(model: AmpLSTM, **recordings: Recording) -> None:
    """Raise `InputError` unless every recording has the sample rate (Hz) of the model."""
    for name, recording in recordings.items():
        if recording.sample_rate != model.sample_rate:
            raise InputError(
                f"The model is for {model.sample_rate} Hz, but the {name} recording "
                f"({recording.name}) has {recording.sample_rate} Hz; resample one of them."
            )


def train(
    model: AmpLSTM,
    train_set: Recording,
    validation_set: Recording,
    settings: TrainSettings | None = None,
    *,
    masks: Mapping[str, torch.Tensor] | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | None = "cpu",
) -> History:
    """Train `model` in place; it ends with the weights of the lowest validation loss.

    A pruned model is trained with its `masks`: what they have False is zero from the first step
    to the last. With a `folder`, every epoch ends with a checkpoint there: `last.safetensors` and
    `best.safetensors` (models), `history.json`, and `checkpoint.safetensors`, from which
    `resume=True` continues. A run that was killed at any moment and resumed gives the same
    weights, bit for bit on a CPU, as one that was not. `device` None picks a GPU if there is one.

    Raises `InputError` for recordings that do not fit (sample rates, too short) or a checkpoint
    of another run, and `DivergedError` when the loss or a weight stops being finite.
    """
    settings = settings or TrainSettings()
    demand_rate(model, training=train_set, validation=validation_set)
    torch_device = pick_device(device)
    inputs, targets = batches(train_set, settings, torch_device)
    run = fingerprint(model, settings, train_set, validation_set, masks)
    model.to(torch_device)
    masks = {name: mask.to(torch_device) for name, mask in (masks or {}).items()}
    with torch.no_grad():
        for name, mask in masks.items():
            model.get_parameter(name).masked_fill_(~mask, 0)
    optimizer = adam(model, settings)
    history, best = History(), weights_of(model)
    folder = None if folder is None else Path(folder)
    if resume and folder is None:
        raise InputError("To resume, name the folder of the run that was interrupted.")
    if folder is not None and not resume:
        (folder / CHECKPOINT).unlink(missing_ok=True)  # that of an older run
    if resume and (folder / CHECKPOINT).exists():
        history, best = load_checkpoint(folder / CHECKPOINT, run, model, optimizer)

    per_epoch = updates_per_epoch(settings, len(inputs))
    bar = tqdm(
        total=settings.epochs * per_epoch,
        initial=len(history.epochs) * per_epoch,
        desc="training",
        unit="update",
        disable=not progress,
    )

    def after_batch(losses: list[float]) -> None:
        bar.update(len(losses))
        _show(bar, len(history.epochs) + 1, settings, losses[-1], history)

    with bar:
        for epoch in range(len(history.epochs), settings.epochs):
            started = time.perf_counter()
            rate = learning_rate_at(settings, history)
            try:
                mean_loss = train_epoch(
                    model,
                    optimizer,
                    inputs,
                    targets,
                    settings,
                    history,
                    masks=masks,
                    after_batch=after_batch,
                )
            except DivergedError as error:
                model.load_state_dict(best)
                kept = (
                    f" The best weights so far are in {folder}."
                    if folder and history.epochs
                    else ""
                )
                raise DivergedError(
                    f"Training stopped in epoch {epoch + 1}: {error}.{kept} "
                    "Try a lower learning rate."
                ) from error
            due = (epoch + 1) % settings.validate_every == 0 or epoch + 1 == settings.epochs
            validation = validation_loss(model, validation_set, settings) if due else None
            if validation is not None and validation < history.best_loss:
                best = weights_of(model)
            seconds = time.perf_counter() - started
            history.epochs.append(Epoch(epoch + 1, mean_loss, validation, rate, seconds))
            _show(bar, epoch + 1, settings, mean_loss, history)
            if folder is not None:
                save_checkpoint(folder, run, settings, model, optimizer, history, best)
    model.load_state_dict(best)
    model.settings = {"train": asdict(settings), "data": train_set.name}
    return history
