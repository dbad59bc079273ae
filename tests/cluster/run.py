"""
The product on a real cluster: installed by Helm, then treated badly, step by step.

Runs inside the network of a cluster that `scripts/cluster test` has started, and plays three parts:
the operator, who types kubectl and helm; the receiver, an HTTP server on the node's address that keeps
its own book; and the auditor, who holds that book against the log and every version of every status
(`tests/e2e/checker.py`). The auditor speaks after *each* step: nothing may be lost, and a repeat must
have a recorded unknown to show for it.

Every notification goes to two channels, Slack and a webhook. Some calls are answered with 503 first,
some are read, acted upon, and then reset: that is where a record could go wrong.

A step that fails ends the run; the pods' logs are printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import msgpack
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from scripts import image
from syncer.ledger import codec
from syncer.model.conditions import QUARANTINED
from tests.cluster.recipe import ADDRESS, API_PORT, Cluster
from tests.e2e.checker import TERMINAL, Findings, Json, Kind, check
from tests.e2e.harness import BUSY, OK, Receiver, Stage, Step, Watcher, _ended, until
from tests.integration.api import Api
from tests.servers.controlplane import ControlPlane

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "charts" / "notification-ledger"
NAMESPACE: Final = "notifications"
RELEASE: Final = "ledger"
DEPLOYMENT: Final = "ledger-notification-ledger"
CRD: Final = "notificationrequests.kubernaut.ai"
CONTROLLER: Final = b"/bin/notifier"
REDIS: Final = b"-server"  # redis or valkey
CURRENT: Final = "current"
RAISED: Final = "raised"

#: Seconds from the start of `helm install` to the first call at the receiver, images present.
FIRST_MESSAGE: Final = 60.0
#: Notifications per second while something is done to the cluster; each is two messages.
RATE: Final = 4.0
_COMMAND: Final = 300.0
_SETTLE: Final = 120.0
_SAMPLE: Final = 2.0

POLICY: Final[Json] = {
    "maxAttempts": 10, "initialBackoffSeconds": 1, "backoffMultiplier": 1, "maxBackoffSeconds": 60,
}  # fmt: skip
#: Waits that span a change of the image.
SLOWLY: Final[Json] = {**POLICY, "initialBackoffSeconds": 20}
#: What the receiver does with the calls about one notification, both channels together.
SCRIPTS: Final = (
    (Step(delay=0.05),),
    (BUSY, OK),
    (Step(delay=0.3),),
    (Step(drop="after"), OK),
    (OK,),
    (OK, BUSY, Step(drop="after"), OK),
)

VALUES: Final[Json] = {
    "replicas": 2,
    "image": {
        "repository": "localhost/notification-ledger", "tag": CURRENT, "pullPolicy": "Never",
    },
    "routing": {"content": {
        "route": {"receiver": "ops"},
        "receivers": [{
            "name": "ops",
            "slackConfigs": [{"credentialRef": "slack"}],
            "webhookConfigs": [{"credentialRef": "webhook"}],
        }],
    }},
    "credentials": [
        {"name": "slack", "secretName": "receivers", "secretKey": "slack", "optional": False},
        {"name": "webhook", "secretName": "receivers", "secretKey": "webhook", "optional": False},
    ],
    "config": {"delivery": {"webhook": {"enabled": True}}},
    "crds": {"enabled": True},
    "redis": {"embedded": {
        "image": {"repository": "localhost/redis", "tag": "test", "pullPolicy": "Never"},
    }},
}  # fmt: skip


class StepFailed(Exception):
    """A step did not do what it must; the text says what."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one step came to, all counts since the start."""

    name: str
    seconds: float
    notifications: int
    findings: Findings

    def __str__(self) -> str:
        """Return a line of the table."""
        return (
            f"{self.name:<44} {self.seconds:6.1f} s {self.notifications:6} {self.findings.calls:6}"
            f" {len(self.findings.of(Kind.LOST)):5} {len(self.findings.of(Kind.EXPLAINED)):9}"
            f" {len(self.findings.violations):10}"
        )


HEAD: Final = (
    f"{'step':<44} {'time':>8} {'notif.':>6} {'calls':>6} {'lost':>5} {'explained':>9}"
    f" {'violations':>10}"
)


