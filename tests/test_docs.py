"""README and docs: generated pages are those of the code, every page of the app has one, links resolve, code runs."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from docs import generate, offline, rooms
from tests.papers import ROOT, SITE, anchors, blocks, links, nav_pages, prose, sources

DOCS = ROOT / "docs"
PAPERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("**/*.md"))]
GENERATED = sorted({"docs/assets/rooms.svg"} | {str(path.relative_to(ROOT)) for path in DOCS.glob("reference/*.md")})
LIMIT = 8_000


@cache
def generated() -> dict[str, str]:
    return generate.pages()


@pytest.mark.parametrize("path", GENERATED)
def test_a_generated_page_is_the_one_that_the_code_gives_now(path: str) -> None:
    assert (ROOT / path).read_text("utf-8") == generated().get(path), "run: make docs, and commit what it writes"


def test_nothing_that_is_generated_is_missing() -> None:
    assert sorted(generated()) == GENERATED


def test_every_declared_value_stands_in_the_reference() -> None:
    """What a reader would look up, read from the other side than the generator does."""
    from qcore.config import MODEL_KINDS, PRESETS, all_controls
    from qcore.detect import RULES
    from qcore.server.app import ENDPOINTS

    text = generated()
    for kind in MODEL_KINDS:
        for control in all_controls(kind):
            row = f"| `{control.section}.{control.name}` |"
            assert any(
                line.startswith(row) and control.help.replace("|", "\\|") in line
                for line in text["docs/reference/controls.md"].splitlines()
            ), f"{kind}: {row}"
    assert all(f"| `{name}` |" in text["docs/reference/presets.md"] for name in PRESETS)
    for rule in RULES:
        for name, value in rule.thresholds.items():
            assert f"{name.replace('_', ' ')} {value:g}" in text["docs/reference/findings.md"]
    assert all(f"`{one.method} {one.path}`" in text["docs/reference/routes.md"] for one in ENDPOINTS)


def test_the_readme_is_one_screen_of_text() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= LIMIT


def test_every_page_of_the_app_has_its_page_here_and_in_the_readme() -> None:
    pages = {path.stem for path in ROOT.glob("pages/*.py") if not path.stem.startswith("_")}
    assert len(pages) >= 12
    assert {path.stem for path in DOCS.glob("pages/*.md")} - {"index"} == pages
    for paper, folder in ((DOCS / "pages/index.md", ""), (ROOT / "README.md", "docs/pages/")):
        assert {f"{folder}{name}.md" for name in pages} <= set(links(paper)), paper


def test_the_navigation_names_every_page_once() -> None:
    assert sorted(nav_pages()) == sorted(str(path.relative_to(DOCS)) for path in DOCS.glob("**/*.md"))


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(paper: Path) -> None:
    for target in links(paper):
        path, _, anchor = target.partition("#")
        file = (paper.parent / path).resolve() if path else paper
        assert file.is_file(), f"{paper.name} links to {target}"
        if file.suffix == ".md" and anchor:
            assert anchor in anchors(file), f"{paper.name} links to {target}; there are {sorted(anchors(file))}"
        if paper.is_relative_to(DOCS):
            assert file.is_relative_to(DOCS), f"{target} is not part of the site"


def test_every_source_file_that_is_named_is_there() -> None:
    there = [path.relative_to(ROOT).as_posix() for folder in ("qcore", "pages", "docs", "bench", "tests", "examples")
             for path in ROOT.glob(f"{folder}/**/*.py")]  # fmt: skip
    there.append("app.py")
    named = {(paper.name, name) for paper in PAPERS for name in sources(paper)}
    assert len(named) > 40
    assert {(paper, name) for paper, name in named if not any(f"/{one}".endswith(f"/{name}") for one in there)} == set()


def test_the_walks_name_what_is_there_and_seldom_come_back() -> None:
    """Each row of a walk: a file, and functions of it; a walk returns at most four times to a file that it has left."""
    walks = (ROOT / "docs/architecture.md").read_text("utf-8").split("\n## Walk: ")[1:]
    assert len(walks) == 2
    for walk in walks:
        rows = re.findall(r"^\| `([\w/]+\.py)` \| (.*) \|$", walk.split("\n## ")[0], re.MULTILINE)
        assert len(rows) > 7
        left: set[str] = set()
        returns = 0
        for (file, about), (after, _) in zip(rows, [*rows[1:], ("", "")], strict=True):
            source = (ROOT / file).read_text("utf-8")
            for name in re.findall(r"`(\w+)`", about):
                assert re.search(rf"^(def |class )?{name}\b", source, re.MULTILINE), f"{file} has no {name}"
            returns += file in left
            if after != file:
                left.add(file)
        assert returns <= 4


def test_the_tree_of_the_architecture_names_every_room() -> None:
    tree = next(block for block in blocks(DOCS / "architecture.md") if block.startswith("app.py"))
    inside = tree.partition("qcore/")[2].partition("\ndocs/")[0]
    named = [word.rstrip("/") for line in inside.splitlines()[1:] for word in re.findall(r"\b\w+/(?= |$)", line)]
    assert sorted(named) == sorted(set(rooms.imports(ROOT)) - {"pages", "probes.catalog"})


def test_nothing_on_the_site_comes_from_the_network() -> None:
    assert re.search(r"^font = false$", SITE.read_text("utf-8"), re.M)
    for paper in PAPERS:
        assert not re.search(r"""!\[[^\]]*\]\(https?:|<(script|iframe|link)|mermaid""", prose(paper)), paper


@pytest.mark.parametrize(
    ("text", "suffix", "found"),
    [
        ('<script src="https://a.b/c.js"></script>', ".html", ["https://a.b/c.js"]),
        ('<link rel="stylesheet" href="//fonts.b/c.css">', ".html", ["//fonts.b/c.css"]),
        ("<style>@import 'https://a.b/c.css';</style>", ".html", ["https://a.b/c.css"]),
        ("a { background: url(https://a.b/c.png) }", ".css", ["https://a.b/c.png"]),
        ('<a href="https://a.b">x</a><img src="assets/a.png"><link rel="canonical" href="https://a.b">', ".html", []),
    ],
)
def test_what_a_built_page_loads_from_outside_is_seen(text: str, suffix: str, found: list[str]) -> None:
    assert offline.foreign(text, suffix) == found


def test_the_examples_for_a_loop_of_ones_own_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The one of the README takes up what the one of the page has made."""
    names: dict[str, object] = {}
    for paper in (DOCS / "watch-your-loop.md", ROOT / "README.md"):
        [block] = blocks(paper, "python")
        names["V"] = names.get("vocabulary")
        exec(compile(block, paper.name, "exec"), names)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 6
    assert said[0] == "0.0", "the toy of the page has no context"


def test_rooms_that_import_in_a_circle_are_refused() -> None:
    assert rooms.levels({"a": {"b"}, "b": set()}) == {"a": 1, "b": 0}
    with pytest.raises(ValueError, match="circle"):
        rooms.levels({"a": {"b"}, "b": {"a"}, "c": set()})
