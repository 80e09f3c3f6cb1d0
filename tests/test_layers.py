"""The import rules of the house: which room may import which room and which library, and what nobody may call.

Every import in every file is found with `ast`, those inside functions and `TYPE_CHECKING` blocks included, and compared
with the table below. The checker itself is tested on sources that break each rule.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.configs import small_config

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 500

_FACE = {"config", "runs", "automation", "lab", "experiments", "viz"}
_TRAIN = {"config", "store", "runs", "automation", "flow", "models", "data", "objectives", "diagnostics", "detect"}

# what every room may import, and which itself imports no room: the names and words of all measurements
CATALOG = "qcore.probes.catalog"

# room → (rooms, libraries) that it may import beside itself, `base` and the standard library
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "base": (set(), set()),
    "config": (set(), {"pydantic", "yaml"}),
    "store": (set(), {"numpy", "safetensors", "tsdownsample"}),
    "viz": (set(), {"numpy", "plotly"}),
    "flow": (set(), {"torch"}),
    "models": ({"config"}, {"torch"}),
    "data": ({"config"}, {"torch", "numpy", "datasets", "tokenizers", "av", "sklearn", "safetensors", "pyarrow"}),
    "objectives": ({"flow"}, {"torch", "numpy"}),
    "diagnostics": ({"flow"}, {"torch", "numpy"}),
    "detect": (set(), {"numpy"}),
    "sampling": ({"flow"}, {"torch", "numpy"}),
    "runs": ({"config", "store", "detect"}, {"numpy"}),
    "automation": ({"config", "store", "detect", "runs"}, set()),
    "probes.catalog": (set(), set()),
    "probes": ({"store", "detect", "diagnostics", "runs", "automation"}, {"torch", "numpy"}),
    # `train` loads the fault bank for a run that asks for a fault, and only then: a test below holds it to that.
    "train": (_TRAIN | {"probes", "sampling", "faults"}, {"torch", "numpy", "safetensors"}),
    "faults": ({"config", "models", "data", "objectives", "flow"}, {"torch"}),
    "lab": ({"config", "store", "detect", "runs", "automation", "data", "train"}, set()),
    "experiments": ({"config", "store", "runs", "data", "models", "train", "lab", "detect"}, {"torch", "scipy"}),
    "server": ({"config", "runs", "lab"}, {"starlette", "uvicorn", "mcp"}),
    "cli": (_FACE | {"server"}, {"typer"}),
    "pages": (_FACE | {"server"}, {"streamlit"}),
    "qcore": ({"config", "store", "runs", "lab"}, set()),
    "__main__": ({"cli"}, set()),
}

# drawers of the app, each of which may import those before it; a page's script may import them all
DRAWERS = ("session", "widgets", "views")

# libraries that one file alone may import, inside functions: an optional extra, or only for one kind of file
OPTIONAL: dict[str, set[str]] = {
    "qcore/models/video/ltx.py": {"diffusers", "peft"},
    "qcore/models/flux/connections_triton.py": {"triton"},  # comes with builds of torch for CUDA
    "qcore/store/tables.py": {"pyarrow"},  # Parquet, when a person asks for it
}

_PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
_BANNED_NAMES = {"eval", "exec", "__import__"}
_BANNED_ATTRIBUTES = {
    "torch": {"load", "save"},
    "yaml": {"load", "load_all", "full_load", "unsafe_load", "Loader", "FullLoader", "UnsafeLoader"},
}


def room_of(path: Path) -> str:
    """The room a source file belongs to."""
    if path.parts[0] != "qcore":
        return "pages"
    if len(path.parts) == 2:
        return "qcore" if path.stem == "__init__" else path.stem
    return "probes.catalog" if path.as_posix().startswith(CATALOG.replace(".", "/")) else path.parts[1]


def imported_modules(tree: ast.AST, path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of everything a module imports; `from a import b` also gives `a.b`, which may be a module."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = list(path.parts[:-1])[: len(path.parts) - node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base.split(".")[0] == "qcore" else []
            found += [(node.lineno, name) for name in names or [base]]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "importlib.import_module"):
            argument = node.args[0] if node.args else None
            known = isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            found.append((node.lineno, argument.value if known else "<computed name>"))
    return found


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def import_violations(source: str, path: Path) -> list[str]:
    """Imports in `source`, seen as the file `path` (relative to the project), that the table does not allow."""
    room = room_of(path)
    if room not in TABLE:
        return [f"{path}: {room!r} is no room of the house"]
    rooms, libraries = TABLE[room]
    tree = ast.parse(source)
    inside_functions = {line for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for line in _lines(node)}
    wrong = []
    for line, name in imported_modules(tree, path):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top == "qcore":
            inside = target in TABLE or target in ("faults", "*")
            allowed = (
                target in (room, "base")
                or target in rooms
                or name == CATALOG
                or name.startswith(f"{CATALOG}.")
                or (not inside and room == "qcore" and top == "qcore")
            )
        else:
            own = room == "pages" and top in ("pages", "_parts")
            optional = top in OPTIONAL.get(path.as_posix(), ()) and line in inside_functions
            allowed = own or optional or top in libraries or (top in sys.stdlib_module_names and top not in _PICKLES)
        if not allowed:
            wrong.append(f"{path}:{line}: {room} may not import {name}")
    return wrong


def _lines(node: ast.FunctionDef) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def call_violations(source: str, path: Path) -> list[str]:
    """Uses of pickle, torch.load/save, eval, exec and unsafe YAML in `source`."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        bad = ""
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names = [alias.name for alias in node.names]
            tops = {module.split(".")[0]} if module else {name.split(".")[0] for name in names}
            bad = next(iter(tops & _PICKLES), "")
            bad = bad or next((f"{module}.{name}" for name in names if name in _BANNED_ATTRIBUTES.get(module, ())), "")
        elif isinstance(node, ast.Name) and node.id in _BANNED_NAMES:
            bad = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            bad = f"{node.value.id}.{node.attr}" if node.attr in _BANNED_ATTRIBUTES.get(node.value.id, ()) else ""
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            bad = "" if isinstance(node.value, ast.Constant) and node.value.value is False else "allow_pickle"
        if bad:
            wrong.append(f"{path}:{node.lineno}: {bad} is not used here (nothing runs that was loaded)")  # type: ignore[attr-defined]
    return wrong


