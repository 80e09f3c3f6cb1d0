"""The probe of the layers: one forward pass of two rows, watched behind each block, and the loss taken apart."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.diagnostics import layer_statistics, loss_parts
from qcore.probes.protocol import ProbeInput

_ROWS, _SHORT = 2, 48


def layers(seen: ProbeInput) -> dict[str, float]:
    """Sizes behind each layer on at most two rows; of a run on tokens, where the loss of the step lies."""
    found: dict[str, float] = {}
    if seen.text is not None:
        text, tokens_BT = seen.text, seen.text.inputs_BT[:_ROWS, : None if seen.thorough else _SHORT]
        states = seen.engine.block_outputs(lambda: text.engine.logits(tokens_BT))
        found = loss_parts(seen.outputs, seen.targets, seen.mask, text.token_counts).scalars()
    elif seen.clips is not None:
        states = seen.engine.block_outputs(lambda: _velocity(seen))
    else:
        return found
    if not states:
        return found
    statistics = layer_statistics(states)
    seen.keep("layers", statistics.arrays())
    return found | statistics.scalars()


def _velocity(seen: ProbeInput) -> Tensor:
    clips = seen.clips
    assert clips is not None
    with torch.no_grad():
        return clips.engine.velocity(clips.z_BFCHW[:_ROWS], clips.t_B[:_ROWS], clips.anchor_BCHW[:_ROWS])
