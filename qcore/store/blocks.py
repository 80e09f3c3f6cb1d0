"""Scalar rows as blocks: one BLOB holds up to 4,096 rows of one set of names (a layout), column by column.

A block is int64 steps[n] · float64 wall[n] · float64 values[k][n], little-endian, names sorted; one series is read with
two `substr`s.
"""

from dataclasses import dataclass

import numpy as np

SEAL_ROWS = 256
MAX_ROWS = 4096
STEP = np.dtype("<i8")
VALUE = np.dtype("<f8")


@dataclass(frozen=True)
class Block:
    """Rows of one layout: `steps` int64[n], `wall` float64[n], `values` float64[k, n]."""

    steps: np.ndarray
    wall: np.ndarray
    values: np.ndarray

    def pack(self) -> bytes:
        """The block as the bytes that are stored."""
        return b"".join((self.steps.tobytes(), self.wall.tobytes(), self.values.tobytes()))

    def joined(self, other: "Block") -> "Block":
        """The rows of `other` after these."""
        return Block(
            np.concatenate([self.steps, other.steps]),
            np.concatenate([self.wall, other.wall]),
            np.concatenate([self.values, other.values], axis=1),
        )

    def rows(self, where: slice | np.ndarray) -> "Block":
        """The chosen rows."""
        return Block(self.steps[where], self.wall[where], self.values[:, where])


def unpack(data: bytes, rows: int) -> Block:
    """The block stored as `data`; read-only views, no copy."""
    return Block(
        np.frombuffer(data, STEP, rows),
        np.frombuffer(data, VALUE, rows, 8 * rows),
        np.frombuffer(data, VALUE, offset=16 * rows).reshape(-1, rows),
    )


def extent(block: Block) -> tuple[int, int, float]:
    """First and last step of a block, and the time of its last row."""
    return int(block.steps.min()), int(block.steps.max()), float(block.wall[-1])
