"""The exam in small: faults that speak before or right after the first update, through the façade and the CLI."""

import json

import pytest

from qcore import cli
from qcore.config import FAULTS, MODEL_KINDS, PRESETS, VIDEO_KINDS, ConfigError
from qcore.experiments.exam import HEALTHY_KINDS, ExamCase, ExamResult, exam_cases, result_from, result_to, run_case
from qcore.lab import Lab
from qcore.store import RunWriter

# what is trained on has thirteen cases, all seen by one look each that tests/faults takes at unit size
AT_ONCE = [code for code, case in FAULTS.items() if case.within <= 1 and (code[0] not in "DX" or code in ("D6", "X5"))]


@pytest.mark.parametrize("code", AT_ONCE)
def test_a_fault_is_named_at_once(tmp_path, code):
    [case] = exam_cases([code], healthy=0)
    amount = {"clips": 64} if case.config.kind in VIDEO_KINDS else {"documents": 300}
    short = case.config.with_values({"steps": 3, "sample_every": 1000, **amount})
    with Lab(tmp_path) as lab:
        result = run_case(lab, ExamCase(case.name, code, short))
    assert result.state == "finished"
    assert result.detected_at is not None, f"raised only {result.found}"
    assert result.passed


def test_the_cases_cover_the_bank_and_every_family():
    cases = exam_cases(None, healthy=2)
    assert [case.fault for case in cases if case.fault] == list(FAULTS)
    healthy = [case for case in cases if not case.fault]
    assert [case.config.kind for case in healthy] == [kind for kind in HEALTHY_KINDS for _ in range(2)]
    assert set(MODEL_KINDS) - set(HEALTHY_KINDS) == {"ltx_video"}, "which trains on made-up latents"
    only = exam_cases([], healthy=1, kinds=["video_flow"])
    assert [case.config.kind for case in only] == ["video_flow"]
    assert len({case.name for case in cases}) == len(cases)
    assert all(case.config.fault == "" for case in healthy)
    assert {f"fault-{code.lower()}" for code in FAULTS} <= set(PRESETS)
    with pytest.raises(ConfigError, match="did you mean 'L1'"):
        exam_cases(["L11"])
    with pytest.raises(ConfigError, match="no healthy runs of 'ltx_video'"):
        exam_cases([], kinds=["ltx_video"])


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
    assert result_from(json.loads(json.dumps(result_to(result())))) == result()


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
    assert cli.main(["exam", "--only", "B2", "--healthy", "0", "--jobs", "1", *small, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"]["named_in_time"] == told["summary"]["faults"] == 1
    assert told["results"][0]["detected_at"] == 0
    assert cli.main(["exam", "--only", "nonsense"]) == 2
    assert "unknown fault 'nonsense'" in capsys.readouterr().err
    assert cli.main(["exam", "--jobs", "0"]) == 2
