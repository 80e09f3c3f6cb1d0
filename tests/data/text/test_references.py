"""Witten–Bell against hand-made numbers, normalisation, the generator's floor, the cache."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from qcore.config import DataConfig
from qcore.data import bits_per_byte, ngram_nats, open_dataset
from qcore.data.text.dataset import Dataset
from qcore.data.text.references import References, load_or_compute


def slow_witten_bell(train, context, word, vocab_size):
    """The formula as written, by counting."""
    p = 1 / vocab_size
    for n in range(len(context) + 1):
        h = tuple(context[len(context) - n :])
        follow = [train[i] for i in range(n, len(train)) if tuple(train[i - n : i]) == h]
        if follow:
            p = (follow.count(word) + len(set(follow)) * p) / (len(follow) + len(set(follow)))
    return p


def test_by_hand():
    train, evaluate = np.array([0, 1, 0, 1, 1]), np.array([1, 0, 2])
    uniform = 1 / 3
    unigram = [(3 + 2 * uniform) / 7, (2 + 2 * uniform) / 7, (2 * uniform) / 7]
    # After 1: a 0 and a 1 once each; after 0: 1 twice. The first position has no context.
    bigram = [unigram[0], (1 + 2 * unigram[1]) / 4, (0 + 1 * unigram[2]) / 3]
    nats = ngram_nats(train, evaluate, 2, 3)
    np.testing.assert_allclose(nats, -np.log([unigram, bigram]), rtol=1e-12)


@pytest.mark.parametrize("vocab_size", [3, 5, 50_000])
def test_agrees_with_plain_counting(vocab_size):
    rng = np.random.default_rng(vocab_size)
    train, evaluate = rng.integers(0, min(vocab_size, 6), 200), rng.integers(0, min(vocab_size, 7), 60)
    nats = ngram_nats(train, evaluate, 4, vocab_size)
    for n in range(1, 5):
        for i in range(60):
            context = evaluate[max(0, i - n + 1) : i].tolist()
            expected = slow_witten_bell(train.tolist(), context, int(evaluate[i]), vocab_size)
            assert nats[n - 1, i] == pytest.approx(-math.log(expected), rel=1e-10)


@pytest.mark.parametrize("context", [[0, 1], [1, 1], [4, 4], [1, 4], [4, 1], [5, 0]])
def test_sums_to_one_for_seen_and_unseen_contexts(context):
    train, vocab_size = np.array([0, 1, 2, 0, 1, 1, 3, 0, 1, 2, 5]), 6  # 4 never occurs; 5 only at the end
    only_last = np.array([False, False, True])
    nats = [ngram_nats(train, np.array([*context, w]), 3, vocab_size, None, only_last) for w in range(vocab_size)]
    assert np.exp(-np.stack(nats)).sum(axis=0) == pytest.approx(np.ones((3, 1)), abs=1e-12)


def test_masked_tokens_are_context_but_no_targets():
    train = np.array([1, 0, 1, 2, 1, 0])
    nats = ngram_nats(train, train, 2, 3, train != 1, train != 1)
    assert nats.shape == (2, 3)
    unigram = [(2 + 2 / 3) / 5, (1 + 2 / 3) / 5, (2 + 2 / 3) / 5]
    bigram = [(count + 2 * p) / 5 for count, p in zip((2, 1, 2), unigram, strict=True)]
    np.testing.assert_allclose(nats, -np.log([unigram, bigram]), rtol=1e-12)


def test_a_memorised_text_costs_almost_nothing_and_a_foreign_one_the_uniform():
    train = np.tile(np.arange(50), 200)
    assert ngram_nats(train, train[:1000], 3, 50).mean(axis=1)[2] < 0.03
    foreign = ngram_nats(np.zeros(1000, int), np.full(100, 7), 3, 10)
    assert foreign[:, 50] == pytest.approx(math.log(10 * 1001), rel=1e-9)


def test_errors():
    one = np.array([0, 1])
    with pytest.raises(ValueError, match="at least 1, not 0"):
        ngram_nats(one, one, 0, 2)
    with pytest.raises(ValueError, match="at least one training target"):
        ngram_nats(np.array([], int), one, 1, 2)
    with pytest.raises(ValueError, match="at least one evaluated target"):
        ngram_nats(one, one, 1, 2, None, np.array([False, False]))
    with pytest.raises(ValueError, match="evaluated tokens span 0 … 2, outside 0 … 1"):
        ngram_nats(one, np.array([0, 2]), 1, 2)


@pytest.fixture(scope="module", params=[("byte", "packed"), ("word", "packed"), ("bpe", "packed"), ("word", "padded")])
def data(request) -> Dataset:
    tokenizer, packing = request.param
    return open_dataset(DataConfig(documents=1000, tokenizer=tokenizer, packing=packing), 128, None)


def test_references_are_ordered_and_the_generator_is_below_them(data):
    r = data.references
    assert r.uniform == pytest.approx(math.log(data.tokenizer.vocab_size))
    assert r.uniform > r.unigram > r.bigram > r.trigram > r.generator > 0
    assert 0.15 < bits_per_byte(r.generator, data.bytes_per_token) < 0.2


def test_the_generator_is_the_exact_nats_over_all_validation_targets(data):
    from qcore.data.text.stories import story_grammar

    texts = "".join(data.tokenizer.decode(data.validation.tokens_N.tolist(), skip_special_tokens=False)).split("<eos>")[
        :-1
    ]
    nats = sum(-story_grammar().log_probability(text.removeprefix("<bos>")) for text in texts)
    targets = sum(int(batch.mask_BT.sum()) for batch in data.validation_batches(8, 10_000))
    assert len(texts) == data.report.validation_documents
    assert data.references.generator == pytest.approx(nats / targets, rel=1e-9)
    size = sum(len(text.removeprefix("<bos>").encode()) for text in texts)
    assert data.bytes_per_token == pytest.approx(size / targets)


def test_token_counts_are_the_training_targets(data):
    assert data.token_counts.dtype == np.int64
    assert data.token_counts.shape == (data.tokenizer.vocab_size,)
    assert data.token_counts.sum() == data.train.targets_N.sum()
    assert data.token_counts[data.tokenizer.eos_id] == data.report.train_documents
    assert data.token_counts[data.tokenizer.pad_id] == 0


def test_no_floor_where_tokens_are_less_than_the_text():
    cut = open_dataset(DataConfig(documents=100, packing="padded"), 16, None)
    assert cut.report.truncated == 100
    assert cut.references.generator is None
    assert cut.bytes_per_token == pytest.approx(4, abs=1)
    assert open_dataset(DataConfig(documents=100, vocab_size=64), 16, None).references.generator is None
    assert open_dataset(DataConfig(source="pydoc", tokenizer="byte"), 64, None).references.generator is None


def test_bilingual_has_a_floor_one_bit_a_story_higher():
    data = open_dataset(DataConfig(documents=400, source="bilingual"), 64, None)
    assert 0.4 < data.references.generator < data.references.trigram


def test_the_cache_saves_the_counting_and_survives_damage(tmp_path, monkeypatch):
    config = DataConfig(documents=100)
    first = open_dataset(config, 32, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr("qcore.data.text.dataset.ngram_nats", lambda *_: pytest.fail("computed in spite of the cache"))
    assert open_dataset(config, 32, tmp_path / "cache").references == first.references
    monkeypatch.undo()
    for damage in (
        b"",
        b"{",
        b"[1]",
        b'{"uniform": 1.0}',
        b"\xff\xfe",
        b'{"uniform": NaN, "unigram": 1.0, "bigram": 1.0, "trigram": 1.0, "generator": null}',
    ):
        file.write_bytes(damage)
        assert open_dataset(config, 32, tmp_path / "cache").references == first.references
        assert file.stat().st_size > 60
    assert [path.suffix for path in file.parent.iterdir()] == [".json"]


def test_an_unusable_cache_folder_does_not_stop_the_run(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    found = References(1.0, 1.0, 1.0, 1.0, None)
    assert load_or_compute(blocked, "x", lambda: found) == found
    assert "could not be kept" in caplog.text


def test_fingerprint_follows_everything_that_matters():
    base = {"documents": 60}
    changes = [{}, {"data_seed": 1}, {"tokenizer": "byte"}, {"packing": "padded"}, {"documents": 61}]
    prints = [open_dataset(DataConfig(**{**base, **change}), 32, None).fingerprint for change in changes]
    prints.append(open_dataset(DataConfig(**base), 33, None).fingerprint)
    assert len(set(prints)) == len(prints)
    assert open_dataset(DataConfig(**base), 32, None).fingerprint == prints[0]


def test_unknown_packing_is_refused():
    config = SimpleNamespace(**{**DataConfig(documents=20).model_dump(), "packing": "loose"})
    with pytest.raises(ValueError, match=r"data.packing is 'loose'; choose packed or padded"):
        open_dataset(config, 16, None)
