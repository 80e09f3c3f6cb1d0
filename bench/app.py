"""The app with a real browser on it: time to the first loss point, server CPU of a refresh, memory over ten minutes.

python bench/app.py first      from starting the server to the first loss point of the default preset on the screen
python bench/app.py refresh    CPU of the server a refresh, page by page; the runs train in another process
python bench/app.py ghosts     averaging collapse: from Start to its finding on the screen, and undone by live changes
python bench/app.py open       server CPU to open each page on a finished run of 100,000 steps, in a new session
python bench/app.py soak       resident memory of the server, training and watched, minute by minute
python bench/app.py many       the same, descriptors and threads, while short runs follow one another in one server
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Page, expect

sys.path.insert(0, str(Path(__file__).parents[1]))

from qcore.config import SetControl, preset
from qcore.lab import Lab
from qcore.store import DATABASE_NAME, RunReader, RunWriter
from tests.browser.actions import PATIENCE_MS, press, start_from_yaml, wait_for_curve
from tests.browser.driver import chromium, running_app

VIDEO_PAGES = (("", "Control room"), ("video", "Video frames"), ("generations", "Generations"))
ARRAYS = ("tokens", "phase", "interference", "causality", "gradients", "modules", "spectrum")
LENGTH = 100_000
TICK = os.sysconf("SC_CLK_TCK")
LONG = {"steps": 10_000_000}
SHORT = {"steps": 40, "checkpoint_every": 20, "documents": 200, "width": 32, "layers": 1}
PAGES = (
    ("", "Control room"),
    ("phase", "Phase"),
    ("interference", "Interference"),
    ("tokens", "Tokens"),
    ("generations", "Generations"),
    ("gradients", "Gradients"),
    ("findings", "Findings"),
)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def drawing_seconds() -> float:
    """User and system time of every process in which a Chromium draws a page, s."""
    found = subprocess.run(["pgrep", "-f", "--", "--type=renderer"], capture_output=True, text=True).stdout.split()
    return sum(cpu_seconds(int(pid)) for pid in found)


def memory_mb(pid: int) -> float:
    """Resident set of a process, MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def first(folder: Path) -> None:
    """A new user's path: start the server, open the page, press Start, see a point."""
    started = time.perf_counter()
    with running_app(folder / "runs", folder / "app.log") as app, chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.goto(app.url)
        press(page, "Start")
        pressed = time.perf_counter()
        wait_for_curve(page, 1)
        seen = time.perf_counter()
        wait_for_curve(page, 2)
        print(
            f"server and page {pressed - started:.1f} s · first loss point {seen - pressed:.1f} s later · "
            f"in all {seen - started:.1f} s · curve {time.perf_counter() - started:.1f} s"
        )


