"""Data that is not there is refused before a run exists, on every door, with the same sentence."""

import os
from pathlib import Path

import pytest

from qcore.cli import main
from qcore.config import ConfigError, default_run
from qcore.config import places as of_places
from qcore.config.places import matching_files
from qcore.experiments.benchmark import bench_spec
from qcore.lab.inputs import check_inputs, input_problems
from qcore.server.trainer import TrainerProcess
from tests.support.configs import small_config

TEXT = "The cat sat on the mat, and the dog lay at the door.\n\n" * 60


def text_config(path: object, **changes: object):
    return small_config(source="text", path=str(path), **changes)


@pytest.fixture
def places(tmp_path):
    """One of every kind of place."""
    (tmp_path / "good.txt").write_text(TEXT)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x00\x1a")
    (tmp_path / "hollow").mkdir()
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "one.bin").write_bytes(b"\0\1\2")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "a.bin").write_bytes(b"\0\1\2")
    (tmp_path / "mixed" / "b.txt").write_text(TEXT)
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nothing.txt", "does not exist"),
        ("no/such/folder", "does not exist"),
        ("empty.txt", "is empty"),
        ("picture.png", "is a PNG picture, not text"),
        ("hollow", "no file under it holds UTF-8 text"),
        ("binary", "one.bin"),
        ("pipe", "is a pipe"),
    ],
)
def test_a_place_without_text_is_refused_with_its_reason(places, name, why):
    for setting in ("path", "validation_path"):
        config = text_config(places / "good.txt").with_values({setting: str(places / name)})
        assert why in input_problems(config)[setting]
        with pytest.raises(ConfigError, match=rf"^data.{setting} = .*{name}'.*: "):
            check_inputs(config)


@pytest.mark.parametrize("name", ["good.txt", "mixed", "."])
def test_a_place_with_text_is_taken(places, name):
    assert input_problems(text_config(places / name)) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_refused(places):
    (places / "good.txt").chmod(0)
    assert "cannot be read" in input_problems(text_config(places / "good.txt"))["path"]


def test_a_home_is_replaced_and_a_relative_path_is_kept_in_full(places, monkeypatch):
    monkeypatch.setenv("HOME", str(places))
    monkeypatch.chdir(places)
    wanted = {"~/good.txt": "good.txt", "good.txt": "good.txt", " good.txt ": "good.txt"}
    for written, name in wanted.items():
        assert check_inputs(text_config(written)).value("path") == str(places / name)


def test_the_refusal_says_where_a_relative_path_starts_and_what_a_home_became(places, monkeypatch):
    monkeypatch.setenv("HOME", str(places))
    monkeypatch.chdir(places)
    assert f"a relative path starts at {places}" in input_problems(text_config("my.txt"))["path"]
    home = input_problems(text_config("~/my.txt"))["path"]
    assert home.startswith(f"data.path = '~/my.txt' ({places / 'my.txt'}) does not exist: give")
    monkeypatch.setenv("BOOKS", "mixed")
    assert "$HOME is not replaced" in (said := input_problems(text_config("$BOOKS/my.txt"))["path"])
    assert "mixed" not in said  # what the environment holds is nobody's business


def test_videos_latents_and_local_data_sets_are_looked_for_too(places):
    video = default_run("video_flow").with_values({"source": "folder", "path": str(places / "hollow")})
    assert "without files" in input_problems(video)["path"]
    latents = default_run("ltx_video").with_values({"source": "folder", "path": str(places / "hollow")})
    assert "without files" in input_problems(latents)["path"]
    local = small_config(source="huggingface", hub_name=str(places / "gone"))
    assert "does not exist" in input_problems(local)["hub_name"]
    files = {"source": "huggingface", "hub_name": "json", "data_files": str(places / "*.jsonl")}
    assert "matches no file" in input_problems(small_config(**files))["data_files"]
    assert input_problems(small_config(**{**files, "data_files": str(places / "good*.txt")})) == {}
    assert "data_files is empty" in input_problems(small_config(source="huggingface", hub_name="csv"))["hub_name"]
    by_name = small_config(source="huggingface", hub_name="roneneldan/TinyStories")
    assert input_problems(by_name) == {}


