"""
The world that chaos happens in: servers behind faulty connections, replicas, load, and eyes.

Replicas reach Redis and the API server only through proxies; the eyes (watch, dumps of the logs,
the receivers' books) look past them. Nothing here decides what goes wrong: `faults.py` does so at
random, `targeted.py` on purpose. `settle` is the liveness half: faults have ended, and everything
must come to rest within a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from redis.exceptions import RedisError

from syncer.model.carried import expand
from syncer.model.errors import ContractError
from tests.chaos.archive import Archive
from tests.chaos.broken import NONE
from tests.e2e.checker import TERMINAL, Call, Json, Log
from tests.e2e.harness import (
    BUSY,
    OK,
    QUICK,
    RENEW_DEADLINE,
    SEND_TIMEOUT,
    NotifierProcess,
    Receiver,
    Stage,
    Step,
    put,
    stage,
    until,
)
from tests.fakes.proxy import Proxy
from tests.integration.api import notification
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer
from tests.servers.users import acl_rule, url_of

ROOT: Final = Path(__file__).resolve().parents[2]
#: What each receiver does with the notifications that it is given, one script after the other.
GROUPS: Final[dict[str, tuple[tuple[Step, ...], ...]]] = {
    "steady": ((OK,),),
    "busy": ((OK,), (BUSY, OK), (BUSY, BUSY, OK)),
    "dropper": ((OK,), (Step(drop="after"), OK), (OK,), (BUSY, Step(drop="after"), OK)),
    "slow": ((Step(delay=0.8),), (Step(delay=0.3),)),
}
#: The group of notifications that go to two receivers, and what each of them does with them.
PAIR: Final = "pair"
_PAIR_SCRIPTS: Final = ((OK,), (BUSY, OK), (Step(drop="after"), OK))
#: Settings of `delivery` under which Redis may be away.
JOURNAL: Final[Json] = {"logOutage": "journal", "journalAfter": "1s"}
#: Objects looked at in one round of the dumps; the rest has its turn in the next.
_ROUND: Final = 40
_DUMP: Final = 0.3
#: Seconds between two rounds of the resync, and for how long something due may go unlooked-at once all is
#: well again: a round, one more for what the first one asked for, and a busy machine.
RESYNC: Final = 2
UNLOOKED: Final = 3 * RESYNC + 5
#: Seconds for which everything must stay at rest: a former owner gives a log the result that it has kept at
#: its next sweep, after the present owner has published what it knew.
REST: Final = 2 * RESYNC

_NETWORK: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


class Replica(NotifierProcess):
    """
    A replica that may be broken; see `broken.py`.

    Attributes:
        broken: The protection that is switched off.
        ttl: Seconds for which a finished log is kept.
        to_redis: Its own way to Redis.
    """

    def __init__(
        self, config: Path, log: Path, env: dict[str, str], health: int, metrics: int,
        *, broken: str, ttl: int, to_redis: Proxy,
    ) -> None:  # fmt: skip
        super().__init__(config, log, env, health, metrics)
        self.to_redis = to_redis
        self.broken = broken
        self.ttl = ttl

    @property
    def _program(self) -> list[str]:
        return ["tests.chaos.broken", self.broken, str(self.ttl)]


#: User of Redis, and its password.
USER: Final = "ledger"


@dataclass(slots=True)
class World:
    """One installation in trouble."""

    here: Stage
    plane: ControlPlane
    redis: RedisServer
    to_redis: Proxy
    to_api: Proxy
    receivers: dict[str, Receiver]
    rng: random.Random
    broken: str = NONE
    ttl: int = 0
    shards: int = 4
    #: Attempts are journaled in the status while Redis is away.
    journal: bool = False
    #: Held by whoever takes Redis away, so that nobody brings it back before its time.
    redis_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    replicas: list[Replica] = field(default_factory=list)
    archive: Archive = field(default_factory=Archive)
    landed: Counter[str] = field(default_factory=Counter)
    deleted: set[str] = field(default_factory=set)
    created: int = 0
    #: Notifications that need no more looks: final, and their log marked to the end.
    _rested: set[str] = field(default_factory=set)
    _opening: list[asyncio.Task[None]] = field(default_factory=list)

    # -- replicas and load ------------------------------------------------------------------------

    def replica(self) -> Replica:
        """Write the files of one more replica, under a health port of its own."""
        n = len(self.here.processes)
        health, metrics = free_port(), free_port()
        folder = self.here.folder
        config = folder / f"config-{n}.yaml"
        # Opened while the process starts, which takes longer.
        to_redis = Proxy(self.to_redis.port, port=free_port())
        self._opening.append(asyncio.create_task(to_redis.accept()))
        config.write_text(json.dumps(self._settings(health, metrics, to_redis.port)))
        env = {
            "KUBECONFIG": str(self._kubeconfig()),
            "KUBERNAUT_CONTROLLER_NAMESPACE": self.here.namespace,
            "ROUTING_CONFIG_PATH": str(self._routing()),
        }
        made = Replica(
            config, folder / f"notifier-{n}.log", env, health, metrics,
            broken=self.broken, ttl=self.ttl, to_redis=to_redis,
        )  # fmt: skip
        self.here.processes.append(made)
        self.replicas.append(made)
        return made

    def _settings(self, health: int, metrics: int, redis: int) -> Json:
        return {
            "controller": {
                "healthProbeAddr": f"127.0.0.1:{health}",
                "metricsAddr": f"127.0.0.1:{metrics}",
            },
            "delivery": {
                **(JOURNAL if self.journal else {"logOutage": "hold"}),
                "slack": {"timeout": f"{SEND_TIMEOUT}s"},
                "file": {"timeout": f"{SEND_TIMEOUT}s"},
                "credentials": {"dir": str(self.here.folder / "credentials")},
            },
            "redis": {
                "url": url_of(f"redis://127.0.0.1:{redis}", self.here.prefix, USER),
                "keyPrefix": self.here.prefix,
                "timeout": "1s",
            },
            "sharding": {
                "shards": self.shards,
                "renewDeadline": f"{RENEW_DEADLINE}s", "retryPeriod": "400ms", "margin": "500ms",
            },
            "sync": {
                "window": "100ms", "resync": f"{RESYNC}s", "liveSweep": "1s", "finishedSweep": "3s",
            },
            "events": {"enabled": False},
        }  # fmt: skip

    def _routing(self) -> Path:
        credentials = self.here.folder / "credentials"
        credentials.mkdir(exist_ok=True)
        for group, receiver in self.receivers.items():
            put(credentials / group, receiver.url)
        # Two receivers at once: a notification of several channels that end at different times.
        routes: list[Json] = [
            {"match": {"group": PAIR}, "receiver": "slow", "continue": True},
            {"match": {"group": PAIR}, "receiver": "busy"},
        ]
        routes += [{"match": {"group": group}, "receiver": group} for group in self.receivers]
        receivers = [
            {"name": group, "slackConfigs": [{"credentialRef": group}]} for group in self.receivers
        ]
        file = self.here.folder / "routing.yaml"
        put(
            file,
            json.dumps({"route": {"receiver": "steady", "routes": routes}, "receivers": receivers}),
        )
        return file

    def _kubeconfig(self) -> Path:
        """The controller's own, but for the way: through the proxy."""
        file = self.here.folder / "kubeconfig"
        text = self.plane.controller_kubeconfig.read_text()
        behind = urlsplit(self.plane.server)
        if behind.netloc not in text:
            raise AssertionError("the kubeconfig does not name the API server")
        put(file, text.replace(behind.netloc, f"127.0.0.1:{self.to_api.port}"))
        return file

    async def notify(self, name: str, group: str, *script: Step, **spec: Any) -> str:
        """Create a notification for one group; its uid, empty if that is not known."""
        for each in ("slow", "busy") if group == PAIR else (group,):
            self.receivers[each].scripts[name] = script or (OK,)
        policy = {**QUICK, "maxAttempts": 10}
        body = notification(
            name, **{"subject": name, "retryPolicy": policy, "extensions": {"group": group}, **spec}
        )
        with contextlib.suppress(*_NETWORK):
            reply = await self.here.api.ask("POST", self.here.api.requests, body)
            if reply.code == 201:
                self.created += 1
                return str(reply.body["metadata"]["uid"])
        return ""

    async def load(self, rate: float) -> None:
        """Create notifications for all receivers at a steady rate, until cancelled."""
        groups = {**GROUPS, PAIR: _PAIR_SCRIPTS}
        n = 0
        while True:
            for group, scripts in groups.items():
                script = scripts[(n // len(groups)) % len(scripts)]
                await self.notify(f"{group}-{n:05}", group, *script)
                n += 1
                await asyncio.sleep(self.rng.uniform(0.5, 1.5) / rate)

    # -- eyes -----------------------------------------------------------------------------------

    @property
    def book(self) -> list[Call]:
        """Calls of every receiver, in order of arrival."""
        calls = [c for r in self.receivers.values() for c in r.book]
        return sorted(calls, key=lambda c: c.at)

    def dump(self, logs: dict[str, Log]) -> None:
        """Keep what was read."""
        for uid, log in logs.items():
            self.archive.note(uid, log)

    async def watch_logs(self) -> None:
        """Dump logs, and hold them against statuses, again and again, until cancelled."""
        while True:
            # A schedule may have made a log unreadable; the judgement at the end reads them all.
            with contextlib.suppress(RedisError, ContractError, *_NETWORK):
                await self._round()
            await asyncio.sleep(_DUMP)

    async def _round(self) -> None:
        versions = self.here.watcher.versions
        open_ = [u for u in versions if u not in self._rested]
        self.rng.shuffle(open_)
        logs = await self.here.logs(open_)
        self.dump(logs)
        for uid in [u for u in logs if u not in self.gone][:_ROUND]:
            name = versions[uid][-1].name
            reply = await self.here.api.ask("GET", f"{self.here.api.requests}/{name}")
            if reply.code == 200 and reply.body["metadata"]["uid"] == uid:
                status = expand(reply.body.get("status") or {})
                self.archive.sample(uid, logs[uid], status, reply.revision)
                acked = logs[uid].header.acked == len(logs[uid].records)
                if status.get("phase") in TERMINAL and acked:
                    self._rested.add(uid)

    @property
    def gone(self) -> set[str]:
        """Uids of objects that were deleted."""
        return self.deleted | self.here.watcher.deleted

    # -- the end --------------------------------------------------------------------------------

    async def heal(self) -> None:
        """End every fault: all run, all answer, connections that were made silent are cut."""
        for proxy in (self.to_redis, self.to_api):
            proxy.faults.clear()
        for replica in self.replicas:
            if replica.running:
                replica.resume()
        await asyncio.to_thread(self.redis.heal)
        await asyncio.to_thread(self.plane.heal)
        for proxy in (self.to_redis, self.to_api, *(r.to_redis for r in self.replicas)):
            await proxy.accept()
            proxy.cut()
        for replica in self.replicas:
            if not replica.running:
                await asyncio.to_thread(replica.start)

    async def unfinished(self) -> list[str]:
        """What is not at rest yet, a sentence each."""
        reply = await self.here.api.ask("GET", self.here.api.requests)
        if reply.code != 200:
            return [f"the objects cannot be listed ({reply.code})"]
        present = set()
        for item in reply.body["items"]:
            self.here.watcher._note(item)
            present.add(item["metadata"]["uid"])
        versions = self.here.watcher.versions
        self.deleted |= set(versions) - present
        out = []
        logs = await self.here.logs()
        self.dump(logs)
        for uid, seen in versions.items():
            log, last = logs.get(uid), seen[-1]
            if uid in self.gone:
                if log is not None and any(s.state == 0 for s in log.states().values()):
                    out.append(f"{last.name} (deleted): an attempt is open")
            elif last.phase not in TERMINAL:
                out.append(f"{last.name}: phase {last.phase or 'not set'}")
            elif last.status.get("journal"):
                out.append(f"{last.name}: its log was not given what was journaled")
            elif log is not None and log.header.acked < len(log.records):
                out.append(f"{last.name}: acked {log.header.acked} of {len(log.records)}")
            elif log is not None and (missing := last.states().keys() - log.states().keys()):
                # A claim may make a log anew that has expired; the sweeps give it what is shown.
                out.append(f"{last.name}: its log was not given {', '.join(sorted(missing))}")
        return out

    async def unlooked(self) -> list[str]:
        """Replicas that may not have looked at something due for too long, a sentence each."""
        out = []
        for replica in self.replicas:
            if not replica.running:
                continue
            seconds = await replica.metric("notification_ledger_unlooked_seconds")
            if seconds > UNLOOKED:
                out.append(f"{replica.log.stem}: something may be unlooked-at for {seconds:.0f} s")
        return out

    async def settle(self, within: float) -> list[str]:
        """Wait until everything has been at rest for a while; what is not by then, empty if all is well."""
        moved = time.monotonic()
        deadline = moved + within
        left = ["nobody has looked yet"]
        while True:
            with contextlib.suppress(RedisError, *_NETWORK):
                left = await self.unfinished() + await self.unlooked()
            now = time.monotonic()
            if left:
                moved = now
            if now > deadline or now > moved + REST:
                return left
            await asyncio.sleep(0.5)


@asynccontextmanager
async def world(
    plane: ControlPlane,
    redis: RedisServer,
    folder: Path,
    *,
    seed: int,
    broken: str = NONE,
    ttl: int = 0,
    shards: int = 4,
    journal: bool = False,
) -> AsyncIterator[World]:
    """Set up receivers, proxies and eyes around servers that run, and clear them away."""
    behind_api, behind_redis = urlsplit(plane.server), urlsplit(redis.url)
    receivers = {group: Receiver() for group in GROUPS}
    async with contextlib.AsyncExitStack() as stack:
        for receiver in receivers.values():
            await stack.enter_async_context(receiver)
        to_redis = await stack.enter_async_context(_proxy(behind_redis.port))
        to_api = await stack.enter_async_context(
            _proxy(behind_api.port, plane.ca_file, plane.ca_file.with_suffix(".key"))
        )
        here = await stack.enter_async_context(stage(plane, redis.url, folder, sampled=False))
        # The replicas have no more rights than the page says; whoever watches them has all. Two worlds
        # may share a server: each has its prefix, and a user of that name.
        redis.grant(acl_rule(here.prefix, USER, prefix=here.prefix, page=USER))
        made = World(
            here, plane, redis, to_redis, to_api, receivers, random.Random(seed),  # noqa: S311 - no secret
            broken, ttl, shards, journal,
        )  # fmt: skip
        eyes = asyncio.create_task(made.watch_logs())
        try:
            yield made
        finally:
            await end(eyes)
            for replica in made.replicas:
                await asyncio.to_thread(replica.kill)
            await asyncio.gather(*made._opening, return_exceptions=True)
            for process in here.processes:
                if isinstance(process, Replica):
                    await process.to_redis.__aexit__(None, None, None)


def _proxy(port: int | None, certificate: Path | None = None, key: Path | None = None) -> Proxy:
    if port is None:
        raise AssertionError("a server behind a proxy needs a port")
    return Proxy(port, certificate=certificate, key=key)


async def end(*tasks: asyncio.Task[None]) -> None:
    """
    Cancel tasks until they have ended.

    Asked once only, a task may go on: redis-py's pipeline swallows a cancellation that comes while
    it gives its connection back.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.5)
    broken = [t.exception() for t in tasks if not t.cancelled() and t.exception()]
    assert not broken, f"an observer broke: {broken}"


async def frozen(replica: Replica, failpoint: str, *, within: float = 30.0) -> None:
    """Wait until a replica has stopped itself at a failpoint."""
    await until(lambda: replica.landed(failpoint) > 0, f"it stops at {failpoint}", within=within)


def sentences(left: Sequence[str], most: int = 10) -> str:
    """The first of some sentences, for a person."""
    more = f"\n  and {len(left) - most} more" if len(left) > most else ""
    return "".join(f"\n  {s}" for s in left[:most]) + more
