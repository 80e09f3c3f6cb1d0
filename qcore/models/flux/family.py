"""The record of Quantum Flux: how it is built and what it costs. It does not grow."""

from __future__ import annotations

from torch import Tensor

from qcore.config import FluxConfig
from qcore.models.flux.model import FluxLM
from qcore.models.phase.interference import CHUNK
from qcore.models.record import EMBEDDING, FEED_FORWARD, HEAD, MIXING, LanguageFamily, chunk_symbols


def _build(config: FluxConfig, vocab_size: int, token_counts: Tensor | None) -> FluxLM:
    del token_counts
    return FluxLM(config, vocab_size)


def _symbols(config: FluxConfig, s: int) -> dict[str, float]:
    starts = range(0, s, config.block)
    return {
        "K": config.planes,
        "m": config.values,
        "q": 2 * config.planes // config.heads,
        "F": config.ffn_width or 2 * (2 * config.planes + config.values),
        "A": sum(min(config.block, s - at) * (at + min(config.block, s - at)) for at in starts),
    } | chunk_symbols(s, CHUNK)


def _formulas(config: FluxConfig, s: int) -> dict[str, str]:
    gated = "4·b·s·L·D·F + 4·b·s·L·K·F + 2·b·s·L·m·F"
    linear = "4·b·s·L·K·D + 2·b·s·L·m·D"
    read = gated if config.read_out == "gated" else linear
    return {EMBEDDING: "0", MIXING: _mixing(config, s), FEED_FORWARD: read, HEAD: "2·b·s·D·V"}


def _mixing(config: FluxConfig, s: int) -> str:
    """Channels that are carried, both evaluations of the connections, and their thresholds."""
    formula = "2·b·s·L·D·m"
    if config.evaluation == "fast":
        return formula  # what a grid costs follows from its nodes: counted, as `other switches`
    formula += " + 16·b·L·A·K + 8·b·L·A·H + 2·b·L·A·m + 8·b·S·L·C·K"
    return formula + (" + 16·b·S·L·q·K + 8·b·S·L·K" if s > CHUNK else "")


FAMILY = LanguageFamily("flux_lm", _build, _symbols, _formulas)