def test_patterns_and_odd_names_are_refused_in_words(places, monkeypatch):
    def told(files, **changes):
        return input_problems(small_config(source="huggingface", hub_name="json", data_files=str(files), **changes))

    for name in ("deep/er/x.json", "deep/y.json", "deep/.hidden/z.json", "one.json"):
        (places / name).parent.mkdir(parents=True, exist_ok=True)
        (places / name).write_text('[{"text": "one"}]')
    (places / "round").symlink_to(places)
    found = {str(path.relative_to(places)) for path in matching_files(f"{places}/**/*.json", "data.data_files")}
    assert found == {"deep/er/x.json", "deep/y.json", "one.json"}
    assert len(matching_files(f"{places}/de?p/**/[xy].json", "data.data_files")) == 2
    assert len(matching_files(f"{places}/deep/**", "data.data_files")) == 2
    assert len(matching_files(f"{places}/**/**/.hidden/*", "data.data_files")) == 1
    assert "** stands alone between slashes" in told(places / "a**b.json")["data_files"]
    for text in (f"{places}/a\0/*.json", "~a\0b", "~a\0b/*.json", f"{places}/a\0b"):
        with pytest.raises(ConfigError, match=r"^data_files = .* without the character U\+0000$"):
            told(text)
    monkeypatch.setattr(of_places, "MOST_NAMES", 8)
    said = told(f"{places}/**/*.json")["data_files"]
    assert "leads through more than 8 names: begin it with a narrower folder" in said


@pytest.mark.parametrize("name", ["json", "csv", "text"])
def test_the_name_of_a_builder_stays_one_where_a_folder_has_it(places, monkeypatch, name):
    monkeypatch.chdir(places)
    (places / name).mkdir()
    (places / "one.txt").write_text(TEXT)
    config = check_inputs(small_config(source="huggingface", hub_name=name, data_files="one.txt"))
    assert config.value("hub_name") == name
    assert config.value("data_files") == str(places / "one.txt")


def test_a_data_set_folder_by_a_bare_name_is_kept_in_full(places, monkeypatch):
    monkeypatch.chdir(places)
    (places / "set").mkdir()
    (places / "set" / "train.json").write_text('[{"text": "one"}]')
    assert check_inputs(small_config(source="huggingface", hub_name="set")).value("hub_name") == str(places / "set")


def test_a_held_out_path_without_the_source_text_is_refused(places):
    config = small_config(validation_path=str(places / "good.txt"))
    assert "goes with source = text" in input_problems(config)["validation_path"]


def test_every_door_refuses_with_the_same_sentence_and_leaves_nothing(lab, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = text_config("~/gone.txt")
    sentence = input_problems(config)["path"]
    runs = tmp_path / "others"
    with pytest.raises(ConfigError) as refused:
        lab.start(config, name="r")
    assert str(refused.value) == sentence
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    doors = [
        ["--config", str(tmp_path / "run.yaml")],
        ["--set", "source=text", "--set", "path=~/gone.txt"],
    ]
    for door in doors:
        assert main(["train", "--runs", str(runs), "--name", "r", *door]) == 2
        assert sentence in capsys.readouterr().err
    process = TrainerProcess(runs)  # which serves HTTP and MCP
    try:
        with pytest.raises(ConfigError) as refused:
            process.start(config, name="r", author="api")
        assert str(refused.value) == sentence
    finally:
        process.close()
    with pytest.raises(ConfigError) as refused:
        bench_spec(["transformer"], config, name="b")
    assert str(refused.value) == sentence
    assert not (lab.runs_dir / "r").exists()
    assert not (runs / "r").exists()


def test_a_fork_to_data_that_is_not_there_is_refused_before_it_exists(lab, tmp_path):
    lab.wait(lab.start(small_config(steps=6), name="parent"), 120)
    before = set(lab.runs_dir.iterdir())
    changes = {"source": "text", "path": str(tmp_path / "gone.txt")}
    with pytest.raises(ConfigError, match=r"gone\.txt' does not exist"):
        lab.fork("parent", step=5, config_changes=changes)
    assert set(lab.runs_dir.iterdir()) == before


def test_a_run_keeps_its_path_in_full_and_trains_from_anywhere(lab, tmp_path, monkeypatch):
    (tmp_path / "book.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    name = lab.start(text_config("book.txt", steps=4), name="book")
    monkeypatch.chdir("/")
    assert lab.wait(name, 120).state == "finished"
    assert Path(lab.config(name).value("path")) == tmp_path / "book.txt"
