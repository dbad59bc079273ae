"""
What an end-to-end test stands on: a receiver, the controller as a process, independent eyes.

A `Stage` is one installation: a namespace, a key prefix, a receiver, a folder of files, a watch.
Many stages share one API server and one Redis and do not meet, so cases may run side by side.
Processes that a stage starts end with it.

Nothing here looks inside the controller. What it did is read where an operator would read it: the
object's versions through a watch with the administrator's token, the log through a plain Redis
connection, readiness and metrics over HTTP, the process's own log on its standard error. What the
receiver saw is in the receiver's own book.

Every wait has a deadline and says what it waited for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Self

import aiohttp
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from syncer.model.carried import expand
from syncer.model.errors import ContractError
from syncer.runtime.failpoints import VARIABLE
from tests.e2e.checker import TERMINAL, Call, Findings, Json, Log, Sample, Version, check
from tests.integration.api import Api
from tests.servers import starts
from tests.servers.controlplane import ControlPlane
from tests.servers.listening import listening, reset
from tests.servers.ports import free_port
from tests.servers.recipe import POLICY

ROOT: Final = Path(__file__).resolve().parents[2]
#: LeaseDuration that `BRISK` and `SEND_TIMEOUT` come to: renewDeadline + timeout + margin.
LEASE_SECONDS: Final = 3.0
RENEW_DEADLINE: Final = 1.0
SEND_TIMEOUT: Final = 1.5
#: For tests that wait for a lease to run out; on a busy machine one does by itself.
BRISK: Final = {"renewDeadline": f"{RENEW_DEADLINE}s"}
#: Seconds for an answer of a receiver on a busy machine: a late one would be an unknown result.
PATIENT: Final = 6.0
CHANNEL: Final = "slack:ops"
#: Waits and a budget that let a test end soon.
QUICK: Final[Json] = {
    "maxAttempts": 5, "initialBackoffSeconds": 1, "backoffMultiplier": 1, "maxBackoffSeconds": 60,
}  # fmt: skip
_POLL: Final = 0.02
#: Seconds between questions to somebody else: each answer costs him, and metrics a hundredth of a second.
_ASK: Final = 0.1
_SAMPLE: Final = 0.2
#: Seconds for a start: where a definition is new, the API server may refuse its lists for a minute.
_START: Final = 120.0

Drop = Literal["", "before", "after"]


def put(file: Path, text: str) -> None:
    """Write a file that replicas share, unless it is there: one that starts may be reading it."""
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


async def until(
    condition: Callable[[], bool | Awaitable[bool]],
    what: str | Callable[[], str],
    *,
    within: float = 30.0,
    every: float = 0.0,
) -> None:
    """
    Wait for a condition.

    Args:
        condition: What is waited for.
        what: Its name in the error.
        within: Seconds to wait at most.
        every: Seconds between two looks; by default few for what is known here, more for a coroutine,
            which asks others.

    Raises:
        AssertionError: it did not hold within so many seconds; says what was waited for.
    """
    deadline = time.monotonic() + within
    while True:
        held, pause = condition(), every or _POLL
        if not isinstance(held, bool):
            held, pause = await held, every or _ASK
        if held:
            return
        if time.monotonic() > deadline:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {within:g} s: {text}")
        await asyncio.sleep(pause)


# -- receiver -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """
    What the receiver does with one call.

    Attributes:
        code: Status code of the answer.
        body: Body of the answer.
        delay: Seconds between reading the call and answering it.
        drop: `after`: read and act upon it, then reset (process-then-drop). `before`: reset as soon
            as the subject is known, acting on nothing; it is not booked.
        gate: Not answered before it is set.
    """

    code: int = 200
    body: str = "ok"
    delay: float = 0.0
    drop: Drop = ""
    gate: asyncio.Event | None = None

    @property
    def processed(self) -> bool:
        """Whether the receiver acts upon such a call."""
        return self.drop == "after" or (not self.drop and 200 <= self.code <= 299)


OK: Final = Step()
BUSY: Final = Step(503, "the receiver is busy")


class Receiver:
    """
    An HTTP server that does as it is told and keeps its own book.

    Each notification, told by its subject, has its own script; `default` serves all others. The
    last step of a script repeats. A call is booked once it was read whole, before it is answered.

    Attributes:
        book: Calls in order of arrival.
        dropped: Calls that were reset unread, by subject.
    """

    def __init__(self, default: Sequence[Step] = (OK,), *, host: str = "127.0.0.1") -> None:
        self.default = tuple(default)
        self.host = host
        self.scripts: dict[str, tuple[Step, ...]] = {}
        self.book: list[Call] = []
        self.dropped: list[str] = []
        self.port = 0
        self._taken: dict[str, int] = {}
        self._open = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        """Address of the webhook."""
        return f"http://{self.host}:{self.port}/services/hook"

    def calls(self, subject: str) -> list[Call]:
        """Calls about one notification, in order."""
        return [c for c in self.book if c.subject == subject]

    async def __aenter__(self) -> Self:
        """Listen."""
        self.port = await self._open.enter_async_context(listening(self._serve, self.host))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and give up calls that are still unanswered."""
        await self._open.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(30):
            await self._answer(reader, writer)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        at = time.monotonic()
        subject = subject_of(body)
        script = self.scripts.get(subject, self.default)
        n = self._taken.get(subject, 0)
        self._taken[subject] = n + 1
        step = script[min(n, len(script) - 1)]
        if step.drop == "before":
            self.dropped.append(subject)
            reset(writer)
            return
        call = Call(
            at=at,
            subject=subject,
            key=headers.get("idempotency-key", "").strip('"'),
            attempt=headers.get("x-notification-attempt", ""),
            body=hashlib.sha256(body).hexdigest(),
            code=0 if step.drop else step.code,
            processed=step.processed,
        )
        self.book.append(call)
        await asyncio.sleep(step.delay)
        if step.gate is not None:
            await step.gate.wait()
        if step.drop:
            reset(writer)
            return
        call.answered = time.monotonic()
        text = step.body.encode()
        writer.write(
            f"HTTP/1.1 {step.code} Scripted\r\nContent-Length: {len(text)}\r\n"
            "Content-Type: text/plain\r\nConnection: close\r\n\r\n".encode()
            + text
        )
        await writer.drain()


