"""The built-in corpus: short children's stories from a grammar of about 200 words, with exactly known entropy.

A hero, a home, a friend and a thing are named once and needed again sentences later, so a model that only knows the
last few words stays measurably above the floor. Every story comes with its exact −ln p; a held-out loss below the
mean of those proves that the model saw its targets. The two-language corpus writes the same grammar in English or in
an invented language, word for word; names and punctuation are shared, every other word has its own form.
"""

from __future__ import annotations

import math
import re
from functools import cache
from random import Random

from qcore.data.text.grammar import Alternative, Grammar, Option, Slot, Written
from qcore.data.text.tokenizers import Tokenizer

GIRLS = ["Anna", "Clara", "Ella", "Emma", "Ivy", "Lily", "Mia", "Nora", "Rosa", "Ruby"]
BOYS = ["Ben", "Finn", "Hugo", "Jack", "Leo", "Max", "Otto", "Paul", "Sam", "Tom"]
ANIMALS = ["bear", "cat", "dog", "duck", "fox", "frog", "goat", "lamb", "mouse", "pig", "pony", "rabbit"]
# Where a hero lives, and the places there where a thing can hide. No place is shared, so a spot tells its home.
HOMES = {
    "by the river": ("under the bridge", "between the stones", "in the boat", "in the mud"),
    "in the forest": ("under a bush", "in a hollow tree", "on the soft moss", "beside the path"),
    "on a farm": ("in the barn", "behind the gate", "under the hay", "near the well"),
    "in a village": ("in the square", "behind the school", "at the market", "on the church steps"),
    "by the sea": ("in the sand", "on the beach", "behind a rock", "in a cave"),
}


def _person(name: str) -> Option:
    forms = ("she", "her", "her") if name in GIRLS else ("he", "his", "him")
    he, his, him = forms
    return Option(name, {"he": he, "He": he.title(), "his": his, "His": his.title(), "him": him})


def _one_of(*texts: str) -> Slot:
    return Slot({"": tuple(map(Option, texts))})


def _slots() -> dict[str, Slot]:
    people = tuple(map(_person, (*GIRLS, *BOYS)))
    spots = [spot for home in HOMES.values() for spot in home]
    return {
        "hero": Slot({"": people}),
        "friend": Slot({hero.text: tuple(p for p in people if p is not hero) for hero in people}, "hero"),
        "trait": _one_of("brave", "clever", "curious", "gentle", "merry", "quiet", "shy", "young"),
        "kind": _one_of(*ANIMALS),
        "home": Slot({"": tuple(Option(home, {"First": home[0].upper() + home[1:]}) for home in HOMES)}),
        "spot": Slot({home: tuple(map(Option, spots)) for home, spots in HOMES.items()}, "home"),
        "second": Slot(
            {
                spot: tuple(Option(other) for home in HOMES.values() if spot in home for other in home if other != spot)
                for spot in spots
            },
            "spot",
        ),
        "time": _one_of(
            "One day", "One morning", "One evening", "Last summer", "On Sunday", "After lunch", "Yesterday", "In May"
        ),
        "colour": _one_of("red", "blue", "green", "yellow", "white", "black", "golden", "little"),
        "thing": _one_of("ball", "bell", "book", "cup", "doll", "drum", "flag", "hat", "key", "kite", "lamp", "ring"),
        "food": _one_of("bread", "cake", "cheese", "honey", "jam", "pie", "soup"),
        "storm": _one_of("storm", "wind", "fog", "rain"),
        "fear": _one_of("afraid", "cold", "lost", "wet"),
        "trouble": _one_of("sick", "tired", "sad", "lonely"),
        "game": _one_of("sang", "danced", "played", "laughed"),
    }


