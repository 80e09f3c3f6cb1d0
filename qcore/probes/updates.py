"""What an update did to the weights, and what nothing can update: measured beside the gradients of a step."""

from __future__ import annotations

import torch
from torch import Tensor

from qcore.probes import catalog
from qcore.probes.protocol import ProbeInput

_TOKENS = 16


def update_measurements(seen: ProbeInput) -> dict[str, float]:
    """Before the first update: which weights can learn, and what the output depends on beside them. After one: how far
    it moved what.
    """
    found = seen.engine.trained_weights().scalars()
    if seen.step == 0:
        return found | _fixed(seen)
    record = seen.engine.update()
    if record is None:
        return found
    if record.movement is not None:
        seen.keep("movement", record.movement.arrays(record.modules))
    return found | record.scalars()


def _fixed(seen: ProbeInput) -> dict[str, float]:
    """One forward pass of a row, watched."""
    if seen.text is not None:
        tokens_BT = seen.text.inputs_BT[:1, :_TOKENS]
        logits = seen.text.engine.logits
        matrices = seen.engine.fixed_matrices(lambda: logits(tokens_BT), [tokens_BT])
    elif seen.clips is not None:
        clips = seen.clips
        z_BFCHW, t_B, anchor_BCHW = clips.z_BFCHW[:1], clips.t_B[:1], clips.anchor_BCHW[:1]
        matrices = seen.engine.fixed_matrices(
            lambda: _without_gradient(seen, z_BFCHW, t_B, anchor_BCHW), [z_BFCHW, t_B, anchor_BCHW]
        )
    else:
        return {}
    weights = sum(parameter.numel() for _, parameter in seen.engine.counted_parameters())
    return {catalog.WEIGHTS_FIXED_SHARE: sum(matrix.elements for matrix in matrices) / max(1, weights)}


def _without_gradient(seen: ProbeInput, z_BFCHW: Tensor, t_B: Tensor, anchor_BCHW: Tensor) -> Tensor:
    assert seen.clips is not None
    with torch.no_grad():
        return seen.clips.engine.velocity(z_BFCHW, t_B, anchor_BCHW)
