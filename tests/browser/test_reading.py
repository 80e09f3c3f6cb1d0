"""What a person sees of a page, and who cannot see well or uses no mouse: charts, contrast, headings, keys, knobs."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from pages.session.assets import ASSETS
from pages.session.page_list import PAGES
from qcore import viz
from qcore.config import Stop
from qcore.store import DATABASE_NAME, RunWriter
from tests.browser.actions import LONG, LOSS_CHART, press, slider, start_from_yaml, still, wait_for_curve
from tests.browser.audit import audit
from tests.browser.conftest import new_page
from tests.pages.filmed import write_video_run
from tests.pages.inside import finding, write_run
from tests.support.configs import eventually

pytestmark = pytest.mark.browser
REPORT_STYLE = Path(viz.__file__).parent / "assets" / "report.css"
VIEWS = {
    "": "read", "?view=New+run": "read", "?view=All+runs": "read", "phase": "read", "interference": "read",
    "video": "read-film", "flux": "read", "tokens": "read", "generations": "read", "gradients": "read",
    "findings": "read", "findings?of=Rules": "read", "compare": "read", "compare?compare=Curves": "read",
    "automation": "read", "benchmark": "read",
}  # fmt: skip


@pytest.fixture(scope="module")
def written(app):
    """Finished runs that were looked into, one of them with findings, one with numbers that are not finite."""
    over = {"step": 30, "change": {"name": "learning_rate", "old": 0.01, "new": 0.001, "step": 25}, "was": "It was bad"}
    ill = (
        finding(),
        finding("half_circle", id="half_circle", state="resolved", remedies=[], evidence={"resolved": over}),
    )
    write_run(app.runs, "read", last=200, every=20, tokens=24, findings=ill)
    write_video_run(app.runs, "read-film", last=40, every=20)
    write_run(app.runs, "broken", last=20, every=20, tokens=8)
    with RunWriter(app.runs / "broken" / DATABASE_NAME) as writer:
        for step in range(1, 200):
            loss = 0.5 + 6.9 * float(np.exp(-step / 6)) if step < 120 or step > 140 else float("nan")
            writer.log_scalars(step, {"term/ce": loss, "train/loss": loss, "eval/ce": float("nan")})
    return app.url


def wrong_on(page):
    """What the audit finds on the page, and finds again: what is there only while a part of the page comes is gone."""
    for _ in range(3):
        still(page)
        seen = audit(page)
        if not (found := [*seen.faint, *seen.jumps, *seen.nameless]):
            break
    return found


TITLES = {Path(one.path).stem: one.title for one in PAGES}


def visit(page, url, view, run):
    """A page by its link, as far as the navigation lists it for the run that is shown; else by its address."""
    link = page.get_by_test_id("stSidebarNav").get_by_role("link", name=TITLES.get(view, view), exact=True)
    if f"run={run}&" in f"{page.url}&" and link.count():
        link.click()
        page.locator("h1").get_by_text(TITLES[view], exact=True).wait_for()
    else:
        page.goto(f"{url}/{view}{'&' if '?' in view else '?'}run={run}")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_and_every_heading_has_its_place(browser, written, theme):
    found = {}
    with new_page(browser, color_scheme=theme) as page:
        for view, run in VIEWS.items():
            visit(page, written, view, run)
            if wrong := wrong_on(page):
                found[view] = wrong
    assert not found, found


def test_one_press_of_back_leads_to_the_page_before_or_to_the_run_before(page, written):
    def shows(title, run):
        expect(page.locator("h1")).to_have_text(title)
        expect(page.locator("[data-state][data-run]").first).to_have_attribute("data-run", run)
        still(page)
        expect(page).to_have_url(re.compile(rf"[?&]run={run}(&|$)"))

    def go(title):
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()

    page.goto(f"{written}/?run=read&refresh=5")
    shows("Control room", "read")
    go("Gradients")
    shows("Gradients", "read")
    page.get_by_text("Newest", exact=True).first.wait_for()
    page.get_by_role("combobox", name="Run", exact=True).click()
    page.get_by_role("option", name="broken", exact=True).click()
    shows("Gradients", "broken")
    page.get_by_text("last hidden state", exact=True).first.click()  # in the address of this page alone
    shows("Gradients", "broken")
    go("Tokens")
    shows("Tokens", "broken")
    page.go_back()
    shows("Gradients", "broken")
    page.go_back()
    shows("Gradients", "read")
    page.go_back()
    shows("Control room", "read")
    page.go_forward()
    page.go_forward()
    shows("Gradients", "broken")


def test_a_charts_zoom_outlives_the_page_and_its_colours_and_ends_with_a_double_click(page, written):
    def inks():
        """Colours of all that is written on the chart."""
        return page.evaluate(
            "texts => [...document.querySelectorAll(texts)].map((one) => getComputedStyle(one).fill)",
            f"{LOSS_CHART} :is(.gtitle, .xtick text)",
        )

    def around():
        return page.evaluate("getComputedStyle(document.querySelector('.stApp')).color")

    def axis():
        return page.evaluate("c => document.querySelector(c)?._fullLayout?.xaxis.range.map(Math.round)", LOSS_CHART)

    def go(title):
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
        page.locator("h1").get_by_text(title).wait_for()
        still(page)

    page.goto(f"{written}/?run=read&refresh=5")
    wait_for_curve(page, 5)
    whole = axis()
    area = page.locator(f"{LOSS_CHART} .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    page.mouse.up()
    zoomed = eventually(lambda: (now := axis()) != whole and now)
    light = inks()
    for scheme in ("dark", "light"):  # of the system, while the page is open
        page.emulate_media(color_scheme=scheme)
        eventually(
            lambda scheme=scheme: len(now := {*inks(), around()}) == 1 and (now == {*light}) == (scheme == "light")
        )
        assert axis() == zoomed
    go("Gradients")
    go("Control room")
    wait_for_curve(page, 5)
    eventually(lambda: axis() == zoomed)
    page.locator(f"{LOSS_CHART} .nsewdrag").first.dblclick()
    eventually(lambda: axis() == whole)
    go("Gradients")
    go("Control room")
    wait_for_curve(page, 5)
    assert axis() == whole


_CUT = """() => {
    const box = (node) => node.getBoundingClientRect();
    const charts = [...document.querySelectorAll(".js-plotly-plot")].filter((host) => host.offsetWidth);
    const titles = charts.filter((host) => box(host.querySelector(".gtitle")).right > box(host).right + 1)
        .map((host) => host.querySelector(".gtitle").textContent);
    const cells = [...document.querySelectorAll(".evidence td")].filter((cell) => box(cell).height > 8 * 24)
        .map((cell) => cell.textContent);
    return [...titles, ...cells];
}"""


@pytest.mark.parametrize(("view", "width"), [("phase", 1024), ("", 1024), ("findings", 390)])
def test_nothing_is_cut_off_where_there_is_little_room(page, written, view, width):
    page.set_viewport_size({"width": width, "height": 3000})
    page.goto(f"{written}/{view}?run=read")
    page.locator(".js-plotly-plot .gtitle").first.wait_for()
    still(page)
    assert page.locator(".evidence" if view == "findings" else ".js-plotly-plot").count() >= 1
    assert page.evaluate(_CUT) == []


def test_the_browser_understands_every_line_of_the_stylesheets(page):
    """The formatter leaves a declaration a line; what a browser does not know it drops without a word."""
    sheets = "".join(one.read_text(encoding="utf-8") for one in (*ASSETS.glob("*.css"), REPORT_STYLE))
    sheets = re.sub(r"/\*.*?\*/", "", sheets, flags=re.DOTALL)
    lines = re.findall(r"^\s+([a-z-]+): ([^;{}]+);$", sheets, re.MULTILINE)
    assert len(lines) == sheets.count(";") > 150
    wrong = [["colour", "red"], ["color", "redd"]]
    unknown = "lines => lines.filter(([name, value]) => !CSS.supports(name, value.replace('!important', '')))"
    assert page.evaluate(unknown, [*lines, *wrong]) == wrong


def test_the_audit_sees_what_is_wrong(page):
    page.set_content(
        """<body style="background:#fff"><h1>A</h1><h3>B</h3><p style="color:#767c83;background:#f7f7f7">faint</p>
        <p style="opacity:.5">half</p><p style="color:#111">dark</p><p style="color:#949494;font-size:30px">large</p>
        <button></button><button disabled style="color:#ccc">off</button><img src="data:,"></body>"""
    )
    seen = audit(page)
    assert [text.split()[1] for text in seen.faint] == ["faint", "half"]
    assert seen.jumps == ["h1 → h3 'B'"]
    assert [tag.strip("<")[:3] for tag in seen.nameless] == ["but", "img"]


def test_a_broken_series_says_so_on_the_chart_and_in_the_numbers(page, written):
    page.goto(f"{written}/?run=broken")
    wait_for_curve(page, 50)
    chart = page.locator(LOSS_CHART)
    expect(chart).to_contain_text(re.compile("cross-entropy, training: not finite at steps 120–140"))
    expect(chart).to_contain_text(re.compile(r"cross-entropy, held out: NaN since step \d+"))
    expect(chart).to_contain_text("start ↑")
    shown = page.evaluate("c => document.querySelector(c)._fullLayout.yaxis.range", LOSS_CHART)
    assert shown[1] < 4  # 7.4 at the start, 5.45 uniform: named, not drawn
    text = page.locator("[data-testid=stMain]").inner_text()
    assert not re.search(r"\bnan\b|\bNone\b", text)
    page.goto(f"{written}/?view=All+runs&run=broken")
    still(page)
    assert not re.search(r"\bnan\b|\bNone\b", page.locator("[data-testid=stMain]").inner_text())


def test_the_knobs_come_before_the_tools_of_the_charts(page, written):
    page.goto(f"{written}/?run=read")
    wait_for_curve(page, 2)
    still(page)
    assert page.locator(".modebar-btn").count() >= 4
    assert page.evaluate("[...document.querySelectorAll('.modebar-btn')].every((tool) => tool.tabIndex === -1)")
    page.locator("h1").first.click()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("!!document.activeElement.closest('[class*=\"st-key-knob-\"]')"):
            return
    raise AssertionError("no knob within 40 presses of Tab")


def test_eight_quick_presses_on_a_knob_are_one_change(page, app, lab):
    name = start_from_yaml(page, app.url, LONG.to_yaml(), lab)
    try:
        wait_for_curve(page)
        press(page, "Pause")  # a busy browser would make slow presses of quick ones
        expect(page.get_by_role("button", name="Continue", exact=True)).to_be_enabled()
        still(page)
        page.evaluate(
            "window.pressed = [];window.addEventListener('keydown', () => window.pressed.push(performance.now()), true)"
        )
        slider(page, "Diversity weight").focus()
        for _ in range(8):
            page.keyboard.press("ArrowRight")
        last = r"✓ diversity weight \S+ → 0\.0015 at step [\d,]+"
        expect(page.get_by_text(re.compile(last))).to_be_visible()
        times = page.evaluate("window.pressed")
        assert len(times) == 8
        # On a machine so busy that the browser itself stood still between two presses, they were not quick.
        pauses = sum(later - earlier > 400 for earlier, later in itertools.pairwise(times))
        changes = [event for event in lab.reader(name).events() if event.kind == "control"]
        assert len(changes) <= 1 + pauses
        assert len(changes) < 8
        value = changes[-1].payload["new"]
        assert value == lab.controls(name)["diversity_weight"].value == 0.0015
        before = len(changes)
        # and what is turned last is not lost when the page is left at once
        slider(page, "Diversity weight").focus()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_text("… diversity weight →")).to_be_visible()
        page.goto("about:blank")
        eventually(lambda: lab.controls(name)["diversity_weight"].version == before + 1)
        assert lab.controls(name)["diversity_weight"].value > value
    finally:
        lab.command(name, Stop())
        eventually(lambda: not lab.info(name).alive)


def test_a_rewind_asks_first_and_a_delete_says_what(page, written):
    page.goto(f"{written}/?view=All+runs&run=broken")
    still(page)
    page.get_by_role("button", name="Delete broken").click()
    expect(page.get_by_text("This cannot be undone")).to_be_visible()
