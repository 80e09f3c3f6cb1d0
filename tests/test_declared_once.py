"""What has one home, held by the sources themselves: judgements, numbers in words, JSON, `key=value`, class names."""

import ast
import functools
import re
from pathlib import Path

import pytest

from qcore.config.names import assignment

ROOT = Path(__file__).resolve().parent.parent


def sources(*folders: str) -> dict[str, ast.Module]:
    """Syntax trees by path, of the product's files in these folders."""
    places = [ROOT / folder for folder in folders]
    files = sorted(path for place in places for path in ([place] if place.is_file() else place.rglob("*.py")))
    found = {path.relative_to(ROOT).as_posix(): _tree(path) for path in files}
    assert found
    return found


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


# Detectors judge; pages and charts show their judgement


def judgements(tree: ast.Module) -> list[str]:
    """Comparisons by order with a fraction, written there or named by a constant of the module."""
    fractions = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, float)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(sign, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for sign in node.ops)
        and any(_is_fraction(part, fractions) for side in (node.left, *node.comparators) for part in ast.walk(side))
    ]


def _is_fraction(node: ast.AST, names: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in names
    return isinstance(node, ast.Constant) and isinstance(node.value, float) and node.value != int(node.value)


LAYOUT = {
    # what lies far outside the axis is drawn at its edge and counted
    "qcore/viz/extent.py": ["np.abs(values - middle[place]) > _FAR * np.maximum(spread, 1e-300)"],
    "qcore/viz/tokens.py": ["share > 0.0005"],  # a share that would round to 0.0 %
    "qcore/viz/video.py": ["time < 0.5", "time < 0.5"],  # on which side of a mark its words stand
}


def test_no_page_and_no_chart_judges_a_number_itself():
    found = {path: judgements(tree) for path, tree in sources("pages", "qcore/viz").items()}
    assert {path: said for path, said in found.items() if said} == LAYOUT


def test_a_judgement_is_found():
    source = "LIMIT = 1e-6\nGUIDE = 2\na = leak > LIMIT\nb = 0.1 * x <= y\nc = n > GUIDE\nd = x < 1.0\ne = x == 0.5"
    assert judgements(ast.parse(source)) == ["leak > LIMIT", "0.1 * x <= y"]


# A class name means one thing


def classes(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Where each class name is defined."""
    found: dict[str, list[str]] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(path)
    return found


def test_no_class_name_is_defined_twice():
    found = classes(sources("qcore", "pages"))
    assert len(found) > 300
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_a_class_name_of_two_meanings_is_found():
    trees = {"a.py": ast.parse("class Row: ..."), "b.py": ast.parse("def f():\n    class Row: ...\nclass Line: ...")}
    assert classes(trees) == {"Row": ["a.py", "b.py"], "Line": ["b.py"]}


# One writer of JSON for other programs, one formatter of numbers, one reader of `key = value`


ALLOWED = ("allow_nan", "parse_constant")


def nan_words(tree: ast.Module) -> list[str]:
    """Keywords by which JSON that is written is kept free of NaN."""
    return [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg in ALLOWED]


def test_json_without_nan_is_written_in_one_place():
    found = {path: words for path, tree in sources("qcore", "pages").items() if (words := nan_words(tree))}
    assert found == {
        "qcore/base/plain_json.py": ["allow_nan=False"],
        "qcore/viz/figure.py": ["allow_nan=False"],  # refuses: numbers of a figure are typed arrays
        "qcore/server/bodies.py": ["parse_constant=_refuse_constant"],  # reads: a body with NaN is refused
    }


def number_formats(tree: ast.Module) -> list[str]:
    """Formats of a fraction, as in `f"{value:.3f}"` or `format(value, ".0%")`, that would say `nan`."""
    specs = [
        ast.unparse(node.format_spec)[2:-1]
        for node in ast.walk(tree)
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None
    ]
    called = [
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "format"
    ]
    return [spec for spec in specs if re.fullmatch(r"[^{}]*\.\d+[eEfFgG%n]", spec)] + called


SHOWN = ("pages", "qcore/cli", "qcore/viz", "qcore/lab", "qcore/runs", "qcore/experiments")
PLACES = {
    "pages/widgets/live_panel.py": [".1f"],  # a width in CSS, clipped to 0 to 100
    "qcore/viz/heat.py": ["format"],  # cells of a picture, which has the format that its caller chose
}


def test_measured_numbers_are_put_into_words_in_one_place():
    trees = {path: tree for folder in SHOWN for path, tree in sources(folder).items()}
    found = {path: specs for path, tree in trees.items() if (specs := number_formats(tree))}
    assert found == PLACES


def test_a_number_format_is_found():
    source = "a = f'{x:,.3f} {y:>9} {n:,} {s:.1%} {z:g}'\nb = format(x, '.2f')\nc = f'{x:.{places}f}'"
    assert number_formats(ast.parse(source)) == [",.3f", ".1%", "format"]


def pairs_read(tree: ast.Module) -> list[str]:
    """Where a text is cut at its first `=`."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("partition", "rpartition", "split", "rsplit")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value in ("=", b"=")
    ]


def test_what_a_person_assigns_is_cut_in_one_place():
    found = {path: cuts for path, tree in sources("qcore", "pages").items() if (cuts := pairs_read(tree))}
    assert found == {
        "qcore/config/names.py": ["text.partition('=')"],
        "qcore/server/door.py": ["part.strip().partition('=')"],  # a cookie of a browser
    }


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("learning_rate = 1e-3 ", ("learning_rate ", "=", "1e-3")),
        ("seed=", ("seed", "=", "")),
        ("a = b = c", ("a ", "=", "b = c")),
        ("rate *= 0.5", ("rate ", "*=", "0.5")),
        ("t* = 0.2", ("t* ", "=", "0.2")),
    ],
)
def test_an_assignment_is_cut_at_its_first_sign(text, cut):
    assert assignment(text, "*+") == cut
    assert assignment("pause") is None


