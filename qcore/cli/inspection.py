"""list, show, presets, controls and rules: what there is, as text or JSON."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated, Any

import typer

from qcore.base.run_states import RunState
from qcore.base.words import number_words
from qcore.cli.base import RUNS, AsJson, Name, Runs, app, markdown_table, open_lab, print_json, print_table
from qcore.cli.training import ending_line
from qcore.config import KIND, MODEL_KINDS, PRESETS, Control, ExternalConfig, all_controls
from qcore.lab import ControlState, FindingInfo, RuleInfo, RunInfo, rule_infos, tried_words
from qcore.runs.external import NO_TRAINER
from qcore.runs.waiting import waiting_words
from qcore.viz import author_words, change_words, limit_words, spell_out_numbers, value_words


@app.command("list")
def list_runs(runs: Runs = RUNS, as_json: AsJson = False) -> None:
    """List the runs, newest first."""
    with open_lab(runs) as lab:
        infos = lab.runs()
    if as_json:
        print_json(infos)
    elif not infos:
        print(f"no runs in {runs} yet: start one with qcore train")
    else:
        rows = [("name", "state", "step", "loss", "held-out", "model", "created")]
        for info in infos:
            created = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.created)) if info.created else ""
            step = f"{info.step}/{info.total_steps}" if info.total_steps else str(info.step)
            state = waiting_words(info, infos, short=True) or info.state
            rows.append(
                (
                    info.name,
                    state,
                    step,
                    number_words(info.loss, places=3),
                    number_words(info.held_out, places=3),
                    info.kind,
                    created,
                )
            )
        print_table(rows)
        for info in infos:
            if info.state == RunState.UNREADABLE:
                print(f"{info.name} cannot be read: {info.message}. {info.remedy}")


@app.command()
def show(name: Name, runs: Runs = RUNS, as_json: AsJson = False) -> None:
    """Show one run: state, findings, figures, references, changed controls, checkpoints, events."""
    with open_lab(runs) as lab:
        info, reader = lab.info(name), lab.reader(name)
        controls, checkpoints = lab.controls(name), lab.checkpoints(name)
        meta, events, log = reader.meta(), reader.events(), reader.log(limit=5)
        latest = {series: {"step": step, "value": value} for series, (step, value) in reader.latest().items()}
        config, findings = lab.description(name), lab.findings(name)
        waits = waiting_words(info, lab.runs()) if info.state == RunState.QUEUED else ""
    if as_json:
        live = {key: {**vars(state), "control": key} for key, state in controls.items()}
        parts = {"run": info, "meta": meta, "controls": live, "checkpoints": checkpoints, "events": events}
        print_json({**parts, "findings": findings, "log": log, "latest": latest, "config": config.model_dump()})
        return
    saved = [f"{found.step} ({found.reason})" for found in checkpoints]
    # a value that nobody has moved is the configuration's, which --json shows whole
    changed = [state for state in controls.values() if state.version]
    print(ending_line(info))
    if waits:
        print(f"waits        {waits}")
    for finding in findings:
        _print_finding(finding)
    if isinstance(config, ExternalConfig):
        _print_external(info, config, controls, latest)
    else:
        _print_model(info, meta, saved)
    for state in changed:
        change = change_words(state.control.name, state.default, state.value)
        print(f"changed      {change} (step {state.step}, {author_words(state.author)})")
    for line in log:
        print(f"log          step {line.step} {line.level}: {(line.message.strip().splitlines() or [''])[-1]}")


def _print_finding(finding: FindingInfo) -> None:
    """Grade, role and state of a finding; of a symptom, what was ruled out and by which number; what can be done."""
    said = "muted" if finding.muted else "acknowledged" if finding.acknowledged else finding.condition
    about = f"{finding.grade} {finding.role}, {said}"
    print(f"finding      {finding.name} since step {finding.since_step} ({about}): {spell_out_numbers(finding.title)}")
    if finding.state != "active":
        return
    evidence = finding.evidence or {}
    for one in evidence.get("ruled_out") or ():
        limit = limit_words(one.get("limit"), one.get("side"))
        held = f" ({limit})" if limit else ""
        number = f"{one['label']} {number_words(one['value'])}{held}"
        print(f"  ruled out  {one['title']}: {number}, step {one['step']}")
    if missing := [str(one["title"]) for one in evidence.get("not_measured") or ()]:
        print(f"  unmeasured {'; '.join(missing)}")
    for remedy in finding.remedies:
        tried = tried_words(remedy)
        print(f"  remedy     {spell_out_numbers(remedy['label'])}{f' ({tried})' if tried else ''}")


def _print_model(info: RunInfo, meta: dict[str, Any], saved: list[str]) -> None:
    """What a run of ours trains, on which data, and its checkpoints."""
    print(f"model        {info.model_text}, preset {info.preset or 'none'}")
    print(f"trained      {timedelta(seconds=round(info.seconds_trained))}, {info.rate_text or 'speed unknown'}")
    if info.family == "video":
        measured = [f"{key} {number_words(value, places=3)}" for key, value in (meta.get("data_frames") or {}).items()]
        print(f"frames       {', '.join(measured) or 'not measured'}")
    else:
        references = [
            f"{key} {number_words(value, places=3)}"
            for key, value in (meta.get("references") or {}).items()
            if value is not None
        ]
        print(f"references   {', '.join(references) or 'not measured'} (nats per token)")
    for line in meta.get("data_report") or ():
        print(f"data         {line}")
    print(f"checkpoints  {', '.join(saved) or 'none yet'}")


def _print_external(
    info: RunInfo,
    config: ExternalConfig,
    controls: dict[str, ControlState],
    latest: dict[str, dict[str, float]],
) -> None:
    """What is known of a run that another program wrote, and that this lab cannot train it."""
    print(f"model        {info.model_text}; {NO_TRAINER}")
    if config.note:
        print(f"note         {config.note}")
    for name, value in config.settings.items():
        print(f"setting      {name} = {value_words(value)}")
    for name, state in controls.items():
        print(f"control      {name} = {value_words(state.value)}")
    for name, one in latest.items():
        print(f"series       {name} = {number_words(one['value'], places=3)} at step {one['step']}")
    if not latest:
        print("series       none")


@app.command()
def presets(as_json: AsJson = False) -> None:
    """List the presets."""
    if as_json:
        print_json([{**vars(found), "config": found.config.model_dump()} for found in PRESETS.values()])
    else:
        print_table([("name", "what to expect"), *((found.name, found.about) for found in PRESETS.values())])


@app.command()
def controls(
    kind: Annotated[str, typer.Option("--model", help="Model family: " + ", ".join(MODEL_KINDS) + ".")] = KIND.default,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every value of a configuration: range, default, and whether it may change while training."""
    if as_json:
        print_json([{**vars(control), "range": control.range_text} for control in all_controls(kind)])
    elif markdown:
        print(controls_markdown(kind))
    else:
        print_table([_HEAD, *map(_control_row, all_controls(kind))])


