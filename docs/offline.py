"""Check the built site: it asks no server for anything, and every link and picture of it is there.

    python -m docs.offline [build/docs]

The generator's own strict mode knows the links of the pages; here the built pages are read as a browser reads them,
with their pictures, styles and navigation. A link that a reader may follow is free to lead to another site; a script, a
style, a font, a picture or a frame is not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

SITE = Path(__file__).resolve().parent.parent / "build/docs"
_ATTRIBUTES = {
    "script": "src", "img": "src", "iframe": "src", "source": "srcset", "video": "src", "audio": "src",
    "object": "data", "link": "href",
}  # fmt: skip
_HARMLESS = {"canonical", "prev", "next", "alternate", "author", "license", "help", "edit"}
_IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")
_OUTSIDE = re.compile(r"([a-z][a-z0-9+.-]*:|//)", re.I)


@dataclass
class _Page(HTMLParser):
    """What a page loads by itself, where its links lead, and its anchors."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.loads += _IN_STYLE.findall(values.get("style", ""))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        is_meta = tag == "link" and set(values.get("rel", "").split()) & _HARMLESS
        if not is_meta and (address := values.get(_ATTRIBUTES.get(tag, ""))):
            self.loads.append(address)


def _read(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    for style in re.findall(r"<style[^>]*>(.*?)</style>", text, re.S):
        page.loads += _IN_STYLE.findall(style)
    return page


@cache
def _page(path: Path) -> _Page:
    return _read(path.read_text("utf-8"))


def foreign(text: str, suffix: str) -> list[str]:
    """Addresses outside that a file of the site loads. suffix: .html or .css."""
    loads = _IN_STYLE.findall(text) if suffix == ".css" else _read(text).loads
    return [address for address in loads if re.match(r"(https?:)?//", address)]


def broken(site: Path, path: Path) -> Iterator[str]:
    """Links and pictures of a page that lead nowhere within the site."""
    page = _page(path)
    for target in [*page.links, *page.loads]:
        if _OUTSIDE.match(target) or not target:
            continue
        where, _, anchor = unquote(target).partition("#")
        file = (path.parent / where.partition("?")[0]).resolve() if where else path
        file = file / "index.html" if file.is_dir() else file
        is_there = file.is_relative_to(site.resolve()) and file.is_file()
        if is_there and anchor and file.suffix == ".html":
            is_there = anchor in _page(file).anchors
        if not is_there:
            yield target


def problems(site: Path) -> Iterator[str]:
    """What is wrong with a built site, a line each."""
    pages = sorted(path.resolve() for path in site.glob("**/*.html"))
    if not pages:
        yield f"{site} holds no page: build it first"
    for path in [*pages, *(path.resolve() for path in sorted(site.glob("**/*.css")))]:
        name = path.relative_to(site.resolve())
        for address in foreign(path.read_text("utf-8"), path.suffix):
            yield f"{name} loads {address}"
        if path.suffix == ".html" and path.name != "404.html":
            for target in broken(site, path):
                yield f"{name} leads to {target}, which is not there"


def main() -> int:
    """1 and the problems on stderr, or 0 and a line that says what was checked."""
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else SITE
    for tool in site.glob("**/*.py"):  # the generator copies whatever lies beside the pages
        tool.unlink()
    found = sorted(set(problems(site)))
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"{len(list(site.glob('**/*.html')))} pages, nothing from the network: open {site / 'index.html'}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
