"""The command line: wrong usage, nowhere to look, the version, what starting it imports."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Final, cast
from unittest.mock import AsyncMock

import pytest

from notifier.cli.main import main as notifier_main
from syncer.cli import main as cli
from syncer.cli.arguments import COMMANDS
from syncer.cli.exits import Absent, Misused, Refused
from syncer.model.errors import (
    ConfigError,
    ContractError,
    LedgerError,
    Rejected,
    Unauthorised,
    Unavailable,
)

ROOT = Path(cli.__file__).resolve().parents[2]


def test_nowhere_to_look(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without settings and URL the command says what it needs, with code 2."""
    monkeypatch.setattr(cli, "SETTINGS_FILES", ())
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert cli.main(["list"]) == 2
    assert (
        "nothing says where Redis is: give --config FILE, --redis-url URL or $REDIS_URL"
        in capsys.readouterr().err
    )


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Both commands say their version, and the same."""
    for main in (notifier_main, cli.main):
        with pytest.raises(SystemExit) as ended:
            main(["--version"])
        assert ended.value.code == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith("notification-ledger ")


def modules_after(program: str) -> list[str]:
    """What a program prints, with the modules that it has imported by then."""
    answer = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; {program}; print(*sys.modules)"], cwd=ROOT,
        capture_output=True, text=True, check=True, timeout=60,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    return answer.stdout.split()


def test_the_parser_imports_nothing_that_takes_time() -> None:
    """Help is quick: what a command needs is imported when it runs."""
    loaded = modules_after("from syncer.cli import main; main._parser()")
    # Since Python 3.14 the library's parser itself imports the latter.
    allowed = {"dataclasses"} if sys.version_info >= (3, 14) else set[str]()
    assert ({name.partition(".")[0] for name in loaded} - allowed) & {
        "asyncio", "aiohttp", "dataclasses", "json", "kubernetes_asyncio",
        "logging", "msgpack", "pathlib", "pydantic", "redis", "tempfile", "yaml",
    } == set()  # fmt: skip
    assert {name for name in loaded if name.startswith("syncer.")} == {
        "syncer.cli", "syncer.cli.main", "syncer.cli.arguments", "syncer.cli.exits", "syncer.model",
        "syncer.model.errors",
    }  # fmt: skip


def test_a_command_imports_no_generated_client() -> None:
    """What is asked at 3 a.m. waits for no class of each kind of object, and for no metrics."""
    code, *loaded = modules_after(
        "from syncer.cli.main import main;"
        "print(main(['explain', 'ns/n', '--redis-url', 'nonsense']))"
    )
    assert (code, "syncer.cli.explanation" in loaded) == ("2", True)
    assert not set(loaded) & {
        "kubernetes_asyncio.client.api", "prometheus_client", "syncer.metrics", "jinja2",
    }  # fmt: skip


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> AsyncMock:
    """What `list` does; no settings and no URL are at hand."""
    made = AsyncMock(return_value=0)
    monkeypatch.setattr("syncer.cli.rows.run", made)
    monkeypatch.setattr(cli, "SETTINGS_FILES", ())
    monkeypatch.delenv("REDIS_URL", raising=False)
    return made


def test_words_come_from_the_process(listing: AsyncMock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none are given, without the name of the program."""
    monkeypatch.setattr(sys, "argv", ["syncer", "list", "--redis-url", "redis://h"])
    assert cli.main() == 0
    assert [call.args[0].command for call in listing.await_args_list] == ["list"]


def noted(error: Exception, *notes: str) -> Exception:
    """An error to which this was noted on its way."""
    for note in notes:
        error.add_note(note)
    return error


