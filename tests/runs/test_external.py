"""Runs that no trainer of ours made: what they are taken for, what they have, and what is refused."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcore.cli import main
from qcore.config import ConfigError, ExternalConfig, Pause, SetControl, default_run, parse_yaml
from qcore.lab import Lab, LabError
from qcore.lab.export import export_run, export_table, import_run
from qcore.lab.report import report_parts
from qcore.runs import layout, listing
from qcore.runs.external import NO_TRAINER
from qcore.runs.external_run import ExternalRun
from qcore.store import DATABASE_NAME, RunWriter, Status
from qcore.viz.report import report_html
from tests.papers import ROOT, blocks
from tests.support import foreign
from tests.support.foreign import foreign_run


@pytest.mark.parametrize(
    ("config", "settings", "note"),
    [
        (None, {}, ""),
        ("kind: external\nsettings: {optimizer: {lr: 0.1}}\n", {"optimizer.lr": 0.1}, ""),
        ("model: {kind: hf_gpt2}\nlr: 0.0003\n", {"model.kind": "hf_gpt2", "lr": 0.0003}, ""),
        ("- just\n- a list\n", {}, "holds no settings"),
        ("a: [1\n", {}, "not YAML"),
        ("kind: external\nmodel: {width: 3}\n", {"kind": "external", "model.width": 3}, ""),
    ],
)
def test_a_folder_that_only_the_store_has_written_is_an_external_run(
    config: str | None, settings: dict[str, Any], note: str, lab: Lab
) -> None:
    with foreign_run(lab.runs_dir, "own", config) as writer:
        foreign.scalars(writer)
    info = lab.info("own")
    assert (info.kind, info.step, info.loss, info.parameters) == ("external", 39, 1.05, 0)
    assert lab.runs() == [info]
    found = lab.description("own")
    assert isinstance(found, ExternalConfig)
    assert found.settings == settings
    assert note in found.note


def test_a_run_of_ours_with_a_damaged_configuration_stays_unreadable(lab: Lab) -> None:
    """Its database says whose it is; and so do its checkpoints."""
    for name in ("by its kind", "by its checkpoints"):
        with foreign_run(lab.runs_dir, name, "model: [\n") as writer:
            foreign.scalars(writer)
            if name == "by its kind":
                writer.set_meta("kind", "phase_lm")
            else:
                (lab.runs_dir / name / "step-000005").mkdir()
        assert lab.listed(name).state == "unreadable"
    with foreign_run(lab.runs_dir, "ours", default_run().to_yaml()) as writer:
        foreign.scalars(writer)
    assert lab.info("ours").kind == "phase_lm"


@pytest.mark.parametrize(
    ("content", "capabilities", "family"),
    [
        (foreign.scalars, set(), ""),
        (foreign.texts, {"text", "samples"}, "text"),
        (foreign.everything, {"text", "samples", "gradients"}, "text"),
        (foreign.nothing, set(), ""),
    ],
)
def test_capabilities_are_what_the_database_holds(
    content: Callable[[RunWriter], None], capabilities: set[str], family: str, lab: Lab
) -> None:
    with foreign_run(lab.runs_dir, "own") as writer:
        content(writer)
    info = lab.info("own")
    assert info.capabilities == capabilities
    assert info.family == family


def test_what_it_says_of_its_life_is_believed_for_half_a_minute(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (foreign.living, foreign.gone, foreign.scalars):
        with foreign_run(lab.runs_dir, content.__name__) as writer:
            content(writer)
    living, gone, silent = (lab.listed(name) for name in ("living", "gone", "scalars"))
    assert (living.state, living.alive, living.total_steps) == ("running", True, 100)
    assert (gone.state, gone.alive, gone.cause) == ("interrupted", False, "process ended")
    assert (silent.state, silent.alive) == ("recorded", True)
    with pytest.raises(LabError, match="is being written by another program"):
        lab.delete("living")
    later, later_ns = time.time() + 60, time.time_ns() + 60 * 10**9
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(time, "time_ns", lambda: later_ns)
    assert layout.BELIEVED_SECONDS < 60
    assert listing.SETTLED_SECONDS < 60
    assert (lab.listed("living").state, lab.listed("scalars").alive) == ("interrupted", False)
    lab.delete("living")
    assert not (lab.runs_dir / "living").exists()


ACTIONS: dict[str, Callable[[Lab], Any]] = {
    "resume": lambda lab: lab.resume("own"),
    "fork": lambda lab: lab.fork("own"),
    "rewind": lambda lab: lab.rewind("own", 3),
    "replay": lambda lab: lab.replay("own"),
    "sample": lambda lab: list(lab.sample("own", "", default_run().sampling)),
    "set": lambda lab: lab.command("own", SetControl("kl_weight", 0.5)),
    "pause": lambda lab: lab.command("own", Pause()),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_what_needs_a_trainer_of_ours_is_refused_with_the_reason(action: str, lab: Lab) -> None:
    with ExternalRun(lab.runs_dir, "own", controls=[{"name": "kl_weight", "value": 0.1}]) as run:
        foreign.scalars(run.writer)
        with pytest.raises(LabError, match="another program wrote it"):
            ACTIONS[action](lab)  # while it lives
    before = lab.reader("own").version()
    with pytest.raises(LabError, match="another program wrote it"):
        ACTIONS[action](lab)
    assert lab.reader("own").version() == before


def test_the_door_takes_the_name_and_holds_the_run(lab: Lab) -> None:
    controls = [{"name": "kl_weight", "value": 0.1, "low": 0, "high": 1}, {"name": "frozen", "value": True}]
    with ExternalRun(
        lab.runs_dir, "own", source="train.py", domain="text", settings={"lr": 1e-3}, controls=controls
    ) as run:
        run.tell(0, 40)
        info = lab.info("own")
        assert (info.state, info.alive, info.source, info.family) == ("running", True, "train.py", "text")
        foreign.scalars(run.writer)
        with pytest.raises(LabError, match="taken"):
            ExternalRun(lab.runs_dir, "own")
        with pytest.raises(LabError, match="is being written"):
            lab.delete("own")
        states = lab.controls("own")
        assert {name: (state.control.kind, state.value) for name, state in states.items()} == {
            "kl_weight": ("float", 0.1),
            "frozen": ("bool", True),
        }
    info = lab.info("own")
    assert (info.state, info.alive, info.total_steps) == ("finished", False, 40)
    run.close("failed")  # a second end changes nothing
    assert lab.info("own").state == "finished"


def test_a_program_that_fails_says_so(lab: Lab) -> None:
    with pytest.raises(ZeroDivisionError), ExternalRun(lab.runs_dir, "own"):
        _ = 1 / 0
    info = lab.info("own")
    assert (info.state, info.alive) == ("failed", False)
    assert "ZeroDivisionError" in info.message


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "a/b"}, LabError),
        ({"domain": "audio"}, ConfigError),
        ({"controls": [{"name": "_x", "value": 1}]}, ValueError),
        ({"controls": [{"name": "x"}]}, ValueError),
        ({"controls": [{"name": "x", "value": 1}, {"name": "x", "value": 2}]}, ValueError),
    ],
)
def test_what_the_door_refuses_leaves_nothing_behind(options: dict[str, Any], error: type, tmp_path: Path) -> None:
    with pytest.raises(error):
        ExternalRun(tmp_path, **{"name": "own", **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", foreign.CONTENTS)
def test_it_is_exported_imported_and_reported(content: Callable[[RunWriter], None], lab: Lab) -> None:
    with foreign_run(lab.runs_dir, "own") as writer:
        content(writer)
    page = report_html(**report_parts(lab, "own"))
    # those two have findings: their own, or of a loss that is infinite
    assert "Another program wrote this run" in page or content in (foreign.everything, foreign.odd_names)
    assert "Nothing wrong" not in page
    assert foreign.ODD not in page
    packed = io.BytesIO()
    export_run(lab, "own", packed)
    assert import_run(lab, packed, "again") == "again"
    assert lab.info("again").kind == "external"
    assert lab.info("again").capabilities == lab.info("own").capabilities
    assert len(lab.findings("again")) == len(lab.findings("own"))
    assert export_table(lab, "own", io.StringIO()) == export_table(lab, "again", io.StringIO())


def test_the_command_line_lists_and_shows_it(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    with ExternalRun(lab.runs_dir, "own", source="train.py", settings={"lr": 1e-3}) as run:
        foreign.everything(run.writer)
    folder = str(lab.runs_dir)
    assert main(["list", "--runs", folder]) == 0
    assert "external" in capsys.readouterr().out
    assert main(["show", "own", "--runs", folder]) == 0
    shown = capsys.readouterr().out
    assert "external, train.py" in shown
    assert NO_TRAINER in shown
    assert "lr = 0.001" in shown
    assert "Something is" in shown
    assert main(["show", "own", "--json", "--runs", folder]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["config"]["source"] == "train.py"
    assert told["controls"]["kl_weight"]["value"] == 0.2
    assert main(["resume", "own", "--runs", folder]) != 0
    assert "another program wrote it" in capsys.readouterr().err


def test_the_example_of_the_documents_writes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = blocks(ROOT / "docs/external.md", "python")
    exec(compile(block, "external.md", "exec"), {})
    with Lab(tmp_path / "checkpoints") as lab:
        info = lab.info("my-gpt")
        assert (info.state, info.step, info.loss, info.source) == ("finished", 100, 0.03, "train.py")


def test_a_description_is_read_as_it_was_written() -> None:
    config = ExternalConfig.from_dict({"kind": "external", "source": "a: b", "settings": {"x": {"y": None, "z": [1]}}})
    assert config.settings == {"x.y": None, "x.z": "[1]"}
    assert ExternalConfig.from_dict(parse_yaml(config.to_yaml())) == config


def test_a_status_that_was_never_finite_is_listed(lab: Lab) -> None:
    with foreign_run(lab.runs_dir, "own") as writer:
        writer.log_scalars(3, {"train/loss": float("nan")})
        writer.set_status(Status("finished", 3, 0, time.time(), 1, "here", extra={"loss": float("inf")}))
    assert lab.info("own").state == "finished"
    assert (lab.runs_dir / "own" / DATABASE_NAME).exists()
