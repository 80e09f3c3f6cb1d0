"""Changes as a person writes them in a form, one a line: `diversity_weight = 0.3`."""

from __future__ import annotations

from qcore import config

CHANGES_HELP = (
    "One a line: `diversity_weight = 0.3`. Live controls, data, `order_seed` (other batches from the same weights), or "
    "sizes of the model, which then grows and keeps its function. Empty: the fork equals its parent bit for bit."
)


def read_changes(text: str) -> dict[str, str]:
    """Name → value, not checked yet. `ConfigError` names a line that is no change."""
    return config.read_changes(text.splitlines(), "write name = value, such as diversity_weight = 0.3")
