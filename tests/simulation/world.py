"""
A whole installation in one thread.

Replicas of the real controller, and everything that befalls them. A process here is built by
`notifier.app`, as in production, and handed another outside: a client of each server that goes
through the simulated network, clocks of its own host, a static router. Only what touches the machine is
left out: files, signals, the admin server, HTTP. Killing a process drops all of its callbacks; pausing
keeps them; a drained one has left by itself. The next one on the same host bears the same identity.

A profile says how large the world is and which faults it knows; both are drawn from the seed, so
that each seed tries another combination (swarm testing: what is always on hides what needs it off).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import random
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, cast

import orjson
import yaml
from prometheus_client import CollectorRegistry

from notifier.app import Parts
from notifier.contract import Channel
from notifier.outside import Outside, RedisFactory, Stop
from notifier.process.lifecycle import Lifecycle, Stopped
from notifier.router import Routed
from notifier.settings import Environment, Loaded, Settings
from syncer.configfile import build
from syncer.model.carried import expand, fold
from syncer.model.errors import LedgerError
from syncer.model.hold import GROUP, KIND, PLURAL, VERSION
from syncer.model.incident import AT, FIRING, INCIDENT, RESOLVED, STATE, incident_label
from syncer.model.journal import MARKS_LEFT
from syncer.model.lineage import STORE, parse_lineage
from syncer.model.record import Fallback, Plan
from syncer.model.resource import HOLD_ANNOTATION, Json, NotificationRequest
from syncer.model.times import time_of
from syncer.rules.divergence import AUDITED, Divergence
from syncer.rules.status_policy import Finding, State
from syncer.runtime.clock import ServerTime
from syncer.runtime.stalls import LoopWatch
from tests.fakes.apianswers import Request, Response
from tests.fakes.apistate import MERGE_PATCH, ApiState
from tests.fakes.memorylog import Argument, MemoryRedis
from tests.servers.definition import load_crd, put_back, upstream_form
from tests.simulation import legal
from tests.simulation.checks import SEND_TIMEOUT, Checks, Violation
from tests.simulation.legal import illegal
from tests.simulation.looks import Looks
from tests.simulation.loop import OWNER, Deadlock, Gate, SimLoop, simulate
from tests.simulation.mutants import keep_finished_for
from tests.simulation.network import KubeServer, Receivers, SimChannel, SimKube, SimLane
from tests.simulation.operator import Operator

#: Unix second at which virtual time is 0.
_EPOCH: Final = 1_760_000_000.0
_FIRST: Final = 990
_DAY: Final = 86400.0
_PREFIX: Final = "nl"
_NAMESPACE: Final = "default"
_HOME: Final = "system"
_DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_OTHER: Final = "other"
_HOLDS: Final = f"/apis/{GROUP}/{VERSION}/namespaces/{_HOME}/{PLURAL}"
_LEASES: Final = f"/apis/coordination.k8s.io/v1/namespaces/{_HOME}/leases/"
#: Seconds that a world has to come to rest after its last fault.
SETTLE: Final = 400.0
_TAIL: Final = 600

#: What may go wrong. Each seed knows about half of it.
FAULTS: Final = (
    "redis slow", "redis lose", "redis late", "redis restart", "redis failover", "redis flush",
    "redis down", "redis corrupt", "redis clock",
    "kube slow", "kube lose", "kube refuse", "kube down", "watch lag", "watch repeat",
    "watch close", "watch stall", "stale list", "forgotten history",
    "receiver 503", "receiver 429", "receiver 400", "receiver hang", "receiver drop",
    "receiver slow", "receiver refuse", "receiver late", "receiver vanish",
    "crash", "pause", "drain", "skew", "suspend",
    "delete", "name again", "rival", "wipe", "hold",
    "operator", "status refused", "renewal lost", "mend", "redis cut", "finalizer", "session deleted",
    "lease watch", "redis mute", "forger", "delivery hold", "annotation", "reads refused",
    "kube late",
)  # fmt: skip
#: What was added once seeds had found something, in the order in which it was.
_LATER: Final = (
    "operator", "status refused", "renewal lost", "mend", "redis cut", "finalizer", "session deleted",
    "lease watch",
)  # fmt: skip
#: What was added later still, and after that.
_LAST: Final = ("redis mute",)
_NEWEST: Final = ("delivery hold", "annotation", "reads refused")
#: Status writes that arrive after their sender has given them up.
_LATE: Final = "kube late"
#: Others write statuses; where a policy is in force, nobody can.
FORGER: Final = "forger"
#: Other writers, whose doings a forger would be blamed for.
_RIVALS: Final = frozenset({"rival", "wipe"})


@dataclass(frozen=True, slots=True)
class Profile:
    """
    The size of a world, and what may happen in it.

    Attributes:
        seed: Where all of it comes from.
        live: Faults end, and the world must come to rest.
        faults: Out of `FAULTS`.
        chaos: Seconds of faults.
        bulky: Statuses grow beyond their limit.
        shows: The API server serves our own definition, which shows more; else it prunes as upstream's.
        journal: Attempts are journaled in the status while Redis is away.
        policy: Nobody but the controller can write a status, and it knows that.
        incidents: Notifications are about two incidents, for receivers that keep their state.
        fallback: Seconds from which the last channel, which stands by for the others, is used; 0 for none.
        spread: They are in two namespaces.
        events: Events are written.
        retention: Seconds for which a finished log is kept; 0 for days, which no world lasts.
    """

    seed: int
    live: bool
    faults: frozenset[str]
    replicas: int
    shards: int
    objects: int
    channels: int
    chaos: float
    bulky: bool
    at_most_once: bool
    status_bytes: int
    window: float
    shows: bool
    journal: bool = False
    policy: bool = True
    incidents: bool = False
    fallback: float = 0.0
    spread: bool = False
    events: bool = False
    retention: int = 0

    @classmethod
    def draw(cls, seed: int, *, live: bool) -> Profile:
        """Draw one; the same seed gives the same."""
        dice = random.Random(f"profile {seed} {live}")  # noqa: S311 - reproducible on purpose
        share = dice.choice((0.15, 0.3, 0.5, 0.7))
        bulky = dice.random() < 0.06
        faults = frozenset(
            f
            for f in FAULTS
            if f not in (*_LATER, *_LAST, *_NEWEST, FORGER, _LATE) and dice.random() < share
        )
        drawn = cls(
            seed=seed,
            live=live,
            faults=faults,
            replicas=dice.choice((1, 2, 2, 3)),
            shards=dice.choice((1, 2, 3)),
            objects=dice.randint(2, 6),
            channels=4 if bulky else dice.choice((1, 1, 2, 3)),
            chaos=dice.uniform(15.0, 35.0),
            bulky=bulky,
            at_most_once=dice.random() < 0.1,
            status_bytes=16_384 if bulky else 65_536,
            window=dice.choice((0.0, 0.1, 0.5)),
            shows="wipe" not in faults and dice.random() < 0.1,
        )
        # Drawn last, so that worlds without them are those that they were before there were any.
        later = frozenset(f for f in _LATER if dice.random() < share)
        drawn = replace(drawn, faults=faults | later)
        # No longer used: the worlds in kept.txt stay as they were.
        dice.random()
        dice.random()
        if dice.random() < 0.5:
            drawn = replace(
                drawn, journal=True, faults=drawn.faults | {"redis down", "receiver 503"}
            )
        last = frozenset(f for f in _LAST if dice.random() < share)
        drawn = replace(drawn, faults=drawn.faults | last, policy=dice.random() < 0.4)
        if not drawn.policy and dice.random() < 0.6:
            # Half of these lose nothing, so that nothing explains what a forger says.
            losses = _LOSSES if dice.random() < 0.5 else frozenset[str]()
            drawn = replace(drawn, faults=(drawn.faults - _RIVALS - losses) | {FORGER}, bulky=False)
        if FORGER not in drawn.faults and not drawn.bulky and dice.random() < _INCIDENTS:
            drawn = replace(drawn, incidents=True, channels=1, objects=dice.randint(6, 10))
        # Every fourth seed, which leaves the worlds in kept.txt as they were.
        if seed % 4 == 3 and drawn.channels > 1 and not bulky:
            drawn = replace(drawn, fallback=dice.choice((3.0, 15.0, 600.0)))
        if seed % 3 == 2:
            newest = frozenset(f for f in _NEWEST if dice.random() < share)
            drawn = replace(drawn, faults=drawn.faults | newest, spread=dice.random() < 0.5)
        # None of those in kept.txt.
        late = frozenset({_LATE} if seed % 9 == 1 else ())
        drawn = replace(drawn, faults=drawn.faults | late, events=seed % 12 == 2)
        if seed % 12 == 2:
            # Nobody orders within seconds, and a forger is not told from what has expired. The rest has a
            # former owner keep results for longer than a log.
            faults = drawn.faults - {"operator", FORGER} | {"redis mute", "pause", "receiver 503"}
            drawn = replace(drawn, faults=faults, retention=dice.choice((2, 2, 4)))
        return drawn


#: Share of the worlds, of those where they can be, that have incidents.
_INCIDENTS: Final = 0.3

#: What has another server or store answer, or logs expire before their time.
_LOSSES: Final = frozenset(
    {"redis restart", "redis failover", "redis flush", "redis down", "redis corrupt", "redis clock"}
)


class Dice:
    """Every chance in a world; silent once the faults have ended."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.loop.random
        self._faults = world.profile.faults

    def chance(self, share: float) -> bool:
        """Draw yes or no."""
        return self._random.random() < share

    def happens(self, fault: str, share: float) -> bool:
        """Draw whether a fault strikes now."""
        return self._world.chaos and fault in self._faults and self.chance(share)

    def uniform(self, least: float, most: float) -> float:
        """Draw a number."""
        return self._random.uniform(least, most)

    def between(self, least: int, most: int) -> int:
        """Draw a whole number."""
        return self._random.randint(least, most)

    def exponential(self, mean: float) -> float:
        """Draw a time."""
        return self._random.expovariate(1 / mean) if mean > 0 else 0.0

    def choose(self, options: Sequence[Any]) -> Any:
        """Draw one of several."""
        return self._random.choice(options)

    def tiny(self) -> float:
        """A time within a machine."""
        return self.exponential(0.002)

    def redis_delay(self) -> float:
        """Time of one way to Redis."""
        return self.exponential(0.25 if self.happens("redis slow", 0.2) else 0.002)

    def kube_delay(self) -> float:
        """Time of one way to the API server."""
        slow = self.happens("kube slow", 0.15)
        return self.exponential(self.choose((1.0, 1.0, 5.0)) if slow else 0.005)

    def lease_delay(self, request: Request) -> float:
        """Time by which a Lease is late, so that a lost renewal is found at the last moment."""
        late = request.path.startswith(_LEASES) and self.happens("renewal lost", 0.8)
        return self.uniform(0.1, 0.38) if late else 0.0

    def watch_lag(self) -> float:
        """Mean lag of one watch."""
        lagging = self._world.chaos and "watch lag" in self._faults
        return float(self.choose((0.05, 0.5, 4.0))) if lagging else 0.005

    def redis(self) -> str:
        """What happens to one call."""
        if self.happens("redis lose", 0.06):
            return "lose reply" if self.chance(0.6) else "lose request"
        if self.happens("redis late", 0.08):
            return "late"
        return ""

    def kube(self, request: Request) -> str | int:
        """What happens to one request: a code is answered instead of carrying it out."""
        if _renews(request) and self.happens("renewal lost", 0.3):
            # Not told as lost: it is waited for until the deadline is near.
            return "swallow reply"
        if self.happens("kube lose", 0.05):
            return "lose reply" if self.chance(0.6) else "lose request"
        place = request.path.split("/")
        if request.method == "GET" and place[-3] in self._world.unreadable:
            self._world.checks.mark("read refused")
            return 403
        if request.method == "PATCH" and request.path.endswith("/status"):
            name = request.path.split("/")[-2]
            if name in self._world.refused:
                self._world.checks.mark("status refused")
                return 403
            if self.happens(_LATE, 0.2):
                return "late"
        if self.happens("kube refuse", 0.06):
            return cast("str | int", self.choose((429, 500, 504, "504 after")))
        if request.query.get("limit") and self.happens("stale list", 0.3):
            return "stale list"
        return ""

    def receiver(self, channel: str) -> str:
        """How a receiver takes one request."""
        world = self._world
        share = 0.9 if channel in world.sick else 0.35
        if world.profile.bulky and world.chaos:
            return "503"
        if not world.chaos or not self.chance(share):
            return "ok"
        known = [f[9:] for f in FAULTS if f.startswith("receiver ") and f in self._faults]
        if not known:
            return "ok"
        kind = str(self.choose(known))
        # Permanent refusals end a channel; too many of them would end the runs early.
        return "ok" if kind == "400" and not self.chance(0.3) else kind


