"""
Which test runs which line of the product.

A mutant needs only the tests that run its line. A line that runs while tests are imported belongs to the
whole module. What a cache of the standard library remembers is forgotten before each test, or all but
the first that asks would seem to do without it.

The tracer is Python, so it leaves off early: it follows a call only while lines of the function are
missing for this test, and the first calls only. It has the stack of the test, too: where that is full the
tracer fails as well, and the interpreter drops it. Such a test counts as running all lines of the functions
that it had begun.
"""

from __future__ import annotations

import functools
import gc
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Final

from hypothesis import Phase, settings

#: Hypothesis's profile; `tests/conftest.py` loads the one that HYPOTHESIS_PROFILE names. The
#: same examples each time, and what it finds is not shrunk.
PROFILE: Final = "mutation"
PACKAGES: Final = ("notifier", "syncer")

#: How many calls of one function are followed in one test.
_CALLS: Final = 1_000

_Local = Callable[[FrameType, str, object], Any]

settings.register_profile(
    PROFILE,
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)


class Lines:
    """Collects the lines of the product that run between two moments, in all threads."""

    def __init__(self, root: str) -> None:
        """Take the root of the tree that the product is imported from."""
        self._prefixes = tuple(f"{root}/{package}/" for package in PACKAGES)
        self._cut = len(root) + 1
        #: By the identity of a code object: how many lines it has, 0 if it is not of the product.
        self._totals: dict[int, int] = {}
        self._codes: dict[int, CodeType] = {}  # keeps the identities unique
        self._seen: dict[int, set[int]] = {}
        self._calls: dict[int, int] = {}

    def begin(self) -> None:
        """Begin anew."""
        self._seen = {}
        self._calls = {}
        threading.settrace(self._call)
        sys.settrace(self._call)

    def end(self) -> dict[str, list[int]]:
        """Stop, and return the lines that ran, by path."""
        lost = sys.gettrace() is None
        sys.settrace(None)
        threading.settrace(None)
        found: dict[str, set[int]] = {}
        for key, lines in self._seen.items():
            if lost and self._totals[key]:
                lines |= {line for *_, line in self._codes[key].co_lines() if line}
            found.setdefault(self._codes[key].co_filename[self._cut :], set()).update(lines)
        return {path: sorted(lines) for path, lines in found.items()}

    def _call(self, frame: FrameType, _event: str, _argument: object) -> _Local | None:
        code = frame.f_code
        key = id(code)
        total = self._totals.get(key)
        if total is None:
            self._codes[key] = code
            total = 0
            if code.co_filename.startswith(self._prefixes):
                total = len({line for *_, line in code.co_lines() if line})
            self._totals[key] = total
        if not total:
            return None
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = set()
        self._calls[key] = self._calls.get(key, 0) + 1
        seen.add(frame.f_lineno)
        if len(seen) >= total or self._calls[key] > _CALLS:
            return None
        return self._line

    def _line(self, frame: FrameType, event: str, _argument: object) -> _Local:
        if event == "line":
            self._seen.setdefault(id(frame.f_code), set()).add(frame.f_lineno)
        return self._line


def caches() -> list[Callable[[], None]]:
    """Return what empties each cache of the product, of those of ``functools``."""
    kind = type(_example)
    return [
        thing.cache_clear
        for thing in gc.get_objects()
        if isinstance(thing, kind) and str(thing.__module__).partition(".")[0] in PACKAGES
    ]


@functools.cache
def _example() -> None: ...
