"""Rows of Parquet and Arrow files, and no more of them at a time than a memory holds.

Both keep a repeated cell once: some hundred kilobytes can be gigabytes of rows. A batch of rows is weighed as it lies
there, dictionaries unexpanded, before it becomes rows; a compressed Arrow buffer by the size that it says of itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qcore.config import DataError
from qcore.config.forms import Form
from qcore.config.places import plain_error, printable_path
from qcore.data.text.size_limits import Room

Reader = Callable[[Path, Form], bytes]
Row = tuple[str, Any]
_ROWS = 24
_WEIGHED_ROWS = 1024
_PACKED_MUCH, _LARGE_CHUNK = 8, 1 << 20
"""No cell is larger than its column's chunk: of chunks that are small, or packed as text is, a few rows are written out
before they are weighed, which is ten times as fast."""
_TEXTS = ("NONE", "UTF8", "JSON", "ENUM")
_COMPRESSED, _BUFFERS, _RECORDS = 3, 2, 3


def read_parquet_rows(path: Path, form: Form, read: Reader, wanted: str) -> Iterator[Row]:
    """(place, row) of a Parquet file; of the column wanted alone where there is one.

    Raises:
        DataError: when it is refused.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        raw = read(path, form) if form.packing else None
        with pq.ParquetFile(str(path) if raw is None else pa.BufferReader(raw)) as file:
            names = file.schema_arrow.names
            # one column of many: the others may be pictures
            needed = [name for name in (wanted, wanted.split(".")[0]) if name in names][:1]
            leaves = [file.schema.column(number) for number in range(len(file.schema))]
            packed = _is_highly_compressed(file.metadata)
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.converted_type in _TEXTS]
        # a dictionary may say one long text a million times in a few bytes: batches stay small enough to weigh before
        # they are written out
        rows = _WEIGHED_ROWS if packed else _ROWS
        room = Room(path)
        source = str(path) if raw is None else pa.BufferReader(raw)
        # opened again: only the footer tells whether columns must be read as dictionaries
        with pq.ParquetFile(source, read_dictionary=texts if packed else None) as file:
            for batch in file.iter_batches(batch_size=rows, columns=needed or None):
                for row in _rows(batch, room, plain=not packed):
                    yield f"row {number}", row
                    number += 1
    # all that a damaged file has been seen to raise in the library
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        raise _unreadable_error(path, "Parquet", number, error) from error


def read_arrow_rows(path: Path, form: Form, read: Reader) -> Iterator[Row]:
    """(place, row) of an Arrow file or stream.

    Raises:
        DataError: when it is refused.
    """
    import pyarrow as pa

    number = 0
    try:
        source = pa.BufferReader(read(path, form)) if form.packing else pa.OSFile(str(path))
        with source:
            begins = source.read(8)
            if begins.startswith(b"FEA1"):
                raise DataError(f"{printable_path(path)!r} is Feather of version 1: write it again as Parquet")
            # A file is a stream behind its mark; what its end repeats of it is not needed.
            start = 8 if begins.startswith(b"ARROW1") else 0
            source.seek(start)
            # before any buffer is unpacked: the sizes stand in front of the packed bytes
            _weigh(source, path)
            source.seek(start)
            room = Room(path)
            for batch in pa.ipc.open_stream(source):
                for row in _rows(batch, room):
                    yield f"row {number}", row
                    number += 1
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, IndexError, struct.error) as error:
        raise _unreadable_error(path, "Arrow", number, error) from error


def _is_highly_compressed(metadata: Any) -> bool:
    """Whether a column of a Parquet file is large, and packed to less than text packs to."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    return any(
        chunk.total_uncompressed_size > max(_LARGE_CHUNK, _PACKED_MUCH * chunk.total_compressed_size)
        for chunk in chunks
    )


def table_weight(table: Any) -> int:
    """Bytes of the values of a table or a batch when each is written out."""
    return sum(_weight(part) for column in table.columns for part in getattr(column, "chunks", [column]))


def _rows(batch: Any, room: Room, plain: bool = False) -> list[Any]:
    """The rows of a batch, written out, when there is room for them.

    Args:
        plain: nothing in it is kept once for several rows.
    """
    # offsets of a damaged file point outside of its buffers, and C++ would follow them
    batch.validate(full=True)
    room.take(batch.nbytes if plain else table_weight(batch))
    found: list[Any] = batch.to_pylist()
    return found


def _weight(array: Any) -> int:
    """Bytes of an array's values when each is written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    # written out, every row holds its own copy of the value that the dictionary holds once
    if pa.types.is_dictionary(kind):
        values = array.dictionary
        if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)) and not (
            pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
        ):
            return int(array.nbytes) + len(array) * _weight(values) // max(1, len(values))
        return int(pc.sum(pc.binary_length(values).take(array.indices)).as_py() or 0)
    if pa.types.is_map(kind):
        return 8 * len(array) + _weight(array.keys) + _weight(array.items)
    if pa.types.is_struct(kind):
        return sum(map(_weight, array.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return 8 * len(array) + _weight(array.flatten())
    return int(array.nbytes)


def _weigh(source: Any, path: Path) -> None:
    """Refuse a stream with a message whose buffers say that they unpack to too much: nothing is unpacked for it."""
    import pyarrow as pa

    messages = pa.ipc.MessageReader.open_stream(source)
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return
        if message.body is not None:
            Room(path).take(_unpacked_size(memoryview(message.metadata), memoryview(message.body)))


def _unpacked_size(head: memoryview, body: memoryview) -> int:
    """Bytes that the compressed buffers of a message unpack to; 0 for a message without any.

    The head is a flatbuffer `Message` (version, header type, header, …); a record batch, which a dictionary's message
    holds in its turn, has (length, nodes, buffers, compression), a buffer (offset, length); a compressed one begins
    with its size as int64.
    """

    def field(table: int, number: int) -> int:
        """Where a field of a table lies; 0 where it is left out."""
        fields = table - struct.unpack_from("<i", head, table)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", head, fields)[0]:
            return 0
        offset = struct.unpack_from("<H", head, fields + 4 + 2 * number)[0]
        return table + offset if offset else 0

    def target(place: int) -> int:
        return int(place + struct.unpack_from("<I", head, place)[0])

    message = target(0)
    kind_at, batch_at = field(message, 1), field(message, 2)
    if not kind_at or not batch_at:
        return 0
    kind, batch = head[kind_at], target(batch_at)
    if kind == 2:  # of a dictionary: (id, data)
        inner = field(batch, 1)
        if not inner:
            return 0
        batch = target(inner)
    elif kind != _RECORDS:
        return 0
    buffers_at = field(batch, _BUFFERS)
    if not field(batch, _COMPRESSED) or not buffers_at:
        return 0
    buffers, total = target(buffers_at), 0
    for number in range(struct.unpack_from("<I", head, buffers)[0]):
        offset, length = struct.unpack_from("<qq", head, buffers + 4 + 16 * number)
        if length >= 8:
            total += max(0, struct.unpack_from("<q", body, offset)[0])
    return total


def _unreadable_error(path: Path, kind: str, number: int, error: BaseException) -> DataError:
    if isinstance(error, DataError):
        return error
    reason = plain_error(error).split("\n")[0][:200]
    return DataError(
        f"{printable_path(path)!r}, after {number} rows: cannot be read as {kind} ({reason}): it is damaged or "
        "cut off; write "
        "it again"
    )
