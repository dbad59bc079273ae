"""The start: what is waited for, in which order, what is said meanwhile, and what refuses it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from notifier.app import Parts
from notifier.outside import Stop
from notifier.process.startup import StartUp
from notifier.process.sweeps import Sweeps
from notifier.progress import Progress, Takeover
from syncer.model.errors import ConfigError, Unavailable

#: What a fit server says of itself.
FIT: Final = {
    "redis_version": "7.2.1", "master_replid": "8f6a", "appendfsync": "everysec", "aof_enabled": "1",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a process sets for itself does not outlive the test; nothing is frozen, since all would thaw."""
    monkeypatch.setattr(gc, "freeze", lambda: None)
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


class Process:
    """What the start works with: servers that answer, unless a test gives them errors to answer with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.info = dict(FIT)
        self.not_found: list[Exception] = []
        self.not_opened: list[Exception] = []
        self.opened: list[str] = []
        self.slept: list[float] = []
        #: Called with each pause; by it a test has the world move on.
        self.meanwhile: Callable[[float], None] = lambda _seconds: None
        self.unclaimed = 0
        self.sweeps = SimpleNamespace(through=True, looked_at={"finished": 3, "logs": 5})
        self.reflector = SimpleNamespace(answered=True, synced=True, run=asyncio.Event().wait)
        self.takeover, self.progress = Takeover(), Progress()
        self.takeover.owning.set()
        self.looked = False
        self.journal = SimpleNamespace(enabled=False, after=0.01)
        self.stop = Stop()
        self.set: list[int] = []
        self.shards = SimpleNamespace(sharding="as at the start")
        self.parts = cast(
            "Parts",
            SimpleNamespace(
                progress=self.progress, takeover=self.takeover, shards=self.shards,
                reflector=self.reflector, monotonic=lambda: self.now,
                status_policy=SimpleNamespace(look=self._look),
                installation=SimpleNamespace(
                    found=lambda: self._answered(self.not_found, "installation-a"),
                    sharding="of the installation",
                ),
                client=SimpleNamespace(open=self._open, info=self.info),
                settings=SimpleNamespace(redis=SimpleNamespace(durability="relaxed")),
                clocks=SimpleNamespace(worst=None),
                manager=SimpleNamespace(run=self._keep),
                outside=SimpleNamespace(
                    objects=SimpleNamespace(),
                    api_time=SimpleNamespace(now=lambda: 5000),
                    stop=self.stop,
                ),
                journal=self.journal,
                claimer=SimpleNamespace(recorder=SimpleNamespace(time=SimpleNamespace(set=self.set.append))),
                controller=SimpleNamespace(
                    holds=SimpleNamespace(unclaimed=lambda: self.unclaimed)
                ),
                cache=SimpleNamespace(entries={"uid-a": None, "uid-b": None}),
            ),
        )  # fmt: skip
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.meanwhile(seconds)
            await real(0)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        self.start_up = StartUp(self.parts, cast("Sweeps", self.sweeps))

    async def _answered(self, errors: list[Exception], answer: str = "") -> str:
        if errors:
            raise errors.pop(0)
        return answer

    async def _keep(self) -> None:
        assert self.looked, "whether statuses are claims is known before any is judged"
        await asyncio.Event().wait()

    async def _look(self) -> None:
        self.looked = True

    async def _open(self, installation: str) -> None:
        self.opened.append(installation)
        await self._answered(self.not_opened)

    async def start(self) -> set[str]:
        """Run the start to its end; returns the names of the tasks that go on."""
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            before = asyncio.all_tasks()
            await self.start_up.run(group)
            tasks = asyncio.all_tasks() - before
            names = {task.get_name() for task in tasks}
            for task in tasks:
                if task.get_name() == "reconciled":
                    await task
                else:
                    task.cancel()
        return names


@pytest.fixture
async def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    """A process whose servers answer."""
    return Process(monkeypatch)


async def test_a_start_that_meets_no_obstacle(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """Installation, Redis, lists, shards; then it is said what was looked at, and how long it took."""
    caplog.set_level("INFO", "ledger")
    process.now = 107.254
    assert await process.start() == {"reflector", "shards", "reconciled"}
    assert process.opened == ["installation-a"]
    assert process.shards.sharding == "of the installation"
    assert process.progress == Progress(redis=None, cluster=None, listed=True)
    assert process.slept == []
    (line,) = caplog.records
    assert line.message == "start-up reconciliation done"
    shown = line.__dict__
    names = ("seconds", "unfinished", "finished", "logs")
    assert [shown[name] for name in names] == [7.25, 2, 3, 5]


async def test_the_collector_passes_over_what_was_listed(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of it stays, and there may be much of it."""
    listed: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: listed.append(process.progress.listed))
    await process.start()
    assert listed == [True]


