"""Spans of time on the command line."""

from __future__ import annotations

import time
from typing import Final

import pytest

from syncer.cli.times import end_of, moment_of, now_here, seconds_of
from syncer.model.errors import ConfigError
from tests.unit.syncer.cli.samples import NOW


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3d", 259_200.0), ("1d12h", 129_600.0), ("72h", 259_200.0), ("0d", 0.0), ("0", 0.0)],
)
def test_spans_of_time_may_be_days(text: str, seconds: float) -> None:
    """Ages are shown in days, so they may be given in days."""
    assert seconds_of(text, "--older-than") == seconds


@pytest.mark.parametrize("text", ["d", "-3d", "3dd", "3 days", "99999d", "", "90", "1d2", "1.2.3"])
def test_other_spans_are_refused_with_an_example(text: str) -> None:
    """What is no span of time is refused by the option's name."""
    with pytest.raises(ConfigError, match=r"--older-than: .*(3d|h$)"):
        seconds_of(text, "--older-than")


A_TIME: Final = "a time such as 2026-01-31T08:00:00Z"
A_SPAN: Final = "a duration such as 500ms, 10s or 1m30s, or 3d"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-13-01T00:00:00Z", A_TIME), ("2026-01-31T", A_TIME), ("T", A_TIME),
        ("soon", f"{A_SPAN}, or {A_TIME}"), ("", f"{A_SPAN}, or {A_TIME}"),
    ],
)  # fmt: skip
def test_a_time_that_is_none_is_refused(text: str, wanted: str) -> None:
    """What has a T was not meant as a span, so no span is asked for."""
    with pytest.raises(ConfigError) as caught:
        moment_of(text, "--since", 0)
    assert str(caught.value) == f"--since: must be {wanted}"


@pytest.mark.parametrize(("text", "hours"), [("2h", 2), ("1d1h", 25), ("2027-01-15T10:00:00Z", 2)])
def test_an_end(text: str, hours: int) -> None:
    """So long from now, or a time."""
    assert end_of(text, "--until", NOW) == NOW + hours * 3_600_000


def test_without_redis_this_machine_says_what_time_it_is() -> None:
    """In its milliseconds."""
    before = time.time()
    assert before - 1 <= now_here() / 1000 <= time.time() + 1
