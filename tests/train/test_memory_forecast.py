"""The memory forecast: the peak of a real step within a quarter, the published sizes, and what a person is told."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from qcore.base.words import bytes_words
from qcore.config import LANGUAGE_KINDS, ConfigError, TextRunConfig, VideoRunConfig, default_run, preset
from qcore.data import forecast as of_data
from qcore.data.forecast import COUNTED_BYTES, data_forecast
from qcore.experiments.measure_models import peak_memory
from qcore.lab.forecast import memory_forecast
from qcore.models import build_model, parameter_count
from qcore.train.memory_forecast import available_bytes, forecast, saved_bytes
from qcore.train.text_workload import build_engine
from qcore.train.video_workload import build_video_engine

SMALL = {"width": 32, "layers": 2, "heads": 2, "context": 40, "batch_size": 3, "tokenizer": "byte"}
TOLERANCE = 0.25


def config_of(kind: str, **changes: object) -> TextRunConfig:
    config = default_run(kind).with_values({**SMALL, **changes})
    assert isinstance(config, TextRunConfig)
    return config


@pytest.mark.parametrize("layers", [2, 4])
@pytest.mark.parametrize("kind", LANGUAGE_KINDS)
def test_what_autograd_keeps_is_counted_without_computing(kind: str, layers: int) -> None:
    config = config_of(kind, layers=layers)
    model = build_model(config.model, 260)
    real = saved_bytes(model, torch.zeros(3, 40, dtype=torch.int64))
    found = forecast(config)
    assert found.activations == real
    assert found.parameters == parameter_count(model)
    assert found.weights == found.gradients == 4 * found.parameters
    assert found.moments == 8 * found.parameters


@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_the_peak_of_a_real_step_is_forecast_within_a_quarter(kind: str) -> None:
    config = config_of(kind, width=128, layers=3, heads=4, context=256, batch_size=16)
    found = forecast(config, 260)
    measured = peak_memory(config, 260)
    assert measured is not None
    assert found.total == pytest.approx(measured, rel=TOLERANCE)


def test_activations_grow_with_the_batch_and_shrink_when_layers_are_computed_anew() -> None:
    one, two = (forecast(config_of("phase_lm", batch_size=rows)).activations for rows in (4, 8))
    assert two == pytest.approx(2 * one, rel=0.02)
    deep = config_of("phase_lm", layers=6)
    saved = forecast(deep).activations
    recomputed = forecast(deep.with_values({"activation_checkpointing": True})).activations
    assert recomputed < 0.5 * saved


def test_half_precision_keeps_less() -> None:
    config = config_of("transformer", width=64)
    assert forecast(config.with_values({"precision": "bf16"})).activations < 0.8 * forecast(config).activations


@pytest.mark.parametrize(
    ("name", "published"), [("published-small", 8.58), ("published-medium", 21.08), ("published-large", 43.95)]
)
def test_the_published_sizes(name: str, published: float) -> None:
    config = preset(name).config
    small = config.with_values({"batch_size": 1})
    assert isinstance(small, TextRunConfig)
    found = forecast(small)
    assert found.published is not None
    assert round(found.published / 1e6, 2) == published
    with torch.device("meta"):
        assert found.parameters == parameter_count(build_model(small.model, found.vocab_size))


def test_a_person_is_told_what_is_needed_and_what_there_is() -> None:
    found = replace(forecast(config_of("phase_lm")), activations=22 * 10**9, available=8 * 10**9)
    assert found.verdict == "too large"
    assert found.text.startswith("This needs about 22 GB; you have 8 GB")
    assert "lower batch_size" in found.text
    assert replace(found, available=23 * 10**9).verdict == "tight"
    assert replace(found, available=60 * 10**9).verdict == "fits"
    assert "smaller width" in replace(found, weights=10**11).text
    assert [bytes_words(size) for size in (10, 34e7, 14e8, 22e9)] == ["10 bytes", "340 MB", "1.4 GB", "22 GB"]
    assert bytes_words(8e9) == "8 GB"
    assert available_bytes(torch.device("cpu")) > 0


def test_the_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    forecast(config_of("phase_lm"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.rand(3).dtype == torch.float32


def test_the_lab_asks_once() -> None:
    config = config_of("phase_lm")
    first = memory_forecast(config)
    assert first is not None
    other = memory_forecast(config.with_values({"seed": 7, "learning_rate": 1e-4}))
    assert other is not None
    assert replace(other, available=0) == replace(first, available=0)
    assert memory_forecast(default_run("ltx_video")) is None


PRESETS_COUNTED = ("tiny", "tiny-bytes", "tiny-transformer", "pam", "flux", "tiny-experts", "fault-g7", "fault-t4")
VIDEO_COUNTED = ("video-tiny", "video-image-to-video", "video-latents", "fault-v2")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what presets of equal data read of them is kept."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", [*PRESETS_COUNTED, *VIDEO_COUNTED])
def test_the_parameters_that_are_told_are_those_of_the_run(name: str, cache: Path) -> None:
    config = preset(name).config
    smaller = {"clips": 64} if isinstance(config, VideoRunConfig) else {}
    config = config.with_values(smaller)
    engine = build_video_engine(config) if isinstance(config, VideoRunConfig) else build_engine(config, cache)
    found = memory_forecast(config)
    assert found is not None
    assert found.parameters_text == f"{parameter_count(engine.model):,} parameters"


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("tokenizer", ["byte", "word", "bpe"])
@pytest.mark.parametrize("kind", ["phase_lm", "transformer"])
def test_the_vocabulary_of_an_own_text_is_counted(tmp_path: Path, kind: str, tokenizer: str, held_out: bool) -> None:
    words = [f"word{number}" for number in range(300)]
    text = "\n\n".join(" ".join(words[start : start + 30]) * 20 for start in range(0, 300, 30))
    (tmp_path / "book.txt").write_text(text)
    (tmp_path / "other.txt").write_text("word1 word2 somethingelse\n\n" * 200)
    values = {"source": "text", "path": str(tmp_path / "book.txt"), "tokenizer": tokenizer, "vocab_size": 1000}
    if held_out:
        values["validation_path"] = str(tmp_path / "other.txt")
    config = config_of(kind, **values)
    found = memory_forecast(config)
    assert found is not None
    assert found.counted
    assert found.parameters == parameter_count(build_engine(config, None).model)


def test_a_vocabulary_that_is_not_counted_is_told_as_the_most_there_can_be(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("a few words over and over again\n\n" * (COUNTED_BYTES // 30))
    found = memory_forecast(config_of("transformer", source="text", path=str(tmp_path / "book.txt"), tokenizer="word"))
    assert found is not None
    assert found.vocab_size == 2048
    assert found.parameters_text.startswith("at most ")
    assert "a vocabulary of at most 2,048 tokens" in found.parameters_text
    by_name = memory_forecast(config_of("transformer", source="huggingface", hub_name="someone/some", tokenizer="bpe"))
    assert by_name is not None
    assert not by_name.counted
    assert "size is known when it is there" in by_name.text


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_what_can_be_trained_on_is_forecast_and_what_cannot_is_not(tmp_path: Path, tokenizer: str) -> None:
    """A text without blanks, which is cut anywhere; a folder with a link to nothing."""
    (tmp_path / "a.txt").write_text("これはとても長い日本語の文章です。空白はありません。" * 200)
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nothing")
    values = {"source": "text", "tokenizer": tokenizer}
    for path in (tmp_path / "a.txt", tmp_path):
        config = config_of("transformer", path=str(path), **values)
        found = memory_forecast(config)
        assert found is not None
        assert found.counted
        assert found.vocab_size == build_engine(config, None).dataset.tokenizer.vocab_size


def test_files_that_hold_more_than_their_bytes_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_data, "open_corpus", lambda data: pytest.fail("it was opened"))
    pq.write_table(pa.table({"text": ["word " * 100_000] * 90}), tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"word " * 4_000_000))
    (tmp_path / "renamed").write_bytes((tmp_path / "a.parquet").read_bytes())
    for name in ("a.parquet", "a.txt.gz", "renamed", "."):
        config = config_of("transformer", source="text", path=str(tmp_path / name), tokenizer="word")
        found = memory_forecast(config)
        assert found is not None
        assert not found.counted


def test_a_name_of_the_environment_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("one two three\n\n" * 200)
    monkeypatch.setenv("BOOKS", str(tmp_path))
    assert data_forecast(config_of("transformer", source="text", path="$BOOKS/a.txt")).source == 0


def test_a_changed_file_is_counted_anew(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("one two three four five six\n\n" * 200)
    config = config_of("transformer", source="text", path=str(book), tokenizer="word")
    first = memory_forecast(config)
    book.write_text("one two three four five six seven\n\n" * 200)
    second = memory_forecast(config)
    assert first is not None
    assert second is not None
    assert second.vocab_size == first.vocab_size + 1


def large(path: Path, size: int) -> Path:
    """A file of that size that takes no room: nothing of it may be read."""
    with path.open("wb") as file:
        file.write(b"words\n")
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("tokenizer", "least", "most"), [("byte", 60e9, 90e9), ("word", 10e9, 20e9), ("bpe", 25e9, 40e9)]
)
def test_a_gigabyte_of_text_does_not_fit_and_the_remedy_is_named(
    tmp_path: Path, tokenizer: str, least: float, most: float
) -> None:
    path = large(tmp_path / "1g.txt", 10**9)
    found = memory_forecast(config_of("transformer", source="text", path=str(path), tokenizer=tokenizer))
    assert found is not None
    assert least < found.total < most
    small = replace(found, available=9 * 10**9)
    assert small.verdict == "too large"
    assert "the data are too large, use a part of them" in small.text
    assert ("tokenizer = word" in small.text) == (tokenizer == "byte")


def test_folders_packed_files_and_clips_are_weighed(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / ".hidden").mkdir()
    for name in ("a.txt", "b.txt", ".hidden/c.txt"):
        large(tmp_path / "books" / name, 10**8)
    folder = config_of("transformer", source="text", path=str(tmp_path / "books"))
    assert data_forecast(folder).source == 2 * 10**8
    packed = large(tmp_path / "rows.jsonl.gz", 10**8)
    rows = config_of("transformer", source="huggingface", hub_name="json", data_files=str(packed))
    assert data_forecast(rows).source == 4 * 10**8
    several = config_of("transformer", source="huggingface", hub_name="json", data_files=str(tmp_path / "*.gz"))
    assert data_forecast(several).source == 4 * 10**8
    clips = default_run("video_flow").with_values({"clips": 1000, "frames": 10, "canvas": 100})
    assert data_forecast(clips).held == 10**8


@pytest.mark.parametrize(("tokenizer", "most"), [("byte", 1.5), ("word", 1.8), ("bpe", 1.8)])
def test_what_opening_a_text_takes_is_forecast(tmp_path: Path, tokenizer: str, most: float) -> None:
    """Peak of a process that opens 3 MB, beside its peak when it had opened next to nothing."""
    words = [f"{first}{second}{third}" for first in "bdfglmnprst" for second in "aeiou" for third in ("n", "rt", "sk")]
    text = "\n\n".join(" ".join(words[(3 * a + b * b) % len(words)] for b in range(200)) for a in range(4200))
    (tmp_path / "large.txt").write_text(text)
    (tmp_path / "small.txt").write_text(text[:20_000])
    values = [
        json.dumps({"source": "text", "path": str(tmp_path / name), "tokenizer": tokenizer})
        for name in ("small.txt", "large.txt")
    ]
    program = (
        "import sys; from qcore.config import DataConfig; from qcore.data import open_dataset\n"
        "for values in sys.argv[1:]:\n"
        "    open_dataset(DataConfig.model_validate_json(values), 64, None)\n"
        "    print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    done = subprocess.run([sys.executable, "-c", program, *values], capture_output=True, text=True, check=True)
    took = [1024 * int(line) for line in done.stdout.split()]
    told = data_forecast(config_of("transformer", source="text", path=str(tmp_path / "large.txt"), tokenizer=tokenizer))
    assert (took[1] - took[0]) / most < told.peak < 3 * (took[1] - took[0])


def test_a_run_that_cannot_fit_is_refused_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    from qcore.cli import training

    huge = replace(forecast(config_of("phase_lm")), available=1)
    monkeypatch.setattr(training, "memory_forecast", lambda config: huge)
    with pytest.raises(ConfigError, match=r"you have 1 byte .* --force"):
        training._memory(config_of("phase_lm"), False)
    assert "you have 1 byte" in training._memory(config_of("phase_lm"), True)
