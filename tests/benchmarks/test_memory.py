"""
The sizing formula holds for what it was not fitted to, and the page states its numbers.

The shapes here are others than those of the suite, and small numbers are enough: what Redis uses is
counted exactly, and the private memory of a replica varies by a percent from run to run. A machine that
is busy with other things adds to it what the process had in flight and has not given back, by chance; so
where a figure is off, what may have been too much is taken again, and the least of each is what is held.
That is why it need not run alone: it measures no time, and what others do can only add a take.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.benchmarks.memory import (
    Crowd,
    Held,
    after_start,
    attempts_of,
    books,
    channels_of,
    logs_for,
)
from tests.benchmarks.sizing import (
    FINISHED,
    REPLICA_BASE,
    Shape,
    attempt_bytes,
    examples,
    live_bytes,
    log_bytes,
    log_formula,
    replica_bytes,
    replica_formula,
)
from tests.servers.controlplane import ControlPlane

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "scale.md"
VALUES: Final = ROOT / "charts" / "notification-ledger" / "values.yaml"
#: How far the formula may be off.
WITHIN: Final = 0.15
#: How often a replica is measured before it is called wrong. One measurement in three is off by chance.
_TAKES: Final = 6

OTHERS: Final = {
    "one short attempt": Shape(name=20, channel=12, route=60, replica=24),
    "a failure and a success": Shape(2, 1, error=100),
    "seven attempts, long errors": Shape(7, 6, error=700),
    "thirteen that all failed": Shape(13, 13, error=90, name=63, channel=30),
    "four channels, two attempts each": Shape(8, 4, channels=4, error=150),
    "thirty-three attempts": Shape(33, 32, error=300, channel=24),
}


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_logs_take_what_the_formula_says(redis_url: str) -> None:
    """Each of some logs of a shape takes that much of what the server says it uses."""
    async with books(redis_url) as here:
        await here.write(Shape(), 200)
        found = {
            words: await here.per_log(shape, logs_for(shape, 400_000)) / log_bytes(shape)
            for words, shape in OTHERS.items()
        }
    assert found == pytest.approx(dict.fromkeys(OTHERS, 1), abs=WITHIN)


@pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True)
async def test_valkey_takes_no_more(redis_url: str) -> None:
    """The other server keeps the same text, and needs less around it."""
    shape = OTHERS["seven attempts, long errors"]
    async with books(redis_url) as here:
        await here.write(Shape(), 200)
        found = await here.per_log(shape, logs_for(shape, 400_000))
    assert 0.7 < found / log_bytes(shape) <= 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
async def test_a_replica_takes_what_the_formula_says(
    control_plane: ControlPlane, redis_url: str, tmp_path: Path
) -> None:
    """By itself, for each unfinished notification, and for each finished one."""
    shape = Shape(4, 4, error=120, spec=1_100, route=200)
    # So many that a few connections more, a third of a MiB each, decide nothing.
    few, more = Crowd(500, shape), Crowd(2_000, shape)
    # Tables grow by doubling: beyond 21,845 each would be half empty, and a notification take a tenth more.
    some, many = (Crowd(n, Shape(), finished=True) for n in (1_000, 20_000))

    cases = {"first": (few, some), "unfinished": (more, some), "finished": (few, many)}
    least: dict[str, Held] = {}
    found: dict[str, float] = {}
    again = set(cases)
    for take in range(_TAKES):
        for case in sorted(again):
            folder = tmp_path / f"{case}-{take}"
            taken = await after_start(control_plane, redis_url, folder, cases[case])
            before = least.get(case, taken)
            least[case] = Held(
                min(before.resident, taken.resident), min(before.private, taken.private)
            )
        first = least["first"]
        live = least["unfinished"].private - first.private
        finished = least["finished"].private - first.private
        found = {
            "first": first.resident / replica_bytes(few.n, some.n, shape),
            "unfinished": live / (more.n - few.n) / live_bytes(shape),
            "finished": finished / (many.n - some.n) / FINISHED,
        }
        # A difference is too small if the first had too much.
        again = {case for case, share in found.items() if share > 1 + WITHIN}
        again |= {"first" for share in found.values() if share < 1 - WITHIN}
        if not again:
            break
    assert found == pytest.approx(dict.fromkeys(found, 1), abs=WITHIN)


def test_attempts_are_as_the_shape_says() -> None:
    """Numbers, lengths and the one success that a channel may have."""
    shape = Shape(5, 3, channels=2, error=33, channel=18)
    channels = channels_of(shape)
    assert [len(c) for c in channels] == [18, 18]
    assert len(set(channels)) == 2
    made = attempts_of(shape, channels, iter(range(1, 9)), end=1_767_225_600_000)
    assert [len(a.error) for a in made] == [33, 33, 33, 0, 0]
    assert [a.channel for a in made] == [*channels, *channels, channels[0]]


def test_one_more_failure_adds_what_an_attempt_takes() -> None:
    """The formula is linear, and the log keeps no more than 1,024 bytes of an error."""
    assert log_bytes(Shape(6, 6)) - log_bytes(Shape(5, 5)) == pytest.approx(attempt_bytes(Shape()))
    assert attempt_bytes(Shape()) <= 450
    assert log_bytes(Shape(1, 1, error=5000)) == log_bytes(Shape(1, 1, error=1024))


def test_the_page_states_the_formula() -> None:
    """Formulas and examples of docs/scale.md are those of the code."""
    page = PAGE.read_text()
    for stated in (log_formula(), replica_formula()):
        assert "\n".join("    " + line for line in stated.splitlines()) in page
    assert examples() in page
    usual = Shape()
    names = f"{usual.name}, {usual.channel}, {usual.replica}"
    for taken in (usual.error, usual.route, names, usual.spec):
        assert f" | {taken} |\n" in page
    assert f"of {usual.error} bytes adds {attempt_bytes(usual):.0f} bytes" in page


def test_the_page_states_what_the_charts_defaults_hold() -> None:
    """Logs in the chart's own Redis, and notifications in a replica, by the chart's limits."""
    values: dict[str, Any] = yaml.safe_load(VALUES.read_text())
    redis = int(values["redis"]["embedded"]["maxmemory"].removesuffix("mb")) * 2**20
    replica = int(values["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    # A fifth of the limit is left for what a burst needs.
    budget = 0.8 * replica - REPLICA_BASE
    page = " ".join(PAGE.read_text().split())
    for number in (redis / log_bytes(Shape()), budget / live_bytes(Shape(1, 1)), budget / FINISHED):
        assert f"{round(number, -4):,.0f}" in page
