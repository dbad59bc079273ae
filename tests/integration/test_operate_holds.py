"""Holds of operators, on real servers: what is not sent, what says so, and what lets it go."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest

from syncer.model.hold import GROUP, KIND, PLURAL, VERSION
from syncer.model.record import Kind
from tests.e2e.harness import CHANNEL, Stage, until
from tests.integration.accounts import account, as_account
from tests.integration.operating import BY, NO_SWEEPS, Operator, RawLog, owner
from tests.servers.controlplane import ControlPlane

pytestmark = pytest.mark.parametrize("redis_binary", ["redis-server"], indirect=True)

WHY: Final = "they mend it"


def document(**spec: Any) -> dict[str, Any]:
    """A hold as somebody applies it."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": "h"},
        "spec": {
            "receivers": ["ops"], "until": "2026-12-01T12:00:00Z", "author": "a", "reason": "r", **spec,
        },
    }  # fmt: skip


async def said(raw: RawLog) -> str:
    """Why the log says that it is not sent, empty if it says nothing."""
    skips = await raw.by(Kind.SKIP) if await raw.elements() else []
    return str(skips[-1].body["why"]) if skips else ""


async def test_a_receiver_is_held_and_let_go(here: Stage, operator: Operator) -> None:
    """Nothing goes there, everything says why and what lets go; the end sends what waits, at once."""
    ns = here.namespace
    async with owner(here.notifier(sync=NO_SWEEPS)) as app:
        placing = ("hold", "--until", "2h", "--reason", WHY, "--by", BY)
        refused = await operator.run(*placing)
        assert (refused.code, "name what to hold with --receiver" in refused.err) == (2, True)
        await here.wait_phase(await here.create("first"))
        typo = await operator.run(*placing, "--receiver", "opps")
        assert typo.code == 1
        assert "no receiver matches opps; did you mean ops? (--anyway places" in typo.err
        dry = await operator.run(*placing, "--receiver", CHANNEL, "--dry-run")
        assert (dry.code, dry.out.startswith(f"would hold --receiver {CHANNEL} until")) == (0, True)
        nothing = await operator.run("hold", "list")
        assert (nothing.code, "nothing is held now" in nothing.err) == (0, True)
        other = await operator.run(*placing, "--receiver", "opps", "--anyway", "-o", "json")
        (line,) = other.lines
        assert (line["matched"], line["holds"]) == (None, 0)
        placed = await operator.run(*placing, "--receiver", CHANNEL, "-n", ns, "-o", "json")
        (line,) = placed.lines
        held = str(line["name"])
        assert (line["inForce"], line["author"], line["reason"]) == (True, BY, WHY)
        await until(lambda: app.controller.placed.in_force() == 2, "they are obeyed")
        uid = await here.create("waits")
        raw = RawLog(here, uid)

        async def held_back() -> bool:
            return held in await said(raw)

        await until(held_back, "the log says that it is held")
        assert (WHY in await said(raw), BY in await said(raw)) == (True, True)
        answer = await operator.run("explain", f"{ns}/waits")
        assert f"NEXT    nothing: {CHANNEL} is due and held until " in answer.out
        assert f"(syncer hold end {held})" in answer.out

        async def shown() -> bool:
            answer = await operator.run("hold", "list", "-o", "json")
            assert answer.code == 0, answer.err
            found = {line["name"]: (line["holds"], line["matched"]) for line in answer.lines}
            return found == {held: (1, True), str(other.lines[0]["name"]): (0, False)}

        await until(shown, "they are counted, and the one with a typo matches nothing")
        table = await operator.run("hold", "list")
        assert (WHY in table.out, len(table.out.splitlines())) == (True, 3)
        assert "no receiver matches opps; did you mean ops?" in table.err
        listed = await operator.run("list", "-o", "json", "--state", "held", "-n", ns)
        assert [line["name"] for line in listed.lines] == ["waits"]

        unknown = await operator.run("hold", "end", f"{held[:-1]}x")
        assert (unknown.code, f"did you mean {held}?" in unknown.err) == (1, True)
        ended = await operator.run("hold", "end", held)
        assert (ended.code, "1 notification(s) wait and go now" in ended.out) == (0, True)
        await here.wait_phase(uid)
        again = await operator.run("hold", "end", held)
        assert (again.code, again.out.endswith("has already ended\n")) == (0, True)
        over = await operator.run("hold", "list", "-o", "json")
        assert held not in [line["name"] for line in over.lines]
    assert here.receiver.calls("waits")


