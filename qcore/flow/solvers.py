"""Following a velocity from noise (t = 1) to data: Euler, Heun, and an adaptive pair of orders 3 and 2.

Every solver steps exactly onto the jumps of a path and reads each side's velocity on that side: a step that lands on a
jump, or on t = 0, is followed without the velocity at its end (where Heun would need it, the midpoint rule, which is of
the same order, takes its place), and what starts on a jump reads the jump itself, which belongs to the side of the data
(see `base`). The end of such a step is also where all noise of a clip may have met (t = 0; the ring's junction): the
velocity there knows nothing of the noise any more, and Heun with it would leave half of the last step's noise behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Method = Literal["euler", "heun", "adaptive"]
Velocity = Callable[[Tensor, Tensor], Tensor]
"""(z [B, …], t [B]) → dz/dt [B, …]."""

SAME_TIME = 1e-6
"""A step of the even grid that ends this close to a jump ends on it instead."""
LAST_STEP = 1e-3
"""Length of the adaptive solver's steps onto a jump or the end, whose error is not measured."""
FIRST_STEP = 0.05
SMALLEST_STEP = 1e-5
"""The adaptive solver takes a step this short whatever its error: a jump it was not told of must not hold it up."""
SAFETY, MOST_SHRINK, MOST_GROWTH = 0.9, 0.2, 5.0


def integrate(
    velocity: Velocity,
    z_BFCHW: Tensor,
    *,
    method: Method,
    steps: int = 20,
    tolerance: float = 1e-3,
    jumps: Sequence[float] = (),
    t_end: float = 0.0,
    on_step: Callable[[float, Tensor], None] | None = None,
    stop: Callable[[], bool] | None = None,
    cross: Callable[[float, Tensor], Tensor] | None = None,
) -> Tensor:
    """z at `t_end`, from z at t = 1; dz/dt = velocity(z, t) with t [B] equal for all clips.

    `steps` even steps (euler, heun), of which those that contain a jump are cut in two there.

    `on_step(t, z)` sees the start and the end of every step. `stop` is asked before every step; when it is true, z is
    returned as it is then. `cross(t, z)`, for a path whose weights jump, carries z over a jump at t, from the side of
    the noise to that of the data; `on_step` has seen the former.

    Works in z's dtype; times are at least float32. Gradients are the caller's choice. A velocity that is not finite
    gives a result that is not.

    Args:
        tolerance: largest root-mean-square error that an adaptive step may make in a clip, relative to 1 + the clip's
            own root mean square; one step size for the whole batch.
        jumps: `path.jumps()`.

    Raises:
        ValueError: an unknown method, no steps, no tolerance, or times outside [0, 1].

    Example:
        >>> start = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
        >>> end = integrate(lambda z, t: z, start, method="heun", steps=50)
        >>> round(float(end), 4)  # e⁻¹ = 0.3679
        0.3679
    """
    if method not in ("euler", "heun", "adaptive"):
        raise ValueError(f"there is no solver {method!r}; choose euler, heun or adaptive")
    if steps < 1:
        raise ValueError(f"steps is {steps}; take at least one")
    if not (tolerance > 0 and math.isfinite(tolerance)):
        raise ValueError(f"tolerance is {tolerance}; choose a positive number, 0.001 for a usual one")
    if not 0 <= t_end < 1:
        raise ValueError(f"t_end is {t_end}; the flow runs from 1 down to a time in [0, 1)")
    outside = [jump for jump in jumps if not 0 < jump < 1]
    if outside:
        raise ValueError(f"jumps {outside} are not inside (0, 1); pass those of the path")
    # a step across a jump would have no order at all: every stretch between jumps is solved by itself
    ends = [*sorted((jump for jump in jumps if jump > t_end), reverse=True), t_end]
    walk = _Walk(velocity, z_BFCHW, on_step, stop, cross)
    for end in ends:
        if method == "adaptive":
            _solve_adaptive(walk, end, tolerance)
        else:
            for t_next in _grid(steps, t_end, walk.t, end):
                if walk.stopped():
                    return walk.z
                walk.step(t_next, method, last=t_next == end)
        # told to stop on the way: what lies behind the jump must not happen either
        if walk.t > end:
            return walk.z
        if end > t_end:
            walk.cross()
    return walk.z


