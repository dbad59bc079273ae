"""
Which runs and mutants there are, what each must come to, and the command that tables them.

A *run* has all rules in force and must break nothing; a *mutant* switches one rule off and must
break the property named beside it. A mutant that survives means that the check is too weak,
which is as bad as a broken rule. Mutants run in the smallest world that shows their harm: a
violation in a part of the behaviours is one in all of them.

    python -m tests.model.runs small|large|mutants
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.model import journal, protocol, sessions, wakeups
from tests.model.fairness import Promise
from tests.model.rules import without
from tests.model.search import Found, search

#: What kills a mutant that breaks no property but bars the way to the goal.
STUCK = "stuck"
#: What kills a mutant that breaks no property but a promise.
PROMISES = ("LOOK", "HAND", "DONE", "OWNED", "SESS", "GONE", "GO", "END")

P = protocol.Options
K = wakeups.Options
S = sessions.Options
O = journal.Options  # noqa: E741 - a letter for each model
Faults = wakeups.Budget
Lost = sessions.Budget
Out = journal.Budget

MODELS: Final[dict[type, Any]] = {P: protocol, K: wakeups, S: sessions, O: journal}

#: One step per status write, no lost replies: what a mutant needs seldom lies there.
QUIET = P(atomic=True, lean=True, quiet=True, give_ups=0)
STEPS = P(lean=True, quiet=True, give_ups=0)
LOSSY = P(atomic=True, lean=True, give_ups=0)
#: An operator orders one more attempt of a channel that had one.
ORDER = replace(QUIET, attempts=1, wishes=1)
LATE = P(atomic=True, lean=True, late_intents=True)
#: An operator says what became of an attempt.
VERDICT = replace(QUIET, verdicts=1)
VERDICT_1 = replace(VERDICT, attempts=1)
#: Any wake-up may be lost, any number of times; the second with a replica beside it.
DEAF = K(lossy=True)
DEAF_2 = replace(DEAF, replicas=2)
PAIR = K(replicas=2)
#: Nothing looks again by itself, and no wake-up is lost.
WAKE_UPS_ALONE = K(attempts=2, off=("resync",))


@dataclass(frozen=True, slots=True)
class Run:
    """
    All rules in force.

    Attributes:
        name: Short name.
        says: What happens in it.
        options: Of the model that their type belongs to.
        largest: What its marks come to at most; checked if given.
        seen: What must have come about in it (`marks` of its model), or it says nothing of that.
        max_states: Bound.
    """

    name: str
    says: str
    options: P | K | S | O
    largest: tuple[tuple[str, int], ...] = ()
    seen: tuple[str, ...] = ()
    max_states: int = 3_000_000


@dataclass(frozen=True, slots=True)
class Mutant:
    """
    One rule switched off.

    Attributes:
        name: Short name.
        says: What is done wrongly.
        options: Of the model that their type belongs to.
        killed_by: The property that must break, the promise that must not be kept, or `STUCK`.
        later: It breaks after others, which do not stop the search: its own rule's, say.
        large: Too long for every push.
        max_states: Bound.
    """

    name: str
    says: str
    options: P | K | S | O
    killed_by: str
    later: bool = False
    large: bool = False
    max_states: int = 3_000_000


SMALL: tuple[Run, ...] = (
    Run("D1", "no fault", P()),
    Run("D5", "crash, step by step", P(crashes=1)),
    Run("D2", "crash, late INTENT", P(crashes=1, late_intents=True, atomic=True, lean=True)),
    Run("E1", "takeover, step by step, one attempt", replace(STEPS, takeovers=1, attempts=1)),
    Run("L0", "the log falls back", replace(QUIET, losses=1)),
    Run("L0p", "the same, and it is noticed", replace(QUIET, losses=1, probe=True)),
    Run(
        "L2", "late INTENT, the log falls back, one attempt",
        replace(LATE, attempts=1, losses=1, probe=True),
    ),
    Run("F0", "FLUSH", replace(QUIET, flushes=1)),
    Run("W1", "an order, crash, one attempt", replace(ORDER, crashes=1)),
    Run("W2", "an order, late INTENT, one attempt", replace(LATE, attempts=1, wishes=1)),
    Run("W3", "an order, the log falls back, one attempt", replace(ORDER, losses=1)),
    Run("W4", "an order, two attempts, lost replies", replace(LOSSY, wishes=1)),
    Run(
        "J1", "a verdict, takeover, one attempt",
        replace(VERDICT_1, takeovers=1, refusals=True),
        seen=(
            "stands", "overtaken by a success", "overtaken by a refusal", "ended the channel",
            "delivered after the end", "too late", "of an earlier owner's attempt",
        ),
    ),
    Run(
        "J2", "two verdicts, lost replies, one attempt",
        replace(LOSSY, attempts=1, verdicts=2), seen=("both verdicts", "too late"),
    ),
    Run(
        "J3", "a verdict, open attempts too", replace(VERDICT, even_open=True, refusals=True),
        largest=(("processed", 2),),
        seen=("stands", "next attempt after failed", "overtaken by a success", "too late"),
    ),
    Run(
        "J4", "a verdict and an order, one attempt", replace(VERDICT_1, wishes=1),
        seen=("ends an order", "next attempt after failed"),
    ),
    Run(
        "J5", "a verdict, the log falls back, one attempt",
        replace(VERDICT_1, losses=1, refusals=True, even_open=True),
        seen=("of an attempt the log lost", "lost with the log", "overtaken by a refusal"),
    ),
    Run(
        "J6", "a verdict, crash, at most once, step by step",
        replace(STEPS, verdicts=1, once=True, crashes=1),
        seen=("next attempt after failed", "delivered after the end"),
    ),
    Run("K1", "any wake-up lost, two attempts", replace(DEAF, attempts=2)),
    Run(
        "K2", "no resync, nothing lost: crash, late INTENT",
        replace(WAKE_UPS_ALONE, faults=Faults(crashes=1, replies=1)),
    ),
    Run(
        "K3", "no resync, nothing lost: outage, damage, delete",
        replace(WAKE_UPS_ALONE, faults=Faults(outages=1, breaks=1, deletes=1)),
    ),
    Run(
        "K4", "renewal, late INTENT, attempt raises",
        replace(DEAF, attempts=2, faults=Faults(renewals=1, replies=1, raises=1)),
    ),
    Run(
        "K5", "renewal, log damaged, object deleted",
        replace(DEAF, faults=Faults(renewals=1, breaks=1, deletes=1)),
    ),
    Run(
        "K6", "outage, late INTENT, object deleted",
        replace(DEAF, faults=Faults(outages=1, replies=1, deletes=1)),
    ),
    Run(
        "K7", "two replicas: renewal, late INTENT",
        replace(DEAF_2, faults=Faults(renewals=1, replies=1)),
    ),
    Run(
        "K8", "two replicas: hand-over, object deleted",
        replace(DEAF_2, faults=Faults(handovers=1, deletes=1)),
    ),
    Run(
        "K9", "two replicas: one cut off, late INTENT",
        replace(DEAF_2, faults=Faults(cuts=1, replies=1)),
    ),
    Run(
        "K10", "two replicas: status refused, hand-over, late INTENT",
        replace(DEAF_2, refused=True, faults=Faults(handovers=1, replies=1)),
    ),
    Run(
        "K11", "two replicas: crash, log damaged",
        replace(DEAF_2, faults=Faults(crashes=1, breaks=1)),
    ),
    Run("T1", "sessions: no fault", S(), seen=("end compared in vain",)),
    Run(
        "T2", "sessions: crash and restart under the same name", S(faults=Lost(crashes=1, restarts=1)),
        seen=("taken over",),
    ),
    Run(
        "T3", "sessions: a replica is frozen", S(deadline=2, wire=2, faults=Lost(freezes=1)),
        seen=("taken over",),
    ),
    Run(
        "T4", "sessions: a replica is cut off", S(wire=2, faults=Lost(cuts=1)),
        seen=("taken over", "request outlives its term"),
    ),
    Run(
        "T5", "sessions: deleted by hand, a watch stalls", S(faults=Lost(deletes=1, stalls=1)),
        seen=("taken over",),
    ),
    Run(
        "T6", "sessions: hand-over, an answer is lost", S(faults=Lost(handovers=1, replies=1)),
        seen=("taken over", "named and not held"),
    ),
    Run(
        "T7", "sessions: a write is late", S(wire=2, faults=Lost(lates=1)),
        seen=("taken over", "request outlives its term"),
    ),
    Run(
        "U1", "upgrade: freeze, two hand-overs", S(old=True, faults=Lost(freezes=1, handovers=2)),
        seen=("taken over",),
    ),
    Run(
        "U2", "upgrade: an old and two new replicas, crash",
        S(old=True, replicas=3, faults=Lost(crashes=1)), seen=("taken over",),
    ),
    Run(
        "O1", "journal: two outages", O(faults=Out(outages=2)), largest=(("processed", 2),),
        seen=("journaled", "ahead of the log"),
    ),
    Run(
        "O2", "journal: outage, crash", O(faults=Out(outages=1, crashes=1)),
        seen=("carried on", "held", "ahead of the log"),
    ),
    Run(
        "O3", "journal: outage, takeover, one attempt",
        O(attempts=1, faults=Out(outages=1, takeovers=1)), largest=(("processed", 1),),
        seen=("journaled", "held"),
    ),
    Run(
        "O4", "journal: cut off, takeover, one attempt",
        O(attempts=1, faults=Out(cuts=1, takeovers=1)), largest=(("processed", 1),),
        seen=("journaled",),
    ),
    Run(
        "O5", "journal: outage, takeover, a write is late, one attempt",
        O(attempts=1, faults=Out(outages=1, takeovers=1, lates=1)),
    ),
    Run("O6", "journal: outage, the log falls back", O(faults=Out(outages=1, losses=1))),
    Run(
        "O7", "journal: outage, takeover, an empty log, one attempt",
        O(attempts=1, lean=True, faults=Out(outages=1, flushes=1, takeovers=1)),
    ),
    Run("O8", "journal: outage, API server away", O(faults=Out(outages=1, apis=1))),
    Run(
        "O9", "journal: outage, object deleted, another created",
        O(faults=Out(outages=1, deletes=1, again=1)),
    ),
    Run(
        "O10", "journal: created in an outage, crash, skew, one attempt",
        O(attempts=1, unborn=True, skew=1, margin=2, faults=Out(outages=1, crashes=1, ticks=2)),
        seen=("born in the outage", "held"),
    ),
    Run(
        "O11", "journal: outage, INTENT and note not answered",
        O(faults=Out(outages=1, replies=1)),
    ),
    Run(
        "O22", "journal: outage, a note is late, one attempt",
        O(attempts=1, faults=Out(outages=2, late_notes=1)),
    ),
    Run(
        "O24", "journal: created in a term, takeover, outage, one attempt",
        O(attempts=1, unborn=True, lean=True, faults=Out(outages=1, takeovers=1, ticks=1)),
        seen=("born in the outage",),
    ),
    Run(
        "O26", "journal: an operator's word, outage", O(faults=Out(outages=1, words=1)),
        seen=("word not heard", "journaled"),
    ),
    Run(
        "O27", "journal: an operator's word, created in a term, outage",
        O(unborn=True, lean=True, faults=Out(outages=1, words=1, ticks=1)),
    ),
    Run(
        "O28", "journal: outage, Lease deleted by hand, one attempt",
        O(attempts=1, lean=True, phases=True, faults=Out(outages=1, leases=1)),
    ),
    Run(
        "O12", "journal: a replica of before, takeover, one attempt",
        O(
            attempts=1, old=True, cut=True, unborn=True, lean=True,
            faults=Out(takeovers=1, ticks=1),
        ),
    ),
)  # fmt: skip

LARGE: tuple[Run, ...] = (
    Run("D2s", "crash, late INTENT, step by step", P(crashes=1, late_intents=True)),
    Run("E2", "takeover, two attempts, quiet", replace(QUIET, takeovers=1)),
    Run("E3", "takeover, two attempts, lost replies", replace(LOSSY, takeovers=1)),
    Run("F1", "crash, FLUSH", replace(QUIET, crashes=1, flushes=1)),
    Run("F2", "crash, FLUSH, plan", replace(QUIET, crashes=1, flushes=1, plan=True)),
    Run("L1", "crash, the log falls back", replace(QUIET, crashes=1, losses=1)),
    Run(
        "L3", "takeover, the log falls back, one attempt",
        replace(QUIET, takeovers=1, attempts=1, losses=1, probe=True),
    ),
    Run("L4", "late INTENT, the log falls back", replace(LATE, losses=1)),
    Run("G3", "takeover, the log falls back", replace(QUIET, takeovers=1, losses=1)),
    Run("G4", "takeover, FLUSH", replace(QUIET, takeovers=1, flushes=1)),
    Run("W5", "an order, takeover, one attempt", replace(ORDER, takeovers=1)),
    Run("W6", "the same, step by step", replace(STEPS, attempts=1, wishes=1, takeovers=1)),
    Run(
        "W7", "the same, late INTENT",
        replace(ORDER, takeovers=1, late_intents=True, give_ups=1),
    ),
    Run("W8", "two orders, crash, one attempt", replace(ORDER, wishes=2, crashes=1)),
    Run("W2b", "two orders, late INTENT", replace(LATE, attempts=1, wishes=2)),
    Run("W9", "an order, crash, FLUSH, one attempt", replace(ORDER, crashes=1, flushes=1)),
    Run("J7", "a verdict, crash", replace(VERDICT, crashes=1, refusals=True)),
    Run("J8", "a verdict, takeover", replace(VERDICT, takeovers=1), max_states=2_000_000),
    Run(
        "J9", "a verdict, takeover, step by step, one attempt",
        replace(STEPS, attempts=1, takeovers=1, verdicts=1, refusals=True),
    ),
    Run(
        "J10", "a verdict, crash, late INTENT, one attempt",
        replace(LATE, attempts=1, verdicts=1, crashes=1),
    ),
    Run("J11", "a verdict, the log falls back", replace(VERDICT, losses=1)),
    Run("J12", "a verdict, FLUSH", replace(VERDICT, flushes=1, refusals=True)),
    Run(
        "J13", "a verdict, takeover, FLUSH, one attempt",
        replace(VERDICT_1, takeovers=1, flushes=1), max_states=2_000_000,
    ),
    Run(
        "J14", "two verdicts and an order, one attempt",
        replace(VERDICT_1, verdicts=2, wishes=1, refusals=True),
    ),
    Run(
        "J15", "two verdicts, open attempts too", replace(VERDICT, verdicts=2, even_open=True),
    ),
    Run(
        "J16", "two verdicts, open attempts too, takeover, one attempt",
        replace(VERDICT_1, verdicts=2, even_open=True, takeovers=1, refusals=True),
    ),
    Run(
        "J17", "a verdict and an order, at most once, lost replies, one attempt",
        replace(LOSSY, attempts=1, verdicts=1, wishes=1, once=True),
    ),
    Run("E4", "takeover, FLUSH, one attempt", replace(QUIET, attempts=1, takeovers=1, flushes=1)),
    Run("E0", "takeover, crash, one attempt, every fault", P(takeovers=1, crashes=1, attempts=1)),
    Run(
        "K12", "two replicas: one cut off, object deleted",
        replace(DEAF_2, faults=Faults(cuts=1, deletes=1)),
    ),
    Run(
        "K13", "two replicas, two attempts: renewal, late INTENT",
        replace(DEAF_2, attempts=2, faults=Faults(renewals=1, replies=1)),
    ),
    Run(
        "K14", "two replicas: hand-over, renewal, late INTENT",
        replace(DEAF_2, faults=Faults(handovers=1, renewals=1, replies=1)),
    ),
    Run(
        "K15", "two replicas: crash, renewal, log damaged",
        replace(DEAF_2, faults=Faults(crashes=1, renewals=1, breaks=1)),
    ),
    Run("T8", "sessions: three replicas, crash", S(replicas=3, faults=Lost(crashes=1))),
    Run("T9", "sessions: two shards, freeze", S(shards=2, faults=Lost(freezes=1))),
    Run("T10", "sessions: freeze, deleted by hand", S(faults=Lost(freezes=1, deletes=1))),
    Run("T11", "sessions: freeze, a write is late", S(faults=Lost(freezes=1, lates=1))),
    Run("T12", "sessions: freeze, an answer is lost", S(faults=Lost(freezes=1, replies=1))),
    Run("T13", "sessions: freeze, hand-over", S(faults=Lost(freezes=1, handovers=1))),
    Run(
        "T14", "sessions: cut off, crash and restart",
        S(faults=Lost(cuts=1, crashes=1, restarts=1)),
    ),
    Run(
        "T15", "sessions: three replicas, freeze", S(replicas=3, faults=Lost(freezes=1)),
        max_states=400_000,
    ),
    Run("O13", "journal: outage, takeover", O(faults=Out(outages=1, takeovers=1)), seen=("carried on",)),
    Run("O14", "journal: outage, crash, a write is late", O(faults=Out(outages=1, crashes=1, lates=1))),
    Run(
        "O15", "journal: created in an outage, takeover",
        O(away=True, unborn=True, faults=Out(takeovers=1, ticks=1)),
        seen=("born in the outage", "carried on"),
    ),
    Run(
        "O16", "journal: created in an outage, crash",
        O(unborn=True, faults=Out(outages=1, crashes=1, ticks=2)),
    ),
    Run(
        "O17", "journal: cut off, takeover, crash, one attempt",
        O(attempts=1, faults=Out(cuts=1, takeovers=1, crashes=1)),
    ),
    Run(
        "O18", "journal: cut off, takeover, outage, one attempt",
        O(attempts=1, faults=Out(cuts=1, takeovers=1, outages=1)),
    ),
    Run(
        "O19", "journal: two outages, crash, the log falls back, one attempt",
        O(attempts=1, faults=Out(outages=2, crashes=1, losses=1)),
    ),
    Run(
        "O25", "journal: created after a takeover, cut off, one attempt",
        O(attempts=1, unborn=True, lean=True, faults=Out(cuts=1, takeovers=1, ticks=1)),
        seen=("born in the outage",),
    ),
    Run("O20", "journal: two outages, crash", O(faults=Out(outages=2, crashes=1))),
    Run("O21", "journal: cut off, takeover", O(faults=Out(cuts=1, takeovers=1))),
    Run(
        "O29", "journal: created in a term, skew, takeover, outage, one attempt",
        O(
            attempts=1, unborn=True, lean=True, skew=1, margin=2,
            faults=Out(outages=1, takeovers=1, ticks=2),
        ),
        seen=("born in the outage",),
    ),
    Run(
        "O30", "journal: an operator's word, two outages", O(faults=Out(outages=2, words=1)),
        seen=("word not heard",),
    ),
    Run(
        "O31", "journal: an operator's word, cut off, outage",
        O(lean=True, faults=Out(cuts=1, outages=1, words=1)), seen=("word not heard",),
    ),
    Run(
        "O32", "journal: an operator's word, two outages, three attempts",
        O(attempts=3, lean=True, faults=Out(outages=2, words=1)),
    ),
    Run(
        "O33", "journal: an operator's word, takeover, outage, one attempt",
        O(attempts=1, faults=Out(cuts=1, takeovers=1, outages=1, words=1)),
    ),
    Run(
        "O34", "journal: outage, crash, Lease deleted by hand, one attempt",
        O(attempts=1, lean=True, phases=True, faults=Out(outages=1, leases=1, crashes=1)),
    ),
)  # fmt: skip

T = replace(QUIET, takeovers=1)
T_1 = replace(T, attempts=1)
C = replace(QUIET, crashes=1)
FL = replace(QUIET, flushes=1)
FC = replace(QUIET, flushes=1, crashes=1)
LO = replace(QUIET, losses=1)

PROTOCOL_MUTANTS: tuple[Mutant, ...] = (
    Mutant("M1", "no fence", without(T, "fence"), "S9"),
    Mutant("M2", "id from the length of the log", without(FL, "ids_from_memory"), "S3"),
    Mutant("M3", "ACK before the patch", without(STEPS, "ack_after_patch"), "S10"),
    Mutant("M4", "no success guard", without(T, "success_guard"), "S7"),
    Mutant("M5", "no intent before the send", without(QUIET, "write_ahead"), "S1"),
    Mutant(
        "M6", "patch without version",
        without(STEPS, "compare_version", takeovers=1, attempts=1), "S4",
    ),
    Mutant("M7", "overwrite", without(T, "unite"), "S4"),
    Mutant(
        "M8", "INTENT on a log that fell back", without(LO, "stamp", "proof"), "S9"
    ),
    Mutant(
        "P2", "INTENT knows no stamp, takeover", without(T_1, "stamp", losses=1), "S12"
    ),
    Mutant(
        "P2b", "INTENT knows no stamp, and comes late",
        without(LATE, "stamp", attempts=1, losses=1), "S12",
    ),
    Mutant(
        "M9", "fence not higher, instead of equal",
        without(FL, "exact_fence", takeovers=1), "S9",
    ),
    Mutant("M10", "a missing key is no refusal", without(T_1, "need_key"), "S7cr"),
    Mutant("M11", "open attempts not settled", without(C, "recover"), STUCK),
    Mutant("M12", "ACK without the chain", without(FL, "ack_history"), "S10"),
    Mutant("M13", "an append keeps the expiry", without(T_1, "persist"), "S11"),
    Mutant(
        "M14", "expiry whatever was acknowledged",
        without(T_1, "expire_acked", "expire_here"), "S11",
    ),
    Mutant("M15", "expiry of unfinished objects", without(QUIET, "expire_final"), "S11"),
    Mutant("M16", "outcomes are fenced", without(T, "facts_unfenced"), "RK"),
    Mutant("M17", "an outcome creates no key", without(FL, "facts_create"), "RK"),
    Mutant("M20", "the cache is dropped at a claim", without(FL, "keep_cache"), "S2L"),
    Mutant("M21", "no seeds from the status", without(FC, "seed_status"), "CL"),
    Mutant("M23", "the plan is not restored", without(FC, "seed_plan", plan=True), "PL"),
    Mutant("M24", "Failed without another look", without(T_1, "reread_final"), "P5"),
    Mutant("M25", "no sweep", without(T_1, "sweep"), STUCK),
    Mutant("M27", "an id is used by two calls", without(LATE, "fresh_ids"), "S3"),
    Mutant(
        "M28", "any DUP permits", without(LOSSY, "dup_intent", takeovers=1), "P8"
    ),
    Mutant("M31", "no absorbing phase", without(T_1, "absorb", "server_rules"), "S6"),
    Mutant("M31c", "the same under server rules", without(T_1, "absorb"), STUCK),
    Mutant("M35", "position from the reply", without(T, "advance_checked"), "S10"),
    Mutant("M36", "own epoch not settled", without(LATE, "recover_own", attempts=1), STUCK),
    Mutant("M37", "old epoch used again", without(C, "new_epoch"), "S3"),
    Mutant("H1", "expiry with an open intent", without(T, "expire_settled"), "S10"),
    Mutant("H3", "object read before CLAIM", without(FL, "claim_first", takeovers=1), "S7f"),
    Mutant("H4", "a retry ignores that its claim has ended", without(T_1, "guard_retries"), "S9"),
    Mutant(
        "H6", "position compared without the chain",
        without(FL, "advance_chain", takeovers=1, attempts=1), "S10",
    ),
    Mutant("H8", "DUP answers before DONE", without(LOSSY, "done_first", takeovers=1), "P7"),
    Mutant(
        "R1", "settled only at a claim", without(LATE, "recover_seen", quiet=True), STUCK
    ),
    Mutant(
        "R2", "no other look after a conflict",
        without(STEPS, "reread_again", takeovers=1), "P5", large=True,
    ),
    Mutant(
        "R3", "plan restored only with attempts",
        without(FC, "seed_plan_alone", plan=True), "PL",
    ),
    Mutant(
        "R4", "Failed although the log holds another history",
        without(FL, "reread_held", attempts=1, takeovers=1), "P5",
    ),
    Mutant(
        "R5", "opened behind a Failed that may be written",
        without(VERDICT, "final_waits", once=True), "P6",
    ),
    Mutant("N", "attempts are numbered anew", without(FL, "settled_order"), "N"),
    Mutant("N2", "numbers out of log order", without(T, "log_order"), "N2"),
    Mutant("FO", "an outcome is appended twice", without(LOSSY, "raise_only"), "FO"),
    Mutant("OF", "an open attempt counts as used up", without(QUIET, "open_blocks"), "OF"),
    Mutant(
        "O1", "an order is never spent, and opens any number",
        without(ORDER, "order_spent", "order_limit"), "S12",
    ),
    Mutant(
        "O2", "INTENT knows no limit of an order",
        without(LATE, "order_limit", attempts=1, wishes=1, quiet=True), "S12",
    ),
    Mutant(
        "O3", "an order said again is another one",
        without(LOSSY, "order_named", attempts=1, wishes=1), "S12",
    ),
    Mutant("O4", "expiry with an order not carried out", without(ORDER, "order_kept"), "S11"),
    Mutant("O5", "a terminal phase bars orders", without(ORDER, "order_final"), STUCK),
    Mutant(
        "V1", "INTENT knows no verdicts", without(VERDICT, "verdict_guards"), "S7"
    ),
    Mutant(
        "V2", "a verdict of failure gives the attempt back",
        without(VERDICT, "verdict_counts"), "S12",
    ),
    Mutant(
        "V3", "a verdict is the last word",
        without(VERDICT_1, "verdict_yields", takeovers=1), "RK",
    ),
    Mutant(
        "V4", "a verdict is recorded whatever is known",
        without(VERDICT_1, "verdict_raises", verdicts=2), "VF",
    ),
    Mutant(
        "V4b", "the same, and it takes the place of what is known",
        without(VERDICT, "verdict_raises", "verdict_joins", verdicts=2), "S7cr", later=True,
    ),
    Mutant(
        "V4c", "the same, over a refusal for good",
        without(VERDICT, "verdict_raises", "refusal_stands", takeovers=1, refusals=True),
        "PF", later=True,
    ),
    Mutant(
        "V5", "another verdict counts as the same one",
        without(VERDICT_1, "verdict_named", verdicts=2), "VR",
    ),
    Mutant(
        "V6", "a verdict on an open attempt by mistake",
        without(VERDICT, "verdict_settled", crashes=1), "B1",
    ),
    Mutant(
        "V7", "a refusal for good is dropped behind a verdict",
        without(VERDICT_1, "verdict_final", takeovers=1, refusals=True), "RK",
    ),
    Mutant(
        "V8", "a later failure outweighs a refusal for good",
        without(VERDICT_1, "refusal_stands", losses=1, refusals=True, even_open=True), "S4",
    ),
    Mutant("V9", "at most once goes on", without(QUIET, "once_stops", once=True), "AM"),
)  # fmt: skip

ALONE = replace(WAKE_UPS_ALONE, attempts=1)

WAKEUP_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "W1", "no resync, a renewal's answer is lost",
        replace(ALONE, faults=Faults(renewals=1)), "LOOK",
    ),
    Mutant("W1b", "no resync, an attempt raises", replace(ALONE, faults=Faults(raises=1)), "LOOK"),
    Mutant("W1c", "no resync, a wake-up is lost", without(DEAF, "resync"), "LOOK"),
    Mutant(
        "W2", "the resync leaves out what is not claimed",
        without(DEAF, "resync_unclaimed"), "LOOK",
    ),
    Mutant(
        "W3", "the resync leaves out the quarantined",
        without(DEAF, "resync_quarantined", faults=Faults(breaks=1)), "LOOK",
    ),
    Mutant(
        "W4", "the resync leaves out what is deleted",
        without(DEAF, "resync_deleted", faults=Faults(deletes=1)), "LOOK",
    ),
    Mutant("W5", "re-queue dropped while in hand", without(ALONE, "requeue"), "LOOK"),
    Mutant(
        "W6", "a key whose handling raised is not given back",
        K(faults=Faults(outages=1), off=("give_back",)), "LOOK",
    ),
    Mutant(
        "W7", "an attempt that raised keeps its place",
        K(faults=Faults(raises=1), off=("free_place",)), "DONE",
    ),
    Mutant(
        "W8", "the end of an attempt wakes nobody",
        without(WAKE_UPS_ALONE, "outcome_wakes"), "LOOK",
    ),
    Mutant(
        "W9", "no timer for what is not due yet",
        without(WAKE_UPS_ALONE, "waits_by_timer"), "LOOK",
    ),
    Mutant("W10", "a lease term begins unnoticed", without(ALONE, "term_wakes"), "LOOK"),
    Mutant("N1", "notSent counted", K(faults=Faults(replies=1), off=("unsent_free",)), "BF"),
    Mutant(
        "N2", "notSent counted by INTENT alone",
        K(faults=Faults(replies=1), off=("intent_unsent_free",)), "DONE",
    ),
    Mutant(
        "N3", "an INTENT in doubt is forgotten",
        K(faults=Faults(replies=1), off=("doubt_settled",)), "BF",
    ),
    Mutant(
        "N4", "what a damaged log does not take is dropped",
        K(faults=Faults(breaks=1, deletes=1), off=("result_kept",)), "BF",
    ),
    Mutant(
        "H1", "hand-over waits for what backs off",
        without(PAIR, "leave_backing", refused=True, faults=Faults(handovers=1)), "HAND",
    ),
    Mutant(
        "H2", "hand-over waits for what Redis does not take",
        without(PAIR, "leave_unable", faults=Faults(cuts=1)), "HAND",
    ),
    Mutant(
        "H3", "who is cut off keeps the shard",
        without(PAIR, "hands_on", faults=Faults(cuts=1)), "LOOK",
    ),
    Mutant(
        "H4", "who is cut off competes for it",
        without(PAIR, "compete_able", faults=Faults(cuts=1)), "LOOK",
    ),
    Mutant(
        "D1", "deleting object still sent",
        K(faults=Faults(deletes=1), off=("deleting_stops",)), "DL",
    ),
    Mutant(
        "D2", "log retired while the object exists",
        K(faults=Faults(deletes=1), off=("retire_gone",)), "RT",
    ),
    Mutant(
        "D3", "no last sync of what is deleting",
        K(faults=Faults(deletes=1), off=("last_sync",)), "DONE",
    ),
)  # fmt: skip


SESSION_MUTANTS: tuple[Mutant, ...] = (
    Mutant("S1", "shards taken before the session is ended", S(off=("end_first",)), "SH"),
    Mutant("S1b", "the same, seen at the receiver", S(off=("end_first",)), "X", later=True),
    Mutant("S2", "a session ended whatever was renewed since", S(off=("end_compares",)), "NT"),
    Mutant("S2b", "the same, seen at the receiver", S(off=("end_compares",)), "X", later=True),
    Mutant("S3", "the deadline is a shard's", S(off=("session_counts",)), "SH"),
    Mutant(
        "S4", "a session that ended goes on in the next one",
        S(faults=Lost(freezes=1), off=("end_is_end",)), "SH",
    ),
    Mutant(
        "S5", "a session whose Lease is gone goes on",
        S(faults=Lost(deletes=1), off=("gone_is_over",)), "SH",
    ),
    Mutant(
        "S6", "what is absent is over, deleted by hand",
        S(faults=Lost(deletes=1), off=("absence_waits",)), "SH",
    ),
    Mutant(
        "S6b", "what is absent is over, ended by its own replica",
        S(wire=2, faults=Lost(cuts=1), off=("absence_waits",)), "X",
    ),
    Mutant(
        "S7", "an absence that a list shows counts from before",
        S(faults=Lost(deletes=1, stalls=1), off=("list_waits",)), "SH",
    ),
    Mutant(
        "S8", "404 is an end of one's own", S(faults=Lost(deletes=1), off=("not_found_waits",)), "SH"
    ),
    Mutant(
        "S9", "an acquisition counts for the session of its answer",
        S(replicas=1, faults=Lost(freezes=1, handovers=1), off=("answer_named",)), "SH",
    ),
    Mutant(
        "S10", "a renewal counts from when it is read back",
        S(deadline=2, faults=Lost(replies=1, cuts=1), off=("renewal_starts",)), "SH",
    ),
    Mutant(
        "S11", "the clock stands still in a frozen process",
        S(faults=Lost(freezes=1), off=("clock_goes_on",)), "SH",
    ),
    Mutant("S12", "no clock asked before a send", S(faults=Lost(freezes=1), off=("send_guard",)), "SH"),
    Mutant(
        "S13", "a release whose answer is lost ends no term",
        S(faults=Lost(handovers=1, replies=1), off=("release_ends",)), "SH",
    ),
    Mutant(
        "S14", "a shard acquired whatever was seen",
        S(faults=Lost(handovers=1), off=("acquire_compares",)), "SH",
    ),
    Mutant(
        "S15", "one watch of sessions and another of shards",
        S(faults=Lost(deletes=1), off=("one_stream",)), "SH",
    ),
    Mutant(
        "S16", "an acquisition that changes nothing",
        S(faults=Lost(handovers=1, replies=1), off=("counts_up",)), "EP",
    ),
    Mutant(
        "S17", "own shards that are not held are left",
        S(replicas=1, faults=Lost(handovers=1, replies=1), off=("own_again",)), "OWNED",
    ),
    Mutant(
        "S18", "a stalled watch is kept", S(faults=Lost(stalls=1, crashes=1), off=("reopens",)), "OWNED"
    ),
    Mutant("S19", "one session is all", S(faults=Lost(deletes=1), off=("begins_anew",)), "SESS"),
    Mutant(
        "S20", "sessions without a shard are left", S(faults=Lost(crashes=1), off=("ends_empty",)),
        "GONE",
    ),
    Mutant(
        "S22", "the own session ended by its name alone",
        S(faults=Lost(freezes=1, lates=1), off=("end_names",)), "NT",
    ),
    Mutant(
        "S23", "a new replica's shard expires for an old one",
        S(old=True, faults=Lost(handovers=1), off=("never_expires",)), "SH",
    ),
    Mutant(
        "S24", "the session that an old replica's shard still shows",
        S(old=True, faults=Lost(handovers=2), off=("note_checked",)), "SH",
    ),
    Mutant(
        "S25", "an old replica's shard is free", S(old=True, off=("old_waited",)), "SH"
    ),
    Mutant(
        "S26", "an acquisition compares with what was seen since it was judged",
        S(faults=Lost(handovers=1), off=("judged_written",)), "SH",
    ),
)  # fmt: skip


JOURNAL_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "O0", "the lease check is late by a takeover",
        O(faults=Out(cuts=1, takeovers=1), off=("true_guard",)), "S7",
    ),
    Mutant(
        "O1", "the lease is checked before the write alone",
        O(faults=Out(cuts=1, takeovers=1), off=("guard_after",)), "S7",
    ),
    Mutant(
        "O2", "the note after a send",
        O(lean=True, faults=Out(outages=1, crashes=1), off=("note_first",)), "GO",
    ),
    Mutant(
        "O3", "the note is removed after an INTENT",
        O(
            attempts=1, away=True, unborn=True, faults=Out(outages=1, crashes=1, ticks=1),
            off=("note_gone",),
        ),
        "S12",
    ),
    Mutant(
        "O4", "a note that was not answered is not there",
        O(attempts=1, faults=Out(outages=1, replies=1), off=("note_doubt",)), "END",
    ),
    Mutant(
        "O23", "a look at the Lease tells that no note comes",
        O(attempts=1, faults=Out(outages=1, late_notes=1), off=("doubt_written",)), "END",
    ),
    Mutant(
        "O5", "the mark after the first send",
        O(lean=True, faults=Out(outages=1, crashes=1), off=("mark_first",)), "GO",
    ),
    Mutant(
        "O6", "the mark without the own memory",
        O(lean=True, faults=Out(outages=1, crashes=1), off=("mark_whole",)), "S12",
    ),
    Mutant(
        "O7", "an old mark counts: INTENT before the mark is gone",
        O(lean=True, faults=Out(outages=2, crashes=1), off=("mark_named",)), "S12",
    ),
    Mutant(
        "O8", "a second owner trusts an object without a mark",
        O(faults=Out(outages=1, crashes=1), off=("trusts_marks",)), "S7",
    ),
    Mutant(
        "O9", "born in the outage, without the margin",
        O(attempts=1, unborn=True, faults=Out(outages=1, crashes=1), off=("born_later",)), "S12",
    ),
    Mutant(
        "O9b", "a margin below the skew of two API servers",
        O(attempts=1, unborn=True, skew=1, margin=1, faults=Out(outages=1, crashes=1)), "S12",
    ),
    Mutant(
        "O24", "created in the second in which the term began",
        O(attempts=1, faults=Out(outages=1, crashes=1), off=("own_later",)), "S12",
    ),
    Mutant(
        "O24b", "a margin below the skew, created before the term began",
        O(
            attempts=1, unborn=True, lean=True, skew=1, margin=1,
            faults=Out(outages=1, takeovers=1),
        ), "S12",
    ),
    Mutant(
        "O10", "the memory of an earlier term",
        O(lean=True, faults=Out(outages=1, takeovers=2), off=("this_term",)), "S7",
    ),
    Mutant(
        "O11", "a journaled write without resourceVersion",
        O(faults=Out(outages=1, takeovers=1), off=("compares",)), "LOST",
    ),
    Mutant(
        "O11b", "the same, and another object has its name",
        O(attempts=1, faults=Out(outages=1, deletes=1, again=1), off=("compares",)), "UID",
    ),
    Mutant(
        "O12", "both places send at once, a partition having healed",
        O(faults=Out(cuts=1), off=("one_flight",)), "B1",
    ),
    Mutant(
        "O13", "a journaled attempt's result is dropped when the log is back",
        O(faults=Out(outages=1), off=("keeps_results",)), "RK",
    ),
    Mutant(
        "O14", "the object is not read after a claim",
        O(faults=Out(outages=1, crashes=1), off=("reads_object",)), "S7",
    ),
    Mutant("O15", "the old claim goes on", O(faults=Out(outages=1), off=("claims_anew",)), "S12"),
    Mutant(
        "O16", "what a former owner journaled waits",
        O(lean=True, faults=Out(outages=1, crashes=1), off=("carries_on",)), "GO",
    ),
    Mutant("O17", "who is cut off keeps its shards", O(faults=Out(cuts=1), off=("hands_over",)), "END"),
    Mutant("O18", "the note is never removed", O(faults=Out(outages=1), off=("removes_note",)), "END"),
    Mutant(
        "O19", "a result that the log cannot take waits for it",
        O(faults=Out(outages=1), off=("results_journaled",)), "GO",
    ),
    Mutant(
        "O20", "what a former owner writes into the object is not looked at",
        O(attempts=1, faults=Out(cuts=1, takeovers=1), off=("sees_object",)), "END",
    ),
    Mutant(
        "O21", "a journaled attempt's result in the log alone",
        O(faults=Out(outages=2, crashes=1), off=("results_shown",)), "S7",
    ),
    Mutant(
        "O26", "another server is noticed by an INTENT alone",
        O(faults=Out(outages=1, losses=1), off=("probes",)), "END",
    ),
    Mutant(
        "O27", "who is answered reads reaches the log",
        O(reads=True, faults=Out(outages=1), off=("by_writes",)), "GO",
    ),
    Mutant(
        "O27b", "the same, and keeps its shards",
        O(reads=True, faults=Out(cuts=1), off=("by_writes",)), "END",
    ),
    Mutant(
        "O28", "memory counts that missed wake-ups",
        O(lean=True, faults=Out(cuts=1, outages=1, words=1), off=("heard_anew",)), "S7",
    ),
    Mutant(
        "O29", "memory counts that was told of more",
        O(lean=True, faults=Out(outages=1, words=1), off=("told",)), "S7",
    ),
    Mutant(
        "O30", "what was created in the term is known, whoever may have spoken since",
        O(lean=True, unborn=True, faults=Out(outages=1, words=1, ticks=1), off=("own_heard",)), "S7",
    ),
    Mutant(
        "O31", "a note of before the log was reached counts on",
        O(attempts=3, lean=True, faults=Out(outages=2, words=1), off=("marks_heard",)), "S7",
    ),
    Mutant(
        "O32", "a Lease made anew says nothing of marks",
        O(
            attempts=1, lean=True, phases=True, faults=Out(outages=1, leases=1, crashes=1),
            off=("marks_assumed",),
        ),
        "END",
    ),
    Mutant(
        "O22", "a note that a replica of before has not removed",
        O(
            attempts=1, old=True, cut=True, unborn=True, lean=True, faults=Out(takeovers=1, ticks=1),
            off=("note_kept",),
        ),
        "S12",
    ),
)  # fmt: skip

#: Marks have no name and are taken away before an INTENT; a former owner's write comes late (O7).
UNNAMED = O(
    cut=True, unborn=True, unmarks=True, faults=Out(takeovers=1, crashes=1, ticks=1), off=("mark_named",)
)  # fmt: skip
UNNAMED_TRACE = (
    "0 writes the note", "fault: a second passes", "the object is created", "0 reads to journal",
    "fault: 1 takes over", "1 removes the note", "1 claims", "1 reads the object",
    "1 opens in the log", "0 journals", "0 may not send", "1 may send", "1 sends",
    "request 2-1: processed, reply lost", "fault: 1 crashes", "0 records: in the status",
    "0 sees that its term is over", "0 acquires", "0 writes the note", "0 reads to journal",
    "0 journals", "0 may send", "0 sends", "request 3-1: processed",
)  # fmt: skip

#: Rules that another one makes up for: each alone survives a complete run. M14 has both of its rules off,
#: M8 has P1 and the stamp.
REDUNDANT: tuple[Mutant, ...] = (
    Mutant("H2", "expiry at an earlier position", without(T, "expire_here"), "", large=True),
    Mutant("M14a", "expiry below `acked`", without(T, "expire_acked"), "", large=True),
    Mutant(
        "S21",
        "acquired without a valid session",
        S(faults=Lost(cuts=1, replies=1), off=("acquire_valid",)),
        "",
        large=True,
    ),
    Mutant("P1", "INTENT knows no history, late", without(LATE, "proof", attempts=1, losses=1), ""),
    Mutant(
        "O25",
        "INTENT knows no stamp, takeover",
        O(attempts=1, lean=True, faults=Out(outages=1, losses=1, takeovers=1), off=("stamp",)),
        "",
    ),
)

#: (P2) The log falls back to what an owner has read, while his INTENT is on its way.
S12_TRACE = (
    "takeover by 1", "0 claims", "0 reads the object", "0 holds the claim", "0 asks for 1-1",
    "1 claims", "1 reads the object", "1 holds the claim", "1 asks for 2-1",
    "INTENT 2-1 of 1: OK", "1 sends 2-1", "1 times out", "1 records 2-1 unknown", "1 patches",
    "log falls back to 0 records, epoch 1", "INTENT 1-1 of 0: OK",
)  # fmt: skip
#: (P2) The same where the receiver has processed the other owner's, and the object shows it.
B1L_TRACE = (
    *S12_TRACE[:11], "2-1 processed, reply read", "1 records 2-1 success", "1 patches",
    "log falls back to 0 records, epoch 1", "INTENT 1-1 of 0: OK", "0 sends 1-1",
    "1-1 processed, reply read",
)  # fmt: skip
#: (P2b) The same of one process, which has given the INTENT up.
S12B_TRACE = (
    "0 claims", "0 reads the object", "0 holds the claim", "0 asks for 1-1",
    "INTENT 1-1 of 0: OK, reply lost", "0 gives 1-1 up, INTENT on the way", "0 claims",
    "0 reads the object", "0 settles 1-1 as not sent", "0 holds the claim", "0 patches",
    "log falls back to 0 records, epoch 1", "late INTENT 1-1: OK",
)  # fmt: skip

#: (H5) The key goes, and outcomes build it up again with another history and the same last record.
H5 = replace(LOSSY, takeovers=1, flushes=1, rereads=True)
H5_TRACE = (
    "takeover by 1", "0 claims", "0 reads the object", "0 holds the claim", "0 asks for 1-1",
    "INTENT 1-1 of 0: OK", "0 sends 1-1", "1 claims", "1 reads the object", "1 recovers 1-1",
    "1 holds the claim", "1 asks for 2-1", "INTENT 2-1 of 1: OK", "1 sends 2-1", "2-1 refused",
    "1 records 2-1 failed, reply lost", "1 sweeps", "1 patches", "FLUSH", "1-1 refused",
    "0 records 1-1 failed", "1 records 2-1 failed", "1 ACK 4",
)  # fmt: skip


#: (M20b) The key goes between the two claims, and with it a success that the first of them has read.
M20B = replace(FL, takeovers=1)
M20B_TRACE = (
    "takeover by 1", "0 claims", "0 reads the object", "0 holds the claim", "0 asks for 1-1",
    "INTENT 1-1 of 0: OK", "0 sends 1-1", "1 claims", "1 reads the object", "1 recovers 1-1",
    "1 holds the claim", "1 asks for 2-1", "INTENT 2-1 of 1: OK", "1 sends 2-1",
    "1-1 processed, reply read", "2-1 processed, reply read", "1 records 2-1 success", "1 patches",
    "1 ACK 4", "log expires", "0 records 1-1 success", "1 claims", "FLUSH", "1 reads the object",
    "1 claims with what the status shows",
)  # fmt: skip


#: A session is deleted by hand while its replica still sends, and somebody takes its shard (S6).
S6_TRACE = (
    "fault: the session of 0 is deleted by hand", "1 is shown what happened", "1 asks for 0",
    "0 names 1", "0 sends for 0",
)  # fmt: skip
#: Who was cut off ends its own session while its request is on the way (S6b).
S6B_TRACE = (
    "fault: 0 is cut off", "tick", "0 sends for 0", "1 renews", "tick",
    "end of fault: 0 reaches the server", "0 ends what stands under its name",
    "1 is shown what happened", "1 asks for 0", "0 names 1", "1 acquires 0", "1 sends for 0",
)  # fmt: skip
#: The session was renewed unseen, then deleted by hand; ending it finds nothing (S8).
S8_TRACE = (
    "tick", "0 renews", "fault: the session of 0 is deleted by hand", "1 renews", "tick",
    "1 ends the session of 0: gone", "1 asks for 0", "0 names 1", "0 sends for 0",
)  # fmt: skip
#: An acquisition is answered after its session was ended and the next one has begun (S9).
S9_TRACE = (
    "tick", "0 renews", "0 releases 0", "1 is shown what happened", "1 asks for 0",
    "fault: 1 is frozen", "tick", "end of fault: 1 wakes", "0 ends the session of 1", "0 names 1",
    "1 finds its session over", "1 begins a session", "1 acquires 0", "1 sends for 0",
)  # fmt: skip


#: Two operators look, one says failed, and the other is told that delivered is on record (V5).
V5_TRACE = (
    "0 claims", "0 reads the object", "0 holds the claim", "0 asks for 1-1", "INTENT 1-1 of 0: OK",
    "0 sends 1-1", "0 times out", "0 records 1-1 unknown", "operator calls 1-1 failed",
    "operator calls 1-1 delivered", "NOTE 1-1 failed", "NOTE 1-1 delivered: NOOP",
)  # fmt: skip
#: A verdict of failure arrives after the old owner has recorded a refusal for good (V4c).
V4C_TRACE = (
    "takeover by 1", "0 claims", "0 reads the object", "0 holds the claim", "0 asks for 1-1",
    "INTENT 1-1 of 0: OK", "0 sends 1-1", "1 claims", "1 reads the object", "1 recovers 1-1",
    "operator calls 1-1 failed", "1-1 refused for good", "0 records 1-1 refused",
    "NOTE 1-1 failed", "0 sweeps", "0 asks for 1-2",
)  # fmt: skip
#: The log is lost and built up again by a verdict of delivery; the owner says Failed (R4).
R4_TRACE = (
    "0 claims", "0 reads the object", "0 holds the claim", "0 asks for 1-1", "INTENT 1-1 of 0: OK",
    "0 sends 1-1", "0 times out", "0 records 1-1 unknown", "operator calls 1-1 delivered",
    "log falls back to 0 records, epoch 1", "NOTE 1-1 delivered", "0 patches",
)  # fmt: skip
#: Failed is written, its answer lost; a verdict of failure opens the channel again (R5).
R5_TRACE = (
    "0 claims", "0 reads the object", "0 holds the claim", "0 asks for 1-1", "INTENT 1-1 of 0: OK",
    "0 sends 1-1", "0 times out", "0 records 1-1 unknown", "0 patches, reply lost",
    "operator calls 1-1 failed", "NOTE 1-1 failed", "0 sweeps", "0 asks for 1-2",
    "INTENT 1-2 of 0: OK",
)  # fmt: skip


def execute(
    options: P | K | S | O,
    *,
    live: bool = True,
    watch: tuple[str, ...] | None = None,
    max_states: int = 3_000_000,
    name: str = "",
) -> Found[Any]:
    """
    Search the model that the options belong to.

    `live` asks for a way to the goal as well, of the later ones for their promises; `watch` names the
    properties that stop it, None for all.
    """
    model: Any = MODELS[type(options)]

    def of(function: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
        return lambda state: function(state, options)

    # Without verdicts the first has nothing to mark, and the second never has.
    marked = options.verdicts > 0 if isinstance(options, P) else not isinstance(options, K)
    goal = of(model.is_goal) if live and isinstance(options, P) else None
    promises = model.PROMISES if live and goal is None else {}
    return search(
        model.start(options),
        of(model.steps),
        goal=goal,
        promises=[Promise(name, of(pending), by) for name, (pending, by) in promises.items()],
        watch=watch,
        measures=of(model.marks) if marked else None,
        max_states=max_states,
        name=name,
    )


def complaint(run: Run, found: Found[Any]) -> str:
    """What is wrong with the result of a run, empty if nothing is."""
    if found.violation is not None or found.stuck or found.unkept:
        return found.verdict
    for key, value in run.largest:
        if found.largest[key] != value:
            return f"{key}: {found.largest[key]}, expected {value}"
    missed = [mark for mark in run.seen if not found.largest[mark]]
    return f"never seen: {', '.join(missed)}" if missed else ""


def model_of(mutant: Mutant) -> int:
    """Number of the model that a mutant is of."""
    return 1 + list(MODELS).index(type(mutant.options))


def watched(mutant: Mutant) -> tuple[str, ...] | None:
    """What stops the search for a mutant's harm."""
    return (mutant.killed_by,) if mutant.later else None