def product_files() -> list[Path]:
    """Sources of the product, relative to the project; `qcore/faults` is a resource of tests and demos."""
    found = [*ROOT.glob("qcore/**/*.py"), *ROOT.glob("pages/**/*.py"), *ROOT.glob("app.py")]
    return sorted(path.relative_to(ROOT) for path in found if "faults" not in path.relative_to(ROOT).parts)


def test_every_import_is_in_the_table() -> None:
    files = product_files()
    assert len(files) > 20
    assert [wrong for path in files for wrong in import_violations((ROOT / path).read_text("utf-8"), path)] == []


def modules() -> dict[str, set[str]]:
    """Every module of the product and the modules of the product that it imports, wherever in the file."""
    paths = {
        path.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path for path in product_files()
    }
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        seen = {imported for _, imported in imported_modules(ast.parse((ROOT / path).read_text("utf-8")), path)}
        # `from a.b import c`: the module a.b.c, or else the name c of the module a.b
        found[name] = {one if one in paths else one.rpartition(".")[0] for one in seen} & set(paths) - {name}
    return found


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import one another, each circle sorted."""
    found, waiting = [], {name: set(others) for name, others in imports.items()}
    while free := [name for name, others in waiting.items() if not others & set(waiting)]:
        for name in free:
            del waiting[name]
    while waiting:  # what is left imports a circle, or is in one
        reached = {name: _reach(name, waiting) for name in waiting}
        start = next(name for name in sorted(waiting) if name in reached[name])
        circle = sorted(name for name in waiting if name in reached[start] and start in reached[name])
        found.append(circle)
        waiting = {name: others for name, others in waiting.items() if name not in circle}
        while free := [name for name, others in waiting.items() if not others & set(waiting)]:
            for name in free:
                del waiting[name]
    return found


def _reach(name: str, imports: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        for other in imports.get(waiting.pop(), set()) - reached:
            reached.add(other)
            waiting.append(other)
    return reached


def test_nothing_imports_in_a_circle() -> None:
    imports = modules()
    assert sum(len(others) for others in imports.values()) > 1000  # they were found
    assert circles(imports) == []


def test_a_circle_is_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "e"}, "e": {"f"}, "f": {"e", "b"}, "g": set()}
    assert circles(imports) == [["b", "c"], ["e", "f"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def drawer_of(module: str) -> int:
    """Place of a module of the app among `DRAWERS`; a page's script stands above them all."""
    parts = module.split(".")
    return DRAWERS.index(parts[1]) if len(parts) > 2 else len(DRAWERS)


