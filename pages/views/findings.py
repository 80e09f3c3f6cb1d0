"""Findings as cards with evidence and one-click remedies, and as a table over all runs.

A card's remedy is the same command that a knob or a button sends. Remedies that change a run need a living one; a new
run with the changes can always be started.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import streamlit as st

from pages.session import advice, family_words, looks, messages, roles, selection
from pages.session.markdown_escape import escape_markdown
from pages.widgets import boxes
from pages.widgets.chart import chart
from pages.widgets.finding_words import (
    ACTIVE,
    KINDS,
    RESOLVED,
    badges_html,
    causes_html,
    count_words,
    kind_of,
    now_html,
    numbers_html,
    urgency,
    when_words,
)
from pages.widgets.live_fragment import rerun_when_changed
from qcore.base.run_states import ACTIVE as TRAINING_STATES
from qcore.base.run_states import RunState
from qcore.config import ConfigError, Pause, Restore, SetControl, Stop
from qcore.lab import ControlState, FindingInfo, Lab, LabError, RuleInfo, RunInfo, rule_infos, tried_words
from qcore.viz import (
    Figure,
    Line,
    Mark,
    Reference,
    change_words,
    changes_words,
    curves,
    name_words,
    number_words,
    spell_out_numbers,
)

FIGURES = 6
_ICONS = {"set": "tune", "restore": "history", "pause": "pause", "stop": "stop", "new_run": "add_circle"}


def worst_finding(findings: Iterable[FindingInfo]) -> str | None:
    """The open finding that matters most, in words: one that nobody has acknowledged, the worst grade, a cause before
    what follows from it, and then the earliest; None where none is open.
    """
    found = sorted((one for one in findings if kind_of(one) == ACTIVE), key=urgency)
    more = f" · and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{spell_out_numbers(found[0].title)}{more}" if found else None


def run_findings(lab: Lab, info: RunInfo) -> None:
    """The run's findings, the ones that need attention first."""
    findings = lab.findings(info.name)
    kinds = _filter() if findings or family_words.has_trainer(info) else []
    shown = sorted((one for one in findings if kind_of(one) in kinds), key=urgency)
    if not findings:
        _nothing_found(lab, info)
    elif not shown:
        st.info(f"None of the {len(findings)} findings of this run is {' or '.join(kinds) or 'chosen'} above.")
    standing = [one for one in findings if kind_of(one) == ACTIVE]
    if standing:
        boxes.caption("count", f"Active: {count_words(standing)}")
    controls = lab.controls(info.name) if shown else {}
    for index, finding in enumerate(shown):
        _card(lab, info, finding, controls, with_figure=index < FIGURES)
    rerun_when_changed(lab, info)


def findings_of_all_runs(lab: Lab, info: RunInfo) -> None:
    """A row for each run that has findings of the chosen kinds, newest run first."""
    kinds = _filter()
    st.caption("Tick a row to see that run's findings.")
    alive = next((run for run in [info, *lab.runs()] if run.alive), info)
    _table(lab, kinds)
    rerun_when_changed(lab, alive, runs=lab.runs)


def rules() -> None:
    """What the detectors look for in every run."""
    found = rule_infos()
    st.caption(
        f"These {len(found)} rules watch every run that this lab trains, some of them before its first step. A rule's "
        "code is that of the fault which it must catch; start a run from a *Fault* preset to see one at work."
    )
    head = ("rule", "grade", "catches", "what it finds", "why it matters", "limits", "remedies tried", "false alarms")
    st.html(looks.wrapped_table("Rules", head, [_rule_row(rule) for rule in found]))


def _rule_row(rule: RuleInfo) -> tuple[str, ...]:
    explained = f" It may follow from {', '.join(map(name_words, rule.explained_by))}." if rule.explained_by else ""
    return (
        name_words(rule.name),
        f"{rule.grade} ({rule.role})",
        ", ".join(rule.faults),
        rule.title,
        rule.explanation + explained,
        ", ".join(f"{name_words(name)} {number_words(value, 3)}" for name, value in rule.thresholds.items()),
        ", ".join(f"{name_words(one.remedy)}: {one.helped} of {one.runs}" for one in rule.remedies) or "none",
        rule.false_alarms,
    )