def survives(mutant: Mutant, found: Found[Any]) -> str:
    """Why a mutant was not killed as it should be, empty if it was."""
    if mutant.killed_by == STUCK:
        return "" if found.stuck else f"not stuck: {found.verdict}"
    if mutant.killed_by in PROMISES:
        unkept = [u.name for u in found.unkept or ()]
        return "" if mutant.killed_by in unkept else f"kept: {found.verdict}"
    if found.violation is None:
        return f"survives: {found.verdict}"
    if mutant.killed_by not in found.violation.properties:
        return f"killed by {', '.join(found.violation.properties)}, not by {mutant.killed_by}"
    return ""


def main(arguments: Sequence[str]) -> int:
    """Run one part and print its table; 1 if anything is not as it should be."""
    match list(arguments):
        case ["small"]:
            bad = _table(SMALL)
        case ["large"]:
            bad = _table(LARGE) + _kill([m for m in _mutants() if m.large])
        case ["mutants"]:
            bad = _kill(_mutants()) + _table(
                [Run(f"{m.name} alone", m.says, m.options) for m in REDUNDANT]
            )
        case _:
            print("usage: model small|large|mutants", file=sys.stderr)
            return 2
    return 1 if bad else 0


def _mutants() -> list[Mutant]:
    return [
        *PROTOCOL_MUTANTS,
        *WAKEUP_MUTANTS,
        *SESSION_MUTANTS,
        *JOURNAL_MUTANTS,
    ]


