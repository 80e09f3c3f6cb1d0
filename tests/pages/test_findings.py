"""The Findings page: cards, remedies that send the right commands, what a person says about a finding, and all runs."""

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from qcore.lab import Lab, rule_infos
from qcore.store import DATABASE_NAME
from qcore.store.records import PUT_FINDING, encode
from tests.pages.drive import FINDINGS, alarm, charts, open_app, press, texts
from tests.pages.inside import finding, write_run
from tests.support.configs import eventually


def put(lab: Lab, run: str, *findings: Any) -> None:
    """Write findings into a run, as its detectors would; a writer would take a living run over."""
    with contextlib.closing(sqlite3.connect(lab.runs_dir / run / DATABASE_NAME)) as connection, connection:
        connection.executemany(PUT_FINDING, map(encode, findings))


@pytest.fixture
def ill(empty: Lab, tmp_path: Path) -> Lab:
    """A lab with a finished run that has one finding."""
    write_run(tmp_path, "run", last=20, every=20, tokens=4, findings=(finding(),))
    return empty


def test_cards_tell_what_since_when_why_and_by_which_numbers(inside: Lab):
    at = open_app(FINDINGS, run="ill")
    assert not at.exception
    shown = texts(at)
    assert "since step 120, last seen at step 390" in shown
    assert "before the first step" in shown
    assert "gradients point in opposite directions" in shown
    assert "<b>−0.73</b>" in shown
    assert "limit −0.5" in shown
    assert "Earlier &lt;b&gt;outputs&lt;/b&gt; *change*" in shown
    assert charts(at) == 3


def test_a_healthy_run_is_told_so(inside: Lab):
    at = open_app(FINDINGS, run="seen")
    assert "Nothing wrong was found in this run&#x27;s 200 steps" in texts(at)
    assert alarm("seen") == ""


def test_numbers_of_stored_texts_are_written_out(empty: Lab, tmp_path: Path):
    remedy = {"label": "Set learning_rate to 1e-05", "why": "At 3e-05 it held.", "kind": "stop", "changes": {}}
    wild = finding(title="Its gradient is 1.23e+04 times the other's", remedies=[remedy])
    write_run(tmp_path, "run", last=20, every=20, tokens=4, findings=(wild,))
    for shown in (texts(open_app(FINDINGS, run="run")), texts(open_app(run="run"))):
        assert "Its gradient is 12,300 times the other" in shown.replace("\\", "")
    at = open_app(FINDINGS, run="run")
    assert "Set learning rate to 0.00001" in [button.label for button in at.button]
    assert "At 0.00003 it held." in texts(at)
    assert not re.search(r"\d(\.\d+)?e[+-]\d", texts(at))


def test_a_card_in_transition_names_the_step_of_its_numbers(empty: Lab, tmp_path: Path):
    evidence = finding().evidence | {"moving": True, "shown_at": 600}
    moving = finding(evidence=evidence, title="It flickers now", since_step=100, last_step=390)
    was = {"step": 625, "was": "It flickers now", "change": None}
    over = finding(id="over", state="resolved", remedies=[], evidence=evidence | {"moving": False, "resolved": was})
    write_run(tmp_path, "run", last=20, every=20, tokens=4, findings=(moving, over))
    shown = texts(open_app(FINDINGS, run="run"))
    assert "since step 100, last seen at step 390, here as of step 600" in shown
    assert "Its last message, at step 600: It flickers now" in shown


def test_filters_choose_the_cards_and_are_in_the_link(inside: Lab):
    at = open_app(FINDINGS, run="ill", kinds="resolved")
    assert not at.exception
    assert "Half a circle" in texts(at)
    assert "pulls against" not in texts(at)
    at = open_app(FINDINGS, run="ill", kinds="muted")
    assert "None of the 3 findings of this run is muted" in at.info[0].value


def test_remedies_of_a_run_that_nobody_trains_are_off_and_say_why(inside: Lab):
    at = open_app(FINDINGS, run="ill")
    for index in range(3):
        assert at.button(key=f"remedy:harmful_term:diversity:{index}").disabled
    assert "The run is finished, with no checkpoint to resume from: apply the change in a new run from it." in texts(at)
    assert not at.button(key="remedy:harmful_term:diversity:3").disabled


