"""A root for data: what lies below it is read, nothing else, whatever the way there looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcore.config import DATA_ROOT, MODEL_KINDS, ConfigError, RunConfig, all_controls, check_root, dataroot, default_run
from qcore.config.dataroot import NAMES, PLACES
from qcore.lab import Lab
from qcore.lab.forecast import memory_forecast
from tests.support.configs import small_config

TEXT = "One day a fox met a bird. They played.\n\n" * 60


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "in.txt").write_text(TEXT)
    (folder / "deep" / "in.txt").write_text(TEXT)
    (tmp_path / "secret.txt").write_text("hunter2 " * 400)
    (tmp_path / "data-too").mkdir()
    (tmp_path / "data-too" / "x.txt").write_text(TEXT)
    (folder / "link.txt").symlink_to(folder / "in.txt")
    monkeypatch.setenv(DATA_ROOT, str(folder))
    monkeypatch.chdir(folder)
    return folder


def of(**values: object) -> RunConfig:
    return small_config(**{"source": "text", "path": "in.txt", **values})


@pytest.mark.parametrize("path", ["in.txt", "./deep", "deep/../in.txt", "link.txt", ".", "{root}/in.txt", "none.txt"])
def test_what_lies_below_the_root_passes(root: Path, path: str):
    check_root(of(path=path.format(root=root)))


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../secret.txt", "{root}/../secret.txt", "deep/../../secret.txt", "{root}-too", "~", "/", "..",
     "/proc/self/environ", "../data-too/x.txt", "~nobody-of-this-name/x"],
)  # fmt: skip
def test_what_lies_outside_is_refused_with_the_value(root: Path, path: str):
    for setting in ("path", "validation_path"):
        with pytest.raises(ConfigError, match=f"data.{setting} = ") as told:
            check_root(of(**{setting: path.format(root=root)}))
        assert DATA_ROOT in str(told.value) or "followed" in str(told.value)


def test_links_that_lead_out_are_followed(root: Path):
    outside = root.parent / "secret.txt"
    (root / "away.txt").symlink_to(outside)
    with pytest.raises(ConfigError, match="does not lie below"):
        check_root(of(path="away.txt"))
    (root / "away.txt").unlink()
    (root / "deep" / "away.txt").symlink_to(outside)
    with pytest.raises(ConfigError, match=r"away\.txt' in it is a link"):
        check_root(of(path="deep"))
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(ConfigError, match=r"data\.path"):
        check_root(of(path="loop"))


def test_a_folder_whose_name_is_a_pattern_is_searched_for_links_too(root: Path):
    (root / "[a]").mkdir()
    (root / "[a]" / "in.txt").write_text(TEXT)
    check_root(of(path="[a]"))
    (root / "[a]" / "away.txt").symlink_to(root.parent / "secret.txt")
    for values in ({"path": "[a]"}, {"source": "huggingface", "hub_name": "json", "data_files": "[a]"}):
        with pytest.raises(ConfigError, match=r"away\.txt' in it is a link"):
            check_root(of(**values))


def test_a_forecast_opens_nothing_outside_of_the_root(root: Path, monkeypatch: pytest.MonkeyPatch):
    outside = of(path="../secret.txt", tokenizer="word")
    with pytest.raises(ConfigError, match="does not lie below"):
        memory_forecast(outside)
    monkeypatch.delenv(DATA_ROOT)
    found = memory_forecast(outside.with_values({"path": "in.txt"}))
    assert found is not None
    assert found.counted


def test_a_tree_too_large_to_be_searched_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dataroot, "MOST_LOOKED_AT", 3)
    with pytest.raises(ConfigError, match="more than 3 names, too many to look for links"):
        check_root(of(path="."))


@pytest.mark.parametrize(
    ("hub_name", "data_files", "allowed"),
    [
        ("roneneldan/TinyStories", "", True),
        ("roneneldan/TinyStories", "part/*.json", True),
        ("json", "in.txt", True),
        ("json", "deep/*.txt", True),
        ("json", "in.txt, deep/in.txt", True),
        ("json", "in.txt, ../secret.txt", False),
        ("json", "../*.txt", False),
        ("json", "http://127.0.0.1:9/x.json", False),
        ("json", "zip://x.json::http://127.0.0.1:9/x.zip", False),
        ("json", "/etc/passwd", False),
        ("roneneldan/TinyStories", "/etc/passwd", False),
        ("roneneldan/TinyStories", "../../secret.txt", False),
        ("..", "", False),
        ("/etc", "", False),
        ("../data-too", "x.txt", False),
        ("~", "", False),
        ("deep", "in.txt", True),
    ],
)
def test_data_sets_that_are_files_of_this_machine_lie_below_it_too(
    root: Path, hub_name: str, data_files: str, allowed: bool
):
    config = of(source="huggingface", hub_name=hub_name, data_files=data_files)
    if allowed:
        check_root(config)
    else:
        with pytest.raises(ConfigError, match=r"data\.(hub_name|data_files) = "):
            check_root(config)


def test_weights_and_latents_and_videos_lie_below_it_too(root: Path):
    latents = default_run("ltx_video")
    for changes in ({"source": "folder", "path": "/etc"}, {"model_id": "/etc"}, {"cache_dir": "/tmp"}):
        with pytest.raises(ConfigError, match="is refused"):
            check_root(latents.with_values(changes))
    check_root(latents.with_values({"model_id": "Lightricks/LTX-Video"}))
    with pytest.raises(ConfigError, match=r"data\.path"):
        check_root(default_run("video_flow").with_values({"source": "folder", "path": ".."}))


def test_every_setting_that_names_a_path_is_asked():
    """A new setting with a path in its help must be in the tables, or here with the reason."""
    asked = {f"{section}.{name}" for table in (PLACES, NAMES) for section, names in table.items() for name in names}
    asked |= {
        "data.data_files",
        "data.hub_config",
        "data.hub_split",
        "data.validation_split",
        "data.text_column",
    }  # parts of a named data set
    asked.add("data.encoding")  # a name among those that Python knows
    for kind in MODEL_KINDS:
        for control in all_controls(kind):
            if control.kind == "text" and control.section in ("data", "model"):
                assert f"{control.section}.{control.name}" in asked


def test_without_a_root_every_path_is_allowed(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(DATA_ROOT)
    check_root(of(path="../secret.txt"))
    monkeypatch.setenv(DATA_ROOT, str(root / "none"))
    with pytest.raises(ConfigError, match="is no folder"):
        check_root(of())


def test_no_run_exists_after_a_refusal_and_old_runs_stay_readable(root: Path, tmp_path: Path):
    with Lab(tmp_path / "runs") as lab:
        with pytest.raises(ConfigError, match="does not lie below"):
            lab.start(of(path="../secret.txt"))
        assert list((tmp_path / "runs").iterdir()) == []
        name = lab.start(of(steps=2))
        assert lab.wait(name, 120).state == "finished", lab.info(name).message
        with pytest.raises(ConfigError, match="does not lie below"):
            lab.fork(name, step=1, config_changes={"path": "/etc/passwd"}, changes={"steps": 4})
        assert [info.name for info in lab.runs()] == [name]


def test_a_root_that_is_set_later_stops_the_run_and_not_the_lab(root: Path, tmp_path: Path, monkeypatch):
    monkeypatch.delenv(DATA_ROOT)
    with Lab(tmp_path / "runs") as lab:
        name = lab.start(of(path=str(root.parent / "data-too"), steps=2))
        assert lab.wait(name, 120).state == "finished", lab.info(name).message
        monkeypatch.setenv(DATA_ROOT, str(root))
        assert lab.info(name).state == "finished"
        assert lab.config(name).value("path").endswith("data-too")
        with pytest.raises(ConfigError, match="does not lie below"):
            lab.resume(name, steps=4)
