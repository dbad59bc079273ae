"""The outside of a real process: what is taken down where its start is refused."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifier.process.production import production
from notifier.settings import load
from syncer.model.errors import ConfigError
from syncer.runtime.stalls import LoopWatch


@pytest.fixture(autouse=True)
def _switch_interval() -> Iterator[None]:
    """What a process sets for itself does not outlive the test."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


async def test_a_refused_start_leaves_no_thread(tmp_path: Path) -> None:
    """The watch over the loop ends although nothing was built yet."""
    settings, routing = tmp_path / "config.yaml", tmp_path / "routing.yaml"
    settings.write_text(
        "redis: {url: redis://127.0.0.1:1}\n"
        "controller: {metricsAddr: '127.0.0.1:0', healthProbeAddr: '127.0.0.1:0'}\n"
    )
    routing.write_text("route: []\n")
    namespace = tmp_path / "namespace"
    namespace.write_text("here")
    loaded = load(settings, {"ROUTING_CONFIG_PATH": str(routing)}, namespace_file=namespace)
    others = {t for t in threading.enumerate() if t.name == "loop-watch"}
    with pytest.raises(ConfigError):
        async with production(loaded, LoopWatch()):
            pytest.fail("it started")
    for thread in set(threading.enumerate()) - others:
        if thread.name == "loop-watch":
            thread.join(20)
            assert not thread.is_alive()
