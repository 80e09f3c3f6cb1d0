"""The OpenAPI 3.1 document, generated from the declared routes and controls; nothing in it is written by hand twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qcore.base import VERSION
from qcore.config import MODEL_KINDS, all_controls, live_controls
from qcore.server.bodies import CLIENT_HEADER, KEY_HEADER
from qcore.server.endpoint import Endpoint
from qcore.server.fields import Field, control_schema, object_schema
from qcore.server.problems import MEDIA_TYPE

_PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457): what is wrong, with the value received, and what to do.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
        "instance": {"type": "string"},
    },
}
_REFUSALS = {
    400: "Not JSON.",
    401: "No token, or not this server's.",
    403: "The Host or Origin is not this server's.",
    404: "No such run, control, command or path.",
    405: "Not a method of this path.",
    408: "The body did not arrive in time.",
    409: "The run is in the wrong state, or its trainer refused.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "A value is missing, unknown or out of range.",
    503: "Busy: try again.",
}
_OF_BODIES = (400, 408, 413, 415)


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    for kind in MODEL_KINDS:
        schemas[f"Controls_{kind}"] = {
            "type": "object",
            "description": f"Live controls of a {kind}: what PUT /v1/runs/{{name}}/controls/{{control}} takes.",
            "properties": {name: control_schema(control) for name, control in live_controls(kind).items()},
        }
        schemas[f"Changes_{kind}"] = {
            "type": "object",
            "description": f"Every value of a new {kind} run: what `changes` of POST /v1/runs takes.",
            "properties": {control.name: control_schema(control) for control in all_controls(kind)},
            "additionalProperties": False,
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Collapse Lab control protocol",
            "version": VERSION,
            "description": "Start, watch and steer runs, with the same bounds and the same log as in the dashboard.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                f"Refused{status}": {
                    "description": about,
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
                for status, about in _REFUSALS.items()
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    parameters = [_parameter(field, "path") for field in endpoint.in_path]
    parameters += [_parameter(field, "query") for field in (*endpoint.query, *endpoint.streams)]
    parameters.append(_header(CLIENT_HEADER, "Your name: the author of what you change is api:NAME."))
    if endpoint.commands or endpoint.once:
        parameters.append(_header(KEY_HEADER, "A repeated request with the same key adds nothing."))
    if endpoint.streams:
        parameters.append(_header("Last-Event-ID", "Continue a stream after this message."))
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": _responses(endpoint),
    }
    if endpoint.open:
        operation["security"] = []
    if endpoint.body:
        required = any(field.required for field in endpoint.body)
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": object_schema(endpoint.body)}},
        }
    return operation


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if endpoint.streams:
        about = "status, event, finding, scalars and rewind messages, as server-sent events."
        content["text/event-stream"] = {"schema": {"type": "string", "description": about}}
    found: dict[str, Any] = {
        str(status): {"description": about, "content": content} for status, about in endpoint.success.items()
    }
    for status in _REFUSALS:
        if endpoint.method != "GET" or status not in _OF_BODIES:
            found[str(status)] = {"$ref": f"#/components/responses/Refused{status}"}
    return found


def _parameter(field: Field, where: str) -> dict[str, Any]:
    schema = {key: value for key, value in field.schema.items() if key != "description"}
    return {
        "name": field.name,
        "in": where,
        "required": where == "path" or field.required,
        "description": field.help,
        "schema": schema,
    }


def _header(name: str, about: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": about, "schema": {"type": "string"}}
