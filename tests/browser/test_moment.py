"""Every part of a page shows the same moment, at any instant at which a person may look, while a run trains."""

import re
import time

import pytest
from playwright.sync_api import expect

from qcore.config import Continue, Pause
from tests.browser.actions import LOSS_CHART, choose, follow, press, settle, slider, stop, wait_for_curve
from tests.browser.together import contradictions, seen, step_of
from tests.support.configs import eventually, small_config, small_video

pytestmark = pytest.mark.browser
OFTEN = {"steps": 1_000_000, "eval_every": 35, "checkpoint_every": 500, "sample_every": 30}
TEXT = small_config(
    **OFTEN,
    tokens_every=15,
    phase_every=10,
    kernels_every=15,
    gradients_every=25,
    checks_every=35,
    diversity_weight=0.1,
)
CLIPS = small_video(**OFTEN, frames_every=10, gradients_every=25)
TEXT_PAGES = {
    "Control room": ("All runs", "Watch"),
    "Phase": (),
    "Interference": (),
    "Tokens": (),
    "Generations": ("Timeline",),
    "Gradients": ("last hidden state",),
    "Findings": (),
    "Compare and fork": ("Curves",),
    "Automation": ("What was done",),
}
VIDEO_PAGES = {
    "Control room": (),
    "Video frames": ("Path and anchor", "The guide's numbers"),
    "Generations": ("Timeline",),
    "Gradients": (),
    "Findings": (),
}
FAMILIES = {
    "text": (TEXT, TEXT_PAGES),
    "video": (CLIPS, VIDEO_PAGES),
    "flux": (
        small_config(**OFTEN, kind="flux_lm", phase_every=10, kernels_every=15),
        dict.fromkeys(("Control room", "Flux", "Interference"), ()),
    ),
    "pam": (small_config(**OFTEN, kind="pam", phase_every=10, kernels_every=15), {"Phase": ("Memory",)}),
}
"""A run, and its pages with what is chosen there one after the other."""


def address(app, path, run):
    return f"{app.url}/{path}{'&' if '?' in path else '?'}run={run}&refresh=0.5"


def looks(page, done, seconds=120):
    """Look at the page as fast as the browser answers until `done(found)`: what was seen, all of it free of
    contradictions.
    """
    found = []
    deadline = time.monotonic() + seconds
    while not found or not done(found):
        assert time.monotonic() < deadline, f"{page.url}: what was waited for is not shown after {len(found)} looks"
        found.append(seen(page))
        assert contradictions(found[-1]) == [], page.url
    return found


def shows(state):
    """Whether the page says that the run is so, for `looks`."""
    return lambda found: found[-1]["badge"] == [state]


class Refreshes:
    """Counts what the channels of a page have answered."""

    def __init__(self, page):
        self._count = 0
        page.on("response", self._hear)

    def _hear(self, response):
        self._count += "/live/" in response.url

    def more(self, count):
        """Whether so many have come since now, for `looks`."""
        goal = self._count + count
        return lambda found: self._count >= goal and len(found) > 2


@pytest.fixture(scope="module")
def started(start, lab, request):
    """A run of a family and its pages, for all tests that ask for this family."""
    config, pages = FAMILIES[request.param]
    name = start(config)
    eventually(lambda: lab.info(name).step > 40, 400)
    yield name, pages
    stop(lab, name)


@pytest.mark.parametrize("started", FAMILIES, indirect=True)
def test_all_that_a_page_says_is_of_one_moment(page, app, lab, started):
    run, pages = started
    broken = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    refreshes = Refreshes(page)
    page.emulate_media(reduced_motion="no-preference")  # clips play
    page.goto(address(app, "", run))
    for title, options in pages.items():
        for option in ("", *options):
            if option:
                choose(page, option)
            elif title != "Control room":  # which the address has opened
                follow(page, title)
            settle(page)
            expect(page.locator("[data-state][data-run]").first).to_have_attribute("data-state", "running")
            began = lab.info(run).step
            found = looks(page, lambda _, began=began: lab.info(run).step > began + 20)
            page.mouse.move(700, 600)
            page.mouse.wheel(0, 900)
            found += looks(page, refreshes.more(1))
            page.mouse.wheel(0, -900)
            found += looks(page, refreshes.more(1))
            assert len(found) > 5
            assert any(one["states"] for one in found)
    assert broken == []


