"""The declared terms of both families, language and video, and their one live-weighted sum.

`TERMS` and `VIDEO_TERMS` are the lists that the sum, the measurement and the documentation come from. A term is
weighted by the control `<name>_weight`, except that label smoothing ε shares the weight of the cross-entropy: the loss
is ce_weight·((1−ε)·ce + ε·label_smoothing) + Σ <name>_weight·<name>; a term that warms up over n steps has the share
min(1, step/n) of its weight. `term_weights` says the effective factor of each, so that loss = Σ weight·part always
holds. Parts are unweighted: a curve does not jump when its weight moves.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qcore.objectives import language, mechanisms, phases, video
from qcore.objectives.inputs import Inputs

Controls = Mapping[str, Any]
TermFunction = Callable[[Any, Controls], Tensor]


@dataclass(frozen=True)
class Term:
    """One named part of the loss: `fn(derived, controls)` returns its unweighted scalar, within [low, high]; derived is
    what its family's inputs derive.

    Attributes:
        parameters: the controls it reads beside its weight.
        hinge: rightly 0, without gradient, once its demand is met.
        warmup: the control that holds the steps over which its weight grows; "": none.
        needs: field of the inputs that must not be None.
    """

    name: str
    fn: TermFunction
    help: str
    control: str
    parameters: tuple[str, ...] = ()
    low: float = 0.0
    high: float = math.inf
    hinge: bool = False
    warmup: str = ""
    needs: str = ""

    @property
    def needs_phases(self) -> bool:
        """Whether it reads the phases of a phase model."""
        return self.needs == _PHASES


@dataclass(frozen=True)
class Total:
    """The weighted loss and the unweighted parts that entered it, all attached to the graph: detach a part before
    keeping it.
    """

    loss: Tensor
    parts: dict[str, Tensor]


_PHASES, _ANCHOR, _CONCEPTS, _ROUTERS = "phases", "anchor_mean_BCHW", "expected_concepts_BTK", "routers"
_REMEDIES = {
    _PHASES: "phases: set {control} to 0, or use a phase model and ask it for its phases (with_phases=True)",
    _CONCEPTS: "concepts: set {control} to 0, or use a phase model with concepts",
    _ROUTERS: "experts: set {control} to 0, or use a phase model with experts",
}
"""What a batch lacks that has not the field a term needs, and what to do. Not the anchor's: path and anchor may change
while training."""


def _term(name: str, fn: TermFunction, help: str, *parameters: str, **more: Any) -> Term:
    return Term(name, fn, help, f"{name}_weight", parameters, **more)


TERMS: tuple[Term, ...] = (
    _term("ce", language.cross_entropy, "Cross-entropy on real targets, in nats per token; never smoothed."),
    Term(
        "label_smoothing",
        language.uniform_cross_entropy,
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
    _term("eos", language.eos, "Mean probability of an end of sequence where the text continues.", high=1.0),
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
        needs=_PHASES,
        low=-1.0,
        high=1.0,
    ),
    _term(
        "global_energy",
        phases.global_energy,
        "Low when all tokens share a phase (−R²).",
        needs=_PHASES,
        low=-1.0,
        high=0.0,
    ),
    _term(
        "entanglement",
        phases.entanglement,
        "Low when phase differences at lags 8, 16, 32 … agree.",
        needs=_PHASES,
        low=-1.0,
        high=0.0,
    ),
    _term(
        "stability",
        phases.stability,
        "Circular variance of the phases over the sequence.",
        needs=_PHASES,
        high=1.0,
    ),
    _term(
        "coherence",
        phases.coherence,
        "Incoherence over causal windows of 1 to 16 tokens.",
        needs=_PHASES,
        high=0.8,
    ),
    _term(
        "concept",
        mechanisms.concept,
        "Surprise at the next token's concepts, less the number of concepts in use.",
        needs=_CONCEPTS,
        high=20.0,
    ),
    _term(
        "balance",
        mechanisms.balance,
        "Uneven load of the experts: 0 when each takes the same share of the tokens.",
        needs=_ROUTERS,
        low=-1.0,
        high=256.0,
    ),
)


VIDEO_TERMS: tuple[Term, ...] = (
    _term("flow", video.flow, "Mean squared error of the predicted velocity."),
    _term(
        "orthogonality",
        video.orthogonality,
        "What predicted frames of a clip share: their mean cosine, or how much of one the earlier ones span.",
        "orthogonality_warmup",
        "orthogonality_target",
        "orthogonal_projection",
        low=-1.0,
        high=2.0,
        hinge=True,
        warmup="orthogonality_warmup",
    ),
    _term(
        "decoherence",
        video.decoherence,
        "How much more alike predicted frames are than the real ones, below the collapse time only.",
        high=2.0,
        hinge=True,
    ),
    _term("temporal", video.temporal, "Squared difference of predicted and real changes from frame to frame."),
    _term(
        "anchor_kl",
        video.anchor_kl,
        "KL from the anchor network's posterior to the standard normal, in nats per value.",
        needs=_ANCHOR,
    ),
)


def term_weights(controls: Controls, terms: tuple[Term, ...] = TERMS, step: int | None = None) -> dict[str, float]:
    """The factor of every term in the loss of update `step`: ce_weight·(1−ε) for ce, ce_weight·ε for label_smoothing,
    `<name>_weight` for the others, times min(1, step/n) for one that warms up over n steps. step None: warm-ups are
    over.

    Raises:
        ValueError: when a control is missing, when a weight is not finite, or when label_smoothing is outside [0, 1).
    """
    weights = {term.name: _control_number(controls, term.control) for term in terms}
    if "label_smoothing" in weights:
        smoothing = weights["label_smoothing"]
        if not 0 <= smoothing < 1:
            raise ValueError(f"label_smoothing is {smoothing}; it must be in [0, 1)")
        ce = _control_number(controls, "ce_weight")
        weights |= {"ce": ce * (1 - smoothing), "label_smoothing": ce * smoothing}
    for term in terms:
        if term.warmup and step is not None and step < (steps := _control_number(controls, term.warmup)):
            weights[term.name] *= step / steps
    return weights


def total_loss(inputs: Inputs, controls: Controls, terms: tuple[Term, ...] = TERMS) -> Total:
    """Σ weight·term over the terms whose weight is not 0; the others are not computed and have no part.

    A zero loss that can still be backpropagated when there is no part. A term of the anchor network has no part in a
    batch without one: path and anchor may change while training.

    Raises:
        ValueError: a missing or non-finite control, or a weighted term for a model that does not give what it needs:
            phases, concepts, experts.

    Example:
        >>> from qcore.objectives import TermInputs
        >>> ids = torch.zeros(2, 3, dtype=torch.long)
        >>> inputs = TermInputs(
        ...     logits_BTV=torch.zeros(2, 3, 4),
        ...     targets_BT=ids,
        ...     mask_BT=torch.ones(2, 3, dtype=torch.bool),
        ...     inputs_BT=ids,
        ...     hidden_BTD=torch.zeros(2, 3, 8),
        ...     phases=None,
        ...     state_BTP=None,
        ...     unigram_V=torch.full((4,), 0.25),
        ...     eos_id=0,
        ... )
        >>> controls = {term.control: 0.0 for term in TERMS} | {"ce_weight": 1.0}
        >>> total = total_loss(inputs, controls)
        >>> list(total.parts), round(float(total.loss), 4)  # ln 4
        (['ce'], 1.3863)
    """
    weights = term_weights(controls, terms, inputs.step)
    active = [term for term in terms if weights[term.name] != 0]
    for term in active:
        if term.needs in _REMEDIES and not _has_input(inputs, term):
            remedy = _REMEDIES[term.needs].format(control=term.control)
            raise ValueError(f"{term.control} is {weights[term.name]:g} but the batch has no {remedy}")
    parts = _evaluate(active, inputs, controls)
    if not parts:
        return Total(inputs.zero(), parts)
    loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    return Total(loss, parts)


def measure_terms(inputs: Inputs, controls: Controls, terms: tuple[Term, ...] = TERMS) -> dict[str, Tensor]:
    """Every term, whatever its weight, without gradient; those that need what the batch does not have are left out."""
    with torch.no_grad():
        return _evaluate(terms, inputs, controls)


def nonfinite_parts(total: Total) -> list[str]:
    """Names of the parts that are NaN or infinite, in order; ["loss"] when only the weighted sum is. Empty when all
    is well.

    One transfer from the device, meant for the check before `optimizer.step()`.
    """
    names = [*total.parts, "loss"]
    values = torch.stack([part.detach() for part in total.parts.values()] + [total.loss.detach()])
    broken = [name for name, finite in zip(names, torch.isfinite(values).tolist(), strict=True) if not finite]
    return broken if broken == ["loss"] else [name for name in broken if name != "loss"]


def _evaluate(terms: Iterable[Term], inputs: Inputs, controls: Controls) -> dict[str, Tensor]:
    possible = [term for term in terms if _has_input(inputs, term)]
    for term in possible:
        for parameter in term.parameters:
            _setting(controls, parameter)
    derived = inputs.derived()
    return {term.name: term.fn(derived, controls) for term in possible}


def _has_input(inputs: Inputs, term: Term) -> bool:
    """Whether the batch has what a term needs."""
    return not term.needs or getattr(inputs, term.needs) is not None


def _setting(controls: Controls, name: str) -> Any:
    if name not in controls:
        raise ValueError(
            f"control {name!r} is missing; the objective was given {', '.join(sorted(controls)) or 'none'}"
        )
    value = controls[name]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"control {name!r} is {value}; it must be a finite number")
    return value


def _control_number(controls: Controls, name: str) -> float:
    return float(_setting(controls, name))
