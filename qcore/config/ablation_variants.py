"""What an ablation compares: plain cross-entropy, each loss term at one weight, each mechanism switched.

The list is declared here once, with the weight of each term and why it is that one. A variant is compared with plain
cross-entropy, or with the variant that it builds on (a term of the concept layer with a model that has the layer).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from qcore.config.controls import ConfigError, nearest_hint
from qcore.config.families import LANGUAGE_KINDS

BASE = "cross-entropy"
Group = Literal["reference", "term", "mechanism"]
_PHASE = ("phase_lm",)
_ALL = tuple(LANGUAGE_KINDS)
_GRID = {"planes": 24, "heads": 24, "gate_temperature": 0.1}


@dataclass(frozen=True)
class Variant:
    """One thing to compare.

    Attributes:
        group: a reference gets no verdict of its own.
        changes: to the base's configuration.
        why: of the weight, or what the change takes away.
        against: name of the variant it is compared with.
    """

    name: str
    group: Group
    title: str
    changes: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    kinds: tuple[str, ...] = _ALL
    against: str = BASE


def _term(name: str, weight: float, why: str, *, kinds: tuple[str, ...] = _ALL) -> Variant:
    return Variant(name, "term", name.replace("_", " "), {f"{name}_weight": weight}, why, kinds)


def _switch(name: str, title: str, changes: dict[str, Any], why: str, kind: str) -> Variant:
    return Variant(name, "mechanism", title, changes, why, (kind,))


VARIANTS: tuple[Variant, ...] = (
    Variant(BASE, "reference", "plain cross-entropy", {}, "every weight but that of cross-entropy is 0"),
    Variant("label_smoothing", "term", "label smoothing", {"label_smoothing": 0.05}, "half of the usual 0.1"),
    _term("diversity", 0.1, "a tenth of cross-entropy: felt only while the mean prediction is far from the data's"),
    _term("dominance", 0.5, "silent while no token's mean probability passes the threshold"),
    _term("entropy_floor", 0.1, "a tenth of cross-entropy, for predictions surer than 0.3 nats"),
    _term("eos", 0.1, "a tenth of cross-entropy, in the same unit"),
    _term("unlikelihood", 0.3, "published with 1; a third still keeps its share of the gradient visible"),
    _term("z_loss", 1e-4, "the usual weight"),
    _term("local_energy", 0.02, "larger weights lock the phases within a hundred steps", kinds=_PHASE),
    _term("global_energy", 0.02, "as local energy", kinds=_PHASE),
    _term("entanglement", 0.02, "as local energy", kinds=_PHASE),
    _term("stability", 0.02, "as local energy", kinds=_PHASE),
    _term("coherence", 0.01, "the published weight of its third stage", kinds=_PHASE),
    _switch(
        "no_interference",
        "without interference attention",
        {"interference_attention": False},
        "tokens meet only in the phase state",
        "phase_lm",
    ),
    _switch("phase_bias", "attention: phase bias", {"attention": "phase_bias"}, "softmax for linear time", "phase_lm"),
    _switch(
        "interference_gate",
        "attention: interference gate",
        {"attention": "interference_gate"},
        "softmax for linear time",
        "phase_lm",
    ),
    _switch("dynamic_width", "dynamic width", {"dynamic_width": True}, "three widths a token", "phase_lm"),
    _switch(
        "experts", "4 experts, 2 active", {"experts": 4, "experts_active": 2}, "the smallest real choice", "phase_lm"
    ),
    Variant(
        "balance",
        "term",
        "balance of the experts",
        {"experts": 4, "experts_active": 2, "balance_weight": 0.01},
        "the usual weight; needs experts",
        _PHASE,
        "experts",
    ),
    _switch(
        "concepts", "concept layer, 64 concepts", {"concepts": 64}, "as many as the stories have words", "phase_lm"
    ),
    Variant(
        "concept",
        "term",
        "concept",
        {"concepts": 64, "concept_weight": 0.05},
        "a twentieth of cross-entropy; needs the concept layer",
        _PHASE,
        "concepts",
    ),
    Variant(
        "bilingual",
        "reference",
        "plain cross-entropy, two languages",
        {"source": "bilingual"},
        "what the maps of the languages are compared with",
        _PHASE,
    ),
    Variant(
        "language_phases",
        "mechanism",
        "phase maps of the languages",
        {"source": "bilingual", "language_phases": True},
        "on the corpus of two languages",
        _PHASE,
        "bilingual",
    ),
    _switch("real_state", "real state", {"complex_state": False}, "keys, values and state are real", "pam"),
    _switch("no_clock", "without rotary clock", {"rotary_clock": False}, "no positions but the decay's", "pam"),
    _switch("no_read_gate", "without read gate", {"read_gate": False}, "all that is read passes", "pam"),
    _switch("no_short_conv", "without short convolution", {"short_conv": 1}, "keys see their own token alone", "pam"),
    _switch("hard_gate", "hard gate", {"gate": "hard"}, "all or nothing at the threshold", "flux_lm"),
    _switch("one_plane", "one plane", {"planes": 1, "heads": 1}, "the published number of planes", "flux_lm"),
    _switch(
        "no_values", "connections without values", {"values": 0}, "they carry states alone, as published", "flux_lm"
    ),
    Variant(
        "linear_read_out",
        "mechanism",
        "linear read-out",
        {"values": 0, "read_out": "linear"},
        "each layer's state alone is read, as published; without values",
        ("flux_lm",),
        "no_values",
    ),
    _switch("no_query_turn", "without turned queries", {"query_turn": False}, "likeness is symmetric", "flux_lm"),
    _switch("sampled_step", "sampled dt", {"step_size": "sampled"}, "drawn in training, fixed after it", "flux_lm"),
    _switch("no_skip", "without dynamic skip", {"dynamic_skip": False}, "no way round a layer", "flux_lm"),
    Variant(
        "blocks",
        "reference",
        "a plane a group, wide gate",
        {**_GRID, "evaluation": "blocks"},
        "what fast evaluation needs, evaluated exactly",
        ("flux_lm",),
    ),
    Variant(
        "fast",
        "mechanism",
        "fast evaluation",
        {**_GRID, "evaluation": "fast"},
        "below quadratic time, with a stated error",
        ("flux_lm",),
        "blocks",
    ),
    _switch("hebbian", "Hebbian head after AdamW", {"hebbian": "after"}, "both rules move the head", "flux_lm"),
    _switch("hebbian_alone", "Hebbian head alone", {"hebbian": "alone"}, "no gradient for the head", "flux_lm"),
)


def variants_of(kind: str, only: Sequence[str] | None = None) -> tuple[Variant, ...]:
    """Variants of a model family in the order of the list: all, or those named with what each is compared with.

    Raises:
        ConfigError: for a family that is no language model, and for an unknown name.
    """
    if kind not in LANGUAGE_KINDS:
        raise ConfigError(f"kind = {kind!r} is refused: an ablation compares language models, {', '.join(_ALL)}")
    known = {variant.name: variant for variant in VARIANTS if kind in variant.kinds}
    wanted = set(known if only is None else only) | {BASE}
    if unknown := sorted(wanted - known.keys()):
        raise ConfigError(
            f"{kind} has no variant {unknown[0]!r}{nearest_hint(unknown[0], known)}; there are {', '.join(known)}"
        )
    wanted |= {known[name].against for name in wanted}
    return tuple(variant for variant in known.values() if variant.name in wanted)


def waves(variants: Iterable[Variant]) -> list[list[Variant]]:
    """Variants in groups, each compared only with those of earlier groups."""
    groups: list[list[Variant]] = []
    place: dict[str, int] = {}
    for variant in variants:
        place[variant.name] = 0 if variant.name == BASE else place[variant.against] + 1
        if place[variant.name] == len(groups):
            groups.append([])
        groups[place[variant.name]].append(variant)
    return groups
