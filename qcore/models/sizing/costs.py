"""What a language model costs: parameters and operations of one forward pass, by part, each with its formula.

A formula is data: the text on the page is what is evaluated. One multiply-accumulate is two operations. Matrix products
are counted by formula and checked against PyTorch's own counter (tests/models/sizing/test_costs.py); what that counter
does not see (elementwise operations, sums, softmax) is counted apart, one operation for each value that such an
operation writes, and never mixed with the rest. Causal products are counted whole, as they are computed.

Symbols: b rows · s tokens · D width · L layers · H heads · d = D/H · F feed-forward width · P phases · p = ⌈P/H⌉ ·
V vocabulary · C tokens of a chunk · n = ⌈s/C⌉ chunks · S = n·C tokens with the last chunk filled up · M writes of a
token (2 complex, 1 real) · K planes · q = 2K/H · m channels carried · A pairs of tokens in tiles up to the diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from qcore.config import FluxConfig, LanguageConfig, PAMConfig, PhaseLMConfig, TransformerConfig
from qcore.models.factory import build_model
from qcore.models.pam.model import pam_ffn_width
from qcore.models.phase.interference import CHUNK, phases_per_head
from qcore.models.transformer.model import transformer_ffn_width

EMBEDDING, MIXING, FEED_FORWARD, HEAD, REST = "embedding", "layer mixing", "feed-forward", "head", "other switches"
ELEMENTWISE = "elementwise"
_SUPERSCRIPTS = {"²": 2, "³": 3}
_VIEWS = frozenset(
    (
        "view",
        "_unsafe_view",
        "reshape",
        "expand",
        "permute",
        "transpose",
        "t",
        "unsqueeze",
        "squeeze",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "detach",
        "alias",
        "as_strided",
        "view_as_real",
        "view_as_complex",
        "unfold",
        "lift_fresh",
        "_reshape_alias",
        "real",
        "imag",
        "diagonal",
        "empty",
        "empty_like",
        "new_empty",
        "empty_strided",
        "zeros",
        "zeros_like",
        "new_zeros",
        "ones",
        "ones_like",
        "full",
        "arange",
        "_conj",
    )
)
"""Operations that compute nothing: they look at the same values in another way, or make constants."""
_FEED_FORWARDS = {"ffn", "ffn_norm", "mixer", "mixer_norm", "open", "read", "read_norm", "out_norm"}
"""Modules of a layer that make its feed-forward part; for Quantum Flux its read-out, which stands in its place."""


@dataclass(frozen=True)
class Part:
    """One part of a forward pass. formula: as shown and as evaluated; words where the number was counted ·
    flops: operations · parameters: learned values of the part.
    """

    name: str
    formula: str
    flops: float
    parameters: int


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass. elementwise: what PyTorch's counter does not see, in values written; not in `flops`."""

    kind: str
    batch: int
    tokens: int
    parts: tuple[Part, ...]
    elementwise: float

    @property
    def parameters(self) -> int:
        """All learned values; tied ones count once."""
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> float:
        """Operations of the matrix products of all parts."""
        return sum(part.flops for part in self.parts)


def evaluate(formula: str, symbols: Mapping[str, float]) -> float:
    """A sum of products such as `2·b·s·D² + 4·b·s·D`. `ValueError` for a symbol that is not given."""
    total = 0.0
    for product in formula.split(" + "):
        value = 1.0
        for factor in product.split("·"):
            name, power = (factor[:-1], _SUPERSCRIPTS[factor[-1]]) if factor[-1] in _SUPERSCRIPTS else (factor, 1)
            if name not in symbols and not name.replace(".", "", 1).isdigit():
                raise ValueError(f"formula {formula!r} has an unknown symbol {name!r}; known are {', '.join(symbols)}")
            value *= (symbols[name] if name in symbols else float(name)) ** power
        total += value
    return total


@lru_cache(maxsize=256)
def count_cost(config: LanguageConfig, vocab_size: int, *, batch: int = 1, tokens: int | None = None) -> Cost:
    """Parameters and operations of one forward pass of [batch, tokens] (default: one window of the context).

    Nothing is computed: shapes alone pass through the model. `ValueError` for sizes that do not fit together.
    """
    s = tokens or config.context
    with torch.device("meta"):
        model = build_model(config, vocab_size)
        window = torch.zeros(batch, s, dtype=torch.int64)
        counter, written = flop_counter(), _Written()
        with torch.no_grad(), counter, written:
            model(window)
    learned = _learned(model)
    symbols = _symbols(config, vocab_size, batch, s)
    parts = [
        Part(name, formula, evaluate(formula, symbols), learned.pop(name, 0))
        for name, formula in _formulas(config, s).items()
    ]
    seen = counter.get_total_flops()
    rest = seen - sum(part.flops for part in parts)
    if any(learned.values()) or rest > 0.005 * seen:
        parts.append(Part(REST, "as PyTorch's counter sees it", max(0.0, rest), sum(learned.values())))
    return Cost(config.kind, batch, s, tuple(parts), written.values)


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter, which shall also see the product that is added in place."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: _added_product})


def _added_product(_: Any, a_shape: Any, b_shape: Any, **more: Any) -> int:
    """2·rows·columns·inner for each of a batch of products, from their shapes."""
    del more
    return 2 * math.prod(a_shape) * int(b_shape[-1])


