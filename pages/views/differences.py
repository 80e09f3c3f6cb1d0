"""What differs between runs: configuration, changes on the way, and what they say to the same prompt and seed."""

from __future__ import annotations

import html
from typing import Any

import streamlit as st

from pages.session import family_words, phrases, read_cache, roles, selection
from pages.session.looks import table
from pages.session.markdown_escape import escape_markdown
from pages.session.moment import fragment
from pages.widgets import clip_player, control_widgets, error_boundary, run_picker
from pages.widgets.token_text import generation_html
from qcore.base.words import number_words
from qcore.config import ExternalConfig, all_controls
from qcore.lab import Lab, LabError, RunInfo
from qcore.viz import ClipRow, author_words, event_words, value_words

_EVENTS = 200
_ASKED = "asked all"


def page(lab: Lab, info: RunInfo) -> None:
    """Values that differ, then what happened to each run."""
    names = run_picker.pick_runs(lab, info)
    if len(names) < 2:
        return
    st.header("Configuration", anchor=False, help="Only values that are not the same in all of these runs.")
    rows = _differing_values(lab, names)
    if rows:
        table(
            {
                "value": list(rows),
                **{name: [str(row[place]) for row in rows.values()] for place, name in enumerate(names)},
            },
            key="config_diff",
            hide_index=True,
            height="content",
            column_config={"value": st.column_config.TextColumn(pinned=True)},
        )
    else:
        st.caption("They were started with the same values; changes made during training are below.")
    st.header("Changes during training", anchor=False, help="Controls as they were changed, with author and reason.")
    _events(lab, names)


def _differing_values(lab: Lab, names: list[str]) -> dict[str, list[Any]]:
    """Value → what each run has now: live controls as they are, the rest as it was started; `–` where there is none."""
    found: dict[str, list[Any]] = {}
    for place, name in enumerate(names):
        for key, value in _values(lab, name).items():
            found.setdefault(key, ["–"] * len(names))[place] = value_words(value)
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def _values(lab: Lab, name: str) -> dict[str, Any]:
    """Every value of a run as it is now; of one that another program wrote, its settings and declared controls."""
    config, live = lab.description(name), lab.controls(name)
    if isinstance(config, ExternalConfig):
        return config.settings | {key: state.value for key, state in live.items()}
    return {
        control.name: live[control.name].value if control.name in live else config.value(control.name)
        for control in all_controls(config.kind)
    }


def _events(lab: Lab, names: list[str]) -> None:
    rows = []
    for name in names:
        for event in lab.reader(name).events():
            if event.kind in ("control", "grow", "restore", "rewind", "fork"):
                rows.append(
                    (
                        event.step,
                        name,
                        author_words(event.author),
                        event_words(event.kind, event.payload),
                        event.payload,
                    )
                )
    if not rows:
        st.caption("Nothing was changed in any of them.")
        return
    rows.sort(key=lambda row: (row[0], row[1]))
    newest = rows[-_EVENTS:]
    table(
        {
            "step": [row[0] for row in newest],
            "run": [row[1] for row in newest],
            "author": [row[2] for row in newest],
            "what": [row[3] for row in newest],
            "why": [str(row[4].get("reason", "")) for row in newest],
        },
        key="event_diff",
        hide_index=True,
        column_config={"what": st.column_config.TextColumn(width="large")},
    )


def samples(lab: Lab, info: RunInfo) -> None:
    """The timeline's samples at the newest step that all runs have, and the same question to all of them."""
    names = [name for name in run_picker.pick_runs(lab, info) if selection.listed_run(lab, name).family == info.family]
    if not names:
        return
    video = family_words.is_video(info)
    (_clip_rows if video else _texts)(lab, names)
    if family_words.has_trainer(info):
        _sample_all(lab, info, [name for name in names if family_words.has_trainer(selection.listed_run(lab, name))])


@fragment
@error_boundary.with_errors_shown
def _sample_all(lab: Lab, info: RunInfo, names: list[str]) -> None:
    """One question to all of them, and the answers to the last one. A fragment of its own: asking takes long, and what
    stands around it stays of its moment.
    """
    video = family_words.is_video(info)
    st.header(
        "Sample all of them",
        anchor=False,
        help="Same settings and seed for each; the live model, or its newest checkpoint.",
    )
    config = lab.config(info.name)
    left, right = st.columns([3, 2], gap="large")
    with left:
        prompt = (
            ""
            if video
            else st.text_area(
                "Prompt",
                key="ask_all",
                height=80,
                placeholder="Once a",
                help="The same for all.",
                persist_state="session",
            )
        )
    with right, st.popover("Sampling", icon=":material/tune:"):
        chosen = control_widgets.fields(type(config.sampling), config.sampling.model_dump(), "ask_all")
    if roles.button("Ask", icon=":material/play_arrow:", key="ask_all_go", type="primary"):
        settings = type(config.sampling).model_validate(chosen)
        label = f"seed {chosen['sample_seed']}" if video else prompt or ""
        st.session_state[_ASKED] = info.family, [_sample_one(lab, name, label, settings, video) for name in names]
    family, answers = st.session_state.get(_ASKED, ("", []))
    if family == info.family:
        _show_samples(lab, answers, video)


