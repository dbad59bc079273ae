"""
Kubernaut as it is released, with this controller in its controller's place: there, on, back, there again.

Kubernaut's chart is installed by Helm on a real API server, with its CRDs, hooks, accounts and rights; its
controller is its own program. Then, in one of the two ways of docs/migration.md and by the commands that it
prints, this controller takes its place, Kubernaut is upgraded, its own controller comes back, and goes
again; each time with notifications under way and new ones coming:

- `image`: in Kubernaut's own Deployment, whose hook applies its CRDs again at the upgrade
- `chart`: this project's chart beside it; its upgrades meet the writes of the CRD by hook and operator,
  with our CRD and without it

The verdict is drawn from the receiver's book, the store's, a watch of all objects, and `syncer`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import textwrap
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from tests.docs.blocks import blocks
from tests.e2e.harness import BUSY, OK, Receiver, Step, put, until
from tests.integration.api import Api
from tests.kubernaut.world import FOLDER, OURS, ROOT, World, world

NAMESPACE: Final = "kubernaut-system"
REPLACED: Final = "notification-controller"
TERMINAL: Final = ("Sent", "PartiallySent", "Failed")
#: Seconds.
PUBLISHED, READY = 2.0, 20.0
PAGE: Final = ROOT / "docs" / "migration.md"
Json = dict[str, Any]

ROUTING: Final = """
route: {receiver: everyday}
receivers:
  - name: everyday
    consoleConfigs: [{enabled: true}]
    slackConfigs: [{channel: "#everyday", credentialRef: slack-webhook}]
