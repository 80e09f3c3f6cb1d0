"""The healthy zoo: runs in which nothing is wrong, of every family, from other people's first weights, on other
people's data, with other sizes and habits. A finding in one of them is false, whatever its numbers say.

The zoo is data: a row says a scene, the families and first weights it is tried with, its text, and what it changes. A
detector sees these runs at a budget of 100 %, so that every measurement has its chance to accuse. What a run should
do, it does: each leaves the plateau that its text has, or was never meant to (random letters, a low rate). Some things
that a rule may truly say of such data are no false findings: a row names them (`true`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcore.config import (
    CURRICULA,
    EXAM_BASE,
    EXAM_KIND_CHANGES,
    EXAM_KINDS,
    FAMILIES,
    VIDEO_EXAM_BASE,
    RunConfig,
    default_run,
    section_types,
)
from qcore.experiments.halves import halves
from qcore.experiments.zoo_texts import WRITERS, zoo_text

OWN, PYTORCH, SMALL, GPT2 = "", "pytorch", "small", "gpt2"
"""First weights: the family's own, or those of `qcore.models.initialisation`."""
_TEXTS_FOLDER = "texts"

_BASE = {name: value for name, value in EXAM_BASE.items() if name != "phases"}
_BYTES: dict[str, Any] = {"tokenizer": "byte", "steps": 200}
_PIECES: dict[str, Any] = {"tokenizer": "bpe", "vocab_size": 512, "steps": 200}
_CLIPS: dict[str, Any] = {**VIDEO_EXAM_BASE, "steps": 200, "sample_every": 50, "measured_clips": 16}
_RESTARTS = [
    "50 .. 90: learning_rate = 0.01 -> 0.0005 cosine",
    "91: learning_rate = 0.01",
    "91 .. 150: learning_rate = 0.01 -> 0.0005 cosine",
    "151: learning_rate = 0.01",
]


@dataclass(frozen=True)
class Fork:
    """A fork in mid-run: at which step of its parent it begins, and what it changes."""

    step: int
    changes: Mapping[str, Any] = field(default_factory=dict)
    config_changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ZooRow:
    """One scene of the zoo.

    Attributes:
        animals: (family, first weights) of each run.
        text: a text of `zoo_texts`; "": what `changes` name, else the stories.
        true: findings that are true of this data or plan, and no mistake of the run.
    """

    scene: str
    animals: tuple[tuple[str, str], ...]
    changes: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    fork: Fork | None = None
    true: tuple[str, ...] = ()


@dataclass(frozen=True)
class ZooCase:
    """One healthy run, ready to start once its text is written.

    Attributes:
        weights: first weights, "" for the family's own.
        half: "a": limits may be fitted to it; "b": they may not.
    """

    name: str
    config: RunConfig
    weights: str
    text: str
    fork: Fork | None
    true: tuple[str, ...]
    half: str


def _all(kinds: Sequence[str], *weights: str) -> tuple[tuple[str, str], ...]:
    return tuple((kind, start) for kind in kinds for start in weights)


_T, _P, _M, _F, _V = EXAM_KINDS
_LANGUAGE = EXAM_KINDS[:-1]

