"""Data sets as the library lays them out: opened by path as by name; no network is noticed at once, and said."""

import http.server
import io
import json
import socket
import threading
import time

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qcore.config import DATA_ROOT, DataConfig, DataError, check_source, default_run
from qcore.data import load_corpus, open_dataset
from qcore.data.text import hub, size_limits

ROWS = [{"id": number, "text": f"Row number {number}: " + "words of a row " * 6} for number in range(60)]
TEXTS = tuple(row["text"].strip("\n") for row in ROWS)
CARD = """---
configs:
- config_name: en
  default: true
  data_files:
  - split: train
    path: en/train-*
  - split: validation
    path: en/validation-*
---
# A data set
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    datasets.disable_progress_bars()


def load(name, **settings):
    return load_corpus(DataConfig(source="huggingface", hub_name=str(name), **settings))


@pytest.fixture
def repository(tmp_path):
    folder, table = tmp_path / "repo", pa.Table.from_pylist(ROWS)
    (folder / "en").mkdir(parents=True)
    for number in range(2):
        pq.write_table(table.slice(20 * number, 20), folder / "en" / f"train-{number}.parquet")
    pq.write_table(table.slice(40), folder / "en" / "validation-0.parquet")
    (folder / "README.md").write_text(CARD)
    return folder


def test_a_folder_in_the_hub_s_layout(repository):
    assert load(repository).documents == load(repository, data_version=1).documents == TEXTS[:40]
    assert load(repository, hub_split="validation[:5]").documents == TEXTS[40:45]
    with pytest.raises(DataError, match=r"repo' .*split 'test'\) could not be opened: Unknown split .test.") as caught:
        load(repository, hub_split="test")
    assert "onnection" not in str(caught.value)
    words = check_source(default_run().with_values({"source": "huggingface", "hub_name": str(repository)})).words
    assert words == "the data set folder repo"


def test_a_split_of_its_own_is_held_out(repository):
    config = DataConfig(source="huggingface", hub_name=str(repository), validation_split="validation", tokenizer="byte")
    found = open_dataset(config, 16, None)
    assert (found.report.train_documents, found.report.validation_documents) == (40, 20)
    assert found.tokenizer.decode(found.validation.tokens_N[1:20].tolist()) == TEXTS[40][:19]
    with pytest.raises(DataError, match="validation_split = 'dev' goes with the source 'huggingface'"):
        open_dataset(DataConfig(documents=30, validation_split="dev"), 16, None)


@pytest.mark.parametrize("door", ["hub_name", "path"])
def test_a_saved_data_set_just_opens(tmp_path, door):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    if door == "path":
        assert load_corpus(DataConfig(source="text", path=str(tmp_path / "saved"))).documents == TEXTS
        return
    assert load(tmp_path / "saved").documents == TEXTS
    assert load(tmp_path / "saved", hub_split="train[10:20]").documents == TEXTS[10:20]
    parts = {"train": datasets.Dataset.from_list(ROWS[:40]), "test": datasets.Dataset.from_list(ROWS[40:])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "parts")
    assert load(tmp_path / "parts", hub_split="test").documents == TEXTS[40:]
    with pytest.raises(DataError, match=r"has no split 'dev': set data\.hub_split to 'train' or 'test'"):
        load(tmp_path / "parts", hub_split="dev")


def test_a_folder_s_broken_file_is_named_with_its_line(tmp_path):
    lines = [json.dumps(row) for row in ROWS]
    lines[50] = lines[50][:30]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"train\.jsonl', line 51: no JSON: Unterminated") as caught:
        load(tmp_path / "bad")
    assert "onnection" not in str(caught.value)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.json").write_text("")
    with pytest.raises(DataError, match=r"could not be opened: x\.json is empty"):
        load(tmp_path / "none")
    with pytest.raises(DataError, match="nowhere' does not exist"):
        load(tmp_path / "nowhere")
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.jsonl' is a file: take hub_name=json"):
        load(tmp_path / "a.jsonl")


def test_chats_and_nested_columns_of_a_folder(tmp_path):
    (tmp_path / "chats").mkdir()
    rows = [{"messages": [{"role": "user", "content": f"Question {number}"}]} for number in range(3)]
    (tmp_path / "chats" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load(tmp_path / "chats").documents == tuple(f"user: Question {number}" for number in range(3))
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested" / "train.jsonl").write_text('{"data": {"text": "one"}}\n{"data": {"text": null}}\n')
    found = load(tmp_path / "nested", text_column="data.text")
    assert (found.documents, found.notes) == (("one",), ("1 rows have no text in that column and were skipped",))


def test_builders_ask_for_a_file():
    for name in ("json", "csv", "parquet", "arrow", "text"):
        with pytest.raises(DataError, match="data_files is empty: name a file there"):
            load(name)


# The network


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def no_proxy(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)


@pytest.mark.parametrize("version", [1, 2])
def test_a_data_set_folder_below_the_root_reads_nothing_outside(tmp_path, repository, monkeypatch, version):
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    assert load(repository, data_version=version).documents == TEXTS[:40]
    monkeypatch.setenv(DATA_ROOT, str(repository))
    (tmp_path / "secret.txt").write_text("hunter2 " * 90)
    assert load(repository, data_version=version).documents == TEXTS[:40]
    for path in ("../secret.txt", str(tmp_path / "secret.txt"), "../*.txt"):
        (repository / "README.md").write_text(f"---\nconfigs:\n- config_name: en\n  data_files: {path!r}\n---\n")
        with pytest.raises(DataError, match=r"repo' is refused: of its files, .*secret\.txt' is refused"):
            load(repository, hub_config="en", data_version=version)
        monkeypatch.delenv(DATA_ROOT)
        assert "hunter2" in load(repository, hub_config="en", data_version=version).documents[0], "without a root"
        monkeypatch.setenv(DATA_ROOT, str(repository))


@pytest.mark.parametrize("name", ["../../outside/data-00000-of-00001.arrow", "/etc/passwd", "..", "a\\b", 5, None])
def test_a_saved_data_set_takes_nothing_from_outside_of_its_folder(tmp_path, name):
    datasets.Dataset.from_list(ROWS[:40]).save_to_disk(tmp_path / "outside")
    saved = tmp_path / "saved"
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(saved)
    assert load(saved).documents == TEXTS
    state = json.loads((saved / "train" / "state.json").read_text())
    (saved / "train" / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": name}]}))
    with pytest.raises(DataError, match=r"the saved data set .* (is refused: its state\.json names|cannot be opened)"):
        load(saved)
    (saved / "train" / "state.json").write_text(json.dumps(state))
    (saved / "dataset_dict.json").write_text(json.dumps({"splits": ["../outside"]}))
    with pytest.raises(DataError, match=r"its dataset_dict\.json names '\.\./outside'"):
        load(saved)


def test_a_saved_data_set_is_weighed_before_it_is_written_out(tmp_path, monkeypatch):
    cells = pa.DictionaryArray.from_arrays(pa.array([0] * 600, pa.int32()), pa.array(["word " * 40_000]))
    datasets.Dataset(pa.table({"text": cells})).save_to_disk(tmp_path / "saved")
    monkeypatch.setattr(size_limits, "memory_bytes", lambda: 200 << 20)
    with pytest.raises(
        DataError, match=r"the data set .*saved' holds 0\.1 GB, more than half of this machine's memory"
    ):
        load(tmp_path / "saved")


def test_no_network_is_noticed_at_once(no_proxy, monkeypatch):
    port = free_port()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(DataError, match=r"127\.0\.0\.1 cannot be reached \(Connection refused\), and it is not in the"):
        load("nobody/nothing")
    assert time.monotonic() - started < 10
    assert datasets.config.HF_HUB_OFFLINE is False, "the next load may find a network"


def test_a_name_that_is_looked_up_for_ever_is_not_waited_for(no_proxy, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    release = threading.Event()
    monkeypatch.setattr(hub.socket, "create_connection", lambda *_, **__: (release.wait(60), io.BytesIO())[1])
    started = time.monotonic()
    assert hub.why_unreachable(0.2) == "hub.example cannot be reached (no answer within 0.2 s)"
    assert time.monotonic() - started < 10
    release.set()


def test_what_is_in_the_cache_is_taken_without_a_network(no_proxy, monkeypatch, tmp_path, repository):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    seen = []

    def cached(name, *arguments, **settings):
        seen.append(datasets.config.HF_HUB_OFFLINE)
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", cached)
    assert load("somebody/something").documents == TEXTS
    assert seen == [True]


def test_the_proxy_is_asked_in_place_of_the_hub(no_proxy, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    proxy = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(hub.urllib.request, "getproxies", lambda: {"https": proxy})
    assert hub.why_unreachable() == ""
    server.server_close()
    assert "127.0.0.1 cannot be reached (Connection refused)" in hub.why_unreachable()


def test_the_setting_that_keeps_the_library_offline_is_named(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "why_unreachable", lambda: pytest.fail("nobody is asked"))
    with pytest.raises(DataError, match="the library is offline by its setting, and it is not in the cache"):
        load("nobody/nothing")
