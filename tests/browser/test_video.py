"""Video as a person meets it: clips play in the browser, a ghost is mended by a slider, the exact flow answers."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.actions import press, slider
from tests.support.configs import eventually, small_video

pytestmark = pytest.mark.browser
PLAYERS = ".lab-clips canvas"


def frame_number(page):
    return page.locator(".lab-clips .count").first.inner_text()


def painted(page):
    """Whether every visible player has drawn something that is not of one colour."""
    return page.evaluate(
        """selector => [...document.querySelectorAll(selector)].every(canvas => {
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return new Set(data).size > 2;
        })""",
        PLAYERS,
    )


@pytest.fixture(scope="module")
def clips(start, lab):
    """A video run that trains for all tests of this file."""
    config = small_video(steps=1_000_000, sample_every=20, frames_every=10, noise_correlation=1.0, eval_every=1000)
    name = start(config)
    eventually(lambda: lab.info(name).step > 40)
    return name


def test_clips_play_while_the_model_trains(page, app, lab, clips):
    broken = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.emulate_media(reduced_motion="no-preference")
    page.goto(f"{app.url}/video?run={clips}")
    expect(page.locator(PLAYERS).first).to_be_visible()
    eventually(lambda: painted(page))
    shown = frame_number(page)
    eventually(lambda: frame_number(page) != shown)
    press(page, "Pause clips")
    page.wait_for_timeout(500)  # the frame under way when the button was pressed
    standing = frame_number(page)
    step = lab.info(clips).step
    eventually(lambda: lab.info(clips).step > step + 20)
    assert frame_number(page) == standing
    assert broken == []


def test_the_noise_is_changed_by_its_slider_while_training(page, app, lab, clips):
    page.goto(f"{app.url}/?run={clips}")
    knob = slider(page, "Noise correlation")
    knob.focus()
    knob.press("Home")
    state = eventually(lambda: (found := lab.controls(clips)["noise_correlation"]).version == 1 and found)
    assert (state.value, state.author) == (0.0, "person")


def test_the_exact_flow_says_how_many_motions_are_left(page, app, lab, clips):
    page.goto(f"{app.url}/video?run={clips}&video=Exact+flow&rho=1")
    expect(page.get_by_text("1 of 64")).to_be_visible()
    expect(page.get_by_text(re.compile("one motion"))).to_be_visible()


def test_clips_are_drawn_on_request_and_language_pages_say_where_to_look(page, app, lab, clips):
    page.goto(f"{app.url}/generations?run={clips}")
    press(page, "Generate")
    eventually(lambda: any(made.kind == "prompt" and made.status == "done" for made in lab.reader(clips).generations()))
    expect(page.locator(PLAYERS).first).to_be_visible()
    page.goto(f"{app.url}/tokens?run={clips}")
    expect(page.get_by_text(re.compile("trains on video")).first).to_be_visible()
