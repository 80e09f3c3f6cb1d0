"""What a page says of its moment, read from the browser in one go, and what of it contradicts the rest."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page

_READ = """() => {
  const seen = (node) => !!node && node.checkVisibility();
  const text = (node) => node?.innerText.trim() ?? "";
  const all = (selector) => [...document.querySelectorAll(selector)];
  const ends = (gd) => (gd._fullData || []).filter((trace) => trace.name !== "changes")
    .map((trace) => trace.x).filter((x) => x && x.length)
    .reduce((last, x) => Math.max(last ?? -Infinity, x[x.length - 1]), null);
  return {
    badge: all("[data-state][data-run]").map((node) => node.dataset.state),
    states: all("[data-state]").map((node) => node.dataset.state),
    words: all(".strip div").filter((cell) => text(cell.querySelector("span")) === "State")
      .map((cell) => text(cell.querySelector("b"))),
    progress: text(document.querySelector('[data-block="progress"]')),
    page: text(document.querySelector('[data-testid="stMain"]')),
    // One without the mark has an arrow before its step: it says where the page is going.
    sliders: all('[data-testid="stSlider"]').filter((node) => text(node.querySelector("label")) === "Step")
      .filter((node) => node.closest("[data-shown]"))
      .map((node) => text(node.querySelector('[data-testid="stSliderThumbValue"]'))),
    films: all(".lab-clips .label").map(text),
    film: text(document.querySelector('[data-block="film"]')),
    figures: text(document.querySelector('[data-block="numbers_about"]')),
    cards: all("[data-finding]").map((badge) => ({
      finding: badge.dataset.finding, last: +badge.dataset.last, badge: text(badge),
      words: text(badge.parentElement.querySelector(".lab-small")),
      end: [...badge.closest('[class*="st-key-finding"]')?.querySelectorAll(".js-plotly-plot") ?? []].map(ends)[0],
    })),
    charts: all(".js-plotly-plot").filter((gd) => gd.layout?.title).map((gd) => ({
      title: gd.layout.title.text ?? "", axis: gd.layout.xaxis?.title?.text ?? "", end: ends(gd),
      behind: text(gd.querySelector(".lab-behind")), drawn: seen(gd), block: gd.dataset.block ?? "",
    })),
    pressed: Object.fromEntries(all('[data-testid="stMain"] button')
      .filter((node) => ["Pause", "Continue", "Stop", "Resume"].includes(text(node).split("\\n").pop()))
      .map((node) => [text(node).split("\\n").pop(), !node.disabled])),
  };
}"""
_OF = re.compile(r"Step ([\d,]+) of [\d,]+")
_ASKED = re.compile(r"step ([\d,]+), newest before ([\d,]+)|not measured by step ([\d,]+)|\bstep ([\d,]+)$")
_FILM = re.compile(r"Step ([\d,]+) · picture")
_LOOK = re.compile(r"(?:since|found at|last seen at|here as of) step ([\d,]+)")
_TO = re.compile(r", to step ([\d,]+)(?:<br>|$)")  # of the first row, where a title has two


def number(text: str) -> int:
    return int(text.replace(",", ""))


def seen(page: Page) -> dict[str, Any]:
    """Every state and step that the page shows at this instant."""
    found: dict[str, Any] = page.evaluate(_READ)
    return found


def step_of(found: dict[str, Any]) -> int | None:
    """The step that the control room says the run is at."""
    said = _OF.search(found["progress"])
    return number(said[1]) if said else None


def contradictions(found: dict[str, Any]) -> list[str]:
    """What the page says of two moments at once."""
    wrong = []
    states = {*found["states"], *found["words"]}
    for said, state in (("The run failed", "failed"), ("exited unexpectedly", "interrupted")):
        if said in found["page"]:
            states.add(state)
    if len(states) > 1:
        wrong.append(f"states {sorted(states)}")
    step = step_of(found)
    asked: set[int] = set()
    for chart in found["charts"]:
        title, end = chart["title"], chart["end"]
        if chart["axis"].startswith("step") and end is not None:
            to = _TO.search(title)
            if chart["behind"]:
                if number(chart["behind"].rpartition(" ")[2]) != end:
                    wrong.append(f"{title!r} ends at {end}, and says {chart['behind']!r}")
            elif to and number(to[1]) != end:
                wrong.append(f"{title!r} ends at {end}")
            elif not to and step is not None and end != step:
                wrong.append(f"{title!r} ends at {end}, the page says step {step}")
        elif not chart["behind"]:
            asked |= _asked(title)
    for label in found["films"]:
        if label.startswith("step "):  # a row of the timeline: one of many steps
            continue
        asked |= _asked(label.split(" · ")[0].split(", clip")[0])
    asked |= _asked(found["figures"])
    if playing := _FILM.match(found["film"]):
        asked.add(number(playing[1]))
    for shown in found["sliders"]:
        asked |= {number(shown)} if shown.replace(",", "").isdecimal() else set()
    if len(asked) > 1:
        wrong.append(f"pictures and slider of steps {sorted(asked)}")
    return [*wrong, *(said for card in found["cards"] for said in _mixed(card))]


def _mixed(card: dict[str, Any]) -> list[str]:
    """What a finding's card says of two looks at once: the step in its words, its numbers and the end of its chart."""
    said = [number(step) for step in _LOOK.findall(card["words"])]
    wrong = []
    if said and said[-1] != card["last"] and card["badge"] != "resolved":
        wrong.append(f"{card['finding']} says {card['words']!r}, with numbers of step {card['last']}")
    if card["end"] is not None and card["badge"] != "resolved" and card["end"] > card["last"]:
        wrong.append(f"the chart of {card['finding']} goes to step {card['end']}, its numbers are of {card['last']}")
    return wrong


def _asked(title: str) -> set[int]:
    """The step that a picture was asked for: its own, unless it says that it is an earlier one."""
    said = _ASKED.search(title)
    return {number(said[2] or said[3] or said[4])} if said else set()
