"""Text from a run or a person as Markdown that shows it, letter by letter.

A backslash does not stop what Streamlit looks for in the finished text: addresses and e-mails that become links, names
between colons that become pictures, arrows made of dashes. Each needs its letters in one piece of text, so one of them
gets a piece of its own: `:color[…]` without any colour, which looks like nothing and is not copied with the text. Not
for `st.badge`, which takes brackets for text.
"""

from __future__ import annotations

import re

_MARKS = frozenset("\\`*_{}[]()<>#+-!|$~:@&")
# A number and a dot make a list, a line of = makes a heading of the one above.
_AT_THE_START = re.compile(r"^([ \t]*(?:[0-9]{1,9}(?=\.(?:\s|\Z))|(?==)))([.=])", re.MULTILINE)
_BREAKS = re.compile(
    r"(?<=http):(?=//)|(?<=https):(?=//)"  # http://…
    r"|(?<=www)\."  # www.…
    r"|@"  # a@b.c
    r"|:(?=[\w+/-]+:)"  # :name:
    r"|(?<=[-<>~])[-=>]",  # -> <- <-> -- >= <= ~=
    re.IGNORECASE,
)


def escape_markdown(text: str) -> str:
    """`text` as Markdown that shows every letter as it is."""
    parts, done = [], 0
    for found in _BREAKS.finditer(text):
        parts += [_escape(text[done : found.start()]), f":color[\\{found[0]}]"]
        done = found.end()
    return _AT_THE_START.sub(r"\1\\\2", "".join([*parts, _escape(text[done:])]))


def _escape(text: str) -> str:
    return "".join(f"\\{letter}" if letter in _MARKS else letter for letter in text)
