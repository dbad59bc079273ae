"""What channels have in common: classes of answers with upstream's texts, cuts, rendering."""

from __future__ import annotations

import threading

import pytest

from notifier.channels.base import classify_http, rendered_beside
from notifier.contract import Outcome
from syncer.model.attempt import AttemptState
from tests.channels.messages import message

FAILED, SUCCESS = AttemptState.FAILED, AttemptState.SUCCESS

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


async def test_rendering_that_takes_too_long_is_not_sent() -> None:
    """A large message that is not made in time did not leave."""
    gate = threading.Event()
    large = message(body="x" * 20_000)
    outcome = await rendered_beside("slack", lambda _: gate.wait(20), large, seconds=0.01)
    gate.set()
    assert outcome == Outcome.not_sent("the slack payload was not made in time")
