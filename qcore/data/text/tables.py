"""Rows of table files as documents: JSON lines, JSON, CSV, Parquet, Arrow; the column, and what its cells become.

One reader for all that is local, so that an error can name the file, the line and the remedy. A cell that is missing
(or says so, as `NA` does in CSV) gives no document. A chat, a list of messages with `role` and `content` or with `from`
and `value`, is written out plainly: "role: what was said", a blank line between two.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from qcore.config import DataError, nearest_hint
from qcore.config.forms import TEXT_COLUMNS, Form
from qcore.config.places import printable_path
from qcore.data.text.columnar import Reader, Row, read_arrow_rows, read_parquet_rows
from qcore.data.text.decoding import decode
from qcore.data.text.documents import ARTICLE, articles
from qcore.data.text.size_limits import Room, check_room

_LOOKED_AT = 100
_CHATS = ("messages", "conversations", "conversation", "dialogue", "chat")
_MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA")
) | {"NULL", "NaN", "None", "n/a", "nan", "null"}
"""Cells that say that there is nothing, as the data-set library reads them, too."""
_DELIMITERS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bot": "assistant"}
_MESSAGE = frozenset(("role", "from", "content", "value"))
_MOST_FIELDS = 10_000
_LARGEST_CELL = 1 << 30
_DEFAULT = "text"


@dataclass(frozen=True)
class ColumnChoice:
    """The column a person asked for. With the default name, the only column that holds text will do as well."""

    name: str = _DEFAULT

    @property
    def by_default(self) -> bool:
        return self.name == _DEFAULT


@dataclass(frozen=True)
class Rows:
    """Documents of tables, what a person should know of their reading, and the bytes of the files that gave them."""

    documents: tuple[str, ...]
    notes: tuple[str, ...] = ()
    size: int = 0


def table_documents(
    files: Sequence[tuple[Path, Form, Reader]],
    column: ColumnChoice,
    leave_out: Callable[[Path, DataError], None] | None = None,
) -> Rows:
    """One column of some files, a document each row, in order.

    Args:
        leave_out: takes a file that cannot be read, none of whose rows are used then; without it, and where no file is
            left, that is an error.

    Raises:
        DataError: naming file, line and remedy.
    """
    texts: list[str] = []
    notes: list[str] = []
    missing = letters = size = 0
    unread: list[tuple[Path, DataError]] = []
    for path, form, read in files:
        try:
            found = _cells(path, form, read, column)
        except DataError as error:
            if leave_out is None:
                raise
            unread.append((path, error))
            continue
        # a thousand shards say the same of their column: once is enough
        notes += [note for note in found.notes if note not in notes]
        size += path.stat().st_size
        missing += found.missing
        letters += found.letters
        # before the texts are added: the sum is what the machine must hold, not the largest file
        check_room(letters, f"{printable_path(path)!r}, and the files before it,")
        texts += found.texts
    # nothing is left to train on, so the first reason is the answer; with others left it is a note
    if unread and len(unread) == len(files):
        raise unread[0][1]
    if leave_out is not None:
        for left, reason in unread:
            leave_out(left, reason)
    if missing:
        notes.append(f"{missing:,} rows have no text in that column and were skipped")
    if not any(text.strip() for text in texts):
        names = ", ".join(printable_path(path.name) for path, _, _ in files[:3])
        raise DataError(f"column {column.name!r} of {names} holds no text: every row is empty; choose another column")
    return Rows(joined_articles(texts), tuple(notes), size)


@dataclass
class _Cells:
    texts: list[str]
    notes: list[str]
    missing: int
    letters: int


def _cells(path: Path, form: Form, read: Reader, column: ColumnChoice) -> _Cells:
    """The texts of one file's column."""
    notes: list[str] = []
    rows = read_rows(path, form, read, notes, column.name)
    # the column is chosen by the first rows, and these are then read again from memory: a stream cannot be rewound
    beginning = list(islice(rows, _LOOKED_AT))
    if not beginning:
        raise DataError(f"{printable_path(path)!r} holds no rows: give a table with a column of text")
    sample = [row for _, row in beginning]
    chosen, note = choose_column(sample, column, printable_path(path))
    found = _Cells([], [*([note] if note else []), *notes], 0, 0)
    room = Room(path)
    for where, row in chain(beginning, rows):
        text = text_of(row, chosen, f"{printable_path(path)!r}, {where}", sample)
        if text is None:
            found.missing += 1
        else:
            room.take(len(text))
            found.texts.append(text)
    found.letters = room.taken
    return found


