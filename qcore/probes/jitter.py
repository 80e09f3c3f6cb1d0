"""Weights moved a little while a probe asks the model, and put back bit for bit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

JITTER = 0.02


@contextlib.contextmanager
def jitter_weights(model: nn.Module, seed: int) -> Iterator[None]:
    """Parameters moved by N(0, 0.02²), because a gate that starts at zero hides a leak; put back bit for bit."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter in parameters:
                noise = torch.randn(parameter.shape, generator=generator) * JITTER
                parameter.add_(noise.to(parameter.device, parameter.dtype))
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
