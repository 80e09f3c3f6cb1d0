"""The app under Streamlit's AppTest, and reading what it shows."""

import html
import re
from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests.pages.sent import PANEL, blocks_of
from tests.support.configs import small_config

APP = Path(__file__).resolve().parents[2] / "app.py"
CONTROL_ROOM, PHASE, INTERFERENCE, VIDEO, TOKENS, GENERATIONS, GRADIENTS, FINDINGS, COMPARE, AUTOMATION = PAGES = tuple(
    f"pages/{name}.py"
    for name in (
        "control_room",
        "phase",
        "interference",
        "video",
        "tokens",
        "generations",
        "gradients",
        "findings",
        "compare",
        "automation",
    )
)
TINY = small_config(documents=40, batch_size=2, packing="padded", steps=8, sample_every=4, sample_length=6, context=64)
ENDLESS = TINY.with_values({"steps": 1_000_000})


def open_app(page: str = CONTROL_ROOM, **query: str) -> AppTest:
    """The app, opened with a query in the URL, at one page."""
    at = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()  # the pages are registered in the first run
    return at if page == CONTROL_ROOM else at.switch_page(page).run()


def texts(at: AppTest) -> str:
    """Everything in words that the page shows."""
    kinds = ("title", "markdown", "caption", "info", "warning", "error", "text")
    shown = [element.value for kind in kinds for element in at.get(kind)]
    panels = [block.get("html", "") for block in blocks_of(at).values()]
    return "\n".join([*shown, *panels, *(element.proto.body for element in at.get("html"))])


def press(at: AppTest, label: str) -> AppTest:
    """Click the button with this label and run the page."""
    return next(button for button in at.button if button.label == label).click().run()


def alarm(run: str) -> str:
    """Label of the link to the findings in the sidebar, the same on every page; empty when there is none.

    Of the app's first run: AppTest loses what is in the sidebar in the next one.
    """
    links = [element.proto.label for element in open_app(run=run).sidebar.get("page_link")]
    return links[0] if links else ""


def charts(at: AppTest) -> int:
    """Number of charts on the page."""
    alone = [one for one in at.get("bidi_component") if one.proto.component_name != PANEL]
    return len(alone) + sum("plot" in block for block in blocks_of(at).values())


def errors(at: AppTest) -> list[str]:
    """What the page says in red, in words alone, whether Streamlit draws it or a panel of ours."""
    panels = [block.get("html", "") for block in blocks_of(at).values()]
    plain = [
        re.sub(r"<style>.*?</style>|<[^>]*>", "", text, flags=re.DOTALL) for text in panels if 'role="alert"' in text
    ]
    ours = [html.unescape(text) for text in plain]
    return [*(error.value for error in at.error), *ours]
