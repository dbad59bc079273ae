"""
Which process runs which test, and which tests run while nothing else does.

``scripts/test`` runs the suite in several processes (pytest-xdist), since most of it waits: for leases
to run out, back-offs to pass, servers to start. A file is the unit of work, so that the fixtures of a
module are made once. Each process has its own servers, which are fixtures of its session. Two rules
decide how long the whole takes:

- The longest files begin first. ``durations.txt`` beside this file knows them. It is a hint, written by
  ``scripts/test --record-durations``; a file that it does not name counts by its tests.
- A test that measures time, memory or CPU belongs to the group ``alone``
  (``pytest.mark.xdist_group("alone")``). That group begins last, and a lock between the processes
  ensures that nothing runs beside one of its tests.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from xdist.scheduler import LoadGroupScheduling

ALONE: Final = "alone"
DURATIONS: Final = Path(__file__).with_name("durations.txt")

#: Seconds for a test of a file that `durations.txt` does not name.
_UNKNOWN: Final = 0.02
#: Files that take less than this many seconds are not worth a line.
_WORTH: Final = 2.0


def unit(nodeid: str) -> str:
    """Return the unit of work that a test belongs to: the group after its last @, else its file."""
    # The value of a parameter may hold an @ too.
    if nodeid.rfind("@") > nodeid.rfind("]"):
        return nodeid.rpartition("@")[2]
    return nodeid.partition("::")[0]


def is_alone(item: pytest.Item) -> bool:
    """Whether nothing may run beside this test."""
    return any(ALONE in mark.args for mark in item.iter_markers("xdist_group"))


def sort_longest_first(items: list[pytest.Item], seconds: Mapping[str, float]) -> None:
    """
    Put the tests of the longest files first and those that run alone last.

    Args:
        items: the tests; sorted in place, within a file they keep their order.
        seconds: what files took once, as far as that is known.
    """

    def name(item: pytest.Item) -> str:
        return ALONE if is_alone(item) else unit(item.nodeid)

    tests = Counter(map(name, items))

    def weight(item: pytest.Item) -> tuple[bool, float, str]:
        of = name(item)
        return of == ALONE, -seconds.get(of, _UNKNOWN * tests[of]), of

    items.sort(key=weight)


def read_durations(file: Path = DURATIONS) -> dict[str, float]:
    """Return seconds by file."""
    rows = (line.split() for line in file.read_text().splitlines() if not line.startswith("#"))
    return {name: float(seconds) for seconds, name in rows}


def write_durations(tests: Iterable[tuple[str, float]], file: Path = DURATIONS) -> None:
    """
    Write how long files took, the longest first.

    Args:
        tests: id and seconds; a test may occur several times, its phases for example.
        file: where to; its comments stay.
    """
    seconds: dict[str, float] = {}
    for nodeid, took in tests:
        seconds[unit(nodeid)] = seconds.get(unit(nodeid), 0.0) + took
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    longest = sorted(seconds.items(), key=lambda row: (-row[1], row[0]))
    rows = [f"{took:6.0f} {name}" for name, took in longest if took >= _WORTH]
    file.write_text("\n".join([*head, *rows]) + "\n")


class ByFile(LoadGroupScheduling):  # type: ignore[misc] # the vendor has no types
    """Hands out whole files, and the group ``alone``, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:  # noqa: V105 (the scheduler calls it)
        return unit(nodeid)


@contextlib.contextmanager
def turn(item: pytest.Item, lock: Path) -> Iterator[None]:
    """Hold the lock while a test runs: together with others, or alone if the test is to run alone."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if is_alone(item) else fcntl.LOCK_SH)
        yield
