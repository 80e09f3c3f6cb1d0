"""How this project starts a process of its own: a module by its full name, never by what `__name__` happens to be.

In a process that was itself started with `-m`, a module's `__name__` is `__main__`, and `-m __main__` finds nothing:
what worked from the terminal, where the module had been imported, would then fail from the app.
"""

from __future__ import annotations

import signal
import sys

ROOT = "qcore."
_QUIET = ("-W", "ignore::RuntimeWarning:runpy")
"""Packages import their modules, which `-m` then runs again: what it says of that is nothing for a page's words."""


def worker_command(module: str, *arguments: str) -> list[str]:
    """`python -m module arguments`.

    Raises:
        ValueError: for anything but the full dotted name of a module of this package.
    """
    if not module.startswith(ROOT) or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(
            f"module = {module!r} is refused: a process is started by a full name, such as qcore.experiments.benchmark"
        )
    return [sys.executable, *_QUIET, "-m", module, *arguments]


def ending_text(code: int, said: str) -> str:
    """How a process ended, in words: the last line that it said, else the signal that ended it.

    A traceback's last line is its error; what stands above it is for the log, not for a page.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if code == -signal.SIGKILL:
        return (
            "it was killed (SIGKILL), most often because the machine had no memory left: take a smaller model or batch"
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"it was ended by {name}" + (f" after saying: {lines[-1][-600:]}" if lines else "")
    return lines[-1][-600:] if lines else f"it exited with code {code} and no message"
