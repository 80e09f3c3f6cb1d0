"""What an optimizer did to the weights, measured: values before and after its step, whatever the optimizer.

A learning rate that is scheduled is not one that was used, and an update that was computed may be lost where weights
are kept in few digits. So nothing here is rebuilt from moments: sampled elements of every tensor, at the same places at
every step, are copied before the step and compared after it. Three things are exact:

- an element *moved* or it did not, bit for bit;
- an update below half a unit in the last place of its weight, ½·ulp(w), is rounded away: ulp(w) = 2^(⌊log₂|w|⌋ − d)
  with d digits of mantissa (52, 23, 10, 7 for float64, float32, float16, bfloat16). Weights that were rounded to fewer
  digits than their type has count as of the smaller type: *all* their values are then representable in it, which values
  of 23 digits are not by chance;
- for AdamW the step is lr·d with a direction d known from its moments (`adamw_direction`), so the rate that the weights
  followed is ⟨Δw, d⟩ ÷ ⟨d, d⟩, whatever the schedule says.

Legend: N sampled elements of all tensors, T tensors, M modules that own parameters directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qcore.diagnostics.positions import drop_undefined, strata
from qcore.diagnostics.weights import ROOT
from qcore.probes import catalog

SAMPLED = 1024
"""Elements of each tensor that are compared: a share is then known to within three percent."""
_DIGITS = {torch.float64: 52, torch.float32: 23, torch.float16: 10, torch.bfloat16: 7}
_READ = 128
_TELLING = 16
"""So many values that a short mantissa could not hold by chance tell in which type a tensor was rounded."""
_STILL = 0.99
_NEGLIGIBLE = 1e-6
Array = NDArray[np.float64]


class ElementSampler:
    """Values of tensors at places that are the same at every call: spread over the whole tensor, no random state."""

    def __init__(self, limit: int = SAMPLED) -> None:
        self._limit = limit
        self._places: dict[tuple[int, torch.device], Tensor] = {}

    def take(self, tensor: Tensor) -> Tensor:
        """A copy of at most `limit` elements [n], in the tensor's own type."""
        flat = tensor.detach().flatten()
        if flat.numel() <= self._limit:
            return flat.clone()
        key = (flat.numel(), flat.device)
        if key not in self._places:
            self._places[key] = strata(flat.numel(), self._limit).to(flat.device)
        return flat[self._places[key]]