# -- processes ------------------------------------------------------------------------------------


class _Admin:
    """Takes checks that nobody asks, and gauges that nobody scrapes."""

    refresh: Callable[[], Awaitable[float]] | None = None

    def check(self, name: str, check: Callable[[], str | None]) -> None:
        pass

    def detail(self, name: str, check: Callable[[], str | None]) -> None:
        pass


class _Router:
    """Routing that never changes, to simulated receivers."""

    problem: str | None = None
    in_force = ""
    doubts = 0
    channels = ()

    def __init__(self, world: World, process: Process, timeout_s: float) -> None:
        self._world = world
        self._process = process
        self._timeout_s = timeout_s
        self._channels: dict[str, SimChannel] = {}

    async def plan(self, request: NotificationRequest, now: int) -> Routed:
        """Choose channels; they depend on the name alone."""
        channels = self._world.channels_of(request.name)
        plan = Plan(channels, "RoutingRuleMatched", "simulated", now, request.content_hash())
        if after := self._world.profile.fallback:
            stands_by = Fallback(channels[-1], channels[:-1], round(1000 * after))
            plan = replace(plan, fallbacks=(stands_by,))
        return Routed(plan)

    def channel(self, name: str) -> Channel | None:
        """Return the simulated way to a receiver."""
        if name not in self._channels:
            made = SimChannel(self._world, self._process, name, self._timeout_s)
            self._channels[name] = made
        return self._channels[name]

    def denial(self, name: str, namespace: str) -> str | None:
        """Refuse nobody."""
        return None

    def not_ready(self, name: str) -> str | None:
        """Hold what the world holds."""
        return "its credential is missing" if name in self._world.held else None

    async def run(self) -> None:
        """There are no files to follow."""
        await asyncio.Event().wait()


