"""Over the protocol, a run that another program wrote: its own words and controls are told, and changes refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcore.lab import Lab
from qcore.server.client import Client, RefusedError
from qcore.server.service import Service
from tests.support import foreign
from tests.support.foreign import foreign_run


def test_an_external_run_is_read_and_cannot_be_changed(tmp_path: Path) -> None:
    with foreign_run(tmp_path, "own", "kind: external\nsource: train.py\n") as writer:
        foreign.everything(writer)
    with Lab(tmp_path), Service(tmp_path, port=0) as service, Client(service.url, service.token.value) as client:
        assert client.call("run_state", name="own")["kind"] == "external"
        assert client.call("run_config", name="own")["source"] == "train.py"
        assert [one["name"] for one in client.call("controls", name="own")["controls"]] == ["kl_weight"]
        assert client.call("control", name="own", control="kl_weight")["value"] == 0.2
        with pytest.raises(RefusedError, match="no control"):
            client.call("control", name="own", control="learning_rate")
        for action, more in (("set_control", {"control": "kl_weight", "value": 0.5}), ("pause", {}), ("sample", {})):
            with pytest.raises(RefusedError, match="another program wrote it"):
                client.call(action, name="own", **more)
        assert client.call("commands", name="own")["commands"] == []
