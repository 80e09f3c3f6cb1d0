"""The lab from a terminal: train, watch, steer, sample and export, through the same façade as the app.

Every command is a few lines over `qcore.lab`; options of `sample` and the table of `controls` are generated from the
declarations in `qcore.config`. Progress goes to stderr, results to stdout, so that `--json` can be piped. A person's
mistake is one line on stderr and exit code 2; Ctrl-C and SIGTERM stop a run with a checkpoint and exit with 130 or 143.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import math
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from qcore.config import (
    MODEL_KINDS,
    PRESETS,
    Command,
    ConfigError,
    Continue,
    Control,
    Pause,
    RunConfig,
    SamplingConfig,
    SaveCheckpoint,
    SetControl,
    Step,
    Stop,
    all_controls,
    preset,
)
from qcore.lab import Lab, LabError, RunInfo

AUTHOR = "cli"
POLL_SECONDS = 0.5
LINE_SECONDS = 5.0
ANSWER_SECONDS = 30.0

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
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value; repeatable. `qcore controls` lists the names."),
]
RUNS = Path("checkpoints")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 the run failed, 2 a mistake, 130 and 143 interrupted."""
    logging.getLogger("qcore").addHandler(logging.NullHandler())  # the run's own log keeps what a worker reports
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(given or ["--help"], prog_name="qcore", standalone_mode=False)
    except typer.TyperException as error:
        return _mistake(f"{error.format_message().rstrip('.')}; see qcore --help")
    except (ValueError, OSError) as error:
        return _mistake(str(error) or type(error).__name__)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    return code if isinstance(code, int) else 0


def _mistake(message: str) -> int:
    print("qcore: " + " ".join(message.split()), file=sys.stderr)
    return 2


def _opened(runs: Path, *, create: bool = False) -> Lab:
    if not create and not runs.is_dir():
        raise LabError(f"there is no runs folder {str(runs)!r}: start a run with qcore train, or name one with --runs")
    return Lab(runs)


# training


@app.command()
def train(
    preset_name: Annotated[str | None, typer.Option("--preset", help="Starting point (default: tiny).")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with a run configuration.")] = None,
    changes: Changes = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Short for --set steps=N.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run (default: preset and time).")] = None,
    runs: Runs = RUNS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Start a run and train it here, with a progress bar; Ctrl-C stops it with a checkpoint."""
    if config is not None and preset_name is not None:
        raise ConfigError("--preset and --config are two starting points: give one of them")
    chosen = None if config is not None else preset_name or "tiny"
    start = RunConfig.from_yaml(config.read_text("utf-8")) if config is not None else preset(chosen or "").config
    final = start.with_values(_pairs(changes or []) | ({} if steps is None else {"steps": steps}))
    with _signals() as received, _opened(runs, create=True) as lab:
        run = lab.start(final, name=name, preset=chosen or "", author=AUTHOR)
        return _follow(lab, run, received, quiet=quiet, as_json=as_json)


@app.command()
def resume(
    name: Name,
    steps: Annotated[int | None, typer.Option("--steps", help="Train until this step.")] = None,
    changes: Changes = None,
    runs: Runs = RUNS,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> int:
    """Go on with a stopped, failed, interrupted or finished run from its newest checkpoint."""
    values = {command.name: command.value for command in _set_commands(changes or [])}
    with _signals() as received, _opened(runs) as lab:
        if lab.info(name).alive:
            raise LabError(f"run {name!r} is training already; change it with: qcore set {name} …")
        lab.resume(name, steps=steps, changes=values, author=AUTHOR)
        return _follow(lab, name, received, quiet=quiet, as_json=as_json)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """While active, SIGINT and SIGTERM are noted in a list instead of raised; a second one changes nothing."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _follow(lab: Lab, name: str, received: list[int], *, quiet: bool, as_json: bool) -> int:
    """Show progress until the run's worker has ended; ask for a clean stop when a signal comes."""
    progress = _Progress(enabled=not quiet)
    asked = False
    while (info := lab.wait(name, POLL_SECONDS)).here:
        progress.show(info)
        if received and not asked:
            asked = True
            print(f"\nstopping {name} with a checkpoint …", file=sys.stderr, flush=True)
            with suppress(LabError):  # it ended in this very moment
                lab.command(name, Stop(), author=AUTHOR)
    progress.show(info, last=True)
    _print_json(info) if as_json else print(_ending(info))
    if received:
        where = "" if lab.runs_dir == RUNS.resolve() else f" --runs {shlex.quote(str(lab.runs_dir))}"
        print(f"go on with: qcore resume {shlex.quote(name)}{where}", file=sys.stderr)
        return 128 + received[0]
    return 1 if info.state == "failed" else 0


def _ending(info: RunInfo) -> str:
    figures = f"loss {_number(info.loss)}, held-out {_number(info.eval_ce)} nats a token"
    reason = f": {info.message}" if info.message else ""
    return f"{info.name} {info.state} at step {info.step} of {info.total_steps} ({figures}){reason}"


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
        "" if info.state == "running" else f"{info.state} {info.message}".rstrip(),
        "" if info.loss is None else f"loss {info.loss:.3f}",
        f"{info.tokens_per_second:,.0f} tokens/s" if info.tokens_per_second else "",
        "" if info.seconds_left is None else f"{timedelta(seconds=round(info.seconds_left))} left",
    ]
    return "  ".join(filter(None, parts))


# looking


@app.command("list")
def list_runs(runs: Runs = RUNS, as_json: AsJson = False) -> None:
    """List the runs, newest first."""
    with _opened(runs) as lab:
        infos = lab.runs()
    if as_json:
        _print_json(infos)
    elif not infos:
        print(f"no runs in {runs} yet: start one with qcore train")
    else:
        rows = [("name", "state", "step", "loss", "held-out", "model", "created")]
        for info in infos:
            created = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.created)) if info.created else ""
            step = f"{info.step}/{info.total_steps}"
            rows.append((info.name, info.state, step, _number(info.loss), _number(info.eval_ce), info.kind, created))
        _print_table(rows)


