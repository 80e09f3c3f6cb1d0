"""The download of a data set, in a process of its own: the library waits for networks and offers no way to end that.

The process opens the data set once, as the run will, and all that it leaves is the library's cache, from which the run
then opens it without a wait. A process can be ended at any instant: what it has downloaded in part stays, and the
library goes on from there the next time. When the run's process dies, the pipe between them closes, and it ends, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import Any

from qcore.base import QcoreError
from qcore.base.stopping import check_stop, may_be_stopped
from qcore.config import DataError
from qcore.data.text.opening import innermost_cause, load_dataset

_LOOK_EVERY = 0.2  # seconds
_MODULE = "qcore.data.text.hub_download"
_QUIET = ("-W", "ignore::RuntimeWarning:runpy")
_FAILED, _REFUSED = 1, 2


class DownloadError(QcoreError, RuntimeError):
    """The library could not open the data set in that process; the message is its own."""


def download(name: str, part: str, split: str, files: str | list[str]) -> None:
    """Bring a data set into the library's cache, where somebody may ask for a stop; elsewhere do nothing: the library
    does so itself when it is asked for the data set.

    Arguments as of `opening.load_dataset`. Raises `DownloadError` with the library's innermost reason, `DataError`
    for what `load_dataset` refuses, and `StopAskedError` within a second of a stop: the process has ended then.
    """
    if not may_be_stopped():
        return
    import datasets

    asked = json.dumps({"name": name, "part": part, "split": split, "files": files})
    with subprocess.Popen(
        [sys.executable, *_QUIET, "-m", _MODULE, asked],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"HF_DATASETS_CACHE": str(datasets.config.HF_DATASETS_CACHE)},
        start_new_session=True,  # a Ctrl-C in the terminal is for the run, which then ends this
    ) as process:
        try:
            while process.poll() is None:
                check_stop()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_EVERY)
        finally:
            process.kill()
        assert process.stdout is not None
        said = process.stdout.read().strip()
    if process.returncode:
        reason = said or f"the process that downloads it ended with code {process.returncode}"
        raise DataError(reason) if process.returncode == _REFUSED else DownloadError(reason)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(_FAILED)


def main(asked: str) -> int:
    """Open the data set that is asked for; where that fails, the reason on standard output, and a code for its kind."""
    threading.Thread(target=_end_with_parent, name="watch-parent", daemon=True).start()
    wanted: dict[str, Any] = json.loads(asked)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the library prints is no reason
            load_dataset(wanted["name"], wanted["part"], wanted["split"], wanted["files"])
    except DataError as error:
        sys.stdout.write(str(error))
        return _REFUSED
    except Exception as error:  # noqa: BLE001 - the process's outer edge: whatever the library raises is told
        sys.stdout.write(innermost_cause(error))
        return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