#: What a command raises, its exit code and what is said.
ENDS: dict[str, tuple[BaseException, int, str]] = {
    "a refusal of the command": (Refused("no"), 1, "syncer: no\n"),
    "a wrong use of it": (Misused("no"), 2, "syncer: no\n"),
    "what is not there": (Absent("none"), 3, "syncer: none\n"),
    "a missing right": (Unauthorised("may not"), 6, "syncer: may not\n"),
    "a write that does not fit": (Rejected("no", reason="x"), 1, "syncer: no\n"),
    "a server that is away": (Unavailable("away"), 4, "syncer: away\n"),
    "no answer": (TimeoutError(), 4, "syncer: no answer in time\n"),
    "a wrong setting": (ConfigError("bad", path="a.b"), 2, "syncer: a.b: bad\n"),
    "what does not parse": (ContractError("odd"), 2, "syncer: odd\n"),
    "texts of others": (Unavailable("a\x1b[2J\u202eb"), 4, "syncer: a\ufffd[2J\ufffdb\n"),
    "another error of ours": (LedgerError("other"), 1, "syncer: other\n"),
    "one of which its sources were noted": (
        noted(Unavailable("away"), "API server at https://x", "from a file"), 4,
        "syncer: away (API server at https://x) (from a file)\n",
    ),
    "an interrupt": (KeyboardInterrupt(), 130, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_how_a_command_ends(
    case: str, capsys: pytest.CaptureFixture[str], listing: AsyncMock
) -> None:
    """Each kind of error has its exit code, and one sentence on standard error."""
    listing.side_effect, code, text = ENDS[case]
    assert cli.main(["list", "--redis-url", "redis://h"]) == code
    assert capsys.readouterr() == ("", text)


#: Words, $REDIS_URL, files of the pod that are there; URL and settings file that a command is given.
SOURCES: dict[str, tuple[list[str], str | None, str, str | None, str | None]] = {
    "a URL": (["--redis-url", "redis://a"], "redis://b", "", "redis://a", None),
    "the environment": ([], "redis://b", "", "redis://b", None),
    "an empty variable": ([], "", "", None, None),
    "nothing": ([], None, "", None, None),
    "a settings file, which has its own URL": (["--config", "f"], "redis://b", "", None, "f"),
    "a URL beside a settings file": (
        ["--config", "f", "--redis-url", "redis://a"], None, "", "redis://a", "f",
    ),
    "a settings file in a pod": (["--config", "f"], "redis://b", "first second", None, "f"),
    "both in a pod": (
        ["--config", "f", "--redis-url", "redis://a"], None, "first", "redis://a", "f",
    ),
    "a URL takes the place of the pod's file": (
        ["--redis-url", "redis://a"], None, "first", "redis://a", None,
    ),
    "the variable does not": ([], "redis://b", "first", None, "first"),
    "the chart's": ([], None, "first second", None, "first"),
    "the program's": ([], "", "second", None, "second"),
}  # fmt: skip


@pytest.mark.parametrize("case", SOURCES)
def test_where_redis_is_and_which_settings_file_is_read(
    case: str,
    listing: AsyncMock,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """An option, a URL, the pod's own file, the variable: the first of these that is there."""
    words, variable, there, url, config = SOURCES[case]
    for name in there.split():
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "SETTINGS_FILES", ("first", "second"))
    if variable is not None:
        monkeypatch.setenv("REDIS_URL", variable)
    listing.return_value = 7
    assert cli.main(["list", *words]) == 7, "the answer is the code"
    (given,) = [call.args[0] for call in listing.await_args_list]
    assert (given.redis_url, given.config) == (url, config)
    assert capsys.readouterr().err == ""


#: Command lines that no server need be asked about, and what is said of them.
UNUSABLE: Final[dict[str, tuple[list[str], str]]] = {
    "no command": ([], "the following arguments are required: COMMAND"),
    "an unknown command": (["frobnicate"], "invalid choice: 'frobnicate'"),
    "an unknown option": (["list", "--frob"], "unrecognized arguments: --frob"),
    "a resolution without a reason": (["resolve", "ns/n", "--as", "failed"], "required: --reason"),
    "a result that is none": (
        ["resolve", "ns/n", "--as", "perhaps", "--reason", "x"], "invalid choice: 'perhaps'",
    ),
    "a negative port": (["web", "--port", "-1"], "--port: invalid count value: '-1'"),
    "a namespace and all": (["list", "-n", "a", "-A"], "not allowed with argument"),
    "a rate and a drop": (
        ["hold", "end", "h", "--rate", "1", "--drop"], "not allowed with argument",
    ),
    "neither a notification nor an event": (["explain"], "required"),
    "an output that is none": (["list", "-o", "yaml"], "invalid output value: 'yaml'"),
    "an address without a port": (
        ["web", "--health-address", "localhost"], "invalid address value: 'localhost'",
    ),
    "a port that is no number": (["web", "--health-address", ":http"], "invalid address value: ':http'"),
    "an account without a namespace": (
        ["doctor", "--service-account", "ledger"], "NAMESPACE/NAME expected, not 'ledger'",
    ),
    "a path for a namespace": (
        ["list", "-n", "../x"], "argument -n/--namespace: no namespace can have the name '../x'",
    ),
    "a state that is none": (
        ["list", "--state", "held,stuck"], "no such state: stuck; there are lost, unknown, held, unsynced",
    ),
    "no reason": (
        ["resolve", "a/b", "--as", "failed", "--reason", " "], "--reason must not be empty",
    ),
    "the end of no hold": (["hold", "end"], "`hold end`, and nothing else, takes the names of holds"),
    "a list of one hold": (["hold", "list", "h"], "`hold end`, and nothing else, takes the names of holds"),
    **{
        f"{text!r} as a rate": (
            ["resend", "--failed", f"--rate={text}"], f"--rate: invalid rate value: {text!r}",
        )
        for text in ("", "0/s", "fast", "5/h", "-1", "nan", "2000")
    },
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_meant_is_refused_before_a_server_is_asked(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens at the address: an error of the connection would have another code."""
    words, said = UNUSABLE[case]
    where = ["--redis-url", "redis://127.0.0.1:1", "--kubeconfig", "/dev/null"]
    try:
        code = cli.main([*words, *(where if words else [])])
    except SystemExit as ended:
        code = cast("int", ended.code)
    assert (code, said in capsys.readouterr().err) == (2, True)


#: Where a URL that cannot be used stands, and what an error calls that place.
NAMED: Final[dict[str, tuple[list[str], str]]] = {
    "an option": (["--redis-url", "URL"], "--redis-url"),
    "the environment": ([], "$REDIS_URL"),
    "the settings": (["--config", "config"], "redis.url"),
}


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("redis://h:x", "holds an address that is not host:port"),
        ("redis://h?x_y=1", "option x_y of the URL"),
    ],
)
@pytest.mark.parametrize("case", NAMED)
def test_an_error_says_where_the_url_stands(
    case: str, url: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The key of a settings file is named only where it was one."""
    words, name = NAMED[case]
    monkeypatch.chdir(tmp_path)
    Path("url").write_text(url)
    Path("config").write_text(f"redis: {{url: '{url}'}}\n")
    monkeypatch.setenv("REDIS_URL", url)
    assert cli.main(["list", *(url if word == "URL" else word for word in words)]) == 2
    assert capsys.readouterr().err.startswith(f"syncer: {name}: {wrong}")


def test_a_password_on_the_command_line_is_warned_about(
    listing: AsyncMock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used all the same; in a file it is nobody's business, and not both may be given."""
    url = "redis://:hunter2@h"
    assert cli.main(["list", "--redis-url", url]) == 0
    said = capsys.readouterr().err
    assert said.startswith("syncer: any user who can list processes here can read the password in")
    assert "hunter2" not in said
    monkeypatch.setenv("REDIS_URL", url)
    assert cli.main(["list"]) == 0
    assert [call.args[0].redis_url for call in listing.await_args_list] == [url, url]
    assert capsys.readouterr().err == ""


def test_a_reader_that_has_enough_is_no_error() -> None:
    """Whoever closes a pipe early has nothing said, neither by the command nor by the interpreter."""
    program = (
        "import sys; from syncer.cli import main\n"
        "async def run(options):\n"
        "    while True: print('x' * 1000, flush=True)\n"
        "from syncer.cli import rows; rows.run = run\n"
        "sys.exit(main.main(['list', '--redis-url', 'redis://h']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(10)
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 0


def test_what_is_written_after_a_pipe_has_broken_goes_nowhere(
    listing: AsyncMock, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Standard output leads to the null device from then on."""
    led: list[tuple[Path, int]] = []
    listing.side_effect = BrokenPipeError
    monkeypatch.setattr(
        "os.dup2", lambda a, b: led.append((Path(f"/proc/self/fd/{a}").readlink(), b))
    )
    assert cli.main(["list", "--redis-url", "redis://h"]) == 0
    assert led == [(Path("/dev/null"), sys.stdout.fileno())]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("module", ["syncer.cli.main", "notifier.cli.main"])
def test_a_start_without_docstrings(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -OO` leaves none of them, and the command is there all the same."""
    monkeypatch.setattr(f"{module}.__doc__", None)
    main = cli.main if module.startswith("syncer") else notifier_main
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Although each command's own options are made for that command alone."""
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"\n    {name}{' ' if len(name) < 9 else ''}" in shown, name
        assert " ".join(command.help.split())[:20] in " ".join(shown.split()), name


def test_a_command_shows_no_log_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has to say it says itself; only the explorer, which runs on, writes them."""

    async def warn(_options: argparse.Namespace) -> int:
        logging.getLogger("ledger.kube").warning("credentials are refused")
        return 0

    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.getLogger("ledger"), "handlers", [])
    for command, said in (("web", "credentials are refused\n"), ("list", "")):
        monkeypatch.setattr(f"syncer.cli.{COMMANDS[command].module}.run", warn)
        assert cli.main([command, "--redis-url", "redis://h"]) == 0
        assert capsys.readouterr().err == said
