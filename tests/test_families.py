"""What a model family costs the rest of the house: who asks for one by its name, and what adding one touches."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qcore.config import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 10
_CLASSES = {family.model.__name__ for family in FAMILIES.values()}
_WORD = r"(?<![\w/.])(?:{})(?![\w/])"
_DISTINCT = re.compile(_WORD.format("|".join(kind for kind in FAMILIES if "_" in kind)))
_LABEL = re.compile(_WORD.format("|".join(FAMILIES)) + r"(?=[:,]\w)")
"""Names that are words of prose, too, count as a whole text, or in front of settings as a label of models has them."""


def lines_with_a_family(source: str) -> list[int]:
    """Lines of code, documentation left out, that name a family's kind in a text, or its section's class."""
    tree = ast.parse(source)
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            if node.value in FAMILIES or _DISTINCT.search(node.value) or _LABEL.search(node.value):
                found.add(node.lineno)
        elif (isinstance(node, ast.Name) and node.id in _CLASSES) or (
            isinstance(node, ast.Attribute) and node.attr in _CLASSES
        ):
            found.add(node.lineno)
    return sorted(found)


def test_no_page_probe_or_command_asks_for_a_family_by_its_name() -> None:
    """Beside `models/`, where families are, and `config/`, where they are declared. What is left: mistakes that are
    planted in one family on purpose, examples in help texts, and a group of series."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted([*ROOT.glob("qcore/**/*.py"), *ROOT.glob("pages/**/*.py"), ROOT / "app.py"])
        if path.relative_to(ROOT).parts[:2] not in (("qcore", "models"), ("qcore", "config"))
        for line in lines_with_a_family(path.read_text("utf-8"))
    ]
    assert len(found) <= MOST_LINES, found
    assert not [
        one for one in found if one.startswith(("pages/session", "pages/widgets", "qcore/detect", "qcore/runs"))
    ]


@pytest.mark.parametrize(
    "source",
    [
        'if config.kind == "pam": pass',
        'kinds = ["video_flow"]',
        "isinstance(model, PhaseLMConfig)",
        'default = "transformer:layers=2,phase_lm"',
        "from qcore import config\nconfig.FluxConfig()",
    ],
)
def test_a_line_that_names_a_family_is_counted(source: str) -> None:
    assert lines_with_a_family(source)


def test_prose_and_series_are_not_counted() -> None:
    assert not lines_with_a_family('"""As pam does."""\nx = "a transformer\'s attention"\ny = "pam/memory"')