def _outside(world: World, process: Process, settings: Settings) -> Outside:
    """Return the world outside of a process, which is the simulated one."""
    host = process.host
    return Outside(
        identity=process.identity,
        monotonic=host.monotonic,
        wall=lambda: datetime.fromtimestamp(host.wall(), UTC),
        api_time=process.api_time,
        objects=SimKube(world, process),
        leases=SimKube(world, process),
        redis=cast("RedisFactory", partial(SimLane, world, process, prefix=_PREFIX)),
        router=_Router(world, process, settings.delivery.slack.timeout),
        audit=None,
        admin=_Admin(),
        registry=CollectorRegistry(),
        watch=LoopWatch(),
        egress_denied=lambda: 0,
        stop=process.stop,
    )


@cache
def _settings_of(
    shards: int, window: float, status_bytes: int, guarantee: str, log_outage: str, *, events: bool
) -> Settings:
    document = {
        "controller": {"namespaces": "*"},
        "redis": {"url": "redis://simulated.invalid"},
        "delivery": {
            "guarantee": guarantee, "slack": {"timeout": f"{SEND_TIMEOUT:g}s"},
            "logOutage": log_outage, "journalAfter": "1s",
        },
        "sharding": {
            "shards": shards, "renewDeadline": "2s", "retryPeriod": "600ms", "margin": "500ms",
        },
        "sync": {
            "window": f"{round(window * 1000)}ms", "maxStatusBytes": status_bytes,
            "resync": "3s", "liveSweep": "5s", "finishedSweep": "15s", "holdNotice": "5s",
            "scrubRate": 10.0, "scrubPause": "2s",
        },
        "events": {"enabled": events},
    }  # fmt: skip
    return build(Settings, document, constants=document)


def _settings(profile: Profile) -> Settings:
    guarantee = "atMostOnce" if profile.at_most_once else "atLeastOnce"
    log_outage = "journal" if profile.journal else "hold"
    size = profile.shards, profile.window, profile.status_bytes
    return _settings_of(*size, guarantee, log_outage, events=profile.events)


@dataclass(eq=False, slots=True)
class Host:
    """
    Where processes run, one after the other.

    Attributes:
        rate: Seconds of its boot clock per second of the world.
        offset: What its boot clock showed at the beginning, and every suspend since.
        skew: By how many seconds its wall clock is wrong.
        cut: Redis cannot be reached from here.
        mute: What becomes of each script on the way from here to Redis; empty: nothing. Reads pass.
    """

    world: World
    name: str
    rate: float = 1.0
    offset: float = 0.0
    skew: float = 0.0
    cut: bool = False
    mute: str = ""
    starts: int = 0
    process: Process | None = None

    def monotonic(self) -> float:
        """Seconds of the boot clock."""
        return self.offset + self.rate * self.world.loop.time()

    def wall(self) -> float:
        """Unix seconds that it believes in."""
        return _EPOCH + self.skew + self.world.loop.time()

    def start(self) -> None:
        """Start a process, if none runs."""
        if self.process is None:
            self.starts += 1
            self.process = Process(self, f"{self.name}.{self.starts}")
            self.process.start()

    def restart_after(self, seconds: float) -> None:
        """Start one a little later."""
        self.world.loop.world_call(seconds, self.start)


