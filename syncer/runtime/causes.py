"""The cause of a failed connection, from the system or from TLS; libraries wrap it several times."""

from __future__ import annotations

import errno
import socket
import ssl


def bad_pem(authority: str | None, certificate: str | None, key: str | None, secret: str) -> str:
    """
    Return which file cannot be loaded for TLS, `authority` or `certificate`; empty if all can.

    Args:
        authority: File with the peer's certificate authority.
        certificate: File with this process's certificate.
        key: File with the key of that certificate.
        secret: Password of that key, empty for none.
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
    Return the system's name of an error (`ECONNREFUSED`) or the problem of TLS; empty if there is neither.

    Errors of TLS and of name resolution have numbers of their own: read as the system's, 1 would be EPERM.
    """
    found = ""
    for _ in range(5):
        if isinstance(error, ssl.SSLError):
            # aiohttp's own TLS error is an SSLError as well, but has neither attribute.
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
