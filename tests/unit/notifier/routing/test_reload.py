"""The routing follows its files: real files, real renames, the kubelet's swapped symlinks."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final
from unittest.mock import AsyncMock

import pytest

from notifier.routing import reload
from notifier.routing.credentials import Look, look
from notifier.routing.reload import Routing
from notifier.routing.tree import resolve
from syncer.model.errors import ConfigError
from syncer.runtime.polling import PollingThread
from tests.beside import beside, eventually

CANARY = "c4n4ry-s3cret"

CONSOLE = "route: {receiver: d}\nreceivers: [{name: d, consoleConfigs: [{enabled: true}]}]\n"


def slack(*refs: str, receiver: str = "r") -> str:
    """A routing file whose only receiver has these Slack credentials."""
    entries = ", ".join(f"{{credentialRef: {ref}}}" for ref in refs)
    return (
        f"route: {{receiver: {receiver}}}\n"
        f"receivers: [{{name: {receiver}, slackConfigs: [{entries}]}}]\n"
    )


class Files:
    """A routing file and a directory of credentials, replaced by rename."""

    def __init__(self, root: Path) -> None:
        self.routing = root / "routing.yaml"
        self.credentials = root / "credentials"
        self.credentials.mkdir()

    def route(self, text: str | bytes | None) -> None:
        """Replace the routing file, or take it away."""
        if text is None:
            self.routing.unlink()
        else:
            self._replace(self.routing, text)

    def credential(self, name: str, value: str) -> None:
        """Replace a credential."""
        self._replace(self.credentials / name, value)

    def _replace(self, path: Path, text: str | bytes) -> None:
        new = path.parent / f".{path.name}.new"
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
        new.rename(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Return files that route everything to one channel of Slack, with its credential."""
    made = Files(tmp_path)
    made.credential("a", "A")
    made.route(slack("a"))
    return made


def routing_of(files: Files, **options: object) -> Routing:
    """A quick routing over these files."""
    return Routing(files.routing, files.credentials, poll=0.03, quiet=0.02, **options)  # type: ignore[arg-type]  # options of any type


@asynccontextmanager
async def running(routing: Routing) -> AsyncIterator[Routing]:
    """Load, then follow the files until the end of the block."""
    routing.load_initial()
    async with beside(routing.run()):
        yield routing


def url(routing: Routing, channel: str) -> str | None:
    """Return the one secret of a channel, None if it is not there or not registered."""
    target = routing.current.config.targets.get(channel)
    return routing.current.credentials.get(target.credential_refs[0]) if target else None


# -- start ----------------------------------------------------------------------------------------


def test_the_first_load_is_complete(files: Files) -> None:
    """After it the routing is in force and nothing is wrong."""
    files.credential("a", " https://h/a \n")
    routing = routing_of(files)
    problems = [routing.problem]
    routing.load_initial()
    problems.append(routing.problem)
    assert problems == ["routing is not loaded yet", None]
    assert routing.current.generation == 1
    assert url(routing, "slack:r") == "https://h/a"


STARTS: dict[str, tuple[str | bytes | None, str]] = {
    "the file is missing": (None, r"^cannot read .*routing\.yaml: No such file or directory$"),
    "the file is no text": (b"route: \xff", r"^.*routing\.yaml: failed to parse YAML: not UTF-8$"),
    "the file is more than a ConfigMap holds": (
        "#" * ((1 << 20) + 1),
        r"^.*routing\.yaml is larger than 1048576 bytes$",
    ),
    "the file is no YAML": ("route: [broken\n", r"^.*routing\.yaml: failed to parse YAML: line "),
    "the file is invalid": (
        "route: {receiver: y}\nreceivers: [{name: x}]",
        r"^.*routing\.yaml: receiver 'y' not",
    ),
    "an entry names no credential": (
        "route: {}\nreceivers: [{name: x, slackConfigs: [{channel: c}]}]",
        r'^.*routing\.yaml: credentialRef is required: receiver "x" slackConfigs\[0\] \(line 2\)$',
    ),
    "credentials are not there": (
        slack("here", "gone", "lost"),
        (
            r"^.*routing\.yaml: 2 unresolvable credential ref\(s\): gone, lost: "
            r'credential "gone" not found in .*credentials \(line [0-9]+\)$'
        ),
    ),
}