@app.command()
def rules(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what the detectors look for: rules, the faults they name, thresholds, what remedies did, false alarms."""
    known = rule_infos()
    if as_json:
        print_json(known)
    elif markdown:
        print(rules_markdown())
    else:
        print_table([_RULES_HEAD, *map(_rule_row, known)])


_RULES_HEAD = (
    "finding", "grade", "fault", "what it means", "may follow from", "thresholds", "remedies tried", "false alarms",
)  # fmt: skip


def rules_markdown() -> str:
    """The table of rules as Markdown, generated from their declarations."""
    rows = [(f"`{row[0]}`", *row[1:]) for row in map(_rule_row, rule_infos())]
    return markdown_table([_RULES_HEAD, *rows])


def _rule_row(rule: RuleInfo) -> tuple[str, ...]:
    limits = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in rule.thresholds.items())
    tried = ", ".join(f"{one.remedy.replace('_', ' ')} {one.helped} of {one.runs}" for one in rule.remedies)
    grade = f"{rule.grade} {rule.role}"
    causes = ", ".join(rule.explained_by)
    return (rule.name, grade, " ".join(rule.faults), rule.title, causes, limits, tried or "none", rule.false_alarms)


_HEAD = ("name", "default", "accepts", "live", "what it does")


def controls_markdown(kind: str = KIND.default) -> str:
    """The table of controls as Markdown, generated from their declarations."""
    rows = [(f"`{row[0]}`", *row[1:]) for row in map(_control_row, all_controls(kind))]
    return markdown_table([_HEAD, *rows])


def _control_row(control: Control) -> tuple[str, ...]:
    default = ", ".join(map(repr, control.default)) if control.kind == "texts" else str(control.default)
    accepts = control.range_text + (f" {control.unit}" if control.unit else "")
    return (f"{control.section}.{control.name}", default, accepts, "yes" if control.live else "", control.help)
