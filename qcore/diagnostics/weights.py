"""Weights that don't learn: elements without gradient, blocks cut off from the loss, and how far one step moved them.

A detached stack "9 × faster" trained one block of sixteen (fault G7); a stack without nonlinearity left 64 % of its
weights without gradient (G8). Both show in one step, by counting exact zeros. Input is what `named_parameters()` gives,
after the optimizer stepped and before gradients are cleared; with the weights before it, the update is measured too.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined
from qcore.probes import catalog

ROOT = "(model)"


@dataclass(frozen=True)
class WeightStatistics:
    """One step, for each of M modules that own parameters directly, in the order of their first parameter."""

    names: tuple[str, ...]
    dead_share_M: np.ndarray
    """Share of the module's elements whose gradient is exactly 0 or missing, in [0, 1]. NaN for a table of which no
    row was looked up."""
    grad_norm_M: np.ndarray
    update_ratio_M: np.ndarray
    """‖Δw‖ ÷ ‖w before‖ of the step; NaN without the weights before it, or for weights that were all 0."""
    parameters_M: np.ndarray
    dead_share: float
    """The same share over all modules together."""
    blocks: int
    frozen: tuple[str, ...]
    """Names of the blocks in which no element of any parameter got a gradient."""

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `weights/`; the update ratio is the median over modules."""
        known = self.update_ratio_M[np.isfinite(self.update_ratio_M)]
        return drop_undefined(
            {
                catalog.WEIGHTS_DEAD_SHARE: self.dead_share,
                catalog.WEIGHTS_FROZEN_BLOCKS: float(len(self.frozen)),
                catalog.WEIGHTS_BLOCKS: float(self.blocks),
                catalog.WEIGHTS_UPDATE_RATIO: float(np.median(known)) if known.size else math.nan,
            }
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """What is stored under the name "modules", in the order of `names`."""
        return {
            "dead_share": self.dead_share_M.astype(np.float32),
            "update_ratio": self.update_ratio_M.astype(np.float32),
            "grad_norm": self.grad_norm_M.astype(np.float32),
            "parameters": self.parameters_M,
        }


def weight_statistics(
    parameters: Iterable[tuple[str, Tensor]],
    before: Mapping[str, Tensor] | None = None,
    *,
    gradients: Mapping[str, Tensor | None] | None = None,
    tables: Mapping[str, Tensor] | None = None,
    block_prefix: str = "layers",
) -> WeightStatistics:
    """Measure named parameters ("layers.3.ffn.up.weight", …); gradients are `.grad` unless given by name.

    A block is everything under `<block_prefix>.<number>`. A parameter that needs no gradient counts as dead.

    Cost: O(N) with 3 passes over N elements (5 with `before`).

    Args:
        before: the parameters by name as they were before the step.
        tables: for each parameter that is a lookup table, the ids that were looked up: only those rows count as alive
            or dead, since the others rightly have gradient 0 (a table tied to the output gets a gradient everywhere and
            may be named or not).

    Raises:
        ValueError: no parameter; a name missing in `before` or `gradients`.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> weight_statistics(layer.named_parameters()).dead_share
        0.0
    """
    named = [(name, parameter) for name, parameter in parameters]
    if not named:
        raise ValueError("there is no parameter to measure; pass model.named_parameters()")
    # before the first update nothing has left a `.grad`: the probe then brings those of a backward pass of its own
    found = {name: parameter.grad for name, parameter in named} if gradients is None else gradients
    for what, given in (("gradients", found), ("before", before)):
        # one that is missing would count as dead, and a dead module is a finding
        missing = [name for name, _ in named if given is not None and name not in given]
        if missing:
            raise ValueError(f"{what} lacks {missing[0]!r} and {len(missing) - 1} more; pass all named parameters")
    with torch.no_grad():
        grads = [found[name] for name, _ in named]
        alive_N, counted_N = _count_alive(named, grads, dict(tables or {}))
        grad_square_N = _squared_norms(
            [grad for grad in grads if grad is not None], [grad is not None for grad in grads]
        )
        ratio_parts = None if before is None else _update_squares(named, before)
    # weights and bias of a module are one: a person looks for a layer, not for a tensor
    owners: dict[str, list[int]] = {}
    for index, (name, _) in enumerate(named):
        owners.setdefault(name.rpartition(".")[0] or ROOT, []).append(index)
    members = list(owners.values())

    def by_module(values_N: np.ndarray) -> np.ndarray:
        return np.array([values_N[indices].sum() for indices in members])

    # a module of a table that was not looked up has no element that counts: its share is NaN, not a warning
    with np.errstate(invalid="ignore", divide="ignore"):
        counted_M = by_module(counted_N)
        dead_M = 1 - by_module(alive_N) / counted_M
        ratio_M = np.full(len(members), math.nan)
        if ratio_parts is not None:
            moved_M, size_M = by_module(ratio_parts[0]), by_module(ratio_parts[1])
            # weights of zero, such as a fresh bias, have no relative change: NaN leaves them out of the median
            ratio_M = np.where(size_M > 0, np.sqrt(moved_M) / np.sqrt(size_M), math.nan)
    blocks = _alive_blocks([name for name, _ in named], alive_N, block_prefix)
    total = float(counted_N.sum())
    return WeightStatistics(
        names=tuple(owners),
        dead_share_M=dead_M,
        grad_norm_M=np.sqrt(by_module(grad_square_N)),
        update_ratio_M=ratio_M,
        parameters_M=by_module(np.array([parameter.numel() for _, parameter in named], dtype=np.int64)),
        dead_share=1 - float(alive_N.sum()) / total if total else math.nan,
        blocks=len(blocks),
        frozen=tuple(block for block, live in blocks.items() if not live),
    )


def _count_alive(
    named: list[tuple[str, Tensor]], grads: list[Tensor | None], tables: dict[str, Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """For each parameter: elements with a gradient that isn't 0, and elements that count."""
    counted = []
    nonzero = []
    for (name, parameter), grad in zip(named, grads, strict=True):
        elements = parameter.numel()
        if name in tables:
            rows = tables[name].flatten().unique()
            elements = len(rows) * (parameter.numel() // parameter.shape[0])
            grad = None if grad is None else grad[rows]
        counted.append(elements)
        # a count on the device, so that all of them come back in one transfer instead of one each
        none = torch.zeros((), dtype=torch.int64, device=parameter.device)
        nonzero.append(none if grad is None else torch.count_nonzero(grad))
    return torch.stack(nonzero).cpu().double().numpy(), np.array(counted, dtype=np.float64)


def _squared_norms(tensors: list[Tensor], present: list[bool]) -> np.ndarray:
    """Squared norms, 0 for the absent ones; one fused call and one transfer."""
    squares = np.zeros(len(present))
    if tensors:
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(tensors)])
        squares[np.array(present)] = norms.double().cpu().numpy() ** 2
    return squares


def _update_squares(named: list[tuple[str, Tensor]], before: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Squared norms of the change and of the weights before it."""
    old = [before[name] for name, _ in named]
    moved = torch._foreach_sub([parameter.detach() for _, parameter in named], old)
    every = [True] * len(named)
    return _squared_norms(list(moved), every), _squared_norms(old, every)


def _alive_blocks(names: list[str], alive_N: np.ndarray, prefix: str) -> dict[str, bool]:
    """Block name → whether anything in it got a gradient, in order of appearance."""
    depth = prefix.count(".") + 2
    blocks: dict[str, bool] = {}
    for name, alive in zip(names, alive_N, strict=True):
        pieces = name.split(".")
        if name.startswith(prefix + ".") and pieces[depth - 1].isdigit():
            block = ".".join(pieces[:depth])
            blocks[block] = blocks.get(block, False) or bool(alive > 0)
    return blocks
