"""The rooms of the house as they import one another: a page and a picture, from the imports of every file.

A room is a folder of `qcore`, and the catalogue of series inside `probes` is one of its own, as every room may read it;
app, pages and the terminal are the faces above it. An arrow of the picture is an import
that no chain of other arrows implies, so it stays readable; the page lists all of them.
"""

from __future__ import annotations

import ast
import html
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

Graph = dict[str, set[str]]
_FACES = {"pages": "The app in the browser: `app.py` and a script a page, with their views and widgets."}
_CATALOG = "probes.catalog"
_WIDTH, _HEIGHT, _GAP, _RISE = 108, 40, 14, 62


@cache
def imports(root: Path) -> Graph:
    """Room → rooms that a file of it imports, itself left out. Raises `ValueError` where rooms import in a circle."""
    graph: Graph = {}
    files = [*root.glob("qcore/*/**/*.py"), *root.glob("pages/**/*.py"), root / "app.py"]
    for path in sorted(file.relative_to(root) for file in files):
        room = _room_of(".".join(path.with_suffix("").parts)) if path.parts[0] == "qcore" else "pages"
        found = set(_imported(ast.parse((root / path).read_text("utf-8"))))
        graph.setdefault(room, set()).update(found - {room})
    graph = {room: {one for one in used if one in graph} for room, used in graph.items()}
    levels(graph)
    return graph


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "qcore" else [f"qcore.{alias.name}" for alias in node.names]
            if node.module == "qcore.probes":
                names = [f"qcore.probes.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("qcore."):
                yield _room_of(name)


def _room_of(module: str) -> str:
    """Room of a module `qcore.…`."""
    return _CATALOG if f"{module}.".startswith(f"qcore.{_CATALOG}.") else module.split(".")[1]


def levels(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Height of each room over the ground: one more than the highest room that it imports."""
    found: dict[str, int] = {}
    while len(found) < len(graph):
        ready = [room for room in graph if room not in found and graph[room] <= found.keys()]
        if not ready:
            raise ValueError(f"these rooms import one another in a circle: {', '.join(graph.keys() - found.keys())}")
        found |= {room: 1 + max((found[one] for one in graph[room]), default=-1) for room in ready}
    return found


def _needed(graph: Graph) -> Graph:
    """The same without imports that a chain of others implies."""
    below = {room: set[str]() for room in graph}
    for room in sorted(graph, key=levels(graph).__getitem__):
        below[room] = graph[room].union(*(below[one] for one in graph[room]))
    return {
        room: {one for one in used if not any(one in below[other] for other in used)} for room, used in graph.items()
    }


def about(root: Path, room: str) -> str:
    """What a room says of itself: the first paragraph of its `__init__`."""
    if room in _FACES:
        return _FACES[room]
    text = (
        ast.get_docstring(ast.parse((root / "qcore" / room.replace(".", "/") / "__init__.py").read_text("utf-8"))) or ""
    )
    return " ".join(text.split("\n\n")[0].split())


def rooms_page(root: Path) -> list[str]:
    """Lines of the page: each room, what it is, what it imports, and who imports it."""
    graph = imports(root)
    height = levels(graph)
    lines = [
        "Imports run downwards only; `tests/test_layers.py` holds the table of rooms and libraries, and fails on an "
        "import that is not in it. The picture is on [Architecture](../architecture.md).",
        "",
        "| room | what it is | imports | imported by |",
        "| --- | --- | --- | --- |",
    ]
    for room in sorted(graph, key=lambda one: (-height[one], one)):
        above = sorted(one for one, used in graph.items() if room in used)
        lines.append(f"| `{room}` | {about(root, room)} | {_names(sorted(graph[room]))} | {_names(above)} |")
    return lines


def _names(rooms: list[str]) -> str:
    return ", ".join(f"`{room}`" for room in rooms)


def rooms_picture(root: Path) -> str:
    """The picture as SVG; it reads on light and on dark paper."""
    graph = imports(root)
    height = levels(graph)
    rows = [sorted(room for room in graph if height[room] == level) for level in range(max(height.values()), -1, -1)]
    wide = max(len(row) for row in rows) * (_WIDTH + _GAP) + _GAP
    tall = len(rows) * (_HEIGHT + _RISE) - _RISE + 2 * _GAP
    at = {
        room: (wide / 2 + (place - (len(row) - 1) / 2) * (_WIDTH + _GAP), _GAP + level * (_HEIGHT + _RISE))
        for level, row in enumerate(rows)
        for place, room in enumerate(row)
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" width="{wide}" height="{tall}" '
        'role="img" font-family="system-ui, sans-serif" font-size="14">',
        "<title>The rooms of Collapse Lab and their imports, which run downwards only</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#7a8794"/></marker></defs>',
    ]
    for room, used in sorted(_needed(graph).items()):
        for one in sorted(used):
            (x, y), (to_x, to_y) = at[room], at[one]
            y, half = y + _HEIGHT, (to_y - y - _HEIGHT) / 2
            lines.append(
                f'<path d="M{x:g} {y:g}C{x:g} {y + half:g} {to_x:g} {to_y - half:g} {to_x:g} {to_y:g}" fill="none" '
                'stroke="#7a8794" stroke-width="1.3" marker-end="url(#tip)"/>'
            )
    for room, (x, y) in sorted(at.items()):
        said = html.escape(about(root, room).replace("`", ""))
        lines.append(
            f'<g><title>{said}</title><rect x="{x - _WIDTH / 2:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" '
            f'rx="7" fill="#e8f1f8" stroke="#0072b2"/><text x="{x:g}" y="{y + _HEIGHT / 2 + 5:g}" text-anchor="middle" '
            f'fill="#1b2430">{room}</text></g>'
        )
    return "\n".join([*lines, "</svg>", ""])
