"""Words of a page's moment: sentences that name a state or a step, drawn together with all else of the moment.

They look like Streamlit's own captions, headings and coloured boxes, and take the same Markdown, as far as pages use
it: **bold**, *italic*, `code`, a backslash before a letter that stands for itself, an empty line between paragraphs,
and the piece of its own that `pages.session.markdown_escape` gives to a letter.
"""

from __future__ import annotations

import html
import re
from typing import Literal

from pages.widgets.live_panel import html_element

Kind = Literal["error", "warning", "info", "success"]
_TOKENS = re.compile(r":color\[\\(.)\]|\\(.)|(\*\*|\*|`)|( {2}\n)|(\n\n+)|(\n)", re.DOTALL)
_TAGS = {"**": "b", "*": "i", "`": "code"}
_ICONS = {"error": "!", "warning": "!", "info": "i", "success": "✓"}
_COLOURS = {"error": "red", "warning": "yellow", "info": "blue", "success": "green"}


def markdown_html(text: str) -> str:
    """The Markdown described above as HTML; everything else in it is escaped."""
    paragraphs: list[str] = []
    shown = ""
    opened: list[str] = []
    at = 0
    for found in _TOKENS.finditer(text):
        shown += html.escape(text[at : found.start()])
        at = found.end()
        if found[1] or found[2]:
            shown += html.escape(found[1] or found[2])
        elif found[3]:
            tag = _TAGS[found[3]]
            if tag in opened:
                while opened[-1] != tag:
                    shown += f"</{opened.pop()}>"
                shown += f"</{opened.pop()}>"
            else:
                opened.append(tag)
                shown += f"<{tag}>"
        elif found[5]:
            paragraphs.append(shown + "".join(f"</{tag}>" for tag in reversed(opened)))
            shown, opened = "", []
        else:
            shown += "<br>" if found[4] else " "
    shown += html.escape(text[at:]) + "".join(f"</{tag}>" for tag in reversed(opened))
    return "".join(f"<p>{one}</p>" for one in (*paragraphs, shown) if one)


def message_html(kind: Kind, text: str) -> str:
    """A coloured box, as `st.error` and its kin draw it."""
    colour = _COLOURS[kind]
    return (
        f'<div class="lab-says" role="{"alert" if kind == "error" else "status"}" style="background:'
        f'var(--st-{colour}-background-color,rgba(128,136,144,.15));color:var(--st-{colour}-text-color,inherit)">'
        f'<b aria-hidden="true">{_ICONS[kind]}</b><div>{markdown_html(text)}</div></div>'
    )


def badge_html(word: str, colour: str, about: str, **data: object) -> str:
    """A word on colour with a hint.

    Args:
        data: attributes `data-…` that say the same to a program.
    """
    said = "".join(f' data-{name}="{html.escape(str(value))}"' for name, value in data.items())
    return (
        f'<span class="lab-badge" title="{html.escape(about)}"{said} style="background:'
        f"var(--st-{colour}-background-color,rgba(128,136,144,.15));"
        f'color:var(--st-{colour}-text-color,inherit)">{html.escape(word)}</span>'
    )


def message_box(key: str, kind: Kind, text: str) -> None:
    """Draw the box."""
    html_element(key, message_html(kind, text))


def caption(key: str, text: str) -> None:
    """A small line, as `st.caption` draws it."""
    html_element(key, f'<div class="lab-small">{markdown_html(text)}</div>')


def heading(key: str, text: str) -> None:
    """A heading inside a page, as `st.header` draws it."""
    html_element(key, f'<h2 class="lab-head">{html.escape(text)}</h2>')
