"""Take a run with you, and bring one in: curves, the whole run as one file, and a report that opens without anything.

Nothing is packed before its button is pressed: Streamlit asks for a file's content only then.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import streamlit as st

from pages.session import messages, roles, selection
from qcore.base.run_states import RunState
from qcore.lab import Lab, LabError, RunInfo
from qcore.lab.export import Checkpoints, export_run, export_table, import_run
from qcore.lab.report import report_parts
from qcore.viz import distinct_words
from qcore.viz.report import report_html

_CHECKPOINTS: tuple[Literal["newest", "all", "none"], ...] = ("newest", "all", "none")


def show_share(lab: Lab, run: RunInfo | None) -> None:
    """A popover with the selected run's downloads and an upload; without a run, the upload alone."""
    with st.popover("Share", icon=":material/ios_share:", help="Export this run, or import one."):
        if run is not None and run.state != RunState.UNREADABLE:
            _downloads(lab, run.name)
            st.divider()
        _upload(lab)


def _downloads(lab: Lab, name: str) -> None:
    st.markdown("**Report**")
    _button(
        "Report (HTML)",
        "article",
        f"{name}.html",
        "text/html",
        "One file with curves that zoom, findings, samples, events and configuration. It opens from disk, offline.",
        lambda: report_html(**report_parts(lab, name)).encode(),
    )
    st.markdown("**The whole run**")
    wanted = st.segmented_control(
        "Checkpoints",
        _CHECKPOINTS,
        key="share:checkpoints",
        default=_CHECKPOINTS[0],
        required=True,
        persist_state="session",
        help="With one, the run can be sampled and resumed elsewhere; without any, it can only be viewed.",
    )
    arrays = st.toggle(
        "Pictures and histograms",
        True,
        key="share:arrays",
        persist_state="session",
        help="Phases, kernels, histograms over steps: they are the largest part. Curves and samples are always "
        "included.",
    )
    _button(
        "Run (zip)",
        "folder_zip",
        f"{name}.zip",
        "application/zip",
        "Database, configuration, tokenizer and checkpoints. Import it below, or with `qcore import`.",
        lambda: _zip_run(lab, name, wanted, arrays),
    )
    st.markdown("**Curves**")
    offered = lab.reader(name).names()
    series = st.multiselect(
        "Which",
        offered,
        key=f"share:series:{name}",
        format_func=distinct_words(offered).__getitem__,
        placeholder="all of them",
        persist_state="session",
        help="One row per step, one column per curve. Empty: all curves.",
    )
    with st.container(horizontal=True):
        _button("CSV", "csv", f"{name}.csv", "text/csv", "For a spreadsheet.", lambda: _csv(lab, name, series))
        _button(
            "Parquet",
            "table",
            f"{name}.parquet",
            "application/vnd.apache.parquet",
            "For a program: exact numbers, small.",
            lambda: _parquet(lab, name, series),
        )


def _button(label: str, icon: str, file: str, mime: str, about: str, make: Callable[[], bytes]) -> None:
    st.download_button(
        label,
        make,
        file_name=file,
        mime=mime,
        key=f"share:{label}",
        icon=f":material/{icon}:",
        help=about,
        on_click="ignore",
    )


def _zip_run(lab: Lab, name: str, checkpoints: Checkpoints, arrays: bool) -> bytes:
    with tempfile.TemporaryDirectory(prefix="qcore-share-") as folder:
        path = Path(folder) / "run.zip"
        export_run(lab, name, path, checkpoints=checkpoints, arrays=arrays)
        return path.read_bytes()


def _csv(lab: Lab, name: str, series: list[str]) -> bytes:
    file = io.StringIO(newline="")
    export_table(lab, name, file, "csv", series or None)
    return file.getvalue().encode()


def _parquet(lab: Lab, name: str, series: list[str]) -> bytes:
    file = io.BytesIO()
    export_table(lab, name, file, "parquet", series or None)
    return file.getvalue()


def _upload(lab: Lab) -> None:
    st.markdown("**Import a run**")
    file = st.file_uploader(
        "Exported run",
        type="zip",
        key=selection.widget_key("share:file"),
        help="A zip that *Run (zip)* or `qcore export` wrote. It is checked before anything of it is used.",
    )
    name = st.text_input(
        "Name here (optional)",
        key="share:name",
        placeholder="its own",
        max_chars=120,
        persist_state="session",
        help="Needed when a run of its name is here already.",
    )
    roles.button(
        "Import",
        icon=":material/upload_file:",
        key="share:import",
        disabled=file is None,
        help="Add the run to this lab and open it.",
        on_click=_import,
        args=(lab, file, name),
    )


def _import(lab: Lab, file: io.BytesIO, name: str) -> None:
    if why := roles.viewer_refusal():
        messages.note("error", why)
        return
    try:
        imported = import_run(lab, file, name.strip() or None)
    except LabError as error:
        messages.note("error", str(error))
        return
    selection.remember_choice("run", imported)
    selection.remember_choice("share:file", None)
    st.session_state["share:name"] = ""
    messages.note("done", f"Imported {imported}; this page now shows it")
