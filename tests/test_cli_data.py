"""What a run's data are is said where it starts; a run from before goes on by the rules that it began with."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from qcore import cli
from qcore.config import default_run
from qcore.lab import Lab

SMALL = {
    "width": 8, "layers": 1, "heads": 1, "phases": 2, "context": 8, "batch_size": 2, "warmup_steps": 2, "steps": 2,
    "eval_every": 1, "eval_batches": 1, "sample_every": 1000, "sample_length": 2, "max_tokens": 4, "prompts": "Once",
    "source": "text", "tokenizer": "byte",
}  # fmt: skip
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty different pages and sixty equal ones, a README, a picture and a table beside them."""
    found = tmp_path / "texts"
    found.mkdir()
    for number in range(40):
        (found / f"page{number:02}.txt").write_text(f"Page {number} says this: {number * 7919 % 1000} words. " * 6)
    for number in range(60):
        (found / f"same{number:02}.txt").write_text("The same page over and over. " * 6)
    (found / "README.md").write_text("About these pages. " * 20)
    (found / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20_000))
    (found / "rows.jsonl").write_text('{"text": "a row"}\n' * 30)
    return found


def start(runs: Path, *changes: str, name: str = "r") -> int:
    values = {**SMALL, **dict(change.split("=", 1) for change in changes)}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return cli.main(["train", "--runs", str(runs), "--name", name, *sets])


def test_train_and_show_say_what_the_data_are(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    runs = tmp_path / "runs"
    assert start(runs, f"path={folder}") == 0
    said = [line[6:] for line in capsys.readouterr().err.split("\n") if line.startswith("data: ")]
    assert said[0].startswith("90 training documents, 10 held out (10 %) from ")
    assert re.fullmatch(r"[\d,]+ training tokens, 1\.0 characters each", said[1])
    assert "59 of 100 documents (59 %) repeat another" in said
    [skipped] = [line for line in said if "not used" in line]
    assert re.match(r"3 files not used \(21 kB, \d\d % of the bytes\): ", skipped)
    for name in ("README.md is about the folder", "photo.png is a PNG picture", "rows.jsonl is a table"):
        assert name in skipped
    assert cli.main(["show", "r", "--runs", str(runs)]) == 0
    shown = capsys.readouterr().out
    assert all(f"data         {line}" in shown for line in said)
    with Lab(runs) as lab:
        log = [line.message for line in lab.reader("r").log()]
        names = {finding.name for finding in lab.findings("r")}
    assert f"data: {skipped}" in log
    assert {"skipped_files", "repeated_documents"} <= names


def test_quiet_says_nothing_and_a_healthy_run_s_log_is_empty(tmp_path: Path, capsys: Capture) -> None:
    with Lab(tmp_path) as lab:
        config = default_run().with_values({**SMALL, "source": "stories", "documents": 60})
        lab.wait(lab.start(config, name="h"), 60)
        assert lab.reader("h").log() == []
        assert not {"skipped_files", "repeated_documents", "held_out_in_training", "unknown_tokens"} & {
            finding.name for finding in lab.findings("h")
        }
        report = lab.reader("h").meta()["data_report"]
    assert report[0] == "54 training documents, 6 held out (10 %)"


def test_a_wrong_place_fails_with_the_place(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.txt").write_bytes(b"%PDF-1.7 ...")
    code = start(tmp_path / "runs", f"path={tmp_path / 'a.txt'}")
    told = capsys.readouterr()
    assert code in (1, 2)
    assert "a.txt' is a PDF document, not text: convert it to UTF-8 text first" in told.out + told.err
    assert "Traceback" not in told.out + told.err


def without_the_key(runs: Path, name: str) -> None:
    """The file of a run that was begun before there was a second set of rules."""
    file = runs / name / "config.yaml"
    lines = file.read_text("utf-8").split("\n")
    kept = [line for line in lines if "data_version" not in line and "validation_split" not in line]
    assert len(kept) == len(lines) - 2
    file.write_text("\n".join(kept), "utf-8")


@pytest.mark.parametrize("kind", ["copies", "rows"])
def test_a_run_from_before_goes_on_as_it_began(folder: Path, tmp_path: Path, capsys: Capture, kind: str) -> None:
    """The forms of data that are read otherwise now: a large group of copies, and a table that was learned as prose."""
    path = folder
    if kind == "rows":
        path = tmp_path / "rows.jsonl"
        path.write_text(
            "".join(f'{{"id": {number}, "text": "Row {number * 7919} of rows."}}\n' for number in range(200))
        )
    runs = tmp_path / "runs"
    for name, steps in (("whole", 4), ("cut", 2)):
        assert start(runs, f"path={path}", "data_version=1", "data_seed=5", f"steps={steps}", name=name) == 0
    assert start(runs, f"path={path}", "data_seed=5", "steps=4", name="today") == 0
    without_the_key(runs, "cut")
    assert cli.main(["resume", "cut", "--steps", "4", "--runs", str(runs), "--quiet"]) == 0

    def seen(name: str) -> tuple[object, ...]:
        with Lab(runs) as lab:
            reader = lab.reader(name)
            return reader.meta()["data_fingerprint"], *(reader.latest()[key] for key in ("train/loss", "eval/ce"))

    assert seen("cut") == seen("whole")
    assert seen("today") != seen("whole"), "the case is one"
    assert cli.main(["replay", "cut", "--runs", str(runs)]) == 0
    assert "identical, bit for bit" in capsys.readouterr().out
    with Lab(runs) as lab:
        assert lab.config("cut").value("data_version") == 1
        child = lab.fork("cut", step=1, new_name="child", start=False)
        assert lab.config(child).value("data_version") == 1


def test_the_check_before_a_run_agrees_with_the_reading(folder: Path, run_check: Callable[..., str]) -> None:
    assert run_check(path=str(folder)) == "a folder of text, 100 files"
    assert run_check(source="stories") == "built in: stories"


@pytest.fixture
def run_check() -> Callable[..., str]:
    from qcore.config import check_source

    return lambda **changes: check_source(default_run().with_values({**SMALL, **changes})).words
