"""Text from files as people have them: what is no prose is read rightly or refused by name, and nothing for ever."""

import bz2
import gzip
import json
import lzma
import os
import socket
import sqlite3
import struct
import time
import zipfile

import pyarrow as pa
import pytest

from qcore.config import ConfigError, DataConfig, DataError, check_source, default_run
from qcore.data import load_corpus, open_dataset
from qcore.data.text.html import page_text

PROSE = "\n\n".join(f"Paragraph {number} says something. " + "More words follow here. " * 45 for number in range(12))
ROWS = [{"id": number, "text": f"Row {number}: " + "words of a row " * 8} for number in range(30)]
LINES = "\n".join(map(json.dumps, ROWS)) + "\n"


def corpus(path, **settings):
    return load_corpus(DataConfig(source="text", path=str(path), **settings))


def checked(path, **settings):
    return check_source(default_run().with_values({"source": "text", "path": str(path), **settings}))


def refused(path, match):
    """Both the check before a run and the reading refuse it, each naming the file."""
    with pytest.raises(DataError, match=match) as caught:
        corpus(path)
    assert path.name in str(caught.value)
    with pytest.raises(DataError, match=match) as caught:
        checked(path)
    assert path.name in str(caught.value)


def png():
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100)


NOT_PROSE = {
    "a.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "a PDF document, not text: convert it"),
    "picture.txt": (png(), "a PNG picture"),
    "photo.jpg": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(50), "a JPEG picture"),
    "a.gif": (b"GIF89a\x08\0\x08\0" + bytes(50), "a GIF picture"),
    "sound.wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(30), "a sound"),
    "video.txt": (b"\0\0\0\x20ftypisom" + bytes(30), "a video"),
    "video.mkv": (b"\x1aE\xdf\xa3" + bytes(30), "a video"),
    "weights.safetensors": (struct.pack("<Q", 8) + b'{"a":{}}', "a .safetensors file"),
    "weights.txt": (struct.pack("<Q", 8) + b'{"a":{}}', "binary"),
    "object.pkl": (b"\x80\x04\x95\x10\0\0\0", "a .pkl file"),
    "object.txt": (b"\x80\x04\x95\x10abcdefgh", "a pickle, which would run code"),
    "program": (b"\x7fELF\x02\x01\x01" + bytes(40), "a program"),
    "archive.7z": (b"7z\xbc\xaf\x27\x1c\0\x04" + bytes(40), "a 7z archive"),
    "archive.tar": (b"name".ljust(257, b"\0") + b"ustar\x0000" + bytes(250), "a tar archive"),
    "report.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(40), "an office document"),
    "letter.txt": (b"{\\rtf1\\ansi Dear all}", "an RTF document"),
    "drawing.txt": (b'<?xml version="1.0"?><svg></svg>', "an XML document"),
    "drawing.svg": (b"<svg></svg>", "a .svg file"),
    "big.txt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "a pointer of Git LFS"),
    "wide.txt": ("Words in UTF-16 without a mark. ".encode("utf-16-le") * 20, "UTF-16 without a mark"),
    "nul.txt": (b"words and \0 words, words", "binary .a NUL at byte offset 10."),
    "controls.txt": (bytes(range(1, 9)) * 200 + b"text", "control characters"),
    "empty.txt": (b"", "is empty"),
    "x.parquet": (b"not a table at all", "named .parquet and no such table"),
    "x.txt.gz": (b"plain text under a wrong name", "named .gz and not packed so"),
    "x.tar.gz": (gzip.compress(b"x" * 600), "a tar archive"),
    "x.png.gz": (gzip.compress(png()), "a packed .png file"),
}


@pytest.mark.parametrize("name", NOT_PROSE)
def test_what_is_no_prose_is_refused_by_name(tmp_path, name):
    content, words = NOT_PROSE[name]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, words)


def test_databases_and_archives_are_refused(tmp_path):
    with sqlite3.connect(tmp_path / "a.txt") as database:
        database.execute("CREATE TABLE t (text)")
    refused(tmp_path / "a.txt", "an SQLite database, not text: export the column of text")
    with zipfile.ZipFile(tmp_path / "b.txt", "w") as archive:
        archive.writestr("c.txt", PROSE)
    refused(tmp_path / "b.txt", "a zip archive .*unpack it")


