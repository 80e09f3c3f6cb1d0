"""What a client may read: runs, declared controls and their values, curves, findings, events, generations.

Each function is a few lines over the lab's façade and its reader, so an answer is what a page would show.
"""

from __future__ import annotations

from typing import Any

from qcore.config import (
    KIND,
    MODEL_KINDS,
    PRESETS,
    ConfigError,
    Control,
    all_controls,
    find_control,
    nearest_hint,
    normal_name,
    short_repr,
)
from qcore.lab import ControlState, FindingInfo, RunInfo
from qcore.probes import catalog
from qcore.server.endpoint import RUN, Answer, Call, Endpoint
from qcore.server.fields import Field
from qcore.server.problems import Problem

CURVES = [catalog.TRAIN_LOSS, catalog.TRAIN_LR, catalog.member(catalog.EVAL, "*"), catalog.term("*")]
MANY = 1000
NAMES = 64
_STATUSES = ("pending", "applied", "refused")
CONTROL = Field("control", "Name of a control; GET /v1/controls lists them.", required=True, high=80)
COMMAND = Field("command", "Id of a command.", "int", required=True, low=1, high=2**53)
GENERATION = Field("generation", "Id of a generation.", required=True, high=80)


def run_json(info: RunInfo) -> dict[str, Any]:
    """One run as the protocol shows it."""
    return {**vars(info), "held_out": info.held_out, "loss_unit": info.loss_unit}


def control_json(control: Control) -> dict[str, Any]:
    """A declared control: everything that a slider knows of it."""
    return {**vars(control), "label": control.label, "range": control.range_text}


def state_json(state: ControlState) -> dict[str, Any]:
    """A live control of a run: its declaration, and what has become of it."""
    return {
        **control_json(state.control),
        "value": state.value,
        "initial": state.default,
        "changes": state.version,
        "changed_at_step": state.step,
        "changed_by": state.author,
    }


def finding_json(finding: FindingInfo) -> dict[str, Any]:
    """A finding with its grade and role, its evidence, remedies, and what was said of it."""
    said = {"role": finding.role, "grade": finding.grade, "condition": finding.condition}
    return {**vars(finding), **said, "calls": finding.needs_attention}


def _runs(call: Call) -> Answer:
    return Answer({"runs": [run_json(info) for info in call.lab.runs()]})


def _run(call: Call) -> Answer:
    name = call.run
    info, findings = call.lab.info(name), call.lab.findings(name)
    return Answer({**run_json(info), "findings_calling": sum(found.needs_attention for found in findings)})


def _config(call: Call) -> Answer:
    return Answer(call.lab.description(call.run).model_dump())


def _presets(call: Call) -> Answer:
    known = PRESETS.values()
    return Answer({"presets": [{"name": one.name, "title": one.title, "about": one.about} for one in known]})


def _declared(call: Call) -> Answer:
    kind = call.values["kind"]
    return Answer({"kind": kind, "controls": [control_json(control) for control in all_controls(kind)]})


def _controls(call: Call) -> Answer:
    states = call.lab.controls(call.run)
    return Answer({"controls": [state_json(state) for state in states.values()]})


def known_control(call: Call) -> ControlState:
    """The live control of the path.

    Raises:
        Problem: 404 for an unknown name, 422 for one that is fixed.
    """
    written, states = call.values["control"], call.lab.controls(call.run)
    if written in states:
        return states[written]
    kind = call.lab.description(call.run).kind
    try:
        name = find_control(written, kind).name
    except ConfigError:
        detail = (
            f"a run of kind {kind} has no control {short_repr(written)}{nearest_hint(normal_name(written), states)}"
        )
        raise Problem(404, "unknown-control", detail, "GET /v1/runs/{name}/controls lists them.") from None
    if name in states:
        return states[name]
    detail = f"{name} cannot change while a run trains"
    raise Problem(422, "fixed-control", detail, "Start a new run with it: POST /v1/runs with changes.")


def _control(call: Call) -> Answer:
    return Answer(state_json(known_control(call)))


def _series(call: Call) -> Answer:
    reader, wanted = call.lab.reader(call.run), call.values["series"]
    if not wanted:
        newest = reader.latest()
        return Answer({"latest": {name: {"step": step, "value": value} for name, (step, value) in newest.items()}})
    known = reader.names()
    for name in wanted:
        if name not in known:
            detail = f"the run has no series {name[:80]!r}{nearest_hint(name[:80], known)}"
            raise Problem(404, "unknown-series", detail, "Ask without series: the answer names them all.")
    found = reader.scalars_of(
        wanted, start=call.values["since"] + 1, max_points=call.values["max_points"], method=call.values["method"]
    )
    return Answer(
        {
            "series": {
                name: {"steps": series.steps.tolist(), "values": series.values.tolist()}
                for name, series in found.items()
            }
        }
    )


def _findings(call: Call) -> Answer:
    return Answer({"findings": [finding_json(found) for found in call.lab.findings(call.run)]})


def _events(call: Call) -> Answer:
    events = call.lab.reader(call.run).events(call.values["since"])[: call.values["limit"]]
    return Answer({"events": [vars(event) for event in events]})


