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


@pytest.mark.parametrize(
    "answer", [{}, {"metadata": None}, {"metadata": 7}, {"metadata": {"annotations": 7}}], ids=str
)
async def test_what_is_no_lease_is_waited_for(answer: Any) -> None:
    """The start tries again; any other error would end it."""
    made, _ = installation(answer)
    with pytest.raises(Unavailable, match="a lease cannot be read"):
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


@pytest.mark.parametrize("text", [None, "4", "8-fnv1a", "4-xxh3"])
async def test_other_shards_are_refused(text: str | None) -> None:
    """Nobody guesses what an installation meant: a wrong guess has two replicas guard one notification."""
    made, _ = installation(lease(shards=text))
    with pytest.raises(ConfigError, match=rf"says {text};.*notification-ledger/shards=4-fnv1a"):
        await made.found()
