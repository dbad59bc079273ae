"""
All goals in one list, and what the measurements say to each.

A goal names the suite and the figures that it is about; where several figures match, the worst of
them counts. A verdict is `met` or `missed` if the figure was measured at the size that the goal asks
for. The quick run says `needs the full run` where it measures less, and shows what it has, if
anything, without judging it. A suite that was not run, or did not come to its end, is
`not measured`, with that as its reason: no goal is ever left out of the table.

Suites take the limits from here, so a row in their tables is judged as the goal is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.report import Figure, Goal, Report, short

# -- limits ---------------------------------------------------------------------------------------

#: The replaced controller under the load of `throughput` (one Slack receiver, 200 after 5 ms, all
#: created at once; on two cores of the same kind, in another hour), measured with Events, which it
#: always writes: notifications per second, of which its better run counts; API requests; CPU in ms.
UPSTREAM_RATE: Final = 35.0
UPSTREAM_RATE_LOW: Final = 32.0
UPSTREAM_REQUESTS: Final = 12.0
UPSTREAM_CONTROLLER_CPU: Final = 7.0
UPSTREAM_SERVER_CPU: Final = 30.0
UPSTREAM_CPU: Final = UPSTREAM_CONTROLLER_CPU + UPSTREAM_SERVER_CPU

#: Recorded attempts per second, as a multiple of A's, where at least five writers share an object.
FASTER: Final = Goal(10, least=True)
NONE_LOST: Final = Goal(0, every=True)
#: Status writes per attempt at twenty unpaced attempts per object; of a single attempt.
FEW_WRITES: Final = Goal(0.1)
ONE_WRITE: Final = Goal(1.2)
#: Notifications per second, as a multiple of the reference's, the null controller's and upstream's. Whoever
#: writes a whole status and costs nothing himself gets 0.82 to 0.86 of the null controller, which does not.
NEAR_REFERENCE: Final = Goal(0.85, least=True)
NEAR_THE_LIMIT: Final = Goal(0.68, least=True)
PAST_UPSTREAM: Final = Goal(8, least=True)
#: The same with Events on, as a share of that with Events off.
WITH_EVENTS: Final = Goal(0.9, least=True)
#: CPU of one notification: the controller's in ms, and all, as a share of upstream's.
CONTROLLER_CPU: Final = Goal(1.5)
ALL_CPU: Final = Goal(0.22)
#: p50 of intent and outcome, as a multiple of a bare round trip's.
APPEND: Final = Goal(1.3)
#: Creation to first byte at half load, answer to status at full load; ms.
FIRST_BYTE_P50: Final = Goal(30)
FIRST_BYTE_P99: Final = Goal(150)
STATUS_P99: Final = Goal(3000)
#: p99 beside a receiver that hangs, as a multiple of that without.
ISOLATED: Final = Goal(1.1)
#: Beside hostile objects: longest time in ms for which one thing holds the event loop; p99 of the others,
#: as a multiple of that beside the same objects where the controller does not look.
LONGEST_STALL: Final = Goal(100, every=True)
BESIDE_HOSTILE: Final = Goal(1.5)
#: p99 beside an author who creates thousands at once, as a multiple of that where nobody serves them.
FAIR: Final = Goal(1.5)
#: Bytes of Redis for each further attempt.
PER_ATTEMPT: Final = Goal(450)
#: Growth over the second half of a long run, as a share of the median.
FLAT: Final = Goal(0.05)
#: Ten thousand that wait: MiB, percent of a core.
WAITING_MEMORY: Final = Goal(140)
WAITING_IDLE: Final = Goal(2)
#: `verify` of 100,000: seconds; memory, as a multiple of that for a tenth of them.
VERIFY_SECONDS: Final = Goal(120)
VERIFY_FLAT: Final = Goal(1.25)
#: A start among 100,000: seconds, of which CPU, MiB; seconds until the first pending delivery at any size.
START_SECONDS: Final = Goal(25)
START_CPU: Final = Goal(12)
START_MEMORY: Final = Goal(200)
FIRST_DELIVERY: Final = Goal(2)
#: Twice the work per notification at the larger size would be far from linear.
START_LINEAR: Final = Goal(1.3)

#: At rest: writes to the API server per second and replica, reads, percent of a core, MiB.
IDLE_WRITES: Final = Goal(0.6)
IDLE_READS: Final = Goal(0, every=True)
IDLE_CPU: Final = Goal(0.5)
IDLE_MEMORY: Final = Goal(80)
#: CPU in ms of a replica per notification of another's, where the API server selects by shard; seconds
#: from SIGKILL until all shards are served: LeaseDuration (18 s by default) and two retry periods.
OTHERS_CPU: Final = Goal(0.03)
TAKEOVER: Final = Goal(22, every=True)

#: CPU in ms of a gateway per notification of a group of five alerts; webhooks per second of 500.
GATEWAY_CPU: Final = Goal(1.5)
GATEWAY_RATE: Final = Goal(495, least=True)

#: CPU in ms of the slowest example of templates, for 10 alerts and for 100.
RENDER_FEW: Final = Goal(0.3)
RENDER_MANY: Final = Goal(2)

#: Redis is away for a minute: seconds until what is created meanwhile is delivered, less its own back-off;
#: the same where shards need another owner first; seconds after the outage until what was held is sent.
IN_OUTAGE: Final = Goal(15, every=True)
IN_OUTAGE_AND_TAKEOVER: Final = Goal(15 + 22, every=True)
AFTER_OUTAGE: Final = Goal(5, every=True)
#: Requests of the API server for each journaled attempt; journaled attempts/s, as a share of Option A's.
JOURNAL_REQUESTS: Final = Goal(2.2)
BESIDE_OPTION_A: Final = Goal(0.8, least=True)
#: Controller CPU of a notification while Redis is there, journal / hold: a pair of runs of the same differs
#: by as much.
BESIDE_HOLD: Final = Goal(1.05)

# -- goals ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """
    One goal.

    Attributes:
        words: What is wanted, without the limit.
        suite: Which suite measures it.
        figure: Regular expression for the whole name of the figures that it is about.
        limit: The limit.
        full: What the quick run lacks for a verdict, empty if it lacks nothing.
    """

    words: str
    suite: str
    figure: str
    limit: Goal
    full: str = ""


_WINDOWS: Final = "windows of 40 s"
_CROWDED: Final = r"\d+ attempts by (5|32) writers"

TARGETS: Final = (
    Target(
        "attempts recorded/s, product / optimistic locking, from 5 writers per object on",
        "strategies", rf"{_CROWDED}: recorded/s, C / A", FASTER,
    ),
    Target(
        "attempts lost, in each round of each case", "strategies",
        r"\d+ attempts by \d+ writers: C lost", NONE_LOST,
    ),
    Target(
        "status writes per attempt at 20 and more unpaced attempts per object", "strategies",
        r"(20|32) attempts by \d+ writers: C writes per attempt", FEW_WRITES,
    ),
    Target(
        "status writes of an object with one attempt", "strategies",
        r"1 attempts by 1 writers: C writes per attempt", ONE_WRITE,
    ),
    Target(
        "status writes per one-attempt notification", "throughput",
        "status writes per notification", ONE_WRITE,
    ),
    Target(
        "notifications/s, product / reference, which writes the same status", "throughput",
        "notifications/s, product / reference", NEAR_REFERENCE,
    ),
    Target(
        "notifications/s, product / null controller", "throughput",
        "notifications/s, product / null", NEAR_THE_LIMIT,
    ),
    Target(
        "notifications/s, product / replaced controller", "throughput",
        "notifications/s, product / upstream", PAST_UPSTREAM,
    ),
    Target(
        "controller CPU per notification, ms", "throughput", "controller CPU per notification",
        CONTROLLER_CPU,
    ),
    Target(
        "all CPU of one notification, product / replaced controller", "throughput",
        "all CPU per notification, product / upstream", ALL_CPU,
    ),
    Target(
        "notifications/s, Events on / off", "throughput", "notifications/s, Events on / off",
        WITH_EVENTS,
    ),
    Target(
        "create to first byte at half load, p50, ms", "latency",
        "50 %: create to first byte, p50", FIRST_BYTE_P50,
    ),
    Target(
        "create to first byte at half load, p99, ms", "latency",
        "50 %: create to first byte, p99", FIRST_BYTE_P99,
    ),
    Target(
        "attempt to status at full load, p99, ms", "latency",
        "(90 %|at once): answer to status, p99", STATUS_P99,
    ),
    Target(
        "intent and outcome, log / bare round trip, p50", "append", ".*: log / bare p50", APPEND
    ),
    Target(
        "start among 100,000: all looked at, s", "recovery",
        "100,000 notifications: all looked at", START_SECONDS, "100,000 notifications",
    ),
    Target(
        "start among 100,000: controller CPU until all looked at, s", "recovery",
        "100,000 notifications: CPU until all looked at", START_CPU, "100,000 notifications",
    ),
    Target(
        "start among 100,000: resident, largest, MiB", "recovery",
        "100,000 notifications: resident, largest", START_MEMORY, "100,000 notifications",
    ),
    Target(
        "a start: first delivery that was due, s", "recovery",
        "[0-9,]+ notifications: first pending delivery", FIRST_DELIVERY,
    ),
    Target(
        "Redis memory of each attempt beyond the first, B", "memory",
        "Redis, each attempt beyond the first, of (5|20)", PER_ATTEMPT,
    ),
    Target(
        "resident memory over 30 minutes: growth in the second half, share of the median", "soak",
        "resident memory: growth, share of the median", FLAT, "30 minutes",
    ),
    Target(
        "Redis memory and keys over 30 minutes: growth in the second half, share of the median",
        "soak", "Redis: (used memory|keys): growth, share of the median", FLAT, "30 minutes",
    ),
    Target(
        "p99 of others, one receiver hangs / nothing hangs", "isolation",
        "p99, one hangs / nothing hangs", ISOLATED, "more than two minutes of each",
    ),
    Target(
        "longest stall of the event loop beside hostile objects, ms", "stall",
        "longest stall of the loop, start included", LONGEST_STALL,
    ),
    Target("shards lost beside hostile objects", "stall", "shards lost", NONE_LOST),
    Target(
        "p99 of others, hostile objects / the same where nobody looks", "stall",
        "p99, with / where nobody looks", BESIDE_HOSTILE, "four rounds of two blocks of each",
    ),
    Target(
        "p99 of others, one author creates 5,000 at once / nobody serves them", "tenants",
        "p99, crowd beside / elsewhere", FAIR, "5,000 at once",
    ),
    Target(
        "at rest: writes to the API server per second and replica", "idle",
        r"\d+ replicas?: API writes per second and replica", IDLE_WRITES, _WINDOWS,
    ),
    Target(
        "at rest: reads from the API server per second", "idle",
        r"\d+ replicas?: API reads per second", IDLE_READS, _WINDOWS,
    ),
    Target(
        "at rest: CPU of a replica, % of a core", "idle",
        r"\d+ replicas?: CPU of the busiest replica", IDLE_CPU, _WINDOWS,
    ),
    Target(
        "at rest: resident memory of a replica, MiB", "idle",
        r"\d+ replicas?: resident memory of the largest replica", IDLE_MEMORY, _WINDOWS,
    ),
    Target(
        "CPU of a replica per notification of another's, API server selects by shard, ms", "replicas",
        r"gate on, \d+ replicas: CPU of a replica per notification of another's", OTHERS_CPU,
        "1,500 notifications",
    ),
    Target(
        "a replica gets SIGKILL: until all its shards are served, s", "replicas",
        r"gate (on|off), \d+ replicas: one killed, until all its shards are served", TAKEOVER,
        "leases of the defaults",
    ),
    Target(
        "a replica of two ends, 50 by SIGKILL and 50 by a freeze: until all shards have an owner, s",
        "takeover", "(SIGKILL|freeze): until the last shard is acquired", TAKEOVER,
        "fifty of each with the leases of the defaults",
    ),
    Target(
        "takeovers: notifications not sent", "takeover", "notifications not sent", NONE_LOST
    ),
    Target(
        "takeovers: what book and record do not agree on", "takeover",
        "what book and record do not agree on", NONE_LOST,
    ),
    Target(
        "gateway: webhooks of five alerts answered 200 each second, of 500", "gateway",
        "load: webhooks answered 200", GATEWAY_RATE, "a minute of load",
    ),
    Target(
        "gateway: CPU per notification, ms", "gateway", "load: CPU of the gateway per notification",
        GATEWAY_CPU,
    ),
    Target(
        "templates: rendering for 10 alerts, ms", "wording", "10 alerts: the slowest example",
        RENDER_FEW,
    ),
    Target(
        "templates: rendering for 100 alerts, ms", "wording", "100 alerts: the slowest example",
        RENDER_MANY,
    ),
    Target(
        "gateway: growth of its memory in the second half, share of the median", "gateway",
        "load: resident memory: growth in the second half, share of the median", FLAT,
        "a minute of load",
    ),
    Target(
        "gateway: webhooks that got no 200, under load or among 10,000 idle connections", "gateway",
        "load: webhooks not answered 200|crowd: valid requests not answered 200", NONE_LOST,
    ),
    Target(
        "gateway killed, API server away: groups of alerts not delivered, or twice", "gateway",
        "outage: groups (not delivered|delivered twice)", NONE_LOST,
        "600 groups and a minute without API server",
    ),
    Target(
        "a replica gets SIGKILL: notifications not sent, or not on record", "replicas",
        r"gate (on|off), \d+ replicas?: notifications not sent, or not on record", NONE_LOST,
    ),
    Target(
        "a replica gets SIGKILL: what book and record do not agree on", "replicas",
        r"gate (on|off), \d+ replicas?: what book and record do not agree on", NONE_LOST,
    ),
)  # fmt: skip

#: Not asked for by comparison with anything, but held all the same; rows of a report that carry a
#: goal and are in neither list are added behind them.
BESIDES: Final = (
    Target(
        "CPU per notification of a start among 100,000, as a multiple of that among 10,000",
        "recovery", r"CPU per notification, 100,000 / 10,000", START_LINEAR, "100,000 notifications",
    ),
    Target(
        "`verify` of 100,000, s", "operate", "verify, 100,000 notifications: time", VERIFY_SECONDS,
        "100,000 notifications",
    ),
    Target(
        "memory of `verify` for ten times the notifications", "operate",
        "verify: memory of ten times the notifications", VERIFY_FLAT, "100,000 notifications",
    ),
    Target(
        "10,000 waiting: resident memory, MiB", "waiting", "resident memory, 10,000 waiting",
        WAITING_MEMORY, "10,000 notifications",
    ),
    Target(
        "CPU while all wait, % of a core", "waiting", "CPU while all wait", WAITING_IDLE,
        "10,000 notifications",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What the measurements say to a goal.

    Attributes:
        target: The goal.
        word: `met`, `missed`, or why there is no verdict.
        figure: The worst of the figures that it is about, None if there is none.
        of: How many there are.
        quick: They are of a quick run.
    """

    target: Target
    word: str
    figure: Figure | None = None
    of: int = 0
    quick: bool = False

    def row(self) -> str:
        """A row of the table of goals."""
        limit, figure, many = self.target.limit, self.figure, ""
        numbers = ["", "", ""]
        if figure:
            shown = (limit.judged(figure.rounds), min(figure.rounds), max(figure.rounds))
            numbers = [short(n) for n in shown]
            many = f"worst of {self.of}: {figure.name}" if self.of > 1 else ""
        words = f"{self.target.words} ({many})" if many else self.target.words
        suite = f"{self.target.suite} (quick)" if self.quick else self.target.suite
        return f"| {' | '.join([suite, words, str(limit), *numbers, self.word])} |"


