"""Random and mutated files of every kind: each is read, or refused with an error that names it, in bounded time and
memory.

QCORE_SEED chooses the files (default 1), QCORE_ATTACKS multiplies their number: QCORE_ATTACKS=50 takes some minutes.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import time
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qcore.config import ClipsConfig, DataConfig, DataError, check_source, default_run
from qcore.data import load_corpus, open_clips

SEED = int(os.environ.get("QCORE_SEED", "1"))
SCALE = float(os.environ.get("QCORE_ATTACKS", "1"))
SECONDS, MEGABYTES = 3.0, 500
ROWS = [{"id": number, "text": f"Row {number} says ü and “more”. " * 4, "tags": ["a", "b"]} for number in range(40)]
CHATS = [
    {"messages": [{"role": "user", "content": f"Question {n}?"}, {"role": "bot", "content": "Yes."}]} for n in range(9)
]
PROSE = "\n\n".join(f"Paragraph {number}. " + "Words, words and signs; more words. " * 40 for number in range(8))
PAGE = "<html><head><title>t</title></head><body>" + "<p>One &amp; <b>two</b>.</p><!-- c -->" * 60 + "</body></html>"


def zstd(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(raw)
    return sink.getvalue().to_pybytes()


def parquet(**settings: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out, row_group_size=11, **settings)
    return out.getvalue()


def arrow(stream: bool) -> bytes:
    out, table = io.BytesIO(), pa.Table.from_pylist(ROWS)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=13)
    return out.getvalue()


def video(codec: str, form: str, pixel_format: str) -> bytes:
    out = io.BytesIO()
    frames = np.random.default_rng(0).integers(0, 256, (24, 16, 16), dtype=np.uint8)
    with av.open(out, "w", format=form) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 16, 16, pixel_format
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    return out.getvalue()


LINES = "\n".join(map(json.dumps, ROWS)).encode()
TEXTS: dict[str, bytes] = {
    "a.txt": PROSE.encode(),
    "u16.txt": PROSE.encode("utf-16"),
    "latin.txt": "für eine große Welt, Zeile\n".encode("latin-1") * 60,
    "page.html": PAGE.encode(),
    "rows.jsonl": LINES,
    "rows.json": json.dumps(ROWS, indent=1).encode(),
    "inner.json": json.dumps({"v": 1, "data": ROWS}).encode(),
    "chat.jsonl": "\n".join(map(json.dumps, CHATS)).encode(),
    "rows.csv": b'id,text\n1,"a, ""b"" c"\n2,"two\nlines"\n' + b"3,words of a row\n" * 30,
    "rows.tsv": b"id\ttext\n" + b"3\twords of a row\n" * 30,
    "rows.parquet": parquet(),
    "zstd.parquet": parquet(compression="zstd", use_dictionary=False),
    "rows.arrow": arrow(stream=False),
    "stream.arrow": arrow(stream=True),
    "a.txt.gz": gzip.compress(PROSE.encode()),
    "rows.jsonl.zst": zstd(LINES),
    "rows.jsonl.bz2": bz2.compress(LINES),
    "rows.csv.xz": lzma.compress(b"id,text\n" + b"3,words of a row\n" * 99),
    "rows.parquet.gz": gzip.compress(parquet()),
    "weights.safetensors": b"\x08\0\0\0\0\0\0\0{}      ",
    "object.pkl": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x04name",
}
VIDEOS: dict[str, bytes] = {
    "a.mkv": video("ffv1", "matroska", "gray"),
    "b.mp4": video("mpeg4", "mp4", "yuv420p"),
    "c.avi": video("mjpeg", "avi", "yuvj420p"),
    "d.gif": video("gif", "gif", "gray"),
    "e.mkv": video("libx264", "matroska", "yuv420p"),
    "f.webm": video("libvpx", "webm", "yuv420p"),
}
SUFFIXES = sorted({"." + name.split(".", 1)[1] for name in TEXTS} | {"", ".md", ".log", ".mp4", ".zip", ".bin", ".py"})


def mutated(draw: random.Random, seeds: dict[str, bytes]) -> tuple[str, bytes]:
    """A name and bytes that some file might have had."""
    name, raw = draw.choice(sorted(seeds.items()))
    data = bytearray(raw)
    for _ in range(draw.choice((0, 0, 1, 1, 2, 5))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(9):
            case 0:
                del data[at:]
            case 1:
                data[at : at + draw.randrange(1, 9)] = draw.randbytes(draw.randrange(9))
            case 2:
                data[at:at] = draw.choice(
                    (b"\0", b"\0" * 5000, b'"', b"\n\n\n", b"{", b"[" * 3000, b"\xff\xfe", b"\x80\x04", b"<!--")
                )
            case 3:
                del data[at : at + draw.randrange(1, 200)]
            case 4:
                data[at:at] = draw.choice(sorted(seeds.values()))[: draw.randrange(400)]
            case 5:
                data[at:at] = data[at : at + 300] * draw.randrange(1, 30)
            case 6:
                for _ in range(8):
                    if data:
                        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            case 7:
                data[at:at] = draw.choice(("\u2028", "\ud7ff", "\ufeff", "é", "日本", "\x85", "\x1b[0m")).encode()
            case 8:
                data[at:at] = draw.choice((b"9" * 5000, b"1e999", b"NaN", b"-", b"\\ud800", b"null", b",,,,", b";;;"))
    if draw.random() < 0.1:
        data = bytearray(draw.randbytes(draw.randrange(2000)))
    if draw.random() < 0.25:
        name = name.split(".")[0] + draw.choice(SUFFIXES)
    return name, bytes(data)


def bounded(action: object, *names: str) -> object:
    """The result of an action, or None where it was refused with the declared error that names one of the files."""
    started = time.process_time()
    try:
        return action()  # type: ignore[operator]
    except DataError as error:
        if not any(name in str(error) for name in names):
            raise
        return None
    finally:
        assert time.process_time() - started < SECONDS


def peak_mb() -> float:
    """The most memory that this process has had since its peak was set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@pytest.fixture(autouse=True)
