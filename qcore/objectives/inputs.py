"""What a loss term of a language model reads: one batch of outputs, and the quantities several terms derive from it.

Legend: B batch, T tokens, V vocabulary, D width, P phases, K concepts; `mask_BT` is True where the target is real.
`TermInputs` is plain data. `Derived` caches the expensive views (one log-softmax, one complex phasor a layer) for the
terms of a single call; it is never kept on the inputs, because a view first computed without gradient would silently
starve a later backward pass. Logits must be finite; they are promoted to at least float32 before any reduction.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

UNIGRAM_FLOOR = 1e-8
"""Probability given to a token the training data never shows, so that a KL to the unigram stays under ln 1e8 = 18.4
nats.
"""


class Inputs(Protocol):
    """What the sum needs of a family's inputs, which its terms alone understand."""

    @property
    def step(self) -> int | None:
        """The update being made, for terms that warm up; None: every term has its full weight."""

    def derived(self) -> Any:
        """What the family's terms take: shared views of one call."""

    def zero(self) -> Tensor:
        """A scalar 0 that can be backpropagated."""


@dataclass(frozen=True)
class TermInputs:
    """One batch as the terms see it. Shapes are checked here; ValueError names the field that disagrees."""

    logits_BTV: Tensor
    targets_BT: Tensor
    mask_BT: Tensor
    inputs_BT: Tensor
    hidden_BTD: Tensor
    phases: tuple[Tensor, ...] | None
    state_BTP: Tensor | None
    unigram_V: Tensor
    eos_id: int
    step: int | None = None
    concepts_BTK: Tensor | None = None
    expected_concepts_BTK: Tensor | None = None
    routers: tuple[Tensor, ...] | None = None
    experts_active: int = 1

    def __post_init__(self) -> None:
        if self.logits_BTV.ndim != 3:
            raise ValueError(
                f"logits_BTV has shape {tuple(self.logits_BTV.shape)}; pass logits as batch × tokens × vocabulary"
            )
        # the logits are the measure: they come from the model, all else is brought by the caller
        batch, tokens, vocabulary = self.logits_BTV.shape
        for name in ("targets_BT", "mask_BT", "inputs_BT"):
            shape = tuple(getattr(self, name).shape)
            if shape != (batch, tokens):
                raise ValueError(f"{name} has shape {shape}; it must be {(batch, tokens)} to match logits_BTV")
        # a float mask would select by value where the terms index, and weigh where they multiply
        if self.mask_BT.dtype != torch.bool:
            raise ValueError(f"mask_BT has dtype {self.mask_BT.dtype}; pass torch.bool, True where the target is real")
        if tuple(self.unigram_V.shape) != (vocabulary,):
            raise ValueError(f"unigram_V has shape {tuple(self.unigram_V.shape)}; it must be {(vocabulary,)}")
        if not 0 <= self.eos_id < vocabulary:
            raise ValueError(f"eos_id {self.eos_id} is outside the vocabulary; it must be in [0, {vocabulary - 1}]")
        if self.phases is not None:
            # an empty tuple would make every phase term a sum over nothing, 0 with a gradient of 0
            if not self.phases:
                raise ValueError("phases is an empty tuple; pass None for a model without phases")
            for layer, phase_BTP in enumerate(self.phases):
                if phase_BTP.ndim != 3 or tuple(phase_BTP.shape[:2]) != (batch, tokens):
                    shape = tuple(phase_BTP.shape)
                    raise ValueError(f"phases[{layer}] has shape {shape}; it must be {(batch, tokens)} × phases")
        shared = {"concepts_BTK": self.concepts_BTK, "expected_concepts_BTK": self.expected_concepts_BTK}
        for name, share in (*shared.items(), *((f"routers[{i}]", share) for i, share in enumerate(self.routers or ()))):
            if share is not None and (share.ndim != 3 or tuple(share.shape[:2]) != (batch, tokens)):
                raise ValueError(f"{name} has shape {tuple(share.shape)}; it must be {(batch, tokens)} × shares")

    def derived(self) -> "Derived":
        """What the terms share, computed on first use."""
        return Derived(self)

    def zero(self) -> Tensor:
        # joined to the graph: a term that is 0 for lack of positions must still take part in `backward`
        """0 that still hangs on the logits."""
        return self.logits_BTV.sum() * 0.0


class Derived:
    """Quantities shared by the terms of one call, each computed on first use and with the caller's gradient mode."""

    def __init__(self, inputs: TermInputs) -> None:
        self.inputs = inputs

    @cached_property
    def count(self) -> Tensor:
        """Number of valid positions, at least 1, as a float scalar: an empty mask divides 0 by 1."""
        return self.inputs.mask_BT.sum().clamp(min=1).to(self.dtype)

    @cached_property
    def row_count_B(self) -> Tensor:
        """Valid positions of each row, as floats; 0 where a row is all padding."""
        return self.inputs.mask_BT.sum(1).to(self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        # bfloat16 logits: a softmax over a vocabulary and sums over tokens need float32, float64 stays
        """That of sums over tokens: float32 at least."""
        return torch.promote_types(self.inputs.logits_BTV.dtype, torch.float32)

    @cached_property
    def log_probs_BTV(self) -> Tensor:
        """ln p of every token at every position."""
        return F.log_softmax(self.inputs.logits_BTV, dim=-1, dtype=self.dtype)

    @cached_property
    def probs_BTV(self) -> Tensor:
        """p of every token at every position."""
        return self.log_probs_BTV.exp()

    @cached_property
    def mean_probs_V(self) -> Tensor:
        """Mean predicted distribution over the valid positions, q = (1/n) Σ p_t; all zeros when none is valid."""
        # a product with the mask as a vector: B × T × V is not copied for the sake of a mean
        weights_N = self.inputs.mask_BT.flatten().to(self.dtype) / self.count
        return weights_N @ self.probs_BTV.flatten(0, 1)

    @cached_property
    def phasors(self) -> tuple[Tensor, ...]:
        """m_t·e^{iψ_tp} for each layer (complex, B×T×P): zero at padding, so plain sums are masked sums."""
        assert self.inputs.phases is not None, "phase terms are refused before they run when phases is None"
        mask_BT1 = self.inputs.mask_BT.unsqueeze(-1)
        phasors = []
        for phase_BTP in self.inputs.phases:
            angle_BTP = phase_BTP.to(torch.promote_types(phase_BTP.dtype, torch.float32))
            phasors.append(torch.polar(mask_BT1.to(angle_BTP.dtype).expand_as(angle_BTP), angle_BTP))
        return tuple(phasors)

    @cached_property
    def resultants(self) -> tuple[Tensor, ...]:
        """Mean phasor of each row, (1/n_b) Σ_t m_t e^{iψ_tp}, for each layer (complex, B×P); |·| is the order
        parameter R_p.
        """
        return tuple(phasor.sum(1) / self.row_count_B.clamp(min=1).unsqueeze(-1) for phasor in self.phasors)

    def mean(self, values_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Token-weighted mean of values_BT where `mask_BT` (default: the valid positions); 0, still differentiable,
        when empty.
        """
        # filled, not multiplied: 0 × inf of a padded position would be NaN
        if mask_BT is None:
            return values_BT.masked_fill(~self.inputs.mask_BT, 0.0).sum() / self.count
        return values_BT.masked_fill(~mask_BT, 0.0).sum() / mask_BT.sum().clamp(min=1)