@pytest.mark.parametrize(
    "beginning", ["ORC is a format. ", "ID3 tags: ", "GGUF ", "RIFF ", "PAR1 ", "Rar! ", "BZh ", "%P"]
)
def test_a_text_may_begin_with_the_letters_of_another_form(tmp_path, beginning):
    (tmp_path / "a.txt").write_text(beginning + PROSE)
    assert corpus(tmp_path / "a.txt").documents[0].startswith(beginning)


def test_prose_is_what_it_was_before(tmp_path):
    """The rules of today give the documents that those of before gave, for files that hold prose."""
    (tmp_path / "a.txt").write_text(PROSE)
    (tmp_path / "b.txt").write_text("".join(f"line {number} of a text with lines only\n" for number in range(99)))
    (tmp_path / "c.py").write_text("def f():\n    return {'a': 1}\n" * 60)
    (tmp_path / "d.md").write_bytes(b"\xef\xbb\xbf# Title\r\n\r\nwith a mark\r\n" * 80)
    for path in (*sorted(tmp_path.iterdir()), tmp_path):
        assert corpus(path).documents == corpus(path, data_version=1).documents
    assert len(corpus(tmp_path / "a.txt").documents) == 12


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_mark_at_the_beginning_says_the_encoding(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(("Größe — 大きさ\r\n\r\n" + PROSE).encode(encoding))
    found = corpus(tmp_path / "a.txt").documents
    assert "\n\n".join(found).startswith("Größe — 大きさ\n\nParagraph 0")
    (tmp_path / "a.txt").write_bytes(("Größe" * 40).encode(encoding) + b"\xff\xd8" * 3)
    with pytest.raises(DataError, match=r"a\.txt' (is not UTF-8|begins with the mark of UTF-(16|32)).*line 1"):
        corpus(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("text", "encoding", "guess"),
    [
        ("first line\nfür eine große Welt\n" * 40, "latin-1", "Latin-1 or CP1252"),
        ("first line\n“quoted” – text\n" * 40, "cp1252", "CP1252"),
        ("first line\nこれはテストです。\n" * 40, "shift_jis", "Shift-JIS"),
        ("first line\nこれはテストです。\n" * 40, "euc_jp", "EUC-JP"),
    ],
)
def test_another_encoding_is_named_with_line_and_byte(tmp_path, text, encoding, guess):
    raw = text.encode(encoding)
    (tmp_path / "a.txt").write_bytes(raw)
    at = next(place for place, byte in enumerate(raw) if byte > 127)
    with pytest.raises(DataError, match=rf"a\.txt' is not UTF-8: byte 0x{raw[at]:02X} at offset {at}, line 2"):
        corpus(tmp_path / "a.txt")
    with pytest.raises(DataError, match=rf"a\.txt' is not UTF-8: byte 0x{raw[at]:02X} at offset {at}, line 2; save it"):
        checked(tmp_path / "a.txt")
    with pytest.raises(DataError, match=rf"\(it looks like {guess}\); save it as UTF-8"):
        corpus(tmp_path / "a.txt")


def test_a_nul_behind_the_first_bytes_is_found(tmp_path):
    (tmp_path / "a.txt").write_bytes(PROSE.encode() * 2 + b"\n\nnow \0 comes one")
    with pytest.raises(DataError, match=r"a\.txt' is not text: NUL at byte offset \d+, line \d+"):
        corpus(tmp_path / "a.txt")


def packed(data, kind):
    if kind == "zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as out:
            out.write(data)
        return sink.getvalue().to_pybytes()
    return {"gz": gzip, "bz2": bz2, "xz": lzma}[kind].compress(data)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_packed_text_and_tables_are_read(tmp_path, kind):
    (tmp_path / "a.txt").write_text(PROSE)
    (tmp_path / f"a.txt.{kind}").write_bytes(packed(PROSE.encode(), kind))
    assert corpus(tmp_path / f"a.txt.{kind}").documents == corpus(tmp_path / "a.txt").documents
    (tmp_path / f"rows.jsonl.{kind}").write_bytes(packed(LINES.encode(), kind))
    assert corpus(tmp_path / f"rows.jsonl.{kind}").documents == tuple(row["text"] for row in ROWS)
    whole = (tmp_path / f"a.txt.{kind}").read_bytes()
    (tmp_path / f"cut.txt.{kind}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"cut\.txt\.{kind}' cannot be read as \w+ \(.*\): it is damaged or cut off"):
        corpus(tmp_path / f"cut.txt.{kind}")
    (tmp_path / f"inner.txt.{kind}").write_bytes(packed(png(), kind))
    with pytest.raises(DataError, match=rf"inner\.txt\.{kind}' is \w+ around a PNG picture"):
        corpus(tmp_path / f"inner.txt.{kind}")
    hidden = tmp_path / f"corpus.txt.{kind}"  # a table under the name of a text
    hidden.write_bytes(packed(LINES.encode(), kind))
    assert corpus(hidden).documents == tuple(row["text"] for row in ROWS)
    if kind != "zst":  # which only the data unpack
        assert checked(hidden).words == "a table (JSON lines), packed with " + {"gz": "gzip"}.get(kind, kind)
        with pytest.raises(DataError, match=rf"inner\.txt\.{kind}' is \w+ around a PNG picture"):
            checked(tmp_path / f"inner.txt.{kind}")
    folder = tmp_path / "both"
    folder.mkdir()
    hidden.rename(folder / hidden.name)
    (folder / "a.txt").write_text(PROSE)
    found = corpus(folder)
    assert len(found.documents) == 12
    assert [file.path for file in found.skipped] == [hidden.name]


def test_a_bomb_is_not_unpacked(tmp_path):
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(b" " * (1 << 28), 9))
    with pytest.raises(DataError, match=r"bomb\.txt\.gz' unpacks to more than \d+ MB from \d+ kB"):
        corpus(tmp_path / "bomb.txt.gz")


def test_places_that_never_end_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.txt")
    with open(tmp_path / "sparse.txt", "wb") as file:
        file.truncate(1 << 42)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 letters
    listener.bind("socket.txt")
    try:
        refused(tmp_path / "pipe.txt", "is a pipe, not a file")
        refused(tmp_path / "sparse.txt", "is binary .a NUL at byte offset 0.")
        refused(tmp_path / "self", "cannot be found .Too many levels of symbolic links")
        refused(tmp_path / "one", "cannot be found .Too many levels of symbolic links")
        refused(tmp_path / "zero.txt", "is a device, not a file")
        refused(tmp_path / "socket.txt", "is a socket, not a file")
    finally:
        listener.close()
    refused(tmp_path / "nowhere", "does not exist")
    with pytest.raises(DataError, match=r"xxx…xxx.*cannot be found \(File name too long") as caught:
        corpus(tmp_path / ("x" * 4000))
    assert len(str(caught.value)) < 400
    with pytest.raises(DataError, match=r"cannot be found [(]Could not determine home"):
        corpus("~nobody-has-this-name/a.txt")
    (tmp_path / "good.txt").write_text(PROSE)
    (tmp_path / "round").symlink_to(tmp_path)
    found = corpus(tmp_path)
    assert found.documents == corpus(tmp_path / "good.txt").documents
    assert {file.path for file in found.skipped} == {
        "one",
        "pipe.txt",
        "round",
        "self",
        "socket.txt",
        "sparse.txt",
        "two",
        "zero.txt",
    }


def test_what_may_not_be_read_is_named(tmp_path, monkeypatch):
    from pathlib import Path

    (tmp_path / "secret.txt").write_text(PROSE)
    (tmp_path / "good.txt").write_text(PROSE)
    opened = Path.open

    def forbidden(self, *arguments, **settings):
        if self.name == "secret.txt":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **settings)

    monkeypatch.setattr(Path, "open", forbidden)
    refused(tmp_path / "secret.txt", "cannot be read .Permission denied.")
    assert [(file.path, file.reason) for file in corpus(tmp_path).skipped] == [
        ("secret.txt", "cannot be read (Permission denied)")
    ]


