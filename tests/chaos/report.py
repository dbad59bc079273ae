"""
The judgement over a run: the checker's findings, what landed, and whether it came to rest.

A run is *sound* if nothing was violated, everything converged and every kind of fault has landed;
it is *void* if a fault has not landed, since then it proves nothing. Both fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from tests.chaos.world import World
from tests.e2e.checker import Call, Finding, Findings, Json, Kind, Log, Version, check, unlogged

#: Faults of the receivers themselves; counted in their books.
DROPPED: Final = "receiver processes, then drops"
REFUSED: Final = "receiver answers 503"
#: What an outage is for, where attempts are journaled; counted in the statuses.
JOURNALED: Final = "notifications journaled"
#: Rows of the table that must be 0, with the kinds of finding that they count.
ROWS: Final[dict[str, tuple[Kind, ...]]] = {
    "lost": (Kind.LOST,),
    "invented or misrecorded": (Kind.INVENTED, Kind.MISRECORDED),
    "unrecorded": (Kind.UNRECORDED,),
    "shown, not in the log": (Kind.UNLOGGED,),
    "unexplained repeats": (Kind.REPEATED, Kind.DOUBLED),
    "intents after a success": (Kind.AFTER_SUCCESS,),
    "changed bodies": (Kind.CHANGED_BODY,),
    "reordered": (Kind.REORDERED,),
    "regressions": (Kind.REGRESSED,),
    "acked, not shown": (Kind.OVERACKED,),
    "never acked": (Kind.UNACKED,),
    "left open": (Kind.UNSETTLED,),
}


@dataclass(frozen=True, slots=True)
class Report:
    """
    What a run came to.

    Attributes:
        findings: The checker's.
        left: What had not come to rest within the bound.
        landed: Faults by kind.
        wanted: Kinds that must have landed for the run to prove anything.
        created: Notifications.
        deleted: Of these, deleted while under way.
        gaps: Times at which the watch missed versions that nobody has any more.
        expired: Logs that had expired when the run ended.
    """

    findings: Findings
    left: tuple[str, ...]
    landed: Counter[str]
    wanted: tuple[str, ...]
    created: int
    deleted: int
    gaps: int
    expired: int

    @property
    def missing(self) -> list[str]:
        """Kinds of fault that have not landed."""
        return [k for k in self.wanted if not self.landed[k]]

    @property
    def violated(self) -> list[str]:
        """Invariants that do not hold, by their names."""
        kinds = dict.fromkeys(f.kind.value for f in self.findings.violations)
        return [*kinds, *(["convergence"] if self.left else [])]

    @property
    def sound(self) -> bool:
        """Whether the run has proven what it was for."""
        return not self.violated and not self.missing and self.findings.calls > 0

    def count(self, row: str) -> int:
        """Findings of one row of the table."""
        return sum(len(self.findings.of(kind)) for kind in ROWS[row])

    def table(self) -> str:
        """The table for a person."""
        unknown = len(self.findings.of(Kind.EXPLAINED))
        lines: list[tuple[str, object]] = [
            ("notifications", f"{self.created} ({self.deleted} deleted under way)"),
            ("sends", self.findings.calls),
            ("attempts recorded", self.findings.attempts),
            ("status versions seen", self.findings.versions),
            ("watch gaps", self.gaps),
            ("logs expired", self.expired),
            ("faults landed", sum(self.landed.values())),
            *((f"  {kind}", self.landed[kind]) for kind in self.wanted),
            ("repeats after a recorded unknown", unknown),
            *((row, self.count(row)) for row in ROWS),
            ("converged", "no" if self.left else "yes"),
        ]
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)

    def verdict(self) -> str:
        """One line."""
        if self.violated:
            return f"VIOLATED: {', '.join(self.violated)}"
        if not self.findings.calls:
            return "VOID: nothing was sent"
        if self.missing:
            return f"VOID: never landed: {', '.join(self.missing)}"
        return "all invariants hold"


async def judge(world: World, left: Sequence[str], wanted: Sequence[str]) -> Report:
    """Hold everything together; to be asked once the world has come to rest, or will not."""
    # The list at the end may have overtaken the watch: the store's own order is that of its versions.
    versions = {
        uid: list({int(v.resource_version): v for v in sorted(seen, key=_revision)}.values())
        for uid, seen in world.here.watcher.versions.items()
    }
    present = await world.here.logs()
    world.dump(present)
    gone = world.gone
    whole = {}
    for uid in versions:
        log = world.archive.whole(uid, expired=uid not in present)
        if log is not None:
            whole[uid] = log
    names = {seen[-1].name for uid, seen in versions.items() if uid in gone}
    found: list[Finding] = []
    total = Counter[str]()
    for deleted in (False, True):
        uids = [u for u in versions if (u in gone) is deleted]
        findings = check(
            _about(world.book, names, among=deleted),
            _of(whole, uids),
            {u: versions[u] for u in uids},
            [s for s in world.archive.samples if (s.uid in gone) is deleted],
            finished=not deleted,
        )
        found += findings.found
        total.update(calls=findings.calls, attempts=findings.attempts, versions=findings.versions)
    # What is on record must be so *now*: dumps of a log that was lost do not count.
    live = [u for u in versions if u not in gone]
    now = check(
        _about(world.book, names, among=False), _of(present, live), {u: versions[u] for u in live},
        finished=False,
    )  # fmt: skip
    found += [f for f in now.of(Kind.LOST) if f not in found]
    found += unlogged(present, {u: versions[u][-1] for u in live})
    for uid in gone & present.keys():
        for identity, seen in present[uid].states().items():
            if seen.state == 0:
                found.append(Finding(Kind.UNSETTLED, versions[uid][-1].name, f"attempt {identity}"))
    findings = Findings(tuple(found), total["calls"], total["attempts"], total["versions"])
    landed = Counter(world.landed)
    landed[DROPPED] += sum(c.processed and not c.code for c in world.book)
    landed[REFUSED] += sum(c.code >= 400 for c in world.book)
    landed[JOURNALED] += sum(any("journal" in v.status for v in seen) for seen in versions.values())
    return Report(
        findings,
        tuple(left),
        landed,
        tuple(wanted),
        len(versions),
        len(gone),
        world.here.watcher.gaps,
        len(world.archive.newest.keys() - present.keys()),
    )


def evidence(world: World, report: Report) -> Json:
    """
    All that is known of the notifications about which a run has something to say, by their names.

    That is each version of the object, the log as it was seen last and what was seen of it before, the
    calls of its receivers, and what the replicas said of it.
    """
    names = {f.name for f in report.findings.violations}
    names |= {sentence.partition(" ")[0].rstrip(":") for sentence in report.left}
    lines = {
        replica.log.name: replica.log.read_text(errors="replace").splitlines()
        for replica in world.here.processes
        if replica.log.exists()
    }
    return {
        seen[-1].name: {
            "uid": uid,
            "versions": [asdict(version) for version in seen],
            "log": asdict(log) if (log := world.archive.newest.get(uid)) else None,
            "earlier": [asdict(record) for record in world.archive.earlier.get(uid, ())],
            "calls": [asdict(call) for call in world.book if call.subject == seen[-1].name],
            "replicas": {
                file: [line for line in said if uid in line] for file, said in lines.items()
            },
        }
        for uid, seen in world.here.watcher.versions.items()
        if seen[-1].name in names
    }


def _revision(version: Version) -> int:
    return int(version.resource_version)


def _about(book: Iterable[Call], names: set[str], *, among: bool) -> list[Call]:
    return [c for c in book if (c.subject in names) is among]


def _of(logs: dict[str, Log], uids: Sequence[str]) -> dict[str, Log]:
    return {u: logs[u] for u in uids if u in logs}
