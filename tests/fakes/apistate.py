"""
An API server without a network: state, rules and history; requests in, answers out.

It holds what this project uses (NotificationRequests, Leases, Events, Namespaces, definitions of
custom resources) and answers as kube-apiserver 1.37 was seen to answer, texts included; one test
asks both the same questions. What is not supported is answered 501, so that no test passes by
accident. There is no clock, no randomness and no waiting in it but what is passed in, so the same
class serves over HTTP and inside a simulation.

Objects that were stored never change; a write stores a new one. Callers get the stored ones and
must not change them either.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final

from syncer.model.resource import Json
from tests.fakes.apianswers import (
    BUILT_IN,
    DEFINITIONS,
    EVENTS,
    LEASES,
    NAMESPACES,
    Kind,
    Refusal,
    Request,
    Response,
    Target,
    Term,
    about,
    check_event,
    check_lease,
    conflict,
    content_of,
    expired,
    failure,
    invalid,
    listing,
    matches,
    merge,
    metadata,
    not_found,
    not_served,
    place_of,
    read_object,
    read_selector,
    read_token,
    select,
    stale_delete,
    table,
    unsupported,
    write_token,
)
from tests.fakes.apischema import check_known, conform, violations
from tests.servers.definition import upstream_form

MERGE_PATCH: Final = "application/merge-patch+json"
#: Largest request body, and largest stored object, in bytes.
BODY_LIMIT: Final = 3 * 1024 * 1024
OBJECT_LIMIT: Final = 1536 * 1024
#: Most changes of a type that are remembered.
_HISTORY: Final = 10_000

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


_PLAIN: Final = {
    "/version": Response(200, {"major": "1", "minor": "37", "gitVersion": "v1.37.0-standin"}),
    **{path: Response(200, "ok") for path in ("/readyz", "/livez", "/healthz")},
}
#: Metadata that only the server sets.
_FIXED: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
)


@cache
def _definition() -> Json:
    """Make upstream's form once: most tests make a server of their own."""
    return upstream_form()


def _form_of(kind: Kind, accept: str) -> Callable[[Kind, Sequence[Json], Json, int], Json]:
    forms = {"as=Table": table, "as=PartialObjectMetadataList": metadata}
    asked = [form for text, form in forms.items() if kind.custom and text in accept]
    return asked[0] if asked else listing


@dataclass(frozen=True, slots=True)
class Change:
    """One write: the object after it (for a deletion: its last state), and before it."""

    revision: int
    type: str
    object: Json
    previous: Json | None


