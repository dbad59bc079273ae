"""
Secrets planted in every input come out nowhere.

A canary is planted in the settings, in each credential, in the routing file, in every part of a
notification, and each receiver echoes what it was sent. The real product is then led through success,
refusal, a lost connection, a lost Redis, and starts that fail, at the most talkative log level.
Everything that it wrote anywhere is searched for every canary, raw and coded. A receiver may see its
own credential and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgpack
import pytest
import redis.asyncio as redis_asyncio

from tests.channels.mailserver import MailServer, mail_server
from tests.channels.receiver import Certificates
from tests.e2e.harness import QUICK, ROOT, NotifierProcess, Stage, stage, until
from tests.servers.controlplane import ControlPlane
from tests.servers.listening import listening
from tests.servers.redis import RedisServer, find_binary

pytestmark = pytest.mark.timeout(180)

Json = dict[str, Any]


class Canaries:
    """
    Made-up secrets by name, and the search for them.

    Each is hexadecimal, so that neither JSON, YAML nor a URL changes how it looks. A piece of one
    counts as a find: half a secret is a leak as well.
    """

    def __init__(self) -> None:
        self._named: dict[str, str] = {}

    def plant(self, name: str, length: int = 40) -> str:
        """A new secret; the name must be new, too."""
        assert name not in self._named
        value = secrets.token_hex(length)[:length]
        self._named[name] = value
        return value

    def adopt(self, name: str, value: str) -> None:
        """Look for a secret that somebody else made."""
        self._named[name] = value

    def found(self, text: bytes | str) -> set[str]:
        """Names of the canaries of which a text holds a piece, as it is or in base64."""
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        return {n for n, value in self._named.items() if any(p in raw for p in _pieces(value))}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._named)


def _pieces(value: str) -> Iterator[bytes]:
    raw = value.encode()
    yield raw[:14]
    yield raw[-14:]
    yield quote(value, safe="").encode()[:14]
    for shift in range(3):
        # What a coding of the secret in the midst of something else looks like, ends left out.
        coded = base64.b64encode(b"\0" * shift + raw)
        yield coded[4:24]
        yield coded[-28:-8]


# -- receivers ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Echo:
    """
    A receiver that says back all that it heard.

    What it answers is told by the subject: `case-ok` is put off once, `case-cut` is dropped once
    unanswered, `case-fail` is refused for good.
    """

    requests: list[bytes] = field(default_factory=list)
    port: int = 0
    _heard: dict[str, int] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        heard = head + await reader.readexactly(int(length or b"0"))
        self.requests.append(heard)
        case = next((c for c in ("case-ok", "case-cut", "case-fail") if c.encode() in heard), "")
        n = self._heard[case] = self._heard.get(case, 0) + 1
        if case == "case-cut" and n == 1:
            writer.transport.abort()
            return
        code = 400 if case == "case-fail" else 503 if n == 1 else 200
        if head.startswith(b"GET"):
            code = 200
        said = b"I heard: " + heard.replace(b"\r\n", b" ")
        writer.write(
            f"HTTP/1.1 {code} x\r\nContent-Length: {len(said)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + said
        )
        await writer.drain()


@asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    """A receiver that listens while the block runs."""
    made = Echo()
    async with listening(made._serve) as made.port:
        yield made


HTTP_RECEIVERS: Final = (
    "slack", "pagerduty", "teams", "inFile", "bearer", "basicRef", "basic", "signed", "store",
)  # fmt: skip


# -- inputs ---------------------------------------------------------------------------------------


def _credentials(c: Canaries, at: dict[str, Echo]) -> dict[str, str]:
    """Every kind of credential; URLs are credentials, too."""
    signing = base64.b64encode(c.plant("signing secret").encode()).decode()
    return {
        "slack": f"{at['slack'].base}/services/T00/{c.plant('slack url')}",
        "pagerduty": c.plant("pagerduty key", 32),
        "teams": (
            f"{at['teams'].base}/workflows/{c.plant('teams path')}/run?sig={c.plant('teams sig')}"
        ),
        "hook": f"{at['bearer'].base}/hook/{c.plant('hook url')}",
        "bearer": c.plant("bearer token"),
        "basic": c.plant("basic password"),
        "signing": f"whsec_{signing}",
        "smtp": c.plant("smtp password"),
        "unused": c.plant("unused credential"),
        "broken": f"{c.plant('first line')}\n{c.plant('second line')}",
    }


def _routing(c: Canaries, at: dict[str, Echo], smtp: int) -> Json:
    hooks = [
        {
            "url": f"{at['inFile'].base}/hook?key={c.plant('url in the routing file')}",
            "httpConfig": {"bearerToken": c.plant("token in the routing file")},
        },
        {"credentialRef": "hook", "httpConfig": {"bearerTokenRef": "bearer"}},
        {
            "url": f"{at['basicRef'].base}/hook",
            "httpConfig": {"basicAuth": {"username": "user", "passwordRef": "basic"}},
        },
        {
            "url": f"{at['basic'].base}/hook",
            "httpConfig": {
                "basicAuth": {"username": "user", "password": c.plant("password in the file")}
            },
        },
        {"url": f"{at['signed'].base}/hook", "signingSecretRefs": ["signing"]},
    ]
    mail = {
        "to": "ops@receiver.example", "from": "n@sender.example", "smarthost": f"127.0.0.1:{smtp}",
        "username": "relay", "credentialRef": "smtp",
    }  # fmt: skip
    return {
        "route": {"receiver": "ops", "groupBy": [c.plant("value without effect")]},
        "receivers": [
            {
                "name": "ops",
                "unknownKey": c.plant("value of an unknown key"),
                "slackConfigs": [{"credentialRef": "slack", "username": c.plant("idle username")}],
                "pagerdutyConfigs": [
                    {"credentialRef": "pagerduty", "url": f"{at['pagerduty'].base}/v2/enqueue"}
                ],
                "teamsConfigs": [{"credentialRef": "teams"}],
                "emailConfigs": [mail],
                "webhookConfigs": hooks,
                "consoleConfigs": [{"enabled": True}],
                "fileConfigs": [{"enabled": True}],
                "logConfigs": [{"enabled": True}],
            }
        ],
    }


#: What may come with its receiver: the URL or key that makes it the receiver.
OWN: Final[dict[str, set[str]]] = {
    "slack": {"slack url"},
    "pagerduty": {"pagerduty key"},
    "teams": {"teams path", "teams sig"},
    "inFile": {"url in the routing file", "token in the routing file"},
    "bearer": {"hook url", "bearer token"},
    "basicRef": {"basic password"},
    "basic": {"password in the file"},
    "signed": set(),
    "store": set(),
}


def _notification(c: Canaries, name: str) -> Json:
    """An object with a secret in every part that can hold one."""

    def p(what: str, length: int = 40) -> str:
        return c.plant(f"{name}: {what}", length)

    workflow = p("workflow id", 36)
    body = "\n".join(
        (
            f"password={p('password in the body')}",
            f"Authorization: Bearer {p('bearer in the body')}",
            json.dumps({"token": p("token in JSON"), "nested": {"api_key": p("key in JSON")}}),
            f"see https://user:{p('password in a URL')}@db.example/x",
            f"key ghp_{p('github token', 36)} and sk-{p('openai key')}",
            f"xoxb-{p('slack token')}",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            p("private key"),
            "-----END OPENSSH PRIVATE KEY-----",
            f"https://hooks.slack.com/services/T0/B0/{p('slack hook')}",
            f"runs token={workflow}",
        )
    )
    return {
        "apiVersion": "kubernaut.ai/v1alpha1",
        "kind": "NotificationRequest",
        "metadata": {
            "name": name,
            "labels": {"password": p("label")},
            "annotations": {
                "client_secret": p("annotation by name"),
                "note": f"pwd={p('annotation by text')}",
            },
        },
        "spec": {
            "type": "Escalation",
            "priority": "Critical",
            "subject": f"{name} password={p('subject')}",
            "body": body,
            "severity": f"token={p('severity')}",
            "phase": f"secret={p('phase')}",
            "clusterID": f"api_key={p('cluster')}",
            "remediationRequestRef": {"name": f"password={p('reference')}"},
            "context": {
                "lineage": {"remediationRequest": f"token={p('lineage')}"},
                "analysis": {"rootCause": f"the log says pwd: {p('root cause')}"},
                "workflow": {"workflowName": f"password={p('workflow name')}", "confidence": "0.9"},
                "target": {"targetResource": f"Pod/x secret={p('target')}"},
            },
            "extensions": {
                "apiKey": p("extension by name"),
                "note": f"token: {p('extension by text')}",
                f"password={p('name of an extension')}": "x",
            },
            "actionLinks": [
                {
                    "service": f"password={p('service of a link')}",
                    "url": f"https://g.example/d?access_token={p('url of a link')}",
                    "label": f"token={p('label of a link')}",
                }
            ],
            "retryPolicy": QUICK,
        },
    }


# -- outputs --------------------------------------------------------------------------------------


class Outputs:
    """Everything that was written anywhere, by where it was found; searched at the end."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries
        self._texts: dict[str, list[bytes]] = {}
        self._own: dict[str, set[str]] = {}

    def add(self, where: str, text: bytes | str, own: set[str] | None = None) -> None:
        """Keep a text; `own` may be in it."""
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        self._texts.setdefault(where, []).append(raw)
        self._own[where] = own or set()

    def size(self, where: str) -> int:
        """Bytes found there."""
        return sum(map(len, self._texts.get(where, ())))

    def leaks(self) -> set[tuple[str, str]]:
        """Where which canary was found."""
        return {
            (where, name)
            for where, texts in self._texts.items()
            for name in self._canaries.found(b"\0".join(texts)) - self._own[where]
        }


