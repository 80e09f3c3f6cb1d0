"""Random texts in place of what a person writes: each is taken or refused, in bounded time, and nothing else happens.

`QCORE_ATTACKS=20 pytest tests/attacks/test_texts.py` tries twenty times as many; `QCORE_SEED` takes others.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qcore.config import (
    PRESETS,
    ConfigError,
    RunConfig,
    all_controls,
    check_limits,
    check_rules,
    check_schedule,
    command_from_row,
    find_control,
    preset,
    read_changes,
    read_config,
    to_row,
)
from qcore.lab import LabError
from qcore.runs.names import check_name
from tests.attacks.cpu import bounded

SCALE = float(os.environ.get("QCORE_ATTACKS", "1"))
SEED = int(os.environ.get("QCORE_SEED", "20261130"))
CPU_LIMIT, LONGEST_REFUSAL = 3.0, 1_100
BASE = preset("tiny").config
NUMBERS = (
    "0",
    "1",
    "-1",
    "0.5",
    "1e-5",
    "3e+2",
    "1e999",
    "-1e400",
    "nan",
    "inf",
    "007",
    ".5",
    "5.",
    "1_0",
    "٣",
    "²",
    "０",
)
LONG = ("9" * 60, "9" * 400, "9" * 5_000, "0" * 4_400 + "1", "1." + "3" * 900, "1e" + "9" * 400, "x" * 6_000)
ODD = tuple(" \t\r\u00a0\u2028\u2029\x85\x00\x1b\u200b\ud800🙂éⅧ−．")
MARKS = (*",;:=%/><±×#'\"\\", ",,", ": ", "*=", "+=", "..", "->", "→", "<=")
WORDS = {
    "schedule": (
        "stage",
        *["concepts", "120", "36%", "0%", "ce_weight", "log", "cosine", "manual"],
        "learning rate",
        "100 %",
    ),
    "rules": (
        *[
            "when",
            "T1",
            "and",
            "for",
            "20",
            "steps",
            "train/loss",
            "pause",
            "restore",
            "every",
            "3",
            "times",
            "clip_norm",
            "lr_policy",
            "rules",
        ],
        "is active",
        "at most",
        "Optim.Learning-Rate",
    ),
    "limits": (*["change", "x2", "±0.1", "every", "50", "steps", "learning_rate", "steps", "width"], "ce weight"),
}
LINES = {
    "schedule": (
        "120: coherence_weight = 0.02",
        "stage late 36%: ce weight = 0.5, clip_norm = 1",
        "0% .. 40% .. 90%: learning_rate = 1e-3 -> 1e-4 → 1e-5 log",
        "3 .. 9: torch_threads = 1 -> 4",
    ),
    "rules": (
        "when T1 is active: diversity_weight = 0.3",
        "when train/grad_norm > 5 and T1 is active for 20 steps: restore, learning_rate *= 0.5; every 9 steps",
        "when eval/ce < 2: checkpoint, steps += 100; at most 3 times",
    ),
    "limits": (
        "learning_rate: 1e-5 .. 0.01, change x2, every 50 steps",
        "label smoothing: change ±0.1",
        "steps: every 10 steps",
    ),
}


def numbered(text: str, rng: random.Random) -> str:
    """The text with some of its numbers replaced by worse ones."""
    out, digits = [], ""
    for letter in text + " ":
        if letter.isdigit():
            digits += letter
            continue
        if digits:
            out.append(rng.choice((*NUMBERS, *LONG, digits)) if rng.random() < 0.3 else digits)
        digits = ""
        out.append(letter)
    return "".join(out)[:-1]


def damaged(text: str, rng: random.Random, words: tuple[str, ...]) -> str:
    """The text after a few blows."""
    for _ in range(rng.randint(1, 5)):
        at = rng.randint(0, len(text))
        to = min(len(text), at + rng.choice((1, 2, 5, 20)))
        match rng.randrange(7):
            case 0:
                text = text[:at] + text[to:]
            case 1:
                text = text[:at] + rng.choice(words) + text[at:]
            case 2:
                text = text[:at] + rng.choice((*MARKS, *ODD, *NUMBERS)) + text[at:]
            case 3:
                text = text[:at] + text[at:to] * rng.choice((2, 9, 70, 900)) + text[to:]
            case 4:
                text = numbered(text, rng)
            case 5:
                text += rng.choice((",", " ,", ";", ":", "x" * rng.randint(5, 60) + ",", " and " * 30, " " * 3_000))
            case _:
                text = " ".join(rng.sample(text.split(" "), len(text.split(" "))))
        text = text[:60_000]
    return text


def line(kind: str, rng: random.Random) -> str:
    if rng.random() < 0.25:
        pieces = (*WORDS[kind], *MARKS, *NUMBERS, *ODD)
        return " ".join(rng.choice(pieces) for _ in range(rng.randint(1, 16)))
    return damaged(rng.choice(LINES[kind]), rng, WORDS[kind])


def try_lines(kind: str, rng: random.Random) -> None:
    """A configuration takes the lines or not; what is taken can be carried out."""
    given = [line(kind, rng) for _ in range(rng.choice((1, 1, 1, 3)))]
    BASE.check_change(kind, given if rng.random() < 0.7 else "\n".join(given))
    if kind == "schedule":
        schedule = check_schedule(given, BASE.kind)
        for change in schedule.changes:
            assert 0 <= change.step(400) <= 10_000_000
        for ramp in schedule.ramps:
            ramp.span(400)
            assert all(math.isfinite(ramp.value(step, 400)) for step in (0, 1, 37, 399, 400, 10_000_000))
    elif kind == "rules":
        for rule in check_rules(given, BASE.kind):
            assert 1 <= rule.every <= 10_000_000
            for action in rule.actions:
                action.target(0.1)
                assert find_control(action.name, BASE.kind).name == action.name
    else:
        for name, limit in check_limits(given, BASE.kind).items():
            control = find_control(name, BASE.kind)
            if control.kind in ("float", "int"):
                for wanted in (-5.0, 0.0, 1e300, math.inf):
                    assert control.check(limit.allowed(control, float(control.default), wanted)) is not None


VALUES: tuple[Any, ...] = (
    *NUMBERS, *LONG, *ODD, "", "true", "cosine", None, True, [], {}, [[]], [1], ["a"] * 3_000, {"a": {}}, b"x", 10**400,
    -(10**30), 2**63, 1e308, math.nan, math.inf, "../../x", "<b>", "${x}", "=1", "!!python/name:os.system", object(),
)  # fmt: skip


def name_of(rng: random.Random) -> str:
    name = rng.choice(all_controls(rng.choice(("phase_lm", "video_flow")))).name
    match rng.randrange(6):
        case 0:
            return name.replace("_", rng.choice((" ", "-", "  ", "__"))).title()
        case 1:
            return rng.choice(("optim.", "model.", ".", "x.")) + name
        case 2:
            return damaged(name, rng, (name, "rate", "weight"))
        case _:
            return name


def try_set(rng: random.Random) -> None:
    """A change of a configuration, and a command as it stands in a database."""
    name, value = name_of(rng), rng.choice(VALUES)
    if rng.random() < 0.5:
        changed = BASE.with_values({name: value})
        assert RunConfig.from_yaml(changed.to_yaml()) == changed
    else:
        kind = rng.choice(("set", "step", "sample", "grow", "mute", "restore", "acknowledge", "nonsense"))
        fields: tuple[dict[str, Any], ...] = (
            {"name": name, "value": value},
            {"name": value, "value": name},
            {"count": value},
            {"before": value},
            {"finding": value},
            {"finding": "a", "muted": value},
            {"changes": {name: value}},
            {"generation": "a", "prompt": "b", "settings": {name: value}},
            {name: value},
        )
        command = command_from_row(kind, rng.choice(fields))
        assert to_row(command)[0] == kind


def try_changes(rng: random.Random) -> None:
    values = (*NUMBERS, *LONG, *ODD)
    signs = ("=", "=", " = ", " = ", "", "==")
    items = [f"{name_of(rng)}{rng.choice(signs)}{rng.choice(values)}" for _ in range(rng.choice((1, 1, 3)))]
    BASE.with_values(read_changes(items))


def try_name(rng: random.Random) -> None:
    name = "".join(
        rng.choice((chr(rng.randrange(0x110000)), "a", ".", "/", "..", " ", "\u0301\u0316", "CON", "\u202e", "x" * 60))
        for _ in range(rng.choice((1, 3, 9, 200)))
    )
    checked = check_name(name)
    assert not set("/\\\0") & set(checked)
    assert checked.strip(". ") == checked
    assert len(checked.encode()) <= 120
    assert check_name(checked) == checked


TAGS = ("!!int ''", "!!bool x", "!!float", "!!timestamp x", "!!binary |\n AA", "!!set {a}", "!x y", "!!omap [a: 1]")
BITS = (
    *TAGS,
    *[
        "&a ",
        "*a",
        "*b",
        "~",
        "=",
        "<<",
        "? ",
        "- ",
        "[",
        "{",
        "]",
        "}",
        "#",
        "%",
        "2001-99-99",
        ".nan",
        "-.inf",
        "&x [*x]",
    ],
    *("<<: *a\n", "|\n", ">\n", "%YAML 9.9\n---\n", "---\n", "# c\n", "\n\n", "\t", "\x85", "\ufeff", "\x00"),
    *('"\\UFFFFFFFF"', '"\\ud800"', '"\\x"', "!!python/object/apply:os.system [ls]"),
    *("0x" + "f" * 5_000, "0b" + "1" * 9_000, "1" + ":59" * 3_000, "9" * 5_000, "a" * 5_000 + ": 1\n"),
    *("[" * 400, "- " * 90, "{a: " * 60, "steps: 5\n", "optim:\n", "learning rate: 0.1\n"),
)


def bomb(rng: random.Random) -> str:
    """Levels of aliases, or of merge keys, over a small thing."""
    width, depth, merge = rng.randint(2, 9), rng.randint(2, 9), rng.random() < 0.5
    rows = ["l0: &l0 {kind: phase_lm}" if merge else "l0: &l0 [x, y]"]
    for level in range(1, depth):
        below = ",".join([f"*l{level - 1}"] * width)
        rows.append(f"l{level}: &l{level} " + (f"{{<<: [{below}]}}" if merge else f"[{below}]"))
    return "\n".join(rows) + f"\nmodel: *l{depth - 1}\n"


def try_yaml(rng: random.Random) -> None:
    text = rng.choice(list(PRESETS.values())).config.to_yaml()
    match rng.randrange(5):
        case 0:
            text = bomb(rng)
        case 1:
            rows = text.split("\n")
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(rows))
                key, colon, _ = rows[at].partition(": ")
                rows[at] = f"{key}{colon}{rng.choice((*BITS, *NUMBERS, *LONG, *ODD))}"
            text = "\n".join(rows)
        case 2:
            text = rng.choice(BITS) * rng.choice((1, 40, 2_000))
        case 3:
            raw = bytearray(text.encode())
            for _ in range(rng.randint(1, 8)):
                raw[rng.randrange(len(raw))] = rng.randrange(256)
            text = raw.decode("latin-1")
        case _:
            text = damaged(text[: rng.randint(1, 3_000)], rng, BITS)
    config, _ = read_config(text)
    assert RunConfig.from_yaml(config.to_yaml()) == config


TRIED: dict[str, tuple[int, Callable[[random.Random], None]]] = {
    "schedule": (1500, lambda rng: try_lines("schedule", rng)),
    "rules": (1500, lambda rng: try_lines("rules", rng)),
    "limits": (1500, lambda rng: try_lines("limits", rng)),
    "set": (1500, try_set),
    "changes": (1500, try_changes),
    "name": (1500, try_name),
    "yaml": (500, try_yaml),
}


def cases(kind: str) -> Iterator[tuple[int, Callable[[random.Random], None]]]:
    count, attempt = TRIED[kind]
    for number in range(math.ceil(count * SCALE)):
        yield number, attempt


@pytest.mark.parametrize("kind", TRIED)
def test_whatever_a_person_writes_is_taken_or_refused(kind: str) -> None:
    taken = refused = 0

    def one(attempt: Callable[[random.Random], None], number: int) -> str:
        try:
            attempt(random.Random(f"{SEED}-{kind}-{number}"))
        except (ConfigError, LabError) as error:
            return str(error)
        return ""

    for number, attempt in cases(kind):
        with bounded(CPU_LIMIT):
            refusal = one(attempt, number)
        refused += bool(refusal)
        taken += not refusal
        assert len(refusal) <= LONGEST_REFUSAL, f"seed {SEED}, {kind} {number}: a refusal of {len(refusal)} letters"
        refusal.encode("utf-8")
    assert refused > 0, "nothing was attacked"
    assert taken > 0, "everything was refused: the texts are too far from good ones"
