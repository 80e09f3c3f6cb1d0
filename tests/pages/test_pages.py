"""Every page in its empty, paused, finished, failed and unreadable state, and what a person's changes do to a run."""

import base64
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.string_util import validate_material_icon

from pages.session.debounce import settling
from pages.views import new_run
from qcore.config import PRESETS, Continue, SetControl, Stop, default_run
from qcore.lab import Lab
from qcore.lab.forecast import memory_forecast
from qcore.store import DATABASE_NAME, RunWriter, Status
from tests.pages.drive import (
    APP,
    CONTROL_ROOM,
    ENDLESS,
    FINDINGS,
    GENERATIONS,
    PAGES,
    TOKENS,
    charts,
    errors,
    open_app,
    press,
    texts,
)
from tests.pages.filmed import write_video_run
from tests.pages.inside import finding, write_run
from tests.pages.sent import charts_of
from tests.support.configs import eventually, small_config


@pytest.mark.parametrize("page", PAGES)
def test_without_a_run_every_page_says_what_to_do(page: str, empty: Lab):
    at = open_app(page)
    assert not at.exception
    assert "There is no run yet" in at.info[0].value


@pytest.mark.parametrize("page", PAGES)
def test_a_finished_run_is_shown_and_its_link_reproduces_the_page(page: str, finished: Lab):
    at = open_app(page, run="done")
    assert not at.exception
    assert "done" in texts(at)
    assert at.query_params["run"] == "done"


def test_the_control_room_shows_figures_charts_and_events_of_a_finished_run(finished: Lab):
    at = open_app()
    shown = texts(at)
    assert "<b>finished</b>" in shown
    assert "Held out" in shown
    assert charts(at) == 6
    assert "<td>trainer</td><td>finished</td>" in shown
    assert at.button(key="do:Pause").disabled
    assert at.button(key="do:Stop").disabled
    assert not at.button(key="do:Resume now").disabled


@pytest.mark.parametrize(
    ("state", "words"), [("finished", ""), ("running", "exited unexpectedly at step 8"), ("failed", "disk")]
)
def test_a_run_without_a_checkpoint_is_started_anew_and_not_resumed(
    state: str, words: str, finished_dir: Path, empty: Lab
):
    bare = empty.runs_dir / "bare"
    shutil.copytree(finished_dir / "done", bare, ignore=shutil.ignore_patterns("step-*"))
    with RunWriter(bare / DATABASE_NAME) as writer:
        writer.set_status(Status(state, 8, 8, 0.0, 1, "here", "the disk is full" if state == "failed" else ""))
    at = open_app(run="bare")
    assert not at.exception
    shown = texts(at).replace("\\", "")
    assert words in shown
    assert "New run from this one" in shown
    assert "press <i>Resume</i>" not in shown
    assert at.button(key="do:Resume now").disabled
    assert not at.button(key="do:new from").disabled
    at.switch_page(GENERATIONS).run()
    assert "New run from this one" in at.info[0].value
    assert empty.reader("bare").newest_step() == 8


def test_a_unit_in_the_link_is_kept(finished: Lab):
    at = open_app(run="done", unit="perplexity", smooth="20 steps")
    assert not at.exception
    assert at.session_state["unit"] == "perplexity"
    assert at.session_state["smooth"] == 20


def test_an_unknown_run_in_the_link_is_named_and_another_is_shown(finished: Lab):
    at = open_app(run="nobody")
    assert not at.exception
    assert "nobody" in at.warning[0].value
    assert at.session_state["run"] == "done"


def test_tokens_shows_real_and_padding_positions_apart(finished: Lab):
    at = open_app(TOKENS)
    assert "Padding is masked" in texts(at)
    assert charts(at) == 10
    assert at.dataframe[0].value["token"].tolist() == ["pad", "bos", "eos", "unk"]


