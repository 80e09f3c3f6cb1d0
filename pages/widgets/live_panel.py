"""Parts of a page that follow their run without running the page's script: text and charts in one element.

A rerun of a fragment makes Streamlit go through every element of the page, in the server and in the browser: measured,
it took as long as drawing the charts. A panel therefore asks a channel (`qcore.server.live`) whether there is news, and
puts it in place itself, words and charts in one task, so that no curve ends before the step that stands above it. It
asks every few seconds, half a second after a person has pressed something, four times more rarely when eight answers in
a row had no news, and not at all in a hidden tab. Where drawing is dear it asks more rarely, within LONGEST: words and
charts together. When the rest of the page would look different, too, it asks for a rerun; so it does once when its
channel has ended, and goes on with the one that the rerun opens.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import streamlit as st

from pages.session import roles
from pages.session.moment import HUB, within
from pages.widgets.chart import PLOT_SCRIPT, PLOT_STYLE, plot_json
from qcore.lab import Lab
from qcore.server.live import Channel, View
from qcore.viz import Figure

QUIET_LIMIT = 8
SLOWER = 4
SLOWEST = 10.0
SOON = 0.5
SHARE = 0.05
"""Part of the browser's time that a panel's updates may take, as far as LONGEST allows."""
LONGEST = 3.0
"""Seconds to which dear drawing may stretch the time between two updates."""

_SCRIPT = f"""{HUB}{PLOT_SCRIPT}
const QUIET_LIMIT = {QUIET_LIMIT}, SLOWER = {SLOWER}, SLOWEST = {SLOWEST}, SHARE = {SHARE}, SOON = {SOON};
const LONGEST = {LONGEST};
// Words and charts of a moment, in one task. What it took is remembered: the median of the last ones tells the pace.
const show = (root, blocks) => {{
  const start = performance.now(), hosts = root.hosts ??= new Map();
  const keys = blocks.map(({{key}}) => key);
  for (const {{key, half, html, plot: figure}} of blocks) {{
    if (!hosts.has(key)) {{
      const made = document.createElement("div");
      made.dataset.block = key;
      hosts.set(key, made);
    }}
    const host = hosts.get(key);
    host.classList.toggle("half", half);
    if (figure) plot(host, figure);
    if (!figure && host.kept !== html) host.innerHTML = host.kept = html;
  }}
  for (const [key, host] of hosts)
    if (!keys.includes(key)) {{ host.remove(); hosts.delete(key); }}
  const shown = [...root.children];
  if (keys.some((key, place) => shown[place] !== hosts.get(key)))
    root.append(...keys.map((key) => hosts.get(key)));
  const spent = root.spent ??= [];
  spent.push(performance.now() - start);
  if (spent.length > 5) spent.shift();
}};
const pace = (root, seconds) => {{
  const spent = [...root.spent ?? [0]].sort((a, b) => a - b);
  return Math.max(seconds, Math.min(LONGEST, spent[spent.length >> 1] / 1000 / SHARE));
}};
// What makes a page ask soon: a press of a person, and that a part of it has had news, which other parts may show.
const NEWS = "collapse-lab-news", PRESSES = ["pointerup", "keyup", NEWS];
const later = (seconds, signal) => new Promise((resolve) => {{
  let soon;
  const hasten = () => {{ clearTimeout(soon); soon = setTimeout(done, 1000 * SOON); }};
  const done = () => {{
    clearTimeout(timer);
    clearTimeout(soon);
    signal.removeEventListener("abort", done);
    for (const kind of PRESSES) window.removeEventListener(kind, hasten, true);
    resolve();
  }};
  const timer = setTimeout(done, 1000 * seconds);
  signal.addEventListener("abort", done);
  for (const kind of PRESSES) window.addEventListener(kind, hasten, true);
}});
const visible = (signal) => new Promise((resolve) => {{
  const look = () => {{
    if (document.hidden && !signal.aborted) return;
    document.removeEventListener("visibilitychange", look);
    signal.removeEventListener("abort", look);
    resolve();
  }};
  document.addEventListener("visibilitychange", look);
  signal.addEventListener("abort", look);
  look();
}});
const follow = async (root, {{address, seconds, tag}}, signal, rerun) => {{
  let quiet = 0, rest = root.lost ? SLOWEST * Math.min(6, root.lost) : 0;
  while (true) {{
    const each = Math.max(pace(root, seconds), rest);
    rest = 0;
    await later(quiet < QUIET_LIMIT ? each : Math.max(each, Math.min(SLOWEST, SLOWER * each)), signal);
    await visible(signal);
    if (signal.aborted || !root.isConnected) return;
    try {{
      const headers = tag ? {{"If-None-Match": tag}} : {{}};
      const answer = await fetch(address, {{cache: "no-store", headers, signal}});
      if (answer.status === 205) {{
        await hub.calm(signal);  // what runs now may be an answer that a person waits for
        if (!signal.aborted) rerun();
        window.dispatchEvent(new Event(NEWS));
        quiet = QUIET_LIMIT;
      }} else if (answer.status === 410) {{
        // Once at once; where the channel that the rerun opens is gone, too, or none comes, ever more rarely.
        await hub.calm(signal);
        if (!signal.aborted) rerun();
        root.lost = (root.lost ?? 0) + 1;
        rest = Math.min(60, SLOWEST * root.lost);
      }} else if (answer.status === 200) {{
        const blocks = await answer.json();
        tag = answer.headers.get("ETag");
        quiet = root.lost = 0;
        await hub.ended();  // a script on its way brings a moment of its own, and another line to follow
        if (!signal.aborted) show(root, blocks);
      }} else {{
        if (answer.status === 304) root.lost = 0;
        quiet += 1;
      }}
    }} catch (problem) {{
      if (signal.aborted) return;
      quiet = QUIET_LIMIT;
    }}
  }}
}};
export default function ({{data, parentElement, setTriggerValue}}) {{
  const root = parentElement.querySelector(".lab-panel");
  const now = JSON.parse(new TextDecoder().decode(data));
  if (root.address !== now.address || root.line?.signal.aborted) {{
    root.address = now.address;
    root.line?.abort();
    root.line = new AbortController();
    const {{signal}} = root.line;
    hub.offer(root, () => {{
      show(root, now.blocks);
      if (now.seconds && !signal.aborted) follow(root, now, signal, () => setTriggerValue("stale", now.address));
    }});
  }}
  return () => root.line?.abort();
}}
"""
_STYLE = f"""{PLOT_STYLE}
[class*="st-key-pulse-"]{{display:none}}
.lab-panel{{display:grid;grid-template-columns:1fr 1fr;gap:1rem}}
.lab-panel>div{{grid-column:1/-1;min-width:0}}.lab-panel>.half{{grid-column:auto}}
@media(max-width:640px){{.lab-panel>.half{{grid-column:1/-1}}}}
.lab-panel .bar{{height:.5rem;border-radius:.25rem;background:var(--st-secondary-background-color);overflow:hidden}}
.lab-panel .bar i{{display:block;height:100%;background:var(--st-primary-color)}}
.lab-panel .bar+p,.lab-panel .none{{margin:.35rem 0 0;font-size:.875rem;color:var(--lab-faint)}}
.lab-panel .rows{{max-height:240px;overflow:auto;border:1px solid var(--st-border-color);
 border-radius:var(--st-base-radius,.5rem);font-size:.875rem}}