@dataclass(slots=True)
class Trial:
    """One run: the observers, what was created, what was found."""

    stage: Stage
    cluster: Cluster
    uids: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    program: str = "helm"
    installed: float = 0.0

    # -- the operator -------------------------------------------------------------------------

    async def call(self, *command: str, within: float = _COMMAND) -> str:
        """Run a command as an operator would; returns its output."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(within):
                out, err = await process.communicate()
        except TimeoutError:
            raise StepFailed(f"`{' '.join(command)}` took more than {within:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise StepFailed(f"`{' '.join(command)}` failed: {err.decode().strip()[-2000:]}")
        return out.decode()

    async def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace."""
        return await self.call("kubectl", "-n", NAMESPACE, *arguments)

    async def helm(self, verb: str, *arguments: str) -> str:
        """Run helm on the release, and wait."""
        return await self.call(
            self.program, verb, RELEASE, *arguments, "-n", NAMESPACE, "--wait", "--timeout", "240s"
        )

    async def pods(self, component: str) -> list[str]:
        """Names of the pods of a component that are not going."""
        text = await self.kubectl(
            "get", "pods", "-l", f"app.kubernetes.io/component={component}", "-o", "json"
        )
        items = json.loads(text)["items"]
        return [i["metadata"]["name"] for i in items if "deletionTimestamp" not in i["metadata"]]

    async def rolled_out(self) -> None:
        """Wait until the Deployment is as wanted."""
        await self.kubectl("rollout", "status", f"deployment/{DEPLOYMENT}", "--timeout=240s")

    # -- the load -----------------------------------------------------------------------------

    async def create(self, name: str, *script: Step, **spec: Any) -> str:
        """Create a notification and tell the receiver what to do with it."""
        if script:
            self.stage.script(name, *script)
        uid = await self.stage.create(name, **{"retryPolicy": POLICY, **spec})
        self.uids.append(uid)
        return uid

    @asynccontextmanager
    async def load(self, name: str) -> AsyncIterator[None]:
        """Create notifications all the while, and a little before and after."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._load(name, stop))
        try:
            await asyncio.sleep(2)
            yield
            await asyncio.sleep(2)
        finally:
            stop.set()  # not cancelled: it would not know of what it was just creating
            await asyncio.wait_for(task, 30)

    async def _load(self, name: str, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        start, n = loop.time(), 0
        while not stop.is_set():
            await self.create(f"{name}-{n:04}", *SCRIPTS[n % len(SCRIPTS)])
            n += 1
            await asyncio.sleep(max(0.0, start + n / RATE - loop.time()))

    # -- the auditor --------------------------------------------------------------------------

    async def settled(self, *, but: Sequence[str] = ()) -> Findings:
        """Wait until every notification has ended and is published; hold everything together."""
        uids = [u for u in self.uids if u not in but]
        watcher = self.stage.watcher

        def open_ones() -> list[str]:
            return [u for u in uids if watcher.phase(u) not in TERMINAL]

        def where() -> str:
            first = open_ones()[:5]
            shown = [(v.name, v.status) for v in map(watcher.last, first)]
            return f"all have ended; {len(open_ones())} have not: {json.dumps(shown)[:3000]}"

        await until(lambda: not open_ones(), where, within=_SETTLE, every=0.1)

        behind = ["nothing was read"]

        async def acked() -> bool:
            try:
                logs = await self.stage.logs(uids)
            except (RedisError, OSError) as error:
                behind[:] = [f"Redis: {error}"]
                return False
            behind[:] = [
                f"{uid}: {f'{log.header.acked} of {len(log.records)}' if log else 'no log'}"
                for uid in uids
                if (log := logs.get(uid)) is None or log.header.acked < len(log.records)
            ]
            return not behind

        await until(
            acked,
            lambda: f"all logs are marked as published; {len(behind)} are not: {behind[:5]}",
            within=30,
            every=0.3,
        )
        return await self.audit(finished=not but)

    async def audit(self, *, finished: bool) -> Findings:
        """Hold book, logs and statuses together, as they are now."""
        stage = self.stage
        await stage._sample()
        findings = check(
            stage.receiver.book, await stage.logs(), stage.watcher.versions, stage.samples,
            finished=finished,
        )  # fmt: skip
        if findings.violations:
            text = "\n".join(map(str, findings.violations[:20]))
            raise StepFailed(f"{len(findings.violations)} violations:\n{text}")
        if stage.watcher.gaps:
            raise StepFailed("the watch has missed versions: nothing is proven")
        return findings

    def row(self, name: str, seconds: float, findings: Findings) -> None:
        """Print a line."""
        row = Row(name, seconds, len(self.uids), findings)
        self.rows.append(row)
        print(row, flush=True)

    async def step(self, name: str, label: str, action: Callable[[], Awaitable[None]]) -> None:
        """Do something under load, let it settle, and audit."""
        before = len(self.uids)
        async with self.load(label):
            began = time.monotonic()
            await action()
            seconds = time.monotonic() - began
        if len(self.uids) - before < RATE:
            raise StepFailed(f"{name}: hardly a notification was created meanwhile")
        self.row(name, seconds, await self.settled())

    async def versions(self, uid: str) -> list[int]:
        """Format versions of the records of one log, read without the product's codec."""
        key = f"{self.stage.prefix}:{{{uid}}}"
        elements = cast("list[bytes]", await self.stage.redis.lrange(key, 1, -1))
        return [int(msgpack.unpackb(e.split(b" ", 5)[5])["v"]) for e in elements]


