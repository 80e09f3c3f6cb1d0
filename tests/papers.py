"""README and docs as tests read them: the order of the site, anchors and links of a page."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "zensical.toml"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_SOURCE = re.compile(r"""(?:src|srcset|href)=["']([^"']+)["']""")


def nav_pages() -> list[str]:
    """Pages of the site in the order of its navigation, relative to docs/."""
    return list(_pages(tomllib.loads(SITE.read_text("utf-8"))["project"]["nav"]))


def _pages(entries: list[object]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        else:
            assert isinstance(entry, dict)
            for below in entry.values():
                yield from _pages(below if isinstance(below, list) else [below])


def blocks(path: Path, language: str = "") -> list[str]:
    """The fenced blocks of a page in a language; without one, those of the shell."""
    return [text for name, text in _FENCE.findall(path.read_text("utf-8")) if name == language]


def prose(path: Path) -> str:
    """A page without its code, in which a link is no link."""
    return _CODE.sub("", _FENCE.sub("", path.read_text("utf-8")))


def sources(path: Path) -> set[str]:
    """Python files that a page names as code, such as `qcore/train/loop.py` or, beside others, `phases.py`."""
    spans = re.findall(r"`([^`\n]+)`", _FENCE.sub("", path.read_text("utf-8")))
    return {word for span in spans for word in span.split() if re.fullmatch(r"[\w./]+\.py", word)}


def links(path: Path) -> list[str]:
    """Targets of all links and pictures of a page that stay within the project."""
    text = _FENCE.sub("", path.read_text("utf-8"))
    found = [*_LINK.findall(text), *_SOURCE.findall(text)]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as site and forge make them: small letters, spaces as hyphens, signs left out."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", path.read_text("utf-8")), re.M):
        words = re.sub(r"[`*]", "", heading).strip().lower()
        found.add(re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", words)))
    return found