def refresh(folder: Path, seconds: float, name: str, pages: tuple[tuple[str, str], ...], every: str) -> None:
    """CPU of the server a refresh, less what the open page costs with refreshing off, and of the browser's drawing
    process; clips play in the browser meanwhile.

    A refresh is an answer of a channel with news: the page asks every so many seconds, and has news when it shows some.
    """
    runs = folder / "runs"
    folder.mkdir()
    (folder / "config.yaml").write_text(preset(name).config.with_values(LONG).to_yaml())
    print(f"preset {name}")
    command = [sys.executable, "-m", "qcore", "train", "--config", str(folder / "config.yaml"), "--runs", str(runs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    trainer = subprocess.Popen([*command, "--name", "live", "--quiet"], env=environment, stdout=subprocess.DEVNULL)
    try:
        with running_app(runs, folder / "app.log") as app, chromium() as browser, Lab(runs) as lab:
            while not (runs / "live" / "run.sqlite").exists() or lab.info("live").step < 300:
                time.sleep(0.5)
            for path, title in pages:
                page = browser.new_page(viewport={"width": 1440, "height": 1000})
                answers: list[int] = []
                page.on(
                    "response", lambda one, found=answers: found.append(one.status) if "/live/" in one.url else None
                )
                costs, drawing = {}, 0.0
                for interval in ("off", every):
                    page.goto(f"{app.url}/{path}?run=live&refresh={interval}")
                    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible(timeout=PATIENCE_MS)
                    page.wait_for_timeout(5000)
                    answers.clear()
                    before, drawn, wall = cpu_seconds(app.process.pid), drawing_seconds(), time.perf_counter()
                    page.wait_for_timeout(1000 * seconds)
                    spent, passed = cpu_seconds(app.process.pid) - before, time.perf_counter() - wall
                    costs[interval] = 1e3 * spent / passed
                    drawing = 1e3 * (drawing_seconds() - drawn) / passed
                page.close()
                extra, news = costs[every] - costs["off"], sum(status in (200, 205) for status in answers)
                print(
                    f"{title:13} {extra * passed / max(news, 1):6.1f} ms CPU a refresh, {news / passed:.2f} a second · "
                    f"{extra:.1f} ms a second, of an open page without {costs['off']:.1f} · "
                    f"browser {drawing:.0f} ms a second"
                )
    finally:
        trainer.terminate()
        trainer.wait()


def ghosts(folder: Path) -> None:
    """The video preset of averaging collapse: seen, named, and undone by two live changes."""
    runs = folder / "runs"
    with running_app(runs, folder / "app.log") as app, chromium() as browser, Lab(runs) as lab:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        started = time.perf_counter()
        name = start_from_yaml(page, app.url, preset("video-averaging").config.to_yaml(), lab)
        page.goto(f"{app.url}/findings?run={name}")
        expect(page.get_by_text("the noise is the same in all").first).to_be_visible(timeout=10 * PATIENCE_MS)
        seen = time.perf_counter() - started
        collapsed = measured(lab, name)
        print(f"named on the screen {seen:.0f} s after Start, at step {lab.info(name).step} · {collapsed}")
        changed = lab.info(name).step
        lab.command(name, SetControl("noise_correlation", 0.0))
        lab.command(name, SetControl("flow_path", "plain"))
        while any(found.state == "active" and found.name == "averaging_collapse" for found in lab.findings(name)):
            time.sleep(0.5)
        resolved = lab.info(name).step
        while lab.info(name).step < changed + 1000:
            time.sleep(0.5)
        print(f"resolved {resolved - changed} steps after the change · 1000 steps after it {measured(lab, name)}")


def measured(lab: Lab, name: str) -> str:
    """The newest sample beside the data."""
    reader = lab.reader(name)
    data = reader.meta()["data_frames"]
    values = {
        key: reader.scalars(f"frames/generated/{key}").values[-1] for key in ("divergence", "cosine", "coherence")
    }
    return ", ".join(f"{key} {value:.2f} (data {data[key]:.2f})" for key, value in values.items())


def stretched(source: Path, target: Path, steps: int) -> None:
    """A finished run of many steps: what a short one measured, said again and again at ever later steps."""
    shutil.copytree(source, target)
    (target / DATABASE_NAME).unlink()
    with RunReader(source / DATABASE_NAME) as reader, RunWriter(target / DATABASE_NAME) as writer:
        length = reader.last("train/loss")[0]
        status, meta = reader.status(), reader.meta()
        for key, value in meta.items():
            if key not in ("schema_version", "created", "epoch", "rewinds", "writer"):
                writer.set_meta(key, value)
        rows: dict[int, dict[str, float]] = {}
        for name, series in reader.scalars_of(reader.names()).items():
            for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
                rows.setdefault(step, {})[name] = value
        kept = {name: {step: reader.arrays(name, step)[1] for step in reader.array_steps(name)} for name in ARRAYS}
        for generation in reader.generations():
            writer.put_generation(generation)
        for finding in reader.findings():
            writer.put_finding(finding)
        for start in range(0, steps, length):
            for step, row in sorted(rows.items()):
                if step or not start:
                    writer.log_scalars(start + step, row)
            for name, found in kept.items():
                for step, arrays in found.items():
                    if step or not start:
                        writer.log_arrays(start + step, name, arrays)
            writer.flush(60)
        writer.set_status(replace(status, step=steps, total_steps=steps))


def open_pages(folder: Path) -> None:
    """Server CPU from asking for a page to its last chart, a new browser session each time."""
    runs = folder / "runs"
    with Lab(runs) as lab:
        changes = {"steps": 500, "diversity_weight": 0.05, "budget_percent": 10}
        lab.start(preset("tiny").config.with_values(changes), name="short")
        lab.wait("short")
    stretched(runs / "short", runs / "long", LENGTH)
    with running_app(runs, folder / "app.log") as app, chromium() as browser:
        for warm in (False, True):
            for path, title in PAGES:
                context = browser.new_context(viewport={"width": 1440, "height": 1000})
                page = context.new_page()
                page.goto("about:blank")
                before = cpu_seconds(app.process.pid)
                page.goto(f"{app.url}/{path}?run=long")
                expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible(timeout=PATIENCE_MS)
                page.wait_for_timeout(4000)
                spent = cpu_seconds(app.process.pid) - before
                context.close()
                print(f"{title:13} {spent:6.2f} s CPU to open, {'again' if warm else 'the first time'}", flush=True)


def soak(folder: Path, minutes: float) -> None:
    """Memory of the server while it trains the default preset, watched; printed every minute."""
    with running_app(folder / "runs", folder / "app.log") as app, chromium() as browser, Lab(folder / "runs") as lab:
        page: Page = browser.new_page(viewport={"width": 1440, "height": 1000})
        start_from_yaml(page, app.url, preset("tiny").config.with_values(LONG).to_yaml(), lab)
        wait_for_curve(page)
        found: list[list[float]] = []
        began = time.monotonic()
        while (passed := (time.monotonic() - began) / 60) < minutes:
            while len(found) <= passed:
                found.append([])
            found[-1].append(memory_mb(app.process.pid))
            page.wait_for_timeout(2000)
            if len(found[-1]) == 1 and len(found) > 1:
                print(f"minute {len(found) - 1:2}: {statistics.median(found[-2]):7.1f} MB", flush=True)
        medians = [statistics.median(minute) for minute in found]
        print(f"minute {len(found):2}: {medians[-1]:7.1f} MB · last / second minute {medians[-1] / medians[1]:.3f}")


def held(pid: int) -> str:
    """What a process holds, in words."""
    names = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            names.append(os.readlink(one))
    threads, children = list(Path(f"/proc/{pid}/task").iterdir()), Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return (
        f"{memory_mb(pid):7.1f} MB · {len(threads)} threads · {len(names)} descriptors, of databases "
        f"{sum(DATABASE_NAME in name for name in names)} · {len(children.split())} children"
    )


def many(folder: Path, minutes: float) -> None:
    """Short runs, one after the other, each started on a page and watched on another; what the server holds by then,
    and a minute after all pages are closed.
    """
    config = preset("tiny").config.with_values(SHORT).to_yaml()
    with running_app(folder / "runs", folder / "app.log") as app, Lab(folder / "runs") as lab:
        with chromium() as browser:
            starting, watching = browser.new_page(), browser.new_page()
            began, told = time.monotonic(), -1
            while (passed := (time.monotonic() - began) / 60) < minutes:
                name = start_from_yaml(starting, app.url, config, lab)
                watching.goto(f"{app.url}/?run={name}&refresh=0.5")
                while lab.info(name).alive:
                    time.sleep(0.2)
                if int(passed) > told:
                    told = int(passed)
                    print(f"minute {told:2}: {held(app.process.pid)} · {len(lab.runs())} runs", flush=True)
        time.sleep(60)
        infos = lab.runs()
        states = {state: sum(info.state == state for info in infos) for state in sorted({info.state for info in infos})}
        dropped = sum(info.drops for info in infos)
        print(f"pages closed: {held(app.process.pid)} · {len(infos)} runs {states} · {dropped} points dropped")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", nargs="?", choices=("first", "refresh", "open", "ghosts", "soak", "many"), default="first"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="refresh: how long each page is measured")
    parser.add_argument("--every", default="1", choices=("0.5", "1", "2", "5"), help="refresh: the interval, s")
    parser.add_argument("--minutes", type=float, default=10.0, help="soak, many: how long")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.what == "first":
            first(Path(folder))
        elif chosen.what == "refresh":
            refresh(Path(folder) / "text", chosen.seconds, "tiny", PAGES, chosen.every)
            refresh(Path(folder) / "video", chosen.seconds, "video-tiny", VIDEO_PAGES, chosen.every)
        elif chosen.what == "ghosts":
            ghosts(Path(folder))
        elif chosen.what == "open":
            open_pages(Path(folder))
        elif chosen.what == "many":
            many(Path(folder), chosen.minutes)
        else:
            soak(Path(folder), chosen.minutes)


if __name__ == "__main__":
    main()
