"""One SQLite database a run: telemetry, commands, events, generations, findings and status.

A `RunWriter` owns the one thread that writes telemetry; `Inbox` is the door for everyone else (short transactions);
the training loop polls a `CommandReader`; pages and the CLI read through `RunReader`, which never writes.
Scalars are stored as column-major blocks, so that a million points are read in milliseconds and bit for bit.
"""

from qcore.store.errors import (
    BAD_DATA,
    DamagedRunError,
    StoreAccessError,
    StoreBusyError,
    StoreError,
    StoreFormatError,
    StoreTimeoutError,
    store_errors,
)
from qcore.store.inbox import CommandReader, Inbox
from qcore.store.reader import RunReader, TailCursor
from qcore.store.records import Command, Event, Finding, Generation, LogLine, Status
from qcore.store.schema import (
    APPLICATION_ID,
    DATABASE_NAME,
    OWN_META,
    SCHEMA_VERSION,
    copy_database,
)
from qcore.store.series import Series
from qcore.store.writer import RunWriter, WriterReplacedError

__all__ = [
    "APPLICATION_ID",
    "BAD_DATA",
    "DATABASE_NAME",
    "OWN_META",
    "SCHEMA_VERSION",
    "Command",
    "CommandReader",
    "DamagedRunError",
    "Event",
    "Finding",
    "Generation",
    "Inbox",
    "LogLine",
    "RunReader",
    "RunWriter",
    "Series",
    "Status",
    "StoreAccessError",
    "StoreBusyError",
    "StoreError",
    "StoreFormatError",
    "StoreTimeoutError",
    "TailCursor",
    "WriterReplacedError",
    "copy_database",
    "store_errors",
]
