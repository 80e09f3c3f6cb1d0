"""The pages Phase, Interference and Gradients: in every state of a run, for both model families, with every choice."""

from pathlib import Path

import numpy as np
import pytest

from qcore.lab import Lab
from qcore.store import DATABASE_NAME, Finding, RunWriter
from tests.pages.drive import ENDLESS, GRADIENTS, INTERFERENCE, PHASE, charts, open_app, texts
from tests.pages.inside import finding, kernels, write_run
from tests.pages.sent import charts_of
from tests.support.configs import eventually

INSIDE = (PHASE, INTERFERENCE, GRADIENTS)


@pytest.mark.parametrize(("page", "count"), [(PHASE, 8), (INTERFERENCE, 5), (GRADIENTS, 8)])
def test_a_finished_run_shows_its_newest_step(page: str, count: int, inside: Lab):
    at = open_app(page, run="seen")
    assert not at.exception
    assert charts(at) == count
    assert charts(at) <= 8


@pytest.mark.parametrize("page", INSIDE)
def test_a_run_that_was_never_looked_into_says_what_to_do(page: str, empty: Lab, tmp_path: Path):
    write_run(tmp_path, "blank", last=0)
    with RunWriter(tmp_path / "blank" / DATABASE_NAME) as writer:
        writer.truncate_after(-1, event_seq=0)
    at = open_app(page, run="blank")
    assert not at.exception
    assert "ended before" in at.info[0].value
    assert "budget" in at.info[0].value


def test_before_the_first_measurement_a_page_says_when_it_comes(empty: Lab):
    empty.start(ENDLESS.with_values({"budget_percent": 0.0, "kernels_every": 70}), name="alive")
    eventually(lambda: empty.info("alive").step > 2)
    for page in INSIDE:
        at = open_app(page, run="alive")
        assert not at.exception
        assert "as far as the budget" in at.info[0].value
    assert "every 70 steps" in open_app(INTERFERENCE, run="alive").info[0].value


def test_a_transformer_has_no_phases_and_the_page_says_where_to_look(inside: Lab):
    at = open_app(PHASE, run="attention")
    assert "This model has no phases" in at.info[0].value
    links = [link.proto.page for link in at.main.get("page_link")]
    assert {"interference", "tokens"} <= set(links)
    assert charts(at) == 0


def test_attention_is_no_interference_and_the_page_says_so(inside: Lab):
    shown = texts(open_app(INTERFERENCE, run="attention"))
    assert "a row's weights sum to 1" in shown
    assert "never negative" in shown
    assert "vermillion ones cancel" not in shown


def test_the_verdict_on_causality(inside: Lab):
    at = open_app(INTERFERENCE, run="seen")
    assert "<b>Causal.</b> At step 200" in texts(at)
    at = open_app(INTERFERENCE, run="ill")
    assert "<b>Sees the future.</b> At step 40" in texts(at)
    assert "Causal" not in texts(at)


def test_the_verdict_is_that_of_the_chosen_step(inside: Lab):
    at = open_app(INTERFERENCE, run="seen", step="40")
    assert "At step 40, the tokens" in texts(at)


def test_rounding_and_a_deaf_model_have_verdicts_of_their_own(empty: Lab, tmp_path: Path):
    write_run(tmp_path, "deaf", last=0)
    for change, words in (([[0, 0, 0.0]], "context is ignored"), ([[1e-9, 0, 1.0]], "up to rounding")):
        with RunWriter(tmp_path / "deaf" / DATABASE_NAME) as writer:
            arrays = {"cuts": np.array([1], np.int32), "change": np.array(change, np.float32)}
            writer.log_arrays(0, "causality", arrays)
        at = open_app(INTERFERENCE, run="deaf")
        assert not at.exception
        assert words in texts(at)


def test_kernels_by_layer_and_head_cut_to_the_chosen_length_and_against_another_step(inside: Lab):
    at = open_app(INTERFERENCE, run="seen", layer="1", head="2", tokens="16", against="40", rows="true")
    assert not at.exception
    assert "The first 16 of 24 tokens" in texts(at)
    assert "the weight has grown since then" in texts(at)
    assert at.session_state["against"] == "40"
    assert at.session_state["head"] == "2"
    at.selectbox(key="against").set_value("off").run()
    assert "heads that look alike" in texts(at)


def test_steps_of_different_texts_are_not_subtracted(empty: Lab, tmp_path: Path):
    write_run(tmp_path, "mixed", last=20, every=20, tokens=8)
    with RunWriter(tmp_path / "mixed" / DATABASE_NAME) as writer:
        other = {"kernels": kernels(0.5, 3, 4, 8, "phase_lm"), "tokens": np.arange(8, dtype=np.int32)}
        writer.log_arrays(40, "interference", other)
    at = open_app(INTERFERENCE, run="mixed", against="20")
    assert not at.exception
    assert "different texts" in at.info[0].value


def test_one_token_one_layer_one_head(empty: Lab, tmp_path: Path):
    write_run(tmp_path, "least", layers=1, heads=1, last=0, tokens=1)
    for page in INSIDE:
        at = open_app(page, run="least")
        assert not at.exception
        assert charts(at) > 4


def test_many_layers_and_heads_are_picked_from_lists(empty: Lab, tmp_path: Path):
    write_run(tmp_path, "deep", layers=14, heads=12, last=20, every=20, tokens=6)
    at = open_app(INTERFERENCE, run="deep", head="11", layer="13")
    assert not at.exception
    assert at.selectbox(key="layer").value == "13"
    assert at.selectbox(key="head").value == "11"
    at = open_app(PHASE, run="deep")
    assert not at.exception
    assert at.selectbox(key="angles").value == "layer 14"