# ------------------------------------------------------------------------------- the steps


async def install(trial: Trial) -> None:
    """From nothing to a delivered notification."""
    values = trial.cluster.folder / "values.json"
    values.write_text(json.dumps(VALUES))
    url = trial.stage.receiver.url
    await trial.kubectl(
        "create", "secret", "generic", "receivers",
        f"--from-literal=slack={url}", f"--from-literal=webhook={url}",
    )  # fmt: skip
    began = time.monotonic()
    await trial.helm("install", str(CHART), "-f", str(values))
    installed = time.monotonic() - began
    await find_redis(trial)
    watcher = trial.stage.watcher
    await until(lambda: bool(watcher._from), "the watch has begun", within=10)
    uid = await trial.create("first")
    await until(lambda: bool(trial.stage.receiver.book), "a call arrives", within=FIRST_MESSAGE)
    first = time.monotonic() - began
    trial.row("helm install --wait", installed, await trial.settled())
    channels = sorted(a["channel"] for a in watcher.last(uid).attempts)
    if len(channels) != 2 or len(set(channels)) != 2 or len(trial.stage.receiver.book) != 2:
        raise StepFailed(f"two channels, a call for each, both on record; on record: {channels}")
    print(f"  first message {first:.1f} s after the start of helm install", flush=True)
    if first > FIRST_MESSAGE:
        raise StepFailed(f"the first message took {first:.1f} s, allowed are {FIRST_MESSAGE:.0f}")
    trial.installed = first


async def helm_test(trial: Trial) -> None:
    """The chart's own test."""
    began = time.monotonic()
    await trial.call(trial.program, "test", RELEASE, "-n", NAMESPACE, "--timeout", "120s")
    trial.row("helm test", time.monotonic() - began, await trial.settled())


async def delete_a_pod(trial: Trial) -> None:
    """A replica is deleted, politely: what it was sending, it finishes."""

    async def action() -> None:
        await in_flight(trial, "polite")
        await trial.kubectl("delete", "pod", (await trial.pods("controller"))[0])
        await trial.rolled_out()

    await trial.step("delete a controller pod", "delete", action)
    cut = repeats(trial, "polite")
    if cut:
        raise StepFailed(f"{len(cut)} sends were cut off by a deletion that should wait: {cut[0]}")


async def kill_a_process(trial: Trial) -> None:
    """A replica's process is killed while it sends; its container is restarted."""

    async def action() -> None:
        await in_flight(trial, "rude")
        await kill(trial, CONTROLLER, 2)

    await trial.step("kill -9 a controller", "kill", action)
    if not repeats(trial, "rude"):
        raise StepFailed("the kill hit no send: nothing is proven")


async def in_flight(trial: Trial, label: str) -> None:
    """Have every replica wait for answers of the receiver, that take four seconds."""
    names = [f"{label}-{n}" for n in range(12)]
    for name in names:
        await trial.create(name, Step(delay=4), Step(delay=4), OK)
    book = trial.stage.receiver
    await until(
        lambda: all(len(book.calls(name)) == 2 for name in names), "each is being sent", within=10
    )


def repeats(trial: Trial, label: str) -> list[str]:
    """The repeated calls of notifications with a label, as of the last audit."""
    found = trial.rows[-1].findings.of(Kind.EXPLAINED)
    return [str(finding) for finding in found if finding.name.startswith(f"{label}-")]


async def kill_redis(trial: Trial) -> None:
    """Redis's process is killed: what it confirmed is written, if not yet synced to the disk."""
    await trial.step("kill -9 Redis", "killed-redis", lambda: kill(trial, REDIS, 1))


