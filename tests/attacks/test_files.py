"""Files of strangers: each is refused in words or read without harm, and no other run is the worse for it.

Seeded: QCORE_SEED chooses other inputs, QCORE_ATTACKS (1) multiplies how many there are.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore.lab import Lab, LabError
from qcore.lab.export import export_run, import_run
from qcore.runs.checkpoint_folders import (
    CheckpointError,
    CheckpointState,
    checkpoint_folders,
    read_folder,
    write_folder,
)
from qcore.store import DATABASE_NAME, CommandReader, Inbox, RunReader, RunWriter, StoreFormatError
from tests.attacks.planted import FIGURE, NUMBER, REMEDY, SEED, TOKEN, changed, packed, packed_files, read_all, rounds
from tests.attacks.planted import whole_run as written

ENDLESS = "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT max(x) FROM r"
TRIGGER = "CREATE TRIGGER t AFTER INSERT ON meta BEGIN {}; END;"
HIDE = (
    "PRAGMA writable_schema = ON; UPDATE sqlite_master SET name = '{0}', sql = replace(sql, 'TRIGGER t', 'TRIGGER {0}')"
    " WHERE name = 't';"
)
LOG = "INSERT INTO log (wall, step, level, message) VALUES (1, 1, 'x', {})"
DECLARED = {
    "a trigger": TRIGGER.format("DELETE FROM events"),
    "a hidden trigger": TRIGGER.format("DELETE FROM events") + HIDE.format("sqlite_x"),
    "a trigger named as an index": TRIGGER.format("DELETE FROM events") + HIDE.format("sqlite_autoindex_log_1"),
    "a trigger that never ends": TRIGGER.format(LOG.format(f"({ENDLESS})")) + HIDE.format("sqlite_x"),
    "a trigger on updates": "CREATE TRIGGER t BEFORE UPDATE ON status BEGIN DELETE FROM log; END;",
    "a view": "CREATE VIEW v AS SELECT 1;",
    "a view in place of a table": f"DROP TABLE log; CREATE VIEW log AS {ENDLESS};",
    "a view in place of meta": "ALTER TABLE meta RENAME TO m; CREATE VIEW meta AS SELECT * FROM m;",
    "a table more": "CREATE TABLE stray (x);",
    "a hidden table": "CREATE TABLE t (x); PRAGMA writable_schema = ON; UPDATE sqlite_master SET name = 'sqlite_x',"
    " tbl_name = 'sqlite_x', sql = 'CREATE TABLE sqlite_x(x)' WHERE name = 't';",
    "statistics": "ANALYZE;",
    "a virtual table": "CREATE VIRTUAL TABLE t USING fts5(x);",
    "a virtual table in place of one": "DROP TABLE log; CREATE VIRTUAL TABLE log USING fts5(wall, step, message);",
    "an index more": "CREATE INDEX i ON events (author);",
    "an index on an expression": "CREATE INDEX i ON events (length(hex(author)));",
    "a partial index": "CREATE INDEX i ON events (seq) WHERE abs(step) > 3;",
    "an index less": "DROP INDEX arrays_by_step;",
    "a generated column": "ALTER TABLE log ADD COLUMN more AS (hex(message));",
    "a generated column in place": "DROP TABLE log; CREATE TABLE log (id INTEGER PRIMARY KEY, wall AS (1.0),"
    " step AS (1), level AS ('x'), message AS (hex(zeroblob(400000000))));",
    "a default that runs": "DROP TABLE log; CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, wall REAL,"
    " step INTEGER, level TEXT, message TEXT DEFAULT (hex(randomblob(99))));",
    "a check that runs": "DROP TABLE log; CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, wall REAL NOT NULL,"
    " step INTEGER NOT NULL, level TEXT NOT NULL, message TEXT NOT NULL CHECK (length(message) < 99));",
    "a table less": "DROP TABLE findings;",
    "another text of a table": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql ="
    " replace(sql, 'TEXT', 'BLOB') WHERE name = 'log';",
    "nonsense for a table": "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = 'CREATE' WHERE name = 'log';",
    "version 0": "PRAGMA user_version = 0;",
    "version 0 without tables": "PRAGMA user_version = 0; DROP TABLE findings; DROP TABLE events;",
    "version -5": "PRAGMA user_version = -5; DROP TABLE meta;",
    "version 99": "PRAGMA user_version = 99;",
    "another program": "PRAGMA application_id = 5;",
}  # fmt: skip
VALUES = {
    "meta without rows": "DELETE FROM meta",
    "meta that is no JSON": "UPDATE meta SET value = '{' WHERE key = 'kind'",
    "deep meta": f"UPDATE meta SET value = '{'[' * 100_000}' WHERE key = 'kind'",
    "epoch as text": "UPDATE meta SET value = '\"x\"' WHERE key = 'epoch'",
    "created as text": "UPDATE meta SET value = '\"<b>\"' WHERE key = 'created'",
    "created null": "UPDATE meta SET value = 'null' WHERE key = 'created'",
    "created without end": "UPDATE meta SET value = '1e300' WHERE key = 'created'",
    "parameters as a list": "UPDATE meta SET value = '[1]' WHERE key = 'parameters'",
    "references odd": "UPDATE meta SET value = '5' WHERE key = 'references'",
    "lineage a number": "INSERT OR REPLACE INTO meta VALUES ('lineage', '5')",
    "lineage in part": "INSERT OR REPLACE INTO meta VALUES ('lineage', '{\"parent\": []}')",
    "names of numbers": "UPDATE layouts SET names = '[1, 2]' WHERE id = 1",
    "names no JSON": "UPDATE layouts SET names = 'x' WHERE id = 1",
    "more names than columns": "UPDATE layouts SET names = '[\"a\", \"b\", \"c\", \"d\", \"e\"]' WHERE id = 1",
    "empty blocks": "UPDATE blocks SET data = x''",
    "blocks of text": "UPDATE blocks SET data = cast(data AS TEXT)",
    "no rows": "UPDATE blocks SET rows = 0",
    "very many rows": "UPDATE blocks SET rows = 1000000000000",
    "many rows": "UPDATE blocks SET rows = 2000000000",
    "negative rows": "UPDATE blocks SET rows = -1",
    "rows as text": "UPDATE blocks SET rows = 'x'",
    "rows past 64 bits": "UPDATE blocks SET rows = 9223372036854775807",
    "random numbers": "UPDATE blocks SET data = randomblob(length(data))",
    "junk for arrays": "UPDATE arrays SET data = x'00'",
    "arrays that lie": "UPDATE arrays SET data = x'FFFFFFFFFFFFFF7F7B7D'",
    "arrays that lack some": "UPDATE arrays SET data = (SELECT CAST(char(8) || char(0) || char(0) || char(0) || char(0)"
    " || char(0) || char(0) || char(0) || '{}      ' AS BLOB))",
    "arrays as text": "UPDATE arrays SET data = 'x'",
    "payload no JSON": "UPDATE events SET payload = '{'",
    "payload a list": "UPDATE events SET payload = '[]'",
    "payload null": "UPDATE events SET payload = 'null'",
    "an event of the year 10000": "UPDATE events SET wall = 1e300",
    "an event at no time": "UPDATE events SET wall = 9e999",
    "an event beyond all steps": "UPDATE events SET step = 9223372036854775807",
    "an author of bytes": "UPDATE events SET author = CAST(x'FFFE' AS TEXT)",
    "state unknown": "UPDATE status SET state = '<b>'",
    "extra a list": "UPDATE status SET extra = '[]'",
    "extra null": "UPDATE status SET extra = 'null'",
    "extra of texts": "UPDATE status SET extra = '{\"loss\": \"x\", \"seconds_trained\": \"x\"}'",
    "trained without end": "UPDATE status SET extra = '{\"seconds_trained\": 1e300}'",
    "a negative step": "UPDATE status SET step = -9223372036854775808, total_steps = 0",
    "a step of text": "UPDATE status SET step = 'x'",
    "more steps than any run has": "UPDATE status SET step = 10000001",
    "an event after more steps than any run has": "UPDATE events SET step = 10000001",
    "figures without number": "UPDATE status SET extra = '{' || replace(hex(zeroblob(300000)), '00', '\"a\":1,')"
    " || '\"b\":1}'",
    "a meta value of very many": "INSERT INTO meta VALUES ('note', '[' || replace(hex(zeroblob(300000)), '00', '{},')"
    " || '1]')",
    "a meta value of 5 MB": "INSERT INTO meta VALUES ('note', json_quote(printf('%.*c', 5000000, 'x')))",
    "tokens an object": "UPDATE generations SET tokens = '{}'",
    "tokens of numbers": "UPDATE generations SET tokens = '[5]'",
    "tokens without a label": "UPDATE generations SET tokens = '[{\"id\": 1}]'",
    "statistics a number": "UPDATE generations SET stats = '5'",
    "settings no JSON": "UPDATE generations SET settings = 'x'",
    "text of bytes": "UPDATE generations SET text = x'FF'",
    "evidence a list": "UPDATE findings SET evidence = '[5]'",
    "evidence of odd numbers": "UPDATE findings SET evidence = '{\"numbers\": [5]}'",
    "a figure without lines": "UPDATE findings SET evidence = '{\"figure\": {\"lines\": [1]}}'",
    "a resolution of text": "UPDATE findings SET state = 'resolved', evidence = '{\"resolved\": \"yes\"}'",
    "a data report of numbers": "INSERT OR REPLACE INTO meta VALUES ('data_report', '[5]')",
    "remedies a number": "UPDATE findings SET remedies = '5'",
    "remedies without a kind": "UPDATE findings SET remedies = '[{\"label\": \"x\"}]'",
    "deep remedies": f"UPDATE findings SET remedies = '{'[' * 50_000}'",
    "a finding of another state": "UPDATE findings SET state = 'x'",
    "a command's payload": "UPDATE commands SET payload = '['",
    "an acknowledgement of nothing": "UPDATE commands SET payload = '{}'",
    "a log of bytes": "UPDATE log SET message = x'FF00'",
    "a log of 20 MB": "UPDATE log SET message = printf('%.*c', 20000000, 'x')",
}  # fmt: skip
HARMLESS = {
    # Such a change is refused, not the run.
    "a control event without a name": "UPDATE events SET payload = '{}' WHERE kind = 'control'",
    "a control set to an object": "UPDATE events SET payload = json_set(payload, '$.new', json('{\"a\": 1}'))"
    " WHERE kind = 'control'",
    "a number control set to text": "UPDATE events SET payload = json_set(payload, '$.new', 'x')"
    " WHERE kind = 'control'",
    "no status": "DELETE FROM status",
    "markup": "UPDATE events SET kind = '<script>alert(1)</script>', author = '<b>'",
    "many findings": "INSERT INTO findings SELECT 'more' || x, 'zzz', 1, 2, 'active', '{}', 't', 'x', '[]' FROM"
    " (WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r WHERE x < 2000) SELECT x FROM r)",
    "half a pair of surrogates": 'UPDATE generations SET settings = \'{"source": "\\ud83d"}\'',
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run, alone in its runs folder; its database has no -wal."""
    return written(tmp_path_factory.mktemp("origin") / "good")


