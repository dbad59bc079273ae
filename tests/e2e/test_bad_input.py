"""
Bad input to the whole program: files, Redis, credentials, and what a notification may say.

A process that cannot work with its files ends with 1 and one line that names the place. What can be
mended from outside (a password, a credential, a routing file) is waited for, and nothing is lost
meanwhile. Whatever the API server lets through as a spec is delivered once, or fails with a record.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from notifier.process.production import run
from notifier.settings import load
from syncer.model.errors import ConfigError
from syncer.runtime.stalls import LoopWatch
from tests.e2e.harness import NotifierProcess, Stage, stage, until
from tests.servers import starts
from tests.servers.controlplane import ControlPlane
from tests.servers.ports import free_port
from tests.servers.redis import RedisServer, find_binary

CANARY: Final = "c4n4ry-s3cret"
ROUTED: Final = {
    "route": {"receiver": "ops"},
    "receivers": [{"name": "ops", "slackConfigs": [{"credentialRef": "hook"}]}],
}


@dataclass(frozen=True)
class Start:
    """
    What one start finds, and what it must say.

    Attributes:
        says: The whole error, with `{folder}` for the folder of the files.
        settings: Members of the settings file beside the addresses; None for no file.
        routing: Text of the routing file, None for no file.
        credential: Bytes of the file `hook`, None for no file.
        env: Further variables.
    """

    says: str
    settings: dict[str, Any] | None = field(default_factory=dict)
    routing: str | None = "receivers: [{name: x}]\nroute: {receiver: x}"
    credential: bytes | None = b"https://hooks.example.com/x"
    env: dict[str, str] = field(default_factory=dict)


REDIS: Final = {"redis": {"url": "redis://127.0.0.1:1/0"}}
HOOKED: Final = json.dumps(ROUTED)
UNRESOLVED: Final = (
    '{folder}/routing.yaml: 1 unresolvable credential ref(s): hook: credential "hook" not found in'
    " {folder}/credentials"
)

NO_REDIS: Final = (
    "redis.url: is not set, and neither is the variable REDIS_URL, nor is there a file"
    " {folder}/credentials/notification-ledger.redis-url: one of the three must hold the URL of Redis"
)

STARTS: Final[dict[str, Start]] = {
    "the settings file is missing": Start(
        "cannot read {folder}/config.yaml: No such file or directory", None
    ),
    "a required key is missing": Start(NO_REDIS),
    "a required key within a group is missing": Start(NO_REDIS, {"redis": {}}),
    "a value has the wrong type": Start(
        "delivery.slack.timeout: must be a duration such as 500ms, 10s or 1m30s (line 1)",
        {**REDIS, "delivery": {"slack": {"timeout": "soon"}}},
    ),
    "a group is no group": Start(
        "delivery: must be a mapping (line 1)", {**REDIS, "delivery": [CANARY]}
    ),
    "the URL of Redis has another scheme": Start(
        "redis.url: must begin with redis://, rediss:// or unix://, or with redis+sentinel:// or "
        "redis+cluster:// (TLS: rediss+...) (line 1)",
        {"redis": {"url": f"http://x:{CANARY}@h"}},
    ),
    "the own namespace is not known": Start(
        "KUBERNAUT_CONTROLLER_NAMESPACE is not set and there is no service account",
        REDIS,
        env={"KUBERNAUT_CONTROLLER_NAMESPACE": ""},
    ),
    "the kubeconfig is missing": Start(
        "the kubeconfig {folder}/no-kubeconfig does not exist: name a file that is there", REDIS
    ),
    "the kubeconfig is empty": Start(
        "/dev/null is empty: write the access to the cluster into it, or name another file",
        REDIS,
        env={"KUBECONFIG": "/dev/null"},
    ),
    "the routing file is missing": Start(
        "cannot read {folder}/routing.yaml: No such file or directory", REDIS, routing=None
    ),
    "the routing file is no YAML": Start(
        "{folder}/routing.yaml: failed to parse YAML: line 1: did not find expected ',' or ']'",
        REDIS,
        routing=f"receivers: [{CANARY}\n",
    ),
    "the routing file names no receiver": Start(
        "{folder}/routing.yaml: receiver 'y' not found in receivers list (line 2)",
        REDIS,
        routing="receivers: [{name: x}]\nroute: {receiver: y}",
    ),
    "the URL of Redis has a port that is no number": Start(
        "redis.url: holds an address that is not host:port (in a password, write / ? # @ as"
        " %2F %3F %23 %40) (line 1)",
        {"redis": {"url": f"redis://u:{CANARY}@h:port/0"}},
    ),
    "a token is where none is read": Start(
        "{folder}/routing.yaml: failed to parse YAML:"
        " receivers[0].webhookConfigs[0].httpConfig.bearerToken: must be a text (line 2)",
        REDIS,
        routing="route: {receiver: x}\nreceivers: [{name: x, webhookConfigs: [{url: u, httpConfig:"
        f" {{bearerToken: [{CANARY}]}}}}]}}]",
    ),
    "a credential is missing": Start(
        f"{UNRESOLVED} (line 1)", REDIS, routing=HOOKED, credential=None
    ),
    "a credential is empty": Start(
        f"{UNRESOLVED} (not usable: hook: empty) (line 1)", REDIS, routing=HOOKED, credential=b" \n"
    ),
    "a credential has two lines": Start(
        f"{UNRESOLVED} (not usable: hook: holds a line break or control character) (line 1)",
        REDIS,
        routing=HOOKED,
        credential=f"https://h/{CANARY}\nX: y".encode(),
    ),
    "a credential cannot be read": Start(
        f"{UNRESOLVED} (not usable: hook: Too many levels of symbolic links) (line 1)",
        REDIS,
        routing=HOOKED,
        credential=b"loop",
    ),
}


def written(folder: Path, start: Start) -> dict[str, str]:
    """Write the files of a start; returns its environment."""
    credentials = folder / "credentials"
    credentials.mkdir(parents=True)
    if start.settings is not None:
        document = {
            "controller": {
                "healthProbeAddr": f"127.0.0.1:{free_port()}",
                "metricsAddr": f"127.0.0.1:{free_port()}",
            },
            "delivery": {"credentials": {"dir": str(credentials)}},
        }
        document |= {k: v for k, v in start.settings.items() if k != "delivery"}
        if "delivery" in start.settings:
            more = start.settings["delivery"]
            document["delivery"] = more if isinstance(more, list) else document["delivery"] | more
        (folder / "config.yaml").write_text(json.dumps(document))
    if start.routing is not None:
        (folder / "routing.yaml").write_text(start.routing)
    if start.credential == b"loop":
        (credentials / "hook").symlink_to("hook")
    elif start.credential is not None:
        (credentials / "hook").write_bytes(start.credential)
    return {
        "KUBECONFIG": str(folder / "no-kubeconfig"),
        "KUBERNAUT_CONTROLLER_NAMESPACE": "default",
        "ROUTING_CONFIG_PATH": str(folder / "routing.yaml"),
        **start.env,
    }


@pytest.mark.parametrize("case", STARTS)
async def test_a_start_that_cannot_work_names_the_place(case: str, tmp_path: Path) -> None:
    """The error is the whole of what is wrong, without a secret; no server is asked for anything."""
    start = STARTS[case]
    env = written(tmp_path, start)
    try:
        with pytest.raises(ConfigError) as caught:
            await run(load(tmp_path / "config.yaml", env), LoopWatch())
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert str(caught.value) == start.says.format(folder=tmp_path)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


async def test_the_process_says_it_and_ends(tmp_path: Path) -> None:
    """Exit code 1, and a last line with the error; no traceback, and no secret."""
    start = STARTS["a credential has two lines"]
    env = written(tmp_path, start)
    ended = await starts.run_beside(
        ["notifier", "run", "--config", str(tmp_path / "config.yaml")],
        together=True, env=os.environ | starts.UNTRUSTING | env,
    )  # fmt: skip
    assert ended.returncode == 1
    out = ended.stdout
    last = json.loads(out.splitlines()[-1])
    assert last["event"] == "the configuration cannot be used"
    assert last["error"] == start.says.format(folder=tmp_path)
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


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_whatever_a_notification_says(here: Stage) -> None:
    """
    Any text that the API server takes is delivered once and recorded; what it refuses names the field.

    Meanwhile the routing file breaks and a credential is emptied: both are told, and the last good ones
    serve on.
    """
    process = await here.notifier().start().wait_ready()
    await break_files(here)
    await process.wait_says(200, "[!] routing: routing not reloaded, the last good one", "line 1")
    uids = {name: await here.create(name, **text) for name, text in TEXTS.items()}
    for uid in uids.values():
        await here.wait_phase(uid)
    assert len(here.receiver.book) == len(TEXTS)
    for uid in uids.values():
        version = here.watcher.last(uid)
        assert version is not None
        (attempt,) = version.status["deliveryAttempts"]
        assert attempt["status"] == "success"
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
    await mend_files(here)
    await until(lambda: bool(process.lines("routing is good again")), process.tail)


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


async def break_files(here: Stage) -> None:
    """Break the routing file and empty the credential, as a bad rollout would."""
    await asyncio.to_thread((here.folder / "routing.yaml").write_text, "route: {receiver: [\n")
    await asyncio.to_thread((here.folder / "credentials" / "slack-ops").write_text, "")


async def mend_files(here: Stage) -> None:
    """Put both back."""
    good = {
        "route": {"receiver": "ops"},
        "receivers": [{"name": "ops", "slackConfigs": [{"credentialRef": "slack-ops"}]}],
    }
    await asyncio.to_thread(
        (here.folder / "credentials" / "slack-ops").write_text, here.receiver.url
    )
    await asyncio.to_thread((here.folder / "routing.yaml").write_text, json.dumps(good))
