"""The report: one file, everything in it, nothing from outside, and a stranger's text that stays text."""

import base64
import json
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from qcore.viz.figure import script_file
from qcore.viz.report import png_bytes, report_html

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>&\"'"


def parts(**changes):
    steps = np.arange(1, 51)
    return {
        "title": "a run",
        "summary": [("state", "finished at step 50 of 50")],
        "config": "seed: 0\n",
        "loss": ("term/ce", "eval/ce"),
        "unit": "nats per token",
        "series": {
            "term/ce": (steps, 3.0 / steps),
            "eval/ce": (steps[::10], 3.1 / steps[::10]),
            **{f"tokens/entropy_{place}": (steps, np.full(50, np.nan)) for place in range(20)},
        },
        "references": {"unigram": 2.5},
        "events": [
            (0, 1e9, "person", "start", {"from_step": 0}),
            (20, 1e9, "person", "control", {"name": "z_loss_weight", "old": 0.0, "new": 0.1}),
        ],
        "findings": [
            {
                "name": "token_collapse",
                "title": "One token takes 1.23e+04 times",
                "state": "active",
                "since_step": 20,
                "last_step": 50,
                "explanation": "More than half.",
                "evidence": {
                    "numbers": [{"label": "share", "value": 0.7, "unit": "", "limit": 0.5}],
                    "figure": {"lines": [{"name": "share", "steps": [1, 2], "values": [0.1, 0.7]}], "limit": 0.5},
                },
                "remedies": [("Set learning_rate to 1e-05", "it pulls back")],
            }
        ],
        "samples": [
            {
                "step": 50,
                "kind": "timeline",
                "prompt": "Once",
                "text": "a bear",
                "stats": {"repetition": 0.1},
                "clips": [],
            }
        ],
        **changes,
    }


class Reader(HTMLParser):
    """Tags with their attributes, text by tag, and what lies in scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.scripts, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        (self.scripts if self._open[-1:] == ["script"] else self.words).append(data)

    @property
    def text(self):
        return "\n".join(self.words)

    @property
    def figures(self):
        return json.loads(next(script for script in self.scripts if script.startswith("[")))


def test_the_report_has_everything_once_and_the_library_once():
    page = report_html(**parts())
    read = Reader(page)
    for words in (
        "a run", "finished at step 50 of 50", "One token takes 12,300 times", "More than half.",
        "Set learning rate to 0.00001", "a bear",
        "z loss weight 0 → 0.1", "seed: 0", "limit 0.5", "Tokens: 20 curves",
    ):  # fmt: skip
        assert words in read.text, words
    assert sum(len(script) > 1_000_000 for script in read.scripts) == 1
    places = [int(attributes["data-figure"]) for _, attributes in read.tags if attributes.get("class") == "plot"]
    assert places == list(range(len(read.figures)))
    assert read.text.index("One token takes 12,300 times") < read.text.index("Loss")
    loss = read.figures[1]
    assert {trace["name"] for trace in loss["data"]} == {
        "changes",
        "cross-entropy, training",
        "cross-entropy, held out",
    }
    assert "z loss weight 0 → 0.1 by user" in loss["data"][0]["text"]
    assert [shape["y0"] for shape in loss["layout"]["shapes"]] == [2.5]
    assert max(len(figure["data"]) for figure in read.figures) <= 1 + 2 * 12


def test_nothing_is_fetched():
    read = Reader(report_html(**parts()))
    assert not any("src" in attributes or "href" in attributes for _, attributes in read.tags)
    assert not {tag for tag, _ in read.tags} & {"link", "iframe", "object", "base", "form"}
    [policy] = [values["content"] for _, values in read.tags if values.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_a_strangers_text_stays_text():
    finding = {**parts()["findings"][0], "title": EVIL, "explanation": EVIL, "name": EVIL, "remedies": [(EVIL, EVIL)]}
    finding["evidence"] = {
        "numbers": [{"label": EVIL, "value": 1.0, "unit": EVIL, "limit": None}],
        "figure": {"title": EVIL, "y_title": EVIL, "lines": [{"name": EVIL, "steps": [1], "values": [1.0]}]},
    }
    sample = {"step": 1, "kind": EVIL, "prompt": EVIL, "text": EVIL, "stats": {}, "clips": []}
    page = report_html(
        **parts(
            title=EVIL,
            summary=[(EVIL, EVIL)],
            config=EVIL,
            unit=EVIL,
            series={"term/ce": ([1], [1.0]), EVIL: ([1], [1.0])},
            references={EVIL: 1.0},
            events=[
                (1, 1.0, EVIL, EVIL, {EVIL: EVIL}),
                (1, 1.0, EVIL, "control", {"name": EVIL, "old": EVIL, "new": 1}),
            ],
            findings=[finding],
            samples=[sample],
        )
    )
    read = Reader(page)
    assert not [tag for tag, attributes in read.tags if "onerror" in attributes or tag == "img"]
    assert sum(tag == "script" for tag, _ in read.tags) == 3
    assert EVIL in read.text
    assert EVIL in page.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&#x27;", "'").replace(
        "&amp;", "&"
    )
    assert "<script>alert" not in page
    for figure in read.figures:  # Plotly reads markup in texts: letters are escaped for it, too
        layout = figure["layout"]
        titles = [layout["title"], layout["xaxis"].get("title"), layout["yaxis"].get("title")]
        shown = [*titles, layout.get("annotations"), *((trace["name"], trace.get("text")) for trace in figure["data"])]
        assert "<script" not in json.dumps(shown)


def test_the_library_is_that_of_the_package_and_cannot_end_its_element():
    page = report_html(**parts())
    source = script_file()[0].read_text(encoding="utf-8")
    assert source.replace("</script", "<\\/script") in page
    assert len(re.findall("</script>", page)) == 3


def test_a_run_with_nothing_says_so():
    empty = report_html(**parts(series={}, references={}, events=[], findings=[], samples=[]))
    for words in (
        "nothing has been checked yet",
        "No step was checked",
        "No samples yet",
        "No events yet",
        "Nothing was measured",
    ):
        assert words in empty


def test_clips_are_pictures_in_the_file():
    pixels = np.arange(2 * 3 * 4 * 1, dtype=np.uint8)
    clip = {"shape": [2, 3, 4, 1], "pixels": base64.b64encode(pixels.tobytes()).decode()}
    read = Reader(report_html(**parts(samples=[{**parts()["samples"][0], "clips": [clip, clip]}])))
    pictures = [attributes["src"] for tag, attributes in read.tags if tag == "img"]
    assert len(pictures) == 2
    data = base64.b64decode(pictures[0].removeprefix("data:image/png;base64,"))
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (8, 3)
    packed = data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8]
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(3, 9)[:, 1:]
    np.testing.assert_array_equal(rows, np.concatenate(list(pixels.reshape(2, 3, 4)), axis=1))


def test_a_picture_that_cannot_be_is_refused():
    assert png_bytes(np.zeros((2, 2, 3), np.uint8)).startswith(b"\x89PNG")
    for bad in (
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 1)),
        np.zeros((0, 2, 1), np.uint8),
    ):
        with pytest.raises(ValueError, match="uint8"):
            png_bytes(bad)
