"""
What notices that a protection is switched off: faults that provoke it, and the rules that it breaks.

In worlds with just these faults few seeds are enough. `FIRST` says where to begin; it is renewed by hand
when changes have shifted the draws, and only time depends on it.
"""

from __future__ import annotations

from typing import Final

from tests.simulation.checks import Violation
from tests.simulation.mutants import switched_off
from tests.simulation.world import run

#: A replica sees late that its shard has gone, and its send begins late after its intent.
_FAR_BEHIND: Final = "watch lag, redis slow, receiver 503, operator"
#: All servers are away at times, and owners die meanwhile.
_AWAY: Final = "redis down, crash, kube down, receiver slow, redis slow"
#: What leaves little time to a forger, who else takes back what it has suppressed.
_OFTEN: Final = (
    "receiver 503, receiver 429, receiver slow, receiver drop, receiver late, watch close"
)
#: For each mutant: the rules that it breaks, faults that provoke it, and whether they must end.
KILLERS: Final = {
    "no fence": ({"S8", "S9"}, "pause, receiver slow, redis slow", False),
    "ack before patch": ({"S10"}, "receiver 503", False),
    "overwrite instead of union": (
        {"S4", "oracle after-success"},
        "pause, crash, receiver 503, receiver slow, redis lose, redis failover, redis flush",
        False,
    ),
    "send before intent": ({"S1"}, "receiver 503", False),
    "no resourceVersion": ({"S4"}, "kube late, receiver 503", False),
    "no recovery": ({"L1"}, "crash, receiver slow, redis lose, receiver hang", True),
    "stale read at the claim": ({"S7"}, "watch lag, redis flush, drain", False),
    "failover without re-claim": (
        {"S3"}, "redis failover, redis lose, redis late, redis slow, receiver 503", False,
    ),
    "no stamp": (
        {"S3"}, "redis failover, redis lose, redis late, redis slow, receiver 503", False,
    ),
    "notSent counted": ({"E1"}, "redis lose, redis restart, redis slow, redis late", True),
    "order never spent": ({"O1", "S12"}, "operator, receiver 503", False),
    "log with an order expires": ({"O2"}, "operator, receiver 503, hold", False),
    "no resync": ({"L2"}, "renewal lost, receiver 503, operator", True),
    "key of a failed look kept": ({"L2", "L1"}, "redis lose, kube lose, receiver 503", True),
    "resync of claimed logs only": ({"L2"}, "redis corrupt, mend, receiver 503", True),
    "deletion ignored until it is done": ({"S19"}, "finalizer, receiver 503", False),
    "unable replica keeps its shards": ({"H2"}, "redis cut, receiver 503", False),
    "hand-over waits for what backs off": ({"H1"}, "status refused, drain, receiver 503", False),
    "shards taken before the session is ended": ({"X1"}, f"pause, {_FAR_BEHIND}", False),
    "session ended without its resourceVersion": ({"X2"}, "pause, receiver 503", False),
    "deadline taken from a shard's Lease": ({"X1"}, _FAR_BEHIND, False),
    "session that ended goes on": ({"X1"}, f"pause, {_FAR_BEHIND}", False),
    "absent session is over": ({"X1"}, f"session deleted, {_FAR_BEHIND}", False),
    "no clock asked before a send": ({"X1"}, "pause, redis slow, receiver 503, operator", False),
    "every object trusted": ({"S7", "S12", "B1"}, _AWAY, False),
    "mark of an earlier outage counts": (
        {"S7", "S12", "B1"},
        "redis down, crash, receiver 503, receiver slow, kube slow, kube lose",
        False,
    ),
    "log used under a note": ({"S7", "S12", "B1"}, _AWAY, False),
    "no clock asked after the write ahead": (
        {"X1"}, "pause, redis down, kube slow, receiver 503", False,
    ),
    "written under an old claim": ({"S20"}, "session deleted, redis slow, receiver 503", False),
    "status followed unjudged": ({"F5"}, "forger, redis mute, receiver 503, crash", True),
    "holds disregarded": ({"H3"}, "annotation, delivery hold, receiver 503", False),
    "journaled after the send": ({"S1"}, "redis down, receiver 503", False),
    "journaled result not kept": ({"S12", "B1"}, "redis down, crash, receiver 503", True),
    "result shown before its record": ({"S13"}, "redis slow, receiver 503", False),
    "old claim goes on after journaling": ({"self-audit", "B1"}, "redis down, receiver 503", True),
    "marked object summed up": ({"L1"}, "redis down, crash", True),
    "plan of a status": ({"F2"}, "forger, receiver 503", False),
    "stored status decides": ({"F1", "F4"}, "forger, receiver 503", True),
    "every final phase supported": ({"F4"}, f"forger, {_OFTEN}", True),
    "attempts without grounds": ({"F1"}, "forger, receiver 503", False),
    "retold attempts believed": ({"F7"}, "forger, receiver 503", False),
    "absence always believed": ({"B1", "S7", "L1"}, "forger, redis flush, crash, receiver 503", True),
    "store not compared": ({"B1", "S7", "L1"}, "forger, redis flush, crash, receiver 503", True),
    "every mark believed": ({"F1"}, "forger, receiver 503", False),
    "every object adopted": ({"F1"}, "forger, receiver 503", False),
    "absence believed unseen": ({"S4", "B1", "S7", "L1"}, "forger, redis flush, crash, receiver 503", True),
    "fallback used at once": ({"F3"}, "receiver 503", False),
    "nothing supersedes": ({"I1"}, "receiver 503, receiver slow", True),
    "nobody waits for another of an incident": ({"I1"}, "receiver late", True),
}  # fmt: skip
#: Where to begin for those that few seeds kill; the ones after it are tried when a change has shifted
#: the draws.
FIRST: Final = {
    "no fence": 54,
    "every final phase supported": 228,
    "stale read at the claim": 217,
    "failover without re-claim": 79,
    "no stamp": 44,
    "no resync": 258,
    "hand-over waits for what backs off": 83,
    "shards taken before the session is ended": 166,
    "session that ended goes on": 246,
    "absent session is over": 38,
    "no clock asked before a send": 216,
    "every object trusted": 9,
    "mark of an earlier outage counts": 110,
    "status followed unjudged": 69,
    "holds disregarded": 286,
    "log used under a note": 25,
    "no clock asked after the write ahead": 109,
    "journaled result not kept": 76,
    "old claim goes on after journaling": 71,
    "overwrite instead of union": 8,
    "deadline taken from a shard's Lease": 26,
    "absence always believed": 38,
    "store not compared": 85,
    "retold attempts believed": 34,
    "absence believed unseen": 77,
    "every mark believed": 16,
    "fallback used at once": 11,
    "nobody waits for another of an incident": 7,
}  # fmt: skip
#: How many seeds are tried.
TRIES: Final = 150
#: Seconds of faults that what lasts long needs to show.
LASTING: Final = {
    "unable replica keeps its shards": 60.0,
    "hand-over waits for what backs off": 60.0,
    "status followed unjudged": 60.0,
    "every object trusted": 60.0,
    "mark of an earlier outage counts": 90.0,
    "log used under a note": 60.0,
    "no clock asked after the write ahead": 40.0,
    "journaled result not kept": 40.0,
    "old claim goes on after journaling": 40.0,
    "marked object summed up": 40.0,
}
#: Those that show only where attempts are journaled.
JOURNALED: Final = frozenset(
    {
        "every object trusted",
        "mark of an earlier outage counts",
        "log used under a note",
        "no clock asked after the write ahead",
        "journaled after the send",
        "journaled result not kept",
        "old claim goes on after journaling",
        "marked object summed up",
    }
)
#: Those that take long to show; `scripts/simulate --protections` looks for them too, CI does not.
NIGHTLY: Final = frozenset(
    {
        "journaled result not kept",
        "old claim goes on after journaling",
        "every final phase supported",
        "mark of an earlier outage counts",
    }
)


def hunt(name: str) -> tuple[int, Violation] | None:
    """Find a world in which it shows that a protection is off, and the rule that it stands for."""
    rules, faults, live = KILLERS[name]
    first = FIRST.get(name, 0)
    for seed in range(first, first + TRIES):
        with switched_off(name):
            violation = run(
                seed,
                live=live,
                faults=frozenset(faults.split(", ")),
                chaos=LASTING.get(name, 0.0),
                journal=name in JOURNALED,
                incidents="I1" in rules,
                tail=0,
            ).violation
        # What it breaks besides is no proof of the rule that it stands for.
        if violation is not None and violation.rule in rules:
            return seed, violation
    return None
