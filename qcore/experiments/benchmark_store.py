"""What a benchmark is and what it found, as plain records that lie as JSON under <runs>/.bench/<name>/.

Rows for a page or a table are made here: means over seeds with Student's interval, and published counts beside ours.
"""

from __future__ import annotations

import json
import logging
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qcore.base import read_json
from qcore.base.words import number_words
from qcore.experiments.statistics import t_quantile
from qcore.experiments.stored_records import parse_record
from qcore.runs.errors import LabError
from qcore.runs.names import check_name
from qcore.store import BAD_DATA, shapes

FOLDER = ".bench"
RESULT_FILE = "result.json"
EQUAL = ("tokens", "seconds")
FORMAT, VERSION = "collapse-lab-benchmark", 1
_FLUX_LAYER = 39.6e6
"""Operations of a Quantum Flux layer at s = 1,024, D = 768, each elementwise one counted."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchSpec:
    """What is compared.

    Attributes:
        models: label → run configuration as YAML, before matching.
        reference: label of the model that the others are matched to and timed against.
        match: none, parameters or compute.
        equal: what the quality runs share, of `tokens` and `seconds`; none leaves quality out.
        positions: of generation.
        windows: held-out windows of the final evaluation, 0 for all.
    """

    name: str
    models: dict[str, str]
    reference: str
    match: str = "parameters"
    equal: tuple[str, ...] = EQUAL
    seeds: int = 1
    jobs: int = 2
    rounds: int = 9
    positions: tuple[int, ...] = (100, 500, 1000, 2000)
    windows: int = 0


@dataclass(frozen=True)
class QualityRun:
    """One trained run.

    Attributes:
        equal: which comparisons it belongs to.
        nats, bits_per_byte: held out, at the end.
        predicted: held-out tokens.
        seconds: of training.
        curve_tokens, curve_seconds, curve_bits: held-out bits per byte on the way, on fewer windows.
    """

    name: str
    label: str
    equal: tuple[str, ...]
    seed: int
    state: str
    steps: int
    tokens: int
    seconds: float
    nats: float | None = None
    bits_per_byte: float | None = None
    predicted: int = 0
    message: str = ""
    curve_tokens: tuple[float, ...] = ()
    curve_seconds: tuple[float, ...] = ()
    curve_bits: tuple[float, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A benchmark and what is known of it by now.

    Attributes:
        stage: in words.
        measurements: as `qcore.experiments.measure_models.Measurement`, as mappings.
        runs_total: quality runs in all.
        references: bits per byte on the held-out side.
    """

    spec: BenchSpec
    created: float
    stage: str = ""
    state: str = "running"
    measurements: tuple[dict[str, Any], ...] = ()
    runs: tuple[QualityRun, ...] = ()
    runs_total: int = 0
    references: dict[str, float | None] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Quality:
    """Held-out bits per byte of one model over its seeds.

    Attributes:
        reach: half the 95 % interval, None for one seed.
        seconds: mean of training.
    """

    label: str
    equal: str
    seeds: int
    mean: float
    reach: float | None
    steps: int
    seconds: float


def _ratio(value: Any, where: str) -> None:
    """Median, least and largest."""
    shapes.many(shapes.number)(value, where)
    if len(value) != 3:
        raise shapes.refuse(where, value, "a list of three numbers")


_MEASURED = shapes.record(
    {
        "label": shapes.text,
        "batch": shapes.count,
        "tokens": shapes.count,
        "parameters": shapes.count,
        "flops": shapes.number,
        "elementwise": shapes.number,
        "parts": shapes.many(
            shapes.record(
                {"name": shapes.text, "formula": shapes.text, "flops": shapes.number, "parameters": shapes.number}
            )
        ),
        "timing": shapes.record(
            {"forward_ms": shapes.number, "backward_ms": shapes.number, "step_ms": shapes.number, "ratio": _ratio}
        ),
        "tokens_per_second": shapes.finite,
        "gflops_forward": shapes.number,
        "generation": shapes.many(shapes.pair(shapes.count, shapes.number)),
        "peak_bytes": shapes.optional(shapes.number),
        "forecast_bytes": shapes.optional(shapes.number),
    }
)
"""What pages and tables read of a measurement."""