async def _read_redis(outputs: Outputs, client: redis_asyncio.Redis) -> None:
    """Every key, raw and decoded."""
    ask: Any = client.execute_command
    for key in await ask("KEYS", "*"):
        outputs.add("redis key", key)
        match await ask("TYPE", key):
            case b"list":
                for element in await ask("LRANGE", key, 0, -1):
                    outputs.add("redis record", element)
                    parts = element.split(b" ", 5)
                    if len(parts) == 6 and not element.startswith(b"nl1 "):
                        record = msgpack.unpackb(parts[5])
                        outputs.add("redis record, decoded", json.dumps(record))
            case b"hash":
                outputs.add("redis hash", repr(await ask("HGETALL", key)))
            case b"string":
                outputs.add("redis value", await ask("GET", key))
            case other:
                raise AssertionError(f"a key of type {other!r} is not searched")
    outputs.add("redis clients", repr(await ask("CLIENT", "LIST")))


async def _read_cluster(outputs: Outputs, here: Stage) -> None:
    listed = await here.api.ask("GET", here.api.requests)
    assert listed.code == 200
    for item in listed.body["items"]:
        outputs.add("status", json.dumps(item["status"]))
        # Whoever created the object is on record with the names that he used.
        ours = [m for m in item["metadata"]["managedFields"] if m.get("subresource") == "status"]
        assert ours
        outputs.add("managed fields", json.dumps(ours))
    for versions in here.watcher.versions.values():
        for version in versions:
            outputs.add("status, every version", json.dumps(version.status))
    for where, path in (("events", here.api.events), ("leases", here.api.leases)):
        answer = await here.api.ask("GET", path)
        assert answer.code == 200
        assert answer.body["items"], where
        outputs.add(where, json.dumps(answer.body))


