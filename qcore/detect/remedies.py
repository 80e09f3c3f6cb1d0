"""Which remedies are offered: only those that would change something, and none that was tried and did not help.

The first is judged where a finding is told, with the values of that moment; the second where it is read, so that what
was measured since counts for findings of old, too. `MEASURED` is what `qcore exam --remedies` has found: the fault was
planted, the finding waited for, and the run forked at that step with the remedy and without it; `helped` counts the
forks that ended without showing the finding, or with a clearly lower held-out loss, where the run itself did neither.
What was not measured is offered as "not tried" and is never acted on by the autopilot. Holding or ending a run cures
nothing and is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Tried(NamedTuple):
    """In how many of `runs` planted runs a remedy helped."""

    helped: int
    runs: int

    @property
    def helps(self) -> bool:
        """Whether it helped in more than half of them."""
        return 2 * self.helped > self.runs

    @property
    def words(self) -> str:
        """`helped in 2 of 3 planted runs`."""
        return f"helped in {self.helped} of {self.runs} planted run{'' if self.runs == 1 else 's'}"


MEASURED: Mapping[tuple[str, str], Tried] = {
    ("aligned_phases", "set weight"): Tried(0, 2),
    ("averaging_collapse", "set anchor_decay"): Tried(0, 2),
    ("averaging_collapse", "set frame_amplification"): Tried(0, 2),
    ("averaging_collapse", "set noise_correlation off"): Tried(2, 2),
    ("averaging_collapse", "set repulsion"): Tried(0, 2),
    ("averaging_collapse", "set t_star"): Tried(0, 2),
    ("averaging_collapse", "set weight"): Tried(0, 2),
    ("constant_term", "set weight off"): Tried(2, 2),
    ("divergence", "restore learning_rate"): Tried(2, 2),
    ("flicker", "set flow_path plain"): Tried(0, 2),
    ("flicker", "set frame_amplification"): Tried(0, 2),
    ("flicker", "set orthogonality_target data"): Tried(1, 2),
    ("frames_unordered", "set frame_amplification"): Tried(2, 2),
    ("harmful_term", "set weight"): Tried(2, 2),
    ("harmful_term", "set weight off"): Tried(2, 2),
    ("noise_mismatch", "set noise_correlation"): Tried(2, 2),
    ("noise_mismatch", "set sample_noise_correlation"): Tried(2, 2),
    ("padding_targets", "set mask_padding on"): Tried(2, 2),
    ("raised_rate", "restore learning_rate"): Tried(2, 2),
    ("raised_rate", "set learning_rate"): Tried(2, 2),
    ("real_phases", "set weight off"): Tried(2, 2),
    ("saturated_term", "set weight off"): Tried(2, 2),
    ("unscaled_term", "set weight"): Tried(1, 2),
    ("unscaled_term", "set weight off"): Tried(2, 2),
    ("unshifted_labels", "set label_shift"): Tried(2, 2),
    ("wrong_sign", "set weight off"): Tried(2, 2),
    ("wrong_velocity", "set flow_path plain"): Tried(2, 2),
}
"""(rule, `remedy_key`) → what came of it, in one run of `qcore exam --remedies --seeds 2`."""


def remedy_key(remedy: Mapping[str, Any]) -> str:
    """What a remedy does, without the numbers of one run: `set learning_rate`, `set weight off`, `new_run fault off`.

    Weights of terms are one remedy, as a rule of single terms gives the same advice for each; what is switched off, or
    set to a word, is told from what is turned down.

    >>> remedy_key({"kind": "set", "changes": {"dominance_weight": 0.0}})
    'set weight off'
    >>> remedy_key({"kind": "restore", "changes": {"learning_rate": 0.003}})
    'restore learning_rate'
    """
    changes = remedy.get("changes") or {}
    parts = dict.fromkeys(f"{_control(name)}{_value(value)}" for name, value in sorted(changes.items()))
    return " ".join((str(remedy["kind"]), *parts))


def tried(rule: str, remedy: Mapping[str, Any]) -> Tried | None:
    """What was measured of a remedy against what a rule finds; None for one that was not tried."""
    return MEASURED.get((rule, remedy_key(remedy)))


def helps(rule: str, remedy: Mapping[str, Any]) -> bool:
    """Whether a remedy was seen to help; one that was not tried was not."""
    measured = tried(rule, remedy)
    return measured is not None and measured.helps


def that_change(
    remedies: Iterable[Mapping[str, Any]], controls: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The remedies that would change something now.

    Args:
        controls: values of the live controls now.
        settings: of what only a new run can change.
    """
    found = []
    for remedy in remedies:
        known = {**settings, **controls} if remedy["kind"] == "new_run" else controls
        if remedy["kind"] not in ("set", "new_run") or _differs(remedy.get("changes") or {}, known):
            found.append(dict(remedy))
    return found


def offered(rule: str, remedies: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The remedies that were not found to be of no use, each with what was measured of it (`tried`: helped, runs)."""
    found = []
    for remedy in remedies:
        measured = tried(rule, remedy)
        if measured is None or measured.helps:
            found.append({**remedy, "tried": None if measured is None else measured._asdict()})
    return found


def tried_words(remedy: Mapping[str, Any]) -> str:
    """What was measured of an offered remedy; empty for one that cures nothing by itself, such as a pause, and for the
    same run without its planted fault.

    >>> tried_words({"kind": "set", "changes": {}, "tried": {"helped": 2, "runs": 3}})
    'helped in 2 of 3 planted runs'
    """
    if remedy.get("kind") in ("pause", "stop") or "fault" in (remedy.get("changes") or {}):
        return ""
    said = remedy.get("tried")
    return Tried(int(said["helped"]), int(said["runs"])).words if said else "not tried"


def measured_remedies(rule: str) -> Sequence[tuple[str, Tried]]:
    """Every remedy that was tried against what a rule finds."""
    return [(key, result) for (name, key), result in MEASURED.items() if name == rule]


def _differs(changes: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    return not changes or any(name not in known or known[name] != value for name, value in changes.items())


def _control(name: str) -> str:
    return "weight" if name.endswith("_weight") or name == "label_smoothing" else name


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return " on" if value else " off"
    if isinstance(value, str):
        return f" {value}" if value else " off"
    return " off" if value == 0 else ""