async def test_without_the_right_to_holds_nothing_is_sent(
    control_plane: ControlPlane, here: Stage
) -> None:
    """Readiness names it; what waits goes once it is granted."""
    verbs = {
        "objects": ["get", "list", "watch"], "statuses": ["patch", "record"],
        "leases": ["get", "list", "watch", "create", "patch", "delete", "record"],
    }  # fmt: skip
    account(control_plane, here.namespace, "blind", verbs)
    config = json.loads(control_plane.controller_kubeconfig.read_text())
    async with as_account(control_plane, here.namespace, "blind") as client:
        config["users"][0]["user"] = {"token": client.token}
    here.kubeconfig = here.folder / "blind.json"
    here.kubeconfig.write_text(json.dumps(config))
    async with owner(here.notifier(sync=NO_SWEEPS)) as app:
        problem = app.hold_keeper.watch.problem
        place = f"{PLURAL}.{GROUP} in the namespace {here.namespace}"
        assert problem is not None
        assert f"the right to list and watch {place} is missing" in problem
        uid = await here.create("waits")
        await until(lambda: uid in app.cache.entries, "it is known")
        await until(lambda: app.cache.entries[uid].view.plan is not None, "it is due")
        await asyncio.sleep(1)
        assert here.receiver.book == []
        rule = {"apiGroups": [GROUP], "resources": [PLURAL], "verbs": ["list", "watch"]}
        roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{here.namespace}/roles/blind"
        role = (await here.api.ask("GET", roles)).body
        granted = await here.api.ask("PATCH", roles, {"rules": [*role["rules"], rule]})
        assert granted.code == 200, granted.body
        await here.wait_phase(uid)
        assert app.hold_keeper.watch.problem is None


SPECS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "one receiver": ({}, ""),
    "everything": (
        {"receivers": ["*"], "namespaces": ["a"], "types": ["Simple"], "severities": ["low"],
         "start": "2026-11-30T12:00:00Z", "rate": 0.5}, "",
    ),
    "nothing is named": ({"receivers": None}, "name what to hold: receivers, namespaces"),
    "a comma": ({"receivers": ["a,b"]}, "should match"),
    "an empty list": ({"receivers": []}, "should have at least 1 items"),
    "no author": ({"author": ""}, "should be at least 1 chars long"),
    "no end": ({"until": None}, "spec.until: Required value"),
    "no time": ({"until": "soon"}, "date-time"),
    "it ends before it begins": ({"start": "2026-12-02T12:00:00Z"}, "until must not be before start"),
    "a recurrence, for a year": (
        {"start": "2026-11-30T12:00:00Z", "until": "2027-11-30T12:00:00Z",
         "recurrence": {"cron": "0 22 * * 1-5", "timeZone": "Europe/Berlin", "duration": "8h"}}, "",
    ),
    "a recurrence without fields": (
        {"recurrence": {"cron": "daily", "duration": "8h"}}, "spec.recurrence.cron",
    ),
    "a recurrence without a length": (
        {"recurrence": {"cron": "0 22 * * *", "duration": ""}}, "spec.recurrence.duration",
    ),
    "two months": (
        {"start": "2026-09-30T12:00:00Z"}, "until must be within 30 days after start, or 366 if",
    ),
    "a rate and a drop": (
        {"rate": 1, "dropBefore": "2026-12-01T12:00:00Z"}, "let go by a rate or dropped, not both",
    ),
    "no rate": ({"rate": 0}, "rate must be 0.001 at least"),
}  # fmt: skip


async def test_what_the_definition_refuses(here: Stage) -> None:
    """Each with a sentence that says what to write; of a hold only its end may change."""
    where = f"/apis/{GROUP}/{VERSION}/namespaces/{here.namespace}/{PLURAL}"
    for case, (spec, refusal) in SPECS.items():
        answer = await here.api.ask("POST", f"{where}?dryRun=All", document(**spec))
        assert (answer.code == 201) is not bool(refusal), (case, answer.body)
        assert refusal in str(answer.body), case
    made = await here.api.ask("POST", where, document(start="2026-11-30T12:00:00Z"))
    assert made.code == 201, made.body
    for spec, wanted in (
        ({"until": "2026-12-02T12:00:00Z"}, 200), ({"rate": 5, "endedBy": "b"}, 200),
        ({"receivers": ["dev"]}, 422), ({"reason": "another"}, 422), ({"types": ["Simple"]}, 422),
        ({"recurrence": {"cron": "0 22 * * *", "duration": "8h"}}, 422), ({"start": None}, 422),
    ):  # fmt: skip
        answer = await here.api.ask("PATCH", f"{where}/h?dryRun=All", {"spec": spec})
        assert answer.code == wanted, (spec, answer.body)
        assert wanted == 200 or "only until, rate, dropBefore and endedBy can" in str(answer.body)
