"""
An event loop in which nothing happens by accident: virtual time, a seeded order, no way out.

Time stands still while callbacks run and jumps to the next timer when none is ready, so a minute of
waiting costs nothing. Callbacks that are ready at the same moment run in an order drawn from the
loop's generator: whatever only works in the order in which asyncio happens to run things is found.
A run is a function of its seed; a second one does exactly the same.

Callbacks belong to whoever their context names (`OWNER`). The gate of the owner says whether one
may run now: that of a paused process is kept until the process goes on, that of a dead one is
dropped, without any `finally` of it running. That is what a SIGSTOP and a SIGKILL do.

There are no sockets, no threads and no sleep here. Whoever asks the loop for one gets an error, and
an audit hook refuses those that do not ask.

The loop replaces one private method of the standard loop, `_run_once`, and uses its two queues
(`_ready`, `_scheduled`). `turns` counts the calls of that method, so that a test notices when a new
Python no longer makes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import random
import selectors
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar
from enum import Enum
from typing import Any, Final, Protocol, TypeVarTuple, cast

from syncer.runtime import offload

#: What a blocking call looks like to the interpreter's audit.
_BLOCKING: Final = frozenset(
    {
        "socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo",
        "subprocess.Popen", "os.system",
    }
)  # fmt: skip
#: Cancelled timers that may lie around before the heap is made anew.
_CANCELLED: Final = 200


Ts = TypeVarTuple("Ts")


class Blocked(BaseException):
    """Something reached for the real world. Not an `Exception`: no handler may swallow it."""


class Deadlock(BaseException):
    """
    Whoever is waited for will never come.

    Nothing is ready and nothing is scheduled, or something is ready for ever and no time passes.
    """


#: Turns of the loop at one moment: a world needs a dozen, a queue that is filled to its bound thousands.
_SPIN: Final = 200_000
#: Turns without it after which each takes some time, in seconds.
_IDLE: Final = 20_000
_TURN: Final = 1e-6


class Gate(Enum):
    """What is to be done with a callback."""

    RUN = "run"
    KEEP = "keep"
    DROP = "drop"


class Owner(Protocol):
    """Whose callbacks may have to wait or to go."""

    @property
    def gate(self) -> Gate:
        """What is to be done with its callbacks now."""
        ...

    def keep(self, handle: asyncio.Handle) -> None:
        """Hold a callback until the owner goes on."""
        ...


OWNER: Final[ContextVar[Owner | None]] = ContextVar("OWNER", default=None)


class _Selector(selectors.BaseSelector):
    """A selector of nothing, for a loop that never selects."""

    def register(self, *_: Any) -> Any:
        raise Blocked("a file was to be watched")

    def unregister(self, *_: Any) -> Any:
        raise Blocked("a file was to be watched")

    def select(self, timeout: float | None = None) -> list[Any]:
        raise Blocked("the loop waited for the outside")

    def get_map(self) -> Any:
        return {}


class _Timer(asyncio.TimerHandle):
    """A timer that the heap compares by its time alone, which stands before it there."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __lt__(self, other: object) -> bool:
        return False


