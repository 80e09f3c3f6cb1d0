"""How a series is declared: what its number is called, what it means, and which runs have it.

A series is declared once, by name or by a pattern where a part of the name is a term, a layer or a module; everything
that names or draws one reads its words here. No room but `base` is imported, so every room may use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from qcore.base.words import name_words

__all__ = [
    "CAPABILITIES",
    "Declared",
    "Range",
    "declaration_row",
    "declare",
    "declared_as_named",
    "declared_patterns",
    "declared_series",
    "distinct_words",
    "find",
    "group_words",
    "groups",
    "in_group",
    "is_from_outside",
    "member",
    "meta_key",
    "series_words",
    "stored_series",
]

CAPABILITIES = {
    "terms": "named parts of the loss, and their gradients",
    "weights": "parameters, and their values before the last update",
    "hidden": "a hidden state of each position",
    "text": "tokens, logits, and a model that can be asked for the logits of other tokens",
    "phases": "angles of a complex wave, one set a layer",
    "frames": "clips, their latents, and a velocity that moves them",
}
"""What a run may have, by the name under which a probe or a series asks for it."""

Range = tuple[float | None, float | None]
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*(?:/[A-Za-z0-9_.]+)+")


@dataclass(frozen=True)
class Declared:
    """A series in words.

    Attributes:
        title: small letters.
        unit: empty when it has none.
        meaning: one sentence for a person who asks what the number says.
        short: the title where there is little room.
        form: Python's format of a value, "" for the general one.
        healthy: of a series from outside, lowest and highest value of a healthy run, None where there is no limit; the
            lab's own have theirs in the detectors' table, and `qcore.detect.healthy_range` reads both.
        needs: the capability that a run must have, "" for every run.
    """

    name: str
    title: str
    unit: str = ""
    meaning: str = ""
    short: str = ""
    form: str = ""
    healthy: Range | None = None
    needs: str = ""

    @property
    def text(self) -> str:
        """Title and unit: `cross-entropy, held out, nats per token`."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def heading(self) -> str:
        """The title with a capital letter, for a chart that names its unit beside it."""
        return self.title[:1].upper() + self.title[1:]

    @property
    def label(self) -> str:
        """What a small place says: the short title, or the heading."""
        return self.short or self.heading

    @property
    def titles(self) -> dict[str, Any]:
        """Title and axis of a chart that shows this series alone, as keywords of `viz.curves`."""
        return {"title": self.heading, "y_title": self.unit}


@dataclass(frozen=True)
class _Pattern:
    expression: re.Pattern[str]
    describe: Callable[..., Declared]
    examples: tuple[str, ...]


_series: dict[str, Declared] = {}
_patterns: list[_Pattern] = []
_outside: dict[str, Declared] = {}
_groups: dict[str, str] = {}


def group(name: str, title: str) -> str:
    """Declare the first part of series' names; returns it."""
    _groups[name] = title
    return name


def series(
    name: str, title: str, unit: str = "", meaning: str = "", *, short: str = "", form: str = "", needs: str = ""
) -> str:
    """Declare a series of the lab's own; returns its name."""
    assert name not in _series, f"{name} is declared twice"
    assert name.partition("/")[0] in _groups, f"{name} has no declared group"
    _series[name] = Declared(name, title, unit, meaning, short, form, None, needs)
    return name


def pattern(expression: str, describe: Callable[..., Declared], *examples: str) -> None:
    """Declare all series whose name matches: `describe` takes the name's parts and says their words.

    Args:
        examples: names that stand for all in a list.
    """
    _patterns.append(_Pattern(re.compile(expression), describe, examples))


