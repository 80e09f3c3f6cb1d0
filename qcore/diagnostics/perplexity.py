"""Teacher-forced scores, and what they hide: by phase coherence, against the input instead of the target, by row.

All numbers here see the true earlier tokens: they are labelled teacher-forced and never mixed with free-running ones.
The quantum-inspired perplexity is split by coherence, so that "coherent tokens are predicted better" can be read off
or refuted. Unshifted labels (fault B2) pass a causality probe; they can't pass a comparison with the input itself.
Legend: B batch, T tokens, V vocabulary, P phases, N positions (at most 256, spread over the batch).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from qcore.diagnostics.positions import check_mask, check_shape, drop_undefined, valid_positions
from qcore.probes import catalog

POSITIONS = 256
LARGEST_NATS = 50.0
BUCKETS = ("incoherent", "middle", "coherent")


def perplexity(nats: float) -> float:
    """exp(nats), at most e⁵⁰ so that a diverged run still has a finite curve; NaN stays NaN.

    Example:
        >>> round(perplexity(math.log(50)), 6)
        50.0
    """
    return math.exp(min(nats, LARGEST_NATS)) if nats == nats else math.nan


@dataclass(frozen=True)
class CoherencePerplexity:
    """Perplexities of one batch at N positions whose coherence is known; NaN without data."""

    positions: int
    teacher_forced: float
    incoherent: float
    middle: float
    coherent: float
    """By tercile of the coherence; NaN under three positions, or when all coherences are equal."""
    coherence_weighted: float
    """exp(Σ c·nats ÷ Σ c): below `teacher_forced` when coherent tokens are predicted better."""

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `perplexity/`."""
        names = ("teacher_forced", *BUCKETS, "coherence_weighted")
        return drop_undefined({catalog.member(catalog.PERPLEXITY, name): getattr(self, name) for name in names})


