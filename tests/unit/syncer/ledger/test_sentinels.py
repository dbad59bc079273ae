"""Whom of several Sentinels the client believes."""

from __future__ import annotations

from itertools import repeat
from typing import Any, Final
from unittest.mock import AsyncMock, Mock

import pytest
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from syncer.ledger.sentinel import _Sentinels

GONE: Final = RedisConnectionError("gone")


Answer = dict[str, Any] | Exception


def named(port: int, epoch: int = 0, *, down: bool = False, service: str = "s") -> dict[str, Any]:
    """What a Sentinel says of a master."""
    state = {
        "ip": "h", "port": port, "config-epoch": epoch, "num-other-sentinels": 2,
        "is_master": True, "is_sdown": down, "is_odown": False,
    }  # fmt: skip
    return {service: state}


#: What each says in turn, and the port that is believed.
SAID: Final[dict[str, tuple[list[Answer], int]]] = {
    "all agree": ([named(1), named(1), named(1)], 1),
    "most agree": ([named(2), named(1), named(1)], 1),
    "the first decides between equals": ([named(2), named(1)], 2),
    "one knows of a later failover": ([named(1), named(1), named(2, 1)], 2),
    "two have seen no failover": ([named(2, 9), named(1, 8), named(1, 8)], 2),
    "one has another service, one is away": ([named(1, service="t"), GONE, named(2)], 2),
    "one is too slow": ([RedisTimeoutError("slow"), named(2)], 2),
    "one takes its own for dead": ([named(1, 9, down=True), named(2)], 2),
    "one refuses the password": ([AuthenticationError("no"), named(2)], 2),
}  # fmt: skip

#: What each says in turn, and the error.
SILENT: Final[dict[str, tuple[list[Answer], type[RedisError], str]]] = {
    "all are away": ([GONE, GONE], RedisConnectionError, "know no healthy master"),
    "it is dead": ([named(1, down=True)], RedisConnectionError, "know no healthy master"),
    "it is unknown": ([named(1, service="t")], RedisConnectionError, "know no healthy master"),
    "the password is wrong": ([GONE, AuthenticationError("no")], AuthenticationError, "no"),
}


def asked(answers: list[Answer]) -> Any:
    """Sentinels that answer so."""
    found: Any = _Sentinels([])  # type: ignore[no-untyped-call]  # vendor
    found.sentinels = [Mock(sentinel_masters=AsyncMock(side_effect=repeat(a))) for a in answers]
    return found


@pytest.mark.parametrize("case", SAID)
async def test_who_is_believed(case: str) -> None:
    """The latest failover, then the most, then the first."""
    answers, port = SAID[case]
    assert await asked(answers).discover_master("s") == ("h", port)


async def test_a_failover_is_remembered() -> None:
    """Who has not heard of it is not believed alone, but most are: Sentinels that were set up anew."""
    old, sentinels = named(1, 4), asked([])
    course: list[tuple[list[Answer], int | None]] = [
        ([old, old, old], 1), ([old, old, named(2, 5)], 2), ([old, GONE, GONE], None),
        ([old, old, GONE], 1), ([old, GONE, GONE], 1),
    ]  # fmt: skip
    for answers, port in course:
        sentinels.sentinels = asked(answers).sentinels
        if port is None:
            with pytest.raises(RedisConnectionError) as caught:
                await sentinels.discover_master("s")
            assert "since its last failover" in str(caught.value.__cause__)
        else:
            assert await sentinels.discover_master("s") == ("h", port)


@pytest.mark.parametrize("case", SILENT)
async def test_nobody_names_one(case: str) -> None:
    """A refused password is not taken for a Sentinel that is away."""
    answers, kind, text = SILENT[case]
    with pytest.raises(kind) as caught:
        await asked(answers).discover_master("s")
    assert text in f"{caught.value} {caught.value.__cause__}"
