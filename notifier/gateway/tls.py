"""
The gateway's own TLS: its certificate, and the client authorities that each source accepts.

Files are read again every few seconds, by the next connection. Each connection uses the files as last read,
so a renewed certificate, or the removal of an authority, takes effect from then on. A file that cannot be
used is logged and changes nothing; at the start it is an error.

One port serves all sources, so a handshake accepts the authorities of any of them; the request decides
later which of them must vouch for the client (`notifier.gateway.auth.check_certificate`). If a source
requires certificates, TLS 1.3 is the minimum and no session is resumed, because the chain of a resumed
session is unknown.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from notifier.gateway.draft import Certificate
from notifier.gateway.settings import TlsSettings
from syncer.model.errors import ConfigError, reason_of

logger = logging.getLogger("ledger.gateway")

#: Seconds after which files are read again.
_FRESH: Final = 5.0
_LARGEST: Final = 1 << 20
#: Kinds of a certificate's names: in `getpeercert`, and in the gateway's file.
_KINDS: Final = {"DNS": "dns", "URI": "uri", "email": "email", "IP Address": "ip"}


class Tls:
    """The certificate that the gateway presents, and the authorities that sources trust."""

    def __init__(
        self,
        given: TlsSettings,
        authorities: Mapping[str, tuple[tuple[str, ...], str]],
        clock: Callable[[], float],
    ) -> None:
        """
        Read the files; ConfigError if one of them cannot be used.

        `authorities` are, by source, the files of the authorities that it trusts, and their key in the
        settings, for errors. `clock` gives monotonic seconds.
        """
        self._given = given
        self._authorities = authorities
        self._clock = clock
        self._read_at = clock()
        self._contents = self._read()
        self._context, self._anchors = self._made()

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        now = self._clock()
        if now - self._read_at >= _FRESH:
            self._read_at = now
            self._renew()
        return self._context

    def anchors(self, source: str) -> frozenset[bytes]:
        """Return the authorities' certificates, one of which must vouch for a client of a source."""
        self.context()
        return self._anchors[source]

    def _renew(self) -> None:
        try:
            contents = self._read()
            if contents == self._contents:
                return
            self._context, self._anchors = self._made()
        except ConfigError as error:
            logger.warning(
                "new certificates of the gateway cannot be used; the previous ones stay in use",
                extra={"error": str(error)},
            )
            return
        self._contents = contents
        logger.info("the gateway has read its certificates again")

    def _read(self) -> dict[str, bytes]:
        files = {self._given.cert_file: "tls.certFile", self._given.key_file: "tls.keyFile"}
        for names, path in self._authorities.values():
            files |= dict.fromkeys(names, path)
        return {file: _content(file, path) for file, path in files.items()}

    def _made(self) -> tuple[ssl.SSLContext, dict[str, frozenset[bytes]]]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a callback, OpenSSL would ask for a key's password on the terminal.
            context.load_cert_chain(self._given.cert_file, self._given.key_file, lambda: "")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot be used with its key: {reason_of(error)}", path="tls.certFile"
            ) from None
        anchors = {}
        for source, (files, path) in self._authorities.items():
            own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            for number, file in enumerate(files):
                try:
                    own.load_verify_locations(file)
                    context.load_verify_locations(file)
                except (OSError, ValueError) as error:
                    raise ConfigError(
                        f"holds no certificates: {reason_of(error)}", path=f"{path}[{number}]"
                    ) from None
            anchors[source] = frozenset(own.get_ca_certs(binary_form=True))
            if not anchors[source]:
                raise ConfigError("holds no certificate of an authority", path=path)
        if anchors:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
        return context, anchors


def certificate_of(connection: Any) -> Certificate | None:
    """
    Return the verified certificate of a client; None without one.

    `connection` is the `ssl_object` of a transport; None without TLS.
    """
    if connection is None:
        return None
    shown = connection.getpeercert()
    chain = _chain(connection)
    if not shown or not chain:
        return None
    names = [f"cn:{v}" for part in shown.get("subject", ()) for k, v in part if k == "commonName"]
    names += [
        f"{_KINDS[kind]}:{value}"
        for kind, value in shown.get("subjectAltName", ())
        if kind in _KINDS
    ]
    return Certificate(tuple(chain), tuple(names))


def _chain(connection: Any) -> list[bytes]:
    """Return the verified chain, from the client to the authority, each in DER."""
    if (public := getattr(connection, "get_verified_chain", None)) is not None:
        return list(public())
    # Before Python 3.13, only the inner object has the method.
    inner = connection._sslobj.get_verified_chain() or ()  # noqa: SLF001 - public from Python 3.13 on
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in inner]


def _content(file: str, path: str) -> bytes:
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {reason_of(error)}", path=path) from None
    if not content or len(content) > _LARGEST:
        raise ConfigError("names a file that is empty or too large", path=path)
    return content
