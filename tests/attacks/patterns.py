"""Every regular expression of the project, found in its source, and texts made to hurt it."""

from __future__ import annotations

import ast
import importlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("fullmatch", "match", "search", "findall", "finditer", "split", "sub", "subn")


@dataclass(frozen=True)
class Used:
    """A pattern and how it is applied. place: file and line."""

    place: str
    pattern: str
    flags: int
    method: str

    @staticmethod
    def of(place: str, compiled: re.Pattern[Any], method: str) -> Used:
        """Patterns of bytes are tried as those of letters."""
        text = compiled.pattern if isinstance(compiled.pattern, str) else compiled.pattern.decode("latin-1")
        return Used(place, text, compiled.flags, method)

    def apply(self, text: str) -> object:
        """What the project does with it."""
        compiled = re.compile(self.pattern, self.flags)
        if self.method in ("sub", "subn"):
            return compiled.sub("", text)
        found = getattr(compiled, self.method)(text)
        return sum(1 for _ in found) if self.method == "finditer" else found


def sources() -> Iterator[Path]:
    """Every Python file of the project."""
    yield ROOT / "app.py"
    for room in ("qcore", "pages"):
        yield from sorted((ROOT / room).rglob("*.py"))


def patterns_of(path: Path) -> Iterator[Used]:
    """The patterns of one file. `AssertionError` for one that cannot be found from its source."""
    text = path.read_text("utf-8")
    if "import re" not in text:
        return
    tree = ast.parse(text)
    names = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(names[:-1] if names[-1] == "__init__" else names))
    compiled: dict[str, re.Pattern[str]] = {
        name: value for name, value in vars(module).items() if isinstance(value, re.Pattern)
    }
    loops = {
        node.target.id: node.iter
        for node in ast.walk(tree)
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Tuple)
    }
    applied: set[str] = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
            continue
        place, owner = f"{path.relative_to(ROOT)}:{node.lineno}", node.func.value
        if isinstance(owner, ast.Name) and owner.id in compiled:
            applied.add(owner.id)
            found = compiled[owner.id]
            yield Used.of(place, found, node.func.attr)
        elif isinstance(owner, ast.Name) and owner.id == "re":
            given = node.args[0]
            tuple_of = loops.get(given.id) if isinstance(given, ast.Name) else None
            for one in tuple_of.elts if isinstance(tuple_of, ast.Tuple) else [given]:
                value = _value(one, module)
                assert isinstance(value, str | re.Pattern), f"{place}: write the pattern as a constant of its module"
                given_flags = [keyword.value for keyword in node.keywords if keyword.arg == "flags"]
                flags = _value(given_flags[0], module) if given_flags else 0
                built = re.compile(value, int(flags or 0))
                yield Used.of(place, built, node.func.attr)
    for name, value in vars(module).items():  # several together: every way of use
        if isinstance(value, tuple | list) and any(ast.unparse(line).startswith(name) for line in tree.body):
            for one in _nested(value):
                for method in ("fullmatch", "search"):
                    yield Used.of(f"{path.relative_to(ROOT)}:{name}", one, method)
    for name in compiled.keys() - applied:  # given to others, or imported: every way of use
        if any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name for node in tree.body):
            for method in ("fullmatch", "search"):
                yield Used.of(f"{path.relative_to(ROOT)}:{name}", compiled[name], method)


def _nested(value: Any) -> Iterator[re.Pattern[str]]:
    """The compiled patterns in tuples and lists."""
    for one in value:
        if isinstance(one, re.Pattern):
            yield one
        elif isinstance(one, tuple | list):
            yield from _nested(one)


def _value(node: ast.expr, module: Any) -> Any:
    """A constant expression of a module."""
    try:
        return eval(compile(ast.Expression(node), "<pattern>", "eval"), dict(vars(module)))
    except NameError:
        return None


def every_pattern() -> list[Used]:
    """Each once."""
    return sorted(
        {used for path in sources() for used in patterns_of(path)}, key=lambda used: (used.place, used.method)
    )


def example(pattern: str, flags: int, rng: random.Random) -> str:
    """A random text that the pattern matches, or nearly."""
    return "".join(_made(re._parser.parse(pattern, flags), rng))  # type: ignore[attr-defined]


def _made(parsed: Any, rng: random.Random) -> Iterator[str]:
    for name, value in parsed:
        match str(name):
            case "LITERAL":
                yield chr(value)
            case "NOT_LITERAL" | "ANY":
                yield rng.choice("a 7.")
            case "IN":
                yield _one_of(value, rng)
            case "BRANCH":
                yield from _made(rng.choice(value[1]), rng)
            case "SUBPATTERN":
                yield from _made(value[-1], rng)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high, inner = value
                for _ in range(rng.randint(low, max(low, min(int(high), low + 3)))):
                    yield from _made(inner, rng)


def _one_of(choices: Any, rng: random.Random) -> str:
    if str(choices[0][0]) == "NEGATE":
        return rng.choice("a 7_")
    name, value = rng.choice(choices)
    match str(name):
        case "LITERAL":
            return chr(value)
        case "RANGE":
            return chr(rng.choice(value))
        case _:
            return rng.choice({"CATEGORY_DIGIT": "07", "CATEGORY_SPACE": " \t\n", "CATEGORY_WORD": "a_7"}.get(
                str(value), "a 7")
            )  # fmt: skip


ENDS = ("", ",", "!", " ", "\n", "\u2028", "x", "=", "9", ":")


def stretched(seed: str, size: int, number: int) -> str:
    """`seed` with a piece of it, chosen by `number`, repeated until it has about `size` letters, and something odd at
    its end.
    """
    rng, seed = random.Random(number), seed or "a"
    start = rng.randrange(len(seed))
    piece = seed[start : start + rng.choice((1, 1, 2, 3, 8))]
    return seed[:start] + piece * (size // len(piece)) + seed[start:] + rng.choice(ENDS)