class ApiState:
    """
    The whole server but its sockets.

    Attributes:
        revision: The one counter behind every resourceVersion.
        requests: How many requests came to (verb, resource, subresource, code); code 0 for a
            request that got no answer.
        listeners: Called after every write.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        uid: Callable[[], str] = lambda: str(uuid.uuid4()),
        crd: Json | None = None,
        install: bool = True,
        namespaces: Sequence[str] = ("default",),
        first_revision: int = 990,
    ) -> None:
        # The first revision makes resourceVersions grow in length early: a comparison of texts
        # that is wrong must fail in tests.
        self.revision = first_revision
        self.requests: Counter[tuple[str, str, str, int]] = Counter()
        self.listeners: list[Callable[[], None]] = []
        self._now = now
        self._uid = uid
        self._kinds = {(k.group, k.version, k.plural): k for k in BUILT_IN}
        self._objects: dict[str, dict[tuple[str, str], Json]] = defaultdict(dict)
        self._changes: dict[str, list[Change]] = defaultdict(list)
        self._oldest: dict[str, int] = defaultdict(lambda: first_revision)
        for name in namespaces:
            self._create(NAMESPACES, "", {"metadata": {"name": name}})
        if install:
            self._create(DEFINITIONS, "", crd or _definition())

    @property
    def now(self) -> float:
        """Unix seconds by the server's own clock."""
        return self._now()

    def answer(self, request: Request) -> Response:
        """Do what a request asks for. A watch is opened with `watch` instead."""
        target, verb = self.classify(request)
        try:
            response = self._dispatch(request, target)
        except Refusal as refusal:
            response = refusal.response
        self.count(verb, target, response.code)
        return response

    def watch(self, request: Request) -> Watch | Response:
        """Open a watch, or say why not."""
        target, verb = self.classify(request)
        try:
            if target is None:
                return not_served()
            opened: Watch | Response = self._open(target, request.query)
        except Refusal as refusal:
            opened = refusal.response
        self.count(verb, target, opened.code if isinstance(opened, Response) else 200)
        return opened

    def classify(self, request: Request) -> tuple[Target | None, str]:
        """Tell what a request is about, and its verb; None for a path that nobody serves."""
        target = self._target(request.path)
        watching = request.query.get("watch") in {"1", "true"}
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(request.method, "get")
        if verb == "get" and target and not target.name:
            verb = "watch" if watching else "list"
        return target, verb

    def count(self, verb: str, target: Target | None, code: int) -> None:
        """Book a request in `requests`."""
        resource = target.kind.plural if target else ""
        self.requests[verb, resource, target.subresource if target else "", code] += 1

    def get(self, plural: str, namespace: str, name: str) -> Json | None:
        """Look at an object, as a test does; namespace is empty for cluster-wide types."""
        return self._objects[plural].get((namespace, name))

    def objects(self, plural: str, *, revision: int | None = None) -> list[Json]:
        """Look at all objects of a type, now or as they were at an earlier revision."""
        return [self._at(plural, revision)[key] for key in sorted(self._at(plural, revision))]

    def compact(self, revision: int | None = None) -> None:
        """Forget the history up to a revision (now): older watches and lists have expired."""
        limit = self.revision if revision is None else revision
        for kind in self._kinds.values():
            self._oldest[kind.plural] = max(self._oldest[kind.plural], limit)
            kept = [c for c in self._changes[kind.plural] if c.revision > limit]
            self._changes[kind.plural] = kept
        self._notify()

    def read_at(self, request: Request, revision: int) -> Response:
        """Answer a get or list as a server that lags behind would."""
        target, verb = self.classify(request)
        try:
            if target is None:
                return not_served()
            shown = self._at(target.kind.plural, revision)
            if target.name:
                found = shown.get((target.namespace, target.name))
                response = Response(200, found) if found else not_found(target.kind, target.name)
            else:
                rows = list(
                    select(
                        shown,
                        target,
                        read_selector(request.query),
                    )
                )
                form = _form_of(target.kind, request.accept)
                response = Response(200, form(target.kind, rows, {}, revision))
        except Refusal as refusal:
            response = refusal.response
        self.count(verb, target, response.code)
        return response

    # -- paths -----------------------------------------------------------------------------------

    def _target(self, path: str) -> Target | None:
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            group, version, rest = "", parts[1] if len(parts) > 1 else "", parts[2:]
        elif parts[0] == "apis" and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            return None
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        kind = self._kinds.get((group, version, rest[0])) if rest else None
        if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
            return None
        name, subresource = (*rest[1:], "", "")[:2]
        if subresource and not (kind.custom and subresource == "status"):
            return None
        return Target(kind, namespace, name, subresource)

    def _dispatch(self, request: Request, target: Target | None) -> Response:  # noqa: PLR0911 (a table of methods)
        if request.path in _PLAIN:
            return _PLAIN[request.path]
        if target is None:
            return self._discovery(request.path)
        if len(request.body) > BODY_LIMIT:
            text = f"Request entity too large: limit is {BODY_LIMIT}"
            return failure(413, "RequestEntityTooLarge", text)
        if not target.name:
            if request.method == "GET":
                return self._list(target, request.query, request.accept)
            if request.method == "POST":
                return self._post(target, request)
            return failure(400, "BadRequest", "name must be provided")
        if request.method == "GET":
            return Response(200, self._find(target))
        if request.method == "DELETE" and target.subresource:
            return unsupported("deletion of a subresource")
        act = {"PATCH": self._patch, "DELETE": self._delete}.get(request.method)
        return act(target, request) if act else unsupported(request.method)

    def _discovery(self, path: str) -> Response:
        found = [
            {"name": kind.plural, "kind": kind.kind, "namespaced": kind.namespaced}
            for kind in self._kinds.values()
            if path.strip("/") == f"apis/{kind.group}/{kind.version}"
        ]
        return (
            Response(200, {"kind": "APIResourceList", "resources": found})
            if found
            else not_served()
        )

    # -- reading ---------------------------------------------------------------------------------

    def _find(self, target: Target) -> Json:
        found = self.get(target.kind.plural, target.namespace, target.name)
        if found is None:
            raise Refusal(not_found(target.kind, target.name))
        return found

    def _list(self, target: Target, query: Mapping[str, str], accept: str) -> Response:
        kind = target.kind
        selector = read_selector(query)
        limit = int(query.get("limit") or 0)
        revision, start = self._position(kind, query)
        shown = self._at(kind.plural, revision)
        rows = [o for o in select(shown, target, selector) if place_of(o) > start]
        page = rows[:limit] if limit else rows
        meta: Json = {"continue": ""} if kind.custom else {}
        if len(page) < len(rows):
            meta["continue"] = write_token(revision, place_of(page[-1]))
            if not selector:
                meta["remainingItemCount"] = len(rows) - len(page)
        return Response(200, _form_of(kind, accept)(kind, page, meta, revision))

    def _position(self, kind: Kind, query: Mapping[str, str]) -> tuple[int, tuple[str, str]]:
        """Tell which revision a list is to show, and after which object it begins."""
        wanted, token = query.get("resourceVersion", ""), query.get("continue", "")
        if "resourceVersionMatch" in query or (token and wanted):
            raise Refusal(unsupported("this choice of a resourceVersion"))
        if token:
            revision, start = read_token(token)
            if revision < self._oldest[kind.plural]:
                text = "The provided continue parameter is too old"
                raise Refusal(failure(410, "Expired", text))
            return revision, start
        if wanted in {"", "0"}:
            return self.revision, ("", "")
        if int(wanted) > self.revision:
            raise Refusal(unsupported("a list from the future"))
        return self.revision, ("", "")

    def _at(self, plural: str, revision: int | None) -> dict[tuple[str, str], Json]:
        """Return the objects as they were, by taking back what was written since."""
        if revision is None or revision >= self.revision:
            return self._objects[plural]
        shown = dict(self._objects[plural])
        for change in reversed(self._changes[plural]):
            if change.revision <= revision:
                break
            if change.previous is None:
                shown.pop(place_of(change.object), None)
            else:
                shown[place_of(change.object)] = change.previous
        return shown

    def _open(self, target: Target, query: Mapping[str, str]) -> Watch | Response:
        kind, wanted = target.kind, query.get("resourceVersion", "")
        if {"resourceVersionMatch", "sendInitialEvents"} & query.keys():
            return unsupported("a list within a watch")
        selector = read_selector(query)
        bookmarks = query.get("allowWatchBookmarks") in {"1", "true"}
        watch = Watch(self, target, selector, bookmarks=bookmarks)
        if wanted in {"", "0"}:
            watch.revision = self.revision
            for found in select(self._objects[kind.plural], target, selector):
                watch.pending.append({"type": "ADDED", "object": found})
        elif int(wanted) < (oldest := self._oldest[kind.plural]):
            watch.pending.append(expired(int(wanted), oldest))
            watch.closed = True
        else:
            watch.revision = int(wanted)
        return watch

    def changes_since(self, plural: str, revision: int) -> list[Change]:
        """Return the history of a type after a revision."""
        changes = self._changes[plural]
        return changes[bisect_right(changes, revision, key=lambda c: c.revision) :]

    def oldest(self, plural: str) -> int:
        """Return the revision up to which the history of a type is forgotten."""
        return self._oldest[plural]

    # -- writing ---------------------------------------------------------------------------------

    def _post(self, target: Target, request: Request) -> Response:
        wanted = read_object(target, request.body)
        return self._create(target.kind, target.namespace, wanted)

    def _create(self, kind: Kind, namespace: str, wanted: Json) -> Response:
        meta = dict(wanted.get("metadata") or {})
        name = meta.get("name") or ""
        if kind.namespaced and self.get("namespaces", "", namespace) is None:
            return not_found(NAMESPACES, namespace)
        if not _NAME.fullmatch(name):
            return unsupported("such a name")
        existing = self.get(kind.plural, namespace, name)
        if existing is not None:
            deleting = existing["metadata"].get("deletionTimestamp")
            prefix = "object is being deleted: " if deleting else ""
            text = f'{prefix}{kind.resource} "{name}" already exists'
            return failure(409, "AlreadyExists", text, about(kind, name))
        meta |= {"name": name, "uid": self._uid(), "creationTimestamp": self._stamp()}
        for unset in ("deletionTimestamp", "managedFields", "selfLink"):
            meta.pop(unset, None)
        if namespace:
            meta["namespace"] = namespace
        if kind.custom:
            meta["generation"] = 1
        made = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            **{k: v for k, v in wanted.items() if not (kind.custom and k == "status")},
            "metadata": meta,
        }
        if kind is NAMESPACES:
            made |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        made = self._admit(kind, made, None)
        if kind is DEFINITIONS:
            made = self._install(made)
        return Response(201, self._store(kind, "ADDED", made, None))

    def _patch(self, target: Target, request: Request) -> Response:
        kind = target.kind
        if kind is DEFINITIONS or "dryRun" in request.query:
            return unsupported("such a patch")
        if request.content_type.partition(";")[0].strip() != MERGE_PATCH:
            return unsupported("this form of a patch")
        current = self._find(target)
        wanted = merge(current, json.loads(request.body))
        if wanted["metadata"].get("uid") != current["metadata"]["uid"] and not target.subresource:
            return unsupported("a patch of the uid")
        return self._replace(target, current, wanted)

    def _replace(self, target: Target, current: Json, wanted: Json) -> Response:
        """Store the next state of an object, from a patch that was applied."""
        kind, old = target.kind, current["metadata"]
        self._check_revision(target, current, wanted)
        if target.subresource:
            made = {k: v for k, v in current.items() if k != "status"}
            if "status" in wanted:
                made["status"] = wanted["status"]
        else:
            made = self._next_main(kind, current, wanted)
            kept, old_kept = (o["metadata"].get("finalizers") or () for o in (made, current))
            if old.get("deletionTimestamp") and not set(kept) <= set(old_kept):
                return unsupported("a new finalizer of an object that is being deleted")
        made = self._admit(kind, made, current)
        if made == current:
            return Response(200, current)
        if kind.custom and content_of(made) != content_of(current):
            made["metadata"] = {**made["metadata"], "generation": old["generation"] + 1}
        if old.get("deletionTimestamp") and not made["metadata"].get("finalizers"):
            self._store(kind, "DELETED", made, current)
            return Response(200, made)
        return Response(200, self._store(kind, "MODIFIED", made, current))

    def _next_main(self, kind: Kind, current: Json, wanted: Json) -> Json:
        """Combine what a write to the main resource may set with what it may not."""
        old = current["metadata"]
        free = {k: v for k, v in (wanted.get("metadata") or {}).items() if k not in _FIXED}
        if not free.get("finalizers"):
            free.pop("finalizers", None)
        made = {
            **wanted,
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {**free, **{k: old[k] for k in _FIXED if k in old}},
        }
        if kind.custom:
            made.pop("status", None)
            if "status" in current:
                made["status"] = current["status"]
        return made

    def _delete(self, target: Target, request: Request) -> Response:
        kind, current = target.kind, self._find(target)
        meta = current["metadata"]
        options = json.loads(request.body) if request.body else {}
        conditions = options.get("preconditions") or {}
        for what, key in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
            given = conditions.get(key)
            if given and given != meta[key]:
                return stale_delete(kind, target.name, what=what, given=given, actual=meta[key])
        if kind in (NAMESPACES, DEFINITIONS):
            return unsupported("such a deletion")
        if meta.get("finalizers"):
            if meta.get("deletionTimestamp"):
                return Response(200, current)
            marked = {**meta, "deletionTimestamp": self._stamp(), "deletionGracePeriodSeconds": 0}
            if "generation" in meta:
                marked["generation"] = meta["generation"] + 1
            made = {**current, "metadata": marked}
            return Response(200, self._store(kind, "MODIFIED", made, current))
        self._store(kind, "DELETED", current, current)
        details = {**about(kind, target.name), "uid": meta["uid"]}
        return Response(
            200,
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": details,
            },
        )

    # -- checks ----------------------------------------------------------------------------------

    def _check_revision(self, target: Target, current: Json, wanted: Json) -> None:
        kind, given = target.kind, (wanted.get("metadata") or {}).get("resourceVersion")
        if not given or given == "0":
            raise Refusal(unsupported("a patch that takes the resourceVersion away"))
        if given != current["metadata"]["resourceVersion"]:
            text = (
                "the object has been modified; please apply your changes to the latest version "
                "and try again"
            )
            raise Refusal(conflict(kind.resource, kind.plural, kind.group, target.name, text))

    def _admit(self, kind: Kind, made: Json, current: Json | None) -> Json:
        """Default, prune and validate; return what is to be stored."""
        if kind.schema is not None:
            system = {k: made[k] for k in ("apiVersion", "kind", "metadata")}
            made = {**conform(made, kind.schema), **system}
            errors = violations(made, current, kind.schema)
            if errors:
                raise Refusal(invalid(kind, made["metadata"]["name"], errors))
        elif kind is LEASES:
            check_lease(made, patched=current is not None)
        elif kind is EVENTS:
            check_event(made)
        if len(json.dumps(made, ensure_ascii=False).encode()) > OBJECT_LIMIT:
            raise Refusal(failure(500, "", "etcdserver: request is too large"))
        return made

    # -- storing ---------------------------------------------------------------------------------

    def _store(self, kind: Kind, change: str, made: Json, previous: Json | None) -> Json:
        self.revision += 1
        stored = {**made, "metadata": {**made["metadata"], "resourceVersion": str(self.revision)}}
        objects, place = self._objects[kind.plural], place_of(stored)
        if change == "DELETED":
            del objects[place]
        else:
            objects[place] = stored
        changes = self._changes[kind.plural]
        changes.append(Change(self.revision, change, stored, previous))
        if len(changes) > _HISTORY:
            self._oldest[kind.plural] = changes[len(changes) // 2].revision
            del changes[: len(changes) // 2 + 1]
        self._notify()
        return stored

    def _install(self, definition: Json) -> Json:
        """Serve what a definition describes; only one version, which must be stored and served."""
        spec = definition["spec"]
        (version,) = spec["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        check_known(schema)
        kind = Kind(
            spec["group"],
            version["name"],
            spec["names"]["plural"],
            spec["names"]["kind"],
            spec["scope"] == "Namespaced",
            schema,
            tuple(
                (c["name"], c["type"], c["jsonPath"].lstrip("."))
                for c in version.get("additionalPrinterColumns") or []
            ),
        )
        self._kinds[kind.group, kind.version, kind.plural] = kind
        self._oldest[kind.plural] = self.revision
        established = {
            "type": "Established",
            "status": "True",
            "lastTransitionTime": self._stamp(),
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
        }
        status = {"conditions": [established], "storedVersions": [kind.version]}
        return {**definition, "status": status}

    def _notify(self) -> None:
        for listener in list(self.listeners):
            listener()

    def _stamp(self) -> str:
        return datetime.fromtimestamp(int(self._now()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Watch:
    """
    An open watch: what it has still to say, and where it is in the history.

    Attributes:
        revision: Up to where the history was taken.
        pending: Events not yet taken; `take` empties it.
        closed: Nothing will follow what is pending.
        bookmarks: Whether the client asked for them.
    """

    def __init__(
        self,
        state: ApiState,
        target: Target,
        selector: Sequence[Term],
        *,
        bookmarks: bool,
    ) -> None:
        self.revision = 0
        self.pending: list[Json] = []
        self.closed = False
        self.bookmarks = bookmarks
        self._state = state
        self._target = target
        self._selector = selector

    def take(self) -> list[Json]:
        """Return the events since the last call, oldest first."""
        kind = self._target.kind
        if not self.closed:
            if self.revision < self._state.oldest(kind.plural):
                # Too slow: what comes next is forgotten. A real server ends the stream as well.
                self.closed = True
            else:
                for change in self._state.changes_since(kind.plural, self.revision):
                    self.revision = change.revision
                    if event := self._event(change):
                        self.pending.append(event)
        events, self.pending = self.pending, []
        return events

    def _event(self, change: Change) -> Json | None:
        """Tell what a change is to this watch: an object may come into its selection, and leave it."""
        now = matches(change.object, self._target, self._selector)
        before = change.previous and matches(change.previous, self._target, self._selector)
        if change.type != "MODIFIED" or now == bool(before):
            return {"type": change.type, "object": change.object} if now else None
        if now or change.previous is None:
            return {"type": "ADDED", "object": change.object}
        # As it was when it still belonged, at the revision of the change.
        version = {"resourceVersion": str(change.revision)}
        meta = {**change.previous["metadata"], **version}
        return {"type": "DELETED", "object": {**change.previous, "metadata": meta}}

    def bookmark(self) -> Json:
        """Return an event that says how far this watch has come."""
        kind = self._target.kind
        meta: Json = {"resourceVersion": str(max(self.revision, self._state.revision))}
        return {
            "type": "BOOKMARK",
            "object": {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta},
        }
