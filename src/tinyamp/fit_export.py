"""A fitted model in every format, each read back and held against the model it was made of."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tinyamp.compiler import CompiledModel, planned_source
from tinyamp.files import InputError, write_beside
from tinyamp.fit import Fit
from tinyamp.formats import AIDAX_SIZES, export_model, import_model
from tinyamp.model import AmpLSTM, load_model, one_thread, process, save_model

SECONDS = 10.0  # of the test part, which every file plays
ENDINGS = (".nam", ".json", ".c", ".safetensors")
UNPRUNED = "-unpruned.safetensors"


@dataclass(frozen=True)
class File:
    """A file that was written: for whom, and how it compares with the pruned model.

    `error` is the largest deviation of its output over the test part, as a share of full scale;
    None if it could not be tried. `note` says what is particular about it.
    """

    name: str
    title: str
    use: str
    units: int
    bytes: int
    error: float | None
    note: str = ""


def padded(model: AmpLSTM, hidden_size: int) -> AmpLSTM:
    """The same model with units added that are silent for ever: weights and biases are all zero.

    The candidate of such a unit is tanh(0) = 0, and so are its cell and its output. Raises
    `InputError` for a size that is smaller than the model's.
    """
    old = model.hidden_size
    if hidden_size < old:
        raise InputError(f"A model of {old} units cannot be padded to {hidden_size}.")
    new = AmpLSTM(hidden_size, input_size=model.input_size, sample_rate=model.sample_rate)
    new.settings = copy.deepcopy(model.settings)
    with torch.no_grad():
        for name, target in new.named_parameters():
            source = model.get_parameter(name)
            target.zero_()
            if name == "head.bias":
                target.copy_(source)
            elif name == "head.weight":
                target[:, :old] = source
            else:  # four gates below each other, in two of three tensors beside the units they read
                rows = target.unflatten(0, (4, hidden_size))  # (4, hidden, …)
                part = rows[:, :old, :old] if name == "lstm.weight_hh_l0" else rows[:, :old]
                part.copy_(source.unflatten(0, (4, old)))
    return new


def file_names(name: str) -> tuple[str, ...]:
    """What `export_all` writes."""
    return (*(name + ending for ending in ENDINGS), name + UNPRUNED)


@one_thread()
def export_all(fit: Fit, folder: str | Path) -> list[File]:
    """Write the pruned model as .nam, AIDA-X JSON, C and safetensors, and the unpruned one.

    Each file is read again and plays the test part. Raises `InputError` when one cannot be written.
    """
    folder, model = Path(folder), fit.pruned_model
    model.settings |= {"metadata": {"name": fit.name}}
    nam, aidax, c, own, unpruned = (folder / name for name in file_names(fit.name))
    x = fit.parts[2].input[: round(SECONDS * model.sample_rate)]
    y = process(model, x)

    def deviation(output: np.ndarray) -> float:
        return float(np.abs(output.astype(np.float64) - y).max())

    written = export_model(model, nam)
    error = max(written.error, deviation(process(import_model(nam).model, x)))
    use = "Load it in the Neural Amp Modeler plug-in, or in anything that takes .nam files."
    note = "One unit more than the model, which carries the input past the others."
    files = [_file(nam, "Neural Amp Modeler", use, written.hidden_size, error, note)]

    size = min((s for s in AIDAX_SIZES if s >= model.hidden_size), default=model.hidden_size)
    export_model(padded(model, size), aidax, format="aidax")
    use = "Load it in AIDA-X, on a MOD pedal, or in anything built on RTNeural."
    note = f"Padded with {size - model.hidden_size} silent units to {size}, which AIDA-X takes."
    if size not in AIDAX_SIZES:
        note = f"AIDA-X takes {AIDAX_SIZES[-1]} units at most; RTNeural itself takes any number."
    error = deviation(process(import_model(aidax).model, x))
    note = note * (size != model.hidden_size or size not in AIDAX_SIZES)
    files.append(_file(aidax, "AIDA-X (RTNeural JSON)", use, size, error, note))

    source, _ = planned_source(model, layout=fit.layout)
    with write_beside(c) as temporary:
        temporary.write_text(source, encoding="utf-8")
    use = "Compile it into a plug-in, a pedal or a program: it needs nothing else."
    try:
        error = deviation(CompiledModel(model, layout=fit.layout).process(x))
        note = "How to call it stands at its top."
    except InputError as reason:
        error, note = None, f"Not tried here: {reason}"
    files.append(_file(c, "C source", use, model.hidden_size, error, note))

    save_model(model, own)
    use = "Keep it: tinyamp process, bench, compile, export and train take it."
    error = deviation(process(load_model(own), x))
    files.append(_file(own, "tinyamp", use, model.hidden_size, error))
    save_model(fit.unpruned_model, unpruned)
    use = "The model before pruning, for comparison."
    files.append(_file(unpruned, "tinyamp, unpruned", use, fit.unpruned.hidden_size, None))
    return files


def _file(
    path: Path, title: str, use: str, units: int, error: float | None, note: str = ""
) -> File:
    return File(path.name, title, use, units, path.stat().st_size, error, note)
