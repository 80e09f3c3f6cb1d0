"""Concepts and languages: what a word means, apart from the language that it is written in.

A word is a mixture of K concepts; concepts predict concepts, blind to the language; a gate inferred from the words so
far turns concepts into words of the language. The term `concept` (objectives/mechanisms.py) asks that the concept of
the next word follows from those before it: words of two languages that stand in like places then land on one concept,
starting from what both share, names and punctuation. Causal; O(T log T) and O(1) state a token. Shape legend: see
blocks.py; K concepts, L languages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qcore.config import PhaseLMConfig
from qcore.models.blocks import linear, residual_linear
from qcore.models.phase.interference import decayed_sum, mix_next_with_means, mix_with_means, no_autocast

HEAD_SHARE = 0.1
"""Share of the concepts' head in the logits."""
SURPRISE_FLOOR = 0.01
"""Part of every prediction that is spread over all concepts, so that no concept costs more than ln(K/0.01) nats."""
GENTLE = 0.01
"""Share of the gradient of what reads the concepts that reaches them. The words of a sentence have one language, so the
next word's loss would sort concepts by language before they can be sorted by meaning; a weighted term `concept` leads,
and without one this gradient, which Adam rescales, still teaches."""
_MEMORY, _EVIDENCE_GAIN, _FIRST_GUESS = 40.0, 4.0, 0.03
_WORD_GAIN = 12.0
"""Logits of the word map by weight: Adam moves every weight by its rate, and a map must get from even to sharp."""


