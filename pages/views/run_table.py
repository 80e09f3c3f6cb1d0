"""The table of all runs; a click on a row opens that run."""

from __future__ import annotations

import streamlit as st

from pages.session import family_words, looks, messages, phrases, roles, selection
from pages.session.markdown_escape import escape_markdown
from pages.views import findings, new_run
from pages.widgets.live_fragment import rerun_when_changed
from qcore.lab import Lab, LabError, RunInfo
from qcore.runs.waiting import waiting_words


def runs(lab: Lab, info: RunInfo) -> None:
    """Newest first. It refreshes while the selected run, or else any other, is alive."""
    st.caption("Tick a row to open that run.")
    alive = next((run for run in [info, *lab.runs()] if run.alive), info)
    _table(lab)
    rerun_when_changed(lab, alive, runs=lab.runs)
    with st.container(horizontal=True, gap="small"):
        new_run.new_run_button(lab, info, "do:new from (all)")
        _deletion(lab, info)


def _deletion(lab: Lab, info: RunInfo) -> None:
    """Delete the selected run, after a second thought."""
    name = phrases.short_name(info.name)
    with st.popover(f"Delete {escape_markdown(name)}", icon=":material/delete:", disabled=info.alive):
        st.markdown(
            f"Delete **{escape_markdown(phrases.short_name(info.name))}** with its curves, samples and checkpoints? "
            "This cannot be undone."
        )
        roles.button("Delete for good", key="do:delete", type="primary", on_click=_delete, args=(lab, info.name))
    if info.alive:
        st.caption(f"{escape_markdown(name)}, the selected run, is active: stop it before deleting it.")


def _delete(lab: Lab, name: str) -> None:
    try:
        lab.delete(name)
    except LabError as error:
        messages.note("error", str(error))
        return
    remaining = lab.runs()
    if remaining:
        selection.remember_choice("run", remaining[0].name)
    else:
        st.session_state.pop("run", None)
        st.query_params.pop("run", None)
    messages.note("done", f"Deleted {name}")


def _table(lab: Lab) -> None:
    found, faults = lab.runs(), lab.all_findings()
    looks.table(
        {
            "run": [run.name for run in found],
            "state": [waiting_words(run, found, short=True) or selection.state_word(run) for run in found],
            "progress": [run.step / run.total_steps if run.total_steps else 0.0 for run in found],
            "step": [run.step for run in found],
            "of": [run.total_steps for run in found],
            "model": [run.kind for run in found],
            "parameters": [run.parameters for run in found],
            "finding": [findings.worst_finding(faults.get(run.name, ())) for run in found],
            "loss": looks.table_column([run.loss for run in found], places=3),
            "held out": looks.table_column([family_words.held_out(run) for run in found], places=3),
            "unit": [_unit(run) for run in found],
            "at step": [run.held_out_step for run in found],
            "speed": [None if (rate := family_words.speed(run)) is None else round(rate) for run in found],
            "created": [looks.local_time(run.created) for run in found],
            "preset": [run.preset for run in found],
        },
        key="runs_table",
        on_select=lambda: _open([run.name for run in found]),
        selection_mode="single-row",
        column_config={
            "run": st.column_config.TextColumn(width="medium"),
            "progress": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1, width="small"),
            "step": st.column_config.NumberColumn(format="localized"),
            "of": st.column_config.NumberColumn(format="localized"),
            "parameters": st.column_config.NumberColumn(format="compact"),
            "finding": st.column_config.TextColumn(
                width="medium", help="The most serious open finding. The loss may look good because of it."
            ),
            "loss": st.column_config.Column(help="Weighted total of the newest step, in the unit beside it."),
            "held out": st.column_config.Column(
                help="On data never trained on: cross-entropy, or the velocity's mean squared error.",
            ),
            "unit": st.column_config.TextColumn(
                help="Of both losses. Those of different units cannot be compared.", width="small"
            ),
            "at step": st.column_config.NumberColumn(
                format="localized", help="When the held-out loss was measured, where the run says so."
            ),
            "speed": st.column_config.NumberColumn(format="localized", help="Tokens or frames a second."),
        },
    )


def _unit(run: RunInfo) -> str | None:
    """Of both losses; of a run that another program wrote, only where it has one of ours."""
    known = run.kind and (family_words.has_trainer(run) or family_words.held_out(run) is not None)
    return family_words.words(run).held_unit if known else None


def _open(names: list[str]) -> None:
    rows = st.session_state["runs_table"]["selection"]["rows"]
    if rows:
        selection.remember_choice("run", names[rows[0]])
        selection.remember_choice("view", "Watch")
