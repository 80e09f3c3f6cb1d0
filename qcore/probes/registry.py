"""Probes from outside: added by a program that trains, or brought by an installed package.

A script or a notebook calls `register`; a package names its probes as entry points of the group `qcore.probes`, and
then every run that this installation trains has them, started from the app, the command line or a server:

    [project.entry-points."qcore.probes"]
    norms = "my_package.probes:NORMS"        # a Probe, or a list of them

A run takes the probes whose needs it can meet, behind the built-in ones and within the same budget.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from qcore.probes.protocol import Probe

GROUP = "qcore.probes"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OTHER_COSTS = ("eval", "before_training", "after_training", "probes")
_registered: dict[str, Probe] = {}


def register(probe: Probe) -> Probe:
    """Add a probe to every run that starts from now on; returns it. A probe of the same name is replaced, as a notebook
    does that runs a cell again.

    Raises:
        ValueError: for a name that is no plain word, or that a built-in probe has.

    Example:
        >>> from qcore.probes import Probe
        >>> register(Probe("mine", frozenset(), 10, lambda seen: {"mine/spread": float(seen.outputs.std())})).every
        10
        >>> unregister("mine")
    """
    if not _NAME.fullmatch(probe.name):
        raise ValueError(f"the probe name {probe.name!r} is refused: use small letters, digits and _, as in my_probe")
    from qcore.probes import text, video  # torch: not before a probe is really added

    if probe.name in {built_in.name for built_in in (*text.PROBES, *video.PROBES)}.union(_OTHER_COSTS):
        raise ValueError(f"the probe name {probe.name!r} is taken by a built-in one: choose another")
    _registered[probe.name] = probe
    return probe


def unregister(name: str) -> None:
    """Take a probe out again; runs in training keep it.

    Raises:
        ValueError: for a name that is not registered.
    """
    if name not in _registered:
        raise ValueError(f"no probe is registered as {name!r}: {', '.join(_registered) or 'there is none'}")
    del _registered[name]


def registered() -> tuple[Probe, ...]:
    """Probes that were registered, in that order."""
    return tuple(_registered.values())


@cache
def _installed_entry_points() -> tuple[EntryPoint, ...]:
    """Found once a process: reading the metadata of every package takes tens of milliseconds."""
    return tuple(entry_points(group=GROUP))


def register_installed(found: Iterable[EntryPoint] | None = None) -> list[str]:
    """Register what installed packages bring; says of each that could not be why.

    Args:
        found: instead of those installed.
    """
    problems = []
    for entry in _installed_entry_points() if found is None else found:
        try:
            brought = entry.load()
            for probe in [brought] if isinstance(brought, Probe) else brought:
                if probe.name not in _registered:  # what the program itself has added comes first
                    register(probe)
        except Exception:  # noqa: BLE001 - another's code: a run must start without it; its log keeps all of it
            problems.append(f"the probes {entry.name} = {entry.value} are left out:\n{traceback.format_exc()}")
    return problems
