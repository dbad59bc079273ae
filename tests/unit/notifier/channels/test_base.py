"""What channels have in common: classes of answers with upstream's texts, cuts, rendering."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from notifier.channels import base
from notifier.channels.base import classify_http, cut, encode, rendered_beside
from notifier.content.trim import TRUNCATED
from notifier.contract import Outcome
from syncer.model.attempt import AttemptState, FailureClass
from tests.channels.messages import message

FAILED, SUCCESS = AttemptState.FAILED, AttemptState.SUCCESS

CODES = {
    **dict.fromkeys((200, 202, 204, 299), (SUCCESS, None)),
    **dict.fromkeys((429, 500, 502, 503, 504, 599), (FAILED, FailureClass.TRANSIENT)),
    **dict.fromkeys(
        (100, 199, 300, 301, 302, 307, 308, 400, 401, 403, 404, 408, 410, 422, 428, 430, 499, 600),
        (FAILED, FailureClass.PERMANENT),
    ),
}


@pytest.mark.parametrize("code", CODES)
def test_classes_of_answers(code: int) -> None:
    """2xx is delivered, 429 and 5xx may be tried again, everything else never."""
    found = classify_http("slack", code, "body", retry_after=3.0)
    assert (found.state, found.failure) == CODES[code]
    assert found.code == code
    assert found.retry_after == (3.0 if found.failure is FailureClass.TRANSIENT else None)


#: Channel, code and answer: what only an operator can mend, and its like that may be the message's.
MISTAKES: dict[tuple[str, int, str], bool] = {
    ("webhook", 401, ""): True,
    ("slack", 401, ""): True,
    ("slack", 403, "invalid_token"): True,
    ("slack", 404, "no_service"): True,
    ("teams", 410, ""): True,
    ("slack", 400, "invalid_blocks"): False,
    ("webhook", 403, ""): False,
    ("webhook", 404, ""): False,
    ("pagerduty", 400, '{"errors":["\'routing_key\' is missing or blank"]}'): True,
    ("pagerduty", 400, '{"errors":["\'summary\' is missing or blank"]}'): False,
    ("pagerduty", 404, "routing_key"): False,
    ("slack", 503, "routing key"): False,
    ("slack", 200, "routing key"): False,
}


@pytest.mark.parametrize(("kind", "code", "body"), MISTAKES)
def test_whose_mistake_an_answer_is(kind: str, code: int, body: str) -> None:
    """An operator's is told from the message's by what only his files decide."""
    assert classify_http(kind, code, body).mistake is MISTAKES[kind, code, body]


def test_texts() -> None:
    """The texts are upstream's; dashboards match on them."""
    assert classify_http("slack", 503, "busy").error == (
        "slack webhook returned 503 (retryable): busy"
    )
    assert classify_http("teams", 404, "gone").error == (
        "permanent failure: teams webhook returned 404 (permanent failure): gone"
    )
    assert classify_http("slack", 200, "error: whatever").error == ""


MARK = len(TRUNCATED.encode())

#: The text, by how many bytes it is too long, and what is left of it.
CUTS = {
    "the mark needs its place": ("x" * 100, 10, "x" * (90 - MARK) + TRUNCATED),
    "a mark that is there already needs none": ("x" * 50 + TRUNCATED, 10, "x" * 40 + TRUNCATED),
    "letters of two bytes": ("é" * 100, 10, "é" * ((190 - MARK) // 2) + TRUNCATED),
    "what JSON escapes": ('"' * 100, 10, '"' * ((190 - MARK) // 2) + TRUNCATED),
    "the bare mark is the least": ("x" * 100, 1_000, TRUNCATED),
    "one character is left": ("x" * 100, 99 - MARK, "x" + TRUNCATED),
    "no character is left": ("x" * 100, 100 - MARK, TRUNCATED),
    "as short as the mark": ("x" * len(TRUNCATED), 10, "x" * len(TRUNCATED)),
    "one longer than the mark": ("x" * (len(TRUNCATED) + 1), 10, TRUNCATED),
}


@pytest.mark.parametrize("case", CUTS)
def test_cut(case: str) -> None:
    """Of a text as much is left as fits, with the mark."""
    text, excess, wanted = CUTS[case]
    assert cut(text, excess) == wanted


def test_json_of_a_payload() -> None:
    """Members keep their order, nothing is padded, letters are UTF-8, and half a pair harms nothing."""
    assert encode({"b": "é", "a": [1, "\ud800"]}) == '{"b":"é","a":[1,"?"]}'.encode()


async def test_rendering_that_takes_too_long_is_not_sent() -> None:
    """A large message that is not made in time did not leave."""
    gate = threading.Event()
    large = message(body="x" * 20_000)
    outcome = await rendered_beside("slack", lambda _: gate.wait(20), large, seconds=0.01)
    gate.set()
    assert outcome == Outcome.not_sent("the slack payload was not made in time")


async def test_rendering_takes_the_turn_of_its_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of large messages of one author holds up another's by one of them."""
    authors: list[str] = []

    async def asked(work: Callable[[], str], *, author: str, **_: object) -> str:
        authors.append(author)
        return work()

    monkeypatch.setattr(base, "offload", asked)
    assert await rendered_beside("slack", lambda m: m.name, message(), seconds=5) == message().name
    assert authors == [message().namespace]


async def test_rendering_passes_its_result_on() -> None:
    """What a builder makes comes back, whether it is made on the loop or beside it."""
    for body in ("x", "x" * 20_000):
        made = await rendered_beside("slack", lambda m: m.spec.body, message(body=body), seconds=5)
        assert made == body
