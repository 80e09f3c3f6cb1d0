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

from qcore.config import LanguageConfig
from qcore.models.factory import build_model
from qcore.models.families import FAMILIES
from qcore.models.record import EMBEDDING, FEED_FORWARD, HEAD, MIXING, REST

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
    """One part of a forward pass.

    Attributes:
        formula: as shown and as evaluated; words where the number was counted.
        flops: operations.
        parameters: learned values of the part.
    """

    name: str
    formula: str
    flops: float
    parameters: int


@dataclass(frozen=True)
class Cost:
    """Cost of one forward pass.

    Attributes:
        elementwise: what PyTorch's counter does not see, in values written; not in `flops`.
    """

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


def evaluate_formula(formula: str, symbols: Mapping[str, float]) -> float:
    """A sum of products such as `2·b·s·D² + 4·b·s·D`.

    Raises:
        ValueError: for a symbol that is not given.
    """
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

    Nothing is computed: shapes alone pass through the model.

    Raises:
        ValueError: for sizes that do not fit together.
    """
    s = tokens or config.context
    with torch.device("meta"):
        model = build_model(config, vocab_size)
        window = torch.zeros(batch, s, dtype=torch.int64)
        counter, written = flop_counter(), _WrittenValues()
        with torch.no_grad(), counter, written:
            model(window)
    learned = _count_learned(model)
    symbols = _symbols(config, vocab_size, batch, s)
    parts = [
        Part(name, formula, evaluate_formula(formula, symbols), learned.pop(name, 0))
        for name, formula in FAMILIES[config.kind].formulas(config, s).items()
    ]
    seen = counter.get_total_flops()
    rest = seen - sum(part.flops for part in parts)
    if any(learned.values()) or rest > 0.005 * seen:
        parts.append(Part(REST, "as PyTorch's counter sees it", max(0.0, rest), sum(learned.values())))
    return Cost(config.kind, batch, s, tuple(parts), written.values)


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter, which shall also see the product that is added in place."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: _product_flops})


def _product_flops(_: Any, a_shape: Any, b_shape: Any, **more: Any) -> int:
    """2·rows·columns·inner for each of a batch of products, from their shapes."""
    del more
    return 2 * math.prod(a_shape) * int(b_shape[-1])


class _WrittenValues(TorchDispatchMode):
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


def _count_learned(model: torch.nn.Module) -> dict[str, int]:
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
    return values | FAMILIES[config.kind].symbols(config, s)
