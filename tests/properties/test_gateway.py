"""
Laws of the gateway: whatever is sent becomes objects that an API server takes, or a refusal with a path.

Hostile payloads are made of good ones, by putting anything anywhere: so they get past the first checks.
Each kind has some that are always the same, and fresh ones for `FUZZ_SECONDS` of CPU, which
`scripts/test --fuzz` sets; in two halves, so that an odd number of kinds keeps two cores busy to the end.
"""

from __future__ import annotations

import copy
import functools
import itertools
import json
import os
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.gateway.draft import Incoming, Refused
from notifier.gateway.kinds import KINDS
from notifier.gateway.translation import Desired, translate
from syncer.kube.notification_requests import list_path
from syncer.model.resource import Json
from tests.fakes.apianswers import Request
from tests.fakes.apistate import ApiState
from tests.properties.hostile import ANYTHING, GOOD, NOW, SOURCES, hostile

_NAMES: Final = itertools.count()


def check(kind: str, body: bytes, headers: dict[str, str]) -> None:
    """The law, for one request."""
    for source in SOURCES[kind]:
        refusal: Refused | None = None
        made: tuple[Desired, ...] = ()
        try:
            made, _ = translate(source, Incoming(headers, body), NOW)
        except Refused as refused:
            refusal = refused
        if refusal is not None:
            assert 400 <= refusal.status < 500
            assert len(refusal.reason) < 3000
            assert refusal.status != 422 or refusal.path
            # Where there is no member, the body is no object.
            assert refusal.status != 400 or refusal.path or refusal.reason.startswith("the body ")
        assert len(made) <= 101
        for desired in made:
            answer = _create(desired.manifest)
            assert answer[0] == 201, answer


def _create(manifest: Json) -> tuple[int, Any]:
    """Create it on an API server that checks it against the definition."""
    document = copy.deepcopy(manifest)
    document["metadata"]["name"] += f"-{next(_NAMES)}"
    answer = _state().answer(
        Request("POST", list_path("default"), body=json.dumps(document).encode())
    )
    return answer.code, answer.body


@functools.cache
def _state() -> ApiState:
    """The API server, until there is too much in it."""
    return ApiState()


#: Seconds of CPU to look for fresh payloads of a kind, and in how many tests.
FUZZ: Final = float(os.environ.get("FUZZ_SECONDS", "0"))
HALVES: Final = ("first", "second") if FUZZ else ("only",)


def for_a_while(*laws: Callable[[], None]) -> None:
    """Try laws once, and again for as long as one half takes."""
    ends = time.process_time() + FUZZ / len(HALVES)
    while True:
        for law in laws:
            law()
        if time.process_time() >= ends:
            return
        _state.cache_clear()


HEADERS: Final = {
    "x-github-event": "workflow_run", "x-github-delivery": "g", "content-type": "application/json",
}  # fmt: skip


def test_every_kind_is_tried() -> None:
    """One that is added is tried here too; the heartbeat reads nothing of what is sent."""
    assert set(GOOD) == set(KINDS) - {"heartbeat"}


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_the_good_ones_are_taken(kind: str) -> None:
    """What hostile payloads are made of is taken, so that they are more than refused."""
    for source in SOURCES[kind]:
        ((first, *_), _) = translate(
            source, Incoming(HEADERS, json.dumps(GOOD[kind]).encode()), NOW
        )
        assert _create(first.manifest)[0] == 201


@given(
    values=st.lists(st.text(st.characters(max_codepoint=255), max_size=20), min_size=4, max_size=4),
    body=st.binary(max_size=40),
    content=st.sampled_from(["application/json", "text/plain", "", "application/cloudevents+json"]),
)
def test_any_binary_event(values: list[str], body: bytes, content: str) -> None:
    """Headers of a binary event may hold anything."""
    names = ("ce-id", "ce-source", "ce-type", "ce-any")
    headers = {
        "ce-specversion": "1.0",
        "content-type": content,
        **dict(zip(names, values, strict=True)),
    }
    check("cloudevents", body, headers)


@pytest.mark.parametrize("kind", sorted(GOOD))
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.timeout(120 + 20 * FUZZ)  # it may be what has to wait
def test_anything_anywhere(kind: str, half: str) -> None:
    """Anything in any place, or any bytes: translated or refused; what is made is accepted."""

    @given(payload=hostile(kind))
    def anywhere(payload: Json) -> None:
        check(kind, json.dumps(payload).encode(), HEADERS)

    @given(body=st.one_of(st.binary(max_size=64), ANYTHING.map(lambda v: json.dumps(v).encode())))
    def bytes_of_any_kind(body: bytes) -> None:
        check(kind, body, HEADERS)

    headers = (test_any_binary_event,) if kind == "cloudevents" else ()
    for_a_while(anywhere, bytes_of_any_kind, *headers)