def _filter() -> list[str]:
    return st.pills(
        "Show",
        KINDS,
        selection_mode="multi",
        default=[ACTIVE, RESOLVED],
        key="kinds",
        bind="query-params",
        label_visibility="collapsed",
    )


def _nothing_found(lab: Lab, info: RunInfo) -> None:
    """Green only where a step was judged: before the first one, a model has learned nothing that could be wrong."""
    if not family_words.has_trainer(info):
        text = (
            "No detector of this lab has judged this run, because another program wrote it. What that program finds "
            "would be listed here; whether anything is wrong with it is not known."
        )
        boxes.message_box("nothing", "info", text)
        return
    if info.step == 0:
        ahead = (
            "it is paused before its first step" if info.state == RunState.PAUSED else "its first step has not finished"
        )
        why = (advice.queue_text(lab, info) or ahead) if info.alive else "it ended before its first step"
        boxes.message_box("nothing", "info", f"No step of this run has been checked yet: {why}.")
        return
    if info.alive:
        text = (
            f"Nothing wrong found up to step {info.step:,}. The detectors keep watching: "
            f"{family_words.words(info).watched}."
        )
    else:
        text = f"Nothing wrong was found in this run's {info.step:,} steps."
    boxes.message_box("nothing", "success", text)


def _card(
    lab: Lab, info: RunInfo, finding: FindingInfo, controls: Mapping[str, ControlState], *, with_figure: bool
) -> None:
    with st.container(border=True, key=f"finding:{finding.id}"):
        boxes.html_element(f"head:{finding.id}", _head(finding))
        evidence = finding.evidence or {}
        if was := (evidence.get("resolved") or {}).get("was"):
            at = evidence.get("shown_at", finding.last_step)
            st.caption(f"Its last message, at step {at:,}: {escape_markdown(spell_out_numbers(was))}")
        figure = _figure(info.name, finding, evidence.get("figure"))
        place, side = st.columns([3, 2], gap="large") if figure and with_figure else (st.container(), None)
        with place:
            numbers = numbers_html(evidence.get("numbers") or []) + now_html(finding) + causes_html(finding)
            boxes.html_element(
                f"body:{finding.id}", f"<p>{html.escape(spell_out_numbers(finding.explanation))}</p>{numbers}"
            )
            if figure is not None and side is None:
                st.caption("Its figure is left out, because many findings are shown: hide some with the filter above.")
            _remedies(lab, info, finding, controls)
        if side is not None and figure is not None:
            with side:
                # Its own looks, and none beside them: it ends where the detector looked last.
                chart(figure, f"chart:{finding.id}", f"Evidence: {spell_out_numbers(finding.title)}", info.step)


def _head(finding: FindingInfo) -> str:
    """Badges, when it was found and seen last, and the title; what is over says until when it was so."""
    title = spell_out_numbers(finding.title)
    if finding.state == RESOLVED and "resolved" not in (finding.evidence or {}):  # of a version that kept the title
        title = f"Until step {finding.last_step:,}: {title}"
    when = f'<span class="lab-small">{html.escape(when_words(finding))}</span>'
    return f'<div class="finding-head">{badges_html(finding)}{when}</div><h2>{html.escape(title)}</h2>'


def _figure(run: str, finding: FindingInfo, figure: dict[str, Any] | None) -> Figure | None:
    if not figure or not figure.get("lines"):
        return None
    limit = figure.get("limit")
    return curves(
        [Line(str(line["name"]), line["steps"], line["values"]) for line in figure["lines"]],
        uirevision=f"{run}:{finding.id}",
        title=str(figure.get("title") or ""),
        y_title=str(figure.get("y_title") or ""),
        references=[] if limit is None else [Reference(_limit_name(figure.get("side")), float(limit))],
        marks=[Mark(finding.since_step, "found"), *_change_mark(finding)],
        height=240,
    )


def _limit_name(side: Any) -> str:
    return "limit" if not side else "healthy below" if side == "at most" else "healthy above"


def _change_mark(finding: FindingInfo) -> list[Mark]:
    """The change before a finding was over."""
    change = ((finding.evidence or {}).get("resolved") or {}).get("change")
    return [Mark(int(change["step"]), change_words(change["name"], change["old"], change["new"]))] if change else []


