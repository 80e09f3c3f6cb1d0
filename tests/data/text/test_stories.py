"""The grammar's probabilities are exact: recomputed from the text, summed over all texts, and in expectation."""

import itertools
import math
import re
from random import Random

import pytest

from qcore.data.text.grammar import Alternative, Grammar, Option, Slot
from qcore.data.text.stories import (
    BOYS,
    GIRLS,
    HOMES,
    second_grammar,
    story_grammar,
    translations,
    write_bilingual,
    write_stories,
)


def small_grammar() -> Grammar:
    """Parent and child slots, a slot first used in some paths only, and shared beginnings."""
    return Grammar(
        {
            "start": (
                Alternative(3, "{who} sat {where}.", "end"),
                Alternative(1, "{who.Who} sat {where} {spot}.", "end"),
            ),
            "end": (
                Alternative(1, "It was {spot}."),
                Alternative(2, "{who} slept."),
                Alternative(1, "{who} slept {where}."),
            ),
        },
        {
            "who": Slot({"": (Option("Al", {"Who": "AL"}), Option("Al Bo", {"Who": "AL BO"}))}),
            "where": Slot({"": (Option("in"), Option("in it"), Option("on"))}),
            "spot": Slot(
                {
                    "in": (Option("mud"),),
                    "in it": (Option("sand"), Option("hay")),
                    "on": (Option("hay"), Option("ice")),
                },
                "where",
            ),
        },
        "start",
    )


def derivations(grammar: Grammar):
    """(text, p) of every derivation, written independently of the class: by substitution into the source lines."""

    def grow(rule, chosen, text, p):
        if not rule:
            yield text, p
            return
        lines = grammar.rules[rule]
        for line in lines:
            names = list(dict.fromkeys(re.findall(r"\{(\w+)", line.text)))
            yield from bind(line, names, chosen, text, p * line.weight / sum(other.weight for other in lines))

    def bind(line, names, chosen, text, p):
        fresh = [name for name in names if name not in chosen]
        if fresh:
            slot = grammar.slots[fresh[0]]
            options = slot.options[chosen[slot.parent].text if slot.parent else ""]
            for option in options:
                yield from bind(line, names, {**chosen, fresh[0]: option}, text, p / len(options))
            return
        sentence = re.sub(r"\{(\w+)(?:\.(\w+))?\}", lambda m: chosen[m[1]].form(m[2] or ""), line.text)
        yield from grow(line.then, chosen, f"{text} {sentence}".strip(), p)

    return list(grow(grammar.start, {}, "", 1.0))


def test_probabilities_of_all_texts_of_a_small_grammar():
    grammar = small_grammar()
    everything = derivations(grammar)
    texts = [text for text, _ in everything]
    assert len(set(texts)) == len(texts) > 40
    assert math.fsum(p for _, p in everything) == pytest.approx(1, abs=1e-12)
    for text, p in everything:
        assert grammar.log_probability(text) == pytest.approx(math.log(p), abs=1e-12)
    assert grammar.entropy() == pytest.approx(-math.fsum(p * math.log(p) for _, p in everything), abs=1e-12)
    drawn = {(w.text, round(w.nats, 9)) for w in map(grammar.write, itertools.repeat(Random(1), 2000))}
    assert drawn == {(text, round(-math.log(p), 9)) for text, p in everything}


def test_the_scorer_sums_over_derivations_and_refuses_other_texts():
    ambiguous = Grammar(
        {"s": (Alternative(1, "a"), Alternative(3, "{x}"))}, {"x": Slot({"": (Option("a"), Option("b"))})}, "s"
    )
    assert ambiguous.log_probability("a") == pytest.approx(math.log(1 / 4 + 3 / 8))
    for text in ("", "ab", "c", " a"):
        assert ambiguous.log_probability(text) == -math.inf


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"s": (Alternative(1, "a", "t"),)}, "no rule 't'"),
        ({"s": (Alternative(1, "{y}"),)}, "unknown slot 'y'"),
        ({"s": (Alternative(1, "{x.He}"),)}, "no form 'He'"),
        ({"s": (Alternative(1, "{child}"),)}, "before its parent"),
        ({"s": (Alternative(1, "a", "s"),)}, "loops: s → s"),
    ],
)
def test_a_wrong_grammar_is_refused(rules, message):
    slots = {"x": Slot({"": (Option("a"),)}), "child": Slot({"a": (Option("b"),)}, "x")}
    with pytest.raises(ValueError, match=message):
        Grammar(rules, slots, "s")