def test_the_angles_of_a_chosen_layer_are_in_the_link(inside: Lab):
    at = open_app(PHASE, run="seen", angles="encoding")
    assert not at.exception
    assert at.session_state["angles"] == "encoding"


def test_the_numbers_of_the_chosen_step_are_shown(inside: Lab):
    newest, oldest = texts(open_app(PHASE, run="seen")), texts(open_app(PHASE, run="seen", step="0"))
    assert "Order parameter" in newest
    assert newest != oldest


def test_probes_have_cost_cadence_share_and_state(inside: Lab):
    at = open_app(GRADIENTS, run="seen")
    table = at.dataframe[0].value.set_index("probe")
    assert table.loc["gradients", "cost (ms)"] == 48.0
    assert table.loc["gradients", "every (steps)"] == 100
    assert table.loc["gradients", "share of step time"] == pytest.approx(48 / 100 / 41)
    assert table.loc["signs", "state"] == "off"
    assert "disagree" in table.loc["signs", "why"]
    assert table.loc["phase", "state"] == "measures"
    assert "of a budget of 2 %" in texts(at)


def test_without_other_terms_the_gradients_page_says_how_to_get_some(empty: Lab, tmp_path: Path):
    write_run(tmp_path, "plain", last=0)
    with RunWriter(tmp_path / "plain" / DATABASE_NAME) as writer:
        writer.truncate_after(-1, event_seq=0)
        arrays = {"norm": np.ones(1, np.float32), "cosine": np.ones((1, 1), np.float32), "terms": np.zeros(1, np.int32)}
        writer.log_arrays(0, "gradients", arrays)
    at = open_app(GRADIENTS, run="plain")
    assert not at.exception
    assert set(charts_of(at)) == {"dead", "updates", "rank", "eigenvalues"}  # the modules were not looked at
    assert "no term but the cross-entropy has a weight" in texts(at)
    assert "Give another term a weight in the control room" in texts(at)
    assert "Nothing wrong" not in texts(at)
    assert at.dataframe[0].value["probe"].tolist() == ["signs"]
    assert at.dataframe[0].value["cost (ms)"].isna().all()


@pytest.mark.parametrize("found", [(), (finding(),)], ids=["judged well", "with a finding"])
def test_a_healthy_run_has_no_empty_places_and_is_called_well_when_it_was_judged(
    found: tuple[Finding, ...], empty: Lab, tmp_path: Path
):
    write_run(tmp_path, "short", last=0, findings=found)
    with RunWriter(tmp_path / "short" / DATABASE_NAME) as writer:
        writer.truncate_after(-1, event_seq=0)
        one = np.ones(1, np.float32)
        writer.log_arrays(0, "gradients", {"norm": one, "cosine": one.reshape(1, 1), "terms": np.zeros(1, np.int32)})
        writer.log_arrays(20, "gradients", {"norm": one, "cosine": one.reshape(1, 1), "terms": np.zeros(1, np.int32)})
        for step, dead in ((0, 0.5), (20, 0.0)):
            modules = {"dead_share": one * dead, "update_ratio": one / 1000, "grad_norm": one, "parameters": one}
            writer.log_arrays(step, "modules", modules)
        for each in found:
            writer.put_finding(each)
    at = open_app(GRADIENTS, run="short")
    assert not at.exception
    assert set(charts_of(at)) == {"updates", "rank", "eigenvalues"}
    assert "every weight gets gradient and no term but the cross-entropy has a weight" in texts(at)
    assert ("Nothing wrong at step 20:" in texts(at)) == (not found)
    assert ("At step 20 every weight" in texts(at)) == bool(found)
    assert set(charts_of(open_app(GRADIENTS, run="short", compared="last hidden state"))) >= {"terms", "cosine"}
    at = open_app(GRADIENTS, run="short", step="0")
    assert "dead" in charts_of(at)
    assert "every weight gets gradient" not in texts(at)
    assert "Nothing wrong" not in texts(at)


def test_what_was_measured_before_the_first_update_alone_is_not_called_well(empty: Lab, tmp_path: Path):
    write_run(tmp_path, "short", last=0)
    with RunWriter(tmp_path / "short" / DATABASE_NAME) as writer:
        writer.truncate_after(-1, event_seq=0)
        one = np.ones(1, np.float32)
        writer.log_arrays(0, "gradients", {"norm": one, "cosine": one.reshape(1, 1), "terms": np.zeros(1, np.int32)})
        modules = {"dead_share": one * 0, "update_ratio": one * np.nan, "grad_norm": one, "parameters": one}
        writer.log_arrays(0, "modules", modules)
    at = open_app(GRADIENTS, run="short")
    assert not at.exception
    assert "At step 0 every weight gets gradient" in texts(at)
    assert "Nothing wrong" not in texts(at)


@pytest.mark.parametrize("terms", [[1], [0, 1]], ids=["another term alone", "another term beside it"])
def test_a_term_that_is_seen_anywhere_is_not_denied(terms: list[int], empty: Lab, tmp_path: Path):
    write_run(tmp_path, "short", last=0)
    with RunWriter(tmp_path / "short" / DATABASE_NAME) as writer:
        writer.truncate_after(-1, event_seq=0)
        count = len(terms)
        arrays = {"norm": np.ones(count, np.float32), "cosine": np.eye(count, dtype=np.float32)}
        writer.log_arrays(0, "gradients", arrays | {"terms": np.array(terms, np.int32)})
        one = np.ones(1, np.float32)
        writer.log_arrays(0, "hidden", {"norm": one, "cosine": one.reshape(1, 1), "terms": np.zeros(1, np.int32)})
    for place in ("all weights", "last hidden state"):
        at = open_app(GRADIENTS, run="short", compared=place)
        assert {"terms", "cosine"} <= set(charts_of(at))
        assert "nothing pulls against it" not in texts(at)
