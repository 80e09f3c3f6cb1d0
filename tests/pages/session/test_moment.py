"""The lab that pages hand around: reads of one moment inside `within`, actions that end it, sentences as HTML."""

import html
import threading

import pytest

from pages.session import moment, phrases
from pages.session.markdown_escape import escape_markdown
from pages.session.moment import consistent_reads, page_lab
from pages.widgets import boxes
from pages.widgets.chart import with_last_step
from qcore.config import SetControl
from qcore.lab import Lab
from qcore.server.live import Channel, View
from qcore.viz import Line, curves
from tests.growing import Growing
from tests.pages.linked import TEXTS


def test_reads_within_are_of_one_moment_and_outside_of_now(bare_lab: Lab, growing: Growing):
    shown = page_lab(bare_lab, bare_lab)
    with consistent_reads(shown):
        first = shown.info("run")
        growing.step()
        with consistent_reads(shown):  # a fragment inside the page
            assert shown.info("run") is first
        assert shown.reader("run").newest_step() == 1
        assert shown.runs()[0].step == 1
    assert shown.info("run").step == 2


def test_what_was_looked_up_in_a_moment_reads_now_when_it_is_called_later(bare_lab: Lab, growing: Growing):
    shown = page_lab(bare_lab, bare_lab)
    with consistent_reads(shown):
        ask = shown.info
        ask("run")
    growing.step()
    assert ask("run").step == 2
    with consistent_reads(shown):
        assert ask("run").step == 2
        growing.step()
        assert ask("run").step == 2


def test_an_action_ends_the_moment(bare_lab: Lab, growing: Growing):
    shown = page_lab(bare_lab, bare_lab)
    with consistent_reads(shown):
        assert shown.info("run").step == 1
        growing.step()
        identity = shown.command("run", SetControl("diversity_weight", 0.1))
        assert shown.info("run").step == 2
        assert shown.outcome("run", identity).status == "pending"


def test_a_moment_ends_with_an_error_too(bare_lab: Lab, growing: Growing):
    shown = page_lab(bare_lab, bare_lab)

    def broken() -> None:
        with consistent_reads(shown):
            shown.info("run")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    growing.step()
    assert shown.info("run").step == 2
    assert moment._here.moment is None


def test_caches_know_two_sessions_labs_as_one(bare_lab: Lab):
    assert page_lab(bare_lab, bare_lab) == page_lab(bare_lab, bare_lab)
    assert len({page_lab(bare_lab, bare_lab), page_lab(bare_lab, bare_lab)}) == 1


def test_an_answer_of_a_channel_is_of_one_moment_with_its_tag(bare_lab: Lab, growing: Growing):
    shown = page_lab(bare_lab, bare_lab)

    def read() -> View:
        step = shown.info("run").step
        growing.step()  # between the tag and the body
        return View(str(step), lambda: f"[{shown.info('run').step}, {shown.reader('run').newest_step()}]")

    answers = []
    channel = Channel(read, within=lambda: consistent_reads(shown))
    other = threading.Thread(target=lambda: answers.append(channel.answer(None)))
    other.start()
    other.join(20)
    assert (answers[0].headers["etag"], answers[0].body) == (View("1", str).etag, b"[1, 1]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("**It failed.** term \\*x\\* <b>", "<p><b>It failed.</b> term *x* &lt;b&gt;</p>"),
        ("one\n\n*two* `code`", "<p>one</p><p><i>two</i> <code>code</code></p>"),
        ("a  \nb", "<p>a<br>b</p>"),
        ("never **closed", "<p>never <b>closed</b></p>"),
        ("**a *b** c*", "<p><b>a <i>b</i></b> c<i></i></p>"),
    ],
)
def test_sentences_become_html_with_everything_else_escaped(text: str, shown: str):
    assert boxes.markdown_html(text) == shown


@pytest.mark.parametrize(
    "text", [*TEXTS, "<img src=x> *a* _b_ `c` \\ [d](e) $f$ ~g~ #h", "at 12:52:26, 3 >= 2 -- x -> y"]
)
def test_plain_text_comes_out_as_it_is(text: str):
    assert boxes.markdown_html(escape_markdown(text)) == f"<p>{html.escape(text)}</p>".replace("\n", " ")


def test_an_older_picture_says_so():
    assert phrases.step_words(960, 960) == "step 960"
    assert phrases.step_words(900, 1960) == "step 900, newest before 1,960"
    assert phrases.step_words(None, 60) == "not measured by step 60"
    assert phrases.steps_words({"data": 960, "generated": 900}, 960) == "step 960 (generated step 900)"
    assert phrases.steps_words({"data": 900, "generated": 900}, 960) == "step 900, newest before 960"


def test_curves_that_end_before_the_moment_say_where():
    def title(figure):
        return figure.layout["title"]["text"]

    line = Line("a", [0, 1200], [1.0, 2.0])
    assert title(with_last_step(curves([line], title="A", uirevision="r"), 1300)) == "A, to step 1,200"
    assert title(with_last_step(curves([line], title="A", uirevision="r"), 1200)) == "A"
    assert title(with_last_step(curves([], title="A", uirevision="r"), 1200)) == "A"
    other = curves([line], title="A", uirevision="r")
    other.layout["xaxis"]["title"] = {"text": "position"}
    assert title(with_last_step(other, 1300)) == "A"
