"""The protocol as MCP tools, over standard input and output: an agent steers runs as a script does.

Each tool is one route: its name, its values and their ranges come from the route's declaration, and a call is one HTTP
request, so bounds, log and refusals are the same. The author of a change is `api:mcp-<name of the agent's program>`.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from qcore.base import VERSION
from qcore.base.plain_json import plain_json
from qcore.config import ConfigError, nearest_hint
from qcore.lab import LabError
from qcore.server.client import BY_NAME, Client, RefusedError
from qcore.server.endpoint import Endpoint
from qcore.server.fields import object_schema

TOOLS = (
    "list_runs",
    "run_state",
    "controls",
    "series",
    "findings",
    "events",
    "presets",
    "declared_controls",
    "start",
    "resume",
    "set_control",
    "pause",
    "continue",
    "step",
    "stop",
    "checkpoint",
    "sample",
    "generation",
    "outcome",
    "fork",
)
INSTRUCTIONS = (
    "Collapse Lab trains generative models and finds out why they collapse. Begin with list_runs or start; look at "
    "findings for what is wrong and its remedies, at controls for what may be changed and its range, at series for the "
    "curves. Every change is applied between two steps, bounded, and logged under your name."
)


def tool(endpoint: Endpoint) -> types.Tool:
    """A route as a tool."""
    fields = (*endpoint.in_path, *endpoint.query, *endpoint.body)
    reads = endpoint.method == "GET"
    return types.Tool(
        name=endpoint.name,
        description=endpoint.summary,
        input_schema=object_schema(fields),
        annotations=types.ToolAnnotations(read_only_hint=reads, destructive_hint=endpoint.name == "stop"),
    )


class Tools:
    """What the MCP server does, without its wire: list the tools, and call one."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._clients: dict[str, Client] = {}

    def listed(self) -> list[types.Tool]:
        """Every tool."""
        return [tool(BY_NAME[name]) for name in TOOLS]

    def call(self, name: str, arguments: dict[str, Any], agent: str) -> types.CallToolResult:
        """Make the request; a refusal is a result with `is_error`, so that the agent can mend its call."""
        try:
            if name not in TOOLS:
                raise ConfigError(f"there is no tool {name!r}{nearest_hint(name, TOOLS)}")
            endpoint = BY_NAME[name]
            known = [field.name for field in (*endpoint.in_path, *endpoint.query, *endpoint.body)]
            for key in arguments:
                if key not in known:
                    raise ConfigError(f"{name} takes no {key!r}{nearest_hint(key, known)}; it takes {', '.join(known)}")
            for field in endpoint.in_path:
                if arguments.get(field.name) is None:
                    raise ConfigError(f"{field.name} is missing: {field.help}")
            found = self._client(agent).call(name, **arguments)
        except RefusedError as error:
            return _result(error.problem, failed=True)
        except (ConfigError, LabError) as error:
            return _result({"detail": str(error)}, failed=True)
        return _result(found)

    def _client(self, agent: str) -> Client:
        name = "mcp-" + (re.sub(r"[^A-Za-z0-9._-]+", "-", agent)[:40] or "agent")
        return self._clients.setdefault(name, Client(self._url, self._token, name=name))

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()


def _result(found: dict[str, Any], *, failed: bool = False) -> types.CallToolResult:
    text = types.TextContent(type="text", text=plain_json(found))
    return types.CallToolResult(content=[text], structured_content=found, is_error=failed)


def server(tools: Tools) -> Server[Any]:
    """The MCP server over some tools."""

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        del context, params
        return types.ListToolsResult(tools=tools.listed())

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        about = context.session.client_params
        agent = about.client_info.name if about is not None else "agent"
        return await asyncio.to_thread(tools.call, params.name, params.arguments or {}, agent)

    return Server(
        "collapse-lab",
        version=VERSION,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def serve_stdio(url: str, token: str) -> None:
    """Serve the tools over standard input and output until the input ends."""
    tools = Tools(url, token)

    async def main() -> None:
        async with stdio_server() as (incoming, outgoing):
            found = server(tools)
            await found.run(incoming, outgoing, found.create_initialization_options())

    try:
        asyncio.run(main())
    finally:
        tools.close()
