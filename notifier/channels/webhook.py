"""
The webhook channel: the project's own JSON to any HTTP receiver, by the Standard Webhooks rules.

Body, in this order, without empty members::

    {"version": 1, "id": key, "uid", "namespace", "name", "type", "priority", "subject", "body",
     "severity", "phase", "reviewSource", "clusterID", "remediationRequest",
     "metadata": {flat key: text}, "actionLinks": [{"service", "url", "label"}]}

The body contains no time, no attempt number and no part of the object that may change, so every attempt
sends the same bytes under the same key, `webhook-id`. With a secret configured, `webhook-timestamp` and
`webhook-signature` are added; during a rotation the provider returns the old and the new secret, and the
message is signed with both. A bearer token, or a user and password, go into the `Authorization` header;
they are read at each send as well.

An entry of the routing file may define other requests, and how their answers are read.

Unlike in other channels, 409 to this JSON is *unknown*: by the idempotency rules it means that an earlier
request with the same key is still being processed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson

from notifier.channels.base import Provider, credential, encode, http_headers, rendered
from notifier.channels.http import HttpClient
from notifier.channels.targets import Target, secrets_of
from notifier.contract import GONE, Channel, Message, Outcome, may_be_gone
from notifier.templates.expressions import is_true
from notifier.templates.request import ANSWER, Made, Requests, seconds_of, succeeded
from syncer.model.attempt import AttemptState, FailureClass

KIND: Final = "webhook"
#: Lengths in bytes that a signing secret may have.
SECRET_BYTES: Final = range(24, 65)
_IN_PROGRESS: Final = 409
#: Length in characters from which a header's value is treated as a secret.
_SECRET_CHARS: Final = 8
#: Maximum size of a body in bytes.
_BODY_BYTES: Final = 1 << 20
#: Returns the value of a header, and the texts in it that are secret.
Authentication = Callable[[], tuple[str, tuple[str, ...]]]
#: Printable ASCII without blanks.
_TOKEN: Final = re.compile(r"[!-~]+")


def bearer_token(token: Provider, scheme: str = "Bearer") -> tuple[str, tuple[str, ...]]:
    """
    Value of `Authorization` with a token, and the texts in it that are secret.

    Raises:
        ValueError: the token cannot be part of a header; the text does not show it.
    """
    secret = token()
    if not _TOKEN.fullmatch(secret):
        raise ValueError("the token is empty or holds what no header may")
    return f"{scheme} {secret}", (secret,)


def basic_auth(username: str, password: Provider) -> tuple[str, tuple[str, ...]]:
    """
    Value of `Authorization` with user and password, in UTF-8, and the texts in it that are secret.

    Raises:
        ValueError: there is no password.
    """
    secret = password()
    if not secret:
        raise ValueError("the password is empty")
    pair = base64.b64encode(f"{username}:{secret}".encode()).decode()
    return f"Basic {pair}", (pair, secret)


class WebhookChannel(Channel):
    """
    Sends to one receiver.

    Args:
        http_client: Sends the requests.
        url: Provider of the URL.
        secrets: Provider of the signing secrets, newest first; none means unsigned.
        authentication: Returns the value of `Authorization` and its secret parts; None for no header.
        in_clear: Send credentials over http:// as well.
        requests: The operator's own requests, None for the standard one.
        origin: Distinguishes the receiver from earlier and later ones of the same name.
        headers: Additional headers.
        timeout_s: Deadline of one request in seconds.
        clock: Unix milliseconds, for the signature.
    """

    def __init__(  # noqa: PLR0913 (wiring: each is a part or a number of its own)
        self,
        http_client: HttpClient,
        url: Provider,
        *,
        secrets: Callable[[], Sequence[str]] = tuple,
        authentication: Authentication | None = None,
        in_clear: bool = False,
        requests: Requests | None = None,
        origin: str = "",
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._http_client = http_client
        self._url = url
        self._secrets = secrets
        self._authentication = authentication
        self._in_clear = in_clear
        self._requests = requests
        self._headers = dict(headers or {})
        self._shown_in_headers = [v for v in self._headers.values() if len(v) >= _SECRET_CHARS]
        self._clock = clock
        self.timeout_s = timeout_s
        self.keeps_state = origin if requests is not None and requests.keeps_state else ""

    async def send(self, message: Message) -> Outcome:
        """Post the body, signed if there is a secret."""
        url = credential(KIND, self._url, "webhook URL", message)
        if isinstance(url, Outcome):
            return url
        made = message.words.payload if message.words else None
        made = made if isinstance(made, Made) else Made("POST", "", "", None, "application/json")
        body = rendered(KIND, lambda m: body_of(made, m), message)
        if isinstance(body, Outcome):
            return body
        headers = {
            **http_headers(message),
            "Content-Type": made.content_type,
            "webhook-id": message.idempotency_key,
            **({"traceparent": message.trace} if message.trace else {}),
            **self._headers,
        }
        try:
            secrets = tuple(self._secrets())
        except Exception:  # noqa: BLE001 - as for the URL
            return Outcome.not_sent("webhook signing secret is not available")
        if secrets:
            seconds = self._clock() // 1000
            try:
                keys = [parse_secret(secret) for secret in secrets]
            except ValueError as exc:
                return Outcome.mistaken(f"webhook signing secret is not usable: {exc}")
            headers["webhook-timestamp"] = str(seconds)
            headers["webhook-signature"] = sign(keys, message.idempotency_key, seconds, body)
        shown_to_it: tuple[str, ...] = ()
        if self._authentication is not None:
            try:
                headers["Authorization"], shown_to_it = self._authentication()
            except ValueError as exc:
                return Outcome.mistaken(f"webhook authentication is not usable: {exc}")
            except Exception:  # noqa: BLE001 - as for the URL
                return Outcome.not_sent("webhook authentication is not available")
        target = Target(
            _address(url, made),
            (url, *secrets, *shown_to_it, *self._shown_in_headers),
            self._in_clear,
            own=_address(url, replace(made, path="", query=made.fixed)),
        )
        outcome = await self._http_client.post(
            target,
            body,
            headers,
            timeout_s=self.timeout_s,
            kind=KIND,
            may_leave=message.may_leave,
            method=made.method,
            judge=partial(_judged, self._requests, target, made) if self._requests else None,
        )
        if outcome.code == _IN_PROGRESS and self._requests is None:
            return Outcome.unknown(
                "webhook answered 409: an earlier request is in progress", code=_IN_PROGRESS
            )
        return outcome


def _judged(requests: Requests, target: Target, made: Made, outcome: Outcome, text: str) -> Outcome:
    """
    Return the outcome of an answer, by the rules of the routing entry for its answers.

    An id that contains a secret of the request is ignored, because ids are recorded.
    """
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError:
        answer = None
    code = outcome.code
    if succeeded(requests, code, answer):
        found = requests.answer(answer)
        wanted = isinstance(found, (str, int)) and not isinstance(found, bool)
        named = str(found) if wanted else ""
        usable = ANSWER.fullmatch(named) and not any(s in named for s in secrets_of(target))
        return replace(Outcome.success(code), answer=named if usable else "")
    gone = code in GONE or (may_be_gone(code) and is_true(requests.gone(answer)))
    if made.about and gone:
        return Outcome.transient(
            f"webhook answered {code}: what it had made of the incident is gone, so it is told anew",
            code=code,
        )
    if outcome.state is AttemptState.SUCCESS:
        outcome = Outcome.transient(
            f"webhook answered {code}, which is no success by its entry", code=code
        )
    wait = seconds_of(requests.retry_after(answer))
    if outcome.failure is FailureClass.TRANSIENT and wait is not None:
        return replace(outcome, retry_after=wait)
    return outcome


def body_of(made: Made, message: Message) -> bytes:
    """Return the body of a request; ValueError if it is larger than `_BODY_BYTES`."""
    given = webhook_payload(message) if made.body is None else made.body
    body = given.encode("utf-8", "replace") if isinstance(given, str) else encode(given)
    if len(body) > _BODY_BYTES:
        raise ValueError("the body is too large")
    return body


def _address(url: str, made: Made) -> str:
    """The receiver's address with the path and the query of a request."""
    if not (made.path or made.query):
        return url
    base, _, own = url.partition("?")
    query = "&".join(part for part in (own, made.query) if part)
    return (
        base.rstrip("/") + made.path + (f"?{query}" if query else "")
        if made.path
        else f"{base}?{query}"
    )


