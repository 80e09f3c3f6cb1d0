"""A small run with a row of every kind, written without training, and ways to spoil it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from qcore.config import RunConfig
from qcore.lab import Lab
from qcore.lab.export import export_table
from qcore.lab.report import report_parts
from qcore.store import DATABASE_NAME, Event, Finding, Generation, Inbox, RunWriter, Status
from qcore.store.checks import ARRAYS
from qcore.viz.report import report_html
from tests.support.configs import small_config

SEED = int(os.environ.get("QCORE_SEED", "20261130"))
SCALE = float(os.environ.get("QCORE_ATTACKS", "1"))

TOKEN = {
    "label": "a", "id": 3, "logprob": -1.0, "probability": 0.5, "rank": 1, "entropy": 0.1,
    "chosen_probability": 0.5, "top": [["a", 0.5], ["b", 0.2]],
}  # fmt: skip
NUMBER = {"label": "share", "value": 0.9, "unit": "", "limit": 0.5}
FIGURE = {
    "title": "t",
    "y_title": "y",
    "limit": 0.5,
    "lines": [{"name": "x", "steps": [1, 2], "values": [0.1, 0.9]}],
}
REMEDY = {"label": "Set ce_weight to 1", "why": "because", "kind": "set", "changes": {"ce_weight": 1.0}}


def rounds(count: int) -> int:
    """How often to attack: `count`, times the scale of the environment."""
    return max(1, int(count * SCALE))


def whole_run(folder: Path, config: RunConfig | None = None) -> Path:
    """Write a finished run of twelve steps with something in every table; its folder."""
    config = config or small_config()
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(["a", "b", "␣c"]), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps({"format": "x", "kind": "byte"}), encoding="utf-8")
    with RunWriter(folder / DATABASE_NAME) as writer:
        for key, value in {
            "preset": "tiny", "kind": config.kind, "parameters": 8097, "corpus": "stories", "device": "cpu",
            "bytes_per_token": 1.0, "tokens_per_step": 64, "references": {"uniform": 5.4, "trigram": None},
            "special_tokens": {"pad": 0, "eos": 2}, "term_names": ["ce"], "module_names": ["embedding"],
        }.items():  # fmt: skip
            writer.set_meta(key, value)
        for step in range(1, 13):
            writer.log_scalars(step, {"train/loss": 5.0 / step, "term/ce": 5.0 / step, "train/lr": 1e-3})
        writer.log_scalars(12, {"eval/ce": 0.7})
        writer.log_arrays(12, "tokens", {name: np.arange(3) for name in ARRAYS["tokens"]})
        events: list[tuple[str, dict[str, Any]]] = [
            ("start", {"from_step": 0}),
            ("control", {"name": "ce_weight", "old": 1.0, "new": 0.5, "reason": "to see"}),
            ("checkpoint", {"step": 5, "reason": "requested"}),
            ("pause", {"reason": "a rule"}),
            ("finish", {}),
        ]
        for seq, (kind, payload) in enumerate(events, 1):
            writer.add_event(Event(seq, seq, 1.7e9 + seq, "person", kind, payload))
        writer.put_generation(
            Generation(
                "g1", 12, 1.7e9, "timeline", "Once", {"temperature": 0.8}, "a b", [TOKEN], {"repetition": 0.1}, "done"
            )
        )
        writer.put_finding(
            Finding("f1", "stuck", 3, 9, "active", {"numbers": [NUMBER], "figure": FIGURE}, "Stuck", "why", [REMEDY])
        )
        writer.add_log(3, "warning", "a line")
        extra = {"loss": 0.4, "eval_ce": 0.7, "tokens_per_second": 900.0, "seconds_trained": 1.5, "memory_mb": 300.0}
        writer.set_status(Status("finished", 12, 12, 1.7e9, 1, "here", extra=extra))
    with Inbox(folder / DATABASE_NAME) as inbox:
        inbox.submit("acknowledge", {"finding": "f1"}, "me")
    return folder


def changed(database: Path, *statements: str) -> bytes:
    """The bytes of a database after statements of somebody who wants harm, in a file of its own without a -wal."""
    copy = database.with_name("changed.sqlite")
    copy.write_bytes(database.read_bytes())
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for statement in statements:
            connection.executescript(statement)
    data = copy.read_bytes()
    copy.unlink()
    return data


def packed_files(archive: bytes) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of an exported run, and its manifest."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    return files, json.loads(files.pop("manifest.json"))


def packed(
    files: dict[str, bytes], manifest: dict[str, Any], compression: int = zipfile.ZIP_DEFLATED, **changes: Any
) -> bytes:
    """An archive whose manifest vouches for the files, whatever they are."""
    vouched = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("manifest.json", json.dumps({**manifest, "files": vouched, **changes}))
    return found.getvalue()


def read_all(lab: Lab, name: str) -> None:
    """Read what lists, pages, the report, the protocol and the command line read of a run."""
    lab.runs()
    reader = lab.reader(name)
    lab.info(name)
    for read in (lab.findings, lab.controls, lab.checkpoints, lab.lineage, lab.token_labels):
        read(name)
    lab.run_tree()
    lab.all_findings()
    lab.history(name, ["train/loss"])
    export_table(lab, name, io.StringIO())
    for read_records in (reader.events, reader.generations, reader.log, reader.commands, reader.latest, reader.version):
        read_records()
    reader.tail(None)
    for kind in ("tokens", "phase"):
        reader.array_steps(kind)
        reader.arrays(kind)
    assert report_html(**report_parts(lab, name))
