"""Every button that starts something in the background, pressed: its first row or result appears, it says how far it
is, it can be ended, it says in words when its process dies, and a reload finds it again.
"""

import json
import os
import re
import signal

import pytest
from playwright.sync_api import expect

from qcore.experiments import effect
from qcore.experiments.ablation_store import ablations, is_training
from qcore.experiments.benchmark_store import bench_folder, read_benchmark
from qcore.lab import Lab
from tests.browser.actions import press, settle
from tests.support.configs import eventually, small_config

pytestmark = pytest.mark.browser
SMALL = "context=16, batch_size=2, width=16, layers=1, heads=2, phases=8, documents=60"
PATIENCE = 240


@pytest.fixture(scope="module")
def done(app, lab) -> str:
    """A finished run."""
    with Lab(app.runs) as own:
        name = own.start(small_config(steps=12, checkpoint_every=4), name="done", preset="tiny")
        assert own.wait(name, 120).state == "finished"
    return name


def fill(page, label: str, value: str) -> None:
    """Type into a field and wait until the app has taken it."""
    box = page.get_by_label(label, exact=True).first
    box.fill(value)
    box.press("Enter" if box.evaluate("box => box.tagName") == "INPUT" else "Control+Enter")
    settle(page)


def start_benchmark(page, app, name: str, steps: str, models: str = "transformer; phase_lm") -> None:
    page.goto(f"{app.url}/benchmark")
    opener = page.get_by_text("Start a benchmark", exact=True)
    expect(opener).to_be_visible()
    settle(page)
    button = page.get_by_role("button", name="Start the benchmark")
    if page.locator("details", has=opener).get_attribute("open") is None:  # what is in it may come a moment later
        opener.click()
    expect(button).to_be_visible()
    settle(page)
    page.get_by_test_id("stMultiSelect").get_by_label("Clear all").first.click()
    settle(page)
    fill(page, "More models", models)
    fill(page, "Changes to it", SMALL)
    fill(page, "Steps", steps)
    fill(page, "Name", name)
    press(page, "Start the benchmark")


def test_a_benchmark_reaches_its_first_row_and_is_there_after_a_reload(page, app, lab):
    start_benchmark(page, app, "first", "6", "transformer")
    expect(page.get_by_text("running", exact=True).first).to_be_visible()
    expect(page.get_by_text(re.compile("A step is forward, cross-entropy")).first).to_be_visible(
        timeout=PATIENCE * 1000
    )
    expect(page.get_by_text("finished", exact=True).first).to_be_visible(timeout=PATIENCE * 1000)
    found = read_benchmark(lab.runs_dir, "first")
    assert found.state == "finished"
    assert [one["label"] for one in found.measurements] == ["transformer"]
    assert {run.state for run in found.runs} == {"finished"}
    page.reload()
    expect(page.get_by_text(re.compile("A step is forward, cross-entropy")).first).to_be_visible()
    expect(page.get_by_text("broke off")).to_have_count(0)


def test_a_benchmark_can_be_ended_and_says_in_words_when_its_process_dies(page, app, lab):
    start_benchmark(page, app, "ended", "100000")
    press(page, "Cancel")
    expect(page.get_by_text("cancelled", exact=True).first).to_be_visible()
    assert list(read_benchmark(lab.runs_dir, "ended").spec.models) == ["transformer", "phase_lm"]
    start_benchmark(page, app, "killed", "100000")
    pid = eventually(lambda: (path := bench_folder(lab.runs_dir, "killed") / "pid").exists() and path.read_text())
    os.killpg(json.loads(pid)["pid"], signal.SIGKILL)
    expect(page.get_by_text(re.compile("The benchmark failed")).first).to_be_visible()
    page.reload()
    expect(page.get_by_text(re.compile("The benchmark failed")).first).to_be_visible()


