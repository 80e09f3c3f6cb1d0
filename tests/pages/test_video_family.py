"""Pages that show both families, over video runs: control room, Generations, Gradients, Findings, and the pages about
language, which send a person on.
"""

from pathlib import Path
from typing import Any

import pytest

from pages.session import read_cache
from qcore.config import PRESETS, VIDEO_KINDS
from qcore.lab import Lab
from qcore.store import DATABASE_NAME, RunWriter
from tests.pages.drive import (
    FINDINGS,
    GENERATIONS,
    GRADIENTS,
    INTERFERENCE,
    PHASE,
    TOKENS,
    VIDEO,
    open_app,
    press,
    texts,
)
from tests.pages.filmed import CLIPS, FRAMES, drifting, generation, write_video_run
from tests.pages.sent import charts_of, films_of, links


@pytest.mark.parametrize("page", [PHASE, INTERFERENCE, TOKENS])
def test_language_pages_send_a_video_run_to_its_page(page: str, films: Lab):
    at = open_app(page, run="ghost")
    assert not at.exception
    assert "trains on video" in at.info[0].value
    assert "video" in links(at)
    assert not charts_of(at)


def test_the_video_page_sends_a_language_run_to_its_pages(films: Lab):
    at = open_app(VIDEO, run="language")
    assert not at.exception
    assert "trains on text" in at.info[0].value
    assert {"tokens", ""} <= links(at)  # the address of the control room is the app's own
    assert not films_of(at)


def test_gradients_speak_of_the_flow_loss(films: Lab):
    at = open_app(GRADIENTS, run="ghost")
    assert not at.exception
    found = charts_of(at)
    assert found["ratio"]["layout"]["title"]["text"].startswith("Pull relative to the flow loss<")
    assert found["terms"]["layout"]["xaxis"]["title"]["text"].endswith("flow loss = 1")
    assert {trace["name"] for trace in found["ratio"]["data"]} == {"changes", "orthogonality", "temporal"}
    assert "held-out clips" in texts(at)
    assert "cross-entropy" not in texts(at)
    language = charts_of(open_app(GRADIENTS, run="language"))
    assert language["ratio"]["layout"]["title"]["text"].startswith("Pull relative to the cross-entropy<")


def test_findings_of_a_video_run_are_cards_as_well(films: Lab):
    at = open_app(FINDINGS, run="ghost")
    assert not at.exception
    assert "since step 120" in texts(at)


def test_the_control_room_of_a_video_run(films: Lab):
    at = open_app(run="ghost")
    assert not at.exception
    loss = charts_of(at)["loss"]
    assert {trace["name"] for trace in loss["data"] if trace["x"]} >= {"flow loss, training", "flow loss, held out"}
    assert "mean squared error" in loss["layout"]["title"]["text"]
    assert "Unit of the loss" not in [group.label for group in at.button_group]
    shown = texts(at)
    assert "Frames/s" in shown
    assert "<b>4,321</b>" in shown
    assert "<b>0.323</b>" in shown  # the end of the curve, not what the status row said half a second before
    assert "nats" not in shown


def test_knobs_of_a_video_run_begin_with_the_flow(films: Lab):
    at = open_app(run="ghost")
    keys = {str(widget.key) for kind in (at.slider, at.selectbox, at.button_group) for widget in kind}
    shown = {key.split(":")[2] for key in keys if key.startswith("knob:")}
    of_flow = {name for name, state in films.controls("ghost").items() if state.control.section in ("flow", "sampling")}
    assert shown == of_flow
    assert {"noise_correlation", "flow_path", "sample_noise_correlation"} <= shown


@pytest.mark.parametrize("title", ["Objective", "Optimiser", "Probes"])
def test_every_other_live_control_of_a_video_run_has_a_knob(title: str, films: Lab):
    at = open_app(run="ghost", flow_knobs=title)
    assert not at.exception
    kinds = (at.select_slider, at.slider, at.number_input, at.button_group, at.selectbox, at.text_area, at.toggle)
    keys = {str(widget.key) for kind in kinds for widget in kind}
    section = {"Objective": "objective", "Optimiser": "optim", "Probes": "probes"}[title]
    expected = {name for name, state in films.controls("ghost").items() if state.control.section == section}
    assert expected == {key.split(":")[2] for key in keys if key.startswith("knob:ghost:")}


def test_going_from_a_video_run_to_a_language_run_and_back_keeps_both_pages_whole(films: Lab):
    at = open_app(run="ghost")
    for nonce, run in enumerate(("language", "ghost", "language"), 1):
        # As the table of runs opens one: AppTest loses the picker in the sidebar after its first run.
        at.session_state["run"], at.session_state["run:nonce"] = run, nonce
        at.run()
        assert not at.exception
        unit = "nats per token" if run == "language" else "mean squared error"
        assert unit in charts_of(at)["loss"]["layout"]["title"]["text"]


def test_the_table_of_runs_has_both_families(films: Lab):
    at = open_app(view="All runs")
    assert not at.exception
    table = at.dataframe[0].value.set_index("run")
    assert table.loc["ghost", "held out"] == 0.297
    assert table.loc["ghost", "speed"] == 4_321
    assert table.loc["ghost", "model"] == "video_flow"


