"""How far a mask search is: one that is stopped at any moment goes on as if it had not been."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

from tinyamp.checkpoint import (
    CHECKPOINT,
    Weights,
    part,
    read_checkpoint,
    restore_state,
    state_tensors,
)
from tinyamp.files import write_beside
from tinyamp.masks import Masks
from tinyamp.model import AmpLSTM
from tinyamp.presets import Epoch, History
from tinyamp.stages import SearchResult, Stage


@dataclass
class Course:
    """The stage that is being trained."""

    number: int
    masks: Masks  # m of Algorithm 1
    next_masks: Masks  # m_t: what another pruning would leave, not applied
    loss_start: float
    history: History = field(default_factory=History)
    distances: list[float] = field(default_factory=list)  # Q is the last k of them
    attempt: int = 1  # more, when the training of the stage has blown up before
    best: Weights = field(default_factory=dict)  # those of its best epoch, where that is pruned


def save_progress(
    folder: Path,
    run: str,
    model: AmpLSTM,
    optimizer: torch.optim.Adam,
    result: SearchResult,
    course: Course,
) -> None:
    """Write one file with the finished stages and all of the one that is being trained."""
    tensors = state_tensors(model, optimizer)
    tensors |= {f"masks.{k}": v.cpu() for k, v in course.masks.items()}
    tensors |= {f"next.{k}": v.cpu() for k, v in course.next_masks.items()}
    tensors |= {f"best.{k}": v for k, v in course.best.items()}
    for number, weights in enumerate(result.weights):
        tensors |= {f"stage.{number}.{k}": v for k, v in weights.items()}
    now = {
        "number": course.number,
        "loss_start": course.loss_start,
        "epochs": [asdict(epoch) for epoch in course.history.epochs],
        "distances": course.distances,
        "attempt": course.attempt,
    }
    stages = [asdict(stage) for stage in result.stages]
    metadata = {"run": run, "course": json.dumps(now), "stages": json.dumps(stages)}
    with write_beside(folder / CHECKPOINT) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_progress(
    folder: Path, run: str, model: AmpLSTM, optimizer: torch.optim.Adam, result: SearchResult
) -> Course:
    """Set model, optimiser and result to the checkpoint in `folder`; return the stage in training.

    Raises `InputError` for a file that cannot be read or that belongs to another `run`.
    """
    tensors, metadata = read_checkpoint(folder / CHECKPOINT, run)
    restore_state(model, optimizer, tensors)
    result.stages = [Stage.from_dict(values) for values in json.loads(metadata["stages"])]
    result.weights = [part(tensors, f"stage.{stage.number}.") for stage in result.stages]
    now = json.loads(metadata["course"])

    def masks(prefix: str) -> Masks:
        device = next(model.parameters()).device
        return {k: v.to(device, torch.bool) for k, v in part(tensors, prefix).items()}

    return Course(
        now["number"],
        masks("masks."),
        masks("next."),
        now["loss_start"],
        History([Epoch(**epoch) for epoch in now["epochs"]]),
        now["distances"],
        now.get("attempt", 1),
        part(tensors, "best."),
    )