class Process:
    """One run of the controller; the owner of all of its callbacks."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self.world = host.world
        self.dead = False
        self.paused = False
        self.draining = False
        self.stop = Stop()
        self.api_time = ServerTime(host.monotonic)
        #: Told the uids of logs that others have appended to, once it runs.
        self.hear: Callable[[str], None] | None = None
        self._kept: list[asyncio.Handle] = []
        self._context = Context()
        self._context.run(OWNER.set, self)

    # -- what the loop asks ---------------------------------------------------------------------

    @property
    def gate(self) -> Gate:
        """Whether its callbacks may run."""
        return Gate.DROP if self.dead else Gate.KEEP if self.paused else Gate.RUN

    def keep(self, handle: asyncio.Handle) -> None:
        """Hold a callback back."""
        self._kept.append(handle)

    @property
    def identity(self) -> str:
        """Of its host, so that the next process takes over from this one at once."""
        return f"{self.host.name}_8081"

    @property
    def able(self) -> bool:
        """Whether it could serve any shard now."""
        if self.paused or self.draining or self.host.cut or self.host.mute:
            return False
        return self.app.client.unavailable_reason is None and self.app.reflector.answered

    # -- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self.world.trace("start", self.name)
        self._context.run(self._begin)

    def _begin(self) -> None:
        world = self.world
        settings = _settings(world.profile)
        loaded = Loaded(settings, (), Environment(_HOME, Path("unused")))
        self.app = Parts(loaded, _outside(world, self, settings))
        if world.profile.policy:
            self.app.status_policy.look = self._look  # type: ignore[method-assign]  # no such objects here
        self.hear = self.app.client.on_wake_up
        self.world.looks.attend(self)
        # A process offers what the start needs of a task group.
        Lifecycle(self.app).start(cast("asyncio.TaskGroup", self))

    async def _look(self) -> None:
        self.app.status_policy.found = Finding(State.IN_FORCE)

    def create_task(
        self, work: Coroutine[Any, Any, Any], *, name: str | None = None
    ) -> asyncio.Task[None]:
        """Run a part of it; its end by an error is the end of the process."""
        return self.world.loop.create_task(self._guarded(work, name or ""), name=name)

    async def _guarded(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        try:
            await work
        except Stopped:
            self.world.checks.mark("drained and left")
            self.world.loop.world_call(0.0, self.leave)
        except asyncio.CancelledError:
            raise
        except Violation:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was ends the process
            self.world.unexpected(f"{self.name}: {name} ended: {type(error).__name__}: {error}")

    def kill(self) -> None:
        """End at once; nothing of it runs any more."""
        if self.dead:
            return
        self.world.trace("kill", self.name)
        self.dead = True
        # A task that is collected would run its `finally` blocks; the dead do not.
        self.world.graveyard |= self.world.loop.unfinished()
        self._kept.clear()
        self.world.read_metrics(self.app)
        if self.host.process is self:
            self.host.process = None

    def leave(self) -> None:
        """End after draining; somebody starts the next one."""
        if not self.dead:
            self.kill()
            self.host.restart_after(self.world.dice.uniform(0.05, 3.0))

    def drain(self) -> None:
        """Ask it to end."""
        self.world.trace("drain", self.name)
        self.draining = True
        self._context.run(self.stop.requested.set)

    def pause(self) -> None:
        """Do not let it run."""
        if not self.dead:
            self.world.trace("pause", self.name)
            self.paused = True

    def resume(self) -> None:
        """Let it go on."""
        if self.paused and not self.dead:
            self.world.trace("resume", self.name)
            self.paused = False
            kept, self._kept = self._kept, []
            self.world.loop.resume(kept)


# -- the world ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Undo:
    """One change of Redis, and what was there before."""

    at: float
    key: str
    log: list[bytes]
    expires: int | None


@dataclass(frozen=True, slots=True)
class Result:
    """
    What a run came to.

    Attributes:
        digest: Hash of everything that was traced.
        violation: What did not hold; None if all did.
        tail: The end of the trace.
        until: Virtual second at which it ended.
    """

    profile: Profile
    digest: str
    marks: dict[str, int]
    violation: Violation | None
    tail: tuple[str, ...]
    until: float
    calls: int
    rested: float = 0.0


class World:
    """Everything."""

    def __init__(self, loop: SimLoop, profile: Profile, *, tail: int | None = _TAIL) -> None:
        self.loop = loop
        self.profile = profile
        self.chaos = True
        self.violation: Violation | None = None
        self.graveyard: set[asyncio.Task[Any]] = set()
        self.sick: set[str] = set()
        self.held: set[str] = set()
        #: Names of objects whose status nobody may write, and namespaces whose objects nobody may read.
        self.refused: set[str] = set()
        self.unreadable: set[str] = set()
        self.rested = 0.0
        #: The script that runs now was sent so long ago that nobody waits for its answer.
        self.overdue = False
        self._digest = hashlib.blake2b(digest_size=12)
        self._tail: deque[str] = deque(maxlen=tail)
        self._uids = 0
        self._names = 0
        self._extra = 0
        self._forged = 0
        self._forgeries = 0
        self._holds = 0
        #: Shards' Leases that have ever said that statuses may hold attempts of an outage.
        self._marked: set[str] = set()
        self._journal: deque[Undo] = deque(maxlen=5000)
        self._redis_skew = 0.0
        #: The clock of Redis has ever been ahead by more than a day.
        self.ahead = False
        #: The second at which that clock jumped last.
        self.stepped = 0.0
        self._healed: dict[str, list[bytes]] = {}
        #: Of each session's Lease: whose it is, and when it was written last.
        self.sessions: dict[str, tuple[str, float]] = {}
        self.first_revision = _FIRST
        self.dice = Dice(self)
        self.checks = Checks(self)
        self.looks = Looks(self)
        self.state = ApiState(
            now=lambda: _EPOCH + loop.time(),
            uid=self._uid,
            crd=_crd(shows=profile.shows),
            namespaces=(_NAMESPACE, _HOME, _OTHER),
            first_revision=_FIRST,
        )
        if "delivery hold" in profile.faults:
            self._ask("POST", _DEFINITIONS, _hold_crd())
        self._seen = self.state.revision
        self.state.listeners.append(self._stored)
        #: Operators hold notifications back.
        self.may_hold = bool({"annotation", "delivery hold"} & profile.faults)
        self.kube = KubeServer(self)
        self.redis = MemoryRedis(self.redis_ms)
        self.receivers = Receivers(self)
        self.operator = Operator(self)
        self.hosts = [self._host(n) for n in range(profile.replicas)]

    def _host(self, n: int) -> Host:
        host = Host(self, f"host-{n}", offset=self.dice.uniform(10.0, 1e6))
        if "skew" in self.profile.faults:
            host.rate = self.dice.uniform(0.97, 1.03)
            host.skew = self.dice.uniform(-7200.0, 7200.0)
        return host

    def _uid(self) -> str:
        self._uids += 1
        digest = hashlib.sha256(f"{self.profile.seed} {self._uids}".encode()).hexdigest()
        return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"

    def api_ms(self) -> int:
        """The API server's time in Unix milliseconds."""
        return round((_EPOCH + self.loop.time()) * 1000)

    def redis_ms(self) -> int:
        """Return the time of Redis in Unix milliseconds."""
        return round((_EPOCH + self._redis_skew + self.loop.time()) * 1000)

    def channels_of(self, name: str) -> tuple[str, ...]:
        """Channels of a notification, by its name."""
        first = sum(name.encode())
        count = self.profile.channels
        return tuple(self._channel(first + n) for n in range(count))

    def _channel(self, n: int) -> str:
        kind = "pagerduty" if self.profile.incidents else "webhook"
        return f"{kind}:r{n % (self.profile.channels + 1)}"

    # -- the record -----------------------------------------------------------------------------

    def trace(self, kind: str, *fields: object) -> None:
        """Note something that happened; all notes together are what a run was."""
        line = f"{self.loop.time():.4f} {kind} {' '.join(map(str, fields))}"
        self._digest.update(line.encode())
        self._tail.append(line)

    def failed(self, violation: Violation) -> None:
        """Note the first violation; the run ends with it."""
        if self.violation is None:
            self.violation = violation

    def unexpected(self, text: str) -> None:
        """Note an error that no server and no network can have caused."""
        self.trace("UNEXPECTED", text)
        self.failed(Violation("unexpected error", text))

    def read_metrics(self, app: Parts) -> None:
        """Take from a process's metrics what the servers cannot see."""
        if _value(app.metrics.loss) > 0:
            self.checks.mark("loss ledger counted")
        if _value(app.delivery_metrics.breaker_openings) > 0:
            self.checks.mark("breaker opened")
        # A verdict may be overtaken by what the receiver did say.
        judged = self.checks.marks["verdict recorded"]
        if _value(app.metrics.conflicting) > 0 and not judged and self.violation is None:
            self.failed(Violation("conflict", "an attempt has two definite results"))
        for divergence in AUDITED:
            if _value(app.metrics.divergences.labels(divergence.value)) > 0:
                self.checks.mark(f"self-audit: {divergence}")
                # A status can be wiped, and that is what it then finds.
                wiped = divergence is Divergence.ACKED
                if divergence.stops and not wiped and self.violation is None:
                    self.failed(Violation("self-audit", divergence.message))

    def log_of(self, uid: str) -> list[bytes]:
        """Return the log as it stands in Redis."""
        return self.redis.twin.logs.get(_key(uid), [])

    def key_of(self, uid: str) -> str:
        """Return the key of a log."""
        return _key(uid)

    def wake_owner(self, uid: str) -> None:
        """Have every process that runs hear of a log."""
        for host in self.hosts:
            process = host.process
            if process is not None and not process.dead and process.hear is not None:
                process.hear(uid)

    def expiry_of(self, uid: str) -> int | None:
        """Return when a log goes, None if it stays."""
        return self.redis.twin.expires.get(_key(uid))

    # -- Redis ----------------------------------------------------------------------------------

    def purge(self) -> int:
        """Drop the logs whose time has come; returns the server's time in milliseconds."""
        twin, now = self.redis.twin, self.redis_ms()
        for key in [k for k, at in twin.expires.items() if at <= now]:
            self.trace("expire", key)
            self.checks.on_expiry(key[len(_PREFIX) + 2 : -1], list(twin.logs.get(key, ())))
        twin.purge(now)
        return now

    def run_script(
        self, process: Process | None, script: str, key: str, args: Sequence[Argument]
    ) -> list[Any]:
        """Run a script and have it judged; without a process it is the operator's."""
        twin = self.redis.twin
        now = self.purge()
        if script == "probe":
            # Of no log: nothing of it is kept here.
            return [b"OK", b""]
        before, expires = list(twin.logs.get(key, ())), twin.expires.get(key)
        reply = twin.run(script, key, args, now)
        after = list(twin.logs.get(key, ()))
        if after != before or twin.expires.get(key) != expires:
            self._journal.append(Undo(self.loop.time(), key, before, expires))
        uid = key[len(_PREFIX) + 2 : -1]
        self.trace(
            "redis",
            process.name if process else "operator",
            script,
            uid[:8],
            _short(reply),
            _brief(args),
            len(after) - 1,
            _sum(b"\n".join(after)) if after != before else "",
        )
        self.checks.on_script(process, script, uid, args, reply, before, after)
        return reply

    def _restore(self, key: str, log: list[bytes], expires: int | None) -> None:
        twin = self.redis.twin
        before = list(twin.logs.get(key, ()))
        twin.delete(key)
        if log:
            twin.logs[key] = list(log)
            if expires is not None:
                twin.expires[key] = expires
        self.checks.on_loss(key[len(_PREFIX) + 2 : -1], before, list(log))
        # What was unreadable when it was copied is so again, whoever has repaired the log since.
        self.checks.on_restored(key[len(_PREFIX) + 2 : -1], log)

    def lose(self, seconds: float) -> None:
        """
        Have another server take over that lacks the last seconds.

        Every other time it is the same one, which was a replica for a moment: no connection breaks, and
        what is on its way arrives.
        """
        undone = 0
        while self._journal and self._journal[-1].at > self.loop.time() - seconds:
            undo = self._journal.pop()
            self._restore(undo.key, undo.log, undo.expires)
            undone += 1
        self.trace("redis-lost", undone)
        if seconds and self.redis.histories % 2:
            self.redis.turn("master")
        else:
            self.redis.restart()

    def flush(self) -> None:
        """Have everything vanish from Redis."""
        self.trace("redis-flush")
        for key in list(self.redis.twin.logs):
            self._restore(key, [], None)
        self._journal.clear()
        self.redis.flush()
        self.checks.flushed |= self.checks.ever.keys()

    def corrupt(self) -> None:
        """Flip a bit in the body of one record."""
        keys = sorted(k for k, log in self.redis.twin.logs.items() if len(log) > 1)
        if not keys or len(self._healed) >= 1:
            return
        key = str(self.dice.choose(keys))
        log = self.redis.twin.logs[key]
        position = self.dice.between(1, len(log) - 1)
        element = bytearray(log[position])
        element[-1] ^= 1
        self._healed[key] = []
        log[position] = bytes(element)
        self.trace("redis-corrupt", key, position)
        self.checks.on_corrupt(key[len(_PREFIX) + 2 : -1], log)
        if "mend" in self.profile.faults:
            broken = log[position]
            self.loop.world_call(
                self.dice.uniform(2.0, 20.0), lambda: self._mend(key, position, broken)
            )

    def _mend(self, key: str, position: int, broken: bytes) -> None:
        """Have somebody put the bit right again, and tell nobody."""
        log = self.redis.twin.logs.get(key, [])
        if log[position : position + 1] == [broken]:
            log[position] = broken[:-1] + bytes([broken[-1] ^ 1])
            self.trace("redis-mend", key, position)
            self.checks.on_mend(key[len(_PREFIX) + 2 : -1], log)

    # -- objects --------------------------------------------------------------------------------

    def _stored(self) -> None:
        for plural in ("notificationrequests", "leases"):
            for change in self.state.changes_since(plural, self._seen):
                if plural == "leases":
                    self._lease(change.type, change.object, change.previous)
                elif change.type == "DELETED":
                    self.checks.deleted(change.object["metadata"]["uid"])
                else:
                    meta = change.object["metadata"]
                    status = change.object.get("status") or {}
                    self.trace(
                        "object", meta["name"], meta["resourceVersion"], status.get("phase", ""),
                        _sum(orjson.dumps(status, option=orjson.OPT_SORT_KEYS)),
                    )  # fmt: skip
                    self.checks.on_version(change.object)
        self._seen = self.state.revision

    def _lease(self, kind: str, now: Json, before: Json | None) -> None:
        name, version = now["metadata"]["name"], now["metadata"]["resourceVersion"]
        new, old = now.get("spec") or {}, (before or {}).get("spec") or {}
        holder = str(new.get("holderIdentity") or "")
        if MARKS_LEFT in (now["metadata"].get("annotations") or {}):
            self._marked.add(name)
        if "-session-" in name:
            if kind == "DELETED":
                self.trace("session-ended", name, holder)
            else:
                self.sessions[name] = (holder, self.loop.time())
        elif holder != old.get("holderIdentity") or new.get("acquireTime") != old.get(
            "acquireTime"
        ):
            self.trace("lease", name, holder, version)
            if before and holder and holder == old.get("holderIdentity") and old.get("acquireTime"):
                self.checks.mark("lease taken by its own name")

    @property
    def lease_duration(self) -> float:
        """LeaseDuration in seconds."""
        return _settings(self.profile).lease_duration

    def holder_of(self, shard: int) -> str:
        """Who holds a shard by its Lease, empty if nobody does."""
        found = self._ask("GET", f"{_LEASES}notification-ledger-{shard}")
        body = found.body if isinstance(found.body, dict) else {}
        return str((body.get("spec") or {}).get("holderIdentity") or "")

    def _ask(
        self, method: str, path: str, body: Json | None = None, *, form: str = "application/json"
    ) -> Response:
        data = orjson.dumps(body) if body is not None else b""
        return self.state.answer(Request(method, path, {}, data, form))

    def _namespace(self, name: str) -> str:
        return _OTHER if self.profile.spread and sum(name.encode()) % 2 else _NAMESPACE

    def _path(self, name: str) -> str:
        space = self._namespace(name)
        return f"/apis/kubernaut.ai/v1alpha1/namespaces/{space}/notificationrequests/{name}"

    def create(self, name: str) -> None:
        """Create a notification."""
        bulky = self.profile.bulky
        policy = {
            "maxAttempts": 10 if bulky else self.dice.choose((1, 1, 2, 3, 5)),
            "initialBackoffSeconds": 1 if bulky else self.dice.between(1, 2),
            "backoffMultiplier": 1,
            "maxBackoffSeconds": 60,
        }
        spec: Json = {
            "subject": name, "body": "text", "type": "Simple", "retryPolicy": policy,
            "priority": self.dice.choose(["Low", "Medium", "High", "Critical"]),
        }  # fmt: skip
        body: Json = {
            "apiVersion": "kubernaut.ai/v1alpha1", "kind": "NotificationRequest",
            "metadata": {"name": name, "namespace": self._namespace(name)}, "spec": spec,
        }  # fmt: skip
        if self.profile.incidents:
            (incident,) = self.channels_of(name)
            spec["extensions"] = {
                INCIDENT: incident, STATE: self.dice.choose([FIRING, RESOLVED]), AT: str(self.api_ms()),
            }  # fmt: skip
            body["metadata"]["labels"] = {INCIDENT: incident_label(incident)}
        response = self._ask("POST", self._path(name).rpartition("/")[0], body)
        if response.code not in (201, 409):
            raise AssertionError(response.body)
        if response.code == 201 and FORGER in self.profile.faults and self.dice.chance(0.5):
            self.forge(cast("Json", response.body))

    def some_object(self) -> Json | None:
        """Return any object, None if there is none."""
        found = self.state.objects("notificationrequests")
        return cast("Json", self.dice.choose(found)) if found else None

    def delete(self, *, again: bool) -> None:
        """Delete an object; `again` makes another one of the same name soon after."""
        found = self.some_object()
        if found is None:
            return
        name = found["metadata"]["name"]
        self.trace("delete", name, found["metadata"]["uid"][:8])
        self._ask("DELETE", self._path(name))
        if again:
            self.loop.world_call(self.dice.uniform(0.0, 3.0), lambda: self.create(name))

    def delete_slowly(self) -> None:
        """Delete an object that somebody's finalizer keeps for a while."""
        found = self.some_object()
        if found is None or found["metadata"].get("deletionTimestamp"):
            return
        name = found["metadata"]["name"]
        self.trace("delete-slowly", name, found["metadata"]["uid"][:8])
        self._keep(name, "example.com/keeps")
        self._ask("DELETE", self._path(name))
        self.checks.mark("deletion held up by a finalizer")
        self.loop.world_call(self.dice.uniform(1.0, 15.0), lambda: self._keep(name))

    def _keep(self, name: str, *finalizers: str) -> None:
        change = {"metadata": {"finalizers": list(finalizers)}}
        self._ask("PATCH", self._path(name), change, form=MERGE_PATCH)

    def edit(self, *, wipe: bool) -> None:
        """Have somebody else write a status: all of it, as upstream's types have it, or `null`."""
        found = self.some_object()
        status = (found or {}).get("status") or {}
        written = "phase" in status
        if found is None or (wipe and not written):
            return
        name, version = found["metadata"]["name"], found["metadata"]["resourceVersion"]
        self.trace("wipe" if wipe else "edit", name)
        if wipe:
            self.checks.allowed = "wipe"
            change: Json | None = None
        elif written:
            if "deliveryAttempts" in status:
                self.checks.mark("status put back by upstream's client")
            change = put_back(status) | {"message": f"edited at {self.loop.time():.3f}"}
        else:
            label = {"labels": {"edited": f"{self.loop.time():.0f}"}}
            self._ask("PATCH", self._path(name), {"metadata": label}, form=MERGE_PATCH)
            return
        self._ask(
            "PATCH", f"{self._path(name)}/status",
            {"metadata": {"resourceVersion": version}, "status": change}, form=MERGE_PATCH,
        )  # fmt: skip
        self.checks.allowed = ""

    def forge(self, found: Json | None) -> None:
        """Have somebody write any status into an object, at any time."""
        if found is None or found["metadata"].get("deletionTimestamp"):
            return
        dice, name = self.dice, found["metadata"]["name"]
        channels = [*self.channels_of(name), "webhook:elsewhere"]
        entries = []
        for n in range(dice.choose((0, 0, 1, 5))):
            self._forged += 1
            identity = f"0.{dice.between(1, 2000)}-{900_000 + self._forged}"
            self.checks.made_up.add(identity)
            entries.append(
                {
                    "id": identity, "channel": dice.choose(channels), "attempt": n + 1,
                    "status": dice.choose(("success", "failed")), "timestamp": "2025-10-09T08:00:00Z",
                }
            )  # fmt: skip
        status: Json = {
            "phase": dice.choose(("Sent", "Sent", "Failed", "PartiallySent", "Sending", "Retrying")),
            "deliveryAttempts": entries, "totalAttempts": len(entries),
            "channels": [{"name": c, "state": "Delivered"} for c in channels if dice.chance(0.3)],
        }  # fmt: skip
        if dice.chance(0.2):
            status["journal"] = {"outage": f"0.{dice.between(1, 2000)}-1"}
        told = expand(found.get("status") or {})
        self._forgeries += 1
        if self._forgeries % 3 == 0 and told.get("phase") in {"Sending", "Retrying"}:
            # Nothing is invented, and what was to be tried again has failed for good.
            status = told
            entries = status.get("deliveryAttempts") or []
            for entry in entries:
                if entry["status"] == "failed":
                    entry |= {
                        "class": "permanent",
                        "error": f"permanent failure: {entry.get('error', '')}",
                    }
        self.trace("forge", name, status["phase"], len(entries))
        self.checks.allowed = "forged"
        self._ask(
            "PATCH", f"{self._path(name)}/status",
            {"status": {**dict.fromkeys(found.get("status") or ()), **fold(status)}}, form=MERGE_PATCH,
        )  # fmt: skip
        self.checks.allowed = ""

    @property
    def founded(self) -> float:
        """When the installation was founded, Unix seconds; infinite before."""
        found = self._ask("GET", f"{_LEASES}notification-ledger-map")
        if found.code != 200:
            return math.inf
        return time_of(cast("Json", found.body)["metadata"]["creationTimestamp"]) / 1000

    def complete_since(self, uid: str) -> float:
        """Since when the Leases say that nothing was lost of a log, Unix seconds; infinite if never."""
        process = next((h.process for h in self.hosts if h.process is not None), None)
        if process is None:
            return math.inf
        shard = process.app.shards.sharding.of(uid)
        found = self._ask("GET", f"{_LEASES}notification-ledger-{shard}")
        body = cast("Json", found.body) if found.code == 200 else {}
        noted = (body.get("metadata") or {}).get("annotations") or {}
        lineage = parse_lineage(noted.get(STORE, ""))
        # A controller that had no answer to removing them counts with marks until it has one.
        counted = any(h.process.app.manager.marked(uid) for h in self.hosts if h.process)
        if lineage is None or MARKS_LEFT in noted or counted:
            return math.inf
        return max(self.founded, lineage.since / 1000)

    def marked(self, uid: str) -> bool:
        """Whether the Lease of its shard has ever said that statuses may hold attempts of an outage."""
        shard = next((h.process.app.shards.sharding.of(uid) for h in self.hosts if h.process), None)
        return f"notification-ledger-{shard}" in self._marked

    # -- what happens ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Live from the first start to the last check."""
        self.loop.set_exception_handler(self._loop_error)
        if self.profile.seed % legal.EVERY == 0:
            self.loop.after = self._look_within
        for host in self.hosts:
            host.restart_after(self.dice.uniform(0.0, 2.0))
        creating = asyncio.create_task(self._actor(self._create_all()))
        acting = [creating, asyncio.create_task(self._actor(self._monkey()))]
        if "operator" in self.profile.faults:
            acting.append(asyncio.create_task(self._actor(self._operate())))
        end = self.loop.time() + self.profile.chaos
        while self.loop.time() < end and self.violation is None:
            await asyncio.sleep(0.25)
            self._look()
        for task in acting:
            task.cancel()
        converged = False
        if self.profile.live and self.violation is None:
            converged = await self._settle()
        if self.violation is None:
            for host in self.hosts:
                if host.process is not None:
                    self.read_metrics(host.process.app)
            try:
                self.checks.finish(converged=converged)
            except Violation as violation:
                self.failed(violation)

    def _look_within(self, process: Process) -> None:
        """Judge what a process remembers after one of its callbacks."""
        if process.dead or not hasattr(process, "app"):
            return
        for notification in process.app.cache.entries.values():
            if rule := illegal(notification):
                with contextlib.suppress(Violation):
                    self.checks.fail(
                        "legal", f"{process.name}, {notification.request.name}: {rule}"
                    )

    def _look(self) -> None:
        # What is wrong is noted already; the run ends by itself.
        with contextlib.suppress(Violation):
            self.looks.check()
            for host in self.hosts:
                process = host.process
                if process is not None:
                    # One that does not run hands nothing over; when it goes on, it begins anew.
                    idle = process.paused or process.draining
                    app = process.app
                    shards = frozenset() if idle else app.shards.leaving
                    entries = app.cache.entries.values() if shards else ()
                    writing = {
                        app.shards.sharding.of(e.uid) for e in entries if e.publication.writing
                    }
                    self.checks.handing_over(process.name, shards, writing, self.loop.time())
            self._look_at_who_is_cut_off()

    def _look_at_who_is_cut_off(self) -> None:
        if self.kube.down:
            return
        running = [h.process for h in self.hosts if h.process is not None]
        able = {p.name for p in running if p.able}
        for process in running:
            lost = process.host.cut or process.host.mute
            cut = lost and not (process.paused or process.draining)
            owned = process.app.shards.owned if cut else {}
            self.checks.cut_off(process.name, owned, able, self.loop.time())

    def _loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Violation):
            where = context.get("task") or context.get("handle") or ""
            self.unexpected(f"{context.get('message')}: {type(error).__name__}: {error} {where}")

    async def _settle(self) -> bool:
        self._heal()
        begun = self.loop.time()
        while self.violation is None:
            await asyncio.sleep(0.5)
            self._look()
            left = self.checks.unfinished()
            if not left:
                self.rested = self.loop.time() - begun
                return True
            if self.loop.time() - begun > SETTLE:
                text = f"not at rest after {SETTLE:g} s: {'; '.join(left[:6])}"
                self.failed(Violation("L1", text))
        return False

    def _heal(self) -> None:
        self.trace("heal")
        self.chaos = False
        self.redis.down = self.kube.down = False
        self.sick.clear()
        self.held.clear()
        self.refused.clear()
        self.unreadable.clear()
        self._end_holds()
        for found in self.state.objects("notificationrequests"):
            if HOLD_ANNOTATION in (found["metadata"].get("annotations") or {}):
                self._hold(found["metadata"]["name"], None)
        for host in self.hosts:
            host.cut, host.mute = False, ""
        for made in list(self.kube.watches):
            made.lag = 0.005
        for host in self.hosts:
            if host.process is None:
                host.start()
            else:
                host.process.resume()

    async def _actor(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Violation:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of the world, but not to be missed
            self.unexpected(f"the world itself: {type(error).__name__}: {error}")

    async def _create_all(self) -> None:
        share = self.profile.chaos * 0.6 / self.profile.objects
        while self._names < self.profile.objects:
            self._names += 1
            self.create(f"n{self._names}")
            await asyncio.sleep(self.dice.exponential(share / 2))

    async def _monkey(self) -> None:
        actions = self._actions()
        known = sorted(a for a in actions if a in self.profile.faults)
        while known:
            await asyncio.sleep(self.dice.exponential(1.2))
            actions[str(self.dice.choose(known))]()

    async def _operate(self) -> None:
        while True:
            await asyncio.sleep(self.dice.exponential(1.0))
            self.operator.act()

    def _actions(self) -> dict[str, Callable[[], None]]:
        dice = self.dice
        actions: dict[str, Callable[[], None]] = {
            "crash": self._crash,
            "pause": self._pause,
            "drain": self._drain,
            "suspend": self._suspend,
            "redis restart": lambda: self.lose(0.0),
            "redis failover": lambda: self.lose(dice.exponential(0.8)),
            "redis flush": lambda: self.flush() if dice.chance(0.3) else None,
            "redis down": self._redis_down,
            "redis corrupt": self.corrupt,
            "redis clock": self._step_clock,
            "kube down": self._kube_down,
            "watch close": lambda: self._watch(broken=dice.chance(0.5)),
            "watch stall": self._stall,
            "forgotten history": self._compact,
            "delete": lambda: self.delete(again=False) if dice.chance(0.4) else None,
            "name again": lambda: self.delete(again=True) if dice.chance(0.5) else None,
            "rival": lambda: self.edit(wipe=False),
            "wipe": lambda: self.edit(wipe=True) if dice.chance(0.3) else None,
            "hold": self._toggle_hold,
            "status refused": self._toggle_refused,
            "reads refused": self._toggle_unreadable,
            "annotation": self._annotate,
            "delivery hold": self._place_hold,
            "redis cut": self._cut_off,
            "redis mute": self._mute,
            "finalizer": lambda: self.delete_slowly() if dice.chance(0.4) else None,
            "session deleted": self._end_session,
            "lease watch": self._stall_leases,
            FORGER: lambda: self.forge(self.some_object()),
        }
        for fault in FAULTS:
            if fault.startswith("receiver "):
                actions[fault] = self._toggle_sick
        return actions

    def _victim(self) -> Process | None:
        running = [h.process for h in self.hosts if h.process is not None]
        return cast("Process", self.dice.choose(running)) if running else None

    def _crash(self) -> None:
        victim = self._victim()
        if victim is not None:
            victim.kill()
            victim.host.restart_after(self.dice.choose((0.1, 1.0, 6.0)) * self.dice.uniform(0.5, 1))

    def _pause(self) -> None:
        victim = self._victim()
        if victim is not None and not victim.paused:
            victim.pause()
            self.loop.world_call(self.dice.choose((0.3, 2.0, 8.0, 8.0)), victim.resume)

    def _drain(self) -> None:
        victim = self._victim()
        if victim is not None and not victim.draining:
            victim.drain()

    def _suspend(self) -> None:
        host = cast("Host", self.dice.choose(self.hosts))
        self.trace("suspend", host.name)
        host.offset += self.dice.uniform(1.0, 20.0)

    def _redis_down(self) -> None:
        if not self.redis.down:
            self.trace("redis-down")
            self.redis.down = True
            # Nobody journals in a shorter one.
            least = 0.0
            if self.profile.journal and self.dice.chance(0.7):
                least = 6.0
                for _ in range(2):
                    self._extra += 1
                    create = partial(self.create, f"late{self._extra}")
                    self.loop.world_call(self.dice.uniform(0.0, 6.0), create)
            self.loop.world_call(least + self.dice.exponential(2.0 + least), self._redis_up)

    def _redis_up(self) -> None:
        if self.redis.down:
            self.trace("redis-up")
            self.redis.down = False
            self.redis.restart()

    def _step_clock(self) -> None:
        if self.dice.chance(0.4):
            step = float(self.dice.choose((-3600.0, 60.0, 3600.0, 8 * _DAY)))
            self.trace("redis-clock", step)
            self._redis_skew += step
            self.ahead |= self._redis_skew > _DAY
            self.stepped = self.loop.time()

    def _kube_down(self) -> None:
        if not self.kube.down:
            self.trace("kube-down")
            self.kube.down = True
            self.kube.restart()
            self.loop.world_call(self.dice.exponential(2.0), self._kube_up)

    def _kube_up(self) -> None:
        self.trace("kube-up")
        self.kube.down = False

    def _watch(self, *, broken: bool) -> None:
        if self.kube.watches:
            self.kube.close(self.dice.choose(self.kube.watches), broken=broken)

    def _stall(self) -> None:
        if self.kube.watches and self.dice.chance(0.3):
            self.trace("watch-stall")
            self.dice.choose(self.kube.watches).stalled = True

    def _end_session(self) -> None:
        """Have somebody delete the session's Lease of a replica that lives."""
        found = self._ask("GET", _LEASES.rstrip("/"))
        names = sorted(x["metadata"]["name"] for x in cast("Json", found.body)["items"])
        sessions = [name for name in names if "-session-" in name]
        if sessions:
            name = str(self.dice.choose(sessions))
            self.trace("delete-session", name)
            self.checks.mark("session deleted by hand")
            self._ask("DELETE", f"{_LEASES}{name}")

    def _stall_leases(self) -> None:
        """Have a replica's watch of Leases fall silent, or late by more than a LeaseDuration."""
        watches = [w for w in self.kube.watches if w.stream.path == _LEASES.rstrip("/")]
        if watches:
            made = self.dice.choose(watches)
            if self.dice.chance(0.5):
                made.stalled = True
            else:
                made.lag = 3 * self.lease_duration
            self.trace("lease-watch", made.process.name, made.stalled)

    def _compact(self) -> None:
        self.state.compact()

    def _toggle_sick(self) -> None:
        if self.sick and self.dice.chance(0.6):
            self.sick.clear()
        else:
            self.sick.add(self._channel(self.dice.between(0, self.profile.channels)))

    def _toggle_hold(self) -> None:
        if self.held:
            self.held.clear()
        else:
            self.held.add(self._channel(self.dice.between(0, self.profile.channels)))

    def _cut_off(self) -> None:
        if any(host.cut for host in self.hosts):
            return
        host = cast("Host", self.dice.choose(self.hosts))
        self.trace("redis-cut", host.name)
        host.cut = True

        def mend() -> None:
            self.trace("redis-cut-ends", host.name)
            host.cut = False

        self.loop.world_call(self.dice.choose((2.0, 8.0, 60.0)), mend)

    def _mute(self) -> None:
        if any(host.mute for host in self.hosts):
            return
        struck = self.hosts
        if self.dice.chance(0.6):
            struck = [cast("Host", self.dice.choose(self.hosts))]
        how = str(self.dice.choose(("lose request", "lose reply")))
        for host in struck:
            self.trace("redis-mute", host.name, how)
            host.mute = how

        def mend() -> None:
            for host in struck:
                self.trace("redis-mute-ends", host.name)
                host.mute = ""

        self.loop.world_call(self.dice.choose((2.0, 8.0, 60.0)), mend)

    def _toggle_refused(self) -> None:
        found = self.some_object()
        if self.refused and self.dice.chance(0.2):
            self.refused.clear()
        elif found is not None:
            self.refused.add(found["metadata"]["name"])

    def _toggle_unreadable(self) -> None:
        if self.unreadable:
            self.unreadable.clear()
        else:
            self.unreadable.add(str(self.dice.choose((_NAMESPACE, _OTHER))))

    def _annotate(self) -> None:
        """Have an operator hold a notification, or let it go."""
        found = self.some_object()
        if found is not None:
            held = HOLD_ANNOTATION in (found["metadata"].get("annotations") or {})
            self._hold(found["metadata"]["name"], None if held else "true")

    def _hold(self, name: str, word: str | None) -> None:
        self.trace("annotate", name, word)
        change = {"metadata": {"annotations": {HOLD_ANNOTATION: word}}}
        self._ask("PATCH", self._path(name), change, form=MERGE_PATCH)

    def _place_hold(self) -> None:
        """Have an operator hold a receiver, or end that."""
        if self.state.objects(PLURAL):
            self._end_holds()
            return
        until = datetime.fromtimestamp(_EPOCH + self.loop.time() + 20.0, UTC)
        channel = self._channel(self.dice.between(0, self.profile.channels))
        self._holds += 1
        spec = {
            "receivers": [channel], "until": f"{until:%Y-%m-%dT%H:%M:%SZ}", "author": "operator",
            "reason": "it is mended",
        }  # fmt: skip
        body = {
            "apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": f"h{self._holds}"},
            "spec": spec,
        }  # fmt: skip
        response = self._ask("POST", _HOLDS, body)
        assert response.code == 201, response.body
        self.trace("place-hold", channel)

    def _end_holds(self) -> None:
        for hold in self.state.objects(PLURAL):
            self._ask("DELETE", f"{_HOLDS}/{hold['metadata']['name']}")

    def result(self) -> Result:
        """Sum up."""
        return Result(
            self.profile,
            self._digest.hexdigest(),
            dict(self.checks.marks),
            self.violation,
            tuple(self._tail),
            self.loop.time(),
            len(self.receivers.books),
            self.rested,
        )


