"""Replay: the same numbers again, whatever happened to the run; and what differs is found at its step."""

import dataclasses

import pytest

from qcore.config import SetControl, Stop
from qcore.lab import LabError
from qcore.runs.building import sweep
from qcore.runs.replay_plan import Recording, compare, is_wall_clock, recording_of
from qcore.store import RunWriter
from qcore.train.samples import CUT
from tests.support.configs import eventually, small_config, small_video
from tests.support.steered import applied, points, running, steered

CHANGES = {
    3: {"diversity_weight": 0.3, "learning_rate": 1e-3},
    8: {"tokens_every": 3, "clip_norm": 0.5},
    11: {"diversity_weight": 0.0, "sample_every": 4},
}


@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_a_run_with_changes_a_pause_and_a_resume_is_repeated_bit_for_bit(lab, kind):
    """At a budget that thins the probes by the machine's speed; dropout, schedule and checkpoints on the way."""
    more = {"kind": kind, "dropout": 0.1, "budget_percent": 20.0, "schedule": ["5: label_smoothing = 0.1"]}
    name = steered(lab, small_config(steps=400, **more), "run", CHANGES)
    eventually(lambda: lab.info(name).step > 15)
    applied(lab, name, Stop())
    stopped = lab.wait(name, 60).step
    lab.resume(name, until=stopped + 10)
    lab.wait(name, 60)
    told = []
    result = lab.replay(name, on_progress=lambda step, last: told.append((step, last)))
    assert result.identical, result.first_difference
    assert (result.first_step, result.steps) == (0, stopped + 10)
    assert told[-1] == (stopped + 10, stopped + 10)
    mine = points(lab, name)
    assert result.values == sum(map(len, mine.values()))
    assert result.series == len(mine)
    assert result.samples == sum(row.status == "done" for row in lab.reader(name).generations("timeline")) > 4
    assert "train/step_ms" in result.left_out
    assert all(map(is_wall_clock, result.left_out))
    assert not list(lab.runs_dir.glob(".replay-*"))


def test_the_folder_of_a_replay_stays_held_until_it_has_been_compared(lab, monkeypatch):
    name = lab.start(small_config(steps=3), name="run")
    lab.wait(name, 60)
    swept = []

    def compared(*given):
        swept.append(sweep(lab.runs_dir))
        return compare(*given)

    monkeypatch.setattr("qcore.lab.replay.compare", compared)
    assert lab.replay(name).identical
    assert swept == [[]]
    assert not list(lab.runs_dir.glob(".replay-*"))


def test_a_video_run_is_repeated_with_its_clips(lab):
    config = small_video(budget_percent=20.0, flow_path="rab", schedule=["5: noise_correlation = 0.5"])
    name = lab.start(config, name="clips")
    lab.wait(name, 60)
    result = lab.replay(name)
    assert result.identical, result.first_difference
    assert result.samples == 2
    assert {"eval/flow", "frames/generated/divergence"} <= points(lab, name).keys()


@pytest.mark.parametrize("fault", ["P1", "T2"])
def test_a_run_with_a_planted_fault_is_repeated(lab, fault):
    name = lab.start(small_config(fault=fault, steps=8), name="broken")
    lab.wait(name, 60)
    assert lab.replay(name).identical


def test_a_finished_run_that_went_on_measured_at_its_old_end_too(lab):
    name = lab.start(small_config(steps=13), name="longer")
    lab.wait(name, 60)
    lab.resume(name, steps=18)
    lab.wait(name, 60)
    assert 13 in lab.reader(name).scalars("eval/ce").steps
    result = lab.replay(name)
    assert result.identical, result.first_difference
    short = lab.replay(name, steps=6)
    assert (short.identical, short.steps) == (True, 6)
    assert 0 < short.values < result.values


def test_a_value_that_was_tampered_with_is_found(lab):
    name = lab.start(small_config(), name="run")
    lab.wait(name, 60)
    with RunWriter(lab.runs_dir / name / "run.sqlite") as writer:
        writer.log_scalars(7, {"train/loss": 1.25})
        writer.log_scalars(9, {"train/grad_norm": 2.5})
    result = lab.replay(name)
    assert (result.identical, result.differing) == (False, 2)
    first = result.first_difference
    assert (first.step, first.series, first.original) == (7, "train/loss", 1.25)
    assert first.replayed != 1.25


