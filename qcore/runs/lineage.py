"""Where runs come from: the tree of forks and abandoned branches, and a child's curves with its parents' before them.

Read from each run's own folder, so a run that was copied elsewhere still says what it was forked from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from qcore.base.run_states import RunState
from qcore.runs.errors import LabError
from qcore.runs.info import RunInfo
from qcore.store import RunReader, Series

LINEAGE = "lineage"
"""Meta value of a run that comes from another."""


class RunsToRead(Protocol):
    """What a tree of runs is read from."""

    def runs(self) -> list[RunInfo]:
        """Every run of a folder, newest first."""

    def reader(self, name: str) -> RunReader:
        """The database of one run; `LabError` when there is no such run."""

    def lineage_of(self, name: str) -> Lineage | None:
        """Where a run comes from, for a look at many runs."""


@dataclass(frozen=True)
class Lineage:
    """Where a run comes from.

    Attributes:
        parent, step: it goes on from that run after that many updates.
        parent_created: epoch seconds, so that another run that takes the parent's name is not taken for it.
        forked: a fork; False for a branch that a rewind left behind.
        changes: live controls changed at `step`.
        config_changes: other values.
        model_changes: sizes that grew.
    """

    parent: str
    step: int
    parent_created: float
    forked: bool
    author: str
    reason: str = ""
    created: float = 0.0
    changes: dict[str, Any] = field(default_factory=dict)
    config_changes: dict[str, Any] = field(default_factory=dict)
    model_changes: dict[str, Any] = field(default_factory=dict)

    @property
    def all_changes(self) -> dict[str, Any]:
        """Everything that was changed, as it stands on an edge of the tree."""
        return {**self.model_changes, **self.config_changes, **self.changes}


@dataclass(frozen=True)
class RunNode:
    """A run in the tree, parents before their children.

    Attributes:
        depth: 0 for a run that comes from no other, or whose parent is gone.
        branch: left behind by a rewind.
        state, at_step: of the run now.
    """

    name: str
    parent: str
    step: int
    changes: dict[str, Any]
    depth: int
    branch: bool
    author: str
    reason: str
    state: str
    at_step: int


def read_lineage(reader: RunReader) -> Lineage | None:
    """What a run says of where it comes from; None when it comes from no other."""
    values = reader.meta().get(LINEAGE)
    known = {entry.name for entry in fields(Lineage)}
    return None if values is None else Lineage(**{key: value for key, value in values.items() if key in known})


def lineage_values(lineage: Lineage) -> dict[str, Any]:
    """As it is kept."""
    return asdict(lineage)


def parent_of(runs: RunsToRead, name: str) -> Lineage | None:
    """The lineage of a run whose parent is still there; None otherwise."""
    found = read_lineage(runs.reader(name))
    if found is None:
        return None
    try:
        created = runs.reader(found.parent).meta().get("created")
    except (LabError, OSError):
        return None
    return found if created == found.parent_created else None


def run_tree(runs: RunsToRead) -> list[RunNode]:
    """See `Lab.run_tree`."""
    infos = {info.name: info for info in reversed(runs.runs()) if info.state != RunState.UNREADABLE}
    lineages: dict[str, Lineage | None] = {}
    for name in list(infos):
        try:
            lineages[name] = runs.lineage_of(name)
        except (LabError, OSError):  # damaged, deleted or locked since the list was made
            del infos[name]
    parents: dict[str, str] = {}
    for name, own in lineages.items():
        there = infos.get(own.parent) if own else None
        # A run's own word for it: one that leads back to the run itself is not believed.
        if own and there and there.created == own.parent_created and not _leads_back(parents, own.parent, name):
            parents[name] = own.parent
    children: dict[str, list[str]] = {}
    for name in infos:
        children.setdefault(parents.get(name, ""), []).append(name)
    nodes: list[RunNode] = []
    waiting = [(name, 0) for name in reversed(children.get("", []))]
    while waiting:
        name, depth = waiting.pop()
        found, info = lineages[name], infos[name]
        nodes.append(
            RunNode(
                name=name,
                parent=found.parent if found else "",
                step=found.step if found else 0,
                changes=found.all_changes if found else {},
                depth=depth,
                branch=found is not None and not found.forked,
                author=found.author if found else "",
                reason=found.reason if found else "",
                state=info.state,
                at_step=info.step,
            )
        )
        waiting += [(child, depth + 1) for child in reversed(children.get(name, []))]
    return nodes


def _leads_back(parents: dict[str, str], start: str, name: str) -> bool:
    """Whether `name` is `start` or one that it comes from."""
    while start != name and start in parents:
        start = parents[start]
    return start == name


def history(runs: RunsToRead, name: str, names: Sequence[str], max_points: int | None = None) -> dict[str, Series]:
    """See `Lab.history`."""
    own = runs.reader(name).scalars_of(names)
    found = parent_of(runs, name)
    stop = found.step + 1 if found and found.forked else None
    child, seen = name, {name}
    while found is not None and found.forked and found.parent not in seen:
        child = found.parent
        seen.add(child)
        try:
            before = runs.reader(child).scalars_of(names, stop=stop)
            found = parent_of(runs, child)
        except (LabError, OSError):  # damaged or locked: its own page says so, and this run's curves are its own
            break
        own = {key: before[key].merged(own[key]) for key in names}
        stop = min(stop or found.step + 1, found.step + 1) if found else None
    if max_points is None:
        return own
    return {key: series.downsampled(max_points) for key, series in own.items()}
