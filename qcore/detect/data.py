"""Rules about the data, known before the first step and final: what was left out, what comes twice, what stands on both
sides of the split, and words that the vocabulary does not know.

Each looks once, at step 0, at the facts that opening the data has counted.
"""

from __future__ import annotations

from collections.abc import Callable

from qcore.base.words import percent_words
from qcore.detect.finding import Report, known_numbers, number, pause, remedy, rounded_text
from qcore.detect.rule import Limits, Memory, RuleContext, Signal, signal_of, update_latch

_NEW = "new_run"


def _report_once(seen: RuleContext, memory: Memory, bad: bool, report: Callable[[], Report]) -> list[Signal]:
    if seen.step > 0 or not bad:
        return []
    store = memory.setdefault("all", {})
    update_latch(store, "data", seen.step, True)
    return signal_of(store, report)


def _data_fact(seen: RuleContext, name: str) -> float:
    return float(seen.facts.data.get(name, 0.0))


def skipped_files(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Files that were not used: of videos any, of text a share of the bytes that counts."""
    files, share = seen.facts.skipped, _data_fact(seen, "skipped_share")
    bad = share > limits["share"] if seen.facts.family == "text" else len(files) > limits["files"]

    def report() -> Report:
        path, reason = files[0]
        others = f" and {len(files) - 1} more" if len(files) > 1 else ""
        numbers = [number("files left out", len(files), "files", limits["files"])]
        if seen.facts.family == "text":
            numbers.append(number("share of the bytes left out", share, "", limits["share"]))
        bytes_out = f", {percent_words(share)} of the bytes" if seen.facts.family == "text" else ""
        why = "The run continues with the other files; repair or remove these and start a new one."
        return Report(f"{len(files)} left out{bytes_out}: {path}{others} ({reason})", numbers, None, [pause(why)])

    return _report_once(seen, memory, bool(files) and bad, report)


def repeated_documents(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Many documents are copies of others."""
    count, total = _data_fact(seen, "duplicates"), _data_fact(seen, "documents")
    share = count / max(1.0, total)

    def report() -> Report:
        numbers = known_numbers(
            ("documents that repeat another", count, "documents", None),
            ("documents", total, "documents", None),
            ("share", share, "", limits["share"]),
        )
        title = (
            f"{rounded_text(count, 0)} of {rounded_text(total, 0)} documents ({percent_words(share)}) are copies of "
            "others"
        )
        why = "Copies are memorised and count every time they occur; remove them and start a new run."
        return Report(title, numbers, None, [pause(why)])

    return _report_once(seen, memory, share > limits["share"] and count >= limits["documents"], report)


def held_out_in_training(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Documents of the held-out side stand in training, whole or nearly."""
    equal, near = _data_fact(seen, "held_out_equal"), _data_fact(seen, "held_out_near")
    compared, count = _data_fact(seen, "held_out_compared"), equal + near
    share = count / max(1.0, compared)

    def report() -> Report:
        numbers = known_numbers(
            ("held-out documents that stand in training", count, "documents", None),
            ("of them equal", equal, "documents", None),
            ("held-out documents compared", compared, "documents", None),
            ("share", share, "", limits["share"]),
        )
        many_of = f"{rounded_text(count, 0)} of {rounded_text(compared, 0)} held-out documents ({percent_words(share)})"
        title = f"{many_of} stand in training, {rounded_text(equal, 0)} whole"
        why = "The held-out loss then measures memorisation; remove the copies, or hold out other text, in a new run."
        return Report(title, numbers, None, [pause(why)])

    return _report_once(seen, memory, _documents_in_training(seen, limits), report)


def _documents_in_training(seen: RuleContext, limits: Limits) -> bool:
    """Whether many held-out documents, or nearly all of a few, stand in training."""
    count = _data_fact(seen, "held_out_equal") + _data_fact(seen, "held_out_near")
    share = count / max(1.0, _data_fact(seen, "held_out_compared"))
    many = share > limits["share"] and count >= limits["documents"]
    return many or (share > limits["nearly_all"] and count > 1)


def held_out_contained(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Held-out text stands in training piece by piece, in no single document by much."""
    share, runs = _data_fact(seen, "contained_share"), _data_fact(seen, "long_runs")
    contained = share > limits["contained"] and runs >= limits["runs"]

    def report() -> Report:
        numbers = known_numbers(
            ("held-out text that stands in training", share, "", limits["contained"]),
            ("long runs looked for", runs, "runs", None),
            ("held-out text that stands in many documents", _data_fact(seen, "boilerplate_share"), "", None),
        )
        title = f"{percent_words(share)} of the held-out text stands in training, word for word, piece by piece"
        why = (
            "The held-out loss then measures memorisation; cut documents that do not overlap, or hold out other text, "
            "in a new run."
        )
        return Report(title, numbers, None, [pause(why)])

    return _report_once(seen, memory, contained and not _documents_in_training(seen, limits), report)


def _is_spaceless(seen: RuleContext, limits: Limits) -> bool:
    """Whether a vocabulary of words meets a script that has no spaces, and fails."""
    fails = _data_fact(seen, "held_out_unknown_share") > limits["unknown"]
    return bool(_data_fact(seen, "by_words")) and fails and _data_fact(seen, "spaceless_share") > limits["spaceless"]


def language_without_spaces(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Whole sentences are taken for words, since no spaces stand between words."""
    spaceless, share = _data_fact(seen, "spaceless_share"), _data_fact(seen, "held_out_unknown_share")

    def report() -> Report:
        numbers = known_numbers(
            ("characters of scripts without spaces", spaceless, "", limits["spaceless"]),
            ("share of <unk> in held-out text", share, "", limits["unknown"]),
            ("characters per token", seen.facts.data.get("characters_per_token"), "characters", None),
        )
        title = (
            f"{percent_words(spaceless)} of the text is written without spaces between words: {percent_words(share)} "
            "of the tokens are <unk>"
        )
        why = "Byte-level pieces represent any text and need no spaces."
        fixes = [remedy("Start the same run with byte-level BPE", why, _NEW, {"tokenizer": "bpe"})]
        return Report(title, numbers, None, fixes)

    return _report_once(seen, memory, _is_spaceless(seen, limits), report)


_WRAPPINGS = {
    "tags": "are tags in angle brackets",
    "json": "are JSON objects around one text",
    "base64": "are base64, not text",
    "binary": "are control characters or bytes that could not be read, not text",
}


def not_prose(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Much of the text is what a text was wrapped in."""
    shares = {kind: _data_fact(seen, f"{kind}_share") for kind in _WRAPPINGS}
    over = {kind: share / limits[kind] for kind, share in shares.items()}
    most = max(over, key=lambda kind: over[kind])

    def report() -> Report:
        labels = {"tags": "tags", "json": "JSON around one text", "base64": "base64", "binary": "no text"}
        numbers = [number(f"share that is {labels[kind]}", shares[kind], "", limits[kind]) for kind in _WRAPPINGS]
        title = f"{percent_words(shares[most])} of the characters looked at {_WRAPPINGS[most]}"
        why = (
            "The model learns what it is given: if the text alone was meant, take it out of there and start a new run."
        )
        return Report(title, numbers, None, [pause(why)])

    return _report_once(seen, memory, over[most] > 1, report)


def unknown_tokens(seen: RuleContext, limits: Limits, memory: Memory) -> list[Signal]:
    """Much of the held-out text is the unknown token, as in languages without spaces."""
    share, train = _data_fact(seen, "held_out_unknown_share"), _data_fact(seen, "unknown_share")
    letters = seen.facts.data.get("characters_per_token")

    def report() -> Report:
        numbers = known_numbers(
            ("share of <unk> in held-out text", share, "", limits["share"]),
            ("share of <unk> in training", train, "", None),
            ("characters per token", letters, "characters", None),
        )
        title = f"{percent_words(share)} of the held-out tokens are <unk>: the vocabulary does not fit this text"
        why = "Byte-level pieces can represent any text, even without spaces between words."
        fixes = [remedy("Start the same run with byte-level BPE", why, _NEW, {"tokenizer": "bpe"})]
        return Report(title, numbers, None, fixes)

    return _report_once(seen, memory, share > limits["share"] and not _is_spaceless(seen, limits), report)
