"""Data sets: by name from the hub, from a folder in its layout, as the library saved them, and local files by builder.

Local files are read by `tables` and `texts`, like those of the source "text", so that a document is the same thing
everywhere. The library reads what is named on the hub or laid out in its way. Whether the hub can be reached is asked
first, for a few seconds and not for a minute.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from qcore.base.stopping import StopAskedError
from qcore.config import DataConfig, DataError
from qcore.config.forms import TABLES, Form
from qcore.config.places import (
    BUILDERS,
    is_remote,
    listed_files,
    local_files,
    looks_local,
    place,
    plain_error,
    printable_path,
)
from qcore.config.sources import check_file, detect_form, survey
from qcore.data.text.columnar import table_weight
from qcore.data.text.files import Texts, read_files, unpack_file
from qcore.data.text.hub_download import download
from qcore.data.text.opening import check_saved, innermost_cause, load_dataset
from qcore.data.text.size_limits import check_room
from qcore.data.text.tables import ColumnChoice, choose_column, joined_articles, read_rows, text_of

PROBE_SECONDS = 3.0
_LOOKED_AT = 100
_ONE_AT_A_TIME = threading.Lock()
_ENDPOINT = "https://huggingface.co"


def read_hub(config: DataConfig, split: str) -> Texts:
    """Documents of one split of the data set that a configuration names.

    Raises:
        DataError: with the innermost cause and a remedy that fits it.
    """
    if not config.hub_name.strip():
        raise DataError(
            "data.hub_name is empty: the source 'huggingface' needs a data set's name, a folder, or json, csv, "
            "parquet, arrow or text with data_files"
        )
    column = ColumnChoice(config.text_column)
    if config.hub_name in BUILDERS and not is_remote(config.data_files):
        return _read_local(config, split, column)
    if not config.data_files and looks_local(config.hub_name):
        folder = place(config.hub_name, "data.hub_name", "the name of a data set, or a folder that holds one")
        if not folder.is_dir():
            raise DataError(
                f"data.hub_name {printable_path(config.hub_name)!r} is a file: take hub_name=json (or csv, "
                "parquet, arrow, "
                "text) with data_files, or source=text with path"
            )
        return _read_folder(config, folder, split, column)
    return _loaded_texts(_load_by_name(config, split), column, config.hub_name)


def read_saved(folder: Path, column: ColumnChoice, split: str = "train") -> Texts:
    """Documents of a folder that the library's `save_to_disk` wrote."""
    import datasets

    check_saved(folder)
    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:  # the library raises nothing narrower for a damaged folder
        raise DataError(
            f"the saved data set {printable_path(folder)!r} cannot be opened: {innermost_cause(error)}"
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        name = split.split("[")[0]
        if name not in loaded:
            raise DataError(
                f"the saved data set {printable_path(folder)!r} has no split {name!r}: set data.hub_split to "
                f"{' or '.join(map(repr, loaded))}"
            )
        loaded = loaded[name]
    return _loaded_texts(_slice(loaded, split), column, printable_path(folder))


def _read_local(config: DataConfig, split: str, column: ColumnChoice) -> Texts:
    """Local files by builder; the whole is the split train, of which the library's notation takes a part."""
    if not config.data_files.strip():
        raise DataError(f"hub_name {config.hub_name!r} reads local files and data_files is empty: name a file there")
    files: list[tuple[Path, Form]] = []
    form = BUILDERS[config.hub_name]
    for path in local_files(config.data_files):
        said = f"data.data_files {printable_path(path)!r}"
        check_file(path, said, config.encoding)
        found = detect_form(path, config.encoding)
        if form in TABLES and found.name not in TABLES:
            found = replace(found, name=form)  # a table under another suffix
        files.append((path, found if form != "text" else replace(found, name=form, encoding=config.encoding)))
    check_room(sum(path.stat().st_size for path, _ in files), f"data.data_files {printable_path(config.data_files)!r}")
    texts = read_files(files, column, files[0][0].parent, divided=True, as_prose=form == "text")
    count = len(texts.documents)
    kept = [texts.documents[number] for number in _numbers(split, count, config)]
    return Texts(tuple(kept), texts.size, texts.skipped, texts.notes)


def _numbers(split: str, count: int, config: DataConfig) -> list[int]:
    if split == "train":
        return list(range(count))
    import datasets

    try:
        parts = datasets.ReadInstruction.from_spec(split).to_absolute({"train": count})
    except (ValueError, AssertionError, KeyError) as error:
        raise DataError(
            f"data.hub_split {split!r} is refused ({innermost_cause(error)}): local files are one split, train; "
            "take train, "
            "train[:1000] or train[:10%]"
        ) from error
    return [number for part in parts for number in range(part.from_ or 0, count if part.to is None else part.to)]


def _slice(loaded: Any, split: str) -> Any:
    if "[" not in split:
        return loaded
    import datasets

    name = split.split("[")[0]
    try:
        parts = datasets.ReadInstruction.from_spec(split).to_absolute({name: len(loaded)})
    except (ValueError, AssertionError, KeyError) as error:
        raise DataError(f"data.hub_split {split!r} is refused ({innermost_cause(error)}): take {name}[:10%]") from error
    numbers = [n for part in parts for n in range(part.from_ or 0, len(loaded) if part.to is None else part.to)]
    return loaded.select(numbers)


def _read_folder(config: DataConfig, folder: Path, split: str, column: ColumnChoice) -> Texts:
    found = survey(folder)
    if found.saved:
        return read_saved(folder, column, split)
    try:
        loaded = _load(config, str(folder), split)
    except DataError:
        raise
    except Exception as error:  # see `read_saved`
        cause = innermost_cause(error)
        if not found.tables and found.skipped:
            cause = "; ".join(f"{file.path} {file.reason}" for file in found.skipped[:3])
        if "zstd" in cause:
            cause += "; install the package zstandard, or unpack the files"
        for path, form in found.tables:  # which of them it was, and where
            try:
                for _ in read_rows(path, form, unpack_file, [], config.text_column):
                    pass
            except DataError as precise:
                raise precise from error
        raise DataError(
            f"the data set folder {printable_path(folder)!r} (configuration {config.hub_config or 'default'!r}, split "
            f"{split!r}) could not be opened: {cause}"
        ) from error
    return _loaded_texts(loaded, column, printable_path(folder))


def _load(config: DataConfig, name: str, split: str) -> Any:
    return load_dataset(name, config.hub_config, split, _files(config, name))


def _files(config: DataConfig, name: str) -> str | list[str]:
    files = listed_files(config.data_files, Path(name)) if config.data_files else []
    return files[0] if len(files) == 1 else files


def _load_by_name(config: DataConfig, split: str) -> Any:
    unreachable = "" if is_offline() else why_unreachable()
    with offline_mode() if unreachable else contextlib.nullcontext():
        try:
            if not (unreachable or is_offline()):
                download(config.hub_name, config.hub_config, split, _files(config, config.hub_name))
            return _load(config, config.hub_name, split)
        except (DataError, StopAskedError):
            raise
        except Exception as error:  # see `read_saved`
            cause = innermost_cause(error)
            network = unreachable or ("the library is offline by its setting" if is_offline() else "")
            if network:
                remedy = (
                    f"{network}, and it is not in the cache: connect and start again, or take a local file or folder "
                    "(source=text with path, or hub_name=json, csv or parquet with data_files)"
                )
            else:
                remedy = "Check the names (and the connection, if it was lost meanwhile)"
            raise DataError(
                f"the data set {config.hub_name!r} (configuration {config.hub_config or 'default'!r}, split "
                f"{split!r}, data_files {config.data_files or 'none'!r}) could not be loaded: {cause}. {remedy}"
            ) from error


def _loaded_texts(loaded: Any, column: ColumnChoice, name: str) -> Texts:
    """Documents of what the library has loaded; cells are read as they lie there, no picture is decoded."""
    plain = loaded.with_format("arrow")
    if not len(loaded):
        raise DataError(f"the data set {name!r} has no rows in this split: choose another with data.hub_split")
    sample = plain[:_LOOKED_AT].to_pylist()
    path, note = choose_column(sample, column, name)
    rows = plain.select_columns([path[0]])
    texts: list[str] = []
    missing = letters = 0
    for start in range(0, len(rows), 1000):
        part = rows[start : start + 1000]
        check_room(letters + table_weight(part), f"the data set {name!r}")
        for number, row in enumerate(part.to_pylist(), start):
            text = text_of(row, path, f"{name!r}, row {number}", sample)
            if text is None:
                missing += 1
            else:
                letters += len(text)
                texts.append(text)
    notes = [note] if note else []
    if missing:
        notes.append(f"{missing:,} rows have no text in that column and were skipped")
    return Texts(joined_articles(texts), 0, (), tuple(notes))


# the network


def is_offline() -> bool:
    """Whether the library has been told to stay off the network."""
    import datasets

    return bool(datasets.config.HF_HUB_OFFLINE)


@contextlib.contextmanager
def offline_mode() -> Iterator[None]:
    """The library takes what is in its cache and asks nobody, for one load."""
    import datasets

    with _ONE_AT_A_TIME:
        before = datasets.config.HF_HUB_OFFLINE
        datasets.config.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            datasets.config.HF_HUB_OFFLINE = before


def why_unreachable(seconds: float = PROBE_SECONDS) -> str:
    """Why the hub, or the proxy on the way to it, cannot be reached; empty when it can. Takes at most `seconds`."""
    endpoint = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or _ENDPOINT)
    host = endpoint.hostname or ""
    proxy = "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(endpoint.scheme, "")
    target = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}") if proxy else endpoint
    port = target.port or {"http": 80, "https": 443}.get(target.scheme, 80)
    answer: list[str] = []

    def ask() -> None:
        try:
            socket.create_connection((target.hostname or host, port), timeout=seconds).close()
            answer.append("")
        except OSError as error:
            answer.append(plain_error(error))

    # In a thread, because looking a name up has no time-out of its own.
    thread = threading.Thread(target=ask, name="ask-hub", daemon=True)
    thread.start()
    thread.join(seconds)
    reason = answer[0] if answer else f"no answer within {seconds:g} s"
    return f"{target.hostname or host} cannot be reached ({reason})" if reason else ""
