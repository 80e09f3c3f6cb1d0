"""Tables as text: the column is found or named, every error says file and line, and both doors read alike."""

import csv
import io
import json
import time
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qcore.config import DataConfig, DataError
from qcore.data import load_corpus

ROWS = [{"id": number, "text": f"Row {number}: " + "words of a row, " * 4 + "end; |"} for number in range(80)]
TEXTS = tuple(row["text"] for row in ROWS)
MESSAGES = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Here."}]


def as_text(path, **settings):
    return load_corpus(DataConfig(source="text", path=str(path), **settings))


def as_data(path, builder="json", **settings):
    return load_corpus(DataConfig(source="huggingface", hub_name=builder, data_files=str(path), **settings))


def lines(rows):
    return "\n".join(map(json.dumps, rows)) + "\n"


def delimited(rows, delimiter):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return out.getvalue()


def write_arrow(path, table, stream):
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(str(path), table.schema) as writer:
        writer.write_table(table)


FORMS = {
    "a.jsonl": lambda path: path.write_text(lines(ROWS)),
    "crlf.jsonl": lambda path: path.write_bytes(("\ufeff" + lines(ROWS)).replace("\n", "\r\n\r\n").encode()),
    "lines.txt": lambda path: path.write_text(lines(ROWS)),
    "lines.json": lambda path: path.write_text(lines(ROWS)),
    "list.json": lambda path: path.write_text(json.dumps(ROWS)),
    "pretty.json": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "pretty.txt": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "inner.json": lambda path: path.write_text(json.dumps({"version": 2, "data": ROWS})),
    "columns.json": lambda path: path.write_text(
        json.dumps({key: [row[key] for row in ROWS] for key in ("id", "text")})
    ),
    "comma.csv": lambda path: path.write_text(delimited(ROWS, ",")),
    "semicolon.csv": lambda path: path.write_text(delimited(ROWS, ";")),
    "bar.csv": lambda path: path.write_text(delimited(ROWS, "|")),
    "tab.tsv": lambda path: path.write_text(delimited(ROWS, "\t")),
    "tab.txt": lambda path: path.write_text(delimited(ROWS, "\t")),
    "a.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=30),
    "file.arrow": lambda path: write_arrow(path, pa.Table.from_pylist(ROWS), stream=False),
    "stream.arrow": lambda path: write_arrow(path, pa.Table.from_pylist(ROWS), stream=True),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_table_gives_its_rows_by_either_door(tmp_path, name):
    FORMS[name](tmp_path / name)
    assert as_text(tmp_path / name).documents == TEXTS
    builder = {"csv": "csv", "tsv": "csv", "parquet": "parquet", "arrow": "arrow"}.get(name.split(".")[-1], "json")
    builder = "csv" if name == "tab.txt" else builder
    assert as_data(tmp_path / name, builder).documents == TEXTS
    assert as_data(tmp_path / name, builder, hub_split="train[:25%]").documents == TEXTS[:20]


@pytest.mark.parametrize("name", ["a.jsonl", "list.json", "comma.csv", "a.parquet", "file.arrow"])
def test_the_library_reads_the_same_rows(tmp_path, name, monkeypatch):
    """A run from before reads through the library: what it saw is what is seen now."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    FORMS[name](tmp_path / name)
    builder = {"csv": "csv", "parquet": "parquet", "arrow": "arrow"}.get(name.split(".")[-1], "json")
    assert as_data(tmp_path / name, builder, data_version=1).documents == TEXTS


def test_cells_that_say_nothing_are_nothing(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    (tmp_path / "a.csv").write_text('text,n\n"a, b",1\nNA,2\n,3\nnull,4\n"two\nlines",5\nN/A or not,6\n')
    wanted = ("a, b", "two\nlines", "N/A or not")
    assert as_data(tmp_path / "a.csv", "csv", data_version=1).documents == wanted
    found = as_data(tmp_path / "a.csv", "csv")
    assert found.documents == wanted
    assert found.notes == ("3 rows have no text in that column and were skipped",)


BROKEN = {
    "cut.jsonl": (
        lines(ROWS)[:-30],
        r"cut\.jsonl', line 80: no JSON: Unterminated string.*cut off there.*repair or remove",
    ),
    "middle.jsonl": (
        lines(ROWS[:50]) + lines(ROWS[50:51])[:40] + "\n" + lines(ROWS[51:]),
        r"middle\.jsonl', line 51: no JSON: Unterminated string at column \d+; repair or remove the line",
    ),
    "number.jsonl": (
        lines([*ROWS[:70], {"id": 1, "text": 5}, *ROWS[71:]]),
        r"number\.jsonl', line 71: column 'text' holds a number, not text: repair or remove the row",
    ),
    "list.jsonl": (
        lines([{"text": "a"}, {"text": ["a", "b"]}]),
        r"list\.jsonl', line 2: column 'text' holds a list, not text",
    ),
    "object.jsonl": (
        lines([{"title": "t", "text": "a"}, {"title": "u", "text": {"a": 1}}]),
        r"object\.jsonl', line 2: column 'text' holds an object, not text: set data.text_column to 'title', or repair",
    ),
    "row.jsonl": (lines(ROWS[:2]) + "17\n", r"row\.jsonl', line 3: holds a number, and a row is an object"),
    "deep.jsonl": (lines(ROWS[:1]) + "[" * 100_000 + "\n", r"deep\.jsonl', line 2: no JSON: it is nested too deeply"),
    "digits.jsonl": (lines(ROWS[:1]) + '{"n": ' + "9" * 5000 + "}\n", r"digits\.jsonl', line 2: no JSON: .*digits"),
    "cut.json": (json.dumps(ROWS, indent=1)[:-60], r"cut\.json', line \d+: no JSON: .*; repair the file"),
    "scalar.json": ('"word"', r"scalar\.json' holds a str, not rows: give a list of objects"),
    "empty.csv": ("\n\n", r"empty\.csv' is empty"),
    "quote.csv": (
        delimited(ROWS[:9], ";") + '9;"never closed\n' + delimited(ROWS[10:], ";"),
        r"quote\.csv', line \d+: no row of a CSV file separated by ';'",
    ),
    "more.csv": (
        "id,text\n1,one\n2,two, and three\n",
        r"more\.csv', line 3: 3 fields separated by ',', and the header has 2: quote texts that hold ','",
    ),
    "header.csv": ("text,text\na,b\n", r"header\.csv', line 1: the header has two columns of one name"),
    "blank.csv": ("text,n\n,1\n,2\n", r"column 'text' of blank\.csv holds no text: every row is empty"),
    "torn.parquet": (
        b"PAR1" + bytes(40),
        r"torn\.parquet', after 0 rows: cannot be read as Parquet \(.*\): it is damaged",
    ),
    "torn.arrow": (
        b"ARROW1\0\0" + bytes(40),
        r"torn\.arrow', after 0 rows: cannot be read as Arrow \(.*\): it is damaged",
    ),
    "latin.csv": ("text\nfür\n".encode("latin-1"), r"latin\.csv' is not UTF-8: byte 0xFC at offset 6, line 2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_with_its_place(tmp_path, name):
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    builder = {"csv": "csv", "parquet": "parquet", "arrow": "arrow"}.get(name.split(".")[-1], "json")
    for read in (as_text, lambda path: as_data(path, builder)):
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path / name)
        assert "connection" not in str(caught.value), "a local file has none"


def test_a_damaged_page_of_a_parquet_file_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=20, compression="zstd")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 - 20 : len(raw) // 2 + 20] = np.random.default_rng(0).bytes(40)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.parquet', after \d+ rows: cannot be read as Parquet"):
        as_text(path)


COLUMNS = [
    ([{"content": "one"}, {"content": "two"}], "text", ("one", "two"), "'content'"),
    ([{"n": 1, "prose": "one"}, {"n": 2, "prose": "two"}], "text", ("one", "two"), "'prose'"),
    ([{"url": "u", "content": "one"}, {"url": "v", "content": "two"}], "text", ("one", "two"), "'content'"),
    ([{"data": {"text": "one", "n": "en"}}, {"data": {"text": "two", "n": "en"}}], "text", ("one", "two"), "data.text"),
    ([{"data": {"body": "one"}}, {"data": {"body": "two"}}], "data.body", ("one", "two"), ""),
    ([{"a.b": "one"}, {"a.b": "two"}], "a.b", ("one", "two"), ""),
    ([{"text": None}, {"n": 3}, {"text": "two"}], "text", ("two",), ""),
    ([{"messages": MESSAGES}], "text", ("user: Hello?\n\nassistant: Here.",), "'messages'"),
    ([{"messages": MESSAGES, "source": "x"}], "messages", ("user: Hello?\n\nassistant: Here.",), ""),
    (
        [{"id": "a", "conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Here."}]}],
        "text",
        ("user: Hello?\n\nassistant: Here.",),
        "'conversations'",
    ),
    (
        [
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image"}]},
                    {"role": "assistant", "content": None, "tool_calls": []},
                ]
            }
        ],
        "messages",
        ("system: Be brief.\n\nuser: See",),
        "",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "column", "documents", "said"), COLUMNS)
@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_the_column_that_holds_text_is_found(tmp_path, rows, column, documents, said, form):
    path = tmp_path / f"a.{form}"
    if form == "parquet" and "image" in str(rows):
        pytest.skip("Parquet holds no list of texts and lists")
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(lines(rows) if form == "jsonl" else json.dumps(rows))
    found = as_text(path, text_column=column)
    assert found.documents == documents
    assert (said in " ".join(found.notes)) if said else not any("was read" in note for note in found.notes)


CELL = "word " * 400_000  # 2 MB


def nested(rows):
    return pa.Table.from_pylist([{"messages": [{"role": "user", "content": CELL}]}] * rows)


def repeated(rows):
    cells = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([CELL]))
    return pa.table({"text": cells})


def write_compressed(path, table, new=pa.ipc.new_file):
    with new(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("plain.parquet", lambda path: pq.write_table(pa.table({"text": [CELL] * 90}), path, compression="zstd")),
        (
            "dictionary.parquet",
            lambda path: pq.write_table(
                pa.table({"text": [CELL] * 90}), path, compression="zstd", dictionary_pagesize_limit=1 << 30
            ),
        ),
        ("nested.parquet", lambda path: pq.write_table(nested(90), path, dictionary_pagesize_limit=1 << 30)),
        ("plain.arrow", lambda path: write_compressed(path, pa.table({"text": [CELL] * 90}))),
        ("dictionary.arrow", lambda path: write_compressed(path, repeated(90))),
        ("stream.arrow", lambda path: write_compressed(path, repeated(90), pa.ipc.new_stream)),
    ],
)
def test_a_few_kilobytes_do_not_become_gigabytes(tmp_path, name, write):
    """A cell that is kept once and read ninety times: refused before it is written out that often."""
    write(tmp_path / name)
    assert (tmp_path / name).stat().st_size < 4_000_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"{name}' unpacks to more than \d+ MB from \d+ kB"):
            as_text(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 120_000_000, "of 180 MB"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_cell_that_comes_again_is_read_as_often(tmp_path, form):
    table = pa.table({"text": pa.array(["one", "two", None, "one"] * 50).dictionary_encode(), "n": [1, 2, 3, 4] * 50})
    if form == "parquet":
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=70)
    else:
        write_compressed(tmp_path / "a.arrow", table)
    assert as_text(tmp_path / f"a.{form}").documents == ("one", "two", "one") * 50


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize(("key", "role", "said"), [("messages", "role", "content"), ("conversations", "from", "value")])
def test_one_odd_chat_does_not_refuse_the_others(tmp_path, form, key, role, said):
    """Nothing said in it, or nothing but a call of a tool: a row without text."""
    called = [{role: "user", said: "Hello?"}, {role: "assistant", "tool_calls": "f()"}]
    rows = [[], called, [{role: "user", said: "Two"}], [{role: "assistant", "tool_calls": "g()"}]]
    if form == "jsonl":
        (tmp_path / "a.jsonl").write_text(lines([{key: row} for row in rows]))
    else:
        pq.write_table(pa.Table.from_pylist([{key: row} for row in rows]), tmp_path / "a.parquet")
    for column in ("text", key):
        found = as_text(tmp_path / f"a.{form}", text_column=column)
        assert found.documents == ("user: Hello?", "user: Two")
        assert found.notes[-1] == "2 rows have no text in that column and were skipped"
    (tmp_path / "list.json").write_text(
        json.dumps({"mails": [{"from": "a", "text": "one"}, {"from": "b", "text": "x"}]})
    )
    assert as_text(tmp_path / "list.json").documents == ("one", "x"), "rows that have a sender are no chat"


def test_line_ends_in_cells_are_line_ends(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines([{"text": "one\rtwo\r\nthree\n\rfour"}]))
    assert as_text(tmp_path / "a.jsonl").documents == ("one\ntwo\nthree\n\nfour",)


def test_an_unknown_column_offers_what_would_do_and_never_itself(tmp_path):
    (tmp_path / "a.jsonl").write_text(lines([{"title": "a", "n": 1, "data": {"body": "b"}, "messages": MESSAGES}] * 3))
    with pytest.raises(DataError, match="no column 'titel'; did you mean 'title'") as caught:
        as_text(tmp_path / "a.jsonl", text_column="titel")
    assert str(caught.value).endswith("set data.text_column to 'title', 'data.body', 'messages'")
    with pytest.raises(DataError, match="line 1: column 'n' holds a number") as caught:
        as_text(tmp_path / "a.jsonl", text_column="n")
    assert "'n'" not in str(caught.value).split("set data.text_column to")[1]
    (tmp_path / "b.jsonl").write_text(lines([{"n": 1}, {"n": 2}]))
    with pytest.raises(DataError, match="columns are 'n': none of them holds text; give another file"):
        as_text(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_text(lines([{"question": "q", "answer": "a"}] * 2))
    with pytest.raises(DataError, match=r"set data\.text_column to 'question', 'answer'"):
        as_text(tmp_path / "c.jsonl")


def test_lists_and_patterns_of_files(tmp_path):
    for number in range(3):
        (tmp_path / f"part {number}.jsonl").write_text(lines([{"text": f"row of part {number}"}]))
    every = tuple(f"row of part {number}" for number in range(3))
    assert as_data(f"{tmp_path}/*.jsonl").documents == every
    assert as_data(f"{tmp_path}/part 2.jsonl, {tmp_path}/part 0.jsonl").documents == (every[2], every[0])
    (tmp_path / "a,b.jsonl").write_text(lines([{"text": "comma"}]))
    assert as_data(tmp_path / "a,b.jsonl").documents == ("comma",)
    with pytest.raises(DataError, match=r"part 9\.jsonl' does not exist"):
        as_data(f"{tmp_path}/part 2.jsonl,{tmp_path}/part 9.jsonl")
    with pytest.raises(DataError, match=r"\*\.parquet' matches no file"):
        as_data(f"{tmp_path}/*.parquet", "parquet")


def test_prose_by_the_builder_text_is_divided_like_prose(tmp_path):
    """A line was a document: neighbouring lines of one text lay on both sides of the split."""
    text = "\n".join(f"Line {number} goes on with the story." for number in range(213))
    (tmp_path / "prose.txt").write_text(text)
    found = as_data(tmp_path / "prose.txt", "text").documents
    assert found == as_text(tmp_path / "prose.txt").documents
    assert 5 <= len(found) <= 9


@pytest.mark.parametrize("quoted", [False, True])
def test_reading_a_table_takes_linear_time(tmp_path, quoted):
    def seconds(count):
        cell = '"a ""b"" c"' if quoted else "a b c"
        (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{number},{cell}\n" for number in range(count)))
        started = time.process_time()
        as_text(tmp_path / "a.csv")
        return time.process_time() - started

    seconds(1000)
    assert min(seconds(40_000) for _ in range(3)) < 4 * min(seconds(20_000) for _ in range(3)) + 0.05
