"""
What the documented users of Redis can do: all that the product needs, and nothing beyond.

The server belongs to somebody else too: it has keys of another program, of another installation, a
password of its own, and functions. None of it may be read or changed, by a command or by a script.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import redis.asyncio as redis_asyncio
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from syncer.cli import exits
from syncer.cli import main as cli
from syncer.cli.doctor import Grade
from syncer.configfile import build
from syncer.ledger.preflight import unfit
from syncer.model.errors import Unauthorised
from syncer.model.record import skip_record
from syncer.settings import RedisSettings
from tests.fakes.claimedlog import ClaimedLog
from tests.integration.examining import examine
from tests.integration.ledger_client import (
    EPOCH,
    NAME,
    admin,
    claimed,
    open_attempt,
    opening,
    running,
    success,
    tell,
)
from tests.servers.users import USERS, acl_rule, url_of

__all__ = ["admin"]

PASSWORD: Final = "a-long-password"
FOREIGN: Final = ("other", "nlx:{u}", "nl", "NL:{u}")

#: What must be refused to every user: the name, and the command.
REFUSED: Final[dict[str, tuple[str, ...]]] = {
    "read the server's own password": ("CONFIG", "GET", "requirepass"),
    "read every setting": ("CONFIG", "GET", "*"),
    "read one harmless setting": ("CONFIG", "GET", "appendfsync"),
    "change a setting": ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    "read the users": ("ACL", "LIST"),
    "make a user": ("ACL", "SETUSER", "mine", "on", "nopass", "~*", "+@all"),
    "give itself rights": ("ACL", "SETUSER", "ledger", "+@all"),
    "load functions": ("FUNCTION", "LOAD", "#!lua name=f\nredis.register_function('f', function() end)"),
    "read functions": ("FUNCTION", "DUMP"),
    "delete functions": ("FUNCTION", "FLUSH"),
    "call a function": ("FCALL", "f", "0"),
    "take the scripts from others": ("SCRIPT", "FLUSH"),
    "end the script of others": ("SCRIPT", "KILL"),
    "run a text as a script": ("EVAL", "return 1", "0"),
    "empty the server": ("FLUSHALL",),
    "empty the database": ("FLUSHDB",),
    "list all keys at once": ("KEYS", "*"),
    "be shown a key by chance": ("RANDOMKEY",),
    "hear every command": ("MONITOR",),
    "see who is connected": ("CLIENT", "LIST"),
    "end the connections of others": ("CLIENT", "KILL", "TYPE", "normal"),
    "stop the clients of others": ("CLIENT", "PAUSE", "1"),
    "make it a replica": ("REPLICAOF", "127.0.0.1", "1"),
    "stop the server": ("SHUTDOWN", "NOSAVE"),
    "save at the wrong time": ("SAVE",),
    "load code": ("MODULE", "LIST"),
    "move keys to another server": ("MIGRATE", "127.0.0.1", "1", "nl:{u}", "0", "10"),
    "exchange databases": ("SWAPDB", "0", "1"),
    "move a key": ("MOVE", "nl:{u}", "1"),
    "give a log another name": ("RENAME", "nl:{u}", "nl:{v}"),
    "copy a log out of the prefix": ("COPY", "nl:{u}", "other"),
    "put a dump in": ("RESTORE", "nl:{v}", "0", "x"),
    "see the slow commands of others": ("SLOWLOG", "GET"),
    "see what is slow": ("LATENCY", "LATEST"),
    "sort by keys of others": ("SORT", "nl:{u}", "BY", "other*"),
    "tell others on their channel": ("PUBLISH", "other:poke", "x"),
    "cut a log": ("LTRIM", "nl:{u}", "1", "0"),
    "take a record away": ("LREM", "nl:{u}", "0", "x"),
}  # fmt: skip


@pytest.fixture
async def shared(admin: redis_asyncio.Redis) -> AsyncIterator[redis_asyncio.Redis]:
    """A server that others use as well; both documented users may log in."""
    for name in FOREIGN:
        await tell(admin, "RPUSH", name, "not yours")
    await tell(admin, "RPUSH", "nl:{u}", "a log")
    for user in USERS:
        await tell(admin, *acl_rule(user, PASSWORD))
    yield admin
    for user in USERS:
        await tell(admin, "ACL", "DELUSER", user)


def login(redis_url: str, name: str, password: str = PASSWORD) -> redis_asyncio.Redis:
    """A connection of a user."""
    return redis_asyncio.Redis.from_url(url_of(redis_url, name, password), socket_timeout=5)


@pytest.fixture(params=USERS)
async def user(
    request: pytest.FixtureRequest, shared: redis_asyncio.Redis, redis_url: str
) -> AsyncIterator[redis_asyncio.Redis]:
    """A connection of one of them."""
    async with login(redis_url, request.param) as client:
        yield client


async def test_a_password_is_replaced_without_a_gap(
    shared: redis_asyncio.Redis, redis_url: str
) -> None:
    """With both valid for a while, connections of the old one stay, those of the new one are let in."""
    fresh = "another-long-password"
    async with (
        login(redis_url, "ledger") as before,
        login(redis_url, "ledger", fresh) as after,
        login(redis_url, "ledger") as late,
    ):
        assert await ask(before, "PING")
        with pytest.raises(AuthenticationError):
            await ask(after, "PING")
        await tell(shared, "ACL", "SETUSER", "ledger", f">{fresh}")
        assert await ask(after, "PING")
        await tell(shared, "ACL", "SETUSER", "ledger", f"<{PASSWORD}")
        assert await ask(before, "LLEN", "nl:{u}") == await ask(after, "LLEN", "nl:{u}") == 1
        with pytest.raises(AuthenticationError):
            await ask(late, "PING")


@pytest.mark.parametrize("what", REFUSED)
async def test_no_user_may(user: redis_asyncio.Redis, what: str) -> None:
    """A command that reaches beyond the logs is refused by the server."""
    with pytest.raises((NoPermissionError, ResponseError), match=r"(?i)permission"):
        await ask(user, *REFUSED[what])


@pytest.mark.parametrize("key", FOREIGN)
async def test_foreign_keys_are_neither_read_nor_written(
    user: redis_asyncio.Redis, shared: redis_asyncio.Redis, key: str
) -> None:
    """Neither a command nor a script, with the key declared or not, gets at what is not ours."""
    listing = "return redis.call('LRANGE', KEYS[1] or ARGV[1], 0, -1)"
    read = await ask(shared, "SCRIPT", "LOAD", listing)
    drop = await ask(shared, "SCRIPT", "LOAD", "return redis.call('DEL', KEYS[1] or ARGV[1])")
    spy = await ask(shared, "SCRIPT", "LOAD", "return redis.call('CONFIG', 'GET', 'requirepass')")
    tries: list[tuple[Any, ...]] = [
        ("LRANGE", key, 0, -1), ("GET", key), ("LLEN", key), ("MEMORY", "USAGE", key),
        ("RPUSH", key, "x"), ("SET", key, "x"), ("DEL", key), ("EXPIRE", key, 1),
        *((run, sha, keys, key) for run in ("EVALSHA", "EVALSHA_RO") for sha in (read, drop)
          for keys in (1, 0)),
        *((run, spy, 0) for run in ("EVALSHA", "EVALSHA_RO")),
        ("EVAL_RO", listing, 0, key),
    ]  # fmt: skip
    for command in tries:
        with pytest.raises(
            ResponseError, match=r"(?i)permission|not allowed from|can't (access|run)"
        ):
            await ask(user, *command)
    assert await ask(shared, "LRANGE", key, 0, -1) == [b"not yours"]


async def test_the_explorer_runs_nothing_on_the_server(
    shared: redis_asyncio.Redis, redis_url: str
) -> None:
    """Its user reads logs of the prefix; it can neither block the server, nor fill it, nor go elsewhere."""
    async with login(redis_url, "explorer") as client:
        assert await ask(client, "LRANGE", "nl:{u}", 0, -1) == [b"a log"]
        for command in (
            ("EVAL_RO", "while true do end", 0), ("SCRIPT", "LOAD", "return 1"), ("SELECT", 1),
            ("EVALSHA_RO", "0" * 40, 0), ("RPUSH", "nl:{u}", "x"), ("GET", "other"),
        ):  # fmt: skip
            with pytest.raises(ResponseError, match=r"(?i)permission"):
                await ask(client, *command)


async def test_the_reader_changes_nothing(shared: redis_asyncio.Redis, redis_url: str) -> None:
    """Who only looks can write into no log, by a command or a script."""
    async with login(redis_url, "reader") as client:
        assert await ask(client, "LRANGE", "nl:{u}", 0, -1) == [b"a log"]
        script = "return redis.call('RPUSH', KEYS[1], 'x')"
        sha = await ask(client, "SCRIPT", "LOAD", script)
        for command in (
            ("RPUSH", "nl:{u}", "x"), ("DEL", "nl:{u}"), ("EVALSHA_RO", sha, 1, "nl:{u}"),
            ("EVALSHA", sha, 1, "nl:{u}"), ("EVAL_RO", script, 1, "nl:{u}"),
        ):  # fmt: skip
            with pytest.raises(
                ResponseError, match=r"(?i)permission|not allowed from read-only|can't run"
            ):
                await ask(client, *command)
    assert await ask(shared, "LRANGE", "nl:{u}", 0, -1) == [b"a log"]


async def test_only_its_own_notices(shared: redis_asyncio.Redis, redis_url: str) -> None:
    """It hears its own channel, and no other one."""
    async with login(redis_url, "ledger") as client:
        async with client.pubsub() as own:
            await own.subscribe("nl:poke")
            assert await own.get_message(timeout=5)
        for command in (
            ("SUBSCRIBE", "other:poke"), ("SUBSCRIBE", "nl:b:poke"), ("PSUBSCRIBE", "*"),
        ):  # fmt: skip
            with pytest.raises(NoPermissionError):
                await ask(client, *command)


async def test_the_names_of_foreign_keys_can_be_seen(user: redis_asyncio.Redis) -> None:
    """SCAN cannot be limited to a pattern by any rule; docs/security.md says so."""
    _, keys = await ask(user, "SCAN", "0", "COUNT", "1000")
    assert b"other" in keys


async def test_the_doctor_finds_nothing_missing(
    shared: redis_asyncio.Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The user may do all that the product needs."""
    url = url_of(redis_url, "ledger", PASSWORD)
    async with running(url, installation="tests"):
        pass
    _, checks = await examine(url, capsys)
    bad = {n: c for n, c in checks.items() if c["grade"] in {Grade.FAIL, Grade.WARN}}
    assert set(bad) == {"api-connect"}, bad


