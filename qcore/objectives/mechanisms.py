"""Terms of the phase model's mechanisms: concepts that follow from concepts, and experts that share the load.

Both are means over valid positions, free of scale in B and T, bounded, and differentiable where they act: the counts of
the load, which have no gradient, only say where the router's probabilities are to fall.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.objectives.inputs import Derived

USAGE_SHARE = 0.7
"""Weight α of the usage against the surprise. Under 1, splitting a concept costs (1 − α)·p·ln 2 unless the halves can
be told apart from what came before: words that nothing tells apart, such as a word and its translation, share a
concept. Of 0.5 to 1 the best on the two-language corpus; at 1 most concepts belong to one language."""


def concept(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """α + [mean_t −Σ_k q_{t+1,k} ln p_tk − α·H(q̄)] ÷ ln K ≥ 0: surprise at the next token's concepts less their usage.

    q_t are the concepts of token t, p_t those expected of the next one from concepts so far, q̄ the mean of q over
    valid tokens, H its entropy. Descent makes concepts predict concepts (the information between neighbours, Brown et
    al. 1992) and keeps them in use; neither parallel texts nor the language are asked for. 0: every next concept is
    certain and all K are equally frequent · 1: all is even, as at the start · at most α + ln(K/ε)/ln K for a p of at
    least ε/K.

    Raises:
        ValueError: K < 2.
    """
    inputs = derived.inputs
    q_BTK, p_BTK = inputs.concepts_BTK, inputs.expected_concepts_BTK
    assert q_BTK is not None, "refused before it runs when the batch has no concepts"
    assert p_BTK is not None, "refused before it runs when the batch has no concepts"
    if q_BTK.shape[-1] < 2:
        raise ValueError(f"concepts_BTK holds {q_BTK.shape[-1]} concept; the term needs at least 2 to choose from")
    # Input t + 1 is the target of t, real where that is; the first input takes its own position's word.
    real_BT = inputs.mask_BT
    seen_BT = torch.cat([real_BT[:, :1], real_BT[:, :-1]], dim=1)
    surprise_BT = -(q_BTK[:, 1:] * p_BTK[:, :-1].clamp(min=torch.finfo(p_BTK.dtype).tiny).log()).sum(-1)
    surprise = derived.mean(surprise_BT, real_BT[:, :-1])
    mean_K = (q_BTK * seen_BT.unsqueeze(-1)).sum((0, 1)) / seen_BT.sum().clamp(min=1)
    usage = torch.special.entr(mean_K.clamp(min=torch.finfo(mean_K.dtype).tiny)).sum()
    value = USAGE_SHARE + (surprise - USAGE_SHARE * usage) / math.log(q_BTK.shape[-1])
    return torch.where(real_BT.any(), value, value * 0)


def balance(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """E·Σ_e f_e·p_e − 1, mean over layers: 0 when all experts take the same share (Switch, arXiv 2101.03961).

    f_e: share of the assignments of valid tokens, each to its k likeliest experts, without gradient · p_e: mean
    probability. 0 for an even load or even probabilities, at most E/k − 1, where k experts take all; the counts and the
    probabilities hardly ever disagree enough for less than 0, and never for less than −1.
    """
    inputs = derived.inputs
    assert inputs.routers is not None, "refused before it runs when the batch has no routers"
    layers = []
    for probability_BTE in inputs.routers:
        E = probability_BTE.shape[-1]
        weight_BT1 = inputs.mask_BT.unsqueeze(-1) / derived.count
        top = probability_BTE.detach().topk(min(inputs.experts_active, E), dim=-1).indices
        share_E = (F.one_hot(top, E).sum(-2) * weight_BT1).sum((0, 1)) / top.shape[-1]
        mean_E = (probability_BTE * weight_BT1).sum((0, 1))
        layers.append(E * (share_E * mean_E).sum() - inputs.mask_BT.any().to(mean_E.dtype))
    return torch.stack(layers).mean()
