"""The scripts of the pages keep what their own tests ask for (`*_test.js`, run by deno), and are checked as code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pages.session import assets

ROOT = Path(__file__).resolve().parents[2]
OF_STREAMLIT = {"stApp", "token"}
DENO = shutil.which("deno", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def test_the_modules_keep_their_own_tests(tmp_path: Path) -> None:
    if DENO is None:
        assert not os.environ.get("CI"), "CI needs deno for the tests of the scripts; `make test` installs it"
        pytest.skip("no deno here; `make test` installs it")
    environment = os.environ | {"DENO_DIR": str(tmp_path), "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [DENO, "test", "--no-check", "--no-remote", "--no-npm"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    declared = sum(one.read_text(encoding="utf-8").count("\nDeno.test(") for one in Path(__file__).parent.glob("*.js"))
    assert re.search(rf"\b{declared} passed \| 0 failed\b", done.stdout), done.stdout


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder that files are served from, in place of the project's."""
    monkeypatch.setattr(assets, "SERVED", tmp_path / "static")
    return tmp_path / "static"


def test_a_component_fetches_a_module_whose_address_changes_with_any_module(
    served: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = assets.module_script("panel")
    [folder] = served.iterdir()
    assert f'new URL("app/static/{folder.name}/panel.js", document.baseURI)' in script
    assert {one.name for one in folder.iterdir()} == {one.name for one in assets.ASSETS.glob("*.js")}
    assert assets.module_script("panel") == script
    other = tmp_path / "assets"
    shutil.copytree(assets.ASSETS, other)
    with (other / "hub.js").open("a") as file:
        file.write("// another version\n")
    monkeypatch.setattr(assets, "ASSETS", other)
    assert assets.module_script("panel") != script
    assert len(list(served.iterdir())) == 2


def test_a_file_is_copied_whole_and_once(served: Path, tmp_path: Path) -> None:
    source = tmp_path / "library.js"
    source.write_text("one")
    assert assets.served_copy(source, "library-1.js") == "app/static/library-1.js"
    source.write_text("another")
    assets.served_copy(source, "library-1.js")
    assert [(one.name, one.read_text()) for one in served.iterdir()] == [("library-1.js", "one")]


def test_every_import_of_a_module_names_a_module_beside_it() -> None:
    for module in assets.ASSETS.glob("*.js"):
        names = re.findall(r'(?:from|import)\s*\(?"([^"]+)"', module.read_text(encoding="utf-8"))
        assert all(name.startswith("./") and (assets.ASSETS / name).is_file() for name in names), (module.name, names)


def test_no_script_and_no_style_stands_in_a_string() -> None:
    """What a linter cannot see: code of the browser in the Python of the pages and of the report."""
    code = re.compile(r"<style>\s*[^{}\s<]|addEventListener|querySelector|=>\s*\{|\{[a-z-]+:[^{}]*;[a-z-]+:[^{}]*\}")
    files = [ROOT / "app.py", *(ROOT / "pages").rglob("*.py"), *(ROOT / "qcore" / "viz").rglob("*.py")]
    assert [one.name for one in files if code.search(one.read_text(encoding="utf-8"))] == []
    assert code.search("_STYLE = '.bar{height:1rem;color:red}'")
    assert code.search('f"<style>.bar{{}}</style>"')


def test_every_class_that_a_stylesheet_knows_is_one_that_the_pages_write() -> None:
    written = "".join(
        one.read_text(encoding="utf-8") for one in (ROOT / "pages").rglob("*") if one.suffix in (".py", ".js")
    )
    for sheet in assets.ASSETS.glob("*.css"):
        rules = re.sub(r"/\*.*?\*/|\{[^{}]*\}", " ", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        for name in set(re.findall(r"\.([a-z][\w-]*)", rules)) - OF_STREAMLIT:
            assert re.search(rf"\b{re.escape(name.removeprefix('st-key-'))}\b", written), f"{sheet.name}: .{name}"
