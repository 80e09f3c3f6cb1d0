"""The command line: results on stdout, one line for a mistake, steering from another process, clean ends on signals."""

import concurrent.futures
import csv
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore import cli
from qcore.cli import bench, training
from qcore.cli.base import print_json
from qcore.config import PRESETS, RunConfig, SamplingConfig, all_controls, default_run, live_controls
from qcore.lab import Lab
from qcore.store import RunWriter, schema
from tests.support.configs import eventually, small_config

ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "width": 8, "layers": 1, "heads": 1, "phases": 2, "context": 8, "documents": 40, "batch_size": 2, "warmup_steps": 2,
    "eval_every": 5, "eval_batches": 1, "sample_every": 1000, "sample_length": 2, "checkpoint_every": 1000,
    "max_tokens": 4, "prompts": "Once",
}  # fmt: skip
SETS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
DEADLINE = 60.0

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one finished run of ten steps, `done`. Tests that read share it."""
    runs = tmp_path_factory.mktemp("runs")
    assert cli.main(["train", *SETS, "--steps", "10", "--name", "done", "--runs", str(runs), "--quiet"]) == 0
    return runs


@pytest.fixture
def run_json(capsys: Capture) -> Callable[..., Any]:
    """Run a command that must succeed and return the JSON it prints."""

    def call(*arguments: str) -> Any:
        capsys.readouterr()
        assert cli.main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


class Child:
    """`qcore train` in another process, with the run's figures read through a lab of this one."""

    def __init__(self, runs: Path, name: str, *more: str) -> None:
        command = [sys.executable, "-m", "qcore", "train", *SETS, "--steps", "1000000", "--name", name]
        environment = {**os.environ, "QCORE_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self.name, self.runs = name, runs
        self.process = subprocess.Popen(
            [*command, *more], cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        self.lab = Lab(runs)

    def wait_for_step(self, step: int) -> None:
        """Poll until the run has made `step` steps."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()
            if (self.runs / self.name / "run.sqlite").exists() and self.lab.info(self.name).step >= step:
                return
            time.sleep(0.02)
        raise AssertionError(f"no step {step} within {DEADLINE} s")

    def finish(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out, err

    def close(self) -> None:
        """Leave no process behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.lab.close()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    running = Child(tmp_path, "live")
    yield running
    running.close()


# what it prints


def test_facts_that_are_missing_or_of_another_kind_are_no_traceback(
    finished: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copytree(finished / "done", tmp_path / "done")
    for key in ("references", "data_frames", "data_report", "data_warnings"):
        with RunWriter(tmp_path / "done" / "run.sqlite") as writer:
            writer.set_meta(key, None)
    assert cli.main(["show", "done", "--runs", str(tmp_path)]) == 0
    assert "references   not measured" in capsys.readouterr().out
    with RunWriter(tmp_path / "done" / "run.sqlite") as writer:
        writer.set_meta("data_report", 5)
    assert cli.main(["show", "done", "--runs", str(tmp_path)]) == 2
    assert "data_report is 5, not a list" in capsys.readouterr().err


def test_paths_that_cannot_be_are_one_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in ("~nouserx/book.txt", "a" * 5_000, str(tmp_path / "loop")):
        arguments = ["train", "--set", "source=text", "--set", f"path={bench._texts([Path(path)])['path']}"]
        assert cli.main([*arguments, "--runs", str(tmp_path / "runs")]) == 2
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        assert printed.startswith("qcore: data.path = ")


def test_a_run_is_listed_shown_and_exported(finished: Path, run_json: Callable[..., Any], capsys: Capture) -> None:
    where = ["--runs", str(finished)]
    [listed] = run_json("list", *where)
    assert (listed["name"], listed["state"], listed["step"], listed["preset"]) == ("done", "finished", 10, "tiny")

    shown = run_json("show", "done", *where)
    assert shown["run"]["step"] == shown["latest"]["train/loss"]["step"] == 10
    assert shown["config"]["model"]["width"] == 8
    assert set(shown["controls"]) == set(live_controls())
    assert shown["events"][0]["kind"] == "start"
    assert shown["checkpoints"][-1]["step"] == 10
    assert shown["meta"]["references"]["uniform"] > 0

    assert cli.main(["list", *where]) == cli.main(["show", "done", *where]) == 0
    text = capsys.readouterr().out
    assert "done finished at step 10 of 10" in text
    assert "references   uniform" in text

    assert cli.main(["export", "done", *where]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    losses = {int(row["step"]): float(row["train/loss"]) for row in rows if row["train/loss"]}
    assert sorted(losses) == list(range(1, 11))
    assert losses[10] == shown["latest"]["train/loss"]["value"], "every digit survives"


def test_export_to_a_file(finished: Path, tmp_path: Path, run_json: Callable[..., Any]) -> None:
    file = tmp_path / "curves.csv"
    written = run_json("export", "done", "--out", str(file), "--runs", str(finished))
    assert written == {"file": str(file), "rows": len(file.read_text().splitlines()) - 1}
    before = file.read_bytes()
    where = ["export", "done", "--runs", str(finished), "--out"]
    assert cli.main([*where, str(file), "--series", "nope"]) == 2
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["curves.csv"]
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE) as reading:
        assert cli.main([*where, str(tmp_path / "pipe")]) == 0
        assert reading.stdout is not None
        assert reading.stdout.read() == before


def test_a_sample_is_the_same_for_the_same_seed(finished: Path, run_json: Callable[..., Any], capsys: Capture) -> None:
    arguments = ["sample", "done", "--prompt", "Once", "--max-tokens", "5", "--runs", str(finished)]
    first = run_json(*arguments, "--sample-seed", "3", "--temperature", "1.5")
    again = run_json(*arguments, "--sample-seed", "3", "--temperature", "1.5", "--checkpoint", "10")
    assert first["text"] == again["text"]
    assert first["settings"]["temperature"] == 1.5
    assert len(first["tokens"]) <= 5
    assert first["status"] == "done"
    assert cli.main([*arguments, "--sample-seed", "3", "--temperature", "1.5"]) == 0
    assert capsys.readouterr().out.rstrip("\n") == first["text"], "the streamed text is the whole text"


def test_sample_has_one_option_for_every_declared_setting(capsys: Capture) -> None:
    assert cli.main(["sample", "--help"]) == 0
    text = capsys.readouterr().out
    for control in SamplingConfig.controls():
        assert f"--{control.name.replace('_', '-')} " in text


def test_presets_and_controls(run_json: Callable[..., Any], capsys: Capture) -> None:
    assert [found["name"] for found in run_json("presets")] == list(PRESETS)
    assert [RunConfig.from_dict(found["config"]) for found in run_json("presets")] == [
        p.config for p in PRESETS.values()
    ]
    assert [found["name"] for found in run_json("controls")] == [control.name for control in all_controls()]
    assert cli.main(["controls", "--markdown", "--model", "transformer"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(all_controls("transformer"))
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {6}, "five cells in every line"


def test_no_arguments_print_the_help(capsys: Capture) -> None:
    assert cli.main([]) == 0
    assert "Usage: qcore" in capsys.readouterr().out


def test_not_a_number_becomes_null(capsys: Capture) -> None:
    print_json({"loss": float("nan"), "path": Path("a/b"), "list": [float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "path": "a/b", "list": [None, 1.5]}


# resuming and changing a run that is not training


def test_a_change_waits_for_the_resume_and_is_then_applied(
    tmp_path: Path, run_json: Callable[..., Any], capsys: Capture
) -> None:
    where = ["--runs", str(tmp_path)]
    ended = run_json("train", *SETS, "--steps", "4", "--name", "r", "--quiet", *where)
    assert (ended["state"], ended["step"]) == ("finished", 4)
    assert cli.main(["set", "r", "diversity_weight=0.25", "optim.clip_norm=0.5", *where]) == 0
    assert "waits until the run is resumed: qcore resume r" in capsys.readouterr().out
    assert cli.main(["resume", "r", *where]) == 2
    assert "has finished its 4 steps" in capsys.readouterr().err
    ended = run_json("resume", "r", "--set", "steps=7", "--set", "entropy_floor=0.5", "--quiet", *where)
    assert (ended["state"], ended["step"]) == ("finished", 7)
    controls = run_json("show", "r", *where)["controls"]
    changed = {
        key: (state["value"], state["step"], state["author"]) for key, state in controls.items() if state["version"]
    }
    assert changed == {
        "diversity_weight": (0.25, 4, "cli"),
        "clip_norm": (0.5, 4, "cli"),
        "entropy_floor": (0.5, 4, "cli"),
        "steps": (7, 4, "cli"),
    }


def test_a_configuration_file_is_a_starting_point(tmp_path: Path, run_json: Callable[..., Any]) -> None:
    file = tmp_path / "mine.yaml"
    values = {key: value for key, value in TINY.items() if key != "phases"}
    config = default_run().with_values({**values, "kind": "transformer", "steps": 3})
    file.write_text(config.to_yaml(), encoding="utf-8")
    ended = run_json(
        "train", "--config", str(file), "--set", "seed=5", "--name", "c", "--quiet", "--runs", str(tmp_path)
    )
    assert (ended["kind"], ended["preset"], ended["step"]) == ("transformer", "", 3)
    with Lab(tmp_path) as lab:
        assert lab.config("c").seed == 5


def test_a_configuration_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "mine.yaml"
    for raw, words in (
        (b"# caf\xe9\n", "mine.yaml is not UTF-8: byte 0xE9 in line 1"),
        (b"a: [", "mine.yaml: this is"),
    ):
        file.write_bytes(raw)
        assert cli.main(["train", "--config", str(file), "--runs", str(tmp_path)]) == 2
        assert words in capsys.readouterr().err


def test_names_are_taken_as_pages_write_them(tmp_path: Path, run_json: Callable[..., Any]) -> None:
    where = ["--runs", str(tmp_path)]
    sets = [*SETS, "--set", "Learning rate=0.02", "--set", "order-seed=3"]
    run_json("train", *sets, "--name", "a", "--quiet", *where)
    [answer] = run_json("set", "a", "Clip norm=0.5", "optim.learning rate = 0.01", *where)[:1]
    assert answer["payload"] == {"name": "clip_norm", "value": 0.5}
    with Lab(tmp_path) as lab:
        assert (lab.config("a").value("learning_rate"), lab.config("a").order_seed) == (0.02, 3)


# mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["show"], "Missing argument 'NAME'"),
        (["train", "--no-such-option"], "No such option"),
        (["train", "--preset", "tinny"], "unknown preset 'tinny'; did you mean 'tiny'?"),
        (["train", "--preset", "tiny", "--config", "x.yaml"], "give one of them"),
        (["train", "--config", "no-such-file.yaml"], "no-such-file.yaml"),
        (["train", "--set", "learning_rat=1"], "did you mean 'learning_rate'?"),
        (["train", "--set", "learning_rate=-1"], "learning_rate = '-1' is refused: it must be a number from"),
        (["train", "--set", "learning_rate"], "write it as key=value"),
        (["train", "--set", "seed=1", "--set", "seed=2"], "'seed' is given twice"),
        (["train", "--set", "source=text"], "needs path"),
        (["train", "--set", "learning rat=1"], "did you mean 'learning_rate'?"),
        (["train", "--set", "learning rate=1e-3", "--set", "learning_rate=2"], "'learning_rate' is given twice"),
        (["train", "--set", "width=" + "9" * 9_000], "is refused: it must be a whole number from 8 to 4096"),
        (["train", "--set", "x" * 9_000 + "=1"], "unknown name 'xxx"),
        (["train", "--set", "limits=learning_rate: 1e-5 .. 0.01, change x2,"], "ends with a comma: leave it out"),
        (["set", "done", "schedule=" + "9" * 400 + ": ce_weight = 1"], "must be a whole number from 0 to 10000000"),
        (["train", "--config", "/"], "/ is a folder: name the YAML file in it"),
        (["train", "--config", "/dev/zero"], "/dev/zero has more than"),
        (["ablate", "--config", "no-such-file.yaml"], "there is no file no-such-file.yaml: check the path"),
        (["fork", "done", "--set", "lerning rate=1"], "did you mean 'learning_rate'?"),
        (["effect", "done", "--step", "4", "--set", "lerning rate=1"], "did you mean 'learning_rate'?"),
        (["sweep", "done", "lerning rate", "1", "--step", "4"], "did you mean 'learning_rate'?"),
        (["train", "--steps", "0"], "steps = 0 is refused"),
        (["train", "--steps", "many"], "Invalid value for '--steps'"),
        (["train", "--name", "../up"], "'../up' is refused"),
        (["train", "--name", ""], "the run name is empty"),
        (["train", "--name", "done"], "'done' is taken"),
        (["show", "missing"], "there is no run 'missing'"),
        (["show", "../done"], "is refused"),
        (["resume", "missing"], "there is no run 'missing'"),
        (["resume", "done"], "has finished its 10 steps"),
        (["resume", "done", "--set", "width=4"], "width cannot change while training"),
        (["set", "done", "learning_rate=nan"], "learning_rate = 'nan' is refused"),
        (["set", "done", "width=16"], "width cannot change while training"),
        (["set", "missing", "learning_rate=1e-3"], "there is no run 'missing'"),
        (["pause", "done"], "is not training"),
        (["stop", "done"], "is not training"),
        (["checkpoint", "done"], "is not training"),
        (["step", "done", "0"], "count = 0 is refused"),
        (["sample", "done", "--prompt", "x", "--temperature", "9"], "temperature = '9' is refused"),
        (["sample", "done", "--prompt", "x", "--checkpoint", "3"], "has no checkpoint of step 3; there are 10"),
        (["export", "done", "--json"], "give --out FILE"),
        (["export", "missing", "--out", "never.csv"], "there is no run 'missing'"),
        (["list", "--runs", "no/such/folder"], "there is no runs folder 'no/such/folder'"),
        (["controls", "--model", "transfomer"], "did you mean 'transformer'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, finished: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QCORE_RUNS", str(finished))
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in finished.iterdir())
    assert cli.main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("qcore: ")
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
    assert sorted(path.name for path in finished.iterdir()) == before, "nothing was created"
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_says_why_without_a_traceback(tmp_path: Path, capsys: Capture) -> None:
    small = {"width": 8, "layers": 1, "heads": 2, "phases": 4, "documents": 20, "context": 16384}
    sets = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    assert cli.main(["train", *sets, "--name", "f", "--quiet", "--force", "--runs", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "f failed at step 0" in printed.out
    assert "use a context of at most" in printed.out
    assert "Traceback" not in printed.out + printed.err


# another process


def test_a_run_in_another_process_is_steered_from_here(
    child: Child, run_json: Callable[..., Any], capsys: Capture
) -> None:
    where = ["--runs", str(child.runs)]
    child.wait_for_step(3)
    [answer] = run_json("set", "live", "learning_rate=0.001", *where)
    assert answer["status"] == "applied"
    assert answer["step"] >= 3
    assert cli.main(["resume", "live", *where]) == 2
    assert "is already training" in capsys.readouterr().err

    assert cli.main(["step", "live", *where]) == 2
    assert "refused at step" in capsys.readouterr().err
    [paused] = run_json("pause", "live", *where)
    [stepped] = run_json("step", "live", "2", *where)
    assert stepped["step"] == paused["step"]
    live = run_json("sample", "live", "--prompt", "Once", "--max-tokens", "3", *where)
    assert live["settings"]["source"] == "live"
    [saved] = run_json("checkpoint", "live", *where)
    assert saved["step"] <= paused["step"] + 2
    assert cli.main(["continue", "live", *where]) == 0
    child.wait_for_step(paused["step"] + 5)
    assert cli.main(["stop", "live", *where]) == 0

    code, out, err = child.finish()
    assert code == 0
    assert re.search(r"live stopped at step \d+ of 1000000", out)
    assert "Traceback" not in err
    shown = run_json("show", "live", *where)
    assert shown["controls"]["learning_rate"]["value"] == 0.001
    assert {"set", "pause", "step"} & {event["kind"] for event in shown["events"]} == {"pause", "step"}
    assert shown["checkpoints"][-1]["step"] == shown["run"]["step"]


@pytest.mark.parametrize(
    ("numbers", "code"),
    [((signal.SIGTERM,), 143), ((signal.SIGINT,) * 3, 130)],
    ids=["SIGTERM", "SIGINT three times"],
)
def test_a_signal_stops_with_a_checkpoint_and_the_run_resumes(
    child: Child, numbers: tuple[signal.Signals, ...], code: int, run_json: Callable[..., Any]
) -> None:
    child.wait_for_step(3)
    for number in numbers:
        child.process.send_signal(number)
    returned, out, err = child.finish()
    assert returned == code, err
    assert "Traceback" not in err
    assert "terminate called" not in err
    assert "continue with: qcore resume live --runs " in err
    stopped = re.search(r"live stopped at step (\d+)", out)
    assert stopped
    step = int(stopped[1])
    assert child.lab.checkpoints("live")[-1].step == step
    ended = run_json("resume", "live", "--steps", str(step + 2), "--quiet", "--runs", str(child.runs))
    assert (ended["state"], ended["step"]) == ("finished", step + 2)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab of this process with a run, `live`, that would train for long."""
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(training, "POLL_SECONDS", 0.02)
    with Lab(tmp_path / "runs") as lab:
        lab.start(small_config(steps=1_000_000, checkpoint_every=1_000_000), name="live")
        eventually(lambda: lab.info("live").step > 3)
        yield lab


def test_a_signal_stops_a_run_whose_database_another_program_keeps(here: Lab, capsys: Capture) -> None:
    """The command to stop cannot be left there, so the worker is told."""
    other = sqlite3.connect(here.folder("live") / "run.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    worker = here._workers["live"]

    def let_go() -> None:
        eventually(worker._assignment.stopping.is_set)
        other.execute("ROLLBACK")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        later = pool.submit(let_go)
        assert training.follow(here, "live", [signal.SIGINT], quiet=True, as_json=False) == 130
        later.result(DEADLINE)
    other.close()
    assert "stopping live with a checkpoint" in capsys.readouterr().err
    assert here.info("live").state == "stopped"
    assert here.checkpoints("live")[-1].step == here.info("live").step


def test_a_look_that_fails_ends_no_run(here: Lab, capsys: Capture) -> None:
    config = here.folder("live") / "config.yaml"
    whole = config.read_bytes()
    config.write_bytes(b"\xff")
    step = here.reader("live").newest_step()

    def mend() -> None:
        eventually(lambda: here.reader("live").newest_step() > step + 20)
        assert here.trains("live")
        config.write_bytes(whole)
        eventually(lambda: here.info("live").step > step + 30)
        here.stop("live")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        later = pool.submit(mend)
        assert training.follow(here, "live", [], quiet=True, as_json=False) == 0
        later.result(DEADLINE)
    printed = capsys.readouterr()
    assert printed.err.count("is not UTF-8") == 1
    assert "it keeps training" in printed.err
    assert printed.out.startswith("live stopped at step ")
    assert not here.stop("live"), "there is no worker any more"


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(tmp_path: Path, capsys: Capture) -> None:
    assert cli.main(["train", *SETS, "--steps", "3", "--name", "p", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "\r" not in printed.err
    last = printed.err.splitlines()[-1]
    assert re.search(r"p  step 3/3  finished  loss \d+\.\d{3}  [\d,]+ tokens/s", last)
    assert printed.out.startswith("p finished at step 3 of 3 (loss ")


def test_a_reader_that_has_seen_enough_is_no_mistake() -> None:
    command = f"set -o pipefail; {sys.executable} -m qcore controls | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode in (0, 1, 141)  # 1: typer noticed it first
    assert done.stderr == ""
