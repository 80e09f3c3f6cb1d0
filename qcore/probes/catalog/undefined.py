"""Series that may rightly have no value: a ratio to nothing, a mean over nothing. They are NaN then.

Any other series that is NaN is a finding (`nonfinite_series`); an infinite one always is.
"""

from __future__ import annotations

import re

__all__ = ["may_be_undefined"]

_UNDEFINED = re.compile(
    r"(tokens|shift|strict|geometry|phase|concept|causality|batch|generation|coherence|interference|perplexity|internals"
    r"|frames|clips|flow|anchor|energy|accumulation|weights|video|router|cost)/.*"
)
"""Statistics of a mask that may be empty, of rows that may be one, of a reference that may be 0."""


def may_be_undefined(name: str) -> bool:
    """Whether NaN is an answer that this series may give.

    >>> may_be_undefined("eval/ce"), may_be_undefined("phase/coverage")
    (False, True)
    """
    return _UNDEFINED.fullmatch(name) is not None