def _commands(call: Call) -> Answer:
    found = call.lab.reader(call.run).commands(call.values["status"])[-call.values["limit"] :]
    return Answer({"commands": [vars(row) for row in found]})


def _command(call: Call) -> Answer:
    row = call.lab.reader(call.run).command(call.values["command"])
    if row is None:
        detail = f"run {call.values['name']!r} has no command {call.values['command']}"
        raise Problem(404, "unknown-command", detail, "GET /v1/runs/{name}/commands lists them.")
    return Answer(vars(row), waits_for=row.id if row.status == "pending" else None)


def _checkpoints(call: Call) -> Answer:
    return Answer({"checkpoints": [vars(found) for found in call.lab.checkpoints(call.run)]})


def _generations(call: Call) -> Answer:
    found = call.lab.reader(call.run).generations(call.values["kind"], limit=call.values["limit"])
    return Answer({"generations": [{**vars(one), "tokens": len(one.tokens)} for one in found]})


def _generation(call: Call) -> Answer:
    found = call.lab.reader(call.run).generation(call.values["generation"])
    if found is None:
        detail = f"run {call.values['name']!r} has no generation {call.values['generation']!r}"
        raise Problem(404, "unknown-generation", detail, "GET /v1/runs/{name}/generations lists them.")
    return Answer(vars(found))


_SINCE_SEQ = Field("since", "Only events with a greater seq.", "int", -1, low=-1, high=2**53)
_KIND = Field("kind", "Model family.", "choice", KIND.default, choices=tuple(MODEL_KINDS))
WAIT = Field("wait", "Wait this many seconds for the trainer's answer.", "float", 1.0, low=0, high=30)


def _limit(most: int, default: int) -> Field:
    return Field("limit", "At most this many, the newest.", "int", default, low=1, high=most)


_SERIES_QUERY = (
    Field("series", "Names of curves; without any, the newest value of each is returned.", "texts", [], high=NAMES),
    Field("since", "Only steps after this one.", "int", -1, low=-1, high=2**53),
    Field("max_points", "At most this many points per curve.", "int", 500, low=16, high=20_000),
    Field("method", "How a long curve is downsampled.", "choice", "minmax", choices=("minmax", "lttb", "minmaxlttb")),
)

READS = (
    Endpoint("list_runs", "GET", "/v1/runs", "Every run of the folder, newest first.", _runs),
    Endpoint("presets", "GET", "/v1/presets", "Named starting points of a run.", _presets),
    Endpoint(
        "declared_controls",
        "GET",
        "/v1/controls",
        "Every declared value of a model family: range, unit, default, help, and whether it may change while training.",
        _declared,
        query=(_KIND,),
    ),
    Endpoint("run_state", "GET", "/v1/runs/{name}", "State and newest figures of a run.", _run),
    Endpoint(
        "run_config",
        "GET",
        "/v1/runs/{name}/config",
        "The configuration that the run started with; of a run of kind external, what its program says of it.",
        _config,
    ),
    Endpoint(
        "controls", "GET", "/v1/runs/{name}/controls", "Live controls of a run: range, unit, value now.", _controls
    ),
    Endpoint(
        "control",
        "GET",
        "/v1/runs/{name}/controls/{control}",
        "One live control of a run.",
        _control,
        path_fields=(RUN, CONTROL),
    ),
    Endpoint(
        "series",
        "GET",
        "/v1/runs/{name}/series",
        "Curves of a run since a step, downsampled; non-finite values are null.",
        _series,
        query=_SERIES_QUERY,
    ),
    Endpoint("findings", "GET", "/v1/runs/{name}/findings", "What the detectors found, active ones first.", _findings),
    Endpoint(
        "events",
        "GET",
        "/v1/runs/{name}/events",
        "Events of a run with their authors; as a stream when text/event-stream is accepted.",
        _events,
        query=(_SINCE_SEQ, Field("limit", "At most this many, the first.", "int", MANY, low=1, high=MANY)),
        streams=(
            Field("series", "Of a stream: patterns of curve names, such as term/*.", "texts", CURVES, high=NAMES),
        ),
    ),
    Endpoint(
        "commands",
        "GET",
        "/v1/runs/{name}/commands",
        "Requests to a run and their outcomes.",
        _commands,
        query=(Field("status", "Only these.", "choice", choices=_STATUSES), _limit(MANY, 100)),
    ),
    Endpoint(
        "outcome",
        "GET",
        "/v1/runs/{name}/commands/{command}",
        "The outcome of a command.",
        _command,
        query=(WAIT,),
        path_fields=(RUN, COMMAND),
    ),
    Endpoint("checkpoints", "GET", "/v1/runs/{name}/checkpoints", "The run's checkpoints, lowest first.", _checkpoints),
    Endpoint(
        "generations",
        "GET",
        "/v1/runs/{name}/generations",
        "Texts or clips that a run has made, without their tokens.",
        _generations,
        query=(Field("kind", "Only these.", "choice", choices=("prompt", "timeline")), _limit(100, 20)),
    ),
    Endpoint(
        "generation",
        "GET",
        "/v1/runs/{name}/generations/{generation}",
        "One generation with its tokens: probability, entropy, rank and alternatives of each.",
        _generation,
        path_fields=(RUN, GENERATION),
    ),
)