ROWS: tuple[ZooRow, ...] = (
    ZooRow("stories", _all(_LANGUAGE, OWN, PYTORCH, SMALL, GPT2)),
    ZooRow(
        "bytes",
        ((_T, PYTORCH), (_P, OWN), (_M, GPT2), (_F, OWN)),
        {**_BYTES, "source": "pydoc"},
    ),
    ZooRow("code", ((_T, OWN), (_T, PYTORCH), (_P, GPT2), (_M, SMALL)), _PIECES, "code", true=("not_prose",)),
    ZooRow("csv", ((_T, GPT2), (_P, PYTORCH), (_M, OWN), (_F, PYTORCH)), _BYTES, "csv", true=("not_prose",)),
    ZooRow("logs", ((_T, SMALL), (_P, OWN), (_F, GPT2)), _BYTES, "logs", true=("not_prose",)),
    ZooRow("japanese", ((_T, PYTORCH), (_P, GPT2), (_M, OWN), (_F, OWN)), _BYTES, "japanese"),
    ZooRow("japanese-pieces", ((_T, OWN), (_M, PYTORCH)), _PIECES, "japanese"),
    ZooRow("dna", ((_T, OWN), (_T, SMALL), (_P, PYTORCH), (_M, GPT2), (_F, OWN)), _BYTES, "dna", true=("not_prose",)),
    ZooRow("bilingual", ((_P, SMALL), (_T, GPT2)), {"source": "bilingual"}),
    ZooRow(
        "tiny",
        ((_T, OWN), (_P, PYTORCH), (_F, SMALL)),
        {"documents": 200, "steps": 60, "learning_rate": 5e-3, "warmup_steps": 10},
    ),
    ZooRow("long", ((_T, PYTORCH), (_M, OWN)), {"context": 512, "batch_size": 2, "steps": 100}),
    ZooRow("short", ((_T, GPT2), (_P, OWN), (_F, PYTORCH)), {"context": 8, "batch_size": 64}),
    ZooRow(
        "wide",
        ((_T, OWN), (_T, PYTORCH), (_M, GPT2)),
        {"width": 512, "layers": 1, "batch_size": 4, "learning_rate": 3e-4, "lr_policy": "constant", "steps": 70,
         "warmup_steps": 10, "sample_every": 1000, "checks_every": 1000},
    ),
    ZooRow("deep", ((_T, SMALL), (_P, GPT2)), {"layers": 6, "steps": 100}),
    ZooRow("shallow", ((_M, PYTORCH), (_T, OWN)), {"layers": 1}),
    ZooRow("dropout", ((_T, GPT2), (_P, PYTORCH), (_M, OWN)), {"dropout": 0.5, "steps": 200}),
    ZooRow("batch", ((_T, OWN), (_F, GPT2)), {"batch_size": 128, "context": 32, "steps": 50, "warmup_steps": 10}),
    ZooRow("slow", ((_T, PYTORCH), (_P, OWN), (_F, GPT2)), {"learning_rate": 5e-4, "steps": 300}),
    ZooRow("constant", ((_P, SMALL), (_M, OWN)), {"lr_policy": "constant", "learning_rate": 5e-3}),
    ZooRow("unwarmed", ((_T, OWN), (_F, OWN)), {"warmup_steps": 0, "learning_rate": 3e-3}),
    ZooRow(
        "restarts",
        ((_T, OWN), (_P, PYTORCH)),
        {"steps": 200, "schedule": _RESTARTS, "lr_policy": "constant"},
    ),
    ZooRow("decay", ((_T, PYTORCH), (_P, OWN)), {"weight_decay": 0.3, "steps": 200}),
    ZooRow("smoothing", ((_T, OWN), (_P, GPT2), (_M, PYTORCH), (_F, OWN)), {"label_smoothing": 0.3}),
    ZooRow("padded", ((_T, PYTORCH), (_P, GPT2), (_M, OWN)), {"packing": "padded"}),
    ZooRow("accumulated", ((_T, GPT2), (_M, PYTORCH)), {"accumulation": 4, "batch_size": 2, "packing": "padded"}),
    ZooRow("bf16", ((_T, PYTORCH), (_P, OWN)), {"precision": "bf16"}),
    ZooRow(
        "terms",
        ((_T, PYTORCH), (_P, OWN)),
        {"diversity_weight": 0.3, "unlikelihood_weight": 0.3, "z_loss_weight": 1e-4, "dominance_weight": 0.5},
    ),
    ZooRow(
        "energies",
        ((_P, GPT2), (_M, OWN)),
        {"local_energy_weight": 0.02, "global_energy_weight": 0.02, "coherence_weight": 0.01},
    ),
    ZooRow("curriculum", ((_P, OWN),), {"schedule": CURRICULA["published"]}),
    ZooRow("language-first", ((_P, PYTORCH), (_M, GPT2)), {"schedule": CURRICULA["language-first"]}),
    ZooRow("real", ((_M, SMALL),), {"complex_state": False}),
    ZooRow("experts", ((_P, OWN),), {"experts": 4, "balance_weight": 0.05}),
    ZooRow("fork-rate", ((_T, OWN), (_P, GPT2)), {"steps": 160}, fork=Fork(80, {"learning_rate": 2e-3})),
    ZooRow("fork-ends-low", ((_M, PYTORCH), (_F, OWN)), {"steps": 100}, fork=Fork(100, {"steps": 160})),
    ZooRow(
        "fork-tune",
        ((_T, PYTORCH), (_P, OWN)),
        {"steps": 100},
        fork=Fork(100, {"steps": 160, "learning_rate": 1e-4, "lr_policy": "constant"}, {"data_seed": 7}),
    ),
    # clips: the share of noise in common stays small, since half of it flickers for 500 steps and then moves
    ZooRow("digits", _all((_V,), OWN, PYTORCH, GPT2), _CLIPS),
    ZooRow("mixed", ((_V, PYTORCH),), {**_CLIPS, "noise_correlation": 0.2}),
    ZooRow("quantum", ((_V, GPT2),), {**_CLIPS, "flow_path": "quantum"}),
    ZooRow("rab", ((_V, OWN),), {**_CLIPS, "flow_path": "rab"}),
    ZooRow("ring", ((_V, PYTORCH),), {**_CLIPS, "flow_path": "ring"}),
    ZooRow("spherical", ((_V, GPT2),), {**_CLIPS, "flow_path": "spherical"}),
    ZooRow("network", ((_V, OWN),), {**_CLIPS, "flow_path": "quantum", "anchor": "network", "anchor_kl_weight": 0.01}),
    ZooRow("patches", ((_V, PYTORCH),), {**_CLIPS, "latents": "space_to_channel", "patch": 2}),
    ZooRow("autoencoder", ((_V, OWN),), {**_CLIPS, "latents": "autoencoder", "patch": 2, "canvas": 8}),
    ZooRow("heun", ((_V, GPT2),), {**_CLIPS, "solver": "heun", "solver_steps": 10, "time_sampling": "logit_normal"}),
    ZooRow("adaptive", ((_V, OWN),), {**_CLIPS, "solver": "adaptive", "tolerance": 1e-2}),
    ZooRow("few-clips", ((_V, PYTORCH),), {**_CLIPS, "clips": 128, "steps": 100}),
    ZooRow("live-weights", ((_V, OWN),), {**_CLIPS, "ema_decay": 0.0}),
    ZooRow(
        "video-terms",
        ((_V, GPT2),),
        {**_CLIPS, "temporal_weight": 0.1, "orthogonality_weight": 0.1, "orthogonality_target": "data"},
    ),
    ZooRow("video-accumulated", ((_V, OWN),), {**_CLIPS, "accumulation": 2, "batch_size": 8}),
    ZooRow("video-slow", ((_V, PYTORCH),), {**_CLIPS, "learning_rate": 1e-3}),
    ZooRow("video-fork", ((_V, OWN),), {**_CLIPS, "steps": 160}, fork=Fork(100, {"learning_rate": 1e-3})),
)  # fmt: skip


