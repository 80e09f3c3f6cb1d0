"""Every command line that README and docs print is run, as it stands there.

The lines of qcore run one after another in one folder, as a reader would type them, with models made small by options
that follow the line's own; the first `train` stays in a process of its own while the next lines steer it. What
experiments would train in processes of theirs is trained here. Of a bench the imports and the arguments are tried (they
measure for minutes), of `make` what it would do.
"""

import argparse
import contextlib
import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qcore import cli
from qcore.config import Pause
from qcore.lab import Lab
from tests.papers import blocks, nav_pages
from tests.support.in_process import experiments_here

ROOT = Path(__file__).resolve().parent.parent
PAPERS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "checkpoints/README.md",
    # In the order of the site, so that the first run is there before it is forked. The reference is not read: it is
    # generated from the commands themselves.
    *(ROOT / "docs" / page for page in nav_pages() if not page.startswith("reference/")),
]
PROGRAMS = ("qcore", "python", "make", "curl", "streamlit", "pip")
DEADLINE = 240.0

TEXT = {
    "width": 8, "layers": 1, "heads": 1, "phases": 2, "context": 8, "documents": 40, "batch_size": 2, "warmup_steps": 2,
    "eval_every": 200, "eval_batches": 1, "sample_every": 100000, "sample_length": 2, "max_tokens": 4,
    "prompts": "Once", "budget_percent": 0,
}  # fmt: skip
CLIPS = {
    "width": 8, "layers": 1, "heads": 1, "batch_size": 2, "warmup_steps": 1, "eval_every": 10, "sample_every": 100000,
    "steps": 4, "budget_percent": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A command line of a paper, from a block or from within a sentence."""

    paper: str
    number: int
    text: str
    in_block: bool = True

    @property
    def mentions(self) -> bool:
        """Whether it only names a command of qcore, in a sentence."""
        return not self.in_block and len([word for word in self.words if not word.startswith("<")]) == 2

    @property
    def words(self) -> list[str]:
        """As a shell would split it, without its comment."""
        return shlex.split(self.text, comments=True)

    def __str__(self) -> str:
        return f"{self.paper}:{self.number} {self.text}"


def documented() -> list[Line]:
    """The command lines of all papers: of blocks, and of code within a line that is more than a program's name."""
    found: list[Line] = []
    for paper in PAPERS:
        name, fenced, whole = str(paper.relative_to(ROOT)), False, ""
        for number, row in enumerate(paper.read_text(encoding="utf-8").splitlines(), 1):
            if row.startswith("```"):
                fenced = not fenced
            elif fenced:
                whole += row.removesuffix("\\") if row.endswith("\\") else row
                if row.endswith("\\"):
                    continue
                command, hash_, comment = whole.partition("  #")
                parts = command.split(";") if not command.strip().startswith(("T=", "curl")) else [command]
                texts = [part.strip() for part in parts if part.strip()]
                if hash_ and texts:
                    texts[-1] += f"  #{comment}"
                found += [Line(name, number, text) for text in texts if is_command(text)]
                whole = ""
            else:
                spans = [span.replace("[", "").replace("]", "") for span in re.findall(r"`([^`]+)`", row)]
                found += [Line(name, number, span, False) for span in spans if is_command(span) and " " in span]
    return found


def is_command(text: str) -> bool:
    return text.split(" ", 1)[0] in PROGRAMS


LINES = documented()


def sets(values: dict[str, object], given: list[str]) -> list[str]:
    """Options that make a run small; what the line sets itself stays as it is."""
    own = {word.partition("=")[0] for word in given}
    return [part for key, value in values.items() if key not in own for part in ("--set", f"{key}={value}")]


def made_small(words: list[str]) -> list[str]:
    """What is put behind a line of qcore so that it takes seconds; options given twice count the second time."""
    what = words[0]
    if what == "train":
        if "video" in " ".join(words):
            return ["-q", *sets(CLIPS, words)]
        if "first" in words:  # keeps the sizes that it grows from
            words = [*words, "width=", "heads=", "phases="]
            return ["-q", *sets({**TEXT, "steps": 100000}, words)]
        text = {key: value for key, value in TEXT.items() if key != "phases" or "tiny" in words}
        return ["-q", *sets({**text, "steps": 30}, words)]
    if what == "bench":
        fewer = [] if "--models" in words else ["--models", "transformer"]
        small = {"layers": 1, "width": 32, "context": 16, "batch_size": 2, "documents": 40}
        short = ["--steps", "4", "--rounds", "1", "--positions", "", "--windows", "2"]
        return [*fewer, *short, *sets(small, words)]
    if what == "ablate":
        return ["--only", "z_loss", "--steps", "4", "--seeds", "2", *sets(TEXT, words)]
    if what == "exam":
        few = ["few-steps", "--seeds", "1"] if "--remedies" in words else ["L2", "--healthy", "0"]
        return ["--only", *few, *sets({"steps": 5, "documents": 300}, words)]
    if what == "verdicts":
        sizes = {key: CLIPS[key] for key in ("width", "layers")}
        return ["--noise", "0", *sets({"steps": 3, **sizes}, words)]
    if what == "effect":
        return ["-q", "--forks", "2", "--steps", "5"]
    if what == "sweep":
        return ["-q", "--steps", "5"]
    return {"resume": ["--steps", "450"], "fork": ["--until", "405"], "replay": ["--steps", "50"]}.get(what, [])


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Line, object]]:
    """What became of each line of qcore: its exit code, or what went wrong."""
    place = tmp_path_factory.mktemp("reader")
    notes = place / "my/notes"
    notes.mkdir(parents=True)
    story = "A reader keeps notes.\nEach note is a few words long.\n\n"
    (notes / "notes.txt").write_text("".join(story.replace("words", f"words, {n}") for n in range(60)), "utf-8")
    [configuration] = [block for paper in PAPERS for block in blocks(paper, "yaml")]
    (place / "run.yaml").write_text(configuration, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("QCORE_RUNS", None)
    result: dict[Line, object] = {}
    children: list[subprocess.Popen[bytes]] = []
    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patch:
        patch.delenv("QCORE_RUNS", raising=False)
        experiments_here(patch)
        try:
            for line in [line for line in LINES if line.words[0] == "qcore"]:
                words = [word.replace("FILE", "run.yaml") for word in line.words[1:]]
                if line.mentions:
                    result[line] = cli.main([words[0], "--help"])
                    continue
                if words[0] in ("serve", "mcp"):
                    result[line] = served(words, environment)
                    continue
                arguments = [*words, *made_small(words)]
                if "--name" in words and "first" in words and words[0] == "train":
                    child = trained_beside(arguments, environment, "first")
                    children.append(child)
                    result[line] = 0
                    continue
                said = io.StringIO()
                if "while it trains" in line.text:
                    children.append(
                        trained_beside(["resume", "first", "--steps", "100000", "-q"], environment, "first")
                    )
                with contextlib.redirect_stderr(said):
                    code = cli.main(arguments)
                if "while it trains" in line.text:
                    code = code or cli.main(["stop", "first"]) or children.pop().wait(DEADLINE)
                result[line] = code and said.getvalue()
                if words[0] == "pause":
                    for word in re.findall(r"\w+", line.text.partition("then:")[2]):
                        result[line] = result[line] or cli.main([word, "first"])
                    child = children.pop()
                    result[line] = result[line] or child.wait(DEADLINE)
        finally:
            for child in children:
                child.kill()
                child.wait()
        yield result


def trained_beside(arguments: list[str], environment: dict[str, str], name: str) -> "subprocess.Popen[bytes]":
    """`qcore train` in a terminal of its own, paused after its first step, so that it goes no further than is said."""
    child = subprocess.Popen([sys.executable, "-m", "qcore", *arguments], env=environment)
    deadline = time.monotonic() + DEADLINE
    with Lab(Path("checkpoints")) as lab:
        while time.monotonic() < deadline:
            assert child.poll() is None
            info = next((run for run in lab.runs() if run.name == name), None)
            if info is not None and info.state == "running" and info.step >= 1:
                lab.command(name, Pause())
                return child
            time.sleep(0.02)
    child.kill()
    raise AssertionError(f"{arguments} made no step within {DEADLINE} s")


def served(words: list[str], environment: dict[str, str]) -> int:
    """A server of the protocol starts, says where it answers, and ends when it is told to."""
    if words[0] == "mcp":
        command = [sys.executable, "-m", "qcore", *words, "--runs", "checkpoints"]
        return subprocess.run(command, env=environment, input=b"", timeout=DEADLINE).returncode
    with serving(words, environment) as (_, child):
        pass
    return child.returncode


@contextlib.contextmanager
def serving(words: list[str], environment: dict[str, str]) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """`qcore serve` on a free port, as (its address, the process), which ends by itself at the end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "qcore", *words, "--port", "0", "--json"], env=environment, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        found = re.search(r"http://[\w.\[\]:]+\d", child.stdout.read1(4096).decode())
        assert found, "it did not say where it answers"
        yield found.group(), child
    finally:
        child.terminate()
        child.wait(DEADLINE)
        child.stdout.close()


@pytest.mark.parametrize("line", [line for line in LINES if line.words[0] == "qcore"], ids=str)
def test_a_line_of_qcore_runs(line: Line, outcomes: dict[Line, object]) -> None:
    assert outcomes[line] in ((0, 143, -15) if line.words[1] == "serve" else (0,)), outcomes[line]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_lines_of_curl_run(outcomes: dict[Line, object], tmp_path: Path) -> None:
    found = [block for paper in PAPERS for block in blocks(paper) if "curl" in block]
    assert found
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with serving(["serve", "checkpoints"], environment) as (address, _):
        for block in found:
            script = re.sub(r"http://127\.0\.0\.1:\d+", address, block).replace("NAME", "first")
            script = re.sub(r"^curl ", "curl --silent --show-error --fail --max-time 4 ", script, flags=re.M)
            # A stream goes on until the client hangs up: curl's own time-out, 28, is its end.
            script = re.sub(r"^(curl .* -N .*)$", r"\1 || [ $? = 28 ]", script, flags=re.M)
            done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=DEADLINE)
            assert done.returncode == 0, done.stderr
            assert '"first"' in done.stdout


class ParsedError(Exception):
    """The arguments were fine."""


@pytest.mark.parametrize(
    "line", [line for line in LINES if line.words[0] == "python" and "bench" in line.text], ids=str
)
def test_a_bench_has_its_arguments(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(parser: argparse.ArgumentParser, *_: object) -> None:
        real(parser)
        raise ParsedError

    real = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    _, *words = line.words
    file = f"{words[1].replace('.', '/')}.py" if words[0] == "-m" else words[0]
    monkeypatch.setattr(sys, "argv", [file, *words[2 if words[0] == "-m" else 1 :]])
    monkeypatch.syspath_prepend(str((ROOT / file).parent))
    monkeypatch.chdir(ROOT)
    with pytest.raises(ParsedError):
        runpy.run_path(str(ROOT / file), run_name="__main__")


@pytest.mark.parametrize("line", [line for line in LINES if line.words[0] == "make"], ids=str)
def test_make_knows_what_to_do(line: Line) -> None:
    done = subprocess.run(["make", "--dry-run", *line.words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_line_is_run_by_one_of_these() -> None:
    assert len(LINES) > 40
    tried = {line for line in LINES if line.words[0] in ("qcore", "make", "curl")}
    tried |= {
        line
        for line in LINES
        if line.words[0] == "python" and ("bench" in line.text or line.words[1:] == ["-m", "qcore"])
    }
    assert [str(line) for line in LINES if line not in tried] == []
