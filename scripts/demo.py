"""
The main job, shown on one machine: three attempts, three records, one message.

The real controller (`notifier run`, a process of its own) delivers one NotificationRequest to a
receiver that answers 503, 503 and 200, each time with the same body. The receiver keeps its own
list of calls, and before it answers it looks into Redis: is this very attempt on record already? At
the end its list and the record are compared, attempt by attempt; any difference gives exit code 1.

Servers that block while they start (a real API server, Redis) are started first, without an event
loop, so that an interrupt ends them at once. Then the loop runs the stand-in for the API server, the
receiver, a separate watch on the object, and a reader of the log. The controller knows of none of
them. Every part is stopped on every way out, and a guard process ends the servers even if this one is
killed.

On a user's own cluster and Redis the demo works in a namespace and under a key prefix of its own,
deletes both at the end, and never touches the CustomResourceDefinition unless it is told to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO, cast
from urllib.parse import urlsplit, urlunsplit

import orjson
from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from syncer.kube.client import KubeClient
from syncer.ledger.reading import snapshot_of
from syncer.model.attempt import AttemptState
from syncer.model.carried import expand
from syncer.model.errors import ContractError, Gone, KindMissing, LedgerError, PortError
from syncer.model.record import (
    Header,
    Kind,
    Record,
    read_attempt,
)
from tests.fakes.apiserver import FakeApiServer
from tests.servers.controlplane import ControlPlane, built_programs
from tests.servers.ports import free_port
from tests.servers.process import ServerError, ServerProcess
from tests.servers.recipe import ApiError
from tests.servers.redis import RedisServer, find_binary
from tests.servers.users import USERS, acl_rule, url_of

ROOT: Final = Path(__file__).resolve().parent.parent
Json = dict[str, Any]

CRD: Final = ROOT / "charts" / "notification-ledger" / "files" / "crd.yaml"
CRD_PATH: Final = (
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/notificationrequests.kubernaut.ai"
)
GROUP_PATH: Final = "/apis/kubernaut.ai/v1alpha1"
NAME: Final = "disk-full"
CHANNEL: Final = "slack:ops"
#: What the receiver answers, one code per call; the last one repeats.
SCRIPT: Final = (503, 503, 200)
ANSWER: Final = "upstream connect error"
SPEC: Final[Json] = {
    "type": "Simple",
    "priority": "High",
    "subject": "Disk full on node-7",
    "body": "/var is at 97 %. Oldest logs are rotated first.",
    "retryPolicy": {"maxAttempts": 5, "initialBackoffSeconds": 1, "backoffMultiplier": 2},
}
TERMINAL: Final = frozenset({"Sent", "PartiallySent", "Failed"})

START_DEADLINE: Final = 60.0
PHASE_DEADLINE: Final = 60.0
ACK_DEADLINE: Final = 15.0
CLEAN_DEADLINE: Final = 20.0
READ_DEADLINE: Final = 600.0  # for the person who wants to look into Redis
CALL_TIMEOUT: Final = 10.0
#: Seconds to wait after the final status, so that an extra call would be seen.
SILENCE: Final = 0.5
LOG_PERIOD: Final = 0.03


class Problem(Exception):
    """The demo cannot go on; the text says why."""


# ------------------------------------------------------------------------------ what is observed


@dataclass(slots=True)
class Call:
    """
    One request as the receiver saw it.

    Attributes:
        at: Seconds after the object was created.
        attempt: Attempt id from its header.
        key: Its idempotency key.
        code: Status code of the answer.
        recorded: Whether the log had an intent with this id while the request was waiting.
    """

    at: float
    attempt: str
    key: str
    code: int
    recorded: bool


@dataclass(slots=True)
class Seen:
    """Everything observed so far, from three sources that know nothing of each other."""

    began: float = 0.0
    #: Redis time in milliseconds at that moment.
    began_redis: int = 0
    uid: str = ""
    created: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[Call] = field(default_factory=list)
    elements: list[bytes] = field(default_factory=list)
    header: Header | None = None
    records: list[Record] = field(default_factory=list)
    status: Json = field(default_factory=dict)
    #: Versions of the status, as the watch showed them, with their time.
    versions: list[tuple[float, Json]] = field(default_factory=list)
    final: asyncio.Event = field(default_factory=asyncio.Event)

    def now(self) -> float:
        """Seconds after the object was created."""
        return time.monotonic() - self.began

    def since(self, at: int) -> float:
        """Seconds from the creation of the object to a Redis time in milliseconds."""
        return (at - self.began_redis) / 1000

    def attempts(self) -> list[Json]:
        """Attempts that the status lists."""
        return self.status.get("deliveryAttempts") or []

    def recorded(self, attempt: str) -> dict[AttemptState, Record]:
        """Records of one attempt by the state that they record."""
        found = {}
        for record in self.records:
            if (state := record.kind.state) is not None and record.id == attempt:
                found[state] = record
        return found


def differences(seen: Seen) -> list[str]:
    """
    Compare the receiver's list of calls with the log and the status.

    Returns:
        One sentence for each difference, empty if there is none.
    """
    found = []
    opened = [r.id for r in seen.records if r.kind is Kind.INTENT]
    called = [c.attempt for c in seen.calls]
    shown = [str(a.get("id")) for a in seen.attempts()]
    if opened != called:
        found.append(f"the log opened {opened}, the receiver was called for {called}")
    if shown != called:
        found.append(f"the status lists {shown}, the receiver was called for {called}")
    for call in seen.calls:
        wanted = AttemptState.SUCCESS if call.code < 300 else AttemptState.FAILED
        outcomes = [s for s in seen.recorded(call.attempt) if s is not AttemptState.INTENT]
        if outcomes != [wanted]:
            words = [s.word for s in outcomes]
            found.append(f"attempt {call.attempt} was answered {call.code} and recorded as {words}")
        if not call.recorded:
            found.append(f"attempt {call.attempt} reached the receiver before it was on record")
    if seen.status.get("totalAttempts") != len(seen.calls):
        total = seen.status.get("totalAttempts")
        found.append(f"totalAttempts is {total}, the receiver counted {len(seen.calls)}")
    if len({c.key for c in seen.calls}) > 1:
        found.append("the idempotency key was not the same for all attempts")
    return found


# ------------------------------------------------------------------------------------- display


class Plain:
    """Prints a line for each event as it happens; for pipes, files and `--json`."""

    def __init__(self, out: TextIO) -> None:
        """Write to `out`."""
        self.out = out

    def say(self, text: str = "") -> None:
        """Print a line of prose."""
        print(text, file=self.out, flush=True)

    def call(self, seen: Seen, call: Call) -> None:
        """Report a request."""
        before = "its intent is on record" if call.recorded else "NOT ON RECORD YET"
        self._line(call.at, "receiver", f"{call.attempt} arrives; {before}; answers {call.code}")
        self.draw(seen)

    def record(self, seen: Seen, record: Record) -> None:
        """Report a record."""
        what = "" if record.kind is Kind.PLAN else f"{record.id}  "
        detail = str(record.body.get("error", ""))
        if record.kind is Kind.PLAN:
            detail = str(record.body.get("channels", "")).replace("\n", ", ")
        at = seen.since(int(record.body.get("at", 0)))
        self._line(at, "log", f"{record.kind:8} {what}{detail}".rstrip())
        self.draw(seen)

    def version(self, seen: Seen, at: float, status: Json) -> None:
        """Report a new version of the status."""
        attempts = status.get("deliveryAttempts") or []
        phase, states = status.get("phase", "-"), " ".join(a["status"] for a in attempts)
        self._line(at, "status", f"{phase}, attempts: {states or 'none'}")
        self.draw(seen)

    def draw(self, seen: Seen) -> None:
        """Update a live table; plain lines need none."""

    def _line(self, at: float, who: str, text: str) -> None:
        self.say(f"  {at:7.3f} s  {who:9} {text}")


class Live(Plain):
    """A table with one row per attempt, redrawn in place; for terminals."""

    def __init__(self, out: TextIO) -> None:
        """Write to the terminal `out`."""
        super().__init__(out)
        self._drawn = 0
        self._colour = not os.environ.get("NO_COLOR")

    def draw(self, seen: Seen) -> None:
        """Draw the table over the last one."""
        width = max(20, shutil.get_terminal_size().columns - 1)
        titles = f"  {'attempt':14}{'on record':>11}{'receiver':>11}{'answers':>9}"
        rows = [titles + f"{'recorded as':>13}{'at':>9}  in the status"]
        order = [r.id for r in seen.records if r.kind is Kind.INTENT]
        order += [c.attempt for c in seen.calls if c.attempt not in order]
        rows += [self._row(seen, attempt) for attempt in order]
        rows.append(f"  phase: {seen.status.get('phase', '-')}  ({seen.now():.1f} s)")
        if self._drawn:
            self.out.write(f"\x1b[{self._drawn}F\x1b[J")
        self._drawn = len(rows)
        self.out.write("".join(self._painted(row[:width]) + "\n" for row in rows))
        self.out.flush()

    def _row(self, seen: Seen, attempt: str) -> str:
        records = seen.recorded(attempt)
        call = next((c for c in seen.calls if c.attempt == attempt), None)
        shown = next((str(a["status"]) for a in seen.attempts() if a.get("id") == attempt), "")
        cells = [f"  {attempt:14}"]
        intent = records.pop(AttemptState.INTENT, None)
        cells.append(_seconds(seen.since(int(intent.body["at"])) if intent else None, 11))
        cells.append(_seconds(call.at if call else None, 11))
        cells.append(f"{call.code if call else '':>9}")
        last = max(records, default=None)
        cells.append(f"{last.word if last is not None else '':>13}")
        at = seen.since(int(records[last].body["at"])) if last is not None else None
        cells.append(_seconds(at, 9))
        return "".join(cells) + f"  {shown}"

    def _painted(self, row: str) -> str:
        if self._colour:
            for word, code in (("success", 32), ("failed", 31), ("Sent", 32)):
                row = row.replace(word, f"\x1b[{code}m{word}\x1b[0m")
        return row

    def _line(self, at: float, who: str, text: str) -> None:
        """Print nothing: the table shows it."""


def _seconds(value: float | None, width: int) -> str:
    return " " * width if value is None else f"{value:>{width - 2}.3f} s"


# ---------------------------------------------------------------------------------------- parts


@dataclass(slots=True)
class Parts:
    """Where the demo runs: on servers of its own, or on the user's."""

    kubeconfig: Path | None
    #: For calls that the controller may not make; the same as `kubeconfig` on a user's cluster.
    admin_kubeconfig: Path | None
    redis_url: str
    #: The URL for reading only.
    reader_url: str
    api_name: str
    own_cluster: bool
    own_redis: bool
    namespace: str
    prefix: str

    @property
    def redis_cli(self) -> list[str]:
        """The command line that reaches this Redis; a user's password is asked for, never shown."""
        url = urlsplit(self.reader_url)
        if url.scheme == "unix":
            return ["redis-cli", "-s", url.path]
        host = url.netloc.rpartition("@")[2]
        words = ["redis-cli", "-u", urlunsplit((url.scheme, host, url.path, "", ""))]
        if url.username:
            words += ["--user", url.username]
        if url.password and self.own_redis:
            # This password ends with the server, in minutes.
            words += ["--pass", url.password, "--no-auth-warning"]
        elif url.password:
            words.append("--askpass")
        return words


