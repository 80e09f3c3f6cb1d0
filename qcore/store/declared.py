"""Which shape each JSON field of a record, each kind of event or command, and each meta value has."""

from __future__ import annotations

from typing import Any

from qcore.store.shapes import (
    Shape,
    ShapeError,
    anything,
    count,
    finite,
    integer,
    many,
    moment,
    named,
    number,
    optional,
    pair,
    positive,
    record,
    refuse,
    seconds,
    setting,
    text,
    truth,
)

MAX_NAMES = 10_000
"""Most series of one row: a block of 4,096 such rows is the largest value that a database may hold."""
_CHANGES = named(setting)
_STEPS = many(integer)

EVENTS: dict[str, Shape] = {
    "control": record({"name": text, "old": setting, "new": setting}, {"reason": text}),
    "grow": record({"old": named(setting), "new": named(setting), "model": named(anything)}),
    "restore": record({"from_step": count}, {"reason": text}),
    "start": record(None, {"from_step": count}),
    "resume": record(None, {"from_step": count}),
    "pause": record(None, {"reason": text}),
    "checkpoint": record(None, {"step": count, "reason": text}),
    "failed": record({"message": text, "terms": anything, "at_step": integer}),
    "rewind": record({"from_step": count, "to_step": count}, {"branch": text}),
    "fork": record(None, {"parent": text, "changes": _CHANGES}),
    "mute": record({"finding": text, "muted": truth}),
    "acknowledge": record({"finding": text}),
}
"""Payloads by kind of event; those of other kinds are shown as they are."""

COMMANDS: dict[str, Shape] = {
    "mute": EVENTS["mute"],
    "acknowledge": EVENTS["acknowledge"],
}
"""Payloads of commands that are read again later; the trainer checks those of all kinds when it takes them."""

_SETTINGS = record(
    None, {"sample_seed": setting, "temperature": finite, "sample_noise_correlation": finite}, rest=setting
)
_STATISTICS = record(None, {"error": text, "seconds": seconds}, rest=number)
_LABELLED = record(
    {"label": text, "probability": number, "rank": integer, "entropy": number, "top": many(pair(text, number))},
    {"id": count, "logprob": number, "chosen_probability": number},
)
_CLIP = record({"shape": many(count), "pixels": text})


def token(value: Any, where: str) -> None:
    """One token of a text, or one clip."""
    (_CLIP if isinstance(value, dict) and "pixels" in value else _LABELLED)(value, where)


def _lines(value: Any, where: str) -> None:
    record({"name": text, "steps": _STEPS, "values": many(optional(number))})(value, where)
    if len(value["steps"]) != len(value["values"]):
        raise ShapeError(f"{where} has {len(value['steps'])} steps and {len(value['values'])} values")


_HELD = {"unit": optional(text), "limit": optional(number), "side": optional(text)}
_OVER = record(
    None,
    {
        "step": optional(integer),
        "was": optional(text),
        "change": optional(record({"name": text, "old": setting, "new": setting, "step": integer})),
    },
)
_NUMBERS = many(record({"label": text, "value": optional(number)}, _HELD))
_AGAINST = optional(many(record({"title": text, "label": text, "value": optional(number), "step": integer}, _HELD)))
_EVIDENCE = record(
    None,
    {
        "numbers": optional(_NUMBERS),
        "figure": optional(
            record(
                None,
                {
                    "title": optional(text),
                    "y_title": optional(text),
                    "limit": optional(number),
                    "side": optional(text),
                    "lines": optional(many(_lines)),
                },
            )
        ),
        "raised_at": integer,
        "shown_at": integer,
        "moving": truth,
        "resolved": optional(_OVER),
        "role": optional(text),
        "grade": optional(text),
        "causes": optional(many(record({"id": text, "title": text, "active": truth}))),
        "ruled_out": _AGAINST,
        "open": _AGAINST,
        "not_measured": optional(many(record({"title": text, "label": text, "series": text}))),
        "now": optional(record({"step": integer, "numbers": _NUMBERS})),
    },
)
_REMEDY = record({"label": text, "kind": text}, {"why": optional(text), "changes": optional(_CHANGES)})
_EXTRA = record(
    None,
    {
        "seconds_left": optional(seconds),
        "seconds_trained": optional(seconds),
        "memory_mb": optional(finite),
        "tokens_per_second": optional(finite),
        "frames_per_second": optional(finite),
        "cause": text,
    },
    rest=optional(number),
)

