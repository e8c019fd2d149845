"""Claims of Sections V-B and V-C: memory and prunability, units and speed, sparse engines."""

from __future__ import annotations

from tinyamp.findings import (
    HOLDS,
    NOT,
    OPEN,
    PARTLY,
    Claim,
    Findings,
    listed,
    so_far,
    spearman,
    verdict,
)
from tinyamp.paper import SHORT_MEMORY


def short_memory_loses_units(f: Findings) -> Claim:
    """V-B, Fig. 6: models of devices with a short memory lose more hidden units."""
    size = f.middle
    left = {
        device: {s["number"]: s["units"] for s in f.searches[device, size]["search"]["stages"]}
        for device in f.devices
        if (device, size) in f.searches
    }
    short = {d: units for d, units in left.items() if d in SHORT_MEMORY}
    long = {d: units for d, units in left.items() if d not in SHORT_MEMORY}
    cases = []
    for a in short.values():
        for b in long.values():
            both = [n for n in a if n in b and min(a[n], b[n]) < size]
            cases += [a[n] < b[n] for n in both]
    share = f"{sum(cases)} of {len(cases)} comparisons, stage by stage" if cases else "–"
    return Claim(
        "V-B, Fig. 6",
        "Many more hidden units can be removed from the models of the two devices with a short "
        "memory than from those of the two with a long one.",
        f"{size} units; fewer left of the short memory's model: {share}",
        so_far(verdict(cases), len(left), len(f.devices)),
    )


def not_accuracy(f: Findings) -> Claim:
    """V-B: how much can be pruned does not depend on how accurate the model is."""
    rows = [row for row in f.rows if row.finished]
    rank = spearman([row.test_esr for row in rows], [row.sparsity for row in rows])
    return Claim(
        "V-B",
        "How much can be pruned does not seem to be related to how accurate the model is.",
        "Rank correlation of test ESR and sparsity: "
        + ("–" if rank is None else f"{rank:.2f}, n = {len(rows)}"),
        so_far(verdict([None if rank is None else abs(rank) < 0.5]), len(rows), len(f.rows)),
    )


def settling_and_pruning(f: Findings) -> Claim:
    """V-B, VI, Fig. 7: the longer the settling time, the less can be pruned."""
    pairs = []
    for row in f.rows:
        found = f.searches.get((row.device, row.size))
        if row.finished and found and found["unpruned"]["settling_time"] is not None:
            pairs.append((found["unpruned"]["settling_time"], row.sparsity, row.units / row.size))
    ranks = [spearman([p[0] for p in pairs], [p[k] for p in pairs]) for k in (1, 2)]
    known = None not in ranks
    result = OPEN
    if known:
        signs = [ranks[0] <= -0.5, ranks[1] >= 0.5]
        result = HOLDS if all(signs) else PARTLY if ranks[0] < -0.2 or ranks[1] > 0.2 else NOT
    return Claim(
        "V-B, VI, Fig. 7",
        "There is a negative correlation between settling time and the degree of pruning.",
        f"Rank correlation with sparsity {ranks[0]:.2f}, with the share of units left "
        f"{ranks[1]:+.2f}, n = {len(pairs)}"
        if known
        else "–",
        so_far(result, len(pairs), len(f.rows)),
    )


def no_single_level(f: Findings) -> Claim:
    """V-B: no level of pruning fits all."""
    stages = {row.label: row.stage for row in f.rows if row.finished}
    spread = max(stages.values()) - min(stages.values()) if len(stages) > 1 else None
    return Claim(
        "V-B",
        "No level of pruning fits all devices.",
        f"Selected stages: {listed({name: str(stage) for name, stage in stages.items()})}",
        so_far(verdict([None if spread is None else spread >= 3]), len(stages), len(f.rows)),
    )


def units_matter_more(f: Findings) -> Claim:
    """V-C: the units that are removed decide about the speed, not the weights."""
    rows = [row for row in f.rows if row.speedup is not None]
    gain = [row.speedup for row in rows]
    units = spearman([row.units / row.size for row in rows], gain)
    weights = spearman([row.sparsity for row in rows], gain)
    known = units is not None and weights is not None
    return Claim(
        "V-C",
        "For the speed, it matters more how many units are gone than how many weights.",
        f"Rank correlation of the speed-up with the share of units left {units:.2f}, with the "
        f"sparsity {weights:.2f}, n = {len(rows)}"
        if known
        else "–",
        so_far(verdict([-units > weights if known else None]), len(rows), len(f.rows)),
    )


def sparse_engine(f: Findings) -> Claim:
    """V-C, Fig. 8: an engine for sparse matrices wins only beyond 90 %."""
    sparse = [(s["sparsity"], s["sparse"]["rtf"] < s["dense"]["rtf"]) for s in _fig_8(f)]
    wins = [sparsity for sparsity, faster in sparse if faster]
    return Claim(
        "V-C, Fig. 8",
        "A sparse engine is faster than the dense one only beyond 90 % sparsity.",
        f"Ours, which leaves out empty blocks, is from {100 * min(wins):.0f} % on" if wins else "–",
        verdict(faster == (sparsity > 0.9) for sparsity, faster in sparse),
    )


def compaction_wins(f: Findings) -> Claim:
    """V-C, Fig. 8: with the dead units removed, dense is still faster than sparse."""
    stages = [s for s in _fig_8(f) if s["units"] < f.middle]
    cases = [s["compacted"]["rtf"] < s["sparse"]["rtf"] for s in stages]
    both = [s["compacted"]["rtf"] / s["both"]["rtf"] for s in stages]
    return Claim(
        "V-C, Fig. 8",
        "With the dead units taken out, the dense engine is faster than the sparse one.",
        f"At {sum(cases)} of {len(cases)} stages that have lost units; compacted and sparse "
        f"together are {min(both):.1f} to {max(both):.1f} times as fast as compacted alone"
        if cases
        else "–",
        verdict(cases),
    )


def _fig_8(f: Findings) -> list[dict]:
    """The speeds of each stage with its sparsity and units."""
    found = f.searches.get((f.devices[0], f.middle)) if f.devices else None
    if found is None:
        return []
    stages = {s["number"]: s for s in found["search"]["stages"]}
    both = ("sparsity", "units")
    return [{**s, **{name: stages[s["stage"]][name] for name in both}} for s in f.fig_8]
