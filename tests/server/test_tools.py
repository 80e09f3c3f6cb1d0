"""The MCP server: its tools are the routes, its calls are HTTP requests, its wire is JSON-RPC lines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qcore.config import live_controls
from qcore.server.client import BY_NAME
from qcore.server.service import Service
from qcore.server.tools import TOOLS, Tools

ROOT = Path(__file__).resolve().parents[2]
ASKED = {"list_runs", "run_state", "controls", "series", "findings", "set_control", "pause", "continue", "stop",
         "checkpoint", "sample", "fork", "start"}  # fmt: skip


@pytest.fixture(scope="module")
def tools(service: Service) -> Iterator[Tools]:
    found = Tools(service.url, service.token.value)
    yield found
    found.close()


def test_every_tool_is_a_route_with_its_values_and_ranges(tools: Tools):
    listed = {tool.name: tool for tool in tools.listed()}
    assert set(TOOLS) == set(listed)
    assert set(listed) >= ASKED
    for name, tool in listed.items():
        endpoint = BY_NAME[name]
        fields = (*endpoint.in_path, *endpoint.query, *endpoint.body)
        assert set(tool.input_schema["properties"]) == {field.name for field in fields}
        assert len({field.name for field in fields}) == len(fields)
        assert set(tool.input_schema.get("required", ())) == {field.name for field in fields if field.required}
        assert tool.annotations is not None
        assert tool.annotations.read_only_hint == (endpoint.method == "GET")
    assert listed["step"].input_schema["properties"]["count"]["maximum"] == 100_000


def test_a_tool_changes_a_control_under_the_agents_name(tools: Tools, service: Service):
    arguments = {"name": "live", "control": "entropy_floor_weight", "value": 0.125, "wait": 20}
    name = next(one for one in live_controls("phase_lm") if one.endswith("_weight"))
    arguments["control"] = name
    found = tools.call("set_control", arguments, "Some Agent 1.0")
    assert not found.is_error, found.content
    assert found.structured_content["author"] == "api:mcp-Some-Agent-1.0"
    assert service.lab.controls("live")[name].author == "api:mcp-Some-Agent-1.0"


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("set_control", {"name": "live", "control": "learning_rate", "value": 99}, "must be a number from"),
        ("set_control", {"name": "live", "contro": "learning_rate", "value": 1}, "did you mean 'control'"),
        ("set_control", {"name": "live"}, "control is missing"),
        ("run_state", {"name": "nobody"}, "there is no run"),
        ("delete_everything", {}, "there is no tool"),
    ],
)
def test_a_refusal_is_a_result_that_says_what_to_do(tools: Tools, tool: str, arguments: dict[str, Any], words: str):
    found = tools.call(tool, arguments, "a")
    assert found.is_error
    assert words in json.dumps(found.structured_content)


def test_over_the_wire(service: Service):
    """initialize, ping, tools/list and tools/call as JSON-RPC lines to `qcore mcp`."""
    command = [sys.executable, "-m", "qcore", "mcp", "--url", service.url, "--runs", str(service.lab.runs_dir)]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None

    def ask(number: int, method: str, params: dict[str, Any] | None = None) -> Any:
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        reply = json.loads(child.stdout.readline())
        assert reply["id"] == number
        return reply

    try:
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
        hello = ask(1, "initialize", about)["result"]
        assert hello["serverInfo"]["name"] == "collapse-lab"
        assert "tools" in hello["capabilities"]
        child.stdin.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}) + "\n")
        assert ask(2, "ping")["result"] == {}
        listed = ask(3, "tools/list")["result"]["tools"]
        assert {tool["name"] for tool in listed} == set(TOOLS)
        change = {"name": "live", "control": "clip_norm", "value": 1.875, "wait": 20}
        called = ask(4, "tools/call", {"name": "set_control", "arguments": change})["result"]
        assert called.get("isError", False) is False
        assert called["structuredContent"]["author"] == "api:mcp-wire"
        runs = ask(5, "tools/call", {"name": "list_runs", "arguments": {}})["result"]
        assert {run["name"] for run in json.loads(runs["content"][0]["text"])["runs"]} == {"done", "live"}
        assert "error" in ask(6, "no/such/method")
        child.stdin.close()
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert service.lab.controls("live")["clip_norm"].value == 1.875