def _remedies(lab: Lab, info: RunInfo, finding: FindingInfo, controls: Mapping[str, ControlState]) -> None:
    """What to do, one button a remedy with its reason, then acknowledge and mute."""
    if not family_words.has_trainer(info):
        _remedies_in_words(finding)
        _acknowledge(lab, info, finding)
        return
    dead = _why_unchangeable(lab, info)
    for index, remedy in enumerate(finding.remedies):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            reason = _refusal(info, remedy, controls, dead)
            shown: dict[str, Any] = {
                "icon": f":material/{_ICONS.get(remedy['kind'], 'build')}:",
                "type": "primary" if index == 0 and kind_of(finding) == ACTIVE else "secondary",
                "disabled": bool(reason),
            }
            press: dict[str, Any] = {
                "key": f"remedy:{finding.id}:{index}",
                "on_click": _apply,
                "args": (lab, info.name, finding.since_step, remedy),
            }
            label = escape_markdown(name_words(spell_out_numbers(remedy["label"])))
            if remedy["kind"] == "restore":
                with st.popover(label, **shown):
                    st.markdown(escape_markdown(_restore_text(info, finding, remedy, controls)))
                    roles.button("Put them back", icon=":material/history:", type="primary", **press)
            else:
                about = escape_markdown(reason or _changes(remedy, controls)) or None
                roles.button(label, help=about, **shown, **press)
            said = " · ".join(one for one in (str(remedy.get("why") or ""), tried_words(remedy)) if one)
            why = escape_markdown(spell_out_numbers(said))
            st.caption(f"{why} *{escape_markdown(reason)}*" if reason and reason != dead else why, width="stretch")
    if dead and any(remedy["kind"] != "new_run" for remedy in finding.remedies):
        st.caption(f"*{dead}*")
    _acknowledge(lab, info, finding)


def _remedies_in_words(finding: FindingInfo) -> None:
    """What to do in the program that trains the run: nothing here can do it."""
    for remedy in finding.remedies:
        why = escape_markdown(spell_out_numbers(str(remedy.get("why") or "")))
        st.markdown(
            f"**{escape_markdown(name_words(spell_out_numbers(remedy['label'])))}**" + (f" · {why}" if why else "")
        )
    if finding.remedies:
        st.caption("To be done in the program that trains it.")


def _acknowledge(lab: Lab, info: RunInfo, finding: FindingInfo) -> None:
    with st.container(horizontal=True, gap="small"):
        if kind_of(finding) == ACTIVE and not finding.acknowledged:
            roles.button(
                "Acknowledge",
                icon=":material/visibility:",
                key=f"acknowledge:{finding.id}",
                help="Mark it as seen: the badge turns grey.",
                on_click=_note_refusal,
                args=(partial(lab.acknowledge, info.name, finding.id),),
            )
        roles.button(
            "Unmute" if finding.muted else "Mute",
            icon=f":material/notifications{'' if finding.muted else '_off'}:",
            key=f"mute:{finding.id}",
            type="tertiary",
            help="Count it again." if finding.muted else "Leave it out of the badge and of the active findings.",
            on_click=_note_refusal,
            args=(partial(lab.mute, info.name, finding.id, not finding.muted),),
        )


def _why_unchangeable(lab: Lab, info: RunInfo) -> str:
    """Why nothing can be changed in a run that nobody trains; empty while somebody does."""
    if info.alive and info.state in TRAINING_STATES:
        return ""
    if not info.alive and lab.stranded_steps(info.name):
        return (
            f"The run is {selection.state_word(info)}, with no checkpoint to resume from: apply the change in a "
            f"new run from it."
        )
    return f"The run is {selection.state_word(info)}: resume it in the control room before changing it."


def _refusal(info: RunInfo, remedy: dict[str, Any], controls: Mapping[str, ControlState], dead: str) -> str:
    """Why a remedy cannot be pressed now; empty when it can.

    Args:
        dead: as of `_why_unchangeable`.
    """
    kind = remedy["kind"]
    if kind == "new_run":
        return ""
    if dead:
        return dead
    if kind == "pause" and info.state == RunState.PAUSED:
        return "It is paused already."
    if kind == "set":
        changes = remedy.get("changes") or {}
        if changes and all(name in controls and controls[name].value == value for name, value in changes.items()):
            return "Done: the run has these values."
    return ""