def judge(target: Target, report: Report | None, failed: str = "") -> Outcome:
    """
    Hold a goal against what its suite measured.

    Args:
        target: The goal.
        report: The suite's report, None if there is none.
        failed: Why there is none, if it was run.
    """
    if report is None:
        return Outcome(target, f"not measured: {failed or 'the suite was not run'}")
    name = re.compile(target.figure)
    found = [f for f in report.figures if name.fullmatch(f.name)]
    sign = 1 if target.limit.least else -1
    worst = min(found, key=lambda f: sign * target.limit.judged(f.rounds), default=None)
    if report.quick and target.full:
        return Outcome(target, f"needs the full run ({target.full})", worst, len(found), quick=True)
    if worst is None:
        return Outcome(target, f"not measured: the suite has no figure {target.figure!r}")
    met = target.limit.met(target.limit.judged(worst.rounds))
    return Outcome(target, "met" if met else "missed", worst, len(found), quick=report.quick)


def further(reports: Mapping[str, Report]) -> list[Target]:
    """Goals of single figures that no goal of the list speaks of."""
    known = [(t.suite, re.compile(t.figure)) for t in (*TARGETS, *BESIDES)]
    return [
        Target(f"{f.name}, {f.unit}" if f.unit else f.name, suite, re.escape(f.name), f.goal)
        for suite, report in reports.items()
        for f in report.figures
        if f.goal and not any(s == suite and n.fullmatch(f.name) for s, n in known)
    ]


def outcomes(
    reports: Mapping[str, Report], failed: Mapping[str, str] | None = None
) -> list[Outcome]:
    """Verdicts on all goals: the list first, then what single figures are asked for besides."""
    said = failed or {}
    targets = [*TARGETS, *BESIDES, *further(reports)]
    return [judge(t, reports.get(t.suite), said.get(t.suite, "")) for t in targets]


def table(judged: Sequence[Outcome]) -> str:
    """The goals as a Markdown table."""
    lines = [
        "| suite | goal | limit | reached | min | max | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [o.row() for o in judged]
    kinds = [o.word.partition(":")[0].partition(" (")[0] for o in judged]
    counts = [f"{kind}: {kinds.count(kind)}" for kind in sorted(set(kinds))]
    return "\n".join([*lines, "", f"Goals: {len(judged)}; {', '.join(counts)}."])
