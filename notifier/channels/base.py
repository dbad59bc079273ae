"""
What channels have in common: rendering, credentials, classes of HTTP answers, headers, cuts.

A channel never raises for anything that the receiver or the message did (`notifier.contract`). So a message
that cannot be rendered is a permanent failure here, logged once by name and exception class, never by
content; a credential that cannot be read is an attempt that was not sent.
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

#: Reads a credential at the moment of use, so that a rotated one serves the next call.
Provider = Callable[[], str]
#: Makes an outcome of one that goes by an answer's code alone, by the text of the answer.
Judge = Callable[[Outcome, str], Outcome]
#: What this process, or its machine, has run out of: descriptors and memory.
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
#: Answers to a secret URL that the vendor does not know; only the operator's can be wrong.
_UNKNOWN_URL: Final = {"slack": {403, 404, 410}, "teams": {403, 404, 410}}
#: What PagerDuty names in a 400 for an integration key that it does not know.
_ROUTING_KEY: Final = re.compile(r"routing[ _]?key", re.IGNORECASE)
#: The process stood still until its lease no longer covered the send; another one may be sending.
WITHHELD: Final = Outcome.not_sent("the lease ended before the message left")


class Withheld(Exception):
    """Ends an exchange before its first byte, for the outcome `WITHHELD`."""


def drop(transport: asyncio.Transport) -> None:
    """
    End a connection at once, and deliver nothing more of it.

    After an ordinary end the kernel still delivers what the peer has not got yet: an attempt that was given
    up would arrive behind the next one.
    """
    sock = transport.get_extra_info("socket")
    # Gone where the peer has ended the connection before.
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def rendered(kind: str, build: Callable[[Message], T], message: Message) -> T | Outcome:
    """The payload that a builder makes of a message, or the permanent failure that it cannot."""
    try:
        return build(message)
    except Exception as exc:  # noqa: BLE001 - a poison message must not reach the worker
        _log.error("%s cannot render notification %s: %s", kind, message.key, type(exc).__name__)
        return Outcome.permanent(f"failed to render {kind} payload: {type(exc).__name__}")


async def rendered_beside(
    kind: str, build: Callable[[Message], T], message: Message, *, seconds: float
) -> T | Outcome:
    """The same in a thread if the message is large; not sent if that takes too long."""
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
    The credential of a provider, or the outcome of an attempt that is not sent without it.

    `name` is what the text of an empty one calls it (`slack webhook URL`).
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
    Class of an HTTP answer, with upstream's text.

    Args:
        kind: Channel type as the text names it: `slack`, `pagerduty`, `teams`, `webhook`.
        code: Status code of the answer.
        body: Bounded, sanitised excerpt of the answer.
        retry_after: Seconds from the header, or None.

    2xx succeeds whatever the body; 5xx and 429 may be tried again; every other code, a redirect
    included, is permanent (redirects are never followed). Of those, a 401 is an operator's mistake, and
    so is what Slack, Teams and PagerDuty answer to a URL or key that they do not know.
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
        links: The exception and what caused it.
        written: Whether a byte may have left.

    An attempt that this process could not make, for lack of its own, is no failure of the receiver. A host
    that is not known may be an operator's mistake.
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
    JSON of a payload: members in the order given, no blanks, UTF-8.

    The library writes what orjson does not, lone surrogates above all. Of texts, whole numbers and truth
    values, which is what payloads hold, both make the same bytes.
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
    JSON of a payload, at most so many bytes.

    Args:
        payload: Its texts are cut in place.
        limit: Bytes.
        texts: What may be cut: objects in the payload, and the member of each that holds the text.
        order: Puts those first that are cut before others, as they are by then.

    Raises:
        ValueError: what cannot be cut is larger than that.
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
    A text made shorter by at least so many bytes of JSON, or down to the bare mark.

    It ends in the mark, is cut at a code point, and comes back as it is if the mark is no shorter.
    """
    if len(text) <= len(TRUNCATED):
        return text
    kept = text.removesuffix(TRUNCATED)
    marked = 0 if kept != text else len(TRUNCATED)
    limit = json_bytes(kept) - excess - marked
    # The size of a prefix only grows with its length, so the longest that fits can be searched for.
    fits = bisect_right(range(len(kept)), limit, key=lambda n: json_bytes(kept[:n]))
    return kept[: max(0, fits - 1)] + TRUNCATED
