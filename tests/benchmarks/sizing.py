"""
How much memory it takes: Redis for the logs, a replica for what it holds.

Two formulas, linear in what a user knows: attempts, channels, lengths of texts. They are fitted to
what `memory` measures, on Redis 7.0 with jemalloc and on Python 3.11, and which holds them to it, to 15 %.
docs/scale.md states the same numbers, which a test compares.

A log is text: what the scripts keep of names, ids, times and errors. The allocator rounds each block up
by 0 to 25 %, a tenth on the average; that is why the formula cannot be exact for one log, and fits many.
A replica holds of an unfinished notification its object as JSON, the parsed status and the fold of the
log. A text that notifications share, of an error or a route, is there only as often as in the JSON.
Of a finished one it holds a stub, whatever its object.
One that takes a notification over when it starts needs a tenth less than one that has worked on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from syncer.model.record import LOG_ERROR_BYTES

#: Redis, per log: key, its expiry and the list itself; text of header and plan,
#: the route and names left out.
LOG_FIXED: Final = 250
LOG_TEXT: Final = 155
#: Text of each attempt, its names left out; of each that failed, beside its error.
ATTEMPT_TEXT: Final = 140
FAILURE_TEXT: Final = 38
#: What the allocator adds to text.
ROUNDED: Final = 1.1

#: A replica that has worked, in bytes: resident, half of it files that others share.
REPLICA_BASE: Final = 82_000_000
#: Of each unfinished notification beside its spec; for each byte of the spec, which the allocator cannot
#: place without gaps; of each of its attempts; for each byte of the route and of an error, as fitted; of
#: each finished notification.
LIVE: Final = 6_000
LIVE_SPEC: Final = 1.9
LIVE_ATTEMPT: Final = 850
LIVE_ROUTE: Final = 1.1
LIVE_ERROR: Final = 0.6
FINISHED: Final = 680


@dataclass(frozen=True, slots=True)
class Shape:
    """
    What a notification looks like; lengths in bytes.

    Attributes:
        attempts: Of all channels together.
        failed: How many of them failed.
        channels: That it goes to.
        error: Length of an error text. The log keeps 1,024 of it, a status 512 at most.
        name: Length of `namespace/name`.
        channel: Length of a channel's name, for example of `slack:ops`.
        route: Length of the message of the condition RoutingResolved, which names the rules.
        replica: Length of a replica's identity: pod name, underscore, port.
        spec: Length of the spec as JSON.
    """

    attempts: int = 1
    failed: int = 0
    channels: int = 1
    error: int = 60
    name: int = 40
    channel: int = 16
    route: int = 120
    replica: int = 48
    spec: int = 500


def log_bytes(shape: Shape) -> float:
    """Memory of one log in Redis, in bytes."""
    error = min(shape.error, LOG_ERROR_BYTES)
    attempts = shape.attempts * (ATTEMPT_TEXT + 2 * shape.channel + shape.replica)
    failures = shape.failed * (FAILURE_TEXT + error)
    plan = LOG_TEXT + shape.route + shape.name + shape.channels * shape.channel
    return LOG_FIXED + ROUNDED * (plan + attempts + failures)


def attempt_bytes(shape: Shape) -> float:
    """What one more attempt that fails adds to a log in Redis, in bytes."""
    error = min(shape.error, LOG_ERROR_BYTES)
    return ROUNDED * (ATTEMPT_TEXT + 2 * shape.channel + shape.replica + FAILURE_TEXT + error)


def live_bytes(shape: Shape) -> float:
    """What a replica holds of one unfinished notification, in bytes."""
    texts = LIVE_ROUTE * shape.route + LIVE_ERROR * shape.failed * shape.error
    return LIVE + LIVE_SPEC * shape.spec + shape.attempts * LIVE_ATTEMPT + texts


def replica_bytes(live: int, finished: int, shape: Shape) -> float:
    """
    Resident memory of a replica, in bytes.

    Args:
        live: Unfinished notifications that it sees.
        finished: Finished ones whose objects still exist.
        shape: What an unfinished one looks like.
    """
    return REPLICA_BASE + live * live_bytes(shape) + finished * FINISHED


# -- as docs/scale.md states it ---------------------------------------------------------------------

#: What the page shows: words, and the shape.
EXAMPLES: Final = {
    "one channel, delivered at the first attempt": Shape(),
    "one channel, two failures before": Shape(3, 2),
    "three channels, delivered at the first attempt": Shape(3, 0, channels=3),
    "one channel, ten attempts, all failed": Shape(10, 10),
}


def log_formula() -> str:
    """The formula of a log, in words."""
    return (
        f"{LOG_FIXED} + {ROUNDED:g} * ({LOG_TEXT} + route + name + channels * channel\n"
        f"             + attempts * ({ATTEMPT_TEXT} + 2 * channel + replica)\n"
        f"             + failed * ({FAILURE_TEXT} + error))"
    )


def replica_formula() -> str:
    """The formula of a replica, in words."""
    return (
        f"{REPLICA_BASE:,} + finished * {FINISHED:,}\n"
        f"  + unfinished * ({LIVE:,} + {LIVE_SPEC:g} * spec + attempts * {LIVE_ATTEMPT:,}\n"
        f"                  + {LIVE_ROUTE:g} * route + {LIVE_ERROR:g} * failed * error)"
    )


def examples() -> str:
    """A Markdown table of examples: bytes in Redis, and of a replica while unfinished."""
    lines = [
        "| notification | a log in Redis | logs in 1 GiB | unfinished, in a replica |",
        "|---|---|---|---|",
    ]
    for words, shape in EXAMPLES.items():
        cells = (
            words, _kilo(log_bytes(shape)), _thousands(2**30 / log_bytes(shape)),
            _kilo(live_bytes(shape)),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _kilo(size: float) -> str:
    return f"{size / 1000:.1f} kB"


def _thousands(count: float) -> str:
    return f"{round(count, -3):,.0f}"
