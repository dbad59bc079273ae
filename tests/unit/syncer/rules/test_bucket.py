"""A rate with a burst: what may be taken at once, what comes back, what has to be waited for."""

from __future__ import annotations

import pytest

from syncer.rules.bucket import TokenBucket


def test_tokens_come_back_with_time() -> None:
    """A burst at once, then one in each share of a second, and never more than a burst."""
    bucket = TokenBucket(2, 2, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(t) for t in (0.25, 0.5, 0.75)] == [False, True, False]
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
    bucket.give_back()
    assert [bucket.take(100.0) for _ in range(2)] == [True, False]
    # A clock that steps back gives nothing, and takes nothing away.
    assert [bucket.take(t) for t in (50.0, 100.25, 100.5)] == [False, False, True]
    for _ in range(3):
        bucket.give_back()
    assert [bucket.take(100.5) for _ in range(3)] == [True, True, False]


def test_a_token_of_the_future_has_its_wait() -> None:
    """Who reserves waits for those before; who asks for the wait takes nothing."""
    bucket = TokenBucket(10.0, 2, now=0.0)
    assert [bucket.reserve(0.0), bucket.wait(0.0), bucket.reserve(0.0)] == [0.0, 0.0, 0.0]
    assert [bucket.wait(0.0), bucket.reserve(0.0)] == [pytest.approx(0.1)] * 2
    assert bucket.reserve(0.2) == 0.0
    assert bucket.reserve(-5.0) == pytest.approx(0.1)
    assert bucket.reserve(0.2) == pytest.approx(0.2)
    assert [bucket.reserve(100.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(0.1)]


def test_who_has_waited_as_told_finds_a_token() -> None:
    """Also by a clock of large steps; else it would be asked again at once, for ever."""
    now = 987_654.321
    bucket = TokenBucket(1.7, 1, now)
    for _ in range(200):
        if wait := bucket.wait(now):
            now += wait
        assert bucket.take(now)
