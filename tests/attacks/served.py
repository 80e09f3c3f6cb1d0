"""The real app and the real protocol server in processes of their own, and requests to them byte by byte."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The clock is the time of a file's last change, which changes in one piece.
_CLOCKED = """
import os, types
import qcore.server.live
qcore.server.live.time = types.SimpleNamespace(monotonic=lambda: os.stat({path!r}).st_mtime)
"""
_APP = """
import sys
from streamlit.web.cli import main
sys.argv = ["streamlit", "run", *sys.argv[1:]]
main()
"""
_SERVE = """
import sys
from qcore.cli import main
sys.exit(main(["serve", *sys.argv[1:]]))
"""


class Clock:
    """A clock that stands still, and by which the channels of an app live whose process runs `source` first."""

    def __init__(self, path: Path) -> None:
        path.touch()
        os.utime(path, (1e6, 1e6))
        self._path, self.source = path, _CLOCKED.format(path=str(path))

    def pass_by(self, seconds: float) -> None:
        """So many seconds pass, at once."""
        now = self._path.stat().st_mtime + seconds
        os.utime(self._path, (now, now))


@dataclass(frozen=True)
class Served:
    """A running server: its port, its process, and the file of what it says."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """All that it has written so far."""
        return self.log.read_text("utf-8", "replace")

    def ask(
        self, method: str, path: str, headers: Mapping[str, str | None] | None = None, body: bytes = b""
    ) -> tuple[int, str, bytes]:
        """Status, head and body of one request; a header of None is left out. Its Host is the address unless given."""
        given = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", **(headers or {})}
        if body or method in ("POST", "PUT"):
            given["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{key}: {value}" for key, value in given.items() if value is not None)]
        return answer(self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body))

    def shake(self, headers: Mapping[str, str | None] | None = None) -> int:
        """Status of a websocket's handshake with the app."""
        wanted = {
            "Origin": f"http://127.0.0.1:{self.port}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "streamlit",
        }
        given = {"Host": f"127.0.0.1:{self.port}", **wanted, **(headers or {})}
        lines = [
            "GET /_stcore/stream HTTP/1.1",
            *(f"{key}: {value}" for key, value in given.items() if value is not None),
        ]
        return answer(self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", whole=False))[0]

    def raw(self, data: bytes, *, whole: bool = True, seconds: float = 30.0) -> bytes:
        """What comes back for some bytes: all of it, or the head alone."""
        found = b""
        with socket.create_connection(("127.0.0.1", self.port), seconds) as line, contextlib.suppress(ConnectionError):
            line.sendall(data)
            while (got := line.recv(65536)) and (whole or b"\r\n\r\n" not in found + got):
                found += got
            found += got
        return found


def answer(data: bytes) -> tuple[int, str, bytes]:
    """Status, head and body of what a server sent; status 0 for nothing."""
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    return (int(found[1]) if found else 0), head.decode("latin-1"), body


@contextlib.contextmanager
def running_app(
    folder: Path, *options: str, before: str = "", env: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """`streamlit run app.py` over `folder/runs`. before: Python that its process runs first."""
    runs = folder / "runs"
    runs.mkdir(exist_ok=True)
    own = {"QCORE_RUNS": str(runs), **(env or {})}
    command = [str(ROOT / "app.py"), "--server.port", "0", "--server.headless", "true", *options]
    with _running(before + _APP, command, own, folder / "app.log", r"Collapse Lab: \S+?:(\d+)") as served:
        yield served


@contextlib.contextmanager
def running_script(script: Path, log: Path) -> Iterator[Served]:
    """`streamlit run` of another script than the app."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(script), "--server.port", str(port), "--server.headless", "true"]
    with _running(f"print('to listen at :{port}')" + _APP, command, {}, log, r"to listen at :(\d+)") as served:
        yield served


@contextlib.contextmanager
def running_serve(runs: Path, *, before: str = "", log: Path) -> Iterator[Served]:
    """`qcore serve` over a runs folder."""
    with _running(before + _SERVE, [str(runs), "--port", "0"], {}, log, r"serving .* at \S+:(\d+)/v1") as served:
        yield served


@contextlib.contextmanager
def _running(source: str, arguments: Sequence[str], env: Mapping[str, str], log: Path, told: str) -> Iterator[Served]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("QCORE_", "STREAMLIT_"))}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", source, *arguments],
            cwd=ROOT,
            env={**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **env},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Served(_port(process, log, told), process, log)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path, told: str) -> int:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(told, log.read_text("utf-8", "replace")):
            port = int(found[1])
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
                return port
        time.sleep(0.05)
    raise AssertionError(f"the server did not start; it said:\n{log.read_text('utf-8', 'replace')[-3000:]}")
