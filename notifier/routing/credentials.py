"""
The credentials directory: one file per credential, its name the reference, its text the value.

Reading is stateless: one look returns the values in the directory at this moment, and the files that
cannot be used. `merge`, a pure function of the old values and the look, decides what happens to a file that
cannot be used (it keeps its old value) and to one that is gone.

The kubelet presents a projected volume as symlinks into a directory that it swaps as a whole. So links are
followed, and names with a leading dot are not credentials. A look during the swap may mix old and new
files; the caller accepts a look only after two equal ones.

A value never appears in a text, a repr or a warning; warnings name the file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from syncer.model.errors import reason_of
from syncer.settings import REDIS_CREDENTIAL

#: Most bytes of one credential.
MAX_VALUE: Final = 65_536
#: Most files of the directory that are read.
MAX_ENTRIES: Final = 1_000

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


class Credentials(dict[str, str]):
    """Values by name; the repr does not show them."""

    def __repr__(self) -> str:
        """Name the credentials, without values."""
        return f"Credentials({', '.join(sorted(self))})"


@dataclass(frozen=True, slots=True)
class Look:
    """
    The contents of a directory at one moment.

    Attributes:
        values: The credentials that can be used.
        refused: Files that cannot be used, each with the reason.
        fault: Why the directory could not be listed, empty if it could.
    """

    values: Credentials = field(default_factory=Credentials)
    refused: tuple[tuple[str, str], ...] = ()
    fault: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One warning per refused file."""
        return tuple(f"credential file {name} is not used: {why}" for name, why in self.refused)


def _names(directory: Path) -> list[str]:
    with os.scandir(directory) as found:
        names = [e.name for e in islice(found, MAX_ENTRIES * 4) if e.name[0] != "."]
    # No receiver gets the credential of Redis, whatever the routing says.
    return sorted(name for name in names if name != REDIS_CREDENTIAL)


def look(directory: Path) -> Look:
    """
    Read a credentials directory. Blocks; never raises for anything the directory holds.

    A directory that does not exist (yet) gives a look with a fault and no values.
    """
    try:
        names = _names(directory)
    except OSError as error:
        return Look(fault=reason_of(error))
    values: dict[str, str] = {}
    refused: list[tuple[str, str]] = []
    for name in names[:MAX_ENTRIES]:
        try:
            raw = _read(directory / name)
        except FileNotFoundError:
            # Deleted since the listing, or a dangling link: it counts as absent.
            continue
        except OSError as error:
            refused.append((_plain(name), reason_of(error)))
            continue
        if raw is None:
            continue
        value, why = _value(raw)
        if why or name != _plain(name):
            refused.append((_plain(name), why or "its name is not UTF-8"))
        else:
            values[name] = value
    if len(names) > MAX_ENTRIES:
        refused.append((f"(beyond the first {MAX_ENTRIES})", "too many files"))
    return Look(Credentials(values), tuple(refused))


def merge(old: Mapping[str, str], seen: Look, *, needed: Iterable[str] = ()) -> Credentials:
    """
    Decide which values apply after a look.

    Values that were read apply. A file that cannot be used keeps its old value. The value of a file that is
    gone is dropped, unless the routing in force needs it: then it is used until the file comes back.
    """
    kept = {name for name, _ in seen.refused} | set(needed)
    return Credentials({**{n: old[n] for n in kept if n in old}, **seen.values})


def _read(path: Path) -> bytes | None:
    """Read a regular file, at most one byte beyond the bound; None for anything else."""
    # Non-blocking: a name may lead to a pipe without a writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(MAX_VALUE + 1)
    finally:
        os.close(handle)


def _value(raw: bytes) -> tuple[str, str]:
    """Return the value in a file's bytes, and why it cannot be used, empty if it can."""
    if len(raw) > MAX_VALUE:
        return "", f"larger than {MAX_VALUE} bytes"
    try:
        value = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return "", "not UTF-8"
    if not value:
        return "", "empty"
    if _CONTROL.search(value):
        return "", "holds a line break or control character"
    return value, ""


def _plain(name: str) -> str:
    """Return a file name as valid text, which differs from the name if that is not UTF-8."""
    return name.encode("utf-8", "replace").decode()
