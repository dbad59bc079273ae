"""
The swap with the replaced controller, the way back, and the swap again: the steps of docs/migration.md.

Every step is carried out on a real API server whose definition is the replaced controller's at first.
That controller is stood in for by a writer that does what its client does: it reads an object, keeps
the members that it knows, and puts the whole status back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from syncer.kube.crd import load_crd, missing_rules
from syncer.model.resource import Json
from syncer.model.times import format_time
from tests.e2e.checker import Version
from tests.e2e.harness import (
    BUSY,
    OK,
    QUICK,
    NotifierProcess,
    Stage,
    Step,
    stage,
    until,
)
from tests.integration.api import CRDS, Reply, refusals
from tests.servers.controlplane import ControlPlane
from tests.servers.recipe import CONTROLLER_RULES, CONTROLLER_USER
from tests.servers.starts import run_beside

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True),
    pytest.mark.timeout(180),
]

NAME: Final = "notificationrequests.kubernaut.ai"
#: What the replaced controller's client keeps of an attempt, and of a status.
ATTEMPT: Final = ("channel", "attempt", "timestamp", "status", "error", "durationSeconds")
STATUS: Final = (
    "phase", "conditions", "deliveryAttempts", "totalAttempts", "successfulDeliveries",
    "failedDeliveries", "queuedAt", "processingStartedAt", "completionTime", "observedGeneration",
    "reason", "message",
)  # fmt: skip
#: One wait of a minute: long enough for everything that is done meanwhile.
PATIENT: Final[Json] = {**QUICK, "initialBackoffSeconds": 60}
#: Notifications of before the definition.
EARLY: Final = 12
#: Notifications that a program of older types writes to all the time.
RACED: Final = 16
LOST = "every recorded attempt stays on record"


def old_definition() -> Json:
    """The definition before the swap: no rules on the status, and none of our members."""
    crd = load_crd(rules=False)
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    members = status["properties"]
    for name in [n for n in members if n not in STATUS]:
        del members[name]
    entry = members["deliveryAttempts"]["items"]["properties"]
    for name in [n for n in entry if n not in ATTEMPT]:
        del entry[name]
    entry["status"]["enum"].remove("unknown")
    return crd


def as_kept(status: Json) -> Json:
    """A status as it comes out of the replaced controller's client."""
    kept = {k: v for k, v in status.items() if k in STATUS}
    entries = [{k: v for k, v in a.items() if k in ATTEMPT} for a in status["deliveryAttempts"]]
    return {**kept, "deliveryAttempts": entries}


async def write_as_before(here: Stage, name: str, change: Callable[[Json], None]) -> Reply:
    """Read, keep what that client knows, change it, put it back."""
    read = await here.api.ask("GET", f"{here.api.requests}/{name}")
    status = as_kept(read.body.get("status") or {"deliveryAttempts": []})
    change(status)
    return await here.api.ask(
        "PUT", f"{here.api.requests}/{name}/status", {**read.body, "status": status}
    )


def attempted(status: str, *, minutes: int = 10, phase: str = "Sending") -> Callable[[Json], None]:
    """One more attempt, made some minutes ago, and the counters that follow."""

    def change(written: Json) -> None:
        entries = written["deliveryAttempts"]
        moment = format_time(int(time.time() * 1000) - minutes * 60_000, millis=False)
        entries.append(
            {
                "channel": "slack:ops", "attempt": len(entries) + 1, "timestamp": moment,
                "status": status, "durationSeconds": 0.1,
                **({} if status == "success" else {"error": "slack webhook returned 503"}),
            }
        )  # fmt: skip
        sent = sum(a["status"] == "success" for a in entries)
        written |= {"phase": phase, "totalAttempts": len(entries)}
        written["successfulDeliveries" if sent else "failedDeliveries"] = 1

    return change


async def command(*arguments: str) -> tuple[int, str]:
    """Run one of the two programs; its exit code and what it printed."""
    ended = await run_beside(arguments, together=True)
    return ended.returncode, ended.stdout


async def apply_definition(plane: ControlPlane, folder: Path, *options: str) -> Json:
    """`notifier crd [...] | kubectl apply --server-side --force-conflicts -f -`."""
    code, text = await command("notifier", "crd", *options)
    assert code == 0, text
    file = folder / "crd.yaml"
    file.write_text(text)
    await plane.apply_crd(file)
    served: Json = (await plane.request("GET", f"{CRDS}/{NAME}"))[1]
    return served


async def agrees(here: Stage, process: NotifierProcess, name: str) -> bool:
    """`syncer inspect`: whether log and status say the same."""
    code, text = await command(
        "syncer", "inspect", f"{here.namespace}/{name}", "--config", str(process._config),
        "--kubeconfig", str(here.plane.controller_kubeconfig),
    )  # fmt: skip
    assert code in (0, 1), text
    return code == 0


