"""Changes as a person writes them, one a line: `diversity_weight = 0.3`."""

from __future__ import annotations

from qcore.config import ConfigError

CHANGES_HELP = (
    "One a line: `diversity_weight = 0.3`. Live controls, data, `order_seed` (other batches from the same weights), or "
    "sizes of the model, which then grows and keeps its function. Empty: the fork equals its parent bit for bit."
)


def read_changes(text: str) -> dict[str, str]:
    """Name → value, not checked yet. `ConfigError` names a line that is no change."""
    found = {}
    for line in text.splitlines():
        name, sign, value = (part.strip() for part in line.partition("="))
        if not line.strip():
            continue
        if not sign or not name or not value:
            raise ConfigError(f"{line.strip()!r} is refused: write name = value, such as diversity_weight = 0.3")
        found[name] = value
    return found
