"""
The procedures of docs/recovery.md, carried out on real servers with the controller as a process.

Each begins with notifications that have something on record, does the damage, follows the page, and
ends with the question that matters: does the receiver's own book agree with the record, and was
nothing sent that need not be.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import redis.asyncio as redis_asyncio

from syncer.model.resource import Json
from tests.conftest import CRD
from tests.e2e.harness import (
    BUSY,
    LEASE_SECONDS,
    OK,
    QUICK,
    NotifierProcess,
    Stage,
    Step,
    stage,
    until,
)
from tests.integration.operating import RawLog, patch
from tests.servers.controlplane import ControlPlane
from tests.servers.definition import CRD_PATH
from tests.servers.redis import RedisServer, find_binary
from tests.servers.starts import UNTRUSTING, run_beside

pytestmark = pytest.mark.timeout(240)

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "recovery.md"
#: One wait long enough for whatever is done meanwhile; then it goes on at once.
SLOW: Final[Json] = {**QUICK, "initialBackoffSeconds": 5}


def attempts(here: Stage, uid: str) -> list[tuple[int, str]]:
    """Numbers and results of the attempts that the object shows."""
    return [(a["attempt"], a["status"]) for a in here.watcher.last(uid).attempts]


async def shown(here: Stage, uid: str, n: int) -> None:
    """Wait until the object shows so many attempts, and the log says that it does."""
    await until(lambda: len(attempts(here, uid)) == n, f"{n} attempts are shown")
    await here.wait_acked([uid])


async def tried(here: Stage, name: str, *steps: Step) -> str:
    """Create a notification for which the receiver has this in store, and wait for its first attempt."""
    here.script(name, *steps)
    uid = await here.create(name, retryPolicy=SLOW)
    await shown(here, uid, 1)
    return uid


async def held(process: NotifierProcess, n: int, reason: str) -> None:
    """Wait until a replica says that it holds so many notifications for a reason."""
    await process.wait_metric("held_notifications", n, reason=reason)


def aof(server: RedisServer) -> Path:
    """The file to which a server appends."""
    (file,) = (server.directory / "appendonlydir").glob("*.incr.aof")
    return file


@asynccontextmanager
async def own_redis(name: str = "redis-server") -> AsyncIterator[RedisServer]:
    """A server of our own, whose files may be meddled with."""
    async with RedisServer(find_binary(name), appendfsync="always") as server:
        yield server


async def test_redis_lost_its_tail(control_plane: ControlPlane, tmp_path: Path) -> None:
    """What the status shows comes back into the log, is counted, and is not sent again."""
    async with (
        own_redis() as server,
        stage(control_plane, server.url, tmp_path) as here,
    ):
        process = here.notifier().start()
        uid = await tried(here, "tail", BUSY, BUSY, OK)
        size = aof(server).stat().st_size
        await shown(here, uid, 2)
        process.kill()
        await server.stop()
        with aof(server).open("ab") as file:
            file.truncate(size)
        await server.start()
        process.start()
        await here.wait_phase(uid)
        assert attempts(here, uid) == [(1, "failed"), (2, "failed"), (3, "success")]
        assert len(here.receiver.calls("tail")) == 3
        assert await process.metric("notification_ledger_log_loss_ledger_total") == 1
        (line,) = process.lines("the log had lost what the object shows; restored")
        assert (line["uid"], line["attempts"]) == (uid, 1)


async def test_redis_is_empty_or_older(control_plane: ControlPlane, tmp_path: Path) -> None:
    """
    Under a running controller Redis is emptied, and later replaced by an older copy.

    What is finished stays as it is; what is not goes on with what memory and status know.
    """
    async with (
        own_redis() as server,
        stage(control_plane, server.url, tmp_path) as here,
    ):
        await here.notifier().start().wait_ready()
        done = await here.create("done")
        await here.wait_phase(done)
        await here.wait_acked([done])
        settled = here.watcher.last(done)
        uid = await tried(here, "empty", BUSY, BUSY, OK)
        server.flush()
        await here.wait_phase(uid)
        assert attempts(here, uid) == [(1, "failed"), (2, "failed"), (3, "success")]
        assert len(here.receiver.calls("empty")) == 3
        # An older copy: taken while one attempt was on record, put back when there were two.
        uid = await tried(here, "older", BUSY, BUSY, OK)
        copy = tmp_path / "copy"
        await asyncio.to_thread(shutil.copytree, server.directory / "appendonlydir", copy)
        await shown(here, uid, 2)
        await server.kill()
        await asyncio.to_thread(shutil.rmtree, server.directory / "appendonlydir")
        await asyncio.to_thread(shutil.copytree, copy, server.directory / "appendonlydir")
        await server.start()
        await here.wait_phase(uid)
        assert attempts(here, uid) == [(1, "failed"), (2, "failed"), (3, "success")]
        assert len(here.receiver.calls("older")) == 3
        assert here.watcher.last(done) == settled
        assert len(here.receiver.calls("done")) == 1


async def test_etcd_was_restored(control_plane_assets: Path, tmp_path: Path) -> None:
    """Epochs fall back: nothing is sent and the reason is said, until the incarnation is raised."""
    async with (
        ControlPlane(control_plane_assets, bare=True) as plane,
        own_redis() as server,
    ):
        await asyncio.to_thread(plane.api.apply_crd, CRD)
        async with stage(plane, server.url, tmp_path, sampled=False) as here:
            here.script("n", BUSY, BUSY, OK)
            etcd = plane._recipe.directory / "etcd"
            process = here.notifier().start()
            # The third is due once the API server is gone for long.
            uid = await here.create("n", retryPolicy={**SLOW, "backoffMultiplier": 3})
            await shown(here, uid, 1)
            process.kill()
            # The backup, when one attempt was on record. A frozen etcd has on disk what a killed one has.
            await plane.pause("etcd")
            await asyncio.to_thread(shutil.copytree, etcd, tmp_path / "backup")
            await plane.resume("etcd")
            for n in range(30):
                name = {"metadata": {"name": f"later-{n}"}}
                await here.api.ask("POST", f"/api/v1/namespaces/{here.namespace}/configmaps", name)
            process.start()
            await shown(here, uid, 2)
            # The restore: the object is there, as it was, and resourceVersions are lower. (An open watch
            # keeps a polite end waiting.)
            await plane.kill_apiserver()
            await plane.stop()
            await asyncio.to_thread(shutil.rmtree, etcd)
            await asyncio.to_thread(shutil.copytree, tmp_path / "backup", etcd)
            await plane.start()
            # A replica that runs refuses what is older than what it knows; one that starts meets the logs.
            await process.wait_says(503, "raise sharding.incarnation", within=LEASE_SECONDS + 60)
            process.kill()
            process.start()
            await until(
                lambda: bool(process.lines("the log belongs to a later epoch; if etcd was restored,"
                                           " raise sharding.incarnation")),
                lambda: f"it is fenced; {process.tail()}",
                within=60,
            )  # fmt: skip
            await process.wait_says(503, "raise sharding.incarnation", within=LEASE_SECONDS + 60)
            assert len(here.receiver.calls("n")) == 2
            process.kill()
            raise_incarnation(process)
            process.start()
            await here.wait_phase(uid)
            assert attempts(here, uid) == [(1, "failed"), (2, "failed"), (3, "success")]
            assert len(here.receiver.calls("n")) == 3
            await deleted_crd(plane, here, process)


def raise_incarnation(process: NotifierProcess) -> None:
    """Change the settings file, which the next start reads."""
    document = json.loads(process._config.read_text())
    document["sharding"]["incarnation"] = 1
    process._config.write_text(json.dumps(document))


async def deleted_crd(plane: ControlPlane, here: Stage, process: NotifierProcess) -> None:
    """The definition goes, with all objects, and comes back; the logs stay."""
    here.script("held", BUSY, OK)
    uid = await here.create("held", retryPolicy={**SLOW, "initialBackoffSeconds": 60})
    await shown(here, uid, 1)
    before = (await here.logs([uid]))[uid].records
    assert (await here.api.ask("DELETE", CRD_PATH)).code == 200

    async def gone() -> bool:
        return (await here.api.ask("GET", CRD_PATH)).code == 404

    await until(gone, "the definition is gone")
    await process.wait_says(503, "cluster", within=60)
    assert (await here.logs([uid]))[uid].records == before
    await asyncio.to_thread(plane.api.apply_crd, CRD)
    await process.wait_ready()
    fresh = await here.create("fresh")
    await here.wait_phase(fresh)

    async def archived() -> bool:
        lines = process.lines("notification deleted; its log")
        return any(uid in line["ledger"] for line in lines)

    await until(archived, lambda: f"its log is archived; {process.tail()}", within=60)
    assert (await here.logs([uid]))[uid].records == before
    await RawLog(here, uid).wait_expiry()
    assert len(here.receiver.calls("held")) == 1


async def test_moving_to_another_redis(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A replica takes over with every byte; what was done is not done again."""
    async with (
        own_redis() as old,
        own_redis("valkey") as new,
        stage(control_plane, old.url, tmp_path) as here,
    ):
        process = here.notifier().start()
        here.script("moving", BUSY, OK)
        uid = await here.create("moving", retryPolicy=SLOW)
        done = await here.create("done")
        await here.wait_phase(done)
        await here.wait_acked([done])
        await shown(here, uid, 1)
        process.sigterm()
        assert await process.wait_exit() == 0
        target: Any = redis_asyncio.Redis.from_url(new.url)
        await target.execute_command("REPLICAOF", "127.0.0.1", old.url.rpartition(":")[2])

        async def in_step() -> bool:
            info: dict[str, Any] = await target.info("replication")
            return info["master_link_status"] == "up" and not info["master_sync_in_progress"]

        await until(in_step, "the replica is in step", within=60)
        logs = {k: await here.redis.lrange(k, 0, -1) for k in await here.redis.keys("*{*")}
        await target.execute_command("REPLICAOF", "NO", "ONE")
        assert {k: await target.lrange(k, 0, -1) for k in await target.keys("*{*")} == logs
        await target.aclose()
        await old.stop()
        moved = here.notifier(redis={"url": new.url}).start()
        await here.wait_phase(uid)
        assert attempts(here, uid) == [(1, "failed"), (2, "success")]
        assert len(here.receiver.calls("moving")) == 2
        assert len(here.receiver.calls("done")) == 1
        assert await moved.metric("notification_ledger_log_loss_ledger_total") == 0


