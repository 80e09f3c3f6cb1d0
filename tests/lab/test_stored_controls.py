"""What a run keeps and cannot obey, such as a text of an earlier version: the control is refused, not the run."""

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcore.automation.dry_run import dry_run
from qcore.config import ConfigError, RunConfig, SetControl
from qcore.lab import Lab, LabError
from qcore.runs.checkpoint_folders import checkpoint_folders
from qcore.store import Event, Inbox, RunWriter
from qcore.train.worker import Worker
from tests.support.configs import eventually, small_config, small_video

HUGE = ["9" * 400 + ": ce_weight = 1"]
COMMA = ["learning_rate: 1e-5 .. 0.01, change x2, every 50 steps,"]
BAD = {
    "a step of 400 digits": ("schedule", HUGE),
    "a separator of lines": ("schedule", ["0% \u2028.. 5: ce_weight = 1"]),
    "a schedule in a schedule": ("schedule", ["1: schedule=" * 330 + "3"]),
    "no schedule at all": ("schedule", ["whenever"]),
    "a trailing comma": ("limits", COMMA),
    "4,300 digits": ("rules", ["when T1 is active: pause; every " + "9" * 4300 + " steps"]),
    "no list": ("rules", 5),
    "out of range": ("learning_rate", 7.0),
    "no number": ("clip_norm", {"a": [1]}),
    "another family's": ("flow_path", "rab"),
    "unknown": ("nonsense", 1),
    "no name": (None, 1),
    "not live": ("width", 32),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a run that has made 6 of 12 steps, which tests copy."""
    runs = tmp_path_factory.mktemp("made")
    with Lab(runs) as lab:
        lab.start(small_config(steps=6, checkpoint_every=4), name="run")
        assert lab.wait("run", 300).state == "finished"
    return runs


@pytest.fixture
def halfway(lab: Lab, made: Path) -> str:
    """The name of a run that has made 6 of 12 steps."""
    shutil.copytree(made, lab.runs_dir, dirs_exist_ok=True)
    return "run"


def edit_config(lab: Lab, name: str, **changes: object) -> None:
    """Put values into the run's file as an earlier version would have written them."""
    path = lab.folder(name) / "config.yaml"
    values = RunConfig.from_yaml(path.read_text("utf-8")).model_dump()
    for control, value in changes.items():
        section = next(key for key, part in values.items() if isinstance(part, dict) and control in part)
        values[section][control] = value
    path.write_text(json.dumps(values), "utf-8")  # JSON is YAML


def plant_event(lab: Lab, name: str, step: int, payload: dict[str, Any]) -> int:
    seq = max(event.seq for event in lab.reader(name).events()) + 1
    with RunWriter(lab.folder(name) / "run.sqlite") as writer:
        writer.add_event(Event(seq, step, time.time(), "person", "control", payload))
    return seq


def warnings(lab: Lab, name: str) -> list[str]:
    return [line.message for line in lab.reader(name).log() if line.level == "warning"]


@pytest.mark.parametrize(
    "cases",
    [("a step of 400 digits", "a trailing comma", "4,300 digits", "no number"), ("no list",)],
    ids=lambda cases: ", ".join(cases),
)
def test_a_configuration_with_bad_live_controls_opens_trains_forks_and_replays(
    lab: Lab, halfway: str, cases: tuple[str, ...]
) -> None:
    name, values = halfway, dict(BAD[case] for case in cases)
    assert len(values) == len(cases)
    whole = (lab.folder(name) / "config.yaml").read_text("utf-8")
    for control, value in values.items():  # each alone is refused
        edit_config(lab, name, **{str(control): value})
        with pytest.raises(ConfigError):
            RunConfig.from_yaml((lab.folder(name) / "config.yaml").read_text("utf-8"))
        (lab.folder(name) / "config.yaml").write_text(whole, "utf-8")
    edit_config(lab, name, **values)
    assert [info.state for info in lab.runs()] == ["finished"]
    for control in values:
        assert lab.controls(name)[control].value == small_config().value(control)
    lab.resume(name, steps=10)
    assert lab.wait(name, 60).state == "finished"
    assert lab.info(name).step == 10
    for control in values:
        assert any(f"config.yaml: {control}" in line or f"{control}" in line for line in warnings(lab, name))
    child = lab.fork(name, step=8)
    assert lab.wait(child, 60).state == "finished"
    assert lab.replay(name).identical
    assert dry_run(lab.config(name), lab.reader(name), {}) == []


def test_bad_changes_that_were_kept_are_refused_when_a_resume_comes_to_them(lab: Lab, halfway: str) -> None:
    name = halfway
    planted = {}
    for case, (control, value) in BAD.items():
        planted[plant_event(lab, name, 6, {"name": control, "old": None, "new": value})] = case
        if control in lab.controls(name):
            assert lab.controls(name)[control].value == small_config().value(control), case
    lab.resume(name, steps=9)
    assert lab.wait(name, 60).state == "finished", lab.info(name).message
    events = {event.seq: event for event in lab.reader(name).events()}
    for seq, case in planted.items():
        assert events[seq].kind == "refused", case
        assert events[seq].payload["reason"], case
        assert any(events[seq].payload["reason"] in line for line in warnings(lab, name)), case
    assert lab.replay(name).identical


@pytest.mark.parametrize(
    "watch",
    [
        {"watch": 5},
        {"x": 1},
        {"watch": {"version": 2, "history": {"a": 5}}, "lr_sum": 1.0},
        {"automation": {"memory": 5}},
    ],
)
def test_a_damaged_memory_of_detectors_or_rules_ends_no_run(lab: Lab, halfway: str, watch: dict[str, Any]) -> None:
    name = halfway
    folder = checkpoint_folders(lab.folder(name))[-1]
    kept = json.loads((folder / "watch.json").read_text("utf-8"))
    data = json.dumps({**(kept if "automation" in watch else {}), **watch}).encode()
    (folder / "watch.json").write_bytes(data)
    state = json.loads((folder / "state.json").read_text("utf-8"))
    state["files"]["watch.json"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "state.json").write_text(json.dumps(state), "utf-8")
    lab.resume(name, steps=9)
    assert lab.wait(name, 60).state == "finished", lab.info(name).message
    owner = "rules and autopilot" if "automation" in watch else "the detectors"
    [line] = [line for line in warnings(lab, name) if "start from scratch" in line]
    assert owner in line


def test_a_resume_that_gets_no_worker_leaves_no_wish_behind(
    lab: Lab, halfway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = halfway

    def refused(self: Worker) -> None:
        raise OSError(errno.EAGAIN, "no thread")

    monkeypatch.setattr(Worker, "start", refused)
    with pytest.raises(LabError, match="no further thread"):
        lab.resume(name, steps=9, changes={"clip_norm": 0.5})
    monkeypatch.undo()
    assert lab.reader(name).commands() == []
    assert not lab.info(name).alive
    lab.resume(name, steps=7)
    assert lab.wait(name, 60).step == 7
    assert lab.controls(name)["clip_norm"].version == 0


def test_the_value_before_a_bad_one_holds(lab: Lab, halfway: str) -> None:
    """Two schedules were set, the second is bad, and the newest checkpoint holds it."""
    name = halfway
    good = ["8: clip_norm = 0.5"]
    plant_event(lab, name, 2, {"name": "schedule", "old": [], "new": good})
    second = plant_event(lab, name, 3, {"name": "schedule", "old": good, "new": HUGE})
    for folder in checkpoint_folders(lab.folder(name)):
        path = folder / "state.json"
        state = json.loads(path.read_text("utf-8"))
        state["controls"] |= {"schedule": HUGE, "learning_rate": "fast"}
        state["event_seq"] = max(second, state["event_seq"])
        path.write_text(json.dumps(state), "utf-8")
    assert lab.controls(name)["schedule"].value == good
    lab.resume(name, steps=10)
    assert lab.wait(name, 60).state == "finished", lab.info(name).message
    changes = [event.payload for event in lab.reader(name).events() if event.author == "schedule" and event.step == 8]
    assert [payload["new"] for payload in changes if payload.get("name") == "clip_norm"] == [0.5]
    assert lab.controls(name)["learning_rate"].value == small_config().value("learning_rate")
    assert any("learning_rate = 'fast' is refused" in line for line in warnings(lab, name))


def test_bad_commands_in_the_database_are_refused_and_the_run_trains_on(lab: Lab) -> None:
    name = lab.start(small_config(steps=1_000_000), name="run")
    eventually(lambda: lab.info(name).step > 3)
    for case, (control, value) in BAD.items():
        with Inbox(lab.folder(name) / "run.sqlite") as inbox:
            number = inbox.submit("set", {"name": control, "value": value}, "planted")
        row = lab.outcome(name, number, 30)
        assert (row.status, bool(row.message)) == ("refused", True), case
        assert len(row.message) < 1100, case
        step = lab.info(name).step
        eventually(lambda step=step: lab.info(name).step > step)


def test_a_bad_command_that_waits_for_a_resume_is_refused_there(lab: Lab, halfway: str) -> None:
    name = halfway
    with Inbox(lab.folder(name) / "run.sqlite") as inbox:
        numbers = [inbox.submit("set", {"name": n, "value": v}, "planted") for n, v in BAD.values()]
    lab.resume(name, steps=9)
    assert lab.wait(name, 60).state == "finished", lab.info(name).message
    assert {lab.outcome(name, number).status for number in numbers} == {"refused"}


LINES = [
    ("schedule", ["3: concept_weight = 1", "5: clip_norm = 0.5"], "the model has no concepts"),
    ("schedule", ["2 .. 5: balance_weight = 0 -> 1", "5: clip_norm = 0.5"], "the model has no experts"),
    (
        "rules",
        [
            "when train/loss > 0: concept_weight += 0.5; every 1 steps",
            "when train/loss > 0 for 3 steps: clip_norm = 0.5; every 100 steps",
        ],
        "the model has no concepts",
    ),
]


@pytest.mark.parametrize(("control", "lines", "why"), LINES)
def test_a_line_for_what_the_model_lacks_is_refused_before_a_run_exists(
    lab: Lab, halfway: str, control: str, lines: list[str], why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        small_config(**{control: lines})
    assert lines[0] in str(refused.value)
    with pytest.raises(ConfigError, match=why):
        lab.command(halfway, SetControl(control, lines))


@pytest.mark.parametrize(("control", "lines", "why"), LINES)
def test_a_stored_line_for_what_the_model_lacks_is_warned_of_once_and_the_others_act(
    lab: Lab, halfway: str, control: str, lines: list[str], why: str
) -> None:
    """An earlier version took such a line, and the run failed at its step."""
    name = halfway
    edit_config(lab, name, **{control: lines})
    for folder in checkpoint_folders(lab.folder(name)):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    with RunWriter(lab.folder(name) / "run.sqlite") as writer:
        writer.truncate_after(0, event_seq=0)
    lab.resume(name, steps=8)
    assert lab.wait(name, 60).state == "finished", lab.info(name).message
    assert sum(why in line for line in warnings(lab, name)) == 1
    assert lab.controls(name)["clip_norm"].value == 0.5
    changed = {event.step for event in lab.reader(name).events() if event.author in ("schedule", "rule")}
    assert {saved.step for saved in lab.checkpoints(name) if saved.reason == "automatic change"} == changed
    assert len(changed) == 1, "what is refused leaves no checkpoint"


def test_rules_and_limits_act_under_any_name_of_a_control(lab: Lab) -> None:
    rule = "when train/loss > 0 for 3 steps: optim.Clip-Norm *= 0.5, Z loss weight = 0.5; every 50 steps"
    config = small_config(rules=[rule], limits=["Optim.clip norm: change x1.5"], schedule=["9: Label smoothing = 0.1"])
    name = lab.start(config, name="run")
    assert lab.wait(name, 60).state == "finished", lab.info(name).message
    changed = {e.payload["name"]: e.payload["new"] for e in lab.reader(name).events() if e.kind == "control"}
    assert changed == {"clip_norm": pytest.approx(1 / 1.5), "z_loss_weight": 0.5, "label_smoothing": 0.1}


def test_a_video_run_goes_on_without_a_bad_control_too(lab: Lab) -> None:
    lab.start(small_video(steps=6), name="clips")
    assert lab.wait("clips", 60).state == "finished"
    edit_config(lab, "clips", schedule=HUGE)
    plant_event(lab, "clips", 6, {"name": "repulsion", "new": "nan"})
    lab.resume("clips", steps=8)
    assert lab.wait("clips", 60).state == "finished", lab.info("clips").message
    rewrite(checkpoint_folders(lab.folder("clips"))[-1], lambda state: state.update(controls={}))
    drawn = list(lab.sample_clips("clips", small_video().sampling))[-1]
    assert (drawn.status, len(drawn.tokens)) == ("done", 2)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Alter the state of a checkpoint, which no hash covers."""
    state = json.loads((folder / "state.json").read_text("utf-8"))
    change(state)
    (folder / "state.json").write_text(json.dumps(state), "utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(model={"foo": 1}),
        lambda state: state.update(model={"width": "wide"}),
        lambda state: state["model"].update(kind="pam"),
    ],
)
def test_an_older_checkpoint_is_taken_where_a_part_of_the_newest_cannot_be_used(
    lab: Lab, halfway: str, change: Callable[[dict[str, Any]], object]
) -> None:
    name = halfway
    newest = checkpoint_folders(lab.folder(name))[-1]
    rewrite(newest, change)
    lab.resume(name, steps=8)
    assert lab.wait(name, 60).state == "finished", lab.info(name).message
    assert any(f"checkpoint {newest.name} is refused: " in line for line in warnings(lab, name))
    resumed = next(event for event in lab.reader(name).events() if event.kind == "resume")
    assert resumed.payload["from_step"] == 4


def test_a_configuration_that_is_bad_where_it_matters_is_refused_with_the_file(lab: Lab, halfway: str) -> None:
    name = halfway
    path = Path(lab.folder(name)) / "config.yaml"
    path.write_bytes(b"seed: 1\n# caf\xe9\n")
    with pytest.raises(ValueError, match=r"config\.yaml is not UTF-8: byte 0xE9 in line 2"):
        lab.config(name)
    path.write_text("a: &a [1]\nb: {<<: *a}\n", "utf-8")
    with pytest.raises(ValueError, match=r"config\.yaml: .*line 2: merge keys"):
        lab.config(name)
    edit = RunConfig.from_yaml("")
    values = edit.model_dump()
    values["model"]["width"] = -1
    path.write_text(json.dumps(values), "utf-8")
    with pytest.raises(ValueError, match="width = -1 is refused"):
        lab.config(name)
