"""What the operators' command says of notifications while Redis does not answer."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from syncer.cli.access import Access
from syncer.cli.exits import reason_of
from syncer.cli.explanation import Rules, as_json, as_text, explain
from syncer.cli.installation import StoreState
from syncer.cli.owner import (
    Owner,
    find_owner,
    held_back,
    log_by_status,
    store_without_redis,
)
from syncer.cli.rows import Placed, row_of
from syncer.cli.times import now_here
from syncer.kube.client import MERGE_PATCH
from syncer.model.errors import Unavailable
from syncer.model.journal import NOTE, Note
from syncer.model.resource import NotificationRequest
from syncer.model.times import format_time
from syncer.rules.divergence import Divergence
from syncer.rules.journal import BORN_MARGIN, Basis, held_because
from syncer.rules.verification import Sides, check
from tests.fakes.apistate import ApiState
from tests.fakes.directkube import DirectKube
from tests.unit.syncer.cli.samples import A1, BOUNDS, NOW, C, entry, request

AWAY: Final = "Redis cannot be reached (Redis at r:6379, by --redis-url)"
#: The samples were created an hour before NOW.
CREATED: Final = NOW - 3_600_000
OLDER: Final = Note("0.7-1", since=NOW - 60_000, kept=3)
NEWER: Final = Note("0.7-1", since=CREATED - BORN_MARGIN, kept=3)
DUE: Final = [{"name": C, "state": "Retrying", "nextRetryTime": format_time(NOW + 20_000)}]
HELD: Final = [
    {
        "type": "LogUnavailable", "status": "True", "reason": "RecordsNotRead",
        "message": held_because(Basis.OLDER)[1], "lastTransitionTime": "2027-01-15T07:59:00Z",
    }
]  # fmt: skip


def by_status(found: NotificationRequest, owner: Owner) -> tuple[dict[str, Any], str]:
    """An explanation without the log, as JSON and as text."""
    answer = explain(found, log_by_status(found), Rules(), now=NOW, owner=owner, unread=AWAY)
    return as_json(answer), "\n".join(as_text(answer))


def of(*, note: Note | None, holder: str | None = "pod-a") -> Owner:
    """Who works on it."""
    return Owner(watched=True, shard=0, holder=holder, note=note)


MARKED: Final[dict[str, Any]] = {"journal": {"outage": "0.7-1"}}


@pytest.mark.parametrize(
    ("status", "owner", "said"),
    [
        pytest.param(
            {}, of(note=None),
            "nothing: Redis does not answer, and attempts are not journaled",
            id="nobody journals",
        ),
        pytest.param(
            {}, of(note=None, holder=None),
            "nothing: Redis does not answer, and whether attempts are journaled is not known",
            id="Leases may not be read",
        ),
        pytest.param(
            {}, of(note=None, holder=""), "nothing: no replica owns its shard (0)", id="nobody runs"
        ),
        pytest.param(
            {"conditions": HELD}, of(note=OLDER), f"nothing: {HELD[0]['message']}", id="it is held"
        ),
        pytest.param(MARKED, of(note=OLDER), "an attempt at 2027-01-15T08:00:20.000Z", id="marked"),
        pytest.param({}, of(note=NEWER), "an attempt at 2027-01-15T08:00:20.000Z", id="born in it"),
        pytest.param({}, of(note=OLDER), "an attempt at 2027-01-15T08:00:20.000Z", id="by its owner"),
    ],
)  # fmt: skip
def test_what_comes_next(status: dict[str, Any], owner: Owner, said: str) -> None:
    """It is what the status says, if the shard journals and nothing holds it back."""
    found, text = by_status(request(entry("failed"), channels=DUE, **status), owner)
    assert f"NEXT    {said}" in text
    assert f"! its log was not read, so this comes from its status alone: {AWAY}" in text
    assert found["logUnread"] == AWAY
    assert [a["id"] for a in found["channels"][0]["attempts"]] == [A1]
    assert "it has no log" not in text
    assert ("it is older than the outage" in text) == (owner.note is OLDER and status is not MARKED)


def test_the_mark_and_the_note_are_named() -> None:
    """Which outage it is, since when, and whether the status belongs to it."""
    found, text = by_status(request(channels=DUE, **MARKED), of(note=OLDER))
    assert found["journal"] == {"outage": "0.7-1", "shard": "0.7-1"}
    assert "! attempts of its shard are journaled in the status since 2027-01-15T07:59:00" in text
    assert "in its status in the outage" not in text
    _, text = by_status(request(channels=DUE, journal={"outage": "0.5-2"}), of(note=OLDER))
    assert "! attempts were journaled in its status in the outage 0.5-2" in text
    assert "it is older than the outage" in text


def test_what_has_ended_needs_no_log() -> None:
    """Nothing comes, whatever Redis does."""
    _, text = by_status(request(entry("success"), phase="Sent"), of(note=None))
    assert "NEXT    nothing: it has ended" in text
    assert held_back(request(), of(note=NEWER)) == ""


# -- where it comes from ----------------------------------------------------------------------------


class Silent:
    """A Redis that raises."""

    prefix, meta_key = "nl", "nl:meta"

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def command(self, *_words: object) -> Any:
        """Raise."""
        raise self.error

    async def elements(self, _uid: str) -> Any:
        """Raise."""
        raise self.error


def access(error: Exception, kube: Any = None) -> Access:
    """Connections to a Redis that raises, and perhaps to an API server."""
    silent = Silent(error)
    settings = SimpleNamespace(
        sharding=SimpleNamespace(lease_name="nc"), controller=SimpleNamespace(namespaces="*")
    )
    return cast(
        "Access",
        SimpleNamespace(
            client=silent, log=silent, kube=kube, settings=settings, configured=True,
            problem="" if kube else "no kubeconfig", now=lambda: 0,
        ),
    )  # fmt: skip


def test_a_reason_names_the_server() -> None:
    """An error carries the address and where it was configured."""
    error = Unavailable("Redis cannot be reached")
    error.add_note("Redis at r:6379, by --redis-url")
    assert reason_of(error) == AWAY


async def test_the_installation_by_the_settings() -> None:
    """Owner and note of the shard are found by the Leases that the settings name."""
    state = ApiState(install=False)
    kube = DirectKube(state)
    await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": "home"}}, timeout=1)
    base = "/apis/coordination.k8s.io/v1/namespaces/home/leases"
    text = Note("0.7-1", since=1000, kept=0).text()
    for name, annotation in (
        ("nc-map", {"notification-ledger/shards": "1-fnv1a"}),
        ("nc-0", {NOTE: text}),
    ):
        meta = {"name": name, "namespace": "home", "annotations": annotation}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": {},
        }
        await kube.request("POST", base, body=body, timeout=1)
    at = access(Unavailable("away"), kube)
    store = await store_without_redis(at, home="home", reason="away")
    assert (store.map is not None, store.text) == (True, "away")
    found = await find_owner(at, store, namespace="ns", uid="u", home="home")
    assert (found.shard, found.holder) == (0, "")
    assert found.note == Note("0.7-1", since=1000, kept=0)
    await kube.request(
        "PATCH", f"{base}/nc-0", body={"spec": {"leaseTransitions": 1}}, timeout=1,
        content_type=MERGE_PATCH,
    )  # fmt: skip
    found = await find_owner(at, store, namespace="ns", uid="u", home="home")
    assert found.note is None, "an acquisition that knows no notes has not kept it"
    for at_, home, said in (
        (at, "elsewhere", "there is no Lease elsewhere/nc-map"),
        (at, "", "the controller's namespace is not known"),
        (access(Unavailable("away")), "home", "no kubeconfig"),
    ):
        store = await store_without_redis(at_, home=home, reason="away")
        assert (store.map, store.text) == (None, said)


async def test_an_installation_of_which_no_server_says_anything() -> None:
    """Neither Redis nor the API server answers: the second error is told, with the place it is of."""

    class Silent:
        async def request(self, *_: object, **__: object) -> None:
            raise Unavailable("the API server is away")

    at = access(Unavailable("Redis is away"), Silent())
    store = await store_without_redis(at, home="home", reason="Redis is away")
    assert (store.state, store.map) == (StoreState.UNCHECKED, None)
    assert (store.text, store.home, store.lease) == ("the API server is away", "home", "nc")
    assert isinstance(store.error, Unavailable)


# -- other commands ---------------------------------------------------------------------------------


def test_list_notes_marks_and_waits() -> None:
    """One that is journaled says so, and one that waits for the log."""
    at = Placed(now=1)
    row = row_of(request(**MARKED))
    assert row.notes(at) == ["journaled"]
    assert (row.as_json(at)["journaled"], row.as_json(at)["waitsForLog"]) == ("0.7-1", False)
    row = row_of(request(conditions=HELD))
    assert row.notes(at) == ["waits for the log"]
    assert (row.as_json(at)["journaled"], row.as_json(at)["waitsForLog"]) == (None, True)


def test_verify_names_what_is_journaled() -> None:
    """What a log lacks of a marked object was journaled, and its owner gives it to the log."""
    findings = check(
        Sides(log_by_status(request()), request(entry("failed"), **MARKED), -2), BOUNDS
    )
    assert [f.kind for f in findings] == [Divergence.LOG_MISSING]
    assert findings[0].text.endswith("; they were journaled in the outage 0.7-1")


def test_without_redis_this_machine_says_what_time_it_is() -> None:
    """In its milliseconds."""
    before = time.time()
    assert before - 1 <= now_here() / 1000 <= time.time() + 1
