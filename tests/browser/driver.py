"""The real app in a subprocess and a real browser on it, for the browser tests and the benchmarks."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# The app as `streamlit run` starts it, on a machine that takes so many seconds more for a step: what trains at full
# speed would take one core from all that a test looks at.
_RESTING = """
import sys, time
import torch.optim.optimizer as of
from streamlit.web.cli import main
seconds = float(sys.argv.pop(1))
of.register_optimizer_step_post_hook(lambda *_: time.sleep(seconds))
sys.argv[0] = "streamlit"
main()
"""


@dataclass(frozen=True)
class App:
    """A running app: its address, its process and the runs folder it serves."""

    url: str
    process: subprocess.Popen[bytes]
    runs: Path


def chromium_path() -> str | None:
    """Where a Chromium is, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


@contextlib.contextmanager
def running_app(runs: Path, log: Path, rest: float = 0.0) -> Iterator[App]:
    """Start `streamlit run app.py` on a free port and wait until it answers; end it with SIGTERM. rest: seconds that
    training rests after each step.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    streamlit = ["-c", _RESTING, str(rest)] if rest else ["-m", "streamlit"]
    command = [sys.executable, *streamlit, "run", str(ROOT / "app.py"), "--server.port", str(port)]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*command, "--server.headless", "true"],
            cwd=ROOT,
            env={**os.environ, "QCORE_RUNS": str(runs), "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process, log)
        yield App(url, process, runs)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the app did not end on SIGTERM; its log:\n{log.read_text()[-3000:]}") from None


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium, driven by Playwright."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(f"{url}/_stcore/health", timeout=2).status == 200:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"the app did not start; its log:\n{log.read_text()[-3000:]}")
