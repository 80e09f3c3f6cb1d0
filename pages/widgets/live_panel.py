"""Parts of a page that follow their run without running the page's script: text and charts in one element.

A rerun of a fragment makes Streamlit go through every element of the page, in the server and in the browser: measured,
it took as long as drawing the charts. A panel therefore asks a channel (`qcore.server.live`) whether there is news, and
puts it in place itself, words and charts in one task, so that no curve ends before the step that stands above it. It
asks every few seconds, half a second after a person has pressed something, four times more rarely when eight answers in
a row had no news, and not at all in a hidden tab. Where drawing is dear it asks more rarely, within a limit: words and
charts together. When the rest of the page would look different, too, it asks for a rerun; so it does once when its
channel has ended, and goes on with the one that the rerun opens. The browser's part is `pages/assets/panel.js`, and
`pace.js` beside it has the numbers.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import streamlit as st

from pages.session import roles
from pages.session.assets import module_script
from pages.session.moment import consistent_reads
from pages.widgets.chart import plot_json
from qcore.lab import Lab
from qcore.server.live import Channel, View
from qcore.viz import Figure

_mount = st.components.v2.component(
    "collapse_lab_panel", html='<div class="lab-panel"></div>', js=module_script("panel"), isolate_styles=False
)


@dataclass(frozen=True)
class PanelBlock:
    """One part of a panel: a chart, or HTML in which all text is escaped.

    Attributes:
        key: its identity through all updates.
        alt: what the chart shows, for screen readers.
        half: of the panel's width, where there is room.
    """

    key: str
    html: str = ""
    figure: Figure | None = None
    alt: str = ""
    half: bool = False

    def to_json(self) -> str:
        """As `pages/assets/panel.js` takes it."""
        shown = (
            f'"plot":{plot_json(self.figure, self.alt, self.key)}' if self.figure else f'"html":{json.dumps(self.html)}'
        )
        return f'{{"key":{json.dumps(self.key)},"half":{json.dumps(self.half)},{shown}}}'


def blocks_json(blocks: Iterable[PanelBlock]) -> str:
    """What a channel's view of a panel answers."""
    return f"[{','.join(block.to_json() for block in blocks)}]"


def panel(key: str, lab: Lab, read: Callable[[], View], seconds: float) -> None:
    """Show the view now, and follow it every so many seconds; 0 does not follow it.

    Its body is `blocks_json`. What it reads through `lab`, body included, is of one moment.

    Args:
        read: gives the view; it is called in other threads, too, so it must not touch `st`.
    """
    view = read()
    channel = Channel(read, roles.connection_check(), within=partial(consistent_reads, lab))
    st.session_state.setdefault("channels", {})[key] = channel  # open until the next run of the page replaces it
    data = (
        f'{{"address":{json.dumps(channel.address)},"seconds":{seconds},"tag":{json.dumps(view.etag)},'
        f'"blocks":{view.body()}}}'
    )
    _mount(key=key, data=data.encode(), on_stale_change=lambda: None)


def html_element(key: str, shown: str) -> None:
    """HTML in which all text is escaped, shown together with all else of the page's moment. For what names a state or a
    step of a run that trains: Streamlit's own elements change one by one.
    """
    _mount(
        key=f"words:{key}",
        data=f'{{"address":{json.dumps(shown)},"blocks":{blocks_json([PanelBlock(key, shown)])}}}'.encode(),
    )


def rerun_when_stale(key: str, lab: Lab, news: Callable[[], Hashable], shown: Hashable, seconds: float) -> None:
    """Run the page's script again once `news()` is no longer `shown`; nothing is seen of it. It is asked every so many
    seconds, 0 for never, and must not touch `st`.
    """
    if seconds:
        panel(f"pulse:{key}", lab, lambda: View("", lambda: "[]", news() != shown), seconds)


def progress_html(share: float, text: str) -> str:
    """A bar that is filled to `share` of its width, 0 to 1, and a line below it."""
    percent = f"{100 * min(1.0, max(0.0, share)):.1f}"
    return (
        f'<div class="bar" role="progressbar" aria-valuenow="{percent}" aria-valuemin="0" aria-valuemax="100">'
        f'<i style="width:{percent}%"></i></div><p>{html.escape(text)}</p>'
    )


def table_html(name: str, heads: Sequence[str], rows: Iterable[Sequence[object]], none: str) -> str:
    """A table in a box that scrolls; numbers stand at the right.

    Args:
        name: for screen readers.
        none: said when there is no row.
    """
    lines = [
        "".join(f'<td class="right">{one:,}</td>' if isinstance(one, int) else _cell(str(one)) for one in row)
        for row in rows
    ]
    if not lines:
        return f'<p class="none">{html.escape(none)}</p>'
    head = "".join(f"<th>{html.escape(one)}</th>" for one in heads)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="rows" tabindex="0" role="region" aria-label="{html.escape(name)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"
