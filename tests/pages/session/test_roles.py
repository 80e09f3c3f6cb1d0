"""Viewer and operator: what an open app shows and refuses, whose name the log bears, and that local use asks nobody."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.session import doors, roles
from qcore.config import Pause, SaveCheckpoint, SetControl
from qcore.lab import Lab, LabError
from qcore.server.door import Entry
from qcore.server.hosts import Hosts
from qcore.server.token import Passes, Token
from tests.pages.drive import APP, FINDINGS, GENERATIONS, PAGES, open_app, texts
from tests.support.configs import eventually

ALICE = {"is_logged_in": True, "email": "Alice@example.org", "email_verified": True}


FORWARDERS = (
    *("Forwarded", "Via", "via", "X-Forwarded-Proto", "x-forwarded-port", "X-Real-IP", "X-Client-IP", "Client-IP"),
    *("CF-Connecting-IP", "CF-Ray", "CDN-Loop", "True-Client-IP", "Fastly-Client-IP", "Fly-Client-IP", "Remote-User"),
    *("X-Amzn-Trace-Id", "X-Envoy-External-Address", "X-Original-Host", "X-Cluster-Client-IP", "X-Request-ID"),
)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app listens to the network."""
    real = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: "0.0.0.0" if name == "server.address" else real(name))


def as_user(user: dict[str, Any]) -> AppTest:
    """The app with somebody's login; an empty one is a login page that nobody has passed."""
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.user = user
    return at.run()


def test_on_its_own_machine_everyone_operates_and_is_a_person(paused: Lab):
    at = open_app()
    assert not at.exception
    assert roles.NOTE not in texts(at)
    at.button(key="do:Save checkpoint").click().run()
    rows = [row for row in paused.reader("alive").commands() if row.kind == SaveCheckpoint.kind]
    assert [row.author for row in rows] == ["person"]


@pytest.mark.parametrize("page", PAGES)
def test_an_open_app_without_a_login_shows_all_and_says_what_to_do(page: str, finished: Lab, opened: None):
    at = open_app(page, run="done")
    assert not at.exception
    assert "done" in texts(at)


def test_an_open_app_without_a_login_locks_what_changes_a_run(standing: Lab, opened: None):
    at = open_app()
    assert "[auth]" in at.info[0].value
    for key in ("do:Continue", "do:Save checkpoint", "do:Stop"):
        assert at.button(key=key).disabled
        assert at.button(key=key).help == roles.VIEWER_HELP
    knobs = [slider for slider in at.select_slider if str(slider.key).startswith("knob:")]
    assert knobs
    assert all(knob.disabled for knob in knobs)
    at = open_app(view="New run")
    assert next(button for button in at.button if button.label == "Start").disabled