def test_an_event_that_was_tampered_with_shows_at_the_next_step(lab):
    name = steered(lab, small_config(steps=20), "run", {6: {"learning_rate": 1e-3}})
    lab.wait(name, 60)
    assert lab.replay(name).identical
    [event] = [event for event in lab.reader(name).events() if event.kind == "control"]
    with RunWriter(lab.runs_dir / name / "run.sqlite") as writer:
        writer.add_event(dataclasses.replace(event, payload={**event.payload, "new": 2e-3}))
    first = lab.replay(name).first_difference
    assert (first.step, first.series) == (7, "train/lr")
    assert first.replayed == pytest.approx(2 * first.original)


def test_a_sample_that_was_tampered_with_is_found(lab):
    name = lab.start(small_config(), name="run")
    lab.wait(name, 60)
    sample = lab.reader(name).generations("timeline")[0]
    with RunWriter(lab.runs_dir / name / "run.sqlite") as writer:
        writer.put_generation(dataclasses.replace(sample, text="something else"))
    result = lab.replay(name)
    assert result.differing == 1
    assert result.first_difference.series == f"sample/{sample.prompt}"
    assert result.first_difference.original == "something else"


def test_a_sample_that_a_stop_cut_short_is_drawn_again_on_resume(lab):
    """Samples after every step: the stop finds the run drawing one."""
    name = lab.start(small_config(steps=6, sample_every=1, sample_length=200, context=64), name="cut")
    running(lab, name)
    applied(lab, name, Stop())
    stopped = lab.wait(name, 60).step
    cut = [row for row in lab.reader(name).generations("timeline") if row.status == "failed"]
    assert {(row.step, row.stats["error"]) for row in cut} == {(stopped, CUT)}
    lab.resume(name, changes={"sample_length": 3})
    assert lab.wait(name, 60).state == "finished"
    rows = lab.reader(name).generations("timeline")
    assert {row.status for row in rows} == {"done"}
    assert len({row.id for row in rows}) == len(rows) == 12
    assert lab.reader(name).scalars("generation/repetition").steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert lab.replay(name).identical


def test_what_cannot_be_replayed_is_refused_with_the_reason(lab, tmp_path):
    text = tmp_path / "text.txt"
    lines = [f"Line {number} of a text about the number {number * 7}." for number in range(200)]
    text.write_text("\n\n".join(lines))
    name = lab.start(small_config(source="text", path=str(text), tokenizer="byte"), name="mine")
    lab.wait(name, 60)
    with pytest.raises(LabError, match="steps = 0 is refused"):
        lab.replay(name, steps=0)
    text.write_text("\n\n".join(reversed(lines)))
    with pytest.raises(LabError, match="data of this run has changed"):
        lab.replay(name)
    assert not list(lab.runs_dir.glob(".replay-*"))
    with pytest.raises(LabError, match="there is no run"):
        lab.replay("other")


def test_a_live_run_is_replayed_up_to_now(lab):
    name = lab.start(small_config(steps=100_000), name="live")
    running(lab, name)
    applied(lab, name, SetControl("clip_norm", 0.7))
    eventually(lambda: lab.info(name).step > 20)
    assert lab.replay(name, steps=20).identical


def test_the_recording_knows_when_each_probe_ran(lab):
    name = lab.start(small_config(), name="run")
    lab.wait(name, 60)
    found = recording_of(lab.reader(name), 12)
    assert isinstance(found, Recording)
    assert (found.opened, found.began) == (True, True)
    assert found.evaluations == {0, 4, 8, 12}
    assert found.samples == {6, 12}
    assert found.probes["tokens"] == {2, 4, 6, 8, 10, 12}
    assert found.probes["kernels"] == {12}, "nothing in between, all of it at the end"


def test_a_probe_that_runs_alone_measures_without_dropout(lab):
    """No other probe has left the training mode for it at that step."""
    alone = {"tokens_every": 100, "phase_every": 100, "gradients_every": 100, "checks_every": 100, "kernels_every": 3}
    name = lab.start(
        small_config(kind="transformer", dropout=0.5, eval_every=100, sample_every=100, **alone), name="run"
    )
    lab.wait(name, 60)
    assert len(lab.reader(name).scalars("interference/entropy")) > 2
    assert lab.replay(name).identical
