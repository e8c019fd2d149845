"""Model files for other players: GuitarML, AIDA-X (RTNeural) and Neural Amp Modeler (.nam).

All three hold a single-layer LSTM with a dense head. GuitarML keeps every weight as it is. AIDA-X
and .nam sum the two biases, which changes the output by no more than float32's own rounding. And
.nam has no residual connection: there one more hidden unit carries the input, with an error of at
most `STATED_ERROR` for inputs in [-1, 1] (`formats_residual` says how); reading such a file gives
the original back. The other way round, a file without residual becomes an `AmpLSTM` with one more
unit, which takes the input away again; writing that gives the original file's weights back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyamp.files import InputError
from tinyamp.formats_batch import batch_document, check_batch
from tinyamp.formats_json import (
    array,
    metadata_of,
    rate_of,
    read_document,
    show,
    write_document,
)
from tinyamp.formats_layouts import (
    aidax_document,
    aidax_weights,
    guitarml_document,
    guitarml_weights,
    nam_document,
    nam_weights,
)
from tinyamp.formats_residual import (
    Weights,
    add_carrier,
    carrier_error,
    find_carrier,
    model_of,
    remove_unit,
    weights_of,
)
from tinyamp.model import AmpLSTM

FORMATS = {"nam": "Neural Amp Modeler", "aidax": "AIDA-X", "guitarml": "GuitarML"}
USUAL_RATE = {"nam": 48_000, "aidax": 48_000, "guitarml": 44_100}  # Hz, of files that do not say
GAINS = ("in_gain", "out_gain")  # dB, around the model, applied by AIDA-X
AIDAX_SIZES = (8, 12, 16, 20, 24, 32, 40, 64, 80)  # LSTMs that the plug-in was compiled for


@dataclass(frozen=True)
class Exported:
    """What was written: the format, the units in the file, and what there is to say about it.

    `error` is the largest deviation of the residual connection, measured over inputs in [-1, 1];
    0 where the format has one.
    """

    format: str
    hidden_size: int
    error: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    """A model from another format, and what there is to say about it; `error` as in `Exported`."""

    model: AmpLSTM
    format: str
    error: float
    notes: tuple[str, ...]


def format_for(path: str | Path, format: str | None = None) -> str:
    """The format to write: .nam says it, .json is AIDA-X unless `format` says GuitarML.

    Raises `InputError` when name and format do not fit together.
    """
    suffix = Path(path).suffix.lower()
    if format is None:
        format = {".nam": "nam", ".json": "aidax"}.get(suffix)
    if format not in FORMATS or suffix != (".nam" if format == "nam" else ".json"):
        raise InputError(
            f"{path} must end in .nam (Neural Amp Modeler) or in .json (AIDA-X, GuitarML)"
            + (f", and does not fit the format {format}." if format else ".")
        )
    return format


def export_model(model: AmpLSTM, path: str | Path, *, format: str | None = None) -> Exported:
    """Write a model for another player, with its sample rate (Hz), settings and metadata.

    `format` is a key of `FORMATS`, or is told by the name. The file is written beside `path` and
    renamed. Raises `InputError` for several inputs, for weights that are not finite, and when the
    file cannot be written.
    """
    path = Path(path)
    format = format_for(path, format)
    weights = weights_of(model)
    settings = dict(model.settings)
    metadata = settings.pop("metadata", {})
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    metadata.pop("samplerate", None)  # AIDA-X would believe it rather than the member beside it
    if settings:
        metadata["tinyamp"] = settings
    notes, error = [], 0.0
    if model.head.weight.dtype.itemsize > 4:
        notes.append("the weights are rounded to float32.")
    if not weights.residual:
        notes.append(
            "a unit only took the input away; the file has no residual connection instead."
        )
    if format == "nam":
        if weights.residual:
            weights = add_carrier(weights, 1)
            error = carrier_error(weights, weights.hidden_size - 1, 1)
            notes.append(_about_carrier("adds the input to the output", error))
        document = nam_document(weights)
        document |= {"sample_rate": float(model.sample_rate), "metadata": metadata}
        notes.append("its initial state is that after 48000 samples of silence.")
    elif format == "aidax":
        document = aidax_document(weights)
        gains = [name for name in GAINS if type(metadata.get(name)) in (int, float)]
        document |= {name: metadata.pop(name) for name in gains}
        notes += [f"AIDA-X applies the {n} of {document[n]:g} dB." for n in gains if document[n]]
        if weights.hidden_size not in AIDAX_SIZES:
            sizes = ", ".join(map(str, AIDAX_SIZES))
            notes.append(f"the AIDA-X plug-in takes {sizes} units only; RTNeural itself takes any.")
        document |= {"samplerate": model.sample_rate, "metadata": metadata}
        summed = model_of(aidax_weights(document), sample_rate=model.sample_rate)
        document |= batch_document(summed)
    else:
        document = guitarml_document(weights)
        document |= {"samplerate": model.sample_rate, "metadata": metadata}
    write_document(document, path)
    return Exported(format, weights.hidden_size, error, tuple(notes))


def import_model(
    path: str | Path, *, format: str | None = None, sample_rate: int | None = None
) -> Imported:
    """Read a model of another player; `model.settings["metadata"]` has the file's metadata.

    The format is told by the content, unless `format` (a key of `FORMATS`) says it. `sample_rate`
    (Hz) is for files that do not say. Raises `InputError`, with one sentence that names the file,
    for whatever is not such a model, and for an AIDA-X file whose model does not give the output
    that the file holds.
    """
    path = Path(path)
    try:
        document = read_document(path)
        if format is None:
            format = _sniff(document)
        return _import(document, format, sample_rate)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _import(document: dict[str, Any], format: str, sample_rate: int | None) -> Imported:
    read = {"nam": nam_weights, "aidax": aidax_weights, "guitarml": guitarml_weights}[format]
    weights = read(document)
    metadata = metadata_of(document)
    notes: list[str] = []
    if format == "nam":
        told = rate_of(document.get("sample_rate"))
    else:  # in AIDA-X's order
        told = rate_of(metadata.pop("samplerate", None), document.get("samplerate"))
    if told and sample_rate and told != sample_rate:
        raise InputError(f"the file says {told} Hz, which is not the {sample_rate} Hz asked for.")
    rate = told or rate_of(sample_rate) or USUAL_RATE[format]
    if not told and not sample_rate:
        notes.append(f"the file does not say its sample rate; {rate} Hz is assumed.")

    weights, error = _with_residual(weights, notes)
    model = model_of(weights, sample_rate=rate)
    if format == "nam":
        notes.append("the file's initial state is dropped; the model starts from zero.")
    if format == "aidax":
        if not check_batch(document, model):
            notes.append("the file has no input_batch to check the model with.")
        for name in GAINS:
            if document.get(name) is not None:
                gain = float(array([document[name]], (1,), name)[0])
                metadata[name] = document[name]
                if gain:
                    notes.append(f"{name} of {gain:g} dB is not part of the model: apply it.")
    settings = metadata.pop("tinyamp", {})  # how the model was trained, if it was here
    model.settings = dict(settings) if isinstance(settings, dict) else {}
    model.settings.pop("metadata", None)
    if metadata:
        model.settings["metadata"] = metadata
    return Imported(model, format, error, tuple(notes))


def _with_residual(weights: Weights, notes: list[str]) -> tuple[Weights, float]:
    """A unit that carries the input becomes the residual connection; say what is not exact."""
    if weights.residual:
        return weights, 0.0
    unit = find_carrier(weights, 1)
    if unit is not None:
        error = carrier_error(weights, unit, 1)
        notes.append(
            f"unit {unit} of the file only carried the input, with an error up to {error:.1e}; "
            "it became the residual connection."
        )
        return replace(remove_unit(weights, unit), residual=True), error
    with_unit = add_carrier(weights, -1)
    error = carrier_error(with_unit, weights.hidden_size, -1)
    notes.append("the file has no residual connection. " + _about_carrier("takes it away", error))
    return weights, error


def _about_carrier(does: str, error: float) -> str:
    return f"one more unit {does}, with an error up to {error:.1e} for inputs in [-1, 1]."


def _sniff(document: dict[str, Any]) -> str:
    """The format of a document by the members that only it has."""
    if "layers" in document:
        return "aidax"
    if "model_data" in document or "state_dict" in document:
        return "guitarml"
    if "architecture" in document or "config" in document:
        return "nam"
    raise InputError(
        "is JSON, but no model that can be read: expected layers (AIDA-X), model_data (GuitarML) "
        f"or architecture (.nam), but it has {show(list(document))}."
    )