async def _pages(outputs: Outputs, process: NotifierProcess) -> None:
    """What the health and metrics ports say, again and again, until cancelled."""
    while True:
        for path in ("/healthz", "/readyz", "/readyz?verbose"):
            _, text = await process.ask(path)
            outputs.add("health pages", text)
        _, text = await process.ask("/metrics", metrics=True)
        outputs.add("metrics", text)
        await asyncio.sleep(0.3)


# -- the test -------------------------------------------------------------------------------------


@asynccontextmanager
async def _redis(canaries: Canaries, folder: Path) -> AsyncIterator[tuple[RedisServer, str]]:
    """A server with a user who has a password; gives it and the URL with both."""
    password = canaries.plant("redis password")
    acl = folder / "users.acl"
    acl.write_text(f"user default on nopass ~* &* +@all\nuser ledger on >{password} ~* &* +@all\n")
    async with RedisServer(find_binary("redis-server"), settings={"aclfile": str(acl)}) as server:
        yield server, server.url.replace("redis://", f"redis://ledger:{password}@")


@dataclass(slots=True)
class Scene:
    """The product on real servers, with all its inputs planted, and what is searched."""

    canaries: Canaries
    outputs: Outputs
    here: Stage
    process: NotifierProcess
    at: dict[str, Echo]
    smtp: MailServer
    redis: RedisServer
    redis_url: str
    uids: dict[str, str] = field(default_factory=dict)

    @property
    def audit(self) -> Path:
        """The file with the audit feed."""
        return self.here.folder / "audit.jsonl"

    @property
    def attempts(self) -> list[Json]:
        """All attempts that the statuses show."""
        return [a for uid in self.uids.values() for a in self.here.watcher.last(uid).attempts]


