"""A training host needs little: what watching a loop is made of imports and works beside torch and a few packages, and
`requirements/watch.txt` names them all.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.only_closure import pinned
from tests.test_dependencies import ANY_BUILD, closure_of, pins
from tests.test_layers import OPTIONAL, TABLE

ROOT = Path(__file__).resolve().parent.parent
WATCH = ROOT / "requirements" / "watch.txt"
ROOMS = ("base", "config", "store", "runs", "detect", "diagnostics", "probes", "automation")
"""What `qcore.watch` will stand on: DESIGN's "watch/" with the rooms that these import."""
PACKAGE = {"yaml": "pyyaml"}
ABSENT = (
    "streamlit",
    "datasets",
    "av",
    "sklearn",
    "scipy",
    "mcp",
    "plotly",
    "pandas",
    "pyarrow",
    "tokenizers",
    "typer",
)


def named() -> set[str]:
    """Packages of `watch.in`."""
    return {line for line in (ROOT / "requirements/watch.in").read_text("utf-8").splitlines() if line[:1].isalpha()}


def on_the_host(source: str, *arguments: str) -> str:
    """What a program prints in a process that can import only the closure, and torch with what it brings."""
    # torch's own needs stand in watch.txt; its builds for a GPU, which no hash holds for, in constraints.txt.
    builds = {name for name in pins(ROOT / "constraints.txt") if ANY_BUILD.match(name)}
    head = (
        "import sys\nfrom pathlib import Path\nfrom tests.support.only_closure import close_to, import_all, pinned\n"
        f"close_to(pinned(Path({str(WATCH)!r})) | {builds!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + source, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_closure_is_what_these_rooms_may_import() -> None:
    rooms = [room for room in TABLE if room.partition(".")[0] in ROOMS]
    libraries = set().union(*(TABLE[room][1] for room in rooms))
    assert {PACKAGE.get(name, name) for name in libraries} == named()
    needed = {other for room in rooms for other in TABLE[room][0]} - {"flow"}
    assert needed <= {*ROOMS, "probes.catalog"}
    inside = {path: found for path, found in OPTIONAL.items() if path.split("/")[1] in ROOMS}
    assert inside == {"qcore/store/tables.py": {"pyarrow"}}, "asked for on the lab's machine: a table of Parquet"


def test_the_file_holds_all_that_they_need_at_the_versions_of_the_lab() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert named() <= {re.split(r"[<>=!]", need)[0] for need in project["dependencies"]}
    needed = {name: version for name, version in closure_of(named()).items() if not ANY_BUILD.match(name)}
    assert needed.items() <= pins(WATCH).items()
    assert len(pins(WATCH)) < len(pins(ROOT / "requirements/run.txt")) / 2


def test_what_watching_a_loop_needs_imports_with_the_closure_alone() -> None:
    source = (
        "print(import_all(*sys.argv[1:]))\n"
        f"print(sorted(name for name in sys.modules if name in {ABSENT!r}))\n"
        "for name in ('streamlit', 'datasets'):\n"
        "    try:\n        __import__(name)\n    except ModuleNotFoundError as error:\n        print(error)\n"
    )
    count, loaded, *refused = on_the_host(source, *(f"qcore.{room}" for room in ROOMS)).splitlines()
    assert int(count) > 90
    assert loaded == "[]"
    assert refused == [f"No module named {name!r}" for name in ("streamlit", "datasets")]


LOOP = """
import torch
from torch import nn
from qcore.detect import Facts, Watch
from qcore.diagnostics import causality_probe, shift_check, token_statistics, weight_statistics
from qcore.probes import catalog
from qcore.store import Finding, RunReader, RunWriter, Status

torch.manual_seed(0)
ids_BT = torch.randint(40, (4, 33))
model = nn.Sequential(nn.Embedding(40, 16), nn.Linear(16, 40))
inputs_BT = targets_BT = ids_BT[:, :-1]  # the labels were not shifted
mask_BT = torch.ones_like(targets_BT, dtype=torch.bool)
watch = Watch(Facts(kind="transformer", vocab_size=40, width=16, blocks=1))
path = Path(sys.argv[1])
with RunWriter(path) as writer:
    for step in range(1, 41):
        logits_BTV = model(inputs_BT)
        loss = nn.functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():  # by hand: an optimizer of torch loads its compiler, seconds
                parameter -= 0.1 * parameter.grad
            found = token_statistics(logits_BTV, targets_BT, mask_BT).scalars()
            found |= shift_check(logits_BTV, inputs_BT, targets_BT, mask_BT).scalars()
            found |= causality_probe(model, inputs_BT, seed=step, vocab_size=40).scalars()
        found[catalog.TRAIN_LOSS] = loss.item()
        writer.log_scalars(step, found)
        for verdict in watch.observe(step, found, {"ce": 1.0}):
            writer.put_finding(Finding(**vars(verdict)))
    writer.set_status(Status("finished", 40, 40, 0.0, 1, "host", ""))
with RunReader(path) as reader:
    few = reader.scalars(catalog.TRAIN_LOSS, max_points=16)
    print(reader.status().state, len(reader.scalars(catalog.TRAIN_LOSS)), 1 < len(few) <= 16)
    print(*(finding.name for finding in reader.findings()))
"""


def test_a_loop_on_such_a_host_is_measured_stored_and_judged(tmp_path: Path) -> None:
    said, findings = on_the_host(LOOP, str(tmp_path / "run.sqlite")).splitlines()
    assert said == "finished 40 True"
    assert "unshifted_labels" in findings.split()


def test_a_module_outside_of_the_closure_is_refused() -> None:
    with pytest.raises(AssertionError, match="No module named 'plotly'"):
        on_the_host("import_all('qcore.viz')")
    assert {"numpy", "torch"} & pinned(WATCH) == {"numpy"}