def _grid(steps: int, t_end: float, start: float, end: float) -> list[float]:
    """Ends of the steps from `start` down to `end`, on the even grid of `steps` steps from 1 to `t_end`."""
    # on one grid for all stretches, so that a jump adds one step and moves none
    even = [1 + (t_end - 1) * number / steps for number in range(1, steps)]
    return [*(t for t in even if end + SAME_TIME < t < start - SAME_TIME), end]


class _Walk:
    """Where an integration stands: z at time t."""

    def __init__(
        self,
        velocity: Velocity,
        z_BFCHW: Tensor,
        on_step: Callable[[float, Tensor], None] | None,
        stop: Callable[[], bool] | None,
        cross: Callable[[float, Tensor], Tensor] | None,
    ) -> None:
        self._velocity = velocity
        self._on_step = on_step
        self._stop = stop
        self._cross = cross
        self._time_dtype = torch.promote_types(z_BFCHW.dtype, torch.float32)
        self.move(1.0, z_BFCHW)

    def stopped(self) -> bool:
        return self._stop is not None and self._stop()

    def move(self, t: float, z: Tensor) -> None:
        self.t, self.z = t, z
        if self._on_step is not None:
            self._on_step(t, z)

    def cross(self) -> None:
        if self._cross is not None:
            self.z = self._cross(self.t, self.z)

    def slope(self, t: float, z: Tensor) -> Tensor:
        # times in float32 at least: bfloat16 has 128 of them between ½ and 1
        return self._velocity(z, torch.full(z.shape[:1], t, dtype=self._time_dtype, device=z.device))

    def step(self, t_next: float, method: str, *, last: bool) -> None:
        """One step of Euler, of Heun, or of the midpoint rule where Heun may not read the velocity at the end."""
        size = t_next - self.t
        slope = self.slope(self.t, self.z)
        if method != "euler":
            # on the far side of a jump, and at 0 for some paths, the velocity is another one or none: the midpoint rule
            # has the same order and does not look there
            if last:
                slope = self.slope(self.t + size / 2, self.z + size / 2 * slope)
            else:
                slope = 0.5 * (slope + self.slope(t_next, self.z + size * slope))
        self.move(t_next, self.z + size * slope)


def _solve_adaptive(walk: _Walk, end: float, tolerance: float) -> None:
    """To `end` by Bogacki and Shampine's pair (Applied Mathematics Letters 2, 1989), the last short step without it."""
    goal = end + LAST_STEP
    size = FIRST_STEP
    k1: Tensor | None = None
    while walk.t > goal:
        if walk.stopped():
            return
        # A rest shorter than the shortest step is taken along.
        t_next = walk.t - size if walk.t - size > goal + SMALLEST_STEP else goal
        step = t_next - walk.t
        k1 = walk.slope(walk.t, walk.z) if k1 is None else k1
        k2 = walk.slope(walk.t + step / 2, walk.z + step / 2 * k1)
        k3 = walk.slope(walk.t + 3 * step / 4, walk.z + 3 * step / 4 * k2)
        moved = walk.z + step * (2 * k1 + 3 * k2 + 4 * k3) / 9
        k4 = walk.slope(t_next, moved)
        error = _error(step * (-5 * k1 + 6 * k2 + 8 * k3 - 9 * k4) / 72, moved) / tolerance
        # a shortest step is taken whatever its error: a velocity that jumps inside would hold the walk for ever
        if error <= 1 or -step <= 2 * SMALLEST_STEP:
            walk.move(t_next, moved)
            # the last slope of a step is the first of the next: three evaluations a step instead of four
            k1 = k4
        # order 2 with an estimate of order 3: the error grows with the third power of the step
        growth = SAFETY * error ** (-1 / 3) if error > 0 else MOST_GROWTH
        size = max(-step * min(max(growth, MOST_SHRINK), MOST_GROWTH), SMALLEST_STEP)
    if not walk.stopped():
        walk.step(end, "adaptive", last=True)


def _error(difference: Tensor, z: Tensor) -> float:
    """Largest relative error of a clip. Clips that are not finite any more have no say in the others' step."""
    over_pixels = tuple(range(1, z.ndim))
    error_B = difference.detach().square().mean(over_pixels).sqrt()
    scale_B = 1 + z.detach().square().mean(over_pixels).sqrt()
    return float(torch.nan_to_num(error_B / scale_B, nan=0.0, posinf=0.0).max())
