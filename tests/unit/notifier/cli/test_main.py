"""The command line: wrong usage, the version, what starting it imports."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock

import pytest

from notifier.cli import main as cli
from notifier.cli import program
from notifier.cli.arguments import COMMANDS
from notifier.version import __version__
from syncer.kube.crd import render_crd

if TYPE_CHECKING:
    from notifier.cli.program import Program

ROOT = Path(cli.__file__).resolve().parents[2]


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Version and definition go to standard output, the usage of a wrong call to standard error."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    python = sys.version.split()[0]
    assert capsys.readouterr().out == f"notification-ledger {__version__} (Python {python})\n"
    assert cli.main(["show", "crd"]) == 0
    assert capsys.readouterr().out == render_crd()
    assert cli.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage: notifier")
    assert all(f"\n    {name}" in printed.err for name in COMMANDS), "what there is to choose from"


@pytest.mark.parametrize("command", ["run", "gateway"])
def test_a_start_without_its_file_names_the_option(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Outside a pod the default names a file that is not there, and nobody has typed its name."""
    monkeypatch.setattr(program, "serve", lambda prepare: prepare())
    file = tmp_path / "none"
    assert cli.main([command, "--config", str(file)]) == 2
    said = f"notifier: there is no {file}: name the settings with --config FILE\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("written", [["-config"], ["--config"], ["-config="], ["run", "--config"]])
@pytest.mark.parametrize("variable", ["", "25s"])
def test_it_starts_with_the_arguments_of_the_controller_that_it_replaces(
    written: list[str], variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pods have ten seconds to end, of which the arguments say nothing; a variable may."""
    start = AsyncMock(return_value=None)
    monkeypatch.setattr("notifier.process.production.run", start)

    def serve(prepare: Callable[[], Program]) -> int:
        read, run = prepare()
        asyncio.run(run(read, None))  # type: ignore[arg-type]  # the watch is not looked at
        return 0

    monkeypatch.setattr(program, "serve", serve)
    for name, value in {
        "KUBERNAUT_CONTROLLER_NAMESPACE": "n", "REDIS_URL": "redis://h", "GRACE_PERIOD": variable,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    file = tmp_path / "config.yaml"
    file.write_text("logging: {level: DEBUG}\n")
    *words, last = written
    given = [*words, f"{last}{file}"] if last.endswith("=") else [*written, str(file)]
    assert cli.main(given) == 0
    ((loaded, _watch),) = [call.args for call in start.await_args_list]
    assert (loaded.path, loaded.settings.logging.level) == (file, "DEBUG")
    expected = None if written[0] == "run" else 10.0
    assert loaded.environment.grace_period == (25.0 if variable else expected)


def test_settings_before_a_command_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """They would be ignored: each command has its own option."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(["-config", "a.yaml", "check"])
    assert "give --config after the command" in capsys.readouterr().err


def test_the_parser_imports_nothing_that_takes_time() -> None:
    """Help is quick: what a command needs is imported when it runs."""
    program = (
        "import sys; from notifier.cli import main; main._parser();"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}),"
        " *(name for name in sys.modules if name.startswith(('notifier.', 'syncer.'))))"
    )
    answer = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    # Since Python 3.14 the library's parser itself imports the latter.
    loaded = set(answer.stdout.split()) - (
        {"dataclasses"} if sys.version_info >= (3, 14) else set()
    )
    assert not loaded & {
        "asyncio", "aiohttp", "dataclasses", "json", "kubernetes_asyncio",
        "logging", "pydantic", "re2", "redis", "yaml",
    }  # fmt: skip
    shared = {
        "notifier.cli", "notifier.cli.arguments", "notifier.cli.main", "syncer.cli", "syncer.cli.arguments",
        "syncer.cli.exits", "syncer.model",
        "syncer.model.errors",
    }  # fmt: skip
    assert {name for name in loaded if name.startswith(("notifier.", "syncer."))} == shared


@pytest.mark.parametrize(
    "words",
    [
        "notifier show crd",
        "notifier --version",
        "syncer --version",
    ],
)
def test_an_answer_that_cannot_be_written_is_no_traceback(words: str) -> None:
    """A full disk is named, with code 2; where standard output is closed, nobody wants the answer."""
    program = words.partition(" ")[0]
    full = f"{program}: the answer cannot be written: No space left on device\n"
    for where, code, said in (("/dev/full", 2, full), ("&-", 0, "")):
        answer = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m {words} >{where}"],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert (answer.returncode, answer.stderr) == (code, said)


#: Words of a command, its file, what it reads, and what it writes where a terminal has neither arrow nor Ж.
ESCAPED = {
    "names of a receiver": (
        "routes show --routing", "route: {receiver: Ж}\nreceivers: [{name: Ж}]\n",
        "", (r"\u2192", r"\u0416"),
    ),
    "a tried payload": (
        "gateway test --source s --config",
        (
            "sources: [{name: s, kind: json, namespace: n, auth: {insecure: true},"
            " mapping: {subject: '{{ s }}', body: b}}]\n"
        ),
        '{"s": "→"}', (r"subject: \u2192",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(("words", "text", "read", "escapes"), ESCAPED.values(), ids=ESCAPED)
def test_a_terminal_without_a_character_is_no_error(
    words: str, text: str, read: str, escapes: tuple[str, ...], encoding: str, tmp_path: Path
) -> None:
    """It is written as an escape, whatever the command."""
    file = tmp_path / "file.yaml"
    file.write_text(text, encoding="utf-8")
    answer = subprocess.run(
        [sys.executable, "-m", "notifier", *words.split(), str(file)],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        input=read.encode(), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    said = answer.stdout.decode(encoding)
    assert [escape for escape in escapes if escape not in said] == []
    assert answer.stderr == b""
