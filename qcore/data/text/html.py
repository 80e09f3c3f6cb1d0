"""The text of an HTML page: tags, comments and scripts left out, blocks on lines of their own.

Pages come broken in every way. A tag needs a letter or `/`, `!`, `?` directly behind its `<`, as in browsers, so that
`x < y` stays text; and a comment, script or title that is never closed hides nothing.
"""

from __future__ import annotations

import html
import re

_HIDDEN = ("script", "style", "template", "title")
_BLOCKS = frozenset(
    ("p", "div", "br", "li", "tr", "pre", "blockquote", "section", "article", "table", "ul", "ol", "dt", "dd")
) | {f"h{level}" for level in range(1, 7)}


def page_text(text: str) -> str:
    """The text of a page. Time is linear in its length: walks over the text between "<" and "<", a further one from
    where something was never closed, after which nothing of that name hides anything, so six at most.
    """
    first, *pieces = text.split("<")
    parts, at, hides = [first], 0, {"!--", *_HIDDEN}
    while at < len(pieces):
        open_at, name = _walk(pieces, at, hides, parts)
        if open_at is None:
            break
        at = open_at
        hides.discard(name)
    lines = (re.sub(r"[ \t\r\f\v\xa0]+", " ", line).strip() for line in html.unescape("".join(parts)).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _walk(pieces: list[str], start: int, hides: set[str], parts: list[str]) -> tuple[int | None, str]:
    """Append the text of the pieces from `start` on; where something hides the rest to the end, its place and name."""
    hidden = ""  # the name of what hides text now
    opened = start
    for at in range(start, len(pieces)):
        piece = pieces[at]
        # a comment ends with its own mark alone; tags inside it are not tags
        if hidden == "!--":
            _, closed, rest = piece.partition("-->")
            if closed:
                hidden = ""
                parts.append(rest)
            continue
        if hidden:
            if _name(piece) == hidden and piece.startswith("/"):
                hidden = ""
                parts.append(piece.partition(">")[2])
            continue
        if piece.startswith("!--"):
            _, closed, rest = piece.partition("-->")
            if closed:
                parts.append(rest)
            elif "!--" in hides:
                # opened and never closed: the place is returned, so that the caller can take the rest as text after all
                hidden, opened = "!--", at
            else:
                parts.append(piece[3:])
            continue
        tag, closed, rest = piece.partition(">")
        name = _name(piece)
        # a lone < of a formula or of code is text
        if not closed or not (name or piece[:1] in ("!", "?", "/")):
            parts.append("<" + piece)
            continue
        if name in _BLOCKS:
            parts.append("\n")
        elif name in hides and piece[:1] != "/" and not tag.endswith("/"):
            hidden, opened = name, at
            continue
        parts.append(rest)
    return (opened, hidden) if hidden else (None, "")


def _name(piece: str) -> str:
    """The name of the tag that begins here, in lower case; empty where none does."""
    found = re.match(r"/?([A-Za-z][^\s/>]{0,20})", piece)
    return found[1].lower() if found else ""
