"""
The table of docs/acts.md, carried out: each act by each role, on real servers and the real controller.

Whoever may do something does it to a target of its own; whoever may not tries it on one of the same state.
Then the controller is ended and started again, so that nothing is decided by its memory alone, and once its
self-audit and its sweeps are through, `syncer verify` and its own log are asked what they have found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import redis.asyncio as redis_asyncio
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from syncer.ledger.codec import encode_log
from syncer.model.attempt import Attempt, AttemptId, AttemptState, Epoch
from syncer.model.carried import expand, fold
from syncer.model.record import Plan, attempt_record, intent_record, plan_record
from syncer.model.resource import HOLD_ANNOTATION, Json
from syncer.rules.divergence import Divergence
from tests.acts import ACTS, OF_REDIS, OPEN, UNDONE, Act, Role
from tests.chart.admission import BINDINGS, POLICIES, SSA, without_the_planes_own
from tests.chart.helm import objects, template
from tests.e2e.harness import BUSY, CHANNEL, NotifierProcess, Stage, stage, until
from tests.integration.accounts import account, admitting, as_account, make, refer
from tests.integration.api import Api, Reply, attempt
from tests.integration.operating import Operator, RawLog
from tests.servers.controlplane import ControlPlane
from tests.servers.recipe import CONTROLLER_USER, POLICY
from tests.servers.redis import RedisServer
from tests.servers.users import acl_rule, url_of

PASSWORD: Final = "a-long-password"
SLOW: Final[Json] = {"maxAttempts": 5, "initialBackoffSeconds": 300, "maxBackoffSeconds": 300}
OBJECTS: Final = ("create", "get", "list", "watch", "update", "patch", "delete")
LEASES: Final = ("create", "get", "update", "patch", "delete")
#: Rounds of the self-audit: the first may have begun before an act.
ROUNDS: Final = 3
#: What a refusal says, and who that is.
REFUSALS: Final = (
    (NoPermissionError, "", "ACL"), (AuthenticationError, "", "login"),
    (ResponseError, "NOAUTH", "login"), (ResponseError, "permission", "ACL"),
)  # fmt: skip


@dataclass
class Scene:
    """An installation, and a way in for each role."""

    here: Stage
    ways: dict[Role, Api]
    logins: dict[Role, redis_asyncio.Redis]
    uids: dict[str, str]

    def log(self, role: Role, name: str) -> RawLog:
        """The log of a target, as a role reaches it."""
        return RawLog(replace(self.here, redis=self.logins[role]), self.uids[name])

    async def patched(self, role: Role, name: str, change: Callable[[Json], Json | None]) -> Reply:
        """Change what an object shows now, and put that in its place."""
        api = self.here.api
        found = (await api.ask("GET", f"{api.requests}/{name}")).body
        status = change(expand(found.get("status") or {}))
        body = {**found, "status": fold(status)} if status is not None else {**found}
        if status is None:
            body.pop("status", None)
        return await self.ways[role].ask("PUT", f"{api.requests}/{name}/status", body)

    async def lease(self, role: Role, name: str, change: Json) -> Reply:
        """Change a Lease of the installation."""
        path = f"{self.here.api.leases}/notification-ledger-{name}"
        return await self.ways[role].ask("PATCH", path, change)


# -- the acts ---------------------------------------------------------------------------------------


def _entry(**changed: Any) -> Json:
    return {**attempt("success", id=None, channel=CHANNEL), **changed}


def _changed(before: Json, n: int, **members: Any) -> list[Json]:
    shown = list(before["deliveryAttempts"])
    shown[n] = {**shown[n], **members}
    return shown


def _added(status: Json, identity: str) -> Json:
    more = {**status["deliveryAttempts"][0], "id": identity, "attempt": 2, "status": "success"}
    return {**status, "deliveryAttempts": [*status["deliveryAttempts"], more], "totalAttempts": 2}


def _claimed(status: Json) -> str:
    return str(status["deliveryAttempts"][0]["id"]).rpartition("-")[0]


#: Acts on a status: what is made of it.
STATUSES: Final[dict[str, Callable[[Json], Json | None]]] = {
    "add_success": lambda s: _added(s, f"{_claimed(s)}-77"),
    "fail_early": lambda s: {**s, "phase": "Failed"},
    "epoch": lambda s: _added(s, "7.1-1"),
    "remove": lambda _: None,
    "unsend": lambda s: {**s, "deliveryAttempts": _changed(s, 0, status="failed"), "phase": "Failed"},
    "shorten": lambda s: {**s, "deliveryAttempts": [], "phase": "Sent"},
    "count": lambda s: {**s, "totalAttempts": 2**31 - 1},
    "backdate": lambda s: {**s, "completionTime": "2020-01-01T00:00:00Z"},
    "send_new": lambda _: {"phase": "Sent"},
    "send_new_listed": lambda _: {
        "phase": "Sent", "deliveryAttempts": [_entry()], "totalAttempts": 1, "successfulDeliveries": 1},
    "choose": lambda _: {"phase": "Sending", "channels": [{"name": "slack:board", "state": "Pending"}]},
}  # fmt: skip
_TAKEN: Final[Json] = {"spec": {"holderIdentity": "x", "leaseDurationSeconds": 2**31 - 1}}
_LEASE: Final[Json] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **_TAKEN}
#: Other acts on the API server.
REQUESTS: Final[dict[str, tuple[str, str, Json | None]]] = {
    "spec": ("PATCH", "{requests}/{name}", {"spec": {"body": "another message"}}),
    "hold": (
        "PATCH",
        "{requests}/{name}",
        {"metadata": {"annotations": {HOLD_ANNOTATION: "true"}}},
    ),
    "delete": ("DELETE", "{requests}/{name}", None),
    "lease_session": ("PATCH", "{leases}-session-{name}?fieldManager=x", _LEASE),
    "lease_shard": ("PATCH", "{leases}-0", _TAKEN),
    "lease_map": ("PATCH", "{leases}-map", {"metadata": {"labels": {"a": "b"}}}),
    "lease_delete": ("DELETE", "{leases}-session-x", None),
    "token": ("POST", "{accounts}/controller/token", {"spec": {"expirationSeconds": 600}}),
    "unbind": ("DELETE", f"{POLICIES}/{BINDINGS}/{POLICY}?dryRun=All", None),
}


async def in_kubernetes(scene: Scene, role: Role, act: Act, name: str) -> Reply:
    """Try an act on the API server."""
    api = scene.here.api
    if forged := STATUSES.get(act.does):
        return await scene.patched(role, name, forged)
    method, path, body = REQUESTS[act.does]
    prefix = f"{api.leases}/notification-ledger"
    if act.does == "lease_delete":
        await api.ask(
            "PATCH",
            f"{prefix}-session-x?fieldManager=x",
            named(_LEASE, f"{prefix}-session-x"),
            form=SSA,
        )
    accounts = f"/api/v1/namespaces/{api.namespace}/serviceaccounts"
    path = path.format(requests=api.requests, leases=prefix, accounts=accounts, name=name)
    made = body is _LEASE
    return await scene.ways[role].ask(
        method, path, named(_LEASE, path) if made else body, form=SSA if made else ""
    )


def named(body: Json, path: str) -> Json:
    """An object as server-side apply wants it, named as its path is."""
    return {**body, "metadata": {"name": path.rpartition("/")[2].partition("?")[0]}}


async def in_redis(scene: Scene, role: Role, act: Act, name: str) -> None:
    """Try an act on Redis."""
    log = scene.log(role, name)
    header, records = await RawLog(scene.here, scene.uids[name]).read()
    run: Any = log.here.redis.execute_command
    match act.does:
        case "redis_read":
            await log.elements()
        case "redis_delete":
            await run("DEL", log.key)
        case "redis_epoch":
            await run("LSET", log.key, 0, replace(header, epoch=Epoch("0.99999999999999")).encode())
        case "redis_append":
            at = int(records[-1].body["at"])
            forged = Attempt(AttemptId(f"{header.epoch}-77"), CHANNEL, AttemptState.SUCCESS, at, at)
            more = [intent_record(forged.id, CHANNEL, at=at, by="x"), attempt_record(forged)]
            await run("RPUSH", log.key, *encode_log(header, [*records, *more])[-2:])
        case _:
            plan = plan_record(Plan(("slack:board",), at=int(records[0].body["at"])))
            for n, element in enumerate(encode_log(header, [plan, *records[1:]])[1:], 1):
                await run("LSET", log.key, n, element)


# -- the stage --------------------------------------------------------------------------------------


async def enter(plane: ControlPlane, here: Stage, ways: AsyncExitStack) -> Scene:
    """Give each role its rights, and let it in."""
    away = f"{here.namespace}-away"
    await asyncio.to_thread(plane.api.create_namespace, away)
    for name, home, verbs in (
        (Role.AUTHOR, here.namespace, {"objects": OBJECTS}),
        (Role.STRANGER, away, {"objects": OBJECTS}),
        (
            Role.WRITER,
            here.namespace,
            {"objects": ("get",), "statuses": ("get", "patch", "update")},
        ),
        (Role.LEASES, here.namespace, {"leases": LEASES}),
        (Role.TENANT, here.namespace, {"objects": OBJECTS}),
    ):
        account(plane, home, name.name.lower(), verbs)
    account(plane, here.namespace, "controller", {})
    where = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{here.namespace}"
    tenant = {"kind": "ServiceAccount", "name": "tenant", "namespace": here.namespace}
    # What `edit` and `admin` consist of; nobody here puts them together.
    for role in ("system:aggregate-to-edit", "system:aggregate-to-admin"):
        refer(plane, where, role, "ClusterRole", tenant)
    made = dict.fromkeys(Role, here.api)
    for role in (Role.AUTHOR, Role.STRANGER, Role.WRITER, Role.LEASES, Role.TENANT):
        home = away if role is Role.STRANGER else here.namespace
        way = as_account(plane, here.namespace, role.name.lower(), home=home)
        made[role] = await ways.enter_async_context(way)
    nobody = await ways.enter_async_context(Api(plane.server, "", plane.ca_file, here.namespace))
    logins = {}
    for role in Role:
        url = here.redis_url.replace(here.redis_url.partition("//")[2].partition("@")[0] + "@", "")
        if role in OF_REDIS:
            made[role] = nobody
            url = url_of(url, role.name.lower(), PASSWORD)
        client = redis_asyncio.Redis.from_url(url, socket_timeout=5)
        logins[role] = await ways.enter_async_context(client)
    return Scene(here, made, logins, {})


def lease_policies(plane: ControlPlane, here: Stage) -> list[Json]:
    """The chart's policy on Leases, whose verb is granted to the controller."""
    where = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{here.namespace}"
    rule = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["record"]}
    make(plane, f"{where}/roles", {"metadata": {"name": "recorder"}, "rules": [rule]})
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": CONTROLLER_USER}
    refer(plane, where, "recorder", "Role", user)
    values = {"leaseName": "notification-ledger"}
    return [
        each
        for each in objects(template("4", values, namespace=here.namespace))
        if each["kind"].startswith("ValidatingAdmission")
        and "statuses" not in each["metadata"]["name"]
    ]


