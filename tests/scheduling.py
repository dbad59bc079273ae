"""
Which process runs which test, and which tests run while nothing else does.

``scripts/test`` runs the suite in several processes (pytest-xdist), since most of it waits: for leases
to run out, back-offs to pass, servers to start. A file is the unit of work, so that the fixtures of a
module are made once. Each process has its own servers, which are fixtures of its session. Three rules
decide how long the whole takes:

- The longest units begin first. ``durations.txt`` beside this file knows them. It is a hint, written by
  ``scripts/test --record-durations``; a file that it does not name counts by its tests.
- A test that takes long is a unit of its own, so that no process works through a long file while the
  others have nothing left. ``durations.txt`` names such tests. Those that share what is costly to make
  are kept together by a group (``pytest.mark.xdist_group``).
- A test that measures time, memory or CPU belongs to the group ``alone``
  (``pytest.mark.xdist_group("alone")``). That group begins last, and a lock between the processes
  ensures that nothing runs beside one of its tests.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadGroupScheduling

ALONE: Final = "alone"
DURATIONS: Final = Path(__file__).with_name("durations.txt")

#: Seconds for a test of a file that `durations.txt` does not name.
_UNKNOWN: Final = 0.02
#: Files that take less than this many seconds are not worth a line.
_WORTH: Final = 2.0
#: A test that takes this many seconds is a unit of its own.
_LONG: Final = 6.0
#: Tests that a process holds besides the one that runs: it must know the next one, for its fixtures.
_AHEAD: Final = 1


def unit(nodeid: str, long: Container[str] = ()) -> str:
    """Return the unit of a test: the group after its last @, itself if it is long, else its file."""
    # The value of a parameter may hold an @ too.
    if nodeid.rfind("@") > nodeid.rfind("]"):
        return nodeid.rpartition("@")[2]
    return nodeid if nodeid in long else nodeid.partition("::")[0]


def is_alone(item: pytest.Item) -> bool:
    """Whether nothing may run beside this test."""
    return any(ALONE in mark.args for mark in item.iter_markers("xdist_group"))


def sort_longest_first(items: list[pytest.Item], seconds: Mapping[str, float]) -> None:
    """
    Put the tests of the longest units first and those that run alone last.

    Args:
        items: the tests; sorted in place, within a unit they keep their order.
        seconds: what units took once, as far as that is known.
    """

    def name(item: pytest.Item) -> str:
        return ALONE if is_alone(item) else unit(item.nodeid, seconds)

    tests = Counter(map(name, items))

    def weight(item: pytest.Item) -> tuple[bool, float, str]:
        of = name(item)
        return of == ALONE, -seconds.get(of, _UNKNOWN * tests[of]), of

    items.sort(key=weight)


@cache
def read_durations(file: Path = DURATIONS) -> Mapping[str, float]:
    """Return seconds by unit: a file, a long test, a group."""
    lines = (line for line in file.read_text().splitlines() if not line.startswith("#"))
    rows = (line.strip().partition(" ") for line in lines)
    return {name: float(seconds) for seconds, _, name in rows}


def write_durations(phases: Iterable[tuple[str, float]], file: Path = DURATIONS) -> None:
    """
    Write how long units took, the longest first.

    Args:
        phases: id of a test and seconds, for its set-up, its call and its end.
        file: where to; its comments stay.
    """
    tests: defaultdict[str, float] = defaultdict(float)
    for nodeid, took in phases:
        tests[nodeid] += took
    long = {nodeid for nodeid, took in tests.items() if took >= _LONG}
    seconds: defaultdict[str, float] = defaultdict(float)
    for nodeid, took in tests.items():
        seconds[unit(nodeid, long)] += took
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    longest = sorted(seconds.items(), key=lambda row: (-row[1], row[0]))
    rows = [f"{took:6.0f} {name}" for name, took in longest if took >= _WORTH]
    file.write_text("\n".join([*head, *rows]) + "\n")


class ByFile(LoadGroupScheduling):  # type: ignore[misc] # the vendor has no types
    """Hands out whole units, the group ``alone`` last, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:  # noqa: V105 (the scheduler calls it)
        return unit(nodeid, read_durations())

    def _reschedule(self, node: Any) -> None:  # noqa: V105 (the scheduler calls it)
        """Give a process its next unit when it runs out, where the vendor does so two tests before."""
        if self.workqueue and self._pending_of(self.assigned_work[node]) > _AHEAD:
            return
        super()._reschedule(node)


@contextlib.contextmanager
def turn(item: pytest.Item, lock: Path) -> Iterator[None]:
    """Hold the lock while a test runs: together with others, or alone if the test is to run alone."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if is_alone(item) else fcntl.LOCK_SH)
        yield
