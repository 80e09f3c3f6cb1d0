"""Records that lie as JSON beside the runs, read back as the frozen dataclasses that were written.

The dataclass is the declaration: every field has its annotated type, or the file is refused as a whole, before a page
or a sort meets a value of another. Fields named `created` are times that a calendar can show.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from qcore.store import shapes

T = TypeVar("T")
_PLAIN: dict[Any, shapes.Shape] = {
    str: shapes.text,
    bool: shapes.truth,
    int: shapes.integer,
    float: shapes.number,
    NoneType: lambda value, where: _is_null(value, where),
}


def parse_record(kind: type[T], values: Any, where: str) -> T:
    """The dataclass whose fields `values` holds, as `asdict` and JSON have made it. Fields with a default may lack.

    Raises:
        ShapeError: a ValueError that names the field.
    """
    found: T = _read(kind, values, where)
    return found


def _read(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    # JSON writes 1.0 as 1 in other languages: a whole number is a float, but never the other way round
    if kind in _PLAIN:
        _PLAIN[kind](value, where)
        return float(value) if kind is float else value
    if is_dataclass(kind):
        return _record(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):
        return _read_union(arguments, value, where)
    if origin is Literal:
        # with the type: True == 1, and a file that says so was not written by us
        if not any(value == one and type(value) is type(one) for one in arguments):
            raise shapes.refuse(where, value, f"one of {', '.join(map(str, arguments))}")
        return value
    # a tuple of fixed length, which JSON keeps as a list
    if origin is tuple and arguments[-1] is not Ellipsis:
        if not isinstance(value, list) or len(value) != len(arguments):
            raise shapes.refuse(where, value, f"a list of {len(arguments)}")
        return tuple(_read(one, item, where) for one, item in zip(arguments, value, strict=True))
    if origin in (tuple, list):
        if not isinstance(value, list):
            raise shapes.refuse(where, value, "a list")
        return origin(_read(arguments[0], item, where) for item in value)
    # a field of another type is a mistake in our declaration, not in the file
    assert (origin, arguments[:1]) == (dict, (str,)), f"{where}: {kind} is no type of JSON"
    if not isinstance(value, dict):
        raise shapes.refuse(where, value, "an object")
    return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}


def _record(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise shapes.refuse(where, values, "an object")
    types, must = _fields(kind)
    for name in must:
        if name not in values:
            raise shapes.ShapeError(f"{where} lacks {name!r}")
    # unknown fields are refused: what another version meant by them may change what the others mean
    for name in values:
        if name not in types:
            raise shapes.ShapeError(f"{where} has {str(name)[:60]!r}, which nothing reads")
    if "created" in values:
        shapes.moment(values["created"], f"{where}.created")
    return kind(**{name: _read(types[name], value, f"{where}.{name}") for name, value in values.items()})


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Types by field, and the fields that must be there."""
    hints = get_type_hints(kind)
    known = fields(kind)
    must = tuple(one.name for one in known if one.default is MISSING and one.default_factory is MISSING)
    return {one.name: hints[one.name] for one in known}, must


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    refused: shapes.ShapeError | None = None
    for kind in kinds:
        try:
            return _read(kind, value, where)
        except shapes.ShapeError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _is_null(value: Any, where: str) -> None:
    if value is not None:
        raise shapes.refuse(where, value, "null")
