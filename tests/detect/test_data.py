"""Rules about the data: at step 0, from what opening the text has counted; silent for what healthy corpora have."""

from typing import Any

import pytest

from qcore.detect import Watch
from tests.detect.streams import facts, run

AT_START = {"optim/planned_lr_sum": 0.6}
HEALTHY = {
    "documents": 4000.0,
    "duplicates": 12.0,
    "skipped_share": 0.01,
    "held_out_compared": 300.0,
    "held_out_equal": 0.0,
    "held_out_near": 4.0,
    "unknown_share": 0.0,
    "held_out_unknown_share": 0.05,
    "characters_per_token": 4.1,
}
README = (("README.md", "is about the folder"),)
RULES = {"skipped_files", "repeated_documents", "held_out_in_training", "unknown_tokens"} | {
    "held_out_contained",
    "language_without_spaces",
    "not_prose",
}


def told(step: int = 0, skipped: tuple[tuple[str, str], ...] = README, **changes: Any) -> list[tuple[str, str]]:
    watch = Watch(facts(data={**HEALTHY, **changes}, skipped=skipped))
    return [(one.name, one.title) for one in watch.observe(step, AT_START, {}) if one.name in RULES]


def test_healthy_data_say_nothing() -> None:
    assert told() == []
    assert told(skipped=(), skipped_share=0.0) == []
    assert [one.name for one in run(Watch(facts(data=HEALTHY)), range(60)) if one.name in RULES] == []


@pytest.mark.parametrize(
    ("changes", "name", "title"),
    [
        ({"skipped_share": 0.8}, "skipped_files", "1 left out, 80 % of the bytes: README.md (is about the folder)"),
        (
            {"documents": 360.0, "duplicates": 320.0},
            "repeated_documents",
            "320 of 360 documents (89 %) are copies of others",
        ),
        (
            {"held_out_compared": 40.0, "held_out_equal": 20.0, "held_out_near": 12.0},
            "held_out_in_training",
            "32 of 40 held-out documents (80 %) stand in training, 20 whole",
        ),
        (
            {"held_out_compared": 3.0, "held_out_equal": 0.0, "held_out_near": 3.0},
            "held_out_in_training",
            "3 of 3 held-out documents (100 %) stand in training, 0 whole",
        ),
        (
            {"held_out_unknown_share": 0.47},
            "unknown_tokens",
            "47 % of the held-out tokens are <unk>: the vocabulary does not fit this text",
        ),
    ],
)
def test_what_was_counted_is_found_at_step_0(changes: dict[str, float], name: str, title: str) -> None:
    assert told(**changes) == [(name, title)]
    assert told(step=7, **changes) == [], "it is known before the first step or not at all"


@pytest.mark.parametrize(
    "changes",
    [
        {"documents": 79.0, "duplicates": 8.0},  # a share, of few
        {"held_out_compared": 8.0, "held_out_near": 5.0},  # the interpreter's documentation, at its worst seed
        {"held_out_compared": 1.0, "held_out_near": 1.0},
        {"held_out_unknown_share": 0.25},
        {"skipped_share": 0.04},
    ],
)
def test_what_few_or_small_shares_mean_is_left_open(changes: dict[str, float]) -> None:
    assert told(**changes) == []


def test_many_skipped_files_of_no_size_are_no_finding_for_a_text() -> None:
    assert told(skipped=tuple((f"{number}.txt", "is empty") for number in range(50)), skipped_share=0.0) == []


def test_the_remedy_of_unknown_tokens_changes_the_tokenizer() -> None:
    watch = Watch(facts(data={**HEALTHY, "held_out_unknown_share": 0.5}))
    [found] = [one for one in watch.observe(0, AT_START, {}) if one.name == "unknown_tokens"]
    assert [(one["kind"], one["changes"]) for one in found.remedies] == [("new_run", {"tokenizer": "bpe"})]


def test_a_language_without_spaces_is_named_instead_of_its_unknown_words() -> None:
    japanese = {"held_out_unknown_share": 0.6, "unknown_share": 0.5, "spaceless_share": 0.95}
    assert [name for name, _ in told(**japanese, by_words=1.0)] == ["language_without_spaces"]
    assert [name for name, _ in told(**{**japanese, "held_out_unknown_share": 0.0}, by_words=0.0)] == []
    assert [name for name, _ in told(**{**japanese, "spaceless_share": 0.01}, by_words=1.0)] == ["unknown_tokens"]


def test_text_in_pieces_is_named_where_whole_documents_are_not() -> None:
    pieces = {"contained_share": 0.8, "long_runs": 4000.0}
    [(name, title)] = told(**pieces)
    assert (name, title.split(" of")[0]) == ("held_out_contained", "80 %")
    assert [name for name, _ in told(**pieces, held_out_near=200.0)] == ["held_out_in_training"]
    assert told(contained_share=0.8, long_runs=20.0) == []


def test_a_wrapping_is_noted_by_what_was_measured() -> None:
    assert told(tags_share=0.31) == [("not_prose", "31 % of the characters looked at are tags in angle brackets")]
    assert told(tags_share=0.1, json_share=0.3, base64_share=0.1, binary_share=0.01) == []


def test_the_unknown_token_as_commonest_target_is_no_padding() -> None:
    top = {**AT_START, "data/target_top1_share": 0.6, "data/pad_is_target": 0.0}

    def names(**data: float) -> set[str]:
        return {one.name for one in Watch(facts(data={**HEALTHY, **data})).observe(0, top, {})}

    assert "padding_targets" in names()
    assert "padding_targets" not in names(unknown_share=0.6)
    assert "padding_targets" not in names(packed=1.0), "packed rows have no filling"
    ends = {**top, "tokens/target_eos": 0.6}
    [found] = Watch(facts(data={**HEALTHY, "packed": 1.0})).observe(0, ends, {})
    assert found.name == "padding_targets"
    assert "Start with packed rows" not in {one["label"] for one in found.remedies}