RULES: dict[str, tuple[Alternative, ...]] = {
    "opening": (
        Alternative(4, "{hero} was a {trait} {kind} who lived {home}.", "plot"),
        Alternative(2, "{home.First} lived a {trait} {kind} named {hero}.", "plot"),
        Alternative(2, "Once a {trait} {kind} named {hero} lived {home}.", "plot"),
        Alternative(1, "{hero} the {kind} lived {home} and was very {trait}.", "plot"),
    ),
    "plot": (
        Alternative(4, "{time} {hero.he} lost {hero.his} {colour} {thing}.", "search"),
        Alternative(2, "{time} {hero.he} found a {colour} {thing} {spot}.", "owner"),
        Alternative(2, "{time} {hero.his} friend {friend} was {trouble}.", "care"),
        Alternative(2, "{time} there was a great {storm}, and {hero.he} was {fear}.", "shelter"),
    ),
    # Something is lost: it is found later, where the story says.
    "search": (
        Alternative(3, "{hero.He} looked {spot}, but the {thing} was not there.", "again"),
        Alternative(2, "{hero.He} looked for it all day and began to cry.", "helper"),
        Alternative(2, '"Where is my {thing}?" asked {hero}.', "answer"),
    ),
    "again": (
        Alternative(2, "Then {hero.he} looked {second}, and there it was!", "joy"),
        Alternative(2, "Then {hero.his} friend {friend} found it {second}.", "thanks"),
        Alternative(1, "So {hero.he} went home and made a new {thing}.", "joy"),
    ),
    "helper": (
        Alternative(2, "{hero.His} friend {friend} found the {thing} {spot}.", "thanks"),
        Alternative(1, "But {friend} saw the {colour} {thing} {spot}.", "thanks"),
    ),
    "answer": (
        Alternative(2, '"It is {spot}," said {friend}.', "thanks"),
        Alternative(1, '"Is it {spot}?" asked {friend}, and there it was!', "thanks"),
    ),
    # Something is found: it belongs to someone, or to nobody.
    "owner": (
        Alternative(2, "It was the {thing} of {friend}, so {hero.he} took it back to {friend.him}.", "reward"),
        Alternative(2, '"That is my {thing}!" said {friend}.', "reward"),
        Alternative(2, "{hero.He} took the {thing} home.", "joy"),
    ),
    "reward": (
        Alternative(2, "{friend} was so glad that {friend.he} gave {hero} some {food}.", "meal"),
        Alternative(1, '"Thank you, {hero}!" said {friend}.', "end"),
    ),
    # Someone is in need.
    "care": (
        Alternative(2, "{hero} made some {food} and took it to {friend.him}.", "meal"),
        Alternative(2, "{hero} came to see {friend.him} with a {colour} {thing}.", "gift"),
    ),
    "gift": (
        Alternative(2, '"Is the {thing} for me?" asked {friend}, and {friend.he} was not {trouble} any more.'),
        Alternative(1, "{friend} loved the {thing}, and soon {friend.he} was well.", "end"),
    ),
    "shelter": (
        Alternative(1, "{hero.He} waited {spot} until the {storm} was over.", "after"),
        Alternative(1, "{hero.He} ran to {friend}, who gave {hero.him} some {food}.", "meal"),
    ),
    "after": (
        Alternative(1, "Then the sun came out, and {hero} was not {fear} any more."),
        Alternative(1, "When {hero.he} came out, {hero.he} found a {colour} {thing} {second}.", "joy"),
    ),
    "meal": (
        Alternative(2, "They ate the {food} and {game} until dark."),
        Alternative(1, '"I like {food}, {hero}," said {friend}.'),
    ),
    "thanks": (
        Alternative(2, '"Thank you, {friend}!" said {hero}.', "end"),
        Alternative(2, "{hero} was happy and gave {friend} some {food}.", "meal"),
        Alternative(1, "{hero} and {friend} {game} with the {colour} {thing} until dark."),
    ),
    "joy": (
        Alternative(2, "{hero} was so happy that {hero.he} {game} all day."),
        Alternative(2, "That night {hero.he} slept with the {thing} in {hero.his} bed."),
        Alternative(1, "{hero} the {kind} never lost the {colour} {thing} again."),
    ),
    "end": (
        Alternative(1, "They were best friends."),
        Alternative(1, "Then they {game} {home} until dark."),
        Alternative(1, "Then {hero} the {kind} went home."),
    ),
}

_VOWELS, _CONSONANTS, _ENDINGS = "aeiou", "bdfgklmnprstvz", ("", "l", "n", "r", "s")


@cache
def story_grammar() -> Grammar:
    """The English grammar; entropy() is its expected nats a story."""
    return Grammar(RULES, _slots(), "opening")


@cache
def _lexicon() -> dict[str, str]:
    """English word → invented word, lower case, one to one, about as long, and no English word of the grammar."""
    words = sorted({word.lower() for word in story_grammar().words()} - {name.lower() for name in (*GIRLS, *BOYS)})
    rng, taken, lexicon = Random(20), {*words, *(name.lower() for name in (*GIRLS, *BOYS))}, {}
    for word in words:
        invented = word
        while invented in taken:
            syllables = 1 if len(word) <= 3 else 2
            parts = [_CONSONANTS[int(rng.random() * 14)] + _VOWELS[int(rng.random() * 5)] for _ in range(syllables)]
            invented = "".join(parts) + _ENDINGS[int(rng.random() * 5)]
        taken.add(invented)
        lexicon[word] = invented
    return lexicon


def _translate(text: str) -> str:
    """English of the grammar → the invented language: names and punctuation stay, capitals follow."""
    names, lexicon = {*GIRLS, *BOYS}, _lexicon()

    def change(match: re.Match[str]) -> str:
        word = match[0]
        if word in names:
            return word
        invented = lexicon[word.lower()]
        return invented.title() if word[0].isupper() else invented

    return re.sub(r"[A-Za-z]+", change, text)


@cache
def second_grammar() -> Grammar:
    """The same grammar in the invented language: same structure and entropy, no common word but the names."""
    return story_grammar().mapped(_translate)


def translations() -> tuple[tuple[str, str], ...]:
    """(English, invented) for every word of the stories but the names, lower case, sorted by the English word."""
    return tuple(sorted(_lexicon().items()))


def translation_pairs(tokenizer: Tokenizer) -> tuple[tuple[int, int], ...]:
    """(English, invented) token ids of every translation that is one known token on both sides, in that order.

    Lower case, or with a capital where only that form is in the vocabulary; empty for a tokenizer of bytes.
    """

    def token(word: str) -> int | None:
        # The word tokenizer puts the space before a text's first word itself.
        ids = tokenizer.encode(word if tokenizer.name == "word" else f" {word}")
        return ids[0] if len(ids) == 1 and ids[0] != tokenizer.unk_id else None

    pairs = []
    for english, invented in translations():
        for first, second in ((english, invented), (english.title(), invented.title())):
            ids = token(first), token(second)
            if ids[0] is not None and ids[1] is not None:
                pairs.append((ids[0], ids[1]))
                break
    return tuple(pairs)


def write_stories(count: int, seed: int) -> list[Written]:
    """`count` independent stories with exact nats; the first n do not depend on `count`."""
    rng, grammar = Random(seed), story_grammar()
    return [grammar.write(rng) for _ in range(count)]


def write_bilingual(count: int, seed: int) -> list[Written]:
    """`count` stories, each in a language chosen by a fair coin; nats include the coin's ln 2 (no text is in both)."""
    rng, grammars = Random(seed), (story_grammar(), second_grammar())
    drawn = [grammars[int(rng.random() * 2)].write(rng) for _ in range(count)]
    return [Written(story.text, story.nats + math.log(2)) for story in drawn]