def joined_articles(rows: list[str]) -> tuple[str, ...]:
    """Rows as documents; rows that are the lines of a text in WikiText layout as its articles."""
    texts = [row.replace("\r\n", "\n").replace("\r", "\n") for row in rows]
    # one line like a title may be chance; two are the layout
    titles = sum(ARTICLE.fullmatch(row.strip("\n")) is not None for row in texts)
    return tuple(articles("\n".join(row.strip("\n") for row in texts)) if titles > 1 else texts)


# the column


def choose_column(rows: list[Any], column: ColumnChoice, name: str) -> tuple[tuple[str, ...], str]:
    """The path to the text in the rows of `name`, and a note where it is not the column asked for.

    A row that is a text itself has the empty path.

    Raises:
        DataError: that lists the columns that would do.
    """
    if any(isinstance(row, str) for row in rows):
        return (), ""
    names = list(dict.fromkeys(key for row in rows for key in row))
    asked: tuple[tuple[str, ...], ...] = ((column.name,), tuple(column.name.split(".")))
    # a column whose name has a dot goes before the field inside a column
    for path in asked:
        if any(_has_path(row, path) for row in rows):
            return path, ""
    usable = usable_columns(rows)
    # a name that a person wrote is taken at its word; only the default may be replaced by a guess
    if column.by_default and usable:
        chats = [found for found in usable if found[-1] in _CHATS and is_chat(_first_value(rows, found))]
        flat = [found for found in usable if len(found) == 1 and found not in chats]
        named = [found for found in usable if found[-1].lower() == _DEFAULT]
        # from the likeliest on: a column named like the default, chats, texts at the top level, texts anywhere. Two of
        # a kind are no answer: a person must choose
        for group in (named, chats, flat, usable):
            if len(group) == 1:
                held = "a chat, written out as “role: text”" if group[0] in chats else "text"
                return group[0], f"column {'.'.join(group[0])!r} was read: it is the one that holds {held}"
        known = [found for found in flat if found[-1].lower() in TEXT_COLUMNS]
        if len(known) == 1:
            return known[0], f"column {known[0][0]!r} was read, of {', '.join('.'.join(found) for found in flat)}"
    offered = ", ".join(repr(".".join(found)) for found in usable)
    remedy = f"set data.text_column to {offered}" if offered else "none of them holds text; give another file"
    columns = ", ".join(map(repr, map(str, names[:20]))) or "none"
    hint = nearest_hint(column.name, [".".join(found) for found in usable])
    raise DataError(f"{name!r} has no column {column.name!r}{hint}; its columns are {columns}: {remedy}")


def usable_columns(rows: list[Any]) -> list[tuple[str, ...]]:
    """Paths to texts and chats in rows, one level deep, in the order of the columns."""
    found: dict[tuple[str, ...], bool] = {}
    said: set[tuple[str, ...]] = set()
    for row in rows:
        for key, value in row.items():
            inner = value.items() if isinstance(value, dict) else ()
            for path, part in (((str(key),), value), *(((str(key), str(deep)), one) for deep, one in inner)):
                # an empty cell says nothing of its column; one number in it says that the column is no text
                if part is not None and part != []:
                    good = isinstance(part, str) or is_chat(part)
                    found[path] = found.get(path, True) and good
                    if isinstance(part, str) or (good and render_chat(part)):
                        said.add(path)
    return [path for path, good in found.items() if good and path in said]


def _first_value(rows: list[Any], path: tuple[str, ...]) -> Any:
    return next((value for row in rows if (value := _value(row, path)) not in (None, [])), None)


