"""The façade on real runs: start, steer, pause, queue, sample, resume, fail, export, close."""

import csv
import io
import math
import os
import subprocess
import sys
import threading

import pytest
import torch

from qcore.config import (
    ConfigError,
    Continue,
    Pause,
    Restore,
    SamplingConfig,
    SaveCheckpoint,
    SetControl,
    Step,
    Stop,
)
from qcore.lab import Lab, LabError, shared_lab
from qcore.lab.export import export_table
from qcore.objectives import Total
from qcore.store import Inbox
from qcore.train import text_engine
from tests.support.configs import eventually, small_config

DETERMINISTIC = ("train/loss", "train/grad_norm", "train/lr", "term/ce", "eval/ce")


def series(lab, name, wanted=DETERMINISTIC):
    found = lab.reader(name).scalars_of(wanted)
    return {key: (value.steps.tolist(), value.values.tolist()) for key, value in found.items()}


def applied(lab, name, command, **more):
    row = lab.outcome(name, lab.command(name, command, **more), timeout=20)
    assert row.status == "applied", row.message
    return row


def running(lab, name):
    return eventually(lambda: (info := lab.info(name)).step > 0 and info.state == "running" and info)


def test_a_run_from_start_to_finish(lab):
    name = lab.start(small_config(), name="first", preset="tiny")
    info = lab.wait(name, 60)
    assert (info.state, info.step, info.total_steps, info.alive, info.preset) == ("finished", 12, 12, False, "tiny")
    reader = lab.reader(name)
    assert reader.scalars("train/loss").steps.tolist() == list(range(1, 13))
    assert reader.scalars("eval/ce").steps.tolist() == [0, 4, 8, 12]
    assert reader.array_steps("tokens") == [0, 2, 4, 6, 8, 10, 12]
    assert [event.kind for event in reader.events()] == ["start", "finish"]
    assert [info.step for info in lab.checkpoints(name)] == [5, 10, 12]
    timeline = reader.generations("timeline")
    assert {(row.step, row.prompt, row.status) for row in timeline} == {
        (step, prompt, "done") for step in (6, 12) for prompt in small_config().probes.prompts
    }
    meta = reader.meta()
    references = meta["references"]
    assert references["generator"] < references["trigram"] < references["bigram"] < references["unigram"]
    assert references["uniform"] == pytest.approx(math.log(meta["vocab_size"]))
    assert len(lab.token_labels(name)) == meta["vocab_size"]
    assert reader.log() == []
    assert lab.runs() == [info]


def test_equal_runs_are_equal_bit_for_bit_and_threads_are_named(lab):
    first = lab.start(small_config(kind="transformer", dropout=0.1), name="a")
    assert "train-a" in [thread.name for thread in threading.enumerate()]
    second = lab.start(small_config(kind="transformer", dropout=0.1), name="b")
    lab.wait(first, 60), lab.wait(second, 60)
    assert series(lab, first) == series(lab, second)
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith(("train-", "store-"))])


def test_a_change_is_applied_recorded_and_changes_the_run(lab):
    name = lab.start(small_config(steps=100_000), name="steered")
    running(lab, name)
    row = applied(lab, name, SetControl("diversity_weight", 0.5), author="a second tab")
    assert row.message == f"diversity_weight 0.0 → 0.5 after step {row.step}"
    state = lab.controls(name)["diversity_weight"]
    assert (state.value, state.default, state.version, state.step, state.author) == (
        0.5,
        0.0,
        1,
        row.step,
        "a second tab",
    )
    (event,) = [event for event in lab.reader(name).events() if event.kind == "control"]
    assert (event.step, event.payload) == (row.step, {"name": "diversity_weight", "old": 0.0, "new": 0.5})
    assert event.command_id == row.id
    eventually(lambda: lab.info(name).step > row.step + 2)
    applied(lab, name, Stop(), author="a second tab")
    lab.wait(name, 60)
    last = lab.reader(name).events()[-1]
    assert (last.kind, last.author) == ("stop", "a second tab")
    found = lab.reader(name).scalars_of(["train/loss", "term/ce", "term/diversity"])
    loss, ce = (dict(zip(found[key].steps, found[key].values, strict=True)) for key in ("train/loss", "term/ce"))
    assert loss[row.step] == ce[row.step]
    assert loss[row.step + 1] > ce[row.step + 1]