@asynccontextmanager
async def _scene(control_plane: ControlPlane, folder: Path) -> AsyncIterator[Scene]:
    canaries = Canaries()
    canaries.adopt("cluster token", control_plane.controller_token)
    certificates = Certificates(folder)
    async with contextlib.AsyncExitStack() as stack:
        server, url = await stack.enter_async_context(_redis(canaries, folder))
        at = {name: await stack.enter_async_context(echoing()) for name in HTTP_RECEIVERS}
        mail = mail_server(starttls=certificates.context("mail"))
        smtp = await stack.enter_async_context(mail)
        staged = stage(control_plane, url, folder / "stage", sampled=False)
        here = await stack.enter_async_context(staged)
        credentials = _credentials(canaries, at)
        password = credentials["smtp"]
        smtp.users["relay"] = password
        coded = base64.b64encode(f"\0relay\0{password}".encode()).decode()
        smtp.refuse["ops@receiver.example"] = [
            f"451 I heard {password} and {coded}", f"452 I heard {password} and {coded}",
        ]  # fmt: skip
        settings: Json = {
            "logging": {"level": "DEBUG"},
            "delivery": {
                "webhook": {"enabled": True},
                "email": {"enabled": True, "timeout": "5s"},
                "log": {"enabled": True},
            },
            "egress": {"caBundle": str(certificates.ca)},
            "events": {"enabled": True},
            "datastorage": {"url": at["store"].base, "buffer": {"flushInterval": "100ms"}},
            "audit": {"file": str(here.folder / "audit.jsonl")},
            "unknown": {"key": canaries.plant("value of an unknown setting")},
        }
        process = here.notifier(to="file", **settings)
        for name, value in credentials.items():
            (here.folder / "credentials" / name).write_text(value)
        (here.folder / "routing.yaml").write_text(json.dumps(_routing(canaries, at, smtp.port)))
        yield Scene(canaries, Outputs(canaries), here, process, at, smtp, server, url)


async def _live(scene: Scene) -> None:
    """Success, refusal and loss on every channel; Redis gone for a while; a polite end."""
    here, process = scene.here, scene.process
    process.start()
    pages = asyncio.create_task(_pages(scene.outputs, process))
    try:
        await process.wait_ready()
        for name in ("case-ok", "case-fail", "case-cut"):
            document = _notification(scene.canaries, name)
            answer = await here.api.ask("POST", here.api.requests, document)
            assert answer.code == 201, answer.body
            scene.uids[name] = answer.body["metadata"]["uid"]
        await here.wait_phase(scene.uids["case-ok"], "Sent", within=40)
        await here.wait_phase(scene.uids["case-cut"], "Sent", within=40)
        await here.wait_phase(scene.uids["case-fail"], "PartiallySent", within=40)
        await here.wait_acked(list(scene.uids.values()))
        await until(lambda: len(_lines(scene.audit)) >= 20, "the audit feed")
        before = len(process.lines())
        await scene.redis.kill()
        await until(lambda: len(process.lines()) > before, "complaints about Redis")
        await asyncio.sleep(1)
        await scene.redis.start()
        await process.wait_ready()
        inspected = await asyncio.to_thread(_inspect, here, process._config, "case-cut")
        scene.outputs.add("inspect", inspected)
    finally:
        pages.cancel()
    process.sigterm()
    assert await process.wait_exit() == 0