def target(act: Act, role: Role) -> str:
    """The name of what a role tries an act on, which is its own where it may do it."""
    own = role in act.allowed
    return f"{act.does}-{role.name if own else 'any'}".lower().replace("_", "-")


async def through(notifier: NotifierProcess) -> None:
    """Wait until the self-audit has begun and ended a round, and as long for the sweeps of each second."""
    ages = [0.0]

    async def ended() -> bool:
        ages.append(await notifier.metric("notification_ledger_scrub_age_seconds"))
        return sum(late < soon for soon, late in pairwise(ages)) >= ROUNDS

    await until(ended, "the self-audit is through", within=60)


async def try_one(scene: Scene, act: Act, role: Role) -> str:
    """Carry an act out; returns who has refused it, empty if nobody has."""
    name = target(act, role)
    if act.does.startswith("redis_"):
        try:
            await in_redis(scene, role, act, name)
        except (ResponseError, AuthenticationError) as error:
            return next(
                who
                for kind, text, who in REFUSALS
                if isinstance(error, kind) and text in str(error)
            )
        return ""
    answer = await in_kubernetes(scene, role, act, name)
    if answer.code < 300 or answer.code == 404:
        return ""
    if answer.code == 422:
        return "definition"
    assert answer.code in (401, 403), answer.body
    if "system:anonymous" in answer.message or answer.code == 401:
        return "login"
    return "policy" if "ValidatingAdmissionPolicy" in answer.message else "RBAC"


