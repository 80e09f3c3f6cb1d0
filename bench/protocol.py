"""What the control protocol costs the training: the same run without and with 50 clients, A B A B.

`qcore serve` runs in a process of its own and starts the run in its training process, as it always does. The clients
are threads of one more process (`--clients-only`), each with a pause between its requests: reads, streams, commands
that change a control, and requests that are wrong in eleven ways. Clients, server and training share this machine's
cores. Afterwards every change that was applied is looked for in the run's events, with its author.
    python bench/protocol.py [--seconds 4] [--pairs 5] [--clients 50] [--rate 1.0] [--preset tiny]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.base.run_states import RunState
from qcore.config import preset
from qcore.lab import Lab
from qcore.server.client import Client
from qcore.server.token import TOKEN_FILE

RUN = "bench"
ENDLESS = 10_000_000
STREAMS = 5
CONTROL = f"/v1/runs/{RUN}/controls/clip_norm"
READS = (
    "/v1/runs",
    f"/v1/runs/{RUN}",
    f"/v1/runs/{RUN}/controls",
    f"/v1/runs/{RUN}/series?series=train/loss,eval/ce&max_points=500",
    f"/v1/runs/{RUN}/findings",
    f"/v1/runs/{RUN}/events",
)
WRONG: tuple[tuple[str, str, bytes | None, dict[str, str]], ...] = (
    ("GET", "/v1/runs/nobody", None, {}),
    ("GET", "/v1/nothing", None, {}),
    ("DELETE", f"/v1/runs/{RUN}", None, {}),
    ("PUT", CONTROL, b'{"value": 1e9}', {}),
    ("PUT", CONTROL, b'{"value": NaN}', {}),
    ("PUT", CONTROL, b"{", {}),
    ("PUT", CONTROL, b"[" * 20_000, {}),
    ("PUT", CONTROL, b'{"value": 1}', {"Content-Type": "text/plain"}),
    ("PUT", CONTROL, b"x" * 1_200_000, {}),
    ("GET", "/v1/runs", None, {"Authorization": "Bearer wrong"}),
    ("GET", "/v1/runs", None, {"Host": "evil.example"}),
)


@dataclass
class Tally:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    messages: int = 0
    broken: int = 0


class Visit:
    """When the clients are at work, and what they saw."""

    def __init__(self) -> None:
        self.ends, self.here = threading.Event(), threading.Event()
        self.tally = Tally()


def listen(place: tuple[str, int], headers: dict[str, str], visit: Visit) -> None:
    """One client that listens to a stream while the clients are here."""
    while not visit.ends.is_set():
        if not visit.here.wait(0.05):
            continue
        connection = http.client.HTTPConnection(*place, timeout=30)
        connection.request("GET", f"/v1/runs/{RUN}/events", headers={**headers, "Accept": "text/event-stream"})
        answer = connection.getresponse()
        while visit.here.is_set() and (line := answer.readline()):
            visit.tally.messages += line.startswith(b"event:")
        connection.close()


def ask(place: tuple[str, int], headers: dict[str, str], visit: Visit, draw: random.Random, rate: float) -> None:
    """One client that asks, pauses, and asks again while the clients are here."""
    connection, tally = http.client.HTTPConnection(*place, timeout=30), visit.tally
    while not visit.ends.wait(draw.expovariate(rate)):
        if not visit.here.is_set():
            continue
        method, path, body, more = "GET", draw.choice(READS), None, {}
        chance = draw.random()
        if chance < 0.2:
            method, path = "PUT", f"{CONTROL}?wait=2"
            body = json.dumps({"value": round(draw.uniform(0.5, 5.0), 3)}).encode()
            more = {"Idempotency-Key": f"{draw.random()}"}
        elif chance < 0.4:
            method, path, body, more = draw.choice(WRONG)
        started = time.perf_counter()
        try:
            connection.request(method, path, body, {**headers, **more})
            answer = connection.getresponse()
            text = answer.read()
            problem = answer.status >= 400
            kind = "application/problem+json" if problem else "application/json"
            tally.broken += answer.headers.get_content_type() != kind or b"Traceback" in text
            tally.statuses[f"{answer.status}"] += 1
            if not problem:
                tally.seconds.append(time.perf_counter() - started)
        except (OSError, http.client.HTTPException):
            # The server hangs up on a body that is too large while it is still being sent.
            tally.statuses["hung up" if body is not None and len(body) > 1_000_000 else "failed"] += 1
            connection.close()


def drive(url: str, token: str, clients: int, rate: float) -> None:
    """The clients' process: `come` and `go` on standard input, the tally on standard output when that ends."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    place, visit, threads = (parts.hostname, parts.port), Visit(), []
    for number in range(clients):
        headers = {"Authorization": f"Bearer {token}", "X-Client": f"c{number}", "Content-Type": "application/json"}
        work: tuple[Any, tuple[Any, ...]] = (listen, (place, headers, visit))
        if number >= STREAMS:
            work = (ask, (place, headers, visit, random.Random(number), rate))
        threads.append(threading.Thread(target=work[0], args=work[1], name=f"client-{number}"))
    for thread in threads:
        thread.start()
    for line in sys.stdin:
        (visit.here.set if line == "come\n" else visit.here.clear)()
    visit.ends.set()
    for thread in threads:
        thread.join()
    print(json.dumps(vars(visit.tally)))