def test_tokens_goes_back_to_an_earlier_step(finished: Lab):
    at = open_app(TOKENS)
    at.toggle(key="follow").set_value(False).run()
    assert at.select_slider(key="at").options == ["0", "2", "4", "6", "8"]
    at.select_slider(key="at").set_value(4).run()
    assert not at.exception


def test_the_timeline_shows_every_sample_of_a_prompt(finished: Lab):
    at = open_app(GENERATIONS, gen="Timeline")
    assert not at.exception
    assert at.dataframe[0].value["step"].tolist() == [8, 4]
    [said] = [one.value for one in at.caption if "Sampler" in one.value]
    assert said.startswith(":material/check: Sampler = model: agrees to ")
    assert said.endswith("at step 8.")


def test_a_checkpoint_answers_a_prompt_and_the_answer_is_kept(finished: Lab):
    at = open_app(GENERATIONS)
    at.text_area(key="prompt:done").input("Once <script>alert(1)</script>").run()
    press(at, "Generate")
    assert not at.exception
    assert "Once &lt;script&gt;alert(1)&lt;/script&gt;" in texts(at)
    assert "<script>" not in texts(at)
    assert finished.reader("done").generations("prompt")[-1].prompt == "Once <script>alert(1)</script>"


def test_start_makes_a_run_with_the_changed_values_and_opens_it(empty: Lab):
    at = open_app(preset="tiny")
    at.number_input(key="new:tiny:phase_lm:steps").set_value(3).run()
    at.number_input(key="new:tiny:phase_lm:documents").set_value(30).run()
    at.text_input(key="new:name").input("mine").run()
    press(at, "Start")
    assert not at.exception
    assert at.session_state["run"] == "mine"
    assert empty.config("mine").optim.steps == 3
    eventually(lambda: empty.info("mine").state == "finished")
    assert "<b>finished</b>" in texts(at.run())


def test_a_configuration_that_cannot_be_is_named_and_not_started(empty: Lab):
    at = open_app(preset="tiny")
    at.number_input(key="new:tiny:phase_lm:heads").set_value(7).run()
    assert "multiple of heads" in at.error[0].value
    assert next(button for button in at.button if button.label == "Start").disabled


def test_a_run_larger_than_the_memory_starts_only_if_somebody_insists(empty: Lab, monkeypatch: pytest.MonkeyPatch):
    found = replace(memory_forecast(default_run()), available=1000)
    monkeypatch.setattr(new_run, "memory_forecast", lambda config: found)
    at = open_app(preset="tiny")
    at.number_input(key="new:tiny:phase_lm:steps").set_value(1_000_000).run()
    assert "This needs about" in at.error[0].value
    press(at, "Start")
    assert "Start anyway" in at.error[0].value
    assert not empty.runs()
    at.checkbox(key="new:tiny:insists").check().run()
    at.selectbox(key="preset").set_value("pam").run()
    assert not at.checkbox(key="new:pam:insists").value, "said of another configuration"
    at.selectbox(key="preset").set_value("tiny").run()
    at.checkbox(key="new:tiny:insists").check().run()
    press(at, "Start")
    assert not at.exception
    assert len(empty.runs()) == 1


def test_a_wrong_key_in_yaml_is_answered_with_the_nearest_one(empty: Lab):
    at = open_app(preset="tiny", edit_as="YAML")
    at.text_area(key="new:tiny:yaml").input("optim: {learning_rat: 0.1}").run()
    assert "learning\\_rate" in at.error[0].value


