"""
Shared parts of the channels: rendering, credentials, classes of HTTP answers, headers, cutting to size.

A channel never raises for anything that the receiver or the message did (`notifier.contract`). So a message
that cannot be rendered is a permanent failure, logged once with its key and the exception class, never with
its content; a credential that cannot be read makes the attempt *not sent*.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import re
import socket
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import orjson

from notifier.channels.dialling import NoThread
from notifier.content.trim import TRUNCATED
from notifier.contract import Message, Outcome
from notifier.templates.text import json_bytes
from syncer.model.resource import Json
from syncer.runtime.offload import offload

_log = logging.getLogger("ledger.delivery")
T = TypeVar("T")

#: Reads a credential at the moment of use, so that the next call uses a rotated one.
Provider = Callable[[], str]
#: Revises an outcome that follows from the status code alone, given the text of the answer.
Judge = Callable[[Outcome, str], Outcome]
#: Errors that mean that this process or its machine has run out of file descriptors or memory.
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
#: Codes of a vendor's answer to an unknown secret URL: the URL that the operator configured is wrong.
_UNKNOWN_URL: Final = {"slack": {403, 404, 410}, "teams": {403, 404, 410}}
#: Occurs in PagerDuty's 400 answer to an unknown integration key.
_ROUTING_KEY: Final = re.compile(r"routing[ _]?key", re.IGNORECASE)
#: The process was suspended until its Lease no longer covered the send; another process may be sending.
WITHHELD: Final = Outcome.not_sent("the lease ended before the message left")


class Withheld(Exception):
    """Raised to end an exchange before its first byte; the outcome is `WITHHELD`."""


def drop(transport: asyncio.Transport) -> None:
    """
    Reset a connection, so that no more data is delivered.

    After an ordinary close the kernel still delivers buffered data: an abandoned attempt would arrive after
    the next one.
    """
    sock = transport.get_extra_info("socket")
    # None if the peer has already closed the connection.
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def rendered(kind: str, build: Callable[[Message], T], message: Message) -> T | Outcome:
    """Return the payload built from a message, or a permanent failure if the builder raises."""
    try:
        return build(message)
    except Exception as exc:  # noqa: BLE001 - a poison message must not reach the worker
        _log.error("%s cannot render notification %s: %s", kind, message.key, type(exc).__name__)
        return Outcome.permanent(f"failed to render {kind} payload: {type(exc).__name__}")


async def rendered_beside(
    kind: str, build: Callable[[Message], T], message: Message, *, seconds: float
) -> T | Outcome:
    """Like `rendered`, but in a thread if the message is large; *not sent* after `seconds`."""
    try:
        return await offload(
            lambda: rendered(kind, build, message),
            size=message.size,
            seconds=seconds,
            author=message.namespace,
        )
    except TimeoutError:
        return Outcome.not_sent(f"the {kind} payload was not made in time")


def credential(kind: str, provider: Provider, name: str, message: Message) -> str | Outcome:
    """
    Return a provider's credential, or the outcome of the attempt if there is none.

    `name` is its name in the error for an empty credential (`slack webhook URL`).
    """
    try:
        value = provider()
    except Exception as exc:  # noqa: BLE001 - a missing credential is no fault of the message
        _log.warning("%s credential is not available: %s", kind, type(exc).__name__)
        return Outcome.not_sent(f"{kind} credential is not available")
    return value or Outcome.mistaken(f"{name} is empty for notification {message.key}")


def http_headers(message: Message) -> dict[str, str]:
    """
    Headers of every JSON request.

    `Idempotency-Key` is a quoted string, as its draft standard says; it is equal for all attempts.
    `X-Notification-Attempt` is different for each.
    """
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": f'"{message.idempotency_key}"',
        "X-Notification-Attempt": message.attempt_id,
    }


def classify_http(kind: str, code: int, body: str, *, retry_after: float | None = None) -> Outcome:
    """
    Classify an HTTP answer; the error texts are upstream's.

    Args:
        kind: Channel type as the text names it: `slack`, `pagerduty`, `teams`, `webhook`.
        code: Status code of the answer.
        body: Bounded, sanitised excerpt of the answer.
        retry_after: Seconds from the header, or None.

    2xx succeeds whatever the body says; 5xx and 429 are transient; every other code, including a redirect,
    is permanent (redirects are never followed). Of the permanent ones, a 401 is an operator's mistake, and
    so are the answers of Slack, Teams and PagerDuty to an unknown URL or key.
    """
    if 200 <= code <= 299:
        return Outcome.success(code)
    if code == 429 or 500 <= code <= 599:
        return Outcome.transient(
            f"{kind} webhook returned {code} (retryable): {body}",
            code=code,
            retry_after=retry_after,
        )
    mistaken = code == 401 or code in _UNKNOWN_URL.get(kind, ())
    if kind == "pagerduty" and code == 400:
        mistaken = _ROUTING_KEY.search(body) is not None
    build = Outcome.mistaken if mistaken else Outcome.permanent
    return build(f"{kind} webhook returned {code} (permanent failure): {body}", code=code)


def broken_off(text: str, links: Iterable[BaseException], *, written: bool) -> Outcome:
    """
    Outcome of a call that ended without an answer.

    Args:
        text: What happened.
        links: The exception and its causes.
        written: Whether any byte may have been sent.

    If this process lacked a thread, descriptors or memory, the attempt is *not sent*, because the receiver
    did not fail. An unknown host may be an operator's mistake.
    """
    if written:
        return Outcome.unknown(text)
    links = list(links)
    short = any(
        isinstance(link, NoThread) or (isinstance(link, OSError) and link.errno in SHORTAGES)
        for link in links
    )
    if short:
        return Outcome.not_sent(text)
    unknown_host = any(isinstance(link, socket.gaierror) for link in links)
    return replace(Outcome.transient(text), mistake=unknown_host)


def encode(payload: Json) -> bytes:
    """
    Encode a payload as JSON: members in the order given, no whitespace, UTF-8.

    The standard library writes what orjson refuses, mainly lone surrogates. For strings, integers and
    booleans, which is all that payloads hold, both produce the same bytes.
    """
    with contextlib.suppress(TypeError):
        return orjson.dumps(payload)
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def cut_to_size(
    payload: Json,
    limit: int,
    texts: Sequence[tuple[Json, str]],
    *,
    order: Callable[[Json, str], Any],
) -> bytes:
    """
    Encode a payload as JSON of at most `limit` bytes.

    Args:
        payload: The payload; its texts are cut in place.
        limit: Maximum size in bytes.
        texts: The texts that may be cut: objects in the payload, each with the member that holds the text.
        order: Sort key of a text as it currently is; the text with the lowest key is cut first.

    Raises:
        ValueError: the parts that cannot be cut are larger than the limit.
    """
    while (excess := len(body := encode(payload)) - limit) > 0:
        for holder, member in sorted(texts, key=lambda each: order(*each)):
            shorter = cut(holder[member], excess)
            if len(shorter) < len(holder[member]):
                holder[member] = shorter
                break
        else:
            raise ValueError("the payload cannot be cut to size")
    return body


def cut(text: str, excess: int) -> str:
    """
    Shorten a text by at least `excess` bytes of JSON, or down to the mark alone.

    The result is cut at a code point and ends in the mark. A text no longer than the mark stays unchanged.
    """
    if len(text) <= len(TRUNCATED):
        return text
    kept = text.removesuffix(TRUNCATED)
    marked = 0 if kept != text else len(TRUNCATED)
    limit = json_bytes(kept) - excess - marked
    # The size of a prefix only grows with its length, so a binary search finds the longest that fits.
    fits = bisect_right(range(len(kept)), limit, key=lambda n: json_bytes(kept[:n]))
    return kept[: max(0, fits - 1)] + TRUNCATED
