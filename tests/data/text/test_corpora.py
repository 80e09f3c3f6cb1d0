"""Corpora: what a document is, and what a person is told when a source is wrong."""

import csv
import json
import os

import pytest

from qcore.config import DataConfig
from qcore.data import load_corpus, open_dataset
from qcore.data.text.documents import PIECE, divide

WIKITEXT = " \n = First title = \n\n Text one . \n\n = = Section = = \n\n more \n = Second title = \n\n Text two . \n"


def text_corpus(path):
    return load_corpus(DataConfig(source="text", path=str(path)))


def test_stories_and_bilingual_carry_their_nats():
    for source in ("stories", "bilingual"):
        corpus = load_corpus(DataConfig(source=source, documents=30))
        assert corpus.name == source
        assert len(corpus.documents) == len(corpus.nats) == 30
    assert load_corpus(DataConfig(documents=30, data_seed=1)) != load_corpus(DataConfig(documents=30))


def test_python_documentation():
    corpus = load_corpus(DataConfig(source="pydoc"))
    assert len(corpus.documents) > 50
    assert sum(map(len, corpus.documents)) > 200_000
    assert corpus.nats is None
    assert any("assert" in document for document in corpus.documents)
    assert not any("\n\n\n" in document or " \n" in document for document in corpus.documents)


def test_a_single_file_is_divided_at_blank_lines(tmp_path):
    paragraphs = [f"Paragraph {i} " + "word " * 60 for i in range(40)]
    (tmp_path / "a.txt").write_bytes("\r\n\r\n".join(paragraphs).encode())
    corpus = text_corpus(tmp_path / "a.txt")
    assert corpus.name == "a.txt"
    assert 5 < len(corpus.documents) < 20
    assert all(document.startswith("Paragraph") and len(document) >= PIECE - 4 for document in corpus.documents)
    assert "\r" not in "".join(corpus.documents)


@pytest.mark.parametrize("separator", ["\n\n", "\n", " "])
def test_dividing_loses_nothing(separator):
    text = separator.join(f"sentence-number-{i}." for i in range(1000))
    pieces = divide(text)
    assert "".join(pieces) == text
    assert len(pieces) > 5
    assert min(map(len, pieces)) >= PIECE // 2
    assert divide("short") == ["short"]
    assert divide("x" * 5000) == ["x" * 5000]


def test_wikitext_is_divided_by_article(tmp_path):
    (tmp_path / "wiki.txt").write_text(WIKITEXT)
    documents = text_corpus(tmp_path / "wiki.txt").documents
    assert len(documents) == 2
    assert documents[0].startswith(" = First title = ")
    assert "= = Section = =" in documents[0]
    assert "".join(documents).replace("\n", "") == WIKITEXT.replace("\n", "")[1:]


def test_a_folder_is_one_document_a_file_in_sorted_order(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b.md").write_text("second\n\nwith a blank line")
    (tmp_path / "a.py").write_text("    first = 1\n")
    (tmp_path / "sub" / "c.txt").write_bytes(b"\xef\xbb\xbfthird \xc3\xbc")
    (tmp_path / ".git" / "config").write_text("hidden")
    (tmp_path / ".hidden").write_text("hidden")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xd8")
    (tmp_path / "nul.bin").write_bytes(b"ab\0cd")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    corpus = text_corpus(tmp_path)
    assert corpus.documents == ("    first = 1", "second\n\nwith a blank line", "third ü")
    assert corpus.name == tmp_path.name
    reasons = {file.path: file.reason for file in corpus.skipped}
    assert reasons == {
        "broken": "is a link to nothing (No such file or directory)",
        "empty.txt": "is empty",
        "image.png": "is a PNG picture",
        "nul.bin": "is a .bin file",
        "pipe": "is a pipe, not a file",
    }
    assert corpus.notes == ("2 hidden names were skipped",)
    assert corpus.size == sum((tmp_path / name).stat().st_size for name in ("a.py", "b.md", "sub/c.txt"))


def test_a_folder_of_one_file_is_divided_like_the_file(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join("word " * 100 for _ in range(20)))
    assert text_corpus(tmp_path).documents == text_corpus(tmp_path / "a.txt").documents
    assert len(text_corpus(tmp_path).documents) > 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "latin.txt",
            "für".encode("latin-1"),
            r"latin\.txt' is not UTF-8: byte 0xFC at offset 1, line 1; save it as UTF-8",
        ),
        ("empty.txt", b"", r"empty\.txt' is empty"),
        ("blank.txt", b" \n\t\n", r"blank\.txt' is empty"),
        ("nul.txt", b"abc\0", r"nul\.txt' is binary \(a NUL at byte offset 3\), not text: give a text file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        text_corpus(tmp_path / name)


def test_bad_places_are_named(tmp_path):
    with pytest.raises(ValueError, match="'/no/such/place' does not exist: give a UTF-8 text file"):
        text_corpus("/no/such/place")
    with pytest.raises(ValueError, match=r"data\.path is empty"):
        text_corpus("")
    with pytest.raises(ValueError, match=r"data.path .* no file under it holds UTF-8 text \(it holds no files\)"):
        text_corpus(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="is a pipe, not a file"):
        text_corpus(tmp_path / "pipe")


def test_a_one_document_text_says_what_is_missing(tmp_path):
    (tmp_path / "a.txt").write_text("One line only.")
    with pytest.raises(ValueError, match="two different documents, and the source has 1"):
        open_dataset(DataConfig(source="text", path=str(tmp_path / "a.txt")), 8, None)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The real loader, offline, on local files and with its cache in the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def load(builder, file, **settings):
        return load_corpus(DataConfig(source="huggingface", hub_name=builder, data_files=str(file), **settings))

    rows = [{"text": f"Row {i} é.", "title": f"T{i}", "number": i} for i in range(6)]
    (tmp_path / "rows.json").write_text("\n".join(map(json.dumps, [*rows, {"text": " ", "title": "x", "number": 7}])))
    (tmp_path / "lines.txt").write_text("one\ntwo\n\nthree\n")
    (tmp_path / "wiki.txt").write_text(WIKITEXT)
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], ["a, b", 1], ["c", 0]])
    load.folder = tmp_path
    return load