async def test_moving_to_another_cluster(control_plane: ControlPlane, tmp_path: Path) -> None:
    """
    Objects come back with new uids and their statuses: what was delivered is not sent again.

    The other cluster is stood in for by the same one: the objects are deleted and created anew, and the new
    installation has another Redis. The statuses carry epochs that are higher than any of the new cluster
    would be without a higher incarnation.
    """
    async with (
        own_redis() as old,
        own_redis("valkey") as new,
        stage(control_plane, old.url, tmp_path, sampled=False) as here,
    ):
        process = here.notifier(sharding={"incarnation": 5}).start()
        here.script("unfinished", BUSY, OK)
        patient = {**SLOW, "initialBackoffSeconds": 6}
        before = {
            "done": await here.create("done"),
            "unfinished": await here.create("unfinished", retryPolicy=patient),
        }
        await here.wait_phase(before["done"])
        await here.wait_acked([before["done"]])
        await shown(here, before["unfinished"], 1)
        process.sigterm()
        assert await process.wait_exit() == 0
        statuses = {}
        for name in before:
            place = f"{here.api.requests}/{name}"
            statuses[name] = (await here.api.ask("GET", place)).body["status"]
            assert (await here.api.ask("DELETE", place)).code == 200
        fresh = here.notifier(redis={"url": new.url}, sharding={"incarnation": 6})
        after = {
            "done": await here.create("done"),
            "unfinished": await here.create("unfinished", retryPolicy=patient),
            "new": await here.create("new"),
        }
        assert not set(after.values()) & set(before.values())
        for name, status in statuses.items():
            place = f"{here.api.requests}/{name}"
            document = (await here.api.ask("GET", place)).body | {"status": status}
            assert (await here.api.ask("PUT", f"{place}/status", document)).code == 200
        moved = ("verify", "--repair", "--moved", "--by", "somebody", "-n", here.namespace)
        said = await syncer(here, fresh, *moved)
        assert said.strip().splitlines()[-1] == "found 2, repaired 2, leftAlone 0, stillDiverging 0"
        fresh.start()
        await here.wait_phase(after["unfinished"], within=60)
        await here.wait_phase(after["new"])
        assert [len(here.receiver.calls(name)) for name in after] == [1, 2, 1]
        assert attempts(here, after["done"]) == [(1, "success")]
        assert attempts(here, after["unfinished"]) == [(1, "failed"), (2, "success")]
        said = await syncer(here, fresh, "verify", "-n", here.namespace)
        assert said.strip().endswith("none diverging")


