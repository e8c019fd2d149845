"""Algorithm 1 step by step, seen from outside: every mask, distance and stop is worked out again.

The searches are tiny; what they must obey does not depend on how well they sound.
"""

import copy
import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import overdrive, same, weights
from torch.optim.optimizer import register_optimizer_step_pre_hook

import tinyamp.search as module
from tinyamp.collapse import reaches_output
from tinyamp.files import InputError
from tinyamp.losses import amp_loss
from tinyamp.masks import OUTPUT, POOL, Masks, masks_of, prune
from tinyamp.model import AmpLSTM, load_model, process, read_tensors
from tinyamp.presets import TrainSettings, learning_rate_at
from tinyamp.search import search, settled
from tinyamp.stages import SearchResult, SearchSettings, load_search, save_search, stage_file
from tinyamp.train import batches, train, train_batch, validation_loss

SIZE = 5
DATA = overdrive(0.15, 1), overdrive(0.03, 2)
COURSE = TrainSettings(
    epochs=7,
    batch_size=4,
    segment_length=300,
    warmup=50,
    chunk=125,
    segments_per_epoch=8,
    learning_rate=2e-2,
    schedule="cosine",
    validate_every=2,
)
BASE = SearchSettings(
    iterations=4,
    epsilon=0.06,
    k=2,
    full=replace(COURSE, epochs=3, learning_rate=1e-2),
    course=COURSE,
)
CASES = {
    "fully-train-first": BASE,
    "early-bird": replace(BASE, variant="early-bird", fraction=0.4),
    "trained": replace(BASE, variant="trained", k=3),
    "early-bird, weights": replace(BASE, variant="early-bird", rewind="weights"),
    "fully-train-first, weights": replace(BASE, rewind="weights", epsilon=0.3),
    "with the output": replace(BASE, variant="early-bird", include_output=True, iterations=2),
    "random": replace(BASE, variant="early-bird", score="random", epsilon=0.8),
    "units": replace(BASE, variant="trained", score="unit"),
    "plateau": replace(
        BASE, variant="trained", course=replace(COURSE, schedule="plateau", patience=1)
    ),
    "never settles": replace(BASE, epsilon=1e-9, course=replace(COURSE, epochs=3)),
    "always settled": replace(BASE, variant="early-bird", epsilon=1.0),
    "as the authors' code": replace(
        BASE,
        variant="early-bird",
        fresh_adam=True,
        prune_best=True,
        course=replace(COURSE, schedule="constant", weight_decay=1e-2, learning_rate=5e-2),
    ),
}


