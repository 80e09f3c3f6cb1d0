"""What the elements of our own were sent, as their scripts in the browser read it."""

from __future__ import annotations

import json
from typing import Any

PANEL = "collapse_lab_panel"


def elements(at: Any, component: str) -> dict[str, dict[str, Any]]:
    """What each element of a component was sent, by the end of its key: JSON of a chart, header of a clip player."""
    found = {}
    for element in at.get("bidi_component"):
        proto = element.proto
        if proto.component_name != component:
            continue
        data = bytes(proto.bytes)
        if component == "collapse_lab_clips":
            size = int.from_bytes(data[:4], "little")
            content = json.loads(data[4 : 4 + size])
        else:
            content = json.loads(data)["figure"]
        found[proto.id.rpartition("chart:")[2]] = content
    return found


def alts(at: Any) -> list[str]:
    """What each chart that stands alone says to who cannot see it."""
    sent = [one.proto for one in at.get("bidi_component")]
    return [json.loads(bytes(one.bytes))["alt"] for one in sent if one.component_name == "collapse_lab_plot"]


def films_of(at: Any) -> dict[str, dict[str, Any]]:
    return elements(at, "collapse_lab_clips")


def charts_of(at: Any) -> dict[str, dict[str, Any]]:
    """Every figure on the page, whether it stands alone or in a panel."""
    in_panels = {key.rpartition("chart:")[2]: block["plot"] for key, block in blocks_of(at).items() if "plot" in block}
    return elements(at, "collapse_lab_plot") | {key: content["figure"] for key, content in in_panels.items()}


def blocks_of(at: Any) -> dict[str, dict[str, Any]]:
    """Blocks of the page's panels, by key."""
    panels = [one for one in at.get("bidi_component") if one.proto.component_name == PANEL]
    return {block["key"]: block for one in panels for block in json.loads(bytes(one.proto.bytes))["blocks"]}


def links(at: Any) -> set[str]:
    return {link.proto.page for link in at.main.get("page_link")}
