"""Commands: requests that change a run, checked on entry. One row of the run's `commands` table each.

The same few dataclasses serve the page's sliders, the CLI, another process and a schedule. `to_row` gives the kind and
the JSON payload that the store keeps; `command_from_row` reads them back in the trainer and raises `ConfigError` for
anything it does not know, so that a row written by hand is refused, never obeyed in part.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, get_args

from qcore.config.controls import ConfigError, nearest_hint
from qcore.config.errors import short_repr
from qcore.config.kinds import MODEL_KINDS
from qcore.config.run import check_live
from qcore.config.sections import SamplingConfig, Section
from qcore.config.video import ClipSamplingConfig

_UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_SETTINGS: tuple[type[Section], ...] = (ClipSamplingConfig, SamplingConfig)


@dataclass(frozen=True)
class SetControl:
    """Change one live control; applied before a step, refused with the range when out of it."""

    kind: ClassVar[str] = "set"
    name: str
    value: Any

    def checked(self) -> SetControl:
        """The same, its value in the declared type.

        Raises:
            ConfigError: for an unknown or fixed name, or a bad value.
        """
        return SetControl(*check_live(self.name, self.value))


@dataclass(frozen=True)
class Acknowledge:
    """Note that a person has seen a finding; it stays, and no longer calls for attention."""

    kind: ClassVar[str] = "acknowledge"
    finding: str

    def checked(self) -> Acknowledge:
        """Raises `ConfigError` unless `finding` is the id of a finding."""
        if not isinstance(self.finding, str) or not self.finding:
            raise ConfigError(f"finding = {short_repr(self.finding)} is refused: it must be the id of a finding")
        return self


@dataclass(frozen=True)
class Mute:
    """Hide a finding, or show it again (`muted` false)."""

    kind: ClassVar[str] = "mute"
    finding: str
    muted: bool = True

    def checked(self) -> Mute:
        """Raises `ConfigError` unless `finding` is the id of a finding and `muted` a truth value."""
        Acknowledge(self.finding).checked()
        if not isinstance(self.muted, bool):
            raise ConfigError(f"muted = {short_repr(self.muted)} is refused: it must be true or false")
        return self


@dataclass(frozen=True)
class Pause:
    """Stop before the next step and wait; commands are still answered at once."""

    kind: ClassVar[str] = "pause"

    def checked(self) -> Pause:
        """Nothing to check."""
        return self


@dataclass(frozen=True)
class Continue:
    """Continue after a pause."""

    kind: ClassVar[str] = "continue"

    def checked(self) -> Continue:
        """Nothing to check."""
        return self


@dataclass(frozen=True)
class Step:
    """While paused: make `count` steps, then pause again."""

    kind: ClassVar[str] = "step"
    count: int = 1

    def checked(self) -> Step:
        """Raises `ConfigError` unless `count` is a whole number from 1 to 100,000."""
        if isinstance(self.count, bool) or not isinstance(self.count, int) or not 1 <= self.count <= 100_000:
            raise ConfigError(
                f"count = {short_repr(self.count)} is refused: it must be a whole number from 1 to 100000"
            )
        return self


@dataclass(frozen=True)
class Stop:
    """Write a checkpoint and end; the run can be resumed."""

    kind: ClassVar[str] = "stop"

    def checked(self) -> Stop:
        """Nothing to check."""
        return self


@dataclass(frozen=True)
class SaveCheckpoint:
    """Write a checkpoint before the next step; it is kept until it is deleted manually."""

    kind: ClassVar[str] = "checkpoint"

    def checked(self) -> SaveCheckpoint:
        """Nothing to check."""
        return self


@dataclass(frozen=True)
class Sample:
    """Continue `prompt` with the model as it is before the next step.

    Attributes:
        generation: id of the row that receives it.
    """

    kind: ClassVar[str] = "sample"
    generation: str
    prompt: str
    settings: dict[str, Any] = field(default_factory=dict)

    def checked(self) -> Sample:
        """Raises `ConfigError` for an empty id, a setting that no family's sampling section has or accepts, or one that
        is given twice.
        """
        if not self.generation or not isinstance(self.generation, str) or not isinstance(self.prompt, str):
            raise ConfigError("a sample needs the id of its generation and a prompt, both text")
        if not isinstance(self.settings, dict):
            raise ConfigError(
                f"settings = {short_repr(self.settings)} is refused: it must map sampling settings to values"
            )
        known = {name: section for section in _SETTINGS for name in section.model_fields}
        values = {}
        for written, value in self.settings.items():
            name = next((found for section in _SETTINGS if (found := section.named(written))), None)
            if name is None:
                raise ConfigError(f"unknown sampling setting {short_repr(written)}{nearest_hint(str(written), known)}")
            if name in values:
                raise ConfigError(f"{name} is given twice, the last time as {short_repr(written)}: leave one out")
            values[name] = known[name].control(name).check(value)
        return Sample(self.generation, self.prompt, values)


@dataclass(frozen=True)
class Grow:
    """Make the model larger before the next step, with the same outputs.

    Attributes:
        changes: sizes of the model section.
    """

    kind: ClassVar[str] = "grow"
    changes: dict[str, Any] = field(default_factory=dict)

    def checked(self) -> Grow:
        """Whether the model of the run can grow so is found when it is tried.

        Raises:
            ConfigError: for no changes, a name that no family's model section has or that is given twice, or a value
                out of range.
        """
        if not isinstance(self.changes, dict) or not self.changes:
            raise ConfigError("growth needs the new sizes of the model, such as width=192")
        sizes: dict[str, Any] = {}
        for written, value in self.changes.items():
            name, size = _size(written, value)
            if name in sizes:
                raise ConfigError(f"{name} is given twice, the last time as {short_repr(written)}: leave one out")
            sizes[name] = size
        return Grow(sizes)


@dataclass(frozen=True)
class Restore:
    """Put the weights of the newest good checkpoint from before step `before` back; the run goes on where it is."""

    kind: ClassVar[str] = "restore"
    before: int

    def checked(self) -> Restore:
        """Raises `ConfigError` unless `before` is a whole number from 1."""
        if isinstance(self.before, bool) or not isinstance(self.before, int) or self.before < 1:
            raise ConfigError(f"before = {short_repr(self.before)} is refused: it must be a step from 1")
        return self


def _size(written: object, value: object) -> tuple[str, Any]:
    """Declared name and value of a model's size, as the first family that accepts it has it."""
    refused = ConfigError()
    for section in MODEL_KINDS.values():
        name = section.named(written)
        if name is None or name == "kind":
            continue
        try:
            return name, section.control(name).check(value)
        except ConfigError as error:
            refused = error
    if not str(refused):
        known = [field for section in MODEL_KINDS.values() for field in section.model_fields if field != "kind"]
        raise ConfigError(f"unknown size {short_repr(written)} of a model{nearest_hint(str(written), known)}")
    raise refused


