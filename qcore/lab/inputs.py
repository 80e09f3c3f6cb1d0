"""Are the data that a configuration names there? Asked before a run exists, on every door, with the same sentence.

`check_source` looks at the paths; here they are first written in full: what a person writes may begin with `~`, or
start where the lab's process runs. The run keeps the full path, so it means the same from any folder. Names of the
environment (`$NAME`) stay as they are: a refusal that repeats the path would tell a stranger their values.
"""

from __future__ import annotations

import os
import re
import time
from functools import lru_cache
from pathlib import Path

from qcore.config import ConfigError, RunConfig, check_root, check_source
from qcore.config.places import BUILDERS, expand_home, is_remote, listed_files, looks_local

_SETTING = re.compile(r"(?:data\.)?(path|validation_path|hub_name|data_files)\b")
_FRESH_SECONDS = 3.0
"""A form asks at every change of any field: a folder of thousands of files is looked at that seldom."""


def place(text: str) -> Path:
    """What a person wrote as a path, in full: `~` replaced, absolute."""
    return Path(os.path.abspath(expand_home(text.strip())))


def check_inputs(config: RunConfig) -> RunConfig:
    """The configuration with its paths in full. `ConfigError` names the setting, its value and what is wrong there."""
    full = _resolve_paths(config)
    if getattr(config.data, "validation_path", "") and config.value("source") != "text":
        raise ConfigError(
            f"validation_path = {config.value('validation_path')!r} is refused: it goes with source = text, and the "
            f"source is {config.value('source')}; leave it empty, or choose text"
        )
    check_root(full)
    try:
        check_source(full)
    except ConfigError as error:
        raise ConfigError(_refusal_text(config, full, str(error))) from None
    return full


def input_problems(config: RunConfig) -> dict[str, str]:
    """Setting → why what it names cannot be trained on; empty when all is there. Some seconds old at most."""
    return dict(_cached_problems(config.to_yaml(), int(time.monotonic() / _FRESH_SECONDS)))


@lru_cache(maxsize=16)
def _cached_problems(text: str, moment: int) -> tuple[tuple[str, str], ...]:
    del moment
    try:
        check_inputs(RunConfig.from_yaml(text))
    except ConfigError as error:
        return ((_setting(str(error)), str(error)),)
    return ()


def _setting(message: str) -> str:
    """The setting that a refusal begins with."""
    found = _SETTING.match(message)
    return found[1] if found else "path"


def _refusal_text(config: RunConfig, full: RunConfig, message: str) -> str:
    """A refusal, and what the person's own words stand for where they are other words."""
    name = _setting(message)
    typed, meant = str(getattr(config.data, name, "")), str(getattr(full.data, name, ""))
    if typed == meant:
        return message
    start = "" if typed.strip().startswith("~") else f"; a relative path starts at {Path.cwd()}, where the lab runs"
    hint = "; a name such as $HOME is not replaced: write the folder itself" if "$" in typed else ""
    said = f"data.{name} = {typed!r} ({meant}{start}{hint})"
    whole = f"data.{name} = {meant!r}"
    return said + message.removeprefix(whole) if message.startswith(whole) else f"{said}: {message}"


def _resolve_paths(config: RunConfig) -> RunConfig:
    data = config.data
    changed = {}
    for name in _path_settings(config):
        value = str(getattr(data, name))
        parts = listed_files(value) if name == "data_files" else [value]
        full = ",".join(str(place(part)) for part in parts)
        if full != value:
            changed[name] = full
    return config.with_values(changed) if changed else config


def _path_settings(config: RunConfig) -> list[str]:
    """Settings of the data that are paths of this machine and hold something."""
    source = str(getattr(config.data, "source", ""))
    if source == "text":
        return [name for name in ("path", "validation_path") if getattr(config.data, name)]
    if source == "folder":
        return ["path"]
    if source == "huggingface":
        name, files = config.value("hub_name"), config.value("data_files")
        return ["hub_name"] * (looks_local(name) and not is_remote(name)) + ["data_files"] * (
            bool(files) and name in BUILDERS and not is_remote(files)
        )
    return []
