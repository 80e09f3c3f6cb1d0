"""The product as a person uses it: a real server, a real browser, a run that really trains."""

import re
import signal
import subprocess

import pytest
from playwright.sync_api import expect

from qcore.config import Continue, Pause, SetControl
from qcore.lab import Lab
from tests.browser.actions import (
    LONG,
    LOSS_CHART,
    curve_end,
    event_points,
    press,
    slider,
    start_from_yaml,
    wait_for_curve,
)
from tests.browser.driver import running_app
from tests.support.configs import eventually

pytestmark = pytest.mark.browser


def x_range(page):
    return page.evaluate("chart => document.querySelector(chart).layout.xaxis.range", LOSS_CHART)


@pytest.fixture(scope="module")
def trained(start):
    """A run that trains for all tests of this file."""
    return start(LONG)


@pytest.fixture
def run(page, app, lab, trained):
    """The run that trains, which the page shows in the control room."""
    if lab.info(trained).state == "paused":  # a test before has failed
        lab.outcome(trained, lab.command(trained, Continue()), timeout=20)
    page.goto(f"{app.url}/?run={trained}&refresh=0.5")
    return trained


def test_a_slider_reaches_the_trainer_and_marks_the_curves(page, lab, run):
    wait_for_curve(page)
    before = event_points(page)
    knob = slider(page, "Diversity weight")
    knob.focus()
    knob.press("ArrowRight")
    state = eventually(lambda: (found := lab.controls(run)["diversity_weight"]).version == 1 and found)
    assert state.value > 0
    assert state.author == "person"
    expect(page.get_by_text(re.compile(r"✓ diversity weight 0 → \S+ at step [\d,]+"))).to_be_visible()
    eventually(lambda: event_points(page) > before)
    step = state.step
    terms = lab.reader(run).scalars
    eventually(lambda: (steps := terms("term/diversity").steps).size and steps[-1] > step + 3)
    assert {step + 1, step + 2, step + 3} <= set(terms("term/diversity").steps.tolist())


def test_who_has_turned_a_knob_need_not_wait_for_the_next_refresh(own_page, app, trained):
    """With a clock in which the two seconds of the next refresh never pass."""
    page = own_page
    page.add_init_script(
        "const real = setTimeout; window.setTimeout = (done, ms, ...more) => ms === 2000 ? 0 : real(done, ms, ...more)"
    )
    page.goto(f"{app.url}/?run={trained}")
    wait_for_curve(page)
    before = event_points(page)
    knob = slider(page, "Diversity weight")
    knob.focus()
    knob.press("ArrowRight")
    eventually(lambda: event_points(page) > before)


def test_a_change_while_paused_is_acknowledged_at_once(page, lab, run):
    wait_for_curve(page)
    press(page, "Pause")
    at = eventually(lambda: (info := lab.info(run)).state == "paused" and info).step
    expect(page.get_by_role("button", name="Continue", exact=True)).to_be_enabled()
    knob = slider(page, "Z loss weight")
    knob.focus()
    knob.press("ArrowRight")
    expect(page.get_by_text(re.compile(rf"✓ z loss weight 0 → \S+ at step {at:,}"))).to_be_visible()
    assert lab.info(run).step == at
    press(page, "Continue")
    eventually(lambda: lab.info(run).step > at + 5)


def test_a_knob_follows_changes_made_elsewhere(page, lab, run):
    wait_for_curve(page)
    row = lab.outcome(run, lab.command(run, SetControl("label_smoothing", 0.25), author="cli"), timeout=20)
    assert row.status == "applied"
    expect(slider(page, "Label smoothing")).to_have_value("0.25")
    expect(page.get_by_text(re.compile("0 → 0.25 at step .* by cli"))).to_be_visible()


