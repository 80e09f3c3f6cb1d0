"""Probes from outside: what is refused, what a run does with one, and the example that adds one."""

import re
import runpy
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from qcore.automation.control_board import ControlBoard
from qcore.lab import Lab, shared_lab
from qcore.probes import Probe, ProbeInput, catalog, register, registered, unregister
from qcore.probes.registry import register_installed
from qcore.runs.layout import CACHE_FOLDER
from qcore.store import RunReader, RunWriter
from qcore.train.text_workload import TextWorkload
from qcore.train.video_workload import VideoWorkload
from tests.pages.drive import GRADIENTS, open_app, texts
from tests.support.configs import small_config, small_video

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "05_your_own_probe.py"
LENGTH = catalog.declare("probe_test/length", "length", "tokens", meaning="Positions of a row.", form=".0f")


def length(seen: ProbeInput) -> dict[str, float]:
    return {LENGTH: float(seen.mask.shape[1])}


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    for probe in registered():
        unregister(probe.name)


def begun(tmp_path: Path, workload=None, step: int = 0):
    """What a run measures before training and at a step of its own, its meta and its log."""
    workload = workload or TextWorkload(small_config(), tmp_path / CACHE_FOLDER)
    board = ControlBoard(workload.config)
    with RunWriter(tmp_path / "run.sqlite") as writer:
        runner = workload.runner(writer)
        found = runner.begin(workload.engine.preview(board), board)
        if step:
            result = workload.engine.step(1, board)
            found = runner.measure(step, result, board) | runner.measure_added(step, result, board)
        writer.flush()
        with RunReader(tmp_path / "run.sqlite") as reader:
            return found, reader.meta(), reader.log()


def test_a_probe_from_outside_is_measured_and_its_words_are_kept(tmp_path: Path) -> None:
    def keeps(seen: ProbeInput) -> dict[str, float]:
        seen.keep("rows", {"mask": seen.mask.numpy()})
        return length(seen)

    register(Probe("length", {"text"}, 3, keeps))
    found, meta, log = begun(tmp_path, step=3)
    assert found[LENGTH] == 16
    assert found[catalog.cost_ran("length")] == 1
    assert [declared.text for declared in catalog.stored_series(meta)] == ["length, tokens"]
    assert "length" not in meta["probe_names"], "built-in ones have a place each, which a replay goes by"
    assert log == []
    with RunReader(tmp_path / "run.sqlite") as reader:
        assert reader.arrays("own_rows", 3)[1]["mask"].shape == (4, 16)
    found, _, _ = begun(tmp_path, step=4)
    assert LENGTH not in found, "not due"


def test_a_run_takes_the_probes_whose_needs_it_can_meet(tmp_path: Path) -> None:
    register(Probe("phases", {"phases"}, 3, length))
    assert LENGTH in begun(tmp_path)[0]
    transformer = TextWorkload(small_config(kind="transformer"), tmp_path / CACHE_FOLDER)
    assert LENGTH not in begun(tmp_path, transformer)[0]
    assert LENGTH not in begun(tmp_path, VideoWorkload(small_video()))[0]


