"""The Lease of an installation, as the API server, or what answers in its place, shows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncer.kube.client import KubeClient
from syncer.model.errors import Conflict, Gone, Unavailable
from syncer.sharding.installation import Installation


def installation(answer: Any) -> Installation:
    """The installation of a server that answers everything with this."""

    async def request(*_: object, **__: object) -> Any:
        return answer

    client = cast("KubeClient", SimpleNamespace(request=request))
    return Installation(client, "ns", "n", shards=4)


async def test_it_is_named_by_its_lease() -> None:
    """Namespace, name and uid."""
    meta = {"uid": "u", "labels": {"notification-ledger/installation": "n"}}
    meta |= {"annotations": {"notification-ledger/shards": str(installation({}).sharding)}}
    assert await installation({"metadata": meta}).found() == "ns/n@u"


@pytest.mark.parametrize(
    "answer", [{}, {"metadata": None}, {"metadata": 7}, {"metadata": {"annotations": 7}}], ids=str
)
async def test_what_is_no_lease_is_waited_for(answer: Any) -> None:
    """The start tries again; any other error would end it."""
    with pytest.raises(Unavailable, match="what answers for the Lease n-map is none"):
        await installation(answer).found()


async def test_a_lease_that_lacks_something_is_completed() -> None:
    """Its number of shards, or the label by which it is followed; one that has both is not written."""
    label = {"notification-ledger/installation": "n"}
    shards = {"notification-ledger/shards": str(installation({}).sharding)}
    for labels, shown, written in (
        (label, shards, False), ({}, shards, True), (label, {}, True), (None, None, True),
    ):  # fmt: skip
        meta = {"uid": "u", "labels": labels, "annotations": shown}
        asked: list[str] = []

        async def request(
            method: str, *_: object, asked: list[str] = asked, meta: Any = meta, **__: object
        ) -> Any:
            asked.append(method)
            whole = {**meta, "labels": label, "annotations": shards}
            return {"metadata": meta if method == "GET" else whole}

        client = cast("KubeClient", SimpleNamespace(request=request))
        made = Installation(client, "ns", "n", shards=4)
        assert await made.found() == "ns/n@u"
        assert asked == ["GET", "PATCH"] if written else ["GET"]


async def test_a_lease_that_another_replica_has_just_made_is_read() -> None:
    """Both found none, and one was first."""
    label = {"notification-ledger/installation": "n"}
    shards = {"notification-ledger/shards": str(installation({}).sharding)}
    lease = {"metadata": {"uid": "u", "labels": label, "annotations": shards}}
    answers: list[Any] = [Gone("none"), Conflict("there is one"), lease]

    async def request(*_: object, **__: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = cast("KubeClient", SimpleNamespace(request=request))
    made = Installation(client, "ns", "n", shards=4)
    assert await made.found() == "ns/n@u"
    assert answers == []
