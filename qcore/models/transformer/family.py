"""The record of the transformer: how it is built, what it costs, how it grows."""

from __future__ import annotations

from torch import Tensor

from qcore.config import TransformerConfig
from qcore.models.phase.interference import CHUNK
from qcore.models.record import (
    EMBEDDING,
    FEED_FORWARD,
    HEAD,
    LAYER,
    MIXING,
    SWIGLU,
    TIED,
    Growth,
    GrowthRule,
    LanguageFamily,
    chunk_symbols,
)
from qcore.models.transformer.model import Transformer, transformer_ffn_width


def _rules(config: TransformerConfig) -> tuple[GrowthRule, ...]:
    del config
    return (
        *TIED,
        GrowthRule(f"{LAYER}attention_norm.weight", "D", "norm"),
        GrowthRule(f"{LAYER}ffn_norm.weight", "D", "norm"),
        GrowthRule(f"{LAYER}attention.qkv.weight", "D+D+D D", "fresh"),
        GrowthRule(f"{LAYER}attention.out.weight", "D D", "silent"),
        *SWIGLU,
    )


def _blocks(config: TransformerConfig) -> dict[str, int]:
    return {"F": transformer_ffn_width(config)}


def _build(config: TransformerConfig, vocab_size: int, token_counts: Tensor | None) -> Transformer:
    del token_counts
    return Transformer(config, vocab_size)


def _symbols(config: TransformerConfig, s: int) -> dict[str, float]:
    return {"F": transformer_ffn_width(config)} | chunk_symbols(s, CHUNK)


def _formulas(config: TransformerConfig, s: int) -> dict[str, str]:
    mixing = "8·b·s·L·D² + 4·b·s²·L·D"
    return {EMBEDDING: "0", MIXING: mixing, FEED_FORWARD: "6·b·s·L·D·F", HEAD: "2·b·s·D·V"}


FAMILY = LanguageFamily("transformer", _build, _symbols, _formulas, Growth(_rules, _blocks))
