"""The exam in small: faults that speak before or right after the first update, through the façade and the CLI."""

import json

import pytest

from qcore import cli
from qcore.config import FAULTS, MODEL_KINDS, PRESETS, VIDEO_KINDS, WEAKENED, ConfigError, default_run
from qcore.experiments.exam import (
    HEALTHY_KINDS,
    ExamCase,
    fault_cases,
    healthy_cases,
    healthy_zoo,
    run_case,
    run_exam,
    varied,
)
from qcore.experiments.exam_results import ExamResult, result_from, result_to, summarize
from qcore.experiments.halves import halves
from qcore.experiments.zoo import ROWS, Fork, zoo_cases
from qcore.experiments.zoo_texts import WRITERS, zoo_text
from qcore.lab import Lab
from qcore.store import RunWriter

# what is trained on has thirteen cases, all seen by one look each that tests/faults takes at unit size
AT_ONCE = [code for code, case in FAULTS.items() if case.within <= 1 and (code[0] not in "DX" or code in ("D6", "X5"))]


@pytest.mark.parametrize("code", AT_ONCE)
def test_a_fault_is_named_at_once(tmp_path, code):
    [case] = fault_cases([code])
    amount = {"clips": 64} if case.config.kind in VIDEO_KINDS else {"documents": 300}
    short = case.config.with_values({"steps": 3, "sample_every": 1000, **amount})
    with Lab(tmp_path) as lab:
        result = run_case(lab, ExamCase(case.name, code, short))
    assert result.state == "finished"
    assert result.detected_at is not None, f"raised only {result.found}"
    assert result.passed


def test_the_cases_cover_the_bank_at_every_budget():
    cases = fault_cases(budgets=(2.0, 100.0))
    assert [case.fault for case in cases] == [code for code in FAULTS for _ in range(2)]
    assert {case.config.value("budget_percent") for case in cases} == {2.0, 100.0}
    assert len({case.name for case in cases}) == len(cases)
    assert {f"fault-{code.lower()}" for code in FAULTS} <= set(PRESETS)
    with pytest.raises(ConfigError, match="did you mean 'L1'"):
        fault_cases(["L11"])


def test_the_healthy_twins_are_of_every_family():
    healthy = healthy_cases(2)
    assert [case.config.kind for case in healthy] == [kind for kind in HEALTHY_KINDS for _ in range(2)]
    assert set(MODEL_KINDS) - set(HEALTHY_KINDS) == {"ltx_video"}, "which trains on made-up latents"
    assert [case.config.kind for case in healthy_cases(1, kinds=["video_flow"])] == ["video_flow"]
    assert all(case.config.fault == "" for case in healthy)
    with pytest.raises(ConfigError, match="no healthy runs of 'ltx_video'"):
        healthy_cases(1, kinds=["ltx_video"])


def test_weakened_faults_are_planted_and_need_not_be_named():
    cases = fault_cases(part="weakened")
    assert [case.config.fault for case in cases] == list(WEAKENED)
    assert not set(WEAKENED) & set(FAULTS)
    assert all(code.rpartition("w")[0] in FAULTS for code in WEAKENED), "each is a fainter case of the bank"
    assert result(part="weakened", found={}).passed


def test_the_zoo_has_every_family_from_every_start_and_equal_halves():
    cases = zoo_cases()
    assert len(cases) == len({case.name for case in cases}) >= 60
    assert all(case.config.fault == "" for case in cases)
    by_family = {}
    for case in cases:
        by_family.setdefault(case.config.kind, []).append(case)
    assert set(by_family) == set(HEALTHY_KINDS)
    for kind, own in by_family.items():
        assert {case.weights for case in own} >= {"", "pytorch", "gpt2"}, kind
        count = {half: sum(case.half == half for case in own) for half in "ab"}
        assert abs(count["a"] - count["b"]) <= 1, kind
    assert {case.text for case in cases} == {"", *WRITERS}
    assert zoo_cases("a") == [case for case in cases if case.half == "a"]
    assert {row.scene for row in ROWS if row.fork} == {"fork-rate", "fork-ends-low", "fork-tune", "video-fork"}


def test_halves_are_stable_and_cut_each_group_in_the_middle():
    groups = {f"run {number}": "ab"[number % 2] for number in range(20)}
    found = halves(groups)
    for group in "ab":
        own = [found[name] for name, at in groups.items() if at == group]
        assert own.count("a") == own.count("b") == 5
    more = halves(groups | {"another": "a"})
    assert sum(more[name] != half for name, half in found.items()) <= 1


@pytest.mark.parametrize("name", WRITERS)
def test_a_text_of_the_zoo_repeats_by_its_seed_and_not_within_itself(name):
    text = zoo_text(name, 1)
    assert text == zoo_text(name, 1)
    assert text != zoo_text(name, 2)
    documents = text.strip().split("\n\n")
    assert len(text.encode()) > 60_000
    if name != "code":
        assert len(set(documents)) == len(documents)


def test_a_seed_varies_a_case_and_says_by_how_many_steps_it_moved_the_fault():
    base = default_run().with_values(FAULTS["T2b"].preset_changes)
    assert varied(base, "x", 0) == (base, 0)
    config, shift = varied(base, "x", 4)
    assert (config, shift) == varied(base, "x", 4) != varied(base, "x", 5)
    assert config.value("schedule") == [f"{80 + shift}: learning_rate = 0.5"]
    assert config.value("learning_rate") != base.value("learning_rate")
    assert config.value("seed") != base.value("seed")
    ramp = base.with_values({"schedule": ["10 .. 20: learning_rate = 0.01 -> 0.001", "0: diversity_weight = 0.1"]})
    config, shift = varied(ramp, "x", 4)
    assert config.value("schedule")[0].startswith(f"{max(1, 10 + shift)} .. {20 + shift}: ")
    assert config.value("schedule")[1] == "0: diversity_weight = 0.1"
    [case] = fault_cases(["T2b"], seed=4)
    assert case.config.value("schedule") == [f"{80 + case.shift}: learning_rate = 0.5"]


