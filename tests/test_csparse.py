"""The sparse layout: which blocks are kept, in which order, and whether it is worth it."""

from __future__ import annotations

import numpy as np
import pytest

from tinyamp.csparse import BLOCK, cluster, count_blocks, kept_blocks, plan
from tinyamp.files import InputError


def sparse_matrix(hidden_size: int, density: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((4 * hidden_size, hidden_size))
    return w * (rng.random(w.shape) < density)


@pytest.mark.parametrize("hidden_size", [1, 7, 8, 20, 33])
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
def test_the_kept_blocks_are_the_matrix(hidden_size, density):
    w = sparse_matrix(hidden_size, density).reshape(4, hidden_size, hidden_size)
    weights, places = kept_blocks(w)
    assert len(weights) == len(places) == count_blocks(w != 0).sum()
    assert all(block.any() for block in weights)
    groups = -(-hidden_size // BLOCK)
    again = np.zeros((groups, 4, BLOCK, hidden_size))
    for block, (row, column) in zip(weights, places, strict=True):
        assert not again[row // 4, row % 4, :, column].any()  # each at most once
        again[row // 4, row % 4, :, column] = block
    again = again.transpose(1, 0, 2, 3).reshape(4, groups * BLOCK, hidden_size)
    np.testing.assert_array_equal(again[:, :hidden_size], w)
    assert not again[:, hidden_size:].any()


@pytest.mark.parametrize("hidden_size", [5, 16, 41])
def test_clustering_permutes_and_never_adds_blocks(hidden_size):
    used = (sparse_matrix(hidden_size, 0.1, seed=1) != 0).reshape(4, hidden_size, hidden_size)
    order = cluster(used)
    assert sorted(order) == list(range(hidden_size))
    assert np.array_equal(order, cluster(used))
    assert count_blocks(used[:, order]).sum() <= count_blocks(used).sum()


def test_units_that_belong_together_are_found():
    hidden_size = 32
    rng = np.random.default_rng(2)
    family = rng.permutation(np.repeat(np.arange(4), BLOCK))  # four families of 8 units
    used = np.zeros((4, hidden_size, hidden_size), bool)
    for unit in range(hidden_size):  # each listens to its own family only
        used[:, unit] = family == family[unit]
    assert count_blocks(used).sum() > 400
    assert count_blocks(used[:, cluster(used)]).sum() == 4 * 4 * BLOCK


def test_the_faster_layout_is_chosen_and_the_reason_is_told():
    full = plan(sparse_matrix(64, 1.0))
    assert full.layout == "dense" and "100%" in full.reason
    thin = plan(sparse_matrix(64, 0.05))
    assert thin.layout == "sparse" and thin.speedup > 1.5 and "5." in thin.reason
    middle = plan(sparse_matrix(64, 0.3))
    assert middle.layout == "dense" and middle.speedup < 1
    assert np.array_equal(middle.order, np.arange(64))
    assert plan(sparse_matrix(64, 0.3), "sparse").layout == "sparse"
    assert plan(sparse_matrix(64, 0.05), "dense").layout == "dense"
    assert plan(np.zeros((32, 8))).layout == "sparse"  # nothing to add up


def test_another_layout_is_refused():
    with pytest.raises(InputError, match="layout must be auto, dense or sparse"):
        plan(sparse_matrix(4, 1.0), "block")