def test_a_file_beyond_the_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    from qcore.data.text import files, size_limits

    (tmp_path / "a.txt").write_text(PROSE)
    monkeypatch.setattr(size_limits, "memory_bytes", lambda: 2 * len(PROSE) - 2)
    monkeypatch.setattr(files, "unpack_file", lambda *_: pytest.fail("it was read"))
    with pytest.raises(DataError, match=r"a\.txt' holds .* more than half of this machine's memory"):
        corpus(tmp_path / "a.txt")


def test_names_with_odd_bytes_are_shown_and_read(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9\n.txt"
    with open(name, "w") as file:
        file.write(PROSE)
    os.mkfifo(os.fsencode(tmp_path) + b"/p\xff")
    found = corpus(tmp_path)
    assert len(found.documents) == 12
    assert [file.path for file in found.skipped] == ["p\ufffd"]
    with pytest.raises(ConfigError, match=r"path = .*valid Unicode"):  # a configuration could not keep it
        checked(os.fsdecode(name))


# Folders


def repository(folder, card="---\nlicense: mit\nconfigs:\n- config_name: en\n---\n# Data\n"):
    (folder / "en").mkdir(parents=True)
    (folder / "README.md").write_text(card)
    (folder / "LICENSE").write_text("Permission is hereby granted " * 40)
    (folder / "en" / "train-0.jsonl").write_text(LINES)
    (folder / "en" / "test-0.jsonl").write_text(LINES)
    return folder


def test_a_data_set_folder_is_not_taken_for_its_readme(tmp_path):
    folder = repository(tmp_path / "repo")
    refused(folder, r"this is a data set folder: use source=huggingface, hub_name=.*/repo ")
    assert "hereby granted" in " ".join(corpus(folder, data_version=1).documents), "a run from before goes on"
    refused(repository(tmp_path / "plain", "# Just words\n"), "this is a data set folder")
    for part in ("a", "b"):  # one split, twice: programs have such files, too
        (tmp_path / "prose" / part).mkdir(parents=True)
        (tmp_path / "prose" / part / "test.json").write_text(json.dumps(ROWS))
    assert len(corpus(tmp_path / "prose").documents) == 60
    (tmp_path / "prose" / "book.txt").write_text(PROSE)
    (tmp_path / "prose" / "a" / "train.json").write_text(json.dumps(ROWS))
    assert len(corpus(tmp_path / "prose").documents) == 12, "two splits, and prose beside them"


def test_files_about_a_folder_are_no_prose(tmp_path):
    (tmp_path / "README.md").write_text("# About these texts\n" * 30)
    (tmp_path / "LICENSE").write_text("Permission is hereby granted\n" * 30)
    (tmp_path / "one.txt").write_text(PROSE)
    (tmp_path / "two.txt").write_text(PROSE.replace("words", "signs"))
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "x.txt").write_text("module text")
    found = corpus(tmp_path)
    assert [document[:13] for document in found.documents] == ["Paragraph 0 s"] * 2
    assert [file.path for file in found.skipped] == ["node_modules", "LICENSE", "README.md"]
    assert found.size == 2 * len(PROSE)
    assert checked(tmp_path).size == found.size
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "README.md").write_text("# About these texts\n" * 30)
    refused(tmp_path / "alone", r"README\.md is about the folder; give it by itself")
    assert corpus(tmp_path / "README.md").documents, "given by itself it is a text"


