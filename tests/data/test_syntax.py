"""What stands around a text, and what is a text of its own kind."""

import base64
import inspect
import json
import random

import pytest

from qcore.data.text import syntax
from qcore.data.text.scripts import spaceless_share

PROSE = "Once upon a time there was a lab that looked at every text before it learned from it. "


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("tags", '<div class="a"><p>Once</p><b>upon</b> a time</div>\n' * 50),
        ("json", "\n".join(json.dumps({"id": number, "text": PROSE}) for number in range(50))),
        ("base64", base64.encodebytes(random.Random(0).randbytes(4000)).decode()),
        ("binary", "".join(chr(code % 32) for code in range(2000)) + PROSE * 20),
    ],
)
def test_a_wrapping_is_measured(kind, text):
    found = syntax.wrapping_shares([text])
    assert found.pop(kind) > 0.25
    assert max(found.values()) < 0.02


def test_other_kinds_of_text_are_none():
    draw = random.Random(1)
    logs = "\n".join(json.dumps({"level": "info", "ms": draw.randint(1, 900), "message": "done"}) for _ in range(200))
    table = "\n".join(f"{number},{draw.random():.3f},red" for number in range(300))
    dna = "\n".join("".join(draw.choices("ACGT", k=80)) for _ in range(100))
    code = inspect.getsource(syntax)
    japanese = "むかし　むかし、あるところに。" * 50
    for text in (logs, table, dna, code, japanese, PROSE * 50, "if a < b and c > d: vector<int> x;\n" * 50, ""):
        assert max(syntax.wrapping_shares([text]).values()) <= 0.02


def test_scripts_without_spaces_are_known_by_their_letters():
    assert spaceless_share(["むかしむかし", "你好世界", "สวัสดีชาวโลก"]) == 1.0
    assert spaceless_share(["옛날 옛적에 어느 마을에", PROSE, "Жили-были"]) == 0.0
    assert spaceless_share([]) == 0.0
