"""
The words of an API server: resource types, requests, and the answers they may get.

The texts are those of kube-apiserver 1.37 as they were seen, because clients are tempted to read
them. Everything is a pure function of its arguments.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from syncer.model.resource import Json
from tests.fakes.apischema import FieldError

#: A term of a field selector, of those that are supported.
_FIELD: Final = re.compile(r"(metadata|status)\.(name|phase)(!?)=(.*)")
#: A term of a label selector: a key that has one value, or one of several.
_EQUALS: Final = re.compile(r"([A-Za-z0-9./_-]+)==?([A-Za-z0-9._-]*)")
_ONE_OF: Final = re.compile(r"([A-Za-z0-9./_-]+) in \(([A-Za-z0-9._,-]*)\)")
_MICRO_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource type: where it is served, and what makes it special."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    schema: Json | None = None
    #: Name, type and path of each printed column.
    columns: tuple[tuple[str, str, str], ...] = ()

    @property
    def custom(self) -> bool:
        """Whether a definition made it; these have a status subresource and a generation."""
        return self.schema is not None

    @property
    def resource(self) -> str:
        """The type as messages about objects name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified(self) -> str:
        """The type as messages about validity name it."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


NAMESPACES: Final = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
EVENTS: Final = Kind("", "v1", "events", "Event")
LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
DEFINITIONS: Final = Kind(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `query` holds the last value of each parameter."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = "application/json"
    accept: str = ""


#: One term of a selector: whether an object fits.
Term = Callable[[Json], bool]


@dataclass(frozen=True, slots=True)
class Response:
    """One answer: JSON if the body is a dictionary, else plain text."""

    code: int
    body: Json | str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names: a collection if `name` is empty."""

    kind: Kind
    namespace: str
    name: str
    subresource: str


class Refusal(Exception):  # an answer, not a defect
    """Carries an answer out of the depth."""

    def __init__(self, response: Response) -> None:
        """Keep the answer."""
        super().__init__(response.code)
        self.response = response


BUILT_IN: Final = (NAMESPACES, EVENTS, LEASES, DEFINITIONS)


