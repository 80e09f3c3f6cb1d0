"""How much of a text stands word for word in another: what a model has learned by heart."""

from __future__ import annotations

import numpy as np


def longest_copy(ids: np.ndarray, source_N: np.ndarray) -> int:
    """Most ids in a row of `ids` that stand just so in `source_N`; exact, by one pass over the source for each id.

    run_t[n] = run_{t−1}[n − 1] + 1 where source_N[n] is ids[t], else 0; the answer is the largest run. O(T · N) simple
    operations: 40 ids against 100,000 take some milliseconds.

    >>> longest_copy(np.array([7, 1, 2, 3, 9]), np.array([1, 2, 3, 4, 1, 2]))
    3
    """
    longest = 0
    run_N = np.zeros(len(source_N) + 1, dtype=np.int32)  # one place before the first, whose run is always 0
    for token in ids:
        run_N[1:] = np.where(source_N == token, run_N[:-1] + 1, 0)
        longest = max(longest, int(run_N.max()))
    return longest
