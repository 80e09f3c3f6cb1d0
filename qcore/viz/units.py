"""Units of a language model's loss: nats per token as measured, bits per byte of text, perplexity per token."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Unit = Literal["nats", "bits/byte", "perplexity"]
UNITS: tuple[Unit, ...] = get_args(Unit)
UNIT_LABELS: dict[Unit, str] = {
    "nats": "nats per token",
    "bits/byte": "bits per byte",
    "perplexity": "perplexity per token",
}


def convert(nats: ArrayLike, unit: Unit, bytes_per_token: float) -> NDArray[np.float64]:
    """Nats per token in another unit; the shape is kept, the input is not changed.

    Bits per byte are x / (ln 2 · bytes_per_token), perplexity is e^x, where e^x over the float range is infinite.

    Args:
        nats: a number or an array of any shape.
        unit: `nats`, `bits/byte` or `perplexity`.
        bytes_per_token: mean of the text, needed for bits.

    Raises:
        ValueError: for an unknown unit, and for bytes_per_token ≤ 0 where it is needed.

    Example:
        >>> round(float(convert(math.log(2) * 4, "bits/byte", bytes_per_token=4.0)), 6)
        1.0
    """
    values = np.array(nats, dtype=np.float64)
    match unit:
        case "nats":
            return values
        case "bits/byte":
            if not bytes_per_token > 0:
                raise ValueError(f"bytes_per_token = {bytes_per_token!r} is refused: it must be above 0")
            return values / (math.log(2) * bytes_per_token)
        case "perplexity":
            with np.errstate(over="ignore"):
                return np.exp(values)
    raise ValueError(f"unit = {unit!r} is refused: it must be one of {', '.join(UNITS)}")
