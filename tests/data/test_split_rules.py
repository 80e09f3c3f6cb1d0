"""Copies and the split: a large group stays in training, what stands on both sides is counted, older runs go on."""

import random

import numpy as np
import pytest

from qcore.config import BEFORE, DataConfig, RunConfig, default_run
from qcore.data import load_corpus, open_dataset
from qcore.data.text.batches import split_documents
from qcore.data.text.overlap import overlap
from qcore.runs.layout import read_config

WORDS = [f"{first}{second}" for first in "bdfgklmnprst" for second in ("a", "ei", "o", "un", "ir", "esk")]


def prose(seed, letters):
    draw = random.Random(seed)
    text = " ".join(draw.choice(WORDS) for _ in range(letters // 3))
    return text[:letters]


@pytest.mark.parametrize("copies", [33, 60, 200, 1000])
def test_a_large_group_of_copies_stays_in_training(copies):
    """Two hundred equal pages among 120 documents: once, up to 207 of the 320 were held out."""
    documents = [f"document {number}" for number in range(120)] + ["page"] * copies
    wanted = round(0.1 * len(documents))
    swallowed = False
    for seed in range(30):
        split = split_documents(documents, 0.1, seed)
        assert "page" not in {documents[number] for number in split.validation}
        assert len(split.validation) == min(wanted, 120)
        assert split.duplicates == copies - 1
        swallowed |= len(split_documents(documents, 0.1, seed, version=1).validation) > 2 * wanted
    assert swallowed or copies < 60, "the case is one"


def test_groups_alone_hold_out_the_smallest():
    documents = ["a"] * 50 + ["b"] * 30 + ["c"] * 90
    for seed in range(5):
        assert {documents[number] for number in split_documents(documents, 0.1, seed).validation} == {"b"}
    assert len(split_documents(["a"] * 9 + ["b"], 0.5, 0).validation) == 1


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5])
def test_documents_without_large_groups_are_split_as_before(fraction):
    single = [f"document {number}" for number in range(300)]
    pairs = single + single[:40]
    for documents in (single, pairs) if fraction > 0.01 else (single,):
        for seed in range(10):
            assert split_documents(documents, fraction, seed) == split_documents(documents, fraction, seed, version=1)
    for source in ("stories", "bilingual", "pydoc"):
        written = load_corpus(DataConfig(source=source, documents=100)).documents
        assert split_documents(written, fraction, 0) == split_documents(written, fraction, 0, version=1)


# Runs from before


def test_a_run_s_file_without_the_key_means_the_rules_of_then(tmp_path):
    for kind in ("phase_lm", "video_flow", "ltx_video"):
        config = default_run(kind)
        assert config.data.data_version == 2
        text = config.to_yaml()
        assert read_text(tmp_path, text).data.data_version == 2
        before = "\n".join(line for line in text.split("\n") if "data_version" not in line)
        assert read_text(tmp_path, before).data.data_version == 1
        assert read_text(tmp_path, before) == config.with_values({"data_version": 1})
        assert RunConfig.from_yaml(before).data.data_version == 2, "a person's file means the rules of now"
    assert read_text(tmp_path, "seed: 3\n").data.data_version == 1
    assert RunConfig.from_yaml("data: {data_version: 2}", before=BEFORE).data.data_version == 2


def read_text(folder, text):
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return read_config(folder)


def test_a_run_from_before_sees_the_same_tokens(tmp_path):
    for number in range(60):
        (tmp_path / f"{number:02}.txt").write_text("the same page " * 20 if number % 2 else prose(number, 400))
    config = DataConfig(source="text", path=str(tmp_path), tokenizer="byte", data_seed=3)
    today, before = (open_dataset(config.model_copy(update={"data_version": v}), 16, None) for v in (2, 1))
    assert today.report.validation_documents == 6
    assert before.report.validation_documents > 30
    assert before.fingerprint != today.fingerprint
    again = open_dataset(config.model_copy(update={"data_version": 1}), 16, None)
    assert again.fingerprint == before.fingerprint
    assert np.array_equal(again.train.tokens_N, before.train.tokens_N)


# What stands on both sides


def test_copies_and_near_copies_are_counted():
    train = [prose(seed, 1500) for seed in range(60)]
    other = [prose(1000 + seed, 1500) for seed in range(20)]
    assert (overlap(train, other).exact, overlap(train, other).near) == (0, 0)
    whole = overlap(train, train[:10] + other)
    assert (whole.looked_at, whole.exact, whole.near) == (30, 10, 0)
    changed = [text.replace(text.split()[40], "changed", 1) for text in train[:7]]
    headed = [f"Copy 3 of page {number}\n{text}" for number, text in enumerate(train[7:12])]
    cut = [text[300:] for text in train[12:15]]
    found = overlap(train, changed + headed + cut + other)
    assert (found.exact, found.near) == (0, 15)
    assert len(found.examples) == 3
    half = [text[:500] + prose(5000 + number, 1000) for number, text in enumerate(train)]
    assert overlap(train, half).near == 0, "a third of a document is no copy"


