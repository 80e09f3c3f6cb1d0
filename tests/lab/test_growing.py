"""Growth of a run: the curve goes on, and checkpoint, resume, fork, replay and sampling know the size in force."""

import pytest

from qcore.config import ConfigError, Grow, SamplingConfig, Stop
from qcore.lab import LabError
from qcore.runs.checkpoint_folders import read_state
from tests.support.configs import eventually, small_config, small_video
from tests.support.steered import applied, points, running, steered

LARGER = {"width": 32, "heads": 4}


@pytest.mark.parametrize("kind", ["transformer", "phase_lm"])
def test_growth_keeps_the_outputs_and_is_in_checkpoint_resume_replay_and_fork(lab, kind):
    sizes = LARGER | ({"phases": 8} if kind == "phase_lm" else {})
    name = steered(lab, small_config(kind=kind, steps=400, checkpoint_every=4), "run", {6: {"clip_norm": 0.5}})
    eventually(lambda: lab.info(name).step > 8)
    row = applied(lab, name, Grow(sizes), author="a person")
    eventually(lambda: lab.info(name).step > row.step + 6)
    applied(lab, name, Stop())
    stopped = lab.wait(name, 60).step
    reader = lab.reader(name)
    before = next(info for info in lab.checkpoints(name) if info.step == row.step)
    assert before.reason == "risky change"
    assert read_state(before.path).model["width"] == 16
    assert read_state(lab.checkpoints(name)[-1].path).model["width"] == 32
    [event] = [event for event in reader.events() if event.kind == "grow"]
    assert (event.step, event.author, event.payload["new"], event.payload["old"]["width"]) == (
        row.step,
        "a person",
        sizes,
        16,
    )
    small = lab.fork(name, step=row.step, until=row.step + 1)
    lab.wait(small, 60)
    losses = [dict(zip(*_loss(lab, each), strict=True))[row.step + 1] for each in (name, small)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4), "the first loss after growth is the small model's"
    assert reader.meta()["parameters"] > lab.reader(small).meta()["parameters"]
    lab.resume(name, until=stopped + 5)
    assert lab.wait(name, 60).step == stopped + 5
    result = lab.replay(name)
    assert result.identical, result.first_difference
    for step in (stopped, row.step):
        spoken = list(lab.sample(name, "Once a", SamplingConfig(max_tokens=3), checkpoint=step))[-1]
        assert spoken.status == "done"
    child = lab.fork(name, step=stopped, until=stopped + 5)
    lab.wait(child, 60)
    ours = points(lab, name, after=stopped)
    assert points(lab, child, after=stopped) == ours


def test_a_fork_may_grow(lab):
    name = lab.start(small_config(kind="transformer", steps=14), name="parent")
    lab.wait(name, 60)
    for step in (10, 8):
        child = lab.fork(name, step=step, changes={**LARGER, "clip_norm": 0.5})
        assert lab.wait(child, 60).step == 14
        assert lab.lineage(child).model_changes == LARGER
        assert read_state(lab.checkpoints(child)[-1].path).model["width"] == 32
        assert lab.replay(child).identical
    with pytest.raises(ConfigError, match="width = 16"):
        lab.fork(child, step=14, changes={"width": 16, "heads": 2, "steps": 20})


def test_growth_that_cannot_be_is_refused_with_the_reason(lab):
    name = lab.start(small_config(kind="transformer", steps=100_000), name="run")
    running(lab, name)
    for sizes, message in (
        ({"width": 24}, "width 24 over 2 heads"),
        ({"width": 16}, "has these sizes already"),
        ({"context": 32}, "no size that can grow"),
        ({"phases": 8}, "phases"),
    ):
        row = lab.outcome(name, lab.command(name, Grow(sizes)), timeout=20)
        assert row.status == "refused"
        assert message in row.message
    with pytest.raises(ConfigError, match="did you mean 'width'"):
        lab.command(name, Grow({"widht": 32}))
    applied(lab, name, Stop())
    lab.wait(name, 60)
    with pytest.raises(LabError, match="cannot grow: resume it first"):
        lab.command(name, Grow(LARGER))
    clips = lab.start(small_video(steps=100_000), name="clips")
    running(lab, clips)
    row = lab.outcome(clips, lab.command(clips, Grow({"width": 32})), timeout=20)
    assert (row.status, "video_flow cannot grow" in row.message) == ("refused", True)
    lab.command(clips, Stop())


def _loss(lab, name):
    found = lab.reader(name).scalars("train/loss")
    return found.steps.tolist(), found.values.tolist()
