"""The Compare page: every view of related runs, a fork and a rewind made on it, and what bad input says."""

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.views import differences
from pages.views.curves import first_own_step
from qcore.config import Stop
from qcore.experiments import effect
from qcore.lab import Lab, RunNode
from tests.pages.drive import COMPARE, TINY, TOKENS, charts, open_app, press, texts
from tests.support.configs import eventually

VIEWS = ("Tree", "Curves", "Differences", "Samples", "Effect of a change", "Sweep")


@pytest.fixture
def forked(empty: Lab) -> Lab:
    """A finished run, and a fork of it with another weight."""
    empty.start(TINY.with_values({"checkpoint_every": 4}), name="root")
    assert empty.wait("root", 60).state == "finished"
    empty.fork("root", step=4, changes={"z_loss_weight": 0.5}, new_name="child", reason="what if")
    assert empty.wait("child", 60).state == "finished"
    return empty


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_a_run_alone_says_what_to_do(view: str, finished: Lab):
    at = open_app(COMPARE, run="done", compare=view)
    assert not at.exception
    shown = texts(at)
    words = ("no forks yet", "Choose a second run", "No effect has been measured", "Nothing has been swept")
    assert any(word in shown for word in words)


def test_the_tree_shows_the_change_on_its_edge(forked: Lab):
    at = open_app(COMPARE, run="child")
    assert not at.exception
    table = at.dataframe[0].value
    assert table["run"].tolist() == ["root", "child"]
    assert table["what differs"].tolist() == ["", "z loss weight = 0.5"]
    assert table["why"].tolist() == ["", "what if"]
    assert charts(at) == 1


def test_curves_differences_and_samples_of_a_fork_and_its_parent(forked: Lab):
    at = open_app(COMPARE, run="child", compare="Curves")
    assert not at.exception
    assert charts(at) >= 3
    at = open_app(COMPARE, run="child", compare="Curves", align="since the fork")
    assert not at.exception
    at = open_app(COMPARE, run="child", compare="Differences")
    assert not at.exception
    assert "z_loss_weight" in at.dataframe[0].value["value"].tolist()
    assert "z loss weight 0 → 0.5" in at.dataframe[1].value["what"].tolist()
    at = open_app(COMPARE, run="child", compare="Samples")
    assert not at.exception
    assert "the newest that all of them have" in texts(at)


def test_a_run_is_not_drawn_over_any_run_that_it_comes_from():
    def node(name: str, parent: str = "", step: int = 0, depth: int = 0, branch: bool = False) -> RunNode:
        return RunNode(name, parent, step, {}, depth, branch, "", "", "finished", 99)

    nodes = [
        node("a"),
        node("b", "a", 40, 1),
        node("c", "b", 60, 2),
        node("early", "b", 20, 2),
        node("left", "a", 30, 1, branch=True),
        node("other", "gone", 50),
    ]
    assert first_own_step(nodes, "b", ["a", "b"]) == 40
    assert first_own_step(nodes, "c", ["a", "b", "c"]) == 60
    assert first_own_step(nodes, "c", ["a", "c"]) == 40  # from 40 to 60 it is b's line, which nobody draws
    assert first_own_step(nodes, "early", ["a", "early"]) == 20
    assert [first_own_step(nodes, name, ["c", "left", "other", "gone", "a"]) for name in ("a", "left", "other")] == [
        0,
        0,
        0,
    ]


def test_answers_of_all_stay_with_the_step_that_gave_them(forked: Lab):
    at = open_app(COMPARE, run="child", compare="Samples")
    at.text_area(key="ask_all").input("Once a")
    at.number_input(key="ask_all:max_tokens").set_value(3)
    press(at, "Ask")
    assert not at.exception
    for _ in range(2):
        shown = texts(at)
        assert "<b>root, step 8</b>" in shown
        assert "<b>child, step 8</b>" in shown
        at.switch_page(TOKENS).run()
        at.switch_page(COMPARE).run()
        at.button_group(key="compare").set_value("Samples").run()
    assert at.text_area(key="ask_all").value == "Once a"
    forked.delete("root")
    at.run()
    assert not at.exception
    assert "<b>child, step 8</b>" in texts(at)
    assert any("there is no run" in error.value.replace("\\", "") for error in at.error)


