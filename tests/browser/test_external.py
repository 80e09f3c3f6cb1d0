"""A run that another program wrote, in a real browser: every page opens, shows what there is, and offers nothing that
does not act.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from pages.session.page_list import PAGES
from tests.browser.actions import still

pytestmark = pytest.mark.browser

WRITE = """
import sys
from pathlib import Path
from tests.support import foreign
with foreign.foreign_run(Path(sys.argv[1]), "foreign") as writer:
    foreign.everything(writer)
assert not {"torch", "streamlit", "qcore.train", "qcore.lab"} & set(sys.modules)
"""
WITHOUT = ("Phase", "Video frames", "Flux", "Automation")
"""Pages that this run has nothing for."""
NEEDS_A_TRAINER = re.compile(
    r"^(Pause|Continue|Step|Go|Stop|Save checkpoint|Resume.*|New run from this one|Fork|Rewind.*|Generate|Ask|Sweep|"
    r"Measure.*|Apply|Replay.*|Sample.*|Draw.*|Put them back)$"
)


def test_a_foreign_run_opens_on_every_page_and_shows_no_control_that_does_not_act(page, app):
    subprocess.run([sys.executable, "-c", WRITE, str(app.runs)], check=True, timeout=120)
    listed = page.get_by_test_id("stSidebarNav").get_by_role("link")
    for one in PAGES:
        if one is PAGES[0] or one.title in WITHOUT:  # which the navigation leaves out
            name = "" if one is PAGES[0] else one.path.removeprefix("pages/").removesuffix(".py")
            page.goto(f"{app.url}/{name}?run=foreign&refresh=off")
        else:
            listed.get_by_text(one.title, exact=True).click()
        expect(page.get_by_role("heading", name=one.title, exact=True)).to_be_visible()
        still(page)
        assert page.get_by_test_id("stException").count() == 0, one.title
        expect(page.get_by_text("This cannot be shown")).to_have_count(0)
        assert page.get_by_role("button", name=NEEDS_A_TRAINER).count() == 0, one.title
        assert "run=foreign" in page.url
    listed.get_by_text(PAGES[0].title, exact=True).click()
    chart = page.locator('[data-block="chart:loss"].js-plotly-plot')
    expect(chart).to_be_visible()
    assert chart.evaluate("host => Math.max(...host.calcdata.map((points) => points.length))") == 40
    expect(page.get_by_text("Another program wrote this run")).to_be_visible()
    shown = {title for title in listed.all_inner_texts() if title.strip()}
    assert not any(name in title for title in shown for name in WITHOUT), shown
    assert any("Interference" in title for title in shown), shown
