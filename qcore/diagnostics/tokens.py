"""What the model predicts against what the data holds, on one teacher-forced batch.

Argmax counts cover every position, real and padding apart: a histogram that mixes them reported a collapse that was
only padding (fault T2). Everything built from probabilities uses at most 256 real positions, one from each of 256
equal strata at a golden-ratio offset (no random state is touched, and no stride lines up with the context length).
Legend: B batch, T tokens, V vocabulary, N positions. Detached; entropies in nats.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qcore.diagnostics.positions import valid_positions
from qcore.probes import catalog

PROBABILITY_ROWS = 256


@dataclass(frozen=True)
class TokenStatistics:
    """Statistics of one batch. Fields over real positions are NaN (top1_token: −1) when there is none; `scalars`
    leaves them out.
    """

    real_positions: int
    padding_positions: int
    probability_rows: int
    """Real positions behind the fields that are built from probabilities."""
    accuracy: float
    top1_share: float
    """Share of real positions whose argmax is `top1_token`, the token predicted most often."""
    top1_token: int
    target_top1_share: float
    """Share of the most frequent real target: what `top1_share` is to be compared with."""
    coverage: float
    """Distinct tokens predicted ÷ distinct targets, on real positions; may exceed 1."""
    mutual_information: float
    """MI = H(mean p) − mean H(p) ≥ 0: the information the context carries. 0 when every position predicts the same
    (fault T3).
    """
    mean_entropy: float
    marginal_entropy: float
    kl_target: float
    """KL(mean p ‖ target distribution), the latter as (count + ½) ÷ (N + V/2): finite for tokens the batch lacks."""
    eos_probability: float | None
    special_predicted: dict[str, float]
    special_target: dict[str, float]
    """Shares of each special token among the real argmax predictions and the real targets."""
    predicted_V: np.ndarray
    predicted_padding_V: np.ndarray
    target_V: np.ndarray
    target_padding_V: np.ndarray
    mean_probability_V: np.ndarray

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `tokens/`; only the padding share when there is no real position."""
        positions = self.real_positions + self.padding_positions
        series = {catalog.TOKENS_PADDING_SHARE: self.padding_positions / positions} if positions else {}
        if not self.real_positions:
            return series
        for name in (
            "accuracy",
            "top1_share",
            "top1_token",
            "target_top1_share",
            "coverage",
            "mutual_information",
            "mean_entropy",
            "marginal_entropy",
            "kl_target",
        ):
            series[catalog.member(catalog.TOKENS, name)] = float(getattr(self, name))
        if self.eos_probability is not None:
            series[catalog.TOKENS_EOS_PROBABILITY] = self.eos_probability
        for name, share in self.special_predicted.items():
            series[catalog.predicted_share(name)] = share
            series[catalog.target_share(name)] = self.special_target[name]
        return series

    def arrays(self) -> dict[str, np.ndarray]:
        """Histograms (int64 counts) and the mean probability (float32), each of length V, all under `tokens/`."""
        return {
            "tokens/predicted": self.predicted_V,
            "tokens/predicted_padding": self.predicted_padding_V,
            "tokens/target": self.target_V,
            "tokens/target_padding": self.target_padding_V,
            "tokens/mean_probability": self.mean_probability_V,
        }