def merge(value: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396) and return the result; nothing is changed in place."""
    if not isinstance(patch, dict):
        return patch
    out = dict(value) if isinstance(value, dict) else {}
    for key, wanted in patch.items():
        if wanted is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), wanted)
    return out


def failure(code: int, reason: str, message: str, details: Json | None = None) -> Response:
    """Build an answer that carries a Status object."""
    body: Json = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
    }
    if reason:
        body["reason"] = reason
    if details:
        body["details"] = details
    body["code"] = code
    return Response(code, body)


def expired(revision: int, oldest: int) -> Json:
    """Build the event that ends a watch which asks for forgotten history."""
    text = f"too old resource version: {revision} ({oldest})"
    return {"type": "ERROR", "object": failure(410, "Expired", text).body}


def not_served() -> Response:
    """Build the answer for a path that nobody serves: plain text, no Status."""
    return Response(404, "404 page not found\n")


def unsupported(what: str) -> Response:
    """Build the answer for what only a real server can do."""
    return failure(501, "NotImplemented", f"the stand-in does not support {what}")


def about(kind: Kind, name: str) -> Json:
    """Build the details of a Status about one object."""
    group = {"group": kind.group} if kind.group else {}
    return {"name": name, **group, "kind": kind.plural}


def not_found(kind: Kind, name: str) -> Response:
    """Build the answer for an absent object of a type that is served."""
    return failure(404, "NotFound", f'{kind.resource} "{name}" not found', about(kind, name))


def conflict(resource: str, word: str, group: str, name: str, text: str) -> Response:
    """Build the answer for a write that was based on another state."""
    message = f'Operation cannot be fulfilled on {resource} "{name}": {text}'
    return failure(409, "Conflict", message, {"name": name, "group": group, "kind": word})


def stale_delete(kind: Kind, name: str, *, what: str, given: str, actual: str) -> Response:
    """Build the answer for a deletion whose precondition does not hold."""
    how = "deleted and then recreated" if what == "UID" else "modified"
    text = (
        f"the {what} in the precondition ({given}) does not match the {what} in record "
        f"({actual}). The object might have been {how}"
    )
    return conflict(kind.qualified, kind.kind, kind.group, name, text)


def invalid(kind: Kind, name: str, errors: Sequence[FieldError]) -> Response:
    """Build the answer for an object that is refused."""
    listed = [f"{e.field}: {e.message}" for e in errors]
    text = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
    details: Json = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    details["kind"] = kind.kind
    details["causes"] = [
        {"reason": e.reason, "message": e.message, "field": e.field} for e in errors
    ]
    return failure(422, "Invalid", f'{kind.qualified} "{name}" is invalid: {text}', details)


def place_of(stored: Json) -> tuple[str, str]:
    """Return what identifies an object within its type: namespace and name."""
    meta = stored["metadata"]
    return meta.get("namespace", ""), meta["name"]


def content_of(stored: Json) -> Json:
    """Return what a generation counts: everything but metadata and status."""
    return {k: v for k, v in stored.items() if k not in {"metadata", "status"}}


def read_object(target: Target, body: bytes) -> Json:
    """Parse the object in a body; only one that belongs where it is sent is supported."""
    try:
        wanted: Json = json.loads(body)
        meta = wanted.get("metadata") or {}
        fits = (
            wanted.get("apiVersion") in {None, target.kind.api_version}
            and wanted.get("kind") in {None, target.kind.kind}
            and meta.get("namespace") in {None, "", target.namespace}
            and not meta.get("resourceVersion")
        )
    except (ValueError, AttributeError):
        raise Refusal(unsupported("such a body")) from None
    if not fits:
        raise Refusal(unsupported("such an object"))
    return wanted


def check_lease(made: Json, *, patched: bool) -> None:
    """Refuse a Lease as a real server does: times need exactly six decimals."""
    spec = made.get("spec") or {}
    for member in ("acquireTime", "renewTime"):
        when = spec.get(member)
        if when is not None and not _MICRO_TIME.fullmatch(str(when)):
            text = f'parsing time "{when}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse'
            if patched:
                # A real server puts the whole object into this message.
                raise Refusal(failure(422, "Invalid", f' "" is invalid: patch: {text}'))
            whole = f'Lease in version "v1" cannot be handled as a Lease: {text}'
            raise Refusal(failure(400, "BadRequest", whole))
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        text = f"Invalid value: {duration}: must be greater than 0"
        cause = FieldError("spec.leaseDurationSeconds", "FieldValueInvalid", text)
        raise Refusal(invalid(LEASES, made["metadata"]["name"], [cause]))


def check_event(made: Json) -> None:
    """Refuse an Event about an object of another namespace."""
    about = (made.get("involvedObject") or {}).get("namespace") or ""
    if about != made["metadata"]["namespace"]:
        text = f'Invalid value: "{about}": does not match event.namespace'
        cause = FieldError("involvedObject.namespace", "FieldValueInvalid", text)
        raise Refusal(invalid(EVENTS, made["metadata"]["name"], [cause]))


def read_selector(query: Mapping[str, str]) -> list[Term]:
    """Read the selectors: fields and labels, each a list of terms joined by commas."""
    selector: list[Term] = []
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        if not (found := _FIELD.fullmatch(term)):
            raise Refusal(unsupported("this field selector"))
        selector.append(_field(found[1], found[2], found[4], unlike=bool(found[3])))
    for term in filter(None, re.split(r",(?![^(]*\))", query.get("labelSelector", ""))):
        found = _EQUALS.fullmatch(term) or _ONE_OF.fullmatch(term)
        if not found:
            raise Refusal(unsupported("this label selector"))
        selector.append(_label(found[1], found[2].split(",")))
    return selector


def _field(part: str, name: str, value: str, *, unlike: bool) -> Term:
    return lambda stored: ((stored.get(part) or {}).get(name, "") == value) != unlike


def _label(key: str, values: Sequence[str]) -> Term:
    return lambda stored: (stored["metadata"].get("labels") or {}).get(key) in values


def matches(stored: Json, target: Target, selector: Sequence[Term]) -> bool:
    """Tell whether an object belongs to a collection and fits a selector."""
    if target.namespace and stored["metadata"].get("namespace") != target.namespace:
        return False
    return all(term(stored) for term in selector)


def _at(stored: Json, path: str, absent: Any) -> Any:
    found: Any = stored
    for step in path.split("."):
        found = found.get(step, absent) if isinstance(found, dict) else absent
    return found


def select(
    objects: Mapping[tuple[str, str], Json], target: Target, selector: Sequence[Term]
) -> Iterator[Json]:
    """Yield the objects of a collection that fit a selector, by namespace and name."""
    for place in sorted(objects):
        if matches(objects[place], target, selector):
            yield objects[place]


def listing(kind: Kind, rows: Sequence[Json], meta: Json, revision: int) -> Json:
    """Build a list."""
    # Objects of custom types keep their type in a list; those of built-in types do not.
    typed = ("apiVersion", "kind")
    items = rows if kind.custom else [{k: o[k] for k in o if k not in typed} for o in rows]
    return {
        "kind": f"{kind.kind}List",
        "apiVersion": kind.api_version,
        "metadata": {**meta, "resourceVersion": str(revision)},
        "items": list(items),
    }


#: What is shown of an object where its metadata is asked for alone.
_PARTIAL: Final = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}


def metadata(kind: Kind, rows: Sequence[Json], meta: Json, revision: int) -> Json:
    """Build a list of metadata alone."""
    shown = [{**_PARTIAL, "metadata": o["metadata"]} for o in rows]
    found = listing(kind, shown, meta, revision)
    return {**found, "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}


def table(kind: Kind, rows: Sequence[Json], meta: Json, revision: int) -> Json:
    """
    Build a list as it is printed: cells, and of each object only the metadata.

    Columns whose path is more than names joined by dots stay empty.
    """
    names = [("Name", "string", "metadata.name"), *kind.columns]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {**meta, "resourceVersion": str(revision)},
        "columnDefinitions": [{"name": name, "type": form} for name, form, _ in names],
        "rows": [
            {
                "cells": [_at(o, path, None) for _, _, path in names],
                "object": {**_PARTIAL, "metadata": o["metadata"]},
            }
            for o in rows
        ],
    }


def write_token(revision: int, place: tuple[str, str]) -> str:
    """Make a token that says where a list is to be continued."""
    text = json.dumps({"rv": revision, "start": place})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_token(token: str) -> tuple[int, tuple[str, str]]:
    """Read such a token; another would be a defect of the client."""
    raw = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    namespace, name = raw["start"]
    return int(raw["rv"]), (namespace, name)