# What nothing uses is not kept


def defined_and_used(trees: dict[str, ast.Module]) -> tuple[dict[str, str], set[str]]:
    """Functions and classes without a decorator, by name; and every name that is read, called or reached by a dot."""
    defined: dict[str, str] = {}
    used: set[str] = set()
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if not node.decorator_list and not node.name.startswith("__"):
                    defined[node.name] = path
            elif isinstance(node, ast.Name):
                used.add(node.id)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
    return defined, used


OUTSIDE = {
    "flatten_mapping": "qcore/config/documents.py",  # called by PyYAML
    "send_400_response": "qcore/server/service.py",  # called by uvicorn
    # for a script or a notebook of one's own
    "unregister": "qcore/probes/registry.py",
    "ExternalRun": "qcore/runs/external_run.py",
    "from_guide": "qcore/config/published_guide.py",
    "to_plotly": "qcore/viz/figure.py",
    "trainable_state_dict": "qcore/models/video/ltx.py",
    "log_probability": "qcore/data/text/grammar.py",  # the proof that the nats of a story are exact
}


def test_no_function_of_the_product_is_used_by_tests_only():
    trees = sources("app.py", "qcore", "pages", "bench", "docs", "examples")
    defined, used = defined_and_used(trees)
    found = {name: path for name, path in defined.items() if name not in used}
    assert {name: path for name, path in found.items() if path.startswith(("qcore/", "pages/"))} == OUTSIDE


# A block of statements stands once


@functools.cache
def _text(statement: ast.stmt) -> str:
    return ast.unparse(statement)


def repeated_blocks(trees: dict[str, ast.Module], least: int = 6) -> dict[str, list[str]]:
    """Places by the text of a run of `least` statements, those inside them counted, that stands there to the letter."""
    places: dict[str, list[str]] = {}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef):
                continue
            for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
                if isinstance(block, list):
                    counts = [sum(isinstance(inner, ast.stmt) for inner in ast.walk(one)) for one in block]
                    for start, first in enumerate(block):
                        count, end = 0, start
                        while end < len(block) and count < least:
                            count += counts[end]
                            end += 1
                        if count >= least:
                            text = "\n".join(map(_text, block[start:end]))
                            places.setdefault(text, []).append(f"{path}:{first.lineno}")
    return {text: found for text, found in places.items() if len(found) > 1}


def test_no_block_of_six_statements_stands_twice():
    found = repeated_blocks(sources("qcore", "pages"))
    files = {place.partition(":")[0] for places in found.values() for place in places}
    assert files == {"qcore/models/flux/connections_triton.py"}  # two kernels, each compiled as a whole


def test_a_repeated_block_is_found():
    block = "".join(f"    {name} = f({name})\n" for name in "abcdef")
    trees = {"a.py": ast.parse(f"def one():\n{block}"), "b.py": ast.parse(f"def two():\n    g()\n{block}")}
    assert list(repeated_blocks(trees).values()) == [["a.py:2", "b.py:3"]]
