"""Simulated ratings, for use until there are real ones: drawn from a seed, and marked as such.

The truth is put in, so that one can see whether an analysis finds it. Nobody has listened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tinyamp.files import InputError
from tinyamp.listening import CONDITIONS, TRIALS, presentation
from tinyamp.listening_ratings import SLOTS, Rating


@dataclass(frozen=True)
class Spread:
    """Standard deviations, in points of the scale, of what makes ratings differ."""

    listener: float = 6.0  # how strict a listener is
    taste: float = 5.0  # how much a listener minds this condition in particular
    passage: float = 4.0  # how much a passage shows this condition's faults
    rating: float = 8.0  # from one rating to the next


# The truth: in one device pruning costs nothing and gains 5 points, in the other it does nothing.
TRUTH = {
    "sim-muff": {"anchor": 22.0, "unpruned": 82.0, "pruned": 87.0},
    "sim-metal": {"anchor": 15.0, "unpruned": 84.0, "pruned": 84.0},
}


def simulated_scores(
    rng: np.random.Generator,
    truth: Mapping[str, float],
    *,
    listeners: int,
    trials: int = sum(TRIALS.values()),
    spread: Spread = Spread(),
    experiments: int = 1,
) -> np.ndarray:
    """Scores of one device: (experiments, listeners, trials, 4), in the order of `CONDITIONS`.

    A score is the truth plus what the listener, the passage and chance add, kept within 0 to 100.
    The hidden reference is mostly found, and then gets 100.
    """
    shape = (experiments, listeners, trials, len(CONDITIONS))

    def part(size: float, *axes: int) -> np.ndarray:
        """Normal deviations that differ along `axes` and are shared along the others."""
        return size * rng.standard_normal([shape[a] if a in axes else 1 for a in range(4)])

    scores = np.array([100.0, *(truth[name] for name in CONDITIONS[1:])])
    scores = scores + part(spread.listener, 0, 1) + part(spread.taste, 0, 1, 3)
    scores = scores + part(spread.passage, 0, 2, 3) + part(spread.rating, 0, 1, 2, 3)
    found = rng.random(shape[:3]) < 0.96
    scores[..., 0] = np.where(found, 100.0, 86.0 + 0.5 * part(spread.rating, 0, 1, 2)[..., 0])
    return np.clip(np.rint(scores), 0.0, 100.0)


def simulate_ratings(
    seed: int,
    *,
    listeners: int = 12,
    careless: int = 1,
    truth: Mapping[str, Mapping[str, float]] = TRUTH,
    spread: Spread = Spread(),
) -> list[Rating]:
    """Ratings by `listeners` who do not exist, of whom the last `careless` rate at random.

    Seven trials a device as in Section V-D, in a random order for each listener. `source` is
    "simulated" in each of them. Raises `InputError` for no listeners or a negative seed.
    """
    if seed < 0 or not 0 <= careless <= listeners or listeners < 1:
        raise InputError(
            "Simulated ratings need a seed from 0 and at least one listener, of whom not more "
            f"than all are careless; got seed {seed}, {listeners} listeners, {careless} careless."
        )
    rng = np.random.default_rng(seed)
    pieces = [(f"{name} {k}", name) for name, n in TRIALS.items() for k in range(1, n + 1)]
    trials = [(device, passage, kind) for device in truth for passage, kind in pieces]
    scores = np.concatenate(
        [
            simulated_scores(
                rng, truth[device], listeners=listeners, trials=len(pieces), spread=spread
            )[0]
            for device in truth
        ],
        axis=1,
    )  # (listeners, trials, 4)
    guesses = rng.integers(0, 101, scores.shape)
    scores[listeners - careless :] = guesses[listeners - careless :]
    ratings = []
    for number in range(listeners):
        order_seed = int(rng.integers(2**32))
        for position, (k, slots) in enumerate(presentation(order_seed, len(trials)), 1):
            device, passage, instrument = trials[k]
            ratings += [
                Rating(
                    test="simulated",
                    source="simulated",
                    listener=f"simulated-{number + 1:02d}",
                    seed=order_seed,
                    device=device,
                    passage=passage,
                    instrument=instrument,
                    position=position,
                    slot=slot,
                    condition=CONDITIONS[condition],
                    rating=float(scores[number, k, condition]),
                )
                for slot, condition in zip(SLOTS, slots, strict=True)
            ]
    return ratings
