"""The Phase page of a model with switches: concepts and translations, widths, languages, experts; and links to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcore.lab import Lab, shared_lab
from tests.pages.drive import PHASE, charts, open_app, texts
from tests.pages.sent import alts
from tests.support.configs import small_config

SWITCHES = {
    "source": "bilingual",
    "tokenizer": "word",
    "concepts": 6,
    "dynamic_width": True,
    "language_phases": True,
    "experts": 3,
    "checks_every": 6,
    "phase_every": 6,
}


@pytest.fixture(scope="module")
def switched_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder of short runs: `switched`, with every switch on, `letters`, without translations, and two `pam`."""
    folder = tmp_path_factory.mktemp("switched")
    with Lab(folder) as lab:
        lab.start(small_config(**SWITCHES), name="switched")
        lab.start(small_config(concepts=4, checks_every=6), name="letters")
        lab.start(small_config(kind="pam", phase_every=6), name="memory")
        lab.start(small_config(kind="pam", phase_every=6, complex_state=False), name="real")
        for name in ("switched", "letters", "memory", "real"):
            assert lab.wait(name, 60).state == "finished", lab.info(name).message
    return folder


@pytest.fixture
def switched(switched_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("QCORE_RUNS", str(switched_dir))
    return shared_lab(switched_dir)


def test_the_concepts_of_translations_are_measured_and_shown(switched: Lab):
    series = switched.reader("switched").scalars_of(["concept/alignment", "concept/alignment_chance", "concept/cosine"])
    assert all(len(found) >= 2 for found in series.values())
    at = open_app(PHASE, run="switched", show="Concepts")
    assert not at.exception
    assert charts(at) == 2
    pairs, holdings = (element.value for element in at.dataframe)
    assert set(pairs.columns) >= {"word", "translation", "same", "cosine"}
    assert (pairs["same"] == (pairs["concept"] == pairs["its concept"])).all()
    assert pairs["same"].mean() == pytest.approx(float(series["concept/alignment"].values[-1]))
    assert holdings["words"].is_monotonic_decreasing
    assert "Same concept" in texts(at)


@pytest.mark.parametrize(("view", "count"), [("Phases", 8), ("Widths", 3), ("Languages", 2), ("Experts", 3)])
def test_every_switch_has_its_view_behind_a_link(view: str, count: int, switched: Lab):
    at = open_app(PHASE, run="switched", show=view)
    assert not at.exception
    assert charts(at) == count
    assert not [alt for alt in alts(at) if "<" in alt]
    assert at.session_state["show"] == view


def test_a_memory_has_its_own_view_and_phases_where_it_is_complex(switched: Lab):
    at = open_app(PHASE, run="memory", show="Memory")
    assert not at.exception
    assert charts(at) > 1
    assert not open_app(PHASE, run="memory").exception
    real = open_app(PHASE, run="real")
    assert not real.exception
    assert not [control for control in real.get("button_group") if control.proto.label == "Show"]
    assert charts(real) > 1


def test_letters_have_no_translations_and_the_page_says_what_to_choose(switched: Lab):
    at = open_app(PHASE, run="letters", show="Concepts")
    assert not at.exception
    assert "`bilingual`" in at.info[0].value
    assert len(at.dataframe) == 1


def test_a_run_without_switches_has_one_view(inside: Lab):
    at = open_app(PHASE, run="seen", show="Concepts")
    assert not at.exception
    assert charts(at) == 8
