"""Do words that mean the same share a concept? Agreement over translation pairs, beside what chance would give.

Chance is pairing at random: its mean and its standard error over all permutations are exact sums, so nothing is drawn.
One concept for every word agrees everywhere and proves nothing: its chance level is 1 and its z has no value.
Legend: V vocabulary, K concepts, N pairs of tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined
from qcore.probes import catalog


@dataclass(frozen=True)
class ConceptAlignment:
    """Measurements over N pairs; a number without data is NaN and left out of `scalars`."""

    agreement: float
    """Share of pairs whose most likely concept is the same, in [0, 1]."""
    chance: float
    """Mean of that share over all ways to pair the same words."""
    chance_error: float
    """Its standard deviation over all of them."""
    z: float
    """(agreement − chance) ÷ chance_error; NaN when every way to pair gives the same share."""
    cosine: float
    cosine_chance: float
    """Mean cosine of the concept distributions of a pair, and of any first word with any second one, in [0, 1]."""
    pairs_N2: np.ndarray
    """Token ids of the pairs that count: both words have concepts."""
    cosine_N: np.ndarray
    top_V: np.ndarray
    share_V: np.ndarray
    """Most likely concept of each token and its share; −1 and 0 for a token without concepts."""

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `concept/`."""
        names = {
            "alignment": self.agreement,
            "alignment_chance": self.chance,
            "alignment_error": self.chance_error,
            "alignment_z": self.z,
            "cosine": self.cosine,
            "cosine_chance": self.cosine_chance,
        }
        return drop_undefined({catalog.member(catalog.CONCEPT, name): value for name, value in names.items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored under the name "concepts"."""
        return {"pairs": self.pairs_N2, "cosine": self.cosine_N, "top": self.top_V, "share": self.share_V}


def concept_alignment(concepts_VK: Tensor, pairs: Sequence[tuple[int, int]]) -> ConceptAlignment:
    """Agreement of word pairs in their concepts.

    Var over permutations of the agreement = Σ_ij (d_ij − d_i· − d_·j + d_··)² ÷ (N²·(N − 1)), d_ij = 1 where the first
    word of pair i and the second of pair j share their top concept (Hoeffding 1951). Pairs with an unknown word are
    left out; under 2 pairs there is no chance level. O(V·K + N²).

    Args:
        concepts_VK: share of each concept in a token, NaN where unknown.

    Raises:
        ValueError: shapes, or an id outside the vocabulary.
    """
    if concepts_VK.ndim != 2 or 0 in concepts_VK.shape:
        raise ValueError(f"concepts_VK has shape {tuple(concepts_VK.shape)}; pass [vocabulary, concepts]")
    vocabulary = len(concepts_VK)
    if outside := [token for pair in pairs for token in pair if not 0 <= token < vocabulary]:
        raise ValueError(f"a pair holds the token {outside[0]}; ids of this vocabulary are 0 … {vocabulary - 1}")
    # in float64 on the CPU: the error is a difference of sums over N², and N is small
    share_VK = concepts_VK.detach().double().cpu()
    known_V = ~share_VK.isnan().any(1)
    best_V, top_V = share_VK.nan_to_num(0.0).max(1)
    # a word that the text lacks has no concept; it would count as a disagreement
    kept = torch.tensor([pair for pair in pairs if known_V[pair[0]] and known_V[pair[1]]], dtype=torch.long).view(-1, 2)
    unit_VK = torch.nn.functional.normalize(share_VK.nan_to_num(0.0), dim=1)
    first_N, second_N = kept.unbind(1)
    cosine_NN = (unit_VK[first_N] @ unit_VK[second_N].T).clamp(0.0, 1.0)
    same_NN = (top_V[first_N][:, None] == top_V[second_N]).double()
    count = len(kept)
    agreement = float(same_NN.diagonal().mean()) if count else math.nan
    chance = error = math.nan
    if count > 1:
        centred_NN = same_NN - same_NN.mean(0) - same_NN.mean(1, keepdim=True) + same_NN.mean()
        chance = float(same_NN.mean())
        error = float(centred_NN.square().sum() / (count**2 * (count - 1))) ** 0.5
    return ConceptAlignment(
        agreement=agreement,
        chance=chance,
        chance_error=error,
        # where every word shares one concept, chance is 1 and its error 0: nothing can be told
        z=(agreement - chance) / error if error > 1e-9 else math.nan,
        cosine=float(cosine_NN.diagonal().mean()) if count else math.nan,
        cosine_chance=float(cosine_NN.mean()) if count > 1 else math.nan,
        pairs_N2=kept.numpy().astype(np.int32),
        cosine_N=cosine_NN.diagonal().numpy().astype(np.float32),
        top_V=torch.where(known_V, top_V, -1).numpy().astype(np.int32),
        share_V=torch.where(known_V, best_V, 0.0).numpy().astype(np.float32),
    )
