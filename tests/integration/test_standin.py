"""
The stand-in against the real API server: the same questions, and the same answers expected of both.

Each expectation was first seen on the real server. A row that the real server no longer answers so
fails there; one that the stand-in answers otherwise fails here; so neither can drift unnoticed.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from syncer.model.resource import Json
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.apistate import ApiState
from tests.integration.api import (
    CRDS,
    Api,
    Event,
    Reply,
    attempt,
    notification,
)
from tests.servers.controlplane import ControlPlane
from tests.servers.definition import load_crd, serve, upstream_form

MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)
SKIPPED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
TIME = "2026-01-01T00:00:00.000000Z"


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach one of the two."""

    url: str
    token: str
    ca: Any
    standin: FakeApiServer | None = None


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The real server with this project's definition, which says most."""
    serve(control_plane, load_crd())
    yield control_plane
    serve(control_plane, upstream_form())


@pytest.fixture(params=["real", "standin"])
def server(request: pytest.FixtureRequest) -> Server:
    """Return the real server, or a stand-in that does not listen yet; both serve the same definition."""
    if request.param == "real":
        plane = request.getfixturevalue("plane")
        plane.heal()
        return Server(plane.server, plane.admin_token, plane.ca_file)
    return Server("", "", None, FakeApiServer(ApiState(crd=load_crd())))


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Api]:
    """Return a client of one of the two servers, in a fresh namespace."""
    if server.standin:
        await server.standin.start()
    url = server.standin.url if server.standin else server.url
    namespace = f"test-{uuid.uuid4()}"
    async with Api(url, server.token, server.ca, namespace) as client:
        made = await client.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        assert made.code == 201, made.body
        yield client
    if server.standin:
        await server.standin.stop()


