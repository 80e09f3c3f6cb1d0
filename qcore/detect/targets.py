"""Rules about what a language model is trained on: which token a target is, which tokens are targets, and which rows an
update gets.

The target at a position is the input at the next one: exact for every text. Where that is broken, the broken targets
say what was done to them, and only one of the rules speaks: the token itself is `unshifted_labels`, another lag
`label_lag`, an input that is its own answer `answers_in_inputs`, and the rest `foreign_targets`. Which tokens count,
and whether ends do, is judged only where targets are the next tokens.
"""

from __future__ import annotations

from qcore.base.words import percent_words
from qcore.detect.finding import AtLeast, Report, known_numbers, number, remedy, rounded_text, stop, without_fault
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, signal_of, update_latch
from qcore.probes import catalog

_WRONG, _AGREES = 0.002, 0.9
IDENTITY = {"wrong": _WRONG, "agrees": _AGREES}
"""Share of the targets that may differ from the next token (healthy: exactly 0), and share of the wrong ones that must
agree with an explanation."""


def broken_by(seen: RuleContext, limits: Limits) -> str:
    """What the wrong targets of the newest look are: "" where there are none, else lag, shown, other or unknown."""
    latest = seen.latest
    wrong, lag_share = latest.get(catalog.LABELS_WRONG, 0.0), latest.get(catalog.LABELS_LAG_SHARE)
    if wrong <= limits["wrong"] or lag_share is None:
        return ""
    if lag_share >= limits["agrees"]:
        return "lag"
    if latest.get(catalog.LABELS_SHOWN, 0.0) >= limits["agrees"]:
        return "shown"
    return "other" if wrong > 1 - limits["agrees"] else "unknown"


def wrong_numbers(seen: RuleContext, limits: Limits) -> list[dict[str, object]]:
    """Evidence that all of these rules share."""
    latest = seen.latest
    return known_numbers(
        ("targets that are not the next token", latest.get(catalog.LABELS_WRONG), "", limits["wrong"]),
        ("lag of the wrong ones", latest.get(catalog.LABELS_LAG), "positions", None),
        ("wrong ones at that lag", latest.get(catalog.LABELS_LAG_SHARE), "", None),
    )


def shift_remedies(seen: RuleContext, why: str) -> list[dict[str, object]]:
    """Put the shift right where a control has it wrong; else the run without a fault, or none."""
    fixes = without_fault(seen.facts)
    if seen.controls.get("label_shift", 1) != 1:
        fixes = [remedy("Set label_shift to 1", why, "set", {"label_shift": 1}), *fixes]
    return [*fixes, stop(why)]