def test_the_menu_of_presets_tells_text_video_and_faults_apart(empty: Lab):
    options = open_app().selectbox(key="preset").options
    groups = ["Fault" if title.startswith("Fault ") else title.partition(":")[0] == "Video" for title in options]
    assert groups == sorted(groups, key=[False, True, "Fault"].index)
    for title, preset in zip(options, PRESETS.values(), strict=True):
        assert title.startswith(("Video: ", "Fault ")) == (preset.config.kind in VIDEO_KINDS or "fault-" in preset.name)


def test_a_video_run_is_made_from_the_form_with_its_flow(empty: Lab):
    at = open_app(preset="tiny")
    next(group for group in at.button_group if group.label == "Model family").set_value("video_flow").run()
    assert not at.exception
    assert "Flow" in [expander.label for expander in at.expander]
    at.number_input(key="new:tiny:video_flow:noise_correlation").set_value(1.0).run()
    at.selectbox(key="new:tiny:video_flow:flow_path").set_value("ring").run()
    captions = "\n".join(caption.value for caption in at.caption)
    assert "8 frames of 8 × 8 px" in captions
    assert "ring path, noise correlation 1" in captions


def test_clips_are_asked_for_with_the_chosen_settings(films: Lab, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []

    def sample_clips(name: str, settings: Any, *, checkpoint: int | None = None) -> Any:
        asked.append((name, settings, checkpoint))
        made = generation(drifting(2), 200, settings.sample_seed, "prompt")
        with RunWriter(films.runs_dir / name / DATABASE_NAME) as writer:
            writer.put_generation(made)
        yield made

    monkeypatch.setattr(films, "sample_clips", sample_clips, raising=False)
    monkeypatch.setattr("pages.views.prompt.sources", lambda lab, info: {"checkpoint of step 200 (end of run)": 200})
    at = open_app(GENERATIONS, run="plain")
    at.number_input(key="clips:plain:sample_seed").set_value(7).run()
    at.number_input(key="clips:plain:sample_noise_correlation").set_value(1.0).run()
    at.selectbox(key="clips:plain:solver").set_value("heun").run()
    press(at, "Generate")
    assert not at.exception
    [(name, settings, checkpoint)] = asked
    assert (name, checkpoint) == ("plain", 200)
    assert (settings.sample_seed, settings.sample_noise_correlation, settings.solver) == (7, 1.0, "heun")
    [row] = films_of(at)["generations"]["rows"]
    assert row["count"] == 2
    assert "seed 7" in row["label"]
    assert at.dataframe[0].value["coherence"][0] == pytest.approx(0.3)


def test_a_refused_sample_says_why(films: Lab, monkeypatch: pytest.MonkeyPatch):
    def sample_clips(name: str, settings: Any, *, checkpoint: int | None = None) -> Any:
        raise ValueError("the *sample* was refused")
        yield

    monkeypatch.setattr(films, "sample_clips", sample_clips, raising=False)
    monkeypatch.setattr("pages.views.prompt.sources", lambda lab, info: {"live model": None})
    at = press(open_app(GENERATIONS, run="ghost"), "Generate")
    assert not at.exception
    assert "refused" in at.error[0].value


def test_without_a_model_nothing_can_be_asked(films: Lab):
    at = open_app(GENERATIONS, run="ghost")
    assert not at.exception
    assert "no checkpoint and no live model" in at.info[0].value
    assert next(button for button in at.button if button.label == "Generate").disabled


def test_the_timeline_shows_the_same_noise_at_several_steps_beside_the_data(films: Lab):
    at = open_app(GENERATIONS, run="ghost", gen="Timeline")
    assert not at.exception
    rows = films_of(at)["timeline"]["rows"]
    assert [row["label"] for row in rows] == ["step 100", "step 200", "data, step 200"]
    found = charts_of(at)
    assert [shape["y0"] for shape in found["motion"]["layout"]["shapes"]] == [0.66, 1.0]
    at.selectbox(key="seed:ghost").set_value("seed 1").run()
    assert not at.exception
    assert "seed 1" in texts(at)


def test_a_timeline_without_samples_says_when_they_come(films: Lab):
    at = open_app(GENERATIONS, run="plain", gen="Timeline")
    assert not at.exception
    assert "ended before its clips from fixed seeds were drawn" in at.info[0].value


def test_a_damaged_clip_is_named_and_the_others_are_shown(empty: Lab, tmp_path: Path):
    write_video_run(tmp_path, "run", last=200, every=100)
    with RunWriter(tmp_path / "run" / DATABASE_NAME) as writer:
        writer.put_generation(
            generation(drifting(2), 100, 0, "timeline", tokens=[{"shape": [9, 9, 9, 1], "pixels": ""}])
        )
    at = open_app(GENERATIONS, run="run", gen="Timeline")
    assert not at.exception
    assert "does not fit" in at.error[0].value
    assert [row["label"] for row in films_of(at)["timeline"]["rows"]] == ["step 200", "data, step 200"]


def test_clips_of_a_generation_are_read_once(films: Lab, monkeypatch: pytest.MonkeyPatch):
    state = read_cache.run_version(films, "ghost")
    first = read_cache.clips(films, state, "timeline-100-0")
    assert first.shape == (CLIPS, FRAMES, 8, 8, 1)
    assert read_cache.clips(films, state, "timeline-100-0") is first
