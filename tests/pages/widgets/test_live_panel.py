"""Panels: what the browser's script is sent, and that nothing of a run is taken for HTML."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.widgets.live_panel import PanelBlock, blocks_json, progress_html, table_html
from qcore.config import SamplingConfig, SetControl, Step
from qcore.lab import Lab
from qcore.server.live import Channel
from qcore.viz import Line, curves
from tests.pages.drive import GENERATIONS, TINY, TOKENS, open_app, texts
from tests.support.configs import eventually

HOSTILE = "<img src=x onerror=alert(1)> & \"'"


def test_blocks_are_sent_in_order_with_text_or_figure():
    figure = curves([Line("a", [0, 1], [1.0, 2.0])], title="A", uirevision="run")
    sent = json.loads(
        blocks_json([PanelBlock("text", "<b>x</b>"), PanelBlock("chart:a", figure=figure, alt=HOSTILE, half=True)])
    )
    assert [block["key"] for block in sent] == ["text", "chart:a"]
    assert (sent[0]["html"], sent[0]["half"]) == ("<b>x</b>", False)
    assert (sent[1]["plot"]["alt"], sent[1]["half"]) == (HOSTILE, True)
    assert sent[1]["plot"]["figure"] == json.loads(figure.to_json())


def test_text_is_escaped():
    for shown in (
        progress_html(0.5, HOSTILE),
        table_html(HOSTILE, ("what",), [(HOSTILE,)], ""),
        table_html("", (), [], HOSTILE),
    ):
        assert "<img" not in shown
        assert "&lt;img src=x onerror=alert(1)&gt;" in shown


@pytest.mark.parametrize(("share", "width"), [(0.0, "0.0"), (0.256, "25.6"), (1.7, "100.0"), (-1.0, "0.0")])
def test_the_bar_is_as_long_as_the_run_has_come(share: float, width: str):
    shown = progress_html(share, "")
    assert f'style="width:{width}%"' in shown
    assert f'aria-valuenow="{width}"' in shown


def test_numbers_of_a_table_stand_at_the_right_and_rows_keep_their_order():
    shown = table_html("Events", ("step", "what"), [(12345, "b"), (1, "a")], "nothing")
    assert 'aria-label="Events"' in shown
    assert '<td class="right">12,345</td><td>b</td>' in shown
    assert shown.index("12,345") < shown.index("<td>a</td>")
    assert table_html("Events", ("step",), [], "nothing yet") == '<p class="none">nothing yet</p>'


def test_the_control_room_follows_a_run_that_lives_and_no_other(standing: Lab):
    at = open_app(run="alive")
    [channel] = followed(at)
    assert channel["seconds"] == 2.0
    assert channel["address"].startswith("live/")
    assert [block["key"] for block in channel["blocks"]][:3] == ["progress", "strip", "chart:loss"]
    off = open_app(run="alive", refresh="off")
    assert [one["seconds"] for one in followed(off)] == [0.0]
    assert "Refresh now" in [button.label for button in off.button]


def followed(at: AppTest) -> list[dict[str, Any]]:
    """What the panels that have a channel were sent."""
    sent = [json.loads(bytes(one.proto.bytes)) for one in at.get("bidi_component")]
    return [one for one in sent if "seconds" in one]


def channel_of(at: AppTest, key: str) -> Channel:
    return at.session_state["channels"][key]


def test_a_panel_is_told_of_steps_and_the_page_of_what_is_drawn_around_it(paused: Lab):
    at = open_app(run="alive")
    channel = channel_of(at, "watch")
    first = channel.answer(None)
    tag = first.headers["etag"]
    assert [block["key"] for block in json.loads(first.body)] == [one["key"] for one in followed(at)[0]["blocks"]]
    assert channel.answer(tag).status_code == 304
    step = paused.info("alive").step
    paused.outcome("alive", paused.command("alive", Step(2)), 20)
    eventually(lambda: paused.info("alive").step == step + 2 and paused.info("alive").state == "paused")
    later = eventually(lambda: (one := channel.answer(tag)).status_code == 200 and one)
    assert f"Step {step + 2} of" in json.loads(later.body)[0]["html"]
    paused.outcome("alive", paused.command("alive", SetControl("diversity_weight", 0.5)), 20)
    assert channel.answer(later.headers["etag"]).status_code == 205
    at.run()
    assert channel_of(at, "watch").answer(None).status_code == 200


def _change(lab: Lab) -> None:
    lab.outcome("alive", lab.command("alive", SetControl("diversity_weight", 0.5)), 20)


def _speak(lab: Lab) -> None:
    assert [item.status for item in lab.sample("alive", "Once", SamplingConfig(max_tokens=2))][-1] == "done"


@pytest.mark.parametrize(("page", "happens"), [(TOKENS, _change), (GENERATIONS, _speak)])
def test_other_pages_run_again_only_when_there_is_news(page: str, happens: Callable[[Lab], None], paused: Lab):
    at = open_app(page, run="alive")
    channel = channel_of(at, "pulse:page")
    assert json.loads(channel.answer(None).body) == []
    assert channel.answer('"x"').status_code == 200
    happens(paused)
    assert channel.answer(None).status_code == 205
    assert channel_of(at.run(), "pulse:page").answer(None).status_code == 200


def test_the_table_of_runs_has_news_of_any_run(paused: Lab):
    at = open_app(run="alive", view="All runs")
    channel = channel_of(at, "pulse:page")
    assert channel.answer(None).status_code == 200
    paused.start(TINY, name="another")
    assert channel.answer(None).status_code == 205
    eventually(lambda: not paused.info("another").alive)
    assert channel_of(at.run(), "pulse:page").answer(None).status_code == 200


def test_a_run_that_has_ended_is_not_followed(finished: Lab):
    at = open_app(run="done")
    assert [one["seconds"] for one in followed(at)] == [0.0]
    assert "Step 8 of 8" in texts(at)
