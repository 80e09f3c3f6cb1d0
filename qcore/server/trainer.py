"""The process in which runs train that were started over the protocol.

Fifty clients keep an interpreter busy; a training loop that shared it would wait for them at every operation. So the
server answers, and a child process with a `Lab` of its own trains: it is started when the first run is, takes requests
as JSON lines on its standard input, and ends, with a checkpoint of every run, when that closes, however the server
ended. Pausing, changing controls and all other commands go through the run's database, as from any process.
    python -m qcore.server.trainer RUNS TRAINING
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from qcore.config import ConfigError, RunConfig
from qcore.lab import Lab, LabError, StoreBusyError
from qcore.runs.errors import FORESEEN, lab_errors, sentence

CLOSE_SECONDS = 60.0
_ERRORS: dict[str, type[ValueError]] = {
    "ConfigError": ConfigError,
    "StoreBusyError": StoreBusyError,
    "LabError": LabError,
}
logger = logging.getLogger(__name__)


class TrainerProcess:
    """Starts runs in a child process. Its methods may be called from any thread, one at a time is served."""

    def __init__(self, runs_dir: Path, training: int = 1) -> None:
        self._command = [sys.executable, "-m", "qcore.server.trainer", str(runs_dir), str(training)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._closed = False

    def start(self, config: RunConfig, **settings: Any) -> str:
        """As `Lab.start`: settings are name, preset and author."""
        return str(self._call("start", {"config": config.to_yaml(), **settings}))

    def resume(self, name: str, **settings: Any) -> None:
        """As `Lab.resume`: settings are steps, changes and author."""
        self._call("resume", {"name": name, **settings})

    def fork(self, name: str, **settings: Any) -> str:
        """As `Lab.fork`: settings are all that it takes by name."""
        return str(self._call("fork", {"name": name, **settings}))

    def rewind(self, name: str, **settings: Any) -> str:
        """As `Lab.rewind`: settings are step, start and author."""
        return str(self._call("rewind", {"name": name, **settings}))

    def close(self) -> None:
        """End the process: every run of it stops with a checkpoint. A second call does nothing."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
            if process is None:
                return
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _close_pipes(process)

    def _call(self, op: str, arguments: Mapping[str, Any]) -> Any:
        with self._lock:
            if self._closed:
                raise LabError("the server is stopping: start it again with qcore serve")
            if self._process is None or self._process.poll() is not None:
                if self._process is not None:
                    _close_pipes(self._process)
                with lab_errors("the process that trains cannot be started"):
                    self._process = subprocess.Popen(
                        self._command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                        encoding="utf-8",
                        start_new_session=True,  # Ctrl-C is for the server, which then closes it in order
                    )
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            raise LabError("the process that trains ended: its runs are interrupted; resume them")
        reply = json.loads(line)
        if "error" in reply:
            raise _ERRORS[reply["error"]](reply["message"])
        return reply["result"]


def _close_pipes(process: subprocess.Popen[str]) -> None:
    """Close both ends here of a process that has ended: a server that starts it anew would collect open files."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was written and not read any more
                pipe.close()


def _obey(lab: Lab, request: dict[str, Any]) -> Any:
    op = request.pop("op")
    if op == "start":
        return lab.start(RunConfig.from_yaml(request.pop("config")), **request)
    if op == "resume":
        return lab.resume(request.pop("name"), **request)
    if op == "rewind":
        return lab.rewind(request.pop("name"), **request)
    assert op == "fork"
    return lab.fork(request.pop("name"), **request)


def _answer(lab: Lab, line: str) -> dict[str, Any]:
    """What becomes of one request. Whatever it meets, the other runs of this process train on."""
    try:
        return {"result": _obey(lab, json.loads(line))}
    except (ValueError, *FORESEEN) as error:  # refused, locked, damaged, a full disk
        kind = next((name for name, known in _ERRORS.items() if isinstance(error, known)), LabError.__name__)
        return {"error": kind, "message": sentence(error)}
    except Exception as error:  # the request's outer edge: in the log, and told as what it is
        logger.exception("a request failed")
        message = f"this is a bug in Collapse Lab ({type(error).__name__}; the server's log says more): report it"
        return {"error": LabError.__name__, "message": message}


def _serve(lab: Lab, requests: TextIO, replies: TextIO) -> None:
    """Answer a JSON line with a JSON line until the requests end."""
    for line in requests:
        replies.write(json.dumps(_answer(lab, line)) + "\n")
        replies.flush()


def main() -> None:
    """The child process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be taken for a reply
    with Lab(sys.argv[1], training=int(sys.argv[2])) as lab:
        _serve(lab, sys.stdin, wire)


if __name__ == "__main__":
    main()
