"""A probabilistic grammar of sentences whose every text has an exactly known probability.

A grammar is a set of rules; a rule chooses one line by weight, a line is a sentence (or two) with slots, and names the
rule that continues the document. A slot is drawn uniformly at its first use and remembered, so later sentences refer
back to it. Choices never depend on anything but a slot's parent, so that probability, expected entropy and a scorer
that sees the text alone all follow by short recursions. Draws use `Random.random()` only, the one method whose
sequence Python promises to keep.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random

_REFERENCE = re.compile(r"\{(\w+)(?:\.(\w+))?\}")


@dataclass(frozen=True)
class Option:
    """One value of a slot: its text, and named forms of it ("he", "His" …) for `{slot.form}` in a line."""

    text: str
    forms: Mapping[str, str] = field(default_factory=dict)

    def form(self, name: str) -> str:
        return self.forms[name] if name else self.text


@dataclass(frozen=True)
class Slot:
    """A named choice, uniform over `options[parent's text]`; without a parent the key is the empty string."""

    options: Mapping[str, tuple[Option, ...]]
    parent: str = ""


@dataclass(frozen=True)
class Alternative:
    """One alternative of a rule: relative weight, sentence with `{slot}` references, and the next rule ("" ends)."""

    weight: float
    text: str
    then: str = ""


@dataclass(frozen=True)
class Written:
    """A document and its exact negative log-probability in nats."""

    text: str
    nats: float


@dataclass(frozen=True)
class _Compiled:
    pieces: tuple[tuple[str, str, str], ...]  # (literal, "", "") or ("", slot, form)
    probability: float
    nats: float
    then: str


class Grammar:
    """Rules and slots, checked on construction; documents are lines joined by one space.

    Raises:
        ValueError: for an unknown rule, slot or form, a slot used before its parent, or rules that loop.
    """

    def __init__(self, rules: Mapping[str, tuple[Alternative, ...]], slots: Mapping[str, Slot], start: str) -> None:
        self.rules, self.slots, self.start = rules, slots, start
        self._lines: dict[str, tuple[_Compiled, ...]] = {}
        self._cumulative: dict[str, list[float]] = {}
        for name, lines in rules.items():
            total = math.fsum(line.weight for line in lines)
            compiled = [_compile(line, line.weight / total) for line in lines]
            self._lines[name] = tuple(compiled)
            self._cumulative[name] = list(accumulate(line.probability for line in compiled))[:-1]
        self._check(start, frozenset(), ())

    def _check(self, rule: str, bound: frozenset[str], path: tuple[str, ...]) -> None:
        if rule not in self._lines:
            raise ValueError(f"the grammar has no rule {rule!r}; it has {sorted(self._lines)}")
        # of rules without an end the sum over all texts would have no end either
        if rule in path:
            raise ValueError(f"the grammar loops: {' → '.join((*path, rule))}; its entropy could not be computed")
        for line in self._lines[rule]:
            known = set(bound)
            for literal, name, form in line.pieces:
                if literal:
                    continue
                slot = self.slots.get(name)
                if slot is None:
                    raise ValueError(f"rule {rule!r} uses the unknown slot {name!r}; known: {sorted(self.slots)}")
                if slot.parent and slot.parent not in known:
                    raise ValueError(f"rule {rule!r} uses {name!r} before its parent {slot.parent!r} is chosen")
                for options in slot.options.values():
                    # every option, whatever its parent is: which one is drawn is chance, and the error would come then
                    for option in options:
                        if form and form not in option.forms:
                            raise ValueError(f"{option.text!r} of slot {name!r} has no form {form!r}")
                known.add(name)
            if line.then:
                self._check(line.then, frozenset(known), (*path, rule))

    def write(self, rng: Random) -> Written:
        """Draw one document: text and exact −ln p (nats), the sum over its choices of −ln p(choice)."""
        draw, slots = rng.random, self.slots
        chosen: dict[str, Option] = {}
        sentences: list[str] = []
        nats, rule = 0.0, self.start
        while rule:
            line = self._lines[rule][bisect_right(self._cumulative[rule], draw())]
            nats += line.nats
            words = []
            for literal, name, form in line.pieces:
                if literal:
                    words.append(literal)
                    continue
                if name not in chosen:
                    slot = slots[name]
                    options = slot.options[chosen[slot.parent].text if slot.parent else ""]
                    chosen[name] = options[int(draw() * len(options))]
                    nats += math.log(len(options))
                words.append(chosen[name].form(form))
            sentences.append("".join(words))
            rule = line.then
        return Written(" ".join(sentences), nats)

    def log_probability(self, text: str) -> float:
        """ln p(text) from the text alone: the sum over *all* derivations that write it; −inf where none does."""
        mass = self._rule_mass(self.start, text, 0, {})
        return math.log(mass) if mass > 0 else -math.inf

    def _rule_mass(self, rule: str, text: str, at: int, chosen: dict[str, Option]) -> float:
        return math.fsum(line.probability * self._line_mass(line, 0, text, at, chosen) for line in self._lines[rule])

    def _line_mass(self, line: _Compiled, index: int, text: str, at: int, chosen: dict[str, Option]) -> float:
        if index == len(line.pieces):
            if not line.then:
                return 1.0 if at == len(text) else 0.0
            return self._rule_mass(line.then, text, at + 1, chosen) if text.startswith(" ", at) else 0.0
        literal, name, form = line.pieces[index]
        if not literal and name not in chosen:
            slot = self.slots[name]
            options = slot.options[chosen[slot.parent].text if slot.parent else ""]
            return math.fsum(
                self._line_mass(line, index + 1, text, at + len(option.form(form)), {**chosen, name: option})
                for option in options
                if text.startswith(option.form(form), at)
            ) / len(options)
        expected = literal or chosen[name].form(form)
        if not text.startswith(expected, at):
            return 0.0
        return self._line_mass(line, index + 1, text, at + len(expected), chosen)

    def entropy(self) -> float:
        """Expected −ln p of a document in nats, exact.

        H(rule | slots bound) = H(lines) + Σ p(line)·(H(slots new in the line) + H(next rule | slots now bound)).

        It is the entropy of the *texts* when the grammar is unambiguous (each text has one derivation).
        """
        cache: dict[tuple[str, frozenset[str]], float] = {}

        def expected(rule: str, bound: frozenset[str]) -> float:
            if not rule:
                return 0.0
            if (rule, bound) not in cache:
                total = 0.0
                for line in self._lines[rule]:
                    used = frozenset(name for _, name, _ in line.pieces if name)
                    fresh = math.fsum(self._slot_entropy(name) for name in sorted(used - bound))
                    total += line.probability * (line.nats + fresh + expected(line.then, bound | used))
                cache[rule, bound] = total
            return cache[rule, bound]

        return expected(self.start, frozenset())

    def _slot_entropy(self, name: str) -> float:
        """Expected nats of a slot's draw, over the marginal distribution of its parent."""
        slot = self.slots[name]
        return math.fsum(p * math.log(len(slot.options[key])) for key, p in self._marginal(slot.parent).items())

    def _marginal(self, name: str) -> dict[str, float]:
        if not name:
            return {"": 1.0}
        slot = self.slots[name]
        marginal: dict[str, float] = {}
        for key, p in self._marginal(slot.parent).items():
            for option in slot.options[key]:
                marginal[option.text] = marginal.get(option.text, 0.0) + p / len(slot.options[key])
        return marginal

    def mapped(self, change: Callable[[str], str]) -> Grammar:
        """The same grammar in other words: `change` rewrites every literal and every form of every option."""

        def rewrite(option: Option) -> Option:
            return Option(change(option.text), {name: change(text) for name, text in option.forms.items()})

        def rewrite_line(line: Alternative) -> Alternative:
            parts = [
                ("{" + name + ("." + form if form else "") + "}") if name else change(literal)
                for literal, name, form in _split_references(line.text)
            ]
            return Alternative(line.weight, "".join(parts), line.then)

        rules = {name: tuple(rewrite_line(line) for line in lines) for name, lines in self.rules.items()}
        slots = {
            name: Slot(
                {change(key): tuple(map(rewrite, options)) for key, options in slot.options.items()}, slot.parent
            )
            for name, slot in self.slots.items()
        }
        return Grammar(rules, slots, self.start)

    def words(self) -> tuple[str, ...]:
        """Every word (run of letters) that the grammar can write, as written, sorted."""
        texts = [literal for lines in self._lines.values() for line in lines for literal, _, _ in line.pieces]
        for slot in self.slots.values():
            for option in (option for options in slot.options.values() for option in options):
                texts += [option.text, *option.forms.values()]
        return tuple(sorted({word for text in texts for word in re.findall(r"[^\W\d_]+", text)}))


def _split_references(text: str) -> tuple[tuple[str, str, str], ...]:
    pieces, at = [], 0
    for match in _REFERENCE.finditer(text):
        if match.start() > at:
            pieces.append((text[at : match.start()], "", ""))
        pieces.append(("", match[1], match[2] or ""))
        at = match.end()
    if at < len(text):
        pieces.append((text[at:], "", ""))
    return tuple(pieces)


def _compile(line: Alternative, probability: float) -> _Compiled:
    return _Compiled(_split_references(line.text), probability, -math.log(probability), line.then)
