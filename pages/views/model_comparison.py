"""The view of one benchmark: tables, charts, published counts, and the form that starts another one.

A benchmark runs in a process of its own and writes what it has found to a file; the view reads that file, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages.session import looks, messages, roles, selection
from pages.session.markdown_escape import escape_markdown
from pages.widgets import control_widgets, message_list
from pages.widgets.chart import chart
from qcore.base.words import number_words
from qcore.config import LANGUAGE_KINDS, PRESETS, ConfigError, OptimConfig, RunConfig, read_changes
from qcore.experiments.benchmark import MATCHES, bench_spec, cancel_benchmark, failure_text, is_working, start_benchmark
from qcore.experiments.benchmark_store import (
    EQUAL,
    Benchmark,
    benchmarks,
    published_counts,
    quality_rows,
    read_benchmark,
)
from qcore.lab import Lab, LabError
from qcore.viz.bench import QualityCurve, generation_speed, quality_curves

PACE = 2.0
_FORM = ("models", "more", "preset", "changes", "match", "equal", "steps", "seeds", "name")
_PRESETS = [
    name for name, preset in PRESETS.items() if preset.config.kind in LANGUAGE_KINDS and not preset.config.fault
]
_STATES = {"running": "blue", "finished": "green", "failed": "red", "cancelled": "gray"}
_TABLE = {
    "model": st.column_config.TextColumn("Model", help="Family, with the values that were changed for it."),
    "parameters": st.column_config.NumberColumn("Parameters", format="localized", help="Tied values count once."),
    "gflop": st.column_config.NumberColumn(
        "GFLOP", format="%.3g", help="Matrix products of one forward pass of a batch, counted; formulas below."
    ),
    "achieved": st.column_config.NumberColumn("GFLOP/s", format="%.3g", help="Counted operations ÷ forward time."),
    "forward": st.column_config.NumberColumn("Forward (ms)", format="%.1f", help="Median over rounds."),
    "backward": st.column_config.NumberColumn("Backward (ms)", format="%.1f", help="Median over rounds."),
    "speed": st.column_config.NumberColumn("Training (tokens/s)", format="localized", help="A whole step with AdamW."),
    "ratio": st.column_config.TextColumn(
        "Faster than reference", help="Reference's step ÷ this one: median, least and largest over rounds."
    ),
    "memory": st.column_config.NumberColumn(
        "Peak memory (MB)", format="%.0f", help="Of two training steps in a separate process, beyond an empty process."
    ),
    "forecast": st.column_config.NumberColumn("Forecast (MB)", format="%.0f", help="What was predicted before the "
    "run."),
    "tokens": st.column_config.TextColumn(
        "Equal tokens", help="Held-out bits per byte after the same tokens; ± half the 95 % interval over seeds."
    ),
    "seconds": st.column_config.TextColumn(
        "Equal seconds", help="Held-out bits per byte after as many seconds as the reference trains."
    ),
}  # fmt: skip


def show_models(lab: Lab) -> None:
    """The whole view: the chosen benchmark, live while it runs, and a form to start one."""
    message_list.show_messages()
    kept = benchmarks(lab.runs_dir)
    if kept:
        _choose_benchmark(lab, [one.spec.name for one in kept])
    else:
        st.info(
            "Nothing has been measured yet. Choose models below and press **Start the benchmark**, or run "
            "`qcore bench`."
        )
    with st.expander("Start a benchmark", icon=":material/speed:", expanded=not kept):
        _form(lab)
    _published_table()


def _choose_benchmark(lab: Lab, names: list[str]) -> None:
    """Pick one of them; it is in the URL."""
    wanted = st.session_state.get("bench", st.query_params.get("bench"))
    key = selection.widget_key("bench")
    name = st.selectbox(
        "Benchmark",
        names,
        names.index(wanted) if wanted in names else 0,
        key=key,
        help="Newest first; all of them are kept in the runs folder.",
        on_change=selection.store_choice,
        args=("bench", key),
    )
    st.query_params["bench"] = name
    alive = is_working(lab.runs_dir, name)
    st.fragment(lambda: _show_benchmark(lab, name, alive), run_every=PACE if alive else None)()


def _show_benchmark(lab: Lab, name: str, was_alive: bool) -> None:
    alive = is_working(lab.runs_dir, name)
    if alive != was_alive:
        st.rerun()
    try:
        found = read_benchmark(lab.runs_dir, name)
    except LabError as error:
        st.error(escape_markdown(str(error)), icon=":material/broken_image:")
        return
    _state(lab, found, alive)
    if found.measurements:
        _table(found)
        _formulas(found.measurements)
        _charts(found)


def _state(lab: Lab, found: Benchmark, alive: bool) -> None:
    """What it is doing, how far it is, and the button that ends it; what went wrong when it broke off."""
    state = found.state if alive or found.state != "running" else "failed"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(state, color=_STATES[state])  # type: ignore[arg-type]
        st.caption(escape_markdown(found.stage))
        if alive:
            roles.button(
                "Cancel",
                icon=":material/stop:",
                key="bench:cancel",
                help="End it; results so far are kept.",
                on_click=_cancel,
                args=(lab, found.spec.name),
            )
    if alive and found.runs_total:
        st.progress(len(found.runs) / found.runs_total, text=f"{len(found.runs)} of {found.runs_total} runs")
    if state == "failed":
        words = (
            found.stage
            if found.state == "failed"
            else failure_text(lab.runs_dir, found.spec.name) or "it exited unexpectedly"
        )
        st.error(f"The benchmark failed: {escape_markdown(words)}", icon=":material/error:")


def _cancel(lab: Lab, name: str) -> None:
    if not roles.current_user().operates:
        return
    try:
        cancel_benchmark(lab.runs_dir, name)
    except LabError as error:
        messages.note("error", str(error))


def _table(found: Benchmark) -> None:
    quality = {(row.label, row.equal): row for row in quality_rows(found.runs)}
    rows = []
    for one in found.measurements:
        median, low, high = one["timing"]["ratio"]
        cells = {
            "model": one["label"],
            "parameters": one["parameters"],
            "gflop": one["flops"] / 1e9,
            "achieved": one["gflops_forward"],
            "forward": one["timing"]["forward_ms"],
            "backward": one["timing"]["backward_ms"],
            "speed": round(one["tokens_per_second"]),
            "ratio": f"{number_words(median, places=2)} ({number_words(low, places=2)}–{number_words(high, places=2)})",
            "memory": _millions(one["peak_bytes"]),
            "forecast": _millions(one["forecast_bytes"]),
        }
        for equal in found.spec.equal:
            row = quality.get((one["label"], equal))
            cells[equal] = (
                "–"
                if row is None
                else number_words(row.mean, places=3) + (f" ± {number_words(row.reach, places=3)}" if row.reach else "")
            )
        rows.append(cells)
    shown = {name: column for name, column in _TABLE.items() if name in rows[0]}
    looks.table(rows, column_config=shown, width="stretch", key="bench:table")
    first = found.measurements[0]
    how = "as configured" if found.spec.match == "none" else f"matched by {found.spec.match} within 2 %"
    st.caption(
        f"Sizes {how}; the reference is {escape_markdown(found.spec.reference)}. A step is forward, cross-entropy, "
        f"backward and AdamW on {first['batch']} × {first['tokens']} tokens, {found.spec.rounds} turns, one thread; "
        f"{found.spec.seeds} seed{'s' if found.spec.seeds > 1 else ''}."
    )


def _millions(size: float | None) -> float | None:
    return None if size is None else size / 1e6


def _formulas(measurements: Sequence[dict[str, Any]]) -> None:
    with st.expander("How operations are counted", icon=":material/function:"):
        st.markdown(
            "One multiply-accumulate is two operations. b rows · s tokens · D width · L layers · H heads · d = D/H · F "
            "feed-forward width · P phases, p = ⌈P/H⌉ · V vocabulary · C tokens of a chunk, n = ⌈s/C⌉ chunks, "
            "S = n·C · M writes of a token · K planes, q = 2K/H, m channels carried, A pairs in the tiles computed."
        )
        for one in measurements:
            parts = [
                {
                    "part": part["name"],
                    "formula": part["formula"],
                    "MFLOP": part["flops"] / 1e6,
                    "share": part["flops"] / max(one["flops"], 1.0),
                    "parameters": part["parameters"],
                }
                for part in one["parts"]
            ]
            st.markdown(f"**{escape_markdown(one['label'])}**")
            columns = {"share": st.column_config.ProgressColumn("Share", format="percent", help="Of all operations.")}
            looks.table(parts, column_config=columns, key=f"bench:parts:{one['label']}")
            st.caption(
                f"Beside them {number_words(one['elementwise'] / 1e6, 3)} M values are written by operations that are "
                "no matrix product (norms, activations, sums): not in the figures above, and often what the time goes "
                "into."
            )


def _charts(found: Benchmark) -> None:
    name = found.spec.name
    left, right = st.columns(2, gap="medium")
    with left:
        rates = {one["label"]: one["generation"] for one in found.measurements if one["generation"]}
        chart(generation_speed(rates, uirevision=name), "chart:generation", "Tokens a second against position")
        st.caption(
            "One row, one token after the other with each model's own state. The transformer keeps all keys and values "
            "up to there; a flat line is a state that does not grow."
        )
    with right:
        against = st.segmented_control(
            "Against",
            EQUAL,
            key="equal",
            default=EQUAL[0],
            required=True,
            bind="query-params",
            help="tokens: what a model learns from the same text · seconds: what it learns in the same time.",
        )
        curves = [
            QualityCurve(
                run.label, run.seed, run.curve_tokens if against == "tokens" else run.curve_seconds, run.curve_bits
            )
            for run in found.runs
            if against in run.equal and run.curve_bits
        ]
        figure = quality_curves(curves, against=against, references=found.references, uirevision=name)
        chart(figure, "chart:quality", f"Held-out bits per byte against {against}")


def _published_table() -> None:
    with st.expander("Published counts beside ours", icon=":material/menu_book:"):
        st.caption("One row of 1,024 tokens, width 768, vocabulary 50,257.")
        rows = [
            {"": one.what, "published": one.published, "ours": one.ours, "formula": one.formula}
            for one in published_counts()
        ]
        looks.table(rows, width="stretch", key="bench:published")
        for one in published_counts():
            st.markdown(f"- **{one.what}**: {one.reason}")


# the form


def _form(lab: Lab) -> None:
    """Models, sizes, matching, steps and seeds; a benchmark starts with the button, not before."""
    left, right = st.columns([3, 2], gap="large")
    kinds = list(LANGUAGE_KINDS)
    with left:
        st.multiselect(
            "Models",
            kinds,
            kinds,
            key="bench:models",
            help="Families with their defaults.",
            persist_state="session",
        )
        st.text_input(
            "More models",
            key="bench:more",
            persist_state="session",
            placeholder="pam:complex_state=false; transformer:width=128,layers=4",
            help="A family, a colon and changed values, such as another size; separated by semicolons.",
        )
        st.selectbox(
            "Starting point",
            _PRESETS,
            key="bench:preset",
            persist_state="session",
            format_func=lambda name: PRESETS[name].title,
            help="Text, sizes and optimisation that all models share.",
        )
        st.text_input(
            "Changes to it",
            key="bench:changes",
            persist_state="session",
            placeholder="context=256, batch_size=4",
            help="Values of the run, as in `qcore train --set`, separated by commas.",
        )
    with right:
        st.segmented_control(
            "Match by",
            MATCHES,
            key="bench:match",
            persist_state="session",
            default=MATCHES[0],
            required=True,
            help="What all models share with the reference, within 2 %: the feed-forward width is solved for.",
        )
        st.segmented_control(
            "Quality at equal",
            EQUAL,
            selection_mode="multi",
            default=EQUAL,
            key="bench:equal",
            persist_state="session",
            help="Trains every model; none: measure only.",
        )
        control_widgets.field(OptimConfig.control("steps"), 400, "bench:steps")
        st.number_input(
            "Seeds",
            1,
            20,
            1,
            key="bench:seeds",
            help="Runs of each model; three and more give an interval.",
            persist_state="session",
        )
        st.text_input(
            "Name", "benchmark", key="bench:name", max_chars=60, help="Of the stored results.", persist_state="session"
        )
    roles.button(
        "Start the benchmark",
        type="primary",
        icon=":material/play_arrow:",
        help="It runs in its own process and continues when this page is closed.",
        on_click=_start,
        args=(lab,),
    )


def _start(lab: Lab) -> None:
    """Reads the widgets themselves: what was typed last may not have been drawn yet."""
    if not roles.current_user().operates:
        return
    form = {name: st.session_state[f"bench:{name}"] for name in _FORM}
    labels = [*form["models"], *(part.strip() for part in form["more"].split(";") if part.strip())]
    try:
        spec = bench_spec(
            labels,
            _base_config(form["preset"], form["changes"], int(form["steps"])),
            name=form["name"].strip(),
            match=form["match"],
            equal=tuple(form["equal"]),
            seeds=int(form["seeds"]),
        )
        selection.remember_choice("bench", start_benchmark(lab.runs_dir, spec))
    except (ConfigError, LabError, OSError) as error:
        messages.note("error", str(error))


def _base_config(preset: str, changes: str, steps: int) -> RunConfig:
    return PRESETS[preset].config.with_values({"steps": steps, **read_changes(changes.split(","))})