async def unprotected(scene: Scene) -> bool:
    """Whether a writer of statuses is let through; a policy that is taken away is in force for a moment."""
    path = f"{scene.here.api.requests}/{next(iter(scene.uids))}/status?dryRun=All"
    answer = await scene.ways[Role.WRITER].ask("PATCH", path, {"status": {"reason": "tried"}})
    return answer.code == 200


async def prepare(scene: Scene, on: str) -> None:
    """Make the targets of all acts on one state."""
    here = scene.here
    names = {target(a, r) for a in ACTS for r in Role if a.on == on}
    for name in sorted(names):
        if on == "waiting":
            here.script(name, BUSY)
        scene.uids[name] = await here.create(name, retryPolicy=SLOW)
    if on == "new":
        return
    phase = {"waiting": "Sending", "sent": "Sent"}[on]
    uids = [scene.uids[n] for n in names]
    await until(
        lambda: all(here.watcher.phase(u) == phase for u in uids), f"all are {on}", within=60
    )
    await here.wait_acked(uids)


async def carry_out(scene: Scene, on: str, found: dict[tuple[str, Role], str]) -> None:
    """Have every role try every act on targets of one state."""
    for act in ACTS:
        if act.on == on:
            for role in Role:
                found[act.does, role] = await try_one(scene, act, role)


