"""What each answer of an API server means, as an error that says whether the call was executed."""

from __future__ import annotations

import json

import pytest

from syncer.kube.errors import error_of, no_answer
from syncer.model.errors import (
    DENIED,
    NOT_CORRECTED,
    Ambiguous,
    Conflict,
    Expired,
    Gone,
    KindMissing,
    PortError,
    Rejected,
    Unauthorised,
    Unavailable,
)

CANARY = "canary-0d1f-secret"


def said(code: int, reason: str = "", message: str = "", **details: object) -> bytes:
    """Return the bytes of a Status object."""
    return json.dumps(
        {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    ).encode()


INITIALIZING = "storage is (re)initializing"
TOO_LONG = "etcdserver: request is too large"
GRPC = "rpc error: code = ResourceExhausted desc = trying to send message larger than max (3 vs. 2)"
NO_RIGHT = 'a "b" is forbidden: User "c" cannot patch resource "d/status" in API group "e"'
ADMISSION = (
    "a \"b\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'q' denied request: no"
)
OWN = f'{ADMISSION.removesuffix("no")}User "c" cannot'
STATUS = 'resource "notificationrequests/status" in API group "kubernaut.ai"'
WEBHOOK = 'admission webhook "w.example.com" denied the request: no'
TERMINATING = [{"reason": "NamespaceTerminating"}]

#: sentence: (status, body, Retry-After, is it a write) -> (error, reason or wait)
ANSWERS: dict[str, tuple[tuple[int, bytes, str | None, bool], type[PortError], object]] = {
    "401 asks for other credentials": ((401, b"", None, False), Unauthorised, "Unauthorised"),
    "403 refuses the call": ((403, said(403, "Forbidden"), None, True), Unauthorised, "Forbidden"),
    "403 about the user is a missing right": (
        (403, said(403, "Forbidden", NO_RIGHT), None, True),
        Unauthorised,
        "Forbidden",
    ),
    "403 of admission is about the object": (
        (403, said(403, "Forbidden", ADMISSION), None, True),
        Unauthorised,
        DENIED,
    ),
    "403 of a webhook that speaks of the user is about the object": (
        (403, said(403, "Forbidden", f'{WEBHOOK}: User "c" cannot patch it'), None, True),
        Unauthorised,
        DENIED,
    ),
    "403 of a policy that speaks of the user is about the object": (
        (403, said(403, "Forbidden", f'{ADMISSION}: User "c" cannot patch it'), None, True),
        Unauthorised,
        DENIED,
    ),
    "403 of the chart's own policy is a missing right": (
        (403, said(403, "Forbidden", f"{OWN} record {STATUS}"), None, True),
        Unauthorised,
        "Forbidden",
    ),
    "403 of its rules is one that few writes need": (
        (403, said(403, "Forbidden", f"{OWN} correct {STATUS}"), None, True),
        Unauthorised,
        NOT_CORRECTED,
    ),
    "403 of a webhook that words it alike is about the object": (
        (403, said(403, "Forbidden", f'{WEBHOOK}: User "c" cannot record {STATUS}'), None, True),
        Unauthorised,
        DENIED,
    ),
    "401 of a policy asks for no other credentials": (
        (401, said(401, "Unauthorized", ADMISSION), None, True),
        Unauthorised,
        DENIED,
    ),
    "404 of a webhook: the object is there": (
        (404, said(404, "NotFound", WEBHOOK, name="a"), None, True),
        Unauthorised,
        DENIED,
    ),
    "409 of a webhook is no conflict": (
        (409, said(409, "Conflict", WEBHOOK), None, True),
        Unauthorised,
        DENIED,
    ),
    "429 of a webhook has nobody else wait": (
        (429, said(429, "TooManyRequests", WEBHOOK, retryAfterSeconds=30), "30", True),
        Unavailable,
        None,
    ),
    "500 of a webhook was not executed": (
        (500, said(500, "InternalError", WEBHOOK), None, True),
        Unavailable,
        None,
    ),
    "400 of a webhook keeps its reason": (
        (400, said(400, "BadRequest", WEBHOOK), None, True),
        Rejected,
        "BadRequest",
    ),
    "413 of a policy asks for less": (
        (413, said(413, "RequestEntityTooLarge", ADMISSION), None, True),
        Rejected,
        "TooLarge",
    ),
    "an object that quotes a webhook is gone": (
        (404, said(404, "NotFound", f'a "{WEBHOOK}" not found', name="a"), None, True),
        Gone,
        None,
    ),
    "403 of a proxy is a missing right": (
        (403, b"<html>User denied", None, True),
        Unauthorised,
        "Forbidden",
    ),
    "403 in an ending namespace is no matter of rights": (
        (403, said(403, "Forbidden", causes=TERMINATING), None, True),
        Rejected,
        "NamespaceTerminating",
    ),
    "404 that names an object: it is gone": (
        (404, said(404, "NotFound", name="a"), None, False),
        Gone,
        None,
    ),
    "404 in plain text: the type is not served": (
        (404, b"404 page not found\n", None, False),
        KindMissing,
        None,
    ),
    "404 that names nothing: the type is not served": (
        (404, said(404, "NotFound"), None, False),
        KindMissing,
        None,
    ),
    "409 is a conflict": ((409, said(409, "Conflict"), None, True), Conflict, None),
    "410 means list again": ((410, said(410, "Expired"), None, False), Expired, None),
    "413 is too large": ((413, b"<html>", None, True), Rejected, "TooLarge"),
    "500 of etcd about the size is too large": (
        (500, said(500, "", TOO_LONG), None, True),
        Rejected,
        "TooLarge",
    ),
    "500 of gRPC about the size is too large": (
        (500, said(500, "", GRPC), None, True),
        Rejected,
        "TooLarge",
    ),
    "422 is invalid": ((422, said(422, "Invalid"), None, True), Rejected, "Invalid"),
    "415 keeps the reason of the server": (
        (415, said(415, "UnsupportedMediaType"), None, True),
        Rejected,
        "UnsupportedMediaType",
    ),
    "418 without a reason gets one": ((418, b"", None, True), Rejected, "HTTP418"),
    "307 is not followed": ((307, b"", None, True), Rejected, "HTTP307"),
    "429 was not executed, and says when": ((429, b"", "7", True), Unavailable, 7.0),
    "429 may say when in the body": (
        (429, said(429, retryAfterSeconds=2), None, True),
        Unavailable,
        2.0,
    ),
    "429 of a type that is being made ready": (
        (429, said(429, "TooManyRequests", INITIALIZING, retryAfterSeconds=1), None, False),
        KindMissing,
        1.0,
    ),
    "503 with a time was not executed": ((503, b"", "1", True), Unavailable, 1.0),
    "503 without a time may have been executed": ((503, b"", None, True), Ambiguous, None),
    "503 for a read is unavailable": ((503, b"", None, False), Unavailable, None),
    "504 for a write may have been executed": (
        (504, said(504, "Timeout"), None, True),
        Ambiguous,
        None,
    ),
    "504 for a read is unavailable": ((504, said(504, "Timeout"), None, False), Unavailable, None),
    "500 of a stuck etcd may have been executed": (
        (500, said(500, "", "rpc error: code = Unavailable"), None, True),
        Ambiguous,
        None,
    ),
    "502 of a proxy for a read is unavailable": ((502, b"<html>", None, False), Unavailable, None),
    "503 with a wait of nothing was not executed": ((503, b"", "0", True), Unavailable, 0.0),
    "a wait below nothing is none": ((429, b"", "-1", True), Unavailable, None),
    "the header's wait comes before the body's": (
        (429, said(429, retryAfterSeconds=2), "7", True),
        Unavailable,
        7.0,
    ),
    "408 for a write may have been executed": ((408, b"", None, True), Ambiguous, None),
    "408 for a read is unavailable": ((408, b"", None, False), Unavailable, None),
    "422 is refused as invalid": ((422, said(422), None, True), Rejected, "Invalid"),
    "499 is refused": ((499, b"", None, False), Rejected, "HTTP499"),
    "causes of an unknown form are none": (
        (403, said(403, "Forbidden", causes=["NamespaceTerminating"]), None, True),
        Unauthorised,
        "Forbidden",
    ),
    "another object than a Status is not read": (
        (404, b'{"kind": "Pod", "details": {"name": "a"}}', None, False),
        KindMissing,
        None,
    ),
    "a wait is bounded": ((429, b"", "86400", False), Unavailable, 300.0),
    "a wait that is a date is no wait": (
        (429, b"", "Wed, 21 Oct 2026 07:28:00 GMT", False),
        Unavailable,
        None,
    ),
    "a wait that is no number is no wait": ((429, b"", "nan", False), Unavailable, None),
}


@pytest.mark.parametrize("sentence", ANSWERS)
def test_answer_becomes_an_error(sentence: str) -> None:
    """Each answer other than 2xx becomes the error that says whether it was executed."""
    (code, body, header, write), kind, detail = ANSWERS[sentence]
    error = error_of(code, body, header, write=write)
    assert type(error) is kind
    if isinstance(error, Rejected):
        assert error.reason == detail
    if isinstance(error, Unavailable):
        assert error.retry_after == detail


def test_error_text_is_bounded_and_only_from_a_status() -> None:
    """The text of an error is cut to 256 bytes, and a page that is no Status is not quoted."""
    long = str(error_of(422, said(422, "Invalid", "ü" * 5000), None, write=True))
    assert long.startswith("422 Invalid: ü")
    assert len(long.encode()) <= 256
    assert str(error_of(502, f"<html>{CANARY}</html>".encode(), None, write=False)) == "502"


def test_the_text_of_an_error() -> None:
    """Code, reason and message, as far as the server says them; 256 bytes of it at most."""
    for body, says in (
        (said(422, "Invalid", "no"), "422 Invalid: no"), (said(422, "Invalid"), "422 Invalid"),
        (said(422, "", "no"), "422 : no"), (said(422), "422"), (b"[]", "422"), (b"{", "422"),
    ):  # fmt: skip
        assert str(error_of(422, body, None, write=True)) == says
    long = str(error_of(422, said(422, "Invalid", "x" * 5000), None, write=True))
    assert len(long.encode()) == 256


def test_an_answer_that_was_lost() -> None:
    """A write may have been executed, a read is done again."""
    assert type(no_answer("x", write=True)) is Ambiguous
    assert type(no_answer("x", write=False)) is Unavailable
    assert str(no_answer("x", write=False)) == "x"