def _changes(remedy: dict[str, Any], controls: Mapping[str, ControlState]) -> str:
    """The changes in words, such as `learning rate 0.003 → 0.001`."""
    changes = remedy.get("changes") or {}
    return changes_words(changes, {name: state.value for name, state in controls.items()})


def _restore_text(
    info: RunInfo, finding: FindingInfo, remedy: dict[str, Any], controls: Mapping[str, ControlState]
) -> str:
    """What putting weights back does, before it is done."""
    changes = _changes(remedy, controls)
    return (
        f"The weights and moments of the newest checkpoint from before step {finding.since_step:,} replace those of "
        f"step {info.step:,}: what the model has learned since is lost. Steps, curves and samples stay."
        + (f" Then {changes}." if changes else "")
    )


def _apply(lab: Lab, run: str, since: int, remedy: dict[str, Any]) -> None:
    """Callback of a remedy's button."""
    changes = remedy.get("changes") or {}
    match remedy["kind"]:
        case "set":
            for name, value in changes.items():
                messages.send(lab, run, SetControl(name, value))
        case "restore":
            messages.send(lab, run, Restore(since))
            for name, value in changes.items():
                messages.send(lab, run, SetControl(name, value))
        case "pause":
            messages.send(lab, run, Pause())
        case "stop":
            messages.send(lab, run, Stop())
        case "new_run":
            _start(lab, run, changes)
        case kind:
            messages.note("error", f"remedy of kind {kind!r} is unknown to this page")


def _start(lab: Lab, run: str, changes: dict[str, Any]) -> None:
    """A new run of the same configuration with the changes; the page then shows it."""
    preset = str(lab.reader(run).meta().get("preset") or "")
    try:
        started = lab.start(
            lab.config(run).with_values(changes), preset=preset and f"{preset.removesuffix('-fixed')}-fixed"
        )
    except (LabError, ConfigError) as error:
        messages.note("error", str(error))
        return
    selection.remember_choice("run", started)
    messages.note("done", f"Started {started}; this page now shows it")


def _note_refusal(act: Any) -> None:
    try:
        act()
    except LabError as error:
        messages.note("error", str(error))


def _table(lab: Lab, kinds: list[str]) -> None:
    found = lab.all_findings()
    states = {run.name: run for run in lab.runs()}
    rows = [
        (states[name], chosen, findings)
        for name, findings in found.items()
        if name in states and (chosen := sorted((one for one in findings if kind_of(one) in kinds), key=urgency))
    ]
    rows.sort(key=lambda row: (-row[0].created, row[0].name))
    if not rows:
        st.info(f"No run has findings that are {' or '.join(kinds) or 'chosen'}.")
        return
    looks.table(
        {
            "run": [run.name for run, *_ in rows],
            "state": [selection.state_word(run) for run, *_ in rows],
            "not acknowledged": [sum(one.needs_attention for one in every) for *_, every in rows],
            **{kind: [sum(kind_of(one) == kind for one in every) for *_, every in rows] for kind in KINDS},
            "since step": [min(one.since_step for one in chosen) for _, chosen, _ in rows],
            "last seen": [max(one.last_step for one in chosen) for _, chosen, _ in rows],
            "created": [looks.local_time(run.created) for run, *_ in rows],
            "findings": [" · ".join(spell_out_numbers(one.title) for one in chosen) for _, chosen, _ in rows],
        },
        key="findings_table",
        on_select=lambda: _open([run.name for run, *_ in rows]),
        selection_mode="single-row",
        column_config={
            "run": st.column_config.TextColumn(width="medium"),
            "findings": st.column_config.TextColumn(width="large"),
            "since step": st.column_config.NumberColumn(format="localized", help="Of the earliest of them."),
            "last seen": st.column_config.NumberColumn(format="localized", help="Newest step that showed one of them."),
        },
    )


def _open(names: list[str]) -> None:
    rows = st.session_state["findings_table"]["selection"]["rows"]
    if rows:
        selection.remember_choice("run", names[rows[0]])
        st.session_state["of"] = "This run"
