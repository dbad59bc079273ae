"""
Which process runs which test, and which tests run while nothing else does.

``scripts/test`` runs the suite in several processes (pytest-xdist), since most of it waits: for leases
to run out, back-offs to pass, servers to start. A file is the unit of work, so that the fixtures of a
module are made once. Each process has its own servers, which are fixtures of its session. Four rules
decide how long the whole takes:

- The longest units begin first. ``durations.txt`` beside this file knows them. It is a hint, written by
  ``scripts/test --record-durations``; a file that it does not name counts by its tests.
- A test that takes long is a unit of its own, so that no process works through a long file while the
  others have nothing left. ``durations.txt`` names such tests. Those that share what is costly to make
  are kept together by a group (``pytest.mark.xdist_group``).
- What computes runs beside what waits. One process for two cores works through the laws, the models and
  the simulation, the others through tests that wait for servers; whoever has no more of its own kind
  takes of the other. Side by side both cores stay busy until the end. In the order of their length alone,
  what computes would come first and crowd the cores, and what waits would leave them idle afterwards.
- A test that measures time or CPU belongs to the group ``alone``
  (``pytest.mark.xdist_group("alone")``). That group begins last, and a lock between the processes
  ensures that nothing runs beside one of its tests.

Servers of a process rest between files that use them (`rest_unnamed`). Unused and awake, a control plane
takes a hundredth of a core for as long as the suite runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from xdist.scheduler import LoadGroupScheduling

ALONE: Final = "alone"
#: Marks, with a reason, a test that starts a tool chain or new interpreters and takes over a second of CPU.
SLOW: Final = "slow"
DURATIONS: Final = Path(__file__).with_name("durations.txt")

#: Seconds for a test of a file that `durations.txt` does not name.
_UNKNOWN: Final = 0.02
#: Files that take less than this many seconds are not worth a line.
_WORTH: Final = 2.0
#: A test that takes this many seconds is a unit of its own.
_LONG: Final = 6.0
#: Folders whose tests keep a core busy.
_COMPUTING: Final = ("tests/unit/", "tests/properties/", "tests/model/", "tests/simulation/")
#: A set-up or an end that takes fewer seconds is not reported; pytest does not list it among the slowest.
_BRIEF: Final = 0.005
#: Tests that a process holds besides the one that runs: it must know the next one, for its fixtures.
_AHEAD: Final = 1


def unit(nodeid: str, groups: Mapping[str, str], long: Container[str]) -> str:
    """
    Return the unit of work that a test belongs to.

    Args:
        nodeid: its id.
        groups: groups by id; a test that has none is not in it.
        long: ids of tests that are units of their own.
    """
    if nodeid in groups:
        return groups[nodeid]
    return nodeid if nodeid in long else nodeid.partition("::")[0]


def group_of(item: pytest.Item) -> str | None:
    """Return the group that a test is marked with."""
    mark = item.get_closest_marker("xdist_group")
    return None if mark is None else str(mark.args[0])


def is_alone(item: pytest.Item) -> bool:
    """Whether nothing may run beside this test."""
    return group_of(item) == ALONE


def take_slow(items: list[pytest.Item]) -> list[pytest.Item]:
    """
    Take the tests that `scripts/test --fast` leaves out away, and return them.

    Args:
        items: the tests; changed in place.
    """
    slow = [item for item in items if item.get_closest_marker(SLOW) is not None]
    items[:] = [item for item in items if item.get_closest_marker(SLOW) is None]
    return slow


def unreasoned(items: Iterable[pytest.Item]) -> list[str]:
    """Return the ids of tests that are marked as slow without a reason."""
    marks = ((item.nodeid, item.iter_markers(SLOW)) for item in items)
    return [
        nodeid
        for nodeid, found in marks
        if any(not (mark.args and str(mark.args[0]).strip()) for mark in found)
    ]


def shuffle(items: list[pytest.Item], seed: int) -> None:
    """
    Put the tests of each file into an order of their own; files keep theirs.

    Args:
        items: the tests; changed in place.
        seed: gives the order, in every process of a run the same.
    """
    dice = random.Random(seed)  # noqa: S311 - to be repeated
    files = [list(tests) for _, tests in itertools.groupby(items, key=lambda item: item.path)]
    for tests in files:
        dice.shuffle(tests)
    items[:] = itertools.chain.from_iterable(files)


def sort_longest_first(items: list[pytest.Item], seconds: Mapping[str, float]) -> None:
    """
    Put the tests of the longest units first and those that run alone last.

    Args:
        items: the tests; sorted in place, within a unit they keep their order.
        seconds: what units took once, as far as that is known.
    """
    groups = _groups(items)
    tests = Counter(unit(item.nodeid, groups, seconds) for item in items)

    def weight(item: pytest.Item) -> tuple[bool, float, str]:
        of = unit(item.nodeid, groups, seconds)
        return of == ALONE, -seconds.get(of, _UNKNOWN * tests[of]), of

    items.sort(key=weight)


def _groups(items: Iterable[pytest.Item]) -> dict[str, str]:
    return {item.nodeid: group for item in items if (group := group_of(item)) is not None}


def write_groups(items: Iterable[pytest.Item], file: Path) -> None:
    """Write the groups of tests for the process that hands them out, which knows nothing but ids."""
    # Every process writes the same; whoever reads finds all of it or the file is not there.
    own = file.with_suffix(f".{os.getpid()}")
    own.write_text(json.dumps(_groups(items)))
    own.replace(file)


@cache
def read_durations(file: Path = DURATIONS) -> Mapping[str, float]:
    """Return seconds by unit: a file, a long test, a group."""
    lines = (line for line in file.read_text().splitlines() if not line.startswith("#"))
    rows = (line.strip().partition(" ") for line in lines)
    return {name: float(seconds) for seconds, _, name in rows}


def write_durations(
    phases: Iterable[tuple[str, float]], groups_file: Path, file: Path = DURATIONS
) -> None:
    """
    Write how long units took, the longest first.

    Args:
        phases: id of a test and seconds, for its set-up, its call and its end.
        groups_file: what `write_groups` has written; not there where one process ran all.
        file: where to; its comments stay.
    """
    groups = json.loads(groups_file.read_text()) if groups_file.exists() else {}
    tests: defaultdict[str, float] = defaultdict(float)
    for nodeid, took in phases:
        tests[nodeid] += took
    long = {nodeid for nodeid, took in tests.items() if took >= _LONG}
    seconds: defaultdict[str, float] = defaultdict(float)
    for nodeid, took in tests.items():
        seconds[unit(nodeid, groups, long)] += took
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    longest = sorted(seconds.items(), key=lambda row: (-row[1], row[0]))
    rows = [f"{took:6.0f} {name}" for name, took in longest if took >= _WORTH]
    file.write_text("\n".join([*head, *rows]) + "\n")


class ByFile(LoadGroupScheduling):  # type: ignore[misc] # the vendor has no types
    """
    Hands out whole units, the group ``alone`` last, in the order in which they were collected.

    The vendor would tell a group by an end of the id, ``@alone``, which it puts there through an attribute
    that pytest has no more. Tests of the group then ran among those of their files, and a process that
    waits for its turn to run one waits until all others happen to be between two tests.
    """

    def __init__(self, config: Any, log: Any, groups_file: Path) -> None:
        """Take the vendor's arguments, and the file of groups, which is there when tests are handed out."""
        super().__init__(config, log)
        self._groups_file = groups_file
        self._groups: dict[str, str] | None = None
        self._computing: list[Any] = []

    def _split_scope(self, nodeid: str) -> str:  # noqa: V105 (the scheduler calls it)
        if self._groups is None:
            self._groups = json.loads(self._groups_file.read_text())
        return unit(nodeid, self._groups, read_durations())

    def add_node(self, node: Any) -> None:
        """Take a process; the first ones, one for two cores, are for what computes."""
        super().add_node(node)
        if len(self._computing) < max(1, (os.cpu_count() or 1) // 2):
            self._computing.append(node)

    def _assign_work_unit(self, node: Any) -> None:  # noqa: V105 (the scheduler calls it)
        """Give a process the first unit of its kind, or of the other where there is none."""
        computes = node in self._computing
        for scope, tests in self.workqueue.items():
            if scope != ALONE and next(iter(tests)).startswith(_COMPUTING) is computes:
                self.workqueue.move_to_end(scope, last=False)
                break
        super()._assign_work_unit(node)

    def _reschedule(self, node: Any) -> None:  # noqa: V105 (the scheduler calls it)
        """Give a process its next unit when it runs out, where the vendor does so two tests before."""
        if self.workqueue and self._pending_of(self.assigned_work[node]) > _AHEAD:
            return
        super()._reschedule(node)


def without_routine(send: Callable[..., None]) -> Callable[..., None]:
    """
    Wrap what sends a process's events to the one that prints them: it leaves out what nobody reads.

    A report costs both of them more than most tests take. That a set-up or an end took no time and went
    well tells nothing, and no report that went well is asked for its test's keywords. That a test begins is
    printed where one process runs all.

    Args:
        send: takes the name of an event and its members.
    """

    def filtered(name: str, **members: Any) -> None:
        if name == "logstart":
            return
        if name == "testreport" and members["data"]["outcome"] == "passed":
            report = members["data"]
            if report["when"] != "call" and report["duration"] < _BRIEF:
                return
            report["keywords"] = {}
        send(name, **members)

    return filtered


@contextlib.contextmanager
def turn(item: pytest.Item, lock: Path) -> Iterator[None]:
    """Hold the lock while a test runs: together with others, or alone if the test is to run alone."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if is_alone(item) else fcntl.LOCK_SH)
        yield


class Resting(Protocol):
    """A server that is frozen while it is not needed."""

    def rest(self) -> None:
        """Freeze it."""

    def wake(self) -> None:
        """Wake it, if it rests."""


def wake_named(item: pytest.Item, servers: Mapping[str, Resting]) -> None:
    """
    Wake the servers whose fixtures a test names, itself or through other fixtures.

    A test that asks for one by `getfixturevalue` wakes it by `heal`.

    Args:
        item: the test that is about to begin.
        servers: what has been started, by fixture.
    """
    for fixture, server in servers.items():
        if _names(item, fixture):
            server.wake()


def rest_unnamed(
    item: pytest.Item, following: pytest.Item | None, servers: Mapping[str, Resting]
) -> None:
    """
    Freeze the servers that the first test of another file does not name.

    Args:
        item: the test that has ended.
        following: the one after it; None at the end.
        servers: as for `wake_named`.
    """
    if following is None or following.path == item.path:
        return
    for fixture, server in servers.items():
        if not _names(following, fixture):
            server.rest()


def _names(item: pytest.Item, fixture: str) -> bool:
    return fixture in getattr(item, "fixturenames", ())
