"""What a client may do to runs: the commands of a page, with the same checks, the same log and the client's name.

A command answers with its row in the run's `commands` table: applied (200), refused by the trainer (409), or pending
(202) when it was not answered within `wait` seconds. Sent again with the same `Idempotency-Key` it adds nothing and
answers with the first one's fate.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from typing import Any
from urllib.parse import quote

from qcore.config import (
    Acknowledge,
    ClipSamplingConfig,
    Command,
    ConfigError,
    Continue,
    Grow,
    Mute,
    Pause,
    Restore,
    RunConfig,
    Sample,
    SamplingConfig,
    SaveCheckpoint,
    Section,
    SetControl,
    Step,
    Stop,
    nearest_hint,
    preset,
    short_repr,
    to_row,
)
from qcore.lab import LabError
from qcore.runs.names import check_name
from qcore.server.endpoint import RUN, Answer, Call, Endpoint
from qcore.server.fields import Field
from qcore.server.problems import Problem
from qcore.server.reads import CONTROL, WAIT, known_control, run_json

FINDING = Field("finding", "Id of a finding.", required=True, high=200)
_TAKEN = {
    200: "The command was applied: its row.",
    202: "The command waits for the trainer: its row.",
}
_sampling = threading.Semaphore(1)  # a checkpoint is sampled in this process: one at a time, others are asked to wait


def _run_url(name: str) -> str:
    return f"/v1/runs/{quote(name, safe='')}"


def _send(call: Call, command: Command) -> Answer:
    """Submit a command under the client's name and key."""
    name = call.run
    number = call.lab.command(name, command, author=call.author, idempotency_key=call.key)
    row = call.lab.outcome(name, number)
    if call.key is not None and (row.kind, row.payload) != to_row(command):
        detail = f"this Idempotency-Key was used for command {number}, {row.kind} {row.payload}"
        raise Problem(422, "key-reused", detail, "Use a new key for a new command.")
    return Answer(vars(row), 200, f"{_run_url(name)}/commands/{number}", number)


def _set(call: Call) -> Answer:
    state, value = known_control(call), call.values["value"]
    try:
        return _send(call, SetControl(state.control.name, value))
    except ConfigError as error:
        control = state.control
        range_ = {"range": control.range_text, "low": control.low, "high": control.high, "unit": control.unit}
        more = {"control": control.name, **range_, "current": state.value}
        raise Problem(422, "out-of-range", str(error), f"Send {control.range_text}.", more) from None


def _pause(call: Call) -> Answer:
    return _send(call, Pause())


def _continue(call: Call) -> Answer:
    return _send(call, Continue())


def _stop(call: Call) -> Answer:
    return _send(call, Stop())


def _checkpoint(call: Call) -> Answer:
    return _send(call, SaveCheckpoint())


def _step(call: Call) -> Answer:
    return _send(call, Step(call.values["count"]).checked())


def _restore(call: Call) -> Answer:
    return _send(call, Restore(call.values["before"]).checked())


def _grow(call: Call) -> Answer:
    return _send(call, Grow(call.values["changes"]).checked())


def _acknowledge(call: Call) -> Answer:
    return _send(call, Acknowledge(_known_finding(call)))


def _mute(call: Call) -> Answer:
    return _send(call, Mute(_known_finding(call), call.values["muted"]))


def _known_finding(call: Call) -> str:
    finding: str = call.values["finding"]
    known = [found.id for found in call.lab.findings(call.run)]
    if finding not in known:
        detail = f"run {call.values['name']!r} has no finding {finding[:80]!r}{nearest_hint(finding[:80], known)}"
        raise Problem(404, "unknown-finding", detail, "GET /v1/runs/{name}/findings lists them.")
    return finding