def test_a_benchmark_that_cannot_start_keeps_the_form(page, app, lab):
    start_benchmark(page, app, "../first", "6")
    expect(page.get_by_test_id("stAlert").filter(has_text="first").first).to_be_visible()
    expect(page.get_by_label("Changes to it", exact=True).first).to_have_value(SMALL)
    page.get_by_role("link", name="Tokens", exact=True).click()
    expect(page.get_by_role("heading", name="Tokens", exact=True)).to_be_visible()
    page.get_by_role("link", name="Benchmark", exact=True).click()
    page.get_by_text("Start a benchmark", exact=True).click()
    expect(page.get_by_label("Changes to it", exact=True).first).to_have_value(SMALL)


def test_an_ablation_reaches_its_first_result(page, app, lab):
    page.goto(f"{app.url}/benchmark?bench_view=Ablation")
    expect(page.get_by_role("button", name="Compare", exact=True)).to_be_visible()
    for label, value in (("Steps", "30"), ("Seeds", "1"), ("Processes", "1")):
        fill(page, label, value)
    page.get_by_test_id("stMultiSelect").locator("input").first.click()
    page.get_by_role("option").first.click()
    page.keyboard.press("Escape")
    settle(page)
    press(page, "Compare")
    expect(page.get_by_text(re.compile(r"\d+ of \d+ runs")).first).to_be_visible()
    eventually(lambda: (kept := ablations(lab.runs_dir)) and len(kept[0].results) >= 1, PATIENCE)
    expect(page.get_by_role("figure", name=re.compile("Difference of each variant"))).to_be_visible()
    name = ablations(lab.runs_dir)[0].name
    page.reload()
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    if is_training(lab.runs_dir, name):
        press(page, "End it")
        eventually(lambda: not is_training(lab.runs_dir, name))
    expect(page.get_by_role("button", name="End it")).to_have_count(0)


def test_an_effect_is_answered(page, app, lab, done):
    page.goto(f"{app.url}/compare?run={done}&compare=Effect+of+a+change")
    expect(page.get_by_role("button", name="Measure it")).to_be_visible()
    fill(page, "The change", "Z loss weight = 0.5")
    for label, value in (("From step", "4"), ("Steps", "4"), ("Pairs", "2")):
        fill(page, label, value)
    press(page, "Measure it")
    expect(page.get_by_text(re.compile("Effect of .*: . of 4 forks")).first).to_be_visible()
    expect(page.get_by_text(re.compile("effect.*eval/ce|effect on .*held")).first).to_be_visible(
        timeout=PATIENCE * 1000
    )
    assert len(effect.effects(lab, done)) == 1
    page.reload()
    expect(page.get_by_role("figure", name=re.compile("Each pair of forks"))).to_be_visible()


def test_a_sweep_is_answered_and_another_one_can_be_ended(page, app, lab, done):
    page.goto(f"{app.url}/compare?run={done}&compare=Sweep")
    expect(page.get_by_role("button", name="Sweep", exact=True)).to_be_visible()
    fill(page, "Values", "0.001, 0.003")
    for label, value in (("From step", "4"), ("Steps", "4")):
        fill(page, label, value)
    press(page, "Sweep")
    expect(page.get_by_text(re.compile("Sweep of .*: . of 2 forks")).first).to_be_visible()
    expect(page.get_by_role("figure", name=re.compile("at each value of learning rate"))).to_be_visible(
        timeout=PATIENCE * 1000
    )
    assert len(effect.sweeps(lab, done)) == 1
    fill(page, "Values", "0.002, 0.004, 0.005, 0.006")
    press(page, "Sweep")
    press(page, "End it")
    expect(page.get_by_role("button", name="End it")).to_have_count(0)
    expect(page.get_by_text(re.compile("failed: it was ended")).first).to_be_visible()
    assert len(effect.sweeps(lab, done)) == 1