SECTION = '''"""A toy: every token sees the mean of those before it."""

from __future__ import annotations

from typing import Literal

from qcore.config.controls import knob
from qcore.config.sections import Section


class MeanConfig(Section):
    """Sizes of the toy."""

    section = "model"
    kind: Literal["mean_lm"] = knob("mean_lm", help="Model family.")
    width: int = knob(16, low=8, high=256, help="Width.")
    layers: int = knob(1, low=1, high=4, help="Layers.")
    heads: int = knob(1, low=1, high=1, help="One.")
    context: int = knob(32, low=4, high=512, help="Window length.")
    dropout: float = knob(0.0, low=0, high=0.0, help="None.")
'''
FAMILY = '''"""The toy's model and record."""

import torch
from torch import nn

from qcore.models.blocks import LanguageModel, ModelOutput
from qcore.models.record import EMBEDDING, FEED_FORWARD, HEAD, MIXING, LanguageFamily


class MeanLM(LanguageModel):
    """h ← h + tanh(W · mean of h up to here), layer after layer."""

    def __init__(self, config, vocab_size, token_counts=None):
        super().__init__()
        self.config, self.vocab_size, self.context = config, vocab_size, config.context
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.layers = nn.ModuleList(nn.Linear(config.width, config.width, bias=False) for _ in range(config.layers))

    def _run(self, tokens_BT, sums, seen):
        x = self.embedding(tokens_BT)
        counts = torch.arange(seen + 1, seen + tokens_BT.shape[1] + 1, device=x.device)[:, None]
        kept = []
        for layer, before in zip(self.layers, sums, strict=True):
            total = before[:, None] + x.cumsum(1)
            kept.append(total[:, -1])
            x = x + torch.tanh(layer(total / counts))
        return ModelOutput(self.read_out(x), x), kept

    def forward(self, tokens_BT, *, with_phases=False):
        return self._run(tokens_BT, self.start(len(tokens_BT))[0], 0)[0]

    def read_out(self, hidden_BTD):
        return hidden_BTD @ self.embedding.weight.T

    def mixing(self, tokens_BT):
        B, T = tokens_BT.shape
        weights = torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None]
        return tuple(weights.expand(B, 1, T, T) for _ in self.layers)

    def start(self, batch_size):
        return [self.embedding.weight.new_zeros(batch_size, self.config.width) for _ in self.layers], 0

    def step(self, tokens_B, state):
        output, sums = self._run(tokens_B[:, None], *state)
        return output, (sums, state[1] + 1)


FAMILY = LanguageFamily(
    "mean_lm",
    MeanLM,
    lambda config, s: {},
    lambda config, s: {EMBEDDING: "0", MIXING: "b·s·L·D", FEED_FORWARD: "2·b·s·L·D²", HEAD: "2·b·s·D·V"},
)
'''
EDITS = {
    "qcore/config/families.py": (
        ("from qcore.config.pam", "from qcore.config.mean import MeanConfig\nfrom qcore.config.pam"),
        (
            '        _family("video_flow"',
            '        _family("mean_lm", MeanConfig, DataConfig, "text"),\n        _family("video_flow"',
        ),
    ),
    "qcore/models/families.py": (
        ("from qcore.models.pam", "from qcore.models.mean.family import FAMILY as MEAN\nfrom qcore.models.pam"),
        ("(PHASE, PAM, FLUX, TRANSFORMER)", "(PHASE, PAM, FLUX, TRANSFORMER, MEAN)"),
    ),
}
USE = """
import json, os, sys
from pathlib import Path
from streamlit.testing.v1 import AppTest
from qcore.config import all_controls, default_run
from qcore.lab import Lab

runs = Path(sys.argv[1])
os.environ["QCORE_RUNS"] = str(runs)
found = {}
with Lab(runs) as lab:
    config = default_run("mean_lm").with_values({"documents": 80, "steps": 12, "batch_size": 4, "warmup_steps": 2,
        "eval_every": 4, "eval_batches": 1, "sample_every": 6, "sample_length": 4, "tokens_every": 2,
        "kernels_every": 4, "checkpoint_every": 5, "budget_percent": 100.0})
    lab.start(config, name="toy")
    info = lab.wait("toy", 120)
    found["state"], found["kind"], found["message"] = info.state, [one.kind for one in lab.runs()][0], info.message
    *_, last = lab.sample("toy", "Once", config.sampling, checkpoint=12)
    found["sampled"] = last.status
    found["leak"] = lab.reader("toy").last("causality/leak")
    found["controls"] = [one.name for one in all_controls("mean_lm")][:3]
for page in ("tokens", "interference"):
    at = AppTest.from_file("app.py", default_timeout=120)
    at.query_params["run"] = "toy"
    at.run()
    at.switch_page(f"pages/{page}.py").run()
    found[page] = [len(at.exception), len(at.get("bidi_component"))]
print(json.dumps(found))
"""


def test_a_family_is_added_by_its_folder_and_at_most_three_files(tmp_path: Path) -> None:
    """A toy is trained, listed, sampled and opened in a copy of the project that knows it."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    copied = ("qcore", "pages", "static", ".streamlit")
    for name in copied:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "app.py", tmp_path)
    for file, text in (("qcore/config/mean.py", SECTION), ("qcore/models/mean/family.py", FAMILY)):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text, "utf-8")
    (tmp_path / "qcore/models/mean/__init__.py").write_text('"""The toy."""\n', "utf-8")
    for file, edits in EDITS.items():
        text = (tmp_path / file).read_text("utf-8")
        for old, new in edits:
            assert text.count(old) == 1, (file, old)
            text = text.replace(old, new)
        (tmp_path / file).write_text(text, "utf-8")
    touched = [
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*.py")
        if "mean" not in path.parent.name
        and (
            not (ROOT / path.relative_to(tmp_path)).exists()
            or path.read_bytes() != (ROOT / path.relative_to(tmp_path)).read_bytes()
        )
    ]
    assert len(touched) <= 3, touched
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path / "runs")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert (found["state"], found["kind"], found["sampled"]) == ("finished", "mean_lm", "done"), found
    assert found["leak"][1] == 0
    for page in ("tokens", "interference"):
        exceptions, shown = found[page]
        assert exceptions == 0
        assert shown > 4, found
