"""What flows through the layers, and where the loss lies: sizes of the residual stream, logits, loss by kind of target.

A stream that grows from layer to layer, or in which a few numbers dwarf all others, comes long before a loss that
breaks; a loss that is low at common tokens alone, or as high at the end of a window as at its start, is one that the
mean hides. Legend: L layers, B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from qcore.diagnostics.positions import check_mask, drop_undefined
from qcore.probes import catalog

PARTS = 4
"""Into so many equal parts a window is divided."""


@dataclass(frozen=True)
class LayerStatistics:
    """The residual stream behind each of L layers, over all elements of the rows."""

    rms_L: np.ndarray
    largest_L: np.ndarray
    """Largest magnitude."""
    kurtosis_L: np.ndarray
    """E[x⁴] ÷ E[x²]², 3 for a normal distribution; thousands where few channels carry all."""

    def scalars(self) -> dict[str, float]:
        """Series by name, under `layers/`: of the layer where each is largest."""
        found = {
            catalog.LAYERS_RMS: self.rms_L,
            catalog.LAYERS_LARGEST: self.largest_L,
            catalog.LAYERS_KURTOSIS: self.kurtosis_L,
        }
        return {name: float(values.max()) for name, values in found.items() if np.isfinite(values).all()}

    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored under the name "layers"."""
        found = {"rms": self.rms_L, "largest": self.largest_L, "kurtosis": self.kurtosis_L}
        return {name: values.astype(np.float32) for name, values in found.items()}


def layer_statistics(states: Sequence[Tensor]) -> LayerStatistics:
    """Measure the states behind each layer, of any shape; a complex one by its real and imaginary parts.

    Raises:
        ValueError: no state.

    Example:
        >>> layer_statistics([torch.tensor([3.0, -3.0]), torch.tensor([0.0, 2.0])]).kurtosis_L.tolist()
        [1.0, 2.0]
    """
    if not states:
        raise ValueError("there is no layer to measure; pass the output of each")
    rows = []
    for state in states:
        real = torch.view_as_real(state) if state.is_complex() else state
        square = real.detach().float().square()
        mean = square.mean()
        rows.append(torch.stack([mean.sqrt(), square.max().sqrt(), square.square().mean() / mean.square()]))
    values_L3 = torch.stack(rows).double().cpu().numpy()
    return LayerStatistics(*values_L3.T)


@dataclass(frozen=True)
class LossParts:
    """Where the cross-entropy of a batch lies; NaN for a part without a target.

    Attributes:
        by_position: of the quarters of a window, nats per token.
        common, rare: of the targets that make up the more frequent and the rarer half of the training data.
        logit_rms: root mean square of the logits about their mean.
        normaliser: mean of |log Σ exp| of the logits, nats.
    """

    by_position: tuple[float, ...]
    common: float
    rare: float
    logit_rms: float
    normaliser: float

    def scalars(self) -> dict[str, float]:
        """Series by name, under `loss/` and `output/`."""
        found = {catalog.loss_at_part(place + 1): value for place, value in enumerate(self.by_position)}
        found |= {catalog.LOSS_COMMON: self.common, catalog.LOSS_RARE: self.rare}
        return drop_undefined(found | {catalog.OUTPUT_RMS: self.logit_rms, catalog.OUTPUT_NORMALISER: self.normaliser})


def loss_parts(
    logits_BTV: Tensor, targets_BT: Tensor, mask_BT: Tensor, token_counts: np.ndarray | None = None
) -> LossParts:
    """Cross-entropy by quarter of the window and by frequency of the target, over the positions of the mask.

    Args:
        token_counts: [V], how often each token occurs in the training data; without it frequency is unknown.
    """
    check_mask(mask_BT, tuple(targets_BT.shape), "targets_BT")
    with torch.no_grad():
        logits_BTV = logits_BTV.float()
        loss_BT = functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none").view_as(
            targets_BT
        )
        T = targets_BT.shape[1]
        part_T = torch.arange(T, device=targets_BT.device) * PARTS // max(1, T)
        wanted = [mask_BT & (part_T == part) for part in range(PARTS)]
        if token_counts is not None:
            counts_V = torch.as_tensor(np.asarray(token_counts, dtype=np.float64), device=targets_BT.device)
            order_V = counts_V.argsort(descending=True, stable=True)
            below_V = torch.zeros_like(counts_V, dtype=torch.bool)
            # the most frequent tokens that together make up half of the data, and the one that crosses the half
            below_V[order_V] = (counts_V[order_V].cumsum(0) - counts_V[order_V]) < counts_V.sum() / 2
            wanted += [mask_BT & below_V[targets_BT], mask_BT & ~below_V[targets_BT]]
        means = [float(loss_BT[chosen].mean()) if chosen.any() else math.nan for chosen in wanted]
        real_NV = logits_BTV[mask_BT]
        rms = float(real_NV.std(-1, correction=0).square().mean().sqrt()) if len(real_NV) else math.nan
        normaliser = float(real_NV.logsumexp(-1).abs().mean()) if len(real_NV) else math.nan
    common, rare = means[PARTS:] or (math.nan, math.nan)
    return LossParts(tuple(means[:PARTS]), common, rare, rms, normaliser)
