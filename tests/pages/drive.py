"""The app under Streamlit's AppTest, and reading what it shows."""

import functools
import html
import re
from pathlib import Path

from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from tests.pages.sent import PANEL, blocks_of
from tests.support.configs import small_config

# Every AppTest reads the metadata of all installed packages for components, which takes longer than most pages; what is
# installed does not change meanwhile.
manifest_scanner.scan_component_manifests = functools.cache(manifest_scanner.scan_component_manifests)

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
    """The app, opened with a query in the URL, at one page, as its address opens it."""
    at = AppTest.from_file(str(APP), default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    if page != CONTROL_ROOM:
        # `switch_page` knows the pages only after a run, which would draw the control room for nothing.
        at._page_hash = calc_hash(Path(page).stem)
    at.run()
    if page != CONTROL_ROOM:
        assert at._finished_page_script_hash == at._page_hash, f"{page} was not opened"
    return at


def texts(at: AppTest) -> str:
    """Everything in words that the page shows."""
    kinds = ("title", "markdown", "caption", "info", "warning", "error", "text")
    shown = [element.value for kind in kinds for element in at.get(kind)]
    panels = [block.get("html", "") for block in blocks_of(at).values()]
    found = "\n".join([*shown, *panels, *(element.proto.body for element in at.get("html"))])
    return re.sub(r"<style>.*?</style>", "", found, flags=re.DOTALL)


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
