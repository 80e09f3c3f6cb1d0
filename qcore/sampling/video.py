"""Drawing clips from a flow: noise of fixed seeds, carried from t = 1 to t = 0 piece by piece.

Every clip has noise of its own seed, so that clip n is the same whatever the number of clips, and the same seeds can be
watched over the steps of a run. A piece is a handful of clips; the caller may do other work between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from qcore.flow import correlated_noise, integrate

PIECE = 16
_SEED_STRIDE = 1_000_003


class ClipSettings(Protocol):
    """How the velocity is followed: solver euler, heun or adaptive · solver_steps · tolerance of the adaptive one."""

    @property
    def solver(self) -> Literal["euler", "heun", "adaptive"]: ...
    @property
    def solver_steps(self) -> int: ...
    @property
    def tolerance(self) -> float: ...


def clip_noise(shape_FCHW: Sequence[int], correlation: float, seeds: Sequence[int]) -> Tensor:
    """Noise [N, F, C, H, W], a clip a seed: √ρ shared by the clip's frames + √(1−ρ) of each frame's own.

    The draws do not depend on ρ, so two correlations can be compared on the same seeds.

    Raises:
        ValueError: as `correlated_noise`.
    """
    own, shared = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        own.append(torch.randn(tuple(shape_FCHW), generator=generator))
        shared.append(torch.randn(tuple(shape_FCHW[1:]), generator=generator))
    return correlated_noise(torch.stack(own), torch.stack(shared), correlation)


def clip_seeds(seed: int, count: int) -> list[int]:
    """Seeds of the clips of one generation; generations of different seeds share none."""
    return [seed * _SEED_STRIDE + number for number in range(count)]


def draw_clips(
    velocity: Callable[[slice], Callable[[Tensor, Tensor], Tensor]],
    noise_NFCHW: Tensor,
    settings: ClipSettings,
    *,
    jumps: Sequence[float] = (),
    on_step: Callable[[int, float, Tensor], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Tensor]:
    """Yield the clips of up to 16 noises at a time, [≤16, F, C, H, W] at t = 0.

    Args:
        velocity: for the clips of a slice, the function (z, t [B]) → dz/dt.
        jumps: times onto which the solver steps.
        on_step: told (number of the first clip, t, z) after every step.
        stop: asked after every step; true ends the drawing without the unfinished piece.

    Raises:
        FloatingPointError: when a clip is not finite.
    """
    for start in range(0, len(noise_NFCHW), PIECE):
        piece = slice(start, start + PIECE)
        told = None if on_step is None else _StepForwarder(on_step, start)
        with torch.no_grad():
            clips = integrate(
                velocity(piece),
                noise_NFCHW[piece],
                method=settings.solver,
                steps=settings.solver_steps,
                tolerance=settings.tolerance,
                jumps=tuple(jumps),
                on_step=told,
                stop=stop,
            )
        if stop is not None and stop():
            return
        if not bool(torch.isfinite(clips).all()):
            raise FloatingPointError(
                "the sampled clips are not finite: the velocity diverges between t = 1 and the data"
            )
        yield clips


class _StepForwarder:
    """Passes a solver's step on, with the number of the piece's first clip."""

    def __init__(self, told: Callable[[int, float, Tensor], None], start: int) -> None:
        self._told, self._start = told, start

    def __call__(self, t: float, z_BFCHW: Tensor) -> None:
        self._told(self._start, t, z_BFCHW)