@contextlib.contextmanager
def served(runs: Path) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """`qcore serve`: its address, its token, its process."""
    command = [sys.executable, "-m", "qcore", "serve", str(runs), "--port", "0", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        text = ""
        while not text.endswith("}\n"):
            text += process.stdout.readline()
        yield json.loads(text)["url"], (runs / TOKEN_FILE).read_text().strip(), process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(90)


def visitors(url: str, token: str, clients: int, rate: float) -> subprocess.Popen[str]:
    """The clients' process; nobody is at work yet."""
    command = [sys.executable, __file__, "--clients-only", url, token, "--clients", str(clients), "--rate", str(rate)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def tell(process: subprocess.Popen[str], word: str) -> None:
    """Let the clients come or go, and give them a moment to."""
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()
    time.sleep(1.0)


def speed(lab: Lab, seconds: float) -> tuple[float, float]:
    """(steps a second by the trainer's own clock, processor seconds of the trainer a step) over a while."""
    trainer, first = lab.info(RUN).pid, lab.reader(RUN).last("train/loss")
    assert first is not None
    before = cpu_seconds(trainer)
    time.sleep(seconds)
    series, after = lab.reader(RUN).scalars("train/loss", start=first[0]), cpu_seconds(trainer)
    steps = float(series.steps[-1] - series.steps[0])
    return steps / float(series.wall[-1] - series.wall[0]), (after - before) / steps


def unlogged(lab: Lab) -> tuple[int, int]:
    """(changes that were applied, those of them without an event of the same author and value)."""
    reader = lab.reader(RUN)
    events = {event.command_id: event for event in reader.events() if event.kind == "control"}
    applied = [row for row in reader.commands("applied") if row.kind == "set" and "→" in row.message]
    missing = [
        row for row in applied
        if row.id not in events or events[row.id].author != row.author
        or events[row.id].payload["new"] != row.payload["value"]
    ]  # fmt: skip
    without_command = [event for event in events.values() if event.command_id is None]
    return len(applied), len(missing) + len(without_command)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second of each client")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--clients-only", nargs=2, metavar=("URL", "TOKEN"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.clients_only:
        drive(*chosen.clients_only, chosen.clients, chosen.rate)
        return
    config = preset(chosen.preset).config.with_values({"steps": ENDLESS, "torch_threads": 1})
    ratios, speeds, cpu, work = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (url, token, server), Lab(folder) as lab:
        with Client(url, token, name="bench") as first:
            first.call("start", config=config.model_dump(), run=RUN)
        crowd = visitors(url, token, chosen.clients, chosen.rate)
        while lab.info(RUN).step < 20:
            time.sleep(0.2)
        for _ in range(chosen.pairs):
            alone, work_alone = speed(lab, chosen.seconds)
            tell(crowd, "come")
            before = cpu_seconds(server.pid)
            beside, work_beside = speed(lab, chosen.seconds)
            cpu.append((cpu_seconds(server.pid) - before) / chosen.seconds)
            tell(crowd, "go")
            ratios.append(beside / alone)
            speeds.append((alone, beside))
            work.append((work_alone, work_beside))
        seen = json.loads(crowd.communicate(timeout=60)[0])
        applied, missing = unlogged(lab)
        alive = server.poll() is None and lab.info(RUN).state == RunState.RUNNING
    ordered = sorted(seen["seconds"])
    alone, beside = (statistics.median(column) for column in zip(*speeds, strict=True))
    work_alone, work_beside = (statistics.median(column) for column in zip(*work, strict=True))
    print(
        f"steps/s alone {alone:.2f} · with {chosen.clients} clients at {chosen.rate:g}/s {beside:.2f} · "
        f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f}, {chosen.pairs} pairs) · "
        f"server {statistics.median(cpu):.2f} of a core · processor time of a step "
        f"{1e3 * work_alone:.0f} → {1e3 * work_beside:.0f} ms"
    )
    print(
        f"answers {sum(seen['statuses'].values())} {dict(sorted(seen['statuses'].items()))} · "
        f"{seen['messages']} stream messages · {seen['broken']} not as promised · "
        f"good answers: median {1e3 * statistics.median(ordered):.1f} ms, "
        f"95 % {1e3 * ordered[int(0.95 * len(ordered))]:.1f} ms"
    )
    print(f"applied changes {applied} · without their event {missing} · server and run alive: {alive}")


if __name__ == "__main__":
    main()