def test_zoom_survives_refreshes_even_while_the_mouse_is_held(page, run):
    wait_for_curve(page, 20)
    area = page.locator(f"{LOSS_CHART} .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.6 * box["height"], steps=5)
    step = curve_end(page)
    for _ in range(2):  # refreshes that come while the button is down
        with page.expect_response(lambda one: "/live/" in one.url and one.status == 200):
            pass
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=3)
    page.mouse.up()
    zoomed = eventually(lambda: page.evaluate("c => !document.querySelector(c).layout.xaxis.autorange", LOSS_CHART))
    assert zoomed
    wanted = x_range(page)
    eventually(lambda: curve_end(page) > step + 20)
    assert x_range(page) == wanted


def test_prompting_the_live_model_with_hostile_text(page, app, lab, run):
    wait_for_curve(page)
    hostile = "<script>document.title='pwned'</script> **bold** <img src=x onerror=\"document.title='pwned'\">"
    page.get_by_role("link", name="Generations").click()
    box = page.get_by_role("textbox", name="Prompt", exact=True)
    box.wait_for()
    box.type(hostile, delay=10)  # slower than the refresh: what is typed must stay
    expect(box).to_have_value(hostile)
    box.press("Control+Enter")
    press(page, "Generate")
    done = eventually(lambda: [g for g in lab.reader(run).generations("prompt") if g.status == "done"])
    assert done[0].prompt == hostile
    expect(page.get_by_text("onerror").first).to_be_visible()
    assert "pwned" not in page.title()
    assert page.locator("img[src='x']").count() == 0


def test_a_paused_run_survives_a_reload_with_its_state(page, lab, run):
    wait_for_curve(page)
    lab.outcome(run, lab.command(run, Pause()), timeout=20)
    page.reload()
    expect(page.get_by_role("button", name="Continue", exact=True)).to_be_enabled()
    press(page, "Continue")
    eventually(lambda: lab.info(run).state == "running")


def test_it_outlives_the_browser_and_many_watch_the_same_run(page, browser, app, lab, run):
    wait_for_curve(page)
    link = page.url
    assert f"run={run}" in link
    pid = lab.info(run).pid
    page.reload()
    wait_for_curve(page)
    page.get_by_role("link", name="Tokens").click()
    expect(page.get_by_role("heading", name="Tokens")).to_be_visible()
    page.close()
    at = lab.info(run).step
    eventually(lambda: lab.info(run).step > at + 5)
    contexts = [browser.new_context() for _ in range(2)]
    for context in contexts:
        watcher = context.new_page()
        watcher.goto(link)
        wait_for_curve(watcher)
    assert lab.info(run).pid == pid == app.process.pid
    assert [event.kind for event in lab.reader(run).events()].count("start") == 1
    last = contexts[0].pages[0]
    press(last, "Stop")
    eventually(lambda: lab.info(run).state == "stopped")
    stopped = lab.info(run).step
    expect(last.get_by_role("button", name="Resume")).to_be_visible()
    last.get_by_role("button", name="Resume").first.click()
    press(last, "Resume now")
    eventually(lambda: lab.info(run).state == "running" and lab.info(run).step > stopped)
    press(last, "Stop")
    eventually(lambda: not lab.info(run).alive)
    for context in contexts:
        context.close()


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 3])
def test_signals_end_the_app_with_a_checkpoint(page, tmp_path, signals):
    """Ctrl-C, a service manager's stop, and an impatient Ctrl-C three times: stopped, saved, no abort."""
    with running_app(tmp_path / "runs", tmp_path / "app.log") as app, Lab(tmp_path / "runs") as lab:
        name = start_from_yaml(page, app.url, LONG.to_yaml(), lab)
        eventually(lambda: lab.info(name).step > 5)
        for number in signals:
            app.process.send_signal(number)
            try:
                app.process.wait(0.3)
            except subprocess.TimeoutExpired:
                continue
        assert app.process.wait(60) == -signals[0]
        info = lab.info(name)
        assert info.state == "stopped"
        assert lab.checkpoints(name)[-1].step == info.step
        log = (tmp_path / "app.log").read_text()
        assert "terminate called" not in log
        assert "Traceback" not in log
