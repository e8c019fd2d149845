"""How much each hidden unit moves while the model plays: what pruning whole units goes by.

This is not in the paper, which prunes by the magnitude of weights alone.
"""

from __future__ import annotations

import torch

from tinyamp.model import AmpLSTM

SEGMENTS = 8  # that are played, from all over the training set


def unit_activity(model: AmpLSTM, inputs: torch.Tensor, *, warmup: int = 1000) -> torch.Tensor:
    """The standard deviation of every unit's output h, (hidden,), over eight of the segments.

    `inputs` is (segments, time, 1). Every segment starts from the zero state; its first `warmup`
    samples do not count, in which the state settles. A unit that has died is constant after that.
    """
    chosen = torch.linspace(0, len(inputs) - 1, min(SEGMENTS, len(inputs))).long()
    with torch.no_grad():
        h, _ = model.lstm(inputs[chosen.to(inputs.device)])  # (batch, time, hidden)
    return h[:, warmup:].flatten(0, 1).std(dim=0, correction=0)
