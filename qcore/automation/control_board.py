"""The control board: current values of the controls that may change while training.

A pure function of the run's configuration and its control events, so that replaying the events gives the same board.
Only the trainer's thread touches it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qcore.config import ConfigError, RunConfig, SetControl, live_controls


class ControlBoard(Mapping[str, Any]):
    """Mapping of control name → current value; `set` checks against the declaration."""

    def __init__(self, config: RunConfig) -> None:
        self._values = config.live_values()
        self.kind = config.kind
        self._config = config

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def check(self, name: Any, value: Any, *, stored: bool = False) -> SetControl:
        """The change in the declared type.

        Args:
            stored: it was accepted before.

        Raises:
            ConfigError: when it is refused.
        """
        return SetControl(*self._config.check_change(name, value, stored=stored))

    def take(self, checked: SetControl) -> Any:
        """Make a change that `check` has just given; returns the old value."""
        old = self._values[checked.name]
        self._values[checked.name] = checked.value
        return old

    def set(self, name: str, value: Any, *, stored: bool = False) -> Any:
        """Change one control and return its old value.

        Raises:
            ConfigError: when it is refused; nothing is changed then.
        """
        return self.take(self.check(name, value, stored=stored))

    def is_risky(self, name: str) -> bool:
        """Whether a checkpoint must be written before this control changes."""
        return live_controls(self.kind)[name].risky

    def restore(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Take the values of a checkpoint; controls that it does not know keep theirs, and so do those whose value
        there is refused: why, by name.
        """
        refused = {}
        for name, value in values.items():
            if name in self._values:
                try:
                    self.set(name, value, stored=True)
                except ConfigError as error:
                    refused[name] = str(error)
        return refused