def test_a_turned_knob_is_one_event_and_is_acknowledged_while_paused(paused: Lab):
    at = open_app()
    key = "knob:alive:diversity_weight:0"
    for value in (0.1, 0.2, 0.3):  # turned on and on: the last value counts, once it stands still
        at.select_slider(key=key).set_value(value).run()
        assert not at.exception
    assert any(caption.value.startswith("…") for caption in at.caption)
    eventually(lambda: paused.controls("alive")["diversity_weight"].version == 1)
    at.run()
    changes = [event.payload for event in paused.reader("alive").events() if event.kind == "control"]
    assert changes == [{"name": "diversity_weight", "old": 0.0, "new": 0.3}]
    step = paused.controls("alive")["diversity_weight"].step
    said = [caption.value.replace("\\", "") for caption in at.caption]
    assert f"✓ diversity weight 0 → 0.3 at step {step}" in said
    at.run()
    assert len([event for event in paused.reader("alive").events() if event.kind == "control"]) == 1
    at.button(key="reset:alive:diversity_weight").click().run()
    assert paused.controls("alive")["diversity_weight"].value == 0.0
    assert at.select_slider(key="knob:alive:diversity_weight:1").value == 0.0


def test_two_tabs_at_one_knob_know_of_each_other(paused: Lab):
    one, two = open_app(run="alive"), open_app(run="alive")
    key = "knob:alive:diversity_weight:0"
    one.select_slider(key=key).set_value(0.3).run()
    assert "… diversity weight → 0.3" in texts(one)
    two.select_slider(key=key).set_value(0.2).run()
    settling.flush(("alive",))
    eventually(lambda: paused.controls("alive")["diversity_weight"].value == 0.2)
    one.run()
    assert "diversity weight → 0.3 was not sent: the control was changed in another tab" in errors(one)[0].replace(
        "\\", ""
    )
    assert one.session_state["turned:alive"].is_settled(paused, "alive")
    assert one.select_slider(key="knob:alive:diversity_weight:1").value == 0.2
    assert "✓ diversity weight 0 → 0.2 at step" in texts(two.run())


def test_a_knob_of_a_run_that_has_ended_waits_for_its_resumption_and_asks_nobody(finished_dir: Path, empty: Lab):
    shutil.copytree(finished_dir / "done", empty.runs_dir / "over")
    at = open_app(run="over")
    at.select_slider(key="knob:over:diversity_weight:0").set_value(0.3).run()
    assert "pulse:knobs:over" in at.session_state["channels"]
    settling.flush(("over",))
    at.run()
    assert "… diversity weight → 0.3: queued; the run applies it when it is resumed" in texts(at).replace("\\", "")
    assert at.session_state["turned:over"].is_settled(empty, "over")
    empty.resume("over", steps=9)
    assert empty.wait("over", 60).state == "finished"
    assert "✓ diversity weight 0 → 0.3 at step 8" in texts(at.run())


def test_a_knob_follows_a_change_made_elsewhere(paused: Lab):
    at = open_app()
    assert at.select_slider(key="knob:alive:eos_weight:0").value == 0.0
    paused.outcome("alive", paused.command("alive", SetControl("eos_weight", 0.37)), 10)
    at.run()
    assert not at.exception
    shown = [slider.value for slider in at.select_slider if "EOS weight" in slider.label]
    assert shown == [0.37]


@pytest.mark.parametrize(
    ("title", "sections"), [("Optimiser", "optim model"), ("Objective", "objective data"), ("Probes", "probes")]
)
def test_every_live_control_has_a_knob(title: str, sections: str, finished: Lab):
    at = open_app(knobs=title)
    assert not at.exception
    keys = {
        str(widget.key)
        for kind in (at.select_slider, at.slider, at.number_input, at.button_group, at.text_area, at.toggle)
        for widget in kind
    }
    expected = {name for name, state in finished.controls("done").items() if state.control.section in sections.split()}
    assert expected == {key.split(":")[2] for key in keys if key.startswith("knob:done:")}


def test_the_buttons_of_a_paused_run_step_continue_and_stop_it(paused: Lab):
    at = open_app()
    assert at.button(key="do:Pause").disabled
    step = paused.info("alive").step
    at.button(key="do:Go").click().run()
    eventually(lambda: paused.info("alive").step == step + 1 and paused.info("alive").state == "paused")
    at.run().button(key="do:Continue").click().run()
    eventually(lambda: paused.info("alive").step > step + 5)
    at.run().button(key="do:Stop").click().run()
    assert paused.wait("alive", 30).state == "stopped"
    assert not at.run().exception
    assert "<b>stopped</b>" in texts(at)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_draws_a_living_run(page: str, running: Lab):
    at = open_app(page, run="alive")
    assert not at.exception
    assert at.query_params["run"] == "alive"


