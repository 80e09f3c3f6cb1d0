"""Models of equal size or equal compute, of any pair of families: the free size is solved for, the rest is kept.

Free is the feed-forward width; for Quantum Flux that of its read-out, or its planes where that is linear. Where no
value of it can match, the width moves too, by as little as it can.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from qcore.config import LANGUAGE_KINDS, FluxConfig, LanguageConfig
from qcore.models.blocks import parameter_count
from qcore.models.factory import build_model
from qcore.models.sizing.costs import count_cost

MATCH_TOLERANCE = 0.02
By = Literal["parameters", "compute"]
_FFN = ("ffn_width", 1, 32768)
_PLANES = ("planes", 1, 2048)
_WIDTH_STEPS = 24


def match_size(
    config: LanguageConfig,
    kind: str,
    vocab_size: int,
    *,
    by: By = "parameters",
    tolerance: float = MATCH_TOLERANCE,
    start: LanguageConfig | None = None,
) -> LanguageConfig:
    """The model of family `kind` with as many parameters, or operations of a forward pass, as `config` (within 2 %).

    Width, layers, heads and context are kept; a feed-forward width that is a multiple of 8 is preferred.

    Args:
        start: its other switches; default those of the family, with the sizes that it shares with `config`.

    Raises:
        ValueError: if none matches.
    """
    base = start or _shared_base(config, kind)
    if base.kind != kind:
        raise ValueError(f"start is a {base.kind}, and a {kind} is asked for: give switches of that family")
    target = size_of(config, vocab_size, by)
    for width in _widths(base):
        found = _solve(base.model_copy(update={"width": width}), vocab_size, by, target, tolerance)
        if found is not None:
            return found
    name = _free_size(base)[0]
    raise ValueError(
        f"no {kind} of {base.layers} layers and a width near {base.width} has {target:,.0f} {_UNITS[by]} within "
        f"{tolerance:.0%}, whatever its {name}: choose more similar sizes of the two models"
    )


_UNITS = {"parameters": "parameters", "compute": "operations per window"}


def size_of(config: LanguageConfig, vocab_size: int, by: By) -> float:
    """Parameters, or operations of the matrix products of one window."""
    if config.layers > 2:
        # Each layer is like the next, so both grow in a straight line; a deep model takes long to build at every width.
        one, two = (size_of(config.model_copy(update={"layers": n}), vocab_size, by) for n in (1, 2))
        return one + (config.layers - 1) * (two - one)
    if by == "parameters":
        with torch.device("meta"):
            return parameter_count(build_model(config, vocab_size))
    cost = count_cost(config, vocab_size)
    # A flow that compares every pair has few products and many elementwise operations: both are work.
    return cost.flops + cost.elementwise


def _shared_base(config: LanguageConfig, kind: str) -> Any:
    """The family's defaults with the sizes it shares with `config`; its free size starts at its own default."""
    cls = LANGUAGE_KINDS[kind]
    kept = {"width", "layers", "heads", "phases", "context", "dropout", "activation_checkpointing"}
    return cls(**{name: value for name, value in config if name in kept & set(cls.model_fields)})


def _free_size(base: LanguageConfig) -> tuple[str, int, int]:
    """Name of the size that is solved for, its least and largest value (planes: in multiples of the heads)."""
    return _PLANES if isinstance(base, FluxConfig) and base.read_out == "linear" else _FFN


def _widths(base: LanguageConfig) -> list[int]:
    """The width itself, then its neighbours, nearest first, in steps that the heads divide evenly."""
    step = 2 * int(getattr(base, "heads", 4))
    around = [base.width + sign * step * n for n in range(1, _WIDTH_STEPS + 1) for sign in (1, -1)]
    return [base.width, *(width for width in around if 8 <= width <= 4096)]


def _solve(base: LanguageConfig, vocab_size: int, by: By, target: float, tolerance: float) -> LanguageConfig | None:
    """The free size at which `base` meets the target, by bisection: cost grows with it."""
    name, low, high = _free_size(base)
    # planes are divided among the heads: only whole shares are models
    unit = base.heads if isinstance(base, FluxConfig) and name == "planes" else 1

    def with_size(value: int) -> LanguageConfig:
        return base.model_copy(update={name: value * unit})

    def excess(value: int) -> float:
        return size_of(with_size(value), vocab_size, by) / target - 1

    if excess(low) > tolerance:
        return None
    top = low
    while excess(top) < 0 and top < high:
        low, top = top, min(high, 4 * top)
    while top - low > 1:
        middle = (low + top) // 2
        low, top = (middle, top) if excess(middle) <= 0 else (low, middle)
    nearest = min((low, top), key=lambda value: abs(excess(value)))
    rounded = round(nearest / 8) * 8
    for value in (rounded, nearest):
        if value >= 1 and abs(excess(value)) <= tolerance:
            return with_size(value)
    return None
