"""Claims of Sections V and V-A: what pruning does to accuracy and speed, and the mask search."""

from __future__ import annotations

from tinyamp.findings import UNTESTED, Claim, Findings, listed, percent, spearman, verdict


def beats_smaller(f: Findings) -> Claim:
    """V: large and pruned against small and unpruned, both in accuracy and in speed."""
    cases, seen = [], {}
    for device, small, large in f.ends():
        better = large.pruned_test_esr < small.test_esr
        faster = None
        if small.rtf is not None and large.pruned_rtf is not None:
            faster = large.pruned_rtf < small.rtf
        cases.append(better and faster if better else False)
        speed = "not timed" if faster is None else f"{small.rtf / large.pruned_rtf:.2f}×"
        seen[device] = f"{percent(small.test_esr)} → {percent(large.pruned_test_esr)}, {speed}"
    return Claim(
        "V",
        "On two of the four devices, the largest model, pruned, is both more accurate and faster "
        "than the smallest one, unpruned.",
        f"Test ESR and speed: {listed(seen)}",
        verdict(cases, needed=2, expected=len(f.devices)),
    )


def speedups(f: Findings) -> Claim:
    """V: pruning makes the largest model faster, by 1.3 to 3.7."""
    found = {d: f.row(d, f.sizes[-1]).speedup for d in f.devices}
    return Claim(
        "V",
        "Pruning makes the largest model 1.3 to 3.7 times as fast.",
        "Speed-up: " + listed({d: f"{v:.2f}" for d, v in found.items() if v is not None}),
        verdict(None if value is None else value >= 1.29 for value in found.values()),
    )


def fewer_units(f: Findings) -> Claim:
    """V: pruned models with fewer units than the smallest, and still more accurate."""
    cases, seen = [], {}
    for device, small, large in f.ends():
        cases.append(large.units < small.size and large.pruned_test_esr < small.test_esr)
        seen[device] = f"{large.units}"
    return Claim(
        "V",
        "On two devices, the largest model is left with fewer units than the smallest one has, and "
        "is still more accurate.",
        f"Units left: {listed(seen)}",
        verdict(cases, needed=2, expected=len(f.devices)),
    )


def larger_is_better(f: Findings) -> Claim:
    """VI: training a large model and pruning it beats a small unpruned one, for every device."""
    cases, seen = [], {}
    for device in f.devices:
        small = f.row(device, f.sizes[0])
        for size in f.sizes[1:]:
            large = f.row(device, size)
            known = small.test_esr is not None and large.finished
            cases.append(large.pruned_test_esr < small.test_esr if known else None)
            if known:
                seen[large.label] = f"{large.pruned_test_esr / small.test_esr:.2f}"
    return Claim(
        "V, VI",
        "A larger model, pruned, beats a smaller one, unpruned, for every device.",
        f"Test ESR over that of {f.sizes[0]} units: {listed(seen)}",
        verdict(cases),
    )


def published_baselines(f: Findings) -> Claim:
    """V: baselines published before are met."""
    return Claim(
        "V",
        "Test ESRs that were published before can be met by pruned models.",
        "The simulated devices are new: nobody has published anything about them",
        UNTESTED,
    )


def fully_train_first(f: Findings) -> Claim:
    """V-A: Fully Train First is more accurate than Early-Bird at every stage."""
    cases, seen = [], {}
    for device in f.devices:
        full, early = f.searches.get((device, f.sizes[0])), f.early.get(device)
        same, pruned = f.same.get(device), f.pruned.get(device)
        retrained = same["test_esr"] / pruned["test_esr"] if same and pruned else None
        cases.append(retrained and retrained > 1)
        if not (full and early):
            cases.append(None)
            continue
        # Stages of both: either search may have collapsed before the last.
        pairs = zip(full["search"]["stages"][1:], early["search"]["stages"][1:], strict=False)
        higher = [b["loss_stop"] > a["loss_stop"] for a, b in pairs]
        cases += higher
        seen[device] = f"{sum(higher)} of {len(higher)}"
        if retrained:
            seen[device] += f" (retrained: {retrained:.2f}×)"
    return Claim(
        "V-A",
        "Training in full before the first pruning gives more accurate models, at every stage of "
        "pruning, than Early-Bird from the start.",
        f"Stages at which Early-Bird's loss is higher: {listed(seen)}",
        verdict(cases),
    )


