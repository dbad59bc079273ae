"""The switch that holds all deliveries back, and the queue of wake-ups."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from unittest.mock import AsyncMock, Mock, call

import pytest

from notifier.process import pause
from notifier.process.pause import PauseSwitch
from syncer.ledger.subscriber import WakeUps
from tests.beside import beside


def write(path: Path, text: str) -> None:
    """Replace a file, as a volume does."""
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def paused(value: object) -> str:
    """A settings file."""
    return json.dumps({"delivery": {"paused": value}})


def test_switch_follows_the_file(tmp_path: Path) -> None:
    """The position in each new version of it, once; a file that says nothing of it means false."""
    path, told = tmp_path / "config.yaml", list[bool | None]()
    switch = PauseSwitch(path, told.append)
    for text in (paused(False), paused(True), paused(True) + " ", "{}"):
        write(path, text)
        told += [switch.look(), switch.look()]
    assert told == [False, None, True, None, True, None, False, None]


@pytest.mark.parametrize(
    "text", ["{", paused("yes"), paused(1), "[]", '{"delivery": {"paused": "false"}}']
)
def test_switch_stays_where_it_is(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be understood changes nothing, and is said once."""
    path = tmp_path / "config.yaml"
    switch = PauseSwitch(path, lambda _: None)
    write(path, text)
    assert [switch.look() for _ in range(3)] == [None] * 3
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("the switch delivery.paused stays as it is: ")


def test_switch_survives_a_missing_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that goes leaves the switch alone, and is missed once; one that comes back is read."""
    path = tmp_path / "config.yaml"
    switch = PauseSwitch(path, lambda _: None)
    said = "the switch delivery.paused stays as it is: the settings file cannot be read"
    for times in (1, 2):
        assert switch.look() is None
        assert switch.look() is None
        assert [r.getMessage() for r in caplog.records] == [
            f"{said} (No such file or directory)"
        ] * times
        write(path, paused(times == 1))
        assert switch.look() is (times == 1)
        path.unlink()


async def test_switch_is_looked_at_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a flood is stopped at once, and the disk is not worn out; the thread ends with the loop."""
    thread = Mock()
    thread.return_value.poll = AsyncMock(side_effect=[None, None, asyncio.CancelledError])
    monkeypatch.setattr(pause, "PollingThread", thread)
    switch = PauseSwitch(tmp_path / "config.yaml", lambda _: None)
    with pytest.raises(asyncio.CancelledError):
        await switch.run()
    looked = [call().poll(switch.look, 1.0)] * 3
    assert thread.mock_calls == [call("pause-switch"), *looked, call().close()]


async def test_switch_is_looked_at_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop takes a change up by itself."""
    monkeypatch.setattr(pause, "_LOOK", 0.01)
    path, told = tmp_path / "config.yaml", asyncio.Event()
    write(path, paused(False))
    switch = PauseSwitch(path, lambda to: told.set() if to else None)
    async with beside(switch.run()):
        await asyncio.sleep(0.05)
        assert not told.is_set()
        write(path, paused(True))
        async with asyncio.timeout(20):
            await told.wait()


async def test_pokes_wait_once_and_within_a_bound() -> None:
    """A uid waits once, in order; what does not fit is dropped."""
    wake_ups = WakeUps(limit=2)
    for uid in ("a", "b", "a", "c"):
        wake_ups.add(uid)
    assert (await wake_ups.get(), await wake_ups.get()) == ("a", "b")
    waiting = asyncio.create_task(wake_ups.get())
    await asyncio.sleep(0)
    wake_ups.add("d")
    async with asyncio.timeout(20):
        assert await waiting == "d"
