"""Loss terms on the predicted token distribution p_t (softmax of the logits), each a scalar free of scale in B and T.

Every term is built from probabilities, never from an argmax or a count, so that its gradient exists (fault G1), and
every mean runs over valid positions only. With an empty mask each term is 0 and still differentiable. Units: nats
unless stated.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.objectives.inputs import UNIGRAM_FLOOR, Derived

IGNORED = -100


def cross_entropy(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """Plain cross-entropy −(1/n) Σ_valid ln p_t(target) ≥ 0, token-weighted; never smoothed: curves compare."""
    inputs = derived.inputs
    targets_N = inputs.targets_BT.masked_fill(~inputs.mask_BT, IGNORED).flatten()
    log_probs_NV = derived.log_probs_BTV.flatten(0, 1)
    return F.nll_loss(log_probs_NV, targets_N, ignore_index=IGNORED, reduction="sum") / derived.count


def uniform_cross_entropy(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """Cross-entropy from the uniform distribution, −(1/nV) Σ_valid Σ_v ln p_t(v) ≥ ln V; equality for a uniform
    prediction.

    Label smoothing ε optimises (1−ε)·ce + ε·this (Szegedy et al. 2016), so it is a term of its own with weight
    ce_weight·ε.
    """
    return derived.mean(-derived.log_probs_BTV.mean(-1))


def diversity(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """KL(q ‖ u) = Σ_v q_v ln(q_v / u_v) ≥ 0, q the mean prediction over valid positions and u the target unigram.

    0 when the model predicts, on average, what the data holds. u is floored at UNIGRAM_FLOOR and renormalised, so an
    unseen token costs at most 18.4 nats.
    """
    mean_V = derived.mean_probs_V
    unigram_V = derived.inputs.unigram_V.to(mean_V).clamp(min=UNIGRAM_FLOOR)
    log_ratio_V = mean_V.clamp(min=torch.finfo(mean_V.dtype).tiny).log() - (unigram_V / unigram_V.sum()).log()
    return (mean_V * log_ratio_V).sum()


def dominance(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """Hinge relu(max_v q_v − dominance_threshold) in [0, 1]: pushes only the token that takes too large a share
    (fault T2).
    """
    return F.relu(derived.mean_probs_V.amax() - controls["dominance_threshold"])


def entropy_floor(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """Mean of relu(entropy_floor − H_t) over valid tokens, H_t = −Σ_v p ln p: active wherever a token is too sure,
    and nowhere else.

    The quantity compared is H itself, unclamped, so the gradient lives over the whole range under the floor (fault
    G2).
    """
    entropy_BT = -(derived.probs_BTV * derived.log_probs_BTV).sum(-1)
    return derived.mean(F.relu(controls["entropy_floor"] - entropy_BT))


def eos(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """Mean p_t(EOS) in [0, 1] over valid positions whose target is *not* EOS: punishes a false end, never a true one
    (fault T1).
    """
    inputs = derived.inputs
    eos_probability_BT = derived.log_probs_BTV[..., inputs.eos_id].exp()
    return derived.mean(eos_probability_BT, inputs.mask_BT & (inputs.targets_BT != inputs.eos_id))


def z_loss(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """Mean (ln Σ_v e^{logit_v})² over valid positions: holds the logits' free offset near 0 (PaLM, Chowdhery et al.
    2022). The log-sum-exp is read off the shared log-softmax, as logit − log p of the target.
    """
    inputs = derived.inputs
    target_BT1 = inputs.targets_BT.masked_fill(~inputs.mask_BT, 0).unsqueeze(-1)
    target_logit_BT1 = inputs.logits_BTV.gather(-1, target_BT1).to(derived.dtype)
    log_partition_BT1 = target_logit_BT1 - derived.log_probs_BTV.gather(-1, target_BT1)
    return derived.mean(log_partition_BT1.squeeze(-1).square())


def unlikelihood(derived: Derived, controls: Mapping[str, float]) -> Tensor:
    """−mean ln(1 − p_t(c)) ≥ 0 over the distinct tokens c among the last `unlikelihood_window` inputs that are not
    the target.

    Token-level unlikelihood, Welleck et al. 2019 (arXiv 1908.04319), averaged over (position, candidate) pairs so that
    its size does not grow with the window; 0 when there is no candidate. A candidate counts once however often it
    stands in the window, and padding never counts. ln(1 − p) keeps its value and its gradient even where p rounds to 1:
    above p = ½, which at most one candidate a position reaches, it is the log-sum-exp of all the *other*
    log-probabilities. Memory B×T×window beside the gathered rows.

    Raises:
        ValueError: a window under 1.
    """
    inputs = derived.inputs
    window = min(int(controls["unlikelihood_window"]), inputs.inputs_BT.shape[1])
    if window < 1:
        raise ValueError(f"unlikelihood_window is {controls['unlikelihood_window']}; it must be at least 1 token")
    candidates_BTW, usable_BTW = _candidates(inputs.inputs_BT, inputs.targets_BT, inputs.mask_BT, window)

    log_candidate_BTW = derived.log_probs_BTV.gather(-1, candidates_BTW)
    sure_BTW = usable_BTW & (log_candidate_BTW > -math.log(2))
    # log1p never sees a sure candidate: where() alone would still send its 0 · inf gradient back.
    unsure_BTW = torch.log1p(-log_candidate_BTW.masked_fill(~usable_BTW | sure_BTW, float("-inf")).exp())
    row_K, slot_K = sure_BTW.flatten(0, 1).nonzero(as_tuple=True)
    sure_K1 = candidates_BTW.flatten(0, 1)[row_K, slot_K].unsqueeze(-1)
    rest_KV = derived.log_probs_BTV.flatten(0, 1).index_select(0, row_K).scatter(-1, sure_K1, float("-inf"))
    return -(unsure_BTW.sum() + rest_KV.logsumexp(-1).sum()) / usable_BTW.sum().clamp(min=1)


def _candidates(inputs_BT: Tensor, targets_BT: Tensor, mask_BT: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """The window of inputs read at each position (B×T×W), and which of them are real, latest of their kind and not
    the target.
    """
    tokens = inputs_BT.shape[1]
    # An input is real when it was a real target one position earlier; the first takes its own position's word.
    real_BT = torch.cat([mask_BT[:, :1], mask_BT[:, :-1]], dim=1)
    # The next real position that holds the same token: a stable sort puts equal tokens side by side, in order. What is
    # not real gets a number of its own, below every token, so that it follows nothing and nothing follows it.
    alone_T = -1 - torch.arange(tokens, device=inputs_BT.device)
    keyed_BT = torch.where(real_BT, inputs_BT, alone_T)
    order_BT = keyed_BT.argsort(dim=1, stable=True)
    sorted_BT = keyed_BT.gather(1, order_BT)
    follower_BT = torch.full_like(order_BT, tokens)
    follower_BT[:, :-1] = torch.where(sorted_BT[:, 1:] == sorted_BT[:, :-1], order_BT[:, 1:], tokens)
    next_BT = torch.empty_like(order_BT).scatter_(1, order_BT, follower_BT)

    def windows(values_BT: Tensor, outside: int) -> Tensor:
        return F.pad(values_BT, (window - 1, 0), value=outside).unfold(1, window, 1)

    candidates_BTW = windows(inputs_BT, 0)
    position_T1 = torch.arange(tokens, device=inputs_BT.device).unsqueeze(-1)
    usable_BTW = windows(real_BT.long(), 0).bool() & (windows(next_BT, 0) > position_T1)
    usable_BTW = usable_BTW & (candidates_BTW != targets_BT.unsqueeze(-1)) & mask_BT.unsqueeze(-1)
    return candidates_BTW, usable_BTW
