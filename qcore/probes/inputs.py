"""Probes of what updates are trained on, for tokens and for clips: exact, without or with a few calls of the model."""

from __future__ import annotations

import math
import statistics

import torch
from torch import Tensor

from qcore.diagnostics import (
    drawn_times,
    input_responses,
    pixel_order,
    row_order,
    target_check,
    untrained_frames,
)
from qcore.probes import catalog
from qcore.probes.protocol import ProbeInput, clips_of, text_of

MOVED_CLIPS = 4
"""Clips about which the model is asked with another time, and with another clip."""


def text_inputs(seen: ProbeInput) -> dict[str, float]:
    """Targets against inputs, and rows against each other, over several updates."""
    text = text_of(seen)
    rows, ids = text.engine.trained_rows(), text.special_ids
    end = -1 if text.eos_id is None else text.eos_id
    found = target_check(rows, pad_id=ids.get("pad", -1), bos_id=ids.get("bos", -1), eos_id=end).scalars()
    if text.token_counts is not None:
        found |= row_order(rows, text.token_counts).scalars()
    unread = _without_gradient(seen)
    return found if math.isnan(unread) else found | {catalog.LABELS_WITHOUT_GRADIENT: unread}


def _without_gradient(seen: ProbeInput) -> float:
    """Share of the measured rows' targets whose position has no gradient at the last hidden state."""
    hidden_BTD = seen.hidden["last"][seen.rows].float().clone().requires_grad_()
    parts = text_of(seen).engine.parts_at(hidden_BTD)
    asked_BT = seen.mask[seen.rows]
    total = sum((value * seen.weights[name] for name, value in parts.items()), torch.zeros(()))
    if not total.requires_grad or not asked_BT.any():
        return math.nan
    (gradient_BTD,) = torch.autograd.grad(total, hidden_BTD, allow_unused=True)
    if gradient_BTD is None or not torch.isfinite(gradient_BTD).all():
        return math.nan
    return float((gradient_BTD == 0).all(-1)[asked_BT].float().mean())


def surprise(seen: ProbeInput) -> dict[str, float]:
    """How rare the targets of the newest updates are in the training text: usual, largest, and where that was."""
    found = text_of(seen).engine.surprises()
    if not found:
        return {}
    odd = max(found, key=lambda update: found[update])
    return {
        catalog.BATCHES_SURPRISE: statistics.median(found.values()),
        catalog.BATCHES_SURPRISE_LARGEST: found[odd],
        catalog.BATCHES_SURPRISE_STEP: float(odd),
    }


def clip_inputs(seen: ProbeInput) -> dict[str, float]:
    """Latents, times, the loss's gradient by frame, what the velocity owes to t and to z, and the pixels."""
    clips = clips_of(seen)
    latents = clips.latents_BFCHW.double()
    found = {catalog.CLIPS_STD: float(latents.std(correction=0)), catalog.CLIPS_MEAN: float(latents.mean())}
    found |= drawn_times(clips.engine.times(), str(seen.controls["time_sampling"])).scalars()
    gradient = clips.engine.velocity_gradient()
    unread = math.nan if gradient is None else untrained_frames(gradient)
    rows = slice(seen.rows.start, min(seen.rows.stop, MOVED_CLIPS))
    anchor = clips.anchor_BCHW[rows]

    def velocity(z_BFCHW: Tensor, t_B: Tensor) -> Tensor:
        return clips.engine.velocity(z_BFCHW, t_B, anchor)

    # on jittered weights, since a new head answers nothing
    with seen.engine.jittered(seen.step), torch.no_grad():
        of_time, of_clip = input_responses(velocity, clips.z_BFCHW[rows], clips.t_B[rows])
    if seen.step == 0:  # of the data alone: once is enough
        found |= pixel_order(clips.clips_BFCHW).scalars()
    measured = {
        catalog.CLIPS_UNTRAINED_FRAMES: unread,
        catalog.CLIPS_TIME_RESPONSE: of_time,
        catalog.CLIPS_INPUT_RESPONSE: of_clip,
    }
    return found | {name: value for name, value in measured.items() if not math.isnan(value)}
