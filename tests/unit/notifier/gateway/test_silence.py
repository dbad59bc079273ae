"""When a silence is told: what a replica decides from what it knows."""

from __future__ import annotations

from typing import Any, Final

import pytest

from notifier.gateway.settings import of_document
from notifier.gateway.silence import View, grace, notice
from notifier.gateway.translation import Source

EVERY: Final = 600.0
#: What is decided at second 10,000, by what a replica knows: whether the Lease has yet to say that it was
#: heard, and whether it is silent.
DECISIONS: Final[dict[str, tuple[View, bool, bool]]] = {
    "it listens for less than the interval": (View(EVERY, listening=9500), False, False),
    "it was heard within the interval": (
        View(EVERY, listening=0, sent=9500, changed=9500), False, False,
    ),
    "another replica heard it": (View(EVERY, listening=0, sent=5000, changed=9500), False, False),
    "the interval is over, the grace is not": (
        View(EVERY, listening=0, sent=9345, changed=9345), False, False,
    ),
    "nobody heard it": (View(EVERY, listening=0, sent=9340, changed=9340), False, True),
    "it never was heard": (View(EVERY, listening=9340), False, True),
    "it is heard, and the Lease does not say so": (
        View(EVERY, listening=0, sent=9999), True, False,
    ),
    "the Lease is new enough": (View(EVERY, listening=0, sent=9999, changed=9970), False, False),
    "the Lease is old": (View(EVERY, listening=0, sent=9999, changed=9969), True, False),
    "what was heard before the silence is no return": (
        View(EVERY, listening=0, sent=5001, changed=5000), False, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DECISIONS)
def test_what_is_done(case: str) -> None:
    """Only silence of the whole interval is one, and only what the Lease does not say is written to it."""
    view, unrecorded, overdue = DECISIONS[case]
    assert (view.unrecorded(), view.overdue(10_000.0)) == (unrecorded, overdue)


def test_the_grace_is_a_tenth_within_bounds() -> None:
    """A short interval has five seconds more, a long one a minute."""
    assert [grace(every) for every in (30, 300, 86_400)] == [5, 30, 60]


def test_silence_is_counted_from_the_last_sign_of_life() -> None:
    """Whoever has seen it; never less than nothing."""
    view = View(EVERY, listening=100, sent=50, changed=120)
    assert [view.unheard(now) for now in (110, 120, 121.5)] == [0, 0, 1.5]
    heard = View(EVERY, listening=0, sent=100)
    assert View(EVERY, listening=100).unheard(103) == heard.unheard(103) == 3


def source(**more: Any) -> Source:
    """A source that is expected to send."""
    entry = {
        "name": "am", "kind": "alertmanager", "namespace": "alerts", "auth": {"insecure": True},
        "expectEvery": "10m", **more,
    }  # fmt: skip
    return of_document({"sources": [entry]}).sources["am"][0]


LAST: Final = "2026-11-27T04:00:00Z"


def test_a_silence_is_told_to_people() -> None:
    """It wakes somebody, says since when, and is one object for all replicas that decide it."""
    told = notice(source(), "silent", LAST)
    spec = told.manifest["spec"]
    assert (spec["type"], spec["priority"], spec["severity"]) == (
        "Escalation", "Critical", "critical",
    )  # fmt: skip
    assert spec["subject"] == "[SILENT] am has stopped sending"
    assert f"at least every 10 min. Nothing has come since {LAST}." in spec["body"]
    assert spec["extensions"] == {
        "source": "am", "status": "silent",
        "notification-ledger/incident": "gw/am/silence", "notification-ledger/state": "firing",
    }  # fmt: skip
    assert "retryPolicy" not in spec
    assert told.identity.name == f"st-{told.identity.digest[:32]}"
    assert (told.namespace, told.repeat) == ("alerts", False)
    assert notice(source(), "silent", LAST) == told
    assert notice(source(), "silent", "2026-11-27T05:00:00Z").identity != told.identity
    several = source(namespace="{{ a }}", namespaces=["a", "b"])
    assert notice(several, "silent", LAST).namespace == "a"
    often = source(expectEvery="90s")
    assert "every 90 s." in notice(often, "silent", LAST).manifest["spec"]["body"]


def test_a_return_is_told_to_who_was_woken() -> None:
    """It goes where the silence went, wakes nobody, and keeps the source's retry policy."""
    given = source(retryPolicy={"maxAttempts": 3})
    told, silent = notice(given, "heard", LAST), notice(given, "silent", LAST)
    spec = told.manifest["spec"]
    assert (spec["type"], spec["priority"]) == ("Completion", "Low")
    assert (told.incident, silent.incident) == (
        ("gw/am/silence", "resolved"), ("gw/am/silence", "firing"),
    )  # fmt: skip
    assert spec["severity"] == silent.manifest["spec"]["severity"]
    assert spec["retryPolicy"] == silent.manifest["spec"]["retryPolicy"] == {"maxAttempts": 3}
    assert told.identity.name == f"hd-{told.identity.digest[:32]}"
    assert (told.namespace, told.repeat) == (silent.namespace, False)
    assert LAST in spec["body"]
