"""What a person does about each class of divergence that `syncer verify` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncer.rules.divergence import Divergence

ADVICE: Final[Mapping[Divergence, str]] = {
    Divergence.FOREIGN: "another program uses the prefix: remove its key, or set another"
    " redis.keyPrefix",
    Divergence.UNREADABLE: "nothing is sent for it; `syncer repair --rebuild` keeps the log aside and"
    " restores what is legible",
    Divergence.MISNAMED: "`syncer repair --rebuild` writes the log again under the right name",
    Divergence.MARK_BEYOND: "the log lost its end; `syncer repair --rebuild` lowers its marks",
    Divergence.LOG_MISSING: "`syncer repair` restores the log from the status",
    Divergence.LOG_BEHIND: "`syncer repair` restores the attempts from the status",
    Divergence.PLAN_MISSING: "`syncer repair` restores the plan from the status",
    Divergence.EXPIRING: "`syncer repair` removes the expiry",
    Divergence.STATUS_BEHIND: "`syncer repair` has the owner publish it",
    Divergence.ACKED: "`syncer repair` has the owner publish it",
    Divergence.STATUS_DIFFERS: "`syncer repair` has the owner write the status again",
    Divergence.OPEN_ATTEMPT: "`syncer repair` has the owner settle it; `syncer resolve` records its"
    " result",
    Divergence.UNACKED: "`syncer repair` has the owner mark it",
    Divergence.NO_EXPIRY: "`syncer repair` has the owner give the log its expiry",
    Divergence.ORPHAN: "`syncer repair` has the owner retire the log",
    Divergence.EPOCH_AHEAD: "if a log is: after a restore of etcd or a move to another cluster, raise"
    " sharding.incarnation by one; if only the status is, another client wrote it",
    Divergence.TWO_OPEN: "two attempts were begun at once, which the rules exclude: keep the log"
    " (`syncer export`) and report it",
    Divergence.CONFLICT: "one attempt has two definite results, which the rules exclude: keep the log"
    " (`syncer export`) and report it",
    Divergence.PHASE: "the status was written by another client; where an attempt did arrive,"
    " `syncer resolve` puts it on record",
    Divergence.NUMBERS: "the status was written by another client; nothing depends on the numbers",
    Divergence.OBJECT: "the object does not parse; correct or delete it",
}
