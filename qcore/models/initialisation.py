"""Other people's first weights, for the exam of the detectors alone.

Every family starts from weights of its own (`blocks.linear` and the families' tables). Most loops in the world start
from one of those below, and a detector whose limits were fitted to ours would accuse them. `config.first_weights` says
which is in force while the exam builds a model; outside of it the factory leaves a model as its family made it.

- `pytorch`: every `nn.Linear` as `nn.Linear` itself starts, weights and biases uniform within ±1/√fan_in; one that has
  no bias here gets one. Tables of tokens stay: a table of unit normals tied to the head is a mistake of its own.
- `small`: the same, and tokens that enter with a standard deviation of 0.02, so that the biases are most of what the
  first hidden states hold.
- `gpt2`: weights N(0, 0.02²), biases 0, tokens that enter with a standard deviation of 0.02, the last layer of each
  residual branch divided by √(2·layers); layers that start at zero stay there, as gates of a diffusion transformer do.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from qcore.config.first_weights import scheme_in_force

STD = 0.02
_BRANCH_ENDS = ("out", "down")
Built = TypeVar("Built", bound=nn.Module)


def with_first_weights(model: Built) -> Built:
    """The model with the weights of the scheme in force, drawn from torch's own random state; without one as it is."""
    scheme = scheme_in_force()
    if scheme in ("pytorch", "small"):
        _as_pytorch_starts(model)
    if scheme in ("gpt2", "small"):
        _small_table(model)
    if scheme == "gpt2":
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