def _line(name: str, says: str, found: Found[Any], verdict: str) -> None:
    print(
        f"{name:22} {says:45} {found.states:>10,} {found.transitions:>11,}"
        f" {found.seconds:>7.1f}  {verdict}",
        flush=True,
    )


def _head(name: str) -> None:
    print(f"{name:22} {'':45} {'states':>10} {'transitions':>11} {'seconds':>7}  verdict")


def _table(runs: Sequence[Run]) -> int:
    _head("run")
    bad = 0
    for run in runs:
        found = execute(run.options, max_states=run.max_states, name=run.name)
        wrong = complaint(run, found)
        _line(run.name, run.says, found, f"WRONG: {wrong}" if wrong else found.verdict)
        if wrong:
            bad += 1
            print(found.violation or "\n".join(found.stuck_trace))
            for promise in found.unkept or ():
                print(promise)
    return bad


def _kill(mutants: Sequence[Mutant]) -> int:
    _head("mutant")
    bad = 0
    for mutant in mutants:
        live = mutant.killed_by in (STUCK, *PROMISES)
        found = execute(
            mutant.options, live=live, watch=watched(mutant), max_states=mutant.max_states,
            name=mutant.name,
        )  # fmt: skip
        wrong = survives(mutant, found)
        model = model_of(mutant)
        verdict = f"SURVIVES: {wrong}" if wrong else f"killed: {found.verdict}"
        _line(f"{mutant.name} (model {model})", mutant.says, found, verdict)
        bad += bool(wrong)
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
