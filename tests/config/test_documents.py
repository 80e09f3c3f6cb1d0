"""YAML within bounds: bombs of every kind, damaged documents, and files that are none."""

import os
from pathlib import Path
from typing import Any

import pytest

from qcore.config import ConfigError, RunConfig, default_run, from_guide, parse_yaml, read_config, read_text_file
from qcore.config.documents import DEEPEST, LARGEST, MOST_NODES
from tests.attacks.cpu import bounded


def levels(depth: int, width: int, merge: bool) -> str:
    rows = ["l0: &l0 {kind: phase_lm}" if merge else "l0: &l0 [x, x]"]
    for level in range(1, depth):
        below = ", ".join([f"*l{level - 1}"] * width)
        rows.append(f"l{level}: &l{level} " + (f"{{<<: [{below}]}}" if merge else f"[{below}]"))
    return "\n".join(rows) + f"\nmodel: *l{depth - 1}\n"


BOMBS = {
    "merge keys": (levels(8, 8, True), r"line 2: merge keys \(<<\) are not read: write the values out"),
    "one merge key": ("a: &a {b: 1}\nmodel:\n  <<: *a\n", r"line 3: merge keys"),
    "a merge key of a list": ("model:\n  <<: [{a: 1}]\n", r"line 2: merge keys"),
    "aliases": (levels(9, 9, False), rf"line \d: it stands for more than {MOST_NODES} values"),
    "an alias of itself": ("a: &a\n  - *a\n", r"line 2: \*a refers to a value that contains it"),
    "depth of lists": ("[" * 5_000, rf"line 1: it is nested more than {DEEPEST} deep"),
    "depth of blocks": ("- " * 5_000, rf"line 1: it is nested more than {DEEPEST} deep"),
    "depth of mappings": ("{a: " * 5_000, rf"line 1: it is nested more than {DEEPEST} deep"),
    "depth of keys": ("? " * 5_000, rf"line 1: it is nested more than {DEEPEST} deep"),
    "many values": ("a:\n" + "- 1\n" * 30_000, rf"line \d+: it stands for more than {MOST_NODES} values"),
    "many letters": ("#" * (LARGEST + 1), rf"has {LARGEST + 1} bytes: at most {LARGEST} are read"),
    "letters of three bytes": ("# " + "語" * 100_000, rf"has 300002 bytes: at most {LARGEST} are read"),
    "a long number": ("a: 1\nseed: " + "9" * 5_000, r"line 2: a number of 5000 letters is refused: 100 are allowed"),
    "a long hexadecimal": ("seed: 0x" + "f" * 9_000, r"line 1: a number of 9002 letters"),
    "base sixty": ("seed: 1" + ":59" * 3_000, r"line 1: a number of 9001 letters"),
}


