"""One route of the protocol, declared: method, path, values, what it answers, and the function that does it.

The declarations are the only list of routes: the app serves them, the OpenAPI document and the MCP tools are generated
from them. A function gets a `Call` of checked values, runs in a thread of the pool, and returns an `Answer`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qcore.base.plain_json import plain_json
from qcore.lab import Lab, LabError, StoreBusyError, StoreError
from qcore.server.fields import Field
from qcore.server.problems import Problem
from qcore.server.trainer import TrainerProcess

RUN = Field("name", "Name of the run; GET /v1/runs lists them.", required=True, high=120)
_IN_PATH = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class Answer:
    """What a route answers.

    Attributes:
        waits_for: id of a command whose outcome the client may wait for.
    """

    body: Any
    status: int = 200
    location: str = ""
    waits_for: int | None = None


@dataclass(frozen=True)
class Call:
    """A checked request.

    Attributes:
        values: of path, query and body.
        client: name that the client gave itself.
        key: its idempotency key, made this client's own.
    """

    lab: Lab
    trainer: TrainerProcess
    values: dict[str, Any]
    client: str = "client"
    key: str | None = None

    @property
    def author(self) -> str:
        """Author of every command and event that this request causes."""
        return f"api:{self.client}"

    @property
    def run(self) -> str:
        """The run of the path.

        Raises:
            Problem: 404 when there is none, 409 when it cannot be read.
        """
        name: str = self.values["name"]
        try:
            self.lab.reader(name)
        except LabError as error:
            if isinstance(error, StoreBusyError):
                raise
            if isinstance(error, StoreError) or error.__cause__ is not None:
                raise Problem(409, "unreadable-run", str(error), "Restore its folder from a copy.") from None
            raise Problem(404, "unknown-run", str(error), "GET /v1/runs lists the runs.") from None
        return name


@dataclass(frozen=True)
class Endpoint:
    """A route.

    Attributes:
        name: of the operation, unique.
        query, body: the values it takes.
        success: status → what it means.
        commands: it changes a run, honours `Idempotency-Key` and may be waited for.
        once: its key is kept by the server, because it makes no command.
        streams: values of the stream that it answers where `text/event-stream` is accepted.
        open: it needs no token.
    """

    name: str
    method: str
    path: str
    summary: str
    act: Callable[[Call], Answer]
    query: tuple[Field, ...] = ()
    body: tuple[Field, ...] = ()
    path_fields: tuple[Field, ...] = (RUN,)
    success: dict[int, str] = field(default_factory=lambda: {200: "As described."})
    commands: bool = False
    once: bool = False
    streams: tuple[Field, ...] = ()
    open: bool = False

    @property
    def in_path(self) -> tuple[Field, ...]:
        """The declared values that the path carries."""
        names = _IN_PATH.findall(self.path)
        return tuple(field for field in self.path_fields if field.name in names)


def to_json(value: Any) -> bytes:
    """JSON text of an answer; see `plain_json`."""
    return plain_json(value).encode("utf-8")