class _Written(TorchDispatchMode):
    """Adds up the values that operations write, matrix products and views aside."""

    values = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in _VIEWS and not any(word in name for word in ("mm", "bmm", "embedding", "convolution")):
            for value in out if isinstance(out, tuple | list) else (out,):
                if isinstance(value, torch.Tensor):
                    self.values += value.numel() * (2 if value.is_complex() else 1)
        return out


def _learned(model: torch.nn.Module) -> dict[str, int]:
    """Learned values by part, from the names of the modules that hold them; tied ones count once, as embedding."""
    found: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        first, words = name.split(".", 1)[0], name.split(".")
        if first == "layers":
            part = FEED_FORWARD if _FEED_FORWARDS & set(words) else MIXING
        elif first in ("embedding", "encoding", "enter", "token", "angle", "radius"):
            part = EMBEDDING
        else:
            part = HEAD if first in ("norm", "head", "read_out") else REST
        found[part] = found.get(part, 0) + parameter.numel()
    return found


def _symbols(config: LanguageConfig, vocab: int, batch: int, s: int) -> dict[str, float]:
    values: dict[str, float] = {"b": batch, "s": s, "D": config.width, "L": config.layers, "V": vocab}
    heads = getattr(config, "heads", None)
    if heads:
        values |= {"H": heads, "d": config.width // heads}
    if isinstance(config, PhaseLMConfig):
        values |= {"P": config.phases, "p": phases_per_head(config.phases, config.heads)}
        values |= {"F": config.ffn_width or 2 * config.width}
    if isinstance(config, TransformerConfig):
        values |= {"F": transformer_ffn_width(config)}
    if isinstance(config, PAMConfig):
        values |= {"F": pam_ffn_width(config), "M": 2 if config.complex_state else 1}
        n = -(-s // config.chunk)
        C = -(-s // n)  # cut as evenly as it can be
    else:
        C = min(CHUNK, s)
        n = -(-s // C)
    if isinstance(config, FluxConfig):
        values |= {"K": config.planes, "m": config.values, "q": 2 * config.planes // config.heads}
        values |= {"F": config.ffn_width or 2 * (2 * config.planes + config.values)}
        starts = range(0, s, config.block)
        values |= {"A": sum(min(config.block, s - at) * (at + min(config.block, s - at)) for at in starts)}
    return values | {"C": C, "n": n, "S": n * C}


def _formulas(config: LanguageConfig, s: int) -> dict[str, str]:
    """Matrix products of each part."""
    head = "2·b·s·D·V"
    if isinstance(config, TransformerConfig):
        return {
            EMBEDDING: "0",
            MIXING: "8·b·s·L·D² + 4·b·s²·L·D",
            FEED_FORWARD: "6·b·s·L·D·F",
            HEAD: head,
        }
    if isinstance(config, PhaseLMConfig):
        return {EMBEDDING: "6·b·s·D·P", MIXING: _phase_mixing(config, s), FEED_FORWARD: "6·b·s·L·D·F", HEAD: head}
    if isinstance(config, PAMConfig):
        return {EMBEDDING: "0", MIXING: _pam_mixing(config, s), FEED_FORWARD: "4·b·s·L·D·F", HEAD: head}
    assert isinstance(config, FluxConfig)
    gated = "4·b·s·L·D·F + 4·b·s·L·K·F + 2·b·s·L·m·F"
    linear = "4·b·s·L·K·D + 2·b·s·L·m·D"
    read = gated if config.read_out == "gated" else linear
    return {EMBEDDING: "0", MIXING: _flux_mixing(config, s), FEED_FORWARD: read, HEAD: head}


def _phase_mixing(config: PhaseLMConfig, s: int) -> str:
    """Global interference (heads' products, chunk means, read-out), quantum layer, interference attention."""
    chunks = s > CHUNK
    formula = "4·b·s·L·D·d + 2·b·s·L·D² + 2·b·S·L·C·D"
    formula += " + 8·b·S·L·D + 4·b·n²·L·D" if chunks else ""
    if not config.interference_attention:
        return formula + " + 10·b·s·L·D·P"
    formula += " + 10·b·s·L·D·P + 6·b·s·L·D² + 4·b·S·L·C·p·H + 2·b·S·L·C·D"
    return formula + (" + 8·b·S·L·p·D" if chunks else "")


def _pam_mixing(config: PAMConfig, s: int) -> str:
    """Projections, products inside the chunks, and those with the state that is carried between them."""
    formula = "10·b·s·L·D²" if config.read_gate else "8·b·s·L·D²"
    formula += " + 2·b·s·L·D·H + 4·b·S·L·M·C·D"
    return formula + (" + 2·b·S·L·M·d·D + 2·b·S·L·d·D" if s > config.chunk else "")


def _flux_mixing(config: FluxConfig, s: int) -> str:
    """Channels that are carried, both evaluations of the connections, and their thresholds."""
    formula = "2·b·s·L·D·m"
    if config.evaluation == "fast":
        return formula  # what a grid costs follows from its nodes: counted, as `other switches`
    formula += " + 16·b·L·A·K + 8·b·L·A·H + 2·b·L·A·m + 8·b·S·L·C·K"
    return formula + (" + 16·b·S·L·q·K + 8·b·S·L·K" if s > CHUNK else "")


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
