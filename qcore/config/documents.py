"""Configuration files as text: YAML read within bounds, YAML written, files and uploads decoded.

A document is bounded before anything is made of it: its bytes, its depth, and its nodes, where an alias counts as
all that it stands for. There are no merge keys (`<<`), whose expansion grows with the power of their depth, and no
tags but the plain ones. Whatever is wrong with it is a `ConfigError` that names the line and the remedy.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from qcore.config.errors import ConfigError, shorten

Defaults = Mapping[str, Mapping[str, Any]]
"""Section → key → value."""
LARGEST = 256 * 1024
"""Bytes of a configuration file, and of a document: fifty times the longest configuration we write."""
MOST_NODES, DEEPEST, LONGEST_NUMBER = 20_000, 20, 100
_KEPT, _LONGEST_KEPT = 32, 8 * 1024
_MERGE = "tag:yaml.org,2002:merge"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_BROKEN = (  # what PyYAML raises for a text that is no YAML, its declared errors and the others
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class _Loader(yaml.SafeLoader):
    """Counts what it composes, and knows only the plain types of YAML."""

    def __init__(self, text: str) -> None:
        self._depth = self._nodes = 0
        self._sizes: dict[str, int] = {}
        super().__init__(text)

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()
        before, anchor = self._nodes, getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if anchor in self.anchors and anchor not in self._sizes:
                raise self._refuse(
                    event, f"*{shorten(str(anchor), 40)} refers to a value that contains it: write it out"
                )
            self._nodes += self._sizes.get(str(anchor), 0)
        else:
            self._nodes += 1
            self._depth += 1
        if self._depth > DEEPEST:
            raise self._refuse(event, f"it is nested more than {DEEPEST} deep, and a configuration needs three levels")
        if self._nodes > MOST_NODES:
            raise self._refuse(event, f"it stands for more than {MOST_NODES} values: leave out what repeats itself")
        node = super().compose_node(parent, index)
        if node is not None and node.tag == _MERGE:
            raise self._refuse(event, "merge keys (<<) are not read: write the values out")
        if not isinstance(event, yaml.AliasEvent):
            self._depth -= 1
            if anchor is not None:
                self._sizes[str(anchor)] = self._nodes - before
        return node

    def flatten_mapping(self, node: MappingNode) -> None:
        """Nothing is merged: `compose_node` has refused it."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            seen: set[Any] = set()
            for key, _ in node.value:
                name = self.construct_object(key, deep=True)
                if name in seen:
                    raise self._refuse(key, f"{shorten(str(name), 80)!r} is given twice: leave one out")
                seen.add(name)
        return found

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        if isinstance(node, ScalarNode) and node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
            raise self._refuse(node, f"a number of {len(node.value)} letters is refused: {LONGEST_NUMBER} are allowed")
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except _BROKEN:
            value = shorten(str(node.value), 40) if isinstance(node, ScalarNode) else "this"
            raise self._refuse(node, f"{value!r} is no {node.tag.rpartition(':')[2]}: write a plain value") from None

    def _refuse(self, place: Any, problem: str) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _PLAIN
}
_Loader.yaml_implicit_resolvers = {  # a date is text to us
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, name: str = "") -> Any:
    """What a YAML document says.

    Args:
        name: of its file, for the refusal.

    Raises:
        ConfigError: with the line.
    """
    where = f"{name}: " if name else ""
    if (size := len(text.encode("utf-8", "replace"))) > LARGEST:
        raise ConfigError(f"{where}this YAML has {size} bytes: at most {LARGEST} are read, write less")
    # The file of a run is read three times when it starts, and a page reads it again: parsing takes milliseconds.
    try:
        return copy.deepcopy(_kept_data(text)) if size <= _LONGEST_KEPT else _data(text)
    except ConfigError as error:
        raise ConfigError(f"{where}this is not YAML that can be read, and is refused: {error}") from None


def _data(text: str) -> Any:
    """What a document says. Raises `ConfigError` with the line and the mistake alone."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except _BROKEN as error:
        line, problem = _place(error, loader, text)
        raise ConfigError(f"line {line}: {problem}") from None
    finally:
        if loader is not None:
            loader.dispose()


_kept_data = functools.lru_cache(_KEPT)(_data)


def _place(error: Exception, loader: _Loader | None, text: str) -> tuple[int, str]:
    """Line of a mistake, counted from 1, and what it is."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        words = " ".join(filter(None, (error.context, error.problem)))
        return (mark.line + 1 if mark else 1), shorten(words, 300)
    if isinstance(error, yaml.reader.ReaderError):
        what = f"the character U+{ord(error.character):04X}" if isinstance(error.character, str) else "a byte"
        if isinstance(error.character, int):
            what = f"the character U+{error.character:04X}"
        return text.count("\n", 0, error.position) + 1, f"{what} cannot stand there: take it out, or write it escaped"
    line = loader.line + 1 if loader is not None else 1
    return line, f"a value cannot be read ({type(error).__name__}): write it as a plain value"


def decode_text(raw: bytes, name: str) -> str:
    """The text of a configuration file.

    Raises:
        ConfigError: naming it when it is too large or not UTF-8.
    """
    if len(raw) > LARGEST:
        raise ConfigError(f"{name} has more than {LARGEST} bytes: a configuration is far smaller, write less")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{name} is not UTF-8: byte 0x{raw[error.start]:02X} in line {line}; save it as UTF-8"
        ) from None


def read_text_file(path: Path, name: str = "") -> str:
    """The text of a configuration file that a person named, called `name` in refusals (default: its path).

    Raises:
        ConfigError: when it is missing, a folder, too large, not UTF-8 or cannot be read.
    """
    name = name or shorten(str(path), 300)
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 1)
    except IsADirectoryError:
        raise ConfigError(f"{name} is a folder: name the YAML file in it") from None
    except FileNotFoundError:
        raise ConfigError(f"there is no file {name}: check the path, relative to {os.curdir!r}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{name} cannot be read ({reason}): name a YAML file that you can read") from None
    return decode_text(raw, name)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that holds U+0085, which PyYAML would otherwise write raw and read back as a line break."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)


_Dumper.add_representer(str, _text_node)


def yaml_text(values: dict[str, Any]) -> str:
    """A mapping as YAML; `parse_yaml` gives an equal one."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def with_defaults(values: Any, before: Defaults | None) -> Any:
    """What a document holds, an empty one being no sections, with the values of `before` where it has none."""
    values = {} if values is None else values
    if isinstance(values, dict):
        for section, keys in (before or {}).items():
            part = values.get(section, {})
            values = {**values, section: {**keys, **part} if isinstance(part, dict) else part}
    return values
