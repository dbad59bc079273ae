"""Vendors' packages that run only when something of them is asked for."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

import pytest

from syncer.runtime.deferred import defer

#: What one server of its own needs none of: clients, commands, clusters, Sentinels.
CLIENTS = ("redis.client", "redis.commands.core", "redis.asyncio.client", "redis.cluster")
HEAVY = (
    *CLIENTS, "urllib3.util", "dateutil.parser", "structlog", "rich", "aiosmtplib", "difflib", "zipfile",
)  # fmt: skip
START = "from syncer.cli.main import main; code = main({words!r}.split())"
#: Commands that look at a server of its own.
LOOKS = ("list", "inspect ns/a", "verify", "doctor")


def imported(code: str) -> set[str]:
    """
    Modules that an interpreter of its own has imported after some code.

    Coverage, which starts with every interpreter if it is measured, imports some of them itself.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True, text=True, check=False, timeout=60, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_a_command_imports_no_more_than_it_needs() -> None:
    """
    A command that looks at a server of its own leaves out what costs more than the look.

    One interpreter runs one after the other: what any of them imports is seen there, and who has.
    """
    heavy = {*HEAVY, "aiohttp.web", "prometheus_client", "notifier"}
    of_each = "".join(
        f"{START.format(words=f'{command} --redis-url redis://127.0.0.1:1')}\n"
        f"found = {heavy} & set(sys.modules)\n"
        f"assert not found, ({command!r}, found)\n"
        for command in LOOKS
    )
    there = imported(f"import sys\n{of_each}")
    assert "redis.asyncio.connection" in there
    assert "kubernetes_asyncio.client.api_client" in there
    assert there.isdisjoint(heavy)


def test_completion_imports_nothing_of_vendors() -> None:
    """A word that a shell completes waits for no library."""
    there = imported(START.format(words="complete -- ins"))
    assert there.isdisjoint({"asyncio", "redis", "aiohttp", "pydantic", "yaml", "orjson"})


def test_the_controller_imports_no_client_of_redis() -> None:
    """The start of the controller leaves out what no part of it uses."""
    there = imported("import notifier.cli.program, notifier.process.production")
    assert "redis.asyncio.connection" in there
    assert there.isdisjoint(HEAVY)


#: Prints which of the controller's deferred modules have run, and which modules of ours look into them.
USED: Final = """
import notifier.cli.main
from notifier.cli.program import UNUSED
import notifier.process.lifecycle, notifier.process.production, notifier.gateway.process
import notifier.settings, sys
notifier.settings.load(sys.argv[1], {"KUBERNAUT_CONTROLLER_NAMESPACE": "x"})
entered = {name: sys.modules[name] for name, *_ in UNUSED}
for name, module in entered.items():
    if "__getattr__" not in vars(module):
        print(name, "has run")
hands = {id(m) for m in entered.values()}
hands |= {id(vars(entered[name])[member]) for name, *members in UNUSED for member in members}
for name, module in list(sys.modules.items()):
    if name.partition(".")[0] in ("notifier", "syncer"):
        print(*(f"{name} has {member}" for member, it in vars(module).items() if id(it) in hands))
"""


def test_nothing_of_ours_uses_what_the_controller_defers(tmp_path: Path) -> None:
    """The start runs none of it, and no module of ours holds one or a member that is not the true one."""
    settings = tmp_path / "config.yaml"
    settings.write_text("redis: {url: 'redis://127.0.0.1:1'}\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", USED, str(settings)],
        capture_output=True, text=True, check=True, timeout=60, env=env,
    )  # fmt: skip
    assert [line for line in done.stdout.splitlines() if line] == []


def test_what_is_left_out_comes_when_it_is_asked_for() -> None:
    """A deferred package has every name and every submodule of the vendor's."""
    code = (
        "import syncer.ledger, sys\n"
        "before = 'redis.client' in sys.modules\n"
        "import redis.asyncio.sentinel, redis.asyncio\n"
        "from redis import Redis, __version__\n"
        "assert not before and issubclass(redis.asyncio.Redis, object)\n"
        "assert redis.client.Redis is Redis and __version__\n"
        "try: redis.nothing\n"
        "except AttributeError: pass\n"
        "else: raise SystemExit(1)\n"
    )
    assert set(CLIENTS) <= imported(code)


