"""
The processes in which mutants meet their tests: what is slow to import is imported once.

    python -m tests.mutation.server FOLDER MODULE... -- TESTS...

One process has imported the libraries (``MODULE...``) and waits at ``FOLDER/cold``; its child has collected
the tests, too, and waits at ``FOLDER/warm``. Each request, a line of JSON, is answered by a fork, by lines
of JSON: which test begins, which fails, that all passed. So every mutant has a fresh process, which costs
milliseconds. The warm one exchanges the code of functions, or the text of scripts (``patch.py``), and
imports the mutant where a test is the first to import the module; the cold one imports the mutant.
The first failure ends the process; whoever asked kills what is left of its group, and what takes too long.

A test that measures (group ``alone``) has no part: the machine is busy, and what it measures is no
property of a line.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import pytest
from hypothesis import settings

from tests import scheduling
from tests.mutation import patch
from tests.mutation.tracing import PACKAGES, PROFILE, Lines, caches

WARM, COLD = "warm", "cold"

#: Memory that a mutant may take, so that one that only ever grows ends before the machine does.
_MEMORY_BYTES: Final = 6 << 30
#: Seconds after which a server looks whether whoever started it is still there.
_LOOK_S: Final = 2.0
_PDEATHSIG: Final = 1  # of prctl: the signal that a process gets when its parent ends
_OPTIONS: Final = (
    "-q", "-p", "no:cacheprovider", "--capture=sys", "--timeout=0", "--tb=native",
    "-Wignore::pytest.PytestAssertRewriteWarning",  # plugins are imported already
)  # fmt: skip

_Request = Mapping[str, Any]


class Connection:
    """Lines of JSON to whoever asked."""

    def __init__(self, opened: socket.socket) -> None:
        """Take a connection."""
        self._opened = opened

    def read(self) -> _Request:
        """Return the request."""
        with self._opened.makefile("rb") as lines:
            found: _Request = json.loads(lines.readline())
            return found

    def write(self, **answer: object) -> None:
        """Send a line."""
        self._opened.sendall(json.dumps(answer).encode() + b"\n")

    def last(self, **answer: object) -> None:
        """Send a line and end the process, whatever it has begun."""
        self.write(**answer)
        os._exit(0)


def serve(file: Path, answer: Callable[[Connection], None], child: int = 0) -> None:
    """Answer each connection in a fork, until whoever started this process, or its child, is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{file}.new")
        listener.listen(64)
        Path(f"{file}.new").rename(file)  # now it can be asked
        listener.settimeout(_LOOK_S)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError):
                os.kill(child, 0)  # an error if it is gone
                opened, _ = listener.accept()
                with opened:
                    if os.fork() == 0:
                        listener.close()
                        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        os.setsid()
                        opened.settimeout(None)
                        connection = Connection(opened)
                        connection.write(pid=os.getpid())
                        try:
                            answer(connection)
                        except BaseException as error:  # noqa: BLE001 - a mutant may raise what it likes
                            connection.last(failed=f"{type(error).__name__}: {error}")
                        os._exit(0)


