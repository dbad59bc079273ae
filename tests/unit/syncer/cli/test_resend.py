"""Resending after an incident: each is found first, and read again when its turn comes."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from syncer.cli import resend
from syncer.cli.exits import Misused
from syncer.cli.installation import Store, StoreState
from syncer.cli.scan import PAGE
from syncer.cli.times import rate_of
from syncer.model.errors import Expired
from syncer.model.resource import NotificationRequest
from tests.unit.syncer.cli.samples import A1, PLAN, C, elements, entry, failed, opened, request
from tests.unit.syncer.cli.world import Objects, World, page


def test_a_rate() -> None:
    """A number a second or a minute."""
    assert [rate_of(text) for text in ("5", "0.5/s", "30/m")] == [5.0, 0.5, 0.5]
    for text in ("", "0/s", "fast", "5/h", "-1", "nan", "2000"):
        with pytest.raises(Misused, match="--rate must be a number a second"):
            rate_of(text)


def gave_up(uid: str) -> NotificationRequest:
    """One that failed for good."""
    shown = request(entry("failed"), phase="Failed", channels=[{"name": C, "state": "Failed"}])
    return replace(shown, uid=uid, name=f"n{uid}")


async def test_the_place_in_the_list_may_expire(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list goes on from its beginning; each is requested once, and only if it is still as it was."""
    a, b, sent, gone, anew = (gave_up(uid) for uid in "abcde")
    first, second = page(a, b, token="t"), page(sent, gone, anew)
    objects = Objects(first, Expired("410"), first, second)
    world = World(objects)
    now_sent = replace(sent, status=request(phase="Sent").status)
    objects.kept = {one.key: one for one in (a, b, now_sent, replace(anew, uid="other"))}
    for one in (a, b, sent, gone, replace(anew, uid="other")):
        world.put(one.uid, elements(PLAN, opened(A1), failed(A1)))

    @asynccontextmanager
    async def access(_where: object) -> AsyncIterator[World]:
        yield world

    async def trusted(*_: Any, **__: Any) -> Store:
        return Store(StoreState.OURS)

    monkeypatch.setattr(resend, "access", access)
    monkeypatch.setattr(resend, "trusted_store", trusted)
    options = argparse.Namespace(
        command="resend", object=None, receiver=None, failed=True, rate="1000/s", by="me", reason="",
        dry_run=False, since=None, json=True, config=None,
    )  # fmt: skip
    assert await resend.run(options) == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line.get("uid") for line in lines] == ["a", "b", None]
    assert lines[-1]["summary"] == {"requested": 2, "unread": 0, "dryRun": False}
    assert f"there is no object {gone.key}" in said.err
    assert [token for _, limit, token in objects.asked if limit == PAGE] == ["", "t", "", "t"]
