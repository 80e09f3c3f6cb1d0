"""Other people's first weights, for the exam of the detectors alone.

Every family starts from weights of its own (`blocks.linear` and the families' tables). Most loops in the world start
from one of those below, and a detector whose limits were fitted to ours would accuse them. `starting_like` makes every
model that is built inside it start so; outside of it the factory leaves a model as its family made it.

- `pytorch`: every `nn.Linear` as `nn.Linear` itself starts, weights and biases uniform within ±1/√fan_in; one that has
  no bias here gets one. Tables of tokens stay: a table of unit normals tied to the head is a mistake of its own.
- `small`: the same, and tokens that enter with a standard deviation of 0.02, so that the biases are most of what the
  first hidden states hold.
- `gpt2`: weights N(0, 0.02²), biases 0, tokens that enter with a standard deviation of 0.02, the last layer of each
  residual branch divided by √(2·layers); layers that start at zero stay there, as gates of a diffusion transformer do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

SCHEMES = ("pytorch", "small", "gpt2")
STD = 0.02
_BRANCH_ENDS = ("out", "down")
_current = ""
Built = TypeVar("Built", bound=nn.Module)


@contextlib.contextmanager
def starting_like(scheme: str) -> Iterator[None]:
    """Models that the factory builds in here, in any thread, start from `scheme`; "" changes nothing.

    Raises:
        ValueError: for a scheme that is not in `SCHEMES`.
    """
    # a module's own, since runs train in threads of their own, which a context variable would not reach
    global _current
    if scheme and scheme not in SCHEMES:
        raise ValueError(f"initialisation {scheme!r} is not known; take {', '.join(SCHEMES)}")
    before, _current = _current, scheme
    try:
        yield
    finally:
        _current = before


def with_first_weights(model: Built) -> Built:
    """The model with the weights of the scheme in force, drawn from torch's own random state; without one as it is."""
    if _current in ("pytorch", "small"):
        _as_pytorch_starts(model)
    if _current in ("gpt2", "small"):
        _small_table(model)
    if _current == "gpt2":
        _as_gpt2_starts(model)
    return model


def _as_pytorch_starts(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            if layer.bias is None:
                layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_features))
            layer.reset_parameters()


def _as_gpt2_starts(model: nn.Module) -> None:
    depth = 2 * max(1, len(getattr(model, "layers", ())))
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            if bool(layer.weight.any()):
                ends = name.rpartition(".")[2] in _BRANCH_ENDS
                nn.init.normal_(layer.weight, std=STD * depth**-0.5 if ends else STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _small_table(model: nn.Module) -> None:
    """Tokens enter multiplied by √width, so that a table of 0.02 ÷ √width enters as 0.02."""
    table = getattr(model, "embedding", getattr(model, "token", None))
    if isinstance(table, nn.Embedding):
        with torch.no_grad():
            table.weight.mul_(STD * table.weight.shape[1] ** -0.5 / table.weight.std())
