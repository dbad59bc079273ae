"""
A fork behaves as a new process does, and does not outlive the tests.

The same program runs both ways, and its two descriptions of its process are compared.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from syncer.runtime.failpoints import VARIABLE
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


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def wait(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def waiting(tmp_path: Path) -> starts.Process:
    """Start a process that goes on; returns it once it runs."""
    with (tmp_path / "out").open("wb") as out:
        process = starts.start([PROBE, "wait"], stdout=out, stderr=out, env=ENVIRONMENT)
    wait(lambda: bool((tmp_path / "out").read_text()), "it runs")
    return process


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
    assert (ours["enforced"], ours["armed"]) == (False, False)
    assert rest == goes == goes_on
    assert forked.stderr.splitlines()[0] == "to standard error"
    assert forked.stderr.splitlines()[-1] == new.stderr.splitlines()[-1]


def test_failpoints_are_armed_from_the_environment(server: starts._Server, forks: Any) -> None:
    """Each fork reads its own variable, as the import does."""
    environment = {**server.environment, VARIABLE: "after-ack=exit"}
    armed = json.loads(starts.run([PROBE, "return"], env=environment).stdout.partition("\n")[0])
    assert armed["armed"] is True
    environment[VARIABLE] = "no-such-place=exit"
    assert "no-such-place" in starts.run([PROBE, "return"], env=environment).stderr


def test_signals_reach_a_fork(tmp_path: Path, forks: Any) -> None:
    """It can be frozen and killed by its group; its pid stays its own until its end is read."""
    process = waiting(tmp_path)
    os.killpg(process.pid, signal.SIGSTOP)
    state = Path(f"/proc/{process.pid}/stat")
    wait(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it is frozen")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    wait(lambda: gone(process.pid), "it is killed")
    assert state.exists()
    os.killpg(process.pid, signal.SIGCONT)  # to a zombie: no error
    assert process.wait(30) == process.returncode == process.poll() == -signal.SIGKILL
    wait(lambda: not state.exists(), "it is waited for")


#: Stands for the tests: starts one fork, prints both pids, and waits.
_TESTS: Final = f"""
import sys, time
from pathlib import Path
from tests.servers import starts
starts._CHANGED = ("{PROBE}",)
starts._choice.forks = True
with open(sys.argv[1], "wb") as out:
    fork = starts.start(["{PROBE}", "wait"], stdout=out, stderr=out)
while not Path(sys.argv[1]).read_text():
    time.sleep(0.02)
print(starts._choice._server._process.pid, fork.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("victim", ["the tests", "the server"])
def test_a_fork_lives_no_longer_than_who_started_it(victim: str, tmp_path: Path) -> None:
    """When the tests or the server are killed, a fork ends too, even a frozen one."""
    environment = {k: v for k, v in os.environ.items() if k != starts.SWITCH} | starts.UNTRUSTING
    with subprocess.Popen(
        [sys.executable, "-c", _TESTS, str(tmp_path / "out")], cwd=starts.ROOT, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    ) as tests:  # fmt: skip
        assert tests.stdout is not None
        server, fork = (int(pid) for pid in tests.stdout.readline().split())
        os.kill(fork, signal.SIGSTOP)
        os.kill(tests.pid if victim == "the tests" else server, signal.SIGKILL)
        wait(lambda: gone(server) and gone(fork), f"{victim} killed, both are gone")
        tests.kill()


def test_some_starts_are_new_processes(
    forks: Callable[[], None], server: starts._Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another variable that an interpreter reads, another folder or program, the switch, a mark."""
    alike, other = server.environment, {**server.environment, "PYTHONHASHSEED": "1"}
    choose = starts._choice.server
    assert choose(PROBE, alike, starts.ROOT) is server
    assert choose(PROBE, {**alike, "ANY": "1"}, starts.ROOT) is server
    assert choose(PROBE, other, starts.ROOT) is None
    assert choose(PROBE, alike, Path("/")) is None
    assert choose("tests.e2e.newer", alike, starts.ROOT) is None
    monkeypatch.setenv(starts.SWITCH, "1")
    assert choose(PROBE, alike, starts.ROOT) is None
    monkeypatch.delenv(starts.SWITCH)
    forks()
    assert choose(PROBE, alike, starts.ROOT) is None


def test_a_mark_has_a_test_start_new_processes(request: pytest.FixtureRequest) -> None:
    """A marked test and one that measures start new processes; any other starts forks."""
    chosen = []
    for mark in (None, pytest.mark.new_processes("why"), pytest.mark.xdist_group("alone")):
        item = pytest.Function.from_parent(request.node.parent, name="x", callobj=lambda: None)
        if mark is not None:
            item.add_marker(mark)
        try:
            starts.choose(item)
            chosen.append(starts._choice.forks)
        finally:
            starts.choose(request.node)
    assert chosen == [True, False, False]


#: Prints the files of the product that read the environment when they are imported.
_READERS: Final = """
import os, sys
from tests.servers import forkserver

seen = set()
read = os._Environ.__getitem__

def watched(self, name):
    frame = sys._getframe(1)
    while frame.f_globals["__name__"] in {"os", "collections.abc"}:
        frame = frame.f_back
    seen.add(frame.f_code.co_filename)
    return read(self, name)

os._Environ.__getitem__ = watched
forkserver._import_all()
root = os.getcwd() + "/"
print(*sorted(f.removeprefix(root) for f in seen if f.startswith(root) and "/.venv/" not in f))
"""


def test_one_import_keeps_what_the_environment_says() -> None:
    """Any other module that reads it when imported would see the server's, not the fork's."""
    done = subprocess.run(
        [sys.executable, "-c", _READERS], cwd=starts.ROOT, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    # Each fork has the variable that the first sets, and arms the second anew.
    assert done.stdout.split() == ["syncer/configfile.py", "syncer/runtime/failpoints.py"]