def start_parts(options: argparse.Namespace, stack: contextlib.ExitStack, view: Plain) -> Parts:
    """
    Start the servers that block while they start.

    Raises:
        Problem, ServerError, ApiError, OSError: a server could not be started.
    """
    tag = secrets.token_hex(3)
    own_cluster, own_redis = options.kubeconfig is None, options.redis_url is None
    parts = Parts(
        kubeconfig=options.kubeconfig,
        admin_kubeconfig=options.kubeconfig,
        redis_url=options.redis_url or "",
        reader_url=options.redis_url or "",
        api_name="the API server of your kubeconfig" if options.kubeconfig else "a stand-in",
        own_cluster=own_cluster,
        own_redis=own_redis,
        namespace="demo" if own_cluster else f"notification-ledger-demo-{tag}",
        prefix="nl" if own_redis else f"nl-demo-{tag}",
    )
    if options.real:
        plane = ControlPlane(built_programs())
        stack.callback(plane.close)
        view.say("starting etcd and kube-apiserver")
        plane.launch()
        plane.api.apply_crd(CRD)
        parts.kubeconfig, parts.admin_kubeconfig = plane.controller_kubeconfig, plane.kubeconfig
        parts.api_name = "a real kube-apiserver"
    if own_redis:
        real = options.real and shutil.which("redis-server") is not None
        # The users of docs/install.md, to show that their rights are enough.
        passwords = {user: secrets.token_hex(16) for user in USERS}
        server = RedisServer(
            find_binary("redis-server" if real else "valkey"),
            users=[acl_rule(user, password) for user, password in passwords.items()],
        )
        stack.callback(server.close)
        view.say(f"starting {'redis-server' if real else 'the embedded Valkey'}")
        server.launch()
        parts.redis_url, parts.reader_url = (
            url_of(server.url, user, passwords[user]) for user in ("ledger", "reader")
        )
    return parts


