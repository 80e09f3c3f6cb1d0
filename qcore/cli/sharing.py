"""export and import: curves as a table, a run as one file, and a report that opens without anything."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated

import typer

from qcore.cli.base import RUNS, AsJson, Name, Runs, app, open_lab, print_json
from qcore.config import ConfigError
from qcore.lab import Lab
from qcore.lab.export import Checkpoints, export_run, export_table, import_run
from qcore.lab.report import report_parts
from qcore.viz.report import report_html


class Format(StrEnum):
    """What a run is exported as."""

    CSV = "csv"
    PARQUET = "parquet"
    ZIP = "zip"
    HTML = "html"


@app.command("export")
def export_command(
    name: Name,
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format", help="csv or parquet: curves · zip: the run · html: a report. Default: by the file's suffix."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write (default: stdout, for CSV).")] = None,
    series: Annotated[
        list[str] | None, typer.Option("--series", help="One curve, or a pattern such as 'eval/*'; repeatable.")
    ] = None,
    checkpoints: Annotated[
        str, typer.Option("--checkpoints", help="For a zip: newest, all, none, or steps such as 100,200.")
    ] = "newest",
    arrays: Annotated[
        bool, typer.Option("--arrays/--no-arrays", help="For a zip: pictures and histograms, too.")
    ] = True,
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> None:
    """Export a run: its curves as CSV or Parquet, all of it as a zip for `qcore import`, or a report as HTML."""
    kind = kind or _format_by_suffix(out)
    if series and kind not in (Format.CSV, Format.PARQUET):
        raise ConfigError(f"--series is for csv and parquet: a {kind} has all curves")
    if out is None and (as_json or kind is not Format.CSV):
        reason = "--json tells what was written" if as_json else f"a {kind} is not text for a terminal"
        raise ConfigError(f"{reason}: give --out FILE with it")
    with open_lab(runs) as lab:
        lab.info(name)
        if out is None:
            export_table(lab, name, sys.stdout, series=series)
            return
        written = _write(lab, name, kind, out, series, _steps(checkpoints), arrays)
    print_json({"file": str(out), **written}) if as_json else print(_written_summary(written, out))


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A zip that `qcore export` wrote.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the run here (default: its own).")] = None,
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> None:
    """Import an exported run: it can be looked at, sampled and resumed here."""
    with open_lab(runs, create=True) as lab:
        imported = import_run(lab, file, name)
        info = lab.info(imported)
    print_json(info) if as_json else print(f"{imported}: {info.kind}, {info.state} at step {info.step}")


def _format_by_suffix(out: Path | None) -> Format:
    suffix = "" if out is None else out.suffix.lstrip(".").lower()
    return Format(suffix) if suffix in list(Format) else Format.CSV


def _steps(text: str) -> Checkpoints:
    if text in ("newest", "all", "none"):
        return text  # type: ignore[return-value]
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--checkpoints {text!r} is refused: newest, all, none, or steps such as 100,200") from None


def _write(
    lab: Lab, name: str, kind: Format, out: Path, series: list[str] | None, checkpoints: Checkpoints, arrays: bool
) -> dict[str, int]:
    """Write the file; what it holds, counted."""
    match kind:
        case Format.ZIP:
            return {"files": export_run(lab, name, out, checkpoints=checkpoints, arrays=arrays)}
        case Format.HTML:
            page = report_html(**report_parts(lab, name)).encode()
            with _write_atomically(out) as file:
                return {"bytes": file.write(page)}
        case Format.PARQUET:
            with _write_atomically(out) as file:
                return {"rows": export_table(lab, name, file, "parquet", series)}
    with _write_atomically(out) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        rows = export_table(lab, name, text, "csv", series)
        text.detach()  # which writes what it still holds
        return {"rows": rows}


@contextmanager
def _write_atomically(out: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place when it is whole: what stands there stays until then. What is no file, such as a pipe
    or a device, is written to as it is.
    """
    if out.exists() and not out.is_file():
        with out.open("wb") as file:
            yield file
        return
    out = out.resolve()  # of a link, what it leads to
    aside = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        with aside.open("xb") as file:
            yield file
        if out.exists():
            shutil.copymode(out, aside)
        os.replace(aside, out)
    finally:
        aside.unlink(missing_ok=True)


def _written_summary(written: dict[str, int], out: Path) -> str:
    [(what, count)] = written.items()
    return f"{count} {what} written to {out}"
