"""Does minimising an energy raise the coherence it is named for? One small step, and a look.

A published model minimised −(−coherence) and reported "energy improved 306 → 35" (fault G4): no curve shows that, since
the energy did go down. The test moves the phases themselves a little down the term's gradient, in float64, and measures
the named coherence before and after. The coherences are written here a second time, on purpose, from their definitions:
a test that shared the code of the terms would share their mistakes.
Legend: B batch, T tokens, P phases.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qcore.diagnostics.positions import check_mask
from qcore.probes import catalog

Phases = tuple[Tensor, ...]
STEP = 1e-3
"""Root mean square of the test step, radians."""
NO_CHANGE = 1e-9
"""Coherence changes below this are rounding."""
FIRST_LAG = 8
WINDOWS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class SignTests:
    """+1: a step down the term raises its coherence, as it must; −1: lowers it (fault G4); 0: no effect on it."""

    signs: dict[str, int]

    def scalars(self) -> dict[str, float]:
        """`energy/sign/<term>` for each term tested."""
        return {catalog.energy_sign(name): float(sign) for name, sign in self.signs.items()}


def sign_test(
    term_fn: Callable[[Phases], Tensor], phases: Sequence[Tensor], coherence_fn: Callable[[Phases], Tensor]
) -> int:
    """The sign of the change of `coherence_fn` under one step of 0.001 rad (RMS) down the gradient of `term_fn`.

    `term_fn` gets float64 copies of the phases [B, T, P] and returns a scalar to be minimised, by whatever code the
    training uses. 0 when it has no gradient, or a step does not touch the coherence. Cost: one forward and backward of
    the term and two coherences, O(L·B·T·P): give it two rows.

    Raises:
        ValueError: no phases, or a term that is no scalar.

    Example:
        >>> phases = [torch.linspace(0, 2, 8).view(1, 4, 2)]
        >>> mask = torch.ones(1, 4, dtype=torch.bool)
        >>> sign_test(lambda now: -order_parameter(now, mask), phases, lambda now: order_parameter(now, mask))
        1
    """
    if not phases:
        raise ValueError("phases is empty; test energies of a model that gave phases")
    # float64: a step of 0.001 rad changes a mean over thousands of phases by less than float32 tells
    leaves = tuple(phase.detach().double().requires_grad_() for phase in phases)
    # a probe runs under no_grad, and this one needs a gradient of its own
    with torch.enable_grad():
        term = term_fn(leaves)
        if term.ndim:
            raise ValueError(f"the term has shape {tuple(term.shape)}; it must return a scalar")
        if not term.requires_grad:
            return 0
        found = torch.autograd.grad(term, leaves, allow_unused=True)
    with torch.no_grad():
        grads = [
            torch.zeros_like(leaf) if grad is None else grad.double() for leaf, grad in zip(leaves, found, strict=True)
        ]
        # the step has one size for every term: a steep term would otherwise jump over what it pulls at
        rms = (sum(float(grad.square().sum()) for grad in grads) / sum(grad.numel() for grad in grads)) ** 0.5
        if not 0 < rms < float("inf"):
            return 0
        moved = tuple(leaf - grad * (STEP / rms) for leaf, grad in zip(leaves, grads, strict=True))
        change = float(coherence_fn(moved)) - float(coherence_fn(leaves))
    return (change > NO_CHANGE) - (change < -NO_CHANGE)


def sign_tests(
    term_fns: Mapping[str, Callable[[Phases], Tensor]], phases: Sequence[Tensor], mask_BT: Tensor
) -> SignTests:
    """`sign_test` of each term against the coherence of its name in `COHERENCES`.

    Cost: one `sign_test` a term.

    Raises:
        ValueError: a term without a coherence of its name, a mask that does not fit.
    """
    if phases:
        check_mask(mask_BT, tuple(phases[0].shape[:2]), "the phases")
    signs = {}
    for name, term_fn in term_fns.items():
        if name not in COHERENCES:
            raise ValueError(f"{name!r} is named for no coherence; known are {', '.join(COHERENCES)}")
        signs[name] = sign_test(term_fn, phases, _with_mask(COHERENCES[name], mask_BT))
    return SignTests(signs)


def neighbour_coherence(phases: Sequence[Tensor], mask_BT: Tensor) -> Tensor:
    """Mean cos(ψ_{t+1} − ψ_t) over valid neighbours, phases and layers, in [−1, 1]."""
    pair_BT = mask_BT[:, 1:] & mask_BT[:, :-1]
    return _mean_over_layers(phases, lambda phase: _mean((phase[:, 1:] - phase[:, :-1]).cos().mean(-1), pair_BT))


def pair_coherence(phases: Sequence[Tensor], mask_BT: Tensor) -> Tensor:
    """Mean cos(ψ_s − ψ_t) over all pairs of valid positions of a row (R²), token-weighted over rows, in [0, 1]."""
    return _mean_over_layers(
        phases, lambda phase: _mean_over_rows(_resultant(phase, mask_BT).square().mean(-1), mask_BT)
    )


def order_parameter(phases: Sequence[Tensor], mask_BT: Tensor) -> Tensor:
    """R = |mean_t e^{iψ}|, mean over phases and layers, token-weighted over rows, in [0, 1].

    Example:
        >>> round(float(order_parameter([torch.zeros(1, 4, 2)], torch.ones(1, 4, dtype=torch.bool))), 6)
        1.0
    """
    return _mean_over_layers(phases, lambda phase: _mean_over_rows(_resultant(phase, mask_BT).mean(-1), mask_BT))


def lag_coherence(phases: Sequence[Tensor], mask_BT: Tensor) -> Tensor:
    """Mean over lags 8, 16, 32, … of |mean_t e^{i(ψ_{t+Δ} − ψ_t)}|², in [0, 1]; 0 for rows without two such pairs."""

    def of_layer(phase_BTP: Tensor) -> Tensor:
        values, weights = [], []
        lag = FIRST_LAG
        while lag < mask_BT.shape[1] - 1:
            pair_BT = mask_BT[:, lag:] & mask_BT[:, :-lag]
            order_BP = _resultant(phase_BTP[:, lag:] - phase_BTP[:, :-lag], pair_BT)
            values.append(order_BP.square().mean(-1))
            weights.append((pair_BT.sum(1) >= 2) * mask_BT.sum(1))
            lag *= 2
        if not values:
            return phase_BTP.new_zeros(())
        weight_NB = torch.stack(weights).to(phase_BTP)
        return (torch.stack(values) * weight_NB).sum() / weight_NB.sum().clamp(min=1)

    return _mean_over_layers(phases, of_layer)


def window_coherence(phases: Sequence[Tensor], mask_BT: Tensor) -> Tensor:
    """Mean over causal windows of 1 … 16 tokens, valid positions and phases of |mean of e^{iψ} in the window|."""

    def of_layer(phase_BTP: Tensor) -> Tensor:
        wave_BTP = torch.polar(mask_BT.to(phase_BTP).unsqueeze(-1).expand_as(phase_BTP), phase_BTP)
        means = []
        for width in WINDOWS:
            start_T = (torch.arange(mask_BT.shape[1], device=mask_BT.device) + 1 - width).clamp(min=0)
            sums = [torch.cat((part[:, :1] * 0, part), 1) for part in (wave_BTP.cumsum(1), mask_BT.cumsum(1))]
            window_BTP, count_BT = (part[:, 1:] - part[:, start_T] for part in sums)
            means.append(_mean(window_BTP.abs().mean(-1) / count_BT.clamp(min=1), mask_BT))
        return torch.stack(means).mean()

    return _mean_over_layers(phases, of_layer)


COHERENCES: Mapping[str, Callable[[Sequence[Tensor], Tensor], Tensor]] = {
    "local_energy": neighbour_coherence,
    "global_energy": pair_coherence,
    "entanglement": lag_coherence,
    "stability": order_parameter,
    "coherence": window_coherence,
}
"""What each phase term is named for: minimising the term must raise it."""


def _with_mask(coherence: Callable[[Sequence[Tensor], Tensor], Tensor], mask_BT: Tensor) -> Callable[[Phases], Tensor]:
    return lambda phases: coherence(phases, mask_BT)


def _mean_over_layers(phases: Sequence[Tensor], of_layer: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([of_layer(phase_BTP) for phase_BTP in phases]).mean()


def _mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    return (values_BT * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def _mean_over_rows(values_B: Tensor, mask_BT: Tensor) -> Tensor:
    weight_B = mask_BT.sum(1).to(values_B)
    return (values_B * weight_B).sum() / weight_B.sum().clamp(min=1)


def _resultant(phase_BTP: Tensor, mask_BT: Tensor) -> Tensor:
    """|mean of e^{iψ} over the valid positions| of each row and phase, [B, P]; 0 for an empty row."""
    weight_BT1 = mask_BT.to(phase_BTP).unsqueeze(-1)
    count_B1 = mask_BT.sum(1).clamp(min=1).unsqueeze(-1)
    return torch.hypot((phase_BTP.cos() * weight_BT1).sum(1), (phase_BTP.sin() * weight_BT1).sum(1)) / count_B1
