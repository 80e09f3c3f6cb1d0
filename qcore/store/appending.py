"""The writer's side of the blocks: rows are appended to them, and cut off after a rewind.

Each layout has at most one open block, rewritten in place at each commit until it has 256 rows, so that a slow run
leaves no thousands of tiny blocks; a fast run seals up to 4,096 rows at once.
All of it runs inside the writer's transaction; after a rollback call `load` to return to what the database says.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qcore.store.blocks import MAX_ROWS, SEAL_ROWS, STEP, VALUE, Block, extent
from qcore.store.checks import checked_block, read_names
from qcore.store.records import to_json
from qcore.store.shapes import ShapeError

ScalarRow = tuple[int, float, tuple[str, ...], bytes]  # step, wall, names as logged, float64 values in that order


@dataclass
class _Tail:
    """The open rows of a layout; `block_id` is None while they have no row in the database."""

    block_id: int | None
    rows: Block


class BlockWriter:
    """Appends rows to blocks and cuts them, through the writer's connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._layouts: dict[tuple[str, ...], int] = {}  # sorted names → id
        self._orders: dict[tuple[str, ...], tuple[int, np.ndarray]] = {}  # names as logged → id, sorting permutation
        self._widths: dict[int, int] = {}  # id → number of names
        self._tails: dict[int, _Tail] = {}

    def load(self) -> None:
        """Take layouts and open blocks from the database, forgetting what was held.

        Raises:
            ShapeError: for what no writer has written: it would be written on in the same way.
        """
        execute = self._connection.execute
        self._orders = {}
        found = {key: read_names(names) for key, names in execute("SELECT id, names FROM layouts")}
        self._layouts = {names: key for key, names in found.items()}
        self._widths = {key: len(names) for key, names in found.items()}
        self._tails = {
            layout: _Tail(block_id, checked_block(data, rows, self._width(layout)))
            for block_id, layout, rows, data in execute("SELECT id, layout, rows, data FROM blocks WHERE sealed = 0")
        }

    def append(self, rows: Iterable[ScalarRow]) -> None:
        """Store the rows, sealing every layout's block that reaches 256 rows."""
        groups: dict[tuple[str, ...], list[ScalarRow]] = {}
        for row in rows:
            groups.setdefault(row[2], []).append(row)
        touched = set()
        for names, group in groups.items():
            layout, order = self._layout(names)
            values = np.frombuffer(b"".join([row[3] for row in group]), np.float64).reshape(len(group), len(names))
            block = Block(
                np.array([row[0] for row in group], STEP),
                np.array([row[1] for row in group], VALUE),
                np.asarray(values.T[order], VALUE),
            )
            tail = self._tails.get(layout)
            if tail is None:
                self._tails[layout] = _Tail(None, block)
            else:
                tail.rows = tail.rows.joined(block)
            touched.add(layout)
        # once a commit, however many rows came: an open block is written whole each time
        for layout in touched:
            self._write(layout)

    def truncate_after(self, step: int) -> None:
        """Drop every row with a greater step from open and sealed blocks; the rows that stay keep their order."""
        execute = self._connection.execute
        heads = "SELECT id, layout, rows FROM blocks WHERE last_step > ?"
        for block_id, layout, rows in execute(heads, (step,)).fetchall():
            data = execute("SELECT data FROM blocks WHERE id = ?", (block_id,)).fetchone()[0]
            block = checked_block(data, rows, self._width(layout))
            kept = block.rows(block.steps <= step)
            if len(kept.steps):
                # sealed stays sealed: a block that was cut is not written on, so that readers need not ask for it again
                self._update(block_id, kept, None)
            else:
                execute("DELETE FROM blocks WHERE id = ?", (block_id,))
        # the open blocks in memory still hold what was cut
        self.load()

    def _width(self, layout: int) -> int:
        if layout not in self._widths:
            raise ShapeError(f"a block belongs to layout {layout!r}, which is not there")
        return self._widths[layout]

    def _layout(self, names: tuple[str, ...]) -> tuple[int, np.ndarray]:
        known = self._orders.get(names)
        if known is None:
            order = np.array(sorted(range(len(names)), key=names.__getitem__))
            # the same names in another order are one layout: else every order would begin blocks of its own
            key = tuple(sorted(names))
            if key not in self._layouts:
                text = to_json("names", key)
                cursor = self._connection.execute("INSERT INTO layouts (names) VALUES (?)", (text,))
                assert cursor.lastrowid is not None
                self._layouts[key] = cursor.lastrowid
                self._widths[cursor.lastrowid] = len(key)
            known = self._orders[names] = (self._layouts[key], order)
        return known

    def _write(self, layout: int) -> None:
        tail = self._tails[layout]
        while len(tail.rows.steps) >= SEAL_ROWS:
            self._store(layout, tail.block_id, tail.rows.rows(slice(MAX_ROWS)), True)
            tail = _Tail(None, tail.rows.rows(slice(MAX_ROWS, None)))
        if len(tail.rows.steps):
            tail.block_id = self._store(layout, tail.block_id, tail.rows, False)
            self._tails[layout] = tail
        else:
            del self._tails[layout]

    def _store(self, layout: int, block_id: int | None, block: Block, sealed: bool) -> int:
        if block_id is not None:
            self._update(block_id, block, sealed)
            return block_id
        cursor = self._connection.execute(
            "INSERT INTO blocks (layout, rows, sealed, first_step, last_step, last_wall, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (layout, len(block.steps), sealed, *extent(block), block.pack()),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _update(self, block_id: int, block: Block, sealed: bool | None) -> None:
        """Rewrite a block; `sealed` None leaves that as it is."""
        self._connection.execute(
            "UPDATE blocks SET rows = ?, sealed = coalesce(?, sealed), first_step = ?, last_step = ?, last_wall = ?,"
            " data = ? WHERE id = ?",
            (len(block.steps), sealed, *extent(block), block.pack(), block_id),
        )
