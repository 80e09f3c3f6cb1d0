"""What the measurements share: a spread-out choice of positions, and checks of shapes that name the remedy."""

from functools import lru_cache

import torch
from torch import Tensor

GOLDEN = 0.6180339887498949


@lru_cache(maxsize=32)
def strata(count: int, limit: int) -> Tensor:
    """At most `limit` distinct indices below `count`, in order: one in each of `limit` equal strata, at a golden-ratio
    offset.

    No random state is touched, and no stride lines up with a context length or a number of phases. int64, on the CPU;
    the same tensor for the same arguments: index with it, don't write into it.
    """
    if count <= limit:
        return torch.arange(count)
    edge = torch.arange(limit + 1) * count // limit  # whole numbers, so that neighbouring strata share no index
    offset = (torch.arange(limit, dtype=torch.float64) * GOLDEN).frac()
    return edge[:-1] + (offset * edge.diff()).long()


def valid_positions(mask_BT: Tensor, limit: int) -> Tensor:
    """Flat indices (row·T + t) of at most `limit` valid positions, spread over all of them; on the mask's device."""
    valid_N = mask_BT.flatten().nonzero().squeeze(-1)
    return valid_N[strata(len(valid_N), limit).to(valid_N.device)]


def check_shape(name: str, tensor: Tensor, wanted: tuple[int, ...], beside: str) -> None:
    """ValueError unless the leading axes of `tensor` are `wanted`; `beside` names the tensor that it must match."""
    shape = tuple(tensor.shape)
    if shape[: len(wanted)] != wanted:
        raise ValueError(f"{name} has shape {shape}; it must begin with {wanted} to match {beside}")


def check_mask(mask_BT: Tensor, wanted: tuple[int, ...], beside: str) -> None:
    """ValueError unless `mask_BT` is boolean and of that shape."""
    if mask_BT.dtype != torch.bool:
        raise ValueError(f"mask_BT has dtype {mask_BT.dtype}; pass torch.bool, True where the position counts")
    if tuple(mask_BT.shape) != wanted:
        raise ValueError(f"mask_BT has shape {tuple(mask_BT.shape)}; it must be {wanted} to match {beside}")


def drop_undefined(series: dict[str, float]) -> dict[str, float]:
    """The series without those that have no value (NaN): nothing to measure is not a measurement."""
    return {name: float(value) for name, value in series.items() if value == value}
