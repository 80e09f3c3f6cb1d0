"""What a watch knows of a run, and what it says about it: facts in, verdicts out, both plain data.

A verdict has the fields of a row of the store's findings. Its evidence is numbers beside their limits and one small
chart; its remedies are commands with values that can be applied with one click. Everything is finite and JSON-able.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from qcore.base.words import number_words

PHASE_TERMS = frozenset({"local_energy", "global_energy", "entanglement", "stability", "coherence"})
"""Terms that read phases; the others read predictions."""
Family = Literal["text", "video"]
ANY_FAMILY: tuple[Family, ...] = ("text", "video")
CLIP_FAMILY: tuple[Family, ...] = ("video",)
Role = Literal["cause", "symptom"]
Grade = Literal["broken", "weak", "note"]
_SMALLEST_RATE, _LARGEST_WEIGHT = 1e-7, 10.0


@dataclass(frozen=True)
class Facts:
    """What is known of a run before its first step. Only the family's kind is needed; what is unknown stays out.

    Attributes:
        unigram, bigram, trigram, generator: references in nats per token, None when unknown.
        planned_lr_sum: Σ learning rate over all planned steps.
        term_ranges: lowest and highest value of each term, infinite where it has no bound.
        hinges: terms that are rightly 0 without gradient.
        fault: code of the planted fault, or "".
        controls: values of the controls at the start, as far as known; remedies are computed from them and from later
            events.
        skipped: path and reason of each file of the data that was not read.
        data: what opening a text has counted: documents, duplicates, skipped_share (of the bytes), held_out_compared,
            held_out_equal, held_out_near, unknown_share, held_out_unknown_share, characters_per_token.
        family: what the model makes, by which the rules are chosen.
        settings: values that only a new run can change, as far as known: a remedy that would change nothing is not
            offered.
        starts_level: the model is made so that untrained it prefers no token: its first loss is about ½ above ln V. One
            of the other form first repeats what it reads, at 7 to 25 nats by width.
        steps_per_pass: updates in which all training data come once; 0 when unknown.
    """

    kind: str
    vocab_size: int = 0
    width: int = 0
    blocks: int = 0
    unigram: float | None = None
    bigram: float | None = None
    trigram: float | None = None
    generator: float | None = None
    planned_lr_sum: float = 0.0
    term_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    hinges: frozenset[str] = frozenset()
    accumulation: int = 1
    fault: str = ""
    controls: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    data: Mapping[str, float] = field(default_factory=dict)
    family: Family = "text"
    settings: Mapping[str, Any] = field(default_factory=dict)
    starts_level: bool = False
    steps_per_pass: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """One finding: `id` is the rule's name, with the term behind a colon where a rule judges terms.

    A resolved verdict keeps its title and numbers and has no remedies, nor has a symptom whose cause is active.

    Attributes:
        evidence: numbers, figure, raised_at, role, grade; of a symptom causes, ruled_out, open, not_measured
            (`qcore.detect.causes`); moving, shown_at, resolved where they are so.
        last_step: the newest measurement that showed it.
    """

    id: str
    name: str
    since_step: int
    last_step: int
    state: str
    evidence: dict[str, Any]
    title: str
    explanation: str
    remedies: list[dict[str, Any]]


@dataclass(frozen=True)
class Report:
    """What a rule has to show: a title with its numbers, numbers and chart of the evidence, remedies."""

    title: str
    numbers: list[dict[str, Any]]
    figure: dict[str, Any] | None
    remedies: list[dict[str, Any]]


class AtLeast(float):
    """A limit that healthy values lie above. Any other limit is one that they lie below."""


def room_of(facts: Facts) -> float | None:
    """Nats that the context can give at least: from token frequencies down to the best that is known to be possible, a
    table of pairs or of triples, or the text's own generator; None where that is not known.
    """
    best = [one for one in (facts.bigram, facts.trigram, facts.generator) if one is not None]
    return None if facts.unigram is None or not best else max(0.0, facts.unigram - min(best))


def side_of(limit: float) -> str:
    """On which side of a limit a healthy value lies, in words."""
    if not isinstance(limit, AtLeast):
        return "at most"
    return "at least" if limit else "above"


def number(label: str, value: float, unit: str = "", limit: float | None = None) -> dict[str, Any]:
    """One number of the evidence, with the limit it is held against and the side on which it should be."""
    held = {"limit": None, "side": ""} if limit is None else {"limit": float(limit), "side": side_of(limit)}
    return {"label": label, "value": float(value), "unit": unit, **held}


def known_numbers(*numbers: tuple[str, float | None, str, float | None]) -> list[dict[str, Any]]:
    """The numbers (label, value, unit, limit) whose value is known."""
    return [number(label, value, unit, limit) for label, value, unit, limit in numbers if value is not None]


def rounded_text(value: float, places: int = 2, *, signed: bool = False) -> str:
    """A number for a title, with so many decimals."""
    return number_words(value, places=places, signed=signed)


def remedy(label: str, why: str, kind: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One remedy as a command: kind is set, restore, pause, stop or new_run; `changes` maps controls to values."""
    return {"label": label, "why": why, "kind": kind, "changes": dict(changes or {})}


def without_fault(facts: Facts) -> list[dict[str, Any]]:
    """A new run without the planted fault; none when nothing was planted."""
    if not facts.fault:
        return []
    why = f"The fault {facts.fault} was planted in this run; the same run without it shows the difference."
    return [remedy("Start the same run without the fault", why, "new_run", {"fault": ""})]


def pause(why: str) -> dict[str, Any]:
    """Hold the run where it is."""
    return remedy("Pause the run", why, "pause")


def stop(why: str) -> dict[str, Any]:
    """End the run; it can be resumed."""
    return remedy("Stop the run", why, "stop")


def term_control(term: str) -> str:
    """The control that switches a term."""
    return term if term == "label_smoothing" else f"{term}_weight"


def set_weight(term: str, value: float, why: str) -> dict[str, Any]:
    """Give a term another weight, rounded to two digits and kept in the control's range."""
    control = term_control(term)
    value = float(f"{min(max(value, 0.0), 0.5 if term == 'label_smoothing' else _LARGEST_WEIGHT):.2g}")
    label = f"Switch {term} off" if value == 0 else f"Set {control} to {number_words(value)}"
    return remedy(label, why, "set", {control: value})


def restore(control: str, value: float, since: int, why: str) -> dict[str, Any]:
    """Put the weights of before step `since` back and give the run another learning rate."""
    found = set_rate(control, value, why)
    label = f"Put the weights of before step {since:,} back, with {control} {number_words(found['changes'][control])}"
    return {**found, "label": label, "kind": "restore"}


def set_rate(control: str, value: float, why: str) -> dict[str, Any]:
    """Give the run another learning rate, rounded to two digits and kept in the control's range."""
    value = float(f"{min(max(value, _SMALLEST_RATE), 1.0):.2g}")
    return remedy(f"Set {control} to {number_words(value)}", why, "set", {control: value})