def improves_until_late(f: Findings) -> Claim:
    """V-A, Fig. 2: the validation loss improves until very late into training."""
    cases, seen = [], {}
    for (device, size), found in f.searches.items():
        epochs = [e for e in found["unpruned"]["epochs"] if e["validation_loss"] is not None]
        if not epochs:
            continue
        last = epochs[-1]["epoch"]
        before = min(e["validation_loss"] for e in epochs if e["epoch"] <= 2 / 3 * last)
        gain = 1 - min(e["validation_loss"] for e in epochs) / before
        cases.append(gain > 0.1)
        seen[f"{device} {size}"] = f"{100 * gain:.0f} %"
    return Claim(
        "V-A, Fig. 2",
        "The validation loss still improves significantly very late in training.",
        f"Improvement in the last third of the epochs: {listed(seen)}",
        verdict(cases, expected=len(f.rows)),
    )


def predicts(f: Findings) -> Claim:
    """V-A, Fig. 3: the loss at the early stop predicts the loss after retraining."""
    cases, seen = [], {}
    for device, points in f.curves.items():
        pruned = [p for p in points if p["stage"] > 0]
        rank = spearman([p["loss_stop"] for p in pruned], [p["test_esr"] for p in pruned])
        cases.append(None if rank is None else rank > 0.8)
        if rank is not None:
            seen[device] = f"{rank:.2f}"
    return Claim(
        "V-A, Fig. 3",
        "The validation loss at the end of a stage's search is a reasonable heuristic for the test "
        "loss after retraining.",
        f"Rank correlation over the stages: {listed(seen)}",
        verdict(cases, expected=len(f.devices)),
    )


def one_shot_is_worse(f: Findings) -> Claim:
    """V-A: one-shot pruning hurts beyond 50 %, the mask search does not."""
    cases, seen = [], {}
    for row in f.rows:
        known = row.finished and row.one_shot_test_esr is not None
        cases.append(row.one_shot_test_esr > row.pruned_test_esr if known else None)
        if known:
            ratio = row.one_shot_test_esr / row.pruned_test_esr
            seen[row.label] = f"{ratio:.1f}×"
    return Claim(
        "V-A",
        "Above 50 %, one-shot pruning costs much accuracy, which the iterative search keeps at the "
        "same sparsity.",
        f"Test ESR, one-shot over iterative: {listed(seen)}",
        verdict(cases),
    )


def keeps_accuracy(f: Findings) -> Claim:
    """V, VI: the selected stages are as accurate as the unpruned models."""
    cases = [None if row.ratio is None else row.ratio <= 1.205 for row in f.rows]
    seen = {r.label: f"{r.ratio:.2f}" for r in f.rows if r.ratio is not None}
    return Claim(
        "V, VI",
        "Models are pruned without a loss of accuracy (in Table I, the test loss becomes 0.95 to "
        "1.2 times what it was).",
        f"Test ESR, pruned over unpruned: {listed(seen)}",
        verdict(cases),
    )


def range_of_sparsity(f: Findings) -> Claim:
    """VI: between 65.7 and 99.5 % of the weights can go, over 99 % from some models."""
    cases = [
        None if not row.finished else row.sparsity > 0.99 and row.ratio <= 1.205 for row in f.rows
    ]
    kept = [row for row in f.rows if row.finished]
    text = "–"
    if kept:
        least, most = (g(kept, key=lambda row: row.sparsity) for g in (min, max))
        text = f"{100 * least.sparsity:.1f} % ({least.label})"
        text += f" to {100 * most.sparsity:.1f} % ({most.label})"
    return Claim(
        "abstract, VI",
        "Of some models, over 99 % of the weights can be pruned without a loss of accuracy.",
        f"Selected stages: {text}",
        verdict(cases, needed=1),
    )
