"""Commands whose options are the fields of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from qcore.cli.base import with_options


@dataclass(frozen=True, kw_only=True)
class Given:
    """Options of the command below."""

    name: Annotated[str, typer.Argument()]
    count: Annotated[int, typer.Option("--count", help="How often.")] = 2
    words: Annotated[list[str] | None, typer.Option("--word")] = None


def command(seen: list[Given]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @with_options(Given)
    def take(options: Given) -> None:
        """Take what is given."""
        seen.append(options)

    return app


def test_a_command_gets_its_options_as_one_value():
    seen: list[Given] = []
    app, run = command(seen), CliRunner()
    assert run.invoke(app, ["a"]).exit_code == 0
    assert run.invoke(app, ["b", "--count", "3", "--word", "x", "--word", "y"]).exit_code == 0
    assert [(one.name, one.count, one.words or []) for one in seen] == [("a", 2, []), ("b", 3, ["x", "y"])]


def test_what_is_needed_and_what_is_of_another_type_is_refused():
    seen: list[Given] = []
    app, run = command(seen), CliRunner()
    assert run.invoke(app, []).exit_code == 2
    assert run.invoke(app, ["a", "--count", "many"]).exit_code == 2
    assert not seen


def test_help_says_what_the_fields_say():
    said = CliRunner().invoke(command([]), ["--help"]).output
    assert "Take what is given." in said
    assert "How often." in said
