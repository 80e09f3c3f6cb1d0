"""train and resume: a run in this process, with a progress bar and a clean stop on a signal."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from qcore.base.run_states import RunState
from qcore.base.words import number_words
from qcore.cli.base import (
    AUTHOR,
    RUNS,
    AsJson,
    Changes,
    Name,
    Quiet,
    Runs,
    app,
    open_lab,
    print_json,
    set_commands,
    with_options,
)
from qcore.config import ConfigError, RunConfig, Stop, preset, read_changes, read_config, read_text_file, shorten
from qcore.lab import Lab, LabError, RunInfo
from qcore.lab.forecast import memory_forecast
from qcore.lab.inputs import check_inputs
from qcore.runs.errors import sentence

POLL_SECONDS = 0.5
LINE_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `qcore train` may be told."""

    preset_name: Annotated[str | None, typer.Option("--preset", help="Starting point (default: tiny).")] = None
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with a run configuration.")] = None
    changes: Changes = None
    steps: Annotated[int | None, typer.Option("--steps", help="Short for --set steps=N.")] = None
    name: Annotated[str | None, typer.Option("--name", help="Name of the run (default: preset and time).")] = None
    runs: Runs = RUNS
    adapter: Annotated[
        bool, typer.Option("--adapter", help="A guide's file trains LTX-Video with LoRA instead of the small backbone.")
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Start even if the memory forecast says it is too large.")] = (
        False
    )
    quiet: Quiet = False
    as_json: AsJson = False


@app.command()
@with_options(TrainOptions)
def train(options: TrainOptions) -> int:
    """Start a run and train it here, with a progress bar; Ctrl-C stops it with a checkpoint."""
    if options.config is not None and options.preset_name is not None:
        raise ConfigError("--preset and --config are two starting points: give one of them")
    chosen = None if options.config is not None else options.preset_name or "tiny"
    start = (
        _from_file(options.config, options.adapter, options.quiet)
        if options.config is not None
        else preset(chosen or "").config
    )
    final = start.with_values(
        read_changes(options.changes or []) | ({} if options.steps is None else {"steps": options.steps})
    )
    final = check_inputs(final)
    memory = _memory(final, options.force)
    with signals() as received, open_lab(options.runs, create=True) as lab:
        run = lab.start(final, name=options.name, preset=chosen or "", author=AUTHOR)
        if memory and not options.quiet:
            print(memory, file=sys.stderr)
        return follow(lab, run, received, quiet=options.quiet, as_json=options.as_json, starts=True)


def _memory(config: RunConfig, force: bool) -> str:
    """What the run will need, in words; empty when nobody can tell. One that cannot fit is refused unless forced."""
    found = memory_forecast(config)
    if found is None:
        return ""
    if found.verdict == "too large" and not force:
        raise ConfigError(f"{found.text} Add --force to start it anyway")
    return f"{found.parameters_text}. {found.text}"


def _from_file(path: Path, adapter: bool, quiet: bool) -> RunConfig:
    """A run configuration, or the published guide's; what became of the guide's keys goes to stderr."""
    config, loaded = read_config(read_text_file(path), adapter=adapter, name=shorten(str(path)))
    if adapter and loaded is None:
        raise ConfigError(f"--adapter is for a guide's file, and {path} is a run configuration: leave it out")
    if loaded is not None and not quiet:
        for mapped in loaded.mapped:
            print(f"{mapped.key} → {mapped.ours} = {mapped.value}", file=sys.stderr)
        for note in (*loaded.adjusted, *loaded.without_effect):
            print(f"{note.key}: {note.why}", file=sys.stderr)
    return config


