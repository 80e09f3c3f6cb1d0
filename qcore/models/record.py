"""What the house asks of a model family: one record in the family's folder, which `families.py` lists.

Growth speaks of blocks: V vocabulary · D width · H heads · d width of a head · P phases · F feed-forward · K concepts ·
L languages · E experts · W₂, W₃ what the second and third dynamic width add · 2P pairs (Re, Im). A size in digits is
fixed. An axis is blocks joined by +, each of which grows at its own end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from qcore.models.blocks import LanguageModel

EMBEDDING, MIXING, FEED_FORWARD, HEAD, REST = "embedding", "layer mixing", "feed-forward", "head", "other switches"
"""Parts of a forward pass, as costs name them."""

Start = Literal["fresh", "silent", "table", "norm", "head"]
"""How a grown parameter begins, s = √(D/D′). fresh: the old block, and an untouched initialisation around it · silent:
zeros around it · table: silent, the old block × s, for a tied embedding that the model multiplies by √D · norm: fresh,
the old block × s, for a norm over the stream, whose mean square falls by s² when its new channels are 0 · head: fresh,
the old block ÷ s, for what is added to the state that a tied table reads."""


@dataclass(frozen=True)
class GrowthRule:
    """How the parameters of one name grow.

    Attributes:
        pattern: full name of the parameter, a layer's number being *.
        axes: one word for each.
    """

    pattern: str
    axes: str
    start: Start


@dataclass(frozen=True)
class Growth:
    """How models of a family grow.

    Attributes:
        rules: one for each parameter and persistent buffer of a configuration.
        blocks: sizes of its blocks beside those of width and heads, F among them.
        keeps: sizes that this configuration cannot grow, with the reason.
    """

    rules: Callable[[Any], tuple[GrowthRule, ...]]
    blocks: Callable[[Any], dict[str, int]]
    keeps: Callable[[Any], dict[str, str]] = lambda config: {}


@dataclass(frozen=True)
class LanguageFamily:
    """A family of language models.

    Attributes:
        kind: as its section of the configuration says.
        build: (configuration, vocabulary, counts of the tokens [V] or None) → model; the caller has seeded the draw.
        symbols: (configuration, tokens s) → sizes in its formulas beside b, s, D, L, V, H and d.
        formulas: (configuration, tokens s) → matrix products of each part.
        growth: how it grows; None for a family that cannot.
        published_parameters: learned values of the published model at the same sizes; None where that is this one, or
            none was published.
    """

    kind: str
    build: Callable[[Any, int, Tensor | None], LanguageModel]
    symbols: Callable[[Any, int], dict[str, float]]
    formulas: Callable[[Any, int], dict[str, str]]
    growth: Growth | None = None
    published_parameters: Callable[[Any], int] | None = None


LAYER = "layers.*."
TIED = (GrowthRule("embedding.weight", "V D", "table"), GrowthRule("norm.weight", "D", "fresh"))
"""A table that is the head, too. Its scale and the larger mean cancel in the last norm."""
SWIGLU = (
    GrowthRule(f"{LAYER}ffn.gate.weight", "F D", "fresh"),
    GrowthRule(f"{LAYER}ffn.up.weight", "F D", "fresh"),
    GrowthRule(f"{LAYER}ffn.down.weight", "D F", "silent"),
)


def chunk_symbols(tokens: int, chunk: int) -> dict[str, float]:
    """C, n and S of a pass over `tokens` in chunks of at most `chunk`."""
    C = min(chunk, tokens)
    n = -(-tokens // C)
    return {"C": C, "n": n, "S": n * C}
