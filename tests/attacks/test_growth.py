"""The time of everything that reads a person's text grows with its length and no faster: n letters against 2n.

The patterns are found in the source, so a new one is tried without being listed; the readers are listed, and a reader
of `qcore.config` that is missing from the list fails.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import qcore.config
from qcore.config import (
    DATA_ROOT,
    ConfigError,
    check_root,
    check_source,
    find_control,
    normal_name,
    preset,
    read_changes,
    read_config,
)
from qcore.config.rule_text import parse_limits, parse_rules
from qcore.config.schedule_text import parse_schedule
from qcore.config.texts import LONGEST_LINE
from qcore.lab import LabError
from qcore.runs.names import check_name
from tests.attacks.cpu import TooSlow, bounded, growth
from tests.attacks.patterns import ENDS, ROOT, Used, every_pattern, example, sources, stretched

LARGEST_RATIO = 3.0
NOT_A_PERSONS = {
    r"[ \t]+$": "the help topics of Python itself",
    r"^layers\.\d+\.": "names of our own parameters",
    r"{(\w+)}": "addresses declared by ourselves",
}
PLACES = sorted(path.relative_to(ROOT).as_posix() for path in sources() if "import re" in path.read_text("utf-8"))


@cache
def patterns() -> dict[str, list[Used]]:
    """File → its patterns."""
    found: dict[str, list[Used]] = {place: [] for place in PLACES}
    for used in every_pattern():
        if used.pattern not in NOT_A_PERSONS:
            found[used.place.partition(":")[0]].append(used)
    return found


def test_the_patterns_are_found() -> None:
    places = {place for place, found in patterns().items() if found}
    assert {"qcore/config/texts.py", "qcore/config/rule_text.py", "qcore/config/schedule_text.py"} <= places
    assert {"qcore/runs/names.py", "qcore/server/bodies.py"} <= places


@pytest.mark.parametrize("place", PLACES)
def test_patterns_take_time_in_proportion(place: str) -> None:
    for used in patterns()[place]:
        for number in range(24):
            seed = example(used.pattern, used.flags, random.Random(number))
            ratio = growth(stretching(used.apply, seed, number), 16_000, 2.0)
            assert ratio < LARGEST_RATIO, (
                f"{used.place}: {used.pattern!r} {used.method}: × {ratio:.1f} from {stretched(seed, 60, number)!r}"
            )


def stretching(read: Callable[[str], object], seed: str, number: int) -> Callable[[int], Callable[[], object]]:
    """Calls that read a text of a size."""

    def make(size: int) -> Callable[[], object]:
        text = stretched(seed, size, number)
        return lambda: read(text)

    return make


def answer(read: Callable[[str], object], text: str) -> str:
    """The refusal of a text; empty when it is taken. Anything else that is raised is a failure."""
    try:
        read(text)
    except (ConfigError, LabError) as error:
        return str(error)
    return ""


SEEDS = {
    "schedule": (
        "120: coherence_weight = 0.02",
        "stage concepts: 2 64%: coherence_weight = 0.005, diversity_weight = 0.3",
        "0% .. 50% .. 100%: learning_rate = 1e-3 -> 1e-4 → 1e-5 cosine",
    ),
    "rules": (
        "when train/grad_norm > 5 and T1 is active for 20 steps: restore, learning_rate *= 0.5; every 100 steps",
        "when unscaled_term:eos is active: pause; at most 3 times",
    ),
    "limits": ("learning_rate: 1e-5 .. 0.01, change x2, every 50 steps", "ce_weight: change ±0.1"),
    "names": ("optim.learning rate", "Learned collapse time t*", "cafe\u0301\u0316 run"),
    "changes": ("learning_rate = 0.001", "prompts=a = b"),
    "paths": ("~/my books/*.txt", "/proc/self/a.parquet, b/**/c[0-9].csv,./d.jsonl"),
    "yaml": (
        "model: {kind: phase_lm, width: 96}\noptim:\n  steps: 7\n  schedule: ['5: ce_weight = 1']\nseed: 3\n",
        "a: &a [x, *b, !!int '1']\n? k\n: |\n  text\n# comment\nb: \"\\u0041\"\n",
    ),
}
BASE = preset("tiny").config


def from_path(text: str) -> object:
    return check_source(BASE.with_values({"source": "text", "path": text}))


def from_files(text: str) -> object:
    return check_source(BASE.with_values({"source": "huggingface", "hub_name": "json", "data_files": text}))


def below_a_root(text: str) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_ROOT, "/proc/self")
        return check_root(BASE.with_values({"source": "huggingface", "hub_name": "json", "data_files": text}))


READERS: dict[Callable[[str], object], str] = {
    lambda text: parse_schedule([text]): "schedule",
    lambda text: BASE.check_change("schedule", [text]): "schedule",
    lambda text: BASE.check_change("schedule", text.replace(",", "\n")): "schedule",
    lambda text: parse_rules([text]): "rules",
    lambda text: BASE.check_change("rules", [text]): "rules",
    lambda text: parse_limits([text]): "limits",
    lambda text: BASE.check_change("limits", [text]): "limits",
    lambda text: BASE.check_change("learning_rate", text): "names",
    lambda text: BASE.check_change("lr_policy", text): "names",
    lambda text: BASE.with_values({text: 1}): "names",
    normal_name: "names",
    find_control: "names",
    check_name: "names",
    lambda text: read_changes([text]): "changes",
    lambda text: read_changes(text.split(",")): "changes",
    read_config: "yaml",
    from_path: "paths",
    from_files: "paths",
    below_a_root: "paths",
}


def test_every_reader_of_the_configuration_is_tried() -> None:
    """What is exported and reads, parses or checks must be called above, or be reached by what is."""
    tried = Path(__file__).read_text("utf-8").split("READERS", 1)[1]
    reached = {
        "parse_yaml": "read_config",
        "from_guide": "read_config",
        "parse_schedule": "parse_schedule",
        "check_live": "BASE.check_change",
        "check_schedule": "BASE.check_change",
        "check_rules": "BASE.check_change",
        "check_limits": "BASE.check_change",
        "read_text_file": "read_config",
        "check_root": "below_a_root",
        "check_source": "from_path",
    }
    for name in qcore.config.__all__:
        if inspect.isfunction(getattr(qcore.config, name)) and name.startswith(("read_", "parse_", "check_", "from_")):
            assert reached.get(name, name) in tried, f"{name} reads a person's text: try it here"


@pytest.mark.parametrize("read", READERS, ids=lambda read: inspect.getsource(read).strip()[:60].split("\n")[0])
def test_a_reader_takes_time_in_proportion(read: Callable[[str], object]) -> None:
    kind = READERS[read]
    sizes = (LONGEST_LINE // 2 - 100, 40_000) if kind in ("schedule", "rules", "limits") else (20_000,)

    for number in range(12):
        seed = SEEDS[kind][number % len(SEEDS[kind])]
        for size in sizes:
            ratio = growth(stretching(lambda text: answer(read, text), seed, number), size, 3.0, noise=0.02)
            assert ratio < LARGEST_RATIO, f"× {ratio:.1f} at {size} letters of {stretched(seed, 60, number)!r}"
            assert len(answer(read, stretched(seed, size, number))) <= 1_000


@pytest.mark.parametrize("end", [*ENDS, ",,", " ,", ";", "every 50 steps,"])
@pytest.mark.parametrize("kind", ["schedule", "rules", "limits"])
def test_the_readmes_own_lines_with_something_after_them_are_answered_at_once(kind: str, end: str) -> None:
    for line in SEEDS[kind]:
        with bounded(0.5):
            refusal = answer(lambda text: BASE.check_change(kind, [text]), line + end)
        assert not refusal or line[:20] in refusal


def test_a_trailing_comma_is_refused_with_its_line_and_the_reason() -> None:
    for kind, line in {
        "limits": "learning_rate: 1e-5 .. 0.01, change x2, every 50 steps,",
        "schedule": "120: coherence_weight = 0.02,",
        "rules": "when T1 is active: diversity_weight = 0.3,",
    }.items():
        with pytest.raises(ConfigError) as refused:
            BASE.check_change(kind, [line])
        assert line in str(refused.value)
        assert "ends with a comma: leave it out" in str(refused.value)


@pytest.mark.parametrize("count", [0, 1])
def test_the_measurement_sees_what_is_not_linear(count: int) -> None:
    """The pattern that froze everything, and a search that is quadratic."""
    bad = (r"\s*([a-z_]+)\s*:\s*((?:,?\s*[^,]+)*)\s*", r"[ \t]+$")[count]
    used = Used("here", bad, 0, ("fullmatch", "sub")[count])
    texts = (lambda size: "a: " + "b" * size + ",,", lambda size: " " * size + "x")

    def measured() -> float:
        try:
            return growth(lambda size: lambda: used.apply(texts[count](size)), 4_000, 1.0)
        except TooSlow:
            return float("inf")

    assert measured() > LARGEST_RATIO