def test_what_a_viewer_writes_as_a_path_is_not_looked_for(
    standing: Lab, opened: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Their browser can put anything into the session; for an operator the form says what lies there."""
    secret = tmp_path / "diary.txt"
    secret.write_bytes(b"word " * 500 + b"\xff")

    def shown() -> str:
        at = open_app(view="New run", preset="tiny")
        at.session_state["new:tiny:phase_lm:source"] = "text"
        at.session_state["new:tiny:phase_lm:path"] = str(secret)
        at.run()
        found = texts(at)
        at.session_state["edit_as"] = "YAML"
        at.session_state["new:tiny:yaml"] = f"data: {{source: text, path: {tmp_path}}}"
        at.run()
        assert not at.exception
        return found + texts(at) + "".join(block.value for block in at.code)

    assert "diary.txt" not in shown()
    monkeypatch.setattr(roles, "can_operate", lambda: True)
    assert "diary.txt" in shown()


def test_a_viewer_whose_widget_was_not_locked_is_refused(standing: Lab, opened: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(roles, "can_operate", lambda: True)  # a page that forgot to ask; the lab asks for itself
    before = len(standing.reader("alive").commands())
    at = open_app()
    at.button(key="do:Continue").click().run()
    assert "viewer" in at.error[0].value
    at.select_slider(key="knob:alive:ce_weight:0").set_value(5.0).run()
    assert not at.exception
    at = open_app(view="New run")
    next(button for button in at.button if button.label == "Start").click().run()
    assert not at.exception
    assert len(standing.reader("alive").commands()) == before
    assert [info.name for info in standing.runs()] == ["alive"]


def test_generations_and_findings_are_closed_to_a_viewer(inside: Lab, opened: None):
    at = open_app(FINDINGS, run="ill")
    act = [one for one in at.button if str(one.key).startswith(("remedy:", "acknowledge:", "mute:"))]
    assert act
    assert all(button.disabled for button in act)
    at = open_app(GENERATIONS, run="seen")
    assert all(button.disabled for button in at.button if button.label == "Generate")


def test_a_login_comes_before_everything(finished: Lab):
    at = as_user({"is_logged_in": False})
    assert not at.exception
    assert [button.label for button in at.button] == ["Log in"]
    assert "done" not in texts(at)
    assert at.dataframe.len == 0


def test_a_listed_person_operates_under_the_e_mail(paused: Lab, monkeypatch: pytest.MonkeyPatch, opened: None):
    monkeypatch.setenv(roles.OPERATORS, "bob@example.org, alice@EXAMPLE.org")
    at = as_user(ALICE)
    assert not at.exception
    assert "alice\\@example.org · operator" in texts(at)
    at.button(key="do:Save checkpoint").click().run()
    row = next(row for row in paused.reader("alive").commands() if row.kind == SaveCheckpoint.kind)
    assert row.author == "alice@example.org"
    paused.outcome("alive", row.id, 20)
    eventually(lambda: "alice@example.org" in [event.author for event in paused.reader("alive").events()])


@pytest.mark.parametrize(
    "user",
    [
        {**ALICE, "email": "eve@example.org"},
        {**ALICE, "email_verified": False},
        {**ALICE, "email_verified": "true"},
        {**ALICE, "email_verified": "false"},
        {**ALICE, "email_verified": 1},
        {**ALICE, "email_verified": None},
        {key: value for key, value in ALICE.items() if key != "email_verified"},
        {"is_logged_in": True},
        {"is_logged_in": True, "email_verified": True, "email": ""},
    ],
)
def test_others_who_are_logged_in_are_viewers(standing: Lab, monkeypatch: pytest.MonkeyPatch, user: dict[str, Any]):
    monkeypatch.setenv(roles.OPERATORS, "alice@example.org")
    at = as_user(user)
    assert "· viewer" in texts(at)
    assert at.button(key="do:Save checkpoint").disabled


def test_a_star_lets_everyone_operate(standing: Lab, monkeypatch: pytest.MonkeyPatch, opened: None):
    monkeypatch.setenv(roles.OPERATORS, "*")
    assert not open_app().button(key="do:Save checkpoint").disabled


def test_operators_may_be_listed_in_the_secrets(standing: Lab):
    at = AppTest.from_file(str(APP), default_timeout=60)
    at.user = dict(ALICE)
    at.secrets["roles"] = {"operators": ["alice@example.org"]}
    assert not at.run().button(key="do:Save checkpoint").disabled


@pytest.mark.parametrize(
    ("headers", "address", "local"),
    [
        ({}, "127.0.0.1", False),  # what has no Host is no browser
        ({"Host": "localhost:8501"}, "localhost", True),
        ({"Host": "127.0.0.1:8501"}, "127.0.0.1", True),
        ({"Host": "[::1]:8501"}, "::1", True),
        ({"Host": "localhost:8501"}, None, False),  # Streamlit's own default: every interface
        ({"Host": "localhost:8501"}, "0.0.0.0", False),
        ({"Host": "lab.example.org"}, "127.0.0.1", False),  # a proxy of this machine
        ({"Host": "localhost", "X-Forwarded-For": "10.0.0.7"}, "127.0.0.1", False),
        *(({"Host": "127.0.0.1:8501", name: "10.0.0.7"}, "127.0.0.1", False) for name in FORWARDERS),
        ({"Host": "127.0.0.1:8501", "User-Agent": "x", "Cookie": "a=b", "Sec-Fetch-Site": "same-origin",
          "Accept-Language": "de", "DNT": "1", "Priority": "u=4", "Referer": "http://x"}, "127.0.0.1", True),
        ({"Host": "0x7f.1:8501"}, "127.0.0.1", False),
        ({"Host": "127.1"}, "127.0.0.1", False),
        ({"Host": "localhost.:8501"}, "127.0.0.1", False),
        ({"Host": "evil@127.0.0.1:8501"}, "127.0.0.1", False),
        ({"Host": "[::1"}, "127.0.0.1", False),
        ({"Host": ""}, "127.0.0.1", False),
        ({"Host": "127.0.0.2:8501"}, "127.0.0.2", True),
        ({"User-Agent": "x"}, "127.0.0.1", False),
    ],
)  # fmt: skip
def test_local_is_a_loopback_address_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], address: str | None, local: bool
):
    monkeypatch.setattr(st, "context", SimpleNamespace(headers=headers))
    monkeypatch.setattr(st, "get_option", lambda _: address)
    assert roles.is_local() is local


@pytest.mark.parametrize(
    ("peer", "local"), [(None, True), ("127.0.0.2", True), ("::1", True), ("10.0.0.7", False), ("2001:db8::1", False)]
)
def test_a_peer_of_another_machine_is_not_local(monkeypatch: pytest.MonkeyPatch, peer: str | None, local: bool):
    monkeypatch.setattr(st, "context", SimpleNamespace(headers={"Host": "localhost:8501"}, ip_address=peer))
    monkeypatch.setattr(st, "get_option", lambda _: "127.0.0.1")
    assert roles.is_local() is local


def test_whoever_has_hung_up_while_the_script_runs_is_not_local(standing: Lab, monkeypatch: pytest.MonkeyPatch):
    """In a server, a session without a request is one that has gone; in AppTest, nobody is there at all."""
    assert not open_app().button(key="do:Save checkpoint").disabled
    monkeypatch.setattr(doors, "_entry", Entry(Hosts.of([])))
    assert open_app().button(key="do:Save checkpoint").disabled


def test_who_has_the_token_operates(standing: Lab, opened: None, monkeypatch: pytest.MonkeyPatch):
    assert open_app().button(key="do:Save checkpoint").disabled
    monkeypatch.setattr(doors, "_entry", Entry(Hosts.of([]), Passes(Token("a-secret-of-more-than-twenty-letters"))))
    at = open_app()
    assert not at.exception
    assert not at.button(key="do:Save checkpoint").disabled


ILL_SECRETS: list[dict[str, Any]] = [
    {"roles": "x"},
    {"roles": 5},
    {"roles": ["alice@example.org"]},
    {"roles": {"operators": "*@example.org"}},
    {"roles": {"operators": "alice@example.org"}},
    {"roles": {"operators": "*"}},
    {"roles": {"operators": 5}},
    {"roles": {"operators": True}},
    {"roles": {"operators": [["alice@example.org"]]}},
    {"roles": {"operators": ["alice@example.org", 5]}},
    {"roles": {"operators": {"alice@example.org": True}}},
    {"roles": {"operators": ["*@example.org"]}},
    {"roles": {"operators": ["alice"]}},
    {"roles": {"operators": ["alice@example.org, eve@example.org"]}},
    {"roles": {"operator": ["alice@example.org"]}},
    {"auth": "x"},
]


@pytest.mark.parametrize("ill", ILL_SECRETS, ids=str)
def test_a_setting_of_roles_that_is_wrong_closes_the_lab_and_says_why(standing: Lab, ill: dict[str, Any]):
    for user in ({}, ALICE):
        at = AppTest.from_file(str(APP), default_timeout=60)
        at.user = dict(user)
        for key, value in ill.items():
            at.secrets[key] = value
        at.run()
        assert not at.exception
        assert "alive" not in texts(at)
        assert len(at.button) == 0
        assert "secrets" in at.error[0].value.replace("\\", "")
        assert "refused" in at.error[0].value


@pytest.mark.parametrize("listed", ["*@example.org", "alice", "alice@example.org;eve@example.org", "@"])
def test_a_pattern_in_the_environment_names_nobody(standing: Lab, monkeypatch: pytest.MonkeyPatch, listed: str):
    monkeypatch.setenv(roles.OPERATORS, listed)
    for user in ({}, ALICE):
        assert "refused as an operator" in as_user(user).error[0].value


def test_secrets_that_cannot_be_read_close_the_lab(standing: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What they say about a login is not known: an app that is open meanwhile would be open to everyone."""
    from streamlit import config
    from streamlit.runtime.secrets import secrets_singleton

    (tmp_path / "secrets.toml").write_text("[auth\nclient_id = 1")
    real = config.get_option
    files = [str(tmp_path / "secrets.toml")]
    monkeypatch.setattr(config, "get_option", lambda name: files if name == "secrets.files" else real(name))
    secrets_singleton._reset()
    try:
        at = open_app()
        assert "cannot be read" in at.error[0].value
        assert len(at.button) == 0
        (tmp_path / "secrets.toml").unlink()
        secrets_singleton._reset()
        assert "alive" in texts(open_app())
    finally:
        secrets_singleton._reset()


class Sessions:
    """A server's sessions, as far as a channel asks for them."""

    def __init__(self) -> None:
        self.connected, self.user = True, dict(ALICE)

    def get_app_session(self, identity: str) -> Any:
        assert identity == "mine"
        return SimpleNamespace(matches_user_info=lambda user: self.user == user) if self.connected else None


def test_a_channel_ends_with_the_login_the_rights_and_the_connection(monkeypatch: pytest.MonkeyPatch):
    sessions = Sessions()
    monkeypatch.setenv(roles.OPERATORS, "alice@example.org")
    monkeypatch.setattr(doors, "_entry", Entry(Hosts.of([])))
    monkeypatch.setattr(roles, "get_script_run_ctx", lambda **_: SimpleNamespace(session_id="mine", user_info=ALICE))
    monkeypatch.setattr(roles.runtime, "get_instance", lambda: sessions)
    monkeypatch.setattr(st, "user", SimpleNamespace(to_dict=lambda: dict(ALICE)))
    here = roles.connection_check()
    assert here()
    sessions.connected = False
    assert not here()
    sessions.connected = True
    assert here()
    sessions.user = {}  # logged out
    assert not here()
    sessions.user = dict(ALICE)
    monkeypatch.setenv(roles.OPERATORS, "bob@example.org")
    assert not here()
    monkeypatch.setenv(roles.OPERATORS, "alice")  # a setting that nobody understands
    assert not here()


def test_a_viewers_lab_reads_and_refuses_the_rest(finished: Lab):
    viewer: Any = roles._UserLab(finished, roles.User(False))
    assert viewer.info("done").state == "finished"
    assert viewer == finished
    assert hash(viewer) == hash(finished)
    for act in (
        lambda: viewer.command("done", SetControl("learning_rate", 0.001)),
        lambda: viewer.start(finished.config("done")),
        lambda: viewer.resume("done"),
        lambda: viewer.delete("done"),
        lambda: viewer.fork("done"),
        lambda: viewer.acknowledge("done", "x"),
        lambda: viewer.sample("done", "", None),
        viewer.close,
    ):
        with pytest.raises(LabError, match="viewer"):
            act()
    assert finished.reader("done").commands("pending") == []


def test_an_operators_lab_signs_with_the_e_mail_unless_told_otherwise(paused: Lab):
    lab: Any = roles._UserLab(paused, roles.User(True, "a@b", "a@b"))
    first = lab.command("alive", Pause())
    second = lab.command("alive", Pause(), author="schedule")
    assert [paused.reader("alive").command(row).author for row in (first, second)] == ["a@b", "schedule"]


def test_every_method_that_changes_a_run_names_an_author():
    """What a viewer may use has no author, and what has one is not among it."""
    for name, method in inspect.getmembers(Lab, inspect.isfunction):
        if not name.startswith("_") and "author" in inspect.signature(method).parameters:
            assert name not in roles.READS
    assert {"command", "start", "resume", "delete", "close", "sample"}.isdisjoint(roles.READS)
    assert {"runs", "info", "reader", "config", "controls", "findings", "outcome"} <= roles.READS