@pytest.fixture(scope="module")
def exported(origin: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    found = io.BytesIO()
    with Lab(origin.parent) as lab:
        export_run(lab, "good", found)
    return packed_files(found.getvalue())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "runs") as opened:
        yield opened


def imported(lab: Lab, data: bytes, name: str = "stranger") -> bool:
    """Whether an archive was taken; a refusal is in words and leaves nothing."""
    try:
        import_run(lab, io.BytesIO(data), name)
    except LabError as error:
        told = str(error)
        assert 10 < len(told) < 2000
        assert list(lab.runs_dir.iterdir()) == []
        return False
    assert [path.name for path in lab.runs_dir.iterdir()] == [name]
    return True


@pytest.mark.parametrize("what", DECLARED)
def test_a_database_that_declares_anything_else_is_refused_and_runs_nothing(
    origin: Path, exported: tuple[dict[str, bytes], dict[str, Any]], lab: Lab, tmp_path: Path, what: str
) -> None:
    data = changed(origin / DATABASE_NAME, DECLARED[what])
    files, manifest = exported
    assert not imported(lab, packed({**files, DATABASE_NAME: data}, manifest))
    # The same run copied by hand, beside a good one.
    runs = tmp_path / "copied"
    shutil.copytree(origin, runs / "good")
    shutil.copytree(origin, runs / "bad")
    for left in (runs / "bad").glob("run.sqlite*"):
        left.unlink()
    database = runs / "bad" / DATABASE_NAME
    database.write_bytes(data)
    for opener in (RunReader, Inbox, RunWriter, CommandReader):
        with pytest.raises(StoreFormatError, match=r"bad/run\.sqlite"):
            opener(database)
    assert database.read_bytes() == data
    with Lab(runs) as other:
        assert {info.name: info.state for info in other.runs()} == {"good": "finished", "bad": "unreadable"}
        assert [node.name for node in other.run_tree()] == ["good"]


