"""
The part of a mutation run that lives inside pytest: which test enters which function, and which run.

``--mutation-trace FILE`` writes down the functions of the product that each test enters, its fixtures
included, and how long it takes. A mutant needs only the tests that enter its function. What is entered
while no test runs, or by a cache that remembers the first answer, belongs to the whole module.

``--mutation-select FILE`` runs the tests that the file names, in its order, and no others.

In both, a test that measures (group ``alone``) has no part: the machine is busy, and what it measures is
no property of a line. Hypothesis draws the same examples each time and does not shrink what it finds.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Final

import pytest
from hypothesis import Phase, settings

from tests import scheduling

#: Hypothesis's profile; `tests/properties/conftest.py` loads the one that HYPOTHESIS_PROFILE names.
PROFILE: Final = "mutation"
PACKAGES: Final = ("notifier", "syncer")

#: Address space that a mutant may take, so that one that only ever grows ends before the machine does.
_MEMORY_BYTES: Final = 6 << 30

settings.register_profile(
    PROFILE,
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)
settings.load_profile(PROFILE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add both options."""
    group = parser.getgroup("mutation")
    group.addoption("--mutation-trace", metavar="FILE")
    group.addoption("--mutation-select", metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Start to trace, where that is asked for in this process."""
    file = config.getoption("--mutation-trace")
    if file is None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    elif hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        config.pluginmanager.register(Tracer(Path(config.rootpath), Path(f"{file}.{worker}")))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what runs, in the order in which it shall run."""
    kept = [item for item in items if not scheduling.is_alone(item)]
    if file := config.getoption("--mutation-select"):
        rank = {name: n for n, name in enumerate(Path(file).read_text().splitlines())}
        kept = sorted((i for i in kept if i.nodeid in rank), key=lambda i: rank[i.nodeid])
    items[:] = kept


class Tracer:
    """Note which test enters which function."""

    def __init__(self, root: Path, file: Path) -> None:
        """Begin at once: modules are imported during the collection."""
        self._file = file
        self._prefixes = {f"{root}/{package}/" for package in PACKAGES}
        self._cut = len(str(root)) + 1
        self._codes: dict[object, str | None] = {}
        self._now: set[str] = set()
        self._outside = self._now
        self._tests: dict[str, tuple[float, list[str]]] = {}
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        try:
            name = self._codes[code]
        except KeyError:
            name = None
            file = code.co_filename
            if any(file.startswith(prefix) for prefix in self._prefixes):
                scope = code.co_qualname.removesuffix("<module>")
                name = f"{file[self._cut :]}::{scope}"
            self._codes[code] = name
        if name is not None:
            self._now.add(name)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Note what one test enters."""
        self._now, began = set(), time.perf_counter()
        sys.settrace(self._enter)  # a test may have taken it away
        try:
            return (yield)
        finally:
            self._tests[item.nodeid] = (time.perf_counter() - began, sorted(self._now))
            self._now = self._outside

    def pytest_sessionfinish(self) -> None:
        """Write down what was noted."""
        sys.settrace(None)
        text = json.dumps({"outside": sorted(self._outside), "tests": self._tests})
        self._file.write_text(text)
