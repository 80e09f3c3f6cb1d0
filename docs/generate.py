"""Write the pages of docs/reference, and the picture of the rooms, from what the lab itself works with.

Controls, presets, rules, faults, series, commands, routes and examples are declared once, in code; these pages print
the declarations, so that they cannot say anything else. `tests/test_docs.py` writes them anew and compares. Nothing
here needs torch, and nothing is written that changes with the machine or the day.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

import qcore.cli  # noqa: F401 - registers the commands
from docs.rooms import rooms_page, rooms_picture
from qcore.base.run_states import KEPT, TRANSITIONS, RunState, Trigger
from qcore.base.words import number_words
from qcore.cli.base import app
from qcore.config import LANGUAGE_KINDS, MODEL_KINDS, PRESETS, VIDEO_KINDS, Control, all_controls
from qcore.config.fault_bank import FAULTS
from qcore.detect import RULES, Clear, Rule, clears_of, healthy_range, measured_remedies
from qcore.probes import catalog
from qcore.server.app import ENDPOINTS
from qcore.server.endpoint import Endpoint
from qcore.server.fields import Field
from qcore.server.tools import TOOLS

ROOT = Path(__file__).resolve().parent.parent
_SECTIONS = {
    "model": "Model",
    "data": "Data",
    "flow": "Flow (video)",
    "objective": "Objective: weights of the loss terms",
    "optim": "Optimiser, schedule and automation",
    "probes": "Probes and checkpoints",
    "sampling": "Sampling",
    "run": "Run",
}


def pages() -> dict[str, str]:
    """Text by path, relative to the project, of everything that is generated."""
    return {
        "docs/reference/controls.md": _page("Controls", "`qcore.config`", _controls()),
        "docs/reference/presets.md": _page("Presets", "`qcore.config.presets`", _presets()),
        "docs/reference/findings.md": _page("Findings and thresholds", "`qcore.detect.table`", _findings()),
        "docs/reference/faults.md": _page("The fault bank", "`qcore.config.fault_bank`", _faults()),
        "docs/reference/series.md": _page("Series", "`qcore.probes.catalog`", _series()),
        "docs/reference/commands.md": _page("Commands", "`qcore.cli`", _commands()),
        "docs/reference/routes.md": _page("HTTP routes and MCP tools", "`qcore.server`", _routes()),
        "docs/reference/states.md": _page("States of a run", "`qcore.base.run_states`", _states()),
        "docs/reference/rooms.md": _page("Rooms", "the imports of every file", rooms_page(ROOT)),
        "docs/reference/examples.md": _page("Examples", "the heads of `examples/*.py`", _examples()),
        "docs/assets/rooms.svg": rooms_picture(ROOT),
    }


def _page(title: str, source: str, lines: Iterable[str]) -> str:
    note = f"<!-- Generated from {source} by docs/generate.py; `make docs` writes it anew. -->"
    return "\n".join([note, "", f"# {title}", "", *lines]).rstrip() + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; a bar inside a cell is escaped, a line break becomes a space."""
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(value: object) -> str:
    """A value as code; an empty one as nothing."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"`{text}`" if text else ""


# states


def _states() -> list[str]:
    found = [
        "Everything that changes the state of a run goes through this table (`RunStateMachine.fire`); what it has not",
        "cannot happen, and raises. Pages, command line and protocol show what the status row says.",
        "",
    ]
    rows = [(_code(state), _code(state.kept) if state.kept in KEPT else "–", state.about) for state in RunState]
    found += _table(("state", "in the status row", "what it means"), rows)
    found += ["", "## What may happen, and the state after it", ""]
    head = ("when", *(_code(state) for state in TRANSITIONS if TRANSITIONS[state]))
    found += _table(
        head,
        [
            (_code(trigger), *(_code(row.get(trigger, "")) for row in TRANSITIONS.values() if row))
            for trigger in Trigger
        ],
    )
    return [*found, "", *_table(("what happens", "when"), [(_code(trigger), trigger.about) for trigger in Trigger])]


# controls


def _controls() -> list[str]:
    found = [
        "Every value of a run. A *live* one may change while the run trains: by a slider, by `qcore set`, by a "
        "schedule or a rule, or over the protocol. How to write them: [Runs](../runs.md).",
        "",
        f"Families: {', '.join(f'`{kind}`' for kind in MODEL_KINDS)}. *text* stands for the first "
        f"{len(LANGUAGE_KINDS)}, *video* for the last {len(VIDEO_KINDS)}; where families start from another value, "
        "it stands beside them.",
    ]
    declared: dict[str, dict[str, dict[tuple[Any, ...], dict[str, Control]]]] = {}
    for kind in MODEL_KINDS:
        for control in all_controls(kind):
            same = (control.range_text, control.unit, control.live, control.help)
            section = declared.setdefault(control.section, {})
            section.setdefault(control.name, {}).setdefault(same, {})[kind] = control
    for name in sorted(declared, key=list(_SECTIONS).index):
        rows = [_control_row(kinds) for controls in declared[name].values() for kinds in controls.values()]
        found += [
            "",
            f"## {_SECTIONS[name]}",
            "",
            *_table(("name", "what it does", "default", "accepts", "live", "families"), rows),
        ]
    return found


def _control_row(kinds: dict[str, Control]) -> tuple[str, ...]:
    first = next(iter(kinds.values()))
    defaults: dict[str, list[str]] = {}
    for kind, control in kinds.items():
        defaults.setdefault(_code(control.default), []).append(kind)
    default = next(iter(defaults))
    if len(defaults) > 1:
        default = " · ".join(f"{value or 'empty'} ({_families(of)})" for value, of in defaults.items())
    accepts = first.range_text.replace("one of , ", "nothing, or one of ") + (f" {first.unit}" if first.unit else "")
    name = f"`{first.section}.{first.name}`"
    return name, first.help, default, accepts, "yes" if first.live else "", _families(kinds)


def _families(kinds: Iterable[str]) -> str:
    """Names of families, shortened to `all`, `text` and `video` where they are all there."""
    left = list(kinds)
    if set(left) == set(MODEL_KINDS):
        return "all"
    words = []
    for word, group in (("text", LANGUAGE_KINDS), ("video", VIDEO_KINDS)):
        if set(group) <= set(left):
            words.append(word)
            left = [kind for kind in left if kind not in group]
    return ", ".join([*words, *left])


def _presets() -> list[str]:
    faults = {f"fault-{code.lower()}" for code in FAULTS}
    found = [
        "Named starting points: `qcore train --preset NAME`, or the form *New run* of the control room. A preset is "
        "the default configuration with the values of its last column.",
    ]
    for title, is_fault in (("Models and data", False), ("Faults, planted", True)):
        rows = [
            (f"`{name}`", f"**{preset.title}.** {preset.about}", "" if is_fault else _values(preset.changes))
            for name, preset in PRESETS.items()
            if (name in faults) is is_fault
        ]
        head = ("name", "what to expect", "values")
        found += ["", f"## {title}", ""]
        if is_fault:
            found += ["Each plants one mistake of [the bank](faults.md) in a small run.", ""]
            head, rows = head[:2], [row[:2] for row in rows]
        found += _table(head, rows)
    return found


def _values(changes: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_code(value)}" for key, value in changes.items()) or "the defaults"


# findings


def _findings() -> list[str]:
    found = [
        "What the detectors look for, in every run and within the budget of its diagnostics. Each number is a "
        "threshold of the one table that the detectors read; false alarms are those of healthy exam runs, as measured "
        "([how](../measured.md)). The page *Findings* of the app shows the same: [Findings](../pages/findings.md).",
        "",
    ]
    found += [
        "A *cause* names what is wrong; a *symptom* follows from something, and its card says from what, or that the "
        "cause was not found, with what was ruled out. Grades: *broken* (what is trained, measured or generated is not "
        "what it is taken for), *weak* (it works, and less well than it could), *note* (worth knowing). The autopilot "
        "acts on causes only, and with remedies only that helped where the fault was planted.",
        "",
    ]
    head = ("finding", "grade", "fault", "what it means", "thresholds", "false alarms")
    rows, known = [], {rule.name for rule in RULES}
    for rule in RULES:
        link, limits = f"[`{rule.name}`](#{rule.name})", _limits(rule.thresholds)
        grade = f"{rule.grade} {rule.role}"
        rows.append((link, grade, " ".join(rule.faults), rule.title, limits, rule.false_alarms))
    found += _table(head, rows)
    for rule in RULES:
        found += ["", f"## {rule.name}", "", f"**{rule.title}.** {rule.explanation}", ""]
        reads = ", ".join(f"`{name}`" for name in rule.reads)
        found.append(f"- Looks when one of these is measured: {reads}")
        if rule.shows:
            found.append(f"- Also uses: {', '.join(f'`{name}`' for name in rule.shows)}")
        found.append(f"- Thresholds: {_limits(rule.thresholds)}")
        found.append(f"- Runs: {' and '.join(rule.families)}{'; one finding a term' if rule.per_term else ''}")
        if clears := clears_of(rule):
            found.append(f"- Ruled out as a cause by: {'; '.join(_clear(rule, one) for one in clears)}")
        if causes := [name for name in rule.explained_by if name in known]:
            found.append(f"- May follow from: {', '.join(f'[`{name}`](#{name})' for name in causes)}")
        if tried := measured_remedies(rule.name):
            found.append(f"- Remedies tried: {', '.join(f'{_code(key)} {result.words}' for key, result in tried)}")
        if rule.faults:
            codes = ", ".join(f"[{code}](faults.md#{code.lower()})" for code in rule.faults)
            found.append(f"- Must name: {codes}")
    return found


def _clear(rule: Rule, clear: Clear) -> str:
    """`causality/leak` at most 1e-06."""
    low, high = (f"{rule.thresholds[name]:g}" if name else "" for name in (clear.low, clear.high))
    sides = " and ".join(one for one in (low and f"at least {low}", high and f"at most {high}") if one)
    return f"`{clear.series}` {sides}" if clear.series else f"{clear.fact.replace('_', ' ')} of the data {sides}"


def _limits(thresholds: Any) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in thresholds.items())


def _faults() -> list[str]:
    found = [
        "Mistakes that published projects of this field actually made. Each is a preset: `qcore train --preset "
        "fault-l2` "
        "plants L2. `qcore exam` plants all of them, and trains healthy runs beside them: [Cases](../cases.md).",
    ]
    for case in FAULTS.values():
        names = ", ".join(f"[`{name}`](findings.md#{name})" for name in case.findings)
        within = f"by step {case.within}" if case.within else "before the first step"
        how = "planted in code" if case.planted else "the configuration alone does it"
        found += [
            "",
            f"## {case.code}",
            "",
            f"**{case.title}.**",
            "",
            f"- Its authors saw: {case.seen}",
            f"- How to recognise it: {case.tell}",
            f"- Found as: {names}, {within}",
            f"- Preset: `fault-{case.code.lower()}`; {how}" + (f"; {_values(case.changes)}" if case.changes else ""),
        ]
    return found


# series


def _series() -> list[str]:
    found = [
        "What a run stores, by name: `qcore export NAME --format csv`, the route `series` of the protocol, and "
        "every chart. A part in angle brackets is free: a term, a module, a probe, a control, or whose clips they are "
        f"({', '.join(f'`{source}`' for source in catalog.FRAME_SOURCES)}). A number after `layer` or `window_` stands "
        "for every layer or width.",
        "",
        "A series is stored by runs that have its capability, or by all where there is none:",
        "",
        *(f"- `{name}`: {what}." for name, what in catalog.CAPABILITIES.items()),
        "",
        "*Healthy* are the limits of the detectors' table for values that one limit judges in every run; charts draw "
        "them. What is judged against the run's own past or its references has none. "
        "The last column names the [findings](findings.md) that look when the series is measured. A probe of your own "
        "declares its own series: [Extending](../extending.md#a-probe).",
    ]
    rows: dict[str, list[tuple[str, ...]]] = {}
    for series in (*catalog.declared_series(), *catalog.declared_patterns()):
        example = series.name.replace("<clips>", "generated")
        rules = ", ".join(f"[`{rule.name}`](findings.md#{rule.name})" for rule in RULES if rule.reads_series(example))
        words = (_plain(series.title), _plain(series.unit), _plain(series.meaning), _healthy(series.name))
        rows.setdefault(series.name.partition("/")[0], []).append(
            (f"`{series.name}`", *words, _code(series.needs), rules)
        )
    for group, title in sorted(catalog.groups().items()):
        found += ["", f"## {group}/", "", f"{title[0].upper()}{title[1:]}.", ""]
        head = ("series", "what it is", "unit", "what it says", "healthy", "needs", "findings")
        found += _table(head, sorted(rows.get(group, ())))
    return found


def _healthy(series: str) -> str:
    """The detectors' limits of a series, in words."""
    low, high = healthy_range(series) or (None, None)
    words = [
        *([] if low is None else [f"at least {number_words(low)}"]),
        *([] if high is None else [f"at most {number_words(high)}"]),
    ]
    return " and ".join(words)