def webhook_payload(message: Message) -> dict[str, Any]:
    """The body; see the module's docstring."""
    spec = message.spec
    payload = {
        "version": 1,
        "id": message.idempotency_key,
        "uid": message.uid,
        "namespace": message.namespace,
        "name": message.name,
        "type": spec.type,
        "priority": spec.priority,
        "subject": spec.subject,
        "body": spec.body,
        "severity": spec.severity,
        "phase": spec.phase,
        "reviewSource": spec.review_source,
        "clusterID": spec.cluster_id,
        "remediationRequest": spec.remediation_request,
        "metadata": dict(sorted(message.metadata.items())),
        "actionLinks": [
            {"service": service, "url": url, "label": label}
            for service, url, label in spec.action_links
        ],
    }
    return {k: v for k, v in payload.items() if v}


def parse_secret(text: str) -> bytes:
    """
    The key inside a secret: base64, with or without `whsec_` in front.

    Raises:
        ValueError: not base64, or not 24 to 64 bytes; the text does not show the secret.
    """
    try:
        key = base64.b64decode(text.strip().removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ValueError("not base64") from None
    if len(key) not in SECRET_BYTES:
        raise ValueError("not 24 to 64 bytes long")
    return key


def sign(keys: Sequence[bytes], identity: str, seconds: int, body: bytes) -> str:
    """Value of `webhook-signature`: one `v1,<base64 of the HMAC-SHA256>` per key."""
    signed = f"{identity}.{seconds}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys
    )