class Judge:
    """Runs chosen tests, in the order in which they are named, up to the first failure."""

    def __init__(self, request: _Request, connection: Connection) -> None:
        """Take the request to answer."""
        self._request = request
        self._connection = connection

    def run(self, session: pytest.Session, items: Mapping[str, pytest.Item]) -> None:
        """Run the tests and end the process."""
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
        session.config.pluginmanager.register(self)
        _own_folder(session.config, self._request["folder"])
        chosen = [items[name] for name in self._request["tests"] if name in items]
        for item, following in zip(chosen, [*chosen[1:], None], strict=True):
            self._connection.write(begins=item.nodeid)
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        self._connection.last(passed=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Tell of a failure before a report of it is written."""
        error = call.excinfo.value if call.excinfo else None
        if error is not None and not isinstance(error, pytest.skip.Exception):
            self._connection.last(failed=item.nodeid)


class Tracer:
    """Runs the tests of a file and notes the lines, the time and the work of each."""

    def __init__(
        self, root: str, connection: Connection, forget: Sequence[Callable[[], None]]
    ) -> None:
        """Take the root of the tree, and what empties the caches of the product."""
        self._lines = Lines(root)
        self._forget = forget
        self._connection = connection
        self._failed: set[str] = set()

    def run(self, session: pytest.Session, items: Sequence[pytest.Item], folder: str) -> None:
        """Run the tests, answer and end the process."""
        session.config.pluginmanager.register(self)
        _own_folder(session.config, folder)
        tests = {}
        for item, following in zip(items, [*items[1:], None], strict=True):
            for each in self._forget:
                each()
            self._connection.write(begins=item.nodeid)
            began, busy = time.perf_counter(), _busy()
            self._lines.begin()
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            lines = self._lines.end()
            took, work = time.perf_counter() - began, _busy() - busy
            tests[item.nodeid] = (round(took, 4), round(work, 4), lines)
        self._connection.last(tests=tests, failing=sorted(self._failed))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        if report.failed:
            self._failed.add(report.nodeid)


class Warm:
    """The plugin of the process that has collected the tests."""

    def __init__(self, file: Path) -> None:
        """Take where to wait for requests."""
        self._file = file
        self._root = str(Path.cwd())
        self._errors: list[str] = []
        self._lines = Lines(self._root)
        self._lines.begin()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what cannot be collected."""
        if report.failed:
            self._errors.append(str(report.longrepr))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Answer requests in the place of running tests."""
        outside = self._lines.end()
        self._session = session
        gc.unfreeze()  # what is frozen is not listed
        kept = [item for item in session.items if not scheduling.is_alone(item)]
        self._items = {item.nodeid: item for item in kept}
        self._functions = _functions(self._root)
        self._caches = caches()
        tests = list(self._items)
        self._file.with_name("collected.json").write_text(
            json.dumps({"outside": outside, "tests": tests, "errors": self._errors})
        )
        gc.collect()
        gc.freeze()  # so that a fork copies as little as can be
        serve(self._file, self._answer)
        return True

    def _answer(self, connection: Connection) -> None:
        request = connection.read()
        if "trace" in request:
            file = request["trace"]
            items = [i for name, i in self._items.items() if name.partition("::")[0] == file]
            Tracer(self._root, connection, self._caches).run(
                self._session, items, request["folder"]
            )
        path = request.get("path", "")
        if path.endswith(".lua"):
            patch.exchange_script(request["was"], request["source"])
        elif path:
            # A module that a test imports when it runs: the mutant is imported then.
            sys.meta_path.insert(0, Importer(path, request["source"]))
            new = patch.compiled(request["source"], f"{self._root}/{path}")
            places = [patch.Place(*place) for place in request["places"]]
            if not patch.exchange(self._functions.get(path, []), new, places):
                connection.last(cold=True)
        Judge(request, connection).run(self._session, self._items)


class Cold:
    """The plugin of a process that imports the mutant."""

    def __init__(self, judge: Judge) -> None:
        """Take who runs the tests."""
        self._judge = judge

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests that were asked for, unless not all could be imported."""
        if not session.testsfailed:
            self._judge.run(session, {item.nodeid: item for item in session.items})
        return True


class Importer(importlib.abc.MetaPathFinder):
    """Imports the mutant in the place of one module."""

    def __init__(self, path: str, source: str) -> None:
        """Take the module's path in the tree and its text."""
        self._name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self._file = str(Path.cwd() / path)
        self._source = source

    def find_spec(
        self, fullname: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for this module alone."""
        if fullname != self._name:
            return None
        loader = _Loader(fullname, self._file, self._source)
        return importlib.util.spec_from_file_location(fullname, self._file, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, source: str) -> None:
        super().__init__(fullname, path)
        self._source = source

    def path_stats(self, path: str) -> Mapping[str, Any]:  # noqa: V105 (importlib calls it)
        raise OSError

    def get_data(self, path: str) -> bytes:  # noqa: V105 (importlib calls it)
        return self._source.encode()


def _cold(connection: Connection) -> None:
    request = connection.read()
    sys.meta_path.insert(0, Importer(request["path"], request["source"]))
    files = list(dict.fromkeys(test.partition("::")[0] for test in request["tests"]))
    judge = Judge(request, connection)
    code = pytest.main([*_OPTIONS, *files], plugins=[Cold(judge)])
    connection.last(failed=f"the tests could not be imported ({int(code)})")


def _busy() -> float:
    """Return the seconds of a processor that this process and those that it started have had."""
    return sum(os.times()[:4])


def _functions(root: str) -> dict[str, list[FunctionType]]:
    """Return the functions of the product that are alive, by path."""
    prefixes = tuple(f"{root}/{package}/" for package in PACKAGES)
    found: dict[str, list[FunctionType]] = {}
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename.startswith(prefixes):
            found.setdefault(thing.__code__.co_filename[len(root) + 1 :], []).append(thing)
    return found


def _own_folder(config: pytest.Config, folder: str) -> None:
    """Let ``tmp_path`` lie in a folder that whoever asked takes away."""
    base = Path(folder)
    base.mkdir(exist_ok=True)
    factory: Any = config._tmp_path_factory  # type: ignore[attr-defined] # no other way
    factory._basetemp = base  # noqa: V101 (pytest reads it)


def main(arguments: Sequence[str]) -> None:
    """Start both servers."""
    split = arguments.index("--")
    folder, modules, tests = Path(arguments[0]), arguments[1:split], arguments[split + 1 :]
    settings.load_profile(PROFILE)
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    child = os.fork()
    if child == 0:
        os._exit(int(pytest.main([*_OPTIONS, *tests], plugins=[Warm(folder / WARM)])))
    with contextlib.suppress(ProcessLookupError):
        serve(folder / COLD, _cold, child)


if __name__ == "__main__":
    main(sys.argv[1:])
