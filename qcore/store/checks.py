"""What is checked of scalars and arrays before NumPy reads their bytes: lengths, counts, times, types.

Cheap beside the reading: SQLite knows a BLOB's length without reading it, and the times of a million points are looked
over in a millisecond.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import numpy as np
import safetensors.numpy

from qcore.store.blocks import MAX_ROWS, Block, unpack
from qcore.store.declared import check_names
from qcore.store.records import MAX_META, from_json
from qcore.store.shapes import EARLIEST, LARGEST_STEP, LATEST, ShapeError, refuse, step

_USUAL = 64 * 1024
"""Letters of a layout's names that are kept in memory: those of a run that measures everything take 10 kB."""
# Of the blocks of a layout of ? names: rows in all, fewest and most in one, how many are not as long as they should be.
SOUND = (
    "total(rows), coalesce(min(rows), 1), coalesce(max(rows), 0), total(typeof(rows) != 'integer'"
    " OR typeof(data) != 'blob' OR length(data) != 8 * (2 + ?) * rows)"
)


def check_sound(found: tuple[Any, ...]) -> int:
    """Rows in all, from what `SOUND` selects.

    Raises:
        ShapeError: when it is refused.
    """
    total, fewest, most, wrong = found
    if wrong or type(fewest) is not int or type(most) is not int or fewest < 1 or most > MAX_ROWS:
        raise ShapeError(f"{wrong:.0f} blocks have another length than their {fewest!r} to {most!r} rows need")
    return int(total)


def checked_block(data: Any, rows: Any, width: int) -> Block:
    """The block of `width` series.

    Raises:
        ShapeError: unless its bytes are as many as its rows need.
    """
    if type(rows) is not int or not 1 <= rows <= MAX_ROWS:
        raise refuse("blocks.rows", rows, f"a number of rows from 1 to {MAX_ROWS}")
    if not isinstance(data, bytes) or len(data) != 8 * (2 + width) * rows:
        raise ShapeError(f"a block of {rows} rows of {width} series has another length")
    block = unpack(data, rows)
    check_points(block.steps, block.wall)
    return block


def check_points(steps: np.ndarray, wall: np.ndarray) -> None:
    """Raise `ShapeError` unless all steps are ones that a run may make, and all times such that a calendar shows."""
    # Two comparisons that NaN fails as well.
    if len(wall) and not (wall.min() >= EARLIEST and wall.max() <= LATEST):
        raise ShapeError("a point has a time that no calendar shows")
    if len(steps) and not (steps.min() >= -LARGEST_STEP and steps.max() <= LARGEST_STEP):
        raise ShapeError("a point has a step that no run has")


def check_step(value: Any) -> int:
    """A step as it stands in a column."""
    step(value, "step")
    found: int = value
    return found


def read_names(text: Any) -> tuple[str, ...]:
    """The names of a layout, sorted. Each read asks for those of all layouts again, so those of usual length are kept.

    Raises:
        ShapeError, DocumentError: for anything else.
    """
    return _kept_names(text) if isinstance(text, str) and len(text) <= _USUAL else _names(text)


def _names(text: Any) -> tuple[str, ...]:
    return tuple(check_names(from_json(text, "layouts.names", MAX_META)))


_kept_names = functools.lru_cache(maxsize=256)(_names)


# The axes of the arrays that a page cannot do without, a letter each; the same letter is the same length.
_TERMS = {"norm": "K", "cosine": "KK", "terms": "K"}
ARRAYS: dict[str, dict[str, str]] = {
    "tokens": {
        f"tokens/{name}": "V"
        for name in ("predicted", "predicted_padding", "target", "target_padding", "mean_probability")
    },
    "gradients": _TERMS,
    "hidden": _TERMS,
    "modules": dict.fromkeys(("dead_share", "update_ratio", "grad_norm", "parameters"), "M"),
    "movement": dict.fromkeys(
        ("update_ratio", "update_rms", "weight_rms", "gradient_rms", "still_share", "lost_share"), "M"
    ),
    "layers": dict.fromkeys(("rms", "largest", "kurtosis"), "L"),
    "phase": {"resultant": "LP", "heads": "LH", "histogram": "LN", "spectrum": "LF", "windows": "LW"},
    "interference": {"kernels": "LHNN", "tokens": "N"},
    "causality": {"cuts": "C", "change": "CT"},
    "concepts": {"pairs": "N2", "cosine": "N", "top": "V", "share": "V"},
    "frames": {"data": "NFHWC", "noised": "nfhwc", "denoised": "mghwc", "t": "n"},
    "path": {"t": "S", "alpha": "S", "beta": "S", "gamma": "S", "sampled": "B"},
    "anchor": {"mean": "NHWC", "spread": "SYX"},
    "generated": {"clips": "NFHWC"},
}
# What a model says of its inside differs by family; what is there has these axes.
INSIDE = {
    "decay": "LHT",
    "singular": "LHr",
    "energy": "L2",
    "angle": "lTK",
    "radius": "lTK",
    "threshold": "LHT",
    "kept": "LHT",
    "strength": "LHT",
    "tokens": "T",
    "similarity": "LHTT",
    "connections": "LHTT",
    "dt": "L",
    "skip": "L",
    "width/weights": "TW",
    "language/gate": "TG",
    "concept/shares": "TC",
    "moe/load": "LE",
}
_OPTIONAL: dict[str, dict[str, str]] = {"internals": INSIDE}


def load_arrays(data: Any, name: str, needs: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of one probe. Raises for bytes that are no safetensors file, for arrays of other axes than declared,
    and for one of `needs` that is not there.
    """
    if not isinstance(data, bytes):
        raise refuse("arrays.data", type(data).__name__, "bytes")
    found = safetensors.numpy.load(data)
    lengths: dict[str, int] = {"2": 2}
    there = {key: axes for key, axes in _OPTIONAL.get(name, {}).items() if key in found}
    for key in needs:
        if key not in found:
            raise ShapeError(f"it lacks {key!r}")
    for key, axes in {**ARRAYS.get(name, {}), **there}.items():
        if key not in found:
            raise ShapeError(f"it lacks {key!r}")
        shape = found[key].shape
        if len(shape) != len(axes) or any(
            lengths.setdefault(axis, size) != size for axis, size in zip(axes, shape, strict=True)
        ):
            raise ShapeError(f"{key} has the shape {list(shape)}, not one of axes {' '.join(axes)} as the others")
    return found