def _has_path(row: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(row, dict) or key not in row:
            return False
        row = row[key]
    return True


def _value(row: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        row = row.get(key) if isinstance(row, dict) else None
    return row


def text_of(row: Any, path: tuple[str, ...], where: str, rows: list[Any]) -> str | None:
    """The text of a row; None where it has none, as in a chat in which nothing is said.

    Raises:
        DataError: naming the place and a remedy that fits.
    """
    value = row if not path and isinstance(row, str) else _value(row, path)
    if value is None or isinstance(value, str):
        return value
    if value == [] or is_chat(value):
        return render_chat(value) or None
    name = ".".join(path) or "the row"
    usable = [found for found in usable_columns([one for one in rows if isinstance(one, dict)]) if found != path]
    others = ", ".join(repr(".".join(found)) for found in usable)
    remedy = f"set data.text_column to {others}, or repair the row" if others else "repair or remove the row"
    raise DataError(f"{where}: column {name!r} holds {kind_of(value)}, not text: {remedy}")


def kind_of(value: Any) -> str:
    """What a cell holds, for a message."""
    if isinstance(value, bool):
        return f"{value} (a truth value)"
    if isinstance(value, int | float):
        return "a number"
    words = {"dict": "an object", "list": "a list", "bytes": "bytes"}
    name = type(value).__name__
    return words.get(name, f"a {name}")


def is_chat(value: Any) -> bool:
    """Whether a cell is a chat: a list of objects, each with a speaker (`role`, `from`) or what was said."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and not _MESSAGE.isdisjoint(one) for one in value)
    )


def render_chat(messages: list[dict[str, Any]]) -> str:
    """A chat as text: "role: what was said" for each message, a blank line between two; tool calls have no text."""
    lines = []
    for message in messages:
        said = message.get("content", message.get("value"))
        if isinstance(said, list):
            said = "\n".join(str(part["text"]) for part in said if isinstance(part, dict) and part.get("text"))
        role = str(message.get("role") or message.get("from") or "").strip()
        role = _SPEAKERS.get(role.lower(), role)
        if isinstance(said, str) and said.strip():
            lines.append(f"{role}: {said.strip()}" if role else said.strip())
    return "\n\n".join(lines)


# the files


def read_rows(path: Path, form: Form, read: Reader, notes: list[str], wanted: str) -> Iterator[Row]:
    """(place, row) of a table: a mapping from column to cell, or a text where a line is one."""
    if form.name == "parquet":
        return read_parquet_rows(path, form, read, wanted)
    if form.name == "arrow":
        return read_arrow_rows(path, form, read)
    text = decode(read(path, form), printable_path(path))
    if not text.strip():
        raise DataError(f"{printable_path(path)!r} is empty: give a table with a column of text")
    if form.name == "csv":
        return _csv_rows(path, text, notes, wanted)
    return _json_rows(path, text) if form.name == "json" else _json_lines_rows(path, text)


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _json_lines_rows(path: Path, text: str) -> Iterator[Row]:
    lines = io.StringIO(text)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            row = _parse_json(line.rstrip())
        except ValueError as error:
            # an indented document has no JSON in its first line
            if number == 1 and (whole := _parse_whole(text)) is not None:
                yield from _document_rows(path, whole)
                return
            # what is cut off fails in its last line: a person downloads again instead of mending it
            last = " (the file seems to be cut off there)" if not lines.read(1) else ""
            reason = f"{_json_words(error)} at column {getattr(error, 'colno', 1)}"
            raise DataError(
                f"{printable_path(path)!r}, {where}: no JSON: {reason}{last}; repair or remove the line"
            ) from error
        if not isinstance(row, dict | str):
            if number == 1 and isinstance(row, list):
                yield from _document_rows(path, row if row and isinstance(row[0], dict) else _parse_whole(text))
                return
            raise DataError(
                f'{printable_path(path)!r}, {where}: holds {kind_of(row)}, and a row is an object {{"text": …}}'
            )
        yield where, row


def _json_words(error: ValueError) -> str:
    return str(getattr(error, "msg", error)).removesuffix(" at").removesuffix(" starting")


def _parse_whole(text: str) -> Any:
    try:
        return _parse_json(text)
    except ValueError:
        return None


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    try:
        whole = _parse_json(text)
    except ValueError as error:
        first = next(line for line in text.split("\n") if line.strip())
        if _parse_whole(first) is not None and text.strip() != first.strip():  # JSON lines under another name
            return _json_lines_rows(path, text)
        reason = f"line {getattr(error, 'lineno', 1)}: no JSON: {_json_words(error)}"
        raise DataError(
            f"{printable_path(path)!r}, {reason} at column {getattr(error, 'colno', 1)}; repair the file"
        ) from error
    return _document_rows(path, whole)


def _document_rows(path: Path, whole: Any) -> Iterator[Row]:
    """Rows of a JSON document: a list of objects, an object of one such list, or an object of equal columns."""
    if isinstance(whole, dict):
        lists = [value for value in whole.values() if isinstance(value, list)]
        of_rows = [value for value in lists if value and all(isinstance(one, dict) for one in value)]
        # one list of objects beside counts and versions, as many exports are; a chat is such a list, and a row
        if len(of_rows) == 1 and not (is_chat(of_rows[0]) and render_chat(of_rows[0])):
            whole = of_rows[0]
        # columns: every value a list, and all of one length
        elif lists and len(lists) == len(whole) and len({len(value) for value in lists}) == 1 and not of_rows:
            whole = [dict(zip(whole, values, strict=True)) for values in zip(*lists, strict=True)]
        else:
            whole = [whole]
    if not isinstance(whole, list):
        raise DataError(
            f"{printable_path(path)!r} holds {kind_of(whole)}, not rows: give a list of objects, or JSON lines"
        )
    for number, row in enumerate(whole):
        if not isinstance(row, dict | str):
            raise DataError(
                f'{printable_path(path)!r}, item {number}: holds {kind_of(row)}, and a row is an object {{"text": …}}'
            )
        yield f"item {number}", row


def _csv_rows(path: Path, text: str, notes: list[str], wanted: str) -> Iterator[Row]:
    delimiter = _delimiter(path, text, wanted)
    if delimiter != ",":
        notes.append(f"the fields of {printable_path(path.name)} are separated by {_DELIMITERS[delimiter]}")
    # the library's limit is 128 kB, less than an article
    csv.field_size_limit(_LARGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    begun = 1
    while True:
        # a row may span lines: an error names where it began, not where the reader gave up
        begun = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            words = str(error)
            if "unexpected end" in words:
                words = "a quotation mark is opened and never closed"
            raise DataError(
                f"{printable_path(path)!r}, line {begun}: no row of a CSV file separated by {_DELIMITERS[delimiter]} "
                f"({words}); repair the line"
            ) from error
        if row is None:
            return
        # an empty line between rows is layout, before the header as well
        if not row or row == [""]:
            continue
        if not header:
            header = [name.strip() for name in row]
            # two columns of one name would hide one another in the row's mapping
            if len(header) > _MOST_FIELDS or len(set(header)) < len(header):
                problem = f"{len(header)} columns" if len(header) > _MOST_FIELDS else "two columns of one name"
                raise DataError(f"{printable_path(path)!r}, line {begun}: the header has {problem}; repair the header")
            continue
        # a comma inside an unquoted text would silently cut it: too few fields are empty cells, too many are a mistake
        if len(row) > len(header):
            raise DataError(
                f"{printable_path(path)!r}, line {begun}: {len(row)} fields separated by "
                f"{_DELIMITERS[delimiter]}, and the "
                f"header has {len(header)}: quote texts that hold {_DELIMITERS[delimiter]}, or repair the line"
            )
        cells = [None if cell in _MISSING else cell for cell in row]
        yield f"line {begun}", dict(zip(header, cells, strict=False))


def _delimiter(path: Path, text: str, wanted: str) -> str:
    """What separates the fields: as the suffix says, else what splits the beginning into the most even rows, with a
    header that has the column wanted before all others.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if ".tsv" in suffixes or ".tab" in suffixes:
        return "\t"
    if ".psv" in suffixes:
        return "|"
    # a beginning: a mistake far inside is reported with its line when the rows are read
    beginning = text[: 1 << 16]
    best, best_rank = ",", (False, 0.0, 0)
    for delimiter in _DELIMITERS:
        try:
            rows = list(islice(csv.reader(io.StringIO(beginning, newline=""), delimiter=delimiter), 50))
        except csv.Error:
            continue
        rows = [row for row in rows if row]
        if not rows or len(rows[0]) < 2:
            continue
        even = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        # having the column asked for decides; evenness next, as prose splits by commas too, but unevenly
        rank = (wanted in [name.strip() for name in rows[0]], even, len(rows[0]))
        if rank > best_rank:
            best, best_rank = delimiter, rank
    return best