def test_bad_changes_are_refused_with_the_range(lab):
    name = lab.start(small_config(steps=100_000), name="strict")
    with pytest.raises(ConfigError, match=r"learning_rate = 9 .* from 1e-07 to 1"):
        lab.command(name, SetControl("learning_rate", 9))
    with pytest.raises(ConfigError, match="did you mean 'diversity_weight'"):
        lab.command(name, SetControl("divresity_weight", 1))
    with pytest.raises(ConfigError, match="batch_size cannot change while training"):
        lab.command(name, SetControl("batch_size", 8))
    running(lab, name)
    row = lab.outcome(name, lab.command(name, Continue()), timeout=20)
    assert (row.status, row.message) == ("refused", "the run is not paused")
    key = "same click twice"
    first = lab.command(name, SetControl("z_loss_weight", 0.1), idempotency_key=key)
    assert lab.command(name, SetControl("z_loss_weight", 0.1), idempotency_key=key) == first


def test_pause_step_change_sample_and_continue(lab):
    name = lab.start(small_config(steps=100_000), name="paused")
    running(lab, name)
    at = applied(lab, name, Pause()).step
    assert eventually(lambda: (info := lab.info(name)).state == "paused" and info).step == at
    assert applied(lab, name, SetControl("clip_norm", 0.5)).step == at
    grown = list(lab.sample(name, "Once a", SamplingConfig(max_tokens=5, temperature=0)))
    assert grown[-1].status == "done"
    assert grown[-1].step == at
    assert 0 < len(grown[-1].tokens) <= 5
    assert grown[-1].settings["source"] == "live"
    assert lab.info(name).step == at
    applied(lab, name, Step(3))
    eventually(lambda: (info := lab.info(name)).state == "paused" and info.step == at + 3)
    assert lab.outcome(name, lab.command(name, Step(1)), timeout=20).step == at + 3
    applied(lab, name, Continue())
    eventually(lambda: lab.info(name).step > at + 6)


def test_runs_queue_and_a_paused_run_gives_its_place_up(lab):
    first = lab.start(small_config(steps=100_000), name="first")
    running(lab, first)
    second = lab.start(small_config(), name="second")
    eventually(lambda: (info := lab.info(second)).state == "queued" and not info.message)
    assert lab.info(second).step == 0
    applied(lab, second, SetControl("learning_rate", 1e-3))  # a waiting run answers too
    applied(lab, first, Pause())
    assert lab.wait(second, 60).state == "finished"
    applied(lab, first, Continue())
    running(lab, first)


def test_checkpoints_on_request_and_before_risky_changes(lab):
    name = lab.start(small_config(steps=100_000, checkpoint_every=1000, keep_checkpoints=1), name="careful")
    running(lab, name)
    asked = applied(lab, name, SaveCheckpoint()).step
    risky = applied(lab, name, SetControl("learning_rate", 0.5)).step
    applied(lab, name, Stop())
    lab.wait(name, 60)
    reasons = {info.step: info.reason for info in lab.checkpoints(name)}
    assert reasons[asked] == "requested"
    assert reasons[risky] in ("risky change", "requested")
    assert "stopped" in reasons.values()
    kept = lab.checkpoints(name)[0]
    assert kept.bytes == sum(file.stat().st_size for file in kept.path.iterdir())


def test_stopped_and_resumed_equals_uninterrupted(lab):
    """Stop and resume twice, with a change in between: the series equal those of one run with the same events."""
    config = small_config(steps=60, dropout=0.1, checkpoint_every=7)
    name = lab.start(config, name="interrupted")
    running(lab, name)
    applied(lab, name, Pause())
    changed = applied(lab, name, SetControl("learning_rate", 1e-3)).step
    applied(lab, name, Stop())
    assert lab.wait(name, 60).state == "stopped"
    lab.resume(name)
    with pytest.raises(LabError, match="nothing to resume"):
        lab.resume(name)
    assert lab.wait(name, 60).state == "finished"

    blocker = lab.start(small_config(steps=100_000), name="blocker")
    running(lab, blocker)
    twin = lab.start(config, name="twin")  # queued behind the blocker, so that it can be paused before its first step
    applied(lab, twin, Pause())
    applied(lab, blocker, Stop())
    applied(lab, twin, Step(changed))
    eventually(lambda: lab.info(twin).step == changed)
    applied(lab, twin, SetControl("learning_rate", 1e-3))
    applied(lab, twin, Continue())
    lab.wait(twin, 60)
    assert series(lab, name) == series(lab, twin)


