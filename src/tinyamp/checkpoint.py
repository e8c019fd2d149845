"""Checkpoints: a training run that is stopped at any moment goes on as if it had not been."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tinyamp.data import Recording
from tinyamp.files import InputError, write_beside
from tinyamp.model import AmpLSTM, read_tensors, save_model
from tinyamp.presets import Epoch, History, TrainSettings

CHECKPOINT = "checkpoint.safetensors"

Weights = dict[str, torch.Tensor]


def weights_of(model: AmpLSTM) -> Weights:
    """A copy of the weights of `model` on the CPU."""
    return {k: v.detach().to("cpu", copy=True) for k, v in model.state_dict().items()}


def fingerprint(
    model: AmpLSTM,
    settings: object,
    train_set: Recording,
    validation_set: Recording,
    masks: Mapping[str, torch.Tensor] | None = None,
) -> str:
    """A digest of all that decides how a run goes on, so that no checkpoint of another is used.

    `model` has the weights that the run begins with; `settings` is a dataclass that JSON can hold.
    """
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    digest.update(f"{model.hidden_size} {model.input_size} {model.sample_rate}".encode())
    for recording in (train_set, validation_set):
        for array in (recording.input, recording.target):
            digest.update(np.ascontiguousarray(array).tobytes())
    for name, tensor in (*weights_of(model).items(), *(masks or {}).items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def state_tensors(model: AmpLSTM, optimizer: torch.optim.Adam) -> Weights:
    """The weights as `last.…` and Adam's step and two moments as `adam.…`."""
    tensors = {f"last.{k}": v for k, v in weights_of(model).items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"adam.{key}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return tensors


def part(tensors: Weights, prefix: str) -> Weights:
    """Those of `tensors` whose name begins with `prefix`, without it."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def restore_state(model: AmpLSTM, optimizer: torch.optim.Adam, tensors: Weights) -> None:
    """Set model and optimiser to what `state_tensors` returned."""
    model.load_state_dict(part(tensors, "last."))
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            key: tensors[f"adam.{key}.{name}"].to(parameter.device if key != "step" else "cpu")
            for key in ("step", "exp_avg", "exp_avg_sq")
        }


def read_checkpoint(path: Path, run: str) -> tuple[Weights, dict[str, str]]:
    """Tensors and metadata of a checkpoint.

    Raises `InputError` for a file that cannot be read or that belongs to another `run`.
    """
    try:
        tensors, metadata = read_tensors(path)
    except InputError as error:
        raise InputError(f"{error} Delete its folder and start anew.") from error
    if metadata.get("run") != run:
        raise InputError(
            f"{path} belongs to a run with other settings, sizes, recordings or initial "
            "weights; resume with the same ones, or choose another folder."
        )
    return tensors, metadata


def save_checkpoint(
    folder: Path,
    run: str,
    settings: TrainSettings,
    model: AmpLSTM,
    optimizer: torch.optim.Optimizer,
    history: History,
    best: Weights,
) -> None:
    """Write `checkpoint.safetensors`, then the last and the best model and `history.json`.

    The checkpoint alone is what a run resumes from; it holds the last and the best weights, Adam's
    moments and the history in one file that is renamed into place, so no two can disagree.
    """
    tensors = state_tensors(model, optimizer)
    tensors |= {f"best.{k}": v for k, v in best.items()}
    epochs = [asdict(e) for e in history.epochs]
    metadata = {"run": run, "epochs": json.dumps(epochs)}
    with write_beside(folder / CHECKPOINT) as temporary:
        save_file(tensors, temporary, metadata=metadata)
    about = {"train": asdict(settings)}
    best_model = copy.deepcopy(model)
    best_model.load_state_dict(best)
    save_model(best_model, folder / "best.safetensors", settings=about)
    save_model(model, folder / "last.safetensors", settings=about)
    with write_beside(folder / "history.json") as temporary:
        temporary.write_text(json.dumps({**about, "epochs": epochs}, indent=1) + "\n")


def load_checkpoint(
    path: Path, run: str, model: AmpLSTM, optimizer: torch.optim.Optimizer
) -> tuple[History, Weights]:
    """Set model and optimiser to the checkpoint at `path`; return its history and best weights.

    Raises `InputError` for a file that cannot be read or that belongs to another `run`.
    """
    tensors, metadata = read_checkpoint(path, run)
    restore_state(model, optimizer, tensors)
    epochs = [Epoch(**e) for e in json.loads(metadata["epochs"])]
    return History(epochs), part(tensors, "best.")
