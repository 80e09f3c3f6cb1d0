"""Tokenizers: exact round trips, fixed special ids that no text can reach, JSON that gives the same ids."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.config import DataConfig
from qcore.data import build_tokenizer, tokenizer_from_json
from qcore.data.text.stories import story_grammar, write_bilingual, write_stories
from qcore.data.text.tokenizers import SPECIALS, ByteTokenizer

STORIES = [story.text for story in write_stories(1500, seed=0)]
HOSTILE = "<eos> <pad>x<unk>\n<bos><eos>"


@pytest.fixture(scope="module", params=["byte", "word", "bpe"])
def tokenizer(request):
    return build_tokenizer(DataConfig(tokenizer=request.param, vocab_size=600), [*STORIES, HOSTILE * 50])


def test_stories_round_trip(tokenizer):
    for text in STORIES[:200]:
        ids = tokenizer.encode(text)
        assert tokenizer.unk_id not in ids
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=True)) == text
    assert [ids.tolist() for ids in tokenizer.encode_documents(STORIES)] == [tokenizer.encode(text) for text in STORIES]


def test_special_ids(tokenizer):
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert [tokenizer.token_text(token) for token in range(4)] == list(SPECIALS)
    ids = tokenizer.encode("She looked.", add_special_tokens=True)
    assert (ids[0], ids[-1]) == (1, 2)
    assert ids[1:-1] == tokenizer.encode("She looked.")
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<bos>She looked.<eos>"
    assert tokenizer.decode([0, 1, 2, 3]) == ""
    assert tokenizer.decode([]) == ""
    assert tokenizer.encode("") == []


def test_special_text_is_ordinary_text(tokenizer):
    ids = tokenizer.encode(HOSTILE)
    assert min(ids) > 3
    assert tokenizer.decode(ids) == HOSTILE


def test_json_gives_the_same_ids(tokenizer):
    again = tokenizer_from_json(tokenizer.to_json())
    assert again.name == tokenizer.name
    assert again.vocab_size == tokenizer.vocab_size
    for text in [*STORIES[:50], HOSTILE, "Zürich 漢字 🦊 \x00"]:
        assert again.encode(text) == tokenizer.encode(text)
    assert again.to_json() == tokenizer.to_json()


def test_labels_are_printable_and_distinct(tokenizer):
    labels = [tokenizer.token_text(token) for token in range(tokenizer.vocab_size)]
    assert all(label and label.isprintable() and " " not in label for label in labels)
    assert len(set(labels)) == len(labels)


def test_ids_outside_the_vocabulary_are_refused(tokenizer):
    for token in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match="outside the vocabulary"):
            tokenizer.decode([token])
        with pytest.raises(ValueError, match="outside the vocabulary"):
            tokenizer.token_text(token)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_bytes_round_trip_any_text(text):
    assert ByteTokenizer().decode(ByteTokenizer().encode(text, add_special_tokens=True)) == text


BPE = build_tokenizer(DataConfig(tokenizer="bpe", vocab_size=400), STORIES[:200])


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_bpe_round_trips_any_text_without_unk(text):
    ids = BPE.encode(text)
    assert all(token > 3 for token in ids)
    assert BPE.decode(ids) == text


@given(st.lists(st.integers(0, 259)))
@settings(max_examples=100, deadline=None)
def test_any_bytes_decode(ids):
    assert isinstance(ByteTokenizer().decode(ids), str)


def test_invalid_text_does_not_break():
    assert ByteTokenizer().decode([4 + 0xE2, 4 + 0x82]) == "\ufffd"
    assert ByteTokenizer().decode(ByteTokenizer().encode("a\ud800b")) == "a?b"
    assert BPE.decode(BPE.encode("a\ud800b")) == "a?b"
    assert BPE.decode(BPE.encode("€")[:-1]).endswith("\ufffd")


def test_word_tokens_keep_every_blank():
    text = '  Two  spaces,\n\n\ttabs — "quotes" a_b don\'t ▁ über.  '
    word = build_tokenizer(DataConfig(tokenizer="word", vocab_size=300), [text])
    assert word.decode(word.encode(text)) == text
    assert word.token_text(word.encode("x über")[1]) == "␣über"


def test_unknown_words_are_unk_and_visible():
    word = build_tokenizer(DataConfig(tokenizer="word", vocab_size=300), STORIES)
    ids = word.encode("She painted the dragon.")
    assert ids.count(word.unk_id) == 2
    assert word.decode(ids, skip_special_tokens=False) == "She<unk> the<unk>."
    assert word.decode(ids) == "She the."


def test_word_vocabulary_is_the_most_frequent_words():
    words = build_tokenizer(DataConfig(tokenizer="word", vocab_size=32), STORIES)
    assert words.vocab_size == 32
    everything = build_tokenizer(DataConfig(tokenizer="word", vocab_size=5000), STORIES)
    assert [words.token_text(t) for t in range(32)] == [everything.token_text(t) for t in range(32)]
    assert everything.vocab_size < 300  # the grammar's words, some with and without a space before them
    assert len(story_grammar().words()) < everything.vocab_size
    assert everything.encode(write_bilingual(20, 0)[3].text) is not None


def test_errors_name_the_value_and_the_remedy():
    with pytest.raises(ValueError, match="vocab_size is 100; a BPE vocabulary needs at least 260"):
        build_tokenizer(DataConfig(tokenizer="bpe", vocab_size=100), STORIES[:5])
    for text in ("", "[]", "{}", '{"format": "other"}', '{"format": "qcore-tokenizer-1", "kind": "sentence"}'):
        with pytest.raises(ValueError, match="not a tokenizer of this lab"):
            tokenizer_from_json(text)
    description = json.loads(BPE.to_json())
    description["tokenizer"]["model"]["vocab"].pop("<pad>")
    with pytest.raises(ValueError, match="not a tokenizer of this lab"):
        tokenizer_from_json(json.dumps(description))
