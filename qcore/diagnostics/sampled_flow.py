"""Does the sampler follow the velocity of the model that is trained? Clips.

A sampler leaves a trail: points z at times t. From one to the next it has moved by the step of its solver, of which
only the velocity is unknown; so each piece of the trail says which velocity was used, whatever the sampler's code does.
It must be that of the trained model, with the weights that were sampled, but for rounding. Where it is not, two other
answers are tried: the opposite direction, and the velocity at 1 − t.

Legend: N clips · F frames · C channels · H, W height, width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined
from qcore.probes import catalog

Velocity = Callable[[Tensor, Tensor], Tensor]
_SAME_TIME = 1e-6
_PIECES = 3


@dataclass(frozen=True)
class SampledFlowCheck:
    """The velocity that a sampler used, against the model's at the same points and times.

    Attributes:
        error: ‖used − model's‖ ÷ ‖model's‖ over the pieces; NaN where the model's is 0.
        cosine: of both.
        mirrored: the same error against the model's velocity at 1 − t.
    """

    error: float
    cosine: float
    mirrored: float

    def scalars(self) -> dict[str, float]:
        """Series by name; undefined ones are left out."""
        return drop_undefined(
            {
                catalog.SAMPLER_VELOCITY_ERROR: self.error,
                catalog.SAMPLER_VELOCITY_COSINE: self.cosine,
                catalog.SAMPLER_VELOCITY_MIRRORED: self.mirrored,
            }
        )


def sampled_flow_check(
    times: Sequence[float], trail: Sequence[Tensor], velocity: Velocity, method: str, jumps: Sequence[float] = ()
) -> SampledFlowCheck:
    """Compare three pieces of a sampler's trail, the first, the middle and the last, with the model's velocity.

    Args:
        times, trail: where the clips were when, [N, F, C, H, W] each, as the solver told.
        velocity: (z, t [N]) → dz/dt of the trained model with the weights that were sampled.
        method: euler, heun or adaptive.
        jumps: times at which the path jumps.
    """
    pieces = [at for at in range(len(times) - 1) if abs(times[at + 1] - times[at]) > _SAME_TIME]
    if not pieces:
        return SampledFlowCheck(math.nan, math.nan, math.nan)
    chosen = sorted({pieces[len(pieces) * part // (_PIECES - 1) - (part > 0)] for part in range(_PIECES)})
    ends = (*jumps, 0.0)
    used, wanted, mirrored = [], [], []
    for at in chosen:
        t, t_next = times[at], times[at + 1]
        z = trail[at].double()
        used.append((trail[at + 1].double() - z) / (t_next - t))
        # the solvers do not read the velocity at the end of a path, or on the far side of a jump
        rule = "midpoint" if method != "euler" and any(abs(t_next - end) <= _SAME_TIME for end in ends) else method
        wanted.append(_mean_velocity(velocity, z, t, t_next, rule))
        mirrored.append(_mean_velocity(lambda z, t_N: velocity(z, 1 - t_N), z, t, t_next, rule))
    u, v, m = (torch.cat([value.flatten() for value in values]) for values in (used, wanted, mirrored))
    size = float(v.norm())
    if not size > 0 or not math.isfinite(size):
        return SampledFlowCheck(math.nan, math.nan, math.nan)
    cosine = float(u @ v) / max(float(u.norm()) * size, 1e-30)
    return SampledFlowCheck(float((u - v).norm()) / size, cosine, float((u - m).norm()) / max(float(m.norm()), 1e-30))


def _mean_velocity(velocity: Velocity, z: Tensor, t: float, t_next: float, rule: str) -> Tensor:
    """What a solver's step is made of, ÷ its length. Written anew on purpose: it is what the solver is held against."""
    size = t_next - t

    def at(time: float, moved: Tensor | None = None, share: float = 0.0) -> Tensor:
        point = z if moved is None else z + share * size * moved
        return velocity(point, torch.full(z.shape[:1], time, dtype=torch.float32, device=z.device)).double()

    first = at(t)
    if rule == "euler":
        return first
    if rule == "midpoint":
        return at(t + size / 2, first, 0.5)
    if rule == "heun":
        return 0.5 * (first + at(t_next, first, 1.0))
    second = at(t + size / 2, first, 0.5)
    return (2 * first + 3 * second + 4 * at(t + 3 * size / 4, second, 0.75)) / 9


def times_outside(told: Sequence[float], low: float, high: float, slack: float) -> float:
    """Share of times beyond a range, more than `slack` away from it; NaN without a time."""
    if not told:
        return math.nan
    return sum(not low - slack <= t <= high + slack for t in told) / len(told)
