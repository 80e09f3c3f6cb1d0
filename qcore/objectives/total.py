"""The declared terms and their live-weighted sum.

`TERMS` is the one list that the sum, the measurement and the documentation come from. A term is weighted by the
control `<name>_weight`, except that label smoothing ε shares the weight of the cross-entropy: the loss is
ce_weight·((1−ε)·ce + ε·label_smoothing) + Σ <name>_weight·<name>, and `term_weights` says the effective factor of
each, so that loss = Σ weight·part always holds. Parts are unweighted: a curve does not jump when its weight moves.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from qcore.objectives import language, phases
from qcore.objectives.inputs import Derived, TermInputs


@dataclass(frozen=True)
class Term:
    """One named part of the loss: `fn(derived, controls)` returns its unweighted scalar, within [low, high];
    `parameters` are the controls it reads. hinge: rightly 0, without gradient, once its demand is met.
    """

    name: str
    fn: Callable[[Derived, Mapping[str, float]], Tensor]
    needs_phases: bool
    help: str
    control: str
    parameters: tuple[str, ...] = ()
    low: float = 0.0
    high: float = math.inf
    hinge: bool = False


@dataclass(frozen=True)
class Total:
    """The weighted loss and the unweighted parts that entered it, all attached to the graph: detach a part before
    keeping it.
    """

    loss: Tensor
    parts: dict[str, Tensor]


def _term(
    name: str,
    fn: Callable[[Derived, Mapping[str, float]], Tensor],
    help: str,
    *parameters: str,
    needs_phases: bool = False,
    low: float = 0.0,
    high: float = math.inf,
    hinge: bool = False,
) -> Term:
    return Term(name, fn, needs_phases, help, f"{name}_weight", parameters, low, high, hinge)


TERMS: tuple[Term, ...] = (
    _term("ce", language.cross_entropy, "Cross-entropy on real targets, in nats a token; never smoothed."),
    Term(
        "label_smoothing",
        language.uniform_cross_entropy,
        False,
        "Cross-entropy from the uniform distribution; the control ε moves that share of ce_weight onto it.",
        "label_smoothing",
    ),
    _term(
        "diversity", language.diversity, "KL from the mean prediction to the token frequencies of the training data."
    ),
    _term(
        "dominance",
        language.dominance,
        "How far the most predicted token's mean probability exceeds the threshold.",
        "dominance_threshold",
        high=1.0,
        hinge=True,
    ),
    _term(
        "entropy_floor",
        language.entropy_floor,
        "Nats by which predictions fall below the entropy floor.",
        "entropy_floor",
        hinge=True,
    ),
    _term("eos", language.eos, "Mean probability of an end of sequence where the text goes on.", high=1.0),
    _term(
        "unlikelihood",
        language.unlikelihood,
        "Probability given to recent tokens that do not come next: punishes repetition.",
        "unlikelihood_window",
    ),
    _term("z_loss", language.z_loss, "Squared log of the softmax normaliser: keeps logits from drifting."),
    _term(
        "local_energy",
        phases.local_energy,
        "Low when neighbouring tokens have similar phases.",
        needs_phases=True,
        low=-1.0,
        high=1.0,
    ),
    _term(
        "global_energy",
        phases.global_energy,
        "Low when all tokens share a phase (−R²).",
        needs_phases=True,
        low=-1.0,
        high=0.0,
    ),
    _term(
        "entanglement",
        phases.entanglement,
        "Low when phase differences at lags 8, 16, 32 … agree.",
        needs_phases=True,
        low=-1.0,
        high=0.0,
    ),
    _term(
        "stability",
        phases.stability,
        "Circular variance of the phases over the sequence.",
        needs_phases=True,
        high=1.0,
    ),
    _term(
        "coherence",
        phases.coherence,
        "Incoherence over causal windows of 1 to 16 tokens.",
        needs_phases=True,
        high=0.8,
    ),
)


def term_weights(controls: Mapping[str, float]) -> dict[str, float]:
    """The factor of every term in the loss: ce_weight·(1−ε) for ce, ce_weight·ε for label_smoothing, `<name>_weight`
    for the others.

    ValueError when a control is missing, when a weight is not finite, or when label_smoothing is outside [0, 1).
    """
    smoothing = _control(controls, "label_smoothing")
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing is {smoothing}; it must be in [0, 1)")
    weights = {term.name: _control(controls, term.control) for term in TERMS}
    weights["label_smoothing"] = weights["ce"] * smoothing
    weights["ce"] *= 1 - smoothing
    return weights


def total_loss(inputs: TermInputs, controls: Mapping[str, float], terms: tuple[Term, ...] = TERMS) -> Total:
    """Σ weight·term over the terms whose weight is not 0; the others are not computed and have no part.

    A zero loss that can still be backpropagated when every weight is 0. ValueError: a missing or non-finite control,
    or a weighted phase term for a model that gave no phases.
    """
    weights = term_weights(controls)
    active = [term for term in terms if weights[term.name] != 0]
    if inputs.phases is None:
        for term in active:
            if term.needs_phases:
                raise ValueError(
                    f"{term.control} is {weights[term.name]:g} but the batch has no phases: set {term.control} to 0, "
                    "or use a phase model and ask it for its phases (with_phases=True)"
                )
    parts = _evaluate(active, inputs, controls)
    if not parts:
        return Total(inputs.logits_BTV.sum() * 0.0, parts)
    loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    return Total(loss, parts)


def measure_terms(
    inputs: TermInputs, controls: Mapping[str, float], terms: tuple[Term, ...] = TERMS
) -> dict[str, Tensor]:
    """Every term, whatever its weight, without gradient; phase terms are left out when the batch has no phases."""
    with torch.no_grad():
        return _evaluate(
            [term for term in terms if inputs.phases is not None or not term.needs_phases], inputs, controls
        )


def nonfinite_parts(total: Total) -> list[str]:
    """Names of the parts that are NaN or infinite, in order; ["loss"] when only the weighted sum is. Empty when all
    is well.

    One transfer from the device, meant for the check before `optimizer.step()`.
    """
    names = [*total.parts, "loss"]
    values = torch.stack([part.detach() for part in total.parts.values()] + [total.loss.detach()])
    broken = [name for name, finite in zip(names, torch.isfinite(values).tolist(), strict=True) if not finite]
    return broken if broken == ["loss"] else [name for name in broken if name != "loss"]


def _evaluate(terms: list[Term], inputs: TermInputs, controls: Mapping[str, float]) -> dict[str, Tensor]:
    for term in terms:
        for parameter in term.parameters:
            _control(controls, parameter)
    derived = Derived(inputs)
    return {term.name: term.fn(derived, controls) for term in terms}


def _control(controls: Mapping[str, float], name: str) -> float:
    if name not in controls:
        raise ValueError(
            f"control {name!r} is missing; the objective was given {', '.join(sorted(controls)) or 'none'}"
        )
    value = float(controls[name])
    if not math.isfinite(value):
        raise ValueError(f"control {name!r} is {value}; it must be a finite number")
    return value