def zoo_cases(
    half: str = "", changes: Mapping[str, Any] | None = None, kinds: Sequence[str] | None = None
) -> list[ZooCase]:
    """The runs of the zoo, of one half or ("") both.

    Args:
        changes: to every configuration.
        kinds: families to keep; None: all.

    Raises:
        ConfigError: for a value that is refused.
    """
    names = {_name(row, kind, weights): kind for row in ROWS for kind, weights in row.animals}
    half_of = halves(names)
    cases = []
    for row in ROWS:
        for kind, weights in row.animals:
            name = _name(row, kind, weights)
            if (half and half_of[name] != half) or (kinds is not None and kind not in kinds):
                continue
            config = default_run().with_values({**_values(row, kind), **(changes or {})})
            cases.append(ZooCase(name, config, weights, row.text, row.fork, row.true, half_of[name]))
    return cases


def _name(row: ZooRow, kind: str, weights: str) -> str:
    return "-".join(("zoo", row.scene, kind, weights or "own"))


def _values(row: ZooRow, kind: str) -> dict[str, Any]:
    if "clips" in FAMILIES[kind].capabilities:
        return {**row.changes, **({"checkpoint_every": row.fork.step} if row.fork else {})}
    base = {**_BASE, "kind": kind}
    if "phases" in section_types(kind)["model"].model_fields:
        base["phases"] = EXAM_BASE["phases"]
    if row.fork is not None:
        # a fork goes on from a checkpoint
        base["checkpoint_every"] = row.fork.step
    return {**base, **EXAM_KIND_CHANGES.get(kind, {}), **row.changes}


def write_texts(folder: Path, cases: Sequence[ZooCase], seed: int = 0) -> dict[str, RunConfig]:
    """Write the texts that the cases need below `folder`; each case's configuration with its path, by name."""
    texts = folder.resolve() / _TEXTS_FOLDER
    texts.mkdir(parents=True, exist_ok=True)
    for name in sorted({case.text for case in cases if case.text}):
        assert name in WRITERS
        (texts / f"{name}.txt").write_text(zoo_text(name, seed), encoding="utf-8")
    return {
        case.name: case.config.with_values({"source": "text", "path": str(texts / f"{case.text}.txt")})
        if case.text
        else case.config
        for case in cases
    }
