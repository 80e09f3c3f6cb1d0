"""One question about a run (effect of a change, sweep of a control), answered in a process of its own.

A lab answers one at a time: forks train in two processes, which is what two cores can do. The question, how far it is
and what went wrong lie in a folder beside the answers; asked again, it goes on with the forks that are still missing.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from qcore.base import read_json
from qcore.experiments import background_job
from qcore.experiments.effect import EFFECTS, effect, sweep
from qcore.experiments.stored_records import parse_record
from qcore.lab.lab import Lab
from qcore.runs.errors import LabError

MODULE = "qcore.experiments.effect_job"
_FOLDER, _QUESTION, _PROGRESS, _ERROR = ".asked", "question.json", "progress.json", "error.txt"
_ANSWERED = "answered"


@dataclass(frozen=True)
class EffectRequest:
    """What is asked.

    Attributes:
        kind: effect (of `changes`) or sweep (of `control` over `values`).
        forks: pairs, or forks for each value.
        last: the metric is its mean over that many last steps.
    """

    kind: Literal["effect", "sweep"]
    run: str
    step: int
    changes: dict[str, Any] = field(default_factory=dict)
    control: str = ""
    values: list[Any] = field(default_factory=list)
    metric: str | None = None
    forks: int = 5
    steps: int = 100
    last: int = 1


@dataclass(frozen=True)
class EffectStatus:
    """The newest question of a lab.

    Attributes:
        done, total: forks.
        error: why it ended without an answer, or empty.
    """

    request: EffectRequest
    working: bool
    done: int
    total: int
    error: str


def submit(lab: Lab, request: EffectRequest) -> None:
    """Begin to answer in the background. `LabError` while another question is being answered."""
    lab.require_operator()
    folder = _job_folder(lab.runs_dir)
    if background_job.is_working(folder):
        raise LabError("another request is running: wait for it, or end it")
    for name in (_PROGRESS, _ERROR, _ANSWERED):
        (folder / name).unlink(missing_ok=True)
    (folder / _QUESTION).write_text(json.dumps(asdict(request)), encoding="utf-8")
    background_job.start(folder, MODULE, str(lab.runs_dir))


def status(lab: Lab) -> EffectStatus | None:
    """How the newest question stands; None when nothing was asked."""
    folder = _job_folder(lab.runs_dir)
    if not (folder / _QUESTION).exists():
        return None
    question = _read_request(folder)
    done, total = 0, question.forks * (2 if question.kind == "effect" else len(question.values))
    if (folder / _PROGRESS).exists():
        done, total = _read_progress(folder, done, total)
    working = background_job.is_working(folder)
    error = (folder / _ERROR).read_text(encoding="utf-8", errors="replace") if (folder / _ERROR).exists() else ""
    if not working and not error and done < total:
        error = background_job.last_words(folder) or "it was ended"
    return EffectStatus(question, working, done, total, "" if working else error)


def cancel(lab: Lab) -> None:
    """End the answering; forks that have ended are kept.

    Raises:
        LabError: when nothing is being answered.
    """
    lab.require_operator()
    folder = _job_folder(lab.runs_dir)
    background_job.cancel(folder)
    if (folder / _ANSWERED).exists() or (folder / _ERROR).exists():
        return  # it had just come to its own end
    (folder / _ERROR).write_text("it was ended by a user; finished forks are kept", encoding="utf-8")


def _job_folder(runs_dir: Path) -> Path:
    folder = runs_dir / EFFECTS / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read_request(folder: Path) -> EffectRequest:
    """What was asked.

    Raises:
        LabError: for a file that says something else.
    """
    try:
        return parse_record(EffectRequest, read_json(folder / _QUESTION), _QUESTION)
    except (OSError, ValueError) as error:
        raise LabError(f"the last request is damaged ({error}): submit it again, which replaces it") from None


def _read_progress(folder: Path, done: int, total: int) -> tuple[int, int]:
    """How many forks have ended, of how many, as the process says; as given where it says nothing that can be read."""
    try:
        found = read_json(folder / _PROGRESS)
    except (LabError, OSError):
        return done, total
    match found:
        case [int(ended), int(every)] if 0 <= ended <= every:
            return ended, every
    return done, total


def _run_request(runs_dir: Path) -> None:
    folder = _job_folder(runs_dir)
    question = _read_request(folder)

    def tell(done: int, total: int) -> None:
        aside = folder / f"{_PROGRESS}.new"
        aside.write_text(json.dumps([done, total]), encoding="utf-8")
        aside.replace(folder / _PROGRESS)

    options: dict[str, Any] = {
        "metric": question.metric,
        "steps": question.steps,
        "last": question.last,
        "on_progress": tell,
    }
    with background_job.hold_folder(folder), Lab(runs_dir) as lab:
        try:
            if question.kind == "effect":
                effect(lab, question.run, question.step, question.changes, forks=question.forks, **options)
            else:
                values = question.values
                sweep(lab, question.run, question.step, question.control, values, seeds=question.forks, **options)
            (folder / _ANSWERED).touch()
        except ValueError as error:
            (folder / _ERROR).write_text(str(error), encoding="utf-8")
        except Exception:  # noqa: BLE001 - the process's outer edge: the page shows what went wrong
            (folder / _ERROR).write_text(traceback.format_exc(), encoding="utf-8")


if __name__ == "__main__":
    _run_request(Path(sys.argv[1]))
