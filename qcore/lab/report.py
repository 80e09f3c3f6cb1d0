"""What a report of a run says, read from its store as plain values; `viz.report_html` makes a file of it.

Two calls, because the façade draws nothing and figures read nothing: `report_html(**report_parts(lab, run))`.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from qcore.lab.lab import Lab
from qcore.probes import catalog
from qcore.runs.external import LOSSES
from qcore.runs.findings import tried_words
from qcore.runs.info import RunInfo

MAX_POINTS = 1000
SAMPLE_STEPS = 6
SAMPLES = 24


def report_parts(lab: Lab, name: str) -> dict[str, Any]:
    """Arguments of `viz.report_html` for one run, finished or live.

    Series have at most 1,000 points each, extremes kept; samples are the newest of up to six steps.

    Raises:
        LabError: for a run that cannot be read.
    """
    info, reader, config = lab.info(name), lab.reader(name), lab.description(name)
    meta, events = reader.meta(), reader.events()
    names = reader.names()
    found = reader.scalars_of(names, max_points=MAX_POINTS)
    return {
        "title": name,
        "summary": _summary(info, meta),
        "config": config.to_yaml(),
        "loss": _losses(info, names),
        "unit": _unit(info, names),
        "watched": "trainer" in info.capabilities,
        "series": {key: (series.steps, series.values) for key, series in found.items()},
        "references": {key: value for key, value in (meta.get("references") or {}).items() if value is not None},
        "events": [(event.step, event.wall, event.author, event.kind, event.payload) for event in events],
        "findings": [
            {
                "name": finding.name,
                "title": finding.title,
                "state": "muted" if finding.muted else "acknowledged" if finding.acknowledged else finding.condition,
                "grade": finding.grade,
                "role": finding.role,
                "since_step": finding.since_step,
                "last_step": finding.last_step,
                "explanation": finding.explanation,
                "evidence": finding.evidence or {},
                "remedies": [(str(one["label"]), _why(one)) for one in finding.remedies],
            }
            for finding in lab.findings(name)
        ],
        "samples": _samples(lab, name),
    }


def _why(remedy: dict[str, Any]) -> str:
    """Why a remedy is offered, and what came of it where it was tried."""
    return " · ".join(one for one in (str(remedy.get("why") or ""), tried_words(remedy)) if one)


def _losses(info: RunInfo, names: list[str]) -> tuple[str, ...]:
    """Series of the first chart; of a run that another program wrote, what it has of a loss."""
    ours = (catalog.TERM_FLOW, catalog.EVAL_FLOW) if info.family == "video" else (catalog.TERM_CE, catalog.EVAL_CE)
    if "trainer" in info.capabilities or set(ours).intersection(names):
        return ours
    return tuple(name for name in LOSSES if name in names)[:1]


def _unit(info: RunInfo, names: list[str]) -> str:
    if info.family == "video":
        return "mean squared error"
    return "nats per token" if catalog.TERM_CE in _losses(info, names) else ""


def _summary(info: RunInfo, meta: dict[str, Any]) -> list[tuple[str, str | float | None]]:
    rows: list[tuple[str, str | float | None]] = [
        ("state", f"{info.state} at step {info.step:,}" + (f" of {info.total_steps:,}" if info.total_steps else "")),
        ("model", info.model_text),
        ("preset", info.preset or ("none" if "trainer" in info.capabilities else "")),
        ("loss, newest step", info.loss),
        ("loss, held out", info.held_out),
        ("unit of the held-out loss", info.loss_unit),
        ("speed", info.rate_text or "unknown"),
        ("trained for", str(timedelta(seconds=round(info.seconds_trained)))),
        ("data", str(meta.get("corpus", "") or "")),
        ("device", f"{meta.get('device', 'unknown')}, {meta.get('precision', '')}".rstrip(", ")),
        ("started", time.strftime("%Y-%m-%d %H:%M", time.localtime(info.created)) if info.created else "unknown"),
        ("message", info.message),
    ]
    return [(label, value) for label, value in rows if value != ""]


def _samples(lab: Lab, name: str) -> list[dict[str, Any]]:
    """The newest samples of the last steps that have any, oldest first."""
    made = [one for one in lab.reader(name).generations(limit=4 * SAMPLES) if one.status == "done"]
    steps = sorted({one.step for one in made})[-SAMPLE_STEPS:]
    chosen = [one for one in made if one.step in steps][-SAMPLES:]
    return [
        {
            "step": one.step,
            "kind": one.kind,
            "prompt": one.prompt,
            "text": one.text,
            "stats": {key: value for key, value in one.stats.items() if isinstance(value, int | float)},
            "clips": [token for token in one.tokens if "pixels" in token],
        }
        for one in chosen
    ]