FIELDS: dict[tuple[str, str], Shape] = {
    ("commands", "payload"): named(),
    ("events", "payload"): named(),
    ("generations", "settings"): _SETTINGS,
    ("generations", "tokens"): many(token),
    ("generations", "stats"): _STATISTICS,
    ("findings", "evidence"): _EVIDENCE,
    ("findings", "remedies"): many(_REMEDY),
    ("status", "extra"): _EXTRA,
}
"""JSON fields by table and column."""

_LINEAGE = record(
    {"parent": text, "step": count, "parent_created": number, "forked": truth, "author": text},
    {"reason": text, "created": moment, "changes": _CHANGES, "config_changes": named(), "model_changes": named()},
)


def _imported(value: Any, where: str) -> None:
    record(None, {"name": text, "at": moment, "exported": moment, "program": text})(value, where)


_CONTROL = record(
    {"name": text, "value": setting},
    {
        "low": optional(number),
        "high": optional(number),
        "unit": text,
        "help": text,
        "choices": many(text),
        "scale": text,
    },
)
"""A control that a program of its own declares: name, the value it begins with, and what is known of it."""

META: dict[str, Shape] = {
    "schema_version": integer,
    "created": moment,
    "epoch": count,
    "rewinds": many(record({"step": integer}, {"event_seq": integer, "wall": moment})),
    "writer": text,
    "preset": text,
    "kind": text,
    "family": text,
    "corpus": text,
    "data_report": optional(many(text)),
    "data_warnings": optional(many(text)),
    "device": text,
    "precision": text,
    "torch_version": text,
    "parameters": count,
    "vocab_size": count,
    "tokens_per_step": count,
    "frames_per_step": count,
    "train_clips": count,
    "validation_clips": count,
    "bytes_per_token": positive,
    "references": optional(named(optional(number))),
    "data_frames": optional(named(number)),
    "special_tokens": optional(named(optional(integer))),
    "term_names": optional(many(text)),
    "module_names": optional(many(text)),
    "probe_names": optional(many(text)),
    "disabled_probes": optional(named(text)),
    "data_fingerprint": optional(text),
    "skipped_files": optional(many(record({"path": text, "reason": text}))),
    "skipped_count": optional(count),
    "clip": optional(named(number)),
    "lineage": optional(_LINEAGE),
    "catch_up": optional(count),
    "imported": optional(_imported),
    "declared_controls": optional(many(_CONTROL)),
}
"""Meta values by key; all others may be anything."""


def check_meta(values: dict[str, Any]) -> dict[str, Any]:
    """The same values.

    Raises:
        ShapeError: for one that has not its declared shape, or a missing one of the store's.
    """
    for key in ("created", "epoch", "rewinds"):
        if key not in values:
            raise ShapeError(f"meta lacks {key!r}")
    for key, value in values.items():
        META.get(key, anything)(value, f"meta.{key}")
    return values


def check_names(value: Any) -> list[str]:
    """The names of a layout's series, sorted, each once.

    Raises:
        ShapeError: when it is refused.
    """
    many(text)(value, "layouts.names")
    names: list[str] = value
    if len(names) > MAX_NAMES:
        raise ShapeError(f"layouts.names has {len(names):,} names: a row has at most {MAX_NAMES:,}")
    if not names or sorted(set(names)) != names:
        raise refuse("layouts.names", value, "sorted names of series, each once")
    return names