def token_statistics(
    logits_BTV: Tensor,
    targets_BT: Tensor,
    mask_BT: Tensor,
    *,
    eos_id: int | None = None,
    special_ids: Mapping[str, int] | None = None,
) -> TokenStatistics:
    """Measure one batch; `mask_BT` is True where the target is real, `special_ids` names the tokens whose shares are
    wanted.

    Raises:
        ValueError: when the shapes disagree.

    Example:
        >>> logits = torch.zeros(1, 4, 5)
        >>> logits[..., 2] = 9.0  # always the same token
        >>> found = token_statistics(logits, torch.tensor([[0, 1, 2, 3]]), torch.ones(1, 4, dtype=torch.bool))
        >>> found.top1_token, found.top1_share, found.accuracy
        (2, 1.0, 0.25)
    """
    batch, tokens, vocabulary = logits_BTV.shape
    if tuple(targets_BT.shape) != (batch, tokens) or tuple(mask_BT.shape) != (batch, tokens):
        raise ValueError(
            f"targets_BT {tuple(targets_BT.shape)} and mask_BT {tuple(mask_BT.shape)} must both be {(batch, tokens)} "
            "to match logits_BTV"
        )
    with torch.no_grad():
        logits_NV = logits_BTV.detach().flatten(0, 1)
        real_N = mask_BT.flatten()
        predicted_N, target_N = logits_NV.argmax(-1), targets_BT.flatten()
        # probabilities of all positions would be B × T × V floats; the histograms below need only the winners
        rows_R = valid_positions(mask_BT, PROBABILITY_ROWS)
        probabilities = _probability_statistics(logits_NV[rows_R])
        # stacked: one transfer from the device instead of four
        histograms_4V = torch.stack(
            [
                torch.bincount(ids_N[chosen_N], minlength=vocabulary)
                for ids_N in (predicted_N, target_N)
                for chosen_N in (real_N, ~real_N)
            ]
        )
        hits = int(((predicted_N == target_N) & real_N).sum())
    predicted_V, predicted_padding_V, target_V, target_padding_V = histograms_4V.cpu().numpy()

    real = int(predicted_V.sum())
    specials = dict(special_ids or {})
    mean_V = probabilities.mean_V
    empty = real == 0
    return TokenStatistics(
        real_positions=real,
        padding_positions=int(predicted_padding_V.sum()),
        probability_rows=len(rows_R),
        accuracy=np.nan if empty else hits / real,
        top1_share=np.nan if empty else float(predicted_V.max() / real),
        top1_token=-1 if empty else int(predicted_V.argmax()),
        target_top1_share=np.nan if empty else float(target_V.max() / real),
        coverage=np.nan if empty else float((predicted_V > 0).sum() / (target_V > 0).sum()),
        mutual_information=probabilities.marginal_entropy - probabilities.mean_entropy,
        mean_entropy=probabilities.mean_entropy,
        marginal_entropy=probabilities.marginal_entropy,
        # half a count for every token: a target that this batch lacks would make the divergence infinite
        kl_target=_divergence(mean_V, (target_V + 0.5) / (real + 0.5 * vocabulary)),
        eos_probability=None if eos_id is None else float(mean_V[eos_id]),
        special_predicted={name: np.nan if empty else float(predicted_V[i] / real) for name, i in specials.items()},
        special_target={name: np.nan if empty else float(target_V[i] / real) for name, i in specials.items()},
        predicted_V=predicted_V,
        predicted_padding_V=predicted_padding_V,
        target_V=target_V,
        target_padding_V=target_padding_V,
        mean_probability_V=mean_V,
    )


@dataclass(frozen=True)
class _Probabilities:
    mean_V: np.ndarray
    mean_entropy: float
    marginal_entropy: float


def _probability_statistics(logits_RV: Tensor) -> _Probabilities:
    """Mean p (float32), mean H(p) and H(mean p); all NaN without a row."""
    log_probs_RV = torch.log_softmax(logits_RV, dim=-1, dtype=torch.float32)
    probs_RV = log_probs_RV.exp()
    mean_V = probs_RV.mean(0)
    # xlogy-style zeros: a probability that underflows has entropy 0, not 0 · inf.
    mean_entropy = -(probs_RV * log_probs_RV.clamp(min=-1e4)).sum(-1).mean()
    packed = torch.cat([mean_V, torch.special.entr(mean_V).sum().unsqueeze(0), mean_entropy.unsqueeze(0)]).cpu().numpy()
    return _Probabilities(packed[:-2], float(packed[-1]), float(packed[-2]))


def _divergence(p_V: np.ndarray, q_V: np.ndarray) -> float:
    """KL(p ‖ q) in nats for a positive q; terms with p = 0 are 0."""
    log_ratio_V = np.log(np.where(p_V > 0, p_V, 1.0)) - np.log(q_V)
    return float(np.where(p_V > 0, p_V * log_ratio_V, p_V * 0.0).sum())