async def findings(notifier: NotifierProcess, operator: Operator) -> dict[str, set[str]]:
    """Classes that `syncer verify` names, by uid; those that the self-audit has named bear a star."""
    named: dict[str, set[str]] = {}
    audited = notifier.lines("the self-audit found a divergence")
    star = {(line["uid"], line["class"]) for line in audited}
    for uid, kind in star | {
        (f["uid"], f["class"]) for f in (await operator.verify()).lines if "class" in f
    }:
        named.setdefault(uid, set()).add(f"{kind}*" if (uid, kind) in star else kind)
    return named


async def settled(scene: Scene, *, policies: bool) -> None:
    """Wait until the controller has set right what it should."""
    wanted = [
        (target(act, role), target(act, Role.STRANGER))
        for act in ACTS for role in act.allowed if act.cell(role, policies=policies) == UNDONE
    ]  # fmt: skip

    async def done() -> bool:
        return all([await seen(scene, name) == await seen(scene, other) for name, other in wanted])

    await until(done, f"all is undone of {[name for name, _ in wanted]}", within=60)


async def seen(scene: Scene, name: str) -> Json:
    """What an object has come to, and what its receiver has seen."""
    here = scene.here
    reply = await here.api.ask("GET", f"{here.api.requests}/{name}")
    if reply.code == 404:
        return {}
    status = expand(reply.body.get("status") or {})
    return {
        "held": (reply.body["metadata"].get("annotations") or {}).get(HOLD_ANNOTATION),
        "channels": [c["name"] for c in status.get("channels", ())],
        "attempts": [(a["channel"], a["status"]) for a in status.get("deliveryAttempts", ())],
        "calls": len(here.receiver.calls(name)),
        "year": str(status.get("completionTime"))[:4],
        **{k: status.get(k) for k in ("phase", "totalAttempts", "reason")},
    }


@pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)
@pytest.mark.parametrize("policies", [True, False], ids=["policies", "without"])
async def test_what_each_role_can_do(
    control_plane: ControlPlane, redis_binary: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], policies: bool,
) -> None:  # fmt: skip
    """Each cell of the table is what comes of it."""
    plane, found = control_plane, dict[tuple[str, Role], str]()
    rule = ["ACL", "SETUSER", "eyes", "on", f">{PASSWORD}", "~*", "&*", "+@all"]
    async with AsyncExitStack() as ways:
        server = await ways.enter_async_context(RedisServer(redis_binary, users=[rule]))
        if not policies:
            await ways.enter_async_context(without_the_planes_own(plane))
        url = url_of(server.url, "eyes", PASSWORD)
        here = await ways.enter_async_context(stage(plane, url, tmp_path / "s", sampled=False))
        for user in ("ledger", "reader"):
            server.grant(acl_rule(user, PASSWORD, prefix=here.prefix))
        scene = await enter(plane, here, ways)
        if policies:
            ways.enter_context(admitting(plane, lease_policies(plane, here)))
        notifier = (
            await here.notifier(
                sync={
                    "window": "50ms",
                    "liveSweep": "1s",
                    "finishedSweep": "1s",
                    "scrubRate": 100,
                    "scrubPause": "1s",
                },
                redis={"url": url_of(server.url, "ledger", PASSWORD)},
            )
            .start()
            .wait_ready()
        )
        # In this order: the breaker opens for a receiver that is busy.
        await prepare(scene, "sent")
        await prepare(scene, "waiting")
        if not policies:
            await until(partial(unprotected, scene), "the policy is out of force")
        await carry_out(scene, "waiting", found)
        await carry_out(scene, "sent", found)
        await through(notifier)
        notifier.kill()
        await prepare(scene, "new")
        await carry_out(scene, "new", found)
        await notifier.start().wait_ready()
        await through(notifier)
        await settled(scene, policies=policies)
        named = await findings(notifier, Operator(here, capsys))
        shown = {name: await seen(scene, name) for name in scene.uids}
        await carry_out(scene, "", found)
        await notifier.wait_ready()
    wrong = {}
    for act in ACTS:
        untouched = shown.get(target(act, Role.STRANGER))
        for role in Role:
            name, came = target(act, role), {found[act.does, role]}
            if came == {""}:
                came = set(named.get(scene.uids.get(name, ""), ()))
                if act.on and act.writes and shown[name] == untouched:
                    came.add(UNDONE)
                came = came or {OPEN}
            cell = act.cell(role, policies=policies)
            # A controller that has probed its Redis since the object was made is quicker than its audit.
            undone = UNDONE in came and cell.rstrip("*") in set(Divergence)
            if cell not in came and not undone:
                wrong[act.does, role.name] = (cell, came)
    assert not wrong, "\n".join(f"{k} {v}" for k, v in wrong.items())
