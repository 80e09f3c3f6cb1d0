"""A run as one HTML file that needs nothing else: text, tables, samples, and curves that zoom.

The Plotly library of the installed package is written into the file once; a content policy forbids every fetch, so the
file says the same offline in ten years. Names, prompts, samples and configurations are a stranger's text: all of it is
escaped, and figures travel as data, never as code. Curves beside the loss are drawn when their part is opened.
"""

from __future__ import annotations

import base64
import html
import struct
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcore.base.words import author_words, limit_words, name_words, number_words, spell_out_numbers
from qcore.probes import catalog
from qcore.probes.catalog import group_words, series_words
from qcore.viz.clips import average_blocks, spread_frames, stored_clips
from qcore.viz.curves import Line, Mark, Reference, curves
from qcore.viz.figure import Figure, script_file
from qcore.viz.words import event_words

MOST_LINES = 12
_FRAMES, _SIDE = 16, 64
_TOTAL = catalog.TRAIN_LOSS
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_ASSETS = Path(__file__).parent / "assets"
_STYLE = (_ASSETS / "report.css").read_text(encoding="utf-8")
_SCRIPT = (_ASSETS / "report.js").read_text(encoding="utf-8")


def report_html(
    *,
    title: str,
    summary: Sequence[tuple[str, str | float | None]],
    config: str,
    loss: Sequence[str],
    unit: str,
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    references: Mapping[str, float],
    events: Sequence[tuple[int, float, str, str, Mapping[str, Any]]],
    findings: Sequence[Mapping[str, Any]],
    samples: Sequence[Mapping[str, Any]],
    watched: bool = True,
) -> str:
    """The report as one HTML document.

    What is wrong stands before the loss: a falling loss is no success while a finding is active.

    Args:
        summary: label, and value in words or as a number.
        loss: series of the first chart, in `unit`.
        series: steps and values by name.
        references: floors drawn beside the loss.
        events: step, epoch seconds, author, kind, payload.
        findings: name, title, state, since_step, last_step, explanation, evidence (numbers, figure), remedies (label,
            why).
        samples: step, kind, prompt, text, stats, clips as the store keeps them.
        watched: whether the lab's detectors judged it.
    """
    figures: list[Figure] = []
    marks = [
        Mark(step, f"{event_words(kind, payload)} by {author_words(author)}")
        for step, _, author, kind, payload in events
        if kind in ("control", "resume")
    ]
    # What is measured before the first step says nothing yet of a model that has learned nothing.
    judged = any(len(steps) and steps[-1] > 0 for steps in (np.asarray(found[0]) for found in series.values()))
    body = [
        f"<h1>{html.escape(title)}</h1>",
        _verdict(findings, judged, watched),
        f"<h2>Findings</h2>{_findings(figures, findings, judged and watched)}",
        "<h2>The run</h2>",
        _table([("", ""), *((label, _cell(value)) for label, value in summary)], head=False),
        "<h2>Loss</h2>",
        _plot(figures, _loss(series, loss, unit, references, marks)),
        f"<h2>Samples</h2>{_samples(samples)}",
        f"<h2>Events</h2>{_events(events)}",
        f"<h2>Curves</h2>{_groups(figures, series, marks)}",
        f"<h2>Configuration</h2><pre>{html.escape(config)}</pre>",
        f'<p class="hint">Written by Collapse Lab on {time.strftime("%Y-%m-%d %H:%M")}. Times are local.</p>',
    ]
    data = "[" + ",".join(figure.to_json() for figure in figures) + "]"
    library = script_file()[0].read_text(encoding="utf-8").replace("</script", "<\\/script")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}"
        f'<script type="application/json" id="figures">{_script_safe(data)}</script>'
        f"<script>{library}</script><script>{_SCRIPT}</script></body></html>\n"
    )


