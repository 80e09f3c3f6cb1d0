"""What the app asks for at its door, by where it listens, whether it has a login, and what the environment says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from pages.session import doors
from qcore.config import ConfigError
from qcore.server.hosts import HOSTS
from qcore.server.token import TOKEN, TOKEN_FILE, TOKEN_PATH

SECRET = "a-secret-of-more-than-twenty-letters"
LOGIN = {"auth": {"client_id": "x"}}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings of Streamlit, as the test writes them; runs lie in a folder that is not there yet."""
    found: dict[str, Any] = {"server.address": "127.0.0.1", "server.port": 8501, "server.baseUrlPath": ""}
    monkeypatch.setattr(st, "get_option", lambda name: found.get(name))
    monkeypatch.setattr(st, "secrets", {})
    monkeypatch.setenv("QCORE_RUNS", str(tmp_path / "runs"))
    for name in (TOKEN, TOKEN_PATH, HOSTS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doors, "_entry", None)
    return found


@pytest.mark.parametrize(
    ("address", "login", "said", "asks", "here_only"),
    [
        ("127.0.0.1", False, "", False, True),
        ("::1", False, "", False, True),
        ("localhost", False, "", False, True),
        ("127.0.0.1", False, "on", True, False),
        ("127.0.0.1", False, SECRET, True, False),
        ("127.0.0.1", False, "off", False, False),
        ("127.0.0.1", True, "", False, False),
        ("0.0.0.0", False, "", True, False),
        ("::", False, "", True, False),
        (None, False, "", True, False),
        ("10.0.0.2", False, "", True, False),
        ("lab.example", False, "", True, False),
        ("0.0.0.0", True, "", False, False),
        ("0.0.0.0", True, "on", True, False),
        ("0.0.0.0", False, "off", False, False),
    ],
)
def test_a_token_is_asked_for_where_a_stranger_could_come(
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    address: str | None,
    login: bool,
    said: str,
    asks: bool,
    here_only: bool,
):
    settings["server.address"] = address
    monkeypatch.setattr(st, "secrets", LOGIN if login else {})
    monkeypatch.setenv(TOKEN, said)
    entry = doors.entry()
    assert (entry.passes is not None, entry.here_only) == (asks, here_only)
    path = tmp_path / "runs" / TOKEN_FILE
    assert path.exists() == (asks and said != SECRET)
    if path.exists():
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("address", "allowed", "refused"),
    [
        ("127.0.0.1", "localhost", "10.0.0.2"),
        ("0.0.0.0", "10.0.0.2", "lab.example"),
        (None, "192.0.2.1", "evil.example"),
        ("10.0.0.2", "10.0.0.2", "10.0.0.3"),
        ("lab.example", "lab.example", "evil.example"),
    ],
)
def test_the_app_is_called_by_where_it_listens(
    settings: dict[str, Any], address: str | None, allowed: str, refused: str
):
    settings["server.address"] = address
    assert [doors.entry().hosts.has(name) for name in (allowed, refused, "localhost")] == [True, False, True]


def test_the_start_line_is_an_address_that_opens(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    def said() -> str:
        monkeypatch.setattr(doors, "_entry", doors.entry())
        return "\n".join(doors.greeting())

    assert said().strip() == "Collapse Lab: http://127.0.0.1:8501"
    settings |= {"server.address": "::1", "server.baseUrlPath": "/lab/", "server.sslCertFile": "x"}
    assert said().strip() == "Collapse Lab: https://[::1]:8501/lab/"
    settings |= {"server.address": None, "server.sslCertFile": None}
    monkeypatch.setenv(TOKEN, "a+secret&of=more than".replace(" ", "/") + "-twenty")
    assert "http://127.0.0.1:8501/lab/?token=a%2Bsecret%26of%3Dmore%2Fthan-twenty\n" in said()
    assert HOSTS in said()
    assert doors.leave_address() == "/lab/_lab/leave"


def test_a_token_file_of_another_place_is_used(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings["server.address"] = "0.0.0.0"
    monkeypatch.setenv(TOKEN_PATH, str(tmp_path / "mine"))
    entry = doors.entry()
    assert entry.passes is not None
    assert (tmp_path / "mine").read_text().strip() == entry.passes.token.value
    assert not (tmp_path / "runs").exists()
    (tmp_path / "mine").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        doors.entry()


@pytest.mark.parametrize("secrets", [{"auth": "x"}, {"auth": ["x"]}, {"auth": 5}])
def test_a_login_that_is_no_table_stops_the_start(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, secrets: Any, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(st, "secrets", secrets)
    monkeypatch.setattr(doors.net_util, "get_external_ip", None)
    monkeypatch.setattr(doors.net_util, "get_internal_ip", None)
    with pytest.raises(SystemExit) as ended:
        doors.open_door()
    assert ended.value.code == 2
    assert "[auth]" in capsys.readouterr().err
    assert not doors.serves_app()