def test_tables_in_a_folder_are_read_alone_and_passed_over_beside_prose(tmp_path):
    for number in range(2):
        (tmp_path / f"part{number}.jsonl").write_text(LINES.replace("Row", f"Part {number}, row"))
    found = corpus(tmp_path)
    assert len(found.documents) == 60
    assert found.documents[30].startswith("Part 1, row 0")
    (tmp_path / "cut.jsonl").write_text(LINES[:-40])
    (tmp_path / "none.jsonl").write_text("[]")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1" + bytes(80))
    found = corpus(tmp_path)
    assert len(found.documents) == 60, "of a damaged table no row is used"
    assert {file.path: file.reason.split(":")[0] for file in found.skipped} == {
        "cut.jsonl": "line 30",
        "none.jsonl": "holds no rows",
        "torn.parquet": "after 0 rows",
    }
    assert found.size == sum((tmp_path / f"part{number}.jsonl").stat().st_size for number in range(2))
    with pytest.raises(DataError, match=r"cut\.jsonl', line 30: no JSON"):
        corpus(tmp_path / "cut.jsonl")
    for name in ("cut.jsonl", "none.jsonl", "torn.parquet"):
        (tmp_path / name).unlink()
    (tmp_path / "a.txt").write_text(PROSE)
    found = corpus(tmp_path)
    assert len(found.documents) == 12
    assert [file.reason for file in found.skipped] == ["is a table (JSON lines); give it by itself to read it"] * 2
    share = open_dataset(DataConfig(source="text", path=str(tmp_path), tokenizer="byte"), 8, None).report.skipped_share
    assert share == pytest.approx(1 - len(PROSE) / (len(PROSE) + sum(file.size for file in found.skipped)))


