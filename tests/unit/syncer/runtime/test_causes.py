"""What is said of a connection that could not be made, however a library wraps the cause."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final, cast

import aiohttp
import pytest
from redis.asyncio.connection import SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from notifier.content.sanitise import sanitise
from syncer.ledger.connection import lost_connection
from syncer.runtime.causes import cause_of
from syncer.runtime.places import spare


def expired() -> OSError:
    """The certificate is out of date, or the clock of this machine is."""
    error = ssl.SSLCertVerificationError(
        1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"
    )
    error.verify_message = "certificate has expired"
    return error


def no_tls() -> OSError:
    """The other side speaks something else."""
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


KEY: Final = cast("Any", None)
SAID: Final = {
    "a certificate": (expired(), "its certificate is not accepted: certificate has expired"),
    "no TLS": (no_tls(), "TLS: WRONG_VERSION_NUMBER"),
    "the system": (ConnectionRefusedError(111, "Connect call failed"), "ECONNREFUSED"),
    "a name": (socket.gaierror(-2, "Name or service not known"), "the name does not resolve"),
    "something else": (ValueError("no"), ""),
}  # fmt: skip


@pytest.mark.parametrize("what", SAID)
def test_a_cause_is_named(what: str) -> None:
    """By itself, and within an error of the client of Redis."""
    error, said = SAID[what]
    assert cause_of(error) == said
    wrapped = RedisConnectionError("cannot connect")
    wrapped.__cause__ = error
    assert cause_of(wrapped) == said


@pytest.mark.parametrize("what", ["a certificate", "no TLS", "the system"])
def test_a_number_of_tls_is_none_of_the_system(what: str) -> None:
    """The client of the API server gives its own error the number of what it wraps: 1 is no EPERM."""
    error, said = cast("tuple[OSError, str]", SAID[what])
    kind = {
        "a certificate": aiohttp.ClientConnectorCertificateError,
        "no TLS": aiohttp.ClientConnectorSSLError,
    }.get(what, aiohttp.ClientConnectorError)
    wrapped = kind(KEY, cast("Any", error))
    wrapped.__cause__ = error
    assert cause_of(wrapped) == said


def test_a_certificate_of_redis_is_named_with_its_place() -> None:
    """As readiness and log show it."""
    wrapped = RedisConnectionError("cannot connect")
    wrapped.__cause__ = expired()
    text = str(lost_connection(wrapped, "10.9.0.7:6379", SSLConnection))
    assert text == (
        "Redis cannot be reached at 10.9.0.7:6379"
        " (its certificate is not accepted: certificate has expired)"
    )
    assert spare(text, sanitise) == text