def test_the_drawers_of_the_app_import_downwards() -> None:
    pages = {name: others for name, others in modules().items() if name.startswith("pages.")}
    assert {name.split(".")[1] for name in pages if name.count(".") > 1} == set(DRAWERS)
    assert [(a, b) for a, others in pages.items() for b in others & set(pages) if drawer_of(b) > drawer_of(a)] == []


def test_rooms_stay_small() -> None:
    count = {room: len(list((ROOT / "qcore" / room).glob("*.py"))) for room in ("lab", "train")}
    assert count["lab"] <= 12, count
    assert count["train"] <= 20, count


def test_nothing_runs_that_was_loaded() -> None:
    files = product_files()
    assert [wrong for path in files for wrong in call_violations((ROOT / path).read_text("utf-8"), path)] == []


def test_files_stay_short() -> None:
    files = [path for folder in ("qcore", "pages", "tests", "bench", "docs") for path in ROOT.glob(f"{folder}/**/*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_every_room_says_what_it_is() -> None:
    rooms = [path for path in ROOT.glob("qcore/*") if path.is_dir() and any(path.glob("*.py"))]
    heads = {path.name: path / "__init__.py" for path in rooms}
    assert {name for name, head in heads.items() if not ast.get_docstring(ast.parse(head.read_text("utf-8")))} == set()


@pytest.mark.parametrize(
    ("path", "source", "broken"),
    [
        ("qcore/store/x.py", "import torch", "torch"),
        ("qcore/store/x.py", "from qcore.probes import runner", "qcore.probes.runner"),
        ("qcore/probes/catalog/x.py", "from qcore.probes import protocol", "qcore.probes.protocol"),
        ("qcore/probes/catalog/x.py", "import numpy", "numpy"),
        ("qcore/probes/x.py", "from qcore.train import loop", "qcore.train.loop"),
        ("qcore/store/x.py", "def f():\n    import torch.nn", "torch.nn"),
        ("qcore/store/x.py", "if TYPE_CHECKING:\n    from torch import Tensor", "torch"),
        ("qcore/store/x.py", "from importlib import import_module\nimport_module('torch')", "torch"),
        ("qcore/store/x.py", "import importlib\nimportlib.import_module(name)", "<computed name>"),
        ("qcore/models/x.py", "def f():\n    import diffusers", "diffusers"),
        ("qcore/models/video/ltx.py", "from diffusers import LTXVideoTransformer3DModel", "diffusers"),
        ("qcore/models/x.py", "from qcore.train import loop", "qcore.train.loop"),
        ("qcore/models/x.py", "from qcore import lab", "qcore.lab"),
        ("qcore/models/x.py", "from qcore import *", "qcore.*"),
        ("qcore/models/x.py", "from ..store import writer", "qcore.store.writer"),
        ("qcore/models/x.py", "from .. import store", "qcore.store"),
        ("qcore/models/deep/x.py", "from ...store import writer", "qcore.store.writer"),
        ("qcore/train/x.py", "import qcore.viz", "qcore.viz"),
        ("qcore/train/x.py", "import streamlit as st", "streamlit"),
        ("qcore/lab/x.py", "import numpy", "numpy"),
        ("qcore/detect/x.py", "from qcore.faults import plant", "qcore.faults.plant"),
        ("qcore/cli/x.py", "import click", "click"),
        ("qcore/__init__.py", "import qcore.train", "qcore.train"),
        ("pages/x.py", "from qcore.store import Reader", "qcore.store.Reader"),
        ("app.py", "import torch", "torch"),
        ("app.py", "import qcore.faults", "qcore.faults"),
    ],
)  # fmt: skip
def test_the_checker_catches_a_forbidden_import(path: str, source: str, broken: str) -> None:
    [wrong] = import_violations(source, Path(path))
    assert wrong.endswith(f"may not import {broken}")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("qcore/store/x.py", "import sqlite3, json\nimport numpy as np\nfrom safetensors.numpy import save"),
        ("qcore/store/deep/x.py", "from .. import schema\nfrom ..schema import SCHEMA\nfrom . import y"),
        ("qcore/models/x.py", "from qcore.config import RunConfig\nfrom qcore.models.blocks import Block"),
        ("qcore/models/video/ltx.py", "def f():\n    from diffusers.loaders import single_file_utils\n    import peft"),
        ("qcore/lab/x.py", "def f():\n    from qcore.train import Worker"),
        ("qcore/models/x.py", "from qcore.probes import catalog"),
        ("qcore/viz/x.py", "from qcore.probes.catalog import series_words"),
        ("qcore/cli/x.py", "import typer\nfrom qcore.lab import shared_lab\nfrom qcore.base import VERSION"),
        ("qcore/__main__.py", "from qcore.cli import main"),
        ("pages/x.py", "import streamlit as st\nfrom pages import _parts\nfrom qcore.viz import loss_figure"),
    ],
)
def test_the_checker_lets_allowed_imports_pass(path: str, source: str) -> None:
    assert import_violations(source, Path(path)) == []


