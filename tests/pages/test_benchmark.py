"""The benchmark page: what was found, live progress, the form, the link, and the empty state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.views import model_comparison
from qcore.config import default_run
from qcore.experiments.benchmark import bench_spec
from qcore.experiments.benchmark_store import Benchmark, QualityRun, write_benchmark
from qcore.lab import Lab, LabError
from tests.pages.drive import press, texts
from tests.pages.sent import charts_of

PAGE = Path(__file__).resolve().parents[2] / "pages" / "benchmark.py"


def open_page(**query: str) -> AppTest:
    """The page alone, as the app shows it."""
    at = AppTest.from_file(str(PAGE), default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    return at.run()


def measurement(label: str, ratio: float) -> dict[str, Any]:
    part = {"name": "head", "formula": "2·b·s·D·V", "flops": 5e8, "parameters": 1000}
    return {
        "label": label, "config": "", "kind": label, "batch": 4, "tokens": 64, "parameters": 351_234, "flops": 1.25e9,
        "elementwise": 2e7, "parts": [part],
        "timing": {"forward_ms": 10.0, "backward_ms": 20.0, "step_ms": 33.0, "ratio": [ratio, 0.9, 1.3]},
        "tokens_per_second": 7757.0, "gflops_forward": 125.0, "gflops_backward": 125.0,
        "generation": [[100, 900.0], [2000, 880.0]], "peak_bytes": 80_000_000, "forecast_bytes": 76_000_000,
    }  # fmt: skip


def write(folder: Path, name: str, **changes: Any) -> None:
    spec = bench_spec(["phase_lm", "transformer"], default_run("phase_lm"), name=name, seeds=2)
    runs = tuple(
        QualityRun(
            f"{label}-{seed}", label, ("tokens", "seconds"), seed, "finished", 400, 1000, 12.0, 1.5,
            2.0 + 0.1 * seed, 999, "", (0, 500, 1000), (0.0, 6.0, 12.0), (5.0, 3.0, 2.1),
        )
        for label in ("phase_lm", "transformer")
        for seed in (0, 1)
    )  # fmt: skip
    rows = (measurement("phase_lm", 1.12), measurement("transformer", 1.0))
    found = Benchmark(spec, 1.0, "done", "finished", rows, runs, 4, {"bigram": 3.4, "generator": None})
    write_benchmark(folder, Benchmark(**{**vars(found), **changes}))


def test_without_any_benchmark_the_page_says_what_to_do(empty: Lab) -> None:
    at = open_page()
    assert not at.exception
    assert "Nothing has been measured yet" in at.info[0].value
    assert "8.858 GMAC" in at.dataframe[0].value["ours"][0]


def test_a_benchmark_is_a_table_charts_and_formulas(empty: Lab, tmp_path: Path) -> None:
    write(tmp_path, "first")
    at = open_page(bench="first")
    assert not at.exception
    table = at.dataframe[0].value
    assert list(table["model"]) == ["phase_lm", "transformer"]
    assert list(table["ratio"]) == ["1.12 (0.90–1.30)", "1.00 (0.90–1.30)"]
    assert table["tokens"][0].startswith("2.050 ± 0.6")
    assert list(at.dataframe[1].value["formula"]) == ["2·b·s·D·V"]
    found = charts_of(at)
    assert {"generation", "quality"} <= set(found)
    assert [shape["y0"] for shape in found["quality"]["layout"]["shapes"]] == [3.4]


def test_the_link_chooses_benchmark_and_axis(empty: Lab, tmp_path: Path) -> None:
    write(tmp_path, "first")
    write(tmp_path, "second", created=2.0)
    at = open_page(bench="first", equal="seconds")
    assert at.selectbox[0].value == "first"
    assert charts_of(at)["quality"]["layout"]["xaxis"]["title"]["text"] == "seconds of training"
    assert open_page().selectbox[0].value == "second", "the newest one"


def test_progress_and_cancel_while_it_runs(empty: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "live", state="running", stage="training 1 of 4 runs", runs_total=8)
    ended: list[str] = []
    monkeypatch.setattr(model_comparison, "is_working", lambda runs_dir, name: not ended)
    monkeypatch.setattr(model_comparison, "cancel_benchmark", lambda runs_dir, name: ended.append(name))
    at = open_page()
    assert "training 1 of 4 runs" in texts(at)
    press(at, "Cancel")
    assert ended == ["live"]


def test_one_that_broke_off_says_why(empty: Lab, tmp_path: Path) -> None:
    write(tmp_path, "broken", state="running", measurements=(), runs=())
    (tmp_path / ".bench" / "broken" / "log.txt").write_text("ValueError: no *text*")
    at = open_page()
    assert not at.exception
    assert "no \\*text\\*" in at.error[0].value


def test_the_form_starts_a_benchmark(empty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(model_comparison, "start_benchmark", lambda runs_dir, spec: started.append(spec) or spec.name)
    at = open_page()
    at.text_input(key="bench:more").set_value("pam:complex_state=false")
    at.text_input(key="bench:changes").set_value("context=64, batch_size=2")
    press(at, "Start the benchmark")
    assert not at.exception
    assert set(started[0].models) == {"phase_lm", "pam", "flux_lm", "transformer", "pam:complex_state=false"}
    assert "context: 64" in started[0].models["phase_lm"]
    assert started[0].match == "parameters"


def test_a_mistake_in_the_form_is_answered(empty: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    at = open_page()
    at.text_input(key="bench:changes").set_value("contxt=64")
    press(at, "Start the benchmark")
    assert "contxt" in at.error[0].value

    def taken(runs_dir: Path, spec: Any) -> str:
        raise LabError("there is a benchmark 'x' already: choose another name")

    monkeypatch.setattr(model_comparison, "start_benchmark", taken)
    at.text_input(key="bench:changes").set_value("")
    press(at, "Start the benchmark")
    assert "choose another name" in at.error[0].value


def test_every_widget_has_help(empty: Lab) -> None:
    at = open_page()
    kinds = ("button", "text_input", "selectbox", "multiselect", "number_input")
    unexplained = [element.label for kind in kinds for element in at.get(kind) if not element.help]
    assert unexplained == []
