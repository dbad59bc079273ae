"""The thread that looks at files."""

from __future__ import annotations

import asyncio
import threading
from unittest.mock import Mock, call

import pytest

from syncer.runtime.polling import PollingThread


async def test_a_poll_wakes_the_loop_only_for_what_it_finds() -> None:
    """Looks that find nothing are followed by others, in one thread of that name; false is something."""
    thread, names, results = PollingThread("looks"), list[str](), iter([None, None, False, True])

    def look() -> bool | None:
        names.append(threading.current_thread().name)
        return next(results)

    try:
        assert await thread.poll(look, 0.001) is False
        assert names == ["looks_0"] * 3
        assert await thread.run(lambda: threading.current_thread().name) == "looks_0"
    finally:
        thread.close()


async def test_a_poll_waits_before_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread itself waits for the period, before the first look too."""
    thread, done = PollingThread("looks"), Mock()
    done.end.acquire.return_value = done.end.locked.return_value = False
    done.look.side_effect = [None, "found"]
    monkeypatch.setattr(thread, "_end", done.end)
    try:
        assert await thread.poll(done.look, 7.0) == "found"
        assert done.mock_calls == [call.end.acquire(timeout=7.0), call.look()] * 2
    finally:
        thread.close()


async def test_an_error_of_a_look_ends_the_poll() -> None:
    """It is the caller's."""
    thread = PollingThread("looks")
    try:
        with pytest.raises(ValueError, match="a look"):
            await thread.poll(Mock(side_effect=ValueError("a look")), 0.001)
    finally:
        thread.close()


async def test_closing_ends_a_poll_at_once() -> None:
    """A thread that waits for its next look does not outlive its owner; closing again does nothing."""
    thread = PollingThread("looks")
    looks = iter(["an hour has passed"])
    poll = thread.poll(lambda: next(looks), 3600.0)
    worker = next(t for t in threading.enumerate() if t.name == "looks_0")
    thread.close()
    assert await poll is None
    await asyncio.to_thread(worker.join, 20)
    assert not worker.is_alive()
    thread.close()