def test_local_files_through_the_hub_loader(hub):
    corpus = hub("json", hub.folder / "rows.json")
    assert corpus.documents == tuple(f"Row {i} é." for i in range(6))
    assert (corpus.name, corpus.nats) == ("json", None)
    assert hub("json", hub.folder / "rows.json", text_column="title", hub_split="train[:2]").documents == ("T0", "T1")
    assert hub("text", hub.folder / "lines.txt").documents == ("one\ntwo\n\nthree",), "one file is one document"
    assert hub("csv", hub.folder / "rows.csv").documents == ("a, b", "c")
    articles = hub("text", hub.folder / "wiki.txt").documents
    assert [text.split("\n")[0].strip() for text in articles] == ["= First title =", "= Second title ="]


def test_hub_mistakes_are_named(hub):
    rows = hub.folder / "rows.json"
    with pytest.raises(ValueError, match=r"no column 'txt'; did you mean 'text'.*'text', 'title', 'number'"):
        hub("json", rows, text_column="txt")
    with pytest.raises(ValueError, match=r"rows\.json', line 1: column 'number' holds a number, not text"):
        hub("json", rows, text_column="number")
    with pytest.raises(ValueError, match=r"hub_split 'trian' is refused.*local files are one split, train"):
        hub("json", rows, hub_split="trian")
    with pytest.raises(ValueError, match=r"nowhere\.json"):
        hub("json", hub.folder / "nowhere.json")
    with pytest.raises(ValueError, match=r"'nobody/nothing'.*could not be loaded.*offline by its setting"):
        load_corpus(DataConfig(source="huggingface", hub_name="nobody/nothing"))
    with pytest.raises(ValueError, match="hub_name is empty"):
        load_corpus(DataConfig(source="huggingface"))


def test_a_held_out_file_is_the_whole_validation_side(tmp_path):
    for name, word in (("train.txt", "alpha"), ("test.txt", "omega")):
        (tmp_path / name).write_text("\n\n".join(f"{word} {number} " * 60 for number in range(12)))
    config = DataConfig(
        source="text", tokenizer="byte", path=str(tmp_path / "train.txt"), validation_path=str(tmp_path / "test.txt")
    )
    dataset = open_dataset(config, 16, None)
    sides = [dataset.tokenizer.decode(side.tokens_N.tolist()) for side in (dataset.train, dataset.validation)]
    assert ("alpha" in sides[0], "omega" in sides[0]) == (True, False)
    assert ("alpha" in sides[1], "omega" in sides[1]) == (False, True)
    assert sides[1].count("omega") == 12 * 60, "nothing is left out"
    assert dataset.report.duplicates == 0
    same = config.model_copy(update={"validation_path": config.path})
    report = open_dataset(same, 16, None).report
    assert report.duplicates == report.train_documents


def test_a_wrong_held_out_place_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("some text " * 500)
    with pytest.raises(ValueError, match=r"data\.validation_path = '/no/such' does not exist"):
        open_dataset(DataConfig(source="text", path=str(tmp_path / "a.txt"), validation_path="/no/such"), 8, None)
    with pytest.raises(ValueError, match="goes with the source 'text'"):
        open_dataset(DataConfig(documents=30, validation_path=str(tmp_path / "a.txt")), 8, None)
