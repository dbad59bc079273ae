"""
Who can have caused each class of divergence, and what a person does about it.

A class says what is wrong, not who caused it: a log looks the same after a crash of Redis as after somebody
has edited it. So each class names everybody who can have caused it, the likeliest first (docs/security.md
lists their rights).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from syncer.rules.divergence import Divergence


class Advice(NamedTuple):
    """The causes of a class, and what to do about it."""

    cause: str
    do: str

    def __str__(self) -> str:
        """Both, as a command and the explorer show them."""
        return f"{self.do} (caused by {self.cause})"


_REDIS: Final = "somebody who may write to Redis"
_STATUS: Final = "somebody who may write statuses"
_LOSS: Final = f"Redis, which lost records, or {_REDIS}"
_DAMAGE: Final = f"a damaged disk, or {_REDIS}"
_LATE: Final = "an owner that was ended or delayed"
_DEFECT: Final = f"a defect of this controller, or {_REDIS}"
_CLAIM: Final = f"{_LOSS}, or {_STATUS}"

ADVICE: Final[Mapping[Divergence, Advice]] = {
    Divergence.FOREIGN: Advice(
        f"another program, or {_REDIS}",
        "another program uses the prefix: remove its key, or set another redis.keyPrefix",
    ),
    Divergence.UNREADABLE: Advice(
        _DAMAGE,
        "nothing is sent for it; `syncer verify --repair --rebuild` keeps the log aside and"
        " restores what is legible",
    ),
    Divergence.MISNAMED: Advice(
        _REDIS, "`syncer verify --repair --rebuild` writes the log again under the right name"
    ),
    Divergence.MARK_BEYOND: Advice(
        _LOSS, "the log lost its end; `syncer verify --repair --rebuild` lowers its marks"
    ),
    Divergence.LOG_MISSING: Advice(
        _CLAIM,
        "`syncer verify --repair --unwitnessed --by NAME` restores the log from the status, if you"
        " vouch for it",
    ),
    Divergence.LOG_BEHIND: Advice(
        _CLAIM,
        "`syncer verify --repair --unwitnessed --by NAME` takes the attempts from the status, if"
        " you vouch for them; `syncer resend` goes by the log",
    ),
    Divergence.PLAN_MISSING: Advice(
        _CLAIM,
        "`syncer verify --repair --unwitnessed --by NAME` takes the plan from the status, if you"
        " vouch for it",
    ),
    Divergence.EXPIRING: Advice(_REDIS, "`syncer verify --repair` removes the expiry"),
    Divergence.STATUS_BEHIND: Advice(
        f"{_LATE}, or {_STATUS}", "`syncer verify --repair` has the owner publish it"
    ),
    Divergence.ACKED: Advice(
        f"{_STATUS}, or {_REDIS}", "`syncer verify --repair` has the owner publish it"
    ),
    Divergence.STATUS_DIFFERS: Advice(
        f"{_STATUS}, or {_REDIS}", "`syncer verify --repair` has the owner write the status again"
    ),
    Divergence.OPEN_ATTEMPT: Advice(
        _LATE,
        "`syncer verify --repair` has the owner settle it; `syncer resolve` records its result",
    ),
    Divergence.UNACKED: Advice(_LATE, "`syncer verify --repair` has the owner mark it"),
    Divergence.NO_EXPIRY: Advice(
        _LATE, "`syncer verify --repair` has the owner give the log its expiry"
    ),
    Divergence.ORPHAN: Advice(_LATE, "`syncer verify --repair` has the owner retire the log"),
    Divergence.EPOCH_AHEAD: Advice(
        f"a restore of etcd, or {_STATUS} or to Redis",
        "if a log is: after a restore of etcd or a move to another cluster, raise"
        " sharding.incarnation by"
        " one; if only the status is, another client wrote it",
    ),
    Divergence.TWO_OPEN: Advice(
        _DEFECT,
        "two attempts were begun at once, which the rules exclude: keep the log (`syncer explain"
        " --records`)"
        " and report it",
    ),
    Divergence.CONFLICT: Advice(
        _DEFECT,
        "one attempt has two definite results, which the rules exclude: keep the log (`syncer"
        " explain --records`)"
        " and report it",
    ),
    Divergence.PHASE: Advice(
        _CLAIM,
        "ask the receiver; `syncer verify --repair --unwitnessed --by NAME` accepts the phase,"
        " `resend` goes by"
        " the log",
    ),
    Divergence.CHANNELS: Advice(
        f"{_STATUS}, or {_REDIS}",
        "compare the plan (`syncer explain`) with the routing file; what was sent to another"
        " channel is in"
        " the receiver's own books",
    ),
    Divergence.SPEC: Advice(
        "somebody who may change the definition, or what the API server stores, or Redis",
        "the message is not the one that was planned: compare it with the API server's audit log",
    ),
    Divergence.NUMBERS: Advice(
        _STATUS, "nothing depends on the numbers; who wrote them is in the API server's audit log"
    ),
    Divergence.OBJECT: Advice(
        "whoever created it before the definition had its bounds",
        "the object does not parse; correct or delete it",
    ),
    Divergence.HISTORY: Advice(_LOSS, "the log is claimed again and restored from memory"),
    Divergence.MEMORY: Advice(
        "a defect of this controller, or of the machine's memory",
        "the memory is read anew: keep the log (`syncer explain --records`) and report it",
    ),
}