"""


@dataclass
class Sample:
    """One notification: who was there when it came, and when it was first seen at its end."""

    name: str
    uid: str
    created: float
    controller: str
    ended: float = 0.0
    status: Json = field(default_factory=dict)


class Trial:
    """What is done to it, and what is seen."""

    def __init__(self, there: World, api: Api, receiver: Receiver) -> None:
        self.there = there
        self.api = api
        self.receiver = receiver
        self.samples: dict[str, Sample] = {}
        self.faults: list[str] = []
        self.controller = "theirs"
        self.way = there.given["way"]
        self.touched: list[Sample] = []
        self.adoption = ""
        self.watching: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)

    # -- notifications ----------------------------------------------------------------------------

    async def create(self, *script: Step) -> Sample:
        """Create a notification whose receiver does so."""
        name = f"n-{next(self._numbers)}"
        self.receiver.scripts[name] = script or (OK,)
        policy = {
            "maxAttempts": 5,
            "initialBackoffSeconds": 25,
            "backoffMultiplier": 1,
            "maxBackoffSeconds": 60,
        }
        at = time.monotonic()
        made = await self.api.create(
            name, subject=name, body="b", priority="Low", retryPolicy=policy
        )
        self.samples[name] = Sample(name, made["metadata"]["uid"], at, self.controller)
        return self.samples[name]

    async def under_way(self, count: int = 2) -> list[Sample]:
        """
        Notifications that have failed once and wait.

        With a third failure in a row Kubernaut's breaker opens, and what it refuses is on record as tried.
        """
        made = [await self.create(BUSY, OK) for _ in range(count)]
        self.touched += made
        await until(
            # Kubernaut's controller may have tried one again at once, and delivered it.
            lambda: all(
                any(a["status"] == "failed" for a in s.status.get("deliveryAttempts", ()))
                for s in made
            ),
            lambda: f"all have failed once: {[s.status for s in made]}", within=20,
        )  # fmt: skip
        return made

    @asynccontextmanager
    async def load(self, every: float = 0.5) -> AsyncIterator[None]:
        """Have new notifications coming meanwhile."""

        async def come() -> None:
            while True:
                await self.create()
                await asyncio.sleep(every)

        coming = asyncio.create_task(come())
        try:
            yield
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming

    async def watch(self) -> None:
        """Follow every status."""
        await asyncio.gather(self._follow(), self._look())

    async def _look(self) -> None:
        """
        Look up what is answered and has not been seen to end.

        After a write of the definition, a busy API server has served neither list nor watch for 11 s.
        """
        while True:
            await asyncio.sleep(0.2)
            for s in [s for s in self.samples.values() if not s.ended]:
                if any(c.processed for c in self.receiver.calls(s.name)):
                    with suppress(TimeoutError, aiohttp.ClientError):
                        found = await self.api.ask("GET", f"{self.api.requests}/{s.name}")
                        if found.code == 200:
                            self._see(found.body)

    async def _follow(self) -> None:
        """Watch; while the definition is written, a list or a watch of it may fail."""
        while True:
            with suppress(TimeoutError, aiohttp.ClientError, AssertionError):
                listed = await self.api.ask("GET", self.api.requests)
                assert listed.code == 200, listed.body
                for item in listed.body["items"]:
                    self._see(item)
                version = listed.revision
                async with self.api.watch(self.api.requests, resourceVersion=version) as events:
                    async for event in events:
                        if event.type == "ERROR":
                            break
                        self._see(event.object)
            await asyncio.sleep(0.05)

    def _see(self, item: Json) -> None:
        sample = self.samples.get(item["metadata"]["name"])
        if sample is not None:
            sample.status = item.get("status", {})
            if sample.status.get("phase") in TERMINAL and not sample.ended:
                sample.ended = time.monotonic()

    async def all_sent(self, within: float = 60) -> None:
        """Wait until every notification so far is sent."""

        def open_() -> list[str]:
            if self.watching is not None and self.watching.done():
                self.watching.result()
            return [s.name for s in self.samples.values() if s.status.get("phase") != "Sent"]

        await until(lambda: not open_(), lambda: f"all are sent; not {open_()[:5]}", within=within)

    # -- what a person does, as docs/migration.md prints it ----------------------------------------

    async def helm(self, what: str, chart: str) -> None:
        """Type a command of the page for Kubernaut's chart."""
        put(FOLDER / "values.yaml", json.dumps(values_of(Path(chart))))
        put(
            FOLDER / "notification-ledger.yaml", printed("registry: registry.example", listing=True)
        )
        await self.there.type(
            printed(f"helm upgrade kubernaut CHART {what}").replace("CHART", chart)
        )

    async def ours(self, chart: str) -> None:
        """This controller in the place of Kubernaut's."""
        name = REPLACED if self.way == "image" else OURS
        await self.stopped(chart)
        if self.controller == "theirs again":
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self.adoption = re.sub(r"20\S+Z", now, printed("adoption:", listing=True))
        self.controller = "between"
        waiting = [await self.create() for _ in range(3)]
        if self.way == "image":
            await self.there.type(printed("kubectl -n kubernaut-system patch secret "))
            await self.helm("-n kubernaut-system -f values.yaml -f", chart)
        else:
            await self.there.type(printed("kubectl get notificationrequests -A"))
            await self.release()
        self.controller = "ours"
        await self.ready(name)
        await until(lambda: all(s.ended for s in waiting), "what came meanwhile is sent", within=15)
        await self.verify()

    async def verify(self) -> None:
        """All logs agree with their statuses; nothing is missed of what Kubernaut's controller ended."""
        name = REPLACED if self.way == "image" else OURS
        command = printed(f"kubectl -n {NAMESPACE} exec deployment/{name} ")
        said = await self.there.type(f"{command} -o json 2>verify.log || [ $? = 1 ]")
        found = [json.loads(line) for line in said.splitlines()]
        assert found, (FOLDER / "verify.log").read_text()
        assert "summary" in found.pop(), said
        self.faults += [f"syncer verify: {f}" for f in found]

    async def theirs(self, chart: str) -> None:
        """Kubernaut's own controller again."""
        if self.way == "image":
            await self.stopped(chart)
        else:
            assert await self.policies(), "the policy on statuses is not there"
            await self.there.type(printed("helm upgrade notification-ledger "))
            assert not self.there.node.pods(OURS), "a pod of ours still runs"
            assert not await self.policies(), "a policy is left"
        self.controller = "theirs again"
        await self.helm("-n kubernaut-system --reset-values", chart)
        await self.ready(REPLACED)

    async def stopped(self, chart: str) -> None:
        """No pod of Kubernaut's Deployment runs."""
        await self.helm("-n kubernaut-system --set notification.replicas=0", chart)
        await self.there.type(printed("kubectl -n kubernaut-system wait --for=delete pod "))
        assert not self.there.node.pods(REPLACED), "a pod of Kubernaut's still runs"

    async def policies(self) -> str:
        """The policies in force."""
        return await self.there.type("kubectl get validatingadmissionpolicybindings -o name")

    async def release(self, *options: str, crd: bool = False) -> None:
        """Install or upgrade this project's chart, beside a Kubernaut whose controller has stopped."""
        ours = printed("repository: registry.example", listing=True)
        put(FOLDER / "ledger.yaml", ours + self.adoption)
        command = printed("helm upgrade --install notification-ledger ")
        # The explorer's ports are not the node's to move.
        more = ["--set", f"explorer.enabled=false,crds.enabled={str(crd).lower()}", *options]
        await self.there.type(command.replace("\n", f" {' '.join(more)}\n", 1))

    async def operator(self, chart: str) -> None:
        """The operator's way: the definition is read, and written with its own specification."""
        name = "notificationrequests.kubernaut.ai"
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        own = yaml.safe_load(
            await self.there.type(f"cat {chart}/crds/kubernaut.ai_notificationrequests.yaml")
        )
        found = (await self.api.ask("GET", path)).body
        answer = await self.api.ask("PUT", path, {**found, "spec": own["spec"]})
        assert answer.code == 200, answer.body

    async def ready(self, name: str) -> None:
        """Wait until a rollout is done; ours must be quick."""
        await self.there.type(
            f"kubectl -n {NAMESPACE} rollout status deployment {name} --timeout 180s"
        )
        for pod in self.there.node.pods(name):
            print(f"        {pod.name} is ready after {pod.took or 0:.1f} s", flush=True)
            if self.controller == "ours" and (pod.took or READY) >= READY:
                self.faults.append(f"{pod.name} was ready after {pod.took} s")

    # -- the verdict ------------------------------------------------------------------------------

    async def judge(self, redis: str) -> None:
        """What was lost, sent twice, shown twice, or late; what the store refused."""
        late = []
        for s in self.samples.values():
            calls = self.receiver.calls(s.name)
            good = [c for c in calls if c.processed]
            if s.status.get("phase") != "Sent" or not good:
                self.faults.append(f"{s.name} is lost: {s.status.get('phase')}")
            if len(good) > 1:
                self.faults.append(f"{s.name} was received {len(good)} times")
            attempts = s.status.get("deliveryAttempts", [])
            shown = Counter((a["channel"], a["attempt"]) for a in attempts)
            slack = [a for a in attempts if a["channel"].startswith("slack")]
            if max(shown.values(), default=0) > 1 or len(slack) != len(calls):
                self.faults.append(f"{s.name} shows {dict(shown)} for {len(calls)} calls")
            if s.controller == "ours" and len(calls) == 1:
                late.append(s.ended - (calls[0].answered or calls[0].at))
        if max(late) > PUBLISHED:
            self.faults.append(
                f"{sum(t > PUBLISHED for t in late)} phases later than {PUBLISHED} s"
            )
        print(
            f"{len(self.samples)} notifications, {len(self.receiver.book)} calls; under this controller"
            f" {len(late)}, the phase {sorted(late)[len(late) // 2]:.2f} s after the answer, at most"
            f" {max(late):.2f} s", flush=True,
        )  # fmt: skip
        await self._by_syncer(redis)
        refused = Counter(self.there.store.refused())
        accepted = Counter(a[2] for a in self.there.store.answers if a[0] == "POST")
        print(f"store: {dict(accepted)}, {len(self.there.store.events)} events", flush=True)
        self.faults += [f"the store refused {n} requests: {what}" for what, n in refused.items()]
        kind = "notification.message.sent"
        sent = {e["resource_id"] for e in self.there.store.events if e["event_type"] == kind}
        missing = [s.name for s in self.samples.values() if s.name not in sent]
        if missing:
            self.faults.append(f"{len(missing)} without an event of their sending: {missing[:5]}")
        self.faults += [f"{name} ended by itself" for name in self.there.node.restarts]

    async def _by_syncer(self, redis: str) -> None:
        """What was tried again shows each attempt once, by its id."""
        await self.verify()
        where = f"--redis-url {redis}"
        for s in self.touched:
            said = await self.there.type(
                f"syncer explain {NAMESPACE}/{s.name} --records {where} -o json 2>/dev/null || true"
            )
            found = json.loads(said)
            shown = [a["id"] for a in found["status"]["attempts"]]
            calls = self.receiver.calls(s.name)
            if not all(shown) or len(set(shown)) != len(shown) or len(shown) != 1 + len(calls):
                self.faults.append(f"syncer shows {shown} of {s.name}, {len(calls)} calls")
            if found["differences"]:
                self.faults.append(f"{s.name}: {found['differences'][:2]}")


