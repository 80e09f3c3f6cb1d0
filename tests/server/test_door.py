"""Who is let in: token, its file, Host and Origin; and the OpenAPI document, which needs none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from qcore.config import MODEL_KINDS, ConfigError, live_controls
from qcore.server.app import ENDPOINTS
from qcore.server.hosts import HOSTS
from qcore.server.openapi import document
from qcore.server.service import Service, is_loopback
from qcore.server.token import TOKEN_FILE, Token, open_token, read_token
from tests.server.conftest import Caller

_PATH_NAME = re.compile(r"{(\w+)}")


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer x", "Basic {token}", "Bearer {token}x", "Bearer é"])
def test_without_the_token_nothing_is_answered_or_changed(call: Caller, service: Service, shown: str):
    before = len(service.lab.reader("live").commands())
    header = {"Authorization": shown.format(token=service.token.value)} if shown else {}
    for method, path in (("GET", "/v1/runs"), ("POST", "/v1/runs/live/stop"), ("GET", "/v1/nothing")):
        reply = call(method, path, bare=True, **header)
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.json["remedy"]
    assert len(service.lab.reader("live").commands()) == before


def test_the_scheme_may_be_written_in_any_case(call: Caller, service: Service):
    assert call("GET", "/v1/runs", bare=True, Authorization=f"bearer {service.token.value}").status == 200


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("localhost", True), ("localhost:8620", True), ("127.0.0.1:1", True), ("[::1]:8620", True), ("10.0.0.2", True),
     ("evil@127.0.0.1", False), ("localhost.", False), ("127.0.0.1:99999", False), ("127.1", False), ("::1", False),
     ("evil.example", False), ("127.0.0.1.evil.example:8620", False), ("", False), ("[::1", False)],
)  # fmt: skip
def test_a_name_that_is_not_ours_is_refused(call: Caller, host: str, allowed: bool):
    reply = call("GET", "/v1/runs", Host=host)
    assert reply.status == (200 if allowed else 403)
    if not allowed:
        assert "--allow-host" in reply.json["remedy"]


def test_a_page_of_another_origin_is_refused_even_with_the_token(call: Caller, service: Service):
    own = f"{service.host}:{service.port}"
    assert call("GET", "/v1/runs", Origin=f"http://{own}").status == 200
    for origin in ("http://evil.example", "null", "http://10.6.6.6", f"http://{service.host}:1"):
        assert call("GET", "/v1/runs", Origin=origin).status == 403


def test_a_name_that_is_none_is_refused_before_the_server_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="host names alone"):
        Service(tmp_path / "runs", port=0, hosts=["http://lab.example"])
    monkeypatch.setenv(HOSTS, "*.example")
    with pytest.raises(ConfigError, match="host names alone"):
        Service(tmp_path / "runs", port=0)
    assert not (tmp_path / "runs").exists()


def test_names_of_the_environment_are_the_protocol_s_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(HOSTS, "lab.example")
    with Service(tmp_path, port=0) as named:
        assert Caller(named)("GET", "/v1/runs", Host="lab.example", Origin="https://lab.example").status == 200


def test_a_named_host_can_be_allowed(tmp_path: Path):
    with Service(tmp_path, port=0, hosts=["lab.example"]) as named:
        caller = Caller(named)
        assert caller("GET", "/v1/runs", Host="LAB.example:80").status == 200
        assert caller("GET", "/v1/runs", Host="other.example").status == 403


def test_the_token_file_is_its_owners_alone(tmp_path: Path):
    path = tmp_path / TOKEN_FILE
    token = open_token(path)
    assert token.fresh
    assert path.stat().st_mode & 0o777 == 0o600
    again = open_token(path)
    assert (again.value, again.fresh) == (token.value, False)
    assert open_token(path, renew=True).value != token.value
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(ConfigError, match="20 letters"):
        read_token(path)
    with pytest.raises(ConfigError, match="qcore serve"):
        read_token(tmp_path / "none")


def test_a_token_matches_itself_alone_and_is_not_printed():
    token = Token("s3cret-s3cret-s3cret-s3cret")
    assert token.matches(token.value)
    assert not token.matches(token.value[:-1])
    assert not token.matches("")
    assert token.value not in repr(token)


def test_loopback_is_told_from_the_rest():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "lab")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_the_document_needs_no_token_and_has_every_route(call: Caller):
    found = call("GET", "/openapi.json", bare=True).json
    assert found["openapi"].startswith("3.1.")
    operations = {
        (method.upper(), path): operation for path, item in found["paths"].items() for method, operation in item.items()
    }
    assert set(operations) == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    for (method, path), operation in operations.items():
        assert operation["summary"].endswith(".")
        in_path = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert in_path == set(_PATH_NAME.findall(path))
        assert all(parameter["required"] for parameter in operation["parameters"] if parameter["in"] == "path")
        assert any(status.startswith("2") for status in operation["responses"])
        assert ("requestBody" not in operation) or method != "GET"


def test_every_reference_of_the_document_leads_somewhere():
    found = document(ENDPOINTS)

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [one for value in node.values() for one in references(value)]
        return [one for item in node for one in references(item)] if isinstance(node, list) else []

    assert references(found)
    for reference in references(found):
        at: Any = found
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


def test_the_document_has_every_live_control_with_its_range():
    schemas = document(ENDPOINTS)["components"]["schemas"]
    for kind in MODEL_KINDS:
        properties = schemas[f"Controls_{kind}"]["properties"]
        for name, control in live_controls(kind).items():
            assert properties[name]["description"] == control.help
            assert properties[name]["default"] == control.default
            if control.kind in ("float", "int"):
                assert (properties[name]["minimum"], properties[name]["maximum"]) == (control.low, control.high)


def test_every_schema_of_the_document_is_json_schema():
    jsonschema = pytest.importorskip("jsonschema")
    found = document(ENDPOINTS)
    for schema in found["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for item in found["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                jsonschema.Draft202012Validator.check_schema(parameter["schema"])