def test_resume_falls_back_from_a_damaged_checkpoint_and_repeats_the_events(lab):
    name = lab.start(small_config(steps=40, checkpoint_every=10), name="damaged")
    lab.wait(name, 60)
    before = series(lab, name)
    (newest := lab.checkpoints(name)[-1].path / "model.safetensors").write_bytes(newest.read_bytes()[:100])
    lab.resume(name, steps=50)
    assert lab.wait(name, 60).state == "finished"
    after = series(lab, name)
    assert after["train/loss"][0] == list(range(1, 51))
    # The cosine aims at step 50 from the resume on, so only the steps before it must repeat.
    assert after["train/loss"][1][:30] == before["train/loss"][1][:30]
    assert any("cut off" in line.message for line in lab.reader(name).log())


def test_a_finished_run_resumes_with_more_steps(lab):
    name = lab.start(small_config(lr_policy="constant"), name="longer")
    lab.wait(name, 60)
    with pytest.raises(LabError, match="steps=112"):
        lab.resume(name)
    lab.resume(name, steps=20)
    info = lab.wait(name, 60)
    assert (info.state, info.step, info.total_steps) == ("finished", 20, 20)
    whole = lab.start(small_config(steps=20, lr_policy="constant"), name="whole")
    lab.wait(whole, 60)
    assert series(lab, name)["train/loss"] == series(lab, whole)["train/loss"]


def test_a_nan_stops_before_the_step_and_the_run_can_be_rescued(lab, monkeypatch):
    """A term breaks at step 8: the run fails with its name, keeps step 7, and goes on once the cause is gone."""
    healthy = text_engine.total_loss
    calls = []

    def broken(inputs, controls, terms):
        if torch.is_grad_enabled():
            calls.append(None)
        total = healthy(inputs, controls, terms)
        factor = math.nan if len(calls) >= 8 else 1.0
        return Total(total.loss * factor, {**total.parts, "ce": total.parts["ce"] * factor})

    monkeypatch.setattr(text_engine, "total_loss", broken)
    name = lab.start(small_config(checkpoint_every=1000, budget_percent=0), name="nan")
    info = lab.wait(name, 60)
    assert (info.state, info.step) == ("failed", 7)
    assert "not finite at step 8: ce" in info.message
    reader = lab.reader(name)
    loss = reader.scalars("train/loss")
    assert loss.steps.tolist() == list(range(1, 8))
    assert all(math.isfinite(value) for value in loss.values)
    assert [(checkpoint.step, checkpoint.reason) for checkpoint in lab.checkpoints(name)] == [(7, "last good state")]
    assert reader.events()[-1].payload["terms"] == ["ce"]

    monkeypatch.setattr(text_engine, "total_loss", healthy)
    lab.resume(name)
    assert lab.wait(name, 60).state == "finished"
    whole = lab.start(small_config(), name="whole")
    lab.wait(whole, 60)
    assert series(lab, name) == series(lab, whole)


def test_sampling_a_checkpoint_of_a_finished_run(lab):
    name = lab.start(small_config(), name="done")
    lab.wait(name, 60)
    settings = SamplingConfig(max_tokens=6, sample_seed=3)
    texts = [list(lab.sample(name, "Once a", settings, checkpoint=10))[-1] for _ in range(2)]
    assert texts[0].text == texts[1].text
    assert [token["id"] for token in texts[0].tokens] == [token["id"] for token in texts[1].tokens]
    assert texts[0].settings["source"] == "checkpoint"
    newest = list(lab.sample(name, "", settings))[-1]
    assert newest.step == 12
    assert len(lab.reader(name).generations("prompt")) == 3
    token = texts[0].tokens[0]
    assert token["probability"] == pytest.approx(math.exp(token["logprob"]), rel=1e-6)
    assert len(token["top"]) == 5
    with pytest.raises(LabError, match=r"no checkpoint of step 11; there are 5, 10, 12"):
        list(lab.sample(name, "", settings, checkpoint=11))
    unknown = list(lab.sample(name, "xylophone Once", settings))[-1]
    assert unknown.stats["unknown_prompt_tokens"] == 1


def test_export_is_wide_csv_with_exact_numbers(lab):
    name = lab.start(small_config(), name="csv")
    lab.wait(name, 60)
    file = io.StringIO()
    assert export_table(lab, name, file) == 13
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [int(row["step"]) for row in rows] == list(range(13))
    loss = lab.reader(name).scalars("train/loss").values.tolist()
    assert [float(row["train/loss"]) for row in rows[1:]] == loss
    assert rows[0]["train/loss"] == ""


def test_names_that_exist_or_don_t(lab):
    lab.start(small_config(), name="🧪 one")
    with pytest.raises(LabError, match="is taken"):
        lab.start(small_config(), name="🧪 one")
    for call in (lab.info, lab.config, lab.reader, lab.resume, lab.controls, lab.checkpoints, lab.delete):
        with pytest.raises(LabError, match=r"no run 'two'; there are 🧪 one"):
            call("two")
    with pytest.raises(LabError, match="run name"):
        lab.info("../runs/🧪 one")


