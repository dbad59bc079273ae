"""
All goals in one list, and what the measurements say to each.

A goal names the suite and the figures that it is about; where several figures match, the worst of
them counts. A verdict is `met` or `missed` if the figure was measured at the size that the goal asks
for. The quick run says `needs the full run` where it measures less, and shows what it has, if
anything, without judging it. A suite that was not run, or did not come to its end, is
`not measured`, with that as its reason: no goal is ever left out of the table.

Suites only measure: `hold` gives their figures the limits, and a row in their tables is judged so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.benchmarks.report import Figure, Goal, Report, short

#: The replaced controller under the load of `throughput` (one Slack receiver, 200 after 5 ms, all
#: created at once; on two cores of the same kind, in another hour), measured with Events, which it
#: always writes: notifications per second, of which its better run counts; API requests; CPU in ms.
UPSTREAM_RATE: Final = 35.0
UPSTREAM_RATE_LOW: Final = 32.0
UPSTREAM_REQUESTS: Final = 12.0
UPSTREAM_CONTROLLER_CPU: Final = 7.0
UPSTREAM_SERVER_CPU: Final = 30.0
UPSTREAM_CPU: Final = UPSTREAM_CONTROLLER_CPU + UPSTREAM_SERVER_CPU


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


_NONE_LOST: Final = Goal(0, every=True)
_WINDOWS: Final = "windows of 40 s"
_CROWDED: Final = r"\d+ attempts by (5|32) writers"

TARGETS: Final = (
    Target(
        "attempts recorded/s, product / optimistic locking, from 5 writers per object on",
        "strategies", rf"{_CROWDED}: recorded/s, C / A", Goal(10, least=True),
    ),
    Target(
        "attempts lost, in each round of each case", "strategies",
        r"\d+ attempts by \d+ writers: C lost", _NONE_LOST,
    ),
    Target(
        "status writes per attempt at 20 and more unpaced attempts per object", "strategies",
        r"(20|32) attempts by \d+ writers: C writes per attempt", Goal(0.1),
    ),
    Target(
        "status writes of an object with one attempt", "strategies",
        r"1 attempts by 1 writers: C writes per attempt", Goal(1.2),
    ),
    Target(
        "status writes per one-attempt notification", "throughput",
        "status writes per notification", Goal(1.2),
    ),
    Target(
        "notifications/s, product / reference, which writes the same status", "throughput",
        "notifications/s, product / reference", Goal(0.85, least=True),
    ),
    Target(
        "notifications/s, product / null controller", "throughput",
        "notifications/s, product / null", Goal(0.68, least=True),
    ),
    Target(
        "notifications/s, product / replaced controller", "throughput",
        "notifications/s, product / upstream", Goal(8, least=True),
    ),
    Target(
        "controller CPU per notification, ms", "throughput", "controller CPU per notification",
        Goal(1.5),
    ),
    Target(
        "all CPU of one notification, product / replaced controller", "throughput",
        "all CPU per notification, product / upstream", Goal(0.22),
    ),
    Target(
        "notifications/s, Events on / off", "throughput", "notifications/s, Events on / off",
        Goal(0.9, least=True),
    ),
    Target(
        "create to first byte at half load, p50, ms", "latency",
        "50 %: create to first byte, p50", Goal(30),
    ),
    Target(
        "create to first byte at half load, p99, ms", "latency",
        "50 %: create to first byte, p99", Goal(150),
    ),
    Target(
        "attempt to status at full load, p99, ms", "latency",
        "(90 %|at once): answer to status, p99", Goal(3000),
    ),
    Target(
        "intent and outcome, log / bare round trip, p50", "append", ".*: log / bare p50", Goal(1.3)
    ),
    Target(
        "start among 100,000: all looked at, s", "recovery",
        "100,000 notifications: all looked at", Goal(25), "100,000 notifications",
    ),
    Target(
        "start among 100,000: controller CPU until all looked at, s", "recovery",
        "100,000 notifications: CPU until all looked at", Goal(12), "100,000 notifications",
    ),
    Target(
        "start among 100,000: resident, largest, MiB", "recovery",
        "100,000 notifications: resident, largest", Goal(200), "100,000 notifications",
    ),
    Target(
        "a start: first delivery that was due, s", "recovery",
        r"[0-9,]+ notifications(, Kubernaut's definition)?: first pending delivery", Goal(2),
    ),
    Target(
        "Redis memory of each attempt beyond the first, B", "memory",
        "Redis, each attempt beyond the first, of (5|20)", Goal(450),
    ),
    Target(
        "resident memory over 30 minutes: growth in the second half, share of the median", "soak",
        "resident memory: growth, share of the median", Goal(0.05), "30 minutes",
    ),
    Target(
        "Redis memory and keys over 30 minutes: growth in the second half, share of the median",
        "soak", "Redis: (used memory|keys): growth, share of the median", Goal(0.05), "30 minutes",
    ),
    Target(
        "p99 of others, one receiver hangs / nothing hangs", "isolation",
        "p99, one hangs / nothing hangs", Goal(1.1), "more than two minutes of each",
    ),
    Target(
        "longest stall of the event loop beside hostile objects, ms", "stall",
        "longest stall of the loop, start included", Goal(100, every=True),
    ),
    Target("shards lost beside hostile objects", "stall", "shards lost", _NONE_LOST),
    Target(
        "p99 of others, hostile objects / the same where nobody looks", "stall",
        "p99, with / where nobody looks", Goal(1.5), "four rounds of two blocks of each",
    ),
    Target(
        "p99 of others, one author creates 5,000 at once / nobody serves them", "tenants",
        "p99, crowd beside / elsewhere", Goal(1.5), "5,000 at once",
    ),
    Target(
        "at rest: writes to the API server per second and replica", "idle",
        r"\d+ replicas?: API writes per second and replica", Goal(0.6), _WINDOWS,
    ),
    Target(
        "at rest: reads from the API server per second", "idle",
        r"\d+ replicas?: API reads per second", Goal(0, every=True), _WINDOWS,
    ),
    Target(
        "at rest: CPU of a replica, % of a core", "idle",
        r"\d+ replicas?: CPU of the busiest replica", Goal(0.5), _WINDOWS,
    ),
    Target(
        "at rest: resident memory of a replica, MiB", "idle",
        r"\d+ replicas?: resident memory of the largest replica", Goal(80), _WINDOWS,
    ),
    Target(
        "a replica of two ends, 50 by SIGKILL and 50 by a freeze: until all shards have an owner, s",
        "takeover", "(SIGKILL|freeze): until the last shard is acquired", Goal(22, every=True),
        "fifty of each with the leases of the defaults",
    ),
    Target(
        "takeovers: notifications not sent", "takeover", "notifications not sent", _NONE_LOST
    ),
    Target(
        "takeovers: what book and record do not agree on", "takeover",
        "what book and record do not agree on", _NONE_LOST,
    ),
    Target(
        "gateway: webhooks of five alerts answered 200 each second, of 500", "gateway",
        "load: webhooks answered 200", Goal(495, least=True), "a minute of load",
    ),
    Target(
        "gateway: CPU per notification, ms", "gateway", "load: CPU of the gateway per notification",
        Goal(1.5),
    ),
    Target(
        "templates: rendering for 10 alerts, ms", "wording", "10 alerts: the slowest example",
        Goal(0.3),
    ),
    Target(
        "templates: rendering for 100 alerts, ms", "wording", "100 alerts: the slowest example",
        Goal(2),
    ),
    Target(
        "gateway: growth of its memory in the second half, share of the median", "gateway",
        "load: resident memory: growth in the second half, share of the median", Goal(0.05),
        "a minute of load",
    ),
    Target(
        "gateway: webhooks that got no 200, under load or among 10,000 idle connections", "gateway",
        "load: webhooks not answered 200|crowd: valid requests not answered 200", _NONE_LOST,
    ),
    Target(
        "gateway killed, API server away: groups of alerts not delivered, or twice", "gateway",
        "outage: groups (not delivered|delivered twice)", _NONE_LOST,
        "600 groups and a minute without API server",
    ),
)  # fmt: skip

#: Not asked for by comparison with anything, but held all the same.
BESIDES: Final = (
    Target(
        "CPU per notification of a start among 100,000, as a multiple of that among 10,000",
        "recovery", r"CPU per notification, 100,000 / 10,000", Goal(1.3), "100,000 notifications",
    ),
    Target(
        "`verify` of 100,000, s", "operate", "verify, 100,000 notifications: time", Goal(120),
        "100,000 notifications",
    ),
    Target(
        "memory of `verify` for ten times the notifications", "operate",
        "verify: memory of ten times the notifications", Goal(1.25), "100,000 notifications",
    ),
    Target(
        "4,000 waiting: CPU of a replica, % of a core", "memory",
        "replica, 4,000 unfinished, .*: CPU", Goal(1), "4,000 notifications",
    ),
)  # fmt: skip

#: What single figures are asked for besides, by suite and name; each is a row behind all others.
FIGURES: Final = (
    ("memory", ".*: measured / formula, smallest", Goal(0.85, least=True)),
    ("memory", ".*: measured / formula, largest", Goal(1.15)),
    ("operate", "inspect, 1,000 records: whole process", Goal(1.5)),
    ("operate", "inspect, 1,000 records: after imports", Goal(0.3)),
    ("operate", "explain, 10 attempts: whole process", Goal(0.4)),
    ("operate", "explorer, .*: what needs attention", Goal(300)),
    ("operate", "explorer, .*: from its creation to the page", Goal(1_000)),
    ("operate", "explorer, .*: resident", Goal(100)),
    # LeaseDuration and two retry periods more where the shards need another owner first.
    ("outage", "(whole|empty): created in it, until delivered.*", Goal(15, every=True)),
    ("outage", "(owner killed|one cut off): created in it, until delivered.*", Goal(37, every=True)),
    ("outage", ".*: held ones, after Redis was back", Goal(5, every=True)),
    (
        "outage",
        ".*: (not delivered|what book and record do not agree on|attempts that a log was not given)",
        _NONE_LOST,
    ),
    ("outage", ".*: API requests per journaled attempt", Goal(2.2)),
    ("outage", "burst: journaled / Option A", Goal(0.8, least=True)),
    # Two runs of the same differ by as much.
    ("outage", "Redis there: journal / hold", Goal(1.05)),
    ("soak", "notifications (not held against their log|with a wrong end)", _NONE_LOST),
    ("soak", "calls (that the record does not know|beyond what was asked for)", _NONE_LOST),
    ("soak", "attempts on record that were never received", _NONE_LOST),
    ("soak", r"Redis: keys after all is over \(whose store it is\)", Goal(1)),
)  # fmt: skip


def hold(report: Report) -> None:
    """Give each figure the limit that is asked of it, in a quick run unless that needs a full one."""
    asked = [
        (t.suite, t.figure, t.limit) for t in (*TARGETS, *BESIDES) if not (report.quick and t.full)
    ]
    for suite, name, limit in (*asked, *FIGURES):
        for n, figure in enumerate(report.figures):
            if suite == report.suite and re.fullmatch(name, figure.name):
                report.figures[n] = replace(figure, goal=limit)


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
