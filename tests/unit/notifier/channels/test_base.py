"""What HTTP channels have in common: classes of answers, with upstream's texts."""

from __future__ import annotations

import pytest

from notifier.channels.base import classify_http
from syncer.model.attempt import AttemptState, FailureClass

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


def test_texts() -> None:
    """The texts are upstream's; dashboards match on them."""
    assert classify_http("slack", 503, "busy").error == (
        "slack webhook returned 503 (retryable): busy"
    )
    assert classify_http("teams", 404, "gone").error == (
        "permanent failure: teams webhook returned 404 (permanent failure): gone"
    )
    assert classify_http("slack", 200, "error: whatever").error == ""
