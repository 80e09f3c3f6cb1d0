"""The view of ablations: empty, finished, broken off; its form; and that a link shows the same again."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.views import ablation
from qcore.config.ablation_variants import BASE, variants_of
from qcore.experiments.ablation import CaseResult, base_config
from qcore.experiments.ablation_store import FOLDER, plan_ablation, train_ablation
from tests.pages.drive import charts, texts
from tests.pages.sent import charts_of

LOSSES = {BASE: (1.0, 1.02, 0.98), "diversity": (0.8, 0.83, 0.77), "z_loss": (1.2, 1.21, 1.22), "eos": (1.1, 0.9, 1.0)}


def script() -> None:
    from pages.session.lab import open_lab
    from pages.views import ablation

    ablation.show_ablation(open_lab())


def opened(runs: Path, monkeypatch: pytest.MonkeyPatch, **query: str) -> AppTest:
    monkeypatch.setenv("QCORE_RUNS", str(runs))
    at = AppTest.from_function(script, default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    return at.run()


def keep(runs: Path, monkeypatch: pytest.MonkeyPatch, name: str, seeds: int = 3, steps: int = 300) -> None:
    """An ablation of four variants whose cases were never trained."""

    def made_up(folder: Path, configs: Any, jobs: int, module: str, keep: Any) -> None:
        for case in configs:
            variant, _, seed = case.rpartition("-")
            loss = LOSSES[variant][int(seed)]
            curve = ((0, 4.0), (steps // 2, loss + 0.5), (steps, loss))
            done = CaseResult(case, variant, int(seed), "finished", "", steps, loss, curve, 100, 64, 9.0, 0.1, 0.9, 1.0)
            keep(json.dumps(asdict(done)))

    monkeypatch.setattr("qcore.experiments.ablation.fan_out", made_up)
    plan = plan_ablation(runs, base_config(steps=steps), [one for one in LOSSES if one != BASE], seeds, name)
    train_ablation(runs, plan, 1)


def test_an_empty_lab_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    at = opened(tmp_path, monkeypatch)
    assert not at.exception
    assert "press **Compare**" in texts(at)
    assert charts(at) == 0
    count = len(variants_of("phase_lm"))
    assert f"{count} variants × 3 seeds of 300 steps: {3 * count} runs to train." in texts(at)


def test_a_finished_ablation_is_a_forest_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keep(tmp_path, monkeypatch, "mine")
    at = opened(tmp_path, monkeypatch)
    assert not at.exception
    forest = charts_of(at)["ablation"]
    assert forest["layout"]["yaxis"]["ticktext"] == ["diversity", "eos", "z loss"]  # the best first
    table = at.dataframe[0].value
    assert table["change"].tolist() == ["plain cross-entropy", "diversity", "eos", "z loss"]
    assert table["verdict"].tolist() == ["the base", "helps", "no detectable effect", "hurts"]
    assert table["reached by"].tolist()[1] == "3 of 3"
    assert "3 comparisons at 95 %" in texts(at)
    assert at.query_params["ablation"] == "mine"


def test_a_link_shows_the_same_and_one_to_nothing_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keep(tmp_path, monkeypatch, "older", steps=60)
    keep(tmp_path, monkeypatch, "newer", steps=90)
    assert opened(tmp_path, monkeypatch, ablation="older").selectbox[0].value == "older"
    assert opened(tmp_path, monkeypatch, ablation="gone").selectbox[0].value == "newer"


def test_one_that_broke_off_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keep(tmp_path, monkeypatch, "mine", seeds=2)
    document = json.loads((tmp_path / FOLDER / "mine.json").read_text())
    document["cases"] = document["cases"][:5]
    (tmp_path / FOLDER / "mine.json").write_text(json.dumps(document))
    (tmp_path / FOLDER / "mine" / "log.txt").write_text("no *room* left on the disk")
    started = []
    monkeypatch.setattr(ablation, "start_ablation", lambda runs, plan, jobs: started.append(plan) or plan.name)
    at = opened(tmp_path, monkeypatch)
    assert "It stopped after 5 of 8 runs. no \\*room\\* left on the disk" in texts(at)
    at.button(key="ablation:on").click().run()
    assert not at.exception
    assert [(plan.name, len(plan.results), plan.total) for plan in started] == [("mine", 5, 8)]


def test_one_that_trains_shows_progress_and_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keep(tmp_path, monkeypatch, "mine", seeds=2)
    ended = []
    monkeypatch.setattr(ablation, "is_training", lambda runs, name: True)
    monkeypatch.setattr(ablation, "cancel_ablation", lambda runs, name: ended.append(name))
    at = opened(tmp_path, monkeypatch)
    assert not at.exception
    at.button(key="ablation:end").click().run()
    assert ended == ["mine"]


def test_the_form_starts_what_it_says_and_refuses_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started = []
    monkeypatch.setattr(ablation, "start_ablation", lambda runs, plan, jobs: started.append((plan, jobs)) or plan.name)
    at = opened(tmp_path, monkeypatch)
    at.multiselect(key="ablation:only:phase_lm").set_value(["z_loss", "balance"]).run()
    at.number_input(key="ablation:seeds").set_value(2).run()
    assert "4 variants × 2 seeds of 300 steps: 8 runs to train." in texts(at)
    at.button(key="ablation:go").click().run()
    assert not at.exception
    [(plan, jobs)] = started
    assert ([variant.name for variant in plan.variants], plan.seeds, jobs) == (
        [BASE, "z_loss", "experts", "balance"],
        2,
        2,
    )
    at.selectbox(key="ablation:start").set_value("tiny-transformer").run()
    assert not at.exception
    assert "variants × 2 seeds" in texts(at)


def test_every_widget_has_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keep(tmp_path, monkeypatch, "mine")
    at = opened(tmp_path, monkeypatch)
    widgets = [*at.button, *at.selectbox, *at.multiselect, *at.number_input, *at.get("button_group")]
    assert len(widgets) > 6
    assert [widget.proto.label for widget in widgets if not widget.proto.help] == []