Command = SetControl | Pause | Continue | Step | Stop | SaveCheckpoint | Sample | Acknowledge | Mute | Grow | Restore
_KINDS: dict[str, type[Command]] = {cls.kind: cls for cls in get_args(Command)}
KEPT_KINDS = (SetControl.kind, Acknowledge.kind, Mute.kind)
"""Commands that hold although the worker ended before it took them: the next one does, when the run is resumed."""


def to_row(command: Command) -> tuple[str, dict[str, Any]]:
    """Kind and JSON payload of a command, which is checked here."""
    return row_of(command.checked())


def row_of(command: Command) -> tuple[str, dict[str, Any]]:
    """Kind and JSON payload of a command that has been checked already."""
    return command.kind, asdict(command)


def command_from_row(kind: str, payload: dict[str, Any]) -> Command:
    """The checked command of a row.

    Raises:
        ConfigError: for an unknown kind, a missing or extra field, a bad value.
    """
    if kind not in _KINDS:
        raise ConfigError(f"unknown command {short_repr(kind)}{nearest_hint(kind, _KINDS)}")
    if not isinstance(payload, dict):
        raise ConfigError(
            f"command {short_repr(kind)} with {short_repr(payload)} is refused: its payload must be a mapping"
        )
    try:
        command = _KINDS[kind](**payload)
    except TypeError as error:
        raise ConfigError(
            f"command {short_repr(kind)} with {short_repr(sorted(payload))} is refused: {error}"
        ) from None
    try:
        return command.checked()
    except ConfigError:
        raise
    except _UNREADABLE as error:  # no check foresees every value, and a row that is never answered ends every worker
        reason = str(error) or type(error).__name__
        raise ConfigError(
            f"command {short_repr(kind)} with {short_repr(payload)} cannot be read ({reason}): send another"
        ) from error
