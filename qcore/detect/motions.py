"""The judgement on samples of the exact flow: whether the noise chose the motion of each."""

from __future__ import annotations

from typing import Literal

from qcore.detect.table import MOTIONS


def motion_choice(distinct: int, samples: int, correlation: float) -> Literal["one", "few", "remembered", "chance"]:
    """Who chose the motions of so many samples.

    `one`: nobody, all samples share one or two; `few`: the noise, for a part of them; `chance`: the noise;
    `remembered`: they differ although all frames share all noise (correlation 1), so the anchor told which clip it is.
    """
    if distinct <= max(2, int(MOTIONS["one"] * samples)):
        return "one"
    if distinct < MOTIONS["few"] * samples:
        return "few"
    return "remembered" if correlation == 1 else "chance"
