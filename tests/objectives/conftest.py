"""Random and hand-made batches for the loss terms."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from qcore.objectives import TERMS, TermInputs

EOS = 2


@pytest.fixture
def make_inputs() -> Callable[..., TermInputs]:
    """Builds TermInputs from any subset of its tensors; the rest is seeded noise of matching shape."""

    def build(
        logits: Tensor | None = None,
        targets: Tensor | None = None,
        mask: Tensor | None = None,
        inputs: Tensor | None = None,
        phases: tuple[Tensor, ...] | None = None,
        unigram: Tensor | None = None,
        shape: tuple[int, int, int] = (3, 12, 11),
    ) -> TermInputs:
        generator = torch.Generator().manual_seed(7)
        if logits is None:
            if phases is not None:
                shape = (*phases[0].shape[:2], shape[2])
            logits = torch.randn(shape, generator=generator, dtype=torch.float64)
        B, T, V = logits.shape
        return TermInputs(
            logits_BTV=logits,
            targets_BT=torch.randint(V, (B, T), generator=generator) if targets is None else targets,
            mask_BT=torch.ones(B, T, dtype=torch.bool) if mask is None else mask,
            inputs_BT=torch.randint(V, (B, T), generator=generator) if inputs is None else inputs,
            hidden_BTD=torch.zeros(B, T, 4),
            phases=phases,
            state_BTP=None,
            unigram_V=torch.full((V,), 1 / V) if unigram is None else unigram,
            eos_id=EOS,
        )

    return build


@pytest.fixture
def controls() -> dict[str, float]:
    """Every control at 0, with settings under which every term is active on noise."""
    return {term.control: 0.0 for term in TERMS} | {
        "dominance_threshold": 0.0,
        "entropy_floor": 3.0,
        "unlikelihood_window": 4,
    }
