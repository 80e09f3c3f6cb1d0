"""What the app's own file does to the server that it runs in."""

from __future__ import annotations

import subprocess
import sys

WATCH = """
import threading
from streamlit.watcher import polling_path_watcher
import app

slept, looked = [], threading.Event()

def sleep(seconds):
    slept.append(seconds)
    looked.set()

polling_path_watcher.time.sleep = sleep
watcher = polling_path_watcher.PollingPathWatcher("absent", print, allow_nonexistent=True)
assert looked.wait(10)
watcher.close()
assert slept[0] == app.CONFIG_SECONDS > 1, slept
"""


def test_the_server_seldom_looks_for_another_configuration() -> None:
    """In a process of its own: the setting is one of Streamlit's whole process."""
    done = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
