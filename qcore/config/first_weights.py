"""Which first weights models start from, while the exam builds them: their family's own, or other people's.

The schemes themselves are `qcore.models.initialisation`; here is only which one is in force, so that the exam can be
read, and asked for, without torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from qcore.config.controls import ConfigError

SCHEMES = ("pytorch", "small", "gpt2")
_in_force = [""]
"""One place for all threads: runs train in threads of their own, which a context variable would not reach."""


@contextlib.contextmanager
def starting_like(scheme: str) -> Iterator[None]:
    """Models that the factory builds in here, in any thread, start from `scheme`; "" changes nothing.

    Raises:
        ConfigError: for a scheme that is not in `SCHEMES`.
    """
    if scheme and scheme not in SCHEMES:
        raise ConfigError(f"first weights {scheme!r} are not known; take {', '.join(SCHEMES)}")
    before, _in_force[0] = _in_force[0], scheme
    try:
        yield
    finally:
        _in_force[0] = before


def scheme_in_force() -> str:
    """The scheme of the exam that is going on; "" everywhere else."""
    return _in_force[0]