@app.command()
def show(name: Name, runs: Runs = RUNS, as_json: AsJson = False) -> None:
    """Show one run: state, figures, references, changed controls, checkpoints, events."""
    with _opened(runs) as lab:
        info, reader = lab.info(name), lab.reader(name)
        controls, checkpoints = lab.controls(name), lab.checkpoints(name)
        meta, events, log = reader.meta(), reader.events(), reader.log(limit=5)
        latest = {series: {"step": step, "value": value} for series, (step, value) in reader.latest().items()}
        config = lab.config(name)
    if as_json:
        live = {key: {**vars(state), "control": key} for key, state in controls.items()}
        parts = {"run": info, "meta": meta, "controls": live, "checkpoints": checkpoints, "events": events}
        _print_json({**parts, "log": log, "latest": latest, "config": config.model_dump()})
        return
    references = [f"{key} {_number(value)}" for key, value in meta.get("references", {}).items() if value is not None]
    saved = [f"{found.step} ({found.reason})" for found in checkpoints]
    changed = [state for state in controls.values() if state.version]
    print(_ending(info))
    print(f"model        {info.kind}, {info.parameters:,} parameters, preset {info.preset or 'none'}")
    print(
        f"trained      {timedelta(seconds=round(info.seconds_trained))}, {_number(info.tokens_per_second, 0)} tokens/s"
    )
    print(f"references   {', '.join(references) or 'not measured yet'} (nats a token)")
    print(f"checkpoints  {', '.join(saved) or 'none yet'}")
    for state in changed:
        print(f"changed      {state.control.name} {state.default} → {state.value} (step {state.step}, {state.author})")
    for line in log:
        print(f"log          step {line.step} {line.level}: {(line.message.strip().splitlines() or [''])[-1]}")