def samples_page() -> None:
    """As app.py draws it."""
    from pages.session import moment, selection
    from pages.session.lab import open_lab
    from pages.views import differences
    from pages.widgets import live_fragment, sidebar

    lab = open_lab()
    with moment.consistent_reads(lab):
        sidebar.sidebar(lab)
        live_fragment.begin_page(lab)
        differences.samples(lab, selection.listed_run(lab, "alive"))
        live_fragment.end_page(lab)


def test_a_run_that_ends_while_all_are_asked_is_news_to_its_page(paused: Lab, monkeypatch: pytest.MonkeyPatch):
    """Here the whole page is drawn while they are asked, as where another press comes at the same time."""
    at = AppTest.from_function(samples_page, default_timeout=60).run()
    at.number_input(key="ask_all:max_tokens").set_value(3)
    drawn = differences.generation_html

    def ending(*arguments: Any, **more: Any) -> str:
        if paused.info("alive").alive:
            paused.command("alive", Stop())
            paused.wait("alive", 60)
        return drawn(*arguments, **more)

    monkeypatch.setattr(differences, "generation_html", ending)
    press(at, "Ask")
    assert not at.exception
    assert paused.info("alive").state == "stopped"
    channel = at.session_state["channels"]["pulse:page"]
    sent = [json.loads(bytes(one.proto.bytes)) for one in at.get("bidi_component")]
    assert channel.address in [one["address"] for one in sent], "the page still asks"
    assert channel.answer(None).status_code == 205, "the sidebar says that it is paused"


def test_a_fork_is_one_form(forked: Lab):
    at = open_app(COMPARE, run="root")
    at.number_input(key="fork_step:root:8").set_value(4)
    at.text_area(key="fork_changes").set_value("diversity_weight = 0.3")
    at.text_input(key="fork_name").set_value("mine")
    press(at, "Fork")
    assert not at.exception
    assert forked.wait("mine", 60).state == "finished"
    lineage = forked.lineage("mine")
    assert (lineage.parent, lineage.step, lineage.changes) == ("root", 4, {"diversity_weight": 0.3})


def test_a_finished_run_is_forked_where_there_are_steps_left(forked: Lab):
    at = open_app(COMPARE, run="root")
    step = at.number_input(key="fork_step:root:8").value
    assert step < 8
    assert step in [info.step for info in forked.checkpoints("root")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [("nonsense", "write name = value"), ("wieght = 1", "unknown name"), ("diversity_weight = 99", "from 0 to 10")],
)
def test_a_fork_that_cannot_be_says_why(changes: str, words: str, forked: Lab):
    at = open_app(COMPARE, run="root")
    at.number_input(key="fork_step:root:8").set_value(4)
    at.text_area(key="fork_changes").set_value(changes)
    press(at, "Fork")
    assert any(words in error.value.replace("\\", "") for error in at.error)


def test_a_rewind_keeps_the_branch(forked: Lab):
    at = open_app(COMPARE, run="root")
    at.number_input(key="rewind_step:root:8").set_value(4)
    assert "back to step 4" in texts(at.run())
    assert "from its first step" not in texts(at)
    at.number_input(key="rewind_step:root:8").set_value(3)
    assert "trained from its first step to that one again" in texts(at.run())
    at.number_input(key="rewind_step:root:8").set_value(4)
    at.run()
    press(at, "Rewind now")
    assert not at.exception
    assert forked.info("root").step == 4
    branch = next(node for node in forked.run_tree() if node.branch)
    assert branch.parent == "root"
    assert forked.info(branch.name).step == 8


def test_an_effect_is_measured_in_the_background_and_shown(forked: Lab):
    at = open_app(COMPARE, run="root", compare="Effect of a change")
    at.text_area(key="effect_changes").set_value("z_loss_weight = 0.5")
    at.number_input(key="effect_forks").set_value(2)
    at.number_input(key="from_step:root").set_value(4)
    at.number_input(key="fork_steps").set_value(4)
    press(at, "Measure it")
    assert not at.exception
    eventually(lambda: effect.effects(forked, "root"), timeout=120)
    at = open_app(COMPARE, run="root", compare="Effect of a change")
    assert not at.exception
    assert charts(at) == 2
