"""Reading a request: its JSON body within a size and a time, its query, its client's name and idempotency key."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from qcore.server.endpoint import Endpoint
from qcore.server.fields import Field, check_fields
from qcore.server.problems import Problem

LARGEST = 1 << 20
DRAINED = 8 << 20  # read and thrown away, because who is still sending does not read why it is refused
BODY_SECONDS = 10.0
CLIENT_HEADER = "X-Client"
KEY_HEADER = "Idempotency-Key"
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


def client_of(headers: Headers) -> str:
    """The name that a client gives itself, `client` without one.

    Raises:
        Problem: 422 for one that is no name.
    """
    name = headers.get(CLIENT_HEADER, "client")
    if not _CLIENT.fullmatch(name):
        detail = f"{CLIENT_HEADER} {name[:80]!r} is refused: it must be 1 to 64 letters, digits or . _ @ -"
        raise Problem(422, "refused-value", detail, "It is the author of what you change: give a short name.")
    return name


def key_of(headers: Headers, client: str) -> str | None:
    """The idempotency key, made the client's own, or None.

    Raises:
        Problem: 422 for one that is no key.
    """
    key = headers.get(KEY_HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        detail = f"{KEY_HEADER} {key[:80]!r} is refused: it must be 1 to 200 visible ASCII letters"
        raise Problem(422, "refused-value", detail, "Send a random key, such as a UUID.")
    return f"{client}:{key}"


async def values_of(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """Every declared value of a request, checked. Raises `Problem`."""
    values = check_fields(endpoint.in_path, request.path_params, "path")
    values |= query_of(endpoint.query, request)
    if request.method not in ("GET", "HEAD"):
        values |= check_fields(endpoint.body, await _body(request), "body")
    return values


def query_of(fields: Sequence[Field], request: Request) -> dict[str, Any]:
    """The values of the query, checked; a list may be repeated or written with commas.

    Raises:
        Problem: when it is refused.
    """
    many = {field.name for field in fields if field.kind == "texts"}
    found: dict[str, Any] = {}
    for name in request.query_params:
        given = request.query_params.getlist(name)
        if len(given) > 1 and name not in many:
            raise Problem(422, "refused-value", f"{name[:80]} is given {len(given)} times", "Give it once.")
        found[name] = given if name in many else given[0]
    return check_fields(fields, found, "query")


async def _body(request: Request) -> dict[str, Any]:
    text = await _bytes(request)
    if not text.strip():
        return {}
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        detail = f"the body is {media[:80] or 'of no type'!r}"
        raise Problem(415, "media-type", detail, "Send JSON with Content-Type: application/json.")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, an integer of thousands of digits, too deep
        raise Problem(400, "malformed-json", f"the body is not JSON: {error}", "Send a JSON object.") from None
    if not isinstance(value, dict):
        detail = f"the body is a JSON {type(value).__name__}"
        raise Problem(422, "refused-value", detail, 'Send a JSON object, such as {"value": 0.3}.')
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


async def _bytes(request: Request) -> bytes:
    """The body, at most 1 MiB of it, within ten seconds."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= LARGEST:
                    parts.append(part)
                elif size > DRAINED:
                    break
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_SECONDS:g} s"
        raise Problem(408, "timeout", detail, "Send it in one piece.", headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise Problem(400, "disconnected", "the client left before its body had arrived") from None
    if size > LARGEST:
        detail = f"the body has more than {LARGEST} bytes"
        raise Problem(413, "too-large", detail, "Send less.", {"limit": LARGEST}, {"Connection": "close"})
    return b"".join(parts)
