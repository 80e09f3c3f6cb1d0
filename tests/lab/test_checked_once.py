"""One value is checked where it comes in, and once more before it is used; nowhere between."""

from pathlib import Path
from typing import Any

import pytest

from qcore.automation.control_board import ControlBoard
from qcore.config import ConfigError, SetControl, command_from_row
from qcore.config.controls import Control
from qcore.lab import Lab
from tests.pages.filmed import write_video_run


def test_a_sliders_value_is_checked_at_the_edge_and_when_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_video_run(tmp_path, "still", last=0)
    checks: list[str] = []
    whole = Control.check
    monkeypatch.setattr(Control, "check", lambda self, value: checks.append(self.name) or whole(self, value))

    def counted(act: Any) -> int:
        checks.clear()
        act()
        return checks.count("learning_rate")

    with Lab(tmp_path) as lab:
        config = lab.config("still")
        assert counted(lambda: lab.command("still", SetControl("learning rate", "1e-4"))) == 1
        row = lab.reader("still").commands()[-1]
        assert row.payload == {"name": "learning_rate", "value": 1e-4}
        with pytest.raises(ConfigError, match="learning_rate = 7 is refused"):
            lab.command("still", SetControl("learning_rate", 7))
    board = ControlBoard(config)
    assert counted(lambda: command_from_row(row.kind, row.payload)) == 1
    assert counted(lambda: board.take(board.check("learning_rate", 1e-4))) == 1
    assert board["learning_rate"] == 1e-4