def test_every_story_knows_its_probability():
    stories = write_stories(600, seed=3)
    for story in stories:
        assert -story_grammar().log_probability(story.text) == pytest.approx(story.nats, abs=1e-9)
    assert story_grammar().log_probability(stories[0].text + " The end.") == -math.inf


@pytest.mark.parametrize("write", [write_stories, write_bilingual])
def test_sampled_nats_agree_with_the_expected_entropy(write):
    nats = [story.nats for story in write(4000, seed=11)]
    mean = sum(nats) / len(nats)
    error = math.sqrt(sum((x - mean) ** 2 for x in nats) / (len(nats) - 1) / len(nats))
    expected = story_grammar().entropy() + (math.log(2) if write is write_bilingual else 0)
    assert abs(mean - expected) < 4 * error
    assert error < 0.1


def test_stories_are_seeded_and_a_longer_corpus_begins_with_the_shorter():
    assert write_stories(50, 1) == write_stories(80, 1)[:50]
    assert write_stories(50, 1) != write_stories(50, 2)


def test_stories_read_like_stories():
    stories = write_stories(2000, seed=0)
    text = " ".join(story.text for story in stories)
    words = len(text.split())
    assert 0.5 < sum(story.nats for story in stories) / words < 0.65
    assert 0.11 < sum(story.nats for story in stories) / len(text) < 0.15
    for story in stories:
        sentences = re.split(r'(?<=[.!])"? (?=[A-Z"])', story.text)
        assert 2 <= len(sentences) <= 7
        assert all(sentence.lstrip('"')[0].isupper() for sentence in sentences)
        assert story.text[-1] in '.!"'
        assert not re.search(r"\ba [aeiou]|  |[{}]", story.text)
        named = {name for name in (*GIRLS, *BOYS) if re.search(rf"\b{name}\b", story.text)}
        assert 1 <= len(named) <= 2
        if named <= set(GIRLS):
            assert not re.search(r"\b(he|his|him)\b", story.text, re.IGNORECASE)
        if named <= set(BOYS):
            assert not re.search(r"\b(she|her)\b", story.text, re.IGNORECASE)
        homes = {home for home, spots in HOMES.items() if any(spot in story.text for spot in spots)}
        assert len(homes) <= 1  # things hide where the hero lives
        assert all(home in story.text or home.capitalize() in story.text for home in homes)
    assert 180 <= len({word.lower() for word in story_grammar().words()}) <= 230


def test_what_is_lost_is_found():
    found = 0
    for story in write_stories(1000, seed=5):
        lost = re.search(r"lost (?:his|her) (\w+) (\w+)\.", story.text)
        if lost:
            found += lost[2] in story.text[lost.end() :]
            assert lost[2] in story.text[lost.end() :] or "found it" in story.text or "there it was" in story.text
    assert found > 300


def test_the_second_language_is_a_word_for_word_translation():
    pairs = dict(translations())
    names = {name.lower() for name in (*GIRLS, *BOYS)}
    english = {word.lower() for word in story_grammar().words()}
    assert set(pairs) == english - names
    assert len(set(pairs.values())) == len(pairs)
    assert not set(pairs.values()) & english
    assert {word.lower() for word in second_grammar().words()} == set(pairs.values()) | names
    assert second_grammar().entropy() == pytest.approx(story_grammar().entropy())
    first, second = story_grammar().write(Random(9)), second_grammar().write(Random(9))
    translated = [pairs.get(word.lower(), word.lower()) for word in re.findall(r"\w+", first.text)]
    assert translated == re.findall(r"\w+", second.text.lower())
    assert re.sub(r"\w+", "", first.text) == re.sub(r"\w+", "", second.text)
    assert first.nats == second.nats


def test_bilingual_documents_know_their_probability():
    stories = write_bilingual(300, seed=4)
    english = 0
    for story in stories:
        each = [g.log_probability(story.text) for g in (story_grammar(), second_grammar())]
        inside = [one > -math.inf for one in each]
        assert sum(inside) == 1
        assert math.log(2) - max(each) == pytest.approx(story.nats, abs=1e-9)
        english += inside[0]
    assert 100 < english < 200
