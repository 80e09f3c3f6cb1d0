"""Under which names a server may be called, and by which pages: every pair, decided by one function."""

from __future__ import annotations

from typing import Any

import pytest

from qcore.config import ConfigError
from qcore.server.hosts import HOSTS, Hosts, is_loopback, split_netloc
from qcore.server.problems import Problem

LOCAL = Hosts.of([])
NAMED = Hosts.of(["lab.example", " Other.Example "])
OPEN = Hosts.of([], any_address=True)


def scope(host: str | list[str] | None, origin: str | list[str] | None = None, scheme: str = "http") -> dict[str, Any]:
    """What a server hands on of a request."""
    found = []
    for name, values in ((b"host", host), (b"origin", origin)):
        listed = values if isinstance(values, list) else [] if values is None else [values]
        found += [(name, value.encode("utf-8")) for value in listed]
    return {"type": "http", "scheme": scheme, "path": "/", "headers": found}


def refusal(hosts: Hosts, *request: Any, **more: Any) -> str:
    """The kind of refusal; empty for a request that passes."""
    try:
        hosts.check(scope(*request, **more))
    except Problem as problem:
        return problem.kind if problem.remedy else "no remedy"
    return ""


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8501", "127.0.0.1", "127.0.0.1:1", "127.255.0.9:80", "[::1]:8501", "[::1]",
     "[::ffff:127.0.0.1]:9", "localhost:65535"],
)  # fmt: skip
def test_names_of_this_machine_pass_at_any_port(host: str):
    assert [refusal(hosts, host) for hosts in (LOCAL, NAMED, OPEN)] == ["", "", ""]


@pytest.mark.parametrize(
    "host",
    [None, "", " ", [], ["localhost", "localhost"], ["localhost", "evil.example"], "evil.example", "evil.example:8501",
     "localhost.evil.example", "127.0.0.1.evil.example", "evil@127.0.0.1", "a:b@localhost", "127.0.0.1:80@evil.example",
     "localhost.", "127.0.0.1.", "localhost:", "localhost:0", "localhost:65536", "localhost:99999999999",
     "localhost:+80", "localhost:８０",
     "localhost/", "localhost#x", "localhost?x", "localhost, evil.example", "localhost evil",
     "http://localhost", "//localhost", "0x7f.1", "127.1", "2130706433", "0177.0.0.1", "::1", "[::1", "::1]", "[::1]x",
     "[::1%25lo]", "[localhost]", "*", "*.localhost", "a.localhost", "local host", "localhost\x00", "localhost\t",
     "lоcalhost", "x" * 5000, "1." * 4000, "[" + ":" * 4000 + "]"],
)  # fmt: skip
def test_everything_else_is_refused(host: str | list[str] | None):
    assert [refusal(hosts, host) for hosts in (LOCAL, NAMED, OPEN)] == ["foreign-host"] * 3


def test_an_address_is_a_name_only_of_a_server_that_listens_at_all_of_them():
    for host in ("10.0.0.2:80", "8.8.8.8", "[2001:db8::1]:80", "0.0.0.0:8501"):
        assert [refusal(hosts, host) for hosts in (LOCAL, OPEN)] == ["foreign-host", ""]


def test_names_come_from_the_owner_and_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(HOSTS, "a.example, B.example ,[2001:db8::1],,")
    hosts = Hosts.of(["c.example"])
    allowed = ["a.example:1", "b.EXAMPLE", "c.example", "[2001:0db8::0:1]:9"]
    assert [refusal(hosts, host) for host in allowed] == [""] * 4
    assert refusal(hosts, "x.a.example") == "foreign-host"
    for wrong in ("http://a.example", "a.example:80", "*.example", "a b", "me@a.example", "a.example/", "a.example."):
        monkeypatch.setenv(HOSTS, wrong)
        with pytest.raises(ConfigError, match="host names alone"):
            Hosts.of([])


@pytest.mark.parametrize(
    ("host", "origin", "scheme"),
    [
        ("localhost:8501", None, "http"),
        ("localhost:8501", "http://localhost:8501", "http"),
        ("LOCALHOST:8501", "http://localhost:8501", "ws"),
        ("[::1]:8501", "http://[::1]:8501", "ws"),
        ("localhost", "http://localhost", "http"),
        ("localhost:80", "http://localhost", "ws"),
        ("localhost", "https://localhost:443", "wss"),
        ("lab.example", "https://lab.example", "http"),  # a proxy that speaks TLS for us
        ("lab.example:8443", "https://lab.example:8443", "ws"),
        ("lab.example:443", "https://lab.example", "ws"),
    ],
)
def test_a_page_of_the_server_itself_may_call_it(host: str, origin: str | None, scheme: str):
    assert refusal(NAMED, host, origin, scheme=scheme) == ""


@pytest.mark.parametrize(
    ("host", "origin", "scheme"),
    [
        ("localhost:8501", "http://evil.example", "http"),
        ("localhost:8501", "http://localhost:1234", "http"),  # another program of this machine
        ("localhost:8501", "http://localhost", "http"),
        ("localhost", "http://localhost:8501", "http"),
        ("localhost:8501", "http://127.0.0.1:8501", "http"),
        ("localhost:8501", "https://localhost:8501", "ws"),
        ("localhost:8501", "http://localhost:8501", "wss"),
        ("lab.example", "http://other.example", "http"),
        ("lab.example", "https://lab.example:8443", "http"),
        ("lab.example", "https://lab.example.", "http"),
        ("localhost:8501", "null", "http"),
        ("localhost:8501", "", "http"),
        ("localhost:8501", "file://", "http"),
        ("localhost:8501", "chrome-extension://localhost:8501", "http"),
        ("localhost:8501", "ws://localhost:8501", "ws"),
        ("localhost:8501", "http://localhost:8501/", "http"),
        ("localhost:8501", "http://evil@localhost:8501", "http"),
        ("localhost:8501", "http://localhost:8501 http://evil.example", "http"),
        ("localhost:8501", "HTTP://localhost:8501", "http"),
        ("localhost:8501", ["http://localhost:8501", "http://localhost:8501"], "http"),
        ("localhost:8501", "http://localhost:8501.evil.example", "http"),
        ("localhost:8501", "http://localhost:8501" + "0" * 9000, "http"),
    ],
)
def test_no_other_page_may_call_it(host: str, origin: str | list[str], scheme: str):
    assert refusal(NAMED, host, origin, scheme=scheme) == "foreign-origin"


@pytest.mark.parametrize("path", ["http://evil.example/", "*", "evil:80", "", "x/y"])
def test_a_target_that_is_no_path_is_refused(path: str):
    with pytest.raises(Problem, match="request is for"):
        LOCAL.check({**scope("localhost"), "path": path})


def test_a_netloc_is_read_in_linear_time_and_as_a_browser_writes_it():
    assert split_netloc("Lab.Example:81") == ("lab.example", 81)
    assert split_netloc("[0:0::1]") == ("::1", None)
    assert [is_loopback(one) for one in ("127.9.9.9", "[::1]", "LOCALHOST", "", "localhost.evil", "0.0.0.0")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