async def kill(trial: Trial, program: bytes, count: int) -> None:
    """Kill the first of so many processes of a program, and wait until all are ready again."""
    victims = processes(trial.cluster, program)
    if len(victims) != count:
        raise StepFailed(f"expected {count} of {program!r}, found {victims}")
    os.kill(victims[0], signal.SIGKILL)
    await until(
        lambda: len(set(processes(trial.cluster, program)) - {victims[0]}) == count,
        "the container is restarted", within=60, every=0.2,
    )  # fmt: skip
    await trial.rolled_out()


async def roll_three(trial: Trial) -> None:
    """A rolling update of three replicas."""
    began = time.monotonic()
    await trial.helm("upgrade", str(CHART), "--reuse-values", "--set", "replicas=3")
    trial.row("helm upgrade to 3 replicas", time.monotonic() - began, await trial.settled())

    async def action() -> None:
        await trial.kubectl("rollout", "restart", f"deployment/{DEPLOYMENT}")
        await trial.rolled_out()

    await trial.step("rolling update of 3 replicas", "roll", action)


async def delete_redis(trial: Trial) -> None:
    """Redis goes away and comes back with its disk."""
    name = (await trial.pods("redis"))[0]
    uid = await trial.kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid}")

    async def action() -> None:
        await trial.kubectl("delete", "pod", name)
        await trial.kubectl("rollout", "status", f"statefulset/{name.rpartition('-')[0]}")
        if uid == await trial.kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid}"):
            raise StepFailed("the Redis pod is the same as before")

    await trial.step("delete the Redis pod", "redis", action)


async def scale(trial: Trial) -> None:
    """Three replicas, one, three."""

    async def action() -> None:
        for count in ("1", "3"):
            await trial.kubectl("scale", f"deployment/{DEPLOYMENT}", f"--replicas={count}")
            await trial.rolled_out()
            await until(
                lambda count=count: len(processes(trial.cluster, CONTROLLER)) == int(count),  # type: ignore[misc]  # bound now
                f"{count} controllers run", within=60, every=0.2,
            )  # fmt: skip

    await trial.step("scale 3 to 1 to 3", "scale", action)


def next_chart(folder: Path) -> Path:
    """Return a chart like the next version's: its resource has a member more, its settings a key more."""
    chart = folder / "next"
    shutil.copytree(CHART, chart, dirs_exist_ok=True)
    crd = chart / "files" / "crd.yaml"
    member = "                subject:\n                  description: Title of the message"
    image.replace_once(crd, member, f"                planted: {{type: string}}\n{member}")
    file = chart / "values.schema.json"
    schema = json.loads(file.read_text())
    delivery = schema["properties"]["config"]["properties"]["delivery"]
    delivery["properties"]["planted"] = {"type": "integer"}
    file.write_text(json.dumps(schema))
    return chart


async def upgrade_and_rollback(trial: Trial) -> None:
    """To a version with another record format, a member and a setting more, back, and there again."""
    book = trial.stage.receiver
    chart = next_chart(trial.cluster.folder)
    # Refused until the image has changed: its log holds both versions in the end.
    spanning = await trial.create("spanning", BUSY, retryPolicy=SLOWLY)
    await until(lambda: len(book.calls("spanning")) == 2, "two calls", within=20)

    async def upgrade() -> None:
        await trial.helm(
            "upgrade", str(chart), "--reuse-values",
            "--set", f"image.tag={RAISED},config.delivery.planted=1",
        )  # fmt: skip
        trial.stage.script("spanning", OK)

    async def planted() -> str:
        return await trial.kubectl(
            "get", "notificationrequest", "planted", "-o", "jsonpath={.spec.planted}"
        )

    await trial.step("upgrade: record format, resource, settings", "up", upgrade)
    await trial.create("planted", planted="x")
    if await planted() != "x":
        raise StepFailed("the resource of the next version is not in force")
    if set(await trial.versions(spanning)) != {1, 2}:
        raise StepFailed(f"versions of one log: {await trial.versions(spanning)}, not 1 and 2")

    # Refused until the old image is back, so with records in their logs that it cannot read.
    names = [f"waiting-{n}" for n in range(5)]
    waiting = [await trial.create(name, BUSY, retryPolicy=SLOWLY) for name in names]
    await until(
        lambda: all(len(book.calls(name)) >= 2 for name in names), "two calls each", within=20
    )

    before = len(trial.uids)
    async with trial.load("back"):
        began = time.monotonic()
        await trial.helm("rollback")
        seconds = time.monotonic() - began
    if len(trial.uids) - before < RATE:
        raise StepFailed("hardly a notification was created during the rollback")
    if await planted():
        raise StepFailed("the resource of the next version is still in force")
    held = await held_ones(trial)
    if not set(waiting) <= set(held):
        raise StepFailed(f"only {len(held)} are held back, all of {names} must be")
    for name in names:
        trial.stage.script(name, OK)
    calls = {uid: len(book.calls(name_of(trial, uid))) for uid in held}
    old = await trial.create("after-the-rollback")
    # Past the time at which the old program would send again, could it read the log.
    await asyncio.sleep(SLOWLY["initialBackoffSeconds"] * 1.2)
    findings = await trial.settled(but=held)
    if set(await trial.versions(old)) != {1}:
        raise StepFailed("the old image does not run: it wrote another version")
    if calls != {uid: len(book.calls(name_of(trial, uid))) for uid in held}:
        raise StepFailed("something was sent for a log that the sender cannot read")
    trial.row(f"rollback; {len(held)} notifications held", seconds, findings)

    await trial.step("upgrade again; nothing is held any more", "again", upgrade)