def values_of(chart: Path) -> Json:
    """Values of Kubernaut's chart: what it does not install without, and a receiver."""
    nowhere = {"enabled": False, "host": "nowhere"}
    policy = {"policies": {"existingConfigMap": "none"}}
    model = {"provider": "openai", "model": "m"}
    keys = [
        {"name": "slack-webhook", "secretName": "slack-webhook", "secretKey": "webhook-url"},
        {
            "name": "notification-ledger.redis-url",
            "secretName": "notification-redis",
            "secretKey": "url",
        },
    ]
    older = "llmProfiles" not in (chart / "values.schema.json").read_text()
    named = {**model, "credentialsSecretName": "llm"}
    return {
        "aianalysis": policy, "signalprocessing": policy, "postgresql": nowhere, "valkey": nowhere,
        "notification": {"routing": {"content": ROUTING}, "credentials": keys},
        "networkPolicies": {"apiServerCIDR": "10.0.0.1/32"},
        **({"kubernautAgent": {"llm": model}} if older else {"global": {"llmProfiles": {"m": named}}}),
    }  # fmt: skip


async def run(there: World) -> int:
    """Have the trial, and say what was seen."""
    given = there.given
    old, new = (f"{given[tree]}/charts/kubernaut" for tree in ("tree", "newer"))
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        api = await stack.enter_async_context(
            Api(there.plane.server, there.plane.admin_token, there.plane.ca_file, NAMESPACE)
        )
        redis = printed("kubectl -n kubernaut-system create secret generic notification-redis ")
        await there.type(re.sub(r"redis://\S+", there.redis.url, redis))
        slack = f"create secret generic slack-webhook --from-literal=webhook-url={receiver.url}"
        await there.type(f"kubectl -n {NAMESPACE} {slack}")
        trial = Trial(there, api, receiver)
        await there.type(f"ln -s {ROOT}/charts")
        put(FOLDER / "first.yaml", json.dumps(values_of(Path(old))))
        await there.type(f"helm install kubernaut {old} -n {NAMESPACE} -f first.yaml")
        await trial.ready(REPLACED)
        trial.watching = asyncio.create_task(trial.watch())
        stack.callback(trial.watching.cancel)
        try:
            there.say("notifications under Kubernaut's controller")
            async with trial.load():
                await trial.under_way()
                await asyncio.sleep(3)
            await there_and_back(trial, old, new)
            await trial.judge(there.redis.url)
        except AssertionError as error:
            ended = [f"{p.name}: {p.log.read_text()[-1500:]}" for p in there.node.history[-2:]]
            trial.faults.append("\n".join([str(error), *ended]))
    for fault in trial.faults:
        print(f"FAULT {fault}")
    print(f"{given['version']}, Helm {given['major']}, {trial.way}: {len(trial.faults)} faults")
    return 1 if trial.faults else 0


