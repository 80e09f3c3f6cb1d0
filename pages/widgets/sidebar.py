"""The sidebar: run picker, refresh interval, state badge and the link to what calls for attention."""

from __future__ import annotations

import streamlit as st

from pages.session import looks, phrases, roles, selection
from pages.session.markdown_escape import escape_markdown
from pages.session.page_list import FINDINGS
from pages.widgets import boxes, finding_words
from pages.widgets.live_panel import html_element
from qcore.lab import Lab, RunInfo
from qcore.viz import name_words


def sidebar(lab: Lab) -> None:
    """Run picker, refresh interval and state badge; makes `st.session_state.run` valid and writes it to the URL."""
    looks.style()
    roles.account_badge()
    runs = {one.name: one for one in lab.runs()}
    wanted = st.session_state.get("run", st.query_params.get("run"))
    if wanted is not None and wanted not in runs:
        st.warning(
            f"There is no run {escape_markdown(phrases.short_name(wanted))} in "
            f"{escape_markdown(str(lab.runs_dir))}; the newest one is shown."
        )
    name = wanted if wanted in runs else next(iter(runs), None)
    st.session_state["run"] = name
    with st.sidebar:
        key = selection.widget_key("run")
        st.selectbox(
            "Run",
            list(runs),
            list(runs).index(name) if name in runs else None,
            key=key,
            format_func=phrases.short_name,
            placeholder="no run yet",
            help=escape_markdown(name) if name else None,
            on_change=selection.store_choice,
            args=("run", key),
        )
        if name in runs:
            st.query_params["run"] = name
            state_badge(selection.listed_run(lab, name))
            _alarm(lab, name)
        st.segmented_control(
            "Refresh (seconds)",
            list(selection.INTERVALS),
            key="refresh",
            default=selection.REFRESH,
            required=True,
            bind="query-params",
            help="How often the charts of an active run are redrawn. Each refresh takes a little CPU time.",
        )


def _alarm(lab: Lab, run: str) -> None:
    """Link to the findings of a run, in the colour of the worst grade that calls for attention, grey when all of the
    active ones are acknowledged, nothing without any. It counts grades and names rules, and has no numbers, which
    would be those of an earlier look.
    """
    found = selection.active_findings(lab, run)
    if found:
        calls = [one for one in found if one.needs_attention]
        colour = finding_words.colour_of(finding_words.worst_grade(calls)) if calls else "gray"
        count = finding_words.count_words(found)
        if " · " not in count:  # room for the word
            count += f" finding{'s' if len(found) > 1 else ''}"
        st.page_link(
            FINDINGS.path,
            label=f":{colour}-badge[:material/{'error' if calls else 'visibility'}: {count}]",
            help=" · ".join(name_words(one.name) for one in found[:3]) + (" · …" if len(found) > 3 else ""),
        )


def state_badge(info: RunInfo) -> None:
    """State of a run as a coloured badge."""
    word = selection.state_word(info)
    html_element("state", boxes.badge_html(word, selection.COLORS[word], word.about, state=word, run=info.name))