@dataclass
class Moment:
    """What `watch` saw: at the start of a stage (no epoch yet) and after each of its epochs."""

    number: int
    masks: Masks
    next_masks: Masks
    distances: list[float]
    rates: list[float]
    loss_start: float
    weights: dict[str, torch.Tensor]

    def pool(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights and masks of the whole pool, each one NumPy array."""
        weights = [self.weights[name].numpy().ravel() for name in self.masks]
        return np.concatenate(weights), flat(self.masks)


def flat(masks: Masks) -> np.ndarray:
    return np.concatenate([mask.numpy().ravel() for mask in masks.values()])


@dataclass
class Run:
    settings: SearchSettings
    initial: dict[str, torch.Tensor]
    result: SearchResult
    moments: list[Moment]
    rates: list[float]  # of the optimiser, at every update after the full training
    final: dict[str, torch.Tensor]
    folder: Path

    def of_stage(self, number: int) -> list[Moment]:
        return [moment for moment in self.moments if moment.number == number]

    @property
    def free(self) -> list:
        """The stages that their masks end."""
        first = 0 if self.settings.variant == "early-bird" else 1
        return self.result.stages[first:]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    @functools.cache
    def run(case: str) -> Run:
        settings, moments, rates = CASES[case], [], []
        folder = tmp_path_factory.mktemp("search")

        def watch(course, model):
            seen = (course.number, course.masks, course.next_masks, course.distances)
            course_rates = [epoch.learning_rate for epoch in course.history.epochs]
            seen += (course_rates, course.loss_start, weights(model))
            moments.append(Moment(*copy.deepcopy(seen)))

        def at_an_update(optimizer, *_):
            if moments:
                rates.append(optimizer.param_groups[0]["lr"])

        hook = register_optimizer_step_pre_hook(at_an_update)
        model = AmpLSTM(SIZE, seed=4)
        initial = weights(model)
        try:
            result = search(model, *DATA, settings, folder=folder, progress=False, watch=watch)
        finally:
            hook.remove()
        return Run(settings, initial, result, moments, rates, weights(model), folder)

    return run


@pytest.fixture(params=CASES)
def run(request, run_of) -> Run:
    return run_of(request.param)


def without_seconds(result: SearchResult) -> list:
    return [replace(stage, seconds=0.0) for stage in result.stages]


def test_every_stage_has_the_weights_that_algorithm_1_leaves(run):
    settings, result = run.settings, run.result
    assert [stage.number for stage in result.stages] == list(range(settings.iterations + 1))
    assert result.collapse is None
    active = pool = 4 * SIZE + 4 * SIZE**2 + settings.include_output * SIZE
    for stage in result.stages:
        assert stage.active == active
        assert stage.sparsity == pytest.approx(1 - active / pool)
        model = result.model(stage.number)
        found = masks_of(model, include_output=settings.include_output)
        assert int(flat(found).sum()) == active
        assert len(stage.train_losses) == stage.epochs
        active -= round(settings.fraction * active)
        if settings.score == "unit":  # whole units: what compaction would leave
            units = result.stages[min(stage.number + 1, settings.iterations)].units
            active = 4 * units * (units + 1)
    assert same(run.final, result.weights[-1])


def test_masks_only_shrink_and_the_last_next_mask_is_the_one_applied(run):
    for number in range(1, run.settings.iterations + 1):
        before, now = run.of_stage(number - 1), run.of_stage(number)
        for moment in now:
            assert same(moment.masks, now[0].masks)
            assert (flat(moment.next_masks) <= flat(moment.masks)).all()
            values, active = moment.pool()
            assert (values[~active] == 0).all()
            assert (values[active] != 0).all()
        found = masks_of(run.result.model(number), include_output=run.settings.include_output)
        assert same(found, now[0].masks)
        if before:
            if not run.settings.prune_best:  # that of the last epoch
                assert same(now[0].masks, before[-1].next_masks)
            assert (flat(now[0].masks) <= flat(before[0].masks)).all()


BY_MAGNITUDE = [case for case, settings in CASES.items() if settings.score == "magnitude"]


@pytest.mark.parametrize("run", BY_MAGNITUDE, indirect=True)
def test_the_next_masks_and_their_distances_are_those_of_numpy(run):
    """Rank |θ| of the active weights, drop the lowest p, count where two epochs disagree."""
    for stage in run.result.stages:
        masks = []
        for moment in run.of_stage(stage.number):
            values, active = moment.pool()
            where = np.flatnonzero(active)
            lowest = where[np.argsort(np.abs(values[where]), kind="stable")]
            upcoming = active.copy()
            upcoming[lowest[: round(run.settings.fraction * len(where))]] = False
            np.testing.assert_array_equal(flat(moment.next_masks), upcoming)
            masks.append(upcoming)
        distances = [np.count_nonzero(a != b) / stage.active for a, b in itertools.pairwise(masks)]
        assert list(stage.distances) == pytest.approx(distances, abs=1e-15)
        assert [len(m.distances) for m in run.of_stage(stage.number)] == list(range(len(masks)))


def test_a_stage_ends_when_its_last_k_distances_are_below_epsilon_and_no_earlier(run):
    k, epsilon, most = run.settings.k, run.settings.epsilon, run.settings.course.epochs
    for stage in run.free:
        assert len(stage.distances) == stage.epochs <= most
        below = [distance < epsilon for distance in stage.distances]
        ends = [t for t in range(k, stage.epochs + 1) if all(below[t - k : t])]
        if stage.capped:
            assert (ends, stage.epochs) == ([], most)
        else:
            assert ends == [stage.epochs]


def test_the_cases_end_in_every_way(run_of):
    """Otherwise the test above would prove little."""
    settled_late = [
        stage
        for case in ("fully-train-first", "early-bird", "trained")
        for stage in run_of(case).free
        if stage.epochs > CASES[case].k and not stage.capped
    ]
    assert settled_late
    early = run_of("always settled").result.stages
    assert [(stage.epochs, stage.capped) for stage in early] == [(2, False)] * 5
    capped = [stage for stage in run_of("never settles").free if stage.capped]
    assert capped and all(stage.epochs == 3 for stage in capped)


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ([], False),
        ([0.0, 0.0], False),  # Q is not full
        ([0.09, 0.09, 0.09], True),
        ([0.09, 0.1, 0.09], False),  # below, not at
        ([0.5, 0.09, 0.0, 0.09], True),  # only the last k
        ([0.0, 0.0, 0.0, 0.5], False),
    ],
)
def test_settled_means_the_last_k_are_below_epsilon(distances, expected):
    assert settled(distances, SearchSettings(k=3, epsilon=0.1)) is expected


def test_fully_train_first_is_training_and_its_mask_does_not_end_it(run_of):
    run = run_of("fully-train-first")
    first = run.result.stages[0]
    assert (first.epochs, first.distances, first.capped) == (3, (), False)
    assert run.of_stage(0) == []
    alone = AmpLSTM(SIZE, seed=4)
    before = validation_loss(alone, DATA[1], COURSE)
    history = train(alone, *DATA, run.settings.full, progress=False)
    assert same(run.result.weights[0], weights(alone))
    assert first.train_losses == tuple(epoch.train_loss for epoch in history.epochs)
    assert first.loss_start == before
    assert first.loss_stop == history.best_loss


def test_early_bird_stops_the_unpruned_stage_too(run_of):
    run = run_of("early-bird")
    first, seen = run.result.stages[0], run.of_stage(0)
    assert same(seen[0].weights, run.initial)
    assert flat(seen[0].masks).all()
    assert len(seen) == 1 + first.epochs == 1 + len(first.distances) > run.settings.k


def test_a_trained_model_is_taken_as_it_is(run_of):
    run = run_of("trained")
    first = run.result.stages[0]
    assert (first.epochs, first.distances, first.train_losses, first.capped) == (0, (), (), False)
    assert first.loss_start == first.loss_stop
    assert run.of_stage(0) == []
    assert same(run.result.weights[0], run.initial)


def test_losses_are_those_of_the_models_before_and_after_each_course(run):
    for stage in run.result.stages:
        model = run.result.model(stage.number)
        assert stage.loss_stop == validation_loss(model, DATA[1], run.settings.course)
        for moment in run.of_stage(stage.number)[:1]:
            model.load_state_dict(moment.weights)
            start = validation_loss(model, DATA[1], run.settings.course)
            assert stage.loss_start == moment.loss_start == start
    learnt = [stage.loss_stop < stage.loss_start for stage in run.free]
    assert any(learnt)


def test_the_learning_rate_starts_anew_at_every_stage(run):
    course, expected = run.settings.course, []
    per_epoch = 4  # 2 mini-batches of 2 updates
    for stage in run.free:
        rates = run.of_stage(stage.number)[-1].rates
        assert rates[0] == course.learning_rate
        if course.schedule == "cosine":
            assert rates == [
                pytest.approx(course.learning_rate * 0.5 * (1 + np.cos(np.pi * t / course.epochs)))
                for t in range(stage.epochs)
            ]
        expected += [rate for rate in rates for _ in range(per_epoch)]
    assert run.rates == expected  # what the optimiser was really told


def test_a_plateau_is_reached_within_a_stage(monkeypatch):
    """The paper's rule, with validations that never improve: halved within a stage, not across."""
    monkeypatch.setattr(module, "validation_loss", lambda *_: 1.0)
    rates = {}

    def watch(course, model):
        rates[course.number] = [epoch.learning_rate for epoch in course.history.epochs]
        validated = [epoch.validation_loss is not None for epoch in course.history.epochs]
        assert validated == [t % 2 == 0 for t in range(1, len(validated) + 1)]
        assert learning_rate_at(settings.course, course.history) <= 0.02

    settings = replace(CASES["plateau"], epsilon=1e-12, iterations=2)
    search(AmpLSTM(SIZE), *DATA, settings, progress=False, watch=watch)
    for number in (1, 2):
        expected = [0.02, 0.02, 0.02, 0.02, 0.01, 0.01, 0.005]
        assert rates[number] == expected[: len(rates[number])]
    assert len(rates[1]) == 7


@pytest.mark.parametrize("case", ["early-bird, weights", "fully-train-first, weights"])
def test_weight_rewinding_goes_back_to_the_very_first_weights(run_of, case):
    run = run_of(case)
    for number in range(1, run.settings.iterations + 1):
        start = run.of_stage(number)[0]
        for name, value in start.weights.items():
            mask = start.masks.get(name, torch.ones_like(value, dtype=torch.bool))
            assert torch.equal(value[mask], run.initial[name][mask])
            assert (value[~mask] == 0).all()
        assert not same(run.result.weights[number], start.weights)  # and is trained from there


def test_weight_rewinding_begins_with_a_fresh_optimiser_and_learning_rate_rewinding_does_not():
    for case, expected in (
        ("early-bird, weights", [True, True, True]),
        ("early-bird", [True, False, False]),
        ("as the authors' code", [True, True, True]),
    ):
        fresh, new_stage = [], []

        def watch(course, model, new_stage=new_stage):
            if not course.history.epochs:
                new_stage.append(course.number)

        def at_an_update(optimizer, *_, fresh=fresh, new_stage=new_stage):
            if new_stage:
                new_stage.clear()
                fresh.append(not any(optimizer.state.values()))

        settings = replace(CASES[case], iterations=2)
        hook = register_optimizer_step_pre_hook(at_an_update)
        try:
            search(AmpLSTM(SIZE), *DATA, settings, progress=False, watch=watch)
        finally:
            hook.remove()
        assert fresh == expected


def test_learning_rate_rewinding_keeps_the_weights(run_of):
    for case in ("fully-train-first", "early-bird", "trained", "random"):
        run = run_of(case)
        for number in range(1, run.settings.iterations + 1):
            start = run.of_stage(number)[0]
            for name, value in start.weights.items():
                mask = start.masks.get(name, torch.ones_like(value, dtype=torch.bool))
                assert torch.equal(value, run.result.weights[number - 1][name] * mask)


def test_the_best_epoch_is_pruned_where_that_is_asked_for(run_of):
    run, earlier = run_of("as the authors' code"), 0
    for stage in run.result.stages:
        epochs = run.of_stage(stage.number)[1:]
        losses = []
        for moment in epochs:
            model = run.result.model(stage.number)
            model.load_state_dict(moment.weights)
            losses.append(validation_loss(model, DATA[1], run.settings.course))
        best = int(np.argmin(losses))
        assert same(run.result.weights[stage.number], epochs[best].weights)
        assert stage.loss_stop == losses[best]
        earlier += best < len(epochs) - 1
    assert earlier  # or the last would do as well


def test_moments_of_pruned_weights_are_zero_at_every_update_of_a_search():
    clean, latest = [], {}

    def watch(course, model):
        latest.update(masks=course.masks, names=[name for name, _ in model.named_parameters()])

    def at_an_update(optimizer, *_):
        parameters = dict(zip(latest["names"], optimizer.param_groups[0]["params"], strict=True))
        for name, mask in latest["masks"].items():
            state = optimizer.state[parameters[name]]
            moments = [value for key, value in state.items() if key.startswith("exp")]
            tensors = [parameters[name], parameters[name].grad, *moments]
            clean.append(all((tensor[~mask] == 0).all() for tensor in tensors))

    settings = replace(CASES["early-bird"], iterations=2)
    hook = register_optimizer_step_pre_hook(at_an_update)
    try:
        search(AmpLSTM(SIZE), *DATA, settings, progress=False, watch=watch)
    finally:
        hook.remove()
    assert len(clean) > 40
    assert all(clean)


def test_random_scores_are_drawn_once_for_a_stage_and_anew_for_the_next(run_of):
    run = run_of("random")
    kept = []
    for stage in run.result.stages:
        assert set(stage.distances) == {0.0}  # so a stage takes k epochs
        assert stage.epochs == run.settings.k
        moment = run.of_stage(stage.number)[-1]
        again = prune(
            run.result.model(stage.number),
            moment.masks,
            0.3,
            score="random",
            seed=(0, stage.number + 1),
        )
        assert same(again, moment.next_masks)
        values, active = moment.pool()
        upcoming = flat(moment.next_masks)
        kept.append(np.abs(values[active & ~upcoming]).max() > np.abs(values[upcoming]).min())
    assert all(kept)  # large ones go as well


def test_every_stage_shuffles_in_another_order(monkeypatch):
    seeds = []
    original = module.train_epoch

    def listen(model, optimizer, inputs, targets, settings, history, **options):
        seeds.append(settings.seed)
        return original(model, optimizer, inputs, targets, settings, history, **options)

    monkeypatch.setattr(module, "train_epoch", listen)
    settings = replace(CASES["always settled"], iterations=2, course=replace(COURSE, seed=7))
    search(AmpLSTM(SIZE), *DATA, settings, progress=False)
    assert seeds == [7, 7, 8, 8, 9, 9]


# Layer collapse


def collapsing(**changes) -> tuple[AmpLSTM, SearchSettings]:
    """A model whose magnitudes are 1, 2, … 84 hundredths, and a rate at which none of them moves.

    The 4 output weights are the 27th to 30th: the first pruning takes 25 of 84, the second 18.
    """
    model = AmpLSTM(4)
    ranks = [rank for rank in range(84) if not 26 <= rank < 30]
    ranks = np.random.default_rng(0).permutation(ranks)
    signs = np.random.default_rng(1).choice([-1, 1], 84)
    values = torch.from_numpy(signs * (np.concatenate([ranks, range(26, 30)]) + 1) / 100)
    with torch.no_grad():
        for name, part in zip((*POOL, OUTPUT), values.split([16, 64, 4]), strict=True):
            parameter = model.get_parameter(name)
            parameter.copy_(part.reshape(parameter.shape))
    course = replace(COURSE, learning_rate=1e-12)
    return model, replace(CASES["always settled"], course=course, **changes)


def test_pruning_the_whole_output_layer_is_noticed_and_explained(tmp_path):
    model, settings = collapsing(include_output=True)
    result = search(model, *DATA, settings, folder=tmp_path, progress=False)
    assert [(stage.number, stage.active) for stage in result.stages] == [(0, 84), (1, 59)]
    sentence = result.collapse
    assert sentence.startswith(
        "Layer collapse in iteration 2: all 4 weights of the output layer are pruned, so the "
        "output no longer depends on what the LSTM hears."
    )
    assert "Stages 0 to 1 are kept." in sentence
    assert "include_output=False" in sentence
    read = load_search(tmp_path)
    assert read.collapse == sentence
    assert len(read.weights) == len(read.stages) == 2
    assert reaches_output(result.model(1))

    # What the sentence says is true: the input passes, nothing is learnt, and no mask can change.
    passed = process(model, DATA[1].input) - DATA[1].input
    assert np.ptp(passed) < 1e-6
    assert not model.head.weight.any()
    masks = masks_of(model, include_output=True)
    inputs, targets = batches(DATA[0], COURSE, torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before, upcoming = weights(model), module.next_masks(model, masks, settings, 3, inputs)
    for _ in range(3):
        train_batch(model, optimizer, inputs[:4], targets[:4], COURSE, masks)
        for name in masks:
            assert (model.get_parameter(name).grad == 0).all()
            assert torch.equal(model.get_parameter(name), before[name])
    assert not torch.equal(model.head.bias, before["head.bias"])  # only the offset is trained
    again = module.next_masks(model, masks, settings, 3, inputs)
    assert module.hamming_distance(again, upcoming, masks) == 0


def test_the_same_model_does_not_collapse_with_the_output_layer_left_out():
    model, settings = collapsing(include_output=False)
    result = search(model, *DATA, settings, progress=False)
    assert result.collapse is None
    assert len(result.stages) == 5


def test_a_collapse_inside_the_lstm_is_noticed_and_explained():
    """The input weights are the smallest: the first pruning takes them all."""
    model, settings = collapsing()
    with torch.no_grad():
        model.lstm.weight_ih_l0.mul_(1e-3)
    result = search(model, *DATA, settings, progress=False)
    assert len(result.stages) == 1
    assert result.collapse.startswith("Layer collapse in iteration 1: no chain of weights leads")
    assert "Stage 0 is kept." in result.collapse
    assert "include_output" not in result.collapse
    a, b = (process(model, x) - x for x in (DATA[1].input, 0.5 * DATA[1].input[::-1]))
    assert np.abs(a - b).max() < 1e-6  # the input passes through, whatever it is
    # Unlike the collapse of the output layer, this one leaves gradients: for the offset's sake.
    inputs, targets = batches(DATA[0], COURSE, torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    train_batch(model, optimizer, inputs[:4], targets[:4], COURSE, masks_of(model))
    assert model.lstm.weight_hh_l0.grad.any()
    assert "gradient" not in result.collapse
    assert not reaches_output(model)


def test_the_input_reaches_the_output_over_chains_only():
    model = AmpLSTM(3)

    def connect(inputs, edges, outputs):
        with torch.no_grad():
            for name in (*POOL, OUTPUT):
                model.get_parameter(name).zero_()
            for unit in inputs:
                model.lstm.weight_ih_l0[unit + 3] = 0.1  # by the forget gate
            for reader, read in edges:
                model.lstm.weight_hh_l0[reader + 9, read] = -0.1  # by the output gate
            for unit in outputs:
                model.head.weight[0, unit] = 1e-30
        return reaches_output(model)

    assert connect([0], [], [0])
    assert not connect([0], [], [1])
    assert connect([0], [(1, 0)], [1])
    assert not connect([0], [(0, 1)], [1])  # the wrong way round
    assert connect([0], [(1, 0), (2, 1)], [2])
    assert not connect([0], [(2, 1)], [2])
    assert not connect([], [(0, 0), (1, 0), (2, 1)], [0, 1, 2])
    assert not connect([0, 1, 2], [(0, 1), (1, 2), (2, 0)], [])


# Files, and going on after a stop


class Crash(BaseException):
    """Not an Exception: as with a real kill, nobody may catch it."""


def same_search(a: Path, b: Path) -> bool:
    """Whether all that a search leaves is equal, but for the seconds it took."""
    first, second = load_search(a), load_search(b)
    assert without_seconds(first) == without_seconds(second)
    assert (first.settings, first.collapse) == (second.settings, second.collapse)
    assert (first.data, first.sample_rate) == (second.data, second.sample_rate)
    for stage in first.stages:
        files = [read_tensors(stage_file(folder, stage.number)) for folder in (a, b)]
        assert same(files[0][0], files[1][0])
        assert files[0][1] == files[1][1]
    tensors = [read_tensors(folder / "checkpoint.safetensors")[0] for folder in (a, b)]
    assert tensors[0].keys() == tensors[1].keys()
    assert same(*tensors)  # Adam's moments and masks as well
    return True


@pytest.mark.parametrize(
    "case",
    ["fully-train-first", "early-bird, weights", "plateau", "random", "as the authors' code"],
)
def test_a_search_that_is_stopped_at_every_turn_ends_as_one_that_was_not(
    tmp_path, case, monkeypatch, run_of
):
    """It stops before and after files are renamed and epochs trained, each time a bit later."""
    whole, calls, stops, last = run_of(case), 0, 0, 0
    rename, train_one = Path.replace, module.train_epoch

    def stop_now_and_then(original, *arguments, **options):
        nonlocal calls, stops, last
        calls += 1
        due = calls - last > 2 + stops
        if due:
            last, stops = calls, stops + 1
        if due and stops % 2:
            raise Crash
        value = original(*arguments, **options)
        if due:
            raise Crash
        return value

    monkeypatch.setattr(
        Path,
        "replace",
        functools.partialmethod(lambda self, target: stop_now_and_then(rename, self, target)),
    )
    monkeypatch.setattr(module, "train_epoch", functools.partial(stop_now_and_then, train_one))
    while stops < 100:
        model = AmpLSTM(SIZE, seed=4)
        try:
            result = search(
                model, *DATA, whole.settings, folder=tmp_path, resume=True, progress=False
            )
            break
        except Crash:
            continue
    assert 4 <= stops < 100
    assert without_seconds(result) == without_seconds(whole.result)
    assert same(weights(model), whole.final)
    assert all(map(same, result.weights, whole.result.weights))
    assert same_search(tmp_path, whole.folder)


SCRIPT = """
    import json, os, random, signal, sys, time
    from dataclasses import replace
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from test_search import CASES, DATA, SIZE
    import torch
    from tinyamp.model import AmpLSTM
    from tinyamp.search import search
    torch.set_num_threads(1)
    settings = CASES["fully-train-first"]
    settings = replace(settings, full=replace(settings.full, epochs=8))

    def start(folder):
        child = os.fork()
        if child == 0:
            model = AmpLSTM(SIZE, seed=4)
            search(model, *DATA, settings, folder=folder, resume=True, progress=False)
            os._exit(0)
        return child

    def newest():
        files = [folder / "checkpoint.safetensors", folder / "unpruned/checkpoint.safetensors"]
        return [file.stat().st_mtime_ns if file.exists() else 0 for file in files]

    began = time.monotonic()
    assert os.waitpid(start(Path({whole!r})), 0)[1] == 0
    epoch = (time.monotonic() - began) / 30  # about how long one takes
    folder, rng, kills, early = Path({killed!r}), random.Random(1), 0, 0
    while True:
        child, seen = start(folder), newest()
        changes = -1 if kills >= 8 else rng.choice([0, 1, 1, 2, 3]) if kills else 1
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if newest() != seen:
                changes, seen = changes - 1, newest()
            if changes == 0:
                time.sleep(rng.uniform(0, 2 * epoch))
                os.kill(child, signal.SIGKILL)
                killed = os.waitpid(child, 0)[1] == signal.SIGKILL
                kills += killed
                early += killed and not newest()[0]
                break
            time.sleep(0.001)
        else:
            break
    print(json.dumps([kills, early]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_search_that_is_killed_again_and_again_ends_at_the_same_stages(tmp_path):
    """SIGKILL at random moments: in the full training, between two stages and within them."""
    folders = {name: str(tmp_path / name) for name in ("whole", "killed")}
    code = textwrap.dedent(SCRIPT).format(tests=os.path.dirname(__file__), **folders)
    output = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    kills, early = json.loads(output.stdout)
    assert kills >= 4
    assert early >= 1  # in the full training
    assert same_search(tmp_path / "whole", tmp_path / "killed")


def test_a_collapsed_search_resumes_to_its_collapse(tmp_path):
    results = []
    for _ in range(2):
        model, settings = collapsing(include_output=True)
        results.append(search(model, *DATA, settings, folder=tmp_path, resume=True, progress=False))
    assert results[0].stages == results[1].stages
    assert results[0].collapse == results[1].collapse is not None


@pytest.mark.parametrize("case", ["fully-train-first", "trained", "never settles"])
def test_a_finished_search_is_the_same_at_once(tmp_path, case, monkeypatch, run_of):
    whole = run_of(case)
    shutil.copytree(whole.folder, tmp_path / "copy")

    def none(*arguments, **options):
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(module, "train_epoch", none)
    monkeypatch.setattr("tinyamp.train.train_epoch", none)
    model = AmpLSTM(SIZE, seed=4)
    options = {"folder": tmp_path / "copy", "resume": True, "progress": False}
    again = search(model, *DATA, whole.settings, **options)
    assert again.stages == whole.result.stages  # the seconds too
    assert same(weights(model), whole.final)
    assert all(map(same, again.weights, whole.result.weights))


def test_what_a_search_returns_is_what_it_saves(run):
    read = load_search(run.folder)
    assert read.stages == run.result.stages
    assert read.settings == run.settings
    assert (read.sample_rate, read.data) == (44_100, "overdrive 1")
    for number, expected in enumerate(run.result.weights):
        assert same(read.weights[number], expected)
        assert same(weights(load_model(stage_file(run.folder, number))), expected)


def test_a_checkpoint_of_another_search_is_refused(tmp_path, run_of):
    whole = run_of("early-bird")
    shutil.copytree(whole.folder, tmp_path / "copy")
    options = {"folder": tmp_path / "copy", "resume": True, "progress": False}

    def refused(sentence, *, hidden_size=SIZE, seed=4, data=DATA, **changes):
        settings = replace(whole.settings, **changes)
        with pytest.raises(InputError, match=sentence):
            search(AmpLSTM(hidden_size, seed=seed), *data, settings, **options)

    other = overdrive(0.15, 3)
    for changes in (
        {"epsilon": 0.2},
        {"k": 3},
        {"iterations": 5},
        {"fraction": 0.3},
        {"rewind": "weights"},
        {"include_output": True},
        {"score": "random"},
        {"course": replace(COURSE, epochs=8)},
        {"seed": 5},  # the model's
        {"hidden_size": SIZE + 1},
        {"data": (other, DATA[1])},
        {"data": (DATA[0], other)},
    ):
        refused("other settings, sizes, recordings or initial", **changes)
    (tmp_path / "copy" / "checkpoint.safetensors").write_bytes(b"no such thing")
    refused("cannot be read")
    with pytest.raises(InputError, match="name the folder of the search"):
        search(AmpLSTM(SIZE, seed=4), *DATA, whole.settings, resume=True, progress=False)
    assert same_json(tmp_path / "copy", whole.folder)  # nothing was written meanwhile


def same_json(a: Path, b: Path) -> bool:
    return (a / "search.json").read_bytes() == (b / "search.json").read_bytes()


def test_the_full_training_of_another_search_is_refused_or_replaced(tmp_path, monkeypatch):
    """Training does not care which weights it began with; rewinding to them does."""
    settings = replace(CASES["fully-train-first, weights"], iterations=1)
    import tinyamp.train as training

    original, calls = training.train_epoch, 0

    def stop_in_the_second_epoch(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Crash
        return original(*arguments, **options)

    def start(seed, resume, settings=settings, data=DATA):
        options = {"folder": tmp_path, "resume": resume, "progress": False}
        return search(AmpLSTM(SIZE, seed=seed), *data, settings, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_epoch", stop_in_the_second_epoch)
        with pytest.raises(Crash):
            start(4, False)
        for wrong in (
            {"seed": 5},
            {"seed": 4, "settings": replace(settings, full=replace(settings.full, epochs=4))},
            {"seed": 4, "data": (DATA[0], overdrive(0.1, 3))},
        ):
            with pytest.raises(InputError, match="belongs to a run with other settings"):
                start(resume=True, **wrong)
        calls = 1
        with pytest.raises(Crash):  # begun anew with other weights, and stopped at once
            start(5, False)
    resumed = start(5, True)
    alone = search(AmpLSTM(SIZE, seed=5), *DATA, settings, progress=False)
    assert without_seconds(resumed) == without_seconds(alone)
    assert all(map(same, resumed.weights, alone.weights))


def test_a_search_without_resume_begins_anew(tmp_path, run_of):
    whole = run_of("always settled")
    shutil.copytree(whole.folder, tmp_path / "copy")
    settings = replace(whole.settings, iterations=1)
    model = AmpLSTM(SIZE, seed=9)
    result = search(model, *DATA, settings, folder=tmp_path / "copy", progress=False)
    alone = search(AmpLSTM(SIZE, seed=9), *DATA, settings, progress=False)
    assert without_seconds(result) == without_seconds(alone)
    assert without_seconds(load_search(tmp_path / "copy")) == without_seconds(alone)


def test_what_an_older_search_left_is_gone_before_the_first_epoch(tmp_path, run_of):
    """Stopped at once, a new search in an old folder goes on as itself, and not as the old one."""
    whole = run_of("always settled")
    shutil.copytree(whole.folder, tmp_path / "copy")
    settings = replace(whole.settings, iterations=1)

    def stop(course, model):
        raise Crash

    options = {"folder": tmp_path / "copy", "progress": False}
    with pytest.raises(Crash):
        search(AmpLSTM(SIZE, seed=9), *DATA, settings, watch=stop, **options)
    resumed = search(AmpLSTM(SIZE, seed=9), *DATA, settings, resume=True, **options)
    alone = search(AmpLSTM(SIZE, seed=9), *DATA, settings, progress=False)
    assert without_seconds(resumed) == without_seconds(alone)


def test_recordings_of_another_rate_are_refused():
    for index, name in enumerate(("training", "validation")):
        data = list(DATA)
        data[index] = overdrive(0.15, sample_rate=48_000)
        with pytest.raises(InputError, match=f"44100 Hz, but the {name} recording .* 48000 Hz"):
            search(AmpLSTM(SIZE), *data, BASE, progress=False)
    result = search(
        AmpLSTM(2, sample_rate=48_000),
        overdrive(0.05, sample_rate=48_000),
        overdrive(0.03, sample_rate=48_000),
        replace(CASES["always settled"], iterations=1),
        progress=False,
    )
    assert result.sample_rate == result.model(1).sample_rate == 48_000


def test_progress_is_shown_only_when_it_is_asked_for(tmp_path, capfd):
    settings = replace(BASE, iterations=1, epsilon=1.0, full=replace(BASE.full, epochs=1))
    search(AmpLSTM(SIZE), *DATA, settings, folder=tmp_path, progress=False)
    assert capfd.readouterr() == ("", "")
    search(AmpLSTM(SIZE), *DATA, settings, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "mask search" in err and "stage 1, epoch 2" in err


def test_a_loss_that_is_not_finite_names_the_stage(tmp_path, monkeypatch):
    import tinyamp.train as training

    original, calls = training.amp_loss, 0

    def nan_after_a_while(*arguments, **options):
        nonlocal calls
        calls += 1
        return original(*arguments, **options) * (float("nan") if calls > 16 else 1.0)

    monkeypatch.setattr(training, "amp_loss", nan_after_a_while)
    settings = CASES["always settled"]
    with pytest.raises(training.DivergedError, match=r"epoch \d of stage \d: the loss became nan"):
        search(AmpLSTM(SIZE), *DATA, settings, folder=tmp_path, progress=False)
    assert load_search(tmp_path).stages  # those before are there


# So high a rate that the first stage does not learn before it has been halved.
WILD = replace(
    BASE,
    iterations=2,
    variant="early-bird",
    course=replace(COURSE, learning_rate=10.0, clip_norm=1.0, epochs=3),
)


@pytest.mark.parametrize("rewind", ["learning-rate", "weights"])
def test_a_stage_that_blows_up_begins_again_at_half_the_learning_rate(rewind):
    starts, rates = [], {}

    def watch(course, model):
        for epoch in course.history.epochs:
            rates[course.number, course.attempt, epoch.epoch] = epoch.learning_rate

    original = module._train_course

    def before(course, model, optimizer, *arguments):
        adam = bool(optimizer.state)
        starts.append((course.number, course.attempt, weights(model), course.next_masks, adam))
        return original(course, model, optimizer, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_train_course", before)
        model = AmpLSTM(SIZE, seed=4)
        result = search(model, *DATA, replace(WILD, rewind=rewind), progress=False, watch=watch)
    counts = [stage.attempts for stage in result.stages]
    assert counts[0] > 1
    assert [start[:2] for start in starts] == [
        (number, attempt + 1) for number, count in enumerate(counts) for attempt in range(count)
    ]
    firsts = {number: start for number, attempt, *start in starts if attempt == 1}
    for number, attempt, *start, adam in starts:
        assert same(start[0], firsts[number][0])  # the weights
        assert same(start[1], firsts[number][1])  # what another pruning would leave of them
        assert attempt == 1 or not adam
    for (number, attempt, epoch), rate in rates.items():
        assert rate == pytest.approx(rates[number, 1, epoch] / 2 ** (attempt - 1))
    for stage in result.stages:
        blew_up = stage.loss_stop > max(1.0, stage.loss_start)
        assert stage.attempts == module.ATTEMPTS or not blew_up
        assert stage.epochs == len(stage.distances) == len(stage.train_losses) <= 3


@pytest.mark.parametrize(
    ("loss_start", "loss_stop", "expected"),
    [
        (0.5, 0.99, False),  # worse, but a model still
        (0.5, 1.01, True),
        (30.0, 20.0, False),  # on its way back
        (30.0, 31.0, True),
        (0.5, float("nan"), True),
    ],
)
def test_blowing_up_is_worse_than_before_and_than_silence(loss_start, loss_stop, expected):
    assert module.blew_up(module.Course(1, {}, {}, loss_start), loss_stop) is expected


def test_silence_has_a_loss_of_at_most_one():
    sine = torch.sin(torch.arange(441) * 2 * torch.pi / 441).reshape(1, -1, 1)
    losses = [float(amp_loss(x, torch.zeros_like(x))) for x in (sine, torch.ones_like(sine))]
    assert losses == pytest.approx([0.75, module.SILENCE], abs=0.02)


def test_a_search_that_is_killed_in_a_second_attempt_goes_on_there(tmp_path):
    def stop(course, model):
        if course.attempt == 2 and len(course.history.epochs) == 2:
            raise Crash

    first, second = tmp_path / "whole", tmp_path / "killed"
    search(AmpLSTM(SIZE, seed=4), *DATA, WILD, folder=first, progress=False)
    options = {"folder": second, "progress": False}
    with pytest.raises(Crash):
        search(AmpLSTM(SIZE, seed=4), *DATA, WILD, watch=stop, **options)
    seen = []

    def watch(course, model):
        seen.append((course.number, course.attempt, len(course.history.epochs)))

    search(AmpLSTM(SIZE, seed=4), *DATA, WILD, resume=True, watch=watch, **options)
    assert seen[0] == (0, 2, 3)
    assert same_search(first, second)


def test_a_loss_that_is_not_finite_once_does_not_end_a_search(tmp_path, monkeypatch, capfd):
    original, calls = module.train_epoch, 0

    def nan_once(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise module.DivergedError("the loss became nan")
        return original(*arguments, **options)

    monkeypatch.setattr(module, "train_epoch", nan_once)
    result = search(AmpLSTM(SIZE), *DATA, replace(BASE, iterations=1, variant="trained"))
    assert [stage.attempts for stage in result.stages] == [1, 2]
    assert "The training of stage 1 blew up" in capfd.readouterr().err


def test_a_saved_search_can_be_saved_again(tmp_path, run_of):
    run = run_of("early-bird")
    save_search(load_search(run.folder), tmp_path)
    assert same_json(tmp_path, run.folder)