@pytest.mark.parametrize("started", ["video"], indirect=True)
def test_a_film_and_its_figures_are_of_one_step_while_it_plays(page, app, lab, started):
    run, _ = started
    page.goto(f"{address(app, 'video', run)}&speed=1")
    press(page, "Play")
    found = looks(page, lambda found: "picture 4" in found[-1]["film"])
    assert any(one["film"] for one in found)
    assert any(one["figures"] for one in found)


@pytest.mark.parametrize("started", ["video"], indirect=True)
def test_at_the_end_of_a_film_the_slider_speaks_of_the_pictures_step(page, app, lab, started):
    """It is Streamlit's own and comes before them: until they are there, an arrow says that they are on their way."""
    run, _ = started
    lab.outcome(run, lab.command(run, Pause()), timeout=60)
    eventually(lambda: lab.info(run).state == "paused")
    steps = lab.reader(run).array_steps("frames")
    page.goto(f"{address(app, 'video', run)}&step={steps[-3]}&speed=1")
    value = page.locator("[data-shown] [data-testid=stSliderThumbValue]")
    expect(value).to_have_text(f"{steps[-3]:,}")
    page.evaluate(
        """() => {
            window.arrows = [];
            const look = () => {
                const value = document.querySelector(".st-key-step-slider [data-testid=stSliderThumbValue]");
                const arrow = value && getComputedStyle(value, "::before").content;
                if (value && arrow !== "none") window.arrows.push(value.textContent);
                requestAnimationFrame(look);
            };
            look();
        }"""
    )
    press(page, "Play")
    looks(page, lambda found: found[-1]["film"])
    found = looks(page, lambda found: not found[-1]["film"] and found[-1]["sliders"])
    assert found[-1]["sliders"] == [f"{steps[-1]:,}"]
    assert f"{steps[-1]:,}" in page.evaluate("window.arrows")
    slider(page, "Step").press("ArrowLeft")
    looks(page, lambda found: found[-1]["sliders"] == [f"{steps[-2]:,}"])
    assert f"{steps[-2]:,}" in page.evaluate("window.arrows")
    lab.outcome(run, lab.command(run, Continue()), timeout=60)


def test_what_is_of_two_moments_is_seen():
    card = {
        "finding": "f",
        "last": 60,
        "badge": "active",
        "words": "since step 20, last seen at step 60 · f",
        "end": 60,
    }
    whole = {
        **{key: [] for key in ("states", "words", "charts", "films", "sliders")},
        **dict.fromkeys(("page", "progress"), ""),
        "film": "Step 1,040 · picture 3 of 9",
        "figures": "Generated clips · the data, step 900, newest before 1,040",
        "cards": [card],
    }
    assert contradictions(whole) == []
    for change in (
        {"film": "Step 60 · picture 2 of 9"},
        {"figures": "Generated clips · the data, step 900"},
        {"cards": [card | {"last": 80}]},
        {"cards": [card | {"end": 80}]},
        {"cards": [card | {"words": "since step 20, last seen at step 60, here as of step 80 · f"}]},
    ):
        assert len(contradictions(whole | change)) == 1, change
    assert contradictions(whole | {"cards": [card | {"badge": "resolved", "end": 90}]}) == []


@pytest.mark.parametrize("started", ["text"], indirect=True)
def test_the_curve_ends_at_the_step_that_stands_above_it_and_follows_it(page, app, lab, started):
    run, _ = started
    page.goto(address(app, "", run))
    wait_for_curve(page)
    for one in looks(page, lambda found: len({step_of(one) for one in found}) > 5):
        charts = [chart for chart in one["charts"] if chart["block"] == "chart:loss"]
        assert [chart["end"] for chart in charts] == [step_of(one)]


@pytest.mark.parametrize("started", ["text"], indirect=True)
def test_charts_out_of_sight_or_in_hand_say_to_which_step_they_go(page, app, lab, started):
    run, _ = started
    refreshes = Refreshes(page)
    page.goto(address(app, "", run))
    wait_for_curve(page)
    area = page.locator(f"{LOSS_CHART} .nsewdrag").first
    box = area.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    expect(page.locator(f"{LOSS_CHART} .lab-behind")).to_have_text(re.compile(r"curve to step [\d,]+"))
    looks(page, refreshes.more(2))
    page.mouse.up()
    expect(page.locator(f"{LOSS_CHART} .lab-behind")).to_have_count(0)
    looks(page, refreshes.more(2))


