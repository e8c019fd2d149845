"""What follows a mask search, Section V-A: one stage is trained in full; and one-shot pruning.

One-shot pruning goes to the same sparsity in a single step. The paper compares the two.
"""

from __future__ import annotations

import copy
from pathlib import Path

from tinyamp.compact import compact
from tinyamp.data import Recording
from tinyamp.masks import Masks, apply_masks, full_masks, masks_of, prune
from tinyamp.model import AmpLSTM
from tinyamp.presets import History, TrainSettings
from tinyamp.train import train


def one_shot(
    model: AmpLSTM,
    share: float,
    *,
    include_output: bool = False,
    score: str = "magnitude",
    seed: int = 0,
) -> Masks:
    """Prune a trained `model` at once, in place, to the sparsity `share`; return its masks (V-A).

    This is what iterative pruning is compared with; train the model with the masks afterwards.
    """
    full = full_masks(model, include_output=include_output)
    masks = prune(model, full, share, score=score, seed=seed)
    apply_masks(model, masks)
    return masks


def retrain(
    model: AmpLSTM,
    train_set: Recording,
    validation_set: Recording,
    settings: TrainSettings | None = None,
    *,
    masks: Masks | None = None,
    compacted: bool = True,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | None = "cpu",
) -> tuple[AmpLSTM, History]:
    """Train a pruned model in full, with its masks, Section V-A; a new model and its history.

    The learning-rate schedule begins anew and the weights go on from where they are. `masks` None
    takes the weights that are exactly zero as pruned. With `compacted`, dead units are removed
    first, which changes nothing that can be heard and makes training faster; the other arguments
    are those of `train`.
    """
    if masks is None:
        masks = masks_of(model, include_output=not model.head.weight.all())
    before, kept = model.settings, model.hidden_size
    if compacted:
        compaction = compact(model, masks)
        model, masks = compaction.model, compaction.masks
    else:
        model = copy.deepcopy(model)
    options = {"folder": folder, "resume": resume, "progress": progress, "device": device}
    history = train(model, train_set, validation_set, settings, masks=masks, **options)
    model.settings = {**before, **model.settings, "pruned_from": kept}
    return model, history
