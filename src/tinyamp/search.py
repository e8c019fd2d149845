"""The mask search of Section III-B, Algorithm 1: train until the mask settles, prune, repeat.

What the search is told and what it finds is in `tinyamp.stages`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from tqdm.std import tqdm

from tinyamp.activity import unit_activity
from tinyamp.checkpoint import CHECKPOINT, fingerprint, weights_of
from tinyamp.collapse import explain_collapse, reaches_output
from tinyamp.compact import effective_hidden_size
from tinyamp.data import Recording
from tinyamp.files import InputError
from tinyamp.masks import (
    Masks,
    active_weights,
    apply_masks,
    full_masks,
    hamming_distance,
    prune,
    sparsity,
)
from tinyamp.model import AmpLSTM
from tinyamp.presets import Epoch, learning_rate_at
from tinyamp.progress import Course, load_progress, save_progress
from tinyamp.stages import SearchResult, SearchSettings, Stage, save_search
from tinyamp.train import (
    DivergedError,
    adam,
    batches,
    demand_rate,
    pick_device,
    train,
    train_epoch,
    updates_per_epoch,
    validation_loss,
)

ATTEMPTS = 4  # at a stage whose training blows up, each at half the learning rate of the one before
SILENCE = 1.0  # the most that a silent model has of the loss, eq. (7)
BLEW_UP = (
    "The training of stage {number} blew up: its validation loss of {loss:.3g} is worse than "
    "silence. It begins again, at half the learning rate."
)


def settled(distances: list[float], settings: SearchSettings) -> bool:
    """Whether the last k mask distances are all below ε.

    This is when the loop in line 4 of Algorithm 1 ends. As printed, `while max(Q) < ε`, the
    condition is the wrong way round; the text of Section III-B says what is meant.
    """
    return len(distances) >= settings.k and max(distances[-settings.k :]) < settings.epsilon


def search(
    model: AmpLSTM,
    train_set: Recording,
    validation_set: Recording,
    settings: SearchSettings | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | None = "cpu",
    watch: Callable[[Course, AmpLSTM], None] | None = None,
) -> SearchResult:
    """Algorithm 1: search for masks. `model` is trained and pruned in place.

    With a `folder`, every stage is saved there as `stage-00.safetensors` and so on, the result as
    `search.json`, and every epoch as a checkpoint from which `resume=True` goes on: a search that
    was killed at any moment gives the same stages, bit for bit on a CPU, as one that was not.
    `watch` is called at the start of every stage and after each of its epochs, with the stage's
    `Course` so far and the model. `device` None picks a GPU if there is one.

    A stage that ends worse than silence, and worse than it began, is trained again from its start
    at half the learning rate, up to three times: a step beyond Algorithm 1.

    Raises `InputError` for recordings or a checkpoint that do not fit, and `DivergedError` when
    the loss or a weight stops being finite even so. Layer collapse is no error: `result.collapse`
    says it.
    """
    settings = settings or SearchSettings()
    demand_rate(model, training=train_set, validation=validation_set)
    if resume and folder is None:
        raise InputError("To resume, name the folder of the search that was interrupted.")
    folder = None if folder is None else Path(folder)
    torch_device = pick_device(device)
    initial = weights_of(model)  # what weight rewinding goes back to
    run = fingerprint(model, settings, train_set, validation_set)
    result = SearchResult(settings, model.sample_rate, train_set.name)
    model.to(torch_device)
    data = batches(train_set, settings.course, torch_device)
    optimizer = adam(model, settings.course)
    masks = full_masks(model, include_output=settings.include_output)
    course = None

    longest = settings.validation_seconds or validation_set.seconds
    part = validation_set.cut(0, min(longest, validation_set.seconds))

    def loss() -> float:
        return validation_loss(model, part, settings.course)

    def set_back(weights: dict[str, torch.Tensor]) -> None:
        model.load_state_dict(weights)
        optimizer.state.clear()  # what Adam remembers is of other weights

    def keep(course: Course, loss_stop: float) -> None:
        _keep(result, course, model, loss_stop)
        if folder is not None:
            save_search(result, folder, first=course.number)

    def after_epoch(course: Course) -> None:
        if folder is not None and course.history.epochs:
            save_progress(folder, run, model, optimizer, result, course)
        if watch is not None:
            watch(course, model)

    if folder is not None and not resume:
        (folder / CHECKPOINT).unlink(missing_ok=True)  # nobody shall go on with an older search
    if resume and (folder / CHECKPOINT).exists():
        course = load_progress(folder, run, model, optimizer, result)
        masks = course.masks
    elif settings.variant != "early-bird":
        first = Course(0, masks, masks, loss())
        if settings.variant == "fully-train-first":
            options = {"folder": folder and folder / "unpruned", "resume": resume}
            options |= {"progress": progress, "device": device}
            first.history = train(model, train_set, validation_set, settings.full, **options)
        keep(first, loss())

    stages = tqdm(
        total=settings.iterations + 1,
        initial=len(result.stages),
        desc="mask search",
        unit="stage",
        disable=not progress,
    )
    with stages:
        while (number := len(result.stages)) <= settings.iterations:  # line 2
            if course is None:
                if number > 0:
                    masks = next_masks(model, masks, settings, number, data[0])  # line 10
                    if settings.rewind == "weights":
                        set_back(initial)
                    apply_masks(model, masks, optimizer)  # line 11
                    if settings.fresh_adam:
                        optimizer.state.clear()
                    if not reaches_output(model):
                        result.collapse = explain_collapse(model, number)
                        break
                upcoming = next_masks(model, masks, settings, number + 1, data[0])
                course = Course(number, masks, upcoming, loss())  # lines 3 and 12
                after_epoch(course)
            try:
                _train_course(course, model, optimizer, data, part, settings, after_epoch, progress)
                loss_stop = loss()
            except DivergedError:
                if course.attempt == ATTEMPTS:
                    raise
                loss_stop = float("nan")
            if blew_up(course, loss_stop) and course.attempt < ATTEMPTS:
                if progress:
                    tqdm.write(BLEW_UP.format(number=number, loss=loss_stop), file=sys.stderr)
                before = result.weights[-1] if result.weights else initial
                set_back(initial if settings.rewind == "weights" else before)
                apply_masks(model, masks, optimizer)
                course = _once_more(course, model, settings, data[0])
                continue
            keep(course, loss_stop)
            course = None
            stages.update()
    if folder is not None:
        save_search(result, folder)
    return result


def blew_up(course: Course, loss_stop: float) -> bool:
    """Whether a stage ends worse than it began, and worse than silence."""
    return not loss_stop <= max(SILENCE, course.loss_start)  # so that NaN is worse, too


def _once_more(
    course: Course, model: AmpLSTM, settings: SearchSettings, inputs: torch.Tensor
) -> Course:
    """The stage of `course` at its start again; `model` has been set back to it."""
    upcoming = next_masks(model, course.masks, settings, course.number + 1, inputs)
    attempt = course.attempt + 1
    return Course(course.number, course.masks, upcoming, course.loss_start, attempt=attempt)


def next_masks(
    model: AmpLSTM, masks: Masks, settings: SearchSettings, iteration: int, inputs: torch.Tensor
) -> Masks:
    """The masks m_t that pruning now would leave: Algorithm 1, line 6.

    Only random scores need a seed, only units the `inputs` (segments, time, 1) to move by.
    """
    seed, activity = (settings.course.seed, iteration), None
    if settings.score == "unit":
        activity = unit_activity(model, inputs, warmup=settings.course.warmup)
    return prune(
        model, masks, settings.fraction, score=settings.score, seed=seed, activity=activity
    )


def _train_course(
    course: Course,
    model: AmpLSTM,
    optimizer: torch.optim.Adam,
    data: tuple[torch.Tensor, torch.Tensor],
    validation_set: Recording,
    settings: SearchSettings,
    after_epoch: Callable[[Course], None],
    progress: bool,
) -> None:
    """Train one stage until its next mask has settled: Algorithm 1, lines 4 to 9."""
    # Every stage shuffles anew: with one order, short courses would never hear most of the set.
    training = replace(
        settings.course,
        seed=settings.course.seed + course.number,
        learning_rate=settings.course.learning_rate * 0.5 ** (course.attempt - 1),
    )
    history = course.history
    per_epoch = updates_per_epoch(training, len(data[0]))
    while not settled(course.distances, settings) and len(history.epochs) < training.epochs:
        started = time.perf_counter()
        rate = learning_rate_at(training, history)
        epoch = len(history.epochs) + 1
        with tqdm(
            total=per_epoch,
            desc=f"stage {course.number}, epoch {epoch}",
            unit="update",
            leave=False,
            disable=not progress,
        ) as bar:
            if course.distances:
                bar.set_postfix(distance=f"{course.distances[-1]:.3f}")
            try:
                mean_loss = train_epoch(
                    model,
                    optimizer,
                    *data,
                    training,
                    history,
                    masks=course.masks,
                    after_batch=lambda losses, bar=bar: bar.update(len(losses)),
                )
            except DivergedError as error:
                raise DivergedError(
                    f"The search stopped in epoch {epoch} of stage {course.number}: {error}. Try a "
                    "lower learning rate."
                ) from error
        upcoming = next_masks(model, course.masks, settings, course.number + 1, data[0])  # line 6
        course.distances.append(hamming_distance(upcoming, course.next_masks, course.masks))
        course.next_masks = upcoming  # line 7
        plateau = training.schedule == "plateau" and epoch % training.validate_every == 0
        due = plateau or settings.prune_best
        validation = validation_loss(model, validation_set, training) if due else None
        seconds = time.perf_counter() - started
        if settings.prune_best and validation < history.best_loss:
            course.best = weights_of(model)
        history.epochs.append(Epoch(epoch, mean_loss, validation, rate, seconds))
        after_epoch(course)
    if course.best:
        model.load_state_dict(course.best)


def _keep(result: SearchResult, course: Course, model: AmpLSTM, loss_stop: float) -> None:
    """Add the stage that `course` has trained to `result`."""
    epochs, settings = course.history.epochs, result.settings
    free = course.number > 0 or settings.variant == "early-bird"  # its mask decides when it ends
    result.stages.append(
        Stage(
            number=course.number,
            active=active_weights(course.masks),
            sparsity=sparsity(course.masks),
            units=effective_hidden_size(model),
            epochs=len(epochs),
            distances=tuple(course.distances),
            train_losses=tuple(epoch.train_loss for epoch in epochs),
            loss_start=course.loss_start,
            loss_stop=loss_stop,
            attempts=course.attempt,
            capped=free and not settled(course.distances, settings),
            seconds=sum(epoch.seconds for epoch in epochs),
        )
    )
    result.weights.append(weights_of(model))