@dataclass(frozen=True)
class ShiftCheck:
    """Predictions compared with the input; NaN without a valid position."""

    copy_rate: float
    """Share of positions whose most likely token is the input at that position, in [0, 1]."""
    ce_here: float
    """Cross-entropy against the input at the same position, nats: near 0 for a model that learned to copy."""
    ce_next: float
    """Cross-entropy against the input at the next position, nats: what a language model is for."""
    targets_are_inputs: float
    """Share of valid targets that equal their own input, in [0, 1]: 1 for unshifted labels (fault B2)."""

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `shift/`."""
        return drop_undefined({catalog.member(catalog.SHIFT, name): value for name, value in vars(self).items()})


@dataclass(frozen=True)
class ContextStatistics:
    """Σ_v of the variance of p_t(v) over the positions of a row, mean over rows, in [0, 1): exactly 0 when every
    position predicts the same (fault T3); NaN without a row of two valid positions.
    """

    row_variance: float

    def scalars(self) -> dict[str, float]:
        """`tokens/row_variance`."""
        return drop_undefined({catalog.TOKENS_ROW_VARIANCE: self.row_variance})


def local_coherence(phases_BTP: Tensor, window: int = 8) -> Tensor:
    """Mean over phases of |mean e^{iψ}| over the last `window` tokens, [B, T] in [0, 1]; the mean of n random phases
    is about 1/√n. NaN in the first window − 1 places: fewer tokens are more coherent by chance, and would be ranked so.

    Cost: O(B·T·P).

    Raises:
        ValueError: a window below 1, phases that are not [B, T, P].

    Example:
        >>> local_coherence(torch.zeros(1, 3, 2), window=2).tolist()
        [[nan, 1.0, 1.0]]
    """
    if phases_BTP.ndim != 3:
        raise ValueError(
            f"phases_BTP has shape {tuple(phases_BTP.shape)}; pass the last layer's [batch, tokens, phases]"
        )
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1")
    with torch.no_grad():
        batch, tokens, _ = phases_BTP.shape
        # the first positions have no whole window: NaN, since a shorter one is more coherent by chance
        values_BT = torch.full((batch, tokens), math.nan, device=phases_BTP.device)
        if tokens >= window:
            angle_BTP = phases_BTP.detach().float()
            # Sums in float64: a difference of two long sums is as good as the window itself.
            sums = [
                F.pad(part.double().cumsum(1), (0, 0, 1, 0)).unfold(1, window + 1, 1)
                for part in (angle_BTP.cos(), angle_BTP.sin())
            ]
            real, imaginary = (part[..., -1] - part[..., 0] for part in sums)
            values_BT[:, window - 1 :] = (torch.hypot(real, imaginary).mean(-1) / window).float()
        return values_BT


def coherence_perplexity(
    logits_BTV: Tensor, targets_BT: Tensor, mask_BT: Tensor, coherence_BT: Tensor
) -> CoherencePerplexity:
    """Teacher-forced perplexity, by tercile of `coherence_BT` (≥ 0, NaN where unknown), and weighted by it.

    Ties are split in the order of the positions. At most 256 valid positions of known coherence, spread over the batch.
    Cost: O(N·V).

    Raises:
        ValueError: shapes that disagree.
    """
    _check(logits_BTV, mask_BT, targets_BT=targets_BT, coherence_BT=coherence_BT)
    with torch.no_grad():
        known_BT = mask_BT & ~coherence_BT.isnan()
        chosen_N = valid_positions(known_BT, POSITIONS)
        count = len(chosen_N)
        if not count:
            return CoherencePerplexity(0, *(math.nan,) * 5)
        coherence_N = coherence_BT.detach().flatten()[chosen_N].double()
        nats_N = _nats_per_token(logits_BTV, targets_BT, chosen_N).double()
        ordered_N = nats_N[coherence_N.argsort(stable=True)]
        edges = [count * third // 3 for third in range(4)]
        # where all coherences are equal, thirds would be told apart by their place in the text
        split = count >= 3 and bool(coherence_N.max() > coherence_N.min())
        weight = float(coherence_N.sum())
        thirds = [float(ordered_N[a:b].mean()) if split else math.nan for a, b in pairwise(edges)]
        weighted = float((coherence_N * nats_N).sum()) / weight if weight > 0 else math.nan
        values = [perplexity(nats) for nats in (float(nats_N.mean()), *thirds, weighted)]
    return CoherencePerplexity(count, *values)


def shift_check(logits_BTV: Tensor, inputs_BT: Tensor, targets_BT: Tensor, mask_BT: Tensor) -> ShiftCheck:
    """Compare predictions with the inputs at the same and at the next position, at up to 256 valid positions.

    The share of targets that are their own inputs counts all of them. Cost: O(N·V + B·T).

    Raises:
        ValueError: shapes that disagree.

    Example:
        >>> inputs = torch.tensor([[1, 2, 3]])
        >>> copying = 9.0 * torch.nn.functional.one_hot(inputs, 5).float()  # says what it has just read
        >>> found = shift_check(copying, inputs, torch.tensor([[2, 3, 4]]), torch.ones(1, 3, dtype=torch.bool))
        >>> found.copy_rate
        1.0
    """
    _check(logits_BTV, mask_BT, inputs_BT=inputs_BT, targets_BT=targets_BT)
    with torch.no_grad():
        chosen_N = valid_positions(mask_BT, POSITIONS)
        if not len(chosen_N):
            return ShiftCheck(*(math.nan,) * 4)
        tokens = inputs_BT.shape[1]
        copied_N = logits_BTV.detach().flatten(0, 1)[chosen_N].argmax(-1) == inputs_BT.flatten()[chosen_N]
        # the last position of a row has no next input; rolled, it would be compared with the row's first
        inner_N = chosen_N[chosen_N % tokens < tokens - 1]
        return ShiftCheck(
            copy_rate=float(copied_N.float().mean()),
            ce_here=float(_nats_per_token(logits_BTV, inputs_BT, chosen_N).mean()),
            ce_next=float(_nats_per_token(logits_BTV, inputs_BT.roll(-1, 1), inner_N).mean()),
            targets_are_inputs=float((targets_BT == inputs_BT)[mask_BT].float().mean()),
        )


def context_statistics(logits_BTV: Tensor, mask_BT: Tensor, rows: int = 2) -> ContextStatistics:
    """Variance of the predictions within each of the first `rows` rows, over all their valid positions.

    Cost: O(rows·T·V).

    Raises:
        ValueError: shapes that disagree.
    """
    _check(logits_BTV, mask_BT)
    with torch.no_grad():
        variances = []
        for logits_TV, mask_T in zip(logits_BTV[:rows].detach(), mask_BT[:rows], strict=True):
            probs_NV = torch.softmax(logits_TV[mask_T].float(), dim=-1)
            if len(probs_NV) >= 2:
                variances.append(probs_NV.var(0, correction=0).sum())
        return ContextStatistics(float(torch.stack(variances).mean()) if variances else math.nan)


def _check(logits_BTV: Tensor, mask_BT: Tensor, **beside: Tensor) -> None:
    if logits_BTV.ndim != 3:
        raise ValueError(f"logits_BTV has shape {tuple(logits_BTV.shape)}; pass batch × tokens × vocabulary")
    wanted = tuple(logits_BTV.shape[:2])
    check_mask(mask_BT, wanted, "logits_BTV")
    for name, tensor in beside.items():
        check_shape(name, tensor, wanted, "logits_BTV")


def _nats_per_token(logits_BTV: Tensor, ids_BT: Tensor, chosen_N: Tensor) -> Tensor:
    logits_NV = logits_BTV.detach().flatten(0, 1)[chosen_N].float()
    return F.cross_entropy(logits_NV, ids_BT.flatten()[chosen_N], reduction="none")
