"""
One attempt, followed through the code: a table of docs/architecture.md, held against what runs.

The product runs whole, as in a process, on a real API server, Redis and receiver. A profiler records each
call of a product function with the nearest product module outside its own that it was called from. The
table must name the functions that carry the attempt on, in their order, each reached as the table says.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import pytest

from tests.e2e.harness import Stage, until
from tests.integration.operating import NO_SWEEPS, owner

pytestmark = pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
PRODUCT: Final = ("notifier.", "syncer.")
MOST_HOPS: Final = 15
MOST_TURNS_BACK: Final = 4
#: What these do inside is not followed, and a queue is passed through.
INSIDE: Final = ("syncer.ledger.", "syncer.kube.", "syncer.runtime.", "notifier.dispatch.")
#: Asked for what is about an incident; the others have no hop there.
ASIDE: Final = ("notifier.reconciler.incidents",)
_ROW: Final = re.compile(
    r"^\| (\d+) \| (watch|\d+)(?:, through `([\w.]+)`)? \| `([\w.]+)` \| `([\w/]+)\.py` \|",
    re.MULTILINE,
)


class Hop(NamedTuple):
    """
    One row of the table.

    Attributes:
        parent: Index of the hop that it is reached from, -1 for the watch.
        through: The function by which it is handed over, empty for a call.
        function: Name within its module.
        module: Dotted.
    """

    parent: int
    through: str
    function: str
    module: str


class Call(NamedTuple):
    """
    One call of a product function.

    Attributes:
        module: Dotted.
        function: Name within its module.
        caller: Nearest product module outside its own, empty if there is none.
        direct: It was called from there, not by a helper in its own module.
        awaited: It is a coroutine.
    """

    module: str
    function: str
    caller: str
    direct: bool
    awaited: bool


def table(page: str) -> list[Hop]:
    """The hops that a page lists."""
    rows = _ROW.findall(page)
    assert [int(number) for number, *_ in rows] == list(range(1, len(rows) + 1))
    return [
        Hop(-1 if parent == "watch" else int(parent) - 1, through, function, path.replace("/", "."))
        for _, parent, through, function, path in rows
    ]


def turns_back(hops: Sequence[Hop]) -> int:
    """How many hops lead into a module that the way has left before."""
    modules = [hop.module for hop in hops]
    return sum(
        module in modules[:n] and module != modules[n - 1] for n, module in enumerate(modules)
    )


def problems(hops: Sequence[Hop], calls: Sequence[Call]) -> list[str]:
    """Where the calls of a run are not what a table says."""
    first: dict[tuple[str, str], int] = {}
    for index, call in enumerate(calls):
        first.setdefault((call.module, call.function), index)
    found = [
        f"{hop.function} is not called" for hop in hops if (hop.module, hop.function) not in first
    ]
    if found:
        return found
    at = [first[hop.module, hop.function] for hop in hops]
    found = [
        f"{hop.function} is called before {before.function}"
        for before, hop, earlier, later in zip(hops, hops[1:], at, at[1:], strict=False)
        if later < earlier
    ]
    for hop, index in zip(hops, at, strict=True):
        begun = at[hop.parent] if hop.parent >= 0 else 0
        parent = hops[hop.parent].module if hop.parent >= 0 else "syncer.kube."
        caller = calls[index].caller
        if not hop.through and not caller.startswith(parent):
            found.append(f"{hop.function} is called from {caller}, not from {parent}")
        if not hop.through:
            continue
        queues = {
            call.module
            for call in calls[begun:index]
            if (call.function, call.caller) == (hop.through, parent)
        }
        if not queues or caller in {h.module for h in hops} - queues:
            found.append(
                f"{hop.function} is called from {caller or 'a task'}, not handed over by {parent}"
                f" through {hop.through}"
            )
    return found + between(hops, calls)


def between(hops: Sequence[Hop], calls: Sequence[Call]) -> list[str]:
    """Awaited calls from a module of the way to a function that the table does not name."""
    listed = {(hop.module, hop.function) for hop in hops}
    leading = {hops[hop.parent].module for hop in hops if hop.parent >= 0}
    return sorted(
        {
            f"{call.caller} awaits {call.module}.{call.function}, which is no hop"
            for call in calls
            if call.awaited
            and call.direct
            and call.caller in leading
            and (call.module, call.function) not in listed
            and not call.module.startswith((*INSIDE, *ASIDE))
        }
    )


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Record the calls of product functions in this thread."""
    calls: list[Call] = []

    def callers(frame: FrameType) -> Iterator[str]:
        above = frame.f_back
        while above is not None:
            name = above.f_globals.get("__name__", "")
            if name.startswith(PRODUCT):
                yield name
            above = above.f_back

    def profile(frame: FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith(PRODUCT):
            code = frame.f_code
            above = list(callers(frame))
            caller = next((name for name in above if name != module), "")
            awaited = bool(code.co_flags & inspect.CO_COROUTINE)
            calls.append(Call(module, code.co_qualname, caller, above[:1] == [caller], awaited))

    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def test_the_way_of_an_attempt_is_that_of_the_page(here: Stage) -> None:
    """The hops are those of the table, few enough, and the check notices each kind of change."""
    # No deadline is short, or a busy machine would have the attempt made twice; only the end of the
    # notification brings a write forward.
    process = here.notifier(
        sync={**NO_SWEEPS, "window": "60s"},
        sharding={"renewDeadline": "30s", "margin": "10s"},
        delivery={"slack": {"timeout": "30s"}},
        redis={"timeout": "10s"},
    )
    async with owner(process) as app:
        # What is done once in a process is done for this one.
        first = await here.create("first")
        await until(lambda: first in app.cache.finished, "the first is over", within=60)
        with recorded() as calls:
            await here.wait_phase(await here.create("followed"), within=60)
    page = PAGE.read_text()
    hops = table(page)
    assert problems(hops, calls) == []
    assert 10 < len(hops) <= MOST_HOPS
    assert turns_back(hops) <= MOST_TURNS_BACK
    for hop in hops:
        name = (hop.module, hop.function)
        renamed = [c._replace(function="renamed") if c[:2] == name else c for c in calls]
        assert problems(hops, renamed) == [f"{hop.function} is not called"]
        moved = [c._replace(caller="notifier.new") if c[:2] == name else c for c in calls]
        assert hop.through or problems(hops, moved)
        handed = [c._replace(function="new") if c.function == hop.through else c for c in calls]
        assert not hop.through or problems(hops, handed)
    for parent in {hops[hop.parent].module for hop in hops if hop.parent >= 0}:
        step = Call("notifier.new", "step", parent, direct=True, awaited=True)
        assert problems(hops, [*calls, step]) == [
            f"{parent} awaits notifier.new.step, which is no hop"
        ]