# Where there is nothing to cut at


def test_a_text_without_blanks_is_cut_after_sentences(tmp_path):
    (tmp_path / "a.txt").write_text("これはとても長い日本語の文章です。空白はありません。" * 200)
    data = open_dataset(DataConfig(source="text", path=str(tmp_path / "a.txt"), tokenizer="byte"), 16, None)
    assert data.report.train_documents >= 3
    assert data.report.notes == (
        "the text has no blank lines and was cut into 5 pieces, after sentences where it has them",
    )
    whole = "".join(data.tokenizer.decode(side.tokens_N.tolist()) for side in (data.train, data.validation))
    assert len(whole) == 26 * 200
    assert all(part.endswith("。") for part in load_pieces(tmp_path / "a.txt"))


def load_pieces(path):
    from qcore.data.text.documents import cut_anywhere

    return cut_anywhere(path.read_text())


def test_one_huge_line_is_cut_anywhere(tmp_path):
    (tmp_path / "a.txt").write_text("".join(f"{number:x}" for number in range(20_000))[:50_000])
    data = open_dataset(DataConfig(source="text", path=str(tmp_path / "a.txt"), tokenizer="byte"), 16, None)
    assert (data.report.train_documents, data.report.validation_documents) == (45, 5)
    with pytest.raises(ValueError, match="two different documents"):
        open_dataset(
            DataConfig(source="text", path=str(tmp_path / "a.txt"), tokenizer="byte", data_version=1), 16, None
        )


def test_a_page_gives_its_text(tmp_path):
    (tmp_path / "a.html").write_text(
        "<!DOCTYPE html><html><head><title>No</title><style>p { x: 1 }</style></head><body><!-- no < no -->"
        "<h1>Cats &amp; dogs</h1><p>One <b>bold</b> word.<p>1 < 2, said she.<script>if (a<b) no()</script>"
        "<ul><li>first<li>second</ul></body></html>"
    )
    [page] = corpus(tmp_path / "a.html").documents
    assert [line for line in page.split("\n") if line] == [
        "Cats & dogs",
        "One bold word.",
        "1 < 2, said she.",
        "first",
        "second",
    ]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>if x < y and y > z or 2 <3 then", "if x < y and y > z or 2 <3 then"),
        ("<title>A page<p>One word.<!-- no --><p>Two words.", "A page\nOne word.\nTwo words."),
        ("<p>Before. <!-- never closed <b>bold</b> <script>after", "Before. never closed bold after"),
        ("<script>a<b</script x>One</SCRIPT >, <style>p</style>two<style/>, three", "One, two, three"),
        ("<title>a<title>b<style>c<script>d", "abcd"),
        ("a<?xml x?>b</>c<!doctype x>d<", "abcd<"),
    ],
)
def test_a_broken_page_hides_nothing(page, text):
    assert page_text(page).strip() == text


@pytest.mark.parametrize("part", ["<!--", "<script>", "<a", "<title><style>", "</", "< ", "<p", "&lt;<"])
def test_a_page_of_one_piece_over_and_over_takes_linear_time(part):
    def seconds(count):
        started = time.process_time()
        page_text("<title>" + part * count)
        return time.process_time() - started

    assert min(seconds(80_000) for _ in range(3)) < 4 * min(seconds(40_000) for _ in range(3)) + 0.05
