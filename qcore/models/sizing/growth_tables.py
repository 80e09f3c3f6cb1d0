"""What growth knows of each family: what the axes of every parameter are made of, and how its new entries begin.

Blocks: V vocabulary · D width · H heads · d width of a head · P phases · F feed-forward · K concepts · L languages ·
E experts · W₂, W₃ what the second and third dynamic width add · 2P pairs (Re, Im). A size in digits is fixed. An axis
is blocks joined by +, each of which grows at its own end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from qcore.config import PAMConfig, PhaseLMConfig, TransformerConfig
from qcore.models.pam.model import pam_ffn_width
from qcore.models.phase.dynamic_width import WIDTHS
from qcore.models.transformer.model import transformer_ffn_width

Start = Literal["fresh", "silent", "table", "norm", "head"]
"""How a grown parameter begins, s = √(D/D′). fresh: the old block, and an untouched initialisation around it · silent:
zeros around it · table: silent, the old block × s, for a tied embedding that the model multiplies by √D · norm: fresh,
the old block × s, for a norm over the stream, whose mean square falls by s² when its new channels are 0 · head: fresh,
the old block ÷ s, for what is added to the state that a tied table reads."""


@dataclass(frozen=True)
class Rule:
    """pattern: full name of the parameter, a layer's number being * · axes: one word for each."""

    pattern: str
    axes: str
    start: Start


@dataclass(frozen=True)
class Family:
    """rules: one for each parameter and persistent buffer of a configuration · blocks: sizes of its blocks beside those
    of width and heads, F among them · keeps: sizes that this configuration cannot grow, with the reason."""

    rules: Callable[[Any], tuple[Rule, ...]]
    blocks: Callable[[Any], dict[str, int]]
    keeps: Callable[[Any], dict[str, str]] = lambda config: {}


_LAYER = "layers.*."
_TIED = (Rule("embedding.weight", "V D", "table"), Rule("norm.weight", "D", "fresh"))
"""The table's scale and the larger mean cancel in the last norm."""
_SWIGLU = (
    Rule(f"{_LAYER}ffn.gate.weight", "F D", "fresh"),
    Rule(f"{_LAYER}ffn.up.weight", "F D", "fresh"),
    Rule(f"{_LAYER}ffn.down.weight", "D F", "silent"),
)
_EXPERTS = (
    Rule(f"{_LAYER}ffn.router.weight", "E D", "fresh"),
    Rule(f"{_LAYER}ffn.enter", "E D f+f", "fresh"),
    Rule(f"{_LAYER}ffn.down", "E f D", "silent"),
)
_WIDTHS = (
    Rule(f"{_LAYER}widths_norm.weight", "D", "norm"),
    Rule(f"{_LAYER}widths.up.weight", "D+W2+W3 D", "fresh"),
    Rule(f"{_LAYER}widths.down.weight", "D D+W2+W3", "silent"),
    Rule(f"{_LAYER}widths.slope", "3", "fresh"),
    Rule(f"{_LAYER}widths.bias", "3", "fresh"),
)
_ATTENTION = (
    Rule(f"{_LAYER}quantum.attention.query_key.weight", "D+D D", "fresh"),
    Rule(f"{_LAYER}quantum.attention.strength", "H 1 1", "fresh"),
)
_LANGUAGE = (
    Rule("language.evidence.weight", "V L", "fresh"),
    Rule("language.decay_logit", "", "fresh"),
    Rule("language.voices", "L D", "head"),
)
# New channels of a concept are 0, and what reads them is random.
_CONCEPTS = (
    Rule("concepts.words.weight", "V K", "fresh"),
    Rule("concepts.vectors", "K D", "silent"),
    Rule("concepts.decay_logit", "H", "fresh"),
    Rule("concepts.share_logit", "H", "fresh"),
    Rule("concepts.inner.weight", "D D", "fresh"),
    Rule("concepts.outer.weight", "K D", "silent"),
    Rule("concepts.accents", "L D", "fresh"),
    Rule("concepts.out.weight", "D D", "silent"),
    Rule("concepts.head.weight", "D D", "head"),
)


