"""What a client writes as text, over a real socket: a comma too many, bombs, and names as a page writes them."""

from typing import Any
from urllib.parse import quote

import pytest

from qcore.server.service import Service
from tests.server.conftest import Caller
from tests.support.configs import eventually

COMMA = "learning_rate: 1e-5 .. 0.01, change x2, every 50 steps,"
MERGE = "\n".join(
    [
        "l0: &l0 {kind: phase_lm}",
        *(f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 8)}]}}" for n in range(1, 12)),
        "model: *l11",
    ]
)


@pytest.mark.parametrize(
    ("control", "value", "words"),
    [
        ("limits", [COMMA], "it ends with a comma: leave it out"),
        ("limits", COMMA + "x" * 60 + ",", "it ends with a comma"),
        ("schedule", ["9" * 400 + ": ce_weight = 1"], "must be a whole number from 0 to 10000000"),
        ("schedule", ["0% \u2028.. 5%: ce_weight = 1"], "it holds the character U+2028"),
        ("schedule", ["\u0661\u0662: ce_weight = 1"], "write STEP: control = value"),
        ("rules", ["when T1 is active: pause; every " + "9" * 3000 + " steps"], "must be a whole number"),
        ("rules", ["when train/loss > 1e999: pause"], "is not a number"),
    ],
)
def test_a_bad_text_is_refused_while_the_server_goes_on(
    call: Caller, service: Service, control: str, value: Any, words: str
) -> None:
    reply = call("PUT", f"/v1/runs/live/controls/{control}", {"value": value})
    assert reply.status == 422, reply.body
    assert words in reply.json["detail"]
    assert len(reply.body) < 4_000
    assert call("GET", "/v1/runs").status == 200


@pytest.mark.parametrize("text", [MERGE, "[" * 5_000, "seed: !!int ''", "seed: " + "9" * 5_000])
def test_a_bomb_starts_nothing(call: Caller, service: Service, text: str) -> None:
    before = [info.name for info in service.lab.runs()]
    reply = call("POST", "/v1/runs", {"yaml": text})
    assert reply.status == 422, reply.body
    assert "line " in reply.json["detail"]
    assert [info.name for info in service.lab.runs()] == before


@pytest.mark.parametrize("written", ["clip norm", "Clip norm", "clip-norm", "optim.Clip Norm"])
def test_a_control_answers_to_its_name_as_a_page_writes_it(call: Caller, service: Service, written: str) -> None:
    path = f"/v1/runs/live/controls/{quote(written)}"
    assert call("GET", path).json["name"] == "clip_norm"
    wanted = 0.5 + len(written) / 100 + written.islower() / 10
    assert call("PUT", path, {"value": wanted}).status == 200
    eventually(lambda: service.lab.controls("live")["clip_norm"].value == wanted)


def test_an_unknown_control_still_gets_a_hint(call: Caller) -> None:
    reply = call("GET", f"/v1/runs/live/controls/{quote('clip nrom')}")
    assert reply.status == 404
    assert "did you mean 'clip_norm'" in reply.json["detail"]


def test_changes_and_settings_are_named_so_too(call: Caller) -> None:
    reply = call("POST", "/v1/runs", {"changes": {"Learning Rat": 1}})
    assert reply.status == 422
    assert "did you mean 'learning_rate'" in reply.json["detail"]
    reply = call("POST", "/v1/runs/done/samples", {"prompt": "a", "settings": {"Max tokens": 2, "top-k": 1}})
    assert reply.status == 200, reply.body
