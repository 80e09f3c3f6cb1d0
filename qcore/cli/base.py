"""What the commands share: the application, common options, opening the lab, and printing."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from qcore.base import VERSION
from qcore.base.plain_json import plain_json
from qcore.config import ConfigError, SetControl, read_changes, short_repr
from qcore.lab import Lab, LabError

AUTHOR = "cli"

Options = TypeVar("Options")
Result = TypeVar("Result")

app = typer.Typer(
    name="qcore",
    help="Collapse Lab: train, watch and steer language models from a terminal.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the run; `qcore list` shows them.")]
Runs = Annotated[Path, typer.Option("--runs", envvar="QCORE_RUNS", help="Folder of the runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"collapse-lab {VERSION}")
        raise typer.Exit


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value; repeatable. `qcore controls` lists the names."),
]
RUNS = Path("checkpoints")


def with_options(options: type[Options]) -> Callable[[Callable[[Options], Result]], Callable[..., Result]]:
    """A command whose arguments and options are the fields of a dataclass, and which gets them as one value.

    Typer reads a command's options from its signature; this gives it the fields', so that a command with many options
    is a function of one argument.

    Args:
        options: a dataclass; each field's type is `Annotated[…, typer.Option(…)]` or `typer.Argument(…)`, its default
            the option's.
    """
    hints = get_type_hints(options, include_extras=True)
    fields = dataclasses.fields(options)  # type: ignore[arg-type]
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            # a field without a default has MISSING, which Typer would take for a value
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields
    ]

    def decorated(command: Callable[[Options], Result]) -> Callable[..., Result]:
        result = get_type_hints(command, include_extras=True).get("return")

        @functools.wraps(command)
        def called(**values: Any) -> Result:
            return command(options(**values))

        # `wraps` copies the hints of `command`, whose only argument is the dataclass: Typer must see the fields
        called.__annotations__ = {**hints, "return": result}
        called.__signature__ = inspect.Signature(parameters, return_annotation=result)  # type: ignore[attr-defined]
        return called

    return decorated


def open_lab(runs: Path, *, create: bool = False) -> Lab:
    """The lab of a runs folder.

    Raises:
        LabError: where there is no such folder, unless it may be created.
    """
    if not create and not runs.is_dir():
        raise LabError(f"there is no runs folder {str(runs)!r}: start a run with qcore train, or name one with --runs")
    return Lab(runs)


def set_commands(items: Iterable[str]) -> list[SetControl]:
    """Checked changes of live controls from `key=value`.

    Raises:
        ConfigError: for one that is refused, or named twice.
    """
    commands: dict[str, SetControl] = {}
    for written, value in read_changes(items).items():
        command = SetControl(written, value).checked()
        if command.name in commands:
            raise ConfigError(f"{command.name} is given twice, the last time as {short_repr(written)}: leave one out")
        commands[command.name] = command
    return list(commands.values())


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows of equal length in columns, each as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def markdown_table(rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    lines = [head, ("---",) * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def print_json(value: object) -> None:
    """Print dataclasses, paths and plain values as JSON; a number that is not finite becomes null."""
    print(plain_json(value, lambda item: vars(item) if dataclasses.is_dataclass(item) else str(item), indent=2))