@pytest.mark.parametrize("case", STARTS)
def test_a_bad_start_is_an_error(case: str, files: Files) -> None:
    """Each with upstream's text and the name of the file, so that the process can end with it."""
    text, reason = STARTS[case]
    files.credential("here", CANARY)
    files.route(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        routing_of(files).load_initial()
    assert CANARY not in str(caught.value)


def test_a_routing_file_may_be_as_large_as_a_config_map(files: Files) -> None:
    """At the bound itself it is read."""
    files.route(CONSOLE + "#" * ((1 << 20) - len(CONSOLE)))
    routing_of(files).load_initial()


async def test_a_missing_directory_is_waited_for(files: Files) -> None:
    """Sends that need a credential are held, not failed, and go on once it is there."""
    (files.credentials / "a").unlink()
    files.credentials.rmdir()
    async with running(routing_of(files)) as routing:
        assert routing.problem is not None
        assert "sends that need a credential wait" in routing.problem
        assert routing.current.missing("slack:r") == ["a"]
        files.credentials.mkdir()
        files.credential("a", "https://h/a")
        await eventually(lambda: routing.problem is None)
        assert routing.current.missing("slack:r") == []
        assert routing.current.credentials == {"a": "https://h/a"}


# -- changes --------------------------------------------------------------------------------------


async def test_a_new_file_is_taken_whole(files: Files) -> None:
    """It is another snapshot; the old one stays as it was."""
    files.route(CONSOLE)
    routing = routing_of(files)
    async with running(routing):
        before, said = routing.current, routing.in_force
        assert said.startswith("1 receiver(s) in force, from a file of sha256 ")
        files.route(slack("a"))
        await eventually(lambda: routing.current.generation == 2)
        assert routing.in_force != said, "another file is told from it"
        assert "slack:r" not in before.config.targets
        assert resolve(before.config, {}).channels == ("console",)
        assert resolve(routing.current.config, {}).channels == ("slack:r",)


async def test_an_empty_file_gives_way_to_a_late_one(files: Files) -> None:
    """The built-in console routing holds until there is a file; emptying it again changes nothing."""
    files.route("")
    async with running(routing_of(files)) as routing:
        assert resolve(routing.current.config, {}).channels == ("console",)
        assert routing.problem is None
        files.route(slack("a"))
        await eventually(lambda: url(routing, "slack:r") == "A")
        generation = routing.current.generation
        files.route("\n")
        await asyncio.sleep(0.3)
        assert url(routing, "slack:r") == "A"
        assert routing.current.generation == generation
        assert routing.problem is None


BAD: dict[str, tuple[str | None, str]] = {
    "it is gone": (None, "cannot read"),
    "malformed YAML": ("route: [unclosed\n  receivers: {", "failed to parse YAML: line 2"),
    "no credentialRef": (
        "receivers:\n- name: x\n  slackConfigs:\n  - channel: '#x'\nroute:\n  receiver: x\n",
        'credentialRef is required: receiver "x" slackConfigs[0]',
    ),
    "no such credential": (
        slack("no-such-credential"),
        "1 unresolvable credential ref(s): no-such-credential",
    ),
    "an alias bomb": (
        "k0: &k0 {routes: [{}, {}]}\n"
        + "".join(f"k{n}: &k{n} {{routes: [*k{n - 1}, *k{n - 1}]}}\n" for n in range(1, 30))
        + "route: *k29\nreceivers: [{name: x}]\n",
        "failed to parse YAML: more than 100000 values",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_file_keeps_the_good_routing(
    case: str, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is logged once and shown until the file is good again; credentials do not wait for it."""
    text, reason = BAD[case]
    with caplog.at_level(logging.INFO, "ledger.routing"):
        # A large file is read for as long as a busy machine takes; that is not what is asked here.
        async with running(routing_of(files, look_timeout=120)) as routing:
            good, said = routing.current.config, routing.in_force
            files.route(text)
            await eventually(lambda: routing.problem is not None)
            files.credential("a", CANARY)
            await eventually(lambda: url(routing, "slack:r") == CANARY)
            assert routing.in_force == said, "it speaks of what is in force, not of the file"
            assert routing.current.config is good
            assert routing.problem is not None
            assert reason in routing.problem
            errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
            assert errors == [routing.problem]
            files.route(slack("a"))
            await eventually(lambda: routing.problem is None)
            assert routing.current.config is good
    assert CANARY not in caplog.text


async def test_a_removed_credential_serves_while_it_is_needed(files: Files) -> None:
    """Its last value stays for the routing that needs it, and drops out with that routing."""
    files.credential("b", "B")
    async with running(routing_of(files)) as routing:
        (files.credentials / "a").unlink()
        (files.credentials / "b").unlink()
        await eventually(lambda: routing.problem is not None)
        assert "1 unresolvable credential ref(s): a" in (routing.problem or "")
        assert dict(routing.current.credentials) == {"a": "A"}
        files.route(CONSOLE)
        await eventually(lambda: routing.problem is None)
        assert dict(routing.current.credentials) == {}


async def test_a_credential_that_cannot_be_used_keeps_its_old_value(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that was emptied by mistake harms nothing; the warning names it and quotes nothing."""
    files.route(CONSOLE)
    async with running(routing_of(files)) as routing:
        files.credential("a", f"{CANARY}\nX-Header: y")
        await eventually(lambda: "credential file a is not used" in caplog.text)
        assert dict(routing.current.credentials) == {"a": "A"}
    assert CANARY not in caplog.text


# -- how files are laid out -----------------------------------------------------------------------


async def test_swapped_volumes_are_followed(tmp_path: Path) -> None:
    """The kubelet replaces a whole volume by one rename of a symlink, through which entries lead."""
    (tmp_path / "routing.yaml").symlink_to("..data/routing.yaml")
    (tmp_path / "credentials").symlink_to("..data/credentials")

    def swap(version: str, ref: str, **credentials: str) -> None:
        (tmp_path / version).mkdir()
        volume = Files(tmp_path / version)
        volume.route(slack(ref))
        for name, value in credentials.items():
            volume.credential(name, value)
        (tmp_path / "..new").symlink_to(version)
        (tmp_path / "..new").rename(tmp_path / "..data")

    swap("1", "a", a="one", b="two")
    routing = Routing(tmp_path / "routing.yaml", tmp_path / "credentials", poll=0.03, quiet=0.02)
    async with running(routing):
        assert dict(routing.current.credentials) == {"a": "one", "b": "two"}
        swap("2", "a", a="three")
        await eventually(lambda: url(routing, "slack:r") == "three")
        assert dict(routing.current.credentials) == {"a": "three"}
        swap("3", "c", a="three")
        await eventually(lambda: routing.problem is not None)
        swap("4", "c", a="three", c="four")
        await eventually(lambda: url(routing, "slack:r") == "four")
        assert routing.problem is None


async def test_a_change_is_taken_only_when_it_was_seen_twice(files: Files) -> None:
    """A look into the middle of a swap is not believed; renames alone are no news."""
    files.route(CONSOLE)
    with closing(routing_of(files)) as routing:
        routing.load_initial()
        files.route("route: [half of a")
        assert await routing.look() is False
        files.route(slack("a"))
        assert await routing.look() is False
        assert routing.current.generation == 1
        assert await routing.look() is True
        assert (routing.current.generation, routing.problem) == (2, None)
        for _ in range(3):
            files.route(slack("a"))
            files.credential("a", "A\n")
            assert await routing.look() is False


async def test_a_file_that_never_settles_is_taken_in_the_end(files: Files) -> None:
    """Constant change must not keep the routing from following."""
    files.route(CONSOLE)
    taken: list[bool] = []
    with closing(routing_of(files)) as routing:
        routing.load_initial()
        while not any(taken):
            assert len(taken) < 100, "no change was ever taken"
            files.route(CONSOLE + f"# {len(taken)}\n")
            taken.append(await routing.look())
    assert len(taken) > 2


#: Generations of the routing that a reader has to see.
_CHANGES: Final = 8


async def test_the_routing_is_whole_at_every_moment(files: Files) -> None:
    """While files change as fast as they can, no reader sees a channel without its secret."""
    for name in ("a", "b"):
        files.credential(name, name)
    async with running(routing_of(files)) as routing:
        end = asyncio.get_running_loop().time() + 60
        generations: set[int] = set()
        turn = 0
        # Until the routing has changed often enough under the reader's eyes, however long that takes.
        while len(generations) < _CHANGES:
            assert asyncio.get_running_loop().time() < end, f"only {len(generations)} changes"
            if turn % 40 == 0:
                name = "ab"[turn // 40 % 2]
                files.credential(name, name)
                files.route(slack(name))
            turn += 1
            snapshot = routing.current
            generations.add(snapshot.generation)
            (channel,) = resolve(snapshot.config, {}).channels
            assert snapshot.config.targets[channel].credential_refs
            assert snapshot.missing(channel) == []
            await asyncio.sleep(0.002)


# -- the loop -------------------------------------------------------------------------------------


async def test_a_look_that_hangs_is_reported(files: Files) -> None:
    """A disk that does not answer shows in `problem`, and the loop goes on when it does."""
    routing = routing_of(files, look_timeout=0.05)
    async with running(routing):
        files.routing.unlink()
        # Opening a pipe without a writer blocks, as a dead network disk would.
        os.mkfifo(files.routing)
        await eventually(lambda: "takes longer than 0.05 s" in (routing.problem or ""))
        assert url(routing, "slack:r") == "A"
        writer = os.open(files.routing, os.O_WRONLY)
        files.routing.unlink()
        files.route(slack("a"))
        os.close(writer)
        await eventually(lambda: routing.problem is None)


async def test_reading_has_a_thread_of_its_own(files: Files) -> None:
    """A disk that does not answer holds up nothing else that is done in threads; no repr shows a text."""
    files.route(f"# {CANARY}\n{CONSOLE}")
    routing = routing_of(files)
    names = {await routing._in_thread(lambda: threading.current_thread().name) for _ in range(3)}
    assert names == {"routing_0"}
    reading = await routing._in_thread(routing._read)
    assert CANARY in (reading.text or "")
    assert CANARY not in repr(reading)


async def test_the_files_are_looked_at_once_a_period(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At rest only the thread looks; after a change the loop looks twice, the second time sooner."""
    files.route(CONSOLE)
    routing = routing_of(files)
    events: list[object] = []
    look, poll = routing.look, PollingThread.poll

    def polled(thread: PollingThread, found: Callable[[], object], every: float) -> object:
        events.append(every)
        if len(events) > 1:
            raise asyncio.CancelledError
        assert found() is None, "nothing has changed"
        files.route(slack("a"))
        return poll(thread, found, every)

    async def looked() -> bool:
        events.append(taken := await look())
        return taken

    monkeypatch.setattr(PollingThread, "poll", polled)
    monkeypatch.setattr(
        "notifier.routing.reload.asyncio.sleep", AsyncMock(side_effect=events.append)
    )
    monkeypatch.setattr(routing, "look", looked)
    routing.load_initial()
    with pytest.raises(asyncio.CancelledError):
        await routing.run()
    assert events == [0.03, False, 0.02, True, 0.03]


async def test_a_slow_look_that_finds_nothing_is_reported_no_longer(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs for a while and has the same files as before leaves no problem behind."""
    routing, answer = routing_of(files, look_timeout=0.05), threading.Event()

    def hanging(directory: Path) -> Look:
        answer.wait(60)
        return look(directory)

    async with running(routing):
        monkeypatch.setattr(reload, "look", hanging)
        await eventually(lambda: routing.problem is not None)
        answer.set()
        await eventually(lambda: routing.problem is None)


#: A URL that is a credential, what else the entry says, and whether what it sends will be refused.
CLEAR: Final[dict[str, tuple[str, str, bool]]] = {
    "a token over http": ("http://h/x", "httpConfig: {bearerTokenRef: token}", True),
    "a user in a URL over http": ("http://u:p@h/x", "", True),
    "a token over https": ("https://h/x", "httpConfig: {bearerTokenRef: token}", False),
    "nothing to hide": ("http://h/x", "", False),
    "said so": ("http://u:p@h/x", "httpConfig: {credentialsOverHttp: true}", False),
}


@pytest.mark.parametrize("case", CLEAR)
async def test_what_will_be_refused_is_said_at_the_start(
    case: str, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """A URL out of a credential that cannot be used as it is, is told of before anything is sent by it."""
    url, more, told = CLEAR[case]
    files.credential("hook", url)
    files.credential("token", CANARY)
    files.route(
        "route: {receiver: r}\nreceivers: "
        f"[{{name: r, webhookConfigs: [{{credentialRef: hook, {more}}}]}}]\n"
    )
    with caplog.at_level(logging.WARNING, "ledger.routing"):
        Routing(files.routing, files.credentials, native=frozenset({"webhook"})).load_initial()
    said = [r.getMessage() for r in caplog.records if "over http://" in r.getMessage()]
    assert bool(said) is told
    assert all('receiver "r" webhookConfigs[0]' in text for text in said)
    assert CANARY not in caplog.text
    assert "u:p" not in caplog.text


async def test_a_warning_is_logged_once(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Not again whenever something else changes; again, once it was mended in between."""
    odd = f"{slack('a')}\nnonsense: 1\n"
    files.route(odd)
    async with running(routing_of(files)) as routing:
        files.credential("b", "x")
        await eventually(lambda: "b" in routing.current.credentials)
        assert caplog.text.count("nonsense") == 1
        files.route(slack("a"))
        await eventually(lambda: not routing.current.config.warnings)
        files.route(odd)
        await eventually(lambda: caplog.text.count("nonsense") == 2)