def test_the_table_lists_all_runs_also_unreadable_ones(finished: Lab, tmp_path, monkeypatch):
    broken = finished.runs_dir / "broken"
    broken.mkdir()
    (broken / DATABASE_NAME).write_text("this is no database")
    at = open_app(view="All runs")
    assert not at.exception
    table = at.dataframe[0].value
    assert set(zip(table["run"], table["state"], strict=True)) == {("done", "finished"), ("broken", "unreadable")}
    for page in PAGES:
        at = open_app(page, run="broken")
        assert not at.exception
        assert "cannot be read" in texts(at)
    (broken / DATABASE_NAME).unlink()


@pytest.mark.parametrize("page", PAGES)
def test_a_failed_run_says_why_and_what_to_do(page: str, finished_dir: Path, empty: Lab):
    folder = empty.runs_dir / "bad"
    shutil.copytree(finished_dir / "done", folder)
    with RunWriter(folder / DATABASE_NAME) as writer:
        writer.set_status(Status("failed", 8, 9, 0.0, 1, "here", "term ce is NaN at step 9"))
    at = open_app(page, run="bad")
    assert not at.exception
    assert "<b>The run failed at step 8.</b> term ce is NaN at step 9" in texts(at)
    assert "<i>Resume</i>" in texts(at)


def test_a_queued_run_is_shown_on_every_page_before_its_first_step(paused: Lab):
    paused.command("alive", Continue())
    eventually(lambda: paused.info("alive").state == "running")
    paused.start(ENDLESS, name="waits")
    eventually(lambda: paused.info("waits").waits_for == ("alive",))
    for page in PAGES:
        at = open_app(page, run="waits", **({"gen": "Timeline"} if page == GENERATIONS else {}))
        assert not at.exception, page
        assert at.session_state["run"] == "waits"
        if page in (CONTROL_ROOM, FINDINGS, GENERATIONS):  # the others show what was measured before the first step
            assert "queued: waits for alive" in texts(at).replace("\\", ""), page
        assert "Nothing wrong" not in texts(at), page


@pytest.mark.parametrize(
    ("page", "query", "words"),
    [
        (TOKENS, {}, "before its token statistics were measured"),
        (GENERATIONS, {"gen": "Timeline"}, "before its samples of this prompt were written"),
        (FINDINGS, {}, "No step of this run has been checked yet: it ended before its first step."),
    ],
)
@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_run_that_has_nothing_promises_nothing(
    page: str, query: dict[str, str], words: str, state: str, empty: Lab, tmp_path: Path
):
    write_run(tmp_path, "blank", last=0, tokens=4, state=state)
    shown = texts(open_app(page, run="blank", **query))
    assert words in shown
    assert ("Start another with a smaller" in shown) == (state == "finished" and page != FINDINGS)
    assert "every" not in shown.partition(words)[2].partition("`")[0]
    assert "Nothing wrong" not in shown


def test_no_table_writes_none():
    """Streamlit's own word for what is not known is `None`; one helper says a dash."""
    drawn = [path.name for path in APP.parent.glob("pages/**/*.py") if "st.dataframe(" in path.read_text()]
    assert drawn == ["looks.py"]