def test_the_checker_refuses_a_room_that_is_not_in_the_table() -> None:
    assert import_violations("", Path("qcore/helpers/x.py")) == [
        "qcore/helpers/x.py: 'helpers' is no room of the house"
    ]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from dill import loads",
        "torch.load(path)",
        "from torch import load",
        "read = torch.load",
        "eval('1')",
        "exec(text)",
        "__import__('os')",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import unsafe_load",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_the_checker_catches_what_would_run_loaded_data(source: str) -> None:
    assert call_violations(source, Path("qcore/x.py"))


@pytest.mark.parametrize(
    "source", ["model.eval()", "yaml.safe_load(text)", "np.load(p, allow_pickle=False)", "load(x)"]
)
def test_the_checker_lets_harmless_calls_pass(source: str) -> None:
    assert call_violations(source, Path("qcore/x.py")) == []


_PROBE = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for part in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
        importlib.import_module(part.name)
print(",".join(name for name in ("torch", "streamlit", "datasets") if name in sys.modules))
"""


def _heavy_modules(*names: str) -> str:
    done = subprocess.run([sys.executable, "-c", _PROBE, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_rooms_without_torch_never_load_it() -> None:
    rooms = [
        room
        for room in ("config", "store", "viz", "detect", "runs", "automation", "probes/catalog")
        if (ROOT / "qcore" / room / "__init__.py").exists()
    ]
    assert {"config", "store", "viz"} <= set(rooms)
    assert _heavy_modules(*(f"qcore.{room.replace('/', '.')}" for room in rooms)) == ""


def test_the_facade_and_the_command_line_open_without_torch() -> None:
    assert _heavy_modules("qcore.lab", "qcore.cli") == ""


def test_the_torch_probe_can_fail() -> None:
    assert "torch" in _heavy_modules("qcore.objectives")


def test_a_healthy_run_loads_neither_the_fault_bank_nor_the_compiler(tmp_path: Path) -> None:
    source = (
        "import sys\nimport qcore.cli\nfrom qcore.config import RunConfig\nfrom qcore.lab import Lab\n"
        "with Lab(sys.argv[1]) as lab:\n"
        "    info = lab.wait(lab.start(RunConfig.from_yaml(sys.argv[2])), 100)\n"
        "assert info.step == 2, info\n"
        "print('qcore.faults' in sys.modules, 'torch._dynamo' in sys.modules)"
    )
    for fault, loaded in (("", "False False"), ("N1", "True False")):
        config = small_config(steps=2, fault=fault).to_yaml()
        command = [sys.executable, "-c", source, str(tmp_path), config]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == loaded
