"""Good payloads of each kind of the gateway, hostile ones made of them, and sources that read them."""

from __future__ import annotations

import copy
from typing import Any, Final

from hypothesis import strategies as st

from notifier.gateway.kinds import KINDS
from notifier.gateway.settings import of_document
from notifier.gateway.translation import Source
from syncer.model.resource import Json
from tests.unit.notifier.gateway.payloads import (
    ARGOCD,
    CLOUDEVENT,
    FLUX,
    GITHUB,
    NOTIFICATION,
    alert,
    alertmanager,
    grafana,
)

NOW: Final = 1_795_752_060.0
#: What a payload of each kind is made of.
GOOD: Final[dict[str, Json]] = {
    "alertmanager": alertmanager(alert(), alert("bbbb", "resolved")),
    "grafana": grafana(),
    "flux": FLUX,
    "argocd": ARGOCD,
    "cloudevents": CLOUDEVENT,
    "github": GITHUB,
    "notification": NOTIFICATION,
    "json": {"title": "t", "text": "x", "id": 1, "nested": {"a": [1, {"b": None}]}},
}
#: Every function is used, on members that may hold anything.
MAPPING: Final = {
    "subject": "{{ default(title, 'none') }} {{ upper(status) }} {{ length(alerts || `[]`) }}",
    "body": "{{ text }} {{ join(', ', not_null(alerts[].fingerprint, `[]`)) }} body",
    "id": "{{ id }}",
    "severity": "{{ lower(severity) }}",
    "extensions": {"a": "{{ nested.a[1].b }}", "b": "{{ match(reason, '(a+)+$') }}"},
    "links": [
        {"service": "s", "url": "{{ replace(url, 'http:', 'https:') }}", "label": "{{ type }}"}
    ],
}

_TEXTS: Final = st.one_of(
    st.text(max_size=30),
    st.sampled_from([
        "", " ", "\x00", "\u2028", "firing", "resolved", "2026-11-27T04:00:00Z", "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999+23:59", "{{ x }}", "x" * 70_000, "http://x", "javascript:1",
    ]),
)  # fmt: skip
ANYTHING: Final = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=8,
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    out = [at] if at else []
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        out += _places(inner, (*at, key))
    return out


def _with(payload: Json, place: tuple[Any, ...], value: Any) -> Json:
    out = copy.deepcopy(payload)
    node: Any = out
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return out


@st.composite
def hostile(draw: st.DrawFn, kind: str) -> Json:
    """A good payload in which up to three members hold anything."""
    payload = GOOD[kind]
    for _ in range(draw(st.integers(1, 3))):
        places = _places(payload)
        if places:
            payload = _with(payload, draw(st.sampled_from(places)), draw(ANYTHING))
    if draw(st.booleans()):
        payload = {**payload, draw(st.text(max_size=12)): draw(ANYTHING)}
    return payload


def _sources() -> dict[str, tuple[Source, Source]]:
    """For each kind one source without a mapping, and one with."""

    def one(kind: str, per: str, mapping: Json) -> Source:
        entry = {
            "name": "s", "kind": kind, "namespace": "default", "auth": {"insecure": True},
            "expectEvery": "1h",
            "per": per, "mapping": mapping,
        }  # fmt: skip
        return of_document({"sources": [entry]}).sources["s"][0]

    plain = {"subject": "{{ title }}", "body": "{{ text }}"}
    return {
        kind: (
            one(kind, "group", plain if kind == "json" else {}),
            one(kind, "alert", MAPPING),
        )
        for kind in KINDS
    }


SOURCES: Final = _sources()
