"""Check the built site: nothing that a browser loads by itself comes from the network, and no tool of ours is in it.

    python -m docs.offline [build/docs]

A link that a reader may follow is free to lead anywhere; a script, a style, a font, a picture or a frame is not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

SITE = Path(__file__).resolve().parent.parent / "build/docs"
_ATTRIBUTES = {
    "script": "src", "img": "src", "iframe": "src", "source": "srcset", "video": "src", "audio": "src",
    "object": "data", "link": "href",
}  # fmt: skip
_HARMLESS = {"canonical", "prev", "next", "alternate", "author", "license", "help", "edit"}
_IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


class _Loads(HTMLParser):
    """Addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        address = values.get(_ATTRIBUTES.get(tag, ""), "")
        if tag == "link" and set(values.get("rel", "").split()) & _HARMLESS:
            return
        self.found += [address] if re.match(r"(https?:)?//", address) else []
        self.found += _IN_STYLE.findall(values.get("style", ""))


def foreign(text: str, suffix: str) -> list[str]:
    """Addresses outside that a file of the site loads. suffix: .html or .css."""
    if suffix == ".css":
        return _IN_STYLE.findall(text)
    page = _Loads()
    page.feed(text)
    styles = re.findall(r"<style[^>]*>(.*?)</style>", text, re.S)
    return [*page.found, *(address for style in styles for address in _IN_STYLE.findall(style))]


def problems(site: Path) -> Iterator[str]:
    """What is wrong with a built site, a line each."""
    pages = sorted(site.glob("**/*.html"))
    if not pages:
        yield f"{site} holds no page: build it first"
    for path in [*pages, *sorted(site.glob("**/*.css"))]:
        for address in foreign(path.read_text("utf-8"), path.suffix):
            yield f"{path.relative_to(site)} loads {address}"


def main() -> int:
    """1 and the problems on stderr, or 0 and a line that says what was checked."""
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else SITE
    for tool in site.glob("**/*.py"):  # the generator copies everything beside the pages
        tool.unlink()
    found = list(problems(site))
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"{len(list(site.glob('**/*.html')))} pages, nothing from the network: open {site / 'index.html'}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