def test_commands_for_a_run_that_is_not_training(lab):
    name = lab.start(small_config(), name="idle")
    lab.wait(name, 60)
    for command in (Pause(), Continue(), Step(1), Stop(), SaveCheckpoint(), Restore(3)):
        with pytest.raises(LabError, match="is not training"):
            lab.command(name, command)
    waiting = lab.command(name, SetControl("diversity_weight", 0.25))
    assert lab.outcome(name, waiting).status == "pending"
    lab.resume(name, steps=14)
    lab.wait(name, 60)
    assert lab.outcome(name, waiting).status == "applied"
    assert lab.controls(name)["diversity_weight"].value == 0.25


def test_what_a_dead_worker_left_unanswered(lab):
    """A change still holds at the next resume; a stop does not."""
    name = lab.start(small_config(), name="leftovers")
    lab.wait(name, 60)
    with Inbox(lab.runs_dir / name / "run.sqlite") as inbox:
        stop = inbox.submit("stop", {}, "person")
        change = inbox.submit("set", {"name": "eos_weight", "value": 0.5}, "person")
        nonsense = inbox.submit("set", {"name": ["eos_weight"], "value": {"a": 1}}, "somebody")
    lab.resume(name, steps=14)
    assert lab.wait(name, 60).state == "finished"
    fates = [lab.outcome(name, number) for number in (stop, change, nonsense)]
    assert [row.status for row in fates] == ["refused", "applied", "refused"]


def test_a_refused_resume_changes_nothing(lab):
    name = lab.start(small_config(), name="done")
    lab.wait(name, 60)
    for arguments in ({}, {"changes": {"eos_weight": 0.5}}, {"steps": 0}, {"steps": 20, "changes": {"eos_weight": 99}}):
        with pytest.raises(ValueError, match=r"finished its 12 steps|refused"):
            lab.resume(name, **arguments)
    assert lab.reader(name).commands() == []
    lab.resume(name, steps=14, changes={"eos_weight": 0.5})
    lab.wait(name, 60)
    assert lab.controls(name)["eos_weight"].value == 0.5


def test_no_resume_on_other_data_or_without_a_usable_checkpoint(lab, tmp_path):
    """Neither trains on silently: the run fails with the reason, and everything measured stays."""
    text = tmp_path / "text.txt"
    lines = [f"Line {number} of a text about the number {number * 7}." for number in range(200)]
    text.write_text("\n\n".join(lines))
    name = lab.start(small_config(source="text", path=str(text), tokenizer="byte"), name="mine")
    assert lab.wait(name, 60).state == "finished"
    before = series(lab, name)
    text.write_text("\n\n".join(reversed(lines)))
    lab.resume(name, steps=20)
    info = lab.wait(name, 60)
    assert (info.state, info.step) == ("failed", 12)
    assert "has changed since it started" in info.message
    text.write_text("\n\n".join(lines))
    for checkpoint in lab.checkpoints(name):
        (checkpoint.path / "model.safetensors").unlink()
    lab.resume(name)
    info = lab.wait(name, 60)
    assert info.state == "failed"
    assert "none of the 3 checkpoints can be used" in info.message
    assert series(lab, name) == before


def test_phase_terms_are_refused_for_a_model_without_phases(lab):
    with pytest.raises(ConfigError, match="a transformer has nothing that it affects"):
        small_config(kind="transformer", coherence_weight=0.1)
    name = lab.start(small_config(kind="transformer", steps=100_000), name="plain")
    running(lab, name)
    assert "coherence_weight" not in lab.controls(name)
    with pytest.raises(ConfigError, match="a transformer has nothing that it affects"):
        lab.command(name, SetControl("coherence_weight", 0.1))
    with Inbox(lab.runs_dir / name / "run.sqlite") as inbox:
        row = inbox.submit("set", {"name": "coherence_weight", "value": 0.1}, "by hand")
    assert lab.outcome(name, row, timeout=20).status == "refused"
    assert lab.info(name).state == "running"


def test_data_that_are_not_there_are_refused_before_a_run_exists(lab):
    with pytest.raises(ConfigError, match=r"data\.path = '/nowhere/at/all\.txt' does not exist"):
        lab.start(small_config(source="text", path="/nowhere/at/all.txt"), name="nodata")
    assert lab.runs() == []
    assert not list(lab.runs_dir.iterdir())