def flat_memory():
    """The peak of this test alone: what another one has needed before would hide it."""
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_mb()
    yield
    assert peak_mb() < before + MEGABYTES


def test_the_measurement_of_memory_sees_what_one_test_takes():
    for _ in range(2):  # the second time as well, though the process had it before
        Path("/proc/self/clear_refs").write_text("5")
        before = peak_mb()
        assert len(bytes([1]) * (200 << 20)) > 0
        assert peak_mb() > before + 150


def test_every_file_is_read_or_refused(tmp_path: Path) -> None:
    draw, read = random.Random(SEED), 0
    count = int(250 * SCALE)
    for number in range(count):
        name, data = mutated(draw, TEXTS)
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(data)
        config = DataConfig(source="text", path=str(path), text_column=draw.choice(("text",) * 8 + ("id", "a.b")))
        run = default_run().with_values({"source": "text", "path": str(path)})
        checked = bounded(lambda run=run: check_source(run), path.name)
        found = bounded(lambda config=config: load_corpus(config), path.name)
        if found is not None:
            read += 1
            assert checked is not None, f"{path.name} is read and was refused before"
            assert all(isinstance(text, str) and text.strip() for text in found.documents)  # type: ignore[attr-defined]
        path.unlink()
    assert 0.15 * count < read < 0.95 * count, "both are tried"


def test_every_builder_reads_or_refuses(tmp_path: Path) -> None:
    draw = random.Random(SEED + 1)
    for number in range(int(80 * SCALE)):
        name, data = mutated(draw, TEXTS)
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(data)
        builder = draw.choice(("json", "csv", "parquet", "arrow", "text"))
        config = DataConfig(source="huggingface", hub_name=builder, data_files=str(path))
        bounded(lambda config=config: load_corpus(config), path.name)
        path.unlink()


def test_every_folder_is_read_or_refused(tmp_path: Path) -> None:
    draw = random.Random(SEED + 2)
    for number in range(int(30 * SCALE)):
        folder = tmp_path / str(number)
        folder.mkdir()
        names = []
        for inner in range(draw.randrange(1, 7)):
            name, data = mutated(draw, TEXTS)
            names.append(f"{inner}-{name}")
            (folder / names[-1]).write_bytes(data)
        found = bounded(
            lambda folder=folder: load_corpus(DataConfig(source="text", path=str(folder))), *names, "data set folder"
        )
        if found is not None:
            left = {file.path for file in found.skipped}  # type: ignore[attr-defined]
            assert left <= set(names)
            assert left != set(names), "something was read"


def test_every_video_is_read_or_refused(tmp_path: Path) -> None:
    draw = random.Random(SEED + 3)
    for number in range(int(60 * SCALE)):
        folder = tmp_path / str(number)
        folder.mkdir()
        names = []
        for inner in range(draw.randrange(1, 3)):
            name, data = mutated(draw, VIDEOS)
            names.append(f"{inner}-{name}")
            (folder / names[-1]).write_bytes(data)
        config = ClipsConfig(source="folder", path=str(folder), frames=4, canvas=8)
        found = bounded(lambda config=config: open_clips(config), str(folder))
        if found is not None:
            assert found.shape == (4, 1, 8, 8)  # type: ignore[attr-defined]
            assert {file.path for file in found.skipped} <= set(names)  # type: ignore[attr-defined]