def quality_rows(runs: Sequence[QualityRun]) -> list[Quality]:
    """A row a model and comparison, in the order in which they come; runs without a number are left out."""
    groups: dict[tuple[str, str], list[QualityRun]] = {}
    for run in runs:
        for equal in run.equal:
            if run.bits_per_byte is not None:
                groups.setdefault((run.label, equal), []).append(run)
    rows = []
    for (label, equal), members in groups.items():
        values = [run.bits_per_byte for run in members if run.bits_per_byte is not None]
        mean, reach = statistics.fmean(values), None
        if len(values) > 1:
            reach = t_quantile(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        seconds = statistics.fmean(run.seconds for run in members)
        rows.append(Quality(label, equal, len(values), mean, reach, members[0].steps, seconds))
    return rows


def bench_folder(runs_dir: Path, name: str) -> Path:
    """Where a benchmark of this name lies.

    Raises:
        LabError: for a bad name.
    """
    return runs_dir / FOLDER / check_name(name)


def benchmarks(runs_dir: Path) -> list[Benchmark]:
    """All benchmarks that can be read, newest first."""
    found = []
    for path in (runs_dir / FOLDER).glob(f"*/{RESULT_FILE}"):
        try:
            found.append(read_benchmark(runs_dir, path.parent.name))
        except (LabError, OSError) as error:  # one that is damaged hides no other
            log.warning("%s is left out: %s", path, error)
    return sorted(found, key=lambda one: -one.created)


def read_benchmark(runs_dir: Path, name: str) -> Benchmark:
    """`LabError` when there is none of that name or its file is damaged."""
    path = bench_folder(runs_dir, name) / RESULT_FILE
    try:
        document = read_json(path)
        if (document.pop("format"), document.pop("version")) != (FORMAT, VERSION):
            raise LabError(f"the benchmark {name!r} is of another version: move it away")
        found = parse_record(Benchmark, document, RESULT_FILE)
        for place, row in enumerate(found.measurements):
            _MEASURED(row, f"{RESULT_FILE}.measurements[{place}]")
        return found
    except FileNotFoundError:
        raise LabError(f"there is no benchmark {name!r}: start one with qcore bench") from None
    except LabError:
        raise
    except BAD_DATA as error:
        raise LabError(f"the benchmark {name!r} cannot be read ({error}): move its folder away") from error


def write_benchmark(runs_dir: Path, found: Benchmark) -> None:
    """Write aside, then in place: a reader never sees half of it."""
    folder = bench_folder(runs_dir, found.spec.name)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{RESULT_FILE}.{os.getpid()}"
    document = {"format": FORMAT, "version": VERSION, **asdict(found)}
    aside.write_text(json.dumps(document), encoding="utf-8")
    os.replace(aside, folder / RESULT_FILE)


@dataclass(frozen=True)
class PublishedCount:
    """A number of the field's papers beside ours.

    Attributes:
        published, ours: as text with unit.
        formula: of ours.
    """

    what: str
    published: str
    ours: str
    formula: str
    reason: str


def published_counts() -> tuple[PublishedCount, ...]:
    """Counts at b = 1, s = 1,024, D = 768, V = 50,257, with the reason of each difference."""
    s, D, V, F = 1024, 768, 50257, 3072
    layer = 2 * (4 * s * D * D + 2 * s * s * D + 2 * s * D * F)
    head = 2 * D * V * s
    own = 24 * s * s + 2 * s * D
    one_by_one = 36 * s * s + 2 * s * D

    def whole(layers: int) -> str:
        """Share of a forward pass, with the least and the largest count of a flux layer."""
        low, high = ((head + layers * flux) / (head + layers * layer) for flux in (own, _FLUX_LAYER))
        return f"{number_words(100 * low, places=2)}–{number_words(100 * high, places=2)} % at {layers} layers"

    return (
        PublishedCount(
            "dense transformer layer",
            "8.858 G",
            f"{number_words(layer / 2e9, places=3)} GMAC = {number_words(layer / 1e9, places=2)} GFLOP",
            "2·(12·s·D² + 2·s²·D)",
            "The published figure counts multiply-accumulates; one is two operations. Attention is counted over all "
            "pairs, although a causal kernel may skip half of them.",
        ),
        PublishedCount(
            "Quantum Flux layer",
            "24.4 M published, 26.74 M by its own formula",
            f"{number_words(own / 1e6, places=2)} M by that formula; "
            f"{number_words(one_by_one / 1e6, places=1)} M for pairs and projection counted one by one, "
            f"about {number_words(_FLUX_LAYER / 1e6, places=1)} M with what a token needs besides",
            "24·s² + 2·s·D; one by one 36·s² + 2·s·D",
            "26.74 M is 12 operations a pair of tokens in each of Heun's two evaluations, and the projection to the "
            "plane; 24.4 M does not follow from it. With mean, deviation, comparison and normalisation of every row "
            "there are 18 a pair.",
        ),
        PublishedCount(
            "read-out",
            "79.05 G",
            f"{number_words(head / 1e9, places=2)} GFLOP",
            "2·D·V·s",
            "The same count. Both models share it, and it is larger than four dense layers: a comparison of layers "
            "alone hides it.",
        ),
        PublishedCount(
            "whole forward, Flux ÷ transformer",
            "0.3 % for layers alone; 42.7 % at 6 layers, 27.3 % at 12 with the read-out",
            f"{whole(6)}, {whole(12)}",
            "(head + L·flux) ÷ (head + L·dense)",
            "With the read-out in both, a forward pass costs a quarter to a half, not a three-hundredth. The range is "
            "that of the two counts of a flux layer above; the quoted numbers round its ends. Measured times can "
            "differ more: elementwise work is limited by memory, not by arithmetic.",
        ),
    )
