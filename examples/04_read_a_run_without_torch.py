"""Read a run's folder as a table of pandas, on a machine without torch and while the run may still train.

You see the curves as columns, the changes as rows, and what was sampled; nothing is written, and torch is not loaded.
Give it the folder of any run: `python examples/04_read_a_run_without_torch.py runs/first`.
"""
# ruff: noqa: T201

import sys
from pathlib import Path

import pandas as pd

from qcore.store import DATABASE_NAME, RunReader


def curves(reader: RunReader, names: list[str]) -> pd.DataFrame:
    """A row a step, a column a series; NaN where a series was not measured."""
    found = reader.scalars_of(names)
    return pd.DataFrame({name: pd.Series(series.values, index=series.steps) for name, series in found.items()})


def main(run: str) -> None:
    """Print what a run holds."""
    with RunReader(Path(run) / DATABASE_NAME) as reader:
        status = reader.status()
        print(status.state if status else "no status yet", "at step", status.step if status else 0)
        names = reader.names()
        print(len(names), "series, such as", ", ".join(names[:5]))
        table = curves(reader, [name for name in names if name.startswith(("train/", "eval/"))])
        print(table.describe().loc[["count", "mean", "min", "max"]].T.to_string())
        events = pd.DataFrame(
            [{"step": e.step, "kind": e.kind, "author": e.author, **e.payload} for e in reader.events()]
        )
        print(events.to_string())
        for sample in reader.generations("timeline")[-2:]:
            print(f"step {sample.step}: {sample.prompt}{sample.text}")
    print("torch was loaded:", "torch" in sys.modules)


if __name__ == "__main__":
    main(sys.argv[1])