async def published(here: Stage, name: str, attempts: int) -> None:
    """
    Wait until an object shows so many attempts, and of which log they are.

    The log is asked for, not watched: a watch from before the definition changed shows objects by the
    old one.
    """

    async def complete() -> bool:
        answer = await here.api.ask("GET", f"{here.api.requests}/{name}")
        seen = here.watcher.last(answer.body["metadata"]["uid"])
        return bool(
            seen
            and len(seen.status.get("deliveryAttempts", [])) == attempts
            and answer.body["status"].get("log")
        )

    await until(
        complete,
        lambda: f"{name} shows {attempts} attempts; {here.processes[-1].tail()}",
        within=30,
    )


def shown(here: Stage, uid: str) -> list[tuple[Any, ...]]:
    """Number and result of each attempt, in the order of the status."""
    version = here.watcher.last(uid)
    assert version is not None
    return [(a["attempt"], a["status"]) for a in version.status["deliveryAttempts"]]


@pytest.fixture
async def old_plane(control_plane_assets: Path) -> AsyncIterator[ControlPlane]:
    """A control plane of its own, with the definition that the replaced controller brought."""
    async with ControlPlane(control_plane_assets, bare=True) as plane:
        code, answer = await plane.request("POST", f"{CRDS}?fieldManager=helm", old_definition())
        assert code == 201, answer
        await asyncio.to_thread(plane.api.wait_served)
        yield plane