SMALLEST = {"steps": 8, "documents": 60, "width": 16, "layers": 1, "checks_every": 1000, "sample_every": 1000}


def test_zoo_runs_start_from_their_weights_and_forks_go_on(tmp_path):
    [first] = [case for case in healthy_zoo("", kinds=["transformer"], folder=tmp_path) if "logs" in case.name]
    assert first.config.value("path") == str(tmp_path / "texts" / "logs.txt")
    config = first.config.with_values({**SMALLEST, "checkpoint_every": 4, "source": "stories", "path": ""})
    fork = Fork(4, {"learning_rate": 1e-3}, {"data_seed": 3})
    weights = {"own": "", "other": "pytorch"}
    cases = [ExamCase(name, "", config, "zoo", "a", start, fork) for name, start in weights.items()]
    results = run_exam(tmp_path, cases, 1, lambda result: None)
    assert [one.state for one in results] == ["finished"] * 2
    with Lab(tmp_path / "runs") as lab:
        assert lab.info("own-fork").step == 8
        held_out = [lab.reader(f"{name}-fork").scalars("train/loss").values[-1] for name in weights]
        counts = [lab.reader(name).meta()["parameters"] for name in weights]
    assert held_out[0] != held_out[1]
    assert counts[1] > counts[0], "biases that the family does not have"


def result(**changes):
    values = {
        "name": "x",
        "fault": "T2",
        "kind": "phase_lm",
        "state": "finished",
        "steps": 150,
        "expected": ("token_collapse",),
        "within": 100,
        "found": {"repetition": 50, "token_collapse": 90},
        "collapsed_at": 130,
        "seconds": 1.0,
    }
    return ExamResult(**{**values, **changes})


def test_what_counts_as_passed():
    assert result().passed
    assert result().detected_at == 90
    assert not result(found={"token_collapse": 101}).passed
    assert not result(found={"repetition": 1}).passed
    assert result(fault="", expected=(), found={}).passed
    assert not result(fault="", expected=(), found={"stuck": 3}).passed
    assert not result(fault="", expected=(), found={}, state="failed").passed
    assert not result(fault="", expected=(), found={"not_prose": 3}, part="zoo").passed
    assert result(fault="", expected=(), found={"not_prose": 3}, part="zoo", true=("not_prose",)).passed
    assert result_from(json.loads(json.dumps(result_to(result())))) == result()


def test_a_fault_counts_once_as_named_seen_wrong_or_silent(monkeypatch):
    monkeypatch.setattr("qcore.experiments.exam_results._SYMPTOMS", frozenset({"stuck"}))
    by_outcome = {
        "cause": {"stuck": 1, "token_collapse": 9},
        "symptom": {"stuck": 1},
        "wrong": {"stuck": 1, "padding_targets": 2},
        "silent": {},
    }
    results = [result(found=found, half="a") for found in by_outcome.values()]
    assert [one.outcome for one in results] == list(by_outcome)
    assert results[2].others == ["padding_targets"]
    assert result(expected=("stuck",), found={"stuck": 1}).outcome == "symptom", "named, by what follows from it"
    own = {"stuck": {"role": "cause"}}
    assert result(expected=("stuck",), found={"stuck": 1}, evidence=own).outcome == "cause", "its own word counts first"
    healthy = [result(fault="", expected=(), found={"stuck": 3}, part="zoo", half=half) for half in "ab"]
    rows = summarize([*results, *healthy])["rows"]
    assert [(row["part"], row["half"], row["cases"]) for row in rows] == [
        ("bank", "a", 4),
        ("bank", "", 4),
        ("zoo", "a", 1),
        ("zoo", "b", 1),
        ("zoo", "", 2),
    ]
    assert {name: rows[0][name] for name in by_outcome} == dict.fromkeys(by_outcome, 1)
    assert rows[0]["median_step"] == 9
    assert rows[-1]["false_findings"] == 2


def test_the_collapse_is_the_majority_that_lasts(tmp_path):
    from qcore.experiments.exam import _collapse

    def collapse(shares):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        with Lab(tmp_path) as lab, RunWriter(folder / "run.sqlite") as writer:
            for step, share in shares:
                writer.log_scalars(step, {"tokens/top1_share": share})
            writer.flush()
            return _collapse(lab, folder.name)

    assert collapse([(0, 0.9), (10, 0.2), (20, 0.4), (30, 0.6), (40, 0.9)]) == 30
    assert collapse([(0, 0.1), (10, 0.8), (20, 0.1), (30, 0.2)]) is None, "the way out of the plateau"
    assert collapse([(0, 0.1), (10, 0.8), (20, 0.1), (30, 0.6)]) == 30
    assert collapse([(0, 0.9), (10, 0.8)]) is None
    assert collapse([(0, 0.1), (10, 0.2)]) is None
    assert collapse([]) is None


def test_the_command_prints_a_table_and_json(capsys):
    small = ["--set", "steps=5", "--set", "documents=300"]
    assert cli.main(["exam", "--only", "B2", "--budget", "100", "--jobs", "1", *small, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"]["named_in_time"] == told["summary"]["faults"] == 1
    assert told["results"][0]["detected_at"] == 0
    assert cli.main(["exam", "--only", "nonsense"]) == 2
    assert "unknown fault 'nonsense'" in capsys.readouterr().err
    assert cli.main(["exam", "--jobs", "0"]) == 2
    assert cli.main(["exam", "--half", "c"]) == 2
    assert "take a or b" in capsys.readouterr().err
