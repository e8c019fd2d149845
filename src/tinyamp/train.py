"""Training with truncated backpropagation through time, Section IV-B2 and IV-B3.

The training set is cut into half-second segments that are shuffled into mini-batches. Each
mini-batch starts from the zero state; its first 1000 samples only warm the state up; after that
the weights are updated every 2048 samples, while the state runs on.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm.std import tqdm

from tinyamp.checkpoint import fingerprint, load_checkpoint, save_checkpoint, weights_of
from tinyamp.data import Recording, segments
from tinyamp.files import InputError
from tinyamp.losses import amp_loss
from tinyamp.model import AmpLSTM, process
from tinyamp.presets import Epoch, History, TrainSettings, epoch_order, learning_rate_at


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


def train_batch(
    model: AmpLSTM,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    target: torch.Tensor,
    settings: TrainSettings,
) -> list[float]:
    """Truncated backpropagation through one mini-batch; the loss of every update (IV-B2, IV-B3).

    `x` and `target` are (batch, segment_length, 1). With the paper's numbers these are eleven
    updates: ten of 2048 samples and one of 570. Raises `DivergedError` when a loss is not finite;
    the weights have then not been updated with it.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = None
    if settings.warmup:
        with torch.no_grad():
            _, state = model(x[:, : settings.warmup])  # the state settles; nothing is learnt
    losses = []
    for start in range(settings.warmup, x.shape[1], settings.chunk):
        stop = min(start + settings.chunk, x.shape[1])
        prediction, state = model(x[:, start:stop], state)  # (batch, chunk, 1)
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
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        optimizer.step()
        state = tuple(s.detach() for s in state)  # the gradient stops here, the state runs on
        losses.append(loss.item())
    return losses


def validation_loss(model: AmpLSTM, recording: Recording, settings: TrainSettings) -> float:
    """The training loss, eq. (7), of the whole unsegmented recording from the zero state."""
    target = torch.as_tensor(recording.target, dtype=torch.float64)[None]  # (1, time)
    output = torch.as_tensor(process(model, recording.input), dtype=torch.float64)[None]
    return amp_loss(
        target, output, coefficient=settings.pre_emphasis, dc_weight=settings.dc_weight
    ).item()


def _show(bar: tqdm, epoch: int, settings: TrainSettings, loss: float, history: History) -> None:
    """Write the epoch, the last loss and the best validation loss behind the progress bar."""
    best = "-" if history.best_epoch is None else f"{history.best_loss:.4f}"
    bar.set_postfix(epoch=f"{epoch + 1}/{settings.epochs}", loss=f"{loss:.4f}", validation=best)


def train(
    model: AmpLSTM,
    train_set: Recording,
    validation_set: Recording,
    settings: TrainSettings | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | None = "cpu",
) -> History:
    """Train `model` in place; it ends with the weights of the lowest validation loss.

    With a `folder`, every epoch ends with a checkpoint there: `last.safetensors` and
    `best.safetensors` (models), `history.json`, and `checkpoint.safetensors`, from which
    `resume=True` continues. A run that was killed at any moment and resumed gives the same
    weights, bit for bit on a CPU, as one that was not. `device` None picks a GPU if there is one.

    Raises `InputError` for recordings that do not fit (sample rates, too short) or a checkpoint
    of another run, and `DivergedError` when the loss or a weight stops being finite.
    """
    settings = settings or TrainSettings()
    for name, recording in (("training", train_set), ("validation", validation_set)):
        if recording.sample_rate != model.sample_rate:
            raise InputError(
                f"The model is for {model.sample_rate} Hz, but the {name} recording "
                f"({recording.name}) has {recording.sample_rate} Hz; resample one of them."
            )
    torch_device = pick_device(device)
    inputs, targets = (
        torch.as_tensor(array)[:, :, None].to(torch_device)  # (segments, segment_length, 1)
        for array in segments(train_set, settings.segment_length)
    )
    model.to(torch_device)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    history, best = History(), weights_of(model)
    run = fingerprint(model, settings, train_set, validation_set)
    folder = None if folder is None else Path(folder)
    if resume and folder is None:
        raise InputError("To resume, name the folder of the run that was interrupted.")
    if resume and (folder / "checkpoint.safetensors").exists():
        history, best = load_checkpoint(folder / "checkpoint.safetensors", run, model, optimizer)

    per_batch = len(range(settings.warmup, settings.segment_length, settings.chunk))
    per_epoch = math.ceil(len(epoch_order(settings, 0, len(inputs))) / settings.batch_size)
    bar = tqdm(
        total=settings.epochs * per_epoch * per_batch,
        initial=len(history.epochs) * per_epoch * per_batch,
        desc="training",
        unit="update",
        disable=not progress,
    )
    with bar:
        for epoch in range(len(history.epochs), settings.epochs):
            started = time.perf_counter()
            rate = learning_rate_at(settings, history)
            for group in optimizer.param_groups:
                group["lr"] = rate
            order = torch.as_tensor(epoch_order(settings, epoch, len(inputs)))
            losses: list[float] = []
            try:
                for batch in order.split(settings.batch_size):
                    batch = batch.to(torch_device)
                    losses += train_batch(model, optimizer, inputs[batch], targets[batch], settings)
                    bar.update(per_batch)
                    _show(bar, epoch, settings, losses[-1], history)
                if not all(torch.isfinite(p).all() for p in model.parameters()):
                    raise DivergedError("a weight stopped being finite")
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
            mean_loss = float(np.mean(losses))
            history.epochs.append(Epoch(epoch + 1, mean_loss, validation, rate, seconds))
            _show(bar, epoch, settings, losses[-1], history)
            if folder is not None:
                save_checkpoint(folder, run, settings, model, optimizer, history, best)
    model.load_state_dict(best)
    model.settings = {"train": asdict(settings), "data": train_set.name}
    return history
