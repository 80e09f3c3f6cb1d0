"""The fault bank, planted: real mistakes of published projects, put into one run so that the detectors must name them.

A resource for tests and demonstrations; the healthy path never imports it. `plant(code, engine)` is called once, right
after the engine is built, and changes the objects of that engine only: methods and hooks on its modules, its data, its
terms. Classes and modules of the package stay as they are, so a healthy run beside it repeats bit for bit. What
depends on time reads the optimizer's own count of updates, so a planted run resumes like any other. The stories behind
the codes are in `qcore.config.fault_bank`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from qcore.config import FAULTS, LANGUAGE_KINDS, VIDEO_KINDS
from qcore.faults import (
    batches,
    clip_sampler,
    curves,
    data,
    flow_data,
    gradients,
    leaks,
    optimizer,
    phases,
    sampler,
    tokens,
    video,
    weakened,
)
from qcore.faults.patching import AnyEngine, Plantable, VideoPlantable, wrong_family_error

PLANTERS: dict[str, Callable[[Any], None]] = {
    **leaks.PLANTERS,
    **gradients.PLANTERS,
    **optimizer.PLANTERS,
    **phases.PLANTERS,
    **tokens.PLANTERS,
    **batches.PLANTERS,
    **curves.PLANTERS,
    **video.PLANTERS,
    **data.PLANTERS,
    **flow_data.PLANTERS,
    **sampler.PLANTERS,
    **clip_sampler.PLANTERS,
}
"""What plants each fault, by the codes of the bank."""


def plant(code: str, engine: AnyEngine) -> None:
    """Plant one fault in a freshly built engine.

    Raises:
        ValueError: for an unknown code, naming the nearest one, for a case that is a configuration and no mistake in
            code, and for a fault of another model family.
    """
    planter: Callable[[Any], None] | None = PLANTERS.get(code) or weakened.PLANTERS.get(code)
    if planter is None and code in FAULTS:
        raise ValueError(
            f"fault {code!r} is a configuration, with nothing to plant: leave fault empty and start from the preset "
            f"fault-{code.lower()}"
        )
    if planter is None:
        by_capitals = {known.upper(): known for known in PLANTERS}
        close = difflib.get_close_matches(code.upper(), by_capitals, n=1, cutoff=0.3)
        hint = f"; did you mean {by_capitals[close[0]]!r}?" if close else ""
        raise ValueError(f"fault {code!r} is not in the bank{hint}; there are {', '.join(PLANTERS)}")
    of_clips = code in {**video.PLANTERS, **flow_data.PLANTERS, **clip_sampler.PLANTERS}
    kinds = VIDEO_KINDS if of_clips else LANGUAGE_KINDS
    if engine.config.kind not in kinds:
        raise wrong_family_error(engine, " or ".join(kinds))
    planter(engine)


__all__ = ["PLANTERS", "AnyEngine", "Plantable", "VideoPlantable", "plant"]
