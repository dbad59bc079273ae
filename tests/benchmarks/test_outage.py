"""The benchmark of outages judges what it says: arithmetic, without servers."""

from __future__ import annotations

from dataclasses import replace

from tests.benchmarks.outage import FULL, KILLED, KINDS, QUICK, WHOLE, Result, told
from tests.benchmarks.throughput import Scale as Load


def verdicts(
    result: Result, kind: str = WHOLE, rates: tuple[float, float] | None = None
) -> dict[str, str]:
    """What the report says to each figure that has a goal."""
    return {f.name: f.verdict for f in told({kind: result}, rates, FULL).figures if f.goal}


GOOD = Result(late=[1.0, 14.9], journaled=100.0, requests=220)


def test_each_notification_is_held_against_the_bound() -> None:
    """One that is late is one too many; where shards need another owner, that time is granted."""
    late = "created in it, until delivered, less its own back-off"
    assert set(verdicts(GOOD).values()) == {"met"}
    slow = replace(GOOD, late=[1.0, 15.1])
    assert verdicts(slow)[f"{WHOLE}: {late}"] == "missed"
    assert verdicts(slow, KILLED)[f"{KILLED}: {late}"] == "met"
    assert verdicts(replace(slow, late=[37.1]), KILLED)[f"{KILLED}: {late}"] == "missed"


def test_what_is_lost_or_held_for_too_long_is_missed() -> None:
    """So is a record that disagrees, and a request too many for each attempt."""
    for bad, name in (
        (replace(GOOD, undelivered=1), "not delivered"),
        (replace(GOOD, violations=1), "what book and record do not agree on"),
        (replace(GOOD, unlogged=1), "attempts that a log was not given"),
        (replace(GOOD, held=[1.0, 5.1]), "held ones, after Redis was back"),
        (replace(GOOD, requests=230), "API requests per journaled attempt"),
    ):
        found = verdicts(bad)
        assert found[f"{WHOLE}: {name}"] == "missed"
        assert list(found.values()).count("missed") == 1
    ratio = "burst: journaled / Option A"
    assert verdicts(GOOD, rates=(80.0, 100.0))[ratio] == "met"
    assert verdicts(GOOD, rates=(79.0, 100.0))[ratio] == "missed"


def test_what_it_costs_while_redis_is_there() -> None:
    """Ratios are taken within each pair of runs; their median counts."""

    def ratio(*pairs: tuple[float, float]) -> tuple[float, str]:
        figure = told({}, None, FULL, pairs).find("Redis there: journal / hold")
        assert figure is not None
        return figure.median, figure.verdict

    assert ratio((2.0, 2.0), (3.0, 3.15), (2.0, 3.0)) == (1.05, "met")
    assert ratio((2.0, 2.0), (2.0, 2.2), (2.0, 3.0))[1] == "missed"


def test_the_full_run_is_that_of_the_promise() -> None:
    """A minute at twenty a second, every outage; the quick one is shorter."""
    assert (FULL.rate, FULL.outage, FULL.after, FULL.kinds) == (20.0, 60.0, 10.0, KINDS)
    assert QUICK.outage < FULL.outage
    assert FULL.prepared == Load(notifications=1000, rounds=6)
