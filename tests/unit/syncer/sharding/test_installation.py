"""The Lease of an installation, as the API server, or what answers in its place, shows it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from syncer.kube.client import KubeClient
from syncer.model.errors import ConfigError, Conflict, Gone, Unavailable
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


async def test_a_lease_without_its_label_is_labelled() -> None:
    """It is followed by that; one that has it is not written."""
    label = {"notification-ledger/installation": "n"}
    shards = {"notification-ledger/shards": str(installation({}).sharding)}
    for labels, written in ((label, False), ({}, True), (None, True)):
        meta = {"uid": "u", "labels": labels, "annotations": shards}
        asked: list[str] = []

        async def request(
            method: str, *_: object, asked: list[str] = asked, meta: Any = meta, **__: object
        ) -> Any:
            asked.append(method)
            return {"metadata": meta if method == "GET" else {**meta, "labels": label}}

        client = cast("KubeClient", SimpleNamespace(request=request))
        made = Installation(client, "ns", "n", shards=4)
        assert await made.found() == "ns/n@u"
        assert asked == ["GET", "PATCH"] if written else ["GET"]


@pytest.mark.parametrize("text", [None, "4", "8-fnv1a", "4-xxh3"])
async def test_other_shards_are_refused(text: str | None) -> None:
    """Nobody guesses what an installation meant: a wrong guess has two replicas guard one notification."""
    meta: dict[str, Any] = {"uid": "u", "labels": {"notification-ledger/installation": "n"}}
    if text:
        meta["annotations"] = {"notification-ledger/shards": text}
    with pytest.raises(ConfigError, match=rf"says {text};.*notification-ledger/shards=4-fnv1a"):
        await installation({"metadata": meta}).found()


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