async def _search(scene: Scene) -> None:
    """Everything that is left behind."""
    outputs = scene.outputs
    await _read_cluster(outputs, scene.here)
    # A new connection: the stage's own did not outlive the server.
    client = redis_asyncio.Redis.from_url(scene.redis_url, socket_timeout=5)
    await _read_redis(outputs, client)
    await client.aclose()
    outputs.add("log", scene.process.log.read_bytes())
    outputs.add("audit file", scene.audit.read_bytes())
    for file in sorted(scene.here.output.iterdir()):
        outputs.add("file channel", f"{file.name}\n{file.read_text()}")
    for name, echo in scene.at.items():
        outputs.add(f"requests to {name}", b"\n".join(echo.requests), OWN[name])
    for arrived in scene.smtp.arrived:
        outputs.add("mail", arrived.content)
        outputs.add("mail, decoded", arrived.text)


def _check_that_there_was_something_to_find(scene: Scene) -> None:
    """The search means something only if every input was used and every output written."""
    outputs = scene.outputs
    assert {where for where, least in WRITTEN.items() if outputs.size(where) < least} == set()
    assert {"success", "failed", "unknown"} == {a["status"] for a in scene.attempts}
    errors = [a["error"] for a in scene.attempts if "I heard" in a.get("error", "")]
    kinds = {a["channel"].partition(":")[0] for a in scene.attempts}
    assert len(errors) > 10
    assert any("[REDACTED]" in error for error in errors)
    assert kinds == {
        "slack", "pagerduty", "teams", "email", "webhook", "console", "file", "log",
    }  # fmt: skip
    for name, echo in scene.at.items():
        assert scene.canaries.found(b"\n".join(echo.requests)) == OWN[name], name
    assert {user for user, _ in scene.smtp.logins} == {"relay"}
    assert len(scene.smtp.arrived) == 3
    assert scene.canaries.count > 100


#: Where something must have been written, and how many bytes at least.
WRITTEN: Final = {
    "log": 20_000, "metrics": 5_000, "health pages": 50, "status": 3_000, "events": 2_000,
    "status, every version": 5_000, "leases": 200, "audit file": 5_000, "inspect": 2_000,
    "redis key": 100, "redis record": 5_000, "redis record, decoded": 5_000, "file channel": 3_000,
    "mail": 1_000, "mail, decoded": 1_000, "requests to store": 2_000,
}  # fmt: skip


@pytest.mark.new_processes("whatever a process writes is searched")
async def test_no_canary_gets_out(control_plane: ControlPlane, tmp_path: Path) -> None:
    """Through success, refusal and loss no planted secret is in any output."""
    control_plane.heal()
    async with _scene(control_plane, tmp_path) as scene:
        await _live(scene)
        await _search(scene)
        assert scene.outputs.leaks() == set()
        _check_that_there_was_something_to_find(scene)


def _lines(file: Path) -> list[bytes]:
    return file.read_bytes().splitlines() if file.exists() else []


def _inspect(here: Stage, config: Path, name: str) -> str:
    """What the operators' command says, on both outputs, in both forms."""
    said = ""
    for form in ([], ["-o", "json"]):
        done = subprocess.run(
            [sys.executable, "-m", "syncer", "explain", "--records", f"{here.namespace}/{name}",
             "--config", str(config), "--kubeconfig", str(here.plane.controller_kubeconfig), *form],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    return said
