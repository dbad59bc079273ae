"""A file of this machine that a command in the pod writes."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import IO


class Output:
    """
    A file that takes its place when it is whole.

    What was there before is not lost to a command that fails, to a connection that breaks, or to the
    wrong cluster. A device or a pipe is written to as it is. A symbolic link to a file is refused: in
    a folder that others may write to, one of them chose what it names.
    """

    def __init__(self, path: str) -> None:
        """Open the file at `path`, or raise OSError; `end` closes it."""
        self._path = Path(path)
        self._beside: Path | None = None
        if self._path.exists() and not self._path.is_file():
            self.file: IO[bytes] = self._path.open("wb")
            return
        if self._path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link; name the file itself", path)
        # For this user alone: texts of receivers are in it.
        try:
            number, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        except OSError as error:
            # What was asked for, not the file beside it.
            raise OSError(error.errno, error.strerror, path) from None
        self._beside = Path(name)
        self.file = os.fdopen(number, "wb")

    def end(self, *, kept: bool) -> None:
        """Close it, and put it into its place if it is kept."""
        self.file.close()
        if self._beside is not None and kept:
            self._beside.replace(self._path)
        elif self._beside is not None:
            self._beside.unlink()
