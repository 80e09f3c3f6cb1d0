"""The record of the phase language model: how it is built, what it costs, how it grows."""

from __future__ import annotations

from qcore.config import PhaseLMConfig
from qcore.models.phase.dynamic_width import WIDTHS
from qcore.models.phase.interference import CHUNK, phases_per_head
from qcore.models.phase.model import PhaseLM
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

_EXPERTS = (
    GrowthRule(f"{LAYER}ffn.router.weight", "E D", "fresh"),
    GrowthRule(f"{LAYER}ffn.enter", "E D f+f", "fresh"),
    GrowthRule(f"{LAYER}ffn.down", "E f D", "silent"),
)
_WIDTHS = (
    GrowthRule(f"{LAYER}widths_norm.weight", "D", "norm"),
    GrowthRule(f"{LAYER}widths.up.weight", "D+W2+W3 D", "fresh"),
    GrowthRule(f"{LAYER}widths.down.weight", "D D+W2+W3", "silent"),
    GrowthRule(f"{LAYER}widths.slope", "3", "fresh"),
    GrowthRule(f"{LAYER}widths.bias", "3", "fresh"),
)
_ATTENTION = (
    GrowthRule(f"{LAYER}quantum.attention.query_key.weight", "D+D D", "fresh"),
    GrowthRule(f"{LAYER}quantum.attention.strength", "H 1 1", "fresh"),
)
_LANGUAGE = (
    GrowthRule("language.evidence.weight", "V L", "fresh"),
    GrowthRule("language.decay_logit", "", "fresh"),
    GrowthRule("language.voices", "L D", "head"),
)
# New channels of a concept are 0, and what reads them is random.
_CONCEPTS = (
    GrowthRule("concepts.words.weight", "V K", "fresh"),
    GrowthRule("concepts.vectors", "K D", "silent"),
    GrowthRule("concepts.decay_logit", "H", "fresh"),
    GrowthRule("concepts.share_logit", "H", "fresh"),
    GrowthRule("concepts.inner.weight", "D D", "fresh"),
    GrowthRule("concepts.outer.weight", "K D", "silent"),
    GrowthRule("concepts.accents", "L D", "fresh"),
    GrowthRule("concepts.out.weight", "D D", "silent"),
    GrowthRule("concepts.head.weight", "D D", "head"),
)


def _rules(config: PhaseLMConfig) -> tuple[GrowthRule, ...]:
    entered, read = ("P+P+D+D", "2P+P+D") if config.interference_attention else ("P+P", "2P+P")
    of_phase = ("amplitude.bias", "harmonic", "position_scale", "position_offset", "rate")
    by_language = "+".join(["P"] * config.languages)
    return (
        *TIED,
        GrowthRule("encoding.amplitude.weight", "P D", "fresh"),
        GrowthRule("encoding.semantic.weight", "V P", "fresh"),
        *(GrowthRule(f"encoding.{name}", "P", "fresh") for name in of_phase),
        GrowthRule("encoding.stability_scale", "", "fresh"),
        GrowthRule("encoding.stability", "V", "fresh"),
        GrowthRule("enter.weight", "D 2P", "silent"),
        *(GrowthRule(f"{LAYER}{name}_norm.weight", "D", "norm") for name in ("interference", "quantum", "ffn")),
        GrowthRule(f"{LAYER}interference.reference", "H 1 1 d", "fresh"),
        GrowthRule(f"{LAYER}interference.inner", "H d d", "fresh"),
        GrowthRule(f"{LAYER}interference.outer", "H d d", "fresh"),
        GrowthRule(f"{LAYER}interference.decay_logit", "H", "fresh"),
        GrowthRule(f"{LAYER}interference.share_logit", "H", "fresh"),
        GrowthRule(f"{LAYER}interference.out.weight", "D D", "silent"),
        GrowthRule(f"{LAYER}quantum.enter.weight", f"{entered} D", "fresh"),
        GrowthRule(f"{LAYER}quantum.enter.bias", entered, "fresh"),
        GrowthRule(f"{LAYER}quantum.out.weight", f"D {read}", "silent"),
        GrowthRule(f"{LAYER}quantum.head_norm.weight", "d", "fresh"),
        GrowthRule("language_phases.turn.weight", f"{by_language} D", "fresh"),
        GrowthRule("language_phases.turn.bias", by_language, "fresh"),
        *(_EXPERTS if config.experts else SWIGLU),
        *_WIDTHS,
        *_ATTENTION,
        *_LANGUAGE,
        *_CONCEPTS,
    )


def _blocks(config: PhaseLMConfig) -> dict[str, int]:
    first, second, third = (round(share * config.width) for share in WIDTHS)
    ffn = config.ffn_width or 2 * config.width
    return {
        "P": config.phases,
        "2P": 2 * config.phases,
        "F": ffn,
        "f": max(1, ffn // config.experts_active),
        "W2": second - first,
        "W3": third - second,
        "K": config.concepts,
        "L": config.languages,
        "E": config.experts,
    }


def _symbols(config: PhaseLMConfig, s: int) -> dict[str, float]:
    own = {
        "P": config.phases,
        "p": phases_per_head(config.phases, config.heads),
        "F": config.ffn_width or 2 * config.width,
    }
    return own | chunk_symbols(s, CHUNK)


def _formulas(config: PhaseLMConfig, s: int) -> dict[str, str]:
    return {EMBEDDING: "6·b·s·D·P", MIXING: _mixing(config, s), FEED_FORWARD: "6·b·s·L·D·F", HEAD: "2·b·s·D·V"}


def _mixing(config: PhaseLMConfig, s: int) -> str:
    """Global interference (heads' products, chunk means, read-out), quantum layer, interference attention."""
    chunks = s > CHUNK
    formula = "4·b·s·L·D·d + 2·b·s·L·D² + 2·b·S·L·C·D"
    formula += " + 8·b·S·L·D + 4·b·n²·L·D" if chunks else ""
    if not config.interference_attention:
        return formula + " + 10·b·s·L·D·P"
    formula += " + 10·b·s·L·D·P + 6·b·s·L·D² + 4·b·S·L·C·p·H + 2·b·S·L·C·D"
    return formula + (" + 8·b·S·L·p·D" if chunks else "")


def published_phase_parameters(config: PhaseLMConfig, vocab_size: int = 256) -> int:
    """Learned values of the published phase model at these sizes: 8.58 M, 21.08 M and 43.95 M for its three presets.

    Its vocabulary was the 256 characters. Most of them sit where they hardly act: each of the H heads of its one
    interference layer has a two-layer network over the whole width (H·4D² + H·D²), and each of its L layers keeps
    square matrices of 1.5, 2.25 … times the width up to 1,024 of which a batch uses one or none.
    """
    D, L, H, P, T = config.width, config.layers, config.heads, config.phases, config.context
    wider: list[int] = []
    while D * 1.5 ** (len(wider) + 1) <= 1024:
        wider.append(int(D * 1.5 ** (len(wider) + 1)))
    layer = D * D + D + sum(w * w + w + w * D + D for w in wider)
    interference = H * (4 * D * D + 3 * D) + H * D * D + 4 * D
    encoding = D + vocab_size * (P + 1) + T * P + P * D
    return vocab_size * (2 * D + 1) + T * D + L * layer + interference + encoding


FAMILY = LanguageFamily("phase_lm", PhaseLM, _symbols, _formulas, Growth(_rules, _blocks), published_phase_parameters)
