"""Paths as people write them: `~` replaced, in full, and what cannot be one refused in a sentence."""

from __future__ import annotations

import os
from pathlib import Path

from qcore.config.errors import ConfigError, shorten


def person_path(text: str | Path, setting: str = "the path") -> Path:
    """The path that a person means, in full, whether or not anything is there.

    A home that nobody has stays as it is written, and is not there. Links are not followed: a file's ending says what
    it is. Ask `os.path.exists`, which has an answer for every path, and not `Path.exists`, which fails for a name that
    is too long.

    Args:
        setting: what the path is for.

    Raises:
        ConfigError: for a text that is no path at all.
    """
    try:
        return Path(os.path.abspath(os.path.expanduser(text)))
    except (OSError, ValueError) as error:  # a NUL; or the folder that a relative path starts at is gone
        reason = getattr(error, "strerror", None) or error
        said = shorten(str(text), 80)
        raise ConfigError(f"{setting} = {said!r} is refused: it is no path ({reason}); give a file or folder") from None
