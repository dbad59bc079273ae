"""The thread that looks at files."""

from __future__ import annotations

import asyncio
import threading

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
    thread, events, results = PollingThread("looks"), list[float | str](), iter([None, "found"])

    class Lock:
        def acquire(self, timeout: float) -> bool:
            events.append(timeout)
            return False

        def locked(self) -> bool:
            return False

    def look() -> str | None:
        events.append("look")
        return next(results)

    monkeypatch.setattr(thread, "_end", Lock())
    try:
        assert await thread.poll(look, 7.0) == "found"
    finally:
        thread.close()
    assert events == [7.0, "look", 7.0, "look"]


async def test_an_error_of_a_look_ends_the_poll() -> None:
    """It is the caller's."""
    thread = PollingThread("looks")

    def look() -> None:
        raise ValueError("a look")

    try:
        with pytest.raises(ValueError, match="a look"):
            await thread.poll(look, 0.001)
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
