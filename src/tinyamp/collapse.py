"""Layer collapse: a mask that leaves no way from the input to the output, seen and explained."""

from __future__ import annotations

from tinyamp.model import AmpLSTM

COLLAPSED = (
    "Layer collapse in iteration {number}: {what}, so the output no longer depends on what the "
    "LSTM hears. {why} {kept} {advice}"
)


def reaches_output(model: AmpLSTM) -> bool:
    """Whether the input reaches the output through the LSTM, over weights that are not zero."""
    H = model.hidden_size
    reached = (model.lstm.weight_ih_l0 != 0).reshape(4, H, -1).any(dim=2).any(dim=0)  # (H,)
    edges = (model.lstm.weight_hh_l0 != 0).reshape(4, H, H).any(dim=0)  # (H to, H from)
    for _ in range(H):
        reached = reached | (edges & reached).any(dim=1)
    return bool((reached & (model.head.weight[0] != 0)).any())


def explain_collapse(model: AmpLSTM, number: int) -> str:
    """Why `model`, pruned `number` times, has collapsed; what is kept of the search, what helps."""
    if not model.head.weight.any():
        what = f"all {model.hidden_size} weights of the output layer are pruned"
        why = (
            "The model is its residual connection and an offset, no gradient reaches the pool, and "
            "every further mask distance would be exactly 0."
        )
        advice = "Keep the output layer out of the pool (include_output=False), as Table I has it."
    else:
        what = "no chain of weights leads from the input to the output any more"
        why = (
            "The model is its residual connection and what the LSTM does by itself; no training of "
            "the weights that are left can change that."
        )
        advice = "Search with fewer iterations, a smaller fraction, or a larger model."
    kept = "Stage 0 is kept." if number == 1 else f"Stages 0 to {number - 1} are kept."
    return COLLAPSED.format(number=number, what=what, why=why, kept=kept, advice=advice)