@app.command()
def export(
    name: Name,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write (default: stdout).")] = None,
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> None:
    """Export every curve of a run as CSV: a row a step, a column a series."""
    if out is None and as_json:
        raise ConfigError("--json tells what was written: give --out FILE with it")
    with _opened(runs) as lab:
        if out is None:
            lab.export_csv(name, sys.stdout)
            return
        lab.info(name)
        with out.open("w", encoding="utf-8", newline="") as file:
            rows = lab.export_csv(name, file)
    _print_json({"file": str(out), "rows": rows}) if as_json else print(f"{rows} rows written to {out}")


@app.command()
def presets(as_json: AsJson = False) -> None:
    """List the presets."""
    if as_json:
        _print_json([{**vars(found), "config": found.config.model_dump()} for found in PRESETS.values()])
    else:
        _print_table([("name", "what to expect"), *((found.name, found.about) for found in PRESETS.values())])


@app.command()
def controls(
    kind: Annotated[str, typer.Option("--model", help="Model family: " + ", ".join(MODEL_KINDS) + ".")] = "phase_lm",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every value of a configuration: range, default, and whether it may change while training."""
    if as_json:
        _print_json([{**vars(control), "range": control.range_text} for control in all_controls(kind)])
    elif markdown:
        print(controls_markdown(kind))
    else:
        _print_table([_HEAD, *map(_control_row, all_controls(kind))])


_HEAD = ("name", "default", "accepts", "live", "what it does")


def controls_markdown(kind: str = "phase_lm") -> str:
    """The table of controls as Markdown, generated from their declarations."""
    rows = [(f"`{row[0]}`", *row[1:]) for row in map(_control_row, all_controls(kind))]
    lines = [_HEAD, ("---",) * len(_HEAD), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _control_row(control: Control) -> tuple[str, ...]:
    default = ", ".join(map(repr, control.default)) if control.kind == "texts" else str(control.default)
    accepts = control.range_text + (f" {control.unit}" if control.unit else "")
    return (f"{control.section}.{control.name}", default, accepts, "yes" if control.live else "", control.help)


# steering


@app.command("set")
def set_controls(
    name: Name,
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE …", help="Controls and their new values.")],
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> int:
    """Change live controls of a run, in this or another process, and wait for its answer."""
    return _command(runs, name, _set_commands(changes), as_json)


@app.command()
def step(
    name: Name,
    count: Annotated[int, typer.Argument(metavar="[COUNT]", help="How many steps.")] = 1,
    runs: Runs = RUNS,
    as_json: AsJson = False,
) -> int:
    """Make a few steps of a paused run."""
    return _command(runs, name, [Step(count).checked()], as_json)


def _steering(command: Command, about: str) -> None:
    def send(name: Name, runs: Runs = RUNS, as_json: AsJson = False) -> int:
        return _command(runs, name, [command], as_json)

    app.command(command.kind, help=about)(send)


_steering(Pause(), "Pause a training run before its next step.")
_steering(Continue(), "Go on after a pause.")
_steering(Stop(), "Stop a training run with a checkpoint; it can be resumed.")
_steering(SaveCheckpoint(), "Write a checkpoint now; it is kept until it is deleted by hand.")


def _command(runs: Path, name: str, commands: Sequence[Command], as_json: bool) -> int:
    """Send the commands and print what became of each; 2 when one is refused, 1 when one is not answered in time."""
    code, answers = 0, []
    with _opened(runs) as lab:
        alive = lab.info(name).alive
        sent = [lab.command(name, command, author=AUTHOR) for command in commands]
        for command, number in zip(commands, sent, strict=True):
            row = lab.outcome(name, number, timeout=ANSWER_SECONDS if alive else 0.0)
            answers.append(row)
            what = f"{command.name} = {command.value}" if isinstance(command, SetControl) else command.kind
            fate, bad = f"{row.status} at step {row.step}: {row.message}", 2 if row.status == "refused" else 0
            if row.status == "pending":
                late = f"was not answered within {ANSWER_SECONDS:.0f} s and stays queued"
                fate = late if alive else f"waits until the run is resumed: qcore resume {shlex.quote(name)}"
                bad = 1 if alive else 0
            code = max(code, bad)
            if not as_json:
                print(f"{name}: {what} {fate}", file=sys.stderr if bad else sys.stdout)
    if as_json:
        _print_json(answers)
    return code


def _sample(name: str, prompt: str, checkpoint: int | None, runs: Path, as_json: bool, **settings: str | None) -> int:
    """Continue a prompt with a run's live or paused model, or with a checkpoint, and print the text as it grows."""
    changed = {key: SamplingConfig.control(key).check(value) for key, value in settings.items() if value is not None}
    with _opened(runs) as lab:
        chosen = SamplingConfig(**{**lab.config(name).sampling.model_dump(), **changed})
        printed, last = "", None
        for last in lab.sample(name, prompt, chosen, checkpoint=checkpoint, author=AUTHOR):
            ready = last.text.rstrip("\ufffd") if last.status == "running" else last.text
            if not as_json and ready.startswith(printed):
                print(ready[len(printed) :], end="", flush=True)
                printed = ready
    if last is None or last.status != "done":
        reason = last.stats.get("error", "") if last else "nothing came"
        print(f"\nqcore: the sample of {name!r} failed: {reason}", file=sys.stderr)
        return 1
    _print_json(last) if as_json else print()
    return 0


def _sampling_options() -> Iterator[tuple[str, Any, Any]]:
    """Name, annotation and default of every option of `sample`: its own, and one for each declared setting."""
    required = inspect.Parameter.empty
    yield "name", Name, required
    yield "prompt", Annotated[str, typer.Option("--prompt", "-p", help="Text to continue.")], required
    yield "checkpoint", Annotated[int | None, typer.Option("--checkpoint", help="Step of a checkpoint.")], None
    yield "runs", Runs, RUNS
    yield "as_json", AsJson, False
    for control in SamplingConfig.controls():
        about = f"{control.help} Accepts {control.range_text}; default: the run's own."
        option = typer.Option("--" + control.name.replace("_", "-"), metavar=control.kind.upper(), help=about)
        yield control.name, Annotated[str | None, option], None


_sample.__annotations__ = {key: kind for key, kind, _ in _sampling_options()}
_sample.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for key, kind, default in _sampling_options()
    ]
)
app.command("sample")(_sample)


# small things


def _pairs(items: Iterable[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise ConfigError(f"{item!r} is refused: write it as key=value, for example learning_rate=0.001")
        if key in pairs:
            raise ConfigError(f"{key!r} is given twice: {pairs[key]!r} and {value!r}")
        pairs[key] = value
    return pairs


def _set_commands(items: Iterable[str]) -> list[SetControl]:
    return [SetControl(key, value).checked() for key, value in _pairs(items).items()]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_json(value: object) -> None:
    """Print dataclasses, paths and plain values as JSON; a number that is not finite becomes null."""
    text = json.dumps(value, default=lambda item: vars(item) if dataclasses.is_dataclass(item) else str(item))
    print(json.dumps(json.loads(text, parse_constant=lambda _: None), indent=2, ensure_ascii=False))