def _sample(call: Call) -> Answer:
    name, checkpoint = call.run, call.values["checkpoint"]
    config, family = call.lab.config(name), call.lab.info(name).family
    section: type[Section] = ClipSamplingConfig if family == "video" else SamplingConfig
    given: dict[str, Any] = call.values["settings"] or {}
    changed = {}
    for written, value in given.items():
        key = section.named(written)
        if key is None:
            hint = nearest_hint(written, section.model_fields)
            raise ConfigError(f"unknown sampling setting {short_repr(written)}{hint}")
        changed[key] = section.control(key).check(value)
    settings = section(**{**config.sampling.model_dump(), **changed})
    if checkpoint is None and call.lab.info(name).alive:
        # The id follows from the key, so that a repeated request asks for the same generation.
        identity = uuid.uuid4() if call.key is None else uuid.uuid5(uuid.NAMESPACE_URL, f"{name}:{call.key}")
        prompt = call.values["prompt"] if family == "text" else f"seed {getattr(settings, 'sample_seed', 0)}"
        sent = _send(call, Sample(identity.hex, prompt, settings.model_dump()))
        return Answer({**sent.body, "generation": identity.hex}, 200, sent.location, sent.waits_for)
    if not _sampling.acquire(blocking=False):
        detail = "another checkpoint is being sampled: one at a time"
        raise Problem(503, "busy", detail, "Try again in a second.", headers={"Retry-After": "1"})
    try:
        grown = call.lab.sample(name, call.values["prompt"], settings, checkpoint=checkpoint, author=call.author)
        last = deque(grown, maxlen=1)[0]  # it yields at least the finished one
    finally:
        _sampling.release()
    return Answer({"generation": last.id, **vars(last)}, location=f"{_run_url(name)}/generations/{last.id}")


def _start(call: Call) -> Answer:
    values = call.values
    if sum(values[key] is not None for key in ("preset", "yaml", "config")) > 1:
        raise ConfigError("preset, yaml and config are three starting points: give one of them")
    chosen = values["preset"] or ("" if values["yaml"] or values["config"] else "tiny")
    if values["yaml"] is not None:
        config = RunConfig.from_yaml(values["yaml"])
    elif values["config"] is not None:
        config = RunConfig.from_dict(values["config"])
    else:
        config = preset(chosen).config
    config = config.with_values(values["changes"] or {})
    name = values["run"]
    if name is not None:
        try:
            name = check_name(name)
        except LabError as error:
            raise Problem(422, "refused-name", str(error), "Choose another name, or leave it out.") from None
    started = call.trainer.start(config, name=name, preset=chosen, author=call.author)
    return Answer(run_json(call.lab.info(started)), 201, _run_url(started))


def _resume(call: Call) -> Answer:
    name = call.run
    keys = ("steps", "changes", "from_start")
    call.trainer.resume(name, **{key: call.values[key] for key in keys}, author=call.author)
    return Answer(run_json(call.lab.info(name)))


def _fork(call: Call) -> Answer:
    name, values = call.run, call.values
    keys = ("step", "changes", "config_changes", "new_name", "reason", "start", "until")
    forked = call.trainer.fork(name, **{key: values[key] for key in keys}, author=call.author)
    return Answer(run_json(call.lab.info(forked)), 201, _run_url(forked))


def _rewind(call: Call) -> Answer:
    name, values = call.run, call.values
    branch = call.trainer.rewind(name, step=values["step"], start=values["start"], author=call.author)
    return Answer({**run_json(call.lab.info(name)), "branch": branch})


_START = (
    Field("preset", "Named starting point; tiny when no other is given. GET /v1/presets lists them.", high=80),
    Field("yaml", "A whole configuration as YAML; keys that are left out take their defaults."),
    Field("config", "A whole configuration as a mapping of sections.", "mapping"),
    Field("changes", "Values to change, by name: GET /v1/controls lists them.", "mapping"),
    Field("run", "Name of the new run; made from the preset and the time when left out.", low=1, high=120),
)
_CHANGES = Field("changes", "Live controls to change, by name.", "mapping")
_RESUME = (
    Field("steps", "Train until this step.", "int", low=1, high=10_000_000),
    _CHANGES,
    Field("from_start", "Erase the records of a run without a checkpoint, and train it again.", "bool", False),
)
_FORK = (
    Field("step", "Fork at this step; the newest checkpoint when left out.", "int", low=0, high=10_000_000),
    _CHANGES,
    Field("config_changes", "Values of the configuration to change, such as data, terms or model size.", "mapping"),
    Field("new_name", "Name of the fork; made from the parent's when left out.", low=1, high=120),
    Field("reason", "Why, for the log.", default="", high=1000),
    Field("start", "Train the fork now.", "bool", True),
    Field("until", "Train it until this step; as far as its parent when left out.", "int", low=1, high=10_000_000),
)
_REWIND = (
    Field("step", "Go back to this step, before the changes made at it.", "int", required=True, low=0, high=10_000_000),
    Field("start", "Continue training immediately; as before when left out.", "bool"),
)
_GROW = (Field("changes", "New sizes of the model, such as width and layers.", "mapping", required=True),)
_RESTORE = (
    Field("before", "Weights of the newest good checkpoint before this step.", "int", required=True, low=1,
          high=10_000_000),
)  # fmt: skip
_SAMPLE = (
    Field("prompt", "Text to continue; a video run needs none.", default="", high=20_000),
    Field("settings", "Sampling settings that differ from the run's own.", "mapping"),
    Field("checkpoint", "Step of a checkpoint; the live model, else the newest one, when left out.", "int", low=0,
          high=10_000_000),
)  # fmt: skip


