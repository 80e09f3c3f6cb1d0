"""Matrices that a model multiplies by and that nothing can train: tensors that are neither parameter nor buffer.

A head that was replaced by a plain tensor, or tied to a copy that left the module, works in the forward pass and has a
gradient nowhere: no list of parameters knows it, so nothing that walks through parameters can miss it. One forward pass
is enough to see it: of every product and every lookup, each operand must stem from a parameter or from the input. One
that stems from neither, and looks like initialised weights, is such a matrix. Tables that are computed on purpose
(masks, sines, filters) are told from those by their values: initialised weights have both signs and hardly any value
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

_SMALLEST_SIDE = 8
_DISTINCT = 0.5
_PRODUCTS = frozenset(
    {"linear", "matmul", "__matmul__", "__rmatmul__", "mm", "addmm", "bmm", "baddbmm", "einsum", "embedding"}
    | {"conv1d", "conv2d", "conv3d"}
)
"""Names of torch's functions that multiply by a matrix or look up its rows."""


@dataclass(frozen=True)
class FixedMatrix:
    """A matrix that acts in the forward pass and that no optimizer can know.

    Attributes:
        shape: as it stands in the product.
        is_head: it makes the last axis of the output.
    """

    shape: tuple[int, ...]
    is_head: bool

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return int(torch.Size(self.shape).numel())


def fixed_matrices(
    call: Callable[[], Any], parameters: Iterable[Tensor], inputs: Iterable[Tensor], buffers: Iterable[Tensor] = ()
) -> list[FixedMatrix]:
    """Run `call` once and say which matrices it multiplies by that stem from neither `parameters` nor `inputs`.

    Args:
        call: a forward pass without gradient; what it returns tells how wide the output is.
        buffers: registered tensors, which are fixed on purpose and count only where they make the output.

    Example:
        >>> model, secret = torch.nn.Linear(16, 16), torch.randn(32, 16)
        >>> x = torch.randn(4, 16)
        >>> fixed_matrices(lambda: model(x) @ secret.T, model.parameters(), [x])
        [FixedMatrix(shape=(16, 32), is_head=True)]
    """
    with _Origins([*parameters, *inputs], list(buffers)) as origins:
        output = call()
    leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    widths = {leaf.shape[-1] for leaf in leaves if leaf.ndim}
    found: dict[int, FixedMatrix] = {}
    for operand, width, is_buffer in origins.fixed:
        is_head = width in widths and width == origins.last_width
        if (is_head or not is_buffer) and _looks_initialised(operand):
            found[operand.untyped_storage().data_ptr()] = FixedMatrix(tuple(operand.shape), is_head)
    return list(found.values())


class _Origins(TorchFunctionMode):
    """Notes of every product the operands that were there before and stem from nothing that learns or is read."""

    def __init__(self, known: list[Tensor], buffers: list[Tensor]) -> None:
        super().__init__()
        self._known = {_place(tensor) for tensor in known}
        self._buffers = {_place(tensor) for tensor in buffers}
        self._made: set[int] = set()
        self.fixed: list[tuple[Tensor, int, bool]] = []
        """Operand, last axis of the product, and whether it is a buffer."""
        self.last_width = -1
        """Last axis of the last product."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        operands = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        results = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        places = [_place(operand) for operand in operands]
        if getattr(func, "__name__", "") in _PRODUCTS and results:
            self.last_width = results[0].shape[-1] if results[0].ndim else -1
            for operand, place in zip(operands, places, strict=True):
                if place not in self._known and place not in self._made and _is_matrix(operand):
                    self.fixed.append((operand, self.last_width, place in self._buffers))
        learned = any(place in self._known for place in places)
        for result in results:
            place = _place(result)
            if place not in places:  # a view keeps the origin of what it looks at
                (self._known if learned else self._made).add(place)
                (self._made if learned else self._known).discard(place)
        return output


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_matrix(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim >= 2 and min(tensor.shape[-2:]) >= _SMALLEST_SIDE


def _looks_initialised(tensor: Tensor) -> bool:
    values = tensor.detach().flatten()[: 1 << 16].float()
    distinct = len(values.unique()) / max(1, len(values))
    return bool((values > 0).any() and (values < 0).any()) and distinct > _DISTINCT