.lab-panel table{{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}}
.lab-panel th,.lab-panel td{{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--st-border-color);
 vertical-align:top;white-space:nowrap}}
.lab-panel td:last-child{{white-space:normal;overflow-wrap:anywhere;width:100%}}
.lab-panel tr:last-child td{{border-bottom:0}}.lab-panel .right{{text-align:right}}
.lab-panel th{{position:sticky;top:0;background:var(--st-secondary-background-color);font-weight:600}}
"""
_mount = st.components.v2.component(
    "collapse_lab_panel", html='<div class="lab-panel"></div>', css=_STYLE, js=_SCRIPT, isolate_styles=False
)


@dataclass(frozen=True)
class PanelBlock:
    """One part of a panel: a chart, or HTML in which all text is escaped. key: its identity through all updates · alt:
    what the chart shows, for screen readers · half: of the panel's width, where there is room.
    """

    key: str
    html: str = ""
    figure: Figure | None = None
    alt: str = ""
    half: bool = False

    def to_json(self) -> str:
        """As the panel's script takes it."""
        shown = f'"plot":{plot_json(self.figure, self.alt)}' if self.figure else f'"html":{json.dumps(self.html)}'
        return f'{{"key":{json.dumps(self.key)},"half":{json.dumps(self.half)},{shown}}}'


def blocks_json(blocks: Iterable[PanelBlock]) -> str:
    """What a channel's view of a panel answers."""
    return f"[{','.join(block.to_json() for block in blocks)}]"


def panel(key: str, lab: Lab, read: Callable[[], View], seconds: float) -> None:
    """Show the view now, and follow it every so many seconds; 0 does not follow it.

    read: gives the view; it is called in other threads, too, so it must not touch `st`. Its body is `blocks_json`. What
    it reads through `lab`, body included, is of one moment.
    """
    view = read()
    channel = Channel(read, roles.presence(), within=partial(within, lab))
    st.session_state.setdefault("channels", {})[key] = channel  # open until the next run of the page replaces it
    data = (
        f'{{"address":{json.dumps(channel.address)},"seconds":{seconds},"tag":{json.dumps(view.etag)},'
        f'"blocks":{view.body()}}}'
    )
    _mount(key=key, data=data.encode(), on_stale_change=lambda: None)


def words(key: str, shown: str) -> None:
    """HTML in which all text is escaped, shown together with all else of the page's moment. For what names a state or a
    step of a run that trains: Streamlit's own elements change one by one.
    """
    _mount(
        key=f"words:{key}",
        data=f'{{"address":{json.dumps(shown)},"blocks":{blocks_json([PanelBlock(key, shown)])}}}'.encode(),
    )


def pulse(key: str, lab: Lab, news: Callable[[], Hashable], shown: Hashable, seconds: float) -> None:
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
    """A table in a box that scrolls; numbers stand at the right. name: for screen readers · none: said when there is no
    row.
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