class SimLoop(asyncio.SelectorEventLoop):
    """
    The loop.

    Attributes:
        random: Source of every choice in the run.
        turns: How often the loop has gone round.
    """

    # Members of the standard loop that its stubs do not tell.
    _ready: deque[asyncio.Handle]
    #: With their times, which the heap compares without a call of Python.
    _scheduled: list[tuple[float, asyncio.TimerHandle]]
    _stopping: bool
    _timer_cancelled_count: int

    def __init__(self, seed: int, *, start: float = 1000.0) -> None:
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose
        self.turns = 0
        #: Called with the owner of each callback that has run.
        self.after: Callable[[Any], None] | None = None
        self._now = start
        self._births = 0
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._spins = 0
        super().__init__(_Selector())
        self.set_task_factory(cast("Any", self._make_task))

    def time(self) -> float:
        """Return the virtual second."""
        return self._now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have something called at a virtual second."""
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, (when, timer))
        timer._scheduled = True  # type: ignore[attr-defined]  # the standard loop's own, or ours
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have something called after virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def world_call(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Have the world itself do something, whoever asks for it and whether he lives to see."""
        return self.call_later(delay, call, context=Context())

    # -- the turn -------------------------------------------------------------------------------

    def _run_once(self) -> None:
        self.turns += 1
        ready, scheduled = self._ready, self._drop_cancelled()
        if not ready and not self._stopping:
            if not scheduled:
                raise Deadlock("nothing is ready and nothing is scheduled")
            self._spins *= self._now >= scheduled[0][0]
            self._now = max(self._now, scheduled[0][0])
        self._spins += 1
        if self._spins > _IDLE:
            # As outside: two clocks whose sums are rounded apart would else never meet.
            self._now += _TURN
        if self._spins > _SPIN:
            raise Deadlock("the loop goes round, and no time passes")
        while scheduled and scheduled[0][0] <= self._now:
            _, timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]  # the standard loop's own, or ours
            if not timer.cancelled():
                ready.append(timer)
            else:
                self._timer_cancelled_count -= 1
        batch = [h for h in ready if not h.cancelled()]
        ready.clear()
        if len(batch) > 1:
            self._order(batch)
            self.random.shuffle(batch)
        for handle in batch:
            if not handle.cancelled():
                self._perform(handle)

    def _perform(self, handle: asyncio.Handle) -> None:
        owner = cast("Any", handle)._context.get(OWNER)
        gate = Gate.RUN if owner is None else owner.gate
        if gate is Gate.RUN:
            handle._run()
            if self.after is not None and owner is not None:
                self.after(owner)
        elif gate is Gate.KEEP and owner is not None:
            owner.keep(handle)

    def resume(self, handles: list[asyncio.Handle]) -> None:
        """Take back callbacks that were kept."""
        self._ready.extend(handles)

    def _drop_cancelled(self) -> list[tuple[float, asyncio.TimerHandle]]:
        """Return the timers, the first of which is not cancelled."""
        scheduled = self._scheduled
        if self._timer_cancelled_count > _CANCELLED:
            kept = [entry for entry in scheduled if not entry[1].cancelled()]
            for _, timer in scheduled:
                if timer.cancelled():
                    timer._scheduled = False  # type: ignore[attr-defined]  # the standard loop's own, or ours
            heapq.heapify(kept)
            self._scheduled = scheduled = kept
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0][1].cancelled():
            heapq.heappop(scheduled)[1]._scheduled = False  # type: ignore[attr-defined]  # the standard loop's own, or ours
            self._timer_cancelled_count -= 1
        return scheduled

    @staticmethod
    def _order(batch: list[asyncio.Handle]) -> None:
        # Sets of tasks are walked in the order of addresses, which no seed controls. So the steps
        # of tasks are brought into the order of their birth before they are shuffled.
        places: list[int] = []
        steps: list[tuple[int, int, asyncio.Handle]] = []
        for place, handle in enumerate(batch):
            birth = getattr(_task_of(handle), "birth", None)
            if birth is not None:
                places.append(place)
                steps.append((birth, len(steps), handle))
        for place, (_, _, handle) in zip(places, sorted(steps), strict=True):
            batch[place] = handle

    def _make_task(
        self,
        _loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any],
        **how: Any,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=self, **how)
        self._births += 1
        task.birth = self._births  # type: ignore[attr-defined]  # the standard loop's own, or ours
        self._tasks.add(task)
        return task

    def unfinished(self) -> set[asyncio.Task[Any]]:
        """
        Return the tasks of this loop that have not ended.

        `asyncio.all_tasks` walks those of every loop that ever was, as long as no collection took them.
        """
        return {task for task in self._tasks if not task.done()}

    # -- the outside ----------------------------------------------------------------------------

    def _make_self_pipe(self) -> None:
        pass

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(  # type: ignore[override]  # no thread is made
        self, executor: Any, work: Any, *arguments: Any
    ) -> asyncio.Future[Any]:
        """Refuse, but for what the product does beside its loop: that is done here and at once."""
        if executor is not offload._thread():
            raise Blocked("a thread was to be used")
        done: asyncio.Future[Any] = self.create_future()
        try:
            done.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - whatever it raises is the caller's
            done.set_exception(error)
        return done

    async def create_connection(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        raise Blocked("a connection was to be made")

    async def create_server(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        raise Blocked("a server was to be started")

    async def sock_connect(self, *_: Any) -> Any:
        """Refuse."""
        raise Blocked("a connection was to be made")


def _task_of(handle: asyncio.Handle) -> object:
    return getattr(cast("Any", handle)._callback, "__self__", None)


_armed = False
_hooked = False


def _audit(event: str, _args: tuple[object, ...]) -> None:
    if _armed and event in _BLOCKING:
        raise Blocked(f"{event} was called inside a simulation")


def _refuse(*_: object) -> None:
    raise Blocked("a sleep or a thread inside a simulation")


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Refuse blocking calls within; an audit hook cannot be taken away, so it is switched."""
    global _armed, _hooked  # noqa: PLW0603 - the interpreter has one audit
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    before, _armed = _armed, True
    # Only newer Pythons audit these two.
    sleep, time.sleep = time.sleep, _refuse
    start = threading.Thread.start
    cast("Any", threading.Thread).start = _refuse
    try:
        yield
    finally:
        _armed = before
        time.sleep = sleep
        cast("Any", threading.Thread).start = start


def simulate(seed: int, main: Callable[[SimLoop], Coroutine[Any, Any, None]]) -> SimLoop:
    """
    Run something to its end on a loop of its own, and take away whatever it leaves behind.

    The product draws from the generator of the module `random`; that one is seeded too.

    Raises:
        Blocked: something left the simulation.
        Deadlock: it can never end.
    """
    state = random.getstate()
    random.seed(seed)
    loop = SimLoop(seed)
    # Held to the end: a dropped task that is collected early would run its `finally` blocks.
    graveyard: set[asyncio.Task[Any]] = set()
    collecting = gc.isenabled()
    # When cycles are collected depends on the machine, and what is collected may act. What the product
    # freezes, once it has listed, would be frozen for good.
    gc.disable()
    freeze, gc.freeze = gc.freeze, lambda: None
    try:
        with isolated():
            task = loop.create_task(main(loop))
            try:
                loop.run_until_complete(task)
            finally:
                graveyard |= loop.unfinished()
    finally:
        _bury(graveyard)
        loop.close()
        gc.freeze = freeze
        if collecting:
            gc.enable()
        random.setstate(state)
    return loop


def _bury(tasks: set[asyncio.Task[Any]]) -> None:
    hook, sys.unraisablehook = sys.unraisablehook, lambda _unraisable: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # the standard loop's own, or ours
                coroutine = task.get_coro()
                with contextlib.suppress(BaseException):
                    if coroutine is not None:
                        coroutine.close()
            tasks.clear()
    finally:
        sys.unraisablehook = hook