def subject_of(body: bytes) -> str:
    """The subject in a Slack payload (the header's text after its emoji), or in a webhook's."""
    payload = json.loads(body)
    if "blocks" not in payload:
        return str(payload["subject"])
    text: str = payload["blocks"][0]["text"]["text"]
    return text.partition(" ")[2]


# -- the controller as a process ------------------------------------------------------------------


async def page(port: int, path: str) -> tuple[int, str]:
    """GET a page of an admin server; code 0 if nobody answers."""
    timeout = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.request(
            "GET", f"http://127.0.0.1:{port}{path}", timeout=timeout
        ) as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, OSError):
        return 0, ""


class NotifierProcess:
    """
    `notifier run` as a process of its own, in its own process group.

    The health port stays over restarts: the lease identity of a process is host name and health
    port, so the next start under it takes the lease of the one before at once. Standard error goes
    to a file; `lines` reads it.

    Attributes:
        command: Of the program.
        health_port: Serves /healthz and /readyz.
        metrics_port: Serves /metrics.
        log: The file with everything that all starts wrote.
    """

    def __init__(
        self, config: Path, log: Path, env: Mapping[str, str], health: int, metrics: int
    ) -> None:
        self.command = "run"
        self.health_port = health
        self.metrics_port = metrics
        self.log = log
        self._config = config
        self._env = dict(env)
        self._process: starts.Process | None = None
        self._starts = 0
        self._read = 0
        self._lines: list[Json] = []

    @property
    def running(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._process is not None and self._process.poll() is None

    def start(self, failpoints: str = "") -> Self:
        """Start it; `failpoints` is the text of the variable, for example `after-send=kill`."""
        self.kill()
        env = {k: v for k, v in os.environ.items() if k != VARIABLE} | starts.UNTRUSTING | self._env
        if failpoints:
            env[VARIABLE] = failpoints
        with self.log.open("ab") as log:
            self._process = starts.start(
                [*self._program, self.command, "--config", str(self._config)],
                stdout=log, stderr=log, env=env,
            )  # fmt: skip
        self._starts += 1
        return self

    @property
    def _program(self) -> list[str]:
        """The module, and its arguments before the command."""
        return ["notifier"]

    async def wait_ready(self, within: float = _START) -> Self:
        """Wait until /readyz says yes."""

        async def ready() -> bool:
            self._must_run("ready")
            code, _ = await self.ask("/readyz")
            return code == 200

        await until(ready, lambda: f"the notifier is ready; {self.tail()}", within=within)
        return self

    async def wait_exit(self, within: float = 40.0) -> int:
        """Wait until it has ended; returns the exit code, negative for a signal."""
        await until(
            lambda: not self.running, lambda: f"the notifier ends; {self.tail()}", within=within
        )
        assert self._process is not None
        code = self._process.returncode
        assert code is not None
        return code

    async def ask(self, path: str, *, metrics: bool = False) -> tuple[int, str]:
        """GET a page of the admin server; code 0 if nobody answers."""
        return await page(self.metrics_port if metrics else self.health_port, path)

    async def metric(self, name: str, **labels: str) -> float:
        """Value of one series, 0 if it has not been written yet."""
        _, text = await self.ask("/metrics", metrics=True)
        for line in text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? ([^ ]+)", line)
            if found and all(f'{k}="{v}"' in (found[1] or "") for k, v in labels.items()):
                return float(found[2])
        return 0.0

    async def wait_says(self, code: int, *words: str, within: float = 30.0) -> None:
        """Wait until /readyz answers with this code, and holds all of these words."""

        async def says() -> bool:
            found, text = await self.ask("/readyz")
            return found == code and all(w in text for w in words)

        await until(says, lambda: f"/readyz is {code}, {words}; {self.tail()}", within=within)

    async def wait_metric(
        self, name: str, wanted: float, *, within: float = 30.0, **labels: str
    ) -> None:
        """Wait until one of our series has a value."""

        async def shown() -> bool:
            return await self.metric(f"notification_ledger_{name}", **labels) == wanted

        await until(shown, lambda: f"{name} {labels} is {wanted}; {self.tail()}", within=within)

    def sigterm(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now, if it runs (SIGKILL)."""
        if self.running:
            self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(15)

    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Wake it (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def lines(self, event: str = "") -> list[Json]:
        """What it has logged, over all starts; with `event` only lines of that event."""
        # Many wait for a line and ask again and again: what was read once is not read again.
        with contextlib.suppress(FileNotFoundError), self.log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
            whole = fresh[: fresh.rfind(b"\n") + 1]
            self._read += len(whole)
            for text in whole.decode(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    line = json.loads(text)
                    if isinstance(line, dict):
                        self._lines.append(line)
        return [line for line in self._lines if not event or line.get("event") == event]

    def landed(self, name: str) -> int:
        """How often a failpoint has acted."""
        return sum(line.get("failpoint") == name for line in self.lines())

    async def seconds_to_acquire(self) -> float:
        """From the newest start to the shard acquired after it, by the stamps of the log."""

        def waited() -> list[float]:
            began = [_stamp(line) for line in self.lines("starting")][self._starts - 1 :]
            owned = [_stamp(line) for line in self.lines("shard acquired")]
            return [stamp - began[0] for stamp in owned if began and stamp > began[0]]

        await until(lambda: bool(waited()), lambda: f"it owns; {self.tail()}")
        return waited()[0]

    def tail(self) -> str:
        """The end of the log, for messages."""
        with contextlib.suppress(FileNotFoundError):
            return f"its log ends with:\n{self.log.read_text(errors='replace')[-2000:]}"
        return "it has no log"

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _must_run(self, what: str) -> None:
        if not self.running:
            code = self._process.returncode if self._process else None
            raise AssertionError(f"the notifier ended ({code}) before it was {what}; {self.tail()}")


def _stamp(line: Json) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


# -- eyes -----------------------------------------------------------------------------------------


class Watcher:
    """
    An independent watch of one namespace: every version of every object, in order.

    Attributes:
        versions: By uid.
        deleted: Uids whose deletion was seen.
        gaps: Times at which versions were missed that the API server's history does not have either.
    """

    def __init__(self, api: Api) -> None:
        self.versions: dict[str, list[Version]] = {}
        self.deleted: set[str] = set()
        self.gaps = 0
        self._api = api
        self._from = ""
        self._listed = False

    async def run(self) -> None:
        """Watch until cancelled; a server that is away is waited for."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
                if not self._from or await self._set_back():
                    await self._list()
                await self._watch()
            await asyncio.sleep(0.1)

    def last(self, uid: str) -> Version:
        """Newest version of an object; one that says nothing if there is none."""
        return (self.versions.get(uid) or [Version(uid, "", "0", {})])[-1]

    def phase(self, uid: str) -> str:
        """Newest phase of an object."""
        return self.last(uid).phase

    async def _set_back(self) -> bool:
        """Whether a restored etcd has not come as far as was seen: a watch from there would be silent."""
        reply = await self._api.ask("GET", f"{self._api.requests}?limit=1")
        return reply.code == 200 and int(reply.revision) < int(self._from)

    async def _list(self) -> None:
        reply = await self._api.ask("GET", self._api.requests)
        if reply.code != 200:
            return
        for item in reply.body["items"]:
            if self._listed:
                await self._catch_up(item)
            self._note(item)
        there = {item["metadata"]["uid"] for item in reply.body["items"]}
        self.gaps += bool(self.versions.keys() - there - self.deleted)
        self._listed = True
        self._from = reply.revision

    async def _catch_up(self, item: Json) -> None:
        """Note an object's versions between the last that was seen and this one."""
        meta = item["metadata"]
        last = self.last(meta["uid"])
        version, known = int(meta["resourceVersion"]), int(last.resource_version)
        missed: list[Json] = []
        while version > known:
            query = f"fieldSelector=metadata.name%3D{meta['name']}&resourceVersionMatch=Exact"
            reply = await self._api.ask(
                "GET", f"{self._api.requests}?{query}&resourceVersion={version - 1}"
            )
            if reply.code != 200:
                self.gaps += 1
                break
            before = [i for i in reply.body["items"] if i["metadata"]["uid"] == meta["uid"]]
            if not before:
                break
            missed += before
            version = int(before[0]["metadata"]["resourceVersion"])
        for document in reversed(missed):
            self._note(document)

    async def _watch(self) -> None:
        params = {
            "watch": "true", "resourceVersion": self._from, "allowWatchBookmarks": "true",
            "timeoutSeconds": "300",
        }  # fmt: skip
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=310)
        session = self._api._session
        # A line holds a whole object; the default would break at a quarter of what one may have.
        async with session.get(
            self._api.requests, params=params, timeout=timeout, read_bufsize=4 << 20
        ) as answer:
            if answer.status != 200:
                # Any other refusal passes: the server fills its cache anew when a definition has changed.
                if answer.status == 410:
                    self._from = ""
                return
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    if event["object"]["code"] == 410:
                        self._from = ""
                    return
                if event["type"] != "BOOKMARK":
                    self._note(event["object"])
                if event["type"] == "DELETED":
                    self.deleted.add(event["object"]["metadata"]["uid"])
                self._from = event["object"]["metadata"]["resourceVersion"]

    def _note(self, document: Json) -> None:
        meta = document["metadata"]
        seen = self.versions.setdefault(meta["uid"], [])
        if not seen or seen[-1].resource_version != meta["resourceVersion"]:
            status = expand(document.get("status") or {})
            seen.append(Version(meta["uid"], meta["name"], meta["resourceVersion"], status))


async def create_notification(api: Api, name: str, **spec: Any) -> str:
    """
    Create a notification whose subject is its name; returns the uid.

    Its retry policy is `QUICK` unless `retryPolicy` says otherwise.
    """
    wanted = {"subject": name, "retryPolicy": QUICK, **spec}
    created = await api.create(name, **wanted)
    return str(created["metadata"]["uid"])


async def _ended(task: asyncio.Task[None]) -> BaseException | None:
    """
    End a task; returns what it raised.

    redis-py's pipelines write under a `wait_for` that can lose a cancellation on Python 3.11, so one
    may not be enough.
    """
    for _ in range(40):
        task.cancel()
        await asyncio.wait({task}, timeout=0.25)
        if task.done():
            return None if task.cancelled() else task.exception()
    raise TimeoutError("an observer does not end")


# -- one installation -----------------------------------------------------------------------------


@dataclass(slots=True)
class Stage:
    """One installation and everything that watches it."""

    plane: ControlPlane
    namespace: str
    redis_url: str
    prefix: str
    folder: Path
    receiver: Receiver
    api: Api
    watcher: Watcher
    redis: redis_asyncio.Redis
    send_timeout: float = PATIENT
    #: Of another user than the control plane's controller.
    kubeconfig: Path | None = None
    samples: list[Sample] = field(default_factory=list)
    processes: list[NotifierProcess] = field(default_factory=list)
    _marks: dict[str, bytes] = field(default_factory=dict)

    @property
    def output(self) -> Path:
        """Where the file channel writes."""
        return self.folder / "output"

    async def rewrite(self, name: str, change: Callable[[Json], object]) -> None:
        """Change a notification in etcd: as one that was stored long ago, or under an older definition."""
        path = f"/registry/kubernaut.ai/notificationrequests/{self.namespace}/{name}"
        key = base64.b64encode(path.encode()).decode()
        (found,) = (await self.plane.etcd("kv/range", {"key": key}))["kvs"]
        document = json.loads(base64.b64decode(found["value"]))
        change(document)
        value = base64.b64encode(json.dumps(document).encode()).decode()
        await self.plane.etcd("kv/put", {"key": key, "value": value})

    def notifier(self, *, to: str = "slack", **settings: Json) -> NotifierProcess:
        """
        Write the files of one replica; it is not started yet.

        Args:
            to: `slack` or `file`: where everything is routed.
            settings: Further members of the settings' groups, for example `sync={"window": "1s"}`.
        """
        n = len(self.processes)
        health, metrics = free_port(), free_port()
        credentials = self.folder / "credentials"
        credentials.mkdir(exist_ok=True)
        put(credentials / "slack-ops", self.receiver.url)
        receiver = {
            "slack": {"name": "ops", "slackConfigs": [{"credentialRef": "slack-ops"}]},
            "file": {"name": "ops", "fileConfigs": [{"enabled": True}]},
        }[to]
        routing = self.folder / "routing.yaml"
        put(routing, json.dumps({"route": {"receiver": "ops"}, "receivers": [receiver]}))
        output = str(self.output) if to == "file" else ""
        document: Json = {
            "controller": {
                "healthProbeAddr": f"127.0.0.1:{health}",
                "metricsAddr": f"127.0.0.1:{metrics}",
            },
            "delivery": {
                "slack": {"timeout": f"{self.send_timeout}s"},
                "file": {"outputDir": output, "timeout": f"{self.send_timeout}s"},
                "credentials": {"dir": str(credentials)},
            },
            "redis": {"url": self.redis_url, "keyPrefix": self.prefix, "timeout": "1s"},
            "sharding": {
                "shards": 1,
                "renewDeadline": "5s", "retryPeriod": "400ms", "margin": "500ms",
            },
            "sync": {
                "window": "100ms", "liveSweep": "1s", "finishedSweep": "1s", "statusPolicy": POLICY,
            },
            "events": {"enabled": False},
        }  # fmt: skip
        for group, members in settings.items():
            document[group] = {**document.get(group, {}), **members}
        config = self.folder / f"config-{n}.yaml"
        config.write_text(json.dumps(document))
        env = {
            "KUBECONFIG": str(self.kubeconfig or self.plane.controller_kubeconfig),
            "KUBERNAUT_CONTROLLER_NAMESPACE": self.namespace,
            "ROUTING_CONFIG_PATH": str(routing),
        }
        process = NotifierProcess(config, self.folder / f"notifier-{n}.log", env, health, metrics)
        self.processes.append(process)
        return process

    def script(self, name: str, *steps: Step) -> None:
        """Tell the receiver what to do with the calls about one notification."""
        self.receiver.scripts[name] = steps

    async def create(self, name: str, **spec: Any) -> str:
        """As `create_notification`."""
        return await create_notification(self.api, name, **spec)

    async def wait_phase(self, uid: str, phase: str = "Sent", *, within: float = 30.0) -> Version:
        """Wait until an object has a phase; returns that version."""

        def where() -> str:
            logs = "\n".join(p.tail() for p in self.processes)
            return f"{uid} is {phase}, it is {self.watcher.phase(uid) or 'new'}; {logs}"

        await until(lambda: self.watcher.phase(uid) == phase, where, within=within)
        return self.watcher.last(uid)

    async def wait_sent(self, uids: Iterable[str], *, within: float = 30.0) -> list[Version]:
        """Wait until all are sent, each within so many seconds; returns the versions that say so."""
        return [await self.wait_phase(uid, within=within) for uid in uids]

    async def wait_acked(self, uids: Sequence[str], *, within: float = 30.0) -> None:
        """Wait until the logs of finished notifications are marked as published, to the end."""
        missing: dict[str, str] = {}

        async def acked() -> bool:
            logs = await self.logs(uids)
            missing.clear()
            for uid in uids:
                # A first CLAIM makes a log without a record, which the second one gives it.
                if (log := logs.get(uid)) is None:
                    missing[uid] = "no log"
                elif not log.records or log.header.acked != len(log.records):
                    missing[uid] = f"{log.header.acked} of {len(log.records)}"
            return not missing

        await until(acked, lambda: f"all of each log is acked: {missing}", within=within)

    async def logs(self, uids: Sequence[str] | None = None) -> dict[str, Log]:
        """Logs by uid, read straight from Redis; of everything seen by the watch by default."""
        wanted = list(self.watcher.versions) if uids is None else list(uids)
        pipeline = self.redis.pipeline(transaction=False)
        for uid in wanted:
            pipeline.lrange(f"{self.prefix}:{{{uid}}}", 0, -1)
        found = await pipeline.execute() if wanted else []
        return {u: Log.read(log) for u, log in zip(wanted, found, strict=True) if log}

    async def lengths(self, uids: Sequence[str]) -> list[int]:
        """Number of elements of each log, header included; 0 where there is none."""
        pipeline = self.redis.pipeline(transaction=False)
        for uid in uids:
            pipeline.llen(f"{self.prefix}:{{{uid}}}")
        return [int(n) for n in await pipeline.execute()]

    async def findings(self, *, finished: bool = True, others: Sequence[Receiver] = ()) -> Findings:
        """What the checker says of everything up to now; `others` have been called as well."""
        await self._sample()
        books = [call for each in (self.receiver, *others) for call in each.book]
        return check(
            sorted(books, key=lambda call: call.at), await self.logs(), self.watcher.versions,
            self.samples, finished=finished,
        )  # fmt: skip

    async def sound(
        self,
        uids: Sequence[str] = (),
        *,
        within: float = 30.0,
        finished: bool = True,
        others: Sequence[Receiver] = (),
    ) -> Findings:
        """
        Wait until all is well at the end; returns the findings for more questions.

        A former owner may still hand in what it has kept, and the watch may be behind: what is wrong for
        good is wrong.

        Args:
            uids: Whose logs are there, and marked as published to the end, within so many seconds.
            within: Of that.
            finished: Everything has ended.
            others: Further receivers.
        """
        await self.wait_acked(uids, within=within)
        said: list[Findings] = []

        async def well() -> bool:
            said.append(await self.findings(finished=finished, others=others))
            return not said[-1].violations

        await until(well, lambda: str(said[-1]), every=0.5)
        assert not self.watcher.gaps, "the watch has missed versions"
        return said[-1]

    async def sampling(self) -> None:
        """Hold logs against statuses again and again, until cancelled."""
        while True:
            with contextlib.suppress(RedisError, aiohttp.ClientError, OSError, TimeoutError):
                await self._sample()
            await asyncio.sleep(_SAMPLE)

    async def _sample(self) -> None:
        """Where a log's mark has moved: the log, then its object's status, in this order."""
        live = [u for u in self.watcher.versions if u not in self.watcher.deleted]
        pipeline = self.redis.pipeline(transaction=False)
        for uid in live:
            pipeline.lindex(f"{self.prefix}:{{{uid}}}", 0)
        headers = await pipeline.execute() if live else []
        moved = [u for u, h in zip(live, headers, strict=True) if h and self._marks.get(u) != h]
        if not moved:
            return
        logs = await self.logs(moved)
        reply = await self.api.ask("GET", self.api.requests)
        if reply.code != 200:
            return
        items = reply.body["items"]
        statuses = {i["metadata"]["uid"]: expand(i.get("status") or {}) for i in items}
        for uid, log in logs.items():
            if uid in statuses:
                self.samples.append(Sample(uid, log, statuses[uid]))
                self._marks[uid] = log.header.encode()


@asynccontextmanager
async def stage(
    plane: ControlPlane,
    redis_url: str,
    folder: Path,
    *,
    default: Sequence[Step] = (OK,),
    sampled: bool = True,
    send_timeout: float = PATIENT,
) -> AsyncIterator[Stage]:
    """
    Set up an installation in a fresh namespace and under a fresh prefix, and clear it away.

    Args:
        plane: Shared with other stages.
        redis_url: Shared, too.
        folder: Is made, for files and logs.
        default: The receiver's script for whatever has none of its own.
        sampled: Hold logs against statuses all the time; costs some CPU.
        send_timeout: Seconds that the receiver has for an answer; the lease grows with it.
    """
    name = f"e2e-{uuid.uuid4().hex[:12]}"
    try:
        await asyncio.to_thread(plane.api.create_namespace, name)
    except ConnectionRefusedError:  # the test before has killed it
        await asyncio.to_thread(plane.heal)
        await asyncio.to_thread(plane.api.create_namespace, name)
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    # Its connections are older than a server that was restarted, and it finds out at the next call.
    again = Retry(ConstantBackoff(0.2), 3, supported_errors=(RedisConnectionError,))
    async with (
        Receiver(default) as receiver,
        redis_asyncio.Redis.from_url(
            redis_url, socket_timeout=5, socket_connect_timeout=5, retry=again
        ) as client,
        Api(plane.server, plane.admin_token, plane.ca_file, namespace=name) as api,
    ):
        watcher = Watcher(api)
        made = Stage(plane, name, redis_url, name, folder, receiver, api, watcher, client)
        made.send_timeout = send_timeout
        eyes = [asyncio.create_task(watcher.run())]
        if sampled:
            eyes.append(asyncio.create_task(made.sampling()))
        try:
            yield made
        finally:
            for process in made.processes:
                await asyncio.to_thread(process.kill)
            ended = [await _ended(task) for task in eyes]
    # A cancelled watch leaves a TLS connection that needs some turns of the loop to be closed.
    await asyncio.sleep(0.1)
    broken = [e for e in ended if e and not isinstance(e, asyncio.CancelledError)]
    assert not broken, f"an observer broke: {broken}"


__all__ = [
    "BRISK", "BUSY", "CHANNEL", "LEASE_SECONDS", "OK", "QUICK", "RENEW_DEADLINE", "TERMINAL",
    "ContractError", "NotifierProcess", "Receiver", "Stage", "Step", "Watcher",
    "create_notification", "page", "stage", "until",
]  # fmt: skip
