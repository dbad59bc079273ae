"""
How far it goes: a capacity model of a few lines, filled with measured figures.

Every notification costs CPU in four places: its controller, the other replicas, which see every object of
their installation, API server with etcd, and Redis. What a place carries is its cores divided by that
cost, at a share of its time that leaves some for the unexpected; what an installation carries is what its
tightest place carries. Nothing else is assumed: no figure of another machine, no gain from batching
beyond what was measured, no loss through contention.

The model is pure. `block` makes the tables of docs/scale.md from the results of the benchmarks. They stand
between two marks there; the prose around them states no number that a measurement could change.

    python -m tests.benchmarks.capacity      write them into the page
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.report import ROOT, Figure, Report, read
from tests.benchmarks.sizing import Shape, log_bytes

RESULTS: Final = ROOT / "docs" / "benchmarks" / "results.json"
PAGE: Final = ROOT / "docs" / "scale.md"
BEGIN: Final = "<!-- capacity: made by `python -m tests.benchmarks.capacity` -->"
END: Final = "<!-- capacity: end -->"

#: Share of a core that is planned with.
USABLE: Final = 0.6
#: Replicas against the loss of one.
PAIR: Final = 2
#: Events of a notification with one attempt.
EVENTS: Final = 3
#: Largest database that etcd's manual recommends, in bytes.
ETCD_BYTES: Final = 8 * 2**30
DAY: Final = 86_400
#: Days that a log is kept, by default (`spec.retentionDays`).
RETENTION_DAYS: Final = 7
WANTED: Final = 10_000


#: What was measured, by the names of `SOURCES`.
Inputs = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Carried:
    """
    What the places of one installation carry, in notifications per second.

    Attributes:
        controllers: All replicas.
        servers: API server and etcd.
        redis: All Redis masters.
    """

    controllers: float
    servers: float
    redis: float

    @property
    def most(self) -> float:
        """What the installation carries."""
        return min(self.controllers, self.servers, self.redis)

    @property
    def wall(self) -> str:
        """The place that is full first."""
        places = {
            "API server": self.servers, "controller": self.controllers, "Redis": self.redis,
        }  # fmt: skip
        return min(places, key=lambda name: places[name])


@dataclass(frozen=True, slots=True)
class Need:
    """
    What a rate takes.

    Attributes:
        installations: Of `PAIR` replicas, each with namespaces of its own.
        cores: Of API servers and etcd, in all.
        masters: Redis masters, in all.
    """

    installations: int
    cores: int
    masters: int


def carried(
    known: Inputs,
    *,
    replicas: int,
    cores: float,
    masters: int,
    events: bool = False,
) -> Carried:
    """
    What one installation carries.

    Args:
        known: What was measured.
        replicas: That share its notifications evenly; each uses one core.
        cores: Of API server and etcd.
        masters: Of Redis, one core each.
        events: Whether Events are on, and all of them are written.
    """
    # The run with Events wrote as many as the default lets through; here all are to be written.
    share = EVENTS / known["event_writes"] if events else 0.0
    controller = known["controller"] + share * (known["controller_events"] - known["controller"])
    servers = known["servers"] + share * (known["servers_events"] - known["servers"])
    # A replica pays for its own share in full, and for watching the shares of the others.
    each = controller / replicas + known["others"] * (1 - 1 / replicas)
    return Carried(
        USABLE * 1000 / each,
        cores * USABLE * 1000 / (servers + known["watch"] * (replicas - 1)),
        masters * USABLE * 1000 / known["redis"],
    )


def need(known: Inputs, rate: float, *, events: bool = False) -> Need:
    """
    What so many notifications per second take, spread over installations of two replicas.

    More replicas in each would be more in all, since each pays for watching the others' share.
    """
    one = carried(known, replicas=PAIR, cores=1, masters=1, events=events)
    return Need(*(math.ceil(rate / each) for each in (one.controllers, one.servers, one.redis)))


def etcd_lasts(known: Inputs, rate: float) -> float:
    """Seconds until etcd is full if nothing is deleted."""
    return ETCD_BYTES / known["object_bytes"] / rate


def log_gib(rate: float, days: float) -> float:
    """Redis memory in GiB for the logs of so many days, one attempt each."""
    return rate * DAY * days * log_bytes(Shape()) / 2**30


# -- from the results ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """
    Where an input comes from.

    Attributes:
        words: What it is.
        unit: Its unit.
        suite: Which suite.
        figures: Whose medians are added.
    """

    words: str
    unit: str
    suite: str
    figures: tuple[str, ...]


_EVENTS: Final = "Events on: "
_OTHERS: Final = "4 replicas: CPU of a replica per notification of another's"
_API: Final = ("API server CPU per notification", "etcd CPU per notification")
SOURCES: Final[dict[str, Source]] = {
    "rate": Source("all at once, everything on one machine", "1/s", "throughput", ("notifications/s",)),
    "busy": Source(
        "cores busy meanwhile, with creator, receiver and watch", "", "throughput",
        ("cores busy, with creator, receiver and watch",),
    ),
    "controller": Source(
        "CPU of its controller", "ms", "throughput", ("controller CPU per notification",)
    ),
    "controller_events": Source(
        "the same, Events on", "ms", "throughput", (f"{_EVENTS}controller CPU per notification",)
    ),
    "others": Source("CPU of every other replica", "ms", "replicas", (_OTHERS,)),
    "servers": Source("CPU of API server and etcd", "ms", "throughput", _API),
    "servers_events": Source(
        "the same, Events on", "ms", "throughput", tuple(_EVENTS + name for name in _API)
    ),
    "watch": Source(
        "the same, for each replica beyond the first", "ms", "throughput",
        ("API server CPU per notification and further watch",),
    ),
    "redis": Source("CPU of Redis", "ms", "throughput", ("Redis CPU per notification",)),
    "writes": Source("status writes", "", "throughput", ("status writes per notification",)),
    "event_writes": Source(
        "Event writes that were let through, Events on", "", "throughput",
        (f"{_EVENTS}Event writes per notification",),
    ),
    "scripts": Source("Redis scripts", "", "throughput", ("Redis scripts per notification",)),
    "commands": Source(
        "Redis commands, those within scripts included", "", "throughput",
        ("Redis commands per notification",),
    ),
    "object_bytes": Source(
        "JSON of an object at the end", "B", "throughput", ("bytes of an object at the end",)
    ),
    "start": Source(
        "CPU of a start, for each notification that it finds", "ms", "recovery",
        ("CPU until all looked at, by the largest number",),
    ),
}  # fmt: skip


def _of_a_start(report: Report) -> list[Figure]:
    """What a start costs in ms for each notification, out of the largest start."""
    sizes = [
        (int(m[1].replace(",", "")), f)
        for f in report.figures
        if (m := re.fullmatch(r"([\d,]+) notifications: CPU until all looked at", f.name))
    ]
    if not sizes:
        return []
    n, figure = max(sizes, key=lambda size: size[0])
    each = tuple(seconds * 1000 / n for seconds in figure.rounds)
    return [Figure(SOURCES["start"].figures[0], "ms", each)]


def inputs(reports: Mapping[str, Report]) -> Inputs:
    """The inputs out of reports; KeyError for a figure that is missing."""
    found = {}
    for name, source in SOURCES.items():
        report = reports[source.suite]
        medians = {f.name: f.median for f in [*report.figures, *_of_a_start(report)]}
        found[name] = sum(medians[figure] for figure in source.figures)
    # What a further replica costs is a difference, and may drown in the noise.
    differences = ("others", "watch")
    return found | {name: max(0.0, found[name]) for name in differences}


# -- the tables ------------------------------------------------------------------------------------

#: What is computed: words, replicas, cores of API server and etcd, Redis masters.
INSTALLATIONS: Final = (
    ("one replica, 2 cores for API server and etcd, one Redis", 1, 2, 1),
    ("one replica, 8 cores, one Redis", 1, 8, 1),
    ("ten replicas, 8 cores, one Redis", 10, 8, 1),
    ("ten replicas, 32 cores, one Redis", 10, 32, 1),
    ("ten replicas, 32 cores, Redis Cluster of three masters", 10, 32, 3),
)


def rounded(number: float) -> str:
    """Two digits, as a model deserves."""
    if number <= 0:
        return "0"
    digits = 1 - math.floor(math.log10(number))
    value = round(number, digits)
    return f"{value:,.{max(0, digits)}f}" if digits > 0 else f"{value:,.0f}"


def _rows(*rows: tuple[str, ...]) -> list[str]:
    head, *body = rows
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in body]


def _inputs(known: Inputs) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("per notification of one attempt", "value", "unit", "in the report")
    ]
    for name, source in SOURCES.items():
        where = f"{source.suite}: {' + '.join(source.figures)}"
        value = known[name]
        rows.append(
            (source.words, f"{value:,.0f}" if value >= 100 else f"{value:.3g}", source.unit, where)
        )
    return _rows(*rows)


def _carried(known: Inputs) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("installation", "replicas carry", "API server carries", "Redis carries", "so, per second",
         "first wall", "with Events on"),
    ]  # fmt: skip
    for words, replicas, cores, masters in INSTALLATIONS:
        off, on = (
            carried(known, replicas=replicas, cores=cores, masters=masters, events=events)
            for events in (False, True)
        )
        places = (off.controllers, off.servers, off.redis, off.most)
        rows.append((words, *map(rounded, places), off.wall, f"{rounded(on.most)} ({on.wall})"))
    return _rows(*rows)


def _wanted(known: Inputs) -> list[str]:
    off, on = (need(known, WANTED, events=events) for events in (False, True))
    pairs = str(off.installations), str(on.installations)
    writes = WANTED * (1 + known["writes"]), WANTED * (1 + known["writes"] + EVENTS)
    scripts, commands = rounded(WANTED * known["scripts"]), rounded(WANTED * known["commands"])
    logs, kept = (rounded(log_gib(WANTED, days)) for days in (1, RETENTION_DAYS))
    lasts = rounded(etcd_lasts(known, WANTED) / 60)
    return _rows(
        (f"{WANTED:,} notifications per second take", "Events off", "Events on"),
        ("installations of two replicas, each with namespaces of its own", *pairs),
        ("cores of API servers and etcd", f"{off.cores:,}", f"{on.cores:,}"),
        ("writes to the API server per second, creations included", *map(rounded, writes)),
        ("Redis masters", str(off.masters), str(on.masters)),
        ("Redis scripts per second", scripts, scripts),
        ("Redis commands per second, those within scripts included", commands, commands),
        ("GiB of Redis for the logs of a day, one attempt each", logs, logs),
        (f"the same for {RETENTION_DAYS} days, the default retention", kept, kept),
        ("minutes until an etcd of 8 GiB is full, if nothing is deleted", lasts, lasts),
    )  # fmt: skip


#: What an installation costs at rest: words, and the figure of `idle` that says so.
AT_REST: Final = (
    ("writes to the API server per second, each replica", "API writes per second and replica"),
    (
        "reads from the API server per second, all together, without the LIST of metadata",
        "API reads per second",
    ),
    ("watches that a replica keeps open", "open watches of a replica"),
    ("CPU of the busiest replica, % of a core", "CPU of the busiest replica"),
    ("resident memory of the largest replica, MiB", "resident memory of the largest replica"),
    ("Redis commands per second, all together", "Redis commands per second"),
    ("CPU of the API server for all of them, % of a core", "CPU of kube-apiserver for it"),
    ("CPU of etcd for all of them, % of a core", "CPU of etcd for it"),
)


def _at_rest(report: Report) -> list[str]:
    """What it costs to have it, by number of replicas."""
    medians = {f.name: f.median for f in report.figures}
    counts = [n.partition(":")[0] for n in medians if n.endswith(f": {AT_REST[0][1]}")]
    rows: list[tuple[str, ...]] = [("with nothing to do", *counts)]
    for words, figure in AT_REST:
        # What is less than a hundredth is the difference of two windows.
        values = (medians[f"{count}: {figure}"] for count in counts)
        rows.append((words, *(rounded(v) if v >= 0.01 else "0" for v in values)))
    return _rows(*rows)


def _limits(known: Inputs) -> str:
    """What more replicas bring in the end."""
    most = carried(known, replicas=10**6, cores=1, masters=1).controllers
    return (
        f"Every replica is sent every object, so no number of them carries more than {rounded(most)} per "
        "second."
    )


def block(reports: Mapping[str, Report]) -> str:
    """The tables, with their marks."""
    known = inputs(reports)
    start = rounded(known["start"] * 100_000 / 1000)
    between = (
        f"{_limits(known)} A replica that takes over everything, with 100,000 notifications, needs "
        f"{start} s of CPU for it."
    )
    parts = [
        BEGIN, "", *_at_rest(reports["idle"]), "", *_inputs(known), "",
        f"Planned with: {USABLE * 100:.0f} % of each core.", "",
        *_carried(known), "", between, "", *_wanted(known), "", END,
    ]  # fmt: skip
    return "\n".join(parts)


def filled(text: str, tables: str) -> str:
    """The page with these tables in the place of those between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + tables + after


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(), block(read(RESULTS))))
