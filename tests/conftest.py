"""
Fixtures that every test may ask for: real servers, started once per process of a run.

The session's servers are started without an event loop, so each test may have a loop of its own.
What a test did to a shared server (froze it, killed it) is undone before the next one gets it. A
server that cannot be had fails the tests that ask for it; it never skips them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import ssl
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, settings

from tests import scheduling
from tests.examples import NIGHTLY, QUICK, SAME, SEED
from tests.servers import starts
from tests.servers.controlplane import ControlPlane, built_programs
from tests.servers.definition import serve, upstream_form
from tests.servers.process import ServerError
from tests.servers.redis import BINARIES, RedisServer, find_binary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from tests.e2e.harness import Stage

# pytest-xdist gives it to its processes, and help fits it: what is looked for would stand on two lines.
os.environ.pop("COLUMNS", None)

# What the system trusts takes 40 ms to read, for each TLS context; no test speaks to anybody who would be
# trusted for it, and one that names authorities has them read.
_read_system_roots = ssl.SSLContext.load_default_certs
_roots_of_this_machine = os.environ.get("SSL_CERT_FILE")


def _read_named_roots(self: ssl.SSLContext, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
    if os.environ.get("SSL_CERT_FILE") != _roots_of_this_machine:
        _read_system_roots(self, purpose)


ssl.SSLContext.load_default_certs = _read_named_roots  # type: ignore[method-assign] # see above

# A run of everything explores: TEST_SEED, which `scripts/test` draws and prints, gives other examples of
# laws (profile fresh) and another order of tests. Elsewhere both are the same in every run, so that what
# passes passes again. `scripts/test --fast` tries a quarter of the examples (quick). How long an example
# takes says how busy the machine is.
_PATIENT: Final[dict[str, Any]] = {
    "deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow],
}  # fmt: skip
settings.register_profile("quick", max_examples=QUICK, derandomize=True, **_PATIENT)
settings.register_profile("same", max_examples=SAME, derandomize=True, **_PATIENT)
settings.register_profile("fresh", max_examples=SAME, derandomize=False, **_PATIENT)
settings.register_profile("nightly", max_examples=NIGHTLY, derandomize=False, **_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("same" if SEED is None else "fresh"))

ROOT = Path(__file__).resolve().parent.parent
CRD = ROOT / "charts" / "notification-ledger" / "files" / "crd.yaml"
HOLDS = ROOT / "charts" / "notification-ledger" / "crds" / "deliveryholds.yaml"
STATUS_POLICY = CRD.with_name("status-policy.yaml")

_ASSETS = pytest.StashKey["Path | None"]()
#: The control planes of this process that have been started, by fixture.
_PLANES = pytest.StashKey["dict[str, ControlPlane]"]()
#: How many tests were left out as slow.
_LEFT_OUT = pytest.StashKey["int"]()
_seen: list[tuple[str, float]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `scripts/test` offers beyond pytest."""
    group = parser.getgroup("notification-ledger")
    group.addoption(
        "--record-durations",
        action="store_true",
        help="write how long each file took to tests/durations.txt, by which files are ordered",
    )
    group.addoption(
        "--repetitions",
        type=int,
        default=1,
        metavar="N",
        help="run each test N times, as `scripts/test --repeat N` does",
    )
    group.addoption(
        "--without-measuring",
        action="store_true",
        help="leave out the tests of the group alone: what they measure, coverage changes",
    )
    group.addoption(
        "--without-slow",
        action="store_true",
        help="leave out the tests that are marked as slow, as `scripts/test --fast` does",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Know the marks, and leave no event loop behind that a plugin made while looking for one."""
    config.stash[_PLANES] = {}
    config.stash[_LEFT_OUT] = 0
    config.addinivalue_line(
        "markers",
        f"{starts.MARK}(reason): start new processes, not forks (tests/servers/starts.py)",
    )
    config.addinivalue_line(
        "markers",
        f"{scheduling.SLOW}(reason): start what takes seconds of CPU; `scripts/test --fast` leaves it out",
    )
    config.addinivalue_line("markers", "stage(**options): of the stage that is `here`")
    # pytest-asyncio on 3.11 asks for the current loop, which makes one; unclosed, it fails whichever
    # test is running when it is collected.
    asyncio.set_event_loop(None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat each test as often as was asked for."""
    times = metafunc.config.getoption("repetitions")
    if times > 1:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(times), ids=lambda n: f"repeat-{n}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> scheduling.ByFile | None:
    """Hand out tests as ``tests/scheduling.py`` says, where several processes run them."""
    if config.getvalue("dist") != "loadgroup":
        return None
    return scheduling.ByFile(config, log, _run_folder(config) / "groups.json")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Shuffle before pytest groups tests by their parameters, which it does in between."""
    if SEED is not None:
        scheduling.shuffle(items, SEED)
    yield
    choose(config, items)


def choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was asked to be left out; put the longest files first for several processes."""
    if without := scheduling.unreasoned(items):
        raise pytest.UsageError(
            f"marked as {scheduling.SLOW} without a reason: {', '.join(without)}"
        )
    if config.getoption("without_slow"):
        slow = scheduling.take_slow(items)
        config.hook.pytest_deselected(items=slow)
        config.stash[_LEFT_OUT] = len(slow)
    if config.getoption("without_measuring"):
        measuring = [item for item in items if scheduling.is_alone(item)]
        config.hook.pytest_deselected(items=measuring)
        items[:] = [item for item in items if not scheduling.is_alone(item)]
    if hasattr(config, "workerinput"):
        scheduling.sort_longest_first(items, scheduling.read_durations())
        scheduling.write_groups(items, _run_folder(config) / "groups.json")


@pytest.hookimpl(tryfirst=True)  # before fixtures start anything
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Decide whether what the test starts may be a fork, and wake the control planes that it names."""
    starts.choose(item)
    planes = item.config.stash[_PLANES]
    scheduling.wake_named(item, planes)


@pytest.hookimpl(trylast=True)  # the test's own fixtures have ended
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Freeze the control planes that the next file may not need."""
    planes = item.config.stash[_PLANES]
    scheduling.rest_unnamed(item, nextitem, planes)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the time limit of a test begins after the wait
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run nothing beside a test that measures."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with scheduling.turn(item, _run_folder(item.config) / "turn.lock"):
        return (yield)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have a process among several report no more than somebody reads."""
    if hasattr(session.config, "workerinput"):
        plugins: set[Any] = session.config.pluginmanager.get_plugins()
        (sender,) = (plugin for plugin in plugins if hasattr(plugin, "sendevent"))  # xdist's own
        sender.sendevent = scheduling.without_routine(sender.sendevent)


def _run_folder(config: pytest.Config) -> Path:
    """Return the folder of a run, which all of its processes know."""
    base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined] # no other way
    return base.parent if hasattr(config, "workerinput") else base


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember how long each phase of a test took."""
    _seen.append((report.nodeid, report.duration))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the server of forks, and write down how long each file took, if that was asked for."""
    starts.close()
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[_LEFT_OUT]
    if session.config.getoption("record_durations") and not hasattr(session.config, "workerinput"):
        scheduling.write_durations(_seen, _run_folder(session.config) / "groups.json")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over how many tests a process has left out: each of them collects all."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_report_header() -> str | None:
    """Say how the run can be repeated."""
    return None if SEED is None else f"explores by TEST_SEED={SEED}, which repeats it"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say that a run was not whole, and how one that failed can be repeated."""
    if SEED is not None and terminalreporter.stats.get("failed"):
        terminalreporter.write_line(f"repeat with TEST_SEED={SEED}")
    if count := config.stash[_LEFT_OUT]:
        terminalreporter.write_line(f"{count} slow tests were left out; scripts/test runs them")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """
    Leave the garbage collector out of what stays until the end.

    A fifth of the time that collecting takes, in each process, would go into it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """
    Have the control plane's programs ready before the time limit of any test runs.

    Their first build takes minutes, and a person wants to see it progress.
    """
    if session.config.option.collectonly:
        return
    wanted = "control_plane_assets"
    if any(wanted in getattr(item, "fixturenames", ()) for item in session.items):
        _assets(session.config)


def _assets(config: pytest.Config) -> Path | None:
    if _ASSETS not in config.stash:
        capture = config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            try:
                config.stash[_ASSETS] = built_programs()
            except ServerError:
                config.stash[_ASSETS] = None
    return config.stash[_ASSETS]


@pytest.fixture(scope="session")
def control_plane_assets(pytestconfig: pytest.Config) -> Path:
    """Return the folder with etcd and kube-apiserver, for tests that start their own."""
    assets = _assets(pytestconfig)
    if assets is None:
        pytest.fail("`scripts/controlplane assets` failed; it said why at the start of this run")
    return assets


@pytest.fixture(scope="session")
def control_plane(
    control_plane_assets: Path, pytestconfig: pytest.Config
) -> Iterator[ControlPlane]:
    """Return the run's control plane: upstream's CRD, the chart's policy. Tests want ``namespace`` too."""
    # A quarter less CPU for all of an e2e test.
    plane = ControlPlane(control_plane_assets, gogc=400)
    yield from _launched(plane, "control_plane", pytestconfig)


def _launched(plane: ControlPlane, fixture: str, config: pytest.Config) -> Iterator[ControlPlane]:
    planes = config.stash[_PLANES]
    try:
        plane.launch()
        serve(plane, upstream_form())
        plane.api.apply_crd(HOLDS)
        plane.api.protect_statuses(STATUS_POLICY)
        planes[fixture] = plane
        yield plane
    finally:
        planes.pop(fixture, None)
        plane.close()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """Return the name of a fresh namespace on a control plane that is well."""
    control_plane.heal()
    name = f"test-{uuid.uuid4()}"
    control_plane.api.create_namespace(name)
    return name


@pytest.fixture(scope="session", params=BINARIES)
def redis_binary(request: pytest.FixtureRequest) -> Path:
    """
    Return a server program; what depends on it runs once with each.

    One is enough for a test that says ``parametrize("redis_binary", ["valkey"], indirect=True)``.
    """
    return find_binary(request.param)


@pytest.fixture(scope="session")
def redis_server(redis_binary: Path) -> Iterator[RedisServer]:
    """Return the run's server. Tests want ``redis_url`` too, which empties it first."""
    server = RedisServer(redis_binary)
    try:
        server.launch()
        yield server
    finally:
        server.close()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Return the address of a server that is well and empty."""
    server = redis_server
    server.heal()
    server.flush()
    return server.url


@pytest.fixture
async def here(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Stage]:
    """
    Return an installation with nothing in it, where nobody looks at logs beside the test.

    A test says what it wants otherwise by ``pytest.mark.stage``, with arguments of ``harness.stage``.
    """
    from tests.e2e.harness import stage  # noqa: PLC0415 - most tests need nothing of it

    control_plane.heal()
    mark = request.node.get_closest_marker("stage")
    options = {"sampled": False} | (mark.kwargs if mark else {})
    async with stage(control_plane, redis_url, tmp_path / "stage", **options) as made:
        yield made