def label_lag(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Targets stand in the input at another distance than 1 and 0."""
    if catalog.LABELS_WRONG not in seen.values:
        return []
    store = memory.setdefault("all", {})
    lag = seen.latest.get(catalog.LABELS_LAG, 1.0)
    update_latch(store, "lag", seen.step, broken_by(seen, limits) == "lag" and lag != 0, clear_after=1)

    def report() -> Report:
        wrong, lag = seen.latest.get(catalog.LABELS_WRONG, 0.0), seen.latest.get(catalog.LABELS_LAG, 1.0)
        where = f"{lag:.0f} places ahead, not 1" if lag > 0 else f"{-lag:.0f} place behind the input, not 1 ahead"
        why = "The model is asked for a token that does not come next, and what it writes skips the one that does."
        title = f"{percent_words(wrong)} of the targets are the token {where}"
        return Report(title, wrong_numbers(seen, limits), None, shift_remedies(seen, why))

    return signal_of(store, report)


def answers_in_inputs(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Inputs were replaced by their own targets."""
    if catalog.LABELS_WRONG not in seen.values:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "shown", seen.step, broken_by(seen, limits) == "shown", clear_after=1)

    def report() -> Report:
        latest = seen.latest
        wrong, shown = latest.get(catalog.LABELS_WRONG, 0.0), latest.get(catalog.LABELS_SHOWN)
        title = f"About {percent_words(wrong)} of the inputs are the token that the model is asked for there"
        numbers = [
            *wrong_numbers(seen, limits),
            *known_numbers(("wrong ones whose next input is its own target", shown, "", None)),
        ]
        why = "What is read off the input is not predicted; no metric of this run can be trusted."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def foreign_targets(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The targets are of another row, or of nothing that the row holds."""
    if catalog.LABELS_WRONG not in seen.values:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "foreign", seen.step, broken_by(seen, limits) == "other", clear_after=1)

    def report() -> Report:
        latest = seen.latest
        wrong, other = latest.get(catalog.LABELS_WRONG, 0.0), latest.get(catalog.LABELS_OTHER_ROW, 0.0)
        title = (
            f"{percent_words(other)} of the rows have the targets of another row of their step"
            if other > limits["rows"]
            else f"{percent_words(wrong)} of the targets are not the next token, nor any near it"
        )
        numbers = [
            *wrong_numbers(seen, limits),
            *known_numbers(("rows whose targets continue another row", other, "", limits["rows"])),
        ]
        why = "Inputs and targets do not belong together: the model can learn token frequencies at best."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def few_targets(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Few of the real tokens are targets, some positions never are, or the loss does not read those that are."""
    values = seen.values
    trained, covered = values.get(catalog.LABELS_TRAINED), values.get(catalog.LABELS_COVERED)
    if trained is None or covered is None:
        return []
    store = memory.setdefault("all", {})
    shifted = seen.latest.get(catalog.LABELS_WRONG, 0.0) > limits["wrong"]
    unread = seen.latest.get(catalog.LABELS_WITHOUT_GRADIENT, 0.0)
    few = trained < limits["trained"] or covered < limits["covered"]
    update_latch(store, "targets", seen.step, few and not shifted, clear_after=1)
    update_latch(store, "gradient", seen.step, unread > limits["unread"], clear_after=1)

    def report() -> Report:
        latest = seen.latest
        trained, covered = latest.get(catalog.LABELS_TRAINED, 1.0), latest.get(catalog.LABELS_COVERED, 1.0)
        first, last = latest.get(catalog.LABELS_FIRST, 0.0), latest.get(catalog.LABELS_LAST, 1.0)
        unread = latest.get(catalog.LABELS_WITHOUT_GRADIENT, 0.0)
        where = f", all between {percent_words(first)} and {percent_words(last)} of a row"
        title = (
            f"The loss does not read {percent_words(unread)} of the targets: they have no gradient"
            if unread > limits["unread"]
            else f"{percent_words(trained)} of the real tokens are targets{where if covered < 1 else ''}"
        )
        numbers = known_numbers(
            ("real tokens that are targets", trained, "", AtLeast(limits["trained"])),
            ("positions of a row that have targets", covered, "", AtLeast(limits["covered"])),
            ("targets without a gradient", unread, "", limits["unread"]),
        )
        why = "What is never a target is never learned, and each step costs as much as if all of it were."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def end_never_target(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Texts end within the rows, and their end is not a target, as when padding is the end token and is masked."""
    values, latest = seen.values, seen.latest
    ends, targets = values.get(catalog.LABELS_ENDS), values.get(catalog.LABELS_END_TARGETS)
    if ends is None or targets is None or latest.get(catalog.LABELS_WRONG, 0.0) > limits["wrong"]:
        return []
    store = memory.setdefault("all", {})
    expected = ends * latest.get(catalog.LABELS_TRAINED, 1.0)
    bad = None if expected < limits["ends"] else targets < limits["share"] * expected
    update_latch(store, "end", seen.step, bad, clear_after=1)

    def report() -> Report:
        ends, targets = latest.get(catalog.LABELS_ENDS, 0.0), latest.get(catalog.LABELS_END_TARGETS, 0.0)
        title = (
            f"{rounded_text(ends, 0)} texts end in the rows looked at, and the end is a target "
            f"{rounded_text(targets, 0)} times"
        )
        numbers = [
            number("ends of a text in the inputs", ends, "texts", None),
            number("ends among the targets", targets, "targets", AtLeast(limits["share"] * ends)),
        ]
        why = "A model that is never asked for the end of a text writes on until it is cut off."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def repeated_batches(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Rows come again although the text has others."""
    values = seen.values
    distinct, possible = values.get(catalog.BATCHES_DISTINCT), values.get(catalog.BATCHES_POSSIBLE)
    if distinct is None or possible is None:
        return []
    store = memory.setdefault("all", {})
    bad = None if possible < limits["possible"] else distinct < limits["share"] * possible
    update_latch(store, "rows", seen.step, bad, clear_after=1)

    def report() -> Report:
        latest = seen.latest
        rows, distinct = latest.get(catalog.BATCHES_ROWS, 0.0), latest.get(catalog.BATCHES_DISTINCT, 0.0)
        possible, within = latest.get(catalog.BATCHES_POSSIBLE, 0.0), latest.get(catalog.BATCHES_DISTINCT_IN_UPDATE)
        inside = within is not None and within < limits["share"]
        where = "within a step" if inside else "from step to step"
        title = (
            f"{rounded_text(rows, 0)} rows of the steps looked at are {rounded_text(distinct, 0)} different ones: they "
            f"come again {where}, and the text has more"
        )
        numbers = known_numbers(
            ("different rows", distinct, "rows", AtLeast(limits["share"] * possible)),
            ("rows looked at", rows, "rows", None),
            ("different rows that the text would give", possible, "rows", None),
            ("different rows within a step", within, "", None),
        )
        why = "The few rows are memorised, and the rest of the text is never seen."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)


def neighbouring_batches(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """The rows of a step lie side by side in the text."""
    values = seen.values
    spread, continued = values.get(catalog.BATCHES_SPREAD), values.get(catalog.BATCHES_CONTINUED)
    if spread is None and continued is None:
        return []
    store = memory.setdefault("all", {})
    possible, distinct = (seen.latest.get(name, 0.0) for name in (catalog.BATCHES_POSSIBLE, catalog.BATCHES_DISTINCT))
    # the same few rows stand at a few places: that has a rule of its own
    known = possible >= limits["possible"] and distinct >= limits["repeated"] * possible
    near = spread is not None and spread < limits["spread"]
    in_order = continued is not None and continued > limits["continued"]
    update_latch(store, "order", seen.step, known and (near or in_order), clear_after=1)

    def report() -> Report:
        spread, continued = seen.latest.get(catalog.BATCHES_SPREAD), seen.latest.get(catalog.BATCHES_CONTINUED)
        title = (
            f"{percent_words(continued)} of the rows of a step begin where the row before them ends: the text is read "
            "in order"
            if continued is not None and continued > limits["continued"]
            else f"The rows of a step lie {percent_words(spread or 0.0)} as far apart in the text as random ones would"
        )
        numbers = known_numbers(
            ("spread of a step's rows ÷ that of random ones", spread, "", AtLeast(limits["spread"])),
            ("rows that continue the one before, beyond chance", continued, "", limits["continued"]),
        )
        why = "Each step then learns one place of the text and forgets it at the next: shuffle the rows."
        return Report(title, numbers, None, [*without_fault(seen.facts), stop(why)])

    return signal_of(store, report)
