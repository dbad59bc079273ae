"""The Lease of an installation, as the API server, or what answers in its place, shows it."""

from __future__ import annotations

from typing import Any, Final
from unittest.mock import AsyncMock, Mock

import pytest

from syncer.kube.leases import Leases
from syncer.model.errors import ConfigError, Conflict, Gone, Unavailable
from syncer.sharding.installation import Installation
from syncer.sharding.view import LABEL, SHARDS


def lease(*, shards: str | None = "4-fnv1a") -> dict[str, Any]:
    """The Lease as it is stored."""
    annotations = {SHARDS: shards} if shards else {}
    meta = {"name": "n-map", "uid": "u", "resourceVersion": "1", "annotations": annotations}
    return {"metadata": meta}


def installation(*answers: Any) -> tuple[Installation, AsyncMock]:
    """The installation of a server that answers so in turn; and what it is asked by."""
    request = AsyncMock(side_effect=answers)
    leases = Leases(Mock(request=request), "ns", (LABEL, "n"))
    return Installation(leases, "ns", "n", shards=4), request


_NO_LEASE: Final = (Unavailable, "a lease cannot be read")
#: What the server answers, and what comes of it.
REFUSED: Final[dict[str, tuple[dict[str, Any], tuple[type[Exception], str]]]] = {
    # The start tries again; any other error would end it.
    "nothing": ({}, _NO_LEASE),
    "no metadata": ({"metadata": None}, _NO_LEASE),
    "metadata that are a number": ({"metadata": 7}, _NO_LEASE),
    "annotations that are a number": ({"metadata": {"annotations": 7}}, _NO_LEASE),
    # Nobody guesses what an installation meant: a wrong guess has two replicas guard one notification.
    **{
        f"shards {text}": (
            lease(shards=text),
            (ConfigError, rf"says {text};.*notification-ledger/shards=4-fnv1a"),
        )
        for text in (None, "4", "8-fnv1a", "4-xxh3")
    },
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_says_something_else_is_refused(case: str) -> None:
    """What is no Lease is waited for; one of other shards ends the start."""
    answer, (error, says) = REFUSED[case]
    made, _ = installation(answer)
    with pytest.raises(error, match=says):
        await made.found()


#: What the server answers in turn, and what it is asked.
FOUND: Final[dict[str, tuple[list[Any], list[str]]]] = {
    "it is there": ([lease()], ["GET"]),
    "another replica was first to make it": (
        [Gone("none"), Conflict("there is one"), lease()], ["GET", "POST", "GET"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
async def test_it_is_named_by_its_lease(case: str) -> None:
    """Namespace, name and uid; it is not written where it is there."""
    answers, calls = FOUND[case]
    made, request = installation(*answers)
    assert await made.found() == "ns/n@u"
    assert [call.args[0] for call in request.await_args_list] == calls
