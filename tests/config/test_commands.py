"""Commands: checked on entry, the same after a round trip through a row, refused when a row was written by hand."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcore.config import (
    Acknowledge,
    Command,
    ConfigError,
    Continue,
    Mute,
    Pause,
    Sample,
    SaveCheckpoint,
    SetControl,
    Step,
    Stop,
    command_from_row,
    live_controls,
    to_row,
)


def round_trip(command: Command) -> Command:
    """Through JSON, as the store keeps it."""
    kind, payload = to_row(command)
    return command_from_row(kind, json.loads(json.dumps(payload)))


@pytest.mark.parametrize(
    "command",
    [
        SetControl("learning_rate", 1e-3),
        SetControl("lr_policy", "manual"),
        SetControl("unlikelihood_window", 8),
        Pause(),
        Continue(),
        Step(),
        Step(100_000),
        Stop(),
        SaveCheckpoint(),
        Sample("g1", "Once", {"temperature": 0.5, "top_k": 3}),
        Sample("g1", ""),
        Acknowledge("future_leak"),
        Mute("harmful_term:dominance"),
        Mute("harmful_term:dominance", False),
    ],
)
def test_round_trip(command: Command) -> None:
    assert round_trip(command) == command


LINES = {
    "schedule": ["5: ce_weight = 0.5", "10 .. 36%: learning_rate = 0.001 -> 0.0001"],
    "rules": ["when T1 is active: ce_weight = 0.5"],
    "limits": ["learning_rate: change x2"],
}


@given(st.sampled_from(sorted(live_controls())), st.data())
@settings(max_examples=100, deadline=None)
def test_any_valid_change_survives(name: str, data: st.DataObject) -> None:
    control = live_controls()[name]
    if control.kind == "choice":
        value: Any = data.draw(st.sampled_from(control.choices))
    elif control.kind == "texts":
        value = data.draw(st.lists(st.sampled_from(LINES[name])))
    elif control.kind == "bool":
        value = data.draw(st.booleans())
    elif control.kind == "int":
        value = data.draw(st.integers(math.ceil(control.low or 0), math.floor(control.high or 0)))
    else:
        value = data.draw(st.floats(control.low, control.high))
    assert round_trip(SetControl(name, value)) == SetControl(name, value)


def test_a_dotted_name_and_a_text_are_brought_to_the_declared_form() -> None:
    assert SetControl("optim.learning_rate", "1e-3").checked() == SetControl("learning_rate", 1e-3)


@pytest.mark.parametrize(
    ("kind", "payload", "message"),
    [
        ("set", {"name": "learning_rate", "value": -1}, r"learning_rate = -1 is refused: it must be a number from"),
        ("set", {"name": "learning_rate", "value": math.nan}, "learning_rate = nan is refused"),
        ("set", {"name": "learning_rate", "value": True}, "learning_rate = True is refused"),
        ("set", {"name": "learning_rat", "value": 1}, r"did you mean 'learning_rate'\?"),
        (
            "set",
            {"name": "width", "value": 8},
            r"width cannot change while training; start a new run with --set width=",
        ),
        ("set", {"name": "learning_rate"}, "is refused"),
        ("set", {"name": "learning_rate", "value": 1, "more": 2}, "is refused"),
        ("step", {"count": 0}, r"count = 0 is refused"),
        ("step", {"count": True}, r"count = True is refused"),
        ("step", {"count": 1.5}, r"count = 1\.5 is refused"),
        ("step", {"count": 10**9}, r"is refused"),
        ("pause", {"count": 1}, "is refused"),
        ("pauze", {}, r"unknown command 'pauze'; did you mean 'pause'\?"),
        ("sample", {"generation": "", "prompt": "x"}, "a sample needs the id"),
        ("sample", {"generation": "g", "prompt": None}, "a sample needs"),
        ("sample", {"generation": "g", "prompt": "x", "settings": {"temperature": 9}}, "temperature = 9 is refused"),
        ("sample", {"generation": "g", "prompt": "x", "settings": {"temprature": 1}}, r"did you mean 'temperature'\?"),
    ],
)
def test_a_row_written_by_hand_is_refused_not_obeyed_in_part(kind: str, payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        command_from_row(kind, payload)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("set", {"name": 3, "value": 1}),
        ("set", {"name": None, "value": 1}),
        ("set", {"name": ["learning_rate"], "value": 1}),
        ("sample", {"generation": "g", "prompt": "x", "settings": 3}),
        ("sample", {"generation": "g", "prompt": "x", "settings": ["temperature"]}),
        ("pause", []),
        ("pause", None),
        ("pause", {1: 2}),
        ("set", {"name": "schedule", "value": "1: schedule=" * 330 + "3"}),
        ("set", {"name": "rules", "value": ["when T1 is active: rules = " * 145 + "3"]}),
        ("set", {"name": "clip_norm", "value": 10**4299}),
        ("grow", {"changes": {"width": 10**400}}),
    ],
)
def test_a_row_of_the_wrong_shape_is_a_config_error_too(kind: str, payload: Any) -> None:
    with pytest.raises(ConfigError):
        command_from_row(kind, payload)
