"""Scalar series as one table, a row a step and a column a series: CSV for a person, Parquet for a program.

A step at which a series was not measured is empty (CSV) or null (Parquet); a measured NaN stays a NaN. Numbers come out
bit for bit. pyarrow, which datasets and Streamlit bring along, is imported when a Parquet file is written, not before.
"""

import csv
import difflib
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TextIO

import numpy as np

from qcore.store.reader import RunReader


@dataclass(frozen=True)
class SeriesTable:
    """steps int64[S] · values float64[S] by name · known bool[S] by name: False where nothing was measured."""

    steps: np.ndarray
    values: dict[str, np.ndarray]
    known: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.steps)


def series_table(reader: RunReader, wanted: Sequence[str] | None = None) -> SeriesTable:
    """All series of a run, or those whose names match one of `wanted` (`*` and `?` stand for any letters).

    Raises ValueError for a name or pattern that matches none.
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
    values, known = {}, {}
    for name, series in found.items():
        place = np.searchsorted(steps, series.steps)
        values[name], known[name] = np.full(len(steps), np.nan), np.zeros(len(steps), bool)
        values[name][place], known[name][place] = series.values, True
    return SeriesTable(steps, values, known)


def write_csv(table: SeriesTable, file: TextIO) -> int:
    """Write the table as CSV with a head; returns the number of rows."""
    writer = csv.writer(file)
    writer.writerow(["step", *table.values])
    columns = [
        [value if known else "" for value, known in zip(values.tolist(), table.known[name].tolist(), strict=True)]
        for name, values in table.values.items()
    ]
    writer.writerows(zip(table.steps.tolist(), *columns, strict=True))
    return len(table)


def write_parquet(table: SeriesTable, file: IO[bytes]) -> int:
    """Write the table as Parquet: `step` int64, every series float64; returns the number of rows."""
    import pyarrow
    from pyarrow import parquet

    columns = {"step": pyarrow.array(table.steps, pyarrow.int64())}
    for name, values in table.values.items():
        columns[name] = pyarrow.array(values, pyarrow.float64(), mask=~table.known[name], from_pandas=False)
    parquet.write_table(pyarrow.table(columns), file)
    return len(table)