def test_dates_are_the_vendors_again() -> None:
    """What stood in for a package while another was imported is gone."""
    code = (
        "import syncer.kube.transport, dateutil.parser\nassert dateutil.parser.parse('2026-01-02')"
    )
    assert "dateutil.parser._parser" in imported(code)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package that says when it runs, and brings a submodule."""
    folder = tmp_path / "slowpackage"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("__version__ = '3'\nRAN = []\nthing = 7\n")
    (folder / "part.py").write_text("value = 1\n")
    (folder / "inner" / "__init__.py").write_text("word = 'inner'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "slowpackage"
    for name in [n for n in sys.modules if n.partition(".")[0] == "slowpackage"]:
        del sys.modules[name]


def test_a_package_runs_when_a_member_is_asked_for(package: str) -> None:
    """Before that it is entered and has not run; submodules load without it."""
    defer(package)
    entered = sys.modules[package]
    assert importlib.import_module(f"{package}.part").value == 1
    assert "RAN" not in vars(entered)
    assert not hasattr(entered, "__wrapped__")
    assert "RAN" not in vars(entered), "the import system looks for dunders"
    assert entered.thing == 7
    assert "RAN" in vars(entered)
    assert "__getattr__" not in vars(entered)
    with pytest.raises(AttributeError):
        _ = entered.other


def test_a_version_is_a_member(package: str) -> None:
    """Of all dunders the version is what programs ask for."""
    defer(package)
    assert sys.modules[package].__version__ == "3"


def test_a_function_that_is_named_runs_the_package_when_it_is_called(package: str) -> None:
    """Whoever has imported it before calls the package's own afterwards."""
    file = Path(str(PathFinder.find_spec(package).origin))  # type: ignore[union-attr]  # it is there
    file.write_text("RAN = []\ndef double(n, *, more=0): return 2 * n + more\n")
    defer(package, "double")
    entered = sys.modules[package]
    double = entered.double
    assert "RAN" not in vars(entered)
    assert double(4, more=1) == 9
    assert "RAN" in vars(entered)
    assert entered.double is not double
    assert double(5) == 10


def test_a_class_that_is_named_can_be_derived_from(package: str) -> None:
    """The package still has not run; called, the class makes an object of the package's own."""
    file = Path(str(PathFinder.find_spec(package).origin))  # type: ignore[union-attr]  # it is there
    file.write_text("RAN = []\nclass Server:\n    def __init__(self, port): self.port = port\n")
    defer(package, "Server")
    entered = sys.modules[package]
    stands_in = entered.Server
    type("Quiet", (stands_in,), {})
    assert "RAN" not in vars(entered)
    assert stands_in(80).port == 80
    own = entered.Server
    assert own is not stands_in
    assert type(stands_in(81)) is own


def test_a_module_of_a_package_that_is_not_imported(package: str) -> None:
    """Neither runs; the module does when it is asked for what is not named."""
    defer(f"{package}.part", "value")
    entered = sys.modules[f"{package}.part"]
    assert package not in sys.modules
    assert entered.value != 1
    with pytest.raises(AttributeError, match="nothing"):
        _ = entered.nothing
    assert entered.value == 1
    assert package not in sys.modules


def test_what_is_imported_already_stays(package: str) -> None:
    """A package that has run is left as it is."""
    before = importlib.import_module(package)
    defer(package)
    assert sys.modules[package] is before
    assert "RAN" in vars(before)


def test_a_package_within_a_package(package: str) -> None:
    """It becomes a member of its parent, as an import would have made it."""
    parent = importlib.import_module(package)
    defer(f"{package}.inner")
    assert parent.inner is sys.modules[f"{package}.inner"]
    assert "word" not in vars(parent.inner)
    assert parent.inner.word == "inner"


def test_a_package_that_is_not_installed(tmp_path: Path) -> None:
    """It is missing as with any import."""
    with pytest.raises(ImportError, match="nowhereatall is not installed") as caught:
        defer("nowhereatall")
    assert caught.value.name == "nowhereatall"


BUNDLE: Final = """
import ssl
inherited = ssl.SSLContext.set_default_verify_paths
import {first}
import aiohttp.connector as made
assert ssl.SSLContext.set_default_verify_paths is inherited
contexts = (made._SSL_CONTEXT_VERIFIED, made._SSL_CONTEXT_UNVERIFIED)
said = [[c.verify_mode.name, c.check_hostname, len(c.get_ca_certs())] for c in contexts]
for context in contexts:
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="x")
said += [[type(context) is ssl.SSLContext, len(context.get_ca_certs())] for context in contexts]
said.append(len(ssl.create_default_context().get_ca_certs()))
print(*said, sep="|")
"""


@pytest.mark.parametrize("first", ["syncer.kube.client", "notifier.channels.http"])
def test_the_bundle_is_read_when_a_connection_needs_it(first: str) -> None:
    """Not by the import of aiohttp, whose contexts then are as ever; others are so at once."""
    done = subprocess.run(
        [sys.executable, "-c", BUNDLE.format(first=first)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    all_of_them = done.stdout.strip().rpartition("|")[2]
    assert int(all_of_them) > 10, "the system has no bundle"
    assert done.stdout.strip() == (
        "['CERT_REQUIRED', True, 0]|['CERT_NONE', False, 0]"
        f"|[True, {all_of_them}]|[True, {all_of_them}]|{all_of_them}"
    )