async def there_and_back(trial: Trial, old: str, new: str) -> None:
    """This controller in Kubernaut's place, Kubernaut upgraded, its own controller again, and back."""
    say = trial.there.say
    say(f"this controller in the place of Kubernaut's: {trial.way}")
    await trial.ours(old)
    async with trial.load():
        await trial.under_way()
        await (image if trial.way == "image" else chart)(trial, old, new)
    await trial.all_sent()
    say("back to Kubernaut's controller, which ends what this one began")
    await trial.under_way()
    await trial.theirs(new)
    await trial.all_sent()
    async with trial.load():
        await trial.under_way()
    say("and forward again")
    await trial.ours(new)
    async with trial.load():
        await trial.under_way()
    await trial.all_sent()


async def image(trial: Trial, _old: str, new: str) -> None:
    """Kubernaut is upgraded under load."""
    trial.there.say("Kubernaut is upgraded under load")
    trial.there.store.readyz = True
    await trial.helm("-n kubernaut-system -f values.yaml -f", new)
    await trial.ready(REPLACED)


async def chart(trial: Trial, old: str, new: str) -> None:
    """Kubernaut is upgraded, and both charts and the operator write the definition, in every order."""
    # Helm 4 applies on the server's side, and meets whoever else has written the definition.
    forced = ["--force-conflicts"] if trial.there.given["major"] == "4" else []
    trial.there.say("with our definition, which Kubernaut's hook and operator then write again")
    with raises("cannot be imported into the current release"):
        await trial.release(crd=True)
    await trial.release("--take-ownership", *forced, crd=True)
    trial.there.store.readyz = True
    await trial.stopped(new)
    await trial.operator(new)
    if forced:
        with raises("conflict"):
            await trial.release(crd=True)
    await trial.release(*forced, crd=True)
    trial.there.say("and without it")
    await trial.stopped(new)
    await trial.release()
    await trial.ready(OURS)


@contextmanager
def raises(text: str) -> Iterator[None]:
    """What a command must refuse, and why."""
    try:
        yield
    except AssertionError as error:
        if text in str(error):
            return
        raise
    raise AssertionError(f"it was not refused with {text!r}")


def printed(start: str, *, listing: bool = False) -> str:
    """Return a block of docs/migration.md: a command by its first words, YAML by a line in it."""
    if listing:
        texts = re.findall(r"^ *```yaml\n(.*?)^ *```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        (text,) = (textwrap.dedent(t) for t in texts if start in t)
    else:
        (text,) = (b.text for b in blocks(PAGE) if b.lines[0].startswith(start))
    return str(text)


async def main() -> int:
    """Have the servers, and run the trial."""
    given = json.loads(sys.argv[1])
    images = {
        "registry.example/kubernaut-ai/notification": (["notifier"], ["run"]),
        "kubernaut-ai/notification:1.5.7": ([given["controllers"]["v1.5.7"]], []),
        "kubernaut-ai/notification": ([given["controllers"]["main"]], []),
    }
    async with world(given, NAMESPACE, images) as there:
        return await run(there)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
