"""Text that a page shows letter by letter: what must not become anything else, as Markdown. The browser's side of it is
in tests/browser/test_doors.py.
"""

from __future__ import annotations

import re

import pytest

from pages.session.markdown_escape import escape_markdown
from tests.pages.linked import TEXTS


def read_back(markdown: str) -> str:
    """What such Markdown shows: escapes undone, pieces without a colour joined."""
    return re.sub(r":color\[\\(.)\]|\\(.)", lambda found: found[1] or found[2], markdown)


@pytest.mark.parametrize("text", [*TEXTS, "", "x" * 10_000, ":" * 3000, "@" * 3000, "http://" * 1000, "-" * 3000])
def test_every_letter_comes_back(text: str):
    assert read_back(escape_markdown(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_no_piece_holds_what_becomes_something_else(text: str):
    pieces = [re.sub(r"\\(.)", r"\1", piece) for piece in re.split(r":color\[\\.\]", escape_markdown(text))]
    for piece in pieces:
        assert not re.search(
            r"https?://|www\.|@|:[\w+/-]+:|(?:^|\s)(?:<->|->|<-|--|>=|<=|~=)(?:\s|$)", piece, re.IGNORECASE
        )


def test_only_what_would_be_a_link_is_taken_apart():
    assert escape_markdown("step 5: lr 0.1 (a.b)") == r"step 5\: lr 0.1 \(a.b\)"
