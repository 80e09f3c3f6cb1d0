"""Workers are started by the full name of their module, so that they start from any process."""

import ast
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qcore.config import default_run
from qcore.experiments import background_job
from qcore.experiments.parallel_runs import fan_out, process_lines
from qcore.experiments.worker_process import ending_text, worker_command
from qcore.lab import LabError
from qcore.runs.errors import is_disk_trouble
from qcore.runs.layout import RunLock
from tests.support.configs import alarmed

ROOT = Path(__file__).resolve().parents[2]
STARTERS = {"worker_command": 0, "start": 1, "fan_out": 3}
"""Functions that start a module, and the place of its name among their arguments."""
_SOURCES = sorted(ROOT.glob("qcore/**/*.py")) + sorted(ROOT.glob("pages/**/*.py")) + [ROOT / "app.py"]


def modules_started(source: str) -> list[str]:
    """Full names given to the functions that start modules; `?code?` where the name is not written down."""
    if not any(name in source for name in STARTERS):
        return []
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    parameters = {
        argument.arg for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for argument in node.args.args
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in STARTERS or (name == "start" and ast.unparse(node.func) != "background_job.start"):
            continue
        argument = node.args[STARTERS[name]]
        if isinstance(argument, ast.Constant):
            found.append(str(argument.value))
        elif isinstance(argument, ast.Name) and argument.id in constants:
            found.append(str(constants[argument.id]))
        elif not (isinstance(argument, ast.Name) and argument.id in parameters and argument.id == "module"):
            found.append(f"?{ast.unparse(argument)}?")
    return found


def own_names(source: str) -> list[int]:
    """Lines that use `__name__` for anything but the main guard, a logger, or a thing's own name."""
    if "__name__" not in source:
        return []
    tree = ast.parse(source)
    allowed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger":
            allowed |= {id(argument) for argument in node.args}
        if isinstance(node, ast.Compare) and ast.unparse(node).replace('"', "'") == "__name__ == '__main__'":
            allowed.add(id(node.left))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "__name__" and id(node) not in allowed
    ]


def direct_starts(source: str) -> list[int]:
    """Lines that build a `python -m` command for themselves."""
    if "sys.executable" not in source:
        return []
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.List)
        and [ast.unparse(part) for part in node.elts[:2]] == ["sys.executable", "'-m'"]
        and not (len(node.elts) > 2 and isinstance(node.elts[2], ast.Constant))
    ]


def test_no_process_is_started_by_the_name_a_module_happens_to_have():
    sources = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in _SOURCES}
    assert {name: lines for name, text in sources.items() if (lines := own_names(text))} == {}
    direct = {name: lines for name, text in sources.items() if (lines := direct_starts(text))}
    assert set(direct) <= {"qcore/experiments/worker_process.py"}
    started = {module for text in sources.values() for module in modules_started(text)}
    assert {
        "qcore.experiments.benchmark",
        "qcore.experiments.ablation_store",
        "qcore.experiments.effect_job",
        "qcore.experiments.effect",
    } <= started
    assert [name for name in started if name.startswith("?")] == []


def test_every_module_that_is_started_can_be_found_and_does_something_as_a_process():
    started = {module for path in _SOURCES for module in modules_started(path.read_text("utf-8"))}
    for module in started:
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        assert spec.origin is not None, module
        assert '__name__ == "__main__"' in Path(spec.origin).read_text("utf-8"), module


@pytest.mark.parametrize(
    "source",
    [
        "background_job.start(folder, __name__, 'run')",
        "command = [sys.executable, '-m', __name__]",
        "fan_out(folder, configs, 2, __name__, keep)",
    ],
)
def test_the_checker_can_fail(source):
    assert own_names(source)


@pytest.mark.parametrize("module", ["__main__", "", "bench", "qcore.", "qcore.lab bench", "os.path"])
def test_a_module_without_its_full_name_is_refused(module):
    with pytest.raises(ValueError, match="full name"):
        worker_command(module)


def test_the_command_names_the_module_in_full():
    command = worker_command("qcore.experiments.benchmark", "run", "x")
    assert command[0] == sys.executable
    assert command[-4:] == ["-m", "qcore.experiments.benchmark", "run", "x"]


def test_what_goes_wrong_with_an_answer_is_told_and_ends_the_process(tmp_path):
    with pytest.raises(LabError, match=r"a process of qcore.experiments.exam failed: .*there is no such file"):
        fan_out(tmp_path / "gone", {"a": default_run()}, 2, "qcore.experiments.exam", lambda line: None)
    endless = [sys.executable, "-c", "import time; print('first', flush=True); time.sleep(600)"]
    with pytest.raises(KeyError), contextlib.closing(process_lines(endless, tmp_path / "log", {})) as lines, alarmed():
        {}[next(lines)]


def test_a_full_disk_of_a_process_is_one_for_whoever_asked(tmp_path):
    program = (
        "import errno, sys; from qcore.experiments.parallel_runs import run_as_process\n"
        "{}sys.exit(run_as_process(work()))"
    )
    full = "def work():\n yield {'a': 1}\n raise OSError(errno.ENOSPC, 'x', '/runs/a')\n"
    other = "def work():\n yield {'a': 1}\n raise ValueError('no such text')\n"
    for body, words, disk in ((full, "'/runs/a': the disk is full", True), (other, "no such text", False)):
        taken = []
        with pytest.raises(LabError, match=words) as refused:
            taken.extend(process_lines([sys.executable, "-c", program.format(body)], tmp_path / "log", {}))
        assert is_disk_trouble(refused.value) is disk
        assert [json.loads(line) for line in taken] == [{"a": 1}]
        assert "Traceback" in (tmp_path / "log").read_text()


def test_only_the_process_that_works_on_a_folder_is_ended(tmp_path):
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    lock = RunLock(tmp_path)
    assert lock.acquire()
    own = {"host": os.uname().nodename, "pid": victim.pid, "started": "1"}
    try:
        for told in (own, {**own, "pid": 0}, {**own, "pid": "x"}, victim.pid, "", None):
            (tmp_path / "pid").write_text("" if told is None else json.dumps(told))
            with pytest.raises(LabError, match="did not end"):
                background_job.cancel(tmp_path, timeout=0.05)
        (tmp_path / "pid").write_text(json.dumps({**own, "host": "elsewhere"}))
        with pytest.raises(LabError, match="by 'elsewhere': end it on that machine"):
            background_job.cancel(tmp_path)
        assert victim.poll() is None
    finally:
        lock.release()
        victim.kill()
        victim.wait()


def test_how_a_process_ended_is_told_in_words():
    broken = subprocess.run([sys.executable, "-c", "raise ValueError('no such text')"], capture_output=True, text=True)
    assert ending_text(broken.returncode, broken.stderr) == "ValueError: no such text"
    assert "no memory" in ending_text(-signal.SIGKILL, "")
    assert ending_text(-signal.SIGTERM, "") == "it was ended by SIGTERM"
    assert ending_text(3, "  \n") == "it exited with code 3 and no message"