async def syncer(here: Stage, process: NotifierProcess, *arguments: str) -> str:
    """Run the operators' command with the settings of a controller."""
    ended = await run_beside(
        ["syncer", arguments[0], "--config", str(process._config), *arguments[1:]],
        env={**os.environ, **UNTRUSTING, "KUBECONFIG": str(here.plane.kubeconfig)}, together=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


async def test_a_log_is_damaged(control_plane: ControlPlane, tmp_path: Path) -> None:
    """One log is quarantined, put aside by hand, and restored from the status; others go on."""
    async with (
        own_redis() as server,
        # What samples logs cannot read a damaged one either.
        stage(control_plane, server.url, tmp_path, sampled=False) as here,
    ):
        process = here.notifier().start()
        uid = await tried(here, "hurt", BUSY, OK)
        process.kill()
        key = f"{here.prefix}:{{{uid}}}"
        last: Any = await here.redis.lindex(key, -1)
        flipped: Any = last[:-1] + bytes([last[-1] ^ 1])
        await here.redis.lset(key, -1, flipped)
        process.start()

        async def quarantined() -> bool:
            return condition(here, uid, "Quarantined") == "LogUndecodable"

        await until(quarantined, lambda: f"the object says so; {process.tail()}", within=60)
        await held(process, 1, "quarantined")
        other = await here.create("other")
        await here.wait_phase(other)
        assert len(here.receiver.calls("hurt")) == 1
        # The page: put the log aside, then have the object looked at.
        await run("damaged", server.url, here, uid)
        await patch(here, "hurt", {"metadata": {"annotations": {"looked-at": "1"}}})
        await here.wait_phase(uid)
        assert attempts(here, uid) == [(1, "failed"), (2, "success")]
        assert len(here.receiver.calls("hurt")) == 2
        assert condition(here, uid, "Quarantined") == ""
        await held(process, 0, "quarantined")
        assert await here.redis.llen(f"damaged:{{{uid}}}") == 4


def condition(here: Stage, uid: str, kind: str) -> str:
    """Reason of a condition that the object shows as true, empty if it does not."""
    found = here.watcher.last(uid).condition(kind)
    return str(found["reason"]) if found.get("status") == "True" else ""


async def run(name: str, url: str, here: Stage, uid: str) -> None:
    """Run commands of the page that are marked with a name."""
    mark = rf"^<!-- commands: {name} -->\n```sh\n(.*?)^```$"
    (command,) = re.findall(mark, PAGE.read_text(), re.MULTILINE | re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", command,
        env={"PATH": "/usr/bin:/bin", "REDIS_URL": url, "NL": here.prefix, "NL_UID": uid},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, out.decode()


def test_every_procedure_names_its_test() -> None:
    """Each section of the page names a test of this file, and each such test is named."""
    text = PAGE.read_text()
    tree = ast.parse(Path(__file__).read_text())
    tests = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }
    named = set(re.findall(r"`tests/docs/test_recovery\.py::(test_\w+)`", text))
    assert named == tests - {"test_every_procedure_names_its_test"}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", section), section.split("\n")[0]
