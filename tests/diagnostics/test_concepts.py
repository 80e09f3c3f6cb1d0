"""Concept alignment: analytic chance against every permutation, its limits, and pairs of the two-language corpus."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from torch.nn import functional

from qcore.config import DataConfig
from qcore.data import build_tokenizer, translation_pairs, translations
from qcore.data.text.stories import write_bilingual
from qcore.diagnostics import concept_alignment


def one_hot(*tops: int, concepts: int = 4) -> torch.Tensor:
    return 0.9 * functional.one_hot(torch.tensor(tops), concepts).double() + 0.1 / concepts


def test_chance_and_its_error_are_those_of_all_permutations():
    tops = (0, 0, 1, 2, 3, 1, 1, 0, 0, 2)
    pairs = [(i, i + 5) for i in range(5)]
    found = concept_alignment(one_hot(*tops), pairs)
    shares = [sum(tops[i] == tops[5 + j] for i, j in enumerate(order)) / 5 for order in permutations(range(5))]
    assert found.agreement == shares[0]
    assert found.chance == pytest.approx(np.mean(shares))
    assert found.chance_error == pytest.approx(np.std(shares))
    assert found.z == pytest.approx((shares[0] - np.mean(shares)) / np.std(shares))


def test_a_perfect_map_agrees_everywhere_far_above_chance():
    count, concepts = 60, 20
    tops = [i % concepts for i in range(count)]
    found = concept_alignment(one_hot(*tops, *tops, concepts=concepts), [(i, count + i) for i in range(count)])
    assert found.agreement == 1.0
    assert found.chance == pytest.approx(1 / concepts)
    assert found.z > 30
    assert found.cosine == pytest.approx(1.0)
    assert found.cosine_chance < 0.2
    assert found.scalars().keys() == {
        f"concept/{name}"
        for name in ("alignment", "alignment_chance", "alignment_error", "alignment_z", "cosine", "cosine_chance")
    }
    assert found.arrays()["top"].tolist() == tops * 2


def test_a_random_map_stays_near_chance():
    shares = torch.rand(400, 10, generator=torch.Generator().manual_seed(3)).softmax(1)
    found = concept_alignment(shares, [(i, 200 + i) for i in range(200)])
    assert abs(found.z) < 3
    assert found.cosine == pytest.approx(found.cosine_chance, abs=0.02)


def test_one_concept_for_all_words_proves_nothing():
    found = concept_alignment(one_hot(*[2] * 8), [(i, i + 4) for i in range(4)])
    assert (found.agreement, found.chance) == (1.0, 1.0)
    assert math.isnan(found.z)
    assert "concept/alignment_z" not in found.scalars()


def test_words_without_concepts_are_left_out_and_few_pairs_have_no_chance_level():
    shares = one_hot(0, 1, 0, 1)
    shares[3] = math.nan
    found = concept_alignment(shares, [(0, 2), (1, 3)])
    assert found.pairs_N2.tolist() == [[0, 2]]
    assert found.top_V.tolist() == [0, 1, 0, -1]
    assert found.share_V[3] == 0
    assert set(found.scalars()) == {"concept/alignment", "concept/cosine"}
    assert concept_alignment(shares, []).scalars() == {}


@pytest.mark.parametrize("bad", [torch.ones(3), torch.ones(0, 4)])
def test_bad_shapes_and_ids_are_refused(bad):
    with pytest.raises(ValueError, match=r"pass \[vocabulary, concepts\]"):
        concept_alignment(bad, [])
    with pytest.raises(ValueError, match="a pair holds the token 9"):
        concept_alignment(torch.ones(4, 2), [(0, 9)])


def test_translation_pairs_are_single_tokens_of_both_languages():
    texts = [story.text for story in write_bilingual(400, seed=1)]
    tokenizer = build_tokenizer(DataConfig(source="bilingual", tokenizer="word", vocab_size=2000), texts)
    pairs = translation_pairs(tokenizer)
    lexicon = dict(translations())
    assert len(pairs) > 0.9 * len(lexicon)
    for english, invented in pairs:
        first, second = (tokenizer.decode([token]).strip().lower() for token in (english, invented))
        assert lexicon[first] == second
    assert len({token for pair in pairs for token in pair}) == 2 * len(pairs)
    assert translation_pairs(build_tokenizer(DataConfig(tokenizer="byte"), [])) == ()
    bpe = build_tokenizer(DataConfig(tokenizer="bpe", vocab_size=1500), texts)
    for english, invented in translation_pairs(bpe):
        first, second = (bpe.decode([token]).strip().lower() for token in (english, invented))
        assert lexicon[first] == second