async def ask(client: redis_asyncio.Redis, *words: str | int) -> Any:
    """Give the server a command and return its answer."""
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]  # vendor


async def test_strict_takes_the_word_of_who_set_the_server(
    shared: redis_asyncio.Redis, redis_url: str
) -> None:
    """Strict durability refuses what not visible, until the settings say it; what is seen wins."""
    url = url_of(redis_url, "ledger", PASSWORD)
    async with running(url) as client:
        silent, said = (
            build(RedisSettings, {"url": url, **more}) for more in ({}, {"appendfsync": "always"})
        )
        refused = unfit(silent.seen_in(client.info), durability="strict")
        assert refused is not None
        assert "not visible" in refused
        assert "redis.appendfsync" in refused
        assert unfit(said.seen_in(client.info), durability="strict") is None
        seen = said.seen_in(client.info | {"appendfsync": "everysec"})
        assert unfit(seen, durability="strict") is not None


#: How an operator may say where Redis is: arguments, variable, and whether he is warned.
WAYS: Final[dict[str, tuple[tuple[str, ...], str, bool]]] = {
    "a variable": ((), "{url}", False),
    "an argument without a password": (("--redis-url", "{bare}"), "{url}", False),
    "an argument with it": (("--redis-url", "{url}"), "", True),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_password_need_not_be_an_argument(
    shared: redis_asyncio.Redis,
    redis_url: str,
    tmp_path: Path,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Variable and file do as well; an argument with a password is warned about, without quoting it."""
    url = url_of(redis_url, "ledger", PASSWORD)
    async with running(url, installation="tests") as client:
        await claimed(ClaimedLog(client))
    (tmp_path / "url").write_text(f"{url}\n")
    words, variable, warned = WAYS[way]
    said = {"url": url, "bare": redis_url, "file": str(tmp_path / "url")}
    monkeypatch.setenv("REDIS_URL", variable.format(**said))
    code = await cli.execute([
        "explain", "--records", "ns/n", "--kubeconfig", "/does/not/exist",
        *(word.format(**said) for word in words),
    ])  # fmt: skip
    text = capsys.readouterr().err
    # Redis has answered; the API server was not asked.
    assert (code, "objects were not read" in text) == (exits.NOT_COMPARED, True), text
    assert ("list processes" in text) is warned
    assert PASSWORD not in text


async def test_whom_a_server_refuses_is_told_which(
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error names the server, and what named that."""
    monkeypatch.setenv("REDIS_URL", url_of(redis_url, "nobody", PASSWORD))
    command = ["explain", "--records", "ns/n", "--kubeconfig", "/does/not/exist"]
    assert await cli.execute(command) == exits.REFUSED
    assert ", by $REDIS_URL)" in capsys.readouterr().err


@pytest.mark.parametrize("right", ["persist", "rpush"])
async def test_a_script_that_may_not_do_everything_appends_nothing(
    shared: redis_asyncio.Redis, redis_url: str, right: str
) -> None:
    """An attempt whose intent was refused is not open: it would count, and nothing was sent for it."""
    async with running(url_of(redis_url, "ledger", PASSWORD), installation="tests") as client:
        log = ClaimedLog(client, patience=0)
        for uid in ("new", "open"):
            await claimed(log, uid)
        await open_attempt(log, uid="open")
        note = skip_record("skip:1:1", "slack:ops", at=1, why="it is held")
        calls = {
            "new": (
                partial(open_attempt, log, uid="new"),
                partial(log.outcome, "new", success(), opening(), name=NAME),
                partial(log.note, "new", note),
            ),
            "open": (
                partial(log.outcome, "open", success(), opening(), name=NAME),
                partial(log.recover, "open", EPOCH, success()),
            ),
        }
        before = [await ask(shared, "LRANGE", f"nl:{{{uid}}}", 0, -1) for uid in calls]
        await tell(shared, "ACL", "SETUSER", "ledger", f"-{right}")
        for call in itertools.chain(*calls.values()):
            with pytest.raises(Unauthorised, match="within a script"):
                await call()
        assert [await ask(shared, "LRANGE", f"nl:{{{uid}}}", 0, -1) for uid in calls] == before