@pytest.mark.parametrize("read", [RunConfig.from_yaml, read_config, from_guide], ids=["ours", "either", "guide"])
@pytest.mark.parametrize(("text", "words"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_refused_at_once_with_the_line(read: Any, text: str, words: str) -> None:
    with bounded(2.0), pytest.raises(ConfigError, match=words) as refused:
        read(text)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optim: {steps: 1}\nseed: !!int ''", r"line 2: '' is no int: write a plain value"),
        ("seed: !!bool x", r"line 1: 'x' is no bool"),
        ("seed: !!float ''", r"line 1: '' is no float"),
        ("seed: !!int 09", r"line 1: '09' is no int"),
        ("\n\nseed: !!timestamp x", r"line 3: could not determine a constructor for the tag"),
        ("seed: !!binary |\n  AAAA", r"line 1: could not determine a constructor"),
        ("seed: !!set {a}", r"line 1: could not determine a constructor"),
        ("seed: !!python/name:os.system", r"line 1: could not determine a constructor"),
        ("seed: !x 1", r"line 1: could not determine a constructor"),
        ("seed: *nothing", r"line 1: found undefined alias 'nothing'"),
        ("a: 1\nb: [\n", r"line 3: while parsing a flow"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', r"line 2: "),
        ('b: "\\q"\n', r"line 1: .*unknown escape character 'q'"),
        ("%YAML " + "1" * 5_000 + ".1\n---\n", r"line 1: "),
        ("a: 1\nb: \x00\n", r"line 2: the character U\+0000 cannot stand there"),
        ("a: 1\nb: \ud800\n", r"line 2: the character U\+D800 cannot stand there"),
        ("--- a\n--- b\n", r"line 2: expected a single document"),
        ("a: b: c", r"line 1: mapping values are not allowed here"),
        ("\ta: 1", r"line 1: "),
        ("? [a]\n: 1", r"line 1: while constructing a mapping found unhashable key"),
        ("optim: {steps: 5}\nseed: 1\noptim: {batch_size: 2}", r"line 3: 'optim' is given twice: leave one out"),
        ("optim:\n  learning_rate: 0.1\n  learning_rate: 0.2", r"line 3: 'learning_rate' is given twice"),
        ("flow_matching: {t_star: 0.1, t_star: 0.2}", r"line 1: 't_star' is given twice"),
    ],
    ids=lambda value: value[:22],
)
def test_every_mistake_of_a_document_is_a_refusal_with_its_line(text: str, words: str) -> None:
    for read in (RunConfig.from_yaml, read_config, from_guide):
        with pytest.raises(ConfigError, match=words) as refused:
            read(text)
        assert "this is not YAML" in str(refused.value)
        assert len(str(refused.value)) < 600


def test_what_people_write_still_reads() -> None:
    text = (
        "\ufeff# ours\nbase: &base {a: [1, 0x1F, 1_000, 0o7, 1.5, 1e-3, .inf, true, No, ~, null, '5', \"\\u00e9\"]}\n"
        "again: *base\nmore: [*base, *base]\nwhen: 2001-12-14\ntext: |\n  a\n  b\n? key\n: value\n"
    )
    values = parse_yaml(text)
    assert values["base"]["a"] == [1, 31, 1000, "0o7", 1.5, "1e-3", float("inf"), True, False, None, None, "5", "é"]
    assert values["more"] == [values["base"]] * 2 == [values["again"]] * 2
    assert (values["when"], values["text"], values["key"]) == ("2001-12-14", "a\nb\n", "value")
    assert parse_yaml("") is None
    assert parse_yaml("data: {path: 2001-12-14}") == {"data": {"path": "2001-12-14"}}
    config = default_run().with_values({"path": "2001-12-14", "prompts": ["1e-3", "<<", "=", "&a", "yes", "1:30"]})
    assert RunConfig.from_yaml(config.to_yaml()) == config


def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    good, latin, large = tmp_path / "good.yaml", tmp_path / "latin.yaml", tmp_path / "large.yaml"
    good.write_text("seed: 3\n", "utf-8")
    latin.write_bytes(b"seed: 3\n# caf\xe9\n")
    large.write_bytes(b"#" * (LARGEST + 1))
    assert read_text_file(good) == "seed: 3\n"
    refusals = {
        latin: r"latin\.yaml is not UTF-8: byte 0xE9 in line 2; save it as UTF-8",
        large: rf"large\.yaml has more than {LARGEST} bytes",
        tmp_path: "is a folder: name the YAML file in it",
        tmp_path / "none.yaml": r"there is no file .*none\.yaml: check the path",
        good / "below": r"below cannot be read \(Not a directory\)",
        tmp_path / ("x" * 300): r"cannot be read \(File name too long\)",
        Path("/dev/zero"): rf"/dev/zero has more than {LARGEST} bytes",
        Path("a\0b"): "cannot be read",
    }
    for path, words in refusals.items():
        with bounded(2.0), pytest.raises(ConfigError, match=words):
            read_text_file(path)
    if os.geteuid():
        good.chmod(0)
        with pytest.raises(ConfigError, match=r"good\.yaml cannot be read \(Permission denied\)"):
            read_text_file(good)


def test_a_document_says_which_file_it_is_from() -> None:
    with pytest.raises(ConfigError, match=r"^mine\.yaml: this is not YAML .* line 1: merge keys"):
        read_config("{<<: {a: 1}}", name="mine.yaml")
