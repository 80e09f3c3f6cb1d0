"""set, step, pause, continue, stop, checkpoint, sample and clips: commands to a run, in this or another process."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from qcore.base.words import number_words
from qcore.cli.base import (
    AUTHOR,
    RUNS,
    AsJson,
    Name,
    Runs,
    app,
    open_lab,
    print_json,
    print_table,
    set_commands,
)
from qcore.config import (
    ClipSamplingConfig,
    Command,
    Continue,
    Pause,
    SamplingConfig,
    SaveCheckpoint,
    Section,
    SetControl,
    Step,
    Stop,
)
from qcore.lab import LabError
from qcore.probes.catalog import frame_measure

ANSWER_SECONDS = 30.0


@app.command("set")
def set_controls(
    name: Name,
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE …", help="Controls and their new values.")],
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> int:
    """Change live controls of a run, in this or another process, and wait for its answer."""
    return send_commands(runs, name, set_commands(changes), as_json)


@app.command()
def step(
    name: Name,
    count: Annotated[int, typer.Argument(metavar="[COUNT]", help="How many steps.")] = 1,
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> int:
    """Train a few steps of a paused run."""
    return send_commands(runs, name, [Step(count).checked()], as_json)


def _steering(command: Command, about: str) -> None:
    def send(name: Name, runs: Runs = RUNS, as_json: AsJson = False) -> int:
        return send_commands(runs, name, [command], as_json)

    app.command(command.kind, help=about)(send)


_steering(Pause(), "Pause a training run before its next step.")
_steering(Continue(), "Continue after a pause.")
_steering(Stop(), "Stop a training run with a checkpoint; it can be resumed.")
_steering(SaveCheckpoint(), "Write a checkpoint now; it is kept until it is deleted manually.")


def send_commands(runs: Path, name: str, commands: Sequence[Command], as_json: bool) -> int:
    """Send the commands and print what became of each; 2 when one is refused, 1 when one is not answered in time."""
    code, answers = 0, []
    with open_lab(runs) as lab:
        alive = lab.info(name).alive
        # all sent before any is waited for: the run takes them at one step
        sent = [lab.command(name, command, author=AUTHOR) for command in commands]
        for command, number in zip(commands, sent, strict=True):
            row = lab.outcome(name, number, timeout=ANSWER_SECONDS if alive else 0.0)
            answers.append(row)
            what = f"{command.name} = {command.value}" if isinstance(command, SetControl) else command.kind
            fate, bad = f"{row.status} at step {row.step}: {row.message}", 2 if row.status == "refused" else 0
            if row.status == "pending":
                late = f"was not answered within {ANSWER_SECONDS:g} s and stays queued"
                fate = late if alive else f"waits until the run is resumed: qcore resume {shlex.quote(name)}"
                # of a run that does not train nobody can answer now: to wait for its next start is what was asked
                bad = 1 if alive else 0
            code = max(code, bad)
            if not as_json:
                print(f"{name}: {what} {fate}", file=sys.stderr if bad else sys.stdout)
    if as_json:
        print_json(answers)
    return code


def _sample(name: str, prompt: str, checkpoint: int | None, runs: Path, as_json: bool, **settings: str | None) -> int:
    """Continue a prompt with a run's live or paused model, or with a checkpoint, and print the text as it grows."""
    changed = {key: SamplingConfig.control(key).check(value) for key, value in settings.items() if value is not None}
    with open_lab(runs) as lab:
        config = lab.config(name)
        if lab.info(name).family == "video":
            raise LabError(f"run {name!r} makes clips, not text: use qcore clips {shlex.quote(name)}")
        chosen = SamplingConfig(**{**config.sampling.model_dump(), **changed})
        printed, last = "", None
        for last in lab.sample(name, prompt, chosen, checkpoint=checkpoint, author=AUTHOR):
            # a character of several tokens is a replacement mark until it is whole
            ready = last.text.rstrip("\ufffd") if last.status == "running" else last.text
            if not as_json and ready.startswith(printed):
                print(ready[len(printed) :], end="", flush=True)
                printed = ready
    if last is None or last.status != "done":
        reason = last.stats.get("error", "") if last else "no output"
        print(f"\nqcore: the sample of {name!r} failed: {reason}", file=sys.stderr)
        return 1
    print_json(last) if as_json else print()
    return 0


def _clips(name: str, checkpoint: int | None, runs: Path, as_json: bool, **settings: str | None) -> int:
    """Draw clips with a run's live or paused model, or with a checkpoint, and print what they measure beside the data;
    --json has their pixels.
    """
    changed = {
        key: ClipSamplingConfig.control(key).check(value) for key, value in settings.items() if value is not None
    }
    with open_lab(runs) as lab:
        config = lab.config(name)
        if lab.info(name).family != "video":
            raise LabError(f"run {name!r} writes text: use qcore sample {shlex.quote(name)} --prompt …")
        chosen = ClipSamplingConfig(**{**config.sampling.model_dump(), **changed})
        grown = list(lab.sample_clips(name, chosen, checkpoint=checkpoint, author=AUTHOR))
        last = grown[-1] if grown else None
        data: dict[str, float] = lab.reader(name).meta().get("data_frames") or {}
    if last is None or last.status != "done":
        reason = last.stats.get("error", "") if last else "no output"
        print(f"qcore: the clips of {name!r} failed: {reason}", file=sys.stderr)
        return 1
    if as_json:
        print_json(last)
    else:
        rows = [
            (frame_measure(key).title, number_words(float(last.stats[key]), places=3), number_words(value, places=3))
            for key, value in data.items()
            if key in last.stats
        ]
        print_table([("measure", f"{len(last.tokens)} clips at step {last.step}", "data"), *rows])
    return 0


def _options(section: type[Section], prompt: bool) -> Iterator[tuple[str, Any, Any]]:
    """Name, annotation and default of every option of a sampling command: its own, and one for each setting."""
    required = inspect.Parameter.empty
    yield "name", Name, required
    if prompt:
        yield "prompt", Annotated[str, typer.Option("--prompt", "-p", help="Text to continue.")], required
    yield "checkpoint", Annotated[int | None, typer.Option("--checkpoint", help="Step of a checkpoint.")], None
    yield "runs", Runs, RUNS
    yield "as_json", AsJson, False
    for control in section.controls():
        about = f"{control.help} Accepts {control.range_text}; default: the run's own."
        option = typer.Option("--" + control.name.replace("_", "-"), metavar=control.kind.upper(), help=about)
        yield control.name, Annotated[str | None, option], None


def _add_sample_command(name: str, run: Any, section: type[Section], *, prompt: bool) -> None:
    options = list(_options(section, prompt))
    run.__annotations__ = {key: kind for key, kind, _ in options}
    run.__signature__ = inspect.Signature(
        [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, kind, default in options
        ]
    )
    app.command(name)(run)


_add_sample_command("sample", _sample, SamplingConfig, prompt=True)
_add_sample_command("clips", _clips, ClipSamplingConfig, prompt=False)
