"""
The servers of a simulated world, as a process sees them through a network that loses things.

A message, once sent, belongs to the world: it arrives whatever becomes of its sender. Each side of
a call takes an exponential time of its own, so messages overtake each other where several
connections are used (API server, receivers) and do not where there is one (Redis). What goes wrong
is drawn per message from the world's dice; the servers themselves are the stand-ins that the other
tests use.

Each class offers what the product's own client offers (`KubeClient`, `LedgerClient`, `Channel`),
and raises what that one raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
from redis.exceptions import ResponseError

from notifier.channels.base import classify_http
from notifier.channels.webhook import webhook_payload
from notifier.contract import Message, Outcome
from syncer.kube.client import Json, KubeClient, Method
from syncer.kube.errors import error_of
from syncer.ledger.lua import PROBE, Script
from syncer.ledger.replies import classify_reply
from syncer.ledger.store import Server
from syncer.ledger.writes import PADDING
from syncer.model.errors import Ambiguous, LedgerError, PortError, Unauthorised, Unavailable
from syncer.runtime.supervise import elapse
from tests.e2e.checker import Call
from tests.fakes.apianswers import Request, Response, failure
from tests.fakes.apistate import Watch
from tests.fakes.memorylog import Argument, MemoryClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.simulation.world import Process, World

#: Seconds after which a pipeline gives a reply up, as in the real client.
REPLY: Final = 3.0
#: What follows on a connection arrives later: at one moment the loop would choose the order.
TICK: Final = 1e-6
_PROBE: Final = 10.0
_BOOKMARK: Final = 60.0


def _lost(text: str, *, write: bool) -> PortError:
    return Ambiguous(text) if write else Unavailable(text)


def _answer(waiting: asyncio.Future[Any], got: object) -> None:
    """Answer whoever still waits."""
    if not waiting.done():
        waiting.set_result(got)


# -- the API server -------------------------------------------------------------------------------


class SimKube(KubeClient):
    """One process's client of the API server."""

    def __init__(self, world: World, process: Process) -> None:
        # Nothing of the real one's transport is made; every method that would use it is replaced.
        self._world = world
        self._process = process

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    async def request(
        self,
        method: Method,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Json | bytes | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float,
        max_bytes: int = 0,
    ) -> Json:
        """Send one request; see `KubeClient.request`. No answer here is large."""
        del max_bytes
        data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        if "/customresourcedefinitions/" in path:
            # Reading ours takes longer than all the rest of a process's start.
            raise Unauthorised("the simulation does not let it be read", reason="Forbidden")
        request = Request(method, path, dict(params or {}), data, content_type, accept)
        write = method != "GET"
        if method == "PATCH" and path.endswith("/status"):
            known = orjson.loads(data).get("metadata", {}).get("resourceVersion", "")
            self._world.checks.on_write(self._process, path, known)
        answer: asyncio.Future[Response | PortError] = asyncio.get_running_loop().create_future()
        self._world.kube.take(self._process, request, answer)
        try:
            async with asyncio.timeout(timeout):
                got = await answer
        except TimeoutError as error:
            raise _lost(f"no answer within {timeout:g} s", write=write) from error
        if isinstance(got, PortError):
            raise got
        profile = self._world.profile
        if profile.journal or not profile.policy:
            self._process.api_time.set(self._world.api_ms() // 1000 * 1000)
        raw = got.body.encode() if isinstance(got.body, str) else orjson.dumps(got.body)
        if not 200 <= got.code <= 299:
            raise error_of(got.code, raw, got.headers.get("Retry-After"), write=write)
        document: Json = orjson.loads(raw)
        return document

    def stream(  # type: ignore[override]  # fewer options than the real one
        self,
        path: str,
        params: Mapping[str, str],
        *,
        connect_timeout: float,
        idle_timeout: float,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a watch; see `KubeClient.stream`."""
        request = Request("GET", path, dict(params))
        return _Stream(self._world, self._process, request, connect_timeout, idle_timeout)


class _Stream(AbstractAsyncContextManager["AsyncIterator[bytes]"]):
    """The client's side of one watch."""

    def __init__(
        self, world: World, process: Process, request: Request, connect: float, idle: float
    ) -> None:
        self._world = world
        self._process = process
        self._request = request
        self._connect = connect
        self._idle = idle
        self.lines: deque[bytes | None] = deque()
        self.news = asyncio.Event()
        self.broken = False
        self.open: OpenWatch | None = None

    @property
    def path(self) -> str:
        """What is watched."""
        return self._request.path

    async def __aenter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[OpenWatch | Response | PortError] = loop.create_future()
        self._world.kube.take_watch(self._process, self._request, self, answer)
        try:
            async with asyncio.timeout(self._connect):
                got = await answer
        except TimeoutError as error:
            raise Unavailable(f"no answer within {self._connect:g} s") from error
        if isinstance(got, PortError):
            raise got
        if isinstance(got, Response):
            raw = got.body.encode() if isinstance(got.body, str) else orjson.dumps(got.body)
            raise error_of(got.code, raw, got.headers.get("Retry-After"), write=False)
        self.open = got
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.open is not None:
            self._world.kube.leave(self.open)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self.lines:
            if self.broken:
                raise Unavailable("connection lost (ClientPayloadError)")
            self.news.clear()
            try:
                async with asyncio.timeout(self._idle):
                    await self.news.wait()
            except TimeoutError as error:
                raise Unavailable(f"no data for {self._idle:g} s") from error
        line = self.lines.popleft()
        if line is None:
            raise StopAsyncIteration
        return line


@dataclass(eq=False, slots=True)
class OpenWatch:
    """The server's side of one watch: how far its client has been told, and how slowly."""

    watch: Watch
    stream: _Stream
    process: Process
    ends: float
    lag: float
    arrives: float = 0.0
    stalled: bool = False


class KubeServer:
    """
    The one API server.

    Attributes:
        down: Connections are refused.
        watches: All open ones, oldest first.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.down = False
        self.starts = 0
        self.watches: list[OpenWatch] = []
        world.state.listeners.append(self._told)
        self._pumping = False

    # -- requests -------------------------------------------------------------------------------

    def take(
        self, process: Process, request: Request, answer: asyncio.Future[Response | PortError]
    ) -> None:
        """Accept a request that has just been sent."""
        world = self._world
        mishap = world.dice.kube(request)
        starts = self.starts
        delay = world.dice.kube_delay() + world.dice.lease_delay(request)
        if mishap == "late":
            delay += world.dice.uniform(2.0, 20.0)

        def reply(got: Response | PortError, after: float) -> None:
            world.loop.world_call(after, lambda: _answer(answer, got))

        def arrive() -> None:
            write = request.method != "GET"
            if self.down:
                reply(Unavailable("cannot connect (ECONNREFUSED)"), world.dice.kube_delay())
                return
            if mishap == "lose request":
                world.trace("kube-lost", process.name, request.method, request.path)
                if world.dice.chance(0.7):
                    reply(_lost("connection lost (ClientOSError)", write=write), 0.0)
                return
            if isinstance(mishap, int):
                refusal = failure(mishap, "", "the server is made to fail")
                headers = {"Retry-After": "1"} if mishap == 429 else {}
                reply(Response(mishap, refusal.body, headers), world.dice.kube_delay())
                return
            response = self._execute(process, request, mishap)
            if mishap == "swallow reply":
                return
            if mishap == "lose reply" or starts != self.starts:
                if world.dice.chance(0.7):
                    lost = _lost("connection lost (ServerDisconnectedError)", write=write)
                    reply(lost, world.dice.kube_delay())
                return
            if mishap == "504 after":
                response = failure(504, "Timeout", "request did not complete in time")
            reply(response, world.dice.kube_delay())

        world.loop.world_call(delay, arrive)

    def _execute(self, process: Process, request: Request, mishap: object) -> Response:
        world = self._world
        writes = request.method != "GET"
        # What is selected by a label is asked of etcd.
        if mishap == "stale list" and "labelSelector" not in request.query:
            back = world.dice.between(0, 20)
            revision = max(world.first_revision, world.state.revision - back)
            world.trace("kube-stale", process.name, revision)
            world.checks.mark("stale list")
            return world.state.read_at(request, revision)
        before = world.state.revision
        response = world.state.answer(request)
        changed = world.state.revision != before
        if writes:
            world.trace("kube", process.name, request.method, request.path, response.code)
        world.checks.on_request(process, request, response, changed=changed, mishap=mishap)
        if request.path.endswith("/events") and response.code == 201:
            world.checks.on_event(orjson.loads(request.body))
        return response

    # -- watches --------------------------------------------------------------------------------

    def take_watch(
        self,
        process: Process,
        request: Request,
        stream: _Stream,
        answer: asyncio.Future[OpenWatch | Response | PortError],
    ) -> None:
        """Accept a watch that has just been asked for."""
        world = self._world
        refused = world.dice.kube(request)

        def arrive() -> None:
            got: OpenWatch | Response | PortError
            if self.down or refused == "lose request":
                got = Unavailable("cannot connect (ECONNREFUSED)")
            else:
                opened = world.state.watch(request)
                if isinstance(opened, Watch):
                    got = self._open(opened, process, request, stream)
                else:
                    got = opened
            _answer(answer, got)

        world.loop.world_call(world.dice.kube_delay(), arrive)

    def _open(
        self, opened: Watch, process: Process, request: Request, stream: _Stream
    ) -> OpenWatch:
        world = self._world
        seconds = float(request.query.get("timeoutSeconds") or 1800)
        now = world.loop.time()
        made = OpenWatch(opened, stream, process, now + seconds, world.dice.watch_lag(), now)
        self.watches.append(made)
        world.loop.world_call(0.0, lambda: self._pump(made))
        world.loop.world_call(seconds, lambda: self._pump(made))
        if opened.bookmarks:
            self._bookmarks(made)
        return made

    def _bookmarks(self, made: OpenWatch) -> None:
        def tick() -> None:
            if made in self.watches:
                self._send(made, made.watch.bookmark())
                self._world.loop.world_call(_BOOKMARK, tick)

        self._world.loop.world_call(_BOOKMARK, tick)

    def leave(self, made: OpenWatch) -> None:
        """Note that the client has closed its side."""
        with contextlib.suppress(ValueError):
            self.watches.remove(made)

    def _told(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._world.loop.world_call(0.0, self._pump_all)

    def _pump_all(self) -> None:
        self._pumping = False
        for made in list(self.watches):
            self._pump(made)

    def _pump(self, made: OpenWatch) -> None:
        if made not in self.watches:
            return
        for event in made.watch.take():
            for _ in range(2 if self._world.dice.happens("watch repeat", 0.05) else 1):
                self._send(made, event)
        if made.watch.closed or self._world.loop.time() >= made.ends:
            self.close(made)

    def _send(self, made: OpenWatch, event: Json | None, *, broken: bool = False) -> None:
        world = self._world
        if made.stalled:
            return
        line = None if event is None else orjson.dumps(event)
        lag = world.dice.exponential(made.lag) if world.chaos else 0.001
        made.arrives = max(made.arrives + TICK, world.loop.time() + lag)

        def arrive() -> None:
            if broken:
                made.stream.broken = True
            else:
                made.stream.lines.append(line)
            made.stream.news.set()

        world.loop.world_call(made.arrives - world.loop.time(), arrive)

    def close(self, made: OpenWatch, *, broken: bool = False) -> None:
        """End one watch, in an orderly way or not."""
        self.leave(made)
        self._send(made, None, broken=broken)

    def restart(self) -> None:
        """Break every watch and every answer under way."""
        self.starts += 1
        for made in list(self.watches):
            self.close(made, broken=True)


# -- Redis ----------------------------------------------------------------------------------------


class SimLane(MemoryClient):
    """
    One process's pipeline to Redis: one connection at a time, in order.

    How long a command travels is the network's. A connection ends with the server's process; a new one
    asks who answers, and so does a probe.
    """

    def __init__(
        self, world: World, process: Process, *, prefix: str = "nl", **callbacks: Any
    ) -> None:
        super().__init__(world.redis, prefix=prefix, **callbacks)
        self._world = world
        self._process = process
        self._connection = -1
        self._looked_at = 0.0
        self._owed: list[asyncio.Future[Any]] = []
        self._there = 0.0
        self._back = 0.0

    async def evaluate(
        self,
        script: Script,
        key: str,
        args: Sequence[Argument],
        *,
        wait: tuple[int, int] | None = None,
    ) -> Any:
        """Run a script; see `LedgerClient.evaluate`."""

        def execute() -> Any:
            reply = self._world.run_script(self._process, script.name, key, args)
            return (reply, self.redis.replicas) if wait else reply

        try:
            reply = await self._call(script.name, execute, script=True)
        except PortError as error:
            self.writes.on_error("", script, error)
            raise
        self.writes.on_executed("", script)
        return reply

    @property
    def able(self) -> bool:
        """As the real client has it."""
        return self.unavailable_reason is None and self.writes.executed_by([""])

    async def _probe(self, primary: str, writing: bool) -> None:
        del primary
        with contextlib.suppress(LedgerError, TimeoutError):
            await self.evaluate(PROBE, f"{self.prefix}:{{0}}:able", [PADDING, int(writing)])

    async def command(self, *args: Argument, at: str | None = None) -> Any:
        """Run one command; see `LedgerClient.command`."""

        def execute() -> Any:
            self._world.purge()
            return self.redis.execute(*args)

        return await self._call(str(args[0]), execute)

    async def probe(self) -> Any:
        """Ask the server who it is now, on the connection that there is."""
        begun = self._world.loop.time()
        await self.command("INFO")
        self._meet()
        self._looked_at = begun
        return self.server

    @property
    def looked_at(self) -> float:
        """When the server was last asked who it is, and answered; see `RedisState.looked_at`."""
        return self._looked_at

    async def open(self, installation: str) -> Server:
        """As the real client has it."""
        server = await super().open(installation)
        await self._probe("", True)
        return server

    async def run(self) -> None:
        """Look at the server now and then, and whether it executes writes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look())
            group.create_task(
                self.writes.watch(lambda: ("",), self._probe, lambda: self.problem is None)
            )

    async def _look(self) -> None:
        while True:
            await elapse(_PROBE, self.probe_now)
            self.probe_now.clear()
            with contextlib.suppress(LedgerError, TimeoutError):
                await self.probe()

    def _cut(self, problem: str) -> None:
        self._connection = -1
        self.problem = problem
        self.writes.on_lost("")

    async def _call(
        self,
        name: str,
        execute: Callable[[], Any],
        *,
        script: bool = False,
    ) -> Any:
        world, redis = self._world, self.redis
        mishap = world.dice.redis()
        if script and self._process.host.mute:
            # Reads pass, and what is written is lost: on its way there, or on the way back.
            mishap = self._process.host.mute
        await asyncio.sleep(world.dice.tiny())
        if self._closed or redis.down or self._process.host.cut or mishap == "refuse":
            self._cut("Redis cannot be reached")
            raise Unavailable("Redis cannot be reached")
        if self._connection != redis.starts:
            # What the old connection still owes will not come once there is a new one.
            for owed in self._owed:
                _answer(owed, Ambiguous("no reply from Redis (ConnectionError)"))
            self._owed.clear()
            self._there = self._back = 0.0
            self._meet()
            self._connection = redis.starts
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._owed = [*(a for a in self._owed if not a.done()), answer]
        self._put_on_the_wire(name, mishap, execute, answer)
        try:
            async with asyncio.timeout(REPLY):
                got = await answer
        except TimeoutError as error:
            self._cut("Redis does not answer in time")
            raise Ambiguous("no reply from Redis (TimeoutError)") from error
        if isinstance(got, ResponseError):
            raise classify_reply(got) from got
        if isinstance(got, LedgerError):
            self._cut("Redis cannot be reached")
            raise got
        return got

    def _put_on_the_wire(
        self, name: str, mishap: str, execute: Callable[[], Any], answer: asyncio.Future[Any]
    ) -> None:
        world, starts = self._world, self.redis.starts
        loop = world.loop

        def tell(got: object, delay: float) -> None:
            self._back = max(self._back + TICK, loop.time() + delay)

            loop.world_call(self._back - loop.time(), lambda: _answer(answer, got))

        def arrive() -> None:
            if self.redis.starts != starts or self.redis.down:
                tell(Ambiguous("no reply from Redis (ConnectionError)"), 0.0)
                return
            if mishap == "lose request":
                if world.dice.chance(0.5):
                    tell(Ambiguous("no reply from Redis (ConnectionError)"), 0.0)
                return
            got: object
            world.overdue = mishap == "late"
            try:
                got = execute()
            except ResponseError as error:
                got = error
            finally:
                world.overdue = False
            if mishap == "lose reply":
                if world.dice.chance(0.5):
                    tell(Ambiguous("no reply from Redis (ConnectionError)"), 0.0)
                return
            tell(got, world.dice.redis_delay())

        delay = world.dice.redis_delay()
        if mishap == "late":
            # Kept somewhere on the way, on a connection that its sender will have given up.
            loop.world_call(delay + REPLY * world.dice.uniform(0.5, 3.0), arrive)
            return
        self._there = max(self._there + TICK, loop.time() + delay)
        loop.world_call(self._there - loop.time(), arrive)


# -- receivers ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Receivers:
    """
    All receivers, with their books.

    Attributes:
        books: Every request that one of them read whole, in order.
    """

    world: World
    books: list[Call] = field(default_factory=list)

    def arrive(self, channel: str, message: Message, body: str, behaviour: str) -> int:
        """Take a request; returns the status code of the answer, 0 for none."""
        code = {"503": 503, "429": 429, "400": 400, "hang": 0, "drop": 0}.get(behaviour, 200)
        processed = code == 200 or behaviour == "drop"
        world = self.world
        call = Call(
            at=world.loop.time(),
            subject=message.uid,
            key=message.idempotency_key,
            attempt=message.attempt_id,
            body=body,
            code=code,
            processed=processed,
        )
        self.books.append(call)
        world.trace("call", channel, message.uid[:8], message.attempt_id, behaviour, code)
        world.checks.on_call(call, channel)
        return code


class SimChannel:
    """A way to one simulated receiver; what `notifier.channels` would be over HTTP."""

    shows_status: bool = False
    keeps_state = ""

    def __init__(self, world: World, process: Process, name: str, timeout_s: float) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._world = world
        self._process = process

    async def send(self, message: Message) -> Outcome:
        """Deliver one message, once; see `Channel.send`."""
        world = self._world
        world.checks.on_send(self._process, message, self.name)
        behaviour = world.dice.receiver(self.name)
        payload = orjson.dumps(webhook_payload(message), option=orjson.OPT_SORT_KEYS)
        body = hashlib.sha256(payload).hexdigest()[:16]
        if behaviour == "refuse":
            await asyncio.sleep(world.dice.tiny())
            return Outcome.transient("connection refused")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def arrive() -> None:
            code = world.receivers.arrive(self.name, message, body, behaviour)
            if behaviour == "hang":
                return
            slow = behaviour == "slow"
            delay = world.dice.uniform(0.2, 2.0) * self.timeout_s if slow else world.dice.tiny()
            world.loop.world_call(delay, lambda: _answer(answer, code))

        delay = world.dice.exponential(0.02)
        if behaviour == "late":
            delay = self.timeout_s * world.dice.uniform(0.5, 4.0)
        if behaviour != "vanish":
            world.loop.world_call(delay, arrive)
        try:
            async with asyncio.timeout(self.timeout_s):
                code = await answer
        except TimeoutError:
            return Outcome.unknown("no answer in time")
        if code == 0:
            return Outcome.unknown("connection reset before an answer")
        text = "busy " * 120 if world.profile.bulky else "busy"
        wait = 1.0 if code == 429 else None
        return classify_http("webhook", code, text, retry_after=wait)
