"""What a person who reads with difficulty needs of a page, asked of the page as it is drawn: contrast, headings, names.

The same quantities as WCAG 2.1: contrast of each visible text against the colours below it, 4.5 : 1, or 3 : 1 when it
is large; headings without a jump; a name for every picture and every control. What is disabled is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

_SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Audit:
    """faint: texts whose contrast is too low, with their ratio · levels: of the headings, in order, with their text ·
    nameless: what a screen reader has no name for.
    """

    faint: list[str]
    levels: list[tuple[int, str]]
    nameless: list[str]

    @property
    def jumps(self) -> list[str]:
        """Headings that leave a level out: the first must be an h1, each other at most one level below the last."""
        before, found = 0, []
        for level, text in self.levels:
            if level > before + 1:
                found.append(f"h{before} → h{level} {text!r}")
            before = level
        return found


def audit(page: Page) -> Audit:
    """Look at a page as it is now."""
    found: dict[str, Any] = page.evaluate(_SCRIPT)
    return Audit(found["faint"], [(int(level), str(text)) for level, text in found["levels"]], found["nameless"])
