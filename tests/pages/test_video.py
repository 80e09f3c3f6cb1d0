"""The Video page: every view in every state of a run, with every choice."""

import html
import re
from pathlib import Path
from typing import Any

import pytest

from pages.views import exact_flow, published_guide
from pages.widgets import frame_measures
from qcore.detect import GUIDE, Band, Fix, Guide
from qcore.lab import Lab
from qcore.probes import catalog
from qcore.store import DATABASE_NAME, RunWriter
from qcore.viz import ClipRow, clip_bytes
from tests.pages.drive import VIDEO, open_app, texts
from tests.pages.filmed import CLIPS, FRAMES, drifting, write_video_run
from tests.pages.filmed import exact_flow as drawn_flow
from tests.pages.sent import charts_of, films_of

VIEWS = ("Frames", "Path and anchor", "Exact flow", "The guide's numbers")


@pytest.mark.parametrize("run", ["ghost", "plain"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_drawn_and_is_in_the_link(view: str, run: str, films: Lab):
    at = open_app(VIDEO, run=run, video=view)
    assert not at.exception
    assert at.session_state["video"] == view
    for name, figure in charts_of(at).items():
        assert figure["layout"]["title"]["text"], name


def test_data_noised_denoised_and_generated_clips_play_side_by_side(films: Lab):
    at = open_app(VIDEO, run="ghost")
    film = films_of(at)["film"]
    assert [row["label"] for row in film["rows"]] == [
        f"{name}, step 200" for name in ("data", "noised z", "denoised x̂₀", "generated")
    ]
    assert {row["count"] for row in film["rows"]} == {CLIPS}
    assert film["rows"][1]["captions"] == ["t = 0.90", "t = 0.70", "t = 0.50", "t = 0.30"]
    assert film["layout"] == "film"


def test_the_strip_shows_all_frames_of_the_chosen_clip(films: Lab):
    at = open_app(VIDEO, run="ghost", clip="3")
    strip = films_of(at)["strip"]
    assert strip["rows"][0]["label"] == "data, step 200, clip 3"
    assert strip["rows"][0]["places"] == list(range(FRAMES))
    expected = clip_bytes([ClipRow("", drifting(CLIPS)[2:3])], layout="strip", alt="")
    element = next(one for one in at.get("bidi_component") if one.proto.id.endswith("chart:strip"))
    assert expected[-FRAMES * 64 :] in bytes(element.proto.bytes)


def test_three_similarity_maps_share_one_scale(films: Lab):
    maps = [figure for name, figure in charts_of(open_app(VIDEO, run="ghost")).items() if "similarity" in name]
    assert len(maps) == 3
    assert {(figure["data"][0]["zmin"], figure["data"][0]["zmax"]) for figure in maps} == {(-1, 1)}


def test_measures_have_the_datas_own_value_as_a_line(films: Lab):
    found = charts_of(open_app(VIDEO, run="ghost"))
    for name, value in (("divergence", 0.85), ("coherence", 0.66), ("lag_ratio", 1.0), ("motion_ratio", 1.0)):
        assert [shape["y0"] for shape in found[name]["layout"]["shapes"]] == [value]
        shown = {trace["name"] for trace in found[name]["data"] if trace["name"] != "changes"}
        assert shown == ({"denoised", "generated"} if "ratio" in name else {"data", "denoised", "generated"})


def test_the_page_says_which_measures_flicker_can_fake(films: Lab):
    at = open_app(VIDEO, run="ghost")
    heads = [head.value for head in at.header]
    assert heads == ["Motion, which flicker cannot fake", "Single frames, which flicker can fake"]
    assert "count only beside the curves above" in texts(at)


def test_the_numbers_are_those_of_the_chosen_step(films: Lab):
    newest, oldest = texts(open_app(VIDEO, run="ghost")), texts(open_app(VIDEO, run="ghost", step="0"))
    assert "<b>0.76 · 0.85</b>" in newest
    assert "<b>0.17 · 0.85</b>" in oldest


def test_a_measure_that_the_step_lacks_is_a_dash_and_not_an_earlier_value(empty: Lab, tmp_path: Path):
    """Clips that stand still have no coherence: that of clips which moved earlier must not stand beside them."""
    write_video_run(tmp_path, "still", last=40, every=20)
    with RunWriter(tmp_path / "still" / DATABASE_NAME) as writer:
        writer.log_arrays(60, "frames", empty.reader("still").arrays("frames")[1])
        writer.log_scalars(60, {"frames/generated/divergence": 0.03, "frames/generated/lag_ratio": float("nan")})
    shown = texts(open_app(VIDEO, run="still"))
    assert "Generated clips · the data, step 60" in shown
    cells = dict(re.findall(r"<span>([^<]+)</span><b>([^<]+)</b>", shown))
    assert cells["Divergence"] == "0.03 · 0.85"
    assert (cells["Coherence"], cells["Change"]) == ("– · 0.66", "not finite · 1.00")
    earlier = texts(open_app(VIDEO, run="still", step="40"))
    assert dict(re.findall(r"<span>([^<]+)</span><b>([^<]+)</b>", earlier))["Coherence"] == "0.59 · 0.66"


def test_a_step_before_the_first_sample_is_shown_without_generated_clips(films: Lab):
    at = open_app(VIDEO, run="ghost", step="20")
    assert not at.exception
    assert [row["label"] for row in films_of(at)["film"]["rows"]] == [
        f"{name}, step 20" for name in ("data", "noised z", "denoised x̂₀")
    ]
    assert charts_of(at)["similarity_generated"]["data"] == []


def test_a_step_whose_path_says_nothing_of_the_data_is_drawn(films: Lab, video_dir: Path, empty: Lab, tmp_path: Path):
    write_video_run(tmp_path, "ring", last=0)
    with RunWriter(tmp_path / "ring" / DATABASE_NAME) as writer:
        found = empty.reader("ring").arrays("frames")
        assert found is not None
        kept = {name: value for name, value in found[1].items() if not name.endswith("y_denoised")}
        writer.log_arrays(20, "frames", {name: value for name, value in kept.items() if name != "singular_denoised"})
    for view in VIEWS[:2]:
        assert not open_app(VIDEO, run="ring", video=view).exception


def test_files_that_were_skipped_are_named(films: Lab):
    at = open_app(VIDEO, run="ghost")
    assert "1 file of the folder could not be read" in at.warning[0].value
    assert "broken\\</i\\>" in at.warning[0].value
    assert not open_app(VIDEO, run="plain").warning


def test_files_that_were_skipped_are_counted_beyond_those_that_were_kept_by_name(empty: Lab, tmp_path: Path):
    write_video_run(tmp_path, "many", last=0, skipped=({"path": "a.mp4", "reason": "is none"},))
    with RunWriter(tmp_path / "many" / DATABASE_NAME) as writer:
        writer.set_meta("skipped_count", 1234)
    warning = open_app(VIDEO, run="many").warning[0].value
    assert warning.startswith("1,234 files of the folder could not be read")
    assert warning.endswith("and 1,233 more")


def test_the_guides_bands_are_drawn_only_when_asked_for(films: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frame_measures, "GUIDE", STATED)
    plain = charts_of(open_app(VIDEO, run="ghost"))["divergence"]["layout"]["shapes"]
    asked = charts_of(open_app(VIDEO, run="ghost", bands="true"))["divergence"]["layout"]["shapes"]
    assert sorted({shape["y0"] for shape in asked} - {shape["y0"] for shape in plain}) == [2.0]


STATED = Guide(
    (
        Band("divergence", "excellent", 2.0, None, 0.85, "White noise has it."),
        Band("energy", "healthy", 0.5, 3.0, 0.57, "<b>static</b> clips pass."),
        Band(catalog.TRAIN_STEP_MS, "warning", 20.0, None, None, "Warned always."),
    ),
    (Fix("averaging", "t_star", 0.15, "Changed nothing."),),
)


def test_the_guide_stands_beside_the_run_the_data_and_the_verdict(films: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(published_guide, "GUIDE", STATED)
    shown = texts(open_app(VIDEO, run="ghost", video=VIEWS[3]))
    assert "above 2" in shown
    assert "0.76 outside" in shown
    assert "0.85 outside" in shown
    assert "between 0.5 and 3" in shown
    assert "0.58 inside" in shown
    assert "&lt;b&gt;static&lt;/b&gt; clips pass" in shown
    assert "set t star to 0.15" in shown
    assert "Changed nothing." in shown
    assert "22.00 inside" in shown


def test_every_band_and_fix_of_the_guide_is_on_the_page(films: Lab):
    shown = texts(open_app(VIDEO, run="ghost", video=VIEWS[3]))
    for stated in (*GUIDE.bands, *GUIDE.fixes):
        assert html.escape(stated.verdict) in shown


def test_the_path_has_weights_times_and_its_jump(films: Lab):
    found = charts_of(open_app(VIDEO, run="ghost", video=VIEWS[1]))
    names = {trace["name"] for trace in found["path"]["data"]}
    assert {"α: noise", "β: anchor", "γ: frames of the data", "32 times drawn"} <= names
    assert [shape["x0"] for shape in found["path"]["layout"]["shapes"]] == pytest.approx([0.2])
    assert {"tomography", "spectrum", "energy", "entanglement", "anchor_spread"} <= set(found)


def test_a_path_without_anchor_says_which_have_one(films: Lab):
    at = open_app(VIDEO, run="plain", video=VIEWS[1])
    assert "no anchor" in at.info[0].value
    assert "quantum" in at.info[0].value
    assert "anchor" not in films_of(at)


@pytest.mark.parametrize(("rho", "word"), [("1", "one motion"), ("0.999", "too little of the noise"), ("0", "own way")])
def test_the_exact_flow_says_what_the_noise_left_to_choose(rho: str, word: str, films: Lab):
    at = open_app(VIDEO, run="ghost", video=VIEWS[2], rho=rho)
    assert not at.exception
    shown = "\n".join(element.value for element in [*at.error, *at.warning, *at.success])
    assert word in shown
    assert at.metric[0].value == {"1": "1 of 64", "0.999": "20 of 64", "0": "62 of 64"}[rho]
    assert "cancels" in texts(at)
    assert "−0.00" not in texts(at)


def test_motions_that_only_the_anchor_tells_apart_are_not_called_chance(films: Lab):
    at = open_app(VIDEO, run="ghost", video=VIEWS[2], exact_path="ring", rho="1")
    assert not at.success
    assert "memorised, not" in at.info[0].value


def test_the_exact_flow_starts_at_the_runs_own_values_and_is_in_the_link(films: Lab):
    at = open_app(VIDEO, run="ghost", video=VIEWS[2])
    assert at.session_state["exact_path"] == "quantum"
    assert at.session_state["rho"] == 0.0  # changed from 1 in the middle of the run
    at = open_app(VIDEO, run="ghost", video=VIEWS[2], exact_path="ring", rho="0.9", exact_t="0.5")
    assert (at.session_state["exact_path"], at.session_state["rho"], at.session_state["exact_t"]) == ("ring", 0.9, 0.5)


def test_a_setting_of_the_exact_flow_is_computed_once(films: Lab, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []
    monkeypatch.setattr(exact_flow, "exact_flow", lambda settings: asked.append(settings) or drawn_flow(settings))
    for _ in range(2):
        open_app(VIDEO, run="ghost", video=VIEWS[2], exact_path="rab", rho="0.5")
    assert len(asked) == 1
    assert (asked[0].path, asked[0].noise_correlation, asked[0].samples) == ("rab", 0.5, 64)


def test_a_setting_that_the_exact_flow_refuses_is_answered(films: Lab):
    at = open_app(VIDEO, run="ghost", video=VIEWS[2], exact_seed="13")
    assert not at.exception
    assert "13 is refused" in at.error[0].value


@pytest.mark.parametrize("view", VIEWS)
def test_a_run_that_was_never_measured_says_what_to_do(view: str, empty: Lab, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(exact_flow, "exact_flow", drawn_flow)
    write_video_run(tmp_path, "blank", last=0)
    with RunWriter(tmp_path / "blank" / DATABASE_NAME) as writer:
        writer.truncate_after(-1, event_seq=0)
    at = open_app(VIDEO, run="blank", video=view)
    assert not at.exception
    if view in VIEWS[:2]:
        assert "ended before" in at.info[0].value
