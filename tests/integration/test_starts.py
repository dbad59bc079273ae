"""
A fork behaves as a new process does, and does not outlive the tests.

The same program runs both ways, and its two descriptions of its process are compared.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.servers import starts

PROBE: Final = "tests.servers.probe"

ENVIRONMENT: Final = dict(os.environ) | starts.UNTRUSTING

#: Words for the program, the exit code, and how standard output goes on.
ENDS: Final = {
    "it returns": ("return", 0, "at exit\n"),
    "it exits with a code": ("7", 7, "at exit\n"),
    "it exits with a text": ("text", 1, "at exit\n"),
    "it raises": ("error", 1, "at exit\n"),
    "it is interrupted": ("interrupt", -signal.SIGINT, "at exit\n"),
    "a signal ends it": ("signal", -signal.SIGTERM, ""),
    "a thread goes on": ("thread", 0, "a thread\nat exit\n"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[starts._Server]:
    """A server of forks for this module alone."""
    server = starts._Server()
    yield server
    server.close()


@pytest.fixture
def forks(server: starts._Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have starts of the probe be forks; a call of the result, new processes."""
    monkeypatch.delenv(starts.SWITCH, raising=False)
    monkeypatch.setattr(starts, "_CHANGED", (PROBE,))
    monkeypatch.setattr(starts._choice, "_server", server)
    monkeypatch.setattr(starts._choice, "forks", True)
    return lambda: monkeypatch.setattr(starts._choice, "forks", False)


@pytest.mark.parametrize("end", ENDS)
def test_a_fork_is_and_ends_as_a_new_process(end: str, forks: Callable[[], None]) -> None:
    """Session, descriptors, environment, arguments, handlers, output and exit code are the same."""
    word, code, goes_on = ENDS[end]
    options: dict[str, Any] = {
        "given": "a line\n",
        "env": {"PATH": "/usr/bin:/bin", "ONLY": "this", **starts._at_start(ENVIRONMENT)},
    }  # fmt: skip
    forked = starts.run([PROBE, word, "x y"], **options)
    forks()
    new = starts.run([PROBE, word, "x y"], **options)
    assert forked.returncode == new.returncode == code
    (said, rest), (says, goes) = (e.stdout.partition("\n")[::2] for e in (forked, new))
    ours, theirs = json.loads(said), json.loads(says)
    ours["environment"].pop("PYDANTIC_DISABLE_PLUGINS")  # by an import that the program has not
    assert ours == theirs
    assert ours["environment"]["ONLY"] == "this"
    assert (ours["leads its session"], ours["descriptors"]) == (True, [0, 1, 2])
    assert ours["armed"] is False
    assert rest == goes == goes_on
    assert forked.stderr.splitlines()[0] == "to standard error"
    assert forked.stderr.splitlines()[-1] == new.stderr.splitlines()[-1]