@app.command()
def resume(
    name: Name,
    steps: Annotated[int | None, typer.Option("--steps", help="Train until this step.")] = None,
    changes: Changes = None,
    from_start: Annotated[
        bool,
        typer.Option("--from-start", help="Erase the records of a run without a checkpoint, and train it again."),
    ] = False,
    runs: Runs = RUNS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Continue a stopped, failed, interrupted or finished run from its newest checkpoint."""
    values = {command.name: command.value for command in set_commands(changes or [])}
    with signals() as received, open_lab(runs) as lab:
        if lab.info(name).alive:
            raise LabError(f"run {name!r} is already training; change it with: qcore set {name} …")
        lab.resume(name, steps=steps, changes=values, from_start=from_start, author=AUTHOR)
        return follow(lab, name, received, quiet=quiet, as_json=as_json)


@contextmanager
def signals() -> Iterator[list[int]]:
    """While active, SIGINT and SIGTERM are noted in a list instead of raised; a second one changes nothing."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def follow(lab: Lab, name: str, received: list[int], *, quiet: bool, as_json: bool, starts: bool = False) -> int:
    """Show progress until the run's worker has ended; ask for a clean stop when a signal comes.

    Args:
        starts: say what the data are, once they are open.
    """
    progress = _Progress(enabled=not quiet)
    asked, told, blind = False, quiet or not starts, False
    while True:
        try:
            info = lab.wait(name, POLL_SECONDS)
            told = told or _print_data_report(lab, name)
        # the run trains in a thread of this process: a look at it that fails must not end it
        except (ConfigError, LabError, OSError) as error:
            if not lab.trains(name):
                raise
            if not blind:
                print(f"\nqcore: {sentence(error)}; it keeps training", file=sys.stderr, flush=True)
            blind = True
        else:
            if not info.here:
                break
            progress.show(info)
        # once: a second Ctrl-C changes nothing, as the checkpoint is being written
        if received and not asked:
            asked = True
            print(f"\nstopping {name} with a checkpoint …", file=sys.stderr, flush=True)
            _ask_to_stop(lab, name)
    progress.show(info, last=True)
    print_json(info) if as_json else print(ending_line(info))
    if received:
        where = "" if str(lab.runs_dir) == os.path.realpath(RUNS) else f" --runs {shlex.quote(str(lab.runs_dir))}"
        print(f"continue with: qcore resume {shlex.quote(name)}{where}", file=sys.stderr)
        return 128 + received[0]
    if info.state in (RunState.FINISHED, RunState.STOPPED):
        return 0
    print(f"qcore: run {name!r} {info.state}: {info.message}", file=sys.stderr)
    return 1


def _ask_to_stop(lab: Lab, name: str) -> None:
    """By a command, which the run's history keeps; where its database takes none, without."""
    try:
        lab.command(name, Stop(), author=AUTHOR)
    except (LabError, OSError):
        lab.stop(name)


def _print_data_report(lab: Lab, name: str) -> bool:
    """Say what opening the data has found, on stderr; False while they are not open yet."""
    said = lab.reader(name).meta().get("data_report")
    for line in said if isinstance(said, list) else ():
        print(f"data: {line}", file=sys.stderr)
    return said is not None


def ending_line(info: RunInfo) -> str:
    """State, step and losses of a run, and why it ended, in one line."""
    figures = (
        f"loss {number_words(info.loss, places=3)}, held-out {number_words(info.held_out, places=3)} {info.loss_unit}"
    ).rstrip()
    of = f" of {info.total_steps}" if info.total_steps or "trainer" in info.capabilities else ""
    reason = f": {info.message}" if info.message else ""
    return f"{info.name} {info.state} at step {info.step}{of} ({figures}){reason}"


class _Progress:
    """One line on stderr: redrawn on a terminal, a fresh one every few seconds elsewhere."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._terminal = sys.stderr.isatty()
        self._printed, self._when = "", -math.inf

    def show(self, info: RunInfo, *, last: bool = False) -> None:
        now, text = time.monotonic(), _progress_line(info, bar=self._terminal)
        due = self._terminal or last or now - self._when >= LINE_SECONDS
        if not self._enabled or not due or (text == self._printed and not last):
            return
        self._printed, self._when = text, now
        if self._terminal:
            width = max(20, shutil.get_terminal_size().columns - 1)
            text = "\r" + text[:width].ljust(width)
        print(text, end="" if self._terminal and not last else "\n", file=sys.stderr, flush=True)


def _progress_line(info: RunInfo, *, bar: bool) -> str:
    filled = round(24 * min(1.0, info.step / max(1, info.total_steps)))
    parts = [
        info.name,
        "█" * filled + "░" * (24 - filled) if bar else "",
        f"step {info.step}/{info.total_steps}",
        "" if info.state == RunState.RUNNING else f"{info.state} {info.message}".rstrip(),
        "" if info.loss is None else f"loss {number_words(info.loss, places=3)}",
        info.rate_text,
        "" if info.seconds_left is None else f"{timedelta(seconds=round(info.seconds_left))} left",
    ]
    return "  ".join(filter(None, parts))
