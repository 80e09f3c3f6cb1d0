"""The protocol as an ASGI app: every declared route, behind the guard, over one lab.

Functions run in threads, their answers are JSON. Reads are kept for a quarter of a second and computed once however
many clients ask, so that fifty who poll cost as much as four; what a client has just changed, it reads anew. A command
waits for the trainer's answer on the event loop, not in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from qcore.lab import Lab
from qcore.server.actions import ACTIONS
from qcore.server.bodies import client_of, key_of, query_of, values_of
from qcore.server.endpoint import Answer, Call, Endpoint, to_json
from qcore.server.fields import check_fields
from qcore.server.guard import Guard
from qcore.server.openapi import document
from qcore.server.problems import MEDIA_TYPE, Problem, lab_problems, shorten
from qcore.server.reads import READS
from qcore.server.stream import POLL_SECONDS, Hub, Listener, StreamPosition, position_now
from qcore.server.token import Token
from qcore.server.trainer import TrainerProcess

KEPT_SECONDS = 0.25
KEPT_ANSWERS = 512
KEPT_KEYS = 1000
POLLS = (0.01, 0.25)  # seconds between two looks at a command: the first, the longest
logger = logging.getLogger(__name__)


def _openapi(call: Call) -> Answer:
    del call
    return Answer(document(ENDPOINTS))


ENDPOINTS: tuple[Endpoint, ...] = (
    *READS,
    *ACTIONS,
    Endpoint("openapi", "GET", "/openapi.json", "This document.", _openapi, path_fields=(), open=True),
)


@dataclass
class _Keys:
    """Answers of requests that make no command row, by idempotency key; they live as long as the server."""

    answers: OrderedDict[str, tuple[str, asyncio.Future[Answer]]] = field(default_factory=OrderedDict)

    async def once(self, key: str, digest: str, act: Callable[[], Any]) -> Answer:
        """The answer of the first request with this key; one that failed is forgotten, so it may be tried again."""
        if key in self.answers:
            first, answer = self.answers[key]
            if first != digest:
                detail = "this Idempotency-Key was used for another request"
                raise Problem(422, "key-reused", detail, "Use a new key for a new request.")
            return await asyncio.shield(answer)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.answers[key] = digest, future
        while len(self.answers) > KEPT_KEYS:
            self.answers.popitem(last=False)
        try:
            answer_ = await act()
        except BaseException as error:
            self.answers.pop(key, None)
            future.set_exception(error)
            future.exception()  # whoever waits has it; nobody waiting is no error
            raise
        future.set_result(answer_)
        return answer_


class Protocol:
    """Serves the declared routes over a lab; `app` is the ASGI application."""

    def __init__(
        self,
        lab: Lab,
        trainer: TrainerProcess,
        token: Token,
        *,
        hosts: Iterable[str] = (),
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.hub = Hub(lab, poll_seconds)
        self._lab, self._trainer = lab, trainer
        self._kept: OrderedDict[str, tuple[float, asyncio.Future[bytes]]] = OrderedDict()
        self._keys = _Keys()
        by_path = sorted(ENDPOINTS, key=lambda one: one.path)
        routes = [_route(path, self._serve, list(group)) for path, group in groupby(by_path, key=lambda one: one.path)]
        open_paths = [one.path for one in ENDPOINTS if one.open]
        self.app = Starlette(
            routes=routes,
            middleware=[Middleware(Guard, token=token, hosts=hosts, open_paths=open_paths)],
            exception_handlers={HTTPException: _routing_problem},
        )
        self.app.router.redirect_slashes = False

    async def _serve(self, endpoint: Endpoint, request: Request) -> Response:
        try:
            with lab_problems():
                return await self._answer(endpoint, request)
        except Problem as problem:
            return _refusal(problem, request)
        except Exception:  # the request's outer edge: in the log, never on the wire
            logger.exception("%s %s failed", request.method, request.url.path)
            detail = "unexpected error in the server; see its log"
            return _refusal(Problem(500, "internal", detail, "Report it with the log of qcore serve."), request)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        client = client_of(request.headers)
        if endpoint.streams and "text/event-stream" in request.headers.get("accept", ""):
            return await self._stream(endpoint, request)
        values = await values_of(endpoint, request)
        key = key_of(request.headers, client)
        call = Call(self._lab, self._trainer, values, client, key)
        act = partial(_run, endpoint, call)
        if endpoint.once and key is not None:
            digest = hashlib.sha256(f"{endpoint.name} {json.dumps(values, sort_keys=True, default=str)}".encode())
            answer = await self._keys.once(key, digest.hexdigest(), lambda: run_in_threadpool(act))
        elif endpoint.method == "GET" and "wait" not in values:
            return _json(await self._read(str(request.url), act))
        else:
            answer = await run_in_threadpool(act)
        if answer.waits_for is not None:
            answer = await self._wait_for_outcome(answer, values)
        if endpoint.method != "GET":
            self._kept.clear()
        headers = {"Location": answer.location} if answer.location else {}
        return _json(await run_in_threadpool(to_json, answer.body), answer.status, headers)

    async def _read(self, url: str, act: Callable[[], Answer]) -> bytes:
        """The answer of a read, kept for a moment; those who ask while it is computed wait for the same one."""
        now = time.monotonic()
        kept = self._kept.get(url)
        if kept is not None and now < kept[0]:
            return await asyncio.shield(kept[1])
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._kept[url] = now + KEPT_SECONDS, future
        while len(self._kept) > KEPT_ANSWERS:
            self._kept.popitem(last=False)
        try:
            body: bytes = await run_in_threadpool(lambda: to_json(act().body))
        except BaseException as error:
            if self._kept.get(url, (0, None))[1] is future:
                del self._kept[url]
            future.set_exception(error if isinstance(error, Exception) else Problem(503, "busy", "cancelled"))
            future.exception()
            raise
        future.set_result(body)
        return body

    async def _wait_for_outcome(self, answer: Answer, values: dict[str, Any]) -> Answer:
        """The command's row, after at most `wait` seconds for the trainer: 200, 202, or 409 when it was refused."""
        name, number = values["name"], answer.waits_for
        deadline, pause = time.monotonic() + values["wait"], POLLS[0]
        assert number is not None
        while True:
            row = await run_in_threadpool(self._lab.outcome, name, number)
            if row.status != "pending" or time.monotonic() >= deadline:
                break
            await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(POLLS[1], pause * 1.6)
        body = {**answer.body, **vars(row)}
        if row.status == "refused":
            remedy = "The detail says what the run takes now."
            raise Problem(409, "refused", row.message, remedy, {"command": json.loads(to_json(body))})
        return Answer(body, 202 if row.status == "pending" else answer.status, answer.location)

    async def _stream(self, endpoint: Endpoint, request: Request) -> Response:
        values = check_fields(endpoint.in_path, request.path_params, "path")
        values |= query_of(endpoint.streams, request)
        name = await run_in_threadpool(lambda: Call(self._lab, self._trainer, values).run)
        given = request.headers.get("last-event-id")
        position = StreamPosition.parsed(given) if given else await run_in_threadpool(position_now, self._lab, name)
        return _EventStream(self.hub, name, self.hub.listen(name, tuple(values["series"]), position))


