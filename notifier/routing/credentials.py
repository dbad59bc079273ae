"""
The credentials directory: one file per credential, its name the reference, its text the value.

Reading is stateless: one look gives what the directory holds at this moment and which files cannot
be used. What becomes of a file that cannot be used (it keeps its old value) and of one that is gone
is decided in `merge`, a pure function over the old values and the look.

The kubelet lays a projected volume out as symlinks into a directory that is swapped as a whole, so
entries are followed, names with a leading dot are not credentials, and a look that falls into the
swap may be mixed; the caller takes a look only once it has seen the same thing twice.

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

#: Bytes of one credential.
MAX_VALUE: Final = 65_536
#: Entries of the directory that are looked at.
MAX_ENTRIES: Final = 1_000

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


class Credentials(dict[str, str]):
    """Named values, which are not shown."""

    def __repr__(self) -> str:
        """Name the credentials, without values."""
        return f"Credentials({', '.join(sorted(self))})"


@dataclass(frozen=True, slots=True)
class Look:
    """
    What a directory held at one moment.

    Attributes:
        values: What can be used.
        refused: Files that cannot be used, each with the reason.
        fault: Why the directory could not be listed, empty if it could.
    """

    values: Credentials = field(default_factory=Credentials)
    refused: tuple[tuple[str, str], ...] = ()
    fault: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One text per refused file."""
        return tuple(f"credential file {name} is not used: {why}" for name, why in self.refused)


def _names(directory: Path) -> list[str]:
    with os.scandir(directory) as found:
        names = [e.name for e in islice(found, MAX_ENTRIES * 4) if e.name[0] != "."]
    # No receiver gets that one, whatever the routing says.
    return sorted(name for name in names if name != REDIS_CREDENTIAL)


def look(directory: Path) -> Look:
    """
    Read a credentials directory. Blocks; never raises for anything the directory holds.

    A directory that is not there (yet) is a look too: it does not exist and holds nothing.
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
            # Gone since the listing, or a dangling link: not there.
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
    Decide which values hold after a look.

    What was read holds. A file that cannot be used keeps its old value. One that is gone drops out,
    unless the routing in force still needs it: then its last value serves until it is replaced.
    """
    kept = {name for name, _ in seen.refused} | set(needed)
    return Credentials({**{n: old[n] for n in kept if n in old}, **seen.values})


def _read(path: Path) -> bytes | None:
    """Read a regular file up to the bound and one byte more; None for anything else."""
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
    """Take the value out of a file's bytes, or say why not."""
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
    """A name of a file as text; another one if it is not UTF-8."""
    return name.encode("utf-8", "replace").decode()
