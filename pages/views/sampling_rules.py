"""Coherence-aware beside plain sampling: one pair to read, and many pairs measured with intervals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import streamlit as st

from pages.session import looks, roles
from pages.session.markdown_escape import escape_markdown
from pages.session.moment import renew
from qcore.config import SamplingConfig
from qcore.experiments.sampling_comparison import (
    ComparedMeasure,
    SamplingComparison,
    compare_sampling,
    plain_settings,
)
from qcore.lab import Lab
from qcore.probes import catalog
from qcore.viz import number_words

NOTHING = (
    "Nothing to compare yet: raise *coherence temperature* or *coherence penalty* above 0 under **Sampling**. The "
    "model must have phases."
)
NO_TWIN = (
    "No sample by the other rule with the same prompt, seed and step. The live model moves on between two draws: "
    "pause it "
    "or choose a checkpoint."
)
AWARE, PLAIN = "Coherence-aware", "Plain"
_RULE = ("coherence_temperature", "coherence_penalty")
_KEPT = "compared"


def comparison_toggle() -> bool:
    """Whether to draw and show the plain rule beside the chosen one."""
    return st.toggle(
        "Compare with plain sampling",
        key="pair",
        bind="query-params",
        help="Draws the same prompt with the same seed twice: with the coherence-aware rules of the settings, and "
        "without them.",
    )


def can_compare(settings: SamplingConfig) -> bool:
    """Whether the settings have a coherence-aware rule."""
    return settings != plain_settings(settings)


def rules(settings: SamplingConfig) -> dict[str, SamplingConfig]:
    """Settings to draw with, by title; one alone where there is nothing to compare. The chosen rule comes last."""
    return {PLAIN: plain_settings(settings), AWARE: settings} if can_compare(settings) else {PLAIN: settings}


def rule_of(item: Any) -> str:
    """Title of the rule that a generation was drawn with."""
    return AWARE if any(item.settings.get(name) for name in _RULE) else PLAIN


def pair_with_twin(item: Any, others: Iterable[Any]) -> list[Any]:
    """A generation and its newest twin by the other rule: same prompt, model and other settings; aware before plain."""

    def settings_but_rule(one: Any) -> dict[str, Any]:
        shared = {name: value for name, value in one.settings.items() if name not in _RULE}
        # The live model of two moments is two models: its step is one of the settings.
        return {**shared, "prompt": one.prompt}

    twin = next(
        (one for one in others if rule_of(one) != rule_of(item) and settings_but_rule(one) == settings_but_rule(item)),
        None,
    )
    return sorted([item, *([twin] if twin else [])], key=rule_of)


def measure(lab: Lab, name: str, prompt: str, settings: SamplingConfig, checkpoint: int | None) -> None:
    """Draw many pairs of a checkpoint on demand, and show their means, intervals and differences."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        draws = st.number_input(
            "Pairs",
            2,
            200,
            16,
            key="pairs",
            help="Seeds to draw, counted up from the sample seed.",
            width=140,
            persist_state="session",
        )
        asked = roles.button(
            "Measure over seeds",
            icon=":material/functions:",
            help="Draws this prompt with every seed under both rules from a checkpoint (the newest one where the live "
            "model is chosen) and compares them pair by pair.",
        )
    key = (name, prompt, settings, checkpoint, draws)
    if asked:
        bar = st.progress(0.0, "Drawing …")
        renew()  # this takes long, and reads the run as it goes
        try:
            for found in compare_sampling(lab, name, [prompt], settings, draws=int(draws), checkpoint=checkpoint):
                bar.progress(found.pairs / found.total, f"Pair {found.pairs} of {found.total}")
                st.session_state[_KEPT] = (key, found)
        except ValueError as error:
            bar.empty()
            st.error(escape_markdown(str(error)), icon=":material/block:")
            return
        bar.empty()
    kept = st.session_state.get(_KEPT)
    if kept is not None and kept[0] == key:
        _table(kept[1])


def _table(found: SamplingComparison) -> None:
    rows: tuple[ComparedMeasure, ...] = found.measures
    looks.table(
        {
            "measure": [_measure(row.name) for row in rows],
            AWARE.lower(): [_interval(row.aware) for row in rows],
            PLAIN.lower(): [_interval(row.plain) for row in rows],
            "difference": [_interval(row.difference) for row in rows],
            "significant": [row.difference.detected for row in rows],
        },
        column_config={
            "significant": st.column_config.CheckboxColumn(help="The interval of the difference excludes 0.")
        },
    )
    st.caption(
        f"Means of {found.pairs} pairs with 95 % intervals, checkpoint of step {found.step:,}; the difference is taken "
        "within pairs of one seed. Distinct-n: share of n-grams that do not repeat. Log-probability: of the drawn text "
        "under the model itself, at temperature 1."
    )


def _measure(name: str) -> str:
    return catalog.series_words(catalog.member(catalog.GENERATION, name)).label.lower()


def _interval(value: Any) -> str:
    """`0.62 (0.55 to 0.69)` of anything with mean, low and high."""
    return f"{number_words(value.mean, 3)} ({number_words(value.low, 3)} to {number_words(value.high, 3)})"