def _script_safe(text: str) -> str:
    """JSON that cannot end its script element."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plot(figures: list[Figure], figure: Figure) -> str:
    figures.append(figure)
    return f'<div class="plot" data-figure="{len(figures) - 1}" style="min-height:{figure.layout["height"]}px"></div>'


def _verdict(findings: Sequence[Mapping[str, Any]], judged: bool, watched: bool) -> str:
    """The first line of a report: what is wrong now, or that nothing was found.

    Args:
        judged: whether any step was.
        watched: whether the lab's detectors looked at it.
    """
    active = [finding for finding in findings if finding["state"] in ("active", "acknowledged")]
    if not active and not watched:
        return '<p class="verdict">Another program wrote this run: no detector of the lab has judged it.</p>'
    if not active and not judged:
        return '<p class="verdict">This run has made no step: nothing has been checked yet.</p>'
    if not active:
        past = " Some findings are over; see below." if findings else ""
        return f'<p class="verdict">No open findings in this run.{past}</p>'
    names = "; ".join(spell_out_numbers(str(finding["title"])) for finding in active[:3]) + (
        "; …" if len(active) > 3 else ""
    )
    count = f"{len(active)} finding{'' if len(active) == 1 else 's'}"
    said = f"This run has open findings, whatever its loss says ({count}): {names}."
    return f'<p class="verdict bad">{html.escape(said)}</p>'


def _loss(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    names: Sequence[str],
    unit: str,
    references: Mapping[str, float],
    marks: Sequence[Mark],
) -> Figure:
    shown = [name for name in dict.fromkeys((*names, _TOTAL)) if name in series]
    return curves(
        [Line(series_words(name).title, *series[name]) for name in shown if name != _TOTAL or len(shown) == 1],
        uirevision="loss",
        title="Loss",
        y_title=unit if shown != [_TOTAL] else series_words(_TOTAL).unit,
        references=[Reference(name, value) for name, value in references.items()],
        marks=marks,
        height=400,
        message="No step has been trained yet.",
    )


def _groups(figures: list[Figure], series: Mapping[str, tuple[ArrayLike, ArrayLike]], marks: Sequence[Mark]) -> str:
    """One part that opens for each first word of the names, a figure of at most 12 curves each."""
    groups: dict[str, list[str]] = {}
    for name in sorted(series):
        groups.setdefault(name.partition("/")[0], []).append(name)
    parts = []
    for group, names in groups.items():
        units: dict[str, list[str]] = {}
        for name in names:
            units.setdefault(series_words(name).unit, []).append(name)
        plots = [
            _plot(figures, _curves_of(group, unit, of_unit[start : start + MOST_LINES], series, marks))
            for unit, of_unit in units.items()
            for start in range(0, len(of_unit), MOST_LINES)
        ]
        words = group_words(group)
        title = html.escape(words[:1].upper() + words[1:])
        parts.append(
            f"<details><summary>{title}: {len(names)} curve{'s' if len(names) > 1 else ''}</summary>"
            f"{''.join(plots)}</details>"
        )
    return "".join(parts) or "<p>Nothing was measured.</p>"


def _curves_of(
    group: str,
    unit: str,
    names: Sequence[str],
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    marks: Sequence[Mark],
) -> Figure:
    """Curves of one unit, titled by their series where there is one, else by their group."""
    words = [series_words(name) for name in names]
    title = words[0].heading if len(words) == 1 else group_words(group).capitalize()
    return curves(
        [Line(one.title, *series[name]) for one, name in zip(words, names, strict=True)],
        uirevision=f"{group}:{names[0]}",
        title=title,
        y_title=unit,
        marks=marks,
        height=300,
    )


def _findings(figures: list[Figure], findings: Sequence[Mapping[str, Any]], judged: bool) -> str:
    if not findings:
        return "<p>Nothing wrong was found.</p>" if judged else "<p>No step was checked.</p>"
    parts = []
    for finding in findings:
        evidence = finding["evidence"]
        numbers = [
            (
                name_words(str(one["label"])),
                f"{number_words(one['value'])} {one.get('unit') or ''}".strip(),
                limit_words(one.get("limit"), one.get("side")),
            )
            for one in evidence.get("numbers") or []
        ]
        drawn = evidence.get("figure") or {}
        plot = _plot(figures, _evidence(finding, drawn)) if drawn.get("lines") else ""
        remedies = "".join(
            f"<li>{html.escape(name_words(spell_out_numbers(text)))}<span class='hint'> "
            f"{html.escape(spell_out_numbers(why))}</span></li>"
            for text, why in finding["remedies"]
        )
        at = evidence.get("shown_at")
        look = "" if at is None else f", here as of step {int(at):,}"
        quiet = "" if finding["state"] in ("active", "in transition") else " quiet"
        graded = f"{finding['grade']} {finding['role']}, " if "grade" in finding else ""
        parts.append(
            f'<div class="finding{quiet}"><h3>{html.escape(spell_out_numbers(str(finding["title"])))}</h3>'
            f'<p class="hint">{html.escape(name_words(str(finding["name"])))}, {html.escape(graded)}'
            f"{html.escape(str(finding['state']))}, "
            f"since step {int(finding['since_step']):,}, last seen at step {int(finding['last_step']):,}{look}</p>"
            f"<p>{html.escape(spell_out_numbers(str(finding['explanation'])))}</p>"
            f"{_table([('measured', 'value', 'should be'), *numbers]) if numbers else ''}{plot}"
            f"{f'<p>What to do:</p><ul>{remedies}</ul>' if remedies else ''}</div>"
        )
    return "".join(parts)


def _evidence(finding: Mapping[str, Any], drawn: Mapping[str, Any]) -> Figure:
    limit = drawn.get("limit")
    return curves(
        [Line(str(line["name"]), line["steps"], line["values"]) for line in drawn["lines"]],
        uirevision=str(finding["name"]),
        title=str(drawn.get("title") or ""),
        y_title=str(drawn.get("y_title") or ""),
        references=[] if limit is None else [Reference("limit", float(limit))],
        marks=[Mark(int(finding["since_step"]), f"found at step {int(finding['since_step']):,}")],
    )


def _samples(samples: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for sample in samples:
        stats = sample["stats"]
        shown = [
            f"{name_words(name)} {number_words(stats[name], places=2)}"
            for name in ("repetition", "distinct_2")
            if name in stats
        ]
        head = " · ".join([f"step {int(sample['step']):,}", str(sample["kind"]), *shown])
        pictures = _strips(sample["clips"]) if sample["clips"] else ""
        text = "" if pictures else f"<b>{html.escape(sample['prompt'])}</b> {html.escape(sample['text'])}"
        parts.append(f'<p class="hint">{html.escape(head)}</p>' + (pictures or f'<div class="sample">{text}</div>'))
    return "".join(parts) or "<p>No samples yet.</p>"


def _strips(stored: Sequence[Mapping[str, Any]]) -> str:
    """The frames of the first clips side by side, a picture a clip."""
    clips = stored_clips(stored[:4])
    clips = average_blocks(clips, max(1, -(-max(clips.shape[2:4]) // _SIDE)))[:, spread_frames(clips.shape[1], _FRAMES)]
    pictures = []
    for clip_FHWC in clips:
        strip_HWC = np.concatenate(list(clip_FHWC), axis=1)
        if strip_HWC.shape[2] not in (1, 3):
            strip_HWC = np.rint(strip_HWC.mean(axis=2, keepdims=True)).astype(np.uint8)
        data = base64.b64encode(png_bytes(strip_HWC)).decode("ascii")
        pictures.append(
            f'<img alt="frames of a generated clip, in order" height="{max(48, 2 * strip_HWC.shape[0])}" '
            f'src="data:image/png;base64,{data}">'
        )
    return "".join(pictures)


def png_bytes(pixels_HWC: NDArray[np.uint8]) -> bytes:
    """A picture of one channel (grey) or three (RGB) as PNG.

    Raises:
        ValueError: for anything else than uint8 [H, W, 1 or 3].
    """
    if pixels_HWC.ndim != 3 or pixels_HWC.shape[2] not in (1, 3) or pixels_HWC.dtype != np.uint8 or not pixels_HWC.size:
        raise ValueError(f"pixels are {pixels_HWC.dtype} {pixels_HWC.shape}: they must be uint8 [H, W, 1 or 3]")
    height, width, channels = pixels_HWC.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels_HWC.reshape(height, -1)], axis=1)  # filter: none
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _events(events: Sequence[tuple[int, float, str, str, Mapping[str, Any]]]) -> str:
    if not events:
        return "<p>No events yet.</p>"
    rows = [
        (
            f"{step:,}",
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall)),
            author_words(author),
            event_words(kind, payload),
        )
        for step, wall, author, kind, payload in events
    ]
    return _table([("step", "time", "author", "what"), *rows])


def _table(rows: Iterable[Sequence[str]], *, head: bool = True) -> str:
    first, *body = rows
    titles = f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in first)}</tr>" if head else ""
    lines = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f'<div class="scroll"><table>{titles}{lines}</table></div>'


def _cell(value: str | float | None) -> str:
    return value if isinstance(value, str) else number_words(value)
