"""What a browser makes of the app's door, and of text that must not become links."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from qcore.config import Stop
from qcore.lab import Lab
from qcore.server.live import IDLE_SECONDS
from tests.attacks.served import ROOT, Clock, Served, running_app, running_script
from tests.pages.linked import TEXTS
from tests.support.configs import eventually, small_config

pytestmark = pytest.mark.browser

SHOWN = """
import sys
sys.path.insert(0, {root!r})
import streamlit as st
from pages.session.markdown_escape import escape_markdown
from tests.pages.linked import TEXTS
for number, text in enumerate(TEXTS):
    st.markdown(escape_markdown(text))
    st.error(f"**It broke.** {{escape_markdown(text)}}")
    st.caption(f"*{{escape_markdown(text)}}* by {{escape_markdown(text)}}")
    st.button("b", key=str(number), help=escape_markdown(text))
st.toast(escape_markdown(TEXTS[0]), duration="infinite")
st.markdown("RAW http://own.example")
"""


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Served]:
    """A page of Streamlit that shows the texts in everything that takes Markdown."""
    script = tmp_path / "shown.py"
    script.write_text(SHOWN.format(root=str(ROOT)))
    with running_script(script, tmp_path / "log") as served:
        yield served


def test_texts_are_shown_letter_by_letter_and_never_as_links(shown: Served, page: Page):
    page.goto(f"http://127.0.0.1:{shown.port}")
    expect(page.get_by_text("RAW http://own.example")).to_be_visible()
    main = page.get_by_test_id("stMain")
    expect(main.locator("a")).to_have_count(1)  # the raw one: links are made of what is not taken apart
    expect(main.locator("img")).to_have_count(0)
    wanted = {" ".join(text.split()) for text in TEXTS}

    def said(place: str) -> set[str]:
        return {" ".join(one.split()) for one in main.get_by_test_id(place).all_inner_texts()}

    # Streamlit puts a page together piece by piece.
    eventually(lambda: wanted <= said("stMarkdown"))
    eventually(lambda: {f"It broke. {text}" for text in wanted} <= said("stAlert"))
    expect(page.get_by_test_id("stToast").locator("a")).to_have_count(0)
    main.get_by_test_id("stBaseButton-secondary").first.hover()
    expect(page.get_by_test_id("stTooltipContent")).to_contain_text("http://evil.example/x")
    expect(page.get_by_test_id("stTooltipContent").locator("a")).to_have_count(0)


def test_the_address_of_the_start_line_lets_a_browser_in_until_it_leaves(browser: Browser, tmp_path: Path):
    with running_app(tmp_path, env={"QCORE_TOKEN": "a-secret-of-more-than-twenty-letters"}) as served:
        address = f"http://127.0.0.1:{served.port}"
        assert f"{address}/?token=a-secret-of-more-than-twenty-letters" in served.said
        with contextlib.closing(browser.new_context()) as context:
            page = context.new_page()
            assert page.goto(f"{address}/phase").status == 401  # type: ignore[union-attr]
            assert "start-up line" in page.inner_text("body")
            assert page.evaluate("document.scripts.length") == 0
            page.goto(f"{address}/?token=a-secret-of-more-than-twenty-letters&view=New+run")
            expect(page.get_by_text("Control room").first).to_be_visible()
            assert "token" not in page.url
            [cookie] = [one for one in context.cookies() if one["name"].startswith("collapse-lab-")]
            assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1)
            assert "secret" not in cookie["value"]
            with context.expect_page() as opened:
                page.get_by_role("link", name="Log out").click()
            expect(opened.value.get_by_text("You are logged out")).to_be_visible()
            assert page.goto(address).status == 401  # type: ignore[union-attr]
        assert "Traceback" not in served.said


def test_another_page_of_this_machine_neither_frames_nor_opens_the_app(browser: Browser, tmp_path: Path):
    with running_app(tmp_path) as served:
        own = f"127.0.0.1:{served.port}"
        (tmp_path / "evil").mkdir()
        (tmp_path / "evil" / "index.html").write_text(
            f"""<iframe src="http://{own}/"></iframe><script>
            window.got = [];
            const line = new WebSocket("ws://{own}/_stcore/stream", ["streamlit"]);
            line.onopen = () => got.push("open"); line.onerror = () => got.push("refused");
            fetch("http://{own}/_stcore/health").then(() => got.push("read"), () => got.push("refused"));
            fetch("http://{own}/_stcore/upload_file/a/b", {{method: "POST", mode: "no-cors", body: "x"}})
              .then((answer) => got.push(answer.type), () => got.push("refused"));
            </script>"""
        )
        command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(tmp_path / "evil")]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
                                 env={"PYTHONUNBUFFERED": "1"})  # fmt: skip
        assert other.stdout is not None
        try:
            port = other.stdout.readline().split(" port ")[1].split()[0]
            with contextlib.closing(browser.new_context()) as context:
                page = context.new_page()
                page.goto(f"http://127.0.0.1:{port}/")
                page.wait_for_function("window.got.length === 3")
                assert sorted(page.evaluate("window.got")) == ["opaque", "refused", "refused"]
                framed = page.frames[1]
                assert "Collapse Lab" not in framed.content()
        finally:
            other.terminate()
            other.wait()
            other.stdout.close()


def test_a_page_whose_channel_has_ended_draws_itself_anew_and_follows_on(page: Page, tmp_path: Path):
    """As one does that was in a hidden tab for longer than a channel lives."""
    (tmp_path / "runs").mkdir()
    clock = Clock(tmp_path / "clock")
    with Lab(tmp_path / "runs") as lab, running_app(tmp_path, before=clock.source) as served:
        name = lab.start(small_config(steps=1_000_000))
        eventually(lambda: lab.info(name).step >= 2)
        page.goto(f"http://127.0.0.1:{served.port}/?run={name}&refresh=0.5")
        open_ = ""
        for _ in range(2):
            with page.expect_response(lambda one, last=open_: _channel(one, 200) not in ("", last)) as followed:  # type: ignore[misc]
                pass
            open_ = followed.value.url
            with page.expect_response(lambda one, last=open_: _channel(one, 410) == last):  # type: ignore[misc]
                clock.pass_by(IDLE_SECONDS + 1)
        lab.command(name, Stop())
        lab.wait(name, 60)
        expect(page.get_by_text("stopped").first).to_be_visible()


def _channel(response: Response, status: int) -> str:
    """Address of the channel that has answered so; empty for another answer."""
    return response.url if "/live/" in response.url and response.status == status else ""