@pytest.mark.parametrize(
    ("probe", "why"),
    [
        (Probe("lost", {"text"}, 3, lambda seen: {"tokens/made_up": 1.0}), "no series of yours: declare it first"),
        (Probe("lost", {"text"}, 3, lambda seen: {LENGTH: "many"}), "could not convert string to float: 'many'"),
        (Probe("lost", set(), 3, lambda seen: {LENGTH: seen.clips.t_star}), "'NoneType' object"),
        (Probe("lost", {"text"}, "frames_every", length), "'frames_every' is no control of this run"),
    ],
    ids=["undeclared", "no number", "throws", "no cadence"],
)
def test_a_probe_from_outside_that_is_wrong_is_switched_off_with_the_reason(tmp_path: Path, probe, why: str) -> None:
    register(probe)
    found, meta, log = begun(tmp_path, step=3)
    assert catalog.STRICT_GAP in begun(tmp_path)[0], "the others are measured"
    assert LENGTH not in found
    assert why in meta["disabled_probes"]["lost"]
    assert [line.level for line in log] == ["error"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Probe("a", {"magic"}, 1, length), "needs magic; a run may have: terms"),
        (lambda: Probe("a", {"text"}, 0, length), "every 0 steps"),
        (lambda: register(Probe("My probe", {"text"}, 1, length)), "'My probe' is refused"),
        (lambda: register(Probe("tokens", {"text"}, 1, length)), "'tokens' is taken by a built-in one"),
        (lambda: register(Probe("eval", {"text"}, 1, length)), "'eval' is taken"),
        (lambda: unregister("nobody"), "no probe is registered as 'nobody': there is none"),
    ],
)
def test_what_cannot_be_is_refused(make, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        make()
    assert registered() == ()


def test_installed_packages_bring_probes_and_one_that_is_broken_leaves_the_run_alone() -> None:
    good = EntryPoint("length", f"{__name__}:BROUGHT", "qcore.probes")
    bad = EntryPoint("gone", "no_such_module:PROBES", "qcore.probes")
    [problem] = register_installed([bad, good])
    assert "gone = no_such_module:PROBES are left out" in problem
    assert "ModuleNotFoundError" in problem
    assert [probe.name for probe in registered()] == ["brought"]
    own = register(Probe("brought", {"text"}, 1, length))
    assert register_installed([good]) == []
    assert registered() == (own,), "what the program itself adds comes first"


BROUGHT = [Probe("brought", {"text"}, 5, length)]


def test_a_replay_takes_an_added_probe_at_the_same_steps_and_does_without_it_when_it_is_gone(tmp_path: Path) -> None:
    register(Probe("length", {"text"}, 3, length))
    with Lab(tmp_path) as lab:
        lab.start(small_config(), name="added")
        assert lab.wait("added", 60).state == "finished"
        assert lab.reader("added").scalars(LENGTH).steps.tolist() == [0, 3, 6, 9, 12]
        again = lab.replay("added")
        assert again.identical
        assert LENGTH not in again.left_out
        unregister("length")
        without = lab.replay("added")
        assert without.identical
        assert LENGTH in without.left_out
        register(Probe("other", {"text"}, 1, length))
        assert lab.replay("added").identical, "a probe that the run did not have is not measured"


def test_the_example_measures_and_the_page_shows_it(tmp_path: Path, monkeypatch, capsys) -> None:
    assert len(EXAMPLE.read_text("utf-8").splitlines()) <= 60
    names = runpy.run_path(str(EXAMPLE))
    assert names["main"](str(tmp_path)) is None
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "finished"
    assert [line.split("  ")[0] for line in said[1:]] == [
        "largest logit, logits",
        "reach of the first token, mean change of a logit",
    ]
    assert all(len(line.split("  ")) == 6 for line in said[1:]), "before training and at steps 5, 10, 15 and 20"
    monkeypatch.setenv("QCORE_RUNS", str(tmp_path))
    lab = shared_lab(tmp_path)
    at = open_app(GRADIENTS, run="own-probe")
    lab.close()
    assert not at.exception
    assert [header.value for header in at.header] == ["Your probes", "What the measurements cost"]
    shown = texts(at)
    assert "<span>Reach of the first token</span>" in shown
    assert "ends in numbers that are not finite" in shown


def test_the_page_says_nothing_where_no_probe_was_added(tmp_path: Path, monkeypatch) -> None:
    with Lab(tmp_path) as lab:
        lab.start(small_config(), name="plain")
        lab.wait("plain", 60)
    monkeypatch.setenv("QCORE_RUNS", str(tmp_path))
    lab = shared_lab(tmp_path)
    at = open_app(GRADIENTS, run="plain")
    lab.close()
    assert not at.exception
    assert [header.value for header in at.header] == ["What the measurements cost"]


def test_to_declare_a_series_and_a_probe_loads_no_torch() -> None:
    source = (
        "import sys\nfrom qcore.probes import Probe, catalog\n"
        "catalog.declare('mine/one', 'one', meaning='One.')\nProbe('one', {'text'}, 1, dict)\n"
        "print([name for name in ('torch', 'numpy', 'streamlit') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
