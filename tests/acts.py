"""
What eight roles can do to the record: the table of docs/acts.md, and of the test that carries it out.

A cell says who prevents an act (`RBAC`, `policy`, `definition`, `ACL`, `login`), else that the controller
has set it right (`undone`), or which class of divergence `syncer verify` names after it, with a star if the
self-audit does too, else `open`: none of them shows it, and the act says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """Somebody with certain rights and no others."""

    AUTHOR = "author"
    STRANGER = "author elsewhere"
    WRITER = "status writer"
    LEASES = "lease creator"
    TENANT = "namespace operator"
    ADMIN = "cluster operator"
    READER = "Redis `reader`"
    LEDGER = "Redis `ledger`"


RIGHTS: Final[Mapping[Role, str]] = {
    Role.AUTHOR: "every verb but status on `notificationrequests` of the namespace",
    Role.STRANGER: "the same in another namespace",
    Role.WRITER: "`get`, `patch`, `update` on `notificationrequests/status`; not `record`",
    Role.LEASES: "`create`, `get`, `patch`, `update`, `delete` on Leases of the release's namespace",
    Role.TENANT: "Kubernetes's roles `edit` and `admin` in the namespace, and what an author may",
    Role.ADMIN: "`cluster-admin`",
    Role.READER: "the Redis user of that name, and no account in the cluster",
    Role.LEDGER: "the Redis user of that name, and no account in the cluster",
}
#: Roles that have a password of Redis.
OF_REDIS: Final = frozenset({Role.READER, Role.LEDGER})
OPEN: Final = "open"
UNDONE: Final = "undone"


@dataclass(frozen=True)
class Act:
    """
    Something that is tried.

    Attributes:
        what: For the page.
        does: The name of what carries it out, and of its targets.
        on: In which state its target is: `new`, `waiting` or `sent`; empty without one.
        allowed: What becomes of it where a role may do it; everybody else is refused.
        protected: The same with the policies, where that differs.
        why: Why nothing shows it, or why it may be done.
    """

    what: str
    does: str
    on: str
    allowed: Mapping[Role, str]
    protected: Mapping[Role, str] = field(default_factory=dict)
    why: str = ""

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.does != "redis_read"

    def cell(self, role: Role, *, policies: bool) -> str:
        """What becomes of it."""
        found = self.protected.get(role) if policies else None
        found = found or self.allowed.get(role)
        if found is None:
            redis = self.does.startswith("redis_")
            found = (
                ("ACL" if redis else "login") if role in OF_REDIS else "login" if redis else "RBAC"
            )
        return found


_ADMIN: Final = (
    "with such a token nothing tells them from the controller but the API server's audit log"
)
_INTRODUCTION: Final = """\
Each act of this table is carried out by each of eight roles, on a real API server, a real Redis and the
real controller, with the chart's policies and without them
(`tests/integration/test_acts.py::test_what_each_role_can_do`). [Security](security.md) says what follows. A
cell says what came of it:

- `RBAC`, `policy`, `definition`, `ACL`, `login`: it was refused, by whom (`login`: no account there);
- `undone`: the controller has set it right;
- a class of [`syncer verify`](cli.md#verify-and-repair), which named it after a restart of the controller
  and one pass of its self-audit; with a star if the self-audit named it as well. A controller that
  is certain that nobody else can have done anything for the notification sets it right before that;
- `open`: none of these shows it;
- two of them: what came of it with the policies / without them.
"""
_RIGHT: Final = "it is what the permission is for; the API server's audit log has who did it"
_LEASE: Final = (
    "fencing keeps it from sending twice; `/readyz` and `syncer doctor` show what is owned"
)


def _status(what: str, does: str, on: str, found: str, *, believed: str = "", why: str = "") -> Act:
    """
    Return an act on a status, from which the policy keeps whoever may not record.

    Where that is in force, statuses are `believed`, which is something else if it is given.
    """
    who = dict.fromkeys((Role.WRITER, Role.ADMIN), found)
    return Act(what, does, on, who, {Role.WRITER: "policy", Role.ADMIN: believed or found}, why)


def _lease(what: str, does: str, protected: str = "policy") -> Act:
    """Return an act on a Lease."""
    return Act(
        what, does, "", dict.fromkeys((Role.LEASES, Role.TENANT, Role.ADMIN), OPEN),
        {} if protected == OPEN else dict.fromkeys((Role.LEASES, Role.TENANT), protected), _LEASE,
    )  # fmt: skip


ACTS: Final = (
    _status("adds a success to a channel that waits", "add_success", "waiting", "log-behind"),
    _status("calls a delivery failed that has attempts left", "fail_early", "waiting", "phase"),
    _status("names an epoch that nobody has issued", "epoch", "waiting", "epoch-ahead"),
    _status("removes a status", "remove", "waiting", "undone"),
    _status("turns a success into a failure", "unsend", "sent", "acked"),
    _status("takes an attempt away", "shorten", "sent", "acked"),
    _status("counts 2147483647 attempts", "count", "sent", "numbers"),
    _status("ends it in 2020", "backdate", "sent", "numbers"),
    _status("calls a new notification sent", "send_new", "new", UNDONE, believed="phase"),
    _status("the same, with a success without an id", "send_new_listed", "new", UNDONE, believed="phase"),
    _status("chooses the channels of a new notification", "choose", "new", UNDONE, believed=OPEN,
            why="with the policy in force a plan that only a status shows is restored"),
    Act("changes the message", "spec", "waiting",
        dict.fromkeys((Role.AUTHOR, Role.TENANT, Role.ADMIN), "definition")),
    Act("holds a notification back", "hold", "waiting",
        dict.fromkeys((Role.AUTHOR, Role.TENANT, Role.ADMIN), OPEN), why=_RIGHT),
    Act("deletes a notification", "delete", "waiting",
        dict.fromkeys((Role.AUTHOR, Role.TENANT, Role.ADMIN), OPEN), why=_RIGHT),
    _lease("creates a phantom session", "lease_session"),
    _lease("takes a shard's Lease", "lease_shard"),
    _lease("changes the map Lease", "lease_map"),
    _lease("deletes a session's Lease", "lease_delete", OPEN),
    Act("makes a token of the controller's account", "token", "",
        dict.fromkeys((Role.TENANT, Role.ADMIN), OPEN), why=_ADMIN),
    Act("removes the policy's binding", "unbind", "", {Role.ADMIN: OPEN},
        why="`/readyz`, a metric and an alert say within a minute that the policy is absent"),
    Act("reads a log", "redis_read", "sent", dict.fromkeys(OF_REDIS, OPEN),
        why="it holds names, receivers and error texts, never a message"),
    Act("appends a success with the right checksum", "redis_append", "waiting", {Role.LEDGER: OPEN},
        why="checksums have no key"),
    Act("rewrites the plan, checksums and all", "redis_plan", "sent", {Role.LEDGER: "channels"}),
    Act("deletes a log", "redis_delete", "sent", {Role.LEDGER: "log-missing*"}),
    Act("raises a log's epoch", "redis_epoch", "waiting", {Role.LEDGER: "epoch-ahead"}),
)  # fmt: skip


def page(table: Callable[[Sequence[str], Sequence[Sequence[str]]], str], made: str) -> str:
    """Return docs/acts.md."""
    rows = []
    for act in ACTS:
        cells = [[act.cell(role, policies=p) for p in (True, False)] for role in Role]
        rows.append((act.what, *(a if a == b else f"{a} / {b}" for a, b in cells)))
    whys = [(act.what, act.why) for act in ACTS if act.why]
    return "\n".join([
        f"# Who can do what to the record\n\n{made}", _INTRODUCTION,
        table(("act", *Role), rows), "Why nothing shows what is `open`, or why it is allowed:\n",
        table(("act", "why"), whys), "What each role has:\n",
        table(("role", "rights"), list(RIGHTS.items())),
    ])  # fmt: skip
