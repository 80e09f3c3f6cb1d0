"""A small client of the protocol: what the MCP server, a bench and a script need, on the standard library alone.

    with Client("http://127.0.0.1:8620", token, name="my-script") as lab:
        lab.call("set_control", name="tiny-1", control="learning_rate", value=0.001)

Routes are called by the name of their declaration. A request that may change something carries an idempotency key, so
that it can be sent again when the connection broke without being done twice.
"""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from qcore.config import ConfigError
from qcore.lab import LabError
from qcore.runs.errors import sentence
from qcore.server.app import ENDPOINTS
from qcore.server.bodies import CLIENT_HEADER, KEY_HEADER
from qcore.server.endpoint import Endpoint

TIMEOUT_SECONDS = 60.0
BY_NAME: dict[str, Endpoint] = {endpoint.name: endpoint for endpoint in ENDPOINTS}


class RefusedError(LabError):
    """The server refused.

    Attributes:
        problem: its problem document.
    """

    def __init__(self, problem: dict[str, Any]) -> None:
        self.problem = problem
        self.status = int(problem.get("status", 0))
        detail, remedy = str(problem.get("detail", "the server refused")), str(problem.get("remedy", ""))
        stop = "" if not remedy or detail.endswith((".", "?", "!")) else "."
        super().__init__(f"{detail}{stop} {remedy}".rstrip())


class Client:
    """Calls one server, one request at a time; may be shared by threads.

    Raises:
        ConfigError: for a bad URL.
    """

    def __init__(self, url: str, token: str, *, name: str = "client", timeout: float = TIMEOUT_SECONDS) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no address of a server: write it as http://127.0.0.1:8620")
        maker = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._url = url
        self._connection = maker(parts.hostname, parts.port, timeout=timeout)
        self._lock = threading.Lock()
        self._headers = {"Authorization": f"Bearer {token}", CLIENT_HEADER: name}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        with self._lock:
            self._connection.close()

    def call(self, operation: str, /, **values: Any) -> Any:
        """The answer of the route with this name.

        Raises:
            RefusedError: as the server answers.
            LabError: when nobody answers.
        """
        endpoint = BY_NAME[operation]
        query = {field.name: values.pop(field.name) for field in endpoint.query if values.get(field.name) is not None}
        path = endpoint.path
        for field in endpoint.in_path:
            path = path.replace(f"{{{field.name}}}", quote(str(values.pop(field.name)), safe=""))
        if query:
            path += "?" + urlencode(query, doseq=True)
        return self.request(endpoint.method, path, values if endpoint.method != "GET" else None)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One request, sent a second time when the server closed an idle connection; errors as in `call`."""
        headers, data = dict(self._headers), None
        if method != "GET":
            headers |= {"Content-Type": "application/json", KEY_HEADER: str(uuid.uuid4())}
            data = json.dumps(body or {}).encode()
        with self._lock:
            try:
                status, text = self._exchange(method, path, data, headers)
            except (ConnectionError, http.client.HTTPException):
                self._connection.close()
                try:
                    status, text = self._exchange(method, path, data, headers)
                except (OSError, http.client.HTTPException) as error:
                    raise self._unreachable_error(error) from error
            except OSError as error:
                self._connection.close()
                raise self._unreachable_error(error) from error
        try:
            found = json.loads(text)
        except ValueError:
            raise LabError(
                f"{self._url} answered {status} with something that is not JSON: is it qcore serve?"
            ) from None
        if status >= 400:
            raise RefusedError(found)
        return found

    def _exchange(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        self._connection.request(method, path, data, headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _unreachable_error(self, error: Exception) -> LabError:
        return LabError(f"no answer from {self._url} ({sentence(error)}): start the server with qcore serve")
