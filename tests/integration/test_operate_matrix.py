"""
Each command against each thing that may be missing: what it prints, its exit code, and what it claims.

A command may answer in part, or not at all; it may not claim what it has not read. So every case has an
exit code, words that must be there, and words that must not. Servers are real, and what is missing is
missing for the command alone: the installation itself is in order, with one notification sent and one that
waits.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from syncer.cli import main as cli
from syncer.cli import scan, verify
from tests.e2e.harness import Stage, Step
from tests.integration.accounts import account, token_of
from tests.integration.operating import NO_SWEEPS, owner, waiting
from tests.servers.listening import listening
from tests.servers.users import url_of

pytestmark = pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)

SLOW: Final[dict[str, Any]] = {
    "maxAttempts": 5, "initialBackoffSeconds": 300, "maxBackoffSeconds": 300,
}  # fmt: skip
LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces"

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "inspect": ("explain", "--records", "{ns}/waits"),
    "explain": ("explain", "{ns}/waits"),
    "list": ("list", "-n", "{ns}"),
    "verify": ("verify", "-n", "{ns}"),
    "repair": ("verify", "--repair", "-n", "{ns}"),
    "resolve": ("resolve", "{ns}/waits", "--as", "delivered", "--reason", "r"),
    "resend": ("resend", "{ns}/waits", "--reason", "r"),
    "doctor": ("doctor", "-n", "{ns}"),
}
#: And of one that nobody bears: that it is not there is claimed only where log and object were looked for.
WITH_NOBODY: Final = COMMANDS | {"inspect nobody": ("explain", "--records", "{ns}/nobody")}
UNSEEN: Final = ("  uid ", "LOG  ", "there is no object")
#: And of the one that has ended.
WITH_ENDED: Final = COMMANDS | {"explain what has ended": ("explain", "{ns}/sent")}
#: The same for names that nobody bears.
UNKNOWN: Final[dict[str, tuple[str, ...]]] = {
    "inspect": ("explain", "--records", "{ns}/nobody"),
    "explain": ("explain", "{ns}/nobody"),
    "list": ("list", "-n", "nope"),
    "list by name": ("list", "-n", "{ns}", "--receiver", "nobody"),
    "verify": ("verify", "-n", "nope"),
    "repair": ("verify", "--repair", "{ns}/nobody"),
    "repair all": ("verify", "--repair", "-n", "nope"),
    "resolve": ("resolve", "{ns}/nobody", "--as", "delivered", "--reason", "r"),
    "resend": ("resend", "{ns}/nobody", "--reason", "r"),
}


@dataclass(frozen=True)
class Answer:
    """What a command must come to: its exit code, words that are there, words that are not."""

    code: int
    there: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass
class Missing:
    """One thing that is missing, and what each command comes to without it."""

    answers: dict[str, Answer]
    #: In the place of the installation's own.
    options: dict[str, str] = field(default_factory=dict)
    words: dict[str, tuple[str, ...]] = field(default_factory=lambda: COMMANDS)


API_AWAY: Final = "the API server at https://127.0.0.1:1, by --kubeconfig"
REDIS_AWAY: Final = "Redis at 127.0.0.1:1, by --redis-url"
NEVER_USED: Final = "no controller has used this store under the prefix"
OTHERS: Final = "belong to installation 'elsewhere/notification-controller@u'"
#: What only a status could tell, and only a log.
CLAIMS: Final = ("agree", "not published", "none diverging", "nothing to repair", "an attempt at")
AWAY: Final = Answer(4, ("cannot connect", "ECONNREFUSED", API_AWAY), CLAIMS)
REDIS_SILENT: Final = "Redis cannot be reached at 127.0.0.1:1"
NO_REDIS: Final = Answer(4, ("Redis cannot be reached", REDIS_AWAY), CLAIMS)
FORBIDDEN: Final = Answer(6, ("forbidden",), CLAIMS)
NOT_ALLOWED: Final = Answer(6, ("Redis refuses", "Redis at "), CLAIMS)
REFUSED: Final = Answer(2, (OTHERS,), CLAIMS)
EMPTY: Final = Answer(2, (NEVER_USED,), CLAIMS)
ABSENT: Final = Answer(3, ("nobody",), CLAIMS)

UNCHECKED: Final = "the owner of the store was not checked"
UNWRITTEN: Final = Answer(6, (UNCHECKED, "nothing is written", "forbidden"), CLAIMS)

MATRIX: Final[dict[str, Missing]] = {
    "API server away": Missing(
        {
            "inspect": Answer(
                5,
                ("status not read", "STATUS  not read: cannot connect", "were not compared",
                 "the owner of the store was not checked"),
                CLAIMS,
            ),
            "inspect nobody": Answer(4, ("could not be read: cannot connect",), UNSEEN),
            "explain": Answer(5, ("STATUS  not read: cannot connect", "were not compared"), CLAIMS),
            "list": AWAY, "verify": AWAY, "resolve": AWAY, "resend": AWAY,
            "repair": Answer(4, (*AWAY.there, "nothing is written"), CLAIMS),
            "doctor": Answer(
                1, ("fail    api-connect", "by --kubeconfig {away})", "unknown redis-store",
                    "make sure that it runs"),
                ("ok      redis-store", "ok      api", "ok      rbac", "ok      owners"),
            ),
        },
        {"--kubeconfig": "{away}"},
        WITH_NOBODY,
    ),
    "a kubeconfig that is not there": Missing(
        dict.fromkeys(
            ("explain", "list", "verify", "repair", "resolve", "resend"),
            Answer(2, ("this needs the API server", "--kubeconfig {away}.not"), CLAIMS),
        )
        | {
            "inspect": Answer(5, ("--kubeconfig {away}.not", "were not compared"), CLAIMS),
            "doctor": Answer(1, ("fail    api-connect", "--kubeconfig {away}.not"), ("ok      rbac",)),
        },
        {"--kubeconfig": "{away}.not"},
    ),
    "Redis away": Missing(
        dict.fromkeys(COMMANDS, NO_REDIS)
        | {
            "inspect": Answer(
                5, (f"LOG     not read: {REDIS_SILENT}", "log and status were not compared"), CLAIMS
            ),
            "explain": Answer(
                5,
                ("NEXT    nothing: Redis does not answer", f"comes from its status alone: {REDIS_SILENT}"),
                CLAIMS,
            ),
            "list": Answer(
                5, ("waits", "sent", f"the rows come from the objects alone: {REDIS_SILENT}"), CLAIMS,
            ),
            "doctor": Answer(
                1, ("fail    redis-connect",), ("ok      redis",),
            )
        },
        {"--redis-url": "redis://127.0.0.1:1"},
    ),
    "an empty Redis": Missing(
        {
            "inspect": Answer(5, (NEVER_USED, "LOG     none"), ("log and status agree",)),
            "explain": Answer(1, ("NEXT    nothing: no controller has used",), CLAIMS),
            "list": Answer(5, (NEVER_USED, "waits"), CLAIMS),
            "verify": EMPTY, "repair": EMPTY, "resolve": EMPTY, "resend": EMPTY,
            "doctor": Answer(0, ("warn    redis-store", NEVER_USED)),
        },
        {"--key-prefix": "{ns}-empty"},
    ),
    "another cluster's Redis": Missing(
        dict.fromkeys(COMMANDS, REFUSED)
        | {"doctor": Answer(1, ("fail    redis-connect", OTHERS), ("ok      redis",))},
        {"--key-prefix": "{ns}-other"},
    ),
    "no right at the API server": Missing(
        {
            "inspect": Answer(5, ("STATUS  not read: ", "orbidden", "were not compared"), CLAIMS),
            "inspect nobody": Answer(6, ("could not be read: ",), UNSEEN),
            "explain": FORBIDDEN, "list": FORBIDDEN, "verify": FORBIDDEN,
            "repair": FORBIDDEN, "resolve": FORBIDDEN, "resend": FORBIDDEN,
            "doctor": Answer(
                1, ("fail    api-objects", "fail    rbac-objects", "unknown redis-store"),
                ("ok      rbac", "ok      owners"),
            ),
        },
        {"--kubeconfig": "{powerless}"},
        WITH_NOBODY,
    ),
    "no right to Leases": Missing(
        {
            "inspect": Answer(0, ("log and status agree", UNCHECKED)),
            "explain": Answer(5, ("an attempt at", "! who owns its shard is not known"), ("nobody owns",)),
            "explain what has ended": Answer(0, ("NEXT    nothing: it has ended",)),
            "list": Answer(0, ("waits", "sent", UNCHECKED)),
            "verify": Answer(0, ("none diverging", UNCHECKED)),
            "repair": UNWRITTEN, "resolve": UNWRITTEN, "resend": UNWRITTEN,
            "doctor": Answer(1, ("unknown redis-store", "unknown owners"), ("ok      owners",)),
        },
        {"--kubeconfig": "{reader}"},
        WITH_ENDED,
    ),
    "no right in Redis": Missing(
        dict.fromkeys(COMMANDS, NOT_ALLOWED)
        | {"doctor": Answer(1, ("fail    redis-connect",), ("ok      redis",))},
        {"--redis-url": "{nobody}"},
    ),
    "unknown name": Missing(
        {
            "inspect": ABSENT, "explain": ABSENT, "repair": ABSENT, "resolve": ABSENT,
            "resend": ABSENT,
            "list": Answer(0, ("none of 0 notification(s) in nope matches",)),
            "list by name": Answer(
                1, ("none of 2 notification(s) in {ns} matches", "no receiver matches nobody")
            ),
            "verify": Answer(0, ("0 objects, 0 logs",)),
            "repair all": Answer(0, ("nothing to repair",)),
        },
        words=UNKNOWN,
    ),
    "nobody running": Missing(
        {
            "inspect": Answer(0, ("log and status agree",)),
            "explain": Answer(
                1, ("NEXT    nothing: no replica owns its shard (0): no controller runs",),
                ("an attempt at",),
            ),
            "explain what has ended": Answer(0, ("NEXT    nothing: it has ended",)),
            "list": Answer(0, ("waits", "sent")),
            "verify": Answer(0, ("2 objects, 2 logs", "none diverging")),
            "repair": Answer(0, ("nothing to repair",)),
            "resolve": Answer(1, ("no attempt of this notification has an unknown result",)),
            "resend": Answer(1, ("no channel has ended without success",)),
            "doctor": Answer(1, ("fail    owners", "1 of 1 shard(s) have no owner")),
        },
        words=WITH_ENDED,
    ),
}  # fmt: skip


@pytest.fixture
async def here(here: Stage) -> Stage:
    """An installation that has sent one notification, and has one that waits; its owner is gone."""
    here.script("waits", Step(503, "busy"))
    async with owner(here.notifier(sync=NO_SWEEPS)):
        sent = await here.create("sent")
        waits = await here.create("waits", retryPolicy=SLOW)
        await here.wait_phase(sent)
        await here.wait_acked([sent])
        await waiting(here, "waits", waits)
    return here


async def where_to_look(here: Stage, folder: Path) -> dict[str, str]:
    """What stands for `{name}` in the table: other places, and the accounts of nobody."""
    away, powerless, reader = (folder / f"{n}.yaml" for n in ("away", "powerless", "reader"))
    config = yaml.safe_load(here.plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    away.write_text(json.dumps(config))
    config["clusters"][0]["cluster"]["server"] = here.plane.server
    for file, verbs in ((powerless, {}), (reader, {"objects": ("get", "list")})):
        account(here.plane, here.namespace, file.stem, verbs)
        token = token_of(here.plane, here.namespace, file.stem)
        config["users"][0]["user"] = {"token": token}
        file.write_text(json.dumps(config))
    command: Any = here.redis.execute_command
    await command("SET", f"{here.namespace}-other:meta",
                  "format=1 installation=elsewhere/notification-controller@u store=s")  # fmt: skip
    await command("ACL", "SETUSER", "nobody", "reset", "on", ">pw", "+ping", "+hello")
    return {
        "ns": here.namespace, "away": str(away), "powerless": str(powerless), "reader": str(reader),
        "nobody": url_of(here.redis_url, "nobody", "pw"),
    }  # fmt: skip


async def release(here: Stage) -> None:
    """Give back every Lease of a shard, as the last replica does that ends."""
    leases = f"{LEASES}/{here.namespace}/leases"
    reply = await here.api.ask("GET", leases)
    for lease in reply.body["items"]:
        if not lease["metadata"]["name"].endswith("-map"):
            path = f"{leases}/{lease['metadata']['name']}"
            reply = await here.api.ask("PATCH", path, {"spec": {"holderIdentity": ""}})
            assert reply.code == 200, reply.body


async def everything(here: Stage) -> dict[bytes, Any]:
    """Every key of the server with its content."""
    command: Any = here.redis.execute_command
    keys: list[Any] = sorted(await here.redis.keys("*"))
    return {key: await command("DUMP", key) for key in keys}


# Eight commands, some of which try again for five seconds before they give up.
@pytest.mark.timeout(240)
@pytest.mark.parametrize("missing", MATRIX)
async def test_what_is_missing_is_told(
    missing: str, here: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code and words are those of the table; nothing is claimed unread, and nothing written."""
    case = MATRIX[missing]
    places = await where_to_look(here, tmp_path)
    if missing == "nobody running":
        await release(here)
    where = {
        "--redis-url": here.redis_url, "--key-prefix": here.prefix,
        "--kubeconfig": str(here.plane.kubeconfig),
    } | {k: v.format(**places) for k, v in case.options.items()}  # fmt: skip
    before = await everything(here)
    wrong = []
    for name, answer in case.answers.items():
        words = [w.format(**places) for w in case.words[name]]
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patched:
            if name == "doctor":
                patched.setenv("KUBERNAUT_CONTROLLER_NAMESPACE", here.namespace)
            patched.setattr(scan, "PAUSE", 0.1)
            patched.setattr(verify, "WAIT", 1.0)
            code = await cli.execute([*words, *(part for item in where.items() for part in item)])
        said = capsys.readouterr()
        text = said.out + said.err
        if code != answer.code:
            wrong.append(f"{name}: exit code {code}, not {answer.code}:\n{text}")
        wrong += [
            f"{name}: missing: {w!r}:\n{text}"
            for w in answer.there
            if w.format(**places) not in text
        ]
        wrong += [f"{name}: claimed: {w!r}:\n{text}" for w in answer.absent if w in text]
    assert not wrong, "\n\n".join(wrong)
    assert await everything(here) == before


async def test_an_api_server_that_hangs_is_named_soon(
    here: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within five seconds; then the log answers alone."""
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()

    config = json.loads(here.plane.kubeconfig.read_text())
    hung = tmp_path / "hung.json"
    where = ["--redis-url", here.redis_url, "--key-prefix", here.prefix, "--kubeconfig", str(hung)]
    capsys.readouterr()
    said, began = "", time.monotonic()
    async with listening(silent) as port:
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        hung.write_text(json.dumps(config))
        command = asyncio.create_task(cli.execute(["explain", f"{here.namespace}/waits", *where]))
        while "has not answered for 2.5 s" not in said:
            assert time.monotonic() - began < 60, said
            await asyncio.sleep(0.1)
            said += capsys.readouterr().err
        assert await asyncio.wait_for(command, 30) == 5
    assert asked.is_set()
    shown = capsys.readouterr().out
    assert f"{here.namespace}/waits  uid " in shown
    assert "STATUS  not read" in shown
