"""Findings as a person meets them: a broken run is named in the browser, and its remedy is one click."""

import re

import pytest
from playwright.sync_api import expect

from qcore.config import FAULTS, preset
from qcore.lab import Lab
from tests.browser.actions import press, start_from_yaml, wait_for_curve
from tests.browser.driver import running_app
from tests.support.configs import eventually, small_config

pytestmark = pytest.mark.browser

PAGES = ("Phase", "Interference", "Tokens", "Generations", "Gradients", "Findings")


def test_a_broken_run_is_named_and_mended_by_one_click(page, app, lab):
    config = small_config(**FAULTS["G1"].changes, fault="G1", steps=1_000_000, budget_percent=3)
    name = start_from_yaml(page, app.url, config.to_yaml(), lab)
    expect(page.get_by_text(re.compile("diversity .* has no gradient")).first).to_be_visible()
    page.get_by_role("link", name="Findings", exact=True).click()
    expect(page.get_by_role("heading", name=re.compile("diversity .* has no gradient"))).to_be_visible()
    press(page, "Switch diversity off")
    state = eventually(lambda: (found := lab.controls(name)["diversity_weight"]).version == 1 and found)
    assert (state.value, state.author) == (0.0, "person")
    eventually(lambda: [finding.state for finding in lab.findings(name)] == ["resolved"])
    page.goto(f"{app.url}/?run={name}")
    press(page, "Stop")
    eventually(lambda: not lab.info(name).alive)


def test_a_finding_is_acknowledged_on_a_finished_run(page, app, lab):
    name = lab.start(small_config(**FAULTS["B2"].changes, fault="B2", steps=3))
    lab.wait(name, 60)
    page.goto(f"{app.url}/findings?run={name}")
    page.get_by_role("button", name="Acknowledge", exact=True).first.click()
    eventually(lambda: any(finding.acknowledged for finding in lab.findings(name)))


def test_every_page_opens_by_its_link_on_a_fresh_server(page, tmp_path):
    """The first visit since the start of a server may be to any page: the sidebar, the run and the charts are there."""
    with Lab(tmp_path / "runs") as lab:
        name = lab.start(small_config(), name="linked")
        lab.wait(name, 60)
    for place in ("phase", "findings"):
        with running_app(tmp_path / "runs", tmp_path / "app.log") as app:
            page.goto(f"{app.url}/{place}?run={name}")
            expect(page.get_by_role("heading", name=place.capitalize(), exact=True)).to_be_visible()
            for title in PAGES:
                expect(page.get_by_role("link", name=title, exact=True)).to_be_visible()
            expect(page.get_by_text("finished").first).to_be_visible()
            assert f"run={name}" in page.url


def test_every_page_draws_a_live_run_without_an_error(page, app, lab):
    config = preset("tiny").config.with_values({"steps": 100_000, "documents": 300, "width": 32, "layers": 2})
    name = start_from_yaml(page, app.url, config.to_yaml(), lab)
    wait_for_curve(page)
    troubles = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    for title in PAGES:
        page.get_by_role("link", name=title, exact=True).click()
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        expect(page.locator("[data-testid=stException]")).to_have_count(0)
        if title in ("Phase", "Interference", "Gradients"):
            expect(page.locator(".js-plotly-plot").first).to_be_visible()
    page.goto(f"{app.url}/?run={name}")
    press(page, "Stop")
    eventually(lambda: not lab.info(name).alive)
    assert troubles == []
