"""The longest stretch in common, against a plain search over all places."""

import numpy as np
import pytest

from qcore.diagnostics import longest_copy


def plain(ids: list[int], source: list[int]) -> int:
    best = 0
    for i in range(len(ids)):
        for n in range(len(source)):
            k = 0
            while i + k < len(ids) and n + k < len(source) and ids[i + k] == source[n + k]:
                k += 1
            best = max(best, k)
    return best


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_a_plain_search_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, ids = rng.integers(0, 3, 60), rng.integers(0, 3, 25)
    assert longest_copy(ids, source) == plain(ids.tolist(), source.tolist())


def test_the_ends_count_and_nothing_is_no_copy() -> None:
    source = np.arange(10)
    assert longest_copy(source, source) == 10
    assert longest_copy(np.array([8, 9, 0, 1]), source) == 2
    assert longest_copy(np.array([77]), source) == 0
    assert longest_copy(np.array([], dtype=int), source) == 0
    assert longest_copy(source, np.array([], dtype=int)) == 0
