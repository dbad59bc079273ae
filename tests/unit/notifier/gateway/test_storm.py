"""The rate of a source, and the digest of what is above it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from notifier.gateway.draft import Incoming
from notifier.gateway.metrics import GatewayMetrics
from notifier.gateway.rating import OverRateError, Rating, digest_of
from notifier.gateway.settings import of_document
from notifier.gateway.submit import Submitted, Submitter
from notifier.gateway.translation import Desired, Source, translate
from syncer.model.errors import Unavailable
from syncer.model.resource import Json
from tests.unit.notifier.gateway.payloads import FLUX
from tests.unit.notifier.gateway.submitting import NOW, Objects


def flux(name: str, **more: Any) -> Json:
    """An event about an object of this name."""
    return {**FLUX, **more, "involvedObject": {**FLUX["involvedObject"], "name": name}}


def source(kind: str = "flux", retry: Json | None = None, **rate: Any) -> Source:
    """A source with a rate."""
    entry = {
        "name": "s", "kind": kind, "namespace": "ns", "auth": {"insecure": True},
        "patience": "0.5s", "rate": {"perMinute": 60, "burst": 2, **rate},
        **({"retryPolicy": retry} if retry else {}),
    }  # fmt: skip
    return of_document({"sources": [entry]}).sources["s"][0]


def desired(payload: Json) -> Desired:
    """What a payload becomes."""
    ((found,), _) = translate(source(), Incoming({}, json.dumps(payload).encode()), NOW)
    return found


class Rated:
    """A source within its rate, on an API server in memory; its clock stands still."""

    def __init__(self, rated: Source) -> None:
        self.objects = Objects()
        self.registry = CollectorRegistry()
        self.rating = Rating(
            rated,
            Submitter(self.objects, lambda: NOW),
            GatewayMetrics(self.registry),
            lambda: 0.0,
        )

    async def send(self, *names: str, patience: float = 5.0) -> list[Submitted]:
        """Send events, all at once."""
        until = asyncio.get_running_loop().time() + patience
        return await asyncio.gather(
            *(self.rating.submit(desired(flux(name)), until) for name in names)
        )


def test_a_digest_lists_what_it_stands_for() -> None:
    """The worst comes first and lends its urgency; attributes that all have stay, so routes match."""
    members = [
        desired(flux("a", severity="info")), desired(flux("b")), desired(flux("b", message="again")),
    ]  # fmt: skip
    found = digest_of(source(), members)
    assert digest_of(source(), members[::-1]) == found
    assert digest_of(source(), members[:2]).identity != found.identity
    assert found.identity.name == f"dg-{found.identity.digest[:32]}"
    assert (digest_of(source(), members[:1]).namespace, found.repeat) == ("ns", False)
    spec = found.manifest["spec"]
    assert (spec["type"], spec["priority"], spec["severity"]) == ("Escalation", "High", "error")
    assert spec["subject"] == (
        "[DIGEST:3] s: [ERROR] Kustomization apps/b: HealthCheckFailed and others"
    )
    assert spec["body"].splitlines() == [
        "3 notifications came faster than this source's rate allows:",
        "- High: [ERROR] Kustomization apps/b: HealthCheckFailed (2 times)",
        "- Low: [INFO] Kustomization apps/a: HealthCheckFailed",
    ]
    assert spec["extensions"]["objectKind"] == "Kustomization"
    assert "objectName" not in spec["extensions"]
    assert found.namespace == "ns"
    assert found.manifest["metadata"]["labels"]["notification-ledger/source"] == "s"


def test_a_large_digest_is_bounded() -> None:
    """What does not fit the body is counted."""
    members = [desired(flux(f"n{n}" + "x" * 150)) for n in range(400)]
    body = digest_of(source(), members).manifest["spec"]["body"]
    assert len(body) < 32 * 1024
    left_out = int(body.rpartition("… and ")[2].removesuffix(" more."))
    assert body.count("\n- ") + left_out == 400
    # The bound is used: one line more would not have fitted.
    assert 30_000 - 250 < len(body) < 30_000 + 50


def test_a_digest_is_ordered_and_counted_by_its_subjects() -> None:
    """Of one urgency the frequent comes first; a long subject is cut, and what is left out is counted."""
    often = [desired(flux("b", message=f"{n}")) for n in range(3)]
    twice = [desired(flux("a" * 250, message=f"{n}")) for n in range(2)]
    once = [desired(flux("c"))]
    lines = digest_of(source(), [*twice, *once, *often]).manifest["spec"]["body"].splitlines()[1:]
    assert [line.rpartition(" (")[2] for line in lines[:2]] == ["3 times)", "2 times)"]
    assert "Kustomization apps/c" in lines[2]
    assert len(lines[1]) == len("- High: ") + 200 + len(" (2 times)")
    many = [desired(flux(f"n{n}" + "x" * 190, message=m)) for n in range(200) for m in "ab"]
    body = digest_of(source(), many).manifest["spec"]["body"]
    listed = body.count(" (2 times)")
    assert body.endswith(f"\n… and {400 - 2 * listed} more.")


def test_a_digest_is_tried_as_its_source_says() -> None:
    """Its retry policy is that of its source, as that of what it stands for."""
    payload = json.dumps(flux("a")).encode()
    given = source(retry={"maxAttempts": 9})
    ((found,), _) = translate(given, Incoming({}, payload), NOW)
    assert digest_of(given, [found, found]).manifest["spec"]["retryPolicy"] == {"maxAttempts": 9}


async def test_each_namespace_has_a_rate_of_its_own() -> None:
    """One that is noisy takes nothing of the others."""
    here = Rated(source())
    until = asyncio.get_running_loop().time() + 5.0
    made = [
        await here.rating.submit(replace(desired(flux(name)), namespace=namespace), until)
        for namespace, name in (("a", "1"), ("a", "2"), ("b", "3"), ("b", "4"))
    ]
    assert [m.result == "digested" for m in made] == [False] * 4
    third, fourth = await asyncio.gather(
        *(
            here.rating.submit(replace(desired(flux(name)), namespace="a"), until)
            for name in ("5", "6")
        )
    )
    assert third.result == fourth.result == "digested"


async def test_what_is_above_the_rate_becomes_one_notification() -> None:
    """Two are created, five wait and are answered with the digest that lists them."""
    here = Rated(source())
    made = await here.send(*"abcdefg")
    assert [m.result == "digested" for m in made] == [False] * 2 + [True] * 5
    assert len({m.name for m in made}) == 3
    assert made[-1].name.startswith("dg-")
    assert len(here.objects.created) == 3
    # A retry of what has its object takes nothing of the rate and is part of no digest.
    (again,) = await here.send("a")
    assert (again.name, again.duplicate, again.result) == (made[0].name, True, "duplicate")
    count = here.registry.get_sample_value(
        "notification_ledger_gateway_over_rate_total", {"source": "s", "result": "digest"}
    )
    assert count == 5


async def test_one_above_the_rate_is_itself() -> None:
    """A digest of one event is that event's own notification."""
    here = Rated(source())
    made = await here.send(*"abc")
    assert len({m.name for m in made}) == 3
    assert not made[2].name.startswith("dg-")