def _sample_one(lab: Lab, name: str, prompt: str, settings: Any, video: bool) -> tuple[str, str, str]:
    """Ask one run while its text is seen to grow: its name, the id of its answer, and what went wrong."""
    place, title, identity = st.empty(), html.escape(phrases.short_name(name)), ""
    place.html(f"<b>{title}</b> …")
    try:
        for grown in lab.sample(name, prompt, settings):
            identity = grown.id
            if not video:
                place.html(f"<b>{title}</b>{generation_html(prompt, grown.tokens, running=grown.status == 'running')}")
    except ValueError as error:
        return name, "", str(error)
    finally:
        place.empty()
    return name, identity, ""


def _show_samples(lab: Lab, answers: list[tuple[str, str, str]], video: bool) -> None:
    """The answers as the runs keep them, each with the step of the model that gave it."""
    rows: list[ClipRow] = []
    for name, identity, error in answers:
        try:
            item = lab.reader(name).generation(identity) if identity else None
            if item is None or item.status == "failed":
                broke = item.stats.get("error", "the model failed while sampling") if item else ""
                st.error(escape_markdown(f"{name}: {error or broke or 'its answer is gone'}"), icon=":material/block:")
                continue
            said = f"{phrases.short_name(name)}, step {item.step:,}"
            if video:
                rows.append(ClipRow(said, read_cache.clips(lab, read_cache.run_version(lab, name), item.id)))
            else:
                st.html(f"<b>{html.escape(said)}</b>{generation_html(item.prompt, item.tokens)}")
        except (LabError, ValueError) as gone:
            st.error(escape_markdown(f"{name}: {gone}"), icon=":material/block:")
    if rows:
        clip_player.film(rows, "asked_film", "Clips from the same seed, one row per run")


def _newest_common_samples(
    lab: Lab, names: list[str]
) -> tuple[int | None, dict[str, dict[str, read_cache.TimelineSample]]]:
    """Newest step at which all runs have a timeline sample, and the samples of that step by run and prompt; without
    one, each run's newest.
    """
    by_run: dict[str, dict[int, dict[str, read_cache.TimelineSample]]] = {}
    for name in names:
        steps = by_run.setdefault(name, {})
        for sample in read_cache.timeline(lab, read_cache.run_version(lab, name)):
            steps.setdefault(sample.step, {})[sample.prompt] = sample
    shared = set.intersection(*(set(steps) for steps in by_run.values())) if by_run else set()
    if shared:
        return max(shared), {name: steps[max(shared)] for name, steps in by_run.items()}
    return None, {name: steps[max(steps)] for name, steps in by_run.items() if steps}


def _caption(lab: Lab, step: int | None, found: dict[str, dict[str, read_cache.TimelineSample]]) -> None:
    if not found:
        st.info("None of these runs has a sample yet: those of this lab are drawn at the cadence `sample every`.")
    elif step is not None:
        st.caption(f"Samples of step {step:,}, the newest that all of them have; the same prompt and seed.")
    else:
        steps = ", ".join(
            f"{escape_markdown(phrases.short_name(name))} {next(iter(of.values())).step:,}"
            for name, of in found.items()
        )
        st.caption(f"They have no sample at the same step; the newest of each: {steps}.")


def _texts(lab: Lab, names: list[str]) -> None:
    step, found = _newest_common_samples(lab, names)
    _caption(lab, step, found)
    prompts = list(dict.fromkeys(prompt for samples in found.values() for prompt in samples))
    if not prompts:
        return
    prompt = st.selectbox(
        "Fixed prompt", prompts, key="compare_prompt", format_func=lambda text: text or "(empty prompt)"
    )
    for column, name in zip(st.columns(len(names)), names, strict=True):
        with column:
            st.markdown(f"**{escape_markdown(phrases.short_name(name))}**")
            sample = found.get(name, {}).get(prompt)
            whole = lab.reader(name).generation(sample.id) if sample else None
            if sample is None or whole is None:
                st.caption("No sample of this prompt.")
                continue
            st.html(generation_html(prompt, whole.tokens, text=whole.text))
            st.caption(
                f"step {sample.step:,} · distinct-2 {number_words(sample.stats.get('distinct_2'), places=2)} · "
                f"repetition {number_words(sample.stats.get('repetition'), places=2)}"
            )


def _clip_rows(lab: Lab, names: list[str]) -> None:
    step, found = _newest_common_samples(lab, names)
    _caption(lab, step, found)
    rows = []
    for name, samples in found.items():
        sample = next(iter(samples.values()))
        try:
            rows.append(
                ClipRow(phrases.short_name(name), read_cache.clips(lab, read_cache.run_version(lab, name), sample.id))
            )
        except (ValueError, LabError) as error:
            st.error(escape_markdown(f"{name}: {error}"), icon=":material/error:")
    if rows:
        clip_player.film(rows, "compare_film", "Clips of the same noise, one row per run")
