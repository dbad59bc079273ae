"""Completion, by the parser itself and by each shell."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from notifier.cli import main as notifier
from syncer.cli import main as cli
from syncer.cli.completion import SHELLS, candidates, script, typed_after

COMPLETED = {
    "the first letters of a command": (["ver"], ["verify"]),
    "any command": (
        [""],
        ["completion", "doctor", "explain", "hold", "list", "receivers", "resend", "resolve", "status",
         "tail", "verify", "web"],
    ),
    "an option of a command": (
        ["resend", "ns/n", "--re"], ["--reason", "--receiver", "--redis-url"],
    ),
    "a value of an option": (["resolve", "ns/n", "--as", ""], ["delivered", "failed"]),
    "a phase": (["list", "--phase", "s"], ["sending", "sent"]),
    "a file is the shell's business": (["list", "--config", ""], []),
    "a switch takes no value": (
        ["verify", "--repair", "--un"], ["--until-stdin-closes", "--unwitnessed"],
    ),
    "a shell": (["completion", ""], ["bash", "fish", "zsh"]),
    "an object is known to the cluster alone": (["explain", "ns/"], []),
    "values of options are no words of a command": (["tail", ""], []),
    "an option of the program": (["--h"], ["--help"]),
    "nothing yet": ([], [
        "completion", "doctor", "explain", "hold", "list", "receivers", "resend", "resolve", "status",
        "tail", "verify", "web",
    ]),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPLETED)
def test_completion(case: str) -> None:
    """The parser itself says what a word may become."""
    words, wanted = COMPLETED[case]
    assert candidates(cli._parser(), words) == wanted


#: For each shell, how it is run without files of its own, and what has it complete its words, of which
#: the last is being written. Bash and zsh complete within their line editors alone, so what these would
#: call is called here.
LINES = {
    "bash": (
        ["bash", "--norc", "-c"],
        """COMP_WORDS=({program} {words} more); COMP_CWORD={count}; _{program}
        printf '%s\\n' "${{COMPREPLY[@]}}" """,
    ),
    "zsh": (
        ["zsh", "-f", "-c"],
        """compadd() {{ print -rl -- "${{@[2,-1]}}" }}
        _files() {{ print a-file }}
        words=({program} {words} more); CURRENT=$(({count} + 1)); $_comps[{program}]""",
    ),
    "fish": (["fish", "--no-config", "-c"], 'complete -C "{program} {typed}"'),
}
#: What a person's own files do before.
SET_UP = {"zsh": "autoload -U compinit && compinit -D -u\n"}


def completed(
    shell: str, tmp_path: Path, words: list[str], *found: str, program: str = "syncer"
) -> list[str]:
    """What a shell makes of its words when the command finds this; the command is a script of its own."""
    summary = tmp_path / program
    said = "".join(f"{line}\\n" for line in found)
    summary.write_text(f'#!/bin/sh\nprintf "%s|" "$@" > "$0.args"\nprintf "{said}"\n')
    summary.chmod(0o755)
    nowhere = tmp_path / "no-files"
    nowhere.mkdir()
    command, line = LINES[shell]
    quoted = shlex.join(words)
    # An empty word is typed as nothing.
    typed = quoted.removesuffix("''")
    line = line.format(words=quoted, count=len(words), typed=typed, program=program)
    answer = subprocess.run(
        [*command, f"{SET_UP.get(shell, '')}{script(shell, program)}\n{line}"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb"},
        cwd=nowhere, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert answer.stderr == ""
    return answer.stdout.splitlines()


@pytest.mark.parametrize("words", [["-n", "a b", "ver"], ["verify", ""]], ids=["begun", "empty"])
@pytest.mark.parametrize("shell", SHELLS)
def test_shell_completes(shell: str, words: list[str], tmp_path: Path) -> None:
    """The script of each shell, run by that shell, asks the command with the words as they stand."""
    assert completed(shell, tmp_path, words, "verify", "version x") == ["verify", "version x"]
    said = (tmp_path / "syncer.args").read_text()
    assert said == "".join(f"{word}|" for word in ("complete", "--", *words))


def test_zsh_completes_files(tmp_path: Path) -> None:
    """Where the command knows no word, zsh completes files; the others do so by themselves."""
    assert completed("zsh", tmp_path, ["x"]) == ["a-file"]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_other_command_is_asked_by_its_name(shell: str, tmp_path: Path) -> None:
    """Its script asks it, in each shell."""
    words = ["routes", "te"]
    assert completed(shell, tmp_path, words, "test", program="notifier") == ["test"]
    said = (tmp_path / "notifier.args").read_text()
    assert said == "complete|--|routes|te|"


@pytest.mark.parametrize("program", [cli, notifier], ids=["syncer", "notifier"])
@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_ask_the_command(
    shell: str, program: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every script is printed by the command, and does nothing but ask it."""
    name = "syncer" if program is cli else "notifier"
    assert program.main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert printed == script(shell, name)
    assert f"{name} complete -- " in printed
    assert ("syncer" in printed) is (name == "syncer")


OF_NOTIFIER = {
    "any command": (
        [""],
        ["check", "completion", "gateway", "routes", "run", "send", "show"],
    ),
    "a command of a command": (["routes", ""], ["show", "test"]),
    "an option of such a command": (["routes", "test", "--exp"], ["--expect"]),
    "a value of such an option": (["routes", "test", "-o", ""], ["json", "tree"]),
    "a kind of file": (["show", "r"], ["routing"]),
    "a file is the shell's business": (["check", "--config", ""], []),
}  # fmt: skip


@pytest.mark.parametrize("case", OF_NOTIFIER)
def test_completion_of_notifier(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, with commands that have commands of their own."""
    words, wanted = OF_NOTIFIER[case]
    assert notifier.main(["complete", "--", *words]) == 0
    assert capsys.readouterr().out.splitlines() == wanted


def test_complete_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """The hidden command prints candidates, one a line."""
    assert cli.main(["complete", "--", "list", "--phase", "f"]) == 0
    assert capsys.readouterr().out == "failed\n"


def test_what_ends_the_options_is_none_of_the_words() -> None:
    """Only where the shell's script puts it."""
    assert typed_after(["complete", "--", "list", "--"]) == ["list", "--"]
    assert typed_after(["complete", "--"]) == []
    assert typed_after(["complete", "list"]) == ["list"]
    assert typed_after(["list"]) is None
