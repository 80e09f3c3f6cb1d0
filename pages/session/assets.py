"""The front end's own files, `pages/assets/*.js` and `*.css`: how they come to the browser.

Streamlit sends the script of a component with every element. It is given `loader.js` alone, which fetches a module by
its address: the browser then asks for each module once a page, and all elements share one hub and one clock. The folder
is copied below ./static, whose name is the app server's, under a name that its content gives: an open tab never mixes
the modules of two versions. All stylesheets together are one element of every page.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[1] / "assets"
SERVED = ASSETS.parents[1] / "static"
_ADDRESS = "MODULE_ADDRESS"


def served_copy(source: Path, name: str) -> str:
    """Address of a file, relative to the app's; it is copied to where the server finds it, if it is not there yet."""
    place = SERVED / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        # Written aside: another process that starts at the same time finds all of it, or none.
        with tempfile.TemporaryDirectory(prefix=".", dir=SERVED) as folder:
            os.replace(shutil.copyfile(source, Path(folder) / source.name), place)
    return f"app/static/{name}"


def module_script(name: str) -> str:
    """What a component that `name`.js draws is registered with."""
    modules = sorted(ASSETS.glob("*.js"))
    folder = "lab-" + hashlib.blake2b(b"".join(one.read_bytes() for one in modules), digest_size=8).hexdigest()
    addresses = {one.stem: served_copy(one, f"{folder}/{one.name}") for one in modules}
    return (ASSETS / "loader.js").read_text(encoding="utf-8").replace(_ADDRESS, addresses[name])


@cache
def stylesheet() -> str:
    """All stylesheets as one text."""
    return "".join(one.read_text(encoding="utf-8") for one in sorted(ASSETS.glob("*.css")))
