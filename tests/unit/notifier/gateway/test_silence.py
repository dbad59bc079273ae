"""When a silence is told: what a replica decides from what it knows."""

from __future__ import annotations

from typing import Any, Final

import pytest

from notifier.gateway.settings import of_document
from notifier.gateway.silence import Step, View, grace, recovery_notice, silence_notice
from notifier.gateway.translation import Source

EVERY: Final = 600.0
#: What is decided at second 10,000, by what a replica knows.
DECISIONS: Final[dict[str, tuple[View, Step]]] = {
    "it listens for less than the interval": (View(listening=9500), Step.WAIT),
    "it was heard within the interval": (
        View(listening=0, sent=9500, changed=9500), Step.WAIT,
    ),
    "another replica heard it": (View(listening=0, sent=5000, changed=9500), Step.WAIT),
    "the interval is over, the grace is not": (View(listening=0, sent=9345, changed=9345), Step.WAIT),
    "nobody heard it": (View(listening=0, sent=9340, changed=9340), Step.REPORT),
    "it never was heard": (View(listening=9340), Step.REPORT),
    "its silence has been told": (View(listening=0, changed=5000, silent="st-1"), Step.WAIT),
    "it is heard, and the Lease does not say so": (View(listening=0, sent=9999), Step.RECORD),
    "the Lease is new enough": (View(listening=0, sent=9999, changed=9970), Step.WAIT),
    "the Lease is old": (View(listening=0, sent=9999, changed=9969), Step.RECORD),
    "it is back": (View(listening=0, sent=9999, changed=5000, silent="st-1"), Step.REPORT_BACK),
    "it is back after a restart": (View(listening=9990, sent=9999, silent="st-1"), Step.REPORT_BACK),
    "what was heard before the silence is no return": (
        View(listening=0, sent=5001, changed=5000, silent="st-1"), Step.WAIT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DECISIONS)
def test_what_is_done(case: str) -> None:
    """Only silence of the whole interval is told, once, and so is the return."""
    view, step = DECISIONS[case]
    assert view.step(EVERY, 10_000.0) is step


def test_the_grace_is_a_tenth_within_bounds() -> None:
    """A short interval has five seconds more, a long one a minute."""
    assert [grace(every) for every in (30, 300, 86_400)] == [5, 30, 60]


def test_silence_is_counted_from_the_last_sign_of_life() -> None:
    """Whoever has seen it; never less than nothing."""
    view = View(listening=100, sent=50, changed=120)
    assert [view.unheard(now) for now in (110, 120, 121.5)] == [0, 0, 1.5]
    assert View(listening=100).unheard(103) == View(listening=0, sent=100).unheard(103) == 3


def source(**more: Any) -> Source:
    """A source that is expected to send."""
    entry = {
        "name": "am", "kind": "alertmanager", "namespace": "alerts", "auth": {"insecure": True},
        **more,
    }  # fmt: skip
    return of_document({"sources": [entry]}).sources["am"][0]


LAST: Final = "2026-11-27T04:00:00Z"


def test_a_silence_is_told_to_people() -> None:
    """It wakes somebody, says since when, and is one object for all replicas that decide it."""
    told = silence_notice(source(), LAST, EVERY)
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
    assert silence_notice(source(), LAST, EVERY) == told
    assert silence_notice(source(), "2026-11-27T05:00:00Z", EVERY).identity != told.identity
    several = source(namespace="{{ a }}", namespaces=["a", "b"])
    assert silence_notice(several, LAST, EVERY).namespace == "a"
    assert "every 90 s." in silence_notice(source(), LAST, 90.0).manifest["spec"]["body"]


def test_a_return_is_told_to_who_was_woken() -> None:
    """It goes where the silence went, wakes nobody, and keeps the source's retry policy."""
    given = source(retryPolicy={"maxAttempts": 3})
    told, silent = recovery_notice(given, LAST), silence_notice(given, LAST, EVERY)
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