def declare(
    name: str,
    title: str,
    unit: str = "",
    *,
    meaning: str,
    form: str = "",
    healthy: Range | None = None,
    needs: str = "",
) -> str:
    """Declare a series of one's own, that a probe from outside measures; returns its name.

    The run keeps the declaration, so every page and every program that opens it knows the series. Declaring the same
    again is allowed, as a notebook does.

    >>> declare("mine/largest", "largest logit", "logit", meaning="The largest logit of the batch.")
    'mine/largest'

    Raises:
        ValueError: for a name that is not `group/name`, a group of the lab's own, an unknown capability, a missing
            title or meaning, a healthy range upside down, or a name that is declared otherwise already.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"the series name {name!r} is refused: write group/name, such as logits/largest")
    # a later version of the lab may declare any name in its own groups
    first = name.partition("/")[0]
    if first in _groups:
        raise ValueError(f"the series {name!r} is refused: {first}/ belongs to the lab; choose a group of your own")
    if not title or not meaning:
        raise ValueError(f"the series {name!r} has no {'title' if not title else 'meaning'}: say it in a few words")
    if needs and needs not in CAPABILITIES:
        raise ValueError(f"the series {name!r} needs {needs!r}; a run may have: {', '.join(CAPABILITIES)}")
    low, high = healthy or (None, None)
    if low is not None and high is not None and low > high:
        raise ValueError(f"the healthy range of {name!r} is {low} to {high}: give the lower limit first")
    if not _is_format(form):
        raise ValueError(f"the format {form!r} of {name!r} is refused: write Python's of a number, such as .2f or .0%")
    made = Declared(name, title, unit, meaning, "", form, healthy, needs)
    # the same again is a cell of a notebook that is run twice; another meaning would split one chart in two
    if _outside.setdefault(name, made) != made:
        raise ValueError(f"the series {name!r} is declared already, as {_outside[name].text!r}: choose another name")
    return name


def find(name: str) -> Declared | None:
    """The declaration of a series; None for one that nobody has declared."""
    if found := _series.get(name) or _outside.get(name):
        return found
    for one in _patterns:
        if parts := one.expression.fullmatch(name):
            return replace(one.describe(*parts.groups()), name=name)
    return None


def is_from_outside(name: str) -> bool:
    """Whether the series was declared by `declare`."""
    return name in _outside


def series_words(name: str) -> Declared:
    """Title, unit and meaning of a stored series. One that nobody has declared, of a run that another version wrote,
    is put into words by its own parts: no page shows a raw name.

    Example:
        >>> series_words("train/loss").heading
        'Total loss'
    """
    if found := find(name):
        return found
    first, _, rest = name.partition("/")
    title = f"{name_words(rest.replace('/', ' '))} ({group_words(first)})" if rest else name_words(name)
    return Declared(name, title)


def declared_as_named(name: str) -> Declared:
    """Title, unit and meaning of a series of a run that another program wrote; one that nobody has declared is called
    what it is called.
    """
    return find(name) or Declared(name, name)


def in_group(name: str, group: str) -> bool:
    """Whether a series belongs to a group: `cost/eval_ms` to `cost`."""
    return name.partition("/")[0] == group


def member(group: str, name: str) -> str:
    """The name of a series in its group, for measurements that are named as they are computed: `concept/usage`."""
    return f"{group}/{name}"


def group_words(name: str) -> str:
    """What the first part of a series' name stands for: `tokens/…` are `tokens`."""
    return _groups.get(name, name_words(name))


def groups() -> Mapping[str, str]:
    """The lab's own groups with their titles."""
    return dict(_groups)


def declared_series() -> list[Declared]:
    """Every series of the lab's own that has a fixed name, in the order of declaration."""
    return list(_series.values())


def declared_patterns() -> list[Declared]:
    """A series or more for each pattern of names, such as `term/<term>`, for lists that people read."""
    return [series_words(name) for one in _patterns for name in one.examples]


def distinct_words(names: Iterable[str]) -> dict[str, str]:
    """Names in words that differ from one another, for a list to choose from."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        words = series_words(name).text
        while words in taken:
            words = f"{words} ({name_words(name.replace('/', ' '))})"
        taken.add(words)
        found[name] = words
    return found


def _is_format(form: str) -> bool:
    try:
        format(0.0, form)
    except ValueError:
        return False
    return True


_META = "series:"
_TEXTS = ("name", "title", "unit", "meaning", "form", "needs")


def meta_key(name: str) -> str:
    """Under which key a run keeps the declaration of a series from outside."""
    return f"{_META}{name}"


def declaration_row(name: str) -> dict[str, Any]:
    """A declaration from outside as plain values, which a run keeps."""
    return asdict(_outside[name])


def stored_series(meta: Mapping[str, Any]) -> list[Declared]:
    """Series from outside that a run keeps, by name; of what another version wrote, the known fields."""
    found = (_from_row(value) for key, value in sorted(meta.items()) if key.startswith(_META))
    return [declared for declared in found if declared.name]


def _from_row(row: Any) -> Declared:
    fields = row if isinstance(row, Mapping) else {}
    name, title, unit, meaning, form, needs = (str(fields.get(key) or "") for key in _TEXTS)
    made = Declared(name, title, unit, meaning, "", form if _is_format(form) else "", None, needs)
    healthy = fields.get("healthy")
    if not isinstance(healthy, list | tuple) or len(healthy) != 2:
        return made
    low, high = (float(limit) if isinstance(limit, int | float) else None for limit in healthy)
    return replace(made, healthy=(low, high))
