"""The rows people and the trainer exchange, as small frozen dataclasses, and their way into and out of SQL.

A record's fields are its table's columns, in order; dict and list fields are stored as JSON text. Encoding happens in
the caller's thread and makes every value one that SQLite takes, so none can fail later in the writer thread; it does
not look into what is stored as JSON. Decoding does: every column and every JSON field has its declared type or is
refused, so none can fail later in a page.
"""

import functools
import json
import math
import operator
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, replace
from types import UnionType
from typing import Any, ClassVar, TypeVar, cast, get_args

import numpy as np

from qcore.base import parse_json
from qcore.base.documents import MAX_BYTES, MAX_VALUES
from qcore.base.run_states import KEPT
from qcore.store import shapes
from qcore.store.declared import COMMANDS, EVENTS, FIELDS

COMMAND_STATUSES = ("pending", "applied", "refused")
GENERATION_KINDS = ("prompt", "timeline")
GENERATION_STATUSES = ("running", "done", "failed")
FINDING_STATES = ("active", "resolved")
CONTROL, REFUSED = "control", "refused"
"""Kinds of events: a change of a control, and one that was kept and cannot be made."""
UNTOLD = "untold"
"""In the payload of a refused change that nobody has written down as such yet."""
MAX_TEXT = 16 * 2**20
_STEPS = ("step", "since_step", "last_step", "total_steps")
MAX_META = 4 * 2**20
"""Most bytes of a meta value, and of the figures of a status: both are read of every run whenever runs are listed."""


@dataclass(frozen=True)
class Command:
    """A request to change a run. `status` is pending, applied or refused; the last four fields tell its outcome."""

    TABLE: ClassVar[str] = "commands"
    id: int
    created: float
    author: str
    kind: str
    payload: dict[str, Any]
    idempotency_key: str | None = None
    status: str = "pending"
    step: int | None = None
    message: str = ""
    resolved: float | None = None


@dataclass(frozen=True)
class Event:
    """What really happened at a step. `seq` grows, given by the trainer; the same `seq` again replaces the row."""

    TABLE: ClassVar[str] = "events"
    seq: int
    step: int
    wall: float
    author: str
    kind: str
    payload: dict[str, Any]
    command_id: int | None = None


@dataclass(frozen=True)
class Generation:
    """One sampled text: asked for by a person ('prompt') or taken at a cadence ('timeline'); grows while it runs."""

    TABLE: ClassVar[str] = "generations"
    id: str
    step: int
    wall: float
    kind: str
    prompt: str
    settings: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    tokens: list[dict[str, Any]] = field(default_factory=list)
    stats: dict[str, Any] = field(default_factory=dict)
    status: str = "running"
    command_id: int | None = None

    def __post_init__(self) -> None:
        check_one_of("generation kind", self.kind, GENERATION_KINDS)
        check_one_of("generation status", self.status, GENERATION_STATUSES)


@dataclass(frozen=True)
class Finding:
    """A detector's verdict with its evidence and remedies; the same `id` again updates the row."""

    TABLE: ClassVar[str] = "findings"
    id: str
    name: str
    since_step: int
    last_step: int
    state: str
    evidence: dict[str, Any]
    title: str
    explanation: str
    remedies: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class LogLine:
    """One line of the run's log."""

    TABLE: ClassVar[str] = "log"
    id: int
    wall: float
    step: int
    level: str
    message: str


@dataclass(frozen=True)
class Status:
    """The run's one status row. `drops` is filled in by the writer; `heartbeat` is in epoch seconds."""

    TABLE: ClassVar[str] = "status"
    state: str
    step: int
    total_steps: int
    heartbeat: float
    pid: int
    host: str
    message: str = ""
    drops: int = 0
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_one_of("run state", self.state, KEPT)


Record = Command | Event | Generation | Finding | LogLine | Status
R = TypeVar("R", Command, Event, Generation, Finding, LogLine, Status)


def check_one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError when `value` is not one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{what} {value!r} is not one of {', '.join(allowed)}")


def column_list(kind: type[R]) -> str:
    """The record's columns in field order, for a SELECT or an INSERT."""
    return ", ".join(entry.name for entry in fields(kind))


def decode(kind: type[R], row: tuple[Any, ...]) -> R:
    """Build the record from a row selected with `columns(kind)`.

    Raises:
        ValueError: mostly a ShapeError, for a column or a JSON field that has not its declared type.
    """
    record = kind(*(read(value) for read, value in zip(_decoders(kind.TABLE), row, strict=True)))
    match record:
        case Event():
            try:
                EVENTS.get(record.kind, shapes.anything)(record.payload, f"events.payload of {record.seq}")
            except shapes.ShapeError as error:
                if record.kind != CONTROL:
                    raise
                return cast(Any, _refused_event(record, str(error)))
        case Command():
            COMMANDS.get(record.kind, shapes.anything)(record.payload, f"commands.payload of {record.id}")
            check_one_of("command status", record.status, COMMAND_STATUSES)
        case Finding():
            check_one_of("finding state", record.state, FINDING_STATES)
        case Status():
            shapes.count(record.step, "status.step")
            shapes.count(record.total_steps, "status.total_steps")
    return record