@pytest.mark.parametrize(
    ("what", "late", "reason"),
    [
        ("cluster", Unavailable("timed out"), "timed out"),
        ("redis", Unavailable("timed out"), "timed out"),
        # It has no text of its own.
        ("redis", TimeoutError(), "Redis does not answer in time"),
    ],
    ids=["cluster", "redis", "redis in time"],
)
async def test_a_server_that_is_away_is_waited_for(
    process: Process, what: str, late: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A try a second; readiness and one line of the log give the reason, once for each reason."""
    errors = process.not_found if what == "cluster" else process.not_opened
    errors += [Unavailable("refused"), Unavailable("refused"), late]
    seen: list[str | None] = []
    process.meanwhile = lambda _: seen.append(getattr(process.progress, what))
    await process.start()
    assert seen == ["refused", "refused", reason]
    assert process.slept == [1.0] * 3
    assert getattr(process.progress, what) is None
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", f"waiting for {what}: refused"),
        ("WARNING", f"waiting for {what}: {reason}"),
    ]


async def test_a_start_goes_on_without_redis_where_attempts_are_journaled(
    process: Process,
) -> None:
    """Redis is asked on, nobody is kept waiting for it, and times are the API server's until it answers."""
    process.journal.enabled = True
    cast("Any", process.parts).client.open = lambda _: asyncio.Event().wait()
    assert await process.start() == {"redis-open", "reflector", "shards", "reconciled"}
    assert process.set == [5000]


async def test_a_redis_that_answers_is_not_done_without(process: Process) -> None:
    """It is opened first, as without a journal."""
    process.journal = SimpleNamespace(enabled=True, after=20.0)
    cast("Any", process.parts).journal = process.journal
    assert await process.start() == {"reflector", "shards", "reconciled"}
    assert (process.set, process.progress.redis) == ([], None)


#: What is odd about Redis, or its answer; what durability the settings want; and why the start is refused.
REFUSED: Final[dict[str, tuple[dict[str, str], list[Exception], str, str]]] = {
    "another installation's": (
        {}, [ConfigError("the store belongs to another", path="redis.keyPrefix")], "relaxed",
        "redis.keyPrefix: the store belongs to another",
    ),
    "one that may drop records": (
        {"maxmemory_policy": "allkeys-lru"}, [], "relaxed",
        "redis: the eviction policy allkeys-lru may drop a record; set maxmemory-policy noeviction",
    ),
    "one that holds less than it must": ({}, [], "strict", "redis: appendfsync is everysec"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_a_redis_that_must_not_be_used_refuses_the_start(process: Process, case: str) -> None:
    """With what has to be set; it is not waited for, and nothing was started."""
    odd, answer, durability, reason = REFUSED[case]
    process.info.update(odd)
    process.not_opened += answer
    cast("Any", process.parts).settings.redis.durability = durability
    with pytest.raises(ConfigError) as caught:
        await process.start_up.run(cast("asyncio.TaskGroup", None))
    assert str(caught.value).startswith(reason)
    assert (process.slept, process.progress.redis) == ([], "not connected yet")


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after a start without it"])
async def test_another_installations_store_ends_a_journaling_process_by_a_drain(
    process: Process, late: bool
) -> None:
    """Attempts may be under way: they end and are recorded, and no task breaks off the others."""
    process.journal.enabled = True
    answer, refusal = asyncio.Event(), ConfigError("the store belongs to another")

    async def answered(_installation: str) -> None:
        if late:
            await answer.wait()
        raise refusal

    cast("Any", process.parts).client.open = answered
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        start = group.create_task(process.start_up.run(group))
        under_way = group.create_task(process.takeover.orphans.wait())
        if late:
            await start
            assert process.stop.refusal is None
        answer.set()
        await process.stop.requested.wait()
        await asyncio.sleep(0)
        assert process.stop.refusal is refusal
        assert not under_way.done(), "it is not broken off"
        assert start.done() is late, "nothing more is started"
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


async def test_what_is_odd_about_redis_is_logged(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to do; the start goes on. A clock that is off counts as well."""
    process.info["aof_enabled"] = "0"
    cast("Any", process.parts).clocks.worst = 90.0
    await process.start()
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        (
            "Redis: records do not survive a restart of the server (no append-only file);"
            " set appendonly yes"
        ),
        (
            "Redis: its clock is 90 s ahead of the API server's; correct the clocks of both machines"
            " (NTP), then wait for the next check"
        ),
    ]
    assert process.progress.redis is None


async def test_no_shard_is_asked_for_before_the_api_server_answers_lists(process: Process) -> None:
    """And the start is through only when the objects of the first shards are listed."""
    process.reflector.answered = process.reflector.synced = False
    process.takeover.owning.clear()
    running: list[tuple[set[str], bool]] = []

    def meanwhile(_seconds: float) -> None:
        names = {t.get_name() for t in asyncio.all_tasks()} & {"reflector", "shards"}
        running.append((names, process.progress.listed))
        if not process.reflector.answered:
            process.reflector.answered = len(running) == 2
            asyncio.get_running_loop().call_soon(process.takeover.owning.set)
        else:
            process.reflector.synced = len(running) == 4

    process.meanwhile = meanwhile
    await process.start()
    assert running == [({"reflector"}, False)] * 2 + [({"reflector", "shards"}, False)] * 2
    assert process.slept == [0.05] * 4
    assert process.progress.listed


# -- the start-up reconciliation ------------------------------------------------------------------


@pytest.mark.parametrize("what", ["claims", "sweeps"])
async def test_the_reconciliation_of_the_start_waits_for_claims_and_sweeps(
    process: Process, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever takes longer; it is looked at four times a second."""
    caplog.set_level("INFO", "ledger")
    process.unclaimed = 2 if what == "claims" else 0
    process.sweeps.through = what != "sweeps"

    def meanwhile(seconds: float) -> None:
        assert caplog.records == []
        process.now += seconds
        if len(process.slept) == 3:
            process.unclaimed, process.sweeps.through = 0, True

    process.meanwhile = meanwhile
    await process.start()
    assert process.slept == [0.25] * 3
    (line,) = caplog.records
    assert line.__dict__["seconds"] == 0.75


async def test_a_reconciliation_of_the_start_that_takes_too_long_is_reported(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """After ten minutes, with what is missing; it is not waited for any longer."""
    caplog.set_level("INFO", "ledger")
    process.unclaimed = 2

    def meanwhile(seconds: float) -> None:
        assert caplog.records == []
        process.now = 700.0 if len(process.slept) == 1 else 700.1

    process.meanwhile = meanwhile
    await process.start()
    (line,) = caplog.records
    assert (line.levelname, line.message) == ("WARNING", "start-up reconciliation is not done yet")
    assert line.__dict__["unclaimed"] == 2
    assert len(process.slept) == 2


async def test_nothing_is_reconciled_before_a_shard_is_owned(process: Process) -> None:
    """A replica that stands by has nothing to report."""
    process.takeover.owning.clear()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        start = group.create_task(process.start_up.run(group))
        for _ in range(9):
            await asyncio.sleep(0)
        (reconciled,) = (t for t in asyncio.all_tasks() if t.get_name() == "reconciled")
        assert not reconciled.done()
        process.takeover.owning.set()
        await start
        await reconciled
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
