"""A server over a folder with a finished run, `done`, and one that a lab of this process trains, `live`, paused."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qcore.config import Pause
from qcore.lab import Lab
from qcore.server.client import Client
from qcore.server.service import Service
from tests.support.configs import eventually, small_config

TINY = small_config(documents=40, batch_size=2)
ENDLESS = TINY.with_values({"steps": 1_000_000})


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Raw requests to a server: what it is sent is not checked by any client."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.auth = {"Authorization": f"Bearer {service.token.value}"}

    def __call__(self, method: str, path: str, body: Any = None, *, bare: bool = False, **headers: str) -> Reply:
        """bare: without the token. A body that is no bytes is sent as JSON; `X_Client` is the header X-Client."""
        given = {} if bare else dict(self.auth)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            given["Content-Type"] = "application/json"
        given |= {key.replace("_", "-"): value for key, value in headers.items()}
        connection = http.client.HTTPConnection(self.service.host, self.service.port, timeout=30)
        try:
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            return Reply(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("served")
    with Lab(folder, training=2) as lab:
        lab.start(TINY, name="done")
        assert lab.wait("done", 60).state == "finished"
        lab.start(ENDLESS, name="live")
        eventually(lambda: lab.info("live").step >= 3)
        lab.command("live", Pause())
        eventually(lambda: lab.info("live").state == "paused")
        with Service(folder, port=0, poll_seconds=0.02) as running:
            yield running


@pytest.fixture(scope="module")
def call(service: Service) -> Caller:
    return Caller(service)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, service.token.value, name="tester") as found:
        yield found
