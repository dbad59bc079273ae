"""What the system, or TLS, says of a connection that could not be made; libraries wrap it several times."""

from __future__ import annotations

import errno
import socket
import ssl


def bad_pem(authority: str | None, certificate: str | None, key: str | None, secret: str) -> str:
    """
    Return which of these files makes no TLS context, `authority` or `certificate`; empty if all do.

    Args:
        authority: Of the peer.
        certificate: Our own.
        key: Of that certificate.
        secret: Of that key, empty for none.
    """
    wrong = "authority"
    try:
        if authority:
            ssl.create_default_context(cafile=authority)
        wrong = "certificate"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_cert_chain(certificate, key or None, secret)
    except OSError:
        return wrong
    return ""


def cause_of(error: BaseException | None) -> str:
    """
    Return the system's name (`ECONNREFUSED`) or what TLS does not accept; empty if there is neither.

    Errors of TLS and of names have numbers of their own, which are none of the system's: 1 would be EPERM.
    """
    found = ""
    for _ in range(5):
        if isinstance(error, ssl.SSLError):
            # aiohttp's own is one as well, and has neither member.
            if message := getattr(error, "verify_message", ""):
                return f"its certificate is not accepted: {message}"
            if reason := getattr(error, "reason", ""):
                return f"TLS: {reason}"
        elif isinstance(error, socket.gaierror):
            return "the name does not resolve"
        elif isinstance(error, OSError) and error.errno is not None and not found:
            found = errno.errorcode.get(error.errno, "")
        error = error and (error.__cause__ or error.__context__)
    return found
