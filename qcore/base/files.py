"""Files of a folder that came from elsewhere: opened without waiting, and only when they are files.

A pipe in place of a file makes whoever opens it wait for a writer who never comes; a device may do anything. So they
are opened without waiting, and what has been opened is looked at before it is read.
"""

from __future__ import annotations

import errno
import os
import stat


def plain_file(path: str | os.PathLike[str], flags: int, mode: int = 0o600) -> int:
    """As `os.open`, for a regular file; also an `opener` for `open`.

    Raises:
        OSError: as `os.open` does.
        IsADirectoryError: for a folder.
        OSError: (EINVAL) for a pipe, a device or a socket, none of which is ever waited for.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK, mode)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise OSError(errno.EINVAL, "it is a pipe or a device where a file should be", os.fspath(path))