class Controller:
    """The real controller in a process of its own, and the files that it reads."""

    def __init__(self, parts: Parts, kubeconfig: Path, folder: Path, hook: str) -> None:
        """Write its files; nothing runs yet."""
        credentials = folder / "credentials"
        credentials.mkdir()
        _write(credentials / "ops-hook", hook)
        routing = {
            "route": {"receiver": "ops"},
            "receivers": [{"name": "ops", "slackConfigs": [{"credentialRef": "ops-hook"}]}],
        }
        _write(folder / "routing.yaml", json.dumps(routing))
        health = free_port()
        config = {
            "controller": {
                "metricsAddr": f"127.0.0.1:{free_port()}",
                "healthProbeAddr": f"127.0.0.1:{health}",
            },
            "delivery": {"slack": {"timeout": "5s"}, "credentials": {"dir": str(credentials)}},
            "redis": {"url": parts.redis_url, "keyPrefix": parts.prefix},
        }
        _write(folder / "config.yaml", json.dumps(config))
        self._ready = f"http://127.0.0.1:{health}/readyz"
        self._stopping = False
        # No proxy between two processes of one machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.argv = [sys.executable, "-m", "notifier", "run", "--config"]
        self._process = ServerProcess(
            "notifier",
            [*self.argv, str(folder / "config.yaml")],
            log=folder / "notifier.log",
            env={
                "KUBECONFIG": str(kubeconfig),
                "KUBERNAUT_CONTROLLER_NAMESPACE": parts.namespace,
                "ROUTING_CONFIG_PATH": str(folder / "routing.yaml"),
                "PYTHONPATH": str(ROOT),
            },
        )

    async def start(self) -> None:
        """
        Start it and wait until it is ready.

        Raises:
            ServerError: it ended, or was not ready in time.
        """
        starting = asyncio.create_task(
            asyncio.to_thread(self._process.start, self._answers, timeout=START_DEADLINE)
        )
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: it is told to give up, and waited for.
            self._stopping = True
            await asyncio.gather(starting, return_exceptions=True)
            raise

    async def stop(self) -> None:
        """Ask it to end: it finishes attempts under way, writes statuses, and releases its Leases."""
        await asyncio.to_thread(self._process.terminate, timeout=CLEAN_DEADLINE)

    def _answers(self) -> bool:
        if self._stopping:
            raise InterruptedError
        try:
            with self._opener.open(self._ready, timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


@contextlib.asynccontextmanager
async def receiver(seen: Seen, look: Callable[[], Any], view: Plain) -> AsyncIterator[str]:
    """Serve the webhook; yields its URL."""

    async def serve(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.wait_for(seen.created.wait(), CALL_TIMEOUT)
        attempt = request.headers.get("X-Notification-Attempt", "")
        at = seen.now()
        await look()
        call = Call(
            at,
            attempt,
            request.headers.get("Idempotency-Key", ""),
            SCRIPT[min(len(seen.calls), len(SCRIPT) - 1)],
            recorded=AttemptState.INTENT in seen.recorded(attempt),
        )
        seen.calls.append(call)
        view.call(seen, call)
        return web.Response(status=call.code, text=ANSWER)

    app = web.Application()
    app.router.add_post("/hook", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


class LogReader:
    """Reads the log of the one notification, as anybody with `redis-cli` could."""

    def __init__(self, redis: Redis, prefix: str, seen: Seen, view: Plain) -> None:
        """Read through the client `redis`."""
        self._redis = redis
        self._prefix = prefix
        self._seen = seen
        self._view = view
        self._lock = asyncio.Lock()

    @property
    def key(self) -> str:
        """Key of the log."""
        return f"{self._prefix}:{{{self._seen.uid}}}"

    async def look(self) -> None:
        """
        Read the log and report new records.

        Raises:
            Problem: Redis does not answer, or the key does not hold a log.
        """
        async with self._lock:
            try:
                elements = cast("list[bytes]", await _redis(self._redis.lrange(self.key, 0, -1)))
                if elements:
                    log = snapshot_of(elements)
                    self._seen.header, records = log.header, list(log.records)
                    fresh = records[len(self._seen.records) :]
                    self._seen.elements, self._seen.records = elements, records
                    for record in fresh:
                        self._view.record(self._seen, record)
            except ContractError as error:
                raise Problem(f"the log cannot be read: {error}") from error

    async def follow(self) -> None:
        """Read the log again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOG_PERIOD)

    async def acknowledged(self) -> bool:
        """Whether the log says, within a deadline, that all of it has been published."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ACK_DEADLINE):
                while self._seen.header is None or self._seen.header.acked < len(
                    self._seen.records
                ):
                    await asyncio.sleep(LOG_PERIOD)
                    await self.look()
                return True
        return False


async def _redis(call: Any) -> Any:
    """Await a command of redis-py; its errors may show the address, so only their kind is kept."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT):
            return await call
    except (RedisError, OSError, TimeoutError) as error:
        raise Problem(f"Redis does not answer ({type(error).__name__})") from None


async def watch(client: KubeClient, namespace: str, version: str, seen: Seen, view: Plain) -> None:
    """
    Follow the object with a separate watch until cancelled; collect the versions of its status.

    Raises:
        PortError: the watch was refused.
    """
    path = f"{GROUP_PATH}/namespaces/{namespace}/notificationrequests"
    while True:
        params = {
            "watch": "1",
            "fieldSelector": f"metadata.name={NAME}",
            "resourceVersion": version,
            "timeoutSeconds": "300",
        }
        async with client.stream(
            path, params, connect_timeout=CALL_TIMEOUT, idle_timeout=PHASE_DEADLINE
        ) as lines:
            async for line in lines:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise Problem(f"the watch ended: {event['object'].get('message')}")
                version = event["object"]["metadata"]["resourceVersion"]
                status = expand(event["object"].get("status") or {})
                if status != seen.status:
                    seen.status = status
                    seen.versions.append((seen.now(), status))
                    view.version(seen, seen.now(), status)
                if status.get("phase") in TERMINAL:
                    seen.final.set()


# ------------------------------------------------------------------------------------------ run


@dataclass(slots=True)
class Result:
    """The result that is printed at the end."""

    seen: Seen
    key: str
    command: str
    api: str
    redis: str
    writes: int
    seconds: float
    found: list[str]

    def document(self) -> Json:
        """The object that `--json` prints."""
        seen = self.seen
        gaps = [round(b.at - a.at, 3) for a, b in zip(seen.calls, seen.calls[1:], strict=False)]
        return {
            "phase": seen.status.get("phase", ""),
            "attempts": seen.status.get("totalAttempts", 0),
            "receiverCalls": len(seen.calls),
            "recordedBeforeCall": sum(c.recorded for c in seen.calls),
            "logRecords": len(seen.records),
            "statusWrites": self.writes,
            "seconds": round(self.seconds, 3),
            "secondsBetweenCalls": gaps,
            "agree": not self.found,
            "differences": self.found,
            "uid": seen.uid,
            "apiServer": self.api,
            "redis": self.redis,
            "redisCli": self.command,
        }


async def run(options: argparse.Namespace, parts: Parts, folder: Path, view: Plain) -> Result:
    """
    Run the demo: start the other parts, create the object, watch, compare.

    Raises:
        Problem, LedgerError, ServerError: the demo could not run.
    """
    seen = Seen()
    async with contextlib.AsyncExitStack() as stack:
        server = None
        if parts.kubeconfig is None:
            server = await stack.enter_async_context(FakeApiServer())
            parts.kubeconfig = parts.admin_kubeconfig = folder / "stand-in.kubeconfig"
            _write(parts.kubeconfig, json.dumps(_kubeconfig(server.url)))
        # No socket_timeout: with one, redis-py writes under asyncio.wait_for, which on Python 3.11
        # swallows a cancellation that comes as the write ends. Calls have their own deadline.
        redis = Redis.from_url(
            parts.reader_url, socket_timeout=None, socket_connect_timeout=CALL_TIMEOUT
        )
        stack.push_async_callback(redis.aclose)
        version = await _redis(redis.info("server"))
        named = "Valkey" if "valkey_version" in version else "Redis"
        store = f"{named} {version.get('valkey_version') or version.get('redis_version')}"
        client = await stack.enter_async_context(
            await KubeClient.connect(str(parts.admin_kubeconfig), user_agent="notification-demo")
        )
        await _prepare(client, parts, stack, view, apply_crd=options.apply_crd)
        if not parts.own_redis:
            stack.push_async_callback(_clean_redis, redis, parts.prefix, view)
        reader = LogReader(redis, parts.prefix, seen, view)
        hook = await stack.enter_async_context(receiver(seen, reader.look, view))
        controller = Controller(parts, parts.kubeconfig, folder, hook)
        stack.push_async_callback(controller.stop)
        view.say(f"starting the controller, on {parts.api_name} and {store}")
        await controller.start()
        view.say(f"creating NotificationRequest {parts.namespace}/{NAME}, routed to {CHANNEL}")
        view.say(f"the receiver will answer {', '.join(map(str, SCRIPT))}, always the same text")
        view.say()
        now = cast("tuple[int, int]", await _redis(redis.time()))
        seen.began, seen.began_redis = time.monotonic(), now[0] * 1000 + now[1] // 1000
        late = await _deliver(client, parts.namespace, reader, seen, view)
        seconds = next(
            (at for at, status in seen.versions if status.get("phase") in TERMINAL), seen.now()
        )
        await asyncio.sleep(SILENCE)
        published = await reader.acknowledged()
        found = [*late, *differences(seen)]
        if not published:
            found.append("the log does not say that all of it has been published")
        writes = len(seen.versions)
        command = shlex.join([*parts.redis_cli, "LRANGE", reader.key, "0", "-1"])
        result = Result(seen, reader.key, command, parts.api_name, store, writes, seconds, found)
        if not options.json:
            tell(result, view)
            if options.wait:
                await _wait_for_reader(view)
        view.say()
        view.say("stopping")
    return result


async def _deliver(
    client: KubeClient, namespace: str, reader: LogReader, seen: Seen, view: Plain
) -> list[str]:
    """Create the object and follow it to its final phase; returns a complaint if none came in time."""
    created = await client.request(
        "POST",
        f"{GROUP_PATH}/namespaces/{namespace}/notificationrequests",
        body={
            "apiVersion": "kubernaut.ai/v1alpha1",
            "kind": "NotificationRequest",
            "metadata": {"name": NAME, "namespace": namespace},
            "spec": SPEC,
        },
        timeout=CALL_TIMEOUT,
    )
    meta = created["metadata"]
    seen.uid = meta["uid"]
    seen.created.set()
    try:
        async with asyncio.timeout(PHASE_DEADLINE), asyncio.TaskGroup() as group:
            followers = [
                group.create_task(watch(client, namespace, meta["resourceVersion"], seen, view)),
                group.create_task(reader.follow()),
            ]
            await seen.final.wait()
            # Events within this time are still shown and compared.
            await asyncio.sleep(SILENCE)
            for task in followers:
                task.cancel()
    except TimeoutError:
        return [f"there was no final phase within {PHASE_DEADLINE:.0f} s"]
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    return []


async def _prepare(
    client: KubeClient,
    parts: Parts,
    stack: contextlib.AsyncExitStack,
    view: Plain,
    *,
    apply_crd: bool,
) -> None:
    """Create the namespace (on a user's cluster until the end of the demo), and the CRD if asked."""
    if apply_crd:
        await client.request(
            "PATCH",
            f"{CRD_PATH}?fieldManager=notification-ledger-demo",
            body=CRD.read_bytes(),
            content_type="application/apply-patch+yaml",
            timeout=CALL_TIMEOUT,
        )
        view.say(f"applied {CRD.relative_to(ROOT)}; it stays")
    deadline = time.monotonic() + (START_DEADLINE if apply_crd else 0.0)
    while True:
        try:
            await client.request(
                "GET", f"{GROUP_PATH}/notificationrequests?limit=1", timeout=CALL_TIMEOUT
            )
            break
        except (Gone, KindMissing):
            if time.monotonic() >= deadline:
                raise Problem(
                    "this cluster does not know NotificationRequests; --apply-crd applies"
                    f" {CRD.relative_to(ROOT)} to it"
                ) from None
        except PortError:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(0.2)
    await client.request(
        "POST",
        "/api/v1/namespaces",
        body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": parts.namespace}},
        timeout=CALL_TIMEOUT,
    )
    if not parts.own_cluster:
        view.say(f"created the namespace {parts.namespace}")
        stack.push_async_callback(_clean_cluster, parts, view)


async def _clean_cluster(parts: Parts, view: Plain) -> None:
    """Delete the namespace, and with it the object, its events and the leases."""
    try:
        async with asyncio.timeout(CLEAN_DEADLINE):
            client = await KubeClient.connect(str(parts.admin_kubeconfig), user_agent="demo")
            async with client:
                await client.request(
                    "DELETE", f"/api/v1/namespaces/{parts.namespace}", timeout=CALL_TIMEOUT
                )
        view.say(f"deleted the namespace {parts.namespace}")
    except Exception as error:  # noqa: BLE001 - whatever it was, a person has to know
        kind = type(error).__name__
        view.say(f"the namespace {parts.namespace} could not be deleted ({kind}): please do it")


async def _clean_redis(redis: Redis, prefix: str, view: Plain) -> None:
    """Delete every key under the demo's own prefix."""
    try:
        async with asyncio.timeout(CLEAN_DEADLINE):
            keys = [key async for key in redis.scan_iter(match=f"{prefix}:*", count=1000)]
            for key in keys:
                await redis.delete(key)
        view.say(f"deleted {len(keys)} keys {prefix}:* from Redis")
    except (RedisError, OSError, TimeoutError) as error:
        kind = type(error).__name__
        view.say(f"the keys {prefix}:* could not be deleted from Redis ({kind}): please do it")


def _kubeconfig(url: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "demo", "cluster": {"server": url}}],
        "users": [{"name": "demo", "user": {"token": "demo"}}],
        "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "demo"}}],
        "current-context": "demo",
    }


def tell(result: Result, view: Plain) -> None:
    """Print the result for people: the status, the calls, the log, and what they prove."""
    seen = result.seen
    status = seen.status
    view.say()
    view.say(f"Status: {status.get('phase')}, {status.get('message')}")
    view.say(
        f"  totalAttempts {status.get('totalAttempts')}, written {result.writes} times"
        f" in {result.seconds:.1f} s"
    )
    for a in seen.attempts():
        text = f"  {a['channel']} #{a['attempt']}  {a['status']:8}{a.get('id', ''):14}"
        view.say(f"{text} {a.get('error', '')}".rstrip())
    view.say()
    codes = ", ".join(str(c.code) for c in seen.calls)
    view.say(f"The receiver's own count: {len(seen.calls)} calls, answered {codes}")
    view.say()
    view.say(f"The log, {len(seen.records)} records under {result.key}:")
    view.say(f"  0  {seen.elements[0].decode() if seen.elements else ''}")
    for record in seen.records:
        view.say(f"  {record.position}  {_describe(seen, record)}")
    view.say()
    view.say("This prints it, without any tool of ours:")
    view.say(f"  {result.command}")
    view.say()
    if result.found:
        view.say("Record and receiver DISAGREE:")
        for sentence in result.found:
            view.say(f"  - {sentence}")
        return
    view.say(PROVEN.format(calls=len(seen.calls)))


PROVEN: Final = """\
What this shows: each of the {calls} requests that reached the receiver had its attempt on record
before it arrived (the receiver looked while the request was waiting), and each has exactly one
result on record, the one that the receiver gave. Identical failures were counted one by one. The
log, the status and the receiver agree on every attempt, by its id, and all attempts carried one
idempotency key."""


def _describe(seen: Seen, record: Record) -> str:
    if record.kind.state is None:
        channels = str(record.body.get("channels", "")).replace("\n", ", ")
        return f"{record.kind:8} {channels or record.body.get('why', '')}"
    attempt = read_attempt(record)
    at = seen.since(attempt.ended or attempt.started)
    text = f"{record.kind:8} {record.id:14} {record.channel}  {at:.3f} s"
    if attempt.code:
        text += f"  code {attempt.code}"
    if attempt.duration:
        text += f"  took {attempt.duration} ms"
    if attempt.due:
        text += f"  next at {seen.since(attempt.due):.3f} s"
    return text


async def _wait_for_reader(view: Plain) -> None:
    """Keep the servers until Enter or a deadline, for people who want to try the printed command."""
    view.say()
    if shutil.which("redis-cli") is None:
        view.say("(redis-cli is in Debian's package redis-tools)")
    view.say(f"All stays until you press Enter, {READ_DEADLINE / 60:.0f} minutes at most.")
    loop = asyncio.get_running_loop()
    entered = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), entered.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(entered.wait(), READ_DEADLINE)
    finally:
        loop.remove_reader(sys.stdin.fileno())


# ----------------------------------------------------------------------------------- command line


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="demo",
        description="Deliver one notification to a receiver that fails twice, and show that the"
        " record of it is complete. By default on a stand-in for the API server and an embedded"
        " Valkey: nothing else is needed.",
        epilog="exit codes: 0 the record is complete; 1 it is not, or the demo could not run;"
        " 2 wrong usage",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.add_argument(
        "--real",
        action="store_true",
        help="a real kube-apiserver and etcd, built on first use, and redis-server if installed",
    )
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        metavar="FILE",
        help="your cluster, in a namespace that is made and deleted again (not where a controller"
        " of this kind watches all namespaces)",
    )
    parser.add_argument(
        "--redis-url",
        metavar="URL",
        default=os.environ.get("DEMO_REDIS_URL"),
        help="your Redis, under a key prefix that is deleted again; $DEMO_REDIS_URL keeps a"
        " password out of the list of processes",
    )
    parser.add_argument(
        "--apply-crd",
        action="store_true",
        help="with --kubeconfig: apply the CustomResourceDefinition first; it stays",
    )
    parser.add_argument(
        "--no-wait",
        dest="wait",
        action="store_false",
        help="do not keep the servers at the end for a look into Redis",
    )
    options = parser.parse_args(arguments)
    if options.real and options.kubeconfig:
        parser.error("--real and --kubeconfig exclude each other")
    if options.apply_crd and not options.kubeconfig:
        parser.error("--apply-crd needs --kubeconfig; the other clusters have it already")
    if options.kubeconfig and not options.kubeconfig.is_file():
        parser.error("--kubeconfig: there is no such file")
    # Unless input and output are terminals, there is nobody to wait for.
    options.wait = options.wait and sys.stdin.isatty() and sys.stdout.isatty()
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    options = parse(arguments)
    out = sys.stderr if options.json else sys.stdout
    view = Live(out) if out.isatty() and not options.json else Plain(out)
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    document: Json
    try:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
            parts = start_parts(options, stack, view)
            result = asyncio.run(_supervised(options, parts, folder, view))
        document = result.document()
        code = 0 if document["phase"] == "Sent" and not result.found else 1
    except (Problem, ServerError, ApiError, LedgerError, OSError) as error:
        view.say(f"demo: {error}")
        document, code = {"error": str(error)}, 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        view.say("demo: interrupted, everything is stopped")
        return 128 + signal.SIGINT
    if options.json:
        print(json.dumps(document))
    return code


async def _supervised(
    options: argparse.Namespace, parts: Parts, folder: Path, view: Plain
) -> Result:
    """Run, and let SIGTERM cancel it in an orderly way, as the loop itself does for Ctrl-C."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(options, parts, folder, view)


if __name__ == "__main__":
    sys.exit(main())