@pytest.mark.parametrize("what", VALUES)
def test_values_of_another_type_are_refused_at_import_and_in_words_when_copied(
    origin: Path, exported: tuple[dict[str, bytes], dict[str, Any]], lab: Lab, what: str
) -> None:
    data = changed(origin / DATABASE_NAME, VALUES[what])
    files, manifest = exported
    assert not imported(lab, packed({**files, DATABASE_NAME: data}, manifest))
    for name in ("good", "bad"):
        shutil.copytree(origin, lab.runs_dir / name, ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    (lab.runs_dir / "bad" / DATABASE_NAME).write_bytes(data)
    with pytest.raises(LabError):
        read_all(lab, "bad")
    read_all(lab, "good")


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_only_odd_is_read(
    origin: Path, exported: tuple[dict[str, bytes], dict[str, Any]], lab: Lab, what: str
) -> None:
    files, manifest = exported
    data = changed(origin / DATABASE_NAME, HARMLESS[what])
    assert imported(lab, packed({**files, DATABASE_NAME: data}, manifest))
    read_all(lab, "stranger")
    json.dumps([vars(one) for one in lab.reader("stranger").generations()], ensure_ascii=False).encode()


def test_a_whole_import_is_a_database_of_our_own_with_the_same_values(
    origin: Path, exported: tuple[dict[str, bytes], dict[str, Any]], lab: Lab
) -> None:
    files, manifest = exported
    # Room that a stranger left free is not taken over, nor is what stands in it.
    data = changed(
        origin / DATABASE_NAME,
        "PRAGMA secure_delete = OFF",
        LOG.format("hex(randomblob(40000)) || 'SECRET'"),
        "DELETE FROM log WHERE step = 1",
    )
    assert b"SECRET" in data
    assert imported(lab, packed({**files, DATABASE_NAME: data}, manifest))
    database = lab.runs_dir / "stranger" / DATABASE_NAME
    assert b"SECRET" not in database.read_bytes()
    with RunReader(origin / DATABASE_NAME) as theirs, RunReader(database) as ours:
        for read in ("events", "generations", "findings", "commands", "log", "status", "names", "latest"):
            assert getattr(ours, read)() == getattr(theirs, read)()
        for name in theirs.names():
            mine, other = ours.scalars(name), theirs.scalars(name)
            for part in ("steps", "wall", "values"):
                assert getattr(mine, part).tobytes() == getattr(other, part).tobytes()
        assert ours.meta()["created"] == theirs.meta()["created"]


def test_a_lineage_that_leads_in_a_circle_ends(origin: Path, lab: Lab) -> None:
    created = (
        sqlite3.connect(origin / DATABASE_NAME).execute("SELECT value FROM meta WHERE key = 'created'").fetchone()[0]
    )
    for name, parent in (("a", "b"), ("b", "a"), ("c", "c")):
        written_lineage = json.dumps(
            {"parent": parent, "step": 3, "parent_created": float(created), "forked": True, "author": "x"}
        )
        shutil.copytree(origin, lab.runs_dir / name, ignore=shutil.ignore_patterns("*-wal", "*-shm"))
        with sqlite3.connect(lab.runs_dir / name / DATABASE_NAME) as connection:
            connection.execute("INSERT INTO meta VALUES ('lineage', ?)", (written_lineage,))
        connection.close()
    assert sorted(node.name for node in lab.run_tree()) == ["a", "b", "c"]
    for name in "abc":
        assert len(lab.history(name, ["train/loss"])["train/loss"]) == 12


# fuzzers


def test_a_run_damaged_at_random_hides_no_other(origin: Path, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    shutil.copytree(origin, tmp_path / "good")
    shutil.copytree(origin, tmp_path / "bad")
    database = tmp_path / "bad" / DATABASE_NAME
    raw = (origin / DATABASE_NAME).read_bytes()
    read = 0
    for turn in range(rounds(60)):
        for left in database.parent.glob("run.sqlite*"):
            left.unlink()
        database.write_bytes(damaged_bytes(rng, raw))
        if rng.random() < 0.2:
            junk = rng.choice([b"", rng.randbytes(40_000), b"\x37\x7f\x06\x82" + rng.randbytes(9000)])
            database.with_name("run.sqlite-wal").write_bytes(junk)
        with Lab(tmp_path) as lab:
            states = {info.name: info.state for info in lab.runs()}
            assert states["good"] == "finished", turn
            assert sorted(node.name for node in lab.run_tree())[-1] == "good"
            assert "good" in lab.all_findings()
            try:
                read_all(lab, "bad")
                read += 1
            except LabError as error:
                told = str(error)
                assert told, turn
    assert read < rounds(60)


def damaged_bytes(rng: random.Random, raw: bytes) -> bytes:
    """A flipped bit of the header, a cut, a page of zeros or noise, or bytes anywhere."""
    data, way = bytearray(raw), rng.randrange(5)
    if way == 0:
        data[rng.randrange(100)] ^= 1 << rng.randrange(8)
    elif way == 1:
        del data[rng.randrange(len(data)) :]
    elif way == 2:
        at = rng.randrange(len(data) // 16384) * 16384
        data[at : at + 16384] = rng.choice([bytes(16384), rng.randbytes(16384)])
    else:
        for _ in range(rng.choice([1, 4, 32, 256])):
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


_NASTY: list[Any] = [
    None, True, 0, -1, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "x", "<b>", "\ud800", [], {}, [[]],
    [None],
    {"a": 1}, [5], "1e999", {"parent": "good"}, [TOKEN], [NUMBER], FIGURE, [REMEDY], -0.0, "a" * 5000,
]  # fmt: skip


def spoiled(rng: random.Random, value: Any) -> Any:
    """The value with something else at one place in it."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {name: one for name, one in value.items() if name != key}
        return {**value, key: spoiled(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], spoiled(rng, value[at]), *value[at + 1 :]]
    return rng.choice(_NASTY)


def test_records_with_anything_in_them_are_read_or_refused_in_words(origin: Path, tmp_path: Path) -> None:
    rng = random.Random(SEED + 1)
    places = [
        (table, column)
        for table, columns in {
            "meta": ["value"], "events": ["payload", "step", "wall", "kind"], "layouts": ["names"],
            "findings": ["evidence", "remedies", "state", "since_step"], "status": ["extra", "step", "state", "drops"],
            "generations": ["tokens", "stats", "settings", "status"], "commands": ["payload", "created", "kind"],
            "blocks": ["rows", "last_step"],
        }.items()
        for column in columns
    ]  # fmt: skip
    shutil.copytree(origin, tmp_path / "good")
    shutil.copytree(origin, tmp_path / "bad")
    database = tmp_path / "bad" / DATABASE_NAME
    for turn in range(rounds(120)):
        for left in database.parent.glob("run.sqlite*"):
            left.unlink()
        shutil.copy(origin / DATABASE_NAME, database)
        connection = sqlite3.connect(database)
        table, column = rng.choice(places)
        rows = connection.execute(
            f"SELECT rowid, {column} FROM {table}" if table != "meta" else "SELECT key, value FROM meta"
        )
        key, value = rng.choice(rows.fetchall())
        try:
            value = json.dumps(spoiled(rng, json.loads(value)))
        except (TypeError, ValueError):
            value = rng.choice(["x", -1, 2**62, 1e300, float("inf"), b"\xff", ""])
        try:
            name = "key" if table == "meta" else "rowid"
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {name} = ?", (value, key))
            connection.commit()
        except sqlite3.IntegrityError:
            continue
        finally:
            connection.close()
        with Lab(tmp_path) as lab:
            assert {info.name: info.state for info in lab.runs()}["good"] == "finished", turn
            try:
                read_all(lab, "bad")
            except LabError as error:
                told = str(error)
                assert "bad" in told, (turn, table, column, value)


def test_archives_of_any_bytes_are_refused_in_words(
    exported: tuple[dict[str, bytes], dict[str, Any]], lab: Lab
) -> None:
    rng = random.Random(SEED + 2)
    files, manifest = exported
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        good = packed(files, manifest, method)
        assert imported(lab, good) == (method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))
        shutil.rmtree(lab.runs_dir / "stranger", ignore_errors=True)
        for _ in range(rounds(15)):
            data, low = bytearray(good), rng.choice([0, len(good) - 900])
            for _ in range(rng.choice([1, 2, 8, 64])):
                data[rng.randrange(low, len(data))] = rng.randrange(256)
            if imported(lab, bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)):
                shutil.rmtree(lab.runs_dir / "stranger")


@pytest.mark.parametrize("file", ["config.yaml", "tokenizer.json", "labels.json", "manifest"])
def test_other_contents_of_a_file_are_refused_in_words(
    exported: tuple[dict[str, bytes], dict[str, Any]], lab: Lab, file: str
) -> None:
    files, manifest = exported
    for data in (b"[" * 200_000, b"\xff\xfe\xe9", b"\0" * 1000, b"5", b'"x"', b"NaN", b"9" * 5000, b'{"a": ' * 100_000):
        if file == "manifest":
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w") as out:
                out.writestr("manifest.json", data)
            assert not imported(lab, archive.getvalue())
        else:
            assert not imported(lab, packed({**files, file: data}, manifest)), data[:20]
    for change in (
        {"name": []},
        {"name": None},
        {"version": True},
        {"version": 1.0},
        {"exported": "<b>"},
        {"program": [[]]},
    ):
        assert not imported(lab, packed(files, manifest, **change)), change


def test_a_checkpoints_state_of_any_kind_is_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(SEED + 3)
    state = CheckpointState(12, "interval", 1.7e9, {"ce_weight": 1.0}, 3, 1.5, {}, 1, "2.0", {"kind": "phase_lm"})
    folder = write_folder(tmp_path, state, {"model.safetensors": b"x", "watch.json": b"{}"})
    good = (folder / "state.json").read_bytes()
    assert read_folder(folder)[0] == state
    for turn in range(rounds(150)):
        data = json.dumps(spoiled(rng, json.loads(good))).encode()
        if turn % 5 == 0:
            data = rng.choice([b"", b"[" * 100_000, b"null", b"\xff", b"9" * 5000, data[: rng.randrange(len(data))]])
        (folder / "state.json").write_bytes(data)
        try:
            found = read_folder(folder)[0]
        except CheckpointError as error:
            told = str(error)
            assert folder.name in told
            assert len(told) < 600
        else:
            assert isinstance(found.step, int)
            assert isinstance(found.reason, str)
            assert isinstance(found.controls, dict)
    assert checkpoint_folders(tmp_path) == [folder]