def _run_endpoint(
    name: str,
    tail: str,
    summary: str,
    act: Any,
    body: tuple[Field, ...] = (),
    *,
    method: str = "POST",
    path_fields: Any = (),
) -> Endpoint:
    """A route that sends one command to a run."""
    path = f"/v1/runs/{{name}}/{tail}"
    return Endpoint(
        name, method, path, summary, act, (WAIT,), body, (RUN, *path_fields), success=_TAKEN, commands=True
    )  # fmt: skip


ACTIONS = (
    Endpoint(
        "start",
        "POST",
        "/v1/runs",
        "Start a run from a preset, YAML or a mapping; it trains in the server's training process.",
        _start,
        body=_START,
        success={201: "The new run."},
        once=True,
    ),
    _run_endpoint(
        "set_control",
        "controls/{control}",
        "Change a live control before the next step; refused with the range when out of it.",
        _set,
        (Field("value", "The new value.", "any", required=True),),
        method="PUT",
        path_fields=(CONTROL,),
    ),
    _run_endpoint("pause", "pause", "Wait before the next step; controls and samples still work.", _pause),
    _run_endpoint("continue", "continue", "Continue after a pause.", _continue),
    _run_endpoint("stop", "stop", "Write a checkpoint and end; the run can be resumed.", _stop),
    _run_endpoint("checkpoint", "checkpoint", "Write a checkpoint before the next step; it is kept.", _checkpoint),
    _run_endpoint(
        "step",
        "step",
        "Train a few steps of a paused run.",
        _step,
        (Field("count", "How many steps.", "int", 1, low=1, high=100_000),),
    ),
    _run_endpoint("restore", "restore", "Restore earlier weights; the run continues at its step.", _restore, _RESTORE),
    _run_endpoint("grow", "grow", "Make the model larger, with the same outputs, while it trains.", _grow, _GROW),
    _run_endpoint("sample", "samples", "Let the live model, or a checkpoint, continue a prompt.", _sample, _SAMPLE),
    _run_endpoint(
        "acknowledge",
        "findings/{finding}/acknowledge",
        "Note that a finding has been seen.",
        _acknowledge,
        path_fields=(FINDING,),
    ),
    _run_endpoint(
        "mute",
        "findings/{finding}/mute",
        "Hide a finding, or show it again.",
        _mute,
        (Field("muted", "False shows it again.", "bool", True),),
        path_fields=(FINDING,),
    ),
    Endpoint(
        "resume",
        "POST",
        "/v1/runs/{name}/resume",
        "Continue from the newest checkpoint, optionally to more steps or with changed controls.",
        _resume,
        body=_RESUME,
        success={200: "The run."},
        once=True,
    ),
    Endpoint(
        "fork",
        "POST",
        "/v1/runs/{name}/fork",
        "A new run from a step of this one, with changed controls or configuration, or unchanged: then it repeats it.",
        _fork,
        body=_FORK,
        success={201: "The fork."},
        once=True,
    ),
    Endpoint(
        "rewind",
        "POST",
        "/v1/runs/{name}/rewind",
        "Take a run back to a step; what came after is kept as a separate run, named `branch` in the answer.",
        _rewind,
        body=_REWIND,
        success={200: "The run, and the branch that keeps what came after."},
        once=True,
    ),
)  # fmt: skip