class _Errors(logging.Handler):
    """Takes notice of errors that the product has only logged."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, LedgerError | Violation):
            self._world.unexpected(f"{record.getMessage()}: {type(error).__name__}: {error}")


@contextmanager
def _listening(world: World) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    handler = _Errors(world)
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def run(
    seed: int,
    *,
    live: bool,
    faults: frozenset[str] | None = None,
    chaos: float = 0.0,
    journal: bool = False,
    incidents: bool = False,
    tail: int | None = _TAIL,
) -> Result:
    """
    Live through one world.

    Args:
        seed: Of all that is drawn.
        live: Faults end, and all must come to rest.
        faults: Instead of those that the seed knows.
        chaos: Seconds that faults last at least.
        journal: Attempts are journaled, whatever the seed says.
        incidents: Notifications are about incidents, whatever the seed says.
        tail: Lines of the trace that are kept.
    """
    profile = Profile.draw(seed, live=live)
    profile = replace(profile, journal=profile.journal or journal)
    profile = replace(profile, chaos=max(profile.chaos, chaos))
    if incidents:
        profile = replace(profile, incidents=True, channels=1, objects=8)
    if faults is not None:
        profile = replace(profile, faults=faults, replicas=max(2, profile.replicas), bulky=False)
        if FORGER in faults:
            return run_profile(replace(profile, policy=False, journal=journal), tail=tail)
        profile = replace(profile, policy=True)
    return run_profile(profile, tail=tail)


def run_profile(profile: Profile, *, tail: int | None = _TAIL) -> Result:
    """Live through the world of a profile."""
    results: list[Result] = []

    async def main(loop: SimLoop) -> None:
        world = World(loop, profile, tail=tail)
        with _listening(world), keep_finished_for(profile.retention):
            await world.run()
        # Summed up before what is left is thrown away, which is no part of the run.
        results.append(world.result())

    try:
        simulate(profile.seed, main)
    except Deadlock as error:
        error.add_note(f"seed {profile.seed}, {'liveness' if profile.live else 'safety'}")
        raise
    return results[0]


@cache
def _crd(*, shows: bool) -> Json:
    return load_crd() if shows else upstream_form()


@cache
def _hold_crd() -> Json:
    """Return the definition of holds, without rules that the stand-in for the API server does not know."""
    text = Path(__file__).parents[2].joinpath("charts/notification-ledger/crds/deliveryholds.yaml")
    return cast("Json", _without_rules(yaml.safe_load(text.read_text())))


def _without_rules(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {k: _without_rules(v) for k, v in schema.items() if k != "x-kubernetes-validations"}
    return [_without_rules(v) for v in schema] if isinstance(schema, list) else schema


def _renews(request: Request) -> bool:
    return request.method == "PATCH" and request.path.startswith(_LEASES)


def _key(uid: str) -> str:
    return f"{_PREFIX}:{{{uid}}}"


def _value(metric: Any) -> float:
    samples = (s for m in metric.collect() for s in m.samples)
    return float(sum(s.value for s in samples if s.name.endswith("_total")))


def _sum(content: bytes) -> str:
    """Contents in a trace: worlds that differ in no more than a text are told apart."""
    return f"{zlib.crc32(content):08x}"


def _short(reply: Sequence[Any]) -> str:
    return " ".join(
        part.decode() if isinstance(part, bytes) else str(part)
        for part in reply[:2]
        if not isinstance(part, list)
    )


def _brief(args: Sequence[Argument]) -> str:
    texts = (a.decode("utf-8", "replace") if isinstance(a, bytes) else str(a) for a in args[:2])
    return " ".join(t[:40] for t in texts)