def _phase_rules(config: PhaseLMConfig) -> tuple[Rule, ...]:
    entered, read = ("P+P+D+D", "2P+P+D") if config.interference_attention else ("P+P", "2P+P")
    of_phase = ("amplitude.bias", "harmonic", "position_scale", "position_offset", "rate")
    by_language = "+".join(["P"] * config.languages)
    return (
        *_TIED,
        Rule("encoding.amplitude.weight", "P D", "fresh"),
        Rule("encoding.semantic.weight", "V P", "fresh"),
        *(Rule(f"encoding.{name}", "P", "fresh") for name in of_phase),
        Rule("encoding.stability_scale", "", "fresh"),
        Rule("encoding.stability", "V", "fresh"),
        Rule("enter.weight", "D 2P", "silent"),
        *(Rule(f"{_LAYER}{name}_norm.weight", "D", "norm") for name in ("interference", "quantum", "ffn")),
        Rule(f"{_LAYER}interference.reference", "H 1 1 d", "fresh"),
        Rule(f"{_LAYER}interference.inner", "H d d", "fresh"),
        Rule(f"{_LAYER}interference.outer", "H d d", "fresh"),
        Rule(f"{_LAYER}interference.decay_logit", "H", "fresh"),
        Rule(f"{_LAYER}interference.share_logit", "H", "fresh"),
        Rule(f"{_LAYER}interference.out.weight", "D D", "silent"),
        Rule(f"{_LAYER}quantum.enter.weight", f"{entered} D", "fresh"),
        Rule(f"{_LAYER}quantum.enter.bias", entered, "fresh"),
        Rule(f"{_LAYER}quantum.out.weight", f"D {read}", "silent"),
        Rule(f"{_LAYER}quantum.head_norm.weight", "d", "fresh"),
        Rule("language_phases.turn.weight", f"{by_language} D", "fresh"),
        Rule("language_phases.turn.bias", by_language, "fresh"),
        *(_EXPERTS if config.experts else _SWIGLU),
        *_WIDTHS,
        *_ATTENTION,
        *_LANGUAGE,
        *_CONCEPTS,
    )


def _phase_blocks(config: PhaseLMConfig) -> dict[str, int]:
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


def _transformer_rules(config: TransformerConfig) -> tuple[Rule, ...]:
    del config
    return (
        *_TIED,
        Rule(f"{_LAYER}attention_norm.weight", "D", "norm"),
        Rule(f"{_LAYER}ffn_norm.weight", "D", "norm"),
        Rule(f"{_LAYER}attention.qkv.weight", "D+D+D D", "fresh"),
        Rule(f"{_LAYER}attention.out.weight", "D D", "silent"),
        *_SWIGLU,
    )


def _transformer_blocks(config: TransformerConfig) -> dict[str, int]:
    return {"F": transformer_ffn_width(config)}


def _pam_rules(config: PAMConfig) -> tuple[Rule, ...]:
    entered = "D+D+D+D" if config.read_gate else "D+D+D"
    return (
        *_TIED,
        Rule(f"{_LAYER}memory_norm.weight", "D", "norm"),
        Rule(f"{_LAYER}mixer_norm.weight", "D", "norm"),
        Rule(f"{_LAYER}memory.lag_weight", f"{config.short_conv} D", "fresh"),
        Rule(f"{_LAYER}memory.enter.weight", f"{entered} D", "fresh"),
        Rule(f"{_LAYER}memory.decay.weight", "H D", "fresh"),
        Rule(f"{_LAYER}memory.decay.bias", "H", "fresh"),
        Rule(f"{_LAYER}memory.read_norm.weight", "d", "fresh"),
        Rule(f"{_LAYER}memory.out.weight", "D D", "silent"),
        Rule(f"{_LAYER}mixer.up.weight", "F D", "fresh"),
        Rule(f"{_LAYER}mixer.down.weight", "D F", "silent"),
    )


def _pam_blocks(config: PAMConfig) -> dict[str, int]:
    return {"F": pam_ffn_width(config)}


def _pam_keeps(config: PAMConfig) -> dict[str, str]:
    return {"context": "the clock's rates follow from it"} if config.rotary_clock else {}


FAMILIES = {
    "phase_lm": Family(_phase_rules, _phase_blocks),
    "pam": Family(_pam_rules, _pam_blocks, _pam_keeps),
    "transformer": Family(_transformer_rules, _transformer_blocks),
}
