"""What a person does in the app, said once for the tests and the benchmarks."""

from __future__ import annotations

import contextlib
import re

from playwright.sync_api import Locator, Page, expect

from qcore.config import RunConfig, Stop
from qcore.lab import Lab, LabError
from tests.support.configs import eventually, small_config

LONG = small_config(steps=1_000_000, checkpoint_every=500, sample_every=500, eval_every=500, tokens_every=50)
"""A run that ends only when it is stopped."""
LOSS_CHART = '[data-block="chart:loss"].js-plotly-plot'
PATIENCE_MS = 90_000
_LONGEST = "chart => Math.max(0, ...(document.querySelector(chart)?.calcdata || []).map(points => points.length))"


def start_from_yaml(page: Page, url: str, text: str, lab: Lab, name: str = "") -> str:
    """Paste a configuration into the new-run form, press Start, and return the name of the run that appears."""
    before = {info.name for info in lab.runs()}
    page.goto(f"{url}/?view=New+run&edit_as=YAML")
    box = page.get_by_role("textbox", name="Configuration")
    box.wait_for(timeout=PATIENCE_MS)
    box.fill(text)
    box.press("Control+Enter")
    # The button can be pressed before the text has arrived: the summary tells when it has.
    config = RunConfig.from_yaml(text)
    summary = re.compile(rf"^{config.kind}, .*: {config.optim.steps:,} steps of ")
    expect(page.get_by_text(summary)).to_be_visible(timeout=PATIENCE_MS)
    if name:
        page.get_by_role("textbox", name="Name (optional)").fill(name)
        page.get_by_role("textbox", name="Name (optional)").press("Enter")
    button = page.get_by_role("button", name="Start", exact=True)
    expect(button).to_be_enabled(timeout=PATIENCE_MS)
    button.click()
    return eventually(lambda: {info.name for info in lab.runs()} - before).pop()


def stop(lab: Lab, name: str) -> None:
    """Stop a run, unless it has ended."""
    if lab.info(name).alive:
        with contextlib.suppress(LabError):  # it has ended since
            lab.command(name, Stop())
        eventually(lambda: not lab.info(name).alive)


def wait_for_curve(page: Page, points: int = 2) -> None:
    """Wait until the loss chart has drawn a curve of so many points."""
    page.wait_for_function(
        f"points => ({_LONGEST})(points[0]) >= points[1]", arg=[LOSS_CHART, points], timeout=PATIENCE_MS
    )


def curve_end(page: Page) -> int:
    """The last step that the loss chart has drawn."""
    script = "c => Math.max(0, ...(document.querySelector(c)?.calcdata || []).flat().map((point) => point.x || 0))"
    return int(page.evaluate(script, LOSS_CHART))


def event_points(page: Page) -> int:
    """Points of the trace that draws the event lines on the loss chart."""
    script = "c => (document.querySelector(c)?._fullData || []).find(t => t.name === 'changes')?._length || 0"
    return int(page.evaluate(script, LOSS_CHART))


def slider(page: Page, label: str) -> Locator:
    """The handle of the slider with that label."""
    return page.get_by_role("slider", name=label).first


def press(page: Page, label: str) -> None:
    """Press the page's button with that label, once it can be pressed; not Streamlit's own, which stops a script."""
    own = page.locator(":not([data-testid=stBaseButton-header])")
    button = page.get_by_role("button", name=label, exact=True).and_(own)
    expect(button).to_be_enabled(timeout=PATIENCE_MS)
    button.click()


def follow(page: Page, title: str) -> None:
    """Press the navigation's link to a page and wait until its title stands there."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
    expect(page.locator("h1").first).to_have_text(title, timeout=PATIENCE_MS)


def choose(page: Page, option: str) -> None:
    """Press one of several options that stand side by side and wait until it is the chosen one."""
    button = page.get_by_test_id("stMain").get_by_role("radio", name=option, exact=True).first
    button.click()
    expect(button).to_be_checked(timeout=PATIENCE_MS)


def settle(page: Page) -> None:
    """Wait until the script rests."""
    page.wait_for_timeout(250)
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'", timeout=PATIENCE_MS
    )


def still(page: Page) -> None:
    """Wait until the page's script has ended and nothing that it drew has asked for another run."""
    page.locator("h1").first.wait_for()
    page.wait_for_load_state("networkidle", timeout=PATIENCE_MS)  # charts come with files of their own
    page.evaluate("window.rests = undefined")
    page.wait_for_function(
        """() => {
            const app = document.querySelector("[data-testid=stApp]"), now = performance.now();
            if (app?.dataset.testScriptState !== "notRunning") window.rests = undefined;
            else window.rests ??= now;
            return now - window.rests > 400;
        }""",
        polling=30,
        timeout=PATIENCE_MS,
    )