def test_a_set_remedy_changes_each_control_once(paused: Lab):
    changes = {"diversity_weight": 0.03, "learning_rate": 0.001}
    remedy = {"label": "Calm down", "why": "It overshoots.", "kind": "set", "changes": changes}
    put(paused, "alive", finding(remedies=[remedy]))
    at = open_app(FINDINGS, run="alive")
    button = at.button(key="remedy:harmful_term:diversity:0")
    assert "diversity weight 0 → 0.03" in button.help.replace("\\", "")
    button.click().run()
    assert not at.exception
    assert {name: paused.controls("alive")[name].value for name in changes} == changes
    sent = [row.payload for row in paused.reader("alive").commands() if row.kind == "set"]
    assert sent == [{"name": name, "value": value} for name, value in changes.items()]
    at.run()
    assert at.button(key="remedy:harmful_term:diversity:0").disabled
    assert "the run has these values" in texts(at)


def test_a_change_that_the_run_refuses_is_reported(paused: Lab):
    remedy = {"label": "Impossible", "why": "", "kind": "set", "changes": {"width": 8}}
    put(paused, "alive", finding(remedies=[remedy]))
    at = press(open_app(FINDINGS, run="alive"), "Impossible")
    assert not at.exception
    assert "width" in at.error[0].value


@pytest.mark.parametrize(("kind", "state"), [("pause", "paused"), ("stop", "stopped")])
def test_pause_and_stop_remedies_do_that(kind: str, state: str, paused: Lab):
    put(paused, "alive", finding(remedies=[{"label": "Do it", "why": "", "kind": kind, "changes": {}}]))
    at = open_app(FINDINGS, run="alive")
    if kind == "pause":
        assert at.button(key="remedy:harmful_term:diversity:0").disabled
        assert "paused already" in texts(at)
        return
    press(at, "Do it")
    assert not at.exception
    eventually(lambda: paused.info("alive").state == state)
    assert [row.kind for row in paused.reader("alive").commands()][-1] == kind


def test_a_new_run_has_the_changes_and_is_opened(ill: Lab):
    at = press(open_app(FINDINGS, run="run"), "Start again without it")
    assert not at.exception
    started = at.session_state["run"]
    assert started != "run"
    assert ill.config(started).optim.steps == 3
    assert ill.config(started).model == ill.config("run").model
    assert started.startswith("tiny-fixed")
    assert ill.reader(started).meta()["preset"] == "tiny-fixed"
    eventually(lambda: ill.info(started).state == "finished")
    assert ill.config("run").optim.steps == 20


def test_a_new_run_that_cannot_be_is_refused_with_the_reason(empty: Lab, tmp_path: Path):
    remedy = {"label": "Start", "why": "", "kind": "new_run", "changes": {"heads": 7}}
    write_run(tmp_path, "run", last=0, findings=(finding(remedies=[remedy]),))
    at = press(open_app(FINDINGS, run="run"), "Start")
    assert "multiple of heads" in at.error[0].value
    assert at.session_state["run"] == "run"
    assert len(empty.runs()) == 1


def test_acknowledged_and_muted_findings_leave_the_badge(ill: Lab):
    at = open_app(FINDINGS, run="run")
    assert alarm("run") == ":red-badge[:material/error: 1 broken finding]"
    at.button(key="acknowledge:harmful_term:diversity").click().run()
    assert not at.exception
    assert ill.findings("run")[0].acknowledged
    assert alarm("run") == ":gray-badge[:material/visibility: 1 broken finding]"
    assert not [button for button in at.button if button.label == "Acknowledge"]
    press(at, "Mute")
    assert ill.findings("run")[0].muted
    assert alarm("run") == ""
    assert "None of the 1 findings" in at.info[0].value
    at.button_group(key="kinds").set_value(["muted"]).run()
    press(at, "Unmute")
    assert not ill.findings("run")[0].muted


def test_only_the_first_cards_have_figures(empty: Lab, tmp_path: Path):
    many = tuple(finding(id=f"harmful_term:{index}", since_step=index) for index in range(9))
    write_run(tmp_path, "run", last=0, findings=many)
    at = open_app(FINDINGS, run="run")
    assert not at.exception
    assert charts(at) == 6
    assert texts(at).count("Its figure is left out") == 3


def test_evidence_without_numbers_figure_or_remedies_is_a_card_too(empty: Lab, tmp_path: Path):
    bare = finding(evidence={}, remedies=[])
    odd = finding(
        id="odd", evidence={"numbers": [{"label": "x", "value": None, "unit": "", "limit": None}], "figure": None}
    )
    write_run(tmp_path, "run", last=0, findings=(bare, odd))
    at = open_app(FINDINGS, run="run")
    assert not at.exception
    assert "<b>–</b>" in texts(at)


def test_the_table_of_all_runs_counts_and_filters(inside: Lab):
    at = open_app(FINDINGS, of="All runs")
    assert not at.exception
    table = at.dataframe[0].value
    assert table["run"].tolist() == ["ill"]
    assert table[["active", "resolved", "muted", "not acknowledged"]].iloc[0].tolist() == [2, 1, 0, 2]
    assert "Half a circle" in table["findings"][0]
    at = open_app(FINDINGS, of="All runs", kinds="muted")
    assert "No run has findings" in at.info[0].value


