"""Scalar series as one table, a row a step and a column a series: CSV for a person, Parquet for a program.

A step at which a series was not measured is empty (CSV) or null (Parquet); a measured NaN stays a NaN. Numbers come out
bit for bit. A table is made some steps at a time, so that it takes little more room than the series: a
thousand of them that share no step would make one a thousand times as large.
pyarrow, which datasets and Streamlit bring along, is imported when a Parquet file is written, not before.
"""

import csv
import difflib
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TextIO

import numpy as np

from qcore.store.reader import RunReader
from qcore.store.series import Series

MAX_CELLS = 500_000_000
"""Most cells of a table: 200 series of a run of 2.5 million steps, a file of some gigabytes."""
_OF_TEXT, _OF_NUMBERS = 2**19, 2**22
"""Cells that are made at a time: each takes a hundred bytes as text, nine as a number."""


@dataclass(frozen=True)
class SeriesTable:
    """steps int64[S] of all series · series by name."""

    steps: np.ndarray
    series: dict[str, Series]

    def __len__(self) -> int:
        return len(self.steps)

    def parts(self, cells: int) -> Iterator[tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]]:
        """Steps in parts of about so many cells: steps int64[n], and by name values float64[n] and bool[n], False where
        nothing was measured.
        """
        rows = max(256, cells // (1 + len(self.series)))
        for start in range(0, len(self.steps), rows):
            steps = self.steps[start : start + rows]
            columns = {}
            for name, series in self.series.items():
                own = slice(*np.searchsorted(series.steps, (steps[0], steps[-1] + 1)))
                place = np.searchsorted(steps, series.steps[own])
                values, known = np.full(len(steps), np.nan), np.zeros(len(steps), bool)
                values[place], known[place] = series.values[own], True
                columns[name] = values, known
            yield steps, columns


def series_table(reader: RunReader, wanted: Sequence[str] | None = None) -> SeriesTable:
    """All series of a run, or those whose names match one of `wanted` (`*` and `?` stand for any letters).

    Raises:
        ValueError: for a name or pattern that matches none, and for more than `MAX_CELLS`.
    """
    names = reader.names()
    if wanted is not None:
        for pattern in wanted:
            if not fnmatch.filter(names, pattern):
                near = difflib.get_close_matches(pattern, names, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"no series matches {pattern!r}{hint}")
        names = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted)]
    found = reader.scalars_of(names)
    steps = np.unique(np.concatenate([np.zeros(0, np.int64), *(series.steps for series in found.values())]))
    if len(steps) * len(names) > MAX_CELLS:
        raise ValueError(
            f"a table of {len(steps):,} steps and {len(names):,} series has more than {MAX_CELLS:,} cells: choose some"
            " of the series"
        )
    return SeriesTable(steps, found)


def write_csv(table: SeriesTable, file: TextIO) -> int:
    """Write the table as CSV with a head; returns the number of rows."""
    writer = csv.writer(file)
    writer.writerow(["step", *table.series])
    for steps, columns in table.parts(_OF_TEXT):
        cells = [
            [value if measured else "" for value, measured in zip(values.tolist(), known.tolist(), strict=True)]
            for values, known in columns.values()
        ]
        writer.writerows(zip(steps.tolist(), *cells, strict=True))
    return len(table)


def write_parquet(table: SeriesTable, file: IO[bytes]) -> int:
    """Write the table as Parquet: `step` int64, every series float64; returns the number of rows."""
    import pyarrow
    from pyarrow import parquet

    kinds = [("step", pyarrow.int64()), *((name, pyarrow.float64()) for name in table.series)]
    schema = pyarrow.schema(kinds)
    with parquet.ParquetWriter(file, schema) as writer:
        for steps, columns in table.parts(_OF_NUMBERS):
            arrays = [pyarrow.array(steps, pyarrow.int64())]
            for values, known in columns.values():
                arrays.append(pyarrow.array(values, pyarrow.float64(), mask=~known, from_pandas=False))
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
    return len(table)