class LanguageGate(nn.Module):
    """g_t = softmax(Σ_{j≤t} r^{t−j}·4·e[x_j]), share of each language at each token, [B, T, L].

    e[x] ∈ R^L is the evidence of a word, learned; r its memory, learned, about 40 tokens at first: longer than a
    sentence, whose parts would be told apart instead, and short enough to follow a change of language. Without evidence
    the gate is even. Nobody says what a language is: the head reads Σ_l g_tl·voice_l too, so the split is learned that
    says most about which words come next.
    """

    def __init__(self, vocab_size: int, width: int, languages: int) -> None:
        super().__init__()
        self.evidence = nn.Embedding(vocab_size, languages)
        nn.init.normal_(self.evidence.weight, std=0.1)
        self.decay_logit = nn.Parameter(torch.tensor(math.log(_MEMORY - 1)))
        self.voices = nn.Parameter(torch.randn(languages, width))

    def forward(self, tokens_BT: Tensor, carried_BL: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The gate, and the evidence to carry on after the last token."""
        total_BTL = decayed_sum(_EVIDENCE_GAIN * self.evidence(tokens_BT), self.decay_logit, carried_BL)
        return total_BTL.softmax(-1), total_BTL[:, -1]

    def voice(self, gate_BTL: Tensor) -> Tensor:
        """What the languages add to the state that the head reads, [B, T, D]."""
        return gate_BTL @ self.voices


class LanguagePhases(nn.Module):
    """Δψ_t = Σ_l g_tl (W_l e_t + b_l), radians: each language turns the phases by a map of its own, [B, T, P].

    A gate that is sure of a language applies that language's map alone; equal maps make the gate irrelevant.
    """

    def __init__(self, config: PhaseLMConfig) -> None:
        super().__init__()
        self.languages = config.languages
        self.turn = linear(config.width, config.languages * config.phases, bias=True, gain=0.3)

    def forward(self, embedded_BTD: Tensor, gate_BTL: Tensor) -> Tensor:
        turn_BTLP = self.turn(embedded_BTD).float().unflatten(-1, (self.languages, -1))
        return (turn_BTLP * gate_BTL[..., None]).sum(-2)


@dataclass(frozen=True)
class ConceptOutput:
    """What a concept layer adds.

    Attributes:
        update_BTD: into the stream.
        boost_BTD: into the state that the head reads.
        shares_BTK, expected_BTK: concepts of each token, and those expected of the next one; both sum to 1.
    """

    update_BTD: Tensor
    boost_BTD: Tensor
    shares_BTK: Tensor
    expected_BTK: Tensor


@dataclass(frozen=True)
class ConceptState:
    """Running means of the concept vectors, both [H, B, d]."""

    prefix_sum: Tensor
    decayed_mean: Tensor


class ConceptLayer(nn.Module):
    """q_t = softmax(12·M[x_t]) ∈ Δ^K, the concepts of a word; v_t = Σ_k q_tk C_k; u_t = v_t + ½ (mean of the v so far).

    p_t = 0.99·softmax(W₂ GELU(W₁ u_t)) + 0.01/K, the concept expected next: no word and no language enters it but
    through concepts. Stream: + W_o[u_t ⊙ s_t]. Logits: + 0.1·E W_h[(Σ_k p_tk C_k) ⊙ s_t] with the tied table E;
    s_t = Σ_l g_tl s_l scales the concept channels as the languages ask.
    """

    def __init__(self, config: PhaseLMConfig, vocab_size: int, depth: int) -> None:
        super().__init__()
        D, K = config.width, config.concepts
        self.heads = config.heads
        self.words = nn.Embedding(vocab_size, K)
        nn.init.normal_(self.words.weight, std=0.1 / _WORD_GAIN)
        self.vectors = nn.Parameter(torch.randn(K, D))
        memory = 10 ** (torch.arange(self.heads) / max(1, self.heads - 1))
        self.decay_logit = nn.Parameter(torch.log(memory.clamp(min=1.25) - 1))
        self.share_logit = nn.Parameter(torch.full((self.heads,), 2.0))
        # Almost even predictions at first, so that the first structure found is the data's: with a full-sized start
        # words gather around what the random weights happen to expect, each language by itself.
        self.inner, self.outer = linear(D, D), linear(D, K, gain=_FIRST_GUESS)
        self.accents = nn.Parameter(1 + 0.1 * torch.randn(config.languages, D))
        self.out = residual_linear(D, D, depth)
        self.head = linear(D, D)

    def forward(self, tokens_BT: Tensor, gate_BTL: Tensor) -> ConceptOutput:
        shares_BTK = self.shares(tokens_BT)
        vector_BTD = shares_BTK @ self.vectors
        B, T, _ = vector_BTD.shape
        vector_HTBd = vector_BTD.view(B, T, self.heads, -1).permute(2, 1, 0, 3)
        mixed = mix_with_means(vector_HTBd, self.decay_logit, self.share_logit)
        return self._read(mixed.permute(2, 1, 0, 3).flatten(2), shares_BTK, gate_BTL)

    def step(
        self, tokens_B1: Tensor, gate_B1L: Tensor, state: ConceptState, position: int
    ) -> tuple[ConceptOutput, ConceptState]:
        """One token at `position` (from 1)."""
        shares_B1K = self.shares(tokens_B1)
        vector_HBd = (shares_B1K @ self.vectors)[:, 0].unflatten(-1, (self.heads, -1)).transpose(0, 1)
        mixed, prefix_sum, decayed = mix_next_with_means(
            vector_HBd, state.prefix_sum, state.decayed_mean, self.decay_logit, self.share_logit, position
        )
        output = self._read(mixed.transpose(0, 1).flatten(1)[:, None], shares_B1K, gate_B1L)
        return output, ConceptState(prefix_sum, decayed)

    def shares(self, tokens_BT: Tensor) -> Tensor:
        """Concepts of words, each word by itself, [B, T, K]."""
        return (_WORD_GAIN * self.words(tokens_BT)).softmax(-1)

    def _read(self, mixed_BTD: Tensor, shares_BTK: Tensor, gate_BTL: Tensor) -> ConceptOutput:
        with no_autocast(mixed_BTD):
            raw_BTK = self.outer(functional.gelu(self.inner(mixed_BTD)))
            expected_BTK = (1 - SURPRISE_FLOOR) * raw_BTK.softmax(-1) + SURPRISE_FLOOR / raw_BTK.shape[-1]
            accent_BTD = gate_BTL @ self.accents
            meant_BTD = expected_BTK @ self.vectors
        update = self.out(_damp_gradient(mixed_BTD) * accent_BTD)
        boost = HEAD_SHARE * self.head(_damp_gradient(meant_BTD) * accent_BTD)
        return ConceptOutput(update, boost, shares_BTK, expected_BTK)


def _damp_gradient(x: Tensor) -> Tensor:
    """x, whose gradient is multiplied by GENTLE."""
    return GENTLE * x + ((1 - GENTLE) * x).detach()
