"""The catalogue of series: every number that is stored is in it, and nobody writes the name of one by hand."""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pages.views.prompt import _STATISTICS
from pages.views.text_timeline import _CURVES
from qcore.automation.control_board import ControlBoard
from qcore.experiments.sampling_comparison import MEASURES
from qcore.lab import Lab
from qcore.probes import catalog
from qcore.runs.layout import CACHE_FOLDER
from qcore.store import RunWriter
from qcore.store.checks import ARRAYS, INSIDE
from qcore.train.text_workload import TextWorkload
from tests.support.configs import small_config, small_video

ROOT = Path(__file__).resolve().parents[2]
OF_ARRAYS = {name for shapes in (*ARRAYS.values(), INSIDE) for name in shapes}
"""Arrays have names of their own, some with the same first part."""
ALLOWED = {"qcore/store/checks.py": 1, "qcore/runs/external_findings.py": 3}
"""Lines that spell a name: arrays that are declared together, and names that other programs give. May only shrink."""
FIXED = catalog.declared_series()


def spelled(source: str) -> list[int]:
    """Lines of a source that spell the name of a series, a pattern of names or the beginning of one."""
    looks_like_one = re.compile(rf"(?:{'|'.join(catalog.groups())})/[\w/.*{{}}]*")
    tree = ast.parse(source)
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | parts:
            text = node.value
        else:
            continue
        if looks_like_one.fullmatch(text) and text not in OF_ARRAYS:
            found.append(node.lineno)
    return found


def test_nobody_spells_the_name_of_a_series() -> None:
    files = [path.relative_to(ROOT) for room in ("qcore", "pages") for path in (ROOT / room).rglob("*.py")]
    files = [path for path in files if path.parts[:3] != ("qcore", "probes", "catalog")]
    found = {path.as_posix(): len(spelled((ROOT / path).read_text("utf-8"))) for path in files}
    assert {path: count for path, count in found.items() if count} == ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        'x = values["tokens/top1_share"]',
        'x = f"term/{name}"',
        'x = f"grad/{kind}/{name}"',
        'x = name.startswith("cost/")',
        'x = ("frames/generated/*",)',
        'x = "tokens/of_tomorrow"',
    ],
)
def test_a_spelled_name_is_found(source: str) -> None:
    assert spelled(f'"""A module about tokens/top1_share."""\n{source}\n') == [2]


def test_other_strings_are_left_alone() -> None:
    assert spelled('x = arrays["tokens/predicted"]\ny = "data/text.txt and more"\nz = f"{a}/term/{b}"\n') == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kind": "transformer", "accumulation": 2},
        {"kind": "pam"},
        {"kind": "flux_lm"},
        {"concepts": 4, "experts": 2, "dynamic_width": True, "source": "bilingual", "coherence_weight": 0.1},
    ],
    ids=lambda changes: str(changes.get("kind", "mechanisms" if changes else "phase_lm")),
)
def test_every_probe_of_every_family_measures_declared_series(tmp_path: Path, changes: dict[str, object]) -> None:
    workload = TextWorkload(small_config(**changes), tmp_path / CACHE_FOLDER)
    board = ControlBoard(workload.config)
    with RunWriter(tmp_path / "run.sqlite") as writer:
        runner = workload.runner(writer)
        found = runner.begin(workload.engine.preview(board), board) | runner.scheduler.report()
        assert not runner.disabled
    assert len(found) > 40
    assert [name for name in found if catalog.find(name) is None] == []