async def held_ones(trial: Trial) -> list[str]:
    """Wait until each notification has ended or says that its log cannot be read; the latter."""
    watcher = trial.stage.watcher

    def quarantined(uid: str) -> bool:
        return watcher.last(uid).condition(QUARANTINED).get("status") == "True"

    def undecided() -> list[str]:
        return [u for u in trial.uids if watcher.phase(u) not in TERMINAL and not quarantined(u)]

    await until(
        lambda: not undecided(), lambda: f"{len(undecided())} are neither ended nor held",
        within=_SETTLE, every=0.2,
    )  # fmt: skip
    return [u for u in trial.uids if watcher.phase(u) not in TERMINAL]


async def uninstall(trial: Trial) -> None:
    """The release goes; definition, objects and the disk of Redis stay, and are taken up again."""
    count = len(json.loads(await trial.kubectl("get", CRD, "-o", "json"))["items"])
    began = time.monotonic()
    await trial.helm("uninstall")
    await trial.kubectl("wait", "--for=delete", "pod", "--all", "--timeout=90s")
    seconds = time.monotonic() - began
    await trial.kubectl("get", "crd", CRD)
    left = len(json.loads(await trial.kubectl("get", CRD, "-o", "json"))["items"])
    if left != count or count != len(trial.uids):
        raise StepFailed(f"{len(trial.uids)} were created, {count} were there, {left} are left")
    claims = json.loads(await trial.kubectl("get", "pvc", "-o", "json"))["items"]
    if not claims:
        raise StepFailed("the disk of Redis is gone")
    findings = check(
        trial.stage.receiver.book, {}, trial.stage.watcher.versions, trial.stage.samples,
        finished=False,
    )  # fmt: skip
    lost = findings.of(Kind.LOST)
    if lost:
        raise StepFailed(f"{len(lost)} calls are not in the statuses that are left: {lost[0]}")
    trial.row(f"helm uninstall; {left} objects stay", seconds, findings)

    calls = len(trial.stage.receiver.book)
    values = trial.cluster.folder / "values.json"
    began = time.monotonic()
    await trial.helm("install", str(CHART), "-f", str(values), "--set", f"image.tag={RAISED}")
    seconds = time.monotonic() - began
    await find_redis(trial)
    await trial.create("after-all")
    findings = await trial.settled()
    if len(trial.stage.receiver.book) != calls + 2:
        raise StepFailed("a new installation sent something again")
    trial.row("install again; nothing is sent again", seconds, findings)


STEPS: Final = (
    install, helm_test, delete_a_pod, kill_a_process, roll_three, delete_redis, kill_redis, scale,
    upgrade_and_rollback, uninstall,
)  # fmt: skip


def name_of(trial: Trial, uid: str) -> str:
    """Name of a notification."""
    return trial.stage.watcher.last(uid).name


def processes(cluster: Cluster, program: bytes) -> list[int]:
    """Pids of a program's processes in the pods, as the machine sees them."""
    out = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").split()
                ours = cluster.group in (process / "cgroup").read_text()
                if ours and any(word.endswith(program) for word in words):
                    out.append(int(process.name))
    return sorted(out)


# -------------------------------------------------------------------------------- the frame


