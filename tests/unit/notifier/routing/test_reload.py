"""The routing follows its files: real files, real renames, the kubelet's swapped symlinks."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from notifier.routing.reload import Routing
from syncer.model.errors import ConfigError

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

    def route(self, text: str) -> None:
        """Replace the routing file."""
        self._replace(self.routing, text)

    def credential(self, name: str, value: str) -> None:
        """Replace a credential."""
        self._replace(self.credentials / name, value)

    def _replace(self, path: Path, text: str) -> None:
        new = path.parent / f".{path.name}.new"
        new.write_text(text, encoding="utf-8")
        new.rename(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Return empty places for routing and credentials."""
    return Files(tmp_path)


def routing_of(files: Files, **options: object) -> Routing:
    """A quick routing over these files."""
    return Routing(files.routing, files.credentials, poll=0.03, quiet=0.02, **options)  # type: ignore[arg-type]  # options of any type


@asynccontextmanager
async def running(routing: Routing) -> AsyncIterator[Routing]:
    """Load, then follow the files until the end of the block."""
    routing.load_initial()
    task = asyncio.create_task(routing.run())
    try:
        yield routing
        assert not task.done(), "the loop ended on its own"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, at most a minute."""
    try:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"did not happen: {what}")


def url(routing: Routing, channel: str) -> str | None:
    """Return the one secret of a channel, None if it is not there or not registered."""
    resolved = routing.current.target(channel)
    return next(iter(resolved.secrets.values()), None) if resolved else None


# -- start ----------------------------------------------------------------------------------------


STARTS: dict[str, tuple[str | None, str]] = {
    "the file is missing": (None, r"^cannot read .*routing\.yaml: No such file or directory$"),
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
    if text is not None:
        files.route(text)
    with pytest.raises(ConfigError, match=reason) as caught:
        routing_of(files).load_initial()
    assert CANARY not in str(caught.value)


def test_an_unreadable_routing_file_is_an_error(files: Files) -> None:
    """Bytes that are no text, and more than a ConfigMap holds."""
    files.routing.write_bytes(b"route: \xff")
    with pytest.raises(ConfigError, match="failed to parse YAML: not UTF-8"):
        routing_of(files).load_initial()
    files.routing.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(ConfigError, match="is larger than 1048576 bytes"):
        routing_of(files).load_initial()
    files.route(CONSOLE + "#" * ((1 << 20) - len(CONSOLE)))
    routing_of(files).load_initial()


async def test_a_missing_directory_is_waited_for(files: Files) -> None:
    """Sends that need a credential are held, not failed, and go on once it is there."""
    files.credentials.rmdir()
    files.route(slack("a"))
    async with running(routing_of(files)) as routing:
        assert routing.problem is not None
        assert "sends that need a credential are held" in routing.problem
        held = routing.current.target("slack:r")
        assert held is not None
        assert held.missing == ("a",)
        files.credentials.mkdir()
        files.credential("a", "https://h/a")
        await until(lambda: routing.problem is None, "the credential is found")
        ready = routing.current.target("slack:r")
        assert ready is not None
        assert ready.missing == ()
        assert dict(ready.secrets) == {"a": "https://h/a"}


# -- changes --------------------------------------------------------------------------------------


async def test_an_empty_file_gives_way_to_a_late_one(files: Files) -> None:
    """The console fallback is replaced; emptying the file again changes nothing."""
    files.credential("a", "A")
    files.route("")
    async with running(routing_of(files)) as routing:
        files.route(slack("a"))
        await until(lambda: url(routing, "slack:r") == "A", "the late routing is in force")
        generation = routing.current.generation
        files.route("\n")
        await asyncio.sleep(0.3)
        assert url(routing, "slack:r") == "A"
        assert routing.current.generation == generation
        assert routing.problem is None


BAD: dict[str, tuple[str, str]] = {
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
    """The reason is logged once and shown until the file is good again."""
    text, reason = BAD[case]
    files.credential("a", CANARY)
    files.route(slack("a"))
    with caplog.at_level(logging.INFO, "ledger.routing"):
        # A large file is read for as long as a busy machine takes; that is not what is asked here.
        patient = routing_of(files, look_timeout=120)
        async with running(patient) as routing:
            good = routing.current
            files.route(text)
            await until(lambda: routing.problem is not None, "the problem is shown")
            await asyncio.sleep(0.3)
            assert routing.current is good
            assert routing.problem is not None
            assert reason in routing.problem
            errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
            assert errors == [routing.problem]
            files.route(slack("a"))
            await until(lambda: routing.problem is None, "the problem is gone")
            assert routing.current is good
    assert CANARY not in caplog.text


async def test_a_rotated_credential_serves_the_next_delivery(files: Files) -> None:
    """No change of the routing is needed."""
    files.credential("a", "old")
    files.route(slack("a"))
    async with running(routing_of(files)) as routing:
        files.credential("a", "new")
        await until(lambda: url(routing, "slack:r") == "new", "the new value is used")


# -- how files are laid out -----------------------------------------------------------------------


# -- the loop -------------------------------------------------------------------------------------


async def test_a_look_that_hangs_is_reported(files: Files) -> None:
    """A disk that does not answer shows in `problem`, and the loop goes on when it does."""
    files.credential("a", "A")
    files.route(slack("a"))
    routing = routing_of(files, look_timeout=0.05)
    async with running(routing):
        files.routing.unlink()
        # Opening a pipe without a writer blocks, as a dead network disk would.
        os.mkfifo(files.routing)
        await until(
            lambda: "takes longer than 0.05 s" in (routing.problem or ""), "the hang is shown"
        )
        assert url(routing, "slack:r") == "A"
        writer = os.open(files.routing, os.O_WRONLY)
        files.routing.unlink()
        files.route(slack("a"))
        os.close(writer)
        await until(lambda: routing.problem is None, "the loop goes on")


async def test_a_warning_is_logged_once(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Not again whenever something else changes; again, once it was mended in between."""
    files.credential("a", "A")
    odd = f"{slack('a')}\nnonsense: 1\n"
    files.route(odd)

    def warned() -> int:
        return sum("nonsense" in r.getMessage() for r in caplog.records)

    async with running(routing_of(files)) as routing:
        for name in ("b", "c"):
            files.credential(name, "x")

            def read(name: str = name) -> bool:
                return name in routing.current.credentials

            await until(read, "it is read")
        assert warned() == 1
        files.route(slack("a"))
        generation = routing.current.generation
        await until(lambda: routing.current.generation > generation, "it is mended")
        files.route(odd)
        await until(lambda: warned() == 2, "it is said again")