async def test_duplicates_take_nothing_of_the_rate() -> None:
    """Retries, and what was not created, leave the rate to what is new."""
    here = Rated(source())
    for _ in range(5):
        await here.send("a")
    here.objects.errors = [Unavailable("away")] * 99
    with pytest.raises(Unavailable):
        await here.send("b", patience=0.2)
    here.objects.errors.clear()
    made = await here.send("b")
    assert [m.result == "digested" for m in made] == [False]


@pytest.mark.parametrize(("kind", "status"), [("flux", 429), ("alertmanager", 503)])
async def test_a_refusal_is_one_that_the_program_tries_again(kind: str, status: int) -> None:
    """429 where the program tries again after it, 503 where it would be final."""
    rated = source(kind, over="refuse")
    here = Rated(replace(source(), rate=rated.rate, kind=rated.kind))
    await here.send("a", "b")
    with pytest.raises(OverRateError) as refused:
        await here.send("c")
    assert refused.value.status == status
    assert len(here.objects.created) == 2


async def test_a_digest_that_cannot_be_created_is_told_to_all_who_wait() -> None:
    """Nobody is answered with success before the object exists; the end of the process ends it."""
    here = Rated(source())
    await here.send("a", "b")
    here.objects.errors = [Unavailable("away")] * 99
    results = await asyncio.gather(here.send("c"), here.send("d"), return_exceptions=True)
    assert [type(r) for r in results] == [Unavailable] * 2
    waiting = asyncio.create_task(here.send("e"))
    await asyncio.sleep(0.05)
    await here.rating.close()
    with pytest.raises(Unavailable, match="the gateway is shutting down"):
        await waiting


async def test_the_end_of_an_incident_is_part_of_no_digest() -> None:
    """It would close nothing; and a digest of one incident's events is about none, which opens nothing."""
    here = Rated(source())
    await here.send("a", "b")
    over = desired(flux("c", severity="info", reason="ReconciliationSucceeded"))
    until = asyncio.get_running_loop().time() + 5
    made = await here.rating.submit(over, until)
    assert (made.result, made.duplicate) == ("created", False)
    members = [desired(flux("b", message=f"{n}")) for n in range(2)]
    assert {each.incident for each in members} == {(members[0].incident[0], "firing")}
    assert digest_of(source(), members).incident == ("", "")
