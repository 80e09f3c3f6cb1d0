"""One damaged run is not the protocol's problem: lists stay, and the run itself says why in a problem document."""

from qcore.server.service import Service
from tests.attacks.planted import whole_run
from tests.server.conftest import Caller


def test_a_damaged_run_hides_no_other_and_says_why(tmp_path):
    whole_run(tmp_path / "good")
    whole_run(tmp_path / "bad")
    database = tmp_path / "bad" / "run.sqlite"
    data = database.read_bytes()
    database.write_bytes(data[:16384] + b"\xff" * (len(data) - 16384))
    with Service(tmp_path, port=0) as service:
        call = Caller(service)
        states = {run["name"]: run["state"] for run in call("GET", "/v1/runs").json["runs"]}
        assert states == {"good": "finished", "bad": "unreadable"}
        for path in ("", "/findings", "/events", "/series", "/controls"):
            assert call("GET", f"/v1/runs/good{path}").status == 200
            answer = call("GET", f"/v1/runs/bad{path}")
            assert answer.status == 409
            assert "bad/run.sqlite is damaged" in answer.json["detail"]