def _refused_event(event: Event, why: str) -> Event:
    """A change of a control that nobody can make again: the change is refused, not the run that keeps it."""
    name, new = event.payload.get("name"), repr(event.payload.get("new"))
    known = name if isinstance(name, str) else "unknown"
    payload = {"name": known, "old": None, "new": new[:80], "reason": why, UNTOLD: True}
    return replace(event, kind=REFUSED, payload=payload)


@functools.cache
def _decoders(table: str) -> tuple[Callable[[Any], Any], ...]:
    [kind] = [kind for kind in get_args(Record) if table == kind.TABLE]
    return tuple(_decoder(table, entry) for entry in fields(kind))


def _decoder(table: str, entry: "Field[Any]") -> Callable[[Any], Any]:
    where = f"{table}.{entry.name}"
    may_lack = isinstance(entry.type, UnionType)
    plain: Any = entry.type.__args__[0] if isinstance(entry.type, UnionType) else entry.type
    if plain in (int, float, str):
        check = {int: shapes.integer, float: shapes.moment, str: _short_text}[plain]
        check = shapes.step if entry.name in _STEPS else check

        def column(value: Any) -> Any:
            if value is not None or not may_lack:
                check(value, where)
            return value

        return column
    shape = FIELDS[(table, entry.name)]
    most = MAX_META if table == Status.TABLE else MAX_BYTES

    def document(value: Any) -> Any:
        found = from_json(value, where, most)
        shape(found, where)
        return found

    return document


def _short_text(value: Any, where: str) -> None:
    shapes.text(value, where)
    if len(value) > MAX_TEXT:
        raise shapes.ShapeError(f"{where} has {len(value):,} letters; at most {MAX_TEXT:,} are read")


def from_json(value: str, where: str, most: int = MAX_BYTES) -> Any:
    """The value of a JSON text of the database.

    Raises:
        DocumentError: for what is no JSON.
        ShapeError: for what is no text.
    """
    shapes.text(value, where)
    return parse_json(value, where, max_bytes=most, max_values=min(MAX_VALUES, most // 16))


def encode(record: Record) -> tuple[Any, ...]:
    """The record's values as SQL parameters. Raises ValueError naming the field when one cannot be stored."""
    return tuple(_encode_field(entry, getattr(record, entry.name)) for entry in fields(record))


def _encode_field(entry: "Field[Any]", value: Any) -> Any:
    if value is None and isinstance(entry.type, UnionType):
        return None
    return _encoder(entry.type)(entry.name, value)


def _encoder(kind: Any) -> Callable[[str, Any], Any]:
    if isinstance(kind, UnionType):
        kind = kind.__args__[0]
    return _ENCODERS.get(kind, to_json)


def upsert(kind: type[R], key: str) -> str:
    """INSERT of a whole record that replaces the row with the same `key` in place (its rowid stays)."""
    names = [entry.name for entry in fields(kind)]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name != key)
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {kind.TABLE} ({', '.join(names)}) VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {changes}"


def storable_text(name: str, value: Any) -> str:
    """`value` as text SQLite can hold: a lone surrogate (from bytes decoded carelessly) becomes "?"."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}: it must be text")
    return value.encode("utf-8", "replace").decode("utf-8")


def check_finite(name: str, value: Any) -> float:
    """`value` as a finite float.

    Raises:
        ValueError: for anything else.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}: it must be a finite number")
    return number


def to_json(name: str, value: Any) -> str:
    """JSON text of `value`; NumPy numbers become plain ones, NaN and infinities survive the round trip."""
    try:
        return json.dumps(value, separators=(",", ":"), default=_plain_number)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} cannot be stored as JSON: {error}") from error


def meta_json(key: str, value: Any) -> str:
    """JSON text of a meta value.

    Raises:
        ValueError: for one that nobody would read again, because it is too large.
    """
    found = to_json(key, value)
    if len(found) > MAX_META:
        raise ValueError(f"meta value {key!r} takes {len(found):,} bytes: {MAX_META:,} are read, store less")
    return found


def check_int64(name: str, value: Any) -> int:
    """`value` as an integer that SQLite can hold.

    Raises:
        ValueError: for anything else.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}: it must be an integer") from None
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} is {value}: it must fit into 64 bits")
    return number


def _plain_number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


_ENCODERS: dict[Any, Callable[[str, Any], Any]] = {int: check_int64, float: check_finite, str: storable_text}
PUT_EVENT = upsert(Event, "seq")
PUT_GENERATION = upsert(Generation, "id")
PUT_FINDING = upsert(Finding, "id")
PUT_STATUS = f"INSERT OR REPLACE INTO status (id, {column_list(Status)}) VALUES (1{', ?' * len(fields(Status))})"