def test_bad_data_fails_the_run_with_the_reason(lab, tmp_path):
    text = tmp_path / "few.txt"
    text.write_text("\n\n".join(f"the dog number {n} walks home" for n in range(80)))
    name = lab.start(small_config(source="text", path=str(text)), name="nodata")
    lab.wait(name, 60)
    text.unlink()
    lab.resume(name, steps=20)
    info = lab.wait(name, 60)
    assert info.state == "failed"
    assert str(text) in info.message
    assert "Traceback" in lab.reader(name).log()[-1].message


def test_broken_folders_are_listed_not_hidden(lab):
    good = lab.start(small_config(), name="good")
    lab.wait(good, 60)
    (lab.runs_dir / "bad").mkdir()
    (lab.runs_dir / "bad" / "run.sqlite").write_bytes(b"not a database at all, but long enough to look at" * 9)
    (lab.runs_dir / "notes").mkdir()
    states = {info.name: info.state for info in lab.runs()}
    assert states == {"good": "finished", "bad": "unreadable"}


def test_delete_needs_an_ended_run(lab):
    name = lab.start(small_config(steps=100_000), name="gone")
    with pytest.raises(LabError, match="stop it"):
        lab.delete(name)
    running(lab, name)
    applied(lab, name, Stop())
    lab.wait(name, 60)
    lab.delete(name)
    assert lab.runs() == []


def test_close_stops_saves_joins_and_is_idempotent(tmp_path):
    lab = Lab(tmp_path)
    names = [lab.start(small_config(steps=100_000), name=f"run-{number}") for number in range(3)]
    running(lab, names[0])
    lab.close()
    lab.close()
    assert not [t for t in threading.enumerate() if t.name.startswith(("train-", "store-"))]
    with Lab(tmp_path) as again:
        assert {again.info(name).state for name in names} == {"stopped"}
        assert again.checkpoints(names[0])[-1].step == again.info(names[0]).step
    with pytest.raises(LabError, match="closed"):
        lab.start(small_config(), name="late")


def test_one_lab_a_process_and_folder(tmp_path):
    labs = []
    threads = [threading.Thread(target=lambda: labs.append(shared_lab(tmp_path / "x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, labs))) == 1
    assert shared_lab(tmp_path / "y") is not labs[0]


HOT_RELOAD = """
import sys
from tests.support.configs import eventually, small_config
from qcore.lab import shared_lab
lab = shared_lab(sys.argv[1])
name = lab.start(small_config(steps=100000), name="reloaded")
eventually(lambda: lab.info(name).step > 3)
for module in [module for module in sys.modules if module.split(".")[0] == "qcore"]:
    del sys.modules[module]
from qcore.config import SetControl
from qcore.lab import shared_lab as fresh
again = fresh(sys.argv[1])
assert again is not lab
assert again.info(name).alive
row = again.outcome(name, again.command(name, SetControl("diversity_weight", 0.5)), timeout=20)
assert row.status == "applied", row
at = again.info(name).step
eventually(lambda: again.info(name).step > at + 3)
"""


def test_hot_reload_loses_neither_run_nor_steering(lab):
    """Streamlit's watcher drops the modules and imports them anew: the worker trains on, and a new lab steers it."""
    environment = {**os.environ, "PYTHONPATH": "."}
    subprocess.run([sys.executable, "-c", HOT_RELOAD, str(lab.runs_dir)], env=environment, timeout=100, check=True)
    info = lab.info("reloaded")
    assert info.state == "stopped"
    assert lab.checkpoints("reloaded")[-1].step == info.step


def test_a_run_of_another_process_is_visible_and_steerable(lab):
    """The CLI's case: a worker elsewhere differs in nothing but the nudge."""
    code = (
        "import sys; from qcore.lab import Lab; from tests.support.configs import small_config\n"
        "lab = Lab(sys.argv[1]); lab.start(small_config(steps=100000), name='there', author='cli')\n"
        "lab.wait('there', 100)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(lab.runs_dir)], env={**os.environ, "PYTHONPATH": "."})
    try:
        eventually(lambda: (lab.runs_dir / "there" / "run.sqlite").exists() and running(lab, "there"), 60)
        info = lab.info("there")
        assert (info.alive, info.here, info.pid) == (True, False, process.pid)
        assert applied(lab, "there", SetControl("diversity_weight", 0.125)).author == "person"
        with pytest.raises(LabError, match="nothing to resume"):
            lab.resume("there")
        applied(lab, "there", Stop())
        assert process.wait(60) == 0
        assert lab.info("there").state == "stopped"
    finally:
        process.kill()
