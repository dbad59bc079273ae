"""What is said of an outage of Redis: its beginning and its end, once each."""

from __future__ import annotations

from syncer.ledger.outage import NOTICE, Outage


def test_an_outage_is_said_once_and_its_end_with_its_length() -> None:
    """Whatever the cause turns into meanwhile."""
    outage = Outage()
    assert outage.observe(None, 0.0) is None
    assert outage.observe("gone", 10.0) is None
    assert outage.observe("gone", 10.0 + NOTICE) == NOTICE
    assert outage.observe("another reason", 15.0) is None
    assert outage.observe(None, 18.0) == 8.0
    assert outage.observe(None, 19.0) is None


def test_what_is_over_within_a_second_is_not_said() -> None:
    """A connection that is made anew is no outage, however often that happens."""
    outage = Outage()
    for begin in range(0, 20, 2):
        assert outage.observe("gone", float(begin)) is None
        assert outage.observe(None, begin + NOTICE / 2) is None


def test_how_long_an_outage_lasts() -> None:
    """From the first observation of it to the first without it, whether it is said or not."""
    outage, lasts = Outage(), list[bool]()
    for reason, now in ((None, 0.0), ("gone", 1.0), ("gone", 9.0), (None, 10.0), ("gone", 10.5)):
        outage.observe(reason, now)
        lasts.append(outage.lasts)
    assert lasts == [False, True, True, False, True]
