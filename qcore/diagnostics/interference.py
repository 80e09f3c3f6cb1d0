"""Who interferes with whom: the signed weights with which a position reads the others, summed up by row and head.

Interference has two signs. Adding constructive and destructive weights would hide both, so shares, breadth and entropy
are measured on |w|. Rows are compared as shares of what they could see, so that a long window equals a short one.
Legend: L layers, B batch, H heads, T positions (the reader first, then what it reads), N positions kept for the page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qcore.diagnostics.positions import check_mask, check_shape, drop_undefined
from qcore.probes import catalog

KEPT_POSITIONS = 48


@dataclass(frozen=True)
class InterferenceStatistics:
    """Means over rows that see at least two positions, for each layer and head; NaN where there is no such row."""

    constructive_LH: np.ndarray
    """Σ of positive weights ÷ Σ |w|, in [0, 1]; 1 for a softmax attention."""
    destructive_LH: np.ndarray
    """Σ of negative weights ÷ Σ |w| = 1 − constructive."""
    participation_LH: np.ndarray
    """(Σ|w|)² ÷ Σw² ÷ visible positions, in (0, 1]: 1 when all count alike, 1/visible when one counts alone."""
    entropy_LH: np.ndarray
    """Entropy of |w| ÷ Σ|w|, over ln(visible positions), in [0, 1]: 1 when all count alike."""
    kernels_LHNN: np.ndarray | None
    tokens_N: np.ndarray | None
    """The weights of one row of the batch and its token ids, at most 48 positions; None without `tokens_BT`."""

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `interference/`: means over layers and heads."""
        return drop_undefined(
            {
                catalog.member(catalog.INTERFERENCE, name): _mean_known(getattr(self, f"{name}_LH"))
                for name in ("participation", "constructive", "destructive", "entropy")
            }
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored under the name "interference": kernels and tokens of the probe row, and each mean [L, H]."""
        stored = {
            name: getattr(self, f"{name}_LH") for name in ("participation", "constructive", "destructive", "entropy")
        }
        if self.kernels_LHNN is not None and self.tokens_N is not None:
            stored |= {"kernels": self.kernels_LHNN, "tokens": self.tokens_N}
        return stored


def interference_statistics(
    kernels: Sequence[Tensor], mask_BT: Tensor | None = None, tokens_BT: Tensor | None = None
) -> InterferenceStatistics:
    """Measure signed weights [B, H, T, T], one tensor a layer: w[…, t, j] is how position t reads position j.

    Position t sees t + 1 positions, or all T in a layer whose weights reach past the diagonal (a leak: then nothing is
    hidden by a mask that isn't there). Silent rows (all weights 0) and rows outside `mask_BT` are left out. With
    `tokens_BT` the first row's weights and ids are kept for the page. Cost: O(L·B·H·T²) with about 8 passes: give it
    one row of at most 48 positions.

    Raises:
        ValueError: no layer, or shapes that disagree.

    Example:
        >>> weights = torch.tensor([[1.0, 0.0], [-0.5, 0.5]]).view(1, 1, 2, 2)
        >>> found = interference_statistics([weights])
        >>> found.constructive_LH.tolist(), found.destructive_LH.tolist()
        ([[0.5]], [[0.5]])
    """
    _check(kernels, mask_BT, tokens_BT)
    names = ("constructive", "destructive", "participation", "entropy")
    with torch.no_grad():
        measured = [_layer_statistics(kernel.detach().float(), mask_BT) for kernel in kernels]
        values_4LH = torch.stack(measured, dim=1).cpu().numpy()
        kept = None
        if tokens_BT is not None:
            size = min(KEPT_POSITIONS, tokens_BT.shape[1])
            kept = torch.stack([kernel.detach()[0, :, :size, :size].float() for kernel in kernels]).cpu().numpy()
    tokens_N = None if tokens_BT is None else tokens_BT[0, :KEPT_POSITIONS].to(torch.int32).cpu().numpy()
    by_name = dict(zip(names, values_4LH, strict=True))
    return InterferenceStatistics(
        constructive_LH=by_name["constructive"],
        destructive_LH=by_name["destructive"],
        participation_LH=by_name["participation"],
        entropy_LH=by_name["entropy"],
        kernels_LHNN=kept,
        tokens_N=tokens_N,
    )


def _check(kernels: Sequence[Tensor], mask_BT: Tensor | None, tokens_BT: Tensor | None) -> None:
    if not kernels:
        raise ValueError("kernels is empty; pass one tensor [batch, heads, T, T] a layer")
    shape = tuple(kernels[0].shape)
    for layer, kernel in enumerate(kernels):
        if kernel.ndim != 4 or tuple(kernel.shape) != shape or shape[2] != shape[3]:
            raise ValueError(
                f"kernels[{layer}] has shape {tuple(kernel.shape)}; pass [batch, heads, T, T], the same for each layer"
            )
    if mask_BT is not None:
        check_mask(mask_BT, (shape[0], shape[2]), "the kernels")
    if tokens_BT is not None:
        check_shape("tokens_BT", tokens_BT, (shape[0], shape[2]), "the kernels")


def _layer_statistics(weight_BHTT: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Constructive, destructive, participation and entropy of each head, [4, H]."""
    size_BHTT = weight_BHTT.abs()
    tokens = weight_BHTT.shape[-1]
    # The largest weight of a row as unit: squares of small weights would underflow.
    unit_BHT1 = size_BHTT.amax(-1, keepdim=True)
    share_BHTT = size_BHTT / unit_BHT1.where(unit_BHT1 > 0, 1.0)
    total_BHT = share_BHTT.sum(-1)
    positive_BHT = (weight_BHTT.relu() / unit_BHT1.where(unit_BHT1 > 0, 1.0)).sum(-1)
    visible_T = torch.arange(1, tokens + 1, device=weight_BHTT.device, dtype=torch.float32)
    if bool(weight_BHTT.triu(1).any()):
        visible_T = torch.full_like(visible_T, tokens)
    used_BHT = (total_BHT > 0) & (visible_T >= 2)
    if mask_BT is not None:
        used_BHT = used_BHT & mask_BT.unsqueeze(1)
    one_BHT = total_BHT.where(total_BHT > 0, 1.0)
    constructive = positive_BHT / one_BHT
    participation = one_BHT.square() / share_BHTT.square().sum(-1).clamp(min=1e-30) / visible_T
    # −Σ q ln q with q = s/Σs equals ln Σs − Σ s ln s ÷ Σs; s ln s is 0 at s = 0.
    entropy = one_BHT.log() + torch.special.entr(share_BHTT).sum(-1) / one_BHT
    entropy = entropy / visible_T.log().clamp(min=1e-30)
    values_4BHT = torch.stack((constructive, 1 - constructive, participation, entropy))
    return (values_4BHT * used_BHT).sum((1, 3)) / used_BHT.sum((0, 2))


def _mean_known(values_LH: np.ndarray) -> float:
    known = values_LH[~np.isnan(values_LH)]
    return float(known.mean()) if known.size else float("nan")
