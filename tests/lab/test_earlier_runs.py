"""Run folders of an earlier version: they open, replay, fork and resume, bit for bit.

`tests/fixtures/runs-9c317a0.zip` was written by the program as of commit 9c317a0: `words`, a phase model with dropout,
a schedule, a rule with limits and two changes by hand; `words-fork`, which goes on from its step 10 with another
learning rate; and `clips`, a video model. `resumed-9c317a0.json` is what that same program recorded when it resumed
each for six more steps: every series that no clock decides, as hexadecimal floats, and the samples.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from qcore.config import Capability
from qcore.lab import Lab
from qcore.lab.export import export_run, import_run
from qcore.lab.report import report_parts
from qcore.viz.report import report_html
from tests.pages.drive import CONTROL_ROOM, PAGES, VIDEO, errors, open_app
from tests.support.steered import points

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
RESUMED: dict[str, Any] = json.loads((FIXTURES / "resumed-9c317a0.json").read_text("utf-8"))
RUNS = list(RESUMED["runs"])
RELATIVE = 2e-3
"""Where another build of torch or another processor adds in another order."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier") / "runs"
    with zipfile.ZipFile(FIXTURES / "runs-9c317a0.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def earlier(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A lab over a copy of the folder."""
    shutil.copytree(unpacked, tmp_path / "runs")
    monkeypatch.setenv("QCORE_RUNS", str(tmp_path / "runs"))
    with Lab(tmp_path / "runs") as opened:
        yield opened


def machine() -> dict[str, str]:
    """What decides the last bits of a sum."""
    found = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("vendor_id")]
    return {
        "torch": torch.__version__.partition("+")[0],
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "maker": found[0].partition(":")[2].strip() if found else "",
    }


def test_they_are_listed_with_all_that_they_recorded(earlier: Lab) -> None:
    infos = {info.name: info for info in earlier.runs()}
    assert {name: (info.state, info.step, info.family) for name, info in infos.items()} == {
        "words": ("finished", 12, "text"),
        "words-fork": ("finished", 12, "text"),
        "clips": ("finished", 8, "video"),
    }
    lineage = earlier.lineage("words-fork")
    assert lineage is not None
    assert (lineage.parent, lineage.step, lineage.changes) == ("words", 10, {"learning_rate": 0.002})
    controls = earlier.controls("words")
    assert {name: controls[name].value for name in ("diversity_weight", "weight_decay", "label_smoothing")} == {
        "diversity_weight": 0.2,
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
    }
    authors = {event.author for event in earlier.reader("words").events() if event.kind == "control"}
    assert authors == {"somebody", "schedule", "rule"}
    capabilities: dict[str, set[Capability]] = {"words": {"text", "phases"}, "clips": {"clips"}}
    for name, wanted in capabilities.items():
        assert wanted <= set(infos[name].capabilities)
    assert [found.step for found in earlier.checkpoints("words")] == [9, 12]
    assert [finding.name for finding in earlier.findings("words")]


@pytest.mark.parametrize(("run", "pages"), [("words", [page for page in PAGES if page != VIDEO]), ("clips", [VIDEO])])
def test_every_page_shows_them(earlier: Lab, run: str, pages: list[str]) -> None:
    for page in pages:
        at = open_app(page, run=run)
        assert not at.exception, page
        assert page == CONTROL_ROOM or errors(at) == [], page


@pytest.mark.parametrize("name", RUNS)
def test_they_replay_bit_for_bit(earlier: Lab, name: str) -> None:
    result = earlier.replay(name)
    if RESUMED["machine"] == machine():
        assert result.identical, result.first_difference
    assert result.first_step + result.steps == earlier.info(name).step
    assert result.values > 50


@pytest.mark.parametrize("name", RUNS)
def test_they_go_on_as_the_program_that_wrote_them_went_on(earlier: Lab, name: str) -> None:
    wanted = RESUMED["runs"][name]
    assert earlier.info(name).step == wanted["from"]
    earlier.resume(name, steps=wanted["to"])
    info = earlier.wait(name, 120)
    assert (info.state, info.step) == ("finished", wanted["to"]), info.message
    reader = earlier.reader(name)
    found = {
        series: {str(step): float(value) for step, value in zip(them.steps.tolist(), them.values, strict=True)}
        for series, them in reader.scalars_of(list(wanted["series"]), start=wanted["from"] + 1).items()
    }
    recorded = {
        series: {step: float.fromhex(value) for step, value in values.items()}
        for series, values in wanted["series"].items()
    }
    assert len(recorded["train/loss"]) == 6
    if RESUMED["machine"] == machine():
        assert found == recorded
        assert samples(earlier, name, wanted["from"]) == wanted["samples"]
    else:
        assert found["train/loss"] == pytest.approx(recorded["train/loss"], rel=RELATIVE)
        assert found.keys() == recorded.keys()


def samples(lab: Lab, name: str, after: int) -> list[list[Any]]:
    """Step, prompt and text or pixels of what was drawn since."""
    rows = [row for row in lab.reader(name).generations("timeline") if row.step > after]
    pixels = lab.info(name).family == "video"
    return [[row.step, row.prompt, [one["pixels"] for one in row.tokens] if pixels else row.text] for row in rows]


def test_a_fork_of_one_is_its_parent_bit_for_bit_and_its_checkpoints_speak(earlier: Lab) -> None:
    child = earlier.fork("words", step=9)
    assert earlier.wait(child, 120).state == "finished"
    theirs, ours = points(earlier, child, after=9), points(earlier, "words", after=9)
    # a later program measures more than the parent has
    shared = theirs.keys() & ours.keys()
    assert {name: theirs[name] for name in shared} == {name: ours[name] for name in shared}
    assert len(theirs["train/loss"]) == 3
    *_, said = earlier.sample("words", "The", earlier.config("words").sampling, checkpoint=9)
    assert said.status == "done"


def test_they_are_exported_and_come_back(earlier: Lab, tmp_path: Path) -> None:
    export_run(earlier, "words", tmp_path / "words.zip")
    name = import_run(earlier, tmp_path / "words.zip", "again")
    assert points(earlier, name) == points(earlier, "words")
    assert "clips" in report_html(**report_parts(earlier, "clips"))
