"""The record of phase-associative memory: how it is built, what it costs, how it grows."""

from __future__ import annotations

from torch import Tensor

from qcore.config import PAMConfig
from qcore.models.pam.model import PAM, pam_ffn_width
from qcore.models.record import EMBEDDING, FEED_FORWARD, HEAD, LAYER, MIXING, TIED, Growth, GrowthRule, LanguageFamily


def _rules(config: PAMConfig) -> tuple[GrowthRule, ...]:
    entered = "D+D+D+D" if config.read_gate else "D+D+D"
    return (
        *TIED,
        GrowthRule(f"{LAYER}memory_norm.weight", "D", "norm"),
        GrowthRule(f"{LAYER}mixer_norm.weight", "D", "norm"),
        GrowthRule(f"{LAYER}memory.lag_weight", f"{config.short_conv} D", "fresh"),
        GrowthRule(f"{LAYER}memory.enter.weight", f"{entered} D", "fresh"),
        GrowthRule(f"{LAYER}memory.decay.weight", "H D", "fresh"),
        GrowthRule(f"{LAYER}memory.decay.bias", "H", "fresh"),
        GrowthRule(f"{LAYER}memory.read_norm.weight", "d", "fresh"),
        GrowthRule(f"{LAYER}memory.out.weight", "D D", "silent"),
        GrowthRule(f"{LAYER}mixer.up.weight", "F D", "fresh"),
        GrowthRule(f"{LAYER}mixer.down.weight", "D F", "silent"),
    )


def _blocks(config: PAMConfig) -> dict[str, int]:
    return {"F": pam_ffn_width(config)}


def _keeps(config: PAMConfig) -> dict[str, str]:
    return {"context": "the clock's rates follow from it"} if config.rotary_clock else {}


def _build(config: PAMConfig, vocab_size: int, token_counts: Tensor | None) -> PAM:
    del token_counts
    return PAM(config, vocab_size)


def _symbols(config: PAMConfig, s: int) -> dict[str, float]:
    n = -(-s // config.chunk)
    C = -(-s // n)  # cut as evenly as it can be
    return {"F": pam_ffn_width(config), "M": 2 if config.complex_state else 1, "C": C, "n": n, "S": n * C}


def _formulas(config: PAMConfig, s: int) -> dict[str, str]:
    return {EMBEDDING: "0", MIXING: _mixing(config, s), FEED_FORWARD: "4·b·s·L·D·F", HEAD: "2·b·s·D·V"}


def _mixing(config: PAMConfig, s: int) -> str:
    """Projections, products inside the chunks, and those with the state that is carried between them."""
    formula = "10·b·s·L·D²" if config.read_gate else "8·b·s·L·D²"
    formula += " + 2·b·s·L·D·H + 4·b·S·L·M·C·D"
    return formula + (" + 2·b·S·L·M·d·D + 2·b·S·L·d·D" if s > config.chunk else "")


FAMILY = LanguageFamily("pam", _build, _symbols, _formulas, Growth(_rules, _blocks, _keeps))