def _plain(text: str) -> str:
    """Words whose angle brackets are no tags."""
    return text.replace("<", "&lt;").replace(">", "&gt;")


# commands


def _commands() -> list[str]:
    group: Any = typer.main.get_command(app)
    found = [
        "`make run` and `make test` install the command as `.venv/bin/qcore`; `python -m qcore` is the same. "
        "Worked examples: [Quickstart](../quickstart.md), [Replay, rewind, fork](../replay.md).",
        "",
        *_table(
            ("command", "what it does"),
            [(f"[`{name}`](#{name})", one.help) for name, one in sorted(group.commands.items())],
        ),
    ]
    for name, one in sorted(group.commands.items()):
        arguments = [param for param in one.params if param.param_type_name == "argument"]
        usage = " ".join(["qcore", name, *(_usage(param) for param in arguments), "[options]"])
        found += ["", f"## {name}", "", f"`{usage}`", "", " ".join(inspect.cleandoc(one.help or "").split()), ""]
        found += _table(("option", "default", "what it does"), map(_param_row, one.params))
    return found


def _usage(param: Any) -> str:
    text = param.metavar or param.name.upper()
    return text if param.required else f"[{text}]"


def _param_row(param: Any) -> tuple[str, str, str]:
    is_argument = param.param_type_name == "argument"
    names = [_usage(param)] if is_argument else [*param.opts, *param.secondary_opts]
    if not is_argument and not getattr(param, "is_flag", False):
        names[-1] += f" {param.metavar or _type_name(param)}"
    default = (
        "required" if param.required else "" if param.default in (None, False, "", [], ()) else _code(param.default)
    )
    about = param.help or ""
    if param.envvar:
        about += f" Or the variable `{param.envvar}`."
    if getattr(param, "multiple", False) and "repeatable" not in about:
        about += " Repeatable."
    return ", ".join(f"`{one}`" for one in names), default, about.strip()