@dataclass(frozen=True)
class TensorUpdate:
    """One tensor's sampled elements around an optimizer's step, each [n].

    Attributes:
        elements: of the whole tensor.
        gradient: as the optimizer was given it; None without one.
        direction: Δw of a step at rate 1, where the optimizer's formula is known.
        rate: of the tensor's parameter group; None for a tensor that no optimizer knows.
    """

    name: str
    elements: int
    before: Tensor
    after: Tensor
    gradient: Tensor | None = None
    direction: Tensor | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Movement:
    """How one step moved M modules; shares are of elements with a gradient other than 0 and a rate other than 0."""

    names: tuple[str, ...]
    elements_M: NDArray[np.int64]
    update_rms_M: Array
    weight_rms_M: Array
    gradient_rms_M: Array
    """NaN for a module without gradient."""
    still_share_M: Array
    """Share that did not move; NaN where nothing was to move."""
    lost_share_M: Array
    """Share that did not move because the update was below half a unit in the weight's last place. Where the formula of
    the optimizer is unknown: share that did not move in tensors whose values hold fewer digits than float32's."""
    still_modules: int
    """Modules that had a gradient of some size of which nothing moved, and not for rounding."""
    still_share: float
    lost_share: float
    coarse_share: float
    """Share of all elements in tensors that hold fewer digits than float32 has, by type or by value."""
    rate_moved: float
    """⟨Δw, d⟩ ÷ ⟨d, d⟩, median over tensors; NaN without a known direction."""

    @property
    def ratio_M(self) -> Array:
        """Update RMS ÷ weight RMS; NaN for weights that were all 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.weight_rms_M > 0, self.update_rms_M / self.weight_rms_M, math.nan)

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `update/`; the ratio is the median over modules, the RMS over all elements."""
        known_M = self.ratio_M[np.isfinite(self.ratio_M)]
        weight_M = self.elements_M / max(1, int(self.elements_M.sum()))
        return drop_undefined(
            {
                catalog.UPDATE_RATIO: float(np.median(known_M)) if known_M.size else math.nan,
                catalog.UPDATE_RMS: float(np.sqrt((weight_M * self.update_rms_M**2).sum())),
                catalog.UPDATE_WEIGHT_RMS: float(np.sqrt((weight_M * self.weight_rms_M**2).sum())),
                catalog.UPDATE_GRADIENT_RMS: float(np.sqrt((weight_M * np.nan_to_num(self.gradient_rms_M) ** 2).sum())),
                catalog.UPDATE_STILL_SHARE: self.still_share,
                catalog.UPDATE_LOST_SHARE: self.lost_share,
                catalog.UPDATE_STILL_MODULES: float(self.still_modules),
                catalog.UPDATE_COARSE_SHARE: self.coarse_share,
                catalog.UPDATE_RATE_MOVED: self.rate_moved,
            }
        )

    def arrays(self, modules: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """What is stored under the name "movement", in the order of `modules` (default: of `names`); NaN for a module
        of which nothing was compared.
        """
        found = {
            "update_ratio": self.ratio_M,
            "update_rms": self.update_rms_M,
            "weight_rms": self.weight_rms_M,
            "gradient_rms": self.gradient_rms_M,
            "still_share": self.still_share_M,
            "lost_share": self.lost_share_M,
        }
        places = {name: place for place, name in enumerate(self.names)}
        # one more at the end, for those that are not there
        order = [places.get(name, len(places)) for name in modules or self.names]
        return {name: np.append(values, math.nan)[order].astype(np.float32) for name, values in found.items()}


def adamw_direction(
    weight: Tensor, average: Tensor, average_square: Tensor, step: float, group: Mapping[str, Any]
) -> Tensor:
    """Δw of AdamW's step at rate 1: d = −m̂ ÷ (√v̂ + ε) − λ·w, m̂ = m ÷ (1 − β₁ᵗ), v̂ = v ÷ (1 − β₂ᵗ); in float64.

    Args:
        weight: before the step.
        average, average_square: the moments m and v after it.
        step: t, the count of updates behind the moments.
        group: the parameter group, with betas, eps and weight_decay.
    """
    betas, eps = group["betas"], float(group["eps"])
    mean, square = average.double() / (1 - betas[0] ** step), average_square.double() / (1 - betas[1] ** step)
    return -mean / (square.sqrt() + eps) - float(group["weight_decay"]) * weight.double()


def measure_movement(updates: Sequence[TensorUpdate]) -> Movement:
    """Compare sampled elements before and after a step.

    Cost: some twenty passes over at most T·1,024 numbers, on the CPU.

    Raises:
        ValueError: no tensor.

    Example:
        >>> before, after, gradient = torch.tensor([1.0, 2.0]), torch.tensor([0.9, 2.0]), torch.tensor([0.5, 0.5])
        >>> moved = measure_movement([TensorUpdate("a.weight", 2, before, after, gradient, rate=0.1)])
        >>> moved.names, moved.still_share
        (('a',), 0.5)
    """
    updates = [one for one in updates if len(one.before)]
    if not updates:
        raise ValueError("there is no tensor to compare; pass the parameters that an optimizer moves")
    counts_T = np.array([len(one.before) for one in updates])
    starts_T = np.cumsum(counts_T) - counts_T
    of_N = np.repeat(np.arange(len(updates)), counts_T)
    before_N, after_N = _joined([one.before for one in updates]), _joined([one.after for one in updates])
    gradient_N = _optional([one.gradient for one in updates], counts_T)
    direction_N = _optional([one.direction for one in updates], counts_T)
    rate_T = np.array([math.nan if one.rate is None else one.rate for one in updates])
    delta_N = after_N - before_N
    digits_T, rounded_T = _digits(updates)

    moved_N = delta_N != 0
    rate_N = rate_T[of_N]
    planned_N = rate_N * direction_N
    # what was to move: a gradient, a rate, and a step that the formula does not make 0
    meant_N = (np.nan_to_num(gradient_N) != 0) & (np.nan_to_num(rate_N) != 0) & (planned_N != 0)
    still_N = meant_N & ~moved_N
    _, exponent_N = np.frexp(np.abs(before_N))
    half_ulp_N = np.where(before_N != 0, np.ldexp(1.0, exponent_N - 2 - digits_T[of_N]), 0.0)
    is_known_N = np.isfinite(planned_N)
    lost_N = still_N & np.where(is_known_N, np.abs(np.nan_to_num(planned_N)) < half_ulp_N, rounded_T[of_N])

    names, module_T = _modules([one.name for one in updates])
    elements_T = np.array([one.elements for one in updates], dtype=np.int64)
    # each sampled element stands for as many of its tensor
    stands_T = elements_T / counts_T

    def total(values_N: Array) -> Array:
        of_T = np.add.reduceat(values_N, starts_T) * stands_T
        return np.bincount(module_T, weights=of_T, minlength=len(names)).astype(np.float64)

    elements_M = np.bincount(module_T, weights=elements_T, minlength=len(names)).astype(np.int64)
    meant_M, still_M, lost_M = (total(one.astype(np.float64)) for one in (meant_N, still_N, lost_N))
    graded_M = total(np.isfinite(gradient_N).astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        gradient_M = np.sqrt(total(np.nan_to_num(gradient_N) ** 2) / graded_M)
        still_share_M, lost_share_M = still_M / meant_M, lost_M / meant_M
    largest = np.nanmax(gradient_M) if np.isfinite(gradient_M).any() else math.nan
    held_M = (still_share_M >= _STILL) & (lost_share_M < 1 - _STILL) & (gradient_M > _NEGLIGIBLE * largest)
    all_meant = float(meant_M.sum())
    return Movement(
        names=names,
        elements_M=elements_M,
        update_rms_M=np.sqrt(total(delta_N**2) / elements_M),
        weight_rms_M=np.sqrt(total(before_N**2) / elements_M),
        gradient_rms_M=gradient_M,
        still_share_M=still_share_M,
        lost_share_M=lost_share_M,
        still_modules=int(held_M.sum()),
        still_share=float(still_M.sum()) / all_meant if all_meant else math.nan,
        lost_share=float(lost_M.sum()) / all_meant if all_meant else math.nan,
        coarse_share=float(elements_T[digits_T < _DIGITS[torch.float32]].sum() / max(1, elements_T.sum())),
        rate_moved=_rate_moved(delta_N, np.where(meant_N, np.nan_to_num(direction_N), 0.0), starts_T),
    )


def _joined(parts: Iterable[Tensor]) -> Array:
    joined: Array = torch.cat([part.detach().double().cpu() for part in parts]).numpy()
    return joined


def _optional(parts: list[Tensor | None], counts_T: NDArray[np.int64]) -> Array:
    """All of them in a row, NaN where there is none."""
    filled = [
        torch.full((int(count),), math.nan, dtype=torch.float64) if part is None else part.detach().double().cpu()
        for part, count in zip(parts, counts_T, strict=True)
    ]
    joined: Array = torch.cat(filled).numpy()
    return joined


def _digits(updates: Sequence[TensorUpdate]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Digits of mantissa that each tensor really holds, and whether they are fewer than float32's."""
    digits_T = np.array([_DIGITS.get(one.after.dtype, _DIGITS[torch.float32]) for one in updates])
    read = [one.after[:_READ].float().cpu().numpy() for one in updates]
    starts_T = np.cumsum([0, *map(len, read[:-1])])
    value_N = np.concatenate(read)
    bits_N = value_N.view(np.uint32)
    # what has four digits or fewer (0, 1, ½ …) is of every type, and tells nothing
    telling_N = (bits_N & 0x000F_FFFF) != 0
    telling_T = np.add.reduceat(telling_N.astype(np.int64), starts_T)
    rounded_T = digits_T < _DIGITS[torch.float32]
    with np.errstate(over="ignore"):
        fits = {7: (bits_N & 0xFFFF) == 0, 10: value_N.astype(np.float16).astype(np.float32) == value_N}
    for digits, fits_N in fits.items():
        whole_T = np.add.reduceat((telling_N & ~fits_N).astype(np.int64), starts_T) == 0
        coarser_T = whole_T & (telling_T >= _TELLING) & (digits < digits_T)
        rounded_T = rounded_T | coarser_T
        digits_T = np.where(coarser_T, digits, digits_T)
    # fresh norms and biases are 1 and 0: they hold what the others hold
    told_T = telling_T >= _TELLING
    if told_T.any() and rounded_T[told_T].all():
        digits_T = np.where(told_T, digits_T, np.minimum(digits_T, digits_T[told_T].max()))
        rounded_T[:] = True
    return digits_T, rounded_T


def _rate_moved(delta_N: Array, direction_N: Array, starts_T: NDArray[np.int64]) -> float:
    along_T, square_T = (
        np.add.reduceat(values_N, starts_T) for values_N in (delta_N * direction_N, direction_N * direction_N)
    )
    there = square_T > 0
    return float(np.median(along_T[there] / square_T[there])) if there.any() else math.nan


def module_names(parameters: Iterable[str]) -> tuple[str, ...]:
    """The modules that own parameters of these names, in the order of their first one."""
    return tuple(dict.fromkeys(name.rpartition(".")[0] or ROOT for name in parameters))


def _modules(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Modules in the order of their first tensor, and whose each tensor is."""
    modules = module_names(names)
    places = {name: place for place, name in enumerate(modules)}
    return modules, np.array([places[name.rpartition(".")[0] or ROOT] for name in names], dtype=np.int64)


@dataclass(frozen=True)
class UpdateRecord:
    """One update as it was made.

    Attributes:
        movement: None where no parameter could be compared.
        rate_used: of the parameter groups after the step, mean over their elements; NaN without one.
        rate_lowest: of any group.
        eps_ratio: √v̂ (RMS) ÷ ε of Adam, median over tensors with gradient; NaN for other optimizers.
        leftover: share of the steps since the last measurement that began with a gradient of an earlier step.
        modules: every module of the model that owns parameters, in order.
    """

    movement: Movement | None
    rate_used: float = math.nan
    rate_lowest: float = math.nan
    eps_ratio: float = math.nan
    leftover: float = math.nan
    modules: tuple[str, ...] = ()

    def scalars(self) -> dict[str, float]:
        """Series by name, all under `update/`."""
        found = {
            catalog.UPDATE_RATE_USED: self.rate_used,
            catalog.UPDATE_RATE_LOWEST: self.rate_lowest,
            catalog.UPDATE_EPS_RATIO: self.eps_ratio,
            catalog.UPDATE_LEFTOVER: self.leftover,
        }
        return drop_undefined(found | ({} if self.movement is None else self.movement.scalars()))


@dataclass(frozen=True)
class TrainedWeights:
    """Which of a model's parameters learn at all; what is frozen by design counts nowhere.

    Attributes:
        without_optimizer: share of the trainable elements in no parameter group.
        untrained: share of all elements that need no gradient.
        untrained_blocks: blocks of which no element needs one.
    """

    without_optimizer: float
    untrained: float
    untrained_blocks: int

    def scalars(self) -> dict[str, float]:
        """Series by name, under `weights/`."""
        return drop_undefined(
            {
                catalog.WEIGHTS_WITHOUT_OPTIMIZER: self.without_optimizer,
                catalog.WEIGHTS_UNTRAINED_SHARE: self.untrained,
                catalog.WEIGHTS_UNTRAINED_BLOCKS: float(self.untrained_blocks),
            }
        )


def trained_weights(
    parameters: Iterable[tuple[str, Tensor]], groups: Iterable[Mapping[str, object]], *, block_prefix: str = "layers"
) -> TrainedWeights:
    """Count the elements of named parameters that need a gradient, and of those the ones in an optimizer's groups.

    Args:
        groups: an optimizer's `param_groups`.

    Example:
        >>> layer = torch.nn.Linear(2, 2, bias=False)
        >>> trained_weights(layer.named_parameters(), [{"params": []}]).without_optimizer
        1.0
    """
    owned: set[int] = set()
    for group in groups:
        members = group["params"]
        owned.update(id(member) for member in (members if isinstance(members, list | tuple) else [members]))
    trainable = unknown = every = 0
    blocks: dict[str, bool] = {}
    for name, parameter in parameters:
        every += parameter.numel()
        if parameter.requires_grad:
            trainable += parameter.numel()
            unknown += 0 if id(parameter) in owned else parameter.numel()
        pieces = name.split(".")
        if name.startswith(f"{block_prefix}.") and len(pieces) > 1 and pieces[1].isdigit():
            block = ".".join(pieces[:2])
            blocks[block] = blocks.get(block, False) or parameter.requires_grad
    return TrainedWeights(
        without_optimizer=unknown / trainable if trainable else math.nan,
        untrained=1 - trainable / every if every else math.nan,
        untrained_blocks=sum(not learns for learns in blocks.values()),
    )
