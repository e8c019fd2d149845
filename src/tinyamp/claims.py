"""The claims of the paper's Sections V and VI, held against the results of a study."""

from __future__ import annotations

from collections.abc import Callable

from tinyamp import claims_devices as devices
from tinyamp import claims_search as pruning
from tinyamp.findings import Claim, Findings

CLAIMS: tuple[Callable[[Findings], Claim], ...] = (
    pruning.beats_smaller,
    pruning.speedups,
    pruning.fewer_units,
    pruning.larger_is_better,
    pruning.published_baselines,
    pruning.fully_train_first,
    pruning.improves_until_late,
    pruning.predicts,
    pruning.one_shot_is_worse,
    pruning.keeps_accuracy,
    pruning.range_of_sparsity,
    devices.short_memory_loses_units,
    devices.not_accuracy,
    devices.settling_and_pruning,
    devices.no_single_level,
    devices.units_matter_more,
    devices.sparse_engine,
    devices.compaction_wins,
)


def claims(found: Findings) -> list[Claim]:
    """All claims that results decide about, in the order in which the paper makes them."""
    return [claim(found) for claim in CLAIMS]