@pytest.mark.parametrize("started", ["text"], indirect=True)
def test_a_change_is_drawn_with_the_words_that_come_with_it(own_page, app, lab, started):
    """A press brings words and curve together, also where dear drawing has made the page slow."""
    page = own_page
    run, _ = started
    refreshes = Refreshes(page)
    page.add_init_script(
        "const real = setTimeout; window.setTimeout = (done, ms, ...more) => ms === 5000 ? 0 : real(done, ms, ...more)"
    )
    page.goto(f"{app.url}/?run={run}&refresh=5")
    wait_for_curve(page)
    before = step_of(seen(page))
    eventually(lambda: lab.info(run).step > before + 10)
    knob = slider(page, "Diversity weight")
    knob.focus()
    knob.press("ArrowRight")
    looks(page, lambda found: (step_of(found[-1]) or 0) > before)
    knob.press("ArrowLeft")
    looks(page, refreshes.more(1))


@pytest.mark.parametrize("started", ["text"], indirect=True)
def test_a_page_that_is_pressed_while_it_opens_follows_its_run(own_page, app, started):
    """Its first script run is cut off, and what that had mounted is taken back after the next has mounted its own."""
    for _ in range(3):
        own_page.goto(address(app, "", started[0]), wait_until="commit")
        own_page.get_by_test_id("stSidebarNav").get_by_role("link", name="Control room", exact=True).click()
        settle(own_page)
        own_page.wait_for_event("response", lambda answer: "/live/" in answer.url)


@pytest.mark.parametrize("started", ["text"], indirect=True)
def test_a_page_that_has_lost_its_channel_opens_another_and_goes_on(own_page, app, lab, started):
    page = own_page
    run, _ = started
    page.goto(address(app, "", run))
    wait_for_curve(page)
    lost, asked = [], []

    def answer(route):
        asked.append(route.request.url)
        if not lost or route.request.url == lost[0]:
            lost.append(route.request.url)
            route.fulfill(status=410, body="this page is no longer open: load it again")
        else:
            route.continue_()

    page.route("**/live/*", answer)
    eventually(lambda: page.wait_for_timeout(50) or any(url not in lost for url in asked))
    before = step_of(seen(page))
    eventually(lambda: step_of(seen(page)) > before)
    assert len(lost) == 1
    looks(page, lambda found: len({step_of(one) for one in found}) > 2)


@pytest.mark.parametrize("started", ["text"], indirect=True)
def test_a_page_whose_channels_are_all_gone_does_not_run_its_script_again_and_again(own_page, app, started):
    """With a clock that goes four times as fast."""
    page = own_page
    run, _ = started
    page.add_init_script(
        "const real = setTimeout; window.setTimeout = (done, ms, ...more) => real(done, ms / 4, ...more)"
    )
    page.goto(address(app, "", run))
    wait_for_curve(page)
    asked = []
    page.route("**/live/*", lambda route: (asked.append(route.request.url), route.fulfill(status=410)))
    eventually(lambda: page.wait_for_timeout(50) or asked)
    page.wait_for_timeout(2000)
    assert len(asked) <= 3


@pytest.mark.parametrize("started", ["text"], indirect=True)
def test_states_agree_while_a_run_is_paused_goes_on_and_stops(page, app, lab, started):
    run, _ = started
    page.goto(address(app, "", run))
    wait_for_curve(page)
    lab.outcome(run, lab.command(run, Pause()), timeout=20)
    looks(page, shows("paused"))
    press(page, "Continue")
    looks(page, shows("running"))
    page.get_by_test_id("stMain").get_by_role("button", name="Stop", exact=True).click()
    looks(page, shows("stopped"))
    looks(page, lambda found: "is sent" not in found[-1]["page"])
    found = [seen(page) for _ in range(20)]
    assert [contradictions(one) for one in found] == [[]] * 20
    assert {tuple(one["badge"]) for one in found} == {("stopped",)}
