"""What the switches of the phase model do, in numbers: chosen widths, concepts in use, languages, load of experts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from qcore.config import PhaseLMConfig
from qcore.models.blocks import Internals
from qcore.models.phase.dynamic_width import mean_width, width_flops
from qcore.models.phase.experts import expert_load
from qcore.probes import catalog


def phase_internals(
    config: PhaseLMConfig,
    widths: Sequence[Tensor],
    routers: Sequence[Tensor],
    gate_BTL: Tensor | None,
    concepts_BTK: Tensor | None,
) -> Internals:
    """Numbers and arrays of a few rows, from what the layers chose: shares [B, T, 3], probabilities [B, T, E].

    width/share_1, _1_5, _2_25: mean share of each width, Σ = 1 · width/mean ∈ [1, 2.25] in units of D · width/mflop:
    10⁶ operations of a token's forward pass that the chosen widths stand for, all layers · concept/usage ∈ (0, 1]:
    effective number of concepts in use e^{H(mean)} ÷ K · concept/sharpness ∈ [0, 1]: 1 − mean H of a token ÷ ln K ·
    language/certainty ∈ [1/L, 1]: mean largest share · moe/load_max ≥ 1: largest load ÷ the even one · moe/entropy ∈
    [0, 1]: of the load ÷ ln E. Arrays: width/weights [T, 3] (mean over layers), language/gate [T, L] and concept/shares
    [T, K] of the first row, moe/load [layers, E].
    """
    scalars: dict[str, float] = {}
    arrays: dict[str, Tensor] = {}
    if widths:
        share_LBT3 = torch.stack(list(widths))
        narrow, middle, wide = share_LBT3.mean((0, 1, 2)).tolist()
        scalars |= {catalog.WIDTH_SHARE_1: narrow, catalog.WIDTH_SHARE_1_5: middle, catalog.WIDTH_SHARE_2_25: wide}
        scalars[catalog.WIDTH_MEAN] = float(mean_width(share_LBT3).mean())
        scalars[catalog.WIDTH_MFLOP] = config.layers * width_flops(config.width, share_LBT3) / 1e6
        arrays["width/weights"] = share_LBT3[:, 0].mean(0)
    if concepts_BTK is not None:
        K = concepts_BTK.shape[-1]
        scalars[catalog.CONCEPT_USAGE] = math.exp(float(_entropy(concepts_BTK.mean((0, 1))))) / K
        scalars[catalog.CONCEPT_SHARPNESS] = 1 - float(_entropy(concepts_BTK).mean()) / math.log(K)
        arrays["concept/shares"] = concepts_BTK[0]
    if gate_BTL is not None:
        scalars[catalog.LANGUAGE_CERTAINTY] = float(gate_BTL.amax(-1).mean())
        arrays["language/gate"] = gate_BTL[0]
    if routers:
        load_LE = torch.stack([expert_load(router, config.experts_active) for router in routers])
        scalars[catalog.MOE_LOAD_MAX] = float(load_LE.amax(-1).mean()) * config.experts
        scalars[catalog.MOE_ENTROPY] = float(_entropy(load_LE).mean()) / math.log(config.experts)
        arrays["moe/load"] = load_LE
    return Internals(scalars, arrays)


def _entropy(share: Tensor) -> Tensor:
    """−Σ p ln p over the last axis, nats; a share of 0 adds 0."""
    return torch.special.entr(share.float()).sum(-1)