class _EventStream(StreamingResponse):
    """A stream that tells the hub when it has ended, however it ended."""

    def __init__(self, hub: Hub, run: str, listener: Listener) -> None:
        super().__init__(hub.messages(listener), media_type="text/event-stream")
        self._left = partial(hub.leave, run, listener)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._left()


def _run(endpoint: Endpoint, call: Call) -> Answer:
    with lab_problems():
        return endpoint.act(call)


def _route(path: str, serve: Callable[[Endpoint, Request], Any], endpoints: list[Endpoint]) -> Route:
    """One route for all methods of a path, so that a 405 names them all."""
    by_method = {endpoint.method: endpoint for endpoint in endpoints}

    async def act(request: Request) -> Response:
        found: Response = await serve(by_method["GET" if request.method == "HEAD" else request.method], request)
        return found

    return Route(path, act, methods=list(by_method))


async def _routing_problem(request: Request, error: Exception) -> Response:
    """404 and 405 of the router."""
    assert isinstance(error, HTTPException)
    path = shorten(request.url.path)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.method} is not allowed for {path}; it takes {allowed}"
        return _refusal(Problem(405, "method", detail, "See /openapi.json.", headers={"Allow": allowed}), request)
    detail = f"there is nothing at {path}"
    return _refusal(Problem(error.status_code, "unknown-path", detail, "See /openapi.json."), request)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


def _refusal(problem: Problem, request: Request) -> Response:
    body = problem.encoded(request.url.path)
    return Response(body, problem.status, dict(problem.headers), MEDIA_TYPE)