def test_the_table_of_runs_says_units_and_the_worst_finding(empty: Lab, tmp_path: Path):
    over = finding("half_circle", id="over", state="resolved", title="Half a circle", remedies=[])
    later = finding(id="later", since_step=9, title="A later one")
    large = finding(id="first", since_step=2, title="Its gradient is 1.23e+04 times that of the loss")
    write_run(tmp_path, "ill", last=20, every=20, tokens=4, findings=(over, later, large))
    write_run(tmp_path, "well", last=20, every=20, tokens=4, findings=(over,))
    write_video_run(tmp_path, "clips", last=20, every=20)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / DATABASE_NAME).write_bytes(b"no database")
    at = open_app(view="All runs", run="well")
    assert not at.exception
    assert at.dataframe[0].proto.placeholder == "–"
    rows = at.dataframe[0].value.set_index("run").replace({float("nan"): None})
    assert rows["finding"].to_dict() == {
        "ill": "Its gradient is 12,300 times that of the loss · and 1 more",
        "well": None,
        "clips": None,
        "broken": None,
    }
    assert rows["unit"].to_dict() == {
        "ill": "nats per token",
        "well": "nats per token",
        "clips": "mean squared error",
        "broken": None,
    }


def test_a_fork_shows_its_parents_curve_up_to_the_fork(empty: Lab):
    empty.start(small_config(steps=16, checkpoint_every=4, eval_every=4), name="root")
    empty.wait("root", 60)
    empty.fork("root", step=8, changes={"z_loss_weight": 0.5}, new_name="child")
    empty.wait("child", 60)
    empty.fork("child", step=12, changes={"z_loss_weight": 0.1}, new_name="grandchild")
    empty.wait("grandchild", 60)
    drawn: dict[str, dict[str, dict]] = {}
    for run in ("root", "child", "grandchild"):
        shown = [trace for trace in charts_of(open_app(run=run))["loss"]["data"] if _steps(trace)]
        drawn[run] = {trace["name"]: trace for trace in shown}
    name = "cross-entropy, training"
    assert not [one for one in drawn["root"] if ":" in one]
    ends = {
        run: {one: [min(_steps(found[one])), max(_steps(found[one]))] for one in found if one.endswith(name)}
        for run, found in drawn.items()
    }
    assert ends["child"] == {name: [9, 16], f"root: {name}": [1, 8]}
    assert ends["grandchild"] == {name: [13, 16], f"child: {name}": [9, 12], f"root: {name}": [1, 8]}
    assert "root: cross-entropy, held out" in drawn["child"]
    own, before = (drawn["child"][one]["line"]["color"] for one in (name, f"root: {name}"))
    assert own.startswith("#")
    assert before.startswith("rgba(")


def _steps(trace: dict) -> list[int]:
    """Steps of a trace, as the browser reads them."""
    column = trace.get("x", ())
    if not isinstance(column, dict):
        return [int(step) for step in column if step is not None]
    kinds = {"f8": np.float64, "f4": np.float32, "i4": np.int32, "i2": np.int16, "i1": np.int8}
    return np.frombuffer(base64.b64decode(column["bdata"]), kinds[column["dtype"]]).astype(int).tolist()


def test_a_run_is_deleted_after_a_second_thought(empty: Lab):
    for name in ("kept", "gone"):
        empty.start(small_config(steps=2), name=name)
        empty.wait(name, 60)
    at = open_app(view="All runs", run="gone")
    at.button(key="do:delete").click().run()
    assert not at.exception
    assert [info.name for info in empty.runs()] == ["kept"]
    assert at.session_state["run"] == "kept"


@pytest.mark.parametrize("preset", ["tiny", "fault-l2"])
def test_a_form_that_nobody_touched_is_the_preset(preset: str, empty: Lab):
    at = open_app()
    press(at.selectbox(key="preset").set_value(preset).run(), "Start")
    [info] = empty.runs()
    assert info.preset == preset
    assert empty.config(info.name) == PRESETS[preset].config
    empty.command(info.name, Stop())


def test_every_icon_exists():
    """A name that Streamlit does not know breaks a page only where it is drawn."""
    names = {
        name
        for path in [APP, *APP.parent.glob("pages/**/*.py")]
        for name in re.findall(r":material/\w+:", path.read_text())
    }
    assert len(names) > 40
    for name in names:
        validate_material_icon(name)
