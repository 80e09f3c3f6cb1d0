"""The lab from a terminal: train, watch, steer, sample and export, through the same façade as the app.

Every command is a few lines over `qcore.lab`; options of `sample` and the table of `controls` are generated from the
declarations in `qcore.config`. Progress goes to stderr, results to stdout, so that `--json` can be piped. A person's
mistake is one line on stderr and exit code 2; Ctrl-C and SIGTERM stop a run with a checkpoint and exit with 130 or 143.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence

import typer

from qcore.cli import ablation, bench, branching, exam, guide_check, inspection, serving, sharing, steering, training
from qcore.cli.base import app
from qcore.cli.inspection import controls_markdown, rules_markdown
from qcore.runs.errors import FORESEEN, is_disk_trouble, sentence

__all__ = [
    "ablation",
    "bench",
    "branching",
    "controls_markdown",
    "exam",
    "guide_check",
    "inspection",
    "main",
    "rules_markdown",
    "serving",
    "sharing",
    "steering",
    "training",
]

LONGEST = 2000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 the run failed or the disk takes no more, 2 a mistake,
    130 and 143 interrupted, 141 when what it prints is read no further.
    """
    logging.getLogger("qcore").addHandler(logging.NullHandler())  # the run's own log keeps what a worker reports
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(given or ["--help"], prog_name="qcore", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough, such as `qcore list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except typer.TyperException as error:
        return _print_refusal(f"{error.format_message().rstrip('.')}; see qcore --help")
    except (ValueError, *FORESEEN) as error:
        return _print_refusal(sentence(error), 1 if is_disk_trouble(error) else 2)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    return code if isinstance(code, int) else 0


def _print_refusal(message: str, code: int = 2) -> int:
    words = " ".join(message.split())
    print("qcore: " + (words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"), file=sys.stderr)
    return code
