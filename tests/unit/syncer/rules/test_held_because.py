"""What is said of an attempt that waits while others are journaled."""

from __future__ import annotations

import pytest

from syncer.model.conditions import LOG_UNAVAILABLE, Condition, find_condition
from syncer.model.resource import RetryPolicy, Status
from syncer.rules.fold import LogView
from syncer.rules.journal import INCOMPLETE, Basis, held_because
from syncer.rules.merge import Facts, merge

AWAY = "A delivery is due and is held, because the log cannot be reached or accepts no writes"


def test_each_reason_is_named() -> None:
    """Without a journal it waits for the log; with one, the reason tells why it is not journaled."""
    assert held_because(None) == ("DeliveryHeld", AWAY)
    assert {held_because(b) for b in Basis if b.complete} == {("DeliveryHeld", AWAY)}
    found = {held_because(b) for b in INCOMPLETE}
    assert {reason for reason, _ in found} == {
        "OutageNotRecorded", "RecordsNotRead",
    }  # fmt: skip
    assert all(text.startswith(f"{AWAY}, and it is not journaled: ") for _, text in found)
    assert set(INCOMPLETE) == {b for b in Basis if not b.complete}


@pytest.mark.parametrize(
    ("by", "reason"), [(None, "DeliveryHeld"), (Basis.OLDER, "RecordsNotRead")]
)
def test_the_condition_names_it(by: Basis | None, reason: str) -> None:
    """The object says why it is held, and stops saying so."""
    facts = Facts(3, RetryPolicy(), held=True, held_by=by)
    status = merge(Status(), LogView(), facts, now=5_500).status
    wanted = Condition(LOG_UNAVAILABLE, "True", reason, held_because(by)[1], 5_000, 3)
    assert find_condition(status.conditions, LOG_UNAVAILABLE) == wanted
    later = merge(status, LogView(), Facts(3, RetryPolicy()), now=6_000).status
    assert find_condition(later.conditions, LOG_UNAVAILABLE) is None
