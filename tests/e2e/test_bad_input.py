"""
Bad input to the whole program: files, Redis, credentials, and what a notification may say.

A process that cannot work with its files ends with 1 and one line that names the place. What can be
mended from outside (a password, a credential, a routing file) is waited for, and nothing is lost
meanwhile. Whatever the API server lets through as a spec is delivered once, or fails with a record.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.harness import NotifierProcess, Stage, stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.redis import RedisServer, find_binary

CANARY: Final = "c4n4ry-s3cret"
WITH_REDIS = pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)


@WITH_REDIS
async def test_the_process_says_it_and_ends(here: Stage) -> None:
    """Exit code 1, and a last line with the error; no traceback, and no secret."""
    process = here.notifier()
    (here.folder / "credentials" / "slack-ops").write_text(f"https://h/{CANARY}\nX: y")
    assert await process.start().wait_exit() == 1
    last = process.lines()[-1]
    assert last["event"] == "the configuration cannot be used"
    assert last["error"] == (
        f"{here.folder}/routing.yaml: 1 unresolvable credential ref(s): slack-ops: credential"
        f' "slack-ops" not found in {here.folder}/credentials (not usable: slack-ops: holds a line'
        " break or control character) (line 1)"
    )
    out = process.log.read_text()
    assert "Traceback" not in out
    assert CANARY not in out


async def test_a_redis_that_must_not_be_used(control_plane: ControlPlane, tmp_path: Path) -> None:
    """
    A wrong password is waited for and never shown; an eviction policy that loses logs ends the start.

    What was created meanwhile is sent once Redis is as it must be.
    """
    right, wrong = f"{CANARY}-right", f"{CANARY}-wrong"
    options = {"maxmemory-policy": "allkeys-lru"}
    async with RedisServer(find_binary("redis-server"), settings=options) as server:
        await configure(server.url, "requirepass", right)
        address = server.url.removeprefix("redis://")
        url = f"redis://:{wrong}@{address}"
        async with stage(control_plane, url, tmp_path / "stage", sampled=False) as here:
            process = here.notifier().start()
            await process.wait_says(503, "[-] redis: ", "credentials")
            uid = await here.create("waits")
            await asyncio.sleep(0.5)
            assert here.receiver.book == []

            await configure(f"redis://:{right}@{address}", "requirepass", wrong)
            assert await process.wait_exit() == 1
            last = process.lines("the configuration cannot be used")[-1]
            assert last["error"] == (
                "redis: the eviction policy allkeys-lru may drop a record; set maxmemory-policy noeviction"
            )

            await configure(url, "maxmemory-policy", "noeviction")
            process.start()
            await here.wait_phase(uid)
            assert len(here.receiver.calls("waits")) == 1
            assert CANARY not in process.log.read_text()


async def configure(url: str, name: str, value: str) -> None:
    """Change an option of a running Redis."""
    import redis.asyncio as redis_asyncio  # noqa: PLC0415 - here only

    async with redis_asyncio.Redis.from_url(url, socket_timeout=5) as admin:
        await admin.config_set(name, value)


#: Characters of a body that are sent, a quarter of those that the definition allows, and of a text of the
#: context.
BODY: Final = 262_144
CONTEXT: Final = 65_536
TEXTS: Final[dict[str, dict[str, str]]] = {
    "nul": {"subject": "nul", "body": "a\0b\0"},
    "surrogates": {"subject": "surrogates", "body": "\ud800 and \udfff and \udc00\ud800"},
    "four-bytes": {"subject": "\N{PILE OF POO}" * 500, "body": "\U0010ffff\U0001f600" * 20_000},
    "controls": {"subject": "controls", "body": "".join(map(chr, range(1, 32))) + "\x7f\x85\u2028"},
    "markup": {"subject": "markup", "body": "<!channel> & <@U1> ``` * _ ~ > |" * 500},
    "huge": {"subject": "huge", "body": "x" * BODY},
    "huge-and-wide": {"subject": "huge-and-wide", "body": "\N{PILE OF POO}" * BODY},
}


@WITH_REDIS
async def test_whatever_a_notification_says(here: Stage) -> None:
    """
    Any text that the API server takes is delivered once and recorded; what it refuses names the field.

    Meanwhile the routing file breaks and a credential is emptied: both are told, and the last good ones
    serve on.
    """
    process = await here.notifier().start().wait_ready()
    await roll_out(here, "route: {receiver: [\n", "")
    await process.wait_says(
        200, "[!] routing: routing not reloaded; the last valid routing", "line 1"
    )
    uids = {name: await here.create(name, **text) for name, text in TEXTS.items()}
    for version in await here.wait_sent(uids.values()):
        assert [a["status"] for a in version.attempts] == ["success"]
    assert len(here.receiver.book) == len(TEXTS)
    await here.wait_acked(list(uids.values()))
    for spec, place in (
        ({"subject": "x" * 501}, "spec.subject"),
        ({"subject": ""}, "spec.subject"),
        ({"body": ""}, "spec.body"),
        ({"priority": "Urgent"}, "spec.priority"),
    ):
        answer = await here.api.ask(
            "POST",
            here.api.requests,
            {
                "apiVersion": "kubernaut.ai/v1alpha1", "kind": "NotificationRequest",
                "metadata": {"name": "refused"},
                "spec": {"type": "Simple", "subject": "s", "body": "b", **spec},
            },
        )  # fmt: skip
        assert answer.code == 422
        assert place in answer.message
    await no_space_for_a_status(here, process)
    await roll_out(here, GOOD, here.receiver.url)
    await until(lambda: bool(process.lines("the routing files are valid again")), process.tail)


async def no_space_for_a_status(here: Stage, process: NotifierProcess) -> None:
    """
    Objects that nearly fill what etcd takes: sent once, recorded in the log, and the refusal is told.

    One leaves space for the phase, the other for nothing.
    """
    little = await here.create("little", **of_size(1_571_450))
    none = await here.create("none", **of_size(1_572_100))
    refusal = "the API server refuses a status; the record stays in the log"

    def told(name: str) -> bool:
        lines = [e for e in process.lines(refusal) if e["object"] == f"{here.namespace}/{name}"]
        assert {e["reason"] for e in lines} <= {"TooLarge"}
        return bool(lines)

    async def refused() -> bool:
        metric = "notification_ledger_sync_patch_total"
        refusals = await process.metric(metric, result="refused")
        return refusals >= 9 and told("none") and told("little")

    # Asked for again and again, neither is sent again.
    await until(refused, process.tail, within=60)
    version = await here.wait_phase(little)
    assert (version.status["totalAttempts"], version.status["successfulDeliveries"]) == (1, 1)
    assert "deliveryAttempts" not in version.status
    assert here.watcher.phase(none) == ""
    logs = await here.logs([little, none])
    for name, uid in (("little", little), ("none", none)):
        assert len(here.receiver.calls(name)) == 1
        assert [r.kind for r in logs[uid].records] == ["plan", "intent", "success"]
        # Not marked as published, so it does not expire.
        assert logs[uid].header.acked < 3


def of_size(size: int) -> dict[str, Any]:
    """Return body and context that take as many bytes as a body of so many letters would."""
    wide = "\U0001f600"
    context = {"analysis": {"rootCause": wide * CONTEXT, "approvalReason": ""}}
    spec = {"body": wide * BODY, "context": context}
    # What is there without the last text, less what a spec of a bare body has.
    there = len(json.dumps(spec, ensure_ascii=False, separators=(",", ":")).encode())
    there -= len('{"body":""}')
    left = size - there
    context["analysis"]["approvalReason"] = wide * (left // 4) + "x" * (left % 4)
    return spec


#: What `Stage.notifier` has written.
GOOD: Final = json.dumps({
    "route": {"receiver": "ops"},
    "receivers": [{"name": "ops", "slackConfigs": [{"credentialRef": "slack-ops"}]}],
})  # fmt: skip


async def roll_out(here: Stage, routing: str, credential: str) -> None:
    """Write the routing file and the credential."""
    await asyncio.to_thread((here.folder / "credentials" / "slack-ops").write_text, credential)
    await asyncio.to_thread((here.folder / "routing.yaml").write_text, routing)