def test_the_rules_name_what_they_catch_and_their_limits(inside: Lab):
    at = open_app(FINDINGS, of="Rules")
    assert not at.exception
    cells = re.findall("<td>(.*?)</td>", texts(at))
    rows = [cells[start : start + 8] for start in range(0, len(cells), 8)]
    assert len(rows) == len(rule_infos())
    assert all(row[5] for row in rows)
    assert {"L1", "G1", "P1", "T1", "B1", "N1"} <= {code for row in rows for code in row[2].split(", ")}
    assert {row[1] for row in rows} >= {"broken (cause)", "broken (symptom)", "weak (symptom)", "note (cause)"}
    assert "set label shift: " in next(row[6] for row in rows if row[0] == "unshifted labels")


def _symptom(**more: Any) -> Any:
    measured = {"label": "largest share of one token", "value": 0.09, "unit": "", "limit": 0.4, "side": "at most"}
    evidence = {
        "role": "symptom",
        "grade": "weak",
        "causes": [],
        "ruled_out": [{"name": "padding_targets", "title": "Padding counts as a target", **measured, "step": 40}],
        "open": [],
        "not_measured": [{"name": "x", "title": "The context is ignored", "series": "a/b", "label": "response"}],
    }
    return finding(id="stuck", name="stuck", title="Still there; cause not found", evidence=evidence | more)


def test_a_symptom_lists_what_was_ruled_out_and_by_which_number(empty: Lab, tmp_path: Path):
    told = finding(name="unshifted_labels", title="Copied", remedies=[_SHIFT, _RATE])
    write_run(tmp_path, "run", last=20, every=20, tokens=4, findings=(_symptom(), told))
    at = open_app(FINDINGS, run="run")
    assert not at.exception
    shown = texts(at)
    assert "Active: 1 broken · 1 weak" in shown
    assert shown.index("Copied") < shown.index("Still there"), "broken before weak, a cause before a symptom"
    assert (
        "Padding counts as a target: largest share of one token <b>0.09</b> (should be at most 0.4), step 40" in shown
    )
    assert "The context is ignored: needs response" in shown
    assert 'data-grade="weak"' in shown
    assert 'data-role="symptom"' in shown
    assert alarm("run") == ":red-badge[:material/error: 1 broken · 1 weak]"


_SHIFT = {"kind": "set", "label": "Set label_shift to 1", "why": "Shift them.", "changes": {"label_shift": 1}}
_RATE = {"kind": "set", "label": "Set learning_rate to 1", "why": "", "changes": {"learning_rate": 1.0}}


def test_a_remedy_says_what_came_of_it_and_one_of_no_use_is_not_offered(empty: Lab, tmp_path: Path):
    useless = {"kind": "set", "label": "The guide: set t_star", "why": "", "changes": {"t_star": 0.15}}
    told = finding(id="b", name="unshifted_labels", remedies=[_SHIFT, _RATE])
    frames = finding(id="a", name="averaging_collapse", remedies=[useless, _RATE])
    write_run(tmp_path, "run", last=20, every=20, tokens=4, findings=(told, frames))
    at = open_app(FINDINGS, run="run")
    labels = [button.label for button in at.button]
    assert "The guide: set t star" not in labels
    assert "Set label shift to 1" in labels
    assert re.search(r"Shift them\. · helped in \d of \d planted runs?", texts(at))
    assert "not tried" in texts(at)


@pytest.mark.parametrize(("grade", "colour"), [("broken", "red"), ("weak", "orange"), ("note", "blue")])
def test_a_grade_has_its_colour_and_what_is_in_transition_has_none(grade: str, colour: str, empty: Lab, tmp_path: Path):
    evidence = finding().evidence | {"grade": grade, "role": "cause"}
    now = {"step": 600, "numbers": [{"label": "share", "value": 0.04, "unit": "", "limit": 0.05, "side": "at most"}]}
    moving = finding(id="moving", evidence=evidence | {"moving": True, "now": now}, last_step=390)
    write_run(tmp_path, "run", last=20, every=20, tokens=4, findings=(finding(evidence=evidence), moving))
    shown = texts(open_app(FINDINGS, run="run"))
    assert alarm("run").startswith(f":{colour}-badge[")
    badges = re.findall(r'data-grade="(\w+)"[^>]*?--st-(\w+)-background', shown)
    assert sorted(badges) == sorted([(grade, colour), (grade, "gray")])
    assert "in transition" in shown
    assert "Now, at step 600:" in shown
