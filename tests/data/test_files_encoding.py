"""Texts that are no UTF-8 are read as their owner says they are; a name that is no encoding is refused at once."""

import gzip
from pathlib import Path

import pytest

from qcore.config import ConfigError, DataConfig, DataError, check_source, default_run
from qcore.data import load_corpus
from tests.support.configs import small_config

CASES = {
    "cp1252": "“Über den Fluß”, said the café’s owner — twice.",
    "latin-1": "Über den Fluß, dit le café.",
    "CP1251": "Мама мыла раму, а папа читал газету.",
    "Shift_JIS": "吾輩は猫である。名前はまだ無い。",
    "gb18030": "学而时习之，不亦说乎？",
    "euc-kr": "나랏말싸미 듕귁에 달아",
    "utf-16-le": "Without a mark at its beginning.",
}


def text(**settings: str) -> tuple[str, ...]:
    return load_corpus(DataConfig(source="text", **settings)).documents


@pytest.mark.parametrize("encoding", CASES)
def test_a_text_is_read_in_the_encoding_that_is_named(tmp_path: Path, encoding: str) -> None:
    said = CASES[encoding]
    path = tmp_path / "a.txt"
    path.write_bytes((said + "\r\n").encode(encoding))
    with pytest.raises(DataError, match=r"UTF-8|UTF-16"):
        text(path=str(path))
    assert text(path=str(path), encoding=encoding) == (said,)
    check_source(default_run().with_values({"source": "text", "path": str(path), "encoding": encoding}))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress((said[::-1] + "\n").encode(encoding)))
    assert text(path=str(tmp_path), encoding=encoding) == (said, said[::-1])


def test_a_table_too_and_through_the_builders(tmp_path: Path) -> None:
    rows = ["id;text", "1;Über", "2;café"]
    (tmp_path / "t.csv").write_bytes("\n".join(rows).encode("cp1252"))
    (tmp_path / "t.jsonl").write_text('{"text": "Über"}\n')
    assert text(path=str(tmp_path / "t.csv"), encoding="cp1252") == ("Über", "café")
    assert text(path=str(tmp_path / "t.jsonl"), encoding="cp1252") == ("Über",), "JSON is UTF-8"
    for builder, found in (("csv", ("Über", "café")), ("text", ("\n".join(rows),))):
        config = DataConfig(
            source="huggingface", hub_name=builder, data_files=str(tmp_path / "t.csv"), encoding="cp1252"
        )
        assert load_corpus(config).documents == found


def test_a_mark_at_the_beginning_wins(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "a.txt").write_bytes("Über".encode(encoding))
        assert text(path=str(tmp_path / "a.txt"), encoding="cp1252") == ("Über",)


def test_a_file_that_is_not_so_encoded_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\nbad \x81 byte")
    where = r"a\.txt' is not cp1252: byte 0x81 at offset 9, line 2; set data\.encoding to the file's own"
    with pytest.raises(DataError, match=where):
        text(path=str(tmp_path / "a.txt"), encoding="cp1252")
    settings = {"source": "text", "path": str(tmp_path / "a.txt")}
    with pytest.raises(DataError, match=where):
        check_source(default_run().with_values({**settings, "encoding": "cp1252"}))
    with pytest.raises(
        DataError, match=r"is not UTF-8: .* line 2; save it as UTF-8, or name its encoding in data\.enc"
    ):
        check_source(default_run().with_values(settings))
    (tmp_path / "b.txt").write_bytes("Über".encode("cp1252"))
    found = load_corpus(DataConfig(source="text", path=str(tmp_path), encoding="cp1252"))
    assert found.documents == ("Über",)
    assert [file.reason.partition(":")[0] for file in found.skipped] == ["is not cp1252"]


@pytest.mark.parametrize(
    "name", ["klingon", "base64", "rot13", "zlib_codec", "utf-7", "idna", "tis260", "../os", "os.path", "x" * 500]
)
def test_what_is_no_encoding_is_refused_by_its_name_before_a_run_exists(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"encoding = .* is refused: it is no encoding of text that Python knows"
    ) as told:
        small_config(source="text", path="a.txt", encoding=name)
    assert repr(name[:60]) in str(told.value)
    assert len(str(told.value)) < 400


def test_a_near_name_is_proposed() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cp1252'"):
        small_config(encoding="cp12522")
    assert DataConfig(encoding=" CP1252 ").encoding == "CP1252"


@pytest.mark.parametrize("source", ["text", "huggingface"])
def test_a_run_by_earlier_rules_says_that_it_knows_no_encodings(tmp_path: Path, source: str) -> None:
    (tmp_path / "a.txt").write_bytes(b"abc " * 99)
    place = {"path": str(tmp_path / "a.txt"), "hub_name": "text", "data_files": str(tmp_path / "a.txt")}
    with pytest.raises(
        DataError, match="encoding = 'cp1252' is refused: this run reads by the rules of data_version 1"
    ):
        load_corpus(DataConfig(source=source, data_version=1, encoding="cp1252", **place))