async def test_there_and_back_and_there_again(
    old_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """Each way finishes what the other left, sends nothing twice, and loses no attempt."""
    async with stage(old_plane, redis_url, tmp_path, sampled=False) as here:
        # Before: one finished, one tried once, one never looked at.
        old = {name: await here.create(name, retryPolicy=QUICK) for name in ("done", "half", "new")}
        assert (await write_as_before(here, "done", attempted("success", phase="Sent"))).code == 200
        assert (await write_as_before(here, "half", attempted("failed"))).code == 200
        done = await here.api.ask("GET", f"{here.api.requests}/done")

        # There, 1: the definition; what exists stays as it is.
        served = await apply_definition(old_plane, tmp_path)
        assert missing_rules(served) == []
        assert (await here.api.ask("GET", f"{here.api.requests}/done")).body == done.body

        # There, 2: the controller; it finishes what is unfinished.
        here.script("unsure", Step(drop="after"), OK)
        here.script("later", BUSY, OK)
        process = here.notifier()
        process.start()
        for name in ("half", "new"):
            await here.wait_phase(old[name])
        assert shown(here, old["half"]) == [(1, "failed"), (2, "success")]
        assert (await here.api.ask("GET", f"{here.api.requests}/done")).body == done.body
        await here.wait_acked([old["half"], old["new"]])
        await until(
            lambda: bool(process.lines("start-up reconciliation done")), process.tail, within=15
        )
        assert await agrees(here, process, "half")

        # Back, 1: while the rules are on, the old client's writes are refused.
        new = {n: await here.create(n, retryPolicy=PATIENT) for n in ("unsure", "later")}
        for name in new:
            await published(here, name, 1)
        assert shown(here, new["unsure"]) == [(1, "unknown")]
        refused = await write_as_before(here, "later", attempted("failed"))
        assert any(LOST in message for message in refusals(refused)), refused.body

        # Back, 2: this controller ends in order; log and status agree.
        process.sigterm()
        assert await process.wait_exit() == 0
        (drained,) = process.lines("drained")
        assert (drained["unrecorded"], drained["unsynced"]) == (0, 0)
        assert await agrees(here, process, "unsure")

        # Back, 3: the rules go; the definition keeps our members and values.
        served = await apply_definition(old_plane, tmp_path, "--without-rules")
        assert len(missing_rules(served)) == len(missing_rules({}))

        # Back, 4: the old client's writes pass, and drop what it does not know.
        answer = await write_as_before(here, "unsure", attempted("failed", minutes=30))
        assert answer.code == 200, answer.body
        assert not {"log", "channels", "uncertainAttempts"} & set(answer.body["status"])
        answer = await write_as_before(here, "later", attempted("success", phase="Sent"))
        assert answer.code == 200, answer.body

        # There again: rules, a new prefix, the controller.
        await apply_definition(old_plane, tmp_path)
        here.prefix = f"{here.prefix}-2"
        process = here.notifier()
        process.start()
        await here.wait_phase(new["unsure"])
        assert shown(here, new["unsure"]) == [(1, "unknown"), (2, "failed"), (3, "success")]
        assert shown(here, new["later"]) == [(1, "failed"), (2, "success")]
        calls = {n: len(here.receiver.calls(n)) for n in (*old, *new)}
        # What the stand-in claims to have sent never came here.
        assert calls == {"done": 0, "half": 1, "new": 1, "unsure": 2, "later": 1}
        await here.wait_acked([new["unsure"]])


async def test_the_old_definition_under_the_new_controller(
    old_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    Started before its definition is there, the controller says so and writes no status.

    Once the definition is applied, it goes on without a restart, and nothing is sent twice.
    """
    async with stage(old_plane, redis_url, tmp_path, sampled=False) as here:
        # Many, since in what order a watch of before and the answer to a write come is chance.
        names = [f"early-{n}" for n in range(EARLY)]
        uids = [await here.create(name, retryPolicy=QUICK) for name in names]
        process = here.notifier()
        process.start()
        await until(
            lambda: len(process.lines("attempt recorded")) == EARLY, process.tail, within=30
        )

        async def told() -> bool:
            code, text = await process.ask("/readyz")
            return code == 503 and "apply the CRD" in text

        await until(told, process.tail, within=30)
        for uid in uids:
            version = here.watcher.last(uid)
            assert version is not None
            assert "deliveryAttempts" not in version.status
        await apply_definition(old_plane, tmp_path)
        for uid in uids:
            await here.wait_phase(uid)
        await here.wait_acked(uids)
        # Asked for, not watched: this test's watch is one of before as well.
        for name in names:
            assert len(here.receiver.calls(name)) == 1
            status = (await here.api.ask("GET", f"{here.api.requests}/{name}")).body["status"]
            listed = [(a["attempt"], a["status"]) for a in status["deliveryAttempts"]]
            assert listed == [(1, "success")], f"{name}: {status}"
            assert status["totalAttempts"] == 1
            assert all(a["id"] for a in status["deliveryAttempts"])
        # The watch of before may just have been ended, and the list be under way again.
        await process.wait_ready(within=30)


async def test_rights_without_leases_are_not_enough(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """With a role that lacks leases no replica is ready; it names the right, and goes on with it."""
    async with stage(control_plane, redis_url, tmp_path, sampled=False) as here:
        role = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{CONTROLLER_USER}"
        less = [rule for rule in CONTROLLER_RULES if "leases" not in rule["resources"]]
        assert len(less) == len(CONTROLLER_RULES) - 1
        process = here.notifier()
        try:
            changed = await here.plane.request("PATCH", role, {"rules": less})
            assert changed[0] == 200, changed
            process.start()
            uid = await here.create("waits")

            async def named() -> bool:
                code, text = await process.ask("/readyz")
                return code == 503 and 'resource "leases"' in text

            await until(named, process.tail, within=60)
            assert here.watcher.phase(uid) == ""
        finally:
            await asyncio.to_thread(control_plane.api.grant)
        await process.wait_ready(60)
        await here.wait_phase(uid)


async def test_a_racing_writer_of_older_types_shows_no_attempt_twice(
    old_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """
    Without the rules a program may put statuses back without our members, again and again.

    Whatever it meets, a claim after a restart included, each attempt is listed and counted once.
    """
    dropped: set[str] = set()

    async def write(here: Stage, name: str, uid: str) -> None:
        met: Version | None = None
        while here.watcher.phase(uid) != "Sent":
            await asyncio.sleep(0.05)
            # Asked for at each version, not watched: this test's watch is one of before the definition.
            if (version := here.watcher.last(uid)) is met:
                continue
            met = version
            read = await here.api.ask("GET", f"{here.api.requests}/{name}")
            status = read.body.get("status") or {}
            if any("id" in a for a in status.get("deliveryAttempts", [])):
                answer = await here.api.ask(
                    "PUT",
                    f"{here.api.requests}/{name}/status",
                    {**read.body, "status": as_kept(status)},
                )
                if answer.code == 200:
                    dropped.add(name)
                    here.receiver.scripts[name] = (BUSY, BUSY, OK)

    async with stage(old_plane, redis_url, tmp_path, sampled=False) as here:
        await apply_definition(old_plane, tmp_path, "--without-rules")
        names = [f"raced-{n}" for n in range(RACED)]
        # None ends before its members were dropped, however slow the writers are.
        here.receiver.default = (BUSY,)
        process = here.notifier()
        process.start()
        await process.wait_ready()
        often = {**QUICK, "maxAttempts": 10}
        uids = [await here.create(name, retryPolicy=often) for name in names]
        writers = [
            asyncio.create_task(write(here, name, uid))
            for name, uid in zip(names, uids, strict=True)
        ]
        try:
            await until(lambda: len(dropped) >= RACED // 2, process.tail, within=60)
            process.kill()
            process.start()
            for uid in uids:
                await here.wait_phase(uid, within=90)
        finally:
            for task in writers:
                task.cancel()
            await asyncio.gather(*writers, return_exceptions=True)
        await here.wait_acked(uids)
        for name in names:
            status = (await here.api.ask("GET", f"{here.api.requests}/{name}")).body["status"]
            listed = [(a["attempt"], a["status"]) for a in status["deliveryAttempts"]]
            assert [n for n, _ in listed] == list(range(1, len(listed) + 1)), f"{name}: {listed}"
            assert listed[-1][1] == "success"
            assert status["totalAttempts"] == len(listed)
            # What was cut off by the kill has no known result, and may have left or not.
            known = sum(s != "unknown" for _, s in listed)
            called = [c.attempt for c in here.receiver.calls(name)]
            assert len(called) == len(set(called)) >= 3
            assert len(called) - 1 <= known <= len(called) <= len(listed), f"{name}: {listed}"
        assert dropped == set(names)
