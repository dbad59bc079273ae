"""Tests that wait for long: on virtual time, without waiting."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from tests.simulation.loop import simulate

P = ParamSpec("P")


def on_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on a loop of its own, whose time passes as soon as everything waits."""

    @functools.wraps(test)
    def run(*given: P.args, **fixtures: P.kwargs) -> None:
        simulate(1, lambda _loop: test(*given, **fixtures))

    return run
