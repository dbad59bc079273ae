"""
Task ownership: what must run is restarted, or ends the process; nothing stops unnoticed.

`critical` tasks run for ever; if one ends, for whatever reason, the process ends, because a
controller that has lost a loop seems alive and does nothing. `restarting` wraps work that may fail
for a while (sweeps, feeds): it is started again after a growing pause, and each error is logged.
Work that is needed only during a block runs `beside` it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from syncer.rules.backoff import exponential

T = TypeVar("T")

logger = logging.getLogger("ledger.supervise")

_PAUSE_FIRST: Final = 1.0
_PAUSE_MOST: Final = 60.0


class TaskEndedError(RuntimeError):
    """A task that must run for ever has returned."""


async def critical(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run work that must not end: TaskEndedError if it does; errors of its own pass through."""
    await work()
    raise TaskEndedError(f"task {name} ended")


async def restarting(
    name: str,
    work: Callable[[], Awaitable[None]],
    *,
    every: float,
    sooner: asyncio.Event | None = None,
) -> None:
    """
    Do some work again and again until cancelled.

    Args:
        name: For logs.
        work: One round; may raise.
        every: Seconds between rounds.
        sooner: Event that makes the next round begin at once; it is cleared then.
    """
    # Not longer than the time between rounds, which others rely on as a bound.
    most = min(_PAUSE_MOST, max(_PAUSE_FIRST, every or _PAUSE_MOST))
    failures = 0
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - the boundary: every error is logged
            failures += 1
            pause = exponential(_PAUSE_FIRST, most, failures)
            logger.warning(
                "%s failed and will be retried", name,
                extra={"error": f"{type(error).__name__}: {error}", "seconds": pause},
            )  # fmt: skip
            await asyncio.sleep(pause)
        else:
            failures = 0
            if sooner is None:
                await asyncio.sleep(every)
            else:
                await elapse(every, sooner)
                sooner.clear()


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and wait until they have ended; their errors are dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def beside(
    work: Coroutine[Any, Any, T], name: str | None = None
) -> AsyncIterator[asyncio.Task[T]]:
    """Run work as a task of this name while the block runs; the task keeps an earlier result or error."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        await end(task)


async def elapse(seconds: float, sooner: asyncio.Event) -> None:
    """Wait for so many seconds, or until an event is set if that comes first."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await sooner.wait()