def _type_name(param: Any) -> str:
    kind = param.type_descriptor.annotation
    names = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
    return names.get(kind, "TEXT")


# routes


def _routes() -> list[str]:
    found = [
        "Of `qcore serve`, described in [the protocol](../protocol.md); `/openapi.json` of a running server says the "
        "same to a program. A route in *MCP* is a tool of `qcore mcp`, too, with the same values.",
        "",
    ]
    rows = [
        (one.method, f"[`{one.path}`](#{one.name})", "yes" if one.name in TOOLS else "", one.summary)
        for one in ENDPOINTS
    ]
    found += _table(("method", "path", "MCP", "what it does"), rows)
    for one in ENDPOINTS:
        found += ["", f"## {one.name}", "", f"`{one.method} {one.path}`: {one.summary}", "", *_values_of(one)]
    return found


def _values_of(endpoint: Endpoint) -> list[str]:
    parts = [
        ("path", endpoint.in_path),
        ("query", endpoint.query),
        ("body", endpoint.body),
        ("stream", endpoint.streams),
    ]
    rows = [(f"`{one.name}`", where, _accepts(one), one.help) for where, fields in parts for one in fields]
    lines = _table(("value", "in", "accepts", "what it is"), rows) if rows else []
    answers = "; ".join(f"{status}: {about}" for status, about in endpoint.success.items())
    notes = [f"Answers {answers}"]
    if endpoint.commands:
        notes.append("It is a command: logged, and counted once for one `Idempotency-Key`.")
    elif endpoint.once:
        notes.append("Counted once for one `Idempotency-Key`.")
    if endpoint.streams:
        notes.append("With `Accept: text/event-stream` it streams.")
    if endpoint.open:
        notes.append("It needs no token.")
    return [*lines, *([""] if lines else []), " ".join(notes)]