def test_forks_and_rewinds_from_the_page(page, app, lab, done):
    page.goto(f"{app.url}/compare?run={done}")
    expect(page.get_by_role("button", name="Fork", exact=True)).to_be_visible()
    fill(page, "From step", "8")
    fill(page, "What changes", "learning rate = 9")
    fill(page, "Name", "twin")
    press(page, "Fork")
    expect(page.get_by_test_id("stAlert").filter(has_text="learning").first).to_be_visible()
    expect(page.get_by_label("Name", exact=True).first).to_have_value("twin")
    fill(page, "What changes", "learning rate = 0.01")
    press(page, "Fork")
    eventually(lambda: (lab.runs_dir / "twin" / "run.sqlite").exists() and lab.info("twin").state == "finished", 120)
    assert lab.lineage("twin").changes == {"learning_rate": 0.01}
    page.goto(f"{app.url}/compare?run=twin")
    fill(page, "To step", "9")
    page.get_by_role("button", name="Rewind").first.click()
    press(page, "Rewind now")
    eventually(lambda: lab.info("twin").step == 9, 120)
    expect(page.get_by_text(re.compile("keeps what came after")).first).to_be_visible()


def test_own_text_with_a_mistake_is_named_and_nothing_typed_is_lost(page, app, lab, done, tmp_path):
    page.goto(f"{app.url}/?run={done}&view=New+run&preset=tiny")
    page.get_by_text("Data", exact=True).first.click()
    page.get_by_role("combobox", name=re.compile("Source")).first.click()
    page.get_by_role("option", name="text", exact=True).click()
    settle(page)
    wrong = str(tmp_path / "my.txt")
    fill(page, "Path", wrong)
    expect(page.get_by_test_id("stAlert").filter(has_text="does not exist")).to_have_count(2)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.get_by_role("link", name="Tokens", exact=True).click()
    expect(page.get_by_role("heading", name="Tokens", exact=True)).to_be_visible()
    page.get_by_role("link", name="Control room", exact=True).click()
    expect(page.get_by_label("Path", exact=True).first).to_have_value(wrong)
    page.get_by_role("radio", name="Watch").or_(page.get_by_role("button", name="Watch", exact=True)).first.click()
    expect(page.get_by_role("button", name="New run from this one")).to_be_visible()
    page.get_by_role("radio", name="New run").or_(page.get_by_role("button", name="New run", exact=True)).first.click()
    expect(page.get_by_label("Path", exact=True).first).to_have_value(wrong)
    assert not [
        info
        for info in lab.runs()
        if "trainer" in info.capabilities and lab.config(info.name).value("source") == "text"
    ]


def test_downloads_come_back_as_a_run(page, app, lab, done, tmp_path):
    page.goto(f"{app.url}/?run={done}")
    page.get_by_role("button", name="Share").first.click()
    sizes = {}
    for label in ("Report (HTML)", "CSV", "Parquet", "Run (zip)"):
        with page.expect_download(timeout=PATIENCE * 1000) as found:
            page.get_by_role("button", name=label, exact=True).click()
        found.value.save_as(tmp_path / found.value.suggested_filename)
        sizes[label] = (tmp_path / found.value.suggested_filename).stat().st_size
    assert min(sizes.values()) > 500
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(tmp_path / f"{done}.zip")
    fill(page, "Name here (optional)", "brought in")
    press(page, "Import")
    eventually(lambda: (lab.runs_dir / "brought in" / "run.sqlite").exists(), 120)
    assert lab.info("brought in").state == "finished"


def test_a_prompt_and_a_dry_run_are_answered(page, app, lab, done):
    page.goto(f"{app.url}/generations?run={done}")
    fill(page, "Prompt", "Once a")
    press(page, "Generate")
    eventually(lambda: [one for one in lab.reader(done).generations("prompt") if one.status == "done"], 120)
    page.goto(f"{app.url}/automation?run={done}&automation=Dry+run")
    fill(page, "Rules", "when train/loss > 0 for 3 steps: learning_rate *= 0.5")
    press(page, "Try on the recorded run")
    expect(page.get_by_role("figure", name=re.compile("Learning rate as recorded"))).to_be_visible()
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()


def test_a_new_run_from_a_finished_one_trains(page, app, lab, done):
    page.goto(f"{app.url}/?run={done}")
    press(page, "New run from this one")
    expect(page.get_by_text(re.compile("was started")).first).to_be_visible()
    fill(page, "Name (optional)", "again")
    press(page, "Start")
    eventually(lambda: (lab.runs_dir / "again" / "run.sqlite").exists() and lab.info("again").state == "finished", 120)
    assert lab.config("again") == lab.config(done)