def test_every_series_that_whole_runs_store_has_a_title_of_its_own(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        for name, config in {"text": small_config(steps=4), "clips": small_video(steps=4)}.items():
            lab.start(config.with_values({"budget_percent": 100}), name=name)
            assert lab.wait(name, 60).state == "finished"
            names = lab.reader(name).names()
            assert [one for one in names if catalog.find(one) is None] == []
            words = [catalog.series_words(one) for one in names]
            assert not [one for one in words if "/" in one.text or "_" in one.text]
            assert [one.name for one in words if not one.meaning.endswith(".")] == []
            assert len(set(catalog.distinct_words(names).values())) == len(names)


def named_by_hand(source: str) -> list[str]:
    """Titles written for a chart of one series, which has words of its own."""
    return [
        ast.unparse(keyword.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "curves" and node.args
        if isinstance(node.args[0], ast.List)
        and len(node.args[0].elts) == 1
        and isinstance(node.args[0].elts[0], ast.Call)
        for keyword in node.keywords
        if keyword.arg in ("title", "y_title") and isinstance(keyword.value, ast.Constant | ast.JoinedStr)
    ]


def test_a_chart_of_one_series_is_called_as_it_is_declared() -> None:
    views = list((ROOT / "pages").rglob("*.py"))
    assert len(views) > 30
    assert {path.name: found for path in views if (found := named_by_hand(path.read_text("utf-8")))} == {}
    assert named_by_hand('curves([line("x", NAME)], title="Balance", **look)') == ["'Balance'"]


@pytest.mark.parametrize("name", [*_STATISTICS, *MEASURES, *(name for names, _ in _CURVES.values() for name in names)])
def test_a_statistic_of_a_sample_that_a_page_shows_is_declared(name: str) -> None:
    declared = catalog.find(catalog.member(catalog.GENERATION, name))
    assert declared is not None
    assert declared.short


def test_every_declaration_is_whole() -> None:
    assert len(FIXED) > 100
    for declared in FIXED:
        name, first = declared.name, declared.title[:2]
        assert first[0] == first[0].lower() or first != first.capitalize(), name
        assert re.fullmatch(r"[^.].*\.", declared.meaning), name
        assert declared.needs in ("", *catalog.CAPABILITIES), name
        assert format(0.5, declared.form), name
        assert getattr(catalog, name.upper().replace("/", "_")) == name


def test_every_pattern_is_listed_with_words_of_its_own() -> None:
    listed = catalog.declared_patterns()
    assert {name.partition("/")[0] for name in (declared.name for declared in listed)} >= {"term", "grad", "frames"}
    assert [declared.name for declared in listed if not re.fullmatch(r"[^.].*\.", declared.meaning)] == []
    assert all(catalog.find(declared.name) for declared in listed)


def test_a_series_of_ones_own_is_declared_and_kept_as_a_row() -> None:
    name = catalog.declare("mine/gap", "gap", "nats", meaning="How far.", form=".2f", healthy=(None, 1.0), needs="text")
    assert name == "mine/gap"
    assert catalog.declare("mine/gap", "gap", "nats", meaning="How far.", form=".2f", healthy=(None, 1.0), needs="text")
    words = catalog.series_words(name)
    assert (words.text, words.heading, words.healthy) == ("gap, nats", "Gap", (None, 1.0))
    assert catalog.is_from_outside(name)
    assert not catalog.is_from_outside(catalog.TRAIN_LOSS)
    meta = json.loads(json.dumps({catalog.meta_key(name): catalog.declaration_row(name), "kind": "phase_lm"}))
    assert catalog.stored_series(meta) == [words]
    meta[catalog.meta_key(name)] |= {"healthy": "of tomorrow", "more": 1}
    assert catalog.stored_series(meta) == [replace(words, healthy=None)]
    assert catalog.stored_series({catalog.meta_key(name): "broken"}) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "gap"}, "write group/name"),
        ({"name": "tokens/gap"}, "belongs to the lab"),
        ({"name": "own/gap", "title": ""}, "no title"),
        ({"name": "own/gap", "meaning": ""}, "no meaning"),
        ({"name": "own/gap", "needs": "magic"}, "'magic'; a run may have: terms"),
        ({"name": "own/gap", "healthy": (2.0, 1.0)}, "2.0 to 1.0"),
        ({"name": "own/gap", "form": ".2q"}, "'.2q'"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        catalog.declare(**{"name": "own/gap", "title": "gap", "meaning": "How far.", **changes})
    assert catalog.find("own/gap") is None


def test_one_name_has_one_meaning() -> None:
    catalog.declare("mine/twice", "first", meaning="The first.")
    with pytest.raises(ValueError, match="declared already, as 'first'"):
        catalog.declare("mine/twice", "second", meaning="The second.")