def test_spaces_and_case_make_no_difference_and_neither_do_languages_without_spaces():
    text = prose(1, 800)
    assert overlap([text], [text.upper().replace(" ", "\n  ") + "!"]).near == 1
    letters = [chr(code) for code in range(0x3041, 0x3090)]
    pages = ["".join(random.Random(seed).choices(letters, k=600)) for seed in range(12)]
    assert overlap(pages[:6], pages[6:]).near == 0
    assert overlap(pages[:6], [page[:300] + "猫" + page[300:] for page in pages[:6]]).near == 6


def test_short_and_repetitive_documents_are_not_accused():
    assert overlap(["yes", "no", "word " * 400], ["maybe", "word " * 399]).near == 0
    assert overlap(["", "short"], ["", "other"]).long_runs == 0
    assert overlap(["a"], ["b"]).share == 0


def test_held_out_text_that_stands_in_training_piece_by_piece_is_found():
    book = prose(1, 60_000)
    windows = [book[at : at + 1400] for at in range(0, 58_000, 700)]
    held_out = windows[5::10]
    train = [window for number, window in enumerate(windows) if number % 10 != 5]
    found = overlap(train, held_out)
    assert found.share < 0.5, "no document is in another by much"
    assert found.contained > 0.7
    assert overlap(train, [prose(500 + seed, 1400) for seed in range(8)]).contained < 0.02


def test_boilerplate_is_counted_apart():
    licence = prose(2, 700)
    train = [licence + prose(10 + seed, 700) for seed in range(60)]
    found = overlap(train, [licence + prose(900 + seed, 700) for seed in range(8)])
    assert (found.exact, found.near) == (0, 0)
    assert 0.4 < found.boilerplate < 0.6
    assert found.contained < 0.02, "what every document has is no sign of a copy"


@pytest.mark.parametrize("source", ["stories", "bilingual"])
@pytest.mark.parametrize("documents", [20, 300, 4000])
def test_a_grammar_s_own_sentences_are_no_contamination(source, documents):
    shares = []
    for seed in range(3):
        found = open_dataset(DataConfig(source=source, documents=documents, data_seed=seed), 16, None).report
        shares.append(found.overlap.share)
        assert found.duplicates < 0.02 * documents
        assert found.warnings() == []
    assert max(shares) < 0.03


def test_the_cost_is_bounded_and_a_sample_is_spread(monkeypatch):
    from qcore.data.text import overlap as module

    monkeypatch.setattr(module, "_TRAINING_LETTERS", 30_000)
    monkeypatch.setattr(module, "_HELD_OUT", 10)
    train = [prose(seed, 1000) for seed in range(120)]
    asked = []
    hashes = module._hashes
    monkeypatch.setattr(
        module, "_hashes", lambda documents: asked.append(sum(map(len, documents))) or hashes(documents)
    )
    found = module.overlap(train, [prose(5000 + seed, 900) for seed in range(100)] + train[:1])
    assert found.looked_at == 10
    assert sum(asked) <= 30_000 + 10 * 900


# What is said


def test_the_report_says_shares_and_what_is_amiss(tmp_path):
    page = prose(0, 900)
    for number in range(40):
        (tmp_path / f"doc{number:02}.txt").write_text(prose(number + 1, 900))
    for number in range(10):
        (tmp_path / f"page{number}.txt").write_text(page)
        (tmp_path / f"near{number}.txt").write_text(f"Copy {number}.\n{prose(77, 900)}")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(60_000))
    report = open_dataset(
        DataConfig(source="text", path=str(tmp_path), data_seed=2, validation_fraction=0.3), 16, None
    ).report
    said = report.sentences()
    assert said[0] == "42 training documents, 18 held out (30 %) from 54 kB"
    assert "9 of 60 documents (15 %) repeat another" in said
    near = report.overlap.near
    assert 1 <= near <= 5
    assert f"{near} of 18 held-out documents that were compared stand in training (0 whole, {near} nearly)" in said
    assert any(line.startswith("1 file not used (60 kB, 53 % of the bytes): photo.jpg is a JPEG") for line in said)
    assert report.facts()["skipped_share"] == pytest.approx(60_004 / (60_004 + report.size))
    assert set(report.warnings()) <= set(said)


def test_unknown_words_are_counted_on_entry(tmp_path):
    letters = [chr(code) for code in range(0x3041, 0x3090)]
    draw = random.Random(0)
    text = "\n".join("".join(draw.choices(letters, k=30)) + "。" for _ in range(400))
    (tmp_path / "a.txt").write_text(text)
    report = open_dataset(DataConfig(source="text", path=str(tmp_path / "a.txt")), 16, None).report
    assert report.held_out_unknown_share > 0.2
    assert f"{100 * report.held_out_unknown_share:.0f} % of the held-out ones <unk>" in report.sentences()[1]
    assert any("<unk>" in line for line in report.warnings())
    bytes_ = open_dataset(DataConfig(source="text", path=str(tmp_path / "a.txt"), tokenizer="byte"), 16, None).report
    assert bytes_.held_out_unknown_share == 0
    assert bytes_.characters_per_token == pytest.approx(1 / 3, abs=0.02)
