"""The thread that looks at files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from unittest.mock import Mock, call

import pytest

from syncer.runtime.polling import PollingThread


@pytest.fixture
def thread() -> Iterator[PollingThread]:
    """One that ends with the test."""
    made = PollingThread("looks")
    yield made
    made.close()


async def test_a_poll_wakes_the_loop_only_for_what_it_finds(thread: PollingThread) -> None:
    """Looks that find nothing are followed by others, in one thread of that name; false is something."""
    names, results = list[str](), iter([None, None, False, True])

    def look() -> bool | None:
        names.append(threading.current_thread().name)
        return next(results)

    assert await thread.poll(look, 0.001) is False
    assert names == ["looks_0"] * 3
    assert await thread.run(lambda: threading.current_thread().name) == "looks_0"


async def test_a_poll_waits_before_each_look(
    thread: PollingThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread itself waits for the period, before the first look too."""
    done = Mock()
    done.end.acquire.return_value = done.end.locked.return_value = False
    done.look.side_effect = [None, "found"]
    monkeypatch.setattr(thread, "_end", done.end)
    assert await thread.poll(done.look, 7.0) == "found"
    assert done.mock_calls == [call.end.acquire(timeout=7.0), call.look()] * 2


async def test_an_error_of_a_look_ends_the_poll(thread: PollingThread) -> None:
    """It is the caller's."""
    with pytest.raises(ValueError, match="a look"):
        await thread.poll(Mock(side_effect=ValueError("a look")), 0.001)


async def test_closing_ends_a_poll_at_once(thread: PollingThread) -> None:
    """A thread that waits for its next look does not outlive its owner; closing again does nothing."""
    looks = iter(["an hour has passed"])
    poll = thread.poll(lambda: next(looks), 3600.0)
    worker = next(t for t in threading.enumerate() if t.name == "looks_0")
    thread.close()
    assert await poll is None
    await asyncio.to_thread(worker.join, 20)
    assert not worker.is_alive()
    thread.close()
