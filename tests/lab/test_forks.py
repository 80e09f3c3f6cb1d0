"""Forks and rewinds: a child continues as its parent did, differs from where it was changed, and nothing is lost."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from qcore.config import ConfigError, SetControl
from qcore.lab import Lab, LabError, forks
from qcore.runs.checkpoint_folders import read_state, recover_interrupted
from qcore.store import DATABASE_NAME, RunWriter
from qcore.train import session
from tests.support.configs import eventually, small_config, small_video
from tests.support.steered import applied, first_difference, points, running, steered
from tests.support.trained import finished_run


def finished(lab, config, name="parent"):
    return finished_run(lab, config, name)


def trained(lab, name):
    info = lab.wait(name, 60)
    assert info.state in ("finished", "stopped"), info.message
    return info


@pytest.mark.parametrize(
    "config",
    [
        small_config(
            steps=55, dropout=0.1, schedule=["20: label_smoothing = 0.1"], checkpoint_every=15, sample_every=25
        ),
        small_config(kind="transformer", steps=55, accumulation=2, dropout=0.1, checkpoint_every=15, sample_every=25),
        small_video(steps=55, flow_path="quantum", anchor="network", checkpoint_every=15, sample_every=25),
    ],
    ids=["phase_lm", "transformer", "video"],
)
@pytest.mark.parametrize("step", [15, 13])
def test_an_unchanged_fork_is_its_parent_bit_for_bit(lab, config, step):
    """From a checkpoint and from between two of them; 40 steps on, every series and sample."""
    parent = finished(lab, config)
    child = lab.fork(parent, step=step)
    assert trained(lab, child).step == 55
    ours, theirs = points(lab, parent, after=step), points(lab, child, after=step)
    assert theirs == {name: found for name, found in ours.items() if found}
    assert len(ours["train/loss"]) == 55 - step >= 40
    samples = [
        {(row.step, row.prompt): (row.text, row.tokens) for row in lab.reader(name).generations() if row.step > step}
        for name in (parent, child)
    ]
    assert samples[0] == samples[1]
    assert lab.replay(child).identical
    assert read_state(lab.checkpoints(child)[0].path).reason == "fork"


def test_a_change_shows_from_the_step_of_the_fork_and_not_before(lab):
    parent = finished(lab, small_config(steps=30))
    for step in (10, 17):
        child = lab.fork(parent, step=step, changes={"learning_rate": 1e-4}, author="a person", reason="too fast")
        trained(lab, child)
        ours, theirs = points(lab, parent), points(lab, child)
        assert first_difference(ours, theirs) == step + 1
        state = lab.controls(child)["learning_rate"]
        assert (state.value, state.step, state.author) == (1e-4, step, "a person")
        assert lab.replay(child).identical
        lineage = lab.lineage(child)
        assert (lineage.parent, lineage.step, lineage.changes) == (parent, step, {"learning_rate": 1e-4})
        assert (lineage.author, lineage.reason) == ("a person", "too fast")
    assert lab.lineage(parent) is None


def test_a_fork_knows_its_parents_changes_before_it_and_none_after(lab):
    parent = steered(lab, small_config(steps=30), "parent", {4: {"z_loss_weight": 0.1}, 20: {"z_loss_weight": 0.5}})
    trained(lab, parent)
    child = lab.fork(parent, step=13)
    trained(lab, child)
    assert lab.controls(child)["z_loss_weight"].value == 0.1
    assert first_difference(points(lab, parent), points(lab, child)) == 21


@pytest.mark.parametrize("make", [small_config, small_video])
def test_another_order_of_the_batches_leaves_the_weights_alone(lab, make):
    parent = finished(lab, make(steps=20))
    same = lab.fork(parent, step=10, config_changes={"order_seed": 0})
    trained(lab, same)
    assert points(lab, parent, after=10) == points(lab, same, after=10), "which is the run's own seed"
    found = []
    for step in (10, 8):
        other = lab.fork(parent, step=step, changes={"order_seed": 7})
        trained(lab, other)
        assert first_difference(points(lab, parent), points(lab, other)) == step + 1
        assert lab.replay(other).identical
        found.append(points(lab, other, after=10)["train/loss"])
    assert found[0] != found[1], "two steps on other batches lie between them"


def test_a_fork_on_other_data_keeps_the_tokenizer(lab):
    parent = finished(lab, small_config(steps=20, tokenizer="word"))
    child = lab.fork(parent, step=10, changes={"data_seed": 3, "documents": 60})
    trained(lab, child)
    assert lab.token_labels(child) == lab.token_labels(parent)
    assert first_difference(points(lab, parent), points(lab, child)) == 11
    fingerprints = {lab.reader(name).meta()["data_fingerprint"] for name in (parent, child)}
    assert len(fingerprints) == 2
    assert lab.replay(child).identical
    between = lab.fork(parent, step=8, changes={"documents": 60})
    assert trained(lab, between).step == 20
    assert lab.replay(between).identical


@pytest.mark.parametrize("instant", ["before anything is forgotten", "before the file goes"])
def test_a_fork_on_other_data_that_broke_off_at_its_first_step_goes_on(lab, monkeypatch, instant):
    """What the way there left (its data's fingerprint, its configuration) is not taken for the fork's own."""
    parent = finished(lab, small_config(steps=20, dropout=0.1, checkpoint_every=10, tokenizer="word"))
    whole, broken = (lab.fork(parent, step=8, changes={"documents": 60}, new_name=name, start=False) for name in "ab")
    lab.resume(whole)
    trained(lab, whole)
    forget = session._forget_origin

    def breaks_off(run_dir, goal, writer):
        if instant == "before the file goes":
            with monkeypatch.context() as patch:
                patch.setattr(Path, "unlink", lambda path: None)
                forget(run_dir, goal, writer)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(session, "_forget_origin", breaks_off)
        lab.resume(broken)
        assert lab.wait(broken, 60).state == "failed"
    lab.resume(broken)
    assert trained(lab, broken).step == 20
    assert points(lab, broken) == points(lab, whole)
    assert not (lab.folder(broken) / "origin.yaml").exists()


def test_a_fork_of_a_training_run_is_of_now(lab):
    parent = lab.start(small_config(steps=100_000), name="live")
    running(lab, parent)
    applied(lab, parent, SetControl("clip_norm", 0.7))
    child = lab.fork(parent, new_name="child", start=False)
    step = lab.lineage(child).step
    assert step > 0
    info = lab.info(child)
    assert (info.state, info.step, info.alive) == ("stopped", step, False)
    assert info.loss is not None
    assert lab.controls(child)["clip_norm"].value == 0.7
    with Lab(lab.runs_dir) as other:
        other.resume(child, until=step + 5)
        assert trained(other, child).step == step + 5
        assert other.replay(child).identical


def test_what_no_fork_can_be_is_refused_and_leaves_nothing_behind(lab):
    parent = finished(lab, small_config())
    before = sorted(path.name for path in lab.runs_dir.iterdir())
    for changes, message in (
        ({"seed": 3}, "seed cannot change in a fork"),
        ({"kind": "transformer"}, "kind cannot change in a fork"),
        ({"learning_rate": 9}, "learning_rate = 9"),
        ({"learning_rat": 1e-3}, "did you mean 'learning_rate'"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"context": 64}, "no size that can grow"),
        ({"width": 8, "heads": 1}, "width"),
    ):
        with pytest.raises(ConfigError, match=message):
            lab.fork(parent, step=5, changes=changes)
    for name in ("../x", "a/b", "", ".hidden", "parent"):
        with pytest.raises(LabError, match="run name"):
            lab.fork(parent, step=5, new_name=name)
    for step in (-1, 13, True):
        with pytest.raises(LabError, match=r"has made the steps 0 to 12"):
            lab.fork(parent, step=step)
    with pytest.raises(LabError, match="needs steps=112"):
        lab.fork(parent)
    with pytest.raises(LabError, match="there is no run"):
        lab.fork("nobody")
    with pytest.raises(LabError, match="run name"):
        lab.fork("../runs/parent")
    assert sorted(path.name for path in lab.runs_dir.iterdir()) == before
    child = lab.fork(parent, changes={"steps": 20})
    assert trained(lab, child).step == 20
    with pytest.raises(LabError, match=r"has made the steps 12 to 20; for an earlier one take its parent 'parent'"):
        lab.fork(child, step=3)


def test_a_rewind_keeps_the_branch_and_goes_on_as_before(lab):
    """To a step between two checkpoints, with changes before it and after it."""
    changes = {4: {"z_loss_weight": 0.1}, 13: {"label_smoothing": 0.2}, 20: {"z_loss_weight": 0.5}}
    name = steered(lab, small_config(steps=30), "run", changes)
    trained(lab, name)
    before = points(lab, name)
    events = lab.reader(name).events()
    early, late = lab.fork(name, step=10, start=False), lab.fork(name, step=25, start=False)
    branch = lab.rewind(name, 13, author="a person")
    assert branch == "run-until-30"
    info = lab.info(name)
    assert (info.state, info.step) == ("stopped", 13)
    assert max(step for found in points(lab, name).values() for step, _ in found) == 13
    assert points(lab, branch) == before
    assert lab.reader(branch).events() == events
    assert lab.info(branch).state == "finished"
    assert [saved.step for saved in lab.checkpoints(branch)] == [10, 15, 20, 25, 30]
    assert [saved.step for saved in lab.checkpoints(name)] == [10]
    lab.resume(name)
    trained(lab, name)
    assert first_difference(points(lab, name), before) == 14, "the smoothing from step 13 on is undone"
    assert lab.controls(name)["z_loss_weight"].value == 0.1
    rewound = [event for event in lab.reader(name).events() if event.kind == "rewind"]
    assert [(event.step, event.author, event.payload["branch"]) for event in rewound] == [(13, "a person", branch)]
    for each in (name, branch):
        assert lab.replay(each).identical
    parents = {node.name: (node.parent, node.step, node.branch) for node in lab.run_tree()}
    assert parents == {
        name: ("", 0, False),
        branch: (name, 13, True),
        early: (name, 10, False),
        late: (branch, 25, False),
    }


def test_a_training_run_is_stopped_rewound_and_goes_on(lab):
    name = lab.start(small_config(steps=100_000, checkpoint_every=10), name="live")
    eventually(lambda: lab.info(name).step > 30)
    branch = lab.rewind(name, 20)
    eventually(lambda: lab.info(name).step > 20)
    assert lab.info(name).alive
    assert lab.info(branch).state == "stopped"
    assert lab.info(branch).step > 20
    for step in (-1, 10**6):
        with pytest.raises(LabError, match="is refused"):
            lab.rewind(name, step)


def test_a_rewind_to_the_first_step_begins_anew(lab):
    name = finished(lab, small_config())
    before = points(lab, name)
    lab.rewind(name, 0)
    assert lab.checkpoints(name) == []
    lab.resume(name)
    trained(lab, name)
    assert points(lab, name) == before
    assert lab.replay(name).identical


def test_the_tree_and_a_childs_history(lab):
    parent = finished(lab, small_config(steps=20))
    child = lab.fork(parent, step=10, changes={"z_loss_weight": 0.1, "order_seed": 3}, new_name="child")
    trained(lab, child)
    grandchild = lab.fork(child, step=15, changes={"z_loss_weight": 0.2}, new_name="grandchild")
    trained(lab, grandchild)
    other = finished(lab, small_config(), name="other")
    nodes = {node.name: node for node in lab.run_tree()}
    assert list(nodes) == [parent, child, grandchild, other]
    assert [nodes[name].depth for name in nodes] == [0, 1, 2, 0]
    assert nodes[child].changes == {"order_seed": 3, "z_loss_weight": 0.1}
    assert (nodes[grandchild].parent, nodes[grandchild].step, nodes[grandchild].state) == (child, 15, "finished")
    whole = lab.history(grandchild, ["train/loss", "nothing"])
    assert whole["train/loss"].steps.tolist() == list(range(1, 21))
    assert len(whole["nothing"]) == 0
    losses = {name: dict(zip(*series(lab, name), strict=True)) for name in (parent, child, grandchild)}
    expected = [losses[parent][step] for step in range(1, 11)] + [losses[child][step] for step in range(11, 16)]
    expected += [losses[grandchild][step] for step in range(16, 21)]
    assert whole["train/loss"].values.tolist() == expected
    with contextlib.closing(sqlite3.connect(lab.folder(parent) / DATABASE_NAME)) as connection, connection:
        connection.execute("UPDATE blocks SET data = x''")
    with pytest.raises(LabError, match="damaged"):
        series(lab, parent)
    assert lab.history(grandchild, ["train/loss"])["train/loss"].values.tolist() == expected[10:]
    lab.delete(child)
    orphan = {node.name: node for node in lab.run_tree()}[grandchild]
    assert (orphan.depth, orphan.parent, orphan.step) == (0, child, 15)
    assert lab.history(grandchild, ["train/loss"])["train/loss"].steps.tolist() == list(range(16, 21))


def series(lab, name):
    found = lab.reader(name).scalars("train/loss")
    return found.steps.tolist(), found.values.tolist()


class Killed(BaseException):
    """What stands for a process that is no more."""


@pytest.mark.parametrize("instant", ["before the rows are cut", "after the rows are cut"])
def test_a_kill_in_the_middle_of_a_rewind_leaves_a_run_of_one_length(lab, monkeypatch, instant):
    """Checkpoints of steps that the rows no longer have would be taken for the run's end."""
    config = small_config(steps=30, checkpoint_every=10, dropout=0.1)
    twin, name = finished(lab, config, "twin"), finished(lab, config, "killed")

    def kill(*_args, **_kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(forks, "recover_interrupted", lambda _: None)  # a dead process settles nothing
        if instant == "before the rows are cut":
            patch.setattr(RunWriter, "truncate_after", kill)
        else:
            patch.setattr(Lab, "resume", kill)
        with pytest.raises(Killed):
            lab.rewind(name, 13, start=True)
    steps = lab.reader(name).scalars("train/loss").steps.tolist()
    saved = [found.step for found in lab.checkpoints(name)]
    if instant == "before the rows are cut":
        assert (steps[-1], saved) == (30, [10])
        recover_interrupted(lab.folder(name))
        assert [found.step for found in lab.checkpoints(name)] == [10, 20, 30]
        assert lab.info(name).step == 30
        lab.rewind(name, 13, start=True)
    else:
        assert (steps[-1], saved) == (13, [10])
        assert lab.info(name).step == 13
        lab.resume(name)
    assert trained(lab, name).step == 30
    assert points(lab, name) == points(lab, twin)
    assert [path.name for path in lab.folder(name).iterdir() if path.name.startswith(".")] == []