def _accepts(field: Field) -> str:
    if field.kind == "choice":
        text = "one of " + ", ".join(field.choices)
    elif field.kind in ("int", "float") and field.low is not None and field.high is not None:
        text = f"{'a whole number' if field.kind == 'int' else 'a number'} from {field.low:g} to {field.high:,}"
    else:
        text = {"bool": "true or false", "mapping": "a mapping", "texts": "a list of texts", "any": "any value"}.get(
            field.kind, "text"
        )
    default = "" if field.default in (None, "") else f", default `{field.default}`"
    return f"{text}{', required' if field.required else default}"


# examples


def _examples() -> list[str]:
    found = [
        "Short programs, each run by a test. They take the folder for runs, or the folder of one run, as their only "
        "argument; open the lab on it afterwards: `QCORE_RUNS=runs make run`.",
    ]
    for path in sorted((ROOT / "examples").glob("*.py")):
        head = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
        said = [" ".join(part.split()) for part in head.split("\n\n")]
        found += ["", f"## {path.stem.replace('_', ' ')}", "", f"`examples/{path.name}`", "", "\n\n".join(said)]
    return found


def main() -> None:
    """Write every page that differs."""
    for path, text in pages().items():
        file = ROOT / path
        if not file.exists() or file.read_text("utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
