"""Sharing a run: what leaves one lab opens, samples and resumes in another; what is not a whole run leaves no trace."""

import csv
import hashlib
import io
import json
import math
import sqlite3
import stat
import zipfile

import pyarrow.parquet as parquet
import pytest

import qcore.cli.sharing  # noqa: F401 - the commands under test
from qcore.cli import main
from qcore.config import Pause, SamplingConfig
from qcore.lab import Lab, LabError
from qcore.lab.export import MANIFEST, export_run, export_table, import_run
from qcore.lab.report import report_parts
from qcore.store import DATABASE_NAME, RunWriter
from qcore.store.copies import rebuild_database
from qcore.store.schema import copy_database
from tests.support.configs import eventually, small_config

DETERMINISTIC = ("train/loss", "train/grad_norm", "term/ce", "eval/ce")


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A lab with the finished run `first`, twelve steps long, with checkpoints of 5, 10 and 12."""
    with Lab(tmp_path_factory.mktemp("origin")) as lab:
        lab.start(small_config(), name="first", preset="tiny")
        assert lab.wait("first", 60).state == "finished"
        yield lab


@pytest.fixture(scope="module")
def packed(origin, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "first.zip"
    export_run(origin, "first", path)
    return path


def series(lab, name, wanted=DETERMINISTIC):
    found = lab.reader(name).scalars_of(wanted)
    return {key: (value.steps.tolist(), value.values.tolist()) for key, value in found.items()}


def left_behind(lab):
    return sorted(path.name for path in lab.runs_dir.iterdir())


# round trip


def test_an_imported_run_shows_the_same_and_remembers_where_it_is_from(origin, packed, lab):
    assert import_run(lab, packed) == "first"
    mine, theirs = lab.info("first"), origin.info("first")
    assert (mine.state, mine.step, mine.kind, mine.parameters, mine.preset) == (
        theirs.state, theirs.step, theirs.kind, theirs.parameters, theirs.preset
    )  # fmt: skip
    assert lab.config("first") == origin.config("first")
    assert lab.token_labels("first") == origin.token_labels("first") != []
    names = origin.reader("first").names()
    assert series(lab, "first", names) == series(origin, "first", names)
    assert lab.reader("first").events() == origin.reader("first").events()
    assert lab.reader("first").generations() == origin.reader("first").generations()
    assert lab.reader("first").array_steps("tokens") == origin.reader("first").array_steps("tokens") != []
    assert [found.step for found in lab.checkpoints("first")] == [12]
    assert lab.reader("first").meta()["imported"]["name"] == "first"
    assert left_behind(lab) == ["first"]


def test_an_imported_run_speaks_and_resumes_as_the_original_would(origin, packed, lab):
    import_run(lab, packed, "elsewhere")
    settings = SamplingConfig(max_tokens=6)
    said = [list(one.sample(run, "Once", settings))[-1].text for one, run in ((origin, "first"), (lab, "elsewhere"))]
    assert said[0] == said[1] != ""
    lab.start(small_config(), name="first")  # the same run once more, to go on from the same step without a journey
    lab.wait("first", 60)
    for name in ("first", "elsewhere"):
        lab.resume(name, steps=16)
        assert lab.wait(name, 60).state == "finished"
    assert series(lab, "elsewhere") == series(lab, "first")


def test_checkpoints_and_arrays_are_chosen(origin, lab, tmp_path):
    sizes = {}
    for wanted, arrays, steps in (("all", True, [5, 10, 12]), ("none", True, []), ([10], False, [10])):
        path = tmp_path / "run.zip"
        export_run(origin, "first", path, checkpoints=wanted, arrays=arrays)
        name = import_run(lab, path, f"copy-{len(sizes)}")
        assert [found.step for found in lab.checkpoints(name)] == steps
        assert bool(lab.reader(name).array_steps("tokens")) == arrays
        assert series(lab, name) == series(origin, "first")
        assert lab.stranded_steps(name) == (0 if steps else 12)
        sizes[arrays, len(steps)] = path.stat().st_size
    assert sizes[True, 0] < sizes[True, 3]
    with pytest.raises(LabError, match=r"no checkpoint of step 11; there are 5, 10, 12"):
        export_run(origin, "first", tmp_path / "none.zip", checkpoints=[11])
    with pytest.raises(LabError, match="checkpoints = 'some'"):
        export_run(origin, "first", tmp_path / "none.zip", checkpoints="some")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.zip", "runs"]


def test_without_a_checkpoint_nothing_is_erased_unless_it_is_said(origin, lab, tmp_path, capsys):
    export_run(origin, "first", tmp_path / "run.zip", checkpoints="none")
    import_run(lab, tmp_path / "run.zip", "bare")
    before = lab.reader("bare").events()
    with pytest.raises(LabError, match=r"recorded 12 steps and has no checkpoint .* --from-start"):
        lab.resume("bare", steps=16)
    assert main(["resume", "bare", "--steps", "16", "--runs", str(lab.runs_dir)]) == 2
    assert "start a new run of its configuration" in capsys.readouterr().err
    assert (lab.info("bare").state, lab.reader("bare").events()) == ("finished", before)
    assert series(lab, "bare") == series(origin, "first")
    assert lab.reader("bare").commands() == []
    # A fork leaves what is recorded alone, and so does a rewind: another run keeps it.
    child = lab.fork("bare", step=6, until=8)
    assert lab.wait(child, 60).step == 8
    branch = lab.rewind("bare", 5, start=True)
    assert lab.wait("bare", 60).step == 12
    assert series(lab, branch) == series(lab, "bare") == series(origin, "first")
    with pytest.raises(LabError, match="has a checkpoint of step 12"):
        lab.resume("bare", steps=16, from_start=True)
    assert lab.stranded_steps(branch) == 12
    lab.resume(branch, steps=14, from_start=True)
    assert lab.wait(branch, 60).step == 14
    assert [event.kind for event in lab.reader(branch).events() if event.kind in ("start", "resume")][-1] == "resume"


def test_a_live_run_is_exported_while_it_is_held(lab, tmp_path):
    lab.start(small_config(steps=100_000, checkpoint_every=20, keep_checkpoints=3), name="alive")
    eventually(lambda: lab.checkpoints("alive"))
    lab.command("alive", Pause())
    eventually(lambda: lab.info("alive").state == "paused")
    export_run(lab, "alive", tmp_path / "alive.zip")
    import_run(lab, tmp_path / "alive.zip", "still")
    assert (lab.info("still").state, lab.info("still").alive) == ("interrupted", False)
    step = lab.checkpoints("still")[-1].step
    assert lab.reader("still").scalars("train/loss").steps.tolist()[:step] == list(range(1, step + 1))
    lab.resume("still", steps=step + 2)
    assert lab.wait("still", 60).step == step + 2


def test_the_copy_of_a_database_that_is_being_written_is_whole(tmp_path):
    with RunWriter(tmp_path / DATABASE_NAME) as writer:
        for step in range(50):
            writer.log_scalars(step, {"a": float(step)})
        writer.flush()
        copy_database(tmp_path / DATABASE_NAME, tmp_path / "copy.sqlite")
        writer.log_scalars(50, {"a": 1.0})
    assert not (tmp_path / "copy.sqlite-wal").exists()
    rebuild_database(tmp_path / "copy.sqlite", tmp_path / "again.sqlite")
    with sqlite3.connect(tmp_path / "copy.sqlite") as copy:
        assert copy.execute("SELECT sum(rows) FROM blocks").fetchone() == (50,)


# refusals


def rewritten(packed, target, change):
    """The archive once more, with `change(name, data)` giving other content, or None to leave an entry out."""
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = change(info.filename, old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
    return target


def refused(lab, path, words, **more):
    before = left_behind(lab)
    with pytest.raises(LabError, match=words):
        import_run(lab, path, **more)
    assert left_behind(lab) == before


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("../evil.json", "outside the run's folder"),
        ("step-000005/../../evil.json", "outside the run's folder"),
        ("/tmp/evil.json", "outside the run's folder"),
        ("..\\evil.json", "outside the run's folder"),
        ("C:evil.json", "outside the run's folder"),
        ("evil.py", "nothing that a run has"),
        (".hidden.json", "nothing that a run has"),
        ("step-000005/deep/er.json", "nothing that a run has"),
        ("run.lock", "nothing that a run has"),
        ("last-words.json", "nothing that a run has"),
        ("extra.json", "nothing that a run has"),
        ("extra.yaml", "nothing that a run has"),
        ("model.safetensors", "nothing that a run has"),
        ("step-0000012/state.json", "nothing that a run has"),
        ("step-000012/", "special file"),
        ("origin.yaml", "the manifest does not list it"),
        ("step-000012/extra.json", "the manifest does not list it"),
    ],
)
def test_an_entry_that_no_run_has_is_refused(packed, lab, tmp_path, entry, words):
    path = rewritten(packed, tmp_path / "bad.zip", lambda name, data: data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, "{}")
    refused(lab, path, words)
    assert not (tmp_path / "evil.json").exists()


def test_a_symbolic_link_is_refused(packed, lab, tmp_path):
    path = rewritten(packed, tmp_path / "bad.zip", lambda name, data: data if name != "labels.json" else None)
    link = zipfile.ZipInfo("labels.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(lab, path, "is a link")


def test_an_entry_that_stands_twice_is_refused(packed, lab, tmp_path):
    path = rewritten(packed, tmp_path / "bad.zip", lambda name, data: data)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.yaml", "seed: 1")
    refused(lab, path, "twice")


@pytest.mark.parametrize("file", ["config.yaml", "run.sqlite", "labels.json", "step-000012/model.safetensors"])
def test_an_altered_or_missing_file_is_refused(packed, lab, tmp_path, file):
    flip = lambda name, data: data[:-1] + bytes([data[-1] ^ 1]) if name == file else data  # noqa: E731
    refused(lab, rewritten(packed, tmp_path / "altered.zip", flip), f"{file} was altered")
    without = rewritten(packed, tmp_path / "missing.zip", lambda name, data: None if name == file else data)
    refused(lab, without, "missing")


def test_what_unpacks_to_too_much_is_refused(packed, lab, tmp_path, monkeypatch):
    refused(lab, packed, r"unpacks to [\d,]+ bytes; 1,000 are allowed", limit_bytes=1000)
    monkeypatch.setattr("qcore.lab.export._SMALL", 1000)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.json", b"0" * 5_000_000)
    refused(lab, bomb, "grows from")


def test_an_entry_that_lies_about_its_size_is_refused(packed, lab, tmp_path):
    data = bytearray(packed.read_bytes())
    at = data.rindex(b"config.yaml")  # in the central directory: the size stands 22 bytes before the name
    data[at - 22 : at - 18] = (10).to_bytes(4, "little")
    (tmp_path / "lies.zip").write_bytes(data)
    refused(lab, tmp_path / "lies.zip", r"config\.yaml|no exported run")


@pytest.mark.parametrize("content", [b"PK nonsense", b""])
def test_what_is_no_zip_is_refused(lab, content):
    refused(lab, io.BytesIO(content), "no exported run")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "another"}, "another program"),
        ({"version": 2}, "version 2; this program reads version 1"),
        ({"files": []}, "damaged"),
        ({"name": "../up"}, "run name '../up' is refused"),
    ],
)
def test_a_foreign_or_damaged_manifest_is_refused(packed, lab, tmp_path, change, words):
    def changed(name, data):
        return json.dumps(json.loads(data) | change) if name == MANIFEST else data

    refused(lab, rewritten(packed, tmp_path / "bad.zip", changed), words)
    nothing = rewritten(packed, tmp_path / "none.zip", lambda name, data: None if name == MANIFEST else data)
    refused(lab, nothing, "no manifest")


def test_a_cut_off_archive_is_refused(packed, lab, tmp_path):
    (tmp_path / "cut.zip").write_bytes(packed.read_bytes()[:-2000])
    refused(lab, tmp_path / "cut.zip", "no exported run")


def repacked(packed, target, file, data):
    """The archive with another content of one file, and a manifest that vouches for it."""

    def change(name, old):
        if name == MANIFEST:
            manifest = json.loads(old)
            manifest["files"][file] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            return json.dumps(manifest)
        return data if name == file else old

    path = rewritten(packed, target, change)
    with zipfile.ZipFile(path, "a") as archive:
        if file not in archive.namelist():
            archive.writestr(file, data)
    return path


@pytest.mark.parametrize(
    ("file", "data", "words"),
    [
        ("config.yaml", b"model: {width: -3}", "width = -3"),
        ("run.sqlite", b"not a database at all", "not an SQLite database|damaged"),
        ("labels.json", b"[1,", "labels.json is not JSON"),
        ("origin.yaml", b"model: {width: -3}", "width = -3"),
        ("step-000012/state.json", b"{}", "not written by Collapse Lab"),
    ],
)
def test_a_file_that_no_run_would_have_is_refused_though_its_hash_fits(packed, lab, tmp_path, file, data, words):
    refused(lab, repacked(packed, tmp_path / "bad.zip", file, data), words)


def test_a_database_that_would_run_something_is_refused(origin, packed, lab, tmp_path):
    evil = tmp_path / "evil.sqlite"
    for sql in (
        "CREATE TRIGGER boom AFTER INSERT ON log BEGIN DELETE FROM events; END",
        "CREATE VIEW spy AS SELECT * FROM meta",
        "CREATE TABLE stray (x)",
        "DROP TABLE findings",
    ):
        evil.unlink(missing_ok=True)
        copy_database(origin.runs_dir / "first" / DATABASE_NAME, evil)
        with sqlite3.connect(evil) as connection:
            connection.execute(sql)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        data = evil.read_bytes()
        refused(
            lab,
            repacked(packed, tmp_path / "bad.zip", "run.sqlite", data),
            "as no run of Collapse Lab has it|lacks 'findings'",
        )


def test_a_taken_name_is_refused_and_the_run_there_untouched(packed, lab):
    import_run(lab, packed)
    before = series(lab, "first")
    refused(lab, packed, "run name 'first' is taken: import it under another name")
    refused(lab, packed, "run name 'a/b' is refused", name="a/b")
    assert series(lab, "first") == before
    for name in ("second", "run.lock", "run.sqlite", "run"):
        assert import_run(lab, io.BytesIO(packed.read_bytes()), name) == name
        assert series(lab, name) == before


# tables and report


def test_parquet_and_csv_have_the_same_numbers_bit_for_bit(origin):
    text, binary = io.StringIO(), io.BytesIO()
    assert export_table(origin, "first", text) == export_table(origin, "first", binary, "parquet") == 13
    table = parquet.read_table(io.BytesIO(binary.getvalue()))
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert table.column_names == list(rows[0])
    for name in table.column_names[1:]:
        wide = table.column(name).to_pylist()
        assert [math.nan if row[name] == "" else float(row[name]) for row in rows] == pytest.approx(
            [math.nan if value is None else value for value in wide], rel=0, abs=0, nan_ok=True
        )
    assert table.column("eval/ce").null_count == 13 - 4


def test_series_are_chosen_by_name_and_pattern(origin):
    text = io.StringIO()
    assert export_table(origin, "first", text, series=["eval/*", "train/loss"]) == 13
    assert text.getvalue().splitlines()[0] == "step,eval/ce,train/loss"
    with pytest.raises(LabError, match="no series matches 'train/los'; did you mean 'train/loss'"):
        export_table(origin, "first", io.StringIO(), series=["train/los"])


def test_the_parts_of_a_report_are_the_runs_own(origin):
    parts = report_parts(origin, "first")
    assert dict(parts["summary"])["state"] == "finished at step 12 of 12"
    assert parts["config"] == origin.config("first").to_yaml()
    assert [event[3] for event in parts["events"]] == ["start", "finish"]
    assert {sample["prompt"] for sample in parts["samples"]} >= set(small_config().probes.prompts)
    steps, values = parts["series"]["train/loss"]
    assert steps.tolist() == list(range(1, 13))
    assert values.tolist() == series(origin, "first")["train/loss"][1]
    assert parts["references"]["uniform"] > parts["references"]["trigram"]


# the command line


def test_the_command_line_exports_every_format_and_imports(origin, lab, tmp_path, capsys):
    runs = ["--runs", str(origin.runs_dir)]
    for suffix, start in (("csv", b"step,"), ("parquet", b"PAR1"), ("zip", b"PK"), ("html", b"<!DOCTYPE html>")):
        out = tmp_path / f"run.{suffix}"
        assert main(["export", "first", "-o", str(out), *runs]) == 0
        assert out.read_bytes().startswith(start)
        assert f"written to {out}" in capsys.readouterr().out
    assert main(["export", "first", "--format", "csv", "--series", "eval/*", *runs]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "step,eval/ce"
    assert main(["import", str(tmp_path / "run.zip"), "--name", "mine", "--runs", str(lab.runs_dir)]) == 0
    assert capsys.readouterr().out == "mine: phase_lm, finished at step 12\n"
    assert lab.info("mine").step == 12


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["export", "first", "--format", "zip"], "a zip is not text for a terminal: give --out FILE"),
        (["export", "first", "--json"], "give --out FILE"),
        (["export", "first", "-o", "x.html", "--series", "a"], "--series is for csv and parquet"),
        (["export", "first", "-o", "x.zip", "--checkpoints", "some"], "--checkpoints 'some' is refused"),
        (["export", "first", "-o", "x.zip", "--checkpoints", "11"], "no checkpoint of step 11"),
        (["import", "nothing.zip"], "nothing.zip"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line_and_leave_no_file(
    origin, tmp_path, capsys, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--runs", str(origin.runs_dir)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert words in line
    assert list(tmp_path.glob("x.*")) == []