@asynccontextmanager
async def trial_of(folder: Path, helm: str) -> AsyncIterator[Trial]:
    """Put the observers in place."""
    document = json.loads((folder / "cluster.json").read_text())
    cluster = Cluster(
        folder, {n: Path(p) for n, p in document["programs"].items()}, Path(document["cni"])
    )
    token = (folder / "token").read_text()
    async with (
        Receiver(host=ADDRESS) as receiver,
        Api(f"https://{ADDRESS}:{API_PORT}", token, cluster.ca_file, NAMESPACE) as api,
    ):
        watcher = Watcher(api)
        stage = Stage(
            cast("ControlPlane", None), NAMESPACE, "", "nl", folder, receiver, api, watcher,
            cast("redis_asyncio.Redis", None),
        )  # fmt: skip
        eyes = [asyncio.create_task(watcher.run()), asyncio.create_task(_sampling(stage))]
        trial = Trial(stage, cluster, program=helm)
        try:
            yield trial
        finally:
            ended = [await _ended(task) for task in eyes]
            if stage.redis is not None:
                await stage.redis.aclose()
    broken = [e for e in ended if e and not isinstance(e, asyncio.CancelledError)]
    if broken:
        raise StepFailed(f"an observer broke: {broken}")


async def find_redis(trial: Trial) -> None:
    """Connect to the release's Redis by the address of its Service; a new release has another."""
    address = await trial.kubectl(
        "get", "service", f"{DEPLOYMENT}-redis", "-o", "jsonpath={.spec.clusterIP}"
    )
    # As the Job of the chart has made it.
    encoded = await trial.kubectl(
        "get", "secret", f"{DEPLOYMENT}-redis-auth", "-o", "jsonpath={.data.password}"
    )
    # No retries: an observer that hangs on yesterday's address would see nothing of today.
    trial.stage.redis = redis_asyncio.Redis(
        host=address, username="ledger", password=base64.b64decode(encoded).decode(),
        retry=Retry(NoBackoff(), 0), socket_timeout=5, socket_connect_timeout=5,
    )  # fmt: skip


async def _sampling(stage: Stage) -> None:
    """Hold logs against statuses again and again; Redis may be away."""
    while True:
        if stage.redis is not None:
            with contextlib.suppress(RedisError, aiohttp.ClientError, OSError, TimeoutError):
                await stage._sample()
        await asyncio.sleep(_SAMPLE)


async def run(folder: Path, wanted: Sequence[str], helm: str) -> int:
    """Do all steps, or those wanted; the first is always done."""
    # Reads what the image with the newer format writes; the oracle's eyes, not the product's.
    vars(codec)["READABLE_VERSIONS"] = frozenset({1, 2})
    began = time.monotonic()
    async with trial_of(folder, helm) as trial:
        await trial.call("kubectl", "create", "namespace", NAMESPACE)
        await trial.call(
            "kubectl", "label", "namespace", NAMESPACE,
            "pod-security.kubernetes.io/enforce=restricted",
        )  # fmt: skip
        print(HEAD, flush=True)
        for step in STEPS:
            if step is not install and wanted and step.__name__ not in wanted:
                continue
            try:
                await step(trial)
            except (StepFailed, AssertionError) as error:
                print(f"\nFAILED at {step.__name__}: {error}", flush=True)
                await diagnose(trial)
                return 1
        last = trial.rows[-1].findings
        print(
            f"\n{len(trial.uids)} notifications, {last.calls} calls: 0 lost,"
            f" {len(last.of(Kind.EXPLAINED))} repeats, each with a recorded unknown;"
            f" first message after {trial.installed:.1f} s; {time.monotonic() - began:.0f} s in all",
            flush=True,
        )
    return 0


async def diagnose(trial: Trial) -> None:
    """Print what an operator would look at."""
    for command in (
        ("get", "pods", "-o", "wide"),
        ("get", "events", "--sort-by=.lastTimestamp"),
        ("logs", "-l", "app.kubernetes.io/component=controller", "--tail=30", "--prefix"),
        ("logs", "-l", "app.kubernetes.io/component=redis", "--tail=20"),
    ):
        print(f"\n$ kubectl {' '.join(command)}")
        try:
            print((await trial.kubectl(*command))[-12_000:])
        except StepFailed as error:
            print(error)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="tests.cluster.run", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of a running cluster")
    parser.add_argument(
        "--only", action="append", default=[], choices=[s.__name__ for s in STEPS],
        help="only these steps; the installation is always done",
    )  # fmt: skip
    parser.add_argument("--helm", choices=["helm", "helm3"], default="helm", help="helm is Helm 4")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return asyncio.run(run(options.folder, options.only, options.helm))


if __name__ == "__main__":
    sys.exit(main())