def lease(name: str = "l", **spec: Any) -> Json:
    """Return a Lease."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": TIME, **spec},
    }


def event(namespace: str, name: str = "e", **members: Any) -> Json:
    """Return a core Event about a NotificationRequest of a namespace."""
    return {
        "metadata": {"name": name},
        "involvedObject": {"kind": "NotificationRequest", "namespace": namespace, "name": "a"},
        "reason": "R",
        "message": "m",
        "type": "Normal",
        **members,
    }


def causes(answer: Reply) -> set[tuple[str, str, str]]:
    """Return the causes of a refusal; a real server lists them in any order and some twice."""
    listed = answer.body["details"]["causes"]
    return {(c["field"], c["reason"], c["message"]) for c in listed}


@dataclass(frozen=True, slots=True)
class Row:
    """
    One question about the object `a`, and its answer.

    `path` and `message` may hold {requests}, {leases}, {ns}, {uid}, {rv}. The message must match whole,
    or at its beginning if it ends in an ellipsis.
    """

    method: str
    path: str
    body: Json | None
    code: int
    reason: str = ""
    message: str = ""


#: The status of an object that nobody has looked at.
UNSEEN = {"observedGeneration": -1}
NR = "notificationrequests.kubernaut.ai"
ROWS = {
    "an object that is not there": Row(
        "GET", "{requests}/nope", None, 404, "NotFound", f'{NR} "nope" not found'
    ),
    "a path that nobody serves is answered in plain text": Row(
        "GET", "/apis/kubernaut.ai/v1alpha1/foos", None, 404, "", "404 page not found\n"
    ),
    "a group that nobody serves is answered in plain text": Row(
        "GET", "/apis/example.com/v1/foos", None, 404, "", "404 page not found\n"
    ),
    "a second creation": Row(
        "POST", "{requests}", notification(), 409, "AlreadyExists", f'{NR} "a" already exists'
    ),
    "a creation in a namespace that is not there": Row(
        "POST",
        "/apis/kubernaut.ai/v1alpha1/namespaces/nope/notificationrequests",
        notification(),
        404,
        "NotFound",
        'namespaces "nope" not found',
    ),
    "a patch of an object that is not there": Row(
        "PATCH", "{requests}/nope/status", {}, 404, "NotFound", f'{NR} "nope" not found'
    ),
    "a patch from an old state, even if it changes nothing": Row(
        "PATCH",
        "{requests}/a/status",
        {"metadata": {"resourceVersion": "1"}},
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {NR} "a": {MODIFIED}',
    ),
    "a status outside the enumeration": Row(
        "PATCH",
        "{requests}/a/status",
        {"status": {"phase": "Nope"}},
        422,
        "Invalid",
        'NotificationRequest.kubernaut.ai "a" is invalid: [status.phase: Unsupported value: '
        '"Nope": supported values: "Pending", "Sending", "Retrying", "Sent", "PartiallySent", '
        f'"Failed", <nil>: {SKIPPED}]',
    ),
    "a status member of another type": Row(
        "PATCH",
        "{requests}/a/status",
        {"status": {"totalAttempts": "x"}},
        422,
        "Invalid",
        'NotificationRequest.kubernaut.ai "a" is invalid: [status.totalAttempts: Invalid value: '
        f'"string": totalAttempts in body must be of type integer: "string", <nil>: {SKIPPED}]',
    ),
    "a status member that is too small": Row(
        "PATCH",
        "{requests}/a/status",
        {"status": {"uncertainAttempts": -1}},
        422,
        "Invalid",
        'NotificationRequest.kubernaut.ai "a" is invalid: status.uncertainAttempts: Invalid value: '
        "-1: uncertainAttempts in body should be greater than or equal to 0",
    ),
    "a change of the spec": Row(
        "PATCH",
        "{requests}/a",
        {"spec": {"subject": "z"}},
        422,
        "Invalid",
        'NotificationRequest.kubernaut.ai "a" is invalid: spec: Invalid value: spec is immutable '
        "after creation (DD-NOT-005)",
    ),
    "a status that is too large": Row(
        "PATCH",
        "{requests}/a/status",
        {"status": {"message": "x" * 1_600_000}},
        500,
        "",
        "etcdserver: request is too large",
    ),
    "a body that is too large": Row(
        "POST",
        "{requests}",
        notification("b", body="x" * 3 * 1024 * 1024),
        413,
        "RequestEntityTooLarge",
        "Request entity too large: limit is 3145728",
    ),
    "a deletion of another uid": Row(
        "DELETE",
        "{requests}/a",
        {"preconditions": {"uid": "x"}},
        409,
        "Conflict",
        'Operation cannot be fulfilled on NotificationRequest.kubernaut.ai "a": the UID in the '
        "precondition (x) does not match the UID in record ({uid}). The object might have been "
        "deleted and then recreated",
    ),
    "a deletion of another state": Row(
        "DELETE",
        "{requests}/a",
        {"preconditions": {"resourceVersion": "1"}},
        409,
        "Conflict",
        'Operation cannot be fulfilled on NotificationRequest.kubernaut.ai "a": the '
        "ResourceVersion in the precondition (1) does not match the ResourceVersion in record "
        "({rv}). The object might have been modified",
    ),
    "a lease that is not there": Row(
        "GET",
        "{leases}/l",
        None,
        404,
        "NotFound",
        'leases.coordination.k8s.io "l" not found',
    ),
    "a patch of a lease that is not there": Row(
        "PATCH",
        "{leases}/l",
        {"spec": {}},
        404,
        "NotFound",
        'leases.coordination.k8s.io "l" not found',
    ),
    "a lease whose time has no decimals": Row(
        "POST",
        "{leases}",
        lease(renewTime="2026-01-01T00:00:00Z"),
        400,
        "BadRequest",
        'Lease in version "v1" cannot be handled as a Lease: parsing time "2026-01-01T00:00:00Z" '
        'as "2006-01-02T15:04:05.000000Z07:00": cannot parse…',
    ),
    "a lease that lasts no time": Row(
        "POST",
        "{leases}",
        lease(leaseDurationSeconds=0),
        422,
        "Invalid",
        'Lease.coordination.k8s.io "l" is invalid: spec.leaseDurationSeconds: Invalid value: 0: '
        "must be greater than 0",
    ),
    "an event in a namespace that is not there": Row(
        "POST",
        "/api/v1/namespaces/nope/events",
        event("nope"),
        404,
        "NotFound",
        'namespaces "nope" not found',
    ),
    "an event about another namespace": Row(
        "POST",
        "/api/v1/namespaces/{ns}/events",
        event("default"),
        422,
        "Invalid",
        'Event "e" is invalid: involvedObject.namespace: Invalid value: "default": does not match '
        "event.namespace",
    ),
    "a definition that is not there": Row(
        "GET",
        f"{CRDS}/nope",
        None,
        404,
        "NotFound",
        'customresourcedefinitions.apiextensions.k8s.io "nope" not found',
    ),
    "a namespace that is not there": Row(
        "GET", "/api/v1/namespaces/nope", None, 404, "NotFound", 'namespaces "nope" not found'
    ),
    "a namespace that is there": Row(
        "POST",
        "/api/v1/namespaces",
        {"metadata": {"name": "default"}},
        409,
        "AlreadyExists",
        'namespaces "default" already exists',
    ),
}


@pytest.mark.parametrize("row", ROWS)
async def test_refusals(api: Api, row: str) -> None:
    """Both refuse with the same code, the same machine word and the same text."""
    asked = ROWS[row]
    stored = await api.create()
    known = {
        "requests": api.requests,
        "leases": api.leases,
        "ns": api.namespace,
        "uid": stored["metadata"]["uid"],
        "rv": stored["metadata"]["resourceVersion"],
    }
    answer = await api.ask(asked.method, asked.path.format(**known), asked.body)
    assert (answer.code, answer.reason) == (asked.code, asked.reason), answer.body
    wanted = asked.message
    for key, value in known.items():
        wanted = wanted.replace(f"{{{key}}}", value)
    # A real server may list one cause twice.
    message = re.sub(r"\[(.+), \1\]$", r"\1", answer.message)
    if wanted.endswith("…"):
        assert message.startswith(wanted[:-1])
    else:
        assert message == wanted


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            {"subject": "", "retentionDays": 91},
            {
                (
                    "spec.subject",
                    "FieldValueInvalid",
                    'Invalid value: "": spec.subject in body should be at least 1 chars long',
                ),
                (
                    "spec.retentionDays",
                    "FieldValueInvalid",
                    (
                        "Invalid value: 91: spec.retentionDays in body should be less than or "
                        "equal to 90"
                    ),
                ),
            },
            id="bounds do not stop the rules from being checked",
        ),
        pytest.param(
            {"subject": "x" * 501},
            {
                ("spec.subject", "FieldValueTooLong", "Too long: may not be more than 500 bytes"),
                ("<nil>", "FieldValueInvalid", SKIPPED),
            },
            id="a text that is too long does",
        ),
        pytest.param(
            {"type": "x", "priority": ""},
            {
                (
                    "spec.type",
                    "FieldValueNotSupported",
                    (
                        'Unsupported value: "x": supported values: "Escalation", "Simple", '
                        '"StatusUpdate", "Approval", "ManualReview", "Completion"'
                    ),
                ),
                (
                    "spec.priority",
                    "FieldValueNotSupported",
                    'Unsupported value: "": supported values: "Critical", "High", "Medium", "Low"',
                ),
                ("<nil>", "FieldValueInvalid", SKIPPED),
            },
            id="an unknown word does",
        ),
        pytest.param(
            {"actionLinks": [{"url": "u"}]},
            {
                ("spec.actionLinks[0].label", "FieldValueRequired", "Required value"),
                ("spec.actionLinks[0].service", "FieldValueRequired", "Required value"),
                ("<nil>", "FieldValueInvalid", SKIPPED),
            },
            id="an absent member does",
        ),
    ],
)
async def test_causes(api: Api, spec: Json, expected: set[tuple[str, str, str]]) -> None:
    """A refused spec is explained cause by cause."""
    answer = await api.ask("POST", api.requests, notification("b", **spec))
    assert causes(answer) == expected


async def test_creation_fills_in(api: Api) -> None:
    """
    A creation sets uid, generation and defaults, and drops a status and unknown members.

    The defaults of the retry policy are filled in only where there is one.
    """
    assert "retryPolicy" not in (await api.create())["spec"]
    policy = {"maxAttempts": 3}
    sent = {**notification("b", foo=1, retryPolicy=policy), "status": {"phase": "Sent"}}
    answer = await api.ask("POST", api.requests, sent)
    assert answer.code == 201
    meta = answer.body["metadata"]
    assert meta["generation"] == 1
    assert meta["namespace"] == api.namespace
    assert meta["creationTimestamp"].endswith("Z")
    assert len(meta["uid"]) == 36
    assert answer.body["status"] == UNSEEN
    assert answer.body["spec"] == {
        "type": "Simple",
        "subject": "s",
        "body": "b",
        "priority": "Medium",
        "retentionDays": 7,
        "retryPolicy": {
            "maxAttempts": 3,
            "initialBackoffSeconds": 30,
            "backoffMultiplier": 2,
            "maxBackoffSeconds": 480,
        },
    }


async def test_status_patch_touches_only_the_status(api: Api) -> None:
    """Labels, finalizers and spec in a status patch are dropped without a word, and a uid too."""
    stored = await api.create()
    patch = {
        "metadata": {
            "labels": {"x": "y"},
            "finalizers": ["a.b/c"],
            "uid": "somebody-else",
            "resourceVersion": stored["metadata"]["resourceVersion"],
        },
        "spec": {"subject": "z"},
        "status": {"phase": "Sending"},
    }
    answer = await api.ask("PATCH", f"{api.requests}/a/status", patch)
    assert answer.code == 200
    assert answer.body["status"] == UNSEEN | {"phase": "Sending"}
    assert answer.body["spec"] == stored["spec"]
    assert answer.body["metadata"]["uid"] == stored["metadata"]["uid"]
    assert answer.body["metadata"]["generation"] == 1
    assert {"labels", "finalizers"}.isdisjoint(answer.body["metadata"])


async def test_main_patch_leaves_the_status(api: Api) -> None:
    """A status in a patch of the main resource is dropped; alone it writes nothing."""
    stored = await api.create()
    labelled = await api.ask("PATCH", f"{api.requests}/a", {"metadata": {"labels": {"x": "y"}}})
    assert labelled.revision != stored["metadata"]["resourceVersion"]
    assert labelled.body["metadata"]["generation"] == 1
    # Not before: a real server's first write stores the default of the status, whatever it changes.
    answer = await api.ask("PATCH", f"{api.requests}/a", {"status": {"phase": "Sent"}})
    assert answer.code == 200
    assert answer.body["status"] == UNSEEN
    assert answer.revision == labelled.revision


async def test_merge_patch_of_a_status(api: Api) -> None:
    """A null deletes a member, a list replaces a list, what is not named stays; unknown members go."""
    await api.create()
    path = f"{api.requests}/a/status"
    before = {"phase": "Sending", "reason": "x", "conditions": [], "log": {"epoch": "0.1"}}
    await api.ask("PATCH", path, {"status": before})
    log = {"store": "s", "shard": 3}
    patch = {"bogus": 1, "reason": None, "log": log, "deliveryAttempts": [attempt("failed")]}
    answer = await api.ask("PATCH", path, {"status": patch})
    assert answer.body["status"] == UNSEEN | {
        "phase": "Sending",
        "conditions": [],
        "log": {"epoch": "0.1", "store": "s"},
        "deliveryAttempts": [attempt("failed")],
    }


async def test_parallel_patches_without_revision(api: Api) -> None:
    """Patches that name no resourceVersion never conflict with each other."""
    await api.create()
    path = f"{api.requests}/a/status"
    answers = await asyncio.gather(
        *(api.ask("PATCH", path, {"status": {"totalAttempts": n}}) for n in [7] * 20)
    )
    assert {a.code for a in answers} == {200}


async def test_delete_and_create_again(api: Api) -> None:
    """A new object under an old name has a new uid; only a resourceVersion tells a patch so."""
    old = await api.create()
    gone = await api.ask("DELETE", f"{api.requests}/a")
    assert gone.code == 200
    assert gone.body["status"] == "Success"
    assert gone.body["details"] == {
        "name": "a",
        "group": "kubernaut.ai",
        "kind": "notificationrequests",
        "uid": old["metadata"]["uid"],
    }
    assert (await api.ask("DELETE", f"{api.requests}/a")).code == 404
    new = await api.create()
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    path = f"{api.requests}/a/status"
    meta = {"resourceVersion": old["metadata"]["resourceVersion"]}
    stale = await api.ask("PATCH", path, {"metadata": meta, "status": {"phase": "Sent"}})
    assert stale.code == 409
    meta = {"uid": old["metadata"]["uid"]}
    blind = await api.ask("PATCH", path, {"metadata": meta, "status": {"phase": "Pending"}})
    assert blind.code == 200
    assert blind.body["metadata"]["uid"] == new["metadata"]["uid"]


async def test_finalizer(api: Api) -> None:
    """A finalizer holds an object that is being deleted; its status can still be written."""
    await api.create()
    path = f"{api.requests}/a"
    await api.ask("PATCH", path, {"metadata": {"finalizers": ["a.b/c"]}})
    marked = await api.ask("DELETE", path)
    assert marked.code == 200
    assert marked.body["metadata"]["generation"] == 2
    assert marked.body["metadata"]["deletionTimestamp"]
    again = await api.ask("DELETE", path)
    assert again.revision == marked.revision
    second = await api.ask("POST", api.requests, notification())
    assert second.message == f'object is being deleted: {NR} "a" already exists'
    status = await api.ask("PATCH", f"{path}/status", {"status": {"phase": "Sent"}})
    assert status.code == 200
    freed = await api.ask("PATCH", path, {"metadata": {"finalizers": None}})
    assert freed.code == 200
    assert freed.revision == status.revision
    assert (await api.ask("GET", path)).code == 404


async def test_pages(api: Api) -> None:
    """A list in pages shows the state at its first page, whatever is written meanwhile."""
    for name in ("a", "b", "c"):
        await api.create(name)
    first = (await api.ask("GET", f"{api.requests}?limit=2")).body
    assert [o["metadata"]["name"] for o in first["items"]] == ["a", "b"]
    assert first["kind"] == "NotificationRequestList"
    assert first["items"][0]["kind"] == "NotificationRequest"
    assert first["metadata"]["remainingItemCount"] == 1
    await api.create("d")
    await api.ask("DELETE", f"{api.requests}/c")
    token = first["metadata"]["continue"]
    second = (await api.ask("GET", f"{api.requests}?limit=2&continue={token}")).body
    assert [o["metadata"]["name"] for o in second["items"]] == ["c"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert not second["metadata"].get("continue")


async def test_labels_select(api: Api) -> None:
    """A list may be of those that have a value of a label, or one of some, and another label."""
    for name, labels in (
        ("a", {"k": "1", "o": "x"}),
        ("b", {"k": "2", "o": "x"}),
        ("c", {"k": "3"}),
    ):
        await api.create(name)
        await api.ask("PATCH", f"{api.requests}/{name}", {"metadata": {"labels": labels}})
    for selector, names in (
        ("k=2", "b"), ("k in (1,3)", "ac"), ("k in (1,2,3),o=x", "ab"), ("o in (y)", ""),
    ):  # fmt: skip
        found = (await api.ask("GET", f"{api.requests}?labelSelector={quote(selector)}")).body
        assert [o["metadata"]["name"] for o in found["items"]] == list(names), selector


async def test_metadata(api: Api) -> None:
    """A list may be asked for its metadata alone, page by page."""
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
    made = await api.create("a")
    await api.create("b")
    path, headers = api.requests, {"Accept": accept}
    page = (await api.ask("GET", f"{path}?limit=1", headers=headers)).body
    assert page["kind"] == "PartialObjectMetadataList"
    (shown,) = page["items"]
    assert (shown["kind"], sorted(shown)) == (
        "PartialObjectMetadata",
        ["apiVersion", "kind", "metadata"],
    )
    for member in ("name", "namespace", "uid", "resourceVersion"):
        assert shown["metadata"][member] == made["metadata"][member]
    query = f"limit=1&continue={page['metadata']['continue']}"
    rest = (await api.ask("GET", f"{path}?{query}", headers=headers)).body
    assert [o["metadata"]["name"] for o in rest["items"]] == ["b"]


async def test_a_lease_is_deleted_as_it_was_seen(api: Api) -> None:
    """By uid and resourceVersion: a change in between, or another one of the name, defeats it."""
    made = (await api.ask("POST", api.leases, lease())).body["metadata"]
    path = f"{api.leases}/l"
    await api.ask("PATCH", path, {"spec": {"leaseTransitions": 1}})
    now = (await api.ask("GET", path)).body["metadata"]
    for conditions in (
        {"uid": made["uid"], "resourceVersion": made["resourceVersion"]},
        {"uid": "x", "resourceVersion": now["resourceVersion"]},
        {"uid": "x"},
    ):
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions}
        refused = await api.ask("DELETE", path, options)
        assert (refused.code, refused.reason) == (409, "Conflict")
        assert "in the precondition" in refused.message
    conditions = {"uid": made["uid"], "resourceVersion": now["resourceVersion"]}
    done = await api.ask("DELETE", path, {"preconditions": conditions})
    assert (done.code, done.body["status"]) == (200, "Success")
    again = await api.ask("DELETE", path, {"preconditions": conditions})
    assert (again.code, again.reason) == (404, "NotFound")


# -- watches ---------------------------------------------------------------------------------------


def told(events: list[Event]) -> list[tuple[str, str]]:
    """Return type and name of each event."""
    return [(e.type, e.object["metadata"].get("name", "")) for e in events]


async def test_watch_tells_what_happens(api: Api) -> None:
    """A watch tells each write after its resourceVersion, a deletion with a revision of its own."""
    stored = await api.create()
    await api.ask("PATCH", f"{api.requests}/a/status", {"status": {"phase": "Pending"}})
    start = stored["metadata"]["resourceVersion"]
    async with api.watch(api.requests, resourceVersion=start, timeoutSeconds="2") as events:
        seen = [await anext(events)]
        await api.ask("DELETE", f"{api.requests}/a")
        await api.create("b")
        async with asyncio.timeout(30):
            seen += [e async for e in events]
    assert told(seen) == [("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]
    revisions = [int(e.object["metadata"]["resourceVersion"]) for e in seen]
    assert revisions == sorted(set(revisions))
    assert int(start) < revisions[0]
    assert seen[1].object["status"] == UNSEEN | {"phase": "Pending"}


async def test_watch_from_long_ago_has_expired(api: Api) -> None:
    """A forgotten resourceVersion is an event of type ERROR in an answer 200, then the end."""
    query = {"resourceVersion": "1", "timeoutSeconds": "5"}
    async with asyncio.timeout(20), api.watch(api.requests, **query) as events:
        (seen,) = [e async for e in events]
    assert seen.type == "ERROR"
    assert (seen.object["code"], seen.object["reason"]) == (410, "Expired")
    assert seen.object["message"].startswith("too old resource version: 1 (")
