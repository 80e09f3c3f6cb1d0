"""Take the pictures of docs/assets: real short runs, every page of the app, in light and in dark.

    python -m docs.screenshots              all of them (minutes)
    python -m docs.screenshots phase flux   these pages

A run with a planted leak, a phase model with a fork, a Quantum Flux, a video run with shared noise and a small
benchmark train in a temporary folder; then the real app is opened on them in a headless Chromium. Pictures keep 128
colours, so that all of them together stay small.
"""

from __future__ import annotations

import argparse
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from qcore import cli
from tests.browser.driver import chromium, running_app

ASSETS = Path(__file__).resolve().parent / "assets"
THEMES = ("light", "dark")
COLOURS = 128
WIDTH = 1440
_DRAWN = """() => !document.querySelector('[data-testid="stStatusWidget"], [data-testid="stSkeleton"]')
    && [...document.querySelectorAll('.js-plotly-plot')].every(chart => chart.querySelector('svg'))"""


@dataclass(frozen=True)
class Shot:
    """A picture. query: of the address, run and view · prompt: ask the model first · height: of the window, px."""

    path: str
    query: str
    prompt: str = ""
    height: int = 900


SHOTS = {
    "control-room": Shot("", "run=leak", height=1000),
    "phase": Shot("phase", "run=phase", height=1000),
    "interference": Shot("interference", "run=phase"),
    "video": Shot("video", "run=ghosts", height=1000),
    "flux": Shot("flux", "run=flux"),
    "tokens": Shot("tokens", "run=phase"),
    "generations": Shot("generations", "run=phase", prompt="Once a"),
    "gradients": Shot("gradients", "run=pulled"),
    "findings": Shot("findings", "run=leak"),
    "compare": Shot("compare", "run=phase"),
    "automation": Shot("automation", "run=stages"),
    "benchmark": Shot("benchmark", ""),
}
_MEASURED = ["--set", "budget_percent=100"]
RUNS = (
    ["train", "--preset", "fault-l2", "--name", "leak"],
    ["train", "--preset", "tiny", "--name", "phase", *_MEASURED],
    ["fork", "phase", "--step", "200", "--set", "diversity_weight=0.3", "--name", "phase-diverse"],
    ["train", "--preset", "flux", "--name", "flux", "--steps", "200", *_MEASURED],
    ["train", "--preset", "video-averaging", "--name", "ghosts", "--steps", "400", *_MEASURED],
    ["train", "--preset", "tiny", "--name", "pulled", "--steps", "200", *_MEASURED,
     "--set", "diversity_weight=0.5", "--set", "coherence_weight=0.02", "--set", "unlikelihood_weight=0.1"],
    ["train", "--preset", "curriculum-published", "--name", "stages", "--steps", "300"],
)  # fmt: skip
BENCHMARK = [
    "bench", "--models", "phase_lm,pam,flux_lm,transformer", "--steps", "120", "--rounds", "3",
    "--positions", "100,500", "--windows", "20", "--equal", "tokens", "--name", "families",
]  # fmt: skip


def prepare(runs: Path) -> None:
    """Train the runs that the pictures show. Raises `SystemExit` when one of them fails."""
    for command in (*RUNS, BENCHMARK):
        quiet = [] if command[0] == "bench" else ["--quiet"]
        print("qcore", *command, flush=True)
        if code := cli.main([*command, *quiet, "--runs", str(runs)]):
            raise SystemExit(f"qcore {' '.join(command)} ended with {code}: no pictures are taken")


def take(browser: Browser, url: str, name: str, theme: str) -> bytes:
    """The picture of a page as PNG, once all of its charts are drawn and nothing on it moves any more."""
    shot = SHOTS[name]
    # Clips stand still for who asks for little motion; two calls then take the same picture.
    context = browser.new_context(
        viewport={"width": WIDTH, "height": shot.height},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
    )
    try:
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{url}/{shot.path}?{shot.query}")
        page.get_by_role("heading", level=1).wait_for()
        _settle(page)
        if shot.prompt:
            _ask(page, shot.prompt)
        return page.screenshot(animations="disabled")
    finally:
        context.close()


def _ask(page: Page, prompt: str) -> None:
    box = page.get_by_role("textbox", name=re.compile("^Prompt"))
    box.fill(prompt)
    box.press("Control+Enter")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.get_by_text(re.compile("tokens · temperature|tokens,? temperature|distinct")).first.wait_for()
    _settle(page)


def _settle(page: Page) -> None:
    page.wait_for_function(_DRAWN)
    before = b""
    for _ in range(40):
        page.wait_for_timeout(500)
        now = page.screenshot(animations="disabled")
        if now == before:
            return
        before = now


def packed(png: bytes) -> bytes:
    """The same picture with few colours."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Train, take, pack and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", choices=[*SHOTS, []], help="Pictures to take; none: all.")
    parser.add_argument("--runs", type=Path, help="Runs of an earlier call, to take pictures of without training.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="screenshots-") as folder:
        runs = arguments.runs or Path(folder) / "runs"
        if not runs.is_dir() or not any(runs.iterdir()):
            prepare(runs)
        with running_app(runs, Path(folder) / "app.log") as app, chromium() as browser:
            for name in arguments.pages or SHOTS:
                for theme in THEMES:
                    file = ASSETS / f"{name}-{theme}.png"
                    file.write_bytes(packed(take(browser, app.url, name, theme)))
                    print(f"{file.name}: {file.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
